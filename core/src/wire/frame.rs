//! Frames: what travels over streams (TCP).
//!
//! A frame is its length (2 bytes, big-endian), then version, network and one [`Frame`] in postcard, at most
//! 1024 bytes. Owns the layout and the signature of `Get`; which frame may follow which is `timeline`'s
//! business. Trust comes from the signed records and posts inside, never from the connection.

use super::codec::{coded_enum, coded_struct};
use super::{FRAME_LEN_MAX, FRAME_PREFIX_LEN, NetworkId};
use crate::crypto::{Crypto, Digest, PublicKey, SecretKey, Signature};
use crate::id::UserId;
use crate::rules::Rule;

/// One frame without its preamble. Append-only: the position is the tag on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// Request: here is my signed `Follow` record, about you. Answered by `Done` or `Refused`.
    Follow {
        /// The signed record.
        record: &'a [u8],
    },
    /// Request: here is my signed `Follow` record, which says that I am gone. Answered by `Done` or `Refused`.
    Unfollow {
        /// The signed record.
        record: &'a [u8],
    },
    /// Request: send me your posts, and pass this on to the targets that follow.
    Get(Get<'a>),
    /// After `Get`: one user to be asked by the receiver, or by those whom it asks.
    Target(Target<'a>),
    /// Request: send me the posts of an author that you keep.
    GetStored(GetStored),
    /// Answer: the end of an author's log, before its posts.
    Head {
        /// The signed `Head` record.
        record: &'a [u8],
        /// What is left of the time for which the posts may be kept, in ms, counted from sending.
        remaining_ms: u32,
    },
    /// Answer: a post of an author, newest first.
    Post {
        /// The post, see [`super::post`].
        post: &'a [u8],
    },
    /// Notice: I no longer keep your posts (my signed `Follow` record, with nothing held).
    Deleted {
        /// The signed record.
        record: &'a [u8],
    },
    /// Notice: still at it.
    Working,
    /// Answer: nothing more comes about this author.
    Done {
        /// Whom it is about.
        author: UserId,
        /// How it ended.
        outcome: Ending,
    },
    /// Answer: all of the request has been dealt with. Nothing more comes.
    End,
    /// Answer: the request is not carried out.
    Refused {
        /// Why not.
        reason: Refusal,
        /// The signed `Head`, which names holders to ask instead; may be empty.
        head: &'a [u8],
    },
}

coded_enum! {
    Frame<'a> {
        0 => Follow { record },
        1 => Unfollow { record },
        2 => Get(inner),
        3 => Target(inner),
        4 => GetStored(inner),
        5 => Head { record, remaining_ms },
        6 => Post { post },
        7 => Deleted { record },
        8 => Working,
        9 => Done { author, outcome },
        10 => End,
        11 => Refused { reason, head },
    } else Self::End
}

/// The request that spreads as a tree. What the reader signs is the same in every hop; the rest is the hop's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Get<'a> {
    /// Chosen by the reader; with the reader's key it names the request in the whole network.
    pub request: u64,
    /// The reader's identity key.
    pub reader: PublicKey,
    /// When the reader signed it, Unix ms; 0 without a clock.
    pub issued_ms: u64,
    /// At most this many are asked in parallel by each node.
    pub fanout: u8,
    /// 64 bytes over H("strandline/get/v1", network, request, reader, issued, fanout), integers big-endian.
    pub signature: &'a [u8],
    /// Hops from the reader: 0 in what the reader itself sends.
    pub depth: u8,
    /// Promotions already used for this share.
    pub promotions: u8,
    /// How long the receiver has to answer, in ms.
    pub deadline_ms: u32,
    /// The receiver's log that is asked for.
    pub log: u16,
    /// The reader holds the receiver's posts up to this number.
    pub since: u64,
    /// At most this many of the receiver's posts.
    pub limit: u16,
    /// How many `Target` frames follow.
    pub targets: u16,
}

coded_struct! { Get<'a> { request, reader, issued_ms, fanout, signature, depth, promotions, deadline_ms, log, since, limit, targets } }

impl<'a> Get<'a> {
    /// What the reader signs.
    #[must_use]
    pub fn digest<C: Crypto>(
        network: NetworkId,
        request: u64,
        reader: &PublicKey,
        issued_ms: u64,
        fanout: u8,
    ) -> Digest {
        let parts: [&[u8]; 5] = [
            &network.0,
            &request.to_be_bytes(),
            reader,
            &issued_ms.to_be_bytes(),
            &[fanout],
        ];
        C::hash("strandline/get/v1", &parts)
    }

    /// Signs the part that is the same in every hop.
    #[must_use]
    pub fn sign<C: Crypto>(
        network: NetworkId,
        request: u64,
        reader: &PublicKey,
        issued_ms: u64,
        fanout: u8,
        secret: &SecretKey,
    ) -> Signature {
        C::sign(
            secret,
            reader,
            &Self::digest::<C>(network, request, reader, issued_ms, fanout),
        )
    }

    /// Checks the reader's signature.
    ///
    /// # Errors
    /// [`Rule::Signature`].
    pub fn verify<C: Crypto>(&self, network: NetworkId) -> Result<(), Rule> {
        let signature: Signature = self.signature.try_into().map_err(|_| Rule::Signature)?;
        let digest = Self::digest::<C>(
            network,
            self.request,
            &self.reader,
            self.issued_ms,
            self.fanout,
        );
        if C::verify(&self.reader, &digest, &signature) {
            Ok(())
        } else {
            Err(Rule::Signature)
        }
    }
}

/// A user to be asked on the reader's behalf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    /// The target's signed `Profile`: whom to ask, and where.
    pub profile: &'a [u8],
    /// The target's log that is asked for.
    pub log: u16,
    /// The reader holds the target's posts up to this number.
    pub since: u64,
    /// At most this many posts.
    pub limit: u16,
}

