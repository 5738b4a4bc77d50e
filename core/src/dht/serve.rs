//! Answering requests, and turning intentions into bytes.
//!
//! Owns the queue of replies: each is an intention, encoded when polled. Invariants: to an address that did not
//! prove itself by a token goes nothing but `Pong` or `Denied`, which are shorter than any request; a request that
//! finds the queue full changes nothing.

use core::net::SocketAddr;

use crate::addr::{PackedAddr, source_of};
use crate::bounded::{Blobs, Handle, List};
use crate::crypto::Crypto;
use crate::id::Key;
use crate::lookup::Lookup;
use crate::overlay::{Heard, K, Overlay};
use crate::plan::Plan;
use crate::records::{Offer, PutError, RecordId};
use crate::rpc::{Peer, Pending, Tag};
use crate::rules::Rule;
use crate::wire::datagram::{
    Body, CONTACT_LEN, Contact, Datagram, Denial, HAVE_ROOM, Proof, PutOutcome, Token, Transaction,
};
use crate::wire::record::{Kinds, Record};
use crate::wire::{DATAGRAM_LEN_MAX, PING_LEN, REQUEST_LEN_MIN};

use super::ops::Job;
use super::{Dht, Notice};

/// Bytes of a `Found` reply besides records and contacts.
const FOUND_HEAD_LEN: usize = 5 + 8 + 32 + 8 + 1 + 18 + 1 + 1 + 2 + 2;
/// Room in bytes for records and contacts together.
const FOUND_ROOM: usize = DATAGRAM_LEN_MAX - FOUND_HEAD_LEN;
/// Contacts for which the first record of a page leaves room.
const CONTACTS_MIN: usize = 3;
/// Contacts for which further records leave room.
const CONTACTS_WANTED: usize = 8;
/// Bytes of a `Ping` without its padding.
const PING_HEAD_LEN: usize = 5 + 8 + 32 + 8 + 1 + 1 + 1 + 1;
/// Bytes of a `Pong` without a proof, the longest reply to an address that did not prove itself.
const PONG_LEN: usize = 5 + 8 + 32 + 8 + 1 + 18 + 1;

// The longest record, with the widest age, remaining time and length before it, leaves room for contacts.
const _: () =
    assert!(crate::wire::RECORD_LEN_MAX + 6 + 6 + 2 + CONTACTS_MIN * CONTACT_LEN <= FOUND_ROOM);
const _: () = assert!(K * CONTACT_LEN <= FOUND_ROOM);
const _: () = assert!(PONG_LEN <= REQUEST_LEN_MIN);

/// A reply to be sent; opaque, named by memory plans alone.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    to: PackedAddr,
    transaction: Transaction,
    token: Token,
    answer: Answer,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Pong {
        challenge: Option<[u8; 16]>,
    },
    Nodes {
        target: Key,
    },
    Records {
        key: Key,
        kinds: Kinds,
        after: u16,
        limit: u8,
    },
    Stored,
    Older(RecordId),
    Full,
    Refused,
    Delivered {
        accepted: bool,
    },
    /// Bytes, since a `u64` would make every reply of a board longer.
    Lacks {
        lacks: [u8; 8],
        holds: [u8; 8],
    },
    Denied(Denial),
}

impl Reply {
    /// The acknowledgement of a message that was taken.
    pub(super) const fn delivered(to: PackedAddr, transaction: Transaction, token: Token) -> Self {
        let answer = Answer::Delivered { accepted: true };
        Self {
            to,
            transaction,
            token,
            answer,
        }
    }
}

