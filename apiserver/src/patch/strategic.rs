//! Strategic merge patch.
//!
//! Like a merge patch, except that some lists are merged element by element. Upstream takes the
//! merge keys from struct tags of its Go types; here they are a table of the lists in the kinds
//! this server has, by field name. Directives: `$patch: delete | replace`, `$retainKeys`
//! (honoured), `$setElementOrder/…` (dropped: elements keep their order, new ones come last) and
//! `$deleteFromPrimitiveList/…`.

use serde_json::{Map, Value};

use crate::status::ApiError;

/// Field name and merge key of the lists that are merged; the key is empty for lists of scalars.
const LISTS: &[(&str, &str)] = &[
    ("conditions", "type"),
    ("containers", "name"),
    ("initContainers", "name"),
    ("ephemeralContainers", "name"),
    ("containerStatuses", "name"),
    ("env", "name"),
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("ports", "containerPort"),
    ("imagePullSecrets", "name"),
    ("secrets", "name"),
    ("hostAliases", "ip"),
    ("podIPs", "ip"),
    ("addresses", "type"),
    ("taints", "key"),
    ("ownerReferences", "uid"),
    ("finalizers", ""),
    ("podCIDRs", ""),
];

/// Merges `patch` into `object`.
pub(super) fn merge(kind: &str, object: &mut Value, patch: &Value) -> Result<(), ApiError> {
    merge_value(kind, object, patch)
}

/// The merge key of a list, `None` for one that is replaced as a whole.
fn merge_key(kind: &str, field: &str) -> Option<&'static str> {
    match (kind, field) {
        ("Service", "ports") => Some("port"),
        // Taints are atomic upstream as well, but for their key; endpoints have no merge key.
        ("Endpoints" | "EndpointSlice", "addresses" | "ports") => None,
        _ => LISTS.iter().find(|(name, _)| *name == field).map(|(_, key)| *key),
    }
}

fn merge_value(kind: &str, target: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    if patch.get("$patch").and_then(Value::as_str) == Some("replace") {
        *target = Value::Object(without_directives(patch));
        return Ok(());
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let map = target.as_object_mut().expect("just made an object");
    if patch.get("$patch").and_then(Value::as_str) == Some("delete") {
        map.clear();
        return Ok(());
    }
    if let Some(keep) = patch.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|name, _| keep.iter().any(|kept| kept.as_str() == Some(name)));
    }
    for (name, value) in patch {
        if let Some(field) = name.strip_prefix("$deleteFromPrimitiveList/") {
            remove_scalars(map, field, value);
            continue;
        }
        if name.starts_with('$') {
            continue;
        }
        match (value, merge_key(kind, name)) {
            (Value::Null, _) => drop(map.shift_remove(name)),
            (Value::Array(items), Some(key)) => {
                let list = map.entry(name.clone()).or_insert_with(|| Value::Array(vec![]));
                merge_list(kind, list, items, key)?;
            }
            _ => merge_value(kind, map.entry(name.clone()).or_insert(Value::Null), value)?,
        }
    }
    Ok(())
}

fn merge_list(kind: &str, list: &mut Value, patch: &[Value], key: &str) -> Result<(), ApiError> {
    if !list.is_array() {
        *list = Value::Array(vec![]);
    }
    let list = list.as_array_mut().expect("just made a list");
    if patch.iter().any(|item| item["$patch"] == "replace") {
        let items = patch.iter().filter(|item| item["$patch"] != "replace");
        *list = items.cloned().collect();
        return Ok(());
    }
    for item in patch {
        if key.is_empty() {
            if !list.contains(item) {
                list.push(item.clone());
            }
            continue;
        }
        let Some(value) = item.get(key) else {
            let why = format!("map: {item} does not contain declared merge key: {key}");
            return Err(ApiError::bad_request(why));
        };
        let place = list.iter().position(|existing| existing.get(key) == Some(value));
        match (place, item["$patch"] == "delete") {
            (Some(place), true) => drop(list.remove(place)),
            (None, true) => {}
            (Some(place), false) => merge_value(kind, &mut list[place], item)?,
            (None, false) => {
                let mut new = Value::Null;
                merge_value(kind, &mut new, item)?;
                list.push(new);
            }
        }
    }
    Ok(())
}

fn remove_scalars(map: &mut Map<String, Value>, field: &str, values: &Value) {
    let Some(list) = map.get_mut(field).and_then(Value::as_array_mut) else { return };
    let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
    list.retain(|item| !values.contains(item));
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    let plain = patch.iter().filter(|(name, _)| !name.starts_with('$'));
    plain.map(|(name, value)| (name.clone(), value.clone())).collect()
}
