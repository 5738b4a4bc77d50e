//! One person with many followers and many posts: all are found, and no record outgrows a datagram.

use std::collections::BTreeSet;

use strandline_core::wire::DATAGRAM_LEN_MAX;
use strandline_tests::sim::{Cryptography, World, secs};

/// Lets `count` people follow one, some at a time, and asks somebody who follows that one.
fn all_followers_are_listed(count: usize) {
    let mut world = World::with_cryptography(1, Cryptography::StandIn);
    let hosts = world.joined(count + 1, 0);
    let (Some((&followed, followers)), Some(&asker)) = (hosts.split_first(), hosts.last()) else {
        return;
    };
    let expected: BTreeSet<_> = followers.iter().map(|host| world.user(*host)).collect();
    for some in followers.chunks(250) {
        for follower in some {
            world.begin_follow(*follower, followed);
        }
        world.run_for(secs(5));
    }
    world.within_ms = 60_000;
    let (listed, complete) = world.followers(asker, followed);
    assert_eq!(listed.len(), count, "nobody twice");
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(complete);
    assert!(world.tally().datagram_len_max <= DATAGRAM_LEN_MAX);
}

#[test]
fn a_thousand_and_two_hundred_followers_of_one_are_all_listed() {
    // The original design lost followers from 160 on: one record for all of them. Here a key and its sixteen shards
    // hold 1,088 at each holder; what is more lies two levels deep.
    all_followers_are_listed(1_200);
}

/// `cargo test --release -p strandline-tests --test sim_scale -- --ignored`
#[test]
#[ignore = "it takes five to ten minutes in release, and 1.5 GB"]
fn ten_thousand_followers_of_one_are_all_listed() {
    all_followers_are_listed(10_000);
}

#[test]
fn a_thousand_posts_of_one_are_all_read() {
    // The original design broke at 36 kept posts.
    let mut world = World::with_cryptography(2, Cryptography::StandIn);
    let hosts = world.joined(12, 0);
    let [author, reader, late, ..] = *hosts.as_slice() else {
        return;
    };
    world.within_ms = 60_000;
    world.follow(reader, author);
    world.follow(late, author);
    for n in 1..=1_000 {
        assert_eq!(world.post(author, &format!("post {n}")), n);
    }
    world.run_for(secs(2)); // A head is signed anew at most once a second.
    let expected: Vec<_> = (1..=1_000).rev().map(|n| format!("{n} post {n}")).collect();
    let read = world.timeline(reader);
    assert_eq!(read.complete, Some(true), "{:?}", read.missing);
    assert!(
        read.of(world.user(author)) == expected,
        "{} posts",
        read.posts.len()
    );
    world.run_for(secs(5));
    world.crash(author);
    let read = world.timeline(late);
    assert!(
        read.of(world.user(author)) == expected,
        "{} kept posts",
        read.posts.len()
    );
    assert!(world.tally().datagram_len_max <= DATAGRAM_LEN_MAX);
}
