//! Networks at random: whatever is wanted after whatever was, one plan gets there.

use std::collections::{BTreeMap, BTreeSet};

use ovn::nb::{
    Acl, AclWant, AddressSet, AddressSetWant, Desired, DhcpOptions, DhcpOptionsWant, LogicalRouter,
    LogicalRouterPort, LogicalSwitch, LogicalSwitchPort, Policy, PolicyWant, PortWant,
    RouterPortWant, RouterWant, StaticRoute, StaticRouteWant, SwitchWant, Table, ours, pairs,
};
use ovn::ovsdb::Replica;
use ovn::plan::Scope;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::server::Server;
use crate::wants::{apply, mac};

const ROUNDS: usize = 60;

fn router() -> impl Strategy<Value = RouterWant> {
    let prefixes = prop::collection::btree_set("[1-4]", 0..4);
    let policies = prop::collection::btree_set(("(drop|allow)", 1_i64..4), 0..4);
    (prefixes, policies, any::<bool>()).prop_map(|(prefixes, policies, age)| {
        let policy = |(action, priority): (String, i64)| PolicyWant {
            priority,
            matches: "ip4.dst == 10.0.0.0/24".into(),
            action,
            ..PolicyWant::default()
        };
        let route =
            |prefix: String| StaticRouteWant::new(&format!("10.{prefix}.0.0/16"), "10.0.0.9");
        RouterWant {
            options: if age { pairs([("mac_binding_age_threshold", "300")]) } else { pairs([]) },
            static_routes: prefixes.into_iter().map(route).collect(),
            policies: policies.into_iter().map(policy).collect(),
            ..RouterWant::default()
        }
    })
}

fn switch() -> impl Strategy<Value = SwitchWant> {
    let rules = prop::collection::btree_set(("(drop|allow)", 1_i64..4), 0..5);
    (rules, prop::option::of("[1-3]0"), any::<bool>()).prop_map(|(rules, lease, snoop)| {
        let rule = |(action, tier): (String, i64)| AclWant {
            tier,
            ..AclWant::new("to-lport", tier, "ip", &action)
        };
        SwitchWant {
            acls: rules.into_iter().map(rule).collect(),
            dhcp_v4: lease.map(|lease| DhcpOptionsWant {
                cidr: "10.0.0.0/24".into(),
                options: pairs([("lease_time", &lease)]),
                initial: pairs([("server_mac", "0a:00:00:00:00:02")]),
            }),
            other_config: if snoop { pairs([("mcast_snoop", "true")]) } else { pairs([]) },
            ..SwitchWant::default()
        }
    })
}

/// Two routers, three switches and eight VMs at most, joined at random.
fn desired() -> impl Strategy<Value = Desired> {
    let routers = prop::collection::btree_map("v[12]", router(), 1..3);
    let switches = prop::collection::btree_map("s[123]", switch(), 1..4);
    let vm = (any::<prop::sample::Index>(), prop::option::of("n[12]"), any::<bool>());
    let vms = prop::collection::btree_map(0_usize..8, vm, 0..8);
    let links = prop::collection::vec(any::<prop::sample::Index>(), 3);
    let networks = prop::collection::btree_set("10[.][1-4][.]0[.]0/16", 0..3);
    let sets = prop::collection::btree_map("a[12]", networks, 0..3);
    (routers, switches, vms, links, sets).prop_map(|(routers, switches, vms, links, sets)| {
        let (vpcs, subnets): (Vec<_>, Vec<_>) =
            (routers.keys().cloned().collect(), switches.keys().cloned().collect());
        let mut desired = Desired { routers, switches, ..Desired::default() };
        let set = |addresses| AddressSetWant { addresses };
        desired.address_sets =
            sets.into_iter().map(|(name, networks)| (name, set(networks))).collect();
        for (subnet, link) in subnets.iter().zip(links) {
            let vpc: &String = link.get(&vpcs);
            let (there, back) = (format!("{vpc}-{subnet}"), format!("{subnet}-{vpc}"));
            let gateway = RouterPortWant::gateway(vpc, mac(0), ["10.0.0.1/24"]);
            desired.router_ports.insert(there.clone(), gateway);
            desired.ports.insert(back, PortWant::router(subnet, &there));
        }
        for (number, (subnet, chassis, dhcp)) in vms {
            let subnet: &String = subnet.get(&subnets);
            let mut port = PortWant::vm(subnet, "ns", "vm", mac(number), &[]);
            port.dhcp_v4 = dhcp;
            desired.ports.insert(format!("vm{number}.ns"), port.on_chassis(chassis.as_slice()));
        }
        desired
    })
}

