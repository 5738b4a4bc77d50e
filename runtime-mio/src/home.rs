//! The home folder: the lock that makes one node its owner, and the secret keys in it. Owns the format of the key files
//! and of the backup; knows nothing of the database. Invariant: a file with a key in it appears whole or not at all, is
//! never readable by others, and is never overwritten.
//!
//! A key file is text: a first line that names its kind and version, `field value` lines, and a last line with a checksum,
//! so that damage is told from a file that was never ours.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use strandline_core::config::Identity;
use strandline_core::crypto::{Crypto, Ed25519, SecretKey};
use strandline_core::id::UserId;
use strandline_core::name::{Handle, Name};

use crate::failure::{Exit, Failure};

/// File name of the identity: the user's name and secret key.
pub const IDENTITY_FILE: &str = "identity.key";
/// File name of the node's secret key.
pub const NODE_FILE: &str = "node.key";
/// File name of the database.
pub const DATABASE_FILE: &str = "strandline.db";
/// File name of the control socket.
pub const CONTROL_FILE: &str = "control.sock";
/// File name of the lock.
const LOCK_FILE: &str = "lock";

/// Longest path of a Unix socket in bytes: the size of `sun_path` less its final zero.
pub const SOCKET_PATH_LEN_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Longest key file in bytes; a longer one is not ours.
const KEY_FILE_LEN_MAX: u64 = 1024;
/// Digits of the checksum: 64 bits, against accidents.
const CHECK_DIGITS: usize = 16;

const IDENTITY_MAGIC: &str = "strandline identity key";
const NODE_MAGIC: &str = "strandline node key";
const BACKUP_MAGIC: &str = "strandline identity backup";
const VERSION: &str = "v1";

/// A home folder that this process owns: no other node can use it until this is dropped.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    /// Holds the lock; the system lets go of it when the process ends, however it ends.
    _lock: File,
}

impl Home {
    /// The folder that is used when nobody says otherwise: `strandline` in the XDG data folder.
    #[must_use]
    pub fn default_dir() -> Option<PathBuf> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let data = set("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        data.or_else(|| set("HOME").map(|home| Path::new(&home).join(".local/share")))
            .map(|data| data.join("strandline"))
    }

    /// The control socket of the home at `dir`.
    ///
    /// # Errors
    /// [`Exit::Usage`] when the path is longer than a Unix socket's may be.
    pub fn control_path(dir: &Path) -> Result<PathBuf, Failure> {
        let path = std::path::absolute(dir).unwrap_or_else(|_| dir.into());
        let path = path.join(CONTROL_FILE);
        let len = path.as_os_str().len();
        if len <= SOCKET_PATH_LEN_MAX {
            return Ok(path);
        }
        Err(Failure::new(
            Exit::Usage,
            format!("cannot use the home {}", dir.display()),
            format!(
                "the path of its control socket has {len} bytes; a socket's path has at most {SOCKET_PATH_LEN_MAX}"
            ),
            "Choose a home with a shorter path (--home DIR).",
        ))
    }

