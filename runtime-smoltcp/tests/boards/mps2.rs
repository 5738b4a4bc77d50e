//! The second board: it joins a server, and a board of the first kind.

use super::*;
use crate::board::MPS2_AN386;

#[test]
fn boards_of_two_kinds_find_each_other_and_read_what_the_other_posts() {
    let (Some(_turn), Ok(_)) = (turn("two kinds of boards", MPS2_AN386), image(LM3S6965)) else {
        return;
    };
    let folder = Folder::new("kinds");
    let switch = Switch::new(&folder.0, 2);
    let kinds = [LM3S6965, MPS2_AN386];
    let start = |index| {
        Board::start(
            kinds[index],
            &settings(index),
            &switch.card(kinds[index], index),
        )
    };
    let mut boards: Vec<Board> = (0..2).map(start).collect();
    for (index, board) in boards.iter().enumerate() {
        board.wait_for(0, &format!("ready board{index}~"), START);
    }
    all_know(&mut boards, 1);
    for board in &mut boards {
        let (_, end) = board.command("register", COMMAND);
        assert!(end.starts_with("stored "), "{end}");
    }
    follow(&mut boards, 0, 1);
    follow(&mut boards, 1, 0);
    for (author, board) in boards.iter_mut().enumerate() {
        let from = board.printed();
        board.type_line(&format!("post tide {author}"));
        board.wait_for(from, "begun ", COMMAND);
    }
    read(&mut boards[0], "author tide 1");
    read(&mut boards[1], "author tide 0");
}

#[test]
fn a_second_kind_of_board_joins_a_server_and_exchanges_posts_with_it() {
    let Some(_turn) = turn("a second kind of board and a server", MPS2_AN386) else {
        return;
    };
    let folder = Folder::new("mps2");
    let network = match Namespace::new(&folder.0, 1, 1) {
        Ok(network) => network,
        Err(why) => {
            eprintln!("a second kind of board and a server SKIPPED: {why}");
            return;
        }
    };
    let server = network.server(0, &[]);
    let mut settings = settings_alone(0);
    settings.push(format!("join={}:7827", server_ip(0)));
    let card = Namespace::card(MPS2_AN386, 0);
    let emulator = network.command(QEMU);
    let mut board = Board::start_by(emulator, MPS2_AN386, &settings, &card);
    let joined = board.wait_for(0, "ended ", COMMAND);
    assert!(joined.ends_with(" joined 1"), "{joined}");
    let (_, end) = board.command("register", COMMAND);
    assert!(end.starts_with("stored "), "{end}");

    server.object(&["follow", "board0"]);
    let (_, end) = board.command("follow server0", COMMAND);
    assert!(end.starts_with("followed server0~"), "{end}");
    server.object(&["post", "from the server"]);
    let from = board.printed();
    board.type_line("post from the board");
    let query = board.wait_for(from, "begun ", COMMAND);
    read(&mut board, "author from the server");
    read_by_server(&server, &["\"complete\":true", "from the board"]);
    // Acknowledged, now that a follower holds it.
    let end = board.wait_for(from, &format!("ended {query} "), COMMAND);
    assert_eq!(end, "posted 1");
    check_stack(&mut board);

    // It comes back from a reset as who it was, and finds out which numbers it used.
    let before = board.wait_for(0, "ready ", START);
    let from = board.printed();
    board.type_line("reset");
    assert!(board.wait_for(from, "start ", START).starts_with("2 "));
    assert_eq!(board.wait_for(from, "ready ", START), before);
    let next: u64 = board.wait_for(from, "recovered ", COMMAND).parse().unwrap();
    assert!(
        next > 2,
        "{next}: a gap, and no number that was ever reserved"
    );
}
