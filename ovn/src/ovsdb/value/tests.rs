use serde_json::json;

use super::*;

fn value(json: serde_json::Value) -> Value {
    Value::from_json(json).unwrap()
}

#[test]
fn a_scalar_is_a_set_of_one_and_written_without_brackets() {
    assert_eq!(value(json!(["set", ["a"]])), value(json!("a")));
    assert_eq!(serde_json::to_value(Value::from("a")).unwrap(), json!("a"));
    assert_eq!(serde_json::to_value(Value::EMPTY).unwrap(), json!(["set", []]));
}

#[test]
fn sets_and_maps_are_equal_whatever_their_order_on_the_wire() {
    assert_eq!(value(json!(["set", [3, 1, 2]])), value(json!(["set", [1, 2, 3, 3]])));
    assert_eq!(
        value(json!(["map", [["b", "2"], ["a", "1"]]])),
        Value::map([("a", "1"), ("b", "2")])
    );
}

#[test]
fn every_kind_of_atom_is_read_and_written_alike() {
    let uuid = "6e7f1c4e-0001-4aaa-8bbb-0123456789ab";
    for json in [json!(7), json!(-1), json!(1.5), json!(true), json!("x"), json!(["uuid", uuid])] {
        assert_eq!(serde_json::to_value(value(json.clone())).unwrap(), json);
    }
    assert_eq!(serde_json::to_value(Value::from(Named(4))).unwrap(), json!(["named-uuid", "row4"]));
}

#[test]
fn what_is_not_a_value_is_refused() {
    for json in [
        json!(null),
        json!({}),
        json!([]),
        json!(["set", 1]),
        json!(["map", [["a"]]]),
        json!(["uuid", "x"]),
        json!(["set", [["set", []]]]),
    ] {
        assert!(Value::from_json(json.clone()).is_err(), "{json}");
    }
}

#[test]
fn the_text_under_a_key_is_found_by_its_key_only() {
    let Value::Map(map) = value(json!(["map", [["b", "2"], ["a", "1"], ["c", "3"]]])) else {
        panic!("a map")
    };
    assert_eq!(
        ["a", "b", "c", "d", ""].map(|key| map.get(key)),
        [Some("1"), Some("2"), Some("3"), None, None]
    );
}

#[test]
fn a_difference_adds_what_is_missing_and_removes_what_is_there() {
    let mut set = value(json!(["set", [1, 2, 3]]));
    set.toggle(value(json!(["set", [2, 4]])));
    assert_eq!(set, value(json!(["set", [1, 3, 4]])));
    set.toggle(value(json!(4)));
    assert_eq!(set, value(json!(["set", [1, 3]])));

    let mut map = Value::map([("a", "1"), ("b", "2"), ("c", "3")]);
    map.toggle(Value::map([("a", "1"), ("b", "9"), ("d", "4")]));
    assert_eq!(map, Value::map([("b", "9"), ("c", "3"), ("d", "4")]));
}

#[test]
fn a_difference_of_the_other_shape_replaces_an_absent_value() {
    let mut value = Value::EMPTY;
    value.toggle(Value::map([("a", "1")]));
    assert_eq!(value, Value::map([("a", "1")]));
}

proptest::proptest! {
    #[test]
    fn a_difference_small_or_large_is_the_symmetric_one(
        old in proptest::collection::btree_set(0_i64..60, 0..40),
        delta in proptest::collection::btree_set(0_i64..60, 0..40),
    ) {
        let mut set: Set = old.iter().copied().map(Atom::Integer).collect();
        set.toggle(delta.iter().copied().map(Atom::Integer).collect());
        let expected: Set =
            old.symmetric_difference(&delta).copied().map(Atom::Integer).collect();
        proptest::prop_assert_eq!(set, expected);
    }
}
