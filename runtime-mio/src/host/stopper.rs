//! How a host is woken and stopped: by another thread, by a command, or by a signal. Owns what was asked; the host looks at
//! it once a turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Stops a [`Host`](super::Host) from another thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    pub(super) asked: Arc<AtomicU8>,
    pub(super) waker: Waker,
}

/// Wakes a [`Host`](super::Host) from another thread, so that its application may act.
#[derive(Clone, Debug)]
pub struct Waker(pub(super) Arc<mio::Waker>);

impl Waker {
    /// Lets the host take a turn soon. Several calls may bring about one turn.
    pub fn wake(&self) {
        if let Err(error) = self.0.wake() {
            log::warn!("cannot wake the loop: {error}");
        }
    }
}

/// Asked to say goodbye and to end.
pub(super) const LEAVE: u8 = 1;
/// Asked to end at once.
pub(super) const HALT: u8 = 2;

impl Stopper {
    /// Asks it to say goodbye to the network and to end, within 2 s.
    pub fn stop(&self) {
        self.ask(LEAVE);
    }

    /// Asks it to end at once, without a word, like a crash.
    pub fn halt(&self) {
        self.ask(HALT);
    }

    /// Asks for one of these; what was asked before and is more stays.
    pub(super) fn ask(&self, what: u8) {
        self.asked.fetch_max(what, Ordering::Relaxed);
        self.waker.wake();
    }

    /// The first signal asks it to leave, the next one to end.
    pub(super) fn on_signal(&self) {
        let again = self.asked.load(Ordering::Relaxed) >= LEAVE;
        self.ask(if again { HALT } else { LEAVE });
    }
}
