//! Messages between applications: taking one, showing it, and its answer.
//!
//! Owns what a message looks like while it waits, the one whose answer may come now, and what is remembered so that a
//! repeated request is not delivered again, and to whom a visit sends one. Invariants: the reply to a
//! message that was taken is queued once its event was polled and the next output is asked for, and not before; an
//! answer is kept for repetitions only while nothing else needs the room.

use core::net::SocketAddr;

use crate::addr::PackedAddr;
use crate::bounded::{BlobId, Blobs, Handle, List};
use crate::id::{ID_BYTES, Key, NodeId};
use crate::lookup::State;
use crate::output::{AnswerError, Recipient};
use crate::overlay::Overlay;
use crate::plan::{Plan, Uses};
use crate::rpc::Tag;
use crate::rules::Rule;
use crate::wire::MESSAGE_LEN_MAX;
use crate::wire::datagram::{Contact, NO_TOKEN, Transaction};

use super::ops::{Job, OpResult, Owner};
use super::{Dht, Notice, Reply, Value};

/// Bytes of a message's head: sender, address, transaction, key.
const HEAD_LEN: usize = ID_BYTES + 18 + 8 + ID_BYTES;

/// A message that an operation sends; opaque.
#[derive(Clone, Copy, Debug)]
pub struct Letter {
    /// Where it lies.
    pub(super) blob: BlobId,
    /// Only the node whose id the key is may get it.
    pub(super) to_node: bool,
}

/// A message that was taken: its request may be repeated. Opaque, named by memory plans alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recent {
    transaction: Transaction,
    from: PackedAddr,
    /// Its reply was not queued yet.
    waits: bool,
    /// What the application answered, for as long as there is room for it.
    answer: Option<BlobId>,
}

/// What is known about a message besides its bytes.
#[derive(Clone, Copy)]
struct Head {
    from: Contact,
    /// Of the request; of a message that this node sent to itself, the name of the operation.
    transaction: Transaction,
    /// The key that it was sent to; the own id when it is for this very node.
    key: Key,
}

impl Head {
    fn of(blob: &[u8]) -> Option<(Self, &[u8])> {
        let (id, rest) = blob.split_first_chunk::<ID_BYTES>()?;
        let (addr, rest) = rest.split_first_chunk::<18>()?;
        let (transaction, rest) = rest.split_first_chunk::<8>()?;
        let (key, bytes) = rest.split_first_chunk::<ID_BYTES>()?;
        let from = Contact {
            id: NodeId::from_bytes(*id),
            addr: PackedAddr::from_bytes(*addr),
        };
        let transaction = *transaction;
        let head = Self {
            from,
            transaction,
            key: Key::from_bytes(*key),
        };
        Some((head, bytes))
    }

    /// The operation of a message that this node sent to itself.
    const fn op(&self) -> Handle {
        Handle::from_bits(u64::from_be_bytes(self.transaction))
    }
}

impl<P: Plan> Dht<P> {
    /// Whether the program has values, messages and lookups of its own.
    pub(super) const TOOLKIT: bool = P::Uses::TOOLKIT;

    /// Answers the message whose [`Event::Message`](crate::output::Event::Message) was polled last, until the next
    /// output is asked for. A second answer takes the place of the first; an empty one is none.
    ///
    /// The sender gets it with the acknowledgement. It is kept here, to be repeated should that be lost, until later
    /// messages push it out or the room is needed; after that a repeated request is acknowledged without it.
    ///
    /// # Errors
    /// See [`AnswerError`]; the message is acknowledged without an answer then.
    pub fn answer(&mut self, bytes: &[u8]) -> Result<(), AnswerError> {
        let asked = self.asked.and_then(|blob| self.parked.get(blob));
        let Some((head, _)) = asked.and_then(Head::of) else {
            return Err(AnswerError::NoMessage);
        };
        if bytes.len() > MESSAGE_LEN_MAX {
            return Err(AnswerError::TooLong);
        }
        let kept = if head.from.id == self.id {
            let own = self.id;
            self.keep_answer(head.op(), &own, bytes)
        } else {
            self.keep_for_repetition(&head, bytes)
        };
        if kept { Ok(()) } else { Err(AnswerError::Full) }
    }

    /// Takes an application message, once however often its request is repeated: whether it was taken; `None` while
    /// its reply is still to come.
    pub(super) fn on_message(
        &mut self,
        from: &Contact,
        transaction: Transaction,
        key: Option<Key>,
        bytes: &[u8],
    ) -> Option<bool> {
        if let Some(recent) = self.recent_of(&from.addr, &transaction) {
            return (!recent.waits).then_some(true);
        }
        let head = Head {
            from: *from,
            transaction,
            key: key.unwrap_or(Key::from_bytes(*self.id.as_bytes())),
        };
        if !self.take_message(&head, bytes) {
            return Some(false);
        }
        self.remember(Recent {
            transaction,
            from: from.addr,
            waits: true,
            answer: None,
        });
        None
    }

