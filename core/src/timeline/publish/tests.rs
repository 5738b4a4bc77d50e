//! When records are put, with a DHT that answers as told.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

extern crate alloc;

use alloc::vec::Vec;

use super::*;
use crate::config::Durability;
use crate::output::Restored;
use crate::plan::{Board, Server};
use crate::timeline::testing::{self, Tested, at, name, publish, user};
use crate::wire::RECORD_LEN_MAX;
use crate::wire::record::{Follow, Following, Kind, Profile, Record};

const STORED: Ended = put(8, None);
const REFUSED: Ended = put(2, None);

const fn put(accepted: u8, older: Option<u64>) -> Ended {
    let (wanted, full) = (5, false);
    Ended::Put {
        accepted,
        wanted,
        older,
        full,
    }
}

/// A started publisher of a user with a contact.
fn started<P: Plan>(state: &mut State<P>) -> Publish<P> {
    let mut publisher = Publish::EMPTY;
    publisher.start(at(0), state);
    publisher.on_contacts(at(0), state, 1);
    publisher
}

/// Everything that is put until `end`, each answered with `ended`: when, and the record.
fn puts<P: Plan>(
    publisher: &mut Publish<P>,
    state: &mut State<P>,
    end: Instant,
    ended: Ended,
) -> Vec<(Instant, Vec<u8>)> {
    let mut all = Vec::new();
    let mut buf = [0; RECORD_LEN_MAX];
    while let Some(due) = publisher
        .next_deadline(state)
        .get()
        .filter(|due| *due <= end)
    {
        while let Some(asking) = publisher.poll_ask(due, state, &mut buf) {
            let Ask::Put { len } = asking.ask else {
                continue;
            };
            all.push((due, buf[..len].to_vec()));
            publisher.on_done(due, state, asking.tag, ended);
            assert!(all.len() < 1_000, "it rests");
        }
        // A deadline may come too early, but never twice.
        assert!(!publisher.next_deadline(state).is_due(due));
        testing::Disk::default().write(due, state);
    }
    all
}

fn kinds(puts: &[(Instant, Vec<u8>)]) -> Vec<Kind> {
    let kinds = puts
        .iter()
        .map(|(_, bytes)| Record::decode(bytes).unwrap().kind);
    kinds.collect()
}

fn minutes(puts: &[(Instant, Vec<u8>)], kind: Kind) -> Vec<u64> {
    let ours = puts
        .iter()
        .filter(|(_, bytes)| Record::decode(bytes).unwrap().kind == kind);
    ours.map(|(at, _)| at.as_ms() / MINUTE_MS).collect()
}

#[test]
fn everything_is_put_at_once_and_renewed_early_then_at_its_pace() {
    let mut state: Tested = testing::fresh(1);
    let mut publisher = started(&mut state);
    let first = puts(&mut publisher, &mut state, at(1), STORED);
    let mut said = kinds(&first);
    said.sort_unstable();
    assert_eq!(said, [Kind::Claim, Kind::Profile, Kind::Head]);
    let later = puts(&mut publisher, &mut state, at(3 * 86_400), STORED);
    let claims = minutes(&later, Kind::Claim);
    assert_eq!(
        claims.len(),
        5,
        "2, 32, 152 minutes, then daily: {claims:?}"
    );
    assert!((1..=3).contains(&claims[0]) && (28..=36).contains(&claims[1]));
    assert!((134..=170).contains(&claims[2]));
    assert!((1_296..=1_584).contains(&(claims[4] - claims[3])));
    let profiles = minutes(&later, Kind::Profile);
    let longest = profiles
        .windows(2)
        .map(|two| two[1] - two[0])
        .max()
        .unwrap();
    assert!(
        (55..=67).contains(&longest),
        "the lease of 90 minutes never lapses: {longest}"
    );
}

