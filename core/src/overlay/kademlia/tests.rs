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
use crate::bounded::{Fixed, Grown};
use crate::crypto::Ed25519;
use crate::overlay::{K, REPLICATION};
use crate::rng::Seed;

type Table = Kademlia<Grown<Entry, 5_120>, Grown<Spare, 16>, Grown<Silent, 16>, Noted<5_120>>;
type Small = Kademlia<Fixed<Entry, 32>, Fixed<Spare, 1>, Fixed<Silent, 3>>;

/// A network less wide than usual.
#[derive(Clone, Debug)]
struct Slim;

impl Width for Slim {
    fn k() -> usize {
        8
    }

    fn alpha() -> usize {
        2
    }

    fn replication() -> usize {
        4
    }
}

type SlimTable =
    Kademlia<Grown<Entry, 5_120>, Grown<Spare, 16>, Grown<Silent, 16>, Noted<5_120>, Slim>;

const NOW: Instant = Instant::from_s(1_000);
const OWN: NodeId = NodeId::from_bytes([0x55; 32]);

fn rng() -> Rng<Ed25519> {
    Rng::from_seed(&Seed([3; 32]))
}

fn addr(n: u32) -> PackedAddr {
    let [_, a, b, c] = n.to_be_bytes();
    PackedAddr::from(SocketAddr::from(([44, a, b, c], 7827)))
}

/// A contact that shares exactly `bucket` bits with the own id, otherwise random.
fn in_bucket(bucket: u8, n: u32, rng: &mut Rng<Ed25519>) -> Contact {
    let key = table::<Table>().random_in(bucket, rng);
    Contact {
        id: NodeId::from_bytes(*key.as_bytes()),
        addr: addr(n),
    }
}

fn random(n: u32, rng: &mut Rng<Ed25519>) -> Contact {
    let mut id = [0; 32];
    rng.fill(&mut id);
    Contact {
        id: NodeId::from_bytes(id),
        addr: addr(n),
    }
}

fn table<T: Overlay>() -> T {
    let mut table = T::EMPTY;
    table.start(OWN);
    table
}

fn answer<T: Overlay>(table: &mut T, contact: Contact) -> Change {
    table.answered(NOW, contact, [1; 8], Some(20))
}

fn filled<T: Overlay>(count: u32) -> T {
    let (mut table, mut rng) = (table::<T>(), rng());
    for n in 0..count {
        let _ = answer(&mut table, random(n, &mut rng));
    }
    table
}

fn distance(id: &NodeId, key: &Key) -> Distance {
    Distance::between(id.as_bytes(), key.as_bytes())
}

#[test]
fn the_nearest_are_those_that_a_look_at_all_finds() {
    fn compare<T: Overlay>(count: u32) {
        let (table, mut rng) = (filled::<T>(count), rng());
        for round in 0..200_u32 {
            let mut key = [0; 32];
            rng.fill(&mut key);
            if round.is_multiple_of(2) {
                // Near the own id, and near a contact.
                let near = table.entries()[(round as usize * 7) % table.entries().len()];
                let near = if round.is_multiple_of(4) {
                    OWN
                } else {
                    near.contact.id
                };
                key[..4].copy_from_slice(&near.as_bytes()[..4]);
            }
            let key = Key::from_bytes(key);
            let mut all: Vec<NodeId> = table.entries().iter().map(|e| e.contact.id).collect();
            all.sort_by_key(|id| distance(id, &key));
            let nearest = table.nearest(&key);
            let ids: Vec<_> = nearest
                .iter()
                .map(|&at| table.at(at).unwrap().contact.id)
                .collect();
            assert_eq!(ids, all[..T::k().min(all.len())]);
            let nearer = all
                .iter()
                .filter(|id| distance(id, &key) < distance(&OWN, &key))
                .count();
            assert_eq!(table.nearer_than_own(&key, usize::MAX), nearer);
            assert_eq!(table.nearer_than_own(&key, 8), nearer.min(8));
        }
    }
    compare::<Table>(3);
    compare::<Table>(3_000);
    compare::<Small>(500);
    compare::<SlimTable>(3_000);
}