fn parents<T: Table>(
    replica: &Replica,
    parents: &str,
    name: impl Fn(&T) -> String,
    uuid: impl Fn(&T) -> uuid::Uuid,
) -> BTreeMap<String, String> {
    let of = |row: &T| {
        let holders: Vec<_> = replica.holders(parents, uuid(row)).collect();
        assert_eq!(holders.len(), 1, "one parent each");
        replica.row(parents, holders[0]).unwrap().str("name").to_owned()
    };
    T::all(replica).map(|row| (name(&row), of(&row))).collect()
}

/// What the replica holds, said as wanted: nothing more, nothing less.
fn check(replica: &Replica, desired: &Desired) {
    let routers: BTreeMap<_, _> =
        LogicalRouter::all(replica).map(|row| (row.name.clone(), row)).collect();
    assert!(routers.keys().eq(desired.routers.keys()));
    for (name, want) in &desired.routers {
        let routes = &routers[name].static_routes;
        let routes = routes.iter().map(|uuid| StaticRoute::by_uuid(replica, *uuid).unwrap().route);
        assert_eq!(routes.collect::<BTreeSet<_>>(), want.static_routes);
        let policies = &routers[name].policies;
        let policies = policies.iter().map(|uuid| Policy::by_uuid(replica, *uuid).unwrap().policy);
        assert_eq!(policies.collect::<BTreeSet<_>>(), want.policies);
        assert_eq!(routers[name].options, want.options);
    }
    for (name, want) in &desired.switches {
        let row = LogicalSwitch::by_name(replica, name).unwrap();
        let acls = row.acls.iter().map(|uuid| Acl::by_uuid(replica, *uuid).unwrap().rule);
        assert_eq!(acls.collect::<BTreeSet<_>>(), stored(replica, &want.acls));
        assert_eq!(row.other_config, want.other_config);
    }
    let leases = DhcpOptions::all(replica)
        .map(|row| (row.external_ids["ls"].clone(), row.options["lease_time"].clone()));
    let wanted = desired.switches.iter().filter_map(|(name, want)| {
        Some((name.clone(), want.dhcp_v4.as_ref()?.options["lease_time"].clone()))
    });
    assert!(leases.collect::<BTreeMap<_, _>>().into_iter().eq(wanted));

    let sets = AddressSet::all(replica).map(|row| (row.name, row.addresses));
    let wanted = desired.address_sets.iter();
    let wanted = wanted.map(|(name, want)| (name.clone(), want.addresses.clone()));
    assert!(sets.collect::<BTreeMap<_, _>>().into_iter().eq(wanted));

    let ports = parents::<LogicalSwitchPort>(
        replica,
        LogicalSwitch::TABLE,
        |row| row.name.clone(),
        |row| row.uuid,
    );
    assert!(ports.iter().eq(desired.ports.iter().map(|(name, want)| (name, &want.switch))));
    let router_ports = parents::<LogicalRouterPort>(
        replica,
        LogicalRouter::TABLE,
        |row| row.name.clone(),
        |row| row.uuid,
    );
    let wanted = desired.router_ports.iter().map(|(name, want)| (name, &want.router));
    assert!(router_ports.iter().eq(wanted));
    for (name, want) in &desired.ports {
        let row = LogicalSwitchPort::by_name(replica, name).unwrap();
        assert_eq!((&row.options, &row.addresses), (&want.options, &want.addresses));
        let serves = desired.switches[&want.switch].dhcp_v4.is_some();
        assert_eq!(row.dhcpv4_options.is_some(), want.dhcp_v4 && serves);
    }
}

/// The rules as the server can store them.
fn stored(replica: &Replica, rules: &BTreeSet<AclWant>) -> BTreeSet<AclWant> {
    let tiers = replica.has_column(Acl::TABLE, "tier");
    let tier = |rule: &AclWant| if tiers { rule.tier } else { 0 };
    rules.iter().map(|rule| AclWant { tier: tier(rule), ..rule.clone() }).collect()
}

#[tokio::test]
async fn from_any_network_one_plan_leads_to_any_other_and_then_nothing_differs() {
    from_any_network_to_any_other(&Server::start().await, ROUNDS).await;
}

/// Goes through so many networks, and leaves none.
pub async fn from_any_network_to_any_other(server: &Server, rounds: usize) {
    let client = server.client().await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..rounds {
        let desired = desired().new_tree(&mut runner).unwrap().current();
        let scope = Scope::from(client.read(ours));
        apply(&client, &scope, &desired).await.unwrap();
        client.read(|replica| check(replica, &desired));
        assert_eq!(apply(&client, &Scope::from(client.read(ours)), &desired).await, Ok(0));
    }
    let scope = Scope::from(client.read(ours));
    apply(&client, &scope, &Desired::default()).await.unwrap();
    client.read(|replica| {
        for (table, _) in ovn::nb::tables() {
            assert_eq!(replica.count(&table), 0, "{table}");
        }
    });
}
