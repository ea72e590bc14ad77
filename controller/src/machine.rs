//! The run strategies: what a VM and its instance ask for next.
//!
//! [`next`] is a pure function of what is written in the two objects, so it may
//! be asked at any time and as often as one likes. The table is KubeVirt's
//! (`pkg/virt-controller/watch/vm/vm.go`, `syncRunStrategy`):
//!
//! | strategy | no instance | Failed | Succeeded | running |
//! |---|---|---|---|---|
//! | Always | create after back-off | delete | delete | – |
//! | RerunOnFailure | create when newly set, or on request, after back-off | delete, request a start | delete | – |
//! | Manual | create on request | – | – | – |
//! | Once | create | – | – | – |
//! | Halted | – | delete | delete | delete |
//!
//! One that is halted and asked to start with its guest paused gets another strategy, and the
//! request says how its instance is made: with the strategy alone nobody would know. A stop request deletes the instance that it names, under any strategy. Where
//! no strategy can be read nothing is started, and what runs goes on.
//!
//! With an instance goes what it says of itself. What the next start depends on is in the
//! status of its VM before ([`is_owed`]): that one is to follow, how many failed, and that
//! the strategy is no new one.
//!
//! `subresources/machine/model.rs` has this table carried out under any order of events.

use std::collections::BTreeSet;

use crds::annotations::VM_GENERATION;
use crds::condition::{FIELDS_WITHOUT_EFFECT, INVALID_DHCP_OPTIONS};
use crds::kubevirt::{
    Condition, ConditionStatus, InstancePhase, MigrationState, PrintableStatus, Rest, RunStrategy,
    StartFailure, StateChangeAction, StateChangeRequest, VirtualMachine, VirtualMachineInstance,
    VirtualMachineInstanceStatus, VirtualMachineStatus,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::request::{self, Asker};
use crate::{dhcp, flaw, hold, live, objects};

mod passing;

pub use passing::unseen_for;

/// What to do next for a VM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing, until something changes.
    Rest,
    /// Make an instance.
    Create,
    /// Make an instance, but not before then.
    CreateAt(Timestamp),
    /// Delete the instance.
    Delete,
    /// Have the machine run from now on.
    SwitchOn,
}

/// Delay after a first failed start; grows with the square of their number.
const FIRST_BACK_OFF: SignedDuration = SignedDuration::from_secs(10);
/// The longest delay between starts.
const LONGEST_BACK_OFF: SignedDuration = SignedDuration::from_secs(300);

/// What `vm` asks for, given its instance if there is one.
///
/// An instance that belongs to an earlier VM of the same name counts as one
/// that is in the way: nothing is made before it is gone.
#[must_use]
pub fn next(
    vm: &VirtualMachine,
    instance: Option<&VirtualMachineInstance>,
    now: Timestamp,
) -> Step {
    use RunStrategy as Strategy;
    if vm.metadata.deletion_timestamp.is_some() {
        // Not one that was told to forget the VM, which may be there a moment longer.
        let its = instance.filter(|one| owns(vm, one));
        let unwanted = its.is_some_and(is_there_to_delete) && !leaves_orphan(&vm.metadata);
        return if unwanted { Step::Delete } else { Step::Rest };
    }
    let strategy = vm.spec.strategy().ok();
    let Some(instance) = instance else {
        let is_asked = requested(vm) == Some(StateChangeAction::Start);
        return match strategy {
            Some(Strategy::Always) => start(vm, now),
            Some(Strategy::RerunOnFailure) if is_asked || newly_set(vm) => start(vm, now),
            // Whoever asks for each start by hand waits for none.
            Some(Strategy::Manual) if is_asked => Step::Create,
            Some(Strategy::Once) => Step::Create,
            Some(Strategy::Halted) if starts_paused(vm) && was_halted(vm) => Step::SwitchOn,
            _ => Step::Rest,
        };
    };
    if !is_there_to_delete(instance) {
        return Step::Rest;
    }
    let ended = instance.phase().is_final();
    let unwanted = match strategy {
        Some(Strategy::Halted) => true,
        Some(Strategy::Always | Strategy::RerunOnFailure) => ended,
        Some(Strategy::Manual | Strategy::Once | Strategy::WaitAsReceiver) | None => false,
    } || stop_requested(vm, instance);
    if unwanted { Step::Delete } else { Step::Rest }
}

