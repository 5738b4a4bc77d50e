//! The world: machines, the network between them, one queue of events, and the oracles that look at every step.
//!
//! Owns the order of everything. A step takes one event, hands its input to one node, drains the node through core's own
//! loop, judges every output, and carries the outputs out as events to come. What the inputs and outputs are is traced,
//! so that two runs can be compared by one number. Streams are moved in `super::carry`; what a test says to a world is
//! in [`super::scenario`]. The invariant: between two steps every running node has been drained to `Wait`, and nothing
//! depends on anything but the seed and the calls of the test.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;

use strandline_core::clock::DRIFT_PPM;
use strandline_core::crypto::Crypto;
use strandline_core::id::UserId;
use strandline_core::output::{Damaged, PersistId, QueryId, Restored, Stored};
use strandline_core::plan::{Plan, Server};
use strandline_core::rng::Seed;
use strandline_core::wire::datagram::{Body, Contact, Datagram};
use strandline_core::wire::frame::Frame;
use strandline_core::wire::record::Copy;
use strandline_core::wire::{DATAGRAM_LEN_MAX, NetworkId};

use super::answers::{Answer, Heard, Notice, State, Ticket};
use super::carry::Signal;
use super::clock::Ticker;
use super::effects::{Effect, Gathering};
use super::ledger::Ledger;
use super::machine::{Machine, Program, Setup, address_of};
use super::model::Model;
use super::network::Network;
use super::node::{AnyNode, Command, Input, Reply};
use super::plans::{Cryptography, SimServer};
use super::queue::Queue;
use super::random::Random;
use super::streams::{ConnId, Side, Streams};
use super::tape::Tape;
use super::trace::Trace;

/// Names a machine of a world, and the node on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub u32);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// How long after its deadline a query may end: one wake-up, and what the clock drifted.
pub const QUERY_SLACK_US: u64 = 250_000;
/// More wake-ups than this in one second of a node's life are a spin.
const WAKEUPS_MAX: u32 = 20_000;
/// How long a write takes to reach the disk, in µs.
const COMMIT_US: std::ops::RangeInclusive<u64> = 300..=12_000;
/// How often the time of day is asked for, in µs.
const SNTP_US: u64 = 60_000_000;
/// A world that collects failures stops collecting here.
const FAILURES_MAX: usize = 50;

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Event {
    Datagram {
        to: u32,
        from: SocketAddr,
        bytes: Box<[u8]>,
    },
    Wake {
        host: u32,
        at_us: u64,
    },
    Commit {
        host: u32,
        incarnation: u32,
    },
    Sntp {
        host: u32,
        incarnation: u32,
    },
    Stream(ConnId, Signal),
    Overdue(Ticket),
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When, in µs of the world's time.
    pub at_us: u64,
    /// Which node broke it.
    pub host: HostId,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, us) = (self.at_us / 1_000_000, self.at_us % 1_000_000);
        write!(f, "at {s}.{us:06} s, node {}: {}", self.host, self.what)
    }
}

/// How much happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Inputs to nodes.
    pub inputs: u64,
    /// Outputs of nodes.
    pub outputs: u64,
    /// Datagrams that nodes sent.
    pub datagrams: u64,
    /// Bytes in them.
    pub datagram_bytes: u64,
    /// Datagrams that arrived nowhere.
    pub datagrams_lost: u64,
    /// The longest datagram.
    pub datagram_len_max: usize,
    /// Streams opened.
    pub streams: u64,
    /// Frames written to them.
    pub frames: u64,
    /// Bytes in those.
    pub stream_bytes: u64,
    /// Commands begun.
    pub begun: u64,
    /// Commands that ended.
    pub ended: u64,
}

/// What enters a node at once with an input, before it is drained.
enum With {
    Nothing,
    Connection(ConnId),
    Ticket(Ticket),
}

