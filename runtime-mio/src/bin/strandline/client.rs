//! Asks a running node: one HTTP/1.1 request and its answer over the control socket in the home folder.
//!
//! Owns the client's side of the control channel, and nothing about what commands mean. One connection carries one
//! request. Invariant: every call ends by its deadline, and an answer is taken only whole.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use strandline_mio::home::IDENTITY_FILE;
use strandline_mio::{Exit, Failure, Home};

use crate::exit::{exit_of, failure_of};

/// Longest head of an answer, in bytes.
const HEAD_LEN_MAX: usize = 16 * 1024;
/// Longest body of an answer, in bytes: more than all posts that a node can hold.
const BODY_LEN_MAX: usize = 1024 * 1024 * 1024;
/// Most header fields of an answer.
const FIELDS_MAX: usize = 32;
/// How much longer than the command may take the client waits for its answer.
const GRACE: Duration = Duration::from_secs(5);

/// A node's control socket, and how long its commands may take.
#[derive(Clone, Debug)]
pub struct Client {
    home: PathBuf,
    timeout: Duration,
}

/// What a node answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How the command line is to end.
    pub exit: Exit,
    /// The body as it came, one line without its newline.
    pub line: String,
    /// The body, read.
    pub body: Value,
}

impl Client {
    /// Makes the client of the node whose home this is. Nothing is opened yet.
    pub fn new(home: impl Into<PathBuf>, timeout: Duration) -> Self {
        Self {
            home: home.into(),
            timeout,
        }
    }

    /// Has the node carry out `command` with these arguments, and returns its answer. A partial answer is an answer, with
    /// [`Exit::Partial`].
    ///
    /// # Errors
    /// What the node answered where it refused, that no node runs, or that it did not answer in time.
    pub fn call(&self, command: &str, mut arguments: Value) -> Result<Answer, Failure> {
        let timeout_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        if let Some(arguments) = arguments.as_object_mut() {
            arguments.insert("timeout_ms".to_owned(), timeout_ms.into());
        }
        let deadline = Instant::now() + self.timeout + GRACE;
        let mut stream = self.connect(command)?;
        let (exit, body) = exchange(&mut stream, command, &arguments.to_string(), deadline)
            .map_err(|error| self.broken(command, &error))?;
        let line = body.trim_end().to_owned();
        let body: Value = serde_json::from_str(&line)
            .map_err(|error| self.broken(command, &io::Error::other(error)))?;
        match failure_of(&body) {
            Some(failure) => Err(failure),
            None => Ok(Answer { exit, line, body }),
        }
    }

    fn connect(&self, command: &str) -> Result<UnixStream, Failure> {
        let path = Home::control_path(&self.home)?;
        UnixStream::connect(&path).map_err(|error| {
            let what = format!("{command} failed");
            let kind = error.kind();
            if matches!(
                kind,
                io::ErrorKind::NotFound
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::NotADirectory
            ) {
                let why = format!("no node is running on {}", self.home.display());
                Failure::new(Exit::NoNode, what, why, self.how_to_start())
            } else if kind == io::ErrorKind::PermissionDenied {
                let why = format!("{} belongs to somebody else", path.display());
                let next = "Use a home of your own: --home DIR";
                Failure::new(Exit::NotPermitted, what, why, next)
            } else {
                let why = format!("{}: {error}", path.display());
                Failure::new(Exit::Internal, what, why, "")
            }
        })
    }

    /// The command that starts a node on this home.
    fn how_to_start(&self) -> String {
        let name = if self.home.join(IDENTITY_FILE).exists() {
            ""
        } else {
            " --name NAME"
        };
        format!(
            "Start it in another terminal: strandline --home {} up{name}",
            self.home.display()
        )
    }

    fn broken(&self, command: &str, error: &io::Error) -> Failure {
        let what = format!("{command} failed");
        let home = self.home.display();
        let kind = error.kind();
        if matches!(kind, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) {
            let waited_s = (self.timeout + GRACE).as_secs();
            let why = format!("the node on {home} did not answer within {waited_s} s");
            let next =
                "Give it more time (--timeout SECS), or look at the terminal in which it runs.";
            Failure::new(Exit::Partial, what, why, next)
        } else if matches!(
            kind,
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
        ) {
            let why = format!("the node on {home} ended before it answered");
            Failure::new(Exit::NoNode, what, why, self.how_to_start())
        } else {
            let why = format!("the node on {home} gave an answer that cannot be read: {error}");
            let next = "Check that node and command line are of one version: strandline --version";
            Failure::new(Exit::Internal, what, why, next)
        }
    }
}

