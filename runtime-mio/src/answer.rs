//! Answers to commands: makes the JSON that is the command line's contract of what a query has yielded ([`Gathered`]). Owns
//! the shape of every answer but `status`'s ([`crate::status`]), and which outcome is which exit code. Invariant: every
//! outcome has an answer.

mod gathered;

use std::cmp::Reverse;
use std::net::SocketAddr;

use serde_json::{Value, json};
use strandline_core::id::{Key, NodeId};
use strandline_core::name::{
    FINGERPRINT_CHARS_MAX, FINGERPRINT_CHARS_SHOWN, FINGERPRINT_CHARS_VERIFY, Fingerprint, Handle,
};
use strandline_core::output::{
    ChosenBy, CommandError, Event, Outcome, Person, QueryId, Relation, Unreached, Via,
};
use strandline_core::overlay::Overlay;
use strandline_core::plan::{Plan, Server};

use crate::command::Command;
use crate::failure::{Exit, Failure};
use crate::home::hex;
use gathered::{Contact, Place, Shown};

pub use gathered::{ANSWER_LEN_MAX, Gathered};

/// What a command line ends with.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// Its exit code.
    pub exit: Exit,
    /// What it prints with `--json`.
    pub body: Value,
}

impl Answer {
    /// An answer that is whole.
    #[must_use]
    pub fn ok(body: Value) -> Self {
        Self {
            exit: Exit::Ok,
            body,
        }
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        Self {
            exit: failure.exit,
            body: failure.to_json(),
        }
    }
}

/// The query that an event is about; `None` for what nobody asked for.
#[must_use]
pub fn query_of(event: &Event<'_>) -> Option<QueryId> {
    match event {
        Event::Contact { query, .. }
        | Event::Value { query, .. }
        | Event::Answer { query, .. }
        | Event::Post { query, .. }
        | Event::Missing { query, .. }
        | Event::Person { query, .. }
        | Event::Profile { query, .. }
        | Event::QueryDone { query, .. } => Some(*query),
        Event::Message(_)
        | Event::NeighbourUp { .. }
        | Event::NeighbourDown { .. }
        | Event::ResponsibilityChanged { .. }
        | Event::RangeChanged { .. }
        | Event::KeyGained { .. }
        | Event::KeyLost { .. }
        | Event::StorageFailed
        | Event::Forked
        | Event::Recovered { .. } => None,
    }
}

fn via(via: &Via) -> String {
    match via {
        Via::Own => "self".into(),
        Via::Author => "author".into(),
        Via::Replica(name) => format!("replica:{name}"),
    }
}

/// The handle of a person, as it is shown.
#[must_use]
pub fn handle(person: &Person) -> String {
    Handle::of(person.name, &person.user).to_string()
}

/// The handles of several people, with as much of the fingerprint as it takes to tell them apart.
fn telling_handles(people: &[Person]) -> Vec<String> {
    let at = |chars| -> Vec<String> {
        let one = |person: &Person| {
            let fingerprint = Some(Fingerprint::of(&person.user, chars));
            let name = person.name;
            Handle { name, fingerprint }.to_string()
        };
        people.iter().map(one).collect()
    };
    let telling = |handles: &Vec<String>| {
        let mut sorted = handles.clone();
        sorted.sort_unstable();
        sorted.dedup();
        sorted.len() == handles.len()
    };
    [FINGERPRINT_CHARS_SHOWN, FINGERPRINT_CHARS_VERIFY]
        .into_iter()
        .map(at)
        .find(telling)
        .unwrap_or_else(|| at(FINGERPRINT_CHARS_MAX))
}

/// Who the node is, for answers that need no query.
#[derive(Clone, Copy, Debug)]
pub struct Myself {
    /// The user.
    pub person: Person,
    /// The node.
    pub node: NodeId,
    /// Where it listens.
    pub listen: SocketAddr,
}

