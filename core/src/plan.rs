//! The memory plan of a node: every table's type, on one page.
//!
//! A [`Plan`] is the one type parameter of a node. It names the cryptography, the overlay and, for each table, a
//! container with its capacity. [`Board`] keeps everything in place, for 64 KiB of RAM; `Server` (feature `alloc`)
//! grows on the heap up to bounds. Storage is chosen by type, never by Cargo feature, so that both kinds live in one
//! program. Invariant: whatever a plan says, protocol and behaviour are the same; only how much fits differs.

use crate::crypto::{Crypto, Ed25519};

/// Cryptography, overlay and tables of a node.
pub trait Plan: Sized + 'static {
    /// Hash, signatures.
    type Crypto: Crypto;
}

/// Everything in place, no allocator: for boards with 64 KiB of RAM.
#[derive(Debug)]
pub enum Board {}

impl Plan for Board {
    type Crypto = Ed25519;
}

/// On the heap, growing on demand up to bounds: for servers and desktops.
#[cfg(feature = "alloc")]
#[derive(Debug)]
pub enum Server {}

#[cfg(feature = "alloc")]
impl Plan for Server {
    type Crypto = Ed25519;
}
