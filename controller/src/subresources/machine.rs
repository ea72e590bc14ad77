//! Start, stop, restart, migrate: from what is asked and what is there to what is to be
//! written. Pure; upstream's `pkg/virt-api/rest/lifecycle.go` is the model, word by word where
//! scripts go by it.
//!
//! | strategy | start | stop | restart |
//! |---|---|---|---|
//! | Halted | strategy Always | with a shorter grace period only | refused |
//! | Manual, RerunOnFailure | requested | requested | requested |
//! | Always | refused | strategy Halted | requested |
//! | Once | refused | strategy Halted | refused |
//!
//! What is requested stands in `status.stateChangeRequests`, and [`crate::machine`] carries it
//! out. What is written names the version it was decided on.

use std::collections::BTreeMap;

use crds::kubevirt::{
    Condition, InstancePhase, PAUSED_REQUEST, RunStrategy, StateChangeAction, VirtualMachine,
    VirtualMachineInstance,
};
use kube::ResourceExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::refusal::{Kind, Refusal};
use crate::machine::switched;

pub(super) const VM_NOT_RUNNING: &str = "VM is not running";

/// That a machine has an instance.
///
/// # Errors
/// In upstream's words, when it has none.
pub(super) fn started(vm: &VirtualMachine) -> Result<(), Refusal> {
    if vm.status.as_ref().and_then(|status| status.created) == Some(true) {
        return Ok(());
    }
    Err(Refusal::conflict(Kind::Machine, &vm.name_any(), "VMI is not started"))
}

/// The body of any of these requests: upstream has a type for each.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Options {
    /// Of a start: the guest waits to be resumed.
    paused: Option<bool>,
    /// Of a stop, in seconds.
    grace_period: Option<i64>,
    /// Of a restart, in seconds: 0 or none.
    grace_period_seconds: Option<i64>,
    /// Of a migration.
    added_node_selector: Option<BTreeMap<String, String>>,
    dry_run: Option<Vec<String>>,
}

impl Options {
    /// # Errors
    /// When the body is no such thing.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let read: Result<Option<Self>, _> = serde_json::from_slice(body);
        read.map(Option::unwrap_or_default).map_err(|error| {
            Refusal::bad_request(format!(
                "Can not unmarshal Request body to struct, error: {error}"
            ))
        })
    }

    /// Whether nothing is to be kept of what is asked for.
    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run.iter().flatten().any(|word| word == "All")
    }
}

/// What is to be written, in this order. All are merge patches, the first with the version that
/// was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Of the instance.
    pub(super) instance: Option<Value>,
    /// Of the machine.
    pub(super) spec: Option<Value>,
    /// Of its status.
    pub(super) status: Option<Value>,
}

/// A machine, and its instance if there is one.
pub(super) type Here<'a> = (&'a VirtualMachine, Option<&'a VirtualMachineInstance>);

