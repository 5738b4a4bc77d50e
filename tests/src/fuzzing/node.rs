//! The fuzz target of a whole node: its bytes are a script of inputs for one node of each plan.
//!
//! The script's host keeps the contract between node and host, and panics where the node does not:
//! when a drain does not end, when a deadline is not in the future, when more is written to a stream
//! than was granted, when a stream is named that there is not, and when a command never ends, or twice.
//! It knows nothing of what the node should answer: that is for the simulator.

use std::net::{IpAddr, SocketAddr};

use strandline_core::config::{Config, Identity};
use strandline_core::crypto::{Ed25519, SecretKey};
use strandline_core::drive::{Handler, Transport, drain};
use strandline_core::id::{Key, NodeId};
use strandline_core::name::{Handle, Name};
use strandline_core::node::Node;
use strandline_core::output::{
    CommandError, Event, PersistId, QueryId, Recipient, Restored, Stored, StreamId,
};
use strandline_core::overlay::Overlay;
use strandline_core::plan::{Board, BoardRing, Plan, Server, ServerRing};
use strandline_core::rng::Seed;
use strandline_core::rules::Rule;
use strandline_core::time::Instant;
use strandline_core::wire::datagram::{Datagram, Token, Transaction};
use strandline_core::wire::{
    DATAGRAM_LEN_MAX, FRAME_LEN_MAX, FRAME_PREFIX_LEN, NetworkId, VERSION,
};

use super::NETWORK;

/// More outputs than one drain can give, whatever is in the tables.
const DRAIN_OUTPUTS_MAX: usize = 100_000;
/// Inputs of one script that are carried out; it ends there.
const STEPS_MAX: usize = 400;
/// Requests of the node that a script can still answer, and tokens that it remembers.
const SENT_MAX: usize = 16;
/// Longest time that a script gives a command, in ms.
const WITHIN_MS_MAX: u32 = 10_000;
/// How much later than that a command may end, in ms.
const ENDING_MS: u64 = 5_000;

/// Set in the first byte of a script: it is for nodes of a ring.
pub const RING: u8 = 0x80;

/// Runs a script on a node of each plan, of the overlay that its first byte says. No script breaks a rule: it always
/// answers `Ok`.
///
/// # Errors
/// None.
pub fn node(script: &[u8]) -> Result<(), Rule> {
    if script.first().is_some_and(|first| first & RING != 0) {
        run::<Board<Ed25519, BoardRing>>(script);
        run::<Server<Ed25519, ServerRing>>(script);
    } else {
        run::<Board>(script);
        run::<Server>(script);
    }
    Ok(())
}

fn run<P: Plan>(script: &[u8]) {
    let mut script = Script(script);
    let mut node = Box::new(Node::<P>::unstarted());
    let mut host = Host {
        mark: P::Overlay::MARK,
        ..Host::default()
    };
    host.start(&mut node, script.byte());
    for _ in 0..STEPS_MAX {
        let Some(step) = script.step() else { break };
        host.step(&mut node, step, &mut script);
        host.drain(&mut node);
    }
    host.finish(&mut node);
}

/// One input, by the first byte of its line in the script (modulo the number of them). What follows it is
/// said here: a number is two bytes, an address one, and bytes come after their number.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Step {
    /// Milliseconds (number): they pass.
    Wait,
    /// Time passes until the node wants to be woken.
    Deadline,
    /// Address, bytes: a datagram of a stranger.
    Datagram,
    /// Which of the last requests (byte; 0: the newest), sender (byte; 0: the node at that address), bytes:
    /// what follows the sender in an answer to it.
    Reply,
    /// Which of the last replies (byte; 0: the newest), bytes: the body of a request with the token that came
    /// in it, from the node that got it.
    Request,
    /// Address: it opens a stream.
    Accept,
    /// Stream (byte), bytes: they arrive.
    Arrive,
    /// Stream (byte), room (number): it is open.
    Opened,
    /// Stream (byte), room (number): so much can be written.
    Writable,
    /// Stream (byte): the peer closed it.
    Closed,
    /// Unix time (byte, repeated), uncertainty (number).
    Clock,
    /// From now on nothing can be made durable.
    StorageFails,
    /// Which (byte), time for it (number), its arguments.
    Command,
}

