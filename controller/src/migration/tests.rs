use std::collections::BTreeMap;
use std::sync::Arc;

use crds::kubevirt::{
    Condition, InstancePhase, MIGRATION_FINALIZER, MIGRATION_TARGET_LABEL, MigrationPolicy,
    MigrationState,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde_json::json;

use super::*;
use crate::lost::Absence;

/// An instance and its migrations, as the API has them.
struct Api {
    instance: Option<VirtualMachineInstance>,
    migrations: BTreeMap<String, VirtualMachineInstanceMigration>,
    now: Timestamp,
    full: bool,
    nodes: Result<String, String>,
    away: BTreeMap<String, Absence>,
    policy: Option<MigrationPolicy>,
}

fn running() -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "i1",
            "labels": { "kubevirt.io/nodeName": "n1" } },
        "spec": { "domain": { "devices": {} } },
        "status": { "phase": "Running", "nodeName": "n1",
            "conditions": [{ "type": "LiveMigratable", "status": "True" }] },
    }))
    .unwrap()
}

impl Api {
    fn new() -> Self {
        Self {
            instance: Some(running()),
            migrations: BTreeMap::new(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            full: false,
            nodes: Ok("n2".to_owned()),
            away: BTreeMap::new(),
            policy: None,
        }
    }

    fn with_one() -> Self {
        let mut api = Self::new();
        api.create("m1", json!({}));
        api
    }

    fn create(&mut self, name: &str, spec: serde_json::Value) {
        let mut migration: VirtualMachineInstanceMigration = serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
            "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}"),
                "creationTimestamp": self.now },
            "spec": { "vmiName": "web" },
        }))
        .unwrap();
        let mut merged = json!(migration.spec);
        merged.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        migration.spec = serde_json::from_value(merged).unwrap();
        self.migrations.insert(name.to_owned(), migration);
    }

    fn delete(&mut self, name: &str) {
        let now = Time(self.now);
        self.migrations.get_mut(name).unwrap().metadata.deletion_timestamp = Some(now);
    }

    /// What is asked for now.
    fn step(&self) -> Outcome {
        let full = self.full;
        step(&View {
            migrations: self.migrations.values().cloned().map(Arc::new).collect(),
            instance: self.instance.as_ref(),
            refusal: &move |_| full.then(|| "5 migrations are under way".to_owned()),
            absence: &|node| self.away.get(node).copied(),
            target: &|_, _| self.nodes.clone(),
            terms: &Terms::default(),
            policy: self.policy.as_ref(),
            now: self.now,
        })
    }

    fn write(&mut self, outcome: Outcome) {
        if let Some(instance) = outcome.instance {
            self.instance = Some(*instance);
        }
        for mut migration in outcome.migrations {
            // As the API has an empty list.
            migration.metadata.finalizers.take_if(|all| all.is_empty());
            let ends = migration.finalizers().is_empty()
                && migration.metadata.deletion_timestamp.is_some();
            if ends {
                self.migrations.remove(&migration.name_any());
            } else {
                self.migrations.insert(migration.name_any(), migration);
            }
        }
    }

    /// Round after round, until one has nothing to write.
    fn settle(&mut self) {
        for _ in 0..10 {
            let outcome = self.step();
            if outcome.instance.is_none() && outcome.migrations.is_empty() {
                return;
            }
            self.write(outcome);
        }
        panic!("there is always something to write");
    }

    fn state(&mut self) -> &mut MigrationState {
        self.instance.as_mut().unwrap().status.as_mut().unwrap().migration_state.as_mut().unwrap()
    }

    fn target_is_ready(&mut self) {
        self.state().target_node_address = Some("192.0.2.2".to_owned());
    }

    fn source_starts(&mut self) {
        let now = Time(self.now);
        self.state().start_timestamp = Some(now);
    }

    fn guest_arrives(&mut self) {
        let now = Time(self.now);
        let state = self.state();
        (state.completed, state.end_timestamp) = (true, Some(now));
        let instance = self.instance.as_mut().unwrap();
        let labels = instance.labels_mut();
        let node = labels.remove(MIGRATION_TARGET_LABEL).unwrap();
        labels.insert("kubevirt.io/nodeName".to_owned(), node.clone());
        instance.status.as_mut().unwrap().node_name = Some(node);
    }

    fn source_fails(&mut self) {
        let now = Time(self.now);
        self.instance.as_mut().unwrap().fail_migration("the target went away", &now);
    }

    fn phase(&self, name: &str) -> MigrationPhase {
        phase(&self.migrations[name])
    }

    fn chassis(&self) -> (Option<&str>, Option<&str>) {
        chassis(self.instance.as_ref().unwrap())
    }

    fn said(&self, name: &str, kind: &str) -> String {
        let status = self.migrations[name].status.as_ref().unwrap();
        let one = status.conditions.iter().find(|one| one.r#type == kind);
        one.and_then(|one| one.message.clone()).unwrap_or_default()
    }
}

