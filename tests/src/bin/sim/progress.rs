//! One line on stderr that says how far a run is: in place on a terminal, else now and then.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use strandline_tests::sim::World;

/// See the file's first paragraph.
pub struct Progress {
    terminal: bool,
    shown: Instant,
    any: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            shown: Instant::now(),
            any: false,
        }
    }
}

impl Progress {
    /// Shows how far it is, if it is time to.
    pub fn show(&mut self, world: &World, stage: impl FnOnce() -> String) {
        let every = if self.terminal {
            Duration::from_millis(200)
        } else {
            Duration::from_secs(10)
        };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        self.any = true;
        let tally = world.tally();
        let line = format!(
            "{}, {} datagrams, {} commands ended, {} failures",
            stage(),
            tally.datagrams,
            tally.ended,
            world.failures().len()
        );
        if self.terminal {
            eprint!("\r\x1b[K{line}");
        } else {
            eprintln!("{line}");
        }
    }

    /// Takes the line away again.
    pub fn clear(&self) {
        if self.any && self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
