//! The contract of the commands about the node itself: how it is, the toolkit, export, keys, and the control channel.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{
    Guarded, Net, Node, ada_and_bob, eventually, fields, has_fields, http, lines_of, list, program,
    run, strandline, text,
};

#[test]
fn whoami_status_and_peers_tell_how_the_node_is() {
    let net = ada_and_bob();
    let [ada, bob] = &net.nodes[..] else {
        panic!("two nodes");
    };
    let whoami = ada.ask(["whoami"]);
    has_fields(&whoami, &["name", "handle", "id"]);
    assert_eq!(whoami["name"], "ada");
    assert_eq!(whoami["handle"], *ada.handle);
    assert_eq!(whoami["id"], ada.ask(["whois", "ada"])["id"]);

    let status = ada.ask(["status"]);
    has_fields(&status, &["health", "clock", "tables", "dropped"]);
    has_fields(
        &status["clock"],
        &["offset_ms", "uncertainty_ms", "source", "age_ms"],
    );
    for table in status["tables"].as_object().unwrap().values() {
        has_fields(table, &["used", "capacity", "bytes"]);
    }
    assert!(
        status["dropped"]
            .as_object()
            .unwrap()
            .values()
            .all(Value::is_u64),
        "{status}"
    );

    let peers = ada.ask(["peers"]);
    let [peer] = list(&peers, "peers") else {
        panic!("one peer: {peers}");
    };
    assert_eq!(fields(peer), ["addr", "id", "rtt_ms"]);
    assert_eq!(text(&peer["id"]).len(), 64);
    assert_eq!(peer["addr"], bob.listen.to_string());
    assert!(peer["rtt_ms"].as_u64().is_some());
    for command in ["whoami", "status", "peers"] {
        let shown = ada.run([command]).exits(0).stdout;
        assert!(
            shown.lines().count() >= 2 && !shown.contains('{'),
            "{shown}"
        );
    }
}

#[test]
fn the_toolkit_works_from_a_shell() {
    let net = Net::of(4, &[]);
    let [first, second, ..] = &net.nodes[..] else {
        panic!("four nodes");
    };
    first.run(["get", "colour"]).exits(3);
    first.ask(["put", "colour", "blue"]);
    second.ask(["put", "colour", "green"]);
    let get = net.nodes[3].ask(["get", "colour"]);
    let mut values: Vec<String> = list(&get, "values")
        .iter()
        .map(|value| text(&value["value"]))
        .collect();
    values.sort();
    assert_eq!(values, ["blue", "green"]);
    // One's own value is replaced; others' are not.
    first.ask(["put", "colour", "red"]);
    let get = net.nodes[2].ask(["get", "colour"]);
    let values = list(&get, "values")
        .iter()
        .map(|value| text(&value["value"]));
    let mut values: Vec<String> = values.collect();
    values.sort();
    assert_eq!(values, ["green", "red"]);

    let lookup = first.ask(["lookup", "colour"]);
    let key = text(&lookup["key"]);
    assert_eq!(key.len(), 64);
    let nodes = list(&lookup, "nodes");
    assert_eq!(nodes.len(), 4, "all of a small network: {lookup}");
    has_fields(&nodes[0], &["id", "addr", "hops", "self"]);
    let own: Vec<&Value> = nodes.iter().filter(|node| node["self"] == true).collect();
    assert_eq!(own.len(), 1, "{lookup}");
    assert_eq!(own[0]["id"], first.ask(["whoami"])["node"]);
    assert_eq!(own[0]["addr"], json!(first.listen.to_string()));
    // The key itself means the same place.
    assert_eq!(text(&second.ask(["lookup", &key])["key"]), key);
    let traced = first.ask(["lookup", "colour", "--trace"]);
    assert_eq!(traced["nodes"], lookup["nodes"]);

    second.ask(["send", "colour", "are you there?"]);
    let long = "x".repeat(2000);
    first.run(["put", "colour", &long]).exits(2);
    first.run(["send", "colour", &long]).exits(2);
}

