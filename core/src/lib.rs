//! The sans-I/O heart of Strandline: a Kademlia DHT and, on top of it, a decentralised timeline.
//!
//! This crate decides everything and does nothing: no sockets, no clock, no threads, no randomness of its own. A host
//! hands in what happened ([`Node`](node::Node)'s inputs) and carries out what comes back ([`Output`](output::Output)). The
//! same state machine runs in the mio server, on boards with 64 KiB of RAM, and by the thousand in the simulator.
//!
//! # The loop
//! After any input, call [`poll_output`](node::Node::poll_output) until it says `Wait`; then wait for the next input or for
//! that time. A host with nothing but a UDP socket (no streams, no storage) is this:
//!
#![cfg_attr(feature = "alloc", doc = "```no_run")]
#![cfg_attr(not(feature = "alloc"), doc = "```ignore")]
//! # use std::{io, net::UdpSocket, time::Duration};
//! # use strandline_core::{node::Node, output::{Output, OUTPUT_LEN_MAX}, plan::Server, time::Instant};
//! fn run(node: &mut Node<Server>, socket: &UdpSocket) -> io::Result<()> {
//!     let start = std::time::Instant::now();
//!     let now = || Instant::from_us(start.elapsed().as_micros() as u64);
//!     let (mut datagram, mut out) = ([0; 2048], [0; OUTPUT_LEN_MAX]);
//!     loop {
//!         let deadline = loop {
//!             match node.poll_output(&mut out) {
//!                 Output::Send { to, bytes } => drop(socket.send_to(bytes, to)),
//!                 Output::Event(event) => println!("{event:?}"),
//!                 Output::Persist { id, .. } => node.persisted(now(), id),
//!                 Output::Open { stream, .. } => node.stream_closed(now(), stream),
//!                 Output::Write { .. } | Output::Close { .. } => {}
//!                 Output::Wait(deadline) => break deadline,
//!             }
//!         };
//!         let pause = deadline.map(|t| Duration::from_micros(t.since_us(now()).max(1)));
//!         socket.set_read_timeout(pause)?;
//!         match socket.recv_from(&mut datagram) {
//!             Ok((len, from)) => node.handle_datagram(now(), from, &datagram[..len]),
//!             Err(_) => node.handle_timeout(now()),
//!         }
//!     }
//! }
//! ```
//!
//! [`drive::drain`] is that inner loop for hosts that do have streams and storage.
//!
//! # Starting a node
//! [`Node::unstarted`](node::Node::unstarted) (it may be a `static`), [`start`](node::Node::start) with an
//! [`Identity`](config::Identity), a [`Seed`](rng::Seed) and a [`Config`](config::Config);
//! [`set_clock`](node::Node::set_clock) if there is a clock; [`restored`](node::Node::restored) for each entry of
//! storage and [`restored_all`](node::Node::restored_all); then [`join`](node::Node::join).
//!
//! # Memory
//! A [`Plan`](plan::Plan) names the type and capacity of every table. `Board` keeps them in place, `Server` on the
//! heap; neither grows beyond its bounds, and what happens at a bound stands at the method that can meet it.
//!
//! # Features
//! * `alloc` (default): the `Server` plan, on hashbrown and `Vec`. Without it nothing here allocates.
//!
//! How to build something on it is in [`embedding`]; every byte on the wire is described in `PROTOCOL.md`, the layers in
//! `ARCHITECTURE.md`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod addr;
pub mod bounded;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod dht;
pub mod drive;
#[cfg(feature = "alloc")]
#[doc = include_str!("../EMBEDDING.md")]
pub mod embedding {}
pub mod id;
pub mod lookup;
pub mod name;
pub mod node;
pub mod output;
pub mod overlay;
pub mod plan;
pub mod records;
pub mod rng;
pub mod rpc;
pub mod rules;
pub mod time;
pub mod timeline;
pub mod wire;

/// The README's examples, compiled.
#[cfg(all(doctest, feature = "alloc"))]
#[doc = include_str!("../../README.md")]
mod readme {}
