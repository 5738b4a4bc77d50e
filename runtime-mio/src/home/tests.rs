#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::scratch::Scratch;

fn identity(name: &str) -> Identity {
    Identity {
        user: SecretKey::from_bytes([7; 32]),
        node: SecretKey::from_bytes([9; 32]),
        name: Name::parse(name).unwrap(),
    }
}

fn home_of(scratch: &Scratch, name: &str) -> PathBuf {
    let dir = scratch.path().join(name);
    let home = Home::open(&dir).unwrap();
    home.create_identity(&identity(name)).unwrap();
    dir
}

fn exit_of(dir: &Path) -> Exit {
    read_identity(dir).err().unwrap().exit
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_identity_reads_back_and_is_readable_by_nobody_else() {
    let scratch = Scratch::new();
    let dir = home_of(&scratch, "alice");
    let read = read_identity(&dir).unwrap().unwrap();
    assert!(same(&read, &identity("alice")));
    assert_eq!(mode_of(&dir), 0o700);
    assert_eq!(mode_of(&dir.join(IDENTITY_FILE)), 0o600);
    assert_eq!(mode_of(&dir.join(NODE_FILE)), 0o600);
}

#[test]
fn a_new_home_has_no_identity_even_if_its_making_was_interrupted() {
    let scratch = Scratch::new();
    let home = Home::open(scratch.path()).unwrap();
    assert!(home.identity().unwrap().is_none());
    fs::write(scratch.path().join("identity.tmp"), "half of").unwrap();
    fs::write(scratch.path().join(NODE_FILE), "left over").unwrap();
    assert!(home.identity().unwrap().is_none());
    home.create_identity(&identity("alice")).unwrap();
    assert!(home.identity().unwrap().is_some());
}

#[test]
fn an_identity_is_never_overwritten() {
    let scratch = Scratch::new();
    let dir = home_of(&scratch, "alice");
    let before = fs::read(dir.join(NODE_FILE)).unwrap();
    let home = Home::open(&dir).unwrap();
    let failure = home.create_identity(&identity("bob")).unwrap_err();
    assert_eq!(failure.exit, Exit::NotPermitted);
    assert_eq!(home.identity().unwrap().unwrap().name.as_str(), "alice");
    assert_eq!(fs::read(dir.join(NODE_FILE)).unwrap(), before);
}

#[test]
fn a_home_has_one_node_at_a_time() {
    let scratch = Scratch::new();
    let first = Home::open(scratch.path()).unwrap();
    let failure = Home::open(scratch.path()).unwrap_err();
    assert_eq!(failure.exit, Exit::NotPermitted);
    assert!(failure.why.contains("another node"), "{failure}");
    drop(first);
    Home::open(scratch.path()).unwrap();
}

#[test]
fn a_home_that_cannot_be_made_is_not_permitted() {
    let scratch = Scratch::new();
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    let failure = Home::open(&file.join("home")).unwrap_err();
    assert_eq!(failure.exit, Exit::NotPermitted);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    for name in [IDENTITY_FILE, NODE_FILE] {
        for mode in [0o640, 0o604, 0o620] {
            let scratch = Scratch::new();
            let dir = home_of(&scratch, "alice");
            fs::set_permissions(dir.join(name), PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(exit_of(&dir), Exit::NotPermitted, "{name} {mode:o}");
        }
    }
}

#[test]
fn every_damaged_byte_of_a_key_file_is_noticed_and_the_file_kept() {
    let scratch = Scratch::new();
    let dir = home_of(&scratch, "alice");
    for name in [IDENTITY_FILE, NODE_FILE] {
        let path = dir.join(name);
        let intact = fs::read(&path).unwrap();
        let flipped = (0..intact.len()).map(|at| {
            let mut bytes = intact.clone();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1;
            }
            bytes
        });
        let cut = (0..intact.len()).map(|len| intact.iter().copied().take(len).collect());
        for bytes in flipped.chain(cut) {
            fs::write(&path, &bytes).unwrap();
            assert_eq!(exit_of(&dir), Exit::Damaged, "{name} {bytes:?}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        fs::write(&path, &intact).unwrap();
    }
    assert!(read_identity(&dir).unwrap().is_some());
}

#[test]
fn a_missing_node_key_is_not_made_anew() {
    let scratch = Scratch::new();
    let dir = home_of(&scratch, "alice");
    fs::remove_file(dir.join(NODE_FILE)).unwrap();
    assert_eq!(exit_of(&dir), Exit::Damaged);
}

#[test]
fn a_wrong_file_a_later_version_and_damage_are_told_apart() {
    let fields = [("name", "alice")];
    let text = encode(IDENTITY_MAGIC, &fields);
    assert_eq!(decode(&text, IDENTITY_MAGIC, ["name"]), Ok(["alice"]));
    assert_eq!(decode(&text, NODE_MAGIC, ["name"]), Err(Fault::NotOurs));
    assert_eq!(
        decode(&text, IDENTITY_MAGIC, ["name", "secret"]),
        Err(Fault::Damaged)
    );
    let later = encode(&format!("{IDENTITY_MAGIC} v2\nwas"), &fields);
    assert_eq!(
        decode(&later, IDENTITY_MAGIC, ["name"]),
        Err(Fault::Version)
    );
}

#[test]
fn a_backup_restores_name_and_keys() {
    let scratch = Scratch::new();
    let dir = home_of(&scratch, "alice");
    let file = scratch.path().join("backup");
    let handle = Home::backup(&dir, &file).unwrap();
    assert_eq!(mode_of(&file), 0o600);
    let other = scratch.path().join("other");
    assert_eq!(Home::restore(&other, &file).unwrap(), handle);
    let read = read_identity(&other).unwrap().unwrap();
    assert!(same(&read, &identity("alice")));
    // Once more changes nothing.
    assert_eq!(Home::restore(&other, &file).unwrap(), handle);
}

#[test]
fn a_backup_overwrites_no_file_and_needs_an_identity() {
    let scratch = Scratch::new();
    let dir = home_of(&scratch, "alice");
    let file = scratch.path().join("backup");
    fs::write(&file, "dear").unwrap();
    assert_eq!(
        Home::backup(&dir, &file).unwrap_err().exit,
        Exit::NotPermitted
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "dear");
    let empty = scratch.path().join("empty");
    let failure = Home::backup(&empty, &scratch.path().join("new")).unwrap_err();
    assert_eq!(failure.exit, Exit::NotFound);
}

#[test]
fn restoring_keeps_what_was_there() {
    let scratch = Scratch::new();
    let (alice, bob) = (home_of(&scratch, "alice"), home_of(&scratch, "bob"));
    let file = scratch.path().join("backup");
    Home::backup(&alice, &file).unwrap();
    assert_eq!(
        Home::restore(&bob, &file).unwrap_err().exit,
        Exit::NotPermitted
    );
    fs::write(bob.join(IDENTITY_FILE), "strandline identity key v1\nrust").unwrap();
    Home::restore(&bob, &file).unwrap();
    let kept = fs::read_to_string(bob.join("identity.key.damaged-1")).unwrap();
    assert_eq!(kept, "strandline identity key v1\nrust");
    assert!(bob.join("node.key.damaged-1").exists());
    assert_eq!(read_identity(&bob).unwrap().unwrap().name.as_str(), "alice");
}

#[test]
fn a_running_home_or_a_damaged_backup_is_not_restored() {
    let scratch = Scratch::new();
    let alice = home_of(&scratch, "alice");
    let file = scratch.path().join("backup");
    Home::backup(&alice, &file).unwrap();
    let dir = scratch.path().join("other");
    let running = Home::open(&dir).unwrap();
    assert_eq!(
        Home::restore(&dir, &file).unwrap_err().exit,
        Exit::NotPermitted
    );
    drop(running);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("alice", "alise")).unwrap();
    assert_eq!(Home::restore(&dir, &file).unwrap_err().exit, Exit::Damaged);
    let failure = Home::restore(&dir, &scratch.path().join("none")).unwrap_err();
    assert_eq!(failure.exit, Exit::NotFound);
    assert!(read_identity(&dir).unwrap().is_none());
}

#[test]
fn a_socket_path_may_just_fit() {
    let fits = "x".repeat(SOCKET_PATH_LEN_MAX - "//control.sock".len());
    let path = Home::control_path(&Path::new("/").join(&fits)).unwrap();
    assert_eq!(path.as_os_str().len(), SOCKET_PATH_LEN_MAX);
    let failure = Home::control_path(&Path::new("/").join(fits + "x")).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
}
