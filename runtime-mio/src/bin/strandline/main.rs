//! The command line of Strandline.
//!
//! Wiring only: it reads the command line, asks the node that runs on the home (or runs one), shows the answer, and ends
//! with the exit code of the contract. What commands do is the library's, in the node's process.

mod args;
mod client;
mod demo;
mod exit;
mod render;
mod tail;
mod text;
mod up;

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};
use strandline_core::name::Handle;
use strandline_core::wire::TEXT_LEN_MAX;
use strandline_mio::{Exit, Failure, Home};

use crate::args::{Cli, Command, Global, IdentityCommand};
use crate::client::Client;
use crate::render::Style;
use crate::text::Paint;

fn main() -> ExitCode {
    let cli = Cli::parse();
    strandline_mio::logging::install(cli.global.verbose);
    match run(&cli) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => exit::tell(&failure, cli.global.json && !is_up(&cli.command)),
    }
}

/// `up --json` has nothing but its event on standard output.
fn is_up(command: &Command) -> bool {
    matches!(command, Command::Up(_))
}

fn run(cli: &Cli) -> Result<Exit, Failure> {
    let global = &cli.global;
    let about = |handle: &Handle| json!({ "handle": handle.to_string() });
    let about_someone = |handle: &Option<Handle>| handle.as_ref().map_or(json!({}), about);
    match &cli.command {
        Command::Up(options) => up::run(&home(global)?, options, global.json),
        Command::Post { text } => ask(global, "post", json!({ "text": post_text(text)? })),
        Command::Follow { handle } => ask(global, "follow", about(handle)),
        Command::Unfollow { handle } => ask(global, "unfollow", about(handle)),
        Command::Timeline {
            handle,
            limit,
            tail,
        } => {
            let mut arguments = about_someone(handle);
            if let Some(fields) = arguments.as_object_mut() {
                fields.insert("limit".to_owned(), json!(limit));
            }
            if *tail {
                tail::run(&client(global)?, &arguments, global.json, style)
            } else {
                ask(global, "timeline", arguments)
            }
        }
        Command::Following { handle } => ask(global, "following", about_someone(handle)),
        Command::Followers { handle } => ask(global, "followers", about_someone(handle)),
        Command::Whois { handle } => ask(global, "whois", about(handle)),
        Command::Whoami => ask(global, "whoami", json!({})),
        Command::Status => ask(global, "status", json!({})),
        Command::Peers => ask(global, "peers", json!({})),
        Command::Lookup { key, trace } => {
            ask(global, "lookup", json!({ "key": key, "trace": trace }))
        }
        Command::Put { key, value } => ask(global, "put", json!({ "key": key, "value": value })),
        Command::Get { key } => ask(global, "get", json!({ "key": key })),
        Command::Send { key, text } => ask(global, "send", json!({ "key": key, "text": text })),
        Command::Export { file: None } => ask(global, "export", json!({})),
        Command::Export { file: Some(file) } => export(global, file),
        Command::Identity(command) => identity(&home(global)?, command, global.json),
        Command::Demo { nodes } => demo::run(usize::from(*nodes), global.json),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "strandline", &mut script);
            print(&script)?;
            Ok(Exit::Ok)
        }
    }
}

/// Asks the node and shows what it answered.
fn ask(global: &Global, command: &str, arguments: Value) -> Result<Exit, Failure> {
    let answer = client(global)?.call(command, arguments)?;
    if global.json || command == "export" {
        print(format!("{}\n", answer.line).as_bytes())?;
        return Ok(answer.exit);
    }
    let shown = render::answer(command, answer.exit, &answer.body, style());
    print(shown.out.as_bytes())?;
    let _ = io::stderr().write_all(shown.notes.as_bytes());
    Ok(answer.exit)
}

