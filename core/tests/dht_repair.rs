//! Repair between holders: one node, and a neighbour that is played by hand.
#![cfg(feature = "alloc")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

use std::net::SocketAddr;

use strandline_core::addr::PackedAddr;
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::dht::{Dht, Owner};
use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::plan::{Board, Plan, Server};
use strandline_core::rng::{Rng, Seed};
use strandline_core::rules::Rule;
use strandline_core::time::Instant;
use strandline_core::wire::datagram::{
    Body, DIGEST_LEN, Datagram, Denial, Digest, LOCATION_LEN, NO_TOKEN, PutOutcome, Token, Told,
};
use strandline_core::wire::record::{Draft, Kind, Kinds, Record};
use strandline_core::wire::{DATAGRAM_LEN_MAX, NetworkId, PING_LEN};

const NETWORK: NetworkId = NetworkId(*b"test");
const START: Instant = Instant::from_s(1_000);
/// The time of day at the start, Unix ms.
const UNIX_MS: u64 = 1_700_000_000_000;
const HOUR_MS: u64 = 3_600_000;
const MINUTE_MS: u64 = 60_000;

/// What the node said to its neighbour about records.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Have(Vec<u8>),
    Put {
        age_ms: u64,
        remaining_ms: u64,
        record: Vec<u8>,
    },
}

/// What the neighbour answers.
#[derive(Clone)]
enum Answer {
    Nothing,
    Lacks(u64),
    Stored,
    Full,
    Older(Vec<u8>),
    Busy,
}

/// A node, and its only neighbour.
struct Pair<P: Plan> {
    dht: Box<Dht<P>>,
    now: Instant,
    peer: NodeId,
    addr: SocketAddr,
    /// What the node gave the neighbour.
    token: Token,
    said: Vec<(Instant, Said)>,
    to_have: Answer,
    to_put: Answer,
    answers_pings: bool,
}

/// A neighbour with this id is told first, and then in every other round.
const IN_TURN: NodeId = NodeId::from_bytes([0; 32]);
/// A neighbour with this id is told in the rounds between.
const BETWEEN: NodeId = NodeId::from_bytes([0xff; 32]);

impl<P: Plan> Pair<P> {
    fn new() -> Self {
        Self::of(IN_TURN)
    }

    /// A node whose neighbour has this id.
    fn of(peer: NodeId) -> Self {
        let mut dht = Box::new(Dht::<P>::EMPTY);
        let (secret, rng) = (
            SecretKey::from_bytes([1; 32]),
            Rng::from_seed(&Seed([2; 32])),
        );
        let listen = "44.0.0.1:7827".parse().unwrap();
        dht.start(START, &secret, rng, NETWORK, listen);
        let addr = "45.0.0.1:7827".parse().unwrap();
        let mut pair = Self {
            dht,
            now: START,
            peer,
            addr,
            token: NO_TOKEN,
            said: Vec::new(),
            to_have: Answer::Lacks(0),
            to_put: Answer::Stored,
            answers_pings: true,
        };
        let ping = Body::Ping {
            leaving: false,
            challenge: None,
            pad: &[0; PING_LEN],
        };
        let _ = pair.ask(ping, |_| ());
        pair.dht
            .join(START, addr, Owner::Timeline(1), 10_000)
            .unwrap();
        pair.exchange();
        assert_eq!(pair.dht.peers().len(), 1);
        pair
    }

    fn encode(&self, transaction: [u8; 8], token: Token, body: Body<'_>) -> Vec<u8> {
        let mut buf = [0; DATAGRAM_LEN_MAX];
        let datagram = Datagram {
            transaction,
            sender: self.peer,
            token,
            body,
        };
        let len = datagram.encode(NETWORK, &mut buf).unwrap();
        buf[..len].to_vec()
    }

