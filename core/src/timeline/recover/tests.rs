//! The return, with records as literals.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

extern crate alloc;

use alloc::vec::Vec;

use super::*;
use crate::config::Durability;
use crate::id::NodeId;
use crate::output::{CommandError, OUTPUT_LEN_MAX, Stored};
use crate::timeline::copies::Offer;
use crate::timeline::statements::Statement;
use crate::timeline::testing::{self, Disk, Tested, at, name, publish, shown, user};
use crate::wire::RECORD_LEN_MAX;
use crate::wire::record::Record;

const COMPLETE: Ended = Ended::Got {
    answered: 8,
    complete: true,
};

fn statement(state: &mut Tested, statement: Statement) -> Vec<u8> {
    let mut buf = [0; RECORD_LEN_MAX];
    let len = statement.sign(at(1), state, &mut buf).unwrap();
    buf.get(..len).unwrap().to_vec()
}

/// A recovery in a network of `contacts`, and its state, which remembers nothing.
fn lost(contacts: usize) -> (Tested, Recovery) {
    let mut state: Tested = testing::unready(1, Durability::Host);
    state.me.set_clock(at(0), testing::DATE_MS + 60_000, 0);
    state.restored_all(Restored::Lost).unwrap();
    let mut recovery = Recovery::EMPTY;
    recovery.start(at(0), Restored::Lost);
    recovery.on_contacts(at(0), contacts);
    (state, recovery)
}

fn see(state: &mut Tested, recovery: &mut Recovery, bytes: &[u8]) {
    let record = Record::decode(bytes).unwrap();
    let verified = Verified {
        record,
        remaining_ms: u64::from(record.lifetime_ms),
        age_ms: 0,
        holder: NodeId::ZERO,
    };
    recovery.on_record(at(10), state, &verified);
}

#[test]
fn nothing_is_signed_before_a_head_is_known() {
    let (mut state, mut recovery) = lost(8);
    assert_eq!(state.post(at(0), "early"), Err(CommandError::Recovering));
    assert_eq!(
        recovery.poll_ask(at(3), &state),
        None,
        "more contacts may come"
    );
    for round in 0..ROUNDS_MAX {
        let now = recovery.next_deadline().get().unwrap();
        assert!(recovery.poll_ask(now, &state).is_some(), "round {round}");
        assert_eq!(recovery.next_deadline().get(), None);
        assert_eq!(recovery.poll_event(), None);
        recovery.on_done(now, &mut state, COMPLETE);
    }
    assert_eq!(recovery.poll_event(), Some(Return::Unknown));
    assert_eq!(recovery.poll_event(), None, "told once");
    assert!(
        state.me.is_mute() && recovery.next_deadline().get().is_some(),
        "and asks on"
    );
    assert_eq!(state.head(at(99)), None);
}

#[test]
fn too_few_answers_do_not_count() {
    let (mut state, mut recovery) = lost(8);
    let mut before: Tested = testing::fresh(1);
    publish(at(1), &mut before, "one");
    let head = statement(&mut before, Statement::Head);
    let now = recovery.next_deadline().get().unwrap().max(at(5));
    assert!(recovery.poll_ask(now, &state).is_some());
    see(&mut state, &mut recovery, &head);
    let (answered, complete) = (4, false);
    recovery.on_done(now, &mut state, Ended::Got { answered, complete });
    recovery.handle_timeout(now, &mut state);
    assert!(state.recovering && state.me.is_mute());
    assert!(recovery.next_deadline().get().is_some());
}

