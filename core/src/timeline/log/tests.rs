//! What [`super`] promises, with literals.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

extern crate alloc;

use super::*;
use crate::output::Restored;
use crate::plan::{Board, Plan};
use crate::timeline::state::State;
use crate::timeline::testing::{self, DATE_MS, Disk, Tested, at, publish, shown};

fn head_of<P: Plan>(state: &mut State<P>, now: Instant) -> (u64, u64, u64) {
    let record = Record::decode(state.head(now).unwrap()).unwrap();
    let head = Log::<crate::plan::Server>::read_head(&record).unwrap();
    (head.last, head.reserved, head.confirmed_ms)
}

#[test]
fn a_post_is_shown_only_when_durable_and_reserved() {
    let (mut state, mut disk): (Tested, _) = (testing::fresh(1), Disk::default());
    assert_eq!(
        state.post(at(1), "one").unwrap(),
        Appended {
            seq: 1,
            time_ms: DATE_MS + 1_000
        }
    );
    assert!(shown(&state).is_empty());
    assert_eq!(head_of(&mut state, at(1)), (0, 64, DATE_MS + 1_000));
    let written = disk.write(at(1), &mut state);
    state.persisted(written);
    assert_eq!((state.log.durable(), state.log.shown()), (1, 0));
    state
        .log
        .on_reserved(&state.me, &state.posts, &mut state.persists, 64);
    assert_eq!((state.log.shown(), shown(&state).len()), (1, 1));
    assert_eq!(head_of(&mut state, at(1)), (1, 64, DATE_MS + 1_000));
}

#[test]
fn numbers_are_reserved_before_they_run_out() {
    let mut state: Tested = testing::fresh(1);
    assert_eq!(state.log.reserving(), RESERVED_BATCH);
    for _ in 0..RESERVED_BATCH - RESERVED_LOW {
        publish(at(1), &mut state, "x");
    }
    assert_eq!(state.log.reserving(), RESERVED_BATCH);
    state.post(at(1), "x").unwrap();
    assert_eq!(state.log.reserving(), 2 * RESERVED_BATCH - RESERVED_LOW + 1);
    assert_eq!(state.log.reserved(), RESERVED_BATCH);
}

#[test]
fn a_head_is_signed_for_its_date_at_most_once_a_second() {
    let mut state: Tested = testing::fresh(1);
    publish(at(5), &mut state, "one");
    assert_eq!(head_of(&mut state, at(5)), (1, 64, DATE_MS + 5_000));
    assert_eq!(
        head_of(&mut state, at(5).after_ms(999)),
        (1, 64, DATE_MS + 5_000)
    );
    publish(at(5), &mut state, "two");
    assert_eq!(
        head_of(&mut state, at(5).after_ms(999)),
        (2, 64, DATE_MS + 5_999)
    );
    assert_eq!(head_of(&mut state, at(7)), (2, 64, DATE_MS + 7_000));
}

#[test]
fn the_chain_verifies_and_a_changed_text_does_not() {
    let mut state: Tested = testing::fresh(1);
    for text in ["one", "two", "three"] {
        publish(at(1), &mut state, text);
    }
    let network = state.me.network();
    let head = state.head(at(1)).unwrap().to_vec();
    let record = Record::decode(&head).unwrap();
    let mut chain = Chain::of_head(&Log::<crate::plan::Server>::read_head(&record).unwrap());
    let posts = shown(&state);
    let second = Post::decode::<crate::crypto::Ed25519>(posts.get(1).unwrap()).unwrap();
    let wrong = chain.check::<crate::crypto::Ed25519>(&second, network);
    assert_eq!(wrong, Err(crate::rules::Rule::Chain), "not its turn");
    for bytes in &posts {
        let post = Post::decode::<crate::crypto::Ed25519>(bytes).unwrap();
        chain
            .check::<crate::crypto::Ed25519>(&post, network)
            .unwrap();
    }
    assert!(chain.is_end());
    let mut forged = posts.first().unwrap().clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(Post::decode::<crate::crypto::Ed25519>(&forged).is_err());
}

