//! The rules that a peer can break, and how often each was broken.
//!
//! Bytes from a peer are never an error to the host: they are dropped, counted here under the name of
//! the broken rule, and the node carries on. `status` prints the counters. The list is append-only,
//! since scripts read the names.

macro_rules! rules {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A rule of the protocol that a datagram, frame, record or post broke.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Rule { $($(#[$doc])* $variant,)* }

        impl Rule {
            /// Every rule, in the order of its counter.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name under which `status` shows the counter: kebab case, stable.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

rules! {
    /// A datagram of more than 1200 bytes or a frame of more than 1024.
    Overlong = "overlong",
    /// Bytes that do not decode, or that go on after the last field.
    Malformed = "malformed",
    /// A request shorter than the smallest reply: answering it would amplify.
    Undersized = "undersized",
    /// Another protocol version.
    Version = "version",
    /// Another network's datagram or frame.
    Network = "network",
    /// A request that needs an address token and has none that is valid.
    Token = "token",
    /// A reply to nothing that was asked, or too late.
    Unsolicited = "unsolicited",
    /// A reply from another address than the one asked, or under another id.
    WrongSender = "wrong-sender",
    /// A datagram that carries this node's own id.
    OwnId = "own-id",
    /// A contact at an address that cannot be one: unspecified, multicast, port 0, ourselves.
    BadContact = "bad-contact",
    /// A signature that does not verify.
    Signature = "signature",
    /// A record, head or post written by somebody other than its author.
    Author = "author",
    /// A record at a key where its kind or author has no place.
    Key = "key",
    /// A record or payload of an unknown kind, or of the wrong kind for its place.
    Kind = "kind",
    /// A payload that does not decode as its kind says.
    Payload = "payload",
    /// An older sequence than the one held.
    Older = "older",
    /// A lifetime of zero, beyond the cap of its kind, or already over.
    Lifetime = "lifetime",
    /// An issuing time further in the future than clocks differ.
    Future = "future",
    /// The quota of the source or of the key is used up.
    Quota = "quota",
    /// A table or queue of this node was full.
    Full = "full",
    /// A post or head that does not fit the chain of hashes.
    Chain = "chain",
    /// Two signed heads with one number and two hashes.
    Fork = "fork",
    /// A frame that the stream's state does not allow.
    OutOfTurn = "out-of-turn",
    /// A request to relay by somebody whose follow record is not held here.
    NotFollowing = "not-following",
    /// A (reader, request) that was seen before and asks for relaying again.
    Repeated = "repeated",
    /// A challenge answered with a key or signature that does not prove the id.
    Proof = "proof",
    /// A peer that was too slow: its stream made no progress before the deadline.
    Stalled = "stalled",
}

/// How often each [`Rule`] was broken by peers since the start. Counters saturate.
#[derive(Clone, Debug)]
pub struct Dropped([u32; Rule::ALL.len()]);

impl Dropped {
    /// All zero.
    pub const NONE: Self = Self([0; Rule::ALL.len()]);

    /// Counts one more.
    #[inline(never)] // Called from everywhere, and only when something is wrong.
    pub fn count(&mut self, rule: Rule) {
        if let Some(n) = self.0.get_mut(rule as usize) {
            *n = n.saturating_add(1);
        }
    }

    /// How often `rule` was broken.
    #[must_use]
    pub fn of(&self, rule: Rule) -> u32 {
        self.0.get(rule as usize).copied().unwrap_or(0)
    }

    /// The sum over all rules.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(|&n| u64::from(n)).sum()
    }

    /// Every rule with its counter, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Rule, u32)> + '_ {
        Rule::ALL.iter().map(|&rule| (rule, self.of(rule)))
    }

    /// Adds the counters of another layer.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0.iter()) {
            *mine = mine.saturating_add(*theirs);
        }
    }
}
