//! `send`: messages to keys while nodes crash and others come. Does each reach the owner of its key, and no node twice?

use std::collections::{BTreeMap, BTreeSet};

use strandline_core::id::{Key, NodeId};
use strandline_core::output::Outcome;

use crate::sim::node::AnyNode;
use crate::sim::{Command, HostId, Notice, State, Ticket};

use super::churn::Sessions;
use super::crowd::{Crowd, REST_S, drain};
use super::{Basis, Progress, Report, report::Samples};

/// How long a step is, in ms.
const STEP_MS: u64 = 250;

/// How the nodes come and go, and what is sent.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Median of a session, in seconds.
    pub median_s: u64,
    /// For how long, in seconds.
    pub time_s: u64,
    /// Messages in a minute.
    pub sends_per_min: u64,
}

/// A message under way.
#[derive(Clone, Debug)]
struct Sending {
    ticket: Ticket,
    serial: u64,
    key: Key,
    /// The member nearest to the key when it was sent, the sender among them.
    owner: Option<NodeId>,
}

/// Runs it.
pub fn run(basis: &Basis, options: Options, progress: Progress<'_>) -> Report {
    let mut crowd = Crowd::filled(basis, REST_S, progress);
    let mut report = Report::new("send", basis.clone());
    let mut sessions = Sessions::new(&mut crowd, options.median_s);
    let mut post = Post::default();
    let began_us = crowd.world.now_us();
    loop {
        let past_us = crowd.world.now_us() - began_us;
        if past_us >= options.time_s * 1_000_000 {
            break;
        }
        let due = past_us * options.sends_per_min / 60_000_000;
        post.send(&mut crowd, due);
        // Before anybody goes: what it got goes with it.
        post.take(&mut crowd);
        sessions.turn(&mut crowd);
        crowd.run_ms(STEP_MS);
        sessions.note(&crowd);
        progress(&crowd.world, &format!("{} messages", post.serial));
    }
    drain(&mut crowd);
    post.take(&mut crowd);
    report.row("departures", sessions.departures as f64, "");
    post.report(&mut report);
    report.close(&crowd.world)
}

/// Messages, and what became of them.
#[derive(Default)]
struct Post {
    open: Vec<Sending>,
    serial: u64,
    /// By message, who got it.
    got: BTreeMap<u64, BTreeSet<HostId>>,
    /// Messages that came to a node again.
    again: u64,
    all: u64,
    acknowledged: u64,
    reached: u64,
    /// Acknowledged, and the owner did not get it.
    elsewhere: u64,
    took_ms: Samples,
}

impl Post {
    /// Sends until `due` messages were sent.
    fn send(&mut self, crowd: &mut Crowd, due: u64) {
        while self.serial < due {
            let (host, key) = (crowd.pick(), Key::from_bytes(crowd.random.bytes_32()));
            let owner = crowd.truth().nearest(&key, 1).first().copied();
            let bytes = self.serial.to_be_bytes().to_vec();
            let ticket = crowd.world.begin(host, &Command::Send { key, bytes }, None);
            self.open.push(Sending {
                ticket,
                serial: self.serial,
                key,
                owner,
            });
            self.serial += 1;
        }
    }

    /// Takes in who got what, and which messages are answered.
    fn take(&mut self, crowd: &mut Crowd) {
        for host in crowd.world.noticed() {
            for notice in crowd.world.take_notices(host) {
                let Notice::Message { bytes, .. } = notice else {
                    continue;
                };
                let serial = bytes.try_into().map_or(u64::MAX, u64::from_be_bytes);
                self.again += u64::from(!self.got.entry(serial).or_default().insert(host));
            }
        }
        for sending in std::mem::take(&mut self.open) {
            match crowd.world.take(sending.ticket) {
                None => self.open.push(sending),
                Some(answer) if answer.state == State::Abandoned => {} // The sender died.
                Some(answer) => {
                    let acknowledged = matches!(answer.outcome(), Some(Outcome::Delivered { .. }));
                    self.took_ms.add(answer.took_ms());
                    self.count(crowd, &sending, acknowledged);
                }
            }
        }
    }

    fn count(&mut self, crowd: &Crowd, sending: &Sending, acknowledged: bool) {
        // Whoever was the nearest when it was sent, or is by now: in between one goes or comes.
        let owners = [
            sending.owner,
            crowd.truth().nearest(&sending.key, 1).first().copied(),
        ];
        let got = self.got.get(&sending.serial);
        let reached = got.into_iter().flatten().any(|host| {
            let id = crowd.world.running(*host).map(AnyNode::node_id);
            id.is_some() && owners.contains(&id)
        });
        self.all += 1;
        self.acknowledged += u64::from(acknowledged);
        self.reached += u64::from(reached);
        self.elsewhere += u64::from(acknowledged && !reached);
    }

    fn report(&self, report: &mut Report) {
        report.share("messages that reached the owner", self.reached, self.all);
        report.share("messages acknowledged", self.acknowledged, self.all);
        report.row(
            "acknowledged by another than the owner",
            self.elsewhere as f64,
            "",
        );
        report.row("delivered again to a node", self.again as f64, "");
        report.samples("send: time", &self.took_ms, "ms");
    }
}
