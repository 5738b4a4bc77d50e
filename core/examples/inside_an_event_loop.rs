//! A node inside a program that has an event loop already: here mio's, with a server for lines over TCP.
//!
//! `put KEY VALUE` and `get KEY` are lines; the answers are `ok`, the value, or `nothing`. Clients and the node share one
//! thread and one `Poll`. Whatever the loop is, the node needs three things of it, and they are marked: its datagrams, a
//! wake-up at its deadline, and a drain after each. Run it, and it talks to itself through two such programs.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a program looks at a few events among many"
)]

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::{sync::mpsc, thread, time::Duration};

use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Token};
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::dht::{Dht, Owner};
use strandline_core::id::{Key, UserId};
use strandline_core::output::{Event, OUTPUT_LEN_MAX, Outcome, QueryId};
use strandline_core::plan::Server;
use strandline_core::rng::{Rng, Seed};
use strandline_core::time::Instant;
use strandline_core::wire::record::{Draft, Kind, Kinds};
use strandline_core::wire::{NetworkId, RECORD_LEN_MAX};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const NODE: Token = Token(0);
const LISTENER: Token = Token(1);
const FIRST_CLIENT: usize = 2;
const WITHIN_MS: u32 = 5_000;
const LIFETIME_MS: u32 = 10 * 60 * 1_000;
/// Longest line of a client, so that a value fits; longer ones end the connection.
const LINE_LEN_MAX: usize = 500;

/// The program: what it was before, and a node.
struct Program {
    poll: Poll,
    listener: TcpListener,
    clients: HashMap<Token, Client>,
    connected: usize,

    node: Box<Dht<Server>>,
    socket: UdpSocket,
    author: SecretKey,
    network: NetworkId,
    began: std::time::Instant,
    /// Who waits for which command.
    asked: HashMap<QueryId, Token>,
    sequence: u64,
}

/// Somebody who sends lines.
struct Client {
    stream: TcpStream,
    line: Vec<u8>,
    /// The value that its `get` has found so far.
    found: Option<Vec<u8>>,
}