fn is_there_to_delete(instance: &VirtualMachineInstance) -> bool {
    instance.metadata.deletion_timestamp.is_none()
}

/// Whether the VM is deleted without its instance (`--cascade=orphan`): the garbage
/// collector has the instance forget it, then lets it go.
#[must_use]
pub fn leaves_orphan(vm: &ObjectMeta) -> bool {
    hold::has(vm, "orphan")
}

/// Whether `instance` is of this very VM, not of an earlier one of its name.
#[must_use]
pub fn owns(vm: &VirtualMachine, instance: &VirtualMachineInstance) -> bool {
    is_owner(&vm.metadata, &instance.metadata)
}

/// The same, of what all objects have.
#[must_use]
pub fn is_owner(vm: &ObjectMeta, instance: &ObjectMeta) -> bool {
    let mut owners = instance.owner_references.iter().flatten();
    vm.uid.as_ref().is_some_and(|uid| owners.any(|owner| owner.uid == *uid))
}

fn start(vm: &VirtualMachine, now: Timestamp) -> Step {
    let failure = vm.status.as_ref().and_then(|status| status.start_failure.as_ref());
    match failure.and_then(|failure| failure.retry_after_timestamp.as_ref()) {
        Some(Time(after)) if *after > now => Step::CreateAt(*after),
        _ => Step::Create,
    }
}

/// Whether strategy `RerunOnFailure` was set after the last status was written.
fn newly_set(vm: &VirtualMachine) -> bool {
    let seen = vm.status.as_ref().and_then(|status| status.run_strategy);
    seen != Some(RunStrategy::RerunOnFailure)
}

/// Whether it was halted when a start was asked for: who halts it later means that.
fn was_halted(vm: &VirtualMachine) -> bool {
    let seen = vm.status.as_ref().and_then(|status| status.run_strategy);
    seen.is_none_or(|seen| seen == RunStrategy::Halted)
}

/// Whether the next instance of `vm` is to wait to be resumed, since that was asked for.
#[must_use]
pub fn starts_paused(vm: &VirtualMachine) -> bool {
    request(vm).is_some_and(StateChangeRequest::starts_paused)
}

/// The merge patch that has `vm` run, or not, in the field in which it says that.
#[must_use]
pub fn switched(vm: &VirtualMachine, runs: bool) -> Value {
    let spec = if vm.spec.run_strategy.is_some() {
        json!({ "runStrategy": if runs { RunStrategy::Always } else { RunStrategy::Halted } })
    } else {
        json!({ "running": runs })
    };
    json!({ "metadata": { "resourceVersion": vm.resource_version() }, "spec": spec })
}

/// Only the first request counts, as upstream.
fn request(vm: &VirtualMachine) -> Option<&StateChangeRequest> {
    vm.status.as_ref().and_then(|status| status.state_change_requests.first())
}

fn requested(vm: &VirtualMachine) -> Option<StateChangeAction> {
    request(vm).map(|request| request.action)
}

fn stop_requested(vm: &VirtualMachine, instance: &VirtualMachineInstance) -> bool {
    request(vm).is_some_and(|request| {
        request.action == StateChangeAction::Stop
            && request.uid.is_some()
            && request.uid == instance.uid()
    })
}