#[test]
fn somebody_alone_can_do_what_needs_nobody_else() {
    let net = Net::named(&["ada"], &[]);
    let ada = &net.nodes[0];
    ada.post("anybody?");
    assert_eq!(list(&ada.ask(["timeline"]), "posts").len(), 1);
    assert!(ada.handles("followers").is_empty());
    for question in [
        ["whois", "bob"],
        ["follow", "bob"],
        ["timeline", "bob"],
        ["get", "colour"],
    ] {
        ada.run(question).exits(3);
    }
}

#[test]
fn export_writes_everything_one_said() {
    let net = ada_and_bob();
    let [ada, bob] = &net.nodes[..] else {
        panic!("two nodes");
    };
    ada.post("one");
    ada.post("two");
    ada.ask(["follow", "bob"]);
    let export = ada.ask(["export"]);
    assert_eq!(list(&export, "posts").len(), 2);
    assert_eq!(export["following"], json!([bob.handle]));
    let file = net.scratch.join("export.json");
    let path = file.display().to_string();
    let answer = ada.ask(["export", &path]);
    assert_eq!(answer, json!({"v": 1, "file": path, "posts": 2}));
    let written: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(written["posts"], export["posts"]);
    ada.run(["export", &path])
        .exits(6)
        .explains(&["exists", "Nothing was overwritten"]);
    ada.run(["export", "/nonexistent/file"]).exits(3);
}

#[test]
fn an_identity_is_saved_and_brought_back() {
    let mut net = ada_and_bob();
    net.nodes[0].post("mine");
    net.nodes[1].ask(["follow", &net.nodes[0].handle]);
    net.nodes[1].ask(["timeline"]);
    let backup = net.scratch.join("ada.backup");
    let path = backup.display().to_string();
    let ada = &net.nodes[0];
    // Also while the node runs.
    let answer = ada.ask(["identity", "backup", &path]);
    assert_eq!(answer["handle"], *ada.handle);
    assert_eq!(
        fs::metadata(&backup).unwrap().permissions().mode() & 0o777,
        0o600
    );
    ada.run(["identity", "backup", &path])
        .exits(6)
        .explains(&["exists"]);

    net.nodes[0].kill();
    let again = Node::new(&net.scratch, "again", "ada");
    let answer = again.ask(["identity", "restore", &path]);
    assert_eq!(answer["handle"], *net.nodes[0].handle);
    let mut again = again;
    again.start(Some(net.nodes[1].listen));
    assert_eq!(again.handle, net.nodes[0].handle);
    // Its posts are in the copies that followers kept, and its numbers go on after the last.
    let seq = eventually("it recovered what others knew", || {
        let (exit, answer) = again.ask_any(["post", "back"]);
        if exit == 0 {
            Ok(answer["seq"].as_u64().unwrap())
        } else {
            Err(answer.to_string())
        }
    });
    assert!(seq > 1, "number {seq} was used before");

    // Another identity is not overwritten.
    net.nodes[1].kill();
    net.nodes[1]
        .run(["identity", "restore", &path])
        .exits(6)
        .explains(&["bob~"]);
    let empty = net.scratch.join("empty").display().to_string();
    let none = net.scratch.join("none").display().to_string();
    strandline(["--home", &empty, "identity", "backup", &none]).exits(3);
    strandline(["--home", &empty, "identity", "restore", &none]).exits(3);
    let damaged = net.scratch.join("damaged");
    let good = fs::read_to_string(&backup).unwrap();
    fs::write(&damaged, good.replace("name ada", "name eve")).unwrap();
    let damaged = damaged.display().to_string();
    strandline(["--home", &empty, "identity", "restore", &damaged]).exits(7);
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = strandline(["completions", shell]).exits(0).stdout;
        for word in ["timeline", "followers", "identity", "--home"] {
            assert!(
                script.contains(word.trim_start_matches('-')),
                "{word} for {shell}"
            );
        }
    }
    strandline(["completions", "abacus"]).exits(2);
}

