//! Which record replaces which, and that a forged one replaces none.

use super::*;
use crate::id::SHARD_DEPTH_MAX;

#[test]
fn identical_bytes_are_acknowledged_and_change_nothing() {
    let mut holder = BoardHolder::new();
    let bytes = author(1).value(|_| ());
    let first = holder.put(START, &fresh(&bytes)).unwrap();
    let later = START.after_s(60);
    let before = holder.contents(later);
    for remaining_ms in [1000, u64::MAX] {
        let offer = offered(&bytes, |offer| {
            offer.remaining_ms = remaining_ms;
            offer.age_ms = 99_000;
            offer.source = source(1);
        });
        let again = holder.put(later, &offer).unwrap();
        assert_eq!((again.id, again.location), (first.id, KEY));
        assert!(!again.changed && !again.gained);
        assert_eq!(holder.contents(later), before);
    }
    assert_eq!(holder.records.dropped().total(), 0);
}

#[test]
fn only_a_higher_sequence_replaces() {
    let mut holder = BoardHolder::new();
    let held = author(1).value(|_| ());
    let id = holder.put(START, &fresh(&held)).unwrap().id;
    let lower = author(1).value(|draft| draft.sequence = 4);
    holder.refuses(START, &fresh(&lower), PutError::Older(id));
    let other = author(1).value(|draft| draft.lifetime_ms = HOUR_MS - 1);
    holder.refuses(START, &fresh(&other), PutError::Older(id));
    assert_eq!(
        holder.records.get(START, id).unwrap().bytes,
        held,
        "the answer"
    );

    let higher = author(1).value(|draft| draft.sequence = 6);
    let accepted = holder.put(START, &fresh(&higher)).unwrap();
    assert!(accepted.changed && !accepted.gained && accepted.id == id);
    assert_eq!(holder.records.get(START, id).unwrap().bytes, higher);
    assert_eq!((holder.records.len(), &holder.lost), (1, &Vec::new()));
    holder.refuses(START, &fresh(&held), PutError::Older(id));
}

#[test]
fn a_slot_is_kind_author_subject_and_page() {
    let mut holder = BoardHolder::new();
    let (alice, bob) = (author(1), author(2));
    for bytes in [
        alice.value(|_| ()),
        bob.value(|_| ()),
        alice.value(|draft| draft.page = 1),
    ] {
        assert!(holder.put(START, &fresh(&bytes)).unwrap().changed);
    }
    let at_alice = Key::of_user::<Ed25519>(&alice.id);
    let shadow = bob.value(|draft| draft.key = at_alice);
    for bytes in [
        bob.follow(&alice),
        bob.sighting(&alice),
        alice.follow(&alice),
        shadow,
    ] {
        assert!(holder.put(START, &fresh(&bytes)).unwrap().changed);
    }
    assert_eq!(holder.read(START, &KEY).len(), 3);
    assert_eq!(holder.read(START, &at_alice).len(), 4);
}

#[test]
fn values_of_two_keys_at_one_location_do_not_replace_each_other() {
    let mut holder = BoardHolder::new();
    let alice = author(1);
    let shard = KEY.shard::<Ed25519>(&alice.id, 1);
    let deep = alice.value(|_| ());
    let offer = offered(&deep, |offer| offer.depth = 1);
    assert_eq!(holder.put(START, &offer).unwrap().location, shard);
    let other = alice.value(|draft| {
        draft.key = shard;
        draft.sequence = 9;
    });
    assert_eq!(holder.put(START, &fresh(&other)).unwrap().location, shard);
    assert_eq!(holder.read(START, &shard).len(), 2);
}

#[test]
fn the_age_is_that_of_the_slot() {
    let mut holder = BoardHolder::new();
    let first = author(1).value(|_| ());
    let offer = offered(&first, |offer| offer.age_ms = 5000);
    assert!(holder.put(START, &offer).is_ok());
    let newer = author(1).value(|draft| draft.sequence = 6);
    let later = START.after_s(10);
    let offer = offered(&newer, |offer| offer.age_ms = 77);
    assert!(holder.put(later, &offer).unwrap().changed);
    assert_eq!(holder.read(later, &KEY)[0].age_ms, 15_000);

    let liar = author(2).value(|_| ());
    let offer = offered(&liar, |offer| offer.age_ms = u64::MAX);
    assert!(holder.put(later, &offer).is_ok());
    assert_eq!(holder.read(later, &KEY)[1].age_ms, AGE_MAX_MS);
}

