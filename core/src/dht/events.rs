//! What the DHT tells: notices that wait to be polled, and the results of the application's operations.
//!
//! Owns the queue of notices. Differences of the neighbourhood are not queued but found when polled, so that
//! they merge. Invariant: a result stays in its operation until it was polled; a full queue drops the newest
//! notice and counts it under [`Rule::Full`].

use core::net::SocketAddr;

use crate::bounded::{BlobId, Blobs, Handle, List};
use crate::id::{ID_BYTES, Key, NodeId, UserId};
use crate::output::{Event, Message, Outcome, QueryId};
use crate::overlay::{Neighbour, Overlay, Responsibility};
use crate::plan::Plan;
use crate::rules::Rule;
use crate::wire::datagram::Contact;

use super::Dht;
use super::ops::{Job, OpId, OpResult, Owner};

/// Something to be told.
#[derive(Clone, Copy, Debug)]
pub enum Notice {
    /// A neighbour is gone.
    NeighbourDown(NodeId),
    /// A location came to hold records.
    KeyGained(Key),
    /// A location holds none any more.
    KeyLost(Key),
    /// An application message: its head and its bytes.
    Message(BlobId),
}

impl<P: Plan> Dht<P> {
    /// Queues a notice; a full queue drops it.
    pub(super) fn notify(&mut self, notice: Notice) {
        if self.notices.push_back(notice).is_err() {
            self.dropped.count(Rule::Full);
        }
    }