    /// The neighbour asks; the length of the answer and what `read` makes of it.
    fn ask<T>(&mut self, body: Body<'_>, read: impl Fn(&Body<'_>) -> T) -> (usize, T) {
        let request = self.encode([5; 8], self.token, body);
        assert!(
            self.dht
                .handle_datagram(self.now, self.addr, &request)
                .is_none()
        );
        let mut buf = [0; DATAGRAM_LEN_MAX];
        while let Some((to, len)) = self.dht.poll_send(&mut buf) {
            let datagram = Datagram::decode(&buf[..len], NETWORK).unwrap();
            if datagram.transaction == [5; 8] {
                assert_eq!(to, self.addr);
                self.token = datagram.token;
                return (len, read(&datagram.body));
            }
            self.answer(&buf[..len]);
        }
        panic!("no answer");
    }

    /// The neighbour puts a record at the node.
    fn put(&mut self, record: &[u8], age_ms: u64, remaining_ms: u64) {
        let body = Body::Put {
            depth: 0,
            spilled: false,
            age_ms,
            remaining_ms,
            record,
        };
        let stored = |body: &Body<'_>| {
            let outcome = PutOutcome::Stored;
            matches!(body, Body::Stored { outcome: is, .. } if *is == outcome)
        };
        assert!(self.ask(body, stored).1);
    }

    fn have(&mut self, told: &[u8]) -> u64 {
        self.compare(told).0
    }

    /// What the node lacks of what the neighbour tells, and what it holds.
    fn compare(&mut self, told: &[u8]) -> (u64, u64) {
        let compared = |body: &Body<'_>| match body {
            Body::Lacks { lacks, holds, .. } => (*lacks, *holds),
            other => panic!("{other:?}"),
        };
        self.ask(Body::Have { told }, compared).1
    }

    /// Answers what the node asks.
    fn answer(&mut self, request: &[u8]) {
        let datagram = Datagram::decode(request, NETWORK).unwrap();
        let observed = PackedAddr::from("44.0.0.1:7827".parse::<SocketAddr>().unwrap());
        let answer = match datagram.body {
            Body::Ping { .. } if self.answers_pings => {
                let proof = None;
                let pong =
                    self.encode(datagram.transaction, [7; 8], Body::Pong { observed, proof });
                self.dht.handle_datagram(self.now, self.addr, &pong);
                return;
            }
            Body::FindNode { .. } | Body::Get { .. } if self.answers_pings => {
                let found = Body::Found {
                    observed,
                    more: false,
                    spilled: false,
                    records: &[],
                    contacts: &[],
                };
                let found = self.encode(datagram.transaction, [7; 8], found);
                self.dht.handle_datagram(self.now, self.addr, &found);
                return;
            }
            Body::Have { told } => {
                assert_eq!(datagram.token, [7; 8]);
                self.said.push((self.now, Said::Have(told.to_vec())));
                self.to_have.clone()
            }
            Body::Put {
                age_ms,
                remaining_ms,
                record,
                ..
            } => {
                let record = record.to_vec();
                let put = Said::Put {
                    age_ms,
                    remaining_ms,
                    record,
                };
                self.said.push((self.now, put));
                self.to_put.clone()
            }
            _ => Answer::Nothing,
        };
        let stored = |outcome| Body::Stored { observed, outcome };
        let body = match &answer {
            Answer::Nothing => return,
            Answer::Lacks(lacks) => Body::Lacks {
                holds: 0,
                observed,
                lacks: *lacks,
            },
            Answer::Stored => stored(PutOutcome::Stored),
            Answer::Full => stored(PutOutcome::Full),
            Answer::Older(record) => stored(PutOutcome::Older { record }),
            Answer::Busy => Body::Denied {
                observed,
                reason: Denial::Busy,
            },
        };
        let reply = self.encode(datagram.transaction, [7; 8], body);
        self.dht.handle_datagram(self.now, self.addr, &reply);
    }

    /// Answers at once whatever the node sends, until it sends no more.
    fn exchange(&mut self) {
        let mut buf = [0; DATAGRAM_LEN_MAX];
        for _ in 0..10_000 {
            let Some((to, len)) = self.dht.poll_send(&mut buf) else {
                while self.dht.poll_done().is_some() {}
                while self.dht.poll_event(&mut buf).is_some() {}
                if self.dht.poll_send(&mut [0; 0]).is_none() {
                    return;
                }
                panic!("an event makes it speak");
            };
            assert_eq!(to, self.addr);
            let request = buf[..len].to_vec();
            self.answer(&request);
        }
        panic!("it goes on for ever");
    }

    fn run_ms(&mut self, ms: u64) {
        let end = self.now.after_ms(ms);
        while let Some(at) = self.dht.next_deadline().filter(|at| *at <= end) {
            assert!(at > self.now, "a deadline lies in the future");
            self.now = at;
            self.dht.handle_timeout(at);
            self.exchange();
        }
        self.now = end;
    }

    /// How often the node told what it holds, and the records that it put.
    fn take_said(&mut self) -> (usize, Vec<Vec<u8>>) {
        let said = std::mem::take(&mut self.said);
        let told = said
            .iter()
            .filter(|(_, said)| matches!(said, Said::Have(_)));
        let told = told.count();
        let put = said.into_iter().filter_map(|(_, said)| match said {
            Said::Put { record, .. } => Some(record),
            Said::Have(_) => None,
        });
        (told, put.collect())
    }

    fn held(&self, key: &Key) -> Vec<Vec<u8>> {
        let records = self.dht.records();
        let held = records.read(self.now, key, Kinds::ALL, 0);
        held.map(|held| held.bytes.to_vec()).collect()
    }
}

