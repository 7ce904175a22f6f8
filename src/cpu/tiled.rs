//! Runs convolutions in [Winograd's](super::winograd) tiles: sources are turned, multiplied at each point, and turned into targets.
//!
//! Where the turned weight stays in cache each thread takes tiles of its own through all three, few at a time, so that what it turns stays
//! near its core. A larger weight is read once for many tiles: all threads turn sources, then share the points, or the panels of a weight
//! that is made meanwhile, and then turn products. What a tile comes to is the same either way.

use std::ops::Range;

use super::ahead::{Coming, Soon};
use super::chain::{self, Chain};
use super::crew::{Crew, Room, Written, cut_all};
use super::functions::{Function, WithFunction};
use super::gemm::{self, LINE, OfPanel, PackedWeight, Slice};
use super::loops;
use super::planes::Planes;
use super::simd::{self, Level, Loop};
use super::turned::Turned;
use super::turns::{Four, Turn, Two};
use super::winograd::{Side, Winograd};
use crate::plan::Operand;

/// Bytes of turned sources and products that a thread works on at a time, about: they stay near a core.
const HELD: usize = 1 << 19;
/// Tiles that such a thread takes at a time at least, so that reading the weight does not count.
const ENOUGH_TILES: usize = 32;
/// Bytes of turned sources and products that all threads work on together, about: each has a strip in any case.
const HELD_TOGETHER: usize = 1 << 23;
/// Tiles that are multiplied while one point's weight is read from memory: their turned sources stay in the second-level cache.
const ROWS: usize = 96;
/// Tiles, about, that a thread turns at a time where all work together.
const TURNED: usize = 16;

/// Makes the targets of steps that run together and applies their chains; of steps whose tiles all threads share, one runs at a time.
pub(super) fn run(chains: &[Chain<'_>], convs: &[&Winograd], mut written: Vec<Written<'_>>, crew: Crew<'_>) {
    let conv = convs[0];
    let [strips_a_row, tiles_a_strip] = conv.tiles();
    let length = written.iter().map(|of| of.target.len()).max().unwrap_or(0);
    let strips = length / (conv.targets[0] * conv.line()) * strips_a_row;
    let all = Strips { chains, convs, conv, strips: 0..strips };
    let bytes_a_tile = conv.bytes_a_tile();
    let bytes_a_strip = tiles_a_strip * bytes_a_tile;
    if conv.is_run_together(crew.threads) {
        // As many strips for every thread.
        let at_once = (HELD_TOGETHER / bytes_a_strip / crew.threads).max(1) * crew.threads;
        let shares = Crew { threads: 1, ..crew }.shares(strips, at_once);
        let pieces = written.remove(0).cut(shares.clone().map(|strips| all.part(strips).length()));
        shares.zip(pieces).for_each(|(strips, piece)| all.part(strips).run_together(piece, crew));
    } else {
        let at_once = (HELD / bytes_a_tile).max(ENOUGH_TILES);
        let shares = crew.shares(strips, (at_once / tiles_a_strip).max(1));
        let written = written.into_iter().map(|written| (written, 1));
        let pieces = cut_all(written, shares.clone().map(|strips| all.part(strips).length()));
        let points = convs.iter().flat_map(|conv| &conv.weights).flat_map(|weight| weight.of_points());
        let sources = chains[0].step.source.filter(|_| conv.sources == conv.targets).map(|source| source.buffer);
        let coming = Coming::new(chains, sources, points.map(PackedWeight::panels_read).sum());
        crew.each(shares.zip(pieces), |(strips, piece), room| {
            all.part(strips).run_alone(at_once, &coming, piece, room);
        });
    }
}

/// Some strips of tiles, those that make the same lines of targets.
#[derive(Clone)]
struct Strips<'a> {
    chains: &'a [Chain<'a>],
    convs: &'a [&'a Winograd],
    /// The first: all have tiles alike.
    conv: &'a Winograd,
    /// Counted over all rows of the chunk.
    strips: Range<usize>,
}

