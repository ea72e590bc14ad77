//! The schemas of OVN's releases, as far as we use them, and the same work on each.
//!
//! Upstream keeps `ovn-nb.ovsschema` of each release; here is only what is ours of it:
//! that of the oldest release that we serve, and what changed since then.

use std::collections::BTreeSet;

use ovn::nb::{Acl, AclWant, LogicalRouterPort, RouterPortWant, Table, tables};
use ovn::ovsdb::{Client, Condition, Mutation, OpResult, TransactError, Transaction, Value};
use ovn::plan::Scope;
use serde_json::{Value as Json, json};

use crate::random::from_any_network_to_any_other;
use crate::server::{Server, eventually, quick, until, within};
use crate::wants::{all, apply, mac, subnet, vms, vpc};

/// A release that changed something that we use.
pub struct Release {
    /// The first version of OVN in which it is so.
    ovn: &'static str,
    /// The version of its schema.
    schema: [u64; 3],
    change: fn(&mut Json),
}

/// Oldest first. Those between, and 25.09 and 26.03, changed nothing that we use.
pub const RELEASES: &[Release] = &[
    Release { ovn: "23.03", schema: [7, 0, 0], change: |_| {} },
    Release {
        ovn: "23.06",
        schema: [7, 0, 4],
        change: |tables| {
            let tier = json!({"type": "integer", "minInteger": 0, "maxInteger": 3});
            tables["ACL"]["columns"]["tier"] = json!({"type": {"key": tier}});
            let actions = &mut tables["ACL"]["columns"]["action"]["type"]["key"]["enum"][1];
            actions.as_array_mut().unwrap().push(json!("pass"));
        },
    },
    Release {
        ovn: "25.03",
        schema: [7, 11, 0],
        change: |tables| {
            tables["Logical_Router_Port"]["columns"]["networks"]["type"]["min"] = json!(0);
        },
    },
];

/// What we use of a release's schema.
pub fn schema(release: &Release) -> Json {
    let mut schema: Json = serde_json::from_str(include_str!("../../schema/nb.json")).unwrap();
    let until_then = RELEASES.iter().take_while(|step| step.schema <= release.schema);
    until_then.for_each(|step| (step.change)(&mut schema["tables"]));
    schema["version"] = json!(release.schema.map(|part| part.to_string()).join("."));
    schema
}

/// The last release that is not newer than this schema.
pub fn of(schema: &Json) -> &'static Release {
    let version = schema["version"].as_str().unwrap().split('.');
    let version: Vec<u64> = version.map(|part| part.parse().unwrap()).collect();
    let reached = RELEASES.iter().take_while(|release| release.schema[..] <= version[..]);
    reached.last().expect("a schema of OVN 23.03 at least")
}

fn named(ovn: &str) -> &'static Release {
    RELEASES.iter().find(|release| release.ovn == ovn).unwrap()
}

/// The release's schema with what we know nothing of: a table, and in every table of
/// ours a column that refers to it and one of pairs.
fn with_what_is_not_ours(release: &Release) -> Json {
    let mut schema = schema(release);
    let map = json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"});
    let reference = json!({"key": {"type": "uuid", "refTable": "Theirs"}, "min": 0, "max": 1});
    for (_, table) in schema["tables"].as_object_mut().unwrap() {
        table["columns"]["their_row"] = json!({"type": reference});
        table["columns"]["their_pairs"] = json!({"type": map});
    }
    schema["tables"]["Theirs"] = json!({"columns": {"text": {"type": "string"}}});
    schema
}

/// What others keep in a column of a row that we know nothing of.
async fn theirs(client: &Client, table: &'static str, column: &'static str) -> Json {
    let mut txn = Transaction::new();
    txn.select(table, vec![], vec![column]);
    let results = within(client.transact(txn)).await.unwrap();
    let [OpResult::Rows(rows)] = &results[..] else { panic!("{results:?}") };
    let rows: BTreeSet<_> = rows.iter().map(|row| row[column].to_string()).collect();
    json!(rows)
}

