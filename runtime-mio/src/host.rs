//! The event loop: brings the node, its sockets, its storage and its control channel together. Owns the order of a turn and
//! how much of each kind a turn may do; every decision about the protocol is core's. Invariants: after every input the node
//! is drained; everything that it persisted in a turn is committed at the turn's end and acknowledged after; no peer and no
//! client can keep the loop from coming round.

mod calls;
mod ears;
mod stopper;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use strandline_core::drive::{self, Transport, drain};
use strandline_core::name::{Handle, Name};
use strandline_core::node::Node;
use strandline_core::output::{PersistId, Person, Restored, Stored, StreamId};
use strandline_core::plan::Server;
use strandline_core::rng::Seed;
use strandline_core::time::{Instant, earliest};

use crate::answer::Myself;
use crate::clock::{Date, Timebase};
use crate::control::Control;
use crate::desk::Desk;
use crate::entrance::{self, Entrances};
use crate::failure::{Failure, internal};
use crate::home::{Home, handle_of, user_of};
use crate::net::{self, Datagrams};
use crate::ntp::TimeServers;
use crate::options::{Options, config_failure};
use crate::resolve::Resolver;
use crate::start::{Storage, entropy, identity_of};
use crate::status::Trouble;
use crate::store::Store;
use crate::streams::{Input, Streams};

use ears::{Ears, Errand, Hearing};
use stopper::{HALT, LEAVE};

pub use crate::options::PORT;
pub use stopper::{Stopper, Waker};

/// Datagrams that are taken in one turn.
const DATAGRAMS_PER_TURN: usize = 256;
/// What is heard of streams in one turn.
const STREAM_INPUTS_PER_TURN: usize = 256;
/// Calls that are taken in one turn.
const CALLS_PER_TURN: usize = 16;
/// Room in bytes for a datagram: more than the protocol allows, so that a longer one shows.
const DATAGRAM_BUF_LEN: usize = 2048;
/// Events that the system tells at once.
const EVENTS_MAX: usize = 1024;
/// How long a goodbye may take, in ms.
const LEAVE_WITHIN_MS: u32 = 2_000;

const UDP: Token = Token(0);
const LISTENER: Token = Token(1);
const WAKER: Token = Token(2);
const SIGNALS: Token = Token(3);
const CONTROL: Token = Token(4);
const FIRST_CLIENT: usize = 16;
const FIRST_STREAM: usize = 64;

const _: () = assert!(FIRST_CLIENT + crate::control::CLIENTS_MAX <= FIRST_STREAM);
const _: () = assert!(DATAGRAM_BUF_LEN > strandline_core::wire::DATAGRAM_LEN_MAX);

/// Said once: the control channel answers, and the first join ended or took too long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ready {
    /// The user's name.
    pub name: Name,
    /// The user's handle.
    pub handle: Handle,
    /// Where the node listens, with its real port.
    pub listen: SocketAddr,
    /// The control socket.
    pub control: PathBuf,
    /// There was nobody to join and no contact was saved: others have to come.
    pub new_network: bool,
}

/// A program on top of a hosted node. Called on the loop's thread: return soon.
///
/// It hears what happens (results of commands of the control channel are not told), answers messages, and once a turn may
/// act, see [`drive::Application`]; [`Host::waker`] brings a turn about from another thread.
pub trait Application: drive::Application<Server> {
    /// The node is ready.
    fn on_ready(&mut self, _ready: &Ready) {}
}

/// Hears nothing and does nothing.
impl Application for () {}

/// What core's outputs act on.
#[derive(Debug)]
struct World {
    now: Instant,
    datagrams: Datagrams,
    streams: Streams,
    store: Store,
}

impl Transport for World {
    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.datagrams.send(to, bytes);
    }

    fn open(&mut self, stream: StreamId, to: SocketAddr) {
        self.streams.open(self.now, stream, to);
    }

    fn write(&mut self, stream: StreamId, bytes: &[u8]) {
        self.streams.write(stream, bytes);
    }

    fn close(&mut self, stream: StreamId) {
        self.streams.close(self.now, stream);
    }

    fn persist(&mut self, id: PersistId, item: Stored<'_>) {
        self.store.persist(id, item);
    }
}

