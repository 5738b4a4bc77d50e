#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::scratch::Scratch;

const OWNER: UserId = UserId::from_bytes([3; 32]);

fn put(class: Class, key: &'static [u8], value: &'static [u8]) -> Stored<'static> {
    Stored {
        class,
        key,
        value: Some(value),
    }
}

/// A database with some entries, closed.
fn filled(scratch: &Scratch) -> PathBuf {
    let path = scratch.path().join("strandline.db");
    let mut store = Store::create(&path, &OWNER, false).unwrap();
    for (id, item) in (1..).map(PersistId).zip([
        put(Class::Post, b"2", b"second"),
        put(Class::Contact, b"c", b""),
        put(Class::Post, b"1", b"first"),
        put(Class::Log, b"0", b"log"),
    ]) {
        store.persist(id, item);
    }
    assert_eq!(store.commit(), Some(Ok(PersistId(4))));
    path
}

fn entries(path: &Path) -> Vec<(Class, Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    let found = Found::open(path).unwrap().unwrap();
    let take = |item: Stored<'_>| {
        entries.push((item.class, item.key.to_vec(), item.value.unwrap().to_vec()));
        Ok(())
    };
    found.for_each(take).unwrap();
    entries
}

fn exit_of(path: &Path) -> Exit {
    let outcome = Found::open(path).and_then(|found| found.unwrap().for_each(|_| Ok(())));
    outcome.unwrap_err().exit
}

#[test]
fn what_was_committed_reads_back_class_by_class_and_by_key() {
    let scratch = Scratch::new();
    let path = filled(&scratch);
    let [log, first, second, contact] = entries(&path).try_into().unwrap();
    assert_eq!(log, (Class::Log, b"0".to_vec(), b"log".to_vec()));
    assert_eq!(first, (Class::Post, b"1".to_vec(), b"first".to_vec()));
    assert_eq!(second, (Class::Post, b"2".to_vec(), b"second".to_vec()));
    assert_eq!(contact, (Class::Contact, b"c".to_vec(), Vec::new()));
    let found = Found::open(&path).unwrap().unwrap();
    assert_eq!((found.owner(), found.how()), (OWNER, Restored::Intact));
}

#[test]
fn entries_are_replaced_and_deleted() {
    let scratch = Scratch::new();
    let path = filled(&scratch);
    let mut store = Store::open(&path, Found::open(&path).unwrap().unwrap()).unwrap();
    store.persist(PersistId(1), put(Class::Post, b"1", b"changed"));
    let delete = Stored {
        class: Class::Post,
        key: b"2",
        value: None,
    };
    store.persist(PersistId(2), delete);
    store.persist(PersistId(3), delete);
    assert_eq!(store.commit(), Some(Ok(PersistId(3))));
    assert_eq!(store.commit(), None);
    drop(store);
    let posts: Vec<_> = entries(&path)
        .into_iter()
        .filter(|entry| entry.0 == Class::Post)
        .collect();
    assert_eq!(posts, [(Class::Post, b"1".to_vec(), b"changed".to_vec())]);
}

#[test]
fn what_was_not_committed_is_gone_and_what_was_survives_a_crash() {
    let scratch = Scratch::new();
    let path = scratch.path().join("strandline.db");
    let mut store = Store::create(&path, &OWNER, false).unwrap();
    store.persist(PersistId(1), put(Class::Post, b"1", b"first"));
    assert_eq!(store.commit(), Some(Ok(PersistId(1))));
    store.persist(PersistId(2), put(Class::Post, b"2", b"second"));
    // The files as a crash leaves them: everything is in the write-ahead log.
    let crashed = scratch.path().join("crashed.db");
    for suffix in ["", "-wal"] {
        fs::copy(suffixed(&path, suffix), suffixed(&crashed, suffix)).unwrap();
    }
    drop(store);
    assert_eq!(
        entries(&crashed),
        [(Class::Post, b"1".to_vec(), b"first".to_vec())]
    );
    Store::open(&crashed, Found::open(&crashed).unwrap().unwrap()).unwrap();
    assert_eq!(entries(&crashed).len(), 1);
}

