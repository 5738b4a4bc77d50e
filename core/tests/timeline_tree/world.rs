//! A world in memory: timelines without a DHT, streams with delay and back-pressure, people who die.
//!
//! Time is virtual and everything happens in one order, so that a test that fails fails again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;

use strandline_core::config::{Config, Identity};
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::dht::Verified;
use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::name::Name;
use strandline_core::output::{
    Event, OUTPUT_LEN_MAX, Outcome, Output, Person, QueryId, Restored, StreamId, Unreached, Via,
};
use strandline_core::plan::Plan;
use strandline_core::rng::{Rng, Seed};
use strandline_core::rules::Rule;
use strandline_core::time::Instant;
use strandline_core::timeline::asks::Ask;
use strandline_core::timeline::exchange::Exchange;
use strandline_core::timeline::me::About;
use strandline_core::timeline::reads::Scope;
use strandline_core::timeline::state::State;
use strandline_core::wire::frame::Frame;
use strandline_core::wire::record::{Kind, Profile, Record};
use strandline_core::wire::{NetworkId, RECORD_LEN_MAX};

pub const NETWORK: NetworkId = NetworkId([1, 2, 3, 4]);
/// The date at the origin of time.
const DATE_MS: u64 = 1_700_000_000_000;
/// One way, in ms.
const DELAY_MS: u64 = 5;
/// What a stream takes in one direction before it says that it is full.
const ROOM: usize = 2_048;
/// More steps than any of these worlds needs: a live-lock fails instead of hanging.
const STEPS_MAX: usize = 2_000_000;

/// How somebody behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    Well,
    /// Connections are refused; those that there are break.
    Dead,
    /// Nothing ever comes back.
    Silent,
}

/// A post as a reader was shown it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    pub author: UserId,
    pub seq: u64,
    pub text: String,
    pub via: Via,
}

/// What a read has told so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Told {
    pub posts: Vec<Shown>,
    pub missing: Vec<(UserId, Unreached)>,
    pub complete: Option<bool>,
}

/// Changes a frame on its way.
pub type Tamper = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

pub struct Somebody<P: Plan> {
    pub state: State<P>,
    pub exchange: Box<Exchange<P>>,
    pub health: Health,
    pub told: Told,
    /// Streams opened to this person.
    pub contacts: usize,
    /// Who was said not to have answered.
    pub missed: Vec<UserId>,
    /// Applied to all frames that this person sends.
    pub tamper: Option<Tamper>,
    ends: BTreeMap<u64, End>,
}

/// One end of a stream.
struct End {
    peer: Option<(usize, u64)>,
    arrived: VecDeque<u8>,
    on_the_way: usize,
    closing: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Connect {
        from: usize,
        stream: u64,
        to: SocketAddr,
    },
    Opened {
        who: usize,
        stream: u64,
        peer: Option<(usize, u64)>,
    },
    Bytes {
        who: usize,
        stream: u64,
        bytes: Vec<u8>,
    },
    Closed {
        who: usize,
        stream: u64,
    },
}

pub struct World<P: Plan> {
    pub now: Instant,
    pub people: Vec<Somebody<P>>,
    /// Records by key: what the DHT would hold.
    pub records: Vec<Vec<u8>>,
    queue: BinaryHeap<Reverse<(Instant, u64, What)>>,
    serial: u64,
}

pub fn user(n: usize) -> UserId {
    UserId::of_key::<Ed25519>(&Ed25519::public_key(&secret(n)))
}

pub fn secret(n: usize) -> SecretKey {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    SecretKey::from_bytes(bytes)
}

pub fn name(n: usize) -> Name {
    Name::parse(&format!("p{n}")).unwrap()
}

pub fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (n / 250) as u8, (n % 250) as u8 + 1], 7827))
}

impl<P: Plan<Crypto = Ed25519>> World<P> {
    /// So many people who do not know each other.
    pub fn new(people: usize, fanout: u8) -> Self {
        Self::with(people, |config| config.fanout = fanout)
    }

