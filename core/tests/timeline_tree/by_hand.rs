//! One person, and a peer who writes its frames by hand: the rules of streams, and what breaking them costs.

use std::net::SocketAddr;

use strandline_core::crypto::{Crypto, Ed25519};
use strandline_core::output::{OUTPUT_LEN_MAX, Output, StreamId};
use strandline_core::plan::Server;
use strandline_core::rules::Rule;
use strandline_core::timeline::streams::table::{FIRST_FRAME_MS, IDLE_MS, PROGRESS_MS};
use strandline_core::wire::frame::{Ending, Frame, Get, GetStored, Refusal, Target};
use strandline_core::wire::record::Record;
use strandline_core::wire::{FRAME_LEN_MAX, NetworkId, RECORD_LEN_MAX};

use crate::world::{Health, NETWORK, World, address, secret, user};

/// A stream from the peer to person 0.
struct Line {
    stream: StreamId,
    closed: bool,
}

fn encode(frame: &Frame<'_>) -> Vec<u8> {
    let mut buf = [0; FRAME_LEN_MAX + 2];
    let len = frame.encode(NETWORK, &mut buf).unwrap();
    buf[..len].to_vec()
}

/// Person 0, whom person 1 follows; it has posted twice. Others are there to be asked for.
fn world() -> World<Server> {
    let mut world = World::new(4, 2);
    world.follow(1, 0);
    world.post(0, "one");
    world.post(0, "two");
    for n in [2, 3] {
        world.follow(1, n);
        world.post(n, "other");
    }
    world.publish_profiles(|_| 0);
    world
}

impl Line {
    fn open(world: &mut World<Server>, from: SocketAddr) -> Self {
        let now = world.now;
        let person = &mut world.people[0];
        let stream = person
            .exchange
            .accept_stream(now, &mut person.state, from)
            .unwrap();
        let mut line = Self {
            stream,
            closed: false,
        };
        line.room(world, 1 << 16);
        line
    }

    fn room(&mut self, world: &mut World<Server>, room: usize) {
        world.people[0]
            .exchange
            .stream_writable(world.now, self.stream, room);
    }

    /// Offers bytes, and returns the frames that come back, without their prefix.
    fn offer(&mut self, world: &mut World<Server>, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        loop {
            let now = world.now;
            let person = &mut world.people[0];
            let len = person
                .exchange
                .stream_readable(now, &mut person.state, self.stream, bytes);
            bytes = &bytes[len..];
            answers.extend(self.drain(world));
            if len == 0 || bytes.is_empty() {
                return answers;
            }
        }
    }

    fn say(&mut self, world: &mut World<Server>, frame: &Frame<'_>) -> Vec<Vec<u8>> {
        self.offer(world, &encode(frame))
    }

    fn drain(&mut self, world: &mut World<Server>) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        let mut buf = [0; OUTPUT_LEN_MAX];
        let person = &mut world.people[0];
        while let Ok(output) = person.exchange.poll_stream(&mut person.state, &mut buf) {
            match output {
                Output::Write { stream, bytes } if stream == self.stream => {
                    answers.push(bytes[2..].to_vec());
                }
                Output::Close { stream } if stream == self.stream => self.closed = true,
                Output::Open { .. } | Output::Write { .. } | Output::Close { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        answers
    }

    fn wait(&mut self, world: &mut World<Server>, ms: u64) -> Vec<Vec<u8>> {
        world.now = world.now.after_ms(ms);
        let now = world.now;
        let person = &mut world.people[0];
        person.exchange.handle_timeout(now, &mut person.state);
        self.drain(world)
    }
}

/// The kinds of frames, as one letter each.
fn letters(answers: &[Vec<u8>]) -> String {
    let letter = |body: &Vec<u8>| match Frame::decode(body, NETWORK).unwrap() {
        Frame::Head { .. } => 'h',
        Frame::Post { .. } => 'p',
        Frame::Done { .. } => 'd',
        Frame::Working => 'w',
        Frame::End => 'e',
        Frame::Refused { .. } => 'r',
        _ => '?',
    };
    answers.iter().map(letter).collect()
}

fn refusal(answers: &[Vec<u8>]) -> Option<Refusal> {
    answers
        .iter()
        .find_map(|body| match Frame::decode(body, NETWORK).unwrap() {
            Frame::Refused { reason, .. } => Some(reason),
            _ => None,
        })
}

/// A request signed by person 1.
fn signed(world: &World<Server>, number: u64) -> (u64, [u8; 32], [u8; 64]) {
    let issued_ms = world.people[1].state.me.unix_ms(world.now);
    let reader = Ed25519::public_key(&secret(1));
    let signature = Get::sign::<Ed25519>(NETWORK, number, &reader, issued_ms, 2, &secret(1));
    (issued_ms, reader, signature)
}

fn get<'a>(
    world: &World<Server>,
    number: u64,
    signature: &'a mut [u8; 64],
    targets: u16,
) -> Get<'a> {
    let (issued_ms, reader, signed) = signed(world, number);
    *signature = signed;
    Get {
        request: number,
        reader,
        issued_ms,
        fanout: 2,
        signature,
        depth: 0,
        promotions: 0,
        deadline_ms: 5_000,
        log: 0,
        since: 0,
        limit: 10,
        targets,
    }
}

