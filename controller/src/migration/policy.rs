//! Which MigrationPolicy a guest is moved by, and what it changes. Pure.
//!
//! ```text
//!  selectors        all labels of both must be there; none at all select nobody
//!  several match    who names more labels; of these who names more of the instance's own;
//!                   of these the first by name
//! ```
//!
//! It is looked up once, when the move begins, and what comes of it is written on the
//! instance: an edited policy counts for the next move.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::kubevirt::{MigrationConfiguration, MigrationPolicy, PolicySelectors};
use kube::ResourceExt as _;

use crate::shelf::{Seen, Shelf};

/// The policies that there are.
#[derive(Debug, Default)]
pub struct Policies {
    all: Shelf<String, MigrationPolicy>,
    /// The API does not serve the kind.
    absent: bool,
}

impl Policies {
    /// Whether it is known which there are, or that there can be none.
    #[must_use]
    pub const fn are_known(&self) -> bool {
        self.absent || self.all.is_synced()
    }

    /// Takes in what a watch saw, or that the API does not serve the kind. Whether moves that
    /// wait are to be looked at again.
    pub fn apply(&mut self, seen: Option<Seen<MigrationPolicy>>) -> bool {
        let Some(seen) = seen else {
            self.absent = !self.all.is_synced();
            return false;
        };
        self.absent = false;
        !self.all.apply(seen, |meta| meta.name.clone().unwrap_or_default()).is_empty()
    }

    /// The policy of an instance with these labels, in a namespace with those.
    #[must_use]
    pub fn of(&self, instance: &Labels, namespace: &Labels) -> Option<Arc<MigrationPolicy>> {
        let all = self.all.iter().filter(|(_, one)| one.metadata.deletion_timestamp.is_none());
        let matching = all.filter_map(|(name, one)| {
            let (theirs, own) = matched(one.spec.selectors.as_ref()?, instance, namespace)?;
            Some((theirs + own, own, name, one))
        });
        let best = matching.max_by(|one, other| {
            (one.0, one.1).cmp(&(other.0, other.1)).then_with(|| other.2.cmp(one.2))
        });
        best.map(|(.., policy)| Arc::clone(policy))
    }
}

type Labels = BTreeMap<String, String>;

/// How many labels of the namespace and of the instance are asked for, if they are all there.
fn matched(
    selectors: &PolicySelectors,
    instance: &Labels,
    namespace: &Labels,
) -> Option<(usize, usize)> {
    let asked = [&selectors.namespace_selector, &selectors.virtual_machine_instance_selector];
    if asked.iter().all(|one| one.is_none()) {
        return None;
    }
    let [theirs, own] = [(asked[0], namespace), (asked[1], instance)].map(|(asked, labels)| {
        let asked = asked.iter().flatten();
        asked.map(|(key, value)| (labels.get(key) == Some(value)).then_some(1)).sum::<Option<_>>()
    });
    Some((theirs?, own?))
}

/// What the terms of the cluster become by a policy.
///
/// # Errors
/// The field of the policy that cannot be, and what to write instead.
pub fn applied(
    policy: &MigrationPolicy,
    terms: MigrationConfiguration,
) -> Result<MigrationConfiguration, String> {
    let spec = &policy.spec;
    let told = |field: &str, value: &dyn std::fmt::Display, instead: &str| {
        let name = policy.name_any();
        Err(format!("MigrationPolicy {name}: spec.{field} is {value}: {instead}"))
    };
    if let Some(bandwidth) = &spec.bandwidth_per_migration {
        match bandwidth.units() {
            Err(_) => return told("bandwidthPerMigration", bandwidth, "write a quantity, as 64Mi"),
            Ok(1..0x10_0000) => {
                let instead = "write 1Mi or more, or 0 for as much as there is";
                return told("bandwidthPerMigration", bandwidth, instead);
            }
            Ok(_) => {}
        }
    }
    let most = crds::kubevirt::migration_policy::LONGEST_DOWNTIME;
    for (field, value, most) in [
        ("completionTimeoutPerGiB", spec.completion_timeout_per_gib, 86_400),
        ("maxDowntimeMs", spec.max_downtime_ms, most),
    ] {
        if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
            return told(field, &value, &format!("write 1 to {most}"));
        }
    }
    let disruption = spec.allow_workload_disruption.or(spec.allow_post_copy);
    Ok(MigrationConfiguration {
        allow_auto_converge: spec.allow_auto_converge.or(terms.allow_auto_converge),
        bandwidth_per_migration: spec
            .bandwidth_per_migration
            .clone()
            .or(terms.bandwidth_per_migration),
        completion_timeout_per_gib: spec
            .completion_timeout_per_gib
            .or(terms.completion_timeout_per_gib),
        max_downtime_ms: spec.max_downtime_ms.or(terms.max_downtime_ms),
        allow_post_copy: spec.allow_post_copy.or(terms.allow_post_copy),
        allow_workload_disruption: disruption.or(terms.allow_workload_disruption),
        ..terms
    })
}

