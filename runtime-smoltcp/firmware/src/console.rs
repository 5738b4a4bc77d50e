//! The console: lines in and lines out, on the board's serial line. Owns the words of both. Prints what the node's application hears, without
//! the machinery of `core::fmt`, which would cost flash.
//!
//! Every line out begins with what it is; `begun N` and `ended N …` frame what a command brought.

use core::marker::PhantomData;
use core::net::{IpAddr, SocketAddr};

use strandline_core::drive::{Application, Handler};
use strandline_core::name::{FINGERPRINT_CHARS_SHOWN, Fingerprint, Name};
use strandline_core::node::Node;
use strandline_core::output::{Event, Outcome, Person, Unreached, Via};
use strandline_core::plan::Plan;
use strandline_core::time::Instant;

use crate::Hardware;

/// Longest line in: a post of the longest, and its command.
const LINE_LEN_MAX: usize = strandline_core::wire::TEXT_LEN_MAX + 16;

/// A line that is being typed.
pub struct Line {
    bytes: [u8; LINE_LEN_MAX],
    len: usize,
}

impl Line {
    /// Nothing yet.
    pub const EMPTY: Self = Self {
        bytes: [0; LINE_LEN_MAX],
        len: 0,
    };

    /// Takes what was typed, up to the end of a line; a line that is too long is cut.
    pub fn poll<H: Hardware>(&mut self) -> Option<&str> {
        let len = loop {
            let byte = H::received()?;
            if byte != b'\n' && byte != b'\r' {
                if let Some(place) = self.bytes.get_mut(self.len) {
                    *place = byte;
                    self.len += 1;
                }
            } else if self.len > 0 {
                break core::mem::take(&mut self.len);
            }
        };
        let line = self.bytes.get(..len).unwrap_or_default();
        Some(core::str::from_utf8(line).unwrap_or_default())
    }
}

/// The way out. Any number of them write to the same line.
#[derive(Clone, Copy)]
pub struct Console<H>(PhantomData<H>);

impl<H: Hardware> Console<H> {
    /// It needs no start.
    pub const OPEN: Self = Self(PhantomData);

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        bytes.iter().for_each(|byte| H::send(*byte));
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// A text of somebody else's on one line.
    fn quoted(self, text: &str) -> Self {
        for byte in text.bytes() {
            self.bytes(&[if byte < b' ' { b' ' } else { byte }]);
        }
        self
    }

    /// A decimal number after a space.
    pub(crate) fn number(self, value: u64) -> Self {
        self.text(" ").digits(value)
    }

    fn digits(self, value: u64) -> Self {
        let mut digits = [0; 20];
        let mut rest = value;
        let mut begin = digits.len();
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            let [low, ..] = (rest % 10).to_le_bytes();
            *digit = b'0' + low;
            rest /= 10;
            begin = at;
            if rest == 0 {
                break;
            }
        }
        self.bytes(digits.get(begin..).unwrap_or_default())
    }

    /// A name with its fingerprint, after a space.
    pub(crate) fn person(self, name: Name, user: &strandline_core::id::UserId) -> Self {
        let fingerprint = Fingerprint::of(user, FINGERPRINT_CHARS_SHOWN);
        let named = self.text(" ").text(name.as_str());
        named.text("~").text(fingerprint.as_str())
    }

    /// An address and port, after a space.
    pub(crate) fn addr(self, addr: SocketAddr) -> Self {
        let mut separator = " ";
        if let IpAddr::V4(ip) = addr.ip() {
            for byte in ip.octets() {
                self.text(separator).digits(byte.into());
                separator = ".";
            }
        }
        self.text(":").digits(addr.port().into())
    }

    pub(crate) fn end(self) {
        self.bytes(b"\n");
    }

    fn of(self, person: &Person) -> Self {
        self.person(person.name, &person.user)
    }
}

impl<H: Hardware> Handler for Console<H> {
    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Post {
                query,
                author,
                seq,
                text,
                via,
                ..
            } => {
                let line = self.text("post").number(query.0).of(&author).number(seq);
                let line = match via {
                    Via::Own => line.text(" self"),
                    Via::Author => line.text(" author"),
                    Via::Replica(name) => line.text(" replica:").text(name.as_str()),
                };
                line.text(" ").quoted(text).end();
            }
            Event::Missing {
                query,
                author,
                reason,
            } => self
                .text("missing")
                .number(query.0)
                .of(&author)
                .text(unreached(reason))
                .end(),
            Event::QueryDone { query, outcome } => self.ended(query.0, outcome),
            Event::Recovered { next } => self.text("recovered").number(next).end(),
            Event::Forked => self.text("forked").end(),
            Event::NeighbourUp { addr, .. } => self.text("up").addr(addr).end(),
            Event::NeighbourDown { .. } => self.text("down").end(),
            // What no command of this console asks for, and what would be said too often.
            Event::Message(_)
            | Event::ResponsibilityChanged { .. }
            | Event::RangeChanged { .. }
            | Event::KeyGained { .. }
            | Event::KeyLost { .. }
            | Event::Contact { .. }
            | Event::Value { .. }
            | Event::Answer { .. }
            | Event::Person { .. }
            | Event::Profile { .. }
            | Event::StorageFailed => {}
        }
    }
}

impl<P: Plan, H: Hardware> Application<P> for Console<H> {
    /// Commands come from elsewhere.
    fn act(&mut self, _now: Instant, _node: &mut Node<P>) -> Option<Instant> {
        None
    }
}

impl<H: Hardware> Console<H> {
    fn ended(self, query: u64, outcome: Outcome) {
        let line = self.text("ended").number(query);
        let stored = |line: Self, accepted: u8, wanted: u8| {
            line.number(accepted.into()).number(wanted.into())
        };
        let line = match outcome {
            Outcome::Joined { contacts } => line.text(" joined").number(contacts.into()),
            Outcome::Posted { seq, .. } => line.text(" posted").number(seq),
            Outcome::Stored { accepted, wanted } => stored(line.text(" stored"), accepted, wanted),
            Outcome::Followed {
                person,
                accepted,
                wanted,
                ..
            } => stored(line.text(" followed").of(&person), accepted, wanted),
            Outcome::Read { complete: true } => line.text(" complete"),
            Outcome::Read { complete: false } => line.text(" incomplete"),
            Outcome::Found { count, .. } => line.text(" found").number(count.into()),
            Outcome::NotFound => line.text(" not-found"),
            Outcome::Ambiguous => line.text(" ambiguous"),
            Outcome::TimedOut => line.text(" timed-out"),
            Outcome::Full => line.text(" full"),
            Outcome::Left => line.text(" left"),
            Outcome::Older { .. } => line.text(" older"),
            Outcome::Delivered { .. } => line.text(" delivered"),
            Outcome::StorageFailed => line.text(" storage-failed"),
        };
        line.end();
    }
}

/// Why somebody was not read.
fn unreached(reason: Unreached) -> &'static str {
    match reason {
        Unreached::Invalid => " invalid",
        _ => " unreached",
    }
}
