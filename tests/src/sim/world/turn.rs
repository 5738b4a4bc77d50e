//! One turn of the world: an event is taken, its input handed to one node, the node drained, and each output judged and
//! carried out.
//!
//! Owns what an event and an output mean. The invariant: an input is traced before its outputs, and both in one order.

use std::net::SocketAddr;

use strandline_core::clock::DRIFT_PPM;
use strandline_core::output::{PersistId, QueryId, Stored};
use strandline_core::time::{Instant, earliest};
use strandline_core::wire::DATAGRAM_LEN_MAX;
use strandline_core::wire::datagram::Datagram;

use super::{Event, HostId, World};
use crate::sim::answers::{Answer, Heard, Notice, State, Ticket};
use crate::sim::application::Hearing;
use crate::sim::effects::{Effect, Gathering};
use crate::sim::fetch::fetch;
use crate::sim::heap;
use crate::sim::machine::{Program, address_of, machine_of};
use crate::sim::meter::Cause;
use crate::sim::node::{AnyNode, Command, Input, Reply};
use crate::sim::streams::{ConnId, Side};

/// How long after its deadline a query may end: one wake-up, and what the clock drifted.
const QUERY_SLACK_US: u64 = 250_000;
/// More wake-ups than this in one second of a node's life are a spin.
const WAKEUPS_MAX: u32 = 20_000;
/// How often an application may act at one moment.
const TURNS_MAX: u32 = 100;
/// How long a write takes to reach the disk, in µs.
const COMMIT_US: std::ops::RangeInclusive<u64> = 300..=12_000;
/// How often the time of day is asked for, in µs.
pub(super) const SNTP_US: u64 = 60_000_000;

/// What enters a node at once with an input, before it is drained.
enum With {
    Nothing,
    Connection(ConnId),
    Ticket(Ticket),
}

