//! `partition`: the network falls into two halves for ten minutes; authors on both sides write on; then it heals. Is
//! anything lost, and when do both sides read the newest?

use crate::sim::HostId;

use super::asking::{Lookups, Reads};
use super::crowd::{Crowd, REST_S};
use super::publishing::{self, TTL_MAX_S, Value, by_members, lost};
use super::{Basis, Progress, Report};

/// How long the halves cannot reach each other, in seconds.
const APART_S: u64 = 10 * 60;
/// When, after the healing, both sides are asked, in seconds.
const ASKED_S: [u64; 4] = [30, 60, 120, 600];

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many values lie in the network.
    pub values: usize,
    /// How many reads on each side, each time.
    pub reads: u64,
    /// How many of them a second.
    pub per_s: u64,
}

/// Runs it.
pub fn run(basis: &Basis, options: Options, progress: Progress<'_>) -> Report {
    let mut crowd = Crowd::filled(basis, REST_S, progress);
    let mut report = Report::new("partition", basis.clone());
    let mut values = by_members(&mut crowd, options.values, TTL_MAX_S, progress);
    report.share("values stored", values.len() as u64, options.values as u64);
    let halves = halves(&mut crowd);
    crowd.world.partition(&halves[1]);
    crowd.rest(APART_S / 2, progress);
    let rewritten = rewrite(&mut crowd, &mut values);
    report.share(
        "values written anew, each on one side",
        rewritten,
        values.len() as u64,
    );
    let past_s = (crowd.world.within_ms / 1_000).into();
    crowd.rest((APART_S / 2).saturating_sub(past_s), progress);
    crowd.world.heal();
    let healed_us = crowd.world.now_us();
    for asked_s in ASKED_S {
        let past_s = (crowd.world.now_us() - healed_us) / 1_000_000;
        crowd.rest(asked_s.saturating_sub(past_s), progress);
        for (side, half) in halves.iter().enumerate() {
            let reads = read(&mut crowd, &values, half, options);
            let of = format!("side {} after {asked_s} s", side + 1);
            reads.report(&of, &mut report);
        }
    }
    report.row("values without a holder", lost(&crowd, &values) as f64, "");
    Lookups::of(&mut crowd, options.reads, options.per_s, progress)
        .report("lookups at the end", &mut report);
    report.close(&crowd.world)
}

/// Two halves of the members, drawn at random.
fn halves(crowd: &mut Crowd) -> [Vec<HostId>; 2] {
    let mut rest = crowd.members().to_vec();
    let mut half = Vec::new();
    for _ in 0..rest.len() / 2 {
        let at = crowd.random.index(rest.len());
        half.push(rest.swap_remove(at));
    }
    [rest, half]
}

/// Every author writes its value anew: those that its side took are the newest from now on.
fn rewrite(crowd: &mut Crowd, values: &mut [Value]) -> u64 {
    let mut open = Vec::new();
    for (serial, value) in values.iter().enumerate() {
        let bytes = publishing::bytes_of(serial, 2);
        let ticket = publishing::begin(crowd, value.author, value.key, &bytes, TTL_MAX_S);
        open.push((serial, ticket, bytes));
    }
    crowd.run_ms(u64::from(crowd.world.within_ms));
    let mut rewritten = 0;
    for (serial, ticket, bytes) in open {
        if publishing::outcome(crowd, ticket) == Some(true) {
            rewritten += 1;
            values[serial].newest = bytes;
        }
    }
    rewritten
}

/// Members of one side read.
fn read(crowd: &mut Crowd, values: &[Value], half: &[HostId], options: Options) -> Reads {
    let mut reads = Reads::default();
    for at in 0..options.reads {
        let host = half[crowd.random.index(half.len())];
        let value = crowd.random.index(values.len());
        reads.begin(crowd, host, values, value);
        if at % options.per_s.max(1) == 0 {
            crowd.run_ms(1_000);
        }
        reads.collect(crowd, values);
    }
    while !reads.is_done() {
        crowd.run_ms(50);
        reads.collect(crowd, values);
    }
    reads
}
