//! The distributed hash table among those who do not keep the rules: one node, and datagrams made by hand.
#![cfg(feature = "alloc")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::prelude::*;
use strandline_core::addr::PackedAddr;
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::dht::{Dht, OpResult, Owner};
use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::plan::{Board, Plan, Server};
use strandline_core::rng::{Rng, Seed};
use strandline_core::rules::Rule;
use strandline_core::time::Instant;
use strandline_core::wire::datagram::{
    Body, Contact, Datagram, Denial, NO_TOKEN, PutOutcome, Token, Transaction,
};
use strandline_core::wire::record::{Copy as RecordCopy, Draft, Kind, Kinds};
use strandline_core::wire::{DATAGRAM_LEN_MAX, NetworkId, PING_LEN};

const NETWORK: NetworkId = NetworkId(*b"test");
const NOW: Instant = Instant::from_s(1_000);
const WITHIN_MS: u32 = 10_000;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn public_node<P: Plan>() -> Dht<P> {
    node::<P>("44.0.0.1:7827")
}

fn node<P: Plan>(listen: &str) -> Dht<P> {
    let mut dht = Dht::<P>::EMPTY;
    let secret = SecretKey::from_bytes([1; 32]);
    dht.start(
        NOW,
        &secret,
        Rng::from_seed(&Seed([2; 32])),
        NETWORK,
        addr(listen),
    );
    dht
}

fn encode(sender: NodeId, transaction: Transaction, token: Token, body: Body<'_>) -> Vec<u8> {
    let mut buf = [0; DATAGRAM_LEN_MAX];
    let datagram = Datagram {
        transaction,
        sender,
        token,
        body,
    };
    let len = datagram.encode(NETWORK, &mut buf).unwrap();
    buf[..len].to_vec()
}

/// Everything that the node wants to send now.
fn sent<P: Plan>(dht: &mut Dht<P>) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut buf = [0; DATAGRAM_LEN_MAX];
    let mut all = Vec::new();
    while let Some((to, len)) = dht.poll_send(&mut buf) {
        all.push((to, buf[..len].to_vec()));
    }
    all
}

fn decode(bytes: &[u8]) -> Datagram<'_> {
    Datagram::decode(bytes, NETWORK).unwrap()
}

fn observed(at: SocketAddr) -> PackedAddr {
    PackedAddr::from(at)
}

/// A peer that the tests play.
struct Peer {
    id: NodeId,
    addr: SocketAddr,
    /// What the node under test gave it.
    token: Token,
}

impl Peer {
    fn new(n: u8, at: &str) -> Self {
        Self {
            id: id(n),
            addr: addr(at),
            token: NO_TOKEN,
        }
    }

