//! Answering requests.
//!
//! Owns the queue of replies: each is an intention, encoded when polled (`sending`). Invariants: to an address that did not
//! prove itself by a token goes nothing but `Pong` or `Denied`, which are shorter than any request; a request that
//! finds the queue full changes nothing.

use crate::addr::{PackedAddr, source_of};
use crate::bounded::List;
use crate::crypto::Crypto;
use crate::id::Key;
use crate::overlay::{Heard, K, Overlay};
use crate::plan::Plan;
use crate::records::{Offer, PutError, RecordId};
use crate::rpc::Peer;
use crate::rules::Rule;
use crate::wire::datagram::{
    Body, CONTACT_LEN, COPY_DEPTH, Contact, Datagram, Denial, Proof, PutOutcome, Token, Transaction,
};
use crate::wire::record::{Kind, Kinds, Record};
use crate::wire::{DATAGRAM_LEN_MAX, REQUEST_LEN_MIN};

use super::{Dht, Notice};

/// Bytes of a `Found` reply besides records and contacts.
const FOUND_HEAD_LEN: usize = 5 + 8 + 32 + 8 + 1 + 18 + 1 + 1 + 2 + 2;
/// Room in bytes for records and contacts together.
const FOUND_ROOM: usize = DATAGRAM_LEN_MAX - FOUND_HEAD_LEN;
/// Contacts for which the first record of a page leaves room.
const CONTACTS_MIN: usize = 3;
/// Contacts for which further records leave room.
const CONTACTS_WANTED: usize = 8;
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
    pub(super) to: PackedAddr,
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
    Records(Page),
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

