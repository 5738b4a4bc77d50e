//! A network of its own on this machine: a bridge in a network namespace, a TAP device on it for each board, and an address
//! for each server. Needs root; whoever lacks the rights is told.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use crate::board::Kind;

/// The namespace. Dropping it takes it down.
pub struct Namespace {
    name: String,
    home: PathBuf,
}

impl Namespace {
    /// A namespace with so many TAP devices and server addresses; `Err` says why there can be none here.
    pub fn new(home: &Path, boards: usize, servers: usize) -> Result<Self, String> {
        let name = format!("strandline-{}", std::process::id());
        let new = Self {
            name,
            home: home.to_owned(),
        };
        run(&["ip", "netns", "add", &new.name])?;
        let ip = |words: &str| new.ip(words);
        ip("link set lo up")?;
        // An address of its own: it would change with the devices on it.
        ip("link add bridge address 02:00:00:57:4c:ff type bridge")?;
        ip("link set bridge up")?;
        for board in 0..boards {
            ip(&format!("tuntap add tap{board} mode tap"))?;
            ip(&format!("link set tap{board} master bridge up"))?;
        }
        for server in 0..servers {
            ip(&format!("addr add {}/24 dev bridge", server_ip(server)))?;
        }
        Ok(new)
    }

    fn ip(&self, words: &str) -> Result<(), String> {
        let mut command = vec!["ip", "-n", &self.name];
        command.extend(words.split(' '));
        run(&command)
    }

    /// Moves a device of this machine to the bridge.
    pub fn take_in(&self, device: &str) {
        run(&["ip", "link", "set", device, "netns", &self.name]).unwrap();
        self.ip(&format!("link set {device} master bridge up"))
            .unwrap();
    }

    /// A program in the namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// How QEMU connects a board's card.
    pub fn card(kind: Kind, board: usize) -> Vec<String> {
        let tap = format!("tap,id=port,ifname=tap{board},script=no,downscript=no");
        let nic = crate::board::nic(kind, board);
        let args = ["-net", &nic, "-netdev", &tap];
        args.map(str::to_owned).to_vec()
    }

    /// Starts a server, which joins through the first, with these options beside, and waits until it is ready.
    pub fn server(&self, index: usize, options: &[&str]) -> Server {
        let home = self.home.join(format!("server{index}"));
        let mut command = self.command(strandline());
        command
            .arg("--home")
            .arg(&home)
            .args(["up", "--no-ntp", "--name"]);
        command.arg(format!("server{index}"));
        command
            .arg("--listen")
            .arg(format!("{}:7827", server_ip(index)));
        command.args(options);
        if index > 0 {
            command.arg("--join").arg(format!("{}:7827", server_ip(0)));
        }
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.starts_with("ready "), "{line}");
        Server { process, home }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run(&["ip", "netns", "del", &self.name]);
    }
}

/// A server on the network. Dropping it kills it, without a goodbye.
pub struct Server {
    process: Child,
    home: PathBuf,
}

impl Server {
    /// Gives a command to it: what it answered.
    pub fn ask(&self, words: &[&str]) -> Output {
        let mut command = Command::new(strandline());
        command
            .arg("--home")
            .arg(&self.home)
            .args(["--json", "--timeout", "30"]);
        command.args(words).output().unwrap()
    }

    /// As [`Self::ask`], which must succeed: the object.
    pub fn object(&self, words: &[&str]) -> String {
        let output = self.ask(words);
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {text}{errors}");
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The address of a server.
pub fn server_ip(index: usize) -> String {
    format!("10.0.0.{}", 101 + index)
}

/// The program, built once.
fn strandline() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--locked", "-p", "strandline", "--target-dir"])
            .arg(&target_dir)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(status.unwrap().success());
        target_dir
            .join("debug/strandline")
            .to_str()
            .unwrap()
            .to_owned()
    })
}

fn run(words: &[&str]) -> Result<(), String> {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.map_err(|error| format!("{}: {error}", words[0]))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", words.join(" "), errors.trim()))
}
