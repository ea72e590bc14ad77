//! What server-side apply must know about a place in an object: is a list one value, a set, or a
//! map by keys; is an object one value.
//!
//! Kinds of definitions say so in their schema. For built-in kinds it is a table of the lists that
//! upstream declares. Where nothing is known, objects are taken apart and lists are one value.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::registry::{Resource, Strategy};
use crate::schema::{Additional, ListType, Schema};

/// Elements of a list by their path element, in the list's order.
pub(crate) type Elements<'v> = Vec<(String, &'v Value)>;

/// A place in an object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Typed<'a> {
    /// The top of an object.
    Root(&'a Resource),
    Schema(&'a Schema),
    /// Somewhere in a built-in object, at a member of this name.
    Builtin(&'a str, &'a str),
    /// In `metadata`, at a member of this name.
    Metadata(&'a str),
    Unknown,
}

/// Lists of built-in kinds with keys: kind (`*` for any), field, keys.
const KEYED: &[(&str, &str, &[&str])] = &[
    ("Service", "ports", &["port", "protocol"]),
    ("*", "conditions", &["type"]),
    ("*", "containers", &["name"]),
    ("*", "initContainers", &["name"]),
    ("*", "ephemeralContainers", &["name"]),
    ("*", "env", &["name"]),
    ("*", "volumes", &["name"]),
    ("*", "volumeMounts", &["mountPath"]),
    ("*", "volumeDevices", &["devicePath"]),
    ("Pod", "ports", &["containerPort", "protocol"]),
    ("*", "imagePullSecrets", &["name"]),
    ("ServiceAccount", "secrets", &["name"]),
    ("*", "hostAliases", &["ip"]),
    ("Node", "addresses", &["type"]),
];

impl<'a> Typed<'a> {
    pub(crate) fn member(self, name: &'a str) -> Self {
        match self {
            Self::Root(_) if name == "metadata" => Self::Metadata(""),
            Self::Root(resource) => match &resource.schema {
                Some(schema) => Self::Schema(schema).member(name),
                None if resource.strategy == Strategy::Custom => Self::Unknown,
                None => Self::Builtin(&resource.kind, name),
            },
            Self::Schema(schema) => {
                if schema.embedded && name == "metadata" {
                    return Self::Metadata("");
                }
                match (schema.properties.get(name), &schema.additional) {
                    (Some(property), _) => Self::Schema(property),
                    (None, Additional::Like(schema)) => Self::Schema(schema),
                    (None, Additional::Absent | Additional::Anything) => Self::Unknown,
                }
            }
            Self::Builtin(kind, _) => Self::Builtin(kind, name),
            Self::Metadata(_) => Self::Metadata(name),
            Self::Unknown => Self::Unknown,
        }
    }

    pub(crate) fn items(self) -> Self {
        match self {
            Self::Schema(schema) => schema.items.as_deref().map_or(Self::Unknown, Self::Schema),
            Self::Builtin(kind, _) => Self::Builtin(kind, ""),
            Self::Root(_) | Self::Metadata(_) | Self::Unknown => Self::Unknown,
        }
    }

    /// Whether an object here is one value.
    pub(crate) fn is_atomic(self) -> bool {
        match self {
            Self::Schema(schema) => schema.atomic_map,
            Self::Builtin(_, name) => matches!(name, "selector" | "resources"),
            Self::Root(_) | Self::Metadata(_) | Self::Unknown => false,
        }
    }

    fn list_type(self) -> ListType {
        let keys = |keys: &[&str]| ListType::Map(keys.iter().map(ToString::to_string).collect());
        match self {
            Self::Schema(schema) => schema.list_type.clone(),
            Self::Metadata("finalizers") => ListType::Set,
            Self::Metadata("ownerReferences") => keys(&["uid"]),
            Self::Builtin(kind, name) => {
                let of_kind =
                    |row: &&(&str, &str, &[&str])| (row.0 == "*" || row.0 == kind) && row.1 == name;
                KEYED.iter().find(of_kind).map_or(ListType::Atomic, |row| keys(row.2))
            }
            Self::Root(_) | Self::Metadata(_) | Self::Unknown => ListType::Atomic,
        }
    }

    /// The elements of a list that is not one value; `None` if it is.
    ///
    /// A list whose elements cannot be told apart (keys missing or double) is one value as well.
    pub(crate) fn elements<'v>(self, list: &'v [Value]) -> Option<Elements<'v>> {
        let elements: Elements<'v> = match self.list_type() {
            ListType::Atomic => return None,
            ListType::Set => list.iter().map(|item| (format!("v:{item}"), item)).collect(),
            ListType::Map(keys) => list
                .iter()
                .map(|item| Some((self.key_of(item, &keys)?, item)))
                .collect::<Option<_>>()?,
        };
        let distinct: std::collections::HashSet<&str> =
            elements.iter().map(|(element, _)| element.as_str()).collect();
        (distinct.len() == elements.len()).then_some(elements)
    }

    fn key_of(self, item: &Value, keys: &[String]) -> Option<String> {
        let mut found = BTreeMap::new();
        for key in keys {
            let value = item.get(key).cloned().or_else(|| self.default_key(key));
            // A list may have keys that are optional; at least one must be there.
            if let Some(value) = value {
                found.insert(key.as_str(), value);
            }
        }
        (!found.is_empty()).then(|| format!("k:{}", serde_json::json!(found)))
    }

    fn default_key(self, key: &str) -> Option<Value> {
        match self {
            Self::Schema(schema) => {
                let property = schema.items.as_ref()?.properties.get(key)?;
                property.default.as_deref().cloned()
            }
            Self::Builtin(..) if key == "protocol" => Some("TCP".into()),
            _ => None,
        }
    }
}
