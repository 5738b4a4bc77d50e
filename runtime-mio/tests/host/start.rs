//! How a host starts and ends: what it refuses, what it leaves alone, and what it clears away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::{Scratch, failure, none, open, options, up};
use serde_json::Value;
use strandline_core::id::UserId;
use strandline_core::output::{Class, PersistId, Stored};
use strandline_mio::home::{DATABASE_FILE, IDENTITY_FILE, NODE_FILE};
use strandline_mio::store::Store;
use strandline_mio::{Exit, Home};

#[test]
fn a_new_node_is_ready_at_once_and_says_its_real_port() {
    let scratch = Scratch::new();
    let began = Instant::now();
    let node = up(&scratch.path("home"), &options("alice", &[]));
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "nothing to wait for"
    );
    assert_ne!(node.addr().port(), 0);
    assert!(node.handle().starts_with("alice~"));
    let whoami = node.ok("whoami", &none());
    assert_eq!(whoami.get("handle").unwrap(), &node.handle());
    let status = node.ok("status", &none());
    assert_eq!(status.get("health").unwrap(), "alone");
    assert_eq!(status.get("listen").unwrap(), &node.addr().to_string());
    assert_eq!(status.pointer("/clock/source").unwrap(), "system");
    assert_eq!(status.pointer("/dropped/signature").unwrap(), 0);
    assert_eq!(
        node.ok("peers", &none()).get("peers").unwrap(),
        &Value::Array(vec![])
    );
}

#[test]
fn the_same_home_has_the_same_identity() {
    let scratch = Scratch::new();
    let home = scratch.path("home");
    let first = up(&home, &options("alice", &[]));
    let handle = first.handle();
    let id = first.ok("whoami", &none());
    first.stop();
    let mut nameless = options("", &[]);
    nameless.name = None;
    let second = up(&home, &nameless);
    assert_eq!(second.handle(), handle);
    assert_eq!(second.ok("whoami", &none()), id);
}

