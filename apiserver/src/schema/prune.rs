//! Removing what a schema does not know.

use serde_json::Value;

use super::{Additional, Schema, is_server_field};

impl Schema {
    /// Removes unknown fields from an object of this kind and returns their paths, like
    /// `spec.template.nmae`.
    pub(crate) fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut unknown = vec![];
        self.prune_at(object, "", true, &mut unknown);
        unknown
    }

    fn prune_at(&self, value: &mut Value, at: &str, is_resource: bool, unknown: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                let is_resource = is_resource || self.embedded;
                map.retain(|name, field| {
                    if is_resource && is_server_field(name) {
                        return true;
                    }
                    let place = || join(at, name);
                    if let Some(property) = self.properties.get(name) {
                        property.prune_at(field, &place(), false, unknown);
                        return true;
                    }
                    match &self.additional {
                        Additional::Like(schema) => {
                            schema.prune_at(field, &place(), false, unknown);
                            true
                        }
                        Additional::Anything => true,
                        Additional::Absent if self.preserve_unknown => true,
                        Additional::Absent => {
                            unknown.push(place());
                            false
                        }
                    }
                });
            }
            Value::Array(list) => {
                let Some(items) = &self.items else { return };
                for (index, item) in list.iter_mut().enumerate() {
                    items.prune_at(item, &format!("{at}[{index}]"), false, unknown);
                }
            }
            _ => {}
        }
    }
}

pub(super) fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}
