//! The trace of a world: one number over every input and output of every node, in order.
//!
//! Two runs with one number did the same things at the same times with the same bytes. It is no cryptographic hash:
//! nobody is trying to forge it. The invariant: integers only, so that debug and release, and every machine, agree.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::net::SocketAddr;

use strandline_core::addr::PackedAddr;
use strandline_core::drive::{Handler, Transport};
use strandline_core::output::{Event, PersistId, Stored, StreamId};

use super::node::{Input, Reply};
use super::random::scramble;

/// A running hash of everything that happened.
#[derive(Clone, PartialEq, Eq)]
pub struct Trace {
    lanes: [u64; 2],
    entries: u64,
}

impl Trace {
    /// A trace of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lanes: [0x5354_5241_4e44_4c49, 0x4e45_5452_4143_4531],
            entries: 0,
        }
    }

    /// Adds a number.
    pub fn number(&mut self, n: u64) {
        let [a, b] = self.lanes;
        let a = (a ^ n).wrapping_mul(0x9fb2_1c65_1e98_df25);
        self.lanes = [b.rotate_left(23) ^ (a >> 32) ^ n, a.wrapping_add(b)];
    }

    /// Adds bytes with their length, so that neighbours cannot run into each other.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.number(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(chunks.remainder()) {
            *to = *from;
        }
        self.number(u64::from_le_bytes(last));
    }

    /// Begins an entry: what kind of thing, at which time, at which node.
    pub fn entry(&mut self, tag: u8, at_us: u64, host: u32) {
        self.entries += 1;
        self.number(at_us);
        self.number((u64::from(host) << 8) | u64::from(tag));
    }

    /// How many entries were added.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// The hash so far.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let [a, b] = self.lanes;
        scramble(scramble(a ^ self.entries) ^ b)
    }
}

impl Trace {
    /// Adds an input to a node.
    pub fn input(&mut self, now_us: u64, host: u32, input: &Input<'_>) {
        self.entry(input.tag(), now_us, host);
        match input {
            Input::Datagram { from, bytes } => {
                self.addr(*from);
                self.bytes(bytes);
            }
            Input::Readable(stream, bytes) => {
                self.number(stream.0);
                self.bytes(bytes);
            }
            Input::Accept(from) => self.addr(*from),
            Input::Opened(stream) | Input::Closed(stream) => self.number(stream.0),
            Input::Writable(stream, room) => {
                self.number(stream.0);
                self.number(*room as u64);
            }
            Input::Persisted(id) | Input::PersistFailed(id) => self.number(id.0),
            Input::Clock {
                unix_ms,
                uncertainty_ms,
            } => {
                self.number(*unix_ms);
                self.number(u64::from(*uncertainty_ms));
            }
            Input::Restored(item) => {
                self.number(item.class as u64);
                self.bytes(item.key);
                self.bytes(item.value.unwrap_or_default());
            }
            Input::Command(command, within_ms) => {
                self.bytes(format!("{command:?}").as_bytes());
                self.number(u64::from(*within_ms));
            }
            Input::Start {
                identity,
                seed,
                config,
            } => {
                self.bytes(identity.user.expose_bytes());
                self.bytes(&seed.0);
                self.bytes(format!("{config:?}").as_bytes());
            }
            Input::RestoredAll(how) => self.number(*how as u64),
            Input::Timeout => {}
        }
    }

    /// Adds what a node answered at once.
    pub fn reply(&mut self, reply: &Reply) {
        match reply {
            Reply::None => {}
            Reply::Consumed(len) => self.number(*len as u64),
            Reply::Accepted(Ok(stream)) => self.number(stream.0),
            Reply::Begun(Ok(query)) => self.number(query.0),
            Reply::Started(_) | Reply::Restored(_) | Reply::Accepted(_) | Reply::Begun(_) => {
                self.bytes(format!("{reply:?}").as_bytes());
            }
        }
    }

    fn addr(&mut self, addr: SocketAddr) {
        self.bytes(PackedAddr::from(addr).as_bytes());
    }
}

/// The trace of a node's outputs: a [`Transport`] and [`Handler`] that hashes and keeps nothing, and allocates nothing.
#[derive(Debug, Default)]
pub struct Outputs(RefCell<Trace>);

impl Outputs {
    /// The hash so far.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.0.borrow().digest()
    }

    /// How many outputs there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.borrow().entries()
    }

    fn entry(&self, tag: u8, add: impl FnOnce(&mut Trace)) {
        let mut trace = self.0.borrow_mut();
        trace.entry(tag, 0, 0);
        add(&mut trace);
    }
}

impl Transport for &Outputs {
    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.entry(0, |trace| {
            trace.addr(to);
            trace.bytes(bytes);
        });
    }

    fn open(&mut self, stream: StreamId, to: SocketAddr) {
        self.entry(1, |trace| {
            trace.number(stream.0);
            trace.addr(to);
        });
    }

    fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        self.entry(2, |trace| {
            trace.number(stream.0);
            trace.bytes(bytes);
        });
    }

    fn close(&mut self, stream: StreamId) {
        self.entry(3, |trace| trace.number(stream.0));
    }

    fn persist(&mut self, id: PersistId, item: Stored<'_>) {
        self.entry(4, |trace| {
            trace.number(id.0);
            trace.number(item.class as u64);
            trace.bytes(item.key);
            trace.number(u64::from(item.value.is_some()));
            trace.bytes(item.value.unwrap_or_default());
        });
    }
}

impl Handler for &Outputs {
    fn on_event(&mut self, event: Event<'_>) {
        self.entry(5, |trace| {
            // Writing to a trace cannot fail.
            let _: fmt::Result = write!(Words(trace), "{event:?}");
        });
    }
}

/// Hashes text piece by piece, without a buffer.
struct Words<'t>(&'t mut Trace);

impl fmt::Write for Words<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.0.bytes(piece.as_bytes());
        Ok(())
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.digest())
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({self}, {} entries)", self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::Trace;

    fn of(pieces: &[&[u8]]) -> u64 {
        let mut trace = Trace::new();
        for piece in pieces {
            trace.bytes(piece);
        }
        trace.digest()
    }

    #[test]
    fn order_bytes_and_boundaries_all_count() {
        let whole = of(&[b"hello", b"world"]);
        assert_eq!(whole, of(&[b"hello", b"world"]));
        for other in [
            of(&[b"world", b"hello"]),
            of(&[b"hellow", b"orld"]),
            of(&[b"hello"]),
            of(&[b"hello", b"worle"]),
            of(&[b"hello", b"world", b""]),
            of(&[b"hello\0", b"world"]),
        ] {
            assert_ne!(whole, other);
        }
    }

    #[test]
    fn every_bit_of_a_long_message_counts() {
        let message = [7_u8; 100];
        let original = of(&[&message]);
        for bit in 0..800 {
            let mut changed = message;
            if let Some(byte) = changed.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            assert_ne!(original, of(&[&changed]), "bit {bit}");
        }
    }
}
