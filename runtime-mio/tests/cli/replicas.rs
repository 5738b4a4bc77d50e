//! Authors who die, and the copies that their followers keep for as long as they may and no longer.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{GLANCE, Net, Node, SOON, eventually, list, sorted, text};

/// For how long copies are kept here: time for two readings on a busy machine. `STRANDLINE_KEEP_S=30` tries the longer one.
fn keep_s() -> u64 {
    let asked = std::env::var("STRANDLINE_KEEP_S").ok();
    asked.map_or(12, |text| {
        text.parse().expect("STRANDLINE_KEEP_S is a number")
    })
}

fn texts(body: &Value) -> Vec<String> {
    list(body, "posts")
        .iter()
        .map(|post| text(&post["text"]))
        .collect()
}

/// Reads the timeline, partial or not.
fn read(node: &Node) -> (i32, Value) {
    node.ask_any(["timeline"])
}

#[test]
fn copies_outlive_their_author_until_they_expire_and_no_longer() {
    let keep = Duration::from_secs(keep_s());
    let mut net = Net::named(
        &["ada", "bob", "cleo", "dov"],
        &["--keep", &keep_s().to_string()],
    );
    net.meet();
    for reader in 1..=2 {
        net.nodes[reader].ask(["follow", &net.nodes[0].handle]);
    }
    for number in 1..=3 {
        net.nodes[0].post(&format!("ada says {number}"));
    }
    let said = ["ada says 3", "ada says 2", "ada says 1"];
    let (bob_read, cleo_read) = (1, 2);
    let body = net.nodes[bob_read].ask(["timeline"]);
    assert_eq!(texts(&body), said);
    assert!(
        list(&body, "posts")
            .iter()
            .all(|post| post["via"] == "author"),
        "{body}"
    );

    net.nodes[0].kill();
    let killed = Instant::now();
    let [ada, bob, cleo, dov] = &net.nodes[..] else {
        panic!("four nodes");
    };

    // Cleo has never read Ada: what she gets, Bob kept. A post from a copy does not make a reading incomplete.
    let (exit, body) = read(cleo);
    assert_eq!((exit, &body["complete"]), (0, &Value::Bool(true)), "{body}");
    assert_eq!(texts(&body), said, "{body}");
    assert!(
        list(&body, "posts")
            .iter()
            .all(|post| post["via"] == "replica:bob"),
        "{body}"
    );
    // Somebody who does not follow Ada may read the copies too.
    let body = dov.ask(["timeline", &ada.handle]);
    assert_eq!(texts(&body), said, "{body}");
    let via = text(&body["posts"][0]["via"]);
    assert!(via.starts_with("replica:"), "{via}");

    for (number, reader) in [bob, cleo].into_iter().enumerate() {
        let deadline = killed + keep + SOON;
        loop {
            let asked = killed.elapsed();
            let (exit, body) = read(reader);
            if texts(&body).is_empty() {
                assert_eq!(exit, 5, "{body}");
                assert_eq!(body["complete"], false, "{body}");
                let missing = list(&body, "missing");
                assert_eq!(missing.len(), 1, "{body}");
                assert_eq!(missing[0]["handle"], *ada.handle, "{body}");
                assert!(!text(&missing[0]["reason"]).is_empty(), "{body}");
                break;
            }
            assert!(asked < keep, "{asked:?} after its author died: {body}");
            assert_eq!(
                (exit, texts(&body)),
                (0, said.map(str::to_owned).to_vec()),
                "{body}"
            );
            let vias = list(&body, "posts").iter().map(|post| text(&post["via"]));
            assert!({ vias }.all(|via| via.starts_with("replica:")), "{body}");
            assert!(Instant::now() < deadline);
            thread::sleep(GLANCE);
        }
        if number == 0 {
            assert!(
                killed.elapsed() + Duration::from_secs(8) > keep,
                "copies went too early"
            );
        }
    }
    // For people it is said on standard error, with a name and a reason.
    cleo.run(["timeline"]).exits(5).explains(&[&ada.handle]);
    let _ = cleo_read;
}

#[test]
fn a_killed_author_returns_with_everything() {
    let mut net = Net::named(&["ada", "bob", "cleo"], &[]);
    let followers = sorted(vec![
        net.nodes[1].handle.clone(),
        net.nodes[2].handle.clone(),
    ]);
    net.nodes[1].ask(["follow", &net.nodes[0].handle]);
    net.nodes[2].ask(["follow", &net.nodes[0].handle]);
    net.nodes[0].ask(["follow", &net.nodes[1].handle]);
    for number in 1..=3 {
        assert_eq!(net.nodes[0].post(&format!("ada says {number}")), number);
    }
    let before = net.nodes[0].handle.clone();
    net.nodes[0].kill();
    net.nodes[0].begin(None);
    net.nodes[0].ready();
    let [ada, bob, _] = &net.nodes[..] else {
        panic!("three nodes");
    };
    assert_eq!(ada.handle, before);

    let own = ada.ask(["timeline", &ada.handle]);
    assert_eq!(texts(&own), ["ada says 3", "ada says 2", "ada says 1"]);
    assert!(
        list(&own, "posts").iter().all(|post| post["via"] == "self"),
        "{own}"
    );
    assert_eq!(ada.post("ada says 4"), 4);
    assert_eq!(ada.handles("following"), [bob.handle.as_str()]);
    eventually("its followers are as before", || {
        let seen = ada.handles("followers");
        if seen == followers {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
    eventually("its followers read it again", || {
        let (_, body) = read(bob);
        let fresh = texts(&body)
            .first()
            .is_some_and(|newest| newest == "ada says 4");
        let all = texts(&body).len() == 4;
        let direct = list(&body, "posts")
            .iter()
            .all(|post| post["via"] == "author");
        if fresh && all && direct {
            Ok(())
        } else {
            Err(body.to_string())
        }
    });
}

#[test]
fn an_author_who_said_goodbye_is_read_from_copies_too() {
    let mut net = Net::named(&["ada", "bob", "cleo"], &[]);
    for reader in 1..=2 {
        net.nodes[reader].ask(["follow", &net.nodes[0].handle]);
    }
    net.nodes[0].post("so long");
    net.nodes[1].ask(["timeline"]);
    assert!(net.nodes[0].signal("TERM").success());
    let cleo = &net.nodes[2];
    let body = cleo.ask(["timeline"]);
    assert_eq!(texts(&body), ["so long"]);
    assert_eq!(body["posts"][0]["via"], "replica:bob");
    assert_eq!(cleo.ask(["whois", "ada"])["online"], false);
}
