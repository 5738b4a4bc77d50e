//! People on a network: names, followers, returns. What one node's tables cannot show.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;

use strandline_core::config::Durability;
use strandline_core::id::UserId;
use strandline_core::output::{ChosenBy, Outcome, Relation, Via};
use strandline_tests::sim::{
    Answer, Command, Cryptography, HostId, Kind, Notice, Setup, World, mins, secs,
};

fn claimants(answer: &Answer) -> Vec<(UserId, bool)> {
    let people = answer
        .people
        .iter()
        .filter_map(|(person, relation)| match relation {
            Relation::Claimant { taken, .. } => Some((person.user, *taken)),
            Relation::Follower | Relation::Followed | Relation::Holder { .. } => None,
        });
    people.collect()
}

fn check(world: &World) {
    assert!(world.failures().is_empty(), "{:?}", world.failures());
}

/// A world of servers, with `named` among them under one name.
fn namesakes(
    seed: u64,
    others: usize,
    name: &'static str,
    named: usize,
) -> (World, Vec<HostId>, Vec<HostId>) {
    let mut world = World::with_cryptography(seed, Cryptography::StandIn);
    let hosts = world.joined(others, 0);
    let mut setup = Setup::new(Kind::Server);
    setup.name = Some(name);
    let named = (0..named).map(|_| world.node_with(setup.clone())).collect();
    world.run_for(secs(20));
    (world, hosts, named)
}

#[test]
fn twenty_follow_one_at_the_same_moment_and_all_are_listed() {
    let mut world = World::new(20);
    let hosts = world.joined(30, 0);
    let tickets: Vec<_> = (1..=20)
        .map(|n| world.begin_follow(hosts[n], hosts[0]))
        .collect();
    for ticket in tickets {
        let outcome = world.run_until_done(ticket).outcome();
        assert!(
            matches!(outcome, Some(Outcome::Followed { accepted, wanted, .. }) if accepted >= wanted),
            "{outcome:?}"
        );
    }
    let all: BTreeSet<_> = (1..=20).map(|n| world.user(hosts[n])).collect();
    for asker in [hosts[0], hosts[5], hosts[29]] {
        let (listed, complete) = world.followers(asker, hosts[0]);
        assert_eq!(listed.len(), 20);
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), all);
        assert!(complete);
    }
    check(&world);
}

#[test]
fn many_followers_spill_over_and_are_all_found() {
    let mut world = World::with_cryptography(21, Cryptography::StandIn);
    let hosts = world.joined(250, 0);
    let tickets: Vec<_> = (1..250)
        .map(|n| world.begin_follow(hosts[n], hosts[0]))
        .collect();
    for ticket in tickets {
        world.run_until_done(ticket);
    }
    let (listed, complete) = world.followers(hosts[7], hosts[0]);
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>().len(), 249);
    assert!(complete);
    check(&world);
}

#[test]
fn two_of_one_name_are_both_listed_and_nobody_is_followed_by_mistake() {
    let (mut world, hosts, alices) = namesakes(22, 20, "alice", 2);
    let both: BTreeSet<_> = alices.iter().map(|host| world.user(*host)).collect();
    let answer = world.whois(hosts[3], "alice");
    let listed = claimants(&answer);
    assert_eq!(
        listed
            .iter()
            .map(|(user, _)| *user)
            .collect::<BTreeSet<_>>(),
        both
    );
    assert_eq!(
        listed.iter().map(|(_, taken)| *taken).collect::<Vec<_>>(),
        [true, false]
    );
    let Ok(alice) = strandline_core::name::Handle::parse("alice") else {
        panic!("a handle");
    };
    let refused = world.run(hosts[3], &Command::Follow(alice), None);
    assert_eq!(refused.outcome(), Some(Outcome::Ambiguous));
    assert_eq!(world.following(hosts[3], hosts[3]).0, []);
    for host in &alices {
        assert!(world.follow(hosts[3], *host).stored);
    }
    // The first one followed is what the bare name means from now on.
    let answer = world.whois(hosts[3], "alice");
    assert_eq!(claimants(&answer)[0], (world.user(alices[0]), true));
    assert_eq!(
        answer.profile.map(|profile| profile.chosen_by),
        Some(ChosenBy::Pin)
    );
    check(&world);
}

#[test]
fn squatters_keep_nobody_from_the_real_one() {
    let (mut world, hosts, alices) = namesakes(23, 10, "alice", 120);
    let real = alices[60];
    assert!(world.follow(hosts[3], real).stored);
    assert_eq!(world.following(hosts[3], hosts[3]).0, [world.user(real)]);
    check(&world);
}

