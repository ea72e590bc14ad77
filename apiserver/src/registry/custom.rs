//! CustomResourceDefinitions: what one defines, and the rules for a definition itself.
//!
//! A definition is established in the same write that stores it, because nothing here has to be
//! built first. What it asks for and this server does not do is said in its conditions, in the
//! words of upstream where upstream has them: conversion webhooks are refused, and validation
//! rules in CEL that are stored but not run show as `NonEnforcedRules`.

use std::cmp::Reverse;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Form, Resource, Strategy};
use crate::object;
use crate::scale::ScalePaths;
use crate::schema::Schema;
use crate::status::Cause;
use crate::store::Collection;
use crate::table::custom_columns;

/// Keeps a definition until its objects are gone.
pub(crate) const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Condition of a definition with rules that are stored but not run.
const UNENFORCED: &str = "NonEnforcedRules";

/// The resources of a definition, one per served version. A definition whose names are not
/// accepted serves nothing.
pub(super) fn resources(definition: &Value) -> Vec<Resource> {
    let established = condition(definition, "Established") == Some("True");
    let versions = definition["spec"]["versions"].as_array();
    let versions: Vec<&Value> = versions.into_iter().flatten().collect();
    let served = versions.iter().filter(|version| version["served"] == true && established);
    let form = if versions.len() > 1 { Form::Renamed } else { Form::AsStored };
    served.filter_map(|version| resource(definition, version, form)).collect()
}

fn resource(definition: &Value, version: &Value, form: Form) -> Option<Resource> {
    let spec = &definition["spec"];
    let names = &spec["names"];
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(text).collect()
    };
    let (group, plural, kind) =
        (text(&spec["group"]), text(&names["plural"]), text(&names["kind"]));
    let schema = &version["schema"]["openAPIV3Schema"];
    let schema = schema.is_object().then(|| Schema::parse(schema)).transpose();
    let schema = schema
        .inspect_err(|error| {
            tracing::error!(definition = object::name(definition), %error, "A stored schema does not parse");
        })
        .ok()?;
    let deprecation = (version["deprecated"] == true).then(|| {
        version["deprecationWarning"].as_str().map_or_else(
            || format!("{group}/{} {kind} is deprecated", text(&version["name"])),
            str::to_owned,
        )
    });
    Some(Resource {
        version: text(&version["name"]),
        list_kind: text(&names["listKind"]),
        singular: text(&names["singular"]),
        short_names: list(&names["shortNames"]),
        categories: list(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        has_status: version["subresources"]["status"].is_object(),
        scale: ScalePaths::parse(version),
        counts_generations: true,
        collection: Collection::new(&group, &plural),
        form,
        strategy: Strategy::Custom,
        columns: custom_columns(&version["additionalPrinterColumns"]),
        schema: schema.map(Arc::new),
        deprecation,
        group,
        kind,
        plural,
    })
}

fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = definition["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

/// How versions are ranked: `v2` before `v1` before `v1beta2` before `v1alpha1` before the rest.
/// Greater is preferred.
pub(super) fn version_order(version: &str) -> (u8, u32, u32, Reverse<String>) {
    parse_version(version).map_or_else(
        || (0, 0, 0, Reverse(version.to_owned())),
        |(level, major, minor)| (level, major, minor, Reverse(String::new())),
    )
}

fn parse_version(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().ok()?;
    let suffix = &rest[digits..];
    for (name, level) in [("alpha", 1), ("beta", 2)] {
        if let Some(minor) = suffix.strip_prefix(name) {
            return Some((level, major, minor.parse().ok()?));
        }
    }
    suffix.is_empty().then_some((3, major, 0))
}

/// Fills in the names that follow from others, and the conversion strategy.
pub(crate) fn defaulted_names(definition: &mut Value) {
    let spec = &mut definition["spec"];
    let kind = spec["names"]["kind"].as_str().unwrap_or("").to_owned();
    let fill = |place: &mut Value, value: String| {
        if place.as_str().is_none_or(str::is_empty) {
            *place = value.into();
        }
    };
    if let Some(names) = spec.get_mut("names").filter(|names| names.is_object()) {
        fill(&mut names["singular"], kind.to_lowercase());
        fill(&mut names["listKind"], format!("{kind}List"));
    }
    if spec.is_object() && spec["conversion"].is_null() {
        spec["conversion"] = json!({"strategy": "None"});
    }
}

/// What is wrong with a definition, `others` being all definitions in the store.
pub(crate) fn validate(definition: &Value, previous: Option<&Value>) -> Vec<Cause> {
    let mut causes = vec![];
    let spec = &definition["spec"];
    let group = spec["group"].as_str().unwrap_or("");
    let plural = spec["names"]["plural"].as_str().unwrap_or("");
    for (field, value) in [
        ("spec.group", group),
        ("spec.names.plural", plural),
        ("spec.names.kind", spec["names"]["kind"].as_str().unwrap_or("")),
    ] {
        if value.is_empty() {
            causes.push(Cause::required(field));
        }
    }
    let name = object::name(definition);
    if causes.is_empty() && name != format!("{plural}.{group}") {
        let why = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &name.into(), why));
    }
    if !group.is_empty() && !group.contains('.') {
        let why = "should be a domain with at least one dot";
        causes.push(Cause::invalid("spec.group", &group.into(), why));
    }
    match spec["scope"].as_str() {
        Some("Namespaced" | "Cluster") => {}
        None => causes.push(Cause::required("spec.scope")),
        Some(_) => causes.push(Cause::not_supported(
            "spec.scope",
            &spec["scope"],
            &[json!("Cluster"), json!("Namespaced")],
        )),
    }
    if let Some(previous) = previous {
        for field in ["group", "scope"] {
            if previous["spec"][field] != spec[field] {
                let why = "field is immutable";
                causes.push(Cause::invalid(format!("spec.{field}"), &spec[field], why));
            }
        }
    }
    if spec["conversion"]["strategy"] == "Webhook" {
        let why = "this server has no conversion webhooks, only the strategy None";
        causes.push(Cause::forbidden("spec.conversion.strategy", why));
    }
    validate_versions(&spec["versions"], &mut causes);
    causes
}

