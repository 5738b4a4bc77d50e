//! The application: jobs lie in the hash table, and the node that is responsible for a job's key does it.
//!
//! A job is a value "todo …" at the key that is the hash of its text. Those who hold it hear `KeyGained`. Who does it writes
//! "done" beside it, since each author has a place of its own at a key. Nodes come, go and die, and with them
//! responsibility: at each change every node looks again at what it holds and is not done. So a job is done at least
//! once, and twice only if its key changed hands while it was being done: jobs must bear that.
//!
//! On a ring one node is responsible for a key. On a Kademlia network it is as many as hold it, and each would do the job.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an application looks at a few events among many"
)]

use std::collections::{BTreeMap, VecDeque};

use strandline_core::drive::{Application, Handler};
use strandline_core::id::Key;
use strandline_core::node::Node;
use strandline_core::output::{Event, Outcome, QueryId};
use strandline_core::plan::Plan;
use strandline_core::time::Instant;

/// How long a job lies there, in s. Without a clock holders keep nothing for longer than an hour.
const TTL_S: u32 = 3_600;
const WITHIN_MS: u32 = 10_000;
/// How long after something went wrong it is tried again.
const RETRY_MS: u64 = 1_000;
/// How long a job takes. This one just waits.
const JOB_MS: u64 = 2_000;

/// A node's part of the queue.
#[derive(Default)]
pub struct Queue {
    /// Jobs to hand in: any text.
    pub inbox: VecDeque<String>,
    /// Jobs that this node has done.
    pub done: Vec<String>,
    /// Jobs that are stored: nodes may die now.
    pub stored: Vec<String>,
    held: BTreeMap<[u8; 32], Stage>,
    running: BTreeMap<QueryId, Step>,
    /// Something changed: look at what is held.
    look: bool,
    /// A read failed: look again, later.
    failed: bool,
    retry: Option<Instant>,
}

/// How far something held got.
enum Stage {
    /// Not read yet, or not ours to do.
    Waiting,
    /// Being read or reported.
    Asked,
    /// Ours to do.
    Ready(String),
    /// Being done, until then.
    Begun(String, Instant),
    /// Somebody has done it.
    Over,
}

/// What a command is for.
enum Step {
    HandIn(String),
    Read(Key, Vec<String>),
    Report(Key, String),
}

impl Handler for Queue {
    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::KeyGained { key } => {
                self.held.insert(*key.as_bytes(), Stage::Waiting);
                self.look = true;
            }
            Event::KeyLost { key } => {
                self.held.remove(key.as_bytes());
            }
            // The first on a Kademlia network, the second on a ring.
            Event::ResponsibilityChanged { .. } | Event::RangeChanged { .. } => self.look = true,
            Event::Value { query, bytes, .. } => {
                if let Some(Step::Read(_, found)) = self.running.get_mut(&query) {
                    found.push(String::from_utf8_lossy(bytes).into_owned());
                }
            }
            Event::QueryDone { query, outcome } => {
                if let Some(step) = self.running.remove(&query) {
                    self.on_done(step, outcome);
                }
            }
            _ => {}
        }
    }
}

impl<P: Plan> Application<P> for Queue {
    fn act(&mut self, now: Instant, node: &mut Node<P>) -> Option<Instant> {
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            self.look = true;
        }
        self.hand_in(now, node);
        self.report(now, node);
        if std::mem::take(&mut self.look) {
            self.look(now, node);
        }
        if std::mem::take(&mut self.failed) {
            self.retry = Some(now.after_ms(RETRY_MS));
        }
        let until = self.held.values().filter_map(|stage| match stage {
            Stage::Begun(_, until) => Some(*until),
            _ => None,
        });
        until.chain(self.retry).min()
    }
}

impl Queue {
    fn on_done(&mut self, step: Step, outcome: Outcome) {
        let stored = matches!(outcome, Outcome::Stored { accepted, wanted } if accepted >= wanted);
        match step {
            Step::HandIn(job) if stored => self.stored.push(job),
            Step::HandIn(job) => self.inbox.push_back(job),
            Step::Report(key, job) if stored => {
                self.settle(&key, Stage::Over);
                self.done.push(job);
            }
            // Till others can know it, they would do it again.
            Step::Report(key, job) => self.settle(&key, Stage::Begun(job, Instant::ZERO)),
            Step::Read(key, found) => {
                let todo = found.iter().find_map(|value| value.strip_prefix("todo "));
                let stage = match (todo, outcome) {
                    _ if found.iter().any(|value| value == "done") => Stage::Over,
                    (Some(job), _) => Stage::Ready(job.to_owned()),
                    // Records of other kinds lie in the table too.
                    (None, Outcome::NotFound | Outcome::Found { complete: true, .. }) => {
                        Stage::Over
                    }
                    (None, _) => {
                        self.failed = true;
                        Stage::Waiting
                    }
                };
                self.settle(&key, stage);
            }
        }
    }

    /// Notes how far something got, unless it has gone meanwhile.
    fn settle(&mut self, key: &Key, stage: Stage) {
        self.look |= !matches!(stage, Stage::Waiting);
        if let Some(held) = self.held.get_mut(key.as_bytes()) {
            *held = stage;
        }
    }

    /// Stores the jobs that wait to be handed in, as far as the node takes commands.
    fn hand_in<P: Plan>(&mut self, now: Instant, node: &mut Node<P>) {
        while let Some(job) = self.inbox.pop_front() {
            let (key, value) = (Key::of_text::<P::Crypto>(&job), format!("todo {job}"));
            match node.put(now, key, value.as_bytes(), TTL_S, WITHIN_MS) {
                Ok(query) => {
                    self.running.insert(query, Step::HandIn(job));
                }
                Err(_) => {
                    self.inbox.push_front(job);
                    self.failed = true;
                    return;
                }
            }
        }
    }

    /// Tells the others what is done.
    fn report<P: Plan>(&mut self, now: Instant, node: &mut Node<P>) {
        for (key, stage) in &mut self.held {
            let key = Key::from_bytes(*key);
            if let Stage::Begun(job, until) = stage
                && *until <= now
            {
                if let Ok(query) = node.put(now, key, b"done", TTL_S, WITHIN_MS) {
                    let job = std::mem::take(job);
                    self.running.insert(query, Step::Report(key, job));
                    *stage = Stage::Asked;
                } else {
                    *until = now.after_ms(RETRY_MS);
                }
            }
        }
    }

    /// Looks at all that is held: what is ours to do is read, what was read is begun, one at a time, unless it has
    /// become somebody else's.
    fn look<P: Plan>(&mut self, now: Instant, node: &mut Node<P>) {
        let mut idle = !self
            .held
            .values()
            .any(|stage| matches!(stage, Stage::Begun(..)));
        for (key, stage) in &mut self.held {
            let key = Key::from_bytes(*key);
            let ours = node.is_responsible(&key);
            match stage {
                Stage::Waiting if ours => match node.get(now, key, WITHIN_MS) {
                    Ok(query) => {
                        self.running.insert(query, Step::Read(key, Vec::new()));
                        *stage = Stage::Asked;
                    }
                    Err(_) => self.failed = true,
                },
                Stage::Ready(_) if !ours => *stage = Stage::Waiting,
                Stage::Ready(job) if idle => {
                    idle = false;
                    *stage = Stage::Begun(std::mem::take(job), now.after_ms(JOB_MS));
                }
                _ => {}
            }
        }
    }
}