/// From what is there to what is to be written.
pub(super) type Decide = fn(Here<'_>, &Options) -> Result<Plan, Refusal>;

/// # Errors
/// In upstream's words.
pub(super) fn start((vm, instance): Here<'_>, options: &Options) -> Result<Plan, Refusal> {
    let conflict = |why: &str| Err(Refusal::conflict(Kind::Machine, &vm.name_any(), why));
    let phase = instance.map(VirtualMachineInstance::phase);
    let runs = phase.is_some_and(|phase| {
        !phase.is_final() && !matches!(phase, InstancePhase::Unknown | InstancePhase::Unset)
    });
    if runs {
        return conflict("VM is already running");
    }
    let paused = options.paused == Some(true);
    if paused && vm.spec.template.spec.liveness_probe.is_some() {
        let why = "Pausing VMIs with LivenessProbe is currently not supported";
        return Err(Refusal::forbidden(Kind::Machine, &vm.name_any(), why));
    }
    let strategy = strategy(vm)?;
    match strategy {
        // The strategy follows, with the instance that is made for it.
        RunStrategy::Halted if paused => request(vm, &[Change::Start { paused }]),
        RunStrategy::Halted => Ok(running(vm, true)),
        RunStrategy::RerunOnFailure if phase == Some(InstancePhase::Failed) => {
            conflict("RerunOnFailure does not support starting VM from failed state")
        }
        RunStrategy::RerunOnFailure | RunStrategy::Manual => {
            let ended = instance.filter(|instance| instance.phase().is_final());
            let stop = ended.map(|ended| Change::Stop(ended.uid()));
            let requests = stop.into_iter().chain([Change::Start { paused }]);
            request(vm, &requests.collect::<Vec<_>>())
        }
        RunStrategy::Always | RunStrategy::Once | RunStrategy::WaitAsReceiver => {
            conflict(&format!("{strategy:?} does not support manual start requests"))
        }
    }
}

/// # Errors
/// In upstream's words.
pub(super) fn stop((vm, instance): Here<'_>, options: &Options) -> Result<Plan, Refusal> {
    if options.grace_period.is_some_and(|seconds| seconds < 0) {
        return Err(Refusal::bad_request("gracePeriod has to be greater or equal to 0"));
    }
    let conflict = |why: &str| Err(Refusal::conflict(Kind::Machine, &vm.name_any(), why));
    let strategy = strategy(vm)?;
    let lives = instance.filter(|instance| !instance.phase().is_final());
    let sooner = options.grace_period.zip(lives).map(|(grace, lives)| hurried(lives, grace));
    let plan = match (strategy, lives) {
        (RunStrategy::Always | RunStrategy::Once | RunStrategy::WaitAsReceiver, _) => {
            running(vm, false)
        }
        (_, None) => return conflict(VM_NOT_RUNNING),
        (RunStrategy::Halted, Some(lives)) => {
            let before = lives.spec.termination_grace_period_seconds;
            let is_shorter = match (options.grace_period, before) {
                (Some(grace), Some(before)) => grace < before,
                (grace, None) => grace.is_some(),
                (None, Some(_)) => false,
            };
            if !is_shorter {
                return conflict(
                    "Halted only supports manual stop requests with a shorter graceperiod",
                );
            }
            request(vm, &[Change::Stop(lives.uid())])?
        }
        (RunStrategy::RerunOnFailure | RunStrategy::Manual, Some(lives)) => {
            request(vm, &[Change::Stop(lives.uid())])?
        }
    };
    Ok(Plan { instance: sooner, ..plan })
}

/// # Errors
/// In upstream's words.
pub(super) fn restart((vm, instance): Here<'_>, options: &Options) -> Result<Plan, Refusal> {
    let conflict = |why: &str| Err(Refusal::conflict(Kind::Machine, &vm.name_any(), why));
    let grace = options.grace_period_seconds;
    if grace.is_some_and(|grace| grace > 0) {
        let said = "For force restart, only gracePeriod=0 is supported for now";
        return Err(Refusal::bad_request(said));
    }
    if grace.is_some_and(|grace| grace < 0) {
        return Err(Refusal::bad_request("gracePeriod has to be greater or equal to 0"));
    }
    let strategy = strategy(vm)?;
    if matches!(strategy, RunStrategy::Halted | RunStrategy::Once | RunStrategy::WaitAsReceiver) {
        return conflict(&format!(
            "RunStategy {strategy:?} does not support manual restart requests"
        ));
    }
    let Some(instance) = instance else { return conflict("VM is not running: Halted") };
    let requests = [Change::Stop(instance.uid()), Change::Start { paused: false }];
    let plan = request(vm, &requests)?;
    Ok(Plan { instance: grace.map(|grace| hurried(instance, grace)), ..plan })
}

/// The migration to make.
///
/// # Errors
/// In upstream's words.
pub(super) fn migrate((vm, instance): Here<'_>, options: &Options) -> Result<Value, Refusal> {
    let name = vm.name_any();
    let conflict = |why: &str| Err(Refusal::conflict(Kind::Machine, &name, why));
    let Some(instance) = instance else {
        return Err(Refusal::not_found(Kind::Instance, &name));
    };
    if instance.phase() != InstancePhase::Running {
        return conflict(VM_NOT_RUNNING);
    }
    if is_paused(instance) {
        return conflict("VM is paused");
    }
    let mut spec = json!({ "vmiName": name });
    if let Some(selector) = &options.added_node_selector {
        spec["addedNodeSelector"] = json!(selector);
    }
    Ok(json!({ "metadata": { "generateName": "kubevirt-migrate-vm-" }, "spec": spec }))
}

pub(super) fn is_paused(instance: &VirtualMachineInstance) -> bool {
    let conditions = instance.status.as_ref().map(|status| status.conditions.as_slice());
    Condition::holds(conditions.unwrap_or_default(), "Paused")
}

fn strategy(vm: &VirtualMachine) -> Result<RunStrategy, Refusal> {
    vm.spec.strategy().map_err(Refusal::internal)
}

fn version(object: &impl kube::Resource) -> Value {
    json!({ "resourceVersion": object.meta().resource_version })
}

/// Has the strategy changed.
fn running(vm: &VirtualMachine, runs: bool) -> Plan {
    let failed = vm.status.as_ref().is_some_and(|status| status.start_failure.is_some());
    // Who asks for a start does not wait for what failed before. It is written after the spec,
    // so for any version: that nothing is counted any more holds for each.
    let status = (runs && failed).then(
        || json!({ "metadata": { "uid": vm.metadata.uid }, "status": { "startFailure": null } }),
    );
    Plan { spec: Some(switched(vm, runs)), status, ..Plan::default() }
}

/// A change of state that is asked for.
enum Change {
    /// End the instance of this uid.
    Stop(Option<String>),
    /// Make an instance, whose guest may have to wait to be resumed.
    Start { paused: bool },
}

/// Gives the guest so many seconds to power off, from now on.
fn hurried(instance: &VirtualMachineInstance, grace: i64) -> Value {
    json!({
        "metadata": version(instance),
        "spec": { "terminationGracePeriodSeconds": grace.max(0) },
    })
}

/// Requests changes of state. One that is being worked on is not given up for others, but
/// for a stop.
fn request(vm: &VirtualMachine, changes: &[Change]) -> Result<Plan, Refusal> {
    let status = vm.status.as_ref();
    let is_busy = status.is_some_and(|status| !status.state_change_requests.is_empty());
    if is_busy && !matches!(changes, [Change::Stop(_)]) {
        let said = "unable to complete request: stop/start already underway";
        return Err(Refusal::internal(said));
    }
    let changes: Vec<Value> = changes
        .iter()
        .map(|change| match change {
            Change::Stop(uid) => json!({ "action": StateChangeAction::Stop, "uid": uid }),
            Change::Start { paused: false } => json!({ "action": StateChangeAction::Start }),
            Change::Start { paused: true } => {
                let (key, value) = PAUSED_REQUEST;
                json!({ "action": StateChangeAction::Start, "data": { key: value } })
            }
        })
        .collect();
    let mut told = json!({ "stateChangeRequests": changes });
    if status.is_some_and(|status| status.start_failure.is_some()) {
        told["startFailure"] = Value::Null;
    }
    let status = json!({ "metadata": version(vm), "status": told });
    Ok(Plan { status: Some(status), ..Plan::default() })
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
