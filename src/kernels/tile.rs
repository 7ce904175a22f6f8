//! Shapes of tile that products are cut into.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::device_kind::DeviceKind;
use super::product::Direction;

/// How a product is cut into workgroups.
///
/// All shapes but [`Tile::Few`] make every element of the result by slices of the summed axis, in order, each one chain of fused
/// multiply-adds from zero on, so their results are equal bit by bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tile {
    /// 128 × 128 in workgroup memory, 8 × 8 an invocation: the fewest reads for each multiply-add, where a device has the registers.
    Large,
    /// 64 × 64 in workgroup memory, 8 × 4 an invocation, which takes two thirds of the large shape's registers.
    Medium,
    /// 32 × 32 in workgroup memory, 4 × 4 an invocation: for small products.
    Small,
    /// 256 × 4 in workgroup memory, 4 × 4 an invocation: for many rows of few columns, as the way back to an image's channels has them.
    Narrow,
    /// Up to 8 rows, reduced inside a workgroup: reading the weight is all its work.
    Few,
    /// Without workgroup memory and barriers, 128 columns wide: for adapters that are software.
    Free,
    /// The same, 4 or 16 columns wide, with rows of each invocation's own: for many rows of few columns.
    Slim,
}

impl Tile {
    /// Whether rows and weights go through workgroup memory, so that each is read only once and what reading and storing them takes is
    /// little beside the products: these shapes share a text where that is all that differs.
    pub(super) fn shares(self) -> bool {
        matches!(self, Tile::Large | Tile::Medium | Tile::Small | Tile::Narrow)
    }
}

impl fmt::Display for Tile {
    /// One word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tile::Large => "large",
            Tile::Medium => "medium",
            Tile::Small => "small",
            Tile::Narrow => "narrow",
            Tile::Few => "few",
            Tile::Free => "free",
            Tile::Slim => "slim",
        })
    }
}

/// A shape of tile and the rows that a workgroup takes, which together make a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tiling {
    /// The shape.
    pub tile: Tile,
    /// The rows, of those that the shape leaves open.
    pub rows: usize,
}

impl Tiling {
    /// Those that give the same bits, so that any may stand for another.
    pub const INTERCHANGEABLE: [Tiling; 9] = [
        Tiling { tile: Tile::Large, rows: 128 },
        Tiling { tile: Tile::Medium, rows: 64 },
        Tiling { tile: Tile::Small, rows: 32 },
        Tiling { tile: Tile::Narrow, rows: 256 },
        Tiling { tile: Tile::Free, rows: 32 },
        Tiling { tile: Tile::Free, rows: 8 },
        Tiling { tile: Tile::Free, rows: 2 },
        Tiling { tile: Tile::Slim, rows: 128 },
        Tiling { tile: Tile::Slim, rows: 32 },
    ];

    /// Those of them that are worth timing, at most six: the narrow shape is for few columns alone, the large one for more, those without
    /// workgroup memory are for software, which times the small one alone beside them.
    pub fn candidates(columns: usize, kind: DeviceKind) -> impl Iterator<Item = Tiling> {
        let is_software = kind == DeviceKind::Software;
        Tiling::INTERCHANGEABLE.into_iter().filter(move |tiling| match tiling.tile {
            Tile::Narrow => !is_software && columns <= NARROW,
            Tile::Large => !is_software && columns > NARROW,
            Tile::Medium => !is_software,
            Tile::Free | Tile::Slim => is_software,
            Tile::Small | Tile::Few => true,
        })
    }

    /// What a shape takes for work of `rows` rows.
    pub(crate) fn of(tile: Tile, rows: usize) -> Tiling {
        Tiling { tile, rows: tile.rows_at_a_time(rows) }
    }

    /// Whether it is one of those that give the same bits.
    pub fn is_interchangeable(self) -> bool {
        Tiling::INTERCHANGEABLE.contains(&self)
    }
}

impl fmt::Display for Tiling {
    /// The shape, with its rows where it leaves them open.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tile {
            Tile::Large | Tile::Medium | Tile::Small | Tile::Narrow => self.tile.fmt(f),
            Tile::Few | Tile::Free | Tile::Slim => write!(f, "{} {}", self.tile, self.rows),
        }
    }
}

