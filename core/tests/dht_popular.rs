//! Many who want the same: copies of popular values on the way to their holders, and gets and finds of one node that
//! share a lookup.
#![cfg(feature = "alloc")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;

use strandline_core::addr::PackedAddr;
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::dht::{Dht, Owner};
use strandline_core::id::{Distance, Key, NodeId, UserId};
use strandline_core::output::{Event, Outcome};
use strandline_core::plan::Server;
use strandline_core::rng::{Rng, Seed};
use strandline_core::rules::Rule;
use strandline_core::time::Instant;
use strandline_core::wire::datagram::{
    Body, COPY_DEPTH, Contact, Datagram, Denial, Digest, NO_TOKEN, PutOutcome, Token,
};
use strandline_core::wire::record::{Copy, Draft, Kind, Kinds, Record};
use strandline_core::wire::{DATAGRAM_LEN_MAX, NetworkId, PING_LEN};

const NETWORK: NetworkId = NetworkId(*b"test");
const WITHIN_MS: u32 = 10_000;
const HOUR_MS: u64 = 3_600_000;
const DELAY_MS: u64 = 20;

type Flying = Reverse<(Instant, u64, SocketAddr, SocketAddr, Vec<u8>)>;

/// Nodes, and datagrams that take a while. Whoever asks by hand is at the address of no node.
struct World {
    now: Instant,
    nodes: Vec<Dht<Server>>,
    at: BTreeMap<SocketAddr, usize>,
    flying: BinaryHeap<Flying>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    sent: u64,
    received: Vec<u32>,
    to_others: Vec<(SocketAddr, Vec<u8>)>,
    values: usize,
    contacts: usize,
    /// The gets that found a value.
    found: Vec<u64>,
    sent_by_five: u64,
    gained: usize,
    /// Commands that ended, and how.
    ended: Vec<Outcome>,
}

fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([44, (n >> 8) as u8, n as u8, 1], 7827))
}

impl World {
    fn new(count: usize) -> Self {
        let mut world = Self {
            now: Instant::from_s(1),
            nodes: Vec::new(),
            at: BTreeMap::new(),
            flying: BinaryHeap::new(),
            timers: BinaryHeap::new(),
            sent: 0,
            received: vec![0; count],
            to_others: Vec::new(),
            values: 0,
            contacts: 0,
            found: Vec::new(),
            sent_by_five: 0,
            gained: 0,
            ended: Vec::new(),
        };
        for n in 0..count {
            let seed = |what: u8| {
                let mut bytes = [what; 32];
                bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
                bytes
            };
            let mut node = Dht::EMPTY;
            let (secret, rng) = (
                SecretKey::from_bytes(seed(1)),
                Rng::from_seed(&Seed(seed(2))),
            );
            node.start(world.now, &secret, rng, NETWORK, addr(n));
            world.at.insert(addr(n), n);
            world.nodes.push(node);
            if n > 0 {
                // Anybody who is there already, so that nobody is known to all.
                let through = addr(n * 7 % n.min(1 + n / 2));
                let node = &mut world.nodes[n];
                node.join(world.now, through, Owner::Application, WITHIN_MS)
                    .unwrap();
                world.drain(n);
            }
            world.run_ms(60);
        }
        world.run_ms(30_000);
        world
    }

    fn drain(&mut self, n: usize) {
        let mut buf = [0; DATAGRAM_LEN_MAX];
        loop {
            let node = &mut self.nodes[n];
            if let Some((to, len)) = node.poll_send(&mut buf) {
                self.sent += 1;
                self.sent_by_five += u64::from(n == 5);
                let at = self.now.after_ms(DELAY_MS);
                let bytes = buf[..len].to_vec();
                self.flying
                    .push(Reverse((at, self.sent, addr(n), to, bytes)));
                continue;
            }
            while node.poll_contact().is_some() {}
            match node.poll_event(&mut buf) {
                Some(Event::Value { query, .. }) => {
                    self.values += 1;
                    self.found.push(query.0);
                }
                Some(Event::Contact { .. }) => self.contacts += 1,
                Some(Event::KeyGained { .. }) => self.gained += 1,
                Some(Event::QueryDone { outcome, .. }) => self.ended.push(outcome),
                Some(_) => {}
                None => break,
            }
        }
        if let Some(at) = self.nodes[n].next_deadline() {
            assert!(at > self.now, "a deadline lies in the future");
            self.timers.push(Reverse((at, n)));
        }
    }

