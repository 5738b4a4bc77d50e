//! The scenarios of rings in small: each measures what it says, of networks small enough for every run of the tests.

#![expect(
    clippy::panic,
    clippy::float_cmp,
    reason = "a test may panic, and whole numbers are compared"
)]

use strandline_tests::sim::scenarios::ring::{churn, failures, paths};
use strandline_tests::sim::scenarios::{Basis, Report};
use strandline_tests::sim::{Overlay, World};

fn quiet() -> impl FnMut(&World, &str) {
    |_, _| {}
}

fn basis(seed: u64, nodes: usize, overlay: Overlay) -> Basis {
    Basis {
        overlay,
        publishes: false,
        ..Basis::new(seed, nodes)
    }
}

/// The value of a row that has to be there.
fn value(report: &Report, what: &str) -> f64 {
    let value = report.value(what);
    value.unwrap_or_else(|| panic!("no row {what:?} in\n{}", report.words()))
}

#[test]
fn with_one_of_each_a_path_is_half_the_logarithm_of_the_nodes() {
    let options = paths::Options {
        lookups: 600,
        per_s: 100,
        rest_s: 300,
    };
    let basis = basis(1, 100, Overlay::NarrowChord);
    let (report, mean) = paths::run(&basis, options, &mut quiet());
    assert!(report.failures.is_empty(), "{}", report.words());
    assert!(report.words().contains("publish nothing"));
    assert_eq!(value(&report, "nodes that know their range"), 100.0);
    assert!(value(&report, "fingers that are right") > 99.0);
    assert_eq!(value(&report, "lookup: right owner"), 100.0);
    // 3.32 of a hundred, less a little for the eight predecessors that are known.
    assert!(
        mean.is_some_and(|mean| mean > 2.8 && mean < 3.5),
        "{mean:?}"
    );
}

#[test]
fn nobody_is_silent_where_nobody_died_and_where_a_third_did_the_owner_is_found() {
    let run = |dead_percent| {
        let options = failures::Options {
            dead_percent,
            networks: 2,
        };
        let (report, mean) = failures::run(&basis(2, 40, Overlay::Chord), options, &mut quiet());
        assert!(report.failures.is_empty(), "{}", report.words());
        assert_eq!(value(&report, "lookup: wrong owner"), 0.0);
        assert!(mean.is_some_and(|mean| mean >= 1.0), "{mean:?}");
        report
    };
    let (healthy, hurt) = (run(0), run(33));
    assert_eq!(value(&healthy, "lookup: right owner"), 100.0);
    assert_eq!(value(&healthy, "lookup: nodes that were silent: mean"), 0.0);
    assert_eq!(value(&hurt, "nodes that vanished at once"), 26.0);
    assert!(value(&hurt, "lookup: nodes that were silent: mean") > 1.0);
    assert!(value(&hurt, "lookup: right owner") > 90.0);
}

#[test]
fn nodes_come_and_go_at_the_rate_given() {
    let options = churn::Options {
        per_100_s: 10,
        lookups: 1_200,
        per_s: 4,
    };
    let report = churn::run(&basis(3, 40, Overlay::Chord), options, &mut quiet());
    assert!(report.failures.is_empty(), "{}", report.words());
    // 30 of each in 300 s.
    for what in ["joins", "departures"] {
        assert!(
            (15.0..50.0).contains(&value(&report, what)),
            "{}",
            report.words()
        );
    }
    assert_eq!(value(&report, "lookup: wrong owner"), 0.0);
    assert!(value(&report, "lookup: right owner") > 99.0);
}