#[test]
fn the_list_stays_sorted_and_buckets_stay_within_their_bound() {
    let table = filled::<Table>(5_000);
    assert!(table.entries().is_sorted_by_key(|entry| entry.bucket));
    let mut at = 0;
    while at < table.entries().len() {
        let end = table.run_end(at);
        assert!(end - at <= Table::bucket_max());
        at = end;
    }
    // 5,000 nodes: eight far buckets of 20, and the neighbourhood.
    assert!(
        (160..260).contains(&table.entries().len()),
        "{}",
        table.entries().len()
    );
}

#[test]
fn the_nearest_twenty_are_known_even_where_their_bucket_is_full() {
    let (mut table, mut rng) = (table::<Table>(), rng());
    let mut all = Vec::new();
    for n in 0..4_000 {
        let contact = random(n, &mut rng);
        all.push(contact.id);
        let _ = answer(&mut table, contact);
    }
    let own = Key::from_bytes(*OWN.as_bytes());
    all.sort_by_key(|id| distance(id, &own));
    let nearest = table.nearest(&own);
    let ids: Vec<_> = nearest
        .iter()
        .map(|&at| table.at(at).unwrap().contact.id)
        .collect();
    assert_eq!(ids, all[..K]);
}

/// The same contact with the leading bits of another's id.
fn beside(other: &Contact, contact: Contact) -> Contact {
    let mut id = *contact.id.as_bytes();
    id[0] = other.id.as_bytes()[0];
    Contact {
        id: NodeId::from_bytes(id),
        ..contact
    }
}

#[test]
fn a_newcomer_to_an_empty_part_of_a_full_bucket_takes_a_place_in_the_fullest() {
    fn full<T: Overlay>(near: u32) -> (T, Vec<Contact>) {
        let (mut table, mut rng) = (table::<T>(), rng());
        for n in 0..near {
            let _ = answer(&mut table, in_bucket(5, 100 + n, &mut rng));
        }
        // What one lookup finds: all in one part.
        let first = Contact {
            id: NodeId::from_bytes([0xD5; 32]),
            addr: addr(0),
        };
        let old: Vec<_> = (1..21)
            .map(|n| beside(&first, in_bucket(0, n, &mut rng)))
            .collect();
        for &contact in &old {
            let _ = answer(&mut table, contact);
        }
        (table, old)
    }
    let elsewhere = |n: u32, at: &Contact| {
        let mut id = in_bucket(0, n, &mut rng());
        let mut bytes = *id.id.as_bytes();
        // The first bit stays; one of the next four does not, which makes it the farthest of all.
        bytes[0] = at.id.as_bytes()[0] ^ 0x20;
        id.id = NodeId::from_bytes(bytes);
        id
    };
    let (mut table, old) = full::<Table>(20);
    let _ = table.heard(NOW, old[0]);
    let newcomer = elsewhere(200, &old[0]);
    assert_eq!(table.judge(&newcomer), Heard::Wanted);
    assert_eq!(answer(&mut table, newcomer).added, Some(newcomer));
    assert!(table.find(&old[1].id).is_none(), "not heard for longest");
    assert!(table.find(&old[0].id).is_some());
    // Its part is empty no more.
    let mut second = elsewhere(201, &old[0]);
    let mut bytes = *second.id.as_bytes();
    bytes[31] ^= 1;
    second.id = NodeId::from_bytes(bytes);
    assert_eq!(table.judge(&second), Heard::Unwanted);

    // Where the nearest are among them, nobody goes.
    let (table, old) = full::<Table>(19);
    assert_eq!(table.judge(&elsewhere(200, &old[0])), Heard::Unwanted);
}

