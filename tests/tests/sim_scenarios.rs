//! The scenarios of `cargo sim` in small: each measures what it says, of networks small enough for every run of the tests.

#![expect(
    clippy::panic,
    clippy::float_cmp,
    reason = "a test may panic, and whole numbers are compared"
)]

use strandline_tests::sim::scenarios::{
    Basis, Report, churn, flash_crowd, half_die, join, lookup, newcomers, partition, sending,
    silent, skew,
};
use strandline_tests::sim::{Cryptography, World};

fn quiet() -> impl FnMut(&World, &str) {
    |_, _| {}
}

/// The value of a row that has to be there.
fn value(report: &Report, what: &str) -> f64 {
    let value = report.value(what);
    value.unwrap_or_else(|| panic!("no row {what:?} in\n{}", report.words()))
}

fn passed(report: &Report) {
    assert!(report.failures.is_empty(), "{}", report.words());
}

const STATIC: lookup::Options = lookup::Options {
    lookups: 60,
    per_s: 30,
    dead_percent: 0,
};

#[test]
fn a_static_network_finds_the_true_nearest_every_time() {
    let (report, hops) = lookup::run(&Basis::new(3, 60), STATIC, &mut quiet());
    passed(&report);
    assert_eq!(value(&report, "members"), 60.0);
    assert_eq!(value(&report, "lookup: true nearest found"), 100.0);
    assert_eq!(
        value(&report, "lookup: recall of the true 20 nearest"),
        100.0
    );
    assert!(
        hops.is_some_and(|hops| hops > 0.0 && hops < 2.0),
        "{hops:?}"
    );
    // To know the nearest twenty, twenty have to answer.
    assert!(value(&report, "lookup: requests: mean") >= 19.0);
}

#[test]
fn one_command_gives_one_trace_with_oracles_and_without() {
    let run = |judges| {
        let basis = Basis {
            judges: Some(judges),
            ..Basis::new(4, 20)
        };
        lookup::run(&basis, STATIC, &mut quiet()).0
    };
    let (with, again, without) = (run(true), run(true), run(false));
    let last_line = |report: &Report| {
        let words = report.words();
        words.lines().rev().nth(1).map(str::to_owned)
    };
    assert!(last_line(&with).is_some_and(|line| line.contains("trace")));
    assert_eq!(last_line(&with), last_line(&again));
    assert_eq!(
        last_line(&with),
        last_line(&without),
        "looking changes nothing"
    );
    assert!(without.words().contains("were not checked"));
    assert!(!with.words().contains("were not checked"));
}

#[test]
fn lookups_with_dead_contacts_are_compared_with_who_lives() {
    let options = lookup::Options {
        dead_percent: 30,
        ..STATIC
    };
    let (report, hops) = lookup::run(&Basis::new(3, 60), options, &mut quiet());
    passed(&report);
    assert_eq!(value(&report, "members"), 42.0);
    assert_eq!(value(&report, "all alive: true nearest found"), 100.0);
    assert!(value(&report, "lookup: true nearest found") > 90.0);
    assert_eq!(hops, None, "a plot of path lengths is of healthy networks");
}

#[test]
fn joining_is_measured_with_real_cryptography_too() {
    let basis = Basis {
        cryptography: Cryptography::Real,
        ..Basis::new(5, 12)
    };
    let (report, crowd) = join::run(&basis, &mut quiet());
    passed(&report);
    assert_eq!((crowd.members().len(), crowd.given_up), (12, 0));
    assert_eq!(value(&report, "table contacts: most entries"), 11.0);
    assert!(value(&report, "join: 99 %") < 5_000.0);
    assert_eq!(value(&report, "workload sent per node"), 0.0);
}

#[test]
fn churn_counts_departures_reads_and_what_both_cost() {
    let options = churn::Options {
        median_s: 300,
        time_s: 600,
        values: 20,
        reads_per_min: 30,
    };
    let (report, measured) = churn::run(&Basis::new(6, 30), options, &mut quiet());
    passed(&report);
    // Thirty nodes, two half-lives: 42 on average.
    let departures = value(&report, "departures");
    assert!((20.0..70.0).contains(&departures), "{departures}");
    assert_eq!(value(&report, "values stored"), 100.0);
    assert!(value(&report, "reads: found the newest: of") > 250.0);
    // Eight holders, of whom some have died since.
    assert!(value(&report, "reads: holders asked: of") > 5.0 * 250.0);
    assert!(value(&report, "hour 1: holders asked") > 50.0);
    assert_eq!(
        value(&report, "reads: found the newest"),
        measured.found_percent
    );
    assert!(measured.maintenance_bps > 0.0 && value(&report, "workload: get") > 0.0);
    assert_eq!(value(&report, "values lost before expiry: of"), 20.0);
}

