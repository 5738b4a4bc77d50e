//! `strandline timeline --tail`: goes on reading, and prints what is new.
//!
//! Owns what was printed already. It polls; nothing is printed twice, and a poll that brings nothing new prints nothing.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use strandline_mio::{Exit, Failure};

use crate::client::Client;
use crate::render::{self, Style, list};

/// Pause between two readings.
const PAUSE: Duration = Duration::from_secs(1);
/// How many printed posts are remembered; beyond that only those of the last reading are.
const SEEN_MAX: usize = 100_000;

/// Prints the timeline and then new posts as they appear, until Ctrl-C ends the process with 0 or nobody reads any more.
///
/// # Errors
/// What kept the timeline from being read, except that it was partial or that the node was busy.
pub fn run(
    client: &Client,
    arguments: &Value,
    json: bool,
    style: impl Fn() -> Style,
) -> Result<Exit, Failure> {
    for signal in [SIGINT, SIGTERM] {
        // Nothing is open that would have to be put away, so ending at once is clean.
        let always = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_shutdown(signal, 0, always).map_err(|error| {
            let what = "cannot follow the timeline";
            Failure::new(Exit::Internal, what, error.to_string(), "")
        })?;
    }
    let mut news = News::default();
    let mut audience = Audience::of_stdout();
    loop {
        match client.call("timeline", arguments.clone()) {
            Ok(answer) => {
                if let Some(body) = news.take(&answer.body) {
                    let shown = if json {
                        format!("{body}\n")
                    } else {
                        for_people(&body, style())
                    };
                    if !print(&shown) {
                        return Ok(Exit::Ok);
                    }
                }
            }
            Err(failure) if matches!(failure.exit, Exit::Full | Exit::Partial) => {
                log::info!("{failure}");
            }
            Err(failure) => return Err(failure),
        }
        if !audience.stays(PAUSE) {
            return Ok(Exit::Ok);
        }
    }
}

/// Whoever reads what is printed. When nothing new comes, nothing is written, and a write would be the only thing to fail.
struct Audience {
    /// `None` where the system cannot tell: a file does not go away.
    watch: Option<Poll>,
}

impl Audience {
    fn of_stdout() -> Self {
        let watch = Poll::new().and_then(|poll| {
            let stdout = io::stdout().as_raw_fd();
            poll.registry()
                .register(&mut SourceFd(&stdout), Token(0), Interest::WRITABLE)?;
            Ok(poll)
        });
        Self { watch: watch.ok() }
    }

    /// Waits so long; false as soon as nobody reads any more.
    fn stays(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut events = Events::with_capacity(1);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let Some(watch) = &mut self.watch else {
                thread::sleep(left);
                continue;
            };
            if let Err(error) = watch.poll(&mut events, Some(left)) {
                log::debug!("cannot watch standard output: {error}");
                if error.kind() != io::ErrorKind::Interrupted {
                    self.watch = None;
                }
            } else if events.iter().any(|e| e.is_write_closed() || e.is_error()) {
                return false;
            }
        }
    }
}

/// What came anew. The newest is last, as befits a page that grows downward.
fn for_people(body: &Value, style: Style) -> String {
    let mut out = String::new();
    for post in list(body, "posts").iter().rev() {
        render::post(&mut out, post, style);
    }
    let _ = io::stderr().write_all(render::missing_people(list(body, "missing")).as_bytes());
    out
}

/// Writes at once; false when nobody reads any more.
fn print(text: &str) -> bool {
    let mut stdout = io::stdout();
    let written = stdout.write_all(text.as_bytes());
    written.and_then(|()| stdout.flush()).is_ok()
}

/// Tells the new from what was there before.
#[derive(Debug, Default)]
struct News {
    seen: HashSet<(String, u64)>,
    /// The missing of the last reading; `None` before the first.
    missing: Option<Value>,
}

impl News {
    /// Returns the answer with only its new posts; `None` when it has none and nobody else is missing than before. The
    /// first answer is new, even when it is empty.
    fn take(&mut self, body: &Value) -> Option<Value> {
        let posts = list(body, "posts");
        let new: Vec<&Value> = posts
            .iter()
            .filter(|post| !self.seen.contains(&id_of(post)))
            .collect();
        let missing = body.get("missing").cloned().unwrap_or_else(|| json!([]));
        let other_missing = self.missing.as_ref() != Some(&missing);
        let answer = (other_missing || !new.is_empty()).then(|| {
            let mut answer = body.clone();
            if let Some(fields) = answer.as_object_mut() {
                fields.insert("posts".to_owned(), json!(new));
            }
            answer
        });
        if self.seen.len().saturating_add(posts.len()) > SEEN_MAX {
            self.seen.clear();
        }
        self.seen.extend(posts.iter().map(id_of));
        self.missing = Some(missing);
        answer
    }
}

/// What makes a post itself: its author and its number.
fn id_of(post: &Value) -> (String, u64) {
    let handle = post.get("handle").and_then(Value::as_str);
    let seq = post.get("seq").and_then(Value::as_u64);
    (handle.unwrap_or_default().to_owned(), seq.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn answer(posts: &[(&str, u64)], missing: &[&str]) -> Value {
        let posts: Vec<Value> = posts
            .iter()
            .map(|(handle, seq)| json!({"handle": handle, "seq": seq}))
            .collect();
        json!({"v": 1, "complete": missing.is_empty(), "posts": posts, "missing": missing})
    }

    #[test]
    fn only_what_is_new_is_printed() {
        let mut news = News::default();
        let first = answer(&[("a", 1)], &[]);
        assert_eq!(news.take(&first).unwrap(), first);
        assert_eq!(news.take(&first), None);
        let second = news.take(&answer(&[("b", 1), ("a", 1)], &[])).unwrap();
        assert_eq!(second, answer(&[("b", 1)], &[]));
    }

    #[test]
    fn a_post_that_comes_back_into_view_is_not_printed_again() {
        let mut news = News::default();
        assert!(news.take(&answer(&[("a", 1)], &[])).is_some());
        assert!(news.take(&answer(&[("a", 2)], &[])).is_some());
        assert_eq!(news.take(&answer(&[("a", 1)], &[])), None);
    }

    #[test]
    fn an_empty_first_answer_and_a_change_of_the_missing_are_news() {
        let mut news = News::default();
        assert!(news.take(&answer(&[], &[])).is_some());
        assert!(news.take(&answer(&[], &["a"])).is_some());
        assert_eq!(news.take(&answer(&[], &["a"])), None);
        assert!(news.take(&answer(&[], &[])).is_some());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut news = News::default();
        let many: Vec<(&str, u64)> = (0..SEEN_MAX as u64).map(|seq| ("a", seq)).collect();
        assert!(news.take(&answer(&many, &[])).is_some());
        assert!(news.take(&answer(&[("b", 1)], &[])).is_some());
        assert_eq!(news.seen.len(), 1);
    }
}
