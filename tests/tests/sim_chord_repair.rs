//! Records outlive churn and sudden death on a ring as they do elsewhere: the owner of a key and those next behind it come to
//! hold what lies there.
//!
//! `STRANDLINE_SEED` chooses another seed.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use strandline_core::id::Key;
use strandline_core::output::Outcome;
use strandline_core::overlay::REPLICATION;
use strandline_core::wire::datagram::{Body, Datagram};
use strandline_core::wire::record::Kinds;
use strandline_tests::sim::{
    Command, Cryptography, HostId, Kind, Overlay, Random, State, Ticket, World, mins, ms, secs,
};

const DAY_S: u32 = 24 * 60 * 60;
/// The transaction of the stranger's first `Get`; those of its pings are lower.
const FIRST_GET: u64 = 10;

/// A ring in which a test keeps count of who runs.
struct Scene {
    world: World,
    random: Random,
    alive: Vec<HostId>,
    stranger: HostId,
}

impl Scene {
    fn new(usual: u64, test: &str) -> Self {
        let seed = std::env::var("STRANDLINE_SEED").ok();
        let seed = seed.and_then(|text| text.parse().ok()).unwrap_or(usual);
        let mut world = World::with_cryptography(seed, Cryptography::StandIn);
        world.overlay = Overlay::Chord;
        world.replay = format!(
            "STRANDLINE_SEED={seed} cargo test -p strandline-tests --test sim_chord_repair {test}"
        );
        let first = world.node(Kind::Server);
        let stranger = world.stranger(false);
        Self {
            world,
            random: Random::new(seed).fork(test),
            alive: vec![first],
            stranger,
        }
    }

    fn arrive(&mut self) {
        let host = self.world.node(Kind::Server);
        self.alive.push(host);
    }

    fn grow(&mut self, to: usize) {
        while self.alive.len() < to {
            self.arrive();
            self.world.run_for(ms(200));
        }
        self.world.run_for(mins(1));
    }

    /// One of those at place `from` or behind it vanishes.
    fn crash_one(&mut self, from: usize) {
        let at = from + self.random.index(self.alive.len() - from);
        let host = self.alive.swap_remove(at);
        self.world.vanish(host);
    }

    /// Stores a value from each of these nodes and returns the keys of those that enough holders took.
    fn publish(&mut self, authors: &[HostId]) -> Vec<Key> {
        let begun: Vec<(Key, Ticket)> = authors
            .iter()
            .map(|author| {
                let key = self.world.key(&format!("value of {author}"));
                let value = author.to_string().into_bytes();
                let ttl_s = DAY_S;
                let put = Command::Put { key, value, ttl_s };
                (key, self.world.begin(*author, &put, None))
            })
            .collect();
        self.world.run_for(secs(12));
        let stored = |ticket| match self.world.answer(ticket).state {
            State::Done(Outcome::Stored { accepted, wanted }) => accepted >= wanted,
            State::Running | State::Done(_) | State::Refused(_) | State::Abandoned => false,
        };
        let stored = begun.iter().filter(|(_, ticket)| stored(*ticket));
        stored.map(|(key, _)| *key).collect()
    }

    /// For each key, how many running nodes hold it, and how many of the owner and those next behind it, eight in all.
    fn holders(&mut self, keys: &[Key]) -> Vec<(usize, usize)> {
        let mut held = vec![Vec::new(); keys.len()];
        let tokens = self.world.tokens(self.stranger, &self.alive);
        let network = self.world.network_id();
        for (n, key) in (0..).zip(keys) {
            for (host, token) in self.alive.iter().zip(&tokens) {
                let Some(token) = *token else { continue };
                let body = Body::Get {
                    key: *key,
                    kinds: Kinds::ALL.0,
                    after: 0,
                    limit: 1,
                };
                let get = self.world.say(self.stranger, token, FIRST_GET + n, body);
                self.world.send_raw(self.stranger, *host, &get);
            }
            self.world.run_for(ms(300));
            for (from, bytes) in self.world.take_datagrams(self.stranger) {
                let Ok(datagram) = Datagram::decode(&bytes, network) else {
                    continue;
                };
                let this = u64::from_be_bytes(datagram.transaction) == FIRST_GET + n;
                if let Body::Found { records, .. } = datagram.body
                    && this
                    && !records.is_empty()
                {
                    held[usize::try_from(n).unwrap_or(0)].push(from);
                }
            }
        }
        let mut around: Vec<_> = self
            .alive
            .iter()
            .filter_map(|host| {
                let addr = self.world.machine(*host).addr;
                Some((self.world.running(*host)?.node_id(), addr))
            })
            .collect();
        around.sort_unstable();
        let count = |(key, held): (&Key, &Vec<_>)| {
            let first = around.partition_point(|(id, _)| id.as_bytes() < key.as_bytes());
            let eight = (first..first + REPLICATION).map(|at| around[at % around.len()].1);
            (held.len(), eight.filter(|addr| held.contains(addr)).count())
        };
        keys.iter().zip(&held).map(count).collect()
    }

