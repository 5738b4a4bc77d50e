//! Kademlia's routing table (Maymounkov and Mazières 2002): contacts by the length of the prefix that they
//! share with the own id.
//!
//! Owns the contacts, those in reserve and those set aside, and the schedule of upkeep. All contacts lie in
//! one list, by ascending bucket (shared bits), and within a bucket by when they were last heard, so that a
//! small network takes little memory and a lookup visits few. Invariants: the list is sorted by bucket; a
//! contact is in at most one of the three lists; a bucket holds at most [`K`] contacts, or twice that where it
//! holds some of the [`K`] nearest neighbours.

use crate::addr::PackedAddr;
use crate::bounded::{Fixed, List, sort_by};
use crate::crypto::Crypto;
use crate::id::{Distance, ID_BYTES, Key, NodeId, prefix64};
use crate::rng::Rng;
use crate::rpc::{Peer, Rtt};
use crate::time::{Instant, earliest};
use crate::wire::datagram::{Contact, NO_TOKEN, Token};

use super::{
    Change, Entry, Heard, K, Nearest, Neighbour, Overlay, REPLICATION, Silent, Spare, Upkeep,
    seconds,
};

/// Every part of the table is looked up once in this time, in ms.
pub const REFRESH_MS: u64 = 60 * 60 * 1_000;
/// Pause between the lookups that fill the table after joining, in ms.
pub const FILL_PAUSE_MS: u64 = 300;
/// How often a silent neighbour is looked for, in ms.
pub const CHECK_MS: u64 = 30 * 1_000;
/// A neighbour that was not heard for this long is pinged, in seconds.
pub const NEIGHBOUR_SILENT_S: u32 = 3 * 60;
/// How often one of the contacts set aside is pinged, in ms.
pub const PROBE_MS: u64 = 30 * 1_000;
/// How soon the next one is pinged after one answered, in ms.
pub const PROBE_AGAIN_MS: u64 = 1_000;
/// How long contacts are kept aside, in seconds.
pub const SILENT_S: u32 = 24 * 60 * 60;
/// A contact heard within this time is not pinged to make place for another, in seconds.
pub const FRESH_S: u32 = 60;
/// Deviation of every schedule, in percent.
const JITTER_PERCENT: u32 = 25;
/// Most contacts of one bucket.
const BUCKET_MAX: usize = 2 * K;

/// One bucket's places in the list, to be sorted by distance: its leading bits and the place.
type Ranked = Fixed<(u64, u16), BUCKET_MAX>;

/// The three schedules of upkeep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Timer {
    Refresh,
    Check,
    Probe,
}

impl Timer {
    const ALL: [Self; 3] = [Self::Refresh, Self::Check, Self::Probe];
}

/// A routing table: contacts in `L`, those in reserve in `S`, those set aside in `F`.
#[derive(Clone, Debug)]
pub struct Kademlia<L, S, F> {
    own: NodeId,
    /// Sorted by bucket, then by when they were last heard.
    entries: L,
    /// The newest last.
    spares: S,
    /// The one to be pinged next first.
    silent: F,
    timers: [Option<Instant>; Timer::ALL.len()],
    /// What is looked up next: 0 for the own id, else one more than the bucket.
    cursor: u8,
    /// The table is being filled after joining.
    filling: bool,
    /// Nearest neighbours may differ from those told.
    neighbours_changed: bool,
}

impl<L: List<Entry>, S: List<Spare>, F: List<Silent>> Overlay for Kademlia<L, S, F> {
    const EMPTY: Self = {
        assert!(
            L::CAPACITY > K && L::CAPACITY < u16::MAX as usize,
            "places are 16 bits"
        );
        Self {
            own: NodeId::ZERO,
            entries: L::EMPTY,
            spares: S::EMPTY,
            silent: F::EMPTY,
            timers: [None; Timer::ALL.len()],
            cursor: 0,
            filling: false,
            neighbours_changed: false,
        }
    };
    const CAPACITY: usize = L::CAPACITY;

    fn start(&mut self, own: NodeId) {
        *self = Self { own, ..Self::EMPTY };
    }

    fn entries(&self) -> &[Entry] {
        self.entries.as_slice()
    }

    fn find(&self, id: &NodeId) -> Option<&Entry> {
        self.entries.get(self.place_of(id)?)
    }