/// A node with all that it needs, which [`run`](Self::run) runs.
pub struct Host {
    node: Box<Node<Server>>,
    world: World,
    ears: Ears,
    control: Control,
    resolver: Resolver,
    time_servers: Option<TimeServers>,
    timebase: Timebase,
    date: Date,
    poll: Poll,
    signals: Option<Signals>,
    stopper: Stopper,
    me: Myself,
    ready: Ready,
    network: String,
    has_contacts: bool,
    /// When the node next wants to be woken, as of the last drain.
    wake: Option<Instant>,
    /// When the application wants to act again.
    act_by: Option<Instant>,
    /// The end, once stopping.
    leave_by: Option<Instant>,
    /// Whether `on_ready` was called, else by when it will be.
    ready_by: Option<Instant>,
    /// Holds the lock: dropped last.
    home: Home,
}

impl Host {
    /// Loads or makes the identity, checks and restores the storage, binds the sockets and opens the control channel.
    ///
    /// # Errors
    /// [`crate::Exit::Usage`] for options outside their limits and a missing or different name; [`crate::Exit::Internal`] when the port
    /// is taken; [`crate::Exit::NotPermitted`] and [`crate::Exit::Damaged`] as [`Home::identity`], and for the database.
    pub fn open(home: Home, options: &Options) -> Result<Self, Failure> {
        let (name, mut config) = options.check()?;
        let control_path = Home::control_path(home.dir())?;
        let (identity, is_new) = identity_of(&home, name)?;
        let storage = Storage::find(&home, Some(&identity).filter(|_| !is_new))?;
        let (udp, tcp, listen) = net::bind(options.listen)?;
        config.listen = listen;

        let timebase = Timebase::start();
        let now = timebase.now();
        let date = Date::of_system(timebase, now);
        let mut node = Box::new(Node::<Server>::unstarted());
        node.start(now, identity.clone(), &Seed(entropy()?), &config)
            .map_err(config_failure)?;
        let setting = date.setting(now);
        node.set_clock(now, setting.unix_ms, setting.uncertainty_ms);
        let (how, has_contacts) = storage.restore(&home, now, &mut node)?;

        let poll = Poll::new().map_err(internal)?;
        let registry = || poll.registry().try_clone().map_err(internal);
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER).map_err(internal)?);
        let control = Control::open(&control_path, registry()?, CONTROL, FIRST_CLIENT)?;
        let datagrams = Datagrams::new(udp, listen, poll.registry(), UDP).map_err(internal)?;
        let streams = Streams::new(tcp, registry()?, LISTENER, FIRST_STREAM).map_err(internal)?;
        let resolver = Resolver::start(Arc::clone(&waker)).map_err(internal)?;
        let store = storage.into_store(&home, &identity)?;
        if is_new {
            // Last of all: from here on there is an identity, and everything that it needs is in place.
            home.create_identity(&identity)?;
        }
        let time_servers = if options.ntp.is_empty() {
            None
        } else {
            Some(TimeServers::start(&options.ntp, timebase, &waker).map_err(internal)?)
        };

        let handle = handle_of(&identity);
        let user = user_of(&identity);
        let name = identity.name;
        Ok(Self {
            me: Myself {
                person: Person { user, name },
                node: node.node_id(),
                listen,
            },
            ready: Ready {
                name,
                handle,
                listen,
                control: control_path,
                new_network: options.join.is_empty() && !has_contacts,
            },
            world: World {
                now,
                datagrams,
                streams,
                store,
            },
            ears: Ears {
                desk: Desk::default(),
                entrances: Entrances::new(now, &options.join),
                registering: Errand::Due,
                leaving: Errand::Due,
                told: false,
                recovered: false,
                trouble: (how == Restored::Lost).then_some(Trouble::Recovering),
            },
            has_contacts,
            node,
            control,
            resolver,
            time_servers,
            timebase,
            date,
            poll,
            signals: None,
            stopper: Stopper {
                asked: Arc::new(AtomicU8::new(0)),
                waker: Waker(waker),
            },
            network: options.network.clone(),
            wake: None,
            act_by: None,
            leave_by: None,
            ready_by: Some(now.after_ms(entrance::WITHIN_MS.into())),
            home,
        })
    }

    /// Stops at SIGINT and SIGTERM: the first says goodbye to the network, the second ends at once.
    ///
    /// # Errors
    /// [`crate::Exit::Internal`] when the system refuses.
    pub fn handle_signals(&mut self) -> Result<(), Failure> {
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(internal)?;
        self.poll
            .registry()
            .register(&mut signals, SIGNALS, Interest::READABLE)
            .map_err(internal)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// A handle that stops this host from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// A handle that lets the application act soon, from another thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.stopper.waker.clone()
    }

    /// Who and where the node is.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Runs the node until it is stopped.
    ///
    /// # Errors
    /// [`crate::Exit::Internal`] when the system's event queue fails.
    pub fn run(&mut self, application: &mut dyn Application) -> Result<(), Failure> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let now = self.timebase.now();
            match self.turn(now, application) {
                Turn::Wait(deadline) => {
                    let wait =
                        deadline.map(|at| Duration::from_micros(at.since_us(self.timebase.now())));
                    match self.poll.poll(&mut events, wait) {
                        Ok(()) => self.hear(&events),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(internal(error)),
                    }
                }
                Turn::Left => {
                    self.end();
                    return Ok(());
                }
                Turn::Halted => return Ok(()),
            }
        }
    }

    /// Notes what the system says.
    fn hear(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                UDP => self.world.datagrams.on_ready(),
                LISTENER => self.world.streams.on_acceptable(),
                CONTROL => self.control.on_acceptable(),
                WAKER => {}
                SIGNALS => {
                    let signals = self.signals.as_mut().map(Signals::pending);
                    for _signal in signals.into_iter().flatten() {
                        self.stopper.on_signal();
                    }
                }
                Token(other) if other < FIRST_STREAM => self.control.on_ready(event),
                Token(_) => self.world.streams.on_ready(event),
            }
        }
    }

    /// Does what there is to do, within its limits, and says until when to wait.
    fn turn(&mut self, now: Instant, application: &mut dyn Application) -> Turn {
        self.world.now = now;
        match self.stopper.asked.load(Ordering::Relaxed) {
            HALT.. => return Turn::Halted,
            LEAVE if self.leave_by.is_none() => self.leave(now, application),
            _ => {}
        }
        self.tell_time(now, application);
        self.node.handle_timeout(now);
        self.drain(application);
        self.enter(now, application);
        self.take_datagrams(now, application);
        self.take_calls(now, application);
        let mut busy = self.take_stream_inputs(now, application);
        busy |= self.commit(now, application);
        busy |= self.answer(now);
        self.say_ready(now, application);
        let left = self.ears.leaving == Errand::Over;
        if self.leave_by.is_some_and(|by| left || by <= now) {
            return Turn::Left;
        }
        busy |= self.act(now, application);
        busy |= self.world.store.has_pending();
        if busy || self.world.datagrams.is_readable() || self.world.streams.is_busy() {
            return Turn::Wait(Some(now));
        }
        let deadlines = [
            self.wake,
            self.act_by,
            self.world.streams.next_deadline(),
            self.control.next_deadline(),
            self.ears.desk.next_deadline(),
            self.ears.entrances.next_deadline(),
            self.date.next_deadline(),
            self.leave_by,
            self.ready_by,
        ];
        Turn::Wait(deadlines.into_iter().fold(None, earliest))
    }

    /// Carries out what the node wants. Called after every input.
    fn drain(&mut self, application: &mut dyn Application) {
        let mut hearing = Hearing {
            now: self.world.now,
            ears: &mut self.ears,
            application,
        };
        self.wake = drain(&mut self.node, &mut self.world, &mut hearing);
    }

    /// Lets the application act; whether it was told more since.
    fn act(&mut self, now: Instant, application: &mut dyn Application) -> bool {
        self.ears.told = false;
        self.act_by = application.act(now, &mut self.node);
        self.drain(application);
        self.ears.told
    }

    fn tell_time(&mut self, now: Instant, application: &mut dyn Application) {
        let estimate = self.time_servers.as_mut().and_then(|of| of.poll(now));
        if let Some(estimate) = &estimate {
            self.date.on_estimate(now, estimate);
        }
        if estimate.is_some() || self.date.handle_timeout(now) {
            let setting = self.date.setting(now);
            self.node
                .set_clock(now, setting.unix_ms, setting.uncertainty_ms);
            self.drain(application);
        }
    }

    /// Sees to the ways into the network.
    fn enter(&mut self, now: Instant, application: &mut dyn Application) {
        while let Some(name) = self.ears.entrances.poll_due(now) {
            self.resolver.ask(&name);
        }
        while let Some(resolved) = self.resolver.poll() {
            let (node, local) = (&mut self.node, self.ready.listen);
            let join = |addr| {
                if !net::reaches(local, addr) {
                    return None;
                }
                let joining = node.join(now, net::canonical(addr), entrance::WITHIN_MS);
                joining
                    .inspect_err(|error| log::debug!("cannot join through {addr}: {error:?}"))
                    .ok()
            };
            let addresses = resolved.addresses.map_err(|error| error.to_string());
            self.ears
                .entrances
                .on_resolved(now, &resolved.name, addresses, join);
            self.drain(application);
        }
    }

    fn take_datagrams(&mut self, now: Instant, application: &mut dyn Application) {
        let mut buf = [0; DATAGRAM_BUF_LEN];
        for _ in 0..DATAGRAMS_PER_TURN {
            if let Some((from, bytes)) = self.world.datagrams.receive(&mut buf) {
                self.node.handle_datagram(now, from, bytes);
                self.drain(application);
            } else if !self.world.datagrams.is_readable() {
                return;
            }
        }
    }

    /// Hears streams, and tells whether to come back at once.
    fn take_stream_inputs(&mut self, now: Instant, application: &mut dyn Application) -> bool {
        self.world.streams.handle_timeout(now);
        self.world.streams.offer_again();
        let mut heard = false;
        for _ in 0..STREAM_INPUTS_PER_TURN {
            let Some(input) = self.world.streams.poll_input(now) else {
                break;
            };
            heard |= self.take_stream_input(now, input);
            self.drain(application);
        }
        // What core refused before it heard the last input, it may take after it.
        heard && self.world.streams.has_blocked()
    }

    /// Tells the node; whether that can have changed anything.
    fn take_stream_input(&mut self, now: Instant, input: Input) -> bool {
        let streams = &mut self.world.streams;
        match input {
            Input::Accept(slot, from) => match self.node.accept_stream(now, from) {
                Ok(stream) => streams.accepted(slot, stream),
                Err(_busy) => streams.refuse(slot),
            },
            Input::Opened(stream) => self.node.stream_opened(now, stream),
            Input::Writable(stream, room) => self.node.stream_writable(now, stream, room),
            Input::Closed(stream) => self.node.stream_closed(now, stream),
            Input::Readable(stream) => {
                let taken = self
                    .node
                    .stream_readable(now, stream, streams.unread(stream));
                streams.consumed(stream, taken);
                return taken > 0;
            }
        }
        true
    }

    /// Makes the turn's entries durable and tells the node, which may have more to write then; whether to come back.
    fn commit(&mut self, now: Instant, application: &mut dyn Application) -> bool {
        if std::mem::take(&mut self.ears.recovered) {
            self.world.store.recovered();
        }
        let Some(committed) = self.world.store.commit() else {
            return false;
        };
        match committed {
            Ok(up_to) => self.node.persisted(now, up_to),
            Err(from) => {
                self.ears.trouble(Trouble::StorageFailed);
                self.node.persist_failed(now, from);
            }
        }
        self.drain(application);
        true
    }

    fn say_ready(&mut self, now: Instant, application: &mut dyn Application) {
        let Some(by) = self.ready_by else {
            return;
        };
        // Contacts saved by an earlier run count as somebody to join.
        let settled = if self.ears.entrances.is_empty() {
            !self.has_contacts || self.node.peers().next().is_some()
        } else {
            self.ears.entrances.settled()
        };
        if settled && self.ears.registering == Errand::Due {
            // Ready means that others can find this user.
            let within_ms = u32::try_from(by.since_ms(now)).unwrap_or(u32::MAX);
            let registering = self.node.register(now, within_ms);
            self.ears.registering = Errand::begun("register", registering);
            self.drain(application);
        }
        if self.ears.registering == Errand::Over || by <= now {
            self.ready_by = None;
            application.on_ready(&self.ready);
        }
    }

    /// Begins to say goodbye.
    fn leave(&mut self, now: Instant, application: &mut dyn Application) {
        self.leave_by = Some(now.after_ms(LEAVE_WITHIN_MS.into()));
        let leaving = self.node.leave(now, LEAVE_WITHIN_MS);
        self.ears.leaving = Errand::begun("say goodbye", leaving);
        self.drain(application);
    }

    /// Answers whoever still waits, and clears away the socket.
    fn end(&mut self) {
        let now = self.world.now;
        let alone = self.node.peers().next().is_none();
        while let Some((client, answer)) = self.ears.desk.give_up(&self.me, alone) {
            self.control.answer(now, client, &answer);
        }
        self.control.flush();
        if let Err(error) = fs::remove_file(&self.ready.control) {
            log::debug!("the control socket is gone already: {error}");
        }
    }
}

/// What a turn came to.
enum Turn {
    /// Wait for the system, or until this time.
    Wait(Option<Instant>),
    /// The goodbyes are said.
    Left,
    /// Stop on the spot.
    Halted,
}