    /// Sends a request and returns the answer's body as `read` sees it, and what else was sent.
    fn ask<P: Plan, T>(
        &mut self,
        dht: &mut Dht<P>,
        now: Instant,
        body: Body<'_>,
        read: impl Fn(&Body<'_>) -> T,
    ) -> (Option<T>, Vec<(SocketAddr, Vec<u8>)>) {
        let bytes = encode(self.id, [9; 8], self.token, body);
        assert!(dht.handle_datagram(now, self.addr, &bytes).is_none());
        let mut rest = sent(dht);
        let at = rest
            .iter()
            .position(|(to, bytes)| *to == self.addr && decode(bytes).transaction == [9; 8]);
        let answer = at.map(|at| rest.remove(at)).map(|(_, bytes)| {
            let datagram = decode(&bytes);
            assert_eq!(datagram.body.observed(), Some(observed(self.addr)));
            self.token = datagram.token;
            read(&datagram.body)
        });
        (answer, rest)
    }

    fn reply<P: Plan>(&self, dht: &mut Dht<P>, now: Instant, request: &[u8], body: Body<'_>) {
        let transaction = decode(request).transaction;
        let bytes = encode(self.id, transaction, [7; 8], body);
        assert!(dht.handle_datagram(now, self.addr, &bytes).is_none());
    }

    fn pong<P: Plan>(&self, dht: &mut Dht<P>, now: Instant, request: &[u8]) {
        let body = Body::Pong {
            observed: observed(addr("44.0.0.1:7827")),
            proof: None,
        };
        self.reply(dht, now, request, body);
    }

    fn found<P: Plan>(&self, dht: &mut Dht<P>, now: Instant, request: &[u8], named: &[Contact]) {
        let contacts: Vec<u8> = named
            .iter()
            .flat_map(|contact| contact.to_bytes())
            .collect();
        self.reply(dht, now, request, found(&[], &contacts, false));
    }
}

fn found<'a>(records: &'a [u8], contacts: &'a [u8], more: bool) -> Body<'a> {
    let observed = observed(addr("44.0.0.1:7827"));
    Body::Found {
        observed,
        more,
        spilled: false,
        records,
        contacts,
    }
}

/// Lets the node join through a peer that names `named` to each question. Returns the datagrams to others.
fn join_through<P: Plan>(
    dht: &mut Dht<P>,
    peer: &Peer,
    named: &[Contact],
) -> Vec<(SocketAddr, Vec<u8>)> {
    dht.join(NOW, peer.addr, Owner::Timeline(1), WITHIN_MS)
        .unwrap();
    let mut others = Vec::new();
    for _ in 0..1_000 {
        let all = sent(dht);
        if all.is_empty() {
            return others;
        }
        for (to, bytes) in all {
            if to != peer.addr {
                others.push((to, bytes));
                continue;
            }
            match decode(&bytes).body {
                Body::Ping { .. } => peer.pong(dht, NOW, &bytes),
                Body::FindNode { .. } => peer.found(dht, NOW, &bytes, named),
                other => panic!("{other:?}"),
            }
        }
    }
    panic!("it goes on for ever");
}

fn contact(n: u8, at: &str) -> Contact {
    Contact {
        id: id(n),
        addr: PackedAddr::from(addr(at)),
    }
}

#[test]
fn without_a_token_there_is_a_pong_or_a_refusal_and_with_it_an_answer() {
    let mut dht = public_node::<Server>();
    let mut peer = Peer::new(5, "198.18.0.1:1000");
    let target = Key::from_bytes([3; 32]);
    let ask = Body::FindNode { target };
    let denied = |body: &Body<'_>| {
        matches!(
            body,
            Body::Denied {
                reason: Denial::Token,
                ..
            }
        )
    };
    let (answer, rest) = peer.ask(&mut dht, NOW, ask, denied);
    assert_eq!((answer, rest.len()), (Some(true), 0));
    assert_eq!(dht.dropped().of(Rule::Token), 1);
    // The refusal brought a token; whoever shows it is worth a ping.
    let is_found = |body: &Body<'_>| matches!(body, Body::Found { .. });
    let (answer, rest) = peer.ask(&mut dht, NOW, ask, is_found);
    assert_eq!((answer, rest.len()), (Some(true), 1));
    assert!(rest[0].1.len() == PING_LEN && rest[0].0 == peer.addr);
    assert!(dht.peers().is_empty(), "it has not answered a ping");
    peer.pong(&mut dht, NOW, &rest[0].1);
    assert_eq!(dht.peers().len(), 1);
    // An hour later it is good for one hour more; then it is not.
    let token = peer.token;
    let later = NOW.after_s(2 * 3_600);
    let (answer, _) = peer.ask(&mut dht, later, ask, denied);
    assert_eq!(answer, Some(true));
    assert_ne!(peer.token, token);
    // Somebody else's is not good.
    let mut thief = Peer {
        token: peer.token,
        ..Peer::new(6, "198.18.0.2:1000")
    };
    assert_eq!(thief.ask(&mut dht, later, ask, denied).0, Some(true));
}

