//! Filling in what was left out.

use serde_json::Value;

use super::{Additional, Schema};

impl Schema {
    /// Adds the default of every property that is missing, and inside what was added. A `null`
    /// where the schema allows none counts as missing, and goes where there is no default either.
    pub(crate) fn fill_defaults(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (name, property) in &self.properties {
                    let missing = match map.get(name) {
                        None => true,
                        Some(Value::Null) => !property.nullable,
                        Some(_) => false,
                    };
                    match &property.default {
                        Some(default) if missing => {
                            map.insert(name.clone(), (**default).clone());
                        }
                        None if missing => drop(map.shift_remove(name)),
                        _ => {}
                    }
                    if let Some(field) = map.get_mut(name) {
                        property.fill_defaults(field);
                    }
                }
                if let Additional::Like(schema) = &self.additional {
                    map.retain(|name, field| {
                        schema.nullable || !field.is_null() || self.properties.contains_key(name)
                    });
                    for (name, field) in map.iter_mut() {
                        if !self.properties.contains_key(name) {
                            schema.fill_defaults(field);
                        }
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = &self.items else { return };
                for item in list {
                    items.fill_defaults(item);
                }
            }
            _ => {}
        }
    }
}
