//! How a record gets in: the checks in their order, the room that is made for it, and its place.
//!
//! What is cheap is checked before what is dear; then the signature is verified, and only then is room made. Invariant:
//! a refusal changes nothing but the mark that a location is full; it may sweep what has expired.

use super::limits::{self, Counts as KindCounts};
use super::table::Place;
use super::{Accepted, EVICT_SLOTS, Entry, Offer, PutError, RecordId, Records, VICTIMS_MAX};
use crate::bounded::{Fixed, List};
use crate::clock::Clock;
use crate::id::{Key, SHARD_DEPTH_MAX};
use crate::plan::Plan;
use crate::rules::Rule;
use crate::time::Instant;
use crate::wire::NetworkId;
use crate::wire::record::{Kind, Record};

/// What lies at a location, as far as it has not expired.
struct Survey {
    counts: KindCounts,
    /// The slot of the record that the newcomer would replace.
    same: Option<usize>,
}

impl<P: Plan> Records<P> {
    pub(super) fn admit(
        &mut self,
        now: Instant,
        clock: &Clock,
        network: Option<NetworkId>,
        offer: &Offer<'_>,
        near: impl Fn(&Key) -> bool,
        lost: &mut dyn FnMut(Key),
    ) -> Result<Accepted, PutError> {
        let record = offer.record;
        if offer.depth > SHARD_DEPTH_MAX {
            return Err(PutError::Refused(Rule::Key));
        }
        let remaining_ms = limits::remaining_ms(now, clock, record, offer.remaining_ms)?;
        let location = record.key.shard::<P::Crypto>(&record.author, offer.depth);
        let place = self.table.place(&location);
        let survey = self.survey(now, &place, record);
        if let Some(slot) = survey.same
            && let Some(known) = self.compare(slot, record)?
        {
            if offer.spilled {
                self.table.mark_spilled(&place);
            }
            return Ok(Accepted {
                id: known,
                location,
                changed: false,
                gained: false,
            });
        }
        record.check::<P::Crypto>()?;
        if survey.same.is_none() {
            self.check_quotas(&place, &survey.counts, offer)?;
        }
        // Whether others may go is asked after the signature: to look for them costs more than to verify it.
        let (len, same) = (record.bytes.len(), survey.same);
        if self.shortage(len, same).is_some() && !near(&location) {
            return Err(self.no_room(&place));
        }
        if let Some(network) = network {
            record.verify::<P::Crypto>(network)?;
        }

        self.free_expired(now, &place, lost);
        if !self.make_room(now, len, same, near, lost) {
            return Err(self.no_room(&place));
        }
        let gained = self.table.head(&place).is_none();
        let id = self.keep(now, &place, same, offer, remaining_ms)?;
        Ok(Accepted {
            id,
            location,
            changed: true,
            gained,
        })
    }

    /// Looks at what is held at a place, without what has expired.
    fn survey(&self, now: Instant, place: &Place, record: &Record<'_>) -> Survey {
        let mut survey = Survey {
            counts: [0; Kind::ALL.len()],
            same: None,
        };
        for slot in self.table.chain(place) {
            let Some(entry) = self.table.entry(slot).filter(|e| !e.is_expired(now)) else {
                continue;
            };
            if let Some(count) = survey.counts.get_mut(usize::from(entry.kind_tag())) {
                *count = count.saturating_add(1);
            }
            if self.table.is_same(slot, record) {
                survey.same = Some(slot);
            }
        }
        survey
    }