    fn nearest(&self, target: &Key) -> Nearest {
        let distance = Distance::between(self.own.as_bytes(), target.as_bytes());
        let mut nearest = Nearest::EMPTY;
        // Contacts that differ from this node first at bit b are nearer to the target than this node if the
        // target differs there too, and the more so the smaller b is. The others are farther, and the more
        // so the smaller b is.
        let mut at = self.bucket_start(distance.leading_zeros());
        while at < self.entries.len() && !nearest.is_full() {
            let end = self.run_end(at);
            if differs(&distance, self.bucket_at(at)) {
                self.append(target, at, end, &mut nearest);
            }
            at = end;
        }
        let mut end = self.entries.len();
        while end > 0 && !nearest.is_full() {
            let start = self.run_start(end);
            if !differs(&distance, self.bucket_at(start)) {
                self.append(target, start, end, &mut nearest);
            }
            end = start;
        }
        nearest
    }

    fn nearer_than_own(&self, key: &Key, limit: usize) -> usize {
        let distance = Distance::between(self.own.as_bytes(), key.as_bytes());
        let mut count = 0;
        let mut at = self.bucket_start(distance.leading_zeros());
        while at < self.entries.len() && count < limit {
            let end = self.run_end(at);
            if differs(&distance, self.bucket_at(at)) {
                count += end - at;
            }
            at = end;
        }
        count.min(limit)
    }

    fn is_nearer(&self, key: &Key, contact: &NodeId, other: &NodeId) -> bool {
        let to = |id: &NodeId| Distance::between(id.as_bytes(), key.as_bytes());
        to(contact) < to(other)
    }

    fn answered(
        &mut self,
        now: Instant,
        contact: Contact,
        token: Token,
        rtt_ms: Option<u64>,
    ) -> Change {
        if contact.id == self.own {
            return Change::default();
        }
        if let Some(place) = self.place_of(&contact.id) {
            return self.answered_again(now, place, &contact, token, rtt_ms);
        }
        let mut rtt = Rtt::UNKNOWN;
        if let Some(ms) = rtt_ms {
            rtt.sample(ms);
        }
        self.spares
            .retain(|spare| !is_one_of(&spare.contact, &contact));
        self.no_longer_silent(now, &contact);
        // Whoever lived at the address before does not any more.
        let earlier = self
            .entries
            .iter()
            .position(|entry| entry.contact.addr == contact.addr);
        let gone = earlier.and_then(|place| self.entries.remove(place));
        let gone = gone
            .filter(|entry| entry.neighbour)
            .map(|entry| entry.contact.id);
        let bucket = self.bucket_of(&contact.id);
        let seen_s = seconds(now);
        let entry = Entry {
            contact,
            token,
            rtt,
            seen_s,
            bucket,
            neighbour: false,
        };
        match self.make_place(&entry) {
            Ok(down) => {
                self.insert(now, entry);
                Change {
                    added: Some(contact),
                    down: gone.or(down),
                    probe: None,
                }
            }
            Err(oldest) => {
                if self.spares.is_full() {
                    self.spares.remove(0);
                }
                // Full only when the plan has no places at all: then it is forgotten.
                let _ = self.spares.push(Spare {
                    contact,
                    token,
                    rtt,
                    bucket,
                });
                let oldest = oldest.and_then(|place| self.entries.get(place));
                let probe = oldest
                    .filter(|entry| seen_s.saturating_sub(entry.seen_s) >= FRESH_S)
                    .map(Entry::peer);
                Change {
                    added: None,
                    down: gone,
                    probe,
                }
            }
        }
    }

    fn heard(&mut self, now: Instant, contact: Contact) -> Heard {
        match self.place_of(&contact.id) {
            Some(place)
                if self
                    .entries
                    .get(place)
                    .is_some_and(|e| e.contact == contact) =>
            {
                self.refresh(now, place);
                Heard::Known
            }
            // Somebody else uses its id, or it moved: the old address has to fail first.
            Some(_) => Heard::Unwanted,
            None => self.judge(&contact),
        }
    }

    fn judge(&self, contact: &Contact) -> Heard {
        if contact.id == self.own {
            return Heard::Unwanted;
        }
        if let Some(place) = self.place_of(&contact.id) {
            let known = self
                .entries
                .get(place)
                .is_some_and(|e| e.contact == *contact);
            return if known { Heard::Known } else { Heard::Unwanted };
        }
        let bucket = self.bucket_of(&contact.id);
        match self.room(&contact.id, bucket) {
            Room::Free | Room::Of(_) => Heard::Wanted,
            Room::None(_) => Heard::Unwanted,
        }
    }

