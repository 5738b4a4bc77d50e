//! Reads over the get tree, from end to end but for the DHT and the sockets.

#![cfg(feature = "alloc")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

mod by_hand;
mod world;

use std::collections::BTreeSet;

use strandline_core::crypto::Ed25519;
use strandline_core::id::UserId;
use strandline_core::output::{Unreached, Via};
use strandline_core::plan::{Board, Plan, Server};
use strandline_core::rng::{Rng, Seed};
use strandline_core::rules::Rule;
use strandline_core::wire::frame::Frame;
use strandline_core::wire::post::{Draft, Post, PostKind};
use strandline_core::wire::{FRAME_PREFIX_LEN, POST_LEN_MAX};
use world::{Health, Told, World, name, user};

/// A reader, number 0, who follows `n` others, each of whom has posted once.
fn reader_of(n: usize, fanout: u8) -> World<Server> {
    let mut world = World::new(n + 1, fanout);
    for other in 1..=n {
        world.follow(0, other);
        world.post(other, &format!("from {other}"));
    }
    world.publish_profiles(|_| 1);
    world
}

fn authors(told: &Told) -> BTreeSet<UserId> {
    told.posts.iter().map(|post| post.author).collect()
}

fn users(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<UserId> {
    numbers.into_iter().map(user).collect()
}

/// Everybody in `numbers` was read, live, with one post each, and nobody is missing.
fn assert_all_live(told: &Told, numbers: std::ops::RangeInclusive<usize>) {
    assert_eq!(told.missing, []);
    assert_eq!(told.complete, Some(true));
    assert_eq!(told.posts.len(), numbers.clone().count());
    assert_eq!(authors(told), users(numbers));
    assert!(told.posts.iter().all(|post| post.via == Via::Author));
}

#[test]
fn a_tree_of_fanout_two_reads_fifteen_people_through_two_streams() {
    let mut world = reader_of(15, 2);
    let told = world.read_to_end(0, 10_000);
    assert_all_live(&told, 1..=15);
    for n in 1..=15 {
        assert_eq!(world.people[n].contacts, 1, "p{n} is asked once");
        assert_eq!(
            world.people[n].state.dropped.total(),
            0,
            "p{n} saw no wrong"
        );
    }
    assert_eq!(world.people[0].state.dropped.total(), 0);
}

#[test]
fn thirty_one_silent_authors_are_contacted_once_each() {
    let mut world = reader_of(31, 3);
    world.read_to_end(0, 10_000);
    // An hour without a post. Profiles, copies and follow records hold.
    world.run_for(60 * 60 * 1_000 - 60_000);
    for person in &mut world.people {
        person.contacts = 0;
    }
    let told = world.read_to_end(0, 10_000);
    assert_all_live(&told, 1..=31);
    let contacts: usize = world.people.iter().map(|person| person.contacts).sum();
    assert_eq!(contacts, 31);
}

#[test]
fn nobody_to_read_is_a_complete_read_of_own_posts() {
    let mut world = World::<Server>::new(1, 3);
    world.post(0, "first");
    world.post(0, "second");
    let told = world.read_to_end(0, 1_000);
    let shown: Vec<_> = told
        .posts
        .iter()
        .map(|p| (p.seq, p.text.as_str(), p.via))
        .collect();
    assert_eq!(shown, [(2, "second", Via::Own), (1, "first", Via::Own)]);
    assert_eq!(told.complete, Some(true));
}

#[test]
fn a_second_read_shows_old_and_new_posts_newest_first() {
    let mut world = reader_of(3, 2);
    world.read_to_end(0, 10_000);
    world.post(2, "again");
    world.post(2, "and again");
    let told = world.read_to_end(0, 10_000);
    let second: Vec<_> = told
        .posts
        .iter()
        .filter(|p| p.author == user(2))
        .map(|p| (p.seq, p.via))
        .collect();
    assert_eq!(
        second,
        [(3, Via::Author), (2, Via::Author), (1, Via::Author)]
    );
    assert_eq!(told.posts.len(), 5);
    assert_eq!(told.complete, Some(true));
}

#[test]
fn a_dead_child_is_replaced_and_only_it_is_missing() {
    for health in [Health::Dead, Health::Silent] {
        let mut world = reader_of(15, 2);
        // The one with the fewest followers is asked first.
        world.records.clear();
        world.publish_profiles(|n| if n == 3 { 0 } else { 5 });
        world.kill(3, health);
        let told = world.read_to_end(0, 10_000);
        assert_eq!(
            told.missing,
            [(user(3), Unreached::NoConnection)],
            "{health:?}"
        );
        assert_eq!(told.complete, Some(false));
        assert_eq!(authors(&told), users((1..=15).filter(|n| *n != 3)));
        assert_eq!(world.people[3].contacts, 1);
        assert_eq!(world.people[0].missed, [user(3)]);
    }
}

#[test]
fn a_child_that_stalls_with_its_share_is_replaced() {
    let mut world = reader_of(7, 1);
    world.records.clear();
    world.publish_profiles(|n| u32::from(n != 4));
    world.read(0, 10_000);
    // The first child has its request and its share, and then falls silent.
    world.run_for(14);
    world.kill(4, Health::Silent);
    let start = world.now;
    let told = world.run_until_told(0, start, 10_000);
    assert!(
        authors(&told).is_superset(&users([1, 2, 3, 5, 6, 7])),
        "{told:?}"
    );
    assert_eq!(world.people[0].missed, [user(4)]);
}

#[test]
fn dead_leaves_do_not_use_up_promotions() {
    let mut world = reader_of(12, 6);
    for leaf in [7, 8, 9, 10, 11, 12] {
        world.kill(leaf, Health::Dead);
    }
    world.records.clear();
    world.publish_profiles(|n| u32::try_from(n).unwrap());
    let told = world.read_to_end(0, 10_000);
    assert_eq!(authors(&told), users(1..=6));
    assert_eq!(told.missing.len(), 6);
    for n in 1..=6 {
        assert_eq!(world.people[n].contacts, 1);
    }
}

#[test]
fn when_all_are_dead_each_is_tried_once_and_named() {
    let mut world = reader_of(20, 2);
    for n in 1..=20 {
        world.kill(n, Health::Dead);
    }
    let told = world.read_to_end(0, 10_000);
    assert_eq!(told.complete, Some(false));
    assert_eq!(told.posts, []);
    let missing: BTreeSet<_> = told.missing.iter().map(|(user, _)| *user).collect();
    assert_eq!(missing, users(1..=20));
    assert_eq!(told.missing.len(), 20);
    for n in 1..=20 {
        assert_eq!(world.people[n].contacts, 1, "p{n}");
    }
}

#[test]
fn when_all_are_silent_the_read_ends_by_its_deadline() {
    let mut world = reader_of(20, 2);
    for n in 1..=20 {
        world.kill(n, Health::Silent);
    }
    let told = world.read_to_end(0, 5_000);
    assert_eq!(told.complete, Some(false));
    assert_eq!(told.missing.len(), 20);
}

#[test]
fn whoever_does_not_know_the_reader_answers_for_itself_only() {
    let mut world = reader_of(9, 3);
    // Nobody has heard of the follower: their records expired.
    let mut strangers = World::<Server>::new(10, 3);
    for n in 1..=9 {
        assert!(strangers.people[0].state.people.follow(user(n), name(n)));
        strangers.post(n, "hello");
    }
    strangers.publish_profiles(|_| 1);
    let told = strangers.read_to_end(0, 10_000);
    assert_all_live(&told, 1..=9);
    let refused: u32 = (1..=9)
        .map(|n| strangers.dropped(n, Rule::NotFollowing))
        .sum();
    assert!(refused >= 3, "{refused}");
    // Among followers there is no such thing.
    assert_all_live(&world.read_to_end(0, 10_000), 1..=9);
}

#[test]
fn a_read_of_somebody_not_followed_keeps_no_copies() {
    let mut world = World::<Server>::new(2, 3);
    world.post(1, "one");
    world.post(1, "two");
    world.publish_profiles(|_| 0);
    let start = world.now;
    world.read_one(0, 1, 5_000);
    let told = world.run_until_told(0, start, 5_000);
    assert_eq!(told.complete, Some(true));
    assert_eq!(
        told.posts.iter().map(|post| post.seq).collect::<Vec<_>>(),
        [2, 1]
    );
    assert!(world.people[0].state.copies.is_empty());
}

#[test]
fn a_replica_serves_the_posts_of_a_dead_author_until_they_expire() {
    let mut world = World::<Server>::with(3, |config| config.keep_ms = 30_000);
    for reader in [0, 1] {
        world.follow(reader, 2);
    }
    world.post(2, "kept");
    world.post(2, "kept too");
    world.publish_profiles(|_| 2);
    // Person 1 has read, person 0 has not.
    world.read_to_end(1, 5_000);
    world.run_for(1_000);
    world.kill(2, Health::Dead);
    let told = world.read_to_end(0, 5_000);
    let shown: Vec<_> = told.posts.iter().map(|post| (post.seq, post.via)).collect();
    let via = Via::Replica(name(1));
    assert_eq!(shown, [(2, via), (1, via)]);
    assert_eq!(told.complete, Some(true));
    // The copy of the copy: the reader's own, with what was left of its time.
    world.kill(1, Health::Dead);
    let told = world.read_to_end(0, 5_000);
    let own = Via::Replica(name(0));
    assert_eq!(
        told.posts.iter().map(|post| post.via).collect::<Vec<_>>(),
        [own, own]
    );
    world.run_for(30_000);
    let told = world.read_to_end(0, 5_000);
    assert_eq!(told.posts, []);
    assert_eq!(told.missing.len(), 1);
    assert_eq!(told.complete, Some(false));
}

#[test]
fn an_author_learns_who_holds_its_posts() {
    let mut world = reader_of(2, 3);
    world.read_to_end(0, 5_000);
    world.run_for(100);
    let now = world.now;
    for n in [1, 2] {
        let holders: Vec<_> = world.people[n]
            .state
            .people
            .holders(now)
            .map(|holder| holder.user)
            .collect();
        assert_eq!(holders, [user(0)], "p{n}");
    }
}

#[test]
fn a_forged_post_is_not_shown_and_its_sender_is_dropped() {
    let mut world = reader_of(3, 3);
    // One letter of every text that this person sends is changed.
    world.people[2].tamper = Some(Box::new(|frame| {
        let mut frame = frame.to_vec();
        if let Some(at) = frame.windows(6).position(|part| part == b"from 2") {
            frame[at] = b'F';
        }
        frame
    }));
    let told = world.read_to_end(0, 5_000);
    assert_eq!(authors(&told), users([1, 3]));
    assert_eq!(told.missing, [(user(2), Unreached::Invalid)]);
    assert_eq!(world.dropped(0, Rule::Chain), 1);
}

#[test]
fn a_forged_head_is_not_believed() {
    let mut world = reader_of(3, 3);
    world.people[2].tamper = Some(Box::new(|frame| {
        let mut frame = frame.to_vec();
        // Version, network, then the tag of `Head`.
        if frame[2 + 5] == 5 {
            let last = frame.len() - 10;
            frame[last] ^= 1;
        }
        frame
    }));
    let told = world.read_to_end(0, 5_000);
    assert_eq!(authors(&told), users([1, 3]));
    assert_eq!(told.missing, [(user(2), Unreached::Invalid)]);
    assert_eq!(world.dropped(0, Rule::Signature), 1);
}

/// Person 5 relays for all others, and passes on what `tamper` makes of it.
fn read_through_a_bad_relay(tamper: fn(&[u8]) -> Vec<u8>) -> (World<Server>, Told) {
    let mut world = reader_of(6, 1);
    world.records.clear();
    world.publish_profiles(|n| u32::from(n != 5));
    world.people[5].tamper = Some(Box::new(tamper));
    let told = world.read_to_end(0, 10_000);
    assert_all_live(&told, 1..=6);
    assert!(told.posts.iter().all(|post| post.text.starts_with("from")));
    (world, told)
}

#[test]
fn a_relay_that_rewrites_posts_loses_its_say_about_them() {
    let (world, _) = read_through_a_bad_relay(|frame| {
        let body = &frame[FRAME_PREFIX_LEN..];
        let Ok(Frame::Post { post }) = Frame::decode(body, world::NETWORK) else {
            return frame.to_vec();
        };
        let post = Post::decode::<Ed25519>(post).unwrap();
        if post.header.user == user(5) {
            return frame.to_vec();
        }
        // A post that is whole in itself, with the right number, but not the author's.
        let forged = Draft {
            user: post.header.user,
            log: post.header.log,
            seq: post.header.seq,
            time_ms: post.header.time_ms,
            prev: post.header.prev,
            kind: PostKind::Text,
            salt: post.salt,
            text: "bought",
        };
        let (mut post, mut frame) = ([0; POST_LEN_MAX], [0; 1_026]);
        let (len, _) = forged.encode::<Ed25519>(world::NETWORK, &mut post).unwrap();
        let post = &post[..len];
        let len = Frame::Post { post }
            .encode(world::NETWORK, &mut frame)
            .unwrap();
        frame[..len].to_vec()
    });
    assert_eq!(
        world.dropped(0, Rule::Chain),
        5,
        "one for each whom it relayed"
    );
    assert_eq!(world.people[5].contacts, 1);
}

#[test]
fn a_relay_that_passes_on_broken_posts_is_dropped_for_it() {
    let (world, _) = read_through_a_bad_relay(|frame| {
        let mut frame = frame.to_vec();
        if let Some(at) = frame.windows(5).position(|part| part == b"from ")
            && frame[at + 5] != b'5'
        {
            frame[at] = b'F';
        }
        frame
    });
    assert_eq!(world.dropped(0, Rule::Chain), 1);
}

#[test]
fn boards_relay_for_each_other() {
    let mut world = World::<Board>::new(5, 2);
    for other in 1..=4 {
        world.follow(0, other);
        world.post(other, "small");
    }
    world.publish_profiles(|_| 1);
    let told = world.read_to_end(0, 10_000);
    assert_all_live(&told, 1..=4);
}

/// Does something to one frame in four: a bit, the end, all of it, twice, or another's bytes.
fn noise(mut rng: Rng<Ed25519>) -> world::Tamper {
    Box::new(move |frame| {
        let mut bytes = frame.to_vec();
        let at = rng.below(bytes.len() as u64) as usize;
        match rng.below(20) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes.truncate(at),
            2 => bytes.clear(),
            3 => bytes.extend_from_slice(frame),
            4 => rng.fill(&mut bytes[at..]),
            _ => {}
        }
        bytes
    })
}

