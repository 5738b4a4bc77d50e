//! Records: what the DHT stores, each signed by its author.
//!
//! A record is a length (varint), a body of that length in postcard, and 64 bytes of signature over
//! H("strandline/record/v1", network, body). Bytes of the body after the last known field are kept and
//! ignored, so that later versions can add fields. Owns the layout, the payload of each kind, and the
//! checks that need nothing but the record itself; holding, replacing and expiring are `records`' business.

use super::codec::{self, Decode, Encode, coded_struct};
use super::{NetworkId, PAYLOAD_LEN_MAX, RECORD_LEN_MAX};
use crate::addr::PackedAddr;
use crate::crypto::{Crypto, Digest, PublicKey, SecretKey, Signature};
use crate::id::{Key, UserId};
use crate::name::Name;
use crate::rules::Rule;

/// What a record says. The number is its tag on the wire and its bit in [`Kinds`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// "I use this name", at the key of the name.
    Claim = 0,
    /// Addresses, online lease, logs; at the key of the user.
    Profile = 1,
    /// The end of a log, at the key of the user; page = log number.
    Head = 2,
    /// "I follow subject", at the key of the followed.
    Follow = 3,
    /// A page of those whom the author follows, at the key of the author.
    Following = 4,
    /// A page of those whose posts the author holds, at the key of the author.
    Holding = 5,
    /// "Subject did not answer me", at the key of the missed.
    Sighting = 6,
    /// Bytes of an application, at any key.
    Value = 7,
}

/// One day in milliseconds.
const DAY_MS: u32 = 24 * 60 * 60 * 1000;

impl Kind {
    /// Every kind, in the order of its tag.
    pub const ALL: [Self; 8] = [
        Self::Claim,
        Self::Profile,
        Self::Head,
        Self::Follow,
        Self::Following,
        Self::Holding,
        Self::Sighting,
        Self::Value,
    ];

    /// The kind with this tag.
    #[must_use]
    pub fn of_tag(tag: u8) -> Option<Self> {
        Self::ALL.get(usize::from(tag)).copied()
    }

    /// The longest lifetime that a holder accepts, in milliseconds.
    #[must_use]
    pub const fn lifetime_max_ms(self) -> u32 {
        match self {
            Self::Claim | Self::Profile | Self::Head | Self::Follow | Self::Following => 7 * DAY_MS,
            Self::Holding | Self::Value => DAY_MS,
            Self::Sighting => 2 * 60 * 1000,
        }
    }
}

/// A set of kinds, as `Get` asks for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kinds(pub u16);

impl Kinds {
    /// No kind.
    pub const NONE: Self = Self(0);
    /// Every kind.
    pub const ALL: Self = Self(0xff);

    /// Just these kinds.
    #[must_use]
    pub const fn of(kinds: &[Kind]) -> Self {
        let mut bits = 0;
        let mut rest = kinds;
        while let [kind, tail @ ..] = rest {
            bits |= 1 << (*kind as u16);
            rest = tail;
        }
        Self(bits)
    }

    /// Whether `kind` is in the set.
    #[must_use]
    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & (1 << (kind as u16)) != 0
    }
}

struct Body<'a> {
    kind: u8,
    key: Key,
    author: UserId,
    signer: PublicKey,
    subject: Option<UserId>,
    page: u16,
    sequence: u64,
    issued_ms: u64,
    lifetime_ms: u32,
    payload: &'a [u8],
}

coded_struct! { Body<'a> { kind, key, author, signer, subject, page, sequence, issued_ms, lifetime_ms, payload } }

/// The beginning of a [`Body`].
struct Place {
    _kind: u8,
    key: Key,
    author: UserId,
}

coded_struct! { Place { _kind, key, author } }

/// A decoded record. Its signature is not checked by decoding: see [`Record::verify`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// What it says.
    pub kind: Kind,
    /// Where it belongs (before sharding).
    pub key: Key,
    /// Who says it.
    pub author: UserId,
    /// The key that signed it: the author's identity key (or, later, one that it vouches for).
    pub signer: PublicKey,
    /// Whom it is about, for `Follow` and `Sighting`.
    pub subject: Option<UserId>,
    /// Which of several records of this kind.
    pub page: u16,
    /// Higher replaces lower.
    pub sequence: u64,
    /// When it was signed, Unix ms; 0 from an author without a clock.
    pub issued_ms: u64,
    /// How long it may be held, in ms.
    pub lifetime_ms: u32,
    /// The kind's payload: see the types of this module.
    pub payload: &'a [u8],
    /// The whole record as received: what is stored and passed on.
    pub bytes: &'a [u8],
    signed: &'a [u8],
    signature: Signature,
}