fn validate_versions(versions: &Value, causes: &mut Vec<Cause>) {
    let Some(versions) = versions.as_array().filter(|list| !list.is_empty()) else {
        causes.push(Cause::required("spec.versions"));
        return;
    };
    let storage = versions.iter().filter(|version| version["storage"] == true).count();
    if storage != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &json!(storage), why));
    }
    for (at, version) in versions.iter().enumerate() {
        let field = format!("spec.versions[{at}]");
        if version["name"].as_str().is_none_or(str::is_empty) {
            causes.push(Cause::required(format!("{field}.name")));
        }
        let schema = &version["schema"]["openAPIV3Schema"];
        if !schema.is_object() {
            causes.push(Cause {
                message: "Required value: schemas are required".to_owned(),
                ..Cause::required(format!("{field}.schema.openAPIV3Schema"))
            });
        } else if let Err(error) = Schema::parse(schema) {
            let place = format!("{field}.schema.openAPIV3Schema{}", error.field);
            causes.push(Cause::invalid(place, &error.value, error.why));
        }
    }
}

/// Sets the status of a definition that is being stored: names, versions, conditions.
pub(crate) fn settle_status<'a>(definition: &mut Value, others: impl Iterator<Item = &'a Value>) {
    let conflict = name_conflict(definition, others);
    let accepted = conflict.is_none();
    let names = if accepted {
        definition["spec"]["names"].clone()
    } else {
        json!({"plural": "", "kind": ""})
    };
    let was_established = condition(definition, "Established") == Some("True");
    let mut stored = definition["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
    let versions = definition["spec"]["versions"].as_array().cloned().unwrap_or_default();
    for version in versions.iter().filter(|version| version["storage"] == true) {
        if !stored.contains(&version["name"]) {
            stored.push(version["name"].clone());
        }
    }
    let before = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let mut conditions = vec![];
    match &conflict {
        None => {
            conditions.push((
                "NamesAccepted",
                "True",
                "NoConflicts",
                "no conflicts found".to_owned(),
            ));
            conditions.push((
                "Established",
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted".to_owned(),
            ));
        }
        Some(conflict) => {
            conditions.push(("NamesAccepted", "False", "NameConflict", conflict.clone()));
            if was_established {
                conditions.push((
                    "Established",
                    "True",
                    "InitialNamesAccepted",
                    "the initial names have been accepted".to_owned(),
                ));
            } else {
                let why = "not all names are accepted".to_owned();
                conditions.push(("Established", "False", "NotAccepted", why));
            }
        }
    }
    if let Some(why) = unenforced(&versions) {
        conditions.push((UNENFORCED, "True", "NotSupported", why));
    }
    let conditions: Vec<Value> = conditions
        .into_iter()
        .map(|(kind, status, reason, message)| {
            let same = before.iter().find(|old| old["type"] == kind && old["status"] == status);
            let since =
                same.map_or_else(|| object::now().into(), |old| old["lastTransitionTime"].clone());
            json!({"type": kind, "status": status, "lastTransitionTime": since,
                   "reason": reason, "message": message})
        })
        .collect();
    definition["status"] =
        json!({"conditions": conditions, "acceptedNames": names, "storedVersions": stored});
}

/// What its condition says about rules of a definition that are not run.
pub(crate) fn unenforced_rules(definition: &Value) -> Option<&str> {
    let conditions = definition["status"]["conditions"].as_array()?;
    let condition = conditions.iter().find(|condition| condition["type"] == UNENFORCED)?;
    condition["message"].as_str()
}

/// The rules that will not be run, in words; `None` when there are none.
fn unenforced(versions: &[Value]) -> Option<String> {
    fn rules(schema: &Value) -> usize {
        match schema {
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| match (key.as_str(), value) {
                    ("x-kubernetes-validations", Value::Array(rules)) => rules.len(),
                    ("default" | "enum" | "example", _) => 0,
                    (_, value) => rules(value),
                })
                .sum(),
            Value::Array(list) => list.iter().map(rules).sum(),
            _ => 0,
        }
    }
    let count: usize = versions.iter().map(|version| rules(&version["schema"])).sum();
    (count > 0).then(|| {
        format!("x-kubernetes-validations: {count} rules in CEL are stored but not enforced")
    })
}

/// Another definition of the group that already has one of the names.
fn name_conflict<'a>(
    definition: &Value,
    mut others: impl Iterator<Item = &'a Value>,
) -> Option<String> {
    let spec = &definition["spec"];
    let kinds = |spec: &Value| [spec["names"]["kind"].clone(), spec["names"]["listKind"].clone()];
    let words = |spec: &Value| -> Vec<Value> {
        let names = &spec["names"];
        let mut words = vec![names["plural"].clone(), names["singular"].clone()];
        words.extend(names["shortNames"].as_array().into_iter().flatten().cloned());
        words
    };
    others.find_map(|other| {
        let theirs = &other["spec"];
        let is_other =
            theirs["group"] == spec["group"] && object::name(other) != object::name(definition);
        if !is_other || condition(other, "NamesAccepted") != Some("True") {
            return None;
        }
        let kind = kinds(spec).into_iter().find(|kind| kinds(theirs).contains(kind));
        let word = words(spec).into_iter().find(|word| words(theirs).contains(word));
        kind.or(word).map(|name| format!("{name} is already in use"))
    })
}

#[cfg(test)]
mod tests;
