//! The overlay: which contacts a node keeps, and which of them are nearest to a key.
//!
//! Owns the seam between the DHT and the shape of its network. An [`Overlay`] decides whom to keep, whom to
//! check and which keys to look up for its own upkeep; it sends nothing and answers with what is to be done.
//! Invariants: only a node that answered at its address is ever among the contacts; an address has one contact.

mod aside;
pub mod chord;
pub mod kademlia;

use crate::addr::PackedAddr;
use crate::bounded::Fixed;
use crate::crypto::Crypto;
use crate::id::{Distance, Key, NodeId};
use crate::rng::Rng;
use crate::rpc::{Peer, Rtt};
use crate::time::{Deadline, Instant};
use crate::wire::datagram::{Contact, NO_TOKEN, Token};

/// The usual k, and the largest: a reply has no room for more contacts.
pub const K: usize = 20;
/// The usual α.
pub const ALPHA: usize = 3;
/// How many nodes usually hold a record.
pub const REPLICATION: usize = 8;
/// The fewest that may, and so the least k: two hand a record on, and two more can lack it.
pub const REPLICATION_MIN: usize = 4;

const _: () =
    assert!(REPLICATION_MIN <= REPLICATION && REPLICATION <= K && ALPHA <= REPLICATION_MIN);

/// How wide a network is: how many nodes its replies name, its lookups ask, its records lie with. Everything has its usual
/// value here.
///
/// All nodes of a network have the same widths. So they belong to the type of an overlay, and take no place in a node; that
/// they are functions costs nothing either, and lets a simulator have them from its command line. They may not change while
/// a node lives. What lies outside its limits counts as the nearest number within, see [`Overlay::k`].
pub trait Width: 'static {
    /// The papers' k: how many contacts a reply names, a lookup ends with, a bucket holds, and how long a list of successors
    /// is. [`REPLICATION_MIN`] to [`K`].
    fn k() -> usize {
        K
    }

    /// The paper's α: how many questions of a lookup are under way at once. 1 to k: it is the k nearest that are asked.
    fn alpha() -> usize {
        ALPHA
    }

    /// How many nodes hold a record: [`REPLICATION_MIN`] to k.
    fn replication() -> usize {
        REPLICATION
    }

    /// On a ring, the length of the successor list, where the plan has places for twice as many: one at least.
    fn successors() -> usize {
        Self::k()
    }

    /// On a ring, how many nodes at a key or behind it a reply names, where those before it are named too: one at least, and
    /// not more than in all.
    fn named_behind() -> usize {
        chord::behind_key(Self::k())
    }

    /// On a ring, how many nodes a reply names in all about a key close behind this node: k at most.
    fn named() -> usize {
        Self::k()
    }

    /// On a ring, how many nodes a reply names about a key that is far: one at least, and k at most.
    fn named_far() -> usize {
        chord::BEFORE_FAR_KEY.min(Self::k())
    }
}

/// The usual [`Width`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usual;

impl Width for Usual {}

/// A contact and what is known about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Who and where.
    pub contact: Contact,
    /// The token that it gave this node.
    pub token: Token,
    /// How fast it answers.
    pub rtt: Rtt,
    /// When it was last heard, in seconds of the host's clock.
    seen_s: u32,
    /// What the overlay sorts by.
    bucket: u8,
    /// It was taken as a neighbour with [`Overlay::pop_neighbour`].
    neighbour: bool,
}

impl Entry {
    /// A contact that answered just now.
    fn new(now: Instant, contact: Contact, token: Token, rtt_ms: Option<u64>, bucket: u8) -> Self {
        let mut rtt = Rtt::UNKNOWN;
        if let Some(ms) = rtt_ms {
            rtt.sample(ms);
        }
        Self {
            contact,
            token,
            rtt,
            seen_s: seconds(now),
            bucket,
            neighbour: false,
        }
    }

    /// Somebody with its id answered. If that came from another address, the old one stays unless it fails: it is
    /// to be pinged if it was not heard for `fresh_s`.
    fn answered_again(
        &mut self,
        now: Instant,
        contact: &Contact,
        token: Token,
        rtt_ms: Option<u64>,
        fresh_s: u32,
    ) -> Option<Peer> {
        let now_s = seconds(now);
        if self.contact.addr != contact.addr {
            return (now_s.saturating_sub(self.seen_s) >= fresh_s).then(|| self.peer());
        }
        if token != NO_TOKEN {
            self.token = token;
        }
        if let Some(ms) = rtt_ms {
            self.rtt.sample(ms);
        }
        self.seen_s = now_s;
        None
    }

