//! Messages between applications and their answers: a few nodes with a network that loses what it is told to, and one
//! node among datagrams made by hand.
#![cfg(feature = "alloc")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;

use strandline_core::addr::PackedAddr;
use strandline_core::crypto::SecretKey;
use strandline_core::dht::{Dht, Owner};
use strandline_core::id::{Key, NodeId};
use strandline_core::output::{AnswerError, Event, OUTPUT_LEN_MAX, Outcome, Recipient};
use strandline_core::plan::{Board, Plan, Server};
use strandline_core::rng::{Rng, Seed};
use strandline_core::rules::Rule;
use strandline_core::time::Instant;
use strandline_core::wire::datagram::{Body, Datagram, NO_TOKEN, Token};
use strandline_core::wire::{DATAGRAM_LEN_MAX, MESSAGE_LEN_MAX, NetworkId};

const NETWORK: NetworkId = NetworkId(*b"test");
const WITHIN_MS: u32 = 10_000;
const BEGIN: Instant = Instant::from_s(1_000);

/// What a reply says: whether the message was accepted, and the answer; `None`: it was denied.
type Delivered = Option<(bool, Vec<u8>)>;

/// What an application answers to a message.
type Answers = fn(&[u8]) -> Vec<u8>;

/// What a node's application heard: messages with whom they were for, answers, the end of a `send`.
#[derive(Default)]
struct Heard {
    messages: Vec<(Recipient, Vec<u8>)>,
    answers: Vec<(NodeId, Vec<u8>)>,
    outcome: Option<Outcome>,
}

struct Net<P: Plan> {
    now: Instant,
    nodes: Vec<Dht<P>>,
    heard: Vec<Heard>,
    answers: Answers,
    flying: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// How many of the next `Delivered` are lost.
    lose_delivered: usize,
}

fn addr(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, u8::try_from(n).unwrap(), 1], 7827))
}

fn start<P: Plan>(n: usize) -> Dht<P> {
    let mut dht = Dht::EMPTY;
    let byte = u8::try_from(n).unwrap() + 1;
    let (secret, rng) = (
        SecretKey::from_bytes([byte; 32]),
        Rng::from_seed(&Seed([byte; 32])),
    );
    dht.start(BEGIN, &secret, rng, NETWORK, addr(n));
    dht
}

impl<P: Plan> Net<P> {
    fn of(count: usize, answers: Answers) -> Self {
        let mut net = Self {
            now: BEGIN,
            nodes: (0..count).map(start).collect(),
            heard: (0..count).map(|_| Heard::default()).collect(),
            answers,
            flying: VecDeque::new(),
            lose_delivered: 0,
        };
        for n in 1..count {
            let joined = net.nodes[n].join(net.now, addr(0), Owner::Application, WITHIN_MS);
            assert!(joined.is_ok());
            net.run();
        }
        net
    }

    fn drain(&mut self, n: usize) {
        let (node, heard) = (&mut self.nodes[n], &mut self.heard[n]);
        let mut buf = [0; OUTPUT_LEN_MAX];
        loop {
            if let Some((to, len)) = node.poll_send(&mut buf) {
                let lost = matches!(body(&buf[..len]), Body::Delivered { .. });
                if lost && self.lose_delivered > 0 {
                    self.lose_delivered -= 1;
                } else {
                    self.flying.push_back((addr(n), to, buf[..len].to_vec()));
                }
                continue;
            }
            match node.poll_event(&mut buf) {
                Some(Event::Message(message)) => {
                    assert_eq!(heard.answers.len(), 0, "a node is either here");
                    heard.messages.push((message.to, message.bytes.to_vec()));
                    let answer = (self.answers)(message.bytes);
                    node.answer(&answer).unwrap();
                }
                Some(Event::Answer { from, bytes, .. }) => {
                    assert_eq!(heard.outcome, None, "it comes before the end");
                    heard.answers.push((from, bytes.to_vec()));
                }
                Some(Event::QueryDone { outcome, .. }) => heard.outcome = Some(outcome),
                Some(_) => {}
                None if node.poll_contact().is_some() => {}
                None => return,
            }
        }
    }