/// What the template of a tile is told.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Geometry {
    pub(super) body: &'static str,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Steps of k at a time; 0 for the shapes without tiles.
    pub(super) depth: usize,
    thread_rows: usize,
    thread_columns: usize,
    /// Invocations that share rows and take quads of columns in turn.
    lanes: usize,
    /// How many such lines of invocations make a workgroup, each with rows of its own.
    lines: usize,
    /// Whether sums come slice by slice; the shape for few rows adds up in a tree.
    sliced: bool,
    /// [`DEEPEST`].
    deepest: usize,
}

/// Steps of k that are summed from zero: a multiple of every tile's depth, so that all shapes add in one order. Each slice goes through the
/// target once, which costs a tile as much memory as 128 steps read.
const SLICE: usize = 512;
/// The same where terms have one sign: their sums lose with a slice's length what sums of both signs lose with its root.
const SHORT_SLICE: usize = 128;

/// Steps of k that a product sums from zero; `of_one_sign` says whether its terms cannot cancel.
pub(super) fn slice(of_one_sign: bool) -> u32 {
    (if of_one_sign { SHORT_SLICE } else { SLICE }) as u32
}

/// The most steps of k that any tile takes at a time: where the second of two products begins, all of them begin a step.
pub(super) const DEEPEST: usize = 16;

/// Columns that the shape for few columns makes.
const NARROW: usize = 4;

/// Invocations of the shapes without workgroup memory: one vector of a software adapter.
const FREE_LANES: usize = 8;
/// Columns up to which rows of their own are faster for them: what they read of rows is then no longer the same for all.
const SLIM: usize = 48;

/// Rows that the kernel for few rows takes.
const FEW: usize = 8;

impl Tile {
    /// Every shape.
    pub const ALL: [Tile; 7] =
        [Tile::Large, Tile::Medium, Tile::Small, Tile::Narrow, Tile::Few, Tile::Free, Tile::Slim];

    /// The shape for a number of rows and columns on a kind of device.
    pub fn choose(rows: usize, columns: usize, kind: DeviceKind) -> Tile {
        const ENOUGH: usize = 64;
        let tiles = |tile_rows: usize, tile_columns: usize| rows.div_ceil(tile_rows) * columns.div_ceil(tile_columns);
        match () {
            () if kind == DeviceKind::Software && rows >= ENOUGH && columns <= SLIM => Tile::Slim,
            () if kind == DeviceKind::Software => Tile::Free,
            () if rows <= FEW => Tile::Few,
            () if tiles(256, 4) >= ENOUGH && columns <= NARROW => Tile::Narrow,
            () if tiles(128, 128) >= ENOUGH && columns > 64 && kind == DeviceKind::ManyRegisters => Tile::Large,
            () if tiles(64, 64) >= ENOUGH && columns > 32 => Tile::Medium,
            () => Tile::Small,
        }
    }

    /// The shape for `rows` of at most `most` rows: as `most` decides where shapes differ in bits, as `rows` where not. A chunk that is
    /// not full takes the shape of full ones or the small one, and the small one late, so that few texts serve chunks of any size; on software
    /// it takes what its rows alone call for.
    pub(crate) fn choose_within(most: usize, rows: usize, columns: usize, kind: DeviceKind) -> Tile {
        // Workgroups of the medium shape that still busy a device.
        const SOME: usize = 32;
        let of_most = Tile::choose(most, columns, kind);
        match Tile::choose(if most <= FEW { most } else { rows.max(FEW + 1) }, columns, kind) {
            Tile::Medium if of_most == Tile::Large => Tile::Small,
            Tile::Small if of_most == Tile::Medium && rows.div_ceil(64) * columns.div_ceil(64) >= SOME => Tile::Medium,
            tile => tile,
        }
    }

