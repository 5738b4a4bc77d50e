//! A ring among those who do not keep the rules: one node, peers played by hand, and what they claim.
#![cfg(feature = "alloc")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use strandline_core::addr::PackedAddr;
use strandline_core::crypto::{Ed25519, SecretKey};
use strandline_core::dht::{Dht, Owner};
use strandline_core::id::{Key, NodeId};
use strandline_core::output::{Event, Outcome};
use strandline_core::overlay::Overlay;
use strandline_core::overlay::chord::{DOUBTS_MAX, SEEKS_MAX, STABILISE_MS};
use strandline_core::plan::{Board, BoardRing, Plan, Server, ServerRing};
use strandline_core::rng::{Rng, Seed};
use strandline_core::rules::Rule;
use strandline_core::time::Instant;
use strandline_core::wire::datagram::{Body, Contact, Datagram, Denial, NO_TOKEN, Token};
use strandline_core::wire::{DATAGRAM_LEN_MAX, NetworkId};

type Ring = Server<Ed25519, ServerRing>;
type SmallRing = Board<Ed25519, BoardRing>;

const NETWORK: NetworkId = NetworkId(*b"test");
const NOW: Instant = Instant::from_s(1_000);
const WITHIN_MS: u32 = 10_000;
const OWN: &str = "44.0.0.1:7827";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn started<P: Plan>(secret: u8, listen: &str) -> Dht<P> {
    let mut dht = Dht::<P>::EMPTY;
    let (secret, rng) = (SecretKey::from_bytes([secret; 32]), Seed([2; 32]));
    dht.start(NOW, &secret, Rng::from_seed(&rng), NETWORK, addr(listen));
    dht
}

/// Which contacts a peer names when it is asked about a key.
type Names = dyn Fn(&Contact, &Key) -> Vec<Contact>;

/// The node under test, and the peers that a test plays.
struct Scene<P: Plan> {
    dht: Dht<P>,
    now: Instant,
    /// Those who answer.
    peers: Vec<Contact>,
    /// Questions to each of them.
    asked: BTreeMap<SocketAddr, usize>,
    /// Datagrams to anybody else.
    elsewhere: BTreeMap<SocketAddr, usize>,
    /// The peers answer pings alone.
    deaf: bool,
}

/// An answer of the node.
struct Answer {
    token: Token,
    /// How many contacts it names; `None`: it is a refusal.
    named: Option<usize>,
}

impl<P: Plan> Scene<P> {
    fn new() -> Self {
        Self {
            dht: started::<P>(1, OWN),
            now: NOW,
            peers: Vec::new(),
            asked: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            deaf: false,
        }
    }

    /// The place so many 256ths of the ring behind the node.
    fn place(&self, part: u8) -> [u8; 32] {
        let mut place = *self.dht.id().as_bytes();
        place[0] = place[0].wrapping_add(part);
        place
    }

    fn key(&self, part: u8) -> Key {
        Key::from_bytes(self.place(part))
    }

    /// A contact there.
    fn contact(&self, part: u8) -> Contact {
        Contact {
            id: NodeId::from_bytes(self.place(part)),
            addr: PackedAddr::from(SocketAddr::from(([198, 18, part, 1], 1_000))),
        }
    }

    fn peer(&mut self, part: u8) -> Contact {
        let contact = self.contact(part);
        self.peers.push(contact);
        contact
    }

    fn says(&mut self, peer: &Contact, transaction: [u8; 8], token: Token, body: Body<'_>) {
        let mut buf = [0; DATAGRAM_LEN_MAX];
        let datagram = Datagram {
            transaction,
            sender: peer.id,
            token,
            body,
        };
        let len = datagram.encode(self.dht.network(), &mut buf).unwrap();
        let from = peer.addr.to_socket_addr().unwrap();
        assert!(
            self.dht
                .handle_datagram(self.now, from, &buf[..len])
                .is_none()
        );
    }

    /// Lets the peers answer everything that the node sends, for so many ms.
    fn run(&mut self, time_ms: u64, names: &Names) {
        let end = self.now.after_ms(time_ms);
        let mut buf = [0; DATAGRAM_LEN_MAX];
        for _ in 0..20_000 {
            if let Some((to, len)) = self.dht.poll_send(&mut buf) {
                self.answer(to, &buf[..len], names);
                continue;
            }
            let next = self.dht.next_deadline().filter(|at| *at <= end);
            self.now = self.now.max(next.unwrap_or(end));
            self.dht.handle_timeout(self.now);
            if next.is_none() {
                return;
            }
        }
        panic!("it goes on for ever");
    }

