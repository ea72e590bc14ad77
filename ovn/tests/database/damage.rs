//! Whatever a stranger changes in a row of ours, one plan puts right: each kind of row
//! that we write, each of its columns.

use std::collections::BTreeMap;

use ovn::nb::{
    self, AclWant, AddressSetWant, Desired, PolicyWant, PortWant, RouterPortWant, RouterWant,
    StaticRouteWant, SwitchWant, pairs,
};
use ovn::ovsdb::{Atom, Client, Condition, Replica, Row, Transaction, Value};
use ovn::plan::{self, Scope};
use uuid::Uuid;

use crate::server::{Server, eventually, within};
use crate::wants::{address, apply, mac};

/// Columns that we read or make and that others may set: northd, an administrator, and
/// whoever had the router before us (its MAC is in the guests' neighbour tables).
const NOT_OURS: [(&str, &str); 3] = [
    ("Logical_Switch_Port", "up"),
    ("Logical_Switch_Port", "enabled"),
    ("Logical_Router_Port", "mac"),
];

/// Rows of every kind that the controller writes, with something in every column.
fn network() -> Desired {
    let mut desired = Desired::default();
    let addresses = ["10.0.0.0/16".to_owned(), "10.1.0.0/16".to_owned()].into();
    desired.address_sets.insert("a1".into(), AddressSetWant { addresses });
    let route = StaticRouteWant {
        policy: Some("src-ip".into()),
        output_port: Some("v1-s1".into()),
        route_table: "blue".into(),
        options: pairs([("ecmp_symmetric_reply", "true")]),
        ..StaticRouteWant::new("10.9.0.0/16", "10.0.0.9")
    };
    let policy = PolicyWant {
        priority: 7,
        matches: "ip4.src == 10.0.0.0/24".into(),
        action: "reroute".into(),
        nexthops: ["10.0.0.8".to_owned(), "10.0.0.9".to_owned()].into(),
    };
    let router = RouterWant {
        options: pairs([("dynamic_neigh_routers", "true"), ("mac_binding_age_threshold", "300")]),
        external_ids: pairs([("of", "us")]),
        static_routes: [route, StaticRouteWant::new("0.0.0.0/0", "10.0.0.254")].into(),
        policies: [policy].into(),
        as_is: false,
    };
    desired.routers.insert("v1".into(), router);
    let rule = AclWant {
        name: Some("wall".into()),
        log: true,
        severity: Some("warning".into()),
        options: pairs([("apply-after-lb", "true")]),
        ..AclWant::new("from-lport", 3000, "udp.src == 67", "drop")
    };
    let switch = SwitchWant {
        other_config: pairs([("mcast_snoop", "true"), ("mcast_querier", "false")]),
        external_ids: pairs([("of", "us")]),
        acls: [rule, AclWant::new("to-lport", 1000, "ip", "drop")].into(),
        ..SwitchWant::default()
    };
    desired.switches.insert("s1".into(), switch);
    let mut gateway = RouterPortWant::gateway("v1", mac(0), ["10.0.0.1/16", "fd00::1/64"]);
    gateway.peer = Some("v2-v1".into());
    gateway.options = pairs([("route_table", "blue")]);
    gateway.ipv6_ra_configs = pairs([("address_mode", "dhcpv6_stateful")]);
    gateway.ipv6_prefix = ["64".to_owned()].into();
    desired.router_ports.insert("v1-s1".into(), gateway);
    desired.ports.insert("s1-v1".into(), PortWant::router("s1", "v1-s1"));
    let vm = PortWant::vm("s1", "ns", "vm1", mac(1), &[address(1)]).on_chassis(&["n1"]);
    desired.ports.insert("vm1.ns".into(), vm.hearing_unknown());
    desired.ports.insert("phys".into(), PortWant::localnet("s1", "external", Some(7)));
    let vip = PortWant::virtual_ip("s1", address(9), &["vm1.ns"]);
    desired.ports.insert("vip".into(), vip);
    desired
}

/// Other values of a column than what it has, one for each way to spoil it.
fn spoilt(column: &str, value: &Value) -> Vec<Value> {
    let pairs: Vec<_> = value.pairs().cloned().collect();
    let atoms: Vec<_> = value.atoms().cloned().collect();
    let mut others = Vec::new();
    for at in 0..pairs.len() {
        let mut fewer = pairs.clone();
        let (key, _) = fewer.remove(at);
        others.push(Value::map(fewer.clone()));
        fewer.push((key, Atom::from("spoilt")));
        others.push(Value::map(fewer));
    }
    for at in 0..atoms.len() {
        let mut fewer = atoms.clone();
        let atom = fewer.remove(at);
        // A column of one value cannot be without one.
        if atoms.len() > 1 || matches!(atom, Atom::Uuid(_)) {
            others.push(Value::set(fewer.clone()));
        }
        let other = match (&atom, column) {
            (Atom::String(text), "direction") if &**text == "to-lport" => "from-lport".into(),
            (Atom::String(_), "direction") => "to-lport".into(),
            (Atom::String(_), "action") => "allow".into(),
            (Atom::String(_), "severity") => "alert".into(),
            (Atom::String(_), "policy") => "dst-ip".into(),
            (Atom::String(text), _) => Atom::from(format!("{text}9")),
            (Atom::Integer(number), _) => Atom::from(number + 1),
            (Atom::Boolean(said), _) => Atom::from(!said),
            _ => continue,
        };
        fewer.push(other);
        others.push(Value::set(fewer));
    }
    others
}

