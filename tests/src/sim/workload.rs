//! What happens in a world that runs by itself: nodes come, people follow, post and read, values are stored and found,
//! machines fail and return.
//!
//! Owns the generator of the workload and the counts of the summary; judges nothing, since the world's oracles do. Each
//! kind of action has its own rhythm. The invariant: the actions depend on the seed and the plan alone, not on what the
//! nodes do, so that two versions of core can be run through the same day.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use strandline_core::output::Outcome;

use super::answers::{Answer, State, Ticket};
use super::clock::TimeOfDay;
use super::machine::Setup;
use super::node::Command;
use super::plans::Kind;
use super::random::{Chance, Random};
use super::scenario::{ms, secs};
use super::world::{HostId, World};

/// What is to happen.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them are boards.
    pub boards: Chance,
    /// How long the world runs, from the first node's start.
    pub time: Duration,
    /// The time within which all nodes start.
    pub arrival: Duration,
    /// People act as soon as they have joined, while the network is still growing; else from [`SETTLE_US`] after the
    /// last node's start on.
    pub early: bool,
    /// Of all nodes, how many crash and return within the run.
    pub churn: Chance,
    /// Lookups of random keys in a minute, all nodes together.
    pub lookups_per_min: u64,
    /// Values put in a minute, each read twice later.
    pub puts_per_min: u64,
    /// Posts in a minute.
    pub posts_per_min: u64,
    /// Follows in a minute.
    pub follows_per_min: u64,
    /// Timelines read in a minute.
    pub reads_per_min: u64,
}

impl Plan {
    /// A day in small for so many nodes: each does a little of everything.
    #[must_use]
    pub fn new(nodes: usize, time: Duration) -> Self {
        let n = nodes as u64;
        Self {
            nodes,
            boards: Chance::percent(50),
            time,
            arrival: (time / 5).min(secs(60)),
            early: false,
            churn: Chance::NEVER,
            lookups_per_min: n / 5 + 1,
            puts_per_min: n / 20 + 1,
            posts_per_min: n / 10 + 1,
            follows_per_min: n / 10 + 1,
            reads_per_min: n / 10 + 1,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Nodes that run at the end.
    pub nodes: usize,
    /// Boards among all nodes started.
    pub boards: usize,
    /// Joins begun, and those that found somebody.
    pub joins: Pair,
    /// Lookups begun, and those that ended.
    pub lookups: Pair,
    /// Values that enough holders took, of those put.
    pub stored: Pair,
    /// Values found, of those that were looked for after they were stored.
    pub found: Pair,
    /// Posts acknowledged, of those begun.
    pub posts: Pair,
    /// Follows stored, of those begun.
    pub follows: Pair,
    /// Reads that were complete, of those that ended.
    pub reads: Pair,
    /// Posts that were shown.
    pub shown: u64,
    /// Commands that were refused because the node was busy or full.
    pub refused: u64,
    /// Commands that ended with a time-out.
    pub timed_out: u64,
    /// Crashes, and returns.
    pub crashes: Pair,
    /// Commands that are still running at the end.
    pub running: u64,
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// How many worked.
    pub good: u64,
    /// How many there were.
    pub all: u64,
}

impl Pair {
    fn count(&mut self, good: bool) {
        self.all += 1;
        self.good += u64::from(good);
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.good, self.all)
    }
}

/// An action that comes again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Lookup,
    Put,
    Post,
    Follow,
    Read,
}

/// Runs a plan in a world.
pub struct Workload {
    plan: Plan,
    random: Random,
    summary: Summary,
    hosts: Vec<HostId>,
    /// Those that have found the network; only they act.
    joined: Vec<HostId>,
    open: VecDeque<Ticket>,
    /// Values to be read again: when, where, and how often still.
    due: VecDeque<(u64, strandline_core::id::Key)>,
    /// Machines that are off, and when they return.
    off: VecDeque<(u64, HostId)>,
    serial: u64,
}

/// How long the network has to settle after the last node's start, in µs.
pub const SETTLE_US: u64 = 15_000_000;
/// How long after a value was put it is read, in µs.
const READ_AFTER_US: u64 = 20_000_000;
/// For how long a crashed machine is off, in µs.
const OFF_US: std::ops::RangeInclusive<u64> = 5_000_000..=60_000_000;

impl Workload {
    /// A workload for a world with this seed.
    #[must_use]
    pub fn new(plan: Plan, seed: u64) -> Self {
        Self {
            plan,
            random: Random::new(seed).fork("workload"),
            summary: Summary::default(),
            hosts: Vec::new(),
            joined: Vec::new(),
            open: VecDeque::new(),
            due: VecDeque::new(),
            off: VecDeque::new(),
            serial: 0,
        }
    }

