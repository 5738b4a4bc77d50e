//! Puts: what a visit does with the nodes that its lookup found, to have a record held by them.
//!
//! Owns who is asked to hold it, and what their answers come to. Invariant: a record goes one level deeper only where
//! a quorum did not take it because the location is full.

use crate::bounded::{Blobs, Handle};
use crate::lookup::{Candidate, State};
use crate::overlay::Overlay;
use crate::plan::Plan;
use crate::records::{Offer, PutError};
use crate::rpc::Tag;
use crate::wire::RECORD_LEN_MAX;
use crate::wire::record::Record;

use super::Dht;
use super::ops::{Job, OpResult, Put, Tally};
use super::visits::DEPTH_MAX;

impl<P: Plan> Dht<P> {
    /// Holds the record of a put here.
    #[inline(never)] // A record is in its frame, which is not to last while visits go on.
    pub(super) fn put_own(&mut self, handle: Handle) {
        let Some(op) = self.visits.get(handle).map(|visit| visit.op) else {
            return;
        };
        let Some(Job::Put(put)) = self.ops.get(op).map(|op| &op.job) else {
            return;
        };
        let put = *put;
        let mut bytes = [0; RECORD_LEN_MAX];
        let copied = self.parked.get(put.record).and_then(|record| {
            let copy = bytes.get_mut(..record.len())?;
            copy.copy_from_slice(record);
            Some(&*copy)
        });
        let Ok(record) = &Record::decode(copied.unwrap_or_default()) else {
            return;
        };
        let passed_ms = self.now.since_ms(put.begun);
        let outcome = self.offer(&Offer {
            record,
            depth: put.depth,
            spilled: false,
            age_ms: 0,
            remaining_ms: put.remaining_ms.saturating_sub(passed_ms),
            source: None,
        });
        let held = match outcome {
            Err(PutError::Older(id)) => self.records.get(self.now, id),
            Ok(()) | Err(PutError::Full | PutError::NoRoom | PutError::Refused(_)) => None,
        };
        let older = held.and_then(|held| Some(Record::decode(held.bytes).as_ref().ok()?.sequence));
        let Some(Job::Put(put)) = self.ops.get_mut(op).map(|op| &mut op.job) else {
            return;
        };
        put.older = put.older.max(older);
        match outcome {
            Ok(()) => put.tally.accepted += 1,
            Err(PutError::Full) => put.tally.full += 1,
            Err(PutError::Older(_) | PutError::Refused(_)) => put.tally.refused += 1,
            Err(PutError::NoRoom) => put.tally.busy += 1,
        }
    }

    /// Stores at the nearest that answered; one that does not take it is replaced by the next.
    #[inline(never)]
    pub(super) fn work_put(&mut self, handle: Handle) {
        loop {
            let Some(visit) = self.visits.get(handle) else {
                return;
            };
            let Some(Job::Put(put)) = self.ops.get(visit.op).map(|op| &op.job) else {
                return;
            };
            let working = |c: &&Candidate| c.state == State::Working;
            let under_way = visit.lookup.candidates().iter().filter(working).count();
            let enough = usize::from(put.tally.settled()) + under_way >= P::Overlay::replication();
            let next = visit
                .lookup
                .takers()
                .find(|c| c.state == State::Answered && !enough);
            match next.map(|candidate| candidate.contact) {
                Some(contact) => {
                    if !self.request_work(handle, &contact, Tag::Put { visit: handle }) {
                        return;
                    }
                }
                None if under_way > 0 => return,
                None if !enough && self.widen(handle) => return,
                None => break,
            }
        }
        self.end_put_visit(handle);
    }

    /// All have answered: it is stored, or goes one level deeper, or failed.
    fn end_put_visit(&mut self, handle: Handle) {
        let Some(op_handle) = self.visits.get(handle).map(|visit| visit.op) else {
            return;
        };
        self.visits.discard(handle);
        let Some(op) = self.ops.get_mut(op_handle) else {
            return;
        };
        op.visits = op.visits.saturating_sub(1);
        let Job::Put(put) = &mut op.job else { return };
        let result = put.result::<P>();
        match result {
            OpResult::Put {
                full: true,
                older: None,
                ..
            } if put.depth < DEPTH_MAX => {
                *put = Put {
                    depth: put.depth + 1,
                    tally: Tally::default(),
                    ..*put
                };
                op.waits = true;
                self.waiting = true;
            }
            OpResult::Joined { .. }
            | OpResult::Left
            | OpResult::Found { .. }
            | OpResult::Got { .. }
            | OpResult::Put { .. }
            | OpResult::Sent { .. }
            | OpResult::NotFound
            | OpResult::TimedOut => self.finish(op_handle, result),
        }
    }
}
