//! The control channel: HTTP/1.1 and JSON over the Unix socket `control.sock` in the home folder.
//!
//! `POST /v1/COMMAND` with a JSON object of arguments, or `GET /v1/COMMAND` without any, is answered by one JSON object on
//! one line: what the command line prints with `--json`. The header [`EXIT_HEADER`] carries the exit code. Owns the clients'
//! connections, their buffers and time-outs; commands are [`crate::command`]'s. Invariant: a slow client, or one that went
//! away, holds up nobody else, and what each may make us keep is bounded.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mio::event::Event;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use strandline_core::time::{Instant, earliest};

use crate::answer::Answer;
use crate::failure::{Exit, Failure};
pub use crate::http::BODY_LEN_MAX;
use crate::http::{self, CONTINUE, HEAD_LEN_MAX, Received};

/// The header of an answer that carries the exit code of the command line.
pub const EXIT_HEADER: &str = "Strandline-Exit";
/// The path of a command is this and its name.
pub const PATH_PREFIX: &str = "/v1/";
/// Clients at one time; further ones wait in the system's queue.
pub const CLIENTS_MAX: usize = 16;
/// How long a client may be silent between requests or within one, and how long it may take nothing of an answer, in ms.
const PATIENCE_MS: u64 = 30_000;
/// Bytes that are taken at once.
const READ_LEN: usize = 4096;
/// How long to wait after the system would not accept, in ms.
const ACCEPT_PAUSE_MS: u64 = 200;

/// A client's connection: index and generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientId {
    slot: usize,
    generation: u64,
}

#[cfg(test)]
impl ClientId {
    /// A client of a test that has no connections.
    pub(crate) fn for_test(slot: usize) -> Self {
        let generation = 0;
        Self { slot, generation }
    }
}

/// What the host should hear.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A client wants something; answer with [`Control::answer`].
    Call {
        /// Which client.
        client: ClientId,
        /// The command's name.
        name: String,
        /// Its arguments: JSON, or nothing.
        body: Vec<u8>,
    },
    /// A client went away before it was answered.
    Gone(ClientId),
}

#[derive(Debug)]
struct Client {
    socket: UnixStream,
    generation: u64,
    received: Vec<u8>,
    unsent: Vec<u8>,
    sent: usize,
    readable: bool,
    writable: bool,
    /// The client has said all that it will say.
    ended: bool,
    /// The client cannot even hear us any more.
    hung_up: bool,
    /// It was told to go on with its body.
    continued: bool,
    /// A call of it is being carried out.
    waiting: bool,
    /// Close once everything was sent.
    last: bool,
    deadline: Instant,
}

/// The listener and the clients.
#[derive(Debug)]
pub struct Control {
    registry: Registry,
    listener: UnixListener,
    first_token: usize,
    clients: Vec<Option<Client>>,
    generation: u64,
    acceptable: bool,
    accept_after: Option<Instant>,
}

