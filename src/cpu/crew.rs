//! Who does the parts of a step: the thread that runs the chunk, or all of them.

use std::sync::{Mutex, PoisonError};

/// What a step writes, or a part of it.
pub(super) struct Written<'a> {
    pub(super) target: &'a mut [f32],
    /// As long each: the step's other targets.
    pub(super) also: Vec<&'a mut [f32]>,
}

impl<'a> Written<'a> {
    /// Parts of `length` elements, the last one shorter.
    pub(super) fn parts(self, length: usize) -> impl Iterator<Item = Written<'a>> {
        let mut also: Vec<_> = self.also.into_iter().map(|also| also.chunks_mut(length)).collect();
        self.target
            .chunks_mut(length)
            .map(move |target| Written { target, also: also.iter_mut().filter_map(Iterator::next).collect() })
    }

    /// Parts of these lengths, one after another.
    pub(super) fn cut(self, lengths: impl IntoIterator<Item = usize>) -> impl Iterator<Item = Written<'a>> {
        let Written { mut target, mut also } = self;
        lengths.into_iter().map(move |length| Written {
            target: target.split_off_mut(..length).expect("parts lie within"),
            also: also.iter_mut().map(|also| also.split_off_mut(..length).expect("parts lie within")).collect(),
        })
    }
}

/// Memory that parts of steps work in, one after another; each leaves it in any state.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// What a product reads, as it reads it.
    pub(super) rows: Vec<f32>,
    /// What a part makes, if that does not come to be in the target itself.
    pub(super) made: Vec<f32>,
}

/// Memory of threads that rest, for the next part.
pub(super) type Shelf = Mutex<Vec<Room>>;

/// Who does the parts of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crew<'a> {
    /// How many threads share a step; 1 where each has chunks of its own.
    pub(super) threads: usize,
    pub(super) shelf: &'a Shelf,
}

impl Crew<'_> {
    /// Does every part of a step, each in the memory of parts before it.
    pub(super) fn each<T: Send>(&self, parts: impl IntoIterator<Item = T>, work: impl Fn(T, &mut Room) + Sync) {
        let work = |part: T| {
            let shelf = || self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
            let mut room = shelf().pop().unwrap_or_default();
            work(part, &mut room);
            shelf().push(room);
        };
        #[cfg(feature = "threads")]
        if self.threads > 1 {
            use rayon::prelude::*;
            let parts: Vec<T> = parts.into_iter().collect();
            return parts.into_par_iter().with_max_len(1).for_each(work);
        }
        parts.into_iter().for_each(work);
    }

    /// Cuts `written` into pieces of whole units, at most `most` each, and does each; `work` also gets the position of the
    /// piece's first unit.
    pub(super) fn pieces(
        &self,
        written: Written<'_>,
        unit: usize,
        most: usize,
        work: impl Fn(usize, Written<'_>, &mut Room) + Sync,
    ) {
        if written.target.is_empty() {
            return;
        }
        let count = written.target.len() / unit;
        let pieces = count.div_ceil(most.max(1));
        // Few pieces are cut evenly, so that no thread waits for another's longer one.
        let pieces = if pieces < 4 * self.threads { pieces.next_multiple_of(self.threads) } else { pieces };
        let units = count.div_ceil(pieces);
        let pieces = written.parts(units * unit).enumerate();
        self.each(pieces, |(position, piece), room| work(position * units, piece, room));
    }
}