    fn answer(&mut self, to: SocketAddr, bytes: &[u8], names: &Names) {
        let peer = self
            .peers
            .iter()
            .find(|peer| peer.addr == PackedAddr::from(to))
            .copied();
        let Some(peer) = peer else {
            *self.elsewhere.entry(to).or_default() += 1;
            return;
        };
        let request = Datagram::decode(bytes, self.dht.network()).unwrap();
        let observed = PackedAddr::from(addr(OWN));
        match request.body {
            Body::Ping { .. } => {
                let pong = Body::Pong {
                    observed,
                    proof: None,
                };
                self.says(&peer, request.transaction, [7; 8], pong);
            }
            Body::FindNode { target } if !self.deaf => {
                *self.asked.entry(to).or_default() += 1;
                let named = names(&peer, &target);
                let contacts: Vec<u8> = named.iter().flat_map(|c| c.to_bytes()).collect();
                self.says(&peer, request.transaction, [7; 8], found(&contacts));
            }
            _ => {}
        }
    }

    /// Joins through a peer.
    fn join(&mut self, through: &Contact, names: &Names) {
        let to = through.addr.to_socket_addr().unwrap();
        self.dht
            .join(self.now, to, Owner::Timeline(1), WITHIN_MS)
            .unwrap();
        self.run(u64::from(WITHIN_MS), names);
        assert!(self.dht.poll_done().is_some(), "it has not joined");
        self.asked.clear();
    }

    /// Looks a key up. Returns the first node found, if that is said to be the owner, and whether the lookup ended by
    /// itself.
    fn find(&mut self, key: Key, names: &Names) -> (Option<NodeId>, bool) {
        self.dht
            .find(self.now, key, Owner::Application, WITHIN_MS)
            .unwrap();
        self.run(u64::from(WITHIN_MS), names);
        let mut buf = [0; 1_280];
        let (mut first, mut done) = (None, None);
        while let Some(event) = self.dht.poll_event(&mut buf) {
            match event {
                Event::Contact { id, .. } => first = first.or(Some(id)),
                Event::QueryDone {
                    outcome: Outcome::Found { complete, .. },
                    ..
                } => done = Some(complete),
                _ => {}
            }
        }
        let complete = done.unwrap();
        (first.filter(|_| complete), complete)
    }

    /// The token that the node gives a peer.
    fn token_for(&mut self, peer: &Contact) -> Token {
        let ask = Body::FindNode {
            target: self.key(0x10),
        };
        self.says(peer, [9; 8], NO_TOKEN, ask);
        self.answer_to(peer).token
    }

    /// What the node sends to a peer next; whatever goes to others before is lost.
    fn answer_to(&mut self, peer: &Contact) -> Answer {
        let mut buf = [0; DATAGRAM_LEN_MAX];
        while let Some((to, len)) = self.dht.poll_send(&mut buf) {
            let datagram = Datagram::decode(&buf[..len], self.dht.network()).unwrap();
            if PackedAddr::from(to) == peer.addr && datagram.transaction == [9; 8] {
                let named = match datagram.body {
                    Body::Found { contacts, .. } => Some(Contact::iter(contacts).count()),
                    Body::Denied { .. } => None,
                    other => panic!("{other:?}"),
                };
                let token = datagram.token;
                return Answer { token, named };
            }
        }
        panic!("no answer");
    }

    /// How many the node names to a peer that asks it for a key; `None`: it is refused.
    fn asks(&mut self, peer: &Contact, part: u8) -> Option<usize> {
        let (token, target) = (self.token_for(peer), self.key(part));
        self.says(peer, [9; 8], token, Body::FindNode { target });
        self.answer_to(peer).named
    }

    fn dropped(&self, rule: Rule) -> u32 {
        self.dht.dropped().of(rule)
    }
}

fn found(contacts: &[u8]) -> Body<'_> {
    Body::Found {
        observed: PackedAddr::from(addr(OWN)),
        more: false,
        spilled: false,
        records: &[],
        contacts,
    }
}

/// A node of a ring says that it owns the key.
fn claim(peer: &Contact) -> Contact {
    Contact {
        addr: PackedAddr::NONE,
        ..*peer
    }
}

