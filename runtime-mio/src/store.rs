//! What must last: the entries that core persists, in one SQLite file. Owns the schema, the transactions and the checks at
//! the start; what an entry means is core's business. Invariants: nothing is called durable before its transaction was
//! committed and synced (WAL, `synchronous=FULL`), and a database that fails a check is never opened for writing.
//!
//! Every row carries a checksum, since SQLite's own pages have none. The file is made under another name and renamed, so
//! that one that exists is whole, and an empty one is damage.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::types::FromSqlError;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use strandline_core::crypto::{Crypto, Ed25519};
use strandline_core::id::UserId;
use strandline_core::output::{Class, Damaged, PersistId, Restored, Stored};

use crate::failure::{Exit, Failure};

/// "STRL": tells our database from another's.
const APPLICATION_ID: i64 = 0x5354_524c;
/// Version of the schema.
const SCHEMA_VERSION: i64 = 1;
/// The write-ahead log is cut back to this many bytes after a checkpoint.
const WAL_LEN_KEPT: i64 = 4 * 1024 * 1024;

const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE entries (
        class INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, sum BLOB NOT NULL,
        PRIMARY KEY (class, key)
    ) STRICT, WITHOUT ROWID;";

const PUT: &str = "INSERT INTO entries (class, key, value, sum) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (class, key) DO UPDATE SET value = excluded.value, sum = excluded.sum";
const DELETE: &str = "DELETE FROM entries WHERE class = ?1 AND key = ?2";

/// A database that passed its checks, open for reading only: nothing of it changes before core has accepted its entries.
#[derive(Debug)]
pub struct Found {
    db: Connection,
    owner: UserId,
    how: Restored,
}

impl Found {
    /// Opens and checks the database at `path`; `None` when there is no file.
    ///
    /// # Errors
    /// [`Exit::Damaged`] when it is not ours, of a later version or damaged; the file is as it was.
    pub fn open(path: &Path) -> Result<Option<Self>, Failure> {
        if matches!(path.try_exists(), Ok(false)) {
            return Ok(None);
        }
        Self::check(path)
            .map(Some)
            .map_err(|Why(why)| damaged(path, &why))
    }

    fn check(path: &Path) -> Result<Self, Why> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        if pragma("application_id")? != APPLICATION_ID {
            return Err("it is not a Strandline database, or it is damaged".into());
        }
        if pragma("user_version")? != SCHEMA_VERSION {
            return Err("a later version of Strandline wrote it".into());
        }
        let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Err(Why(verdict));
        }
        let meta = |name: &str| {
            let query = "SELECT value FROM meta WHERE name = ?1";
            db.query_row(query, [name], |row| row.get::<_, Vec<u8>>(0))
                .optional()
        };
        let owner = meta("owner")?
            .and_then(|bytes| bytes.try_into().ok())
            .map(UserId::from_bytes)
            .ok_or("it does not say whose it is")?;
        let lost = meta("lost")?.is_some();
        let empty: bool = db.query_row("SELECT NOT EXISTS (SELECT 1 FROM entries)", [], |row| {
            row.get(0)
        })?;
        let how = match (lost, empty) {
            (true, _) => Restored::Lost,
            (false, true) => Restored::Fresh,
            (false, false) => Restored::Intact,
        };
        Ok(Self { db, owner, how })
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> UserId {
        self.owner
    }

    /// In which state it is: [`Restored::Fresh`] while nothing was ever written to it, [`Restored::Lost`] from when an earlier
    /// one was missing until core has recovered.
    #[must_use]
    pub fn how(&self) -> Restored {
        self.how
    }

    /// Hands every entry to `take`, class by class and by key.
    ///
    /// # Errors
    /// [`Exit::Damaged`] when an entry's checksum is wrong or `take` refuses it.
    pub fn for_each(
        &self,
        mut take: impl FnMut(Stored<'_>) -> Result<(), Damaged>,
    ) -> Result<(), Failure> {
        let mut each = |class: Class| -> Result<(), Why> {
            let query = "SELECT key, value, sum FROM entries WHERE class = ?1 ORDER BY key";
            let mut query = self.db.prepare(query)?;
            let mut rows = query.query([class as u8])?;
            while let Some(row) = rows.next()? {
                let blob = |column: usize| Ok::<_, Why>(row.get_ref(column)?.as_blob()?);
                let (key, value, sum) = (blob(0)?, blob(1)?, blob(2)?);
                if sum != checksum(class, key, value) {
                    return Err(Why(format!("an entry of class {class:?} is damaged")));
                }
                take(Stored {
                    class,
                    key,
                    value: Some(value),
                })
                .map_err(|damaged| Why(describe(&damaged)))?;
            }
            Ok(())
        };
        Class::ALL
            .into_iter()
            .try_for_each(&mut each)
            .map_err(|Why(why)| {
                let path = self.db.path().unwrap_or_default();
                damaged(Path::new(path), &why)
            })
    }
}