/// A third of those whom the reader follows sends noise.
fn read_through_noise<P: Plan<Crypto = Ed25519>>(seed: u8, people: usize) {
    let mut world = World::<P>::new(people + 1, 3);
    let mut rng = Rng::from_seed(&Seed([seed; 32]));
    for n in 1..=people {
        world.follow(0, n);
        for post in 1..=3 {
            world.post(n, &format!("{post} from {n}"));
        }
        if n % 3 == 0 {
            world.people[n].tamper = Some(noise(rng.fork("noise")));
        }
    }
    world.publish_profiles(|n| (n * 7 % 5) as u32);
    let told = world.read_to_end(0, 30_000);
    let mut seen = BTreeSet::new();
    for post in &told.posts {
        let n = (1..=people).find(|n| user(*n) == post.author).unwrap();
        assert_eq!(post.text, format!("{} from {n}", post.seq), "seed {seed}");
        assert!(
            seen.insert((post.author, post.seq)),
            "seed {seed}: shown twice"
        );
    }
    for n in (1..=people).filter(|n| n % 3 != 0) {
        let posts = told.posts.iter().filter(|post| post.author == user(n));
        let shown: Vec<_> = posts.map(|post| post.seq).collect();
        assert_eq!(shown, [3, 2, 1], "seed {seed}: p{n}");
        assert!(
            !told.missing.iter().any(|(author, _)| *author == user(n)),
            "seed {seed}"
        );
    }
}

#[test]
fn whatever_a_third_of_the_people_say_the_others_are_read_and_nothing_is_forged() {
    for seed in 0..30 {
        read_through_noise::<Server>(seed, 12);
        read_through_noise::<Board>(seed, 4);
    }
}
