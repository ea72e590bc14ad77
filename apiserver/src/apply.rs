//! Server-side apply.
//!
//! The manager says what it wants of an object, all of it, each time. What it wants is merged into
//! the object; what it wanted last time and does not want any more is removed, unless another
//! manager wants it; and what another manager has set to another value is a conflict, until this
//! manager says `force`, which takes the field over.
//!
//! Left out of upstream: the server never converts field sets between versions of a kind, and
//! a built-in kind knows only the keyed lists of `fields::typed`.

use serde_json::{Value, json};

use crate::fields::{FieldSet, Typed, difference};
use crate::managed::{self, BEFORE, Entry, Operation};
use crate::object;
use crate::registry::{Resource, Strategy};
use crate::status::ApiError;
use crate::store::{Change, View};
use crate::write::{self, Part, Writing};

/// The manager name of `kubectl apply --server-side`.
const KUBECTL: &str = "kubectl";

/// Makes the object have the fields of `applied`, and the manager own them.
pub(crate) fn apply(
    resource: &Resource,
    view: &View<'_>,
    current: Option<Value>,
    mut applied: Value,
    part: Part,
    writing: &Writing,
    force: bool,
) -> Result<Change, ApiError> {
    if object::metadata(&applied).get("managedFields").is_some_and(|list| !list.is_null()) {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    restrict(resource, part, &mut applied);
    without_nulls(&mut applied);
    let wanted = managed::managed_fields(resource, &applied);
    let manager = writing.manager.as_str();
    let api_version = resource.api_version();
    let Some(current) = current else {
        if part != Part::Main {
            return Err(ApiError::not_found(resource.subject(object::name(&applied))));
        }
        let mut entries = vec![];
        managed::claim(&mut entries, manager, Operation::Apply, part, api_version, |f| *f = wanted);
        managed::set_entries(&mut applied, entries);
        return write::create(resource, view, None, applied, writing, Operation::Apply);
    };

    let mut entries = managed::entries(&current);
    if entries.is_empty() {
        let fields = managed::managed_fields(resource, &current);
        entries.push(Entry {
            manager: BEFORE.to_owned(),
            operation: Operation::Update,
            subresource: String::new(),
            api_version: api_version.clone(),
            time: Some(object::now()),
            fields,
        });
    }
    let is_mine = |entry: &Entry| entry.is_of(manager, Operation::Apply, part);
    let mut others = FieldSet::default();
    for entry in entries.iter().filter(|entry| !is_mine(entry)) {
        others.union(&entry.fields);
    }
    let mut given_up = entries
        .iter()
        .find(|entry| is_mine(entry))
        .map_or_else(FieldSet::default, |entry| entry.fields.clone());
    given_up.subtract(&wanted);

    let root = Typed::Root(resource);
    let mut proposed = current.clone();
    merge(&mut proposed, &applied, root);
    remove(&mut proposed, &given_up, &wanted, &others, root);

    let changes = difference(Some(&current), Some(&proposed), root);
    let conflicts: Vec<(&Entry, FieldSet)> = entries
        .iter()
        .filter(|entry| !is_mine(entry))
        .map(|entry| (entry, entry.fields.intersection(&changes.set)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    let conflicts = if manager == KUBECTL {
        beyond_last_applied(resource, &current, conflicts)
    } else {
        conflicts
    };
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }
    for entry in &mut entries {
        if !is_mine(entry) {
            entry.fields.subtract(&changes.set);
            entry.fields.subtract(&changes.removed);
        }
    }
    // Taking the time only when the claim changed keeps a repeated apply without effect.
    let unchanged = entries.iter().any(|entry| is_mine(entry) && entry.fields == wanted);
    if !unchanged {
        managed::claim(&mut entries, manager, Operation::Apply, part, api_version, |f| *f = wanted);
    }
    managed::set_entries(&mut proposed, entries);
    write::update(resource, view, &current, proposed, part, writing, Operation::Apply)
}

/// Client-side apply wrote down what it applied; whoever changes from it to `kubectl apply
/// --server-side` may change those fields without a fight, where they are still as applied.
fn beyond_last_applied<'a>(
    resource: &Resource,
    current: &Value,
    conflicts: Vec<(&'a Entry, FieldSet)>,
) -> Vec<(&'a Entry, FieldSet)> {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let text = current["metadata"]["annotations"][LAST_APPLIED].as_str();
    let Some(last) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return conflicts;
    };
    // What has another value now is somebody else's by rights.
    let changed = difference(Some(&last), Some(current), Typed::Root(resource));
    let mut last = managed::managed_fields(resource, &last);
    last.subtract(&changed.set);
    last.subtract(&changed.removed);
    let left = conflicts.into_iter().map(|(entry, mut fields)| {
        fields.subtract(&last);
        (entry, fields)
    });
    left.filter(|(_, fields)| !fields.is_empty()).collect()
}

/// Leaves only what this path may write.
fn restrict(resource: &Resource, part: Part, applied: &mut Value) {
    let Some(map) = applied.as_object_mut() else { return };
    match part {
        Part::Main if resource.has_status && resource.strategy != Strategy::Node => {
            map.shift_remove("status");
        }
        Part::Main | Part::Finalize => {}
        Part::Status => {
            map.retain(|name, _| {
                matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status")
            });
            if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.retain(|name, _| {
                    matches!(name.as_str(), "name" | "namespace" | "uid" | "resourceVersion")
                });
            }
        }
    }
}

