//! `metadata.managedFields`: who set which field.
//!
//! Upstream notes every writer of every object. Here the notes begin with the first apply to an
//! object, because they are used by apply only and double the size of an object: what is there at
//! that moment belongs to a manager called `before-first-apply`, as upstream has it for objects
//! older than the feature. From then on every write is noted.

use serde_json::{Value, json};

use crate::fields::{FieldSet, Typed, difference};
use crate::object;
use crate::registry::Resource;
use crate::write::Part;

/// Owner of what was there before anybody applied.
pub(crate) const BEFORE: &str = "before-first-apply";

/// Fields nobody manages: the object's identity and what the server keeps.
const UNMANAGED: &[&[&str]] = &[
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:generateName"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:deletionTimestamp"],
    &["f:metadata", "f:deletionGracePeriodSeconds"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
    &["f:metadata", "f:selfLink"],
];

/// How a manager came by its fields.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One manager and its fields.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) manager: String,
    pub(crate) operation: Operation,
    pub(crate) subresource: String,
    pub(crate) api_version: String,
    pub(crate) time: Option<String>,
    pub(crate) fields: FieldSet,
}

impl Entry {
    /// Whether `manager` is who wrote this entry, by the same means.
    pub(crate) fn is_of(&self, manager: &str, operation: Operation, part: Part) -> bool {
        self.manager == manager
            && self.operation == operation
            && self.subresource == part.subresource()
    }

    /// How a conflict names the manager.
    pub(crate) fn printed(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
            if let Some(time) = &self.time {
                text.push_str(&format!(" at {time}"));
            }
        }
        text
    }

    fn to_json(&self) -> Value {
        let mut json = json!({
            "manager": self.manager,
            "operation": self.operation.name(),
            "apiVersion": self.api_version,
        });
        if let Some(time) = &self.time {
            json["time"] = time.as_str().into();
        }
        json["fieldsType"] = "FieldsV1".into();
        json["fieldsV1"] = self.fields.to_json();
        if !self.subresource.is_empty() {
            json["subresource"] = self.subresource.as_str().into();
        }
        json
    }

    fn from_json(json: &Value) -> Self {
        let text = |field: &str| json[field].as_str().unwrap_or("").to_owned();
        Self {
            manager: text("manager"),
            operation: if json["operation"] == "Apply" {
                Operation::Apply
            } else {
                Operation::Update
            },
            subresource: text("subresource"),
            api_version: text("apiVersion"),
            time: json["time"].as_str().map(str::to_owned),
            fields: FieldSet::from_json(&json["fieldsV1"]),
        }
    }
}

/// Who manages what in an object.
pub(crate) fn entries(object: &Value) -> Vec<Entry> {
    let list = object::metadata(object).get("managedFields").and_then(Value::as_array);
    list.into_iter().flatten().map(Entry::from_json).collect()
}

pub(crate) fn set_entries(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    // Appliers first, then by age, as upstream shows them.
    entries.sort_by(|a, b| {
        let rank = |entry: &Entry| entry.operation == Operation::Update;
        rank(a)
            .cmp(&rank(b))
            .then_with(|| a.time.cmp(&b.time))
            .then_with(|| a.manager.cmp(&b.manager))
    });
    let metadata = object::metadata_mut(object);
    if entries.is_empty() {
        metadata.shift_remove("managedFields");
        return;
    }
    let list = entries.iter().map(Entry::to_json).collect();
    metadata.insert("managedFields".to_owned(), list);
}

/// The fields of a value that can be managed.
pub(crate) fn managed_fields(resource: &Resource, object: &Value) -> FieldSet {
    strip(FieldSet::of(object, Typed::Root(resource)))
}

fn strip(mut fields: FieldSet) -> FieldSet {
    for path in UNMANAGED {
        fields.cut(path);
    }
    fields
}

/// Notes what an update changed between `current` and `object`. An apply has done that itself.
pub(crate) fn record(
    resource: &Resource,
    current: Option<&Value>,
    object: &mut Value,
    manager: &str,
    operation: Operation,
    part: Part,
) {
    if operation == Operation::Apply {
        return;
    }
    let Some(current) = current else {
        object::metadata_mut(object).shift_remove("managedFields");
        return;
    };
    if !object::metadata(object).contains_key("managedFields") {
        return;
    }
    let changes = difference(Some(current), Some(object), Typed::Root(resource));
    let (set, removed) = (strip(changes.set), strip(changes.removed));
    if set.is_empty() && removed.is_empty() {
        return;
    }
    let mut entries = entries(object);
    for entry in &mut entries {
        entry.fields.subtract(&removed);
        if !entry.is_of(manager, operation, part) {
            entry.fields.subtract(&set);
        }
    }
    if !set.is_empty() {
        let api_version = resource.api_version();
        claim(&mut entries, manager, operation, part, api_version, |fields| fields.union(&set));
    }
    set_entries(object, entries);
}

/// Changes the fields of one manager, whose entry is made if it has none.
pub(crate) fn claim(
    entries: &mut Vec<Entry>,
    manager: &str,
    operation: Operation,
    part: Part,
    api_version: String,
    change: impl FnOnce(&mut FieldSet),
) {
    let at = entries.iter().position(|entry| entry.is_of(manager, operation, part));
    let at = at.unwrap_or_else(|| {
        entries.push(Entry {
            manager: manager.to_owned(),
            operation,
            subresource: part.subresource().to_owned(),
            api_version: String::new(),
            time: None,
            fields: FieldSet::default(),
        });
        entries.len() - 1
    });
    let entry = &mut entries[at];
    entry.api_version = api_version;
    entry.time = Some(object::now());
    change(&mut entry.fields);
}
