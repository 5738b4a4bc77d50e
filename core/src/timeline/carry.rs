//! The way between the timeline's parts and the DHT.
//!
//! Parts say what they want and are told what became of it; here it is carried to the DHT and back. Invariant: after
//! [`Timeline::ask`] has answered `false`, no part wants anything that could be begun now.

use crate::dht::{Dht, Done, OpId, OpResult, Owner, Verified};
use crate::output::Busy;
use crate::plan::Plan;
use crate::time::Instant;
use crate::wire::RECORD_LEN_MAX;

use super::Timeline;
use super::asks::{Ask, Asking, Ended};
use super::tags::Part;

impl<P: Plan> Timeline<P> {
    /// Takes a record that an operation of the timeline has found.
    pub fn on_record(&mut self, now: Instant, tag: u32, _op: OpId, verified: &Verified<'_>) {
        match Part::of(tag) {
            Some(Part::Queries) => self.queries.on_record(now, &mut self.state, tag, verified),
            Some(Part::Names) => self.names.on_record(tag, verified),
            Some(Part::Recover) => self.recovery.on_record(now, &mut self.state, verified),
            Some(Part::Publish | Part::Reads | Part::Nobody) | None => {}
        }
    }

    /// Takes the result of one of the timeline's operations.
    pub fn on_done(&mut self, now: Instant, _dht: &mut Dht<P>, done: &Done) {
        let ended = match done.result {
            OpResult::Got {
                answered, complete, ..
            } => Ended::Got { answered, complete },
            OpResult::Put {
                accepted,
                wanted,
                older,
                full,
            } => Ended::Put {
                accepted,
                wanted,
                older,
                full,
            },
            OpResult::Left
            | OpResult::Joined { .. }
            | OpResult::Found { .. }
            | OpResult::Sent { .. }
            | OpResult::TimedOut => Ended::Left,
        };
        self.end(now, done.owner, ended);
    }

    fn end(&mut self, now: Instant, tag: u32, ended: Ended) {
        let state = &mut self.state;
        match Part::of(tag) {
            Some(Part::Publish) => self.publish.on_done(now, state, tag, ended),
            Some(Part::Queries) => {
                self.queries
                    .on_done(now, state, &mut self.publish, tag, ended);
            }
            Some(Part::Names) => self.names.on_done(now, tag, ended),
            Some(Part::Recover) => self.recovery.on_done(now, state, ended),
            Some(Part::Reads | Part::Nobody) | None => {}
        }
    }

    /// Lets every part go on, and begins what they want of the DHT. `true`: something was begun, which may have a result
    /// already; hand over what the DHT has and ask again.
    pub fn ask(&mut self, now: Instant, dht: &mut Dht<P>) -> bool {
        self.now = self.now.max(now);
        if !self.recovery.is_restored() {
            return false;
        }
        self.go_on(now, dht);
        let mut begun = false;
        let mut buf = [0; RECORD_LEN_MAX];
        while let Some(asking) = self.poll_ask(now, &mut buf) {
            let (owner, within_ms) = (Owner::Timeline(asking.tag), asking.within_ms);
            let result = match asking.ask {
                Ask::Get { key, kinds } => dht.get(now, key, kinds, owner, within_ms),
                Ask::Put { len } => {
                    dht.put(now, buf.get(..len).unwrap_or_default(), owner, within_ms)
                }
                Ask::Leave => dht.leave(now, owner, within_ms),
            };
            match result {
                Ok(_) => begun = true,
                Err(Busy) => self.end(now, asking.tag, Ended::Busy),
            }
        }
        begun
    }

    fn poll_ask(&mut self, now: Instant, buf: &mut [u8]) -> Option<Asking> {
        let state = &mut self.state;
        self.names
            .poll_ask(now)
            .or_else(|| self.queries.poll_ask(now, state, buf))
            .or_else(|| self.recovery.poll_ask(now, state))
            .or_else(|| self.publish.poll_ask(now, state, buf))
    }

    /// Carries what one part has learned to the others.
    fn go_on(&mut self, now: Instant, dht: &Dht<P>) {
        let contacts = dht.peers().len();
        self.recovery.on_contacts(now, contacts);
        self.recovery.handle_timeout(now, &mut self.state);
        let state = &mut self.state;
        while let Some((errand, delivered)) = state.errands.collect(now) {
            match Part::of(errand.tag) {
                Some(Part::Queries) => self.queries.on_delivered(errand.tag, delivered),
                Some(Part::Recover) => self.recovery.on_fetched(),
                Some(Part::Publish | Part::Names | Part::Reads | Part::Nobody) | None => {}
            }
        }
        self.recovery.handle_timeout(now, state);
        self.queries.handle_timeout(now, state, &self.names);
        if state.on_observed(dht.observed()) {
            self.publish.on_address(now);
        }
        if !self.publishing && !state.me.is_mute() {
            self.publishing = true;
            self.publish.start(now, state);
        }
        self.publish.on_contacts(now, state, contacts);
        self.publish.on_log(now, state);
        if !state.copies.is_empty() {
            self.publish.on_copies(now, state);
        }
    }
}