impl Myself {
    /// The answer to `whoami`.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let Person { user, name } = self.person;
        Answer::ok(json!({
            "v": 1,
            "name": name.as_str(),
            "handle": handle(&self.person),
            "id": user.to_string(),
            "fingerprint": Fingerprint::of(&user, FINGERPRINT_CHARS_VERIFY).as_str(),
            "node": self.node.to_string(),
        }))
    }
}

/// What a command does, as in "cannot …".
#[must_use]
pub fn deed(command: &Command) -> String {
    match command {
        Command::Post { .. } => "post".into(),
        Command::Follow { handle } => format!("follow {handle}"),
        Command::Unfollow { handle } => format!("unfollow {handle}"),
        Command::Timeline { handle: None, .. } => "read the timeline".into(),
        Command::Timeline {
            handle: Some(handle),
            ..
        } => format!("read the timeline of {handle}"),
        Command::Following { handle: None } => "list whom you follow".into(),
        Command::Following {
            handle: Some(handle),
        } => format!("list whom {handle} follows"),
        Command::Followers { handle: None } => "list your followers".into(),
        Command::Followers {
            handle: Some(handle),
        } => format!("list the followers of {handle}"),
        Command::Whois { handle } => format!("look up {handle}"),
        Command::Whoami => "say who you are".into(),
        Command::Status => "say how the node is".into(),
        Command::Peers => "list the peers".into(),
        Command::Lookup { key, .. } => format!("look up the key {}", key.text),
        Command::Put { key, .. } => format!("store a value at {}", key.text),
        Command::Get { key } => format!("read the values at {}", key.text),
        Command::Send { key, .. } => format!("send to {}", key.text),
        Command::Export => "export".into(),
        Command::Stop => "stop".into(),
    }
}

/// The failure of a command that core did not even begin.
#[must_use]
pub fn refused(command: &Command, error: CommandError) -> Failure {
    let again = "Try again in a moment.";
    let (exit, why, next) = match error {
        CommandError::NotStarted => (Exit::Internal, "the node is not running", ""),
        CommandError::Busy => (Exit::Full, "too many commands are running", again),
        CommandError::TextEmpty => (Exit::Usage, "the text is empty", ""),
        CommandError::TextTooLong => (Exit::Usage, "the text is too long", "Make it shorter."),
        CommandError::ValueTooLong => (Exit::Usage, "it is too long", "Make it shorter."),
        CommandError::Myself => (Exit::Usage, "that is you", ""),
        CommandError::Full => (Exit::Full, "the table for it is full", ""),
        CommandError::StorageFailed => (
            Exit::Full,
            "the storage failed; nothing more is written until the node was restarted",
            "Make room on the disk, and start the node again.",
        ),
        CommandError::LeftOut => (Exit::Internal, "this node does not do that", ""),
        CommandError::Recovering => (
            Exit::Partial,
            "the storage was lost, and the network has not yet told enough to go on",
            "See that the node has peers (strandline status), and try again.",
        ),
    };
    Failure::new(exit, format!("cannot {}", deed(command)), why, next)
}

