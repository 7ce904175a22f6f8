//! Compiles loops for the widest instruction set of this machine.
//!
//! A [`Loop`] is plain safe Rust; [`run`] calls a copy of it that the compiler made with the instruction set switched
//! on. `unsafe` only vouches that this machine has it.

#![allow(unsafe_code)]

use std::sync::OnceLock;

/// An instruction set that loops are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// What every machine of this architecture has.
    Baseline,
    /// 8 lanes and fused multiply-adds.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 16 lanes and fused multiply-adds.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The widest level of this machine.
    pub(super) fn widest() -> Self {
        static WIDEST: OnceLock<Level> = OnceLock::new();
        *WIDEST.get_or_init(Level::detect)
    }

    #[cfg(target_arch = "x86_64")]
    fn detect() -> Self {
        if is_x86_feature_detected!("avx512f") {
            Level::Avx512
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            Level::Avx2
        } else {
            Level::Baseline
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detect() -> Self {
        Level::Baseline
    }

    /// How many floats a register holds.
    pub(super) fn lanes(self) -> usize {
        match self {
            Level::Baseline => 4,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => 8,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => 16,
        }
    }

    /// The level's name, for reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Level::Baseline => std::env::consts::ARCH,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512f",
        }
    }
}

/// A loop to be compiled for every level. Implementations mark [`run`](Loop::run) `#[inline(always)]`, so that it is
/// compiled into the function that has the instruction set.
pub(super) trait Loop {
    /// Whether the level has fused multiply-adds, and how many floats a register holds, are constants of the copy.
    fn run<const FUSED: bool, const LANES: usize>(self);
}

/// Runs a loop at a level, which must not be wider than [`Level::widest`].
#[inline]
pub(super) fn run(level: Level, work: impl Loop) {
    assert!(level == Level::Baseline || level == Level::widest() || is_below(level, Level::widest()));
    match level {
        Level::Baseline => baseline(work),
        // SAFETY: `widest` found this or a wider level on this machine, and every wider level includes it.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(work) },
        // SAFETY: `widest` found avx512f on this machine.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(work) },
    }
}

#[cfg(target_arch = "x86_64")]
fn is_below(level: Level, widest: Level) -> bool {
    level == Level::Avx2 && widest == Level::Avx512
}

#[cfg(not(target_arch = "x86_64"))]
fn is_below(_: Level, _: Level) -> bool {
    false
}

/// Asks for the element at `index` to be brought into the first-level cache, or into the second-level one unless
/// `FIRST`; nothing happens past the end.
#[inline(always)]
pub(super) fn prefetch<T, const FIRST: bool>(elements: &[T], index: usize) {
    const LINE: usize = 64;
    let address = elements.as_ptr().wrapping_add(index).cast::<i8>();
    for offset in (0..size_of::<T>()).step_by(LINE) {
        // SAFETY: a prefetch is a hint that touches no memory the program can see and never faults, at any address.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
            match FIRST {
                true => _mm_prefetch::<_MM_HINT_T0>(address.wrapping_add(offset)),
                false => _mm_prefetch::<_MM_HINT_T1>(address.wrapping_add(offset)),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (address, offset);
    }
}

/// Copies elements past the caches: `to` is not read first, as a store would, and takes no room there.
#[inline]
pub(super) fn stream(from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "as many elements");
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_loadu_ps, _mm_sfence, _mm_stream_ps};
        const LANES: usize = 4;
        const OF_A_LINE: usize = 16;
        let head = to.as_ptr().align_offset(OF_A_LINE * size_of::<f32>()).min(to.len());
        let (from_head, from) = from.split_at(head);
        let (to_head, to) = to.split_at_mut(head);
        to_head.copy_from_slice(from_head);
        let (from, from_tail) = from.as_chunks::<OF_A_LINE>();
        let (to, to_tail) = to.as_chunks_mut::<OF_A_LINE>();
        for (from, to) in from.iter().zip(to) {
            for lane in (0..OF_A_LINE).step_by(LANES) {
                // SAFETY: SSE is part of the architecture; `to` begins a cache line, four elements from `lane` on lie in
                // both arrays, and the fence below ends what is stored here before `to` is read.
                unsafe { _mm_stream_ps(to.as_mut_ptr().add(lane), _mm_loadu_ps(from.as_ptr().add(lane))) };
            }
        }
        to_tail.copy_from_slice(from_tail);
        // SAFETY: as above. What is streamed is not ordered with the stores that tell other threads of it.
        unsafe { _mm_sfence() };
    }
    #[cfg(not(target_arch = "x86_64"))]
    to.copy_from_slice(from);
}

/// `to[column][line] = factor · from[line][column]`, while the lines of `next` are brought closer.
#[inline]
pub(super) fn transpose<const SIDE: usize>(
    from: &[[f32; SIDE]; SIDE],
    next: &[[f32; SIDE]],
    to: &mut [[f32; SIDE]; SIDE],
    factor: f32,
) {
    match Level::widest() {
        Level::Baseline => transpose_baseline(from, to, factor),
        // SAFETY: every level above the baseline has AVX.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx512 => unsafe { transpose_avx(from, next, to, factor) },
    }
}

