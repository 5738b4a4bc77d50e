//! The network of a scenario: nodes that came one after another, and who of them lives.
//!
//! Owns the members and how they join; each joins through a member drawn at random, and tries another if that one does
//! not answer. The invariant: only who joined and still runs is a member.

use std::collections::VecDeque;

use strandline_core::id::{Key, NodeId};
use strandline_core::output::Outcome;

use crate::sim::clock::TimeOfDay;
use crate::sim::node::AnyNode;
use crate::sim::{Command, HostId, Kind, Overlay, Random, Setup, State, Ticket, World, ms, secs};

use super::report::Samples;
use super::{Basis, Progress};

/// How often a node tries to join before it is given up.
const TRIES: u32 = 5;
/// Of the members, one in so many comes anew in a second while the network is filled.
const GROWTH: usize = 20;
/// How many come in a second at least.
const GROWTH_MIN: usize = 4;

/// A join under way.
#[derive(Clone, Copy, Debug)]
struct Joining {
    ticket: Ticket,
    host: HostId,
    began_us: u64,
    tries: u32,
}

/// Clocks of the nodes: how far off they are at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clocks {
    /// Time of day, in ms, either way.
    pub error_ms: i32,
    /// What a node is told about it, in ms.
    pub uncertainty_ms: u32,
    /// What monotonic clocks gain or lose in a second, in µs.
    pub drift_ppm: i32,
}

/// See the file's first paragraph.
pub struct Crowd {
    /// The world.
    pub world: World,
    /// The scenario's own generator.
    pub random: Random,
    members: Vec<HostId>,
    joining: VecDeque<Joining>,
    clocks: Clocks,
    /// How long joins took, in ms, further tries included.
    pub joined_ms: Samples,
    /// Tries to join that failed.
    pub failed_tries: u64,
    /// Nodes that never joined.
    pub given_up: u64,
}

impl Crowd {
    /// A network of one node.
    #[must_use]
    pub fn new(basis: &Basis) -> Self {
        Self::with_clocks(basis, Clocks::default())
    }

    /// The same, where clocks are off.
    #[must_use]
    pub fn with_clocks(basis: &Basis, clocks: Clocks) -> Self {
        let mut crowd = Self {
            world: basis.world(),
            random: Random::new(basis.seed).fork("scenario"),
            members: Vec::new(),
            joining: VecDeque::new(),
            clocks,
            joined_ms: Samples::default(),
            failed_tries: 0,
            given_up: 0,
        };
        let first = crowd.start();
        crowd.members.push(first);
        crowd
    }

    /// Fills a network by joining and lets it rest for `rest_s` seconds.
    #[must_use]
    pub fn filled(basis: &Basis, rest_s: u64, progress: Progress<'_>) -> Self {
        let mut crowd = Self::new(basis);
        crowd.fill(basis.nodes, progress);
        crowd.rest(rest_s, progress);
        crowd
    }

    /// Who joined and runs.
    #[must_use]
    pub fn members(&self) -> &[HostId] {
        &self.members
    }

    /// A member at random.
    ///
    /// # Panics
    /// If there is none: a scenario keeps some alive.
    pub fn pick(&mut self) -> HostId {
        match self.random.pick(&self.members) {
            Some(host) => *host,
            None => panic!("nobody is left"),
        }
    }

    /// Adds members until there are `wanted`; the larger the network, the more come in a second.
    pub fn fill(&mut self, wanted: usize, progress: Progress<'_>) {
        while self.members.len() < wanted {
            let coming = (self.members.len() / GROWTH).max(GROWTH_MIN);
            let lacking = wanted.saturating_sub(self.members.len() + self.joining.len());
            for _ in 0..coming.min(lacking) {
                let through = self.pick();
                self.add(through);
            }
            for _ in 0..10 {
                self.run_ms(100);
            }
            let members = self.members.len();
            progress(&self.world, &format!("{members} of {wanted} joined"));
            if self.given_up > wanted as u64 {
                return; // Nothing is to be had here; the report says so.
            }
        }
    }

    /// Lets time pass.
    pub fn rest(&mut self, seconds: u64, progress: Progress<'_>) {
        for second in 0..seconds {
            self.run_ms(1_000);
            progress(&self.world, &format!("rests {second} of {seconds} s"));
        }
    }

