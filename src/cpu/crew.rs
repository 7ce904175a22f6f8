//! Who does the parts of a step: the thread that runs the chunk, or all of them.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// What a step writes, or a part of it; a target is empty where no step reads it but those that run with this one.
pub(super) struct Written<'a> {
    pub(super) target: &'a mut [f32],
    /// As long each: the step's other targets.
    pub(super) also: Vec<&'a mut [f32]>,
}

impl<'a> Written<'a> {
    /// Parts of these lengths, one after another.
    pub(super) fn cut(self, lengths: impl IntoIterator<Item = usize>) -> impl Iterator<Item = Written<'a>> {
        let Written { mut target, mut also } = self;
        lengths.into_iter().map(move |length| Written {
            target: cut(&mut target, length),
            also: also.iter_mut().map(|also| cut(also, length)).collect(),
        })
    }
}

fn cut<'a>(elements: &mut &'a mut [f32], length: usize) -> &'a mut [f32] {
    if elements.is_empty() { &mut [] } else { elements.split_off_mut(..length).expect("parts lie within") }
}

/// Parts of so many units of what several steps write, each with the elements of a unit.
pub(super) fn cut_all<'a>(
    written: impl IntoIterator<Item = (Written<'a>, usize)>,
    units: impl Iterator<Item = usize> + Clone,
) -> impl Iterator<Item = Vec<Written<'a>>> {
    let cut = |(written, unit): (Written<'a>, usize)| written.cut(units.clone().map(move |units| units * unit));
    let mut each: Vec<_> = written.into_iter().map(cut).collect();
    units.map(move |_| each.iter_mut().map(|parts| parts.next().expect("a part of each for every length")).collect())
}

/// Stages of steps that run together, at most: those before others, these, and those behind them.
pub(super) const STAGES: usize = 3;

/// Memory that parts of steps work in, one after another; each leaves it in any state.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// What a product reads, as it reads it, and sums that come to be there.
    pub(super) rows: Vec<f32>,
    /// What each stage makes of a part, if that does not come to be in the target itself.
    pub(super) made: [Vec<f32>; STAGES],
}

impl Room {
    /// Takes the one with most rows from a shelf: work that needs much then makes one grow, not all in turn.
    pub(super) fn largest(shelf: &mut Vec<Room>) -> Option<Room> {
        let largest = (0..shelf.len()).max_by_key(|&position| shelf[position].rows.len())?;
        Some(shelf.swap_remove(largest))
    }
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
        let work = |part: T| self.lend(Vec::pop, |room| work(part, room));
        #[cfg(feature = "threads")]
        if self.threads > 1 {
            use rayon::prelude::*;
            let parts: Vec<T> = parts.into_iter().collect();
            return parts.into_par_iter().with_max_len(1).for_each(work);
        }
        parts.into_iter().for_each(work);
    }

    /// Does `work` in memory that `take` takes from the shelf, and puts it back there.
    pub(super) fn lend(&self, take: impl FnOnce(&mut Vec<Room>) -> Option<Room>, work: impl FnOnce(&mut Room)) {
        let shelf = || self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = take(&mut shelf()).unwrap_or_default();
        work(&mut room);
        shelf().push(room);
    }

    /// Ranges of about one length, of at most `most` units each, that together are `count` units. Few of them are as many for every
    /// thread, so that none waits for another's.
    pub(super) fn shares(&self, count: usize, most: usize) -> impl Iterator<Item = Range<usize>> + Clone + use<> {
        let parts = count.div_ceil(most.max(1));
        let parts = if parts < 4 * self.threads { parts.next_multiple_of(self.threads) } else { parts };
        let parts = parts.min(count);
        (0..parts).map(move |part| part * count / parts..(part + 1) * count / parts)
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
        let count = written.target.len() / unit.max(1);
        let work = |units: Range<usize>, mut piece: Vec<Written<'_>>, room: &mut Room| {
            work(units.start, piece.remove(0), room);
        };
        self.pieces_of_all(vec![(written, unit)], count, most, work);
    }

    /// The same for `count` units of what several steps write, each with the elements of a unit; `work` gets the piece's units.
    pub(super) fn pieces_of_all(
        &self,
        written: Vec<(Written<'_>, usize)>,
        count: usize,
        most: usize,
        work: impl Fn(Range<usize>, Vec<Written<'_>>, &mut Room) + Sync,
    ) {
        let shares = self.shares(count, most);
        let pieces = cut_all(written, shares.clone().map(|share| share.len()));
        self.each(shares.zip(pieces), |(share, piece), room| work(share, piece, room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_units_once_even_and_as_many_for_every_thread_where_they_are_few() {
        let shelf = Shelf::default();
        for (threads, count, most) in [(2, 28, 4), (2, 7, 4), (1, 7, 4), (3, 2, 9), (2, 1000, 7), (2, 5, 0), (2, 0, 3)]
        {
            let shares: Vec<_> = Crew { threads, shelf: &shelf }.shares(count, most).collect();
            let what = format!("{count} units, {most} at most, {threads} threads: {shares:?}");
            assert!(shares.iter().cloned().flatten().eq(0..count), "{what}");
            let lengths = || shares.iter().map(Range::len);
            assert!(lengths().all(|length| (1..=most.max(1)).contains(&length)), "{what}");
            assert!(lengths().max().unwrap_or(0) - lengths().min().unwrap_or(0) <= 1, "{what}");
            let is_few = shares.len() < 4 * threads && shares.len() < count;
            assert!(!is_few || shares.len().is_multiple_of(threads), "{what}");
        }
    }
}
