//! Records outlive growth, churn and sudden death: holders compare what they hold and fill the gaps.
//!
//! Who holds what is asked from outside, by a stranger with a `Get` to every node. `STRANDLINE_SEED` chooses another
//! seed, `STRANDLINE_HOURS` how long the churn lasts.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use strandline_core::id::Key;
use strandline_core::output::Outcome;
use strandline_core::wire::datagram::{Body, Datagram, Token};
use strandline_core::wire::record::Kinds;
use strandline_tests::sim::{
    Chance, Command, Cryptography, HostId, Kind, Random, State, Ticket, World, mins, ms, secs,
};

const DAY_S: u32 = 24 * 60 * 60;
/// The transaction of the stranger's first `Get`; those of its pings are lower.
const FIRST_GET: u64 = 10;

fn seed(usual: u64) -> u64 {
    from_env("STRANDLINE_SEED", usual)
}

fn from_env(name: &str, usual: u64) -> u64 {
    let chosen = std::env::var(name).ok();
    chosen.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// A world in which a test keeps count of who runs.
struct Scene {
    world: World,
    alive: Vec<HostId>,
    stranger: HostId,
}

impl Scene {
    fn new(seed: u64, test: &str) -> Self {
        let mut world = World::with_cryptography(seed, Cryptography::StandIn);
        world.replay = format!(
            "STRANDLINE_SEED={seed} cargo test -p strandline-tests --test sim_repair {test}"
        );
        let first = world.node(Kind::Server);
        let stranger = world.stranger(false);
        Self {
            world,
            alive: vec![first],
            stranger,
        }
    }

    /// Nodes arrive, so many ms apart; one of so many is a board, 0: none.
    fn grow(&mut self, to: usize, every_ms: u64, board_of: usize) {
        while self.alive.len() < to {
            let board = board_of > 0 && self.alive.len() % board_of == 1;
            let kind = if board { Kind::Board } else { Kind::Server };
            let host = self.world.node(kind);
            self.alive.push(host);
            self.world.run_for(ms(every_ms));
        }
    }

    /// Stores a value from each of these nodes, all at once, and returns the keys of those that enough holders took.
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

    fn crash(&mut self, host: HostId) {
        self.alive.retain(|other| *other != host);
        self.world.vanish(host);
    }

    /// Counts the running nodes that hold each key.
    fn holders(&mut self, keys: &[Key]) -> Vec<usize> {
        let tokens = self.world.tokens(self.stranger, &self.alive);
        let network = self.world.network_id();
        let mut holders = vec![0; keys.len()];
        for (some, chunk) in keys.chunks(8).enumerate() {
            for (n, key) in chunk.iter().enumerate() {
                for (host, token) in self.alive.iter().zip(&tokens) {
                    let Some(token) = *token else { continue };
                    let get = get(&self.world, self.stranger, token, some * 8 + n, *key);
                    self.world.send_raw(self.stranger, *host, &get);
                }
            }
            self.world.run_for(ms(300));
            for (_, bytes) in self.world.take_datagrams(self.stranger) {
                let Ok(datagram) = Datagram::decode(&bytes, network) else {
                    continue;
                };
                let n = u64::from_be_bytes(datagram.transaction).saturating_sub(FIRST_GET);
                if let Body::Found { records, .. } = datagram.body
                    && !records.is_empty()
                    && let Some(count) = usize::try_from(n).ok().and_then(|n| holders.get_mut(n))
                {
                    *count += 1;
                }
            }
        }
        holders
    }

    /// Which of these keys a lookup finds, from nodes chosen by chance.
    fn found(&mut self, keys: &[Key], random: &mut Random) -> usize {
        let mut found = 0;
        for some in keys.chunks(50) {
            let begun: Vec<Ticket> = some
                .iter()
                .map(|key| {
                    let asker = *random.pick(&self.alive).unwrap_or(&self.alive[0]);
                    self.world.begin(asker, &Command::Get(*key), None)
                })
                .collect();
            self.world.run_for(secs(11));
            found += begun
                .iter()
                .filter(|ticket| self.world.answer(**ticket).values.len() == 1)
                .count();
        }
        found
    }
}

fn get(world: &World, stranger: HostId, token: Token, n: usize, key: Key) -> Vec<u8> {
    let body = Body::Get {
        key,
        kinds: Kinds::ALL.0,
        after: 0,
        limit: 1,
    };
    world.say(stranger, token, n as u64 + FIRST_GET, body)
}

fn spread(counts: &[usize]) -> String {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    let least = sorted.first().copied().unwrap_or(0);
    let most = sorted.last().copied().unwrap_or(0);
    let mean = sorted.iter().sum::<usize>() as f64 / sorted.len().max(1) as f64;
    format!("least {least}, median {median}, mean {mean:.1}, most {most}")
}

#[test]
fn what_was_stored_early_is_found_after_the_network_grew_tenfold_in_a_minute() {
    let seed = seed(1);
    let mut scene = Scene::new(seed, "tenfold");
    scene.world.network_mut().loss = Chance::percent(2);
    let mut random = Random::new(seed).fork("growth");
    scene.grow(73, 60, 2);
    scene.world.run_for(secs(20));
    let authors = scene.alive.clone();
    let keys = scene.publish(&authors);
    assert!(keys.len() >= 70, "{} stored", keys.len());
    scene.grow(1_000, 64, 2);
    scene.world.run_for(mins(2));
    let holders = scene.holders(&keys);
    eprintln!("holders after growth: {}", spread(&holders));
    let found = scene.found(&keys, &mut random);
    assert_eq!(found, keys.len(), "seed {seed}: {holders:?}");
    for author in authors.iter().take(30) {
        let asker = *random.pick(&scene.alive).unwrap_or(author);
        let answer = scene.world.whois(asker, &format!("user-{}", author.0));
        let count = answer
            .people
            .iter()
            .filter(|(person, _)| person.user == scene.world.user(*author))
            .count();
        let known = count > 0 || answer.profile.is_some();
        assert!(
            known,
            "seed {seed}: {author} is not found: {:?}",
            answer.state
        );
    }
}

#[test]
fn churn_loses_no_record_though_all_authors_are_gone() {
    let seed = seed(2);
    let mut scene = Scene::new(seed, "churn");
    let mut random = Random::new(seed).fork("churn");
    scene.grow(300, 100, 0);
    scene.world.run_for(secs(30));
    let authors: Vec<HostId> = scene.alive[1..101].to_vec();
    let keys = scene.publish(&authors);
    assert!(keys.len() >= 99, "{} stored", keys.len());
    for author in authors {
        scene.crash(author);
        let host = scene.world.node(Kind::Server);
        scene.alive.push(host);
        scene.world.run_for(secs(6));
    }
    // Sessions are exponential with a median of 60 min: 300 nodes, one leaves each 17.3 s on average.
    let mean_s = 3_600.0 / std::f64::consts::LN_2 / 300.0;
    let end_us = scene.world.now_us() + from_env("STRANDLINE_HOURS", 1) * 3_600_000_000;
    let mut deaths = 0;
    while scene.world.now_us() < end_us {
        let uniform = (random.below(1_000_000) + 1) as f64 / 1e6;
        let pause = Duration::from_secs_f64(-uniform.ln() * mean_s);
        scene.world.run_for(pause);
        // Not the first: newcomers join through it.
        let at = 1 + random.index(scene.alive.len() - 1);
        let host = scene.alive[at];
        scene.crash(host);
        let host = scene.world.node(Kind::Server);
        scene.alive.push(host);
        deaths += 1;
    }
    let holders = scene.holders(&keys);
    eprintln!("holders after {deaths} deaths: {}", spread(&holders));
    let found = scene.found(&keys, &mut random);
    assert_eq!(found, keys.len(), "seed {seed}: {holders:?}");
}

#[test]
fn when_half_of_all_die_at_once_what_survived_is_found_and_held_by_many_again() {
    let seed = seed(3);
    let mut scene = Scene::new(seed, "half");
    let mut random = Random::new(seed).fork("half");
    scene.grow(300, 100, 0);
    scene.world.run_for(secs(30));
    let authors: Vec<HostId> = scene.alive[1..201].to_vec();
    let keys = scene.publish(&authors);
    scene.world.run_for(mins(5));
    let before = scene.holders(&keys);
    let mut order = scene.alive[1..].to_vec();
    while order.len() > 149 {
        let host = order.swap_remove(random.index(order.len()));
        scene.crash(host);
    }
    let after = scene.holders(&keys);
    let surviving: Vec<Key> = keys
        .iter()
        .zip(&after)
        .filter(|(_, count)| **count > 0)
        .map(|(key, _)| *key)
        .collect();
    eprintln!(
        "holders before: {}; after: {}",
        spread(&before),
        spread(&after)
    );
    scene.world.run_for(mins(10));
    let holders = scene.holders(&surviving);
    eprintln!("holders ten minutes later: {}", spread(&holders));
    let found = scene.found(&surviving, &mut random);
    assert_eq!(found, surviving.len(), "seed {seed}: {holders:?}");
    scene.world.run_for(mins(10));
    let holders = scene.holders(&surviving);
    eprintln!("holders twenty minutes later: {}", spread(&holders));
    assert!(
        holders.iter().all(|count| *count >= 5),
        "seed {seed}: {holders:?}"
    );
}

#[test]
fn at_rest_a_node_spends_few_bytes_on_keeping_records() {
    let seed = seed(4);
    let mut scene = Scene::new(seed, "rest");
    scene.grow(300, 100, 0);
    scene.world.run_for(secs(30));
    let authors = scene.alive.clone();
    let keys = scene.publish(&authors);
    assert_eq!(keys.len(), 300);
    scene.world.run_for(mins(30));
    let before = *scene.world.tally();
    scene.world.run_for(mins(60));
    let after = *scene.world.tally();
    let per_node_s = |count: u64| count as f64 / 300.0 / 3_600.0;
    let bytes = per_node_s(after.datagram_bytes - before.datagram_bytes);
    let datagrams = per_node_s(after.datagrams - before.datagrams);
    eprintln!("at rest: {bytes:.1} bytes and {datagrams:.3} datagrams a second and node");
    assert!(bytes < 200.0, "seed {seed}: {bytes}");
}
