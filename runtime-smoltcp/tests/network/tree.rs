//! Boards in the middle of a get tree: they ask others on a reader's behalf, and may be switched off meanwhile.

use strandline_core::config::Config;
use strandline_core::output::Via;

use crate::station::name;
use crate::world::{Traffic, World};
use crate::{follow, timeline};

/// The one who reads; everybody else is followed and has posted.
const READER: usize = 0;
const STATIONS: usize = 4;

/// A reader who asks one at a time, so that the tree is a chain: whoever is asked first asks the next for it.
fn chain() -> World {
    let mut world = World::joined_with(STATIONS, |_, config: &mut Config| {
        config.fanout = 1;
        // Nobody reads unasked.
        config.refresh_ms = 0;
    });
    for author in 1..STATIONS {
        follow(&mut world, READER, author);
        let text = post_of(author);
        world.command(author, |now, node| node.post(now, &text).unwrap());
    }
    world.run_for_ms(5_000);
    world.traffic = Traffic::default();
    world
}

fn post_of(author: usize) -> String {
    format!("tide {author}")
}

/// What is read of somebody who was asked.
fn live(author: usize) -> (String, String, Via) {
    (name(author), post_of(author), Via::Author)
}

#[test]
fn boards_in_the_middle_of_a_get_tree_relay() {
    let mut world = chain();
    let (mut posts, complete) = timeline(&mut world, READER);
    assert!(complete, "{posts:?}");
    posts.sort_by(|a, b| a.0.cmp(&b.0));
    let all: Vec<_> = (1..STATIONS).map(live).collect();
    assert_eq!(posts, all);
    // Each asked the next: the reader has heard from two of them without ever having had a stream to them.
    let opened = &world.traffic.opened;
    let begun_by: Vec<usize> = opened.iter().map(|(from, _)| *from).collect();
    let mut passed_to: Vec<usize> = opened.iter().map(|(_, to)| *to).collect();
    assert_eq!(begun_by[0], READER);
    assert_eq!(begun_by[1..], passed_to[..STATIONS - 2], "{opened:?}");
    passed_to.sort_unstable();
    assert_eq!(passed_to, [1, 2, 3], "{opened:?}");
}

#[test]
fn a_board_that_is_switched_off_in_the_middle_is_routed_around() {
    let mut whole = chain();
    timeline(&mut whole, READER);
    let middle = whole.traffic.opened[0].1;
    let (mut had_asked, mut routed_around) = (0, 0);
    // Every world is the same until the cut, which comes at every segment once.
    for cut in 1..=whole.traffic.segments {
        let mut world = chain();
        world.weather.cut = (middle, cut);
        let (posts, complete) = timeline(&mut world, READER);
        let opened = &world.traffic.opened;
        let of = |author| {
            posts
                .iter()
                .filter(move |post| **post == live(author))
                .count()
        };
        for author in (1..STATIONS).filter(|author| *author != middle) {
            assert_eq!(of(author), 1, "cut {cut}: {posts:?} {opened:?}");
        }
        assert_eq!(complete, of(middle) == 1, "cut {cut}: {posts:?}");
        let (before, after) = opened.split_at(world.traffic.opened_before_cut);
        if before.iter().any(|(from, _)| *from == middle) {
            had_asked += 1;
            routed_around += usize::from(after.iter().any(|(from, _)| *from == READER));
        }
    }
    assert!(
        had_asked >= 10,
        "{had_asked}: it was hardly ever in the middle"
    );
    assert!(
        routed_around >= 10,
        "{routed_around}: nobody was asked instead"
    );
}