#[test]
fn the_control_channel_speaks_http() {
    let net = Net::named(&["ada"], &[]);
    let home = &net.nodes[0].home;
    let ask = |method, path, body: &str| http(home, method, path, body).unwrap();
    let (status, exit, body) = ask("GET", "/v1/whoami", "");
    assert_eq!((status, exit), (200, 0));
    assert_eq!(body["name"], "ada");
    let (status, exit, body) = ask("POST", "/v1/post", r#"{"text":"by curl"}"#);
    assert_eq!((status, exit, &body["seq"]), (200, 0, &json!(1)));
    for (method, path, body, status, exit) in [
        ("POST", "/v1/post", r#"{"text":""}"#, 400, 2),
        ("POST", "/v1/post", "not json", 400, 2),
        ("POST", "/v1/whois", r#"{"handle":"nobody"}"#, 404, 3),
        ("GET", "/v1/nothing", "", 404, 2),
        ("GET", "/", "", 404, 2),
        ("DELETE", "/v1/whoami", "", 405, 2),
    ] {
        let (seen_status, seen_exit, answer) = ask(method, path, body);
        assert_eq!(
            (seen_status, seen_exit),
            (status, exit),
            "{method} {path}: {answer}"
        );
        has_fields(&answer["error"], &["exit", "what", "why", "next"]);
    }
    let (status, _, _) = ask("POST", "/v1/post", &"x".repeat(65 * 1024));
    assert_eq!(status, 413);
    let (_, exit, _) = ask("GET", "/v1/whoami", "");
    assert_eq!(exit, 0, "it serves on");
}

#[test]
fn a_node_can_be_stopped_over_the_control_channel() {
    let mut net = Net::named(&["ada"], &[]);
    let _ = http(&net.nodes[0].home, "POST", "/v1/stop", "{}");
    assert!(net.nodes[0].signal("CONT").success());
}

#[test]
fn global_options_stand_before_or_after_the_command() {
    let net = Net::named(&["ada"], &[]);
    let home = net.nodes[0].home.display().to_string();
    let before = strandline(["--home", &home, "--json", "--timeout", "5", "-v", "whoami"]);
    let after = strandline(["whoami", "--home", &home, "--json", "--timeout", "5s", "-v"]);
    assert_eq!(before.exits(0).json(), after.exits(0).json());
    let variable = run(program()
        .env("STRANDLINE_HOME", &home)
        .args(["whoami", "--json"]));
    assert_eq!(variable.exits(0).json()["name"], "ada");
    // The option counts more than the variable.
    let both = run(program()
        .env("STRANDLINE_HOME", "/nonexistent")
        .args(["--home", &home, "whoami"]));
    both.exits(0);
    let data = net.scratch.join("data");
    fs::create_dir(&data).unwrap();
    std::os::unix::fs::symlink(&home, data.join("strandline")).unwrap();
    run(program().env("XDG_DATA_HOME", &data).arg("whoami")).exits(0);
}

#[test]
fn nobody_reading_is_no_reason_to_panic() {
    let net = Net::named(&["ada"], &[]);
    let ada = &net.nodes[0];
    for number in 0..40 {
        ada.post(&format!("{number} {}", "x".repeat(480)));
    }
    for arguments in [
        &["timeline"][..],
        &["--json", "timeline"],
        &["timeline", "--tail"],
        &["export"],
    ] {
        let mut command = program();
        command.arg("--home").arg(&ada.home).args(arguments);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Guarded(command.spawn().unwrap());
        drop(child.0.stdout.take());
        let stderr = lines_of(child.0.stderr.take().unwrap());
        let status = child.ended();
        let said: Vec<String> = stderr.iter().collect();
        assert_eq!(status.code(), Some(0), "{arguments:?}: {said:?}");
        assert!(said.is_empty(), "{said:?}");
    }
}

#[test]
fn tail_ends_when_its_reader_goes_although_nothing_new_comes() {
    let net = Net::named(&["ada"], &[]);
    let ada = &net.nodes[0];
    ada.post("the last word");
    let mut command = program();
    command.arg("--home").arg(&ada.home);
    let command = command.args(["--json", "timeline", "--tail"]);
    let mut child = Guarded(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    // All that it has to say; the reader goes when this ends.
    let mut reader = BufReader::new(child.0.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("the last word"), "{line}");
    drop(reader);
    assert_eq!(child.ended().code(), Some(0));
}
