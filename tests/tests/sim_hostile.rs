//! Hostile peers in small worlds: forged records, broken datagrams and frames, strangers that never prove their address.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use strandline_core::id::Key;
use strandline_core::rules::Rule;
use strandline_core::wire::REQUEST_LEN_MIN;
use strandline_core::wire::datagram::{Body, NO_TOKEN, Token};
use strandline_core::wire::frame::{Frame, GetStored};
use strandline_core::wire::record::{Draft, Kind as RecordKind, Kinds};
use strandline_tests::sim::{HostId, Kind, Random, World, ms, secs};

fn network(seed: u64) -> (World, Vec<HostId>) {
    let mut world = World::new(seed);
    let hosts = world.joined(10, 2);
    (world, hosts)
}

fn dropped(world: &World, host: HostId, rule: Rule) -> u32 {
    world.running(host).unwrap().stats().dropped.of(rule)
}

/// A stranger with a token of one node.
fn known(world: &mut World, node: HostId) -> (HostId, Token) {
    let stranger = world.stranger(true);
    let token = world.tokens(stranger, &[node])[0].unwrap();
    (stranger, token)
}

/// The node does what it is for.
fn serves_on(world: &mut World, node: HostId, other: HostId) {
    let (before, key) = (world.model().last_acked(node), world.key("afterwards"));
    assert_eq!(world.post(node, "still here"), before + 1);
    assert!(world.put(other, key, b"value"));
    assert!(!world.get(node, key).is_empty());
}

#[test]
fn every_request_from_a_stranger_is_answered_with_no_more_than_it_sent() {
    let (mut world, hosts) = network(1);
    let node = hosts[3];
    let victim = world.stranger(false);
    let (attacker, key) = (world.stranger(false), world.key("anything"));
    let source = world.machine(victim).addr;
    let forger = world.forger();
    let record = world.sign_value(&forger, key, 1, b"value");
    let bodies = [
        Body::Ping {
            leaving: false,
            challenge: Some([1; 16]),
            pad: &[0; 60],
        },
        Body::Ping {
            leaving: true,
            challenge: None,
            pad: &[0; 60],
        },
        Body::FindNode { target: key },
        Body::Get {
            key,
            kinds: Kinds::ALL.0,
            after: 0,
            limit: 20,
        },
        Body::Put {
            depth: 0,
            spilled: false,
            age_ms: 0,
            remaining_ms: 9_999,
            record: &record,
        },
        Body::Send {
            key: None,
            bytes: &[7; 300],
        },
    ];
    for token in [NO_TOKEN, [9; 8]] {
        for (n, body) in bodies.iter().enumerate() {
            let request = world.say(attacker, token, n as u64, *body);
            assert!(request.len() >= REQUEST_LEN_MIN, "{body:?}");
            world.take_datagrams(victim);
            world.send_spoofed(attacker, source, node, &request);
            world.run_for(secs(3));
            let got: usize = world
                .take_datagrams(victim)
                .iter()
                .map(|(_, bytes)| bytes.len())
                .sum();
            assert!(
                got <= request.len(),
                "{got} bytes for {}: {body:?}",
                request.len()
            );
        }
    }
}

#[test]
fn a_request_shorter_than_the_smallest_reply_is_dropped() {
    let (mut world, hosts) = network(2);
    let stranger = world.stranger(false);
    let body = Body::Ping {
        leaving: false,
        challenge: None,
        pad: &[],
    };
    let request = world.say(stranger, NO_TOKEN, 1, body);
    assert!(request.len() < REQUEST_LEN_MIN);
    world.send_raw(stranger, hosts[1], &request);
    world.run_for(secs(1));
    assert!(world.take_datagrams(stranger).is_empty());
    assert_eq!(dropped(&world, hosts[1], Rule::Undersized), 1);
}

