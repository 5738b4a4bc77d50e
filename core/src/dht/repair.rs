//! Repair: the holders of a location tell one another what they hold there, and fill the gaps.
//!
//! Owns one round at a time: through the own store in windows of slots, for each window through those who should
//! hold some of it too. A peer is told the locations with a digest of each record, and is put what it says it
//! lacks. Each holder runs its own rounds, so nobody has to answer with records, and of two holders one tells the other
//! in a round. What this node is not among the nearest to any more it lets go once the nearest [`GIVERS`] have said
//! that they hold it: copies would multiply as nodes come and go, and readers look for them where they should be.
//! Invariants: a round asks nobody but contacts about records that they should hold as far as this node knows; one peer
//! is asked at a time, and [`AT_ONCE`] records are on their way at most; a step looks at one window; a lifetime is
//! never extended.

use crate::addr::{PackedAddr, source_of};
use crate::bounded::List;
use crate::id::{Key, NodeId};
use crate::overlay::{Change, Overlay, REPLICATION_MIN};
use crate::plan::Plan;
use crate::records::{Held, Offer, RecordId};
use crate::rpc::{Repeat, Tag};
use crate::rules::Rule;
use crate::time::{Deadline, Instant};
use crate::wire::datagram::{Contact, DIGEST_LEN, HAVE_ROOM, LOCATION_LEN, PutOutcome};
use crate::wire::record::{Kinds, Record};

use super::comparing::{digest_of, is_newer};
use super::handover::GIVERS;
use super::{Dht, Notice};

/// The pause between two rounds, in ms: 10 to 15 minutes.
pub const ROUND_MS: u64 = 750 * 1_000;
const ROUND_JITTER_PERCENT: u32 = 20;
/// How soon a round begins after the neighbourhood changed, in ms. The wide jitter lets one of the neighbours fill
/// the gap before the others ask about it.
pub const SOON_MS: u64 = 6_000;
const SOON_JITTER_PERCENT: u32 = 60;
/// A changed neighbourhood does not begin a round sooner than this after the last one, in ms.
pub const REST_MS: u64 = 30 * 1_000;
/// Of the k nearest, one in so many that came or vanished are a changed neighbourhood. Each newcomer alone is handed its
/// records over, and where one vanished the gaps alone are filled.
pub const CHANGES_SHARE: usize = 2;
/// How many of the farthest holders of a record are asked about it when one vanished: they may be new.
const LAST: usize = 2;
/// How soon after that a round begins that is only about records whose place the newcomer took, in ms.
pub const LET_GO_MS: u64 = 20 * 1_000;
/// The pause between two steps that are not brought on by an answer, in ms.
pub const PAUSE_MS: u64 = 20;
/// How many slots of the store one step looks at, and how many records one datagram tells at most.
pub const WINDOW: usize = 64;
/// How many records are on their way at a time.
pub const AT_ONCE: u8 = 2;
/// Records that have less than this left are not worth it, in ms.
pub const WORTH_MS: u64 = 60 * 1_000;

// Those that give are told apart from all other holders by their number, and are not the last.
const _: () = assert!(GIVERS < REPLICATION_MIN - 1 && GIVERS + LAST <= REPLICATION_MIN);
const _: () = assert!(WINDOW == u64::BITS as usize);
// The windows of the largest store can be counted, and the one after the last.
const _: () = assert!((1 << 16) / WINDOW < u16::MAX as usize);

/// What a round is doing. `Idle` comes first, so that a node in a `static` is all zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No round is under way.
    Idle,
    /// The next peer is to be found.
    Looking,
    /// A peer was told what is held.
    Asking,
    /// What the peer lacks is being put there.
    Giving,
}

/// Which records a round is about, and who is told of them; the later, the more. In each is what this node should not
/// hold any more, for the nearest [`GIVERS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Scope {
    /// Nothing more.
    LetGo,
    /// One vanished: what this node is one of the nearest [`GIVERS`] to, for those that are farthest, and may be new.
    Gaps,
    /// Every record, for the other holders with lower ids; those with higher ones tell this node.
    Lower,
    /// The same the other way round. The two take turns.
    Higher,
    /// Every record, for every other holder: many came and went.
    All,
}

