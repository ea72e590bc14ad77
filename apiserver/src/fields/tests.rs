use serde_json::{Value, json};

use super::{FieldSet, Typed, difference};
use crate::schema::Schema;

fn schema() -> Schema {
    Schema::parse(&json!({"type": "object", "properties": {
        "keyed": {"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        "set": {"type": "array", "x-kubernetes-list-type": "set"},
        "plain": {"type": "array"},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic"},
    }}))
    .unwrap()
}

fn set(value: &Value) -> Value {
    FieldSet::of(value, Typed::Schema(&schema())).to_json()
}

#[test]
fn a_set_is_written_the_way_upstream_does() {
    let value = json!({"keyed": [{"name": "a", "x": 1}], "set": ["s"], "plain": [1, 2],
                       "whole": {"k": 1}, "other": {"a": {"b": 1}, "empty": {}}});
    assert_eq!(
        set(&value),
        json!({
            "f:keyed": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:x": {}}},
            "f:set": {"v:\"s\"": {}},
            "f:plain": {},
            "f:whole": {},
            "f:other": {"f:a": {"f:b": {}}, "f:empty": {}},
        })
    );
}

#[test]
fn a_set_survives_being_written_and_read() {
    let value = json!({"keyed": [{"name": "a"}, {"name": "b", "x": {}}], "set": [1, 2]});
    let set = FieldSet::of(&value, Typed::Schema(&schema()));
    assert_eq!(FieldSet::from_json(&set.to_json()), set);
}

#[test]
fn elements_that_cannot_be_told_apart_are_one_value() {
    assert_eq!(set(&json!({"keyed": [{"x": 1}]})), json!({"f:keyed": {}}));
    let twice = json!({"keyed": [{"name": "a"}, {"name": "a"}]});
    assert_eq!(set(&twice), json!({"f:keyed": {}}));
}

#[test]
fn a_difference_names_what_was_set_and_what_was_removed() {
    let schema = schema();
    let old = json!({"keyed": [{"name": "a", "x": 1}, {"name": "b"}], "gone": 1, "same": 1});
    let new = json!({"keyed": [{"name": "a", "x": 2}, {"name": "c"}], "new": 1, "same": 1});
    let found = difference(Some(&old), Some(&new), Typed::Schema(&schema));
    assert_eq!(
        found.set.paths(),
        [".keyed[name=\"a\"].x", ".keyed[name=\"c\"]", ".keyed[name=\"c\"].name", ".new"]
    );
    assert_eq!(found.removed.paths(), [".gone", ".keyed[name=\"b\"]", ".keyed[name=\"b\"].name"]);
    let nothing = difference(Some(&old), Some(&old), Typed::Schema(&schema));
    assert!(nothing.set.is_empty() && nothing.removed.is_empty());
}

#[test]
fn sets_are_joined_cut_and_compared_member_by_member() {
    let of = |json: Value| FieldSet::from_json(&json);
    let mut set = of(json!({"f:a": {"f:b": {}, "f:c": {}}}));
    set.union(&of(json!({"f:a": {"f:d": {}}, "f:e": {}})));
    assert_eq!(set.paths(), [".a.b", ".a.c", ".a.d", ".e"]);
    set.subtract(&of(json!({"f:a": {"f:b": {}, "f:c": {}, "f:d": {}}})));
    assert_eq!(set.paths(), [".e"]);
    let both =
        of(json!({"f:x": {".": {}, "f:y": {}}})).intersection(&of(json!({"f:x": {"f:y": {}}})));
    assert_eq!(both.paths(), [".x.y"]);
}