const ALONE: (Option<&str>, Option<&str>) = (Some("n1"), None);
const BOTH: (Option<&str>, Option<&str>) = (Some("n1"), Some("n2"));
const MOVED: (Option<&str>, Option<&str>) = (Some("n2"), None);

#[test]
fn a_migration_goes_from_step_to_step_as_its_instance_says() {
    let mut api = Api::with_one();
    assert_eq!(api.chassis(), ALONE);
    api.settle();
    assert_eq!((api.phase("m1"), api.chassis()), (MigrationPhase::PreparingTarget, BOTH));
    let instance = api.instance.as_ref().unwrap();
    assert_eq!(instance.labels()[MIGRATION_TARGET_LABEL], "n2");
    assert_eq!(api.state().source_node.as_deref(), Some("n1"));
    api.target_is_ready();
    api.settle();
    assert_eq!((api.phase("m1"), api.chassis()), (MigrationPhase::TargetReady, BOTH));
    api.source_starts();
    api.settle();
    assert_eq!((api.phase("m1"), api.chassis()), (MigrationPhase::Running, BOTH));
    assert_eq!(api.migrations["m1"].finalizers(), [MIGRATION_FINALIZER]);
    api.guest_arrives();
    api.settle();
    assert_eq!((api.phase("m1"), api.chassis()), (MigrationPhase::Succeeded, MOVED));
    assert!(api.migrations["m1"].finalizers().is_empty(), "nothing holds it any more");
    let status = api.migrations["m1"].status.as_ref().unwrap();
    assert!(status.migration_state.as_ref().unwrap().completed);
    let passed: Vec<_> = status.phase_transition_timestamps.iter().map(|one| one.phase).collect();
    use MigrationPhase::{
        Pending, PreparingTarget, Running, Scheduled, Scheduling, Succeeded, TargetReady,
    };
    let all = [Pending, Scheduling, Scheduled, PreparingTarget, TargetReady, Running, Succeeded];
    assert_eq!(passed, all);
}

#[test]
fn a_controller_that_was_away_at_any_step_finds_where_it_is() {
    // How often it looks before each of the four things that agents do.
    for looks in 0..16_u8 {
        let mut api = Api::with_one();
        api.settle();
        let mut things: Vec<fn(&mut Api)> =
            vec![Api::target_is_ready, Api::source_starts, Api::guest_arrives];
        if looks & 8 != 0 {
            things[2] = Api::source_fails;
        }
        for (at, thing) in things.iter().enumerate() {
            thing(&mut api);
            if looks & (1 << at) != 0 {
                api.settle();
            }
        }
        api.settle();
        let (phase, place) = if looks & 8 != 0 {
            (MigrationPhase::Failed, ALONE)
        } else {
            (MigrationPhase::Succeeded, MOVED)
        };
        assert_eq!((api.phase("m1"), api.chassis()), (phase, place), "{looks:b}");
    }
}

#[test]
fn a_failed_migration_says_why_and_leaves_the_port_where_it_was() {
    let mut api = Api::with_one();
    api.settle();
    api.target_is_ready();
    api.source_starts();
    api.source_fails();
    api.settle();
    assert_eq!((api.phase("m1"), api.chassis()), (MigrationPhase::Failed, ALONE));
    assert_eq!(api.said("m1", "Failure"), "the target went away");
    assert!(!api.instance.as_ref().unwrap().labels().contains_key(MIGRATION_TARGET_LABEL));
}

