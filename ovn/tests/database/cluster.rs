//! Three members, and what clients do when the leader dies.

use std::collections::BTreeSet;

use ovn::nb::{LogicalSwitch, Table};
use ovn::ovsdb::{Client, Config, Remote, TransactError, Transaction, Value};

use crate::relay::Relay;
use crate::server::{Model, Server, follow, within};

async fn members() -> Vec<Server> {
    let first = Server::start_as(Model::Clustered).await;
    let (second, third) = (Server::join(&first).await, Server::join(&first).await);
    let members = vec![first, second, third];
    for member in &members {
        let client = about(member).await;
        within(client.wait_for(|replica| is(replica, "connected").then_some(()))).await;
    }
    members
}

/// What a member says of itself.
async fn about(member: &Server) -> Client {
    let columns = ["name", "connected", "leader"].map(str::to_owned).to_vec();
    follow(Config {
        database: "_Server".to_owned(),
        tables: vec![("Database".to_owned(), columns)],
        leader_only: false,
        ..member.config()
    })
    .await
}

fn is(replica: &ovn::ovsdb::Replica, what: &str) -> bool {
    let row = replica.by_name("Database", ovn::nb::DATABASE);
    row.and_then(|(_, row)| row.boolean(what)).unwrap_or_default()
}

async fn leader(members: &[Server]) -> Option<usize> {
    for (at, member) in members.iter().enumerate() {
        if about(member).await.read(|replica| is(replica, "leader")) {
            return Some(at);
        }
    }
    None
}

fn config(members: &[Server], leader_only: bool) -> Config {
    let remotes = members.iter().map(|member| Remote::Unix(member.socket())).collect();
    Config { remotes, leader_only, ..members[0].config() }
}

/// Inserts until it is acknowledged.
async fn insert(client: &Client, name: &str) {
    loop {
        let mut txn = Transaction::new();
        txn.insert("Logical_Switch", vec![("name", Value::from(name))]);
        match within(client.transact(txn)).await {
            Ok(_) => return,
            Err(TransactError::Disconnected) => within(client.synced()).await,
            Err(error) => panic!("{error}"),
        }
    }
}

fn names(client: &Client) -> BTreeSet<String> {
    client.read(|replica| LogicalSwitch::all(replica).map(|switch| switch.name).collect())
}

#[tokio::test]
async fn when_the_leader_dies_the_next_one_is_found_and_nothing_is_lost() {
    let mut members = members().await;
    let client = follow(config(&members, true)).await;
    for number in 0..20 {
        insert(&client, &format!("before{number}")).await;
    }
    let leader = leader(&members).await.expect("a cluster of three has a leader");
    members[leader].kill();
    for number in 0..20 {
        insert(&client, &format!("after{number}")).await;
    }
    let names = names(&client);
    assert!(names.iter().filter(|name| name.starts_with("before")).count() == 20);
    assert!(names.iter().filter(|name| name.starts_with("after")).count() == 20);
}

#[tokio::test]
async fn a_follower_takes_transactions_and_its_replica_has_them_when_acknowledged() {
    let members = members().await;
    let leader = leader(&members).await.expect("a cluster of three has a leader");
    let follower = &members[(leader + 1) % 3];
    let client = follow(Config { leader_only: false, ..follower.config() }).await;
    for number in 0..30 {
        let name = format!("s{number}");
        insert(&client, &name).await;
        assert!(names(&client).contains(&name));
    }
}

#[tokio::test]
async fn a_follower_is_not_followed_by_who_wants_the_leader() {
    let members = members().await;
    let leader = leader(&members).await.expect("a cluster of three has a leader");
    let relay = Relay::to(members[(leader + 1) % 3].socket());
    let remotes = vec![Remote::Unix(relay.socket()), Remote::Unix(members[leader].socket())];
    let client = follow(Config { remotes, ..members[leader].config() }).await;
    assert!(relay.received() > 0, "the follower was asked first");
    // Were it followed, this would not be answered.
    relay.lose_answers();
    insert(&client, "s1").await;
}