/// The database, open for writing.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    /// The first and the last entry of the transaction that is open.
    pending: Option<(PersistId, PersistId)>,
    /// Something could not be written. What comes later might rest on it, so nothing is written any more.
    failed: bool,
}

impl Store {
    /// Makes the database of `owner` at `path`, where there is none. `lost` says that there was one before.
    ///
    /// # Errors
    /// [`Exit::NotPermitted`] when it cannot be written.
    pub fn create(path: &Path, owner: &UserId, lost: bool) -> Result<Self, Failure> {
        let unwritable = |why: &dyn ToString| {
            Failure::new(
                Exit::NotPermitted,
                format!("cannot write {}", path.display()),
                why.to_string(),
                "Make room, or choose a home that you may write to (--home DIR).",
            )
        };
        let tmp = path.with_extension("new");
        make_empty(&tmp).map_err(|error| unwritable(&error))?;
        let made = Connection::open(&tmp).and_then(|db| {
            db.execute_batch("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON;")?;
            db.pragma_update(None, "application_id", APPLICATION_ID)?;
            db.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            let transaction = db.unchecked_transaction()?;
            transaction.execute_batch(SCHEMA)?;
            let meta = "INSERT INTO meta (name, value) VALUES (?1, ?2)";
            transaction.execute(meta, params!["owner", owner.as_bytes().as_slice()])?;
            if lost {
                transaction.execute(meta, params!["lost", [1u8].as_slice()])?;
            }
            transaction.commit()?;
            db.close().map_err(|(_, error)| error)
        });
        made.map_err(|error| unwritable(&error))?;
        // The write-ahead log of a database that is gone would be replayed into the new one.
        for suffix in ["-wal", "-shm"] {
            set_aside(&suffixed(path, suffix)).map_err(|error| unwritable(&error))?;
        }
        fs::rename(&tmp, path)
            .and_then(|()| fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all())
            .map_err(|error| unwritable(&error))?;
        Self::open_writable(path).map_err(|error| unwritable(&error))
    }

    /// Opens a database for writing, after core has accepted what it holds.
    ///
    /// # Errors
    /// [`Exit::NotPermitted`] when it cannot be written.
    pub fn open(path: &Path, found: Found) -> Result<Self, Failure> {
        drop(found);
        Self::open_writable(path).map_err(|error| {
            Failure::new(
                Exit::NotPermitted,
                format!("cannot write {}", path.display()),
                error.to_string(),
                "Make the home writable, or choose another one (--home DIR).",
            )
        })
    }

    fn open_writable(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        db.execute_batch("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON;")?;
        db.pragma_update_and_check(None, "journal_size_limit", WAL_LEN_KEPT, |_| Ok(()))?;
        Ok(Self {
            db,
            pending: None,
            failed: false,
        })
    }

