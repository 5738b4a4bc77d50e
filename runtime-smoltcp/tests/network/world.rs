//! Stations on one Ethernet, with a clock that jumps to what happens next. Nothing sleeps, and every run is the same.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{frames, time};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant as NetInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress};
use strandline_core::config::{Config, Durability, Identity};
use strandline_core::crypto::SecretKey;
use strandline_core::drive::{Application, Handler};
use strandline_core::name::{Handle, Name};
use strandline_core::node::Node;
use strandline_core::output::{Event, Outcome, QueryId, Restored, Via};
use strandline_core::plan::{Board, Plan};
use strandline_core::rng::Seed;
use strandline_core::time::Instant;
use strandline_core::wire::NetworkId;
use strandline_smoltcp::{Addresses, Memory, Settings, Sockets, Stack, sockets_for};

/// Connections of a station: four streams and the spare listener.
pub const CONNECTIONS: usize = 5;
/// Where every station's node listens.
pub const PORT: u16 = 7827;
/// How long a frame travels.
const DELAY_US: u64 = 200;
/// Calls of `poll` at one point in time: more means that it spins.
const POLLS_MAX: usize = 200;
/// The date at which every station believes to be when it starts.
pub const START_UNIX_MS: u64 = 1_700_000_000_000;
/// By how much the time server's clock is ahead of that.
const AHEAD_MS: u64 = 400_000_000_000;

/// When the world begins.
const START: Instant = Instant::from_s(1);

/// A frame on its way.
struct Flying {
    at: Instant,
    to: usize,
    bytes: Vec<u8>,
}

/// What the hub does to frames.
#[derive(Clone, Copy, Default)]
pub struct Weather {
    /// Percent of the frames that are lost.
    pub loss: u64,
    /// This station is switched off when so many more segments of streams have passed: none if 0.
    pub cut: (usize, usize),
}

/// What passed the hub of streams.
#[derive(Default)]
pub struct Traffic {
    /// Who asked whom for a stream, in the order of the first attempts.
    pub opened: Vec<(usize, usize)>,
    /// Segments.
    pub segments: usize,
    /// Those asked for before a station was switched off by [`Weather::cut`].
    pub opened_before_cut: usize,
}

/// A network card: what arrived, and what is to be sent.
#[derive(Default)]
pub struct Card {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

pub struct Received(Vec<u8>);
pub struct Sent<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _now: NetInstant) -> Option<(Received, Sent<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _now: NetInstant) -> Option<Sent<'_>> {
        Some(Sent(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// What a station's application heard.
#[derive(Default)]
pub struct Diary {
    pub posts: Vec<(QueryId, String, String, Via)>,
    pub ended: Vec<(QueryId, Outcome)>,
    /// What it is to post of its own accord, once a command has ended.
    pub to_post: Option<&'static str>,
}

impl Handler for Diary {
    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Post {
                query,
                author,
                text,
                via,
                ..
            } => {
                let name = author.name.as_str().to_owned();
                self.posts.push((query, name, text.to_owned(), via));
            }
            Event::QueryDone { query, outcome } => self.ended.push((query, outcome)),
            _ => {}
        }
    }
}

impl<P: Plan> Application<P> for Diary {
    fn act(&mut self, now: Instant, node: &mut Node<P>) -> Option<Instant> {
        if !self.ended.is_empty()
            && let Some(text) = self.to_post.take()
        {
            node.post(now, text).unwrap();
        }
        None
    }
}

pub struct Station {
    pub stack: Stack<'static, Board, Diary>,
    pub card: Card,
    wake: Option<Instant>,
    up: bool,
}

pub struct World {
    pub now: Instant,
    pub stations: Vec<Station>,
    pub weather: Weather,
    pub traffic: Traffic,
    flying: Vec<Flying>,
    random: u64,
    /// How often any station was polled.
    pub polls: u64,
    /// How often the time server was asked; `None`: there is none.
    time_server: bool,
    pub asked: u64,
}

impl World {
    /// A network with so many stations, none of which knows another, and a time server that all of them ask.
    pub fn with_time_server(stations: usize) -> Self {
        Self::of(stations, Some((ip_of(time::INDEX), 123).into()), |_, _| {})
    }