/// The answer to a command that came to its end. `outcomes` are those of its queries; [`Outcome::TimedOut`] stands in for
/// those that have not ended in time. `alone`: the node knows nobody.
#[must_use]
pub fn finished(
    command: &Command,
    gathered: &Gathered,
    outcomes: &[Outcome],
    me: &Myself,
    alone: bool,
) -> Answer {
    let fail = |exit, why: &str, next: &str| {
        Failure::new(exit, format!("cannot {}", deed(command)), why, next)
    };
    if gathered.overflowed {
        let next = "Ask for less of it (--limit N).";
        return fail(Exit::Full, "the answer is longer than 64 MiB", next).into();
    }
    // Of several outcomes the first that is not a success decides.
    let outcome = outcomes
        .iter()
        .copied()
        .find(|outcome| !is_success(outcome));
    let outcome = outcome
        .or(outcomes.first().copied())
        .unwrap_or(Outcome::TimedOut);
    match outcome {
        Outcome::NotFound => not_found(command, alone).into(),
        Outcome::Ambiguous => {
            let handles = telling_handles(&gathered.claimants());
            let why = format!("{} people go by that name", handles.len());
            let mut failure = fail(Exit::Ambiguous, &why, "Say which one, by the handle:");
            failure.handles = handles;
            failure.into()
        }
        Outcome::TimedOut => match reading(command, gathered, false, me) {
            Some(answer) => answer,
            None => {
                let next = "Try again, or give it more time (--timeout SECS).";
                fail(Exit::Partial, "it took too long", next).into()
            }
        },
        Outcome::StorageFailed => refused(command, CommandError::StorageFailed).into(),
        Outcome::Full => fail(Exit::Full, "its place in the network is full", "").into(),
        Outcome::Older { .. } => fail(
            Exit::Partial,
            "somebody with your key has stored a newer one",
            "Try again to replace it.",
        )
        .into(),
        Outcome::Posted { seq, time_ms } => {
            Answer::ok(json!({ "v": 1, "seq": seq, "time": time_ms }))
        }
        Outcome::Followed {
            person,
            delivered,
            accepted,
            wanted,
        } => followed(command, &person, delivered, accepted >= wanted),
        Outcome::Stored { accepted, wanted } => stored(command, accepted, wanted),
        Outcome::Delivered { accepted } => sent(command, accepted, gathered),
        Outcome::Read { complete } | Outcome::Found { complete, .. } => {
            let unexpected = || fail(Exit::Internal, "the node gave an odd answer", "").into();
            reading(command, gathered, complete, me).unwrap_or_else(unexpected)
        }
        Outcome::Joined { .. } | Outcome::Left => {
            fail(Exit::Internal, "the node gave an odd answer", "").into()
        }
    }
}

/// The failure of a command that found nothing, in the words of what was sought.
fn not_found(command: &Command, alone: bool) -> Failure {
    let (why, next) = match command {
        // Of whom one follows the node itself knows best: nobody was asked.
        Command::Unfollow { .. } => (
            "you follow nobody of that name",
            "See whom you follow: strandline following",
        ),
        _ if alone => (
            "there is nobody to ask: the node knows no other",
            "Join a network: strandline up --join HOST:PORT",
        ),
        Command::Get { .. } => (
            "no value was found there",
            "Check the key, or ask again: it may not have spread yet.",
        ),
        Command::Follow { .. }
        | Command::Timeline { .. }
        | Command::Following { .. }
        | Command::Followers { .. }
        | Command::Whois { .. } => (
            "nobody of that name was found",
            "Check the spelling, or ask again: it may not have spread yet.",
        ),
        Command::Post { .. }
        | Command::Whoami
        | Command::Status
        | Command::Peers
        | Command::Lookup { .. }
        | Command::Put { .. }
        | Command::Send { .. }
        | Command::Export
        | Command::Stop => ("nothing was found", "Try again in a moment."),
    };
    Failure::new(
        Exit::NotFound,
        format!("cannot {}", deed(command)),
        why,
        next,
    )
}

fn is_success(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Joined { .. }
        | Outcome::Left
        | Outcome::Posted { .. }
        | Outcome::Followed { .. }
        | Outcome::Stored { .. }
        | Outcome::Delivered { .. }
        | Outcome::Read { complete: true }
        | Outcome::Found { complete: true, .. } => true,
        Outcome::Read { complete: false }
        | Outcome::Found {
            complete: false, ..
        }
        | Outcome::Older { .. }
        | Outcome::Full
        | Outcome::NotFound
        | Outcome::Ambiguous
        | Outcome::TimedOut
        | Outcome::StorageFailed => false,
    }
}

fn partly(complete: bool, body: Value) -> Answer {
    let exit = if complete { Exit::Ok } else { Exit::Partial };
    Answer { exit, body }
}

fn followed(command: &Command, person: &Person, delivered: bool, stored: bool) -> Answer {
    let mut body = json!({ "v": 1, "handle": handle(person) });
    if let (Command::Follow { .. }, Some(fields)) = (command, body.as_object_mut()) {
        fields.insert("delivered".into(), delivered.into());
    }
    partly(stored, body)
}

