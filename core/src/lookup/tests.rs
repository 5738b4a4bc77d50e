#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

extern crate alloc;

use alloc::collections::BTreeSet;
use core::net::SocketAddr;

use super::*;
use crate::crypto::Ed25519;
use crate::overlay::{ALPHA, Width};
use crate::plan::{Board, Server, ServerTable};

const TARGET: Key = Key::ZERO;
const OWN: NodeId = NodeId::from_bytes([0xee; 32]);

/// The contact at distance `n` from the target, at an address of its own subnet.
fn contact(n: u16) -> Contact {
    contact_at(
        n,
        SocketAddr::from(([44, n.to_be_bytes()[0], n.to_be_bytes()[1], 9], 7827)),
    )
}

fn contact_at(n: u16, addr: SocketAddr) -> Contact {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&n.to_be_bytes());
    Contact {
        id: NodeId::from_bytes(id),
        addr: PackedAddr::from(addr),
    }
}

fn lookup<P: Plan>(want: usize) -> Lookup<P> {
    Lookup::new(TARGET, want, Patience::Wait)
}

fn all_count(_: &Contact) -> bool {
    true
}

/// Lets everybody answer at once and name others, until the lookup ends. Returns who was pinged and asked.
fn run<P: Plan>(
    lookup: &mut Lookup<P>,
    mut names: impl FnMut(PackedAddr) -> alloc::vec::Vec<Contact>,
) -> (alloc::vec::Vec<PackedAddr>, alloc::vec::Vec<PackedAddr>) {
    let (mut pinged, mut asked) = (alloc::vec::Vec::new(), alloc::vec::Vec::new());
    for _ in 0..10_000 {
        match lookup.next(&OWN, all_count) {
            Some(Step::Ping(contact)) => {
                pinged.push(contact.addr);
                lookup.pinged(&contact, [1; 8], Rtt::UNKNOWN);
            }
            Some(Step::Ask(peer)) => {
                assert_eq!(
                    peer.token, [1; 8],
                    "nobody is asked before it answered a ping"
                );
                asked.push(peer.addr);
                let hops = lookup.answered(&peer.addr, NO_TOKEN);
                for contact in names(peer.addr) {
                    lookup.add_named(contact, hops.unwrap_or(0) + 1);
                }
            }
            None => {
                assert!(lookup.is_finished(&OWN));
                return (pinged, asked);
            }
        }
    }
    panic!("the lookup goes on for ever");
}

#[test]
fn it_ends_with_the_nearest_and_asks_no_address_twice() {
    let mut lookup = lookup::<Server>(8);
    lookup.add_named(contact(1_000), 0);
    // Everybody knows some who are nearer.
    let (pinged, asked) = run(&mut lookup, |from| {
        let n = (1..=1_000).find(|&n| contact(n).addr == from).unwrap_or(1);
        (n / 2..n)
            .rev()
            .take(20)
            .map(|n| contact(n.max(1)))
            .collect()
    });
    let found: alloc::vec::Vec<_> = lookup.answered_ones().take(8).map(|c| c.contact).collect();
    assert_eq!(found, (1..=8).map(contact).collect::<alloc::vec::Vec<_>>());
    let once: BTreeSet<_> = pinged.iter().collect();
    assert_eq!(once.len(), pinged.len());
    assert!(asked.len() < 60, "{}", asked.len());
}

#[test]
fn with_nobody_to_ask_it_is_finished() {
    let mut lookup = lookup::<Server>(8);
    assert_eq!(lookup.next(&OWN, all_count), None);
    assert!(lookup.is_finished(&OWN) && lookup.answered_ones().count() == 0);
}

/// As usual, but for two questions at a time.
#[derive(Clone, Debug)]
struct TwoAtOnce;

impl Width for TwoAtOnce {
    fn alpha() -> usize {
        2
    }
}

#[test]
fn at_most_alpha_questions_are_under_way_and_a_late_one_is_not_waited_for() {
    fill_up::<Server>(ALPHA);
    fill_up::<Server<Ed25519, ServerTable<TwoAtOnce>>>(2);
}