/// The round under way, and when the next one begins.
pub(super) struct Repair {
    phase: Phase,
    scope: Scope,
    /// What was brought on since the last round began.
    wanted: Scope,
    /// How many came to the neighbourhood or vanished since the last round.
    changes: u8,
    /// What the next round is about that nothing brings on.
    turn: Scope,
    /// A record that the peer is being told has changed meanwhile.
    unsure: bool,
    under_way: u8,
    /// The number of the window, from the beginning of the store.
    window: u16,
    /// The peer told last, or being told. The peers of a window come in the order of their ids.
    peer: NodeId,
    /// The place in the window from which on that peer was not told yet.
    place: u8,
    /// Records of the window, by place: those told, then those that the peer lacks.
    records: u64,
    /// Records of the window that one of the nearest holds, and this node should not any more.
    held_there: u64,
    /// The next step, or the beginning of the next round.
    due: Deadline,
    /// A round that begins sooner is not about every record.
    full: Instant,
    /// A changed neighbourhood begins no round before this.
    rested: Instant,
}

/// What a peer is to be told next.
struct Batch {
    peer: NodeId,
    records: u64,
    /// Bytes used of the datagram.
    len: usize,
    /// The place in the window from which on there was no room.
    rest: Option<u8>,
}

impl Repair {
    pub(super) const EMPTY: Self = Self {
        phase: Phase::Idle,
        scope: Scope::LetGo,
        wanted: Scope::LetGo,
        changes: 0,
        turn: Scope::LetGo,
        unsure: false,
        under_way: 0,
        window: 0,
        peer: NodeId::ZERO,
        place: 0,
        records: 0,
        held_there: 0,
        due: Deadline::NEVER,
        full: Instant::ZERO,
        rested: Instant::ZERO,
    };

    pub(super) const fn next_deadline(&self) -> Deadline {
        self.due
    }

    /// Decides what the round is about that begins now.
    fn begin(&mut self, now: Instant) {
        self.scope = self.wanted;
        if self.scope == Scope::All {
            // Who went and who came is not known yet: all are told again, in time.
            self.turn = Scope::All;
        } else if now >= self.full {
            self.scope = self.turn.max(Scope::Lower);
            self.turn = if self.scope == Scope::Lower {
                Scope::Higher
            } else {
                Scope::Lower
            };
        }
        self.wanted = Scope::LetGo;
        if self.scope > Scope::Gaps {
            self.changes = 0;
        }
    }

    fn enter(&mut self, window: u16) {
        self.window = window;
        (self.peer, self.place) = (NodeId::ZERO, 0);
        self.held_there = 0;
    }

    /// The record in a slot is new or another one.
    pub(super) fn on_changed(&mut self, slot: usize) {
        self.unsure |= self.records & self.bit(slot) != 0;
        self.held_there &= !self.bit(slot);
    }

    /// The first slot of the window.
    fn start(&self) -> usize {
        usize::from(self.window) * WINDOW
    }

    /// The place of a slot in the window, as a bit.
    fn bit(&self, slot: usize) -> u64 {
        match slot.checked_sub(self.start()) {
            Some(place) if place < WINDOW => 1 << place,
            Some(_) | None => 0,
        }
    }
}

/// Rounds: when they begin, and their steps.
impl<P: Plan> Dht<P> {
    /// The contacts changed: a neighbour that vanished, or several newcomers, bring the next round on.
    pub(super) fn repair_after(&mut self, change: &Change) {
        if let Some(contact) = change.added {
            if self.repair.phase == Phase::Idle && self.repair.due.is_never() {
                self.schedule_round();
            }
            self.count_change(&contact.addr);
        }
        if change.down.is_some() {
            self.bring_on(if P::LETS_GO_SOON {
                Scope::Gaps
            } else {
                Scope::All
            });
        }
    }

    /// Somebody came or is about to be given up: several of the nearest bring the next round on.
    pub(super) fn count_change(&mut self, addr: &PackedAddr) {
        let nearest = self.overlay.nearest(&self.own_key());
        let mut near = nearest.iter().filter_map(|&at| self.overlay.at(at));
        let near = near.any(|entry| entry.contact.addr == *addr);
        self.repair.changes = self.repair.changes.saturating_add(u8::from(near));
        if usize::from(self.repair.changes) >= P::Overlay::k() / CHANGES_SHARE {
            self.repair_soon();
        }
    }

    /// Lets a round about everything begin in a few seconds.
    pub(super) fn repair_soon(&mut self) {
        self.repair.changes = 0;
        self.bring_on(Scope::All);
    }

    /// Lets a round begin in a few seconds, or soon after the one under way.
    fn bring_on(&mut self, scope: Scope) {
        self.repair.wanted = self.repair.wanted.max(scope);
        if self.repair.phase == Phase::Idle {
            let pause_ms = self.rng.jitter(SOON_MS, SOON_JITTER_PERCENT);
            let soon = self.now.max(self.repair.rested).after_ms(pause_ms);
            self.repair.due.lower(soon);
        }
    }

