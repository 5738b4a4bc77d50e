//! Boards that run for a day, beside servers, on links that lose datagrams: with posts, follows, reads, values, and a power
//! cut now and then. What must always hold is checked by the world's oracles after every step.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;

use strandline_core::config::Durability;
use strandline_core::output::Outcome;
use strandline_tests::sim::clock::TimeOfDay;
use strandline_tests::sim::{
    Chance, Command, Cryptography, HostId, Kind, Setup, State, Ticket, World, mins, secs,
};

/// Enough to hold what a board has no room for.
const SERVERS: usize = 6;
const BOARDS: usize = 4;
/// A round is this long, in minutes: everyone posts at its beginning and reads at its end.
const ROUND_MIN: usize = 10;
/// One board loses its power, and with it all that it knew, every so many rounds.
const ROUNDS_PER_CUT: usize = 12;

/// The people: servers first.
struct Day {
    world: World,
    hosts: Vec<HostId>,
    /// Those who have values and lookups of their own.
    toolkits: Vec<HostId>,
    /// Whom each of them follows.
    follows: BTreeMap<usize, [usize; 2]>,
    /// Posts that are not acknowledged yet.
    posting: Vec<(usize, Ticket)>,
    seen: Seen,
}

/// What was seen.
#[derive(Default, Debug)]
struct Seen {
    posts: usize,
    acknowledged: usize,
    /// Refused, since so many wait to be confirmed, or since the board does not know its numbers yet.
    refused: usize,
    lookups: usize,
    puts: usize,
    values: usize,
    found: usize,
    reads: usize,
    complete: usize,
    /// The newest post of somebody followed, expected in a read, and there.
    expected: usize,
    read: usize,
    cuts: usize,
}

impl Day {
    fn begin(seed: u64, loss: Chance) -> Self {
        let mut world = World::with_cryptography(seed, Cryptography::StandIn);
        world.network_mut().loss = loss;
        world.replay = "cargo test --release -p strandline-tests --test sim_board_day".to_owned();
        let mut hosts = Vec::new();
        for n in 0..SERVERS + BOARDS {
            let mut setup = Setup::new(Kind::Server);
            setup.refresh = secs(60);
            if n < SERVERS {
                hosts.push(world.node_with(setup));
                continue;
            }
            // Every other one is what the firmware runs.
            setup.kind = if n.is_multiple_of(2) {
                Kind::TimelineBoard
            } else {
                Kind::Board
            };
            setup.durability = Durability::Holders(1);
            setup.drift_ppm = [0, 40, -40, 20, -20][n % 5];
            if n.is_multiple_of(2) {
                setup.time_of_day = TimeOfDay::Unknown;
            }
            hosts.push(world.node_with(setup));
        }
        let is_toolkit = |host: &HostId| world.machine(*host).setup.kind != Kind::TimelineBoard;
        let toolkits = hosts.iter().copied().filter(is_toolkit).collect();
        world.run_for(mins(1));
        let count = hosts.len();
        let mut follows = BTreeMap::new();
        for n in 0..count {
            // The next one, and somebody on the other side.
            let others = [(n + 1) % count, (n + count / 2) % count];
            for other in others {
                let ticket = world.begin_follow(hosts[n], hosts[other]);
                world.run_until_done(ticket);
            }
            follows.insert(n, others);
        }
        Self {
            world,
            hosts,
            toolkits,
            follows,
            posting: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// Everyone posts, the DHT is used, and everyone reads.
    fn round(&mut self, round: usize) {
        if round % ROUNDS_PER_CUT == ROUNDS_PER_CUT - 1 {
            self.cut(SERVERS + (round / ROUNDS_PER_CUT) % BOARDS);
        }
        let mut newest = BTreeMap::new();
        for n in 0..self.hosts.len() {
            let text = format!("round {round} by {n}");
            let ticket = self.world.begin_post(self.hosts[n], &text);
            if matches!(self.world.answer(ticket).state, State::Refused(_)) {
                self.seen.refused += 1;
                continue;
            }
            self.seen.posts += 1;
            self.posting.push((n, ticket));
            newest.insert(n, text);
        }
        for minute in 0..ROUND_MIN - 1 {
            let host = self.toolkits[(round + minute) % self.toolkits.len()];
            let key = self.world.key(&format!("value {round} {minute}"));
            self.seen.puts += 1;
            if self.world.put(host, key, b"value") {
                self.seen.values += 1;
                let other = self.toolkits[(round + 2 * minute + 3) % self.toolkits.len()];
                self.seen.found += usize::from(self.world.get(other, key) == [b"value".to_vec()]);
            }
            let answer = self.world.run(host, &Command::Lookup(key), None);
            self.seen.lookups += usize::from(answer.outcome().is_some());
            self.world.run_for(secs(40));
        }
        for n in 0..self.hosts.len() {
            let read = self.world.timeline(self.hosts[n]);
            self.seen.reads += 1;
            self.seen.complete += usize::from(read.complete == Some(true));
            for other in self.follows[&n] {
                let Some(text) = newest.get(&other) else {
                    continue;
                };
                self.seen.expected += 1;
                let of = read.of(self.world.user(self.hosts[other]));
                self.seen.read += usize::from(of.iter().any(|post| post.ends_with(text)));
            }
        }
        let (world, seen) = (&mut self.world, &mut self.seen);
        self.posting.retain(|(_, ticket)| {
            let answer = world.take(*ticket);
            let posted = |outcome| matches!(outcome, Some(Outcome::Posted { .. }));
            seen.acknowledged += usize::from(answer.as_ref().is_some_and(|a| posted(a.outcome())));
            answer.is_none()
        });
    }

    /// A board loses its power, and is back a little later.
    fn cut(&mut self, n: usize) {
        let host = self.hosts[n];
        self.posting.retain(|(author, _)| *author != n);
        self.world.crash(host);
        self.world.lose_storage(host);
        self.world.run_for(secs(5));
        self.world.restart(host);
        self.seen.cuts += 1;
    }
}

fn day(hours: usize) {
    let mut day = Day::begin(1, Chance::percent(2));
    let rounds = hours * 60 / ROUND_MIN;
    for round in 0..rounds {
        day.round(round);
    }
    let seen = &day.seen;
    println!("{hours} h: {seen:?}, trace {}", day.world.trace());
    assert!(day.world.failures().is_empty());
    assert_eq!(seen.lookups, rounds * (ROUND_MIN - 1), "each ends");
    assert_eq!(seen.found, seen.values, "what is stored is found");
    assert!(seen.values * 100 >= seen.puts * 95, "{seen:?}");
    // A post whose author loses its power at that moment is nobody's promise.
    assert!(day.posting.is_empty(), "{:?}", day.posting);
    assert!(seen.acknowledged + seen.cuts >= seen.posts, "{seen:?}");
    assert!(seen.refused <= 2 * seen.cuts, "{seen:?}");
    assert!(seen.complete * 100 >= seen.reads * 95, "{seen:?}");
    assert!(seen.read * 100 >= seen.expected * 95, "{seen:?}");
}

#[test]
fn boards_run_for_two_hours() {
    day(2);
}

#[test]
#[ignore = "minutes: cargo test --release -p strandline-tests --test sim_board_day -- --ignored --nocapture"]
fn boards_run_for_a_day() {
    day(24);
}