    /// Lets everything happen that happens within ten seconds.
    fn run(&mut self) {
        let end = self.now.after_s(10);
        loop {
            (0..self.nodes.len()).for_each(|n| self.drain(n));
            if let Some((from, to, bytes)) = self.flying.pop_front() {
                let at = (0..self.nodes.len()).find(|&n| addr(n) == to);
                if let Some(n) = at {
                    assert!(
                        self.nodes[n]
                            .handle_datagram(self.now, from, &bytes)
                            .is_none()
                    );
                }
                continue;
            }
            let next = self.nodes.iter().filter_map(Dht::next_deadline).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = next;
            for node in &mut self.nodes {
                node.handle_timeout(next);
            }
        }
    }

    /// Sends from node `n` and tells what came of it.
    fn send(&mut self, n: usize, to: Recipient, bytes: &[u8]) -> (Vec<(NodeId, Vec<u8>)>, Outcome) {
        self.heard[n] = Heard::default();
        let sent = self.nodes[n].send(self.now, to, bytes, Owner::Application, WITHIN_MS);
        assert!(sent.is_ok());
        self.run();
        let heard = &mut self.heard[n];
        (
            std::mem::take(&mut heard.answers),
            heard.outcome.take().unwrap(),
        )
    }

    /// All messages that were delivered, with where.
    fn delivered(&mut self) -> Vec<(usize, Recipient, Vec<u8>)> {
        let mut all = Vec::new();
        for (n, heard) in self.heard.iter_mut().enumerate() {
            let messages = heard.messages.drain(..);
            all.extend(messages.map(|(to, bytes)| (n, to, bytes)));
        }
        all
    }

    fn owner_of(&self, key: &Key) -> usize {
        let distance = |n: &usize| {
            strandline_core::id::Distance::between(self.nodes[*n].id().as_bytes(), key.as_bytes())
        };
        (0..self.nodes.len()).min_by_key(distance).unwrap()
    }
}

fn body(bytes: &[u8]) -> Body<'_> {
    Datagram::decode(bytes, NETWORK).unwrap().body
}

fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

const DELIVERED: Outcome = Outcome::Delivered { accepted: true };

#[test]
fn the_sender_gets_the_answer_of_the_node_of_the_key_before_the_end() {
    fn answered<P: Plan>(count: usize, len: usize) {
        let mut net = Net::<P>::of(count, reversed);
        for k in 0..8_u8 {
            let key = Key::from_bytes([k * 31; 32]);
            let owner = net.owner_of(&key);
            let sender = usize::from(k) % count;
            let mut message = vec![k; len];
            message[0] = 0xff;
            let (answers, outcome) = net.send(sender, Recipient::Key(key), &message);
            assert_eq!(outcome, DELIVERED);
            assert_eq!(answers, [(net.nodes[owner].id(), reversed(&message))]);
            assert_eq!(net.delivered(), [(owner, Recipient::Key(key), message)]);
        }
    }
    answered::<Server>(6, MESSAGE_LEN_MAX);
    answered::<Board>(6, 400);
    // It is its own neighbour.
    answered::<Server>(1, MESSAGE_LEN_MAX);
    answered::<Board>(1, 400);
}

#[test]
fn without_an_answer_there_is_only_the_end() {
    let mut net = Net::<Server>::of(3, |_| Vec::new());
    for n in 0..3 {
        let key = Recipient::Key(Key::from_bytes([7; 32]));
        assert_eq!(net.send(n, key, b"tide"), (vec![], DELIVERED));
        assert_eq!(net.delivered().len(), 1);
    }
}

#[test]
fn a_lost_reply_is_repeated_with_the_same_answer_and_delivered_once() {
    fn lost<P: Plan>() {
        let mut net = Net::<P>::of(2, reversed);
        let to = Recipient::Node(net.nodes[1].id());
        net.lose_delivered = 1;
        let (answers, outcome) = net.send(0, to, b"flotsam");
        assert_eq!((net.lose_delivered, outcome), (0, DELIVERED));
        assert_eq!(answers, [(net.nodes[1].id(), reversed(b"flotsam"))]);
        assert_eq!(net.delivered(), [(1, to, b"flotsam".to_vec())]);
    }
    lost::<Server>();
    lost::<Board>();
}

