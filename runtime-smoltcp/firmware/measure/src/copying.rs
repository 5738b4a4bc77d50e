//! Whether the firmware's own loops copy, fill and compare memory as they must, whatever the length, the alignment and the overlap.

use core::cmp::Ordering;
use core::hint::black_box;

/// The memory that things are copied in.
const LEN: usize = 96;
/// The longest copy: some words and every rest.
const LONGEST: usize = 19;
/// From here on, at each alignment, to everywhere around: before it, over it and behind it.
const FROM: usize = 40;

/// What lies at a place before anything is copied there.
fn pattern(at: usize) -> u8 {
    at.to_le_bytes()[0].wrapping_mul(31) ^ 0x5a
}

/// Writes and reads byte by byte: nothing of it becomes a call of what is checked.
struct Bytes([u8; LEN]);

impl Bytes {
    fn reset(&mut self) {
        for (at, byte) in self.0.iter_mut().enumerate() {
            // SAFETY: a reference is valid to write to.
            unsafe { core::ptr::write_volatile(byte, pattern(at)) };
        }
    }

    fn expect(&self, what: impl Fn(usize) -> u8) {
        for (at, byte) in self.0.iter().enumerate() {
            // SAFETY: a reference is valid to read from.
            let found = unsafe { core::ptr::read_volatile(byte) };
            assert_eq!(found, what(at), "at {at}");
        }
    }
}

/// Panics where a byte is not what it should be.
pub fn check() {
    let mut bytes = Bytes([0; LEN]);
    for len in 0..=LONGEST {
        for from in FROM..FROM + 4 {
            for to in FROM - LONGEST - 4..FROM + LONGEST + 8 {
                bytes.reset();
                bytes.0.copy_within(from..from + black_box(len), to);
                let is_new = |at: usize| (to..to + len).contains(&at);
                bytes.expect(|at| pattern(if is_new(at) { at + from - to } else { at }));
            }
            bytes.reset();
            if let Some(part) = bytes.0.get_mut(from..from + black_box(len)) {
                part.fill(black_box(0xc3));
            }
            let is_new = |at: usize| (from..from + len).contains(&at);
            bytes.expect(|at| if is_new(at) { 0xc3 } else { pattern(at) });
        }
        compare(len);
    }
}

/// Compares texts of this length that are equal, and that differ in one byte.
fn compare(len: usize) {
    let (low, mut high) = ([0x7f; LONGEST], [0x7f; LONGEST]);
    let order = |one: &[u8; LONGEST], other: &[u8; LONGEST]| {
        let cut = black_box(len);
        black_box(one)[..cut].cmp(&black_box(other)[..cut])
    };
    assert_eq!(order(&low, &high), Ordering::Equal, "{len} bytes");
    for at in 0..len {
        // The sign is that of bytes, not of signed ones.
        high[at] = 0x80;
        assert_eq!(order(&low, &high), Ordering::Less, "{len} bytes, {at}");
        assert_eq!(order(&high, &low), Ordering::Greater, "{len} bytes, {at}");
        high[at] = 0x7f;
    }
}
