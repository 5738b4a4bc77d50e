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

/// How much time one page of the calendar covers: 2^10 µs.
const PAGE_BITS: u32 = 10;
/// How many pages lie open ahead of the current one: four seconds, longer than nearly every delay of the network.
const PAGES: usize = 4_096;

/// Events in the order of their times.
///
/// A calendar: what is due on the current page lies in a small heap, what is due on the next `PAGES` in a list
/// each, unsorted until its page comes, and the rest in one large heap. Most events are datagrams, which are due
/// within a second: they cost a push and a sort among the few of their millisecond.
pub struct Queue<E> {
    current: BinaryHeap<Reverse<Entry<E>>>,
    /// The number of the current page.
    page: u64,
    ahead: Vec<Vec<Entry<E>>>,
    /// How many events lie in `ahead`.
    ahead_len: usize,
    far: BinaryHeap<Reverse<Entry<E>>>,
    now_us: u64,
    sequence: u64,
}

impl<E> Queue<E> {
    /// An empty queue at time 0.
    #[must_use]
    pub fn new() -> Self {
        Self {
            current: BinaryHeap::new(),
            page: 0,
            ahead: std::iter::repeat_with(Vec::new).take(PAGES).collect(),
            ahead_len: 0,
            far: BinaryHeap::new(),
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
        self.current.len() + self.ahead_len + self.far.len()
    }

    /// Whether no event is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts an event in; a time in the past counts as now.
    pub fn push(&mut self, at_us: u64, event: E) {
        let entry = Entry {
            at_us: at_us.max(self.now_us),
            sequence: self.sequence,
            event,
        };
        self.sequence += 1;
        self.file(entry);
    }

    /// Takes the next event due by `until_us` and moves the time to it.
    pub fn pop(&mut self, until_us: u64) -> Option<E> {
        while self.current.is_empty() {
            self.turn_page(until_us >> PAGE_BITS)?;
        }
        if self
            .current
            .peek()
            .is_none_or(|Reverse(entry)| entry.at_us > until_us)
        {
            return None;
        }
        let Reverse(entry) = self.current.pop()?;
        self.now_us = entry.at_us;
        Some(entry.event)
    }

    /// The event that [`pop`](Self::pop) takes next, if it is due within the current page.
    #[must_use]
    pub fn next(&self) -> Option<&E> {
        self.current.peek().map(|Reverse(entry)| &entry.event)
    }

    /// Moves the time forward, once everything due by then was taken.
    pub fn advance(&mut self, to_us: u64) {
        debug_assert!(
            self.current
                .peek()
                .is_none_or(|Reverse(entry)| entry.at_us >= to_us)
        );
        self.now_us = self.now_us.max(to_us);
    }

    /// Puts an entry where its page lies.
    fn file(&mut self, entry: Entry<E>) {
        let page = entry.at_us >> PAGE_BITS;
        if page <= self.page {
            self.current.push(Reverse(entry));
        } else if page - self.page < PAGES as u64 {
            self.ahead[place(page)].push(entry);
            self.ahead_len += 1;
        } else {
            self.far.push(Reverse(entry));
        }
    }

    /// Goes on to the next page, or at once to that of the first event if none lies open; `None` if that is after
    /// page `last`.
    fn turn_page(&mut self, last: u64) -> Option<()> {
        let next = if self.ahead_len > 0 {
            self.page + 1
        } else {
            self.far.peek()?.0.at_us >> PAGE_BITS
        };
        if next > last {
            return None;
        }
        self.page = next;
        let due = std::mem::take(&mut self.ahead[place(next)]);
        self.ahead_len -= due.len();
        self.current = due.into_iter().map(Reverse).collect();
        while let Some(Reverse(first)) = self.far.peek() {
            if (first.at_us >> PAGE_BITS) - self.page >= PAGES as u64 {
                break;
            }
            if let Some(Reverse(entry)) = self.far.pop() {
                self.file(entry);
            }
        }
        Some(())
    }
}

/// Where a page lies among those ahead.
fn place(page: u64) -> usize {
    // The remainder is below `PAGES`.
    usize::try_from(page % PAGES as u64).unwrap_or(0)
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
    fn the_calendar_gives_the_order_of_a_sorted_list() {
        let mut random = crate::sim::Random::new(4);
        let (mut queue, mut expected, mut got) = (Queue::new(), Vec::new(), Vec::new());
        let mut until_us = 0;
        for n in 0..20_000_u64 {
            // Within a page, within those ahead, far off, and hours away.
            let reach = [500, 100_000, 20_000_000, 10_000_000_000];
            let span = *random.pick(&reach).unwrap_or(&1);
            let at_us = queue.now_us() + random.below(span);
            queue.push(at_us, (at_us, n));
            expected.push((at_us, n));
            if random.below(3) == 0 {
                until_us = queue.now_us() + random.below(300_000);
                while let Some(event) = queue.pop(until_us) {
                    got.push(event);
                }
                queue.advance(until_us);
            }
        }
        assert_eq!(queue.len(), expected.len() - got.len());
        got.extend(std::iter::from_fn(|| queue.pop(u64::MAX)));
        expected.sort_unstable();
        assert!(got == expected, "until {until_us}");
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
