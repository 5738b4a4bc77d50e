//! The timeline: posting, following and reading, on top of the DHT.
//!
//! [`Timeline`] composes the parts and carries what one learns to the others. [`state::State`] is what all of them work
//! on: [`me`] (who signs), [`log`] (own posts), [`people`] (followed and followers), [`copies`] (others' posts, for a
//! while), [`posts`] (the bytes of both), [`persist`] (what storage has to write), [`errands`] (what is to be said over
//! streams). [`publish`] keeps records in the DHT, [`names`] finds out whom a handle means, [`queries`] runs commands,
//! [`recover`] brings the user back after a restart. Invariant: nothing here does I/O or knows a node's key; records go
//! through the DHT, frames through streams.

pub mod asks;
mod carry;
pub mod chain;
mod commands;
pub mod copies;
pub mod errands;
pub mod exchange;
pub mod log;
pub mod me;
pub mod names;
pub mod people;
pub mod persist;
pub mod posts;
pub mod publish;
pub mod queries;
pub mod reads;
pub mod recover;
pub mod state;
pub mod statements;
pub mod stored;
pub mod streams;
pub mod tags;
pub mod tree;

#[cfg(test)]
mod testing;

use crate::config::{Config, Identity};
use crate::id::UserId;
use crate::name::Name;
use crate::output::{Damaged, PersistId, Restored, Stored, Table};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::rules::{Dropped, Rule};
use crate::time::{Deadline, Instant};
use crate::wire::codec::Decode;
use crate::wire::record::{Kind, Record};

use exchange::Exchange;
use names::Names;
use publish::Publish;
use queries::Queries;
use recover::Recovery;
use state::State;

/// Tables that [`Timeline::usage`] lists.
pub const TABLES: usize = 9;

/// The timeline of one user.
#[repr(C)] // The large last: a board reaches the first fields with short instructions.
pub struct Timeline<P: Plan> {
    now: Instant,
    started: bool,
    /// Records are kept in the DHT: signing has been allowed.
    publishing: bool,
    /// The storage failed, and the host was not told so yet.
    storage_failed: bool,
    recovery: Recovery,
    names: Names<P>,
    publish: Publish<P>,
    queries: Queries<P>,
    exchange: Exchange<P>,
    state: State<P>,
}

impl<P: Plan> Timeline<P> {
    /// Nobody's: all zero.
    pub const EMPTY: Self = Self {
        now: Instant::ZERO,
        started: false,
        publishing: false,
        storage_failed: false,
        state: State::EMPTY,
        names: Names::EMPTY,
        publish: Publish::EMPTY,
        queries: Queries::EMPTY,
        recovery: Recovery::EMPTY,
        exchange: Exchange::EMPTY,
    };

    /// Takes identity and settings. Storage is restored next; nothing is signed before.
    pub fn start(
        &mut self,
        now: Instant,
        identity: Identity,
        config: &Config,
        mut rng: Rng<P::Crypto>,
    ) {
        self.now = now;
        self.started = true;
        self.state.people.start(rng.next_u64());
        self.state.copies.start(rng.next_u64());
        self.queries.start(rng.next_u64());
        self.state.me.start(identity, config, rng);
        self.state.on_observed(None);
    }

