//! What a node tells its application, kept: events, and the answers to commands.
//!
//! Core's events borrow the buffer of one poll; these own what they hold, so that a test can look at them later. Owns no
//! judgement: whether an answer is right is for [`super::model`] to say.

use std::net::SocketAddr;

use strandline_core::id::{Key, NodeId, UserId};
use strandline_core::output::{
    ChosenBy, CommandError, Event, Outcome, Person, QueryId, Recipient, Relation, Unreached, Via,
};

use super::node::Command;
use super::world::HostId;

/// Names a command that was given, in the whole world and for good.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// A post as a reader was shown it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Who wrote it.
    pub author: Person,
    /// In which log.
    pub log: u16,
    /// Its number.
    pub seq: u64,
    /// When, Unix ms.
    pub time_ms: u64,
    /// The text.
    pub text: String,
    /// Who served it.
    pub via: Via,
}

/// A profile as `whois` showed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShownProfile {
    /// Whose.
    pub person: Person,
    /// How the name was resolved.
    pub chosen_by: ChosenBy,
    /// Where its node listens.
    pub addr: Option<SocketAddr>,
    /// Whether it seems to be online.
    pub online: bool,
    /// Number of the last post.
    pub last: u64,
    /// How many follow it.
    pub followers: u32,
}

/// How far a command got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It runs.
    Running,
    /// It was refused at once.
    Refused(CommandError),
    /// It ended.
    Done(Outcome),
    /// The node stopped before it ended.
    Abandoned,
}

/// Everything that a command brought.
#[derive(Clone, Debug)]
pub struct Answer {
    /// At which node it was given.
    pub host: HostId,
    /// The command.
    pub command: Command,
    /// When, in µs of the world's time.
    pub began_us: u64,
    /// By when it was to end.
    pub deadline_us: u64,
    /// When it ended, if it did.
    pub ended_us: Option<u64>,
    /// How far it got.
    pub state: State,
    /// Posts, in the order in which they came.
    pub posts: Vec<Shown>,
    /// Authors that could not be read.
    pub missing: Vec<(Person, Unreached)>,
    /// People.
    pub people: Vec<(Person, Relation)>,
    /// Values: author, sequence, bytes.
    pub values: Vec<(UserId, u64, Vec<u8>)>,
    /// The answers to messages: who answered, and what.
    pub answers: Vec<(NodeId, Vec<u8>)>,
    /// Contacts: id, address, hops.
    pub contacts: Vec<(NodeId, SocketAddr, u8)>,
    /// The profile.
    pub profile: Option<ShownProfile>,
}

impl Answer {
    /// An answer of which nothing has come yet.
    #[must_use]
    pub const fn new(host: HostId, command: Command, began_us: u64, deadline_us: u64) -> Self {
        Self {
            host,
            command,
            began_us,
            deadline_us,
            ended_us: None,
            state: State::Running,
            posts: Vec::new(),
            missing: Vec::new(),
            people: Vec::new(),
            values: Vec::new(),
            answers: Vec::new(),
            contacts: Vec::new(),
            profile: None,
        }
    }

    /// How it ended, if it did so by itself.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Done(outcome) => Some(outcome),
            State::Running | State::Refused(_) | State::Abandoned => None,
        }
    }

    /// How long it took, in ms.
    #[must_use]
    pub fn took_ms(&self) -> u64 {
        self.ended_us
            .map_or(0, |ended| ended.saturating_sub(self.began_us) / 1_000)
    }

    /// The texts of the posts of one author, in the order in which they came.
    #[must_use]
    pub fn texts_of(&self, user: UserId) -> Vec<&str> {
        self.posts
            .iter()
            .filter(|post| post.author.user == user)
            .map(|post| &*post.text)
            .collect()
    }
}

