//! Nodes come, go and die, and links fail: who holds what afterwards.

use strandline_core::id::Distance;
use strandline_core::output::Outcome;
use strandline_core::plan::{Board, Server};

use super::world::{World, key, value};

#[test]
fn with_loss_and_mixed_nodes_every_operation_ends_and_every_record_is_found() {
    let mut world = World::new();
    world.lose_every = 43;
    world.add::<Server>();
    for n in 1..40 {
        let n = if n % 3 == 0 {
            world.add::<Board>()
        } else {
            world.add::<Server>()
        };
        assert!(matches!(
            world.join(n, 0),
            Outcome::Joined { contacts: 1.. }
        ));
    }
    world.run_ms(10_000);
    for n in 0..40 {
        let outcome = world.put(n, &value(n, key(n), 1, b"x"));
        assert!(
            matches!(
                outcome,
                Outcome::Stored {
                    accepted: 5..,
                    wanted: 5
                }
            ),
            "{n}: {outcome:?}"
        );
    }
    for n in 0..40 {
        let wanted = (n * 11 + 5) % 40;
        let (outcome, values) = world.get(n, key(wanted));
        assert!(
            matches!(outcome, Outcome::Found { count: 1, .. }),
            "{wanted} from {n}"
        );
        assert_eq!(values.len(), 1);
    }
}

#[test]
fn a_newcomer_is_handed_the_records_that_it_should_hold() {
    let mut world = World::joined::<Server>(25);
    world.run_ms(5_000);
    for n in 0..30 {
        world.put(n % 25, &value(n, key(n), 1, b"x"));
    }
    let mut wanted = 0;
    for _ in 0..5 {
        let n = world.add::<Server>();
        world.join(n, 3);
        world.run_ms(5_000);
        let id = world.hosts[n].dht.id();
        let near = (0..30).filter(|&k| world.nearest(key(k), usize::MAX)[..8].contains(&id));
        let near = near.count();
        assert!(
            world.hosts[n].dht.held() >= near,
            "{} of {near}",
            world.hosts[n].dht.held()
        );
        assert_eq!(world.hosts[n].heard.gained, world.hosts[n].dht.held());
        wanted += near;
    }
    assert!(wanted > 20, "the test would prove nothing");
}

#[test]
fn a_node_that_leaves_is_forgotten_and_its_records_are_held_by_the_next() {
    let mut world = World::joined::<Server>(20);
    world.run_ms(5_000);
    for n in 0..20 {
        world.put(n, &value(n, key(n), 1, b"x"));
    }
    let held = |world: &World| -> usize {
        world
            .hosts
            .iter()
            .filter(|host| host.alive)
            .map(|host| host.dht.held())
            .sum()
    };
    assert_eq!(held(&world), 20 * 8);
    let id = world.hosts[4].dht.id();
    let up = |world: &World| world.hosts.iter().map(|host| host.heard.up).sum::<i32>();
    let before = up(&world);
    let query = world.hosts[4].dht.leave(world.now);
    assert_eq!(world.outcome(4, query), Outcome::Left);
    world.hosts[4].alive = false;
    world.run_ms(100);
    assert_eq!(
        held(&world),
        20 * 8,
        "as many copies as before, without the one that left"
    );
    for host in world.hosts.iter().filter(|host| host.alive) {
        assert!(host.dht.peers().iter().all(|entry| entry.contact.id != id));
    }
    assert!(up(&world) <= before, "neighbours were told");
}

#[test]
fn the_death_of_a_third_slows_lookups_by_little_and_loses_nothing() {
    let mut world = World::joined::<Server>(45);
    world.run_ms(5_000);
    for n in 0..45 {
        world.put(n, &value(n, key(n), 1, b"x"));
    }
    for n in (0..45).filter(|n| n % 3 == 1) {
        world.hosts[n].alive = false;
    }
    let mut took_ms = Vec::new();
    for n in (0..45).filter(|n| n % 3 != 1) {
        let begun = world.now;
        let (outcome, values) = world.get(n, key((n * 7) % 45));
        assert_eq!(values.len(), 1, "{outcome:?}");
        took_ms.push(world.now.since_ms(begun));
    }
    took_ms.sort_unstable();
    // A healthy one takes 60 to 80 ms, a time-out 200.
    assert!(
        took_ms[took_ms.len() / 2] <= 280 && took_ms[took_ms.len() - 1] <= 1_000,
        "{took_ms:?}"
    );
}