#[test]
fn a_full_bucket_keeps_its_old_contacts_until_one_fails() {
    let (mut table, mut rng) = (table::<Table>(), rng());
    for n in 0..20 {
        // Near enough that the far bucket is not part of the neighbourhood.
        let _ = answer(&mut table, in_bucket(5, 100 + n, &mut rng));
    }
    let old: Vec<_> = (0..20).map(|n| in_bucket(0, n, &mut rng)).collect();
    for &contact in &old {
        assert_eq!(answer(&mut table, contact).added, Some(contact));
    }
    // Where another is already.
    let newcomer = beside(&old[5], in_bucket(0, 99, &mut rng));
    assert_eq!(table.judge(&newcomer), Heard::Unwanted);
    let change = answer(&mut table, newcomer);
    assert_eq!(
        (change.added, change.probe),
        (None, None),
        "all were heard just now"
    );
    // An hour later the one not heard for longest is looked for.
    let later = NOW.after_s(3_600);
    assert_eq!(table.heard(later, old[0]), Heard::Known);
    let change = table.answered(later, newcomer, [1; 8], None);
    assert_eq!(change.probe.map(|peer| peer.addr), Some(old[1].addr));
    // It answers, and stays.
    let _ = table.answered(later, old[1], [1; 8], None);
    assert!(table.find(&newcomer.id).is_none());
    // The next one does not, and the newcomer takes its place.
    let change = table.failed(later, &old[2].addr);
    assert_eq!(change.added, Some(newcomer));
    assert!(table.find(&old[2].id).is_none() && table.find(&newcomer.id).is_some());
}

#[test]
fn nobody_takes_over_the_id_of_a_contact() {
    let mut table = filled::<Table>(10);
    let known = table.entries()[4].contact;
    let thief = Contact {
        addr: addr(999),
        ..known
    };
    assert_eq!(table.heard(NOW, thief), Heard::Unwanted);
    let change = answer(&mut table, thief);
    assert_eq!(
        (change.added, table.find(&known.id).unwrap().contact),
        (None, known)
    );
    // After a while the old address is looked for; only when it fails is there room for another.
    let later = NOW.after_s(600);
    let change = table.answered(later, thief, [1; 8], None);
    assert_eq!(change.probe.map(|peer| peer.addr), Some(known.addr));
    let _ = table.failed(later, &known.addr);
    assert_eq!(
        table.answered(later, thief, [1; 8], None).added,
        Some(thief)
    );
}

#[test]
fn an_address_has_one_contact() {
    let (mut table, mut rng) = (filled::<Table>(10), rng());
    let old = table.entries()[4].contact;
    let reborn = Contact {
        addr: old.addr,
        ..random(0, &mut rng)
    };
    let reborn = Contact {
        id: NodeId::from_bytes([9; 32]),
        ..reborn
    };
    assert_eq!(answer(&mut table, reborn).added, Some(reborn));
    assert!(table.find(&old.id).is_none());
    assert_eq!(table.entries().len(), 10);
}

#[test]
fn the_own_id_is_never_a_contact() {
    let mut table = table::<Table>();
    let own = Contact {
        id: OWN,
        addr: addr(1),
    };
    assert_eq!(answer(&mut table, own), Change::default());
    assert_eq!(table.heard(NOW, own), Heard::Unwanted);
    assert!(table.entries().is_empty());
}

#[test]
fn a_small_table_keeps_its_neighbours_and_shares_the_rest() {
    let (mut table, mut rng) = (table::<Small>(), rng());
    let mut all = Vec::new();
    for n in 0..2_000 {
        let contact = random(n, &mut rng);
        all.push(contact.id);
        let _ = answer(&mut table, contact);
    }
    assert_eq!(table.entries().len(), 32);
    assert!(table.entries().is_sorted_by_key(|entry| entry.bucket));
    let own = Key::from_bytes(*OWN.as_bytes());
    all.sort_by_key(|id| distance(id, &own));
    for id in &all[..REPLICATION] {
        assert!(table.find(id).is_some(), "the nearest are known");
    }
    // Every far bucket has somebody.
    for bucket in 0..6 {
        assert!(
            table.entries().iter().any(|entry| entry.bucket == bucket),
            "{bucket}"
        );
    }
}

