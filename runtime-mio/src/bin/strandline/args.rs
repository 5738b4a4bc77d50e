//! The command line: what can be written, its limits, and the help that teaches it.
//!
//! Owns the grammar of the contract. It opens no file and asks no node, so a wrong command line is a usage error whether or
//! not a node runs. Invariant: a value that was parsed is within its limits, so nothing later has to say "bad argument".

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand};
use strandline_core::config::{FANOUT_MAX, KEEP_MAX_MS};
use strandline_core::name::{Handle, Name};
use strandline_mio::host::PORT;

/// The network of a node that was not told otherwise.
pub const NETWORK_DEFAULT: &str = "strandline";
/// The longest time for which a command waits, in seconds.
const TIMEOUT_S_MAX: u64 = 3600;
/// The longest pause between two readings of everyone followed (`--refresh`), in seconds: a day.
const REFRESH_S_MAX: u64 = 24 * 3600;
/// Longest name of a network, in bytes.
const NETWORK_LEN_MAX: usize = 255;
/// Fewest nodes with which the demo can tell its story.
pub const DEMO_NODES_MIN: u16 = 5;
/// Most nodes that the demo starts: they share one machine.
pub const DEMO_NODES_MAX: u16 = 32;

const EXAMPLES: &str = "\
Start here:
  strandline demo                              watch a network on this machine
  strandline up --name alice                   run your node; it prints how others join it
  strandline post 'Hello from the beach'       in a second terminal
  strandline timeline                          what the people you follow wrote

Exit codes:
  0 ok   1 internal, port taken   2 usage   3 not found   4 no node running   5 partial or timed out
  6 not permitted   7 verification failed   8 full   9 ambiguous name";

