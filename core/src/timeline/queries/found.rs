//! The people that running commands have found: bounded, without doubles, the newest word about each.
//!
//! Owns one table for all commands. Invariant: per command there is one entry for a person, as the record with the
//! highest sequence said.

use crate::bounded::{Handle, Index, Slab};
use crate::id::UserId;
use crate::name::Name;
use crate::plan::Plan;
use crate::time::Instant;

use crate::timeline::people::mixed;

/// Somebody found.
#[derive(Clone, Debug)]
pub struct Found {
    query: Handle,
    user: UserId,
    name: Name,
    sequence: u64,
    what: What,
}

/// What was found about somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// Follows, and holds posts until then.
    Follower {
        /// Past when nothing is held.
        holds_until: Instant,
    },
    /// Was a follower, and says that this is over.
    Gone,
    /// Is on this page of those who are followed.
    Followed {
        /// Which page.
        page: u16,
    },
    /// Nobody: this page was seen, and this is its newest sequence.
    Page,
}

/// Somebody found, as told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// Who.
    pub user: UserId,
    /// Under which name.
    pub name: Name,
    /// What about them.
    pub what: What,
}

/// The table.
pub struct Results<P: Plan> {
    secret: u64,
    entries: Slab<Found, P::Results>,
    index: P::ResultsIndex,
}

impl<P: Plan> Results<P> {
    /// Nobody.
    pub const EMPTY: Self = Self {
        secret: 0,
        entries: Slab::EMPTY,
        index: P::ResultsIndex::EMPTY,
    };

    /// Takes the secret that is mixed into hashes; before any entry.
    pub fn start(&mut self, secret: u64) {
        self.secret = secret;
    }

    fn find(&self, query: Handle, user: &UserId) -> Option<Handle> {
        let hash = hash(self.secret, query, user);
        let slot = self.index.find(hash, self.entries.slots(), |slot| {
            let entry = self.entries.at(slot);
            matches!(entry, Some((_, e)) if e.query == query && e.user == *user)
        })?;
        self.entries.handle_at(slot)
    }

    /// Notes what the record with `sequence` says about somebody, unless a newer one is known. False: there is no room.
    #[must_use]
    pub fn note(&mut self, query: Handle, told: Told, sequence: u64) -> bool {
        let Told { user, name, what } = told;
        let entry = Found {
            query,
            user,
            name,
            sequence,
            what,
        };
        if let Some(known) = self.find(query, &user) {
            if let Some(known) = self.entries.get_mut(known)
                && known.sequence < sequence
            {
                *known = entry;
            }
            return true;
        }
        let Ok(handle) = self.entries.insert(entry) else {
            return false;
        };
        let (secret, entries) = (self.secret, &self.entries);
        let rehash = |slot| {
            let entry = entries.at(slot);
            entry.map_or(0, |(_, e): (_, &Found)| hash(secret, e.query, &e.user))
        };
        self.index
            .insert(hash(secret, query, &user), handle.index(), rehash);
        true
    }

    /// Notes that a page of those who are followed was seen with this sequence. Tells whether its entries count: not when
    /// a newer one was seen. Entries of an older one are dropped. `None`: there is no room.
    pub fn note_page(&mut self, query: Handle, page: u16, sequence: u64) -> Option<bool> {
        let marker = marker_of(page);
        if let Some(known) = self.find(query, &marker).and_then(|h| self.entries.get(h)) {
            if known.sequence != sequence {
                let newer = known.sequence < sequence;
                if newer {
                    self.remove_where(|e| {
                        e.query == query && (e.what == What::Followed { page } || e.user == marker)
                    });
                    return self.note_page(query, page, sequence);
                }
                return Some(newer);
            }
            return Some(true);
        }
        let told = Told {
            user: marker,
            name: Name::UNSET,
            what: What::Page,
        };
        self.note(query, told, sequence).then_some(true)
    }

    /// How many pages were seen.
    #[must_use]
    pub fn pages(&self, query: Handle) -> usize {
        let ours = self.entries.iter().filter(|(_, e)| e.query == query);
        ours.filter(|(_, e)| e.what == What::Page).count()
    }

    /// Takes the first entry of a command in place `from` or behind it, with its place.
    pub fn take_from(&mut self, query: Handle, from: u32) -> Option<(u32, Told)> {
        let mut at = usize::try_from(from).unwrap_or(usize::MAX);
        loop {
            let handle = self.entries.first_from(at)?;
            at = handle.index();
            if self.entries.get(handle).is_some_and(|e| e.query == query) {
                let entry = self.entries.get(handle)?;
                let told = Told {
                    user: entry.user,
                    name: entry.name,
                    what: entry.what,
                };
                self.remove(handle);
                return Some((u32::try_from(at).unwrap_or(u32::MAX), told));
            }
            at = at.saturating_add(1);
        }
    }

    /// Forgets everything that a command found.
    pub fn forget(&mut self, query: Handle) {
        self.remove_where(|entry| entry.query == query);
    }

    fn remove_where(&mut self, gone: impl Fn(&Found) -> bool) {
        let mut at = 0;
        while let Some(handle) = self.entries.first_from(at) {
            at = handle.index().saturating_add(1);
            if self.entries.get(handle).is_some_and(&gone) {
                self.remove(handle);
            }
        }
    }

    fn remove(&mut self, handle: Handle) {
        if let Some(entry) = self.entries.get(handle) {
            let hash = hash(self.secret, entry.query, &entry.user);
            self.index.remove(hash, handle.index());
            self.entries.discard(handle);
        }
    }

    /// Entries in use, and how many there can be.
    #[must_use]
    pub fn used(&self) -> (usize, usize) {
        (self.entries.len(), self.entries.capacity())
    }
}

fn hash(secret: u64, query: Handle, user: &UserId) -> u64 {
    mixed(secret ^ query.to_bits(), user)
}

/// Stands for a page in the place of a user; no user has such an id but by solving the hash.
fn marker_of(page: u16) -> UserId {
    let mut bytes = [0; 32];
    if let Some(tail) = bytes.last_chunk_mut() {
        *tail = page.to_be_bytes();
    }
    UserId::from_bytes(bytes)
}
