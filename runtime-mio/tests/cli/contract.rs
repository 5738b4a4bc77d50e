//! The contract of the command line: for every command its JSON and its exit codes, on a small network that works.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{
    Guarded, Net, Node, SOON, Scratch, ada_and_bob, eventually, fields, has_fields, lines_of, list,
    program, send_signal, text,
};

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn mode(node: &Node, file: &str) -> u32 {
    let file = fs::metadata(node.home.join(file)).unwrap();
    file.permissions().mode() & 0o777
}

#[test]
fn up_prints_one_line_and_says_goodbye_when_asked_to_end() {
    for signal in ["TERM", "INT"] {
        let scratch = Scratch::new();
        let node = Node::new(&scratch, "a", "ada");
        let mut up = node.up();
        let child = up.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = Guarded(child.unwrap());
        let stdout = lines_of(child.0.stdout.take().unwrap());
        let stderr = lines_of(child.0.stderr.take().unwrap());
        let ready = stdout.recv_timeout(SOON).unwrap();
        let words: Vec<&str> = ready.split(' ').collect();
        assert_eq!(words[0], "ready");
        assert_eq!(words[1], "name=ada");
        assert!(words[2].starts_with("handle=ada~"), "{ready}");
        let listen = words[3].strip_prefix("listen=127.0.0.1:").unwrap();
        assert_ne!(listen.parse::<u16>().unwrap(), 0);
        assert_eq!(
            words[4],
            format!("control={}/control.sock", node.home.display())
        );
        assert_eq!(words.len(), 5);
        // The control channel answers as soon as it is ready.
        node.ask(["whoami"]);
        assert_eq!(mode(&node, "control.sock"), 0o600);
        assert_eq!(mode(&node, "identity.key"), 0o600);
        assert_eq!(mode(&node, "node.key"), 0o600);

        send_signal(&child.0, signal);
        assert_eq!(child.ended().code(), Some(0), "after SIG{signal}");
        assert_eq!(stdout.iter().count(), 0, "nothing but the one line");
        let said: Vec<String> = stderr.iter().collect();
        let said = said.join("\n");
        assert!(said.contains("new network"), "{said}");
        assert!(
            said.contains(&format!("--join 127.0.0.1:{listen}")),
            "{said}"
        );
    }
}

#[test]
fn up_with_json_prints_one_event() {
    let scratch = Scratch::new();
    let node = Node::new(&scratch, "a", "ada");
    let child = node
        .up()
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = Guarded(child.unwrap());
    let stdout = lines_of(child.0.stdout.take().unwrap());
    let event: Value = serde_json::from_str(&stdout.recv_timeout(SOON).unwrap()).unwrap();
    assert_eq!(event["v"], 1);
    assert_eq!(event["event"], "ready");
    assert_eq!(event["name"], "ada");
    assert!(text(&event["handle"]).starts_with("ada~"));
    assert!(text(&event["listen"]).starts_with("127.0.0.1:"));
    assert_eq!(
        text(&event["control"]),
        format!("{}/control.sock", node.home.display())
    );
    assert_eq!(fields(&event).len(), 6);
}

#[test]
fn the_command_that_up_prints_is_the_one_with_which_others_join() {
    let scratch = Scratch::new();
    let mut ada = Node::new(&scratch, "a", "ada");
    ada.start(None);
    let log = eventually("it says how to join", || {
        let log = ada.log();
        if log.contains("--join") {
            Ok(log)
        } else {
            Err(log)
        }
    });
    let line = log.lines().find(|line| line.contains("--join")).unwrap();
    let (_, command) = line.split_once("strandline ").unwrap();
    let home = scratch.join("b").display().to_string();
    let words = command.split_whitespace().map(|word| match word {
        "DIR" => home.as_str(),
        "NAME" => "bob",
        word => word,
    });
    let child = program()
        .args(words)
        .args(["--json", "--no-ntp"])
        .stdout(Stdio::piped())
        .spawn();
    let mut child = Guarded(child.unwrap());
    let stdout = lines_of(child.0.stdout.take().unwrap());
    stdout.recv_timeout(SOON).unwrap();
    eventually("they know each other", || {
        let peers = ada.ask(["peers"]);
        if list(&peers, "peers").len() == 1 {
            Ok(())
        } else {
            Err(peers.to_string())
        }
    });
}

