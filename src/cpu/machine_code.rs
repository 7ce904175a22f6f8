//! The machine code that loops become, which no result shows: a level that this machine lacks may have lost its registers. Only an
//! optimised build tells.

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::OnceLock;

    use super::super::chosen;
    use super::super::filters::FEW;
    use super::super::narrow;
    use super::super::simd::Level;
    use super::super::tile::Blocking;

    const LEVELS: [Level; 2] = [Level::Avx2, Level::Avx512];
    /// Instructions that move elements between lanes, or between them and places that lie apart.
    const MOVES: [&str; 7] = ["vunpck", "vshuf", "vinsert", "vextract", "vperm", "vgather", "vscatter"];
    const ADVICE: &str = "see what `objdump -d` shows of them; another compiler may do otherwise";

    /// What a function of a level is made of.
    #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
    struct Code {
        /// Packed multiply-adds of any width.
        packed: usize,
        /// Those of the level's width.
        wide: usize,
        /// Whether a vector of that width goes through the stack.
        spills: bool,
        /// Instructions that move elements between lanes.
        moves: usize,
        /// Those that choose between lanes as a mask says.
        choices: usize,
    }

    /// Names and what they are made of.
    type Functions = Vec<(String, Code)>;

    /// The functions of a level in this program: none where objdump is not here, or where the build does not vectorise.
    fn functions_of(level: Level) -> Functions {
        static LISTED: OnceLock<Option<[Functions; 2]>> = OnceLock::new();
        let listed = LISTED.get_or_init(|| {
            let program = std::env::current_exe().unwrap();
            let listing = Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(program).output().ok()?;
            assert!(listing.status.success(), "{}", String::from_utf8_lossy(&listing.stderr));
            let listing = String::from_utf8_lossy(&listing.stdout);
            Some(LEVELS.map(|level| codes(&listing, level)))
        });
        let Some(listed) = listed else {
            println!("objdump is not here: nothing is looked at");
            return Vec::new();
        };
        let functions = &listed[LEVELS.iter().position(|of| *of == level).expect("a level that is listed")];
        assert!(!functions.is_empty(), "{level:?}: a program that keeps its symbols has functions of it");
        if functions.iter().all(|(_, code)| code.packed == 0) {
            println!("{level:?}: this build does not vectorise: nothing is looked at");
            return Vec::new();
        }
        functions.clone()
    }

    /// What stands in a listing of the functions of a level.
    fn codes(listing: &str, level: Level) -> Functions {
        let (name, register) = if level == Level::Avx512 { ("6avx512", "%zmm") } else { ("4avx2", "%ymm") };
        let mut codes: Functions = Vec::new();
        let mut is_of_level = false;
        for line in listing.lines() {
            if line.ends_with(">:") {
                is_of_level = line.contains("cpu4simd") && line.contains(name);
                codes.extend(is_of_level.then(|| (line.to_owned(), Code::default())));
            } else if let Some((_, code)) = codes.last_mut().filter(|_| is_of_level) {
                let is_wide = line.contains(register);
                let multiplies = line.contains("vfmadd") && line.contains("ps ");
                code.packed += usize::from(multiplies);
                code.wide += usize::from(multiplies && is_wide);
                code.spills |= is_wide && line.contains("(%rsp)");
                code.choices += usize::from(line.contains("vpblendm") || line.contains("vblendm"));
                code.moves += usize::from(MOVES.iter().any(|moves| line.contains(moves)));
            }
        }
        codes
    }

    #[test]
    fn the_compiler_keeps_every_tile_in_the_registers_of_its_level() {
        for level in LEVELS {
            let functions = functions_of(level);
            if functions.is_empty() {
                continue;
            }
            let Blocking { tile, panel: full, steps, .. } = Blocking::of_level(level);
            // Each step of k that is written out, and one of those that are left.
            let steps = if steps > 1 { steps + 1 } else { steps };
            let of_panel = |rows: usize, panel: usize| rows * (panel / level.lanes()) * steps;
            let all = || (1..=tile).flat_map(|rows| [of_panel(rows, full), of_panel(rows, full / 2)]);
            // Tiles of few rows are made of what is left, and of few instructions.
            for (rows, panel) in (tile / 2..=tile).flat_map(|rows| [(rows, full), (rows, full / 2)]) {
                let multiplications = of_panel(rows, panel);
                let is_tile =
                    |code: &Code| code.packed == multiplications && code.wide == multiplications && !code.spills;
                let count = functions.iter().filter(|(_, code)| is_tile(code)).count();
                // With the panel that follows brought closer, and without.
                let expected = 2 * all().filter(|&other| other == multiplications).count()
                    + narrow_tiles(level).iter().filter(|&&narrow| narrow == multiplications).count();
                let what = format!("{level:?}, {rows} rows of {panel}: {multiplications} in {count} functions");
                // Other loops have as few multiply-adds as half a panel's tiles.
                let is_had = if panel == full { count == expected } else { count >= expected };
                assert!(is_had, "{what}, not {expected}; {ADVICE}");
            }
        }
    }

    /// The multiply-adds of each number of few target channels.
    fn narrow_tiles(level: Level) -> Vec<usize> {
        (1..FEW).map(|channels| channels * narrow::tile(level.lanes(), channels) / level.lanes()).collect()
    }

    #[test]
    fn the_compiler_keeps_the_sums_of_few_target_channels_in_registers() {
        for level in LEVELS {
            let functions = functions_of(level);
            let narrow = narrow_tiles(level);
            for multiplications in narrow.iter().filter(|_| !functions.is_empty()) {
                let is_tile =
                    |code: &Code| code.packed == *multiplications && code.wide == *multiplications && !code.spills;
                let count = functions.iter().filter(|(_, code)| is_tile(code)).count();
                let least = narrow.iter().filter(|other| *other == multiplications).count();
                assert!(count >= least, "{level:?}: {multiplications} multiply-adds in {count} functions; {ADVICE}");
            }
        }
    }

    #[test]
    fn the_compiler_makes_one_multiply_add_of_every_row_that_chooses() {
        let functions = functions_of(Level::Avx512);
        // Of panels of both widths, with and without what is brought closer; tiles of few rows may be written out several times. The last row's
        // choice may be a masked move.
        for rows in chosen::TILE / 2 + 1..=chosen::TILE {
            let is_tile =
                |code: &Code| (code.packed, code.wide) == (rows, rows) && (rows - 1..=rows).contains(&code.choices);
            let count = functions.iter().filter(|(_, code)| is_tile(code)).count();
            assert!(functions.is_empty() || count >= 4, "{rows} rows: {count} functions; {ADVICE}");
        }
    }

    #[test]
    fn the_compiler_makes_whole_vectors_of_the_channels_of_groups() {
        // Four positions and one, of two lines of channels each and of one; with fewer registers only of one, which takes two.
        for (level, multiplications) in [(Level::Avx512, 15), (Level::Avx2, 10)] {
            let functions = functions_of(level);
            let is_whole = |code: &Code| code.packed == multiplications && code.wide == multiplications;
            let count = functions.iter().filter(|(_, code)| is_whole(code)).count();
            let others = narrow_tiles(level).iter().filter(|&&narrow| narrow == multiplications).count();
            assert!(functions.is_empty() || count > others, "{level:?}: {count} functions; {ADVICE}");
        }
    }

    #[test]
    fn the_compiler_makes_vectors_of_neighbours() {
        // A loop over blocks that it takes for one over their elements moves each of hundreds into its lane and back. What turns blocks of
        // 8 × 16 elements on purpose takes 104 moves.
        const MOST: usize = 128;
        for level in LEVELS {
            for (name, code) in functions_of(level) {
                assert!(code.moves <= MOST, "{level:?}: {} moves between lanes in {name}; {ADVICE}", code.moves);
            }
        }
    }
}