impl<P: Plan> Dht<P> {
    /// Takes a request.
    pub(super) fn on_request(&mut self, from: PackedAddr, datagram: &Datagram<'_>) {
        if self.replies.is_full() {
            self.dropped.count(Rule::Full);
            return;
        }
        let (token, proven) = self
            .tokens
            .check::<P::Crypto>(self.now, &from, datagram.token);
        let contact = Contact {
            id: datagram.sender,
            addr: from,
        };
        let answer = match datagram.body {
            Body::Ping {
                leaving, challenge, ..
            } => {
                if proven && leaving {
                    let change = self.overlay.left(self.now, &contact);
                    self.on_change(change);
                } else if proven {
                    self.on_proven(contact);
                }
                // A proof would be longer than the request.
                Answer::Pong {
                    challenge: challenge.filter(|_| proven),
                }
            }
            Body::FindNode { .. }
            | Body::Get { .. }
            | Body::Put { .. }
            | Body::Send { .. }
            | Body::Have { .. }
                if proven =>
            {
                self.on_proven(contact);
                match self.carry_out(&contact, datagram.transaction, &datagram.body) {
                    Some(answer) => answer,
                    None => return,
                }
            }
            Body::FindNode { .. }
            | Body::Get { .. }
            | Body::Put { .. }
            | Body::Send { .. }
            | Body::Have { .. }
            | Body::Pong { .. }
            | Body::Found { .. }
            | Body::Stored { .. }
            | Body::Delivered { .. }
            | Body::Lacks { .. }
            | Body::Denied { .. } => {
                self.dropped.count(Rule::Token);
                Answer::Denied(Denial::Token)
            }
        };
        let reply = Reply {
            to: from,
            transaction: datagram.transaction,
            token,
            answer,
        };
        self.queue(reply);
    }

    /// Queues a reply; a full queue drops it.
    pub(super) fn queue(&mut self, reply: Reply) {
        if self.replies.push_back(reply).is_err() {
            self.dropped.count(Rule::Full);
        }
    }

    /// Carries out a request of a node whose address is proven; `None`: the reply comes later.
    fn carry_out(
        &mut self,
        from: &Contact,
        transaction: Transaction,
        body: &Body<'_>,
    ) -> Option<Answer> {
        if let Body::FindNode { target: key } | Body::Get { key, .. } = *body {
            self.on_asked(from, &key);
        }
        Some(match *body {
            Body::FindNode { target } => Answer::Nodes { target },
            Body::Get {
                key,
                kinds,
                after,
                limit,
            } => Answer::Records {
                key,
                kinds: Kinds(kinds),
                after,
                limit,
            },
            Body::Put {
                depth,
                spilled,
                age_ms,
                remaining_ms,
                record,
            } => match Record::decode(record) {
                Ok(record) => {
                    let source = from.addr.to_socket_addr().map(source_of);
                    let source = Some(source.unwrap_or_default());
                    let offer = Offer {
                        record,
                        depth,
                        spilled,
                        age_ms,
                        remaining_ms,
                        source,
                    };
                    self.hold(&offer)
                }
                Err(rule) => {
                    self.dropped.count(rule);
                    Answer::Refused
                }
            },
            Body::Send { key, bytes } => Answer::Delivered {
                accepted: self.on_message(from, transaction, key, bytes)?,
            },
            Body::Have { told } => {
                let (lacks, holds) = self.compared(told);
                Answer::Lacks {
                    lacks: lacks.to_be_bytes(),
                    holds: holds.to_be_bytes(),
                }
            }
            Body::Ping { .. }
            | Body::Pong { .. }
            | Body::Found { .. }
            | Body::Stored { .. }
            | Body::Delivered { .. }
            | Body::Lacks { .. }
            | Body::Denied { .. } => Answer::Denied(Denial::Unsupported),
        })
    }

    /// Offers a record to the own store.
    fn hold(&mut self, offer: &Offer<'_>) -> Answer {
        match self.offer(offer) {
            Ok(()) => Answer::Stored,
            Err(PutError::Older(id)) => Answer::Older(id),
            Err(PutError::Full) => Answer::Full,
            Err(PutError::NoRoom) => Answer::Denied(Denial::Busy),
            Err(PutError::Refused(_)) => Answer::Refused,
        }
    }

    /// Offers a record to the own store, and tells what came and went.
    pub(super) fn offer(&mut self, offer: &Offer<'_>) -> Result<(), PutError> {
        let (overlay, notices, dropped) = (&self.overlay, &mut self.notices, &mut self.dropped);
        let mut notify = |notice| {
            if notices.push_back(notice).is_err() {
                dropped.count(Rule::Full);
            }
        };
        let near =
            |location: &Key| overlay.nearer_than_own(location, P::Overlay::NEAR) < P::Overlay::NEAR;
        let lost = |key| notify(Notice::KeyLost(key));
        let accepted = self
            .records
            .put(self.now, &self.clock, self.network, offer, near, lost)?;
        if accepted.changed {
            self.repair.on_changed(accepted.id.slot());
        }
        if accepted.gained {
            self.notify(Notice::KeyGained(accepted.location));
        }
        Ok(())
    }

