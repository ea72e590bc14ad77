//! What there is, for clients that ask first: the plain form, one document per level, and the
//! aggregated form, everything in two documents.

use serde_json::{Value, json};

use crate::http::{Call, Reply};
use crate::path::ApiPath;
use crate::registry::{Registry, Resource, Strategy};

const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

/// `None` for a group or version that does not exist. `foreign`: the groups that others serve, who
/// say themselves what is in each version; the aggregated form lacks them.
pub(crate) fn answer(
    registry: &Registry,
    foreign: &[(String, Vec<String>)],
    path: &ApiPath,
    call: &Call,
) -> Option<Reply> {
    match path {
        ApiPath::CoreVersions => Some(if let Some(version) = aggregated(call) {
            aggregated_reply(registry, version, |group| group.is_empty())
        } else {
            Reply::json(&json!({"kind": "APIVersions", "versions": registry.versions("")}))
        }),
        ApiPath::Groups => Some(if let Some(version) = aggregated(call) {
            aggregated_reply(registry, version, |group| !group.is_empty())
        } else {
            let groups = registry.groups().filter(|(name, _)| !name.is_empty());
            let foreign = foreign.iter().map(|(name, versions)| (name.as_str(), &versions[..]));
            let groups = groups.chain(foreign);
            let groups: Vec<Value> = groups.map(|(name, versions)| group(name, versions)).collect();
            Reply::json(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }),
        ApiPath::Group(name) => {
            let foreign = || foreign.iter().find(|(group, _)| group == name);
            let foreign = || foreign().map(|(_, versions)| versions.as_slice());
            let mut body = group(name, registry.versions(name).or_else(foreign)?);
            body["kind"] = "APIGroup".into();
            body["apiVersion"] = "v1".into();
            Some(Reply::json(&body))
        }
        ApiPath::Version { group, version } => {
            let resources = registry.resources(group, version);
            if resources.is_empty() {
                return None;
            }
            let list: Vec<Value> = resources.iter().flat_map(|resource| plain(resource)).collect();
            Some(Reply::json(&json!({
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": group_version(group, version),
                "resources": list,
            })))
        }
        ApiPath::Resource(_) => None,
    }
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn group(name: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": group_version(name, version), "version": version}))
        .collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

fn verbs(resource: &Resource) -> &'static [&'static str] {
    if resource.strategy == Strategy::Review { &["create"] } else { VERBS }
}

/// The resource, and its status if that has a path of its own.
fn plain(resource: &Resource) -> Vec<Value> {
    let mut main = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": verbs(resource),
    });
    if !resource.short_names.is_empty() {
        main["shortNames"] = resource.short_names.clone().into();
    }
    if !resource.categories.is_empty() {
        main["categories"] = resource.categories.clone().into();
    }
    let mut list = vec![main];
    if resource.has_status {
        list.push(json!({
            "name": format!("{}/status", resource.plural),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": STATUS_VERBS,
        }));
    }
    if resource.scale.is_some() {
        list.push(json!({
            "name": format!("{}/scale", resource.plural),
            "singularName": "",
            "namespaced": resource.namespaced,
            "group": "autoscaling",
            "version": "v1",
            "kind": "Scale",
            "verbs": STATUS_VERBS,
        }));
    }
    list
}

/// The version of aggregated discovery the client prefers over the plain form, if any.
fn aggregated(call: &Call) -> Option<&'static str> {
    for (media, parameters) in call.accepts() {
        let has = |name, value| parameters.contains(&(name, value));
        if media != "application/json" {
            continue;
        }
        if !has("as", "APIGroupDiscoveryList") {
            return None;
        }
        for version in ["v2", "v2beta1"] {
            if has("g", "apidiscovery.k8s.io") && has("v", version) {
                return Some(version);
            }
        }
    }
    None
}

fn aggregated_reply(registry: &Registry, version: &str, wanted: impl Fn(&str) -> bool) -> Reply {
    let groups = registry.groups().filter(|(name, _)| wanted(name));
    let items: Vec<Value> = groups
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources = registry.resources(name, version);
                    let resources: Vec<Value> = resources
                        .into_iter()
                        .map(|resource| aggregated_resource(resource))
                        .collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            json!({"metadata": {"name": name, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    let body = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    });
    let content_type =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    Reply::json_as(&content_type, &body)
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let mut body = json!({
        "resource": resource.plural,
        "responseKind": kind,
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": verbs(resource),
    });
    if !resource.short_names.is_empty() {
        body["shortNames"] = resource.short_names.clone().into();
    }
    if !resource.categories.is_empty() {
        body["categories"] = resource.categories.clone().into();
    }
    let status = resource.has_status.then_some(("status", kind));
    let scale = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
    let scale = resource.scale.is_some().then_some(("scale", scale));
    let parts: Vec<Value> = status
        .into_iter()
        .chain(scale)
        .map(|(name, kind)| json!({"subresource": name, "responseKind": kind, "verbs": STATUS_VERBS}))
        .collect();
    if !parts.is_empty() {
        body["subresources"] = parts.into();
    }
    body
}
