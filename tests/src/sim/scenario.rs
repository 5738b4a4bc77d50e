//! What a test says to a world: nodes, commands, crashes, partitions, strangers.
//!
//! Each verb comes twice where it takes time: `begin_*` gives the command and returns a [`Ticket`], so that many can run
//! at once; the bare verb runs the world until the command ended and returns what it brought. Owns nothing.

use std::any::Any;
use std::time::Duration;

use strandline_core::crypto::{Crypto, SecretKey};
use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::name::Handle;
use strandline_core::output::{Damaged, Outcome, Person, Relation, Restored, Unreached};
use strandline_core::plan::{Plan, Server};

use super::answers::{Answer, Notice, Shown, State, Ticket};
use super::application::AnyApplication;
use super::heap;
use super::machine::{Program, Setup};
use super::network::Network;
use super::node::{Command, Input, hash};
use super::plans::{Cryptography, Kind, SimServer};
use super::storage::Storage;
use super::tape::Tape;
use super::world::{HostId, World};

/// So many milliseconds.
#[must_use]
pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// So many seconds.
#[must_use]
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// So many minutes.
#[must_use]
pub const fn mins(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// A timeline as it was read.
#[derive(Clone, Debug)]
pub struct Read {
    /// The posts, in the order in which they came.
    pub posts: Vec<Shown>,
    /// Who could not be read.
    pub missing: Vec<(Person, Unreached)>,
    /// Whether nobody is missing; `None` if it did not end with a reading.
    pub complete: Option<bool>,
}

impl Read {
    /// The posts of one author as `number text`, newest first.
    #[must_use]
    pub fn of(&self, user: UserId) -> Vec<String> {
        let of = self.posts.iter().filter(|post| post.author.user == user);
        of.map(|post| format!("{} {}", post.seq, post.text))
            .collect()
    }

    /// Whether this user is among the missing.
    #[must_use]
    pub fn misses(&self, user: UserId) -> bool {
        self.missing.iter().any(|(person, _)| person.user == user)
    }
}

/// What became of a follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Follows {
    /// As many holders have it as are needed.
    pub stored: bool,
    /// The followed was reached itself.
    pub delivered: bool,
}

/// The network and its nodes.
impl World {
    /// Adds a node and starts it. All but the first join through the first.
    pub fn node(&mut self, kind: Kind) -> HostId {
        self.node_with(Setup::new(kind))
    }

    /// Adds several nodes of a kind.
    pub fn nodes(&mut self, kind: Kind, count: usize) -> Vec<HostId> {
        (0..count).map(|_| self.node(kind)).collect()
    }

    /// Adds a node with its own settings and starts it.
    ///
    /// # Panics
    /// If it does not start: it is new, nothing can be wrong with its storage.
    pub fn node_with(&mut self, setup: Setup) -> HostId {
        let host = self.add_machine(setup);
        if let Err(damaged) = self.boot(host) {
            self.fail(host, format!("does not start: {damaged:?}"));
        }
        self.join_first(host);
        host
    }

    /// Adds a machine that is off, and tells the id that its node is going to have.
    pub fn prepare(&mut self, setup: Setup) -> (HostId, NodeId) {
        fn of<C: Crypto>(secret: &SecretKey) -> NodeId {
            NodeId::of_key::<C>(&C::public_key(secret))
        }
        let host = self.add_machine(setup);
        let secret = &self.machine(host).identity.node;
        let id = match self.cryptography() {
            Cryptography::Real => of::<<Server as Plan>::Crypto>(secret),
            Cryptography::StandIn => of::<<SimServer as Plan>::Crypto>(secret),
        };
        (host, id)
    }

    /// Starts the node of a machine that is off, and lets it join nobody.
    pub fn switch_on(&mut self, host: HostId) {
        if let Err(damaged) = self.boot(host) {
            self.fail(host, format!("does not start: {damaged:?}"));
        }
    }

    /// A network of `servers` and `boards`, all joined and registered, a second after the last.
    pub fn joined(&mut self, servers: usize, boards: usize) -> Vec<HostId> {
        let mut hosts = self.nodes(Kind::Server, servers);
        hosts.extend(self.nodes(Kind::Board, boards));
        self.run_for(secs(30));
        hosts
    }