#[test]
fn unfollowing_is_seen_by_others() {
    let mut world = World::new(24);
    let hosts = world.joined(12, 0);
    world.follow(hosts[1], hosts[0]);
    world.follow(hosts[2], hosts[0]);
    world.unfollow(hosts[1], hosts[0]);
    assert_eq!(
        world.followers(hosts[5], hosts[0]).0,
        [world.user(hosts[2])]
    );
    world.run_for(secs(5));
    assert_eq!(world.following(hosts[5], hosts[1]).0, []);
    assert_eq!(
        world.following(hosts[5], hosts[2]).0,
        [world.user(hosts[0])]
    );
    check(&world);
}

#[test]
fn a_killed_author_goes_on_where_it_was() {
    let mut world = World::new(25);
    let hosts = world.joined(12, 0);
    for n in 1..=3 {
        world.follow(hosts[0], hosts[n]);
        world.follow(hosts[n], hosts[0]);
    }
    for n in 1..=5 {
        assert_eq!(world.post(hosts[0], &format!("post {n}")), n);
    }
    world.crash(hosts[0]);
    world.run_for(secs(3));
    world.restart(hosts[0]);
    world.run_for(secs(10));
    assert_eq!(world.post(hosts[0], "again"), 6);
    assert_eq!(world.following(hosts[0], hosts[0]).0.len(), 3);
    assert_eq!(world.followers(hosts[0], hosts[0]).0.len(), 3);
    let read = world.timeline(hosts[1]);
    assert_eq!(read.of(world.user(hosts[0])).len(), 6);
    check(&world);
}

fn recovered(world: &mut World, host: HostId) -> Vec<u64> {
    let mut told = Vec::new();
    for notice in world.take_notices(host) {
        if let Notice::Recovered(next) = notice {
            told.push(next);
        }
    }
    told
}

#[test]
fn lost_storage_is_recovered_from_the_network() {
    let mut world = World::new(26);
    let hosts = world.joined(12, 0);
    world.follow(hosts[0], hosts[4]);
    for n in 1..=3 {
        world.follow(hosts[n], hosts[0]);
    }
    for n in 1..=5 {
        world.post(hosts[0], &format!("post {n}"));
    }
    assert_eq!(world.timeline(hosts[1]).posts.len(), 5);
    world.crash(hosts[0]);
    world.lose_storage(hosts[0]);
    world.run_for(secs(3));
    world.restart(hosts[0]);
    let early = world.begin_post(hosts[0], "too early");
    world.run_for(secs(60));
    assert_ne!(
        world
            .answer(early)
            .outcome()
            .map(|o| matches!(o, Outcome::Posted { .. })),
        Some(true)
    );
    let next = recovered(&mut world, hosts[0]);
    assert_eq!(next.len(), 1);
    assert!(next[0] > 65, "above everything reserved: {next:?}");
    assert_eq!(world.post(hosts[0], "after"), next[0]);
    assert_eq!(
        world.following(hosts[0], hosts[0]).0,
        [world.user(hosts[4])]
    );
    // Somebody who never read before gets everything, from the author itself.
    let read = world.timeline_of(hosts[7], hosts[0]);
    let texts: Vec<_> = read.posts.iter().map(|post| post.text.as_str()).collect();
    assert_eq!(
        texts,
        ["after", "post 5", "post 4", "post 3", "post 2", "post 1"]
    );
    assert!(read.posts.iter().all(|post| post.via == Via::Author));
    check(&world);
}

#[test]
fn a_board_without_storage_acknowledges_what_others_hold_and_recovers_it() {
    let mut world = World::new(27);
    let hosts = world.joined(12, 0);
    let mut setup = Setup::new(Kind::Board);
    setup.durability = Durability::Holders(1);
    let board = world.node_with(setup);
    world.run_for(secs(20));
    world.follow(hosts[1], board);
    let ticket = world.begin_post(board, "hello");
    world.run_for(secs(5));
    assert_eq!(world.answer(ticket).outcome(), None, "nobody has it yet");
    assert_eq!(world.timeline(hosts[1]).posts.len(), 1);
    world.run_for(secs(5));
    assert!(matches!(
        world.answer(ticket).outcome(),
        Some(Outcome::Posted { seq: 1, .. })
    ));
    world.crash(board);
    world.lose_storage(board);
    world.restart(board);
    world.run_for(mins(1));
    assert_eq!(recovered(&mut world, board).len(), 1);
    let read = world.timeline_of(hosts[5], board);
    assert_eq!(read.of(world.user(board)).len(), 1, "{read:?}");
    check(&world);
}
