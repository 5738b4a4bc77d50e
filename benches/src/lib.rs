//! What a datagram, a signature and a table cost: criterion benches of the core.
//!
//! `cargo bench -p strandline-benches` runs all of them; `-- NAME` those whose name contains it. This library owns the
//! fixtures that they share: identities, signed records, contacts. Everything is made from constants, so that two runs
//! measure the same work.

pub mod network;

use core::net::{Ipv4Addr, SocketAddr};

use strandline_core::addr::PackedAddr;
use strandline_core::crypto::{Crypto, Ed25519, PublicKey, SecretKey};
use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::wire::datagram::Contact;
use strandline_core::wire::record::{Draft, Kind};
use strandline_core::wire::{NetworkId, RECORD_LEN_MAX};

/// A user with its keys.
pub struct Author {
    /// Its secret key.
    pub secret: SecretKey,
    /// Its public key.
    pub public: PublicKey,
    /// Its id.
    pub user: UserId,
}

/// The `n`th user.
#[must_use]
pub fn author(n: u64) -> Author {
    let secret = SecretKey::from_bytes(Ed25519::hash("bench/user", &[&n.to_be_bytes()]));
    let public = Ed25519::public_key(&secret);
    Author {
        user: UserId::of_key::<Ed25519>(&public),
        secret,
        public,
    }
}

/// The network of the benches.
#[must_use]
pub fn network() -> NetworkId {
    NetworkId::of_name::<Ed25519>("bench")
}

/// The `n`th contact: an id spread evenly, an address of its own.
#[must_use]
pub fn contact(n: u32) -> Contact {
    let id = NodeId::from_bytes(Ed25519::hash("bench/node", &[&n.to_be_bytes()]));
    let [_, b, c, d] = n.to_be_bytes();
    let addr = SocketAddr::from((Ipv4Addr::new(10, b, c, d), 7827));
    Contact {
        id,
        addr: PackedAddr::from(addr),
    }
}

/// A signed `Value` record of `author` at `key`, with a payload of `len` bytes; empty when `len` is over the limit.
#[must_use]
pub fn value(author: &Author, key: Key, sequence: u64, len: usize) -> Vec<u8> {
    let draft = Draft {
        kind: Kind::Value,
        key,
        author: author.user,
        subject: None,
        page: 0,
        sequence,
        issued_ms: 0,
        lifetime_ms: 3_600_000,
    };
    let mut buf = vec![0; RECORD_LEN_MAX];
    let payload = vec![0x5a; len];
    let len = draft
        .sign::<Ed25519>(
            &payload,
            &author.secret,
            &author.public,
            network(),
            &mut buf,
        )
        .unwrap_or(0);
    buf.truncate(len);
    buf
}
