//! A Strandline node on a server or desktop: one thread, one [`mio::Poll`], SQLite for what must last.
//!
//! The state machine is `strandline_core`'s; this crate does its I/O. A program that hosts a node opens a [`Home`], opens
//! a [`Host`] on it, and [runs](Host::run) it. The command line `strandline` is such a program. A running node is spoken
//! to through the control socket in its home (HTTP and JSON, see [`control`]).
//!
//! ```no_run
//! use strandline_mio::{Home, Host, Options};
//!
//! # fn main() -> Result<(), strandline_mio::Failure> {
//! let home = Home::open("/tmp/alice".as_ref())?;
//! let options = Options {
//!     name: Some("alice".into()),
//!     join: vec!["seed.example.org:7827".into()],
//!     ..Options::default()
//! };
//! let mut host = Host::open(home, &options)?;
//! host.handle_signals()?;
//! host.run(&mut ()) // until SIGINT or SIGTERM
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod answer;
pub mod clock;
pub mod command;
pub mod control;
pub mod desk;
pub mod entrance;
pub mod failure;
pub mod home;
pub mod host;
pub mod http;
pub mod logging;
pub mod net;
pub mod ntp;
pub mod options;
pub mod resolve;
#[cfg(test)]
mod scratch;
mod start;
pub mod status;
pub mod store;
pub mod streams;

pub use failure::{Exit, Failure};
pub use home::Home;
pub use host::{Application, Host, Ready, Stopper, Waker};
pub use options::Options;
