//! The tables of the store, kept in step: bytes, entries, chains, index and tally.
//!
//! Mechanics only: what may be held is decided above. Records of one location form a chain in the order in which
//! they came. Invariants: entry and blob of a record have one slot number; every live entry is in the chain of its
//! location, once; the index holds the head of each chain and nothing else; every entry of a chain is marked spilled,
//! or none is.

use core::iter;

use super::entry::{Entry, Tags};
use super::tally::Tally;
use crate::addr::Source;
use crate::bounded::{BlobId, Blobs, Index, List};
use crate::id::Key;
use crate::plan::Plan;
use crate::rules::Rule;
use crate::time::Instant;
use crate::wire::record::Record;

/// A location, and its tag in this store.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) location: Key,
    tag: u32,
}

#[repr(C)] // The large last: a board reaches the first fields with short instructions.
pub(super) struct Table<P: Plan> {
    tags: Tags,
    /// As long as the highest slot of a blob so far.
    entries: P::RecordEntries,
    index: P::RecordIndex,
    sources: P::RecordSources,
    bytes: P::RecordBytes,
}

impl<P: Plan> Table<P> {
    pub(super) const EMPTY: Self = {
        // Links between entries have 16 bits.
        assert!(P::RecordBytes::SLOTS <= 1 << 16);
        assert!(P::RecordEntries::CAPACITY >= P::RecordBytes::SLOTS);
        Self {
            bytes: P::RecordBytes::EMPTY,
            entries: P::RecordEntries::EMPTY,
            index: P::RecordIndex::EMPTY,
            sources: P::RecordSources::EMPTY,
            tags: Tags::UNSEEDED,
        }
    };

    /// Drops everything; the tags follow from `secret` from then on.
    pub(super) fn start(&mut self, secret: u64) {
        self.bytes.clear();
        self.entries.clear();
        self.index.clear();
        self.sources.clear();
        self.tags = Tags::new(secret);
    }

    pub(super) const fn bytes(&self) -> &P::RecordBytes {
        &self.bytes
    }

    /// Counts the slots that were ever used.
    pub(super) fn slots(&self) -> usize {
        self.entries.len()
    }

    /// Shows the entry of a record; `None` for a free slot.
    pub(super) fn entry(&self, slot: usize) -> Option<&Entry> {
        self.entries.get(slot).filter(|entry| entry.is_live())
    }

    fn entry_mut(&mut self, slot: usize) -> Option<&mut Entry> {
        self.entries.get_mut(slot).filter(|entry| entry.is_live())
    }

    pub(super) fn id(&self, slot: usize) -> Option<BlobId> {
        self.bytes.id_at(slot)
    }

    /// The bytes of the record in a slot.
    pub(super) fn bytes_at(&self, slot: usize) -> Option<&[u8]> {
        self.bytes.get(self.id(slot)?)
    }

