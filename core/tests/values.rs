//! Values whose key is their hash, and values that are compared and swapped: whole nodes and bare ones, on a network in
//! memory that loses nothing and takes no time.
#![cfg(feature = "alloc")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;

use strandline_core::config::{Config, Identity};
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::dht::{Dht, Owner};
use strandline_core::drive::{Handler, Transport, drain};
use strandline_core::id::{Key, UserId};
use strandline_core::name::Name;
use strandline_core::node::Node;
use strandline_core::output::{
    CommandError, Event, Outcome, PersistId, QueryId, Restored, Stored, StreamId,
};
use strandline_core::plan::Server;
use strandline_core::rng::Seed;
use strandline_core::rules::Rule;
use strandline_core::time::Instant;
use strandline_core::wire::record::{Draft, Kind, Kinds};
use strandline_core::wire::{NetworkId, PAYLOAD_LEN_MAX};

const NETWORK: NetworkId = NetworkId(*b"test");
const WITHIN_MS: u32 = 10_000;
const TTL_S: u32 = 600;

/// Some whole nodes and what their applications heard.
struct Net {
    now: Instant,
    nodes: Vec<Node<Server>>,
    flying: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
}

/// What one drain brought.
#[derive(Default)]
struct Turn {
    sent: Vec<(SocketAddr, Vec<u8>)>,
    persisted: Vec<PersistId>,
    closed: Vec<StreamId>,
}

/// What the application of one node heard.
#[derive(Default)]
struct Heard {
    values: Vec<(u64, Vec<u8>)>,
    outcomes: Vec<(QueryId, Outcome)>,
}

impl Transport for Turn {
    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.sent.push((to, bytes.to_vec()));
    }
    fn open(&mut self, stream: StreamId, _to: SocketAddr) {
        self.closed.push(stream);
    }
    fn write(&mut self, _stream: StreamId, _bytes: &[u8]) {}
    fn close(&mut self, _stream: StreamId) {}
    fn persist(&mut self, id: PersistId, _item: Stored<'_>) {
        self.persisted.push(id);
    }
}

impl Handler for Heard {
    fn on_event(&mut self, event: Event<'_>) {
        if let Event::Value {
            sequence, bytes, ..
        } = event
        {
            self.values.push((sequence, bytes.to_vec()));
        } else if let Event::QueryDone { query, outcome } = event {
            self.outcomes.push((query, outcome));
        }
    }
}

fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, u8::try_from(n).unwrap(), 1], 7827))
}

impl Net {
    /// So many nodes; those of the users in `twins` have the same user.
    fn of(count: usize, twins: &[usize]) -> Self {
        let mut net = Self {
            now: Instant::from_s(1),
            nodes: Vec::new(),
            flying: VecDeque::new(),
        };
        for n in 0..count {
            let byte = u8::try_from(n).unwrap() + 1;
            let user = if twins.contains(&n) { 99 } else { byte + 100 };
            let identity = Identity {
                user: SecretKey::from_bytes([user; 32]),
                node: SecretKey::from_bytes([byte; 32]),
                name: Name::parse("ann").unwrap(),
            };
            let mut node = Node::unstarted();
            let config = Config::new(NETWORK, addr(n));
            node.start(net.now, identity, &Seed([byte; 32]), &config)
                .unwrap();
            node.restored_all(net.now, Restored::Fresh).unwrap();
            net.nodes.push(node);
            if n > 0 {
                let join = net.nodes[n].join(net.now, addr(0), WITHIN_MS).unwrap();
                net.outcome(n, join);
            }
        }
        net
    }

    fn outcome(&mut self, n: usize, query: QueryId) -> (Vec<(u64, Vec<u8>)>, Outcome) {
        let (values, outcomes) = self.outcomes(&[(n, query)]);
        (values, outcomes[0])
    }