impl Program {
    fn start(join: Option<SocketAddr>) -> Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
        let mut socket = UdpSocket::bind(([127, 0, 0, 1], 0).into())?;
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        registry.register(&mut socket, NODE, Interest::READABLE)?;
        let network = NetworkId::of_name::<Ed25519>("lines");
        let (mut node, addr) = (Box::new(Dht::EMPTY), socket.local_addr()?);
        let rng = Rng::from_seed(&Seed(random()?));
        let secret = SecretKey::from_bytes(random()?);
        node.start(Instant::ZERO, &secret, rng, network, addr);
        if let Some(addr) = join {
            let joining = node.join(Instant::ZERO, addr, Owner::Application, WITHIN_MS);
            joining.map_err(|_| "busy")?;
        }
        Ok(Self {
            poll,
            listener,
            clients: HashMap::new(),
            connected: 0,
            node,
            socket,
            author: SecretKey::from_bytes(random()?),
            network,
            began: std::time::Instant::now(),
            asked: HashMap::new(),
            sequence: 0,
        })
    }

    fn now(&self) -> Instant {
        Instant::from_us(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The event loop. Calls `ready` once `contacts` others are known.
    fn run(&mut self, contacts: usize, ready: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut events = Events::with_capacity(64);
        let mut ready = Some(ready);
        loop {
            // The node, first: a drain after whatever it was told.
            self.drain()?;
            if self.node.peers().len() >= contacts
                && let Some(ready) = ready.take()
            {
                ready()?;
            }
            // Second: the loop sleeps no longer than until its deadline. A program has deadlines of its own: the earliest.
            let deadline = self.node.next_deadline();
            let pause = deadline.map(|at| Duration::from_micros(at.since_us(self.now())));
            match self.poll.poll(&mut events, pause) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            self.node.handle_timeout(self.now());
            for event in &events {
                match event.token() {
                    // Third: its datagrams.
                    NODE => self.take_datagrams()?,
                    LISTENER => self.accept()?,
                    client => self.read(client)?,
                }
            }
        }
    }

    fn take_datagrams(&mut self) -> Result<()> {
        let mut buf = [0; 2_048];
        loop {
            match self.socket.recv_from(&mut buf) {
                Ok((len, from)) => {
                    let bytes = buf.get(..len).unwrap_or_default();
                    let _ = self.node.handle_datagram(self.now(), from, bytes);
                    self.drain()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // Nobody listened where something was sent: the node finds out by itself.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn drain(&mut self) -> Result<()> {
        let mut buf = [0; OUTPUT_LEN_MAX];
        loop {
            if let Some((to, len)) = self.node.poll_send(&mut buf) {
                let bytes = buf.get(..len).unwrap_or_default();
                // A full socket loses it, as networks do.
                let _ = self.socket.send_to(bytes, to);
            } else if let Some(event) = self.node.poll_event(&mut buf) {
                hear(event, &mut self.asked, &mut self.clients)?;
            } else if self.node.poll_contact().is_none() {
                return Ok(());
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let token = Token(FIRST_CLIENT + self.connected);
            self.connected += 1;
            let registry = self.poll.registry();
            registry.register(&mut stream, token, Interest::READABLE)?;
            let client = Client {
                stream,
                line: Vec::new(),
                found: None,
            };
            self.clients.insert(token, client);
        }
        Ok(())
    }

    /// Takes what a client sent, and begins what its lines ask for.
    fn read(&mut self, token: Token) -> Result<()> {
        let mut buf = [0; 256];
        loop {
            let Some(client) = self.clients.get_mut(&token) else {
                return Ok(());
            };
            let len = match client.stream.read(&mut buf) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => 0,
            };
            client.line.extend(buf.get(..len).unwrap_or_default());
            if len == 0 || client.line.len() > LINE_LEN_MAX {
                self.clients.remove(&token);
                return Ok(());
            }
            while let Some(line) = self.clients.get_mut(&token).and_then(Client::next_line) {
                match self.begin(&line)? {
                    Some(query) => drop(self.asked.insert(query, token)),
                    None => self.tell(token, b"say: put KEY VALUE, or get KEY"),
                }
            }
        }
    }

    /// Begins what a line asks for; `None` if nobody can tell what that is.
    fn begin(&mut self, line: &str) -> Result<Option<QueryId>> {
        let now = self.now();
        let key = |word| Key::of_text::<Ed25519>(word);
        let mut words = line.splitn(3, ' ');
        let op = match (words.next(), words.next(), words.next()) {
            (Some("put"), Some(word), Some(value)) => {
                self.sequence += 1;
                let public = Ed25519::public_key(&self.author);
                let draft = Draft {
                    kind: Kind::Value,
                    key: key(word),
                    author: UserId::of_key::<Ed25519>(&public),
                    subject: None,
                    page: 0,
                    sequence: self.sequence,
                    issued_ms: 0, // A node without a date.
                    lifetime_ms: LIFETIME_MS,
                };
                let (mut record, network) = ([0; RECORD_LEN_MAX], self.network);
                let (value, author) = (value.as_bytes(), &self.author);
                let len = draft.sign::<Ed25519>(value, author, &public, network, &mut record);
                let len = len.ok_or("a line is no longer than a value may be")?;
                let record = record.get(..len).unwrap_or_default();
                self.node.put(now, record, Owner::Application, WITHIN_MS)
            }
            (Some("get"), Some(word), None) => {
                let kinds = Kinds::of(&[Kind::Value]);
                self.node
                    .get(now, key(word), kinds, None, Owner::Application, WITHIN_MS)
            }
            _ => return Ok(None),
        };
        Ok(Some(op.map_err(|_| "busy")?.query()))
    }

    fn tell(&mut self, token: Token, text: &[u8]) {
        if let Some(client) = self.clients.get_mut(&token) {
            client.tell(text);
        }
    }
}

/// What the node says is passed on to whoever asked.
fn hear(
    event: Event<'_>,
    asked: &mut HashMap<QueryId, Token>,
    clients: &mut HashMap<Token, Client>,
) -> Result<()> {
    match event {
        Event::Value { query, bytes, .. } => {
            let token = asked.get(&query).ok_or("a value nobody asked for")?;
            if let Some(client) = clients.get_mut(token) {
                client.found = Some(bytes.to_vec());
            }
        }
        Event::QueryDone { query, outcome } => {
            let client = asked
                .remove(&query)
                .and_then(|token| clients.get_mut(&token));
            if let Some(client) = client {
                let found = client.found.take();
                match outcome {
                    Outcome::Stored { .. } => client.tell(b"ok"),
                    Outcome::Found { .. } | Outcome::NotFound => {
                        client.tell(found.as_deref().unwrap_or(b"nothing"));
                    }
                    _ => client.tell(b"failed"),
                }
            }
        }
        _ => {}
    }
    Ok(())
}

impl Client {
    fn next_line(&mut self) -> Option<String> {
        let end = self.line.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.line.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Answers are short: what does not fit into the socket's buffer is lost, and the client with it.
    fn tell(&mut self, text: &[u8]) {
        let _ = self.stream.write_all(&[text, b"\n"].concat());
    }
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Runs a program on a thread of its own, which ends with the process; where its node and its lines are.
fn spawn(join: Option<SocketAddr>) -> Result<(SocketAddr, SocketAddr)> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || -> Result<()> {
        let mut program = Program::start(join)?;
        let (node, lines) = (program.socket.local_addr()?, program.listener.local_addr()?);
        // Before it has joined, it would keep values to itself.
        let contacts = usize::from(join.is_some());
        program.run(contacts, || Ok(tell.send((node, lines))?))
    });
    Ok(told.recv()?)
}

/// Says a line and returns the answer.
fn say(to: SocketAddr, line: &str) -> Result<String> {
    let mut stream = std::net::TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

fn main() -> Result<()> {
    let (node, here) = spawn(None)?;
    let (_, there) = spawn(Some(node))?;
    for (to, line, wanted) in [
        (there, "put tide low water at noon", "ok"),
        (here, "get tide", "low water at noon"),
        (there, "put tide high water at six", "ok"),
        (here, "get tide", "high water at six"),
        (here, "get boat", "nothing"),
    ] {
        let answer = say(to, line)?;
        println!("{line} -> {answer}");
        if answer != wanted {
            return Err(format!("{line}: {answer}, not {wanted}").into());
        }
    }
    Ok(())
}

#[test]
fn it_ends_well() -> Result<()> {
    main()
}