#[test]
fn without_a_clock_records_are_renewed_within_the_hour_that_they_live() {
    let mut state: Tested = testing::unready(1, Durability::Host);
    state.restored_all(Restored::Fresh).unwrap();
    let mut publisher = started(&mut state);
    let said = puts(&mut publisher, &mut state, at(6 * 3_600), STORED);
    for kind in [Kind::Claim, Kind::Profile, Kind::Head] {
        let at = minutes(&said, kind);
        let longest = at.windows(2).map(|two| two[1] - two[0]).max().unwrap();
        assert!((30..=45).contains(&longest), "{kind:?}: {longest}");
    }
    assert!(
        said.iter()
            .all(|(_, bytes)| Record::decode(bytes).unwrap().lifetime_ms <= 3_600_000)
    );
}

#[test]
fn numbers_are_reserved_by_a_quorum_only() {
    let mut state: Tested = testing::fresh(1);
    let mut publisher = started(&mut state);
    puts(&mut publisher, &mut state, at(1), REFUSED);
    assert_eq!(state.log.reserved(), 0);
    puts(&mut publisher, &mut state, at(10), STORED);
    assert_eq!(state.log.reserved(), 64);
}

#[test]
fn a_failed_put_is_repeated_with_growing_pauses() {
    let mut state: Tested = testing::fresh(1);
    let mut publisher = started(&mut state);
    let tried = puts(&mut publisher, &mut state, at(3_600), REFUSED);
    let heads: Vec<_> = tried
        .iter()
        .filter(|(_, bytes)| Record::decode(bytes).unwrap().kind == Kind::Head)
        .map(|(at, _)| at.as_ms())
        .collect();
    let pauses: Vec<_> = heads
        .windows(2)
        .map(|two| (two[1] - two[0]) / 1_000)
        .collect();
    assert!(
        (4..=5).contains(&pauses[0]) && (9..=11).contains(&pauses[1]),
        "{pauses:?}"
    );
    assert!(pauses.iter().all(|pause| *pause <= 330));
    assert!(pauses.len() > 15, "it never gives up");
}

#[test]
fn a_newer_record_elsewhere_is_overtaken() {
    let mut state: Tested = testing::fresh(1);
    let mut publisher = started(&mut state);
    let mut buf = [0; RECORD_LEN_MAX];
    let asking = publisher.poll_ask(at(1), &mut state, &mut buf).unwrap();
    let first = Record::decode(&buf).map(|record| record.sequence);
    assert!(first.is_err(), "the buffer is longer than the record");
    let above = state.me.sequence() + 1_000_000;
    publisher.on_done(at(1), &mut state, asking.tag, put(7, Some(above)));
    let asking = publisher.poll_ask(at(1), &mut state, &mut buf).unwrap();
    let len = match asking.ask {
        Ask::Put { len } => len,
        Ask::Get { .. } | Ask::Leave => 0,
    };
    assert_eq!(Record::decode(&buf[..len]).unwrap().sequence, above + 1);
}

#[test]
fn at_most_so_many_puts_are_under_way_and_a_busy_dht_is_left_alone() {
    let mut state: State<Board> = testing::fresh(1);
    let mut publisher = started(&mut state);
    let mut buf = [0; RECORD_LEN_MAX];
    let asking = publisher.poll_ask(at(1), &mut state, &mut buf).unwrap();
    assert_eq!(publisher.poll_ask(at(1), &mut state, &mut buf), None);
    assert_eq!(
        publisher.next_deadline(&state).get(),
        None,
        "its end wakes the next"
    );
    publisher.on_done(at(1), &mut state, asking.tag, Ended::Busy);
    assert_eq!(publisher.poll_ask(at(1), &mut state, &mut buf), None);
    assert_eq!(
        publisher.next_deadline(&state).get(),
        Some(at(1).after_ms(BUSY_MS))
    );
    assert!(publisher.poll_ask(at(2), &mut state, &mut buf).is_some());
}

#[test]
fn nothing_is_put_while_nothing_may_be_signed() {
    let mut state: Tested = testing::fresh(1);
    let mut publisher = started(&mut state);
    state.me.mute();
    assert_eq!(publisher.next_deadline(&state).get(), None);
    assert_eq!(
        publisher.poll_ask(at(9), &mut state, &mut [0; RECORD_LEN_MAX]),
        None
    );
}

