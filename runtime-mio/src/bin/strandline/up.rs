//! `strandline up`: runs a node in the foreground.
//!
//! Owns what `up` prints: one line on standard output when the node is ready, and on standard error how others join.
//! Everything else is the library's.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use serde_json::json;
use strandline_core::drive::{self, Handler};
use strandline_core::node::Node;
use strandline_core::output::Event;
use strandline_core::plan::Plan;
use strandline_core::time::Instant;
use strandline_mio::host::{Application, Ready};
use strandline_mio::{Exit, Failure, Home, Host, Options};

use crate::args::{NETWORK_DEFAULT, Up};

/// Runs the node whose home is `dir` until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting or running.
pub fn run(dir: &Path, up: &Up, json: bool) -> Result<Exit, Failure> {
    let options = options(up);
    let home = Home::open(dir)?;
    let mut host = Host::open(home, &options)?;
    host.handle_signals()?;
    let mut announcer = Announcer {
        json,
        network: options.network,
    };
    host.run(&mut announcer)?;
    Ok(Exit::Ok)
}

fn options(up: &Up) -> Options {
    let ntp = match (up.no_ntp, up.ntp.as_slice()) {
        (true, _) => Vec::new(),
        (false, []) => Options::default().ntp,
        (false, servers) => servers.to_vec(),
    };
    Options {
        name: up.name.map(|name| name.as_str().to_owned()),
        listen: up.listen,
        join: up.join.clone(),
        fanout: up.fanout,
        keep: up.keep,
        refresh: up.refresh,
        ntp,
        network: up.network.clone(),
    }
}

/// Says that the node is ready.
struct Announcer {
    json: bool,
    network: String,
}

impl Handler for Announcer {
    fn on_event(&mut self, _event: Event<'_>) {}
}

impl<P: Plan> drive::Application<P> for Announcer {
    fn act(&mut self, _now: Instant, _node: &mut Node<P>) -> Option<Instant> {
        None
    }
}

impl Application for Announcer {
    fn on_ready(&mut self, ready: &Ready) {
        let line = if self.json {
            json!({
                "v": 1,
                "event": "ready",
                "name": ready.name.as_str(),
                "handle": ready.handle.to_string(),
                "listen": ready.listen.to_string(),
                "control": ready.control.display().to_string(),
            })
            .to_string()
        } else {
            format!(
                "ready name={} handle={} listen={} control={}",
                ready.name,
                ready.handle,
                ready.listen,
                ready.control.display()
            )
        };
        // A node goes on when nobody reads what it says.
        let mut stdout = std::io::stdout();
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        if ready.new_network {
            let _ = writeln!(
                std::io::stderr(),
                "{}",
                how_to_join(ready.listen, &self.network, outward_ip)
            );
        }
    }
}

/// Says that this is a new network, and the exact commands with which others join it: from this machine, and from
/// another one where that is possible.
fn how_to_join(
    listen: SocketAddr,
    network: &str,
    outward_ip: impl FnOnce(&SocketAddr) -> Option<IpAddr>,
) -> String {
    let network = if network == NETWORK_DEFAULT {
        String::new()
    } else {
        format!(" --network {}", quoted(network))
    };
    let loopback: IpAddr = match listen {
        SocketAddr::V4(_) => [127, 0, 0, 1].into(),
        SocketAddr::V6(_) => [0, 0, 0, 0, 0, 0, 0, 1].into(),
    };
    let here = SocketAddr::new(
        if listen.ip().is_unspecified() {
            loopback
        } else {
            listen.ip()
        },
        listen.port(),
    );
    let any_port = SocketAddr::new(listen.ip(), 0);
    let outward = if listen.ip().is_unspecified() {
        outward_ip(&listen)
    } else {
        Some(listen.ip())
    };
    let elsewhere = match outward {
        Some(ip) if !ip.is_loopback() => {
            let there = SocketAddr::new(ip, listen.port());
            format!("  on another one:    strandline up --name NAME --join {there}{network}")
        }
        Some(_) | None => "It listens on the loopback: other machines cannot join it.".to_owned(),
    };
    format!(
        "There is nobody to join: this starts a new network. Others join it\n  \
         on this machine:   strandline --home DIR up --name NAME --listen {any_port} --join {here}{network}\n\
         {elsewhere}"
    )
}

/// The address from which this machine speaks to others. Nothing is sent: the system only chooses a route to an address
/// that is reserved for documentation.
fn outward_ip(listen: &SocketAddr) -> Option<IpAddr> {
    let (any, there) = match listen {
        SocketAddr::V4(_) => ("0.0.0.0:0", "192.0.2.1:9"),
        SocketAddr::V6(_) => ("[::]:0", "[2001:db8::1]:9"),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(there).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The folder of the node: what was asked for, else `$STRANDLINE_HOME`, else the XDG data folder.
pub fn home_dir(asked: Option<&Path>) -> Option<PathBuf> {
    let variable = || {
        let home = std::env::var_os("STRANDLINE_HOME");
        home.filter(|home| !home.is_empty()).map(PathBuf::from)
    };
    let asked = asked.map(Path::to_owned);
    asked.or_else(variable).or_else(Home::default_dir)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn said(listen: &str, network: &str) -> String {
        how_to_join(listen.parse().unwrap(), network, |_| {
            Some([192, 0, 2, 7].into())
        })
    }

    #[test]
    fn a_new_network_says_how_to_join_it_from_here_and_there() {
        let text = said("0.0.0.0:7827", "strandline");
        assert!(
            text.contains("--listen 0.0.0.0:0 --join 127.0.0.1:7827"),
            "{text}"
        );
        assert!(
            text.ends_with("strandline up --name NAME --join 192.0.2.7:7827"),
            "{text}"
        );
    }

    #[test]
    fn a_network_with_a_name_of_its_own_says_it() {
        let text = said("192.0.2.9:9", "my reef");
        assert!(
            text.contains("--join 192.0.2.9:9 --network 'my reef'\n"),
            "{text}"
        );
    }

    #[test]
    fn nobody_is_told_to_join_a_loopback_from_elsewhere() {
        let text = said("[::1]:9", "strandline");
        assert!(text.contains("--listen [::1]:0 --join [::1]:9"), "{text}");
        assert!(!text.contains("on another one"), "{text}");
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("reef-2"), "reef-2");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