    /// A node that receives at its address sent a request: it may become a contact.
    fn on_proven(&mut self, contact: Contact) {
        let heard = self.overlay.heard(self.now, contact);
        let (requests, requests_max) = self.rpc.usage();
        // Strangers may not use up the room for the own requests.
        if heard == Heard::Wanted && requests * 2 < requests_max {
            match self.acceptable(&contact) {
                Ok(()) if self.rpc.is_asking(&contact.addr) => {}
                Ok(()) => self.probe(Peer::stranger(contact.addr)),
                Err(rule) => self.dropped.count(rule),
            }
        }
    }

    /// The next datagram to send: where to, and its length in `buf`, which needs
    /// [`DATAGRAM_LEN_MAX`] bytes; with less, what does not fit is dropped.
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

    fn encode_reply(&self, reply: &Reply, buf: &mut [u8]) -> Option<usize> {
        let observed = reply.to;
        match reply.answer {
            Answer::Pong {
                challenge: Some(challenge),
            } => {
                let key = P::Crypto::public_key(&self.secret);
                let digest = proof_digest::<P>(self.network, &challenge, &observed);
                let signature = P::Crypto::sign(&self.secret, &key, &digest);
                let proof = Some(Proof {
                    key,
                    signature: &signature,
                });
                self.seal(reply, Body::Pong { observed, proof }, buf)
            }
            Answer::Pong { challenge: None } => self.seal(
                reply,
                Body::Pong {
                    observed,
                    proof: None,
                },
                buf,
            ),
            Answer::Nodes { target } => {
                let mut contacts = [0; K * CONTACT_LEN];
                let contacts = self.write_contacts(&target, &observed, &mut contacts);
                let (more, spilled, records) = (false, false, &[][..]);
                self.seal(
                    reply,
                    Body::Found {
                        observed,
                        more,
                        spilled,
                        records,
                        contacts,
                    },
                    buf,
                )
            }
            Answer::Records {
                key,
                kinds,
                after,
                limit,
            } => self.encode_records(reply, &key, kinds, after, limit, buf),
            Answer::Older(id) => {
                let held = self.records.get(self.now, id);
                let outcome = match held {
                    Some(held) => PutOutcome::Older { record: held.bytes },
                    None => PutOutcome::Refused,
                };
                self.seal(reply, Body::Stored { observed, outcome }, buf)
            }
            Answer::Stored => self.seal(
                reply,
                Body::Stored {
                    observed,
                    outcome: PutOutcome::Stored,
                },
                buf,
            ),
            Answer::Full => self.seal(
                reply,
                Body::Stored {
                    observed,
                    outcome: PutOutcome::Full,
                },
                buf,
            ),
            Answer::Refused => self.seal(
                reply,
                Body::Stored {
                    observed,
                    outcome: PutOutcome::Refused,
                },
                buf,
            ),
            Answer::Delivered { accepted } => self.seal(
                reply,
                Body::Delivered {
                    observed,
                    accepted,
                    bytes: self.answer_to(&observed, &reply.transaction),
                },
                buf,
            ),
            Answer::Lacks { lacks, holds } => {
                let [lacks, holds] = [lacks, holds].map(u64::from_be_bytes);
                let body = Body::Lacks {
                    observed,
                    lacks,
                    holds,
                };
                self.seal(reply, body, buf)
            }
            Answer::Denied(reason) => self.seal(reply, Body::Denied { observed, reason }, buf),
        }
    }

    fn seal(&self, reply: &Reply, body: Body<'_>, buf: &mut [u8]) -> Option<usize> {
        let Reply {
            transaction, token, ..
        } = *reply;
        Datagram {
            transaction,
            sender: self.id,
            token,
            body,
        }
        .encode(self.network, buf)
    }

