//! Guests that leave a node which is about to be worked on: one migration for each, which
//! then takes its turn like any other. Pure.
//!
//! ```text
//!  node cordoned, or tainted kubevirt.io/drain
//!    evictionStrategy LiveMigrate             a migration, as often as it takes
//!    LiveMigrateIfPossible                    the same, if the guest can be moved
//!    None, External, or none                  it stays: whoever drains decides
//!  node as ever again                         those that have not begun are taken back
//! ```
//!
//! A migration is named after the instance and the ones before it, so that two who decide
//! the same make one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::kubevirt::{
    InstancePhase, MigrationPhase, VirtualMachineInstance,
    VirtualMachineInstanceMigration as Migration, VirtualMachineInstanceMigrationSpec,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use net::names;

use crate::migration::{phase, words};

/// By this taint an administrator has a node's guests leave it: KubeVirt's default
/// `nodeDrainTaintKey`.
pub const DRAIN: &str = "kubevirt.io/drain";

/// Annotation of a migration that nobody asked for: the node that the guest leaves.
pub const EVACUATES: &str = "kubevirt.io/evacuationMigration";

/// After a failure the next attempt waits so long, KubeVirt's 20 s, and twice as long
/// after each further one.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(20);
const LONGEST_DOUBLING: u32 = 5;

/// What is to be done about the evacuation of one instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The migration to make.
    pub create: Option<Box<Migration>>,
    /// Those to take back.
    pub cancel: Vec<Arc<Migration>>,
    /// Look again then.
    pub again_at: Option<Timestamp>,
}

/// Whether guests are to leave this node.
#[must_use]
pub fn is_to_be_left(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    let cordoned = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
    cordoned
        || spec
            .into_iter()
            .flat_map(|spec| spec.taints.iter().flatten())
            .any(|taint| taint.key == DRAIN)
}

/// What to do for an instance on `node`, of which these are the migrations.
#[must_use]
pub fn plan(
    instance: &VirtualMachineInstance,
    node: &Node,
    migrations: &[Arc<Migration>],
    now: Timestamp,
) -> Plan {
    if !is_to_be_left(node) {
        let unwanted = migrations.iter().filter(|one| is_ours(one) && may_be_taken_back(one));
        return Plan { cancel: unwanted.cloned().collect(), ..Plan::default() };
    }
    let moves = migrations.iter().any(|one| !phase(one).is_final());
    if moves || !is_to_go(instance) {
        return Plan::default();
    }
    let name = node.name_any();
    let mut failed: Vec<&Arc<Migration>> = migrations
        .iter()
        .filter(|one| is_ours(one) && phase(one) == MigrationPhase::Failed)
        .filter(|one| one.annotations()[EVACUATES] == name)
        .collect();
    failed.sort_by_key(|one| one.creation_timestamp());
    if let Some(due) = failed.last().map(|last| ended(last) + pause(failed.len()))
        && due > now
    {
        return Plan { again_at: Some(due), ..Plan::default() };
    }
    // Those that arrived count, too: it may have come back since.
    let ours = migrations.iter().filter(|one| is_ours(one));
    let last = ours.max_by_key(|one| (one.creation_timestamp(), one.name_any()));
    let last = last.and_then(|one| one.uid()).unwrap_or_default();
    let create = Some(Box::new(migration(instance, &name, &last)));
    Plan { create, ..Plan::default() }
}

/// Whether the guest is one that moves when its node is left.
fn is_to_go(instance: &VirtualMachineInstance) -> bool {
    let leaves = instance.metadata.deletion_timestamp.is_some();
    instance.phase() == InstancePhase::Running && !leaves && moves_off(instance)
}

/// Whether a guest, once it runs, moves when its node is left, and until it has ended.
#[must_use]
pub fn moves_off(instance: &VirtualMachineInstance) -> bool {
    if instance.phase().is_final() {
        return false;
    }
    match instance.spec.eviction_strategy.as_deref() {
        Some("LiveMigrate") => true,
        Some("LiveMigrateIfPossible") => is_able(instance),
        _ => false,
    }
}

fn is_able(instance: &VirtualMachineInstance) -> bool {
    words::ability(instance).is_some_and(words::is_able)
}

fn is_ours(migration: &Migration) -> bool {
    migration.annotations().contains_key(EVACUATES)
}

fn may_be_taken_back(migration: &Migration) -> bool {
    phase(migration) <= MigrationPhase::Scheduling
        && migration.metadata.deletion_timestamp.is_none()
}

/// When a migration that is over ended.
fn ended(migration: &Migration) -> Timestamp {
    let passed = migration.status.iter().flat_map(|status| &status.phase_transition_timestamps);
    let last = passed.map(|one| one.phase_transition_timestamp.0).max();
    last.or_else(|| Some(migration.creation_timestamp()?.0)).unwrap_or_default()
}

fn pause(failures: usize) -> SignedDuration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE * 2_i32.pow(doublings.min(LONGEST_DOUBLING))
}

fn migration(instance: &VirtualMachineInstance, node: &str, last: &str) -> Migration {
    let vmi = instance.name_any();
    let uid = instance.uid().unwrap_or_default();
    let spec = VirtualMachineInstanceMigrationSpec {
        vmi_name: vmi.clone(),
        ..VirtualMachineInstanceMigrationSpec::default()
    };
    let mut migration = Migration::new(&names::evacuation(&uid, node, last), spec);
    migration.metadata.namespace = instance.namespace();
    migration.metadata.annotations =
        Some(BTreeMap::from([(EVACUATES.to_owned(), node.to_owned())]));
    migration
}

