//! What a node tells its application about its neighbours and its keys, while nodes come, go, crash and are cut off.
//!
//! A neighbour comes and goes in turn, and so does a key; and after a rest everybody believes what is true. Of many
//! seeds; `STRANDLINE_SEED` chooses the first of them.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use strandline_core::id::{Key, NodeId};
use strandline_core::overlay::REPLICATION;
use strandline_tests::sim::node::AnyNode;
use strandline_tests::sim::scenarios::crowd::Truth;
use strandline_tests::sim::{
    Command, Cryptography, HostId, Kind, Notice, Overlay, Random, World, mins, secs,
};

/// Values that outlive the test, and as many that do not.
const VALUES: usize = 6;
const LONG_S: u32 = 6 * 3_600;
const SHORT_S: u32 = 4 * 60;
/// How often something happens.
const STEPS: usize = 6;
/// Of two holders each tells the other within two rounds of repair, of a quarter of an hour each, and what they began
/// takes a moment.
const REST_MIN: u64 = 32;

/// What a node has told its application since it started.
#[derive(Default)]
struct Told {
    neighbours: BTreeSet<NodeId>,
    keys: BTreeSet<Key>,
}

/// A world, and what its nodes told.
struct Scene {
    world: World,
    random: Random,
    alive: Vec<HostId>,
    off: Vec<HostId>,
    told: BTreeMap<HostId, Told>,
    /// How much was told of each kind: up, down, gained, lost.
    counts: [usize; 4],
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut world = World::with_cryptography(seed, Cryptography::StandIn);
        world.replay = format!(
            "STRANDLINE_SEED={seed} cargo test -p strandline-tests --test sim_events fifty"
        );
        world.keeps_all_notices = true;
        let mut scene = Self {
            world,
            random: Random::new(seed).fork("events"),
            alive: Vec::new(),
            off: Vec::new(),
            told: BTreeMap::new(),
            counts: [0; 4],
        };
        let nodes = REPLICATION + 2 + scene.random.index(6);
        for _ in 0..nodes {
            scene.come();
        }
        scene.listen(secs(20));
        scene
    }

    fn come(&mut self) {
        let host = self.world.node(Kind::Server);
        self.alive.push(host);
        self.listen(secs(1));
    }

    /// Lets time pass and hears what is told.
    fn listen(&mut self, time: std::time::Duration) {
        self.world.run_for(time);
        for host in self.world.noticed() {
            self.hear(host);
        }
    }

    fn hear(&mut self, host: HostId) {
        for notice in self.world.take_notices(host) {
            let told = self.told.entry(host).or_default();
            let (kind, in_turn) = match &notice {
                Notice::NeighbourUp(id) => (0, told.neighbours.insert(*id)),
                Notice::NeighbourDown(id) => (1, told.neighbours.remove(id)),
                Notice::KeyGained(key) => (2, told.keys.insert(*key)),
                Notice::KeyLost(key) => (3, told.keys.remove(key)),
                Notice::Message { .. }
                | Notice::ResponsibilityChanged(_)
                | Notice::RangeChanged { .. }
                | Notice::StorageFailed
                | Notice::Forked
                | Notice::Recovered(_) => continue,
            };
            self.counts[kind] += 1;
            assert!(
                in_turn,
                "{host} is told {notice:?} out of turn\n{}",
                self.world.replay
            );
        }
    }

    fn put(&mut self, n: usize, ttl_s: u32) -> Key {
        let key = self.world.key(&format!("event {n}"));
        let value = n.to_be_bytes().to_vec();
        let author = self.any();
        self.world
            .begin(author, &Command::Put { key, value, ttl_s }, None);
        key
    }

    fn any(&mut self) -> HostId {
        self.alive[self.random.index(self.alive.len())]
    }

    fn stop(&mut self, host: HostId, silently: bool) {
        if silently {
            self.world.vanish(host);
        } else {
            self.world.crash(host);
        }
        self.hear(host);
        self.told.remove(&host); // Its next start begins anew.
        self.alive.retain(|other| *other != host);
        self.off.push(host);
    }

    /// Something happens to somebody.
    fn happen(&mut self) {
        let host = self.any();
        match self.random.index(5) {
            0 => self.come(),
            1 if self.alive.len() > 4 => self.stop(host, true),
            2 if self.alive.len() > 4 => {
                self.world.begin(host, &Command::Leave, None);
                self.listen(secs(12));
                self.stop(host, false);
            }
            3 => {
                let half = self.alive.len() / 2;
                let part: Vec<_> = self.alive.iter().copied().take(half).collect();
                self.world.partition(&part);
                self.listen(mins(4));
                self.world.heal();
            }
            _ => {
                if let Some(host) = self.off.pop() {
                    self.world.restart(host);
                    self.alive.push(host);
                }
            }
        }
        let pause_s = 1 + self.random.below(60);
        self.listen(secs(pause_s));
    }

    /// After a rest: what each node was told is what is.
    fn check(&self, long: &[Key], short: &[Key]) {
        let running: Vec<_> = self
            .alive
            .iter()
            .filter_map(|host| Some((*host, self.world.running(*host)?)))
            .collect();
        let ids = |but: Option<NodeId>| {
            let all = running.iter().map(|(_, node)| node.node_id());
            Truth::of(
                all.filter(|id| Some(*id) != but).collect(),
                Overlay::Kademlia,
            )
        };
        let nothing = Told::default();
        let replay = &self.world.replay;
        for &(host, node) in &running {
            let told = self.told.get(&host).unwrap_or(&nothing);
            let own = AnyNode::node_id(node);
            let near = ids(Some(own)).nearest(&Key::from_bytes(*own.as_bytes()), REPLICATION);
            let near: BTreeSet<_> = near.into_iter().collect();
            assert_eq!(told.neighbours, near, "neighbours of {host}\n{replay}");
            for key in long {
                let owns = ids(None).nearest(key, REPLICATION).contains(&own);
                assert_eq!(node.is_responsible(key), owns, "{host}: {key:?}\n{replay}");
                assert!(
                    !owns || told.keys.contains(key),
                    "{host} lacks {key:?}\n{replay}"
                );
            }
            let expired = short.iter().find(|key| told.keys.contains(key));
            assert_eq!(expired, None, "{host} was not told that it ended\n{replay}");
        }
    }
}