#[test]
fn a_restart_goes_on_with_the_next_number() {
    let (mut state, mut disk): (Tested, _) = (testing::fresh(1), Disk::default());
    for text in ["one", "two"] {
        head_of(&mut state, at(1));
        state.post(at(1), text).unwrap();
        let written = disk.write(at(1), &mut state);
        state.persisted(written);
    }
    state
        .log
        .on_reserved(&state.me, &state.posts, &mut state.persists, 64);
    disk.write(at(1), &mut state);
    let mut again: Tested = testing::unready(1, Durability::Host);
    disk.read(at(0), &mut again).unwrap();
    assert_eq!(
        (again.log.last(), again.log.reserved(), again.log.shown()),
        (2, 64, 2)
    );
    assert_eq!(shown(&again), shown(&state));
    assert_eq!(again.me.sequence(), state.me.sequence());
    assert_eq!(again.post(at(1), "three").unwrap().seq, 3);
    assert_eq!(shown(&again).len(), 2);
}

#[test]
fn a_post_written_before_its_log_entry_is_not_lost() {
    let (mut state, mut disk): (Tested, _) = (testing::fresh(1), Disk::default());
    state.post(at(1), "one").unwrap();
    disk.write(at(1), &mut state);
    let old = disk.clone();
    state.post(at(1), "two").unwrap();
    disk.write(at(1), &mut state);
    let log = (Class::Log, alloc::vec![0, 0]);
    disk.0.insert(log.clone(), old.0.get(&log).unwrap().clone());
    let mut again: Tested = testing::unready(1, Durability::Host);
    disk.read(at(0), &mut again).unwrap();
    assert_eq!(again.log.last(), 2);
}

#[test]
fn damaged_storage_is_refused() {
    let (mut state, mut disk): (Tested, _) = (testing::fresh(1), Disk::default());
    for text in ["one", "two", "three"] {
        state.post(at(1), text).unwrap();
    }
    disk.write(at(1), &mut state);
    let key = |seq: u8| (Class::Post, alloc::vec![0, 0, 0, 0, 0, 0, 0, 0, 0, seq]);
    let refused = |disk: &Disk| {
        let mut again: Tested = testing::unready(1, Durability::Host);
        let refused = disk.read(at(0), &mut again).unwrap_err();
        assert!(again.me.is_mute());
        (refused.class, refused.what)
    };
    for (seq, what) in [
        (1, "the first posts are missing"),
        (2, "a post is missing or does not fit"),
        (3, "the last post is missing"),
    ] {
        let mut disk = disk.clone();
        disk.0.remove(&key(seq)).unwrap();
        assert_eq!(refused(&disk), (Class::Post, what));
    }
    let mut broken = disk.clone();
    *broken.0.get_mut(&key(2)).unwrap().last_mut().unwrap() ^= 1;
    assert_eq!(refused(&broken), (Class::Post, "a post does not decode"));
    let mut swapped = disk.clone();
    swapped
        .0
        .insert(key(3), disk.0.get(&key(2)).unwrap().clone());
    assert_eq!(refused(&swapped).0, Class::Post);
    let mut other: Tested = testing::fresh(1);
    let mut others = Disk::default();
    for text in ["uno", "due", "tre"] {
        other.post(at(1), text).unwrap();
    }
    others.write(at(1), &mut other);
    let mut mixed = others.clone();
    mixed.0.insert(
        (Class::Log, alloc::vec![0, 0]),
        disk.0
            .get(&(Class::Log, alloc::vec![0, 0]))
            .unwrap()
            .clone(),
    );
    assert_eq!(refused(&mixed).0, Class::Log);
}

#[test]
fn failed_storage_takes_back_what_was_not_durable_and_silences() {
    let (mut state, mut disk): (Tested, _) = (testing::fresh(1), Disk::default());
    state.post(at(1), "one").unwrap();
    let written = disk.write(at(1), &mut state);
    state.persisted(written);
    state.post(at(1), "two").unwrap();
    disk.write(at(1), &mut state);
    state.persist_failed();
    assert_eq!(
        (state.log.last(), state.log.durable(), state.log.len()),
        (1, 1, 1)
    );
    assert_eq!(state.post(at(1), "three"), Err(CommandError::StorageFailed));
    assert_eq!(
        state.sign_follow(at(1), &testing::user(2), true, &mut [0; 940]),
        None
    );
}