fn key(n: u8) -> Key {
    Key::from_bytes([n; 32])
}

fn value(author: u8, key: Key, sequence: u64, issued_ms: u64) -> Vec<u8> {
    let secret = SecretKey::from_bytes([author; 32]);
    let public = Ed25519::public_key(&secret);
    let draft = Draft {
        kind: Kind::Value,
        key,
        author: UserId::of_key::<Ed25519>(&public),
        subject: None,
        page: 0,
        sequence,
        issued_ms,
        lifetime_ms: u32::try_from(10 * HOUR_MS).unwrap(),
    };
    let mut buf = [0; 1000];
    let len = draft
        .sign::<Ed25519>(b"flotsam", &secret, &public, NETWORK, &mut buf)
        .unwrap();
    buf[..len].to_vec()
}

fn told(records: &[&[u8]]) -> Vec<u8> {
    let mut told = Vec::new();
    for record in records {
        let record = Record::decode(record).unwrap();
        told.extend(record.key.as_bytes());
        told.push(1);
        told.extend(Digest::of::<Ed25519>(&record, 0).to_bytes());
    }
    told
}

#[test]
fn what_is_lacking_is_named_only_to_an_address_that_is_proven() {
    let mut pair = Pair::<Server>::new();
    let record = value(3, key(1), 1, 0);
    let told = told(&[&record]);
    pair.token = [1; 8];
    let have = Body::Have { told: &told };
    let (len, denied) = pair.ask(have, |body| match body {
        Body::Denied { reason, .. } => *reason,
        other => panic!("{other:?}"),
    });
    assert_eq!(denied, Denial::Token);
    assert!(len <= pair.encode([5; 8], NO_TOKEN, have).len());
    assert_eq!(pair.dht.dropped().of(Rule::Token), 1);
    assert_eq!(pair.have(&told), 1);
}

#[test]
fn another_sequence_and_an_unknown_record_are_lacking_and_the_same_is_not() {
    let mut pair = Pair::<Server>::new();
    let held = value(3, key(1), 5, 0);
    pair.put(&held, 0, HOUR_MS);
    let (older, newer) = (value(3, key(1), 4, 0), value(3, key(1), 6, 0));
    let (other_author, elsewhere) = (value(4, key(1), 5, 0), value(3, key(2), 5, 0));
    let told = told(&[&held, &older, &newer, &other_author, &elsewhere]);
    assert_eq!(pair.compare(&told), (0b11110, 0b00001));
    let none = [key(1).as_bytes().as_slice(), &[0]].concat();
    assert_eq!(pair.have(&none), 0);
    let cut = told.len() - 1;
    assert_eq!(
        pair.have(&told[..cut]),
        0b01110,
        "a rest that is cut off is ignored"
    );
}

#[test]
fn more_than_fits_the_answer_is_ignored() {
    let mut pair = Pair::<Server>::new();
    let mut told = key(1).as_bytes().to_vec();
    told.push(80);
    told.extend([1; 80 * DIGEST_LEN]);
    told.extend(key(2).as_bytes());
    told.extend([1; 1 + DIGEST_LEN]);
    assert_eq!(pair.have(&told), u64::MAX);
}

#[test]
fn a_full_location_takes_newer_records_and_no_others() {
    let mut pair = Pair::<Board>::new();
    let places = Board::<Ed25519>::RECORDS_PER_LOCATION;
    let claims: Vec<Vec<u8>> = (0..places)
        .map(|n| value(10 + u8::try_from(n).unwrap(), key(1), 1, 0))
        .collect();
    let mut held = Vec::new();
    for claim in &claims {
        let body = Body::Put {
            depth: 0,
            spilled: false,
            age_ms: 0,
            remaining_ms: HOUR_MS,
            record: claim,
        };
        let stored = |body: &Body<'_>| {
            matches!(
                body,
                Body::Stored {
                    outcome: PutOutcome::Stored,
                    ..
                }
            )
        };
        if pair.ask(body, stored).1 {
            held.push(claim.clone());
        }
    }
    // Some places are kept for other kinds: of values there is room for this many.
    assert!(held.len() < places, "{}", held.len());
    let newer = value(10, key(1), 2, 0);
    assert_eq!(pair.have(&told(&[&held[0], &newer])), 0b10);
    let elsewhere = told(&[&claims[held.len()]]);
    assert_eq!(pair.compare(&elsewhere).1, 0, "not held, if not welcome");
    let mut all: Vec<&[u8]> = held.iter().map(Vec::as_slice).collect();
    all.push(&claims[held.len()]);
    assert_eq!(
        pair.have(&told(&all)),
        1 << held.len(),
        "whether a place of its kind is free only a put shows"
    );
}