fn profile(world: &World<Server>, n: usize) -> Vec<u8> {
    let found = world.records.iter().find(|bytes| {
        let record = Record::decode(bytes).unwrap();
        record.author == user(n) && record.subject.is_none()
    });
    found.unwrap().clone()
}

/// Somebody else is still served as if nothing had happened.
fn assert_serves_on(world: &mut World<Server>) {
    let mut line = Line::open(world, address(3));
    let mut signature = [0; 64];
    let get = get(world, 99, &mut signature, 0);
    assert_eq!(letters(&line.say(world, &Frame::Get(get))), "hppde");
}

#[test]
fn broken_frames_close_the_stream_are_counted_and_hurt_nobody() {
    let mut wrong_version = encode(&Frame::Working);
    wrong_version[2] = 9;
    let mut wrong_network = vec![0; 64];
    let len = Frame::Working
        .encode(NetworkId([9; 4]), &mut wrong_network)
        .unwrap();
    wrong_network.truncate(len);
    let mut trailing = encode(&Frame::Working);
    trailing.push(0);
    trailing[1] += 1;
    let cases = [
        (vec![0xff, 0xff, 1], Rule::Overlong),
        (vec![0, 0], Rule::Malformed),
        (vec![0, 6, 1, 1, 2, 3, 4, 0xee], Rule::Malformed),
        (trailing, Rule::Malformed),
        (wrong_version, Rule::Version),
        (wrong_network, Rule::Network),
        (encode(&Frame::End), Rule::OutOfTurn),
        (encode(&Frame::Working), Rule::OutOfTurn),
        (
            encode(&Frame::Follow {
                record: b"no record",
            }),
            Rule::Malformed,
        ),
    ];
    for (bytes, rule) in cases {
        let mut world = world();
        let mut line = Line::open(&mut world, address(1));
        assert_eq!(
            line.offer(&mut world, &bytes),
            Vec::<Vec<u8>>::new(),
            "{rule:?}"
        );
        assert!(line.closed, "{rule:?}");
        assert_eq!(world.dropped(0, rule), 1, "{rule:?}");
        assert_serves_on(&mut world);
    }
}

#[test]
fn a_frame_in_pieces_is_a_frame() {
    let mut world = world();
    let mut line = Line::open(&mut world, address(1));
    let mut signature = [0; 64];
    let bytes = encode(&Frame::Get(get(&world, 1, &mut signature, 0)));
    for len in 0..bytes.len() {
        let now = world.now;
        let person = &mut world.people[0];
        let taken =
            person
                .exchange
                .stream_readable(now, &mut person.state, line.stream, &bytes[..len]);
        assert_eq!(taken, 0);
    }
    assert_eq!(letters(&line.offer(&mut world, &bytes)), "hppde");
}