/// Short posts among people, without a server.
#[derive(Parser, Debug)]
#[command(name = "strandline", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that may stand before or after the command.
#[derive(clap::Args, Debug)]
pub struct Global {
    /// Folder of this node: its keys, its posts, its control socket
    /// [default: $STRANDLINE_HOME, else strandline in the XDG data folder]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub home: Option<PathBuf>,
    /// Answer with one JSON object on one line
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Wait this long for an answer
    #[arg(long, global = true, value_name = "SECS", default_value = "10", value_parser = timeout, help_heading = "Global options")]
    pub timeout: Duration,
    /// Say more on stderr; twice for details. $STRANDLINE_LOG (error, warn, info, debug, trace) sets it too
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the node, in the foreground
    #[command(after_help = UP_EXAMPLES)]
    Up(Up),
    /// Publish a post
    #[command(after_help = "\
Examples:
  strandline post 'The tide is out'
  date | strandline post -                     read it from standard input
  strandline --json post 'hi' | jq .seq        its number

It returns once the post is durable: a crash after that loses nothing.")]
    Post {
        /// The text: 1 to 512 bytes of UTF-8, or - to read it from standard input
        #[arg(allow_hyphen_values = true)]
        text: String,
    },
    /// Follow somebody
    #[command(after_help = "\
Examples:
  strandline follow alice
  strandline follow alice~7q3kx2mv             when several people are called alice

Following pins the key: the name then never silently becomes somebody else.
Exit 9: several people have that name. They are listed; use a handle.")]
    Follow {
        /// Whom: a name or a handle, name~fingerprint
        #[arg(value_parser = handle)]
        handle: Handle,
    },
    /// Stop following somebody
    Unfollow {
        /// Whom: a name or a handle, name~fingerprint
        #[arg(value_parser = handle)]
        handle: Handle,
    },
    /// Read what the people you follow wrote, and your own posts
    #[command(after_help = "\
Examples:
  strandline timeline                          everyone you follow, newest first
  strandline timeline alice                    one person, followed or not
  strandline timeline --tail                   keep printing new posts until Ctrl-C
  strandline --json timeline | jq -r '.posts[] | \"\\(.author): \\(.text)\"'

The network is read now. A post whose author is gone comes from a follower's copy, and says so.
Exit 5: somebody could not be read at all. They are named, with the reason.")]
    Timeline {
        /// Whose: a name or a handle; everyone followed if left out
        #[arg(value_parser = handle)]
        handle: Option<Handle>,
        /// Print at most this many posts, the newest
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
        /// Go on and print new posts as they appear
        #[arg(long)]
        tail: bool,
    },
    /// List whom somebody follows
    Following {
        /// Who: a name or a handle; yourself if left out
        #[arg(value_parser = handle)]
        handle: Option<Handle>,
    },
    /// List who follows somebody
    Followers {
        /// Who: a name or a handle; yourself if left out
        #[arg(value_parser = handle)]
        handle: Option<Handle>,
    },
    /// Say who somebody is: key, address, posts, and who else has the name
    #[command(after_help = "\
Examples:
  strandline whois alice
  strandline --json whois alice | jq -r .chosen_by      pin, only or first-seen")]
    Whois {
        /// Who: a name or a handle, name~fingerprint
        #[arg(value_parser = handle)]
        handle: Handle,
    },
    /// Say who you are
    Whoami,
    /// Say how the node is: health, addresses, clock, tables, what strangers did wrong
    Status,
    /// List the nodes that this one knows
    Peers,
    /// Find the nodes nearest to a key, which hold what lies there
    #[command(after_help = KEY_EXAMPLES)]
    Lookup {
        /// The key: 64 hexadecimal digits, or any text, which is hashed
        key: String,
        /// Show not only the nodes that hold what lies there, but all that were found, up to 20
        #[arg(long)]
        trace: bool,
    },
    /// Store a value in the network
    #[command(after_help = KEY_EXAMPLES)]
    Put {
        /// The key: 64 hexadecimal digits, or any text, which is hashed
        key: String,
        /// The value
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Read the values stored at a key
    #[command(after_help = KEY_EXAMPLES)]
    Get {
        /// The key: 64 hexadecimal digits, or any text, which is hashed
        key: String,
    },
    /// Send a message to the node nearest to a key
    #[command(after_help = KEY_EXAMPLES)]
    Send {
        /// The key: 64 hexadecimal digits, or any text, which is hashed
        key: String,
        /// The message
        #[arg(allow_hyphen_values = true)]
        text: String,
    },
    /// Write your posts and whom you follow as JSON
    Export {
        /// Where to: a new file; standard output if left out
        file: Option<PathBuf>,
    },
    /// Keep your identity safe, or bring it back
    #[command(
        subcommand,
        after_help = "\
Examples:
  strandline identity backup alice.backup          keep it where nobody else can read it
  strandline --home NEW identity restore alice.backup

Whoever has the backup can post as you. Never run one identity on two machines at once."
    )]
    Identity(IdentityCommand),
    /// Watch a network of real nodes on this machine; it checks every step and ends by itself
    #[command(after_help = "\
It uses real processes and real sockets on the loopback, and folders of its own that it removes.
Exit 0: every step was verified.")]
    Demo {
        /// How many nodes
        #[arg(long, value_name = "N", default_value_t = 8,
              value_parser = clap::value_parser!(u16).range(i64::from(DEMO_NODES_MIN)..=i64::from(DEMO_NODES_MAX)))]
        nodes: u16,
    },
    /// Print the completions of a shell
    #[command(after_help = "\
Example:
  strandline completions bash > ~/.local/share/bash-completion/completions/strandline")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

const UP_EXAMPLES: &str = "\
Examples:
  strandline up --name alice                       a new network; it says how others join it
  strandline --home /tmp/bob up --name bob --listen 127.0.0.1:0 --join 127.0.0.1:7827
  strandline up                                    next time: name and contacts are remembered

It prints one line, `ready …`, once it can be used. Ctrl-C says goodbye to the network and ends it.
DUR is a whole number with s, m, h or d; a bare number counts seconds.";

const KEY_EXAMPLES: &str = "\
Examples:
  strandline put colour blue                       signed by you; others may put theirs beside it
  strandline get colour
  strandline lookup colour                         which nodes hold it, the nearest first
  strandline send colour 'are you there?'          to the nearest of them

Hops: how many steps away from this node another was learned of; 0 is one that it knew.
A node shows the messages that it gets on stderr when it runs with -v.";