    /// Decodes the record in a slot; an error when there is none. Look at it where it lies: moving a record takes more
    /// of a board's flash than what is done with it.
    pub(super) fn record(&self, slot: usize) -> Result<Record<'_>, Rule> {
        Record::decode(self.bytes_at(slot).unwrap_or_default())
    }

    /// Computes where the record in a slot is held.
    pub(super) fn location(&self, slot: usize) -> Option<Key> {
        let entry = self.entry(slot)?;
        let (key, author) = Record::place(self.bytes_at(slot)?).ok()?;
        Some(key.shard::<P::Crypto>(&author, entry.depth()))
    }

    pub(super) fn place(&self, location: &Key) -> Place {
        Place {
            location: *location,
            tag: self.tags.location(location),
        }
    }

    /// Finds the slot of the first record at a place.
    pub(super) fn head(&self, place: &Place) -> Option<usize> {
        self.index
            .find(Entry::hash(place.tag), self.slots(), |slot| {
                let head = self.entry(slot).filter(|entry| entry.is_head());
                head.is_some_and(|entry| entry.location == place.tag)
                    && self.location(slot) == Some(place.location)
            })
    }

    /// Walks over the slots of a place, in the order in which the records came.
    pub(super) fn chain(&self, place: &Place) -> impl Iterator<Item = usize> + use<'_, P> {
        iter::successors(self.head(place), |&slot| self.after(slot))
    }

    /// The slot behind this one in the chain of their place.
    pub(super) fn after(&self, slot: usize) -> Option<usize> {
        self.entry(slot)?.next(slot)
    }

    /// Whether the record in a slot of its location is the one that `record` would replace.
    pub(super) fn is_same(&self, slot: usize, record: &Record<'_>) -> bool {
        let tag = self.tags.slot(&record.slot());
        self.entry(slot).is_some_and(|entry| entry.slot == tag)
            && matches!(&self.record(slot), Ok(held)
                // A value can be put at the very location of another key's shard.
                if held.key == record.key && held.slot() == record.slot())
    }

    /// The tag of a source; 0 for this node itself.
    pub(super) fn source_tag(&self, source: Option<Source>) -> u16 {
        source.map_or(0, |source| self.tags.source(source))
    }

    /// Counts the records that a source brought.
    pub(super) fn count_of(&self, source: u16) -> usize {
        let live = self.entries.iter().filter(|entry| entry.is_live());
        self.sources.count(source, live.map(|entry| entry.source))
    }

    /// Keeps a record at the end of its place's chain and returns its slot; `None`, and nothing changed, when there
    /// is no room or no memory.
    pub(super) fn insert(
        &mut self,
        place: &Place,
        record: &Record<'_>,
        source: u16,
        mut entry: Entry,
    ) -> Option<usize> {
        let last = self.chain(place).last();
        let id = self.bytes.insert(record.bytes)?;
        let slot = id.index();
        if !self.reach(slot) {
            self.bytes.remove(id);
            return None;
        }
        entry.location = place.tag;
        entry.slot = self.tags.slot(&record.slot());
        entry.source = source;
        entry.set_next(slot);
        let before = last.and_then(|last| self.entry_mut(last));
        let is_head = before.is_none();
        if let Some(before) = before {
            before.set_next(slot);
            // A mark is on every record of a place.
            if before.is_spilled() {
                entry.set_spilled();
            }
        }
        if let Some(free) = self.entries.get_mut(slot) {
            *free = entry;
        }
        if is_head {
            self.set_head(slot);
        }
        self.sources.add(source);
        Some(slot)
    }

    /// Sees to it that there is an entry for `slot`; false without memory.
    fn reach(&mut self, slot: usize) -> bool {
        while self.slots() <= slot {
            if self.entries.push(Entry::FREE).is_err() {
                return false;
            }
        }
        true
    }

    fn set_head(&mut self, slot: usize) {
        let Some(entry) = self.entry_mut(slot) else {
            return;
        };
        entry.set_head();
        let hash = Entry::hash(entry.location);
        let entries = &self.entries;
        let rehash = |slot| {
            let entry = entries.get(slot);
            entry.map_or(0, |entry| Entry::hash(entry.location))
        };
        self.index.insert(hash, slot, rehash);
    }

    /// Puts a newer record into the slot of an older one. False, and nothing changed, when there is no room or no
    /// memory.
    pub(super) fn replace(&mut self, slot: usize, record: &Record<'_>, expires: Instant) -> bool {
        let Some(id) = self.id(slot) else {
            return false;
        };
        let replaced = self.bytes.replace(id, record.bytes);
        if replaced && let Some(entry) = self.entry_mut(slot) {
            entry.set_expires(expires);
        }
        replaced
    }

    /// Drops the record in a slot. Returns its location if it was the last one there.
    pub(super) fn free(&mut self, slot: usize) -> Option<Key> {
        let place = self.place(&self.location(slot)?);
        let chain = self.chain(&place);
        let before = chain.take_while(|&other| other != slot).last();
        let entry = self.entry(slot)?;
        let (source, next) = (entry.source, entry.next(slot));
        match before {
            // The one before points at the next, or at itself if it is the last now.
            Some(before) => self.entry_mut(before)?.set_next(next.unwrap_or(before)),
            None => self.index.remove(Entry::hash(place.tag), slot),
        }
        if let Some(entry) = self.entries.get_mut(slot) {
            *entry = Entry::FREE;
        }
        self.sources.subtract(source);
        if let Some(id) = self.id(slot) {
            self.bytes.remove(id);
        }
        match (before, next) {
            (Some(_), _) => None,
            (None, Some(next)) => {
                self.set_head(next);
                None
            }
            (None, None) => Some(place.location),
        }
    }

    /// Marks a place as full, for as long as anything is held there. False if nothing is.
    pub(super) fn mark_spilled(&mut self, place: &Place) -> bool {
        let mut at = self.head(place);
        let held = at.is_some();
        while let Some(slot) = at {
            at = self.entry_mut(slot).and_then(|entry| {
                entry.set_spilled();
                entry.next(slot)
            });
        }
        held
    }

    /// Whether the index, on plans that have one, knows any slot for a location.
    #[cfg(test)]
    pub(super) fn is_indexed(&self, location: &Key) -> bool {
        let hash = Entry::hash(self.place(location).tag);
        let known = self.index.find(hash, self.slots(), |slot| {
            core::mem::size_of::<P::RecordIndex>() > 0 || self.entry(slot).is_some()
        });
        known.is_some()
    }
}
