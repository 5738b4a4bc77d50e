//! The links and families of addresses that a stack can be built for: on each of them nodes do all that they do on
//! Ethernet under IPv4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::Medium;
use smoltcp::wire::{EthernetAddress, HardwareAddress};
use strandline_core::name::Name;
use strandline_core::node::Node;
use strandline_core::output::{Outcome, Via};
use strandline_core::plan::Board;
use strandline_core::rng::Seed;
use strandline_core::time::Instant;
use strandline_smoltcp::{Addresses, Memory, Settings, SetupError, Sockets, Stack, sockets_for};

use crate::card::Card;
use crate::station::{CONNECTIONS, Diary, Own, PORT, hardware, ip6_of, name};
use crate::world::World;
use crate::{asleep, beside_the_absent, follow, frames, storm, timeline};

const BOTH: [Medium; 2] = [Medium::Ethernet, Medium::Ip];

/// Two nodes follow each other, and each reads what the other posts.
fn read_each_other(mut world: World) -> World {
    for (reader, author) in [(1, 0), (0, 1)] {
        follow(&mut world, reader, author);
        let text = format!("{} says hello", name(author));
        let query = world.command(author, |now, node| node.post(now, &text).unwrap());
        let (posts, complete) = timeline(&mut world, reader);
        let post = (name(author), text, Via::Author);
        assert!(complete && posts.contains(&post), "{posts:?}");
        // Durable now that another holds it.
        let outcome = world.outcome(author, query);
        assert!(
            matches!(outcome, Outcome::Posted { seq: 1, .. }),
            "{outcome:?}"
        );
    }
    for station in &world.stations {
        assert_eq!(station.stack.counters().datagrams_lost, 0);
    }
    world
}

#[test]
fn nodes_read_each_other_over_ip_packets_under_ipv4() {
    read_each_other(World::joined_over(Medium::Ip, &[Own::V4; 2]));
}

#[test]
fn nodes_read_each_other_over_ip_packets_under_ipv6() {
    read_each_other(World::joined_over(Medium::Ip, &[Own::V6; 2]));
}

#[test]
fn nodes_read_each_other_over_ethernet_under_ipv6() {
    read_each_other(World::joined_over(Medium::Ethernet, &[Own::V6; 2]));
}

#[test]
fn nodes_read_each_other_over_ethernet_under_addresses_that_dhcp_gave() {
    read_each_other(World::joined_over(Medium::Ethernet, &[Own::Leased; 2]));
}

#[test]
fn nodes_read_each_other_that_have_both_families() {
    for medium in BOTH {
        read_each_other(World::joined_over(medium, &[Own::Both; 2]));
    }
}

#[test]
fn nodes_read_each_other_across_a_router_of_either_family() {
    for family in [0, 1] {
        let mut world = World::new(Medium::Ethernet, &[Own::Apart; 2]);
        world.join_at(|world, _| world.addresses(0)[family]);
        let world = read_each_other(world);
        let passed_on: Vec<IpAddr> = world.traffic.passed_on.iter().copied().collect();
        let own = [0, 1].map(|index| world.addresses(index)[family]);
        assert_eq!(passed_on, own);
    }
}

#[test]
fn without_traffic_it_sleeps_on_every_link() {
    asleep(World::joined_over(Medium::Ethernet, &[Own::V6; 3]));
    asleep(World::joined_over(Medium::Ethernet, &[Own::Leased; 3]));
    asleep(World::joined_over(Medium::Ip, &[Own::Both; 3]));
}

#[test]
fn a_storm_of_neighbour_solicitations_leaves_those_who_talk_to_it_known() {
    let world = World::joined_over(Medium::Ethernet, &[Own::V6; 2]);
    storm(world, frames::who_has6);
}

#[test]
fn an_ipv6_address_that_nobody_answers_for_holds_up_nobody_else() {
    let world = World::joined_over(Medium::Ethernet, &[Own::V6; 2]);
    beside_the_absent(world, ip6_of(90).into());
}

#[test]
fn junk_of_any_kind_is_dropped_on_every_link() {
    for medium in BOTH {
        let mut world = World::joined_over(medium, &[Own::Both; 2]);
        for n in 0..4_000 {
            let junk = match n % 4 {
                0 | 1 => frames::junk(n, |from| frames::who_has6(from, 0)),
                _ => frames::junk(n, |from| frames::syn(from, 0)),
            };
            let begin = match medium {
                Medium::Ethernet => 0,
                Medium::Ip => junk.len().min(14),
            };
            world.inject(0, junk[begin..].to_vec());
            if n % 7 == 0 {
                world.poll(0);
            }
        }
        world.poll(0);
        read_each_other(world);
    }
}

#[test]
fn an_ip_packet_is_not_taken_for_a_frame() {
    let mut world = World::joined_over(Medium::Ip, &[Own::V4; 2]);
    // At the places where a frame says so, this one has IPv4 and no sender.
    let from = Ipv4Addr::new(8, 0, 0, 1);
    let packet = frames::syn_from(from, 0x1_0000, 0).split_off(14);
    assert_eq!(
        (&packet[12..14], &packet[26..30]),
        (&[8, 0][..], &[0; 4][..])
    );
    world.inject(0, packet);
    let station = &mut world.stations[0];
    station.stack.poll(world.now, &mut station.card);
    let answers = station.card.sent.iter();
    let to = answers.filter_map(|packet| Some(frames::ends(Medium::Ip, packet)?.1));
    assert!(to.eq([IpAddr::from(from)]));
}

