//! How the program ends: errors of an answer read back, errors told, and the exit code of the process.
//!
//! Owns what reaches standard error when a command fails. The codes and the sentences are the library's. Invariant: a
//! failure says what failed, why, and what to do next on standard error, whether or not scripts asked for JSON.

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::Value;
use strandline_mio::{Exit, Failure};

use crate::text::harmless;

/// The exit with this number; a number that is not in the contract is an internal error.
pub fn exit_of(code: u64) -> Exit {
    let code = u8::try_from(code).ok();
    code.and_then(Exit::of_code).unwrap_or(Exit::Internal)
}

/// Reads the error out of an answer's body; `None` when it holds none.
pub fn failure_of(body: &Value) -> Option<Failure> {
    let error = body.get("error")?;
    let text = |name| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let code = error.get("exit").and_then(Value::as_u64).unwrap_or(1);
    let mut failure = Failure::new(exit_of(code), text("what"), text("why"), text("next"));
    let handles = error.get("handles").and_then(Value::as_array);
    let handles = handles.into_iter().flatten().filter_map(Value::as_str);
    failure.handles = handles.map(str::to_owned).collect();
    Some(failure)
}

/// The error of a file or stream that is not the node's own.
pub fn failure_of_io(what: impl Into<String>, error: &io::Error, next: &str) -> Failure {
    let exit = if error.kind() == io::ErrorKind::NotFound {
        Exit::NotFound
    } else if error.kind() == io::ErrorKind::StorageFull {
        Exit::Full
    } else {
        Exit::NotPermitted
    };
    Failure::new(exit, what, error.to_string(), next)
}

/// Tells a failure on standard error, and on standard output as one JSON object where scripts asked for that; returns
/// how the process ends.
pub fn tell(failure: &Failure, json: bool) -> ExitCode {
    if json {
        // Whoever closed the pipe does not want it.
        let _ = writeln!(io::stdout(), "{}", failure.to_json());
    }
    let message = failure.to_string();
    let _ = writeln!(io::stderr(), "strandline: {}", harmless(&message));
    ExitCode::from(failure.exit.code())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_survives_the_way_through_an_answer() {
        let mut failure = Failure::new(Exit::Ambiguous, "cannot follow bob", "two", "use one");
        failure.handles = vec!["bob~11112222".to_owned(), "bob~33334444".to_owned()];
        assert_eq!(failure_of(&failure.to_json()).unwrap(), failure);
    }

    #[test]
    fn an_answer_without_an_error_holds_none() {
        assert_eq!(failure_of(&json!({"v": 1, "seq": 3})), None);
    }

    #[test]
    fn an_error_without_its_parts_is_internal() {
        assert_eq!(
            failure_of(&json!({"error": {}})).unwrap().exit,
            Exit::Internal
        );
        assert_eq!(exit_of(9), Exit::Ambiguous);
        assert_eq!(exit_of(10), Exit::Internal);
        assert_eq!(exit_of(u64::MAX), Exit::Internal);
    }
}
