//! Plans, applied.

use std::time::{Duration, Instant};

use ovn::nb::{
    Acl, Desired, DhcpOptions, DhcpOptionsWant, LogicalRouter, LogicalRouterPort, LogicalSwitch,
    LogicalSwitchPort, PortWant, StaticRoute, Table, VENDOR, ours, pairs,
};
use ovn::ovsdb::{Client, Condition, Mutation, TransactError, Transaction, Value};
use ovn::plan::{self, Scope};

use crate::server::{Server, eventually, within};
use crate::wants::{all, apply, mac, subnet, vms, vpc};

fn everything() -> Scope {
    Scope::router("v1").and(Scope::switch("s1"))
}

async fn transact(client: &Client, build: impl FnOnce(&mut Transaction)) {
    let mut txn = Transaction::new();
    build(&mut txn);
    within(client.transact(txn)).await.unwrap();
}

fn port(client: &Client, name: &str) -> Option<LogicalSwitchPort> {
    client.read(|replica| LogicalSwitchPort::by_name(replica, name))
}

#[tokio::test]
async fn a_network_is_made_in_one_transaction_and_applied_again_changes_nothing() {
    let server = Server::start().await;
    let client = server.client().await;
    let desired = all([vpc(), subnet(), vms(1..4)]);
    assert!(apply(&client, &everything(), &desired).await.unwrap() > 0);
    client.read(|replica| {
        let switch = LogicalSwitch::by_name(replica, "s1").unwrap();
        assert_eq!((switch.ports.len(), switch.acls.len()), (4, 1));
        let router = LogicalRouter::by_name(replica, "v1").unwrap();
        assert_eq!((router.ports.len(), router.static_routes.len()), (1, 1));
        let vm = LogicalSwitchPort::by_name(replica, "vm2.ns").unwrap();
        assert_eq!(vm.addresses, [format!("{} 10.0.0.2", mac(2))].into());
        assert_eq!(vm.port_security, vm.addresses);
        assert_eq!(vm.external_ids, pairs([("ls", "s1"), ("pod", "ns/vm2"), ("vendor", VENDOR)]));
        assert_eq!(ours(replica).ports.len(), 4);
    });
    assert_eq!(apply(&client, &everything(), &desired).await, Ok(0));
}

#[tokio::test]
async fn plans_of_several_owners_make_one_transaction() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut joined = Transaction::new();
    for (scope, desired) in [
        (Scope::router("v1"), vpc()),
        (Scope::switch("s1"), subnet()),
        (Scope::ports(["vm1.ns", "vm2.ns"]), vms(1..3)),
    ] {
        joined.append(client.read(|replica| plan::between(replica, &scope, &desired)));
    }
    within(client.transact(joined)).await.unwrap();
    let desired = all([vpc(), subnet(), vms(1..3)]);
    assert_eq!(apply(&client, &everything(), &desired).await, Ok(0));
}

#[tokio::test]
async fn a_port_without_its_switch_is_a_conflict_rather_than_lost() {
    let server = Server::start().await;
    let client = server.client().await;
    let outcome = apply(&client, &Scope::default(), &vms([1])).await;
    assert_eq!(outcome, Err(TransactError::Conflict));
}

#[tokio::test]
async fn a_port_whose_switch_was_deleted_meanwhile_is_a_conflict_rather_than_lost() {
    let server = Server::start().await;
    let client = server.client().await;
    apply(&client, &everything(), &all([vpc(), subnet()])).await.unwrap();
    let late = client.read(|replica| plan::between(replica, &Scope::default(), &vms([1])));
    apply(&client, &everything(), &vpc()).await.unwrap();
    assert_eq!(within(client.transact(late)).await, Err(TransactError::Conflict));
}

#[tokio::test]
async fn what_is_no_longer_wanted_goes_and_what_is_out_of_scope_stays() {
    let server = Server::start().await;
    let client = server.client().await;
    apply(&client, &everything(), &all([vpc(), subnet(), vms(1..4)])).await.unwrap();

    apply(&client, &Scope::ports(["vm1.ns", "vm2.ns"]), &vms([2])).await.unwrap();
    assert!(port(&client, "vm1.ns").is_none());
    assert!(port(&client, "vm2.ns").is_some() && port(&client, "vm3.ns").is_some());

    apply(&client, &everything(), &vpc()).await.unwrap();
    client.read(|replica| {
        assert_eq!(replica.count(LogicalSwitch::TABLE), 0);
        assert_eq!(replica.count(LogicalSwitchPort::TABLE), 0);
        assert_eq!(replica.count(LogicalRouterPort::TABLE), 0);
        assert_eq!(replica.count(Acl::TABLE), 0);
        assert_eq!(replica.count(LogicalRouter::TABLE), 1);
    });
    apply(&client, &everything(), &Desired::default()).await.unwrap();
    assert_eq!(client.read(|replica| replica.count(StaticRoute::TABLE)), 0);
}