/// What tells a record from any other at one location: a newer one with the same slot replaces it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Slot {
    /// See [`Record::kind`].
    pub kind: Kind,
    /// See [`Record::author`].
    pub author: UserId,
    /// See [`Record::subject`].
    pub subject: Option<UserId>,
    /// See [`Record::page`].
    pub page: u16,
}

impl<'a> Record<'a> {
    /// Decodes a record with nothing after its signature.
    ///
    /// # Errors
    /// [`Rule::Overlong`], [`Rule::Malformed`] or [`Rule::Kind`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Rule> {
        if bytes.len() > RECORD_LEN_MAX {
            return Err(Rule::Overlong);
        }
        let (signed, rest) = codec::decode::<&[u8]>(bytes).ok_or(Rule::Malformed)?;
        let signature = rest.try_into().map_err(|_| Rule::Malformed)?;
        // Later versions may append fields: what follows the known ones is signed, kept and ignored.
        let (body, _later) = codec::decode::<Body<'a>>(signed).ok_or(Rule::Malformed)?;
        if body.payload.len() > PAYLOAD_LEN_MAX {
            return Err(Rule::Overlong);
        }
        Ok(Self {
            kind: Kind::of_tag(body.kind).ok_or(Rule::Kind)?,
            key: body.key,
            author: body.author,
            signer: body.signer,
            subject: body.subject,
            page: body.page,
            sequence: body.sequence,
            issued_ms: body.issued_ms,
            lifetime_ms: body.lifetime_ms,
            payload: body.payload,
            bytes,
            signed,
            signature,
        })
    }

    /// Key and author of an encoded record that was decoded before, without the rest: holders ask where each of theirs
    /// belongs time and again.
    ///
    /// # Errors
    /// [`Rule::Malformed`].
    pub fn place(bytes: &'a [u8]) -> Result<(Key, UserId), Rule> {
        let place =
            codec::decode::<&[u8]>(bytes).and_then(|(signed, _)| codec::decode::<Place>(signed));
        place
            .map(|(place, _)| (place.key, place.author))
            .ok_or(Rule::Malformed)
    }

    /// The record's slot at its location.
    #[must_use]
    #[inline(never)] // Called from many places: shorter on a board.
    pub const fn slot(&self) -> Slot {
        Slot {
            kind: self.kind,
            author: self.author,
            subject: self.subject,
            page: self.page,
        }
    }

    /// Checks everything that the record alone can show, except the signature: lifetime, that the signer is the
    /// author, that the payload decodes, and that kind, key, author and subject belong together.
    ///
    /// # Errors
    /// [`Rule::Lifetime`], [`Rule::Author`], [`Rule::Payload`] or [`Rule::Key`].
    pub fn check<C: Crypto>(&self) -> Result<(), Rule> {
        if self.lifetime_ms == 0 || self.lifetime_ms > self.kind.lifetime_max_ms() {
            return Err(Rule::Lifetime);
        }
        if UserId::of_key::<C>(&self.signer) != self.author {
            return Err(Rule::Author);
        }
        let subject_wanted = matches!(self.kind, Kind::Follow | Kind::Sighting);
        if self.subject.is_some() != subject_wanted {
            return Err(Rule::Key);
        }
        let belongs = match self.kind {
            Kind::Claim => Key::of_name::<C>(&self.payload::<Claim>()?.name),
            Kind::Profile => {
                self.payload::<Profile<'_>>()?;
                Key::of_user::<C>(&self.author)
            }
            Kind::Head => {
                self.payload::<Head<'_>>()?;
                Key::of_user::<C>(&self.author)
            }
            Kind::Following => {
                self.payload::<Following<'_>>()?;
                Key::of_user::<C>(&self.author)
            }
            Kind::Holding => {
                self.payload::<Holding<'_>>()?;
                Key::of_user::<C>(&self.author)
            }
            Kind::Follow => {
                self.payload::<Follow>()?;
                Key::of_user::<C>(&self.subject.unwrap_or(UserId::ZERO))
            }
            Kind::Sighting => {
                self.payload::<Sighting>()?;
                Key::of_user::<C>(&self.subject.unwrap_or(UserId::ZERO))
            }
            Kind::Value => return Ok(()),
        };
        if belongs == self.key {
            Ok(())
        } else {
            Err(Rule::Key)
        }
    }

    /// Checks the signature over the exact bytes received.
    ///
    /// # Errors
    /// [`Rule::Signature`].
    pub fn verify<C: Crypto>(&self, network: NetworkId) -> Result<(), Rule> {
        let digest = C::hash("strandline/record/v1", &[&network.0, self.signed]);
        if C::verify(&self.signer, &digest, &self.signature) {
            Ok(())
        } else {
            Err(Rule::Signature)
        }
    }

    /// Decodes, checks and verifies a record. For who wants to decode it when that is over: to verify goes deep, and what was
    /// decoded would lie on the stack meanwhile.
    ///
    /// # Errors
    /// As [`Record::decode`], [`Record::check`] and [`Record::verify`].
    #[inline(never)] // What it decodes is to be gone when it returns.
    pub fn prove<C: Crypto>(bytes: &[u8], network: NetworkId) -> Result<(), Rule> {
        let record = Record::decode(bytes)?;
        record.check::<C>()?;
        record.verify::<C>(network)
    }

    /// Decodes the payload as `T`; unknown trailing bytes are ignored.
    ///
    /// # Errors
    /// [`Rule::Payload`].
    pub fn payload<T: Decode<'a>>(&self) -> Result<T, Rule> {
        codec::decode(self.payload)
            .map(|(value, _later)| value)
            .ok_or(Rule::Payload)
    }
}

