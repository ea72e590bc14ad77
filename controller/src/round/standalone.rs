//! What a round writes on instances: the place of one that has no VM, or what it waits
//! for, what was edited of any one's place, and what of a changed template its guest is to have now. One write each, for the very version that was read; the kind has no status
//! subresource, so it carries the status too.

use crds::kubevirt::VirtualMachineInstance;
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Map, Value, json};
use tracing::{info, warn};

use super::{PARALLEL_WRITES, Rounds, is_not_found};
use crate::MANAGER;
use crate::decide::{Decision, Inscription};
use crate::machine;
use crate::warning::Warning;
use crate::world::node_of;

impl Rounds {
    pub(super) async fn write_standalone(&mut self, decisions: &mut [Decision], now: Timestamp) {
        let mut writes = Vec::new();
        for decision in decisions {
            let Some(inscription) = decision.inscription.take() else { continue };
            let Some(instance) = self.world.instances.get(&decision.vm) else { continue };
            let (want, trouble) = match inscription {
                Inscription::Placed(placed) => (*placed, None),
                Inscription::Updated(updated) => (*updated, None),
                Inscription::Mended(mended, trouble) => (*mended, Some(trouble)),
                Inscription::Waits(trouble) => {
                    let Some(status) = machine::waiting_status(instance, &trouble, now) else {
                        continue;
                    };
                    let mut want = (**instance).clone();
                    want.status = Some(status);
                    (want, Some(trouble))
                }
            };
            writes.push((decision.vm.clone(), patch(instance, &want), trouble));
        }
        let client = &self.edge.client;
        let writes = writes.into_iter().map(|(vm, patch, trouble)| async move {
            let api: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), &vm.namespace);
            let patch = Patch::Merge(patch);
            // By that admission knows who may change the spec of an instance.
            let manager = Some(MANAGER.to_owned());
            let params = PatchParams { field_manager: manager, ..PatchParams::default() };
            (api.patch(&vm.name, &params, &patch).await, vm, trouble)
        });
        let outcomes: Vec<_> =
            futures::stream::iter(writes).buffer_unordered(PARALLEL_WRITES).collect().await;
        let mut warnings = Vec::new();
        for (outcome, vm, trouble) in outcomes {
            self.edge.metrics.api_writes.inc();
            match outcome {
                Ok(written) => {
                    match trouble {
                        Some(trouble) => warnings.push(Warning {
                            about: written.object_ref(&()),
                            reason: trouble.reason.to_owned(),
                            message: trouble.message,
                        }),
                        None => info!(%vm, node = node_of(&written), "The instance is written"),
                    }
                    self.world.put_instance(written);
                }
                // Its watch tells the rest.
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    warn!(%vm, %error, "An instance was not written");
                    self.fail(vm);
                }
            }
        }
        self.warn(warnings).await;
    }
}

/// The merge patch that makes `have` into `want`, if it is still this object and this
/// version of it.
pub(super) fn patch(have: &VirtualMachineInstance, want: &VirtualMachineInstance) -> Value {
    let mut patch = difference(&json!(have), &json!(want)).unwrap_or_else(|| json!({}));
    patch["metadata"]["uid"] = json!(have.uid());
    patch["metadata"]["resourceVersion"] = json!(have.resource_version());
    patch
}

/// What a merge (RFC 7396) must say to make `have` into `want`; none if they are equal.
#[must_use]
pub fn difference(have: &Value, want: &Value) -> Option<Value> {
    let (Value::Object(have), Value::Object(want)) = (have, want) else {
        return (have != want).then(|| want.clone());
    };
    let gone = have.keys().filter(|key| !want.contains_key(*key));
    let mut fields: Map<String, Value> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, want) in want {
        let said = difference(have.get(key).unwrap_or(&Value::Null), want);
        fields.extend(said.map(|said| (key.clone(), said)));
    }
    (!fields.is_empty()).then_some(Value::Object(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_says_what_differs_and_for_which_object() {
        let have: VirtualMachineInstance = serde_json::from_value(json!({
            "metadata": {"name": "web", "uid": "i1", "resourceVersion": "7", "labels": {"a": "b"}},
            "spec": {"domain": {"devices": {}}},
            "status": {"phase": "Pending", "reason": "old"},
        }))
        .unwrap();
        let mut want = have.clone();
        want.labels_mut().insert("c".to_owned(), "d".to_owned());
        let status = want.status.as_mut().unwrap();
        (status.phase, status.reason) = (Some(crds::kubevirt::InstancePhase::Scheduled), None);
        assert_eq!(
            patch(&have, &want),
            json!({
                "metadata": {"uid": "i1", "resourceVersion": "7", "labels": {"c": "d"}},
                "status": {"phase": "Scheduled", "reason": null},
            })
        );
    }

    #[test]
    fn a_list_is_said_whole() {
        let said = difference(&json!({"a": [1], "b": 1}), &json!({"a": [1, 2], "b": 1}));
        assert_eq!(said, Some(json!({"a": [1, 2]})));
    }
}
