//! The timeline in small worlds: following, posting, reading, and what happens when machines fail.
//!
//! What must always hold is checked by the world's oracles after every step; the tests below ask only for what each is
//! named after.

#![expect(
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic, and looks at one notice among many"
)]

use std::collections::BTreeSet;

use strandline_core::output::Via;
use strandline_tests::sim::{Chance, Cryptography, HostId, Kind, Notice, Setup, World, mins, secs};

/// A small world in which everyone has joined.
fn network(seed: u64, servers: usize, boards: usize) -> (World, Vec<HostId>) {
    let mut world = World::new(seed);
    let hosts = world.joined(servers, boards);
    (world, hosts)
}

/// Adds a node whose posts others keep for 30 s only.
fn short_lived_author(world: &mut World) -> HostId {
    let author = world.node_with(Setup::new(Kind::Server).named("author").keep(secs(30)));
    world.run_for(secs(10));
    author
}

#[test]
fn twenty_people_follow_one_at_the_same_moment_and_all_are_seen() {
    let (mut world, hosts) = network(1, 22, 8);
    let followed = hosts[0];
    let followers: BTreeSet<_> = (1..=20).map(|n| world.user(hosts[n])).collect();
    let tickets: Vec<_> = (1..=20)
        .map(|n| world.begin_follow(hosts[n], followed))
        .collect();
    for ticket in tickets {
        let ended = world.run_until_done(ticket).outcome();
        assert!(ended.is_some(), "a follow did not end");
    }
    for asker in [followed, hosts[21], hosts[1]] {
        let (listed, complete) = world.followers(asker, followed);
        assert_eq!(listed.len(), 20, "{asker}: nobody twice");
        assert!(complete, "{asker}");
        assert_eq!(
            listed.into_iter().collect::<BTreeSet<_>>(),
            followers,
            "{asker}"
        );
    }
    // A board has room for a few of them, and says that there are more.
    let (listed, complete) = world.followers(hosts[25], followed);
    assert!(!complete && !listed.is_empty());
    assert!(listed.iter().all(|user| followers.contains(user)));
}

#[test]
fn ten_nodes_that_follow_three_each_read_exactly_their_posts() {
    let (mut world, hosts) = network(2, 10, 0);
    for (n, host) in hosts.iter().enumerate() {
        for step in [1, 3, 4] {
            assert!(world.follow(*host, hosts[(n + step) % 10]).stored);
        }
    }
    for round in 1..=5 {
        for host in &hosts {
            assert_eq!(world.post(*host, &format!("{round} by {host}")), round);
        }
    }
    for (n, host) in hosts.iter().enumerate() {
        let read = world.timeline(*host);
        assert_eq!(read.complete, Some(true), "{host}: {:?}", read.missing);
        assert_eq!(read.posts.len(), 20, "{host}");
        for author in [n, (n + 1) % 10, (n + 3) % 10, (n + 4) % 10].map(|n| hosts[n]) {
            let expected: Vec<_> = (1..=5)
                .rev()
                .map(|round| format!("{round} {round} by {author}"))
                .collect();
            assert_eq!(
                read.of(world.user(author)),
                expected,
                "{host} reads {author}"
            );
        }
        for post in &read.posts {
            let own = post.author.user == world.user(*host);
            assert_eq!(post.via, if own { Via::Own } else { Via::Author });
        }
    }
}

#[test]
fn boards_and_servers_read_each_other() {
    let (mut world, hosts) = network(3, 4, 4);
    let (server, board) = (hosts[0], hosts[5]);
    world.follow(server, board);
    world.follow(board, server);
    world.post(server, "by a server");
    world.post(board, "by a board");
    for (reader, author, text) in [
        (server, board, "1 by a board"),
        (board, server, "1 by a server"),
    ] {
        let read = world.timeline(reader);
        assert_eq!(read.complete, Some(true));
        assert_eq!(read.of(world.user(author)), [text]);
    }
}

