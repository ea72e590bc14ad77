//! Which way packets take by what Vpcs and Subnets say: over several next hops, by a table of
//! their own, or past rules that keep others out; in the rows of the northbound database, and in
//! what `ovn-trace` says of a packet.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tests::kinds::{IP, SUBNET, VM, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{World, port_of};
use tests::{eventually, same};

use crate::admission::says;
use crate::topology::{counts, identities, is_output_to};

const SOON: Duration = Duration::from_secs(20);

/// A Vpc with two subnets, `<name>-one` and `<name>-two`, the first of which says this.
async fn make(
    world: &World,
    name: &str,
    cidrs: [&str; 2],
    of_first: (&str, Value),
) -> anyhow::Result<()> {
    world.cluster.create(VPC, vpc(name)).await?;
    let [one, two] = cidrs;
    let first = Subnet::named(&format!("{name}-one")).in_vpc(name).of(one);
    let second = Subnet::named(&format!("{name}-two")).in_vpc(name).of(two);
    world.cluster.create(SUBNET, first.with(of_first.0, of_first.1).object()).await?;
    world.cluster.create(SUBNET, second.object()).await.map(drop)
}

/// Where no VM is, but what the gate takes on to others.
const BEYOND: (&str, &str) = ("10.99.0.0/16", "10.99.0.9");

/// Makes VMs by name and subnet, and waits until they run.
async fn run(world: &World, vms: &[(&str, &str)]) -> anyhow::Result<()> {
    for (vm, subnet) in vms {
        let vm = Vm::named(vm).on(subnet).without_grace();
        // As one that takes on packets to others, in the form that `ovn-trace` knows.
        let vm = vm.annotated("ovn.kubernetes.io/port_security", "false");
        world.cluster.create(VM, vm.object()).await?;
    }
    for (vm, _) in vms {
        world.running(vm).await?;
    }
    Ok(())
}

/// Takes the Vpc away again, with what was made on it.
async fn end(world: &World, name: &str, vms: &[(&str, &str)]) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    for (vm, _) in vms {
        cluster.delete(VM, vm).await?;
        cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    for subnet in [format!("{name}-one"), format!("{name}-two")] {
        cluster.delete(SUBNET, &subnet).await?;
        cluster.gone(SUBNET, &subnet, SOON).await?;
    }
    cluster.delete(VPC, name).await?;
    cluster.gone(VPC, name, SOON).await
}

/// Whether a ping to this address, handed to the router of its subnet, comes out at another's
/// port.
async fn leads(
    world: &World,
    from: (&str, &str),
    address: &str,
    to: &str,
    wanted: bool,
) -> anyhow::Result<()> {
    let way = if wanted { "" } else { "not " };
    eventually(&format!("a packet of {} {way}to come out at {to}", from.0), SOON, async || {
        let status = world.cluster.get(SUBNET, from.1).await?["status"].clone();
        let router = status["gatewayMAC"].as_str().context("the subnet has a router")?;
        same("the way", is_output_to(world, from, (router, address), to).await?, wanted)
    })
    .await
}

pub(super) async fn several_next_hops_of_a_policy_are_one_row(
    world: &mut World,
) -> anyhow::Result<()> {
    let (table, matches) = ("Logical_Router_Policy", "ip4.src == 10.231.0.0/24");
    let which = ("match", matches);
    make(world, "fan", ["10.231.0.0/24", "10.231.1.0/24"], ("private", json!(false))).await?;
    let route = |hops: &str| {
        let one = json!({"priority": 20, "match": matches, "action": "reroute", "nextHopIP": hops});
        json!({"spec": {"policyRoutes": [one]}})
    };
    let hops = async |wanted: &[&str]| {
        eventually("the next hops of the policy", SOON, async || {
            let rows = world.northbound().rows(table, "match,action,nexthop,nexthops").await?;
            let mut rows = rows.iter().filter(|row| row["match"] == matches);
            let row = rows.next().context("there is no row")?;
            same("further rows", rows.count(), 0)?;
            same("its action", row["action"].as_str(), Some("reroute"))?;
            let said = row["nexthops"].to_string();
            let said: BTreeSet<_> = said.split('"').filter(|part| part.contains('.')).collect();
            same("its next hops", said, wanted.iter().copied().collect())
        })
        .await
    };
    let three = "10.231.1.7,10.231.1.8, 10.231.1.9";
    world.cluster.merge(VPC, "fan", route(three)).await?;
    hops(&["10.231.1.7", "10.231.1.8", "10.231.1.9"]).await?;
    let before = identities(world, table, which).await?;
    // Another order of the same ones is no change.
    world.cluster.merge(VPC, "fan", route("10.231.1.9,10.231.1.7,10.231.1.8")).await?;
    world.cluster.merge(VPC, "fan", json!({"spec": {"namespaces": ["nobody"]}})).await?;
    says(&world.cluster, VPC, "fan", ("FieldsWithoutEffect", "True"), "spec.namespaces[0]").await?;
    same("the row", identities(world, table, which).await?, before)?;
    world.cluster.merge(VPC, "fan", route("10.231.1.9")).await?;
    hops(&["10.231.1.9"]).await?;
    world.cluster.merge(VPC, "fan", json!({"spec": {"policyRoutes": []}})).await?;
    counts(world, table, which, 0).await?;
    end(world, "fan", &[]).await
}

