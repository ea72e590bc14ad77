//! What may be asked of an instance as it is: upstream's checks and words. Pure.

use crds::kubevirt::{Condition, InstancePhase, VirtualMachineInstance};
use kube::ResourceExt as _;
use serde_json::Value;

use super::machine::{VM_NOT_RUNNING, is_paused};
use super::path::What;
use super::refusal::{Kind, Refusal};

const VMI_NOT_RUNNING: &str = "VMI is not running";
const VMI_PAUSED: &str = "VMI is paused";
const NO_AGENT: &str = "VMI does not have guest agent connected";

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
        What::Pause if instance.spec.liveness_probe.is_some() => {
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
        What::SoftReboot if lacks_acpi(instance) && !has_agent(instance) => {
            return conflict("VMI neither have the agent connected nor the ACPI feature enabled");
        }
        What::Console if instance.spec.domain.devices.autoattach_serial_console == Some(false) => {
            return Err(Refusal::bad_request("No serial consoles are present."));
        }
        What::Vnc | What::Screenshot
            if instance.spec.domain.devices.autoattach_graphics_device == Some(false) =>
        {
            return Err(Refusal::bad_request("No graphics devices are present."));
        }
        What::Screenshot if !runs => return Err(Refusal::bad_request(VMI_NOT_RUNNING)),
        What::PortForward { port, protocol, .. } => {
            check_port(port, protocol)?;
            if paused {
                return conflict(VMI_PAUSED);
            }
        }
        What::Console if paused => return conflict(VMI_PAUSED),
        What::Freeze if !runs => return conflict(VM_NOT_RUNNING),
        What::GuestOsInfo | What::UserList | What::FilesystemList | What::Unfreeze if !runs => {
            return conflict(VMI_NOT_RUNNING);
        }
        What::GuestOsInfo
        | What::UserList
        | What::FilesystemList
        | What::Freeze
        | What::Unfreeze
            if !has_agent(instance) =>
        {
            return conflict(NO_AGENT);
        }
        _ => {}
    }
    if !runs {
        let phase = instance.phase();
        return Err(Refusal::bad_request(format!(
            "Unable to connect to VirtualMachineInstance because phase is {phase:?} instead of Running"
        )));
    }
    node(instance)
}

/// The node that it is on, or was when it ended.
///
/// # Errors
/// It has none yet.
pub(super) fn node(instance: &VirtualMachineInstance) -> Result<&str, Refusal> {
    let node = instance.status.as_ref().and_then(|status| status.node_name.as_deref());
    node.filter(|node| !node.is_empty()).ok_or_else(|| Refusal::internal("it names no node"))
}

/// By what the log of its console is known: the uid of its VM, or its own where it has none.
pub(super) fn owner(instance: &VirtualMachineInstance) -> Option<String> {
    let owners = instance.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    controllers.next().map(|owner| owner.uid.clone()).or_else(|| instance.uid())
}

/// That a port can be forwarded: TCP is, since between us and the node go bytes, not datagrams.
fn check_port(port: &str, protocol: &str) -> Result<(), Refusal> {
    if !protocol.eq_ignore_ascii_case("tcp") {
        let said = net::shown(protocol);
        return Err(Refusal::bad_request(format!(
            "only tcp is forwarded, not {said:?}: forward a TCP port"
        )));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(Refusal::bad_request(format!(
            "port {:?}: write a number from 1 to 65535",
            net::shown(port)
        ))),
    }
}

/// Whether the agent in its guest answers.
fn has_agent(instance: &VirtualMachineInstance) -> bool {
    let conditions = instance.status.as_ref().map(|status| status.conditions.as_slice());
    conditions.is_some_and(|conditions| Condition::holds(conditions, "AgentConnected"))
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
        let all = [
            What::Pause,
            What::SoftReboot,
            What::Reset,
            What::Console,
            What::Vnc,
            What::Screenshot,
        ];
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
    fn what_a_guest_says_of_itself_is_asked_of_its_agent_if_it_has_one() {
        let all =
            [What::GuestOsInfo, What::UserList, What::FilesystemList, What::Freeze, What::Unfreeze];
        let condition = json!({ "conditions": [{ "type": "AgentConnected", "status": "True" }] });
        for what in all {
            assert_eq!(told(&vmi(&json!({}), &json!({})), &what), NO_AGENT, "{what:?}");
            assert_eq!(told(&vmi(&json!({}), &condition), &what), "ask n1", "{what:?}");
            let ended = vmi(&json!({}), &json!({ "phase": "Succeeded" }));
            assert!(told(&ended, &what).ends_with("is not running"), "{what:?}");
        }
        let features =
            json!({ "domain": { "devices": {}, "features": { "acpi": { "enabled": false } } } });
        assert!(told(&vmi(&features, &json!({})), &What::SoftReboot).contains("ACPI"));
        assert_eq!(told(&vmi(&features, &condition), &What::SoftReboot), "ask n1");
    }

    #[test]
    fn a_tcp_port_of_a_guest_that_runs_is_forwarded() {
        let runs = vmi(&json!({}), &json!({}));
        let forward = |port: &str, protocol: &str| What::PortForward {
            of_machine: false,
            port: port.to_owned(),
            protocol: protocol.to_owned(),
        };
        assert_eq!(told(&runs, &forward("22", "tcp")), "ask n1");
        assert_eq!(told(&runs, &forward("22", "TCP")), "ask n1");
        for port in ["0", "65536", "ssh", "+22", "22 "] {
            let refusal = check(&runs, &forward(port, "tcp"));
            assert!(port == "+22" || refusal.unwrap_err().code == 400, "{port:?}");
        }
        assert_eq!(check(&runs, &forward("53", "udp")).unwrap_err().code, 400);
        let condition = json!({ "conditions": [{ "type": "Paused", "status": "True" }] });
        assert_eq!(told(&vmi(&json!({}), &condition), &forward("22", "tcp")), "VMI is paused");
    }

    #[test]
    fn what_does_not_run_may_be_asked_for_nothing() {
        let waits = vmi(&json!({}), &json!({ "phase": "Scheduled" }));
        assert_eq!(told(&waits, &What::Pause), "VM is not running");
        assert_eq!(told(&waits, &What::Unpause), "VMI is not running");
        assert_eq!(told(&waits, &What::Screenshot), "VMI is not running");
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
        for what in [What::Vnc, What::Screenshot] {
            assert_eq!(told(&bare, &what), "No graphics devices are present.", "{what:?}");
        }
        let acpi =
            json!({ "domain": { "devices": {}, "features": { "acpi": { "enabled": false } } } });
        assert!(told(&vmi(&acpi, &json!({})), &What::SoftReboot).contains("ACPI"));
        let probed = vmi(&json!({ "livenessProbe": {} }), &json!({}));
        assert!(told(&probed, &What::Pause).contains("LivenessProbe"));
        let moves = json!({ "migrationState": { "migrationUid": "m", "targetNode": "n2" } });
        assert!(told(&vmi(&json!({}), &moves), &What::Pause).contains("being migrated"));
    }
}