    /// Writes the contacts that lead to `target`, without the one that asks, as far as they fit.
    fn write_contacts<'b>(&self, target: &Key, asker: &PackedAddr, out: &'b mut [u8]) -> &'b [u8] {
        let towards = self.overlay.towards(target);
        let contacts = towards.iter().filter_map(|&at| self.overlay.at(at));
        let contacts = contacts
            .map(|entry| entry.contact)
            .filter(|c| c.addr != *asker);
        let contacts = self.own_claim(target).into_iter().chain(contacts);
        let mut len = 0;
        for (place, contact) in out.chunks_exact_mut(CONTACT_LEN).zip(contacts) {
            place.copy_from_slice(&contact.to_bytes());
            len += CONTACT_LEN;
        }
        out.get(..len).unwrap_or_default()
    }

    /// A page of records and, in the first, the contacts nearest to the key.
    fn encode_records(
        &self,
        reply: &Reply,
        key: &Key,
        kinds: Kinds,
        after: u16,
        limit: u8,
        buf: &mut [u8],
    ) -> Option<usize> {
        let mut room = [0; FOUND_ROOM];
        let (mut len, mut count, mut more) = (0, 0, false);
        for held in self.records.read(self.now, key, kinds, after) {
            let contacts = match (after, count) {
                (0, 0) => CONTACTS_MIN,
                (0, _) => CONTACTS_WANTED,
                (_, _) => 0,
            };
            let end = FOUND_ROOM - contacts * CONTACT_LEN;
            let place = room.get_mut(len..end).filter(|_| count < limit);
            let Some(copied) = place.and_then(|place| held.copy().encode(place)) else {
                more = true;
                break;
            };
            len += copied;
            count = count.saturating_add(1);
        }
        let (records, rest) = room.split_at_mut_checked(len)?;
        let contacts = if after == 0 {
            self.write_contacts(key, &reply.to, rest)
        } else {
            &[][..]
        };
        let (observed, spilled) = (reply.to, self.records.is_spilled(key));
        self.seal(
            reply,
            Body::Found {
                observed,
                more,
                spilled,
                records,
                contacts,
            },
            buf,
        )
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
            Tag::Neighbours => Body::FindNode {
                target: self.own_key(),
            },
            Tag::Ask { visit } => {
                let (job, lookup, _) = self.job_of(visit)?;
                let target = *lookup.target();
                match job {
                    Job::Get(get) => {
                        let kinds = get.kinds.0;
                        Body::Get {
                            key: target,
                            kinds,
                            after: 0,
                            limit: u8::MAX,
                        }
                    }
                    Job::Join(_)
                    | Job::Refresh
                    | Job::Find
                    | Job::Put(_)
                    | Job::Send(_)
                    | Job::Leave(_)
                    | Job::Done(_) => Body::FindNode { target },
                }
            }
            Tag::Page { visit, after } => {
                let (Job::Get(get), lookup, _) = self.job_of(visit)? else {
                    return None;
                };
                let (key, kinds) = (*lookup.target(), get.kinds.0);
                Body::Get {
                    key,
                    kinds,
                    after,
                    limit: u8::MAX,
                }
            }
            Tag::Put { visit } => {
                let (Job::Put(put), _, _) = self.job_of(visit)? else {
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
            Tag::Send { visit } => {
                let (Job::Send(letter), _, target) = self.job_of(visit)? else {
                    return None;
                };
                Body::Send {
                    key: Some(target),
                    bytes: self.parked.get(letter.blob)?,
                }
            }
            Tag::Have => Body::Have {
                told: self.write_told(&mut told)?,
            },
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
        };
        let (transaction, token) = (pending.transaction, pending.peer.token);
        Datagram {
            transaction,
            sender: self.id,
            token,
            body,
        }
        .encode(self.network, buf)
    }

    /// The job, the lookup and the root key of a visit.
    fn job_of(&self, visit: Handle) -> Option<(&Job<P>, &Lookup<P>, Key)> {
        let visit = self.visits.get(visit)?;
        let op = self.ops.get(visit.op)?;
        Some((&op.job, &visit.lookup, op.target))
    }
}

/// What the answer to a challenge signs.
fn proof_digest<P: Plan>(
    network: crate::wire::NetworkId,
    challenge: &[u8; 16],
    observed: &PackedAddr,
) -> crate::crypto::Digest {
    P::Crypto::hash(
        "strandline/proof/v1",
        &[&network.0, challenge, observed.as_bytes()],
    )
}
