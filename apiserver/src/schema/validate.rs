//! Everything that is wrong with a value, in the words of upstream.

use serde_json::Value;

use super::prune::join;
use super::{Additional, Kind, Limits, ListType, Schema, format, is_server_field};
use crate::status::Cause;

/// More than this helps nobody.
const MOST_CAUSES: usize = 50;

impl Schema {
    /// What is wrong with an object of this kind; empty when nothing is.
    pub(crate) fn validate(&self, object: &Value) -> Vec<Cause> {
        let mut causes = vec![];
        self.check(object, "", true, &mut causes);
        causes.truncate(MOST_CAUSES);
        causes
    }

    fn check(&self, value: &Value, at: &str, is_resource: bool, causes: &mut Vec<Cause>) {
        if value.is_null() && self.nullable {
            return;
        }
        if !self.has_kind(value) {
            causes.push(Cause::type_invalid(shown(at), type_name(value), self.kind_name()));
            return;
        }
        let is_resource = is_resource || self.embedded;
        match value {
            Value::Object(map) => {
                for (name, field) in map {
                    if is_resource && is_server_field(name) {
                        continue;
                    }
                    if let Some(property) = self.properties.get(name) {
                        property.check(field, &join(at, name), false, causes);
                    } else if let Additional::Like(schema) = &self.additional {
                        schema.check(field, &join(at, name), false, causes);
                    }
                }
            }
            Value::Array(list) => {
                if let Some(items) = &self.items {
                    for (index, item) in list.iter().enumerate() {
                        items.check(item, &format!("{at}[{index}]"), false, causes);
                    }
                }
                self.check_duplicates(list, at, causes);
            }
            _ => {}
        }
        if let Some(limits) = &self.limits {
            limits.check(value, at, is_resource, causes);
        }
    }

    fn has_kind(&self, value: &Value) -> bool {
        match self.kind {
            Kind::Any => !value.is_null() || self.preserve_unknown,
            Kind::Object => value.is_object(),
            Kind::Array => value.is_array(),
            Kind::String => value.is_string(),
            Kind::Integer => is_integer(value),
            Kind::Number => value.is_number(),
            Kind::Boolean => value.is_boolean(),
            Kind::IntOrString => is_integer(value) || value.is_string(),
        }
    }

    fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Any => "any",
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
            Kind::IntOrString => "integer,string",
        }
    }

    fn check_duplicates(&self, list: &[Value], at: &str, causes: &mut Vec<Cause>) {
        let identity = |item: &Value| -> Option<Value> {
            match &self.list_type {
                ListType::Atomic => None,
                ListType::Set => Some(item.clone()),
                ListType::Map(keys) => {
                    Some(keys.iter().map(|key| (key.clone(), item[key].clone())).collect())
                }
            }
        };
        let mut seen = std::collections::HashSet::new();
        for (index, item) in list.iter().enumerate() {
            let Some(identity) = identity(item) else { return };
            if !seen.insert(identity.to_string()) {
                causes.push(Cause {
                    reason: "FieldValueDuplicate",
                    field: format!("{at}[{index}]"),
                    message: format!("Duplicate value: {identity}"),
                });
            }
        }
    }

    /// Whether a branch of `anyOf` and the like holds.
    fn holds(&self, value: &Value, is_resource: bool) -> bool {
        let mut causes = vec![];
        self.check(value, "", is_resource, &mut causes);
        causes.is_empty()
    }
}

impl Limits {
    fn check(&self, value: &Value, at: &str, is_resource: bool, causes: &mut Vec<Cause>) {
        match value {
            Value::Object(map) => {
                for name in &self.required {
                    if !map.contains_key(name) {
                        causes.push(Cause::required(join(at, name)));
                    }
                }
                let count = map.len() as u64;
                self.check_count(
                    count,
                    self.min_properties,
                    self.max_properties,
                    "properties",
                    at,
                    causes,
                );
            }
            Value::Array(list) => {
                let count = list.len() as u64;
                self.check_count(count, self.min_items, self.max_items, "items", at, causes);
            }
            Value::String(text) => self.check_text(text, at, causes),
            Value::Number(_) => self.check_number(value, at, causes),
            Value::Null | Value::Bool(_) => {}
        }
        if !self.one_value_of.is_empty() && !self.one_value_of.contains(value) {
            causes.push(Cause::not_supported(shown(at), value, &self.one_value_of));
        }
        self.check_branches(value, at, is_resource, causes);
    }