/// The text of a post: as written, or standard input without its last line break for `-`.
fn post_text(written: &str) -> Result<String, Failure> {
    let text = if written == "-" {
        // One byte and a line break more than fit are enough to know that it is too long.
        let most = u64::try_from(TEXT_LEN_MAX)
            .unwrap_or(u64::MAX)
            .saturating_add(3);
        let mut bytes = Vec::new();
        let read = io::stdin().take(most).read_to_end(&mut bytes);
        read.map_err(|error| exit::failure_of_io("cannot read the post", &error, ""))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            let why = "standard input is not UTF-8 text";
            usage(
                "cannot post",
                why,
                "Posts are text; check where it comes from.",
            )
        })?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        line.strip_suffix('\r').unwrap_or(line).to_owned()
    } else {
        written.to_owned()
    };
    if text.trim().is_empty() {
        let next = "Write something: strandline post 'Hello from the beach'";
        return Err(usage("cannot post", "the text is empty", next));
    }
    if text.len() > TEXT_LEN_MAX {
        let why = format!("the text has more than {TEXT_LEN_MAX} bytes");
        let next = "Shorten it, or make it several posts.";
        return Err(usage("cannot post", &why, next));
    }
    Ok(text)
}

fn usage(what: &str, why: &str, next: &str) -> Failure {
    Failure::new(Exit::Usage, what, why, next)
}

/// Writes the export to a new file, which only its owner can read.
fn export(global: &Global, file: &Path) -> Result<Exit, Failure> {
    let answer = client(global)?.call("export", json!({}))?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut out| {
            writeln!(out, "{}", answer.line)?;
            out.sync_all()
        });
    written.map_err(|error| {
        let what = format!("cannot export to {}", file.display());
        let next = if error.kind() == io::ErrorKind::AlreadyExists {
            "Nothing was overwritten. Choose a new file."
        } else {
            "Choose a place that you may write to."
        };
        exit::failure_of_io(what, &error, next)
    })?;
    let posts = render::list(&answer.body, "posts").len();
    let file = file.display();
    let shown = if global.json {
        json!({ "v": 1, "file": file.to_string(), "posts": posts }).to_string()
    } else {
        format!("exported {posts} posts to {file}")
    };
    print(format!("{shown}\n").as_bytes())?;
    Ok(answer.exit)
}

/// Saves or restores the keys; no node has to run.
fn identity(dir: &Path, command: &IdentityCommand, json: bool) -> Result<Exit, Failure> {
    let home = dir.display();
    let (handle, file, advice) = match command {
        IdentityCommand::Backup { file } => (
            Home::backup(dir, file)?,
            file,
            "Keep it where nobody else can read it: whoever has it can post as you.".to_owned(),
        ),
        IdentityCommand::Restore { file } => (
            Home::restore(dir, file)?,
            file,
            format!(
                "Start it with: strandline --home {home} up\nNever run one identity on two machines at once."
            ),
        ),
    };
    let file = file.display();
    let shown = if json {
        json!({ "v": 1, "handle": handle.to_string(), "file": file.to_string(), "home": home.to_string() })
            .to_string()
    } else {
        let done = match command {
            IdentityCommand::Backup { .. } => format!("{handle} is saved in {file}"),
            IdentityCommand::Restore { .. } => format!("{handle} is back in {home}"),
        };
        format!("{done}\n{advice}")
    };
    print(format!("{shown}\n").as_bytes())?;
    Ok(Exit::Ok)
}

fn client(global: &Global) -> Result<Client, Failure> {
    Ok(Client::new(home(global)?, global.timeout))
}

fn home(global: &Global) -> Result<PathBuf, Failure> {
    up::home_dir(global.home.as_deref()).ok_or_else(|| {
        let why = "neither $STRANDLINE_HOME nor $XDG_DATA_HOME nor $HOME is set";
        usage(
            "cannot find the home folder",
            why,
            "Say where it is: --home DIR",
        )
    })
}

/// How to show an answer on this terminal, now.
fn style() -> Style {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Style {
        paint: Paint::of(&io::stdout()),
        now_ms: since.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        }),
    }
}

/// Writes to standard output. Whoever closed the pipe has read enough: that is not an error.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(exit::failure_of_io(
            "cannot write to standard output",
            &error,
            "",
        )),
    }
}
