//! The simulated world tested with itself: strangers instead of nodes, so that nothing here depends on the protocol.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use strandline_tests::sim::{Chance, Kind, Setup, World, mins, ms, secs};

/// Bytes that differ from place to place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from(at * 31 % 251).unwrap_or(0))
        .collect()
}

#[test]
fn a_datagram_arrives_once_after_the_delay_of_its_link() {
    let mut world = World::new(1);
    world.network_mut().delay_us = 10_000..=10_000;
    world.network_mut().jitter_us = 0;
    let (a, b) = (world.stranger(false), world.stranger(false));
    world.send_raw(a, b, b"hello");
    world.run_for(ms(9));
    assert!(world.take_datagrams(b).is_empty());
    world.run_for(ms(1));
    assert_eq!(
        world.take_datagrams(b),
        [(world.machine(a).addr, b"hello".to_vec())]
    );
    world.run_for(secs(10));
    assert!(world.take_datagrams(b).is_empty());
}

#[test]
fn a_partition_holds_until_it_is_healed() {
    let mut world = World::new(2);
    let hosts: Vec<_> = (0..4).map(|_| world.stranger(false)).collect();
    world.partition(&hosts[..2]);
    world.send_raw(hosts[0], hosts[1], b"inside");
    world.send_raw(hosts[0], hosts[2], b"across");
    world.send_raw(hosts[3], hosts[2], b"outside");
    world.run_for(secs(1));
    assert_eq!(world.take_datagrams(hosts[1]).len(), 1);
    let came = world.take_datagrams(hosts[2]);
    assert_eq!(came.len(), 1);
    assert_eq!(came[0].1, b"outside");
    world.heal();
    world.send_raw(hosts[0], hosts[2], b"across");
    world.run_for(secs(1));
    assert_eq!(world.take_datagrams(hosts[2]).len(), 1);
}

#[test]
fn a_stream_keeps_its_bytes_in_order_whatever_the_network_does() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.network_mut().loss = Chance::percent(20);
        world.network_mut().reordering = Chance::percent(30);
        let (a, b) = (world.stranger(false), world.stranger(true));
        let conn = world.connect_raw(a, b);
        world.run_for(secs(20)); // Closing before that would abandon it.
        let sent = pattern(50_000);
        for piece in sent.chunks(3_000) {
            world.write_raw(conn, piece);
            world.run_for(ms(20));
        }
        world.close_raw(conn);
        world.run_for(mins(5));
        let (got, ended) = world.read_raw_accepted(conn);
        assert!(ended, "seed {seed}");
        assert!(
            got == sent,
            "seed {seed}: {} of {} bytes",
            got.len(),
            sent.len()
        );
    }
}

#[test]
fn a_reader_that_stalls_stops_the_sender() {
    let mut world = World::new(3);
    let (a, b) = (world.stranger(false), world.stranger(true));
    world.stall(b);
    let conn = world.connect_raw(a, b);
    world.write_raw(conn, &pattern(100_000));
    world.run_for(mins(1));
    let (got, _) = world.read_raw_accepted(conn);
    assert!(
        got.len() < 20_000,
        "{} bytes passed a window that never opened",
        got.len()
    );
    assert!(!got.is_empty());
}

#[test]
fn connecting_takes_a_round_trip_and_is_refused_where_nobody_listens() {
    let mut world = World::new(4);
    world.network_mut().delay_us = 50_000..=50_000;
    world.network_mut().jitter_us = 0;
    let (a, deaf) = (world.stranger(false), world.stranger(false));
    let conn = world.connect_raw(a, deaf);
    world.run_for(ms(99));
    assert!(!world.read_raw(conn).1);
    world.run_for(ms(2));
    assert!(world.read_raw(conn).1, "refused after a round trip");
}

#[test]
fn a_connection_into_silence_is_given_up() {
    let mut world = World::new(5);
    let (a, b) = (world.stranger(false), world.stranger(true));
    world.partition(&[b]);
    let conn = world.connect_raw(a, b);
    world.run_for(secs(15));
    assert!(!world.read_raw(conn).1);
    world.run_for(secs(15));
    assert!(world.read_raw(conn).1);
}

#[test]
fn a_stream_survives_a_short_partition_and_not_a_long_one() {
    for (cut_for, survives) in [(secs(10), true), (secs(60), false)] {
        let mut world = World::new(6);
        let (a, b) = (world.stranger(false), world.stranger(true));
        let conn = world.connect_raw(a, b);
        world.run_for(secs(1));
        world.partition(&[b]);
        world.write_raw(conn, b"still there?");
        world.run_for(cut_for);
        world.heal();
        world.run_for(secs(20));
        assert_eq!(world.read_raw_accepted(conn).0 == b"still there?", survives);
        assert_eq!(world.read_raw(conn).1, !survives);
    }
}

#[test]
fn a_world_repeats_itself_and_another_seed_gives_another() {
    let run = |seed| {
        let mut world = World::new(seed);
        world.network_mut().loss = Chance::percent(5);
        for kind in [Kind::Server, Kind::Board, Kind::Server] {
            world.node_with(Setup {
                drift_ppm: 40,
                ..Setup::new(kind)
            });
        }
        world.run_for(secs(30));
        (world.trace().digest(), world.trace().entries())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).0, run(8).0);
}