#[test]
fn a_neighbour_is_told_in_every_other_round_and_gets_what_it_lacks_once() {
    let mut pair = Pair::<Server>::new();
    pair.dht.set_clock(START, UNIX_MS, 10);
    let records = [
        value(3, key(1), 1, UNIX_MS),
        value(4, key(1), 1, UNIX_MS),
        value(3, key(2), 1, UNIX_MS),
    ];
    for record in &records {
        pair.put(record, 5_000, 3 * HOUR_MS);
    }
    pair.run_ms(100 * MINUTE_MS);
    // The round before the first was not: ten to fifteen minutes each.
    let mut last = START.after_ms(12 * MINUTE_MS + MINUTE_MS / 2);
    last = Instant::from_ms(last.as_ms() - 25 * MINUTE_MS);
    for (at, said) in &pair.said {
        let Said::Have(bytes) = said else {
            panic!("{said:?}");
        };
        let pause_ms = at.since_ms(last);
        assert!((1_200_000..=1_810_000).contains(&pause_ms), "{pause_ms}");
        last = *at;
        let told: Vec<_> = Told::iter(bytes).collect();
        assert_eq!(told.len(), 2, "grouped by location");
        assert_eq!(bytes.len(), 2 * LOCATION_LEN + 3 * DIGEST_LEN);
        assert_eq!(told[0].digests.len(), 2 * DIGEST_LEN);
    }
    let (rounds, put) = pair.take_said();
    assert!((3..=5).contains(&rounds), "{rounds}");
    assert!(put.is_empty());

    pair.to_have = Answer::Lacks(0b101);
    pair.run_ms(31 * MINUTE_MS);
    let lifetimes: Vec<_> = pair
        .said
        .iter()
        .filter_map(|(at, said)| match said {
            Said::Put {
                age_ms,
                remaining_ms,
                ..
            } => Some((at.since_ms(START), *age_ms, *remaining_ms)),
            Said::Have(_) => None,
        })
        .collect();
    for (passed_ms, age_ms, remaining_ms) in lifetimes {
        assert!(
            age_ms >= 5_000 + passed_ms - 1,
            "{age_ms} after {passed_ms}"
        );
        assert!(
            remaining_ms <= 3 * HOUR_MS - passed_ms,
            "{remaining_ms} after {passed_ms}"
        );
    }
    let (rounds, put) = pair.take_said();
    assert_eq!(put.len(), 2 * rounds);
    assert_eq!(put[..2], [records[0].clone(), records[2].clone()]);
}

#[test]
fn of_two_holders_one_tells_the_other_in_a_round() {
    let told = |peer| {
        let mut pair = Pair::<Server>::of(peer);
        pair.dht.set_clock(START, UNIX_MS, 10);
        pair.put(&value(3, key(1), 1, UNIX_MS), 0, 9 * HOUR_MS);
        pair.run_ms(8 * HOUR_MS);
        let said = pair.said.iter().map(|(at, _)| at.since_ms(START));
        said.collect::<Vec<_>>()
    };
    let (lower, higher) = (told(IN_TURN), told(BETWEEN));
    assert!(lower[0] < 16 * MINUTE_MS && higher[0] > 19 * MINUTE_MS);
    let rounds = 8 * HOUR_MS / (12 * MINUTE_MS + MINUTE_MS / 2);
    for told in [&lower, &higher] {
        assert!(told.len().abs_diff(rounds as usize / 2) <= 3, "{told:?}");
    }
}

#[test]
fn a_neighbour_that_asks_for_everything_gets_what_it_was_told_once_a_round() {
    let mut pair = Pair::<Server>::new();
    pair.dht.set_clock(START, UNIX_MS, 10);
    pair.put(&value(3, key(1), 1, UNIX_MS), 0, 3 * HOUR_MS);
    pair.to_have = Answer::Lacks(u64::MAX);
    for outcome in [Answer::Stored, Answer::Full, Answer::Busy, Answer::Stored] {
        pair.to_put = outcome;
        pair.run_ms(25 * MINUTE_MS);
    }
    let (rounds, put) = pair.take_said();
    assert!((3..=5).contains(&rounds), "{rounds}");
    assert_eq!(put.len(), rounds);
}

