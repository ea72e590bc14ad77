//! What is written to a VM's object, and when it is written.
//!
//! The one place where this node's VMs become visible. [`patch`] compares a
//! [`Report`] with the object and gives the merge patch that is missing, or
//! nothing; [`publish`] writes it, again and again, until the object says so or
//! is gone. Each patch names the version it was computed from, so that lists,
//! which a merge patch replaces whole, never lose another writer's entry.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crds::condition::{ADDRESS_IN_USE, FIELDS_WITHOUT_EFFECT, INVALID_DHCP_OPTIONS};
use crds::kubevirt::{
    Condition, ConditionStatus, INSTANCE_FINALIZER, InstanceInterface, InstancePhase,
    MIGRATION_TARGET_LABEL, MigrationState, NODE_NAME_LABEL, PhaseTransition, TargetState,
    VirtualMachineInstance, VirtualMachineInstanceStatus, ignored,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{End, Report, Trouble, migration, place_of};
use crate::domain::Emulation;
use crate::guest::show;
use crate::host::Here;
use crate::hypervisor::PauseReason;
use crate::leases::Port;
use crate::live;
use crate::metrics::Metrics;
use crate::probe;

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
/// A phase that is final stays as it is: of two ends the first one counts. Only the node
/// that the object names reports, and the one that its guest comes to: that the guest
/// runs there is that it has arrived. So the first of the two that says so counts.
#[must_use]
pub fn patch(
    vmi: &VirtualMachineInstance,
    report: &Report,
    here: &Here,
    ports: &[Port],
    now: &Time,
) -> Option<Value> {
    let is_ours = place_of(vmi).is_none_or(|node| node == here.node);
    let comes = vmi.migration().is_some_and(|one| one.target_node.as_deref() == Some(&*here.node));
    let mut after = vmi.clone();
    match report {
        Report::Ready | Report::Refused(_) | Report::Absent if is_ours || !comes => return None,
        Report::Ready => say_ready(&mut after, here),
        Report::Left | Report::Broken => {
            let knows = is_ours || (comes && *report == Report::Broken);
            let target = vmi.migration().filter(|one| knows && one.has_started());
            let target = target.and_then(|one| one.target_node.clone())?;
            say_arrived(&mut after, &target, now);
            after.status.get_or_insert_default().node_name = Some(target);
            if *report == Report::Broken {
                say_broken(&mut after);
            }
        }
        Report::Absent => {
            let asks = vmi.migration().is_some_and(MigrationState::is_undecided);
            asks.then(|| after.fail_migration("the guest did not arrive", now))?;
        }
        Report::Refused(trouble) => say_refused(&mut after, trouble, here, now),
        Report::Running { .. } if comes && !is_ours => {
            say_arrived(&mut after, &here.node, now);
            say(&mut after, report, here, ports, now);
        }
        _ if is_ours => say(&mut after, report, here, ports, now),
        _ => return None,
    }
    if matches!(report, Report::Ended(_)) && !is_told_first(vmi) {
        after.finalizers_mut().retain(|one| one != INSTANCE_FINALIZER);
    }
    changes(vmi, &after)
}

/// The merge patch that makes `before` into `after`, as far as an agent writes an
/// instance: its status, labels and finalizers. `None` when they are the same.
#[must_use]
pub fn changes(before: &VirtualMachineInstance, after: &VirtualMachineInstance) -> Option<Value> {
    let mut patch = json!({});
    let status = |vmi: &VirtualMachineInstance| json!(vmi.status.clone().unwrap_or_default());
    if let Some(status) = difference(status(before), status(after)) {
        patch["status"] = status;
    }
    if let Some(labels) = difference(json!(before.labels()), json!(after.labels())) {
        patch["metadata"]["labels"] = labels;
    }
    if before.finalizers() != after.finalizers() {
        let left = after.finalizers();
        patch["metadata"]["finalizers"] = if left.is_empty() { Value::Null } else { json!(left) };
    }
    if patch.as_object().is_some_and(serde_json::Map::is_empty) {
        return None;
    }
    // Guards: not another object of the same name, and not another version of it.
    patch["metadata"]["uid"] = json!(before.uid());
    if let Some(version) = before.resource_version() {
        patch["metadata"]["resourceVersion"] = json!(version);
    }
    Some(patch)
}

/// Whether the end is written before our finalizer goes: with the last one the object
/// goes too, and nobody would see in which phase. An instance that goes in any other
/// than a final one went without an end.
#[must_use]
pub fn is_told_first(vmi: &VirtualMachineInstance) -> bool {
    vmi.metadata.deletion_timestamp.is_some() && !vmi.phase().is_final()
}

/// Says what the node that the object names has to report.
fn say(vmi: &mut VirtualMachineInstance, report: &Report, here: &Here, ports: &[Port], now: &Time) {
    if vmi.phase().is_final() {
        return;
    }
    let mut status = vmi.status.clone().unwrap_or_default();
    if matches!(report, Report::Running { .. }) {
        let ready = probe::ready(vmi, here.told.readiness.as_ref());
        ready.merge_into(&mut status.conditions, now.clone());
    }
    apply(&mut status, report, here, ports, now);
    if matches!(report, Report::Running { .. }) {
        if let Some(account) = &here.account {
            live::say(&mut status, vmi, account, now);
        }
        let can = migratable(vmi, &status, here);
        can.merge_into(&mut status.conditions, now.clone());
        status.migration_method = Some(migration_method(vmi).to_owned());
        say_emulated(&mut status.conditions, here, now);
        say_ignored(&mut status.conditions, vmi, now);
        say_faults(&mut status.conditions, ports, now);
        say_conflicts(&mut status.conditions, ports, now);
    }
    vmi.status = Some(status);
}

/// Whether the guest can move to another node while it runs, in KubeVirt's words.
fn migratable(
    vmi: &VirtualMachineInstance,
    status: &VirtualMachineInstanceStatus,
    here: &Here,
) -> Condition {
    let no = Condition::new("LiveMigratable", ConditionStatus::False);
    if here.arrivals.is_none() {
        let why = "the agent of its node takes part in no migrations: \
                   start it with --migration-address";
        return no.because("MigrationNotConfigured", why);
    }
    let has = here.account.as_ref();
    let stranger = has.and_then(|has| live::stranger(vmi, &has.present, &has.left));
    if let Some(why) = tied_disk(vmi, status).or_else(|| stranger.map(live::strange)) {
        return no.because("DisksNotLiveMigratable", why);
    }
    if vmi.spec.domain.cpu.as_ref().is_some_and(crds::kubevirt::Cpu::is_dedicated) {
        let why = "cannot migrate VMI with dedicatedCpuPlacement: its processors are of its node; \
                   stop it and start it elsewhere";
        return no.because("CPUPinningNotLiveMigratable", why);
    }
    let cpu = vmi.spec.domain.cpu.as_ref().and_then(|cpu| cpu.model.as_deref());
    if cpu == Some("host-passthrough") {
        let why = "cannot migrate VMI with CPU mode host-passthrough: name a model, or host-model";
        return no.because("CPUModeLiveMigratable", why);
    }
    Condition::new("LiveMigratable", ConditionStatus::True)
}

/// Why a disk of the guest is only here, in KubeVirt's words (`checkVolumesForMigration`).
/// What lies on a claim says the instance, as it was when it was placed.
fn tied_disk(
    vmi: &VirtualMachineInstance,
    status: &VirtualMachineInstanceStatus,
) -> Option<String> {
    const RULE: &str =
        "live migration requires that all PVCs must be shared (using ReadWriteMany access mode)";
    let infos = &status.volume_status;
    vmi.spec.volumes.iter().find_map(|volume| {
        if let Some(disk) = &volume.host_disk {
            let shared = disk.shared.unwrap_or(false);
            return (!shared).then(|| "cannot migrate VMI with non-shared HostDisk".to_owned());
        }
        let (claim, _) = volume.claim()?;
        let info = infos.iter().find(|one| one.name == volume.name);
        match info.and_then(|one| one.persistent_volume_claim_info.as_ref()) {
            None => Some(format!(
                "cannot migrate VMI: Unable to determine if PVC {claim} is shared, {RULE}"
            )),
            Some(info) if info.is_shared() => None,
            Some(_) => Some(format!("cannot migrate VMI: PVC {claim} is not shared, {RULE}")),
        }
    })
}

/// Whether a disk moves with the guest, or all of them stay where they are.
fn migration_method(vmi: &VirtualMachineInstance) -> &'static str {
    let volumes = &vmi.spec.volumes;
    let all_stay = !volumes.is_empty() && volumes.iter().all(crds::kubevirt::Volume::is_kept);
    if all_stay { "LiveMigration" } else { "BlockMigration" }
}

