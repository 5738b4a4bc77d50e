//! Nodes as child processes, commands as a shell would run them, and looking again until a deadline.
//!
//! Invariant: whatever a test does, its children die and its folder goes with it.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take that should happen at once: generous, since the machine may be busy.
pub const SOON: Duration = Duration::from_secs(30);
/// Pause between two looks.
pub const GLANCE: Duration = Duration::from_millis(50);

/// The program under test, with nothing of the caller's surroundings.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strandline"));
    for variable in ["STRANDLINE_HOME", "STRANDLINE_LOG", "XDG_DATA_HOME"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "\nstdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// The one JSON object on the one line of standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        let body: Value = serde_json::from_str(&self.stdout).expect("one JSON object");
        assert_eq!(body["v"], 1, "{self:?}");
        body
    }

    /// Asserts that the error says what failed and why, and names all of these.
    #[track_caller]
    pub fn explains(self, words: &[&str]) -> Self {
        for word in words {
            assert!(
                self.stderr.contains(word),
                "{word:?} is not in: {}",
                self.stderr
            );
        }
        self
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Done {
    let output = command.output().expect("the program runs");
    Done {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Runs the program with these arguments.
#[track_caller]
pub fn strandline<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Done {
    run(program().args(arguments))
}

/// Looks until there is something to see, or fails with what was seen last.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(instead) if Instant::now() > deadline => panic!("not in time: {what}: {instead}"),
            Err(_) => thread::sleep(GLANCE),
        }
    }
}

/// A folder of one test, with a name short enough for sockets.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/strandline-{}-{number}", std::process::id()));
        // A leftover of an earlier process with this number.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("/tmp can be written");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A name that no other test's network has.
    fn network(&self) -> String {
        let name = self.0.file_name().expect("it has one");
        name.to_string_lossy().into_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A node: its home, how it is started, and its process while it runs.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub home: PathBuf,
    pub handle: String,
    pub listen: SocketAddr,
    options: Vec<String>,
    child: Option<Child>,
    /// Taken when it is ready: nothing comes after that.
    lines: Option<Mutex<Receiver<String>>>,
}

impl Node {
    /// A node that is still to be started, with the home `folder` in `scratch`.
    pub fn new(scratch: &Scratch, folder: &str, name: &str) -> Self {
        let options = [
            "--listen",
            "127.0.0.1:0",
            "--no-ntp",
            "--refresh",
            "0",
            "--network",
        ];
        let mut options: Vec<String> = options.map(str::to_owned).into();
        options.push(scratch.network());
        Self {
            name: name.to_owned(),
            home: scratch.join(folder),
            handle: String::new(),
            listen: SocketAddr::from(([0, 0, 0, 0], 0)),
            options,
            child: None,
            lines: None,
        }
    }

    /// Adds options of `up`; a later one does not replace an earlier one.
    pub fn with(mut self, options: &[&str]) -> Self {
        self.options
            .extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// Listens there instead.
    pub fn at(mut self, listen: &str) -> Self {
        self.options[1] = listen.to_owned();
        self
    }

    /// The command that starts it.
    pub fn up(&self) -> Command {
        let mut command = program();
        command.arg("up").arg("--home").arg(&self.home);
        command.args(["--name", &self.name]).args(&self.options);
        command
    }

    /// Starts the process without waiting for it.
    pub fn begin(&mut self, join: Option<SocketAddr>) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log");
        let mut command = self.up();
        if let Some(join) = join {
            command.args(["--join", &join.to_string()]);
        }
        let command = command.arg("--json").stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("it is piped");
        self.lines = Some(Mutex::new(lines_of(stdout)));
        self.child = Some(child);
    }

    /// Waits until it is ready.
    #[track_caller]
    pub fn ready(&mut self) {
        let lines = self.lines.take().expect("it was begun");
        let lines = lines.into_inner().expect("nobody else has it");
        let line = lines.recv_timeout(SOON);
        let line = line.unwrap_or_else(|_| panic!("{} is not ready: {}", self.name, self.log()));
        let ready: Value = serde_json::from_str(&line).expect("one JSON object");
        assert_eq!(ready["event"], "ready", "{line}");
        self.handle = text(&ready["handle"]);
        self.listen = text(&ready["listen"]).parse().expect("an address");
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(&mut self, join: Option<SocketAddr>) {
        self.begin(join);
        self.ready();
    }

    /// Kills it with no chance to do anything (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it can be waited for");
        }
    }

    /// Sends it a signal and waits until it has ended.
    #[track_caller]
    pub fn signal(&mut self, signal: &str) -> ExitStatus {
        let mut child = Guarded(self.child.take().expect("it runs"));
        send_signal(&child.0, signal);
        child.ended()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.home.with_extension("log")
    }

    /// Has it asked by the command line.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Done {
        run(program().arg("--home").arg(&self.home).args(arguments))
    }

    /// As [`run`](Self::run), with `--json`; asserts exit 0 and returns the answer.
    #[track_caller]
    pub fn ask<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        run(program()
            .arg("--json")
            .arg("--home")
            .arg(&self.home)
            .args(arguments))
        .exits(0)
        .json()
    }

    /// As [`ask`](Self::ask), with any exit code.
    #[track_caller]
    pub fn ask_any<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> (i32, Value) {
        let done = run(program()
            .arg("--json")
            .arg("--home")
            .arg(&self.home)
            .args(arguments));
        let body = done.json();
        (done.code.expect("it was not killed"), body)
    }

    /// Posts a text and returns its number.
    #[track_caller]
    pub fn post(&self, text: &str) -> u64 {
        self.ask(["post", text])["seq"].as_u64().expect("a number")
    }

    /// The handles that `followers` or `following` answers, sorted.
    #[track_caller]
    pub fn handles(&self, command: &str) -> Vec<String> {
        sorted(handles_in(&self.ask([command])))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.name, self.log());
        }
        self.kill();
    }
}