#[test]
fn what_holders_have_comes_back_and_numbers_go_on_above_the_reserved() {
    let mut before: Tested = testing::fresh(1);
    for text in ["one", "two", "three"] {
        publish(at(1), &mut before, text);
    }
    assert!(before.people.follow(user(5), name("nina")));
    let (mut state, mut recovery) = lost(30);
    assert!(recovery.poll_ask(at(2), &state).is_some());
    for said in [Statement::Head, Statement::Following(0)] {
        let bytes = statement(&mut before, said);
        see(&mut state, &mut recovery, &bytes);
    }
    let mut follower: Tested = testing::fresh(7);
    let follow = statement(&mut follower, Statement::Follow(user(1)));
    see(&mut state, &mut recovery, &follow);
    recovery.on_done(at(10), &mut state, COMPLETE);
    let (errand, wanted) = state.errands.take().unwrap();
    assert_eq!((wanted.message, wanted.user), (Message::FetchOwn, user(7)));
    let head = before.head(at(2)).unwrap().to_vec();
    let offer = Offer {
        head: &head,
        sent: at(10),
        remaining_ms: 600_000,
    };
    assert!(state.offer_head(at(10), &offer).is_ok());
    for post in shown(&before) {
        assert!(state.offer_post(at(10), &post).is_ok());
    }
    state.errands.end(errand, true);
    assert!(state.errands.collect(at(11)).is_some());
    recovery.on_fetched();
    recovery.handle_timeout(at(11), &mut state);
    assert_eq!(recovery.poll_event(), Some(Return::Recovered(66)));
    assert!(state.copies.is_empty(), "own posts are no copies");
    assert_eq!(state.people.pinned(&name("nina")).unwrap().user, user(5));
    // All of it reaches storage, and the next start finds it whole.
    let mut disk = Disk::default();
    let written = disk.write(at(11), &mut state);
    state.persisted(written);
    assert_eq!(state.post(at(12), "four").unwrap().seq, 66);
    disk.write(at(12), &mut state);
    let mut again: Tested = testing::unready(1, Durability::Host);
    disk.read(at(0), &mut again).unwrap();
    let numbers: Vec<_> = again
        .log
        .own_posts(&again.posts)
        .map(|post| post.seq)
        .collect();
    assert_eq!(numbers, [66, 65, 3, 2, 1]);
    assert_eq!(again.people.followed_len(), 1);
}

#[test]
fn another_hand_on_the_key_is_told_once() {
    let (mut state, mut other): (Tested, Tested) = (testing::fresh(1), testing::fresh(1));
    publish(at(1), &mut state, "mine");
    publish(at(2), &mut other, "not mine");
    let mut recovery = Recovery::EMPTY;
    recovery.start(at(0), Restored::Intact);
    recovery.on_contacts(at(0), 3);
    assert!(recovery.poll_ask(at(2), &state).is_some());
    let own = statement(&mut state, Statement::Head);
    see(&mut state, &mut recovery, &own);
    assert_eq!(recovery.poll_event(), None);
    let forked = statement(&mut other, Statement::Head);
    see(&mut state, &mut recovery, &forked);
    assert_eq!(recovery.poll_event(), Some(Return::Forked));
    assert_eq!(recovery.poll_event(), None);
    recovery.on_done(at(3), &mut state, COMPLETE);
    assert!(
        recovery
            .next_deadline()
            .get()
            .is_some_and(|due| due > at(3)),
        "it looks again"
    );
}

#[test]
fn a_small_queue_takes_the_recovered_in_steps() {
    let mut before: Tested = testing::fresh(1);
    for _ in 0..3 {
        publish(at(1), &mut before, "x");
    }
    let mut state: State<crate::plan::Board> = testing::unready(1, Durability::Host);
    state.me.set_clock(at(0), testing::DATE_MS, 0);
    state.restored_all(Restored::Lost).unwrap();
    let head = before.head(at(2)).unwrap().to_vec();
    let offer = Offer {
        head: &head,
        sent: at(2),
        remaining_ms: 600_000,
    };
    assert!(state.offer_head(at(2), &offer).is_ok());
    let mut disk = Disk::default();
    for post in shown(&before) {
        assert!(state.offer_post(at(2), &post).is_ok());
        disk.write(at(2), &mut state);
    }
    let mut recovery = Recovery::EMPTY;
    recovery.start(at(2), Restored::Lost);
    recovery.stage = Stage::Fetching(0);
    let mut steps = 0;
    while recovery.poll_event().is_none() {
        recovery.handle_timeout(at(3), &mut state);
        disk.write(at(3), &mut state);
        steps += 1;
        assert!(steps < 10, "it ends");
    }
    assert!(steps > 1);
    let posts = disk
        .0
        .keys()
        .filter(|(class, _)| *class == crate::output::Class::Post);
    assert_eq!(posts.count(), 4, "three and the gap");
    assert!(state.poll_persist(at(3), &mut [0; OUTPUT_LEN_MAX]).is_err());
}

#[test]
fn a_new_identity_that_has_posts_already_is_refused() {
    let mut state: Tested = testing::fresh(1);
    publish(at(1), &mut state, "from before");
    let mut disk = Disk::default();
    state.persists.push(Entry::Log);
    disk.write(at(1), &mut state);
    let mut again: Tested = testing::unready(1, Durability::Host);
    for ((class, key), value) in &disk.0 {
        let (class, key, value) = (*class, key.as_slice(), Some(value.as_slice()));
        again.restored(at(2), Stored { class, key, value }).unwrap();
    }
    assert!(again.restored_all(Restored::Fresh).is_err());
    assert!(again.me.is_mute());
}