/// Every row but for identities: its columns, those of uuids by what they lead to.
fn said(replica: &Replica) -> BTreeMap<String, Vec<String>> {
    let tell = |table: &str, row: &Row| {
        let columns = row.iter().map(|(column, value)| {
            let targets: Vec<_> = value.atoms().filter_map(Atom::as_uuid).collect();
            let (uuids, is_map) = (!targets.is_empty(), value.pairs().len() > 0);
            let value = if uuids && !is_map {
                let mut targets: Vec<_> =
                    targets.iter().map(|uuid| named(replica, *uuid)).collect();
                targets.sort();
                format!("{targets:?}")
            } else {
                format!("{value:?}")
            };
            format!("{table}.{column}={value}")
        });
        columns.collect::<Vec<_>>().join(" ")
    };
    let mut all = BTreeMap::new();
    for (table, _) in nb::tables() {
        let mut rows: Vec<_> = replica.rows(&table).map(|(_, row)| tell(&table, row)).collect();
        rows.sort();
        all.insert(table, rows);
    }
    all
}

/// A child by the text that it is known by.
fn named(replica: &Replica, uuid: Uuid) -> String {
    let tables = nb::tables();
    let row = tables.iter().find_map(|(table, _)| replica.row(table, uuid));
    let texts =
        row.into_iter().flat_map(|row| ["name", "match", "ip_prefix"].map(|one| row.str(one)));
    texts.collect()
}

/// Every row and column with the ways to spoil it.
fn damages(replica: &Replica) -> Vec<(&'static str, Uuid, &'static str, Value)> {
    let mut all = Vec::new();
    for (table, columns) in nb::tables() {
        let table: &'static str = String::leak(table);
        for column in columns {
            let column: &'static str = String::leak(column.trim_end_matches('?').to_owned());
            if NOT_OURS.contains(&(table, column)) {
                continue;
            }
            for (uuid, row) in replica.rows(table) {
                let ways = row.get(column).map(|value| spoilt(column, value)).unwrap_or_default();
                all.extend(ways.into_iter().map(|value| (table, uuid, column, value)));
            }
        }
    }
    all
}

async fn spoil(client: &Client, table: &'static str, uuid: Uuid, column: &'static str, to: &Value) {
    let mut txn = Transaction::new();
    txn.update(table, Condition::row(uuid), vec![(column, to.clone())]);
    within(client.transact(txn)).await.unwrap();
}

#[tokio::test]
async fn whatever_a_stranger_changes_in_a_row_of_ours_is_put_right() {
    let server = Server::start().await;
    let client = server.client().await;
    let desired = network();
    apply(&client, &Scope::default(), &desired).await.unwrap();
    let before = client.read(said);
    let mut spoilt = std::collections::BTreeSet::new();
    let mut number = 0;
    // Rows may be made anew, so each time there are other identities.
    while let Some((table, uuid, column, value)) =
        client.read(|replica| damages(replica).into_iter().nth(number))
    {
        number += 1;
        spoilt.insert((table, column));
        spoil(&client, table, uuid, column, &value).await;
        eventually(&client, |replica| said(replica) != before).await;
        let scope = Scope::from(client.read(nb::ours));
        let what = format!("{table}.{column} that became {value:?}");
        let operations = apply(&client, &scope, &desired).await;
        assert!(operations.is_ok_and(|count| count > 0), "{what} is not seen");
        let after = client.read(said);
        assert_eq!(after, before, "after {what}");
        let scope = Scope::from(client.read(nb::ours));
        let rest = client.read(|replica| plan::between(replica, &scope, &desired));
        assert!(rest.is_empty(), "{what} is put right twice: {rest:?}");
    }
    // All that we write was spoilt.
    for (table, columns) in nb::tables() {
        let written = |column: &&String| !column.ends_with('?') && !column.starts_with("dhcp");
        for column in columns.iter().filter(written) {
            let known = spoilt.iter().any(|(one, of)| (*one, *of) == (&*table, &**column))
                || NOT_OURS.contains(&(&*table, &**column));
            // The controller makes no DHCP_Options, and the numbers of NB_Global are others'.
            let is_written = !["DHCP_Options", "NB_Global"].contains(&&*table);
            assert!(known || !is_written, "{table}.{column} was never spoilt");
        }
    }
}

#[tokio::test]
async fn a_router_port_keeps_any_mac_that_is_one_and_gets_its_own_for_what_is_none() {
    let server = Server::start().await;
    let client = server.client().await;
    let desired = network();
    apply(&client, &Scope::default(), &desired).await.unwrap();
    let port =
        || client.read(|replica| replica.by_name("Logical_Router_Port", "v1-s1").map(|one| one.0));
    let uuid = port().unwrap();
    let now = |replica: &Replica| {
        let row = replica.by_name("Logical_Router_Port", "v1-s1").unwrap().1;
        row.str("mac").to_owned()
    };
    for (written, kept) in [("0a:00:00:00:00:99", true), ("nonsense", false)] {
        spoil(&client, "Logical_Router_Port", uuid, "mac", &Value::from(written)).await;
        eventually(&client, |replica| now(replica) == written).await;
        apply(&client, &Scope::default(), &desired).await.unwrap();
        let mac = if kept { written.to_owned() } else { mac(0).to_string() };
        assert_eq!(client.read(now), mac);
    }
}