impl Step {
    const ALL: [Self; 13] = [
        Self::Wait,
        Self::Deadline,
        Self::Datagram,
        Self::Reply,
        Self::Request,
        Self::Accept,
        Self::Arrive,
        Self::Opened,
        Self::Writable,
        Self::Closed,
        Self::Clock,
        Self::StorageFails,
        Self::Command,
    ];
}

/// What is left of a script. Reading past its end gives zeros.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn step(&mut self) -> Option<Step> {
        (!self.0.is_empty())
            .then(|| pick(&Step::ALL, self.byte()))
            .flatten()
            .copied()
    }

    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        byte
    }

    fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// As many bytes as a number says that comes first.
    fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.number()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    /// One of 256 addresses in as many networks.
    fn addr(&mut self) -> SocketAddr {
        SocketAddr::from(([1, 2, self.byte(), 7], 7827))
    }

    fn key(&mut self) -> Key {
        Key::from_bytes([self.byte(); 32])
    }

    fn handle(&mut self) -> Option<Handle> {
        let text = self.bytes();
        Handle::parse(str::from_utf8(text).ok()?).ok()
    }
}

/// The id of the honest node at an address of a script.
fn id_at(addr: SocketAddr) -> [u8; 32] {
    match addr.ip() {
        IpAddr::V4(ip) => [ip.octets()[2]; 32],
        IpAddr::V6(_) => [0; 32],
    }
}

/// The one among `all` that `byte` means; `None` if there are none.
fn pick<T>(all: &[T], byte: u8) -> Option<&T> {
    all.get(usize::from(byte).checked_rem(all.len())?)
}

/// A stream between node and script.
struct Stream {
    id: StreamId,
    /// What arrived and was not consumed.
    arrived: Vec<u8>,
    /// How many bytes the node may still write.
    room: usize,
}

/// The host of one node.
#[derive(Default)]
struct Host {
    /// See [`Overlay::MARK`].
    mark: [u8; 4],
    now: Instant,
    /// When the node wants to be woken.
    deadline: Option<Instant>,
    /// The last requests of the node, newest first: what a script cannot guess and must repeat.
    asked: Vec<(SocketAddr, Transaction)>,
    /// The last tokens that the node gave, newest first.
    tokens: Vec<(SocketAddr, Token)>,
    streams: Vec<Stream>,
    persist: Option<PersistId>,
    storage_fails: bool,
    /// Commands that have not ended.
    running: Vec<QueryId>,
    /// Outputs of this drain.
    outputs: usize,
}

impl Host {
    fn start<P: Plan>(&mut self, node: &mut Node<P>, how: u8) {
        let Ok(name) = Name::parse("castaway") else {
            return;
        };
        let identity = Identity {
            user: SecretKey::from_bytes([3; 32]),
            node: SecretKey::from_bytes([4; 32]),
            name,
        };
        let config = Config::new(NETWORK, SocketAddr::from(([1, 2, 3, 4], 7827)));
        let started = node.start(self.now, identity, &Seed([5; 32]), &config);
        assert_eq!(started, Ok(()));
        node.set_clock(self.now, 1_700_000_000_000, 100);
        let how = match (how & !RING) % 3 {
            0 => Restored::Fresh,
            1 => Restored::Intact,
            _ => Restored::Lost,
        };
        // Intact storage that is empty may be refused; the node then takes no commands.
        let _refused = node.restored_all(self.now, how);
        self.drain(node);
    }

