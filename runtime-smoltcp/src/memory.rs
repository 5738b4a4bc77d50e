//! What a stack lives in, given by the host. Owns the buffers' sizes. Invariant: [`Memory::EMPTY`] is all zero, so that a
//! `static` of it lies in `.bss`; what smoltcp makes otherwise is in [`Sockets`].

use smoltcp::iface::SocketStorage;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata};
use strandline_core::wire::{DATAGRAM_LEN_MAX, FRAME_LEN_MAX, FRAME_PREFIX_LEN};

use crate::connections::Connection;
use crate::lanes::LANES;

/// The least room in bytes that a connection has in each direction: one frame of the longest.
pub const BUFFER_LEN_MIN: usize = FRAME_LEN_MAX + FRAME_PREFIX_LEN;
/// Room in bytes for an answer of a time server.
pub(crate) const TIME_LEN: usize = 64;
/// Sockets beside those of the connections: one that receives datagrams, one that asks for the time, one for DHCP.
const SOCKETS_BESIDE: usize = LANES + 3;

/// smoltcp's places for sockets and datagrams of a [`Stack`](crate::Stack), [`sockets_for`] its connections.
///
/// Empty ones are not zero: in a `static` they would take as much flash as RAM. Make them when the program starts.
#[derive(Debug)]
pub struct Sockets<'a, const SOCKETS: usize> {
    pub(crate) places: [SocketStorage<'a>; SOCKETS],
    pub(crate) about: About,
}

/// What smoltcp knows of each datagram that is in memory.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) received: Metadata,
    pub(crate) lanes: [Metadata; LANES],
    /// From a time server, and to it.
    pub(crate) time: [Metadata; 2],
}

/// Of one datagram.
pub(crate) type Metadata = [PacketMetadata; 1];

/// Room for one datagram.
pub(crate) type Room<'a> = (&'a mut Metadata, &'a mut [u8]);

/// smoltcp's name for room for a datagram, or for none.
pub(crate) fn packets(room: Option<Room<'_>>) -> PacketBuffer<'_> {
    let (about, bytes) = match room {
        Some((about, bytes)) => (&mut about[..], bytes),
        None => Default::default(),
    };
    PacketBuffer::new(about, bytes)
}

impl<const SOCKETS: usize> Sockets<'_, SOCKETS> {
    /// No sockets.
    #[must_use]
    #[inline(never)] // So that it is made where it is to lie.
    pub fn new() -> Self {
        const NONE: Metadata = [PacketMetadata::EMPTY];
        Self {
            places: [SocketStorage::EMPTY; SOCKETS],
            about: About {
                received: NONE,
                lanes: [NONE; LANES],
                time: [NONE; 2],
            },
        }
    }
}

impl<const SOCKETS: usize> Default for Sockets<'_, SOCKETS> {
    fn default() -> Self {
        Self::new()
    }
}

/// How many places for sockets a stack with so many connections needs.
#[must_use]
pub const fn sockets_for(connections: usize) -> usize {
    connections + SOCKETS_BESIDE
}

/// Buffers and tables of a [`Stack`](crate::Stack).
///
/// `CONNECTIONS` is one more than the streams that can be open at a time: the spare one listens. Two at least. `BUFFER` is
/// the room in bytes that each connection has in each direction, [`BUFFER_LEN_MIN`] at least; a peer can have so much on
/// its way, so a long path is faster with more.
#[derive(Debug)]
pub struct Memory<const CONNECTIONS: usize, const BUFFER: usize = BUFFER_LEN_MIN> {
    pub(crate) connections: [Connection; CONNECTIONS],
    pub(crate) buffers: [Buffers<BUFFER>; CONNECTIONS],
    pub(crate) datagram: [u8; DATAGRAM_LEN_MAX],
    pub(crate) lanes: [[u8; DATAGRAM_LEN_MAX]; LANES],
    pub(crate) time: [[u8; TIME_LEN]; 2],
}

/// Both directions of one connection.
#[derive(Debug)]
pub(crate) struct Buffers<const LEN: usize> {
    pub(crate) received: [u8; LEN],
    pub(crate) unsent: [u8; LEN],
}

impl<const CONNECTIONS: usize, const BUFFER: usize> Memory<CONNECTIONS, BUFFER> {
    /// Nothing in it: for a `static`.
    pub const EMPTY: Self = {
        assert!(CONNECTIONS >= 2, "one connection listens, one is used");
        assert!(BUFFER >= BUFFER_LEN_MIN, "a frame must fit");
        Self {
            connections: [const { Connection::EMPTY }; CONNECTIONS],
            buffers: [const {
                Buffers {
                    received: [0; BUFFER],
                    unsent: [0; BUFFER],
                }
            }; CONNECTIONS],
            datagram: [0; DATAGRAM_LEN_MAX],
            lanes: [[0; DATAGRAM_LEN_MAX]; LANES],
            time: [[0; TIME_LEN]; 2],
        }
    };
}
