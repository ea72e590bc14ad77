//! Replica sets: which instances one is to make, to end, to take in and to let go. Pure.
//!
//! ```text
//!  active     neither ended nor being deleted: these are counted
//!  ended      replaced at once, and deleted once there are enough; one that failed as soon as it
//!             was made keeps its place for a moment, or it would fail without a pause
//!  orphan     nobody's, and with labels that the set selects: taken in
//!  stranger   the set's own by its owner, and not by its labels: let go, and runs on
//! ```
//!
//! An instance of a set is one without a VM: it gets its place, and owns its addresses, as one
//! that was made by hand does. Members have nothing that is theirs for longer than they live.
//! Made twice, by two controllers or after an answer that never came, there is one too many, and
//! it goes. Phases, conditions and words are KubeVirt's (`watch/replicaset`).

use std::cmp::Reverse;
use std::sync::Arc;

use crds::kubevirt::replica_set::{FOREIGN_LABELS, NO_TEMPLATE, ReplicaSetStatus};
use crds::kubevirt::{
    Condition, ConditionStatus, InstancePhase, VirtualMachineInstance,
    VirtualMachineInstanceReplicaSet as ReplicaSet,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference, Time};
use kube::core::{Selector, SelectorExt as _};
use kube::{Resource as _, ResourceExt as _};

use crate::machine::Trouble;

/// How many are made or ended at once: KubeVirt's `burstReplicas`.
const BURST: usize = 250;
/// A member that failed keeps its place for so long after it was made.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// The condition of a set that is paused.
const PAUSED: &str = "ReplicaPaused";
/// The condition of one that does not come to as many as it should.
const FAILURE: &str = "ReplicaFailure";
/// Why not.
pub const FAILED_CREATE: &str = "FailedCreate";
/// The same.
pub const FAILED_DELETE: &str = "FailedDelete";

/// What is to be done for one set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// So many of it are to be made.
    pub create: usize,
    /// What each is made of, but for its name.
    pub made_of: Option<Box<VirtualMachineInstance>>,
    /// These are to go.
    pub delete: Vec<Arc<VirtualMachineInstance>>,
    /// These are to be its own.
    pub adopt: Vec<Arc<VirtualMachineInstance>>,
    /// These are not to be any more.
    pub release: Vec<Arc<VirtualMachineInstance>>,
    /// Look again then.
    pub again_at: Option<Timestamp>,
    /// Why nothing can be made of it.
    pub trouble: Option<Trouble>,
}

/// The set that an instance says it is of: its controller, by name.
#[must_use]
pub fn controller(instance: &VirtualMachineInstance) -> Option<&OwnerReference> {
    let owners = instance.metadata.owner_references.iter().flatten();
    owners.into_iter().find(|owner| owner.controller == Some(true))
}

/// What to do for `set`, of which these are the members, and beside which these have no
/// controller.
pub fn plan<'a>(
    set: &ReplicaSet,
    members: impl IntoIterator<Item = &'a Arc<VirtualMachineInstance>>,
    orphans: impl IntoIterator<Item = &'a Arc<VirtualMachineInstance>>,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    // Those that it leaves behind the garbage collector sees to.
    if set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let selector = match selector(set) {
        Ok(selector) => selector,
        Err(trouble) => return Plan { trouble: Some(trouble), ..plan },
    };
    let mut active = Vec::new();
    let mut ended = Vec::new();
    let mut resting = 0;
    for member in members.into_iter().filter(|one| is_of(one, set)) {
        if member.metadata.deletion_timestamp.is_some() {
            continue;
        }
        if !selector.matches(member.labels()) {
            plan.release.push(Arc::clone(member));
        } else if !member.phase().is_final() {
            active.push(member);
        } else if let Some(due) = rests(member, now) {
            resting += 1;
            plan.again_at = plan.again_at.into_iter().chain([due]).min();
        } else {
            ended.push(member);
        }
    }
    let free = |one: &&Arc<VirtualMachineInstance>| {
        one.metadata.deletion_timestamp.is_none()
            && !one.phase().is_final()
            && controller(one).is_none()
            && selector.matches(one.labels())
    };
    plan.adopt = orphans.into_iter().filter(free).cloned().collect();
    if set.spec.paused == Some(true) {
        plan.again_at = None;
        return plan;
    }
    let wanted = set.spec.wanted();
    let there = active.len() + plan.adopt.len() + resting;
    plan.create = wanted.saturating_sub(there).min(BURST);
    plan.made_of = (plan.create > 0).then(|| Box::new(member(set)));
    let surplus = (active.len() + plan.adopt.len()).saturating_sub(wanted);
    // Those that serve nobody yet go first, and the youngest before others.
    active.sort_by_key(|one| {
        let is_ready = is_ready(one);
        (is_ready, Reverse(one.creation_timestamp()), one.name_any())
    });
    let surplus = active.into_iter().take(surplus);
    plan.delete = surplus.chain(ended).take(BURST).cloned().collect();
    plan
}