fn fill_up<P: Plan>(alpha: usize) {
    let mut lookup = lookup::<P>(8);
    for n in 1..=10 {
        lookup.add_named(contact(n), 0);
    }
    while lookup.next(&OWN, all_count).is_some() {}
    for n in 1..=PINGS_AHEAD {
        let n = u16::try_from(n).unwrap_or(0);
        assert_eq!(lookup.candidates()[usize::from(n) - 1].state, State::Pinged);
        lookup.pinged(&contact(n), [1; 8], Rtt::UNKNOWN);
    }
    let under_way = |lookup: &Lookup<P>| {
        lookup
            .candidates()
            .iter()
            .filter(|c| c.state == State::Asked)
            .count()
    };
    while lookup.next(&OWN, all_count).is_some() {}
    assert_eq!(under_way(&lookup), alpha);
    lookup.late(&contact(1).addr);
    assert!(matches!(lookup.next(&OWN, all_count), Some(Step::Ask(_))));
    assert_eq!(under_way(&lookup), alpha);
    // Its answer still counts.
    assert_eq!(lookup.answered(&contact(1).addr, NO_TOKEN), Some(0));
    assert_eq!(lookup.candidates()[0].state, State::Answered);
}

#[test]
fn who_is_patient_waits_for_the_late_and_who_is_not_goes_on_with_as_many_others() {
    for (patience, ends) in [(Patience::Wait, false), (Patience::GoOn, true)] {
        let mut lookup = Lookup::<Server>::new(TARGET, 3, patience);
        for n in 1..=4 {
            lookup.add_named(contact(n), 0);
        }
        while let Some(step) = lookup.next(&OWN, all_count) {
            match step {
                Step::Ping(contact) => lookup.pinged(&contact, [1; 8], Rtt::UNKNOWN),
                Step::Ask(peer) if peer.addr == contact(1).addr => lookup.late(&peer.addr),
                Step::Ask(peer) => drop(lookup.answered(&peer.addr, NO_TOKEN)),
            }
        }
        assert_eq!(lookup.is_finished(&OWN), ends);
        lookup.failed(&contact(1).addr);
        assert!(lookup.is_finished(&OWN));
    }
    // Without as many others the late one is all there is.
    let mut lookup = Lookup::<Server>::new(TARGET, 3, Patience::GoOn);
    lookup.add_named(contact(1), 0);
    while lookup.next(&OWN, all_count).is_some() {
        lookup.pinged(&contact(1), [1; 8], Rtt::UNKNOWN);
    }
    lookup.late(&contact(1).addr);
    assert!(!lookup.is_finished(&OWN));
}

#[test]
fn a_neighbourhood_is_pinged_twice_at_most() {
    let victim = |port| SocketAddr::from(([203, 0, 113, 7], port));
    let mut lookup = lookup::<Server>(8);
    for n in 1..=20 {
        lookup.add_named(contact_at(n, victim(n)), 0);
    }
    let mut pings = 0;
    while let Some(step) = lookup.next(&OWN, all_count) {
        assert!(matches!(step, Step::Ping(_)));
        pings += 1;
    }
    assert_eq!(pings, PINGS_PER_SUBNET);
    // Where neighbourhoods do not count, addresses still do.
    let mut lookup = Lookup::<Server>::new(TARGET, 8, Patience::Wait);
    for n in 1..=20 {
        lookup.add_named(contact_at(n, victim(1)), 0);
    }
    let mut pings = 0;
    while lookup.next(&OWN, |_| false).is_some() {
        pings += 1;
    }
    assert_eq!(pings, 1);
}

#[test]
fn a_first_ping_may_be_repeated_once_another_answer_named_the_same_node() {
    let mut lookup = lookup::<Server>(8);
    for n in [50, 51, 52] {
        let named = lookup.add_named(contact(n), 0);
        assert!(!named, "its first ping was not sent yet");
    }
    while let Some(step) = lookup.next(&OWN, all_count) {
        assert!(matches!(step, Step::Ping(_)));
    }
    lookup.pinged(&contact(50), [1; 8], Rtt::UNKNOWN);
    lookup.pinged(&contact(51), [1; 8], Rtt::UNKNOWN);
    while lookup.next(&OWN, all_count).is_some() {}
    // Both name the third, whose ping is under way, and a new one; one answer names them twice.
    lookup.answered(&contact(50).addr, [1; 8]);
    assert!(!lookup.add_named(contact(7), 1) && !lookup.add_named(contact(7), 1));
    assert!(lookup.add_named(contact(52), 1), "not only the host did");
    assert!(!lookup.add_named(contact(52), 1), "it was told already");
    lookup.answered(&contact(51).addr, [1; 8]);
    assert!(!lookup.add_named(contact(7), 1), "not under way");
    let again = |lookup: &mut Lookup<Server>, n| {
        let candidate = lookup.candidate_mut(&contact(n).addr);
        candidate.is_some_and(|c| c.said.has(Said::NAMED_AGAIN))
    };
    assert!(again(&mut lookup, 7) && again(&mut lookup, 52));
    assert!(!again(&mut lookup, 50), "it had answered");
}

