//! The storage of a simulated machine: a map for each class, written behind a delay.
//!
//! What a node asks to persist is first only pending; [`Storage::commit`] makes it durable, in order. A crash loses
//! what was pending, except for a first part that may have reached the disk unacknowledged. The invariant: durable
//! entries are always those of a prefix of what was written.

use std::collections::{BTreeMap, VecDeque};

use strandline_core::output::{Class, PersistId, STORED_KEY_LEN_MAX, STORED_VALUE_LEN_MAX, Stored};

/// One write that is not durable yet.
#[derive(Clone, Debug)]
struct Write {
    id: PersistId,
    class: Class,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// Everything that a machine's disk holds.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    durable: BTreeMap<(Class, Vec<u8>), Vec<u8>>,
    pending: VecDeque<Write>,
    last: Option<PersistId>,
    /// Refuses every write from now on.
    pub failing: bool,
}

impl Storage {
    /// Accepts a write.
    ///
    /// # Errors
    /// Says which rule of [`strandline_core::output::Output::Persist`] it breaks.
    pub fn write(&mut self, id: PersistId, item: Stored<'_>) -> Result<(), String> {
        if self.last.is_some_and(|last| id <= last) {
            return Err(format!(
                "persist {id:?} after {:?}: numbers rise",
                self.last
            ));
        }
        self.last = Some(id);
        let value_len = item.value.map_or(0, <[u8]>::len);
        if item.key.len() > STORED_KEY_LEN_MAX || value_len > STORED_VALUE_LEN_MAX {
            let (key_len, class) = (item.key.len(), item.class);
            return Err(format!(
                "a {class:?} entry of {key_len} + {value_len} bytes is too long"
            ));
        }
        self.pending.push_back(Write {
            id,
            class: item.class,
            key: item.key.to_vec(),
            value: item.value.map(<[u8]>::to_vec),
        });
        Ok(())
    }

    /// Whether something waits to become durable.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Makes everything pending durable and returns the last number of it.
    pub fn commit(&mut self) -> Option<PersistId> {
        let last = self.pending.back().map(|write| write.id);
        self.apply(self.pending.len());
        last
    }

    /// Says of everything pending that it is durable, and keeps none of it.
    pub fn forget(&mut self) -> Option<PersistId> {
        let last = self.pending.back().map(|write| write.id);
        self.pending = VecDeque::new();
        last
    }

    /// Drops everything pending, and returns the first number of it: the disk is full.
    pub fn refuse(&mut self) -> Option<PersistId> {
        let first = self.pending.front().map(|write| write.id);
        self.pending.clear();
        first
    }

    /// How many writes are pending.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The machine stops: the first `reached` of the pending writes are durable, the rest is lost.
    pub fn crash(&mut self, reached: usize) {
        self.apply(reached);
        self.pending.clear();
        self.last = None;
    }

    /// The disk is lost.
    pub fn lose(&mut self) {
        self.durable.clear();
        self.pending.clear();
        self.last = None;
    }

    /// Every durable entry, class by class in the order in which a node wants them back.
    pub fn entries(&self) -> impl Iterator<Item = Stored<'_>> + '_ {
        Class::ALL.into_iter().flat_map(|class| {
            self.durable
                .range((class, Vec::new())..)
                .take_while(move |((of, _), _)| *of == class)
                .map(|((class, key), value)| Stored {
                    class: *class,
                    key,
                    value: Some(value),
                })
        })
    }

    /// Whether nothing is durable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.durable.is_empty()
    }

    /// Damages one durable entry of `class`, for tests of what a node says to that. False when there is none.
    pub fn damage(&mut self, class: Class) -> bool {
        let entry = self
            .durable
            .iter_mut()
            .find(|((of, _), value)| *of == class && !value.is_empty());
        entry
            .and_then(|(_, value)| value.last_mut())
            .map(|byte| *byte ^= 0x55)
            .is_some()
    }

    fn apply(&mut self, count: usize) {
        for write in self.pending.drain(..count.min(self.pending.len())) {
            let key = (write.class, write.key);
            match write.value {
                Some(value) => self.durable.insert(key, value),
                None => self.durable.remove(&key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::{Class, PersistId, Storage, Stored};

    fn put(storage: &mut Storage, id: u64, class: Class, key: &[u8], value: Option<&[u8]>) {
        storage
            .write(PersistId(id), Stored { class, key, value })
            .unwrap();
    }

    fn keys(storage: &Storage) -> Vec<(Class, Vec<u8>)> {
        storage
            .entries()
            .map(|item| (item.class, item.key.to_vec()))
            .collect()
    }

    #[test]
    fn a_crash_keeps_a_prefix_and_nothing_else() {
        let mut storage = Storage::default();
        put(&mut storage, 1, Class::Post, b"1", Some(b"x"));
        assert_eq!(storage.commit(), Some(PersistId(1)));
        put(&mut storage, 2, Class::Post, b"2", Some(b"x"));
        put(&mut storage, 3, Class::Log, b"", Some(b"x"));
        put(&mut storage, 4, Class::Post, b"1", None);
        storage.crash(2);
        let expected = [
            (Class::Log, b"".to_vec()),
            (Class::Post, b"1".to_vec()),
            (Class::Post, b"2".to_vec()),
        ];
        assert_eq!(keys(&storage), expected);
        assert!(!storage.is_dirty());
    }

    #[test]
    fn entries_come_class_by_class() {
        let mut storage = Storage::default();
        for (id, class) in Class::ALL.into_iter().rev().enumerate() {
            put(&mut storage, id as u64 + 1, class, b"k", Some(b"v"));
        }
        storage.commit();
        let classes: Vec<Class> = storage.entries().map(|item| item.class).collect();
        assert_eq!(classes, Class::ALL);
    }

    #[test]
    fn broken_rules_are_named() {
        let mut storage = Storage::default();
        let item = Stored {
            class: Class::Post,
            key: &[0; 64],
            value: Some(&[0; 1024]),
        };
        storage.write(PersistId(5), item).unwrap();
        assert!(
            storage
                .write(PersistId(5), item)
                .unwrap_err()
                .contains("numbers rise")
        );
        let long_key = Stored {
            key: &[0; 65],
            ..item
        };
        assert!(
            storage
                .write(PersistId(6), long_key)
                .unwrap_err()
                .contains("too long")
        );
        let long_value = Stored {
            value: Some(&[0; 1025]),
            ..item
        };
        assert!(
            storage
                .write(PersistId(7), long_value)
                .unwrap_err()
                .contains("too long")
        );
    }

    #[test]
    fn a_full_disk_names_the_first_that_it_refused() {
        let mut storage = Storage::default();
        put(&mut storage, 8, Class::Post, b"1", Some(b"x"));
        put(&mut storage, 9, Class::Post, b"2", Some(b"x"));
        assert_eq!(storage.refuse(), Some(PersistId(8)));
        assert!(storage.is_empty() && !storage.is_dirty());
    }
}