    /// A newcomer was handed what it should hold: perhaps it took this node's place.
    pub(super) fn let_go_soon(&mut self) {
        if P::LETS_GO_SOON && self.repair.phase == Phase::Idle && !self.repair.due.is_never() {
            let pause_ms = self.rng.jitter(LET_GO_MS, SOON_JITTER_PERCENT);
            let soon = self.now.after_ms(pause_ms);
            self.repair.due.lower(soon);
        }
    }

    fn schedule_round(&mut self) {
        let pause_ms = self.rng.jitter(ROUND_MS, ROUND_JITTER_PERCENT);
        let due = self.now.after_ms(pause_ms);
        (self.repair.full, self.repair.due) = (due, Deadline::at(due));
    }

    /// Does a step of the round, or begins one, if that is due.
    pub(super) fn repair_slice(&mut self) {
        if !self.repair.due.is_due(self.now) {
            return;
        }
        self.repair.due = Deadline::NEVER;
        match self.repair.phase {
            Phase::Idle if self.overlay.entries().is_empty() => {} // The first contact schedules the next.
            Phase::Idle => {
                self.repair.begin(self.now);
                self.repair.enter(0);
                self.look();
            }
            Phase::Looking => self.look(),
            Phase::Giving => self.give(),
            Phase::Asking => {} // The answer goes on with it.
        }
    }

    fn end_round(&mut self) {
        self.repair.phase = Phase::Idle;
        if self.repair.scope > Scope::LetGo {
            self.repair.rested = self.now.after_ms(REST_MS);
        }
        if P::LETS_GO_SOON && self.repair.scope <= Scope::Gaps {
            self.repair.due = Deadline::at(self.repair.full.max(self.now.after_ms(PAUSE_MS)));
        } else {
            self.schedule_round();
        }
        if self.repair.wanted > Scope::LetGo {
            self.bring_on(Scope::LetGo);
        }
    }

    fn repair_later(&mut self) {
        self.repair.due = Deadline::at(self.now.after_ms(PAUSE_MS));
    }

    /// Finds the next peer of the window, and tells it what is held. Most of the room for requests stays with those
    /// who wait for an answer.
    fn look(&mut self) {
        self.repair.phase = Phase::Looking;
        if self.repair.start() >= self.records.slots() {
            self.end_round();
            return;
        }
        let Some(batch) = self.next_batch() else {
            self.repair.enter(self.repair.window.saturating_add(1));
            self.repair_later();
            return;
        };
        if !self.request_for_repair(&batch.peer, Tag::Have) {
            self.repair_later();
            return;
        }
        let end = u8::try_from(WINDOW).unwrap_or(u8::MAX);
        self.repair.phase = Phase::Asking;
        (self.repair.peer, self.repair.place) = (batch.peer, batch.rest.unwrap_or(end));
        (self.repair.records, self.repair.unsure) = (batch.records, false);
    }

    /// Queues a request; false when there is no room now.
    fn request_for_repair(&mut self, peer: &NodeId, tag: Tag) -> bool {
        let (requests, requests_max) = self.rpc.usage();
        let Some(peer) = self.overlay.find(peer).map(crate::overlay::Entry::peer) else {
            return false;
        };
        requests * 2 < requests_max
            && self
                .rpc
                .request(self.now, &mut self.rng, peer, tag, Repeat::Once)
                .is_ok()
    }

    /// What is to be told next in this window, and to whom.
    fn next_batch(&self) -> Option<Batch> {
        let repair = &self.repair;
        let mut next: Option<Batch> = None;
        for place in 0..WINDOW {
            let slot = repair.start() + place;
            let Some(location) = self.worth(slot) else {
                continue;
            };
            let place = u8::try_from(place).unwrap_or(u8::MAX);
            let count = self.others_at(&location);
            let first = self.first_told(&location, count);
            if first >= count {
                continue;
            }
            let nearest = self.overlay.nearest(&location);
            let others = nearest.iter().take(count).skip(first);
            for entry in others.filter_map(|&at| self.overlay.at(at)) {
                let peer = entry.contact.id;
                if (peer, place) < (repair.peer, repair.place) || !self.is_told(&peer, count) {
                    continue;
                }
                if next.as_ref().is_none_or(|batch| peer < batch.peer) {
                    next = Some(Batch {
                        peer,
                        records: 0,
                        len: 0,
                        rest: None,
                    });
                }
                if let Some(batch) = next.as_mut().filter(|batch| batch.peer == peer) {
                    self.add(batch, place, slot, &location);
                }
            }
        }
        next
    }

