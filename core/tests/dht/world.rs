//! A world in memory: nodes of any plan, links with delay and a fixed pattern of loss, virtual time.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::dht::{Dht, Done, Owner};
use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::output::{Event, OUTPUT_LEN_MAX, Outcome, QueryId, Recipient};
use strandline_core::overlay::Entry;
use strandline_core::plan::Plan;
use strandline_core::rng::{Rng, Seed};
use strandline_core::rules::Rule;
use strandline_core::time::Instant;
use strandline_core::wire::NetworkId;
use strandline_core::wire::datagram::{Body, Datagram};
use strandline_core::wire::record::{Draft, Kind, Kinds};

pub const NETWORK: NetworkId = NetworkId(*b"test");
pub const WITHIN_MS: u32 = 10_000;

/// What the tests do with a node, whatever its plan.
pub trait AnyDht {
    fn datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Vec<Vec<u8>>;
    fn timeout(&mut self, now: Instant);
    fn deadline(&self) -> Option<Instant>;
    fn poll_send(&mut self, buf: &mut [u8]) -> Option<(SocketAddr, usize)>;
    fn poll_event<'b>(&mut self, buf: &'b mut [u8]) -> Option<Event<'b>>;
    fn poll_done(&mut self) -> Option<Done>;
    fn poll_own(&mut self, now: Instant) -> Option<Vec<u8>>;
    fn poll_contact(&mut self) -> Option<(NodeId, Option<SocketAddr>)>;
    fn join(&mut self, now: Instant, addr: SocketAddr) -> QueryId;
    fn find(&mut self, now: Instant, key: Key) -> QueryId;
    fn put(&mut self, now: Instant, record: &[u8]) -> QueryId;
    fn get(&mut self, now: Instant, key: Key, owner: Owner) -> QueryId;
    fn get_of(&mut self, now: Instant, key: Key, author: &UserId) -> QueryId;
    fn send(&mut self, now: Instant, key: Key, bytes: &[u8]) -> QueryId;
    fn leave(&mut self, now: Instant) -> QueryId;
    fn restore_contact(&mut self, now: Instant, id: NodeId, addr: SocketAddr);
    fn peers(&self) -> &[Entry];
    fn id(&self) -> NodeId;
    fn held(&self) -> usize;
    fn holds(&self, now: Instant, key: &Key) -> bool;
    fn dropped(&self, rule: Rule) -> u32;
    fn set_clock(&mut self, now: Instant, unix_ms: u64);
    fn observed(&self) -> Option<SocketAddr>;
    fn is_responsible(&self, key: &Key) -> bool;
}