/// The bytes of a record whose signature is known to be good.
///
/// A node takes its own records into its store as such: to verify one takes 6 KB of a board's stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a>(&'a [u8]);

impl<'a> Signed<'a> {
    /// What the caller has signed, with a [`Draft`], and not given out of hand since.
    pub(crate) const fn just_now(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What somebody else signed, once that is verified.
    ///
    /// # Errors
    /// As [`Record::decode`] and [`Record::verify`].
    pub(crate) fn check<C: Crypto>(bytes: &'a [u8], network: NetworkId) -> Result<Self, Rule> {
        Record::decode(bytes)?.verify::<C>(network)?;
        Ok(Self(bytes))
    }

    pub(crate) const fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// A record about to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Draft {
    /// See [`Record::kind`].
    pub kind: Kind,
    /// See [`Record::key`].
    pub key: Key,
    /// See [`Record::author`].
    pub author: UserId,
    /// See [`Record::subject`].
    pub subject: Option<UserId>,
    /// See [`Record::page`].
    pub page: u16,
    /// See [`Record::sequence`].
    pub sequence: u64,
    /// See [`Record::issued_ms`].
    pub issued_ms: u64,
    /// See [`Record::lifetime_ms`].
    pub lifetime_ms: u32,
}

/// Payload bytes of a record under construction: the longest allowed.
pub type PayloadBuf = [u8; PAYLOAD_LEN_MAX];

impl Draft {
    /// Signs the record with `payload` already encoded, writes it to `buf` and returns its length.
    /// `None` when the payload is over [`PAYLOAD_LEN_MAX`] or `buf` is shorter than the record.
    pub fn sign<C: Crypto>(
        &self,
        payload: &[u8],
        secret: &SecretKey,
        signer: &PublicKey,
        network: NetworkId,
        buf: &mut [u8],
    ) -> Option<usize> {
        if payload.len() > PAYLOAD_LEN_MAX {
            return None;
        }
        let body = Body {
            kind: self.kind as u8,
            key: self.key,
            author: self.author,
            signer: *signer,
            subject: self.subject,
            page: self.page,
            sequence: self.sequence,
            issued_ms: self.issued_ms,
            lifetime_ms: self.lifetime_ms,
            payload,
        };
        // The length stands before the body, and its varint takes one byte or two: the body may have to move.
        let len = codec::encode(&body, buf.get_mut(2..)?)?;
        let begin = codec::encode(&u16::try_from(len).ok()?, buf)?;
        let end = begin.checked_add(len)?;
        if begin < 2 {
            for at in begin..end {
                *buf.get_mut(at)? = *buf.get(at.checked_add(1)?)?;
            }
        }
        let digest = C::hash("strandline/record/v1", &[&network.0, buf.get(begin..end)?]);
        let signature = C::sign(secret, signer, &digest);
        *buf.get_mut(end..)?.first_chunk_mut::<64>()? = signature;
        let whole = end.checked_add(64)?;
        (whole <= RECORD_LEN_MAX).then_some(whole)
    }