fn stored(command: &Command, accepted: u8, wanted: u8) -> Answer {
    let mut body = json!({ "v": 1 });
    if let (Command::Put { key, .. }, Some(fields)) = (command, body.as_object_mut()) {
        fields.insert("key".into(), key.key.to_string().into());
        fields.insert("accepted".into(), accepted.into());
        fields.insert("wanted".into(), wanted.into());
    }
    partly(accepted >= wanted, body)
}

fn sent(command: &Command, accepted: bool, gathered: &Gathered) -> Answer {
    let mut body = json!({ "v": 1 });
    if let (Command::Send { key, .. }, Some(fields)) = (command, body.as_object_mut()) {
        fields.insert("key".into(), key.key.to_string().into());
        fields.insert("accepted".into(), accepted.into());
        if let Some(answer) = &gathered.answer {
            fields.insert("answer".into(), std::str::from_utf8(answer).ok().into());
            fields.insert("answer_hex".into(), hex(answer).into());
        }
    }
    Answer::ok(body)
}

/// The answer of a command that reads, also of one that got only part of what it wanted. `None` for other commands, and
/// where a part is of no use.
fn reading(command: &Command, gathered: &Gathered, complete: bool, me: &Myself) -> Option<Answer> {
    match command {
        Command::Timeline { handle, .. } => Some(timeline(gathered, complete, handle.is_some())),
        Command::Following { handle } => {
            let followed = |relation: &Relation| *relation == Relation::Followed;
            Some(people(gathered, complete, handle.is_some(), followed))
        }
        Command::Followers { handle } => {
            let follower = |relation: &Relation| *relation == Relation::Follower;
            Some(people(gathered, complete, handle.is_some(), follower))
        }
        Command::Whois { .. } => whois(gathered),
        Command::Lookup { key, trace } => {
            let nodes = nearest(&key.key, gathered, me, *trace);
            let body = json!({
                "v": 1, "key": key.key.to_string(), "complete": complete, "nodes": nodes,
            });
            Some(partly(complete, body))
        }
        Command::Get { key } => (complete || !gathered.values.is_empty()).then(|| {
            let body = json!({
                "v": 1, "key": key.key.to_string(), "complete": complete, "values": gathered.values,
            });
            partly(complete, body)
        }),
        Command::Export => Some(export(gathered, complete, me)),
        Command::Post { .. }
        | Command::Follow { .. }
        | Command::Unfollow { .. }
        | Command::Whoami
        | Command::Status
        | Command::Peers
        | Command::Put { .. }
        | Command::Send { .. }
        | Command::Stop => None,
    }
}

/// The nodes at which the records of a key lie, nearest first: this one, which core leaves out, is among them where it is one
/// of the nearest. With `trace` all that were found.
fn nearest(key: &Key, gathered: &Gathered, me: &Myself, trace: bool) -> Vec<Value> {
    let myself = Contact {
        id: me.node,
        addr: me.listen,
        hops: 0,
    };
    let mut nodes = gathered.contacts.clone();
    nodes.push(myself);
    type Contacts = <Server as Plan>::Overlay;
    nodes.sort_by_key(|node| Contacts::distance(key, &node.id));
    if !trace {
        nodes.truncate(Contacts::replication());
    }
    let node = |node: &Contact| {
        json!({
            "id": node.id.to_string(), "addr": node.addr.to_string(), "hops": node.hops,
            "self": node.id == me.node,
        })
    };
    nodes.iter().map(node).collect()
}

/// Adds whom the answer is about and who else goes by the name.
fn add_choice(body: &mut Value, gathered: &Gathered) {
    let (Some(taken), Some(fields)) = (gathered.taken(), body.as_object_mut()) else {
        return;
    };
    fields.insert("handle".into(), handle(&taken).into());
    fields.insert("others".into(), others(gathered, &taken).into());
}

