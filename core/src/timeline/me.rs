//! Who this node's user is, and everything that its key signs.
//!
//! Owns the identity, the settings, the generator of the timeline, the date, and the sequence of the user's records.
//! What is said in a record is decided elsewhere. Invariant: no two different records of this user carry one
//! sequence, but values for which the application chose it, and nothing is signed once the storage has failed or before the log's numbers are known.

use crate::addr::PackedAddr;
use crate::clock::Clock;
use crate::config::{Config, Durability, Identity};
use crate::crypto::{Crypto, PublicKey, SecretKey, Signature};
use crate::id::{Key, UserId};
use crate::name::Name;
use crate::overlay::Overlay;
use crate::plan::{Plan, Uses};
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::codec::{Encode, Writer};
use crate::wire::frame::Get;
use crate::wire::record::{Draft, Kind, PayloadBuf};
use crate::wire::{NetworkId, PAYLOAD_LEN_MAX};

/// The longest lifetime that holders allow a record whose author has no clock, in ms (1 h).
pub const LIFETIME_UNDATED_MS: u32 = 60 * 60 * 1000;

/// The user, its key and its settings.
pub struct Me<P: Plan> {
    user: UserId,
    public: PublicKey,
    secret: SecretKey,
    name: Name,
    network: NetworkId,
    /// Where the node listens, as configured.
    listen: PackedAddr,
    fanout: u8,
    durability: Durability,
    keep_ms: u32,
    refresh_ms: u32,
    query_ms: u32,
    rng: Rng<P::Crypto>,
    clock: Clock,
    /// The highest sequence used or seen.
    sequence: u64,
    /// When the name was first claimed, Unix ms; 0: unknown.
    claimed_ms: u64,
    /// Nothing may be signed.
    mute: bool,
}

/// What a record is about, before it gets a sequence and a date.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// See [`Draft::kind`].
    pub kind: Kind,
    /// See [`Draft::key`].
    pub key: Key,
    /// See [`Draft::subject`].
    pub subject: Option<UserId>,
    /// See [`Draft::page`].
    pub page: u16,
    /// See [`Draft::lifetime_ms`]; shortened to the kind's longest, and to an hour without a clock.
    pub lifetime_ms: u32,
}

impl<P: Plan> Me<P> {
    /// Nobody yet: all zero.
    pub const UNSET: Self = Self {
        user: UserId::ZERO,
        public: [0; 32],
        secret: SecretKey::UNSET,
        name: Name::UNSET,
        network: NetworkId::NONE,
        listen: PackedAddr::NONE,
        fanout: 0,
        durability: Durability::Host,
        keep_ms: 0,
        refresh_ms: 0,
        query_ms: 0,
        rng: Rng::unseeded(),
        clock: Clock::unset(),
        sequence: 0,
        claimed_ms: 0,
        mute: false,
    };

    /// Takes identity and settings. Nothing is signed before [`Me::unmute`].
    pub fn start(&mut self, identity: Identity, config: &Config, rng: Rng<P::Crypto>) {
        self.public = P::Crypto::public_key(&identity.user);
        self.user = UserId::of_key::<P::Crypto>(&self.public);
        self.secret = identity.user;
        self.name = identity.name;
        self.network = config.network.marked(P::Overlay::MARK);
        self.listen = config.listen.into();
        self.fanout = config.fanout;
        self.durability = config.durability;
        self.keep_ms = config.keep_ms;
        self.refresh_ms = config.refresh_ms;
        self.query_ms = config.query_ms;
        self.rng = rng;
        self.mute = true;
    }

    /// Allows signing: the log's numbers are known.
    pub fn unmute(&mut self) {
        self.mute = false;
    }

    /// Forbids signing until the next start: the storage failed.
    pub fn mute(&mut self) {
        self.mute = true;
    }

    /// Whether signing is forbidden.
    #[must_use]
    pub fn is_mute(&self) -> bool {
        self.mute
    }