    /// Runs an application on a running node, until the node stops. What it hears is kept for the test as well, but not
    /// what becomes of its own commands.
    ///
    /// # Panics
    /// If no node runs there, or one that is recorded: a tape holds no calls of an application.
    pub fn run_application(&mut self, host: HostId, application: impl AnyApplication) {
        assert!(self.running(host).is_some(), "{host} does not run");
        assert!(self.tape(host).is_none(), "{host} is recorded");
        self.machine_mut(host.0).application = Some(Box::new(application));
        self.model.unheard(host);
        self.input(host.0, &Input::Timeout);
    }

    /// The application of a node, as it is now, or was when its node stopped.
    #[must_use]
    pub fn application<A: AnyApplication>(&self, host: HostId) -> Option<&A> {
        let application: &dyn Any = self.machine(host).application.as_deref()?;
        application.downcast_ref()
    }

    /// The same, to change it: it acts at the next input of its node.
    pub fn application_mut<A: AnyApplication>(&mut self, host: HostId) -> Option<&mut A> {
        let application: &mut dyn Any = self.machine_mut(host.0).application.as_deref_mut()?;
        application.downcast_mut()
    }

    /// Adds a node whose every input is recorded from its start, see [`World::tape`].
    pub fn recorded_node(&mut self, kind: Kind) -> HostId {
        let host = self.add_machine(Setup::new(kind));
        self.tapes.insert(host.0, Tape::default());
        if let Err(damaged) = self.boot(host) {
            self.fail(host, format!("does not start: {damaged:?}"));
        }
        self.join_first(host);
        host
    }

    /// What was recorded of a node.
    #[must_use]
    pub fn tape(&self, host: HostId) -> Option<&Tape> {
        self.tapes.get(&host.0)
    }

    fn join_first(&mut self, host: HostId) {
        let through = self
            .machines
            .iter()
            .enumerate()
            .find_map(|(index, machine)| {
                let other = index != host.0 as usize && machine.node().is_some();
                other.then_some(machine.addr)
            });
        if let Some(addr) = through.filter(|_| self.machine(host).setup.joins) {
            self.command(host, &Command::Join(addr), None);
        }
    }

    /// The network's conditions, to change.
    pub const fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    /// Cuts these nodes off from all others; they still reach each other.
    pub fn partition(&mut self, hosts: &[HostId]) {
        let machines: Vec<u32> = hosts.iter().map(|host| host.0).collect();
        self.network.isolate(&machines);
        self.model.disturb();
    }

    /// From now on what is found is a matter of luck, see [`super::model::Model::disturb`]: clocks may be off, say.
    pub const fn disturb(&mut self) {
        self.model.disturb();
    }

    /// Ends all partitions.
    pub fn heal(&mut self) {
        self.network.heal();
    }

    /// Kills a node as by `kill -9`: what was not durable is lost, its connections are reset.
    pub fn crash(&mut self, host: HostId) {
        self.stop(host, false);
    }

    /// Makes a machine vanish, as by a power cut: its peers hear nothing at all.
    pub fn vanish(&mut self, host: HostId) {
        self.stop(host, true);
    }

    /// Loses the disk of a machine that does not run: its next start finds nothing, and knows that.
    pub fn lose_storage(&mut self, host: HostId) {
        assert!(self.running(host).is_none(), "{host} runs");
        let machine = self.machine_mut(host.0);
        machine.storage.lose();
        machine.found = Restored::Lost;
        self.model.storage_lost(host);
    }

    /// The disk of a machine, to damage.
    pub fn storage_mut(&mut self, host: HostId) -> &mut Storage {
        &mut self.machine_mut(host.0).storage
    }

    fn stop(&mut self, host: HostId, silently: bool) {
        assert!(self.running(host).is_some(), "{host} does not run");
        let now_us = self.now_us();
        self.drop_streams(host.0, silently);
        let pending = self.machine(host).storage.pending();
        let reached = self.nodes_random.index(pending + 1);
        let machine = self.machine_mut(host.0);
        machine.storage.crash(reached);
        let program = if silently {
            Program::Vanished
        } else {
            Program::Stopped
        };
        let node = std::mem::replace(&mut machine.program, program);
        heap::on(heap::Side::Core, || drop(node));
        (machine.deadline, machine.timer_us) = (None, None);
        self.abandon(host.0);
        self.meter.stopped(host);
        self.model.stopped(host, now_us);
    }

