//! What is written to a VM's object, and when it is written.
//!
//! The one place where this node's VMs become visible. [`patch`] compares a
//! [`Report`] with the object and gives the merge patch that is missing, or
//! nothing; [`publish`] writes it, again and again, until the object says so or
//! is gone. Each patch names the version it was computed from, so that lists,
//! which a merge patch replaces whole, never lose another writer's entry.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crds::condition::{FIELDS_WITHOUT_EFFECT, INVALID_DHCP_OPTIONS};
use crds::kubevirt::{
    Condition, ConditionStatus, INSTANCE_FINALIZER, InstanceInterface, InstancePhase,
    PhaseTransition, VirtualMachineInstance, VirtualMachineInstanceStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::{End, Report, Trouble};
use crate::domain;
use crate::hypervisor::PauseReason;
use crate::leases::Port;
use crate::metrics::Metrics;

/// How long one write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// The first and the longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// The pause after someone else wrote first.
const AFTER_CONFLICT: Duration = Duration::from_millis(20);

/// Says in `managedFields` who wrote.
const FIELD_MANAGER: &str = "berth-agent";

/// The merge patch that makes `vmi` say `report`; `None` when it does already.
///
/// A phase that is final stays as it is: of two ends the first one counts.
#[must_use]
pub fn patch(
    vmi: &VirtualMachineInstance,
    report: &Report,
    node: &str,
    ports: &[Port],
    now: &Time,
) -> Option<Value> {
    let before = vmi.status.clone().unwrap_or_default();
    let mut after = before.clone();
    if !vmi.phase().is_final() {
        apply(&mut after, report, node, ports, now);
        if matches!(report, Report::Running { .. }) {
            say_ignored(&mut after.conditions, vmi, now);
            say_faults(&mut after.conditions, ports, now);
        }
    }
    let mut patch = json!({});
    if let Some(status) = difference(&before, &after) {
        patch["status"] = status;
    }
    if matches!(report, Report::Ended(_))
        && vmi.finalizers().iter().any(|one| one == INSTANCE_FINALIZER)
    {
        let others: Vec<_> =
            vmi.finalizers().iter().filter(|one| *one != INSTANCE_FINALIZER).collect();
        patch["metadata"]["finalizers"] =
            if others.is_empty() { Value::Null } else { json!(others) };
    }
    if patch.as_object().is_some_and(serde_json::Map::is_empty) {
        return None;
    }
    // Guards: not another object of the same name, and not another version of it.
    patch["metadata"]["uid"] = json!(vmi.uid());
    if let Some(version) = vmi.resource_version() {
        patch["metadata"]["resourceVersion"] = json!(version);
    }
    Some(patch)
}

/// Changes the status into what the report says.
fn apply(
    status: &mut VirtualMachineInstanceStatus,
    report: &Report,
    node: &str,
    ports: &[Port],
    now: &Time,
) {
    let conditions = &mut status.conditions;
    let mut set = |condition: Condition| condition.merge_into(conditions, now.clone());
    match report {
        Report::Waiting(trouble) => set(unsynchronized(trouble)),
        Report::Running { paused } => {
            set(Condition::new("Ready", ConditionStatus::True));
            set(Condition::new("Synchronized", ConditionStatus::True));
            set(Condition::new("LiveMigratable", ConditionStatus::False).because(
                "MigrationNotSupported",
                "this version of Berth cannot move a running VM to another node",
            ));
            match paused {
                Some(reason) => set(paused_condition(*reason)),
                None => status.conditions.retain(|one| one.r#type != "Paused"),
            }
            status.interfaces = ports.iter().map(interface).collect();
            status.node_name = Some(node.to_owned());
            enter(status, InstancePhase::Running, now);
        }
        Report::Ended(end) => {
            set(Condition::new("Ready", ConditionStatus::False)
                .because("GuestNotRunning", "the guest has ended"));
            if let End::Failed(trouble) = end {
                set(unsynchronized(trouble));
                status.reason = Some(trouble.reason.to_owned());
                enter(status, InstancePhase::Failed, now);
            } else {
                enter(status, InstancePhase::Succeeded, now);
            }
        }
    }
}

/// What the user wrote and did not get.
fn say_ignored(conditions: &mut Vec<Condition>, vmi: &VirtualMachineInstance, now: &Time) {
    let fields = domain::ignored(vmi);
    if fields.is_empty() {
        conditions.retain(|one| one.r#type != FIELDS_WITHOUT_EFFECT);
    } else {
        Condition::new(FIELDS_WITHOUT_EFFECT, ConditionStatus::True)
            .because("NotSupported", format!("these fields have no effect: {}", fields.join(", ")))
            .merge_into(conditions, now.clone());
    }
}

/// What the guest was to be told and cannot be.
fn say_faults(conditions: &mut Vec<Condition>, ports: &[Port], now: &Time) {
    // What is mended makes room for the next.
    const TOLD: usize = 5;
    let faults = ports.iter().flat_map(|port| &port.faults).map(String::as_str).take(TOLD);
    let faults: Vec<&str> = faults.collect();
    if faults.is_empty() {
        conditions.retain(|one| one.r#type != INVALID_DHCP_OPTIONS);
    } else {
        Condition::new(INVALID_DHCP_OPTIONS, ConditionStatus::True)
            .because("InvalidEntries", faults.join("; "))
            .merge_into(conditions, now.clone());
    }
}

fn enter(status: &mut VirtualMachineInstanceStatus, phase: InstancePhase, now: &Time) {
    if status.phase != Some(phase) {
        status.phase = Some(phase);
        let phase_transition_timestamp = now.clone();
        let transition = PhaseTransition { phase, phase_transition_timestamp };
        status.phase_transition_timestamps.push(transition);
    }
}

fn unsynchronized(trouble: &Trouble) -> Condition {
    Condition::new("Synchronized", ConditionStatus::False).because(trouble.reason, &trouble.message)
}

fn paused_condition(reason: PauseReason) -> Condition {
    let (reason, message) = match reason {
        PauseReason::IoError => {
            ("PausedIOError", "a disk returned an error: repair its storage, then unpause the VM")
        }
        _ => ("PausedByUser", "the VM was paused by a user"),
    };
    Condition::new("Paused", ConditionStatus::True).because(reason, message)
}

fn interface(port: &Port) -> InstanceInterface {
    let addresses: Vec<_> = port.addresses.iter().map(ToString::to_string).collect();
    InstanceInterface {
        name: Some(port.network.clone()),
        mac: Some(port.mac.to_string()),
        ip_address: addresses.first().cloned(),
        ip_addresses: addresses,
        pod_interface_name: Some(port.tap.clone()),
        info_source: Some("domain".to_owned()),
        queue_count: Some(1),
        ..InstanceInterface::default()
    }
}

/// The fields of the status that differ, as a merge patch has them.
fn difference(
    before: &VirtualMachineInstanceStatus,
    after: &VirtualMachineInstanceStatus,
) -> Option<Value> {
    let object = |status| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        other => unreachable!("a status is an object, not {other:?}"),
    };
    let (before, mut after) = (object(before), object(after));
    let gone: Vec<_> = before.keys().filter(|key| !after.contains_key(*key)).cloned().collect();
    after.retain(|key, value| before.get(key) != Some(value));
    after.extend(gone.into_iter().map(|key| (key, Value::Null)));
    (!after.is_empty()).then_some(Value::Object(after))
}

/// Writes the report until the object says it, or until there is no object.
///
/// May be dropped at any time and begun again: what was written is seen then.
pub async fn publish(
    client: Client,
    metrics: Metrics,
    node: String,
    mut vmi: VirtualMachineInstance,
    ports: Vec<Port>,
    report: Report,
) {
    let api: Api<VirtualMachineInstance> =
        Api::namespaced(client, &vmi.namespace().unwrap_or_default());
    let (name, uid) = (vmi.name_any(), vmi.uid());
    let mut pause = PAUSES.0;
    loop {
        let now = Time(k8s_openapi::jiff::Timestamp::now());
        let Some(patch) = patch(&vmi, &report, &node, &ports, &now) else { return };
        match write(&api, &name, &patch).await {
            Ok(()) => {
                metrics.written();
                return;
            }
            Err(Refusal::NoObject) => return,
            Err(Refusal::Other(error)) => {
                metrics.not_written();
                tracing::warn!(%error, "The state of a VM is not written yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(Refusal::Conflict) => tokio::time::sleep(AFTER_CONFLICT).await,
        }
        // Whatever came in between: another version, or an answer that got lost.
        match read(&api, &name).await {
            Ok(Some(now)) if now.uid() == uid => vmi = now,
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(%error, "The object of a VM cannot be read");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Why an object was not written.
enum Refusal {
    NoObject,
    /// It changed: read it and look again.
    Conflict,
    /// Worth another try later.
    Other(String),
}

async fn write(
    api: &Api<VirtualMachineInstance>,
    name: &str,
    patch: &Value,
) -> Result<(), Refusal> {
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(patch);
    let call = api.patch(name, &params, &patch);
    match tokio::time::timeout(WRITE_LIMIT, call).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(Refusal::NoObject),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Refusal::Conflict),
        Ok(Err(error)) => Err(Refusal::Other(error.to_string())),
        Err(_) => Err(Refusal::Other("the API does not answer".to_owned())),
    }
}

/// The object as it is now; `None` when there is none.
pub async fn read(
    api: &Api<VirtualMachineInstance>,
    name: &str,
) -> Result<Option<VirtualMachineInstance>, kube::Error> {
    match tokio::time::timeout(WRITE_LIMIT, api.get_opt(name)).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service("the API does not answer".into())),
    }
}
