//! Slots behind handles: a place that stays put, and notices when it was given to somebody else.
//!
//! A [`Handle`] is an index and a generation. Removing an entry raises the generation of its slot,
//! so that a handle kept from before finds nothing. The free slots form a list through the slots
//! themselves, so that insertion and removal take the same short time in a table of any size. It
//! does not find entries by content: that is what an [`Index`](super::Index) beside it is for.
//!
//! Memory that a burst needed is given back when the last entry goes, where the list is one that
//! takes memory as it grows. Invariants: a free slot keeps the generation that its next entry will get,
//! never 0; the free list holds each free slot once; `live` counts the occupied ones; while there are no
//! slots, `free` is a generation that no slot had.

use core::marker::PhantomData;
use core::mem;
use core::num::NonZeroU32;

use super::List;

/// A slab that had more slots than this gives them back when it is empty.
const SLOTS_KEPT: usize = 8;

/// Names one entry of a [`Slab`] for as long as it is there.
///
/// A handle whose entry is gone is stale: it finds nothing, also when the slot is in use again
/// (until the slot has been used 2^32 times more).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle {
    index: u32,
    /// Never 0, so that an `Option` of a handle is no longer than the handle, and all zero when it is empty.
    generation: NonZeroU32,
}

const _: () = assert!(size_of::<Option<Handle>>() == size_of::<Handle>());

impl Handle {
    /// Tells the slot: less than the capacity of the slab that the handle came from.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// Packs the handle into one number, never 0 for a handle that a slab gave out.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.generation.get() as u64) << 32 | self.index as u64
    }

    /// Unpacks what [`to_bits`](Self::to_bits) packed. Any other number, 0 among them, gives a
    /// handle that finds nothing or, if it happens to fit, some entry.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        let [g0, g1, g2, g3, i0, i1, i2, i3] = bits.to_be_bytes();
        match NonZeroU32::new(u32::from_be_bytes([g0, g1, g2, g3])) {
            Some(generation) => Self {
                index: u32::from_be_bytes([i0, i1, i2, i3]),
                generation,
            },
            // No slab has so many slots.
            None => Self {
                index: u32::MAX,
                generation: NonZeroU32::MIN,
            },
        }
    }
}

/// One slot of a [`Slab`]; what the list underneath is a list of.
#[derive(Clone, Debug)]
pub struct Slot<T> {
    generation: NonZeroU32,
    state: State<T>,
}

#[derive(Clone, Debug)]
enum State<T> {
    Occupied(T),
    /// Free; `next` is the next free slot, as [`Slab::free`] counts.
    Free {
        next: u32,
    },
}

impl<T> Slot<T> {
    fn value(&self) -> Option<&T> {
        match &self.state {
            State::Occupied(value) => Some(value),
            State::Free { .. } => None,
        }
    }

    fn value_mut(&mut self) -> Option<&mut T> {
        match &mut self.state {
            State::Occupied(value) => Some(value),
            State::Free { .. } => None,
        }
    }
}

/// A bounded table of entries behind [`Handle`]s. The list `L` gives the bound and the memory.
///
/// ```
/// use strandline_core::bounded::{Fixed, Slab, Slot};
///
/// let mut slab: Slab<&str, Fixed<Slot<&str>, 8>> = Slab::EMPTY;
/// let old = slab.insert("old")?;
/// slab.remove(old);
/// let new = slab.insert("new")?;
/// assert_eq!(new.index(), old.index());
/// assert_eq!(slab.get(old), None);
/// assert_eq!(slab.get(new), Some(&"new"));
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Debug)]
pub struct Slab<T, L> {
    slots: L,
    /// The free slot to use next, as its index plus one; 0 when none is free. While there are no slots: the
    /// generation of the first, or 0.
    free: u32,
    live: u32,
    entries: PhantomData<T>,
}

