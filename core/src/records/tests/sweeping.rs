//! That expired records are swept, a bounded number at a time.

use super::*;
#[cfg(feature = "alloc")]
use crate::plan::Server;

#[test]
fn a_sweep_frees_what_expired_and_tells_what_was_lost() {
    let mut holder = BoardHolder::new();
    assert_eq!(holder.records.next_deadline().get(), None);
    for (n, lifetime_ms) in [(1, 5000), (2, 9000), (3, 9000)] {
        let bytes = author(n).value(|draft| draft.lifetime_ms = lifetime_ms);
        assert!(holder.put(START, &fresh(&bytes)).is_ok());
    }
    let (first, second) = (START.after_s(5), START.after_s(9));
    assert_eq!(holder.records.next_deadline().get(), Some(first));
    holder.sweep(START.after_s(4));
    assert_eq!(holder.records.len(), 3);
    holder.sweep(first);
    assert_eq!((holder.records.len(), &holder.lost), (2, &Vec::new()));
    assert_eq!(holder.records.next_deadline().get(), Some(second));
    holder.sweep(second);
    assert_eq!((holder.records.len(), &holder.lost), (0, &[KEY].to_vec()));
    assert_eq!(holder.records.next_deadline().get(), None);
    assert_eq!(holder.records.used_bytes(), 0);
}

#[test]
fn sweeps_keep_a_pause_between_them() {
    let mut holder = BoardHolder::new();
    for (n, lifetime_ms) in [(1, 5000), (2, 5001)] {
        let bytes = author(n).value(|draft| draft.lifetime_ms = lifetime_ms);
        assert!(holder.put(START, &fresh(&bytes)).is_ok());
    }
    let now = START.after_s(5);
    holder.sweep(now);
    assert_eq!(
        holder.records.next_deadline().get(),
        Some(now.after_ms(SWEEP_PAUSE_MS))
    );
}

#[cfg(feature = "alloc")]
#[test]
fn a_long_sweep_goes_on_where_it_stopped_and_forgets_no_deadline() {
    let mut holder = Holder::<Server>::new();
    let alice = author(1);
    let value = |n: u16, lifetime_ms| {
        alice.value(|draft| {
            let [high, low] = n.to_be_bytes();
            let mut key = [0; 32];
            (key[0], key[1]) = (high, low);
            draft.key = Key::from_bytes(key);
            draft.lifetime_ms = lifetime_ms;
        })
    };
    let count = u16::try_from(2 * SWEEP_SLOTS + 1).unwrap();
    for n in 0..count {
        let lifetime_ms = if n == 0 { 60_000 } else { 5000 };
        assert!(holder.put(START, &fresh(&value(n, lifetime_ms))).is_ok());
    }
    let mut now = START.after_s(5);
    holder.sweep(now);
    assert_eq!(holder.lost.len(), SWEEP_SLOTS - 1);
    // Comes to a slot that this sweep has passed by already.
    let early = value(count, 1500);
    assert!(holder.put(now, &fresh(&early)).is_ok());
    for swept in [2 * SWEEP_SLOTS - 1, 2 * SWEEP_SLOTS] {
        let next = holder.records.next_deadline().get().unwrap();
        assert_eq!(next, now.after_ms(SWEEP_PACE_MS));
        now = next;
        holder.sweep(now);
        assert_eq!(holder.lost.len(), swept);
    }
    assert_eq!(
        holder.records.next_deadline().get(),
        Some(START.after_ms(5000 + 1500))
    );
    assert_eq!(holder.records.len(), 2);
}