    fn step<P: Plan>(&mut self, node: &mut Node<P>, step: Step, script: &mut Script<'_>) {
        match step {
            Step::Wait => {
                self.now = self.now.after_ms(u64::from(script.number()));
                node.handle_timeout(self.now);
            }
            Step::Deadline => self.wake(node),
            Step::Datagram => node.handle_datagram(self.now, script.addr(), script.bytes()),
            Step::Reply => {
                let asked = pick(&self.asked, script.byte()).copied();
                let sender = script.byte();
                let rest = script.bytes();
                if let Some((from, transaction)) = asked {
                    let sender = if sender == 0 {
                        id_at(from)
                    } else {
                        [sender; 32]
                    };
                    let network = self.network();
                    let parts = [network.0.as_slice(), &transaction, &sender, rest];
                    let bytes = [&[VERSION], parts.concat().as_slice()].concat();
                    node.handle_datagram(self.now, from, &bytes);
                }
            }
            Step::Request => {
                let token = pick(&self.tokens, script.byte()).copied();
                let body = script.bytes();
                if let Some((from, token)) = token {
                    let network = self.network();
                    let parts = [network.0.as_slice(), &[0; 8], &id_at(from), &token, body];
                    let bytes = [&[VERSION], parts.concat().as_slice()].concat();
                    node.handle_datagram(self.now, from, &bytes);
                }
            }
            Step::Accept => {
                if let Ok(id) = node.accept_stream(self.now, script.addr()) {
                    self.add_stream(id);
                }
            }
            Step::Arrive => {
                let at = script.byte();
                self.arrive(node, at, script.bytes());
            }
            Step::Opened | Step::Writable => {
                let at = self.stream_at(script.byte());
                let room = usize::from(script.number());
                if let Some(stream) = at.and_then(|at| self.streams.get_mut(at)) {
                    if matches!(step, Step::Opened) {
                        node.stream_opened(self.now, stream.id);
                    }
                    stream.room = room;
                    node.stream_writable(self.now, stream.id, room);
                }
            }
            Step::Closed => {
                if let Some(at) = self.stream_at(script.byte()) {
                    let stream = self.streams.swap_remove(at);
                    node.stream_closed(self.now, stream.id);
                }
            }
            Step::Clock => {
                let unix_ms = u64::from_be_bytes([script.byte(); 8]);
                node.set_clock(self.now, unix_ms, u32::from(script.number()));
            }
            Step::StorageFails => self.storage_fails = true,
            Step::Command => {
                if let Some(Ok(query)) = self.command(node, script) {
                    assert!(
                        !self.running.contains(&query),
                        "{query:?} is running already"
                    );
                    self.running.push(query);
                }
            }
        }
    }

    /// Gives a command; `None` when the script has no argument for it.
    fn command<P: Plan>(
        &self,
        node: &mut Node<P>,
        script: &mut Script<'_>,
    ) -> Option<Result<QueryId, CommandError>> {
        let (now, command) = (self.now, script.byte());
        let within_ms = u32::from(script.number()).min(WITHIN_MS_MAX);
        Some(match command % 14 {
            0 => node.join(now, script.addr(), within_ms),
            1 => node.leave(now, within_ms),
            2 => node.register(now, within_ms),
            3 => node.post(now, str::from_utf8(script.bytes()).ok()?),
            4 => node.follow(now, &script.handle()?, within_ms),
            5 => node.unfollow(now, &script.handle()?, within_ms),
            6 => node.timeline(now, script.handle().as_ref(), within_ms),
            7 => node.whois(now, &script.handle()?, within_ms),
            8 => node.followers(now, script.handle().as_ref(), within_ms),
            9 => node.following(now, script.handle().as_ref(), within_ms),
            10 => node.lookup(now, script.key(), within_ms),
            11 => {
                let (key, ttl_s) = (script.key(), u32::from(script.number()));
                node.put(now, key, script.bytes(), ttl_s, within_ms)
            }
            12 => node.get(now, script.key(), within_ms),
            _ => {
                let to = match command / 14 % 2 {
                    0 => Recipient::Key(script.key()),
                    _ => Recipient::Node(NodeId::from_bytes(*script.key().as_bytes())),
                };
                node.send(now, to, script.bytes(), within_ms)
            }
        })
    }

