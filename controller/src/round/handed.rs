//! What a round hands over to be written beside it, and what comes of the answers.

use std::sync::Arc;
use std::time::Duration;

use crds::kubevirt::{VirtualMachine, VirtualMachineInstance};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Rounds;
use super::late::{Answer, Write, Written};
use crate::decide::{Decision, Farewell, Inscription};
use crate::hold;
use crate::instancetypes::Unready;
use crate::ledger::VmKey;
use crate::machine::{self, Trouble};
use crate::telling::{self, Deed};
use crate::warning::Warning;
use crate::world::node_of;

/// How long a watch may take to tell of a node that the API has.
const NODE_SEEN: SignedDuration = SignedDuration::from_secs(5);

/// What is to be written of what a VM says of itself.
enum Say {
    Nothing,
    /// Not before so long.
    After(SignedDuration),
    /// This, and what to tell about it once it is written.
    Now(Box<VirtualMachine>, Vec<Warning>),
}

impl Rounds {
    /// Hands over what is decided to be written for VMs that is not their place: one
    /// write each. The answer has what else there is to write decided anew.
    pub(super) fn hand_over(&mut self, decisions: &mut [Decision], now: Timestamp) {
        for decision in decisions {
            // Its status is about to be written by what keeps that.
            if decision.keep.is_some() {
                continue;
            }
            if let Some(at) = decision.again_at {
                self.look_again(&decision.vm, at.duration_since(now));
            }
            if let Some(start) = decision.create.take() {
                self.world.agenda.begin(decision.vm.clone(), Some(start.booking.clone()));
                self.late.hand_over(decision.vm.clone(), Write::Start(Box::new(start)));
                continue;
            }
            let write = match decision.delete.take() {
                _ if decision.switch_on => {
                    self.world.machines.get(&decision.vm).cloned().map(Write::SwitchOn)
                }
                _ if decision.bereft => {
                    self.world.instances.get(&decision.vm).cloned().map(Write::Lose)
                }
                // Once it is said its end is decided anew.
                Some(_) if self.is_owed(decision, now) => self.new_status(decision, now),
                Some(uid) => Some(Write::Stop { uid, version: self.version_to_stop(decision) }),
                None => match decision.farewell.take() {
                    // It has nothing more to say.
                    Some(Farewell::LetGo(patch)) => Some(Write::Finalizers(patch)),
                    Some(Farewell::Hold(patch)) => {
                        self.new_status(decision, now).or(Some(Write::Finalizers(patch)))
                    }
                    None => self.new_status(decision, now),
                },
            };
            if let Some(write) = write {
                self.world.agenda.begin(decision.vm.clone(), None);
                self.late.hand_over(decision.vm.clone(), write);
            }
        }
    }

    /// Whether something has to be said of the VM before its instance may go.
    fn is_owed(&self, decision: &Decision, now: Timestamp) -> bool {
        let vm = self.world.machines.get(&decision.vm);
        let vm = vm.filter(|_| !self.world.is_unreadable(&decision.vm));
        vm.zip(self.world.instances.get(&decision.vm)).is_some_and(|(vm, instance)| {
            let trouble = decision.trouble.as_ref();
            machine::owns(vm, instance)
                && machine::is_owed(
                    vm,
                    instance,
                    &machine::status(vm, Some(instance), trouble, now),
                )
        })
    }

    /// Of an instance whose VM is gone or goes, the version that was seen: it may have been
    /// told to forget that VM meanwhile, as an orphan is.
    fn version_to_stop(&self, decision: &Decision) -> Option<String> {
        let machine = self.world.machines.get(&decision.vm);
        let machine = machine.filter(|vm| !hold::is_leaving(&vm.metadata));
        let owned = |one: &VirtualMachineInstance| machine.is_some_and(|vm| machine::owns(vm, one));
        let instance = self.world.instances.get(&decision.vm).filter(|one| !owned(one))?;
        instance.resource_version()
    }

