//! Where the demo is seen: chapters, lines, and a mark for everything that was verified.
//!
//! Owns the layout on the terminal and the record of what was verified. With JSON it stays silent until the end.

use std::io::{self, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::text::{Ink, Paint};

/// Pause after a line, so that eyes can follow; none where nobody watches.
const BEAT: Duration = Duration::from_millis(90);
/// Width of the names' column.
const NAME_WIDTH: usize = 7;

/// The display of one performance.
#[derive(Debug)]
pub struct Stage {
    paint: Paint,
    /// Nothing is shown: the result is told as JSON.
    silent: bool,
    chapters: usize,
    chapter: usize,
    began: Instant,
    verified: Vec<(String, u64)>,
}

impl Stage {
    /// Opens the stage for so many chapters.
    pub fn new(chapters: usize, silent: bool) -> Self {
        Self {
            paint: Paint::of(&io::stdout()),
            silent,
            chapters,
            chapter: 0,
            began: Instant::now(),
            verified: Vec::new(),
        }
    }

    /// Time since the curtain rose.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Says what is to be seen.
    pub fn title(&self, title: &str, about: &str) {
        self.line("");
        self.line(&self.paint.ink(Ink::Bold, format!("  ~~~  {title}  ~~~")));
        self.line(&self.paint.ink(Ink::Dim, format!("  {about}")));
    }

    /// Begins the next chapter.
    pub fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        let number = format!("{}/{}", self.chapter, self.chapters);
        self.line("");
        self.line(&format!(
            "{}  {}",
            self.paint.ink(Ink::Dim, number),
            self.paint.ink(Ink::Bold, title)
        ));
    }

    /// Shows what a character does. `who` is its place in the cast, by which it has its colour.
    pub fn act(&self, who: usize, name: &str, what: &str) {
        let name = format!("{name:>NAME_WIDTH$}");
        self.line(&format!(
            "  {}  {what}",
            self.paint.ink(Ink::Colour(who), name)
        ));
    }

    /// Shows a command that a person would type for what follows.
    pub fn command(&self, command: &str) {
        let command = format!("{:>NAME_WIDTH$}    $ strandline {command}", "");
        self.line(&self.paint.ink(Ink::Dim, command));
    }

    /// Shows a remark.
    pub fn remark(&self, what: &str) {
        let what = format!("{:>NAME_WIDTH$}    {what}", "");
        self.line(&self.paint.ink(Ink::Dim, what));
    }

    /// Shows what was verified, and records it.
    pub fn verified(&mut self, what: &str) {
        let at_ms = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mark = format!("{:>NAME_WIDTH$}  ✓ {what}", "");
        self.line(&self.paint.ink(Ink::Colour(3), mark));
        self.verified.push((what.to_owned(), at_ms));
    }

    /// Shows how much of a wait is left, in place; only where it can be overwritten.
    pub fn waiting(&self, what: &str, left: Duration, whole: Duration) {
        if self.silent || self.paint == Paint::Plain {
            return;
        }
        const CELLS: u128 = 24;
        let filled = CELLS * left.as_millis() / whole.as_millis().max(1);
        let wave: String = (0..CELLS)
            .map(|cell| if cell < filled { '~' } else { '.' })
            .collect();
        let _ = write!(
            io::stdout(),
            "\r{:>NAME_WIDTH$}    {wave} {what}, {} s \x1b[K",
            "",
            left.as_secs()
        );
        let _ = io::stdout().flush();
    }

    /// Ends a wait that was shown.
    pub fn waited(&self) {
        if !self.silent && self.paint == Paint::Coloured {
            let _ = write!(io::stdout(), "\r\x1b[K");
        }
    }

    /// Takes the bow.
    pub fn end(&self) {
        if self.silent {
            let _ = writeln!(io::stdout(), "{}", self.to_json());
            return;
        }
        self.line("");
        self.line(&format!(
            "{} steps verified in {:.1} s. Nothing is left behind; now yours: strandline up --name NAME",
            self.verified.len(),
            self.elapsed().as_secs_f32()
        ));
    }

    fn to_json(&self) -> Value {
        let verified: Vec<Value> = self
            .verified
            .iter()
            .map(|(what, at_ms)| json!({ "what": what, "at_ms": at_ms }))
            .collect();
        let took_ms = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        json!({ "v": 1, "ok": true, "verified": verified, "took_ms": took_ms })
    }

    fn line(&self, line: &str) {
        if self.silent {
            return;
        }
        // The performance goes on when the audience leaves: it is also a test.
        let _ = writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush());
        if self.paint == Paint::Coloured {
            thread::sleep(BEAT);
        }
    }
}
