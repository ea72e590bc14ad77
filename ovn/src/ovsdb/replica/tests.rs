use serde_json::json;

use super::*;

const S1: &str = "00000000-0000-0000-0000-000000000001";
const S2: &str = "00000000-0000-0000-0000-000000000002";
const P1: &str = "00000000-0000-0000-0000-0000000000a1";
const P2: &str = "00000000-0000-0000-0000-0000000000a2";

fn uuid(text: &str) -> Uuid {
    Uuid::parse_str(text).unwrap()
}

/// Switches that hold ports, as the northbound database has them.
fn with(rows: Json) -> Replica {
    let set = json!({"key": {"type": "uuid", "refTable": "Port"}, "min": 0, "max": "unlimited"});
    let map = json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"});
    let schema = json!({"tables": {
        "Switch": {"columns": {"name": {"type": "string"}, "ports": {"type": set}}},
        "Port": {"columns": {"name": {"type": "string"}, "options": {"type": map},
            "up": {"type": {"key": "boolean", "min": 0, "max": 1}}}},
    }});
    let wanted = [("Switch", vec!["name", "ports"]), ("Port", vec!["name", "options", "up"])].map(
        |(table, columns)| (table.to_owned(), columns.into_iter().map(String::from).collect()),
    );
    Replica::observed(&schema, &wanted, rows)
}

fn two_switches() -> Replica {
    with(json!({
        "Switch": {
            S1: {"initial": {"name": "s1", "ports": ["set", [["uuid", P1], ["uuid", P2]]]}},
            S2: {"initial": {"name": "s2"}},
        },
        "Port": {P1: {"initial": {"name": "p1"}}, P2: {"initial": {"name": "p2"}}},
    }))
}

fn holders(replica: &Replica, port: &str) -> Vec<Uuid> {
    replica.holders("Switch", uuid(port)).collect()
}

#[test]
fn what_the_server_leaves_out_is_filled_in() {
    let replica = two_switches();
    let (_, port) = replica.by_name("Port", "p1").unwrap();
    assert_eq!(port.get("options"), Some(&Value::map::<&str, &str>([])));
    assert_eq!(port.get("up"), Some(&Value::EMPTY));
    assert_eq!(port.get("other"), None);
}

#[test]
fn a_row_is_found_by_its_name_also_after_it_got_another() {
    let mut replica = two_switches();
    replica.apply(json!({"Port": {P1: {"modify": {"name": "p9"}}}})).unwrap();
    assert!(replica.by_name("Port", "p1").is_none());
    assert_eq!(replica.by_name("Port", "p9").unwrap().0, uuid(P1));
    replica.apply(json!({"Port": {P1: {"delete": null}}})).unwrap();
    assert!(replica.by_name("Port", "p9").is_none());
}

#[test]
fn of_two_rows_with_one_name_it_is_always_the_same() {
    let mut replica = two_switches();
    replica.apply(json!({"Switch": {S2: {"modify": {"name": "s1"}}}})).unwrap();
    assert_eq!(replica.by_name("Switch", "s1").unwrap().0, uuid(S1));
    replica.apply(json!({"Switch": {S1: {"delete": null}}})).unwrap();
    assert_eq!(replica.by_name("Switch", "s1").unwrap().0, uuid(S2));
}

#[test]
fn a_port_knows_its_switch_however_it_moves() {
    let mut replica = two_switches();
    assert_eq!(holders(&replica, P1), [uuid(S1)]);
    // Modifications tell which references are toggled.
    replica
        .apply(json!({"Switch": {
            S1: {"modify": {"ports": ["uuid", P1]}},
            S2: {"modify": {"ports": ["uuid", P1]}},
        }}))
        .unwrap();
    assert_eq!(holders(&replica, P1), [uuid(S2)]);
    assert_eq!(holders(&replica, P2), [uuid(S1)]);
    replica.apply(json!({"Switch": {S2: {"delete": null}}})).unwrap();
    assert!(holders(&replica, P1).is_empty());
}

#[test]
fn optional_columns_are_replaced_and_maps_are_toggled() {
    let mut replica = with(json!({"Port": {P1: {"insert":
        {"name": "p1", "options": ["map", [["a", "1"], ["b", "2"]]]}}}}));
    replica
        .apply(json!({"Port": {P1: {"modify":
            {"up": true, "options": ["map", [["a", "1"], ["b", "3"]]]}}}}))
        .unwrap();
    let row = replica.row("Port", uuid(P1)).unwrap();
    assert_eq!(
        (row.boolean("up"), row.key("options", "a"), row.key("options", "b")),
        (Some(true), None, Some("3"))
    );
    replica.apply(json!({"Port": {P1: {"modify": {"up": ["set", []]}}}})).unwrap();
    assert_eq!(replica.row("Port", uuid(P1)).unwrap().boolean("up"), None);
}

#[test]
fn a_difference_of_nothing_changes_nothing_and_one_of_another_shape_is_refused() {
    let mut replica = two_switches();
    let options = json!(["map", [["a", "1"]]]);
    let modify = |column: &str, value: &Json| json!({"Port": {P1: {"modify": {column: value}}}});
    replica.apply(modify("options", &options)).unwrap();
    replica.apply(modify("options", &json!(["set", []]))).unwrap();
    assert_eq!(replica.row("Port", uuid(P1)).unwrap().key("options", "a"), Some("1"));
    for (column, value) in [("options", json!("a")), ("name", options)] {
        let refused = replica.apply(modify(column, &value));
        assert!(matches!(refused, Err(UpdateError::Value(_))), "{refused:?}");
        replica = two_switches();
    }
}

#[test]
fn an_update_that_does_not_follow_from_what_we_hold_is_an_error() {
    for update in [
        json!({"Port": {S1: {"modify": {"name": "x"}}}}),
        json!({"Port": {S1: {"delete": null}}}),
        json!({"Port": {P1: {"insert": {"name": "p1"}}}}),
    ] {
        let outcome = two_switches().apply(update);
        assert!(matches!(outcome, Err(UpdateError::OutOfStep(..))), "{outcome:?}");
    }
    for update in [json!([]), json!({"Other": {P1: {"insert": {}}}}), json!({"Port": {"x": {}}})] {
        let outcome = two_switches().apply(update);
        assert!(matches!(outcome, Err(UpdateError::Malformed(_))), "{outcome:?}");
    }
}
