//! The built-in kinds, as a table.
//!
//! They have no schema here: their fields are stored as they come, and only what the server itself
//! relies on is checked (see `write::strategy`).

use super::{Form, Resource, Strategy};
use crate::store::Collection;
use crate::table::builtin_columns;

#[derive(Clone, Copy, Eq, PartialEq)]
enum Scope {
    Cluster,
    Namespaced,
}
use Scope::{Cluster, Namespaced};

struct Row(&'static str, &'static str, &'static str, &'static str, Scope, Strategy);

/// Group/version, kind, plural, short names, scope, rules.
const TABLE: &[Row] = &[
    Row("v1", "ConfigMap", "configmaps", "cm", Namespaced, Strategy::Plain),
    Row("v1", "Endpoints", "endpoints", "ep", Namespaced, Strategy::CreateOnUpdate),
    Row("v1", "Event", "events", "ev", Namespaced, Strategy::CreateOnUpdate),
    Row("v1", "LimitRange", "limitranges", "limits", Namespaced, Strategy::Plain),
    Row("v1", "Namespace", "namespaces", "ns", Cluster, Strategy::Namespace),
    Row("v1", "Node", "nodes", "no", Cluster, Strategy::Node),
    Row("v1", "PersistentVolume", "persistentvolumes", "pv", Cluster, Strategy::PersistentVolume),
    Row(
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "pvc",
        Namespaced,
        Strategy::PersistentVolumeClaim,
    ),
    Row("v1", "Pod", "pods", "po", Namespaced, Strategy::Pod),
    Row("v1", "ResourceQuota", "resourcequotas", "quota", Namespaced, Strategy::Plain),
    Row("v1", "Secret", "secrets", "", Namespaced, Strategy::Secret),
    Row("v1", "Service", "services", "svc", Namespaced, Strategy::Service),
    Row("v1", "ServiceAccount", "serviceaccounts", "sa", Namespaced, Strategy::Plain),
    Row("events.k8s.io/v1", "Event", "events", "ev", Namespaced, Strategy::CreateOnUpdate),
    Row("coordination.k8s.io/v1", "Lease", "leases", "", Namespaced, Strategy::Lease),
    Row("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", "", Namespaced, Strategy::Plain),
    Row("storage.k8s.io/v1", "StorageClass", "storageclasses", "sc", Cluster, Strategy::Plain),
    Row("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", "", Cluster, Strategy::Role),
    Row(
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        "",
        Cluster,
        Strategy::Role,
    ),
    Row("rbac.authorization.k8s.io/v1", "Role", "roles", "", Namespaced, Strategy::Role),
    Row(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "rolebindings",
        "",
        Namespaced,
        Strategy::Role,
    ),
    Row(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "crd,crds",
        Cluster,
        Strategy::Definition,
    ),
    Row(
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        "",
        Cluster,
        Strategy::Plain,
    ),
    Row(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        "",
        Cluster,
        Strategy::Plain,
    ),
    Row(
        "authentication.k8s.io/v1",
        "SelfSubjectReview",
        "selfsubjectreviews",
        "",
        Cluster,
        Strategy::Review,
    ),
    Row(
        "authorization.k8s.io/v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "",
        Cluster,
        Strategy::Review,
    ),
    Row(
        "authorization.k8s.io/v1",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        "",
        Cluster,
        Strategy::Review,
    ),
    Row(
        "authorization.k8s.io/v1",
        "SubjectAccessReview",
        "subjectaccessreviews",
        "",
        Cluster,
        Strategy::Review,
    ),
    Row("apiregistration.k8s.io/v1", "APIService", "apiservices", "", Cluster, Strategy::Plain),
    Row("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", "pc", Cluster, Strategy::Plain),
    Row("apps/v1", "ControllerRevision", "controllerrevisions", "", Namespaced, Strategy::Plain),
];

pub(super) fn resources() -> impl Iterator<Item = Resource> {
    TABLE.iter().map(resource)
}

fn resource(row: &Row) -> Resource {
    let Row(api_version, kind, plural, short_names, scope, strategy) = *row;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let is_event_view = group == "events.k8s.io";
    let stored_group = if is_event_view { "" } else { group };
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: plural.to_owned(),
        // Endpoints is its own singular.
        singular: kind.to_lowercase(),
        short_names: short_names.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect(),
        categories: categories(kind),
        namespaced: scope == Namespaced,
        has_status: has_status(strategy) || matches!(kind, "ResourceQuota" | "APIService"),
        scale: None,
        counts_generations: matches!(strategy, Strategy::Definition | Strategy::Pod),
        collection: Collection::new(stored_group, plural),
        form: if is_event_view { Form::Event } else { Form::AsStored },
        strategy,
        columns: builtin_columns(group, kind),
        schema: None,
        deprecation: None,
    }
}

fn has_status(strategy: Strategy) -> bool {
    match strategy {
        Strategy::Namespace
        | Strategy::Node
        | Strategy::Pod
        | Strategy::Service
        | Strategy::PersistentVolume
        | Strategy::PersistentVolumeClaim
        | Strategy::Definition => true,
        Strategy::Plain
        | Strategy::Role
        | Strategy::Secret
        | Strategy::CreateOnUpdate
        | Strategy::Lease
        | Strategy::Custom
        | Strategy::Review => false,
    }
}

fn categories(kind: &str) -> Vec<String> {
    match kind {
        "Pod" | "Service" => vec!["all".to_owned()],
        "APIService"
        | "CustomResourceDefinition"
        | "ValidatingWebhookConfiguration"
        | "MutatingWebhookConfiguration" => vec!["api-extensions".to_owned()],
        _ => vec![],
    }
}