    /// Has this VM looked at after so long; that it failed before still counts.
    pub(super) fn look_again(&mut self, vm: &VmKey, wait: SignedDuration) {
        let wait = Duration::try_from(wait).unwrap_or_default();
        let tries = self.later.get(vm).map_or(0, |(_, tries)| *tries);
        self.later.insert(vm.clone(), (Instant::now() + wait, tries));
    }

    /// The VM with what it should say of itself, if it is to be written now.
    fn new_status(&mut self, decision: &Decision, now: Timestamp) -> Option<Write> {
        match self.say(decision, now) {
            Say::Now(vm, news) => return Some(Write::Status(vm, news)),
            Say::After(wait) => self.look_again(&decision.vm, wait),
            Say::Nothing if decision.again_at.is_none() => drop(self.later.remove(&decision.vm)),
            Say::Nothing => {}
        }
        None
    }

    fn say(&mut self, decision: &Decision, now: Timestamp) -> Say {
        let vm = self.world.machines.get(&decision.vm).map(Arc::clone);
        let Some(vm) = vm.filter(|_| !self.world.is_unreadable(&decision.vm)) else {
            return Say::Nothing;
        };
        // What it would be made of today: itself, where that cannot be told.
        let made_of = match self.world.effective(&vm) {
            // What it says of that stays until it can be told.
            Err(Unready::Unlisted) => return Say::Nothing,
            made_of => made_of.ok(),
        };
        let vm = &vm;
        let instance = self.world.instances.get(&decision.vm);
        let instance = instance.filter(|instance| machine::owns(vm, instance));
        let status = machine::status_of(
            vm,
            made_of.as_deref(),
            instance.map(|one| &**one),
            decision.trouble.as_ref(),
            decision.withheld,
            now,
        );
        if vm.status.as_ref() == Some(&status) {
            return Say::Nothing;
        }
        let instance = instance.map(|one| &**one);
        if let Some(left) = machine::unseen_for(vm, &status, instance, now) {
            return Say::After(left);
        }
        let about = || vm.object_ref(&());
        let news = machine::news(vm, &status).into_iter();
        let news = news.map(|(reason, message)| Warning { about: about(), reason, message });
        let news = news.collect();
        let mut written = VirtualMachine::clone(vm);
        written.status = Some(status);
        Say::Now(Box::new(written), news)
    }

    /// Has those who are kept from their place by what a write of the round came to say
    /// so, and looks at them again later, each time after a longer while. Returns what is
    /// to be written of instances without a VM.
    pub(super) fn tell_barred(
        &mut self,
        barred: Vec<(VmKey, Trouble)>,
        now: Timestamp,
    ) -> Vec<Decision> {
        let mut alone = Vec::new();
        for (vm, trouble) in barred {
            warn!(%vm, reason = trouble.reason, message = trouble.message, "A port is not there");
            let mut decision = Decision::nothing_for(vm.clone());
            let instance = self.world.instances.get(&vm);
            if self.world.machines.meta(&vm).is_some() {
                decision.trouble = Some(trouble);
                if let Say::Now(machine, news) = self.say(&decision, now) {
                    self.world.agenda.begin(vm.clone(), None);
                    self.late.hand_over(vm.clone(), Write::Status(machine, news));
                }
            } else if instance.is_some_and(|one| node_of(one).is_none()) {
                decision.inscription = Some(Inscription::Waits(trouble));
                alone.push(decision);
            }
            self.fail(vm);
        }
        alone
    }

    /// Waits for the next write to be answered, and takes in what came of it.
    ///
    /// # Errors
    /// When a writer has ended by a defect.
    pub async fn answered(&mut self) -> anyhow::Result<()> {
        let answer = self.late.answer().await?;
        self.take_in(answer);
        Ok(())
    }

    /// Takes in all that was answered meanwhile.
    pub(super) fn take_in_answers(&mut self) {
        while let Some(answer) = self.late.try_answer() {
            self.take_in(answer);
        }
    }

