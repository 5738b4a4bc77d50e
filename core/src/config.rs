//! What a host decides about its node at the start.
//!
//! Owns the settings and their limits. Everything else is a constant of the protocol or a capacity of the plan.

use core::net::SocketAddr;

use crate::crypto::SecretKey;
use crate::name::Name;
use crate::output::ConfigError;
use crate::wire::NetworkId;

/// Largest fan-out of a get tree.
pub const FANOUT_MAX: u8 = 16;
/// Longest time for which copies may be kept, in ms (24 h).
pub const KEEP_MAX_MS: u32 = 24 * 60 * 60 * 1000;
/// Keeping time where the author does not choose, in ms (1 h).
pub const KEEP_DEFAULT_MS: u32 = 60 * 60 * 1000;

/// Who the node is: its user and itself.
#[derive(Clone)]
pub struct Identity {
    /// The user's secret identity key: signs records and posts.
    pub user: SecretKey,
    /// The node's own secret key: its hash of the public half is the node id.
    pub node: SecretKey,
    /// The user's name.
    pub name: Name,
}

/// What makes a post durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// The host's own storage said `persisted`.
    Host,
    /// This many followers or holders confirmed a copy: for boards without storage.
    Holders(u8),
}

/// The node's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which network it belongs to.
    pub network: NetworkId,
    /// Where it listens, UDP and TCP. An unspecified IP address is replaced by the one that other nodes observe.
    pub listen: SocketAddr,
    /// How many are asked in parallel in a get tree (X): 1 to [`FANOUT_MAX`].
    pub fanout: u8,
    /// For how long others may keep this author's posts, in ms: 1 to [`KEEP_MAX_MS`].
    pub keep_ms: u32,
    /// What makes a post durable.
    pub durability: Durability,
    /// How often everyone followed is read again without being asked, in ms; 0: never.
    pub refresh_ms: u32,
    /// How long a command may take before it ends with what it has, in ms.
    pub query_ms: u32,
}

impl Config {
    /// The usual settings for a node of `network` that listens at `listen`.
    #[must_use]
    pub const fn new(network: NetworkId, listen: SocketAddr) -> Self {
        Self {
            network,
            listen,
            fanout: 3,
            keep_ms: KEEP_DEFAULT_MS,
            durability: Durability::Host,
            refresh_ms: 60_000,
            query_ms: 10_000,
        }
    }

    /// Checks the settings' limits.
    ///
    /// # Errors
    /// The setting that is outside its limits.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.network == NetworkId::NONE {
            return Err(ConfigError::Network);
        }
        if self.fanout == 0 || self.fanout > FANOUT_MAX {
            return Err(ConfigError::Fanout);
        }
        if self.keep_ms == 0 || self.keep_ms > KEEP_MAX_MS {
            return Err(ConfigError::Keep);
        }
        Ok(())
    }
}