/// A child that is killed when dropped.
#[derive(Debug)]
pub struct Guarded(pub Child);

impl Guarded {
    /// Waits until it has ended.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        eventually("it ends", || {
            let status = self.0.try_wait().expect("it can be asked");
            status.ok_or_else(|| "it runs on".to_owned())
        })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal, by its name, to a child that has not been waited for.
pub fn send_signal(child: &Child, signal: &str) {
    // The shell's own `kill`: std has none, and the tests are to need nothing else.
    let line = format!("kill -{signal} {}", child.id());
    assert!(run(Command::new("sh").args(["-c", &line])).code == Some(0));
}

/// The lines of a stream as they come; it ends with the stream.
pub fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Nodes on one network, all ready. Node 0 was first; the others joined through it.
#[derive(Debug)]
pub struct Net {
    pub nodes: Vec<Node>,
    // Dropped after the nodes.
    pub scratch: Scratch,
}

impl Net {
    /// Starts so many nodes `n0`, `n1`, … with these options of `up`.
    #[track_caller]
    pub fn of(count: usize, options: &[&str]) -> Self {
        let names: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Self::named(&names, options)
    }

    /// Starts nodes of these names.
    #[track_caller]
    pub fn named(names: &[&str], options: &[&str]) -> Self {
        let scratch = Scratch::new();
        let new = |(number, name): (usize, &&str)| {
            Node::new(&scratch, &format!("h{number}"), name).with(options)
        };
        let mut nodes: Vec<Node> = names.iter().enumerate().map(new).collect();
        let (first, others) = nodes.split_first_mut().expect("at least one");
        first.start(None);
        for node in &mut *others {
            node.begin(Some(first.listen));
        }
        for node in others {
            node.ready();
        }
        Self { nodes, scratch }
    }

    /// Waits until each node knows all others: those that joined at the same moment may know only the first, and are
    /// alone when that one dies.
    #[track_caller]
    pub fn meet(&self) {
        for node in &self.nodes {
            eventually("they know one another", || {
                let body = node.ask(["peers"]);
                let all = list(&body, "peers").len() + 1 == self.nodes.len();
                all.then_some(()).ok_or_else(|| body.to_string())
            });
        }
    }
}

/// Two people who know nothing of each other yet.
pub fn ada_and_bob() -> Net {
    Net::named(&["ada", "bob"], &[])
}

/// A request on the control socket as `curl` makes it: status, exit code and body.
#[track_caller]
pub fn http(
    home: &Path,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, i32, Value)> {
    let mut stream = UnixStream::connect(home.join("control.sock"))?;
    stream.set_read_timeout(Some(SOON))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // A request that is refused early may not be read to its end.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // What was refused unread makes the system say so, after the answer.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        read => drop(read?),
    }
    let answer = String::from_utf8(answer).map_err(std::io::Error::other)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let exit = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("strandline-exit")
            .then(|| value.trim().parse().ok())?
    });
    let body = serde_json::from_str(body).map_err(std::io::Error::other)?;
    Ok((status.unwrap_or(0), exit.unwrap_or(-1), body))
}

/// Posts over the control socket: much faster than a process each. The number, once acknowledged.
pub fn post_quickly(home: &Path, text: &str) -> Option<u64> {
    let body = json!({ "text": text }).to_string();
    match http(home, "POST", "/v1/post", &body) {
        Ok((200, 0, answer)) => answer["seq"].as_u64(),
        Ok(_) | Err(_) => None,
    }
}

/// The text of a JSON string.
#[track_caller]
pub fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a text: {value}"))
        .to_owned()
}

/// The list under this name.
#[track_caller]
pub fn list<'b>(body: &'b Value, name: &str) -> &'b [Value] {
    body[name]
        .as_array()
        .unwrap_or_else(|| panic!("no {name} in {body}"))
}

/// The `handles` of an answer.
#[track_caller]
pub fn handles_in(body: &Value) -> Vec<String> {
    list(body, "handles").iter().map(text).collect()
}

pub fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

/// The names of an object's fields, sorted.
#[track_caller]
pub fn fields(body: &Value) -> Vec<&str> {
    let mut fields: Vec<&str> = body
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    fields.sort_unstable();
    fields
}

/// Asserts that the object has these fields; more may have been added.
#[track_caller]
pub fn has_fields(body: &Value, names: &[&str]) {
    for name in names {
        assert!(body.get(name).is_some(), "no {name} in {body}");
    }
}
