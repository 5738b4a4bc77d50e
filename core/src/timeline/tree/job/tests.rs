//! What becomes of shares, in literals.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

extern crate alloc;

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::*;
use crate::plan;
use crate::timeline::posts::Posts;

type Server = plan::Server;

/// A stand-in for a profile: only that there is one matters here.
fn profile() -> RecordId {
    let mut posts = Posts::<Server>::EMPTY;
    posts.put_record(RecordId::NONE, b"p")
}

fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 32])
}

fn request(fanout: u8) -> Request {
    let (reader, signature) = ([1; 32], [2; 64]);
    Request {
        id: 7,
        reader,
        issued_ms: 0,
        fanout,
        signature,
        depth: 0,
    }
}

/// A job with targets 0, 1, 2, … which are dealt.
fn dealt(up: Up, fanout: u8, promotions: u8, targets: u8) -> Job<Server> {
    let mut job = Job::new(up, request(fanout), Instant::from_s(10), 0, promotions);
    for n in 0..targets {
        let addr = SocketAddr::from(([10, 0, 0, n], 7827)).into();
        let mut target = Target::new(user(n), addr, profile());
        target.limit = 2;
        job.push(target).unwrap();
    }
    job.deal();
    job
}

fn reader() -> Up {
    Up::Read(Handle::from_bits(1))
}

fn relay() -> Up {
    Up::Stream(Handle::from_bits(1))
}

/// Opens the streams of all children that wait for one.
fn call_all(job: &mut Job<Server>) -> Vec<u8> {
    let mut called = Vec::new();
    while let Some((slot, _)) = job.next_call() {
        job.called(slot, Handle::from_bits(u64::from(slot) + 100));
        job.opened(slot);
        called.push(slot);
    }
    called
}

/// Sends a child all that it is to be told; returns its own target, promotions, and its share.
fn tell_all(job: &mut Job<Server>, slot: u8) -> (usize, u8, Vec<usize>) {
    let (target, promotions, share) = match job.next_tell(slot) {
        Some(Tell::Get {
            target,
            promotions,
            share,
        }) => (target, promotions, share),
        Some(Tell::Target(_)) | None => panic!("no Get for {slot}"),
    };
    job.told(slot);
    let mut targets = Vec::new();
    while let Some(Tell::Target(at)) = job.next_tell(slot) {
        targets.push(at);
        job.told(slot);
    }
    assert_eq!(
        usize::from(share),
        targets.len(),
        "as many follow as were announced"
    );
    (target, promotions, targets)
}

fn failures(job: &mut Job<Server>) -> Vec<(usize, Unreached)> {
    let mut failed = Vec::new();
    while let Some((at, why)) = job.next_failed() {
        job.settle(at);
        failed.push((at, why));
    }
    failed
}

#[test]
fn the_first_are_asked_and_the_rest_is_dealt_among_them() {
    let mut job = dealt(reader(), 2, 0, 7);
    assert_eq!(call_all(&mut job), [0, 1]);
    assert_eq!(tell_all(&mut job, 0), (0, 0, [2, 4, 6].into()));
    assert_eq!(tell_all(&mut job, 1), (1, 0, [3, 5].into()));
    assert_eq!(job.next_tell(0), None);
}

#[test]
fn a_child_speaks_only_of_itself_and_of_what_it_was_told() {
    let mut job = dealt(reader(), 2, 0, 6);
    call_all(&mut job);
    assert_eq!(job.target_of(0, &user(0)), None, "it was not asked yet");
    job.told(0);
    assert_eq!(job.target_of(0, &user(0)), Some(0));
    assert_eq!(job.target_of(0, &user(2)), None, "not told yet");
    job.told(0);
    assert_eq!(job.target_of(0, &user(2)), Some(2));
    assert_eq!(job.target_of(0, &user(1)), None, "another child");
    assert_eq!(job.target_of(0, &user(3)), None, "another child's share");
    assert!(job.on_done(2, Ending::NothingNew));
    assert_eq!(job.target_of(0, &user(2)), None, "it has its outcome");
}

#[test]
fn posts_come_after_a_head_and_no_more_than_were_asked_for() {
    let mut job = dealt(reader(), 1, 0, 1);
    assert!(!job.on_post(0));
    assert!(job.on_head(0, 0));
    assert!(job.on_post(0) && job.on_post(0));
    assert!(!job.on_post(0));
    for _ in 1..HEADS_MAX {
        assert!(job.on_head(0, 0) && job.on_post(0));
    }
    assert!(!job.on_head(0, 0));
}

#[test]
fn a_lost_child_is_replaced_by_the_next_of_its_share() {
    let mut job = dealt(relay(), 2, 0, 8);
    call_all(&mut job);
    tell_all(&mut job, 0);
    assert!(
        job.on_done(2, Ending::Complete),
        "an answer from further down"
    );
    let lost = job.lose(0, Unreached::Stalled);
    assert_eq!(
        lost,
        Lost {
            stream: Some(Handle::from_bits(100)),
            missed: Some(user(0))
        }
    );
    assert_eq!(failures(&mut job), [(0, Unreached::Stalled)]);
    assert_eq!(call_all(&mut job), [0]);
    assert_eq!(tell_all(&mut job, 0), (4, 1, [6].into()));
}

