//! How long a record is held and shown.

use super::*;

const LIFETIME: PutError = PutError::Refused(Rule::Lifetime);

#[test]
fn a_record_is_shown_until_it_expires_and_never_after() {
    let mut holder = BoardHolder::new();
    let bytes = author(1).value(|_| ());
    let accepted = holder.put(START, &fresh(&bytes)).unwrap();
    assert!(accepted.changed && accepted.gained);
    assert_eq!(accepted.location, KEY);
    let end = START.after_ms(u64::from(HOUR_MS));
    assert_eq!(holder.remaining_ms(START), Some(u64::from(HOUR_MS)));
    let last = START.after_ms(u64::from(HOUR_MS) - 1000);
    assert_eq!(holder.remaining_ms(last), Some(1000));
    assert_eq!(holder.remaining_ms(last.after_us(1)), None, "under 1 s");
    for now in [last.after_us(1), end, end.after_s(9)] {
        assert_eq!(holder.records.get(now, accepted.id), None);
        assert_eq!(holder.contents(now).0, []);
    }
    assert_eq!(holder.records.len(), 1, "not swept yet");
}

#[test]
fn without_a_clock_the_rest_as_told_counts_and_never_more_than_the_lifetime() {
    let issued = author(1).value(|draft| draft.issued_ms = UNIX_MS);
    for (told_ms, held_ms) in [(1000, 1000), (60_000, 60_000), (u64::MAX, 3_600_000)] {
        let mut holder = BoardHolder::new();
        let offer = offered(&issued, |offer| offer.remaining_ms = told_ms);
        assert!(holder.put(START, &offer).is_ok());
        assert_eq!(holder.remaining_ms(START), Some(held_ms));
    }
}

#[test]
fn with_a_clock_a_record_ends_a_lifetime_after_it_was_issued() {
    let ages = [(0, 3_600_000), (600_000, 3_000_000), (3_599_000, 1000)];
    for (age_ms, held_ms) in ages {
        let mut holder = BoardHolder::with_clock(0);
        let bytes = author(1).value(|draft| draft.issued_ms = UNIX_MS - age_ms);
        assert!(holder.put(START, &fresh(&bytes)).is_ok());
        assert_eq!(holder.remaining_ms(START), Some(held_ms));
        // Less is told than the clock says.
        let mut holder = BoardHolder::with_clock(0);
        let offer = offered(&bytes, |offer| offer.remaining_ms = 1000);
        assert!(holder.put(START, &offer).is_ok());
        assert_eq!(holder.remaining_ms(START), Some(1000));
    }
    let mut holder = BoardHolder::with_clock(0);
    let bytes = author(1).value(|draft| draft.issued_ms = UNIX_MS - 3_599_001);
    holder.refuses(START, &fresh(&bytes), LIFETIME);
}

#[test]
fn an_author_without_a_clock_is_held_for_an_hour() {
    let bytes = author(1).value(|draft| draft.lifetime_ms = 2 * HOUR_MS);
    for mut holder in [BoardHolder::new(), BoardHolder::with_clock(0)] {
        assert!(holder.put(START, &fresh(&bytes)).is_ok());
        assert_eq!(holder.remaining_ms(START), Some(CLOCKLESS_LIFETIME_MAX_MS));
    }
}

#[test]
fn a_rest_under_a_second_is_refused() {
    let bytes = author(1).value(|_| ());
    for remaining_ms in [0, 999] {
        let offer = offered(&bytes, |offer| offer.remaining_ms = remaining_ms);
        BoardHolder::new().refuses(START, &offer, LIFETIME);
    }
    let short = author(1).value(|draft| draft.lifetime_ms = 999);
    let offer = offered(&short, |offer| offer.remaining_ms = 5000);
    BoardHolder::new().refuses(START, &offer, LIFETIME);
}

#[test]
fn a_lifetime_of_zero_or_beyond_the_cap_of_the_kind_is_refused() {
    let cap = Kind::Value.lifetime_max_ms();
    let value = |lifetime_ms| author(1).value(|draft| draft.lifetime_ms = lifetime_ms);
    assert!(BoardHolder::new().put(START, &fresh(&value(cap))).is_ok());
    for lifetime_ms in [0, cap + 1, u32::MAX] {
        let bytes = value(lifetime_ms);
        let offer = offered(&bytes, |offer| offer.remaining_ms = 60_000);
        BoardHolder::new().refuses(START, &offer, LIFETIME);
    }
}

#[test]
fn an_issuing_time_in_the_future_is_refused_beyond_what_clocks_differ() {
    let latest = UNIX_MS + 700 + FUTURE_MAX_MS;
    let value = |issued_ms| author(1).value(|draft| draft.issued_ms = issued_ms);
    let mut holder = BoardHolder::with_clock(700);
    let future = PutError::Refused(Rule::Future);
    holder.refuses(START, &fresh(&value(latest + 1)), future);
    holder.refuses(START, &fresh(&value(u64::MAX)), future);
    assert!(holder.put(START, &fresh(&value(latest))).is_ok());
    assert_eq!(
        holder.remaining_ms(START),
        Some(u64::from(HOUR_MS)),
        "no more"
    );
    // Without a clock nothing is in the future.
    let bytes = value(u64::MAX);
    assert!(BoardHolder::new().put(START, &fresh(&bytes)).is_ok());
}

#[test]
fn a_clock_that_is_set_later_does_not_prolong_what_is_held() {
    let mut holder = BoardHolder::new();
    let bytes = author(1).value(|draft| draft.issued_ms = UNIX_MS);
    let offer = offered(&bytes, |offer| offer.remaining_ms = 60_000);
    assert!(holder.put(START, &offer).is_ok());
    holder.clock.set(START, UNIX_MS, 0);
    assert!(holder.put(START, &fresh(&bytes)).is_ok());
    assert_eq!(holder.remaining_ms(START), Some(60_000));
}
