//! Compiles loops for the widest instruction set of this machine.
//!
//! A [`Loop`] is plain safe Rust; [`run`] calls a copy of it that the compiler made with the instruction set switched
//! on. `unsafe` only vouches that this machine has it.

#![allow(unsafe_code)]

use std::sync::OnceLock;

/// Floats of a cache line.
pub(super) const LINE: usize = 16;

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

/// Bytes of the third-level cache of this machine, as it says; none where it does not, or has none.
pub(super) fn third_level_cache() -> Option<usize> {
    static CACHE: OnceLock<Option<usize>> = OnceLock::new();
    *CACHE.get_or_init(detect_third_level_cache)
}

#[cfg(target_arch = "x86_64")]
fn detect_third_level_cache() -> Option<usize> {
    // "Deterministic cache parameters": Intel's manual, volume 2A, CPUID, leaf 4; AMD's, volume 3, appendix E, leaf 8000_001D, which is alike.
    const LEAVES: [u32; 2] = [4, 0x8000_001D];
    const MOST_CACHES: u32 = 8;
    // SAFETY: every processor of this architecture has the instruction; newer compilers know that.
    #[allow(unused_unsafe, reason = "it is safe from some compiler on")]
    let cpuid = |leaf: u32, cache: u32| unsafe { std::arch::x86_64::__cpuid_count(leaf, cache) };
    let has = |leaf: u32| leaf <= cpuid(leaf & 0x8000_0000, 0).eax;
    let bits = |register: u32, from: u32, count: u32| (register >> from & ((1 << count) - 1)) as usize;
    let caches = LEAVES.into_iter().filter(|leaf| has(*leaf));
    let mut caches = caches.flat_map(|leaf| (0..MOST_CACHES).map(move |cache| cpuid(leaf, cache)));
    let third = caches.find(|cache| bits(cache.eax, 0, 5) != 0 && bits(cache.eax, 5, 3) == 3)?;
    let [line, partitions, ways] = [(0, 12), (12, 10), (22, 10)].map(|(from, count)| bits(third.ebx, from, count) + 1);
    Some(line * partitions * ways * (third.ecx as usize + 1))
}

#[cfg(not(target_arch = "x86_64"))]
fn detect_third_level_cache() -> Option<usize> {
    None
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
    prefetch_bytes::<FIRST>(elements.as_ptr().wrapping_add(index).cast(), size_of::<T>());
}

/// The same for a row of `COLUMNS` elements from the one at `index` on, into the second-level cache.
#[inline(always)]
pub(super) fn prefetch_row<const COLUMNS: usize>(elements: &[f32], index: usize) {
    prefetch_bytes::<false>(elements.as_ptr().wrapping_add(index).cast(), COLUMNS * size_of::<f32>());
}

#[inline(always)]
fn prefetch_bytes<const FIRST: bool>(address: *const i8, count: usize) {
    for offset in (0..count).step_by(LINE * size_of::<f32>()) {
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
        let head = to.as_ptr().align_offset(LINE * size_of::<f32>()).min(to.len());
        let (from_head, from) = from.split_at(head);
        let (to_head, to) = to.split_at_mut(head);
        to_head.copy_from_slice(from_head);
        let (from, from_tail) = from.as_chunks::<LINE>();
        let (to, to_tail) = to.as_chunks_mut::<LINE>();
        for (from, to) in from.iter().zip(to) {
            for lane in (0..LINE).step_by(LANES) {
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

/// `to[column][line] = from[line * apart + column]`, while what follows in each line is brought closer.
#[inline]
pub(super) fn transpose<const COLUMNS: usize>(from: &[f32], apart: usize, to: &mut [[f32; LINE]; COLUMNS]) {
    assert!(from.len() >= (LINE - 1) * apart + COLUMNS, "every line is there");
    match Level::widest() {
        Level::Baseline => transpose_columns(from, apart, to, 0),
        // SAFETY: every level above the baseline has AVX.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx512 => unsafe { transpose_avx(from, apart, to) },
    }
}

/// Columns from one on, element by element.
#[inline(always)]
fn transpose_columns<const COLUMNS: usize>(from: &[f32], apart: usize, to: &mut [[f32; LINE]; COLUMNS], first: usize) {
    for (column, to) in to.iter_mut().enumerate().skip(first) {
        *to = std::array::from_fn(|line| from[line * apart + column]);
    }
}

/// The same by exchanges between registers, 8 lines and 8 columns at a time: the compiler makes a load for each element of it.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx")]
#[allow(clippy::needless_range_loop, reason = "only loops that count are written out")]
fn transpose_avx<const COLUMNS: usize>(from: &[f32], apart: usize, to: &mut [[f32; LINE]; COLUMNS]) {
    use std::arch::x86_64::*;
    const BLOCK: usize = 8;
    /// Elements between what is read and what is brought closer.
    const AHEAD: usize = 2 * LINE;
    for first in (0..LINE).step_by(BLOCK) {
        for line in first..first + BLOCK {
            prefetch::<_, true>(from, line * apart + AHEAD);
        }
        for column in (0..COLUMNS / BLOCK * BLOCK).step_by(BLOCK) {
            let mut lines = [_mm256_setzero_ps(); BLOCK];
            for line in 0..BLOCK {
                let from: &[f32; BLOCK] = from[(first + line) * apart + column..].first_chunk().expect("a whole block");
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
            for line in 0..BLOCK {
                let to: &mut [f32; BLOCK] = &mut to[column + line].as_chunks_mut().0[first / BLOCK];
                // SAFETY: the array has as many floats as the register.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr(), whole[line]) };
            }
        }
    }
    transpose_columns(from, apart, to, COLUMNS / BLOCK * BLOCK);
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
    fn the_third_level_cache_is_as_large_as_the_system_says() {
        let Some(size) = third_level_cache() else { return };
        assert!((1 << 18..1 << 31).contains(&size), "{size} bytes");
        let told = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index3/size");
        if let Some(kib) = told.ok().and_then(|told| told.trim().strip_suffix('K')?.parse::<usize>().ok()) {
            assert_eq!(size, kib << 10);
        }
    }

    #[test]
    fn lines_become_columns() {
        fn check<const COLUMNS: usize>(apart: usize) {
            let from: Vec<f32> = (0..(LINE - 1) * apart + COLUMNS).map(|at| at as f32).collect();
            let mut to = [[0.0; LINE]; COLUMNS];
            transpose(&from, apart, &mut to);
            for (column, to) in to.iter().enumerate() {
                assert_eq!(
                    *to,
                    std::array::from_fn(|line| (line * apart + column) as f32),
                    "{COLUMNS} columns, {apart}"
                );
            }
            let mut of_baseline = [[0.0; LINE]; COLUMNS];
            transpose_columns(&from, apart, &mut of_baseline, 0);
            assert_eq!(of_baseline, to);
        }
        check::<16>(16);
        check::<16>(21);
        check::<9>(9);
        check::<9>(40);
        check::<7>(8);
    }
}