    /// Makes a machine vanish for good: what it held and what was known about it is forgotten here too.
    pub fn retire(&mut self, host: HostId) {
        self.stop(host, true);
        self.storage_mut(host).lose();
        self.ledger.restart(host.0);
        self.notices.remove(&host);
    }

    /// Starts a node again on what its disk holds, and joins.
    pub fn restart(&mut self, host: HostId) {
        if let Err(damaged) = self.try_restart(host) {
            self.fail(host, format!("does not start again: {damaged:?}"));
        }
    }

    /// The same, where the disk may be damaged.
    ///
    /// # Errors
    /// What the node found wrong with it. It stays stopped.
    pub fn try_restart(&mut self, host: HostId) -> Result<(), Damaged> {
        self.boot(host)?;
        self.join_first(host);
        Ok(())
    }

    /// Runs the world for so long.
    pub fn run_for(&mut self, time: Duration) {
        let until_us = self.now_us() + u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        while self.step(until_us) {}
    }

    /// Runs until a command ended; at most a minute longer than it may take.
    pub fn run_until_done(&mut self, ticket: Ticket) -> &Answer {
        let until_us = self.now_us() + u64::from(self.within_ms) * 1_000 + 60_000_000;
        while self.answers[&ticket].state == State::Running && self.step(until_us) {}
        &self.answers[&ticket]
    }

    /// What a command has brought so far.
    #[must_use]
    pub fn answer(&self, ticket: Ticket) -> &Answer {
        &self.answers[&ticket]
    }

    /// What a command brought, out of the world's hands. `None`: it still runs, or was taken before.
    pub fn take(&mut self, ticket: Ticket) -> Option<Answer> {
        if self.answers.get(&ticket)?.state == State::Running {
            return None;
        }
        self.answers.remove(&ticket)
    }

    /// The nodes to whose application notices came that were not taken.
    #[must_use]
    pub fn noticed(&self) -> Vec<HostId> {
        self.notices.keys().copied().collect()
    }

    /// Notices that came to a node's application since the last call.
    pub fn take_notices(&mut self, host: HostId) -> Vec<Notice> {
        self.notices.remove(&host).unwrap_or_default()
    }

    /// The user of a node.
    #[must_use]
    pub fn user(&self, host: HostId) -> UserId {
        self.machine(host).user
    }

    /// The handle of a node's user, with its fingerprint.
    #[must_use]
    pub fn handle(&self, host: HostId) -> Handle {
        Handle::of(self.machine(host).identity.name, &self.user(host))
    }

    /// The key that a text hashes to, in this world.
    #[must_use]
    pub fn key(&self, text: &str) -> Key {
        Key::from_bytes(hash(
            self.cryptography(),
            "simulation/key",
            &[text.as_bytes()],
        ))
    }
}

/// The application's commands.
impl World {
    /// Gives any command. `about` is the node whose user it is about, if any.
    pub fn begin(&mut self, host: HostId, command: &Command, about: Option<HostId>) -> Ticket {
        self.command(host, command, about)
    }

    /// Gives any command and runs until it ended.
    pub fn run(&mut self, host: HostId, command: &Command, about: Option<HostId>) -> Answer {
        let ticket = self.begin(host, command, about);
        self.run_until_done(ticket).clone()
    }

    /// Begins to post.
    pub fn begin_post(&mut self, host: HostId, text: &str) -> Ticket {
        self.begin(host, &Command::Post(text.to_owned()), None)
    }

    /// Posts and returns the number, once it is acknowledged.
    ///
    /// # Panics
    /// If it is not.
    pub fn post(&mut self, host: HostId, text: &str) -> u64 {
        let answer = self.run(host, &Command::Post(text.to_owned()), None);
        match answer.state {
            State::Done(Outcome::Posted { seq, .. }) => seq,
            other => panic!(
                "seed {}: {host} could not post {text:?}: {other:?}",
                self.seed
            ),
        }
    }

