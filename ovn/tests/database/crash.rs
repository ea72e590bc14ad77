//! The server dies while clients work.

use std::collections::BTreeSet;

use ovn::nb::{LogicalSwitch, Table};
use ovn::ovsdb::{Client, TransactError, Transaction, Value};

use crate::server::{Model, Server, until, within};

fn names(client: &Client) -> BTreeSet<String> {
    client.read(|replica| LogicalSwitch::all(replica).map(|switch| switch.name).collect())
}

/// Inserts switches until the server has died `crashes` times under its hands;
/// those acknowledged.
async fn write_while(
    client: &Client,
    crashes: tokio::sync::watch::Receiver<bool>,
) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    for number in 0_u32.. {
        if *crashes.borrow() {
            break;
        }
        let name = format!("s{number}");
        let mut txn = Transaction::new();
        txn.insert("Logical_Switch", vec![("name", Value::from(&name))]);
        match client.transact(txn.durable()).await {
            Ok(_) => {
                assert!(names(client).contains(&name), "acknowledged, so in the replica");
                acknowledged.insert(name);
            }
            Err(TransactError::Disconnected) => client.synced().await,
            Err(error) => panic!("{error}"),
        }
    }
    acknowledged
}

async fn survives(mut server: Server) {
    let (writer, reader) = (server.client().await, server.client().await);
    let (over, crashes) = tokio::sync::watch::channel(false);
    let writing = tokio::spawn({
        let writer = writer.clone();
        async move { write_while(&writer, crashes).await }
    });
    for round in 1..=5 {
        // Into the work, not before it.
        let written = |replica: &ovn::ovsdb::Replica| {
            (replica.count("Logical_Switch") >= round * 20).then_some(())
        };
        within(reader.wait_for(written)).await;
        server.crash_and_restart().await;
        within(reader.synced()).await;
    }
    over.send(true).unwrap();
    let acknowledged = within(writing).await.unwrap();
    assert!(acknowledged.len() >= 60, "{}", acknowledged.len());

    let fresh = server.client().await;
    let stored = names(&fresh);
    assert!(acknowledged.is_subset(&stored), "lost: {:?}", acknowledged.difference(&stored));
    for client in [&writer, &reader] {
        within(client.wait_for(|replica| {
            let have: BTreeSet<_> = LogicalSwitch::all(replica).map(|row| row.name).collect();
            (have == stored).then_some(())
        }))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_durable_write_is_lost_when_the_server_is_killed_in_mid_work() {
    survives(Server::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_lost_when_a_cluster_member_is_killed_in_mid_work() {
    survives(Server::start_as(Model::Clustered).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_durable_write_is_lost_when_a_server_reached_by_tcp_is_killed_in_mid_work() {
    survives(Server::start_on_tcp().await).await;
}

#[tokio::test]
async fn without_a_server_a_transaction_fails_at_once_and_the_last_state_can_be_read() {
    let mut server = Server::start().await;
    let client = server.client().await;
    let mut txn = Transaction::new();
    txn.insert("Logical_Switch", vec![("name", Value::from("s1"))]);
    within(client.transact(txn.clone())).await.unwrap();
    server.kill();
    until(|| !client.is_synced()).await;
    assert_eq!(within(client.transact(txn)).await, Err(TransactError::Disconnected));
    assert_eq!(names(&client), ["s1".to_owned()].into());
}