/// See the file's first paragraph.
pub struct World {
    pub(super) seed: u64,
    cryptography: Cryptography,
    network_id: NetworkId,
    pub(super) queue: Queue<Event>,
    pub(super) network: Network,
    pub(super) streams: Streams,
    pub(super) machines: Vec<Machine>,
    by_addr: HashMap<SocketAddr, u32>,
    /// Keys, seeds, clocks and disks of the machines.
    pub(super) nodes_random: Random,
    /// Sizes of segments.
    pub(super) segments_random: Random,
    trace: Trace,
    ledger: Ledger,
    pub(super) model: Model,
    pub(super) answers: BTreeMap<Ticket, Answer>,
    open: BTreeMap<(u32, QueryId), Ticket>,
    others: BTreeMap<Ticket, HostId>,
    tickets: u64,
    pub(super) notices: BTreeMap<HostId, Vec<Notice>>,
    pub(super) tapes: BTreeMap<u32, Tape>,
    pub(super) tally: Tally,
    failures: Vec<Failure>,
    /// Whether a failed oracle panics at once (in tests), or is collected (in the simulator's binary).
    pub panics: bool,
    /// How long commands may take, in ms.
    pub within_ms: u32,
    /// How to run this world again; printed when an oracle fails.
    pub replay: String,
    /// A node whose every input and output is told on stderr, in words.
    pub watched: Option<HostId>,
}