#[test]
fn what_is_left_of_earlier_migrations_says_nothing_about_the_next() {
    let mut api = Api::with_one();
    api.settle();
    api.target_is_ready();
    api.source_starts();
    api.guest_arrives();
    api.settle();
    // Back, and forth again, with all that is over still there.
    for (name, from, to) in [("m2", "n2", "n1"), ("m3", "n1", "n2")] {
        api.nodes = Ok(to.to_owned());
        api.now += SignedDuration::from_secs(60);
        api.create(name, json!({}));
        api.settle();
        assert_eq!(api.chassis(), (Some(from), Some(to)), "{name}");
        // Those that are over are told to it again, as a start of the controller does.
        let over = api.step();
        assert!(over.instance.is_none() && over.migrations.is_empty(), "{over:?}");
        api.target_is_ready();
        api.source_starts();
        api.guest_arrives();
        assert_eq!(api.chassis(), (Some(to), None));
        api.settle();
        assert_eq!(api.phase(name), MigrationPhase::Succeeded);
    }
    assert_eq!(api.phase("m1"), MigrationPhase::Succeeded);
}

#[test]
fn a_second_migration_after_a_failed_one_is_like_the_first() {
    let mut api = Api::with_one();
    api.settle();
    api.target_is_ready();
    api.source_starts();
    api.source_fails();
    api.settle();
    api.create("m2", json!({}));
    api.settle();
    assert_eq!((api.phase("m2"), api.chassis()), (MigrationPhase::PreparingTarget, BOTH));
    assert!(api.state().target_node_address.is_none(), "what was ready is not");
}

#[test]
fn a_guest_that_moves_is_not_moved_by_another_migration() {
    let mut api = Api::with_one();
    api.settle();
    api.now += SignedDuration::from_secs(1);
    api.create("m2", json!({}));
    api.settle();
    assert_eq!(api.phase("m1"), MigrationPhase::PreparingTarget);
    assert_eq!(api.phase("m2"), MigrationPhase::Failed);
    assert!(api.said("m2", "Failure").contains("Active migration job (uid-m1)"));
}

#[test]
fn one_that_is_called_off_before_the_guest_is_sent_is_over_at_once() {
    for ready in [false, true] {
        let mut api = Api::with_one();
        api.settle();
        if ready {
            api.target_is_ready();
        }
        api.delete("m1");
        api.settle();
        assert!(!api.migrations.contains_key("m1"), "its finalizer is gone");
        assert_eq!(api.chassis(), ALONE);
        assert!(api.state().failed);
        assert_eq!(api.state().abort_status.as_deref(), Some("Succeeded"));
    }
    let mut early = Api::with_one();
    early.full = true;
    early.settle();
    early.delete("m1");
    early.settle();
    assert!(early.migrations.is_empty());
}

#[test]
fn one_that_is_called_off_while_the_guest_is_sent_is_the_sources_to_end() {
    let mut api = Api::with_one();
    api.settle();
    api.target_is_ready();
    api.source_starts();
    api.delete("m1");
    api.settle();
    assert!(api.state().abort_requested && !api.state().failed);
    assert_eq!((api.phase("m1"), api.chassis()), (MigrationPhase::Running, BOTH));
    let mut late =
        Api { instance: api.instance.clone(), migrations: api.migrations.clone(), ..Api::new() };
    api.source_fails();
    api.settle();
    assert!(api.migrations.is_empty());
    assert_eq!(api.chassis(), ALONE);
    late.guest_arrives();
    late.settle();
    assert!(late.migrations.is_empty(), "it came too late");
    assert_eq!(late.chassis(), MOVED);
}

#[test]
fn one_whose_object_vanished_is_called_off() {
    let mut api = Api::with_one();
    api.settle();
    api.migrations.clear();
    api.settle();
    assert!(api.state().failed);
    assert_eq!(api.chassis(), ALONE);
}

#[test]
fn one_that_was_given_up_before_its_state_was_seen_leaves_none_behind() {
    let mut api = Api::with_one();
    api.settle();
    let status = api.migrations.get_mut("m1").unwrap().status.get_or_insert_default();
    status.phase = Some(MigrationPhase::Failed);
    api.settle();
    assert!(api.state().is_over(), "the guest would move under a migration that failed");
    assert_eq!(api.chassis(), (Some("n1"), None));
}

#[test]
fn an_instance_that_says_nothing_of_a_migration_under_way_is_asked_for_first() {
    let mut api = Api::with_one();
    let before = api.instance.clone();
    assert!(!api.step().ask);
    api.settle();
    assert!(!api.step().ask);
    // As a controller sees it whose watch of instances is late.
    let now = std::mem::replace(&mut api.instance, before);
    assert!(api.step().ask && !api.step().migrations.is_empty());
    api.instance = now;
    assert!(api.step().migrations.is_empty());
}