/// The options of `up`.
#[derive(clap::Args, Debug)]
pub struct Up {
    /// Your name: 1 to 24 characters a-z 0-9 _ -, beginning with a letter; needed the first time
    #[arg(long, value_parser = name)]
    pub name: Option<Name>,
    /// Where to listen, UDP and TCP; port 0 takes any free one
    #[arg(long, value_name = "IP:PORT", value_parser = listen,
          default_value_t = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT))]
    pub listen: SocketAddr,
    /// A node of the network to join, HOST or HOST:PORT; may be repeated
    #[arg(long, value_name = "ADDR", value_parser = host_and_port)]
    pub join: Vec<String>,
    /// How many people to ask at once when reading timelines
    #[arg(long, value_name = "X", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..=i64::from(FANOUT_MAX)))]
    pub fanout: u8,
    /// How long others may keep your posts after they last heard from you, and you theirs: up to 24h
    #[arg(long, value_name = "DUR", default_value = "1h", value_parser = keep)]
    pub keep: Duration,
    /// How often to re-read everyone followed; 0: only when asked
    #[arg(long, value_name = "DUR", default_value = "60s", value_parser = refresh)]
    pub refresh: Duration,
    /// A time server, HOST or HOST:PORT; may be repeated
    #[arg(long, value_name = "HOST[:PORT]", value_parser = time_server, conflicts_with = "no_ntp")]
    pub ntp: Vec<String>,
    /// Ask no time server; use the system's clock
    #[arg(long)]
    pub no_ntp: bool,
    /// Name of the network; networks of different names never mix
    #[arg(long, value_name = "NAME", default_value = NETWORK_DEFAULT, value_parser = network)]
    pub network: String,
}

/// What can be done with an identity.
#[derive(Subcommand, Debug)]
pub enum IdentityCommand {
    /// Copy the identity to a new file that only you can read
    Backup {
        /// Where to: a new file
        file: PathBuf,
    },
    /// Bring an identity back into a home that has none
    Restore {
        /// The backup
        file: PathBuf,
    },
}

/// Reads DUR: a whole number with `s`, `m`, `h` or `d`; bare means seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_s: u64 = match text.strip_prefix(digits) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        Some("d") => 24 * 3600,
        Some(_) | None => {
            return Err("a duration is a whole number with s, m, h or d, such as 90s or 1h".into());
        }
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("a duration is a whole number with s, m, h or d, such as 90s or 1h".into());
    }
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(unit_s))
        .map(Duration::from_secs)
        .ok_or_else(|| "that is longer than anything here can last".into())
}

/// Reads a duration within limits, both inclusive.
fn duration_within(text: &str, least_s: u64, most_s: u64) -> Result<Duration, String> {
    let duration = duration(text)?;
    if (least_s..=most_s).contains(&duration.as_secs()) {
        Ok(duration)
    } else {
        Err(format!("it must be {least_s} to {most_s} seconds"))
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    duration_within(text, 1, TIMEOUT_S_MAX)
}

fn keep(text: &str) -> Result<Duration, String> {
    duration_within(text, 1, u64::from(KEEP_MAX_MS / 1000))
}

fn refresh(text: &str) -> Result<Duration, String> {
    duration_within(text, 0, REFRESH_S_MAX)
}

fn name(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|error| error.to_string())
}

fn handle(text: &str) -> Result<Handle, String> {
    Handle::parse(text).map_err(|error| error.to_string())
}

/// Reads `IP:PORT`, or an IP address alone, which gets the default port.
fn listen(text: &str) -> Result<SocketAddr, String> {
    let alone = || {
        let ip: Option<IpAddr> = text.parse().ok();
        ip.map(|ip| SocketAddr::new(ip, PORT))
    };
    let addr = text.parse().ok().or_else(alone);
    addr.ok_or_else(|| "it takes IP:PORT, such as 0.0.0.0:7827 or [::]:7827".into())
}

/// Reads the address of a node, and gives it the default port where it has none.
fn host_and_port(text: &str) -> Result<String, String> {
    with_port(text, PORT)
}

/// Reads the address of a time server, and gives it the port of NTP where it has none.
fn time_server(text: &str) -> Result<String, String> {
    with_port(text, 123)
}

