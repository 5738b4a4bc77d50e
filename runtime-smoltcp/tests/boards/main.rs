//! The firmware in QEMU: whole boards, joined by a switch. Where there is no QEMU, the tests say so and pass.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]
#![cfg(unix)]

mod board;
mod costs;
mod flood;
mod floods;
mod mps2;
mod namespace;
mod switch;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use board::{Board, Kind, LM3S6965, QEMU, image};
use namespace::{Namespace, Server, server_ip};
use switch::Switch;

/// How long a command may take, emulated and on a busy machine.
const COMMAND: Duration = Duration::from_secs(60);
/// For how long it is read, again and again, until it is as it must be: an author's emulator may lag behind the reader's.
const READ: Duration = Duration::from_secs(60);
/// Between one look and the next.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a board takes to start.
const START: Duration = Duration::from_secs(30);

/// The stack has not grown beyond its limit.
fn check_stack(board: &mut Board) {
    let stack = board.status("stack-max");
    eprintln!("{stack} bytes of stack at most");
    assert!(stack <= board.kind.stack_max, "{stack} bytes of stack");
}

/// A folder of its own for a test's sockets.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("strandline-{}-{test}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The right to have boards, for one test at a time: each emulates several. `None`, said aloud, where there are none.
fn turn(test: &str, kind: Kind) -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let image = image(kind).inspect_err(|why| eprintln!("{test} SKIPPED: {why}"));
    image.is_ok().then_some(turn)
}

/// Reads until nobody is missing and there is a post that ends like this: a new one is shown once its number is reserved at
/// enough holders, and frames get lost.
fn read(board: &mut Board, wanted: &str) {
    let end = Instant::now() + READ;
    loop {
        let seen = board.command("timeline", COMMAND);
        if seen.1 == "complete" && seen.0.iter().any(|post| post.ends_with(wanted)) {
            return;
        }
        assert!(Instant::now() < end, "no `{wanted}` in {seen:?}");
        std::thread::sleep(PAUSE);
    }
}

/// As [`read`], by a server: its timeline.
fn read_by_server(server: &Server, wanted: &[&str]) -> String {
    let end = Instant::now() + READ;
    loop {
        let answer = server.ask(&["timeline"]);
        let text = String::from_utf8(answer.stdout).unwrap();
        if answer.status.success() && wanted.iter().all(|wanted| text.contains(wanted)) {
            return text;
        }
        assert!(Instant::now() < end, "no {wanted:?} in {text}");
        std::thread::sleep(PAUSE);
    }
}

/// The settings of the `index`th board, which joins through the first.
fn settings(index: usize) -> Vec<String> {
    let mut settings = settings_alone(index);
    if index > 0 {
        settings.push("join=10.0.0.1:7827".to_owned());
    }
    settings
}

/// The settings of the `index`th board, which waits to be joined.
fn settings_alone(index: usize) -> Vec<String> {
    vec![
        format!("name=board{index}"),
        format!("seed={:064x}", 0xb0a2d + index),
        format!("addr=10.0.0.{}/24", index + 1),
        "new=1".to_owned(),
    ]
}

/// So many boards, all joined.
fn boards(switch: &Switch, count: usize) -> Vec<Board> {
    let start = |index| Board::start(LM3S6965, &settings(index), &switch.card(LM3S6965, index));
    let mut boards: Vec<Board> = (0..count).map(start).collect();
    for (index, board) in boards.iter().enumerate() {
        board.wait_for(0, &format!("ready board{index}~"), START);
    }
    all_know(&mut boards, count - 1);
    boards
}

/// Waits until every board knows so many others.
fn all_know(boards: &mut [Board], others: usize) {
    let end = Instant::now() + COMMAND;
    for board in boards {
        while board.status("contacts") < u64::try_from(others).unwrap() {
            assert!(Instant::now() < end, "not everyone knows everyone");
            std::thread::sleep(PAUSE);
        }
    }
}