#[test]
fn following_somebody_changes_one_page() {
    let mut state: Tested = testing::fresh(1);
    for n in 10..40 {
        assert!(state.people.follow(user(n), name("someone")));
    }
    let mut publisher = started(&mut state);
    let first = puts(&mut publisher, &mut state, at(5), STORED);
    let count =
        |puts: &[(Instant, Vec<u8>)], kind| kinds(puts).iter().filter(|k| **k == kind).count();
    assert_eq!(
        (count(&first, Kind::Following), count(&first, Kind::Follow)),
        (3, 30)
    );
    assert!(state.people.follow(user(50), name("nina")));
    let slot = state.people.find_followed(&user(50)).unwrap().index();
    publisher.on_following(at(6), slot);
    let changed = puts(&mut publisher, &mut state, at(8), STORED);
    assert_eq!(kinds(&changed), [Kind::Following]);
    let record = Record::decode(&changed[0].1).unwrap();
    let page: Following<'_> = record.payload().unwrap();
    assert_eq!((record.page, page.pages), (2, 3));
    assert_eq!(
        page.iter().filter(|entry| entry.user == user(50)).count(),
        1
    );
}

#[test]
fn a_page_that_was_not_stored_is_put_again() {
    let mut state: Tested = testing::fresh(1);
    for n in 10..36 {
        assert!(state.people.follow(user(n), name("someone")));
    }
    let mut publisher = started(&mut state);
    let tried = puts(&mut publisher, &mut state, at(1), REFUSED);
    let pages = |puts: &[(Instant, Vec<u8>)]| -> Vec<u16> {
        let records = puts.iter().map(|(_, bytes)| Record::decode(bytes).unwrap());
        let mut pages: Vec<_> = records
            .filter(|record| record.kind == Kind::Following)
            .map(|r| r.page)
            .collect();
        pages.sort_unstable();
        pages
    };
    assert_eq!(pages(&tried), [0]);
    assert_eq!(
        pages(&puts(&mut publisher, &mut state, at(30), STORED)),
        [0, 1, 2]
    );
}

#[test]
fn a_sighting_is_put_once_in_ten_minutes() {
    let mut state: Tested = testing::fresh(1);
    let mut publisher = started(&mut state);
    puts(&mut publisher, &mut state, at(1), STORED);
    let mut sightings = 0;
    for s in 2..1_300 {
        publisher.missed(at(s), user(5));
        let said = puts(&mut publisher, &mut state, at(s), STORED);
        sightings += minutes(&said, Kind::Sighting).len();
    }
    assert_eq!(sightings, 3);
}

#[test]
fn that_somebody_is_gone_is_repeated_until_it_is_stored() {
    let mut state: Tested = testing::fresh(1);
    let mut publisher = started(&mut state);
    puts(&mut publisher, &mut state, at(1), STORED);
    publisher.gone(at(2), user(5));
    let said = puts(&mut publisher, &mut state, at(8), REFUSED);
    assert_eq!(kinds(&said), [Kind::Follow]);
    let said = puts(&mut publisher, &mut state, at(60), STORED);
    assert_eq!(kinds(&said), [Kind::Follow]);
    let record = Record::decode(&said[0].1).unwrap();
    assert!(!record.payload::<Follow>().unwrap().following);
}

#[test]
fn a_new_post_is_named_in_the_network_soon_and_a_new_address_too() {
    let mut state: Tested = testing::fresh(1);
    let mut publisher: Publish<Server> = started(&mut state);
    puts(&mut publisher, &mut state, at(1), STORED);
    publish(at(50), &mut state, "news");
    publisher.on_log(at(50), &state);
    publisher.on_log(at(50), &state);
    let said = puts(&mut publisher, &mut state, at(52), STORED);
    assert_eq!(kinds(&said), [Kind::Head]);
    state.address = testing::address(99).into();
    publisher.on_address(at(53));
    let said = puts(&mut publisher, &mut state, at(55), STORED);
    assert_eq!(kinds(&said), [Kind::Profile]);
    let record = Record::decode(&said[0].1).unwrap();
    let profile: Profile<'_> = record.payload().unwrap();
    assert_eq!(
        profile.addresses().next(),
        Some(testing::address(99).into())
    );
}