#[tokio::test]
async fn on_every_release_one_plan_leads_from_any_network_to_any_other() {
    for release in RELEASES {
        let server = Server::start_with(&with_what_is_not_ours(release)).await;
        from_any_network_to_any_other(&server, 8).await;
    }
}

#[tokio::test]
async fn on_every_release_what_we_know_nothing_of_stays_as_it_is() {
    const PORT: &str = "Logical_Switch_Port";
    for release in RELEASES {
        let server = Server::start_with(&with_what_is_not_ours(release)).await;
        let client = server.client().await;
        let everything = Scope::router("v1").and(Scope::switch("s1"));
        let mut desired = all([vpc(), subnet(), vms(1..3)]);
        apply(&client, &everything, &desired).await.unwrap();

        let mut txn = Transaction::new();
        let row = txn.insert("Theirs", vec![("text", "kept".into())]);
        let vm1 = vec![Condition::equals("name", "vm1.ns")];
        txn.update(PORT, vm1.clone(), vec![("their_row", row.into())]);
        let pair = Value::map([("their", "pair")]);
        txn.mutate(PORT, vm1, vec![Mutation::insert("their_pairs", pair)]);
        within(client.transact(txn)).await.unwrap();
        let before = [
            theirs(&client, PORT, "their_row").await,
            theirs(&client, PORT, "their_pairs").await,
            theirs(&client, "Theirs", "text").await,
        ];

        let port = desired.ports.get_mut("vm1.ns").unwrap();
        *port = port.clone().on_chassis(&["n2"]).without_port_security();
        assert_eq!(apply(&client, &everything, &desired).await, Ok(2), "{}", release.ovn);
        assert_eq!(apply(&client, &everything, &desired).await, Ok(0), "{}", release.ovn);
        let after = [
            theirs(&client, PORT, "their_row").await,
            theirs(&client, PORT, "their_pairs").await,
            theirs(&client, "Theirs", "text").await,
        ];
        assert_eq!(before, after, "{}", release.ovn);
        // A fresh client reads the same as the one that has followed all along.
        let fresh = server.client().await;
        assert_eq!(apply(&fresh, &everything, &desired).await, Ok(0), "{}", release.ovn);
    }
}

#[tokio::test]
async fn a_tier_is_stored_from_23_06_on_and_left_out_before() {
    for release in RELEASES {
        let server = Server::start_with(&schema(release)).await;
        let client = server.client().await;
        let mut desired = subnet();
        let switch = desired.switches.get_mut("s1").unwrap();
        let rule = AclWant::new("to-lport", 7, "ip", "drop");
        switch.acls = [2, 3].map(|tier| AclWant { tier, ..rule.clone() }).into();
        desired.router_ports.clear();
        apply(&client, &Scope::default(), &desired).await.unwrap();
        let tiers: BTreeSet<_> =
            client.read(|replica| Acl::all(replica).map(|acl| acl.rule.tier).collect());
        let known = client.read(|replica| replica.has_column("ACL", "tier"));
        assert_eq!(known, release.schema >= named("23.06").schema);
        assert_eq!(tiers, if known { [2, 3].into() } else { [0].into() });
        assert_eq!(apply(&client, &Scope::default(), &desired).await, Ok(0));
    }
}

#[tokio::test]
async fn an_action_that_the_release_does_not_know_is_refused_with_the_servers_words() {
    for release in RELEASES {
        let server = Server::start_with(&schema(release)).await;
        let client = server.client().await;
        let mut desired = subnet();
        desired.router_ports.clear();
        let switch = desired.switches.get_mut("s1").unwrap();
        switch.acls = [AclWant::new("to-lport", 7, "ip", "pass")].into();
        let outcome = apply(&client, &Scope::default(), &desired).await;
        if release.schema >= named("23.06").schema {
            outcome.unwrap();
        } else {
            let Err(TransactError::Rejected { error, details }) = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(error, "constraint violation");
            assert!(details.contains("pass"), "{details}");
        }
    }
}