    pub fn with(people: usize, setting: impl Fn(&mut Config)) -> Self {
        let now = Instant::from_s(1_000);
        let people = (0..people).map(|n| person(n, now, &setting)).collect();
        Self {
            now,
            people,
            records: Vec::new(),
            queue: BinaryHeap::new(),
            serial: 0,
        }
    }

    /// `who` follows `whom`, who knows; the records are in the DHT.
    pub fn follow(&mut self, who: usize, whom: usize) {
        let mut buf = [0; RECORD_LEN_MAX];
        let state = &mut self.people[who].state;
        assert!(state.people.follow(user(whom), name(whom)));
        let len = state
            .sign_follow(self.now, &user(whom), true, &mut buf)
            .unwrap();
        let record = buf[..len].to_vec();
        let _ = self.people[whom]
            .state
            .on_follow(self.now, &record, None)
            .unwrap();
        self.records.push(record);
        self.flush(who);
        self.flush(whom);
    }

    /// Puts everybody's profile in the DHT. `followers` decides who is asked first.
    pub fn publish_profiles(&mut self, followers: impl Fn(usize) -> u32) {
        for n in 0..self.people.len() {
            self.publish_profile(n, followers(n), 90 * 60 * 1_000);
        }
    }

    pub fn publish_profile(&mut self, n: usize, followers: u32, lease_ms: u32) {
        let mut buf = [0; RECORD_LEN_MAX];
        let state = &mut self.people[n].state;
        let addr = strandline_core::addr::PackedAddr::from(address(n));
        let profile = Profile {
            name: name(n),
            addresses: addr.as_bytes(),
            lease_ms,
            logs: &[],
            followers,
            next_key: [0; 32],
        };
        let about = About {
            kind: Kind::Profile,
            key: Key::of_user::<Ed25519>(&user(n)),
            subject: None,
            page: 0,
            lifetime_ms: u32::MAX,
        };
        let len = state.me.sign(self.now, &about, &profile, &mut buf).unwrap();
        self.records.push(buf[..len].to_vec());
    }

    /// `n` posts, durably and for all to see.
    pub fn post(&mut self, n: usize, text: &str) {
        self.people[n].state.post(self.now, text).unwrap();
        self.flush(n);
        let state = &mut self.people[n].state;
        let reserving = state.log.reserving();
        state
            .log
            .on_reserved(&state.me, &state.posts, &mut state.persists, reserving);
        self.flush(n);
    }

    /// Storage always works, at once.
    fn flush(&mut self, n: usize) {
        let mut buf = [0; OUTPUT_LEN_MAX];
        let state = &mut self.people[n].state;
        while let Ok((id, _)) = state.poll_persist(self.now, &mut buf) {
            state.persisted(id);
        }
    }

    pub fn read(&mut self, who: usize, within_ms: u32) {
        self.read_scope(who, Scope::Everyone, within_ms);
    }

    pub fn read_one(&mut self, who: usize, whom: usize, within_ms: u32) {
        let person = Person {
            user: user(whom),
            name: name(whom),
        };
        self.read_scope(who, Scope::One(person), within_ms);
    }

    fn read_scope(&mut self, who: usize, scope: Scope, within_ms: u32) {
        let now = self.now;
        let person = &mut self.people[who];
        person.told = Told::default();
        let query = Some(QueryId(9));
        person
            .exchange
            .read(now, &mut person.state, query, scope, within_ms)
            .unwrap();
        self.settle(who);
    }

    /// Lets a read run to its end, and returns what it told.
    pub fn read_to_end(&mut self, who: usize, within_ms: u32) -> Told {
        let start = self.now;
        self.read(who, within_ms);
        self.run_until_told(who, start, within_ms)
    }

