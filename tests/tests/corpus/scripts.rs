//! Scripts for the target `node`, in which every kind of input occurs, and the outputs that follow.

use strandline_tests::fuzzing::{RING, Step};

/// How the storage is found: the first byte of a script.
const FRESH: u8 = 0;
const LOST: u8 = 2;

/// Bytes of a datagram before its token, and before its body.
const TOKEN_AT: usize = 5 + 8 + 32;
const BODY_AT: usize = TOKEN_AT + 8;

/// A node that knows nobody posts, reads, and says goodbye.
pub fn alone() -> Vec<u8> {
    let mut script = Script::new(FRESH);
    script.command(3, &[bytes(b"low tide")]);
    script.command(6, &[]);
    script.wake(3);
    script.command(1, &[]);
    script.wake(3);
    script.0
}

/// Every command, first of a node that knows nobody, then while it waits for the one that it asked.
pub fn every_command() -> Vec<u8> {
    let mut script = Script::new(LOST);
    for key in 0..2 {
        for command in 0..14 {
            let arguments = match command {
                0 | 10 | 12 => vec![vec![key]],
                1 | 2 => vec![],
                3..=9 => vec![bytes(b"seedling")],
                11 => vec![vec![key], number(60), bytes(b"value")],
                _ => vec![vec![key], bytes(b"ahoy")],
            };
            script.command(command, &arguments);
        }
        script.wake(5);
    }
    script.0
}

/// Storage fails while a post waits for it.
pub fn storage_fails() -> Vec<u8> {
    let mut script = Script::new(FRESH);
    script.command(3, &[bytes(b"low tide")]);
    script.step(Step::StorageFails, &[]);
    script.command(3, &[bytes(b"high tide")]);
    script.command(3, &[bytes(b"flood")]);
    script.wake(2);
    script.0
}

/// Datagrams out of the blue.
pub fn strangers(datagrams: &[Vec<u8>]) -> Vec<u8> {
    let mut script = Script::new(FRESH);
    for (from, datagram) in (0..).zip(datagrams) {
        script.step(Step::Datagram, &[vec![from], bytes(datagram)]);
    }
    script.wake(3);
    script.0
}

/// Joins a network in which every node knows the same twenty, and gives commands while it answers with
/// each datagram in turn.
pub fn answers(pong: &[u8], contacts: &[u8], datagrams: &[Vec<u8>]) -> Vec<u8> {
    let mut script = Script::new(FRESH);
    script.command(0, &[vec![9]]);
    script.reply(pong);
    for _ in 0..4 {
        script.reply(contacts);
        for _ in 0..4 {
            script.reply(pong);
        }
        script.wake(1);
    }
    for key in 0..3 {
        script.command(10 + key, &[vec![key], number(60), bytes(b"value")]);
        for datagram in datagrams {
            script.reply(datagram);
        }
        script.reply(contacts);
        script.wake(1);
    }
    script.0
}

/// Gets a token by one request, and then makes every other with it.
pub fn requests(datagrams: &[Vec<u8>]) -> Vec<u8> {
    let mut script = Script::new(FRESH);
    for (from, datagram) in (0..).zip(datagrams) {
        script.step(Step::Datagram, &[vec![from], bytes(datagram)]);
        script.step(Step::Request, &[vec![0], bytes(&datagram[BODY_AT..])]);
    }
    script.wake(3);
    script.0
}

/// The same script for nodes of a ring.
pub fn on_ring(mut script: Vec<u8>) -> Vec<u8> {
    if let Some(first) = script.first_mut() {
        *first |= RING;
    }
    script
}

/// Joins a ring, and stabilises for minutes with neighbours that claim every key and name the same others; then they fall
/// silent.
pub fn ring_of_three(pong: &[u8], contacts: &[u8]) -> Vec<u8> {
    let mut script = Script::new(FRESH);
    script.command(0, &[vec![9]]);
    for _ in 0..20 {
        script.reply(pong);
        script.reply(contacts);
        script.reply(pong);
        script.wake(2);
    }
    for key in 0..3 {
        script.command(10 + key, &[vec![key], number(60), bytes(b"value")]);
    }
    script.wake(40);
    script.0
}

/// A stream for each conversation, in two pieces; then the peers go, one by one.
pub fn streams(conversations: &[Vec<u8>]) -> Vec<u8> {
    let mut script = Script::new(FRESH);
    for (stream, conversation) in (0..).zip(conversations) {
        let (first, second) = conversation.split_at(conversation.len() / 2);
        script.step(Step::Accept, &[vec![stream]]);
        script.step(Step::Writable, &[vec![stream], number(4096)]);
        script.step(Step::Arrive, &[vec![stream], bytes(first)]);
        script.step(Step::Arrive, &[vec![stream], bytes(second)]);
    }
    script.wake(3);
    script.step(Step::Closed, &[vec![0]]);
    script.step(Step::Wait, &[number(60_000)]);
    script.0
}

/// A script under construction.
struct Script(Vec<u8>);

impl Script {
    fn new(storage: u8) -> Self {
        Self(vec![storage])
    }

    fn step(&mut self, step: Step, arguments: &[Vec<u8>]) {
        self.0.push(step as u8);
        self.0.extend(arguments.concat());
    }

    /// A command with 5 s to end.
    fn command(&mut self, command: u8, arguments: &[Vec<u8>]) {
        self.step(
            Step::Command,
            &[vec![command], number(5_000), arguments.concat()],
        );
    }

    /// Answers the newest request as this datagram does.
    fn reply(&mut self, datagram: &[u8]) {
        self.step(Step::Reply, &[vec![0, 0], bytes(&datagram[TOKEN_AT..])]);
    }

    fn wake(&mut self, times: usize) {
        for _ in 0..times {
            self.step(Step::Deadline, &[]);
        }
    }
}

fn number(value: u16) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap();
    [&len.to_be_bytes(), bytes].concat()
}