/// Which records are asked for.
#[derive(Clone, Copy, Debug)]
struct Page {
    key: Key,
    kinds: Kinds,
    after: u16,
    limit: u8,
    /// Many ask for them.
    popular: bool,
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
    #[inline(never)] // Its frame is not to last while the node acts on replies; and the image is smaller.
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
            if self.is_newcomer() {
                return Some(Answer::Denied(Denial::Busy));
            }
            self.on_asked(from, &key);
        }
        Some(match *body {
            Body::FindNode { target } => Answer::Nodes { target },
            Body::Get {
                key,
                kinds,
                after,
                limit,
            } => Answer::Records(Page {
                key,
                kinds: Kinds(kinds),
                after,
                limit,
                popular: Self::CACHES
                    && after == 0
                    && Kinds(kinds).contains(Kind::Value)
                    && self.is_popular(&key),
            }),
            Body::Put {
                depth: COPY_DEPTH,
                remaining_ms,
                record,
                ..
            } if Self::CACHES => Self::answer_of(self.take_copy(from, record, remaining_ms)),
            Body::Put {
                depth,
                spilled,
                age_ms,
                remaining_ms,
                record,
            } => match &Record::decode(record) {
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
                    self.dropped.count(*rule);
                    Answer::Refused
                }
            },
            Body::Send { key, bytes } if Self::TOOLKIT => Answer::Delivered {
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
            | Body::Denied { .. }
            | Body::Send { .. } => Answer::Denied(Denial::Unsupported),
        })
    }

    /// Offers a record to the own store.
    fn hold(&mut self, offer: &Offer<'_>) -> Answer {
        Self::answer_of(self.offer(offer))
    }

    fn answer_of(held: Result<(), PutError>) -> Answer {
        match held {
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
        let near = |location: &Key| {
            overlay.nearer_than_own(location, P::Overlay::near()) < P::Overlay::near()
        };
        let lost = |key| notify(Notice::KeyLost(key));
        // What comes from this node itself is `Signed`, see `begin_put`.
        let network = offer.source.is_some().then_some(self.network);
        let accepted = self
            .records
            .put(self.now, &self.clock, network, offer, near, lost)?;
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

    pub(super) fn encode_reply(&self, reply: &Reply, buf: &mut [u8]) -> Option<usize> {
        let observed = reply.to;
        // What the body borrows.
        let mut room = [0; FOUND_ROOM];
        let signature;
        let body = match reply.answer {
            Answer::Pong { challenge } => {
                let proof = match challenge {
                    Some(challenge) => {
                        let key = P::Crypto::public_key(&self.secret);
                        let digest = proof_digest::<P>(self.network, &challenge, &observed);
                        signature = P::Crypto::sign(&self.secret, &key, &digest);
                        let signature = &signature;
                        Some(Proof { key, signature })
                    }
                    None => None,
                };
                Body::Pong { observed, proof }
            }
            Answer::Nodes { target } => {
                let room = room.get_mut(..P::Overlay::k() * CONTACT_LEN)?;
                Body::Found {
                    observed,
                    more: false,
                    spilled: false,
                    records: &[],
                    contacts: self.write_contacts(&target, &observed, false, room),
                }
            }
            Answer::Records(page) => self.write_page(reply, &page, &mut room)?,
            Answer::Older(id) => {
                let held = self.records.get(self.now, id);
                let outcome = match held {
                    Some(held) => PutOutcome::Older { record: held.bytes },
                    None => PutOutcome::Refused,
                };
                Body::Stored { observed, outcome }
            }
            Answer::Stored => Body::Stored {
                observed,
                outcome: PutOutcome::Stored,
            },
            Answer::Full => Body::Stored {
                observed,
                outcome: PutOutcome::Full,
            },
            Answer::Refused => Body::Stored {
                observed,
                outcome: PutOutcome::Refused,
            },
            Answer::Delivered { accepted } if Self::TOOLKIT => Body::Delivered {
                observed,
                accepted,
                bytes: self.answer_to(&observed, &reply.transaction),
            },
            Answer::Delivered { .. } => return None,
            Answer::Lacks { lacks, holds } => {
                let [lacks, holds] = [lacks, holds].map(u64::from_be_bytes);
                Body::Lacks {
                    observed,
                    lacks,
                    holds,
                }
            }
            Answer::Denied(reason) => Body::Denied { observed, reason },
        };
        self.seal(reply.transaction, reply.token, body, buf)
    }

    /// Makes a datagram of a body.
    pub(super) fn seal(
        &self,
        transaction: Transaction,
        token: Token,
        body: Body<'_>,
        buf: &mut [u8],
    ) -> Option<usize> {
        Datagram {
            transaction,
            sender: self.id,
            token,
            body,
        }
        .encode(self.network, buf)
    }

    /// Writes the contacts that lead to `target`, without the one that asks, as far as they fit; first this node itself if
    /// it owns the target, or if many ask for that.
    fn write_contacts<'b>(
        &self,
        target: &Key,
        asker: &PackedAddr,
        popular: bool,
        out: &'b mut [u8],
    ) -> &'b [u8] {
        let towards = self.overlay.towards(target);
        let contacts = towards.iter().filter_map(|&at| self.overlay.at(at));
        let contacts = contacts
            .map(|entry| entry.contact)
            .filter(|c| c.addr != *asker);
        let own = popular.then_some(self.own_contact());
        let own = own.or(self.own_claim(target));
        let contacts = own.into_iter().chain(contacts);
        let mut len = 0;
        for (place, contact) in out.chunks_exact_mut(CONTACT_LEN).zip(contacts) {
            place.copy_from_slice(&contact.to_bytes());
            len += CONTACT_LEN;
        }
        out.get(..len).unwrap_or_default()
    }

    /// A page of records and, in the first, the contacts nearest to the key.
    fn write_page<'b>(
        &self,
        reply: &Reply,
        page: &Page,
        room: &'b mut [u8; FOUND_ROOM],
    ) -> Option<Body<'b>> {
        let Page {
            ref key,
            kinds,
            after,
            limit,
            popular,
        } = *page;
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
        if Self::CACHES
            && (len, after, more) == (0, 0, false)
            && kinds.contains(Kind::Value)
            && let Some(copy) = self.caching.read(self.now, key)
        {
            let place = room.get_mut(..FOUND_ROOM - CONTACTS_MIN * CONTACT_LEN);
            len = place.and_then(|place| copy.encode(place)).unwrap_or(0);
        }
        let (records, rest) = room.split_at_mut_checked(len)?;
        let popular = Self::CACHES && popular && len > 0;
        let contacts = if after == 0 {
            self.write_contacts(key, &reply.to, popular, rest)
        } else {
            &[][..]
        };
        Some(Body::Found {
            observed: reply.to,
            more,
            spilled: self.records.is_spilled(key),
            records,
            contacts,
        })
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