#[test]
fn a_full_small_table_refuses_without_changing() {
    let mut table = filled::<Small>(3_000);
    let mut rng = rng();
    let before: Vec<_> = table.entries().to_vec();
    let far = in_bucket(0, 9_999, &mut rng);
    let own_bucket = before.iter().filter(|entry| entry.bucket == 0).count();
    assert!(own_bucket > 0);
    assert_eq!(answer(&mut table, far).added, None);
    assert_eq!(table.entries(), before);
}

#[test]
fn the_silent_are_probed_in_turn_for_a_day() {
    let mut table = filled::<Table>(3);
    let gone: Vec<_> = table
        .entries()
        .iter()
        .map(|entry| entry.contact.addr)
        .collect();
    for addr in &gone {
        assert_eq!(table.failed(NOW, addr).added, None);
        assert_eq!(table.failed(NOW, addr), Change::default(), "only once");
    }
    assert!(table.entries().is_empty());
    let (mut rng, mut probed, mut now) = (rng(), Vec::new(), NOW);
    while let Some(at) = table.next_upkeep().get() {
        assert!(at >= now);
        now = at;
        match table.upkeep(now, &mut rng) {
            Upkeep::Ping(peer) => probed.push(peer.addr),
            Upkeep::Nothing => {}
            other @ (Upkeep::Lookup(_) | Upkeep::Ask(_) | Upkeep::LookAgain) => panic!("{other:?}"),
        }
    }
    assert_eq!(probed[..6], [&gone[..], &gone[..]].concat());
    let day = now.since_ms(NOW) / 1_000;
    assert!(
        (u64::from(SILENT_S)..u64::from(SILENT_S) + 60).contains(&day),
        "{day}"
    );
}

#[test]
fn upkeep_looks_up_each_part_of_the_table_once_in_its_time() {
    let mut table = filled::<Table>(1_000);
    let mut rng = rng();
    table.joined(NOW);
    let (mut now, mut filling) = (NOW, Vec::new());
    while filling.len() < 7 {
        now = table.next_upkeep().get().unwrap();
        if let Upkeep::Lookup(key) = table.upkeep(now, &mut rng) {
            filling.push(Distance::between(key.as_bytes(), OWN.as_bytes()).leading_zeros());
        }
    }
    // From the farthest neighbour outwards, then the own id.
    assert!(filling[..6].is_sorted_by(|a, b| *a == b + 1), "{filling:?}");
    assert_eq!(filling[5..], [0, 256]);
    assert!(now.since_ms(NOW) < 4_000);
    let (begun, mut lookups) = (now, 0);
    while now.since_ms(begun) < REFRESH_MS {
        now = table.next_upkeep().get().unwrap();
        lookups += u32::from(matches!(table.upkeep(now, &mut rng), Upkeep::Lookup(_)));
    }
    assert!((5..=10).contains(&lookups), "{lookups}");
}

#[test]
fn a_neighbour_that_is_not_heard_is_pinged() {
    let mut table = filled::<Table>(50);
    let mut rng = rng();
    let (now, peer) = loop {
        let now = table.next_upkeep().get().unwrap();
        if let Upkeep::Ping(peer) = table.upkeep(now, &mut rng) {
            break (now, peer);
        }
    };
    let own = Key::from_bytes(*OWN.as_bytes());
    let nearest = table.nearest(&own);
    let near = &nearest.as_slice()[..REPLICATION];
    assert!(
        near.iter()
            .any(|&at| table.at(at).unwrap().contact.addr == peer.addr)
    );
    let silent_s = now.since_ms(NOW) / 1_000;
    assert!((180..230).contains(&silent_s), "{silent_s}");
}

