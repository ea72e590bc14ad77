use serde_json::{Value as Json, json};

use super::*;
use crate::nb::{self, AclWant, RouterPortWant, StaticRoute, pairs};

pub(super) fn uuid(number: u32) -> Json {
    json!(["uuid", format!("00000000-0000-0000-0000-{number:012}")])
}

/// Rows as the server would tell them: table, number, columns.
pub(super) fn observed(rows: &[(&str, u32, Json)]) -> Replica {
    let schema = serde_json::from_str(include_str!("../../schema/nb.json")).unwrap();
    let mut updates = json!({});
    for (table, number, columns) in rows {
        updates[*table][uuid(*number)[1].as_str().unwrap()] = json!({"initial": columns});
    }
    Replica::observed(&schema, &nb::tables(), updates)
}

pub(super) fn ids(others: &[(&str, &str)]) -> Json {
    json!(["map", others.iter().copied().chain([(VENDOR_KEY, VENDOR)]).collect::<Vec<_>>()])
}

/// Switch `s1` with port `p1`, as a plan would have made them.
pub(super) fn switch_and_port() -> Vec<(&'static str, u32, Json)> {
    vec![
        (SWITCH, 1, json!({"name": "s1", "ports": uuid(2), "external_ids": ids(&[])})),
        (
            PORT,
            2,
            json!({"name": "p1", "addresses": "a", "external_ids": ids(&[("ls", "s1")]),
            "options": ["map", [["requested-chassis", "n1"], ["theirs", "x"]]]}),
        ),
    ]
}

pub(super) fn port(chassis: &[&str]) -> Desired {
    let port = PortWant {
        switch: "s1".into(),
        addresses: ["a".to_owned()].into(),
        external_ids: pairs([("ls", "s1")]),
        ..PortWant::default()
    };
    let mut desired = Desired::default();
    desired.ports.insert("p1".into(), port.on_chassis(chassis));
    desired
}

pub(super) fn kinds(plan: &Transaction) -> Vec<String> {
    let name =
        |op: &Json| format!("{} {}", op["op"].as_str().unwrap(), op["table"].as_str().unwrap());
    plan.to_json().iter().map(name).collect()
}

#[test]
fn where_nothing_differs_the_plan_is_empty() {
    let replica = observed(&switch_and_port());
    let plan = between(&replica, &Scope::port("p1"), &port(&["n1"]));
    assert_eq!(plan, Transaction::new());
}

#[test]
fn an_option_is_changed_by_its_key_and_guarded_to_be_as_seen() {
    let replica = observed(&switch_and_port());
    let plan = between(&replica, &Scope::default(), &port(&["n1", "n2"]));
    let row = json!(["_uuid", "==", uuid(2)]);
    let seen = json!(["options", "includes", ["map", [["requested-chassis", "n1"]]]]);
    assert_eq!(
        plan.to_json(),
        [
            json!({"op": "wait", "table": PORT, "timeout": 0, "where": [row, seen],
            "columns": ["name"], "until": "==", "rows": [{"name": "p1"}]}),
            json!({"op": "mutate", "table": PORT, "where": [row], "mutations": [
                ["options", "delete", "requested-chassis"],
                ["options", "insert", ["map", [["requested-chassis", "n1,n2"]]]],
            ]}),
        ]
    );
}

#[test]
fn an_option_of_ours_that_is_not_wanted_goes_and_that_of_another_stays() {
    let replica = observed(&switch_and_port());
    let plan = between(&replica, &Scope::default(), &port(&[]));
    let mutations = &plan.to_json()[1]["mutations"];
    assert_eq!(*mutations, json!([["options", "delete", "requested-chassis"]]));
}

#[test]
fn a_replaced_column_is_guarded_by_the_value_seen() {
    let replica = observed(&switch_and_port());
    let mut desired = port(&["n1"]);
    desired.ports.get_mut("p1").unwrap().addresses = ["b".to_owned()].into();
    let plan = between(&replica, &Scope::default(), &desired);
    assert_eq!(plan.to_json()[0]["rows"], json!([{"addresses": "a", "name": "p1"}]));
    assert_eq!(plan.to_json()[1]["row"], json!({"addresses": "b"}));
}

#[test]
fn new_ports_share_one_guard_and_one_mutation_of_their_switch() {
    let replica = observed(&switch_and_port()[..1]);
    let mut desired = Desired::default();
    for name in ["p1", "p2", "p3"] {
        desired.ports.insert(name.into(), port(&[]).ports.remove("p1").unwrap());
    }
    let plan = between(&replica, &Scope::default(), &desired);
    let insert = format!("insert {PORT}");
    assert_eq!(
        kinds(&plan),
        [
            format!("wait {SWITCH}"),
            insert.clone(),
            insert.clone(),
            insert,
            format!("mutate {SWITCH}")
        ]
    );
}

#[test]
fn only_rows_with_our_marker_are_deleted() {
    let mut rows = switch_and_port();
    let scope = Scope::port("p1").and(Scope::switch("s1"));
    let plan = between(&observed(&rows), &scope, &Desired::default());
    assert_eq!(kinds(&plan), [format!("delete {SWITCH}")]);
    for (_, _, row) in &mut rows {
        row["external_ids"] = json!(["map", [["vendor", "another"]]]);
    }
    assert!(between(&observed(&rows), &scope, &Desired::default()).is_empty());
}

