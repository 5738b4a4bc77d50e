//! The commands that are about people and posts: whois, followers, following, follow, unfollow, register, leave, post, and
//! the first half of timeline: whose.
//!
//! Owns a slot for each running command, what it found and how it ended, until the host has polled that. What a command
//! needs of the DHT it says when asked ([`Queries::poll_ask`]); messages over streams are errands. Invariant: every
//! command ends with one `QueryDone`, at the latest at its deadline.

mod commands;
mod found;
mod steps;
mod tell;
#[cfg(test)]
mod tests;

use crate::addr::PackedAddr;
use crate::bounded::{Handle, Slab};
use crate::id::{Key, UserId};
use crate::name::{self, Name};
use crate::output::{ChosenBy, CommandError, Outcome, PersistId, Person, QueryId};
use crate::plan::{Plan, Uses};
use crate::time::{Deadline, Instant};
use crate::wire::record::{Follow, Following, Kind, Kinds, Profile};

use super::asks::{Ask, Asking, Ended};
use super::errands::Message;
use super::log::Log;
use super::names::{Names, ResolutionId};
use super::people::lease_left_ms;
use super::persist::Entry;
use super::publish::Publish;
use super::state::State;
use super::statements::Statement;
use super::tags::{Part, slot_of};
use crate::dht::Verified;

pub use found::{Found, Results};
use found::{Told, What};

/// Pause before a busy DHT is asked again, or a full queue is tried again, in ms.
const RETRY_MS: u64 = 100;
/// How often a put is repeated because a holder has a newer record of this user.
const OLDER_MAX: u8 = 3;
/// A post that is not durable after this time has timed out, in ms; with holders, they need time to come and read.
const POST_MS: u64 = 60_000;
const POST_HOLDERS_MS: u64 = 5 * 60_000;

/// Which command it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Command {
    Post,
    Register,
    Leave,
    Whois,
    /// Only finds out whose: the read itself is run by [`super::reads`], under the same number.
    Timeline,
    Followers,
    Following,
    Follow,
    Unfollow,
}

/// What a command is waiting for. Where it has to do something first, that is `due`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Whom the handle means.
    Resolving,
    /// Records of these kinds at the key of the user.
    Getting(Kinds),
    Putting(Put),
    /// Goodbyes.
    Leaving,
    /// Storage, or a message over a stream.
    Waiting,
    /// A read to be begun.
    Reading,
    /// The host, to poll the results.
    Telling(Telling),
}

/// The record that a command puts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Put {
    Claim,
    Profile,
    Goodbye,
    Follow,
    Gone,
}

/// What the host is told next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Telling {
    /// Those who claim the name.
    Claimants,
    /// Those who were found.
    People,
    /// Whom this user follows.
    OwnFollowing,
    Profile,
    Done,
}

/// How a command ends; what comes with it is in the [`Query`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    TimedOut,
    NotFound,
    Ambiguous,
    Full,
    StorageFailed,
    Posted,
    Stored,
    Followed,
    Left,
    Found,
}

/// A running command.
#[derive(Clone, Debug)]
pub struct Query {
    command: Command,
    stage: Stage,
    end: End,
    until: Instant,
    /// When the stage's operation is to be begun; never: it is under way, or there is none.
    due: Deadline,
    resolution: Option<ResolutionId>,
    chosen_by: ChosenBy,
    user: UserId,
    name: Name,
    /// Of the newest profile seen: its sequence, and what it says.
    profile_sequence: u64,
    address: PackedAddr,
    lease_until: Instant,
    /// As many as the profile says, or as were found, if those are more.
    followers: u32,
    /// How many were found.
    met: u32,
    /// The sequence of the newest head or page seen; for a post, its time.
    sequence: u64,
    /// The number that the newest head names; for a post, its number.
    last: u64,
    /// Somebody said that the user did not answer.
    missed: bool,
    /// Pages of those who are followed, as the newest of them says.
    pages: u16,
    complete: bool,
    count: u32,
    /// Where telling goes on in its table.
    at: u32,
    accepted: u8,
    wanted: u8,
    older: u8,
    /// What storage has to write before it is acknowledged; zero: nothing.
    persist: PersistId,
    /// Whether the message over a stream arrived; `None`: it is under way.
    delivered: Option<bool>,
}

