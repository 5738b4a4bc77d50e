//! A Strandline node on [`smoltcp`], for boards: sockets, time and wake-ups around a
//! [`Node`](strandline_core::node::Node), without an allocator.
//!
//! A [`Stack`] drives a node over any smoltcp [`Device`](smoltcp::phy::Device). The host calls [`Stack::poll`] whenever a
//! frame may have come and when the time has come that the last call named, and sleeps in between. Each call does a
//! bounded amount of work. Everything lives in memory that the host gives: [`Memory`] and [`Sockets`].
//!
//! ```no_run
//! # use smoltcp::{phy::Device, wire::{EthernetAddress, HardwareAddress}};
//! # use strandline_core::{node::Node, plan::Board, rng::Seed, time::Instant};
//! use strandline_smoltcp::{Addresses, Memory, Settings, Sockets, Stack, sockets_for};
//!
//! # fn clock() -> Instant { Instant::ZERO }
//! # fn sleep_until_a_frame_or(_: Option<Instant>) {}
//! # fn run(node: &mut Node<Board>, mut device: impl Device) {
//! const CONNECTIONS: usize = 5;
//! let mut memory = Memory::<CONNECTIONS>::EMPTY;
//! let mut sockets = Sockets::<{ sockets_for(CONNECTIONS) }>::new();
//! let settings = Settings {
//!     hardware: HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 1])),
//!     port: 7827,
//!     addresses: Addresses::Fixed {
//!         own: &[("192.0.2.7".parse().unwrap(), 24)],
//!         routers: &["192.0.2.1".parse().unwrap()],
//!     },
//!     time_server: None,
//!     seed: Seed([0; 32]), // Draw it!
//! };
//! // `node` has been started. `()` is an application that does nothing.
//! let mut stack =
//!     Stack::new(clock(), &mut device, &mut memory, &mut sockets, node, (), &settings).unwrap();
//! loop {
//!     let wake = stack.poll(clock(), &mut device);
//!     sleep_until_a_frame_or(wake);
//! }
//! # }
//! ```
//!
//! `BRING-YOUR-OWN-BOARD.md`, beside this crate's `Cargo.toml`, says step by step what a board needs, how large it will be and
//! how to size a plan; `firmware/` runs on two.
//!
//! # Storage
//! There is none: what the node wants to keep is acknowledged and dropped. So the node is to be started with
//! [`Durability::Holders`](strandline_core::config::Durability::Holders), under which a post counts as durable once others
//! hold it, and after a reset with [`Restored::Lost`](strandline_core::output::Restored::Lost).
//!
//! # Links and addresses
//! On each of these, nodes join, follow, post and read each other in `tests/network/`:
//! * Ethernet frames under IPv4 (with ARP) or IPv6 (with neighbour discovery), and IP packets of up to 1,280 bytes under either;
//! * fixed addresses, also with a router between them;
//! * on Ethernet an IPv4 address that a DHCP server gave, and renews. If it refuses to, or is silent until the lease has run out,
//!   the node has no address ([`Stack::addresses`]) and sends nothing until it is given another, and is found under that one as
//!   soon as it has told others, which takes minutes;
//! * addresses of both families. A node tells others of one, though: that of
//!   [`Config::listen`](strandline_core::config::Config::listen), or if that is unspecified, the one that they see it under.
//!   Who lacks its family exchanges datagrams with it, but reads its posts only from somebody whom both can reach.
//!
//! Under IPv6 the stations of one /64 are one source to those who limit what a source may have stored and open (16 records and 2
//! streams with [`Board`](strandline_core::plan::Board)): among more than a few boards in one, some writes reach fewer holders than
//! wanted. Under IPv4 each address is one.
//!
//! IPv6 addresses and routers are always fixed: routers' advertisements (RFC 4861, RFC 4862) are not heard, there is no DHCPv6, and
//! nobody is told when two have the same address. Fragments are dropped; the node sends none.
//!
//! # Features
//! * `ethernet` (default), `ip`: what the device carries
//! * `ipv4` (default), `ipv6`: under which addresses nodes are reached
//! * `dhcp`: `Addresses::Dhcp`
//!
//! Any of them can be built in together; which of them a stack uses, its device and [`Settings`] say.
#![no_std]
#![forbid(unsafe_code)]

mod connections;
mod convert;
mod lanes;
mod memory;
mod net;
mod ntp;
mod stack;

pub use lanes::LANES;
pub use memory::{BUFFER_LEN_MIN, Memory, Sockets, sockets_for};
pub use net::Counters;
pub use ntp::{ANSWER_WITHIN_MS, ASK_EVERY_MS};
pub use stack::{Addresses, FRAMES_PER_POLL, Settings, SetupError, Stack};