#[tokio::test]
async fn rows_of_others_are_adopted_by_name_with_their_mac_and_their_own_keys() {
    let server = Server::start().await;
    let client = server.client().await;
    transact(&client, |txn| {
        let ids = || ("external_ids", Value::map([("vendor", "kube-ovn"), ("theirs", "kept")]));
        let lrp = txn.insert(
            "Logical_Router_Port",
            vec![
                ("name", "v1-s1".into()),
                ("mac", "0a:00:00:00:00:01".into()),
                ("networks", "10.0.0.1/24".into()),
                ids(),
            ],
        );
        txn.insert("Logical_Router", vec![("name", "v1".into()), ("ports", lrp.into()), ids()]);
        let options = ("options", Value::map([("requested-chassis", "old"), ("theirs", "kept")]));
        let vm = txn.insert("Logical_Switch_Port", vec![("name", "vm1.ns".into()), options, ids()]);
        txn.insert("Logical_Switch", vec![("name", "s1".into()), ("ports", vm.into()), ids()]);
    })
    .await;
    let before = port(&client, "vm1.ns").unwrap().uuid;
    let desired = all([vpc(), subnet(), vms([1])]);
    apply(&client, &everything(), &desired).await.unwrap();
    client.read(|replica| {
        let gateway = LogicalRouterPort::by_name(replica, "v1-s1").unwrap();
        assert_eq!(gateway.mac.unwrap().to_string(), "0a:00:00:00:00:01");
        assert_eq!(gateway.networks, ["10.0.0.1/16".to_owned()].into());
        assert_eq!(gateway.external_ids["theirs"], "kept");
        let vm = LogicalSwitchPort::by_name(replica, "vm1.ns").unwrap();
        assert_eq!(vm.uuid, before);
        assert_eq!(vm.options, pairs([("requested-chassis", "n1"), ("theirs", "kept")]));
        assert_eq!(vm.external_ids["vendor"], VENDOR);
    });
    assert_eq!(apply(&client, &everything(), &desired).await, Ok(0));
}

#[tokio::test]
async fn a_port_on_another_switch_is_moved_and_stays_the_same_row() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut desired = all([vpc(), subnet(), vms([1])]);
    desired.switches.insert("s2".into(), Default::default());
    apply(&client, &everything(), &desired).await.unwrap();
    let before = port(&client, "vm1.ns").unwrap().uuid;
    let moved = PortWant::vm("s2", "ns", "vm1", mac(1), &[]);
    desired.ports.insert("vm1.ns".into(), moved);
    apply(&client, &everything(), &desired).await.unwrap();
    client.read(|replica| {
        let vm = LogicalSwitchPort::by_name(replica, "vm1.ns").unwrap();
        assert_eq!((vm.uuid, vm.external_ids["ls"].as_str()), (before, "s2"));
        assert_eq!(LogicalSwitch::by_name(replica, "s2").unwrap().ports, [before]);
        assert!(!LogicalSwitch::by_name(replica, "s1").unwrap().ports.contains(&before));
    });
    assert_eq!(apply(&client, &everything(), &desired).await, Ok(0));
}

#[tokio::test]
async fn a_changed_rule_is_swapped_in_one_transaction_and_a_foreign_one_stays() {
    let server = Server::start().await;
    let client = server.client().await;
    apply(&client, &everything(), &all([vpc(), subnet()])).await.unwrap();
    transact(&client, |txn| {
        let theirs = txn.insert(
            "ACL",
            vec![
                ("priority", 1.into()),
                ("direction", "to-lport".into()),
                ("match", "ip".into()),
                ("action", "allow".into()),
            ],
        );
        let row = vec![Condition::equals("name", "s1")];
        txn.mutate("Logical_Switch", row, vec![Mutation::insert("acls", theirs)]);
    })
    .await;
    let mut desired = subnet();
    let switch = desired.switches.get_mut("s1").unwrap();
    let mut rule = switch.acls.pop_first().unwrap();
    rule.action = "reject".into();
    // Where a tier cannot be stored it must not be a difference for ever.
    rule.tier = 2;
    switch.acls.insert(rule);
    assert_eq!(apply(&client, &Scope::switch("s1"), &desired).await, Ok(2));
    client.read(|replica| {
        let mut actions: Vec<_> = Acl::all(replica).map(|acl| acl.rule.action).collect();
        actions.sort();
        assert_eq!(actions, ["allow", "reject"]);
    });
    assert_eq!(apply(&client, &Scope::switch("s1"), &desired).await, Ok(0));
}