/// Drops requests that have been met or that a halt came after, and adds a start after a failure under
/// `RerunOnFailure`.
fn requests(
    vm: &VirtualMachine,
    instance: Option<&VirtualMachineInstance>,
) -> Vec<StateChangeRequest> {
    let mut requests =
        vm.status.as_ref().map(|status| status.state_change_requests.clone()).unwrap_or_default();
    let lives = instance
        .is_some_and(|instance| !instance.phase().is_final() && is_there_to_delete(instance));
    // Whoever halts a VM has thought better of a start; one that is asked for while it is
    // halted, with its guest paused, has it switched on. Where an instance that has ended stays,
    // it is what came of the start, also if nobody saw it live.
    let came = match vm.spec.strategy() {
        Ok(RunStrategy::Halted) => !(starts_paused(vm) && was_halted(vm)),
        Ok(RunStrategy::Manual | RunStrategy::Once) => instance.is_some_and(is_there_to_delete),
        _ => lives,
    };
    let is_met = |request: &StateChangeRequest| match request.action {
        StateChangeAction::Start => came,
        StateChangeAction::Stop => instance.is_none_or(|instance| instance.uid() != request.uid),
    };
    // Only the first is worked on: the start of a restart is of what comes after the stop.
    let met = requests.iter().take_while(|one| is_met(one)).count();
    requests.drain(..met);
    let failed = instance.is_some_and(|instance| instance.phase() == InstancePhase::Failed);
    if failed && requests.is_empty() && vm.spec.strategy() == Ok(RunStrategy::RerunOnFailure) {
        let (data, uid, rest) = (None, None, Rest::new());
        requests.push(StateChangeRequest { action: StateChangeAction::Start, data, uid, rest });
    }
    requests
}

/// The status that `vm` should show, given its instance and what kept it from
/// being served.
#[must_use]
pub fn status(
    vm: &VirtualMachine,
    instance: Option<&VirtualMachineInstance>,
    trouble: Option<&Trouble>,
    now: Timestamp,
) -> VirtualMachineStatus {
    status_of(vm, Some(vm), instance, trouble, None, now)
}

/// The same of one that refers to an instancetype or a preference: `made_of` is the VM with
/// these put in, if that can be told. `withheld`: why the guest
/// does not come to have what these say, as [`live::judge`] has it.
#[must_use]
pub fn status_of(
    vm: &VirtualMachine,
    made_of: Option<&VirtualMachine>,
    instance: Option<&VirtualMachineInstance>,
    trouble: Option<&Trouble>,
    withheld: Option<&'static str>,
    now: Timestamp,
) -> VirtualMachineStatus {
    let mut status = vm.status.clone().unwrap_or_default();
    status.start_failure = start_failure(vm, &status, instance, now);
    status.created = Some(instance.is_some());
    status.ready = Some(instance.is_some_and(is_ready));
    status.state_change_requests = requests(vm, instance);
    if instance.is_some() || vm.spec.strategy() != Ok(RunStrategy::RerunOnFailure) {
        status.run_strategy = vm.spec.strategy().ok();
    }
    let failure = failure(&status, status.start_failure.is_some(), instance);
    status.instancetype_ref = status.instancetype_ref.filter(|_| vm.spec.instancetype.is_some());
    status.preference_ref = status.preference_ref.filter(|_| vm.spec.preference.is_some());
    let is_outdated = |(one, vm): &(&VirtualMachineInstance, &VirtualMachine)| {
        !one.phase().is_final() && (withheld.is_some() || !objects::is_made_of(one, vm))
    };
    let outdated = instance.zip(made_of).filter(is_outdated);
    status.desired_generation = vm.metadata.generation;
    status.observed_generation =
        outdated.and_then(|(instance, _)| generation_of(instance)).or(vm.metadata.generation);
    let restart = outdated.map(|(instance, vm)| restart_required(instance, vm, withheld));
    status.conditions = conditions(vm, instance, trouble, restart.into_iter().chain(failure), now);
    status.printable_status = printable(vm, instance, trouble, &status);
    status
}

/// The generation of its VM that an instance was made of.
fn generation_of(instance: &VirtualMachineInstance) -> Option<i64> {
    instance.annotations().get(VM_GENERATION)?.parse().ok()
}

