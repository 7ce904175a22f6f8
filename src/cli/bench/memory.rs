//! How much memory the process has held at most.
//!
//! Linux tells the high-water mark in a file. Elsewhere it takes a system call; the crates that make it safely
//! (`nix`, `memory-stats`) do so for some systems, or tell only what is held now, so there the mark is not told.

/// The most bytes that the process has held in memory so far, where the system tells.
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    mark.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_mark_rises_with_what_is_held() {
        let before = peak_bytes().unwrap();
        let held = std::hint::black_box(vec![1u8; before as usize]);
        assert!(peak_bytes().unwrap() > before, "{} more bytes are held", held.len());
    }
}
