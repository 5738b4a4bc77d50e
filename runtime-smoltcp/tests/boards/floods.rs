//! A board that is flooded, in a network with two servers: it counts what it drops, and goes on with its own business
//! and theirs. Half a minute; `STRANDLINE_FLOOD_S` makes it longer.

use std::time::{Duration, Instant};

use crate::board::{Board, LM3S6965, QEMU};
use crate::flood::{Flood, Kind};
use crate::namespace::{Namespace, Server, server_ip};
use crate::{COMMAND, Folder, check_stack, settings_alone, turn};

/// How long all floods take together where nobody says otherwise, in s.
const TOGETHER_S: u64 = 30;
/// Each flood, in frames a second, and the row of the board's `status` that counts it.
const FLOODS: [(&[(Kind, u64)], &str); 6] = [
    (&[(Kind::Junk, 5_000)], "dropped"),
    (&[(Kind::Syn, 500)], "connections-refused"),
    (&[(Kind::Overlong, 300)], "frames-overlong"),
    // What the interface throws away unseen counts as a frame.
    (&[(Kind::Fragments, 1_000)], "frames"),
    (&[(Kind::Arp, 1_000)], "frames"),
    (
        &[
            (Kind::Junk, 2_000),
            (Kind::Syn, 200),
            (Kind::Overlong, 50),
            (Kind::Fragments, 200),
            (Kind::Arp, 200),
        ],
        "frames",
    ),
];
/// How late the board may be with its own deadlines, in ms.
const LATE_MS_MAX: u64 = 1_000;
/// Of a hundred frames of a flood, so many must have come through to the board: the rest is lost before it.
const COUNTED_PERCENT: u64 = 40;
/// For how long, by the board's clock, the frames must have come at the flood's rate.
const IN_STEP_MS_MIN: u64 = 1_000;
/// In how many rounds everything is seen before the first flood.
const ROUNDS_MAX: usize = 20;
/// How much longer a flood may last until everything was seen that must be, in s: on a busy machine the emulated board is
/// slower than its network.
const PATIENCE_S: u64 = 60;

#[test]
fn a_flooded_board_stays_in_the_network() {
    let Some(_turn) = turn("floods", LM3S6965) else {
        return;
    };
    let folder = Folder::new("floods");
    let network = match Namespace::new(&folder.0, 1, 2) {
        Ok(network) => network,
        Err(why) => {
            eprintln!("floods SKIPPED: {why}");
            return;
        }
    };
    let servers = [network.server(0, &[]), network.server(1, &[])];
    let mut settings = settings_alone(0);
    settings.push(format!("join={}:7827", server_ip(0)));
    let card = Namespace::card(LM3S6965, 0);
    let mut board = Board::start_by(network.command(QEMU), LM3S6965, &settings, &card);
    board.wait_for(0, "ended ", COMMAND);
    let (_, end) = board.command("register", COMMAND);
    assert!(end.starts_with("stored "), "{end}");
    servers[0].object(&["follow", "board0"]);
    board.type_line("post above the waves");
    let mut calm = Seen::default();
    while !calm.everything() {
        assert!(calm.rounds < ROUNDS_MAX, "{calm:?}");
        calm.look(&mut board, &servers);
    }
    check_stack(&mut board);

    let together_s = std::env::var("STRANDLINE_FLOOD_S").map(|s| s.parse().unwrap());
    let each = Duration::from_secs(together_s.unwrap_or(TOGETHER_S)) / 6;
    let mut stalled_ms = 0;
    for (kinds, row) in FLOODS {
        let stalled = flood(&network, &mut board, &servers, kinds, row, each);
        stalled_ms = stalled.max(stalled_ms);
    }
    // A board whose emulator stood still wakes up late.
    let late_ms = board.status("late-ms");
    eprintln!("{late_ms} ms late at most, on a machine that stood still for {stalled_ms} ms");
    assert!(late_ms <= LATE_MS_MAX + stalled_ms, "{late_ms} ms late");
    assert_eq!(board.printed_of("start "), 1);
    check_stack(&mut board);
}

