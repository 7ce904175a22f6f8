//! The product of rows with a packed weight: C = A B, where the executor needs nothing else from a GEMM.
//!
//! One kernel body is compiled for each instruction set. Every element of C is one chain of fused multiply-adds over k
//! in order, whatever the number of rows, their place and the tile: a row's bits never depend on its neighbours.
//!
//! Why not a crate: on the shapes of benches/README.md (1024 × 1024, 96 rows a call, two cores) `gemm` 0.19 reaches
//! 0.5 and `rten-gemm` 0.27 prepacked 0.6 of what this body does, and `gemm` changes the order of a sum with the
//! number of rows. The body is plain safe Rust over fixed-size arrays, which the compiler turns into vector registers;
//! `unsafe` only vouches for the instruction set.

#![allow(unsafe_code)]

use std::sync::OnceLock;

/// Columns a panel of a packed weight holds.
const PANEL: usize = 32;
/// Rows a tile of the widest kernel holds.
const TILE: usize = 12;
/// Rows that are packed together and whose results stay in cache for the epilogue.
pub(super) const ROW_BLOCK: usize = 8 * TILE;
/// Elements of the summed axis taken at once, so that a panel's slice stays in the second-level cache.
const DEPTH: usize = 1024;

/// A weight as the kernels read it: panels of [`PANEL`] columns, each with one row of columns a summed element.
#[derive(Debug)]
pub(super) struct PackedWeight {
    panels: Vec<f32>,
    depth: usize,
    columns: usize,
}

impl PackedWeight {
    /// Packs the matrix B of `depth` × `columns` elements.
    pub(super) fn new(depth: usize, columns: usize, element: impl Fn(usize, usize) -> f32) -> Self {
        let mut panels = vec![0.0; columns.div_ceil(PANEL) * depth * PANEL];
        for (panel, packed) in panels.chunks_exact_mut(depth * PANEL).enumerate() {
            let first = panel * PANEL;
            for (k, row) in packed.chunks_exact_mut(PANEL).enumerate() {
                for (column, packed) in (first..columns.min(first + PANEL)).zip(row) {
                    *packed = element(k, column);
                }
            }
        }
        PackedWeight { panels, depth, columns }
    }

    /// The length of a row of C.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The length of a row of A.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }
}

/// Up to [`ROW_BLOCK`] rows of A as the kernels read them, reused from block to block.
#[derive(Debug, Default)]
pub(super) struct PackedRows {
    tiles: Vec<f32>,
    row: Vec<f32>,
    rows: usize,
}

impl PackedRows {
    /// Packs `rows` rows of `depth` elements; `fill` writes one row into the slice it is given.
    pub(super) fn pack(&mut self, rows: usize, depth: usize, mut fill: impl FnMut(usize, &mut [f32])) {
        self.rows = rows;
        self.tiles.resize(rows * depth, 0.0);
        self.row.resize(depth, 0.0);
        for row in 0..rows {
            fill(row, &mut self.row);
            let first = row / TILE * TILE;
            let height = TILE.min(rows - first);
            let tile = &mut self.tiles[first * depth..][..height * depth];
            for (packed, &value) in tile.chunks_exact_mut(height).zip(&self.row) {
                packed[row - first] = value;
            }
        }
    }
}

/// C = A B for packed rows A; `c` holds their rows one after another.
pub(super) fn multiply(a: &PackedRows, b: &PackedWeight, c: &mut [f32]) {
    let depth = b.depth;
    assert_eq!(c.len(), a.rows * b.columns, "C has a row for each row of A");
    assert_eq!(a.tiles.len(), a.rows * depth, "A was packed for this depth");
    let kernel = kernel();
    for from in (0..depth).step_by(DEPTH) {
        let to = depth.min(from + DEPTH);
        for (panel, columns) in b.panels.chunks_exact(depth * PANEL).zip(0..) {
            let panel = &panel[from * PANEL..to * PANEL];
            for first in (0..a.rows).step_by(TILE) {
                let height = TILE.min(a.rows - first);
                let tile = &a.tiles[first * depth + from * height..first * depth + to * height];
                let c = &mut c[first * b.columns..(first + height) * b.columns];
                kernel(height, tile, panel, c, b.columns, columns * PANEL, from > 0);
            }
        }
    }
}

/// Adds a tile of rows times a panel to the columns of `c` from `column` on; starts from zero unless `resume`.
type Kernel = fn(usize, &[f32], &[f32], &mut [f32], usize, usize, bool);

