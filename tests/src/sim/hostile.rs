//! Hostile peers: what a stranger can do that knows the protocol and has keys of its own.
//!
//! Owns the strangers' half of a few exchanges, on raw datagrams; a stranger is no node and keeps no promise.

use std::net::SocketAddr;

use strandline_core::crypto::{Crypto, PublicKey, SecretKey};
use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::name::Name;
use strandline_core::plan::{Plan, Server};
use strandline_core::wire::PING_LEN;
use strandline_core::wire::datagram::{Body, Datagram, NO_TOKEN, PutOutcome, Token};
use strandline_core::wire::frame::Frame;
use strandline_core::wire::record::{Claim, Draft, Kind as RecordKind};

use super::clock::unix_ms;
use super::machine::{Program, Setup, Stranger};
use super::plans::{Cryptography, Kind, SimServer};
use super::scenario::secs;
use super::streams::{ConnId, Side};
use super::world::{HostId, World};

/// A user that no node has.
#[derive(Clone, Debug)]
pub struct Forger {
    /// Its secret key.
    pub secret: SecretKey,
    /// Its public key.
    pub public: PublicKey,
    /// Its id.
    pub user: UserId,
}

impl World {
    /// Makes a user that no node has.
    pub fn forger(&mut self) -> Forger {
        fn of<C: Crypto>(secret: SecretKey) -> Forger {
            let public = C::public_key(&secret);
            Forger {
                secret,
                public,
                user: UserId::of_key::<C>(&public),
            }
        }
        let secret = SecretKey::from_bytes(self.nodes_random.bytes_32());
        match self.cryptography() {
            Cryptography::Real => of::<<Server as Plan>::Crypto>(secret),
            Cryptography::StandIn => of::<<SimServer as Plan>::Crypto>(secret),
        }
    }

    /// Signs a record with a user's key, whatever the draft says.
    ///
    /// # Panics
    /// If the payload does not fit.
    #[must_use]
    pub fn sign(&self, draft: &Draft, payload: &[u8], by: &Forger) -> Vec<u8> {
        let mut buf = [0; 1_024];
        let (secret, public, network) = (&by.secret, &by.public, self.network_id());
        let len = match self.cryptography() {
            Cryptography::Real => {
                draft.sign::<<Server as Plan>::Crypto>(payload, secret, public, network, &mut buf)
            }
            Cryptography::StandIn => draft
                .sign::<<SimServer as Plan>::Crypto>(payload, secret, public, network, &mut buf),
        };
        match len {
            Some(len) => buf[..len].to_vec(),
            None => panic!("a record of a test does not fit: {draft:?}"),
        }
    }

    /// Signs a value of a forger's own.
    #[must_use]
    pub fn sign_value(&self, by: &Forger, key: Key, sequence: u64, value: &[u8]) -> Vec<u8> {
        let draft = Draft {
            kind: RecordKind::Value,
            key,
            author: by.user,
            subject: None,
            page: 0,
            sequence,
            issued_ms: unix_ms(self.now_us()),
            lifetime_ms: 3_600_000,
        };
        self.sign(&draft, value, by)
    }

    /// Signs a claim to a name.
    ///
    /// # Panics
    /// If that is no name.
    #[must_use]
    pub fn sign_claim(&self, by: &Forger, name: &str) -> Vec<u8> {
        let Ok(name) = Name::parse(name) else {
            panic!("{name:?} is no name")
        };
        let key = match self.cryptography() {
            Cryptography::Real => Key::of_name::<<Server as Plan>::Crypto>(&name),
            Cryptography::StandIn => Key::of_name::<<SimServer as Plan>::Crypto>(&name),
        };
        let issued_ms = unix_ms(self.now_us());
        let draft = Draft {
            kind: RecordKind::Claim,
            key,
            author: by.user,
            subject: None,
            page: 0,
            sequence: issued_ms,
            issued_ms,
            lifetime_ms: 24 * 3_600_000,
        };
        // As old as can be: squatters lie.
        let claim = Claim {
            name,
            first_claimed_ms: 1,
        };
        let mut buf = [0; 1_024];
        let (secret, public, network) = (&by.secret, &by.public, self.network_id());
        let len = match self.cryptography() {
            Cryptography::Real => draft.sign_payload::<<Server as Plan>::Crypto, _>(
                &claim, secret, public, network, &mut buf,
            ),
            Cryptography::StandIn => draft.sign_payload::<<SimServer as Plan>::Crypto, _>(
                &claim, secret, public, network, &mut buf,
            ),
        };
        buf[..len.unwrap_or(0)].to_vec()
    }

