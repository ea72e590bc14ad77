//! The rules of creating, changing and deleting one object.
//!
//! Plain functions from the current object and a request to a [`Change`]; they run on the writer
//! thread, so what they see is what the change is applied to. All three speak the form of the
//! [`Resource`] asked for and store in the form of its collection.
//!
//! ```text
//!             create                         update (PUT, PATCH, apply)
//!   absent ───────────▶ live ◀──────────────────────────────┐
//!                        │ └────────────────────────────────┘
//!                 delete │
//!              no finalizers├──────────────────────────────▶ gone
//!                 finalizers│                                  ▲
//!                           ▼                                  │ the update that removes
//!                        deleting  (no new finalizers) ────────┘ the last finalizer
//! ```

mod metadata;
mod strategy;

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use crate::managed::{self, Operation};
use crate::object;
use crate::registry::{self, Resource, Strategy, namespaces};
use crate::status::{ApiError, Cause};
use crate::store::{Author, Change, Key, View};

pub(crate) use self::metadata::{FOREGROUND, ORPHAN};

/// What happens to fields the schema does not know.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum FieldValidation {
    Ignore,
    /// Dropped, and the client is told in a `Warning` header.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

/// What a write brings besides the object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writing {
    /// Whose fields these become.
    pub(crate) manager: String,
    pub(crate) validation: FieldValidation,
    /// The object came out of a patch: upstream then reports unknown fields as the patch's fault.
    pub(crate) is_patch: bool,
    /// Texts for `Warning` headers, shared with the task that answers.
    pub(crate) warnings: Arc<Mutex<Vec<String>>>,
}

impl Writing {
    /// Who writes.
    pub(crate) fn author(&self) -> Author {
        Author { manager: self.manager.clone(), warnings: self.warnings.clone() }
    }
}

/// Which part of an object is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// All of it, or all but the status if the kind has a status subresource.
    Main,
    Status,
    /// `spec.finalizers` of a namespace.
    Finalize,
}

impl Part {
    pub(crate) fn subresource(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Finalize => "finalize",
        }
    }
}

/// Makes `body` a new object.
pub(crate) fn create(
    resource: &Resource,
    view: &View<'_>,
    current: Option<&Value>,
    body: Value,
    writing: &Writing,
    operation: Operation,
) -> Result<Change, ApiError> {
    let name = object::name(&body).to_owned();
    if current.is_some() {
        return Err(ApiError::already_exists(resource.subject(&name)));
    }
    check_namespace(resource, view, &body)?;
    if !matches!(object::resource_version(&body), "" | "0") {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(ApiError::bad_request(why));
    }
    let mut object = body;
    metadata::begin(&mut object, resource.counts_generations);
    if resource.has_status && resource.strategy != Strategy::Node {
        object::set_or_remove(&mut object, "status", None);
    }
    shape(resource, &mut object, writing)?;
    strategy::prepare_create(resource.strategy, view, &mut object);
    warn_of_rules(resource, &object, writing);
    managed::record(resource, None, &mut object, &writing.manager, operation, Part::Main);
    let causes = check(resource, &object, None);
    if !causes.is_empty() {
        return Err(ApiError::invalid(&resource.group, &resource.kind, &name, &causes));
    }
    Ok(Change::Put(resource.storage(object)))
}

/// Replaces `part` of `current` (in the form of the resource) by that of `proposed`.
pub(crate) fn update(
    resource: &Resource,
    view: &View<'_>,
    current: &Value,
    proposed: Value,
    part: Part,
    writing: &Writing,
    operation: Operation,
) -> Result<Change, ApiError> {
    let name = object::name(current).to_owned();
    let subject = resource.subject(&name);
    metadata::check_identity(subject, current, &proposed)?;
    let mut object = match part {
        Part::Main => proposed,
        Part::Status => only(current, proposed, |from, to| {
            object::set_or_remove(to, "status", from.get("status").cloned());
        }),
        Part::Finalize => only(current, proposed, |from, to| {
            let spec = from.get("spec").cloned();
            object::set_or_remove(to, "spec", spec);
        }),
    };
    if part == Part::Main && resource.has_status {
        object::set_or_remove(&mut object, "status", current.get("status").cloned());
    }
    metadata::keep_server_fields(current, &mut object);
    shape(resource, &mut object, writing)?;
    strategy::prepare_update(resource.strategy, view, current, &mut object, part);
    warn_of_rules(resource, &object, writing);
    if resource.counts_generations && differs_in_spec(resource, current, &object) {
        let generation = object::generation(current) + 1;
        object::metadata_mut(&mut object).insert("generation".to_owned(), generation.into());
    }
    managed::record(resource, Some(current), &mut object, &writing.manager, operation, part);
    if is_same(current, &object) {
        return Ok(Change::Keep);
    }
    let known = check(resource, current, None);
    let causes: Vec<Cause> = metadata::check_finalizers(current, &object)
        .into_iter()
        .chain(check(resource, &object, Some(current)))
        // What was wrong before and was not touched is no reason to refuse a change elsewhere.
        .filter(|cause| !known.contains(cause))
        .collect();
    if !causes.is_empty() {
        return Err(ApiError::invalid(&resource.group, &resource.kind, &name, &causes));
    }
    let is_over = object::is_deleting(&object) && !is_held(resource, &object);
    let object = resource.storage(object);
    Ok(if is_over { Change::Remove(object) } else { Change::Put(object) })
}

/// What a client may say about a deletion.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deleting {
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

