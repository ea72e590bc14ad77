//! Migrations beside the instances that they are of, and policies by themselves.

use std::collections::{BTreeMap, HashMap};

use crds::kubevirt::{
    Condition, InstancePhase, MigrationConfiguration, MigrationPolicy, VirtualMachineInstance,
    VirtualMachineInstanceMigration as Migration,
};
use kube::{Resource, ResourceExt as _};
use serde::Deserialize;

use super::{Findings, Index};
use crate::evacuation::EVACUATES;
use crate::ledger::VmKey;
use crate::migration::{phase, policy, words};
use crate::shelf::Seen;
use crate::world::vm_key_of;

/// What instances say that counts here, and who moves them.
#[derive(Debug, Default)]
pub(super) struct Moves {
    instances: HashMap<VmKey, Brief>,
    /// Migrations that are not over: of which instance, and their uids.
    under_way: BTreeMap<VmKey, (VmKey, String)>,
    synced: (bool, bool),
}

/// What of an instance counts.
#[derive(Debug, Default)]
struct Brief {
    is_over: bool,
    unable: Option<Condition>,
    selector: BTreeMap<String, String>,
}

/// An instance as it was stored, as far as that counts.
#[derive(Deserialize)]
pub(super) struct Stored {
    metadata: Name,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Name {
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_selector: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: Option<InstancePhase>,
    conditions: Vec<Condition>,
}

impl Moves {
    /// Whether all that there is has been told.
    pub(super) const fn is_synced(&self) -> bool {
        self.synced.0 && self.synced.1
    }