#[test]
fn a_home_remembers_its_name_its_posts_and_whom_to_join() {
    let mut net = ada_and_bob();
    net.nodes[1].post("before");
    assert!(net.nodes[1].signal("TERM").success());
    let bob = &net.nodes[1];
    // Neither `--name` nor `--join`.
    let mut up = program();
    up.arg("up").arg("--home").arg(&bob.home).args([
        "--json",
        "--no-ntp",
        "--listen",
        "127.0.0.1:0",
    ]);
    up.args([
        "--network",
        net.scratch.path().file_name().unwrap().to_str().unwrap(),
    ]);
    let child = up.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = Guarded(child.unwrap());
    let stdout = lines_of(child.0.stdout.take().unwrap());
    let event: Value = serde_json::from_str(&stdout.recv_timeout(SOON).unwrap()).unwrap();
    assert_eq!(event["name"], "bob");
    assert_eq!(text(&event["handle"]), bob.handle);
    assert_eq!(bob.post("after"), 2);
    eventually("it finds the network again", || {
        let (exit, whois) = bob.ask_any(["whois", "ada"]);
        if exit == 0 {
            Ok(())
        } else {
            Err(whois.to_string())
        }
    });
    send_signal(&child.0, "TERM");
    let stderr = lines_of(child.0.stderr.take().unwrap());
    let said: Vec<String> = stderr.iter().collect();
    assert!(!said.join("\n").contains("new network"), "{said:?}");
}

#[test]
fn post_answers_its_number_and_time() {
    let net = Net::named(&["ada"], &[]);
    let ada = &net.nodes[0];
    let before = now_ms();
    let first = ada.ask(["post", "one"]);
    assert_eq!(fields(&first), ["seq", "time", "v"]);
    assert_eq!(first["seq"], 1);
    let time = first["time"].as_u64().unwrap();
    assert!((before..=now_ms()).contains(&time), "{time}");
    assert_eq!(ada.ask(["post", "two"])["seq"], 2);
    assert_eq!(
        ada.run(["post", "three"]).exits(0).stdout,
        "posted as number 3\n"
    );

    // Up to 512 bytes of UTF-8, not characters; whatever it begins with.
    ada.ask(["post", &"é".repeat(256)]);
    ada.run(["post", &"é".repeat(257)])
        .exits(2)
        .explains(&["512"]);
    ada.ask(["post", "-5 degrees"]);
    for empty in ["", " \n\t "] {
        ada.run(["post", empty]).exits(2).explains(&["empty"]);
    }
    let timeline = ada.ask(["timeline"]);
    assert_eq!(list(&timeline, "posts").len(), 5);
}