#[test]
fn when_half_die_the_dead_are_no_longer_members_and_values_lose_holders() {
    let options = half_die::Options {
        values: 20,
        questions: 40,
        per_s: 20,
        dead_percent: 50,
    };
    let report = half_die::run(&Basis::new(7, 40), options, &mut quiet());
    passed(&report);
    assert_eq!(value(&report, "nodes that vanished at once"), 20.0);
    assert!(value(&report, "after 10 min: true nearest found") > 90.0);
    assert!(value(&report, "reads after 10 min: found, where a copy lived") > 90.0);
}

#[test]
fn after_a_partition_both_sides_are_asked_for_the_newest() {
    let options = partition::Options {
        values: 20,
        reads: 40,
        per_s: 20,
    };
    let report = partition::run(&Basis::new(8, 40), options, &mut quiet());
    passed(&report);
    assert_eq!(value(&report, "values without a holder"), 0.0);
    assert!(value(&report, "values written anew, each on one side") > 0.0);
    for side in [1, 2] {
        let of = value(
            &report,
            &format!("side {side} after 120 s: found the newest: of"),
        );
        assert_eq!(of, 40.0);
    }
}

#[test]
fn a_flash_crowd_joins_through_one_node_and_reads_one_key() {
    let report = flash_crowd::run(&Basis::new(9, 40), &mut quiet());
    passed(&report);
    assert_eq!(value(&report, "residents"), 4.0);
    assert_eq!(value(&report, "joined within 2 min"), 100.0);
    assert_eq!(
        value(&report, "reads of the popular value: found the newest"),
        100.0
    );
    let busiest = value(&report, "datagrams to the busiest node meanwhile");
    assert!(busiest >= value(&report, "datagrams to a node meanwhile: median"));
}

#[test]
fn with_clocks_that_are_off_values_live_on_and_end() {
    let options = skew::Options {
        error_s: 120,
        honest: true,
        drift_ppm: 100,
        values: 10,
        reads: 20,
        per_s: 20,
    };
    let report = skew::run(&Basis::new(10, 20), options, &mut quiet());
    passed(&report);
    assert_eq!(value(&report, "values stored"), 100.0);
    for name in ["at once", "after three quarters"] {
        assert_eq!(value(&report, &format!("{name}: found the newest")), 100.0);
    }
    let late = "half a minute after the last ended: found the newest";
    assert_eq!(value(&report, late), 0.0);
}

#[test]
fn contacts_that_never_answer_cost_lookups_nothing() {
    let options = silent::Options {
        silent: 60,
        lookups: 200,
        per_s: 30,
    };
    let report = silent::run(&Basis::new(11, 60), options, &mut quiet());
    passed(&report);
    assert_eq!(value(&report, "contacts that never answer"), 60.0);
    // Each was believed as far as a ping: it proves nothing that it was sent.
    assert!(value(&report, "datagrams to them") >= 60.0);
    assert_eq!(value(&report, "places that they have in tables"), 0.0);
    assert_eq!(value(&report, "after: true nearest found"), 100.0);
    let median = value(&report, "median time, of that before");
    assert!((95.0..=105.0).contains(&median), "{median} %");
}

#[test]
fn whoever_joins_next_to_a_value_is_given_it_within_a_round() {
    let report = newcomers::run(&Basis::new(12, 60), 30, &mut quiet());
    passed(&report);
    assert_eq!(value(&report, "values stored"), 100.0);
    let share = "newcomers with the value within a round";
    assert_eq!(value(&report, share), 100.0, "{}", report.words());
    assert_eq!(value(&report, &format!("{share}: of")), 30.0);
    assert!(value(&report, "longest") > 0.0);
}

#[test]
fn messages_reach_the_owner_under_churn_and_come_once() {
    let options = sending::Options {
        median_s: 3_600,
        time_s: 1_200,
        sends_per_min: 60,
    };
    let report = sending::run(&Basis::new(13, 60), options, &mut quiet());
    passed(&report);
    assert!(value(&report, "departures") > 3.0);
    assert!(value(&report, "messages that reached the owner: of") > 1_100.0);
    let reached = value(&report, "messages that reached the owner");
    assert!(reached >= 99.9, "{}", report.words());
    assert_eq!(value(&report, "delivered again to a node"), 0.0);
}