impl<'a> Strips<'a> {
    fn part(&self, strips: Range<usize>) -> Strips<'a> {
        Strips { strips, ..self.clone() }
    }

    fn tiles(&self) -> usize {
        self.strips.len() * self.conv.tiles()[1]
    }

    /// Elements of the targets.
    fn length(&self) -> usize {
        self.strips.clone().map(|strip| self.conv.lines(strip).len()).sum::<usize>() * self.conv.line()
    }

    /// The position of the first target among the step's, counted over rows of `width` elements.
    fn first(&self, width: usize) -> usize {
        let conv = self.conv;
        self.strips.start / conv.tiles()[0] * width + conv.lines(self.strips.start).start * conv.line()
    }

    /// The lines of the targets before a strip.
    fn lines_before(&self, strip: usize) -> usize {
        let lines = |strip: usize| strip / self.conv.tiles()[0] * self.conv.targets[0] + self.conv.lines(strip).start;
        lines(self.strips.start + strip) - lines(self.strips.start)
    }

    /// Makes the targets by `make`, and applies the chains.
    fn make(&self, written: Vec<Written<'_>>, made: &mut Vec<f32>, make: impl FnOnce(&mut [&mut [f32]])) {
        let width = self.conv.targets[0] * self.conv.line();
        chain::make(self.chains, (self.first(width), self.length(), width), written, made, make);
    }

    /// By one thread, `at_once` tiles at a time.
    fn run_alone(&self, at_once: usize, coming: &Coming<'a>, written: Vec<Written<'_>>, room: &mut Room) {
        let Room { rows, made: [made, ..] } = room;
        self.make(written, made, |targets| {
            let tiles = self.tiles();
            let at_once = tiles.div_ceil(tiles.div_ceil(at_once));
            for from in (0..tiles).step_by(at_once) {
                let batch = Batch { of: self, tiles: from..tiles.min(from + at_once) };
                let planes = Planes::of(self.conv, batch.tiles.len(), self.conv.channels.target);
                let (sources, products) = planes.room(rows);
                let mut soon = self.soon(coming, from..batch.tiles.end);
                let mut turned = None;
                for ((chain, conv), targets) in self.chains.iter().zip(self.convs).zip(&mut *targets) {
                    for (position, ((source, _), weights)) in chain.step.products().zip(&conv.weights).enumerate() {
                        if turned.replace(source) != Some(source) {
                            let to = planes.sources.cut(sources, [batch.tiles.len()]).remove(0);
                            batch.turn_sources(source, to, &planes);
                        }
                        for (weight, (a, c)) in weights.of_points().iter().zip(planes.pairs(sources, products)) {
                            multiply(weight, a, c, &planes, position > 0, &mut soon);
                        }
                    }
                    batch.turn_products(products, &planes, targets);
                }
            }
        });
    }

    /// What is read once some tiles' products are made: by the chains of the lines that they make, and by the next tiles.
    fn soon(&self, coming: &Coming<'a>, tiles: Range<usize>) -> Soon<'a> {
        let conv = self.conv;
        let of_strip = conv.tiles()[1];
        let part = self.part(self.strips.start + tiles.start / of_strip..self.strips.start + tiles.end / of_strip);
        let (first, length) = (part.first(conv.targets[0] * conv.line()), part.length());
        // Where sources have the targets' extents, the next tiles' lie where their targets do.
        let at = |target: usize| target / conv.channels.target * conv.channels.source;
        coming.soon(first..first + length, at(first + length)..at(first + 2 * length))
    }

    /// By all threads, one phase after another.
    fn run_together(&self, written: Written<'_>, crew: Crew<'_>) {
        let tiles = self.tiles();
        let weights = &self.conv.weights;
        let is_made = !weights.iter().all(|weight| weight.is_kept());
        let block = if is_made { PackedWeight::width() } else { self.conv.channels.target };
        let planes = Planes::of(self.conv, tiles, block);
        crew.lend(Room::largest, |room| {
            let (sources, products) = planes.room(&mut room.rows);
            for (position, ((source, _), weight)) in self.chains[0].step.products().zip(weights).enumerate() {
                let shares = crew.shares(tiles, TURNED);
                let cut = planes.sources.cut(sources, shares.clone().map(|tiles| tiles.len()));
                crew.each(shares.zip(cut), |(tiles, to), _| {
                    Batch { of: self, tiles }.turn_sources(source, to, &planes)
                });
                let (sources, goes_on) = (&*sources, position > 0);
                if is_made {
                    crew.each(planes.blocks(products).enumerate(), |(panel, products), room| {
                        multiply_made((weight, panel), (sources, products), &planes, goes_on, &mut room.rows);
                    });
                } else {
                    let of_points = weight.of_points().iter().zip(planes.pairs(sources, products));
                    crew.each(of_points, |(weight, (a, c)), _| {
                        multiply(weight, a, c, &planes, goes_on, &mut Soon::default());
                    });
                }
            }
            let tiles_a_strip = self.conv.tiles()[1];
            let shares = crew.shares(self.strips.len(), TURNED.div_ceil(tiles_a_strip));
            let strips =
                shares.map(|strips| self.part(self.strips.start + strips.start..self.strips.start + strips.end));
            let pieces = written.cut(strips.clone().map(|strips| strips.length()));
            let products = &*products;
            crew.each(strips.zip(pieces), |(strips, piece), room| {
                let first = (strips.strips.start - self.strips.start) * tiles_a_strip;
                strips.make(vec![piece], &mut room.made[0], |targets| {
                    let batch = Batch { of: &strips, tiles: 0..strips.tiles() };
                    batch.turn_products(&products[first * planes.products.stride..], &planes, targets[0]);
                });
            });
        });
    }
}

