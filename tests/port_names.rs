//! What OVN can have once only, and what it cannot have at all: who asks for it is told,
//! and takes nothing from anybody else.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::api::{Api, DynamicObject, PostParams};
use serde_json::json;
use tests::cluster::{self, Flavour};
use tests::eventually;
use tests::kinds::{IP, NAMESPACE, SUBNET, VM, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{World, port_of};

use crate::admission::says;
use crate::attachments::{attached, make_subnets, port};

const SOON: Duration = Duration::from_secs(20);

/// What a router port of the northbound database says, if it is there.
async fn networks_of(world: &World, port: &str) -> anyhow::Result<Option<String>> {
    let rows = world.northbound().rows("Logical_Router_Port", "name,networks").await?;
    let row = rows.into_iter().find(|row| row["name"] == port);
    Ok(row.map(|row| row["networks"].to_string()))
}

/// Waits until the port of this router is that of `network`.
async fn is_port_of(world: &World, port: &str, network: &str) -> anyhow::Result<()> {
    eventually(&format!("{port} to be of {network}"), SOON, async || {
        let networks = networks_of(world, port).await?.context("there is none")?;
        ensure!(networks.contains(network), "{networks}");
        Ok(())
    })
    .await
}

pub(super) async fn of_two_subnets_with_one_port_the_later_says_so_and_takes_nothing(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    for name in ["pier", "pier-a"] {
        cluster.create(VPC, vpc(name)).await?;
    }
    let first = Subnet::named("a-b").in_vpc("pier").of("10.230.0.0/24");
    cluster.create(SUBNET, first.object()).await?;
    is_port_of(world, "pier-a-b", "10.230.0.1/24").await?;
    let second = Subnet::named("b").in_vpc("pier-a").of("10.231.0.0/24");
    cluster.create(SUBNET, second.object()).await?;
    says(cluster, SUBNET, "b", ("Ready", "False"), "pier-a-b").await?;
    says(cluster, SUBNET, "b", ("Error", "True"), "rename one of the two").await?;
    is_port_of(world, "pier-a-b", "10.230.0.1/24").await?;
    says(cluster, SUBNET, "a-b", ("Ready", "True"), "").await?;

    // A link would have that port, too.
    let link = json!([{"remoteVpc": "a-b", "localConnectIP": "169.254.7.1/30"}]);
    cluster.merge(VPC, "pier", json!({"spec": {"vpcPeerings": link}})).await?;
    says(cluster, VPC, "pier", ("Error", "True"), "pier-a-b").await?;
    is_port_of(world, "pier-a-b", "10.230.0.1/24").await?;

    // Once the first is gone the second has it.
    cluster.merge(VPC, "pier", json!({"spec": {"vpcPeerings": []}})).await?;
    cluster.delete(SUBNET, "a-b").await?;
    is_port_of(world, "pier-a-b", "10.231.0.1/24").await?;
    says(cluster, SUBNET, "b", ("Ready", "True"), "").await?;
    for (kind, name) in [(SUBNET, "b"), (VPC, "pier"), (VPC, "pier-a")] {
        cluster.delete(kind, name).await?;
        cluster.gone(kind, name, SOON).await?;
    }
    Ok(())
}

pub(super) async fn a_vm_takes_no_port_of_a_subnet_or_of_a_vm_elsewhere(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(world).await?;
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("dock.default")).await?;
    let subnet = Subnet::named("ship").in_vpc("dock.default").of("10.232.0.0/24");
    cluster.create(SUBNET, subnet.object()).await?;
    says(cluster, SUBNET, "ship", ("Ready", "True"), "").await?;
    let link = async || {
        let rows = world.northbound().rows("Logical_Switch_Port", "name,type").await?;
        anyhow::Ok(rows.into_iter().find(|row| row["name"] == "ship-dock.default"))
    };
    cluster.create(VM, Vm::named("ship-dock").on("quay-first").object()).await?;
    says(cluster, VM, "ship-dock", ("Failure", "True"), "ship-dock.default").await?;
    ensure!(cluster.find(IP, &port_of("ship-dock")).await?.is_none(), "it has an address");
    let row = link().await?.context("the subnet has its port")?;
    ensure!(row["type"] == "router", "{row:?}");

    // Names of VMs may have dots, so that two may have one port from two namespaces.
    cluster.create(VM, attached(&Vm::named("crane").on("quay-first"), &["more"])).await?;
    world.running("crane").await?;
    let theirs = port("crane", "");
    let before = cluster.get(IP, &theirs).await?;
    let name = theirs.strip_suffix(".ovn").context("it ends in its provider")?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ovn"}});
    cluster.create(NAMESPACE, namespace).await?;
    let mut thief = Vm::named(name).on("quay-first").object();
    thief["metadata"]["namespace"] = "ovn".into();
    let client = cluster::client(cluster.kubeconfig()).await?;
    let machines: Api<DynamicObject> = Api::namespaced_with(client, "ovn", &VM.resource());
    machines.create(&PostParams::default(), &serde_json::from_value(thief)?).await?;
    eventually("the VM elsewhere to say whose its port is", SOON, async || {
        let vm = machines.get(name).await?;
        let said = vm.data["status"]["conditions"].to_string();
        ensure!(said.contains("default/crane") && said.contains("rename one"), "{said}");
        Ok(())
    })
    .await?;
    let after = cluster.get(IP, &theirs).await?;
    ensure!(after["spec"] == before["spec"], "{before} became {after}");
    machines.delete(name, &kube::api::DeleteParams::default()).await?;
    for (kind, name) in [(VM, "crane"), (VM, "ship-dock"), (SUBNET, "ship"), (VPC, "dock.default")]
    {
        cluster.delete(kind, name).await?;
        cluster.gone(kind, name, SOON).await?;
    }
    Ok(())
}

