//! Log lines on stderr. Owns the one logger of a process, for the binary to install; the library itself only speaks to the
//! `log` facade.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// The environment variable that sets the level: off, error, warn, info, debug or trace.
pub const LEVEL_VARIABLE: &str = "STRANDLINE_LOG";

/// Installs the logger. `verbose` counts how often `-v` was given: warnings are always shown, 1 adds what a person may
/// want to follow, 2 what a developer may; [`LEVEL_VARIABLE`] overrides it. Does nothing if the process has a logger.
pub fn install(verbose: u8) {
    let asked = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        3.. => LevelFilter::Trace,
    };
    let level = std::env::var(LEVEL_VARIABLE)
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(asked);
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What other crates say below a warning is of no use to whoever runs a node.
        metadata.level() <= Level::Warn || metadata.target().starts_with("strandline")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let ms = since.map_or(0, |since| since.as_millis() % 86_400_000);
        let (s, ms) = (ms / 1000, ms % 1000);
        let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
        let level = record.level().as_str().to_ascii_lowercase();
        // A log that cannot be written is nobody's concern any more.
        let _ = writeln!(
            std::io::stderr().lock(),
            "{h:02}:{m:02}:{s:02}.{ms:03} {level}: {}",
            record.args()
        );
    }

    fn flush(&self) {}
}