    fn of(
        stations: usize,
        time_server: Option<SocketAddr>,
        adjust: impl Fn(usize, &mut Config),
    ) -> Self {
        let now = START;
        let station = |index| station(now, index, time_server, &adjust);
        Self {
            now,
            stations: (0..stations).map(station).collect(),
            time_server: time_server.is_some(),
            asked: 0,
            weather: Weather::default(),
            traffic: Traffic::default(),
            flying: Vec::new(),
            random: 0x5eed,
            polls: 0,
        }
    }

    /// A network with so many stations, all of which have joined through the first.
    pub fn joined(stations: usize) -> Self {
        Self::joined_with(stations, |_, _| {})
    }

    /// As [`Self::joined`], with other settings than the usual ones.
    pub fn joined_with(stations: usize, adjust: impl Fn(usize, &mut Config)) -> Self {
        let mut world = Self::of(stations, None, adjust);
        for index in 1..stations {
            let query = world.command(index, |now, node| {
                node.join(now, addr_of(0), 10_000).unwrap()
            });
            let outcome = world.outcome(index, query);
            assert!(
                matches!(outcome, Outcome::Joined { contacts } if contacts > 0),
                "{outcome:?}"
            );
        }
        for index in 0..stations {
            let query = world.command(index, |now, node| node.register(now, 10_000).unwrap());
            let outcome = world.outcome(index, query);
            assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
        }
        world
    }

    /// Gives a station's node a command.
    pub fn command<T>(
        &mut self,
        index: usize,
        f: impl FnOnce(Instant, &mut Node<Board>) -> T,
    ) -> T {
        let result = f(self.now, self.stations[index].stack.node_mut());
        self.poll(index);
        result
    }

    /// Lets time pass until a command has ended; a minute at most.
    pub fn outcome(&mut self, index: usize, query: QueryId) -> Outcome {
        let end = self.now.after_s(60);
        loop {
            if let Some(outcome) = self.ended(index, query) {
                return outcome;
            }
            assert!(self.now < end, "the command has not ended");
            let until = self.now.after_ms(10);
            self.run_until(until);
        }
    }

    /// How a command has ended, if it has.
    pub fn ended(&mut self, index: usize, query: QueryId) -> Option<Outcome> {
        let ended = &self.stations[index].stack.application().ended;
        let of_query = ended.iter().find(|(ended, _)| *ended == query);
        of_query.map(|(_, outcome)| *outcome)
    }

    pub fn run_for_ms(&mut self, ms: u64) {
        self.run_until(self.now.after_ms(ms));
    }

    pub fn run_until(&mut self, end: Instant) {
        loop {
            let arrivals = self.flying.iter().map(|frame| frame.at);
            let wakes = self.stations.iter().filter(|s| s.up).filter_map(|s| s.wake);
            let next = arrivals.chain(wakes).min().unwrap_or(end);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            self.deliver();
            for index in 0..self.stations.len() {
                let station = &self.stations[index];
                let due = station.wake.is_some_and(|wake| wake <= self.now);
                if station.up && (due || !station.card.received.is_empty()) {
                    self.poll(index);
                }
            }
            if next >= end {
                break;
            }
        }
        self.now = end;
    }

    /// Takes a station off the network, or puts it back.
    pub fn set_up(&mut self, index: usize, up: bool) {
        self.stations[index].up = up;
    }

    /// Puts a frame on a station's card, as if it came from nowhere.
    pub fn inject(&mut self, index: usize, frame: Vec<u8>) {
        self.stations[index].card.received.push_back(frame);
    }

    /// Calls a station's `poll` until it has nothing more to do now.
    pub fn poll(&mut self, index: usize) {
        let now = self.now;
        for _ in 0..POLLS_MAX {
            self.polls += 1;
            let station = &mut self.stations[index];
            station.wake = station.stack.poll(now, &mut station.card);
            let sent = std::mem::take(&mut station.card.sent);
            for frame in sent {
                self.send(index, &frame);
            }
            if self.stations[index].wake.is_none_or(|wake| wake > now) {
                return;
            }
        }
        panic!("station {index} spins");
    }

    /// The date by the time server's clock.
    pub fn unix_ms(&self) -> u64 {
        START_UNIX_MS + AHEAD_MS + self.now.since_ms(START)
    }