/// C = A B at one point, or where it goes on, C = C + A B.
fn multiply(weight: &PackedWeight, a: &[f32], c: &mut [f32], planes: &Planes, goes_on: bool, soon: &mut Soon<'_>) {
    let stride = planes.sources.stride;
    for (a, starts) in a.chunks(ROWS * stride).zip(planes.starts.chunks(ROWS)) {
        for Range { start: from, end: to } in gemm::slices(weight.depth()) {
            let slice = Slice { a: &a[from..], stride, b: weight, from, to, goes_on: goes_on || from > 0 };
            gemm::multiply_slice(slice, c, starts, soon);
        }
    }
}

/// The same at all points, for a panel of a weight that is made for it in `room`.
fn multiply_made(
    (weight, panel): (&Turned, usize),
    (sources, products): (&[f32], &mut [f32]),
    planes: &Planes,
    goes_on: bool,
    room: &mut Vec<f32>,
) {
    let stride = planes.sources.stride;
    let ranges: Vec<_> = weight.ranges().collect();
    for (position, (range, chain)) in ranges.iter().enumerate() {
        let (from, chain, goes_on) = (range.start, *chain, goes_on || position > 0);
        let made = weight.make(panel, range.clone(), room);
        let (of_next, (next, _)) = ranges.get(position + 1).map_or((panel + 1, &ranges[0]), |next| (panel, next));
        for (point, (of_point, (a, c))) in made.each().zip(planes.pairs(sources, products)).enumerate() {
            let next = weight.ahead(of_next, next.clone(), point);
            let width = PackedWeight::width();
            let of = OfPanel { a: &a[from..], stride, panel: of_point, width, chain, goes_on, next };
            gemm::multiply_panel(of, c, &planes.starts);
        }
    }
}

/// Tiles of some strips that are turned at a time.
struct Batch<'a> {
    of: &'a Strips<'a>,
    /// Counted from the strips' first.
    tiles: Range<usize>,
}

impl Batch<'_> {
    /// Turns the sources of the tiles into their cache lines `to` of every plane.
    fn turn_sources(&self, source: Operand, to: Vec<&mut [[f32; LINE]]>, planes: &Planes) {
        let turn = TurnSources { batch: self, source, of_tile: planes.sources.stride / LINE, to };
        loops::through(source.activation, source.part, turn);
    }

    /// Turns products, which begin with the first tile's, into targets of the strips.
    fn turn_products(&self, products: &[f32], planes: &Planes, targets: &mut [f32]) {
        simd::run(Level::widest(), TurnProducts { batch: self, planes, products, targets });
    }
}