/// A read that a command has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    handle: Handle,
    /// The number under which everything about it is told.
    pub query: QueryId,
    /// Whose posts; `None`: of everyone followed, and one's own.
    pub whose: Option<Person>,
    /// When it is to end.
    pub until: Instant,
}

impl Query {
    #[inline(never)] // By every command: on a board 70 bytes each.
    fn new(command: Command, stage: Stage, until: Instant) -> Self {
        Self {
            command,
            stage,
            end: End::TimedOut,
            until,
            due: Deadline::NEVER,
            resolution: None,
            chosen_by: ChosenBy::Only,
            user: UserId::ZERO,
            name: Name::UNSET,
            profile_sequence: 0,
            address: PackedAddr::NONE,
            lease_until: Instant::ZERO,
            followers: 0,
            met: 0,
            sequence: 0,
            last: 0,
            missed: false,
            pages: 0,
            complete: true,
            count: 0,
            at: 0,
            accepted: 0,
            wanted: 0,
            older: 0,
            persist: PersistId(0),
            delivered: None,
        }
    }

    /// Moves on to a stage that has something to do at `due`.
    #[inline(never)] // A dozen callers, on a board 15 bytes each.
    fn go_to(&mut self, stage: Stage, due: Instant) {
        self.stage = stage;
        self.due = Deadline::at(due);
    }

    /// Moves on to telling.
    #[inline(never)] // As `go_to`.
    fn tell(&mut self, telling: Telling) {
        self.stage = Stage::Telling(telling);
        self.due = Deadline::NEVER;
        self.at = 0;
    }

    #[inline(never)] // As `go_to`.
    fn end(&mut self, end: End) {
        self.end = end;
        self.tell(Telling::Done);
    }

    /// Whether everything that storage has to write for it was written.
    fn is_written(&self) -> bool {
        self.persist == PersistId(0)
    }

    fn person(&self) -> Person {
        Person {
            user: self.user,
            name: self.name,
        }
    }

    fn outcome(&self) -> Outcome {
        let (accepted, wanted) = (self.accepted, self.wanted);
        match self.end {
            End::TimedOut => Outcome::TimedOut,
            End::NotFound => Outcome::NotFound,
            End::Ambiguous => Outcome::Ambiguous,
            End::Full => Outcome::Full,
            End::StorageFailed => Outcome::StorageFailed,
            End::Left => Outcome::Left,
            End::Stored => Outcome::Stored { accepted, wanted },
            End::Posted => Outcome::Posted {
                seq: self.last,
                time_ms: self.sequence,
            },
            End::Followed => Outcome::Followed {
                person: self.person(),
                delivered: self.delivered.unwrap_or(false),
                accepted,
                wanted,
            },
            End::Found => Outcome::Found {
                count: self.count,
                complete: self.complete,
            },
        }
    }

    fn statement(&self, put: Put) -> Statement {
        match put {
            Put::Claim => Statement::Claim,
            Put::Profile => Statement::Profile,
            Put::Goodbye => Statement::Goodbye,
            Put::Follow => Statement::Follow(self.user),
            Put::Gone => Statement::Gone(self.user),
        }
    }
}

/// The running commands.
pub struct Queries<P: Plan> {
    running: Slab<Query, P::Queries>,
    results: Results<P>,
}

/// The number of a query from its slot; the DHT's and the reads' have one of the two highest bits set.
fn id_of(handle: Handle) -> QueryId {
    QueryId(handle.to_bits() & (u64::MAX >> 2))
}

impl<P: Plan> Queries<P> {
    /// None.
    pub const EMPTY: Self = Self {
        running: Slab::EMPTY,
        results: Results::EMPTY,
    };

    /// Takes the secret that is mixed into hashes; before any command.
    pub fn start(&mut self, secret: u64) {
        self.results.start(secret);
    }

    /// Running commands and people found, and how many of each there can be.
    #[must_use]
    pub fn used(&self) -> [(usize, usize); 2] {
        let commands = (self.running.len(), self.running.capacity());
        [commands, self.results.used()]
    }
}
