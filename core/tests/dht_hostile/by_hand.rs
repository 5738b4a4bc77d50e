//! One node, and peers that the tests play: their datagrams and records are made by hand.

use std::net::SocketAddr;

use strandline_core::addr::PackedAddr;
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::dht::{Dht, Owner};
use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::plan::Plan;
use strandline_core::rng::{Rng, Seed};
use strandline_core::time::Instant;
use strandline_core::wire::datagram::{Body, Contact, Datagram, NO_TOKEN, Token, Transaction};
use strandline_core::wire::record::{Draft, Kind};
use strandline_core::wire::{DATAGRAM_LEN_MAX, NetworkId};

pub const NETWORK: NetworkId = NetworkId(*b"test");
pub const NOW: Instant = Instant::from_s(1_000);
pub const WITHIN_MS: u32 = 10_000;

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

pub fn public_node<P: Plan>() -> Dht<P> {
    node::<P>("44.0.0.1:7827")
}

pub fn node<P: Plan>(listen: &str) -> Dht<P> {
    let mut dht = Dht::<P>::EMPTY;
    let secret = SecretKey::from_bytes([1; 32]);
    dht.start(
        NOW,
        &secret,
        Rng::from_seed(&Seed([2; 32])),
        NETWORK,
        addr(listen),
    );
    dht
}

pub fn encode(sender: NodeId, transaction: Transaction, token: Token, body: Body<'_>) -> Vec<u8> {
    let mut buf = [0; DATAGRAM_LEN_MAX];
    let datagram = Datagram {
        transaction,
        sender,
        token,
        body,
    };
    let len = datagram.encode(NETWORK, &mut buf).unwrap();
    buf[..len].to_vec()
}

/// Everything that the node wants to send now.
pub fn sent<P: Plan>(dht: &mut Dht<P>) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut buf = [0; DATAGRAM_LEN_MAX];
    let mut all = Vec::new();
    while let Some((to, len)) = dht.poll_send(&mut buf) {
        all.push((to, buf[..len].to_vec()));
    }
    all
}

pub fn decode(bytes: &[u8]) -> Datagram<'_> {
    Datagram::decode(bytes, NETWORK).unwrap()
}

pub fn observed(at: SocketAddr) -> PackedAddr {
    PackedAddr::from(at)
}

/// A peer that the tests play.
pub struct Peer {
    pub id: NodeId,
    pub addr: SocketAddr,
    /// What the node under test gave it.
    pub token: Token,
}

impl Peer {
    pub fn new(n: u8, at: &str) -> Self {
        Self {
            id: id(n),
            addr: addr(at),
            token: NO_TOKEN,
        }
    }

    /// Sends a request and returns the answer's body as `read` sees it, and what else was sent.
    pub fn ask<P: Plan, T>(
        &mut self,
        dht: &mut Dht<P>,
        now: Instant,
        body: Body<'_>,
        read: impl Fn(&Body<'_>) -> T,
    ) -> (Option<T>, Vec<(SocketAddr, Vec<u8>)>) {
        let bytes = encode(self.id, [9; 8], self.token, body);
        assert!(dht.handle_datagram(now, self.addr, &bytes).is_none());
        let mut rest = sent(dht);
        let at = rest
            .iter()
            .position(|(to, bytes)| *to == self.addr && decode(bytes).transaction == [9; 8]);
        let answer = at.map(|at| rest.remove(at)).map(|(_, bytes)| {
            let datagram = decode(&bytes);
            assert_eq!(datagram.body.observed(), Some(observed(self.addr)));
            self.token = datagram.token;
            read(&datagram.body)
        });
        (answer, rest)
    }

    pub fn reply<P: Plan>(&self, dht: &mut Dht<P>, now: Instant, request: &[u8], body: Body<'_>) {
        let transaction = decode(request).transaction;
        let bytes = encode(self.id, transaction, [7; 8], body);
        assert!(dht.handle_datagram(now, self.addr, &bytes).is_none());
    }

    pub fn pong<P: Plan>(&self, dht: &mut Dht<P>, now: Instant, request: &[u8]) {
        let body = Body::Pong {
            observed: observed(addr("44.0.0.1:7827")),
            proof: None,
        };
        self.reply(dht, now, request, body);
    }

    pub fn found<P: Plan>(
        &self,
        dht: &mut Dht<P>,
        now: Instant,
        request: &[u8],
        named: &[Contact],
    ) {
        let contacts: Vec<u8> = named
            .iter()
            .flat_map(|contact| contact.to_bytes())
            .collect();
        self.reply(dht, now, request, found(&[], &contacts, false));
    }
}

pub fn found<'a>(records: &'a [u8], contacts: &'a [u8], more: bool) -> Body<'a> {
    let observed = observed(addr("44.0.0.1:7827"));
    Body::Found {
        observed,
        more,
        spilled: false,
        records,
        contacts,
    }
}

/// Lets the node join through a peer that names `named` to each question. Returns the datagrams to others.
pub fn join_through<P: Plan>(
    dht: &mut Dht<P>,
    peer: &Peer,
    named: &[Contact],
) -> Vec<(SocketAddr, Vec<u8>)> {
    dht.join(NOW, peer.addr, Owner::Timeline(1), WITHIN_MS)
        .unwrap();
    let mut others = Vec::new();
    for _ in 0..1_000 {
        let all = sent(dht);
        if all.is_empty() {
            return others;
        }
        for (to, bytes) in all {
            if to != peer.addr {
                others.push((to, bytes));
                continue;
            }
            match decode(&bytes).body {
                Body::Ping { .. } => peer.pong(dht, NOW, &bytes),
                Body::FindNode { .. } => peer.found(dht, NOW, &bytes, named),
                other => panic!("{other:?}"),
            }
        }
    }
    panic!("it goes on for ever");
}

pub fn contact(n: u8, at: &str) -> Contact {
    Contact {
        id: id(n),
        addr: PackedAddr::from(addr(at)),
    }
}

pub fn value(author: u8, payload: &[u8]) -> Vec<u8> {
    record(author, Kind::Value, Key::from_bytes([1; 32]), payload)
}

pub fn record(author: u8, kind: Kind, key: Key, payload: &[u8]) -> Vec<u8> {
    signed(author, kind, key, 5, payload)
}

/// A record of author 5 at the usual key.
pub fn sequence(sequence: u64, payload: &[u8]) -> Vec<u8> {
    signed(5, Kind::Value, Key::from_bytes([1; 32]), sequence, payload)
}

pub fn signed(author: u8, kind: Kind, key: Key, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let secret = SecretKey::from_bytes([author; 32]);
    let public = Ed25519::public_key(&secret);
    let draft = Draft {
        kind,
        key,
        author: UserId::of_key::<Ed25519>(&public),
        subject: None,
        page: 0,
        sequence,
        issued_ms: 0,
        lifetime_ms: 60 * 60 * 1000,
    };
    let mut buf = [0; 1000];
    let len = draft
        .sign::<Ed25519>(payload, &secret, &public, NETWORK, &mut buf)
        .unwrap();
    buf[..len].to_vec()
}
