//! From the `openAPIV3Schema` of a definition to a [`Schema`].

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use regex::Regex;
use serde_json::Value;

use super::{Additional, Bound, Kind, Limits, ListType, Schema};

/// The definition's author must change the schema.
#[derive(Debug, thiserror::Error)]
#[error("schema{field}: {why}")]
pub(crate) struct SchemaError {
    /// Path below `openAPIV3Schema`, starting with a dot unless empty.
    pub(crate) field: String,
    pub(crate) value: Value,
    pub(crate) why: String,
}

impl SchemaError {
    fn new(field: &str, value: &Value, why: impl Into<String>) -> Self {
        Self { field: field.to_owned(), value: value.clone(), why: why.into() }
    }
}

impl Schema {
    pub(crate) fn parse(json: &Value) -> Result<Self, SchemaError> {
        parse(json, "")
    }
}

fn parse(json: &Value, at: &str) -> Result<Schema, SchemaError> {
    if !json.is_object() {
        return Err(SchemaError::new(at, json, "must be a schema"));
    }
    let flag = |name: &str| json[name] == true;
    let mut properties = std::collections::BTreeMap::new();
    for (name, property) in json["properties"].as_object().into_iter().flatten() {
        properties.insert(name.clone(), parse(property, &format!("{at}.properties[{name}]"))?);
    }
    let items = json.get("items").filter(|items| items.is_object());
    let items =
        items.map(|items| parse(items, &format!("{at}.items")).map(Box::new)).transpose()?;
    Ok(Schema {
        kind: kind(json, at)?,
        nullable: flag("nullable"),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        atomic_map: json["x-kubernetes-map-type"] == "atomic",
        properties,
        additional: additional(json, at)?,
        items,
        list_type: list_type(json, at)?,
        default: json.get("default").filter(|value| !value.is_null()).cloned().map(Box::new),
        limits: limits(json, at)?.map(Box::new),
    })
}

fn kind(json: &Value, at: &str) -> Result<Kind, SchemaError> {
    if json["x-kubernetes-int-or-string"] == true {
        return Ok(Kind::IntOrString);
    }
    match &json["type"] {
        Value::Null => Ok(Kind::Any),
        Value::String(name) => match name.as_str() {
            "" => Ok(Kind::Any),
            "object" => Ok(Kind::Object),
            "array" => Ok(Kind::Array),
            "string" => Ok(Kind::String),
            "integer" => Ok(Kind::Integer),
            "number" => Ok(Kind::Number),
            "boolean" => Ok(Kind::Boolean),
            _ => Err(SchemaError::new(&format!("{at}.type"), &json["type"], "unknown type")),
        },
        other => Err(SchemaError::new(&format!("{at}.type"), other, "must be a string")),
    }
}

fn additional(json: &Value, at: &str) -> Result<Additional, SchemaError> {
    match &json["additionalProperties"] {
        Value::Bool(true) => Ok(Additional::Anything),
        schema @ Value::Object(_) => {
            let schema = parse(schema, &format!("{at}.additionalProperties"))?;
            Ok(Additional::Like(Box::new(schema)))
        }
        _ => Ok(Additional::Absent),
    }
}

fn list_type(json: &Value, at: &str) -> Result<ListType, SchemaError> {
    match json["x-kubernetes-list-type"].as_str() {
        None | Some("atomic") => Ok(ListType::Atomic),
        Some("set") => Ok(ListType::Set),
        Some("map") => Ok(ListType::Map(strings(&json["x-kubernetes-list-map-keys"]))),
        Some(_) => Err(SchemaError::new(
            &format!("{at}.x-kubernetes-list-type"),
            &json["x-kubernetes-list-type"],
            "must be one of atomic, set, map",
        )),
    }
}

fn limits(json: &Value, at: &str) -> Result<Option<Limits>, SchemaError> {
    const NAMES: &[&str] = &[
        "required",
        "enum",
        "format",
        "pattern",
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
    ];
    if !NAMES.iter().any(|name| json.get(name).is_some()) {
        return Ok(None);
    }
    let number = |name: &str| json[name].as_u64();
    let bound = |name: &str, exclusive: &str| {
        json[name].as_f64().map(|at| Bound { at, exclusive: json[exclusive] == true })
    };
    let schemas = |name: &str| -> Result<Vec<Schema>, SchemaError> {
        let list = json[name].as_array().into_iter().flatten().enumerate();
        list.map(|(index, schema)| parse(schema, &format!("{at}.{name}[{index}]"))).collect()
    };
    let not = json.get("not").filter(|not| not.is_object());
    Ok(Some(Limits {
        required: strings(&json["required"]),
        one_value_of: json["enum"].as_array().cloned().unwrap_or_default(),
        format: json["format"].as_str().map(str::to_owned),
        pattern: json["pattern"].as_str().map(|text| pattern(text, at)).transpose()?,
        minimum: bound("minimum", "exclusiveMinimum"),
        maximum: bound("maximum", "exclusiveMaximum"),
        multiple_of: json["multipleOf"].as_f64(),
        min_length: number("minLength"),
        max_length: number("maxLength"),
        min_items: number("minItems"),
        max_items: number("maxItems"),
        min_properties: number("minProperties"),
        max_properties: number("maxProperties"),
        all_of: schemas("allOf")?,
        any_of: schemas("anyOf")?,
        one_of: schemas("oneOf")?,
        not: not.map(|not| parse(not, &format!("{at}.not"))).transpose()?,
    }))
}

/// Compiles a pattern once for all nodes that have it.
fn pattern(text: &str, at: &str) -> Result<Arc<Regex>, SchemaError> {
    static COMPILED: LazyLock<Mutex<HashMap<String, Weak<Regex>>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock();
    if let Some(regex) = compiled.get(text).and_then(Weak::upgrade) {
        return Ok(regex);
    }
    let regex = Regex::new(text).map_err(|error| {
        SchemaError::new(&format!("{at}.pattern"), &text.into(), error.to_string())
    })?;
    let regex = Arc::new(regex);
    compiled.insert(text.to_owned(), Arc::downgrade(&regex));
    Ok(regex)
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}
