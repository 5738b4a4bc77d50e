//! Contacts set aside: those that stopped answering and may come back, as when a partition heals.
//!
//! Owns the list and the time of the next ping. Invariant: a contact is in it at most once, and no longer than
//! [`SILENT_S`].

use crate::bounded::List;
use crate::crypto::Crypto;
use crate::rng::Rng;
use crate::time::{Deadline, Instant};
use crate::wire::datagram::Contact;

use super::{Silent, seconds};

/// How often one of the contacts set aside is pinged, in ms.
pub const PROBE_MS: u64 = 30 * 1_000;
/// How soon the next one is pinged after one answered, in ms.
pub const PROBE_AGAIN_MS: u64 = 1_000;
/// How long contacts are kept aside, in seconds.
pub const SILENT_S: u32 = 24 * 60 * 60;
const JITTER_PERCENT: u32 = 25;

/// The contacts set aside, in `F`: the one to be pinged next first.
#[derive(Clone, Debug)]
pub(super) struct Aside<F> {
    silent: F,
    wake: Deadline,
}

impl<F: List<Silent>> Aside<F> {
    pub(super) const EMPTY: Self = Self {
        silent: F::EMPTY,
        wake: Deadline::NEVER,
    };

    /// When to call [`next`](Self::next).
    pub(super) const fn wake(&self) -> Deadline {
        self.wake
    }

    /// Whether a contact is here.
    pub(super) fn holds(&self, contact: &Contact) -> bool {
        self.silent.iter().any(|silent| silent.contact == *contact)
    }

    /// Keeps a contact that failed; the one silent for longest makes place.
    pub(super) fn push(&mut self, now: Instant, contact: Contact) {
        self.silent.retain(|silent| silent.contact.id != contact.id);
        if self.silent.is_full() {
            let places = self.silent.iter().enumerate();
            let oldest = places.min_by_key(|(_, silent)| silent.since_s);
            if let Some(at) = oldest.map(|(at, _)| at) {
                self.silent.remove(at);
            }
        }
        // Full only when the plan has no places at all.
        let _ = self.silent.push(Silent {
            contact,
            since_s: seconds(now),
        });
        if self.wake.is_never() {
            self.wake = Deadline::at(now.after_ms(PROBE_MS));
        }
    }

    /// A contact is back: perhaps the network healed, so the others are pinged soon.
    pub(super) fn answered(&mut self, now: Instant, contact: &Contact) {
        let before = self.silent.len();
        self.silent.retain(|silent| silent.contact.id != contact.id);
        if self.silent.len() < before && !self.silent.is_empty() {
            self.wake = Deadline::at(now.after_ms(PROBE_AGAIN_MS));
        }
    }

    /// The next one to ping, when that is due.
    pub(super) fn next<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Option<Contact> {
        let now_s = seconds(now);
        self.silent
            .retain(|silent| now_s.saturating_sub(silent.since_s) < SILENT_S);
        let Some(silent) = self.silent.remove(0) else {
            self.wake = Deadline::NEVER;
            return None;
        };
        // It was just taken out: there is room.
        let _ = self.silent.push(silent);
        self.wake = Deadline::at(now.after_ms(rng.jitter(PROBE_MS, JITTER_PERCENT)));
        Some(silent.contact)
    }
}
