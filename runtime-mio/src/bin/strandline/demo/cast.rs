//! Who plays: one child process of this program for each character, with a home of its own in a temporary folder.
//!
//! Owns the processes and the folder. Invariant: when the cast is dropped, however the demo ends, every child is dead and
//! reaped and the folder is gone.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use strandline_mio::{Exit, Failure};

use crate::client::{Answer, Client};

/// The network that they make: no other node can stray into it.
pub const NETWORK: &str = "demo";
/// The names, in the order of appearance.
const NAMES: [&str; 8] = ["ada", "bram", "cleo", "dov", "esme", "finn", "gwen", "hugo"];
/// How long a node may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How long one command may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// Pause between two looks at something that is awaited.
const GLANCE: Duration = Duration::from_millis(100);

/// A failure of the demo: what was expected and what was seen.
pub fn broken(what: impl Into<String>, why: impl Into<String>) -> Failure {
    let next = "This is a bug, or a very slow machine. Try again with STRANDLINE_LOG=debug.";
    Failure::new(Exit::Internal, what, why, next)
}

/// All characters and their folder.
#[derive(Debug)]
pub struct Cast {
    folder: PathBuf,
    /// The characters, by their place.
    pub players: Vec<Player>,
    interrupted: Arc<AtomicBool>,
    keep: Duration,
}

/// A character and its node.
#[derive(Debug)]
pub struct Player {
    /// Its name.
    pub name: String,
    /// Its handle, once it was ready.
    pub handle: String,
    /// Where its node listens, once it was ready.
    pub listen: Option<SocketAddr>,
    home: PathBuf,
    child: Option<Child>,
}