    /// Adds a record to a batch, if there is room in its datagram.
    fn add(&self, batch: &mut Batch, place: u8, slot: usize, location: &Key) {
        let bit = self.repair.bit(slot);
        let named = self
            .records
            .read(self.now, location, Kinds::ALL, 0)
            .any(|other| batch.records & self.repair.bit(other.id.slot()) != 0);
        let len = batch.len + DIGEST_LEN + if named { 0 } else { LOCATION_LEN };
        if batch.rest.is_some() || len > HAVE_ROOM {
            batch.rest = batch.rest.or(Some(place));
            return;
        }
        batch.len = len;
        batch.records |= bit;
    }

    /// Where the record in a slot lies, if it has long enough to live.
    fn worth(&self, slot: usize) -> Option<Key> {
        match &self.records.at(self.now, slot) {
            Some(held) if held.remaining_ms >= WORTH_MS => self.records.location(held.id),
            Some(_) | None => None,
        }
    }

    /// With how many of the nearest this node compares what it holds at a location: the others that should hold it, as
    /// far as it knows. When nearer ones came and it is not among them any more, the very nearest two, who tell the
    /// others.
    fn others_at(&self, location: &Key) -> usize {
        let replication = P::Overlay::replication();
        if self.overlay.nearer_than_own(location, replication) < replication {
            replication - 1
        } else {
            GIVERS
        }
    }

    /// How many of those are left out in this round, the nearest first.
    fn first_told(&self, location: &Key, count: usize) -> usize {
        if !P::LETS_GO_SOON || count == GIVERS {
            return 0;
        }
        let gives = || self.overlay.nearer_than_own(location, GIVERS) < GIVERS;
        match self.repair.scope {
            Scope::Gaps if gives() => count - LAST,
            Scope::LetGo | Scope::Gaps => count,
            Scope::Lower | Scope::Higher | Scope::All => 0,
        }
    }

    /// Whether one of so many others is told in this round.
    fn is_told(&self, peer: &NodeId, count: usize) -> bool {
        count == GIVERS
            || match self.repair.scope {
                Scope::Lower => *peer < self.id,
                Scope::Higher => *peer > self.id,
                Scope::LetGo | Scope::Gaps | Scope::All => true,
            }
    }