/// What a station of both families has published is where it listens: here, under IPv4.
#[test]
fn one_that_has_both_families_is_between_those_that_have_one() {
    for medium in BOTH {
        let mut world = World::joined_over(medium, &[Own::Both, Own::V4, Own::V6]);
        let (both, v4, v6) = (0, 1, 2);
        for (reader, author) in [(both, v4), (both, v6), (v4, both), (v4, v6), (v6, both)] {
            follow(&mut world, reader, author);
        }
        for author in [both, v4, v6] {
            world.command(author, |now, node| node.post(now, "hello").unwrap());
            world.run_for_ms(1_000);
        }
        let live = |author| (name(author), "hello".to_owned(), Via::Author);
        let (posts, complete) = timeline(&mut world, both);
        assert!(
            complete && posts.contains(&live(v4)) && posts.contains(&live(v6)),
            "{posts:?}"
        );
        // Those of the other family are read where somebody in between keeps them.
        let (posts, complete) = timeline(&mut world, v4);
        let keeper = Via::Replica(Name::parse(&name(both)).unwrap());
        let kept = (name(v6), "hello".to_owned(), keeper);
        assert!(
            complete && posts.contains(&live(both)) && posts.contains(&kept),
            "{posts:?}"
        );
        // Nobody whom it can reach keeps those of the one in between; it says so, in time.
        let (posts, complete) = timeline(&mut world, v6);
        assert!(!complete && posts.len() == 1, "{posts:?}");
        // Nobody wrote in the name of an address that it has not.
        let mut own: Vec<IpAddr> = (0..3).flat_map(|index| world.addresses(index)).collect();
        own.sort_unstable();
        assert!(
            world.traffic.sources.iter().all(|ip| own.contains(ip)),
            "{:?}",
            world.traffic.sources
        );
    }
}

#[test]
fn one_without_an_address_of_a_family_sends_nothing_to_it() {
    for medium in BOTH {
        let mut world = World::joined_over(medium, &[Own::V4; 2]);
        world.command(1, |now, node| {
            node.join(now, (ip6_of(0), PORT).into(), 5_000).unwrap()
        });
        world.run_for_ms(10_000);
        assert!(
            world.traffic.sources.iter().all(IpAddr::is_ipv4),
            "{:?}",
            world.traffic.sources
        );
        // And nothing waits for it.
        assert_eq!(world.stations[1].stack.counters().datagrams_lost, 0);
    }
}

#[test]
fn settings_that_do_not_suit_the_device_are_refused() {
    let fixed = |own| Addresses::Fixed { own, routers: &[] };
    let own: [(IpAddr, u8); 1] = [(Ipv4Addr::new(10, 0, 0, 1).into(), 24)];
    let ethernet = HardwareAddress::Ethernet(hardware(0));
    let group = HardwareAddress::Ethernet(EthernetAddress::BROADCAST);
    let outcomes = [
        (Medium::Ethernet, ethernet, fixed(&own), None),
        (Medium::Ethernet, ethernet, Addresses::Dhcp, None),
        (Medium::Ip, HardwareAddress::Ip, fixed(&own), None),
        (
            Medium::Ip,
            HardwareAddress::Ip,
            Addresses::Dhcp,
            Some(SetupError::Address),
        ),
        (
            Medium::Ip,
            ethernet,
            fixed(&own),
            Some(SetupError::Hardware),
        ),
        (
            Medium::Ethernet,
            HardwareAddress::Ip,
            fixed(&own),
            Some(SetupError::Hardware),
        ),
        (
            Medium::Ethernet,
            group,
            fixed(&own),
            Some(SetupError::Hardware),
        ),
    ];
    for (medium, hardware, addresses, refused) in outcomes {
        assert_eq!(
            refusal(medium, hardware, addresses),
            refused,
            "{medium:?} {hardware} {addresses:?}"
        );
    }
    let many = [own[0]; 3];
    let refused: [&[(IpAddr, u8)]; 6] = [
        &[(Ipv4Addr::UNSPECIFIED.into(), 24)],
        &[(Ipv4Addr::new(224, 0, 0, 1).into(), 24)],
        &[(Ipv4Addr::new(10, 0, 0, 1).into(), 33)],
        &[(Ipv6Addr::UNSPECIFIED.into(), 64)],
        &[(ip6_of(0).into(), 129)],
        &many,
    ];
    for own in refused {
        let refused = refusal(Medium::Ethernet, ethernet, fixed(own));
        assert_eq!(refused, Some(SetupError::Address), "{own:?}");
    }
}

/// Why there is no stack with these settings.
fn refusal(
    medium: Medium,
    hardware: HardwareAddress,
    addresses: Addresses<'_>,
) -> Option<SetupError> {
    let mut memory = Memory::<CONNECTIONS>::EMPTY;
    let mut sockets = Sockets::<{ sockets_for(CONNECTIONS) }>::new();
    let mut node = Box::new(Node::<Board>::unstarted());
    let settings = Settings {
        hardware,
        port: PORT,
        addresses,
        time_server: None,
        seed: Seed([0; 32]),
    };
    let stack = Stack::new(
        Instant::ZERO,
        &mut Card::new(medium),
        &mut memory,
        &mut sockets,
        &mut node,
        Diary::default(),
        &settings,
    );
    stack.err()
}