#[test]
fn what_cannot_be_moved_says_why() {
    type Change = fn(&mut Api);
    let cases: [(Change, MigrationPhase, &str); 6] = [
        (
            |api| api.instance = None,
            MigrationPhase::Pending,
            "the VMI \"default/web\" does not exist",
        ),
        (
            |api| {
                api.instance.as_mut().unwrap().status.as_mut().unwrap().phase =
                    Some(crds::kubevirt::InstancePhase::Succeeded)
            },
            MigrationPhase::Failed,
            "Cannot migrate VMI in finalized state.",
        ),
        (
            |api| {
                api.instance.as_mut().unwrap().status.as_mut().unwrap().phase =
                    Some(crds::kubevirt::InstancePhase::Scheduled)
            },
            MigrationPhase::Pending,
            "does not run yet",
        ),
        (
            |api| {
                let status = api.instance.as_mut().unwrap().status.as_mut().unwrap();
                status.conditions = vec![
                    Condition::new("LiveMigratable", crds::kubevirt::ConditionStatus::False)
                        .because("DisksNotLiveMigratable", "its disk stays"),
                ];
            },
            MigrationPhase::Failed,
            "Cannot migrate VMI, Reason: DisksNotLiveMigratable, Message: its disk stays",
        ),
        (
            |api| api.nodes = Err("no node takes the VM: n1: the guest is there".to_owned()),
            MigrationPhase::Scheduling,
            "the guest is there",
        ),
        (|api| api.full = true, MigrationPhase::Pending, "5 migrations are under way"),
    ];
    for (change, at, why) in cases {
        let mut api = Api::with_one();
        change(&mut api);
        api.settle();
        let told = api.said("m1", "Waiting") + &api.said("m1", "Failure");
        assert_eq!(api.phase("m1"), at, "{told}");
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn nothing_is_waited_for_without_end() {
    let mut absent = Api::with_one();
    absent.instance = None;
    let mut nowhere = Api::with_one();
    nowhere.nodes = Err("no node is known".to_owned());
    let mut silent = Api::with_one();
    for (api, wait, why) in [
        (&mut absent, 10, "does not exist"),
        (&mut nowhere, 300, "no node is known"),
        (&mut silent, 300, "n2 was not ready within 300 s: see whether its agent runs"),
    ] {
        api.settle();
        assert!(!api.phase("m1").is_final());
        assert_eq!(api.step().again_at, Some(api.now + SignedDuration::from_secs(wait)));
        api.now += SignedDuration::from_secs(wait);
        api.settle();
        assert_eq!(api.phase("m1"), MigrationPhase::Failed);
        assert!(api.said("m1", "Failure").contains(why), "{}", api.said("m1", "Failure"));
    }
    assert_eq!(silent.chassis(), ALONE);
}

#[test]
fn a_guest_that_ends_while_it_moves_ends_its_migration() {
    for sent in [false, true] {
        let mut api = Api::with_one();
        api.settle();
        api.target_is_ready();
        if sent {
            api.source_starts();
        }
        api.instance.as_mut().unwrap().status.as_mut().unwrap().phase =
            Some(crds::kubevirt::InstancePhase::Succeeded);
        api.settle();
        assert_eq!(api.phase("m1"), MigrationPhase::Failed);
        assert_eq!(api.said("m1", "Failure"), "the guest has ended");
    }
}

#[test]
fn fields_without_effect_are_named_and_moves_between_clusters_refused() {
    let mut api = Api::new();
    api.create("m1", json!({ "priority": "user-triggered", "odd": 1 }));
    api.create("m2", json!({ "sendTo": { "migrationID": "x" } }));
    api.settle();
    assert!(api.said("m1", "FieldsWithoutEffect").contains("spec.priority, spec.odd"));
    assert!(api.said("m2", "Failure").contains("between clusters"));
}

#[test]
fn as_many_guests_move_at_once_as_kubevirt_lets() {
    let on = |node: &str| {
        let mut instance = running();
        instance.status.as_mut().unwrap().node_name = Some(node.to_owned());
        instance
    };
    let mut api = Api::with_one();
    api.settle();
    let moving = api.migrations.remove("m1").unwrap();
    let mut over = moving.clone();
    over.status.as_mut().unwrap().phase = Some(MigrationPhase::Failed);
    let (n1, n2, n3) = (on("n1"), on("n2"), on("n3"));
    let slots = |nodes: &[&VirtualMachineInstance]| {
        let moves = nodes.iter().map(|one| (&moving, Some(*one)));
        Slots::of(moves.chain([(&over, Some(&n1)), (&over, None)]))
    };
    assert_eq!(slots(&[&n1]).refusal("n1", &Terms::default()), None);
    assert!(slots(&[&n1, &n1]).refusal("n1", &Terms::default()).unwrap().contains("leaving n1"));
    assert_eq!(slots(&[&n1, &n1]).refusal("n2", &Terms::default()), None);
    let all = slots(&[&n1, &n1, &n2, &n2, &n3]);
    assert!(all.refusal("n3", &Terms::default()).unwrap().contains("5 migrations"));
}

#[test]
fn a_guest_that_has_arrived_counts_against_the_node_that_it_left() {
    let mut api = Api::with_one();
    api.settle();
    api.target_is_ready();
    api.settle();
    api.source_starts();
    api.settle();
    api.guest_arrives();
    let migration = api.migrations["m1"].clone();
    let slots = Slots::of([(&migration, api.instance.as_ref())]);
    let mut expected = Slots::default();
    expected.take("n1");
    assert_eq!(slots, expected);
}

#[test]
fn a_migration_that_finds_no_node_keeps_no_other_from_moving() {
    let mut api = Api::with_one();
    api.nodes = Err("no node takes the VM".to_owned());
    api.settle();
    let waiting = api.migrations["m1"].clone();
    assert_eq!(api.phase("m1"), MigrationPhase::Scheduling);
    let slots = Slots::of([(&waiting, api.instance.as_ref())]);
    assert_eq!(slots, Slots::default());
    // And takes its turn like any other once there is one.
    api.nodes = Ok("n2".to_owned());
    api.full = true;
    api.settle();
    assert!(api.instance.as_ref().unwrap().migration().is_none());
    api.full = false;
    let begins = api.step();
    assert!(begins.admitted);
    let instance = *begins.instance.unwrap();
    let slots = Slots::of([(&waiting, Some(&instance))]);
    assert!(slots != Slots::default(), "it has begun, whatever its own phase says yet");
}

#[test]
fn of_migrations_that_are_over_the_newest_five_are_kept() {
    let mut api = Api::with_one();
    for number in 1..=7 {
        let name = format!("m{number}");
        api.settle();
        api.source_fails();
        api.settle();
        assert_eq!(api.phase(&name), MigrationPhase::Failed);
        api.now += SignedDuration::from_secs(60);
        if number < 7 {
            api.create(&format!("m{}", number + 1), json!({}));
        }
    }
    let outlived = api.step().outlived;
    let names: Vec<_> = outlived.iter().map(|one| one.name_any()).collect();
    assert_eq!(names, ["m1", "m2"]);
}

/// One that is being sent.
fn under_way() -> Api {
    let mut api = Api::with_one();
    api.settle();
    api.target_is_ready();
    api.source_starts();
    api.settle();
    assert_eq!(api.phase("m1"), MigrationPhase::Running);
    api
}

fn lose(api: &mut Api, node: &str) {
    api.away.insert(node.to_owned(), Absence::Lost);
    api.settle();
}

#[test]
fn a_guest_whose_source_is_lost_while_it_is_sent_is_the_targets_to_tell_of() {
    let mut api = under_way();
    api.away.insert("n1".to_owned(), Absence::Silent);
    api.settle();
    assert!(!api.state().is_undecided(), "one that is cut off may be sending");
    lose(&mut api, "n1");
    assert!(api.state().is_undecided());
    assert_eq!(api.phase("m1"), MigrationPhase::Running);
    // It has come, or it has not.
    let mut other = under_way();
    lose(&mut other, "n1");
    other.guest_arrives();
    other.settle();
    assert_eq!(other.phase("m1"), MigrationPhase::Succeeded);
    api.source_fails();
    api.settle();
    assert_eq!((api.phase("m1"), api.chassis()), (MigrationPhase::Failed, ALONE));
}

#[test]
fn a_guest_that_nobody_can_tell_to_have_come_to_a_lost_target_goes_on_at_its_source() {
    let mut api = under_way();
    lose(&mut api, "n2");
    assert_eq!(api.phase("m1"), MigrationPhase::Running, "its source says what became of it");
    api.state().source_state.get_or_insert_default().undecided = true;
    let mut shared = under_way();
    api.settle();
    assert_eq!((api.phase("m1"), api.chassis()), (MigrationPhase::Failed, ALONE));
    assert_eq!(api.instance.as_ref().unwrap().phase(), InstancePhase::Running);
    // What it has written there, with disks that both write, its memory here knows nothing of.
    shared.state().source_state.get_or_insert_default().undecided = true;
    let claim = json!([{ "name": "root", "target": "",
        "persistentVolumeClaimInfo": { "accessModes": ["ReadWriteMany"] } }]);
    let status = shared.instance.as_mut().unwrap().status.as_mut().unwrap();
    status.volume_status = serde_json::from_value(claim).unwrap();
    lose(&mut shared, "n2");
    assert_eq!(shared.phase("m1"), MigrationPhase::Failed);
    let ended = shared.instance.as_ref().unwrap();
    assert_eq!(ended.phase(), InstancePhase::Failed);
    assert_eq!(ended.status.as_ref().unwrap().reason.as_deref(), Some("NodeLost"));
    // As does one that may have run there with what it had.
    let mut torn = under_way();
    torn.state().mode = Some("PostCopy".to_owned());
    torn.state().source_state.get_or_insert_default().undecided = true;
    lose(&mut torn, "n2");
    assert_eq!(torn.instance.as_ref().unwrap().phase(), InstancePhase::Failed);
}

#[test]
fn a_target_that_is_away_before_anything_is_sent_costs_no_time() {
    for away in [Absence::Silent, Absence::Lost] {
        let mut api = Api::with_one();
        api.settle();
        api.away.insert("n2".to_owned(), away);
        api.settle();
        assert_eq!((api.phase("m1"), api.chassis()), (MigrationPhase::Failed, ALONE));
        assert!(api.said("m1", "Failure").contains("n2"), "{}", api.said("m1", "Failure"));
    }
}

#[test]
fn how_long_ports_stay_where_a_guest_has_left_is_nothing_that_clocks_of_nodes_say() {
    for skew in [-600, 600] {
        let mut api = under_way();
        api.guest_arrives();
        let end = api.now + SignedDuration::from_secs(skew);
        let state = api.instance.as_mut().unwrap().status.as_mut().unwrap();
        state.migration_state.as_mut().unwrap().end_timestamp = Some(Time(end));
        let lingers = |api: &Api, seconds| {
            let now = api.now + SignedDuration::from_secs(seconds);
            let migrations: Vec<_> = api.migrations.values().cloned().map(Arc::new).collect();
            left(api.instance.as_ref().unwrap(), &migrations, now).map(|(node, _)| node.to_owned())
        };
        assert_eq!(lingers(&api, 0).as_deref(), Some("n1"), "nobody has said it yet");
        api.settle();
        assert_eq!(lingers(&api, 2).as_deref(), Some("n1"), "{skew}");
        assert_eq!(lingers(&api, 3), None, "{skew}");
        api.migrations.clear();
        assert_eq!(lingers(&api, 0), None);
    }
}

#[test]
fn a_guest_is_moved_by_its_policy_as_that_is_when_it_begins() {
    let mut api = Api::with_one();
    let policy = |spec: serde_json::Value| -> MigrationPolicy {
        serde_json::from_value(json!({ "metadata": { "name": "slow" }, "spec": spec })).unwrap()
    };
    api.policy = Some(policy(json!({ "bandwidthPerMigration": "none" })));
    api.settle();
    let waits = api.migrations["m1"].clone();
    assert_eq!(phase(&waits), MigrationPhase::Scheduling);
    let told = serde_json::to_string(&waits.status.unwrap().conditions).unwrap();
    assert!(told.contains("InvalidMigrationPolicy") && told.contains("as 64Mi"), "{told}");
    assert!(api.instance.as_ref().unwrap().migration().is_none());

    api.policy = Some(policy(json!({ "bandwidthPerMigration": "8Mi", "allowPostCopy": true,
        "wishes": "many" })));
    api.settle();
    let state = api.instance.as_ref().unwrap().migration().unwrap().clone();
    assert_eq!(state.migration_policy_name.as_deref(), Some("slow"));
    let terms = state.migration_configuration.unwrap();
    assert_eq!((terms.allow_post_copy, terms.completion_timeout_per_gib), (Some(true), Some(150)));
    let told = serde_json::to_string(&api.migrations["m1"].status).unwrap();
    assert!(told.contains("spec.wishes of MigrationPolicy slow"), "{told}");

    api.policy = Some(policy(json!({ "bandwidthPerMigration": "1Mi" })));
    api.settle();
    let state = api.instance.as_ref().unwrap().migration().unwrap();
    let terms = state.migration_configuration.as_ref().unwrap();
    assert_eq!(terms.bandwidth_per_migration.as_ref().unwrap().units(), Ok(8 << 20));
}