/// One life; how much was told of each kind.
fn live(seed: u64) -> [usize; 4] {
    let mut scene = Scene::new(seed);
    let long: Vec<_> = (0..VALUES).map(|n| scene.put(n, LONG_S)).collect();
    let short: Vec<_> = (0..VALUES)
        .map(|n| scene.put(VALUES + n, SHORT_S))
        .collect();
    scene.listen(secs(12));
    for _ in 0..STEPS {
        scene.happen();
    }
    scene.listen(mins(REST_MIN));
    scene.check(&long, &short);
    scene.counts
}

fn lives(count: u64) {
    let chosen = std::env::var("STRANDLINE_SEED").ok();
    let chosen = chosen.and_then(|text| text.parse::<u64>().ok());
    let (first, count) = chosen.map_or((1, count), |seed| (seed, 1));
    let mut counts = [0; 4];
    for seed in first..first + count {
        for (sum, n) in counts.iter_mut().zip(live(seed)) {
            *sum += n;
        }
    }
    assert!(
        counts.iter().all(|n| *n > 0),
        "{counts:?} up, down, gained, lost"
    );
}

#[test]
fn over_fifty_seeds_events_come_in_turn_and_end_with_the_truth() {
    lives(50);
}

/// `cargo test --release -p strandline-tests --test sim_events -- --ignored`
#[test]
#[ignore = "it takes minutes in release"]
fn over_a_thousand_seeds_events_come_in_turn_and_end_with_the_truth() {
    lives(1_000);
}