    /// Takes a message of an operation for this node itself: the operation ends once the message was polled. False:
    /// there is no room for it.
    #[inline(never)]
    pub(super) fn deliver_own(&mut self, op: Handle, key: Key, letter: Letter) -> bool {
        let mut bytes = [0; MESSAGE_LEN_MAX];
        let len = self.parked.get(letter.blob).and_then(|message| {
            bytes.get_mut(..message.len())?.copy_from_slice(message);
            Some(message.len())
        });
        let Some(message) = len.and_then(|len| bytes.get(..len)) else {
            return false;
        };
        self.parked.remove(letter.blob);
        let head = Head {
            from: Contact {
                id: self.id,
                addr: self.own_addr().map_or(self.listen, PackedAddr::from),
            },
            transaction: op.to_bits().to_be_bytes(),
            key,
        };
        self.take_message(&head, message)
    }

    /// Sends to the nearest that answered, which may be this node; or to the one node that it is for.
    pub(super) fn work_send(&mut self, handle: Handle, letter: Letter) {
        let visit = self.visits.get(handle).filter(|_| Self::TOOLKIT);
        let Some(visit) = visit else {
            return;
        };
        let mut candidates = visit.lookup.candidates().iter();
        if candidates.clone().any(|c| c.state == State::Working) {
            return;
        }
        let (op, key) = (visit.op, *visit.lookup.target());
        let is_it = |id: &NodeId| id.as_bytes() == key.as_bytes();
        let nearest = candidates
            .find(|c| c.state == State::Answered && (!letter.to_node || is_it(&c.contact.id)))
            .map(|c| c.contact);
        match nearest.filter(|c| self.overlay.is_nearer(&key, &c.id, &self.id)) {
            Some(contact) => {
                self.request_work(handle, &contact, Tag::Send { visit: handle });
            }
            None if letter.to_node && !is_it(&self.id) => self.finish(op, OpResult::NotFound),
            None => {
                // It ends when the message was polled, and needs no visit until then.
                self.drop_visits(op);
                if !self.deliver_own(op, key, letter) {
                    self.finish(op, OpResult::Sent { accepted: false });
                }
            }
        }
    }

    /// Queues a message; false when there is no room.
    fn take_message(&mut self, head: &Head, bytes: &[u8]) -> bool {
        let parts: [&[u8]; 5] = [
            head.from.id.as_bytes(),
            head.from.addr.as_bytes(),
            &head.transaction,
            head.key.as_bytes(),
            bytes,
        ];
        let room = bytes.len() <= MESSAGE_LEN_MAX && !self.notices.is_full();
        let blob = if room { self.park(&parts) } else { None };
        // Room was checked above; should memory lack, the message is not taken.
        let taken = blob.is_some_and(|blob| {
            let taken = self.notices.push_back(Notice::Message(blob)).is_ok();
            if !taken {
                self.parked.remove(blob);
            }
            taken
        });
        if !taken {
            self.dropped.count(Rule::Full);
        }
        taken
    }

    /// Copies a message that was taken to `buf`: sender, address, recipient and length. From now on it may be
    /// answered. `None` when it does not fit.
    pub(super) fn show_message(
        &mut self,
        blob: BlobId,
        buf: &mut [u8],
    ) -> Option<(NodeId, SocketAddr, Recipient, usize)> {
        let message = self.parked.get(blob)?;
        let mut left = [0; HEAD_LEN];
        left.copy_from_slice(message.get(..HEAD_LEN)?);
        let (head, bytes) = Head::of(message)?;
        let len = bytes.len();
        let copied = buf.get_mut(..len).map(|to| to.copy_from_slice(bytes));
        // It becomes shorter: there is room for that.
        let _ = self.parked.replace(blob, &left);
        self.asked = Some(blob);
        copied?;
        let to = if head.key.as_bytes() == self.id.as_bytes() {
            Recipient::Node(self.id)
        } else {
            Recipient::Key(head.key)
        };
        Some((head.from.id, head.from.addr.to_socket_addr()?, to, len))
    }

