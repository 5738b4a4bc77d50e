//! A vector with a limit, in place ([`Fixed`]) or on the heap ([`Grown`]).
//!
//! The other containers of this module are built on it. It does not hand out stable places:
//! removing moves what follows. The length never exceeds [`List::CAPACITY`].

use core::slice;

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

/// A vector that holds at most [`CAPACITY`](List::CAPACITY) elements.
///
/// ```
/// use strandline_core::bounded::{Fixed, List};
///
/// let mut list: Fixed<u8, 2> = Fixed::EMPTY;
/// assert_eq!(list.push(1), Ok(()));
/// assert_eq!(list.push(2), Ok(()));
/// assert_eq!(list.push(3), Err(3));
/// assert_eq!(list.as_slice(), [1, 2]);
/// ```
pub trait List<T>: Sized {
    /// A list of no elements.
    const EMPTY: Self;

    /// The most elements that the list ever holds.
    const CAPACITY: usize;

    /// Whether more elements take more memory; else the places for all of them are there from the beginning.
    const GROWS: bool = false;

    /// Shows the elements in order.
    fn as_slice(&self) -> &[T];

    /// Shows the elements in order, to change them.
    fn as_mut_slice(&mut self) -> &mut [T];

    /// Appends an element.
    ///
    /// # Errors
    /// Gives `value` back when the list is full, or when the allocator has no memory for it.
    fn push(&mut self, value: T) -> Result<(), T>;

    /// Puts an element at the place `at`; what was there and behind it moves back by one.
    ///
    /// # Errors
    /// Gives `value` back when `at` is beyond the end, when the list is full, or when the
    /// allocator has no memory for it.
    fn insert(&mut self, at: usize, value: T) -> Result<(), T>;

    /// Takes the last element.
    fn pop(&mut self) -> Option<T>;

    /// Takes the element at `at`; what is behind it moves forward by one.
    fn remove(&mut self, at: usize) -> Option<T>;

    /// Takes the element at `at`; the last element moves to its place.
    fn swap_remove(&mut self, at: usize) -> Option<T>;

    /// Drops the elements from place `len` on, if there are any.
    fn truncate(&mut self, len: usize);

    /// Drops all elements.
    fn clear(&mut self) {
        self.truncate(0);
    }

    /// Drops all elements and gives back the memory that they took, if the list took any for them.
    fn release(&mut self) {
        *self = Self::EMPTY;
    }

    /// Counts the elements.
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Tells whether there are no elements.
    fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Tells whether the list holds as many elements as it may.
    fn is_full(&self) -> bool {
        self.len() >= Self::CAPACITY
    }

    /// Shows the element at `at`.
    fn get(&self, at: usize) -> Option<&T> {
        self.as_slice().get(at)
    }

    /// Shows the element at `at`, to change it.
    fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.as_mut_slice().get_mut(at)
    }

    /// Shows the first element.
    fn first(&self) -> Option<&T> {
        self.as_slice().first()
    }

    /// Shows the last element.
    fn last(&self) -> Option<&T> {
        self.as_slice().last()
    }

    /// Walks over the elements in order.
    fn iter(&self) -> slice::Iter<'_, T> {
        self.as_slice().iter()
    }

    /// Walks over the elements in order, to change them.
    fn iter_mut(&mut self) -> slice::IterMut<'_, T> {
        self.as_mut_slice().iter_mut()
    }

    /// Drops the elements for which `keep` does not hold. The others stay in order.
    fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut kept = 0;
        for at in 0..self.len() {
            if self.get(at).is_some_and(&mut keep) {
                // `kept <= at < len`: both places exist.
                self.as_mut_slice().swap(kept, at);
                kept += 1;
            }
        }
        self.truncate(kept);
    }
}

/// A [`List`] of `N` places that lie inside the value itself.
#[derive(Clone, Debug)]
pub struct Fixed<T, const N: usize>(heapless::Vec<T, N>);

impl<T, const N: usize> List<T> for Fixed<T, N> {
    const EMPTY: Self = Self(heapless::Vec::new());
    const CAPACITY: usize = N;

    fn as_slice(&self) -> &[T] {
        self.0.as_slice()
    }

    fn as_mut_slice(&mut self) -> &mut [T] {
        self.0.as_mut_slice()
    }

    fn push(&mut self, value: T) -> Result<(), T> {
        self.0.push(value)
    }

    fn insert(&mut self, at: usize, value: T) -> Result<(), T> {
        if at > self.0.len() {
            return Err(value);
        }
        self.0.insert(at, value)
    }

    fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    fn remove(&mut self, at: usize) -> Option<T> {
        (at < self.0.len()).then(|| self.0.remove(at))
    }

    fn swap_remove(&mut self, at: usize) -> Option<T> {
        (at < self.0.len()).then(|| self.0.swap_remove(at))
    }

    fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut at = 0;
        while let Some(element) = self.0.get(at) {
            if keep(element) {
                at += 1;
            } else {
                self.remove(at);
            }
        }
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

/// A [`List`] on the heap that grows on demand, up to `N` places.
///
/// An empty one owns no memory, and a growing one takes a quarter as much again, at least two places:
/// a simulation holds very many small ones.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct Grown<T, const N: usize>(Vec<T>);

#[cfg(feature = "alloc")]
impl<T, const N: usize> Grown<T, N> {
    /// Sees to it that one more element fits without allocating; false when it cannot.
    fn make_room(&mut self) -> bool {
        let len = self.0.len();
        if len >= N {
            return false;
        }
        len < self.0.capacity() || {
            let more = (len / 4).max(2).min(N - len);
            self.0.try_reserve_exact(more).is_ok()
        }
    }
}

#[cfg(feature = "alloc")]
impl<T, const N: usize> List<T> for Grown<T, N> {
    const EMPTY: Self = Self(Vec::new());
    const CAPACITY: usize = N;
    const GROWS: bool = true;

    fn as_slice(&self) -> &[T] {
        self.0.as_slice()
    }

    fn as_mut_slice(&mut self) -> &mut [T] {
        self.0.as_mut_slice()
    }

    fn push(&mut self, value: T) -> Result<(), T> {
        if !self.make_room() {
            return Err(value);
        }
        self.0.push(value);
        Ok(())
    }

    fn insert(&mut self, at: usize, value: T) -> Result<(), T> {
        if at > self.0.len() || !self.make_room() {
            return Err(value);
        }
        self.0.insert(at, value);
        Ok(())
    }

    fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    fn remove(&mut self, at: usize) -> Option<T> {
        (at < self.0.len()).then(|| self.0.remove(at))
    }

    fn swap_remove(&mut self, at: usize) -> Option<T> {
        (at < self.0.len()).then(|| self.0.swap_remove(at))
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses_beyond_its_capacity<L: List<u8>>() {
        let mut list = L::EMPTY;
        for value in 0..3 {
            assert_eq!(list.push(value), Ok(()));
        }
        assert!(list.is_full());
        assert_eq!(list.push(9), Err(9));
        assert_eq!(list.insert(0, 9), Err(9));
        assert_eq!(list.as_slice(), [0, 1, 2]);
    }

    fn places_that_do_not_exist_are_refused<L: List<u8>>() {
        let mut list = L::EMPTY;
        assert_eq!(list.insert(1, 9), Err(9));
        assert_eq!(list.push(1), Ok(()));
        assert_eq!(list.remove(1), None);
        assert_eq!(list.swap_remove(usize::MAX), None);
        assert_eq!(list.get(1), None);
        list.truncate(usize::MAX);
        assert_eq!(list.as_slice(), [1]);
    }

    #[test]
    fn fixed_refuses() {
        refuses_beyond_its_capacity::<Fixed<u8, 3>>();
        places_that_do_not_exist_are_refused::<Fixed<u8, 3>>();
        let mut none = Fixed::<u8, 0>::EMPTY;
        assert_eq!(none.push(1), Err(1));
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn grown_refuses() {
        refuses_beyond_its_capacity::<Grown<u8, 3>>();
        places_that_do_not_exist_are_refused::<Grown<u8, 3>>();
        let mut none = Grown::<u8, 0>::EMPTY;
        assert_eq!(none.push(1), Err(1));
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn grown_takes_little_memory_when_small_and_none_beyond_its_bound() {
        let mut list = Grown::<u32, 100>::EMPTY;
        assert_eq!(list.0.capacity(), 0);
        for value in 0..100 {
            assert_eq!(list.push(value), Ok(()));
            let len = list.len();
            assert!(
                list.0.capacity() <= (len + 1 + len / 4).min(100),
                "at {len}"
            );
        }
    }

    #[test]
    fn retain_keeps_the_order_and_asks_once_about_each() {
        let mut list = Fixed::<u8, 6>::EMPTY;
        for value in [5, 2, 4, 1, 6, 3] {
            assert_eq!(list.push(value), Ok(()));
        }
        let mut asked = 0;
        list.retain(|value| {
            asked += 1;
            value % 2 == 0
        });
        assert_eq!((asked, list.as_slice()), (6, [2, 4, 6].as_slice()));
    }
}