impl World {
    /// Takes the next event that is due by `until_us` and does what it says. False when there is none.
    pub(in crate::sim) fn step(&mut self, until_us: u64) -> bool {
        let Some(event) = self.queue.pop(until_us) else {
            self.queue.advance(until_us);
            return false;
        };
        self.fetch_next();
        match event {
            Event::Datagram {
                to,
                from,
                bytes,
                cause,
            } => {
                self.meter.cause = cause;
                self.deliver(to, from, &bytes);
                self.meter.cause = Cause::Maintenance;
            }
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

    /// Has the memory of the node that comes next fetched while this one works: in a large world it is in no cache.
    fn fetch_next(&self) {
        let host = match self.queue.next() {
            Some(Event::Datagram { to, bytes, .. }) => {
                fetch(&**bytes);
                *to
            }
            Some(Event::Wake { host, .. } | Event::Commit { host, .. }) => *host,
            Some(Event::Sntp { .. } | Event::Stream(..) | Event::Overdue(_)) | None => return,
        };
        if let Some(node) = self.running(HostId(host)) {
            node.fetch();
        }
    }

    /// Whether this start of a machine's node still runs.
    pub(in crate::sim) fn lives(&self, host: u32, incarnation: u32) -> bool {
        self.machines
            .get(host as usize)
            .is_some_and(|machine| machine.incarnation == incarnation && machine.node().is_some())
    }

    /// The machine at an address.
    pub(in crate::sim) fn machine_at(&self, addr: SocketAddr) -> Option<u32> {
        machine_of(addr).filter(|machine| (*machine as usize) < self.machines.len())
    }

    fn deliver(&mut self, to: u32, from: SocketAddr, bytes: &[u8]) {
        match &mut self.machine_mut(to).program {
            Program::Node(_) => {
                self.meter.received(to);
                if self.judges {
                    self.ledger.received(to, from, bytes, self.network_id());
                }
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
        let keeps = self.keeps_disks;
        let machine = self.machine_mut(host);
        machine.committing = false;
        let answer = if machine.storage.failing {
            machine.storage.refuse().map(Input::PersistFailed)
        } else if keeps {
            machine.storage.commit().map(Input::Persisted)
        } else {
            machine.storage.forget().map(Input::Persisted)
        };
        if let Some(answer) = answer {
            self.input(host, &answer);
        }
    }

    /// Gives a command to a node, under a ticket of its own. `other` is whom it is about.
    pub(in crate::sim) fn command(
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
        self.meter.cause = Cause::of(command);
        let reply = self.input_with(
            host.0,
            &Input::Command(command, within_ms),
            With::Ticket(ticket),
        );
        self.meter.cause = Cause::Maintenance;
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
    pub(in crate::sim) fn abandon(&mut self, host: u32) {
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
    pub(in crate::sim) fn input(&mut self, host: u32, input: &Input<'_>) -> Reply {
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
    pub(in crate::sim) fn accept(&mut self, host: u32, from: SocketAddr, conn: ConnId) -> Reply {
        self.input_with(host, &Input::Accept(from), With::Connection(conn))
    }

    /// Does one thing to a node and drains it. [`Reply::None`] if none runs.
    pub(in crate::sim) fn input_once_alone(&mut self, host: u32, input: &Input<'_>) -> Reply {
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
        let reply = heap::on(heap::Side::Core, || node.apply(now, input));
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
        let (deadline, due) = self.drain(host, &mut node, now, &gathering);
        self.machine_mut(host).program = Program::Node(node);
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= now) {
            self.fail(
                HostId(host),
                format!("waits until {deadline:?}, and it is {now:?}"),
            );
        }
        let wake = earliest(deadline, due);
        self.machine_mut(host).deadline = wake;
        if let Some(wake) = wake {
            self.set_timer(host, ticker.when(wake));
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

    /// Drains a node; with an application on it, lets that act until it has heard everything. Returns how long the node
    /// waits, and the application.
    fn drain(
        &mut self,
        host: u32,
        node: &mut AnyNode,
        now: Instant,
        gathering: &Gathering,
    ) -> (Option<Instant>, Option<Instant>) {
        let (mut transport, mut handler) = (gathering, gathering);
        let Some(mut application) = self.machine_mut(host).application.take() else {
            let deadline = heap::on(heap::Side::Core, || {
                node.drain(&mut transport, &mut handler)
            });
            return (deadline, None);
        };
        let (mut turns, mut due) = (0, None);
        let deadline = loop {
            let mut hearing = Hearing::new(gathering, &mut *application);
            let deadline = node.drain(&mut transport, &mut hearing);
            if turns > 0 && !hearing.told {
                break deadline;
            }
            if turns == TURNS_MAX {
                self.fail(HostId(host), "its application never rests".to_owned());
                break deadline;
            }
            due = application.act_on(now, node);
            turns += 1;
        };
        self.machine_mut(host).application = Some(application);
        (deadline, due.map(|due| due.max(now.after_us(1))))
    }

    fn carry_out(&mut self, host: u32, effect: Effect) {
        match effect {
            Effect::Send { to, bytes } => self.send(host, to, bytes),
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

    fn send(&mut self, host: u32, to: SocketAddr, bytes: Box<[u8]>) {
        self.tally.datagrams += 1;
        self.tally.datagram_bytes += bytes.len() as u64;
        self.tally.datagram_len_max = self.tally.datagram_len_max.max(bytes.len());
        self.meter.sent(HostId(host), to, &bytes);
        if self.judges {
            self.judge_datagram(host, to, &bytes);
        }
        debug_assert!(bytes.len() <= DATAGRAM_LEN_MAX || !self.failures.is_empty());
        self.launch(host, address_of(host), to, bytes);
    }

    fn judge_datagram(&mut self, host: u32, to: SocketAddr, bytes: &[u8]) {
        let now_us = self.now_us();
        let wrong = match Datagram::decode(bytes, self.network_id()) {
            Ok(datagram) => self
                .ledger
                .sent(host, to, &datagram, bytes.len(), now_us)
                .err(),
            Err(rule) => Some(format!("sent {} bytes that break {rule:?}", bytes.len())),
        };
        if let Some(what) = wrong {
            self.fail(HostId(host), what);
        }
    }

    /// Gives a datagram to the network at machine `at`, as if it came from `from`.
    pub(in crate::sim) fn launch(
        &mut self,
        at: u32,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Box<[u8]>,
    ) {
        let Some(target) = self.machine_at(to) else {
            self.tally.datagrams_lost += 1;
            return;
        };
        let now_us = self.now_us();
        let cause = self.meter.cause;
        let arrives = |bytes| Event::Datagram {
            to: target,
            from,
            bytes,
            cause,
        };
        let mut arrivals = self.network.datagram(at, target);
        let Some(first_us) = arrivals.next() else {
            self.tally.datagrams_lost += 1;
            return;
        };
        let again: Vec<_> = arrivals.map(|delay_us| (delay_us, bytes.clone())).collect();
        self.queue.push(now_us + first_us, arrives(bytes));
        for (delay_us, bytes) in again {
            self.queue.push(now_us + delay_us, arrives(bytes));
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
            match &notice {
                Notice::KeyGained(key) => self.meter.holds(host, key, true),
                Notice::KeyLost(key) => self.meter.holds(host, key, false),
                _ => {}
            }
            // What tests wait for; neighbours and keys come and go by the thousand.
            let is_rare = matches!(
                notice,
                Notice::Message { .. }
                    | Notice::Forked
                    | Notice::StorageFailed
                    | Notice::Recovered(_)
            );
            if is_rare || self.keeps_all_notices {
                self.notices.entry(host).or_default().push(notice);
            }
            return;
        }
        let Some(query) = heard.query() else { return };
        let Some(&ticket) = self.open.get(&(host.0, query)) else {
            if self.machine(host).application.is_some() {
                return; // Of a command of its own.
            }
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
}