#[cfg(test)]
mod tests {
    use crds::kubevirt::ConditionStatus;
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn instance(strategy: &str) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "i1" },
            "spec": { "domain": { "devices": {} }, "evictionStrategy": strategy },
            "status": { "phase": "Running", "nodeName": "n1",
                "conditions": [{ "type": "LiveMigratable", "status": "True" }] },
        }))
        .unwrap()
    }

    fn node(spec: serde_json::Value) -> Node {
        serde_json::from_value(json!({ "metadata": { "name": "n1" }, "spec": spec })).unwrap()
    }

    fn cordoned() -> Node {
        node(json!({ "unschedulable": true }))
    }

    fn failed(made: &Migration, uid: &str, at: Timestamp) -> Arc<Migration> {
        let mut one = made.clone();
        one.metadata.uid = Some(uid.to_owned());
        one.status = serde_json::from_value(json!({
            "phase": "Failed",
            "phaseTransitionTimestamps": [{ "phase": "Failed", "phaseTransitionTimestamp": at }],
        }))
        .unwrap();
        Arc::new(one)
    }

    #[test]
    fn who_moves_live_leaves_a_node_that_is_cordoned_or_drained_and_no_other_does() {
        let drained = node(json!({ "taints": [{ "key": DRAIN, "effect": "NoSchedule" }] }));
        for leaving in [cordoned(), drained] {
            for strategy in ["LiveMigrate", "LiveMigrateIfPossible"] {
                let made = plan(&instance(strategy), &leaving, &[], at(0)).create.unwrap();
                assert_eq!(made.spec.vmi_name, "web");
                assert_eq!(made.annotations()[EVACUATES], "n1");
                assert!(made.name_any().starts_with("kubevirt-evacuation-"));
                assert_eq!(made.namespace().as_deref(), Some("default"));
            }
            for strategy in ["None", "External", ""] {
                assert_eq!(plan(&instance(strategy), &leaving, &[], at(0)), Plan::default());
            }
        }
        let ever = node(json!({ "taints": [{ "key": "other", "effect": "NoSchedule" }] }));
        assert_eq!(plan(&instance("LiveMigrate"), &ever, &[], at(0)), Plan::default());
    }

    #[test]
    fn what_cannot_move_says_so_by_a_failed_migration_only_if_it_must() {
        let mut stuck = instance("LiveMigrate");
        stuck.status.as_mut().unwrap().conditions[0].status = ConditionStatus::False;
        assert!(plan(&stuck, &cordoned(), &[], at(0)).create.is_some());
        stuck.spec.eviction_strategy = Some("LiveMigrateIfPossible".to_owned());
        assert_eq!(plan(&stuck, &cordoned(), &[], at(0)), Plan::default());
    }

    #[test]
    fn one_that_moves_already_or_is_going_gets_no_other() {
        let web = instance("LiveMigrate");
        let made = *plan(&web, &cordoned(), &[], at(0)).create.unwrap();
        assert_eq!(plan(&web, &cordoned(), &[Arc::new(made)], at(0)), Plan::default());
        let mut going = web;
        going.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
        assert_eq!(plan(&going, &cordoned(), &[], at(0)), Plan::default());
    }

    #[test]
    fn the_next_attempt_has_another_name_and_waits_longer_each_time() {
        let web = instance("LiveMigrate");
        let first = *plan(&web, &cordoned(), &[], at(0)).create.unwrap();
        assert_eq!(
            plan(&web, &cordoned(), &[], at(0)).create.unwrap().name_any(),
            first.name_any()
        );
        let mut over = vec![failed(&first, "u1", at(0))];
        let waiting = plan(&web, &cordoned(), &over, at(19));
        assert_eq!((waiting.create, waiting.again_at), (None, Some(at(20))));
        let second = *plan(&web, &cordoned(), &over, at(20)).create.unwrap();
        assert_ne!(second.name_any(), first.name_any());
        over.push(failed(&second, "u2", at(30)));
        assert_eq!(plan(&web, &cordoned(), &over, at(31)).again_at, Some(at(70)));
    }

    #[test]
    fn a_guest_that_came_back_leaves_the_node_again() {
        let web = instance("LiveMigrate");
        let first = *plan(&web, &cordoned(), &[], at(0)).create.unwrap();
        let mut arrived = first.clone();
        arrived.metadata.uid = Some("u1".to_owned());
        arrived.status.get_or_insert_default().phase = Some(MigrationPhase::Succeeded);
        let again = plan(&web, &cordoned(), &[Arc::new(arrived)], at(0)).create.unwrap();
        assert_ne!(again.name_any(), first.name_any());
    }

    #[test]
    fn what_has_not_begun_is_taken_back_when_the_node_serves_again() {
        let web = instance("LiveMigrate");
        let made = *plan(&web, &cordoned(), &[], at(0)).create.unwrap();
        let in_phase = |phase: MigrationPhase| {
            let mut one = made.clone();
            one.status.get_or_insert_default().phase = Some(phase);
            Arc::new(one)
        };
        let mut asked_for = made.clone();
        asked_for.metadata.annotations = None;
        let all = [
            in_phase(MigrationPhase::Pending),
            in_phase(MigrationPhase::Running),
            in_phase(MigrationPhase::Succeeded),
            Arc::new(asked_for),
        ];
        let back = plan(&web, &node(json!({})), &all, at(0));
        assert_eq!(back.cancel, [Arc::clone(&all[0])]);
        assert!(back.create.is_none());
    }
}
