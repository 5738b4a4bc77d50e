//! What is measured of Chord alone, after the tables of the paper (Stoica et al. 2003, section V): path lengths, sudden
//! death, coming and going.
//!
//! Owns the truth about a ring, and lookups that are compared with it: a lookup is right if it ends by itself with the
//! owner of its key as the first node found. Not a scenario each: `paths`, `failures`, `churn` are. The invariant: an
//! asker that owns the key itself is not asked, since a lookup names others. Nodes of these networks publish nothing: what
//! is measured is the ring alone.

pub mod churn;
pub mod failures;
pub mod paths;

use std::collections::{BTreeSet, VecDeque};

use strandline_core::id::{Key, NodeId};
use strandline_core::output::Outcome;

use crate::sim::node::AnyNode;
use crate::sim::{Command, HostId, State, Ticket};

use super::Progress;
use super::crowd::Crowd;
use super::report::{Report, Samples};

/// A lookup that takes longer than commands usually may is counted as slow, in ms.
const SLOW_MS: u64 = 10_000;
/// How long a step is, in ms.
const STEP_MS: u64 = 50;

/// Who stands where on the ring.
pub struct Around {
    /// In the order of the ring.
    nodes: Vec<(NodeId, HostId)>,
}

impl Around {
    /// The members that run now.
    #[must_use]
    pub fn of(crowd: &Crowd) -> Self {
        let running = crowd.members().iter().filter_map(|host| {
            let node = crowd.world.running(*host)?;
            Some((node.node_id(), *host))
        });
        let mut nodes: Vec<_> = running.collect();
        nodes.sort_unstable();
        Self { nodes }
    }

    /// The owner of a key: the first node at it or behind it.
    ///
    /// # Panics
    /// If nobody runs.
    #[must_use]
    pub fn owner(&self, key: &Key) -> NodeId {
        let nodes = &self.nodes;
        let at = nodes.partition_point(|(id, _)| id.as_bytes() < key.as_bytes());
        nodes[at % nodes.len()].0
    }

    /// Whether a member takes a key for its own; `None`: it is not there.
    fn claims(&self, crowd: &Crowd, id: &NodeId, key: &Key) -> Option<bool> {
        let (_, host) = self.nodes.iter().find(|(other, _)| other == id)?;
        Some(crowd.world.running(*host)?.is_responsible(key))
    }

    /// How many nodes claim just the keys between the node before them and themselves: looked at are the first key, the
    /// last, and those just outside.
    #[must_use]
    pub fn right_ranges(&self, crowd: &Crowd) -> u64 {
        let count = self.nodes.len();
        let is_right = |at: &usize| {
            let (before, (id, host)) = (self.nodes[(at + count - 1) % count].0, self.nodes[*at]);
            let owns = |key: &[u8; 32]| {
                let node = crowd.world.running(host);
                node.is_some_and(|node| node.is_responsible(&Key::from_bytes(*key)))
            };
            let (first, behind) = (next(before.as_bytes()), next(id.as_bytes()));
            let alone = count == 1;
            owns(id.as_bytes())
                && owns(&first)
                && (alone || (!owns(before.as_bytes()) && !owns(&behind)))
        };
        (0..count).filter(is_right).count() as u64
    }

    /// Of all fingers of all nodes, how many are known to whom they are a finger, and how many there are. A finger is the
    /// first node at a power of two behind a node, or behind that.
    #[must_use]
    pub fn right_fingers(&self, crowd: &Crowd) -> (u64, u64) {
        let (mut right, mut all) = (0, 0);
        for (id, host) in &self.nodes {
            let Some(node) = crowd.world.running(*host) else {
                continue;
            };
            let known: BTreeSet<NodeId> = node.peers().into_iter().map(|(id, _)| id).collect();
            let fingers: BTreeSet<NodeId> = (0..=u8::MAX)
                .map(|power| self.owner(&power_behind(id.as_bytes(), power)))
                .filter(|finger| finger != id)
                .collect();
            all += fingers.len() as u64;
            right += fingers.intersection(&known).count() as u64;
        }
        (right, all)
    }
}

