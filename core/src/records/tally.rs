//! How many records each source brought: counted anew each time ([`Recount`]), or kept ([`Counts`]).
//!
//! Like [`Index`](crate::bounded::Index), a plan's choice between memory and speed. A source is known by the 16 bits
//! of its tag here: with a secret behind the tags, one of 65,536 pairs of sources shares its quota, and nobody can
//! choose which. Invariant: both kinds give the same counts.

#[cfg(feature = "alloc")]
use hashbrown::hash_table::{Entry, HashTable};

#[cfg(feature = "alloc")]
use super::entry::spread;

/// Counts the records of each source.
pub trait Tally: Sized {
    /// No records.
    const EMPTY: Self;

    /// Counts the records of `source`. `all` walks over the sources of all records, for a tally that keeps nothing.
    fn count(&self, source: u16, all: impl Iterator<Item = u16>) -> usize;

    /// Notes a record that came. There are never more than the store has slots, at most 65,536.
    fn add(&mut self, source: u16);

    /// Notes that a record of `source` went. Changes nothing if there was none.
    fn subtract(&mut self, source: u16);

    /// Notes that all records went.
    fn clear(&mut self);
}

/// A [`Tally`] that keeps nothing, for few records.
#[derive(Clone, Copy, Debug)]
pub struct Recount;

impl Tally for Recount {
    const EMPTY: Self = Self;

    fn count(&self, source: u16, all: impl Iterator<Item = u16>) -> usize {
        all.filter(|&other| other == source).count()
    }

    fn add(&mut self, _source: u16) {}

    fn subtract(&mut self, _source: u16) {}

    fn clear(&mut self) {}
}

/// A [`Tally`] in a hash table, 8 bytes and a control byte for each source that has records.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct Counts(HashTable<(u16, u32)>);

#[cfg(feature = "alloc")]
impl Tally for Counts {
    const EMPTY: Self = Self(HashTable::new());

    fn count(&self, source: u16, _all: impl Iterator<Item = u16>) -> usize {
        let entry = self.0.find(hash(source), |&(entered, _)| entered == source);
        entry.map_or(0, |&(_, count)| count as usize)
    }

    fn add(&mut self, source: u16) {
        let same = |&(entered, _): &(u16, u32)| entered == source;
        match self
            .0
            .entry(hash(source), same, |&(entered, _)| hash(entered))
        {
            Entry::Occupied(mut entry) => {
                let (_, count) = entry.get_mut();
                *count = count.saturating_add(1);
            }
            Entry::Vacant(place) => {
                place.insert((source, 1));
            }
        }
    }

    fn subtract(&mut self, source: u16) {
        let same = |&(entered, _): &(u16, u32)| entered == source;
        let Ok(mut entry) = self.0.find_entry(hash(source), same) else {
            return;
        };
        let (_, count) = entry.get_mut();
        // An entry with a count of 0 does not stay.
        *count -= 1;
        if *count == 0 {
            entry.remove();
        }
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(feature = "alloc")]
fn hash(source: u16) -> u64 {
    spread(u32::from(source))
}

#[cfg(test)]
mod tests {
    extern crate alloc;

    use alloc::vec::Vec;

    use super::*;

    /// Adds and subtracts, and compares the counts with those of a plain list.
    fn counts<T: Tally>() {
        let (mut tally, mut all) = (T::EMPTY, Vec::new());
        for step in 0_u16..400 {
            let source = step * 7 % 13;
            if step % 3 == 2 {
                if let Some(at) = all.iter().position(|&other| other == source) {
                    all.swap_remove(at);
                    tally.subtract(source);
                }
            } else {
                all.push(source);
                tally.add(source);
            }
            for source in 0..14 {
                let expected = all.iter().filter(|&&other| other == source).count();
                assert_eq!(tally.count(source, all.iter().copied()), expected);
            }
        }
        assert!(all.len() > 100);
        tally.clear();
        assert_eq!(tally.count(1, core::iter::empty()), 0);
    }

    #[test]
    fn recounted() {
        counts::<Recount>();
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn kept() {
        counts::<Counts>();
        let mut tally = Counts::EMPTY;
        tally.subtract(5);
        tally.add(5);
        tally.subtract(5);
        assert_eq!((tally.count(5, core::iter::empty()), tally.0.len()), (0, 0));
    }
}