    /// How many rows a workgroup takes where the shape leaves it open, for work of `rows` rows.
    fn rows_at_a_time(self, rows: usize) -> usize {
        match self {
            Tile::Large => 128,
            Tile::Medium => 64,
            Tile::Small => 32,
            Tile::Narrow => 256,
            Tile::Few => rows.next_power_of_two().min(FEW),
            Tile::Free => match rows {
                // Not 1: lavapipe takes 3 ms for each dispatch of such a kernel where the depth is no multiple of 4.
                0..=2 => 2,
                3..=8 => 8,
                _ => 32,
            },
            Tile::Slim if rows < 128 => 32,
            Tile::Slim => 128,
        }
    }

    /// What makes a product of `rows` rows to `columns` columns.
    pub(super) fn geometry(self, rows: usize, columns: usize) -> Geometry {
        let rows = self.rows_at_a_time(rows);
        let tiled = |columns, depth, thread_rows, thread_columns| Geometry {
            body: "tiled.wgsl",
            rows,
            columns,
            depth,
            thread_rows,
            thread_columns,
            lanes: 0,
            lines: 0,
            sliced: true,
            deepest: DEEPEST,
        };
        let untiled = |body, columns, (lanes, lines), sliced| Geometry {
            body,
            rows,
            columns,
            lanes,
            lines,
            sliced,
            depth: 0,
            thread_rows: 0,
            thread_columns: 0,
            deepest: DEEPEST,
        };
        match self {
            Tile::Large => tiled(128, 8, 8, 8),
            Tile::Medium => tiled(64, 16, 8, 4),
            Tile::Small => tiled(32, 16, 4, 4),
            Tile::Narrow => tiled(NARROW, 8, 4, 4),
            Tile::Few => untiled("few.wgsl", 0, (0, 0), false),
            Tile::Free => untiled("free.wgsl", 16, (FREE_LANES, 1), true),
            // Two widths alone: each is a text more.
            Tile::Slim => untiled("free.wgsl", if columns <= 4 { 4 } else { 16 }, (1, FREE_LANES), true),
        }
    }