    /// How many of these keys a lookup finds, from nodes chosen by chance.
    fn found(&mut self, keys: &[Key]) -> usize {
        let begun: Vec<Ticket> = keys
            .iter()
            .map(|key| {
                let asker = self.alive[self.random.index(self.alive.len())];
                self.world.begin(asker, &Command::Get(*key), None)
            })
            .collect();
        self.world.run_for(secs(11));
        let found = |ticket: &&Ticket| self.world.answer(**ticket).values.len() == 1;
        begun.iter().filter(found).count()
    }
}

/// The least, and the mean.
fn spread(counts: impl Iterator<Item = usize> + Clone) -> String {
    let sum: usize = counts.clone().sum();
    let mean = sum as f64 / counts.clone().count().max(1) as f64;
    format!("least {}, mean {mean:.2}", counts.min().unwrap_or(0))
}

fn tell(when: &str, holders: &[(usize, usize)]) {
    let all = spread(holders.iter().map(|(all, _)| *all));
    let right = spread(holders.iter().map(|(_, right)| *right));
    eprintln!("{when}: holders {all}; of the eight {right}");
}

#[test]
fn under_churn_no_record_is_lost_though_all_authors_are_gone() {
    let mut scene = Scene::new(2, "churn");
    scene.grow(60);
    let authors: Vec<HostId> = scene.alive[1..21].to_vec();
    let keys = scene.publish(&authors);
    assert!(keys.len() >= 20, "{} stored", keys.len());
    for author in authors {
        scene.alive.retain(|host| *host != author);
        scene.world.vanish(author);
        scene.arrive();
        scene.world.run_for(secs(6));
    }
    // Sessions with a median of 20 min: of sixty nodes one leaves every 29 s, for half an hour.
    for _ in 0..62 {
        // Not the first: newcomers join through it.
        scene.crash_one(1);
        scene.arrive();
        let pause_s = 1 + scene.random.below(57);
        scene.world.run_for(secs(pause_s));
    }
    let holders = scene.holders(&keys);
    tell("after half an hour of churn", &holders);
    assert_eq!(scene.found(&keys), keys.len(), "{holders:?}");
    // Whoever just came has little: of each key most of the eight hold it.
    assert!(holders.iter().all(|(_, right)| *right >= 5), "{holders:?}");
}

#[test]
fn when_half_of_all_die_at_once_what_survived_is_held_by_its_eight_again() {
    let mut scene = Scene::new(3, "half");
    scene.grow(80);
    let authors: Vec<HostId> = scene.alive[1..41].to_vec();
    let keys = scene.publish(&authors);
    scene.world.run_for(mins(5));
    let before = scene.holders(&keys);
    tell("before", &before);
    while scene.alive.len() > 40 {
        scene.crash_one(1);
    }
    let after = scene.holders(&keys);
    tell("after", &after);
    let survives = keys.iter().zip(&after).filter(|(_, (all, _))| *all > 0);
    let surviving: Vec<Key> = survives.map(|(key, _)| *key).collect();
    assert!(surviving.len() >= keys.len() - 3, "{after:?}");
    scene.world.run_for(mins(10));
    assert_eq!(scene.found(&surviving), surviving.len(), "{after:?}");
    scene.world.run_for(mins(10));
    let holders = scene.holders(&surviving);
    tell("twenty minutes later", &holders);
    assert!(
        holders.iter().all(|(_, right)| *right == REPLICATION),
        "{holders:?}"
    );
}