impl Cast {
    /// Calls so many characters together. Nobody plays yet.
    ///
    /// # Errors
    /// When there can be no temporary folder, or signals cannot be caught.
    pub fn gather(count: usize, keep: Duration) -> Result<Self, Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .map_err(|error| broken("cannot prepare the demo", error.to_string()))?;
        }
        let folder = new_folder()
            .map_err(|error| broken("cannot make a temporary folder", error.to_string()))?;
        let players = (0..count)
            .map(|place| {
                let name = name_of(place);
                let home = folder.join(&name);
                Player {
                    name,
                    home,
                    handle: String::new(),
                    listen: None,
                    child: None,
                }
            })
            .collect();
        Ok(Self {
            folder,
            players,
            interrupted,
            keep,
        })
    }

    /// The character at this place.
    ///
    /// # Errors
    /// When there is none, which is a mistake in the script.
    pub fn player(&self, place: usize) -> Result<&Player, Failure> {
        let missing = || broken("the script calls for nobody", format!("place {place}"));
        self.players.get(place).ok_or_else(missing)
    }

    /// Starts these nodes together, through the node at `join`, and waits until they are ready.
    ///
    /// # Errors
    /// When one does not become ready.
    pub fn enter(
        &mut self,
        places: std::ops::Range<usize>,
        join: Option<SocketAddr>,
    ) -> Result<(), Failure> {
        let mut waiting = Vec::new();
        for (place, player) in self.players.iter_mut().enumerate() {
            if places.contains(&place) {
                waiting.push((place, player.start(join, self.keep)?));
            }
        }
        let deadline = Instant::now() + READY_WITHIN;
        for (place, ready) in waiting {
            let line = loop {
                self.go_on()?;
                match ready.recv_timeout(GLANCE) {
                    Ok(line) => break line,
                    Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                    Err(error) => {
                        let player = self.player(place)?;
                        let what = format!("{} did not become ready: {error}", player.name);
                        return Err(broken(what, player.last_words()));
                    }
                }
            };
            if let Some(player) = self.players.get_mut(place) {
                player.introduce(&line)?;
            }
        }
        Ok(())
    }

    /// Kills a node with no chance to say anything.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self, place: usize) -> Result<(), Failure> {
        match self.players.get_mut(place) {
            Some(player) => player.kill(),
            None => Ok(()),
        }
    }

    /// Has a character's node answer a command; a partial answer is one.
    ///
    /// # Errors
    /// What the node refused, with the last words of its log; or that somebody pressed Ctrl-C.
    pub fn ask(&self, place: usize, command: &str, arguments: Value) -> Result<Answer, Failure> {
        self.go_on()?;
        let player = self.player(place)?;
        let client = Client::new(&player.home, ANSWER_WITHIN);
        client.call(command, arguments).map_err(|failure| {
            let what = format!("{}: {}: {}", player.name, failure.what, failure.why);
            broken(what, player.last_words())
        })
    }

    /// As [`ask`](Self::ask), for what may be too early: what was refused is something to try again.
    pub fn attempt(&self, place: usize, command: &str, arguments: Value) -> Result<Answer, String> {
        let answer = self.ask(place, command, arguments);
        answer.map_err(|failure| format!("{} ({})", failure.what, failure.why))
    }

    /// Looks again and again until `look` sees something, or fails with what it saw last.
    ///
    /// # Errors
    /// When it sees nothing in time, or looking itself failed.
    pub fn await_that<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl FnMut(&Self) -> Result<Result<T, String>, Failure>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + within;
        loop {
            match look(self)? {
                Ok(seen) => return Ok(seen),
                Err(instead) if Instant::now() >= deadline => return Err(broken(what, instead)),
                Err(_) => {
                    self.go_on()?;
                    thread::sleep(GLANCE);
                }
            }
        }
    }

    /// Notices that somebody pressed Ctrl-C.
    fn go_on(&self) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Relaxed) {
            let why = "it was interrupted; its nodes are stopped and its files removed";
            return Err(Failure::new(
                Exit::Internal,
                "the demo was not finished",
                why,
                "",
            ));
        }
        Ok(())
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        for player in &mut self.players {
            // Best effort each: whatever one refuses, the others are still to be put away.
            let _ = player.kill();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Player {
    /// Starts the node, and returns where its first line will come.
    fn start(
        &mut self,
        join: Option<SocketAddr>,
        keep: Duration,
    ) -> Result<mpsc::Receiver<String>, Failure> {
        let cannot = |error: std::io::Error| {
            broken(format!("cannot start {}", self.name), error.to_string())
        };
        let program = env::current_exe().map_err(cannot)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .map_err(cannot)?;
        let mut command = Command::new(program);
        command
            .args(["up", "--json", "--no-ntp", "--listen", "127.0.0.1:0"])
            .args(["--refresh", "0", "--network", NETWORK])
            .args(["--name", &self.name, "--keep", &keep.as_secs().to_string()])
            .arg("--home")
            .arg(&self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        if let Some(join) = join {
            command.args(["--join", &join.to_string()]);
        }
        let mut child = command.spawn().map_err(cannot)?;
        let stdout = child.stdout.take();
        self.child = Some(child);
        let (tell, ready) = mpsc::channel();
        if let Some(stdout) = stdout {
            // Ends with the child, whose only line this is.
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if tell.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(ready)
    }

    /// Reads who and where the node is.
    fn introduce(&mut self, line: &str) -> Result<(), Failure> {
        let ready: Value = serde_json::from_str(line).unwrap_or_else(|_| json!({}));
        let text = |name| ready.get(name).and_then(Value::as_str).unwrap_or_default();
        let listen = text("listen").parse().ok();
        if text("event") != "ready" || text("name") != self.name || listen.is_none() {
            return Err(broken(
                format!("{} said something else than ready", self.name),
                line,
            ));
        }
        self.handle = text("handle").to_owned();
        self.listen = listen;
        Ok(())
    }

    fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let killed = child.kill().and_then(|()| child.wait());
        let cannot =
            |error: std::io::Error| broken(format!("cannot kill {}", self.name), error.to_string());
        killed.map(drop).map_err(cannot)
    }

    fn log_path(&self) -> PathBuf {
        self.home.with_extension("log")
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        const LINES: usize = 5;
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LINES);
        let last = lines.get(from..).unwrap_or_default().join("; ");
        if last.is_empty() {
            "its log is empty".to_owned()
        } else {
            format!("its log ends with: {last}")
        }
    }
}

/// The name at this place: past the last name they come again, with a number.
fn name_of(place: usize) -> String {
    let name = NAMES.get(place % NAMES.len()).copied().unwrap_or("node");
    match place / NAMES.len() {
        0 => name.to_owned(),
        round => format!("{name}{}", round + 1),
    }
}

/// Makes a folder that nobody else can enter; its path is short, since sockets lie in it.
fn new_folder() -> std::io::Result<PathBuf> {
    let mut number = 0u32;
    loop {
        let folder = temporary().join(format!("strandline-demo-{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < 100 => {
                number += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The system's temporary folder, or `/tmp` where that one's path is too long for sockets.
fn temporary() -> PathBuf {
    const LEN_MAX: usize = 60;
    let folder = env::temp_dir();
    if folder.as_os_str().len() <= LEN_MAX {
        folder
    } else {
        Path::new("/tmp").to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn every_name_is_a_name_and_nobody_shares_it() {
        let names: Vec<String> = (0..usize::from(crate::args::DEMO_NODES_MAX))
            .map(name_of)
            .collect();
        for (place, name) in names.iter().enumerate() {
            assert!(strandline_core::name::Name::parse(name).is_ok(), "{name}");
            assert!(!names.iter().skip(place + 1).any(|other| other == name));
        }
    }

    #[test]
    fn the_folder_goes_with_the_cast() {
        let cast = Cast::gather(2, Duration::from_secs(1)).unwrap();
        let folder = cast.folder.clone();
        assert!(folder.is_dir());
        drop(cast);
        assert!(!folder.exists());
    }
}
