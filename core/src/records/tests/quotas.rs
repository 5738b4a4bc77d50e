//! How many records a location takes, and how many a source may bring.

use super::*;
#[cfg(feature = "alloc")]
use crate::plan::Server;

#[test]
fn a_full_key_keeps_the_earliest_and_is_marked() {
    let mut holder = BoardHolder::new();
    let claims: Vec<_> = (1..=9).map(|n| author(n).claim(5)).collect();
    let location = Key::of_name::<Ed25519>(&name("alice"));
    for claim in &claims[..8] {
        assert!(holder.put(START, &fresh(claim)).is_ok());
    }
    assert!(!holder.records.is_spilled(&location));
    holder.refuses(START, &fresh(&claims[8]), PutError::Full);
    assert!(holder.records.is_spilled(&location));
    let held = holder.read(START, &location);
    assert!(held.iter().all(|held| held.spilled));
    assert!(held.iter().map(|held| held.bytes).eq(&claims[..8]));
    assert!(!holder.records.is_spilled(&KEY));

    // What is newer still replaces, and one level deeper there is a place.
    let renewed = author(1).claim(6);
    assert!(holder.put(START, &fresh(&renewed)).is_ok());
    let deeper = offered(&claims[8], |offer| offer.depth = 1);
    let shard = holder.put(START, &deeper).unwrap().location;
    assert!(!holder.records.is_spilled(&shard));
}

#[test]
fn the_mark_outlives_the_head_and_goes_with_the_last_record() {
    let mut holder = BoardHolder::new();
    let claims: Vec<_> = (1..=9).map(|n| author(n).claim(5)).collect();
    let puts = claims[..8].iter().map(|claim| fresh(claim));
    let ids: Vec<_> = puts.map(|o| holder.put(START, &o).unwrap().id).collect();
    holder.refuses(START, &fresh(&claims[8]), PutError::Full);
    let location = holder.records.location(ids[0]).unwrap();
    let mut lost = Vec::new();
    for &id in &ids[..7] {
        assert!(holder.records.remove(id, |key| lost.push(key)));
        assert!(!holder.records.remove(id, |key| lost.push(key)));
        assert!(holder.records.is_spilled(&location));
    }
    let newcomer = holder.put(START, &fresh(&claims[8])).unwrap();
    assert!(holder.records.get(START, newcomer.id).unwrap().spilled);
    assert!(holder.records.remove(ids[7], |key| lost.push(key)));
    assert!(holder.records.is_spilled(&location) && lost.is_empty());
    assert!(holder.records.remove(newcomer.id, |key| lost.push(key)));
    assert!(!holder.records.is_spilled(&location));
    assert_eq!(lost, [location]);
}

#[test]
fn a_mark_is_taken_over_from_the_sender() {
    let mut holder = BoardHolder::new();
    let (first, second) = (author(1).value(|_| ()), author(2).value(|_| ()));
    assert!(holder.put(START, &fresh(&first)).is_ok());
    let marked = |bytes| offered(bytes, |offer| offer.spilled = true);
    assert!(holder.put(START, &marked(&second)).is_ok());
    assert!(holder.read(START, &KEY).iter().all(|held| held.spilled));

    // Also by bytes that are held already.
    let elsewhere = author(1).value(|draft| draft.key = Key::from_bytes([8; 32]));
    let accepted = holder.put(START, &fresh(&elsewhere)).unwrap();
    assert!(!holder.records.is_spilled(&accepted.location));
    assert!(!holder.put(START, &marked(&elsewhere)).unwrap().changed);
    assert!(holder.records.is_spilled(&accepted.location));
}

#[test]
fn strangers_do_not_crowd_out_what_a_user_says_about_itself() {
    let alice = author(1);
    let at_alice = Key::of_user::<Ed25519>(&alice.id);
    let mut holder = BoardHolder::new();
    // Eight places: five reserved, one of them for `Follow`; strangers share three and that one.
    let sightings: Vec<_> = (2..=5).map(|n| author(n).sighting(&alice)).collect();
    for sighting in &sightings[..2] {
        assert!(holder.put(START, &fresh(sighting)).is_ok());
    }
    let values = [2, 3].map(|n| author(n).value(|draft| draft.key = at_alice));
    assert!(holder.put(START, &fresh(&values[0])).is_ok());
    holder.refuses(START, &fresh(&values[1]), PutError::Full);
    holder.refuses(START, &fresh(&sightings[2]), PutError::Full);
    let follows = [2, 3].map(|n| author(n).follow(&alice));
    assert!(holder.put(START, &fresh(&follows[0])).is_ok());
    holder.refuses(START, &fresh(&follows[1]), PutError::Full);
    for own in [
        alice.holding(),
        alice.head(),
        alice.profile(),
        alice.following(0),
    ] {
        assert!(holder.put(START, &fresh(&own)).is_ok());
    }
    assert_eq!(holder.read(START, &at_alice).len(), 8);
    let page = alice.following(1);
    holder.refuses(START, &fresh(&page), PutError::Full);
}