    /// Rows and columns that a workgroup makes.
    pub(super) fn covers(self, rows: usize, columns: usize, direction: Direction) -> (usize, usize) {
        let Geometry { rows, columns, lanes, .. } = self.geometry(rows, columns);
        match (self, direction) {
            (Tile::Large | Tile::Medium | Tile::Small | Tile::Narrow, _) => (rows, columns),
            (Tile::Few, Direction::Forward) => (rows, 16),
            (Tile::Few, Direction::Backward) => (rows, 32),
            (Tile::Free | Tile::Slim, _) => (rows, columns * lanes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_setting_decides_for_the_kernel_that_adds_in_another_order() {
        for columns in [1, 10, 64, 100, 1024, 4096] {
            for rows in [1, 2, 8, 9, 100, 2048] {
                assert_ne!(Tile::choose_within(2048, rows, columns, DeviceKind::ManyRegisters), Tile::Few);
                assert_eq!(Tile::choose_within(8, rows.min(8), columns, DeviceKind::ManyRegisters), Tile::Few);
            }
        }
    }

    #[test]
    fn software_takes_what_needs_no_workgroup_memory_as_wide_as_its_columns() {
        let chosen = |rows, columns| Tile::choose_within(2048, rows, columns, DeviceKind::Software);
        assert_eq!([chosen(64, 1), chosen(2048, SLIM)], [Tile::Slim; 2]);
        assert_eq!([chosen(63, 1), chosen(1, 10), chosen(2048, SLIM + 1), chosen(2048, 1000)], [Tile::Free; 4]);
        for (columns, free, slim) in [(1, 128, 4), (5, 128, 16), (300, 128, 16)] {
            let width = |tile: Tile| tile.covers(1000, columns, Direction::Forward).1;
            assert_eq!((width(Tile::Free), width(Tile::Slim)), (free, slim), "{columns}");
            for (rows, tile) in (1..300).flat_map(|rows| [(rows, Tile::Free), (rows, Tile::Slim)]) {
                let Geometry { rows, columns, lines, .. } = tile.geometry(rows, columns);
                assert!(rows.is_multiple_of(lines) && columns.is_multiple_of(4), "{tile}, {rows} rows");
            }
        }
    }

    #[test]
    fn what_stands_for_another_is_every_kernel_but_those_that_add_in_another_order() {
        for rows in 1..300 {
            for tile in Tile::ALL {
                assert_eq!(Tiling::of(tile, rows).is_interchangeable(), tile != Tile::Few, "{tile}, {rows} rows");
            }
        }
        for Tiling { tile, rows } in Tiling::INTERCHANGEABLE {
            assert_eq!(Tiling::of(tile, rows), Tiling { tile, rows });
        }
    }

    #[test]
    fn the_largest_tile_that_fills_a_device_is_taken() {
        assert_eq!(Tile::choose(2048, 1024, DeviceKind::ManyRegisters), Tile::Large);
        assert_eq!(Tile::choose(512, 1024, DeviceKind::ManyRegisters), Tile::Medium);
        assert_eq!(Tile::choose(256, 1024, DeviceKind::ManyRegisters), Tile::Medium);
        assert_eq!(Tile::choose(192, 1024, DeviceKind::ManyRegisters), Tile::Small);
        assert_eq!(Tile::choose_within(512, 128, 1024, DeviceKind::ManyRegisters), Tile::Medium);
        assert_eq!(Tile::choose_within(512, 64, 1024, DeviceKind::ManyRegisters), Tile::Small);
        assert_eq!(Tile::choose(64, 1024, DeviceKind::ManyRegisters), Tile::Small);
        assert_eq!(Tile::choose(1 << 20, 10, DeviceKind::ManyRegisters), Tile::Small);
    }

    #[test]
    fn many_rows_of_few_columns_take_the_narrow_shape() {
        assert_eq!(Tile::choose(1 << 20, 3, DeviceKind::ManyRegisters), Tile::Narrow);
        assert_eq!(Tile::choose_within(1 << 20, 1 << 18, 3, DeviceKind::FewRegisters), Tile::Narrow);
        assert_eq!(Tile::choose_within(1 << 20, 1 << 10, 3, DeviceKind::FewRegisters), Tile::Small);
        assert_eq!(Tile::choose(1 << 20, 5, DeviceKind::ManyRegisters), Tile::Small);
    }

    /// What `tiled.wgsl` counts on: every block of both tiles is brought, each by one invocation.
    #[test]
    fn blocks_are_dealt_out_among_the_invocations() {
        for tile in Tile::ALL {
            let Geometry { rows, columns, depth, thread_rows, thread_columns, .. } = tile.geometry(1000, 1000);
            if depth == 0 {
                continue;
            }
            let threads = (rows / thread_rows) * (columns / thread_columns);
            let [of_source, of_weight] = [rows, columns].map(|extent| extent / 4 * (depth / 4));
            assert_eq!((threads % (depth / 4), DEEPEST % depth, SHORT_SLICE % depth), (0, 0, 0), "{tile}");
            if of_source < threads {
                assert!(of_source + of_weight <= threads, "{tile}");
            } else {
                assert!(of_source.is_multiple_of(threads) && of_weight <= threads, "{tile}");
            }
        }
    }

    #[test]
    fn six_are_worth_timing_by_software_and_three_by_a_gpu() {
        for kind in [DeviceKind::Software, DeviceKind::FewRegisters, DeviceKind::ManyRegisters] {
            for columns in [1, NARROW, NARROW + 1, 1000] {
                let tilings: Vec<Tiling> = Tiling::candidates(columns, kind).collect();
                assert_eq!(tilings.len(), if kind == DeviceKind::Software { 6 } else { 3 }, "{tilings:?}");
                for rows in [FEW + 1, 100, 1 << 20] {
                    assert!(
                        tilings.contains(&Tiling::of(Tile::choose(rows, columns, kind), rows)),
                        "{rows} x {columns}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_device_of_few_registers_takes_no_large_tile() {
        for rows in [9, 512, 2048, 1 << 20] {
            for columns in [10, 100, 1024] {
                let narrow = Tile::choose(rows, columns, DeviceKind::FewRegisters);
                assert!([Tile::Small, Tile::Medium].contains(&narrow), "{rows} x {columns}: {narrow}");
                assert_eq!(Tile::choose_within(rows, rows, columns, DeviceKind::FewRegisters), narrow);
            }
        }
        assert_eq!(Tile::choose(8, 1024, DeviceKind::FewRegisters), Tile::Few);
    }
}