    /// The user's id.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The user's identity key.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The user's name.
    #[must_use]
    pub fn name(&self) -> Name {
        self.name
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// Where the node listens, as configured; the IP address may be unspecified.
    #[must_use]
    pub fn listen(&self) -> PackedAddr {
        self.listen
    }

    /// How many are asked in parallel in a get tree.
    #[must_use]
    pub fn fanout(&self) -> u8 {
        self.fanout
    }

    /// What makes a post durable. With a plan without storage never that: [`Node::start`](crate::node::Node::start) refuses it,
    /// and what is only for it is not in a board's image.
    #[must_use]
    pub fn durability(&self) -> Durability {
        if P::Uses::STORAGE || self.durability != Durability::Host {
            self.durability
        } else {
            Durability::Holders(1)
        }
    }

    /// For how long others may keep the posts, in ms.
    #[must_use]
    pub fn keep_ms(&self) -> u32 {
        self.keep_ms
    }

    /// How often everyone followed is read again, in ms; 0: never.
    #[must_use]
    pub fn refresh_ms(&self) -> u32 {
        self.refresh_ms
    }

    /// How long a command may take unless it says otherwise, in ms.
    #[must_use]
    pub fn query_ms(&self) -> u32 {
        self.query_ms
    }

    /// The timeline's generator.
    pub fn rng(&mut self) -> &mut Rng<P::Crypto> {
        &mut self.rng
    }

    /// The date.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Sets the date.
    pub fn set_clock(&mut self, now: Instant, unix_ms: u64, uncertainty_ms: u32) {
        self.clock.set(now, unix_ms, uncertainty_ms);
    }

    /// Unix time in ms; 0 without a clock, as wire formats write it.
    #[must_use]
    pub fn unix_ms(&self, now: Instant) -> u64 {
        self.clock.unix_ms(now).unwrap_or(0)
    }

    /// The highest sequence used so far.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Learns of a sequence that this user's key has used (from storage, or from a holder that answered `Older`): the next
    /// one will be above it.
    pub fn saw_sequence(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    /// When the name was first claimed, Unix ms, by this user's own account; 0: unknown.
    #[must_use]
    pub fn claimed_ms(&self) -> u64 {
        self.claimed_ms
    }

    /// Puts back what storage remembered of the first claim.
    pub fn restore_claimed(&mut self, claimed_ms: u64) {
        self.claimed_ms = claimed_ms;
    }

    /// Dates the first claim, unless that was done. Tells whether it was done now.
    pub fn claim_since(&mut self, now: Instant) -> bool {
        let dated = self.claimed_ms == 0 && self.unix_ms(now) != 0;
        if dated {
            self.claimed_ms = self.unix_ms(now);
        }
        dated
    }

    /// Signs a record into `buf` and returns its length. `None` while mute, or when it does not fit.
    ///
    /// Its sequence is above every one before, and not below the date in ms, so that it is also above what was signed
    /// before storage was lost.
    pub fn sign(
        &mut self,
        now: Instant,
        about: &About,
        payload: &dyn Encode,
        buf: &mut [u8],
    ) -> Option<usize> {
        let mut encoded: PayloadBuf = [0; PAYLOAD_LEN_MAX];
        let mut to = Writer::new(&mut encoded);
        payload.encode(&mut to);
        let len = to.written()?;
        self.sign_bytes(now, about, encoded.get(..len)?, buf)
    }

    /// As [`Me::sign`], with the payload as it is to travel.
    pub fn sign_bytes(
        &mut self,
        now: Instant,
        about: &About,
        payload: &[u8],
        buf: &mut [u8],
    ) -> Option<usize> {
        self.sign_as(now, about, None, payload, buf)
    }

    /// As [`Me::sign_bytes`], with the sequence that the application chose for a value of its own, if it did.
    pub fn sign_as(
        &mut self,
        now: Instant,
        about: &About,
        sequence: Option<u64>,
        payload: &[u8],
        buf: &mut [u8],
    ) -> Option<usize> {
        if self.mute {
            return None;
        }
        let issued_ms = self.unix_ms(now);
        let mut lifetime_ms = about.lifetime_ms.min(about.kind.lifetime_max_ms());
        if issued_ms == 0 {
            lifetime_ms = lifetime_ms.min(LIFETIME_UNDATED_MS);
        }
        if sequence.is_none() {
            self.sequence = self.sequence.saturating_add(1).max(issued_ms);
        }
        let draft = Draft {
            kind: about.kind,
            key: about.key,
            author: self.user,
            subject: about.subject,
            page: about.page,
            sequence: sequence.unwrap_or(self.sequence),
            issued_ms,
            lifetime_ms,
        };
        draft.sign::<P::Crypto>(payload, &self.secret, &self.public, self.network, buf)
    }

    /// Signs the part of a `Get` that is the same in every hop; `None` while mute. Returns the date that it carries.
    pub fn sign_get(&self, now: Instant, request: u64) -> Option<(u64, Signature)> {
        if self.mute {
            return None;
        }
        let issued_ms = self.unix_ms(now);
        let signature = Get::sign::<P::Crypto>(
            self.network,
            request,
            &self.public,
            issued_ms,
            self.fanout,
            &self.secret,
        );
        Some((issued_ms, signature))
    }
}