#[test]
fn a_message_to_a_node_reaches_that_node_or_nobody() {
    let mut net = Net::<Server>::of(12, reversed);
    for n in 0..12 {
        let to = Recipient::Node(net.nodes[n].id());
        let (answers, outcome) = net.send((n + 5) % 12, to, b"you");
        assert_eq!(
            (answers.len(), answers[0].0, outcome),
            (1, net.nodes[n].id(), DELIVERED)
        );
        assert_eq!(net.delivered(), [(n, to, b"you".to_vec())]);
    }
    let own = Recipient::Node(net.nodes[4].id());
    assert_eq!(net.send(4, own, b"me").1, DELIVERED);
    assert_eq!(net.delivered(), [(4, own, b"me".to_vec())]);
    // A neighbour of a node that there is not is not that node.
    let mut near = *net.nodes[3].id().as_bytes();
    near[31] ^= 1;
    let nobody = Recipient::Node(NodeId::from_bytes(near));
    assert_eq!(net.send(0, nobody, b"who"), (vec![], Outcome::NotFound));
    assert_eq!(net.delivered(), []);
    assert_eq!(
        Net::<Board>::of(1, reversed).send(0, nobody, b"who"),
        (vec![], Outcome::NotFound)
    );
}

/// A peer that the tests play, and the node that it talks to.
struct Talk<P: Plan> {
    dht: Dht<P>,
    token: Token,
    buf: [u8; OUTPUT_LEN_MAX],
}

impl<P: Plan> Talk<P> {
    fn new() -> Self {
        let mut talk = Self {
            dht: start(0),
            token: NO_TOKEN,
            buf: [0; OUTPUT_LEN_MAX],
        };
        talk.request(0, b"no token yet");
        assert!(matches!(talk.replies()[..], [(0, None)]));
        talk
    }

    fn request(&mut self, transaction: u8, bytes: &[u8]) {
        let datagram = Datagram {
            transaction: [transaction; 8],
            sender: NodeId::from_bytes([9; 32]),
            token: self.token,
            body: Body::Send {
                key: Some(Key::from_bytes([4; 32])),
                bytes,
            },
        };
        let mut buf = [0; DATAGRAM_LEN_MAX];
        let len = datagram.encode(NETWORK, &mut buf).unwrap();
        let found = self.dht.handle_datagram(BEGIN, addr(9), &buf[..len]);
        assert!(found.is_none());
    }

    /// The replies sent: the transaction, and whether it was accepted with which answer.
    fn replies(&mut self) -> Vec<(u8, Delivered)> {
        let mut replies = Vec::new();
        while let Some((_, len)) = self.dht.poll_send(&mut self.buf) {
            let datagram = Datagram::decode(&self.buf[..len], NETWORK).unwrap();
            let delivered = match datagram.body {
                Body::Delivered {
                    accepted,
                    bytes,
                    observed,
                } => {
                    assert_eq!(observed, PackedAddr::from(addr(9)));
                    Some((accepted, bytes.to_vec()))
                }
                Body::Denied { .. } => None,
                _ => continue,
            };
            self.token = datagram.token;
            replies.push((datagram.transaction[0], delivered));
        }
        replies
    }

    /// The next message.
    fn message(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Event::Message(message) = self.dht.poll_event(&mut self.buf)? {
                return Some(message.bytes.to_vec());
            }
        }
    }
}

fn with(transaction: u8, answer: &[u8]) -> (u8, Delivered) {
    (transaction, Some((true, answer.to_vec())))
}

#[test]
fn the_reply_waits_for_the_message_to_be_polled_and_the_next_output() {
    let mut talk = Talk::<Server>::new();
    talk.request(1, b"one");
    talk.request(2, b"two");
    talk.request(1, b"one");
    assert_eq!(talk.replies(), [], "nobody has heard them");
    assert_eq!(talk.message().unwrap(), b"one");
    talk.dht.answer(b"first thought").unwrap();
    talk.dht.answer(b"eins").unwrap();
    assert_eq!(talk.message().unwrap(), b"two");
    talk.dht.answer(b"zwei").unwrap();
    assert_eq!(talk.replies(), [with(1, b"eins"), with(2, b"zwei")]);
    assert_eq!(talk.dht.answer(b"late"), Err(AnswerError::NoMessage));
    assert_eq!(talk.message(), None);
    for (transaction, answer) in [(2, b"zwei"), (1, b"eins")] {
        talk.request(transaction, b"again");
        assert_eq!(talk.replies(), [with(transaction, answer)]);
    }
    assert_eq!(talk.message(), None, "each was told once");
}

