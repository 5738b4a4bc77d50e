//! The distributed hash table: lookups, records and messages between nodes. It is the toolkit on its own, and
//! what the timeline stands on.
//!
//! Owns the composition of `rpc`, `overlay`, `lookup` and `records`: which request is answered how (`serve`), what
//! is sent (`sending`), what an answer means (`replies`), operations and the visits that they consist of (`ops`,
//! `visits`, `sharing`; what a visit does: `gets`, `puts`, `messages`), joining and leaving (`joining`), handing records to
//! newcomers (`handover`), comparing them with the other holders (`repair`; what they are answered: `comparing`), copies of
//! what many read (`caching`), and what is told (`events`). Invariants: every operation ends by its deadline; nothing goes
//! to an address that was not asked for by the host, did not send a request just now or did not answer a ping, but one
//! ping; what is sent is encoded at poll time.

mod caching;
mod comparing;
mod events;
mod gets;
mod handover;
mod joining;
mod messages;
mod observed;
mod ops;
mod puts;
mod repair;
mod replies;
mod ring;
mod sending;
mod serve;
mod sharing;
mod values;
mod visits;

use core::net::{IpAddr, SocketAddr};

pub use caching::{Asked, Cached};
pub use events::Notice;
pub use gets::{Shard, Value};
pub use messages::{Letter, Recent};
pub use observed::Vote;
pub use ops::{Done, Job, Op, OpId, OpResult, Owner, WITHIN_MAX_MS};
pub use replies::{Found, LocalRecord, Verified};
pub use serve::Reply;
pub use sharing::Share;
pub use visits::Visit;

use crate::addr::{PackedAddr, is_local, is_usable_contact};
use crate::bounded::{BlobId, Blobs, Handle, List, Ring, Slab};
use crate::clock::Clock;
use crate::crypto::{Crypto, SecretKey};
use crate::id::{Key, NodeId};
use crate::output::Table;
use crate::overlay::{Change, Entry, Overlay, REPLICATION, Upkeep};
use crate::plan::Plan;
use crate::records::Records;
use crate::rng::Rng;
use crate::rpc::{Expired, Peer, Repeat, Rpc, Tag, Tokens};
use crate::rules::{Dropped, Rule};
use crate::time::{Deadline, Instant};
use crate::wire::NetworkId;
use crate::wire::datagram::{Contact, Datagram};

use caching::Caching;
use handover::HandOver;
use joining::Joining;
use observed::Observed;
use repair::Repair;

/// How many holders usually have to take a record for it to be stored, if as many can be reached.
pub const QUORUM: u8 = 5;

const _: () = assert!((QUORUM as usize) <= REPLICATION);

/// How many they are: all, where fewer than [`QUORUM`] hold a record.
pub(crate) fn quorum<P: Plan>() -> u8 {
    u8::try_from(P::Overlay::replication()).map_or(QUORUM, |replication| QUORUM.min(replication))
}

/// A node of the distributed hash table, without a timeline.
///
/// # Inputs
/// [`start`](Self::start) first; then [`handle_datagram`](Self::handle_datagram),
/// [`handle_timeout`](Self::handle_timeout) at [`next_deadline`](Self::next_deadline), [`set_clock`](Self::set_clock),
/// and the operations: [`join`](Self::join), [`find`](Self::find), [`get`](Self::get), [`put`](Self::put),
/// [`send`](Self::send), [`leave`](Self::leave). They never panic, whatever the bytes.
///
/// # Output
/// After any input, call [`poll_send`](Self::poll_send), [`poll_local`](Self::poll_local),
/// [`poll_done`](Self::poll_done), [`poll_event`](Self::poll_event) and [`poll_contact`](Self::poll_contact) until all
/// of them return `None` in one round.
#[repr(C)] // The large last: a board reaches the first fields with short instructions.
pub struct Dht<P: Plan> {
    /// The latest time handed in; time never runs backwards here.
    now: Instant,
    /// No later than the first deadline of an operation.
    ops_wake: Deadline,
    clock: Clock,
    joining: Joining<P>,
    handover: HandOver<P>,
    repair: Repair,
    rpc: Rpc<P>,
    id: NodeId,
    secret: SecretKey,
    network: NetworkId,
    /// Rises with each operation, so that those that wait are served in turn.
    serial: u32,
    tokens: Tokens,
    ready: Ring<Handle, P::Ready>,
    /// The message whose event was polled last, while it may be answered: of its blob only the head is left.
    asked: Option<BlobId>,
    shares: P::Shares,
    ops: Slab<Op<P>, P::Ops>,
    values: P::Values,
    replies: Ring<Reply, P::Replies>,
    recent: P::Recent,
    notices: Ring<Notice, P::Notices>,
    saved: P::Saved,
    caching: Caching<P>,
    observed: Observed<P>,
    dropped: Dropped,
    listen: PackedAddr,
    started: bool,
    /// The own address is local or not known: local addresses of others are welcome, and not counted.
    local: bool,
    /// Some operation waits for a visit.
    waiting: bool,
    /// A visit could not send for want of room among the requests under way.
    starved: bool,
    /// Some visit may have own records for a get of the timeline.
    own_reads: bool,
    contacts_changed: bool,
    rng: Rng<P::Crypto>,
    parked: P::Parked,
    visits: Slab<Visit<P>, P::Visits>,
    overlay: P::Overlay,
    records: Records<P>,
}

