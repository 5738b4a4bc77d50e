//! A small network in memory: real nodes, no delay, no loss.
//!
//! Owns the nodes and what is under way between them. It exists to fill a node's tables the way they fill in life, by
//! joining; then one node is taken out and measured.

use core::net::{Ipv4Addr, SocketAddr};
use std::collections::VecDeque;

use strandline_core::config::{Config, Identity};
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::name::{Name, NameError};
use strandline_core::node::Node;
use strandline_core::output::{OUTPUT_LEN_MAX, Output, Restored};
use strandline_core::plan::Server;
use strandline_core::rng::Seed;
use strandline_core::time::Instant;

use crate::network;

/// Nodes, and datagrams under way.
pub struct Network {
    /// The time that all of them are told.
    pub now: Instant,
    nodes: Vec<Node<Server>>,
    wakes: Vec<Option<Instant>>,
    under_way: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
}

/// The address of the `n`th node.
#[must_use]
pub fn addr(n: usize) -> SocketAddr {
    let [.., c, d] = n.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, 0, c, d), 7827))
}

impl Network {
    /// `count` nodes that have joined through the first and had a minute to settle.
    ///
    /// # Errors
    /// Never: the one name used is valid.
    pub fn joined(count: usize) -> Result<Self, NameError> {
        let mut network = Self {
            now: Instant::from_s(1),
            nodes: Vec::new(),
            wakes: Vec::new(),
            under_way: VecDeque::new(),
        };
        for n in 0..count {
            network.add(n)?;
            network.run_ms(100);
        }
        network.run_ms(60_000);
        Ok(network)
    }

    fn add(&mut self, n: usize) -> Result<(), NameError> {
        let secret = |what: &str| SecretKey::from_bytes(Ed25519::hash(what, &[&n.to_be_bytes()]));
        let identity = Identity {
            user: secret("bench/user"),
            node: secret("bench/node"),
            name: Name::parse("bench")?,
        };
        let mut config = Config::new(network(), addr(n));
        config.refresh_ms = 0;
        let mut node = Node::unstarted();
        let seed = Seed(Ed25519::hash("bench/seed", &[&n.to_be_bytes()]));
        let started = node.start(self.now, identity, &seed, &config);
        assert_eq!(started, Ok(()));
        assert_eq!(node.restored_all(self.now, Restored::Fresh), Ok(()));
        if n > 0 {
            assert!(node.join(self.now, addr(0), 5_000).is_ok());
        }
        self.nodes.push(node);
        self.wakes.push(None);
        self.drain(n);
        Ok(())
    }

    /// Carries out what a node wants. Streams are refused, storage writes at once.
    fn drain(&mut self, n: usize) {
        let mut buf = [0; OUTPUT_LEN_MAX];
        let Some(node) = self.nodes.get_mut(n) else {
            return;
        };
        loop {
            match node.poll_output(&mut buf) {
                Output::Send { to, bytes } => {
                    self.under_way.push_back((addr(n), to, bytes.to_vec()));
                }
                Output::Open { stream, .. } => node.stream_closed(self.now, stream),
                Output::Persist { id, .. } => node.persisted(self.now, id),
                Output::Write { .. } | Output::Close { .. } | Output::Event(_) => {}
                Output::Wait(wake) => {
                    if let Some(at) = self.wakes.get_mut(n) {
                        *at = wake;
                    }
                    return;
                }
            }
        }
    }

    /// Lets so many milliseconds pass.
    pub fn run_ms(&mut self, ms: u64) {
        let end = self.now.after_ms(ms);
        while self.now < end {
            while let Some((from, to, bytes)) = self.under_way.pop_front() {
                let Some(n) = (0..self.nodes.len()).find(|&n| addr(n) == to) else {
                    continue;
                };
                if let Some(node) = self.nodes.get_mut(n) {
                    node.handle_datagram(self.now, from, &bytes);
                }
                self.drain(n);
            }
            let next = self.wakes.iter().flatten().min().copied().unwrap_or(end);
            self.now = next.clamp(self.now.after_us(1), end);
            for n in 0..self.nodes.len() {
                if self
                    .wakes
                    .get(n)
                    .is_some_and(|wake| wake.is_some_and(|at| at <= self.now))
                {
                    if let Some(node) = self.nodes.get_mut(n) {
                        node.handle_timeout(self.now);
                    }
                    self.drain(n);
                }
            }
        }
    }

    /// Takes the first node out, with all that it has learned.
    #[must_use]
    pub fn into_first(self) -> Option<Node<Server>> {
        self.nodes.into_iter().next()
    }
}