#[test]
fn three_boards_find_each_other_follow_post_and_read() {
    let Some(_turn) = turn("three boards", LM3S6965) else {
        return;
    };
    let folder = Folder::new("three");
    let switch = Switch::new(&folder.0, 3);
    let mut boards = boards(&switch, 3);
    for board in &mut boards {
        let (_, end) = board.command("register", COMMAND);
        assert!(end.starts_with("stored "), "{end}");
    }
    for (reader, board) in boards.iter_mut().enumerate() {
        let author = (reader + 1) % 3;
        let (_, end) = board.command(&format!("follow board{author}"), COMMAND);
        assert!(
            end.starts_with(&format!("followed board{author}~")),
            "{end}"
        );
        let mut counts = end.rsplit(' ').map(|word| word.parse::<u8>().unwrap());
        let (wanted, accepted) = (counts.next().unwrap(), counts.next().unwrap());
        assert!(accepted >= wanted, "{end}");
    }
    let posting: Vec<String> = boards
        .iter_mut()
        .enumerate()
        .map(|(author, board)| {
            let from = board.printed();
            board.type_line(&format!("post tide {author}"));
            board.wait_for(from, "begun ", COMMAND)
        })
        .collect();
    for (reader, board) in boards.iter_mut().enumerate() {
        read(board, &format!("author tide {}", (reader + 1) % 3));
    }
    // Each is acknowledged, now that a follower holds it.
    for (board, query) in boards.iter_mut().zip(posting) {
        let end = board.wait_for(0, &format!("ended {query} "), COMMAND);
        assert_eq!(end, "posted 1");
        check_stack(board);
    }
}

/// One board's user follows another's.
fn follow(boards: &mut [Board], reader: usize, author: usize) {
    let (_, end) = boards[reader].command(&format!("follow board{author}"), COMMAND);
    assert!(end.starts_with("followed "), "{end}");
}

#[test]
fn an_author_that_is_unplugged_is_read_from_another_board() {
    let Some(_turn) = turn("a replica on a board", LM3S6965) else {
        return;
    };
    let folder = Folder::new("replica");
    let switch = Switch::new(&folder.0, 3);
    let mut boards = boards(&switch, 3);
    // Every board loses frames from now on.
    switch.lose(20);
    for board in &mut boards {
        let (_, end) = board.command("register", COMMAND);
        assert!(end.starts_with("stored "), "{end}");
    }
    follow(&mut boards, 0, 2);
    follow(&mut boards, 1, 2);
    let from = boards[2].printed();
    boards[2].type_line("post written on wet sand");
    let query = boards[2].wait_for(from, "begun ", COMMAND);
    read(&mut boards[0], "author written on wet sand");
    let end = boards[2].wait_for(from, &format!("ended {query} "), COMMAND);
    assert_eq!(end, "posted 1");
    switch.unplug(2, true);
    read(&mut boards[1], "replica:board0 written on wet sand");
}

/// Reads until everyone's post is there and somebody has asked on the reader's behalf: the posts, and who asked whom for a
/// stream. On a busy machine the reader may find nobody to ask for it, and asks all by itself.
fn read_by_relay(
    board: &mut Board,
    switch: &Switch,
    wanted: &[String],
) -> (Vec<String>, Vec<(usize, usize)>) {
    let until = Instant::now() + READ;
    loop {
        switch.take_opened();
        let (posts, end) = board.command("timeline", COMMAND);
        let opened = switch.take_opened();
        let has = |text: &String| posts.iter().any(|post| post.ends_with(text));
        let relayed = opened.iter().any(|(from, _)| *from != 0);
        if end == "complete" && relayed && wanted.iter().all(has) {
            return (posts, opened);
        }
        let patient = Instant::now() < until;
        assert!(patient, "{wanted:?} not read by a relay: {opened:?}");
        std::thread::sleep(Duration::from_secs(2));
    }
}

