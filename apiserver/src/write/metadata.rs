//! The part of an object that belongs to the server, and the rules for the rest of its metadata.

use serde_json::{Map, Value, json};

use super::{Deleting, Propagation};
use crate::object;
use crate::registry::Strategy;
use crate::status::{ApiError, Cause, Subject};

/// Finalizer of an object that stays until its dependents are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an object whose dependents are to forget it first.
pub(crate) const ORPHAN: &str = "orphan";

/// Fields no client sets.
const SERVER_FIELDS: &[&str] =
    &["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

/// Removes what says nothing: upstream never keeps an empty map or list, or a null, in metadata.
fn drop_empty(metadata: &mut Map<String, Value>) {
    metadata.retain(|_, value| match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    });
}

/// Gives a new object its identity.
pub(super) fn begin(object: &mut Value, counts_generations: bool) {
    let metadata = object::metadata_mut(object);
    drop_empty(metadata);
    metadata.shift_remove("selfLink");
    metadata.shift_remove("resourceVersion");
    for field in SERVER_FIELDS {
        metadata.shift_remove(*field);
    }
    metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".to_owned(), object::now().into());
    if counts_generations {
        metadata.insert("generation".to_owned(), 1.into());
    }
}

/// Takes over from `current` what an update cannot change.
pub(super) fn keep_server_fields(current: &Value, object: &mut Value) {
    let old = object::metadata(current);
    let metadata = object::metadata_mut(object);
    metadata.shift_remove("selfLink");
    for field in SERVER_FIELDS.iter().chain(&["name", "namespace", "resourceVersion"]) {
        match old.get(*field) {
            Some(value) => drop(metadata.insert((*field).to_owned(), value.clone())),
            None => drop(metadata.shift_remove(*field)),
        }
    }
    // An empty list of managers is a wish, see below; everything else that is empty is nothing.
    let forgets =
        metadata.get("managedFields").and_then(Value::as_array).is_some_and(Vec::is_empty);
    drop_empty(metadata);
    if !forgets
        && !metadata.contains_key("managedFields")
        && let Some(managed) = old.get("managedFields")
    {
        metadata.insert("managedFields".to_owned(), managed.clone());
    }
}

/// An update must be meant for this object, and for this version of it if it names one.
pub(super) fn check_identity(
    subject: Subject<'_>,
    current: &Value,
    proposed: &Value,
) -> Result<(), ApiError> {
    let uid = object::uid(proposed);
    if !uid.is_empty() && uid != object::uid(current) {
        return Err(uid_conflict(subject, uid, object::uid(current)));
    }
    let version = object::resource_version(proposed);
    if !matches!(version, "" | "0") && version != object::resource_version(current) {
        return Err(ApiError::stale(subject));
    }
    Ok(())
}

pub(super) fn check_preconditions(
    subject: Subject<'_>,
    current: &Value,
    deleting: &Deleting,
) -> Result<(), ApiError> {
    if let Some(uid) = deleting.uid.as_deref().filter(|uid| *uid != object::uid(current)) {
        return Err(uid_conflict(subject, uid, object::uid(current)));
    }
    let version = object::resource_version(current);
    if let Some(wanted) = deleting.resource_version.as_deref().filter(|v| *v != version) {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in \
             object meta: {version}"
        );
        return Err(ApiError::conflict(subject, &why));
    }
    Ok(())
}

fn uid_conflict(subject: Subject<'_>, wanted: &str, found: &str) -> ApiError {
    let why =
        format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
    ApiError::conflict(subject, &why)
}

pub(super) fn set_propagation(object: &mut Value, propagation: Propagation) {
    let (add, remove): (Option<&str>, &[&str]) = match propagation {
        Propagation::Background => (None, &[FOREGROUND, ORPHAN]),
        Propagation::Foreground => (Some(FOREGROUND), &[ORPHAN]),
        Propagation::Orphan => (Some(ORPHAN), &[FOREGROUND]),
    };
    for finalizer in remove {
        object::remove_finalizer(object, finalizer);
    }
    if let Some(finalizer) = add {
        object::add_finalizer(object, finalizer);
    }
}

