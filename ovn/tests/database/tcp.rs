//! Servers reached by TCP, one after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use ovn::nb::{LogicalSwitch, Table};
use ovn::ovsdb::{Client, Config, Remote, Timing, TransactError, Transaction, Value};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::server::{Server, eventually, follow, quick, until, within};

fn insert_switch(name: &str) -> Transaction {
    let mut txn = Transaction::new();
    txn.insert("Logical_Switch", vec![("name", Value::from(name))]);
    txn
}

fn names(client: &Client) -> BTreeSet<String> {
    client.read(|replica| LogicalSwitch::all(replica).map(|switch| switch.name).collect())
}

fn list(remotes: &[&Remote]) -> Vec<Remote> {
    let text: Vec<_> = remotes.iter().map(ToString::to_string).collect();
    Remote::list(&text.join(",")).unwrap()
}

/// An address where connections are neither taken nor refused.
async fn silent() -> (Remote, (TcpListener, TcpStream)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    // Linux keeps one more than asked for; to the rest it gives no answer.
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let first = TcpStream::connect(address).await.unwrap();
    (format!("tcp:{address}").parse().unwrap(), (listener, first))
}

/// Whether somebody waits for a connection to this port to be made (proc(5)).
fn is_being_called(port: u16) -> bool {
    const SYN_SENT: &str = "02";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    table.lines().map(str::split_whitespace).any(|mut fields| {
        let (remote, state) = (fields.nth(2), fields.next());
        remote.is_some_and(|remote| remote.ends_with(&port)) && state == Some(SYN_SENT)
    })
}

#[tokio::test]
async fn a_server_that_comes_back_on_its_port_is_followed_again() {
    let mut server = Server::start_on_tcp().await;
    let client = follow(Config { remotes: list(&[&server.remote()]), ..server.config() }).await;
    within(client.transact(insert_switch("s1").durable())).await.unwrap();
    server.kill();
    until(|| client.trouble().is_some()).await;
    assert_eq!(
        within(client.transact(insert_switch("s2"))).await,
        Err(TransactError::Disconnected)
    );
    assert_eq!(names(&client), ["s1".to_owned()].into());
    server.start_again().await;
    within(client.synced()).await;
    within(client.transact(insert_switch("s2"))).await.unwrap();
    assert_eq!(names(&client), ["s1".to_owned(), "s2".to_owned()].into());
}

#[tokio::test]
async fn when_the_first_of_a_list_is_gone_the_next_one_is_followed_and_the_first_again_later() {
    let (mut first, mut second) = (Server::start_on_tcp().await, Server::start_on_tcp().await);
    for (server, name) in [(&first, "first"), (&second, "second")] {
        within(server.client().await.transact(insert_switch(name).durable())).await.unwrap();
    }
    let remotes = list(&[&first.remote(), &second.remote()]);
    let client = follow(Config { remotes, ..first.config() }).await;
    assert_eq!(names(&client), ["first".to_owned()].into());

    first.kill();
    // What the second one has, and nothing of what the first one had.
    eventually(&client, |replica| LogicalSwitch::by_name(replica, "second").is_some()).await;
    within(client.synced()).await;
    within(client.transact(insert_switch("after"))).await.unwrap();
    assert_eq!(names(&client), ["after".to_owned(), "second".to_owned()].into());

    first.start_again().await;
    second.kill();
    eventually(&client, |replica| LogicalSwitch::by_name(replica, "first").is_some()).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_door_delays_the_next_one_no_longer_than_allowed() {
    let server = Server::start_on_tcp().await;
    let (silent, _keep) = silent().await;
    let remotes = list(&[&silent, &server.remote()]);
    let config = Config { remotes, ..server.config() };
    let timing = Timing { connect: Duration::from_millis(100), ..quick() };
    let client = Client::spawn_with(config, timing);
    within(client.synced()).await;
    within(client.transact(insert_switch("s1"))).await.unwrap();
}

#[tokio::test]
async fn while_a_connection_is_being_made_a_transaction_fails_at_once() {
    let server = Server::start().await;
    let (silent, _keep) = silent().await;
    let Remote::Tcp { port, .. } = silent else { panic!("{silent}") };
    let config = Config { remotes: vec![silent], ..server.config() };
    let timing = Timing { connect: Duration::from_secs(3600), ..quick() };
    let client = Client::spawn_with(config, timing);
    until(|| is_being_called(port)).await;
    assert_eq!(
        within(client.transact(insert_switch("s1"))).await,
        Err(TransactError::Disconnected)
    );
    let mut changes = client.changes();
    drop(client);
    within(async { while changes.changed().await.is_ok() {} }).await;
}