    /// As [`Draft::sign`], encoding `payload` first.
    pub fn sign_payload<C: Crypto, T: Encode>(
        &self,
        payload: &T,
        secret: &SecretKey,
        signer: &PublicKey,
        network: NetworkId,
        buf: &mut [u8],
    ) -> Option<usize> {
        let mut bytes: PayloadBuf = [0; PAYLOAD_LEN_MAX];
        let len = codec::encode(payload, &mut bytes)?;
        self.sign::<C>(bytes.get(..len)?, secret, signer, network, buf)
    }
}

/// A record as a holder passes it on, in `Found` replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copy<'a> {
    /// How long ago its slot was first seen by a holder, in ms; travels with hand-over.
    pub age_ms: u64,
    /// What is left of its lifetime, in ms, rounded down.
    pub remaining_ms: u64,
    /// The signed record.
    pub record: &'a [u8],
}

coded_struct! { Copy<'a> { age_ms, remaining_ms, record } }

impl<'a> Copy<'a> {
    /// Reads the copies in the `records` field of a `Found` reply; stops at the first that does not decode.
    pub fn iter(mut bytes: &'a [u8]) -> impl Iterator<Item = Self> + 'a {
        core::iter::from_fn(move || {
            let (copy, rest) = codec::decode(bytes)?;
            bytes = rest;
            Some(copy)
        })
    }

    /// Encodes the copy at the start of `buf` and returns its length; `None` when it does not fit.
    pub fn encode(&self, buf: &mut [u8]) -> Option<usize> {
        codec::encode(self, buf)
    }
}

/// Payload of [`Kind::Claim`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The name in use.
    pub name: Name,
    /// When the user first claimed it, Unix ms, by its own account; 0 unknown.
    pub first_claimed_ms: u64,
}

coded_struct! { Claim { name, first_claimed_ms } }

/// Payload of [`Kind::Profile`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Profile<'a> {
    /// The user's name.
    pub name: Name,
    /// Where its node listens, UDP and TCP; packed addresses of 18 bytes, at most [`PROFILE_ADDRESSES_MAX`].
    pub addresses: &'a [u8],
    /// How long from issuing the node may be taken for online, in ms; 0 after saying goodbye.
    pub lease_ms: u32,
    /// The author's logs: number (2 bytes, big-endian) and public key (32) each. Empty: only log 0, whose key
    /// is the identity.
    pub logs: &'a [u8],
    /// How many followers the author knows of.
    pub followers: u32,
    /// The hash of the next identity key; all zero when there is none yet.
    pub next_key: Digest,
}

coded_struct! { Profile<'a> { name, addresses, lease_ms, logs, followers, next_key } }

/// Most addresses in a profile.
pub const PROFILE_ADDRESSES_MAX: usize = 4;

impl<'a> Profile<'a> {
    /// The addresses, in the author's order.
    pub fn addresses(&self) -> impl Iterator<Item = PackedAddr> + 'a {
        self.addresses
            .chunks_exact(18)
            .take(PROFILE_ADDRESSES_MAX)
            .filter_map(|chunk| chunk.try_into().ok().map(PackedAddr::from_bytes))
    }
}