/// An event that is not part of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// See [`Event::Message`].
    Message {
        /// The node that sent it.
        from: NodeId,
        /// To which key, or to this very node.
        to: Recipient,
        /// The message.
        bytes: Vec<u8>,
    },
    /// See [`Event::NeighbourUp`].
    NeighbourUp(NodeId),
    /// See [`Event::NeighbourDown`].
    NeighbourDown(NodeId),
    /// See [`Event::ResponsibilityChanged`].
    ResponsibilityChanged(u16),
    /// See [`Event::RangeChanged`].
    RangeChanged {
        /// The id of the predecessor.
        after: Key,
        /// The node's own id.
        last: Key,
    },
    /// See [`Event::KeyGained`].
    KeyGained(Key),
    /// See [`Event::KeyLost`].
    KeyLost(Key),
    /// See [`Event::StorageFailed`].
    StorageFailed,
    /// See [`Event::Forked`].
    Forked,
    /// See [`Event::Recovered`].
    Recovered(u64),
}

/// An event, with everything that it borrowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// A post.
    Post(QueryId, Shown),
    /// An author that could not be read.
    Missing(QueryId, Person, Unreached),
    /// A person.
    Person(QueryId, Person, Relation),
    /// A profile.
    Profile(QueryId, ShownProfile),
    /// A value.
    Value(QueryId, UserId, u64, Vec<u8>),
    /// The answer to a message.
    Answer(QueryId, NodeId, Vec<u8>),
    /// A contact.
    Contact(QueryId, NodeId, SocketAddr, u8),
    /// The end of a command.
    Done(QueryId, Outcome),
    /// Anything else.
    Notice(Notice),
}

impl Heard {
    /// Takes over what an event borrows.
    #[must_use]
    pub fn of(event: Event<'_>) -> Self {
        match event {
            Event::Message(message) => Self::Notice(Notice::Message {
                from: message.from,
                to: message.to,
                bytes: message.bytes.to_vec(),
            }),
            Event::Answer { query, from, bytes } => Self::Answer(query, from, bytes.to_vec()),
            Event::NeighbourUp { id, addr: _ } => Self::Notice(Notice::NeighbourUp(id)),
            Event::NeighbourDown { id } => Self::Notice(Notice::NeighbourDown(id)),
            Event::ResponsibilityChanged { prefix_bits } => {
                Self::Notice(Notice::ResponsibilityChanged(prefix_bits))
            }
            Event::RangeChanged { after, last } => {
                Self::Notice(Notice::RangeChanged { after, last })
            }
            Event::KeyGained { key } => Self::Notice(Notice::KeyGained(key)),
            Event::KeyLost { key } => Self::Notice(Notice::KeyLost(key)),
            Event::StorageFailed => Self::Notice(Notice::StorageFailed),
            Event::Forked => Self::Notice(Notice::Forked),
            Event::Recovered { next } => Self::Notice(Notice::Recovered(next)),
            Event::Contact {
                query,
                id,
                addr,
                hops,
            } => Self::Contact(query, id, addr, hops),
            Event::Value {
                query,
                author,
                sequence,
                bytes,
            } => Self::Value(query, author, sequence, bytes.to_vec()),
            Event::Post {
                query,
                author,
                log,
                seq,
                time_ms,
                text,
                via,
            } => {
                let text = text.to_owned();
                Self::Post(
                    query,
                    Shown {
                        author,
                        log,
                        seq,
                        time_ms,
                        text,
                        via,
                    },
                )
            }
            Event::Missing {
                query,
                author,
                reason,
            } => Self::Missing(query, author, reason),
            Event::Person {
                query,
                person,
                relation,
            } => Self::Person(query, person, relation),
            Event::Profile {
                query,
                person,
                chosen_by,
                addr,
                online,
                last,
                followers,
            } => {
                let addr = addr.to_socket_addr();
                let profile = ShownProfile {
                    person,
                    chosen_by,
                    addr,
                    online,
                    last,
                    followers,
                };
                Self::Profile(query, profile)
            }
            Event::QueryDone { query, outcome } => Self::Done(query, outcome),
        }
    }

    /// The command that it belongs to.
    #[must_use]
    pub const fn query(&self) -> Option<QueryId> {
        match self {
            Self::Post(query, _)
            | Self::Missing(query, ..)
            | Self::Person(query, ..)
            | Self::Profile(query, _)
            | Self::Value(query, ..)
            | Self::Answer(query, ..)
            | Self::Contact(query, ..)
            | Self::Done(query, _) => Some(*query),
            Self::Notice(_) => None,
        }
    }
}