#[test]
fn a_dead_authors_posts_are_read_from_a_follower_until_they_expire_and_then_missed() {
    let (mut world, hosts) = network(4, 12, 4);
    let author = short_lived_author(&mut world);
    for follower in [hosts[1], hosts[2], hosts[3]] {
        world.follow(follower, author);
    }
    world.post(author, "one");
    world.post(author, "two");
    assert_eq!(world.timeline(hosts[1]).complete, Some(true));
    assert_eq!(world.timeline(hosts[2]).complete, Some(true));
    world.run_for(secs(2));
    world.crash(author);

    let read = world.timeline(hosts[3]);
    assert_eq!(
        read.of(world.user(author)),
        ["2 two", "1 one"],
        "{:?}",
        read.missing
    );
    assert!(
        read.posts
            .iter()
            .all(|post| matches!(post.via, Via::Replica(_)))
    );
    assert_eq!(read.complete, Some(true), "a replica is enough");

    world.run_for(secs(35));
    for reader in [hosts[1], hosts[3]] {
        let read = world.timeline(reader);
        assert!(read.of(world.user(author)).is_empty());
        assert!(read.misses(world.user(author)));
        assert_eq!(read.complete, Some(false));
    }
}

#[test]
fn a_vanished_author_is_read_from_a_follower_too() {
    let (mut world, hosts) = network(5, 12, 0);
    let author = hosts[0];
    for follower in [hosts[1], hosts[2]] {
        world.follow(follower, author);
    }
    world.post(author, "one");
    world.timeline(hosts[1]);
    world.run_for(secs(2));
    world.vanish(author);
    let read = world.timeline(hosts[2]);
    assert_eq!(read.of(world.user(author)), ["1 one"], "{:?}", read.missing);
}

#[test]
fn an_author_returns_with_everything_that_was_acknowledged() {
    for kind in [Kind::Server, Kind::Board] {
        let (mut world, hosts) = network(6, 10, 0);
        let author = world.node(kind);
        world.run_for(secs(10));
        world.follow(author, hosts[1]);
        world.follow(hosts[2], author);
        for text in ["one", "two", "three"] {
            world.post(author, text);
        }
        world.crash(author);
        world.run_for(secs(5));
        world.restart(author);
        world.run_for(secs(10));
        let own = world.timeline(author).of(world.user(author));
        assert_eq!(own, ["3 three", "2 two", "1 one"]);
        assert_eq!(world.post(author, "four"), 4);
        assert_eq!(world.following(author, author).0, [world.user(hosts[1])]);
        assert_eq!(world.followers(author, author).0, [world.user(hosts[2])]);
        let read = world.timeline(hosts[2]);
        assert_eq!(read.of(world.user(author)).len(), 4);
        assert_eq!(read.complete, Some(true));
    }
}

#[test]
fn crashes_at_random_moments_of_posting_lose_nothing_and_repeat_no_number() {
    // The oracles compare every number and every text; forty crashes with several posts under way.
    let (mut world, hosts) = network(7, 6, 0);
    let author = hosts[3];
    for round in 0..40_u64 {
        for n in 0..4 {
            world.begin_post(author, &format!("{round}.{n}"));
            world.run_for(std::time::Duration::from_micros(round * 137 % 3_000));
        }
        world.crash(author);
        world.run_for(secs(1));
        world.restart(author);
        world.run_for(secs(1));
    }
    assert!(
        world.model().last_acked(author) > 10,
        "hardly anything was acknowledged"
    );
    world.post(author, "the last");
    world.timeline(author);
}

#[test]
fn lost_storage_is_recovered_and_numbers_go_on_above_what_was_reserved() {
    let (mut world, hosts) = network(8, 14, 0);
    let author = hosts[3];
    for follower in [hosts[1], hosts[2]] {
        world.follow(follower, author);
    }
    world.follow(author, hosts[5]);
    for text in ["one", "two", "three"] {
        world.post(author, text);
    }
    world.timeline(hosts[1]);
    world.run_for(mins(1));
    world.crash(author);
    world.lose_storage(author);
    world.restart(author);
    world.run_for(mins(1));
    let recovered = world
        .take_notices(author)
        .into_iter()
        .find_map(|notice| match notice {
            Notice::Recovered(next) => Some(next),
            _ => None,
        });
    assert!(recovered.is_some_and(|next| next > 3), "{recovered:?}");
    let next = world.post(author, "after the loss");
    assert_eq!(Some(next), recovered);
    assert_eq!(world.following(author, author).0, [world.user(hosts[5])]);
    let read = world.timeline(hosts[2]);
    assert!(
        read.of(world.user(author))
            .contains(&format!("{next} after the loss"))
    );
}