/// Payload of [`Kind::Head`]. The record's page is the log's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// Number of the last post; 0 when there is none.
    pub last: u64,
    /// Hash of the last post's header; all zero when there is none.
    pub hash: Digest,
    /// No number above this was ever shown to anybody.
    pub reserved: u64,
    /// How long others may keep the posts after the last confirmation, in ms.
    pub keep_ms: u32,
    /// When the author confirmed this head, Unix ms; 0 without a clock.
    pub confirmed_ms: u64,
    /// The newest holders of copies, at most [`HEAD_HOLDERS_MAX`], each [`HOLDER_LEN`] bytes: user id and address.
    pub holders: &'a [u8],
}

coded_struct! { Head<'a> { last, hash, reserved, keep_ms, confirmed_ms, holders } }

/// Most holders named in a head.
pub const HEAD_HOLDERS_MAX: usize = 4;
/// Bytes of one holder in a head: user id and packed address.
pub const HOLDER_LEN: usize = 32 + 18;

impl<'a> Head<'a> {
    /// The holders named, newest first.
    pub fn holders(&self) -> impl Iterator<Item = (UserId, PackedAddr)> + 'a {
        self.holders
            .chunks_exact(HOLDER_LEN)
            .take(HEAD_HOLDERS_MAX)
            .filter_map(|chunk| {
                let (user, addr) = chunk.split_first_chunk::<32>()?;
                Some((
                    UserId::from_bytes(*user),
                    PackedAddr::from_bytes(addr.try_into().ok()?),
                ))
            })
    }
}

/// Payload of [`Kind::Follow`]. The record's subject is the followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Follow {
    /// The follower's name.
    pub name: Name,
    /// Where the follower's node listens.
    pub address: PackedAddr,
    /// Following (true) or gone (false).
    pub following: bool,
    /// How long from issuing the follower holds the posts, in ms; 0 when it holds nothing.
    pub holds_ms: u32,
    /// The highest post number held or seen.
    pub last_seen: u64,
}

coded_struct! { Follow { name, address, following, holds_ms, last_seen } }

/// Payload of [`Kind::Following`]: a page of user ids (32 bytes) and names, one after the other in postcard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Following<'a> {
    /// How many pages there are in all.
    pub pages: u16,
    /// [`Followed`] entries in postcard, one after the other.
    pub entries: &'a [u8],
}

coded_struct! { Following<'a> { pages, entries } }

/// One entry of a [`Following`] page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Followed {
    /// Who is followed.
    pub user: UserId,
    /// Under which name.
    pub name: Name,
}

coded_struct! { Followed { user, name } }

/// Most entries in a page of [`Following`].
pub const FOLLOWING_PER_PAGE: usize = 12;

impl<'a> Following<'a> {
    /// The entries of the page; stops at the first that does not decode.
    pub fn iter(&self) -> impl Iterator<Item = Followed> + 'a {
        let mut rest = self.entries;
        core::iter::from_fn(move || {
            let (entry, tail) = codec::decode(rest)?;
            rest = tail;
            Some(entry)
        })
        .take(FOLLOWING_PER_PAGE)
    }
}

/// Payload of [`Kind::Holding`]: a page of authors whose posts the record's author holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holding<'a> {
    /// [`HELD_LEN`] bytes each: user id, and until when in Unix ms (8 bytes, big-endian).
    pub entries: &'a [u8],
}

coded_struct! { Holding<'a> { entries } }

/// Bytes of one entry of a [`Holding`] page.
pub const HELD_LEN: usize = 32 + 8;
/// Most entries in a page of [`Holding`].
pub const HOLDING_PER_PAGE: usize = 16;

impl<'a> Holding<'a> {
    /// The entries of the page: author, and until when (Unix ms).
    pub fn iter(&self) -> impl Iterator<Item = (UserId, u64)> + 'a {
        self.entries
            .chunks_exact(HELD_LEN)
            .take(HOLDING_PER_PAGE)
            .filter_map(|chunk| {
                let (user, until) = chunk.split_first_chunk::<32>()?;
                Some((
                    UserId::from_bytes(*user),
                    u64::from_be_bytes(until.try_into().ok()?),
                ))
            })
    }
}

/// Payload of [`Kind::Sighting`]. The record's subject is the missed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// When the subject did not answer, Unix ms; 0 without a clock.
    pub missed_ms: u64,
}

coded_struct! { Sighting { missed_ms } }