    /// Takes it as a neighbour, or as none any more.
    const fn turn_neighbour(&mut self) -> Neighbour {
        self.neighbour = !self.neighbour;
        if self.neighbour {
            Neighbour::Up(self.contact)
        } else {
            Neighbour::Down(self.contact.id)
        }
    }

    /// What a request to it needs.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        Peer {
            addr: self.contact.addr,
            token: self.token,
            rtt: self.rtt,
        }
    }
}

/// Places of contacts in an overlay, nearest first, valid until the overlay changes.
pub type Nearest = Fixed<u16, K>;

/// What a change of the contacts asks of the parent.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// This node is among the contacts now and was not before.
    pub added: Option<Contact>,
    /// This neighbour, taken as such with [`Overlay::pop_neighbour`], is gone.
    pub down: Option<NodeId>,
    /// See whether this contact is still there, by a ping: a newcomer waits for its place.
    pub probe: Option<Peer>,
}

/// What a request or a reply that names a node is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// It is a contact.
    Known,
    /// It is not, but there would be room: worth a ping.
    Wanted,
    /// There would be no room.
    Unwanted,
}

/// A difference in the set of nearest neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Neighbour {
    /// It came.
    Up(Contact),
    /// It went, or nearer ones came.
    Down(NodeId),
}

/// The keys that a node is responsible for, as its overlay has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Responsibility {
    /// It is among the nodes that hold what lies at any key within this radius.
    Radius {
        /// How many leading bits a key has to share with the node's id at least; 0: it may be any key.
        prefix_bits: u16,
    },
    /// It owns the keys of a part of the ring.
    Range {
        /// The key before the first: the id of the predecessor. The same as `last`: every key.
        after: Key,
        /// The last key: the node's own id.
        last: Key,
    },
}

/// Contacts of a node, kept by the rules of one kind of overlay.
pub trait Overlay: Sized {
    /// How wide its networks are. Ask for k, α and replication here, where they are within their limits.
    type Width: Width;

    /// No contacts; all zero.
    const EMPTY: Self;

    /// What sets the networks of this overlay apart from those of others that share its wire and name, see
    /// [`NetworkId::marked`](crate::wire::NetworkId::marked). Kademlia's is zero.
    const MARK: [u8; 4];

    /// Most contacts.
    const CAPACITY: usize;

    /// Whether the ids form a ring, on which a key has one owner: the nearest node, which says so when it is asked
    /// about the key. A lookup goes there by way of nodes before the key, which are far by the metric, and is
    /// certain once the owner answered. Otherwise any node near a key may be asked, and none is special.
    const RING: bool = false;

    /// See [`Width::k`].
    #[must_use]
    fn k() -> usize {
        Self::Width::k().clamp(REPLICATION_MIN, K)
    }

    /// See [`Width::alpha`].
    #[must_use]
    fn alpha() -> usize {
        Self::Width::alpha().clamp(1, Self::k())
    }

    /// See [`Width::replication`].
    #[must_use]
    fn replication() -> usize {
        Self::Width::replication().clamp(REPLICATION_MIN, Self::k())
    }

    /// Of how many of the nearest to a key a node can tell, from its contacts, whether it is one of them: at least of as
    /// many as hold a record.
    #[must_use]
    fn near() -> usize;

    /// How far `id` is from `key`: of all nodes the nearest ones hold what lies there.
    fn distance(key: &Key, id: &NodeId) -> Distance;

    /// Begins as the node `own`, without contacts.
    fn start(&mut self, own: NodeId);

    /// The contacts, in an order of its own.
    fn entries(&self) -> &[Entry];

    /// The contact at a place of [`Nearest`].
    fn at(&self, place: u16) -> Option<&Entry> {
        self.entries().get(usize::from(place))
    }

    /// The contact with this id.
    fn find(&self, id: &NodeId) -> Option<&Entry>;

    /// The contacts nearest to `target`, at most k, nearest first.
    fn nearest(&self, target: &Key) -> Nearest;

