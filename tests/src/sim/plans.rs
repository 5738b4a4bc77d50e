//! The plans of simulated nodes, and which cryptography a world runs on.
//!
//! Owns no tables: they are those of the real plans, so that what is seen in a large world with stand-in signatures is
//! what the real tables do.

use std::fmt;

use strandline_core::crypto::Ed25519;
use strandline_core::overlay::{self, Width};
use strandline_core::plan::{
    Board, BoardRing, BoardTable, Server, ServerRing, ServerTable, TimelineAlone,
};

use super::crypto::StandIn;
use super::widths::Given;

/// A board.
pub type RealBoard = Board<Ed25519, BoardTable<Given>>;
/// A server.
pub type RealServer = Server<Ed25519, ServerTable<Given>>;
/// A board with stand-in cryptography.
pub type SimBoard = Board<StandIn, BoardTable<Given>>;
/// A board for its timeline alone, with stand-in cryptography.
pub type SimTimelineBoard = Board<StandIn, BoardTable<Given>, TimelineAlone>;
/// A server with stand-in cryptography.
pub type SimServer = Server<StandIn, ServerTable<Given>>;

/// A board on a Chord ring.
pub type ChordBoard = Board<Ed25519, BoardRing<Given>>;
/// A server on a Chord ring.
pub type ChordServer = Server<Ed25519, ServerRing<Given>>;
/// A board on a Chord ring, with stand-in cryptography.
pub type SimChordBoard = Board<StandIn, BoardRing<Given>>;
/// A server on a Chord ring, with stand-in cryptography.
pub type SimChordServer = Server<StandIn, ServerRing<Given>>;

/// The ring of which the paper gives path lengths: one successor, one question at a time, one next node in a reply. The
/// node before the key names its own predecessors beside the owner, who lead nowhere.
#[derive(Clone, Copy, Debug)]
pub struct Narrow;

impl Width for Narrow {
    fn k() -> usize {
        Given::k()
    }

    fn alpha() -> usize {
        1
    }

    fn replication() -> usize {
        Given::replication()
    }

    fn successors() -> usize {
        1
    }

    fn named_behind() -> usize {
        1
    }

    fn named_far() -> usize {
        1
    }
}

/// A server on such a ring, with stand-in cryptography.
pub type SimNarrowServer = Server<StandIn, ServerRing<Narrow>>;

/// Which overlay all nodes of a world are in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overlay {
    /// Kademlia, as everywhere else.
    #[default]
    Kademlia,
    /// Chord.
    Chord,
    /// Chord with one of each, see [`Narrow`]: for measuring path lengths, of servers with stand-in cryptography.
    NarrowChord,
}

impl Overlay {
    /// See [`overlay::Overlay::MARK`].
    #[must_use]
    pub const fn mark(self) -> [u8; 4] {
        match self {
            Self::Kademlia => <ServerTable<Given> as overlay::Overlay>::MARK,
            Self::Chord | Self::NarrowChord => <ServerRing<Given> as overlay::Overlay>::MARK,
        }
    }
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kademlia => "Kademlia",
            Self::Chord => "Chord",
            Self::NarrowChord => "Chord with one successor and one next node",
        })
    }
}

/// Which plan's tables a node has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// [`Board`]: everything in place, for 64 KiB of RAM.
    Board,
    /// The same for its timeline alone, without storage: what the firmware runs. In Kademlia with stand-in cryptography.
    TimelineBoard,
    /// [`Server`]: on the heap, growing up to bounds.
    Server,
}

impl Kind {
    /// Whether it has a board's tables.
    #[must_use]
    pub const fn is_board(self) -> bool {
        matches!(self, Self::Board | Self::TimelineBoard)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Board => "board",
            Self::TimelineBoard => "timeline board",
            Self::Server => "server",
        })
    }
}

/// Which cryptography all nodes of a world use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cryptography {
    /// Ed25519 and SHA-512/256, as everywhere else.
    #[default]
    Real,
    /// [`StandIn`]: for large worlds.
    StandIn,
}

impl fmt::Display for Cryptography {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Real => "real (Ed25519, SHA-512/256)",
            Self::StandIn => "stand-in (a keyed mixer, no security)",
        })
    }
}