impl<T, L: List<Slot<T>>> Slab<T, L> {
    /// A slab of no entries.
    pub const EMPTY: Self = {
        // An index plus one fits a `u32`.
        assert!(
            L::CAPACITY < u32::MAX as usize,
            "a slab has less than 2^32 - 1 slots"
        );
        Self {
            slots: L::EMPTY,
            free: 0,
            live: 0,
            entries: PhantomData,
        }
    };

    /// Adds an entry, in the slot that became free last or else in a new one.
    ///
    /// # Errors
    /// Gives `value` back when the slab is full, or when the allocator has no memory for it.
    pub fn insert(&mut self, value: T) -> Result<Handle, T> {
        let Some((slot, handle)) = self.vacant() else {
            return Err(value);
        };
        slot.state = State::Occupied(value);
        Ok(handle)
    }

    /// Takes a slot from the free list, for the caller to fill; `None` when all are in use.
    fn vacant(&mut self) -> Option<(&mut Slot<T>, Handle)> {
        if self.free == 0 || (L::GROWS && self.slots.is_empty()) {
            self.add_slot();
        }
        // The free list holds slots that exist and are free: neither of the last two refusals happens.
        let index = self.free.checked_sub(1)?;
        let slot = self.slots.get_mut(index as usize)?;
        let State::Free { next } = slot.state else {
            return None;
        };
        self.free = next;
        self.live += 1;
        let handle = Handle {
            index,
            generation: slot.generation,
        };
        Some((slot, handle))
    }

    /// Adds a slot to a slab without a free one, if it may have more.
    fn add_slot(&mut self) {
        // After `give_back` nobody has a handle of the first slot's generation, or of a later one.
        let generation = match self.slots.first() {
            Some(first) if L::GROWS => first.generation,
            Some(_) => NonZeroU32::MIN,
            None => NonZeroU32::new(self.free).unwrap_or(NonZeroU32::MIN),
        };
        let slot = Slot {
            generation,
            state: State::Free { next: 0 },
        };
        if self.slots.push(slot).is_ok() {
            // The capacity fits a `u32`, see `EMPTY`.
            self.free = u32::try_from(self.slots.len()).unwrap_or(0);
        }
    }

    /// Takes an entry out; `None` when the handle is stale.
    pub fn remove(&mut self, handle: Handle) -> Option<T> {
        let slot = self.slots.get_mut(handle.index())?;
        if slot.generation != handle.generation {
            return None;
        }
        match mem::replace(&mut slot.state, State::Free { next: self.free }) {
            State::Occupied(value) => {
                slot.generation = slot.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
                self.free = handle.index + 1;
                self.live -= 1;
                self.give_back();
                Some(value)
            }
            // A handle that no slab gave out: the slot stays as it was.
            free @ State::Free { .. } => {
                slot.state = free;
                None
            }
        }
    }

    /// Drops an entry where it lies, without moving it as [`remove`](Self::remove) does; false when the
    /// handle is stale.
    pub fn discard(&mut self, handle: Handle) -> bool {
        let Some(slot) = self.slots.get_mut(handle.index()) else {
            return false;
        };
        if slot.generation != handle.generation || slot.value().is_none() {
            return false;
        }
        slot.state = State::Free { next: self.free };
        slot.generation = slot.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.free = handle.index + 1;
        self.live -= 1;
        self.give_back();
        true
    }

    /// Gives the memory of the slots back, if they were many and all are free. The generations go on from the
    /// highest, so that handles given out before stay stale.
    fn give_back(&mut self) {
        if !L::GROWS || self.live > 0 || self.slots.len() <= SLOTS_KEPT {
            return;
        }
        let generations = self.slots.iter().map(|slot| slot.generation.get());
        self.free = generations.max().unwrap_or(0);
        self.slots.release();
    }

    /// Drops all entries; every handle given out is stale from then on.
    pub fn clear(&mut self) {
        for index in (0..self.slots()).rev() {
            if let Some(handle) = self.handle_at(index) {
                self.discard(handle);
            }
        }
    }

    /// Shows an entry; `None` when the handle is stale.
    #[must_use]
    pub fn get(&self, handle: Handle) -> Option<&T> {
        let slot = self.slots.get(handle.index())?;
        if slot.generation == handle.generation {
            slot.value()
        } else {
            None
        }
    }

