//! The commands of the control channel: their names and arguments. Owns the reading of JSON arguments and what is refused
//! with [`Exit::Usage`]; carrying them out is the host's business.

use serde_json::{Map, Value};
use strandline_core::crypto::Ed25519;
use strandline_core::id::Key;
use strandline_core::name::Handle;
use strandline_core::wire::{MESSAGE_LEN_MAX, PAYLOAD_LEN_MAX, TEXT_LEN_MAX};

use crate::failure::{Exit, Failure};

/// How long a command may take unless it says otherwise, in ms.
pub const TIMEOUT_DEFAULT_MS: u32 = 10_000;
/// Longest time that a command may take, in ms.
pub const TIMEOUT_MAX_MS: u32 = 60 * 60 * 1000;
/// How many posts are shown unless the command says otherwise.
pub const LIMIT_DEFAULT: usize = 50;
/// For how long a value is stored unless the command says otherwise, in s; also the longest.
pub const TTL_MAX_S: u32 = 24 * 60 * 60;

/// The names of the commands.
pub const NAMES: [&str; 16] = [
    "post",
    "follow",
    "unfollow",
    "timeline",
    "following",
    "followers",
    "whois",
    "whoami",
    "status",
    "peers",
    "lookup",
    "put",
    "get",
    "send",
    "export",
    "stop",
];

/// A key as a person named it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedKey {
    /// The key.
    pub key: Key,
    /// What was typed.
    pub text: String,
}

impl NamedKey {
    /// The key that a person names: 64 hex digits are the key itself, anything else is hashed.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            key: Key::parse_hex(text).unwrap_or_else(|| Key::of_text::<Ed25519>(text)),
            text: text.into(),
        }
    }
}

/// A command with its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Publish a post.
    Post {
        /// The text, not checked yet.
        text: String,
    },
    /// Follow somebody.
    Follow {
        /// Whom.
        handle: Handle,
    },
    /// Follow somebody no more.
    Unfollow {
        /// Whom.
        handle: Handle,
    },
    /// Read posts.
    Timeline {
        /// Whose; `None`: of everyone followed, and one's own.
        handle: Option<Handle>,
        /// How many to show.
        limit: usize,
    },
    /// List whom somebody follows.
    Following {
        /// `None`: oneself.
        handle: Option<Handle>,
    },
    /// List who follows somebody.
    Followers {
        /// `None`: oneself.
        handle: Option<Handle>,
    },
    /// Look somebody up.
    Whois {
        /// Whom.
        handle: Handle,
    },
    /// Say who one is.
    Whoami,
    /// Say how the node is.
    Status,
    /// List the contacts.
    Peers,
    /// Find the nodes nearest to a key.
    Lookup {
        /// The key.
        key: NamedKey,
        /// Show not only those that hold the records of the key, but all that were found.
        trace: bool,
    },
    /// Store a value.
    Put {
        /// Where.
        key: NamedKey,
        /// The value.
        value: String,
        /// For how long.
        ttl_s: u32,
    },
    /// Read the values at a key.
    Get {
        /// Where.
        key: NamedKey,
    },
    /// Send a message to the node nearest to a key.
    Send {
        /// The key.
        key: NamedKey,
        /// The message.
        text: String,
    },
    /// Show all own posts and whom one follows.
    Export,
    /// Stop the node.
    Stop,
}

/// A command, and how long it may take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The command.
    pub command: Command,
    /// How long it may take, in ms.
    pub timeout_ms: u32,
}

impl Call {
    /// Reads a command's arguments: a JSON object, or nothing. Fields that are not known are ignored.
    ///
    /// # Errors
    /// [`Exit::Usage`] for an unknown name and for arguments that are missing, of the wrong type or outside their limits.
    pub fn read(name: &str, body: &[u8]) -> Result<Self, Failure> {
        let arguments = Arguments::read(name, body)?;
        let command = arguments.command()?;
        let timeout_ms = arguments.number("timeout_ms", 1, TIMEOUT_MAX_MS.into())?;
        let timeout_ms = timeout_ms.and_then(|ms| u32::try_from(ms).ok());
        Ok(Self {
            command,
            timeout_ms: timeout_ms.unwrap_or(TIMEOUT_DEFAULT_MS),
        })
    }
}

struct Arguments<'n> {
    name: &'n str,
    fields: Map<String, Value>,
}