impl<P: Plan> AnyDht for Dht<P> {
    fn datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        if let Some(mut found) = self.handle_datagram(now, from, bytes) {
            while let Some(verified) = found.next(self) {
                assert!(verified.remaining_ms > 0);
                records.push(verified.record.bytes.to_vec());
            }
        }
        records
    }
    fn timeout(&mut self, now: Instant) {
        self.handle_timeout(now);
    }
    fn deadline(&self) -> Option<Instant> {
        self.next_deadline()
    }
    fn poll_send(&mut self, buf: &mut [u8]) -> Option<(SocketAddr, usize)> {
        Dht::poll_send(self, buf)
    }
    fn poll_event<'b>(&mut self, buf: &'b mut [u8]) -> Option<Event<'b>> {
        Dht::poll_event(self, buf)
    }
    fn poll_done(&mut self) -> Option<Done> {
        Dht::poll_done(self)
    }
    fn poll_own(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (_, _, own) = self.poll_local()?;
        Some(
            self.local(now, own)
                .map_or(Vec::new(), |verified| verified.record.bytes.to_vec()),
        )
    }
    fn poll_contact(&mut self) -> Option<(NodeId, Option<SocketAddr>)> {
        Dht::poll_contact(self)
    }
    fn join(&mut self, now: Instant, addr: SocketAddr) -> QueryId {
        Dht::join(self, now, addr, Owner::Application, WITHIN_MS)
            .unwrap()
            .query()
    }
    fn find(&mut self, now: Instant, key: Key) -> QueryId {
        Dht::find(self, now, key, Owner::Application, WITHIN_MS)
            .unwrap()
            .query()
    }
    fn put(&mut self, now: Instant, record: &[u8]) -> QueryId {
        Dht::put(self, now, record, Owner::Application, WITHIN_MS)
            .unwrap()
            .query()
    }
    fn get(&mut self, now: Instant, key: Key, owner: Owner) -> QueryId {
        Dht::get(self, now, key, Kinds::ALL, None, owner, WITHIN_MS)
            .unwrap()
            .query()
    }
    fn get_of(&mut self, now: Instant, key: Key, author: &UserId) -> QueryId {
        let (kinds, owner) = (Kinds::ALL, Owner::Application);
        Dht::get(self, now, key, kinds, Some(author), owner, WITHIN_MS)
            .unwrap()
            .query()
    }
    fn send(&mut self, now: Instant, key: Key, bytes: &[u8]) -> QueryId {
        Dht::send(
            self,
            now,
            Recipient::Key(key),
            bytes,
            Owner::Application,
            WITHIN_MS,
        )
        .unwrap()
        .query()
    }
    fn leave(&mut self, now: Instant) -> QueryId {
        Dht::leave(self, now, Owner::Application, WITHIN_MS)
            .unwrap()
            .query()
    }
    fn restore_contact(&mut self, now: Instant, id: NodeId, addr: SocketAddr) {
        Dht::restore_contact(self, now, id, addr);
    }
    fn peers(&self) -> &[Entry] {
        Dht::peers(self)
    }
    fn id(&self) -> NodeId {
        Dht::id(self)
    }
    fn held(&self) -> usize {
        self.records().len()
    }
    fn holds(&self, now: Instant, key: &Key) -> bool {
        self.records()
            .read(now, key, Kinds::ALL, 0)
            .next()
            .is_some()
    }
    fn dropped(&self, rule: Rule) -> u32 {
        Dht::dropped(self).of(rule)
    }
    fn set_clock(&mut self, now: Instant, unix_ms: u64) {
        Dht::set_clock(self, now, unix_ms, 10);
    }
    fn observed(&self) -> Option<SocketAddr> {
        Dht::observed(self)
    }
    fn is_responsible(&self, key: &Key) -> bool {
        Dht::is_responsible(self, key)
    }
}

/// What a node said that was not a datagram.
#[derive(Default, Debug)]
pub struct Heard {
    pub outcomes: BTreeMap<u64, Outcome>,
    pub values: Vec<Vec<u8>>,
    pub contacts: Vec<NodeId>,
    pub messages: Vec<Vec<u8>>,
    pub done: Vec<Done>,
    pub records: Vec<Vec<u8>>,
    pub up: i32,
    pub gained: usize,
    pub lost: usize,
    pub prefix_bits: Option<u16>,
    pub saved: BTreeMap<NodeId, SocketAddr>,
}

pub struct Host {
    pub addr: SocketAddr,
    pub dht: Box<dyn AnyDht>,
    pub alive: bool,
    /// No record that somebody wants held there arrives.
    pub refuses_puts: bool,
    pub heard: Heard,
}

pub struct World {
    pub now: Instant,
    pub hosts: Vec<Host>,
    pub index: BTreeMap<SocketAddr, usize>,
    /// By arrival and number.
    pub flying: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    pub sent: u64,
    pub delay_us: u64,
    /// Every so many datagrams one is lost; 0: none.
    pub lose_every: u64,
    pub to_nobody: u64,
    /// Nothing crosses between even and odd hosts.
    pub apart: bool,
}

pub fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([10, (n >> 8) as u8, n as u8, 1], 7827))
}

pub fn is_put(bytes: &[u8]) -> bool {
    let datagram = Datagram::decode(bytes, NETWORK);
    datagram.is_ok_and(|datagram| matches!(datagram.body, Body::Put { .. }))
}