#[test]
fn whoever_names_ever_nearer_nodes_is_followed_for_a_bounded_time() {
    fn bounded<P: Plan>() {
        let mut lookup = lookup::<P>(8);
        lookup.add_named(contact(60_000), 0);
        let mut n = 60_000;
        let (pinged, asked) = run(&mut lookup, |_| {
            n -= 20;
            (n..n + 20).map(contact).collect()
        });
        assert!(pinged.len() + asked.len() <= usize::from(REQUESTS_MAX));
    }
    bounded::<Server>();
    bounded::<Board>();
}

#[test]
fn whoever_names_itself_or_the_same_for_ever_changes_nothing() {
    let mut lookup = lookup::<Server>(8);
    lookup.add_named(contact(5), 0);
    let (pinged, asked) = run(&mut lookup, |_| alloc::vec![contact(5); 20]);
    assert_eq!((pinged.len(), asked.len()), (1, 1));
}

#[test]
fn a_second_address_for_an_id_counts_until_one_has_answered() {
    let mut lookup = lookup::<Server>(8);
    let (lie, truth) = (contact_at(1, ([44, 9, 9, 9], 1).into()), contact(1));
    lookup.add_named(lie, 0);
    lookup.add_named(truth, 0);
    assert_eq!(lookup.candidates().len(), 2);
    while lookup.next(&OWN, all_count).is_some() {}
    lookup.ping_failed(&lie.addr);
    lookup.pinged(&truth, [1; 8], Rtt::UNKNOWN);
    lookup.add_named(contact_at(1, ([44, 8, 8, 8], 1).into()), 0);
    assert_eq!(lookup.candidates().len(), 2);
}

#[test]
fn the_farthest_makes_place_and_farther_ones_find_none() {
    let mut lookup = lookup::<Board>(8);
    for n in 100..140 {
        lookup.add_named(contact(n), 0);
    }
    let len = lookup.candidates().len();
    assert_eq!(lookup.candidates()[0].contact, contact(100));
    lookup.add_named(contact(1), 0);
    assert_eq!(
        (lookup.candidates().len(), lookup.candidates()[0].contact),
        (len, contact(1))
    );
    assert_eq!(
        lookup.candidates()[len - 1].contact,
        contact(100 + u16::try_from(len).unwrap_or(0) - 2)
    );
}

#[test]
fn widening_goes_on_with_those_that_were_not_asked() {
    // A server's table holds many more than are wanted: nobody is forgotten, and nobody is asked twice.
    let everybody = |_| (1..=60).map(contact).collect();
    let mut server = lookup::<Server>(8);
    server.add_named(contact(60), 0);
    let (_, asked) = run(&mut server, everybody);
    assert!(server.is_full());
    server.widen(20);
    let (_, more) = run(&mut server, everybody);
    let asked: BTreeSet<_> = asked.into_iter().chain(more.iter().copied()).collect();
    assert!((1..=20).all(|n| asked.contains(&contact(n).addr)));
    assert!(!more.is_empty() && server.answered_ones().count() >= 20);

    // In a board's those that are over make place, and only for farther ones.
    let mut board = lookup::<Board>(8);
    board.add_named(contact(60), 0);
    let (_, first) = run(&mut board, everybody);
    let over: BTreeSet<_> = board.answered_ones().map(|c| c.contact.addr).collect();
    assert!((1..=8).all(|n| over.contains(&contact(n).addr)));
    board.widen(20);
    for n in 1..=60 {
        board.add_named(contact(n), 1);
    }
    let (_, more) = run(&mut board, everybody);
    assert!(
        more.iter().all(|addr| !first.contains(addr)),
        "nobody twice"
    );
    assert!((9..=20).all(|n| more.contains(&contact(n).addr) || over.contains(&contact(n).addr)));
}

type OnRing = Server<Ed25519, crate::plan::ServerRing>;