#[test]
fn stopping_ends_in_time_and_clears_the_socket_away() {
    let scratch = Scratch::new();
    for by_command in [false, true] {
        let mut node = up(&scratch.path("home"), &options("alice", &[]));
        let control = node.ready.control.clone();
        let began = Instant::now();
        if by_command {
            assert_eq!(node.ok("stop", &none()).to_string(), r#"{"v":1}"#);
            node.join();
        } else {
            node.stop();
        }
        assert!(began.elapsed() < Duration::from_secs(4));
        assert!(!control.exists());
    }
}

#[test]
fn the_socket_of_a_killed_node_is_replaced() {
    let scratch = Scratch::new();
    let home = scratch.path("home");
    let node = up(&home, &options("alice", &[]));
    let control = node.ready.control.clone();
    node.kill();
    assert!(control.exists());
    let node = up(&home, &options("alice", &[]));
    node.ok("whoami", &none());
}

#[test]
fn a_second_node_on_one_home_is_refused_and_the_first_goes_on() {
    let scratch = Scratch::new();
    let home = scratch.path("home");
    let node = up(&home, &options("alice", &[]));
    let refused = failure(&home, &options("alice", &[]));
    assert_eq!(refused.exit, Exit::NotPermitted);
    node.ok("whoami", &none());
}

#[test]
fn a_taken_port_is_refused_and_leaves_no_identity_behind() {
    let scratch = Scratch::new();
    let node = up(&scratch.path("one"), &options("alice", &[]));
    let mut same = options("bob", &[]);
    same.listen = node.addr();
    let refused = failure(&scratch.path("two"), &same);
    assert_eq!(refused.exit, Exit::Internal);
    assert!(refused.why.contains("taken"), "{refused}");
    assert!(!scratch.path("two").join(IDENTITY_FILE).exists());
}

#[test]
fn options_that_make_no_sense_are_usage_errors() {
    let scratch = Scratch::new();
    let home = scratch.path("home");
    let exit = |change: &dyn Fn(&mut strandline_mio::Options)| {
        let mut changed = options("alice", &[]);
        change(&mut changed);
        failure(&home, &changed).exit
    };
    assert_eq!(exit(&|o| o.name = None), Exit::Usage);
    assert_eq!(exit(&|o| o.name = Some("Alice".into())), Exit::Usage);
    assert_eq!(exit(&|o| o.fanout = 0), Exit::Usage);
    assert_eq!(exit(&|o| o.fanout = 17), Exit::Usage);
    assert_eq!(exit(&|o| o.keep = Duration::ZERO), Exit::Usage);
    assert_eq!(exit(&|o| o.keep = Duration::from_secs(86_401)), Exit::Usage);
    assert_eq!(exit(&|o| o.keep = Duration::MAX), Exit::Usage);
    assert_eq!(exit(&|o| o.join = vec!["nowhere".into()]), Exit::Usage);
    assert_eq!(exit(&|o| o.ntp = vec!["x".into(); 9]), Exit::Usage);
    assert_eq!(exit(&|o| o.ntp = vec!["a b".into()]), Exit::Usage);
    assert_eq!(exit(&|o| o.network = String::new()), Exit::Usage);
    open(&home, &options("alice", &[])).unwrap();
    assert_eq!(exit(&|o| o.name = Some("bob".into())), Exit::Usage);
}

#[test]
fn damaged_keys_are_refused_and_kept_as_they_are() {
    let scratch = Scratch::new();
    let home = scratch.path("home");
    up(&home, &options("alice", &[])).stop();
    for file in [IDENTITY_FILE, NODE_FILE] {
        let path = home.join(file);
        let intact = fs::read_to_string(&path).unwrap();
        let damaged = intact.replace("secret ", "secret 0");
        fs::write(&path, &damaged).unwrap();
        let refused = failure(&home, &options("alice", &[]));
        assert_eq!(refused.exit, Exit::Damaged);
        assert!(refused.next.contains("identity restore"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
        fs::write(&path, &intact).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let refused = failure(&home, &options("alice", &[]));
        assert_eq!(refused.exit, Exit::NotPermitted);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }
    up(&home, &options("alice", &[])).stop();
}

#[test]
fn a_damaged_database_is_refused_and_kept_as_it_is() {
    let scratch = Scratch::new();
    let home = scratch.path("home");
    up(&home, &options("alice", &[])).stop();
    let path = home.join(DATABASE_FILE);
    let intact = fs::read(&path).unwrap();
    for damaged in [
        vec![7; intact.len()],
        Vec::new(),
        b"SQLite format 3\0".to_vec(),
    ] {
        fs::write(&path, &damaged).unwrap();
        let refused = failure(&home, &options("alice", &[]));
        assert_eq!(refused.exit, Exit::Damaged, "{refused}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
    fs::write(&path, &intact).unwrap();
    up(&home, &options("alice", &[])).stop();
}

#[test]
fn a_database_without_its_identity_is_not_given_to_another() {
    let scratch = Scratch::new();
    let (alice, bob) = (scratch.path("alice"), scratch.path("bob"));
    up(&alice, &options("alice", &[])).stop();
    up(&bob, &options("bob", &[])).stop();
    for file in [IDENTITY_FILE, NODE_FILE] {
        fs::copy(bob.join(file), alice.join(file)).unwrap();
    }
    let refused = failure(&alice, &options("bob", &[]));
    assert_eq!(refused.exit, Exit::Damaged);
    assert!(refused.why.contains("another identity"), "{refused}");
}

#[test]
fn a_start_that_was_interrupted_before_there_was_an_identity_is_made_good() {
    let scratch = Scratch::new();
    let home = scratch.path("home");
    fs::create_dir(&home).unwrap();
    let nobody = UserId::from_bytes([1; 32]);
    Store::create(&home.join(DATABASE_FILE), &nobody, false).unwrap();
    fs::write(home.join(NODE_FILE), "left over").unwrap();
    up(&home, &options("alice", &[])).stop();
    up(&home, &options("alice", &[])).stop();
}

#[test]
fn a_database_whose_identity_is_missing_is_not_given_to_a_new_one() {
    let scratch = Scratch::new();
    let home = scratch.path("home");
    fs::create_dir(&home).unwrap();
    let path = home.join(DATABASE_FILE);
    let owner = UserId::from_bytes([1; 32]);
    let mut store = Store::create(&path, &owner, false).unwrap();
    let contact = Stored {
        class: Class::Contact,
        key: &[1; 32],
        value: Some(&[2; 18]),
    };
    store.persist(PersistId(1), contact);
    assert_eq!(store.commit(), Some(Ok(PersistId(1))));
    drop(store);
    let before = fs::read(&path).unwrap();
    let refused = failure(&home, &options("alice", &[]));
    assert_eq!(refused.exit, Exit::Damaged);
    assert!(refused.next.contains("identity restore"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(!home.join(IDENTITY_FILE).exists());
}

#[test]
fn a_lost_database_is_recovered_from_the_network_first() {
    let scratch = Scratch::new();
    let home = scratch.path("home");
    up(&home, &options("alice", &[])).stop();
    fs::remove_file(home.join(DATABASE_FILE)).unwrap();
    for _ in 0..2 {
        let node = up(&home, &options("alice", &[]));
        let status = node.ok("status", &none());
        assert_eq!(status.get("health").unwrap(), "recovering");
        node.kill();
    }
}

#[test]
fn a_backup_carries_the_identity_to_another_home() {
    let scratch = Scratch::new();
    let (home, file) = (scratch.path("home"), scratch.path("backup"));
    let node = up(&home, &options("alice", &[]));
    let handle = Home::backup(&home, &file).unwrap().to_string();
    assert_eq!(handle, node.handle());
    let other = scratch.path("other");
    Home::restore(&other, &file).unwrap();
    node.stop();
    let node = up(&other, &options("alice", &[]));
    assert_eq!(node.handle(), handle);
}

#[test]
fn an_unreachable_entrance_delays_ready_no_longer_than_its_time() {
    let scratch = Scratch::new();
    let gone = up(&scratch.path("gone"), &options("gone", &[]));
    let addr = gone.addr();
    gone.kill();
    let began = Instant::now();
    let node = up(&scratch.path("home"), &options("alice", &[addr]));
    assert!(began.elapsed() < Duration::from_secs(8));
    assert_eq!(node.ok("status", &none()).get("health").unwrap(), "alone");
}
