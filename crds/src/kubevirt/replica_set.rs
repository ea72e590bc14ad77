//! So many instances of one template, none of which is anybody in particular.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, ValidationRule,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, CustomResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, InstanceTemplate, Rest, exact};

/// Said of a set without a template. Upstream `vmirs-admitter.go`, as is the next.
pub const NO_TEMPLATE: &str = "missing virtual machine template.";
/// Said of a set that would not know its own.
pub const FOREIGN_LABELS: &str = "selector does not match labels.";

/// How many, and of what.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachineInstanceReplicaSet",
    plural = "virtualmachineinstancereplicasets",
    singular = "virtualmachineinstancereplicaset",
    shortname = "vmirs",
    shortname = "vmirss",
    category = "all",
    namespaced,
    status = "ReplicaSetStatus",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.labelSelector"
    ),
    doc = "So many VirtualMachineInstances of one template; those that end are replaced.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Desired","type":"integer","jsonPath":".spec.replicas","description":"Number of desired VirtualMachineInstances"}"#,
    printcolumn = r#"{"name":"Current","type":"integer","jsonPath":".status.replicas","description":"Number of managed and not final or deleted VirtualMachineInstances"}"#,
    printcolumn = r#"{"name":"Ready","type":"integer","jsonPath":".status.readyReplicas","description":"Number of managed VirtualMachineInstances which are ready to receive traffic"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceReplicaSetSpec {
    /// How many, 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Which instances are its own, beside being owned by it.
    pub selector: LabelSelector,
    /// What each is made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<InstanceTemplate>,
    /// While it is paused it makes and ends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// How many there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaSetStatus {
    /// Those that have not ended and are not being deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Those of them that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// `ReplicaPaused` and `ReplicaFailure`, each while it holds.
    #[serde(default, deserialize_with = "exact", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The selector as text, for who scales it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

impl VirtualMachineInstanceReplicaSetSpec {
    /// How many there are to be.
    #[must_use]
    pub fn wanted(&self) -> usize {
        usize::try_from(self.replicas.unwrap_or(1)).unwrap_or(0)
    }
}

/// The definition of [`VirtualMachineInstanceReplicaSet`].
#[must_use]
pub fn definition() -> CustomResourceDefinition {
    let mut definition = VirtualMachineInstanceReplicaSet::crd();
    let schemas = definition.spec.versions.iter_mut().filter_map(|one| one.schema.as_mut());
    let roots = schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut());
    for spec in roots.filter_map(|root| root.properties.as_mut()?.get_mut("spec")) {
        spec.x_kubernetes_validations = Some(vec![ValidationRule {
            rule: "has(self.template)".to_owned(),
            message: Some(NO_TEMPLATE.to_owned()),
            ..ValidationRule::default()
        }]);
        let fields = spec.properties.get_or_insert_default();
        if let Some(replicas) = fields.get_mut("replicas") {
            replicas.minimum = Some(0.0);
            // Who scales it must find a number there.
            replicas.default = Some(JSON(1.into()));
        }
    }
    definition
}