    /// Runs until all of these have ended: the values that the first node found, and how each ended.
    fn outcomes(&mut self, waited: &[(usize, QueryId)]) -> (Vec<(u64, Vec<u8>)>, Vec<Outcome>) {
        let mut heard: Vec<Heard> = (0..self.nodes.len()).map(|_| Heard::default()).collect();
        for _ in 0..100_000 {
            for (at, node) in self.nodes.iter_mut().enumerate() {
                let mut turn = Turn::default();
                drain(node, &mut turn, &mut heard[at]);
                let sent = turn.sent.into_iter();
                self.flying
                    .extend(sent.map(|(to, bytes)| (addr(at), to, bytes)));
                for id in turn.persisted {
                    node.persisted(self.now, id);
                }
                for stream in turn.closed {
                    node.stream_closed(self.now, stream);
                }
            }
            let ended = waited.iter().filter_map(|(n, query)| {
                let mut all = heard[*n].outcomes.iter();
                all.find(|(ended, _)| ended == query)
                    .map(|(_, outcome)| *outcome)
            });
            let outcomes: Vec<Outcome> = ended.collect();
            if outcomes.len() == waited.len() {
                return (std::mem::take(&mut heard[waited[0].0].values), outcomes);
            }
            if let Some((from, to, bytes)) = self.flying.pop_front() {
                if let Some(to) = (0..self.nodes.len()).find(|&n| addr(n) == to) {
                    self.nodes[to].handle_datagram(self.now, from, &bytes);
                }
            } else {
                self.now = self.now.after_ms(10);
                for node in &mut self.nodes {
                    node.handle_timeout(self.now);
                }
            }
        }
        panic!("every command ends");
    }

    fn put_if(&mut self, n: usize, key: Key, value: &[u8], seen: u64) -> Outcome {
        let begun = self.nodes[n].put_if(self.now, key, value, seen, TTL_S, WITHIN_MS);
        self.outcome(n, begun.unwrap()).1
    }

    fn get(&mut self, n: usize, key: Key) -> Vec<(u64, Vec<u8>)> {
        let begun = self.nodes[n].get(self.now, key, WITHIN_MS).unwrap();
        self.outcome(n, begun).0
    }

    fn get_value(&mut self, n: usize, key: Key) -> (Vec<Vec<u8>>, Outcome) {
        let begun = self.nodes[n].get_value(self.now, key, WITHIN_MS).unwrap();
        let (values, outcome) = self.outcome(n, begun);
        (
            values.into_iter().map(|(_, value)| value).collect(),
            outcome,
        )
    }
}

fn is_stored(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Stored { accepted, wanted } if accepted >= wanted)
}

const ONE: Outcome = Outcome::Found {
    count: 1,
    complete: true,
};

#[test]
fn an_immutable_value_is_found_by_its_hash_and_nothing_else_is() {
    let mut net = Net::of(8, &[]);
    let value = b"what the tide left";
    // Somebody else was there first.
    let key = Key::of_value::<Ed25519>(value);
    for n in 4..7 {
        let put = net.nodes[n].put(net.now, key, b"junk", TTL_S, WITHIN_MS);
        assert!(is_stored(net.outcome(n, put.unwrap()).1));
    }
    assert_eq!(net.get_value(2, key), (vec![], Outcome::NotFound));
    for n in 0..2 {
        let put = net.nodes[n].put_value(net.now, value, TTL_S, WITHIN_MS);
        let (told, query) = put.unwrap();
        assert_eq!(told, key);
        assert!(is_stored(net.outcome(n, query).1));
    }
    for n in 0..8 {
        assert_eq!(net.get_value(n, key), (vec![value.to_vec()], ONE));
        assert_eq!(net.get(n, key).len(), 5, "every author's, without the hash");
    }
    let long = [1; PAYLOAD_LEN_MAX + 1];
    assert_eq!(
        net.nodes[0].put_value(net.now, &long, TTL_S, WITHIN_MS),
        Err(CommandError::ValueTooLong)
    );
}

#[test]
fn a_lone_node_reads_its_own_immutable_value_at_once() {
    let mut net = Net::of(1, &[]);
    let put = net.nodes[0].put_value(net.now, b"", TTL_S, WITHIN_MS);
    let (key, query) = put.unwrap();
    assert!(is_stored(net.outcome(0, query).1));
    assert_eq!(net.get_value(0, key), (vec![vec![]], ONE));
    let other = Key::of_value::<Ed25519>(b"other");
    assert_eq!(net.get_value(0, other), (vec![], Outcome::NotFound));
}

