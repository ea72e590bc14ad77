//! Objects as the API has them: each distinct one is kept once and known by a number,
//! which is its version too, and what the real code makes of it is worked out once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use agent::host::Here;
use agent::sending::order;
use agent::vm::{Report, place_of, publish};
use controller::migration::{self, chassis, step};
use controller::round::difference;
use controller::world::node_of;
use crds::kubevirt::{
    MIGRATION_FINALIZER, MigrationPhase, VirtualMachineInstance,
    VirtualMachineInstanceMigration as Migration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What a controller has seen: the instance, and its migrations.
type View = (Option<Id>, [Option<Id>; 2]);

/// The number of a kept value.
pub(super) type Id = u16;

pub(super) const NODES: [&str; 2] = ["n1", "n2"];

/// Time stands still, but for whoever has waited too long.
const NOW: &str = "2026-01-01T00:00:00Z";
const LATE: &str = "2026-01-01T01:00:00Z";

/// Where the ports of an instance are bound: by numbers of nodes.
pub(super) type Chassis = (Option<usize>, Option<usize>);

/// Why the API did not write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    NoObject,
    Conflict,
}

/// A write of the instance, or of one of the migrations.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Write {
    /// Of the migration of this number.
    pub(super) of: Option<usize>,
    pub(super) patch: Id,
}

/// What the source's agent says of a guest that it sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Word {
    Begun,
    Failed,
    Undecided,
}

/// What a controller has decided.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) writes: Vec<Write>,
    /// Only if the API has the instance as it was seen.
    pub(super) ask: bool,
    pub(super) chassis: Chassis,
}

#[derive(Debug)]
struct Kept<T>(Vec<T>, HashMap<String, Id>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Vec::new(), HashMap::new())
    }
}

impl<T> Kept<T> {
    fn keep(&mut self, text: String, value: impl FnOnce(Id) -> T) -> Id {
        let next = Id::try_from(self.0.len()).expect("the world is small");
        *self.1.entry(text).or_insert_with(|| {
            self.0.push(value(next));
            next
        })
    }

    fn get(&self, id: Id) -> &T {
        &self.0[usize::from(id)]
    }
}

#[derive(Debug, Default)]
pub(super) struct Shelf {
    instances: Kept<VirtualMachineInstance>,
    migrations: Kept<Migration>,
    patches: Kept<Value>,
    rounds: HashMap<(View, bool), Rc<Round>>,
    reports: HashMap<(Id, usize, Report), Option<Id>>,
    applied: HashMap<(bool, Id, Id), Option<Id>>,
}