impl<P: Plan> Dht<P> {
    /// A node that was not started: all zero, for a `static`. It ignores inputs and refuses operations.
    pub const EMPTY: Self = {
        assert!(
            P::Ready::CAPACITY >= P::Visits::CAPACITY,
            "every visit may be ready"
        );
        Self {
            now: Instant::ZERO,
            started: false,
            id: NodeId::ZERO,
            secret: SecretKey::UNSET,
            network: NetworkId::NONE,
            listen: PackedAddr::NONE,
            local: false,
            rng: Rng::unseeded(),
            clock: Clock::unset(),
            tokens: Tokens::EMPTY,
            rpc: Rpc::EMPTY,
            overlay: P::Overlay::EMPTY,
            records: Records::EMPTY,
            ops: Slab::EMPTY,
            shares: P::Shares::EMPTY,
            ops_wake: Deadline::NEVER,
            serial: 0,
            waiting: false,
            visits: Slab::EMPTY,
            ready: Ring::EMPTY,
            starved: false,
            own_reads: false,
            parked: P::Parked::EMPTY,
            values: P::Values::EMPTY,
            replies: Ring::EMPTY,
            recent: P::Recent::EMPTY,
            asked: None,
            notices: Ring::EMPTY,
            joining: Joining::EMPTY,
            saved: P::Saved::EMPTY,
            contacts_changed: false,
            handover: HandOver::EMPTY,
            repair: Repair::EMPTY,
            caching: Caching::EMPTY,
            observed: Observed::EMPTY,
            dropped: Dropped::NONE,
        }
    };

    /// Starts the node with the key `node`, in `network`, with its overlay's mark. `listen` is where it receives datagrams; if its IP
    /// address is unspecified, the node learns from others how they see it. The generator must be
    /// unpredictable outside tests. Starting it again changes nothing.
    pub fn start(
        &mut self,
        now: Instant,
        node: &SecretKey,
        mut rng: Rng<P::Crypto>,
        network: NetworkId,
        listen: SocketAddr,
    ) {
        if self.started {
            return;
        }
        self.now = now;
        self.started = true;
        self.secret = node.clone();
        self.id = NodeId::of_key::<P::Crypto>(&P::Crypto::public_key(node));
        self.network = network.marked(P::Overlay::MARK);
        self.listen = PackedAddr::from(listen);
        self.local = is_unspecified(listen) || is_local(listen);
        self.tokens.start(&mut rng);
        self.records.start(&mut rng);
        self.rng = rng;
        self.overlay.start(self.id);
    }