    fn failed(&mut self, now: Instant, addr: &PackedAddr) -> Change {
        self.spares.retain(|spare| spare.contact.addr != *addr);
        let Some(place) = self
            .entries
            .iter()
            .position(|entry| entry.contact.addr == *addr)
        else {
            return Change::default();
        };
        let contact = self.entries.get(place).map(|entry| entry.contact);
        let change = self.take_out(now, place);
        if let Some(contact) = contact {
            self.set_aside(now, contact);
        }
        change
    }

    fn left(&mut self, now: Instant, contact: &Contact) -> Change {
        self.spares.retain(|spare| spare.contact != *contact);
        match self.place_of_contact(contact) {
            Some(place) => self.take_out(now, place),
            None => Change::default(),
        }
    }

    fn next_upkeep(&self) -> Option<Instant> {
        self.timers
            .iter()
            .fold(None, |soonest, &timer| earliest(soonest, timer))
    }

    fn upkeep<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Upkeep {
        let due = Timer::ALL.into_iter().find(|&timer| {
            self.timers
                .get(timer as usize)
                .copied()
                .flatten()
                .is_some_and(|at| at <= now)
        });
        match due {
            Some(Timer::Refresh) => self.refresh_next(now, rng),
            Some(Timer::Check) => self.check_neighbour(now, rng),
            Some(Timer::Probe) => self.probe_silent(now, rng),
            None => Upkeep::Nothing,
        }
    }

    fn joined(&mut self, now: Instant) {
        if !self.entries.is_empty() {
            self.filling = true;
            self.cursor = self.cursor_max();
            self.set(Timer::Refresh, now.after_ms(FILL_PAUSE_MS));
        }
    }

    fn pop_neighbour(&mut self) -> Option<Neighbour> {
        if !self.neighbours_changed {
            return None;
        }
        let near = self.nearest(&Key::from_bytes(*self.own.as_bytes()));
        let near = near
            .as_slice()
            .get(..REPLICATION)
            .unwrap_or(near.as_slice());
        let is_near = |place: usize| near.iter().any(|&at| usize::from(at) == place);
        let gone = self
            .entries
            .iter()
            .enumerate()
            .find(|(at, e)| e.neighbour && !is_near(*at));
        let changed = gone.map(|(at, _)| at).or_else(|| {
            let mut places = near.iter().map(|&at| usize::from(at));
            places.find(|&at| self.entries.get(at).is_some_and(|e| !e.neighbour))
        });
        let Some(entry) = changed.and_then(|at| self.entries.get_mut(at)) else {
            self.neighbours_changed = false;
            return None;
        };
        entry.neighbour = !entry.neighbour;
        Some(if entry.neighbour {
            Neighbour::Up(entry.contact)
        } else {
            Neighbour::Down(entry.contact.id)
        })
    }

    fn responsible_bits(&self) -> u16 {
        // Of the keys that share b bits with this node, only contacts that share as many can be nearer.
        let len = self.entries.len();
        match len.checked_sub(REPLICATION) {
            Some(at) => u16::from(self.bucket_at(at)) + 1,
            None => 0,
        }
    }
}

/// Whether a contact would find a place.
enum Room {
    /// There is one.
    Free,
    /// There is if the contact at this place goes.
    Of(usize),
    /// There is none; the contact at this place was not heard for longest.
    None(Option<usize>),
}

impl<L: List<Entry>, S: List<Spare>, F: List<Silent>> Kademlia<L, S, F> {
    /// The bucket of an id: the bits that it shares with the own id.
    fn bucket_of(&self, id: &NodeId) -> u8 {
        let shared = Distance::between(self.own.as_bytes(), id.as_bytes()).leading_zeros();
        u8::try_from(shared).unwrap_or(u8::MAX)
    }

    fn bucket_at(&self, place: usize) -> u8 {
        self.entries
            .get(place)
            .map_or(u8::MAX, |entry| entry.bucket)
    }

    /// The first place of a bucket that is `bucket` or deeper.
    fn bucket_start(&self, bucket: u32) -> usize {
        self.entries
            .as_slice()
            .partition_point(|entry| u32::from(entry.bucket) < bucket)
    }

    /// The place behind the bucket that begins at or holds `place`.
    fn run_end(&self, place: usize) -> usize {
        self.bucket_start(u32::from(self.bucket_at(place)) + 1)
    }

