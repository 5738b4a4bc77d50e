//! What an answer means, and what its absence means; and the records that answers bring.
//!
//! Owns the way from a reply to the request that it answers, to the contact that sent it, and to the visit that
//! asked. Invariants: a reply that was not asked for changes nothing but a counter; no record reaches an owner
//! that is not of the key, kind and place that were asked for, signed by its author, and unexpired.

use crate::addr::PackedAddr;
use crate::bounded::{Blobs, Handle, List};
use crate::id::{Key, NodeId};
use crate::lookup::{Candidate, Lookup, Said, State};
use crate::overlay::Overlay;
use crate::plan::Plan;
use crate::records::{AGE_MAX_MS, RecordId, remaining_ms};
use crate::rpc::{Pending, Rtt, Tag};
use crate::rules::Rule;
use crate::time::Instant;
use crate::wire::MESSAGE_LEN_MAX;
use crate::wire::datagram::{Body, Contact, Datagram, Denial, NO_TOKEN, PutOutcome};
use crate::wire::record::{Copy as RecordCopy, Kinds, Record};

use super::Dht;
use super::comparing::is_newer;
use super::ops::{Job, OpId, OpResult, Owner};

/// The records that one answer brought for a get. Go through them with [`Found::next`].
pub struct Found<'d> {
    /// The get.
    pub op: OpId,
    /// On whose behalf it runs.
    pub owner: Owner,
    holder: NodeId,
    visit: Handle,
    key: Key,
    location: Key,
    depth: u8,
    kinds: Kinds,
    /// When the request was sent: lifetimes count from there.
    sent: Instant,
    copies: &'d [u8],
    /// How many copies were taken.
    taken: usize,
}

/// A record whose signature, place and lifetime were checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verified<'a> {
    /// The record.
    pub record: Record<'a>,
    /// What is left of its lifetime, in ms.
    pub remaining_ms: u64,
    /// How long its slot has been known to holders, in ms.
    pub age_ms: u64,
    /// Who holds it.
    pub holder: NodeId,
}

/// A record that this node holds itself and that a get came by: show it with [`Dht::local`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalRecord(RecordId);

impl<'d> Found<'d> {
    /// Takes the next record that stands all checks; others are dropped and counted.
    pub fn next<P: Plan>(&mut self, dht: &mut Dht<P>) -> Option<Verified<'d>> {
        loop {
            // A datagram holds a few copies: walking over those taken costs less than keeping the place.
            let copy = RecordCopy::iter(self.copies).nth(self.taken)?;
            self.taken += 1;
            let rule = match Record::decode(copy.record) {
                Ok(record) => match self.check(dht, &copy, &record) {
                    Ok(remaining_ms) => {
                        return Some(Verified {
                            record,
                            remaining_ms,
                            age_ms: copy.age_ms.min(AGE_MAX_MS),
                            holder: self.holder,
                        });
                    }
                    Err(rule) => rule,
                },
                Err(rule) => rule,
            };
            dht.dropped.count(rule);
        }
    }

    /// Checks all about a record, and counts it; what is left of its lifetime, in ms.
    fn check<P: Plan>(
        &self,
        dht: &mut Dht<P>,
        copy: &RecordCopy<'d>,
        record: &Record<'d>,
    ) -> Result<u64, Rule> {
        if !self.kinds.contains(record.kind) {
            return Err(Rule::Kind);
        }
        let here = record.key == self.key
            && (self.depth == 0
                || record.key.shard::<P::Crypto>(&record.author, self.depth) == self.location);
        if !here {
            return Err(Rule::Key);
        }
        let told_ms = copy
            .remaining_ms
            .saturating_sub(dht.now.since_ms(self.sent));
        let remaining_ms = remaining_ms(dht.now, &dht.clock, record, told_ms)?;
        dht.verify(self.visit, record)?;
        dht.count_record(self.op.handle());
        Ok(remaining_ms)
    }
}

