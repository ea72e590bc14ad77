//! get, list and watch.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::Server;
use super::reply::Reply;
use super::request::{Call, Format, Shape};
use crate::object;
use crate::path::ResourcePath;
use crate::registry::{Form, Resource};
use crate::selector::Selector;
use crate::status::ApiError;
use crate::store::{Key, Stored};
use crate::table::{self, IncludeObject};
use crate::watch::{self, Start, Watch};

pub(super) async fn answer(
    server: &Arc<Server>,
    resource: Arc<Resource>,
    path: ResourcePath,
    call: &Call,
) -> Result<Reply, ApiError> {
    if resource.namespaced && path.namespace.is_none() && path.name.is_some()
        || !resource.namespaced && path.namespace.is_some()
    {
        return Err(ApiError::no_such_path());
    }
    let (format, shape) = call.negotiate()?;
    let rendering = Rendering { format, shape, include: call.include_object() };
    let warnings: Vec<String> = resource.deprecation.iter().cloned().collect();
    let reply = match &path.name {
        Some(name) if call.query.flag("watch") => {
            let selector = Selector::parse("", &format!("metadata.name={name}"))?;
            begin_watch(server, resource, &path, call, selector, rendering)?
        }
        Some(name) => {
            check_subresource(&resource, &path)?;
            if let Some(paths) = resource.scale.as_ref().filter(|_| path.is_scale()) {
                let stored = find(server, &resource, &path, name)?;
                let scale = paths.of(&resource.view(stored.value()));
                let bytes = Bytes::from(scale.to_string());
                return Ok(Reply::bytes(StatusCode::OK, bytes, format));
            }
            get(server, &resource, &path, name, rendering)?
        }
        None if call.query.flag("watch") => {
            begin_watch(server, resource, &path, call, call.selector()?, rendering)?
        }
        None => list(server, &resource, &path, call, rendering)?,
    };
    Ok(reply.with_warnings(&warnings))
}

/// The parts of an object that have a path of their own.
pub(super) fn check_subresource(resource: &Resource, path: &ResourcePath) -> Result<(), ApiError> {
    match path.subresource.as_deref() {
        None => Ok(()),
        Some("status") if resource.has_status => Ok(()),
        Some("scale") if resource.scale.is_some() => Ok(()),
        Some("finalize") if resource.plural == "namespaces" => Ok(()),
        Some(_) => Err(ApiError::no_such_path()),
    }
}

/// How objects appear in the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rendering {
    pub(crate) format: Format,
    pub(crate) shape: Shape,
    pub(crate) include: IncludeObject,
}

impl Rendering {
    /// One object, in an answer of its own or as the object of an event.
    pub(crate) fn one(self, resource: &Resource, stored: &Stored, first: bool) -> Bytes {
        if self.shape == Shape::Object && resource.form == Form::AsStored {
            return stored.json.clone();
        }
        let object = resource.view(stored.value());
        let text = match self.shape {
            Shape::Object => object.to_string(),
            Shape::Partial => table::partial(&object).to_string(),
            Shape::Table(version) => {
                let metadata = json!({"resourceVersion": object::resource_version(&object)});
                let object = std::iter::once(object);
                table::table(&resource.columns, version, object, self.include, &metadata, first)
            }
        };
        Bytes::from(text)
    }

    fn many(self, resource: &Resource, objects: Vec<Arc<Stored>>, version: u64) -> Bytes {
        let metadata = json!({"resourceVersion": version.to_string()});
        match self.shape {
            Shape::Table(v) => {
                let objects = objects.iter().map(|stored| resource.view(stored.value()));
                let table =
                    table::table(&resource.columns, v, objects, self.include, &metadata, true);
                Bytes::from(table)
            }
            Shape::Partial => joined(
                "PartialObjectMetadataList",
                "meta.k8s.io/v1",
                &metadata,
                objects.iter().map(|stored| self.one(resource, stored, false)),
            ),
            Shape::Object => joined(
                &resource.list_kind,
                &resource.api_version(),
                &metadata,
                objects.iter().map(|stored| self.one(resource, stored, false)),
            ),
        }
    }
}

/// A list around objects that are JSON already.
fn joined(
    kind: &str,
    api_version: &str,
    metadata: &Value,
    items: impl Iterator<Item = Bytes>,
) -> Bytes {
    let mut list = format!(
        r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#
    )
    .into_bytes();
    for (index, item) in items.enumerate() {
        if index > 0 {
            list.push(b',');
        }
        list.extend_from_slice(&item);
    }
    list.extend_from_slice(b"]}");
    list.into()
}

fn get(
    server: &Server,
    resource: &Resource,
    path: &ResourcePath,
    name: &str,
    rendering: Rendering,
) -> Result<Reply, ApiError> {
    let stored = find(server, resource, path, name)?;
    let bytes = rendering.one(resource, &stored, true);
    Ok(Reply::bytes(StatusCode::OK, bytes, rendering.format))
}

fn find(
    server: &Server,
    resource: &Resource,
    path: &ResourcePath,
    name: &str,
) -> Result<Arc<Stored>, ApiError> {
    let namespace = path.namespace.as_deref().unwrap_or("");
    let key = Key::new(&resource.collection, namespace, name);
    server.store.get(&key).ok_or_else(|| ApiError::not_found(resource.subject(name)))
}

fn list(
    server: &Server,
    resource: &Resource,
    path: &ResourcePath,
    call: &Call,
    rendering: Rendering,
) -> Result<Reply, ApiError> {
    if call.query.get("continue").is_some_and(|token| !token.is_empty()) {
        // Lists are complete, so no token of ours exists.
        return Err(ApiError::continue_expired());
    }
    let selector = call.selector()?;
    let (collection, namespace) = (&resource.collection, path.namespace.as_deref());
    let (mut objects, version) = server.store.list(collection, namespace, selector.name());
    check_list_version(call, version)?;
    if !selector.is_everything() {
        objects.retain(|stored| selector.matches(&resource.view(stored.value())));
    }
    let bytes = rendering.many(resource, objects, version);
    Ok(Reply::bytes(StatusCode::OK, bytes, rendering.format))
}

/// There is one version to list, the latest.
fn check_list_version(call: &Call, latest: u64) -> Result<(), ApiError> {
    let wanted = call.query.number("resourceVersion")?;
    match (wanted, call.query.get("resourceVersionMatch")) {
        (Some(wanted), _) if wanted > latest => Err(ApiError::too_large_version(wanted, latest)),
        (Some(wanted), Some("Exact")) if wanted != latest => Err(ApiError::expired(wanted, latest)),
        _ => Ok(()),
    }
}

fn begin_watch(
    server: &Arc<Server>,
    resource: Arc<Resource>,
    path: &ResourcePath,
    call: &Call,
    selector: Selector,
    rendering: Rendering,
) -> Result<Reply, ApiError> {
    let start = match (call.query.get("sendInitialEvents"), call.query.number("resourceVersion")?) {
        (Some("true" | "1"), _) => Start::WithMarkedList,
        (Some("false" | "0"), None | Some(0)) => Start::FromNow,
        (_, None | Some(0)) => Start::WithList,
        (_, Some(version)) => Start::After(version),
    };
    let watch = Watch {
        resource,
        namespace: path.namespace.clone(),
        selector,
        rendering,
        start,
        bookmarks: call.query.flag("allowWatchBookmarks"),
        timeout: call.query.number("timeoutSeconds")?,
    };
    Ok(Reply::stream(watch::stream(server.clone(), watch)))
}