#[test]
fn whoever_dawdles_over_a_frame_is_cut_off() {
    let mut world = world();
    let mut line = Line::open(&mut world, address(1));
    for _ in 0..4 {
        assert!(line.offer(&mut world, &[0]).is_empty());
        line.wait(&mut world, FIRST_FRAME_MS / 5);
    }
    assert!(!line.closed);
    line.wait(&mut world, FIRST_FRAME_MS / 5);
    assert!(line.closed);
    assert_eq!(world.dropped(0, Rule::Stalled), 1);
}

#[test]
fn a_quiet_stream_is_closed_without_blame() {
    let mut world = world();
    let mut line = Line::open(&mut world, address(1));
    let mut signature = [0; 64];
    let get = get(&world, 1, &mut signature, 0);
    line.say(&mut world, &Frame::Get(get));
    line.wait(&mut world, IDLE_MS - 1);
    assert!(!line.closed);
    line.wait(&mut world, 1);
    assert!(line.closed);
    assert_eq!(world.dropped(0, Rule::Stalled), 0);
}

#[test]
fn whoever_does_not_read_its_answer_is_cut_off() {
    let mut world = world();
    let mut line = Line::open(&mut world, address(1));
    line.room(&mut world, 10);
    let mut signature = [0; 64];
    let get = get(&world, 1, &mut signature, 0);
    assert_eq!(
        letters(&line.say(&mut world, &Frame::Get(get))),
        "",
        "no room for a head"
    );
    line.wait(&mut world, PROGRESS_MS);
    assert!(line.closed);
    assert_eq!(world.dropped(0, Rule::Stalled), 1);
}

#[test]
fn an_answer_goes_on_as_room_comes() {
    let mut world = world();
    let mut line = Line::open(&mut world, address(1));
    line.room(&mut world, 0);
    let mut signature = [0; 64];
    let get = get(&world, 1, &mut signature, 0);
    let mut answers = line.say(&mut world, &Frame::Get(get));
    let mut grants = 0;
    while answers.len() < 5 {
        grants += 1;
        assert!(
            grants <= 5,
            "each grant has room for the next frame at least"
        );
        line.room(&mut world, 340);
        answers.extend(line.drain(&mut world));
    }
    assert!(grants > 1);
    assert_eq!(letters(&answers), "hppde");
}

#[test]
fn one_source_cannot_take_all_streams() {
    let mut world = world();
    let now = world.now;
    let person = &mut world.people[0];
    let mut open = |from| {
        person
            .exchange
            .accept_stream(now, &mut person.state, from)
            .is_ok()
    };
    let opened = (0..100).filter(|_| open(address(1))).count();
    assert_eq!(opened, 16);
    assert!(open(address(2)));
}

#[test]
fn follow_is_taken_if_it_is_signed_and_about_this_user() {
    let mut world = world();
    let mut record = [0; RECORD_LEN_MAX];
    let now = world.now;
    let len = world.people[3]
        .state
        .sign_follow(now, &user(0), true, &mut record)
        .unwrap();
    let mut line = Line::open(&mut world, address(3));
    let answers = line.say(
        &mut world,
        &Frame::Follow {
            record: &record[..len],
        },
    );
    let done = Frame::Done {
        author: user(0),
        outcome: Ending::Complete,
    };
    assert_eq!(answers, [encode(&done)[2..].to_vec()]);
    assert!(world.people[0].state.people.is_follower(now, &user(3)));
    // The same line carries the next request.
    let len = world.people[3]
        .state
        .sign_follow(now, &user(0), false, &mut record)
        .unwrap();
    line.say(
        &mut world,
        &Frame::Unfollow {
            record: &record[..len],
        },
    );
    assert!(!world.people[0].state.people.is_follower(now, &user(3)));
    assert!(!line.closed);
}

