//! What a round hands over to be written beside it, and what comes of the answers.

use std::time::Duration;

use crds::kubevirt::{PrintableStatus, VirtualMachine, VirtualMachineInstance};
use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;
use tracing::{info, warn};

use super::late::{Answer, Write, Written};
use super::{Rounds, STARTING_UNSEEN, is_not_found};
use crate::decide::Decision;
use crate::machine;
use crate::warning::Warning;
use crate::world::node_of;

impl Rounds {
    /// Hands over what is decided to be written for VMs that is not their place: one
    /// write each. The answer has what else there is to write decided anew.
    pub(super) fn hand_over(&mut self, decisions: &mut [Decision], now: Timestamp) {
        for decision in decisions {
            if let Some(at) = decision.again_at {
                let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
                self.later.insert(decision.vm.clone(), (Instant::now() + wait, 0));
            }
            if let Some(start) = decision.create.take() {
                self.world.agenda.begin(decision.vm.clone(), Some(start.node.clone()));
                self.late.hand_over(decision.vm.clone(), Write::Start(Box::new(start)));
                continue;
            }
            let write = match decision.delete.take() {
                Some(uid) => Some(Write::Stop { uid, version: self.version_to_stop(decision) }),
                None => self.new_status(decision, now),
            };
            if let Some(write) = write {
                self.world.agenda.begin(decision.vm.clone(), None);
                self.late.hand_over(decision.vm.clone(), write);
            }
        }
    }

    /// Of an instance whose VM is gone, the version that was seen: it may have been
    /// told to forget that VM meanwhile, as an orphan is.
    fn version_to_stop(&self, decision: &Decision) -> Option<String> {
        let machine = self.world.machines.get(&decision.vm);
        let owned = |one: &VirtualMachineInstance| machine.is_some_and(|vm| machine::owns(vm, one));
        let instance = self.world.instances.get(&decision.vm).filter(|one| !owned(one))?;
        instance.resource_version()
    }

    /// The VM with what it should say of itself, if it says something else.
    fn new_status(&mut self, decision: &Decision, now: Timestamp) -> Option<Write> {
        if decision.again_at.is_none() {
            self.later.remove(&decision.vm);
        }
        if self.world.is_unreadable(&decision.vm) {
            return None;
        }
        let vm = self.world.machines.get(&decision.vm)?;
        let instance = self.world.instances.get(&decision.vm);
        let instance = instance.filter(|instance| machine::owns(vm, instance));
        let status =
            machine::status(vm, instance.map(|one| &**one), decision.trouble.as_ref(), now);
        if vm.status.as_ref() == Some(&status) {
            return None;
        }
        let begun = instance.and_then(|instance| instance.creation_timestamp());
        if status.printable_status == PrintableStatus::Starting
            && let Some(left) = begun.map(|begun| STARTING_UNSEEN - now.duration_since(begun.0))
            && left.is_positive()
        {
            let wait = Duration::try_from(left).unwrap_or_default();
            self.later.insert(decision.vm.clone(), (Instant::now() + wait, 0));
            return None;
        }
        let news = machine::news(vm, &status).into_iter().map(|(reason, message)| Warning {
            about: vm.object_ref(&()),
            reason,
            message,
        });
        let news = news.collect();
        let mut written = VirtualMachine::clone(vm);
        written.status = Some(status);
        Some(Write::Status(Box::new(written), news))
    }

    /// Waits for the next write to be answered, and takes in what came of it.
    pub async fn answered(&mut self) {
        let answer = self.late.answer().await;
        self.take_in(answer);
    }

    /// Takes in all that was answered meanwhile.
    pub(super) fn take_in_answers(&mut self) {
        while let Some(answer) = self.late.try_answer() {
            self.take_in(answer);
        }
    }

    fn take_in(&mut self, Answer { vm, writes, outcome }: Answer) {
        self.edge.metrics.api_writes.inc_by(writes);
        let failed = match outcome {
            Ok(written) => {
                match written {
                    Written::Started(instance) => {
                        info!(%vm, node = node_of(&instance), "Placed");
                        self.world.put_instance(*instance);
                    }
                    Written::Stopping => info!(%vm, "Stopping"),
                    Written::Told(machine) => self.world.put_machine(*machine),
                }
                false
            }
            // A VM that is gone has nothing to say; its watch tells the rest.
            Err(error) => {
                warn!(%vm, %error, "A VM's instance or status was not written");
                !is_not_found(&error)
            }
        };
        self.world.agenda.end(&vm);
        if failed {
            self.fail(vm);
        } else if self.later.get(&vm).is_some_and(|(_, tries)| *tries > 0) {
            self.later.remove(&vm);
        }
    }
}