#[tokio::test]
async fn a_router_port_that_others_made_without_networks_is_adopted_on_every_release() {
    for release in RELEASES {
        let server = Server::start_with(&schema(release)).await;
        let (writer, reader) = (server.client().await, server.client().await);
        let mut txn = Transaction::new();
        let port = txn.insert("Logical_Router_Port", vec![("name", "v1-s1".into())]);
        txn.insert("Logical_Router", vec![("name", "v1".into()), ("ports", port.into())]);
        within(writer.transact(txn)).await.unwrap();
        let networks = |replica: &_| Some(LogicalRouterPort::by_name(replica, "v1-s1")?.networks);
        // At least one was needed before: the server made up an empty one.
        let made_up =
            if release.schema < named("25.03").schema { vec![String::new()] } else { vec![] };
        let made_up = Some(made_up.into_iter().collect());
        for client in [&writer, &reader] {
            eventually(client, |replica| networks(replica) == made_up).await;
        }

        let mut desired = vpc();
        let ours = RouterPortWant::gateway("v1", mac(0), ["10.0.0.1/16", "fd00::1/64"]);
        desired.router_ports.insert("v1-s1".into(), ours.clone());
        apply(&writer, &Scope::default(), &desired).await.unwrap();
        for client in [&writer, &reader] {
            eventually(client, |replica| networks(replica) == Some(ours.networks.clone())).await;
        }
        assert_eq!(apply(&writer, &Scope::default(), &desired).await, Ok(0));
    }
}

#[tokio::test]
async fn a_server_without_a_column_that_we_need_is_not_followed_and_both_are_named() {
    let mut old = schema(named("23.03"));
    let columns = &mut old["tables"]["Logical_Switch_Port"]["columns"];
    columns.as_object_mut().unwrap().remove("port_security");
    old["tables"].as_object_mut().unwrap().remove("Logical_Router_Static_Route");
    let routes = &mut old["tables"]["Logical_Router"]["columns"];
    routes.as_object_mut().unwrap().remove("static_routes");
    old["version"] = json!("6.3.0");
    let server = Server::start_with(&old).await;
    let client = Client::spawn_with(server.config(), quick());
    until(|| client.trouble().is_some()).await;
    let trouble = client.trouble().unwrap();
    for said in [
        "OVN_Northbound 6.3.0",
        "Logical_Switch_Port.port_security",
        "Logical_Router_Static_Route",
        "Logical_Router.static_routes",
    ] {
        assert!(trouble.contains(said), "{said}: {trouble}");
    }
    assert!(!trouble.contains("tier"), "that may be missing: {trouble}");
    assert!(!client.is_synced());

    server.convert(&schema(named("23.03"))).await;
    within(client.synced()).await;
    assert_eq!(client.trouble(), None);
}

#[tokio::test]
async fn a_database_upgraded_under_a_client_is_read_anew_and_new_columns_are_used() {
    let server = Server::start_with(&schema(named("23.03"))).await;
    let client = server.client().await;
    let mut desired = all([vpc(), subnet(), vms(1..4)]);
    let switch = desired.switches.get_mut("s1").unwrap();
    switch.acls = [AclWant { tier: 2, ..AclWant::new("to-lport", 7, "ip", "drop") }].into();
    let everything = Scope::router("v1").and(Scope::switch("s1"));
    apply(&client, &everything, &desired).await.unwrap();
    let rows = |client: &Client| {
        let count = |replica: &ovn::ovsdb::Replica| {
            tables().iter().map(|(table, _)| replica.count(table)).sum::<usize>()
        };
        client.read(count)
    };
    let before = rows(&client);

    server.convert(&schema(named("25.03"))).await;
    eventually(&client, |replica| replica.has_column("ACL", "tier")).await;
    within(client.synced()).await;
    assert_eq!(rows(&client), before);
    // The rule can now be said whole.
    assert_eq!(apply(&client, &everything, &desired).await, Ok(2));
    assert_eq!(client.read(|replica| Acl::all(replica).next().unwrap().rule.tier), 2);
    assert_eq!(apply(&client, &everything, &desired).await, Ok(0));
}