    /// The next thing to tell: notices first, then the results of the application's operations. `buf` needs
    /// [`MESSAGE_LEN_MAX`](crate::wire::MESSAGE_LEN_MAX) bytes; with less, what does not fit is dropped.
    ///
    /// A message may be [answered](Self::answer) until this or [`poll_send`](Self::poll_send) is called next. While
    /// its reply finds no place there is no next event: [`poll_send`](Self::poll_send) makes one.
    #[inline(never)] // Shorter on a board than inside its caller.
    pub fn poll_event<'b>(&mut self, buf: &'b mut [u8]) -> Option<Event<'b>> {
        while self.acknowledge()
            && let Some(notice) = self.notices.pop_front()
        {
            match notice {
                Notice::NeighbourDown(id) => return Some(Event::NeighbourDown { id }),
                Notice::KeyGained(key) => return Some(Event::KeyGained { key }),
                Notice::KeyLost(key) => return Some(Event::KeyLost { key }),
                Notice::Message(blob) => {
                    if let Some((from, addr, to, len)) = self.show_message(blob, buf) {
                        let bytes = buf.get(..len).unwrap_or_default();
                        return Some(Event::Message(Message {
                            from,
                            addr,
                            to,
                            bytes,
                        }));
                    }
                    self.dropped.count(Rule::Full);
                }
            }
        }
        if self.asked.is_some() {
            return None;
        }
        if let Some(neighbour) = self.overlay.pop_neighbour() {
            match neighbour {
                Neighbour::Up(Contact { id, addr }) => {
                    if let Some(addr) = addr.to_socket_addr() {
                        return Some(Event::NeighbourUp { id, addr });
                    }
                }
                Neighbour::Down(id) => return Some(Event::NeighbourDown { id }),
            }
        }
        match self.overlay.pop_responsibility() {
            Some(Responsibility::Radius { prefix_bits }) => {
                return Some(Event::ResponsibilityChanged { prefix_bits });
            }
            Some(Responsibility::Range { after, last }) => {
                return Some(Event::RangeChanged { after, last });
            }
            None => {}
        }
        self.poll_result(buf)
    }

    /// The next piece of a result of the application's operations.
    fn poll_result<'b>(&mut self, buf: &'b mut [u8]) -> Option<Event<'b>> {
        let handle = self.done_op(|owner| owner == Some(Owner::Application))?;
        let query = OpId::of(handle).query();
        if P::EVERY_COMMAND
            && let Some((contact, hops)) = self.pop_contact_found(handle)
            && let Some(addr) = contact.addr.to_socket_addr()
        {
            return Some(Event::Contact {
                query,
                id: contact.id,
                addr,
                hops,
            });
        }
        if P::EVERY_COMMAND
            && let Some((author, sequence, len)) = self.pop_value(handle, buf)
        {
            let bytes = buf.get(..len).unwrap_or_default();
            if self.is_sent(handle) {
                let from = NodeId::from_bytes(*author.as_bytes());
                return Some(Event::Answer { query, from, bytes });
            }
            return Some(Event::Value {
                query,
                author,
                sequence,
                bytes,
            });
        }
        let outcome = self.ops.get(handle).and_then(|op| match &op.job {
            Job::Done(result) => Some(outcome(result)),
            Job::Join(_)
            | Job::Refresh
            | Job::Find
            | Job::Get(_)
            | Job::Put(_)
            | Job::Send(_)
            | Job::Leave(_) => None,
        });
        self.close(handle);
        outcome.map(|outcome| Event::QueryDone { query, outcome })
    }

    /// Whether an operation that ended was a `send`.
    fn is_sent(&self, op: Handle) -> bool {
        let job = self.ops.get(op).map(|op| &op.job);
        matches!(
            job,
            Some(Job::Done(OpResult::Sent { .. } | OpResult::TimedOut))
        )
    }

    /// Takes the next contact that a finished `find` found, nearest first.
    fn pop_contact_found(&mut self, op: Handle) -> Option<(Contact, u8)> {
        let visit = self.op_visit(op)?;
        let visit = self.visits.get_mut(visit)?;
        let told = usize::from(visit.told);
        let candidate = visit
            .lookup
            .answered_ones()
            .take(P::Overlay::k())
            .nth(told)?;
        visit.told += 1;
        Some((candidate.contact, candidate.hops))
    }

    /// Takes the next value that a finished `get` found: author, sequence, and the length of what was copied.
    fn pop_value(&mut self, op: Handle, buf: &mut [u8]) -> Option<(UserId, u64, usize)> {
        loop {
            let at = self.values.iter().position(|value| value.op == op)?;
            let value = self.values.remove(at)?;
            let copied = self.parked.get(value.blob).and_then(|blob| {
                let (author, bytes) = blob.split_first_chunk::<ID_BYTES>()?;
                buf.get_mut(..bytes.len())?.copy_from_slice(bytes);
                Some((UserId::from_bytes(*author), value.sequence, bytes.len()))
            });
            self.parked.remove(value.blob);
            if copied.is_some() {
                return copied;
            }
            self.dropped.count(Rule::Full);
        }
    }

    /// A contact to be written to the host's storage (with an address) or deleted from it (without).
    ///
    /// A bounded number is kept. When it is reached, a newcomer takes the place of one that is no contact any
    /// more; a node that finds nobody keeps those that it knew.
    pub fn poll_contact(&mut self) -> Option<(NodeId, Option<SocketAddr>)> {
        if !self.contacts_changed {
            return None;
        }
        let is_saved = |contact: &Contact| self.saved.iter().any(|saved| saved == contact);
        let new = self
            .overlay
            .entries()
            .iter()
            .find(|entry| !is_saved(&entry.contact));
        let new = new.map(|entry| entry.contact);
        let Some((contact, addr)) = new.and_then(|c| Some((c, c.addr.to_socket_addr()?))) else {
            self.contacts_changed = false;
            return None;
        };
        if self.saved.is_full() || self.saved.iter().any(|saved| saved.id == contact.id) {
            let overlay = &self.overlay;
            let gone = self.saved.iter().position(|saved| {
                saved.id == contact.id
                    || overlay
                        .find(&saved.id)
                        .is_none_or(|entry| entry.contact != *saved)
            });
            let Some(old) = gone.and_then(|at| self.saved.remove(at)) else {
                self.contacts_changed = false;
                return None;
            };
            if old.id != contact.id {
                return Some((old.id, None));
            }
        }
        if self.saved.push(contact).is_err() {
            self.contacts_changed = false;
            return None;
        }
        Some((contact.id, Some(addr)))
    }
}

/// How the result of an operation reads as the outcome of a command.
fn outcome(result: &OpResult) -> Outcome {
    match *result {
        OpResult::Joined { contacts } => Outcome::Joined { contacts },
        OpResult::Left => Outcome::Left,
        OpResult::Found { count: 0, .. } | OpResult::Got { count: 0, .. } => Outcome::NotFound,
        OpResult::Found { count, complete }
        | OpResult::Got {
            count, complete, ..
        } => Outcome::Found { count, complete },
        OpResult::Put {
            accepted, wanted, ..
        } if accepted >= wanted => Outcome::Stored { accepted, wanted },
        OpResult::Put {
            older: Some(sequence),
            ..
        } => Outcome::Older { sequence },
        OpResult::Put { full: true, .. } => Outcome::Full,
        OpResult::Put {
            accepted, wanted, ..
        } => Outcome::Stored { accepted, wanted },
        OpResult::Sent { accepted } => Outcome::Delivered { accepted },
        OpResult::NotFound => Outcome::NotFound,
        OpResult::TimedOut => Outcome::TimedOut,
    }
}

impl OpId {
    /// The command under which the application knows an operation of its own.
    #[must_use]
    pub const fn query(self) -> QueryId {
        QueryId(self.bits() | 1 << 63)
    }
}
