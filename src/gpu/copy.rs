//! Bytes between a caller's memory and mapped memory, by several threads where there are many: one alone takes longer than a
//! fast device computes, most of it for pages that the system hands out as they are first written to.

use wgpu::WriteOnly;

use crate::sharing::{share, threads_for};

/// Bytes that one thread copies at a time.
const PIECE: usize = 1 << 20;

/// Copies to a caller's memory.
pub(super) fn copy_down(from: &[u8], to: &mut [u8]) {
    let pieces = to.chunks_mut(PIECE).zip(from.chunks(PIECE)).collect();
    share(pieces, threads_for(from.len()), |(to, from): (&mut [u8], &[u8])| to.copy_from_slice(from));
}

/// Copies to mapped memory.
pub(super) fn copy_up(from: &[u8], to: WriteOnly<'_, [u8]>) {
    // As arrays, because slices of mapped memory cannot be sent to other threads.
    let (pieces, mut rest) = to.into_chunks::<PIECE>();
    let (given, given_rest) = from.as_chunks::<PIECE>();
    let copy =
        |(to, from): (WriteOnly<'_, [u8; PIECE]>, &[u8; PIECE])| WriteOnly::<[u8]>::from(to).copy_from_slice(from);
    share(pieces.into_iter().zip(given).collect(), threads_for(from.len()), copy);
    rest.copy_from_slice(given_rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_copied_both_ways() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5] {
            let given: Vec<u8> = (0..length).map(|position| (position % 251) as u8).collect();
            let (mut down, mut up) = (vec![255; length], vec![255; length]);
            copy_down(&given, &mut down);
            copy_up(&given, WriteOnly::from(up.as_mut_slice()));
            assert!(down == given && up == given, "{length} bytes");
        }
    }
}