/// The key behind this one.
fn next(key: &[u8; 32]) -> [u8; 32] {
    *power_behind(key, 0).as_bytes()
}

/// The key 2^`power` behind a place on the ring.
fn power_behind(place: &[u8; 32], power: u8) -> Key {
    let mut bytes = *place;
    let mut carry = 1_u16 << (power % 8);
    for byte in bytes[..32 - usize::from(power / 8)].iter_mut().rev() {
        let sum = u16::from(*byte) + carry;
        *byte = sum.to_be_bytes()[1];
        carry = sum >> 8;
    }
    Key::from_bytes(bytes)
}

/// A lookup under way.
#[derive(Clone, Copy, Debug)]
struct Question {
    ticket: Ticket,
    host: HostId,
    key: Key,
    /// Who owned the key when it began.
    owner: NodeId,
    /// Whom the asker speaks to is listened to.
    tapped: bool,
}

/// Lookups of random keys from random members.
#[derive(Debug, Default)]
pub struct Lookups {
    open: VecDeque<Question>,
    all: u64,
    right: u64,
    /// Named somebody else as the owner, and said that this is all.
    wrong: u64,
    /// What was wrong about these.
    broken: Vec<String>,
    /// Did not find the owner in time, and said so.
    unfinished: u64,
    /// Found the owner, but took more than [`SLOW_MS`].
    slow: u64,
    /// Steps to the node before the key.
    before: Samples,
    /// Nodes that did not answer.
    timeouts: Samples,
    /// How long they took, in ms.
    took_ms: Samples,
}

impl Lookups {
    /// Begins one from this member, if it does not own the key itself.
    fn begin(&mut self, crowd: &mut Crowd, around: &Around, host: HostId, key: Key) -> bool {
        let owner = around.owner(&key);
        let own = crowd.world.running(host).map(AnyNode::node_id);
        if own == Some(owner) {
            return false;
        }
        let tapped = !crowd.world.meter().is_tapped(host);
        if tapped {
            crowd.world.meter_mut().tap(host, key);
        }
        let ticket = crowd.world.begin(host, &Command::Lookup(key), None);
        self.open.push_back(Question {
            ticket,
            host,
            key,
            owner,
            tapped,
        });
        true
    }

    /// Begins one from a random member.
    fn begin_any(&mut self, crowd: &mut Crowd, around: &Around) {
        loop {
            let (host, key) = (crowd.pick(), Key::from_bytes(crowd.random.bytes_32()));
            if self.begin(crowd, around, host, key) {
                return;
            }
        }
    }

    /// Asks `count` times, `per_s` in a second, and waits for all.
    fn ask(&mut self, crowd: &mut Crowd, count: u64, per_s: u64, progress: Progress<'_>) {
        let around = Around::of(crowd);
        let began_us = crowd.world.now_us();
        let mut begun = 0;
        while begun < count || !self.open.is_empty() {
            let due = 1 + (crowd.world.now_us() - began_us) * per_s / 1_000_000;
            while begun < count.min(due) {
                self.begin_any(crowd, &around);
                begun += 1;
            }
            crowd.run_ms(STEP_MS);
            self.collect(crowd);
            progress(&crowd.world, &format!("{begun} of {count} lookups begun"));
        }
    }

