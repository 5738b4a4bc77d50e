//! The distributed hash table in a small world: virtual time, links with delay and a fixed pattern of loss.
#![cfg(feature = "alloc")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

mod changes;
mod world;

use std::net::SocketAddr;

use strandline_core::dht::{OpResult, Owner};
use strandline_core::id::{Key, NodeId};
use strandline_core::output::Outcome;
use strandline_core::plan::{Board, Plan, Server, TimelineBoard};
use strandline_core::rules::Rule;
use strandline_core::time::Instant;
use strandline_core::wire::record::Record;
use world::{World, addr, key, value};

#[test]
fn a_lone_node_answers_at_once() {
    fn alone<P: Plan>() {
        let mut world = World::new();
        world.add::<P>();
        let before = world.now;
        assert_eq!(
            world.put(0, &value(1, key(1), 1, b"x")),
            Outcome::Stored {
                accepted: 1,
                wanted: 1
            }
        );
        let (outcome, values) = world.get(0, key(1));
        assert_eq!(
            outcome,
            Outcome::Found {
                count: 1,
                complete: true
            }
        );
        assert_eq!(values, [b"x"]);
        assert_eq!(world.get(0, key(2)), (Outcome::NotFound, vec![]));
        assert_eq!(world.find(0, key(1)), (Outcome::NotFound, vec![]));
        let query = world.hosts[0].dht.send(world.now, key(3), b"me");
        assert_eq!(
            world.outcome(0, query),
            Outcome::Delivered { accepted: true }
        );
        assert_eq!(world.hosts[0].heard.messages, [b"me"]);
        let query = world.hosts[0].dht.leave(world.now);
        assert_eq!(world.outcome(0, query), Outcome::Left);
        assert_eq!((world.now, world.sent), (before, 0));
    }
    alone::<Server>();
    alone::<Board>();
}

#[test]
fn two_nodes_find_each_other_and_share_a_record() {
    let mut world = World::new();
    world.add::<Server>();
    world.add::<Board>();
    assert_eq!(world.join(1, 0), Outcome::Joined { contacts: 1 });
    world.run_ms(1_000);
    assert_eq!(world.hosts[0].dht.peers().len(), 1);
    assert_eq!(
        world.put(1, &value(1, key(1), 1, b"x")),
        Outcome::Stored {
            accepted: 2,
            wanted: 2
        }
    );
    for n in 0..2 {
        assert_eq!(world.hosts[n].dht.held(), 1);
        let (outcome, values) = world.get(n, key(1));
        assert_eq!(
            outcome,
            Outcome::Found {
                count: 1,
                complete: true
            }
        );
        assert_eq!(values, [b"x"]);
        assert_eq!(world.hosts[n].heard.up, 1);
    }
}

#[test]
fn every_lookup_finds_the_nearest_and_every_record_is_found_by_all() {
    let mut world = World::joined::<Server>(50);
    world.run_ms(5_000);
    for n in 0..50 {
        let (outcome, found) = world.find(n, key(n));
        let nearest = world.nearest(key(n), n);
        assert_eq!(
            outcome,
            Outcome::Found {
                count: 20,
                complete: true
            }
        );
        assert_eq!(found, nearest[..20], "from {n}");
        assert_eq!(
            world.put(n, &value(n, key(n), 1, &n.to_be_bytes())),
            Outcome::Stored {
                accepted: 8,
                wanted: 5
            }
        );
    }
    for n in 0..50 {
        let wanted = (n * 7 + 3) % 50;
        let (outcome, values) = world.get(n, key(wanted));
        assert_eq!(
            outcome,
            Outcome::Found {
                count: 1,
                complete: true
            },
            "{wanted} from {n}"
        );
        assert_eq!(values, [wanted.to_be_bytes()]);
    }
}