#[test]
fn nothing_is_held_or_delivered_for_an_address_that_is_not_proven() {
    let mut dht = public_node::<Server>();
    let mut peer = Peer::new(5, "198.18.0.1:1000");
    let record = value(1, b"x");
    let put = Body::Put {
        depth: 0,
        spilled: false,
        age_ms: 0,
        remaining_ms: 60_000,
        record: &record,
    };
    let send = Body::Send {
        key: Some(Key::from_bytes([1; 32])),
        bytes: b"psst",
    };
    let denied = |body: &Body<'_>| {
        matches!(
            body,
            Body::Denied {
                reason: Denial::Token,
                ..
            }
        )
    };
    assert_eq!(peer.ask(&mut dht, NOW, put, denied).0, Some(true));
    assert!(dht.records().is_empty());
    let stored = |body: &Body<'_>| {
        matches!(
            body,
            Body::Stored {
                outcome: PutOutcome::Stored,
                ..
            }
        )
    };
    assert_eq!(peer.ask(&mut dht, NOW, put, stored).0, Some(true));
    assert_eq!(dht.records().len(), 1);
    peer.token = NO_TOKEN;
    assert_eq!(peer.ask(&mut dht, NOW, send, denied).0, Some(true));
    let accepted = |body: &Body<'_>| matches!(body, Body::Delivered { accepted: true, .. });
    // The same request twice is one message, and the reply waits until it was polled.
    assert_eq!(peer.ask(&mut dht, NOW, send, accepted).0, None);
    assert_eq!(peer.ask(&mut dht, NOW, send, accepted).0, None);
    let mut messages = 0;
    let mut buf = [0; 1_280];
    while let Some(event) = dht.poll_event(&mut buf) {
        messages += u32::from(matches!(event, strandline_core::output::Event::Message(_)));
    }
    assert_eq!(messages, 1);
    assert_eq!(peer.ask(&mut dht, NOW, send, accepted).0, Some(true));
    assert!(dht.poll_event(&mut buf).is_none(), "it is not told again");
}

#[test]
fn a_forged_record_is_refused_and_counted() {
    let mut dht = public_node::<Server>();
    let mut peer = Peer::new(5, "198.18.0.1:1000");
    let mut record = value(1, b"x");
    *record.last_mut().unwrap() ^= 1;
    let put = Body::Put {
        depth: 0,
        spilled: false,
        age_ms: 0,
        remaining_ms: 60_000,
        record: &record,
    };
    let _ = peer.ask(&mut dht, NOW, put, |_| ());
    let refused = |body: &Body<'_>| {
        matches!(
            body,
            Body::Stored {
                outcome: PutOutcome::Refused,
                ..
            }
        )
    };
    assert_eq!(peer.ask(&mut dht, NOW, put, refused).0, Some(true));
    let put = Body::Put {
        depth: 0,
        spilled: false,
        age_ms: 0,
        remaining_ms: 60_000,
        record: &[1; 80],
    };
    assert_eq!(peer.ask(&mut dht, NOW, put, refused).0, Some(true));
    assert_eq!(dht.dropped().of(Rule::Signature), 1);
    assert_eq!(dht.dropped().of(Rule::Malformed), 1);
    assert!(dht.records().is_empty());
}

#[test]
fn replies_that_nobody_asked_for_change_nothing() {
    let mut dht = public_node::<Server>();
    let peer = Peer::new(5, "198.18.0.1:1000");
    let victim = contact(9, "203.0.113.9:53").to_bytes();
    for body in [
        Body::Pong {
            observed: observed(peer.addr),
            proof: None,
        },
        found(&[], &victim, false),
        Body::Stored {
            observed: observed(peer.addr),
            outcome: PutOutcome::Stored,
        },
        Body::Denied {
            observed: observed(peer.addr),
            reason: Denial::Token,
        },
    ] {
        let bytes = encode(peer.id, [4; 8], [5; 8], body);
        assert!(dht.handle_datagram(NOW, peer.addr, &bytes).is_none());
    }
    assert_eq!(dht.dropped().of(Rule::Unsolicited), 4);
    assert_eq!(
        (sent(&mut dht).len(), dht.peers().len(), dht.observed()),
        (0, 0, None)
    );
}