#[test]
fn follow_is_refused_if_forged_or_about_somebody_else() {
    let mut world = world();
    let now = world.now;
    let sign = |world: &mut World<Server>, about: usize, following| {
        let mut record = [0; RECORD_LEN_MAX];
        let state = &mut world.people[3].state;
        let len = state
            .sign_follow(now, &user(about), following, &mut record)
            .unwrap();
        record[..len].to_vec()
    };
    let mut forged = sign(&mut world, 0, true);
    *forged.last_mut().unwrap() ^= 1;
    let (elsewhere, going) = (sign(&mut world, 2, true), sign(&mut world, 0, false));
    let cases = [
        (Frame::Follow { record: &forged }, Rule::Signature),
        (Frame::Follow { record: &elsewhere }, Rule::Key),
        (Frame::Follow { record: &going }, Rule::Payload),
    ];
    for (frame, rule) in cases {
        let mut line = Line::open(&mut world, address(3));
        assert!(line.say(&mut world, &frame).is_empty());
        assert!(line.closed, "{rule:?}");
        assert_eq!(world.dropped(0, rule), 1);
    }
    assert!(!world.people[0].state.people.is_follower(now, &user(3)));
}

#[test]
fn what_is_not_kept_is_not_served() {
    let mut world = world();
    let mut line = Line::open(&mut world, address(1));
    let stored = |n| {
        Frame::GetStored(GetStored {
            author: user(n),
            log: 0,
            since: 0,
            limit: 9,
        })
    };
    assert_eq!(
        refusal(&line.say(&mut world, &stored(2))),
        Some(Refusal::NotHeld)
    );
    // Own posts are.
    assert_eq!(letters(&line.say(&mut world, &stored(0))), "hppde");
    let since = GetStored {
        author: user(0),
        log: 0,
        since: 1,
        limit: 9,
    };
    assert_eq!(
        letters(&line.say(&mut world, &Frame::GetStored(since))),
        "hpde"
    );
    let limit = GetStored {
        author: user(0),
        log: 0,
        since: 0,
        limit: 1,
    };
    assert_eq!(
        letters(&line.say(&mut world, &Frame::GetStored(limit))),
        "hpde"
    );
    let log = GetStored {
        author: user(0),
        log: 1,
        since: 0,
        limit: 9,
    };
    assert_eq!(
        refusal(&line.say(&mut world, &Frame::GetStored(log))),
        Some(Refusal::NotHeld)
    );
}

#[test]
fn a_repeated_request_gets_own_posts_again_and_nothing_relayed() {
    let mut world = world();
    let profile = profile(&world, 2);
    let target = Frame::Target(Target {
        profile: &profile,
        log: 0,
        since: 0,
        limit: 9,
    });
    let mut first = Line::open(&mut world, address(1));
    let mut signature = [0; 64];
    let get = get(&world, 7, &mut signature, 1);
    assert_eq!(
        letters(&first.say(&mut world, &Frame::Get(get))),
        "hppd",
        "and then it asks"
    );
    assert_eq!(letters(&first.say(&mut world, &target)), "");
    let mut second = Line::open(&mut world, address(3));
    let answers = second.say(&mut world, &Frame::Get(get));
    assert_eq!(letters(&answers), "hppdr");
    assert_eq!(refusal(&answers), Some(Refusal::Repeated));
    assert_eq!(world.dropped(0, Rule::Repeated), 1);
    // What was announced may still come, and no more.
    assert!(second.say(&mut world, &target).is_empty());
    assert!(!second.closed);
    assert!(second.say(&mut world, &target).is_empty());
    assert!(second.closed);
}

#[test]
fn nothing_is_relayed_for_a_bad_or_old_signature_or_a_stranger() {
    let mut world = world();
    let mut signature = [0; 64];
    let mut bad = get(&world, 1, &mut signature, 1);
    bad.fanout = 3;
    let mut signature = [0; 64];
    let mut stranger = get(&world, 2, &mut signature, 1);
    stranger.reader = Ed25519::public_key(&secret(3));
    let mut signature = [0; 64];
    let old = get(&world, 3, &mut signature, 1);
    let cases = [
        (bad, 0, Refusal::Invalid, Rule::Signature),
        (stranger, 0, Refusal::NotFollowing, Rule::NotFollowing),
        (old, 600_000, Refusal::Invalid, Rule::Lifetime),
    ];
    for (get, later_ms, refused, rule) in cases {
        world.now = world.now.after_ms(later_ms);
        let mut line = Line::open(&mut world, address(1));
        let answers = line.say(&mut world, &Frame::Get(get));
        assert_eq!(letters(&answers), "hppdr", "{rule:?}");
        assert_eq!(refusal(&answers), Some(refused));
        assert_eq!(world.dropped(0, rule), 1);
    }
}

