//! A node of any plan behind one type, and its every input as one value.
//!
//! Core's contract asks that every input can be written down as one enum, so that a record of them replays a node:
//! [`Input`] is that enum, and [`AnyNode::apply`] the only way in which the simulator speaks to a node.

use std::net::SocketAddr;

use strandline_core::config::{Config, Identity};
use strandline_core::crypto::Crypto;
use strandline_core::drive::{self, Handler, Transport};
use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::name::Handle;
use strandline_core::node::{Node, Stats};
use strandline_core::output::{
    Busy, CommandError, ConfigError, Damaged, PersistId, QueryId, Recipient, Restored, Stored,
    StreamId,
};
use strandline_core::plan::Plan;
use strandline_core::rng::Seed;
use strandline_core::time::Instant;

use super::plans::{
    ChordBoard, ChordServer, Cryptography, Kind, Overlay, RealBoard, RealServer, SimBoard,
    SimChordBoard, SimChordServer, SimNarrowServer, SimServer, SimTimelineBoard,
};
use super::widths::Widths;

/// A node of any plan that can live in a world.
pub struct AnyNode {
    widths: Widths,
    node: OfPlan,
}

/// A node of one of the plans that can live in a world.
pub(super) enum OfPlan {
    /// A board with real cryptography.
    Board(Box<Node<RealBoard>>),
    /// A server with real cryptography.
    Server(Box<Node<RealServer>>),
    /// A board with stand-in cryptography.
    SimBoard(Box<Node<SimBoard>>),
    /// A board for its timeline alone, with stand-in cryptography.
    SimTimelineBoard(Box<Node<SimTimelineBoard>>),
    /// A server with stand-in cryptography.
    SimServer(Box<Node<SimServer>>),
    /// A board on a ring with real cryptography.
    ChordBoard(Box<Node<ChordBoard>>),
    /// A server on a ring with real cryptography.
    ChordServer(Box<Node<ChordServer>>),
    /// A board on a ring with stand-in cryptography.
    SimChordBoard(Box<Node<SimChordBoard>>),
    /// A server on a ring with stand-in cryptography.
    SimChordServer(Box<Node<SimChordServer>>),
    /// A server on a ring with one of each, with stand-in cryptography.
    SimNarrowServer(Box<Node<SimNarrowServer>>),
}

/// Runs one expression on the node, whichever plan it has.
macro_rules! each {
    ($any:expr, $node:ident => $body:expr) => {
        match $any {
            OfPlan::Board($node) => $body,
            OfPlan::Server($node) => $body,
            OfPlan::SimBoard($node) => $body,
            OfPlan::SimTimelineBoard($node) => $body,
            OfPlan::SimServer($node) => $body,
            OfPlan::ChordBoard($node) => $body,
            OfPlan::ChordServer($node) => $body,
            OfPlan::SimChordBoard($node) => $body,
            OfPlan::SimChordServer($node) => $body,
            OfPlan::SimNarrowServer($node) => $body,
        }
    };
}

/// A command of the application.
#[derive(Clone, Debug)]
pub enum Command {
    /// See [`Node::join`].
    Join(SocketAddr),
    /// See [`Node::leave`].
    Leave,
    /// See [`Node::register`].
    Register,
    /// See [`Node::post`].
    Post(String),
    /// See [`Node::follow`].
    Follow(Handle),
    /// See [`Node::unfollow`].
    Unfollow(Handle),
    /// See [`Node::timeline`].
    Timeline(Option<Handle>),
    /// See [`Node::whois`].
    Whois(Handle),
    /// See [`Node::followers`].
    Followers(Option<Handle>),
    /// See [`Node::following`].
    Following(Option<Handle>),
    /// See [`Node::lookup`].
    Lookup(Key),
    /// See [`Node::put`].
    Put {
        /// Where.
        key: Key,
        /// What.
        value: Vec<u8>,
        /// For how long.
        ttl_s: u32,
    },
    /// See [`Node::get`].
    Get(Key),
    /// See [`Node::send`].
    Send {
        /// To the node nearest to this.
        key: Key,
        /// The message.
        bytes: Vec<u8>,
    },
}