/// Says that everything is here for the guest, unless it is on its way already.
fn say_ready(vmi: &mut VirtualMachineInstance, here: &Here) {
    let state = vmi.status.as_mut().and_then(|status| status.migration_state.as_mut());
    if let Some(state) = state.filter(|state| !state.has_started()) {
        state.target_node_address = here.arrivals.clone();
        state.target_state = Some(TargetState {
            node: Some(here.node.clone()),
            state_dir: Some(here.state_dir.clone()),
            run_dir: Some(here.run_dir.clone()),
            cpus: here.cpus.clone(),
            images: here.images.clone(),
            ..state.target_state.take().unwrap_or_default()
        });
    }
}

/// The object as it is before what an earlier agent has left here is removed: no word of
/// that agent can arrive any more, as each was for the version that it had read.
#[must_use]
pub fn anew(vmi: &VirtualMachineInstance) -> Option<Value> {
    let mut after = vmi.clone();
    let state = after.status.as_mut()?.migration_state.as_mut()?;
    let target = state.target_state.get_or_insert_default();
    target.attempt = Some(target.attempt.unwrap_or(0).saturating_add(1));
    changes(vmi, &after)
}

/// Says that the guest cannot come, unless it is on its way already.
fn say_refused(vmi: &mut VirtualMachineInstance, trouble: &Trouble, here: &Here, now: &Time) {
    if vmi.migration().is_some_and(|state| !state.has_started()) {
        let why = format!("{} cannot take the guest: {}", here.node, trouble.message);
        vmi.fail_migration(&why, now);
    }
}

