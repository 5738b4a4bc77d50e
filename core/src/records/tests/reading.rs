//! Reading, walking, and the names of records.

use super::*;

#[test]
fn a_read_goes_by_kind_and_by_pages_in_the_order_of_arrival() {
    let alice = author(1);
    let mut holder = BoardHolder::new();
    let records = [
        author(2).follow(&alice),
        alice.profile(),
        author(3).follow(&alice),
        author(4).sighting(&alice),
    ];
    for bytes in &records {
        assert!(holder.put(START, &fresh(bytes)).is_ok());
    }
    let location = Key::of_user::<Ed25519>(&alice.id);
    let read = |kinds, after| -> Vec<&[u8]> {
        let held = holder.records.read(START, &location, kinds, after);
        held.map(|held| held.bytes).collect()
    };
    assert_eq!(read(Kinds::ALL, 0), records);
    assert_eq!(read(Kinds::ALL, 3), records[3..]);
    assert_eq!(read(Kinds::ALL, 4), [[0; 0]; 0]);
    assert_eq!(read(Kinds::ALL, u16::MAX), [[0; 0]; 0]);
    let follows = Kinds::of(&[Kind::Follow]);
    assert_eq!(read(follows, 0), [&records[0][..], &records[2]]);
    assert_eq!(read(follows, 1), [&records[2][..]]);
    assert_eq!(read(Kinds::NONE, 0), [[0; 0]; 0]);
}

#[test]
fn what_is_read_is_ready_to_be_passed_on() {
    let mut holder = BoardHolder::new();
    let bytes = author(1).value(|_| ());
    let offer = offered(&bytes, |offer| offer.age_ms = 7);
    assert!(holder.put(START, &offer).is_ok());
    let copy = holder.read(START.after_us(1), &KEY)[0].copy();
    assert_eq!(copy.record, bytes);
    assert_eq!(copy.remaining_ms, u64::from(HOUR_MS) - 1, "rounded down");
    assert_eq!(copy.age_ms, 7);
}

#[test]
fn a_walk_over_the_slots_meets_every_record() {
    let mut holder = room::full();
    let location = Key::from_bytes([6; 32]);
    let id = holder.read(START, &location)[0].id;
    assert!(holder.records.remove(id, |_| ()));
    let mut met: Vec<_> = (0..holder.records.slots())
        .filter_map(|slot| holder.records.at(START, slot))
        .map(|held| holder.records.location(held.id).unwrap().as_bytes()[0])
        .collect();
    met.sort_unstable();
    let expected: Vec<_> = (0..64).step_by(2).filter(|&n| n != 6).collect();
    assert_eq!(met, expected);
    assert_eq!(holder.records.at(START, holder.records.slots()), None);
}

#[test]
fn a_name_of_a_record_that_is_gone_finds_nothing() {
    let mut holder = BoardHolder::new();
    let bytes = author(1).value(|_| ());
    let old = holder.put(START, &fresh(&bytes)).unwrap().id;
    assert!(holder.records.remove(old, |_| ()));
    let other = room::small(2);
    let new = holder.put(START, &fresh(&other)).unwrap().id;
    assert_eq!(holder.records.get(START, old), None);
    assert_eq!(holder.records.location(old), None);
    assert!(!holder.records.remove(old, |_| panic!("nothing is lost")));
    assert_eq!(holder.records.get(START, new).unwrap().bytes, other);
}

#[test]
fn starting_again_drops_everything() {
    let mut holder = room::full();
    let id = holder.read(START, &Key::from_bytes([0; 32]))[0].id;
    holder.refuses(START, &fresh(&room::small(100)), PutError::NoRoom);
    holder.records.start(&mut Rng::from_seed(&Seed([6; 32])));
    assert!(holder.records.is_empty() && holder.records.used_bytes() == 0);
    assert_eq!(holder.records.get(START, id), None);
    assert_eq!(holder.records.next_deadline().get(), None);
    assert_eq!(holder.records.dropped().total(), 0);
    assert!(holder.put(START, &fresh(&room::small(0))).unwrap().gained);
}