    /// Goes through the records of the window as a peer is told them: grouped by location. `tell` learns whether a
    /// group begins.
    #[inline(never)] // Once for both that go through them.
    fn each_told(&self, tell: &mut dyn FnMut(bool, &Key, &Held<'_>)) {
        let repair = &self.repair;
        for place in 0..WINDOW {
            let slot = repair.start() + place;
            if repair.records & repair.bit(slot) == 0 {
                continue;
            }
            let Some(location) = self.location_at(slot) else {
                continue;
            };
            let told = |held: &Held<'_>| repair.records & repair.bit(held.id.slot()) != 0;
            let here = || self.records.read(self.now, &location, Kinds::ALL, 0);
            if here().any(|held| told(&held) && held.id.slot() < slot) {
                continue;
            }
            for (n, held) in here().filter(told).enumerate() {
                tell(n == 0, &location, &held);
            }
        }
    }

    /// Writes what the peer is told; `None` when nothing of it is left.
    pub(super) fn write_told<'b>(&self, out: &'b mut [u8; HAVE_ROOM]) -> Option<&'b [u8]> {
        if self.repair.phase != Phase::Asking {
            return None;
        }
        let (mut len, mut count_at) = (0, 0);
        self.each_told(&mut |begins, location, held| {
            let Some(digest) = digest_of::<P>(held) else {
                return;
            };
            let start = if begins { len + LOCATION_LEN } else { len };
            // The store may have changed since the room was counted: what does not fit is left out.
            let rest = out.get_mut(start..).unwrap_or_default();
            let Some(place) = rest.first_chunk_mut() else {
                return;
            };
            *place = digest.to_bytes();
            if begins {
                count_at = start - 1;
                let rest = out.get_mut(len..).unwrap_or_default();
                if let Some(place) = rest.first_chunk_mut() {
                    *place = *location.as_bytes();
                }
            }
            if let Some(count) = out.get_mut(count_at) {
                *count = if begins { 1 } else { *count + 1 };
            }
            len = start + DIGEST_LEN;
        });
        out.get(..len).filter(|told| !told.is_empty())
    }

    /// The peer said which of the records told it lacks, and which it holds.
    #[inline(never)] // As `on_newer`.
    pub(super) fn on_lacks(&mut self, lacks: u64, holds: u64) {
        if self.repair.phase != Phase::Asking {
            return;
        }
        // Should the store have changed meanwhile, the wrong ones may be put: then they are held there already.
        let (mut wanted, mut held_there, mut n) = (0, 0, 0);
        self.each_told(&mut |_, location, held| {
            let bit = self.repair.bit(held.id.slot());
            let is_in = |bits: u64| bits.checked_shr(n).is_some_and(|bits| bits & 1 == 1);
            if is_in(lacks) {
                wanted |= bit;
            } else if is_in(holds) && self.others_at(location) == GIVERS {
                held_there |= bit;
            }
            n += 1;
        });
        // But then none is let go.
        if n == self.repair.records.count_ones() && !self.repair.unsure {
            self.let_go(held_there & self.repair.held_there);
            self.repair.held_there |= held_there;
        }
        self.repair.records = wanted;
        self.repair.phase = Phase::Giving;
        self.give();
    }

    /// Drops records of the window.
    fn let_go(&mut self, mut records: u64) {
        let (notices, dropped) = (&mut self.notices, &mut self.dropped);
        while records != 0 {
            let slot = self.repair.start() + records.trailing_zeros() as usize;
            if let Some(held) = self.records.at(self.now, slot) {
                self.records.remove(held.id, |key| {
                    if notices.push_back(Notice::KeyLost(key)).is_err() {
                        dropped.count(Rule::Full);
                    }
                });
            }
            records &= records - 1;
        }
    }

    /// The peer did not say.
    pub(super) fn on_have_failed(&mut self) {
        if self.repair.phase == Phase::Asking {
            self.repair.phase = Phase::Looking;
            self.repair_later();
        }
    }

    /// Puts what the peer lacks there, a few records at a time, and goes on to the next.
    fn give(&mut self) {
        while self.repair.under_way < AT_ONCE && self.repair.records != 0 {
            let place = self.repair.records.trailing_zeros() as usize;
            let slot = self.repair.start() + place;
            let peer = self.repair.peer;
            if self.overlay.find(&peer).is_none() {
                self.repair.records = 0;
                break;
            }
            if let Some(held) = self.records.at(self.now, slot) {
                let tag = Tag::Repair { record: held.id };
                if !self.request_for_repair(&peer, tag) {
                    self.repair_later();
                    return;
                }
                self.repair.under_way += 1;
            }
            self.repair.records &= !self.repair.bit(slot);
        }
        if self.repair.under_way == 0 {
            self.look();
        }
    }

    /// A record was put at the peer, with this outcome; `None`: it could not be.
    pub(super) fn on_repaired(&mut self, record: RecordId, outcome: Option<&PutOutcome<'_>>) {
        self.repair.under_way = self.repair.under_way.saturating_sub(1);
        match outcome {
            Some(PutOutcome::Full) => self.skip_like(record),
            // It has no room, or is gone.
            None => self.repair.records = 0,
            Some(PutOutcome::Stored | PutOutcome::Older { .. } | PutOutcome::Refused) => {}
        }
        if self.repair.phase == Phase::Giving && self.repair.due.is_never() {
            self.give();
        }
    }

    /// The location is full at the peer: others of the kind find no place there either.
    fn skip_like(&mut self, record: RecordId) {
        let held = &self.records.get(self.now, record);
        let (Some(held), Some(location)) = (held, self.records.location(record)) else {
            return;
        };
        let kinds = Kinds::of(&[held.kind]);
        let others = self.records.read(self.now, &location, kinds, 0);
        let skipped = others.fold(0, |bits, other| bits | self.repair.bit(other.id.slot()));
        self.repair.records &= !skipped;
    }

    /// A peer holds a newer record than the one put there: it is taken. Only the time of day tells what is left of
    /// its lifetime; a node that does not know it gets the record in the peer's own round.
    #[inline(never)] // Its frame is not to lie under what other answers need.
    pub(super) fn on_newer(&mut self, record: RecordId, theirs: &[u8], from: &Contact) {
        let Some(held) = self.records.get(self.now, record) else {
            return;
        };
        if let Err(rule) = is_newer(held.bytes, theirs, true) {
            self.dropped.count(rule);
            return;
        }
        let (depth, age_ms) = (held.depth, held.age_ms);
        let Ok(theirs) = &Record::decode(theirs) else {
            return;
        };
        if theirs.issued_ms == 0 || self.clock.unix_ms(self.now).is_none() {
            return;
        }
        let source = from.addr.to_socket_addr().map(source_of);
        // The store counts what it refuses.
        let _ = self.offer(&Offer {
            record: theirs,
            depth,
            spilled: false,
            age_ms,
            remaining_ms: u64::from(theirs.lifetime_ms),
            source: Some(source.unwrap_or_default()),
        });
    }
}