    /// Ends the time in which a message can be answered: queues the reply, or ends the own operation. False: there is
    /// no room among the replies, which [`poll_send`](Self::poll_send) takes first.
    pub(super) fn acknowledge(&mut self) -> bool {
        let Some(blob) = self.asked.filter(|_| Self::TOOLKIT) else {
            return true;
        };
        if let Some((head, _)) = self.parked.get(blob).and_then(Head::of) {
            if head.from.id == self.id {
                if matches!(
                    self.ops.get(head.op()).map(|op| &op.job),
                    Some(Job::Send(_))
                ) {
                    self.finish(head.op(), OpResult::Sent { accepted: true });
                }
            } else if self.replies.is_full() {
                return false;
            } else {
                self.reply_delivered(head.from.addr, head.transaction);
                let of_it = |r: &&mut Recent| r.is(&head.from.addr, &head.transaction);
                if let Some(recent) = self.recent.iter_mut().find(of_it) {
                    recent.waits = false;
                }
            }
        }
        self.parked.remove(blob);
        self.asked = None;
        true
    }

    /// Queues the acknowledgement of a message; there is room for it.
    fn reply_delivered(&mut self, to: PackedAddr, transaction: Transaction) {
        let (token, _) = self.tokens.check::<P::Crypto>(self.now, &to, NO_TOKEN);
        self.queue(Reply::delivered(to, transaction, token));
    }

    /// What the application answered to a message, if that is still there.
    pub(super) fn answer_to(&self, from: &PackedAddr, transaction: &Transaction) -> &[u8] {
        let recent = self.recent_of(from, transaction);
        let answer = recent.and_then(|recent| self.parked.get(recent.answer?));
        answer.unwrap_or_default()
    }

    /// Keeps the answer to a message of an own operation until it is polled; false when there is no room, or the
    /// operation is gone.
    pub(super) fn keep_answer(&mut self, op: Handle, from: &NodeId, bytes: &[u8]) -> bool {
        self.drop_values(op);
        if bytes.is_empty() {
            return true;
        }
        let asks = self.ops.get(op).is_some_and(|op| {
            let sends = matches!(op.job, Job::Send(_) | Job::Done(OpResult::Sent { .. }));
            sends && op.owner == Some(Owner::Application)
        });
        if !asks {
            return false;
        }
        let blob = self.park(&[from.as_bytes(), bytes]);
        let kept = blob.is_some_and(|blob| {
            let kept = self.values.push(Value::answer(op, blob)).is_ok();
            if !kept {
                self.parked.remove(blob);
            }
            kept
        });
        if !kept {
            self.dropped.count(Rule::Full);
        }
        kept
    }

    /// Keeps the answer to another node's message with what is remembered of it.
    fn keep_for_repetition(&mut self, head: &Head, bytes: &[u8]) -> bool {
        let (from, transaction) = (head.from.addr, head.transaction);
        if self.recent_of(&from, &transaction).is_none() {
            // Others came while it waited.
            self.remember(Recent {
                transaction,
                from,
                waits: true,
                answer: None,
            });
        }
        let earlier = self.recent_mut(&from, &transaction);
        if let Some(earlier) = earlier.and_then(|recent| recent.answer.take()) {
            self.parked.remove(earlier);
        }
        if bytes.is_empty() {
            return true;
        }
        let Some(blob) = self.park(&[bytes]) else {
            return false;
        };
        match self.recent_mut(&from, &transaction) {
            Some(recent) => {
                recent.answer = Some(blob);
                true
            }
            None => {
                self.parked.remove(blob);
                false
            }
        }
    }

    /// Remembers a message, in the place of the oldest when all are taken.
    fn remember(&mut self, recent: Recent) {
        if self.recent.is_full()
            && let Some(Recent {
                answer: Some(blob), ..
            }) = self.recent.remove(0)
        {
            self.parked.remove(blob);
        }
        // Full only when the plan has no places at all.
        let _ = self.recent.push(recent);
    }

    fn recent_of(&self, from: &PackedAddr, transaction: &Transaction) -> Option<&Recent> {
        let mut recent = self.recent.iter();
        recent.find(|recent| recent.is(from, transaction))
    }

    fn recent_mut(&mut self, from: &PackedAddr, transaction: &Transaction) -> Option<&mut Recent> {
        let mut recent = self.recent.iter_mut();
        recent.find(|recent| recent.is(from, transaction))
    }

    /// Keeps bytes until they are removed. Answers kept for repetitions make room.
    pub(super) fn park(&mut self, parts: &[&[u8]]) -> Option<BlobId> {
        self.make_room(parts.iter().map(|part| part.len()).sum());
        self.parked.insert_parts(parts)
    }

    /// Drops answers that are kept for repetitions, oldest first, until so many bytes fit or none is left.
    pub(super) fn make_room(&mut self, len: usize) {
        while !self.parked.fits(len)
            && let Some(blob) = self
                .recent
                .iter_mut()
                .find_map(|recent| recent.answer.take())
        {
            self.parked.remove(blob);
        }
    }
}

impl Recent {
    fn is(&self, from: &PackedAddr, transaction: &Transaction) -> bool {
        self.transaction == *transaction && self.from == *from
    }
}
