//! Answers to commands: gathers what a query yields until it ends, and makes of it the JSON that is the command line's
//! contract. Owns the shape of every answer but `status`'s ([`crate::status`]), the order of posts, and which outcome is
//! which exit code. Invariant: what one answer gathers is bounded by [`ANSWER_LEN_MAX`], however much a query yields.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use strandline_core::addr::PackedAddr;
use strandline_core::id::{NodeId, UserId};
use strandline_core::name::{
    FINGERPRINT_CHARS_MAX, FINGERPRINT_CHARS_SHOWN, FINGERPRINT_CHARS_VERIFY, Fingerprint, Handle,
};
use strandline_core::output::{
    ChosenBy, CommandError, Event, Outcome, Person, QueryId, Relation, Unreached, Via,
};

use crate::command::Command;
use crate::failure::{Exit, Failure};
use crate::home::hex;

/// Most bytes that one answer gathers.
pub const ANSWER_LEN_MAX: usize = 64 * 1024 * 1024;
/// What an item costs besides its text, in bytes.
const ITEM_LEN: usize = 256;

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
        | Event::Post { query, .. }
        | Event::Missing { query, .. }
        | Event::Person { query, .. }
        | Event::Profile { query, .. }
        | Event::QueryDone { query, .. } => Some(*query),
        Event::Message { .. }
        | Event::NeighbourUp { .. }
        | Event::NeighbourDown { .. }
        | Event::ResponsibilityChanged { .. }
        | Event::KeyGained { .. }
        | Event::KeyLost { .. }
        | Event::StorageFailed
        | Event::Forked
        | Event::Recovered { .. } => None,
    }
}

/// What a query has yielded so far.
#[derive(Debug)]
pub struct Gathered {
    posts: Posts,
    missing: Vec<(Person, Unreached)>,
    people: Vec<(Person, Relation)>,
    profile: Option<Profile>,
    contacts: Vec<Value>,
    values: Vec<Value>,
    len: usize,
    overflowed: bool,
}

#[derive(Debug)]
struct Profile {
    person: Person,
    chosen_by: ChosenBy,
    addr: PackedAddr,
    online: bool,
    last: u64,
    followers: u32,
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
            len: 0,
            overflowed: false,
        }
    }

    /// Takes what an event tells; its query is the caller's to check.
    pub fn on_event(&mut self, event: &Event<'_>) {
        let text_len = if let Event::Post { text, .. } = event {
            text.len()
        } else if let Event::Value { bytes, .. } = event {
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
            Event::Contact { id, addr, hops, .. } => {
                self.contacts.push(json!({
                    "id": id.to_string(), "addr": addr.to_string(), "hops": hops,
                }));
            }
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
            Event::QueryDone { .. }
            | Event::Message { .. }
            | Event::NeighbourUp { .. }
            | Event::NeighbourDown { .. }
            | Event::ResponsibilityChanged { .. }
            | Event::KeyGained { .. }
            | Event::KeyLost { .. }
            | Event::StorageFailed
            | Event::Forked
            | Event::Recovered { .. } => return,
        }
        self.len = len;
    }

    fn claimants(&self) -> Vec<Person> {
        let claimant = |(person, relation): &(Person, Relation)| {
            matches!(relation, Relation::Claimant { .. }).then_some(*person)
        };
        self.people.iter().filter_map(claimant).collect()
    }

    fn taken(&self) -> Option<Person> {
        let taken = |(person, relation): &(Person, Relation)| {
            matches!(relation, Relation::Claimant { taken: true, .. }).then_some(*person)
        };
        self.people.iter().find_map(taken)
    }
}

/// The newest posts, each once.
#[derive(Debug)]
struct Posts {
    limit: usize,
    /// Where each post that was seen stands in the order; those beyond the limit are seen, and not shown.
    seen: HashMap<(UserId, u16, u64), Place>,
    shown: BTreeMap<Place, Shown>,
}

/// Newest first; at one time by author, and of one author the later number first.
type Place = (Reverse<u64>, UserId, u16, Reverse<u64>);

#[derive(Debug)]
struct Shown {
    author: Person,
    text: String,
    via: Via,
}