    /// Runs for a moment and takes in who has joined.
    pub fn run_ms(&mut self, time_ms: u64) {
        self.world.run_for(ms(time_ms));
        self.take_in();
    }

    /// Starts a node and lets it join through a member.
    pub fn add(&mut self, through: HostId) -> HostId {
        let host = self.start();
        self.begin_joining(host, through);
        host
    }

    fn begin_joining(&mut self, host: HostId, through: HostId) {
        let ticket = self.join(host, through);
        let began_us = self.world.now_us();
        self.joining.push_back(Joining {
            ticket,
            host,
            began_us,
            tries: 1,
        });
    }

    /// How many are joining.
    #[must_use]
    pub fn joining(&self) -> usize {
        self.joining.len()
    }

    /// A member vanishes for good.
    pub fn retire(&mut self, host: HostId) {
        if self.world.running(host).is_some() {
            self.world.retire(host);
        }
        self.members.retain(|member| *member != host);
        self.joining.retain(|joining| joining.host != host);
    }

    /// So many members, drawn at random, vanish at once.
    pub fn retire_some(&mut self, count: usize) {
        for _ in 0..count.min(self.members.len().saturating_sub(1)) {
            let at = self.random.index(self.members.len());
            let host = self.members.swap_remove(at);
            self.world.retire(host);
        }
    }

    /// Who really is near what, of those who live now.
    #[must_use]
    pub fn truth(&self) -> Truth {
        let ids = self
            .members
            .iter()
            .filter_map(|host| self.world.running(*host));
        Truth::of(ids.map(AnyNode::node_id).collect(), self.world.overlay)
    }

    /// A machine for a node that is to come later, and the id that it will have.
    pub fn prepare(&mut self) -> (HostId, NodeId) {
        let setup = self.setup();
        self.world.prepare(setup)
    }

    /// Starts the node of a machine that was prepared and lets it join through a member.
    pub fn add_prepared(&mut self, host: HostId, through: HostId) {
        self.world.switch_on(host);
        self.begin_joining(host, through);
    }

    fn start(&mut self) -> HostId {
        let setup = self.setup();
        self.world.node_with(setup)
    }

    fn setup(&mut self) -> Setup {
        let error_ms = self.either_way(self.clocks.error_ms);
        Setup {
            joins: false,
            drift_ppm: self.either_way(self.clocks.drift_ppm),
            time_of_day: TimeOfDay::Known {
                error_ms,
                uncertainty_ms: self.clocks.uncertainty_ms.max(20),
            },
            ..Setup::new(Kind::Server)
        }
    }

    /// A number between minus `most` and `most`.
    fn either_way(&mut self, most: i32) -> i32 {
        let span = u64::from(most.unsigned_abs()) * 2 + 1;
        i32::try_from(self.random.below(span)).unwrap_or(0) - most
    }

    fn join(&mut self, host: HostId, through: HostId) -> Ticket {
        let addr = self.world.machine(through).addr;
        self.world.begin(host, &Command::Join(addr), None)
    }

    fn take_in(&mut self) {
        for _ in 0..self.joining.len() {
            let Some(joining) = self.joining.pop_front() else {
                return;
            };
            let Some(answer) = self.world.take(joining.ticket) else {
                self.joining.push_back(joining);
                continue;
            };
            let contacts = match answer.state {
                State::Done(Outcome::Joined { contacts }) => contacts,
                _ => 0,
            };
            if contacts > 0 {
                let ended_us = answer.ended_us.unwrap_or(joining.began_us);
                self.joined_ms.add((ended_us - joining.began_us) / 1_000);
                self.members.push(joining.host);
            } else if joining.tries < TRIES {
                self.failed_tries += 1;
                let through = self.pick();
                let ticket = self.join(joining.host, through);
                self.joining.push_back(Joining {
                    ticket,
                    tries: joining.tries + 1,
                    ..joining
                });
            } else {
                self.given_up += 1;
                self.retire(joining.host);
            }
        }
    }
}