fn with_port(text: &str, default: u16) -> Result<String, String> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(addr.to_string());
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, default).to_string());
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (text, Some(default)),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match port {
        Some(port) if !host.is_empty() && host.chars().all(allowed) => Ok(format!("{host}:{port}")),
        Some(_) | None => {
            Err("it takes HOST:PORT, such as 192.0.2.7:7827 or node.example:7827".into())
        }
    }
}

fn network(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > NETWORK_LEN_MAX {
        return Err(format!("a network's name has 1 to {NETWORK_LEN_MAX} bytes"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in [
            "strandline --json --home /h --timeout 3 -v whoami",
            "strandline whoami --json --home /h --timeout 3 -v",
            "strandline --json whoami --home /h -v --timeout 3s",
        ] {
            let cli = parse(line).unwrap();
            assert!(cli.global.json, "{line}");
            assert_eq!(cli.global.home.as_deref(), Some("/h".as_ref()), "{line}");
            assert_eq!(cli.global.timeout, Duration::from_secs(3), "{line}");
            assert_eq!(cli.global.verbose, 1, "{line}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, seconds) in [
            ("0", 0),
            ("7", 7),
            ("90s", 90),
            ("2m", 120),
            ("1h", 3600),
            ("3d", 259_200),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "1.5s",
            "-1",
            "+1",
            "1ms",
            "1S",
            "1 s",
            "s1",
            "99999999999999999999",
            "9999999999999999d",
            "1é",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_hold_and_the_limit_itself_is_allowed() {
        for line in [
            "up --keep 24h",
            "up --keep 1",
            "up --fanout 16",
            "up --refresh 0",
            "up --refresh 1d",
            "demo --nodes 5",
            "demo --nodes 32",
            "whoami --timeout 3600",
            "timeline --limit 4000000000",
        ] {
            assert!(parse(&format!("strandline {line}")).is_ok(), "{line}");
        }
        for line in [
            "up --keep 86401",
            "up --keep 0",
            "up --fanout 17",
            "up --fanout 0",
            "up --refresh 86401",
            "demo --nodes 4",
            "demo --nodes 33",
            "whoami --timeout 0",
            "whoami --timeout 3601",
            "timeline --limit -1",
            "up --ntp a --no-ntp",
            "up --name Alice",
            "up --name aaaaaaaaaaaaaaaaaaaaaaaaa",
            "follow 1bob",
            "follow bob~12",
            "follow",
            "post",
            "nonsense",
        ] {
            let error = parse(&format!("strandline {line}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn addresses_get_the_default_port() {
        for (text, addr) in [
            ("192.0.2.7", "192.0.2.7:7827"),
            ("192.0.2.7:9", "192.0.2.7:9"),
            ("node.example", "node.example:7827"),
            ("node.example:9", "node.example:9"),
            ("::1", "[::1]:7827"),
            ("[::1]", "[::1]:7827"),
            ("[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(host_and_port(text).as_deref(), Ok(addr));
        }
        for text in [
            "",
            ":9",
            "host:",
            "host:x",
            "host:70000",
            "a b",
            "a/b",
            "[::1",
        ] {
            assert!(host_and_port(text).is_err(), "{text}");
        }
        assert_eq!(listen("::"), Ok("[::]:7827".parse().unwrap()));
        assert_eq!(listen("127.0.0.1:0"), Ok("127.0.0.1:0".parse().unwrap()));
        assert!(listen("localhost").is_err());
        assert_eq!(
            time_server("pool.ntp.org").as_deref(),
            Ok("pool.ntp.org:123")
        );
    }

    #[test]
    fn a_post_may_begin_with_a_hyphen() {
        for text in ["-", "-5 degrees", "--"] {
            let cli = Cli::try_parse_from(["strandline", "post", "--", text]).unwrap();
            let Command::Post { text: parsed } = cli.command else {
                panic!("{:?}", cli.command);
            };
            assert_eq!(parsed, text);
        }
        let cli = Cli::try_parse_from(["strandline", "post", "-5 degrees"]).unwrap();
        assert!(matches!(cli.command, Command::Post { text } if text == "-5 degrees"));
        let cli = Cli::try_parse_from(["strandline", "post", "-"]).unwrap();
        assert!(matches!(cli.command, Command::Post { text } if text == "-"));
    }
}
