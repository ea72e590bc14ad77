use serde_json::{Value, json};

use super::{Column, IncludeObject, builtin_columns, custom_columns, table};

fn cells(columns: &[Column], object: &Value) -> Vec<Value> {
    let objects = std::iter::once(object.clone());
    let table = table(columns, "v1", objects, IncludeObject::Metadata, &json!({}), true);
    let table: Value = serde_json::from_str(&table).unwrap();
    let names = table["columnDefinitions"].as_array().unwrap().len();
    let cells = table["rows"][0]["cells"].as_array().unwrap().clone();
    assert_eq!(cells.len(), names);
    cells
}

#[test]
fn numbers_stay_numbers_and_missing_values_are_null() {
    let columns = custom_columns(&json!([
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
        {"name": "IPs", "type": "string", "jsonPath": ".spec.ips"},
        {"name": "Gone", "type": "string", "jsonPath": ".spec.gone"},
        {"name": "Odd", "type": "string", "jsonPath": "..not[1:2]spoken"},
    ]));
    let object = json!({"metadata": {"name": "a"}, "spec": {"size": 3, "on": true, "ips": ["x"]}});
    assert_eq!(
        cells(&columns, &object),
        [json!("a"), json!(3), json!(true), json!("[\"x\"]"), Value::Null, Value::Null]
    );
}

#[test]
fn a_kind_without_columns_shows_name_and_age() {
    let columns = custom_columns(&Value::Null);
    let object = json!({"metadata": {"name": "a", "creationTimestamp": "2000-01-01T00:00:00Z"}});
    let cells = cells(&columns, &object);
    assert_eq!(cells[0], "a");
    assert!(cells[1].as_str().unwrap().ends_with('y'));
}

#[test]
fn a_row_carries_what_was_asked_for() {
    let columns = custom_columns(&Value::Null);
    let objects = [json!({"metadata": {"name": "a"}, "spec": {}})];
    let object = |include| {
        let objects = objects.iter().cloned();
        let table = table(&columns, "v1", objects, include, &json!({}), false);
        let mut table: Value = serde_json::from_str(&table).unwrap();
        assert_eq!(table["columnDefinitions"], Value::Null);
        table["rows"][0]["object"].take()
    };
    assert_eq!(object(IncludeObject::Nothing), Value::Null);
    assert_eq!(object(IncludeObject::Metadata)["kind"], "PartialObjectMetadata");
    assert_eq!(object(IncludeObject::Object), objects[0]);
}

#[test]
fn built_in_kinds_have_the_columns_people_know() {
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": ""}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}],
                   "nodeInfo": {"kubeletVersion": "v1"}}});
    let found = cells(&builtin_columns("", "Node"), &node);
    assert_eq!(found[1], "Ready,SchedulingDisabled");
    assert_eq!(found[2], "worker");
    let event = json!({"type": "Normal", "reason": "Started", "message": "It runs",
        "involvedObject": {"kind": "Pod", "name": "web"}});
    let found = cells(&builtin_columns("", "Event"), &event);
    assert_eq!(found[3], "pod/web");
    let secret = json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"a": "", "b": ""}});
    assert_eq!(cells(&builtin_columns("", "Secret"), &secret)[2], 2);
}