#[test]
fn two_halves_that_were_apart_find_each_other_again() {
    let mut world = World::joined::<Server>(16);
    world.run_ms(5_000);
    world.apart = true;
    world.run_ms(20 * 60_000);
    for (n, host) in world.hosts.iter().enumerate() {
        let own_half = host.dht.peers().iter().all(|entry| {
            let other = world.index[&entry.contact.addr.to_socket_addr().unwrap()];
            other % 2 == n % 2
        });
        assert!(own_half, "the silent are no contacts");
        assert_eq!(host.dht.peers().len(), 7);
    }
    world.apart = false;
    world.run_ms(10 * 60_000);
    for host in &world.hosts {
        assert_eq!(host.dht.peers().len(), 15);
    }
}

#[test]
fn whoever_is_not_among_the_nearest_any_more_lets_a_record_go_once_they_hold_it() {
    let mut world = World::joined::<Server>(10);
    for k in 0..8 {
        let stored = world.put(k, &value(k, key(k), 1, b"x"));
        assert!(matches!(stored, Outcome::Stored { .. }));
    }
    for _ in 10..40 {
        let n = world.add::<Server>();
        world.join(n, 0);
    }
    let holders = |world: &World, k| {
        let hosts = world.hosts.iter();
        let hold = hosts.filter(|host| host.dht.holds(world.now, &key(k)));
        hold.map(|host| host.dht.id()).collect::<Vec<_>>()
    };
    let before: usize = (0..8).map(|k| holders(&world, k).len()).sum();
    assert!(before > 8 * 9, "newcomers made copies multiply: {before}");
    world.run_ms(5 * 60_000);
    for k in 0..8 {
        let mut held = holders(&world, k);
        let mut nearest = world.nearest(key(k), usize::MAX);
        nearest.truncate(8);
        held.sort_unstable();
        nearest.sort_unstable();
        assert_eq!(held, nearest, "{k}");
    }
    let lost: usize = world.hosts.iter().map(|host| host.heard.lost).sum();
    assert!(lost > 0, "it is told");
}

#[test]
fn nobody_lets_a_record_go_that_the_nearest_do_not_hold() {
    let mut world = World::joined::<Server>(10);
    // Whoever comes hears of the record, and never gets it.
    let stored = world.put(0, &value(0, key(0), 1, b"x"));
    assert!(matches!(stored, Outcome::Stored { .. }));
    let hosts = 0..10;
    let holders: Vec<usize> = hosts
        .filter(|&n| world.hosts[n].dht.holds(world.now, &key(0)))
        .collect();
    for _ in 10..40 {
        let n = world.add::<Server>();
        world.hosts[n].refuses_puts = true;
        world.join(n, 0);
    }
    let mut hold = holders.clone();
    for _ in 0..20 * 60 {
        world.run_ms(1_000);
        let holds = |n: &usize| world.hosts[*n].dht.holds(world.now, &key(0));
        for n in hold.iter().filter(|n| !holds(n)) {
            // Whoever failed to take it is no contact for a while: those count that are.
            let mut nearest: Vec<_> = world.hosts[*n].dht.peers().iter().collect();
            nearest.sort_by_key(|entry| {
                Distance::between(entry.contact.id.as_bytes(), key(0).as_bytes())
            });
            for entry in &nearest[..2] {
                let addr = entry.contact.addr.to_socket_addr().unwrap();
                assert!(holds(&world.index[&addr]), "{n} let it go");
            }
        }
        hold.retain(holds);
    }
    assert!(hold.len() >= 6, "of {}: {}", holders.len(), hold.len());
}
