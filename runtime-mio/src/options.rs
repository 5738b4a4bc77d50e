//! What the user decides about a node, and what is refused before anything was touched. Owns the defaults and the wording of
//! refusals; the limits of the protocol are core's.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use strandline_core::config::{Config, KEEP_MAX_MS};
use strandline_core::crypto::Ed25519;
use strandline_core::name::Name;
use strandline_core::output::ConfigError;
use strandline_core::wire::NetworkId;

use crate::failure::{Exit, Failure, internal};
use crate::ntp::{self, SERVERS_MAX};
use crate::resolve::split_host_port;

/// The usual port, UDP and TCP.
pub const PORT: u16 = 7827;

/// Longest name of a network in bytes.
const NETWORK_LEN_MAX: usize = 255;

/// What the user decides about a node.
#[derive(Clone, Debug)]
pub struct Options {
    /// The user's name: needed for a new home; with an existing one it must agree.
    pub name: Option<String>,
    /// Where to listen, UDP and TCP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Nodes to join through: `HOST:PORT` or `IP:PORT`.
    pub join: Vec<String>,
    /// How many peers are asked in parallel in a get tree: 1 to 16.
    pub fanout: u8,
    /// For how long others may keep this user's posts, up to 24 h.
    pub keep: Duration,
    /// How often everyone followed is read again without being asked; zero: never.
    pub refresh: Duration,
    /// Time servers, `HOST` or `HOST:PORT`, at most [`SERVERS_MAX`]; none: the system clock serves.
    pub ntp: Vec<String>,
    /// The name of the network; networks of different names never mix.
    pub network: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            join: Vec::new(),
            fanout: 3,
            keep: Duration::from_secs(60 * 60),
            refresh: Duration::from_secs(60),
            ntp: ["0.pool.ntp.org", "1.pool.ntp.org", "2.pool.ntp.org"]
                .map(String::from)
                .into(),
            network: "strandline".into(),
        }
    }
}

impl Options {
    /// The name and the settings for core; the address is not known before the sockets are bound.
    pub(crate) fn check(&self) -> Result<(Option<Name>, Config), Failure> {
        let name = match &self.name {
            Some(name) => Some(Name::parse(name).map_err(|error| {
                let why = format!("{name:?}: {error}");
                usage(why, "Choose another name (--name NAME).")
            })?),
            None => None,
        };
        if self.network.is_empty() || self.network.len() > NETWORK_LEN_MAX {
            let why = format!("a network's name has 1 to {NETWORK_LEN_MAX} bytes");
            return Err(usage(why, "Choose another one (--network NAME)."));
        }
        if self.ntp.len() > SERVERS_MAX {
            let why = format!("there are more than {SERVERS_MAX} time servers");
            return Err(usage(why, "Name fewer (--ntp HOST)."));
        }
        for server in &self.ntp {
            if split_host_port(server, Some(ntp::PORT)).is_none() {
                let why = format!("{server:?} is not HOST or HOST:PORT");
                return Err(usage(why, "Correct it (--ntp HOST[:PORT])."));
            }
        }
        for join in &self.join {
            if split_host_port(join, None).is_none() {
                let why = format!("{join:?} is not HOST:PORT");
                return Err(usage(why, "Correct it (--join HOST:PORT)."));
            }
        }
        let ms = |duration: Duration| u32::try_from(duration.as_millis()).ok();
        let mut config = Config::new(NetworkId::of_name::<Ed25519>(&self.network), self.listen);
        config.fanout = self.fanout;
        // What does not fit is over the limit, as core will say.
        config.keep_ms = ms(self.keep).unwrap_or(u32::MAX);
        config.refresh_ms = ms(self.refresh).unwrap_or(u32::MAX);
        config.check().map_err(config_failure)?;
        Ok((name, config))
    }
}

pub(crate) fn usage(why: String, next: &str) -> Failure {
    Failure::new(Exit::Usage, "cannot start the node", why, next)
}

pub(crate) fn config_failure(error: ConfigError) -> Failure {
    let keep_h = KEEP_MAX_MS / (60 * 60 * 1000);
    match error {
        ConfigError::Fanout => usage(
            "the fan-out is not between 1 and 16".into(),
            "Choose another one (--fanout X).",
        ),
        ConfigError::Keep => usage(
            format!("posts may be kept for at least 1 ms and at most {keep_h} h"),
            "Choose another time (--keep DUR).",
        ),
        ConfigError::Network => usage(
            "that network's name cannot be used".into(),
            "Choose another one (--network NAME).",
        ),
        ConfigError::Identity => Failure::new(
            Exit::Damaged,
            "cannot start the node",
            "its key is not one",
            "Restore it from a backup: strandline identity restore FILE",
        ),
        ConfigError::AlreadyStarted => internal("it was started before"),
        ConfigError::Durability => internal("its plan is without storage"),
    }
}