#[test]
fn forged_and_broken_records_are_refused_and_counted() {
    let (mut world, hosts) = network(3);
    let node = hosts[2];
    let (stranger, token) = known(&mut world, node);
    let (forger, other, key) = (world.forger(), world.forger(), world.key("here"));
    let good = world.sign_value(&forger, key, 5, b"value");
    let draft = Draft {
        kind: RecordKind::Value,
        key,
        author: forger.user,
        subject: None,
        page: 0,
        sequence: 6,
        issued_ms: strandline_tests::sim::clock::unix_ms(world.now_us()),
        lifetime_ms: 60_000,
    };
    let mut wrong_signature = good.clone();
    *wrong_signature.last_mut().unwrap() ^= 1;
    let mut changed = good.clone();
    let at = changed
        .windows(5)
        .position(|window| window == b"value")
        .unwrap();
    changed[at] = b'V';
    let somebody_elses = world.sign(&draft, b"value", &other);
    let immortal = Draft {
        lifetime_ms: 0,
        ..draft
    };
    let too_long = Draft {
        lifetime_ms: 25 * 3_600_000,
        ..draft
    };
    let misplaced = Draft {
        kind: RecordKind::Head,
        ..draft
    };
    let cases = [
        ("wrong signature", wrong_signature, Rule::Signature),
        ("changed payload", changed, Rule::Signature),
        ("somebody else's author", somebody_elses, Rule::Author),
        (
            "lifetime of zero",
            world.sign(&immortal, b"value", &forger),
            Rule::Lifetime,
        ),
        (
            "lifetime beyond the cap",
            world.sign(&too_long, b"value", &forger),
            Rule::Lifetime,
        ),
        (
            "payload of another kind",
            world.sign(&misplaced, b"value", &forger),
            Rule::Payload,
        ),
        (
            "cut short",
            good[..good.len() - 1].to_vec(),
            Rule::Malformed,
        ),
    ];
    for (what, record, rule) in &cases {
        let before = dropped(&world, node, *rule);
        let said = world.put_raw(stranger, &[(node, token)], record);
        assert!(!said.contains(&"stored".to_owned()), "{what}: {said:?}");
        assert_eq!(dropped(&world, node, *rule), before + 1, "{what}: {said:?}");
    }
    assert_eq!(world.put_raw(stranger, &[(node, token)], &good), ["stored"]);
    let before = dropped(&world, node, Rule::Older);
    let older = world.sign_value(&forger, key, 4, b"older");
    assert_eq!(world.put_raw(stranger, &[(node, token)], &older), ["older"]);
    assert!(dropped(&world, node, Rule::Older) > before);
    serves_on(&mut world, node, hosts[5]);
}

#[test]
fn a_put_needs_a_token() {
    let (mut world, hosts) = network(4);
    let stranger = world.stranger(false);
    let (forger, key) = (world.forger(), world.key("here"));
    let record = world.sign_value(&forger, key, 1, b"value");
    for token in [NO_TOKEN, [3; 8]] {
        let said = world.put_raw(stranger, &[(hosts[1], token)], &record);
        assert!(!said.contains(&"stored".to_owned()), "{said:?}");
    }
    assert!(dropped(&world, hosts[1], Rule::Token) >= 2);
}

#[test]
fn noise_on_datagrams_and_streams_is_counted_and_served_through() {
    let (mut world, hosts) = network(5);
    let node = hosts[2];
    let stranger = world.stranger(false);
    let mut random = Random::new(55);
    let find = world.say(stranger, NO_TOKEN, 1, Body::FindNode { target: Key::ZERO });
    let before = world.running(node).unwrap().stats().dropped.total();
    for n in 0..300_usize {
        let mut bytes: Vec<u8> = (0..random.index(1_300))
            .map(|_| random.bytes_32()[0])
            .collect();
        if n % 3 == 0 {
            bytes = find[..random.index(find.len())].to_vec();
        } else if n % 3 == 1 {
            bytes = find.clone();
            let at = random.index(bytes.len());
            bytes[at] ^= 1 << random.index(8);
        }
        world.send_raw(stranger, node, &bytes);
        world.run_for(ms(5));
    }
    let frame = world.encode_frame(&Frame::GetStored(GetStored {
        author: world.user(node),
        log: 0,
        since: 0,
        limit: 10,
    }));
    for n in 0..40_usize {
        let conn = world.connect_raw(stranger, node);
        world.run_for(ms(500));
        let mut bytes: Vec<u8> = (0..random.index(3_000))
            .map(|_| random.bytes_32()[0])
            .collect();
        if n % 2 == 0 {
            bytes = frame.clone();
            let at = random.index(bytes.len());
            bytes[at] ^= 1 << random.index(8);
        }
        world.write_raw(conn, &bytes);
        world.run_for(ms(500));
        world.close_raw(conn);
    }
    world.run_for(secs(20));
    assert!(world.running(node).unwrap().stats().dropped.total() > before + 200);
    serves_on(&mut world, node, hosts[5]);
}

#[test]
fn a_frame_that_announces_too_much_is_refused_and_counted() {
    let (mut world, hosts) = network(6);
    let stranger = world.stranger(false);
    let conn = world.connect_raw(stranger, hosts[1]);
    world.run_for(secs(1));
    world.write_raw(conn, &[0xFF; 200]);
    world.run_for(secs(2));
    assert!(world.read_raw(conn).1, "closed");
    assert_eq!(dropped(&world, hosts[1], Rule::Overlong), 1);
}

#[test]
fn streams_that_stall_do_not_keep_others_out() {
    let (mut world, hosts) = network(7);
    for node in [hosts[1], hosts[11]] {
        assert!(matches!(world.machine(hosts[11]).setup.kind, Kind::Board));
        let stranger = world.stranger(false);
        world.stall(stranger);
        let silent: Vec<_> = (0..200)
            .map(|_| world.connect_raw(stranger, node))
            .collect();
        world.run_for(secs(60));
        assert!(
            silent.iter().all(|conn| world.read_raw(*conn).1),
            "silent streams end"
        );
        world.follow(hosts[4], node);
        world.post(node, "hello");
        let read = world.timeline(hosts[4]);
        assert!(
            read.of(world.user(node)).contains(&"1 hello".to_owned()),
            "{:?}",
            read.missing
        );
    }
}
