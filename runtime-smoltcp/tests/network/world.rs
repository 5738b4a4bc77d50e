//! Stations on one Ethernet, or on links that carry IP packets, with a clock that jumps to what happens next. Nothing sleeps,
//! and every run is the same.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::Medium;
use strandline_core::config::Config;
use strandline_core::node::Node;
use strandline_core::output::{Outcome, QueryId};
use strandline_core::plan::Board;
use strandline_core::time::Instant;

use crate::station::{Own, PORT, START_UNIX_MS, Station, hardware, ip_of, station};
use crate::{dhcp, frames, router, time};

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
    /// So many more requests for a stream are lost.
    pub lost_requests: usize,
    /// This station is switched off when so many more segments of streams have passed: none if 0.
    pub cut: (usize, usize),
}

/// What passed the hub.
#[derive(Default)]
pub struct Traffic {
    /// Where IP packets came from.
    pub sources: BTreeSet<IpAddr>,
    /// Where the router was to pass packets on to.
    pub passed_on: BTreeSet<IpAddr>,
    /// Who asked whom for a stream, in the order of the first attempts.
    pub opened: Vec<(usize, usize)>,
    /// Segments of streams.
    pub segments: usize,
    /// Those asked for before a station was switched off by [`Weather::cut`].
    pub opened_before_cut: usize,
}

pub struct World {
    pub now: Instant,
    medium: Medium,
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
    /// Gives addresses on Ethernet to those who ask for one.
    pub dhcp: dhcp::Server,
}

impl World {
    /// A network of stations with these addresses, none of which knows another, and a time server that all of them ask.
    pub fn with_time_server(own: &[Own]) -> Self {
        let time_server = (ip_of(time::INDEX), 123).into();
        Self::of(Medium::Ethernet, own, Some(time_server), |_, _| {})
    }

    /// A network of stations with these addresses, none of which knows another.
    pub fn new(medium: Medium, own: &[Own]) -> Self {
        Self::of(medium, own, None, |_, _| {})
    }

    fn of(
        medium: Medium,
        own: &[Own],
        time_server: Option<SocketAddr>,
        adjust: impl Fn(usize, &mut Config),
    ) -> Self {
        let now = START;
        let station =
            |(index, own): (usize, &Own)| station(now, index, (medium, *own), time_server, &adjust);
        Self {
            now,
            medium,
            stations: own.iter().enumerate().map(station).collect(),
            dhcp: dhcp::Server::default(),
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
        let own = vec![Own::V4; stations];
        let mut world = Self::of(Medium::Ethernet, &own, None, adjust);
        world.join();
        world
    }

    /// As [`Self::joined`], of stations with these addresses.
    pub fn joined_over(medium: Medium, own: &[Own]) -> Self {
        let mut world = Self::new(medium, own);
        world.join();
        world
    }

    /// Lets all stations join through the first, as soon as they have addresses, and register.
    pub fn join(&mut self) {
        self.join_at(|world, index| world.ip(0, index));
    }

    /// As [`Self::join`], where the first is at `first` for each of the others.
    pub fn join_at(&mut self, first: impl Fn(&Self, usize) -> IpAddr) {
        self.until(60, |world| {
            let has_any = |station: &Station| station.stack.addresses().next().is_some();
            world.stations.iter().all(has_any)
        });
        for index in 1..self.stations.len() {
            let addr = (first(self, index), PORT).into();
            let query = self.command(index, |now, node| node.join(now, addr, 10_000).unwrap());
            let outcome = self.outcome(index, query);
            assert!(
                matches!(outcome, Outcome::Joined { contacts } if contacts > 0),
                "{outcome:?}"
            );
        }
        for index in 0..self.stations.len() {
            let query = self.command(index, |now, node| node.register(now, 10_000).unwrap());
            let outcome = self.outcome(index, query);
            assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
        }
    }

    /// Where a station is, for another one.
    fn ip(&self, index: usize, other: usize) -> IpAddr {
        let of = |index: usize| self.stations[index].stack.addresses();
        let both_have = |ip: &IpAddr| of(other).any(|own| own.is_ipv4() == ip.is_ipv4());
        of(index).find(both_have).unwrap()
    }

    /// The addresses of a station.
    pub fn addresses(&self, index: usize) -> Vec<IpAddr> {
        self.stations[index].stack.addresses().collect()
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

    /// Lets time pass until something is so; tells how long that took, in ms.
    pub fn until(&mut self, within_s: u64, is_so: impl Fn(&Self) -> bool) -> u64 {
        let began = self.now;
        let end = began.after_s(within_s);
        while !is_so(self) {
            assert!(self.now < end, "it is not so within {within_s} s");
            self.run_for_ms(10);
        }
        self.now.since_ms(began)
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
        if self.medium == Medium::Ethernet {
            let answers = [router::answer(frame), self.dhcp.answer(frame)];
            for bytes in answers.into_iter().flatten() {
                self.flying.push(Flying {
                    at: self.now.after_us(2 * DELAY_US),
                    to: from,
                    bytes,
                });
            }
            if let Some(to) = router::passes_to(frame) {
                self.pass_on(frame, to);
            }
        }
        self.watch(from, frame);
        let requests = matches!(frames::segment(frame), Some((_, true)));
        if requests && self.weather.lost_requests > 0 {
            self.weather.lost_requests -= 1;
            return;
        }
        for index in 0..self.stations.len() {
            let meant = index != from && self.is_for(index, frame);
            if meant && self.draw() % 100 >= self.weather.loss {
                self.flying.push(Flying {
                    at: self.now.after_us(DELAY_US),
                    to: index,
                    bytes: frame.to_vec(),
                });
            }
        }
    }

    fn pass_on(&mut self, frame: &[u8], ip: IpAddr) {
        self.traffic.passed_on.insert(ip);
        let has_it = |station: &Station| station.stack.addresses().any(|own| own == ip);
        if let Some(to) = self.stations.iter().position(has_it) {
            self.flying.push(Flying {
                at: self.now.after_us(2 * DELAY_US),
                to,
                bytes: router::passed_on(frame, hardware(to)),
            });
        }
    }

    fn is_for(&self, index: usize, frame: &[u8]) -> bool {
        match self.medium {
            Medium::Ethernet => frame[0] & 1 == 1 || frame[..6] == hardware(index).0,
            Medium::Ip => {
                let (_, to) = frames::ends(self.medium, frame).unwrap();
                self.stations[index].stack.addresses().any(|own| own == to)
            }
        }
    }

    /// Notes where a frame comes from, and what it has to do with streams.
    fn watch(&mut self, from: usize, frame: &[u8]) {
        if let Some((source, _)) = frames::ends(self.medium, frame) {
            self.traffic.sources.insert(source);
        }
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