    /// What a stranger says as a node: a body under an id and a transaction.
    #[must_use]
    pub fn say(&self, stranger: HostId, token: Token, transaction: u64, body: Body<'_>) -> Vec<u8> {
        let mut id = [0xA5; 32];
        id[..4].copy_from_slice(&stranger.0.to_be_bytes());
        self.encode(&Datagram {
            transaction: transaction.to_be_bytes(),
            sender: NodeId::from_bytes(id),
            token,
            body,
        })
    }

    /// A stranger pings nodes and learns its tokens for them, in their order; `None` for those that stay silent.
    pub fn tokens(&mut self, stranger: HostId, nodes: &[HostId]) -> Vec<Option<Token>> {
        let body = |pad| Body::Ping {
            leaving: false,
            challenge: None,
            pad,
        };
        let bare = self.say(stranger, NO_TOKEN, 1, body(&[])).len();
        let ping = self.say(stranger, NO_TOKEN, 1, body(&[0; PING_LEN][bare..]));
        for node in nodes {
            self.send_raw(stranger, *node, &ping);
        }
        self.run_for(secs(2));
        let network = self.network_id();
        let replies = self.take_datagrams(stranger);
        let token_of = |addr: SocketAddr| {
            replies
                .iter()
                .filter(|(from, _)| *from == addr)
                .find_map(|(_, bytes)| {
                    let datagram = Datagram::decode(bytes, network).ok()?;
                    matches!(datagram.body, Body::Pong { .. }).then_some(datagram.token)
                })
        };
        nodes
            .iter()
            .map(|node| token_of(self.machine(*node).addr))
            .collect()
    }

    /// A stranger puts a record at nodes, with the tokens that it has; what they said, in the order of their answers.
    pub fn put_raw(
        &mut self,
        stranger: HostId,
        nodes: &[(HostId, Token)],
        record: &[u8],
    ) -> Vec<String> {
        let body = Body::Put {
            depth: 0,
            spilled: false,
            age_ms: 0,
            remaining_ms: 3_000_000,
            record,
        };
        for (node, token) in nodes {
            let put = self.say(stranger, *token, 2, body);
            self.send_raw(stranger, *node, &put);
        }
        self.run_for(secs(1));
        let network = self.network_id();
        let replies = self.take_datagrams(stranger);
        let said = replies.iter().filter_map(|(_, bytes)| {
            let datagram = Datagram::decode(bytes, network).ok()?;
            match datagram.body {
                Body::Stored {
                    outcome: PutOutcome::Stored,
                    ..
                } => Some("stored".to_owned()),
                Body::Stored {
                    outcome: PutOutcome::Older { .. },
                    ..
                } => Some("older".to_owned()),
                Body::Stored {
                    outcome: PutOutcome::Full,
                    ..
                } => Some("full".to_owned()),
                Body::Stored {
                    outcome: PutOutcome::Refused,
                    ..
                } => Some("refused".to_owned()),
                Body::Denied { reason, .. } => Some(format!("denied: {reason:?}")),
                _ => None,
            }
        });
        said.collect()
    }

    /// Adds a machine without a node, from which a test sends what it likes.
    pub fn stranger(&mut self, listens: bool) -> HostId {
        let host = self.add_machine(Setup::new(Kind::Server));
        self.machine_mut(host.0).program = Program::Stranger(Stranger {
            listens,
            ..Stranger::default()
        });
        host
    }

