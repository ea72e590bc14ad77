//! A subnet that gets its second family while VMs are on it.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tests::kinds::{IP, SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Place, World, port_of};
use tests::{eventually, same};

use crate::admission::says;

const SOON: Duration = Duration::from_secs(30);
const V4: &str = "10.234.0.0/24";

/// The addresses that OVN has in the port of a VM.
async fn in_ovn(world: &World, vm: &str) -> anyhow::Result<String> {
    let ports = world.northbound().vm_ports().await?;
    let port = ports.get(&port_of(vm)).map(|port| port.addresses.iter().cloned().collect());
    Ok(port.unwrap_or_default())
}

/// Waits until its port has all of its place, and no more.
async fn has_all_of(world: &World, vm: &str, place: &Place) -> anyhow::Result<()> {
    let wanted = format!("{} {} {}", place.mac, place.v4, place.v6);
    eventually(&format!("{vm} to have {wanted} in OVN"), SOON, async || {
        same("its port", in_ovn(world, vm).await?.as_str(), wanted.trim())
    })
    .await
}

pub(super) async fn a_vm_keeps_its_address_when_its_subnet_gets_another_family_and_has_both_at_its_next_start(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("grown")).await?;
    cluster.create(SUBNET, Subnet::named("grown-net").in_vpc("grown").of(V4).object()).await?;
    let named = Vm::named("grown-named").on("grown-net").with_address("10.234.0.77");
    let halted = Vm::named("grown-halted").on("grown-net").without_grace();
    cluster.create(VM, named.without_grace().object()).await?;
    cluster.create(VM, Vm::named("grown-any").on("grown-net").without_grace().object()).await?;
    cluster.create(VM, halted.object()).await?;
    let vms = ["grown-named", "grown-any", "grown-halted"];
    let mut before = Vec::new();
    for vm in vms {
        world.running(vm).await?;
        let place = world.place(vm).await?;
        same("its IPv6 address", place.v6.as_str(), "")?;
        has_all_of(world, vm, &place).await?;
        before.push(place);
    }
    let strategy = async |vm: &str, strategy: &str| {
        cluster.merge(VM, vm, json!({"spec": {"runStrategy": strategy}})).await
    };
    strategy("grown-halted", "Halted").await?;
    cluster.gone(VMI, "grown-halted", SOON).await?;

    let both = json!({"spec": {"cidrBlock": format!("{V4},fd34::/64")}});
    cluster.merge(SUBNET, "grown-net", both).await?;
    eventually("the subnet to have both", SOON, async || {
        let status = cluster.get(SUBNET, "grown-net").await?["status"].clone();
        same("in force", status["inForce"]["cidrBlock"].as_str(), Some("10.234.0.0/24,fd34::/64"))
    })
    .await?;
    says(cluster, SUBNET, "grown-net", ("Ready", "True"), "").await?;
    // Who runs goes on as it was made, and who comes has both.
    cluster.create(VM, Vm::named("grown-new").on("grown-net").without_grace().object()).await?;
    world.running("grown-new").await?;
    let new = world.place("grown-new").await?;
    ensure!(new.v4.starts_with("10.234.") && new.v6.starts_with("fd34:"), "it has {new:?}");
    for (vm, place) in vms.iter().zip(&before) {
        same("its place", &world.place(vm).await?, place)?;
        has_all_of(world, vm, place).await?;
    }
    for (vm, before) in vms.iter().zip(&before) {
        strategy(vm, "Halted").await?;
        cluster.gone(VMI, vm, SOON).await?;
        strategy(vm, "Always").await?;
        let instance = world.running(vm).await?;
        let now = world.place(vm).await?;
        let given = &instance["metadata"]["annotations"]["ovn.kubernetes.io/ip_address"];
        same("what its guest is given", given, &json!(format!("{},{}", now.v4, now.v6)))?;
        same("its IPv4 address and MAC", (&now.v4, &now.mac), (&before.v4, &before.mac))?;
        ensure!(now.v6.starts_with("fd34:"), "it has {now:?}");
        has_all_of(world, vm, &now).await?;
    }
    for vm in vms.into_iter().chain(["grown-new"]) {
        cluster.delete(VM, vm).await?;
        cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    cluster.delete(SUBNET, "grown-net").await?;
    cluster.gone(SUBNET, "grown-net", SOON).await?;
    cluster.delete(VPC, "grown").await?;
    cluster.gone(VPC, "grown", SOON).await
}