    /// Compares a newcomer with the record that it would replace: the id of that one if the bytes are the same,
    /// `None` if the newcomer is newer.
    fn compare(&self, slot: usize, record: &Record<'_>) -> Result<Option<RecordId>, PutError> {
        let (Ok(held), Some(id)) = (&self.table.record(slot), self.table.id(slot)) else {
            return Ok(None);
        };
        if held.bytes == record.bytes {
            return Ok(Some(RecordId(id)));
        }
        if record.sequence <= held.sequence {
            return Err(PutError::Older(RecordId(id)));
        }
        let is_immutable = |value: &Record<'_>| {
            value.kind == Kind::Value && Key::of_value::<P::Crypto>(value.payload) == value.key
        };
        if held.payload != record.payload && is_immutable(held) {
            return Err(PutError::Refused(Rule::Key));
        }
        Ok(None)
    }

    /// Checks that the source may bring, and the location take, one more record.
    fn check_quotas(
        &mut self,
        place: &Place,
        counts: &KindCounts,
        offer: &Offer<'_>,
    ) -> Result<(), PutError> {
        let source = self.table.source_tag(offer.source);
        if offer.source.is_some() && self.table.count_of(source) >= P::RECORDS_PER_SOURCE {
            return Err(PutError::Refused(Rule::Quota));
        }
        let places = P::RECORDS_PER_LOCATION;
        if !limits::has_place(offer.record.kind, offer.depth, counts, places) {
            self.table.mark_spilled(place);
            return Err(PutError::Full);
        }
        Ok(())
    }

    /// Tells how many bytes must go before there is room for a record of `len` bytes, in the place of `same` if there
    /// is one; 0 when any one record must go, for its slot. `None` when there is room.
    fn shortage(&self, len: usize, same: Option<usize>) -> Option<usize> {
        let spared = same.and_then(|slot| self.table.bytes_at(slot));
        let spared = spared.map_or(0, <[u8]>::len);
        let needed = self.used_bytes().saturating_sub(spared).saturating_add(len);
        let short = needed.saturating_sub(self.bytes_max());
        let no_slot = same.is_none() && self.len() >= self.capacity();
        (short > 0 || no_slot).then_some(short)
    }

    /// The answer when the store is full: the writer goes deeper if readers can be told to.
    fn no_room(&mut self, place: &Place) -> PutError {
        if self.table.mark_spilled(place) {
            PutError::Full
        } else {
            PutError::NoRoom
        }
    }

    /// Drops what has expired at a place, so that a chain never has more than [`Plan::RECORDS_PER_LOCATION`] links.
    fn free_expired(&mut self, now: Instant, place: &Place, lost: &mut dyn FnMut(Key)) {
        loop {
            let expired = self.table.chain(place).find(|&slot| {
                let entry = self.table.entry(slot);
                entry.is_some_and(|entry| entry.is_expired(now))
            });
            let Some(slot) = expired else { return };
            self.free(slot, lost);
        }
    }

    /// Makes room for a record of `len` bytes: drops records that have expired or for whose location this node is
    /// not among the nearest. False, and nothing dropped, if among [`EVICT_SLOTS`] slots there were not enough.
    ///
    /// The newcomer's own location is near and was freed of what has expired: nothing goes there.
    fn make_room(
        &mut self,
        now: Instant,
        len: usize,
        same: Option<usize>,
        near: impl Fn(&Key) -> bool,
        lost: &mut dyn FnMut(Key),
    ) -> bool {
        let Some(mut short) = self.shortage(len, same) else {
            return true;
        };
        let mut victims: Fixed<usize, VICTIMS_MAX> = Fixed::EMPTY;
        for _ in 0..self.slots().min(EVICT_SLOTS) {
            let slot = self.evict_slot;
            // The divisor is not 0, or there would be no round of the loop; `max` shows that.
            self.evict_slot = (slot + 1) % self.slots().max(1);
            let Some((entry, bytes)) = self.table.entry(slot).zip(self.table.bytes_at(slot)) else {
                continue;
            };
            let may_go = entry.is_expired(now)
                || self
                    .table
                    .location(slot)
                    .is_some_and(|location| !near(&location));
            if !may_go {
                continue;
            }
            short = short.saturating_sub(bytes.len());
            if victims.push(slot).is_err() {
                return false;
            }
            if short == 0 {
                for &slot in victims.iter() {
                    self.free(slot, lost);
                }
                return true;
            }
        }
        false
    }

    /// Keeps a record that passed every check, in the place of an older one or at the end of its place.
    fn keep(
        &mut self,
        now: Instant,
        place: &Place,
        same: Option<usize>,
        offer: &Offer<'_>,
        remaining_ms: u64,
    ) -> Result<RecordId, PutError> {
        let record = offer.record;
        let expires = now.after_ms(remaining_ms);
        let slot = match same {
            Some(slot) => self.table.replace(slot, record, expires).then_some(slot),
            None => {
                let entry = Entry::new(now, record.kind, offer.depth, offer.age_ms, expires);
                let source = self.table.source_tag(offer.source);
                self.table.insert(place, record, source, entry)
            }
        };
        let id = slot.and_then(|slot| self.table.id(slot));
        let id = id.ok_or(PutError::NoRoom)?;
        self.wake.lower(expires);
        if self.sweep_slot > 0 {
            self.passed.lower(expires);
        }
        if offer.spilled {
            self.table.mark_spilled(place);
        }
        Ok(RecordId(id))
    }
}