#[test]
fn a_node_that_listens_everywhere_learns_its_address_from_others() {
    let mut world = World::joined::<Server>(3);
    let own = addr(77);
    let n = world.add_listening::<Server>(own, SocketAddr::from(([0, 0, 0, 0], 7827)));
    assert_eq!(world.hosts[n].dht.observed(), None);
    world.join(n, 0);
    assert_eq!(world.hosts[n].dht.observed(), Some(own));
    assert_eq!(world.hosts[n].dht.peers().len(), 3);
}

#[test]
fn an_expired_record_is_not_found_and_its_key_is_lost() {
    let mut world = World::joined::<Server>(2);
    for host in &mut world.hosts {
        host.dht.set_clock(world.now, 1_700_000_000_000);
    }
    let stored = Outcome::Stored {
        accepted: 2,
        wanted: 2,
    };
    assert_eq!(world.put(0, &value(1, key(1), 1, b"x")), stored);
    assert_eq!(world.hosts[1].heard.gained, 1);
    assert!(world.hosts[1].dht.is_responsible(&key(1)));
    world.run_ms(60 * 60 * 1_000 + 2_000);
    assert_eq!(world.get(0, key(1)), (Outcome::NotFound, vec![]));
    assert_eq!(
        (world.hosts[1].dht.held(), world.hosts[1].heard.lost),
        (0, 1)
    );
}

#[test]
fn garbage_is_counted_under_the_rule_it_breaks() {
    let mut world = World::joined::<Server>(2);
    let (now, from) = (world.now, addr(9));
    let dht = &mut world.hosts[0].dht;
    dht.datagram(now, from, &[]);
    dht.datagram(now, from, &[9; 100]);
    dht.datagram(now, from, &[1, b'n', b'o', b'n', b'e', 0, 0]);
    dht.datagram(now, from, b"\x01test and nothing that decodes");
    dht.datagram(now, from, &[1; 1_201]);
    assert_eq!(dht.dropped(Rule::Malformed), 2);
    assert_eq!(dht.dropped(Rule::Version), 1);
    assert_eq!(dht.dropped(Rule::Network), 1);
    assert_eq!(dht.dropped(Rule::Overlong), 1);
    assert_eq!(dht.poll_send(&mut [0; 1_200]), None);
}

#[test]
fn three_hundred_records_at_one_key_spill_into_shards_and_are_all_found() {
    let mut world = World::joined::<Server>(12);
    let all: Vec<Vec<u8>> = (0..300_u32).map(|n| n.to_be_bytes().to_vec()).collect();
    for (n, payload) in all.iter().enumerate() {
        let outcome = world.put(n % 12, &value(n, key(1), 1, payload));
        assert!(
            matches!(outcome, Outcome::Stored { accepted, wanted: 5 } if accepted >= 5),
            "{n}: {outcome:?}"
        );
    }
    for n in [0, 5, 11] {
        let (outcome, mut values) = world.get(n, key(1));
        values.sort();
        assert_eq!(values, all, "from {n}");
        assert_eq!(
            outcome,
            Outcome::Found {
                count: 300,
                complete: true
            }
        );
    }
    // Whoever wants one author's takes that one's way alone.
    for n in [0, 100, 200, 299] {
        let record = value(n, key(1), 1, &all[n]);
        let author = Record::decode(&record).unwrap().author;
        let query = world.hosts[5].dht.get_of(world.now, key(1), &author);
        let outcome = world.outcome(5, query);
        assert!(
            matches!(outcome, Outcome::Found { complete: true, .. }),
            "{n}: {outcome:?}"
        );
        let values = std::mem::take(&mut world.hosts[5].heard.values);
        assert!(values.contains(&all[n]), "{n}");
        assert!(values.len() < 150, "the shards of others were not read");
    }
    // The layer above gets every copy as it comes, its own node's among them.
    world.hosts[3]
        .dht
        .get(world.now, key(1), Owner::Timeline(7));
    world.run_ms(10_000);
    let host = &mut world.hosts[3];
    let done = host.heard.done.pop().unwrap();
    let OpResult::Got {
        count,
        answered,
        complete,
    } = done.result
    else {
        panic!("{done:?}")
    };
    assert_eq!((done.owner, count as usize), (7, host.heard.records.len()));
    assert!(complete && answered >= 8);
    let mut records = std::mem::take(&mut host.heard.records);
    records.sort();
    records.dedup();
    assert_eq!(records.len(), 300);
}