    /// Tells on the VM what was done with an instance of its own.
    fn tell_done(&self, vm: &VmKey, instance: &ObjectMeta, reason: &'static str) {
        let machine = self.world.machines.get(vm);
        let Some(machine) = machine.filter(|one| machine::is_owner(&one.metadata, instance)) else {
            return;
        };
        let message = match reason {
            telling::CREATED => format!(
                "Started the virtual machine by creating the new virtual machine instance {}",
                vm.name
            ),
            _ => format!(
                "Stopped the virtual machine by deleting the virtual machine instance {}",
                instance.uid.as_deref().unwrap_or(&vm.name)
            ),
        };
        self.teller.tell(Deed { about: machine.object_ref(&()), reason, message });
    }

    fn take_in(&mut self, Answer { vm, writes, outcome }: Answer) {
        self.edge.metrics.api_writes.inc_by(writes);
        let failed = match outcome {
            Ok(Written::Started(instance)) => {
                info!(%vm, node = node_of(&instance), "Placed");
                self.tell_done(&vm, &instance.metadata, telling::CREATED);
                self.world.put_instance(*instance);
                false
            }
            Ok(Written::Stopping) => {
                info!(%vm, "Stopping");
                if let Some(instance) = self.world.instances.meta(&vm) {
                    self.tell_done(&vm, instance, telling::DELETED);
                }
                false
            }
            Ok(Written::Lost(instance)) => {
                warn!(%vm, node = node_of(&instance), "The guest is lost with its node");
                self.world.put_instance(*instance);
                false
            }
            Ok(Written::NodeLives) => {
                self.look_again(&vm, NODE_SEEN);
                false
            }
            // One that its watch has told to be gone meanwhile stays gone.
            Ok(Written::Told(machine)) => {
                if self.world.machines.get(&vm).is_some() {
                    self.world.put_machine(*machine);
                }
                false
            }
            Ok(Written::Gone) => false,
            Err(error) => {
                warn!(%vm, %error, "A VM's instance or status was not written");
                true
            }
        };
        self.world.agenda.end(&vm);
        if failed {
            self.fail(vm);
        } else if let Some((_, tries)) = self.later.get_mut(&vm) {
            *tries = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;

    use super::super::bed;
    use crate::shelf::Seen;
    use crate::world::Event;

    use super::*;

    /// An API that takes whatever is written.
    fn takes_all() -> Client {
        let service = tower::service_fn(|request: Request<Body>| async move {
            let body = request.into_body().collect_bytes().await.unwrap();
            let text = String::from_utf8_lossy(&body);
            let newer = text.replace(r#""resourceVersion":"1""#, r#""resourceVersion":"2""#);
            let response = Response::builder().status(200).body(Body::from(newer.into_bytes()));
            Ok::<_, std::convert::Infallible>(response.unwrap())
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn what_was_done_for_a_vm_is_told_on_it_as_an_event() {
        let (told, mut events) = tokio::sync::mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Body>| {
            let told = told.clone();
            async move {
                let body = request.into_body().collect_bytes().await.unwrap();
                told.send(serde_json::from_slice::<serde_json::Value>(&body).unwrap()).unwrap();
                Ok::<_, std::convert::Infallible>(Response::new(Body::from(body.to_vec())))
            }
        });
        let mut rounds = bed::rounds(Client::new(service, "default"));
        let vm: VirtualMachine = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "1"},
            "spec": {"runStrategy": "Always", "template": {"spec": {"domain": {"devices": {}}}}},
        }))
        .unwrap();
        rounds.world.apply(Event::Machine(Seen::all(vec![vm])));
        let instance: VirtualMachineInstance = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "i", "resourceVersion": "1",
                "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
                    "name": "web", "uid": "u"}]},
            "spec": {"domain": {"devices": {}}},
        }))
        .unwrap();
        let key = VmKey { namespace: "default".to_owned(), name: "web".to_owned() };
        for outcome in [Written::Started(Box::new(instance)), Written::Stopping] {
            rounds.take_in(Answer { vm: key.clone(), writes: 1, outcome: Ok(outcome) });
        }
        let mut said = Vec::new();
        for _ in 0..2 {
            let event = events.recv().await.unwrap();
            assert_eq!(
                (&event["type"], &event["regarding"]["uid"]),
                (&json!("Normal"), &json!("u"))
            );
            said.push((event["reason"].clone(), event["note"].clone()));
        }
        said.sort_by_key(|(reason, _)| reason.to_string());
        assert_eq!(said[0].0, "SuccessfulCreate");
        assert!(said[0].1.as_str().unwrap().ends_with("instance web"), "{said:?}");
        assert_eq!(said[1].0, "SuccessfulDelete");
        assert!(said[1].1.as_str().unwrap().ends_with("instance i"), "{said:?}");
    }

    #[tokio::test]
    async fn who_is_kept_from_its_place_by_a_write_says_so_and_is_looked_at_again() {
        let mut rounds = bed::rounds(takes_all());
        let vm: VirtualMachine = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "1"},
            "spec": {"runStrategy": "Always", "template": {"spec": {"domain": {"devices": {}}}}},
        }))
        .unwrap();
        rounds.world.apply(Event::Machine(Seen::all(vec![vm])));
        let key = VmKey { namespace: "default".to_owned(), name: "web".to_owned() };
        let trouble = || Trouble { reason: machine::IP_REFUSED, message: "too long".to_owned() };
        assert!(rounds.tell_barred(vec![(key.clone(), trouble())], Timestamp::now()).is_empty());
        rounds.answered().await.unwrap();
        let told = rounds.world.machines.get(&key).unwrap().status.clone().unwrap();
        let failure = told.conditions.iter().find(|one| one.r#type == "Failure").unwrap();
        assert_eq!(failure.reason.as_deref(), Some(machine::IP_REFUSED));
        assert!(rounds.later.contains_key(&key), "it is looked at again");
        // What it says already costs no write, and it is looked at ever later.
        let tries = |rounds: &Rounds| rounds.later[&key].1;
        let before = tries(&rounds);
        rounds.tell_barred(vec![(key.clone(), trouble())], Timestamp::now());
        assert_eq!(tries(&rounds), before + 1);
    }

    #[tokio::test]
    async fn what_the_next_start_depends_on_is_said_before_the_instance_goes_that_says_it() {
        let asked = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let log = Arc::clone(&log);
            async move {
                log.lock().push(format!("{} {}", request.method(), request.uri().path()));
                let body = request.into_body().collect_bytes().await.unwrap();
                let text = String::from_utf8_lossy(&body);
                let newer = text.replace(r#""resourceVersion":"1""#, r#""resourceVersion":"2""#);
                let response = Response::new(Body::from(newer.into_bytes()));
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let mut rounds = bed::rounds(Client::new(service, "default"));
        let vm: VirtualMachine = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "1"},
            "spec": {"runStrategy": "RerunOnFailure",
                "template": {"spec": {"domain": {"devices": {}}}}},
            "status": {"runStrategy": "RerunOnFailure"},
        }))
        .unwrap();
        // It had come to run, so that no start has failed.
        let instance: VirtualMachineInstance = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "i", "resourceVersion": "2",
                "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
                    "name": "web", "uid": "u"}]},
            "spec": {"domain": {"devices": {}}},
            "status": {"phase": "Failed", "phaseTransitionTimestamps":
                [{"phase": "Running", "phaseTransitionTimestamp": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap();
        rounds.world.apply(Event::Machine(Seen::all(vec![vm])));
        rounds.world.apply(Event::Instance(Seen::all(vec![instance])));
        let key = VmKey { namespace: "default".to_owned(), name: "web".to_owned() };
        for _ in 0..2 {
            let mut decision = Decision::nothing_for(key.clone());
            decision.delete = Some("i".to_owned());
            rounds.hand_over(&mut [decision], Timestamp::now());
            rounds.answered().await.unwrap();
        }
        let told = rounds.world.machines.get(&key).unwrap().status.clone().unwrap();
        assert_eq!(told.state_change_requests.len(), 1, "{told:?}");
        let paths = "/apis/kubevirt.io/v1/namespaces/default";
        let wanted = [
            format!("PUT {paths}/virtualmachines/web/status"),
            format!("DELETE {paths}/virtualmachineinstances/web"),
        ];
        assert_eq!(*asked.lock(), wanted);
    }
}