#[test]
fn an_expired_record_is_not_in_the_way_of_an_older_one() {
    let mut holder = BoardHolder::new();
    let short = author(1).value(|draft| {
        draft.sequence = 9;
        draft.lifetime_ms = 2000;
    });
    let old = holder.put(START, &fresh(&short)).unwrap();
    let bytes = author(1).value(|_| ());
    let later = START.after_s(2);
    let new = holder.put(later, &fresh(&bytes)).unwrap();
    assert!(new.changed && new.gained, "it was lost, and is gained anew");
    assert_eq!(holder.lost, [KEY]);
    assert_eq!(holder.read(later, &KEY)[0].age_ms, 0);
    assert_eq!(holder.records.get(later, old.id), None);
    assert_eq!(holder.records.len(), 1);
}

#[test]
fn an_immutable_value_is_renewed_and_never_changed() {
    let alice = author(1);
    let key = Key::of_value::<Ed25519>(b"value");
    let mut holder = BoardHolder::new();
    let first = alice.value(|draft| draft.key = key);
    assert!(holder.put(START, &fresh(&first)).is_ok());
    let mut draft = alice.draft();
    (draft.key, draft.sequence) = (key, 6);
    let changed = alice.sign(&draft, b"other");
    holder.refuses(START, &fresh(&changed), PutError::Refused(Rule::Key));
    let renewed = alice.sign(&draft, b"value");
    assert!(holder.put(START, &fresh(&renewed)).unwrap().changed);
    // Elsewhere a value changes with its sequence.
    let mutable = alice.value(|_| ());
    assert!(holder.put(START, &fresh(&mutable)).is_ok());
    draft.key = KEY;
    let changed = alice.sign(&draft, b"other");
    assert!(holder.put(START, &fresh(&changed)).unwrap().changed);
}

#[test]
fn a_forged_record_is_refused_under_the_rule_that_it_breaks() {
    let (alice, mallory) = (author(1), author(2));
    let good = alice.value(|_| ());
    let mut wrong = good.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let mut altered = good.clone();
    let at = altered.windows(5).position(|w| w == b"value").unwrap();
    altered[at] = b'V';
    let mut as_alice = mallory.draft();
    as_alice.author = alice.id;
    let stolen = mallory.sign(&as_alice, b"value");
    let mut misplaced = alice.draft();
    misplaced.kind = Kind::Claim;
    let claim = record::Claim {
        name: name("alice"),
        first_claimed_ms: 0,
    };
    let misplaced = alice.sign(&misplaced, &encoded(&claim));
    let mut empty = alice.draft();
    empty.kind = Kind::Claim;
    let empty = alice.sign(&empty, &[]);
    for (bytes, rule) in [
        (wrong, Rule::Signature),
        (altered, Rule::Signature),
        (stolen, Rule::Author),
        (misplaced, Rule::Key),
        (empty, Rule::Payload),
    ] {
        BoardHolder::new().refuses(START, &fresh(&bytes), PutError::Refused(rule));
    }
    let mut holder = BoardHolder::new();
    let elsewhere = NetworkId([9; 4]);
    let outcome = holder.records.put(
        START,
        &holder.clock,
        Some(elsewhere),
        &fresh(&good),
        |_| true,
        |_| (),
    );
    assert_eq!(outcome, Err(PutError::Refused(Rule::Signature)));
}

#[test]
fn a_forged_newer_record_does_not_touch_the_one_held() {
    let mut holder = BoardHolder::new();
    let held = author(1).value(|_| ());
    assert!(holder.put(START, &fresh(&held)).is_ok());
    let mut forged = author(1).value(|draft| draft.sequence = 6);
    *forged.last_mut().unwrap() ^= 1;
    let signature = PutError::Refused(Rule::Signature);
    holder.refuses(START, &fresh(&forged), signature);
    assert_eq!(holder.read(START, &KEY)[0].bytes, held);
}

#[test]
fn a_depth_beyond_the_limit_is_refused() {
    let bytes = author(1).value(|_| ());
    let at = |depth| offered(&bytes, |offer| offer.depth = depth);
    let mut holder = BoardHolder::new();
    let accepted = holder.put(START, &at(SHARD_DEPTH_MAX)).unwrap();
    let location = KEY.shard::<Ed25519>(&author(1).id, SHARD_DEPTH_MAX);
    assert_eq!(accepted.location, location);
    assert_eq!(holder.records.location(accepted.id), Some(location));
    assert_eq!(holder.read(START, &location)[0].depth, SHARD_DEPTH_MAX);
    assert_eq!(holder.read(START, &KEY), []);
    let key = PutError::Refused(Rule::Key);
    holder.refuses(START, &at(SHARD_DEPTH_MAX + 1), key);
    holder.refuses(START, &at(255), key);
}