#[test]
fn an_answer_from_elsewhere_or_under_another_id_does_not_count() {
    let mut dht = public_node::<Server>();
    let peer = Peer::new(5, "198.18.0.1:1000");
    let named = [contact(7, "198.18.1.1:1000")];
    let others = join_through(&mut dht, &peer, &named);
    let [(to, ping)] = &others[..] else {
        panic!("{others:?}")
    };
    // The right transaction from another address.
    Peer::new(7, "198.18.2.2:1000").pong(&mut dht, NOW, ping);
    assert_eq!(dht.dropped().of(Rule::WrongSender), 1);
    assert_eq!(dht.peers().len(), 1);
    // From the right address, but somebody else lives there: it is asked nothing as the one named.
    Peer {
        addr: *to,
        ..Peer::new(8, "0.0.0.0:1")
    }
    .pong(&mut dht, NOW, ping);
    assert_eq!(dht.dropped().of(Rule::WrongSender), 2);
    assert!(dht.peers().iter().all(|entry| entry.contact.id != id(7)));
    assert!(matches!(
        dht.poll_done().unwrap().result,
        OpResult::Joined { .. }
    ));
}

#[test]
fn own_datagrams_that_come_back_are_dropped() {
    let mut dht = public_node::<Server>();
    let body = Body::FindNode {
        target: Key::from_bytes([3; 32]),
    };
    let bytes = encode(dht.id(), [4; 8], NO_TOKEN, body);
    assert!(
        dht.handle_datagram(NOW, addr("198.18.0.1:9"), &bytes)
            .is_none()
    );
    assert_eq!(
        (dht.dropped().of(Rule::OwnId), sent(&mut dht).len()),
        (1, 0)
    );
}

#[test]
fn impossible_contacts_are_not_pinged_and_counted() {
    let mut dht = public_node::<Server>();
    let own = dht.id();
    let peer = Peer::new(5, "198.18.0.1:1000");
    let named = [
        Contact {
            id: own,
            ..contact(1, "198.18.0.9:1")
        },
        contact(10, "44.0.0.1:7827"),
        contact(11, "224.0.0.1:7827"),
        contact(12, "255.255.255.255:7827"),
        contact(13, "198.18.0.10:0"),
        contact(14, "0.0.0.0:7827"),
        contact(15, "[ff02::1]:7827"),
        contact(16, "127.0.0.1:7827"),
        contact(17, "192.168.1.1:7827"),
        Contact {
            id: id(18),
            addr: PackedAddr::NONE,
        },
    ];
    let others = join_through(&mut dht, &peer, &named);
    assert_eq!(others.len(), 0, "{others:?}");
    assert_eq!(dht.dropped().of(Rule::BadContact), 10);
    assert_eq!(
        dht.poll_done().unwrap().result,
        OpResult::Joined { contacts: 1 }
    );
}

#[test]
fn a_node_on_a_private_network_welcomes_its_like_and_counts_no_subnets() {
    let mut dht = node::<Server>("192.168.1.1:7827");
    let peer = Peer::new(5, "192.168.1.5:7827");
    let named: Vec<_> = (20..30)
        .map(|n| contact(n, &format!("192.168.1.{n}:7827")))
        .collect();
    let others = join_through(&mut dht, &peer, &named);
    assert!(others.len() >= 8, "{}", others.len());
}

