//! What [`super`] promises, with literals.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

extern crate alloc;

use alloc::vec::Vec;

use super::*;
use crate::id::Key;
use crate::rules::Rule;
use crate::timeline::me::About;
use crate::timeline::state::State;
use crate::timeline::testing::{self, Tested, at, name, user};
use crate::wire::RECORD_LEN_MAX;
use crate::wire::record::{Follow, Kind};

/// The user 9, a follower of `state`'s user, confirms that it holds everything up to `seq`.
pub fn confirm<P: Plan>(state: &mut State<P>, seq: u64) {
    let mut other: Tested = testing::fresh(9);
    let follow = follow(other.me.name(), true, 60_000, seq);
    let bytes = sign(&mut other, at(seq), &state.me.user(), &follow);
    assert!(state.on_follow(at(1), &bytes, None).is_ok());
}

fn follow(name: Name, following: bool, holds_ms: u32, last_seen: u64) -> Follow {
    let address = PackedAddr::from(testing::address(9));
    Follow {
        name,
        address,
        following,
        holds_ms,
        last_seen,
    }
}

fn sign(state: &mut Tested, now: Instant, subject: &UserId, follow: &Follow) -> Vec<u8> {
    let about = About {
        kind: Kind::Follow,
        key: Key::of_user::<crate::crypto::Ed25519>(subject),
        subject: Some(*subject),
        page: 0,
        lifetime_ms: u32::MAX,
    };
    let mut buf = [0; RECORD_LEN_MAX];
    let len = state.me.sign(now, &about, follow, &mut buf).unwrap();
    buf.get(..len).unwrap().to_vec()
}

fn profile(state: &mut Tested, now: Instant) -> Vec<u8> {
    let about = About {
        kind: Kind::Profile,
        key: Key::of_user::<crate::crypto::Ed25519>(&state.me.user()),
        subject: None,
        page: 0,
        lifetime_ms: u32::MAX,
    };
    let address = PackedAddr::from(testing::address(9));
    let profile = Profile {
        name: state.me.name(),
        addresses: address.as_bytes(),
        lease_ms: 60_000,
        logs: &[],
        followers: 0,
        next_key: [0; 32],
    };
    let mut buf = [0; RECORD_LEN_MAX];
    let len = state.me.sign(now, &about, &profile, &mut buf).unwrap();
    buf.get(..len).unwrap().to_vec()
}

#[test]
fn who_came_back_after_a_sighting_is_not_missed_any_more() {
    let mut state: Tested = testing::fresh(1);
    let mut other: Tested = testing::fresh(9);
    other.me.set_clock(at(0), 1_000_000, 10);
    let them = other.me.user();
    assert!(state.people.follow(them, other.me.name()));
    let learn = |state: &mut Tested, bytes: &[u8]| {
        let record = Record::decode(bytes).unwrap();
        let State { people, posts, .. } = state;
        people.on_profile(at(9), posts, &record, 60_000);
    };
    let sight = |state: &mut Tested, missed_ms| {
        let State { people, posts, .. } = state;
        people.on_sighting(at(9), posts, &them, missed_ms, 60_000);
        people.followed(&them).unwrap().missed_until > at(9)
    };
    let before = profile(&mut other, at(1));
    learn(&mut state, &before);
    assert!(sight(&mut state, 1_002_000), "missed after that profile");
    let after = profile(&mut other, at(3));
    learn(&mut state, &after);
    let entry = state.people.followed(&them).unwrap();
    assert_eq!(entry.missed_until, at(9), "it has published a newer one");
    assert!(!sight(&mut state, 1_002_000), "that sighting is old news");
    assert!(sight(&mut state, 1_004_000), "this one is not");
    assert!(sight(&mut state, 0), "nor is one without a date");
}

#[test]
fn a_pin_never_changes_silently() {
    let mut state: Tested = testing::fresh(1);
    let alice = name("alice");
    assert!(state.people.follow(user(2), alice));
    assert!(state.people.follow(user(3), alice));
    let pinned = |state: &Tested| state.people.pinned(&alice).map(|entry| entry.user);
    assert_eq!(pinned(&state), Some(user(2)));
    assert!(state.people.follow(user(2), name("mallory")));
    assert_eq!(state.people.followed(&user(2)).unwrap().name, alice);
    assert!(state.people.unfollow(&mut state.posts, &user(2)).is_some());
    assert_eq!(
        pinned(&state),
        None,
        "nobody takes the place of the one that is gone"
    );
    assert!(state.people.follow(user(2), alice));
    assert_eq!(pinned(&state), Some(user(2)));
}

#[test]
fn a_full_table_refuses_and_finds_everybody_else() {
    let mut state: State<crate::plan::Board> = testing::fresh(1);
    let max = u8::try_from(state.people.followed_max()).unwrap();
    for n in 0..max {
        assert!(state.people.follow(user(n + 10), name("a")));
    }
    assert!(!state.people.follow(user(200), name("b")));
    assert!(state.people.followed(&user(200)).is_none());
    assert!((0..max).all(|n| state.people.followed(&user(n + 10)).is_some()));
    assert!(state.people.follow(user(10), name("a")), "known already");
}

