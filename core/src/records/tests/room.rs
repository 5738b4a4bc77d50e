//! What happens when the whole store is full.

use super::*;

/// A value of the shortest kind at a key of its own; keys beginning with an odd byte are "far".
pub(super) fn small(n: u8) -> Vec<u8> {
    author(1).value(|draft| draft.key = Key::from_bytes([n; 32]))
}

fn is_even(key: &Key) -> bool {
    key.as_bytes()[0].is_multiple_of(2)
}

/// A holder whose 32 slots are taken, by values at the keys 0, 2, 4, … 62.
pub(super) fn full() -> BoardHolder {
    let mut holder = BoardHolder::new();
    for n in 0..32 {
        assert!(holder.put(START, &fresh(&small(2 * n))).is_ok());
    }
    assert_eq!(holder.records.len(), holder.records.capacity());
    holder
}

#[test]
fn a_full_store_evicts_nothing_that_it_is_responsible_for() {
    let mut holder = full();
    holder.refuses(START, &fresh(&small(100)), PutError::NoRoom);
    // Where something is held, readers can be told to look deeper.
    let beside = author(2).value(|draft| draft.key = Key::from_bytes([0; 32]));
    holder.refuses(START, &fresh(&beside), PutError::Full);
    assert!(holder.records.is_spilled(&Key::from_bytes([0; 32])));
    assert!(!holder.records.is_spilled(&Key::from_bytes([2; 32])));
    // What is held can be renewed.
    let newer = author(1).value(|draft| {
        draft.key = Key::from_bytes([0; 32]);
        draft.sequence = 6;
    });
    assert!(holder.put(START, &fresh(&newer)).is_ok());
}

#[test]
fn a_full_store_makes_room_where_it_is_not_responsible() {
    let mut holder = BoardHolder::new();
    for n in 0..32 {
        assert!(holder.put(START, &fresh(&small(n))).is_ok());
    }
    // Not for one that it is not responsible for either: the earliest are kept.
    let far = small(101);
    assert_eq!(
        holder.put_near(START, &fresh(&far), is_even),
        Err(PutError::NoRoom)
    );
    for n in (100..132).step_by(2) {
        let accepted = holder.put_near(START, &fresh(&small(n)), is_even).unwrap();
        assert!(accepted.gained);
        let lost = holder.lost.pop().unwrap();
        assert!(!is_even(&lost) && holder.lost.is_empty());
        assert_eq!(holder.read(START, &lost), []);
        assert_eq!(holder.records.len(), 32);
    }
    let outcome = holder.put_near(START, &fresh(&small(132)), is_even);
    assert_eq!(outcome, Err(PutError::NoRoom));
    assert!(holder.contents(START).0.iter().all(|(_, _, bytes)| {
        let record = Record::decode(bytes).unwrap();
        is_even(&record.key)
    }));
}

#[test]
fn a_forged_record_evicts_nothing() {
    let mut holder = BoardHolder::new();
    for n in 0..32 {
        assert!(holder.put(START, &fresh(&small(n))).is_ok());
    }
    let mut forged = small(100);
    *forged.last_mut().unwrap() ^= 1;
    let outcome = holder.put_near(START, &fresh(&forged), is_even);
    assert_eq!(outcome, Err(PutError::Refused(Rule::Signature)));
    assert_eq!((holder.records.len(), &holder.lost), (32, &Vec::new()));
}

#[test]
fn an_expired_record_makes_room_before_it_is_swept() {
    let mut holder = BoardHolder::new();
    let short = author(1).value(|draft| draft.lifetime_ms = 1000);
    assert!(holder.put(START, &fresh(&short)).is_ok());
    for n in 0..31 {
        assert!(holder.put(START, &fresh(&small(2 * n + 10))).is_ok());
    }
    holder.refuses(START, &fresh(&small(100)), PutError::NoRoom);
    assert!(holder.put(START.after_s(1), &fresh(&small(100))).is_ok());
    assert_eq!(holder.lost, [KEY]);
}

/// A value with the longest payload.
fn large(n: u8, sequence: u64) -> Vec<u8> {
    let draft = Draft {
        key: Key::from_bytes([n; 32]),
        sequence,
        ..author(1).draft()
    };
    author(1).sign(&draft, &[n; 700])
}

#[test]
fn just_enough_small_records_go_for_a_large_one() {
    let (len, least) = (large(0, 5).len(), small(0).len());
    let mut holder = BoardHolder::new();
    for n in 1..=6 {
        assert!(holder.put(START, &fresh(&large(2 * n, 5))).is_ok());
    }
    let mut smalls = 0;
    while holder.records.used_bytes() + least <= holder.records.bytes_max() {
        let bytes = small(2 * smalls + 1);
        assert!(holder.put(START, &fresh(&bytes)).is_ok());
        smalls += 1;
    }
    let short = holder.records.used_bytes() + len - holder.records.bytes_max();
    let outcome = holder.put_near(START, &fresh(&large(100, 5)), is_even);
    assert!(outcome.is_ok());
    assert_eq!(holder.lost.len(), short.div_ceil(least));
    assert!(holder.lost.len() > 1 && holder.lost.len() < usize::from(smalls));
}

#[test]
fn where_all_that_may_go_is_too_little_nothing_goes() {
    let mut holder = BoardHolder::new();
    for n in 1..=8 {
        assert!(holder.put(START, &fresh(&large(2 * n, 5))).is_ok());
    }
    assert!(holder.put(START, &fresh(&small(1))).is_ok());
    let before = holder.contents(START);
    let newcomer = large(100, 5);
    let outcome = holder.put_near(START, &fresh(&newcomer), is_even);
    assert_eq!(outcome, Err(PutError::NoRoom));
    assert_eq!(holder.contents(START), before);
    assert!(holder.lost.is_empty());
    // With one of the large ones there is enough.
    let near = |key: &Key| is_even(key) && *key != Key::from_bytes([2; 32]);
    assert!(holder.put_near(START, &fresh(&newcomer), near).is_ok());
    assert!(holder.lost.contains(&Key::from_bytes([2; 32])));
}

#[test]
fn a_replacement_that_does_not_fit_leaves_the_old_record() {
    let mut holder = BoardHolder::new();
    let others: Vec<_> = (1..9).map(|n| large(2 * n, 5)).collect();
    let kept = small(0);
    assert!(holder.put(START, &fresh(&kept)).is_ok());
    for bytes in &others {
        assert!(holder.put(START, &fresh(bytes)).is_ok());
    }
    let room = holder.records.bytes_max() - holder.records.used_bytes();
    let longer = large(0, 6);
    assert!(longer.len() > kept.len() + room, "{room}");
    holder.refuses(START, &fresh(&longer), PutError::Full);
    assert_eq!(holder.read(START, &Key::from_bytes([0; 32]))[0].bytes, kept);
    // One that is not longer takes the room of the old one.
    let renewed = large(2, 6);
    assert_eq!(renewed.len(), others[0].len());
    assert!(holder.put(START, &fresh(&renewed)).unwrap().changed);
}