fn transpose_baseline<const SIDE: usize>(from: &[[f32; SIDE]; SIDE], to: &mut [[f32; SIDE]; SIDE], factor: f32) {
    for (line, from) in from.iter().enumerate() {
        for (column, from) in from.iter().enumerate() {
            to[column][line] = factor * from;
        }
    }
}

/// The same by exchanges between registers, 8 lines and 8 columns at a time: the compiler makes a load for each element of it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
#[allow(clippy::needless_range_loop, reason = "only loops that count are written out")]
fn transpose_avx<const SIDE: usize>(
    from: &[[f32; SIDE]; SIDE],
    next: &[[f32; SIDE]],
    to: &mut [[f32; SIDE]; SIDE],
    factor: f32,
) {
    use std::arch::x86_64::*;
    const BLOCK: usize = 8;
    const { assert!(SIDE.is_multiple_of(BLOCK), "whole blocks") };
    let factor = _mm256_set1_ps(factor);
    for first in 0..SIDE / BLOCK {
        for line in first * BLOCK..(first + 1) * BLOCK {
            prefetch::<_, true>(next, line);
        }
        let from: &[[f32; SIDE]; BLOCK] = &from.as_chunks().0[first];
        for column in 0..SIDE / BLOCK {
            let mut lines = [_mm256_setzero_ps(); BLOCK];
            for line in 0..BLOCK {
                let from: &[f32; BLOCK] = &from[line].as_chunks().0[column];
                // SAFETY: the array has as many floats as the register.
                lines[line] = unsafe { _mm256_loadu_ps(from.as_ptr()) };
            }
            let mut pairs = lines;
            for line in (0..BLOCK).step_by(2) {
                pairs[line] = _mm256_unpacklo_ps(lines[line], lines[line + 1]);
                pairs[line + 1] = _mm256_unpackhi_ps(lines[line], lines[line + 1]);
            }
            let mut fours = pairs;
            for line in [0, 4] {
                for half in 0..2 {
                    let (a, b) = (pairs[line + half], pairs[line + half + 2]);
                    fours[line + 2 * half] = _mm256_shuffle_ps::<0b01_00_01_00>(a, b);
                    fours[line + 2 * half + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(a, b);
                }
            }
            let mut whole = fours;
            for column in 0..4 {
                whole[column] = _mm256_permute2f128_ps::<0x20>(fours[column], fours[column + 4]);
                whole[column + 4] = _mm256_permute2f128_ps::<0x31>(fours[column], fours[column + 4]);
            }
            let to: &mut [[f32; SIDE]; BLOCK] = &mut to.as_chunks_mut().0[column];
            for line in 0..BLOCK {
                let to: &mut [f32; BLOCK] = &mut to[line].as_chunks_mut().0[first];
                // SAFETY: the array has as many floats as the register.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_mul_ps(whole[line], factor)) };
            }
        }
    }
}

/// The levels of this machine, narrowest first.
#[cfg(test)]
pub(super) fn levels() -> Vec<Level> {
    let all = [
        Level::Baseline,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512,
    ];
    let widest = Level::widest();
    all.into_iter().filter(|&level| level == Level::Baseline || level == widest || is_below(level, widest)).collect()
}

/// The 64-bit ARM baseline has fused multiply-adds.
fn baseline(work: impl Loop) {
    work.run::<{ cfg!(target_arch = "aarch64") }, 4>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(work: impl Loop) {
    work.run::<true, 8>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(work: impl Loop) {
    work.run::<true, 16>();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streamed_elements_arrive_wherever_they_lie_and_no_others_change() {
        let from: Vec<f32> = (0..100).map(|x| x as f32).collect();
        for (begin, length) in (0..17).flat_map(|begin| [0, 1, 15, 16, 17, 33, 70].map(|length| (begin, length))) {
            let mut to = vec![-1.0_f32; 100];
            stream(&from[3..3 + length], &mut to[begin..begin + length]);
            let of =
                |index: usize| if (begin..begin + length).contains(&index) { from[3 + index - begin] } else { -1.0 };
            assert!((0..100).all(|index| to[index] == of(index)), "{length} elements at {begin}");
        }
    }

    #[test]
    fn lines_become_columns() {
        fn check<const SIDE: usize>() {
            let from: [[f32; SIDE]; SIDE] =
                std::array::from_fn(|line| std::array::from_fn(|column| (line * SIDE + column) as f32));
            let expected: [[f32; SIDE]; SIDE] =
                std::array::from_fn(|column| std::array::from_fn(|line| -2.0 * from[line][column]));
            let (mut to, mut of_baseline) = ([[0.0; SIDE]; SIDE], [[0.0; SIDE]; SIDE]);
            transpose(&from, &[], &mut to, -2.0);
            transpose_baseline(&from, &mut of_baseline, -2.0);
            assert_eq!(to, expected);
            assert_eq!(of_baseline, expected);
        }
        check::<16>();
        check::<32>();
    }
}