    /// The contacts with which a lookup of `target` begins, and which a reply about it names, the most useful first.
    fn towards(&self, target: &Key) -> Nearest {
        self.nearest(target)
    }

    /// Counts the contacts nearer to `key` than this node, but only to `limit`.
    fn nearer_than_own(&self, key: &Key, limit: usize) -> usize;

    /// Whether `contact` is nearer to `key` than `other` is.
    fn is_nearer(&self, key: &Key, contact: &NodeId, other: &NodeId) -> bool {
        Self::distance(key, contact) < Self::distance(key, other)
    }

    /// Whether this node is, as far as it knows, responsible for `key`: one of those that hold what lies there, or
    /// the one that owns it, as the overlay has it.
    fn is_responsible(&self, key: &Key) -> bool;

    /// A node answered a request at its address, with a token and perhaps a round-trip time in ms. A full
    /// table keeps it in reserve, or forgets it when that is full too.
    fn answered(
        &mut self,
        now: Instant,
        contact: Contact,
        token: Token,
        rtt_ms: Option<u64>,
    ) -> Change;

    /// A node whose address is proven sent a request. Refreshes a contact; a stranger is only judged.
    fn heard(&mut self, now: Instant, contact: Contact) -> Heard;

    /// Whether a node that somebody named would find room.
    fn judge(&self, contact: &Contact) -> Heard;

    /// A node whose address is proven asks about `key`. Tells whom to ping because of that.
    fn asked(&mut self, _now: Instant, _from: &Contact, _key: &Key) -> Option<Peer> {
        None
    }

    /// The contact asked for [`Upkeep::Ask`] named others, as in [`Contact::iter`]; strangers that were pinged just now and
    /// did not answer are `unreached`. Tells whom to ping because of that.
    fn named(
        &mut self,
        _now: Instant,
        _from: &Contact,
        _others: &[u8],
        _unreached: impl Fn(&PackedAddr) -> bool,
    ) -> Option<Peer> {
        None
    }

    /// Nobody answered at an address: the contact there goes, is set aside, and one in reserve takes its place.
    fn failed(&mut self, now: Instant, addr: &PackedAddr) -> Change;

    /// A contact said goodbye, or somebody else lives at its address: it goes and is not set aside.
    fn left(&mut self, now: Instant, contact: &Contact) -> Change;

    /// A lookup ended without the owner of its key: upkeep asks for [`Upkeep::LookAgain`] soon.
    fn lacked(&mut self, _now: Instant) {}

    /// When to call [`upkeep`](Overlay::upkeep) next.
    fn next_upkeep(&self) -> Deadline;

    /// What its upkeep asks for at `now`; afterwards [`next_upkeep`](Overlay::next_upkeep) is later.
    fn upkeep<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Upkeep;

    /// The own place in the network was looked up: fill the rest of the table soon.
    fn joined(&mut self, now: Instant);

    /// Takes a difference between the nearest neighbours as they are and as they were taken here.
    fn pop_neighbour(&mut self) -> Option<Neighbour>;

    /// Takes the keys that this node is certainly responsible for, if they are others than were taken here last.
    fn pop_responsibility(&mut self) -> Option<Responsibility>;
}

/// What upkeep asks of the parent.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upkeep {
    /// Nothing this time.
    Nothing,
    /// Look this key up.
    Lookup(Key),
    /// Ping this node.
    Ping(Peer),
    /// Ask this node who is near to the own id, and tell the overlay with [`Overlay::named`].
    Ask(Peer),
    /// Begin those lookups again that ended without the owner of their key.
    LookAgain,
}

/// A contact that stopped answering, and since when, in seconds of the host's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Silent {
    contact: Contact,
    since_s: u32,
}

/// A node that answered but found no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spare {
    contact: Contact,
    token: Token,
    rtt: Rtt,
    bucket: u8,
}

impl Spare {
    /// The contact that it becomes, as one that answered just now.
    fn entry(&self, now: Instant) -> Entry {
        Entry {
            contact: self.contact,
            token: self.token,
            rtt: self.rtt,
            seen_s: seconds(now),
            bucket: self.bucket,
            neighbour: false,
        }
    }
}

/// The whole seconds of an instant.
#[inline(never)] // Called from many places: shorter on a board.
fn seconds(now: Instant) -> u32 {
    u32::try_from(now.as_ms() / 1_000).unwrap_or(u32::MAX)
}
