//! Questions asked from everywhere: lookups of random keys, and reads of values that were put.
//!
//! Owns the rhythm in which they begin and the counts of what came of them. A lookup is compared with the truth about
//! who lives when it ends. The invariant: an asker has one question at a time, so that what it sends can be counted.

use std::collections::{BTreeMap, VecDeque};

use strandline_core::id::{Key, NodeId};
use strandline_core::output::Outcome;

use crate::sim::meter::Requests;
use crate::sim::node::AnyNode;
use crate::sim::{Command, HostId, State, Ticket};

use super::crowd::{Crowd, Truth};
use super::report::{Report, Samples};
use super::{Progress, publishing::Value};

/// How long a step of asking is, in ms.
const STEP_MS: u64 = 50;

/// What came of lookups.
#[derive(Clone, Debug, Default)]
pub struct Lookups {
    /// How many nearest a lookup ends with.
    k: usize,
    all: u64,
    nearest_found: u64,
    recalled: u64,
    recallable: u64,
    unfinished: u64,
    /// How often each node was missed.
    missed: BTreeMap<NodeId, u64>,
    hops: Samples,
    asked: Samples,
    first_pings: Samples,
    addresses: Samples,
    /// How long they took, in ms.
    pub took_ms: Samples,
}

impl Lookups {
    /// Looks up `count` random keys from random members, `per_s` a second.
    pub fn of(crowd: &mut Crowd, count: u64, per_s: u64, progress: Progress<'_>) -> Self {
        let mut lookups = Self {
            k: crowd.world.widths.k(),
            ..Self::default()
        };
        let mut open: VecDeque<(Ticket, HostId, Key)> = VecDeque::new();
        let mut begun = 0;
        let began_us = crowd.world.now_us();
        while begun < count || !open.is_empty() {
            let due = 1 + (crowd.world.now_us() - began_us) * per_s / 1_000_000;
            while begun < count.min(due) {
                let (host, key) = (crowd.pick(), Key::from_bytes(crowd.random.bytes_32()));
                begun += 1;
                if crowd.world.meter().is_tapped(host) {
                    continue; // It is busy with another; this one is left out.
                }
                crowd.world.meter_mut().tap(host, key);
                let ticket = crowd.world.begin(host, &Command::Lookup(key), None);
                open.push_back((ticket, host, key));
            }
            crowd.run_ms(STEP_MS);
            lookups.collect(crowd, &mut open);
            progress(&crowd.world, &format!("{begun} of {count} lookups begun"));
        }
        lookups
    }

    fn collect(&mut self, crowd: &mut Crowd, open: &mut VecDeque<(Ticket, HostId, Key)>) {
        let mut truth = None;
        for _ in 0..open.len() {
            let Some((ticket, host, key)) = open.pop_front() else {
                return;
            };
            let Some(answer) = crowd.world.take(ticket) else {
                open.push_back((ticket, host, key));
                continue;
            };
            let requests = crowd.world.meter_mut().untap(host);
            if answer.state == State::Abandoned {
                continue; // The asker died.
            }
            let truth: &Truth = truth.get_or_insert_with(|| crowd.truth());
            let own = crowd.world.running(host).map(AnyNode::node_id);
            // One more than asked for: a node names others, and not itself.
            let mut near = truth.nearest(&key, self.k + 1);
            near.retain(|id| Some(*id) != own);
            near.truncate(self.k);
            let found: Vec<_> = answer.contacts.iter().map(|(id, ..)| *id).collect();
            self.all += 1;
            self.recallable += near.len() as u64;
            for id in near.iter().filter(|id| !found.contains(id)) {
                *self.missed.entry(*id).or_default() += 1;
            }
            self.recalled += near.iter().filter(|id| found.contains(id)).count() as u64;
            self.nearest_found += u64::from(near.first() == found.first());
            let Some(Outcome::Found { .. }) = answer.outcome() else {
                self.unfinished += 1;
                continue;
            };
            self.took_ms.add(answer.took_ms());
            self.count_requests(requests);
            if let Some((_, _, hops)) = answer.contacts.first() {
                self.hops.add(u64::from(*hops));
            }
        }
    }

    fn count_requests(&mut self, requests: Requests) {
        self.asked.add(u64::from(requests.asked));
        self.first_pings.add(u64::from(requests.first_pings));
        self.addresses.add(u64::from(requests.addresses));
    }

    /// Mean hops to the nearest node.
    #[must_use]
    pub fn mean_hops(&self) -> Option<f64> {
        self.hops.mean()
    }

    /// Adds the rows to a report.
    pub fn report(&self, of: &str, report: &mut Report) {
        report.share(
            &format!("{of}: true nearest found"),
            self.nearest_found,
            self.all,
        );
        report.share(
            &format!("{of}: recall of the true {} nearest", self.k),
            self.recalled,
            self.recallable,
        );
        if let Some(most) = self.missed.values().max() {
            report.count(format!("{of}: nodes missed"), self.missed.len());
            report.row(format!("{of}: most times one was missed"), *most as f64, "");
        }
        report.samples(&format!("{of}: hops to the nearest"), &self.hops, "");
        report.samples(&format!("{of}: requests"), &self.asked, "");
        report.samples(&format!("{of}: first-contact pings"), &self.first_pings, "");
        report.samples(&format!("{of}: addresses spoken to"), &self.addresses, "");
        report.samples(&format!("{of}: time"), &self.took_ms, "ms");
        if self.unfinished > 0 {
            report.row(
                format!("{of}: found nothing or timed out"),
                self.unfinished as f64,
                "",
            );
        }
    }
}