    fn send(&mut self, from: usize, frame: &[u8]) {
        let unix_us = self.unix_ms() * 1_000 + DELAY_US;
        if self.time_server
            && let Some((bytes, asked)) = time::answer(frame, unix_us)
        {
            self.asked += u64::from(asked);
            self.flying.push(Flying {
                at: self.now.after_us(2 * DELAY_US),
                to: from,
                bytes,
            });
        }
        self.watch(from, frame);
        let to: [u8; 6] = frame[..6].try_into().unwrap();
        for index in 0..self.stations.len() {
            let meant = to[0] & 1 == 1 || to == hardware(index).0;
            if index != from && meant && self.draw() % 100 >= self.weather.loss {
                self.flying.push(Flying {
                    at: self.now.after_us(DELAY_US),
                    to: index,
                    bytes: frame.to_vec(),
                });
            }
        }
    }

    /// Notes what a frame has to do with streams.
    fn watch(&mut self, from: usize, frame: &[u8]) {
        let Some((to, begins)) = frames::segment(frame) else {
            return;
        };
        let opened = (from, to);
        if begins && !self.traffic.opened.contains(&opened) {
            self.traffic.opened.push(opened);
        }
        self.traffic.segments += 1;
        let (station, left) = self.weather.cut;
        if left == 1 {
            self.traffic.opened_before_cut = self.traffic.opened.len();
            self.set_up(station, false);
        }
        self.weather.cut.1 = left.saturating_sub(1);
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (arrived, flying) = std::mem::take(&mut self.flying)
            .into_iter()
            .partition(|frame| frame.at <= now);
        self.flying = flying;
        let arrived: Vec<Flying> = arrived;
        for frame in arrived {
            if self.stations[frame.to].up {
                self.stations[frame.to].card.received.push_back(frame.bytes);
            }
        }
    }

    fn draw(&mut self) -> u64 {
        // Marsaglia's xorshift64.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

pub fn hardware(index: usize) -> EthernetAddress {
    EthernetAddress([2, 0, 0, 0, 0, u8::try_from(index + 1).unwrap()])
}

pub fn ip_of(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(index + 1).unwrap())
}

pub fn addr_of(index: usize) -> SocketAddr {
    (ip_of(index), PORT).into()
}

/// The handle of a station's user.
pub fn handle(index: usize) -> Handle {
    Handle::parse(&name(index)).unwrap()
}

pub fn name(index: usize) -> String {
    format!("station{index}")
}

fn station(
    now: Instant,
    index: usize,
    time_server: Option<SocketAddr>,
    adjust: &impl Fn(usize, &mut Config),
) -> Station {
    let secret = |kind: u8| {
        SecretKey::from_bytes(
            [kind, u8::try_from(index + 1).unwrap()]
                .repeat(16)
                .try_into()
                .unwrap(),
        )
    };
    let node = Box::leak(Box::new(Node::unstarted()));
    let identity = Identity {
        user: secret(1),
        node: secret(2),
        name: Name::parse(&name(index)).unwrap(),
    };
    let mut config = Config::new(NetworkId(*b"test"), addr_of(index));
    config.durability = Durability::Holders(1);
    adjust(index, &mut config);
    let byte = u8::try_from(index).unwrap();
    node.start(now, identity, &Seed([byte; 32]), &config)
        .unwrap();
    node.set_clock(now, START_UNIX_MS, 10);
    node.restored_all(now, Restored::Fresh).unwrap();
    let mut card = Card::default();
    let stack = Stack::new(
        now,
        &mut card,
        Box::leak(Box::new(Memory::<CONNECTIONS>::EMPTY)),
        Box::leak(Box::new(Sockets::<{ sockets_for(CONNECTIONS) }>::new())),
        node,
        Diary::default(),
        &Settings {
            hardware: HardwareAddress::Ethernet(hardware(index)),
            port: PORT,
            addresses: Addresses::Fixed {
                own: &[(IpAddr::V4(ip_of(index)), 24)],
                routers: &[],
            },
            time_server,
            seed: Seed([byte ^ 0xff; 32]),
        },
    );
    Station {
        stack: stack.unwrap(),
        card,
        wake: Some(now),
        up: true,
    }
}
