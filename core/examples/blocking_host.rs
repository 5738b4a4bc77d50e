//! A host without an event library: one blocking UDP socket and one thread for each node.
//! The contract between node and host is in [`Host::drain`] and [`Host::wait`]. One host echoes, the other sends a message.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::{sync::mpsc, thread, time::Duration};

use strandline_core::crypto::{Ed25519, SecretKey};
use strandline_core::dht::{Dht, Owner};
use strandline_core::output::{Event, OUTPUT_LEN_MAX, Recipient};
use strandline_core::rng::{Rng, Seed};
use strandline_core::{id::NodeId, plan::Server, time::Instant, wire::NetworkId};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const WITHIN_MS: u32 = 5_000;

struct Host {
    dht: Box<Dht<Server>>,
    socket: UdpSocket,
    began: std::time::Instant,
}

impl Host {
    fn start() -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut random = [[0; 32]; 2];
        for bytes in &mut random {
            getrandom::fill(bytes).map_err(|error| error.to_string())?;
        }
        let (secret, seed) = (SecretKey::from_bytes(random[0]), Seed(random[1]));
        let network = NetworkId::of_name::<Ed25519>("example");
        let (mut dht, addr) = (Box::new(Dht::EMPTY), socket.local_addr()?);
        dht.start(Instant::ZERO, &secret, Rng::from_seed(&seed), network, addr);
        let began = std::time::Instant::now();
        Ok(Self { dht, socket, began })
    }

    fn now(&self) -> Instant {
        Instant::from_us(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Carries out all that the node wants done now.
    fn drain(&mut self, mut hear: impl FnMut(&mut Dht<Server>, Event<'_>)) -> Result<()> {
        let mut buf = [0; OUTPUT_LEN_MAX];
        loop {
            if let Some((to, len)) = self.dht.poll_send(&mut buf) {
                let bytes = buf.get(..len).unwrap_or_default();
                self.socket.send_to(bytes, to)?;
            } else if let Some(event) = self.dht.poll_event(&mut buf) {
                hear(&mut self.dht, event);
            } else if self.dht.poll_contact().is_none() {
                return Ok(());
            }
        }
    }

    /// Waits for a datagram, or for the time that the node named.
    fn wait(&mut self) -> Result<()> {
        let (now, deadline) = (self.now(), self.dht.next_deadline());
        // Zero would mean: for ever.
        let pause = deadline.map(|at| Duration::from_micros(at.since_us(now).max(1)));
        self.socket.set_read_timeout(pause)?;
        let mut buf = [0; 2_048];
        if let Ok((len, from)) = self.socket.recv_from(&mut buf) {
            let bytes = buf.get(..len).unwrap_or_default();
            let _ = self.dht.handle_datagram(self.now(), from, bytes);
        } else {
            self.dht.handle_timeout(self.now());
        }
        Ok(())
    }
}

/// Answers each message with itself; ends with the process.
fn echo(tell: &mpsc::Sender<(NodeId, SocketAddr)>) -> Result<()> {
    let mut host = Host::start()?;
    tell.send((host.dht.id(), host.socket.local_addr()?))?;
    loop {
        host.drain(|dht, event| {
            if let Event::Message(message) = event {
                // Without room for it the sender hears only that it came.
                let _ = dht.answer(message.bytes);
            }
        })?;
        host.wait()?;
    }
}

fn main() -> Result<()> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || echo(&tell));
    let (other, addr) = told.recv()?;
    let (mut host, mut answer, mut ended) = (Host::start()?, Vec::new(), 0);
    let (now, own) = (host.now(), Owner::Application);
    let joining = host.dht.join(now, addr, own, WITHIN_MS);
    joining.map_err(|_| "busy")?;
    loop {
        let now = host.now();
        host.drain(|dht, event| {
            if let Event::Answer { bytes, .. } = event {
                answer = bytes.to_vec();
            } else if let Event::QueryDone { outcome, .. } = event {
                println!("{outcome:?}");
                ended += 1;
                let _ = dht.send(now, Recipient::Node(other), b"hello?", own, WITHIN_MS);
            }
        })?;
        if ended == 2 {
            let echoed = (answer == b"hello?").then_some(());
            return echoed.ok_or_else(|| "no echo".into());
        }
        host.wait()?;
    }
}

#[test]
fn it_ends_well() -> Result<()> {
    main()
}
