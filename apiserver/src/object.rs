//! Reading and writing the metadata every object has, whatever its kind.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The object's `metadata`, or an empty map where it has none.
pub(crate) fn metadata(object: &Value) -> &Map<String, Value> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    object.get("metadata").and_then(Value::as_object).unwrap_or(&EMPTY)
}

/// The object's `metadata`, made where it is missing or not an object.
///
/// # Panics
/// The object itself is not a JSON object; bodies are checked for that when they are read.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    let object = object.as_object_mut().expect("bodies are JSON objects");
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut().expect("just made an object")
}

pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    metadata(object).get(field).and_then(Value::as_str).unwrap_or("")
}

pub(crate) fn name(object: &Value) -> &str {
    text(object, "name")
}

pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

pub(crate) fn uid(object: &Value) -> &str {
    text(object, "uid")
}

pub(crate) fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

pub(crate) fn generation(object: &Value) -> i64 {
    metadata(object).get("generation").and_then(Value::as_i64).unwrap_or(0)
}

/// Someone asked for the object to be deleted, and it waits for its finalizers.
pub(crate) fn is_deleting(object: &Value) -> bool {
    metadata(object).get("deletionTimestamp").is_some_and(|value| !value.is_null())
}

pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let list = metadata(object).get("finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

pub(crate) fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    finalizers(object).contains(&finalizer)
}

/// Adds the finalizer unless it is there.
pub(crate) fn add_finalizer(object: &mut Value, finalizer: &str) {
    if has_finalizer(object, finalizer) {
        return;
    }
    let list = metadata_mut(object).entry("finalizers").or_insert_with(|| Value::Array(vec![]));
    if !list.is_array() {
        *list = Value::Array(vec![]);
    }
    if let Some(list) = list.as_array_mut() {
        list.push(finalizer.into());
    }
}

/// Removes the finalizer; an empty list goes with it.
pub(crate) fn remove_finalizer(object: &mut Value, finalizer: &str) {
    let metadata = metadata_mut(object);
    let Some(list) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) else { return };
    list.retain(|value| value.as_str() != Some(finalizer));
    if list.is_empty() {
        metadata.shift_remove("finalizers");
    }
}

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OwnerRef {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) blocks_deletion: bool,
}

pub(crate) fn owners(object: &Value) -> Vec<OwnerRef> {
    let list = metadata(object).get("ownerReferences").and_then(Value::as_array);
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or("").to_owned();
    list.into_iter()
        .flatten()
        .map(|entry| OwnerRef {
            api_version: text(entry, "apiVersion"),
            kind: text(entry, "kind"),
            name: text(entry, "name"),
            uid: text(entry, "uid"),
            blocks_deletion: entry["blockOwnerDeletion"].as_bool().unwrap_or(false),
        })
        .collect()
}

/// Time as the API writes it: RFC 3339 in UTC, whole seconds.
pub(crate) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The group of an `apiVersion`: empty for the core group.
pub(crate) fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Sets a member of an object, or removes it when there is no value.
pub(crate) fn set_or_remove(object: &mut Value, field: &str, value: Option<Value>) {
    let Some(map) = object.as_object_mut() else { return };
    match value {
        Some(value) => drop(map.insert(field.to_owned(), value)),
        None => drop(map.shift_remove(field)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn removing_the_last_finalizer_removes_the_list() {
        let mut object = json!({"metadata": {"finalizers": ["a"]}});
        remove_finalizer(&mut object, "b");
        assert!(has_finalizer(&object, "a"));
        remove_finalizer(&mut object, "a");
        assert_eq!(object, json!({"metadata": {}}));
    }

    #[test]
    fn an_owner_that_does_not_say_so_does_not_block() {
        let object = json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "1"}]}});
        assert!(!owners(&object)[0].blocks_deletion);
    }
}
