//! The way to a contact in the list: where buckets begin, and which places an id may be at.
//!
//! Owns what is noted about the list beside it, so that most of a search touches a few bytes for each contact and not
//! the contacts themselves, which lie apart and in a large simulation in no cache. It does not change the list.
//! Invariant: both kinds find the same places, so that a plan decides about memory and speed only.

use core::ops::Range;

use crate::id::{NodeId, prefix64};
use crate::overlay::Entry;

#[cfg(feature = "alloc")]
use crate::bounded::{Grown, List};

/// Finds places in a list of contacts sorted by bucket. Whoever owns both keeps them in step.
pub trait Guide: Sized {
    /// The guide to an empty list.
    const EMPTY: Self;

    /// Whether the contacts of a full bucket are to be spread over its parts.
    const SPREADS: bool = false;

    /// Begins as the guide to an empty list of the node `own`.
    fn start(&mut self, own: &NodeId);

    /// The first place of a bucket that is `bucket` or deeper.
    fn bucket_start(&self, entries: &[Entry], bucket: u32) -> usize {
        entries.partition_point(|entry| u32::from(entry.bucket) < bucket)
    }

    /// The bucket of a place; the deepest behind the end.
    fn bucket_at(&self, entries: &[Entry], place: usize) -> u8 {
        entries.get(place).map_or(u8::MAX, |entry| entry.bucket)
    }

    /// The leading bits of the id at a place; 0 behind the end.
    fn prefix_at(&self, entries: &[Entry], place: usize) -> u32 {
        entries
            .get(place)
            .map_or(0, |entry| prefix32(&entry.contact.id))
    }

    /// The place of an id, if it is in this run of places.
    fn place_of(&self, entries: &[Entry], run: Range<usize>, id: &NodeId) -> Option<usize> {
        let start = run.start;
        // The one heard last is the most likely to be heard again.
        let at = entries
            .get(run)?
            .iter()
            .rposition(|entry| entry.contact.id == *id)?;
        Some(start + at)
    }

    /// An entry is going to be inserted at a place. False when there is no memory for that.
    #[must_use]
    fn insert(&mut self, at: usize, entry: &Entry) -> bool;

    /// The entry at a place, of this bucket, was taken out.
    fn remove(&mut self, at: usize, bucket: u8);

    /// The entry at the first place of a run went to its end.
    fn rotate(&mut self, run: Range<usize>);
}

/// The leading bits of an id.
pub(super) const fn prefix32(id: &NodeId) -> u32 {
    let [a, b, c, d, ..] = prefix64(id.as_bytes()).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// A [`Guide`] that takes no memory and looks at the contacts.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Guide for Plain {
    const EMPTY: Self = Self;

    fn start(&mut self, _own: &NodeId) {}

    fn insert(&mut self, _at: usize, _entry: &Entry) -> bool {
        true
    }

    fn remove(&mut self, _at: usize, _bucket: u8) {}

    fn rotate(&mut self, _run: Range<usize>) {}
}

/// Buckets whose beginnings [`Noted`] keeps; deeper ones are searched for among the last contacts. A network of a
/// million nodes has contacts in some 20.
#[cfg(feature = "alloc")]
const BUCKETS: usize = 32;

/// A [`Guide`] that keeps the beginning of each bucket and the leading bits of each id, `N` at most: four bytes for each
/// contact.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct Noted<const N: usize> {
    own: u32,
    /// How many contacts are in the buckets up to each of the first.
    ends: [u16; BUCKETS],
    prefixes: Grown<u32, N>,
}

#[cfg(feature = "alloc")]
impl<const N: usize> Guide for Noted<N> {
    const EMPTY: Self = {
        assert!(N < u16::MAX as usize, "places are 16 bits");
        Self {
            own: 0,
            ends: [0; BUCKETS],
            prefixes: Grown::EMPTY,
        }
    };
    const SPREADS: bool = true;

    fn start(&mut self, own: &NodeId) {
        *self = Self {
            own: prefix32(own),
            ..Self::EMPTY
        };
    }

    fn bucket_start(&self, entries: &[Entry], bucket: u32) -> usize {
        let Some(before) = bucket.checked_sub(1) else {
            return 0;
        };
        if let Some(&end) = self.ends.get(before as usize) {
            return usize::from(end);
        }
        let [.., shallow] = self.ends;
        let shallow = usize::from(shallow);
        let deep = entries.get(shallow..).unwrap_or_default();
        shallow + deep.partition_point(|entry| u32::from(entry.bucket) < bucket)
    }

    fn bucket_at(&self, entries: &[Entry], place: usize) -> u8 {
        let shared = self
            .prefixes
            .get(place)
            .map(|prefix| (prefix ^ self.own).leading_zeros());
        match shared.and_then(|bits| u8::try_from(bits).ok()) {
            Some(bits) if usize::from(bits) < BUCKETS => bits,
            // It shares all that is noted.
            Some(_) | None => entries.get(place).map_or(u8::MAX, |entry| entry.bucket),
        }
    }

