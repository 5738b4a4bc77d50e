//! Stacks on a virtual Ethernet, or on links that carry IP packets: whole nodes, with the real core, no sockets and no
//! sleeping. What is not built in by default is here too: this package depends on itself for its tests.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic, and looks at the events that it is about"
)]

mod card;
mod dhcp;
mod frames;
mod leases;
mod media;
mod router;
mod station;
mod time;
mod tree;
mod world;

use std::net::IpAddr;

use strandline_core::output::{Outcome, Via};

use station::{Own, handle, name};
use world::World;

/// `reader` follows `author`.
fn follow(world: &mut World, reader: usize, author: usize) {
    let query = world.command(reader, |now, node| {
        node.follow(now, &handle(author), 10_000).unwrap()
    });
    let outcome = world.outcome(reader, query);
    assert!(
        matches!(outcome, Outcome::Followed { accepted, wanted, .. } if accepted >= wanted),
        "{outcome:?}"
    );
}

/// The texts that `reader` reads of everyone it follows, and whether that was all.
fn timeline(world: &mut World, reader: usize) -> (Vec<(String, String, Via)>, bool) {
    let query = world.command(reader, |now, node| {
        node.timeline(now, None, 10_000).unwrap()
    });
    let outcome = world.outcome(reader, query);
    let Outcome::Read { complete } = outcome else {
        panic!("{outcome:?}");
    };
    let posts = &world.stations[reader].stack.application().posts;
    let of_query = posts.iter().filter(|(of, ..)| *of == query);
    let posts = of_query.map(|(_, author, text, via)| (author.clone(), text.clone(), *via));
    (posts.collect(), complete)
}

#[test]
fn two_nodes_join_follow_post_and_read() {
    let mut world = World::joined(2);
    follow(&mut world, 1, 0);
    let query = world.command(0, |now, node| node.post(now, "low tide at six").unwrap());
    let (posts, complete) = timeline(&mut world, 1);
    assert_eq!(posts, [(name(0), "low tide at six".into(), Via::Author)]);
    assert!(complete);
    // Durable now that another holds it.
    let outcome = world.outcome(0, query);
    assert!(
        matches!(outcome, Outcome::Posted { seq: 1, .. }),
        "{outcome:?}"
    );
}

#[test]
fn a_lossy_link_delays_and_loses_nothing() {
    let mut world = World::joined(3);
    world.weather.loss = 10;
    follow(&mut world, 1, 0);
    // As many as a board may have that nobody has confirmed.
    let texts: Vec<String> = (0..2).map(|n| format!("{n} {}", "x".repeat(500))).collect();
    for text in &texts {
        world.command(0, |now, node| node.post(now, text).unwrap());
    }
    // A handshake that takes longer than a second is given up: then it is read again.
    let posts = (0..5).find_map(|_| {
        let (posts, complete) = timeline(&mut world, 1);
        world.run_for_ms(5_000);
        complete.then_some(posts)
    });
    let mut read: Vec<String> = posts
        .unwrap()
        .into_iter()
        .map(|(_, text, _)| text)
        .collect();
    read.sort();
    assert_eq!(read, texts);
}

/// Reads what one station posted when so many requests for a stream are lost: the posts, whether that was all, and how long
/// it took in ms.
fn read_with_lost_requests(requests: usize) -> (Vec<(String, String, Via)>, bool, u64) {
    let mut world = World::joined(2);
    follow(&mut world, 1, 0);
    world.command(0, |now, node| node.post(now, "ebb").unwrap());
    // No stream is open any more, and the reader has not yet read of its own accord.
    world.run_for_ms(40_000);
    world.weather.lost_requests = requests;
    let began = world.now;
    let (posts, complete) = timeline(&mut world, 1);
    assert!(
        world.weather.lost_requests < requests,
        "a stream was opened"
    );
    (posts, complete, world.now.since_ms(began))
}

#[test]
fn a_lost_request_for_a_stream_is_repeated_before_the_stream_is_given_up() {
    let (posts, complete, took_ms) = read_with_lost_requests(1);
    assert_eq!(posts, [(name(0), "ebb".into(), Via::Author)]);
    assert!(complete && took_ms < 1_000, "it took {took_ms} ms");
}