/// Whether `status` says something that `vm` does not say yet and that nobody could tell any
/// more once `instance` is gone.
#[must_use]
pub fn is_owed(
    vm: &VirtualMachine,
    instance: &VirtualMachineInstance,
    status: &VirtualMachineStatus,
) -> bool {
    if vm.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let old = vm.status.clone().unwrap_or_default();
    let fails = instance.phase().is_final() && status.start_failure != old.start_failure;
    let reruns = vm.spec.strategy() == Ok(RunStrategy::RerunOnFailure);
    let asks = status.state_change_requests != old.state_change_requests;
    fails || (reruns && (asks || status.run_strategy != old.run_strategy))
}

/// What keeps a VM from having its place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// One word for programs.
    pub reason: &'static str,
    /// One sentence for people: what to change.
    pub message: String,
}

/// No node takes the VM.
pub const UNSCHEDULABLE: &str = "Unschedulable";
/// What it asks of nodes cannot be read.
pub const INVALID_PLACEMENT: &str = "InvalidPlacement";
/// A claim that a disk lies on is not there.
pub const FAILED_PVC_NOT_FOUND: &str = "FailedPvcNotFound";
/// A claim that a disk lies on has no volume yet.
pub const WAITING_FOR_VOLUME_BINDING: &str = "WaitingForVolumeBinding";
/// A DataVolume is being filled.
pub const DATA_VOLUMES_NOT_READY: &str = "NotAllDVsReady";
/// A DataVolume cannot be filled.
pub const DATA_VOLUME_FAILED: &str = "DataVolumeError";
/// Its networks cannot be served as written.
pub const INVALID_NETWORK: &str = "InvalidNetwork";
/// It says twice when it runs, or not at all.
pub const INVALID_RUN_STRATEGY: &str = "InvalidRunStrategy";
/// An instance without a VM has the name of a VM that holds the port it would have.
pub const VIRTUAL_MACHINE_IN_THE_WAY: &str = "VirtualMachineInTheWay";
/// The port that it would have is another's, or OVN refuses it.
pub const PORT_NOT_AVAILABLE: &str = "PortNotAvailable";
/// The API refuses the IP object of a port.
pub const IP_REFUSED: &str = "IPNotWritten";
/// An address cannot be had.
pub const ADDRESS_NOT_AVAILABLE: &str = "AddressNotAvailable";
/// An IPAMClaim that it refers to has been asked for its first addresses.
pub const WAITS_FOR_CLAIM: &str = "WaitsForIPAMClaim";

fn is_ready(instance: &VirtualMachineInstance) -> bool {
    instance.status.as_ref().is_some_and(|status| Condition::holds(&status.conditions, "Ready"))
}

/// The condition that says it.
fn said(trouble: &Trouble) -> Condition {
    let (kind, value) = match trouble.reason {
        UNSCHEDULABLE => (POD_SCHEDULED, ConditionStatus::False),
        FAILED_PVC_NOT_FOUND | WAITING_FOR_VOLUME_BINDING => (SYNCHRONIZED, ConditionStatus::False),
        DATA_VOLUMES_NOT_READY => ("DataVolumesReady", ConditionStatus::False),
        _ => ("Failure", ConditionStatus::True),
    };
    Condition::new(kind, value).because(trouble.reason, trouble.message.clone())
}

/// What `status` complains about that the status of `vm` does not say yet: reasons
/// and messages, each pair once.
#[must_use]
pub fn news(vm: &VirtualMachine, status: &VirtualMachineStatus) -> BTreeSet<(String, String)> {
    let complaint = |one: &Condition| {
        let is_one = match one.r#type.as_str() {
            "Failure" => one.status == ConditionStatus::True,
            POD_SCHEDULED | SYNCHRONIZED => one.status == ConditionStatus::False,
            _ => false,
        };
        let words = one.reason.clone().zip(one.message.clone());
        words.filter(|_| is_one)
    };
    let before: BTreeSet<_> =
        vm.status.iter().flat_map(|status| &status.conditions).filter_map(complaint).collect();
    let now = status.conditions.iter().filter_map(complaint);
    now.filter(|words| !before.contains(words)).collect()
}