/// A read under way: what is to be found, and whether a copy lived when it was asked for.
#[derive(Clone, Debug)]
struct Reading {
    ticket: Ticket,
    host: HostId,
    /// It is listened to: which holders it asks.
    tapped: bool,
    value: usize,
    had_copy: bool,
}

/// What came of reads of values.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    /// All that ended, or died with nobody left to blame but the network.
    pub all: u64,
    /// Those that found the newest value.
    pub found: u64,
    /// Those at whose beginning a copy lived.
    pub with_copy: u64,
    /// And found it.
    pub found_with_copy: u64,
    /// Those that found an older value and not the newest.
    pub older: u64,
    /// Of the nodes that held the value when a read ended, the reader aside: all, and those that it asked.
    pub holders: (u64, u64),
    /// How long those that found something took, in ms.
    pub took_ms: Samples,
    open: Vec<Reading>,
}

impl Reads {
    /// Asks a member for one of the values.
    pub fn begin(&mut self, crowd: &mut Crowd, host: HostId, values: &[Value], at: usize) {
        let Some(value) = values.get(at) else { return };
        let had_copy = crowd.world.meter().holders(&value.key).next().is_some();
        let tapped = !crowd.world.meter().is_tapped(host);
        if tapped {
            crowd.world.meter_mut().tap(host, value.key);
        }
        let ticket = crowd.world.begin(host, &Command::Get(value.key), None);
        self.open.push(Reading {
            ticket,
            host,
            tapped,
            value: at,
            had_copy,
        });
    }

    /// Takes in what has ended.
    pub fn collect(&mut self, crowd: &mut Crowd, values: &[Value]) {
        for reading in std::mem::take(&mut self.open) {
            let Some(answer) = crowd.world.take(reading.ticket) else {
                self.open.push(reading);
                continue;
            };
            if answer.state == State::Abandoned {
                continue; // The asker died.
            }
            if reading.tapped {
                self.count_holders(crowd, reading.host, values.get(reading.value));
            }
            let newest = values.get(reading.value).map(|value| &value.newest);
            let finds = |bytes: Option<&Vec<u8>>| {
                bytes.is_some_and(|bytes| answer.values.iter().any(|(_, _, found)| found == bytes))
            };
            let found = finds(newest);
            self.all += 1;
            self.found += u64::from(found);
            self.older += u64::from(!found && !answer.values.is_empty());
            self.with_copy += u64::from(reading.had_copy);
            self.found_with_copy += u64::from(reading.had_copy && found);
            if found {
                self.took_ms.add(answer.took_ms());
            }
        }
    }

    /// Counts whom a reader has asked of those who hold what it looked for.
    fn count_holders(&mut self, crowd: &mut Crowd, host: HostId, value: Option<&Value>) {
        let meter = crowd.world.meter();
        let holders = value
            .into_iter()
            .flat_map(|value| meter.holders(&value.key));
        for holder in holders.filter(|holder| *holder != host) {
            let asked = meter.has_asked(host, crowd.world.machine(holder).addr);
            self.holders.0 += 1;
            self.holders.1 += u64::from(asked);
        }
        crowd.world.meter_mut().untap(host);
    }

    /// Whether all have ended.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.open.is_empty()
    }

    /// Reads `count` of the values, each from a random member, `per_s` a second, and waits for all.
    pub fn of(
        crowd: &mut Crowd,
        values: &[Value],
        count: u64,
        per_s: u64,
        progress: Progress<'_>,
    ) -> Self {
        let mut reads = Self::default();
        let began_us = crowd.world.now_us();
        let mut begun = 0;
        while begun < count || !reads.is_done() {
            let due = 1 + (crowd.world.now_us() - began_us) * per_s / 1_000_000;
            while begun < count.min(due) {
                let (host, at) = (crowd.pick(), crowd.random.index(values.len()));
                reads.begin(crowd, host, values, at);
                begun += 1;
            }
            crowd.run_ms(STEP_MS);
            reads.collect(crowd, values);
            progress(&crowd.world, &format!("{begun} of {count} reads begun"));
        }
        reads
    }

    /// Adds the rows to a report.
    pub fn report(&self, of: &str, report: &mut Report) {
        report.share(&format!("{of}: found the newest"), self.found, self.all);
        report.share(
            &format!("{of}: found, where a copy lived"),
            self.found_with_copy,
            self.with_copy,
        );
        report.share(
            &format!("{of}: holders asked"),
            self.holders.1,
            self.holders.0,
        );
        if self.older > 0 {
            report.row(format!("{of}: found an older one"), self.older as f64, "");
        }
        report.samples(&format!("{of}: time"), &self.took_ms, "ms");
    }
}
