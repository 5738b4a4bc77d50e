//! What [`super`] promises, with literals.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

extern crate alloc;

use alloc::vec::Vec;

use super::*;
use crate::config::Durability;
use crate::plan::Board;
use crate::timeline::state::State;
use crate::timeline::testing::{self, Disk, Tested, at, kept, publish, shown, user};

const HOUR_MS: u64 = 3_600_000;

/// What an author with `n` posts serves: its head, and its posts newest first.
fn served(author: &mut Tested, now: Instant, n: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
    while author.log.last() < n {
        publish(now, author, "text");
    }
    (author.head(now).unwrap().to_vec(), shown(author))
}

fn offer<P: Plan>(
    state: &mut State<P>,
    now: Instant,
    head: &[u8],
    remaining_ms: u64,
) -> Result<HeadNews, Rule> {
    let sent = now;
    state.offer_head(
        now,
        &Offer {
            head,
            sent,
            remaining_ms,
        },
    )
}

fn read<P: Plan>(state: &mut State<P>, now: Instant, head: &[u8], posts: &[Vec<u8>]) {
    assert!(offer(state, now, head, HOUR_MS).is_ok());
    for post in posts {
        assert!(matches!(
            state.offer_post(now, post),
            Ok(PostNews::Kept(_) | PostNews::Known)
        ));
    }
}

#[test]
fn posts_are_kept_from_the_newest_down_and_only_in_order() {
    let (mut author, mut state): (Tested, Tested) = (testing::fresh(2), testing::fresh(1));
    let (head, posts) = served(&mut author, at(1), 3);
    assert_eq!(state.offer_post(at(1), &posts[0]), Err(Rule::OutOfTurn));
    assert_eq!(
        offer(&mut state, at(1), &head, HOUR_MS),
        Ok(HeadNews::Newer)
    );
    assert_eq!(state.offer_post(at(1), &posts[1]), Err(Rule::Chain));
    assert!(matches!(
        state.offer_post(at(1), &posts[0]),
        Ok(PostNews::Kept(_))
    ));
    assert_eq!(state.offer_post(at(1), &posts[0]), Ok(PostNews::Known));
    assert_eq!(
        state
            .copies
            .wanted(&state.posts, &user(2))
            .unwrap()
            .expect_seq,
        2
    );
    for post in &posts[1..] {
        assert!(matches!(
            state.offer_post(at(1), post),
            Ok(PostNews::Kept(_))
        ));
    }
    assert_eq!(kept(at(1), &state, &user(2)), [3, 2, 1]);
    assert_eq!(state.copies.wanted(&state.posts, &user(2)), None);
    assert_eq!(state.copies.since(at(1), &state.posts, &user(2)), 3);
}

#[test]
fn new_posts_join_the_older_ones() {
    let (mut author, mut state): (Tested, Tested) = (testing::fresh(2), testing::fresh(1));
    let (head, posts) = served(&mut author, at(1), 3);
    read(&mut state, at(1), &head, &posts);
    let (head, posts) = served(&mut author, at(2), 5);
    assert_eq!(
        offer(&mut state, at(2), &head, HOUR_MS),
        Ok(HeadNews::Newer)
    );
    assert_eq!(
        state.copies.since(at(2), &state.posts, &user(2)),
        3,
        "ask from the older part"
    );
    assert!(state.offer_post(at(2), &posts[0]).is_ok());
    assert_eq!(kept(at(2), &state, &user(2)), [5], "not joined yet");
    let older = state
        .copies
        .view(at(2), &state.posts, &user(2))
        .unwrap()
        .older;
    assert_eq!(state.posts.get(older).unwrap().seq, 3);
    assert!(state.offer_post(at(2), &posts[1]).is_ok());
    assert_eq!(kept(at(2), &state, &user(2)), [5, 4, 3, 2, 1]);
    assert_eq!(state.copies.since(at(2), &state.posts, &user(2)), 5);
}

