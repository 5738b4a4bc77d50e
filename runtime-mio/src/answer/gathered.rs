//! What a query yields until it ends. Owns the order of posts; what an answer looks like is [`super`]'s. Invariant: what
//! one answer gathers is bounded by [`ANSWER_LEN_MAX`], however much a query yields.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use serde_json::{Value, json};
use strandline_core::addr::PackedAddr;
use strandline_core::id::{NodeId, UserId};
use strandline_core::output::{ChosenBy, Event, Person, Relation, Unreached, Via};

use super::{handle, via};
use crate::command::Command;
use crate::home::hex;

/// Most bytes that one answer gathers.
pub const ANSWER_LEN_MAX: usize = 64 * 1024 * 1024;
/// What an item costs besides its text, in bytes.
const ITEM_LEN: usize = 256;

/// What a query has yielded so far.
#[derive(Debug)]
pub struct Gathered {
    pub(super) posts: Posts,
    pub(super) missing: Vec<(Person, Unreached)>,
    pub(super) people: Vec<(Person, Relation)>,
    pub(super) profile: Option<Profile>,
    pub(super) contacts: Vec<Contact>,
    pub(super) values: Vec<Value>,
    /// What the node that got a message answered.
    pub(super) answer: Option<Vec<u8>>,
    pub(super) len: usize,
    pub(super) overflowed: bool,
}

/// A node that a lookup found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contact {
    pub(super) id: NodeId,
    pub(super) addr: SocketAddr,
    /// How many steps away from this node it was learned of.
    pub(super) hops: u8,
}

/// What is known about a person.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) person: Person,
    pub(super) chosen_by: ChosenBy,
    pub(super) addr: PackedAddr,
    pub(super) online: bool,
    pub(super) last: u64,
    pub(super) followers: u32,
}

impl Gathered {
    /// Nothing yet, for a command.
    #[must_use]
    pub fn new(command: &Command) -> Self {
        let limit = if let Command::Timeline { limit, .. } = command {
            *limit
        } else {
            usize::MAX
        };
        Self {
            posts: Posts::new(limit),
            missing: Vec::new(),
            people: Vec::new(),
            profile: None,
            contacts: Vec::new(),
            values: Vec::new(),
            answer: None,
            len: 0,
            overflowed: false,
        }
    }

    /// Takes what an event tells; its query is the caller's to check.
    pub fn on_event(&mut self, event: &Event<'_>) {
        let text_len = if let Event::Post { text, .. } = event {
            text.len()
        } else if let Event::Value { bytes, .. } | Event::Answer { bytes, .. } = event {
            bytes.len().saturating_mul(3)
        } else {
            0
        };
        let len = self.len.saturating_add(text_len).saturating_add(ITEM_LEN);
        if len > ANSWER_LEN_MAX {
            self.overflowed = true;
            return;
        }
        match *event {
            Event::Post {
                author,
                log,
                seq,
                time_ms,
                text,
                via,
                ..
            } => {
                let key = (author.user, log, seq);
                if let Some(dropped) = self.posts.add(key, author, time_ms, text, via) {
                    // In place of a longer or shorter one: the sum stays about right.
                    self.len = len.saturating_sub(dropped.saturating_add(ITEM_LEN));
                    return;
                }
            }
            Event::Missing { author, reason, .. } => self.missing.push((author, reason)),
            Event::Person {
                person, relation, ..
            } => self.people.push((person, relation)),
            Event::Profile {
                person,
                chosen_by,
                addr,
                online,
                last,
                followers,
                ..
            } => {
                self.profile = Some(Profile {
                    person,
                    chosen_by,
                    addr,
                    online,
                    last,
                    followers,
                });
            }
            Event::Contact { id, addr, hops, .. } => self.contacts.push(Contact { id, addr, hops }),
            Event::Value {
                author,
                sequence,
                bytes,
                ..
            } => {
                self.values.push(json!({
                    "author": author.to_string(),
                    "seq": sequence,
                    "value": std::str::from_utf8(bytes).ok(),
                    "hex": hex(bytes),
                }));
            }
            Event::Answer { bytes, .. } => self.answer = Some(bytes.to_vec()),
            Event::QueryDone { .. }
            | Event::Message(_)
            | Event::NeighbourUp { .. }
            | Event::NeighbourDown { .. }
            | Event::ResponsibilityChanged { .. }
            | Event::RangeChanged { .. }
            | Event::KeyGained { .. }
            | Event::KeyLost { .. }
            | Event::StorageFailed
            | Event::Forked
            | Event::Recovered { .. } => return,
        }
        self.len = len;
    }

    /// Everybody who goes by the name.
    pub(super) fn claimants(&self) -> Vec<Person> {
        let claimant = |(person, relation): &(Person, Relation)| {
            matches!(relation, Relation::Claimant { .. }).then_some(*person)
        };
        self.people.iter().filter_map(claimant).collect()
    }

    /// Whom of them core took.
    pub(super) fn taken(&self) -> Option<Person> {
        let taken = |(person, relation): &(Person, Relation)| {
            matches!(relation, Relation::Claimant { taken: true, .. }).then_some(*person)
        };
        self.people.iter().find_map(taken)
    }
}

/// The newest posts, each once.
#[derive(Debug)]
pub(super) struct Posts {
    pub(super) limit: usize,
    /// Where each post that was seen stands in the order; those beyond the limit are seen, and not shown.
    pub(super) seen: HashMap<(UserId, u16, u64), Place>,
    pub(super) shown: BTreeMap<Place, Shown>,
}

/// Newest first; at one time by author, and of one author the later number first.
pub(super) type Place = (Reverse<u64>, UserId, u16, Reverse<u64>);

/// A post to be shown.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) author: Person,
    pub(super) text: String,
    pub(super) via: Via,
}

impl Posts {
    /// None yet, of which so many are to be shown.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            seen: HashMap::new(),
            shown: BTreeMap::new(),
        }
    }

    /// Takes a post; when another one had to go, or the post itself, the length of the text that went.
    pub(super) fn add(
        &mut self,
        key: (UserId, u16, u64),
        author: Person,
        time_ms: u64,
        text: &str,
        via: Via,
    ) -> Option<usize> {
        if let Some(place) = self.seen.get(&key) {
            // The same post from elsewhere: only whether its author answered is news.
            if let Some(shown) = self.shown.get_mut(place)
                && matches!(shown.via, Via::Replica(_))
            {
                shown.via = via;
            }
            return Some(text.len());
        }
        let (user, log, seq) = key;
        let place = (Reverse(time_ms), user, log, Reverse(seq));
        self.seen.insert(key, place);
        let text = text.into();
        self.shown.insert(place, Shown { author, text, via });
        if self.shown.len() <= self.limit {
            return None;
        }
        self.shown.pop_last().map(|(_, dropped)| dropped.text.len())
    }

    /// The posts to be shown, newest first.
    pub(super) fn to_json(&self) -> Vec<Value> {
        let post = |(place, shown): (&Place, &Shown)| {
            let (Reverse(time_ms), _, _, Reverse(seq)) = place;
            json!({
                "author": shown.author.name.as_str(),
                "handle": handle(&shown.author),
                "seq": seq,
                "time": time_ms,
                "text": shown.text,
                "via": via(&shown.via),
            })
        };
        self.shown.iter().map(post).collect()
    }
}