#[test]
fn a_reply_that_names_victims_does_not_make_the_node_shout() {
    let mut dht = public_node::<Server>();
    let peer = Peer::new(5, "198.18.0.1:1000");
    let one_network: Vec<_> = (0..20)
        .map(|n| contact(20 + n, &format!("203.0.114.{n}:53")))
        .collect();
    let one_host: Vec<_> = (0..20)
        .map(|n| contact(20 + n, &format!("192.0.3.1:{}", 50 + n)))
        .collect();
    let one_address: Vec<_> = (0..20).map(|n| contact(20 + n, "192.0.4.1:53")).collect();
    for (named, pings) in [(one_network, 2), (one_host, 2), (one_address, 1)] {
        let others = join_through(&mut dht, &peer, &named);
        assert_eq!(others.len(), pings);
        let mut now = NOW;
        for (_, bytes) in &others {
            assert_eq!(bytes.len(), PING_LEN);
            let Body::Ping {
                leaving: false,
                challenge: None,
                ..
            } = decode(bytes).body
            else {
                panic!("the first datagram to a stranger is a ping");
            };
        }
        // Nor later: a ping to a stranger is not repeated.
        while dht.peers().len() == 1 && now.since_ms(NOW) < 20_000 {
            now = dht.next_deadline().unwrap();
            if now.since_ms(NOW) >= 20_000 {
                break;
            }
            dht.handle_timeout(now);
            assert!(sent(&mut dht).iter().all(|(to, _)| *to == peer.addr));
        }
        dht = public_node::<Server>();
    }
}

#[test]
fn whoever_answers_with_itself_for_ever_is_asked_once() {
    let mut dht = public_node::<Server>();
    let peer = Peer::new(5, "198.18.0.1:1000");
    let others = join_through(&mut dht, &peer, &[contact(5, "198.18.0.1:1000"); 20]);
    assert!(others.is_empty());
    assert_eq!(
        dht.poll_done().unwrap().result,
        OpResult::Joined { contacts: 1 }
    );
}

#[test]
fn a_holder_with_endless_pages_is_read_for_a_bounded_time() {
    let mut dht = public_node::<Server>();
    let mut peer = Peer::new(5, "198.18.0.1:1000");
    join_through(&mut dht, &peer, &[]);
    dht.poll_done().unwrap();
    let record = value(1, b"x");
    let mut copy = [0; 1_000];
    let len = RecordCopy {
        age_ms: 0,
        remaining_ms: 60_000,
        record: &record,
    }
    .encode(&mut copy);
    let copy = &copy[..len.unwrap()];
    peer.token = [7; 8];
    let (mut pages, mut now) = (0_u64, NOW);
    dht.get(
        now,
        Key::from_bytes([1; 32]),
        Kinds::ALL,
        None,
        Owner::Timeline(2),
        WITHIN_MS,
    )
    .unwrap();
    while dht.poll_done().is_none() {
        let all = sent(&mut dht);
        if all.is_empty() {
            now = dht.next_deadline().unwrap();
            dht.handle_timeout(now);
        }
        for (_, bytes) in all {
            // "There is more", always; a page takes a millisecond.
            pages += 1;
            now = now.after_ms(1);
            let reply = encode(
                peer.id,
                decode(&bytes).transaction,
                [7; 8],
                found(copy, &[], true),
            );
            if let Some(mut found) = dht.handle_datagram(now, peer.addr, &reply) {
                while found.next(&mut dht).is_some() {}
            }
        }
        assert!(now.since_ms(NOW) <= u64::from(WITHIN_MS) + 1);
    }
    assert!(pages > 100, "the test would prove nothing");
    // A page without records ends it.
    dht.get(
        now,
        Key::from_bytes([1; 32]),
        Kinds::ALL,
        None,
        Owner::Timeline(3),
        WITHIN_MS,
    )
    .unwrap();
    let all = sent(&mut dht);
    peer.reply(&mut dht, now, &all[0].1, found(&[], &[], true));
    assert!(matches!(
        dht.poll_done().unwrap().result,
        OpResult::Got { count: 0, .. }
    ));
}