pub(super) async fn a_name_too_long_for_a_label_is_told_and_nobody_waits_without_a_word(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(world).await?;
    let cluster = &world.cluster;
    let long = "l".repeat(64);
    let subnet = Subnet::named(&long).in_vpc("quay").of("10.233.0.0/24");
    cluster.create(SUBNET, subnet.object()).await?;
    says(cluster, SUBNET, &long, ("Ready", "False"), "at most 63").await?;
    cluster.create(VM, Vm::named(&long).on("quay-first").object()).await?;
    says(cluster, VM, &long, ("Failure", "True"), "at most 63").await?;
    for kind in [VM, SUBNET] {
        cluster.delete(kind, &long).await?;
        cluster.gone(kind, &long, SOON).await?;
    }
    Ok(())
}

pub(super) async fn a_text_that_ovn_cannot_have_is_told_and_holds_up_nobody(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    let acls =
        json!([{"direction": "to-lport", "priority": 1, "match": "ip4 \0", "action": "drop"}]);
    let bad = Subnet::named("mute").of("10.234.0.0/24").with("acls", acls).object();
    let mut routed = vpc("mute-routes");
    let routes = json!([{"cidr": "10.9.0.0/16", "nextHopIP": "10.9.0.1", "routeTable": "a\0"}]);
    routed["spec"] = json!({"staticRoutes": routes});
    // A server that runs rules refuses them (`schema_rules`).
    if cluster.flavour() == Flavour::Embedded {
        cluster.create(SUBNET, bad).await?;
        cluster.create(VPC, routed).await?;
        says(cluster, SUBNET, "mute", ("Ready", "False"), "spec.acls[0].match").await?;
        says(cluster, VPC, "mute-routes", ("Error", "True"), "routeTable").await?;
    }
    let heard = Subnet::named("heard").in_vpc("quay").of("10.235.0.0/24");
    make_subnets(world).await?;
    let cluster = &world.cluster;
    cluster.create(SUBNET, heard.object()).await?;
    is_port_of(world, "quay-heard", "10.235.0.1/24").await?;
    for (kind, name) in [(SUBNET, "mute"), (SUBNET, "heard"), (VPC, "mute-routes")] {
        cluster.delete(kind, name).await?;
        cluster.gone(kind, name, SOON).await?;
    }
    Ok(())
}