pub fn seed(n: usize, what: u8) -> Seed {
    let mut bytes = [what; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    Seed(bytes)
}

pub fn node<P: Plan>(n: usize, listen: SocketAddr) -> Box<dyn AnyDht> {
    let mut dht = Box::new(Dht::<P>::EMPTY);
    let secret = SecretKey::from_bytes(seed(n, 1).0);
    dht.start(
        Instant::ZERO,
        &secret,
        Rng::from_seed(&seed(n, 2)),
        NETWORK,
        listen,
    );
    dht
}

impl World {
    pub fn new() -> Self {
        Self {
            now: Instant::ZERO,
            hosts: Vec::new(),
            index: BTreeMap::new(),
            flying: BTreeMap::new(),
            sent: 0,
            delay_us: 10_000,
            lose_every: 0,
            to_nobody: 0,
            apart: false,
        }
    }

    pub fn add<P: Plan>(&mut self) -> usize {
        let n = self.hosts.len();
        self.add_at::<P>(addr(n))
    }

    pub fn add_at<P: Plan>(&mut self, addr: SocketAddr) -> usize {
        self.add_listening::<P>(addr, addr)
    }

    pub fn add_listening<P: Plan>(&mut self, addr: SocketAddr, listen: SocketAddr) -> usize {
        let n = self.hosts.len();
        let host = Host {
            addr,
            dht: node::<P>(n, listen),
            alive: true,
            refuses_puts: false,
            heard: Heard::default(),
        };
        self.hosts.push(host);
        self.index.insert(addr, n);
        n
    }

    /// Nodes that have joined through the first one, one after the other.
    pub fn joined<P: Plan>(count: usize) -> Self {
        let mut world = Self::new();
        world.add::<P>();
        for _ in 1..count {
            let n = world.add::<P>();
            world.join(n, 0);
        }
        world.run_ms(1_000);
        world
    }

    pub fn join(&mut self, n: usize, through: usize) -> Outcome {
        let addr = self.hosts[through].addr;
        let query = self.hosts[n].dht.join(self.now, addr);
        self.outcome(n, query)
    }

    pub fn drain(&mut self, n: usize) {
        let mut buf = [0; OUTPUT_LEN_MAX];
        let host = &mut self.hosts[n];
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 100_000, "a drain ends");
            if let Some((to, len)) = host.dht.poll_send(&mut buf) {
                self.sent += 1;
                let other = self.index.get(&to);
                self.to_nobody += u64::from(other.is_none());
                if self.apart && other.is_some_and(|other| other % 2 != n % 2) {
                    continue;
                }
                if self.lose_every == 0 || !self.sent.is_multiple_of(self.lose_every) {
                    let at = self.now.after_us(self.delay_us);
                    self.flying
                        .insert((at, self.sent), (host.addr, to, buf[..len].to_vec()));
                }
                continue;
            }
            if let Some(record) = host.dht.poll_own(self.now) {
                host.heard.records.push(record);
                continue;
            }
            if let Some(done) = host.dht.poll_done() {
                host.heard.done.push(done);
                continue;
            }
            if let Some((id, addr)) = host.dht.poll_contact() {
                match addr {
                    Some(addr) => drop(host.heard.saved.insert(id, addr)),
                    None => assert!(host.heard.saved.remove(&id).is_some()),
                }
                continue;
            }
            match host.dht.poll_event(&mut buf) {
                Some(Event::QueryDone { query, outcome }) => {
                    host.heard.outcomes.insert(query.0, outcome);
                }
                Some(Event::Value { bytes, .. }) => host.heard.values.push(bytes.to_vec()),
                Some(Event::Contact { id, .. }) => host.heard.contacts.push(id),
                Some(Event::Message(message)) => host.heard.messages.push(message.bytes.to_vec()),
                Some(Event::NeighbourUp { .. }) => host.heard.up += 1,
                Some(Event::NeighbourDown { .. }) => host.heard.up -= 1,
                Some(Event::KeyGained { .. }) => host.heard.gained += 1,
                Some(Event::KeyLost { .. }) => host.heard.lost += 1,
                Some(Event::ResponsibilityChanged { prefix_bits }) => {
                    host.heard.prefix_bits = Some(prefix_bits);
                }
                Some(other) => panic!("{other:?}"),
                None => break,
            }
        }
        if let Some(deadline) = host.dht.deadline() {
            assert!(deadline > self.now, "a deadline lies in the future");
        }
    }

    /// Goes to the next thing that happens by `end`; false when there is none.
    pub fn step(&mut self, end: Instant) -> bool {
        for n in 0..self.hosts.len() {
            if self.hosts[n].alive {
                self.drain(n);
            }
        }
        let arrival = self.flying.keys().next().map(|key| key.0);
        let timers = self.hosts.iter().filter(|host| host.alive);
        let timer = timers.filter_map(|host| host.dht.deadline()).min();
        let Some(next) = arrival
            .into_iter()
            .chain(timer)
            .min()
            .filter(|&at| at <= end)
        else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (from, to, bytes) = entry.remove();
            if let Some(&n) = self.index.get(&to)
                && self.hosts[n].alive
                && !(self.hosts[n].refuses_puts && is_put(&bytes))
            {
                let records = self.hosts[n].dht.datagram(self.now, from, &bytes);
                self.hosts[n].heard.records.extend(records);
                self.drain(n);
            }
        }
        for host in &mut self.hosts {
            if host.alive && host.dht.deadline().is_some_and(|at| at <= self.now) {
                host.dht.timeout(self.now);
            }
        }
        true
    }

    pub fn run_ms(&mut self, ms: u64) {
        let end = self.now.after_ms(ms);
        while self.step(end) {}
    }

    pub fn outcome(&mut self, n: usize, query: QueryId) -> Outcome {
        let end = self.now.after_ms(u64::from(WITHIN_MS) + 1);
        loop {
            self.drain(n);
            if let Some(outcome) = self.hosts[n].heard.outcomes.remove(&query.0) {
                return outcome;
            }
            assert!(self.step(end), "every operation ends by its deadline");
        }
    }

    pub fn put(&mut self, n: usize, record: &[u8]) -> Outcome {
        let query = self.hosts[n].dht.put(self.now, record);
        self.outcome(n, query)
    }

    pub fn get(&mut self, n: usize, key: Key) -> (Outcome, Vec<Vec<u8>>) {
        let query = self.hosts[n].dht.get(self.now, key, Owner::Application);
        let outcome = self.outcome(n, query);
        (outcome, std::mem::take(&mut self.hosts[n].heard.values))
    }

    pub fn find(&mut self, n: usize, key: Key) -> (Outcome, Vec<NodeId>) {
        let query = self.hosts[n].dht.find(self.now, key);
        let outcome = self.outcome(n, query);
        (outcome, std::mem::take(&mut self.hosts[n].heard.contacts))
    }

    /// The ids of the living, nearest to `key` first, without host `n`.
    pub fn nearest(&self, key: Key, n: usize) -> Vec<NodeId> {
        let others = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(at, host)| *at != n && host.alive);
        let mut ids: Vec<NodeId> = others.map(|(_, host)| host.dht.id()).collect();
        ids.sort_by_key(|id| strandline_core::id::Distance::between(id.as_bytes(), key.as_bytes()));
        ids
    }
}

pub fn key(n: usize) -> Key {
    Key::of_value::<Ed25519>(&n.to_be_bytes())
}

pub fn value(author: usize, key: Key, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let secret = SecretKey::from_bytes(seed(author, 3).0);
    let public = Ed25519::public_key(&secret);
    let draft = Draft {
        kind: Kind::Value,
        key,
        author: UserId::of_key::<Ed25519>(&public),
        subject: None,
        page: 0,
        sequence,
        issued_ms: 0,
        lifetime_ms: 60 * 60 * 1000,
    };
    let mut buf = [0; 1000];
    let len = draft
        .sign::<Ed25519>(payload, &secret, &public, NETWORK, &mut buf)
        .unwrap();
    buf[..len].to_vec()
}