/// An explicit null wants nothing.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Puts the fields of `applied` into `target`.
fn merge(target: &mut Value, applied: &Value, typed: Typed<'_>) {
    match (target, applied) {
        (Value::Object(target), Value::Object(applied)) if !typed.is_atomic() => {
            for (name, value) in applied {
                match target.get_mut(name) {
                    Some(existing) => merge(existing, value, typed.member(name)),
                    None => drop(target.insert(name.clone(), value.clone())),
                }
            }
        }
        (Value::Array(target), Value::Array(applied)) => {
            let (Some(before), Some(after)) = (typed.elements(target), typed.elements(applied))
            else {
                target.clone_from(applied);
                return;
            };
            let places: Vec<Option<usize>> = after
                .iter()
                .map(|(element, _)| before.iter().position(|(other, _)| other == element))
                .collect();
            for ((_, item), place) in after.into_iter().zip(places) {
                match place {
                    Some(place) => merge(&mut target[place], item, typed.items()),
                    None => target.push(item.clone()),
                }
            }
        }
        (target, applied) => target.clone_from(applied),
    }
}

/// Removes the fields in `given_up`, except what `others` hold; containers this empties go too
/// unless somebody wants them.
fn remove(
    value: &mut Value,
    given_up: &FieldSet,
    wanted: &FieldSet,
    others: &FieldSet,
    typed: Typed<'_>,
) {
    let none = FieldSet::default();
    match value {
        Value::Object(map) => {
            for (element, gone) in &given_up.below {
                let Some(name) = element.strip_prefix("f:") else { continue };
                let Some(field) = map.get_mut(name) else { continue };
                let (want, held) = (wanted.get(element), others.get(element));
                remove(
                    field,
                    gone,
                    want.unwrap_or(&none),
                    held.unwrap_or(&none),
                    typed.member(name),
                );
                let is_free = want.is_none() && held.is_none();
                if is_free && (gone.here || is_hollow(field)) {
                    map.shift_remove(name);
                }
            }
        }
        Value::Array(list) => {
            let Some(elements) = typed.elements(list) else { return };
            let elements: Vec<String> = elements.into_iter().map(|(element, _)| element).collect();
            let mut index = 0;
            for element in elements {
                let Some(gone) = given_up.get(&element) else {
                    index += 1;
                    continue;
                };
                let (want, held) = (wanted.get(&element), others.get(&element));
                if want.is_none() && held.is_none() {
                    list.remove(index);
                    continue;
                }
                let (want, held) = (want.unwrap_or(&none), held.unwrap_or(&none));
                remove(&mut list[index], gone, want, held, typed.items());
                index += 1;
            }
        }
        _ => {}
    }
}

fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn conflict(conflicts: &[(&Entry, FieldSet)]) -> ApiError {
    let mut causes = vec![];
    let mut lines = vec![];
    for (entry, fields) in conflicts {
        let paths = fields.paths();
        let who = entry.printed();
        for path in &paths {
            causes.push(json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {who}"),
                "field": path,
            }));
        }
        lines.push(match paths.as_slice() {
            [path] => format!("conflict with {who}: {path}"),
            paths => {
                let list: Vec<String> = paths.iter().map(|path| format!("- {path}")).collect();
                format!("conflicts with {who}:\n{}", list.join("\n"))
            }
        });
    }
    let count = causes.len();
    let plural = if count == 1 { "" } else { "s" };
    let message = format!("Apply failed with {count} conflict{plural}: {}", lines.join("\n"));
    ApiError::apply_conflict(message, &causes)
}

#[cfg(test)]
mod tests;
