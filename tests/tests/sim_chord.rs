//! Chord in the simulated world: who owns which key, and the same store and timeline as on Kademlia.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

use std::time::Duration;

use strandline_core::id::{Key, NodeId};
use strandline_core::output::Outcome;
use strandline_core::overlay::chord::STABILISE_MS;
use strandline_tests::sim::{Chance, Command, HostId, Kind, Notice, Overlay, State, World, ms};

const ROUND: Duration = Duration::from_millis(STABILISE_MS);

fn ring(seed: u64) -> World {
    let mut world = World::new(seed);
    world.overlay = Overlay::Chord;
    world
}

fn id(world: &World, host: HostId) -> NodeId {
    world.machine(host).node().unwrap().node_id()
}

/// The nodes that run, in the order of the ring.
fn around(world: &World, hosts: &[HostId]) -> Vec<(NodeId, HostId)> {
    let running = hosts.iter().filter(|&&h| world.machine(h).node().is_some());
    let mut all: Vec<_> = running.map(|&host| (id(world, host), host)).collect();
    all.sort_by_key(|(id, _)| *id);
    all
}

/// The owner of a key: the first node at it or behind it.
fn owner(around: &[(NodeId, HostId)], key: &Key) -> HostId {
    let at = around.partition_point(|(id, _)| id.as_bytes() < key.as_bytes());
    around[at % around.len()].1
}

/// A number of keys all over the ring, and those at the edges of every node's range.
fn keys(world: &World, around: &[(NodeId, HostId)]) -> Vec<Key> {
    let mut keys: Vec<Key> = (0..100).map(|n| world.key(&format!("key {n}"))).collect();
    for (id, _) in around {
        let mut edge = *id.as_bytes();
        keys.push(Key::from_bytes(edge));
        edge[31] ^= 1;
        keys.push(Key::from_bytes(edge));
    }
    keys
}

/// Each key belongs to one running node, the right one.
fn assert_partitioned(world: &World, hosts: &[HostId]) {
    let around = around(world, hosts);
    for key in keys(world, &around) {
        let right = owner(&around, &key);
        for &(_, host) in &around {
            let node = world.machine(host).node().unwrap();
            let owns = node.is_responsible(&key);
            assert_eq!(
                owns,
                host == right,
                "seed {}: {key} at {host}",
                world.seed()
            );
        }
    }
}

/// Looks a key up and returns the first node that was found, and whether the lookup says that it is complete.
fn look_up(world: &mut World, from: HostId, key: Key) -> Option<(NodeId, bool)> {
    let answer = world.run(from, &Command::Lookup(key), None);
    let complete = matches!(
        answer.state,
        State::Done(Outcome::Found { complete: true, .. })
    );
    answer.contacts.first().map(|&(id, _, _)| (id, complete))
}

#[test]
fn sixteen_nodes_that_join_a_round_apart_own_the_right_keys_after_four_rounds() {
    for seed in 0..4 {
        let mut world = ring(seed);
        let mut hosts = Vec::new();
        for _ in 0..16 {
            hosts.push(world.node(Kind::Server));
            world.run_for(ROUND);
        }
        world.run_for(3 * ROUND);
        assert_partitioned(&world, &hosts);
    }
}

#[test]
fn a_lookup_finds_the_owner_from_everywhere() {
    let mut world = ring(5);
    world.network_mut().loss = Chance::percent(2);
    let hosts = world.nodes(Kind::Server, 60);
    world.run_for(4 * ROUND);
    assert_partitioned(&world, &hosts);
    let around = around(&world, &hosts);
    for n in 0..60 {
        let (key, from) = (world.key(&format!("sought {n}")), hosts[n % hosts.len()]);
        let right = owner(&around, &key);
        let (found, complete) = look_up(&mut world, from, key).unwrap();
        assert!(complete, "lookup {n}");
        if right == from {
            // A lookup lists others: the next one.
            assert_ne!(found, id(&world, from));
        } else {
            assert_eq!(found, id(&world, right), "lookup {n} from {from}");
        }
    }
}

#[test]
fn a_wrong_owner_is_never_reported_and_a_fifth_crashed_is_soon_got_over() {
    for seed in 10..13 {
        let mut world = ring(seed);
        let hosts = world.nodes(Kind::Server, 50);
        world.run_for(4 * ROUND);
        for &host in hosts.iter().skip(1).step_by(5) {
            world.crash(host);
        }
        let left = around(&world, &hosts);
        assert_eq!(left.len(), 40);
        let mut at_once = 0;
        for (after, n) in [(ms(0), 0), (ROUND, 40), (ROUND, 80)] {
            world.run_for(after);
            for n in n..n + 40 {
                let (key, from) = (world.key(&format!("{n}")), left[n % left.len()].1);
                let right = owner(&left, &key);
                let found = look_up(&mut world, from, key);
                let complete = found.is_some_and(|(_, complete)| complete);
                if complete && right != from {
                    let (found, _) = found.unwrap();
                    assert_eq!(found, id(&world, right), "seed {seed}: lookup {n}");
                }
                at_once += usize::from(complete && n < 40);
                assert!(complete || n < 40, "seed {seed}: lookup {n} after a round");
            }
        }
        assert!(at_once >= 38, "seed {seed}: {at_once} of 40 at once");
        assert_partitioned(&world, &hosts);
    }
}