    fn run_ms(&mut self, ms: u64) {
        let end = self.now.after_ms(ms);
        loop {
            let arrival = self.flying.peek().map(|Reverse(flying)| flying.0);
            let timer = self.timers.peek().map(|Reverse(timer)| timer.0);
            let next = arrival.into_iter().chain(timer).min();
            let Some(at) = next.filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            if arrival == Some(at) {
                let Reverse((_, _, from, to, bytes)) = self.flying.pop().unwrap();
                match self.at.get(&to).copied() {
                    Some(n) => {
                        self.received[n] += 1;
                        self.nodes[n].handle_datagram(self.now, from, &bytes);
                        self.drain(n);
                    }
                    None => self.to_others.push((from, bytes)),
                }
            } else {
                let Reverse((_, n)) = self.timers.pop().unwrap();
                if self.nodes[n]
                    .next_deadline()
                    .is_some_and(|at| at <= self.now)
                {
                    self.nodes[n].handle_timeout(self.now);
                    self.drain(n);
                }
            }
        }
        self.now = end;
    }

    fn put(&mut self, n: usize, record: &[u8]) {
        let node = &mut self.nodes[n];
        node.put(self.now, record, Owner::Application, WITHIN_MS)
            .unwrap();
        self.drain(n);
        self.run_ms(2_000);
        assert!(matches!(
            self.ended.pop(),
            Some(Outcome::Stored { accepted: 8, .. })
        ));
    }

    /// Everybody reads a value within so many ms. Returns how many datagrams each node received meanwhile.
    fn read_by_all(&mut self, key: Key, within_ms: u64) -> Vec<u32> {
        (self.values, self.received) = (0, vec![0; self.nodes.len()]);
        self.ended.clear();
        for n in 0..self.nodes.len() {
            self.nodes[n].get_value(self.now, key, WITHIN_MS).unwrap();
            self.drain(n);
            self.run_ms(within_ms / self.nodes.len() as u64);
        }
        self.run_ms(2_000);
        assert_eq!(self.ended.len(), self.nodes.len());
        self.received.clone()
    }

    /// The nodes, nearest to `key` first.
    fn by_distance(&self, key: &Key) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by_key(|n| {
            let id = self.nodes[*n].id();
            Distance::between(id.as_bytes(), key.as_bytes())
        });
        order
    }

    fn holders(&self, key: &Key) -> Vec<usize> {
        let holds = |n: &usize| {
            let records = self.nodes[*n].records();
            records.read(self.now, key, Kinds::ALL, 0).next().is_some()
        };
        (0..self.nodes.len()).filter(holds).collect()
    }

    /// A stranger asks a node; the answer's token, and what `read` makes of it.
    fn ask<T>(
        &mut self,
        from: SocketAddr,
        n: usize,
        token: Token,
        body: Body<'_>,
        read: impl Fn(&Body<'_>) -> T,
    ) -> (Token, T) {
        let mut buf = [0; DATAGRAM_LEN_MAX];
        let datagram = Datagram {
            transaction: [9; 8],
            sender: NodeId::from_bytes([0xaa; 32]),
            token,
            body,
        };
        let len = datagram.encode(NETWORK, &mut buf).unwrap();
        self.nodes[n].handle_datagram(self.now, from, &buf[..len]);
        while let Some((to, len)) = self.nodes[n].poll_send(&mut buf) {
            let answer = Datagram::decode(&buf[..len], NETWORK).unwrap();
            if to == from && answer.transaction == [9; 8] {
                return (answer.token, read(&answer.body));
            }
        }
        panic!("no answer");
    }

    fn token(&mut self, from: SocketAddr, n: usize) -> Token {
        let ping = Body::Ping {
            leaving: false,
            challenge: None,
            pad: &[0; PING_LEN],
        };
        self.ask(from, n, NO_TOKEN, ping, |_| ()).0
    }

    fn leave_copy(&mut self, from: SocketAddr, n: usize, record: &[u8], left_ms: u64) -> Said {
        let token = self.token(from, n);
        let body = copy_of(record, left_ms);
        let said = |body: &Body<'_>| match body {
            Body::Stored { outcome, .. } if *outcome == PutOutcome::Stored => Said::Stored,
            Body::Stored { .. } => Said::Refused,
            Body::Denied { reason, .. } => Said::Denied(*reason),
            other => panic!("{other:?}"),
        };
        self.ask(from, n, token, body, said).1
    }

    /// What a node shows at a key, if anything: how long it is left, and whether it says that many ask.
    fn read(&mut self, n: usize, key: Key) -> (Option<u64>, bool) {
        let from = stranger(1);
        let token = self.token(from, n);
        let get = Body::Get {
            key,
            kinds: Kinds::ALL.0,
            after: 0,
            limit: 9,
        };
        let left = |records: &[u8]| Copy::iter(records).next().map(|copy| copy.remaining_ms);
        let id = self.nodes[n].id();
        let read = |body: &Body<'_>| match body {
            Body::Found {
                records, contacts, ..
            } => {
                let addr = PackedAddr::NONE;
                let popular = Contact::iter(contacts).next() == Some(Contact { id, addr });
                (left(records), popular)
            }
            other => panic!("{other:?}"),
        };
        self.ask(from, n, token, get, read).1
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Stored,
    Refused,
    Denied(Denial),
}

