//! What users write, as Rust types: the kinds of `kubeovn.io`, `kubevirt.io`,
//! `k8s.cni.cncf.io` and our own `berth.io`.
//!
//! Field names, short names, printer columns and scopes are the ecosystem's, so
//! that YAML written for Kube-OVN and KubeVirt means the same here. The types
//! are lenient: they hold what was written, not what is right. What it means is
//! decided where it is used, and a bad object becomes a condition on itself.
//!
//! `cargo run -p crds --bin crdgen` prints the CustomResourceDefinitions; the
//! copies in `manifests/crds/` and `manifests/cdi/` are compared with it by a test.

pub mod affinity;
pub mod annotations;
pub mod cause;
pub mod cdi;
pub mod cni;
pub mod commands;
pub mod condition;
pub mod instancetype;
pub mod kubeovn;
pub mod kubevirt;
pub mod ledger;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;

/// Every definition that Berth needs installed, in the order of the files in
/// `manifests/crds/`.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![
        ledger::AddressBlock::crd(),
        cni::IpamClaim::crd(),
        kubeovn::Ip::crd(),
        kubeovn::IpPool::crd(),
        kubevirt::migration_policy::definition(),
        kubeovn::Subnet::crd(),
        kubeovn::vip::definition(),
        kubeovn::Vpc::crd(),
        instancetype::VirtualMachineClusterInstancetype::crd(),
        instancetype::VirtualMachineClusterPreference::crd(),
        instancetype::VirtualMachineInstancetype::crd(),
        instancetype::VirtualMachinePreference::crd(),
        kubevirt::migration::definition(),
        kubevirt::replica_set::definition(),
        kubevirt::instance_definition(),
        kubevirt::machine_definition(),
    ];
    for definition in &mut definitions {
        kubeovn::rules::constrain(definition);
        polish(definition);
    }
    definitions
}

/// The definitions that another project brings where it is installed, in the order of the
/// files in `manifests/cdi/`.
#[must_use]
pub fn definitions_of_others() -> Vec<CustomResourceDefinition> {
    vec![cdi::config::definition(), cdi::source_definition(), cdi::definition()]
}

/// What holds of every definition.
fn polish(definition: &mut CustomResourceDefinition) {
    let versions = definition.spec.versions.iter_mut();
    for schema in versions.filter_map(|version| version.schema.as_mut()) {
        if let Some(root) = schema.open_api_v3_schema.as_mut() {
            allow_no_spec(root);
            drop_foreign_formats(root);
        }
    }
}

/// An object without `spec` is as good as one with an empty one, where nothing
/// in it is required: `kind: Vpc` and a name make a VPC upstream.
fn allow_no_spec(root: &mut JSONSchemaProps) {
    let Some(spec) = root.properties.as_mut().and_then(|fields| fields.get_mut("spec")) else {
        return;
    };
    let rules = spec.x_kubernetes_validations.iter().flatten();
    let by_rule = rules.into_iter().any(|rule| rule.reason.as_deref() == Some(REQUIRED));
    if !by_rule && spec.required.as_ref().is_none_or(Vec::is_empty) {
        spec.default = Some(JSON(serde_json::json!({})));
        if let Some(required) = &mut root.required {
            required.retain(|field| field != "spec");
        }
    }
}

/// The reason of a rule by which a field must not be absent.
const REQUIRED: &str = "FieldValueRequired";

/// Rust's integer types are formats that an API server does not know, and warns
/// about.
fn drop_foreign_formats(schema: &mut JSONSchemaProps) {
    if schema.format.as_ref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.properties.iter_mut().flatten().for_each(|(_, field)| drop_foreign_formats(field));
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &mut schema.items {
        drop_foreign_formats(item);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        drop_foreign_formats(value);
    }
}
