//! What a round writes on IP objects: what the ledger says, no more and no less.
//!
//! An object costs one write to make and two to delete, since the finalizer goes
//! first. A round that dies between the two leaves an object that nobody owns, and
//! the next one deletes it.

use std::collections::HashSet;
use std::sync::Arc;

use crds::annotations::{DELETION_BLOCKED, NOT_RESERVED, OWNER_UID};
use crds::kubeovn::Ip;
use futures::StreamExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Resource as _, ResourceExt as _};
use net::shown;
use serde_json::json;
use tracing::warn;

use super::{PARALLEL_WRITES, Rounds, gone_is_fine};
use crate::MANAGER;
use crate::decide::{Decision, owned_by};
use crate::ledger::VmKey;
use crate::machine::{self, Trouble};
use crate::warning::Warning;
use crate::world::ip_key;
use crate::{hold, objects};

impl Rounds {
    /// Makes IP objects say what the ledger says. Returns the VMs for which that
    /// failed, and those whose objects the API refuses, with what it says.
    pub(super) async fn write_ips(
        &mut self,
        decisions: &[Decision],
    ) -> (HashSet<VmKey>, Vec<(VmKey, Trouble)>) {
        let (mut failed, refused) = self.put_ips(decisions).await;
        failed.extend(self.delete_ips(decisions).await);
        self.tell_reservations(decisions).await;
        (failed, refused)
    }

    /// Writes on IP objects that people made why they reserve nothing, or that they do.
    async fn tell_reservations(&mut self, decisions: &[Decision]) {
        let api: Api<Ip> = Api::all(self.edge.client.clone());
        let mut wanted = Vec::new();
        let nobodys = std::mem::take(&mut self.world.nobodys);
        let nobodys = nobodys.iter().filter_map(|name| self.world.ips.get(name));
        let decided = decisions.iter().flat_map(|decision| self.world.ips_of(&decision.vm));
        for ip in decided.chain(nobodys) {
            let why = self.world.unreserved.get(&ip.name_any());
            if ip.annotations().get(NOT_RESERVED) != why {
                wanted.push((ip.name_any(), why.cloned()));
            }
        }
        let mut warnings = Vec::new();
        for (name, why) in wanted {
            self.edge.metrics.api_writes.inc();
            let patch = json!({ "metadata": { "annotations": { NOT_RESERVED: why } } });
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(ip) => {
                    warnings.extend(why.map(|message| Warning {
                        about: ip.object_ref(&()),
                        reason: "NotReserved".to_owned(),
                        message,
                    }));
                    self.world.put_ip(ip);
                }
                Err(error) => {
                    warn!(name, %error, "An IP object was not told of");
                    if self.world.ips.get(&name).is_some_and(|ip| ip_key(ip).is_none()) {
                        self.world.nobodys.insert(name);
                    }
                }
            }
        }
        self.warn(warnings).await;
    }

    async fn put_ips(&mut self, decisions: &[Decision]) -> (HashSet<VmKey>, Vec<(VmKey, Trouble)>) {
        let api: Api<Ip> = Api::all(self.edge.client.clone());
        let mut wanted = Vec::new();
        for decision in decisions {
            let ports = decision.ports.iter();
            for port in ports.filter(|port| !decision.surplus.contains(&port.name)) {
                let mut want = objects::ip(port);
                if let Some(why) = decision.blocked.get(&port.name) {
                    want.annotations_mut().insert(DELETION_BLOCKED.to_owned(), why.clone());
                }
                let have = self.world.ips.get(&port.name).cloned();
                if !have.as_ref().is_some_and(|have| objects::ip_is_current(have, &want)) {
                    wanted.push((decision.vm.clone(), have, want));
                }
            }
        }
        let writes = wanted.into_iter().map(|(vm, have, want)| {
            let (api, name) = (&api, want.name_any());
            async move { (vm, name, put(api, have.as_deref(), want).await, have) }
        });
        let mut writes = futures::stream::iter(writes).buffer_unordered(PARALLEL_WRITES);
        let (mut failed, mut refused, mut warnings) = (HashSet::new(), Vec::new(), Vec::new());
        while let Some((vm, name, outcome, have)) = writes.next().await {
            self.edge.metrics.api_writes.inc();
            match outcome {
                Ok(ip) => {
                    warnings.extend(news(have.as_deref(), &ip));
                    self.world.put_ip(ip);
                }
                Err(error) => {
                    warn!(%vm, %error, "An IP object was not written");
                    match refusal(&name, &error) {
                        Some(trouble) => refused.push((vm, trouble)),
                        None => drop(failed.insert(vm)),
                    }
                }
            }
        }
        drop(writes);
        self.warn(warnings).await;
        (failed, refused)
    }

    async fn delete_ips(&mut self, decisions: &[Decision]) -> HashSet<VmKey> {
        let api: Api<Ip> = Api::all(self.edge.client.clone());
        let mut surplus: Vec<(VmKey, Arc<Ip>)> = Vec::new();
        for decision in decisions {
            let there = decision.surplus.iter().filter_map(|name| self.world.ips.get(name));
            surplus.extend(there.map(|ip| (decision.vm.clone(), Arc::clone(ip))));
        }
        let deletes = surplus.into_iter().map(|(vm, ip)| {
            let api = &api;
            async move { (vm, delete(api, &ip).await, ip) }
        });
        let mut deletes = futures::stream::iter(deletes).buffer_unordered(PARALLEL_WRITES);
        let mut failed = HashSet::new();
        while let Some((vm, outcome, ip)) = deletes.next().await {
            self.edge.metrics.api_writes.inc_by(writes_to_delete(&ip));
            match outcome {
                Ok(()) => self.world.remove_ip(&ip.name_any()),
                Err(error) => {
                    warn!(%vm, %error, "An IP object was not deleted");
                    failed.insert(vm);
                }
            }
        }
        failed
    }
}