fn others(gathered: &Gathered, taken: &Person) -> Vec<String> {
    let claimants = gathered.claimants();
    let handles = telling_handles(&claimants);
    let other = |(person, handle): (Person, String)| (person.user != taken.user).then_some(handle);
    claimants
        .into_iter()
        .zip(handles)
        .filter_map(other)
        .collect()
}

fn timeline(gathered: &Gathered, complete: bool, of_one: bool) -> Answer {
    let missing = |(person, reason): &(Person, Unreached)| json!({ "handle": handle(person), "reason": reason.name() });
    let missing: Vec<Value> = gathered.missing.iter().map(missing).collect();
    let complete = complete && missing.is_empty();
    let mut body = json!({
        "v": 1, "complete": complete, "posts": gathered.posts.to_json(), "missing": missing,
    });
    if of_one {
        add_choice(&mut body, gathered);
    }
    partly(complete, body)
}

fn people(
    gathered: &Gathered,
    complete: bool,
    of_one: bool,
    wanted: impl Fn(&Relation) -> bool,
) -> Answer {
    let wanted = |(person, relation): &(Person, Relation)| wanted(relation).then_some(*person);
    let mut people: Vec<Person> = gathered.people.iter().filter_map(wanted).collect();
    people.sort_unstable_by_key(|person| (person.name, person.user));
    people.dedup_by_key(|person| person.user);
    let handles: Vec<String> = people.iter().map(handle).collect();
    let mut body = json!({ "v": 1, "handles": handles, "complete": complete });
    if of_one {
        add_choice(&mut body, gathered);
    }
    partly(complete, body)
}

fn whois(gathered: &Gathered) -> Option<Answer> {
    let profile = gathered.profile.as_ref();
    let person = profile.map(|profile| profile.person).or(gathered.taken())?;
    let holder = |(person, relation): &(Person, Relation)| {
        matches!(relation, Relation::Holder { .. }).then(|| handle(person))
    };
    let holders: Vec<String> = gathered.people.iter().filter_map(holder).collect();
    let others = others(gathered, &person);
    let chosen_by = match profile.map(|profile| profile.chosen_by) {
        Some(ChosenBy::Pin) => "pin",
        Some(ChosenBy::Only) => "only",
        Some(ChosenBy::FirstSeen) => "first-seen",
        None if others.is_empty() => "only",
        None => "first-seen",
    };
    let addr = profile.and_then(|profile| profile.addr.to_socket_addr());
    Some(Answer::ok(json!({
        "v": 1,
        "name": person.name.as_str(),
        "handle": handle(&person),
        "id": person.user.to_string(),
        "addr": addr.map(|addr| addr.to_string()),
        "online": profile.is_some_and(|profile| profile.online),
        "seq": profile.map_or(0, |profile| profile.last),
        "followers": profile.map_or(0, |profile| profile.followers),
        "holders": holders,
        "others": others,
        "chosen_by": chosen_by,
    })))
}

fn export(gathered: &Gathered, complete: bool, me: &Myself) -> Answer {
    let mine = |(place, shown): (&Place, &Shown)| {
        let (Reverse(time_ms), author, _, Reverse(seq)) = place;
        (*author == me.person.user)
            .then(|| json!({ "seq": seq, "time": time_ms, "text": shown.text }))
    };
    let mut posts: Vec<Value> = gathered.posts.shown.iter().filter_map(mine).collect();
    posts.sort_by_key(|post| post.get("seq").and_then(Value::as_u64));
    let followed = |(person, relation): &(Person, Relation)| {
        (*relation == Relation::Followed).then(|| handle(person))
    };
    let following: Vec<String> = gathered.people.iter().filter_map(followed).collect();
    let body = json!({
        "v": 1,
        "name": me.person.name.as_str(),
        "handle": handle(&me.person),
        "id": me.person.user.to_string(),
        "complete": complete,
        "posts": posts,
        "following": following,
    });
    partly(complete, body)
}

#[cfg(test)]
mod tests;
