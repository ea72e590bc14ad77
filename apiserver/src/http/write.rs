//! create, replace, patch and delete.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Server;
use super::read::{Rendering, check_subresource};
use super::reply::Reply;
use super::request::Call;
use crate::managed::Operation;
use crate::object;
use crate::patch::Patch;
use crate::path::ResourcePath;
use crate::registry::{Resource, Strategy};
use crate::status::{ApiError, Cause};
use crate::store::{Author, Key, Mode, Outcome};
use crate::write::{self, Deleting, Part, Propagation, Writing};

/// Tries at a name that is not taken, for `generateName`.
const NAME_TRIES: usize = 8;

pub(super) async fn answer(
    server: &Arc<Server>,
    resource: Arc<Resource>,
    path: ResourcePath,
    call: Call,
) -> Result<Reply, ApiError> {
    check_subresource(&resource, &path)?;
    if !resource.namespaced && path.namespace.is_some() {
        return Err(ApiError::no_such_path());
    }
    let has_place = !resource.namespaced || path.namespace.is_some();
    let write = Write { server, resource, path, call };
    match (write.call.method.clone(), &write.path.name) {
        (Method::POST, None) => write.create().await,
        (Method::PUT | Method::PATCH, Some(_)) if has_place && write.path.is_scale() => {
            write.scale().await
        }
        (Method::PUT, Some(_)) if has_place => write.replace().await,
        (Method::PATCH, Some(_)) if has_place => write.patch().await,
        (Method::DELETE, Some(_)) if has_place => write.delete().await,
        (Method::DELETE, None) if has_place => write.delete_collection().await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// What is asked of a scale.
enum Scaling {
    To(Value),
    By(Patch),
}

/// One write request.
struct Write<'a> {
    server: &'a Arc<Server>,
    resource: Arc<Resource>,
    path: ResourcePath,
    call: Call,
}

impl Write<'_> {
    fn key(&self, name: &str) -> Key {
        let namespace = self.path.namespace.as_deref().unwrap_or("");
        Key::new(&self.resource.collection, namespace, name)
    }

    fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or("")
    }

    fn part(&self) -> Part {
        match self.path.subresource.as_deref() {
            Some("status") => Part::Status,
            Some("finalize") => Part::Finalize,
            _ => Part::Main,
        }
    }

    async fn create(self) -> Result<Reply, ApiError> {
        let mut body = self.call.object()?;
        let mode = self.call.mode()?;
        let writing = self.call.writing()?;
        self.settle_identity(&mut body, None)?;
        let prefix = object::text(&body, "generateName").to_owned();
        let is_generated = object::name(&body).is_empty();
        if is_generated && prefix.is_empty() {
            return Err(ApiError::invalid(
                &self.resource.group,
                &self.resource.kind,
                "",
                &[Cause {
                    message: "Required value: name or generateName is required".to_owned(),
                    ..Cause::required("metadata.name")
                }],
            ));
        }
        let mut tries = 0;
        loop {
            let mut body = body.clone();
            if is_generated {
                let name = format!("{prefix}{}", random_suffix());
                object::metadata_mut(&mut body).insert("name".to_owned(), name.into());
            }
            let key = self.key(object::name(&body));
            let (resource, with) = (self.resource.clone(), writing.clone());
            let result = self
                .server
                .store
                .mutate_for(writing.author(), key, mode, move |view, current| {
                    let current = current.as_ref();
                    write::create(&resource, view, current, body, &with, Operation::Update)
                })
                .await;
            tries += 1;
            match result {
                Err(error)
                    if error.reason == "AlreadyExists" && is_generated && tries < NAME_TRIES => {}
                result => return self.written(result?, &writing),
            }
        }
    }

    async fn replace(self) -> Result<Reply, ApiError> {
        let mut body = self.call.object()?;
        let mode = self.call.mode()?;
        let writing = self.call.writing()?;
        self.settle_identity(&mut body, Some(self.name()))?;
        let (resource, with, part) = (self.resource.clone(), writing.clone(), self.part());
        let name = self.name().to_owned();
        let decide = move |view: &crate::store::View<'_>, current: Option<Value>| match current {
            Some(_)
                if resource.needs_version()
                    && matches!(object::resource_version(&body), "" | "0") =>
            {
                let why = "must be specified for an update";
                let cause = Cause::invalid("metadata.resourceVersion", &0.into(), why);
                Err(ApiError::invalid(&resource.group, &resource.plural, &name, &[cause]))
            }
            Some(current) => {
                let current = resource.view(current);
                write::update(&resource, view, &current, body, part, &with, Operation::Update)
            }
            None if resource.creates_on_update() && part == Part::Main => {
                write::create(&resource, view, None, body, &with, Operation::Update)
            }
            None => Err(ApiError::not_found(resource.subject(&name))),
        };
        let outcome = self
            .server
            .store
            .mutate_for(writing.author(), self.key(self.name()), mode, decide)
            .await?;
        self.written(outcome, &writing)
    }

    async fn patch(self) -> Result<Reply, ApiError> {
        let is_custom = self.resource.strategy == Strategy::Custom;
        let patch = Patch::read(self.call.content_type(), &self.call.body, is_custom)?;
        let mode = self.call.mode()?;
        let writing = Writing { is_patch: !patch.is_apply(), ..self.call.writing()? };
        let force = self.call.query.flag("force");
        if patch.is_apply() && self.call.query.get("fieldManager").is_none_or(str::is_empty) {
            let why = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is \
                       required for apply patch";
            return Err(ApiError::unprocessable(why));
        }
        let (resource, with, part) = (self.resource.clone(), writing.clone(), self.part());
        let name = self.name().to_owned();
        let namespace = self.path.namespace.clone();
        let decide = move |view: &crate::store::View<'_>, current: Option<Value>| {
            let current = current.map(|current| resource.view(current));
            if let Patch::Apply(mut applied) = patch {
                if applied["apiVersion"].as_str().is_none_or(str::is_empty)
                    || applied["kind"].as_str().is_none_or(str::is_empty)
                {
                    let why = "apiVersion and kind must be set in what is applied";
                    return Err(ApiError::bad_request(why));
                }
                settle_identity(&resource, namespace.as_deref(), Some(&name), &mut applied)?;
                return crate::apply::apply(&resource, view, current, applied, part, &with, force);
            }
            let current = current.ok_or_else(|| ApiError::not_found(resource.subject(&name)))?;
            let mut proposed = patch.applied_to(&resource, &current)?;
            settle_identity(&resource, namespace.as_deref(), Some(&name), &mut proposed)?;
            write::update(&resource, view, &current, proposed, part, &with, Operation::Update)
        };
        let outcome = self
            .server
            .store
            .mutate_for(writing.author(), self.key(self.name()), mode, decide)
            .await?;
        self.written(outcome, &writing)
    }

    /// Has an object ask for as many as a scale does.
    async fn scale(self) -> Result<Reply, ApiError> {
        let (mode, writing) = (self.call.mode()?, self.call.writing()?);
        let (format, _) = self.call.negotiate()?;
        let change = match self.call.method {
            Method::PATCH => {
                let patch = Patch::read(self.call.content_type(), &self.call.body, true)?;
                if patch.is_apply() {
                    let why = "/scale takes a merge patch or a JSON patch, and no apply";
                    return Err(ApiError::bad_request(why));
                }
                Scaling::By(patch)
            }
            _ => Scaling::To(self.call.object()?),
        };
        let (resource, with) = (self.resource.clone(), writing.clone());
        let name = self.name().to_owned();
        let decide = move |view: &crate::store::View<'_>, current: Option<Value>| {
            let current = current.map(|current| resource.view(current));
            let current = current.ok_or_else(|| ApiError::not_found(resource.subject(&name)))?;
            let paths = resource.scale.as_ref().ok_or_else(ApiError::no_such_path)?;
            let scale = match change {
                Scaling::To(scale) => scale,
                Scaling::By(patch) => patch.applied_to(&resource, &paths.of(&current))?,
            };
            let proposed = paths.applied(&current, &scale)?;
            let part = Part::Main;
            write::update(&resource, view, &current, proposed, part, &with, Operation::Update)
        };
        let outcome = self
            .server
            .store
            .mutate_for(writing.author(), self.key(self.name()), mode, decide)
            .await?;
        let (Outcome::Created(stored)
        | Outcome::Updated(stored)
        | Outcome::Removed(stored)
        | Outcome::Kept(Some(stored))) = outcome
        else {
            return Err(ApiError::internal("a write kept nothing"));
        };
        let object = self.resource.view(stored.value());
        let scale = self.resource.scale.as_ref().map(|paths| paths.of(&object));
        let bytes = Bytes::from(scale.unwrap_or_default().to_string());
        Ok(Reply::bytes(StatusCode::OK, bytes, format).with_warnings(&writing.warnings.lock()))
    }

    async fn delete(self) -> Result<Reply, ApiError> {
        if self.path.subresource.is_some() {
            return Err(ApiError::method_not_allowed());
        }
        let (deleting, mode) = self.deleting()?;
        let writing = Writing::default();
        let key = self.key(self.name());
        let outcome = self.delete_one(writing.author(), key, deleting, mode).await?;
        self.deleted(outcome, &writing)
    }

    async fn delete_one(
        &self,
        author: Author,
        key: Key,
        deleting: Deleting,
        mode: Mode,
    ) -> Result<Outcome, ApiError> {
        let resource = self.resource.clone();
        let name = key.name.clone();
        let decide = move |_: &crate::store::View<'_>, current: Option<Value>| {
            let current = current.ok_or_else(|| ApiError::not_found(resource.subject(&name)))?;
            write::delete(&resource, current, &deleting)
        };
        self.server.store.mutate_for(author, key, mode, decide).await
    }

    /// Deletes what the selectors match; answers with the list of it.
    async fn delete_collection(self) -> Result<Reply, ApiError> {
        let (deleting, mode) = self.deleting()?;
        let selector = self.call.selector()?;
        let namespace = self.path.namespace.as_deref();
        let (objects, version) = self.server.store.list(&self.resource.collection, namespace, None);
        let author = Author::default();
        let mut deletions = vec![];
        let mut items = vec![];
        for stored in objects {
            let object = stored.value();
            let view = self.resource.view(object.clone());
            if selector.matches(&view) {
                let namespace = object::namespace(&object);
                let key = Key::new(&self.resource.collection, namespace, object::name(&object));
                deletions.push(self.delete_one(author.clone(), key, deleting.clone(), mode));
                items.push(view);
            }
        }
        for result in futures::future::join_all(deletions).await {
            match result {
                Err(error) if error.reason != "NotFound" => return Err(error),
                _ => {}
            }
        }
        Ok(Reply::json(&json!({
            "kind": self.resource.list_kind,
            "apiVersion": self.resource.api_version(),
            "metadata": {"resourceVersion": version.to_string()},
            "items": items,
        }))
        .with_warnings(&author.warnings.lock()))
    }

    /// `DeleteOptions`, from the body and from the query.
    fn deleting(&self) -> Result<(Deleting, Mode), ApiError> {
        let body = if self.call.body.is_empty() { json!({}) } else { self.call.object()? };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let policy = text(&body["propagationPolicy"])
            .or_else(|| self.call.query.get("propagationPolicy").map(str::to_owned));
        let orphan = body["orphanDependents"]
            .as_bool()
            .or_else(|| self.call.query.get("orphanDependents").map(|text| text == "true"));
        let propagation = match (policy.as_deref(), orphan) {
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (None | Some(""), None) => None,
            (Some(other), _) => {
                return Err(ApiError::unprocessable(format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported \
                     value: {other:?}: supported values: \"Background\", \"Foreground\", \
                     \"Orphan\", \"nil\""
                )));
            }
        };
        let is_dry = body["dryRun"].as_array().is_some_and(|list| list.contains(&json!("All")));
        let mode = if is_dry { Mode::DryRun } else { self.call.mode()? };
        let deleting = Deleting {
            propagation,
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
        };
        Ok((deleting, mode))
    }

    fn settle_identity(&self, body: &mut Value, name: Option<&str>) -> Result<(), ApiError> {
        settle_identity(&self.resource, self.path.namespace.as_deref(), name, body)
    }

    fn written(&self, outcome: Outcome, writing: &Writing) -> Result<Reply, ApiError> {
        let (format, shape) = self.call.negotiate()?;
        let rendering = Rendering { format, shape, include: self.call.include_object() };
        let (status, stored) = match outcome {
            Outcome::Created(stored) => (StatusCode::CREATED, stored),
            Outcome::Updated(stored) | Outcome::Removed(stored) | Outcome::Kept(Some(stored)) => {
                (StatusCode::OK, stored)
            }
            Outcome::Kept(None) => return Err(ApiError::internal("a write kept nothing")),
        };
        let mut warnings: Vec<String> = self.resource.deprecation.iter().cloned().collect();
        warnings.append(&mut writing.warnings.lock());
        let bytes = rendering.one(&self.resource, &stored, true);
        Ok(Reply::bytes(status, bytes, format).with_warnings(&warnings))
    }

    /// A `Status` for an object that is gone, the object while it waits for its finalizers.
    fn deleted(&self, outcome: Outcome, writing: &Writing) -> Result<Reply, ApiError> {
        let Outcome::Removed(stored) = outcome else {
            return self.written(outcome, writing);
        };
        let mut details = json!({"name": self.name()});
        if !self.resource.group.is_empty() {
            details["group"] = self.resource.group.as_str().into();
        }
        details["kind"] = self.resource.plural.as_str().into();
        details["uid"] = object::uid(&stored.value()).into();
        Ok(Reply::json(&json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }))
        .with_warnings(&writing.warnings.lock()))
    }
}