pub(super) async fn a_route_of_a_table_is_for_the_subnets_of_that_table(
    world: &mut World,
) -> anyhow::Result<()> {
    let table = ("routeTable", json!("blue"));
    make(world, "tables", ["10.232.0.0/24", "10.232.1.0/24"], table).await?;
    let vms =
        [("table-blue", "tables-one"), ("table-main", "tables-two"), ("table-gate", "tables-two")];
    run(world, &vms).await?;
    let gate = world.place("table-gate").await?.v4;
    let route = |table: &str| {
        let one = json!({"cidr": BEYOND.0, "nextHopIP": gate, "routeTable": table});
        json!({"spec": {"staticRoutes": [one]}})
    };
    let [blue, main, _] = vms;
    for (name, by_blue, by_main) in [("blue", true, false), ("", false, true)] {
        world.cluster.merge(VPC, "tables", route(name)).await?;
        eventually("the table of the route", SOON, async || {
            let columns = "ip_prefix,route_table,nexthop";
            let rows = world.northbound().rows("Logical_Router_Static_Route", columns).await?;
            let mut rows = rows.iter().filter(|row| row["ip_prefix"] == BEYOND.0);
            let row = rows.next().context("there is no row")?;
            same("further rows", rows.count(), 0)?;
            same("its table", row["route_table"].as_str(), Some(name))
        })
        .await?;
        leads(world, blue, BEYOND.1, "table-gate", by_blue).await?;
        leads(world, main, BEYOND.1, "table-gate", by_main).await?;
    }
    end(world, "tables", &vms).await
}

pub(super) async fn what_is_let_pass_within_a_subnet_is_let_pass_beside_its_rules(
    world: &mut World,
) -> anyhow::Result<()> {
    let closed =
        json!([{"direction": "to-lport", "priority": 1500, "match": "ip4", "action": "drop"}]);
    make(world, "inner", ["10.233.0.0/24", "10.233.1.0/24"], ("acls", closed.clone())).await?;
    let vms = [("inner-a", "inner-one"), ("inner-b", "inner-one"), ("inner-far", "inner-two")];
    run(world, &vms).await?;
    let target = world.place("inner-b").await?;
    let (near, far) = (vms[0], vms[2]);
    let within = async |wanted: bool| {
        eventually(&format!("a packet within the subnet: {wanted}"), SOON, async || {
            let to = (target.mac.as_str(), target.v4.as_str());
            same("the way", is_output_to(world, near, to, "inner-b").await?, wanted)
        })
        .await
    };
    within(false).await?;
    leads(world, far, &target.v4, "inner-b", false).await?;
    let edit =
        async |spec: Value| world.cluster.merge(SUBNET, "inner-one", json!({"spec": spec})).await;
    edit(json!({"allowEWTraffic": true})).await?;
    within(true).await?;
    leads(world, far, &target.v4, "inner-b", false).await?;
    // A rule of more than 1900 goes before it, as upstream.
    edit(json!({"acls": [{"direction": "to-lport", "priority": 1901, "match": "ip4", "action": "drop"}]}))
        .await?;
    within(false).await?;
    edit(json!({"acls": closed, "allowEWTraffic": false})).await?;
    counts(world, "ACL", ("priority", "1900"), 0).await?;
    within(false).await?;
    // Without rules there is nothing that it could be beside.
    edit(json!({"acls": [], "allowEWTraffic": true})).await?;
    let told = ("FieldsWithoutEffect", "True");
    says(&world.cluster, SUBNET, "inner-one", told, "spec.allowEWTraffic").await?;
    within(true).await?;
    leads(world, far, &target.v4, "inner-b", true).await?;
    end(world, "inner", &vms).await
}