/// A ring of a hundred nodes, 500 apart from 500 on, where each names two successors and the nodes at powers of two
/// behind it that are before the target. Returns whom a lookup by the node at 500 asked, in order.
fn around_ring(lookup: &mut Lookup<OnRing>, target: u16, dead: &[u16]) -> alloc::vec::Vec<u16> {
    let own = contact(500).id;
    let behind = |n: u16, gap: u16| 500 + (n - 500 + gap * 500) % 50_000;
    let (before, after) = ((target - 1) / 500 * 500, target.next_multiple_of(500));
    let mut asked = alloc::vec::Vec::new();
    for power in 0..6_u8 {
        let finger = behind(500, 1 << power);
        if finger < target {
            lookup.add_named(contact(finger), 0);
        }
    }
    while let Some(step) = lookup.next(&own, all_count) {
        let addr = match step {
            Step::Ping(contact) => {
                if dead.iter().any(|&n| contact == self::contact(n)) {
                    lookup.ping_failed(&contact.addr);
                } else {
                    lookup.pinged(&contact, [1; 8], Rtt::UNKNOWN);
                }
                continue;
            }
            Step::Ask(peer) => peer.addr,
        };
        let n = (1..=100)
            .map(|n| n * 500)
            .find(|&n| contact(n).addr == addr);
        let n = n.unwrap_or(0);
        asked.push(n);
        lookup.answered(&addr, NO_TOKEN);
        if n == after {
            lookup.owns(&addr);
        }
        let fingers = (0..6_u8).map(|power| behind(n, 1 << power));
        let named = fingers.filter(|&finger| n < finger && finger < target);
        let near = (n == before || n == after).then_some([behind(after, 0), behind(after, 1)]);
        for other in named.chain(near.into_iter().flatten()) {
            lookup.add_named(contact(other), 1);
        }
    }
    asked
}

fn key_at(n: u16) -> Key {
    Key::from_bytes(*contact(n).id.as_bytes())
}

#[test]
fn on_a_ring_it_halves_the_way_to_the_target_and_ends_with_the_owner() {
    let own = contact(500).id;
    let mut lookup = Lookup::<OnRing>::new(key_at(20_200), 1, Patience::Wait);
    let asked = around_ring(&mut lookup, 20_200, &[]);
    // From 500 it is 39 nodes to the one before the target: 32, 4, 2 and 1.
    assert_eq!(asked, [16_500, 18_500, 19_500, 20_000, 20_500]);
    assert!(lookup.is_finished(&own) && lookup.owner_answered());
    assert!(!lookup.is_own_nearest(&own));
    // All who are to be given a record come behind the target; of those asked on the way none is.
    let mut lookup = Lookup::<OnRing>::new(key_at(20_200), 2, Patience::Wait);
    around_ring(&mut lookup, 20_200, &[]);
    let takers: alloc::vec::Vec<_> = lookup.takers().map(|c| c.contact).collect();
    assert_eq!(takers, [contact(20_500), contact(21_000)]);
}

#[test]
fn on_a_ring_nothing_is_certain_without_the_owners_word() {
    let own = contact(500).id;
    let mut lookup = Lookup::<OnRing>::new(key_at(20_200), 1, Patience::Wait);
    let asked = around_ring(&mut lookup, 20_200, &[20_500]);
    assert_eq!(asked.last(), Some(&21_000), "the next one answers");
    assert!(lookup.is_finished(&own) && !lookup.owner_answered());
    // Nor is a claim of somebody who is not the nearest.
    lookup.owns(&contact(20_000).addr);
    assert!(!lookup.owner_answered());
    lookup.owns(&contact(21_000).addr);
    assert!(lookup.owner_answered());
}

#[test]
fn on_a_ring_a_full_list_keeps_both_its_ends() {
    let mut lookup = Lookup::<OnRing>::new(key_at(20_000), 8, Patience::Wait);
    for n in 1..=500 {
        lookup.add_named(contact(n * 100), 0);
    }
    let kept: alloc::vec::Vec<_> = lookup.candidates().iter().map(|c| c.contact).collect();
    assert_eq!(kept.len(), 48);
    assert_eq!(kept[..2], [contact(20_000), contact(20_100)]);
    assert_eq!(kept[31], contact(20_000 + 31 * 100));
    assert_eq!(kept[32], contact(20_000 - 16 * 100));
    assert_eq!(kept[47], contact(19_900));
}