#[test]
fn an_answer_is_as_long_as_a_message_at_most() {
    let mut talk = Talk::<Server>::new();
    talk.request(1, b"one");
    assert!(talk.message().is_some());
    let longest = [5; MESSAGE_LEN_MAX];
    talk.dht.answer(&longest).unwrap();
    let over = [5; MESSAGE_LEN_MAX + 1];
    assert_eq!(talk.dht.answer(&over), Err(AnswerError::TooLong));
    assert_eq!(talk.replies(), [with(1, &longest)]);
    talk.request(2, &over);
    assert_eq!(talk.replies(), [(2, Some((false, vec![])))]);
    // On a board there is room for less.
    let mut talk = Talk::<Board>::new();
    talk.request(1, b"one");
    assert!(talk.message().is_some());
    assert_eq!(talk.dht.answer(&longest), Err(AnswerError::Full));
    assert_eq!(talk.replies(), [with(1, b"")]);
}

#[test]
fn an_overlong_answer_is_none() {
    let mut net = Net::<Server>::of(2, reversed);
    let to = Recipient::Node(net.nodes[1].id());
    let sent = net.nodes[0].send(net.now, to, b"ask", Owner::Application, WITHIN_MS);
    assert!(sent.is_ok());
    let (mut buf, mut answer) = ([0; OUTPUT_LEN_MAX], [0; DATAGRAM_LEN_MAX]);
    // The other node's part is played here: it says nobody is nearer, then too much.
    while let Some((_, len)) = net.nodes[0].poll_send(&mut buf) {
        let asked = Datagram::decode(&buf[..len], NETWORK).unwrap();
        let observed = PackedAddr::from(addr(0));
        let body = match asked.body {
            Body::FindNode { .. } => Body::Found {
                observed,
                more: false,
                spilled: false,
                records: &[],
                contacts: &[],
            },
            _ => Body::Delivered {
                observed,
                accepted: true,
                bytes: &[1; MESSAGE_LEN_MAX + 1],
            },
        };
        let (sender, token) = (net.nodes[1].id(), [3; 8]);
        let reply = Datagram {
            sender,
            token,
            body,
            ..asked
        };
        let len = reply.encode(NETWORK, &mut answer).unwrap();
        let _ = net.nodes[0].handle_datagram(net.now, addr(1), &answer[..len]);
    }
    assert_eq!(net.nodes[0].dropped().of(Rule::Overlong), 1);
    net.run();
    assert_eq!(net.heard[0].outcome, Some(Outcome::NotFound));
    assert!(net.heard[0].answers.is_empty());
}

#[test]
fn what_needs_the_room_of_a_kept_answer_gets_it() {
    let mut talk = Talk::<Board>::new();
    talk.request(1, b"one");
    assert!(talk.message().is_some());
    talk.dht.answer(&[5; 700]).unwrap();
    assert_eq!(talk.replies(), [with(1, &[5; 700])]);
    talk.request(1, b"one");
    assert_eq!(talk.replies(), [with(1, &[5; 700])]);
    let to = Recipient::Node(talk.dht.id());
    let sent = talk
        .dht
        .send(BEGIN, to, &[6; 800], Owner::Application, WITHIN_MS);
    assert!(sent.is_ok());
    assert_eq!(talk.message().unwrap(), [6; 800]);
    talk.request(1, b"one");
    assert_eq!(talk.replies(), [with(1, b"")], "it still is not told again");
    assert_eq!(talk.message(), None);
}

#[test]
fn a_full_queue_of_replies_holds_the_next_event_back_and_loses_nothing() {
    let mut talk = Talk::<Board>::new();
    talk.request(1, b"one");
    assert!(talk.message().is_some());
    talk.dht.answer(b"eins").unwrap();
    // More than there are places for replies: the last is refused as ever.
    let ping = Datagram {
        transaction: [8; 8],
        sender: NodeId::from_bytes([9; 32]),
        token: NO_TOKEN,
        body: Body::FindNode {
            target: Key::from_bytes([1; 32]),
        },
    };
    let mut buf = [0; DATAGRAM_LEN_MAX];
    let len = ping.encode(NETWORK, &mut buf).unwrap();
    for _ in 0..4 {
        let _ = talk.dht.handle_datagram(BEGIN, addr(9), &buf[..len]);
    }
    assert_eq!(talk.dht.dropped().of(Rule::Full), 1);
    assert_eq!(talk.message(), None);
    let replies = talk.replies();
    assert_eq!(replies.len(), 4);
    assert_eq!(
        replies.iter().filter(|r| **r == with(1, b"eins")).count(),
        1
    );
}