impl Shelf {
    /// The instance that runs on the first node.
    pub(super) fn first_instance(&mut self) -> Id {
        let instance = json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "i1",
                "labels": { "kubevirt.io/nodeName": "n1" },
                "finalizers": [crds::kubevirt::INSTANCE_FINALIZER] },
            "spec": { "domain": { "devices": {} }, "terminationGracePeriodSeconds": 5 },
            "status": { "phase": "Running", "nodeName": "n1",
                "conditions": [{ "type": "LiveMigratable", "status": "True" }] },
        });
        self.keep_instance(&instance).expect("it is there")
    }

    /// A migration that was just made.
    pub(super) fn new_migration(&mut self, number: usize) -> Id {
        let migration = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
            "metadata": { "name": format!("m{number}"), "namespace": "default",
                "uid": format!("uid-m{number}"), "creationTimestamp": NOW },
            "spec": { "vmiName": "web" },
        });
        self.keep_migration(&migration).expect("it is there")
    }

    pub(super) fn instance(&self, id: Id) -> &VirtualMachineInstance {
        self.instances.get(id)
    }

    pub(super) fn migration(&self, id: Id) -> &Migration {
        self.migrations.get(id)
    }

    /// The instance, or as if the target had said that it is ready.
    pub(super) fn as_if_ready(&self, id: Id, pretend: bool) -> Cow<'_, VirtualMachineInstance> {
        let mut instance = Cow::Borrowed(self.instance(id));
        if pretend {
            let status = instance.to_mut().status.as_mut();
            if let Some(state) = status.and_then(|status| status.migration_state.as_mut()) {
                state.target_node_address.get_or_insert_with(|| "192.0.2.9".to_owned());
            }
        }
        instance
    }

    /// The node that has the guest, as the object says.
    pub(super) fn place(&self, id: Id) -> Option<usize> {
        number(place_of(self.instance(id)))
    }

    /// The object once somebody has deleted it; none if nothing holds it.
    pub(super) fn deleted_instance(&mut self, id: Id) -> Option<Id> {
        let mut instance = self.instance(id).clone();
        instance.metadata.deletion_timestamp = Some(now());
        self.keep_instance(&json!(instance))
    }

    /// The same for a migration.
    pub(super) fn deleted_migration(&mut self, id: Id) -> Option<Id> {
        let mut migration = self.migration(id).clone();
        migration.metadata.deletion_timestamp = Some(now());
        self.keep_migration(&json!(migration))
    }

    fn keep_instance(&mut self, instance: &Value) -> Option<Id> {
        let (text, mut kept) = cleaned::<VirtualMachineInstance>(instance);
        if kept.metadata.deletion_timestamp.is_some() && kept.finalizers().is_empty() {
            return None;
        }
        Some(self.instances.keep(text, |id| {
            kept.metadata.resource_version = Some(id.to_string());
            kept
        }))
    }

    fn keep_migration(&mut self, migration: &Value) -> Option<Id> {
        let (text, mut kept) = cleaned::<Migration>(migration);
        if kept.metadata.deletion_timestamp.is_some() && kept.finalizers().is_empty() {
            return None;
        }
        Some(self.migrations.keep(text, |id| {
            kept.metadata.resource_version = Some(id.to_string());
            kept
        }))
    }

    fn keep_patch(&mut self, patch: Value) -> Id {
        self.patches.keep(patch.to_string(), |_| patch)
    }

    /// What the API has once this patch has arrived. `compares`: it looks at the version.
    pub(super) fn apply(
        &mut self,
        write: Write,
        current: Option<Id>,
        compares: bool,
    ) -> Result<Option<Id>, Refusal> {
        let current = current.ok_or(Refusal::NoObject)?;
        let read = self.patches.get(write.patch)["metadata"]["resourceVersion"].as_str();
        if compares && read.is_some_and(|read| read != current.to_string()) {
            return Err(Refusal::Conflict);
        }
        let key = (write.of.is_some(), current, write.patch);
        if let Some(after) = self.applied.get(&key) {
            return Ok(*after);
        }
        let mut object = match write.of {
            Some(_) => json!(self.migration(current)),
            None => json!(self.instance(current)),
        };
        merge(&mut object, self.patches.get(write.patch));
        let after = match write.of {
            Some(_) => self.keep_migration(&object),
            None => self.keep_instance(&object),
        };
        self.applied.insert(key, after);
        Ok(after)
    }

    /// What a controller that sees these does. `late`: it has waited for too long.
    pub(super) fn round(
        &mut self,
        instance: Option<Id>,
        migrations: [Option<Id>; 2],
        late: bool,
    ) -> Rc<Round> {
        let key = ((instance, migrations), late);
        if let Some(round) = self.rounds.get(&key) {
            return Rc::clone(round);
        }
        let seen = instance.map(|id| self.instance(id).clone());
        let all: Vec<_> = migrations.iter().flatten().copied().collect();
        let other = |instance: &VirtualMachineInstance, _: &Migration| {
            let node = number(node_of(instance)).ok_or_else(|| "it has no node".to_owned())?;
            Ok(NODES[1 - node].to_owned())
        };
        let outcome = step(&migration::View {
            migrations: all.iter().map(|id| Arc::new(self.migration(*id).clone())).collect(),
            instance: seen.as_ref(),
            refusal: &|_| None,
            absence: &|_| None,
            target: &other,
            terms: &migration::Terms::default(),
            policy: None,
            now: if late { LATE } else { NOW }.parse().expect("a time"),
        });
        let mut writes = Vec::new();
        if let (Some(have), Some(want)) = (&seen, outcome.instance) {
            writes.push(Write { of: None, patch: self.patch(have, &*want) });
        }
        for mut want in outcome.migrations {
            let of = usize::from(want.name_any() == "m2");
            let have = self.migration(migrations[of].expect("it was seen")).clone();
            if want.finalizers() != have.finalizers() {
                // Finalizers are written first, by a write of their own.
                want.status.clone_from(&have.status);
            }
            writes.push(Write { of: Some(of), patch: self.patch(&have, &want) });
        }
        let bound = seen.as_ref().map(chassis).unwrap_or_default();
        let chassis = (number(bound.0), number(bound.1));
        let round = Rc::new(Round { writes, ask: outcome.ask, chassis });
        self.rounds.insert(key, Rc::clone(&round));
        round
    }

    /// What makes `have` into `want`, for the version that was read.
    fn patch<T: Serialize + kube::ResourceExt>(&mut self, have: &T, want: &T) -> Id {
        let mut patch = difference(&json!(have), &json!(want)).unwrap_or_else(|| json!({}));
        patch["metadata"]["resourceVersion"] = json!(have.resource_version());
        self.keep_patch(patch)
    }

    /// What an agent writes to say this, if the object does not say it already.
    pub(super) fn report(&mut self, base: Id, node: usize, report: &Report) -> Option<Id> {
        let key = (base, node, report.clone());
        if let Some(patch) = self.reports.get(&key) {
            return *patch;
        }
        let here = Here {
            cpus: None,
            node: NODES[node].to_owned(),
            arrivals: Some(format!("192.0.2.{node}")),
            state_dir: "/s".to_owned(),
            run_dir: "/r".to_owned(),
            emulation: agent::domain::Emulation::Software,
            images: [].into(),
            told: agent::guest::Told::default(),
            account: None,
        };
        let patch = publish::patch(self.instance(base), report, &here, &[], &now());
        let patch = patch.map(|patch| self.keep_patch(patch));
        self.reports.insert(key, patch);
        patch
    }

    /// What the source writes before it sends the guest, or when that has failed; none
    /// if it has nothing to write any more.
    pub(super) fn sent(
        &mut self,
        base: Id,
        node: usize,
        migration: Option<&str>,
        word: Word,
        waits: bool,
    ) -> Option<Id> {
        let instance = &*self.as_if_ready(base, !waits);
        let change = |instance: &mut VirtualMachineInstance| match word {
            Word::Begun => order::say_begun(instance, &now()),
            Word::Failed => instance.fail_migration("it failed", &now()),
            Word::Undecided => order::say_undecided(instance, NODES[node]),
        };
        let changed = order::changed(instance, NODES[node], migration, change)?;
        let patch = publish::changes(instance, &changed)?;
        Some(self.keep_patch(patch))
    }

    /// What the target's agent writes before it makes everything anew.
    pub(super) fn anew(&mut self, base: Id) -> Option<Id> {
        let patch = publish::anew(self.instance(base))?;
        Some(self.keep_patch(patch))
    }

    pub(super) fn phase(&self, migration: Id) -> MigrationPhase {
        let status = self.migration(migration).status.as_ref();
        status.and_then(|status| status.phase).unwrap_or_default()
    }

    pub(super) fn is_held(&self, migration: Id) -> bool {
        self.migration(migration).finalizers().iter().any(|one| one == MIGRATION_FINALIZER)
    }
}

pub(super) fn number(node: Option<&str>) -> Option<usize> {
    NODES.iter().position(|one| Some(*one) == node)
}

fn now() -> Time {
    Time(NOW.parse::<Timestamp>().expect("a time"))
}

/// The object as it is known: without its version, and with one time for all.
fn cleaned<T: DeserializeOwned + Serialize>(object: &Value) -> (String, T) {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        metadata.retain(|_, value| !value.as_array().is_some_and(Vec::is_empty));
    }
    let text = object.to_string().replace(LATE, NOW);
    let kept: T = serde_json::from_str(&text).expect("it is what it was");
    (json!(kept).to_string(), kept)
}

/// Merges as RFC 7396 has it.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().expect("made above").shift_remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}
