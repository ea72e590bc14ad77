//! What a server does not take: it is told to whoever asked, the session goes on, and
//! what others want is there.

use ovn::apart::{self, Part, Why};
use ovn::nb::{AclWant, Desired, LogicalSwitch, SwitchWant, Table as _};
use ovn::ovsdb::{Client, TransactError};
use ovn::plan::Scope;

use crate::server::{Server, within};
use crate::wants::{apply, subnet, vms, vpc};

fn switch(name: &str, matches: &str, action: &str) -> Desired {
    let acls = [AclWant::new("to-lport", 1, matches, action)].into();
    let switches = [(name.to_owned(), SwitchWant { acls, ..SwitchWant::default() })].into();
    Desired { switches, ..Desired::default() }
}

async fn write(
    client: &Client,
    parts: impl IntoIterator<Item = (&'static str, Desired)>,
) -> (Vec<(&'static str, Why)>, u64) {
    let part = |(whose, wants)| Part { whose, wants };
    let written = within(apart::write(client, parts.into_iter().map(part).collect())).await;
    let written = written.unwrap();
    let left = written.left.into_iter().map(|(part, why)| (part.whose, why));
    (left.collect(), written.transactions)
}

#[tokio::test]
async fn a_text_that_no_server_takes_is_refused_and_the_session_goes_on() {
    let server = Server::start().await;
    let client = server.client().await;
    for (matches, action) in [("ip4 \0", "drop"), ("ip4", "jump")] {
        let outcome = apply(&client, &Scope::default(), &switch("s9", matches, action)).await;
        assert!(matches!(outcome, Err(TransactError::Rejected { .. })), "{outcome:?}");
        assert!(client.is_synced(), "the session ended over {matches:?} and {action:?}");
    }
    apply(&client, &Scope::default(), &vpc()).await.unwrap();
    apply(&client, &Scope::default(), &subnet()).await.unwrap();
}

#[tokio::test]
async fn an_owner_whose_rows_are_refused_holds_up_no_other() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut parts = vec![("vpc", vpc()), ("subnet", subnet())];
    parts.extend((1..=60).map(|number| ("vm", vms([number]))));
    parts.insert(17, ("jumps", switch("s8", "ip4", "jump")));
    parts.insert(44, ("nul", switch("s9", "ip4 \0", "drop")));
    let (left, transactions) = write(&client, parts).await;
    let refused: Vec<_> = left.iter().map(|(whose, _)| *whose).collect();
    assert_eq!(refused, ["jumps", "nul"], "{left:?}");
    assert!(left.iter().all(|(_, why)| matches!(why, Why::Refused { .. })), "{left:?}");
    assert!(transactions < 30, "{transactions} transactions");
    client.read(|replica| {
        assert_eq!(LogicalSwitch::by_name(replica, "s1").unwrap().ports.len(), 61);
        assert!(LogicalSwitch::by_name(replica, "s8").is_none());
    });
}

#[tokio::test]
async fn what_leans_on_a_refused_switch_waits_for_it_and_a_name_is_the_first_ones() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut bad = subnet();
    bad.switches = switch("s1", "ip4", "jump").switches;
    let mut other = subnet();
    other.ports.clear();
    other.switches.clear();
    let parts = [("vpc", vpc()), ("bad", bad), ("vm", vms([1])), ("good", other)];
    let (left, _) = write(&client, parts.clone()).await;
    let by = |whose: &str| left.iter().find(|(one, _)| *one == whose).map(|(_, why)| why.clone());
    assert!(matches!(by("bad"), Some(Why::Refused { .. })), "{left:?}");
    assert_eq!(by("vm"), Some(Why::Lacks("s1".to_owned())));
    assert_eq!(by("good"), None);

    let mut clash = vms([1]);
    clash.ports.get_mut("vm1.ns").unwrap().addresses.clear();
    let parts = [("vpc", vpc()), ("subnet", subnet()), ("vm", vms([1])), ("thief", clash)];
    let (left, transactions) = write(&client, parts).await;
    let [("thief", Why::Clash(clash))] = &left[..] else { panic!("{left:?}") };
    assert_eq!((clash.name.as_str(), transactions), ("vm1.ns", 1));
}