/// Whether this very set controls the instance.
fn is_of(instance: &VirtualMachineInstance, set: &ReplicaSet) -> bool {
    controller(instance).is_some_and(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
}

/// Until when a member that has failed keeps its place.
fn rests(member: &VirtualMachineInstance, now: Timestamp) -> Option<Timestamp> {
    let made = member.creation_timestamp()?.0;
    let until = made.checked_add(PATIENCE).ok()?;
    (member.phase() == InstancePhase::Failed && now < until).then_some(until)
}

fn is_ready(instance: &VirtualMachineInstance) -> bool {
    instance.status.as_ref().is_some_and(|status| Condition::holds(&status.conditions, "Ready"))
}

/// The selector, if the set can be.
fn selector(set: &ReplicaSet) -> Result<Selector, Trouble> {
    let trouble = |message: String| Trouble { reason: FAILED_CREATE, message };
    if let Some(why) = wrong(set) {
        return Err(trouble(why));
    }
    compiled(&set.spec.selector).map_err(trouble)
}

fn compiled(selector: &LabelSelector) -> Result<Selector, String> {
    Selector::try_from(selector.clone()).map_err(|error| format!("spec.selector: {error}"))
}

/// Why a set cannot be, in upstream's words where it has some.
#[must_use]
pub fn wrong(set: &ReplicaSet) -> Option<String> {
    let Some(template) = &set.spec.template else { return Some(NO_TEMPLATE.to_owned()) };
    let selector = match compiled(&set.spec.selector) {
        Ok(selector) => selector,
        Err(why) => return Some(why),
    };
    let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone());
    (!selector.matches(&labels.unwrap_or_default())).then(|| FOREIGN_LABELS.to_owned())
}

/// A member, without a name.
fn member(set: &ReplicaSet) -> VirtualMachineInstance {
    let template = set.spec.template.clone().unwrap_or_default();
    let mut made = VirtualMachineInstance::new("", template.spec);
    made.metadata.name = None;
    made.metadata.namespace = set.namespace();
    let meta = template.metadata.unwrap_or_default();
    let said = |field: &str| meta.rest.get(field).and_then(|name| name.as_str());
    let base = said("name").or_else(|| said("generateName")).filter(|name| !name.is_empty());
    made.metadata.generate_name = Some(base.map_or_else(|| set.name_any(), str::to_owned));
    made.metadata.labels = meta.labels;
    made.metadata.annotations = meta.annotations;
    made.metadata.owner_references = owner(set).map(|owner| vec![owner]);
    made
}

/// By what its members say that they are its own.
#[must_use]
pub fn owner(set: &ReplicaSet) -> Option<OwnerReference> {
    let mut owner = set.controller_owner_ref(&())?;
    owner.block_owner_deletion = Some(true);
    Some(owner)
}

/// What the set should say, given its members and what came of the last attempt.
pub fn status<'a>(
    set: &ReplicaSet,
    members: impl IntoIterator<Item = &'a Arc<VirtualMachineInstance>>,
    trouble: Option<&Trouble>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let mut status = set.status.clone().unwrap_or_default();
    let active = members.into_iter().filter(|one| {
        is_of(one, set) && !one.phase().is_final() && one.metadata.deletion_timestamp.is_none()
    });
    let (mut replicas, mut ready) = (0, 0);
    for one in active {
        replicas += 1;
        ready += i32::from(is_ready(one));
    }
    (status.replicas, status.ready_replicas) = (Some(replicas), Some(ready));
    status.label_selector = compiled(&set.spec.selector).ok().map(|selector| selector.to_string());
    let paused = (set.spec.paused == Some(true)).then(|| {
        Condition::new(PAUSED, ConditionStatus::True).because("Paused", "Controller got paused")
    });
    let failed = trouble.map(|trouble| {
        Condition::new(FAILURE, ConditionStatus::True)
            .because(trouble.reason, trouble.message.clone())
    });
    let wanted: Vec<_> = paused.into_iter().chain(failed).collect();
    status.conditions.retain(|old| wanted.iter().any(|one| one.r#type == old.r#type));
    for condition in wanted {
        condition.merge_into(&mut status.conditions, Time(now));
    }
    status
}

#[cfg(test)]
mod tests;