impl<'n> Arguments<'n> {
    fn read(name: &'n str, body: &[u8]) -> Result<Self, Failure> {
        let fields = if body.is_empty() {
            Ok(Map::new())
        } else {
            serde_json::from_slice(body)
        };
        fields.map(|fields| Self { name, fields }).map_err(|error| {
            usage(
                name,
                format!("the arguments are not a JSON object: {error}"),
            )
        })
    }

    fn command(&self) -> Result<Command, Failure> {
        Ok(match self.name {
            "post" => Command::Post {
                text: self.post_text()?,
            },
            "follow" => Command::Follow {
                handle: self.handle()?,
            },
            "unfollow" => Command::Unfollow {
                handle: self.handle()?,
            },
            "timeline" => Command::Timeline {
                handle: self.handle_if_any()?,
                limit: self
                    .number("limit", 0, u64::MAX)?
                    .map_or(LIMIT_DEFAULT, |n| usize::try_from(n).unwrap_or(usize::MAX)),
            },
            "following" => Command::Following {
                handle: self.handle_if_any()?,
            },
            "followers" => Command::Followers {
                handle: self.handle_if_any()?,
            },
            "whois" => Command::Whois {
                handle: self.handle()?,
            },
            "whoami" => Command::Whoami,
            "status" => Command::Status,
            "peers" => Command::Peers,
            "lookup" => Command::Lookup {
                key: self.key()?,
                trace: self.flag("trace")?,
            },
            "put" => Command::Put {
                key: self.key()?,
                value: self.text_within("value", PAYLOAD_LEN_MAX)?,
                ttl_s: self
                    .number("ttl_s", 1, TTL_MAX_S.into())?
                    .and_then(|s| u32::try_from(s).ok())
                    .unwrap_or(TTL_MAX_S),
            },
            "get" => Command::Get { key: self.key()? },
            "send" => Command::Send {
                key: self.key()?,
                text: self.text_within("text", MESSAGE_LEN_MAX)?,
            },
            "export" => Command::Export,
            "stop" => Command::Stop,
            _ => return Err(usage(self.name, "there is no such command".into())),
        })
    }