#[test]
fn one_who_answers_no_request_for_a_stream_costs_a_read_little_time() {
    let (posts, complete, took_ms) = read_with_lost_requests(usize::MAX);
    assert_eq!((posts, complete), (Vec::new(), false));
    assert!(took_ms < 3_000, "it took {took_ms} ms");
}

#[test]
fn a_stream_that_is_full_goes_on_when_there_is_room() {
    let mut world = World::joined(3);
    follow(&mut world, 1, 0);
    let texts: Vec<String> = (0..2).map(|n| format!("{n} {}", "y".repeat(450))).collect();
    for text in &texts {
        let query = world.command(0, |now, node| node.post(now, text).unwrap());
        assert!(timeline(&mut world, 1).1);
        let outcome = world.outcome(0, query);
        assert!(matches!(outcome, Outcome::Posted { .. }), "{outcome:?}");
    }
    // Somebody who has nothing of it yet: more than the buffers of a connection hold at a time.
    follow(&mut world, 2, 0);
    let (posts, complete) = timeline(&mut world, 2);
    let mut read: Vec<String> = posts.into_iter().map(|(_, text, _)| text).collect();
    read.sort();
    assert_eq!(read, texts);
    assert!(complete);
}

#[test]
fn posts_of_one_that_is_gone_come_from_a_follower() {
    let mut world = World::joined(3);
    follow(&mut world, 1, 0);
    follow(&mut world, 2, 0);
    world.command(0, |now, node| node.post(now, "kept").unwrap());
    assert!(timeline(&mut world, 1).1);
    world.run_for_ms(20_000);
    world.set_up(0, false);
    let (posts, complete) = timeline(&mut world, 2);
    let keeper = strandline_core::name::Name::parse(&name(1)).unwrap();
    assert_eq!(posts, [(name(0), "kept".into(), Via::Replica(keeper))]);
    assert!(complete);
}

#[test]
fn a_flood_of_half_open_connections_leaves_a_listener() {
    let mut world = World::joined(2);
    follow(&mut world, 1, 0);
    for n in 0..60 {
        let syn = frames::syn(100 + n, 0);
        world.inject(0, syn);
        world.poll(0);
    }
    assert!(world.stations[0].stack.counters().connections_refused >= 50);
    world.command(0, |now, node| node.post(now, "still here").unwrap());
    let began = world.now;
    let (posts, complete) = timeline(&mut world, 1);
    assert_eq!(posts, [(name(0), "still here".into(), Via::Author)]);
    assert!(complete);
    // It did not wait for the address of one of those who do not exist.
    let took_ms = world.now.since_ms(began);
    assert!(took_ms < 500, "it took {took_ms} ms");
}

#[test]
fn a_storm_of_questions_for_the_address_leaves_those_who_talk_to_it_known() {
    storm(World::joined(2), frames::who_has);
}

/// `who_has` asks for a station's hardware address, in the name of one that does not exist.
fn storm(mut world: World, who_has: impl Fn(usize, usize) -> Vec<u8>) {
    follow(&mut world, 1, 0);
    let query = world.command(0, |now, node| node.post(now, "calm").unwrap());
    timeline(&mut world, 1);
    world.outcome(0, query);
    for round in 0..20 {
        world.run_for_ms(500);
        for n in 0..100 {
            world.inject(0, who_has(100 + n, 0));
            world.poll(0);
        }
        let began = world.now;
        let (posts, complete) = timeline(&mut world, 1);
        assert_eq!(posts, [(name(0), "calm".into(), Via::Author)]);
        assert!(complete);
        let took_ms = world.now.since_ms(began);
        assert!(took_ms < 100, "round {round} took {took_ms} ms");
    }
}

#[test]
fn an_address_that_nobody_answers_for_holds_up_nobody_else() {
    beside_the_absent(World::joined(2), station::ip_of(90).into());
}