#[test]
fn a_board_in_the_middle_of_a_get_tree_relays_and_is_routed_around() {
    const READER: usize = 0;
    let Some(_turn) = turn("a relay", LM3S6965) else {
        return;
    };
    let folder = Folder::new("relay");
    let switch = Switch::new(&folder.0, 4);
    let mut boards = boards(&switch, 4);
    // A board asks two at a time: the third is asked by one of them.
    for author in 1..4 {
        follow(&mut boards, READER, author);
        boards[author].type_line(&format!("post tide {author}"));
    }
    let live: Vec<String> = (1..4).map(|n| format!("author tide {n}")).collect();
    // The reader has a live post of somebody with whom it had no stream, but another board had one.
    let (_, opened) = read_by_relay(&mut boards[READER], &switch, &live);
    let &(middle, asked) = opened.iter().find(|(from, _)| *from != READER).unwrap();
    assert!(opened.contains(&(READER, middle)), "{opened:?}");
    assert!(!opened.contains(&(READER, asked)), "{opened:?}");

    // Whoever is in the middle is cut off when it asks.
    switch.unplug_who_opens(READER);
    let text: Vec<String> = (1..4).map(|n| format!("tide {n}")).collect();
    let (posts, opened) = read_by_relay(&mut boards[READER], &switch, &text);
    let middle = switch.trapped().unwrap();
    for author in (1..4).filter(|author| *author != middle) {
        let live = format!("author tide {author}");
        assert!(posts.iter().any(|post| post.ends_with(&live)), "{posts:?}");
    }
    let asked_instead = opened.iter().filter(|(from, _)| *from == READER).count();
    assert!(asked_instead > 2, "{opened:?}");
}

#[test]
fn a_board_that_is_reset_is_back_within_five_seconds_and_uses_no_number_again() {
    let Some(_turn) = turn("a reset", LM3S6965) else {
        return;
    };
    let folder = Folder::new("reset");
    let switch = Switch::new(&folder.0, 3);
    let mut boards = boards(&switch, 3);
    follow(&mut boards, 0, 1);
    let from = boards[1].printed();
    boards[1].type_line("post before");
    read(&mut boards[0], "author before");
    boards[1].wait_for(from, "ended ", COMMAND);
    // It keeps a copy of somebody else's post too.
    follow(&mut boards, 1, 0);
    boards[0].type_line("post of another");
    read(&mut boards[1], "author of another");
    assert!(boards[1].used("copies") > 0);
    let before = boards[1].wait_for(0, "ready ", START);

    let from = boards[1].printed();
    boards[1].type_line("reset");
    assert!(boards[1].wait_for(from, "start ", START).starts_with("2 "));
    // The same user at the same address.
    assert_eq!(boards[1].wait_for(from, "ready ", START), before);
    // It has forgotten its posts, and signs nothing before it knows which numbers are free.
    let refused = boards[1].printed();
    boards[1].type_line("post too early");
    boards[1].wait_for(refused, "refused: recovering", COMMAND);
    boards[1].wait_for(from, "up 10.0.0.1:", START);
    assert_eq!(boards[1].used("copies"), 0, "it was reset");
    // It answers: without it, there are two to store a record.
    let (_, end) = boards[0].command("register", COMMAND);
    assert_eq!(end, "stored 3 3");
    // By its own clock, which began anew.
    let took_ms = boards[1].status("uptime-ms");
    assert!(took_ms < 5_000, "{took_ms}");
    let next: u64 = boards[1]
        .wait_for(from, "recovered ", COMMAND)
        .parse()
        .unwrap();
    assert!(
        next > 2,
        "{next}: a gap, and no number that was ever reserved"
    );
    boards[1].type_line("post after");
    boards[1].wait_for(refused, "begun ", COMMAND);
    read(&mut boards[0], &format!(" {next} author after"));
    // The same node, too: another would be a third contact.
    assert_eq!(boards[0].status("contacts"), 2);
}