/// Everything that can be done to a node.
#[derive(Clone)]
pub enum Input<'i> {
    /// See [`Node::start`].
    Start {
        /// Who it is.
        identity: &'i Identity,
        /// Of its generator.
        seed: &'i Seed,
        /// Its settings.
        config: &'i Config,
    },
    /// See [`Node::set_clock`].
    Clock {
        /// The time of day.
        unix_ms: u64,
        /// How far off it may be.
        uncertainty_ms: u32,
    },
    /// See [`Node::restored`].
    Restored(Stored<'i>),
    /// See [`Node::restored_all`].
    RestoredAll(Restored),
    /// See [`Node::handle_datagram`].
    Datagram {
        /// From where.
        from: SocketAddr,
        /// What.
        bytes: &'i [u8],
    },
    /// See [`Node::handle_timeout`].
    Timeout,
    /// See [`Node::accept_stream`].
    Accept(SocketAddr),
    /// See [`Node::stream_opened`].
    Opened(StreamId),
    /// See [`Node::stream_readable`].
    Readable(StreamId, &'i [u8]),
    /// See [`Node::stream_writable`].
    Writable(StreamId, usize),
    /// See [`Node::stream_closed`].
    Closed(StreamId),
    /// See [`Node::persisted`].
    Persisted(PersistId),
    /// See [`Node::persist_failed`].
    PersistFailed(PersistId),
    /// A command, and how long it may take in ms.
    Command(&'i Command, u32),
}

impl Input<'_> {
    /// The number under which the trace knows this kind of input.
    #[must_use]
    pub const fn tag(&self) -> u8 {
        match self {
            Self::Start { .. } => 0,
            Self::Clock { .. } => 1,
            Self::Restored(_) => 2,
            Self::RestoredAll(_) => 3,
            Self::Datagram { .. } => 4,
            Self::Timeout => 5,
            Self::Accept(_) => 6,
            Self::Opened(_) => 7,
            Self::Readable(..) => 8,
            Self::Writable(..) => 9,
            Self::Closed(_) => 10,
            Self::Persisted(_) => 11,
            Self::PersistFailed(_) => 12,
            Self::Command(..) => 13,
        }
    }
}

/// What a node says to an input at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Nothing: what follows comes out of the drain.
    None,
    /// To [`Input::Start`].
    Started(Result<(), ConfigError>),
    /// To [`Input::Restored`] and [`Input::RestoredAll`].
    Restored(Result<(), Damaged>),
    /// To [`Input::Accept`].
    Accepted(Result<StreamId, Busy>),
    /// To [`Input::Readable`]: how many bytes were taken.
    Consumed(usize),
    /// To [`Input::Command`].
    Begun(Result<QueryId, CommandError>),
}

impl AnyNode {
    /// A node that was not started.
    ///
    /// # Panics
    /// A narrow ring is of servers with stand-in cryptography alone.
    #[must_use]
    pub fn unstarted(
        kind: Kind,
        cryptography: Cryptography,
        overlay: Overlay,
        widths: Widths,
    ) -> Self {
        let node = OfPlan::unstarted(kind, cryptography, overlay);
        Self { widths, node }
    }

    /// The node, for which its widths are entered.
    pub(super) fn of_plan(&self) -> &OfPlan {
        self.widths.enter();
        &self.node
    }

    /// The same, to do something to it.
    pub(super) fn of_plan_mut(&mut self) -> &mut OfPlan {
        self.widths.enter();
        &mut self.node
    }

    /// Does one thing to the node.
    pub fn apply(&mut self, now: Instant, input: &Input<'_>) -> Reply {
        each!(self.of_plan_mut(), node => apply(node, now, input))
    }

    /// Carries out what the node wants done: the one drain loop of core.
    pub fn drain(
        &mut self,
        transport: &mut impl Transport,
        handler: &mut impl Handler,
    ) -> Option<Instant> {
        each!(self.of_plan_mut(), node => drive::drain(node, transport, handler))
    }

    /// Has the node's own memory fetched, see `sim/fetch.rs`.
    pub fn fetch(&self) {
        each!(self.of_plan(), node => super::fetch::fetch(&**node));
    }

    /// See [`Node::user_id`].
    #[must_use]
    pub fn user_id(&self) -> UserId {
        each!(self.of_plan(), node => node.user_id())
    }

    /// See [`Node::node_id`].
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        each!(self.of_plan(), node => node.node_id())
    }

    /// See [`Node::stats`].
    #[must_use]
    pub fn stats(&self) -> Stats {
        each!(self.of_plan(), node => node.stats())
    }

    /// See [`Node::is_responsible`].
    #[must_use]
    pub fn is_responsible(&self, key: &Key) -> bool {
        each!(self.of_plan(), node => node.is_responsible(key))
    }

    /// The addresses of the contacts, see [`Node::peers`].
    #[must_use]
    pub fn peers(&self) -> Vec<(NodeId, SocketAddr)> {
        each!(self.of_plan(), node => node.peers().map(|peer| (peer.id, peer.addr)).collect())
    }
}

