//! The one event queue of a world, ordered by time and then by when an event was put in.
//!
//! Owns the order and the current time; knows nothing about what an event means. The invariant: time never runs
//! backwards, and events of one time come out in the order in which they went in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

struct Entry<E> {
    at_us: u64,
    sequence: u64,
    event: E,
}

impl<E> Entry<E> {
    const fn order(&self) -> (u64, u64) {
        (self.at_us, self.sequence)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

/// Events in the order of their times.
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    now_us: u64,
    sequence: u64,
}

impl<E> Queue<E> {
    /// An empty queue at time 0.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            now_us: 0,
            sequence: 0,
        }
    }

    /// The current time in µs: that of the last event, or later.
    #[must_use]
    pub const fn now_us(&self) -> u64 {
        self.now_us
    }

    /// How many events are waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no event is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Puts an event in; a time in the past counts as now.
    pub fn push(&mut self, at_us: u64, event: E) {
        let at_us = at_us.max(self.now_us);
        self.heap.push(Reverse(Entry {
            at_us,
            sequence: self.sequence,
            event,
        }));
        self.sequence += 1;
    }

    /// Takes the next event due by `until_us` and moves the time to it.
    pub fn pop(&mut self, until_us: u64) -> Option<E> {
        if self
            .heap
            .peek()
            .is_none_or(|Reverse(entry)| entry.at_us > until_us)
        {
            return None;
        }
        let Reverse(entry) = self.heap.pop()?;
        self.now_us = entry.at_us;
        Some(entry.event)
    }

    /// Moves the time forward, once everything due by then was taken.
    pub fn advance(&mut self, to_us: u64) {
        debug_assert!(
            self.heap
                .peek()
                .is_none_or(|Reverse(entry)| entry.at_us >= to_us)
        );
        self.now_us = self.now_us.max(to_us);
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;

    #[test]
    fn events_come_by_time_and_then_in_order() {
        let mut queue = Queue::new();
        for (at, name) in [(20, "c"), (10, "a"), (20, "d"), (10, "b"), (30, "e")] {
            queue.push(at, name);
        }
        let order: String = std::iter::from_fn(|| queue.pop(25)).collect();
        assert_eq!(order, "abcd");
        assert_eq!((queue.now_us(), queue.len()), (20, 1));
        queue.advance(25);
        assert_eq!((queue.now_us(), queue.pop(25)), (25, None));
    }

    #[test]
    fn the_past_counts_as_now() {
        let mut queue = Queue::new();
        queue.push(10, "first");
        assert_eq!(queue.pop(u64::MAX), Some("first"));
        queue.push(3, "late");
        assert_eq!(queue.pop(u64::MAX), Some("late"));
        assert_eq!(queue.now_us(), 10);
    }
}