#[test]
fn a_relay_shows_that_it_is_at_it_and_ends_by_the_deadline() {
    let mut world = world();
    world.kill(2, Health::Silent);
    let profile = profile(&world, 2);
    let mut line = Line::open(&mut world, address(1));
    let mut signature = [0; 64];
    let mut get = get(&world, 7, &mut signature, 1);
    get.deadline_ms = 800;
    line.say(&mut world, &Frame::Get(get));
    line.say(
        &mut world,
        &Frame::Target(Target {
            profile: &profile,
            log: 0,
            since: 0,
            limit: 9,
        }),
    );
    assert_eq!(letters(&line.wait(&mut world, 500)), "w");
    let answers = line.wait(&mut world, 300);
    assert_eq!(letters(&answers), "de");
    assert!(matches!(
        Frame::decode(&answers[0], NETWORK),
        Ok(Frame::Done { author, outcome: Ending::Unreached(_) }) if author == user(2)
    ));
}

#[test]
fn a_target_whose_profile_is_forged_is_not_asked() {
    let mut world = world();
    let mut profile = profile(&world, 2);
    *profile.last_mut().unwrap() ^= 1;
    let mut line = Line::open(&mut world, address(1));
    let mut signature = [0; 64];
    let get = get(&world, 7, &mut signature, 1);
    line.say(&mut world, &Frame::Get(get));
    let target = Target {
        profile: &profile,
        log: 0,
        since: 0,
        limit: 9,
    };
    assert_eq!(letters(&line.say(&mut world, &Frame::Target(target))), "de");
    assert_eq!(world.dropped(0, Rule::Signature), 1);
    assert_eq!(world.people[2].contacts, 0);
}

#[test]
fn a_child_has_less_time_than_its_parent() {
    let mut world = world();
    let profile = profile(&world, 2);
    let mut line = Line::open(&mut world, address(1));
    let mut signature = [0; 64];
    let get = get(&world, 7, &mut signature, 1);
    line.say(&mut world, &Frame::Get(get));
    let target = Target {
        profile: &profile,
        log: 0,
        since: 0,
        limit: 9,
    };
    let (now, mut buf) = (world.now, [0; OUTPUT_LEN_MAX]);
    let person = &mut world.people[0];
    let bytes = encode(&Frame::Target(target));
    person
        .exchange
        .stream_readable(now, &mut person.state, line.stream, &bytes);
    let output = person.exchange.poll_stream(&mut person.state, &mut buf);
    let Ok(Output::Open { stream, to }) = output else {
        panic!("{output:?}")
    };
    assert_eq!(to, address(2));
    // 400 ms later the stream is open: the round trip is known, and two of them are kept back.
    let later = now.after_ms(400);
    person
        .exchange
        .stream_opened(later, &mut person.state, stream);
    person.exchange.stream_writable(later, stream, 1 << 16);
    let output = person.exchange.poll_stream(&mut person.state, &mut buf);
    let Ok(Output::Write { stream: to, bytes }) = output else {
        panic!("{output:?}")
    };
    assert_eq!(to, stream);
    let Ok(Frame::Get(passed_on)) = Frame::decode(&bytes[2..], NETWORK) else {
        panic!("a Get")
    };
    assert_eq!(passed_on.deadline_ms, get.deadline_ms - 400 - 2 * 400);
    assert_eq!((passed_on.depth, passed_on.targets), (1, 0));
    assert_eq!(
        (passed_on.reader, passed_on.request),
        (get.reader, get.request)
    );
    assert_eq!(passed_on.verify::<Ed25519>(NETWORK), Ok(()));
}
