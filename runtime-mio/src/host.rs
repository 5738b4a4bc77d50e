//! The event loop: brings the node, its sockets, its storage and its control channel together.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use mio::Waker;
use strandline_core::name::{Handle, Name};
use strandline_core::output::Event;

use crate::failure::{Exit, Failure};
use crate::home::Home;

/// The usual port, UDP and TCP.
pub const PORT: u16 = 7827;

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
    /// Time servers, `HOST` or `HOST:PORT`, at most [`NTP_SERVERS_MAX`]; none: the system clock serves.
    pub ntp: Vec<String>,
    /// The name of the network; networks of different names never mix.
    pub network: String,
}

/// Most time servers.
pub const NTP_SERVERS_MAX: usize = 8;

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

/// Said once: the control channel answers, and the first join ended or took too long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ready {
    /// The user's name.
    pub name: Name,
    /// The user's handle.
    pub handle: Handle,
    /// Where the node listens, with its real port.
    pub listen: SocketAddr,
    /// The control socket.
    pub control: PathBuf,
}

/// What a program that hosts a node may want to hear. Called on the loop's thread: return soon.
pub trait Application {
    /// The node is ready.
    fn on_ready(&mut self, _ready: &Ready) {}
    /// Something happened. Results of commands of the control channel are not told here.
    fn on_event(&mut self, _event: &Event<'_>) {}
}

/// Wants to hear nothing.
impl Application for () {}

/// A node with all that it needs, which [`run`](Self::run) runs.
pub struct Host {
    stopper: Stopper,
}

impl Host {
    /// Loads or makes the identity, checks and restores the storage, binds the sockets and opens the control channel.
    ///
    /// # Errors
    /// [`Exit::Usage`] for options outside their limits and a missing or different name; [`Exit::Internal`] when the port
    /// is taken; [`Exit::NotPermitted`] and [`Exit::Damaged`] as [`Home::identity`], and for the database.
    pub fn open(_home: Home, _options: &Options) -> Result<Self, Failure> {
        Err(Failure::new(
            Exit::Internal,
            "cannot start",
            "the loop is not built yet",
            "",
        ))
    }

    /// Stops at SIGINT and SIGTERM: the first says goodbye to the network, the second ends at once.
    ///
    /// # Errors
    /// [`Exit::Internal`] when the system refuses.
    pub fn handle_signals(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// A handle that stops this host from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Runs the node until it is stopped.
    ///
    /// # Errors
    /// [`Exit::Internal`] when the system's event queue fails.
    pub fn run(&mut self, _application: &mut dyn Application) -> Result<(), Failure> {
        Ok(())
    }
}

/// Stops a [`Host`] from another thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    asked: Arc<AtomicU8>,
    waker: Arc<Waker>,
}

const LEAVE: u8 = 1;
const HALT: u8 = 2;

impl Stopper {
    /// Asks it to say goodbye to the network and to end, within 2 s.
    pub fn stop(&self) {
        self.ask(LEAVE);
    }

    /// Asks it to end at once, without a word, like a crash.
    pub fn halt(&self) {
        self.ask(HALT);
    }

    fn ask(&self, what: u8) {
        self.asked.fetch_max(what, Ordering::Relaxed);
        if let Err(error) = self.waker.wake() {
            log::warn!("cannot wake the loop: {error}");
        }
    }
}
