//! Each rule of the model, kept and broken, in literals.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use strandline_core::name::{Handle, Name};
use strandline_core::output::Person;

use super::{Answer, BTreeSet, Command, HostId, Key, Kind, Model, Outcome, Relation, Shown};
use super::{UserId, Via};

const ANN: HostId = HostId(0);
const BOB: HostId = HostId(1);
const KEEP_US: u64 = 30_000_000;

fn user(host: HostId) -> UserId {
    UserId::from_bytes([u8::try_from(host.0).unwrap() + 1; 32])
}

fn person(host: HostId) -> Person {
    Person {
        user: user(host),
        name: Name::parse("somebody").unwrap(),
    }
}

fn handle(host: HostId) -> Handle {
    Handle::of(Name::parse("somebody").unwrap(), &user(host))
}

/// Ann has posted "one" and "two"; Bob follows her.
fn model() -> Model {
    let mut model = Model::default();
    model.started(ANN, user(ANN), Kind::Server, KEEP_US, 0);
    model.started(BOB, user(BOB), Kind::Server, KEEP_US, 0);
    for (seq, text) in [(1, "one"), (2, "two")] {
        post(&mut model, seq, text, seq * 10).unwrap();
    }
    follow(&mut model, BOB, 30);
    model
}

fn post(model: &mut Model, seq: u64, text: &str, at_us: u64) -> Result<(), String> {
    let command = Command::Post(text.to_owned());
    model.begun(ANN, &command, None, at_us);
    let answer = Answer::new(ANN, command, at_us, at_us);
    model.ended(&answer, None, Outcome::Posted { seq, time_ms: 0 }, at_us)
}

fn follow(model: &mut Model, by: HostId, at_us: u64) {
    let command = Command::Follow(handle(ANN));
    model.begun(by, &command, Some(ANN), at_us);
    let outcome = Outcome::Followed {
        person: person(ANN),
        delivered: true,
        accepted: 5,
        wanted: 5,
    };
    model
        .ended(
            &Answer::new(by, command, at_us, at_us),
            Some(ANN),
            outcome,
            at_us,
        )
        .unwrap();
}

fn shown(seq: u64, text: &str, via: Via) -> Shown {
    Shown {
        author: person(ANN),
        log: 0,
        seq,
        time_ms: 0,
        text: text.to_owned(),
        via,
    }
}

fn reading(at_us: u64) -> Answer {
    Answer::new(BOB, Command::Timeline(None), at_us, at_us)
}

/// Bob reads and is shown these posts; `complete`, with nobody missing.
fn read(model: &mut Model, at_us: u64, posts: &[(u64, &str)], via: Via) -> Result<(), String> {
    let mut answer = reading(at_us);
    for (seq, text) in posts {
        let post = shown(*seq, text, via);
        model.shown(&answer, &post, at_us)?;
        answer.posts.push(post);
    }
    answer.ended_us = Some(at_us);
    model.ended(&answer, None, Outcome::Read { complete: true }, at_us)
}

fn says(result: Result<(), String>, words: &str) {
    let what = result.unwrap_err();
    assert!(what.contains(words), "{what}");
}

#[test]
fn what_was_written_may_be_shown_and_nothing_else() {
    let mut model = model();
    read(&mut model, 100, &[(2, "two"), (1, "one")], Via::Author).unwrap();
    says(
        read(&mut model, 100, &[(2, "forged")], Via::Author),
        "never wrote",
    );
    says(read(&mut model, 100, &[(2, "one")], Via::Author), "for");
    says(
        read(&mut model, 100, &[(1, "one"), (2, "two")], Via::Author),
        "after an older one",
    );
    says(
        read(&mut model, 100, &[(2, "two"), (2, "two")], Via::Author),
        "twice",
    );
    says(read(&mut model, 100, &[(2, "two")], Via::Own), "as its own");
}

