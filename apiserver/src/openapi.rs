//! OpenAPI v3: what `kubectl explain` prints, and how `kubectl apply` learns that the server
//! validates fields.
//!
//! One document per group and version, made when it is asked for: kubectl keeps what it fetched
//! until the hash changes. Kinds of definitions come with their schema; built-in kinds are
//! described by their metadata only.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::http::{Call, Reply, Server};
use crate::registry::{Registry, Resource, Strategy, definitions};
use crate::store::Key;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// `path` is what follows `/openapi/v3/`. `None` if there is no such document.
pub(crate) fn answer(
    server: &Server,
    registry: &Registry,
    path: &str,
    call: &Call,
) -> Option<Reply> {
    if path.is_empty() {
        return Some(Reply::json(&index(server, registry)));
    }
    let (group, version) = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => (String::new(), (*version).to_owned()),
        ["apis", group, version] => ((*group).to_owned(), (*version).to_owned()),
        _ => return None,
    };
    let resources = registry.resources(&group, &version);
    if resources.is_empty() {
        return None;
    }
    let etag = format!("\"{}\"", hash(server, &resources));
    if call.etag() == etag {
        return Some(Reply::not_modified(&etag));
    }
    let resources: Vec<&Resource> = resources.into_iter().map(AsRef::as_ref).collect();
    Some(Reply::json(&document(server, &resources)).with_etag(&etag))
}

