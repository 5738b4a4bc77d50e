//! Names of hosts: how `HOST:PORT` is read, and a helper thread that asks the system's resolver, which may take its time.
//! Owns no schedule: who asks again, and when, is the caller's business.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use mio::Waker;

/// Addresses of one name that are worth trying.
const ADDRESSES_MAX: usize = 8;

/// Reads `HOST:PORT`, `IP:PORT`, `[IPv6]:PORT`; with a default port also without one. `None` when it is neither.
#[must_use]
pub fn split_host_port(text: &str, default_port: Option<u16>) -> Option<(String, u16)> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Some((addr.ip().to_string(), addr.port()));
    }
    let bare = text.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
        return Some((ip.to_string(), default_port?));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, default_port?),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (!host.is_empty() && host.chars().all(plain)).then(|| (host.into(), port))
}

/// Asks the system for the addresses of a host. Blocks.
///
/// # Errors
/// What the system says.
pub fn addresses_of(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port)
        .to_socket_addrs()?
        .take(ADDRESSES_MAX)
        .collect())
}

/// A name that was asked for, and what came of it.
#[derive(Debug)]
pub struct Resolved {
    /// As it was asked for.
    pub name: String,
    /// Its addresses, or why there are none.
    pub addresses: io::Result<Vec<SocketAddr>>,
}

/// The thread that resolves names, one after the other.
#[derive(Debug)]
pub struct Resolver {
    questions: Sender<String>,
    answers: Receiver<Resolved>,
}

impl Resolver {
    /// Starts the thread; it wakes the loop when it has an answer, and ends when this is dropped.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(waker: Arc<Waker>) -> io::Result<Self> {
        let (questions, asked) = channel::<String>();
        let (answer, answers) = channel();
        thread::Builder::new()
            .name("resolver".into())
            .spawn(move || {
                for name in asked {
                    let addresses = split_host_port(&name, None)
                        .ok_or_else(|| io::Error::other("it is not HOST:PORT"))
                        .and_then(|(host, port)| addresses_of(&host, port));
                    let told = answer.send(Resolved { name, addresses });
                    if told.is_err() || waker.wake().is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self { questions, answers })
    }

    /// Asks for the addresses of `HOST:PORT`.
    pub fn ask(&self, name: &str) {
        if self.questions.send(name.into()).is_err() {
            log::error!("the resolver is gone");
        }
    }

    /// The next answer, if there is one.
    #[must_use]
    pub fn poll(&self) -> Option<Resolved> {
        self.answers.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;

    #[test]
    fn hosts_and_ports_are_read_in_every_common_spelling() {
        for (text, default, read) in [
            ("example.org:80", None, Some(("example.org", 80))),
            ("example.org", Some(123), Some(("example.org", 123))),
            ("example.org", None, None),
            ("127.0.0.1:80", None, Some(("127.0.0.1", 80))),
            ("127.0.0.1", Some(1), Some(("127.0.0.1", 1))),
            ("[::1]:80", None, Some(("::1", 80))),
            ("::1", Some(1), Some(("::1", 1))),
            ("[::1]", Some(1), Some(("::1", 1))),
            ("::1", None, None),
            (":80", None, None),
            ("", Some(1), None),
            ("example.org:", Some(1), None),
            ("example.org:99999", Some(1), None),
            ("http://example.org:80", None, None),
            ("two words:80", None, None),
        ] {
            let read = read.map(|(host, port)| (host.to_string(), port));
            assert_eq!(split_host_port(text, default), read, "{text:?}");
        }
    }

    #[test]
    fn an_answer_wakes_the_loop() {
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(7)).unwrap());
        let resolver = Resolver::start(waker).unwrap();
        for (name, addresses) in [("127.0.0.1:80", 1), ("nonsense", 0)] {
            resolver.ask(name);
            let resolved = loop {
                if let Some(resolved) = resolver.poll() {
                    break resolved;
                }
                let mut events = Events::with_capacity(1);
                poll.poll(&mut events, Some(Duration::from_secs(10)))
                    .unwrap();
                assert!(!events.is_empty(), "the loop was not woken");
            };
            assert_eq!(resolved.name, name);
            assert_eq!(resolved.addresses.map_or(0, |a| a.len()), addresses);
        }
    }
}