#[test]
fn records_that_do_not_belong_are_dropped_and_counted() {
    let mut dht = public_node::<Server>();
    let peer = Peer::new(5, "198.18.0.1:1000");
    join_through(&mut dht, &peer, &[]);
    dht.poll_done().unwrap();
    let key = Key::from_bytes([1; 32]);
    dht.get(
        NOW,
        key,
        Kinds::of(&[Kind::Value]),
        None,
        Owner::Timeline(2),
        WITHIN_MS,
    )
    .unwrap();
    let request = sent(&mut dht).remove(0).1;
    let good = value(1, b"good");
    let mut forged = value(2, b"forged");
    *forged.last_mut().unwrap() ^= 1;
    let elsewhere = record(1, Kind::Value, Key::from_bytes([2; 32]), b"elsewhere");
    let stale = value(3, b"stale");
    let mut copies = Vec::new();
    for (record, remaining_ms) in [
        (&forged, 60_000),
        (&elsewhere, 60_000),
        (&stale, 0),
        (&good, 60_000),
        (&good, 60_000),
    ] {
        let mut copy = [0; 1_000];
        let len = RecordCopy {
            age_ms: u64::MAX,
            remaining_ms,
            record,
        }
        .encode(&mut copy);
        copies.extend_from_slice(&copy[..len.unwrap()]);
    }
    let reply = encode(
        peer.id,
        decode(&request).transaction,
        [7; 8],
        found(&copies, &[], false),
    );
    let now = NOW.after_ms(100);
    let mut found = dht.handle_datagram(now, peer.addr, &reply).unwrap();
    assert_eq!(found.owner, Owner::Timeline(2));
    for _ in 0..2 {
        let verified = found.next(&mut dht).unwrap();
        assert_eq!(verified.record.bytes, good);
        assert_eq!(
            verified.remaining_ms,
            60_000 - 100,
            "counted from the request's sending"
        );
        assert!(verified.age_ms < u64::MAX && verified.holder == peer.id);
    }
    assert!(found.next(&mut dht).is_none());
    for rule in [Rule::Signature, Rule::Key, Rule::Lifetime] {
        assert_eq!(dht.dropped().of(rule), 1, "{rule:?}");
    }
    assert!(matches!(
        dht.poll_done().unwrap().result,
        OpResult::Got { count: 2, .. }
    ));
}

#[test]
fn a_claim_to_hold_a_newer_record_needs_that_record() {
    let mut dht = public_node::<Server>();
    let peer = Peer::new(5, "198.18.0.1:1000");
    join_through(&mut dht, &peer, &[]);
    dht.poll_done().unwrap();
    let own = value(5, b"own");
    let newer = |record: &[u8]| -> (Option<u64>, u8) {
        let mut dht = public_node::<Server>();
        join_through(&mut dht, &peer, &[]);
        dht.poll_done().unwrap();
        dht.put(NOW, &own, Owner::Timeline(2), WITHIN_MS).unwrap();
        loop {
            for (_, bytes) in sent(&mut dht) {
                match decode(&bytes).body {
                    Body::FindNode { .. } => peer.found(&mut dht, NOW, &bytes, &[]),
                    Body::Put { .. } => {
                        let outcome = PutOutcome::Older { record };
                        let observed = observed(addr("44.0.0.1:7827"));
                        peer.reply(&mut dht, NOW, &bytes, Body::Stored { observed, outcome });
                    }
                    other => panic!("{other:?}"),
                }
            }
            if let Some(done) = dht.poll_done() {
                let OpResult::Put {
                    older, accepted, ..
                } = done.result
                else {
                    panic!()
                };
                return (older, accepted);
            }
        }
    };
    assert_eq!(newer(&sequence(9, b"newer")), (Some(9), 1));
    assert_eq!(newer(&sequence(4, b"older")), (None, 1));
    assert_eq!(newer(b"nothing that decodes"), (None, 1));
    let mut forged = sequence(9, b"forged");
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(newer(&forged), (None, 1));
}