fn index(server: &Server, registry: &Registry) -> Value {
    let mut paths = Map::new();
    for (group, versions) in registry.groups() {
        for version in versions {
            let path = prefix(group, version);
            let hash = hash(server, &registry.resources(group, version));
            let url = format!("/openapi/v3/{path}?hash={hash}");
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// Changes whenever the document might: with this program and with any definition in it.
fn hash(server: &Server, resources: &[&std::sync::Arc<Resource>]) -> String {
    let mut hash = Sha256::new_with_prefix(env!("CARGO_PKG_VERSION"));
    for resource in resources {
        hash.update(&resource.kind);
        if let Some(definition) = definition(server, resource) {
            hash.update(definition["metadata"]["uid"].to_string());
            hash.update(definition["metadata"]["generation"].to_string());
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

fn definition(server: &Server, resource: &Resource) -> Option<Value> {
    if resource.strategy != Strategy::Custom {
        return None;
    }
    let name = format!("{}.{}", resource.plural, resource.group);
    Some(server.store.get(&Key::new(&definitions(), "", &name))?.value())
}

fn document(server: &Server, resources: &[&Resource]) -> Value {
    let mut schemas = shared_schemas();
    let mut paths = Map::new();
    for resource in resources {
        let name = component(resource);
        schemas.insert(format!("{name}List"), list_schema(resource, &name));
        schemas.insert(name.clone(), schema(server, resource));
        add_paths(resource, &name, &mut paths);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.33.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// `io.kubevirt.v1.VirtualMachine`, `io.k8s.api.core.v1.Pod`.
fn component(resource: &Resource) -> String {
    let (version, kind) = (&resource.version, &resource.kind);
    if resource.strategy == Strategy::Custom {
        let group: Vec<&str> = resource.group.rsplit('.').collect();
        format!("{}.{version}.{kind}", group.join("."))
    } else {
        let group = resource.group.split('.').next().filter(|s| !s.is_empty()).unwrap_or("core");
        format!("io.k8s.api.{group}.{version}.{kind}")
    }
}

fn schema(server: &Server, resource: &Resource) -> Value {
    let versions = definition(server, resource).map(|mut it| it["spec"]["versions"].take());
    let version = versions.as_ref().and_then(Value::as_array).and_then(|versions| {
        versions.iter().find(|version| version["name"] == resource.version.as_str())
    });
    let mut schema = match version {
        Some(version) => version["schema"]["openAPIV3Schema"].clone(),
        None => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
    };
    for (field, described) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        schema["properties"][field] = json!({"type": "string", "description": described});
    }
    schema["properties"]["metadata"] = reference(&format!("{META}.ObjectMeta"), METADATA);
    schema["x-kubernetes-group-version-kind"] = json!([kind(resource)]);
    schema
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an \
                           object.";
const KIND: &str = "Kind is a string value representing the REST resource this object represents.";
const METADATA: &str = "Standard object's metadata.";

fn reference(name: &str, description: &str) -> Value {
    let target = format!("#/components/schemas/{name}");
    json!({"allOf": [{"$ref": target}], "default": {}, "description": description})
}

fn list_schema(resource: &Resource, item: &str) -> Value {
    json!({
        "type": "object",
        "description": format!("{} is a list of {}", resource.list_kind, resource.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": API_VERSION},
            "kind": {"type": "string", "description": KIND},
            "metadata": reference(&format!("{META}.ListMeta"), "Standard list metadata."),
            "items": {"type": "array", "items": reference(item, "")},
        },
        "x-kubernetes-group-version-kind": [{
            "group": resource.group,
            "version": resource.version,
            "kind": resource.list_kind,
        }],
    })
}

fn kind(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

fn add_paths(resource: &Resource, component: &str, paths: &mut Map<String, Value>) {
    let place = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
    let base = prefix(&resource.group, &resource.version);
    let collection = format!("/{base}/{place}{}", resource.plural);
    let body = json!({"application/json": {"schema": {
        "$ref": format!("#/components/schemas/{component}"),
    }}});
    let operation = |action: &str, parameters: &[&str]| {
        let parameters: Vec<Value> = parameters
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}}))
            .collect();
        json!({
            "parameters": parameters,
            "responses": {"200": {"description": "OK", "content": body}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind(resource),
        })
    };
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    paths.insert(
        collection.clone(),
        json!({"get": operation("list", &["labelSelector", "fieldSelector"]),
               "post": operation("post", &write)}),
    );
    if resource.strategy == Strategy::Review {
        return;
    }
    paths.insert(
        format!("{collection}/{{name}}"),
        json!({
            "get": operation("get", &[]),
            "put": operation("put", &write),
            "patch": operation("patch", &["dryRun", "fieldManager", "fieldValidation", "force"]),
            "delete": operation("delete", &["dryRun", "propagationPolicy"]),
        }),
    );
}

/// The schemas every document refers to.
fn shared_schemas() -> Map<String, Value> {
    let text = |description: &str| json!({"type": "string", "description": description});
    let map = |description: &str| {
        json!({"type": "object", "additionalProperties": {"type": "string"},
               "description": description})
    };
    let owner = json!({"type": "object", "required": ["apiVersion", "kind", "name", "uid"],
    "properties": {
        "apiVersion": text("API version of the owner."),
        "kind": text("Kind of the owner."),
        "name": text("Name of the owner."),
        "uid": text("UID of the owner."),
        "controller": {"type": "boolean", "description": "Whether the owner is the managing controller."},
        "blockOwnerDeletion": {"type": "boolean", "description": "Whether the owner's foreground deletion waits for this object."},
    }});
    let metadata = json!({"type": "object",
    "description": "ObjectMeta is metadata that all persisted resources must have.",
    "properties": {
        "name": text("Unique within a namespace; cannot be changed."),
        "generateName": text("Prefix of a generated name, used if name is empty."),
        "namespace": text("The space within which the name is unique."),
        "labels": map("Keys and values by which objects are selected."),
        "annotations": map("Keys and values for tools."),
        "finalizers": {"type": "array", "items": {"type": "string"}, "description": "Must be empty before the object is removed."},
        "ownerReferences": {"type": "array", "items": owner, "description": "Objects this one depends on."},
        "uid": text("Unique in time and space. Read-only."),
        "resourceVersion": text("Version of the object. Read-only."),
        "generation": {"type": "integer", "format": "int64", "description": "Counts changes of the desired state. Read-only."},
        "creationTimestamp": text("When the object was created. Read-only."),
        "deletionTimestamp": text("When deletion was asked for. Read-only."),
        "deletionGracePeriodSeconds": {"type": "integer", "format": "int64", "description": "Read-only."},
        "managedFields": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}, "description": "Who set which field."},
    }});
    let list = json!({"type": "object", "properties": {
        "resourceVersion": text("Version at which the list was exact. Read-only."),
        "continue": text("Set if there is more."),
    }});
    Map::from_iter([(format!("{META}.ObjectMeta"), metadata), (format!("{META}.ListMeta"), list)])
}