    /// Whether it was started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.state.me.user()
    }

    /// The user's name; not to be shown before the start.
    #[must_use]
    pub fn name(&self) -> Name {
        self.state.me.name()
    }

    /// Number of the last own post that is durable.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.state.log.durable()
    }

    /// How many people are followed.
    #[must_use]
    pub fn following_count(&self) -> usize {
        self.state.people.followed_len()
    }

    /// How many followers are known here.
    #[must_use]
    pub fn followers_count(&self) -> usize {
        self.state.people.followers_len()
    }

    /// Tells the time of day.
    pub fn set_clock(&mut self, now: Instant, unix_ms: u64, uncertainty_ms: u32) {
        self.state.me.set_clock(now, unix_ms, uncertainty_ms);
    }

    /// Takes one entry of storage; see [`State::restored`].
    ///
    /// # Errors
    /// See there; also when the restoring has ended.
    pub fn restored(&mut self, now: Instant, item: Stored<'_>) -> Result<(), Damaged> {
        if !self.started || self.recovery.is_restored() {
            return Err(Damaged {
                class: item.class,
                what: "storage is restored once, after the start",
            });
        }
        self.state.restored(now, item)
    }

    /// Ends the restoring; a second call changes nothing.
    ///
    /// # Errors
    /// What is wrong with the storage.
    pub fn restored_all(&mut self, now: Instant, how: Restored) -> Result<(), Damaged> {
        if !self.started || self.recovery.is_restored() {
            return Ok(());
        }
        self.state.restored_all(how)?;
        self.recovery.start(now, how);
        Ok(())
    }

    /// Everything up to `up_to` is durable.
    pub fn persisted(&mut self, _now: Instant, up_to: PersistId) {
        self.state.persisted(up_to);
        self.queries.persisted(up_to);
    }

    /// Something could not be made durable: what waits for storage has failed, and nothing more is signed.
    pub fn persist_failed(&mut self, _now: Instant, _id: PersistId) {
        self.storage_failed = true;
        self.state.persist_failed();
        self.queries.persist_failed(&mut self.state);
    }

    /// A number for something else that the host is to write, once [`Timeline::poll_persist`] has nothing.
    pub fn next_persist_id(&mut self) -> PersistId {
        self.state.persists.next_id()
    }

    /// Does what was due by `now`; [`Timeline::ask`] is to follow.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let State {
            people,
            copies,
            posts,
            persists,
            ..
        } = &mut self.state;
        people.handle_timeout(now, persists);
        // Those that follow in the same moment are freed a moment later: see the deadline.
        if let Some(author) = copies.handle_timeout(now, posts, persists) {
            self.state.on_lapsed(now, &author);
        }
        self.names.handle_timeout(now);
        self.exchange.handle_timeout(now, &mut self.state);
    }

    /// When [`Timeline::handle_timeout`] is to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Deadline {
        (self.state.people.next_deadline())
            .or(self.state.copies.next_deadline())
            .or(self.state.errands.next_deadline())
            .or(self.names.next_deadline())
            .or(self.publish.next_deadline(&self.state))
            .or(self.queries.next_deadline())
            .or(self.recovery.next_deadline())
            .or(self.exchange.next_deadline())
    }

    /// How often each rule was broken by peers.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.state.dropped.clone()
    }

    /// The bounded tables.
    #[must_use]
    pub fn usage(&self) -> [Table; TABLES] {
        let State {
            people,
            copies,
            posts,
            ..
        } = &self.state;
        let [commands, results] = self.queries.used();
        let [streams, jobs, reads] = self.exchange.used();
        let table = |name, (used, capacity)| Table {
            name,
            used,
            capacity,
            bytes: 0,
        };
        [
            Table {
                bytes: posts.used().1,
                ..table("posts", (posts.used().0, posts.capacity()))
            },
            table("following", (people.followed_len(), people.followed_max())),
            table(
                "followers",
                (people.followers_len(), people.followers_max()),
            ),
            table("copies", (copies.len(), copies.capacity())),
            table("commands", commands),
            table("results", results),
            table("streams", streams),
            table("jobs", jobs),
            table("reads", reads),
        ]
    }
}

/// The earliest of some instants. `Iterator::min` would be half as long again on a board.
fn soonest(instants: impl Iterator<Item = Instant>) -> Deadline {
    let mut soonest = Deadline::NEVER;
    for at in instants {
        soonest.lower(at);
    }
    soonest
}

/// The payload of a record that must be of `kind`.
fn payload_of<'a, T: Decode<'a>>(record: &Record<'a>, kind: Kind) -> Result<T, Rule> {
    if record.kind == kind {
        record.payload()
    } else {
        Err(Rule::Kind)
    }
}