#[test]
fn what_must_be_shown_is_missed() {
    let mut model = model();
    says(
        read(&mut model, 2_000_000, &[(2, "two")], Via::Author),
        "lacks its #1",
    );
    let mut partial = reading(100);
    partial
        .missing
        .push((person(ANN), strandline_core::output::Unreached::Offline));
    let read = Outcome::Read { complete: false };
    model.ended(&partial, None, read, 100).unwrap();
    says(
        model.ended(&partial, None, Outcome::Read { complete: true }, 100),
        "complete",
    );
}

#[test]
fn a_reader_is_never_shown_less_than_before() {
    let mut model = model();
    read(&mut model, 100, &[(2, "two"), (1, "one")], Via::Author).unwrap();
    model.stopped(ANN, 150);
    let by = Via::Replica(Name::parse("bob").unwrap());
    says(read(&mut model, 200, &[(1, "one")], by), "up to #2 before");
}

#[test]
fn a_copy_is_shown_and_served_until_it_expires_and_not_after() {
    let mut model = model();
    let by = Via::Replica(Name::parse("bob").unwrap());
    model.stopped(ANN, 1_000);
    let both = [(2, "two"), (1, "one")];
    read(&mut model, 1_000 + KEEP_US, &both, by).unwrap();
    model.served(BOB, &user(ANN), 1_000 + KEEP_US).unwrap();
    let late_us = 1_000 + KEEP_US + 20_000;
    says(read(&mut model, late_us, &both, by), "expired");
    says(model.served(BOB, &user(ANN), late_us), "expired");
    says(
        read(&mut model, late_us, &both, Via::Author),
        "who was gone",
    );
}

#[test]
fn numbers_are_never_used_again() {
    let mut model = model();
    says(post(&mut model, 2, "another two", 50), "after #2");
    post(&mut model, 3, "three", 60).unwrap();
}

#[test]
fn an_acknowledged_follow_stays_visible_and_no_other_is_listed() {
    let mut model = model();
    let mut list = Answer::new(ANN, Command::Followers(None), 100, 100);
    let found = Outcome::Found {
        count: 0,
        complete: true,
    };
    says(model.ended(&list, None, found, 100), "lacks 1");
    list.people.push((person(BOB), Relation::Follower));
    model.ended(&list, None, found, 100).unwrap();
    list.people.push((person(ANN), Relation::Follower));
    says(model.ended(&list, None, found, 100), "never followed");
}

#[test]
fn a_stored_value_is_found_until_it_expires_and_no_other_is() {
    let mut model = model();
    let key = Key::from_bytes([9; 32]);
    let command = Command::Put {
        key,
        value: b"v".to_vec(),
        ttl_s: 10,
    };
    model.begun(ANN, &command, None, 0);
    let stored = Outcome::Stored {
        accepted: 5,
        wanted: 5,
    };
    model
        .ended(&Answer::new(ANN, command, 0, 0), None, stored, 10)
        .unwrap();
    let mut get = Answer::new(BOB, Command::Get(key), 100, 100);
    says(
        model.ended(&get, None, Outcome::NotFound, 200),
        "does not find 1 of 1",
    );
    let found = Outcome::Found {
        count: 1,
        complete: true,
    };
    get.values.push((user(ANN), 1, b"v".to_vec()));
    model.ended(&get, None, found, 200).unwrap();
    says(model.ended(&get, None, found, 20_000_000), "expired");
    get.values.push((user(BOB), 1, b"v".to_vec()));
    says(model.ended(&get, None, found, 200), "never put");
}

#[test]
fn luck_is_not_judged_once_machines_have_failed() {
    let mut model = model();
    model.disturb();
    let list = Answer::new(ANN, Command::Followers(None), 100, 100);
    let found = Outcome::Found {
        count: 0,
        complete: true,
    };
    model.ended(&list, None, found, 100).unwrap();
    assert_eq!(
        model.read_by(BOB, 100).into_iter().collect::<BTreeSet<_>>(),
        [ANN, BOB].into()
    );
}
