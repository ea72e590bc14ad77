//! What the server itself relies on in built-in kinds, and the few defaults clients count on.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Part;
use crate::object;
use crate::registry::{self, Strategy};
use crate::status::Cause;
use crate::store::View;

pub(super) fn prepare_create(strategy: Strategy, view: &View<'_>, object: &mut Value) {
    match strategy {
        Strategy::Namespace => {
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
            label_with_name(object);
        }
        Strategy::Secret => fold_string_data(object),
        Strategy::Pod | Strategy::PersistentVolume | Strategy::PersistentVolumeClaim => {
            object["status"] = json!({"phase": "Pending"});
        }
        Strategy::Service => {
            let spec = &mut object["spec"];
            default(spec, "type", || "ClusterIP".into());
            default(spec, "sessionAffinity", || "None".into());
            for port in spec["ports"].as_array_mut().into_iter().flatten() {
                default(port, "protocol", || "TCP".into());
                let target = port["port"].clone();
                default(port, "targetPort", || target);
            }
            object["status"] = json!({"loadBalancer": {}});
        }
        Strategy::Definition => {
            registry::defaulted_names(object);
            object::add_finalizer(object, registry::CLEANUP_FINALIZER);
            settle_definition(view, object);
        }
        Strategy::Plain
        | Strategy::Role
        | Strategy::Node
        | Strategy::CreateOnUpdate
        | Strategy::Lease
        | Strategy::Custom
        | Strategy::Review => {}
    }
}

pub(super) fn prepare_update(
    strategy: Strategy,
    view: &View<'_>,
    current: &Value,
    object: &mut Value,
    part: Part,
) {
    match strategy {
        Strategy::Namespace if part != Part::Finalize => {
            object["spec"] = current["spec"].clone();
            label_with_name(object);
        }
        Strategy::Secret => fold_string_data(object),
        Strategy::Definition if part == Part::Main => {
            registry::defaulted_names(object);
            settle_definition(view, object);
        }
        _ => {}
    }
}

pub(super) fn prepare_deletion(strategy: Strategy, object: &mut Value) {
    if strategy == Strategy::Namespace {
        object::metadata_mut(object).shift_remove("deletionGracePeriodSeconds");
        object["status"]["phase"] = "Terminating".into();
    }
}

pub(super) fn validate(strategy: Strategy, object: &Value, previous: Option<&Value>) -> Vec<Cause> {
    let mut causes = vec![];
    match strategy {
        Strategy::Definition => causes.extend(registry::validate(object, previous)),
        Strategy::Secret => {
            for (key, value) in object["data"].as_object().into_iter().flatten() {
                let decodes = value.is_null()
                    || value.as_str().is_some_and(|text| STANDARD.decode(text).is_ok());
                if !decodes {
                    let why = "must be base64";
                    causes.push(Cause::invalid(format!("data[{key}]"), value, why));
                }
            }
            let before = previous.map_or(&Value::Null, |previous| &previous["type"]);
            if !before.is_null() && *before != object["type"] {
                causes.push(Cause::invalid("type", &object["type"], "field is immutable"));
            }
        }
        _ => {}
    }
    let is_immutable = previous.is_some_and(|previous| previous["immutable"] == true);
    if let Some(previous) = previous.filter(|_| is_immutable && strategy != Strategy::Custom) {
        for field in ["data", "binaryData", "immutable"] {
            if previous[field] != object[field] {
                let why = "field is immutable when `immutable` is set";
                causes.push(Cause::forbidden(field, why));
            }
        }
    }
    causes
}

fn default(object: &mut Value, field: &str, value: impl FnOnce() -> Value) {
    if object[field].is_null() {
        object[field] = value();
    }
}

fn settle_definition(view: &View<'_>, object: &mut Value) {
    let others: Vec<Value> =
        view.list(&registry::definitions()).iter().map(|stored| stored.value()).collect();
    registry::settle_status(object, others.iter());
}

fn label_with_name(namespace: &mut Value) {
    let name = object::name(namespace).to_owned();
    let labels = object::metadata_mut(namespace)
        .entry("labels")
        .or_insert_with(|| Value::Object(Map::new()));
    if labels.is_null() {
        *labels = Value::Object(Map::new());
    }
    if let Some(labels) = labels.as_object_mut() {
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
    }
}

/// `stringData` is for writing only: its entries are stored, encoded, under `data`.
fn fold_string_data(secret: &mut Value) {
    if let Some(Value::Object(plain)) =
        secret.as_object_mut().and_then(|secret| secret.shift_remove("stringData"))
    {
        for (key, value) in plain {
            secret["data"][key] = STANDARD.encode(value.as_str().unwrap_or("")).into();
        }
    }
    default(secret, "type", || "Opaque".into());
}
