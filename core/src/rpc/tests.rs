#![expect(clippy::unwrap_used, reason = "a test may panic")]

extern crate alloc;

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::*;
use crate::crypto::Ed25519;
use crate::plan::Board;
use crate::rng::Seed;

const START: Instant = Instant::from_s(100);

fn addr(last: u8) -> PackedAddr {
    PackedAddr::from(SocketAddr::from(([198, 18, 0, last], 7827)))
}

fn peer(last: u8) -> Peer {
    Peer {
        addr: addr(last),
        token: NO_TOKEN,
        rtt: Rtt::UNKNOWN,
    }
}

struct Caller {
    rpc: Rpc<Board>,
    rng: Rng<Ed25519>,
}

impl Caller {
    fn new() -> Self {
        Self {
            rpc: Rpc::EMPTY,
            rng: Rng::from_seed(&Seed([1; 32])),
        }
    }

    fn request(&mut self, now: Instant, peer: Peer, repeat: Repeat) -> Result<Pending, Full> {
        self.rpc
            .request(now, &mut self.rng, peer, Tag::Probe, repeat)?;
        Ok(self.rpc.pop_outgoing().unwrap())
    }

    fn expire(&mut self, now: Instant) -> impl Iterator<Item = Expired> {
        let mut from = 0;
        core::iter::from_fn(move || self.rpc.pop_expired(now, &mut from))
    }
}

#[test]
fn an_answer_counts_once_and_only_from_the_address_that_was_asked() {
    let mut caller = Caller::new();
    let sent = caller.request(START, peer(1), Repeat::Once).unwrap();
    let now = START.after_ms(30);
    let stranger = caller.rpc.answered(now, &addr(2), sent.transaction);
    assert_eq!(stranger, Err(Rule::WrongSender));
    let guess = caller.rpc.answered(now, &addr(1), [7; 8]);
    assert_eq!(guess, Err(Rule::Unsolicited));
    let (pending, rtt_ms) = caller
        .rpc
        .answered(now, &addr(1), sent.transaction)
        .unwrap();
    assert_eq!((pending.transaction, rtt_ms), (sent.transaction, Some(30)));
    let again = caller.rpc.answered(now, &addr(1), sent.transaction);
    assert_eq!(again, Err(Rule::Unsolicited));
    assert_eq!(caller.rpc.usage().0, 0);
}

#[test]
fn what_was_answered_before_it_was_sent_again_keeps_nobody_out_of_the_queue() {
    let mut caller = Caller::new();
    let (fits, now) = (u8::try_from(caller.rpc.usage().1).unwrap(), START);
    for last in 1..=fits {
        let Caller { rpc, rng } = &mut caller;
        assert_eq!(
            rpc.request(now, rng, peer(last), Tag::Probe, Repeat::Once),
            Ok(())
        );
    }
    let of_third = |rpc: &Rpc<Board>| {
        let mut pending = rpc.pending.iter().map(|(_, pending)| pending);
        pending
            .find(|p| p.peer.addr == addr(3))
            .unwrap()
            .transaction
    };
    let third = of_third(&caller.rpc);
    assert!(caller.rpc.answered(now, &addr(3), third).is_ok());
    assert!(caller.rpc.has_room());
    let Caller { rpc, rng } = &mut caller;
    let begun = rpc.request(now, rng, peer(9), Tag::Probe, Repeat::Once);
    assert_eq!(begun, Ok(()));
    let sent: Vec<_> = core::iter::from_fn(|| rpc.pop_outgoing().map(|p| p.peer.addr)).collect();
    let others = (1..=fits).filter(|&last| last != 3).chain([9]);
    assert_eq!(sent, others.map(addr).collect::<Vec<_>>());
}

