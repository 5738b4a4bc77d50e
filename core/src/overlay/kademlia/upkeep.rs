//! The upkeep of the table: what is looked up and who is pinged without being asked.
//!
//! Owns how the three schedules go on; the table owns their times. Invariant: a schedule that was due is later
//! afterwards, or stopped.

use crate::bounded::List;
use crate::crypto::Crypto;
use crate::id::{ID_BYTES, Key};
use crate::rng::Rng;
use crate::rpc::Peer;
use crate::time::{Deadline, Instant};

use super::guide::Guide;
use super::{
    CHECK_MS, FILL_PAUSE_MS, JITTER_PERCENT, Kademlia, NEIGHBOUR_SILENT_S, PROBE_MS, REFRESH_MS,
    SILENT_S, Timer,
};
use crate::overlay::{Entry, Overlay, Silent, Spare, Upkeep, Width, seconds};

impl<L: List<Entry>, S: List<Spare>, F: List<Silent>, G: Guide, W: Width> Kademlia<L, S, F, G, W> {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(place) = self.timers.get_mut(timer as usize) {
            *place = Deadline::at(at);
        }
    }

    pub(super) fn set_unless_set(&mut self, timer: Timer, at: Instant) {
        let timer = self.timers.get_mut(timer as usize);
        if let Some(place) = timer.filter(|place| place.is_never()) {
            *place = Deadline::at(at);
        }
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        if let Some(place) = self.timers.get_mut(timer as usize) {
            *place = Deadline::NEVER;
        }
    }

    /// The bucket that holds the farthest of the nearest neighbours, plus one: deeper ones are known from
    /// looking up the own id.
    pub(super) fn cursor_max(&self) -> u8 {
        let place = self.entries.len().saturating_sub(Self::k());
        self.bucket_at(place).saturating_add(1)
    }

    pub(super) fn refresh_next<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Upkeep {
        if self.entries.is_empty() {
            self.filling = false;
            self.stop(Timer::Refresh);
            return Upkeep::Nothing;
        }
        let cursor = self.cursor.min(self.cursor_max());
        let target = match cursor.checked_sub(1) {
            Some(bucket) => self.random_in(bucket, rng),
            None => Key::from_bytes(*self.own.as_bytes()),
        };
        if cursor == 0 {
            self.filling = false;
            self.cursor = self.cursor_max();
        } else {
            self.cursor = cursor - 1;
        }
        let pause_ms = if self.filling {
            FILL_PAUSE_MS
        } else {
            REFRESH_MS / (u64::from(self.cursor_max()) + 1)
        };
        self.set(
            Timer::Refresh,
            now.after_ms(rng.jitter(pause_ms, JITTER_PERCENT)),
        );
        Upkeep::Lookup(target)
    }

    /// A random key that shares exactly `bucket` bits with the own id.
    pub(super) fn random_in<C: Crypto>(&self, bucket: u8, rng: &mut Rng<C>) -> Key {
        let mut bytes = [0; ID_BYTES];
        rng.fill(&mut bytes);
        let (whole, bit) = (usize::from(bucket / 8), bucket % 8);
        // The bits of this byte that are the own ones, and the one that is not.
        let flipped = 0x80_u8 >> bit;
        let kept = !(flipped | (flipped - 1));
        for (at, (byte, own)) in bytes.iter_mut().zip(self.own.as_bytes()).enumerate() {
            match at.cmp(&whole) {
                core::cmp::Ordering::Less => *byte = *own,
                core::cmp::Ordering::Equal => {
                    *byte = (own & kept) | (!own & flipped) | (*byte & (flipped - 1));
                }
                core::cmp::Ordering::Greater => {}
            }
        }
        Key::from_bytes(bytes)
    }

    pub(super) fn check_neighbour<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Upkeep {
        if self.entries.is_empty() {
            self.stop(Timer::Check);
            return Upkeep::Nothing;
        }
        self.set(
            Timer::Check,
            now.after_ms(rng.jitter(CHECK_MS, JITTER_PERCENT)),
        );
        let near = self.nearest(&Key::from_bytes(*self.own.as_bytes()));
        let near = near
            .as_slice()
            .get(..Self::replication())
            .unwrap_or(near.as_slice());
        let stalest = near
            .iter()
            .filter_map(|&at| self.at(at))
            .min_by_key(|entry| entry.seen_s);
        match stalest {
            Some(e) if seconds(now).saturating_sub(e.seen_s) >= NEIGHBOUR_SILENT_S => {
                Upkeep::Ping(e.peer())
            }
            Some(_) | None => Upkeep::Nothing,
        }
    }

    pub(super) fn probe_silent<C: Crypto>(&mut self, now: Instant, rng: &mut Rng<C>) -> Upkeep {
        let now_s = seconds(now);
        self.silent
            .retain(|silent| now_s.saturating_sub(silent.since_s) < SILENT_S);
        let Some(silent) = self.silent.remove(0) else {
            self.stop(Timer::Probe);
            return Upkeep::Nothing;
        };
        // It was just taken out: there is room.
        let _ = self.silent.push(silent);
        self.set(
            Timer::Probe,
            now.after_ms(rng.jitter(PROBE_MS, JITTER_PERCENT)),
        );
        Upkeep::Ping(Peer::stranger(silent.contact.addr))
    }
}