    /// Shows an entry, to change it; `None` when the handle is stale.
    #[must_use]
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let slot = self.slots.get_mut(handle.index())?;
        if slot.generation == handle.generation {
            slot.value_mut()
        } else {
            None
        }
    }

    /// Gives the handle of the entry in slot `index`, if it is occupied.
    #[must_use]
    pub fn handle_at(&self, index: usize) -> Option<Handle> {
        self.at(index).map(|(handle, _)| handle)
    }

    /// Shows the entry in slot `index`, if it is occupied.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<(Handle, &T)> {
        let slot = self.slots.get(index)?;
        Some((handle(index, slot.generation)?, slot.value()?))
    }

    /// Shows the entry in slot `index`, to change it, if it is occupied.
    #[must_use]
    pub fn at_mut(&mut self, index: usize) -> Option<(Handle, &mut T)> {
        let slot = self.slots.get_mut(index)?;
        Some((handle(index, slot.generation)?, slot.value_mut()?))
    }

    /// Finds the first entry in slot `index` or behind it, so that a sweep can stop and go on
    /// later. Looks at each slot on the way.
    #[must_use]
    pub fn first_from(&self, index: usize) -> Option<Handle> {
        (index..self.slots()).find_map(|index| self.handle_at(index))
    }

    /// Walks over the entries, by ascending slot.
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let value = slot.value()?;
            Some((handle(index, slot.generation)?, value))
        })
    }

    /// Walks over the entries, by ascending slot, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Handle, &mut T)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(index, slot)| {
                let handle = handle(index, slot.generation)?;
                Some((handle, slot.value_mut()?))
            })
    }

    /// Counts the entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live as usize
    }

    /// Tells whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Tells whether the slab holds as many entries as it may.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= L::CAPACITY
    }

    /// Tells the most entries that the slab ever holds.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        L::CAPACITY
    }

    /// Counts the slots there are: every entry is in a slot below this.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }
}

