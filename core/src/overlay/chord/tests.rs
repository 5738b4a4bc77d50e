#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

extern crate alloc;

mod width;

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::upkeep::power_behind;
use super::*;
use crate::bounded::{Fixed, Grown};
use crate::crypto::Ed25519;
use crate::rng::Seed;

type Ring = Chord<Grown<Entry, 320>, Grown<Silent, 16>>;
type Small = Chord<Fixed<Entry, 32>, Fixed<Silent, 2>>;

const NOW: Instant = Instant::from_s(1_000);
/// The own node stands at 1000 of a ring whose ids differ in their last two bytes; it goes on to 65535 and begins again.
const OWN: u16 = 1_000;

fn rng() -> Rng<Ed25519> {
    Rng::from_seed(&Seed([3; 32]))
}

/// The place `n` on the ring.
fn at(n: u16) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    bytes
}

fn key(n: u16) -> Key {
    Key::from_bytes(at(n))
}

fn contact(n: u16) -> Contact {
    let [a, b] = n.to_be_bytes();
    Contact {
        id: NodeId::from_bytes(at(n)),
        addr: PackedAddr::from(SocketAddr::from(([44, a, b, 1], 7827))),
    }
}

fn alone<T: Overlay>() -> T {
    let mut ring = T::EMPTY;
    ring.start(NodeId::from_bytes(at(OWN)));
    ring
}

fn answer<T: Overlay>(ring: &mut T, n: u16) -> Change {
    ring.answered(NOW, contact(n), [1; 8], Some(20))
}

/// A ring in which these answered, after joining.
fn joined<T: Overlay>(others: impl IntoIterator<Item = u16>) -> T {
    let mut ring = alone::<T>();
    for n in others {
        let _ = answer(&mut ring, n);
    }
    ring.joined(NOW);
    ring
}

/// Contacts as a reply lists them.
fn listed(others: &[u16]) -> Vec<u8> {
    others.iter().flat_map(|&n| contact(n).to_bytes()).collect()
}

/// The contact `from` names others, of whom nobody was pinged in vain.
fn named<T: Overlay>(ring: &mut T, now: Instant, from: u16, others: &[u16]) -> Option<Peer> {
    ring.named(now, &contact(from), &listed(others), |_| false)
}

fn number(id: &NodeId) -> u16 {
    u16::from_be_bytes(*id.as_bytes().first_chunk().unwrap())
}

fn numbers<T: Overlay>(ring: &T, places: &Nearest) -> Vec<u16> {
    let entries = places.iter().map(|&at| ring.at(at).unwrap());
    entries.map(|entry| number(&entry.contact.id)).collect()
}

fn all<T: Overlay>(ring: &T) -> Vec<u16> {
    let ids = ring.entries().iter().map(|entry| entry.contact.id);
    ids.map(|id| number(&id)).collect()
}

#[test]
fn a_key_belongs_to_the_first_node_at_it_or_behind_it() {
    let ring = joined::<Ring>([900, 1_100, 50_000]);
    for (n, own) in [
        (900, false),
        (901, true),
        (1_000, true),
        (1_001, false),
        (0, false),
    ] {
        assert_eq!(ring.is_responsible(&key(n)), own, "{n}");
    }
    assert_eq!(
        numbers(&ring, &ring.nearest(&key(901))),
        [1_100, 50_000, 900]
    );
    assert_eq!(
        numbers(&ring, &ring.nearest(&key(900))),
        [900, 1_100, 50_000]
    );
    assert_eq!(
        numbers(&ring, &ring.nearest(&key(60_000))),
        [900, 1_100, 50_000]
    );
    let nearer = |n| ring.nearer_than_own(&key(n), 8);
    assert_eq!(
        [nearer(1_000), nearer(901), nearer(900), nearer(1_001)],
        [0, 0, 1, 3]
    );
    let is_nearer = |k, a, b| ring.is_nearer(&key(k), &contact(a).id, &contact(b).id);
    assert!(is_nearer(950, 1_000, 1_100) && is_nearer(50_001, 900, 50_000));
    assert!(
        !is_nearer(950, 900, 1_000),
        "whoever is before the key is far"
    );
}