#[test]
fn whoever_answers_with_itself_owns_nothing_by_that_and_is_counted() {
    fn case<P: Plan>() {
        let mut scene = Scene::<P>::new();
        let liar = scene.peer(0x40);
        let itself: &Names = &|peer, _| vec![*peer];
        scene.join(&liar, itself);
        let before = scene.dropped(Rule::BadContact);
        assert!(before > 0, "the join asked it");
        let (owner, complete) = scene.find(scene.key(0x20), itself);
        assert_eq!(
            (owner, complete),
            (None, false),
            "it never said that it is its own"
        );
        // Looked for again and again until the deadline, and no more often than that.
        let asked: usize = scene.asked.values().sum();
        assert!((2..=20).contains(&asked), "{asked} questions");
        let counted = scene.dropped(Rule::BadContact) - before;
        assert_eq!(usize::try_from(counted).unwrap(), asked);
        assert!(scene.elsewhere.is_empty());
    }
    case::<Ring>();
    case::<SmallRing>();
}

#[test]
fn the_same_contacts_for_ever_are_pinged_a_few_times_and_keep_nothing_going() {
    fn case<P: Plan>() {
        let mut scene = Scene::<P>::new();
        let liar = scene.peer(0xc0);
        let ghosts: Vec<Contact> = (1..=20).map(|n| scene.contact(0x80 + n)).collect();
        let same: &Names = &move |_, _| ghosts.clone();
        scene.join(&liar, same);
        let (owner, _) = scene.find(scene.key(0x90), same);
        assert_eq!(owner, None);
        scene.run(60_000, same);
        let asked: usize = scene.asked.values().sum();
        assert!(asked <= 30, "{asked} questions in 70 s");
        assert!(!scene.elsewhere.is_empty());
        for (to, pings) in &scene.elsewhere {
            assert!(*pings <= 20, "{pings} pings to {to} in 70 s");
        }
        assert_eq!(scene.dht.peers().len(), 1, "none of them answered");
    }
    case::<Ring>();
    case::<SmallRing>();
}

#[test]
fn a_claim_to_be_the_predecessor_counts_only_from_who_answers_a_ping() {
    let mut scene = Scene::<Ring>::new();
    let honest = scene.peer(0x40);
    let owns: &Names = &|peer, _| vec![claim(peer)];
    scene.join(&honest, owns);
    assert!(scene.dht.is_responsible(&scene.key(0xff)));
    // "I stand right before you": without a token, with a forged one, with a valid one but deaf to pings.
    let liar = scene.contact(0xff);
    let notify = Body::FindNode {
        target: Key::from_bytes(*liar.id.as_bytes()),
    };
    let mut buf = [0; DATAGRAM_LEN_MAX];
    let mut token = NO_TOKEN;
    for forged in [NO_TOKEN, [3; 8]] {
        scene.says(&liar, [1; 8], forged, notify);
        let (to, len) = scene.dht.poll_send(&mut buf).unwrap();
        assert_eq!(Some(to), liar.addr.to_socket_addr());
        let denied = Datagram::decode(&buf[..len], scene.dht.network()).unwrap();
        let is_denied = matches!(
            denied.body,
            Body::Denied {
                reason: Denial::Token,
                ..
            }
        );
        assert!(is_denied);
        token = denied.token;
    }
    assert_eq!(scene.dropped(Rule::Token), 2);
    scene.says(&liar, [1; 8], token, notify);
    scene.run(5_000, owns);
    assert!(scene.dht.is_responsible(&scene.key(0xff)));
    assert!(scene.dht.is_responsible(&scene.key(0x41)));
    assert_eq!(scene.dht.peers().len(), 1);
    // It got its answers, and one ping: that is not repeated.
    assert!(scene.elsewhere.values().sum::<usize>() <= 3);
}

#[test]
fn a_claim_to_own_every_key_does_not_hide_a_nearer_node_that_is_known() {
    let mut scene = Scene::<Ring>::new();
    let (liar, honest) = (scene.peer(0x80), scene.peer(0x40));
    let names: &Names = &move |peer, _| {
        let mut named = vec![claim(peer)];
        named.extend((*peer == liar).then_some(honest));
        named
    };
    scene.join(&liar, names);
    assert_eq!(scene.dht.peers().len(), 2);
    assert_eq!(
        scene.find(scene.key(0x30), names),
        (Some(honest.id), true),
        "the liar is behind it"
    );
    assert_eq!(scene.find(scene.key(0x41), names), (Some(liar.id), true));
}

#[test]
fn a_claim_under_anothers_id_is_a_bad_contact() {
    let mut scene = Scene::<Ring>::new();
    let liar = scene.peer(0x40);
    let victim = claim(&scene.contact(0x20));
    let names: &Names = &move |_, _| vec![victim];
    scene.join(&liar, names);
    let (owner, complete) = scene.find(scene.key(0x10), names);
    assert_eq!((owner, complete), (None, false));
    assert!(scene.dropped(Rule::BadContact) > 0);
}