fn copy_of(record: &[u8], remaining_ms: u64) -> Body<'_> {
    Body::Put {
        depth: COPY_DEPTH,
        spilled: false,
        age_ms: 0,
        remaining_ms,
        record,
    }
}

fn stranger(n: u8) -> SocketAddr {
    SocketAddr::from(([45, 0, n, 1], 1_000))
}

fn value(key: Option<Key>, text: &[u8]) -> (Key, Vec<u8>) {
    let secret = SecretKey::from_bytes([7; 32]);
    let public = Ed25519::public_key(&secret);
    let draft = Draft {
        kind: Kind::Value,
        key: key.unwrap_or_else(|| Key::of_value::<Ed25519>(text)),
        author: UserId::of_key::<Ed25519>(&public),
        subject: None,
        page: 0,
        sequence: 1,
        issued_ms: 0,
        lifetime_ms: 10 * HOUR_MS as u32,
    };
    let mut buf = [0; 1000];
    let len = draft
        .sign::<Ed25519>(text, &secret, &public, NETWORK, &mut buf)
        .unwrap();
    (draft.key, buf[..len].to_vec())
}

#[test]
fn a_value_that_everybody_reads_at_once_is_read_from_copies() {
    const NODES: usize = 300;
    let mut world = World::new(NODES);
    let (key, record) = value(None, b"all want this");
    world.put(17, &record);
    let (holders, gained) = (world.holders(&key), world.gained);
    assert_eq!(holders.len(), 8);
    // Without copies somebody received 364.
    for most in [300, 200] {
        let received = world.read_by_all(key, 10_000);
        let busiest = received.iter().max().unwrap();
        assert_eq!(world.values, NODES, "everybody gets it");
        assert!(*busiest < most, "{busiest}");
        assert_eq!(world.holders(&key), holders, "copies are not held");
    }
    assert_eq!(world.gained, gained, "nor told");
    world.run_ms(HOUR_MS);
    let order = world.by_distance(&key);
    for n in order {
        let holds = world.holders(&key).contains(&n);
        let shows = world.read(n, key).0.is_some();
        assert_eq!(
            shows, holds,
            "after an hour no copy is left, nor a holder more"
        );
    }
}

#[test]
fn a_copy_is_kept_the_shorter_the_more_nodes_are_between() {
    let mut world = World::new(200);
    let (key, record) = value(None, b"a copy of this");
    let order = world.by_distance(&key);
    let mut last_ms = u64::MAX;
    for (rank, least_ms, most_ms) in [
        (20, 30 * 60_000, 30 * 60_000),
        (40, 7 * 60_000, 15 * 60_000),
        (120, 0, 15 * 60_000),
    ] {
        let n = order[rank];
        let said = world.leave_copy(stranger(2), n, &record, 10 * HOUR_MS);
        assert_eq!(said, Said::Stored, "{rank}");
        let left_ms = world.read(n, key).0.unwrap();
        assert!((least_ms..=most_ms).contains(&left_ms), "{rank}: {left_ms}");
        assert!(left_ms <= last_ms, "{rank}: {left_ms}");
        last_ms = left_ms;
        assert_eq!(world.nodes[n].records().len(), 0, "not in the store");
        world.run_ms(60_000);
        // It is there already: that changes nothing.
        let said = world.leave_copy(stranger(3), n, &record, 10 * HOUR_MS);
        assert_eq!(said, Said::Stored);
        assert_eq!(world.read(n, key).0, Some(left_ms - 60_000), "{rank}");
        world.run_ms(left_ms - 60_000);
        assert_eq!(world.read(n, key).0, None, "its time is over");
    }
    // What its sender says is left counts too.
    let n = order[30];
    world.leave_copy(stranger(2), n, &record, 5_000);
    assert_eq!(world.read(n, key).0, Some(5_000));
    // One of the nearest holds it like any record.
    assert!(world.holders(&key).is_empty());
    let said = world.leave_copy(stranger(2), order[3], &record, HOUR_MS);
    assert_eq!((said, world.holders(&key)), (Said::Stored, vec![order[3]]));
}