/// Who really is near what, as the overlay has it.
pub struct Truth {
    /// Sorted.
    ids: Vec<NodeId>,
    overlay: Overlay,
}

impl Truth {
    /// The truth about these nodes.
    #[must_use]
    pub fn of(mut ids: Vec<NodeId>, overlay: Overlay) -> Self {
        ids.sort_unstable();
        Self { ids, overlay }
    }

    /// The `k` nodes nearest to a key, nearest first.
    #[must_use]
    pub fn nearest(&self, key: &Key, k: usize) -> Vec<NodeId> {
        match self.overlay {
            Overlay::Kademlia => self.nearest_by_prefix(key, k),
            Overlay::Chord | Overlay::NarrowChord => self.next_behind(key, k),
        }
    }

    /// On a ring: those at the key or behind it, clockwise.
    fn next_behind(&self, key: &Key, k: usize) -> Vec<NodeId> {
        let at = self
            .ids
            .partition_point(|id| id.as_bytes() < key.as_bytes());
        let (before, behind) = self.ids.split_at(at);
        behind.iter().chain(before).take(k).copied().collect()
    }

    fn nearest_by_prefix(&self, key: &Key, k: usize) -> Vec<NodeId> {
        // Whoever shares more leading bits with the key is nearer than whoever shares fewer: those that share the
        // most, as long as they are `k`, are enough.
        let mut near = self.ids.as_slice();
        for bit in 0..256 {
            let half = near.partition_point(|id| !bit_of(id.as_bytes(), bit));
            let (zeros, ones) = near.split_at(half);
            let side = if bit_of(key.as_bytes(), bit) {
                ones
            } else {
                zeros
            };
            if side.len() < k {
                break;
            }
            near = side;
        }
        let mut near = near.to_vec();
        near.sort_unstable_by_key(|id| distance(id, key));
        near.truncate(k);
        near
    }
}

fn bit_of(bytes: &[u8; 32], bit: usize) -> bool {
    bytes[bit / 8] & (0x80 >> (bit % 8)) != 0
}

fn distance(id: &NodeId, key: &Key) -> [u8; 32] {
    let mut distance = *id.as_bytes();
    for (byte, other) in distance.iter_mut().zip(key.as_bytes()) {
        *byte ^= other;
    }
    distance
}

/// How long a scenario lets a network rest before it begins to measure, in seconds.
pub const REST_S: u64 = 60;

/// How long to wait for what was begun last: as long as a command may take, and a little more.
pub fn drain(crowd: &mut Crowd) {
    let within = secs(u64::from(crowd.world.within_ms) / 1_000 + 1);
    crowd.world.run_for(within);
}

#[cfg(test)]
mod tests {
    use super::{Key, NodeId, Overlay, Truth, distance};
    use crate::sim::Random;

    #[test]
    fn the_nearest_by_prefix_are_the_nearest_of_all() {
        let mut random = Random::new(3);
        let mut ids: Vec<NodeId> = (0..500)
            .map(|_| NodeId::from_bytes(random.bytes_32()))
            .collect();
        let truth = Truth::of(ids.clone(), Overlay::Kademlia);
        for _ in 0..200 {
            let key = Key::from_bytes(random.bytes_32());
            ids.sort_unstable_by_key(|id| distance(id, &key));
            for k in [1, 8, 20] {
                assert_eq!(
                    truth.nearest(&key, k),
                    ids.iter().copied().take(k).collect::<Vec<_>>()
                );
            }
        }
        assert_eq!(truth.nearest(&Key::ZERO, 1_000).len(), 500, "all there are");
    }
    #[test]
    fn on_a_ring_the_nearest_are_those_next_behind_a_key() {
        let id = |n| NodeId::from_bytes([n; 32]);
        let truth = Truth::of([30, 10, 50, 20].map(id).to_vec(), Overlay::Chord);
        for (key, nearest) in [(20, [20, 30, 50]), (21, [30, 50, 10]), (51, [10, 20, 30])] {
            let found = truth.nearest(&Key::from_bytes([key; 32]), 3);
            assert_eq!(found, nearest.map(id), "{key}");
        }
        assert_eq!(truth.nearest(&Key::ZERO, 9).len(), 4, "all there are");
    }
}