#[test]
fn a_neighbour_without_room_is_not_pressed() {
    let mut pair = Pair::<Server>::new();
    pair.dht.set_clock(START, UNIX_MS, 10);
    for n in 0..20 {
        pair.put(&value(20 + n, key(n % 2), 1, UNIX_MS), 0, 9 * HOUR_MS);
    }
    pair.to_have = Answer::Lacks(u64::MAX);
    for (answer, most) in [(Answer::Busy, 2), (Answer::Full, 4), (Answer::Stored, 20)] {
        pair.take_said();
        pair.to_put = answer;
        while !pair
            .said
            .iter()
            .any(|(_, said)| matches!(said, Said::Have(_)))
        {
            pair.run_ms(1_000);
        }
        pair.run_ms(5_000);
        let (rounds, put) = pair.take_said();
        assert_eq!(rounds, 1);
        assert!(put.len() <= most, "{} of {most}", put.len());
    }
}

#[test]
fn all_records_of_a_large_store_are_told_and_put() {
    let mut pair = Pair::<Server>::new();
    let mut all: Vec<Vec<u8>> = (0..200).map(|n| value(3, key(n), 1, 0)).collect();
    for record in &all {
        pair.put(record, 0, HOUR_MS);
    }
    pair.to_have = Answer::Lacks(u64::MAX);
    pair.run_ms(15 * MINUTE_MS);
    let (told, mut put) = pair.take_said();
    assert!(told >= 200 / 26, "{told} datagrams");
    put.sort();
    put.dedup();
    all.sort();
    assert_eq!(put, all);
}

#[test]
fn a_newer_record_that_a_neighbour_shows_is_taken_if_the_clock_tells_its_end() {
    for clock in [true, false] {
        let mut pair = Pair::<Server>::new();
        if clock {
            pair.dht.set_clock(pair.now, UNIX_MS, 10);
        }
        let issued_ms = UNIX_MS - HOUR_MS;
        let (old, new) = (
            value(3, key(1), 1, issued_ms),
            value(3, key(1), 2, issued_ms + 1_000),
        );
        pair.put(&old, 0, HOUR_MS);
        pair.to_have = Answer::Lacks(1);
        pair.to_put = Answer::Older(new.clone());
        pair.run_ms(15 * MINUTE_MS);
        let wanted = if clock { new } else { old };
        assert_eq!(pair.held(&key(1)), [wanted]);
        let records = pair.dht.records();
        let held = records
            .read(pair.now, &key(1), Kinds::ALL, 0)
            .next()
            .unwrap();
        assert!(held.remaining_ms <= 9 * HOUR_MS);
    }
}

#[test]
fn what_is_not_newer_or_another_record_or_forged_is_not_taken() {
    let issued_ms = UNIX_MS - HOUR_MS;
    let mut forged = value(3, key(1), 9, issued_ms);
    *forged.last_mut().unwrap() ^= 1;
    let wrong = [
        value(3, key(1), 1, issued_ms + 1),
        value(3, key(2), 9, issued_ms),
        value(4, key(1), 9, issued_ms),
        forged,
        vec![1, 2, 3],
    ];
    for theirs in wrong {
        let mut pair = Pair::<Server>::new();
        pair.dht.set_clock(pair.now, UNIX_MS, 10);
        let own = value(3, key(1), 1, issued_ms);
        pair.put(&own, 0, HOUR_MS);
        pair.to_have = Answer::Lacks(1);
        pair.to_put = Answer::Older(theirs);
        pair.run_ms(15 * MINUTE_MS);
        assert_eq!(pair.dht.records().len(), 1);
        assert_eq!(pair.held(&key(1)), [own]);
        let dropped = pair.dht.dropped();
        let rules = [Rule::Older, Rule::Signature, Rule::Malformed];
        assert!(rules.iter().any(|rule| dropped.of(*rule) > 0));
    }
}

#[test]
fn what_will_soon_expire_is_not_told() {
    let mut pair = Pair::<Server>::new();
    // Less than a minute of it is left in the first round.
    pair.put(&value(3, key(1), 1, 0), 0, 10 * MINUTE_MS + MINUTE_MS / 2);
    pair.run_ms(15 * MINUTE_MS);
    assert_eq!(pair.take_said(), (0, Vec::new()));
}

#[test]
fn a_neighbour_that_does_not_answer_is_asked_once_and_forgotten() {
    let mut pair = Pair::<Server>::new();
    pair.put(&value(3, key(1), 1, 0), 0, HOUR_MS);
    (pair.to_have, pair.answers_pings) = (Answer::Nothing, false);
    pair.run_ms(HOUR_MS / 2);
    assert!(pair.dht.peers().is_empty());
    let (told, put) = pair.take_said();
    assert!(told <= 2, "{told}: a request, and its repetition");
    assert!(put.is_empty());
}