impl Control {
    /// Opens the socket at `path` (0600), in place of one that a dead node left: whoever calls this holds the home's lock.
    ///
    /// # Errors
    /// [`Exit::NotPermitted`] when the system refuses.
    pub fn open(
        path: &Path,
        registry: Registry,
        listener_token: Token,
        first_token: usize,
    ) -> Result<Self, Failure> {
        let refused = |error: io::Error| {
            Failure::new(
                Exit::NotPermitted,
                format!("cannot open the control channel {}", path.display()),
                error.to_string(),
                "Choose another home (--home DIR).",
            )
        };
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused(error)),
        }
        let mut listener = UnixListener::bind(path).map_err(refused)?;
        fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(refused)?;
        registry
            .register(&mut listener, listener_token, Interest::READABLE)
            .map_err(refused)?;
        Ok(Self {
            registry,
            listener,
            first_token,
            clients: (0..CLIENTS_MAX).map(|_| None).collect(),
            generation: 0,
            acceptable: true,
            accept_after: None,
        })
    }

    /// The listener has clients to accept.
    pub fn on_acceptable(&mut self) {
        self.acceptable = true;
    }

    /// The system says something about a client.
    pub fn on_ready(&mut self, event: &Event) {
        let slot = event.token().0.checked_sub(self.first_token);
        let client = slot.and_then(|slot| self.clients.get_mut(slot)?.as_mut());
        if let Some(client) = client {
            client.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            client.writable |= event.is_writable() || event.is_error();
            client.hung_up |= event.is_write_closed() || event.is_error();
        }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let patient = |client: &&Client| !client.waiting;
        let clients = self.clients.iter().flatten().filter(patient);
        clients
            .map(|client| Some(client.deadline))
            .fold(self.accept_after, earliest)
    }

    /// Closes the clients that took too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.accept_after.is_some_and(|after| after <= now) {
            self.accept_after = None;
        }
        for slot in 0..self.clients.len() {
            let late = |client: &Client| !client.waiting && client.deadline <= now;
            if self
                .clients
                .get(slot)
                .is_some_and(|c| c.as_ref().is_some_and(late))
            {
                self.remove(slot);
            }
        }
    }

    /// What the host should hear next; `None` when there is nothing before the next [`Self::on_ready`].
    pub fn poll_input(&mut self, now: Instant) -> Option<Input> {
        loop {
            self.accept(now);
            let mut made_room = false;
            for slot in 0..self.clients.len() {
                let Some(Some(client)) = self.clients.get_mut(slot) else {
                    continue;
                };
                let id = ClientId {
                    slot,
                    generation: client.generation,
                };
                match client.serve(now) {
                    Served::Call(name, body) => {
                        return Some(Input::Call {
                            client: id,
                            name,
                            body,
                        });
                    }
                    Served::Idle => {}
                    Served::Over => {
                        let waited = client.waiting;
                        self.remove(slot);
                        made_room = true;
                        if waited {
                            return Some(Input::Gone(id));
                        }
                    }
                }
            }
            // Somebody may have waited for that place, of whom the system has already told.
            if !made_room {
                return None;
            }
        }
    }

    /// Answers a call. A client that went away is no matter.
    pub fn answer(&mut self, now: Instant, id: ClientId, answer: &Answer) {
        let client = self.clients.get_mut(id.slot).and_then(Option::as_mut);
        let Some(client) = client.filter(|client| client.generation == id.generation) else {
            return;
        };
        client.waiting = false;
        client.respond(now, answer.exit.http_status(), answer);
        // What is left, and a client that is gone, are seen to when it is served next.
        let _ = client.send();
    }

    /// Sends what the answers still need, before the end; what a client does not take at once is lost.
    pub fn flush(&mut self) {
        for client in self.clients.iter_mut().flatten() {
            client.writable = true;
            let _ = client.send();
        }
    }

    fn accept(&mut self, now: Instant) {
        while self.acceptable && self.accept_after.is_none() {
            let Some(slot) = self.clients.iter().position(Option::is_none) else {
                return;
            };
            match self.listener.accept() {
                Ok((socket, _)) => self.insert(now, slot, socket),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.acceptable = false,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::warn!("cannot accept a control connection: {error}");
                    self.accept_after = Some(now.after_ms(ACCEPT_PAUSE_MS));
                }
            }
        }
    }

    fn insert(&mut self, now: Instant, slot: usize, mut socket: UnixStream) {
        let token = Token(self.first_token.saturating_add(slot));
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.registry.register(&mut socket, token, both) {
            log::warn!("cannot watch a control connection: {error}");
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        if let Some(vacant) = self.clients.get_mut(slot) {
            *vacant = Some(Client {
                socket,
                generation: self.generation,
                received: Vec::new(),
                unsent: Vec::new(),
                sent: 0,
                readable: true,
                writable: true,
                ended: false,
                hung_up: false,
                continued: false,
                waiting: false,
                last: false,
                deadline: now.after_ms(PATIENCE_MS),
            });
        }
    }

    fn remove(&mut self, slot: usize) {
        if let Some(mut client) = self.clients.get_mut(slot).and_then(Option::take)
            && let Err(error) = self.registry.deregister(&mut client.socket)
        {
            log::debug!("a control connection was not watched: {error}");
        }
    }
}

enum Served {
    Call(String, Vec<u8>),
    Idle,
    Over,
}