    /// Offers what a stream brought for as long as the node takes some of it.
    fn arrive<P: Plan>(&mut self, node: &mut Node<P>, stream: u8, bytes: &[u8]) {
        let Some(id) = self
            .stream_at(stream)
            .and_then(|at| self.streams.get_mut(at))
            .map(|stream| {
                stream.arrived.extend_from_slice(bytes);
                stream.id
            })
        else {
            return;
        };
        loop {
            // The drain may have closed it.
            let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) else {
                return;
            };
            let taken = node.stream_readable(self.now, id, &stream.arrived);
            assert!(
                taken <= stream.arrived.len(),
                "{taken} bytes of a frame that was shorter"
            );
            stream.arrived.drain(..taken);
            // A host needs room for one frame, and closes a stream that it cannot read on.
            let stuck = stream.arrived.len() > FRAME_PREFIX_LEN + FRAME_LEN_MAX;
            if taken == 0 {
                if stuck {
                    self.streams.retain(|stream| stream.id != id);
                    node.stream_closed(self.now, id);
                }
                return;
            }
            self.drain(node);
        }
    }

    /// Lets time pass until the next deadline.
    fn wake<P: Plan>(&mut self, node: &mut Node<P>) {
        if let Some(deadline) = self.deadline {
            self.now = self.now.max(deadline);
            node.handle_timeout(self.now);
        }
    }

    /// Lets time pass until every command has ended.
    fn finish<P: Plan>(&mut self, node: &mut Node<P>) {
        let latest = self.now.after_ms(u64::from(WITHIN_MS_MAX) + ENDING_MS);
        while !self.running.is_empty() {
            assert!(
                self.deadline.is_some(),
                "{:?} wait for nothing",
                self.running
            );
            assert!(self.now <= latest, "{:?} have not ended", self.running);
            self.wake(node);
            self.drain(node);
        }
    }

    /// Does what the node wants done, and makes durable what it asked for, until it asks for nothing.
    fn drain<P: Plan>(&mut self, node: &mut Node<P>) {
        self.outputs = 0;
        loop {
            self.deadline = self.drain_once(node);
            assert!(
                self.deadline.is_none_or(|deadline| deadline > self.now),
                "waits for {:?} at {:?}",
                self.deadline,
                self.now
            );
            match self.persist.take() {
                Some(id) if self.storage_fails => node.persist_failed(self.now, id),
                Some(id) => node.persisted(self.now, id),
                None => return,
            }
        }
    }

    fn drain_once<P: Plan>(&mut self, node: &mut Node<P>) -> Option<Instant> {
        let mut ended = Ended::default();
        let deadline = drain(node, self, &mut ended);
        for query in ended.0 {
            let at = self.running.iter().position(|running| *running == query);
            assert!(at.is_some(), "{query:?} ends, and is not running");
            self.running.retain(|running| *running != query);
        }
        deadline
    }

    const fn network(&self) -> NetworkId {
        NETWORK.marked(self.mark)
    }

    fn stream_at(&self, byte: u8) -> Option<usize> {
        usize::from(byte).checked_rem(self.streams.len())
    }

    fn add_stream(&mut self, id: StreamId) {
        assert!(
            self.streams.iter().all(|stream| stream.id != id),
            "{id:?} is open already"
        );
        self.streams.push(Stream {
            id,
            arrived: Vec::new(),
            room: 0,
        });
    }

    fn count(&mut self) {
        self.outputs += 1;
        assert!(self.outputs <= DRAIN_OUTPUTS_MAX, "the drain does not end");
    }
}

impl Transport for Host {
    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.count();
        assert!(
            bytes.len() <= DATAGRAM_LEN_MAX,
            "a datagram of {} bytes",
            bytes.len()
        );
        let datagram = Datagram::decode(bytes, self.network());
        assert!(datagram.is_ok(), "sends {bytes:?}: {datagram:?}");
        let Ok(datagram) = datagram else { return };
        if datagram.body.is_request() {
            self.asked.insert(0, (to, datagram.transaction));
            self.asked.truncate(SENT_MAX);
        } else {
            self.tokens.insert(0, (to, datagram.token));
            self.tokens.truncate(SENT_MAX);
        }
    }

    fn open(&mut self, stream: StreamId, _to: SocketAddr) {
        self.count();
        self.add_stream(stream);
    }

    fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        self.count();
        let found = self.streams.iter_mut().find(|open| open.id == stream);
        let room = found.map(|open| {
            let room = open.room;
            open.room = room.saturating_sub(bytes.len());
            room
        });
        assert!(
            room.is_some_and(|room| bytes.len() <= room),
            "{} bytes for {stream:?}, where there is room for {room:?}",
            bytes.len()
        );
    }

    fn close(&mut self, stream: StreamId) {
        self.count();
        let before = self.streams.len();
        self.streams.retain(|open| open.id != stream);
        assert!(
            self.streams.len() < before,
            "{stream:?} is closed, and was not open"
        );
    }

    fn persist(&mut self, id: PersistId, _item: Stored<'_>) {
        self.count();
        assert!(
            self.persist.is_none_or(|before| before < id),
            "{id:?} does not rise"
        );
        self.persist = Some(id);
    }
}

/// The commands that ended in one drain.
#[derive(Default)]
struct Ended(Vec<QueryId>);

impl Handler for Ended {
    fn on_event(&mut self, event: Event<'_>) {
        if let Event::QueryDone { query, .. } = event {
            self.0.push(query);
        }
    }
}