/// The kernel for this machine's widest instruction set.
fn kernel() -> Kernel {
    static CHOICE: OnceLock<Kernel> = OnceLock::new();
    *CHOICE.get_or_init(choose)
}

/// The instruction set that products run on, for reports.
pub(super) fn instruction_set() -> &'static str {
    match kernel() {
        #[cfg(target_arch = "x86_64")]
        kernel if std::ptr::fn_addr_eq(kernel, x86::avx512 as Kernel) => "avx512f",
        #[cfg(target_arch = "x86_64")]
        kernel if std::ptr::fn_addr_eq(kernel, x86::avx2 as Kernel) => "avx2",
        _ => std::env::consts::ARCH,
    }
}

fn choose() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return x86::avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return x86::avx2;
        }
    }
    portable
}

/// a · b + c: fused where the instruction set has it, so that no software routine is called where it has not.
#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// One tile of `ROWS` rows and `WIDTH` columns of a panel, held in registers over the whole depth.
#[inline(always)]
fn tile<const ROWS: usize, const WIDTH: usize, const FUSED: bool>(
    a: &[f32],
    panel: &[f32],
    offset: usize,
    acc: &mut [[f32; WIDTH]; ROWS],
) {
    let mut sums = *acc;
    let (a, _) = a.as_chunks::<ROWS>();
    let (panel, _) = panel.as_chunks::<PANEL>();
    for (a, b) in a.iter().zip(panel) {
        for row in 0..ROWS {
            for column in 0..WIDTH {
                sums[row][column] = multiply_add::<FUSED>(a[row], b[offset + column], sums[row][column]);
            }
        }
    }
    *acc = sums;
}

/// A tile over all columns of a panel, `WIDTH` at a time.
#[inline(always)]
fn panel<const ROWS: usize, const WIDTH: usize, const FUSED: bool>(
    a: &[f32],
    panel: &[f32],
    c: &mut [f32],
    stride: usize,
    column: usize,
    resume: bool,
) {
    for offset in (0..PANEL).step_by(WIDTH) {
        let Some(width) = stride.checked_sub(column + offset).map(|rest| rest.min(WIDTH)).filter(|&w| w > 0) else {
            break;
        };
        let mut acc = [[0.0; WIDTH]; ROWS];
        if resume {
            for (row, sums) in acc.iter_mut().enumerate() {
                sums[..width].copy_from_slice(&c[row * stride + column + offset..][..width]);
            }
        }
        tile::<ROWS, WIDTH, FUSED>(a, panel, offset, &mut acc);
        for (row, sums) in acc.iter().enumerate() {
            c[row * stride + column + offset..][..width].copy_from_slice(&sums[..width]);
        }
    }
}