#[test]
fn impossible_contacts_are_counted_in_lookups_and_in_what_neighbours_say() {
    let mut scene = Scene::<Ring>::new();
    let liar = scene.peer(0x40);
    let own = scene.dht.id();
    let at = |part, text| Contact {
        id: NodeId::from_bytes([part; 32]),
        addr: PackedAddr::from(addr(text)),
    };
    let bad = vec![
        Contact {
            id: own,
            addr: PackedAddr::from(addr("198.18.1.1:1000")),
        },
        at(1, OWN),
        at(2, "255.255.255.255:7827"),
        at(3, "198.18.2.2:0"),
        at(4, "224.0.0.1:7827"),
        at(5, "0.0.0.0:7827"),
        at(6, "127.0.0.1:7827"),
    ];
    let count = u32::try_from(bad.len()).unwrap();
    let bad: &Names = &move |_, _| bad.clone();
    scene.join(&liar, bad);
    let joined = scene.dropped(Rule::BadContact);
    assert!(joined >= count && joined.is_multiple_of(count), "{joined}");
    // Stabilisation, and the look-up of fingers.
    scene.run(2 * STABILISE_MS, bad);
    let later = scene.dropped(Rule::BadContact);
    assert!(
        later >= joined + count && later.is_multiple_of(count),
        "{later}"
    );
    assert!(scene.elsewhere.is_empty(), "{:?}", scene.elsewhere);
    assert_eq!(scene.dht.peers().len(), 1);
}

#[test]
fn replies_that_nobody_asked_for_change_nothing_on_a_ring() {
    let mut scene = Scene::<Ring>::new();
    let honest = scene.peer(0x40);
    let owns: &Names = &|peer, _| vec![claim(peer)];
    scene.join(&honest, owns);
    scene.run(1_000, owns);
    let liar = scene.contact(0xfe);
    let nearer = scene.contact(0x01);
    for (n, contacts) in [vec![claim(&liar)], vec![nearer, liar], vec![claim(&honest)]]
        .into_iter()
        .enumerate()
    {
        let contacts: Vec<u8> = contacts.iter().flat_map(|c| c.to_bytes()).collect();
        let from = if n == 2 { honest } else { liar };
        scene.says(&from, [4; 8], [5; 8], found(&contacts));
    }
    let pong = Body::Pong {
        observed: liar.addr,
        proof: None,
    };
    scene.says(&liar, [4; 8], [5; 8], pong);
    assert_eq!(scene.dropped(Rule::Unsolicited), 4);
    let mut buf = [0; DATAGRAM_LEN_MAX];
    assert_eq!(scene.dht.poll_send(&mut buf), None);
    assert_eq!(scene.dht.peers().len(), 1);
    assert!(scene.dht.is_responsible(&scene.key(0xff)));
}

#[test]
fn a_predecessor_that_names_ghosts_behind_itself_does_not_take_the_keys_for_ever() {
    let mut scene = Scene::<Ring>::new();
    let (liar, dies) = (scene.peer(0x80), scene.peer(0xc0));
    let both: &Names = &move |_, _| vec![liar, dies];
    scene.join(&liar, both);
    assert_eq!(scene.dht.peers().len(), 2);
    assert!(scene.dht.is_responsible(&scene.key(0xd0)));
    assert!(!scene.dht.is_responsible(&scene.key(0xa0)));
    scene.peers.retain(|peer| *peer != dies);
    // A new one each time it is asked, so that they cannot be known to be silent.
    let ghosts: Vec<Contact> = (0xc1..0xff).map(|n| scene.contact(n)).collect();
    let next = std::cell::Cell::new(0);
    let ghosts: &Names = &move |_, _| {
        next.set(next.get() + 1);
        vec![ghosts[next.get() % ghosts.len()]]
    };
    scene.elsewhere.clear();
    scene.run((u64::from(DOUBTS_MAX) + 4) * STABILISE_MS, ghosts);
    assert_eq!(scene.dht.peers().len(), 1, "only the liar answers");
    // At once a few times, then in every round, each of them twice; and the one that died.
    let pings: usize = scene.elsewhere.values().sum();
    let answers = usize::from(SEEKS_MAX) + usize::from(DOUBTS_MAX) + 4;
    assert!(pings <= 2 * answers + 20, "{pings} pings");
    assert!(scene.dht.is_responsible(&scene.key(0xa0)));
    assert!(!scene.dht.is_responsible(&scene.key(0x80)));
}

