//! Sending: turning intentions into bytes, when they are polled.
//!
//! Owns the order in which they go, replies before requests, and the bytes of requests. Invariant: a request whose
//! purpose is gone by then is not sent, and counts as one that brought nothing.

use core::net::SocketAddr;

use crate::bounded::{Blobs, Handle};
use crate::id::Key;
use crate::overlay::Overlay;
use crate::plan::Plan;
use crate::rpc::{Pending, Tag};
use crate::wire::PING_LEN;
use crate::wire::datagram::{Body, HAVE_ROOM};

use super::Dht;
use super::ops::{Job, Op};

/// Bytes of a `Ping` without its padding.
const PING_HEAD_LEN: usize = 5 + 8 + 32 + 8 + 1 + 1 + 1 + 1;

impl<P: Plan> Dht<P> {
    /// The next datagram to send: where to, and its length in `buf`, which needs
    /// [`DATAGRAM_LEN_MAX`](crate::wire::DATAGRAM_LEN_MAX) bytes; with less, what does not fit is dropped.
    #[inline(never)] // Shorter on a board than inside its caller.
    pub fn poll_send(&mut self, buf: &mut [u8]) -> Option<(SocketAddr, usize)> {
        loop {
            // Without room for it the first of the others goes first.
            self.acknowledge();
            let Some(reply) = self.replies.pop_front() else {
                break;
            };
            if let Some(to) = reply.to.to_socket_addr()
                && let Some(len) = self.encode_reply(&reply, buf)
            {
                return Some((to, len));
            }
        }
        while let Some(pending) = self.rpc.pop_outgoing() {
            if let Some(to) = pending.peer.addr.to_socket_addr()
                && let Some(len) = self.encode_request(&pending, buf)
            {
                return Some((to, len));
            }
            // What it was for is gone.
            self.rpc.withdraw(pending.transaction);
            self.give_up(&pending);
            self.run();
        }
        None
    }

    /// The bytes of a request; `None` when what it was for is gone.
    fn encode_request(&self, pending: &Pending, buf: &mut [u8]) -> Option<usize> {
        let mut told = [0; HAVE_ROOM];
        let pad = [0; PING_LEN - PING_HEAD_LEN];
        let ping = |leaving| Body::Ping {
            leaving,
            challenge: None,
            pad: &pad,
        };
        let body = match pending.tag {
            Tag::Probe | Tag::Bootstrap | Tag::Validate { .. } => ping(false),
            Tag::Bye { .. } => ping(true),
            Tag::Neighbours if P::Overlay::RING => Body::FindNode {
                target: self.own_key(),
            },
            Tag::Ask { visit } | Tag::Page { visit, .. } => {
                let (op, target) = self.op_of(visit)?;
                let page = if let Tag::Page { after, .. } = pending.tag {
                    Some(after)
                } else {
                    None
                };
                if let Job::Get(get) = &op.job {
                    Body::Get {
                        key: *target,
                        kinds: get.kinds.0,
                        after: page.unwrap_or(0),
                        limit: u8::MAX,
                    }
                } else if page.is_none() {
                    Body::FindNode { target: *target }
                } else {
                    return None;
                }
            }
            Tag::Put { visit } => {
                let Job::Put(put) = &self.op_of(visit)?.0.job else {
                    return None;
                };
                let passed_ms = self.now.since_ms(put.begun);
                Body::Put {
                    depth: put.depth,
                    spilled: false,
                    age_ms: 0,
                    remaining_ms: put.remaining_ms.saturating_sub(passed_ms),
                    record: self.parked.get(put.record)?,
                }
            }
            Tag::Send { visit } if Self::TOOLKIT => {
                let op = self.op_of(visit)?.0;
                let Job::Send(letter) = &op.job else {
                    return None;
                };
                Body::Send {
                    key: Some(op.target),
                    bytes: self.parked.get(letter.blob)?,
                }
            }
            Tag::Have => Body::Have {
                told: self.write_told(&mut told)?,
            },
            Tag::Cache { copy } if Self::CACHES => self.copy_to_leave(copy)?,
            Tag::HandOver { record } | Tag::Repair { record } => {
                let held = self.records.get(self.now, record)?;
                Body::Put {
                    depth: held.depth,
                    spilled: held.spilled,
                    age_ms: held.age_ms,
                    remaining_ms: held.remaining_ms,
                    record: held.bytes,
                }
            }
            // This plan makes none.
            Tag::Send { .. } | Tag::Neighbours | Tag::Cache { .. } => return None,
        };
        self.seal(pending.transaction, pending.peer.token, body, buf)
    }

    /// The operation of a visit, and what the visit looks up.
    fn op_of(&self, visit: Handle) -> Option<(&Op<P>, &Key)> {
        let visit = self.visits.get(visit)?;
        let op = self.ops.get(visit.op)?;
        Some((op, visit.lookup.target()))
    }
}
