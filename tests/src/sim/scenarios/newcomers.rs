//! `newcomers`: nodes join that are the nearest of all to a key at which a value lies. When has each the value?

use strandline_core::id::Key;

use crate::sim::HostId;

use super::crowd::{Crowd, REST_S};
use super::publishing::{TTL_MAX_S, begin, bytes_of, outcome};
use super::{Basis, Progress, Report, report::Samples};

/// One round of maintenance, in seconds: holders compare what they hold at least this often.
pub const ROUND_S: u64 = 15 * 60;
/// How long a step is, in ms: times are told as exactly as that.
const STEP_MS: u64 = 50;
/// From one newcomer to the next, in ms.
const EVERY_MS: u64 = 1_000;

/// Nodes that are to come, and what of theirs was seen.
struct Newcomers {
    /// Each with the key beside its id.
    prepared: Vec<(HostId, Key)>,
    /// Those that came and have not their value: when they came, and which.
    waiting: Vec<(u64, HostId, Key)>,
    took_ms: Samples,
    late: u64,
}

/// Runs it with so many newcomers.
pub fn run(basis: &Basis, newcomers: usize, progress: Progress<'_>) -> Report {
    let mut crowd = Crowd::filled(basis, REST_S, progress);
    let mut report = Report::new("newcomers", basis.clone());
    let mut these = Newcomers::prepare(&mut crowd, newcomers);
    let stored = these.publish(&mut crowd);
    report.share("values stored", stored, newcomers as u64);
    for (host, key) in these.prepared.clone() {
        let through = crowd.pick();
        crowd.add_prepared(host, through);
        these.waiting.push((crowd.world.now_us(), host, key));
        for _ in 0..EVERY_MS / STEP_MS {
            these.step(&mut crowd);
        }
        let waiting = these.waiting.len();
        progress(&crowd.world, &format!("{waiting} newcomers wait"));
    }
    while !these.waiting.is_empty() {
        these.step(&mut crowd);
    }
    report.share(
        "newcomers with the value within a round",
        these.took_ms.len() as u64,
        newcomers as u64,
    );
    report.samples("until a newcomer has it", &these.took_ms, "ms");
    report.row("longest", these.took_ms.max() as f64, "ms");
    report.row("without it after a round", these.late as f64, "");
    report.close(&crowd.world)
}

impl Newcomers {
    fn prepare(crowd: &mut Crowd, count: usize) -> Self {
        let prepared = (0..count).map(|_| {
            let (host, id) = crowd.prepare();
            // Nobody can be nearer than at distance one.
            let mut beside = *id.as_bytes();
            beside[31] ^= 1;
            (host, Key::from_bytes(beside))
        });
        Self {
            prepared: prepared.collect(),
            waiting: Vec::new(),
            took_ms: Samples::default(),
            late: 0,
        }
    }

    /// Members put a value beside each; how many were stored.
    fn publish(&self, crowd: &mut Crowd) -> u64 {
        let mut open = Vec::new();
        for (serial, (_, key)) in self.prepared.iter().enumerate() {
            crowd.world.meter_mut().watch(*key);
            let author = crowd.pick();
            open.push(begin(crowd, author, *key, &bytes_of(serial, 1), TTL_MAX_S));
        }
        let mut stored = 0;
        while !open.is_empty() {
            crowd.run_ms(STEP_MS);
            open.retain(|ticket| match outcome(crowd, *ticket) {
                None => true,
                Some(was_stored) => {
                    stored += u64::from(was_stored);
                    false
                }
            });
        }
        stored
    }

    /// Lets a moment pass and looks who has its value now.
    fn step(&mut self, crowd: &mut Crowd) {
        crowd.run_ms(STEP_MS);
        let now_us = crowd.world.now_us();
        let (took_ms, late) = (&mut self.took_ms, &mut self.late);
        self.waiting.retain(|(came_us, host, key)| {
            let past_us = now_us - came_us;
            if crowd
                .world
                .meter()
                .holders(key)
                .any(|holder| holder == *host)
            {
                took_ms.add(past_us / 1_000);
                return false;
            }
            let is_late = past_us > ROUND_S * 1_000_000;
            *late += u64::from(is_late);
            !is_late
        });
    }
}