/// Calls the body for the number of rows that a tile has.
macro_rules! for_height {
    ($height:expr, $width:literal, $fused:literal, $args:tt; $($rows:literal)+) => {
        match $height {
            $($rows => for_height!(@call $rows, $width, $fused, $args),)+
            height => unreachable!("a tile holds 1 to {TILE} rows, not {height}"),
        }
    };
    (@call $rows:literal, $width:literal, $fused:literal, ($($arg:expr),+)) => {
        panel::<$rows, $width, $fused>($($arg),+)
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{PANEL, TILE, panel};

    pub(super) fn avx512(
        height: usize,
        a: &[f32],
        b: &[f32],
        c: &mut [f32],
        stride: usize,
        column: usize,
        resume: bool,
    ) {
        #[target_feature(enable = "avx512f")]
        fn body(height: usize, a: &[f32], b: &[f32], c: &mut [f32], stride: usize, column: usize, resume: bool) {
            for_height!(height, 32, true, (a, b, c, stride, column, resume); 1 2 3 4 5 6 7 8 9 10 11 12);
        }
        // SAFETY: `choose` takes this kernel only after it found avx512f on this machine.
        unsafe { body(height, a, b, c, stride, column, resume) }
    }

    pub(super) fn avx2(height: usize, a: &[f32], b: &[f32], c: &mut [f32], stride: usize, column: usize, resume: bool) {
        #[target_feature(enable = "avx2,fma")]
        fn body(height: usize, a: &[f32], b: &[f32], c: &mut [f32], stride: usize, column: usize, resume: bool) {
            for_height!(height, 8, true, (a, b, c, stride, column, resume); 1 2 3 4 5 6 7 8 9 10 11 12);
        }
        // SAFETY: `choose` takes this kernel only after it found avx2 and fma on this machine.
        unsafe { body(height, a, b, c, stride, column, resume) }
    }

    const _: () = assert!(PANEL.is_multiple_of(32) && TILE == 12, "the kernels above are written for this tile");
}

/// Where no wider instruction set is known: fused multiply-adds only on targets whose baseline has them.
#[cfg(target_arch = "aarch64")]
fn portable(height: usize, a: &[f32], b: &[f32], c: &mut [f32], stride: usize, column: usize, resume: bool) {
    for_height!(height, 8, true, (a, b, c, stride, column, resume); 1 2 3 4 5 6 7 8 9 10 11 12);
}

/// Where no wider instruction set is known: fused multiply-adds only on targets whose baseline has them.
#[cfg(not(target_arch = "aarch64"))]
fn portable(height: usize, a: &[f32], b: &[f32], c: &mut [f32], stride: usize, column: usize, resume: bool) {
    for_height!(height, 4, false, (a, b, c, stride, column, resume); 1 2 3 4 5 6 7 8 9 10 11 12);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(index: usize) -> f32 {
        (index.wrapping_mul(2_654_435_761) % 1009) as f32 / 504.5 - 1.0
    }

    fn all_kernels() -> Vec<(&'static str, Kernel)> {
        let mut kernels: Vec<(&'static str, Kernel)> = vec![("portable", portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                kernels.push(("avx2", x86::avx2));
            }
            if is_x86_feature_detected!("avx512f") {
                kernels.push(("avx512", x86::avx512));
            }
        }
        kernels
    }

    fn product(rows: usize, depth: usize, columns: usize) -> Vec<f32> {
        let weight = PackedWeight::new(depth, columns, |k, n| number(k * columns + n + 7));
        let mut packed = PackedRows::default();
        packed.pack(rows, depth, |row, out| (0..depth).for_each(|k| out[k] = number(row * depth + k)));
        let mut c = vec![f32::NAN; rows * columns];
        multiply(&packed, &weight, &mut c);
        c
    }

    #[test]
    fn products_agree_with_float64_at_every_edge_of_tile_panel_and_depth() {
        for rows in [1, 2, TILE - 1, TILE, TILE + 1, 2 * TILE + 5, ROW_BLOCK] {
            for depth in [1, 3, 64, DEPTH - 1, DEPTH, DEPTH + 1] {
                for columns in [1, 7, PANEL - 1, PANEL, PANEL + 1, 3 * PANEL + 5] {
                    let c = product(rows, depth, columns);
                    for (index, &value) in c.iter().enumerate() {
                        let (row, column) = (index / columns, index % columns);
                        let terms = (0..depth)
                            .map(|k| f64::from(number(row * depth + k)) * f64::from(number(k * columns + column + 7)));
                        let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                        let bound = size * depth as f64 * f64::from(f32::EPSILON) + 1e-12;
                        approx::assert_abs_diff_eq!(f64::from(value), sum, epsilon = bound);
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        let (depth, columns) = (DEPTH + 37, PANEL + 3);
        let many = product(ROW_BLOCK, depth, columns);
        for rows in [1, 5, TILE, TILE + 1] {
            assert_eq!(product(rows, depth, columns), many[..rows * columns]);
        }
    }

    #[test]
    fn every_kernel_of_this_machine_computes_the_same_tile() {
        let (depth, columns) = (129, PANEL + 9);
        for (name, kernel) in all_kernels() {
            for height in 1..=TILE {
                let a: Vec<f32> = (0..height * depth).map(number).collect();
                let weight = PackedWeight::new(depth, columns, |k, n| number(k * 3 + n));
                let mut c = vec![0.0; height * columns];
                for (panel, position) in weight.panels.chunks_exact(depth * PANEL).zip(0..) {
                    kernel(height, &a, panel, &mut c, columns, position * PANEL, false);
                }
                for (index, &value) in c.iter().enumerate() {
                    let (row, column) = (index / columns, index % columns);
                    let exact: f64 =
                        (0..depth).map(|k| f64::from(a[k * height + row]) * f64::from(number(k * 3 + column))).sum();
                    assert!((f64::from(value) - exact).abs() < 1e-4, "{name} {height} {index}: {value} {exact}");
                }
            }
        }
    }
}