    /// Takes a datagram from the network, whatever it holds. Returns the records that it brought for a `get` of
    /// the timeline: go through them before the next call.
    ///
    /// At the limits (replies waiting to be sent, messages waiting to be polled) the datagram is dropped or
    /// refused, and counted under [`Rule::Full`].
    pub fn handle_datagram<'d>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        bytes: &'d [u8],
    ) -> Option<Found<'d>> {
        if !self.started {
            return None;
        }
        self.catch_up(now);
        let found = match Datagram::decode(bytes, self.network) {
            Err(rule) => {
                self.dropped.count(rule);
                None
            }
            Ok(datagram) if datagram.sender == self.id => {
                self.dropped.count(Rule::OwnId);
                None
            }
            Ok(datagram) if datagram.body.is_request() => {
                self.on_request(PackedAddr::from(from), &datagram);
                None
            }
            Ok(datagram) => self.on_reply(PackedAddr::from(from), &datagram),
        };
        self.run();
        found
    }

    /// Does what was due by `now`. Calling it too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.started {
            return;
        }
        self.catch_up(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next; after it was, always in the future.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadline().get()
    }

    fn deadline(&self) -> Deadline {
        (self.rpc.wake())
            .or(self.ops_wake)
            .or(self.records.next_deadline())
            .or(self.overlay.next_upkeep())
            .or(self.joining.next_deadline())
            .or(self.handover.next_deadline())
            .or(self.repair.next_deadline())
    }

    /// Tells the time of day, with its uncertainty.
    pub fn set_clock(&mut self, now: Instant, unix_ms: u64, uncertainty_ms: u32) {
        self.catch_up(now);
        self.clock.set(self.now, unix_ms, uncertainty_ms);
    }

    /// The time of day, as far as it was told.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The own id; all zero before the start.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// The network, with the overlay's mark.
    #[must_use]
    pub const fn network(&self) -> NetworkId {
        self.network
    }

    /// The address under which others see this node, if anybody said so.
    #[must_use]
    pub fn observed(&self) -> Option<SocketAddr> {
        self.observed.addr().to_socket_addr()
    }

    /// Where others reach this node: the address that it listens at, or if that is unspecified, the one observed.
    #[must_use]
    pub fn own_addr(&self) -> Option<SocketAddr> {
        match self.listen.to_socket_addr() {
            Some(listen) if !is_unspecified(listen) => Some(listen),
            Some(_) | None => self.observed(),
        }
    }

    /// Whether this node is, as far as it knows, responsible for `key`: among the nodes that hold what
    /// lies there, or its owner, as the overlay has it.
    #[must_use]
    pub fn is_responsible(&self, key: &Key) -> bool {
        self.overlay.is_responsible(key)
    }

    /// The contacts of the routing table.
    #[must_use]
    pub fn peers(&self) -> &[Entry] {
        self.overlay.entries()
    }

    /// How often each rule was broken by peers.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        let mut dropped = self.dropped.clone();
        dropped.add(self.records.dropped());
        dropped
    }

    /// The store of records that this node holds for others.
    #[must_use]
    pub const fn records(&self) -> &Records<P> {
        &self.records
    }

    /// The bounded tables.
    #[must_use]
    pub fn usage(&self) -> [Table; 6] {
        let (requests, requests_max) = self.rpc.usage();
        let row = |name, used, capacity, bytes| Table {
            name,
            used,
            capacity,
            bytes,
        };
        [
            row(
                "contacts",
                self.overlay.entries().len(),
                P::Overlay::CAPACITY,
                0,
            ),
            row("requests", requests, requests_max, 0),
            row("operations", self.ops.len(), self.ops.capacity(), 0),
            row("lookups", self.visits.len(), self.visits.capacity(), 0),
            row(
                "records",
                self.records.len(),
                self.records.capacity(),
                self.records.used_bytes(),
            ),
            row(
                "parked",
                self.parked.len(),
                P::Parked::SLOTS,
                self.parked.used_bytes(),
            ),
        ]
    }

    /// Moves on to `now`, and lets the timers fire that were due by then: every input does that first.
    fn catch_up(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if !self.deadline().is_due(self.now) {
            return;
        }
        self.expire_requests();
        self.expire_ops();
        self.expire_records();
        while self.overlay.next_upkeep().is_due(self.now) {
            self.upkeep();
        }
        self.retry_bootstraps();
        self.hand_over_slice();
        self.repair_slice();
        self.run();
    }

    /// Lets everything that became ready go on, until nothing is.
    fn run(&mut self) {
        loop {
            while let Some(visit) = self.ready.pop_front() {
                self.advance_visit(visit);
            }
            if self.starved && self.rpc.has_room() {
                self.starved = false;
                self.touch_all();
            } else if !self.start_waiting() {
                return;
            }
        }
    }

    fn expire_requests(&mut self) {
        let mut from = 0;
        while let Some(expired) = self.rpc.pop_expired(self.now, &mut from) {
            match expired {
                Expired::Late(pending) => self.on_late(&pending),
                Expired::Failed(pending) => self.on_silent(&pending),
            }
        }
    }

    fn upkeep(&mut self) {
        match self.overlay.upkeep(self.now, &mut self.rng) {
            Upkeep::Nothing => {}
            Upkeep::Lookup(target) => self.refresh(target),
            Upkeep::Ping(peer) => self.probe(peer),
            Upkeep::Ask(peer) => self.ask_neighbour(peer),
            Upkeep::LookAgain => self.look_again(),
        }
    }

    /// Pings a node. Left out when a request to it is under way, and when as many as fit are: there is always a
    /// next time.
    fn probe(&mut self, peer: Peer) {
        if self.rpc.is_asking(&peer.addr) {
            return;
        }
        let _ = self
            .rpc
            .request(self.now, &mut self.rng, peer, Tag::Probe, Repeat::Once);
    }

    /// Does what a change of the contacts asks for.
    fn on_change(&mut self, change: Change) {
        if let Some(id) = change.down {
            self.notify(Notice::NeighbourDown(id));
        }
        if let Some(contact) = change.added {
            self.contacts_changed = true;
            self.welcome(contact);
        }
        if let Some(peer) = change.probe {
            self.probe(peer);
        }
        self.repair_after(&change);
        self.after_change();
    }

    /// Whether a contact that somebody named may be pinged at all.
    fn acceptable(&self, contact: &Contact) -> Result<(), Rule> {
        if contact.id == self.id {
            return Err(Rule::BadContact);
        }
        let addr = contact.addr.to_socket_addr().ok_or(Rule::BadContact)?;
        let own = self.own_addr() == Some(addr) || contact.addr == self.listen;
        let unreachable = is_local(addr) && !self.local;
        if own || unreachable || !is_usable_contact(addr) {
            return Err(Rule::BadContact);
        }
        Ok(())
    }
}

/// Whether an address says only "here".
fn is_unspecified(addr: SocketAddr) -> bool {
    match addr.ip() {
        IpAddr::V4(v4) => v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_unspecified(),
    }
}
