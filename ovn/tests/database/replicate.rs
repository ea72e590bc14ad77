//! Transactions and the replica.

use std::time::Duration;

use ovn::nb::{self, LogicalSwitch, LogicalSwitchPort, Table};
use ovn::ovsdb::{
    Client, Condition, Mutation, OpResult, Remote, Timing, TransactError, Transaction, Value,
};

use crate::relay::Relay;
use crate::server::{Model, Server, config, eventually, follow, quick, within};

fn insert_switch(name: &str) -> Transaction {
    let mut txn = Transaction::new();
    txn.insert("Logical_Switch", vec![("name", Value::from(name))]);
    txn
}

fn has_switch(client: &Client, name: &str) -> bool {
    client.read(|replica| LogicalSwitch::by_name(replica, name).is_some())
}

#[tokio::test]
async fn an_acknowledged_transaction_is_in_the_replica() {
    let server = Server::start().await;
    let client = server.client().await;
    for number in 0..200 {
        let name = format!("s{number}");
        let results = within(client.transact(insert_switch(&name))).await.unwrap();
        let [OpResult::Inserted(uuid)] = results[..] else { panic!("{results:?}") };
        let found = client.read(|replica| LogicalSwitch::by_name(replica, &name).unwrap());
        assert_eq!(found.uuid, uuid);
    }
}

#[tokio::test]
async fn a_second_client_sees_what_the_first_one_writes() {
    let server = Server::start().await;
    let (one, two) = (server.client().await, server.client().await);
    let before = *two.changes().borrow();
    within(one.transact(insert_switch("s1"))).await.unwrap();
    eventually(&two, |replica| LogicalSwitch::by_name(replica, "s1").is_some()).await;
    assert!(*two.changes().borrow() > before);
}

#[tokio::test]
async fn updates_mutations_and_deletions_arrive_as_they_were_made() {
    let server = Server::start().await;
    let (writer, reader) = (server.client().await, server.client().await);
    let mut txn = insert_switch("s1");
    let port = txn.insert("Logical_Switch_Port", vec![("name", Value::from("p1"))]);
    let by_name = || vec![Condition::equals("name", "s1")];
    txn.mutate("Logical_Switch", by_name(), vec![Mutation::insert("ports", port)]);
    within(writer.transact(txn)).await.unwrap();

    let mut txn = Transaction::new();
    let by_name = || vec![Condition::equals("name", "p1")];
    let options = Value::map([("a", "1"), ("b", "2"), ("c", "3")]);
    let columns = vec![("options", options), ("addresses", Value::set(["x", "y", "z"]))];
    txn.update("Logical_Switch_Port", by_name(), columns);
    within(writer.transact(txn)).await.unwrap();

    let mut txn = Transaction::new();
    let change = vec![
        Mutation::delete("options", Value::set(["a", "b"])),
        Mutation::insert("options", Value::map([("b", "9"), ("c", "ignored")])),
        Mutation::delete("addresses", "y"),
    ];
    txn.mutate("Logical_Switch_Port", by_name(), change);
    let results = within(writer.transact(txn)).await.unwrap();
    assert_eq!(results, [OpResult::Count(1)]);
    eventually(&reader, |replica| {
        LogicalSwitchPort::by_name(replica, "p1").is_some_and(|port| {
            port.options == nb::pairs([("b", "9"), ("c", "3")]) && port.addresses.len() == 2
        })
    })
    .await;

    let mut txn = Transaction::new();
    txn.delete("Logical_Switch", vec![Condition::equals("name", "s1")]);
    within(writer.transact(txn)).await.unwrap();
    eventually(&reader, |replica| {
        replica.count("Logical_Switch") == 0 && replica.count("Logical_Switch_Port") == 0
    })
    .await;
}

#[tokio::test]
async fn a_guard_that_does_not_hold_is_a_conflict_and_nothing_happens() {
    let server = Server::start().await;
    let client = server.client().await;
    within(client.transact(insert_switch("s1"))).await.unwrap();
    let uuid = client.read(|replica| LogicalSwitch::by_name(replica, "s1").unwrap().uuid);

    let mut txn = insert_switch("s2");
    txn.guard_row("Logical_Switch", uuid, vec![("name", Value::from("renamed"))], vec![]);
    assert_eq!(within(client.transact(txn)).await, Err(TransactError::Conflict));
    assert!(!has_switch(&client, "s2"));

    let mut txn = insert_switch("s2");
    txn.guard_row("Logical_Switch", uuid, vec![("name", Value::from("s1"))], vec![]);
    within(client.transact(txn)).await.unwrap();
    assert!(has_switch(&client, "s2"));
}

#[tokio::test]
async fn a_name_taken_by_another_client_is_a_conflict_and_a_bad_operation_is_rejected() {
    let server = Server::start().await;
    let client = server.client().await;
    let twice = || {
        let mut txn = Transaction::new();
        let port = txn.insert("Logical_Switch_Port", vec![("name", Value::from("p1"))]);
        txn.insert("Logical_Switch", vec![("ports", Value::from(port))]);
        txn
    };
    within(client.transact(twice())).await.unwrap();
    assert_eq!(within(client.transact(twice())).await, Err(TransactError::Conflict));

    let mut txn = Transaction::new();
    txn.insert("No_Such_Table", vec![]);
    let refused = within(client.transact(txn)).await;
    assert!(matches!(refused, Err(TransactError::Rejected { .. })), "{refused:?}");
}