impl Posts {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            seen: HashMap::new(),
            shown: BTreeMap::new(),
        }
    }

    /// Takes a post; when another one had to go, or the post itself, the length of the text that went.
    fn add(
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

    fn to_json(&self) -> Vec<Value> {
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
        Outcome::NotFound if alone => fail(
            Exit::NotFound,
            "there is nobody to ask: the node knows no other",
            "Join a network: strandline up --join HOST:PORT",
        )
        .into(),
        Outcome::NotFound => fail(
            Exit::NotFound,
            "nothing of the kind was found",
            "Check the spelling, or ask again: it may not have spread yet.",
        )
        .into(),
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
        Outcome::Older => fail(
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
        Outcome::Delivered { accepted } => sent(command, accepted),
        Outcome::Read { complete } | Outcome::Found { complete, .. } => {
            let unexpected = || fail(Exit::Internal, "the node gave an odd answer", "").into();
            reading(command, gathered, complete, me).unwrap_or_else(unexpected)
        }
        Outcome::Joined { .. } | Outcome::Left => {
            fail(Exit::Internal, "the node gave an odd answer", "").into()
        }
    }
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
        | Outcome::Older
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

fn sent(command: &Command, accepted: bool) -> Answer {
    let mut body = json!({ "v": 1 });
    if let (Command::Send { key, .. }, Some(fields)) = (command, body.as_object_mut()) {
        fields.insert("key".into(), key.key.to_string().into());
        fields.insert("accepted".into(), accepted.into());
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
        Command::Lookup { key, .. } => {
            let body = json!({
                "v": 1, "key": key.key.to_string(), "complete": complete, "nodes": gathered.contacts,
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
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use strandline_core::name::Name;

    use super::*;
    use crate::command::NamedKey;

    const QUERY: QueryId = QueryId(1);

    fn person(name: &str, id: u8) -> Person {
        Person {
            user: UserId::from_bytes([id; 32]),
            name: Name::parse(name).unwrap(),
        }
    }

    fn me() -> Myself {
        Myself {
            person: person("me", 1),
            node: NodeId::from_bytes([9; 32]),
        }
    }

    fn timeline_of(handle: Option<&str>, limit: usize) -> Command {
        let handle = handle.map(|handle| Handle::parse(handle).unwrap());
        Command::Timeline { handle, limit }
    }

    fn post(author: Person, seq: u64, time_ms: u64, text: &str, via: Via) -> Event<'_> {
        Event::Post {
            query: QUERY,
            author,
            log: 0,
            seq,
            time_ms,
            text,
            via,
        }
    }

    fn claim(person: Person, taken: bool) -> Event<'static> {
        let held_ms = 7;
        Event::Person {
            query: QUERY,
            person,
            relation: Relation::Claimant { held_ms, taken },
        }
    }

    fn related(person: Person, relation: Relation) -> Event<'static> {
        Event::Person {
            query: QUERY,
            person,
            relation,
        }
    }

    /// The answer after these events and outcomes.
    fn after(command: &Command, events: &[Event<'_>], outcomes: &[Outcome]) -> Answer {
        let mut gathered = Gathered::new(command);
        for event in events {
            gathered.on_event(event);
        }
        finished(command, &gathered, outcomes, &me(), false)
    }

    fn texts(answer: &Answer) -> Vec<String> {
        let posts = answer.body.get("posts").and_then(Value::as_array).unwrap();
        let text = |post: &Value| post.get("text").unwrap().as_str().unwrap().to_string();
        posts.iter().map(text).collect()
    }

    const READ: [Outcome; 1] = [Outcome::Read { complete: true }];

    #[test]
    fn a_timeline_is_newest_first_each_post_once_with_its_source() {
        let (ann, bob, carl) = (person("ann", 2), person("bob", 3), person("carl", 4));
        let events = [
            post(bob, 2, 50, "b2", Via::Author),
            post(bob, 1, 40, "b1", Via::Author),
            post(ann, 7, 45, "a7", Via::Replica(carl.name)),
            post(me().person, 1, 50, "m1", Via::Own),
            post(bob, 2, 50, "b2", Via::Replica(carl.name)),
            post(bob, 3, 50, "b3", Via::Author),
        ];
        let answer = after(&timeline_of(None, 50), &events, &READ);
        assert_eq!(texts(&answer), ["m1", "b3", "b2", "a7", "b1"]);
        let one = &answer.body.pointer("/posts/3").unwrap();
        assert_eq!(
            one.to_string(),
            r#"{"author":"ann","handle":"ann~081040g2","seq":7,"time":45,"text":"a7","via":"replica:carl"}"#
        );
        let via = |at: usize| {
            let via = answer.body.pointer(&format!("/posts/{at}/via"));
            via.unwrap().as_str().unwrap().to_string()
        };
        assert_eq!((via(0), via(2)), ("self".into(), "author".into()));
        assert_eq!(answer.exit, Exit::Ok);
    }

    #[test]
    fn a_post_that_its_author_serves_later_is_no_longer_a_copy() {
        let ann = person("ann", 2);
        let copy = post(ann, 1, 5, "a", Via::Replica(ann.name));
        let from_author = post(ann, 1, 5, "a", Via::Author);
        for events in [[copy, from_author], [from_author, copy]] {
            let answer = after(&timeline_of(None, 50), &events, &READ);
            assert_eq!(texts(&answer), ["a"]);
            assert_eq!(answer.body.pointer("/posts/0/via").unwrap(), "author");
        }
    }

    #[test]
    fn the_limit_keeps_the_newest_in_whatever_order_they_come() {
        let ann = person("ann", 2);
        let at = |seq| post(ann, seq, seq * 10, "x", Via::Author);
        let orders = [[1, 2, 3, 4, 2], [4, 3, 2, 1, 4], [2, 4, 1, 3, 1]];
        for order in orders {
            let answer = after(&timeline_of(None, 2), &order.map(at), &READ);
            let seqs = |at: &str| answer.body.pointer(at).and_then(Value::as_u64);
            assert_eq!(
                (
                    seqs("/posts/0/seq"),
                    seqs("/posts/1/seq"),
                    seqs("/posts/2/seq")
                ),
                (Some(4), Some(3), None)
            );
            assert_eq!(answer.exit, Exit::Ok, "the limit makes nothing incomplete");
        }
        let none = after(&timeline_of(None, 0), &[at(1)], &READ);
        assert_eq!(texts(&none).len(), 0);
    }

    #[test]
    fn whoever_is_missing_makes_a_read_partial() {
        let missing = Event::Missing {
            query: QUERY,
            author: person("ann", 2),
            reason: Unreached::NoConnection,
        };
        let answer = after(&timeline_of(None, 50), &[missing], &READ);
        assert_eq!(answer.exit, Exit::Partial);
        assert_eq!(
            answer.body.to_string(),
            r#"{"v":1,"complete":false,"posts":[],"missing":[{"handle":"ann~081040g2","reason":"no-connection"}]}"#
        );
        let late = after(&timeline_of(None, 50), &[], &[Outcome::TimedOut]);
        assert_eq!(late.exit, Exit::Partial);
    }

    #[test]
    fn an_ambiguous_name_is_refused_with_handles_that_tell_people_apart() {
        let follow = Command::Follow {
            handle: Handle::parse("bob").unwrap(),
        };
        let mut twin = [3; 32];
        *twin.last_mut().unwrap() = 4;
        let twin = Person {
            user: UserId::from_bytes(twin),
            ..person("bob", 3)
        };
        let events = [claim(person("bob", 3), true), claim(twin, false)];
        let answer = after(&follow, &events, &[Outcome::Ambiguous]);
        assert_eq!(answer.exit, Exit::Ambiguous);
        let handles = answer.body.pointer("/error/handles").unwrap();
        let handles: Vec<&str> = handles
            .as_array()
            .unwrap()
            .iter()
            .flat_map(Value::as_str)
            .collect();
        let [one, other] = handles.try_into().unwrap();
        assert_ne!(one, other);
        for (handle, user) in [(one, person("bob", 3).user), (other, twin.user)] {
            let fingerprint = Handle::parse(handle).unwrap().fingerprint.unwrap();
            assert!(fingerprint.matches(&user));
        }
    }

    #[test]
    fn a_read_of_an_ambiguous_name_says_whom_it_took() {
        let (old, new) = (person("bob", 3), person("bob", 4));
        let events = [claim(old, true), claim(new, false)];
        let answer = after(&timeline_of(Some("bob"), 50), &events, &READ);
        assert_eq!(answer.body.get("handle").unwrap(), &handle(&old));
        assert_eq!(answer.body.get("others").unwrap(), &json!([handle(&new)]));
    }

    #[test]
    fn whois_shows_profile_holders_and_others() {
        let (bob, other, holder) = (person("bob", 3), person("bob", 4), person("carl", 5));
        let profile = Event::Profile {
            query: QUERY,
            person: bob,
            chosen_by: ChosenBy::FirstSeen,
            addr: PackedAddr::from("127.0.0.1:7827".parse::<std::net::SocketAddr>().unwrap()),
            online: true,
            last: 12,
            followers: 3,
        };
        let holds = related(holder, Relation::Holder { remaining_ms: 9 });
        let events = [claim(bob, true), claim(other, false), holds, profile];
        let found = [Outcome::Found {
            count: 1,
            complete: true,
        }];
        let whois = Command::Whois {
            handle: Handle::parse("bob").unwrap(),
        };
        let answer = after(&whois, &events, &found);
        assert_eq!(answer.exit, Exit::Ok);
        assert_eq!(
            answer.body.to_string(),
            format!(
                r#"{{"v":1,"name":"bob","handle":"{}","id":"{}","addr":"127.0.0.1:7827","online":true,"seq":12,"followers":3,"holders":["{}"],"others":["{}"],"chosen_by":"first-seen"}}"#,
                handle(&bob),
                bob.user,
                handle(&holder),
                handle(&other)
            )
        );
        let without = after(&whois, &[claim(bob, true)], &found);
        assert_eq!(without.body.get("addr").unwrap(), &Value::Null);
        assert_eq!(without.body.get("chosen_by").unwrap(), "only");
    }

    #[test]
    fn lists_hold_each_person_once_in_order() {
        let (ann, bob) = (person("ann", 2), person("bob", 3));
        let events = [
            related(bob, Relation::Follower),
            related(ann, Relation::Follower),
            related(bob, Relation::Follower),
            related(ann, Relation::Followed),
        ];
        let followers = Command::Followers { handle: None };
        for (complete, exit) in [(true, Exit::Ok), (false, Exit::Partial)] {
            let found = [Outcome::Found { count: 2, complete }];
            let answer = after(&followers, &events, &found);
            let handles = json!([handle(&ann), handle(&bob)]);
            assert_eq!(answer.body.get("handles").unwrap(), &handles);
            assert_eq!(answer.exit, exit);
        }
    }

    #[test]
    fn an_export_has_own_posts_oldest_first_and_whom_one_follows() {
        let ann = person("ann", 2);
        let own = |seq| post(me().person, seq, seq * 10, "mine", Via::Own);
        let events = [
            own(2),
            own(1),
            post(ann, 1, 1, "hers", Via::Author),
            related(ann, Relation::Followed),
        ];
        let outcomes = [
            Outcome::Found {
                count: 1,
                complete: true,
            },
            Outcome::Read { complete: true },
        ];
        let answer = after(&Command::Export, &events, &outcomes);
        assert_eq!(answer.exit, Exit::Ok);
        let posts = r#"[{"seq":1,"time":10,"text":"mine"},{"seq":2,"time":20,"text":"mine"}]"#;
        assert_eq!(answer.body.get("posts").unwrap().to_string(), posts);
        let following = json!([handle(&ann)]);
        assert_eq!(answer.body.get("following").unwrap(), &following);
        let half = after(&Command::Export, &events, &[outcomes[1], Outcome::TimedOut]);
        assert_eq!(half.exit, Exit::Partial);
    }

    #[test]
    fn values_are_text_where_they_are_and_digits_always() {
        let get = Command::Get {
            key: NamedKey::new("k"),
        };
        let value = |bytes| Event::Value {
            query: QUERY,
            author: me().person.user,
            sequence: 3,
            bytes,
        };
        let found = [Outcome::Found {
            count: 2,
            complete: true,
        }];
        let answer = after(&get, &[value(b"hi"), value(&[0xff])], &found);
        let at = |path: &str| answer.body.pointer(path).unwrap().clone();
        assert_eq!(at("/values/0/value"), "hi");
        assert_eq!(at("/values/0/hex"), "6869");
        assert_eq!(at("/values/1/value"), Value::Null);
        assert_eq!(at("/values/1/hex"), "ff");
        assert_eq!(at("/values/1/seq"), 3);
    }

    #[test]
    fn every_outcome_has_the_exit_code_of_the_contract() {
        let bob = Handle::parse("bob").unwrap();
        let key = NamedKey::new("k");
        let follow = Command::Follow { handle: bob };
        let unfollow = Command::Unfollow { handle: bob };
        let put = Command::Put {
            key: key.clone(),
            value: "v".into(),
            ttl_s: 1,
        };
        let send = Command::Send {
            key: key.clone(),
            text: "t".into(),
        };
        let text = || Command::Post { text: "t".into() };
        let followed = |accepted| Outcome::Followed {
            person: person("bob", 3),
            delivered: true,
            accepted,
            wanted: 5,
        };
        let stored = |accepted| Outcome::Stored {
            accepted,
            wanted: 5,
        };
        let posted = Outcome::Posted { seq: 4, time_ms: 9 };
        let handle = handle(&person("bob", 3));
        for (command, outcome, exit, body) in [
            (
                &text(),
                posted,
                Exit::Ok,
                r#"{"v":1,"seq":4,"time":9}"#.to_string(),
            ),
            (
                &follow,
                followed(5),
                Exit::Ok,
                format!(r#"{{"v":1,"handle":"{handle}","delivered":true}}"#),
            ),
            (
                &unfollow,
                followed(4),
                Exit::Partial,
                format!(r#"{{"v":1,"handle":"{handle}"}}"#),
            ),
            (
                &put,
                stored(5),
                Exit::Ok,
                format!(r#"{{"v":1,"key":"{}","accepted":5,"wanted":5}}"#, key.key),
            ),
            (
                &send,
                Outcome::Delivered { accepted: false },
                Exit::Ok,
                format!(r#"{{"v":1,"key":"{}","accepted":false}}"#, key.key),
            ),
        ] {
            let answer = after(command, &[], &[outcome]);
            assert_eq!((answer.exit, answer.body.to_string()), (exit, body));
        }
        for (command, outcome, exit) in [
            (&put, stored(4), Exit::Partial),
            (&put, Outcome::Older, Exit::Partial),
            (&put, Outcome::Full, Exit::Full),
            (&text(), Outcome::StorageFailed, Exit::Full),
            (&follow, Outcome::NotFound, Exit::NotFound),
            (&follow, Outcome::TimedOut, Exit::Partial),
            (&follow, Outcome::Left, Exit::Internal),
        ] {
            assert_eq!(after(command, &[], &[outcome]).exit, exit, "{outcome:?}");
        }
        assert_eq!(after(&follow, &[], &[]).exit, Exit::Partial);
    }

    #[test]
    fn nobody_to_ask_is_said_to_be_so() {
        let follow = Command::Follow {
            handle: Handle::parse("bob").unwrap(),
        };
        let gathered = Gathered::new(&follow);
        let answer = finished(&follow, &gathered, &[Outcome::NotFound], &me(), true);
        assert_eq!(answer.exit, Exit::NotFound);
        assert!(answer.body.to_string().contains("nobody to ask"));
    }

    #[test]
    fn a_refusal_has_the_exit_code_of_its_reason() {
        let post = Command::Post { text: "x".into() };
        for (error, exit) in [
            (CommandError::NotStarted, Exit::Internal),
            (CommandError::Busy, Exit::Full),
            (CommandError::TextEmpty, Exit::Usage),
            (CommandError::TextTooLong, Exit::Usage),
            (CommandError::ValueTooLong, Exit::Usage),
            (CommandError::Myself, Exit::Usage),
            (CommandError::Full, Exit::Full),
            (CommandError::StorageFailed, Exit::Full),
            (CommandError::Recovering, Exit::Partial),
        ] {
            assert_eq!(refused(&post, error).exit, exit, "{error:?}");
        }
    }

    #[test]
    fn an_answer_without_end_is_given_up() {
        let command = timeline_of(None, usize::MAX);
        let mut gathered = Gathered::new(&command);
        let text = "x".repeat(512);
        for seq in 0..100_000 {
            gathered.on_event(&post(me().person, seq, seq, &text, Via::Own));
        }
        assert!(gathered.len <= ANSWER_LEN_MAX);
        let answer = finished(&command, &gathered, &READ, &me(), false);
        assert_eq!(answer.exit, Exit::Full);
        // With a limit, the same read fits.
        let command = timeline_of(None, 10);
        let mut gathered = Gathered::new(&command);
        for seq in 0..100_000 {
            gathered.on_event(&post(me().person, seq, seq, &text, Via::Own));
        }
        assert_eq!(
            finished(&command, &gathered, &READ, &me(), false).exit,
            Exit::Ok
        );
    }
}
