//! `meta.k8s.io/v1` Tables: what `kubectl get` prints.
//!
//! A table has the columns of its kind and one row per object. Cells are made here, on the server,
//! so `kubectl` shows new kinds without knowing them. Dates become ages at the time of the answer.

mod age;
mod cells;
mod columns;
mod jsonpath;

use serde_json::{Value, json};

pub(crate) use self::columns::{builtin_columns, custom_columns};
pub(crate) use self::jsonpath::JsonPath;

/// One column of a kind.
#[derive(Debug)]
pub(crate) struct Column {
    name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    kind: String,
    format: String,
    description: String,
    /// Above 0: only with `-o wide`.
    priority: i64,
    source: Source,
}

/// Where the cells of a column come from.
#[derive(Debug)]
enum Source {
    Path(JsonPath),
    /// Made from several fields of a built-in kind.
    Made(fn(&Value) -> Value),
}

impl Column {
    fn definition(&self) -> Value {
        json!({
            "name": self.name,
            // Ages are text once they are printed.
            "type": if self.kind == "date" { "string" } else { &self.kind },
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }

    fn cell(&self, object: &Value) -> Value {
        let found = match &self.source {
            Source::Made(make) => return make(object),
            Source::Path(path) => path.find(object),
        };
        let Some(first) = found.first() else { return Value::Null };
        match self.kind.as_str() {
            "date" => first.as_str().map_or(Value::Null, |time| age::since(time).into()),
            "integer" | "number" | "boolean" if is_scalar(first) => (*first).clone(),
            _ => jsonpath::printed(&found).into(),
        }
    }
}

fn is_scalar(value: &Value) -> bool {
    value.is_number() || value.is_boolean()
}

/// What of each object travels along in its row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum IncludeObject {
    Nothing,
    Metadata,
    Object,
}

/// A table with a row for each of `objects`, under the metadata of their list, as JSON.
///
/// It is written row by row, so that a long list is never in memory as a whole but as text.
pub(crate) fn table(
    columns: &[Column],
    version: &str,
    objects: impl Iterator<Item = Value>,
    include: IncludeObject,
    metadata: &Value,
    with_columns: bool,
) -> String {
    let definitions: Vec<Value> = columns.iter().map(Column::definition).collect();
    let definitions = if with_columns { Value::Array(definitions) } else { Value::Null };
    let mut table = format!(
        r#"{{"kind":"Table","apiVersion":"meta.k8s.io/{version}","metadata":{metadata},"columnDefinitions":{definitions},"rows":["#
    );
    for (index, object) in objects.enumerate() {
        if index > 0 {
            table.push(',');
        }
        table.push_str(&row(columns, &object, include).to_string());
    }
    table.push_str("]}");
    table
}

fn row(columns: &[Column], object: &Value, include: IncludeObject) -> Value {
    let cells: Vec<Value> = columns.iter().map(|column| column.cell(object)).collect();
    match include {
        IncludeObject::Nothing => json!({"cells": cells}),
        IncludeObject::Metadata => json!({"cells": cells, "object": partial(object)}),
        IncludeObject::Object => json!({"cells": cells, "object": object}),
    }
}

/// The object without everything but its metadata.
pub(crate) fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

#[cfg(test)]
mod tests;
