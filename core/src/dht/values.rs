//! Values of applications that are more than the newest of each author: immutable ones, whose key is their hash, and
//! mutable ones that are compared and swapped.
//!
//! Owns what makes such a get or put differ from others; what both do on the way is in `visits`. Invariants: a get of an
//! immutable value tells nothing that does not hash to its key; a put that compares is stored only if nobody said that
//! another record has its place.

use crate::bounded::{Blobs, Handle};
use crate::id::{ID_BYTES, Key};
use crate::output::Busy;
use crate::plan::Plan;
use crate::time::Instant;
use crate::wire::PAYLOAD_LEN_MAX;
use crate::wire::record::{Kind, Kinds, Record, Signed};

use super::Dht;
use super::gets::Frontier;
use super::ops::{Get, Job, OpId, OpResult, Owner, Put, Tally};

impl<P: Plan> Dht<P> {
    /// Reads, for the application, an immutable value: one that hashes to `key` (see [`Key::of_value`]), whoever put it
    /// there. It ends with the first one found; others are counted under [`Rule::Key`](crate::rules::Rule::Key). What many
    /// read is found sooner, in copies on the way to its holders.
    ///
    /// # Errors
    /// [`Busy`], as for [`find`](Self::find).
    pub fn get_value(&mut self, now: Instant, key: Key, within_ms: u32) -> Result<OpId, Busy> {
        self.catch_up(now);
        if !Self::TOOLKIT {
            return Err(Busy);
        }
        self.make_room(ID_BYTES + PAYLOAD_LEN_MAX);
        let get = Get {
            kinds: Kinds::of(&[Kind::Value]),
            hashed: true,
            frontier: Frontier::root(None),
            count: 0,
            answered: 0,
            complete: true,
            alone: false,
        };
        self.begin(Some(Owner::Application), key, within_ms, Job::Get(get))
    }

    /// Compares and swaps: stores a signed record in the place of the one that the writer has seen, whose sequence is
    /// one lower (0: there was none). Like [`put`](Self::put), but where any holder proves that it has another record of
    /// that sequence or a higher one, it ends with that sequence, [`OpResult::Put::older`], and counts as stored nowhere.
    ///
    /// Of several writers with one key that have seen the same, one may succeed or none; never two, as long as they
    /// reach one honest holder in common. Some holders may keep the record of one that did not: read again first.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn replace(
        &mut self,
        now: Instant,
        record: &[u8],
        owner: Owner,
        within_ms: u32,
    ) -> Result<OpId, Busy> {
        let record = Signed::check::<P::Crypto>(record, self.network).map_err(|_| Busy)?;
        self.begin_put(now, record, owner, within_ms, true)
    }

    /// Begins to store a record; `strict`: only in the place of what its writer has seen.
    pub(crate) fn begin_put(
        &mut self,
        now: Instant,
        record: Signed<'_>,
        owner: Owner,
        within_ms: u32,
        strict: bool,
    ) -> Result<OpId, Busy> {
        self.catch_up(now);
        let record = record.bytes();
        let decoded = Record::decode(record).map_err(|_| Busy)?;
        let (key, remaining_ms) = (decoded.key, self.remaining_of(&decoded));
        self.room_for(Some(owner))?;
        let record = self.park(&[record]).ok_or(Busy)?;
        let put = Put {
            record,
            depth: 0,
            remaining_ms,
            begun: self.now,
            tally: Tally::default(),
            older: None,
            strict,
        };
        let begun = self.begin(Some(owner), key, within_ms, Job::Put(put));
        if begun.is_err() {
            self.parked.remove(record);
        }
        begun
    }

    /// Ends a get of an immutable value that was found.
    pub(super) fn end_if_found(&mut self, op: Handle) {
        if let Some(Job::Get(get)) = self.ops.get(op).map(|op| &op.job)
            && get.hashed
            && get.count > 0
        {
            let (count, answered) = (get.count, get.answered);
            let result = OpResult::Got {
                count,
                answered,
                complete: true,
            };
            self.finish(op, result);
        }
    }

    /// What is left of an own record's lifetime.
    fn remaining_of(&self, record: &Record<'_>) -> u64 {
        let lifetime_ms = u64::from(record.lifetime_ms);
        match self.clock.unix_ms(self.now) {
            Some(unix_ms) if record.issued_ms != 0 => {
                let end_ms = record.issued_ms.saturating_add(lifetime_ms);
                end_ms.saturating_sub(unix_ms).min(lifetime_ms)
            }
            Some(_) | None => lifetime_ms,
        }
    }
}

/// Whether a value is one that a get is still for; `root` is the key that it reads.
pub(super) fn is_asked_for<P: Plan>(get: &Get<P>, root: &Key, record: &Record<'_>) -> bool {
    !get.hashed || (get.count == 0 && Key::of_value::<P::Crypto>(record.payload) == *root)
}
