#![expect(clippy::unwrap_used, reason = "a test may panic")]

use strandline_core::addr::PackedAddr;
use strandline_core::id::UserId;
use strandline_core::name::Name;
use strandline_core::overlay::REPLICATION;

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
        listen: ([127, 0, 0, 1], 7827).into(),
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
        (&put, Outcome::Older { sequence: 9 }, Exit::Partial),
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
fn the_answer_to_a_message_is_text_or_digits() {
    let key = NamedKey::new("k");
    let send = Command::Send {
        key: key.clone(),
        text: "t".into(),
    };
    for (bytes, fields) in [
        (&b"yes"[..], r#""answer":"yes","answer_hex":"796573""#),
        (&[0xff][..], r#""answer":null,"answer_hex":"ff""#),
    ] {
        let answered = Event::Answer {
            query: QUERY,
            from: NodeId::from_bytes([1; 32]),
            bytes,
        };
        let answer = after(&send, &[answered], &[Outcome::Delivered { accepted: true }]);
        let body = format!(r#"{{"v":1,"key":"{}","accepted":true,{fields}}}"#, key.key);
        assert_eq!((answer.exit, answer.body.to_string()), (Exit::Ok, body));
    }
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
        (CommandError::LeftOut, Exit::Internal),
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

#[test]
fn whoever_is_not_followed_cannot_be_unfollowed_whether_or_not_there_is_somebody_to_ask() {
    let unfollow = Command::Unfollow {
        handle: Handle::parse("bob").unwrap(),
    };
    for alone in [false, true] {
        let gathered = Gathered::new(&unfollow);
        let answer = finished(&unfollow, &gathered, &[Outcome::NotFound], &me(), alone);
        assert_eq!(answer.exit, Exit::NotFound);
        assert!(answer.body.to_string().contains("you follow nobody"));
    }
}

#[test]
fn a_lookup_lists_this_node_where_it_is_one_of_the_nearest() {
    let contact = |first: u8| {
        let mut id = [0; 32];
        *id.first_mut().unwrap() = first;
        Event::Contact {
            query: QUERY,
            id: NodeId::from_bytes(id),
            addr: ([192, 0, 2, first], 1).into(),
            hops: 2,
        }
    };
    let found = [Outcome::Found {
        count: 9,
        complete: true,
    }];
    // At zero, distances are the ids themselves; this node's begins with 9.
    let lookup = |events: &[Event<'_>], trace| {
        let key = NamedKey::new(&"0".repeat(64));
        let answer = after(&Command::Lookup { key, trace }, events, &found);
        let nodes = answer.body.get("nodes").unwrap().as_array().unwrap();
        let own = |node: &Value| node.get("self") == Some(&json!(true));
        (nodes.len(), nodes.iter().position(own))
    };
    let near: Vec<Event<'_>> = (1..=8).map(contact).collect();
    assert_eq!(lookup(&near, false), (REPLICATION, None));
    assert_eq!(lookup(&near, true), (9, Some(8)));
    let some_near: Vec<Event<'_>> = [1, 2, 20, 21].map(contact).into();
    assert_eq!(lookup(&some_near, false), (5, Some(2)));
    assert_eq!(lookup(&[], false), (1, Some(0)));
}