#[test]
fn who_is_alone_owns_every_key_and_who_has_not_joined_none() {
    let mut ring = alone::<Ring>();
    assert!(ring.is_responsible(&key(5)));
    let whole = Responsibility::Range {
        after: key(OWN),
        last: key(OWN),
    };
    assert_eq!(ring.pop_responsibility(), Some(whole));
    let _ = answer(&mut ring, 5_000);
    assert!(!ring.is_responsible(&key(OWN)) && ring.pop_responsibility().is_none());
    ring.joined(NOW);
    assert!(ring.is_responsible(&key(6_000)) && !ring.is_responsible(&key(5_000)));
    let range = Responsibility::Range {
        after: key(5_000),
        last: key(OWN),
    };
    assert_eq!(ring.pop_responsibility(), Some(range));
    assert_eq!(ring.pop_responsibility(), None, "only once");
    // Its predecessor seems to be gone, and comes back: for a while nothing was owned.
    ring.predecessor = Predecessor::Sought;
    assert!(ring.pop_responsibility().is_none() && !ring.is_responsible(&key(6_000)));
    ring.predecessor = Predecessor::Known;
    assert_eq!(ring.pop_responsibility(), Some(range), "sure of it again");
}

#[test]
fn successors_predecessors_and_the_first_of_each_finger_are_kept() {
    let mut ring = alone::<Ring>();
    for n in (0..u16::MAX).step_by(64).rev() {
        let _ = answer(&mut ring, n);
    }
    // Places on this ring are 64 apart, from 24 behind the own one on.
    let behind = |n: u16| OWN + 24 + 64 * n;
    let mut expected: Vec<u16> = (0..20).map(behind).collect();
    for power in [11, 12, 13, 14, 15] {
        let start = OWN.wrapping_add(1 << power);
        expected.push(start.next_multiple_of(64));
    }
    expected.extend((0..8).rev().map(|n| 960 - 64 * n));
    assert_eq!(all(&ring), expected);
    // Whoever is not one of these is not worth a ping.
    assert_eq!(ring.judge(&contact(20_000)), Heard::Unwanted);
    assert_eq!(ring.judge(&contact(OWN + 1)), Heard::Wanted);
    assert_eq!(ring.judge(&contact(OWN - 1)), Heard::Wanted);
    assert_eq!(
        ring.judge(&contact(OWN + 4_097)),
        Heard::Wanted,
        "a better finger"
    );
    assert_eq!(ring.judge(&contact(OWN)), Heard::Unwanted);
}

#[test]
fn a_small_list_gives_its_least_finger_up_first() {
    let mut ring = alone::<Small>();
    // All at once: successors, predecessors and more fingers than there is room for.
    for n in 1..=16 {
        let _ = answer(&mut ring, OWN + n);
    }
    for n in 1..=8 {
        let _ = answer(&mut ring, OWN - n);
    }
    for power in 5..16_u8 {
        let _ = answer(&mut ring, OWN.wrapping_add(1 << power));
    }
    assert_eq!(ring.entries().len(), 32);
    let fingers: Vec<u16> = all(&ring)[16..24].to_vec();
    let kept: Vec<u16> = (8..16_u8)
        .map(|power| OWN.wrapping_add(1 << power))
        .collect();
    assert_eq!(fingers, kept);
    assert_eq!(ring.judge(&contact(OWN + 40)), Heard::Unwanted);
    assert_eq!(ring.judge(&contact(OWN + 1 + 16)), Heard::Unwanted);
}

#[test]
fn a_reply_names_the_owner_and_those_behind_or_those_before() {
    let mut ring = alone::<Ring>();
    for n in (0..u16::MAX).step_by(64) {
        let _ = answer(&mut ring, n);
    }
    let towards = |n| numbers(&ring, &ring.towards(&key(n)));
    // Among the successors: the owner, those behind it, then those before, the closest first.
    let near = towards(1_100);
    assert_eq!(near[..3], [1_152, 1_216, 1_280]);
    assert_eq!(near[14..], [1_088, 1_024, 960, 896, 832, 768]);
    // Among the predecessors: the same, and the own successors go on where the predecessors end.
    let near = towards(900);
    assert_eq!(near[..3], [960, 1_024, 1_088]);
    assert_eq!(near[14..], [896, 832, 768, 704, 640, 576]);
    // Far away: those before alone, the closest first.
    assert_eq!(towards(40_000)[..3], [33_792, 17_408, 9_216]);
    assert_eq!(towards(40_000).len(), 8);
    // A small ring: everybody, from the key on.
    let ring = joined::<Ring>([900, 1_100, 50_000]);
    assert_eq!(
        numbers(&ring, &ring.towards(&key(1_200))),
        [50_000, 900, 1_100]
    );
    assert_eq!(
        numbers(&ring, &ring.towards(&key(950))),
        [1_100, 50_000, 900]
    );
}