#[test]
fn a_board_alone_keeps_what_fits_and_says_when_it_is_full() {
    let mut world = World::new();
    world.add::<Board>();
    let mut stored = 0;
    let mut refused = 0;
    for n in 0..60 {
        match world.put(0, &value(n, key(1), 1, &[7; 100])) {
            Outcome::Stored {
                accepted: 1,
                wanted: 1,
            } => stored += 1,
            Outcome::Full => refused += 1,
            // Nothing is held at the shard where a mark could be: as if there were nobody.
            Outcome::Stored {
                accepted: 0,
                wanted: 1,
            } => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.hosts[0].dht.held(), stored);
    assert!((20..=32).contains(&stored) && refused > 0, "{stored}");
    // More values than a board has places for: the get says that it is not complete.
    let (outcome, values) = world.get(0, key(1));
    assert!(!values.is_empty());
    let count = u32::try_from(values.len()).unwrap();
    assert_eq!(
        outcome,
        Outcome::Found {
            count,
            complete: false
        }
    );
}

#[test]
fn a_node_for_its_timeline_alone_holds_and_answers_and_takes_no_messages() {
    let mut world = World::new();
    world.add::<Server>();
    world.add::<TimelineBoard>();
    assert_eq!(world.join(1, 0), Outcome::Joined { contacts: 1 });
    world.run_ms(1_000);
    let stored = Outcome::Stored {
        accepted: 2,
        wanted: 2,
    };
    assert_eq!(world.put(0, &value(1, key(1), 1, b"x")), stored);
    assert_eq!(world.hosts[1].dht.held(), 1);
    let found = Outcome::Found {
        count: 1,
        complete: true,
    };
    assert_eq!(world.get(0, key(1)), (found, vec![b"x".to_vec()]));
    let (_, nodes) = world.find(0, key(1));
    assert_eq!(nodes, [world.hosts[1].dht.id()]);
    // The node of the key refuses; its sender hears that, and is the next nearest.
    let to = Key::from_bytes(*world.hosts[1].dht.id().as_bytes());
    let query = world.hosts[0].dht.send(world.now, to, b"for you");
    assert_eq!(
        world.outcome(0, query),
        Outcome::Delivered { accepted: true }
    );
    assert_eq!(world.hosts[0].heard.messages, [b"for you"]);
    assert_eq!(world.hosts[1].heard.messages, [] as [&[u8]; 0]);
    assert_eq!(world.hosts[0].dht.peers().len(), 1, "it is a contact still");
}

#[test]
fn a_join_without_an_answer_ends_in_time_and_goes_on_trying() {
    let mut world = World::new();
    world.add::<Server>();
    world.add::<Server>();
    world.hosts[0].alive = false;
    assert_eq!(world.join(1, 0), Outcome::Joined { contacts: 0 });
    let before = world.sent;
    world.run_ms(600_000);
    let pings = world.sent - before;
    assert!(
        (10..=40).contains(&pings),
        "{pings} pings, each repeated once, a minute apart"
    );
    world.hosts[0].alive = true;
    world.run_ms(75_000);
    assert_eq!(world.hosts[1].dht.peers().len(), 1);
    assert_eq!(world.hosts[0].dht.peers().len(), 1);
}

#[test]
fn joining_through_oneself_or_nowhere_ends_at_once() {
    let mut world = World::new();
    world.add::<Server>();
    assert_eq!(world.join(0, 0), Outcome::Joined { contacts: 0 });
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 1));
    let query = world.hosts[0].dht.join(world.now, nowhere);
    assert_eq!(world.outcome(0, query), Outcome::Joined { contacts: 0 });
    assert_eq!((world.now, world.sent), (Instant::ZERO, 0));
}