    /// Writes or deletes an entry in the transaction of this turn, which [`commit`](Self::commit) ends.
    pub fn persist(&mut self, id: PersistId, item: Stored<'_>) {
        let begins = self.pending.is_none();
        let (first, _) = self.pending.unwrap_or((id, id));
        self.pending = Some((first, id));
        if self.failed {
            return;
        }
        if let Err(error) = self.write(begins, item) {
            log::error!("cannot write to the database: {error}");
            self.failed = true;
        }
    }

    fn write(&self, begins: bool, item: Stored<'_>) -> rusqlite::Result<()> {
        if begins {
            self.db.execute_batch("BEGIN IMMEDIATE")?;
        }
        let class = item.class as u8;
        match item.value {
            Some(value) => {
                let sum = checksum(item.class, item.key, value);
                let mut put = self.db.prepare_cached(PUT)?;
                put.execute(params![class, item.key, value, sum.as_slice()])?;
            }
            None => {
                let mut delete = self.db.prepare_cached(DELETE)?;
                delete.execute(params![class, item.key])?;
            }
        }
        Ok(())
    }

    /// Ends the turn: makes everything since the last call durable. `None` when there was nothing, `Ok` up to which number
    /// all is durable, `Err` from which number on nothing is.
    pub fn commit(&mut self) -> Option<Result<PersistId, PersistId>> {
        let (first, last) = self.pending.take()?;
        if !self.failed
            && let Err(error) = self.db.execute_batch("COMMIT")
        {
            log::error!("cannot make the database durable: {error}");
            self.failed = true;
        }
        if self.failed {
            if !self.db.is_autocommit()
                && let Err(error) = self.db.execute_batch("ROLLBACK")
            {
                log::debug!("nothing to roll back: {error}");
            }
            return Some(Err(first));
        }
        Some(Ok(last))
    }

    /// Core has recovered from a lost database: from the next start on this one is intact. Call it before the
    /// [`commit`](Self::commit) of the turn in which core said so, or after it.
    pub fn recovered(&mut self) {
        if !self.failed
            && let Err(error) = self.db.execute("DELETE FROM meta WHERE name = 'lost'", [])
        {
            log::error!("cannot note the recovery: {error}");
            self.failed = true;
        }
    }

    /// Whether there is something to [`commit`](Self::commit).
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether something could not be written.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// How large the file may grow, in pages: lets a test meet a full disk.
    #[cfg(test)]
    fn limit_pages(&self, pages: i64) {
        let limited = self
            .db
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
        assert_eq!(limited, Ok(()));
    }
}

/// Creates an empty file that only its owner can read, in place of a left-over one.
fn make_empty(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Renames a file, if there is one, so that nobody takes it for a part of something else.
fn set_aside(path: &Path) -> io::Result<()> {
    match fs::rename(path, suffixed(path, ".orphan")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// 64 bits against accidents.
fn checksum(class: Class, key: &[u8], value: &[u8]) -> [u8; 8] {
    let len = u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes();
    let digest = Ed25519::hash("strandline/row/v1", &[&[class as u8], &len, key, value]);
    digest.first_chunk().copied().unwrap_or_default()
}

/// What core found damaged, in words.
pub(crate) fn describe(damaged: &Damaged) -> String {
    format!("an entry of class {:?}: {}", damaged.class, damaged.what)
}

/// The failure of a database that did not pass a check.
pub(crate) fn damaged(path: &Path, why: &str) -> Failure {
    Failure::new(
        Exit::Damaged,
        format!("cannot use the database {}", path.display()),
        format!("{why}; nothing was overwritten"),
        format!(
            "Put back a copy of it. If you have none, move it away: with the keys in place, the node then recovers what the network holds.\n  mv {0} {0}.damaged",
            path.display()
        ),
    )
}

/// Why a check failed, in words.
struct Why(String);

impl From<rusqlite::Error> for Why {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<FromSqlError> for Why {
    fn from(error: FromSqlError) -> Self {
        Self(error.to_string())
    }
}

impl From<&str> for Why {
    fn from(why: &str) -> Self {
        Self(why.into())
    }
}

#[cfg(test)]
mod tests;