#[test]
fn a_child_that_answered_and_died_is_not_reported_as_missed() {
    let mut job = dealt(relay(), 1, 0, 3);
    call_all(&mut job);
    tell_all(&mut job, 0);
    assert!(job.on_done(0, Ending::Complete));
    assert_eq!(job.lose(0, Unreached::Stalled).missed, None);
    assert_eq!(failures(&mut job), []);
    call_all(&mut job);
    assert_eq!(tell_all(&mut job, 0), (1, 1, [2].into()));
}

#[test]
fn a_dead_leaf_costs_nothing() {
    let mut job = dealt(relay(), 2, 0, 2);
    call_all(&mut job);
    tell_all(&mut job, 0);
    assert_eq!(job.lose(0, Unreached::NoConnection).missed, Some(user(0)));
    assert_eq!(failures(&mut job), [(0, Unreached::NoConnection)]);
    assert_eq!(job.next_call(), None, "nobody takes its place");
}

#[test]
fn a_share_is_reorganised_five_times_and_what_is_left_is_given_back() {
    let mut job = dealt(relay(), 1, 0, 10);
    for n in 0..=PROMOTIONS_MAX {
        assert_eq!(call_all(&mut job), [0]);
        let (target, promotions, _) = tell_all(&mut job, 0);
        assert_eq!((target, promotions), (usize::from(n), n));
        assert!(job.lose(0, Unreached::NoConnection).missed.is_some());
    }
    assert_eq!(job.next_call(), None);
    let left = failures(&mut job);
    assert_eq!(left.len(), 10);
    assert!(
        left[..6]
            .iter()
            .all(|&(_, why)| why == Unreached::NoConnection)
    );
    assert!(
        left[6..]
            .iter()
            .all(|&(_, why)| why == Unreached::TooManyPromotions)
    );
    assert!(job.is_over());
}

#[test]
fn promotions_are_inherited() {
    let mut job = dealt(relay(), 1, 4, 10);
    for promotions in [4, 5] {
        call_all(&mut job);
        assert_eq!(tell_all(&mut job, 0).1, promotions);
        assert!(job.lose(0, Unreached::NoConnection).missed.is_some());
    }
    assert_eq!(failures(&mut job).len(), 10);
}

#[test]
fn the_reader_asks_those_directly_whom_others_did_not_reach() {
    let mut job = dealt(reader(), 2, 0, 5);
    call_all(&mut job);
    tell_all(&mut job, 0);
    tell_all(&mut job, 1);
    assert!(
        !job.on_done(2, Ending::Unreached(Unreached::Stalled)),
        "not the end of it"
    );
    assert_eq!(job.next_call(), None, "no place is vacant");
    assert!(job.on_done(0, Ending::Complete) && job.on_done(4, Ending::Complete));
    assert!(job.is_answered(0));
    assert_eq!(job.lose(0, Unreached::Stalled).missed, None);
    assert_eq!(call_all(&mut job), [0]);
    assert_eq!(tell_all(&mut job, 0), (2, PROMOTIONS_MAX, [].into()));
    assert!(job.lose(0, Unreached::Stalled).missed.is_some());
    assert_eq!(
        job.next_failed(),
        Some((2, Unreached::Stalled)),
        "once, not twice"
    );
    assert_eq!(job.next_call(), None);
}

#[test]
fn targets_without_a_profile_are_asked_directly() {
    let mut job = dealt(reader(), 2, 0, 0);
    for n in 0..3 {
        let addr = SocketAddr::from(([10, 0, 0, n], 7827)).into();
        job.push(Target::new(user(n), addr, RecordId::NONE))
            .unwrap();
    }
    job.deal();
    assert_eq!(call_all(&mut job), [0, 1]);
    assert_eq!(tell_all(&mut job, 0), (0, PROMOTIONS_MAX, [].into()));
    job.settle(0);
    let _ = job.lose(0, Unreached::Stalled);
    assert_eq!(call_all(&mut job), [0]);
    assert_eq!(tell_all(&mut job, 0).0, 2);
}

#[test]
fn at_the_deadline_everybody_has_an_outcome() {
    let mut job = dealt(relay(), 2, 0, 9);
    call_all(&mut job);
    tell_all(&mut job, 0);
    assert!(job.on_done(0, Ending::Complete) && job.on_done(4, Ending::NothingNew));
    job.expire(Unreached::Deadline);
    let left = failures(&mut job);
    assert_eq!(left.len(), 7);
    assert!(left.iter().all(|&(_, why)| why == Unreached::Deadline));
    assert!(job.is_over());
}

#[test]
fn a_reader_that_runs_out_of_time_for_the_tree_asks_the_rest_itself() {
    let mut job = dealt(reader(), 2, 0, 6);
    call_all(&mut job);
    let mut cut = Vec::new();
    while let Some(lost) = job.cut(Unreached::Deadline) {
        cut.push(lost.missed.unwrap());
    }
    assert_eq!(cut, [user(0), user(1)]);
    assert_eq!(job.next_failed(), Some((0, Unreached::Deadline)));
    assert_eq!(call_all(&mut job), [0, 1]);
    assert_eq!((tell_all(&mut job, 0).0, tell_all(&mut job, 1).0), (2, 3));
}
