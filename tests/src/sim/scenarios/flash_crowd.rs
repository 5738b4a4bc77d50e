//! `flash-crowd`: a small network, through one node of which very many join at once; then all of them read one key.

use crate::sim::HostId;

use super::asking::Reads;
use super::crowd::{Crowd, REST_S};
use super::publishing::{TTL_MAX_S, by_members};
use super::report::Samples;
use super::{Basis, Progress, Report};

/// Of the nodes, one in so many is there before the crowd comes.
const RESIDENTS: usize = 10;
/// For how long it is watched who has joined, in seconds.
const WATCHED_S: u64 = 120;
/// Within which time all read, in seconds.
const READ_S: u64 = 10;

/// Runs it.
pub fn run(basis: &Basis, progress: Progress<'_>) -> Report {
    let mut crowd = Crowd::new(basis);
    let mut report = Report::new("flash-crowd", basis.clone());
    let residents = (basis.nodes / RESIDENTS).max(2);
    crowd.fill(residents, progress);
    crowd.rest(REST_S, progress);
    report.count("residents", crowd.members().len());
    let door = crowd.members()[0];
    let (came, before) = (
        basis.nodes - residents,
        crowd.world.meter().received_by(door),
    );
    crowd.joined_ms = Samples::default();
    for _ in 0..came {
        crowd.add(door);
    }
    for second in 0..WATCHED_S {
        crowd.run_ms(1_000);
        if second == 9 {
            let joined = crowd.joined_ms.len();
            report.share("joined within 10 s", joined as u64, came as u64);
            let got = crowd.world.meter().received_by(door) - before;
            report.row("datagrams to that node in 10 s", f64::from(got), "");
        }
        let joined = crowd.joined_ms.len();
        progress(
            &crowd.world,
            &format!("{joined} of {came} of the crowd joined"),
        );
    }
    report.share(
        "joined within 2 min",
        crowd.joined_ms.len() as u64,
        came as u64,
    );
    report.samples("join", &crowd.joined_ms, "ms");
    report.row("tries that failed", crowd.failed_tries as f64, "");
    read_by_all(&mut crowd, &mut report, progress);
    report.close(&crowd.world)
}

/// One value, read by every member within [`READ_S`].
fn read_by_all(crowd: &mut Crowd, report: &mut Report, progress: Progress<'_>) {
    let values = by_members(crowd, 1, TTL_MAX_S, progress);
    report.count("popular value stored", values.len());
    if values.is_empty() {
        return;
    }
    let members = crowd.members().to_vec();
    let load = |crowd: &Crowd, host: &HostId| crowd.world.meter().received_by(*host);
    let before: Vec<u32> = members.iter().map(|host| load(crowd, host)).collect();
    let mut reads = Reads::default();
    let steps = READ_S * 20;
    let per_step = members.len().div_ceil(usize::try_from(steps).unwrap_or(1));
    for some in members.chunks(per_step) {
        for host in some {
            reads.begin(crowd, *host, &values, 0);
        }
        crowd.run_ms(50);
        reads.collect(crowd, &values);
    }
    while !reads.is_done() {
        crowd.run_ms(50);
        reads.collect(crowd, &values);
    }
    reads.report("reads of the popular value", report);
    let mut got = Samples::default();
    for (host, before) in members.iter().zip(before) {
        got.add(u64::from(load(crowd, host) - before));
    }
    report.samples("datagrams to a node meanwhile", &got, "");
    report.row(
        "datagrams to the busiest node meanwhile",
        got.max() as f64,
        "",
    );
}