#[test]
fn a_range_is_not_claimed_before_the_next_predecessor_has_answered() {
    let mut ring = joined::<Ring>([300, 900, 1_100]);
    assert!(ring.is_responsible(&key(950)));
    assert_eq!(
        ring.failed(NOW, &contact(900).addr).down,
        None,
        "never told"
    );
    assert!(
        !ring.is_responsible(&key(950)),
        "there may be others behind 300"
    );
    // It is asked at once who is between.
    assert!(
        ring.next_upkeep()
            .get()
            .is_some_and(|at| at <= NOW.after_ms(MEND_MS))
    );
    let mend = NOW.after_ms(MEND_MS);
    let asked = match ring.upkeep(mend, &mut rng()) {
        Upkeep::Ask(peer) => peer.addr,
        other => panic!("{other:?}"),
    };
    assert_eq!(asked, contact(300).addr);
    // It names a live node: that one comes first.
    assert_eq!(named(&mut ring, NOW, 300, &[500, 1_100]), None);
    assert!(!ring.is_responsible(&key(950)));
    // It names the dead one and nobody else: it is the predecessor.
    assert_eq!(named(&mut ring, NOW, 300, &[900, OWN, 1_100]), None);
    assert!(ring.is_responsible(&key(950)) && ring.is_responsible(&key(301)));
    assert!(!ring.is_responsible(&key(300)));
}

#[test]
fn a_node_that_comes_to_its_successor_is_its_predecessor() {
    let mut ring = joined::<Ring>([300, 900, 1_100]);
    let _ = ring.failed(NOW, &contact(900).addr);
    // Not whoever is nearest asks for its own place, nor does the one that does ask for it.
    assert_eq!(ring.asked(NOW, &contact(1_100), &key(1_100)), None);
    assert_eq!(ring.asked(NOW, &contact(300), &key(950)), None);
    assert!(!ring.is_responsible(&key(950)));
    let _ = ring.asked(NOW, &contact(300), &key(300));
    assert!(ring.is_responsible(&key(950)));
}

#[test]
fn a_silent_predecessor_is_pinged_when_its_keys_are_sought() {
    let mut ring = joined::<Ring>([300, 900, 1_100]);
    let asker = contact(40_000);
    let later = NOW.after_s(u64::from(RECHECK_S));
    assert_eq!(
        ring.asked(NOW, &asker, &key(800)),
        None,
        "it was just heard"
    );
    let pinged = ring.asked(later, &asker, &key(800)).map(|peer| peer.addr);
    assert_eq!(pinged, Some(contact(900).addr));
    assert_eq!(ring.asked(later, &asker, &key(950)), None, "its own");
}

#[test]
fn of_several_silent_predecessors_the_last_is_pinged_whichever_is_sought() {
    let mut ring = joined::<Ring>((0..u16::MAX).step_by(64));
    let later = NOW.after_s(u64::from(RECHECK_S));
    let mut pinged = |n| {
        let peer = ring.asked(later, &contact(40_000), &key(n));
        peer.map(|peer| peer.addr)
    };
    for n in [950, 890, 700, 512] {
        assert_eq!(pinged(n), Some(contact(960).addr), "{n}");
    }
    for n in [970, 1_000, 1_010, 2_000, 30_000] {
        assert_eq!(pinged(n), None, "{n}");
    }
}

#[test]
fn whoever_the_successor_does_not_list_is_pinged() {
    let mut ring = joined::<Ring>([900, 1_100, 1_200, 1_300, 1_400]);
    let later = NOW.after_s(u64::from(RECHECK_S));
    let mut missing = |from, others: &[u16]| {
        let peer = named(&mut ring, later, from, others);
        peer.map(|peer| peer.addr)
    };
    assert_eq!(missing(1_100, &[1_200, 1_300, 1_400, 900]), None);
    assert_eq!(missing(1_100, &[1_300, 1_400]), Some(contact(1_200).addr));
    assert_eq!(missing(1_100, &[1_200]), None, "its list is shorter");
    assert_eq!(
        missing(1_100, &[900]),
        None,
        "that one is not behind this node"
    );
    assert_eq!(
        missing(1_200, &[1_400]),
        None,
        "only the successor's list counts"
    );
}

