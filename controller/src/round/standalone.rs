//! What a round writes on instances that somebody made by hand: that they are not
//! run. Once, and never on an instance of ours.

use crds::kubevirt::VirtualMachineInstance;
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;
use tracing::warn;

use super::{Rounds, is_not_found};
use crate::decide::Decision;
use crate::machine;
use crate::warning::Warning;

impl Rounds {
    pub(super) async fn tell_standalone(&mut self, decisions: &[Decision], now: Timestamp) {
        let mut warnings = Vec::new();
        for decision in decisions.iter().filter(|decision| decision.standalone) {
            let Some(instance) = self.world.instances.get(&decision.vm) else { continue };
            let Some(status) = machine::standalone_status(instance, now) else { continue };
            let client = self.edge.client.clone();
            let api: Api<VirtualMachineInstance> = Api::namespaced(client, &decision.vm.namespace);
            // The kind has no status subresource. For the version that was read.
            let version = instance.resource_version();
            let patch = json!({ "metadata": { "resourceVersion": version }, "status": status });
            let name = &decision.vm.name;
            self.edge.metrics.api_writes.inc();
            match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(written) => {
                    warnings.push(Warning {
                        about: written.object_ref(&()),
                        reason: machine::NO_VIRTUAL_MACHINE.to_owned(),
                        message: machine::STANDALONE.to_owned(),
                    });
                    self.world.put_instance(written);
                }
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    warn!(vm = %decision.vm, %error, "An instance's status was not written");
                    self.fail(decision.vm.clone());
                }
            }
        }
        self.warn(warnings).await;
    }
}
