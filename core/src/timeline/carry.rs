//! The way between the timeline's parts and the DHT.
//!
//! Parts say what they want and are told what became of it; here it is carried to the DHT and back. Invariant: after
//! [`Timeline::ask`] has answered `false`, no part wants anything that could be begun now.

use core::net::SocketAddr;

use crate::dht::{Dht, Done, OpId, OpResult, Owner, Verified};
use crate::output::{Busy, StreamId};
use crate::plan::{Plan, Uses};
use crate::time::Instant;
use crate::wire::RECORD_LEN_MAX;
use crate::wire::record::Signed;

use super::Timeline;
use super::asks::{Ask, Asking, Ended};
use super::reads::Scope;
use super::tags::Part;

/// Streams, for the host.
impl<P: Plan> Timeline<P> {
    /// A peer opened a stream.
    ///
    /// # Errors
    /// [`Busy`]: as many are open as the plan allows, or storage was not restored yet.
    pub fn accept_stream(&mut self, now: Instant, from: SocketAddr) -> Result<StreamId, Busy> {
        if !self.recovery.is_restored() {
            return Err(Busy);
        }
        self.exchange.accept_stream(now, &mut self.state, from)
    }

    /// A stream that was asked for is open.
    pub fn stream_opened(&mut self, now: Instant, stream: StreamId) {
        self.exchange.stream_opened(now, &mut self.state, stream);
    }

    /// Offers what has arrived on a stream; returns how much was taken.
    pub fn stream_readable(&mut self, now: Instant, stream: StreamId, bytes: &[u8]) -> usize {
        self.exchange
            .stream_readable(now, &mut self.state, stream, bytes)
    }

    /// Tells how many bytes a stream can take.
    pub fn stream_writable(&mut self, now: Instant, stream: StreamId, room: usize) {
        self.exchange.stream_writable(now, stream, room);
    }

    /// A stream is closed.
    pub fn stream_closed(&mut self, now: Instant, stream: StreamId) {
        self.exchange.stream_closed(now, &mut self.state, stream);
    }
}

/// The DHT.
impl<P: Plan> Timeline<P> {
    /// Takes a record that an operation of the timeline has found.
    pub fn on_record(&mut self, now: Instant, tag: u32, _op: OpId, verified: &Verified<'_>) {
        match Part::of(tag) {
            Some(Part::Queries) => self.queries.on_record(now, &mut self.state, tag, verified),
            Some(Part::Names) => self.names.on_record(tag, verified),
            Some(Part::Recover) => self.recovery.on_record(now, &mut self.state, verified),
            Some(Part::Reads) => {
                self.exchange.on_record(now, &mut self.state, tag, verified);
            }
            Some(Part::Publish | Part::Nobody) | None => {}
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
            | OpResult::NotFound
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
            Some(Part::Reads) => self.exchange.on_done(now, state, tag),
            Some(Part::Nobody) | None => {}
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
        while let Some((tag, result)) = self.begin_next(now, dht) {
            match result {
                Ok(()) => begun = true,
                Err(Busy) => self.end(now, tag, Ended::Busy),
            }
        }
        begun
    }

    /// Begins the next that a part wants, and says under which tag.
    #[inline(never)] // A record is in its frame, which is not to last while the parts go on.
    fn begin_next(&mut self, now: Instant, dht: &mut Dht<P>) -> Option<(u32, Result<(), Busy>)> {
        let mut buf = [0; RECORD_LEN_MAX];
        let asking = self.poll_ask(now, &mut buf)?;
        let (owner, within_ms) = (Owner::Timeline(asking.tag), asking.within_ms);
        let begun = match asking.ask {
            Ask::Get { key, kinds, author } => {
                dht.get(now, key, kinds, author.as_ref(), owner, within_ms)
            }
            Ask::Put { len } => {
                let record = Signed::just_now(buf.get(..len).unwrap_or_default());
                dht.begin_put(now, record, owner, within_ms, false)
            }
            Ask::Leave if !P::Uses::EVERY_COMMAND => Err(Busy),
            Ask::Leave => dht.leave(now, owner, within_ms),
        };
        Some((asking.tag, begun.map(drop)))
    }

    #[inline(never)] // Shorter on a board than inside its caller.
    fn poll_ask(&mut self, now: Instant, buf: &mut [u8]) -> Option<Asking> {
        let state = &mut self.state;
        self.names
            .poll_ask(now)
            .or_else(|| self.queries.poll_ask(now, state, buf))
            .or_else(|| self.exchange.poll_ask())
            .or_else(|| self.recovery.poll_ask(now, state))
            .or_else(|| self.publish.poll_ask(now, state, buf))
    }

    /// Carries what one part has learned to the others.
    fn go_on(&mut self, now: Instant, dht: &Dht<P>) {
        let contacts = dht.peers().len();
        self.recovery.on_contacts(now, contacts);
        self.recovery.handle_timeout(now, &mut self.state);
        let state = &mut self.state;
        while let Some((tag, delivered)) = state.errands.collect(now) {
            match Part::of(tag) {
                Some(Part::Queries) => self.queries.on_delivered(tag, delivered),
                Some(Part::Recover) => self.recovery.on_fetched(),
                Some(Part::Publish | Part::Names | Part::Reads | Part::Nobody) | None => {}
            }
        }
        while let Some(user) = self.exchange.poll_missed() {
            self.publish.missed(now, user);
        }
        self.recovery.handle_timeout(now, state);
        self.queries.handle_timeout(now, state, &self.names);
        while let Some(read) = self.queries.next_read(now) {
            let scope = read.whose.map_or(Scope::Everyone, Scope::One);
            let within_ms = u32::try_from(read.until.since_ms(now)).unwrap_or(u32::MAX);
            let query = Some(read.query);
            let begun = self.exchange.read(now, state, query, scope, within_ms);
            self.queries
                .read_begun(now, &mut self.names, &read, begun.is_ok());
        }
        if state.on_observed(dht.observed()) {
            self.publish.on_address(now);
        }
        if !self.publishing && !state.me.is_mute() {
            self.publishing = true;
            self.publish.start(now, state);
            self.exchange.start(now, state);
        }
        self.publish.on_contacts(now, state, contacts);
        self.publish.on_log(now, state);
        if !state.copies.is_empty() {
            self.publish.on_copies(now, state);
        }
    }
}