    /// The first place of the bucket that ends before `end`, which is not 0.
    fn run_start(&self, end: usize) -> usize {
        self.bucket_start(u32::from(self.bucket_at(end - 1)))
    }

    /// Where a contact is.
    fn place_of(&self, id: &NodeId) -> Option<usize> {
        let start = self.bucket_start(u32::from(self.bucket_of(id)));
        let end = self.run_end(start);
        let run = self.entries.as_slice().get(start..end)?;
        // The one heard last is the most likely to be heard again.
        run.iter()
            .rposition(|entry| entry.contact.id == *id)
            .map(|at| start + at)
    }

    /// Where a contact is, if it has this address.
    fn place_of_contact(&self, contact: &Contact) -> Option<usize> {
        let place = self.place_of(&contact.id)?;
        self.entries
            .get(place)
            .is_some_and(|entry| entry.contact == *contact)
            .then_some(place)
    }

    /// Appends the contacts of one bucket, nearest first.
    fn append(&self, target: &Key, start: usize, end: usize, nearest: &mut Nearest) {
        let to = prefix64(target.as_bytes());
        let mut ranked = Ranked::EMPTY;
        let run = self.entries.as_slice().get(start..end).unwrap_or_default();
        for (place, entry) in (start..).zip(run) {
            // Places fit 16 bits, and a bucket fits the list.
            let place = u16::try_from(place).unwrap_or(u16::MAX);
            let _ = ranked.push((prefix64(entry.contact.id.as_bytes()) ^ to, place));
        }
        let whole = |place: u16| {
            let id = self
                .at(place)
                .map_or(&[0; ID_BYTES], |entry| entry.contact.id.as_bytes());
            Distance::between(id, target.as_bytes())
        };
        sort_by(ranked.as_mut_slice(), |(a, a_place), (b, b_place)| {
            a.cmp(b).then_with(|| whole(*a_place).cmp(&whole(*b_place)))
        });
        for &(_, place) in ranked.as_slice() {
            if nearest.push(place).is_err() {
                return;
            }
        }
    }

    /// Counts the contacts nearer to this node than `id`, which is in or belongs to `bucket`.
    fn nearer_neighbours(&self, id: &NodeId, bucket: u8) -> usize {
        let start = self.bucket_start(u32::from(bucket));
        let end = self.bucket_start(u32::from(bucket) + 1);
        let own = Key::from_bytes(*self.own.as_bytes());
        let run = self.entries.as_slice().get(start..end).unwrap_or_default();
        let nearer = run
            .iter()
            .filter(|e| self.is_nearer(&own, &e.contact.id, id))
            .count();
        nearer + self.entries.len() - end
    }

    /// Whether a newcomer would find a place, see [`BUCKET_MAX`].
    fn room(&self, id: &NodeId, bucket: u8) -> Room {
        let start = self.bucket_start(u32::from(bucket));
        let len = self.bucket_start(u32::from(bucket) + 1) - start;
        let rank = if len < K {
            0
        } else {
            self.nearer_neighbours(id, bucket)
        };
        if len >= BUCKET_MAX || (len >= K && rank >= K) {
            return Room::None(Some(start));
        }
        if !self.entries.is_full() {
            return Room::Free;
        }
        // A table smaller than its buckets: the nearest neighbours are safe, the other buckets share the
        // rest evenly.
        let safe = K.min(L::CAPACITY / 2);
        let fullest = self.fullest_bucket(self.entries.len().saturating_sub(safe));
        let near = self.nearer_neighbours(id, bucket) < safe;
        match fullest {
            Some((place, count)) if near || count > len + 1 => Room::Of(place),
            Some(_) | None => Room::None((len > 0).then_some(start)),
        }
    }

    /// The bucket with the most contacts among those that begin before `end`: its first place and its size.
    /// Of equal ones the farthest.
    fn fullest_bucket(&self, end: usize) -> Option<(usize, usize)> {
        let mut fullest = None;
        let mut at = 0;
        while at < end {
            let next = self.run_end(at);
            if fullest.is_none_or(|(_, count)| next - at > count) {
                fullest = Some((at, next - at));
            }
            at = next;
        }
        fullest
    }