#[test]
fn boards_and_servers_are_one_network() {
    const BOARDS: usize = 3;
    const SERVERS: usize = 5;
    /// The server that is killed, the board that has a copy of its post, one that reads it from there, and one that comes too late.
    const AUTHOR: usize = 2;
    const HOLDER: usize = 2;
    const READER: usize = 4;
    const LATE: usize = 3;
    /// For how long the board may keep it.
    const KEEP_S: u64 = 20;
    /// By how much a board's clock may fall behind.
    const LATENESS: Duration = Duration::from_secs(10);
    /// How `timeline` ends when posts are missing.
    const INCOMPLETE: i32 = 5;
    let Some(_turn) = turn("boards and servers", LM3S6965) else {
        return;
    };
    let folder = Folder::new("mixed");
    let network = match Namespace::new(&folder.0, BOARDS, SERVERS) {
        Ok(network) => network,
        Err(why) => {
            eprintln!("boards and servers SKIPPED: {why}");
            return;
        }
    };
    let keep = format!("{KEEP_S}s");
    let options = |index| match index {
        AUTHOR => ["--keep", &keep],
        // It reads when it is told to.
        LATE => ["--refresh", "0"],
        _ => ["--keep", "1h"],
    };
    let mut servers: Vec<_> = (0..SERVERS)
        .map(|index| network.server(index, &options(index)))
        .collect();
    let mut boards: Vec<Board> = (0..BOARDS)
        .map(|index| {
            let mut settings = settings_alone(index);
            settings.push(format!("join={}:7827", server_ip(0)));
            let card = Namespace::card(LM3S6965, index);
            let board = Board::start_by(network.command(QEMU), LM3S6965, &settings, &card);
            // One after the other: who joins finds those that have joined.
            board.wait_for(0, "ended ", COMMAND);
            board
        })
        .collect();
    all_know(&mut boards, BOARDS + SERVERS - 1);
    for board in &mut boards {
        let (_, end) = board.command("register", COMMAND);
        assert!(end.starts_with("stored "), "{end}");
    }

    // A server's user follows a board's, and the reverse; each posts.
    for index in 0..BOARDS {
        servers[index].object(&["follow", &format!("board{index}")]);
        let (_, end) = boards[index].command(&format!("follow server{index}"), COMMAND);
        assert!(end.starts_with("followed "), "{end}");
        servers[index].object(&["post", &format!("high tide {index}")]);
        let from = boards[index].printed();
        boards[index].type_line(&format!("post low tide {index}"));
        boards[index].wait_for(from, "begun ", COMMAND);
    }
    for index in 0..BOARDS {
        let wanted = format!("low tide {index}");
        read_by_server(&servers[index], &["\"complete\":true", &wanted]);
        read(&mut boards[index], &format!("author high tide {index}"));
    }

    // An author dies, of whom only a board has a copy.
    servers[READER].object(&["follow", "server2"]);
    servers[LATE].object(&["follow", "server2"]);
    read(&mut boards[HOLDER], "author high tide 2");
    let confirmed_ms = boards[HOLDER].status("uptime-ms");
    drop(servers.remove(AUTHOR));
    let (late, reader) = (&servers[LATE - 1], &servers[READER - 1]);
    read_by_server(reader, &["high tide 2", "\"via\":\"replica:board2\""]);

    // The copy expires: neither the board nor who had it from there shows it again.
    while boards[HOLDER].used("copies") > 0 {
        let kept_ms = boards[HOLDER].status("uptime-ms") - confirmed_ms;
        assert!(kept_ms < (KEEP_S + 5) * 1_000, "kept for {kept_ms} ms");
        std::thread::sleep(PAUSE);
    }
    let (posts, end) = boards[HOLDER].command("timeline", COMMAND);
    assert_eq!(end, "incomplete");
    let missing = |line: &String| line.starts_with("missing ") && line.contains(" server2~");
    assert_eq!(
        posts.iter().filter(|line| missing(line)).count(),
        1,
        "{posts:?}"
    );
    assert!(
        !posts.iter().any(|line| line.contains("high tide")),
        "{posts:?}"
    );
    // A board's clock falls behind when the machine is busy, and catches up: what it said was left may end after its own copy.
    let expired_by = Instant::now() + LATENESS;
    let shown = loop {
        let answer = reader.ask(&["timeline"]);
        let text = String::from_utf8(answer.stdout).unwrap();
        if answer.status.code() == Some(INCOMPLETE) {
            break text;
        }
        assert!(Instant::now() < expired_by, "{text}");
        std::thread::sleep(PAUSE);
    };
    let answer = late.ask(&["timeline"]);
    assert_eq!(answer.status.code(), Some(INCOMPLETE), "{answer:?}");
    for text in [shown, String::from_utf8(answer.stdout).unwrap()] {
        assert!(
            text.contains("server2") && !text.contains("high tide 2"),
            "{text}"
        );
    }
    for board in &mut boards {
        check_stack(board);
    }
}