/// Turns the sources of tiles, read through the source's activation, zeros where there are none.
struct TurnSources<'a> {
    batch: &'a Batch<'a>,
    source: Operand,
    /// Cache lines from tile to tile.
    of_tile: usize,
    /// The tiles' cache lines in each plane.
    to: Vec<&'a mut [[f32; LINE]]>,
}

impl WithFunction for TurnSources<'_> {
    fn run(self, f: impl Function) {
        struct Body<'a, F>(TurnSources<'a>, F);
        impl<F: Function> Loop for Body<'_, F> {
            #[inline(always)]
            fn run<const FUSED: bool, const LANES: usize>(self) {
                match self.0.batch.of.conv.side {
                    Side::Two => turn_sources::<F, FUSED, Two, 2, 4>(self.0, self.1),
                    Side::Four => turn_sources::<F, FUSED, Four, 4, 6>(self.0, self.1),
                }
            }
        }
        simd::run(Level::widest(), Body(self, f));
    }
}

#[inline(always)]
fn turn_sources<F: Function, const FUSED: bool, T: Turn<SIDE, SPAN>, const SIDE: usize, const SPAN: usize>(
    of: TurnSources<'_>,
    f: F,
) {
    let TurnSources { batch, source, of_tile, mut to } = of;
    let Strips { chains, conv, ref strips, .. } = *batch.of;
    // All in cache lines from here on.
    let (channels, [lines, columns]) = (conv.channels.source / LINE, conv.sources);
    let columns_of_tiles = conv.tiles()[1] * SIDE;
    let inside = |at: isize, extent: usize| usize::try_from(at).ok().filter(|at| *at < extent);
    // Outside the loops, which overwrite all of it: filled anew for all channels it took a fiftieth of an explanation.
    let mut turned = [[[0.0; LINE]; SPAN]; SPAN];
    let mut read = ReadLines::default();
    for (position, tile) in batch.tiles.clone().enumerate() {
        let strip = strips.start + tile / conv.tiles()[1];
        let first = [conv.lines(strip).start, tile % conv.tiles()[1] * SIDE];
        let row = chains[0].row(source.buffer, strip / conv.tiles()[0]);
        let (elements, skipped, pitch) = if F::IS_INLINE {
            (row, [0, 0], columns)
        } else {
            if read.strip.replace(strip) != Some(strip) {
                // What those of the tiles read that lie in this strip.
                let last = first[1]
                    + (batch.tiles.end - tile).min((columns_of_tiles - first[1]) / SIDE).saturating_sub(1) * SIDE;
                let along = |axis: usize, first: usize, last: usize| {
                    let at =
                        |at: usize| (conv.lowest[axis] + at as isize).clamp(0, conv.sources[axis] as isize) as usize;
                    at(first)..at(last + SPAN)
                };
                read.fill(f, row, [along(0, first[0], first[0]), along(1, first[1], last)], columns, channels * LINE);
            }
            (&read.elements[..], read.first, read.pitch)
        };
        let elements = elements.as_chunks::<LINE>().0;
        let mut places = [[None; SPAN]; SPAN];
        for (line, places) in places.iter_mut().enumerate() {
            let Some(line) = inside(conv.lowest[0] + (first[0] + line) as isize, lines) else { continue };
            for (column, place) in places.iter_mut().enumerate() {
                let column = inside(conv.lowest[1] + (first[1] + column) as isize, columns);
                *place = column.map(|column| ((line - skipped[0]) * pitch + column - skipped[1]) * channels);
            }
        }
        for channel in 0..channels {
            for column in 0..SPAN {
                let mut d = [[0.0; LINE]; SPAN];
                for line in 0..SPAN {
                    let Some(place) = places[line][column] else { continue };
                    if column >= SPAN - SIDE {
                        // What the next tile reads for the first time.
                        simd::prefetch::<_, true>(elements, place + SIDE * channels + channel);
                    }
                    let element = elements[place + channel];
                    d[line] = if F::IS_INLINE { f.of_all(element) } else { element };
                }
                let of_column = T::sources::<FUSED, LINE>(&d);
                for line in 0..SPAN {
                    turned[line][column] = of_column[line];
                }
            }
            for (line, turned) in turned.iter().enumerate() {
                for (column, turned) in T::sources::<FUSED, LINE>(turned).iter().enumerate() {
                    to[line * SPAN + column][position * of_tile + channel] = *turned;
                }
            }
        }
    }
}