impl OfPlan {
    fn unstarted(kind: Kind, cryptography: Cryptography, overlay: Overlay) -> Self {
        fn new<P: Plan>() -> Box<Node<P>> {
            Box::new(Node::unstarted())
        }
        match (overlay, kind, cryptography) {
            (Overlay::Kademlia, Kind::Board, Cryptography::Real) => Self::Board(new()),
            (Overlay::Kademlia, Kind::Server, Cryptography::Real) => Self::Server(new()),
            (Overlay::Kademlia, Kind::Board, Cryptography::StandIn) => Self::SimBoard(new()),
            (Overlay::Kademlia, Kind::TimelineBoard, Cryptography::StandIn) => {
                Self::SimTimelineBoard(new())
            }
            (_, Kind::TimelineBoard, _) => {
                panic!("a board for its timeline alone is in Kademlia, with stand-in cryptography")
            }
            (Overlay::Kademlia, Kind::Server, Cryptography::StandIn) => Self::SimServer(new()),
            (Overlay::Chord, Kind::Board, Cryptography::Real) => Self::ChordBoard(new()),
            (Overlay::Chord, Kind::Server, Cryptography::Real) => Self::ChordServer(new()),
            (Overlay::Chord, Kind::Board, Cryptography::StandIn) => Self::SimChordBoard(new()),
            (Overlay::Chord, Kind::Server, Cryptography::StandIn) => Self::SimChordServer(new()),
            (Overlay::NarrowChord, Kind::Server, Cryptography::StandIn) => {
                Self::SimNarrowServer(new())
            }
            (Overlay::NarrowChord, Kind::Board, _)
            | (Overlay::NarrowChord, _, Cryptography::Real) => {
                panic!("a narrow ring is of servers with stand-in cryptography")
            }
        }
    }
}

/// The hash of a world's cryptography, for what the simulator derives itself.
#[must_use]
pub fn hash(cryptography: Cryptography, domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    match cryptography {
        Cryptography::Real => <RealServer as Plan>::Crypto::hash(domain, parts),
        Cryptography::StandIn => <SimServer as Plan>::Crypto::hash(domain, parts),
    }
}

fn apply<P: Plan>(node: &mut Node<P>, now: Instant, input: &Input<'_>) -> Reply {
    match input {
        Input::Start {
            identity,
            seed,
            config,
        } => {
            return Reply::Started(node.start(now, (*identity).clone(), seed, config));
        }
        Input::Clock {
            unix_ms,
            uncertainty_ms,
        } => node.set_clock(now, *unix_ms, *uncertainty_ms),
        Input::Restored(item) => return Reply::Restored(node.restored(now, *item)),
        Input::RestoredAll(how) => return Reply::Restored(node.restored_all(now, *how)),
        Input::Datagram { from, bytes } => node.handle_datagram(now, *from, bytes),
        Input::Timeout => node.handle_timeout(now),
        Input::Accept(from) => return Reply::Accepted(node.accept_stream(now, *from)),
        Input::Opened(stream) => node.stream_opened(now, *stream),
        Input::Readable(stream, bytes) => {
            return Reply::Consumed(node.stream_readable(now, *stream, bytes));
        }
        Input::Writable(stream, room) => node.stream_writable(now, *stream, *room),
        Input::Closed(stream) => node.stream_closed(now, *stream),
        Input::Persisted(up_to) => node.persisted(now, *up_to),
        Input::PersistFailed(id) => node.persist_failed(now, *id),
        Input::Command(command, within_ms) => {
            return Reply::Begun(begin(node, now, command, *within_ms));
        }
    }
    Reply::None
}

fn begin<P: Plan>(
    node: &mut Node<P>,
    now: Instant,
    command: &Command,
    within_ms: u32,
) -> Result<QueryId, CommandError> {
    match command {
        Command::Join(addr) => node.join(now, *addr, within_ms),
        Command::Leave => node.leave(now, within_ms),
        Command::Register => node.register(now, within_ms),
        Command::Post(text) => node.post(now, text),
        Command::Follow(handle) => node.follow(now, handle, within_ms),
        Command::Unfollow(handle) => node.unfollow(now, handle, within_ms),
        Command::Timeline(whose) => node.timeline(now, whose.as_ref(), within_ms),
        Command::Whois(handle) => node.whois(now, handle, within_ms),
        Command::Followers(whose) => node.followers(now, whose.as_ref(), within_ms),
        Command::Following(whose) => node.following(now, whose.as_ref(), within_ms),
        Command::Lookup(key) => node.lookup(now, *key, within_ms),
        Command::Put { key, value, ttl_s } => node.put(now, *key, value, *ttl_s, within_ms),
        Command::Get(key) => node.get(now, *key, within_ms),
        Command::Send { key, bytes } => node.send(now, Recipient::Key(*key), bytes, within_ms),
    }
}
