//! Commands against a DHT that is a list of records.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

extern crate alloc;

use alloc::vec::Vec;

use super::*;
use crate::addr::PackedAddr;
use crate::id::NodeId;
use crate::name::Fingerprint;
use crate::output::{Event, Person, Relation};
use crate::plan::Server;
use crate::timeline::testing::{self, Disk, Tested, at, name, publish, user};
use crate::wire::RECORD_LEN_MAX;
use crate::wire::record::Record;

/// A user's parts, and the records that everybody sees.
struct Rig {
    state: Tested,
    names: Names<Server>,
    publish: Publish<Server>,
    queries: Queries<Server>,
    disk: Disk,
    /// Each record with the age that a holder gives it.
    held: Vec<(Vec<u8>, u64)>,
    /// What a put answers.
    accepted: u8,
}

impl Rig {
    fn new(n: u8) -> Self {
        Self {
            state: testing::fresh(n),
            names: Names::EMPTY,
            publish: Publish::EMPTY,
            queries: Queries::EMPTY,
            disk: Disk::default(),
            held: Vec::new(),
            accepted: 5,
        }
    }

    /// Somebody else says something.
    fn says(&mut self, n: u8, called: &str, statement: Statement, age_ms: u64) {
        let mut other: Tested = testing::fresh_called(n, called);
        let mut buf = [0; RECORD_LEN_MAX];
        // Later statements have higher sequences.
        let now = Instant::from_ms(self.held.len() as u64);
        let len = statement.sign(now, &mut other, &mut buf).unwrap();
        self.held.push((buf.get(..len).unwrap().to_vec(), age_ms));
    }

    fn end(&mut self, now: Instant, asking: &Asking, ended: Ended) {
        match Part::of(asking.tag) {
            Some(Part::Names) => self.names.on_done(now, asking.tag, ended),
            _ => {
                let (state, publish) = (&mut self.state, &mut self.publish);
                self.queries.on_done(now, state, publish, asking.tag, ended);
            }
        }
    }

    fn answer(&mut self, now: Instant, asking: &Asking, buf: &[u8]) {
        match asking.ask {
            Ask::Get { key, kinds, .. } => {
                for (bytes, age_ms) in self.held.clone() {
                    let record = Record::decode(&bytes).unwrap();
                    if record.key != key || !kinds.contains(record.kind) {
                        continue;
                    }
                    let verified = Verified {
                        record,
                        remaining_ms: u64::from(record.lifetime_ms),
                        age_ms,
                        holder: NodeId::ZERO,
                    };
                    self.names.on_record(asking.tag, &verified);
                    self.queries
                        .on_record(now, &mut self.state, asking.tag, &verified);
                }
                let (answered, complete) = (8, true);
                self.end(now, asking, Ended::Got { answered, complete });
            }
            Ask::Put { len } => {
                self.held.push((buf.get(..len).unwrap().to_vec(), 0));
                let (accepted, wanted) = (self.accepted, 5);
                let (older, full) = (None, false);
                self.end(
                    now,
                    asking,
                    Ended::Put {
                        accepted,
                        wanted,
                        older,
                        full,
                    },
                );
            }
            Ask::Leave => self.end(now, asking, Ended::Left),
        }
    }

    /// Lets everything go on at `now`; errands end as told.
    fn go(&mut self, now: Instant, delivered: Option<bool>) -> Vec<Event<'static>> {
        let mut events = Vec::new();
        let mut buf = [0; RECORD_LEN_MAX];
        loop {
            let written = self.disk.write(now, &mut self.state);
            self.state.persisted(written);
            self.queries.persisted(written);
            self.names.handle_timeout(now);
            self.queries.handle_timeout(now, &self.state, &self.names);
            while let Some(event) = self.queries.poll_event(now, &self.state, &mut self.names) {
                events.push(event);
            }
            if let (Some((id, _)), Some(delivered)) = (self.state.errands.take(), delivered) {
                self.state.errands.end(id, delivered);
            }
            while let Some((tag, delivered)) = self.state.errands.collect(now) {
                self.queries.on_delivered(tag, delivered);
            }
            let asking = self.names.poll_ask(now);
            let asking = asking.or_else(|| self.queries.poll_ask(now, &mut self.state, &mut buf));
            let Some(asking) = asking else {
                let rest = self.queries.poll_event(now, &self.state, &mut self.names);
                events.extend(rest);
                if rest.is_none() {
                    return events;
                }
                continue;
            };
            self.answer(now, &asking, &buf);
        }
    }

    fn whois(&mut self, handle: name::Handle) -> Vec<Event<'static>> {
        let (state, names) = (&self.state, &mut self.names);
        self.queries
            .whois(at(1), state, names, &handle, at(11))
            .unwrap();
        self.go(at(1), None)
    }

    fn follow(&mut self, handle: name::Handle, delivered: Option<bool>) -> Vec<Event<'static>> {
        let (state, names) = (&self.state, &mut self.names);
        self.queries
            .follow(at(1), state, names, &handle, at(11))
            .unwrap();
        self.go(at(1), delivered)
    }

    fn followers(&mut self, whose: Option<&name::Handle>) -> Vec<Event<'static>> {
        let (state, names) = (&self.state, &mut self.names);
        self.queries
            .followers(at(1), state, names, whose, at(11))
            .unwrap();
        self.go(at(1), None)
    }
}

