//! One simulated machine: an address, clocks, storage, and the program that runs on it, a node or a stranger.
//!
//! Owns what survives a crash and what does not. Decides nothing: [`super::World`] moves it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use strandline_core::config::{Config, Durability, Identity};
use strandline_core::crypto::SecretKey;
use strandline_core::id::UserId;
use strandline_core::name::Name;
use strandline_core::output::Restored;
use strandline_core::time::Instant;
use strandline_core::wire::NetworkId;

use super::application::AnyApplication;
use super::clock::{Ticker, TimeOfDay};
use super::node::AnyNode;
use super::plans::Kind;
use super::random::Random;
use super::storage::Storage;

/// The port on which every simulated node listens.
pub const PORT: u16 = 7827;

/// The first machine's address, 16.0.0.1.
const FIRST: u32 = 0x1000_0001;
/// From one machine's address to the next one's.
const STEP: u32 = 0x101;

/// The address of a machine: each in a /24 of its own, none private or reserved, so that every rule about
/// neighbourhoods of addresses is in force.
#[must_use]
pub fn address_of(machine: u32) -> SocketAddr {
    let ip = FIRST.wrapping_add(machine.wrapping_mul(STEP));
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(ip)), PORT)
}

/// The machine at an address, if machines have such addresses.
#[must_use]
pub fn machine_of(addr: SocketAddr) -> Option<u32> {
    let IpAddr::V4(ip) = addr.ip() else {
        return None;
    };
    let past_first = ip.to_bits().wrapping_sub(FIRST);
    (addr.port() == PORT && past_first % STEP == 0).then_some(past_first / STEP)
}

/// How a node is set up. Start from [`Setup::new`] and change what matters.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which plan's tables it has.
    pub kind: Kind,
    /// The user's name; made up from the machine's number if none is given.
    pub name: Option<&'static str>,
    /// See [`Config::keep_ms`].
    pub keep: Duration,
    /// See [`Config::fanout`].
    pub fanout: u8,
    /// See [`Config::refresh_ms`]. Zero: it only reads when told to.
    pub refresh: Duration,
    /// See [`Config::durability`].
    pub durability: Durability,
    /// Where it has the time of day from.
    pub time_of_day: TimeOfDay,
    /// How many µs its monotonic clock gains in a second.
    pub drift_ppm: i32,
    /// Whether it joins through the first node of the world when it starts.
    pub joins: bool,
}

impl Setup {
    /// The usual set-up: a good clock, an hour of keeping, no reading unasked.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            name: None,
            keep: Duration::from_secs(3_600),
            fanout: 3,
            refresh: Duration::ZERO,
            durability: Durability::Host,
            time_of_day: TimeOfDay::Known {
                error_ms: 0,
                uncertainty_ms: 20,
            },
            drift_ppm: 0,
            joins: true,
        }
    }

    /// The same with a name.
    #[must_use]
    pub const fn named(self, name: &'static str) -> Self {
        Self {
            name: Some(name),
            ..self
        }
    }

    /// The same with another time for which others may keep the posts.
    #[must_use]
    pub const fn keep(self, keep: Duration) -> Self {
        Self { keep, ..self }
    }

    /// The node's configuration.
    #[must_use]
    pub fn config(&self, network: NetworkId, listen: SocketAddr, query_ms: u32) -> Config {
        let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Config {
            fanout: self.fanout,
            keep_ms: ms(self.keep),
            durability: self.durability,
            refresh_ms: ms(self.refresh),
            query_ms,
            ..Config::new(network, listen)
        }
    }
}

/// What runs on a machine.
pub enum Program {
    /// A node.
    Node(AnyNode),
    /// Nothing: connections are refused, datagrams go nowhere.
    Stopped,
    /// The machine or its link is gone: silence.
    Vanished,
    /// Somebody who speaks raw bytes, from a test.
    Stranger(Stranger),
}

/// A peer that is no node: a test sends what it likes through it, and looks at what comes.
#[derive(Debug, Default)]
pub struct Stranger {
    /// Datagrams that came: from where, and what.
    pub datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// Whether it accepts connections.
    pub listens: bool,
    /// Whether it leaves what comes over streams unread, so that its windows stay shut.
    pub stalls: bool,
}

/// A machine.
pub struct Machine {
    /// Its address.
    pub addr: SocketAddr,
    /// How its node is set up.
    pub setup: Setup,
    /// Who its user and its node are.
    pub identity: Identity,
    /// Its user.
    pub user: UserId,
    /// What runs.
    pub program: Program,
    /// What runs on top of its node.
    pub application: Option<Box<dyn AnyApplication>>,
    /// Its disk.
    pub storage: Storage,
    /// How its storage was found at the next start.
    pub found: Restored,
    /// Its monotonic clock since the last start.
    pub ticker: Ticker,
    /// How often its program was started.
    pub incarnation: u32,
    /// When the node or its application wants to be woken, by its own clock.
    pub deadline: Option<Instant>,
    /// When the earliest wake-up in the queue is due, by the world's.
    pub timer_us: Option<u64>,
    /// A commit of its storage is in the queue.
    pub committing: bool,
    /// Wake-ups in the current second, to notice a node that spins.
    pub wakeups: (u64, u32),
}

impl Machine {
    /// A machine that is not switched on yet.
    #[must_use]
    pub fn new(addr: SocketAddr, setup: Setup, name: Name, random: &mut Random) -> Self {
        Self {
            addr,
            setup,
            identity: Identity {
                user: SecretKey::from_bytes(random.bytes_32()),
                node: SecretKey::from_bytes(random.bytes_32()),
                name,
            },
            user: UserId::ZERO,
            program: Program::Stopped,
            application: None,
            storage: Storage::default(),
            found: Restored::Fresh,
            ticker: Ticker::new(0, 0, 0),
            incarnation: 0,
            deadline: None,
            timer_us: None,
            committing: false,
            wakeups: (0, 0),
        }
    }

    /// The node, if one runs.
    #[must_use]
    pub const fn node(&self) -> Option<&AnyNode> {
        match &self.program {
            Program::Node(node) => Some(node),
            Program::Stopped | Program::Vanished | Program::Stranger(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use strandline_core::addr::{is_local, is_usable_contact, subnet_of};

    use super::{address_of, machine_of};

    #[test]
    fn every_machine_has_a_public_address_in_a_neighbourhood_of_its_own() {
        let mut subnets = BTreeSet::new();
        for machine in 0..100_000 {
            let addr = address_of(machine);
            assert!(is_usable_contact(addr) && !is_local(addr), "{addr}");
            assert!(subnets.insert(subnet_of(addr)), "{addr}");
            assert_eq!(machine_of(addr), Some(machine));
        }
    }
}