#[tokio::test]
async fn only_what_was_asked_for_is_mirrored_and_the_rest_can_be_selected() {
    let server = Server::start().await;
    let mut config = server.config();
    config.tables = vec![
        ("Logical_Switch".into(), vec!["name".into(), "from_the_future?".into()]),
        ("Also_From_The_Future?".into(), vec!["name".into()]),
    ];
    let client = follow(config).await;
    let mut txn = insert_switch("s1");
    txn.select(
        "Logical_Switch",
        vec![Condition::equals("name", "s1")],
        vec!["name", "other_config"],
    );
    let results = within(client.transact(txn)).await.unwrap();
    let OpResult::Rows(rows) = &results[1] else { panic!("{results:?}") };
    assert_eq!(rows[0]["other_config"], serde_json::json!(["map", []]));
    client.read(|replica| {
        assert!(replica.has_column("Logical_Switch", "name"));
        assert!(!replica.has_column("Logical_Switch", "from_the_future"));
        let (_, row) = replica.by_name("Logical_Switch", "s1").unwrap();
        assert_eq!(row.iter().count(), 1);
    });
}

#[tokio::test]
async fn the_next_server_is_tried_when_one_does_not_answer() {
    let server = Server::start().await;
    let mut config = server.config();
    config.remotes.insert(0, Remote::Unix("/nonexistent/nb.sock".into()));
    follow(config).await;
}

#[tokio::test]
async fn after_a_cut_a_cluster_sends_the_difference_only() {
    let server = Server::start_as(Model::Clustered).await;
    let relay = Relay::to(server.socket());
    let (direct, relayed) = (server.client().await, follow(config(&relay.socket())).await);
    let mut txn = Transaction::new();
    for number in 0..500 {
        txn.insert("Logical_Switch", vec![("name", Value::from(format!("s{number}")))]);
    }
    within(direct.transact(txn)).await.unwrap();
    // The server keeps no more history than it has data: the last thing seen must
    // not be the one large transaction.
    within(direct.transact(insert_switch("small"))).await.unwrap();
    eventually(&relayed, |replica| replica.count("Logical_Switch") == 501).await;
    let full = relay.received();

    relay.cut();
    let mut txn = insert_switch("new");
    txn.delete("Logical_Switch", vec![Condition::equals("name", "s7")]);
    within(direct.transact(txn)).await.unwrap();
    eventually(&relayed, |replica| LogicalSwitch::by_name(replica, "new").is_some()).await;
    assert!(!has_switch(&relayed, "s7"));
    assert_eq!(relayed.read(|replica| replica.count("Logical_Switch")), 501);
    // The schema comes again, the 500 switches do not.
    let schema = std::fs::metadata("/usr/share/ovn/ovn-nb.ovsschema").unwrap().len();
    let again = relay.received() - full;
    assert!(again < schema + 8000, "{again} bytes after {full}");
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_the_outcome_unknown_but_not_the_replica() {
    let server = Server::start().await;
    let relay = Relay::to(server.socket());
    let (direct, relayed) = (server.client().await, follow(config(&relay.socket())).await);
    relay.lose_answers();
    let transacting = relayed.transact(insert_switch("s1"));
    let cutting = async {
        eventually(&direct, |replica| LogicalSwitch::by_name(replica, "s1").is_some()).await;
        relay.hear();
        relay.cut();
    };
    let (outcome, ()) = tokio::join!(within(transacting), cutting);
    assert_eq!(outcome, Err(TransactError::Disconnected));
    eventually(&relayed, |replica| LogicalSwitch::by_name(replica, "s1").is_some()).await;
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let server = Server::start().await;
    let relay = Relay::to(server.socket());
    let timing = Timing { probe: Duration::from_millis(100), ..quick() };
    let client = Client::spawn_with(config(&relay.socket()), timing);
    within(client.synced()).await;
    relay.lose_answers();
    let outcome = within(client.transact(insert_switch("s1"))).await;
    assert_eq!(outcome, Err(TransactError::Disconnected));
    relay.hear();
    relay.cut();
    within(client.synced()).await;
    within(client.transact(insert_switch("s2"))).await.unwrap();
}

#[tokio::test]
async fn a_quiet_connection_is_kept_by_probing() {
    let server = Server::start().await;
    let relay = Relay::to(server.socket());
    let timing = Timing { probe: Duration::from_millis(250), ..quick() };
    let client = Client::spawn_with(config(&relay.socket()), timing);
    within(client.synced()).await;
    // Longer than the silence that would end it: three answers of about 40 bytes.
    within(relay.has_received(relay.received() + 120)).await;
    assert!(client.is_synced());
    assert_eq!(relay.connections(), 1);
}

#[tokio::test]
async fn the_session_ends_with_its_last_client() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut changes = client.changes();
    drop(client.clone());
    assert!(client.is_synced());
    drop(client);
    within(async { while changes.changed().await.is_ok() {} }).await;
}