fn bare(text: &str) -> name::Handle {
    name::Handle {
        name: name(text),
        fingerprint: None,
    }
}

fn exact(text: &str, n: u8) -> name::Handle {
    let fingerprint = Some(Fingerprint::of(&user(n), 8));
    name::Handle {
        fingerprint,
        ..bare(text)
    }
}

fn outcome(events: &[Event<'static>]) -> Outcome {
    match events.last() {
        Some(Event::QueryDone { outcome, .. }) => *outcome,
        _ => panic!("no end in {events:?}"),
    }
}

fn people(events: &[Event<'static>]) -> Vec<(UserId, Relation)> {
    let people = events.iter().filter_map(|event| match event {
        Event::Person {
            person, relation, ..
        } => Some((person.user, *relation)),
        _ => None,
    });
    people.collect()
}

fn claimant(held_ms: u64, taken: bool) -> Relation {
    Relation::Claimant { held_ms, taken }
}

#[test]
fn whois_tells_claimants_holders_and_profile() {
    let mut rig = Rig::new(1);
    for (n, age_ms) in [(2, 6_400), (3, 64)] {
        rig.says(n, "alice", Statement::Claim, age_ms);
    }
    rig.says(2, "alice", Statement::Profile, 0);
    rig.says(2, "alice", Statement::Head, 0);
    rig.says(9, "nina", Statement::Follow(user(2)), 0);
    let events = rig.whois(bare("alice"));
    let listed = [
        (user(2), claimant(6_400, true)),
        (user(3), claimant(64, false)),
    ];
    assert_eq!(
        people(&events),
        listed,
        "a follower that holds nothing is no holder"
    );
    let complete = true;
    assert_eq!(outcome(&events), Outcome::Found { count: 2, complete });
    let profile = events.get(2).unwrap();
    let Event::Profile {
        person,
        chosen_by,
        addr,
        online,
        followers,
        ..
    } = profile
    else {
        panic!("no profile in {events:?}");
    };
    assert_eq!(*followers, 1, "the profile is older than the follower");
    assert_eq!((person.user, person.name), (user(2), name("alice")));
    assert_eq!((*chosen_by, *online), (ChosenBy::FirstSeen, true));
    assert_eq!(*addr, PackedAddr::from(testing::address(2)));
    assert_eq!(
        rig.queries.used(),
        [(0, 1_024), (0, 65_536)],
        "nothing is left behind"
    );
}

#[test]
fn somebody_who_was_missed_or_said_goodbye_is_not_online() {
    for statement in [Statement::Goodbye, Statement::Sighting(user(2))] {
        let mut rig = Rig::new(1);
        rig.says(2, "alice", Statement::Claim, 0);
        rig.says(2, "alice", Statement::Profile, 0);
        rig.says(
            if statement == Statement::Goodbye {
                2
            } else {
                5
            },
            "alice",
            statement,
            0,
        );
        if statement == Statement::Goodbye {
            rig.held.remove(1);
        }
        let events = rig.whois(bare("alice"));
        let online = events.iter().find_map(|event| match event {
            Event::Profile { online, .. } => Some(*online),
            _ => None,
        });
        assert_eq!(online, Some(false));
    }
}

#[test]
fn nobody_is_not_found() {
    let mut rig = Rig::new(1);
    assert_eq!(outcome(&rig.whois(bare("alice"))), Outcome::NotFound);
    assert_eq!(outcome(&rig.follow(bare("alice"), None)), Outcome::NotFound);
    assert_eq!(
        outcome(&rig.followers(Some(&bare("alice")))),
        Outcome::NotFound
    );
}

#[test]
fn following_pins_stores_and_delivers() {
    let mut rig = Rig::new(1);
    rig.says(2, "alice", Statement::Claim, 0);
    rig.says(2, "alice", Statement::Profile, 0);
    let events = rig.follow(bare("alice"), Some(true));
    let person = Person {
        user: user(2),
        name: name("alice"),
    };
    let (delivered, accepted, wanted) = (true, 5, 5);
    let followed = Outcome::Followed {
        person,
        delivered,
        accepted,
        wanted,
    };
    assert_eq!(outcome(&events), followed);
    assert_eq!(
        rig.state.people.pinned(&name("alice")).unwrap().user,
        user(2)
    );
    assert!(
        rig.disk
            .0
            .keys()
            .any(|(class, _)| *class == crate::output::Class::Following)
    );
    let put = Record::decode(&rig.held.last().unwrap().0).unwrap();
    assert_eq!((put.kind, put.subject), (Kind::Follow, Some(user(2))));
    // A squatter that comes later changes nothing.
    rig.says(3, "alice", Statement::Claim, 1_000_000);
    let again = rig.whois(bare("alice"));
    assert_eq!(people(&again).first(), Some(&(user(2), claimant(0, true))));
}

#[test]
fn following_is_refused_where_a_name_is_ambiguous() {
    let mut rig = Rig::new(1);
    for n in [2, 3] {
        rig.says(n, "alice", Statement::Claim, u64::from(n) * 64);
    }
    let events = rig.follow(bare("alice"), Some(true));
    assert_eq!(outcome(&events), Outcome::Ambiguous);
    let listed = [
        (user(3), claimant(192, false)),
        (user(2), claimant(128, false)),
    ];
    assert_eq!(people(&events), listed);
    assert_eq!(rig.state.people.followed_len(), 0);
    for n in [2, 3] {
        let events = rig.follow(exact("alice", n), Some(true));
        assert!(matches!(outcome(&events), Outcome::Followed { .. }));
    }
    assert_eq!(rig.state.people.followed_len(), 2, "one can follow both");
    assert_eq!(
        rig.state.people.pinned(&name("alice")).unwrap().user,
        user(2)
    );
}

#[test]
fn one_cannot_follow_oneself() {
    let mut rig = Rig::new(1);
    let own = rig.state.me.name();
    let (state, names) = (&rig.state, &mut rig.names);
    let refused = rig
        .queries
        .follow(at(1), state, names, &bare(own.as_str()), at(2));
    assert_eq!(refused, Err(CommandError::Myself));
    assert_eq!(rig.queries.used()[0].0, 0);
}

#[test]
fn somebody_offline_is_followed_without_delivery() {
    let mut rig = Rig::new(1);
    rig.says(2, "alice", Statement::Claim, 0);
    let events = rig.follow(bare("alice"), None);
    assert!(matches!(
        outcome(&events),
        Outcome::Followed {
            delivered: false,
            accepted: 5,
            ..
        }
    ));
}

#[test]
fn a_slow_delivery_does_not_fail_a_follow() {
    let mut rig = Rig::new(1);
    rig.says(2, "alice", Statement::Claim, 0);
    rig.says(2, "alice", Statement::Profile, 0);
    assert_eq!(rig.follow(bare("alice"), None), [], "still waiting");
    assert_eq!(rig.queries.next_deadline().get(), Some(at(11)));
    let events = rig.go(at(11), None);
    assert!(matches!(
        outcome(&events),
        Outcome::Followed {
            delivered: false,
            ..
        }
    ));
}

#[test]
fn a_follow_that_storage_refused_is_taken_back() {
    let mut rig = Rig::new(1);
    rig.says(2, "alice", Statement::Claim, 0);
    let (state, names) = (&rig.state, &mut rig.names);
    rig.queries
        .follow(at(1), state, names, &bare("alice"), at(11))
        .unwrap();
    let mut buf = [0; RECORD_LEN_MAX];
    for _ in 0..2 {
        rig.queries.handle_timeout(at(1), &rig.state, &rig.names);
        let asking = rig.names.poll_ask(at(1));
        let asking = asking.or_else(|| rig.queries.poll_ask(at(1), &mut rig.state, &mut buf));
        rig.answer(at(1), &asking.unwrap(), &buf);
        rig.queries.handle_timeout(at(1), &rig.state, &rig.names);
    }
    assert!(rig.state.people.followed(&user(2)).is_some());
    rig.state.persist_failed();
    rig.queries.persist_failed(&mut rig.state);
    assert_eq!(outcome(&rig.go(at(1), None)), Outcome::StorageFailed);
    assert!(rig.state.people.followed(&user(2)).is_none());
}

#[test]
fn unfollowing_leaves_a_tombstone() {
    let mut rig = Rig::new(1);
    rig.says(2, "alice", Statement::Claim, 0);
    rig.follow(bare("alice"), None);
    let unfollow = |rig: &mut Rig, handle: name::Handle| {
        let (state, publish) = (&mut rig.state, &mut rig.publish);
        rig.queries
            .unfollow(at(2), state, publish, &handle, at(12))
            .unwrap();
        rig.go(at(2), None)
    };
    let events = unfollow(&mut rig, bare("alice"));
    assert!(matches!(
        outcome(&events),
        Outcome::Followed { accepted: 5, .. }
    ));
    let put = Record::decode(&rig.held.last().unwrap().0).unwrap();
    assert!(!put.payload::<Follow>().unwrap().following);
    assert!(
        !rig.disk
            .0
            .keys()
            .any(|(class, _)| *class == crate::output::Class::Following)
    );
    assert_eq!(
        outcome(&unfollow(&mut rig, bare("alice"))),
        Outcome::NotFound
    );
    // Two of one name, and the pin is gone: one must say whom one means.
    for n in [2, 3, 4] {
        rig.says(n, "bob", Statement::Claim, 0);
        rig.follow(exact("bob", n), None);
    }
    unfollow(&mut rig, exact("bob", 2));
    let events = unfollow(&mut rig, bare("bob"));
    assert_eq!(outcome(&events), Outcome::Ambiguous);
    assert_eq!(people(&events).len(), 2);
}

#[test]
fn ten_thousand_followers_are_listed_once_each() {
    let mut rig = Rig::new(1);
    let query = rig.queries.insert(Query::new(
        Command::Followers,
        Stage::Telling(Telling::Claimants),
        at(10),
    ));
    let handle = rig.queries.running.handle_at(0).unwrap();
    for copy in 0..3 {
        for n in 0..10_000_u32 {
            let mut id = [1; 32];
            *id.first_chunk_mut().unwrap() = n.to_be_bytes();
            let told = Told {
                user: UserId::from_bytes(id),
                name: name("n"),
                what: if copy == 1 && n < 10 {
                    What::Gone
                } else {
                    What::Follower { holds_until: at(0) }
                },
            };
            // The second copy of each is the newest.
            assert!(rig.queries.results.note(handle, told, copy % 2));
        }
    }
    let events = rig.go(at(1), None);
    assert_eq!(people(&events).len(), 9_990);
    assert_eq!(
        Event::QueryDone {
            query: query.unwrap(),
            outcome: outcome(&events)
        },
        *events.last().unwrap()
    );
    assert_eq!(rig.queries.used()[1].0, 0);
}

#[test]
fn own_followers_come_from_the_network_and_from_ones_own_table() {
    let mut rig = Rig::new(1);
    rig.says(5, "nina", Statement::Follow(user(1)), 0);
    rig.says(6, "omar", Statement::Follow(user(1)), 0);
    rig.says(7, "pia", Statement::Follow(user(1)), 0);
    rig.says(7, "pia", Statement::Gone(user(1)), 0);
    let (direct, _) = rig.held.remove(1);
    assert!(rig.state.on_follow(at(1), &direct, None).is_ok());
    let events = rig.followers(None);
    let mut listed = people(&events);
    listed.sort_by_key(|(user, _)| *user);
    let mut wanted = [(user(5), Relation::Follower), (user(6), Relation::Follower)];
    wanted.sort_by_key(|(user, _)| *user);
    assert_eq!(listed, wanted);
    assert!(
        rig.state.people.is_follower(at(1), &user(5)),
        "and the table has learned"
    );
}

#[test]
fn the_newest_page_says_whom_somebody_follows() {
    let mut author: Tested = testing::fresh_called(2, "alice");
    let page = |author: &mut Tested| {
        let mut buf = [0; RECORD_LEN_MAX];
        let len = Statement::Following(0)
            .sign(at(0), author, &mut buf)
            .unwrap();
        (buf.get(..len).unwrap().to_vec(), 0)
    };
    assert!(author.people.follow(user(3), name("carl")));
    let old = page(&mut author);
    assert!(author.people.follow(user(4), name("dora")));
    author.people.unfollow(&mut author.posts, &user(3));
    let new = page(&mut author);
    for held in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
        let mut rig = Rig::new(1);
        rig.says(2, "alice", Statement::Claim, 0);
        rig.held.extend(held);
        let (state, names) = (&rig.state, &mut rig.names);
        rig.queries
            .following(at(1), state, names, Some(&bare("alice")), at(11))
            .unwrap();
        let events = rig.go(at(1), None);
        assert_eq!(people(&events), [(user(4), Relation::Followed)]);
        let complete = true;
        assert_eq!(outcome(&events), Outcome::Found { count: 1, complete });
    }
}

#[test]
fn registering_says_how_many_took_it() {
    let mut rig = Rig::new(1);
    rig.accepted = 3;
    rig.queries.register(at(1), at(11)).unwrap();
    let (accepted, wanted) = (3, 5);
    assert_eq!(
        outcome(&rig.go(at(1), None)),
        Outcome::Stored { accepted, wanted }
    );
    let kinds: Vec<Kind> = rig
        .held
        .iter()
        .map(|(r, _)| Record::decode(r).unwrap().kind)
        .collect();
    assert_eq!(kinds, [Kind::Claim, Kind::Profile]);
}

#[test]
fn leaving_withdraws_the_lease() {
    let mut rig = Rig::new(1);
    rig.queries.leave(at(1), at(11)).unwrap();
    assert_eq!(outcome(&rig.go(at(1), None)), Outcome::Left);
    let record = Record::decode(&rig.held.last().unwrap().0).unwrap();
    assert_eq!(record.payload::<Profile<'_>>().unwrap().lease_ms, 0);
}

#[test]
fn a_post_is_acknowledged_when_durable_and_every_command_ends() {
    let mut rig = Rig::new(1);
    publish(at(1), &mut rig.state, "durable");
    rig.queries.post(at(1), 1, 7, false).unwrap();
    let (seq, time_ms) = (1, 7);
    assert_eq!(
        outcome(&rig.go(at(1), None)),
        Outcome::Posted { seq, time_ms }
    );
    rig.queries.post(at(1), 2, 7, false).unwrap();
    assert_eq!(rig.go(at(60), None), []);
    assert_eq!(outcome(&rig.go(at(61), None)), Outcome::TimedOut);
    assert_eq!(rig.queries.next_deadline().get(), None);
}

#[test]
fn as_many_commands_as_fit_run_and_one_more_is_refused() {
    let mut rig = Rig::new(1);
    let mut begun = 0;
    while rig.queries.register(at(1), at(11)).is_ok() {
        begun += 1;
    }
    assert_eq!((begun, rig.queries.has_room()), (1_024, false));
    let (state, names) = (&rig.state, &mut rig.names);
    let refused = rig.queries.whois(at(1), state, names, &bare("a"), at(11));
    assert_eq!(refused, Err(CommandError::Busy));
    assert_eq!(
        rig.names.next_deadline().get(),
        None,
        "no resolution is left running"
    );
}

#[test]
fn a_plan_without_every_command_ends_an_ambiguous_one_and_lists_nobody() {
    type Few = crate::plan::TimelineBoard;
    let mut state: State<Few> = testing::fresh(1);
    for n in 2..5 {
        assert!(state.people.follow(user(n), name("bob")));
    }
    // Nobody is pinned, and two are left.
    state.people.unfollow(&mut state.posts, &user(2)).unwrap();
    let bob = name::Handle {
        name: name("bob"),
        fingerprint: None,
    };
    let (mut queries, mut publish) = (Queries::<Few>::EMPTY, Publish::EMPTY);
    let query = queries
        .unfollow(at(1), &mut state, &mut publish, &bob, at(9))
        .unwrap();
    let mut names = Names::EMPTY;
    let outcome = Outcome::Ambiguous;
    assert_eq!(
        queries.poll_event(at(1), &state, &mut names),
        Some(Event::QueryDone { query, outcome })
    );
    assert_eq!(queries.poll_event(at(1), &state, &mut names), None);
}
