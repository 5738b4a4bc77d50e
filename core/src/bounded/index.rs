//! Finds a slot by the content of its entry, without a walk over a hash table.
//!
//! An index stands beside a [`Slab`](super::Slab) and holds slot numbers only; whoever owns both
//! keeps them in step: [`insert`](Index::insert) after an entry came, [`remove`](Index::remove)
//! before it goes or changes its hash. It does not hash: keys are hashes already, and the caller
//! mixes a secret into them, so that a stranger cannot choose keys that collide here.
//!
//! Invariant: both kinds find the same slot, so that a plan decides about memory and speed only.

#[cfg(feature = "alloc")]
use hashbrown::hash_table::{Entry, HashTable};

/// A hash table that had more places than this gives them back when it is empty.
#[cfg(feature = "alloc")]
const PLACES_KEPT: usize = 16;

/// A way from the hash of an entry to its slot.
pub trait Index: Sized {
    /// An index of no slots.
    const EMPTY: Self;

    /// Finds the lowest slot below `slots` that was entered under `hash` and for which `is`
    /// holds.
    ///
    /// `is` must compare the content: it is asked about every slot that might do, which for
    /// [`Scan`] means all of them, the free ones too, and for [`Hashed`] those whose hashes agree
    /// in a few bits.
    fn find(&self, hash: u64, slots: usize, is: impl FnMut(usize) -> bool) -> Option<usize>;

    /// Enters a slot under `hash`; several slots may share one. Entering it again changes
    /// nothing.
    ///
    /// The index does not grow beyond the number of slots in the table beside it, provided that
    /// a slot is removed before it is entered under another hash. `rehash` tells the hash under
    /// which a slot was entered; it is asked about slots that are in the index.
    fn insert(&mut self, hash: u64, slot: usize, rehash: impl Fn(usize) -> u64);

    /// Forgets a slot that was entered under `hash`. Changes nothing if it was not.
    fn remove(&mut self, hash: u64, slot: usize);

    /// Forgets all slots.
    fn clear(&mut self);
}

/// An [`Index`] that takes no memory and looks at one slot after the other.
#[derive(Clone, Copy, Debug)]
pub struct Scan;

impl Index for Scan {
    const EMPTY: Self = Self;

    fn find(&self, _hash: u64, slots: usize, mut is: impl FnMut(usize) -> bool) -> Option<usize> {
        (0..slots).find(|&slot| is(slot))
    }

    fn insert(&mut self, _hash: u64, _slot: usize, _rehash: impl Fn(usize) -> u64) {}

    fn remove(&mut self, _hash: u64, _slot: usize) {}

    fn clear(&mut self) {}
}

/// An [`Index`] that is a hash table of slot numbers, four bytes and a control byte each.
///
/// Like any collection of the standard library it ends the process if the allocator has no
/// memory left.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct Hashed(HashTable<u32>);

#[cfg(feature = "alloc")]
impl Index for Hashed {
    const EMPTY: Self = Self(HashTable::new());

    fn find(&self, hash: u64, slots: usize, mut is: impl FnMut(usize) -> bool) -> Option<usize> {
        // The order of this walk differs between machines; the lowest does not.
        let mut lowest = None;
        for &slot in self.0.iter_hash(hash) {
            let slot = slot as usize;
            if slot < lowest.unwrap_or(slots) && is(slot) {
                lowest = Some(slot);
            }
        }
        lowest
    }

    fn insert(&mut self, hash: u64, slot: usize, rehash: impl Fn(usize) -> u64) {
        // A slab has less than 2^32 slots: the conversion never fails.
        let Ok(slot) = u32::try_from(slot) else {
            return;
        };
        match self.0.entry(
            hash,
            |&entered| entered == slot,
            |&entered| rehash(entered as usize),
        ) {
            Entry::Vacant(vacant) => {
                vacant.insert(slot);
            }
            Entry::Occupied(_) => {}
        }
    }

    fn remove(&mut self, hash: u64, slot: usize) {
        if let Ok(entry) = self.0.find_entry(hash, |&entered| entered as usize == slot) {
            entry.remove();
        }
        if self.0.is_empty() && self.0.capacity() > PLACES_KEPT {
            self.0 = HashTable::new();
        }
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASHES: [u64; 5] = [7, 9, 7, 7, 9];

    fn finds_the_lowest_slot_that_fits<I: Index>() {
        let mut index = I::EMPTY;
        for (slot, &hash) in HASHES.iter().enumerate().rev() {
            index.insert(hash, slot, |slot| HASHES.get(slot).copied().unwrap_or(0));
        }
        let under = |hash: u64| move |slot: usize| HASHES.get(slot) == Some(&hash);
        assert_eq!(index.find(7, 5, under(7)), Some(0));
        assert_eq!(index.find(9, 5, under(9)), Some(1));
        assert_eq!(index.find(7, 5, |slot| slot > 0 && under(7)(slot)), Some(2));
        assert_eq!(index.find(9, 1, under(9)), None, "beyond the slots in use");
        assert_eq!(index.find(8, 5, under(8)), None);
    }

    #[test]
    fn scan_finds() {
        finds_the_lowest_slot_that_fits::<Scan>();
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn hashed_finds_and_forgets() {
        finds_the_lowest_slot_that_fits::<Hashed>();
        let mut index = Hashed::EMPTY;
        for _ in 0..3 {
            index.insert(7, 4, |_| 7);
        }
        assert_eq!(index.0.len(), 1, "entering again changes nothing");
        index.remove(7, 5);
        assert_eq!(index.find(7, 9, |_| true), Some(4));
        index.remove(7, 4);
        index.remove(7, 4);
        assert_eq!(index.find(7, 9, |_| true), None);
    }
}