#[test]
fn an_interrupted_read_goes_on_where_it_stopped() {
    let (mut author, mut state): (Tested, Tested) = (testing::fresh(2), testing::fresh(1));
    let (head, posts) = served(&mut author, at(1), 2);
    read(&mut state, at(1), &head, &posts);
    let (head, posts) = served(&mut author, at(2), 6);
    read(&mut state, at(2), &head, &posts[..2]);
    let (head, posts) = served(&mut author, at(3), 8);
    read(&mut state, at(3), &head, &posts[..1]);
    assert_eq!(state.copies.since(at(3), &state.posts, &user(2)), 6);
    read(&mut state, at(3), &head, &posts);
    assert_eq!(kept(at(3), &state, &user(2)), [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(state.posts.used().0, 9, "nothing is left behind");
}

#[test]
fn an_expired_copy_is_never_returned() {
    let (mut author, mut state): (Tested, Tested) = (testing::fresh(2), testing::fresh(1));
    let (head, posts) = served(&mut author, at(1), 2);
    assert!(offer(&mut state, at(1), &head, 5_000).is_ok());
    assert!(state.offer_post(at(1), &posts[0]).is_ok());
    let left = |state: &Tested, now| {
        let view = state.copies.view(now, &state.posts, &user(2));
        view.map(|view| view.remaining_ms)
    };
    assert_eq!(left(&state, at(5)), Some(1_000));
    assert_eq!(left(&state, at(6)), None);
    assert_eq!(state.copies.iter(at(6), &state.posts).count(), 0);
    assert_eq!(state.offer_post(at(6), &posts[1]), Err(Rule::OutOfTurn));
    assert_eq!(state.copies.next_deadline().get(), Some(at(6)));
    let (posts, persists) = (&mut state.posts, &mut state.persists);
    assert_eq!(
        state.copies.handle_timeout(at(6), posts, persists),
        Some(user(2))
    );
    assert_eq!(state.copies.handle_timeout(at(6), posts, persists), None);
    assert_eq!(
        (state.copies.next_deadline().get(), state.posts.used()),
        (None, (0, 0))
    );
}

#[test]
fn only_the_author_puts_the_expiry_off() {
    let (mut author, mut state): (Tested, Tested) = (testing::fresh(2), testing::fresh(1));
    let (first, posts) = served(&mut author, at(10), 1);
    let second = author.head(at(20)).unwrap().to_vec();
    let expires = |state: &Tested| {
        let copy = state.copies.of(&user(2)).unwrap();
        copy.expires
    };
    read(&mut state, at(10), &first, &posts);
    assert_eq!(expires(&state), at(10).after_ms(HOUR_MS));
    assert_eq!(
        offer(&mut state, at(1_000), &first, HOUR_MS),
        Ok(HeadNews::Same)
    );
    assert_eq!(expires(&state), at(10).after_ms(HOUR_MS), "a holder cannot");
    assert_eq!(
        offer(&mut state, at(1_000), &second, HOUR_MS),
        Ok(HeadNews::Confirmed)
    );
    // The clock was set 1,000 s ago: it may be 50 ms off.
    assert_eq!(
        expires(&state),
        at(20).after_ms(HOUR_MS + 50),
        "an old confirmation counts from its date"
    );
    assert_eq!(
        offer(&mut state, at(1_000), &first, HOUR_MS),
        Ok(HeadNews::Older)
    );
    let third = author.head(at(1_000)).unwrap().to_vec();
    assert_eq!(
        offer(&mut state, at(1_000), &third, 30_000),
        Ok(HeadNews::Confirmed)
    );
    assert_eq!(
        expires(&state),
        at(1_030),
        "what a holder has left is inherited"
    );
}

#[test]
fn without_a_clock_the_request_counts() {
    let mut author: Tested = testing::fresh(2);
    let (head, _) = served(&mut author, at(1), 1);
    let mut state: Tested = testing::unready(1, Durability::Host);
    let offer = Offer {
        head: &head,
        sent: at(500),
        remaining_ms: u64::MAX,
    };
    assert_eq!(state.offer_head(at(502), &offer), Ok(HeadNews::Newer));
    let view = state.copies.view(at(502), &state.posts, &user(2)).unwrap();
    assert_eq!(view.remaining_ms, HOUR_MS - 2_000);
    assert_eq!(state.copies.stored(&state.posts, &user(2)).unwrap().0, 0);
}

#[test]
fn forged_and_forked_heads_are_refused() {
    let (mut author, mut twin): (Tested, Tested) = (testing::fresh(2), testing::fresh(2));
    let mut state: Tested = testing::fresh(1);
    let (head, _) = served(&mut author, at(1), 2);
    let mut forged = head.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(
        offer(&mut state, at(1), &forged, HOUR_MS),
        Err(Rule::Signature)
    );
    assert_eq!(offer(&mut state, at(1), &head, 999), Err(Rule::Lifetime));
    assert_eq!(
        offer(&mut state, at(7_200), &head, HOUR_MS),
        Err(Rule::Lifetime)
    );
    assert!(state.copies.is_empty());
    assert!(offer(&mut state, at(1), &head, HOUR_MS).is_ok());
    let (fork, _) = served(&mut twin, at(9), 2);
    assert_eq!(offer(&mut state, at(9), &fork, HOUR_MS), Err(Rule::Fork));
    let mut lower: Tested = testing::fresh(2);
    let (lower, _) = served(&mut lower, at(9), 1);
    assert_eq!(offer(&mut state, at(9), &lower, HOUR_MS), Err(Rule::Older));
}

#[test]
fn a_board_keeps_the_newest_posts_and_what_expires_last() {
    let mut state: State<Board> = testing::fresh(1);
    let (mut first, mut second): (Tested, Tested) = (testing::fresh(2), testing::fresh(3));
    let (head, posts) = served(&mut first, at(1), 40);
    assert!(offer(&mut state, at(1), &head, HOUR_MS).is_ok());
    let mut last = PostNews::Known;
    for post in &posts {
        last = state.offer_post(at(1), post).unwrap();
        Disk::default().write(at(1), &mut state);
        if last == PostNews::NoRoom {
            break;
        }
    }
    assert_eq!(last, PostNews::NoRoom);
    let held = kept(at(1), &state, &user(2));
    assert!(held.len() > 10 && held[0] == 40 && held.is_sorted_by(|a, b| *a == *b + 1));
    let (head, posts) = served(&mut second, at(5), 3);
    read(&mut state, at(5), &head, &posts);
    assert_eq!(kept(at(5), &state, &user(3)), [3, 2, 1]);
    assert_eq!(kept(at(5), &state, &user(2)), [], "it expired soonest");
    assert_eq!(state.post(at(5), &"x".repeat(512)).unwrap().seq, 1);
}

#[test]
fn copies_outlive_a_restart_with_a_clock_and_not_without() {
    let (mut author, mut state): (Tested, Tested) = (testing::fresh(2), testing::fresh(1));
    let (head, posts) = served(&mut author, at(1), 3);
    read(&mut state, at(1), &head, &posts);
    let mut disk = Disk::default();
    disk.write(at(1), &mut state);
    let restart = |now, unix_ms: Option<u64>, disk: &Disk| {
        let mut again: Tested = testing::unready(1, Durability::Host);
        if let Some(unix_ms) = unix_ms {
            again.me.set_clock(now, unix_ms, 0);
        }
        disk.read(now, &mut again).unwrap();
        again
    };
    let again = restart(at(0), Some(testing::DATE_MS + 60_000), &disk);
    assert_eq!(kept(at(0), &again, &user(2)), [3, 2, 1]);
    let view = again.copies.view(at(0), &again.posts, &user(2)).unwrap();
    assert_eq!(view.remaining_ms, HOUR_MS - 59_000);
    let late = restart(at(0), Some(testing::DATE_MS + 1_000 + HOUR_MS), &disk);
    assert!(late.copies.is_empty() && late.posts.used() == (0, 0));
    assert!(restart(at(0), None, &disk).copies.is_empty());
    let second = (
        crate::output::Class::CopyPost,
        [user(2).as_bytes(), &[0; 9][..], &[2]].concat(),
    );
    assert!(disk.0.remove(&second).is_some());
    let mut cut = restart(at(0), Some(testing::DATE_MS), &disk);
    assert_eq!(
        kept(at(0), &cut, &user(2)),
        [3],
        "what hangs in the air is dropped"
    );
    assert_eq!(
        cut.copies.wanted(&cut.posts, &user(2)).unwrap().expect_seq,
        2
    );
    Disk::default().write(at(0), &mut cut);
    assert_eq!(cut.posts.used().0, 2);
}