coded_struct! { Target<'a> { profile, log, since, limit } }

/// Asks a holder for the copies that it keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GetStored {
    /// Whose posts.
    pub author: UserId,
    /// Which log.
    pub log: u16,
    /// The asker holds the posts up to this number.
    pub since: u64,
    /// At most this many posts.
    pub limit: u16,
}

coded_struct! { GetStored { author, log, since, limit } }

/// How the answer about one author ended. Append-only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// All that was asked for was sent (for `Follow`: the record was taken).
    Complete,
    /// The head was sent, and nothing is newer than what was asked from.
    NothingNew,
    /// The author could not be asked.
    Unreached(Unreached),
}

coded_enum! {
    Ending {
        0 => Complete,
        1 => NothingNew,
        2 => Unreached(inner),
    } else Self::Complete
}

/// Why an author was not reached. Append-only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreached {
    /// Nobody accepted the connection.
    NoConnection,
    /// It stopped answering.
    Stalled,
    /// It refused.
    Refused,
    /// The deadline passed before its turn came.
    Deadline,
    /// The share was reorganised as often as is allowed.
    TooManyPromotions,
    /// No address is known, or it said goodbye.
    Offline,
    /// What it sent did not verify.
    Invalid,
    /// The profile or name could not be found.
    NotFound,
}

coded_enum! {
    Unreached {
        0 => NoConnection,
        1 => Stalled,
        2 => Refused,
        3 => Deadline,
        4 => TooManyPromotions,
        5 => Offline,
        6 => Invalid,
        7 => NotFound,
    } else Self::Invalid
}

impl Unreached {
    /// The reason in kebab case, as `timeline --json` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoConnection => "no-connection",
            Self::Stalled => "stalled",
            Self::Refused => "refused",
            Self::Deadline => "deadline",
            Self::TooManyPromotions => "too-many-promotions",
            Self::Offline => "offline",
            Self::Invalid => "invalid",
            Self::NotFound => "not-found",
        }
    }
}

/// Why a request was refused. Append-only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Too much to do just now.
    Busy,
    /// The reader's `Follow` record is not held here, so nothing is relayed for it.
    NotFollowing,
    /// This (reader, request) was seen before: own posts were sent, the share is refused.
    Repeated,
    /// Nothing of that author is kept here.
    NotHeld,
    /// The request broke a rule.
    Invalid,
}

coded_enum! {
    Refusal {
        0 => Busy,
        1 => NotFollowing,
        2 => Repeated,
        3 => NotHeld,
        4 => Invalid,
    } else Self::Invalid
}

impl<'a> Frame<'a> {
    /// Finds the first frame in what a stream has delivered: its body, and the bytes that it takes with its prefix.
    /// `Ok(None)`: not all of it is there yet.
    ///
    /// # Errors
    /// [`Rule::Overlong`] when the prefix announces more than [`FRAME_LEN_MAX`] bytes, [`Rule::Malformed`] for none.
    pub fn split(bytes: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, Rule> {
        let Some((prefix, rest)) = bytes.split_first_chunk::<FRAME_PREFIX_LEN>() else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes(*prefix));
        if len > FRAME_LEN_MAX {
            return Err(Rule::Overlong);
        }
        if len == 0 {
            return Err(Rule::Malformed);
        }
        Ok(rest
            .get(..len)
            .map(|body| (body, FRAME_PREFIX_LEN.saturating_add(len))))
    }

    /// Decodes the body of a frame of `network`.
    ///
    /// # Errors
    /// [`Rule::Overlong`], [`Rule::Version`], [`Rule::Network`] or [`Rule::Malformed`].
    pub fn decode(body: &'a [u8], network: NetworkId) -> Result<Self, Rule> {
        if body.len() > FRAME_LEN_MAX {
            return Err(Rule::Overlong);
        }
        super::decode_whole(super::open_preamble(body, network)?)
    }

    /// Encodes the frame with its prefix into `buf` and returns the length; `None` when it does not fit.
    pub fn encode(&self, network: NetworkId, buf: &mut [u8]) -> Option<usize> {
        let (prefix, rest) = buf.split_first_chunk_mut::<FRAME_PREFIX_LEN>()?;
        let room = rest.len().min(FRAME_LEN_MAX);
        let len = super::seal(network, self, rest.get_mut(..room)?)?;
        *prefix = u16::try_from(len).ok()?.to_be_bytes();
        Some(FRAME_PREFIX_LEN.saturating_add(len))
    }
}