    fn value(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn text(&self, field: &str) -> Result<Option<&str>, Failure> {
        let Some(value) = self.value(field) else {
            return Ok(None);
        };
        let wrong = || usage(self.name, format!("\"{field}\" is not a text"));
        value.as_str().map(Some).ok_or_else(wrong)
    }

    fn needed(&self, field: &str) -> Result<&str, Failure> {
        let missing = || usage(self.name, format!("\"{field}\" is missing"));
        self.text(field)?.ok_or_else(missing)
    }

    fn text_within(&self, field: &str, len_max: usize) -> Result<String, Failure> {
        let text = self.needed(field)?;
        if text.len() > len_max {
            let len = text.len();
            let why = format!("it has {len} bytes; {len_max} is the limit");
            return Err(usage(self.name, why));
        }
        Ok(text.into())
    }

    fn post_text(&self) -> Result<String, Failure> {
        let text = self.text_within("text", TEXT_LEN_MAX)?;
        if text.trim().is_empty() {
            return Err(usage(self.name, "the text is empty".into()));
        }
        Ok(text)
    }

    fn number(&self, field: &str, min: u64, max: u64) -> Result<Option<u64>, Failure> {
        let Some(value) = self.value(field) else {
            return Ok(None);
        };
        let number = value.as_u64().filter(|n| (min..=max).contains(n));
        let wrong = || {
            let why = format!("\"{field}\" is not a whole number from {min} to {max}");
            usage(self.name, why)
        };
        number.map(Some).ok_or_else(wrong)
    }

    fn flag(&self, field: &str) -> Result<bool, Failure> {
        let Some(value) = self.value(field) else {
            return Ok(false);
        };
        let wrong = || usage(self.name, format!("\"{field}\" is neither true nor false"));
        value.as_bool().ok_or_else(wrong)
    }

    fn handle(&self) -> Result<Handle, Failure> {
        self.read_handle(self.needed("handle")?)
    }

    fn handle_if_any(&self) -> Result<Option<Handle>, Failure> {
        let text = self.text("handle")?;
        text.map(|text| self.read_handle(text)).transpose()
    }

    fn read_handle(&self, text: &str) -> Result<Handle, Failure> {
        Handle::parse(text).map_err(|error| usage(self.name, format!("{text:?}: {error}")))
    }

    fn key(&self) -> Result<NamedKey, Failure> {
        self.needed("key").map(NamedKey::new)
    }
}

fn usage(name: &str, why: String) -> Failure {
    let next = format!("See: strandline {name} --help");
    Failure::new(Exit::Usage, format!("cannot {name}"), why, next)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn read(name: &str, body: &str) -> Command {
        Call::read(name, body.as_bytes()).unwrap().command
    }

    fn why(name: &str, body: &str) -> String {
        let failure = Call::read(name, body.as_bytes()).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        failure.why
    }

    #[test]
    fn every_name_is_a_command_and_nothing_else() {
        let all = r#"{"text":"x","handle":"bob","key":"k","value":"v"}"#;
        for name in NAMES {
            Call::read(name, all.as_bytes()).unwrap();
        }
        assert!(why("dance", "").contains("no such command"));
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let call = Call::read("timeline", b"").unwrap();
        assert_eq!(call.timeout_ms, TIMEOUT_DEFAULT_MS);
        let timeline = Command::Timeline {
            handle: None,
            limit: LIMIT_DEFAULT,
        };
        assert_eq!(call.command, timeline);
        assert_eq!(
            read("timeline", r#"{"handle":null,"limit":null}"#),
            timeline
        );
        let key = NamedKey::new("k");
        let (trace, ttl_s) = (false, TTL_MAX_S);
        assert_eq!(
            read("lookup", r#"{"key":"k"}"#),
            Command::Lookup {
                key: key.clone(),
                trace
            }
        );
        let value = "v".into();
        assert_eq!(
            read("put", r#"{"key":"k","value":"v"}"#),
            Command::Put { key, value, ttl_s }
        );
    }

    #[test]
    fn what_is_given_counts() {
        let body = br#"{"handle":"@bob~7q3kx2mv","limit":3,"timeout_ms":250,"later":true}"#;
        let call = Call::read("timeline", body).unwrap();
        assert_eq!(call.timeout_ms, 250);
        let handle = Some(Handle::parse("bob~7q3kx2mv").unwrap());
        let limit = 3;
        assert_eq!(call.command, Command::Timeline { handle, limit });
    }

    #[test]
    fn mistakes_are_named() {
        for (name, body, part) in [
            ("post", "[]", "not a JSON object"),
            ("post", "{", "not a JSON object"),
            ("post", "{}", "\"text\" is missing"),
            ("post", r#"{"text":1}"#, "not a text"),
            ("post", r#"{"text":" \n"}"#, "empty"),
            ("whois", r#"{"handle":"Bob"}"#, "begins with a letter"),
            ("whois", r#"{"handle":"bob~1"}"#, "at least 4"),
            ("timeline", r#"{"limit":-1}"#, "whole number"),
            ("timeline", r#"{"limit":1.5}"#, "whole number"),
            ("status", r#"{"timeout_ms":0}"#, "whole number"),
            (
                "lookup",
                r#"{"key":"k","trace":1}"#,
                "neither true nor false",
            ),
            (
                "put",
                r#"{"key":"k","value":"v","ttl_s":86401}"#,
                "whole number",
            ),
        ] {
            let why = why(name, body);
            assert!(why.contains(part), "{name} {body}: {why}");
        }
    }

    #[test]
    fn texts_may_be_as_long_as_their_limit_and_no_longer() {
        for (name, field, len_max) in [
            ("post", "text", TEXT_LEN_MAX),
            ("put", "value", PAYLOAD_LEN_MAX),
            ("send", "text", MESSAGE_LEN_MAX),
        ] {
            let body = |len| format!(r#"{{"key":"k","{field}":"{}"}}"#, "x".repeat(len));
            read(name, &body(len_max));
            assert!(why(name, &body(len_max + 1)).contains("limit"), "{name}");
        }
    }

    #[test]
    fn a_key_is_its_digits_or_the_hash_of_its_text() {
        let digits = "0123456789abcdef".repeat(4);
        assert_eq!(NamedKey::new(&digits).key.to_string(), digits);
        let key = |text| NamedKey::new(text).key;
        assert_eq!(key("k"), Key::of_text::<Ed25519>("k"));
        assert_ne!(key("k"), key("K"));
    }
}
