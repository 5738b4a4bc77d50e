//! The distributed hash table among those who do not keep the rules: one node, and datagrams made by hand.
#![cfg(feature = "alloc")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

mod amplification;
mod by_hand;

use by_hand::{
    NETWORK, NOW, Peer, WITHIN_MS, addr, contact, decode, encode, found, id, join_through, node,
    observed, public_node, record, sent, sequence, value,
};
use strandline_core::addr::PackedAddr;
use strandline_core::crypto::{Crypto, Ed25519};
use strandline_core::dht::{OpResult, Owner};
use strandline_core::id::{Key, NodeId};
use strandline_core::plan::{Board, Server};
use strandline_core::rules::Rule;
use strandline_core::wire::PING_LEN;
use strandline_core::wire::datagram::{Body, Contact, Denial, NO_TOKEN, PutOutcome};
use strandline_core::wire::record::{Copy as RecordCopy, Kind, Kinds};

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