#[test]
fn a_timeline_contacts_each_of_31_silent_people_once() {
    let mut world = World::with_cryptography(9, Cryptography::StandIn);
    let hosts = world.joined(40, 0);
    let reader = hosts[39];
    for host in &hosts[1..32] {
        assert!(world.follow(reader, *host).stored);
    }
    world.timeline(reader);
    world.run_for(mins(60));
    let before = world.tally().streams;
    let read = world.timeline(reader);
    assert_eq!(read.complete, Some(true), "{:?}", read.missing);
    assert_eq!(world.tally().streams - before, 31);
}

#[test]
fn a_partition_is_read_across_again_once_it_has_healed() {
    let (mut world, hosts) = network(10, 16, 0);
    let (here, there) = (hosts[2], hosts[12]);
    world.follow(here, there);
    world.post(there, "before");
    assert_eq!(world.timeline(here).complete, Some(true));
    world.partition(&hosts[8..]);
    world.run_for(mins(3));
    world.post(there, "during");
    world.heal();
    world.run_for(mins(3));
    let read = world.timeline(here);
    assert_eq!(
        read.of(world.user(there)),
        ["2 during", "1 before"],
        "{:?}",
        read.missing
    );
    assert_eq!(read.complete, Some(true));
}

#[test]
fn a_bad_network_only_makes_it_slower() {
    for seed in 20..24 {
        let mut world = World::new(seed);
        world.network_mut().loss = Chance::percent(5);
        world.network_mut().duplication = Chance::percent(5);
        world.network_mut().reordering = Chance::percent(20);
        let hosts = world.joined(12, 6);
        world.run_for(secs(30));
        for (n, host) in hosts.iter().enumerate() {
            let other = hosts[(n + 7) % hosts.len()];
            assert!(world.follow(*host, other).stored, "seed {seed}");
            world.post(*host, "hello");
        }
        for (n, host) in hosts.iter().enumerate() {
            let other = world.user(hosts[(n + 7) % hosts.len()]);
            let read = world.timeline(*host);
            assert_eq!(
                read.of(other),
                ["1 hello"],
                "seed {seed}, {host}: {:?}",
                read.missing
            );
        }
    }
}

#[test]
fn an_unfollowed_person_is_no_longer_read() {
    let (mut world, hosts) = network(11, 10, 0);
    let (reader, author) = (hosts[1], hosts[2]);
    world.follow(reader, author);
    world.post(author, "one");
    assert_eq!(world.timeline(reader).of(world.user(author)), ["1 one"]);
    world.unfollow(reader, author);
    assert!(world.timeline(reader).of(world.user(author)).is_empty());
    assert!(world.followers(author, author).0.is_empty());
    assert_eq!(
        world.timeline_of(reader, author).of(world.user(author)),
        ["1 one"]
    );
}

#[test]
fn a_post_fails_where_storage_fails_and_nothing_more_is_signed() {
    let (mut world, hosts) = network(12, 6, 0);
    let author = hosts[2];
    world.post(author, "one");
    world.storage_mut(author).failing = true;
    let ticket = world.begin_post(author, "two");
    let failed = world.run_until_done(ticket).outcome();
    assert_eq!(
        failed,
        Some(strandline_core::output::Outcome::StorageFailed)
    );
    let ticket = world.begin_post(author, "three");
    world.run_for(secs(1));
    assert!(world.answer(ticket).outcome().is_none(), "refused");
    assert!(world.take_notices(author).contains(&Notice::StorageFailed));
    world.storage_mut(author).failing = false;
    world.crash(author);
    world.restart(author);
    assert_eq!(world.timeline(author).of(world.user(author)), ["1 one"]);
    world.post(author, "four");
}
