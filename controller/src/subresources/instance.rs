//! What may be asked of an instance as it is: upstream's checks and words. Pure.

use crds::kubevirt::{InstancePhase, VirtualMachineInstance};
use kube::ResourceExt as _;
use serde_json::Value;

use super::machine::{VM_NOT_RUNNING, is_paused};
use super::path::What;
use super::refusal::{Kind, Refusal};

const VMI_NOT_RUNNING: &str = "VMI is not running";
const VMI_PAUSED: &str = "VMI is paused";

/// The node whose agent is to be asked for it.
///
/// # Errors
/// In upstream's words, when it cannot be as things are.
pub(super) fn check<'a>(
    instance: &'a VirtualMachineInstance,
    what: &What,
) -> Result<&'a str, Refusal> {
    let name = instance.name_any();
    let conflict = |why: &str| Err(Refusal::conflict(Kind::Instance, &name, why));
    let runs = instance.phase() == InstancePhase::Running;
    let paused = is_paused(instance);
    match what {
        What::Pause | What::SoftReboot if !runs => return conflict(VM_NOT_RUNNING),
        What::Pause if instance.spec.rest.contains_key("livenessProbe") => {
            let why = "Pausing VMIs with LivenessProbe is currently not supported";
            return Err(Refusal::forbidden(Kind::Instance, &name, why));
        }
        What::Pause if paused => return conflict("VMI is already paused"),
        What::Pause if instance.migration().is_some() => {
            return conflict(&format!(
                "Cannot pause VM '{name}' because it is currently being migrated"
            ));
        }
        What::Unpause if !runs => return conflict(VMI_NOT_RUNNING),
        What::Unpause if !paused => return conflict("VMI is not paused"),
        What::SoftReboot if paused => return conflict(VMI_PAUSED),
        What::SoftReboot if lacks_acpi(instance) => {
            return conflict("VMI neither have the agent connected nor the ACPI feature enabled");
        }
        What::Console if instance.spec.domain.devices.autoattach_serial_console == Some(false) => {
            return Err(Refusal::bad_request("No serial consoles are present."));
        }
        What::Vnc if instance.spec.domain.devices.autoattach_graphics_device == Some(false) => {
            return Err(Refusal::bad_request("No graphics devices are present."));
        }
        What::Console if paused => return conflict(VMI_PAUSED),
        _ => {}
    }
    if !runs {
        let phase = instance.phase();
        return Err(Refusal::bad_request(format!(
            "Unable to connect to VirtualMachineInstance because phase is {phase:?} instead of Running"
        )));
    }
    let node = instance.status.as_ref().and_then(|status| status.node_name.as_deref());
    node.filter(|node| !node.is_empty()).ok_or_else(|| Refusal::internal("it names no node"))
}

fn lacks_acpi(instance: &VirtualMachineInstance) -> bool {
    let features = instance.spec.domain.features.as_ref();
    let acpi = features.and_then(|features| features.0.get("acpi"));
    acpi.and_then(|acpi| acpi.get("enabled")).and_then(Value::as_bool) == Some(false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vmi(spec: &Value, status: &Value) -> VirtualMachineInstance {
        let mut object = json!({
            "metadata": { "name": "till", "namespace": "shop", "uid": "one" },
            "spec": { "domain": { "devices": {} } }, "status": { "phase": "Running", "nodeName": "n1" },
        });
        for (part, fields) in [("spec", spec), ("status", status)] {
            for (key, value) in fields.as_object().into_iter().flatten() {
                object[part][key] = value.clone();
            }
        }
        serde_json::from_value(object).unwrap()
    }

    fn told(instance: &VirtualMachineInstance, what: &What) -> String {
        match check(instance, what) {
            Ok(node) => format!("ask {node}"),
            Err(refusal) => {
                let said = refusal.message.rsplit("\": ").next().unwrap_or_default();
                said.rsplit("forbidden: ").next().unwrap_or_default().to_owned()
            }
        }
    }

    #[test]
    fn what_runs_may_be_asked_for_everything_but_to_go_on() {
        let runs = vmi(&json!({}), &json!({}));
        let all = [What::Pause, What::SoftReboot, What::Reset, What::Console, What::Vnc];
        for what in all {
            assert_eq!(told(&runs, &what), "ask n1", "{what:?}");
        }
        assert_eq!(told(&runs, &What::Unpause), "VMI is not paused");
    }

    #[test]
    fn what_is_paused_may_go_on_and_no_more() {
        let condition = json!({ "conditions": [{ "type": "Paused", "status": "True" }] });
        let paused = vmi(&json!({}), &condition);
        assert_eq!(told(&paused, &What::Unpause), "ask n1");
        assert_eq!(told(&paused, &What::Pause), "VMI is already paused");
        for what in [What::SoftReboot, What::Console] {
            assert_eq!(told(&paused, &what), "VMI is paused", "{what:?}");
        }
    }

    #[test]
    fn what_does_not_run_may_be_asked_for_nothing() {
        let waits = vmi(&json!({}), &json!({ "phase": "Scheduled" }));
        assert_eq!(told(&waits, &What::Pause), "VM is not running");
        assert_eq!(told(&waits, &What::Unpause), "VMI is not running");
        let unreachable = "Unable to connect to VirtualMachineInstance because phase is Scheduled instead of Running";
        for what in [What::Reset, What::Console, What::Vnc] {
            assert_eq!(told(&waits, &what), unreachable, "{what:?}");
        }
    }

    #[test]
    fn what_it_lacks_is_told() {
        let devices = json!({ "domain": { "devices": {
            "autoattachSerialConsole": false, "autoattachGraphicsDevice": false } } });
        let bare = vmi(&devices, &json!({}));
        assert_eq!(told(&bare, &What::Console), "No serial consoles are present.");
        assert_eq!(told(&bare, &What::Vnc), "No graphics devices are present.");
        let acpi =
            json!({ "domain": { "devices": {}, "features": { "acpi": { "enabled": false } } } });
        assert!(told(&vmi(&acpi, &json!({})), &What::SoftReboot).contains("ACPI"));
        let probed = vmi(&json!({ "livenessProbe": {} }), &json!({}));
        assert!(told(&probed, &What::Pause).contains("LivenessProbe"));
        let moves = json!({ "migrationState": { "migrationUid": "m", "targetNode": "n2" } });
        assert!(told(&vmi(&json!({}), &moves), &What::Pause).contains("being migrated"));
    }
}