    /// Begins to follow.
    pub fn begin_follow(&mut self, follower: HostId, followed: HostId) -> Ticket {
        self.begin(
            follower,
            &Command::Follow(self.handle(followed)),
            Some(followed),
        )
    }

    /// Follows.
    ///
    /// # Panics
    /// If that does not end as a follow.
    pub fn follow(&mut self, follower: HostId, followed: HostId) -> Follows {
        let ticket = self.begin_follow(follower, followed);
        match self.run_until_done(ticket).state {
            State::Done(Outcome::Followed {
                delivered,
                accepted,
                wanted,
                ..
            }) => Follows {
                stored: accepted >= wanted,
                delivered,
            },
            other => panic!(
                "seed {}: {follower} could not follow {followed}: {other:?}",
                self.seed
            ),
        }
    }

    /// Unfollows.
    pub fn unfollow(&mut self, follower: HostId, followed: HostId) -> Answer {
        self.run(
            follower,
            &Command::Unfollow(self.handle(followed)),
            Some(followed),
        )
    }

    /// Begins to read the timeline of everyone followed.
    pub fn begin_timeline(&mut self, host: HostId) -> Ticket {
        self.begin(host, &Command::Timeline(None), None)
    }

    /// Reads the timeline of everyone followed.
    pub fn timeline(&mut self, host: HostId) -> Read {
        let ticket = self.begin_timeline(host);
        read(self.run_until_done(ticket))
    }

    /// Reads the posts of one user.
    pub fn timeline_of(&mut self, host: HostId, of: HostId) -> Read {
        let command = Command::Timeline(Some(self.handle(of)));
        read(&self.run(host, &command, Some(of)))
    }

    /// Lists the followers of a user, and whether the list says that it is complete.
    pub fn followers(&mut self, asker: HostId, of: HostId) -> (Vec<UserId>, bool) {
        let command = Command::Followers((asker != of).then(|| self.handle(of)));
        people(&self.run(asker, &command, Some(of)), |relation| {
            relation == Relation::Follower
        })
    }

    /// Lists whom a user follows, and whether the list says that it is complete.
    pub fn following(&mut self, asker: HostId, of: HostId) -> (Vec<UserId>, bool) {
        let command = Command::Following((asker != of).then(|| self.handle(of)));
        people(&self.run(asker, &command, Some(of)), |relation| {
            relation == Relation::Followed
        })
    }

    /// Looks a handle up, as written.
    ///
    /// # Panics
    /// If it is no handle.
    pub fn whois(&mut self, asker: HostId, handle: &str) -> Answer {
        match Handle::parse(handle) {
            Ok(handle) => self.run(asker, &Command::Whois(handle), None),
            Err(error) => panic!("{handle:?} is no handle: {error:?}"),
        }
    }

    /// Stores a value for an hour and tells whether enough holders took it.
    pub fn put(&mut self, host: HostId, key: Key, value: &[u8]) -> bool {
        let command = Command::Put {
            key,
            value: value.to_vec(),
            ttl_s: 3_600,
        };
        match self.run(host, &command, None).state {
            State::Done(Outcome::Stored { accepted, wanted }) => accepted >= wanted,
            _ => false,
        }
    }

    /// Reads the values at a key.
    pub fn get(&mut self, host: HostId, key: Key) -> Vec<Vec<u8>> {
        let answer = self.run(host, &Command::Get(key), None);
        answer
            .values
            .into_iter()
            .map(|(_, _, value)| value)
            .collect()
    }
}

fn read(answer: &Answer) -> Read {
    Read {
        posts: answer.posts.clone(),
        missing: answer.missing.clone(),
        complete: match answer.state {
            State::Done(Outcome::Read { complete }) => Some(complete),
            State::Running | State::Refused(_) | State::Done(_) | State::Abandoned => None,
        },
    }
}

fn people(answer: &Answer, wanted: impl Fn(Relation) -> bool) -> (Vec<UserId>, bool) {
    let listed = answer
        .people
        .iter()
        .filter(|(_, relation)| wanted(*relation));
    let users = listed.map(|(person, _)| person.user).collect();
    (
        users,
        matches!(
            answer.outcome(),
            Some(Outcome::Found { complete: true, .. })
        ),
    )
}
