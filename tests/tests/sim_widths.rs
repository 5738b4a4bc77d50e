//! Networks that are less wide than usual: k, α and replication as the switches of `cargo sim` give them.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test may panic, and whole numbers are compared"
)]

use strandline_core::output::Outcome;
use strandline_tests::sim::scenarios::asking::Reads;
use strandline_tests::sim::scenarios::publishing::{Value, begin, bytes_of};
use strandline_tests::sim::scenarios::{Basis, Crowd, Report, lookup};
use strandline_tests::sim::{Overlay, State, Widths, World};

fn quiet() -> impl FnMut(&World, &str) {
    |_, _| {}
}

/// A network of sixty with k = 8, α = 2 and four holders.
fn slim(seed: u64, overlay: Overlay) -> Basis {
    Basis {
        overlay,
        widths: Widths::new(8, 2, 4).unwrap(),
        ..Basis::new(seed, 60)
    }
}

/// The value of a row that has to be there.
fn value(report: &Report, what: &str) -> f64 {
    let value = report.value(what);
    value.unwrap_or_else(|| panic!("no row {what:?} in\n{}", report.words()))
}

const STATIC: lookup::Options = lookup::Options {
    lookups: 60,
    per_s: 30,
    dead_percent: 0,
};

#[test]
fn lookups_of_a_slim_network_find_the_true_nearest_with_fewer_questions() {
    for overlay in [Overlay::Kademlia, Overlay::Chord] {
        let (report, _) = lookup::run(&slim(3, overlay), STATIC, &mut quiet());
        assert!(report.failures.is_empty(), "{}", report.words());
        assert!(report.words().contains("k 8, α 2, replication 4"));
        assert_eq!(value(&report, "lookup: true nearest found"), 100.0);
        let recall = value(&report, "lookup: recall of the true 8 nearest");
        // A lookup on a ring is about the owner: how many of those behind it answer is a matter of the way.
        let least = if overlay == Overlay::Chord {
            75.0
        } else {
            100.0
        };
        assert!(recall >= least, "{}", report.words());
        let requests = value(&report, "lookup: requests: mean");
        assert!((7.0..15.0).contains(&requests), "{}", report.words());
    }
}

#[test]
fn four_hold_a_value_of_a_slim_network_and_everybody_finds_it() {
    for overlay in [Overlay::Kademlia, Overlay::Chord] {
        let mut crowd = Crowd::filled(&slim(4, overlay), 60, &mut quiet());
        let mut values = Vec::new();
        for serial in 0..30 {
            let author = crowd.pick();
            let key = crowd.world.key(&format!("slim value {serial}"));
            crowd.world.meter_mut().watch(key);
            let newest = bytes_of(serial, 1);
            let ticket = begin(&mut crowd, author, key, &newest, 3_600);
            values.push((
                ticket,
                Value {
                    key,
                    author,
                    newest,
                },
            ));
        }
        crowd.run_ms(10_000);
        for (ticket, value) in &values {
            let answer = crowd.world.take(*ticket).unwrap();
            // Usually five of eight are enough: here it is all four.
            let State::Done(Outcome::Stored {
                accepted: 4,
                wanted: 4,
            }) = answer.state
            else {
                panic!("{overlay}: {:?}", answer.state);
            };
            let mut nearest = crowd.truth().nearest(&value.key, 4);
            nearest.sort_unstable();
            let of = |host| crowd.world.running(host).unwrap().node_id();
            let mut ids: Vec<_> = crowd.world.meter().holders(&value.key).map(of).collect();
            ids.sort_unstable();
            assert_eq!(ids, nearest, "{overlay}: those that hold {}", value.key);
        }
        let values: Vec<_> = values.into_iter().map(|(_, value)| value).collect();
        let reads = Reads::of(&mut crowd, &values, 60, 30, &mut quiet());
        assert_eq!((reads.all, reads.found), (60, 60), "{overlay}");
        assert!(crowd.world.failures().is_empty());
    }
}

#[test]
fn worlds_of_different_widths_do_not_disturb_one_another() {
    let bases = [slim(5, Overlay::Kademlia), Basis::new(5, 60)];
    let grow = |crowd: &mut Crowd| crowd.fill(crowd.members().len() + 4, &mut quiet());
    let alone = bases.each_ref().map(|basis| {
        let mut crowd = Crowd::new(basis);
        (0..5).for_each(|_| grow(&mut crowd));
        crowd.world.trace().to_string()
    });
    let mut both = bases.each_ref().map(Crowd::new);
    for _ in 0..5 {
        both.iter_mut().for_each(grow);
    }
    let both = both.each_ref().map(|crowd| crowd.world.trace().to_string());
    assert_eq!(both, alone);
    assert_ne!(both.first(), both.last(), "a width changes what happens");
}