/// What is written in a policy and does nothing.
#[must_use]
pub fn without_effect(policy: &MigrationPolicy) -> Vec<String> {
    policy.spec.rest.keys().map(|name| format!("spec.{name}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policies(all: &[(&str, Value)]) -> Policies {
        let mut policies = Policies::default();
        let all = all.iter().map(|(name, spec)| policy(name, spec));
        policies.apply(Some(Seen::all(all.collect())));
        policies
    }

    fn policy(name: &str, spec: &Value) -> MigrationPolicy {
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap()
    }

    fn selecting(namespace: Value, instance: Value) -> Value {
        json!({ "selectors":
            { "namespaceSelector": namespace, "virtualMachineInstanceSelector": instance } })
    }

    fn labels(all: &[(&str, &str)]) -> Labels {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_policy_that_names_most_labels_counts_and_then_the_instances_own_and_then_the_name() {
        let instance = labels(&[("app", "db"), ("size", "big")]);
        let namespace = labels(&[("team", "a"), ("stage", "prod")]);
        let chosen = |all: &[(&str, Value)]| {
            policies(all).of(&instance, &namespace).map(|one| one.name_any())
        };
        let team = ("team", selecting(json!({"team": "a"}), Value::Null));
        let app = ("app", selecting(Value::Null, json!({"app": "db"})));
        let both = ("z", selecting(json!({"team": "a"}), json!({"app": "db"})));
        let own = ("y", selecting(Value::Null, json!({"app": "db", "size": "big"})));
        let twin = ("x", selecting(Value::Null, json!({"app": "db", "size": "big"})));
        let other = ("a", selecting(json!({"team": "b"}), json!({"app": "db", "size": "big"})));
        assert_eq!(chosen(std::slice::from_ref(&team)).as_deref(), Some("team"));
        assert_eq!(chosen(&[team.clone(), app.clone()]).as_deref(), Some("app"));
        assert_eq!(chosen(&[app.clone(), both.clone(), team]).as_deref(), Some("z"));
        assert_eq!(chosen(&[both.clone(), own.clone()]).as_deref(), Some("y"));
        assert_eq!(chosen(&[own, twin, both]).as_deref(), Some("x"));
        assert_eq!(chosen(&[other]), None);
        assert_eq!(chosen(&[("none", json!({ "selectors": {} }))]), None);
        assert_eq!(chosen(&[("none", json!({}))]), None);
        assert_eq!(chosen(&[("all", selecting(json!({}), Value::Null))]).as_deref(), Some("all"));
    }

    #[test]
    fn what_a_policy_does_not_say_is_as_in_the_cluster() {
        let terms = MigrationConfiguration {
            completion_timeout_per_gib: Some(150),
            allow_auto_converge: Some(true),
            allow_post_copy: Some(false),
            ..MigrationConfiguration::default()
        };
        assert_eq!(applied(&policy("p", &json!({})), terms.clone()), Ok(terms.clone()));
        let said = json!({ "allowPostCopy": true, "allowAutoConverge": false,
            "bandwidthPerMigration": "8Mi", "completionTimeoutPerGiB": 3, "maxDowntimeMs": 50 });
        let is = applied(&policy("p", &said), terms.clone()).unwrap();
        assert_eq!(is.bandwidth_per_migration.unwrap().units(), Ok(8 << 20));
        assert_eq!((is.completion_timeout_per_gib, is.max_downtime_ms), (Some(3), Some(50)));
        assert_eq!((is.allow_auto_converge, is.allow_post_copy), (Some(false), Some(true)));
        assert_eq!(is.allow_workload_disruption, Some(true), "as post-copy");
        let not = json!({ "allowPostCopy": true, "allowWorkloadDisruption": false });
        let is = applied(&policy("p", &not), terms).unwrap();
        assert_eq!(is.allow_workload_disruption, Some(false));
    }

    #[test]
    fn a_policy_that_cannot_be_says_what_to_write() {
        for (spec, told) in [
            (json!({ "bandwidthPerMigration": "fast" }), "as 64Mi"),
            (json!({ "bandwidthPerMigration": "1k" }), "1Mi or more"),
            (json!({ "completionTimeoutPerGiB": -1 }), "write 1 to 86400"),
            (json!({ "maxDowntimeMs": 0 }), "write 1 to 2000000"),
        ] {
            let why = applied(&policy("p", &spec), MigrationConfiguration::default()).unwrap_err();
            assert!(why.starts_with("MigrationPolicy p: spec.") && why.contains(told), "{why}");
        }
        let free = policy("p", &json!({ "bandwidthPerMigration": "0Mi" }));
        applied(&free, MigrationConfiguration::default()).unwrap();
    }
}