#[test]
fn the_newest_record_says_whether_somebody_follows() {
    let mut state: Tested = testing::fresh(1);
    let mut other: Tested = testing::fresh(9);
    let me = state.me.user();
    let old = sign(&mut other, at(1), &me, &follow(name("nina"), true, 0, 0));
    let new = sign(
        &mut other,
        at(2),
        &me,
        &follow(name("nina"), true, 60_000, 7),
    );
    let gone = sign(&mut other, at(3), &me, &follow(name("nina"), false, 0, 7));
    assert_eq!(state.on_follow(at(3), &new, None), Ok(FollowNews::Came));
    assert_eq!(state.on_follow(at(3), &new, None), Ok(FollowNews::Same));
    assert_eq!(state.on_follow(at(3), &old, None), Err(Rule::Older));
    assert!(state.people.is_follower(at(3), &user(9)));
    assert_eq!(state.people.follower(&user(9)).unwrap().last_seen, 7);
    assert_eq!(state.on_follow(at(3), &gone, None), Ok(FollowNews::Gone));
    assert!(!state.people.is_follower(at(3), &user(9)));
}

#[test]
fn a_record_about_somebody_else_or_over_or_forged_is_refused() {
    let mut state: Tested = testing::fresh(1);
    let mut other: Tested = testing::fresh(9);
    let follow = follow(name("nina"), true, 0, 0);
    let about_another = sign(&mut other, at(1), &user(5), &follow);
    assert_eq!(state.on_follow(at(1), &about_another, None), Err(Rule::Key));
    let good = sign(&mut other, at(1), &user(1), &follow);
    assert_eq!(
        state.on_follow(at(8 * 24 * 3_600), &good, None),
        Err(Rule::Lifetime)
    );
    assert_eq!(state.on_follow(at(1), &good, Some(0)), Err(Rule::Lifetime));
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(state.on_follow(at(1), &forged, None), Err(Rule::Signature));
    assert_eq!(state.people.followers_len(), 0);
}

#[test]
fn holders_are_listed_newest_first_and_until_they_lapse() {
    let mut state: Tested = testing::fresh(1);
    for n in 10..16_u8 {
        let mut other: Tested = testing::fresh(n);
        let holds_ms = u32::from(n) * 1_000;
        let bytes = sign(
            &mut other,
            at(1),
            &user(1),
            &follow(name("n"), true, holds_ms, 1),
        );
        assert!(state.on_follow(at(1), &bytes, None).is_ok());
    }
    let holders = |state: &Tested, now| -> Vec<UserId> {
        state.people.holders(now).map(|entry| entry.user).collect()
    };
    assert_eq!(
        holders(&state, at(1)),
        [user(15), user(14), user(13), user(12)]
    );
    assert_eq!(holders(&state, at(15)), [user(15)]);
    assert_eq!(state.people.confirmations(at(1), 1), 6);
    assert_eq!(state.people.confirmations(at(1), 2), 0);
    assert_eq!(state.people.confirmations(at(16), 1), 0);
}

#[test]
fn followers_expire_with_their_record() {
    let mut state: Tested = testing::fresh(1);
    let mut other: Tested = testing::fresh(9);
    let bytes = sign(
        &mut other,
        at(0),
        &user(1),
        &follow(name("nina"), true, 0, 0),
    );
    assert!(state.on_follow(at(0), &bytes, Some(5_000)).is_ok());
    assert_eq!(state.people.next_deadline().get(), Some(at(5)));
    assert!(state.people.is_follower(at(4), &user(9)));
    assert!(!state.people.is_follower(at(5), &user(9)));
    state.people.handle_timeout(at(5), &mut state.persists);
    assert_eq!(
        (
            state.people.followers_len(),
            state.people.next_deadline().get()
        ),
        (0, None)
    );
}

#[test]
fn many_followers_are_found_and_swept_in_bounded_steps() {
    let mut state: Tested = testing::fresh(1);
    for n in 0..1_000_u32 {
        let mut id = [7; 32];
        *id.last_chunk_mut().unwrap() = n.to_be_bytes();
        let entry = Follower {
            user: UserId::from_bytes(id),
            name: name("n"),
            address: PackedAddr::NONE,
            holds_until: Instant::ZERO,
            last_seen: 0,
            sequence: 1,
            expires: if n % 2 == 0 { at(1) } else { at(100) },
        };
        state.people.insert_follower(at(0), entry).unwrap();
    }
    let mut now = at(1);
    let mut calls = 0;
    while state.people.next_deadline().is_due(now) {
        state.people.handle_timeout(now, &mut state.persists);
        assert!(!state.people.next_deadline().is_due(now));
        now = now.after_ms(1);
        calls += 1;
    }
    assert_eq!((calls, state.people.followers_len()), (16, 500));
    let mut odd = [7; 32];
    *odd.last_chunk_mut().unwrap() = 501_u32.to_be_bytes();
    assert!(state.people.is_follower(at(2), &UserId::from_bytes(odd)));
}