    /// Takes the home at `dir`, and creates it (0700) if there is none.
    ///
    /// # Errors
    /// [`Exit::NotPermitted`] when another node uses it, or when it cannot be created or written.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let unwritable = |error: io::Error| {
            Failure::new(
                Exit::NotPermitted,
                format!("cannot use the home {}", dir.display()),
                error.to_string(),
                "Choose a folder that you may write to (--home DIR).",
            )
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(unwritable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(dir.join(LOCK_FILE))
            .map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                dir: dir.into(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                Exit::NotPermitted,
                format!("cannot use the home {}", dir.display()),
                "another node is using it",
                "Stop that node, or choose another home (--home DIR).",
            )),
            Err(TryLockError::Error(error)) => Err(unwritable(error)),
        }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the database is.
    #[must_use]
    pub fn database_path(&self) -> PathBuf {
        self.dir.join(DATABASE_FILE)
    }

    /// Reads the identity; `None` when there is none yet.
    ///
    /// # Errors
    /// [`Exit::NotPermitted`] when a key file cannot be read, or others can read it; [`Exit::Damaged`] when one is damaged
    /// or missing.
    pub fn identity(&self) -> Result<Option<Identity>, Failure> {
        read_identity(&self.dir)
    }

    /// Saves a new identity. The identity's own file comes last: while it is missing, there is none.
    ///
    /// # Errors
    /// [`Exit::NotPermitted`] when there is one already, or when the files cannot be written.
    pub fn create_identity(&self, identity: &Identity) -> Result<(), Failure> {
        self.save(identity)
            .map_err(|error| not_saved(&self.dir.join(IDENTITY_FILE), &error))
    }

    fn save(&self, identity: &Identity) -> io::Result<()> {
        let path = self.dir.join(IDENTITY_FILE);
        if path.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // A node key without an identity is left over from a start that was interrupted.
        let node = encode(NODE_MAGIC, &[("secret", &hex_of(&identity.node))]);
        write_whole(&self.dir.join(NODE_FILE), &node)?;
        let fields = [
            ("name", identity.name.as_str()),
            ("secret", &hex_of(&identity.user)),
        ];
        write_whole(&path, &encode(IDENTITY_MAGIC, &fields))
    }

    /// Copies name and keys of the home at `dir` into one new file (0600), also while a node runs there, and tells whose
    /// they are.
    ///
    /// # Errors
    /// [`Exit::NotFound`] when there is no identity; [`Exit::NotPermitted`] when `file` exists or cannot be written;
    /// else as [`Self::identity`].
    pub fn backup(dir: &Path, file: &Path) -> Result<Handle, Failure> {
        let Some(identity) = read_identity(dir)? else {
            return Err(Failure::new(
                Exit::NotFound,
                format!("cannot back up {}", dir.display()),
                "there is no identity in it",
                "Start a node there first: strandline up --name NAME",
            ));
        };
        let fields = [
            ("name", identity.name.as_str()),
            ("identity", &hex_of(&identity.user)),
            ("node", &hex_of(&identity.node)),
        ];
        create_whole(file, &encode(BACKUP_MAGIC, &fields))
            .map_err(|error| not_saved(file, &error))?;
        Ok(handle_of(&identity))
    }

    /// Brings the identity in the backup `file` into the home at `dir`, which no node may be using, and tells whose it
    /// is. Damaged key files are kept beside it, under another name.
    ///
    /// # Errors
    /// [`Exit::NotFound`] or [`Exit::Damaged`] when the backup cannot be read; [`Exit::NotPermitted`] when another identity
    /// is there, a node runs there, or files cannot be written.
    pub fn restore(dir: &Path, file: &Path) -> Result<Handle, Failure> {
        let another =
            || "Say which file is the backup: strandline identity restore FILE".to_owned();
        let text = read_text(file, Exit::NotFound, another)?;
        let fields = decode(&text, BACKUP_MAGIC, ["name", "identity", "node"]);
        let backup = fields
            .and_then(|[name, user, node]| {
                Ok(Identity {
                    user: secret_of(user)?,
                    node: secret_of(node)?,
                    name: name_of(name)?,
                })
            })
            .map_err(|fault| damaged(file, fault, another()))?;
        let home = Self::open(dir)?;
        match home.identity() {
            Ok(None) => {}
            Ok(Some(present)) if same(&present, &backup) => return Ok(handle_of(&backup)),
            Ok(Some(present)) => {
                return Err(Failure::new(
                    Exit::NotPermitted,
                    format!("cannot restore into {}", dir.display()),
                    format!("{} lives there", handle_of(&present)),
                    "Choose another home (--home DIR).",
                ));
            }
            Err(failure) if failure.exit == Exit::Damaged => home
                .set_aside()
                .map_err(|error| not_saved(&dir.join(IDENTITY_FILE), &error))?,
            Err(failure) => return Err(failure),
        }
        home.create_identity(&backup)?;
        Ok(handle_of(&backup))
    }

    /// Renames both key files, where they exist, to names that were not used before.
    fn set_aside(&self) -> io::Result<()> {
        for name in [IDENTITY_FILE, NODE_FILE] {
            let path = self.dir.join(name);
            if !path.try_exists()? {
                continue;
            }
            let unused = (1u32..)
                .map(|n| self.dir.join(format!("{name}.damaged-{n}")))
                .find(|aside| !aside.exists());
            if let Some(aside) = unused {
                fs::rename(&path, aside)?;
            }
        }
        sync_dir(&self.dir)
    }
}