#[test]
fn a_full_queue_of_replies_drops_the_request_and_changes_nothing() {
    let mut dht = public_node::<Board>();
    let mut peer = Peer::new(5, "198.18.0.1:1000");
    let _ = peer.ask(&mut dht, NOW, Body::FindNode { target: Key::ZERO }, |_| ());
    let _ = peer.ask(&mut dht, NOW, Body::FindNode { target: Key::ZERO }, |_| ());
    let record = value(1, b"x");
    let ping = encode(
        peer.id,
        [1; 8],
        peer.token,
        Body::FindNode { target: Key::ZERO },
    );
    for _ in 0..3 {
        assert!(dht.handle_datagram(NOW, peer.addr, &ping).is_none());
    }
    let put = Body::Put {
        depth: 0,
        spilled: false,
        age_ms: 0,
        remaining_ms: 60_000,
        record: &record,
    };
    let put = encode(peer.id, [1; 8], peer.token, put);
    assert!(dht.handle_datagram(NOW, peer.addr, &put).is_none());
    assert_eq!((dht.dropped().of(Rule::Full), dht.records().len()), (1, 0));
    let replies = sent(&mut dht)
        .iter()
        .filter(|(_, bytes)| bytes.len() != PING_LEN)
        .count();
    assert_eq!(replies, 3);
}

#[test]
fn a_proof_of_the_id_goes_only_to_a_proven_address() {
    let mut dht = public_node::<Server>();
    let mut peer = Peer::new(5, "198.18.0.1:1000");
    let challenge = [6; 16];
    let ping = Body::Ping {
        leaving: false,
        challenge: Some(challenge),
        pad: &[0; 39],
    };
    let proof = |body: &Body<'_>| match body {
        Body::Pong { proof, .. } => proof.map(|proof| (proof.key, proof.signature().unwrap())),
        other => panic!("{other:?}"),
    };
    assert_eq!(peer.ask(&mut dht, NOW, ping, proof).0, Some(None));
    let (key, signature) = peer.ask(&mut dht, NOW, ping, proof).0.unwrap().unwrap();
    assert_eq!(NodeId::of_key::<Ed25519>(&key), dht.id());
    let seen = observed(peer.addr);
    let digest = Ed25519::hash(
        "strandline/proof/v1",
        &[&NETWORK.0, &challenge, seen.as_bytes()],
    );
    assert!(Ed25519::verify(&key, &digest, &signature));
}

#[test]
fn a_goodbye_counts_only_with_a_token() {
    let mut dht = public_node::<Server>();
    let peer = Peer::new(5, "198.18.0.1:1000");
    join_through(&mut dht, &peer, &[]);
    assert_eq!(dht.peers().len(), 1);
    let mut peer = peer;
    let bye = Body::Ping {
        leaving: true,
        challenge: None,
        pad: &[0; 39],
    };
    let _ = peer.ask(&mut dht, NOW, bye, |_| ());
    assert_eq!(dht.peers().len(), 1, "anybody could have sent that");
    let _ = peer.ask(&mut dht, NOW, bye, |_| ());
    assert_eq!(dht.peers().len(), 0);
}

fn value(author: u8, payload: &[u8]) -> Vec<u8> {
    record(author, Kind::Value, Key::from_bytes([1; 32]), payload)
}

fn record(author: u8, kind: Kind, key: Key, payload: &[u8]) -> Vec<u8> {
    signed(author, kind, key, 5, payload)
}

/// A record of author 5 at the usual key.
fn sequence(sequence: u64, payload: &[u8]) -> Vec<u8> {
    signed(5, Kind::Value, Key::from_bytes([1; 32]), sequence, payload)
}