#[test]
fn only_immutable_values_are_kept_and_only_so_many_from_one_source() {
    let mut world = World::new(100);
    let (key, record) = value(None, b"flotsam");
    let n = world.by_distance(&key)[40];
    let dropped = |world: &World, rule| world.nodes[n].dropped().of(rule);
    let (elsewhere, mutable) = value(Some(Key::from_bytes([3; 32])), b"flotsam");
    let refused = Said::Refused;
    assert_eq!(world.leave_copy(stranger(2), n, &mutable, HOUR_MS), refused);
    assert_eq!(dropped(&world, Rule::Key), 1);
    assert_eq!(world.read(n, elsewhere).0, None);
    let mut forged = record.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(world.leave_copy(stranger(2), n, &forged, HOUR_MS), refused);
    assert_eq!(dropped(&world, Rule::Signature), 1);
    assert_eq!(world.leave_copy(stranger(2), n, &record, 999), refused);
    assert_eq!(dropped(&world, Rule::Lifetime), 1);
    let body = copy_of(&record, HOUR_MS);
    let denied = |body: &Body<'_>| {
        matches!(
            body,
            Body::Denied {
                reason: Denial::Token,
                ..
            }
        )
    };
    assert!(world.ask(stranger(2), n, [1; 8], body, denied).1);
    assert_eq!(world.read(n, key).0, None);

    let mut kept = 0;
    for text in 0..60_u8 {
        let (key, record) = value(None, &[text; 3]);
        if world.by_distance(&key).iter().position(|at| *at == n) >= Some(20) {
            let said = world.leave_copy(stranger(2), n, &record, HOUR_MS);
            kept += usize::from(said == Said::Stored);
        }
    }
    assert_eq!(kept, 16);
    assert!(dropped(&world, Rule::Quota) > 0);
    assert_eq!(
        world.leave_copy(stranger(3), n, &record, HOUR_MS),
        Said::Stored,
        "others still may"
    );
    // A copy is nobody's to compare: other holders are told that it is not held.
    let digest = Digest::of::<Ed25519>(&Record::decode(&record).unwrap(), 0);
    let told = [&key.as_bytes()[..], &[1], &digest.to_bytes()].concat();
    let token = world.token(stranger(2), n);
    let have = Body::Have { told: &told };
    let holds = |body: &Body<'_>| match body {
        Body::Lacks { holds, .. } => *holds,
        other => panic!("{other:?}"),
    };
    assert_eq!(world.ask(stranger(2), n, token, have, holds).1, 0);
}

#[test]
fn what_is_asked_for_often_is_called_popular_until_it_is_not() {
    let mut world = World::new(30);
    let (key, record) = value(None, b"read me");
    world.put(3, &record);
    let n = world.holders(&key)[0];
    let other = Key::from_bytes([9; 32]);
    for _ in 0..7 {
        assert!(!world.read(n, key).1);
        assert!(!world.read(n, other).1);
    }
    assert!(world.read(n, key).1);
    assert!(!world.read(n, other).1, "there is nothing");
    world.run_ms(5_000);
    assert!(!world.read(n, key).1, "half are forgotten");
}

/// Runs until all gets and finds of node 5 ended. How many datagrams it sent, and how they ended.
fn all_of_five(
    world: &mut World,
    begin: impl FnOnce(&mut Dht<Server>, Instant),
) -> (u64, Vec<Outcome>) {
    world.run_ms(20_000);
    world.ended.clear();
    (world.values, world.contacts) = (0, 0);
    let now = world.now;
    begin(&mut world.nodes[5], now);
    let before = world.sent_by_five;
    world.drain(5);
    world.run_ms(3_000);
    (
        world.sent_by_five - before,
        std::mem::take(&mut world.ended),
    )
}