    /// Runs it to the end; `progress` is called about every simulated second.
    pub fn run(mut self, world: &mut World, mut progress: impl FnMut(&World)) -> Summary {
        let end_us = us(self.plan.time);
        // What needs an answer is begun early enough to get it.
        let quiet_us = end_us.saturating_sub(u64::from(world.within_ms) * 1_000 + 2_000_000);
        let acts = [
            (Act::Lookup, self.plan.lookups_per_min),
            (Act::Put, self.plan.puts_per_min),
            (Act::Post, self.plan.posts_per_min),
            (Act::Follow, self.plan.follows_per_min),
            (Act::Read, self.plan.reads_per_min),
        ];
        let settled_us = us(self.plan.arrival) + SETTLE_US;
        let begin_us = if self.plan.early { 0 } else { settled_us };
        let mut next_us = acts.map(|(_, per_min)| begin_us + self.pause(per_min));
        let churned = self.plan.nodes as u64 * u64::from(self.plan.churn.as_ppm()) / 1_000_000;
        let crash_every = (end_us / 2).checked_div(churned).unwrap_or(u64::MAX);
        let mut next_crash_us = (end_us / 4).saturating_add(crash_every);
        let mut reported_us = 0;
        while world.now_us() < end_us {
            world.run_for(ms(50));
            let now_us = world.now_us();
            self.arrive(world);
            if now_us < quiet_us {
                for (slot, (act, per_min)) in next_us.iter_mut().zip(acts) {
                    while *slot <= now_us {
                        self.act(world, act);
                        *slot += self.pause(per_min);
                    }
                }
                while next_crash_us <= now_us && now_us < end_us / 4 * 3 {
                    self.crash(world);
                    next_crash_us = next_crash_us.saturating_add(crash_every);
                }
                self.read_values(world);
            }
            self.return_machines(world);
            self.collect(world);
            if now_us >= reported_us + 1_000_000 {
                reported_us = now_us;
                progress(world);
            }
        }
        self.summary.nodes = self
            .hosts
            .iter()
            .filter(|host| world.running(**host).is_some())
            .count();
        self.summary.running = self.open.len() as u64;
        self.summary
    }

    /// Starts the nodes whose time has come.
    fn arrive(&mut self, world: &mut World) {
        let share = us(self.plan.arrival).max(1);
        let wanted =
            (u128::from(world.now_us()) * self.plan.nodes as u128 / u128::from(share)) as usize;
        while self.hosts.len() < wanted.clamp(1, self.plan.nodes) {
            // The first is a server: everyone joins through it.
            let board = !self.hosts.is_empty() && self.random.happens(self.plan.boards);
            let kind = if board { Kind::Board } else { Kind::Server };
            self.summary.boards += usize::from(board);
            let error = i32::try_from(self.random.below(401)).unwrap_or(0) - 200;
            let drift = i32::try_from(self.random.below(101)).unwrap_or(0) - 50;
            // Some boards never learn the date.
            let known = !board || !self.random.happens(Chance::percent(20));
            let setup = Setup {
                time_of_day: if known {
                    TimeOfDay::Known {
                        error_ms: error,
                        uncertainty_ms: 250,
                    }
                } else {
                    TimeOfDay::Unknown
                },
                drift_ppm: drift,
                joins: false,
                refresh: secs(60),
                ..Setup::new(kind)
            };
            let host = world.node_with(setup);
            match self.running(world) {
                Some(known) => {
                    let addr = world.machine(known).addr;
                    self.begin(world, host, &Command::Join(addr), None);
                }
                None => self.joined.push(host), // The first has nobody to join.
            }
            self.hosts.push(host);
        }
    }

    /// The time to the next action of a kind, in µs: half to one and a half times the mean.
    fn pause(&mut self, per_min: u64) -> u64 {
        let mean = 60_000_000_u64
            .checked_div(per_min)
            .unwrap_or(u64::MAX / 4)
            .max(2);
        mean / 2 + self.random.below(mean)
    }

    fn begin(&mut self, world: &mut World, host: HostId, command: &Command, about: Option<HostId>) {
        let ticket = world.begin(host, command, about);
        self.open.push_back(ticket);
    }

    fn running(&mut self, world: &World) -> Option<HostId> {
        let host = *self.random.pick(&self.joined)?;
        world.running(host).map(|_| host)
    }

