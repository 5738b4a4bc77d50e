//! How to test one's own application: it runs in the simulator, on nodes that crash and links that lose, and the same seed
//! is the same run. The application is the job queue of core's examples, the very file. Copy from here.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

#[path = "../../core/examples/job_queue/queue.rs"]
mod queue;

use std::collections::{BTreeMap, BTreeSet};

use strandline_core::id::Key;
use strandline_tests::sim::crypto::StandIn;
use strandline_tests::sim::{Chance, Cryptography, HostId, Kind, Overlay, World, mins, secs};

use queue::Queue;

const WORKERS: usize = 24;
const JOBS: usize = 60;

/// A network of workers on links that lose 2 % of the datagrams.
fn workers(seed: u64, overlay: Overlay) -> (World, Vec<HostId>) {
    let mut world = World::with_cryptography(seed, Cryptography::StandIn);
    world.overlay = overlay;
    world.network_mut().loss = Chance::percent(2);
    let hosts = world.nodes(Kind::Server, WORKERS);
    world.run_for(mins(3));
    for host in &hosts {
        world.run_application(*host, Queue::default());
    }
    (world, hosts)
}

fn hand_in(world: &mut World, host: HostId) -> BTreeSet<String> {
    let jobs: Vec<String> = (0..JOBS).map(|n| format!("job {n}")).collect();
    let queue = world.application_mut::<Queue>(host).unwrap();
    queue.inbox.extend(jobs.iter().cloned());
    jobs.into_iter().collect()
}

/// How often each job was done, as far as the workers heard of it, the living and the dead.
fn done(world: &World, hosts: &[HostId]) -> BTreeMap<String, usize> {
    let queues = hosts
        .iter()
        .filter_map(|host| world.application::<Queue>(*host));
    let mut done = BTreeMap::new();
    for job in queues.flat_map(|queue| &queue.done) {
        *done.entry(job.clone()).or_default() += 1;
    }
    done
}

/// Hands in jobs, and kills a quarter of the workers while they are at it; what was done, and the trace of it all.
fn a_bad_day(seed: u64) -> (BTreeMap<String, usize>, String) {
    let (mut world, mut hosts) = workers(seed, Overlay::Chord);
    let jobs = hand_in(&mut world, hosts[0]);
    world.run_for(secs(4));
    for host in hosts.iter().skip(2).step_by(4) {
        world.crash(*host);
    }
    // Whoever comes now takes over a part.
    for _ in 0..6 {
        let host = world.node(Kind::Server);
        world.run_application(host, Queue::default());
        hosts.push(host);
    }
    world.run_for(mins(10));
    let stored = &world.application::<Queue>(hosts[0]).unwrap().stored;
    assert_eq!(stored.len(), JOBS, "seed {seed}: all are handed in");
    // A worker may have died before it heard that all know: what they know counts.
    for job in jobs {
        let known = world.get(hosts[0], Key::of_text::<StandIn>(&job));
        assert!(known.contains(&b"done".to_vec()), "seed {seed}: {job}");
    }
    (done(&world, &hosts), world.trace().to_string())
}

#[test]
fn every_job_is_done_though_workers_die() {
    for seed in 1..=3 {
        let (done, _) = a_bad_day(seed);
        let again = done.values().filter(|times| **times > 1).count();
        assert!(again <= JOBS / 4, "seed {seed}: {again} were done again");
    }
}

#[test]
fn on_a_quiet_day_every_job_is_done_once() {
    let (mut world, hosts) = workers(7, Overlay::Chord);
    hand_in(&mut world, hosts[5]);
    world.run_for(mins(3));
    let done = done(&world, &hosts);
    assert_eq!(done.len(), JOBS);
    assert!(done.values().all(|times| *times == 1), "{done:?}");
    let busy = hosts
        .iter()
        .filter_map(|host| world.application::<Queue>(*host))
        .filter(|queue| !queue.done.is_empty());
    assert!(busy.count() > WORKERS / 2, "the work is spread");
}

#[test]
fn the_same_seed_is_the_same_day() {
    let (once, again, other) = (a_bad_day(4), a_bad_day(4), a_bad_day(5));
    assert_eq!(once, again);
    assert_ne!(once.1, other.1);
}

#[test]
fn it_runs_on_boards_and_on_kademlia_too() {
    let mut world = World::new(1);
    let server = world.node(Kind::Server);
    let board = world.node(Kind::Board);
    world.run_for(secs(10));
    for host in [server, board] {
        world.run_application(host, Queue::default());
    }
    world
        .application_mut::<Queue>(server)
        .unwrap()
        .inbox
        .push_back("only one".into());
    world.run_for(mins(1));
    // Where several are responsible, each does it unless it hears first that it is done.
    let done = done(&world, &[server, board]);
    assert!(
        done.get("only one").is_some_and(|times| *times >= 1),
        "{done:?}"
    );
}
