use serde_json::{Value, json};

use super::{merge, remove};
use crate::fields::{FieldSet, Typed};
use crate::schema::Schema;

fn schema() -> Schema {
    Schema::parse(&json!({"type": "object", "properties": {
        "keyed": {"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object"}},
        "set": {"type": "array", "x-kubernetes-list-type": "set"},
    }}))
    .unwrap()
}

fn merged(mut target: Value, applied: &Value) -> Value {
    merge(&mut target, applied, Typed::Schema(&schema()));
    target
}

/// What is left of `value` after `given_up` was, while `others` hold theirs.
fn left(mut value: Value, given_up: &Value, others: &Value) -> Value {
    let schema = schema();
    let set = |value: &Value| FieldSet::of(value, Typed::Schema(&schema));
    remove(&mut value, &set(given_up), &FieldSet::default(), &set(others), Typed::Schema(&schema));
    value
}

#[test]
fn keyed_elements_are_merged_sets_united_and_other_lists_replaced() {
    let target = json!({"keyed": [{"name": "a", "x": 1, "y": 1}], "set": [1], "list": [1]});
    let applied = json!({"keyed": [{"name": "b"}, {"name": "a", "x": 2}], "set": [2], "list": [2]});
    assert_eq!(
        merged(target, &applied),
        json!({"keyed": [{"name": "a", "x": 2, "y": 1}, {"name": "b"}], "set": [1, 2], "list": [2]})
    );
}

#[test]
fn what_nobody_wants_goes_with_the_containers_it_empties() {
    let value = json!({"a": {"b": {"c": 1}}, "keep": 1});
    assert_eq!(left(value, &json!({"a": {"b": {"c": 1}}}), &json!({})), json!({"keep": 1}));
}

#[test]
fn what_another_holds_stays() {
    let value = json!({"a": {"mine": 1, "theirs": 1}, "shared": 1});
    let given_up = json!({"a": {"mine": 1}, "shared": 1});
    let others = json!({"a": {"theirs": 1}, "shared": 1});
    assert_eq!(left(value, &given_up, &others), json!({"a": {"theirs": 1}, "shared": 1}));
}

#[test]
fn an_element_goes_as_a_whole_or_only_in_part() {
    let value =
        json!({"keyed": [{"name": "a", "x": 1}, {"name": "b", "x": 1, "y": 1}], "set": [1, 2]});
    let given_up = json!({"keyed": [{"name": "a", "x": 1}, {"name": "b", "x": 1}], "set": [1]});
    let others = json!({"keyed": [{"name": "b", "y": 1}]});
    assert_eq!(
        left(value, &given_up, &others),
        json!({"keyed": [{"name": "b", "y": 1}], "set": [2]})
    );
}
