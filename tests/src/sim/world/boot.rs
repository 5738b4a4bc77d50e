//! Machines come into the world and are switched on: their identity, their clocks, what their disk hands back.
//!
//! Owns the order in which a node is started. The invariant: a node that refuses its storage leaves its machine off.

use strandline_core::crypto::Crypto;
use strandline_core::id::UserId;
use strandline_core::output::{Damaged, Restored, Stored};
use strandline_core::plan::{Plan, Server};
use strandline_core::rng::Seed;

use super::turn::SNTP_US;
use super::{Event, HostId, World};
use crate::sim::clock::Ticker;
use crate::sim::heap;
use crate::sim::machine::{Machine, Program, Setup, address_of};
use crate::sim::node::{AnyNode, Input, Reply};
use crate::sim::plans::{Cryptography, SimServer};

impl World {
    /// Adds a machine that is not switched on yet, at the next free address.
    pub(in crate::sim) fn add_machine(&mut self, setup: Setup) -> HostId {
        let host = u32::try_from(self.machines.len()).unwrap_or(u32::MAX);
        let name = setup
            .name
            .map_or_else(|| format!("user-{host}"), str::to_owned);
        let name = match strandline_core::name::Name::parse(&name) {
            Ok(name) => name,
            Err(error) => panic!("the name {name:?} of a test is wrong: {error:?}"),
        };
        let addr = address_of(host);
        let mut machine = Machine::new(addr, setup, name, &mut self.nodes_random);
        machine.user = self.user_of(&machine);
        self.machines.push(machine);
        HostId(host)
    }

    fn user_of(&self, machine: &Machine) -> UserId {
        fn of<C: Crypto>(machine: &Machine) -> UserId {
            UserId::of_key::<C>(&C::public_key(&machine.identity.user))
        }
        match self.cryptography {
            Cryptography::Real => of::<<Server as Plan>::Crypto>(machine),
            Cryptography::StandIn => of::<<SimServer as Plan>::Crypto>(machine),
        }
    }

    /// Switches a machine on: starts its node and hands it its storage.
    ///
    /// # Errors
    /// [`Damaged`]: the node refused its storage; the machine stays off.
    pub(in crate::sim) fn boot(&mut self, host: HostId) -> Result<(), Damaged> {
        let now_us = self.now_us();
        let (origin_us, seed) = (
            self.nodes_random.below(1 << 40),
            self.nodes_random.bytes_32(),
        );
        let (network_id, within_ms) = (self.network_id, self.within_ms);
        let (cryptography, overlay, widths) = (self.cryptography, self.overlay, self.widths);
        let machine = self.machine_mut(host.0);
        assert!(
            !matches!(machine.program, Program::Node(_)),
            "{host} runs already"
        );
        machine.incarnation += 1;
        machine.ticker = Ticker::new(now_us, origin_us, machine.setup.drift_ppm);
        let kind = machine.setup.kind;
        machine.program = heap::on(heap::Side::Core, || {
            Program::Node(AnyNode::unstarted(kind, cryptography, overlay, widths))
        });
        machine.application = None;
        (machine.deadline, machine.timer_us, machine.committing) = (None, None, false);
        let config = machine.setup.config(network_id, machine.addr, within_ms);
        let (identity, incarnation) = (machine.identity.clone(), machine.incarnation);
        let (kind, keep, found) = (machine.setup.kind, machine.setup.keep, machine.found);
        let (user, time_of_day) = (machine.user, machine.setup.time_of_day);
        let stored: Vec<(Vec<u8>, Vec<u8>, _)> = machine
            .storage
            .entries()
            .map(|item| {
                (
                    item.key.to_vec(),
                    item.value.unwrap_or_default().to_vec(),
                    item.class,
                )
            })
            .collect();

        self.ledger.restart(host.0);
        let keep_us = u64::try_from(keep.as_micros()).unwrap_or(u64::MAX);
        self.model.started(host, user, kind, keep_us, now_us);
        let started = self.input(
            host.0,
            &Input::Start {
                identity: &identity,
                seed: &Seed(seed),
                config: &config,
            },
        );
        if started != Reply::Started(Ok(())) {
            self.fail(host, format!("does not start: {started:?}"));
        }
        if let Some((unix_ms, uncertainty_ms)) = time_of_day.read(now_us) {
            self.input(
                host.0,
                &Input::Clock {
                    unix_ms,
                    uncertainty_ms,
                },
            );
            self.queue.push(
                now_us + SNTP_US,
                Event::Sntp {
                    host: host.0,
                    incarnation,
                },
            );
        }
        let mut damaged = None;
        for (key, value, class) in &stored {
            let item = Stored {
                class: *class,
                key,
                value: Some(value),
            };
            if let Reply::Restored(Err(wrong)) = self.input(host.0, &Input::Restored(item)) {
                damaged = damaged.or(Some(wrong));
            }
        }
        if self.publishes
            && let Reply::Restored(Err(wrong)) = self.input(host.0, &Input::RestoredAll(found))
        {
            damaged = damaged.or(Some(wrong));
        }
        if let Some(wrong) = damaged {
            self.machine_mut(host.0).program = Program::Stopped;
            self.model.stopped(host, now_us);
            return Err(wrong);
        }
        self.machine_mut(host.0).found = Restored::Intact;
        self.check_restored(host, found);
        Ok(())
    }

    /// After a restart with its storage, a node knows every post that was acknowledged.
    fn check_restored(&mut self, host: HostId, found: Restored) {
        let acked = self.model.last_acked(host);
        let last = self.running(host).map_or(0, |node| node.stats().last);
        if found == Restored::Intact && last < acked {
            self.fail(
                host,
                format!("restarts at #{last}, and #{acked} was acknowledged"),
            );
        }
    }
}
