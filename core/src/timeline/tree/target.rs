//! What a job of the get tree is about: a request, and those whose posts it asks for.
//!
//! Owns the words, and no behaviour: how a target comes to its outcome is [`super::job`]'s.

use crate::addr::PackedAddr;
use crate::bounded::Handle;
use crate::crypto::{PublicKey, Signature};
use crate::id::UserId;
use crate::timeline::posts::RecordId;
use crate::wire::frame::Unreached;

/// Where the answers of a job go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Up {
    /// To a read of this node.
    Read(Handle),
    /// Up this stream.
    Stream(Handle),
}

/// What the reader signed: it is passed on unchanged. And how far from the reader this job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Names the request, together with the reader.
    pub id: u64,
    /// Who reads.
    pub reader: PublicKey,
    /// When it was signed, Unix ms; 0 unknown.
    pub issued_ms: u64,
    /// How many are asked in parallel.
    pub fanout: u8,
    /// Over the fields above.
    pub signature: Signature,
    /// Hops from the reader to those whom this job asks, less one.
    pub depth: u8,
}

/// Where a target is on its way to an outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Not dealt yet.
    Waiting,
    /// This child is to ask for it.
    Share(u8),
    /// It is this child.
    Asked(u8),
    /// To be asked from here as soon as a child's place is vacant, with no share.
    Direct,
    /// It was not reached, and upstream does not know yet.
    Failed(Unreached),
    /// It has its outcome.
    Over,
}

/// Somebody whose posts are wanted.
#[derive(Clone, Debug)]
pub struct Target {
    /// Who.
    pub user: UserId,
    /// Where it listens.
    pub addr: PackedAddr,
    /// Its signed profile, for those who are to ask for it.
    pub profile: RecordId,
    /// Which log.
    pub log: u16,
    /// At most this many posts.
    pub limit: u16,
    /// The reader holds the posts up to this number.
    pub since: u64,
    /// On the way to its outcome.
    pub reach: Reach,
    /// How often its answer began on the present stream.
    pub heads: u8,
    /// Posts of its answer so far.
    pub posts: u16,
}

impl Target {
    /// A target that is not dealt yet.
    #[must_use]
    pub const fn new(user: UserId, addr: PackedAddr, profile: RecordId) -> Self {
        let reach = Reach::Waiting;
        Self {
            user,
            addr,
            profile,
            log: 0,
            limit: 0,
            since: 0,
            reach,
            heads: 0,
            posts: 0,
        }
    }
}