    /// Sees to it that an entry can be inserted; tells which neighbour had to go. Otherwise the place of the
    /// one in its bucket that was not heard for longest, and nothing changed.
    fn make_place(&mut self, entry: &Entry) -> Result<Option<NodeId>, Option<usize>> {
        match self.room(&entry.contact.id, entry.bucket) {
            Room::Free => Ok(None),
            Room::Of(place) => {
                let old = self.entries.remove(place);
                Ok(old.filter(|old| old.neighbour).map(|old| old.contact.id))
            }
            Room::None(oldest) => Err(oldest),
        }
    }

    /// Inserts an entry for which there is room, as the one of its bucket heard last.
    fn insert(&mut self, now: Instant, entry: Entry) {
        let at = self.bucket_start(u32::from(entry.bucket) + 1);
        if self.entries.insert(at, entry).is_err() {
            // Only when the allocator has no memory: the contact is not kept.
            return;
        }
        self.neighbours_changed = true;
        for (timer, ms) in [(Timer::Refresh, REFRESH_MS), (Timer::Check, CHECK_MS)] {
            if self.timers.get(timer as usize).is_some_and(Option::is_none) {
                self.set(timer, now.after_ms(ms));
            }
        }
    }

    /// Takes an entry out and puts the newest spare of its bucket in its place.
    fn take_out(&mut self, now: Instant, place: usize) -> Change {
        let Some(old) = self.entries.remove(place) else {
            return Change::default();
        };
        self.neighbours_changed = true;
        let down = old.neighbour.then_some(old.contact.id);
        let spare = self
            .spares
            .as_slice()
            .iter()
            .rposition(|spare| spare.bucket == old.bucket);
        let spare = spare.and_then(|at| self.spares.remove(at));
        let added = spare.map(|spare| {
            let Spare {
                contact,
                token,
                rtt,
                bucket,
            } = spare;
            let seen_s = seconds(now);
            self.insert(
                now,
                Entry {
                    contact,
                    token,
                    rtt,
                    seen_s,
                    bucket,
                    neighbour: false,
                },
            );
            contact
        });
        Change {
            added,
            down,
            probe: None,
        }
    }

    fn answered_again(
        &mut self,
        now: Instant,
        place: usize,
        contact: &Contact,
        token: Token,
        rtt_ms: Option<u64>,
    ) -> Change {
        let Some(entry) = self.entries.get_mut(place) else {
            return Change::default();
        };
        if entry.contact.addr != contact.addr {
            // Two addresses claim one id: the old one stays unless it fails.
            let silent_s = seconds(now).saturating_sub(entry.seen_s);
            let probe = (silent_s >= FRESH_S).then(|| entry.peer());
            return Change {
                probe,
                ..Change::default()
            };
        }
        if token != NO_TOKEN {
            entry.token = token;
        }
        if let Some(ms) = rtt_ms {
            entry.rtt.sample(ms);
        }
        self.refresh(now, place);
        Change::default()
    }

    /// Notes that a contact was heard: it goes to the end of its bucket.
    fn refresh(&mut self, now: Instant, place: usize) {
        let end = self.run_end(place);
        if let Some(entry) = self.entries.get_mut(place) {
            entry.seen_s = seconds(now);
        }
        if let Some(run) = self.entries.as_mut_slice().get_mut(place..end)
            && let Some(&entry) = run.first()
        {
            run.copy_within(1.., 0);
            if let Some(last) = run.last_mut() {
                *last = entry;
            }
        }
    }

    /// Keeps a contact that failed for later pings; the one silent for longest makes place.
    fn set_aside(&mut self, now: Instant, contact: Contact) {
        self.silent.retain(|silent| silent.contact.id != contact.id);
        if self.silent.is_full() {
            let oldest = self
                .silent
                .iter()
                .enumerate()
                .min_by_key(|(_, silent)| silent.since_s);
            if let Some(at) = oldest.map(|(at, _)| at) {
                self.silent.remove(at);
            }
        }
        // Full only when the plan has no places at all.
        let _ = self.silent.push(Silent {
            contact,
            since_s: seconds(now),
        });
        if self
            .timers
            .get(Timer::Probe as usize)
            .is_some_and(Option::is_none)
        {
            self.set(Timer::Probe, now.after_ms(PROBE_MS));
        }
    }

    /// A contact is back: perhaps the network healed, so the others are asked soon.
    fn no_longer_silent(&mut self, now: Instant, contact: &Contact) {
        let before = self.silent.len();
        self.silent.retain(|silent| silent.contact.id != contact.id);
        if self.silent.len() < before && !self.silent.is_empty() {
            self.set(Timer::Probe, now.after_ms(PROBE_AGAIN_MS));
        }
    }

    fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(place) = self.timers.get_mut(timer as usize) {
            *place = Some(at);
        }
    }

    fn stop(&mut self, timer: Timer) {
        if let Some(place) = self.timers.get_mut(timer as usize) {
            *place = None;
        }
    }

    /// The bucket that holds the farthest of the nearest neighbours, plus one: deeper ones are known from
    /// looking up the own id.
    fn cursor_max(&self) -> u8 {
        let place = self.entries.len().saturating_sub(K);
        self.bucket_at(place).saturating_add(1)
    }

    fn refresh_next<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Upkeep {
        if self.entries.is_empty() {
            self.filling = false;
            self.stop(Timer::Refresh);
            return Upkeep::Nothing;
        }
        let cursor = self.cursor.min(self.cursor_max());
        let target = match cursor.checked_sub(1) {
            Some(bucket) => self.random_in(bucket, rng),
            None => Key::from_bytes(*self.own.as_bytes()),
        };
        if cursor == 0 {
            self.filling = false;
            self.cursor = self.cursor_max();
        } else {
            self.cursor = cursor - 1;
        }
        let pause_ms = if self.filling {
            FILL_PAUSE_MS
        } else {
            REFRESH_MS / (u64::from(self.cursor_max()) + 1)
        };
        self.set(
            Timer::Refresh,
            now.after_ms(rng.jitter(pause_ms, JITTER_PERCENT)),
        );
        Upkeep::Lookup(target)
    }

    /// A random key that shares exactly `bucket` bits with the own id.
    fn random_in<C: Crypto>(&self, bucket: u8, rng: &mut Rng<C>) -> Key {
        let mut bytes = [0; ID_BYTES];
        rng.fill(&mut bytes);
        let (whole, bit) = (usize::from(bucket / 8), bucket % 8);
        // The bits of this byte that are the own ones, and the one that is not.
        let flipped = 0x80_u8 >> bit;
        let kept = !(flipped | (flipped - 1));
        for (at, (byte, own)) in bytes.iter_mut().zip(self.own.as_bytes()).enumerate() {
            match at.cmp(&whole) {
                core::cmp::Ordering::Less => *byte = *own,
                core::cmp::Ordering::Equal => {
                    *byte = (own & kept) | (!own & flipped) | (*byte & (flipped - 1));
                }
                core::cmp::Ordering::Greater => {}
            }
        }
        Key::from_bytes(bytes)
    }

    fn check_neighbour<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Upkeep {
        if self.entries.is_empty() {
            self.stop(Timer::Check);
            return Upkeep::Nothing;
        }
        self.set(
            Timer::Check,
            now.after_ms(rng.jitter(CHECK_MS, JITTER_PERCENT)),
        );
        let near = self.nearest(&Key::from_bytes(*self.own.as_bytes()));
        let near = near
            .as_slice()
            .get(..REPLICATION)
            .unwrap_or(near.as_slice());
        let stalest = near
            .iter()
            .filter_map(|&at| self.at(at))
            .min_by_key(|entry| entry.seen_s);
        match stalest {
            Some(e) if seconds(now).saturating_sub(e.seen_s) >= NEIGHBOUR_SILENT_S => {
                Upkeep::Ping(e.peer())
            }
            Some(_) | None => Upkeep::Nothing,
        }
    }

    fn probe_silent<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Upkeep {
        let now_s = seconds(now);
        self.silent
            .retain(|silent| now_s.saturating_sub(silent.since_s) < SILENT_S);
        let Some(silent) = self.silent.remove(0) else {
            self.stop(Timer::Probe);
            return Upkeep::Nothing;
        };
        // It was just taken out: there is room.
        let _ = self.silent.push(silent);
        self.set(
            Timer::Probe,
            now.after_ms(rng.jitter(PROBE_MS, JITTER_PERCENT)),
        );
        Upkeep::Ping(Peer::stranger(silent.contact.addr))
    }
}

/// Whether two contacts share id or address, so that at most one of them is there.
fn is_one_of(a: &Contact, b: &Contact) -> bool {
    a.id == b.id || a.addr == b.addr
}

/// Whether two ids at this distance differ at a bit.
fn differs(distance: &Distance, bit: u8) -> bool {
    let byte = distance
        .as_bytes()
        .get(usize::from(bit / 8))
        .copied()
        .unwrap_or(0);
    byte & (0x80 >> (bit % 8)) != 0
}

#[cfg(test)]
mod tests;