/// Makes the body agree with the path about kind, namespace and name, or refuses it.
fn settle_identity(
    resource: &Resource,
    namespace: Option<&str>,
    name: Option<&str>,
    body: &mut Value,
) -> Result<(), ApiError> {
    let api_version = resource.api_version();
    let said = |field: &str| body[field].as_str().unwrap_or("").to_owned();
    let (kind, version) = (said("kind"), said("apiVersion"));
    if !kind.is_empty() && kind != resource.kind || !version.is_empty() && version != api_version {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized: {version}, Kind={kind} does not match \
             {api_version}, Kind={}",
            resource.kind
        )));
    }
    if kind.is_empty() || version.is_empty() {
        body["apiVersion"] = api_version.into();
        body["kind"] = resource.kind.as_str().into();
    }
    let metadata = object::metadata_mut(body);
    if resource.namespaced {
        let namespace = namespace.ok_or_else(ApiError::method_not_allowed)?;
        match metadata.get("namespace").and_then(Value::as_str).unwrap_or("") {
            "" => drop(metadata.insert("namespace".to_owned(), namespace.into())),
            said if said != namespace => {
                let why = "the namespace of the provided object does not match the namespace sent on \
                     the request";
                return Err(ApiError::bad_request(why));
            }
            _ => {}
        }
    } else {
        metadata.shift_remove("namespace");
    }
    if let Some(name) = name {
        match metadata.get("name").and_then(Value::as_str).unwrap_or("") {
            "" => drop(metadata.insert("name".to_owned(), name.into())),
            said if said != name => {
                return Err(ApiError::bad_request(format!(
                    "the name of the object ({said}) does not match the name on the URL ({name})"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Five characters that cannot form words.
fn random_suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let random = uuid::Uuid::new_v4();
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    random.as_bytes().iter().take(5).map(letter).collect()
}