    fn prefix_at(&self, _entries: &[Entry], place: usize) -> u32 {
        self.prefixes.get(place).copied().unwrap_or(0)
    }

    fn place_of(&self, entries: &[Entry], run: Range<usize>, id: &NodeId) -> Option<usize> {
        let (wanted, start) = (prefix32(id), run.start);
        let mut run = self.prefixes.as_slice().get(run)?;
        while let Some(at) = run.iter().rposition(|prefix| *prefix == wanted) {
            if entries
                .get(start + at)
                .is_some_and(|entry| entry.contact.id == *id)
            {
                return Some(start + at);
            }
            run = run.get(..at)?;
        }
        None
    }

    fn insert(&mut self, at: usize, entry: &Entry) -> bool {
        let fits = self.prefixes.insert(at, prefix32(&entry.contact.id));
        if fits.is_ok() {
            for end in self.ends.iter_mut().skip(usize::from(entry.bucket)) {
                // No more than `N` are counted.
                *end += 1;
            }
        }
        fits.is_ok()
    }

    fn remove(&mut self, at: usize, bucket: u8) {
        self.prefixes.remove(at);
        for end in self.ends.iter_mut().skip(usize::from(bucket)) {
            // The one taken out was counted.
            *end -= 1;
        }
    }

    fn rotate(&mut self, run: Range<usize>) {
        if let Some(run) = self.prefixes.as_mut_slice().get_mut(run)
            && !run.is_empty()
        {
            run.rotate_left(1);
        }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    extern crate alloc;

    use alloc::vec::Vec;

    use super::*;
    use crate::addr::PackedAddr;
    use crate::crypto::Ed25519;
    use crate::rng::{Rng, Seed};
    use crate::time::Instant;
    use crate::wire::datagram::{Contact, NO_TOKEN};

    const OWN: NodeId = NodeId::from_bytes([0x5a; 32]);

    fn entry(bucket: u8, rest: u8) -> Entry {
        let mut id = *OWN.as_bytes();
        let byte = id.get_mut(usize::from(bucket / 8)).unwrap();
        *byte ^= 0x80 >> (bucket % 8);
        *id.last_mut().unwrap() = rest;
        let contact = Contact {
            id: NodeId::from_bytes(id),
            addr: PackedAddr::NONE,
        };
        Entry::new(Instant::ZERO, contact, NO_TOKEN, None, bucket)
    }

    fn same(entries: &[Entry], noted: &Noted<100>) {
        for bucket in 0..=256 {
            assert_eq!(
                noted.bucket_start(entries, bucket),
                Plain.bucket_start(entries, bucket)
            );
        }
        for place in 0..=entries.len() {
            assert_eq!(
                noted.bucket_at(entries, place),
                Plain.bucket_at(entries, place)
            );
            assert_eq!(
                noted.prefix_at(entries, place),
                Plain.prefix_at(entries, place)
            );
            let all = 0..entries.len();
            let id = entries.get(place).map_or(OWN, |entry| entry.contact.id);
            let found = Plain.place_of(entries, all.clone(), &id);
            assert_eq!(noted.place_of(entries, all, &id), found);
        }
    }

    #[test]
    fn both_find_the_same_places_whatever_comes_and_goes() {
        let mut rng: Rng<Ed25519> = Rng::from_seed(&Seed([7; 32]));
        let (mut entries, mut noted) = (Vec::new(), Noted::<100>::EMPTY);
        noted.start(&OWN);
        // Near ones that differ only beyond what is noted are there as well.
        let buckets = [0, 1, 2, 7, 8, 30, 31, 32, 33, 200];
        for round in 0..600_u64 {
            let at = |len: usize, n: u64| usize::try_from(n).unwrap_or(0) % len.max(1);
            if entries.len() < 40 || round % 2 == 0 && entries.len() < 100 {
                let bucket = buckets.get(at(buckets.len(), rng.next_u64())).unwrap();
                let new = entry(*bucket, u8::try_from(round % 251).unwrap());
                let place = Plain.bucket_start(&entries, u32::from(*bucket) + 1);
                assert!(noted.insert(place, &new));
                entries.insert(place, new);
            } else if round % 3 == 0 {
                let place = at(entries.len(), rng.next_u64());
                let end =
                    Plain.bucket_start(&entries, u32::from(Plain.bucket_at(&entries, place)) + 1);
                entries.get_mut(place..end).unwrap().rotate_left(1);
                noted.rotate(place..end);
            } else {
                let place = at(entries.len(), rng.next_u64());
                noted.remove(place, entries.remove(place).bucket);
            }
            same(&entries, &noted);
        }
    }

    #[test]
    fn more_than_fit_are_refused() {
        let mut noted = Noted::<2>::EMPTY;
        noted.start(&OWN);
        assert!(noted.insert(0, &entry(3, 1)) && noted.insert(0, &entry(3, 2)));
        assert!(!noted.insert(0, &entry(3, 3)));
        assert_eq!(
            (noted.bucket_start(&[], 3), noted.bucket_start(&[], 4)),
            (0, 2)
        );
    }
}