/// What tiles of a strip read, through a function that is a call: tiles overlap, and read few elements at a time.
#[derive(Default)]
struct ReadLines {
    strip: Option<usize>,
    elements: Vec<f32>,
    /// The first line and column, and columns of a line.
    first: [usize; 2],
    pitch: usize,
}

impl ReadLines {
    /// Reads lines and columns of a row, which has positions of `channels` in lines of `columns`.
    #[inline(always)]
    fn fill(
        &mut self,
        f: impl Function,
        row: &[f32],
        [lines, of_line]: [Range<usize>; 2],
        columns: usize,
        channels: usize,
    ) {
        (self.first, self.pitch) = ([lines.start, of_line.start], of_line.len());
        self.elements.clear();
        for line in lines {
            let begin = (line * columns + of_line.start) * channels;
            self.elements.extend_from_slice(&row[begin..][..of_line.len() * channels]);
        }
        f.in_place(&mut self.elements);
    }
}

/// Turns products into targets of a part.
struct TurnProducts<'a> {
    batch: &'a Batch<'a>,
    planes: &'a Planes,
    products: &'a [f32],
    targets: &'a mut [f32],
}

impl Loop for TurnProducts<'_> {
    #[inline(always)]
    fn run<const FUSED: bool, const LANES: usize>(self) {
        match self.batch.of.conv.side {
            Side::Two => turn_products::<FUSED, Two, 2, 4>(self),
            Side::Four => turn_products::<FUSED, Four, 4, 6>(self),
        }
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "what is indexed by a column are not the rows that hold it")]
fn turn_products<const FUSED: bool, T: Turn<SIDE, SPAN>, const SIDE: usize, const SPAN: usize>(of: TurnProducts<'_>) {
    let TurnProducts { batch, planes, products, targets } = of;
    let Strips { conv, ref strips, .. } = *batch.of;
    // All in cache lines from here on.
    let (channels, columns) = (conv.channels.target / LINE, conv.targets[1]);
    let (of_tile, of_plane) = (planes.products.stride / LINE, planes.products.plane / LINE);
    let of_block = planes.block() / LINE;
    let (products, targets) = (products.as_chunks::<LINE>().0, targets.as_chunks_mut::<LINE>().0);
    // Outside the loops, as that of sources is.
    let mut turned = [[[0.0; LINE]; SPAN]; SIDE];
    for (position, tile) in batch.tiles.clone().enumerate() {
        let (strip, first_column) = (tile / conv.tiles()[1], tile % conv.tiles()[1] * SIDE);
        let (first_line, lines) = (batch.of.lines_before(strip), conv.lines(strips.start + strip).len());
        for channel in 0..channels {
            let of_channel = channel / of_tile * of_block + channel % of_tile;
            for column in 0..SPAN {
                let mut m = [[0.0; LINE]; SPAN];
                for (line, m) in m.iter_mut().enumerate() {
                    let at = of_channel + (line * SPAN + column) * of_plane + position * of_tile;
                    // What the next tile reads; the machine does not follow so many planes by itself.
                    simd::prefetch::<_, true>(products, at + of_tile);
                    *m = products[at];
                }
                let of_column = T::products::<FUSED, LINE>(&m);
                for line in 0..SIDE {
                    turned[line][column] = of_column[line];
                }
            }
            for (line, turned) in turned[..lines].iter().enumerate() {
                let of_line = (first_line + line) * columns;
                for (column, y) in T::products::<FUSED, LINE>(turned).iter().enumerate() {
                    if first_column + column < columns {
                        targets[(of_line + first_column + column) * channels + channel] = *y;
                    }
                }
            }
        }
    }
}