#[test]
fn post_reads_standard_input() {
    let net = Net::named(&["ada"], &[]);
    let ada = &net.nodes[0];
    let post = |bytes: &[u8]| {
        let mut command = program();
        command
            .arg("--home")
            .arg(&ada.home)
            .args(["--json", "post", "-"]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        // It may stop reading before the end.
        let _ = child.stdin.take().unwrap().write_all(bytes);
        child.wait_with_output().unwrap().status.code()
    };
    assert_eq!(post("two\nlines\n".as_bytes()), Some(0));
    assert_eq!(post(b"\n"), Some(2));
    assert_eq!(post(b""), Some(2));
    assert_eq!(post(&[0xff, 0xfe]), Some(2));
    assert_eq!(post(&[b'x'; 100_000]), Some(2));
    assert_eq!(post(&[[b'x'; 512].as_slice(), b"\r\n"].concat()), Some(0));
    assert_eq!(post(&[[b'x'; 513].as_slice(), b"\n"].concat()), Some(2));
    let timeline = ada.ask(["timeline"]);
    assert_eq!(timeline["posts"][1]["text"], "two\nlines");
}

#[test]
fn follow_and_unfollow_answer_the_handle() {
    let net = ada_and_bob();
    let [ada, bob] = &net.nodes[..] else {
        panic!("two nodes");
    };
    let follow = ada.ask(["follow", "bob"]);
    assert_eq!(
        follow,
        json!({"v": 1, "handle": bob.handle, "delivered": true})
    );
    assert_eq!(ada.handles("following"), [bob.handle.as_str()]);
    assert_eq!(bob.handles("followers"), [ada.handle.as_str()]);
    // Once more changes nothing.
    ada.ask(["follow", &bob.handle]);
    assert_eq!(bob.handles("followers"), [ada.handle.as_str()]);

    let unfollow = ada.ask(["unfollow", "bob"]);
    assert_eq!(unfollow, json!({"v": 1, "handle": bob.handle}));
    assert!(ada.handles("following").is_empty());
    eventually("the followed knows", || {
        let followers = bob.handles("followers");
        if followers.is_empty() {
            Ok(())
        } else {
            Err(format!("{followers:?}"))
        }
    });
    ada.run(["unfollow", "bob"]).exits(3);
    ada.run(["follow", "nobody"]).exits(3).explains(&["nobody"]);
    ada.run(["follow", "ada"]).exits(2);
}

#[test]
fn a_follow_counts_although_the_followed_is_away() {
    let mut net = Net::named(&["ada", "bob", "cleo"], &[]);
    let bob = net.nodes[1].handle.clone();
    net.nodes[1].kill();
    let follow = net.nodes[0].ask(["follow", &bob]);
    assert_eq!(follow, json!({"v": 1, "handle": bob, "delivered": false}));
    let join = net.nodes[2].listen;
    net.nodes[1].start(Some(join));
    let ada = net.nodes[0].handle.clone();
    eventually("it learns of it when it is back", || {
        let followers = net.nodes[1].handles("followers");
        if followers == [ada.clone()] {
            Ok(())
        } else {
            Err(format!("{followers:?}"))
        }
    });
}

#[test]
fn timeline_answers_posts_and_the_missing() {
    let net = ada_and_bob();
    let [ada, bob] = &net.nodes[..] else {
        panic!("two nodes");
    };
    let empty = ada.ask(["timeline"]);
    let none = json!([]);
    assert_eq!(
        (&empty["complete"], &empty["posts"], &empty["missing"]),
        (&json!(true), &none, &none)
    );
    for number in 1..=3 {
        bob.post(&format!("bob says {number}"));
    }
    // Anybody can be read, followed or not.
    let timeline = ada.ask(["timeline", "bob"]);
    has_fields(&timeline, &["v", "complete", "posts", "missing"]);
    let posts = list(&timeline, "posts");
    assert_eq!(posts.len(), 3);
    assert_eq!(
        fields(&posts[0]),
        ["author", "handle", "seq", "text", "time", "via"]
    );
    assert_eq!(posts[0]["author"], "bob");
    assert_eq!(posts[0]["handle"], *bob.handle);
    assert_eq!(posts[0]["seq"], 3);
    assert_eq!(posts[0]["text"], "bob says 3");
    assert_eq!(posts[0]["via"], "author");
    // Without a handle: those followed, and oneself.
    assert!(list(&ada.ask(["timeline"]), "posts").is_empty());
    ada.post("ada says 1");
    let timeline = ada.ask(["timeline"]);
    assert_eq!(list(&timeline, "posts").len(), 1);
    assert_eq!(timeline["posts"][0]["via"], "self");
    // The limit is one of output: the newest stay.
    let limited = ada.ask(["timeline", "bob", "--limit", "2"]);
    let seqs: Vec<&Value> = list(&limited, "posts")
        .iter()
        .map(|post| &post["seq"])
        .collect();
    assert_eq!(seqs, [3, 2]);
    assert_eq!(limited["complete"], true);
    ada.run(["timeline", "nobody"])
        .exits(3)
        .explains(&["nobody"]);
    // For people.
    let shown = ada.run(["timeline", "bob"]).exits(0).stdout;
    assert!(shown.starts_with(&bob.handle), "{shown}");
    assert!(shown.contains("\n  bob says 3\n"), "{shown}");
    assert!(
        !shown.contains('\x1b'),
        "no colours where nobody sees them: {shown}"
    );
}

#[test]
fn tail_prints_only_what_is_new_and_ends_with_ctrl_c() {
    let net = ada_and_bob();
    let [ada, bob] = &net.nodes[..] else {
        panic!("two nodes");
    };
    bob.post("one");
    ada.ask(["follow", &bob.handle]);
    let mut command = program();
    command
        .arg("--home")
        .arg(&ada.home)
        .args(["--json", "timeline", "--tail"]);
    let mut tail = Guarded(command.stdout(Stdio::piped()).spawn().unwrap());
    let lines = lines_of(tail.0.stdout.take().unwrap());
    let next = || -> Value { serde_json::from_str(&lines.recv_timeout(SOON).unwrap()).unwrap() };
    let first = next();
    has_fields(&first, &["v", "complete", "posts", "missing"]);
    assert_eq!(list(&first, "posts").len(), 1);
    bob.post("two");
    let second = next();
    assert_eq!(list(&second, "posts").len(), 1, "{second}");
    assert_eq!(second["posts"][0]["text"], "two");
    send_signal(&tail.0, "INT");
    let status = tail.ended();
    assert_eq!(status.code(), Some(0));
    assert_eq!(lines.iter().count(), 0);
}

#[test]
fn following_and_followers_of_others_are_public() {
    let net = Net::named(&["ada", "bob", "cleo"], &[]);
    let [ada, bob, cleo] = &net.nodes[..] else {
        panic!("three nodes");
    };
    assert_eq!(ada.ask(["following"])["handles"], json!([]));
    assert_eq!(ada.ask(["followers"])["handles"], json!([]));
    ada.ask(["follow", "bob"]);
    eventually("a stranger sees it", || {
        let (_, following) = cleo.ask_any(["following", "ada"]);
        let (_, followers) = cleo.ask_any(["followers", &bob.handle]);
        let seen = following["handles"] == json!([bob.handle])
            && followers["handles"] == json!([ada.handle]);
        if seen {
            Ok(())
        } else {
            Err(format!("{following} {followers}"))
        }
    });
    for command in ["following", "followers"] {
        cleo.run([command, "nobody"]).exits(3);
    }
}

#[test]
fn whois_tells_who_somebody_is() {
    let net = ada_and_bob();
    let [ada, bob] = &net.nodes[..] else {
        panic!("two nodes");
    };
    bob.post("hello");
    ada.ask(["timeline", "bob"]);
    let whois = eventually("its post is known", || {
        let whois = ada.ask(["whois", "bob"]);
        if whois["seq"] == 1 {
            Ok(whois)
        } else {
            Err(whois.to_string())
        }
    });
    has_fields(
        &whois,
        &[
            "v",
            "name",
            "handle",
            "id",
            "addr",
            "online",
            "seq",
            "followers",
            "holders",
            "others",
            "chosen_by",
        ],
    );
    assert_eq!(whois["name"], "bob");
    assert_eq!(whois["handle"], *bob.handle);
    assert_eq!(text(&whois["id"]).len(), 64);
    assert_eq!(whois["addr"], bob.listen.to_string());
    assert_eq!(whois["online"], true);
    assert_eq!(whois["followers"], 0);
    assert_eq!(whois["others"], json!([]));
    assert_eq!(whois["chosen_by"], "only");
    assert!(
        list(&whois, "holders").iter().all(Value::is_string),
        "{whois}"
    );
    ada.ask(["follow", "bob"]);
    assert_eq!(ada.ask(["whois", "bob"])["chosen_by"], "pin");
    ada.run(["whois", "nobody"]).exits(3).explains(&["nobody"]);
}
