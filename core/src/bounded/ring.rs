//! A bounded queue: first in, first out, over the storage of a [`List`].
//!
//! What to do when it is full is left to the caller, who gets the refused element back.
//! Invariant: the `len` places from `head` on, going round at the end, are occupied, and no
//! others; where the list lies in place, all its places from the first on.

use core::marker::PhantomData;

use super::List;

/// A queue that had more places than this gives them back when it is empty.
const PLACES_KEPT: usize = 8;

/// A queue that holds at most as many elements as the list `L` has places.
///
/// Adding and taking cost the same whatever the length, apart from a few moves while the queue
/// reaches a length that it never had before. But where the list lies in place, taking moves all
/// others to the front: they are few, and a board has less code to hold.
///
/// ```
/// use strandline_core::bounded::{Fixed, Ring};
///
/// let mut ring: Ring<u8, Fixed<Option<u8>, 2>> = Ring::EMPTY;
/// assert_eq!(ring.push_back(1), Ok(()));
/// assert_eq!(ring.push_back(2), Ok(()));
/// assert_eq!(ring.push_back(3), Err(3));
/// assert_eq!(ring.pop_front(), Some(1));
/// ```
#[derive(Clone, Debug)]
pub struct Ring<T, L> {
    places: L,
    head: usize,
    len: usize,
    elements: PhantomData<T>,
}

impl<T, L: List<Option<T>>> Ring<T, L> {
    /// A queue of no elements.
    pub const EMPTY: Self = Self {
        places: L::EMPTY,
        head: 0,
        len: 0,
        elements: PhantomData,
    };

    /// Adds an element behind all others.
    ///
    /// # Errors
    /// Gives `value` back when the queue is full, or when the allocator has no memory for it.
    pub fn push_back(&mut self, value: T) -> Result<(), T> {
        if !L::GROWS {
            if self.places.is_full() {
                return Err(value);
            }
            // There is room.
            let _ = self.places.push(Some(value));
            return Ok(());
        }
        if self.len == self.places.len() {
            self.add_places();
        }
        if self.len == self.places.len() {
            return Err(value);
        }
        let at = self.place(self.len);
        // The place exists, see `place`.
        let Some(place) = self.places.get_mut(at) else {
            return Err(value);
        };
        *place = Some(value);
        self.len += 1;
        Ok(())
    }

    /// Takes the element that has been there longest.
    pub fn pop_front(&mut self) -> Option<T> {
        if !L::GROWS {
            return self.places.remove(0).flatten();
        }
        let value = self.places.get_mut(self.head)?.take()?;
        self.head = self.place(1);
        self.len -= 1;
        if self.len == 0 && self.places.len() > PLACES_KEPT {
            self.places.release();
            self.head = 0;
        }
        Some(value)
    }

    /// Shows the element that has been there longest.
    #[must_use]
    pub fn front(&self) -> Option<&T> {
        self.places.get(self.head())?.as_ref()
    }

    /// Shows the element that has been there longest, to change it.
    #[must_use]
    pub fn front_mut(&mut self) -> Option<&mut T> {
        self.places.get_mut(self.head())?.as_mut()
    }

    /// Walks over the elements, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        // `head` is a place, or 0 when there are none: the halves exist.
        let (round, straight) = self
            .places
            .as_slice()
            .split_at_checked(self.head())
            .unwrap_or_default();
        straight.iter().chain(round).flatten()
    }

    /// Walks over the elements, the oldest first, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        // As in `iter`.
        let head = self.head();
        let (round, straight) = self
            .places
            .as_mut_slice()
            .split_at_mut_checked(head)
            .unwrap_or_default();
        straight.iter_mut().chain(round).flatten()
    }

    /// Drops all elements.
    pub fn clear(&mut self) {
        self.places.clear();
        self.head = 0;
        self.len = 0;
    }

    /// Counts the elements.
    #[must_use]
    pub fn len(&self) -> usize {
        if L::GROWS {
            self.len
        } else {
            self.places.len()
        }
    }

    /// The place of the first element, if there is one.
    const fn head(&self) -> usize {
        if L::GROWS { self.head } else { 0 }
    }

    /// Tells whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells whether the queue holds as many elements as it may.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= L::CAPACITY
    }

    /// Tells the most elements that the queue ever holds.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        L::CAPACITY
    }

    /// The place of the element `nth` from the front, which exists if `nth` is less than the
    /// number of places.
    fn place(&self, nth: usize) -> usize {
        let places = self.places.len();
        // Both are at most the number of places, and no list is half the address space long.
        let at = self.head + nth;
        if at >= places { at - places } else { at }
    }

    /// Adds places to a queue that fills all it has: half as many again, so that the moves that make a gap for them are
    /// few in the long run.
    fn add_places(&mut self) {
        let before = self.places.len();
        for _ in 0..=self.len / 2 {
            if self.places.push(None).is_err() {
                break;
            }
        }
        let added = self.places.len() - before;
        if self.head == 0 || added == 0 {
            return;
        }
        // From `head` on they go to the new end; the last one first, where there is nothing yet.
        for at in (self.head..before).rev() {
            self.places.as_mut_slice().swap(at, at + added);
        }
        self.head += added;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Fixed;
    use super::*;

    type Small = Ring<u8, Fixed<Option<u8>, 3>>;

    #[test]
    fn a_full_ring_refuses_and_keeps_its_order_when_it_goes_round() {
        let mut ring = Small::EMPTY;
        for value in 0..20 {
            assert_eq!(ring.push_back(value), Ok(()));
            assert_eq!(ring.push_back(value + 100), Ok(()));
            assert_eq!(ring.push_back(value + 200), Ok(()));
            assert!(ring.is_full());
            assert_eq!(ring.push_back(255), Err(255));
            assert!(ring.iter().eq(&[value, value + 100, value + 200]));
            assert_eq!(ring.pop_front(), Some(value));
            assert_eq!(ring.front(), Some(&(value + 100)));
            assert_eq!(ring.pop_front(), Some(value + 100));
            assert_eq!(ring.pop_front(), Some(value + 200));
            assert_eq!(ring.pop_front(), None);
        }
    }

    #[test]
    fn elements_can_be_changed_in_order() {
        let mut ring = Small::EMPTY;
        for value in [1, 2, 3] {
            assert_eq!(ring.push_back(value), Ok(()));
        }
        assert_eq!(ring.pop_front(), Some(1));
        assert_eq!(ring.push_back(4), Ok(()));
        for (value, new) in ring.iter_mut().zip([12, 13, 14]) {
            *value = new;
        }
        if let Some(value) = ring.front_mut() {
            *value += 10;
        }
        assert!(ring.iter().eq(&[22, 13, 14]));
        ring.clear();
        assert!(ring.is_empty() && ring.front().is_none());
    }

    #[test]
    fn a_ring_without_places_refuses() {
        let mut ring = Ring::<u8, Fixed<Option<u8>, 0>>::EMPTY;
        assert_eq!(ring.push_back(1), Err(1));
        assert_eq!(ring.pop_front(), None);
        assert!(ring.iter_mut().next().is_none());
    }
}
