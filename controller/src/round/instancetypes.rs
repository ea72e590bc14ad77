//! What a round keeps of instancetypes and preferences: a ControllerRevision for each VM that
//! refers to one, then its name in the VM's status. Killed in between, the next finds the
//! revision made and names it.

use crds::kubevirt::VirtualMachine;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;
use tracing::{info, warn};

use super::{Rounds, is_not_found};
use crate::decide::Decision;
use crate::instancetypes::Keep;
use crate::ledger::VmKey;

impl Rounds {
    pub(super) async fn keep_kinds(&mut self, decisions: &mut [Decision]) {
        for decision in decisions {
            let Some(keep) = decision.keep.take() else { continue };
            if let Err(error) = self.keep(&decision.vm, *keep).await {
                warn!(vm = %decision.vm, %error, "What a VM refers to was not kept; trying again");
                self.fail(decision.vm.clone());
            }
        }
    }

    async fn keep(&mut self, vm: &VmKey, keep: Keep) -> Result<(), kube::Error> {
        let Some(machine) = self.world.machines.get(vm) else { return Ok(()) };
        let mut status = json!(keep.refs);
        if machine.status.is_none() {
            status["printableStatus"] = json!(crds::kubevirt::PrintableStatus::default());
        }
        let meta = json!({"uid": machine.uid(), "resourceVersion": machine.resource_version()});
        let uid = machine.uid();
        let client = self.edge.client.clone();
        let revisions: Api<ControllerRevision> = Api::namespaced(client.clone(), &vm.namespace);
        for revision in keep.revisions {
            self.edge.metrics.api_writes.inc();
            let made = match revisions.create(&PostParams::default(), &revision).await {
                // By an earlier attempt: its name says of which object, uid and generation. Or of
                // a VM that had this name before: that one is about to be collected.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    let found = revisions.get(&revision.name_any()).await?;
                    let owners = found.metadata.owner_references.iter().flatten();
                    if owners.into_iter().all(|owner| Some(&owner.uid) != uid.as_ref()) {
                        let that = Preconditions { uid: found.uid(), ..Preconditions::default() };
                        let params = DeleteParams::default().preconditions(that);
                        revisions.delete(&found.name_any(), &params).await?;
                        return Err(kube::Error::Api(status));
                    }
                    found
                }
                made => made?,
            };
            self.world.kinds.put_revision(made);
        }
        let machines: Api<VirtualMachine> = Api::namespaced(client, &vm.namespace);
        let patch = Patch::Merge(json!({ "metadata": meta, "status": status }));
        self.edge.metrics.api_writes.inc();
        match machines.patch_status(&vm.name, &PatchParams::default(), &patch).await {
            Ok(written) => {
                info!(%vm, "What it refers to is kept");
                self.world.put_machine(written);
                self.world.look_at(vm.clone());
                Ok(())
            }
            // Its watch tells the rest.
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