#[test]
fn upkeep_asks_the_successor_mostly_and_pings_who_is_silent() {
    let mut ring = joined::<Ring>([300, 900, 1_100, 1_200]);
    let (mut now, mut rng) = (NOW, rng());
    let (mut asked, mut pinged) = (Vec::new(), Vec::new());
    while now < NOW.after_s(30 * 60) {
        now = ring.next_upkeep().get().unwrap();
        match ring.upkeep(now, &mut rng) {
            Upkeep::Ask(peer) => asked.push(peer.addr),
            Upkeep::Ping(peer) => pinged.push(peer.addr),
            Upkeep::Nothing => {}
            other => panic!("{other:?}: the successors are the whole ring"),
        }
        assert!(ring.next_upkeep().get().unwrap() > now);
    }
    let count = |list: &[PackedAddr], n| list.iter().filter(|&&a| a == contact(n).addr).count();
    assert!((50..80).contains(&asked.len()), "{}", asked.len());
    assert_eq!(count(&asked, 900), asked.len() / 4);
    assert_eq!(count(&asked, 1_100), asked.len() - asked.len() / 4);
    // Nobody is ever heard here: the predecessor is looked for all the time.
    assert!(count(&pinged, 900) > 100);
}

#[test]
fn all_fingers_beyond_the_successors_are_looked_up_after_joining() {
    let mut ring = joined::<Ring>((1..=40).map(|n| OWN + n));
    let (mut now, mut rng, mut sought) = (NOW, rng(), Vec::new());
    while now < NOW.after_s(60 * 60) {
        now = ring.next_upkeep().get().unwrap();
        if let Upkeep::Lookup(key) = ring.upkeep(now, &mut rng) {
            sought.push(key);
        }
    }
    // The ring's unit is 2^240, and the 20 successors reach to 20 of these: the powers from 2^245 on are left.
    let expected: Vec<Key> = (5..16_u8)
        .rev()
        .map(|p| key(OWN.wrapping_add(1 << p)))
        .collect();
    assert_eq!(sought[..11], expected);
    assert_eq!(sought[11..22], expected, "and again, slowly");
}

#[test]
fn a_power_of_two_is_added_with_its_carry() {
    let id = NodeId::from_bytes([0xff; 32]);
    assert_eq!(power_behind(&id, 0), Key::ZERO);
    let mut expected = [0xff; 32];
    expected[0] = 0x7f;
    assert_eq!(power_behind(&id, 255), Key::from_bytes(expected));
    assert_eq!(power_behind(&NodeId::ZERO, 9).as_bytes()[30..], [2, 0]);
}

#[test]
fn one_address_has_one_contact_and_an_id_is_not_taken_over() {
    let mut ring = joined::<Ring>([900, 1_100]);
    let moved = Contact {
        addr: contact(7).addr,
        ..contact(900)
    };
    assert_eq!(ring.heard(NOW, moved), Heard::Unwanted);
    assert_eq!(ring.answered(NOW, moved, [1; 8], None), Change::default());
    let later = NOW.after_s(u64::from(FRESH_S));
    let probe = ring.answered(later, moved, [1; 8], None).probe;
    assert_eq!(probe.map(|peer| peer.addr), Some(contact(900).addr));
    // Somebody else answers where 900 lived.
    let other = Contact {
        id: contact(950).id,
        ..contact(900)
    };
    assert_eq!(ring.answered(NOW, other, [1; 8], None).added, Some(other));
    assert_eq!(all(&ring), [1_100, 950]);
}

#[test]
fn those_that_failed_are_pinged_for_a_day_and_those_that_left_are_not() {
    let mut ring = joined::<Ring>([300, 900, 1_100]);
    let _ = ring.failed(NOW, &contact(300).addr);
    let _ = ring.left(NOW, &contact(1_100));
    let _ = ring.failed(NOW, &contact(900).addr);
    assert!(ring.entries().is_empty());
    let (mut now, mut rng, mut pinged) = (NOW, rng(), Vec::new());
    while let Some(at) = ring.next_upkeep().get() {
        now = at;
        if let Upkeep::Ping(peer) = ring.upkeep(now, &mut rng) {
            pinged.push(peer.addr);
        }
    }
    assert_eq!(pinged[..4], [300, 900, 300, 900].map(|n| contact(n).addr));
    let hours = now.since_ms(NOW) / 3_600_000;
    assert_eq!(hours, 24);
    assert!(ring.is_responsible(&key(5)), "alone again");
}