#[test]
fn a_swap_follows_what_was_seen_and_a_conflict_tells_the_sequence() {
    // Two devices of one user.
    let mut net = Net::of(8, &[1, 6]);
    let key = Key::of_text::<Ed25519>("counter");
    assert!(is_stored(net.put_if(1, key, b"one", 0)));
    assert_eq!(net.get(6, key), [(1, b"one".to_vec())]);
    // The other did not look.
    assert_eq!(
        net.put_if(6, key, b"uno", 0),
        Outcome::Older { sequence: 1 }
    );
    assert!(is_stored(net.put_if(6, key, b"two", 1)));
    assert_eq!(
        net.put_if(1, key, b"dos", 1),
        Outcome::Older { sequence: 2 }
    );
    assert!(is_stored(net.put_if(1, key, b"three", 2)));
    for n in 0..8 {
        assert_eq!(net.get(n, key), [(3, b"three".to_vec())]);
    }
    let over = net.nodes[1].put_if(net.now, key, b"", u64::MAX, TTL_S, WITHIN_MS);
    assert_eq!(over, Err(CommandError::Full));
}

#[test]
fn of_two_swaps_at_once_one_succeeds_at_most() {
    let mut net = Net::of(10, &[2, 7]);
    for round in 0..12_u8 {
        let key = Key::from_bytes([round * 21; 32]);
        let queries = [2, 7].map(|n: usize| {
            let value = [u8::try_from(n).unwrap()];
            let begun = net.nodes[n].put_if(net.now, key, &value, 0, TTL_S, WITHIN_MS);
            (n, begun.unwrap())
        });
        let (_, outcomes) = net.outcomes(&queries);
        let stored = outcomes.iter().filter(|outcome| is_stored(**outcome));
        assert!(stored.count() <= 1, "{outcomes:?}");
        for outcome in outcomes {
            assert!(
                is_stored(outcome) || outcome == Outcome::Older { sequence: 1 },
                "{outcome:?}"
            );
        }
        assert!(is_stored(net.put_if(2, key, b"next", 1)), "and it goes on");
    }
}

/// What an author without a timeline signs.
fn signed(author: u8, key: Key, sequence: u64, value: &[u8]) -> Vec<u8> {
    let secret = SecretKey::from_bytes([author; 32]);
    let public = Ed25519::public_key(&secret);
    let draft = Draft {
        kind: Kind::Value,
        key,
        author: UserId::of_key::<Ed25519>(&public),
        subject: None,
        page: 0,
        sequence,
        issued_ms: 0,
        lifetime_ms: 60_000,
    };
    let mut buf = [0; 1_000];
    let len = draft.sign::<Ed25519>(value, &secret, &public, NETWORK, &mut buf);
    buf[..len.unwrap()].to_vec()
}

#[test]
fn a_bare_node_refuses_what_does_not_hash_to_the_key_of_its_get() {
    let mut dht = Box::new(Dht::<Server>::EMPTY);
    let rng = strandline_core::rng::Rng::from_seed(&Seed([1; 32]));
    let now = Instant::from_s(1);
    dht.start(now, &SecretKey::from_bytes([1; 32]), rng, NETWORK, addr(0));
    let key = Key::of_value::<Ed25519>(b"true");
    let mut buf = [0; 1_280];
    let mut end = |dht: &mut Dht<Server>| loop {
        match dht.poll_event(&mut buf) {
            Some(Event::QueryDone { outcome, .. }) => return outcome,
            Some(_) => {}
            None => panic!("a lone node ends at once"),
        }
    };
    let own = Owner::Application;
    for (author, sequence, value, outcome) in [
        (1, 1, b"true", true),
        // A holder does not let what hashes to its key go for what does not.
        (1, 2, b"fals", false),
        (2, 1, b"fals", true),
        (2, 1, b"true", false),
        (2, 2, b"true", true),
    ] {
        let record = signed(author, key, sequence, value);
        dht.replace(now, &record, own, WITHIN_MS).unwrap();
        let ended = end(&mut dht);
        assert_eq!(is_stored(ended), outcome, "{ended:?}");
    }
    // The same bytes again are no conflict.
    let same = signed(2, key, 2, b"true");
    dht.replace(now, &same, own, WITHIN_MS).unwrap();
    assert!(is_stored(end(&mut dht)));
    dht.get(now, key, Kinds::ALL, None, own, WITHIN_MS).unwrap();
    assert!(matches!(end(&mut dht), Outcome::Found { count: 2, .. }));
    dht.get_value(now, key, WITHIN_MS).unwrap();
    assert_eq!(end(&mut dht), ONE);
    assert_eq!(dht.dropped().of(Rule::Signature), 0);
}