#[test]
fn an_older_record_is_refused_with_the_sequence_that_is_held() {
    let mut world = World::joined::<Server>(6);
    world.put(1, &value(1, key(1), 5, b"new"));
    assert_eq!(
        world.put(2, &value(1, key(1), 4, b"old")),
        Outcome::Older { sequence: 5 }
    );
    assert_eq!(
        world.put(2, &value(1, key(1), 5, b"new")),
        Outcome::Stored {
            accepted: 6,
            wanted: 5
        }
    );
    assert_eq!(world.get(3, key(1)).1, [b"new"]);
    assert_eq!(
        world.put(2, &value(1, key(1), 6, b"newest")),
        Outcome::Stored {
            accepted: 6,
            wanted: 5
        }
    );
    assert_eq!(world.get(3, key(1)).1, [b"newest"]);
}

/// Every sixth is the worst: of some exchanges the same datagram is lost each time, request after request.
#[test]
fn a_message_reaches_the_node_of_its_key_once() {
    for lose_every in [5, 6, 7, 8, 11] {
        let mut world = World::joined::<Server>(20);
        world.run_ms(2_000);
        world.lose_every = lose_every;
        for k in 0..20 {
            let nearest = world.nearest(key(k), usize::MAX)[0];
            let query = world.hosts[k].dht.send(world.now, key(k), &[k as u8; 900]);
            assert_eq!(
                world.outcome(k, query),
                Outcome::Delivered { accepted: true }
            );
            let mut delivered = 0;
            for host in &mut world.hosts {
                let messages = std::mem::take(&mut host.heard.messages);
                assert!(messages.iter().all(|message| *message == [k as u8; 900]));
                let is_owner = host.dht.id() == nearest;
                assert!(messages.is_empty() || is_owner, "{k} of {lose_every}");
                delivered += messages.len();
            }
            assert_eq!(delivered, 1, "{k} of {lose_every}");
        }
    }
}

#[test]
fn one_seed_gives_one_history() {
    fn history() -> (u64, Instant, Vec<Vec<NodeId>>) {
        let mut world = World::new();
        world.lose_every = 29;
        world.add::<Server>();
        for n in 1..15 {
            let n = if n % 2 == 0 {
                world.add::<Board>()
            } else {
                world.add::<Server>()
            };
            world.join(n, n / 2);
        }
        world.put(3, &value(1, key(1), 1, b"x"));
        world.get(9, key(1));
        world.run_ms(3_600_000);
        let peers = world.hosts.iter().map(|host| {
            host.dht
                .peers()
                .iter()
                .map(|entry| entry.contact.id)
                .collect()
        });
        (world.sent, world.now, peers.collect())
    }
    assert_eq!(history(), history());
}

#[test]
fn contacts_for_the_next_start_are_few_and_lead_back() {
    let mut world = World::joined::<Server>(40);
    world.run_ms(5_000);
    let saved = world.hosts[7].heard.saved.clone();
    assert_eq!(saved.len(), 32);
    let n = world.add::<Server>();
    let dht = &mut world.hosts[n].dht;
    for (id, addr) in saved {
        dht.restore_contact(world.now, id, addr);
    }
    world.run_ms(5_000);
    assert!(world.hosts[n].dht.peers().len() > 30);
}

#[test]
fn an_idle_network_is_quiet() {
    let mut world = World::joined::<Server>(20);
    world.run_ms(60_000);
    let before = world.sent;
    world.run_ms(10 * 60_000);
    let each = (world.sent - before) / 20;
    assert!(
        each < 10 * 20,
        "{each} datagrams of each node in ten minutes"
    );
}