/// The handle of a slot of a slab; `None` for no slot that exists.
fn handle(index: usize, generation: NonZeroU32) -> Option<Handle> {
    Some(Handle {
        index: u32::try_from(index).ok()?,
        generation,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::super::Fixed;
    use super::*;

    type Small = Slab<u8, Fixed<Slot<u8>, 3>>;

    #[test]
    fn a_full_slab_refuses_and_a_freed_slot_is_used_again() {
        let mut slab = Small::EMPTY;
        let handles = [1, 2, 3].map(|value| slab.insert(value).unwrap());
        assert!(slab.is_full());
        assert_eq!(slab.insert(4), Err(4));
        let [_, middle, _] = handles;
        assert_eq!(slab.remove(middle), Some(2));
        let again = slab.insert(4).unwrap();
        assert_eq!(again.index(), 1);
        assert_eq!(slab.insert(5), Err(5));
        assert_eq!((slab.len(), slab.slots(), slab.capacity()), (3, 3, 3));
    }

    #[test]
    fn a_stale_handle_finds_nothing() {
        let mut slab = Small::EMPTY;
        let old = slab.insert(1).unwrap();
        assert_eq!(slab.remove(old), Some(1));
        assert_eq!(slab.remove(old), None);
        let new = slab.insert(2).unwrap();
        assert!(slab.get(old).is_none() && slab.get_mut(old).is_none());
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get(new), Some(&2));
    }

    #[test]
    fn what_is_discarded_is_as_gone_as_what_is_removed() {
        let mut slab = Small::EMPTY;
        let handles = [1, 2, 3].map(|value| slab.insert(value).unwrap());
        let [_, middle, _] = handles;
        assert!(slab.discard(middle));
        assert!(!slab.discard(middle), "stale");
        assert_eq!((slab.len(), slab.get(middle)), (2, None));
        let again = slab.insert(4).unwrap();
        assert_eq!(again.index(), middle.index());
        assert!(
            !slab.discard(middle),
            "stale, although its slot is used again"
        );
        assert_eq!(slab.get(again), Some(&4));
        assert_eq!(slab.insert(5), Err(5));
    }

    #[test]
    fn a_made_up_handle_does_not_break_the_free_list() {
        let mut slab = Small::EMPTY;
        let entry = slab.insert(1).unwrap();
        slab.remove(entry);
        // The generation that the next entry will get.
        let guess = Handle {
            generation: entry.generation.saturating_add(1),
            ..entry
        };
        assert_eq!(slab.get(guess), None);
        assert_eq!(slab.remove(guess), None);
        assert!(!slab.discard(guess));
        assert!((0..3).all(|value| slab.insert(value).is_ok()));
        assert_eq!(slab.insert(3), Err(3));
        assert_eq!(slab.get(Handle::from_bits(0)), None);
        assert_eq!(slab.get(Handle::from_bits(u64::MAX)), None);
    }

    #[test]
    fn generations_go_round_without_zero() {
        let mut slab = Small::EMPTY;
        slab.insert(1).unwrap();
        slab.slots.get_mut(0).unwrap().generation = NonZeroU32::MAX;
        let last = slab.handle_at(0).unwrap();
        assert_eq!(slab.remove(last), Some(1));
        let first = slab.insert(2).unwrap();
        assert_eq!(first.generation, NonZeroU32::MIN);
        assert_eq!(Handle::from_bits(last.to_bits()), last);
    }

    #[test]
    fn a_sweep_can_stop_and_go_on() {
        let mut slab = Small::EMPTY;
        let handles = [1, 2, 3].map(|value| slab.insert(value).unwrap());
        slab.remove(handles[0]);
        assert_eq!(slab.first_from(0), Some(handles[1]));
        assert_eq!(slab.first_from(2), Some(handles[2]));
        assert_eq!(slab.first_from(3), None);
        assert_eq!(slab.at(0), None);
        *slab.at_mut(1).unwrap().1 = 7;
        let seen: Fixed<(Handle, u8), 3> = slab.iter().fold(Fixed::EMPTY, |mut seen, (h, v)| {
            seen.push((h, *v)).unwrap();
            seen
        });
        assert_eq!(seen.as_slice(), [(handles[1], 7), (handles[2], 3)]);
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn a_burst_is_given_back_and_its_handles_stay_stale() {
        use super::super::Grown;

        const MANY: u8 = 100;
        let mut slab = Slab::<u8, Grown<Slot<u8>, 200>>::EMPTY;
        for round in 1..4 {
            let mut old = alloc::vec::Vec::new();
            for value in 0..MANY {
                old.push(slab.insert(value).unwrap());
                // One slot has seen more entries than the others.
                let again = slab.insert(value).unwrap();
                slab.remove(again);
            }
            assert!(slab.slots() > usize::from(MANY));
            for &handle in &old {
                assert!(slab.get(handle).is_some());
                assert!(slab.discard(handle), "round {round}");
            }
            assert_eq!((slab.slots(), slab.len()), (0, 0));
            let new: alloc::vec::Vec<_> = (0..=MANY)
                .map(|value| slab.insert(value).unwrap())
                .collect();
            assert!(old.iter().all(|&handle| slab.get(handle).is_none()));
            assert!(new.iter().all(|&handle| slab.remove(handle).is_some()));
        }
        let few = [1, 2].map(|value| slab.insert(value).unwrap());
        assert!(few.iter().all(|&handle| slab.remove(handle).is_some()));
        assert_eq!(slab.slots(), 2, "few are kept");
    }

    #[test]
    fn clear_makes_every_handle_stale() {
        let mut slab = Small::EMPTY;
        let handles = [1, 2].map(|value| slab.insert(value).unwrap());
        slab.clear();
        assert!(slab.is_empty());
        assert_eq!(slab.insert(9).unwrap().index(), 0);
        assert!(handles.iter().all(|&handle| slab.get(handle).is_none()));
    }
}