#[test]
fn texts_are_limited_and_not_blank() {
    let mut state: Tested = testing::fresh(1);
    assert_eq!(state.post(at(1), ""), Err(CommandError::TextEmpty));
    assert_eq!(
        state.post(at(1), " \n\u{3000}"),
        Err(CommandError::TextEmpty)
    );
    let longest = "é".repeat(256);
    assert_eq!(state.post(at(1), &longest).unwrap().seq, 1);
    assert_eq!(
        state.post(at(1), &(longest + "e")),
        Err(CommandError::TextTooLong)
    );
}

#[test]
fn a_board_with_storage_never_drops_own_posts() {
    let mut state: State<Board> = testing::fresh(1);
    let text = "x".repeat(512);
    let mut appended = 0;
    let refused = loop {
        match state.post(at(1), &text) {
            Ok(post) => appended = post.seq,
            Err(error) => break error,
        }
        let written = Disk::default().write(at(1), &mut state);
        state.persisted(written);
    };
    assert_eq!(refused, CommandError::Full);
    assert!(appended >= 1, "{appended}");
    assert_eq!(state.log.len() as u64, appended);
}

#[test]
fn a_board_without_storage_drops_the_oldest_confirmed_posts() {
    let mut state: State<Board> = testing::unready(1, Durability::Holders(1));
    state.restored_all(Restored::Fresh).unwrap();
    for seq in 1..=40 {
        assert_eq!(state.post(at(1), "short").unwrap().seq, seq);
        let waiting = state.log.durable() < seq;
        assert!(waiting, "nobody has confirmed it yet");
        state.persisted(PersistId(u64::MAX));
        assert!(state.log.durable() < seq, "storage does not count");
        crate::timeline::people::tests::confirm(&mut state, seq);
        assert_eq!(state.log.durable(), seq);
        Disk::default().write(at(1), &mut state);
    }
    assert!(state.log.len() >= KEPT_MIN && state.log.len() < 40);
    let newest = state.log.own_posts(&state.posts).next().unwrap();
    assert_eq!(newest.seq, 40);
}

#[test]
fn a_head_finds_room_where_copies_have_taken_all_there_was() {
    let mut state: State<Board> = testing::unready(1, Durability::Holders(1));
    state.restored_all(Restored::Fresh).unwrap();
    state.post(at(1), "mine").unwrap();
    let reserving = state.log.reserving();
    state
        .log
        .on_reserved(&state.me, &state.posts, &mut state.persists, reserving);
    assert_eq!(head_of(&mut state, at(1)).0, 1);
    let mut other: Tested = testing::fresh(2);
    for n in 1..=40 {
        publish(at(n), &mut other, &"x".repeat(13));
    }
    let head = other.head(at(40)).unwrap().to_vec();
    let offer = crate::timeline::copies::Offer {
        head: &head,
        sent: at(40),
        remaining_ms: 10_000,
    };
    assert!(state.offer_head(at(40), &offer).is_ok());
    for post in shown(&other) {
        if state.offer_post(at(40), &post).is_err() {
            break;
        }
    }
    let (_, before) = state.posts.used();
    assert!(before + 50 > 2_880, "{before} bytes of 2,880 are in use");
    // One who holds the post is named in the head, which takes 50 bytes more.
    crate::timeline::people::tests::confirm(&mut state, 1);
    assert_eq!(head_of(&mut state, at(42)).0, 1);
}

#[test]
fn another_log_under_the_same_key_is_noticed() {
    let (mut mine, mut other): (Tested, Tested) = (testing::fresh(1), testing::fresh(1));
    publish(at(1), &mut mine, "one");
    publish(at(2), &mut other, "another one");
    let check = |mine: &Tested, head: &[u8]| {
        let record = Record::decode(head).unwrap();
        let head = Log::<crate::plan::Server>::read_head(&record).unwrap();
        mine.log.contradicts(&mine.me, &mine.posts, &head)
    };
    let own = mine.head(at(3)).unwrap().to_vec();
    assert!(!check(&mine, &own));
    assert!(check(&mine, other.head(at(3)).unwrap()));
}