/// The handle of an identity, as it is shown.
#[must_use]
pub fn handle_of(identity: &Identity) -> Handle {
    Handle::of(identity.name, &user_of(identity))
}

/// The user id of an identity.
#[must_use]
pub fn user_of(identity: &Identity) -> UserId {
    UserId::of_key::<Ed25519>(&Ed25519::public_key(&identity.user))
}

fn same(a: &Identity, b: &Identity) -> bool {
    a.name == b.name
        && a.user.expose_bytes() == b.user.expose_bytes()
        && a.node.expose_bytes() == b.node.expose_bytes()
}

fn read_identity(dir: &Path) -> Result<Option<Identity>, Failure> {
    let path = dir.join(IDENTITY_FILE);
    if matches!(path.try_exists(), Ok(false)) {
        return Ok(None);
    }
    let text = read_secret(&path, dir)?;
    let (name, user) = decode(&text, IDENTITY_MAGIC, ["name", "secret"])
        .and_then(|[name, secret]| Ok((name_of(name)?, secret_of(secret)?)))
        .map_err(|fault| damaged(&path, fault, how_to_restore(dir)))?;
    let path = dir.join(NODE_FILE);
    let text = read_secret(&path, dir)?;
    let node = decode(&text, NODE_MAGIC, ["secret"])
        .and_then(|[secret]| secret_of(secret))
        .map_err(|fault| damaged(&path, fault, how_to_restore(dir)))?;
    Ok(Some(Identity { user, node, name }))
}

/// What is wrong with a key file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// It is something else.
    NotOurs,
    /// Its kind is right and its version is not.
    Version,
    /// It was ours, and is damaged.
    Damaged,
}

/// The command that brings an identity back into the home at `dir`.
pub(crate) fn how_to_restore(dir: &Path) -> String {
    let dir = dir.display();
    format!("Restore it from a backup: strandline --home {dir} identity restore FILE")
}

fn damaged(path: &Path, fault: Fault, next: String) -> Failure {
    let why = match fault {
        Fault::NotOurs => "it is not a Strandline key file",
        Fault::Version => "a later version of Strandline wrote it",
        Fault::Damaged => "it is damaged",
    };
    Failure::new(
        Exit::Damaged,
        format!("cannot use {}", path.display()),
        format!("{why}; nothing was overwritten"),
        next,
    )
}

fn not_saved(path: &Path, error: &io::Error) -> Failure {
    let why = if error.kind() == io::ErrorKind::AlreadyExists {
        "it exists, and is not overwritten".into()
    } else {
        error.to_string()
    };
    Failure::new(
        Exit::NotPermitted,
        format!("cannot write {}", path.display()),
        why,
        "Choose a place that you may write to.",
    )
}

/// Reads a key file that only its owner may read.
fn read_secret(path: &Path, dir: &Path) -> Result<String, Failure> {
    let mode = fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o077 != 0 {
        return Err(Failure::new(
            Exit::NotPermitted,
            format!("cannot use {}", path.display()),
            "other users of this machine may read it",
            format!("Make it yours alone: chmod 600 {}", path.display()),
        ));
    }
    read_text(path, Exit::Damaged, || how_to_restore(dir))
}