/// Floods the board, and meanwhile looks at what the servers and its own user see. For how many ms this machine stood still
/// at most.
fn flood(
    network: &Namespace,
    board: &mut Board,
    servers: &[Server; 2],
    kinds: &[(Kind, u64)],
    row: &str,
    lasts: Duration,
) -> u64 {
    let rate: u64 = kinds.iter().map(|(_, rate)| rate).sum();
    let [own_ms, counted] = board.statuses(["uptime-ms", row]);
    let mut before = Reading {
        own_ms,
        sent: 0,
        counted,
    };
    let flood = Flood::new(network, kinds);
    let began = Instant::now();
    let mut looked = began;
    let (mut seen, mut in_step) = (Seen::default(), Reading::default());
    while began.elapsed() < lasts || !seen.everything() || !in_step.came_through() {
        let patient = began.elapsed() < lasts + Duration::from_secs(PATIENCE_S);
        assert!(patient, "{kinds:?}: {seen:?}, {row}: {in_step:?}");
        seen.look(board, servers);
        let [own_ms, counted] = board.statuses(["uptime-ms", row]);
        let now = Reading {
            own_ms,
            sent: flood.sent(),
            counted,
        };
        let passed = now.since(&before);
        if passed.is_in_step(rate) {
            in_step.add(&passed);
        }
        let passed_ms = u64::try_from(looked.elapsed().as_millis()).unwrap();
        flood.keep_pace((passed.own_ms * 1_000 / passed_ms.max(1)).min(2_000));
        (before, looked) = (now, Instant::now());
    }
    eprintln!("{kinds:?}: {row} {in_step:?}, {seen:?}");
    flood.stalled_ms()
}

/// How far a flood is.
#[derive(Clone, Copy, Default, Debug)]
struct Reading {
    /// The board's clock.
    own_ms: u64,
    /// Frames sent.
    sent: u64,
    /// Frames that the board counted.
    counted: u64,
}

impl Reading {
    fn since(&self, before: &Self) -> Self {
        Self {
            own_ms: self.own_ms - before.own_ms,
            sent: self.sent - before.sent,
            counted: self.counted - before.counted,
        }
    }

    fn add(&mut self, more: &Self) {
        self.own_ms += more.own_ms;
        self.sent += more.sent;
        self.counted += more.counted;
    }

    /// Whether the frames came at this rate by the board's clock, give or take a third. The emulator stands still now and
    /// then on a busy machine, and what is sent to it meanwhile is lost.
    fn is_in_step(&self, rate: u64) -> bool {
        let due = rate * self.own_ms / 1_000;
        (due - due / 3..=due + due / 3).contains(&self.sent)
    }

    /// Whether it was a flood, which the board counted.
    fn came_through(&self) -> bool {
        self.own_ms >= IN_STEP_MS_MIN && self.counted * 100 >= self.sent * COUNTED_PERCENT
    }
}

/// What was seen while a flood lasted.
#[derive(Default, Debug)]
struct Seen {
    /// How often it was looked.
    rounds: usize,
    /// A server's lookups that the board answered.
    lookups: usize,
    /// Times that it took a `Follow` over a stream.
    follows: usize,
    /// Timelines that a server had from the board itself.
    live: usize,
    /// Records of the board that it and both servers took.
    stored: usize,
}

impl Seen {
    fn everything(&self) -> bool {
        [self.lookups, self.follows, self.live, self.stored]
            .iter()
            .all(|times| *times > 0)
    }

    fn look(&mut self, board: &mut Board, [reader, other]: &[Server; 2]) {
        self.rounds += 1;
        let found = other.object(&["lookup", "anything"]);
        self.lookups += usize::from(found.contains("10.0.0.1:"));
        let followed = reader.object(&["follow", "board0"]);
        self.follows += usize::from(followed.contains("\"delivered\":true"));
        let timeline = reader.object(&["timeline"]);
        assert!(timeline.contains("above the waves"), "{timeline}");
        self.live += usize::from(timeline.contains("\"via\":\"author\""));
        let (_, end) = board.command("register", COMMAND);
        self.stored += usize::from(end == "stored 3 3");
    }
}
