//! The DHT in worlds of mixed nodes: every lookup ends, every stored record is found, one seed is one trace.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::process::Command as Process;

use strandline_core::output::Outcome;
use strandline_tests::sim::workload::{Plan, Summary, Workload};
use strandline_tests::sim::{Chance, Command, Cryptography, World, mins, secs};

/// A day in small: the same that `cargo sim` runs.
fn day(seed: u64, nodes: usize, minutes: u64, loss: u32, churn: u32) -> (World, Summary) {
    let mut world = World::with_cryptography(seed, Cryptography::StandIn);
    world.network_mut().loss = Chance::percent(loss);
    world.replay = format!(
        "cargo sim -- --seed {seed} --nodes {nodes} --minutes {minutes} --loss {loss} --churn {churn} --crypto stand-in"
    );
    let churn = Chance::percent(churn);
    let plan = Plan {
        churn,
        ..Plan::new(nodes, mins(minutes))
    };
    let summary = Workload::new(plan, seed).run(&mut world, |_| ());
    (world, summary)
}

#[test]
fn in_a_lossy_world_every_lookup_ends_and_every_stored_record_is_found() {
    let (_, summary) = day(1, 1_000, 10, 2, 0);
    assert_eq!(summary.lookups.good, summary.lookups.all);
    assert!(summary.lookups.all > 1_500, "{summary:?}");
    assert!(summary.found.all > 700, "{summary:?}");
    assert_eq!(summary.found.good, summary.found.all);
    assert_eq!((summary.running, summary.timed_out), (0, 0), "{summary:?}");
    // Half of the nodes are boards, and full: here and there fewer than a quorum of the nearest have room.
    for stored in [summary.stored, summary.follows] {
        assert!(stored.good * 100 >= stored.all * 99, "{summary:?}");
    }
}

#[test]
fn one_seed_is_one_trace_and_another_seed_another() {
    let trace = |seed| day(seed, 40, 2, 2, 0).0.trace().to_string();
    let first = trace(5);
    assert_eq!(first, trace(5));
    assert_ne!(first, trace(6));
}

#[test]
fn a_world_with_churn_breaks_no_promise() {
    for seed in 10..14 {
        let (_, summary) = day(seed, 40, 4, 3, 40);
        assert!(summary.crashes.all > 5, "{summary:?}");
        assert_eq!(summary.running, 0, "seed {seed}");
    }
}

#[test]
fn a_lookup_finds_the_nearest_of_all_nodes() {
    let mut world = World::new(3);
    let hosts = world.joined(40, 0);
    world.run_for(mins(1));
    for n in 0..10 {
        let key = world.key(&format!("key {n}"));
        let answer = world.run(hosts[n], &Command::Lookup(key), None);
        let mut ids: Vec<_> = hosts
            .iter()
            .filter_map(|host| world.running(*host).map(|node| *node.node_id().as_bytes()))
            .collect();
        let distance = |id: &[u8; 32]| -> Vec<u8> {
            id.iter().zip(key.as_bytes()).map(|(a, b)| a ^ b).collect()
        };
        ids.sort_by_key(distance);
        let found: Vec<_> = answer
            .contacts
            .iter()
            .map(|(id, ..)| *id.as_bytes())
            .collect();
        assert!(found.len() >= 8, "{:?}", answer.outcome());
        // The asker itself may be left out of what it found.
        let own = world
            .running(hosts[n])
            .map(|node| *node.node_id().as_bytes());
        let nearest: Vec<_> = ids
            .into_iter()
            .filter(|id| Some(*id) != own)
            .take(8)
            .collect();
        let found: Vec<_> = found
            .into_iter()
            .filter(|id| Some(*id) != own)
            .take(8)
            .collect();
        assert_eq!(found, nearest, "key {n}");
    }
}

#[test]
fn a_newcomer_next_to_a_stored_key_gets_the_record() {
    let mut world = World::with_cryptography(4, Cryptography::StandIn);
    let hosts = world.joined(30, 0);
    let keys: Vec<_> = (0..30).map(|n| world.key(&format!("key {n}"))).collect();
    for (n, key) in keys.iter().enumerate() {
        assert!(world.put(hosts[n], *key, format!("value {n}").as_bytes()));
    }
    // As many again come, so that most keys have new nearest nodes; then the first holders go.
    let newcomers = world.nodes(strandline_tests::sim::Kind::Server, 30);
    world.run_for(mins(5));
    for host in &hosts[1..] {
        world.crash(*host);
    }
    world.run_for(mins(1));
    for (n, key) in keys.iter().enumerate() {
        let found = world.get(newcomers[n], *key);
        assert_eq!(found, [format!("value {n}").into_bytes()], "key {n}");
    }
}

#[test]
fn a_message_reaches_the_node_nearest_to_its_key() {
    let mut world = World::new(6);
    let hosts = world.joined(20, 0);
    let key = world.key("a message");
    let nearest = hosts.iter().copied().min_by_key(|host| {
        let id = world
            .running(*host)
            .map(|node| *node.node_id().as_bytes())
            .unwrap_or_default();
        id.iter()
            .zip(key.as_bytes())
            .map(|(a, b)| a ^ b)
            .collect::<Vec<u8>>()
    });
    let sender = hosts.iter().copied().find(|host| Some(*host) != nearest);
    let (Some(nearest), Some(sender)) = (nearest, sender) else {
        return;
    };
    let command = Command::Send {
        key,
        bytes: b"hello".to_vec(),
    };
    let answer = world.run(sender, &command, None);
    assert!(
        matches!(answer.outcome(), Some(Outcome::Delivered { .. })),
        "{:?}",
        answer.outcome()
    );
    assert_eq!(world.take_notices(nearest).len(), 1);
}

#[test]
fn a_node_alone_answers_at_once() {
    let mut world = World::new(7);
    let alone = world.node(strandline_tests::sim::Kind::Server);
    world.run_for(secs(1));
    let key = world.key("here");
    assert!(world.put(alone, key, b"value"), "it is the nearest itself");
    assert_eq!(world.get(alone, key), [b"value".to_vec()]);
    let answer = world.run(alone, &Command::Lookup(world.key("there")), None);
    assert!(answer.took_ms() < 1_000);
}

/// The binary's contract: exit code, JSON, and that it repeats itself.
#[test]
fn the_simulator_prints_one_trace_for_one_seed() {
    let run = |seed: &str| {
        let output = Process::new(env!("CARGO_BIN_EXE_sim"))
            .args(["--nodes", "15", "--minutes", "1", "--json", "--seed", seed])
            .output();
        let output = match output {
            Ok(output) => output,
            Err(error) => panic!("the simulator does not run: {error}"),
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let object: serde_json::Value = match serde_json::from_str(&text) {
            Ok(object) => object,
            Err(error) => panic!("{error}: {text}"),
        };
        assert!(output.status.success(), "{text}");
        assert_eq!(object["v"], 1);
        object["trace"].as_str().map(str::to_owned)
    };
    let first = run("3");
    assert!(first.as_ref().is_some_and(|trace| trace.len() == 16));
    assert_eq!(first, run("3"));
    assert_ne!(first, run("4"));
}