/// What becomes of the objects an object owns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Propagation {
    /// They are deleted after it.
    Background,
    /// It stays until those that block it are gone.
    Foreground,
    /// They stay and forget their owner.
    Orphan,
}

/// Removes the object, or marks it for removal if something holds it.
pub(crate) fn delete(
    resource: &Resource,
    current: Value,
    deleting: &Deleting,
) -> Result<Change, ApiError> {
    let name = object::name(&current).to_owned();
    metadata::check_preconditions(resource.subject(&name), &current, deleting)?;
    if resource.strategy == Strategy::Namespace
        && matches!(name.as_str(), "default" | "kube-system" | "kube-public")
    {
        let why = "this namespace may not be deleted";
        return Err(ApiError::forbidden(resource.subject(&name), why));
    }
    let mut object = current.clone();
    if let Some(propagation) = deleting.propagation {
        metadata::set_propagation(&mut object, propagation);
    }
    if !is_held(resource, &object) {
        return Ok(Change::Remove(object));
    }
    if !object::is_deleting(&object) {
        metadata::begin_deletion(&mut object);
        strategy::prepare_deletion(resource.strategy, &mut object);
    }
    Ok(if object == current { Change::Keep } else { Change::Put(object) })
}

/// Something must happen before the object may go.
fn is_held(resource: &Resource, object: &Value) -> bool {
    let namespace_content = resource.strategy == Strategy::Namespace
        && object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    namespace_content || !object::finalizers(object).is_empty()
}

/// Objects are only made in a namespace that is there to stay.
fn check_namespace(resource: &Resource, view: &View<'_>, body: &Value) -> Result<(), ApiError> {
    if !resource.namespaced {
        return Ok(());
    }
    let namespace = object::namespace(body);
    let found = view.get(&Key::new(&namespaces(), "", namespace));
    let subject = |name| crate::status::Subject { group: "", plural: "namespaces", name };
    let found = found.ok_or_else(|| ApiError::not_found(subject(namespace)))?;
    if object::is_deleting(&found.value()) {
        let about = resource.subject(object::name(body));
        return Err(ApiError::namespace_terminating(about, namespace));
    }
    Ok(())
}

/// Prunes and defaults by the schema.
fn shape(resource: &Resource, object: &mut Value, writing: &Writing) -> Result<(), ApiError> {
    let Some(schema) = &resource.schema else { return Ok(()) };
    let unknown = schema.prune(object);
    if !unknown.is_empty() {
        let texts: Vec<String> =
            unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
        match writing.validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => writing.warnings.lock().extend(texts),
            FieldValidation::Strict if writing.is_patch => {
                let why = format!("strict decoding error: {}", texts.join(", "));
                let cause = Cause::invalid("patch", &"(the patch)".into(), why);
                let name = object::name(object);
                return Err(ApiError::invalid(&resource.group, &resource.kind, name, &[cause]));
            }
            FieldValidation::Strict => {
                let (kind, version) = (&resource.kind, &resource.version);
                return Err(ApiError::bad_request(format!(
                    "{kind} in version \"{version}\" cannot be handled as a {kind}: strict \
                     decoding error: {}",
                    texts.join(", ")
                )));
            }
        }
    }
    schema.fill_defaults(object);
    Ok(())
}

/// Tells whoever writes a definition what will not be enforced.
fn warn_of_rules(resource: &Resource, object: &Value, writing: &Writing) {
    if resource.strategy == Strategy::Definition
        && let Some(text) = registry::unenforced_rules(object)
    {
        writing.warnings.lock().push(text.to_owned());
    }
}

fn check(resource: &Resource, object: &Value, previous: Option<&Value>) -> Vec<Cause> {
    let mut causes = metadata::validate(object, resource.strategy);
    causes.extend(strategy::validate(resource.strategy, object, previous));
    if let Some(schema) = &resource.schema {
        causes.extend(schema.validate(object));
    }
    causes
}

/// `current` with one part of `proposed`, and its claim about who manages what.
fn only(current: &Value, proposed: Value, take: impl Fn(&Value, &mut Value)) -> Value {
    let mut object = current.clone();
    take(&proposed, &mut object);
    if let Some(managed) = object::metadata(&proposed).get("managedFields") {
        object::metadata_mut(&mut object).insert("managedFields".to_owned(), managed.clone());
    }
    object
}

/// Whether anything but metadata (and a status that has its own subresource) differs.
fn differs_in_spec(resource: &Resource, a: &Value, b: &Value) -> bool {
    let relevant = |name: &str| name != "metadata" && !(resource.has_status && name == "status");
    let fields = |value: &Value| {
        let map = value.as_object().into_iter().flatten();
        map.filter(|(name, _)| relevant(name)).count()
    };
    let same = a.as_object().into_iter().flatten().filter(|(name, _)| relevant(name));
    fields(a) != fields(b) || !same.into_iter().all(|(name, value)| b.get(name) == Some(value))
}

/// Whether a write changes nothing, apart from the time at which somebody last wrote.
fn is_same(a: &Value, b: &Value) -> bool {
    a == b || {
        let without_times = |value: &Value| {
            let mut value = value.clone();
            let managed = object::metadata_mut(&mut value).get_mut("managedFields");
            for entry in managed.and_then(Value::as_array_mut).into_iter().flatten() {
                object::set_or_remove(entry, "time", None);
            }
            value
        };
        without_times(a) == without_times(b)
    }
}