    /// Takes in an instance as it was stored, or that it is gone.
    pub(super) fn stored(&mut self, one: Stored, gone: bool) {
        let Name { namespace, name } = one.metadata;
        let key = VmKey { namespace, name };
        if gone {
            self.instances.remove(&key);
            return;
        }
        let status = one.status.unwrap_or_default();
        let unable = status.conditions.into_iter().find(|one| one.r#type == "LiveMigratable");
        let brief = Brief {
            is_over: status.phase.is_some_and(InstancePhase::is_final),
            unable: unable.filter(|one| !words::is_able(one)),
            selector: one.spec.node_selector.unwrap_or_default(),
        };
        self.instances.insert(key, brief);
    }

    pub(super) fn instance_seen(&mut self, seen: &Seen<VirtualMachineInstance>) {
        let brief = |one: &VirtualMachineInstance| Brief {
            is_over: one.phase().is_final(),
            unable: words::ability(one).filter(|one| !words::is_able(one)).cloned(),
            selector: one.spec.node_selector.clone().unwrap_or_default(),
        };
        match seen {
            Seen::All { objects, unreadable } => {
                self.synced.0 = true;
                let known = objects.iter().map(|one| (vm_key_of(one.meta()), brief(one)));
                let rest = unreadable.iter().map(|meta| (vm_key_of(meta), Brief::default()));
                self.instances = known.chain(rest).collect();
            }
            Seen::Now(one) => drop(self.instances.insert(vm_key_of(one.meta()), brief(one))),
            Seen::Unreadable(meta) => {
                self.instances.insert(vm_key_of(meta), Brief::default());
            }
            Seen::Gone(meta) => drop(self.instances.remove(&vm_key_of(meta))),
        }
    }

    pub(super) fn migration_seen(&mut self, seen: &Seen<Migration>) {
        match seen {
            Seen::All { objects, .. } => {
                self.synced.1 = true;
                self.under_way.clear();
                objects.iter().for_each(|one| self.put(one));
            }
            Seen::Now(one) => self.put(one),
            Seen::Unreadable(meta) | Seen::Gone(meta) => {
                self.under_way.remove(&vm_key_of(meta));
            }
        }
    }

    fn put(&mut self, migration: &Migration) {
        let key = vm_key_of(migration.meta());
        if phase(migration).is_final() {
            self.under_way.remove(&key);
            return;
        }
        let of = VmKey { name: migration.spec.vmi_name.clone(), ..key.clone() };
        self.under_way.insert(key, (of, migration.uid().unwrap_or_default()));
    }

    /// The uid of the migration by which an instance moves.
    fn of(&self, instance: &VmKey) -> Option<&str> {
        self.under_way.values().find(|(of, _)| of == instance).map(|(_, uid)| uid.as_str())
    }
}

/// What is wrong with a migration that is new.
pub(super) fn migration(index: &Index, migration: &Migration) -> Findings {
    let spec = &migration.spec;
    if spec.vmi_name.is_empty() {
        return Findings::refused(words::NAMELESS);
    }
    if spec.send_to.is_some() || spec.receive.is_some() {
        return Findings::refused(words::BETWEEN_CLUSTERS);
    }
    // Of these the node is to know why it is not left: they fail, in sight.
    if migration.annotations().contains_key(EVACUATES) {
        return Findings::default();
    }
    let namespace = migration.namespace().unwrap_or_default();
    let key = VmKey { namespace, name: spec.vmi_name.clone() };
    let Some(instance) = index.moves.instances.get(&key) else {
        return Findings::refused(words::absent(&key.namespace, &key.name));
    };
    if instance.is_over {
        return Findings::refused(words::FINALIZED);
    }
    if let Some(condition) = &instance.unable {
        return Findings::refused(words::unable(condition));
    }
    if let Some(uid) = index.moves.of(&key) {
        return Findings::refused(words::in_flight(uid, &key.name));
    }
    let added = spec.added_node_selector.iter().flatten();
    let kept = added.filter_map(|(label, value)| {
        let own = instance.selector.get(label).filter(|own| *own != value)?;
        Some(format!(
            "spec.addedNodeSelector: {label}={value} has no effect, since the VMI itself asks for {own}"
        ))
    });
    let priority = spec.priority.is_some().then(|| "spec.priority has no effect".to_owned());
    let unknown = spec.rest.keys().map(|name| format!("spec.{name} has no effect"));
    Findings { waits: kept.chain(priority).chain(unknown).collect(), ..Findings::default() }
}

/// What is wrong with a policy.
pub(super) fn migration_policy(policy: &MigrationPolicy) -> Findings {
    if policy.spec.selectors.is_none() {
        return Findings::refused("spec.selectors is missing: say whose guests are moved so");
    }
    let unknown = policy::without_effect(policy).into_iter();
    Findings {
        refusal: policy::applied(policy, MigrationConfiguration::default()).err(),
        waits: unknown.map(|field| format!("{field} has no effect")).collect(),
        ..Findings::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{Facts, Write};

    const PLURAL: &str = "virtualmachineinstancemigrations";

    fn review(
        facts: &Facts,
        plural: &str,
        old: Option<&Value>,
        new: &Value,
    ) -> Result<Vec<String>, String> {
        let write = Write { old, new, by: "kubectl" };
        let said = super::super::review(facts, plural, write);
        said.map_err(|causes| causes.into_iter().map(|cause| cause.message).collect())
    }

    fn facts(more: Value, spec: Value) -> Facts {
        let facts = Facts::default();
        let vmi = json!({ "metadata": { "name": "web", "namespace": "a", "uid": "i" },
            "spec": spec, "status": more });
        facts.stored("virtualmachineinstances", vmi.to_string().as_bytes());
        facts
    }

    fn asked(name: &str, spec: Value) -> Value {
        json!({ "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
            "metadata": { "name": name, "namespace": "a", "uid": format!("uid-{name}") },
            "spec": spec })
    }

    fn of_web() -> Value {
        asked("m", json!({ "vmiName": "web" }))
    }

    #[test]
    fn what_cannot_be_moved_is_refused_in_kubevirts_words() {
        let told = |facts: &Facts, new: &Value| review(facts, PLURAL, None, new).unwrap_err();
        let able = json!({ "phase": "Running",
            "conditions": [{ "type": "LiveMigratable", "status": "True" }] });
        let facts_of_able = facts(able.clone(), json!({}));
        assert_eq!(review(&facts_of_able, PLURAL, None, &of_web()), Ok(vec![]));
        let nobody = told(&facts_of_able, &asked("m", json!({ "vmiName": "db" })));
        assert_eq!(nobody, "the VMI \"a/db\" does not exist");
        let nameless = told(&facts_of_able, &asked("m", json!({ "vmiName": "" })));
        assert_eq!(nameless, "vmiName is missing");
        let away = asked("m", json!({ "vmiName": "web", "sendTo": {} }));
        assert!(told(&facts_of_able, &away).contains("leave them out"));
        let over = facts(json!({ "phase": "Failed" }), json!({}));
        assert_eq!(told(&over, &of_web()), "Cannot migrate VMI in finalized state.");
        let tied = facts(
            json!({ "phase": "Running", "conditions": [{ "type": "LiveMigratable",
                "status": "False", "reason": "DisksNotLiveMigratable", "message": "why" }] }),
            json!({}),
        );
        let why = "Cannot migrate VMI, Reason: DisksNotLiveMigratable, Message: why";
        assert_eq!(told(&tied, &of_web()), why);
        let mut evacuation = of_web();
        evacuation["metadata"]["annotations"]["kubevirt.io/evacuationMigration"] = json!("n1");
        assert_eq!(review(&tied, PLURAL, None, &evacuation), Ok(vec![]), "it fails in sight");

        facts_of_able
            .stored(PLURAL, asked("first", json!({ "vmiName": "web" })).to_string().as_bytes());
        let second = told(&facts_of_able, &of_web());
        assert_eq!(
            second,
            "in-flight migration detected. Active migration job (uid-first) is currently already in progress for VMI web."
        );
        let mut over = asked("first", json!({ "vmiName": "web" }));
        over["status"]["phase"] = json!("Succeeded");
        facts_of_able.stored(PLURAL, over.to_string().as_bytes());
        assert_eq!(review(&facts_of_able, PLURAL, None, &of_web()), Ok(vec![]));
    }

    #[test]
    fn what_a_migration_asks_for_is_fixed_and_narrows_what_its_instance_asks_for() {
        let facts =
            facts(json!({ "phase": "Running" }), json!({ "nodeSelector": { "zone": "a" } }));
        let added = |of: Value| asked("m", json!({ "vmiName": "web", "addedNodeSelector": of }));
        let same = added(json!({ "zone": "a", "rack": "1" }));
        assert_eq!(review(&facts, PLURAL, None, &same), Ok(vec![]));
        let other = added(json!({ "zone": "b" }));
        let warned = review(&facts, PLURAL, None, &other).unwrap();
        assert!(warned[0].contains("zone=b") && warned[0].contains("asks for a"), "{warned:?}");
        let changed = review(&facts, PLURAL, Some(&same), &other).unwrap_err();
        assert_eq!(changed, "update of Migration object's spec is restricted");
        let mut touched = same.clone();
        touched["metadata"]["labels"]["a"] = json!("b");
        assert_eq!(review(&facts, PLURAL, Some(&same), &touched), Ok(vec![]));
    }

    #[test]
    fn a_policy_that_cannot_be_is_refused_and_what_has_no_effect_is_named() {
        let told = |spec: Value| {
            let new = json!({ "apiVersion": "migrations.kubevirt.io/v1alpha1",
                "kind": "MigrationPolicy", "metadata": { "name": "p" }, "spec": spec });
            review(&Facts::default(), "migrationpolicies", None, &new)
        };
        assert!(told(json!({})).unwrap_err().contains("selectors is missing"));
        let slow = json!({ "selectors": {}, "bandwidthPerMigration": "1" });
        assert!(told(slow).unwrap_err().contains("1Mi or more"));
        let warned = told(json!({ "selectors": {}, "wishes": "many" })).unwrap();
        assert_eq!(warned, ["spec.wishes has no effect"]);
    }
}
