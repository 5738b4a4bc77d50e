//! What is to be written to the host's storage, in order.
//!
//! Owns a queue of storage keys; the value of each is looked up when it is polled, so that an entry which changed twice
//! is written as it is now, and one that is gone is deleted. Invariant: numbers are given out in the order of the
//! queue, so `persisted(id)` speaks for everything queued before.

use crate::bounded::Ring;
use crate::id::UserId;
use crate::output::PersistId;
use crate::plan::{Plan, Uses};

use super::posts::PostId;

/// Places of the queue that are kept for own posts and people followed: one post takes two.
const KEPT_FREE: usize = 3;

/// The key of one storage entry to be written or, if it is gone by then, deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// The state of the own log.
    Log,
    /// An own post.
    Post(u64, PostId),
    /// Somebody followed.
    Following(UserId),
    /// A follower.
    Follower(UserId),
    /// The head of a copy.
    Copy(UserId),
    /// A post of a copy.
    CopyPost(UserId, u64, PostId),
}

/// The queue.
pub struct Persists<P: Plan> {
    queue: Ring<Entry, P::Persists>,
    /// The number of the last one queued.
    last: u64,
}

impl<P: Plan> Persists<P> {
    /// Nothing to write.
    pub const EMPTY: Self = Self {
        queue: Ring::EMPTY,
        last: 0,
    };

    /// How many more can be queued before the next drain. Whoever must not lose an entry asks first.
    #[must_use]
    pub fn room(&self) -> usize {
        if !P::Uses::STORAGE {
            return usize::MAX;
        }
        self.queue.capacity().saturating_sub(self.queue.len())
    }

    /// Queues an entry that may be lost: a copy, a follower, a cursor, which are found again in the network. It is not
    /// written when the queue is almost full: the last places are for what must not be lost.
    pub fn hint(&mut self, entry: Entry) {
        if self.room() > KEPT_FREE {
            let _ = self.push(entry);
        }
    }

    /// Queues an entry. `None` when the queue is full. Without storage nothing is, and everything counts as written.
    pub fn push(&mut self, entry: Entry) -> Option<PersistId> {
        if !P::Uses::STORAGE {
            return Some(PersistId(0));
        }
        self.queue.push_back(entry).ok()?;
        self.last = self.last.saturating_add(1);
        Some(PersistId(self.last))
    }

    /// A number for something that the host is to write next and that is not in the queue (which must be empty).
    pub fn next_id(&mut self) -> PersistId {
        self.last = self.last.saturating_add(1);
        PersistId(self.last)
    }

    /// Takes the entry that has waited longest, with its number.
    pub fn pop(&mut self) -> Option<(PersistId, Entry)> {
        // As many as are queued have the last numbers.
        let behind = u64::try_from(self.queue.len()).unwrap_or(0);
        let entry = self.queue.pop_front()?;
        let id = self.last.saturating_sub(behind).saturating_add(1);
        Some((PersistId(id), entry))
    }
}
