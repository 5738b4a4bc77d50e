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
    for (kinds, row) in FLOODS {
        flood(&network, &mut board, &servers, kinds, row, each);
    }
    let late_ms = board.status("late-ms");
    eprintln!("{late_ms} ms late at most");
    assert!(late_ms <= LATE_MS_MAX, "{late_ms} ms late");
    assert_eq!(board.printed_of("start "), 1);
    check_stack(&mut board);
}

/// Floods the board, and meanwhile looks at what the servers and its own user see.
fn flood(
    network: &Namespace,
    board: &mut Board,
    servers: &[Server; 2],
    kinds: &[(Kind, u64)],
    row: &str,
    lasts: Duration,
) {
    let [mut own_ms, counter] = board.statuses(["uptime-ms", row]);
    let began_ms = own_ms;
    let flood = Flood::new(network, kinds);
    let began = Instant::now();
    let mut looked = began;
    let mut seen = Seen::default();
    while began.elapsed() < lasts || !seen.everything() {
        let patient = began.elapsed() < lasts + Duration::from_secs(PATIENCE_S);
        assert!(patient, "{kinds:?}: {seen:?}");
        seen.look(board, servers);
        let now_ms = board.status("uptime-ms");
        let passed_ms = u64::try_from(looked.elapsed().as_millis()).unwrap();
        flood.keep_pace(((now_ms - own_ms) * 1_000 / passed_ms.max(1)).min(2_000));
        (own_ms, looked) = (now_ms, Instant::now());
    }
    let [own_ms, counted] = board.statuses(["uptime-ms", row]);
    let (sent, passed_ms, counted) = (flood.sent(), own_ms - began_ms, counted - counter);
    drop(flood);
    eprintln!("{kinds:?}: {sent} frames in {passed_ms} ms, {row} {counted}, {seen:?}");
    let rate: u64 = kinds.iter().map(|(_, rate)| rate).sum();
    // An emulator that is now ahead and now behind is not followed exactly.
    assert!(sent * 2_000 >= rate * passed_ms, "it was no flood");
    assert!(counted * 100 >= sent * COUNTED_PERCENT, "{row}: {counted}");
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
