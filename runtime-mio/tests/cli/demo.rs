//! The demo ends by itself, with 0 when everything was verified, and leaves nothing behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Guarded, Scratch, eventually, list, program, run, send_signal};

fn demo(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command = program();
    command
        .env("TMPDIR", scratch.path())
        .arg("demo")
        .args(arguments);
    command
}

fn entries(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Asserts that no process was started from a folder in here. Only Linux lets one look.
#[track_caller]
fn assert_nobody_lives_in(scratch: &Scratch) {
    assert_eq!(entries(scratch.path()), Vec::<String>::new());
    let Ok(processes) = fs::read_dir("/proc") else {
        return;
    };
    let here = scratch.path().display().to_string();
    for process in processes.flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        assert!(!line.contains(&format!("{here}/")), "still runs: {line}");
    }
}

#[test]
fn every_step_is_verified_within_a_minute() {
    let scratch = Scratch::new();
    let began = Instant::now();
    let done = run(&mut demo(&scratch, &["--nodes", "6"])).exits(0);
    assert!(began.elapsed() < Duration::from_secs(60));
    let verified = done
        .stdout
        .lines()
        .filter(|line| line.contains('✓'))
        .count();
    assert!(verified >= 8, "{}", done.stdout);
    assert!(done.stdout.contains("replica:"), "{}", done.stdout);
    assert!(
        !done.stdout.contains('\x1b'),
        "no colours where nobody sees them"
    );
    assert_nobody_lives_in(&scratch);
}

#[test]
fn with_json_it_is_one_object() {
    let scratch = Scratch::new();
    let body = run(&mut demo(&scratch, &["--json", "--nodes", "5"]))
        .exits(0)
        .json();
    assert_eq!(body["ok"], true);
    assert!(list(&body, "verified").len() >= 8, "{body}");
    assert!(body["took_ms"].as_u64().unwrap() < 60_000);
    assert_nobody_lives_in(&scratch);
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let mut command = demo(&scratch, &[]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = Guarded(child.unwrap());
    eventually("its nodes start", || {
        let folders = entries(scratch.path());
        let folder = folders.first().ok_or("no folder yet")?;
        let homes = entries(&scratch.join(folder));
        if homes.len() > 4 {
            Ok(())
        } else {
            Err(format!("{homes:?}"))
        }
    });
    send_signal(&child.0, "INT");
    let status = child.ended();
    assert_eq!(status.code(), Some(1), "it was not finished");
    assert_nobody_lives_in(&scratch);
}

#[test]
fn it_needs_enough_people_for_its_story() {
    let scratch = Scratch::new();
    run(&mut demo(&scratch, &["--nodes", "2"])).exits(2);
    run(&mut demo(&scratch, &["--nodes", "1000"])).exits(2);
}