    fn check_count(
        &self,
        count: u64,
        least: Option<u64>,
        most: Option<u64>,
        what: &str,
        at: &str,
        causes: &mut Vec<Cause>,
    ) {
        if let Some(least) = least.filter(|least| count < *least) {
            let why = format!("{at} in body should have at least {least} {what}");
            causes.push(Cause::invalid(shown(at), &count.into(), why));
        }
        if let Some(most) = most.filter(|most| count > *most) {
            causes.push(Cause::too_many(shown(at), count, most));
        }
    }

    fn check_text(&self, text: &str, at: &str, causes: &mut Vec<Cause>) {
        let value = Value::from(text);
        let length = text.chars().count() as u64;
        if let Some(least) = self.min_length.filter(|least| length < *least) {
            let why = format!("{at} in body should be at least {least} chars long");
            causes.push(Cause::invalid(shown(at), &value, why));
        }
        if let Some(most) = self.max_length.filter(|most| length > *most) {
            causes.push(Cause::too_long(shown(at), most));
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            let why = format!("{at} in body should match '{}'", pattern.as_str());
            causes.push(Cause::invalid(shown(at), &value, why));
        }
        if let Some(format) = self.format.as_ref().filter(|name| !format::holds(name, text)) {
            let why = format!("{at} in body must be of type {format}: {value}");
            let cause = Cause::invalid(shown(at), &value, why);
            causes.push(Cause { reason: "FieldValueTypeInvalid", ..cause });
        }
    }

    fn check_number(&self, value: &Value, at: &str, causes: &mut Vec<Cause>) {
        let Some(number) = value.as_f64() else { return };
        let mut refuse = |why: String| causes.push(Cause::invalid(shown(at), value, why));
        if let Some(bound) = self.minimum {
            let (ok, words) = if bound.exclusive {
                (number > bound.at, "greater than")
            } else {
                (number >= bound.at, "greater than or equal to")
            };
            if !ok {
                refuse(format!("{at} in body should be {words} {}", bound.at));
            }
        }
        if let Some(bound) = self.maximum {
            let (ok, words) = if bound.exclusive {
                (number < bound.at, "less than")
            } else {
                (number <= bound.at, "less than or equal to")
            };
            if !ok {
                refuse(format!("{at} in body should be {words} {}", bound.at));
            }
        }
        if let Some(factor) = self.multiple_of {
            let quotient = number / factor;
            if (quotient - quotient.round()).abs() > 1e-9 {
                refuse(format!("{at} in body should be a multiple of {factor}"));
            }
        }
        if self.format.as_deref() == Some("int32") {
            let range = f64::from(i32::MIN)..=f64::from(i32::MAX);
            if !range.contains(&number) {
                refuse(format!("{at} in body must be of type int32"));
            }
        }
    }

    fn check_branches(&self, value: &Value, at: &str, is_resource: bool, causes: &mut Vec<Cause>) {
        for branch in &self.all_of {
            branch.check(value, at, is_resource, causes);
        }
        let mut refuse = |words: &str| {
            let why = format!("{} in body must validate {words}", shown(at));
            causes.push(Cause::invalid(shown(at), &Value::from(type_name(value)), why));
        };
        let holding = |branches: &[Schema]| {
            branches.iter().filter(|branch| branch.holds(value, is_resource)).count()
        };
        if !self.any_of.is_empty() && holding(&self.any_of) == 0 {
            refuse("at least one schema (anyOf)");
        }
        if !self.one_of.is_empty() {
            match holding(&self.one_of) {
                1 => {}
                0 => refuse("one and only one schema (oneOf). Found none valid"),
                found => refuse(&format!(
                    "one and only one schema (oneOf). Found {found} valid alternatives"
                )),
            }
        }
        if self.not.as_ref().is_some_and(|branch| branch.holds(value, is_resource)) {
            refuse("the schema of not in the negative");
        }
    }
}

/// The object as a whole has no path.
fn shown(at: &str) -> String {
    if at.is_empty() { "<nil>".to_owned() } else { at.to_owned() }
}

fn is_integer(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            number.is_i64()
                || number.is_u64()
                || number.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        _ => false,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