    pub fn run_until_told(&mut self, who: usize, start: Instant, within_ms: u32) -> Told {
        for _ in 0..STEPS_MAX {
            if self.people[who].told.complete.is_some() {
                return self.people[who].told.clone();
            }
            assert!(self.step(), "nothing left to happen");
            let late = self.now.since_ms(start) > u64::from(within_ms);
            assert!(
                !late,
                "the read outlived its deadline: {:?}",
                self.people[who].told
            );
        }
        panic!("too many steps");
    }

    /// Lets time pass.
    pub fn run_for(&mut self, ms: u64) {
        let end = self.now.after_ms(ms);
        for _ in 0..STEPS_MAX {
            if self.next_time().is_none_or(|next| next > end) {
                self.now = end;
                return;
            }
            self.step();
        }
        panic!("too many steps");
    }

    pub fn kill(&mut self, n: usize, health: Health) {
        self.people[n].health = health;
        let ends: Vec<u64> = self.people[n].ends.keys().copied().collect();
        for stream in ends {
            let end = self.people[n].ends.remove(&stream).unwrap();
            if let (Some((who, stream)), Health::Dead) = (end.peer, health) {
                self.push(DELAY_MS, What::Closed { who, stream });
            }
        }
    }

    pub fn dropped(&self, n: usize, rule: Rule) -> u32 {
        self.people[n].state.dropped.of(rule)
    }

    fn push(&mut self, delay_ms: u64, what: What) {
        self.serial += 1;
        self.queue
            .push(Reverse((self.now.after_ms(delay_ms), self.serial, what)));
    }

    fn next_time(&self) -> Option<Instant> {
        let queued = self.queue.peek().map(|Reverse((at, _, _))| *at);
        let well = self
            .people
            .iter()
            .filter(|person| person.health == Health::Well);
        let due = well.filter_map(|person| person.exchange.next_deadline().get());
        queued.into_iter().chain(due).min()
    }