#[test]
fn neighbours_are_the_predecessor_and_those_that_hold_what_the_node_owns() {
    let mut ring = joined::<Ring>((1..=12).map(|n| OWN + n * 10));
    let mut up = Vec::new();
    while let Some(neighbour) = ring.pop_neighbour() {
        match neighbour {
            Neighbour::Up(contact) => up.push(number(&contact.id)),
            Neighbour::Down(id) => panic!("{id}"),
        }
    }
    let expected: Vec<u16> = [1, 2, 3, 4, 5, 6, 7, 12].map(|n| OWN + n * 10).to_vec();
    assert_eq!(up, expected);
    let _ = answer(&mut ring, OWN + 5);
    let gone = ring.pop_neighbour();
    assert_eq!(gone, Some(Neighbour::Down(contact(OWN + 70).id)));
    assert_eq!(ring.pop_neighbour(), Some(Neighbour::Up(contact(OWN + 5))));
    assert_eq!(ring.pop_neighbour(), None);
    assert_eq!(
        ring.failed(NOW, &contact(OWN + 5).addr).down,
        Some(contact(OWN + 5).id)
    );
}

#[test]
fn who_is_named_between_is_waited_for_and_only_for_a_while() {
    let mut ring = joined::<Ring>([300, 900, 1_100]);
    let _ = ring.failed(NOW, &contact(900).addr);
    // Removals nearby bring on many questions at a time: they count once.
    for _ in 0..20 {
        let _ = named(&mut ring, NOW, 300, &[950]);
    }
    assert!(!ring.is_responsible(&key(960)), "950 may be there");
    for n in 1..=u64::from(DOUBTS_MAX) {
        assert!(!ring.is_responsible(&key(960)), "{n}");
        let later = NOW.after_s(n * u64::from(DOUBT_S));
        let _ = named(&mut ring, later, 300, &[950]);
    }
    assert!(ring.is_responsible(&key(960)));
}

#[test]
fn who_is_named_between_and_was_pinged_in_vain_is_not_waited_for() {
    let mut ring = joined::<Ring>([300, 900, 1_100]);
    let _ = ring.failed(NOW, &contact(900).addr);
    let mend = |ring: &Ring, now: Instant| ring.next_upkeep().get() == Some(now.after_ms(MEND_MS));
    let _ = ring.upkeep(NOW.after_ms(MEND_MS), &mut rng());
    assert_eq!(named(&mut ring, NOW, 300, &[920, 950]), None);
    assert!(!ring.is_responsible(&key(960)) && !mend(&ring, NOW));
    // A ping to a stranger brought nothing: the predecessor is asked again at once, and one of two does not do.
    let _ = ring.failed(NOW, &contact(950).addr);
    assert!(mend(&ring, NOW));
    let unreached = |silent: &'static [u16]| {
        move |addr: &PackedAddr| silent.iter().any(|&n| contact(n).addr == *addr)
    };
    let mut asked =
        |silent| ring.named(NOW, &contact(300), &listed(&[920, 950]), unreached(silent));
    assert_eq!(asked(&[950]), None);
    assert!(!ring.is_responsible(&key(960)));
    assert_eq!(
        ring.named(
            NOW,
            &contact(300),
            &listed(&[920, 950]),
            unreached(&[920, 950])
        ),
        None
    );
    assert!(ring.is_responsible(&key(960)) && ring.is_responsible(&key(301)));
}

#[test]
fn whoever_comes_while_the_predecessor_is_sought_is_asked_at_once() {
    let mut ring = joined::<Ring>([300, 900, 1_100]);
    let _ = ring.failed(NOW, &contact(900).addr);
    let _ = ring.upkeep(NOW.after_ms(MEND_MS), &mut rng());
    let _ = answer(&mut ring, 500);
    assert!(!ring.is_responsible(&key(960)), "there may be more");
    let mend = NOW.after_ms(MEND_MS);
    assert_eq!(ring.next_upkeep().get(), Some(mend));
    assert_eq!(
        ring.upkeep(mend, &mut rng()),
        Upkeep::Ask(ring.find(&contact(500).id).unwrap().peer())
    );
    // Who joins is not asked for every contact that it finds.
    let mut ring = alone::<Ring>();
    let _ = answer(&mut ring, 300);
    let _ = answer(&mut ring, 500);
    assert!(ring.next_upkeep().get() > Some(mend));
}
