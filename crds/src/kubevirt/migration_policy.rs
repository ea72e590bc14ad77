//! How the guests of some namespaces, or with some labels, are moved, where that is not as
//! everywhere in the cluster.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, ValidationRule,
};
use kube::{CustomResource, CustomResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Opaque, Quantity, Rest};

/// The longest time for each GiB, in seconds: a day.
const LONGEST: f64 = 86_400.0;
/// The longest that QEMU lets a guest stand still, in milliseconds.
pub const LONGEST_DOWNTIME: i64 = 2_000_000;

/// Whose guests, and how.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "migrations.kubevirt.io",
    version = "v1alpha1",
    kind = "MigrationPolicy",
    plural = "migrationpolicies",
    singular = "migrationpolicy",
    category = "all",
    status = "Opaque",
    doc = "How the guests that it selects are moved from node to node.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Post-copy","type":"boolean","jsonPath":".spec.allowPostCopy"}"#,
    printcolumn = r#"{"name":"Bandwidth","type":"string","jsonPath":".spec.bandwidthPerMigration"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct MigrationPolicySpec {
    /// Which guests: those that have all labels of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selectors: Option<PolicySelectors>,
    /// Whether a guest that writes faster than can be sent is slowed down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_auto_converge: Option<bool>,
    /// Bytes a second; 0: as much as there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_per_migration: Option<Quantity>,
    /// Seconds for each GiB of memory and disks.
    #[serde(default, rename = "completionTimeoutPerGiB", skip_serializing_if = "Option::is_none")]
    pub completion_timeout_per_gib: Option<i64>,
    /// Milliseconds that the guest may stand still in the end; QEMU's 300 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_downtime_ms: Option<i64>,
    /// Whether a guest that takes longer goes on at the target at once, and what it lacks
    /// there is sent for. Should that break, it is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_post_copy: Option<bool>,
    /// Whether a guest that takes longer may stand still until all was sent; as
    /// `allowPostCopy`, where that is said and this is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_workload_disruption: Option<bool>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Labels that must all be there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicySelectors {
    /// Of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<BTreeMap<String, String>>,
    /// Of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_machine_instance_selector: Option<BTreeMap<String, String>>,
}

/// The definition of [`MigrationPolicy`].
#[must_use]
pub fn definition() -> CustomResourceDefinition {
    let mut definition = MigrationPolicy::crd();
    let schemas = definition.spec.versions.iter_mut().filter_map(|one| one.schema.as_mut());
    let roots = schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut());
    for spec in roots.filter_map(|root| root.properties.as_mut()?.get_mut("spec")) {
        let message = "selectors is missing: say whose guests are moved so";
        spec.x_kubernetes_validations = Some(vec![ValidationRule {
            rule: "has(self.selectors)".to_owned(),
            message: Some(message.to_owned()),
            reason: Some(crate::REQUIRED.to_owned()),
            ..ValidationRule::default()
        }]);
        let fields = spec.properties.get_or_insert_default();
        let mut between = |name: &str, least: f64, most: f64| {
            if let Some(field) = fields.get_mut(name) {
                (field.minimum, field.maximum) = (Some(least), Some(most));
            }
        };
        between("completionTimeoutPerGiB", 1.0, LONGEST);
        #[expect(clippy::cast_precision_loss, reason = "it is two million")]
        between("maxDowntimeMs", 1.0, LONGEST_DOWNTIME as f64);
    }
    definition
}
