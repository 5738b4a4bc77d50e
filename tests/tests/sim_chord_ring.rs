//! The ranges of a ring: together they are the whole ring, once; and no lookup ends with the wrong owner, whatever the ring
//! is in the middle of.
//!
//! `STRANDLINE_SEEDS` says how many seeds are tried, beginning with the first.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::time::Duration;

use strandline_core::id::{Key, NodeId};
use strandline_core::output::Outcome;
use strandline_core::overlay::chord::STABILISE_MS;
use strandline_tests::sim::{
    Chance, Command, Cryptography, HostId, Kind, Overlay, Random, State, Ticket, World, ms, secs,
};

const ROUND: Duration = Duration::from_millis(STABILISE_MS);

fn seeds(usual: u64) -> u64 {
    let chosen = std::env::var("STRANDLINE_SEEDS").ok();
    chosen.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn ring(seed: u64, test: &str) -> World {
    let mut world = World::with_cryptography(seed, Cryptography::StandIn);
    world.overlay = Overlay::Chord;
    world.replay = format!(
        "STRANDLINE_SEEDS={} cargo test -p strandline-tests --test sim_chord_ring {test}",
        seed + 1
    );
    world
}

/// The nodes that run, in the order of the ring.
fn around(world: &World) -> Vec<(NodeId, HostId)> {
    let hosts = (0..u32::try_from(world.len()).unwrap()).map(HostId);
    let running = hosts.filter_map(|host| Some((world.running(host)?.node_id(), host)));
    let mut all: Vec<_> = running.collect();
    all.sort_unstable();
    all
}

/// The place in the order of the ring of the owner of a key.
fn owner(around: &[(NodeId, HostId)], key: &Key) -> usize {
    around.partition_point(|(id, _)| id.as_bytes() < key.as_bytes()) % around.len()
}

/// The key one behind or before another: no owner's range begins or ends in between.
fn beside(id: &NodeId, behind: bool) -> Key {
    let mut bytes = *id.as_bytes();
    for byte in bytes.iter_mut().rev() {
        let (next, carried) = if behind {
            byte.overflowing_add(1)
        } else {
            byte.overflowing_sub(1)
        };
        *byte = next;
        if !carried {
            break;
        }
    }
    Key::from_bytes(bytes)
}

/// Each node claims the keys from behind the node before it up to its own id, and no others. Where all these ranges begin
/// and end is where nodes stand: a key at each of these places, one behind and one before are all that there is to try.
fn assert_partitioned(world: &World) {
    let around = around(world);
    for (place, (id, _)) in around.iter().enumerate() {
        let own = Key::from_bytes(*id.as_bytes());
        for key in [own, beside(id, true), beside(id, false)] {
            let right = owner(&around, &key);
            for (at, (_, host)) in around.iter().enumerate() {
                let owns = world.running(*host).unwrap().is_responsible(&key);
                assert_eq!(
                    owns,
                    at == right,
                    "{key} beside place {place} of {}, at {host} (place {at}); {}",
                    around.len(),
                    world.replay
                );
            }
        }
    }
}

#[test]
fn at_rest_the_ranges_are_the_whole_ring_at_every_size() {
    for seed in 0..seeds(2) {
        // Around the lengths of the lists: 8 predecessors, 20 successors, and all of both.
        for nodes in [1, 2, 3, 8, 9, 10, 20, 21, 22, 29, 30, 64] {
            let mut world = ring(seed, "every_size");
            // Every third is a board, whose lists are shorter.
            for n in 0..nodes {
                let board = n % 3 == 2;
                world.node(if board { Kind::Board } else { Kind::Server });
            }
            world.run_for(4 * ROUND);
            assert_partitioned(&world);
        }
    }
}

#[test]
fn after_churn_the_ranges_are_the_whole_ring_again() {
    for seed in 0..seeds(3) {
        let mut world = ring(seed, "after_churn");
        world.network_mut().loss = Chance::percent(1);
        let mut random = Random::new(seed).fork("churn");
        let mut hosts = world.nodes(Kind::Server, 60);
        world.run_for(2 * ROUND);
        for _ in 0..60 {
            // Not the first: newcomers join through it.
            let gone = hosts.swap_remove(1 + random.index(hosts.len() - 1));
            world.vanish(gone);
            world.run_for(secs(1 + random.below(4)));
            hosts.push(world.node(Kind::Server));
        }
        world.run_for(4 * ROUND);
        assert_eq!(around(&world).len(), 60);
        assert_partitioned(&world);
        // Half of all at once.
        for host in hosts.split_off(30) {
            world.vanish(host);
        }
        world.run_for(4 * ROUND);
        assert_eq!(around(&world).len(), 30);
        assert_partitioned(&world);
    }
}

/// A lookup under way: who asks for what, and who may rightly be named.
struct Asked {
    ticket: Ticket,
    from: HostId,
    key: Key,
    right: Vec<NodeId>,
}

/// Asks for so many keys, from everywhere. While the newest is joining, the owner without it is right too, and it asks
/// nothing itself. Returns how many lookups found the owner.
fn ask(world: &mut World, random: &mut Random, count: usize, joining: Option<HostId>) -> usize {
    let all = around(world);
    let mut joined = all.clone();
    joined.retain(|(_, host)| Some(*host) != joining);
    let asked: Vec<Asked> = (0..count)
        .map(|_| {
            let key = Key::from_bytes(random.bytes_32());
            let (_, from) = joined[random.index(joined.len())];
            Asked {
                ticket: world.begin(from, &Command::Lookup(key), None),
                from,
                key,
                right: vec![all[owner(&all, &key)].0, joined[owner(&joined, &key)].0],
            }
        })
        .collect();
    let mut found = 0;
    for asked in &asked {
        world.run_until_done(asked.ticket);
        found += usize::from(check(world, asked));
    }
    found
}

/// Whether a lookup says that it found the owner: then it is the owner.
fn check(world: &World, asked: &Asked) -> bool {
    let answer = world.answer(asked.ticket);
    let complete = matches!(
        answer.state,
        State::Done(Outcome::Found { complete: true, .. })
    );
    let own = world.running(asked.from).unwrap().node_id();
    // A node that owns the key itself names others.
    if complete && !asked.right.contains(&own) {
        let found = answer.contacts.first().map(|(id, ..)| *id);
        assert!(
            found.is_some_and(|id| asked.right.contains(&id)),
            "{} found {found:?} for {}; {}",
            asked.from,
            asked.key,
            world.replay
        );
    }
    complete
}

#[test]
fn sixteen_nodes_a_round_apart_never_name_a_wrong_owner_and_after_four_rounds_always_the_right_one()
{
    for seed in 0..seeds(6) {
        let mut world = ring(seed, "sixteen");
        let mut random = Random::new(seed).fork("keys");
        for _ in 0..16 {
            let newest = world.node(Kind::Server);
            let before = world.now_us();
            // In the middle of the join, right behind it, and in the middle of the round.
            for pause_ms in [100, 1_500, 10_000] {
                world.run_for(ms(pause_ms));
                let joining = Some(newest).filter(|host| host.0 > 0 && pause_ms < 10_000);
                ask(&mut world, &mut random, 4, joining);
            }
            let past = Duration::from_micros(world.now_us() - before);
            world.run_for(ROUND.saturating_sub(past));
        }
        world.run_for(3 * ROUND);
        assert_partitioned(&world);
        let right = ask(&mut world, &mut random, 60, None);
        assert_eq!(right, 60, "seed {seed}: all are found; {}", world.replay);
    }
}