impl Client {
    fn serve(&mut self, now: Instant) -> Served {
        match self.send() {
            Ok(true) => self.deadline = now.after_ms(PATIENCE_MS),
            Ok(false) => {}
            Err(_) => return Served::Over,
        }
        if !self.unsent.is_empty() {
            return Served::Idle;
        }
        if self.waiting {
            // What it sends ahead waits in the system's buffer; only that it went away is of interest.
            return if self.hung_up {
                Served::Over
            } else {
                Served::Idle
            };
        }
        if self.last {
            return Served::Over;
        }
        loop {
            match http::receive(&self.received) {
                Received::Whole(request) => {
                    let (len, keep_alive) = (request.len, request.keep_alive);
                    let call = call_of(&request);
                    self.received.drain(..len);
                    self.continued = false;
                    self.last = !keep_alive;
                    match call {
                        Ok((name, body)) => {
                            self.waiting = true;
                            return Served::Call(name, body);
                        }
                        Err((status, failure)) => self.respond(now, status, &failure.into()),
                    }
                }
                Received::Broken { status, why } => {
                    self.last = true;
                    let next = "See the library's documentation, module control.";
                    let failure = Failure::new(Exit::Usage, "cannot read the request", why, next);
                    self.respond(now, status, &failure.into());
                }
                Received::Part { continues } => {
                    if continues && !self.continued {
                        self.continued = true;
                        self.unsent.extend_from_slice(CONTINUE);
                    }
                }
            }
            if self.send().is_err() {
                return Served::Over;
            }
            if !self.unsent.is_empty() || (self.last && self.unsent.is_empty()) {
                return if self.unsent.is_empty() {
                    Served::Over
                } else {
                    Served::Idle
                };
            }
            match self.read(now) {
                Ok(true) => {}
                Ok(false) if self.ended => return Served::Over,
                Ok(false) => return Served::Idle,
                Err(_) => return Served::Over,
            }
        }
    }

    /// Queues an answer.
    fn respond(&mut self, now: Instant, status: u16, answer: &Answer) {
        let exit = format!("{EXIT_HEADER}: {}\r\n", answer.exit.code());
        let body = answer.body.to_string();
        self.unsent
            .append(&mut http::answer(status, &exit, &body, !self.last));
        self.deadline = now.after_ms(PATIENCE_MS);
    }

    /// Takes more of what was sent; whether there was more.
    fn read(&mut self, now: Instant) -> io::Result<bool> {
        let before = self.received.len();
        let room = (HEAD_LEN_MAX + BODY_LEN_MAX).saturating_sub(before);
        while self.readable && !self.ended {
            self.received
                .resize(before.saturating_add(READ_LEN.min(room)), 0);
            let read = self
                .socket
                .read(self.received.get_mut(before..).unwrap_or_default());
            self.received
                .truncate(before.saturating_add(*read.as_ref().unwrap_or(&0)));
            match read {
                Ok(0) => self.ended = true,
                Ok(_) => {
                    self.deadline = now.after_ms(PATIENCE_MS);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Sends what the system takes; whether it took anything.
    fn send(&mut self) -> io::Result<bool> {
        let before = self.sent;
        while self.writable && self.sent < self.unsent.len() {
            match self
                .socket
                .write(self.unsent.get(self.sent..).unwrap_or_default())
            {
                Ok(len) => self.sent = self.sent.saturating_add(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let progress = self.sent > before;
        if self.sent == self.unsent.len() {
            // An answer may have been long: give its memory back.
            (self.unsent, self.sent) = (Vec::new(), 0);
        }
        Ok(progress)
    }
}

/// The command that a request names, and its arguments; else the status and failure to answer with.
fn call_of(request: &http::Request<'_>) -> Result<(String, Vec<u8>), (u16, Failure)> {
    let unknown = |status, why: &str| {
        let what = format!("cannot answer {} {}", request.method, request.path);
        let next = "Send POST /v1/COMMAND with a JSON object, or GET without arguments.";
        (status, Failure::new(Exit::Usage, what, why, next))
    };
    let Some(name) = request.path.strip_prefix(PATH_PREFIX) else {
        return Err(unknown(404, "there is nothing at this path"));
    };
    if !crate::command::NAMES.contains(&name) {
        return Err(unknown(404, "there is no such command"));
    }
    match request.method {
        "POST" => Ok((name.into(), request.body.into())),
        "GET" => Ok((name.into(), Vec::new())),
        _ => Err(unknown(405, "only GET and POST are understood")),
    }
}

#[cfg(test)]
mod tests;