#[test]
fn a_message_reaches_the_owner_once() {
    let mut world = ring(20);
    let hosts = world.nodes(Kind::Server, 30);
    world.run_for(4 * ROUND);
    let around = around(&world, &hosts);
    for n in 0..30_usize {
        let (text, from) = (format!("message {n}"), hosts[n]);
        let key = world.key(&text);
        let command = Command::Send {
            key,
            bytes: text.clone().into_bytes(),
        };
        let outcome = world.run(from, &command, None).outcome();
        assert_eq!(outcome, Some(Outcome::Delivered { accepted: true }), "{n}");
        let right = owner(&around, &key);
        for &host in &hosts {
            let notices = world.take_notices(host);
            let came = notices.iter().filter(|notice| {
                matches!(notice, Notice::Message { bytes, .. } if *bytes == text.as_bytes())
            });
            assert_eq!(came.count(), usize::from(host == right), "{n} at {host}");
        }
    }
}

#[test]
fn a_value_outlives_its_owner() {
    let mut world = ring(30);
    let hosts = world.nodes(Kind::Server, 40);
    world.run_for(4 * ROUND);
    let before = around(&world, &hosts);
    let keys: Vec<Key> = (0..10).map(|n| world.key(&format!("value {n}"))).collect();
    for (n, key) in keys.iter().enumerate() {
        assert!(world.put(hosts[n], *key, format!("{n}").as_bytes()));
    }
    for key in &keys {
        let first = owner(&before, key);
        if world.machine(first).node().is_some() {
            world.crash(first);
        }
    }
    let left = around(&world, &hosts);
    assert!(left.len() < before.len());
    for (n, key) in keys.iter().enumerate() {
        let from = left[n * 3 % left.len()].1;
        assert_eq!(world.get(from, *key), [format!("{n}").into_bytes()], "{n}");
    }
}

#[test]
fn a_newcomer_that_owns_a_key_holds_what_lies_there() {
    let mut world = ring(31);
    world.keeps_all_notices = true;
    let mut hosts = world.nodes(Kind::Server, 20);
    world.run_for(2 * ROUND);
    let keys: Vec<Key> = (0..30).map(|n| world.key(&format!("value {n}"))).collect();
    for key in &keys {
        assert!(world.put(hosts[0], *key, b"flotsam"));
    }
    let before = around(&world, &hosts);
    for host in &hosts {
        let _ = world.take_notices(*host);
    }
    let newcomers = world.nodes(Kind::Server, 10);
    hosts.extend(&newcomers);
    world.run_for(2 * ROUND);
    let after = around(&world, &hosts);
    let mut gained = Vec::new();
    for &host in &newcomers {
        let notices = world.take_notices(host).into_iter();
        gained.extend(notices.map(|notice| (host, notice)));
    }
    let mut moved = 0;
    for &key in &keys {
        let (old, new) = (owner(&before, &key), owner(&after, &key));
        if old != new {
            moved += 1;
            let held = gained.contains(&(new, Notice::KeyGained(key)));
            assert!(held, "{new} lacks {key}");
        }
    }
    assert!(moved >= 3, "{moved} of 30 keys have a new owner");
}

#[test]
fn the_timeline_runs_unchanged_on_a_ring() {
    let mut world = ring(40);
    let hosts = world.joined(12, 4);
    let (ann, bob, cid) = (hosts[2], hosts[7], hosts[13]);
    for follower in [bob, cid] {
        let follows = world.follow(follower, ann);
        assert!(follows.stored && follows.delivered, "{follower}");
    }
    assert_eq!(world.post(ann, "the tide is out"), 1);
    assert_eq!(world.post(ann, "and in again"), 2);
    let posts = ["2 and in again", "1 the tide is out"];
    for follower in [bob, cid] {
        let read = world.timeline(follower);
        assert_eq!(read.complete, Some(true));
        assert_eq!(read.of(world.user(ann)), posts);
    }
    let (followers, complete) = world.followers(ann, ann);
    assert!(complete && followers.len() == 2);
    // The author is gone: a follower's copy serves another reader.
    world.crash(ann);
    let read = world.timeline_of(hosts[9], ann);
    assert_eq!(read.of(world.user(ann)), posts);
}

#[test]
fn what_a_node_was_told_of_its_range_and_neighbours_is_what_the_ring_is() {
    let mut world = ring(50);
    world.keeps_all_notices = true;
    let hosts = world.nodes(Kind::Server, 24);
    world.run_for(2 * ROUND);
    for &host in &hosts[3..9] {
        world.crash(host);
    }
    world.run_for(4 * ROUND);
    let around = around(&world, &hosts);
    for (at, &(id, host)) in around.iter().enumerate() {
        let before = around[(at + around.len() - 1) % around.len()].0;
        let notices = world.take_notices(host);
        let told = notices.iter().rev().find_map(|notice| match notice {
            Notice::RangeChanged { after, last } => Some((*after, *last)),
            _ => None,
        });
        let key = |id: NodeId| Key::from_bytes(*id.as_bytes());
        assert_eq!(told, Some((key(before), key(id))), "{host}");
        let mut up = Vec::new();
        for notice in &notices {
            match notice {
                Notice::NeighbourUp(id) => {
                    assert!(!up.contains(id), "{host}: up twice");
                    up.push(*id);
                }
                Notice::NeighbourDown(id) => {
                    let known = up.iter().position(|other| other == id);
                    up.swap_remove(known.unwrap_or_else(|| panic!("{host}: down without up")));
                }
                _ => {}
            }
        }
        // The predecessor, and the seven nodes that hold what it owns.
        let mut near: Vec<NodeId> = (1..8).map(|n| around[(at + n) % around.len()].0).collect();
        near.push(before);
        near.sort();
        up.sort();
        assert_eq!(up, near, "{host}");
    }
}