    fn act(&mut self, world: &mut World, act: Act) {
        if self.joined.len() < 2 {
            return; // One alone finds nobody.
        }
        let (Some(host), Some(other)) = (self.running(world), self.running(world)) else {
            return;
        };
        self.serial += 1;
        let serial = self.serial;
        match act {
            Act::Lookup => {
                let key = world.key(&format!("lookup {serial}"));
                self.begin(world, host, &Command::Lookup(key), None);
            }
            Act::Put => {
                let key = world.key(&format!("value {serial}"));
                let value = format!("value {serial} of {host}").into_bytes();
                self.begin(
                    world,
                    host,
                    &Command::Put {
                        key,
                        value,
                        ttl_s: 3_600,
                    },
                    None,
                );
                for again in [1, 3] {
                    self.due
                        .push_back((world.now_us() + again * READ_AFTER_US, key));
                }
                self.due.make_contiguous().sort_unstable();
            }
            Act::Post => {
                let text = format!("post {serial} of {host}");
                self.begin(world, host, &Command::Post(text), None);
            }
            Act::Follow => {
                if host != other {
                    let command = Command::Follow(world.handle(other));
                    self.begin(world, host, &command, Some(other));
                }
            }
            Act::Read => self.begin(world, host, &Command::Timeline(None), None),
        }
    }

    fn read_values(&mut self, world: &mut World) {
        while self
            .due
            .front()
            .is_some_and(|(at, _)| *at <= world.now_us())
        {
            let Some((_, key)) = self.due.pop_front() else {
                return;
            };
            if let Some(host) = self.running(world) {
                self.begin(world, host, &Command::Get(key), None);
            }
        }
    }

    fn crash(&mut self, world: &mut World) {
        let Some(host) = self.running(world) else {
            return;
        };
        if Some(&host) == self.hosts.first() {
            return;
        }
        if self.random.happens(Chance::percent(50)) {
            world.crash(host);
        } else {
            world.vanish(host);
        }
        let back_us = world.now_us() + self.random.within(&OFF_US);
        self.off.push_back((back_us, host));
        self.joined.retain(|joined| *joined != host);
        self.summary.crashes.count(false);
    }

    fn return_machines(&mut self, world: &mut World) {
        for _ in 0..self.off.len() {
            let Some((back_us, host)) = self.off.pop_front() else {
                return;
            };
            if back_us <= world.now_us() {
                world.restart(host);
                let through = self.hosts.first().map(|first| world.machine(*first).addr);
                if let Some(addr) = through {
                    self.begin(world, host, &Command::Join(addr), None);
                }
                self.summary.crashes.good += 1;
            } else {
                self.off.push_back((back_us, host));
            }
        }
    }

    fn collect(&mut self, world: &mut World) {
        for _ in 0..self.open.len() {
            let Some(ticket) = self.open.pop_front() else {
                return;
            };
            match world.take(ticket) {
                Some(answer) => self.count(world, &answer),
                None => self.open.push_back(ticket),
            }
        }
    }

    fn count(&mut self, world: &World, answer: &Answer) {
        let outcome = match answer.state {
            State::Done(outcome) => outcome,
            State::Refused(_) => {
                self.summary.refused += 1;
                return;
            }
            State::Running | State::Abandoned => return,
        };
        let stored = |accepted, wanted| accepted >= wanted;
        let summary = &mut self.summary;
        summary.timed_out += u64::from(outcome == Outcome::TimedOut);
        match &answer.command {
            Command::Join(_) => {
                let found = matches!(outcome, Outcome::Joined { contacts } if contacts > 0);
                summary.joins.count(found);
                if found && !self.joined.contains(&answer.host) {
                    self.joined.push(answer.host);
                }
            }
            Command::Lookup(_) => {
                summary.lookups.count(matches!(outcome, Outcome::Found { count, .. } if count > 0));
            }
            Command::Put { .. } => summary.stored.count(
                matches!(outcome, Outcome::Stored { accepted, wanted } if stored(accepted, wanted)),
            ),
            Command::Get(key) => {
                let ended_us = answer.ended_us.unwrap_or(answer.began_us);
                let (lacking, wanted) = world.model().lacking(answer, *key, ended_us);
                if wanted > 0 {
                    summary.found.count(lacking == 0);
                }
            }
            Command::Post(_) => summary.posts.count(matches!(outcome, Outcome::Posted { .. })),
            Command::Follow(_) => summary.follows.count(
                matches!(outcome, Outcome::Followed { accepted, wanted, .. } if stored(accepted, wanted)),
            ),
            Command::Timeline(_) => {
                summary.reads.count(matches!(outcome, Outcome::Read { complete: true }));
                summary.shown += answer.posts.len() as u64;
            }
            Command::Leave
            | Command::Register
            | Command::Unfollow(_)
            | Command::Whois(_)
            | Command::Followers(_)
            | Command::Following(_)
            | Command::Send { .. } => {}
        }
    }
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