impl World {
    /// An empty world with real cryptography.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_cryptography(seed, Cryptography::Real)
    }

    /// An empty world.
    #[must_use]
    pub fn with_cryptography(seed: u64, cryptography: Cryptography) -> Self {
        let random = Random::new(seed);
        let network_id = match cryptography {
            Cryptography::Real => NetworkId::of_name::<<Server as Plan>::Crypto>("simulation"),
            Cryptography::StandIn => {
                NetworkId::of_name::<<SimServer as Plan>::Crypto>("simulation")
            }
        };
        Self {
            seed,
            cryptography,
            network_id,
            queue: Queue::new(),
            network: Network::new(random.fork("network")),
            streams: Streams::default(),
            machines: Vec::new(),
            by_addr: HashMap::new(),
            nodes_random: random.fork("nodes"),
            segments_random: random.fork("segments"),
            trace: Trace::new(),
            ledger: Ledger::default(),
            model: Model::default(),
            answers: BTreeMap::new(),
            open: BTreeMap::new(),
            others: BTreeMap::new(),
            tickets: 0,
            notices: BTreeMap::new(),
            tapes: BTreeMap::new(),
            tally: Tally::default(),
            failures: Vec::new(),
            panics: true,
            within_ms: 10_000,
            replay: String::new(),
            watched: None,
        }
    }

    /// The seed of this world.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Which cryptography its nodes use.
    #[must_use]
    pub const fn cryptography(&self) -> Cryptography {
        self.cryptography
    }

    /// The network that its nodes belong to.
    #[must_use]
    pub const fn network_id(&self) -> NetworkId {
        self.network_id
    }

    /// The time in µs since the world began.
    #[must_use]
    pub const fn now_us(&self) -> u64 {
        self.queue.now_us()
    }

    /// The trace of everything so far.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// How much happened so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The promises that were broken so far.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// The reference model.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// How many machines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.machines.len()
    }

    /// Whether there is no machine.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }

    /// A machine.
    #[must_use]
    pub fn machine(&self, host: HostId) -> &Machine {
        &self.machines[host.0 as usize]
    }

    pub(super) fn machine_mut(&mut self, host: u32) -> &mut Machine {
        &mut self.machines[host as usize]
    }

    /// The running node of a machine.
    #[must_use]
    pub fn running(&self, host: HostId) -> Option<&AnyNode> {
        self.machines.get(host.0 as usize).and_then(Machine::node)
    }

    /// Adds a machine that is not switched on yet, at the next free address.
    pub(super) fn add_machine(&mut self, setup: Setup) -> HostId {
        let host = u32::try_from(self.machines.len()).unwrap_or(u32::MAX);
        let name = setup
            .name
            .map_or_else(|| format!("user-{host}"), str::to_owned);
        let name = match strandline_core::name::Name::parse(&name) {
            Ok(name) => name,
            Err(error) => panic!("the name {name:?} of a test is wrong: {error:?}"),
        };
        let addr = address_of(host);
        let mut machine = Machine::new(addr, setup, name, &mut self.nodes_random);
        machine.user = self.user_of(&machine);
        self.by_addr.insert(addr, host);
        self.machines.push(machine);
        HostId(host)
    }

    fn user_of(&self, machine: &Machine) -> UserId {
        fn of<C: Crypto>(machine: &Machine) -> UserId {
            UserId::of_key::<C>(&C::public_key(&machine.identity.user))
        }
        match self.cryptography {
            Cryptography::Real => of::<<Server as Plan>::Crypto>(machine),
            Cryptography::StandIn => of::<<SimServer as Plan>::Crypto>(machine),
        }
    }

    /// Switches a machine on: starts its node and hands it its storage.
    ///
    /// # Errors
    /// [`Damaged`]: the node refused its storage; the machine stays off.
    pub(super) fn boot(&mut self, host: HostId) -> Result<(), Damaged> {
        let now_us = self.now_us();
        let (origin_us, seed) = (
            self.nodes_random.below(1 << 40),
            self.nodes_random.bytes_32(),
        );
        let (network_id, within_ms, cryptography) =
            (self.network_id, self.within_ms, self.cryptography);
        let machine = self.machine_mut(host.0);
        assert!(
            !matches!(machine.program, Program::Node(_)),
            "{host} runs already"
        );
        machine.incarnation += 1;
        machine.ticker = Ticker::new(now_us, origin_us, machine.setup.drift_ppm);
        machine.program = Program::Node(Box::new(AnyNode::unstarted(
            machine.setup.kind,
            cryptography,
        )));
        (machine.deadline, machine.timer_us, machine.committing) = (None, None, false);
        let config = machine.setup.config(network_id, machine.addr, within_ms);
        let (identity, incarnation) = (machine.identity.clone(), machine.incarnation);
        let (kind, keep, found) = (machine.setup.kind, machine.setup.keep, machine.found);
        let (user, time_of_day) = (machine.user, machine.setup.time_of_day);
        let stored: Vec<(Vec<u8>, Vec<u8>, _)> = machine
            .storage
            .entries()
            .map(|item| {
                (
                    item.key.to_vec(),
                    item.value.unwrap_or_default().to_vec(),
                    item.class,
                )
            })
            .collect();

        self.ledger.restart(host.0);
        let keep_us = u64::try_from(keep.as_micros()).unwrap_or(u64::MAX);
        self.model.started(host, user, kind, keep_us, now_us);
        let started = self.input(
            host.0,
            &Input::Start {
                identity: &identity,
                seed: &Seed(seed),
                config: &config,
            },
        );
        if started != Reply::Started(Ok(())) {
            self.fail(host, format!("does not start: {started:?}"));
        }
        if let Some((unix_ms, uncertainty_ms)) = time_of_day.read(now_us) {
            self.input(
                host.0,
                &Input::Clock {
                    unix_ms,
                    uncertainty_ms,
                },
            );
            self.queue.push(
                now_us + SNTP_US,
                Event::Sntp {
                    host: host.0,
                    incarnation,
                },
            );
        }
        let mut damaged = None;
        for (key, value, class) in &stored {
            let item = Stored {
                class: *class,
                key,
                value: Some(value),
            };
            if let Reply::Restored(Err(wrong)) = self.input(host.0, &Input::Restored(item)) {
                damaged = damaged.or(Some(wrong));
            }
        }
        if let Reply::Restored(Err(wrong)) = self.input(host.0, &Input::RestoredAll(found)) {
            damaged = damaged.or(Some(wrong));
        }
        if let Some(wrong) = damaged {
            self.machine_mut(host.0).program = Program::Stopped;
            self.model.stopped(host, now_us);
            return Err(wrong);
        }
        self.machine_mut(host.0).found = Restored::Intact;
        self.check_restored(host, found);
        Ok(())
    }

    /// After a restart with its storage, a node knows every post that was acknowledged.
    fn check_restored(&mut self, host: HostId, found: Restored) {
        let acked = self.model.last_acked(host);
        let last = self.running(host).map_or(0, |node| node.stats().last);
        if found == Restored::Intact && last < acked {
            self.fail(
                host,
                format!("restarts at #{last}, and #{acked} was acknowledged"),
            );
        }
    }

    /// Takes the next event that is due by `until_us` and does what it says. False when there is none.
    pub(super) fn step(&mut self, until_us: u64) -> bool {
        let Some(event) = self.queue.pop(until_us) else {
            self.queue.advance(until_us);
            return false;
        };
        match event {
            Event::Datagram { to, from, bytes } => self.deliver(to, from, &bytes),
            Event::Wake { host, at_us } => self.wake(host, at_us),
            Event::Commit { host, incarnation } => {
                if self.lives(host, incarnation) {
                    self.commit(host);
                }
            }
            Event::Sntp { host, incarnation } => {
                let time_of_day = self.machine(HostId(host)).setup.time_of_day;
                if self.lives(host, incarnation)
                    && let Some((unix_ms, uncertainty_ms)) = time_of_day.read(self.now_us())
                {
                    self.input(
                        host,
                        &Input::Clock {
                            unix_ms,
                            uncertainty_ms,
                        },
                    );
                    self.queue
                        .push(self.now_us() + SNTP_US, Event::Sntp { host, incarnation });
                }
            }
            Event::Stream(conn, signal) => self.signal(conn, signal),
            Event::Overdue(ticket) => self.check_overdue(ticket),
        }
        true
    }

    /// Whether this start of a machine's node still runs.
    pub(super) fn lives(&self, host: u32, incarnation: u32) -> bool {
        self.machines
            .get(host as usize)
            .is_some_and(|machine| machine.incarnation == incarnation && machine.node().is_some())
    }

    /// The machine at an address.
    pub(super) fn machine_at(&self, addr: SocketAddr) -> Option<u32> {
        self.by_addr.get(&addr).copied()
    }

    fn deliver(&mut self, to: u32, from: SocketAddr, bytes: &[u8]) {
        match &mut self.machine_mut(to).program {
            Program::Node(_) => {
                self.ledger.received(to, from, bytes, self.network_id);
                self.input(to, &Input::Datagram { from, bytes });
            }
            Program::Stranger(stranger) => stranger.datagrams.push((from, bytes.to_vec())),
            Program::Stopped | Program::Vanished => self.tally.datagrams_lost += 1,
        }
    }

    fn wake(&mut self, host: u32, at_us: u64) {
        let machine = self.machine_mut(host);
        if machine.timer_us != Some(at_us) {
            return; // An earlier one took its place.
        }
        machine.timer_us = None;
        let Some(deadline) = machine.deadline else {
            return;
        };
        let due_us = machine.ticker.when(deadline);
        if due_us > at_us {
            self.set_timer(host, due_us);
            return;
        }
        let second = at_us / 1_000_000;
        let (of, count) = machine.wakeups;
        machine.wakeups = if of == second {
            (second, count + 1)
        } else {
            (second, 1)
        };
        if machine.wakeups.1 == WAKEUPS_MAX {
            self.fail(
                HostId(host),
                format!("spins: {WAKEUPS_MAX} wake-ups in a second"),
            );
        }
        self.input(host, &Input::Timeout);
    }

    fn set_timer(&mut self, host: u32, due_us: u64) {
        let machine = self.machine_mut(host);
        if machine.timer_us.is_none_or(|queued| due_us < queued) {
            machine.timer_us = Some(due_us);
            self.queue.push(
                due_us,
                Event::Wake {
                    host,
                    at_us: due_us,
                },
            );
        }
    }

    fn commit(&mut self, host: u32) {
        let machine = self.machine_mut(host);
        machine.committing = false;
        let answer = if machine.storage.failing {
            machine.storage.refuse().map(Input::PersistFailed)
        } else {
            machine.storage.commit().map(Input::Persisted)
        };
        if let Some(answer) = answer {
            self.input(host, &answer);
        }
    }

    /// Gives a command to a node, under a ticket of its own. `other` is whom it is about.
    pub(super) fn command(
        &mut self,
        host: HostId,
        command: &Command,
        other: Option<HostId>,
    ) -> Ticket {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let (now_us, within_ms) = (self.now_us(), self.within_ms);
        let deadline_us = now_us + u64::from(within_ms) * 1_000;
        self.model.begun(host, command, other, now_us);
        self.answers.insert(
            ticket,
            Answer::new(host, command.clone(), now_us, deadline_us),
        );
        if let Some(other) = other {
            self.others.insert(ticket, other);
        }
        self.tally.begun += 1;
        let reply = self.input_with(
            host.0,
            &Input::Command(command, within_ms),
            With::Ticket(ticket),
        );
        if let Reply::Begun(Err(error)) = reply {
            self.finish(ticket, State::Refused(error));
        } else if matches!(reply, Reply::None) {
            self.finish(ticket, State::Abandoned); // Nothing runs there.
        } else {
            let late_us = u64::from(within_ms) * 2 * DRIFT_PPM / 1_000 + QUERY_SLACK_US;
            self.queue
                .push(deadline_us + late_us, Event::Overdue(ticket));
        }
        ticket
    }

    fn check_overdue(&mut self, ticket: Ticket) {
        let Some(answer) = self.answers.get(&ticket) else {
            return;
        };
        if answer.state == State::Running && !matches!(answer.command, Command::Post(_)) {
            let what = format!("{:?} did not end by its deadline", answer.command);
            self.fail(answer.host, what);
        }
    }

    fn finish(&mut self, ticket: Ticket, state: State) {
        let now_us = self.now_us();
        if let Some(answer) = self.answers.get_mut(&ticket) {
            answer.state = state;
            answer.ended_us = Some(now_us);
            self.tally.ended += 1;
        }
    }

    /// Every command that runs at a node ends without an answer: the node stopped.
    pub(super) fn abandon(&mut self, host: u32) {
        let open: Vec<_> = self
            .open
            .range((host, QueryId(0))..=(host, QueryId(u64::MAX)))
            .map(|(key, ticket)| (*key, *ticket))
            .collect();
        for (key, ticket) in open {
            self.open.remove(&key);
            self.finish(ticket, State::Abandoned);
        }
    }

    /// Does one thing to a node and drains it; then offers it again what waits on its streams.
    pub(super) fn input(&mut self, host: u32, input: &Input<'_>) -> Reply {
        let reply = self.input_once(host, input, With::Nothing);
        self.offer_waiting(host);
        reply
    }

    fn input_with(&mut self, host: u32, input: &Input<'_>, with: With) -> Reply {
        let reply = self.input_once(host, input, with);
        self.offer_waiting(host);
        reply
    }

    /// Lets a node accept a connection.
    pub(super) fn accept(&mut self, host: u32, from: SocketAddr, conn: ConnId) -> Reply {
        self.input_with(host, &Input::Accept(from), With::Connection(conn))
    }

    /// Does one thing to a node and drains it. [`Reply::None`] if none runs.
    pub(super) fn input_once_alone(&mut self, host: u32, input: &Input<'_>) -> Reply {
        self.input_once(host, input, With::Nothing)
    }

    fn input_once(&mut self, host: u32, input: &Input<'_>, with: With) -> Reply {
        let machine = self.machine_mut(host);
        let mut node = match std::mem::replace(&mut machine.program, Program::Vanished) {
            Program::Node(node) => node,
            other => {
                machine.program = other;
                return Reply::None;
            }
        };
        let (kind, ticker) = (machine.setup.kind, machine.ticker);
        let now = ticker.read(self.now_us());
        self.tally.inputs += 1;
        self.trace.input(self.queue.now_us(), host, input);
        if let Some(tape) = self.tapes.get_mut(&host) {
            tape.record(now, input);
        }
        let reply = node.apply(now, input);
        self.trace.reply(&reply);
        if self.watched == Some(HostId(host)) {
            self.tell(input, reply);
        }
        match (with, reply) {
            (With::Connection(conn), Reply::Accepted(Ok(stream))) => {
                if let Err(what) = self.streams.name(conn, Side::Accepter, stream) {
                    self.fail(HostId(host), what);
                }
            }
            (With::Ticket(ticket), Reply::Begun(Ok(query))) => {
                if self.open.insert((host, query), ticket).is_some() {
                    self.fail(HostId(host), format!("{query:?} names two commands"));
                }
            }
            (With::Nothing | With::Connection(_) | With::Ticket(_), _) => {}
        }
        let gathering = Gathering::new(kind);
        let deadline = node.drain(&mut &gathering, &mut &gathering);
        self.machine_mut(host).program = Program::Node(node);
        self.machine_mut(host).deadline = deadline;
        if let Some(deadline) = deadline {
            if deadline <= now {
                self.fail(
                    HostId(host),
                    format!("waits until {deadline:?}, and it is {now:?}"),
                );
            }
            self.set_timer(host, ticker.when(deadline));
        }
        self.trace.number(gathering.digest());
        if let Some(tape) = self.tapes.get_mut(&host) {
            tape.drained(gathering.digest(), deadline);
        }
        for effect in gathering.into_effects() {
            self.tally.outputs += 1;
            if self.watched == Some(HostId(host)) {
                self.tell_effect(&effect);
            }
            self.carry_out(host, effect);
        }
        reply
    }

    fn carry_out(&mut self, host: u32, effect: Effect) {
        match effect {
            Effect::Send { to, bytes } => self.send(host, to, &bytes),
            Effect::Open { stream, to } => self.open_stream(host, stream, to),
            Effect::Write { stream, bytes } => {
                self.tally.frames += 1;
                self.tally.stream_bytes += bytes.len() as u64;
                self.check_frame(HostId(host), &bytes);
                self.write_stream(host, stream, &bytes);
            }
            Effect::Close { stream } => self.close_stream(host, stream),
            Effect::Persist {
                id,
                class,
                key,
                value,
            } => {
                let item = Stored {
                    class,
                    key: &key,
                    value: value.as_deref(),
                };
                self.persist(host, id, item);
            }
            Effect::Heard(heard) => self.heard(HostId(host), heard),
        }
    }

    fn send(&mut self, host: u32, to: SocketAddr, bytes: &[u8]) {
        self.tally.datagrams += 1;
        self.tally.datagram_bytes += bytes.len() as u64;
        self.tally.datagram_len_max = self.tally.datagram_len_max.max(bytes.len());
        let now_us = self.now_us();
        let wrong = match Datagram::decode(bytes, self.network_id) {
            Ok(datagram) => self
                .ledger
                .sent(host, to, &datagram, bytes.len(), now_us)
                .err(),
            Err(rule) => Some(format!("sent {} bytes that break {rule:?}", bytes.len())),
        };
        if let Some(what) = wrong {
            self.fail(HostId(host), what);
        }
        debug_assert!(bytes.len() <= DATAGRAM_LEN_MAX || !self.failures.is_empty());
        self.launch(host, self.machine(HostId(host)).addr, to, bytes);
    }

    /// Gives a datagram to the network at machine `at`, as if it came from `from`.
    pub(super) fn launch(&mut self, at: u32, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Some(target) = self.machine_at(to) else {
            self.tally.datagrams_lost += 1;
            return;
        };
        let now_us = self.now_us();
        let mut arrivals = self.network.datagram(at, target).peekable();
        if arrivals.peek().is_none() {
            self.tally.datagrams_lost += 1;
        }
        for delay_us in arrivals {
            let event = Event::Datagram {
                to: target,
                from,
                bytes: bytes.into(),
            };
            self.queue.push(now_us + delay_us, event);
        }
    }

    fn persist(&mut self, host: u32, id: PersistId, item: Stored<'_>) {
        let delay_us = self.nodes_random.within(&COMMIT_US);
        let due_us = self.now_us() + delay_us;
        let machine = self.machine_mut(host);
        let wrong = machine.storage.write(id, item).err();
        if !std::mem::replace(&mut machine.committing, true) {
            let incarnation = machine.incarnation;
            self.queue.push(due_us, Event::Commit { host, incarnation });
        }
        if let Some(what) = wrong {
            self.fail(HostId(host), what);
        }
    }

    fn heard(&mut self, host: HostId, heard: Heard) {
        if let Heard::Notice(notice) = heard {
            // What tests wait for; neighbours and keys come and go by the thousand.
            if matches!(
                notice,
                Notice::Message { .. }
                    | Notice::Forked
                    | Notice::StorageFailed
                    | Notice::Recovered(_)
            ) {
                self.notices.entry(host).or_default().push(notice);
            }
            return;
        }
        let Some(query) = heard.query() else { return };
        let Some(&ticket) = self.open.get(&(host.0, query)) else {
            self.fail(
                host,
                format!("speaks of a command that does not run: {heard:?}"),
            );
            return;
        };
        let now_us = self.now_us();
        let Some(mut answer) = self.answers.remove(&ticket) else {
            return;
        };
        let mut wrong = None;
        match heard {
            Heard::Post(_, shown) => {
                wrong = self.model.shown(&answer, &shown, now_us).err();
                answer.posts.push(shown);
            }
            Heard::Missing(_, person, reason) => answer.missing.push((person, reason)),
            Heard::Person(_, person, relation) => answer.people.push((person, relation)),
            Heard::Profile(_, profile) => answer.profile = Some(profile),
            Heard::Value(_, author, sequence, bytes) => {
                answer.values.push((author, sequence, bytes));
            }
            Heard::Answer(_, from, bytes) => answer.answers.push((from, bytes)),
            Heard::Contact(_, id, addr, hops) => answer.contacts.push((id, addr, hops)),
            Heard::Done(_, outcome) => {
                self.open.remove(&(host.0, query));
                answer.ended_us = Some(now_us);
                answer.state = State::Done(outcome);
                self.tally.ended += 1;
                let other = self.others.get(&ticket).copied();
                wrong = self.model.ended(&answer, other, outcome, now_us).err();
            }
            Heard::Notice(_) => {}
        }
        self.answers.insert(ticket, answer);
        if let Some(what) = wrong {
            self.fail(host, what);
        }
    }

    /// Says on stderr what is done to the watched node.
    fn tell(&self, input: &Input<'_>, reply: Reply) {
        let words = match input {
            Input::Datagram { from, bytes } => format!("from {from} {}", self.in_words(bytes)),
            Input::Readable(stream, bytes) => {
                let frame = match Frame::split(bytes) {
                    Ok(Some((body, _))) => format!("{:?}", Frame::decode(body, self.network_id)),
                    Ok(None) => "not a whole frame".to_owned(),
                    Err(rule) => format!("{rule:?}"),
                };
                format!("{stream:?} {} bytes: {frame:.160}", bytes.len())
            }
            Input::Start { .. } => "start".to_owned(),
            Input::Restored(item) => format!("restored {:?} {:02x?}", item.class, item.key),
            Input::Clock {
                unix_ms,
                uncertainty_ms,
            } => format!("clock {unix_ms} ± {uncertainty_ms}"),
            Input::RestoredAll(how) => format!("restored all, {how:?}"),
            Input::Timeout => "timeout".to_owned(),
            Input::Accept(from) => format!("accept {from}"),
            Input::Opened(stream) => format!("opened {stream:?}"),
            Input::Writable(stream, room) => format!("writable {stream:?} {room}"),
            Input::Closed(stream) => format!("closed {stream:?}"),
            Input::Persisted(id) => format!("persisted {id:?}"),
            Input::PersistFailed(id) => format!("persist failed {id:?}"),
            Input::Command(command, within_ms) => format!("{command:?} within {within_ms} ms"),
        };
        let reply = match reply {
            Reply::None => String::new(),
            reply => format!(" -> {reply:?}"),
        };
        eprintln!("{:>12} us <- {words}{reply}", self.now_us());
    }

    fn tell_effect(&self, effect: &Effect) {
        let words = match effect {
            Effect::Send { to, bytes } => format!("to {to} {}", self.in_words(bytes)),
            Effect::Write { stream, bytes } => {
                let frame = bytes
                    .get(2..)
                    .map(|body| Frame::decode(body, self.network_id));
                format!("{stream:?} {} bytes: {frame:.160?}", bytes.len())
            }
            Effect::Persist {
                id,
                class,
                key,
                value,
            } => {
                let len = value.as_ref().map(Vec::len);
                format!("persist {id:?} {class:?} {key:02x?} {len:?} bytes")
            }
            Effect::Open { .. } | Effect::Close { .. } | Effect::Heard(_) => format!("{effect:?}"),
        };
        eprintln!("{:>12} us -> {words}", self.now_us());
    }

    fn in_words(&self, bytes: &[u8]) -> String {
        let len = bytes.len();
        let body = match Datagram::decode(bytes, self.network_id) {
            Ok(datagram) => datagram.body,
            Err(rule) => return format!("{len} bytes: {rule:?}"),
        };
        match body {
            Body::Ping { leaving, .. } => format!("{len} bytes: Ping, leaving {leaving}"),
            Body::Found {
                more,
                spilled,
                records,
                contacts,
                ..
            } => {
                let records = Copy::iter(records).count();
                let contacts = Contact::iter(contacts).map(|contact| {
                    let [a, b, c, ..] = *contact.id.as_bytes();
                    let addr = contact.addr.to_socket_addr();
                    let addr = addr.map_or_else(String::new, |addr| addr.ip().to_string());
                    format!(" {a:02x}{b:02x}{c:02x}@{addr}")
                });
                let contacts: String = contacts.collect();
                format!(
                    "{len} bytes: Found {records} records, more {more}, spilled {spilled}, contacts{contacts}"
                )
            }
            _ => format!("{len} bytes: {:.200}", format!("{body:?}")),
        }
    }

    /// Takes note of a broken promise: panics in tests, collects in the simulator's binary.
    ///
    /// # Panics
    /// With the seed and the command that shows it again, if [`World::panics`] is set.
    pub fn fail(&mut self, host: HostId, what: String) {
        let failure = Failure {
            at_us: self.now_us(),
            host,
            what,
        };
        assert!(
            !self.panics,
            "seed {}: {failure}\n{}",
            self.seed, self.replay
        );
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(failure);
        }
    }
}