/// Nobody has the address `absent`.
fn beside_the_absent(mut world: World, absent: IpAddr) {
    follow(&mut world, 1, 0);
    world.command(0, |now, node| node.post(now, "hello").unwrap());
    world.command(1, |now, node| {
        node.join(now, (absent, station::PORT).into(), 20_000)
            .unwrap()
    });
    let began = world.now;
    let (posts, complete) = timeline(&mut world, 1);
    assert!(complete && posts.len() == 1, "{posts:?}");
    let took_ms = world.now.since_ms(began);
    assert!(took_ms < 500, "it took {took_ms} ms");
    world.run_for_ms(5_000);
    assert!(world.stations[1].stack.counters().datagrams_lost > 0);
}

#[test]
fn junk_of_any_kind_is_dropped_and_the_node_goes_on() {
    let mut world = World::joined(2);
    follow(&mut world, 1, 0);
    for n in 0..2_000_usize {
        // Random bytes, cut and stretched frames, and broadcasts; none makes it spin or stop.
        world.inject(0, frames::junk(n, |from| frames::syn(from, 0)));
        if n % 7 == 0 {
            world.poll(0);
        }
    }
    world.poll(0);
    world.command(0, |now, node| node.post(now, "unmoved").unwrap());
    let (posts, complete) = timeline(&mut world, 1);
    assert_eq!(posts.len(), 1);
    assert!(complete);
}

#[test]
fn without_traffic_it_sleeps() {
    asleep(World::joined(3));
}

fn asleep(mut world: World) {
    world.run_for_ms(120_000);
    let before = world.polls;
    let minutes = 30;
    world.run_for_ms(minutes * 60_000);
    let per_minute =
        (world.polls - before) / minutes / u64::try_from(world.stations.len()).unwrap();
    assert!(per_minute <= 12, "{per_minute} wake-ups a minute");
}

#[test]
fn the_time_server_sets_the_clock_and_is_asked_again() {
    let mut world = World::with_time_server(&[Own::V4]);
    let station = &world.stations[0].stack;
    assert_eq!(
        station.node().unix_ms(world.now).unwrap().0,
        station::START_UNIX_MS
    );
    world.run_for_ms(5_000);
    for minutes in [0, 1, 10] {
        world.run_for_ms(minutes * 60_000);
        let (unix_ms, uncertainty_ms) = world.stations[0].stack.node().unix_ms(world.now).unwrap();
        let error_ms = unix_ms.abs_diff(world.unix_ms());
        assert!(
            error_ms <= u64::from(uncertainty_ms) && uncertainty_ms < 50,
            "{error_ms} {uncertainty_ms}"
        );
    }
    // Once at the start and once a minute, with some jitter.
    assert!(
        (10..=13).contains(&world.asked),
        "asked {} times",
        world.asked
    );
}

#[test]
fn an_application_acts_on_what_it_heard() {
    let mut world = World::joined(2);
    follow(&mut world, 1, 0);
    let author = world.stations[0].stack.application();
    author.ended.clear();
    author.to_post = Some("joined, and here");
    world.poll(0);
    assert!(
        timeline(&mut world, 1).0.is_empty(),
        "it was told nothing yet"
    );
    world.command(0, |now, node| node.register(now, 10_000).unwrap());
    world.run_for_ms(2_000);
    let (posts, _) = timeline(&mut world, 1);
    assert_eq!(posts[0].1, "joined, and here");
}

#[test]
fn an_author_that_was_missed_is_asked_again_by_the_next_refresh() {
    let mut world = World::joined(3);
    follow(&mut world, 1, 0);
    let query = world.command(0, |now, node| node.post(now, "before").unwrap());
    timeline(&mut world, 1);
    world.outcome(0, query);
    // It is away for a moment, in which it is missed: a sighting says so for two minutes.
    world.set_up(0, false);
    let (posts, _) = timeline(&mut world, 1);
    let keeper = strandline_core::name::Name::parse(&name(1)).unwrap();
    assert_eq!(posts, [(name(0), "before".into(), Via::Replica(keeper))]);
    world.set_up(0, true);
    let query = world.command(0, |now, node| node.post(now, "after").unwrap());
    // Whoever follows it reads it unasked once a minute, and confirms what it then holds.
    world.run_for_ms(75_000);
    let outcome = world.ended(0, query);
    assert!(
        matches!(outcome, Some(Outcome::Posted { seq: 2, .. })),
        "{outcome:?}"
    );
}