#[test]
fn a_subnet_that_changes_its_vpc_leaves_no_router_port_behind() {
    let replica = observed(&[
        (ROUTER, 1, json!({"name": "v1", "ports": uuid(3), "external_ids": ids(&[])})),
        (ROUTER, 2, json!({"name": "v2", "external_ids": ids(&[])})),
        (ROUTER_PORT, 3, json!({"name": "v1-s1", "external_ids": ids(&[])})),
        (SWITCH, 4, json!({"name": "s1", "ports": uuid(5), "external_ids": ids(&[])})),
        (
            PORT,
            5,
            json!({"name": "s1-v1", "type": "router", "external_ids": ids(&[]),
            "options": ["map", [["router-port", "v1-s1"]]]}),
        ),
    ]);
    let mut desired = Desired::default();
    desired.switches.insert("s1".into(), SwitchWant::default());
    let gateway = RouterPortWant::gateway("v2", net::MacAddr::new([2; 6]), ["10.0.0.1/24"]);
    desired.router_ports.insert("v2-s1".into(), gateway);
    desired.ports.insert("s1-v2".into(), PortWant::router("s1", "v2-s1"));
    let plan = between(&replica, &Scope::switch("s1"), &desired);
    let ops = plan.to_json();
    let removed: Vec<_> =
        ops.iter().map(|op| &op["mutations"]).filter(|op| !op.is_null()).collect();
    assert_eq!(removed[0], &json!([["ports", "delete", uuid(3)]]));
    assert_eq!(removed[1], &json!([["ports", "insert", ["named-uuid", "row0"]]]));
    assert_eq!(removed[2][0], json!(["ports", "delete", uuid(5)]));
}

#[test]
fn a_router_that_nobody_knows_how_to_be_is_made_and_never_changed() {
    let route = json!({"ip_prefix": "0.0.0.0/0", "nexthop": "10.0.0.2", "external_ids": ids(&[])});
    let rows = [
        (ROUTER, 1, json!({"name": "v1", "static_routes": uuid(2), "external_ids": ids(&[])})),
        (StaticRoute::TABLE, 2, route),
    ];
    let mut desired = Desired::default();
    let router = RouterWant { as_is: true, options: pairs([("a", "b")]), ..RouterWant::default() };
    desired.routers.insert("v1".into(), router);
    assert!(between(&observed(&rows), &Scope::router("v1"), &desired).is_empty());
    let plan = between(&observed(&[]), &Scope::default(), &desired);
    assert_eq!(kinds(&plan), [format!("wait {ROUTER}"), format!("insert {ROUTER}")]);
}

#[test]
fn a_rule_that_another_made_is_adopted_rather_than_doubled() {
    let rule = AclWant::new("to-lport", 5, "ip", "drop");
    let row = json!({"direction": "to-lport", "priority": 5, "match": "ip", "action": "drop"});
    let replica = observed(&[
        (SWITCH, 1, json!({"name": "s1", "acls": uuid(2), "external_ids": ids(&[])})),
        ("ACL", 2, row),
    ]);
    let mut desired = Desired::default();
    let switch = SwitchWant { acls: [rule].into(), ..SwitchWant::default() };
    desired.switches.insert("s1".into(), switch);
    let plan = between(&replica, &Scope::default(), &desired);
    assert_eq!(kinds(&plan), ["wait ACL", "mutate ACL"]);
    assert_eq!(
        plan.to_json()[1]["mutations"],
        json!([["external_ids", "insert", ["map", [["parent", "s1"], [VENDOR_KEY, VENDOR]]]]])
    );
}

#[test]
fn a_rule_held_twice_by_us_is_held_once_after() {
    let row = json!({"direction": "to-lport", "priority": 5, "match": "ip", "action": "drop",
        "external_ids": ids(&[("parent", "s1")])});
    let acls = json!(["set", [uuid(2), uuid(3)]]);
    let replica = observed(&[
        (SWITCH, 1, json!({"name": "s1", "acls": acls, "external_ids": ids(&[])})),
        ("ACL", 2, row.clone()),
        ("ACL", 3, row),
    ]);
    let mut desired = Desired::default();
    let rule = AclWant::new("to-lport", 5, "ip", "drop");
    let switch = SwitchWant { acls: [rule].into(), ..SwitchWant::default() };
    desired.switches.insert("s1".into(), switch);
    assert_eq!(
        kinds(&between(&replica, &Scope::default(), &desired)),
        [format!("mutate {SWITCH}")]
    );
}

#[test]
fn everything_of_ours_is_listed_for_the_orphan_sweep_and_nothing_else() {
    let mut rows = switch_and_port();
    rows.push((PORT, 9, json!({"name": "theirs"})));
    let ours = nb::ours(&observed(&rows));
    assert_eq!(ours.switches, ["s1".to_owned()].into());
    assert_eq!(ours.ports, ["p1".to_owned()].into());
    assert!(ours.routers.is_empty() && ours.router_ports.is_empty());
}