    /// The next thing that happens. False: nothing ever will.
    fn step(&mut self) -> bool {
        let Some(at) = self.next_time() else {
            return false;
        };
        self.now = self.now.max(at);
        if self
            .queue
            .peek()
            .is_some_and(|Reverse((at, _, _))| *at <= self.now)
        {
            let Reverse((_, _, what)) = self.queue.pop().unwrap();
            self.happen(what);
            return true;
        }
        for n in 0..self.people.len() {
            let now = self.now;
            let person = &mut self.people[n];
            let due = person
                .exchange
                .next_deadline()
                .get()
                .is_some_and(|at| at <= now);
            if due && person.health == Health::Well {
                person.exchange.handle_timeout(now, &mut person.state);
                self.settle(n);
                let next = self.people[n].exchange.next_deadline().get();
                assert!(
                    next.is_none_or(|at| at > now),
                    "p{n} spins: {next:?} at {now:?}"
                );
            }
        }
        true
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Connect { from, stream, to } => self.connect(from, stream, to),
            What::Opened {
                who,
                stream,
                peer: None,
            } => {
                self.people[who].ends.remove(&stream);
                self.input(who, |now, person| {
                    person
                        .exchange
                        .stream_closed(now, &mut person.state, StreamId(stream));
                });
            }
            What::Opened { who, stream, peer } => {
                let Some(end) = self.people[who].ends.get_mut(&stream) else {
                    return;
                };
                end.peer = peer;
                self.input(who, |now, person| {
                    person
                        .exchange
                        .stream_opened(now, &mut person.state, StreamId(stream));
                });
                self.grant(who, stream);
            }
            What::Bytes { who, stream, bytes } => {
                let Some(end) = self.people[who].ends.get_mut(&stream) else {
                    return;
                };
                end.arrived.extend(bytes);
                self.settle(who);
            }
            What::Closed { who, stream } => {
                let Some(end) = self.people[who].ends.get_mut(&stream) else {
                    return;
                };
                end.closing = true;
                self.settle(who);
            }
        }
    }

    fn connect(&mut self, from: usize, stream: u64, to: SocketAddr) {
        let opened = |peer| What::Opened {
            who: from,
            stream,
            peer,
        };
        let Some(who) = (0..self.people.len()).find(|n| address(*n) == to) else {
            return self.push(DELAY_MS, opened(None));
        };
        self.people[who].contacts += 1;
        match self.people[who].health {
            Health::Silent => {}
            Health::Dead => self.push(DELAY_MS, opened(None)),
            Health::Well => {
                let now = self.now;
                let person = &mut self.people[who];
                let accepted = person
                    .exchange
                    .accept_stream(now, &mut person.state, address(from));
                let Ok(StreamId(peer)) = accepted else {
                    return self.push(DELAY_MS, opened(None));
                };
                person.ends.insert(peer, End::new(Some((from, stream))));
                self.push(DELAY_MS, opened(Some((who, peer))));
                self.grant(who, peer);
            }
        }
    }

    fn input(&mut self, who: usize, input: impl FnOnce(Instant, &mut Somebody<P>)) {
        input(self.now, &mut self.people[who]);
        self.settle(who);
    }

    /// Tells how much may be written.
    fn grant(&mut self, who: usize, stream: u64) {
        let now = self.now;
        let person = &mut self.people[who];
        let Some(end) = person.ends.get(&stream) else {
            return;
        };
        let room = ROOM.saturating_sub(end.on_the_way);
        person.exchange.stream_writable(now, StreamId(stream), room);
        self.settle(who);
    }

    /// Drains, and offers what has arrived, until neither leads to anything.
    fn settle(&mut self, who: usize) {
        if self.people[who].health != Health::Well {
            return;
        }
        loop {
            self.drain(who);
            if !self.offer(who) {
                return;
            }
        }
    }

    /// Offers the unconsumed bytes of each stream once. True: some were taken.
    fn offer(&mut self, who: usize) -> bool {
        let streams: Vec<u64> = self.people[who].ends.keys().copied().collect();
        for stream in streams {
            let now = self.now;
            let person = &mut self.people[who];
            let Some(end) = person.ends.get_mut(&stream) else {
                continue;
            };
            let bytes = end.arrived.make_contiguous();
            if bytes.is_empty() && !end.closing {
                continue;
            }
            let len =
                person
                    .exchange
                    .stream_readable(now, &mut person.state, StreamId(stream), bytes);
            assert!(len <= bytes.len());
            let rest = end.arrived.len() - len;
            end.arrived.drain(..len);
            let peer = end.peer;
            let partial = Frame::split(end.arrived.make_contiguous()).is_ok_and(|f| f.is_none());
            if end.closing && (rest == 0 || partial) {
                person.ends.remove(&stream);
                person
                    .exchange
                    .stream_closed(now, &mut person.state, StreamId(stream));
                return true;
            }
            if len > 0 {
                if let Some((peer, stream)) = peer {
                    if let Some(end) = self.people[peer].ends.get_mut(&stream) {
                        end.on_the_way = end.on_the_way.saturating_sub(len);
                    }
                    // The window opens for the other side, in the order of things.
                    self.drain(who);
                    self.grant(peer, stream);
                }
                return true;
            }
        }
        false
    }

    fn drain(&mut self, who: usize) {
        let mut buf = [0; OUTPUT_LEN_MAX];
        loop {
            self.flush(who);
            self.answer_asks(who);
            let person = &mut self.people[who];
            if let Ok(output) = person.exchange.poll_stream(&mut person.state, &mut buf) {
                match output {
                    Output::Open {
                        stream: StreamId(stream),
                        to,
                    } => {
                        person.ends.insert(stream, End::new(None));
                        self.push(
                            DELAY_MS,
                            What::Connect {
                                from: who,
                                stream,
                                to,
                            },
                        );
                    }
                    Output::Write {
                        stream: StreamId(stream),
                        bytes,
                    } => {
                        let end = person.ends.get_mut(&stream).expect("writes where it may");
                        end.on_the_way += bytes.len();
                        assert!(end.on_the_way <= ROOM, "never more than was granted");
                        let bytes = match &mut person.tamper {
                            Some(tamper) => tamper(bytes),
                            None => bytes.to_vec(),
                        };
                        if let Some((who, stream)) = end.peer {
                            self.push(DELAY_MS, What::Bytes { who, stream, bytes });
                        }
                    }
                    Output::Close {
                        stream: StreamId(stream),
                    } => {
                        let end = person.ends.remove(&stream).expect("closes what there is");
                        if let Some((who, stream)) = end.peer {
                            self.push(DELAY_MS, What::Closed { who, stream });
                        }
                    }
                    other => panic!("not of a stream: {other:?}"),
                }
                continue;
            }
            while let Some(missed) = person.exchange.poll_missed() {
                person.missed.push(missed);
            }
            let told = &mut person.told;
            match person.exchange.poll_event(&mut person.state, &mut buf) {
                Err(_) => return,
                Ok(Event::Post {
                    author,
                    seq,
                    text,
                    via,
                    ..
                }) => {
                    assert_eq!(told.complete, None, "nothing comes after the end");
                    let (author, text) = (author.user, text.to_owned());
                    told.posts.push(Shown {
                        author,
                        seq,
                        text,
                        via,
                    });
                }
                Ok(Event::Missing { author, reason, .. }) => {
                    told.missing.push((author.user, reason));
                }
                Ok(Event::QueryDone {
                    outcome: Outcome::Read { complete },
                    ..
                }) => {
                    assert_eq!(told.complete, None, "it ends once");
                    told.complete = Some(complete);
                }
                Ok(other) => panic!("not of a read: {other:?}"),
            }
        }
    }

    /// The DHT: has every record, at once.
    fn answer_asks(&mut self, who: usize) {
        let person = &mut self.people[who];
        while let Some(asking) = person.exchange.poll_ask() {
            let Ask::Get { key, kinds, .. } = asking.ask else {
                panic!("reads only get")
            };
            for bytes in &self.records {
                let record = Record::decode(bytes).unwrap();
                if record.key == key && kinds.contains(record.kind) {
                    let seen = Verified {
                        record,
                        remaining_ms: u64::from(record.lifetime_ms),
                        age_ms: 0,
                        holder: NodeId::ZERO,
                    };
                    person
                        .exchange
                        .on_record(self.now, &mut person.state, asking.tag, &seen);
                }
            }
            person
                .exchange
                .on_done(self.now, &mut person.state, asking.tag);
        }
    }
}