    /// Takes in what has ended.
    fn collect(&mut self, crowd: &mut Crowd) {
        let mut truth = None;
        for _ in 0..self.open.len() {
            let Some(question) = self.open.pop_front() else {
                return;
            };
            let Some(answer) = crowd.world.take(question.ticket) else {
                self.open.push_back(question);
                continue;
            };
            let (around, alive) = truth.get_or_insert_with(|| {
                let members = crowd.members().iter();
                let alive: BTreeSet<_> = members.map(|h| crowd.world.machine(*h).addr).collect();
                (Around::of(crowd), alive)
            });
            let mut silent = None;
            if question.tapped {
                let spoken_to = crowd.world.meter().spoken_to(question.host);
                silent = Some(spoken_to.filter(|addr| !alive.contains(addr)).count());
                crowd.world.meter_mut().untap(question.host);
            }
            if answer.state == State::Abandoned {
                continue; // The asker died.
            }
            let owner = around.owner(&question.key);
            if crowd.world.running(question.host).map(AnyNode::node_id) == Some(owner) {
                continue; // The key became the asker's own meanwhile.
            }
            self.all += 1;
            let complete = matches!(
                answer.outcome(),
                Some(Outcome::Found { complete: true, .. })
            );
            match answer.contacts.first().filter(|_| complete) {
                Some((id, _, hops)) if [owner, question.owner].contains(id) => {
                    self.right += 1;
                    self.before.add(u64::from(*hops));
                    self.took_ms.add(answer.took_ms());
                    self.slow += u64::from(answer.took_ms() > SLOW_MS);
                    if let Some(silent) = silent {
                        self.timeouts.add(silent as u64);
                    }
                }
                Some((id, addr, hops)) => {
                    self.wrong += 1;
                    let claims = |id: &NodeId| around.claims(crowd, id, &question.key);
                    self.broken.push(format!(
                        "{} found {id} at {addr} ({hops} hops, claims it {:?}) as the owner of {}, which is {owner} (claims it {:?})",
                        question.host,
                        claims(id),
                        question.key,
                        claims(&owner),
                    ));
                }
                None => self.unfinished += 1,
            }
        }
    }

    /// Lookups that did not find the owner, in ten thousand.
    #[must_use]
    fn failures_in_10_000(&self) -> f64 {
        1e4 * (self.all - self.right) as f64 / self.all.max(1) as f64
    }

    /// Adds the rows to a report. A wrong owner is a broken promise.
    fn report(&self, of: &str, report: &mut Report) {
        report.failures.extend(self.broken.iter().cloned());
        report.share(&format!("{of}: right owner"), self.right, self.all);
        report.row(
            format!("{of}: failures in 10,000"),
            self.failures_in_10_000(),
            "",
        );
        report.row(format!("{of}: wrong owner"), self.wrong as f64, "");
        report.row(
            format!("{of}: no owner in time"),
            self.unfinished as f64,
            "",
        );
        report.row(format!("{of}: took over 10 s"), self.slow as f64, "");
        if let Some(before) = self.before.mean() {
            report.row(format!("{of}: path to the predecessor: mean"), before, "");
            report.row(format!("{of}: path to the owner: mean"), before + 1.0, "");
            for percent in [1, 99] {
                let steps = self.before.quantile(percent) + 1;
                let what = format!("{of}: path to the owner: {percent} %");
                report.row(what, steps as f64, "");
            }
        }
        report.samples(&format!("{of}: nodes that were silent"), &self.timeouts, "");
        report.samples(&format!("{of}: time"), &self.took_ms, "ms");
    }
}

#[cfg(test)]
mod tests {
    use super::{Around, HostId, Key, NodeId, next, power_behind};

    #[test]
    fn powers_of_two_carry_and_wrap_around() {
        let place = |first, last| {
            let mut bytes = [0; 32];
            (bytes[0], bytes[31]) = (first, last);
            bytes
        };
        assert_eq!(next(&place(1, 7)), place(1, 8));
        assert_eq!(next(&[0xff; 32]), [0; 32]);
        assert_eq!(
            power_behind(&place(0x90, 3), 255).as_bytes(),
            &place(0x10, 3)
        );
        assert_eq!(power_behind(&place(0, 3), 248).as_bytes(), &place(1, 3));
        let mut carried = [0; 32];
        carried[30] = 1;
        assert_eq!(power_behind(&place(0, 0xff), 0).as_bytes(), &carried);
    }

    #[test]
    fn a_key_belongs_to_the_node_at_it_or_behind_it() {
        let node = |n| (NodeId::from_bytes([n; 32]), HostId(u32::from(n)));
        let around = Around {
            nodes: vec![node(10), node(20), node(30)],
        };
        for (key, owner) in [(5, 10), (10, 10), (11, 20), (30, 30), (31, 10)] {
            assert_eq!(around.owner(&Key::from_bytes([key; 32])), node(owner).0);
        }
    }
}
