//! What a person or a script is told when something fails: the exit code and a plain sentence each for what, why and
//! what next. Owns the table of exit codes, which scripts rely on; prints nothing itself.

use std::fmt;

use serde_json::{Value, json};

/// How a command ended. The numbers are part of the command line's contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something inside failed, or the port is taken.
    Internal = 1,
    /// The command was used wrongly: an empty or overlong post, a bad name.
    Usage = 2,
    /// Nothing was found, also when there was nobody to ask.
    NotFound = 3,
    /// No node is running on this home.
    NoNode = 4,
    /// Done in part, or not in time.
    Partial = 5,
    /// Not permitted: the home is in use, unwritable, or readable by others.
    NotPermitted = 6,
    /// Verification failed: identity or database are damaged. Nothing was overwritten.
    Damaged = 7,
    /// Something is full.
    Full = 8,
    /// The name is ambiguous.
    Ambiguous = 9,
}

impl Exit {
    /// Every exit, by number.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::Internal,
        Self::Usage,
        Self::NotFound,
        Self::NoNode,
        Self::Partial,
        Self::NotPermitted,
        Self::Damaged,
        Self::Full,
        Self::Ambiguous,
    ];

    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The exit with this code, if there is one.
    #[must_use]
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| exit.code() == code)
    }

    /// The status with which the control channel answers.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Ok | Self::Partial => 200,
            Self::Usage => 400,
            Self::NotPermitted => 403,
            Self::NotFound => 404,
            Self::Ambiguous => 409,
            Self::Damaged => 500,
            Self::Internal | Self::NoNode | Self::Full => 503,
        }
    }
}

/// A failure as it is told: what failed, why, and what to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// With which exit code.
    pub exit: Exit,
    /// What failed.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do next; may be empty.
    pub next: String,
    /// For an ambiguous name: the handles that tell the people apart.
    pub handles: Vec<String>,
}

impl Failure {
    /// Makes a failure.
    pub fn new(
        exit: Exit,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            exit,
            what: what.into(),
            why: why.into(),
            next: next.into(),
            handles: Vec::new(),
        }
    }

    /// The failure as the control channel and `--json` show it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut error = json!({
            "exit": self.exit.code(), "what": self.what, "why": self.why, "next": self.next,
        });
        if !self.handles.is_empty()
            && let Some(fields) = error.as_object_mut()
        {
            fields.insert("handles".into(), json!(self.handles));
        }
        json!({ "v": 1, "error": error })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        if !self.next.is_empty() {
            write!(f, "\n{}", self.next)?;
        }
        for handle in &self.handles {
            write!(f, "\n  {handle}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// The failure of something that only fails when the system or this program is at fault.
pub(crate) fn internal(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    let next = "If it happens again, it is a mistake of this program: please report it.";
    let why = why.into().to_string();
    Failure::new(Exit::Internal, "the node failed", why, next)
}

#[cfg(test)]
mod tests {
    use super::{Exit, Failure};

    #[test]
    fn codes_are_those_of_the_contract_and_read_back() {
        for (code, exit) in (0..).zip(Exit::ALL) {
            assert_eq!(exit.code(), code);
            assert_eq!(Exit::of_code(code), Some(exit));
        }
        assert_eq!(Exit::of_code(10), None);
    }

    #[test]
    fn handles_are_shown_only_when_there_are_any() {
        let mut failure = Failure::new(Exit::Ambiguous, "cannot follow bob", "two", "pick one");
        assert_eq!(failure.to_json().pointer("/error/handles"), None);
        failure.handles.push("bob~0000aaaa".into());
        assert_eq!(
            failure.to_json().to_string(),
            r#"{"v":1,"error":{"exit":9,"what":"cannot follow bob","why":"two","next":"pick one","handles":["bob~0000aaaa"]}}"#
        );
        assert_eq!(
            failure.to_string(),
            "cannot follow bob: two\npick one\n  bob~0000aaaa"
        );
    }
}