pub(super) fn begin_deletion(object: &mut Value) {
    let generation = object::generation(object);
    let metadata = object::metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), object::now().into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
    if generation > 0 {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
}

/// An object that is being deleted gets no new finalizers.
pub(super) fn check_finalizers(current: &Value, object: &Value) -> Option<Cause> {
    if !object::is_deleting(current) {
        return None;
    }
    let old = object::finalizers(current);
    let new: Vec<&str> =
        object::finalizers(object).into_iter().filter(|name| !old.contains(name)).collect();
    (!new.is_empty()).then(|| {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers \
             {new:?}"
        );
        Cause::forbidden("metadata.finalizers", why)
    })
}

/// What is wrong with the metadata.
pub(super) fn validate(object: &Value, strategy: Strategy) -> Vec<Cause> {
    let mut causes = vec![];
    let name = object::name(object);
    if let Some(why) = name_problem(name, strategy) {
        causes.push(Cause::invalid("metadata.name", &name.into(), why));
    }
    let metadata = object::metadata(object);
    let map = |field: &str| metadata.get(field).filter(|value| !value.is_null());
    for field in ["labels", "annotations"] {
        let Some(value) = map(field) else { continue };
        let Some(entries) = value.as_object() else {
            causes.push(Cause::type_invalid(format!("metadata.{field}"), "not a map", "object"));
            continue;
        };
        for (key, value) in entries {
            if !is_qualified_name(key) {
                let why = "a qualified name must consist of alphanumeric characters, '-', '_' or \
                           '.', and must start and end with an alphanumeric character";
                causes.push(Cause::invalid(format!("metadata.{field}"), &key.as_str().into(), why));
            }
            match value.as_str() {
                None => {
                    causes.push(Cause::type_invalid(
                        format!("metadata.{field}[{key}]"),
                        &value.to_string(),
                        "string",
                    ));
                }
                Some(text) if field == "labels" && !is_label_value(text) => {
                    let why = "a valid label must be an empty string or consist of alphanumeric \
                               characters, '-', '_' or '.', at most 63 of them";
                    causes.push(Cause::invalid("metadata.labels", &text.into(), why));
                }
                Some(_) => {}
            }
        }
    }
    for owner in object::owners(object) {
        for (field, value) in [
            ("apiVersion", &owner.api_version),
            ("kind", &owner.kind),
            ("name", &owner.name),
            ("uid", &owner.uid),
        ] {
            if value.is_empty() {
                let field = format!("metadata.ownerReferences.{field}");
                causes.push(Cause::invalid(field, &json!(""), "must not be empty"));
            }
        }
    }
    for (index, finalizer) in object::finalizers(object).iter().enumerate() {
        // Only built-in kinds insist on a domain.
        let is_open = matches!(strategy, Strategy::Custom | Strategy::Definition)
            || matches!(*finalizer, FOREGROUND | ORPHAN | "kubernetes");
        if !is_qualified_name(finalizer) || !is_open && !finalizer.contains('/') {
            let field = format!("metadata.finalizers[{index}]");
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid(field, &(*finalizer).into(), why));
        }
    }
    causes
}

fn name_problem(name: &str, strategy: Strategy) -> Option<&'static str> {
    const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
                         characters or '-', and must start and end with an alphanumeric character";
    const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case \
                             alphanumeric characters, '-' or '.', and must start and end with an \
                             alphanumeric character";
    match strategy {
        Strategy::Namespace | Strategy::Service => (!is_dns_label(name)).then_some(LABEL),
        // `system:node` and the like.
        Strategy::Role => {
            let is_bad = |c: char| matches!(c, '/' | '%') || c.is_control();
            let bad = name.is_empty() || matches!(name, "." | "..") || name.contains(is_bad);
            bad.then_some("may not be '.' or '..' and may not contain '/' or '%'")
        }
        _ => (!is_dns_subdomain(name)).then_some(SUBDOMAIN),
    }
}

fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_dns_subdomain(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn is_name_part(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => {
            is_dns_subdomain(&prefix.to_ascii_lowercase()) && is_name_part(name)
        }
        None => is_name_part(text),
    }
}

fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}
