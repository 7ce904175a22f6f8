//! How the targets of a window reach their sources, as kernels are told it.

use crate::layers::Reach;

/// Axes that kernels count: fewer spatial ones are filled up in front.
const AXES: usize = 3;

/// The one position of an axis that is not there.
const SINGLE: Reach =
    Reach { count: 1, first: 0, step: 1, stride: 1, start: 0, spread: 1, taps: 1, tap: 0, tap_step: 1 };

/// Targets in phases, whose targets share their taps, and where each tap finds its source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lattice {
    phases: Vec<[Reach; AXES]>,
    source: [usize; AXES],
    target: [usize; AXES],
    kernel: [usize; AXES],
}

impl Lattice {
    /// A lattice from the reaches of each phase, an axis each, and the extents of source, target and window.
    pub(crate) fn new(phases: &[Vec<Reach>], source: &[usize], target: &[usize], kernel: &[usize]) -> Self {
        let extents = |extents: &[usize]| std::array::from_fn(|axis| in_front(extents, 1)(axis));
        let phase = |phase: &Vec<Reach>| std::array::from_fn(|axis| in_front(phase, SINGLE)(axis));
        Lattice {
            phases: phases.iter().map(phase).collect(),
            source: extents(source),
            target: extents(target),
            kernel: extents(kernel),
        }
    }

    /// How many phases there are.
    pub(crate) fn phases(&self) -> usize {
        self.phases.len()
    }

    /// Positions of the window.
    pub(crate) fn positions(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Positions of the target.
    pub(crate) fn targets(&self) -> usize {
        self.target.iter().product()
    }

    /// The targets of the largest phase, after which rows are counted.
    pub(super) fn rows(&self) -> usize {
        self.counts().iter().product()
    }

    /// Whether target i is row i: there is one phase, which takes every position in turn.
    pub(super) fn is_whole(&self) -> bool {
        self.phases.len() == 1 && self.counts() == self.target
    }

    /// Whether each target reads the source at its own position and nothing else, as a window of one position does.
    pub(crate) fn is_pointwise(&self) -> bool {
        let is_pointwise =
            |reach: &Reach| (reach.stride, reach.start, reach.taps) == (1, 0, 1) && (reach.first, reach.step) == (0, 1);
        self.source == self.target && self.phases.iter().flatten().all(is_pointwise)
    }

    fn counts(&self) -> [usize; AXES] {
        std::array::from_fn(|axis| self.phases.iter().map(|phase| phase[axis].count).max().unwrap_or(0))
    }

    /// What `shaders/convolve.wgsl` is told: `channels` of a source pixel, `padded` of each tap, the groups, and the
    /// rows of the weight from one window position and from one group to the next.
    pub(super) fn of_convolution(
        &self,
        channels: usize,
        padded: usize,
        groups: usize,
        weight_rows: (usize, usize),
    ) -> [[i32; 4]; 7] {
        let common = self.phases[0];
        let strides = strides(self.target);
        let counts = self.counts();
        [
            vector(self.source, channels),
            vector(common.map(|reach| reach.stride), padded),
            vector(counts, groups),
            vector(std::array::from_fn(|axis| common[axis].step * strides[axis]), self.rows()),
            vector([weight_rows.0, weight_rows.1, 0], 0),
            [0; 4],
            [0; 4],
        ]
    }

    /// The table of `shaders/convolve.wgsl`: three vectors a phase, then the taps of each.
    pub(crate) fn phase_table(&self) -> Vec<[i32; 4]> {
        let strides = strides(self.target);
        let mut heads = Vec::new();
        let mut taps = Vec::new();
        for phase in &self.phases {
            let first_tap = 3 * self.phases.len() + taps.len();
            let before = taps.len();
            taps.extend(self.taps(phase));
            let start = phase.map(|reach| reach.start as i32);
            let first: usize = phase.iter().zip(strides).map(|(reach, stride)| reach.first * stride).sum();
            heads.push([start[0], start[1], start[2], (taps.len() - before) as i32]);
            heads.push(vector(phase.map(|reach| reach.count), first_tap));
            heads.push([first as i32, 0, 0, 0]);
        }
        // Kernels look one tap ahead.
        heads.into_iter().chain(taps).chain([[0; 4]]).collect()
    }

    /// How far each tap of a phase moves the source along the axes, and its position in the window; in the order of k.
    fn taps<'a>(&self, phase: &'a [Reach; AXES]) -> impl Iterator<Item = [i32; 4]> + use<'a> {
        let strides = strides(self.kernel);
        let taps = phase.map(|reach| reach.taps);
        let tap = move |index: usize| {
            let at = [index / (taps[1] * taps[2]), index / taps[2] % taps[1], index % taps[2]];
            let along = |axis: usize| {
                let reach: &Reach = &phase[axis];
                ((reach.spread * at[axis] as isize) as i32, (reach.tap + reach.tap_step * at[axis]) * strides[axis])
            };
            let moved: [(i32, usize); AXES] = std::array::from_fn(along);
            let position: usize = moved.iter().map(|(_, position)| position).sum();
            [moved[0].0, moved[1].0, moved[2].0, position as i32]
        };
        (0..taps.iter().product()).map(tap)
    }

    /// What `shaders/window.wgsl` is told.
    pub(super) fn of_window(&self) -> [[i32; 4]; 7] {
        let common = self.phases[0];
        let strides = strides(self.kernel);
        let steps = common.map(|reach| reach.step);
        let spread = common.map(|reach| reach.spread as i32);
        [
            vector(self.source, 0),
            vector(self.target, 0),
            vector(steps, 0),
            vector(common.map(|reach| reach.stride), 0),
            [spread[0], spread[1], spread[2], 0],
            vector(std::array::from_fn(|axis| common[axis].tap_step * strides[axis]), 0),
            vector([0, steps[0], steps[0] + steps[1]], 0),
        ]
    }

    /// The table of `shaders/window.wgsl`: for each remainder along each axis, start, taps and the first tap's part of
    /// the window's position.
    pub(crate) fn remainder_table(&self) -> Vec<[i32; 4]> {
        let strides = strides(self.kernel);
        let mut table = Vec::new();
        for (axis, stride) in strides.into_iter().enumerate() {
            for remainder in 0..self.phases[0][axis].step {
                // A target smaller than a step lacks the last remainders.
                let known = self.phases.iter().map(|phase| phase[axis]).find(|reach| reach.first == remainder);
                let entry = |reach: Reach| [reach.start as i32, reach.taps as i32, (reach.tap * stride) as i32, 0];
                table.push(known.map_or([0; 4], entry));
            }
        }
        table
    }
}

/// An axis of something that has fewer, with `missing` in front.
fn in_front<T: Copy>(known: &[T], missing: T) -> impl Fn(usize) -> T + '_ {
    move |axis| (axis + known.len()).checked_sub(AXES).map_or(missing, |axis| known[axis])
}

fn strides(extents: [usize; AXES]) -> [usize; AXES] {
    [extents[1] * extents[2], extents[2], 1]
}

fn vector(axes: [usize; AXES], last: usize) -> [i32; 4] {
    [axes[0] as i32, axes[1] as i32, axes[2] as i32, last as i32]
}
