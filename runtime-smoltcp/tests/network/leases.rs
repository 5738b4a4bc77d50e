//! Addresses that a DHCP server gives, renews, refuses and lets run out while nodes live.

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::phy::Medium;
use smoltcp::wire::DhcpMessageType as Told;
use strandline_core::output::Via;

use crate::station::{Own, START_UNIX_MS, hardware, name};
use crate::world::{Traffic, World};
use crate::{dhcp, follow, timeline};

/// The one with an address of its own; the other has its from the server.
const FIXED: usize = 0;
const LEASED: usize = 1;
/// How often a silent server is asked.
const ASKED_EVERY_S: u64 = 10;

fn world() -> World {
    World::new(Medium::Ethernet, &[Own::V4, Own::Leased])
}

/// A reader with a fixed address, and an author with a leased one, who has posted.
fn reader_and_author(lease_s: u32) -> World {
    let mut world = world();
    world.dhcp.lease_s = lease_s;
    world.join();
    follow(&mut world, FIXED, LEASED);
    let query = world.command(LEASED, |now, node| node.post(now, "moving").unwrap());
    assert_eq!(read(&mut world), Some(Via::Author));
    world.outcome(LEASED, query);
    world
}

/// From whom the reader has the author's post.
fn read(world: &mut World) -> Option<Via> {
    let (posts, _) = timeline(world, FIXED);
    let post = posts.into_iter().find(|post| post.0 == name(LEASED));
    post.map(|(.., via)| via)
}

/// The reader tries again and again until the author itself answers; a few minutes at most, in which the author has noticed
/// where it is now and told everybody.
fn read_of_the_author(world: &mut World) {
    let end = world.now.after_s(180);
    while read(world) != Some(Via::Author) {
        assert!(world.now < end, "the author is not found");
        world.run_for_ms(10_000);
    }
}

fn lease(world: &World) -> IpAddr {
    world.dhcp.lease_of(hardware(LEASED)).into()
}

fn has_none(world: &World) -> bool {
    world.addresses(LEASED).is_empty()
}

#[test]
fn an_address_is_taken_as_soon_as_the_server_gives_it() {
    let mut world = world();
    let took_ms = world.until(5, |world| !has_none(world));
    assert!(took_ms <= 10, "it took {took_ms} ms");
    assert_eq!(world.addresses(LEASED), [lease(&world)]);
    assert_eq!(world.dhcp.heard, [Told::Discover, Told::Request]);
}

#[test]
fn a_renewed_lease_changes_nothing() {
    let mut world = reader_and_author(600);
    world.dhcp.heard.clear();
    world.traffic = Traffic::default();
    world.run_for_ms(3_600_000);
    // Once in half a lease.
    let renewed = &world.dhcp.heard;
    assert!((11..=13).contains(&renewed.len()), "{renewed:?}");
    assert!(renewed.iter().all(|told| *told == Told::Request));
    assert_eq!(world.addresses(LEASED), [lease(&world)]);
    assert_eq!(world.traffic.sources.len(), 2);
    assert_eq!(read(&mut world), Some(Via::Author));
}

#[test]
fn a_refused_lease_is_followed_by_another_under_which_the_node_is_found() {
    let mut world = reader_and_author(600);
    let old = lease(&world);
    world.dhcp.first += 30;
    let new = lease(&world);
    // It hears of it when it renews its lease, in half of the time.
    world.until(301, |world| world.addresses(LEASED) == [new]);
    let asked = [Told::Request, Told::Discover, Told::Request];
    assert!(world.dhcp.heard.ends_with(&asked));
    world.traffic = Traffic::default();
    read_of_the_author(&mut world);
    assert!(!world.traffic.sources.contains(&old));
}

#[test]
fn a_lease_that_runs_out_ends_everything_until_there_is_another() {
    let mut world = reader_and_author(600);
    let old = lease(&world);
    world.dhcp.silent = true;
    world.until(601, has_none);
    // The node lives on, and is silent.
    world.traffic = Traffic::default();
    world.polls = 0;
    let wanted = world.command(LEASED, |now, node| node.timeline(now, None, 5_000).unwrap());
    world.run_for_ms(600_000);
    assert!(world.ended(LEASED, wanted).is_some());
    assert!(!world.traffic.sources.contains(&old));
    assert_eq!(world.stations[LEASED].stack.streams(), 0);
    assert!(world.polls < 600, "{} wake-ups", world.polls);
    world.dhcp.silent = false;
    world.dhcp.first += 30;
    let new = lease(&world);
    world.until(ASKED_EVERY_S + 1, |world| world.addresses(LEASED) == [new]);
    read_of_the_author(&mut world);
}

#[test]
fn a_server_that_was_silent_gives_an_address_the_next_time_it_is_asked() {
    let mut world = world();
    world.dhcp.silent = true;
    world.run_for_ms(65_000);
    assert!(has_none(&world));
    assert!(world.polls < 60, "{} wake-ups", world.polls);
    world.dhcp.silent = false;
    world.until(ASKED_EVERY_S + 1, |world| !has_none(world));
    world.join();
    follow(&mut world, FIXED, LEASED);
    world.command(LEASED, |now, node| node.post(now, "late").unwrap());
    assert_eq!(read(&mut world), Some(Via::Author));
}

#[test]
fn the_router_is_whom_the_server_names_if_that_can_be_a_station() {
    let router = dhcp::Server::default().router;
    let none = [None, Some(Ipv4Addr::UNSPECIFIED), Some(Ipv4Addr::BROADCAST)];
    for (router, passes) in [
        (router, true),
        (none[0], false),
        (none[1], false),
        (none[2], false),
    ] {
        let mut world = world();
        world.dhcp.router = router;
        world.join();
        let far = "10.9.9.9:7827".parse().unwrap();
        world.command(LEASED, |now, node| node.join(now, far, 5_000).unwrap());
        world.run_for_ms(6_000);
        assert_eq!(
            world.traffic.passed_on.contains(&far.ip()),
            passes,
            "{router:?}"
        );
    }
}

#[test]
fn a_server_without_an_address_gives_none() {
    let mut world = world();
    world.dhcp.from = Ipv4Addr::UNSPECIFIED;
    world.dhcp.lease_s = 600;
    world.run_for_ms(1_200_000);
    assert!(has_none(&world));
    world.dhcp.from = dhcp::IP;
    world.until(ASKED_EVERY_S + 1, |world| !has_none(world));
}

#[test]
fn a_server_that_garbles_what_it_says_harms_nobody() {
    let far = "10.9.9.9:7827".parse().unwrap();
    let mut has_given = 0;
    for n in 0..200 {
        let mut world = world();
        world.dhcp.garbles = Some(100 * n);
        world.dhcp.lease_s = 120;
        // What it says is used as far as it goes, and renewed.
        world.run_for_ms(30_000);
        has_given += usize::from(!has_none(&world));
        world.command(LEASED, |now, node| node.join(now, far, 5_000).unwrap());
        world.run_for_ms(60_000);
    }
    assert!((50..200).contains(&has_given), "{has_given}");
}

#[test]
fn the_time_server_is_asked_again_once_there_is_an_address() {
    let mut world = World::with_time_server(&[Own::Leased]);
    let told = |world: &World| world.stations[0].stack.node().unix_ms(world.now).unwrap();
    // The server's clock is far from the one with which it starts.
    world.until(10, |world| {
        told(world).0.abs_diff(START_UNIX_MS) > 1_000_000
    });
    let (unix_ms, uncertainty_ms) = told(&world);
    assert!(unix_ms.abs_diff(world.unix_ms()) <= uncertainty_ms.into());
}