#[test]
fn a_request_is_late_then_repeated_once_then_given_up() {
    let mut caller = Caller::new();
    let mut rtt = Rtt::UNKNOWN;
    rtt.sample(10);
    // Ten milliseconds and four times five: late after 30, repeated after 200, given up 200 later.
    let sent = caller
        .request(START, Peer { rtt, ..peer(1) }, Repeat::Once)
        .unwrap();
    assert_eq!(caller.rpc.wake().get(), Some(START.after_ms(30)));
    assert_eq!(caller.expire(START.after_ms(29)).count(), 0);
    let late = caller.expire(START.after_ms(30)).next();
    assert!(matches!(late, Some(Expired::Late(p)) if p.transaction == sent.transaction));
    assert_eq!(caller.expire(START.after_ms(30)).count(), 0);
    assert_eq!(caller.rpc.wake().get(), Some(START.after_ms(200)));
    assert_eq!(caller.rpc.pop_outgoing(), None);
    assert_eq!(caller.expire(START.after_ms(200)).count(), 0);
    let again = caller.rpc.pop_outgoing().unwrap();
    assert_eq!(again.transaction, sent.transaction);
    assert_eq!(caller.rpc.pop_outgoing(), None);
    let failed = caller.expire(START.after_ms(400)).next();
    assert!(matches!(failed, Some(Expired::Failed(p)) if p.transaction == sent.transaction));
    assert_eq!(caller.expire(START.after_ms(400)).count(), 0);
    assert_eq!((caller.rpc.wake().get(), caller.rpc.usage().0), (None, 0));
}

#[test]
fn a_first_contact_is_never_repeated() {
    let mut caller = Caller::new();
    caller.request(START, peer(1), Repeat::Never).unwrap();
    assert_eq!(caller.expire(START.after_ms(1_000)).count(), 1);
    assert_eq!(caller.rpc.pop_outgoing(), None);
    assert!(matches!(
        caller.expire(START.after_ms(2_000)).next(),
        Some(Expired::Failed(_))
    ));
    assert_eq!(caller.rpc.pop_outgoing(), None);
}

#[test]
fn a_first_ping_is_repeated_if_that_is_allowed_while_it_is_under_way() {
    for allowed in [false, true] {
        let mut caller = Caller::new();
        let visit = Handle::from_bits(0);
        let (rpc, rng) = (&mut caller.rpc, &mut caller.rng);
        rpc.request(START, rng, peer(1), Tag::Validate { visit }, Repeat::Never)
            .unwrap();
        assert!(rpc.pop_outgoing().is_some());
        rpc.repeat_ping(&addr(if allowed { 1 } else { 2 }));
        assert_eq!(caller.expire(START.after_ms(1_000)).count(), 1, "late");
        assert_eq!(caller.rpc.pop_outgoing().is_some(), allowed);
        let failed = caller.expire(START.after_ms(2_000)).next();
        assert!(matches!(failed, Some(Expired::Failed(_))), "no later");
        assert_eq!(caller.rpc.pop_outgoing(), None);
    }
}

#[test]
fn what_decides_who_gets_a_message_is_asked_three_times() {
    let mut caller = Caller::new();
    caller.request(START, peer(1), Repeat::Twice).unwrap();
    for (at_ms, late) in [(1_000, 1), (2_000, 0)] {
        assert_eq!(caller.expire(START.after_ms(at_ms)).count(), late);
        assert!(caller.rpc.pop_outgoing().is_some());
        assert_eq!(caller.rpc.pop_outgoing(), None);
    }
    let failed = caller.expire(START.after_ms(3_000)).next();
    assert!(matches!(failed, Some(Expired::Failed(_))));
    assert_eq!(caller.rpc.pop_outgoing(), None);
}

#[test]
fn a_repeated_request_measures_nothing() {
    let mut caller = Caller::new();
    let sent = caller.request(START, peer(1), Repeat::Once).unwrap();
    assert_eq!(caller.expire(START.after_ms(1_000)).count(), 1);
    let answered = caller
        .rpc
        .answered(START.after_ms(1_001), &addr(1), sent.transaction);
    assert_eq!(answered.unwrap().1, None);
}

#[test]
fn after_a_long_sleep_a_request_still_gets_its_second_chance() {
    let mut caller = Caller::new();
    caller.request(START, peer(1), Repeat::Once).unwrap();
    let woken = START.after_s(3_600);
    assert!(matches!(
        caller.expire(woken).next(),
        Some(Expired::Late(_))
    ));
    assert_eq!(caller.expire(woken).count(), 0);
    assert_eq!(caller.rpc.wake().get(), Some(woken.after_ms(1_000)));
    assert!(caller.rpc.pop_outgoing().is_some());
}