#[test]
fn a_claim_that_the_predecessor_is_dead_takes_no_keys_from_it_while_it_answers() {
    let mut scene = Scene::<Ring>::new();
    let (liar, honest) = (scene.peer(0x80), scene.peer(0xc0));
    let both: &Names = &move |_, _| vec![liar, honest];
    scene.join(&liar, both);
    assert!(scene.dht.is_responsible(&scene.key(0xd0)));
    // Asked for keys of the predecessor's as if that did not answer, the node pings it, and believes nobody else.
    scene.run(STABILISE_MS, both);
    for n in 0..20 {
        let target = scene.key(0xa0 + n);
        let token = scene.token_for(&liar);
        scene.says(&liar, [n; 8], token, Body::FindNode { target });
        scene.run(500, both);
        assert!(!scene.dht.is_responsible(&scene.key(0xc0)), "{n}");
        assert!(scene.dht.is_responsible(&scene.key(0xc1)), "{n}");
    }
    assert_eq!(scene.dht.peers().len(), 2);
}

#[test]
fn who_joins_says_nothing_about_who_is_near_before_it_knows_its_place() {
    let mut scene = Scene::<Ring>::new();
    let (through, asker) = (scene.peer(0x40), scene.peer(0xc0));
    let to = through.addr.to_socket_addr().unwrap();
    scene
        .dht
        .join(scene.now, to, Owner::Timeline(1), WITHIN_MS)
        .unwrap();
    // The one that it joins through answers pings, and is silent when it is asked.
    scene.deaf = true;
    scene.run(100, &|_, _| Vec::new());
    assert_eq!(scene.dht.peers().len(), 1, "it is a contact");
    let answer = scene.asks(&asker, 0x30);
    assert!(answer.is_none(), "busy");
    scene.deaf = false;
    scene.run(u64::from(WITHIN_MS), &|peer, _| vec![claim(peer)]);
    assert!(scene.dht.poll_done().is_some());
    assert!(scene.asks(&asker, 0x30).is_some_and(|named| named >= 1));
}

/// Lets two nodes exchange what they send, until both are quiet.
fn exchange<A: Plan, B: Plan>(a: (&mut Dht<A>, SocketAddr), b: (&mut Dht<B>, SocketAddr)) {
    let mut buf = [0; DATAGRAM_LEN_MAX];
    let ((a, at_a), (b, at_b)) = (a, b);
    let mut now = NOW;
    let end = NOW.after_s(60);
    while now < end {
        while let Some((to, len)) = a.poll_send(&mut buf) {
            assert_eq!(to, at_b);
            assert!(b.handle_datagram(now, at_a, &buf[..len]).is_none());
        }
        while let Some((to, len)) = b.poll_send(&mut buf) {
            assert_eq!(to, at_a);
            assert!(a.handle_datagram(now, at_b, &buf[..len]).is_none());
        }
        now = now.after_ms(500);
        a.handle_timeout(now);
        b.handle_timeout(now);
    }
}

#[test]
fn a_ring_and_a_table_of_one_network_name_do_not_speak_to_each_other() {
    let (at_a, at_b) = (addr("44.0.0.1:7827"), addr("45.0.0.1:7827"));
    let join = |secret| started::<Ring>(secret, "44.0.0.1:7827");
    let mut ring = join(1);
    let mut table = started::<Server>(2, "45.0.0.1:7827");
    assert_eq!(table.network(), NETWORK, "Kademlia's is the name's alone");
    assert_eq!(ring.network(), NETWORK.marked(<ServerRing>::MARK));
    assert_ne!(ring.network(), table.network());
    ring.join(NOW, at_b, Owner::Timeline(1), WITHIN_MS).unwrap();
    table
        .join(NOW, at_a, Owner::Timeline(1), WITHIN_MS)
        .unwrap();
    exchange((&mut ring, at_a), (&mut table, at_b));
    assert!(ring.peers().is_empty() && table.peers().is_empty());
    assert!(ring.dropped().of(Rule::Network) > 0);
    assert!(table.dropped().of(Rule::Network) > 0);
    // Two of a kind do.
    let (mut one, mut other) = (join(3), started::<Ring>(4, "45.0.0.1:7827"));
    one.join(NOW, at_b, Owner::Timeline(1), WITHIN_MS).unwrap();
    exchange((&mut one, at_a), (&mut other, at_b));
    assert_eq!((one.peers().len(), other.peers().len()), (1, 1));
    assert_eq!(one.dropped().total() + other.dropped().total(), 0);
}