async fn put(api: &Api<Ip>, have: Option<&Ip>, want: Ip) -> Result<Ip, kube::Error> {
    let name = want.name_any();
    let Some(have) = have else {
        return api.create(&PostParams::default(), &want).await;
    };
    let uid = want.annotations().get(OWNER_UID).cloned().unwrap_or_default();
    let mut want = want;
    if want.spec.node_name.is_empty() && owned_by(have, &uid) {
        want.spec.node_name.clone_from(&have.spec.node_name);
    }
    let mut patch = json!({
        "metadata": { "labels": want.metadata.labels, "annotations": want.metadata.annotations },
        "spec": want.spec,
    });
    // Made by a person, or before IP objects had a finalizer. A merge replaces the
    // whole list, so it is for the version that was read.
    if !hold::is_held(&have.metadata) && !hold::is_leaving(&have.metadata) {
        let held = hold::with(&have.metadata);
        let guard = held["metadata"].as_object().into_iter().flatten();
        guard.for_each(|(key, value)| patch["metadata"][key.as_str()] = value.clone());
    }
    // So that a webhook knows it for ours.
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&name, &params, &Patch::Merge(patch)).await
}

/// What a VM is told whose IP object the API refuses. What trying again may mend is not
/// told: somebody else's write in between, a server that is busy or away.
fn refusal(name: &str, error: &kube::Error) -> Option<Trouble> {
    let kube::Error::Api(status) = error else { return None };
    let for_good =
        (400..500).contains(&status.code) && ![404, 408, 409, 429].contains(&status.code);
    let said = shown(&status.message);
    for_good.then(|| Trouble {
        reason: machine::IP_REFUSED,
        message: format!("the API refuses IP object {name:?} of its port: {said}"),
    })
}

/// Deletes this very object, not a successor of the same name.
async fn delete(api: &Api<Ip>, ip: &Ip) -> Result<(), kube::Error> {
    let name = ip.name_any();
    if hold::is_held(&ip.metadata) {
        let patch = Patch::Merge(hold::without(&ip.metadata));
        gone_is_fine(api.patch_metadata(&name, &PatchParams::default(), &patch).await)?;
    }
    if hold::is_leaving(&ip.metadata) {
        return Ok(());
    }
    let this = Preconditions { uid: ip.uid(), ..Preconditions::default() };
    gone_is_fine(api.delete(&name, &DeleteParams::default().preconditions(this)).await)
}

fn writes_to_delete(ip: &Ip) -> u64 {
    u64::from(hold::is_held(&ip.metadata)) + u64::from(!hold::is_leaving(&ip.metadata))
}

/// What to tell about an IP object that was written: what its deletion waits for,
/// unless it said so before.
fn news(before: Option<&Ip>, written: &Ip) -> Option<Warning> {
    let waits = |ip: &Ip| ip.annotations().get(DELETION_BLOCKED).cloned();
    let message = waits(written)?;
    (before.and_then(waits).as_ref() != Some(&message)).then(|| Warning {
        about: written.object_ref(&()),
        reason: "DeletionBlocked".to_owned(),
        message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_is_told_what_the_api_says_of_its_ip_object_unless_trying_again_may_mend_it() {
        let answer = |code: u16| {
            let status = serde_json::from_value(json!({
                "status": "Failure", "code": code, "message": "metadata.labels: too long",
            }));
            refusal("web.default", &kube::Error::Api(status.unwrap()))
        };
        let told = answer(422).unwrap();
        assert_eq!(told.reason, machine::IP_REFUSED);
        assert!(told.message.contains("\"web.default\"") && told.message.contains("too long"));
        for code in [404, 409, 429, 500, 503] {
            assert!(answer(code).is_none(), "{code}");
        }
    }
}