fn signed(author: u8, kind: Kind, key: Key, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let secret = SecretKey::from_bytes([author; 32]);
    let public = Ed25519::public_key(&secret);
    let draft = Draft {
        kind,
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

/// What a stranger may send.
#[derive(Clone, Debug)]
enum Say {
    Ping {
        leaving: bool,
        challenge: bool,
        pad: usize,
    },
    FindNode(u8),
    Get {
        key: u8,
        after: u16,
        limit: u8,
    },
    Put(usize),
    Send(usize),
    Found(Vec<(u8, u8)>),
    Pong,
    Noise(Vec<u8>),
}

fn says() -> impl Strategy<Value = (u8, u8, bool, Say)> {
    let say = prop_oneof![
        (any::<bool>(), any::<bool>(), 0_usize..600).prop_map(|(leaving, challenge, pad)| {
            Say::Ping {
                leaving,
                challenge,
                pad,
            }
        }),
        any::<u8>().prop_map(Say::FindNode),
        (any::<u8>(), any::<u16>(), any::<u8>()).prop_map(|(key, after, limit)| Say::Get {
            key,
            after,
            limit
        }),
        (0_usize..900).prop_map(Say::Put),
        (0_usize..1_000).prop_map(Say::Send),
        proptest::collection::vec(any::<(u8, u8)>(), 0..20).prop_map(Say::Found),
        Just(Say::Pong),
        proptest::collection::vec(any::<u8>(), 0..1_300).prop_map(Say::Noise),
    ];
    (0_u8..4, any::<u8>(), any::<bool>(), say)
}

/// Sends what strangers say, and counts bytes to and from each address that never showed a valid token and was
/// never asked anything.
fn amplification<P: Plan>(all: &[(u8, u8, bool, Say)]) -> Result<(), TestCaseError> {
    let mut dht = public_node::<P>();
    // Something worth asking for.
    let mut friend = Peer::new(5, "198.18.9.1:1000");
    join_through(&mut dht, &friend, &[]);
    let held = record(1, Kind::Value, Key::from_bytes([1; 32]), &[7; 600]);
    let put = Body::Put {
        depth: 0,
        spilled: false,
        age_ms: 0,
        remaining_ms: 60_000,
        record: &held,
    };
    for _ in 0..2 {
        let _ = friend.ask(&mut dht, NOW, put, |_| ());
    }
    let mut balance: BTreeMap<SocketAddr, i64> = BTreeMap::new();
    let mut now = NOW;
    for (from, sender, forged, say) in all {
        let from = SocketAddr::from(([203, 0, 1, *from], 4_000));
        let token = if *forged { [3; 8] } else { NO_TOKEN };
        let zeros = [0; 1_000];
        let contacts: Vec<u8> = match say {
            Say::Found(named) => {
                let named = named
                    .iter()
                    .map(|&(n, at)| contact(n, &format!("203.0.1.{at}:4000")));
                named.flat_map(Contact::to_bytes).collect()
            }
            _ => Vec::new(),
        };
        let body = match say {
            Say::Ping {
                leaving,
                challenge,
                pad,
            } => Some(Body::Ping {
                leaving: *leaving,
                challenge: challenge.then_some([1; 16]),
                pad: &zeros[..*pad],
            }),
            Say::FindNode(n) => Some(Body::FindNode {
                target: Key::from_bytes([*n; 32]),
            }),
            Say::Get { key, after, limit } => Some(Body::Get {
                key: Key::from_bytes([*key % 2; 32]),
                kinds: u16::MAX,
                after: *after % 2,
                limit: *limit,
            }),
            Say::Put(len) => Some(Body::Put {
                depth: 0,
                spilled: false,
                age_ms: 0,
                remaining_ms: 1,
                record: &zeros[..*len],
            }),
            Say::Send(len) => Some(Body::Send {
                key: None,
                bytes: &zeros[..*len],
            }),
            Say::Found(_) => Some(found(&[], &contacts, true)),
            Say::Pong => Some(Body::Pong {
                observed: observed(from),
                proof: None,
            }),
            Say::Noise(_) => None,
        };
        let bytes = match (body, say) {
            (Some(body), _) => encode(id(*sender), [*sender; 8], token, body),
            (None, Say::Noise(noise)) => noise.clone(),
            (None, _) => Vec::new(),
        };
        now = now.after_ms(10);
        prop_assert!(dht.handle_datagram(now, from, &bytes).is_none());
        *balance.entry(from).or_default() += i64::try_from(bytes.len()).unwrap();
        for (to, bytes) in sent(&mut dht) {
            if to != friend.addr {
                let left = balance.entry(to).or_default();
                *left -= i64::try_from(bytes.len()).unwrap();
                prop_assert!(*left >= 0, "more went to {to} than came from it");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_unproven_address_gets_more_than_it_sent(all in proptest::collection::vec(says(), 1..40)) {
        amplification::<Server>(&all)?;
        amplification::<Board>(&all)?;
    }
}