/// Whether there is a node for it: KubeVirt's of its launcher pod.
const POD_SCHEDULED: &str = "PodScheduled";
/// Whether an instance is as its object says, or why not.
const SYNCHRONIZED: &str = "Synchronized";

/// Why an instance cannot be as its object says, if so.
fn unsynchronized(instance: &VirtualMachineInstance) -> Option<&Condition> {
    let mut conditions = instance.status.iter().flat_map(|status| &status.conditions);
    conditions.find(|one| one.r#type == SYNCHRONIZED && one.status == ConditionStatus::False)
}

/// How the last instance ended, if badly. It is told for as long as none has run
/// since: the instance itself goes with all that it said.
fn failure(
    old: &VirtualMachineStatus,
    fails: bool,
    instance: Option<&VirtualMachineInstance>,
) -> Option<Condition> {
    let failed = instance.filter(|instance| instance.phase() == InstancePhase::Failed);
    if let Some(why) = failed.and_then(unsynchronized) {
        let mut told = Condition::new("Failure", ConditionStatus::True);
        (told.reason, told.message) = (why.reason.clone(), why.message.clone());
        return Some(told);
    }
    old.conditions.iter().find(|one| fails && one.r#type == "Failure").cloned()
}

/// The status of an instance without a VM that waits for its place; none if it says
/// already what for.
#[must_use]
pub fn waiting_status(
    instance: &VirtualMachineInstance,
    trouble: &Trouble,
    now: Timestamp,
) -> Option<VirtualMachineInstanceStatus> {
    let mut status = instance.status.clone().unwrap_or_default();
    let (phase, kind, other) = match trouble.reason {
        UNSCHEDULABLE => (InstancePhase::Scheduling, POD_SCHEDULED, SYNCHRONIZED),
        _ => (InstancePhase::Pending, SYNCHRONIZED, POD_SCHEDULED),
    };
    status.phase = Some(phase);
    status.conditions.retain(|one| one.r#type != other);
    Condition::new(kind, ConditionStatus::False)
        .because(trouble.reason, trouble.message.clone())
        .merge_into(&mut status.conditions, Time(now));
    (instance.status.as_ref() != Some(&status)).then_some(status)
}

/// What the instance was not made of, as upstream (`vm.go`, `setRestartRequired`).
fn restart_required(
    instance: &VirtualMachineInstance,
    vm: &VirtualMachine,
    withheld: Option<&'static str>,
) -> Condition {
    let mut condition = Condition::new("RestartRequired", ConditionStatus::True);
    let message = withheld.unwrap_or_else(|| live::restart_message(instance, vm));
    condition.message = Some(message.to_owned());
    condition
}

/// What is written in the VM and does nothing.
fn without_effect(
    vm: &VirtualMachine,
    instance: Option<&VirtualMachineInstance>,
) -> Option<String> {
    let waits = instance.is_none() && vm.spec.strategy() == Ok(RunStrategy::WaitAsReceiver);
    let waits = waits.then(|| "spec.runStrategy WaitAsReceiver has no effect yet, nothing is started: set another strategy, such as Always".to_owned());
    let notes = request::without_effect(Asker::from(vm), instance);
    let notes = (!notes.is_empty()).then(|| {
        format!(
            "these annotations of the template are kept but have no effect: {}",
            notes.join(", ")
        )
    });
    let fields: Vec<String> = vm.spec.rest.keys().map(|name| format!("spec.{name}")).collect();
    let fields = (!fields.is_empty())
        .then(|| format!("these fields are kept but have no effect: {}", fields.join(", ")));
    let said: Vec<String> = waits.into_iter().chain(fields).chain(notes).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// What guests were to be told and cannot be, by the template.
fn invalid_options(vm: &VirtualMachine) -> Option<Condition> {
    let template = &vm.spec.template;
    let annotations = template.metadata.as_ref().and_then(|meta| meta.annotations.as_ref());
    let namespace = vm.metadata.namespace.as_deref().unwrap_or_default();
    let told = flaw::told(&dhcp::of_ports(annotations, &template.spec, namespace))?;
    let condition = Condition::new(INVALID_DHCP_OPTIONS, ConditionStatus::True);
    Some(condition.because("InvalidEntries", told))
}

fn conditions(
    vm: &VirtualMachine,
    instance: Option<&VirtualMachineInstance>,
    trouble: Option<&Trouble>,
    others: impl Iterator<Item = Condition>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut wanted: Vec<Condition> = instance
        .and_then(|instance| instance.status.as_ref())
        .map(|status| status.conditions.clone())
        .unwrap_or_default();
    if instance.is_none() {
        wanted.push(
            Condition::new("Ready", ConditionStatus::False)
                .because("VMINotExists", "VMI does not exist"),
        );
    } else if !wanted.iter().any(|condition| condition.r#type == "Ready") {
        wanted.push(
            Condition::new("Ready", ConditionStatus::False)
                .because("VMIConditionMissing", "VMI is missing the Ready condition"),
        );
    }
    if let Some(message) = without_effect(vm, instance) {
        // The instance may have said so of other fields.
        let said = wanted.iter_mut().find(|one| one.r#type == FIELDS_WITHOUT_EFFECT);
        match said.map(|one| one.message.get_or_insert_default()) {
            Some(said) => *said = format!("{said}; {message}"),
            None => wanted.push(
                Condition::new(FIELDS_WITHOUT_EFFECT, ConditionStatus::True)
                    .because("NotImplemented", message),
            ),
        }
    }
    // What an instance says is of the options that it was made with.
    if !wanted.iter().any(|one| one.r#type == INVALID_DHCP_OPTIONS) {
        wanted.extend(invalid_options(vm));
    }
    let told = trouble.map(said);
    // What keeps it from its place now is told, not how the last start ended.
    let is_other = |one: &Condition| told.is_none() || one.r#type != "Failure";
    wanted.extend(others.filter(is_other));
    wanted.extend(told);
    let mut merged = vm.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    merged.retain(|old| wanted.iter().any(|want| want.r#type == old.r#type));
    for condition in wanted {
        condition.merge_into(&mut merged, Time(now));
    }
    merged
}

/// KubeVirt's order, first match wins (`vm.go`, `setPrintableStatus`).
fn printable(
    vm: &VirtualMachine,
    instance: Option<&VirtualMachineInstance>,
    trouble: Option<&Trouble>,
    status: &VirtualMachineStatus,
) -> PrintableStatus {
    if vm.metadata.deletion_timestamp.is_some() {
        return PrintableStatus::Terminating;
    }
    let backing_off = || {
        let failures =
            status.start_failure.as_ref().and_then(|failure| failure.consecutive_fail_count);
        let runs = vm.spec.strategy().is_ok() && waits_after_failure(vm);
        runs && failures.unwrap_or(0) > 0
    };
    let waiting = || {
        if let Some(status) = trouble.and_then(|trouble| told_by(trouble.reason)) {
            status
        } else if trouble.is_some()
            && vm.spec.strategy().is_ok_and(|strategy| strategy != RunStrategy::Halted)
        {
            PrintableStatus::Provisioning
        } else if backing_off() {
            PrintableStatus::CrashLoopBackOff
        } else {
            PrintableStatus::Stopped
        }
    };
    let Some(instance) = instance else { return waiting() };
    let phase = instance.phase();
    let paused = instance
        .status
        .as_ref()
        .is_some_and(|status| Condition::holds(&status.conditions, "Paused"));
    match phase {
        InstancePhase::Succeeded | InstancePhase::Failed => waiting(),
        _ if instance.metadata.deletion_timestamp.is_some() => PrintableStatus::Stopping,
        InstancePhase::Running if instance.migration().is_some_and(MigrationState::has_started) => {
            PrintableStatus::Migrating
        }
        InstancePhase::Running if paused => PrintableStatus::Paused,
        InstancePhase::Running => PrintableStatus::Running,
        InstancePhase::Unset
        | InstancePhase::Pending
        | InstancePhase::Scheduling
        | InstancePhase::Scheduled
            if let Some(told) = unsynchronized(instance)
                .and_then(|why| told_by(why.reason.as_deref().unwrap_or_default())) =>
        {
            told
        }
        InstancePhase::Unset
        | InstancePhase::Pending
        | InstancePhase::Scheduling
        | InstancePhase::Scheduled => PrintableStatus::Starting,
        InstancePhase::WaitingForSync => PrintableStatus::WaitingForReceiver,
        InstancePhase::Unknown => PrintableStatus::Unknown,
    }
}

/// What a start that waits for this reason is shown as, where that is a word of its own.
fn told_by(reason: &str) -> Option<PrintableStatus> {
    match reason {
        UNSCHEDULABLE => Some(PrintableStatus::ErrorUnschedulable),
        FAILED_PVC_NOT_FOUND => Some(PrintableStatus::ErrorPvcNotFound),
        WAITING_FOR_VOLUME_BINDING => Some(PrintableStatus::WaitingForVolumeBinding),
        DATA_VOLUMES_NOT_READY => Some(PrintableStatus::Provisioning),
        DATA_VOLUME_FAILED => Some(PrintableStatus::DataVolumeError),
        "ErrImagePull" => Some(PrintableStatus::ErrImagePull),
        "ImagePullBackOff" => Some(PrintableStatus::ImagePullBackOff),
        _ => None,
    }
}

/// Whether starts that fail make the next one wait: those that nobody asks for. Where no
/// strategy can be read what was counted is kept.
fn waits_after_failure(vm: &VirtualMachine) -> bool {
    use RunStrategy::{Halted, Manual, WaitAsReceiver};
    !matches!(vm.spec.strategy(), Ok(Halted | Manual | WaitAsReceiver))
}

/// Counts instances that failed before they ever ran (`vm.go`,
/// `syncStartFailureStatus`): each once, by uid. A strategy under which nothing is started
/// again by itself forgets them.
fn start_failure(
    vm: &VirtualMachine,
    status: &VirtualMachineStatus,
    instance: Option<&VirtualMachineInstance>,
    now: Timestamp,
) -> Option<StartFailure> {
    if !waits_after_failure(vm) {
        return None;
    }
    let Some(instance) = instance else { return status.start_failure.clone() };
    let transitions = instance.status.iter().flat_map(|status| &status.phase_transition_timestamps);
    let has_run = instance.phase() == InstancePhase::Running
        || transitions.into_iter().any(|one| one.phase == InstancePhase::Running);
    if has_run {
        return None;
    }
    let old = status.start_failure.clone().unwrap_or_default();
    let uid = instance.uid();
    if instance.phase() != InstancePhase::Failed || old.last_failed_vmi_uid == uid {
        return status.start_failure.clone();
    }
    let count = old.consecutive_fail_count.unwrap_or(0) + 1;
    let retry_after_timestamp = Some(Time(now + back_off(count, uid.as_deref())));
    Some(StartFailure {
        consecutive_fail_count: Some(count),
        last_failed_vmi_uid: uid,
        retry_after_timestamp,
        rest: old.rest,
    })
}

/// 10 s × n² and up to half of that more, at most 300 s. How much more follows from the uid of
/// the instance: VMs that fail together do not start together, and asked again it is the same.
fn back_off(failures: i64, instance: Option<&str>) -> SignedDuration {
    let factor = i32::try_from(failures.saturating_mul(failures)).unwrap_or(i32::MAX);
    let least = FIRST_BACK_OFF.saturating_mul(factor).min(LONGEST_BACK_OFF);
    // FNV-1a, whose last bytes move little of it, spread by a golden ratio: any will do, as long as
    // it is everybody's.
    let hash =
        instance.unwrap_or_default().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let share = i64::try_from(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap_or(0);
    let more = (least.as_millis() / 2 * i128::from(share)) >> 32;
    let more = SignedDuration::from_millis(i64::try_from(more).unwrap_or(0));
    least.saturating_add(more).min(LONGEST_BACK_OFF)
}

#[cfg(test)]
mod tests;