/// Reads a short text file; a missing one ends with `missing`. `next` is what to do when it cannot be used.
fn read_text(path: &Path, missing: Exit, next: impl Fn() -> String) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        file.take(KEY_FILE_LEN_MAX + 1)
            .read_to_end(&mut bytes)
            .map(drop)
    });
    match read {
        Ok(()) if bytes.len() as u64 > KEY_FILE_LEN_MAX => {
            Err(damaged(path, Fault::NotOurs, next()))
        }
        Ok(()) => String::from_utf8(bytes).map_err(|_| damaged(path, Fault::NotOurs, next())),
        Err(error) => {
            let (exit, why) = if error.kind() == io::ErrorKind::NotFound {
                (missing, "there is no such file".to_owned())
            } else {
                (Exit::NotPermitted, error.to_string())
            };
            let what = format!("cannot read {}", path.display());
            Err(Failure::new(exit, what, why, next()))
        }
    }
}

fn encode(magic: &str, fields: &[(&str, &str)]) -> String {
    let mut text = format!("{magic} {VERSION}\n");
    for (name, value) in fields {
        text.push_str(&format!("{name} {value}\n"));
    }
    let check = checksum(&text);
    text.push_str(&format!("check {check}\n"));
    text
}

/// Takes the text apart; it has exactly the fields named.
fn decode<'t, const N: usize>(
    text: &'t str,
    magic: &str,
    names: [&str; N],
) -> Result<[&'t str; N], Fault> {
    let version = text
        .strip_prefix(magic)
        .and_then(|rest| rest.strip_prefix(' '))
        .ok_or(Fault::NotOurs)?;
    let (version, fields) = version.split_once('\n').ok_or(Fault::Damaged)?;
    let check_at = text.rfind("check ").ok_or(Fault::Damaged)?;
    let (checked, check) = text.split_at(check_at);
    let intact = check
        .strip_prefix("check ")
        .and_then(|check| check.strip_suffix('\n'))
        == Some(checksum(checked).as_str());
    if !intact {
        return Err(Fault::Damaged);
    }
    if version != VERSION {
        return Err(Fault::Version);
    }
    let mut lines = fields.lines();
    let mut values = [""; N];
    for (value, name) in values.iter_mut().zip(names) {
        let line = lines.next().ok_or(Fault::Damaged)?;
        *value = line
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or(Fault::Damaged)?;
    }
    match (lines.next(), lines.next()) {
        (Some(_check), None) => Ok(values),
        _ => Err(Fault::Damaged),
    }
}

fn checksum(text: &str) -> String {
    let digest = Ed25519::hash("strandline/file/v1", &[text.as_bytes()]);
    let mut digits = hex(&digest);
    digits.truncate(CHECK_DIGITS);
    digits
}

fn name_of(text: &str) -> Result<Name, Fault> {
    Name::parse(text).map_err(|_| Fault::Damaged)
}

fn secret_of(text: &str) -> Result<SecretKey, Fault> {
    // An id and a key have one length, so the id's strict parser serves.
    let bytes = UserId::parse_hex(text).ok_or(Fault::Damaged)?;
    Some(SecretKey::from_bytes(*bytes.as_bytes()))
        .filter(SecretKey::is_set)
        .ok_or(Fault::Damaged)
}

fn hex_of(secret: &SecretKey) -> String {
    hex(secret.expose_bytes())
}

/// Bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Creates or replaces `path`: what a crash leaves is the old file or the new one, whole.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let tmp = path.with_extension("tmp");
    match fs::remove_file(&tmp) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    create_whole(&tmp, text)?;
    fs::rename(&tmp, path)?;
    sync_dir(parent(path))
}

/// Creates `path` (0600), which must not exist, and makes it durable.
fn create_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_dir(parent(path)));
    if written.is_err() {
        // Best effort: a part of a key file is worse than none.
        let _ = fs::remove_file(path);
    }
    written
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