/// Says that the guest runs on `node`: it is that one's from now on.
fn say_arrived(vmi: &mut VirtualMachineInstance, node: &str, now: &Time) {
    let labels = vmi.labels_mut();
    labels.insert(NODE_NAME_LABEL.to_owned(), node.to_owned());
    labels.remove(MIGRATION_TARGET_LABEL);
    let state = vmi.status.as_mut().and_then(|status| status.migration_state.as_mut());
    if let Some(state) = state {
        state.completed = true;
        state.target_node_domain_detected = Some(true);
        state.target_node_domain_ready_timestamp = Some(now.clone());
        state.end_timestamp = Some(now.clone());
        if state.abort_requested {
            state.abort_status = Some("Failed".to_owned());
        }
    }
}

/// Says of a guest that has gone to its target that it did not arrive whole.
fn say_broken(vmi: &mut VirtualMachineInstance) {
    let state = vmi.status.as_mut().and_then(|status| status.migration_state.as_mut());
    if let Some(state) = state {
        state.failed = true;
        state.failure_reason = Some(migration::torn().message);
    }
}

/// Changes the status into what the report says.
fn apply(
    status: &mut VirtualMachineInstanceStatus,
    report: &Report,
    here: &Here,
    ports: &[Port],
    now: &Time,
) {
    let conditions = &mut status.conditions;
    let mut set = |condition: Condition| condition.merge_into(conditions, now.clone());
    match report {
        Report::Waiting(trouble) => set(unsynchronized(trouble)),
        Report::Running { paused } => {
            set(Condition::new("Synchronized", ConditionStatus::True));
            match paused {
                Some(reason) => set(paused_condition(*reason)),
                None => status.conditions.retain(|one| one.r#type != "Paused"),
            }
            status.node_name = Some(here.node.clone());
            enter(status, InstancePhase::Running, now);
            show::show(status, &here.told, ports.iter().map(interface).collect(), now);
        }
        Report::Ready
        | Report::Refused(_)
        | Report::Absent
        | Report::Left
        | Report::Broken
        | Report::Ended(End::Moved | End::Left) => {}
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
            status.conditions.retain(|one| one.r#type != show::CONNECTED);
        }
    }
}

/// Whether the guest is as slow as one can be, which KubeVirt's `SoftwareEmulation` says.
fn say_emulated(conditions: &mut Vec<Condition>, here: &Here, now: &Time) {
    const KIND: &str = "SoftwareEmulation";
    match here.emulation {
        Emulation::Kvm => conditions.retain(|one| one.r#type != KIND),
        Emulation::Software => {
            let why = "the node has no KVM: QEMU translates what the guest does, which is slow";
            Condition::new(KIND, ConditionStatus::True)
                .because("KVMNotAvailable", why)
                .merge_into(conditions, now.clone());
        }
    }
}

/// What the user wrote and did not get.
fn say_ignored(conditions: &mut Vec<Condition>, vmi: &VirtualMachineInstance, now: &Time) {
    let fields = ignored(&vmi.spec, "spec");
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

/// Which addresses guests found in use elsewhere.
fn say_conflicts(conditions: &mut Vec<Condition>, ports: &[Port], now: &Time) {
    let told = ports.iter().filter(|port| port.conflict).map(|port| {
        let list: Vec<String> = port.addresses.iter().map(ToString::to_string).collect();
        format!("of network {:?} {}", port.network, list.join(" or "))
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() {
        conditions.retain(|one| one.r#type != ADDRESS_IN_USE);
    } else {
        let what = told.join("; ");
        let why = format!(
            "the guest found its address in use by somebody else and declined it: {what}; take              the address off whoever answers for it on that network"
        );
        Condition::new(ADDRESS_IN_USE, ConditionStatus::True)
            .because("DeclinedByGuest", why)
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
        PauseReason::IoError => (
            "PausedIOError",
            "a disk returned an error: repair its storage; the guest is let go on again and again by itself, and by unpausing the VM",
        ),
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

/// The fields of an object that differ, as a merge patch has them.
fn difference(before: Value, after: Value) -> Option<Value> {
    let object = |value| match value {
        Value::Object(fields) => fields,
        other => unreachable!("an object, not {other:?}"),
    };
    let (before, mut after) = (object(before), object(after));
    let gone: Vec<_> = before.keys().filter(|key| !after.contains_key(*key)).cloned().collect();
    after.retain(|key, value| before.get(key) != Some(value));
    after.extend(gone.into_iter().map(|key| (key, Value::Null)));
    (!after.is_empty()).then_some(Value::Object(after))
}

/// The migration that is under way.
#[must_use]
pub fn under_way(vmi: &VirtualMachineInstance) -> Option<&str> {
    vmi.migration()?.migration_uid.as_deref()
}

/// Whether what a node has to report was meant for the object as it has become since:
/// what a node says to which a guest is to come holds for that very migration. `during`:
/// the one that was under way when the report was begun.
#[must_use]
pub fn is_still_meant(vmi: &VirtualMachineInstance, node: &str, during: Option<&str>) -> bool {
    place_of(vmi).is_none_or(|place| place == node) || under_way(vmi) == during
}

/// So many objects are written at once. When a node with a thousand VMs starts them all, each
/// connection beyond these would cost memory for as long as it is kept, and win nothing.
static WRITES: Semaphore = Semaphore::const_new(32);

/// Writes the report until the object says it, or until there is no object.
///
/// May be dropped at any time and begun again: what was written is seen then.
pub async fn publish(
    client: Client,
    metrics: Metrics,
    here: Here,
    mut vmi: Arc<VirtualMachineInstance>,
    ports: Vec<Port>,
    report: Report,
) {
    let api: Api<VirtualMachineInstance> =
        Api::namespaced(client, &vmi.namespace().unwrap_or_default());
    let (name, uid) = (vmi.name_any(), vmi.uid());
    let during = under_way(&vmi).map(str::to_owned);
    let mut pause = PAUSES.0;
    loop {
        let turn = WRITES.acquire().await;
        let now = Time(k8s_openapi::jiff::Timestamp::now());
        let Some(patch) = patch(&vmi, &report, &here, &ports, &now) else { return };
        match write(&api, &name, &patch).await {
            Ok(()) => {
                metrics.written();
                if !matches!(report, Report::Ended(_)) || !is_told_first(&vmi) {
                    return;
                }
            }
            Err(Refusal::NoObject) => return,
            Err(Refusal::Other(error)) => {
                drop(turn);
                metrics.not_written();
                tracing::warn!(%error, "The state of a VM is not written yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(Refusal::Conflict) => {
                drop(turn);
                tokio::time::sleep(AFTER_CONFLICT).await;
            }
        }
        // Whatever came in between: another version, or an answer that got lost.
        match read(&api, &name).await {
            Ok(Some(now)) if now.uid() == uid => {
                if !is_still_meant(&now, &here.node, during.as_deref()) {
                    return;
                }
                vmi = Arc::new(now);
            }
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(%error, "The object of a VM cannot be read");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Why an object was not written.
pub(crate) enum Refusal {
    NoObject,
    /// It changed: read it and look again.
    Conflict,
    /// Worth another try later.
    Other(String),
}

pub(crate) async fn write(
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