impl End {
    fn new(peer: Option<(usize, u64)>) -> Self {
        Self {
            peer,
            arrived: VecDeque::new(),
            on_the_way: 0,
            closing: false,
        }
    }
}

fn person<P: Plan<Crypto = Ed25519>>(
    n: usize,
    now: Instant,
    setting: &impl Fn(&mut Config),
) -> Somebody<P> {
    let mut config = Config::new(NETWORK, address(n));
    config.refresh_ms = 0;
    setting(&mut config);
    let identity = Identity {
        user: secret(n),
        node: secret(n + 1_000),
        name: name(n),
    };
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&(n as u64).to_be_bytes());
    let mut rng = Rng::from_seed(&Seed(seed));
    let mut state = State::EMPTY;
    state.people.start(rng.next_u64());
    state.copies.start(rng.next_u64());
    state.me.start(identity, &config, rng);
    state.on_observed(None);
    state.me.set_clock(now, DATE_MS, 0);
    state.restored_all(Restored::Fresh).unwrap();
    let mut exchange = Box::new(Exchange::EMPTY);
    exchange.start(now, &mut state);
    Somebody {
        state,
        exchange,
        health: Health::Well,
        told: Told::default(),
        contacts: 0,
        missed: Vec::new(),
        tamper: None,
        ends: BTreeMap::new(),
    }
}
