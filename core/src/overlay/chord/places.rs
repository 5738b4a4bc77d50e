//! The list of contacts: who has a place in it, and what it means that one comes or goes.
//!
//! Owns no state. Invariant: every contact is a successor, a predecessor or a finger, or was told as a neighbour and not yet
//! that it is none any more.

use crate::bounded::List;
use crate::id::{Distance, Key, NodeId};
use crate::overlay::{Entry, Overlay, Silent, Width};
use crate::time::{Deadline, Instant};

use super::upkeep::Timer;
use super::{CHECK_MS, Chord, FINGER_MS, MEND_MS, Predecessor, STABILISE_MS};

impl<L: List<Entry>, F: List<Silent>, W: Width> Chord<L, F, W> {
    /// The length of the successor list.
    pub(super) fn successors() -> usize {
        // One place at least is left for fingers.
        let most = (L::CAPACITY / 2).min(L::CAPACITY - 1 - Self::predecessors());
        W::successors().clamp(1, most)
    }

    /// How many predecessors are kept: as many as there are nodes whose keys this one holds too.
    pub(super) fn predecessors() -> usize {
        Self::replication()
    }

    /// How far an id is from the own one, clockwise.
    pub(super) fn place(&self, id: &NodeId) -> Distance {
        Distance::clockwise(self.own.as_bytes(), id.as_bytes())
    }

    /// The finger that an id can be: the power of two in its distance.
    pub(super) fn finger_of(&self, id: &NodeId) -> u8 {
        // The own id alone has none.
        u8::try_from(255_u32.saturating_sub(self.place(id).leading_zeros())).unwrap_or(0)
    }

    /// The place of the first contact at `key` or behind it, and before this node.
    pub(super) fn first_at(&self, key: &Key) -> usize {
        self.behind(&Distance::clockwise(self.own.as_bytes(), key.as_bytes()))
    }

    /// The place of the first contact at this distance or farther.
    pub(super) fn behind(&self, distance: &Distance) -> usize {
        self.entries
            .as_slice()
            .partition_point(|entry| self.place(&entry.contact.id) < *distance)
    }

    pub(super) fn place_of(&self, id: &NodeId) -> Option<usize> {
        let at = self.behind(&self.place(id));
        let entry = self.entries.get(at)?;
        (entry.contact.id == *id).then_some(at)
    }

    pub(super) fn find_mut(&mut self, id: &NodeId) -> Option<&mut Entry> {
        let at = self.place_of(id)?;
        self.entries.get_mut(at)
    }

    /// Whether an entry at place `at` of `len` is a successor, a predecessor or a finger: one of these if the one before
    /// it is a lesser finger.
    pub(super) fn is_useful(at: usize, len: usize, finger: u8, before: Option<u8>) -> bool {
        at < Self::successors()
            || at + Self::predecessors() >= len
            || before.is_none_or(|before| before < finger)
    }

    pub(super) fn finger_at(&self, place: Option<usize>) -> Option<u8> {
        place.and_then(|at| self.entries.get(at)).map(|e| e.bucket)
    }

    /// Whether a newcomer would find a place, and who has to go for it. Of a list without room the least finger goes.
    pub(super) fn room(&self, id: &NodeId) -> Result<Option<usize>, ()> {
        let (at, len) = (self.behind(&self.place(id)), self.entries.len());
        let before = self.finger_at(at.checked_sub(1));
        if !Self::is_useful(at, len + 1, self.finger_of(id), before) {
            return Err(());
        }
        if !self.entries.is_full() {
            return Ok(None);
        }
        // There are more places than successors and predecessors: at this one is a finger.
        let least = Self::successors();
        let is_less = at == least && at + Self::predecessors() < len;
        if is_less { Err(()) } else { Ok(Some(least)) }
    }

    /// Inserts an entry for which there is room, and drops who is of no use any more. False: there was no memory.
    pub(super) fn insert(&mut self, now: Instant, entry: Entry) -> bool {
        let id = entry.contact.id;
        let at = self.behind(&self.place(&id));
        if self.entries.insert(at, entry).is_err() {
            return false;
        }
        self.neighbours_changed = true;
        if at + 1 == self.entries.len() {
            self.begin_seeking(now);
        }
        self.drop_useless();
        for (timer, ms) in [
            (Timer::Stabilise, STABILISE_MS),
            (Timer::Check, CHECK_MS),
            (Timer::Finger, FINGER_MS),
        ] {
            if self.timer(timer).is_never() {
                self.set(timer, Deadline::at(now.after_ms(ms)));
            }
        }
        true
    }

    /// Drops contacts that are neither successors nor predecessors nor fingers any more. One that was told as a neighbour
    /// stays until it was told that it is none.
    pub(super) fn drop_useless(&mut self) {
        let mut at = Self::successors();
        while let Some(entry) = self.entries.get(at) {
            let before = self.finger_at(at.checked_sub(1));
            let len = self.entries.len();
            if entry.neighbour || Self::is_useful(at, len, entry.bucket, before) {
                at += 1;
            } else {
                self.entries.remove(at);
            }
        }
    }

    /// Takes the contact that `is` the one meant out. Where it was the predecessor or one of the next successors, the ring is
    /// mended.
    pub(super) fn take_out(&mut self, now: Instant, is: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let at = self.entries.iter().position(is)?;
        let entry = self.entries.remove(at)?;
        self.neighbours_changed = true;
        let was_last = at == self.entries.len();
        if was_last {
            if self.is_settled() {
                self.predecessor = Predecessor::Sought;
            }
            self.begin_seeking(now);
        }
        if self.entries.is_empty() {
            for timer in [Timer::Stabilise, Timer::Check, Timer::Finger] {
                self.set(timer, Deadline::NEVER);
            }
        } else if was_last || at < Self::replication() {
            self.set(Timer::Stabilise, Deadline::at(now.after_ms(MEND_MS)));
        }
        Some(entry)
    }
}