impl<P: Plan> Dht<P> {
    /// Takes the next record that this node holds itself for a get of the timeline: which get, on whose behalf,
    /// and the record.
    pub fn poll_local(&mut self) -> Option<(OpId, Owner, LocalRecord)> {
        while self.own_reads {
            let Some((handle, after)) = self
                .visits
                .iter()
                .find_map(|(handle, visit)| visit.own_after.map(|after| (handle, after)))
            else {
                self.own_reads = false;
                break;
            };
            let Some(visit) = self.visits.get_mut(handle) else {
                break;
            };
            let op = self.ops.get_mut(visit.op);
            if let Some(op) = op
                && let (Some(owner), Job::Get(get)) = (op.owner, &mut op.job)
            {
                let mut held = self
                    .records
                    .read(self.now, visit.lookup.target(), get.kinds, after);
                if let Some(held) = held.next() {
                    visit.own_after = Some(after.saturating_add(1));
                    get.count = get.count.saturating_add(1);
                    return Some((OpId::of(visit.op), owner, LocalRecord(held.id)));
                }
            }
            visit.own_after = None;
            self.touch(handle);
            self.run();
        }
        None
    }

    /// Shows a record from [`poll_local`](Self::poll_local), unless it is gone by now.
    #[must_use]
    pub fn local(&self, now: Instant, record: LocalRecord) -> Option<Verified<'_>> {
        let held = self.records.get(self.now.max(now), record.0)?;
        Some(Verified {
            record: Record::decode(held.bytes).ok()?,
            remaining_ms: held.remaining_ms,
            age_ms: held.age_ms,
            holder: self.id,
        })
    }

    /// Counts a record that a get found: the timeline's here, the application's when its value is kept. The get may
    /// have ended by the very answer that brought it.
    fn count_record(&mut self, op: Handle) {
        let Some(op) = self.ops.get_mut(op) else {
            return;
        };
        let count = match &mut op.job {
            Job::Get(get) => &mut get.count,
            Job::Done(OpResult::Got { count, .. }) => count,
            Job::Join(_)
            | Job::Refresh
            | Job::Find
            | Job::Put(_)
            | Job::Send(_)
            | Job::Leave(_)
            | Job::Done(_) => return,
        };
        if op.owner != Some(Owner::Application) {
            *count = count.saturating_add(1);
        }
    }

    /// Checks a record's signature, once for each visit.
    pub(super) fn verify(&mut self, visit: Handle, record: &Record<'_>) -> Result<(), Rule> {
        let digest = self.tokens.keyed_hash::<P::Crypto>(record.bytes);
        let visit = self.visits.get_mut(visit);
        if visit
            .as_ref()
            .is_some_and(|visit| visit.digests.iter().any(|&seen| seen == digest))
        {
            return Ok(());
        }
        record.check::<P::Crypto>()?;
        record.verify::<P::Crypto>(self.network)?;
        if let Some(visit) = visit {
            // Full: it is verified again next time.
            let _ = visit.digests.push(digest);
        }
        Ok(())
    }

    /// Takes a reply.
    #[inline(never)] // What its many answers need of the stack is to be gone before anything is verified.
    pub(super) fn on_reply<'d>(
        &mut self,
        from: PackedAddr,
        datagram: &Datagram<'d>,
    ) -> Option<Found<'d>> {
        let answered = self.rpc.answered(self.now, &from, datagram.transaction);
        let (pending, rtt_ms) = match answered {
            Ok(answered) => answered,
            Err(rule) => {
                self.dropped.count(rule);
                return None;
            }
        };
        let contact = Contact {
            id: datagram.sender,
            addr: from,
        };
        if let Some(observed) = datagram.body.observed() {
            self.observed.vote(from, observed);
        }
        let change = self
            .overlay
            .answered(self.now, contact, datagram.token, rtt_ms);
        self.on_change(change);
        if self
            .candidate_of(&pending)
            .is_some_and(|candidate| candidate.contact.id != contact.id)
        {
            // Somebody else than the one asked lives there.
            self.dropped.count(Rule::WrongSender);
            if !matches!(pending.tag, Tag::Validate { .. }) {
                self.give_up(&pending);
                return None;
            }
        }
        if let Body::Denied {
            reason: Denial::Token,
            ..
        } = datagram.body
        {
            self.renew(&pending, datagram);
            return None;
        }
        self.on_answer(&pending, &contact, rtt_ms, datagram)
    }

    /// Asks again with the token that came, once.
    fn renew(&mut self, pending: &Pending, datagram: &Datagram<'_>) {
        if self
            .rpc
            .renew(self.now, &mut self.rng, pending, datagram.token)
        {
            if let Some(visit) = pending.tag.visit().and_then(|v| self.visits.get_mut(v))
                && let Some(candidate) = visit.lookup.candidate_mut(&pending.peer.addr)
            {
                candidate.token = datagram.token;
            }
        } else {
            self.give_up(pending);
        }
    }

    /// Hands an answer to what asked. An answer of the wrong kind counts as none.
    fn on_answer<'d>(
        &mut self,
        pending: &Pending,
        contact: &Contact,
        rtt_ms: Option<u64>,
        datagram: &Datagram<'d>,
    ) -> Option<Found<'d>> {
        if let Body::Found {
            more,
            spilled,
            records,
            contacts,
            ..
        } = datagram.body
            && let Tag::Ask { visit } | Tag::Page { visit, .. } = pending.tag
        {
            if matches!(pending.tag, Tag::Ask { .. })
                && self.on_nodes(visit, contact, contacts, datagram)
                && Self::CACHES
            {
                self.leave_copy(visit, contact, pending.sent, records);
            }
            return self.on_records(pending, visit, contact, records, more, spilled);
        }
        match (pending.tag, &datagram.body) {
            (Tag::Probe, Body::Pong { .. }) => {}
            (Tag::Neighbours, Body::Found { contacts, .. }) if P::Overlay::RING => {
                self.on_neighbours(contact, contacts);
            }
            (Tag::Bootstrap, Body::Pong { .. }) => self.on_bootstrap(contact),
            (Tag::Bye { op }, Body::Pong { .. }) => self.on_goodbye(op),
            (Tag::Validate { .. }, Body::Pong { .. }) => {
                let mut rtt = Rtt::UNKNOWN;
                if let Some(ms) = rtt_ms {
                    rtt.sample(ms);
                }
                self.on_first_ping(pending, &|lookup| {
                    lookup.pinged(contact, datagram.token, rtt);
                });
            }
            (Tag::Put { visit }, Body::Stored { outcome, .. }) => {
                self.on_stored(visit, contact, outcome);
            }
            (
                Tag::Send { visit },
                Body::Delivered {
                    accepted, bytes, ..
                },
            ) if Self::TOOLKIT => {
                if bytes.len() > MESSAGE_LEN_MAX {
                    self.dropped.count(Rule::Overlong);
                    self.give_up(pending);
                } else if let Some(op) = self.visits.get(visit).map(|visit| visit.op) {
                    let accepted = *accepted;
                    self.finish(op, OpResult::Sent { accepted });
                    // Without room for it the sender hears only that it arrived.
                    let _ = self.keep_answer(op, &contact.id, bytes);
                }
            }
            (Tag::HandOver { .. }, Body::Stored { .. }) => self.on_handed_over(),
            (Tag::Cache { copy }, Body::Stored { .. }) if Self::CACHES => {
                self.parked.remove(copy);
            }
            (Tag::Have, Body::Lacks { lacks, holds, .. }) => self.on_lacks(*lacks, *holds),
            (Tag::Repair { record }, Body::Stored { outcome, .. }) => {
                if let PutOutcome::Older { record: theirs } = outcome {
                    self.on_newer(record, theirs, contact);
                }
                self.on_repaired(record, Some(outcome));
            }
            (Tag::Put { visit }, Body::Denied { .. }) => {
                self.on_busy(visit);
                self.give_up(pending);
            }
            (_, Body::Denied { .. }) => self.give_up(pending),
            (_, _) => {
                self.dropped.count(Rule::Unsolicited);
                self.give_up(pending);
            }
        }
        None
    }

    /// A candidate named others. Whether it named itself too: on a ring it owns the target, otherwise many ask for it.
    fn on_nodes(
        &mut self,
        handle: Handle,
        from: &Contact,
        contacts: &[u8],
        datagram: &Datagram<'_>,
    ) -> bool {
        let mut named_itself = false;
        let Some(visit) = self.visits.get_mut(handle) else {
            return named_itself;
        };
        let hops = visit
            .lookup
            .answered(&from.addr, datagram.token)
            .unwrap_or(0)
            .saturating_add(1);
        for contact in Contact::iter(contacts).take(P::Overlay::k()) {
            if contact.id == from.id && contact.addr.is_none() {
                named_itself = true;
                if P::Overlay::RING
                    && let Some(visit) = self.visits.get_mut(handle)
                {
                    visit.lookup.owns(&from.addr);
                }
                continue;
            }
            if contact == *from {
                // It answers with itself.
                self.dropped.count(Rule::BadContact);
                continue;
            }
            match self.acceptable(&contact) {
                Ok(()) => {
                    let known = self.overlay.find(&contact.id);
                    let known = known.filter(|entry| entry.contact == contact);
                    match (self.visits.get_mut(handle), known) {
                        (Some(visit), Some(entry)) => visit.lookup.add_known(entry, hops),
                        (Some(visit), None) => {
                            if visit.lookup.add_named(contact, hops) && P::REPEATS_MORE {
                                self.rpc.repeat_ping(&contact.addr);
                            }
                        }
                        (None, _) => return false,
                    }
                }
                Err(rule) => self.dropped.count(rule),
            }
        }
        self.touch(handle);
        named_itself
    }

    /// A holder sent a page of records.
    fn on_records<'d>(
        &mut self,
        pending: &Pending,
        handle: Handle,
        from: &Contact,
        records: &'d [u8],
        more: bool,
        spilled: bool,
    ) -> Option<Found<'d>> {
        let visit = self.visits.get_mut(handle)?;
        let op = self.ops.get(visit.op)?;
        let (Job::Get(get), Some(owner)) = (&op.job, op.owner) else {
            return None;
        };
        let count = RecordCopy::iter(records).count();
        visit.found |= count > 0;
        if let Some(candidate) = visit.lookup.candidate_mut(&from.addr) {
            let after = u16::try_from(count)
                .ok()
                .and_then(|n| candidate.after.checked_add(n));
            // A page without records would come for ever.
            candidate.more = more && count > 0 && after.is_some();
            candidate.after = after.unwrap_or(u16::MAX);
            if spilled {
                candidate.said.add(Said::SPILLED);
            }
            if candidate.state == State::Working {
                candidate.state = State::Answered;
            }
        }
        let mut found = Found {
            op: OpId::of(visit.op),
            owner,
            holder: from.id,
            visit: handle,
            key: op.target,
            location: *visit.lookup.target(),
            depth: visit.depth,
            kinds: get.kinds,
            sent: pending.sent,
            copies: records,
            taken: 0,
        };
        self.touch(handle);
        if count == 0 {
            return None;
        }
        if !Self::TOOLKIT || owner != Owner::Application {
            return Some(found);
        }
        while let Some(verified) = found.next(self) {
            self.take_value(found.op.handle(), &verified.record);
        }
        None
    }

    /// A holder answered a put.
    #[inline(never)] // As `on_reply`.
    fn on_stored(&mut self, handle: Handle, from: &Contact, outcome: &PutOutcome<'_>) {
        let Some(visit) = self.visits.get_mut(handle) else {
            return;
        };
        if let Some(candidate) = visit.lookup.candidate_mut(&from.addr) {
            candidate.state = State::Finished;
        }
        let op_handle = visit.op;
        self.touch(handle);
        let newer = match outcome {
            PutOutcome::Older { record } => self.newer(op_handle, record),
            PutOutcome::Stored | PutOutcome::Full | PutOutcome::Refused => None,
        };
        let Some(Job::Put(put)) = self.ops.get_mut(op_handle).map(|op| &mut op.job) else {
            return;
        };
        match outcome {
            PutOutcome::Stored => put.tally.accepted = put.tally.accepted.saturating_add(1),
            PutOutcome::Full => put.tally.full = put.tally.full.saturating_add(1),
            PutOutcome::Older { .. } | PutOutcome::Refused => {
                put.tally.refused = put.tally.refused.saturating_add(1);
            }
        }
        put.older = put.older.max(newer);
    }

    /// A holder has no room for the record of a put: another takes its place.
    fn on_busy(&mut self, visit: Handle) {
        let op = self.visits.get(visit).map(|visit| visit.op);
        let op = op.and_then(|op| self.ops.get_mut(op));
        if let Some(Job::Put(put)) = op.map(|op| &mut op.job) {
            put.tally.busy = put.tally.busy.saturating_add(1);
        }
    }

    /// The sequence of the record that a holder says is newer than the one put, if it is.
    fn newer(&mut self, op: Handle, theirs: &[u8]) -> Option<u64> {
        let Some(Job::Put(put)) = self.ops.get(op).map(|op| &op.job) else {
            return None;
        };
        let own = self.parked.get(put.record)?;
        let proof = is_newer(own, theirs, false).and_then(|()| {
            let theirs = &Record::decode(theirs);
            let theirs = theirs.as_ref().map_err(|rule| *rule)?;
            theirs.check::<P::Crypto>()?;
            theirs.verify::<P::Crypto>(self.network)?;
            Ok(theirs.sequence)
        });
        if let Err(rule) = proof {
            self.dropped.count(rule);
        }
        proof.ok()
    }

    /// An answer is late: others are asked meanwhile.
    pub(super) fn on_late(&mut self, pending: &Pending) {
        let addr = &pending.peer.addr;
        if matches!(pending.tag, Tag::Validate { .. }) {
            self.on_first_ping(pending, &|lookup| lookup.late(addr));
        } else if let Some(handle) = pending.tag.visit()
            && let Some(visit) = self.visits.get_mut(handle)
        {
            visit.lookup.late(addr);
            self.touch(handle);
        }
    }

    /// Tells every visit that waits for a first ping what became of it.
    #[inline(never)] // Once for all three that can become of it.
    fn on_first_ping(&mut self, pending: &Pending, tell: &dyn Fn(&mut Lookup<P>)) {
        let slots = match pending.tag.visit() {
            Some(visit) if !pending.shared => visit.index()..visit.index() + 1,
            Some(_) | None => 0..self.visits.slots(),
        };
        for slot in slots {
            if let Some((handle, visit)) = self.visits.at_mut(slot)
                && visit.lookup.candidate_mut(&pending.peer.addr).is_some()
            {
                tell(&mut visit.lookup);
                self.touch(handle);
            }
        }
    }

    /// The second time-out: the contact has failed. One lost ping to a stranger proves nothing about a contact
    /// that somebody says is a stranger.
    pub(super) fn on_silent(&mut self, pending: &Pending) {
        let validates = matches!(pending.tag, Tag::Validate { .. });
        let probes = P::Overlay::RING && pending.tag == Tag::Probe;
        if validates || (probes && pending.peer.token == NO_TOKEN) {
            self.rpc.note_unreached(self.now, pending.peer.addr);
        }
        if !validates {
            if P::LETS_GO_SOON {
                self.count_change(&pending.peer.addr);
            }
            let change = self.overlay.failed(self.now, &pending.peer.addr);
            self.on_change(change);
        }
        self.give_up(pending);
    }

    /// A request brought nothing.
    pub(super) fn give_up(&mut self, pending: &Pending) {
        match pending.tag {
            Tag::Probe | Tag::Neighbours => {}
            Tag::Bootstrap => self.on_bootstrap_failed(pending.peer.addr),
            Tag::Bye { op } => self.on_goodbye(op),
            Tag::HandOver { .. } => self.on_handed_over(),
            Tag::Have => self.on_have_failed(),
            Tag::Cache { copy } => {
                if Self::CACHES {
                    self.parked.remove(copy);
                }
            }
            Tag::Repair { record } => self.on_repaired(record, None),
            Tag::Validate { .. } => {
                self.on_first_ping(pending, &|lookup| lookup.ping_failed(&pending.peer.addr));
            }
            Tag::Ask { .. } | Tag::Page { .. } | Tag::Put { .. } | Tag::Send { .. } => {
                if let Some(handle) = pending.tag.visit()
                    && let Some(visit) = self.visits.get_mut(handle)
                {
                    visit.lookup.failed(&pending.peer.addr);
                    self.touch(handle);
                }
            }
        }
    }

    /// The candidate that a request was sent to.
    fn candidate_of(&self, pending: &Pending) -> Option<&Candidate> {
        let visit = self.visits.get(pending.tag.visit()?)?;
        let mut candidates = visit.lookup.candidates().iter();
        candidates.find(|candidate| candidate.contact.addr == pending.peer.addr)
    }

    /// Takes the records off whose time is over.
    pub(super) fn expire_records(&mut self) {
        let (notices, dropped) = (&mut self.notices, &mut self.dropped);
        self.records.handle_timeout(self.now, |key| {
            if notices.push_back(super::Notice::KeyLost(key)).is_err() {
                dropped.count(Rule::Full);
            }
        });
    }
}