#[test]
fn what_a_user_says_does_not_crowd_out_its_first_follower() {
    let alice = author(1);
    let mut holder = BoardHolder::new();
    for page in 0..4 {
        let page = alice.following(page);
        assert!(holder.put(START, &fresh(&page)).is_ok());
    }
    let page = alice.following(4);
    holder.refuses(START, &fresh(&page), PutError::Full);
    let follow = author(2).follow(&alice);
    assert!(holder.put(START, &fresh(&follow)).is_ok());
    assert!(holder.put(START, &fresh(&alice.profile())).is_ok());
}

#[test]
fn one_level_deeper_nothing_is_reserved() {
    let alice = author(1);
    let mut holder = BoardHolder::new();
    for page in 0..8 {
        let page = alice.following(page);
        let offer = offered(&page, |offer| offer.depth = 1);
        assert!(holder.put(START, &offer).is_ok());
    }
    let page = alice.following(8);
    let offer = offered(&page, |offer| offer.depth = 1);
    holder.refuses(START, &offer, PutError::Full);
}

#[test]
fn expired_records_do_not_fill_a_key() {
    let mut holder = BoardHolder::new();
    for n in 1..=3 {
        let bytes = author(n).value(|draft| draft.lifetime_ms = 5000);
        assert!(holder.put(START, &fresh(&bytes)).is_ok());
    }
    let next = author(4).value(|_| ());
    let last = START.after_us(4_999_999);
    holder.refuses(last, &fresh(&next), PutError::Full);
    let accepted = holder.put(START.after_s(5), &fresh(&next)).unwrap();
    assert!(accepted.gained);
    assert_eq!((holder.records.len(), &holder.lost), (1, &[KEY].to_vec()));
}

#[test]
fn a_source_may_bring_so_many_and_no_more() {
    let mut holder = BoardHolder::new();
    // Each at a key of its own, so that no key is full.
    let record = |n: u8| author(1).value(|draft| draft.key = Key::from_bytes([n; 32]));
    let records: Vec<_> = (0..18).map(record).collect();
    let from = |n: usize, port| offered(&records[n], |offer| offer.source = source(port));
    let first = holder.put(START, &from(0, 1)).unwrap();
    for n in 1..16 {
        assert!(holder.put(START, &from(n, 1)).is_ok());
    }
    let quota = PutError::Refused(Rule::Quota);
    holder.refuses(START, &from(16, 1), quota);
    // What it brought already, and what is newer, it may bring.
    assert!(holder.put(START, &from(0, 1)).is_ok());
    let newer = author(1).value(|draft| {
        draft.key = Key::from_bytes([0; 32]);
        draft.sequence = 6;
    });
    let offer = offered(&newer, |offer| offer.source = source(1));
    assert!(holder.put(START, &offer).unwrap().changed);
    // Others are not concerned, nor is this node itself.
    assert!(holder.put(START, &from(16, 2)).is_ok());
    assert!(holder.put(START, &fresh(&records[17])).is_ok());
    assert!(holder.records.remove(first.id, |_| ()));
    assert!(holder.put(START, &from(0, 1)).is_ok());
}

/// Puts two records, drops them by removing and by expiry, and looks at what the tables still know.
fn nothing_is_left_of_what_is_gone<P: Plan<Crypto = Ed25519>>() {
    let mut holder = Holder::<P>::new();
    let (first, second) = (author(1).value(|_| ()), author(2).value(|_| ()));
    let from = |bytes| offered(bytes, |offer| offer.source = source(1));
    let id = holder.put(START, &from(&first)).unwrap().id;
    assert!(holder.put(START, &from(&second)).is_ok());
    let tag = holder.records.table.source_tag(source(1));
    assert_eq!(holder.records.table.count_of(tag), 2);
    assert!(holder.records.remove(id, |_| ()));
    assert_eq!(holder.records.table.count_of(tag), 1);
    assert!(holder.records.table.is_indexed(&KEY));
    holder.sweep(START.after_ms(u64::from(HOUR_MS)));
    assert_eq!(holder.records.table.count_of(tag), 0);
    assert_eq!(holder.lost, [KEY]);
    assert!(!holder.records.table.is_indexed(&KEY));
}

#[test]
fn nothing_is_left_on_a_board() {
    nothing_is_left_of_what_is_gone::<Board>();
}

#[cfg(feature = "alloc")]
#[test]
fn nothing_is_left_on_a_server() {
    nothing_is_left_of_what_is_gone::<Server>();
}