/// Sends one request and reads its answer: the exit code and the body.
fn exchange(
    stream: &mut UnixStream,
    command: &str,
    arguments: &str,
    deadline: Instant,
) -> io::Result<(Exit, String)> {
    let request = format!(
        "POST /v1/{command} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{arguments}",
        arguments.len()
    );
    stream.set_write_timeout(Some(left(deadline)?))?;
    // A node that refuses early (a body too long) may close before it read everything: its answer counts.
    let written = stream.write_all(request.as_bytes());
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(head) = Head::parse(&bytes)? {
            break head;
        }
        if bytes.len() > HEAD_LEN_MAX {
            return Err(io::Error::other("its head is too long"));
        }
        if read_more(stream, &mut bytes, deadline)? == 0 {
            written?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    if head.body_len > BODY_LEN_MAX {
        return Err(io::Error::other("its body is too long"));
    }
    let end = head.len.saturating_add(head.body_len);
    while bytes.len() < end {
        if read_more(stream, &mut bytes, deadline)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let body = bytes.get(head.len..end).unwrap_or_default().to_vec();
    let body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok((head.exit, body))
}

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    /// Its own length in bytes, with the empty line.
    len: usize,
    /// The length of the body in bytes.
    body_len: usize,
    exit: Exit,
}

impl Head {
    /// Reads a head; `None` when more bytes are needed.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let status = response.parse(bytes).map_err(io::Error::other)?;
        let httparse::Status::Complete(len) = status else {
            return Ok(None);
        };
        let number = |name: &str| -> Option<u64> {
            let field = response
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(field.value).ok()?.trim().parse().ok()
        };
        let body_len = number("Content-Length").and_then(|len| usize::try_from(len).ok());
        let body_len = body_len.ok_or_else(|| io::Error::other("it does not say its length"))?;
        let exit = number("Strandline-Exit")
            .ok_or_else(|| io::Error::other("it does not say how the command ended"))?;
        Ok(Some(Self {
            len,
            body_len,
            exit: exit_of(exit),
        }))
    }
}

/// Appends what has arrived to `bytes` and returns how much; 0: the node closed.
fn read_more(stream: &mut UnixStream, bytes: &mut Vec<u8>, deadline: Instant) -> io::Result<usize> {
    let mut buf = [0; 64 * 1024];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut buf) {
            Ok(len) => {
                bytes.extend_from_slice(buf.get(..len).unwrap_or_default());
                return Ok(len);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The time until the deadline; never zero, which would mean "for ever".
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use std::thread;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// Exchanges with a server that gives this answer, in pieces, and returns what the server read.
    fn exchange_with(pieces: &[&str]) -> (io::Result<(Exit, String)>, String) {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let pieces: Vec<String> = pieces.iter().map(|&piece| piece.to_owned()).collect();
        let server = thread::spawn(move || {
            let mut request = vec![0; 4096];
            let len = theirs.read(&mut request).unwrap();
            request.truncate(len);
            for piece in pieces {
                theirs.write_all(piece.as_bytes()).unwrap();
                theirs.flush().unwrap();
            }
            String::from_utf8(request).unwrap()
        });
        let result = exchange(&mut ours, "whoami", "{}", Instant::now() + SOON);
        (result, server.join().unwrap())
    }

    #[test]
    fn an_answer_may_come_in_pieces() {
        let (result, request) = exchange_with(&[
            "HTTP/1.1 200 OK\r\nContent-",
            "Length: 9\r\nStrandline-Exit: 5\r\n\r\n{\"v\"",
            ": 1}\nand more than it promised",
        ]);
        assert_eq!(result.unwrap(), (Exit::Partial, "{\"v\": 1}\n".to_owned()));
        assert!(
            request.starts_with("POST /v1/whoami HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.ends_with("Content-Length: 2\r\nConnection: close\r\n\r\n{}"));
    }

    #[test]
    fn half_an_answer_is_none() {
        let kind = |pieces: &[&str]| exchange_with(pieces).0.unwrap_err().kind();
        let eof = io::ErrorKind::UnexpectedEof;
        assert_eq!(kind(&[]), eof);
        assert_eq!(kind(&["HTTP/1.1 200 OK\r\n"]), eof);
        assert_eq!(
            kind(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\nStrandline-Exit: 0\r\n\r\n{}"]),
            eof
        );
    }

    #[test]
    fn an_answer_says_its_length_and_its_exit() {
        for head in [
            "HTTP/1.1 200 OK\r\nStrandline-Exit: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: -2\r\nStrandline-Exit: 0\r\n\r\n{}",
            "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        ] {
            assert!(Head::parse(head.as_bytes()).is_err(), "{head}");
        }
    }

    #[test]
    fn a_silent_node_is_not_waited_for_beyond_the_deadline() {
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        let deadline = Instant::now() + Duration::from_millis(50);
        let error = exchange(&mut ours, "whoami", "{}", deadline).unwrap_err();
        assert!(
            matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
            "{error}"
        );
    }

    #[test]
    fn a_home_without_a_node_says_how_to_start_one() {
        let client = Client::new("/nonexistent/strandline", SOON);
        let failure = client.call("whoami", serde_json::json!({})).unwrap_err();
        assert_eq!(failure.exit, Exit::NoNode);
        assert!(failure.next.contains("up --name NAME"), "{failure}");
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_a_plain_error() {
        let client = Client::new(format!("/{}", "x".repeat(100)), SOON);
        let failure = client.call("whoami", serde_json::json!({})).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.why.contains("107"), "{failure}");
    }
}