#[tokio::test]
async fn dhcp_options_keep_their_server_mac_and_go_with_their_switch() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut desired = all([vpc(), subnet(), vms([1])]);
    let mut want = DhcpOptionsWant {
        cidr: "10.0.0.0/16".into(),
        options: pairs([("lease_time", "3600"), ("router", "10.0.0.1")]),
        initial: pairs([("server_mac", "0a:00:00:00:00:02")]),
    };
    desired.switches.get_mut("s1").unwrap().dhcp_v4 = Some(want.clone());
    desired.ports.get_mut("vm1.ns").unwrap().dhcp_v4 = true;
    apply(&client, &everything(), &desired).await.unwrap();
    let row = port(&client, "vm1.ns").unwrap().dhcpv4_options.unwrap();

    want.options = pairs([("lease_time", "60")]);
    want.initial = pairs([("server_mac", "0a:00:00:00:00:03")]);
    desired.switches.get_mut("s1").unwrap().dhcp_v4 = Some(want);
    apply(&client, &everything(), &desired).await.unwrap();
    let found = client.read(|replica| DhcpOptions::by_uuid(replica, row).unwrap());
    let expected = pairs([("lease_time", "60"), ("server_mac", "0a:00:00:00:00:02")]);
    assert_eq!(found.options, expected);
    assert_eq!(apply(&client, &everything(), &desired).await, Ok(0));

    apply(&client, &everything(), &vpc()).await.unwrap();
    assert_eq!(client.read(|replica| replica.count(DhcpOptions::TABLE)), 0);
}

#[tokio::test]
async fn an_option_changed_by_another_client_meanwhile_is_a_conflict() {
    let server = Server::start().await;
    let (one, two) = (server.client().await, server.client().await);
    apply(&one, &everything(), &all([vpc(), subnet(), vms([1])])).await.unwrap();
    let mut desired = vms([1]);
    let port = desired.ports.get_mut("vm1.ns").unwrap();
    *port = port.clone().on_chassis(&["n2"]);
    let late = one.read(|replica| plan::between(replica, &Scope::default(), &desired));

    eventually(&two, |replica| LogicalSwitchPort::by_name(replica, "vm1.ns").is_some()).await;
    let port = desired.ports.get_mut("vm1.ns").unwrap();
    *port = port.clone().on_chassis(&["n1", "n3"]).activated_by("rarp");
    apply(&two, &Scope::default(), &desired).await.unwrap();
    assert_eq!(within(one.transact(late)).await, Err(TransactError::Conflict));

    let port = desired.ports.get_mut("vm1.ns").unwrap();
    port.options = pairs([("requested-chassis", "n3")]);
    apply(&two, &Scope::default(), &desired).await.unwrap();
    let options =
        two.read(|replica| LogicalSwitchPort::by_name(replica, "vm1.ns").unwrap().options);
    assert_eq!(options, pairs([("requested-chassis", "n3")]));
}

#[tokio::test]
async fn an_option_added_by_another_client_meanwhile_is_a_conflict_rather_than_left_as_it_is() {
    let server = Server::start().await;
    let (one, two) = (server.client().await, server.client().await);
    let on = |chassis: &[&str]| {
        let mut desired = vms([1]);
        let port = desired.ports.remove("vm1.ns").unwrap();
        desired.ports.insert("vm1.ns".into(), port.on_chassis(chassis));
        desired
    };
    apply(&one, &everything(), &all([vpc(), subnet(), on(&[])])).await.unwrap();
    let late = one.read(|replica| plan::between(replica, &Scope::default(), &on(&["n1"])));

    eventually(&two, |replica| LogicalSwitchPort::by_name(replica, "vm1.ns").is_some()).await;
    apply(&two, &Scope::default(), &on(&["n2"])).await.unwrap();
    assert_eq!(within(one.transact(late)).await, Err(TransactError::Conflict));
    assert_eq!(port(&one, "vm1.ns").unwrap().options, pairs([("requested-chassis", "n2")]));
}

#[tokio::test]
async fn a_thousand_ports_are_planned_and_applied_in_one_transaction_quickly() {
    let server = Server::start().await;
    let client = server.client().await;
    apply(&client, &everything(), &all([vpc(), subnet()])).await.unwrap();
    let desired = vms(1..1001);
    // The best of a few, as other tests run beside.
    let planned = || {
        let begun = Instant::now();
        let plan = client.read(|replica| plan::between(replica, &Scope::default(), &desired));
        (begun.elapsed(), plan)
    };
    let best = |planned: &dyn Fn() -> (Duration, Transaction)| {
        (0..5).map(|_| planned()).min_by_key(|(took, _)| *took).unwrap()
    };
    let (planning, plan) = best(&planned);
    let begun = Instant::now();
    within(client.transact(plan)).await.unwrap();
    let applying = begun.elapsed();
    let (checking, nothing) = best(&planned);
    println!("planned {planning:?}, applied {applying:?}, checked {checking:?}");
    assert!(nothing.is_empty());
    assert!(planning + checking < Duration::from_millis(200), "{planning:?} {checking:?}");
    assert!(applying < Duration::from_secs(5), "{applying:?}");
}