const APP: Owner = Owner::Application;

#[test]
fn gets_and_finds_of_one_key_share_a_lookup_and_each_gets_the_result() {
    let mut world = World::new(60);
    let key = Key::from_bytes([0x5a; 32]);
    world.put(40, &value(Some(key), b"shared").1);
    let get = |node: &mut Dht<Server>, now| node.get(now, key, Kinds::ALL, None, APP, WITHIN_MS);
    let mut get_once = || {
        all_of_five(&mut world, |node, now| {
            get(node, now).unwrap();
        })
    };
    // The first meets strangers.
    get_once();
    let (one, ended) = get_once();
    assert_eq!((world.values, ended.len()), (1, 1));
    let (ten, ended) = all_of_five(&mut world, |node, now| {
        for _ in 0..10 {
            get(node, now).unwrap();
        }
    });
    assert_eq!((world.values, ended.len()), (10, 10));
    assert!(ended.iter().all(|outcome| *outcome == ended[0]));
    // Some more are upkeep.
    assert!(ten <= one + 3, "{ten} instead of {one}");
    // Who asks for one author's alone, or for an immutable value, asks something else.
    let author = UserId::from_bytes([1; 32]);
    let (other, ended) = all_of_five(&mut world, |node, now| {
        get(node, now).unwrap();
        let _ = node.get(now, key, Kinds::ALL, Some(&author), APP, WITHIN_MS);
        node.get_value(now, key, WITHIN_MS).unwrap();
    });
    assert_eq!(ended.len(), 3);
    assert!(other > 2 * one, "{other}");
    let find = |node: &mut Dht<Server>, now| node.find(now, key, APP, WITHIN_MS).unwrap();
    let (one, _) = all_of_five(&mut world, |node, now| {
        find(node, now);
    });
    assert_eq!(world.contacts, 20);
    let (four, ended) = all_of_five(&mut world, |node, now| {
        for _ in 0..4 {
            find(node, now);
        }
    });
    assert_eq!((world.contacts, ended.len()), (80, 4));
    assert!(four <= one + 3, "{four} instead of {one}");
}

#[test]
fn whoever_waits_goes_on_alone_when_the_first_is_cancelled_and_ends_by_its_own_deadline() {
    let mut world = World::new(60);
    let key = Key::from_bytes([0x5a; 32]);
    world.put(40, &value(Some(key), b"shared").1);
    let get = |node: &mut Dht<Server>, now, ms| node.get(now, key, Kinds::ALL, None, APP, ms);
    let (_, ended) = all_of_five(&mut world, |node, now| {
        let first = get(node, now, WITHIN_MS).unwrap();
        let _ = get(node, now, WITHIN_MS).unwrap();
        let _ = get(node, now, WITHIN_MS).unwrap();
        node.cancel(first);
    });
    assert_eq!((world.values, ended.len()), (2, 2));
    // One has no time, and the first not enough.
    let (_, ended) = all_of_five(&mut world, |node, now| {
        get(node, now, 30).unwrap();
        get(node, now, 1).unwrap();
        get(node, now, WITHIN_MS).unwrap();
    });
    assert_eq!(ended.len(), 3);
    assert_eq!(world.values, 1, "{ended:?}");
}

#[test]
fn a_node_reads_what_it_wrote_though_an_earlier_get_is_under_way() {
    let mut world = World::new(60);
    let (key, record) = value(Some(Key::from_bytes([0x5a; 32])), b"written meanwhile");
    let (now, node) = (world.now, &mut world.nodes[5]);
    node.put(now, &record, APP, WITHIN_MS).unwrap();
    world.drain(5);
    let is_stored = |outcome: &Outcome| matches!(outcome, Outcome::Stored { .. });
    let mut under_way = 0;
    world.ended.clear();
    while !world.ended.iter().any(is_stored) {
        world.run_ms(10);
        let now = world.now;
        let get = world.nodes[5].get(now, key, Kinds::ALL, None, APP, WITHIN_MS);
        under_way = get.unwrap().query().0;
        world.drain(5);
    }
    let now = world.now;
    let get = world.nodes[5].get(now, key, Kinds::ALL, None, APP, WITHIN_MS);
    let after = get.unwrap().query().0;
    world.drain(5);
    world.run_ms(3_000);
    assert!(world.found.contains(&after), "not {under_way}'s result");
}
