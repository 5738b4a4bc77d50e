//! The network between the machines: who can reach whom, how long it takes, and what is lost on the way.
//!
//! Owns the conditions and the network's generator; carries no bytes itself. Machines are known by number. The
//! invariant: a pair of machines has one base delay for as long as the conditions stay, the same both ways, so that
//! round-trip times can be learned.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::random::{Chance, Random, scramble};

/// How long TCP waits before it sends a segment again, in µs; doubled each time.
pub const RETRANSMIT_US: u64 = 200_000;

/// The network's conditions. Change the public fields at any time, see [`super::World::network_mut`].
#[derive(Clone, Debug)]
pub struct Network {
    /// Base one-way delay of a pair of machines, in µs.
    pub delay_us: RangeInclusive<u64>,
    /// What is added at random to each packet, in µs, at most.
    pub jitter_us: u64,
    /// How many datagrams are lost; a lost segment of a stream is late.
    pub loss: Chance,
    /// How many datagrams come twice.
    pub duplication: Chance,
    /// How many datagrams are overtaken: they take up to four times as long.
    pub reordering: Chance,
    /// The part of a partition that a machine is in; machines of different parts cannot reach each other.
    parts: Vec<u32>,
    /// Pairs that cannot reach each other, the smaller number first.
    cuts: BTreeSet<(u32, u32)>,
    random: Random,
    salt: u64,
}

impl Network {
    /// A calm network: 6 to 60 ms one way, 2 ms of jitter, nothing lost.
    #[must_use]
    pub fn new(mut random: Random) -> Self {
        Self {
            delay_us: 6_000..=60_000,
            jitter_us: 2_000,
            loss: Chance::NEVER,
            duplication: Chance::NEVER,
            reordering: Chance::NEVER,
            parts: Vec::new(),
            cuts: BTreeSet::new(),
            salt: random.next_u64(),
            random,
        }
    }

    /// Whether packets pass between two machines at the moment.
    #[must_use]
    pub fn connects(&self, a: u32, b: u32) -> bool {
        self.part(a) == self.part(b) && !self.cuts.contains(&(a.min(b), a.max(b)))
    }

    /// Puts the machines given into a part of their own: they reach each other, and nobody else does.
    pub fn isolate(&mut self, machines: &[u32]) {
        let part = self.parts.iter().copied().max().unwrap_or(0) + 1;
        for &machine in machines {
            let index = machine as usize;
            if self.parts.len() <= index {
                self.parts.resize(index + 1, 0);
            }
            if let Some(at) = self.parts.get_mut(index) {
                *at = part;
            }
        }
    }

    /// Cuts the link between two machines, both ways.
    pub fn cut(&mut self, a: u32, b: u32) {
        self.cuts.insert((a.min(b), a.max(b)));
    }

    /// Ends all partitions and cuts.
    pub fn heal(&mut self) {
        self.parts.clear();
        self.cuts.clear();
    }

    /// Decides on a datagram: after how many µs it arrives, twice if it is duplicated, never if it is lost.
    pub fn datagram(&mut self, from: u32, to: u32) -> impl Iterator<Item = u64> + use<> {
        // Always the same draws, so that one fate does not shift those of all later packets.
        let lost = self.random.happens(self.loss);
        let twice = self.random.happens(self.duplication);
        let (first, second) = (self.delay(from, to), self.delay(from, to));
        let reaches = !lost && self.connects(from, to);
        [
            reaches.then_some(first),
            (reaches && twice).then_some(second),
        ]
        .into_iter()
        .flatten()
    }

    /// Decides on a segment of a stream: after how many µs it arrives, with what TCP repeats.
    pub fn segment(&mut self, from: u32, to: u32) -> u64 {
        let mut delay_us = self.delay(from, to);
        let mut wait_us = RETRANSMIT_US;
        while self.random.happens(self.loss) && wait_us < 64 * RETRANSMIT_US {
            delay_us += wait_us;
            wait_us *= 2;
        }
        delay_us
    }

    fn part(&self, machine: u32) -> u32 {
        self.parts.get(machine as usize).copied().unwrap_or(0)
    }

    fn delay(&mut self, from: u32, to: u32) -> u64 {
        let pair = (u64::from(from.min(to)) << 32) | u64::from(from.max(to));
        let base = Random::new(scramble(pair ^ self.salt)).within(&self.delay_us);
        let overtaken = self.random.happens(self.reordering);
        let factor = self.random.below(4);
        let late = if overtaken { base * factor } else { 0 };
        base + late + self.random.below(self.jitter_us + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Chance, Network, Random};

    fn calm() -> Network {
        Network::new(Random::new(3))
    }

    #[test]
    fn a_pair_keeps_its_delay_both_ways() {
        let mut network = calm();
        network.jitter_us = 0;
        let delays: Vec<u64> = (0..10)
            .flat_map(|_| [network.datagram(1, 2).next(), network.datagram(2, 1).next()])
            .flatten()
            .collect();
        assert_eq!(delays.len(), 20);
        assert!(delays.iter().all(|delay| Some(delay) == delays.first()));
        let others: std::collections::BTreeSet<_> = (3..20)
            .filter_map(|to| network.datagram(1, to).next())
            .collect();
        assert!(others.len() > 10, "other pairs have other delays");
    }

    #[test]
    fn loss_and_duplication_happen_as_often_as_asked() {
        let mut network = calm();
        network.loss = Chance::percent(10);
        network.duplication = Chance::percent(20);
        let mut arrivals = [0; 3];
        for _ in 0..10_000 {
            let n = network.datagram(1, 2).count();
            if let Some(count) = arrivals.get_mut(n) {
                *count += 1;
            }
        }
        let [lost, once, twice] = arrivals;
        assert!((900..1_100).contains(&lost), "{arrivals:?}");
        assert!((1_650..1_950).contains(&twice), "{arrivals:?}");
        assert!(once > 6_500);
    }

    #[test]
    fn reordering_lets_later_datagrams_overtake() {
        let mut network = calm();
        network.reordering = Chance::percent(50);
        let delays: Vec<u64> = (0..100)
            .filter_map(|_| network.datagram(1, 2).next())
            .collect();
        let slow = delays.iter().max().zip(delays.iter().min());
        assert!(slow.is_some_and(|(max, min)| *max > 2 * *min));
    }

    #[test]
    fn nothing_crosses_a_partition_until_it_heals() {
        let mut network = calm();
        network.isolate(&[1, 2]);
        network.isolate(&[3]);
        network.cut(8, 7);
        for (a, b, passes) in [
            (1, 2, true),
            (1, 3, false),
            (1, 4, false),
            (3, 4, false),
            (4, 5, true),
            (7, 8, false),
        ] {
            assert_eq!(network.connects(a, b), passes, "{a} {b}");
            assert_eq!(network.datagram(b, a).count() > 0, passes, "{a} {b}");
        }
        network.heal();
        assert!(network.connects(1, 3) && network.connects(7, 8));
    }

    #[test]
    fn a_lost_segment_is_late_and_not_lost() {
        let mut network = calm();
        network.loss = Chance::percent(50);
        let late = (0..1_000)
            .filter(|_| network.segment(1, 2) > 200_000)
            .count();
        assert!((400..600).contains(&late), "{late}");
    }
}
