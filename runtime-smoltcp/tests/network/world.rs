//! Stations on one Ethernet, with a clock that jumps to what happens next. Nothing sleeps, and every run is the same.

use std::net::SocketAddr;

use strandline_core::config::Config;
use strandline_core::node::Node;
use strandline_core::output::{Outcome, QueryId};
use strandline_core::plan::Board;
use strandline_core::time::Instant;

use crate::station::{START_UNIX_MS, Station, addr_of, hardware, ip_of, station};
use crate::{frames, time};

/// How long a frame travels.
const DELAY_US: u64 = 200;
/// Calls of `poll` at one point in time: more means that it spins.
const POLLS_MAX: usize = 200;
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