#[test]
fn what_is_usual_holds_for_strangers_too() {
    let mut caller = Caller::new();
    let sent = caller.request(START, peer(1), Repeat::Once).unwrap();
    caller
        .rpc
        .answered(START.after_ms(100), &addr(1), sent.transaction)
        .unwrap();
    caller.request(START, peer(2), Repeat::Never).unwrap();
    assert_eq!(caller.rpc.wake().get(), Some(START.after_ms(300)));
}

#[test]
fn a_full_table_refuses_and_changes_nothing() {
    let mut caller = Caller::new();
    let (_, capacity) = caller.rpc.usage();
    for _ in 0..capacity {
        assert!(caller.rpc.has_room());
        caller.request(START, peer(1), Repeat::Once).unwrap();
    }
    assert!(!caller.rpc.has_room());
    assert_eq!(caller.request(START, peer(1), Repeat::Once), Err(Full));
    assert_eq!(
        (caller.rpc.usage(), caller.rpc.pop_outgoing()),
        ((capacity, capacity), None)
    );
}

#[test]
fn a_request_is_renewed_with_a_token_once() {
    let mut caller = Caller::new();
    let sent = caller.request(START, peer(1), Repeat::Once).unwrap();
    let (old, _) = caller
        .rpc
        .answered(START, &addr(1), sent.transaction)
        .unwrap();
    assert!(!caller.rpc.renew(START, &mut caller.rng, &old, NO_TOKEN));
    assert!(caller.rpc.renew(START, &mut caller.rng, &old, [5; 8]));
    let renewed = caller.rpc.pop_outgoing().unwrap();
    assert_eq!((renewed.peer.token, renewed.tag), ([5; 8], Tag::Probe));
    assert_ne!(renewed.transaction, sent.transaction);
    assert!(!caller.rpc.renew(START, &mut caller.rng, &renewed, [6; 8]));
}

#[test]
fn a_token_is_valid_for_its_address_in_this_hour_and_the_next() {
    let mut tokens = Tokens::EMPTY;
    tokens.start(&mut Rng::<Ed25519>::from_seed(&Seed([1; 32])));
    let (token, none) = tokens.check::<Ed25519>(START, &addr(1), NO_TOKEN);
    assert!(!none && token != NO_TOKEN);
    let valid = |now, addr: PackedAddr| tokens.check::<Ed25519>(now, &addr, token).1;
    assert!(valid(START, addr(1)));
    assert!(valid(Instant::from_s(2 * TOKEN_EPOCH_S - 1), addr(1)));
    assert!(!valid(Instant::from_s(2 * TOKEN_EPOCH_S), addr(1)));
    assert!(!valid(START, addr(2)));
    let other_port = PackedAddr::from(SocketAddr::from(([198, 18, 0, 1], 7828)));
    assert!(!valid(START, other_port));
}

#[test]
fn round_trips_are_smoothed_within_their_limits() {
    let mut rtt = Rtt::UNKNOWN;
    assert_eq!((rtt.late_ms(), rtt.smoothed_ms()), (None, 0));
    rtt.sample(0);
    assert_eq!((rtt.late_ms(), rtt.smoothed_ms()), (Some(LATE_MIN_MS), 1));
    for _ in 0..100 {
        rtt.sample(u64::MAX);
    }
    assert!(rtt.smoothed_ms() > TIMEOUT_MAX_MS - 10);
    assert_eq!(rtt.late_ms(), Some(TIMEOUT_MAX_MS));
    for _ in 0..100 {
        rtt.sample(50);
    }
    assert!((50..60).contains(&rtt.smoothed_ms()), "{rtt:?}");
    assert!(rtt.late_ms() < Some(100), "{rtt:?}");
}

#[test]
fn a_stranger_that_did_not_answer_is_left_alone_for_a_while() {
    let mut rpc = Rpc::<Board>::EMPTY;
    assert!(!rpc.is_unreached(START, &addr(1)));
    for last in 1..=9 {
        rpc.note_unreached(START, addr(last));
    }
    assert!(!rpc.is_unreached(START, &addr(1)), "it made place");
    assert!(rpc.is_unreached(START, &addr(9)));
    let over = START.after_ms(UNREACHED_MS);
    assert!(rpc.is_unreached(START.after_ms(UNREACHED_MS - 1), &addr(9)));
    assert!(!rpc.is_unreached(over, &addr(9)));
    rpc.note_unreached(over, addr(9));
    assert!(rpc.is_unreached(over, &addr(9)));
}