#[test]
fn differences_of_the_neighbourhood_are_told_once() {
    let (mut table, mut rng) = (table::<Table>(), rng());
    assert_eq!(table.pop_neighbour(), None);
    let contacts: Vec<_> = (0..8).map(|n| in_bucket(3, n, &mut rng)).collect();
    for &contact in &contacts {
        let _ = answer(&mut table, contact);
        assert_eq!(table.pop_neighbour(), Some(Neighbour::Up(contact)));
        assert_eq!(table.pop_neighbour(), None);
    }
    assert_eq!(table.responsible_bits(), 4);
    // A nearer one takes the place of the farthest.
    let nearer = in_bucket(9, 8, &mut rng);
    let _ = answer(&mut table, nearer);
    let Some(Neighbour::Down(down)) = table.pop_neighbour() else {
        panic!()
    };
    assert!(contacts.iter().any(|contact| contact.id == down));
    assert_eq!(table.pop_neighbour(), Some(Neighbour::Up(nearer)));
    assert_eq!(table.pop_neighbour(), None);
    // It fails: the change says so at once, and the other comes back.
    assert_eq!(table.failed(NOW, &nearer.addr).down, Some(nearer.id));
    assert!(matches!(table.pop_neighbour(), Some(Neighbour::Up(back)) if back.id == down));
    assert_eq!(table.pop_neighbour(), None);
    // One that was never told is not told to be gone.
    let untold = in_bucket(9, 9, &mut rng);
    let _ = answer(&mut table, untold);
    assert_eq!(table.failed(NOW, &untold.addr).down, None);
    assert_eq!(table.pop_neighbour(), None);
}

#[test]
fn responsibility_is_certain_where_fewer_than_eight_can_be_nearer() {
    let (table, mut rng) = (filled::<Table>(400), rng());
    let bits = u8::try_from(table.responsible_bits()).unwrap();
    assert!(bits > 3);
    for _ in 0..200 {
        let near = table.random_in(bits, &mut rng);
        assert!(table.nearer_than_own(&near, REPLICATION) < REPLICATION);
    }
    let farther = (0..200).map(|_| table.random_in(bits - 1, &mut rng));
    let mut nearer = farther.map(|key| table.nearer_than_own(&key, REPLICATION));
    assert!(
        nearer.any(|count| count == REPLICATION),
        "one bit less is not enough"
    );
    assert_eq!(filled::<Table>(7).responsible_bits(), 0);
}

#[test]
fn of_a_slim_network_buckets_are_shorter_and_fewer_hold_a_record() {
    let (mut table, mut rng) = (filled::<SlimTable>(5_000), rng());
    // Nine far buckets of 8, of which one began among the nearest, and the neighbourhood.
    let len = table.entries().len();
    assert!((72..110).contains(&len), "{len}");
    let mut at = 0;
    while at < table.entries().len() {
        let end = table.run_end(at);
        assert!(end - at <= 16);
        at = end;
    }
    let bits = u8::try_from(table.responsible_bits()).unwrap();
    let (mut responsible, mut others) = (0, 0);
    for round in 0..400_u16 {
        let key = table.random_in(bits - u8::from(round.is_multiple_of(2)), &mut rng);
        let nearer = table.nearer_than_own(&key, usize::MAX);
        assert_eq!(table.is_responsible(&key), nearer < 4);
        responsible += u16::from(nearer < 4);
        others += u16::from(nearer >= 4);
    }
    assert!(responsible >= 200 && others > 0, "{responsible}, {others}");
    let up: Vec<_> = core::iter::from_fn(|| table.pop_neighbour()).collect();
    assert_eq!(up.len(), 4);
}

#[test]
fn a_width_outside_its_limits_counts_as_the_nearest_within() {
    struct Least;
    struct Most;

    impl Width for Least {
        fn k() -> usize {
            0
        }

        fn alpha() -> usize {
            0
        }

        fn replication() -> usize {
            0
        }
    }

    impl Width for Most {
        fn k() -> usize {
            usize::MAX
        }

        fn alpha() -> usize {
            usize::MAX
        }

        fn replication() -> usize {
            usize::MAX
        }
    }

    fn widths<W: Width>() -> (usize, usize, usize) {
        type Of<W> = Kademlia<Fixed<Entry, 32>, Fixed<Spare, 1>, Fixed<Silent, 3>, Plain, W>;
        (Of::<W>::k(), Of::<W>::alpha(), Of::<W>::replication())
    }
    assert_eq!(widths::<Least>(), (4, 1, 4));
    assert_eq!(widths::<Most>(), (20, 20, 20));
    assert_eq!(widths::<Slim>(), (8, 2, 4));
    assert_eq!(widths::<Usual>(), (20, 3, 8));
}