#[test]
fn a_full_disk_fails_the_turn_and_every_later_one() {
    let scratch = Scratch::new();
    let path = filled(&scratch);
    let mut store = Store::open(&path, Found::open(&path).unwrap().unwrap()).unwrap();
    store.limit_pages(1);
    let big: &'static [u8] = Box::leak(vec![7; 1000].into_boxed_slice());
    store.persist(PersistId(5), put(Class::Post, b"3", b"third"));
    for (id, key) in (6..).zip([b"4", b"5", b"6", b"7", b"8"]) {
        store.persist(PersistId(id), put(Class::Post, key, big));
    }
    assert_eq!(store.commit(), Some(Err(PersistId(5))));
    assert!(store.failed());
    store.limit_pages(1000);
    store.persist(PersistId(20), put(Class::Log, b"0", b"later"));
    assert_eq!(store.commit(), Some(Err(PersistId(20))));
    drop(store);
    assert_eq!(entries(&path).len(), 4);
}

#[test]
fn fresh_intact_and_lost_are_told_apart_until_recovery() {
    let scratch = Scratch::new();
    let path = scratch.path().join("strandline.db");
    assert!(Found::open(&path).unwrap().is_none());
    let how = |path: &Path| Found::open(path).unwrap().unwrap().how();
    drop(Store::create(&path, &OWNER, false).unwrap());
    assert_eq!(how(&path), Restored::Fresh);

    let path = scratch.path().join("second.db");
    let mut store = Store::create(&path, &OWNER, true).unwrap();
    store.persist(PersistId(1), put(Class::Contact, b"c", b"c"));
    store.commit();
    assert_eq!(how(&path), Restored::Lost);
    store.persist(PersistId(2), put(Class::Log, b"0", b"log"));
    store.recovered();
    assert_eq!(how(&path), Restored::Lost, "not committed yet");
    store.commit();
    assert_eq!(how(&path), Restored::Intact);
}

#[test]
fn the_log_of_a_lost_database_does_not_come_back() {
    let scratch = Scratch::new();
    let path = scratch.path().join("strandline.db");
    let mut store = Store::create(&path, &OWNER, false).unwrap();
    store.persist(PersistId(1), put(Class::Post, b"1", b"first"));
    store.commit();
    let wal = fs::read(suffixed(&path, "-wal")).unwrap();
    drop(store);
    fs::remove_file(&path).unwrap();
    fs::write(suffixed(&path, "-wal"), &wal).unwrap();
    drop(Store::create(&path, &OWNER, true).unwrap());
    assert_eq!(entries(&path), []);
    assert_eq!(fs::read(suffixed(&path, "-wal.orphan")).unwrap(), wal);
}

#[test]
fn every_kind_of_damage_is_refused_and_leaves_the_file_as_it_was() {
    let scratch = Scratch::new();
    let path = filled(&scratch);
    let intact = fs::read(&path).unwrap();
    let garbage = vec![0x5a; intact.len()];
    let value = intact.windows(6).position(|bytes| bytes == b"second");
    let mut flipped = intact.clone();
    *flipped.get_mut(value.unwrap()).unwrap() ^= 1;
    let page = intact.len() / 2;
    let mut page_lost = intact.clone();
    page_lost.get_mut(page..).unwrap().fill(0xff);
    let half = intact.get(..page).unwrap().to_vec();
    for bytes in [garbage, flipped, page_lost, half, Vec::new()] {
        fs::write(&path, &bytes).unwrap();
        assert_eq!(exit_of(&path), Exit::Damaged);
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::write(&path, &intact).unwrap();
    assert_eq!(entries(&path).len(), 4);
}

#[test]
fn somebody_elses_database_and_a_later_version_are_refused() {
    let scratch = Scratch::new();
    let path = filled(&scratch);
    for (pragma, value) in [("user_version", 2), ("application_id", 7)] {
        let db = Connection::open(&path).unwrap();
        db.pragma_update(None, pragma, value).unwrap();
        drop(db);
        assert_eq!(exit_of(&path), Exit::Damaged, "{pragma}");
    }
}

#[test]
fn an_entry_that_core_refuses_is_damage() {
    let scratch = Scratch::new();
    let path = filled(&scratch);
    let refuse = |item: Stored<'_>| {
        let class = item.class;
        let what = "no signature";
        let fine = class != Class::Post;
        fine.then_some(()).ok_or(Damaged { class, what })
    };
    let found = Found::open(&path).unwrap().unwrap();
    let failure = found.for_each(refuse).unwrap_err();
    assert_eq!(failure.exit, Exit::Damaged);
    assert!(failure.why.contains("no signature"), "{failure}");
}

#[test]
fn nobody_else_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let path = scratch.path().join("strandline.db");
    let _store = Store::create(&path, &OWNER, false).unwrap();
    for entry in fs::read_dir(scratch.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}