    /// Lets a stranger leave unread what comes over its streams.
    pub fn stall(&mut self, stranger: HostId) {
        if let Program::Stranger(stranger) = &mut self.machine_mut(stranger.0).program {
            stranger.stalls = true;
        }
    }

    /// Puts a stranger in the place of a node: its address now speaks raw bytes.
    pub fn replace_by_stranger(&mut self, host: HostId, listens: bool) {
        self.crash(host);
        self.machine_mut(host.0).incarnation += 1;
        self.machine_mut(host.0).program = Program::Stranger(Stranger {
            listens,
            ..Stranger::default()
        });
    }

    /// Sends a datagram from a machine, through the network's conditions.
    pub fn send_raw(&mut self, from: HostId, to: HostId, bytes: &[u8]) {
        let (source, target) = (self.machine(from).addr, self.machine(to).addr);
        self.launch(from.0, source, target, bytes.into());
    }

    /// Sends a datagram from a machine under another's address.
    pub fn send_spoofed(&mut self, from: HostId, source: SocketAddr, to: HostId, bytes: &[u8]) {
        let target = self.machine(to).addr;
        self.launch(from.0, source, target, bytes.into());
    }

    /// The datagrams that came to a stranger since the last call.
    pub fn take_datagrams(&mut self, stranger: HostId) -> Vec<(SocketAddr, Vec<u8>)> {
        match &mut self.machine_mut(stranger.0).program {
            Program::Stranger(stranger) => std::mem::take(&mut stranger.datagrams),
            Program::Node(_) | Program::Stopped | Program::Vanished => Vec::new(),
        }
    }

    /// Encodes a datagram of this world's network.
    ///
    /// # Panics
    /// If it does not fit.
    #[must_use]
    pub fn encode(&self, datagram: &Datagram<'_>) -> Vec<u8> {
        let mut buf = [0; 1_200];
        match datagram.encode(self.network_id(), &mut buf) {
            Some(len) => buf[..len].to_vec(),
            None => panic!("a datagram of a test does not fit: {datagram:?}"),
        }
    }

    /// Encodes a frame of this world's network, with its prefix.
    ///
    /// # Panics
    /// If it does not fit.
    #[must_use]
    pub fn encode_frame(&self, frame: &Frame<'_>) -> Vec<u8> {
        let mut buf = [0; 1_100];
        match frame.encode(self.network_id(), &mut buf) {
            Some(len) => buf[..len].to_vec(),
            None => panic!("a frame of a test does not fit: {frame:?}"),
        }
    }

    /// A stranger begins to connect.
    ///
    /// # Panics
    /// If the stranger has used up its names.
    pub fn connect_raw(&mut self, stranger: HostId, to: HostId) -> ConnId {
        let target = self.machine(to).addr;
        let conn = self.connect_stranger(stranger.0, target);
        conn.unwrap_or_else(|| panic!("{stranger} could not connect"))
    }

    /// A stranger that connected writes.
    pub fn write_raw(&mut self, conn: ConnId, bytes: &[u8]) {
        self.write(conn, Side::Opener, bytes);
    }

    /// A stranger that connected closes.
    pub fn close_raw(&mut self, conn: ConnId) {
        self.finish_end(conn, Side::Opener);
    }

    /// What came to a stranger that connected, so far, and whether that is all.
    #[must_use]
    pub fn read_raw(&self, conn: ConnId) -> (Vec<u8>, bool) {
        self.read_end(conn, Side::Opener)
    }

    /// The same for a stranger that accepted.
    #[must_use]
    pub fn read_raw_accepted(&self, conn: ConnId) -> (Vec<u8>, bool) {
        self.read_end(conn, Side::Accepter)
    }

    fn read_end(&self, conn: ConnId, side: Side) -> (Vec<u8>, bool) {
        let Some(conn) = self.streams.get(conn) else {
            return (Vec::new(), true);
        };
        let end = conn.end(side);
        (end.inbox.clone(), end.eof)
    }
}
