//! Whose memory is being allocated: the simulator's, or that of core inside a node.
//!
//! Owns a mark of the current thread and two sums; the binary's allocator reads the one and writes the other, and where
//! there is no such allocator nothing happens. The invariant: while core runs, and while nothing that it calls back does
//! work of the simulator's, the mark says core.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whose memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The simulator's: queue, disks, oracles, answers.
    Simulator,
    /// Core's: what a node's tables hold.
    Core,
}

thread_local! {
    static SIDE: Cell<Side> = const { Cell::new(Side::Simulator) };
}

static BYTES: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Bytes allocated now by one side, as far as an allocator counts them.
#[must_use]
pub fn bytes(side: Side) -> usize {
    BYTES[side as usize].load(Ordering::Relaxed)
}

/// An allocator allocated so many bytes.
pub fn allocated(bytes: usize) {
    BYTES[SIDE.get() as usize].fetch_add(bytes, Ordering::Relaxed);
}

/// An allocator freed so many bytes. Memory is freed on the side on which it was allocated.
pub fn freed(bytes: usize) {
    BYTES[SIDE.get() as usize].fetch_sub(bytes, Ordering::Relaxed);
}

/// Does work of one side.
pub fn on<T>(side: Side, work: impl FnOnce() -> T) -> T {
    let before = SIDE.replace(side);
    let done = work();
    SIDE.set(before);
    done
}

#[cfg(test)]
mod tests {
    use super::{SIDE, Side, on};

    #[test]
    fn the_side_is_what_it_was_once_the_work_is_done() {
        let inner = on(Side::Core, || on(Side::Simulator, || SIDE.get()));
        assert_eq!((inner, SIDE.get()), (Side::Simulator, Side::Simulator));
        assert_eq!(on(Side::Core, || SIDE.get()), Side::Core);
    }
}
