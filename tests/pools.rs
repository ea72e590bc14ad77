//! IPPools: addresses of a subnet for those who name them, and one family of two.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::kinds::{IP, POOL, SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Part, World, port_of};
use tests::{eventually, same};

use crate::admission::says;

const SOON: Duration = Duration::from_secs(30);
const NET: &str = "pooled-net";
const NAME: &str = "ovn.kubernetes.io/ip_pool";
const FAMILY: &str = "ovn.kubernetes.io/ip_family";

async fn make_subnet(cluster: &Cluster) -> anyhow::Result<()> {
    if cluster.find(VPC, "pooled").await?.is_some() {
        return Ok(());
    }
    cluster.create(VPC, vpc("pooled")).await?;
    let subnet = Subnet::named(NET).in_vpc("pooled").of("10.220.0.0/24,fd22::/64");
    cluster.create(SUBNET, subnet.object()).await?;
    Ok(())
}

async fn make_pool(cluster: &Cluster, name: &str, spec: Value) -> anyhow::Result<()> {
    let pool = json!({
        "apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec,
    });
    cluster.create(POOL, pool).await?;
    Ok(())
}

/// Makes a VM that names the pool, if any.
async fn make_vm(cluster: &Cluster, name: &str, pool: Option<&str>) -> anyhow::Result<()> {
    let vm = Vm::named(name).without_grace();
    let vm = match pool {
        // Its subnet is the pool's.
        Some(pool) => vm.annotated(NAME, pool),
        None => vm.on(NET),
    };
    cluster.create(VM, vm.object()).await?;
    Ok(())
}

async fn runs_with(world: &World, vm: &str, v4: &str) -> anyhow::Result<()> {
    world.running(vm).await?;
    same(vm, world.place(vm).await?.v4.as_str(), v4)
}

async fn delete(cluster: &Cluster, vms: &[&str]) -> anyhow::Result<()> {
    for vm in vms {
        cluster.delete(VM, vm).await?;
    }
    for vm in vms {
        cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    Ok(())
}

/// Waits until the pool's status says this of its IPv4 addresses: held and free.
async fn tells(cluster: &Cluster, pool: &str, using: &str, free: &str) -> anyhow::Result<()> {
    eventually(&format!("{pool} to tell {using:?} and {free:?}"), SOON, async || {
        let status = cluster.get(POOL, pool).await?["status"].clone();
        same("held", status["v4UsingIPRange"].as_str(), Some(using))?;
        same("free", status["v4AvailableIPRange"].as_str(), Some(free))
    })
    .await
}

pub(super) async fn a_pool_serves_those_who_name_it_and_no_others(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnet(cluster).await?;
    let spec = json!({"subnet": NET, "ips": ["10.220.0.2..10.220.0.3"], "enableAddressSet": true});
    make_pool(cluster, "web-pool", spec).await?;
    says(cluster, POOL, "web-pool", ("Ready", "True"), "").await?;
    let ignored = ("FieldsWithoutEffect", "True");
    says(cluster, POOL, "web-pool", ignored, "spec.enableAddressSet").await?;
    tells(cluster, "web-pool", "", "10.220.0.2-10.220.0.3").await?;

    make_vm(cluster, "pooled-none", None).await?;
    runs_with(world, "pooled-none", "10.220.0.4").await?;
    for (vm, v4) in [("pooled-a", "10.220.0.2"), ("pooled-b", "10.220.0.3")] {
        make_vm(cluster, vm, Some("web-pool")).await?;
        runs_with(world, vm, v4).await?;
    }
    tells(cluster, "web-pool", "10.220.0.2-10.220.0.3", "").await?;
    make_vm(cluster, "pooled-c", Some("web-pool")).await?;
    let full = "IPPool \\\"web-pool\\\" has no free address in 10.220.0.0/24";
    says(cluster, VM, "pooled-c", ("Failure", "True"), full).await?;
    cluster.delete(VM, "pooled-a").await?;
    runs_with(world, "pooled-c", "10.220.0.2").await?;

    // Who has an address keeps it when the pool goes.
    cluster.delete(POOL, "web-pool").await?;
    cluster.gone(POOL, "web-pool", SOON).await?;
    make_vm(cluster, "pooled-d", Some("web-pool")).await?;
    says(cluster, VM, "pooled-d", ("Failure", "True"), "does not exist: create it").await?;
    runs_with(world, "pooled-c", "10.220.0.2").await?;
    delete(cluster, &["pooled-none", "pooled-b", "pooled-c"]).await?;
    cluster.delete(VM, "pooled-d").await?;
    cluster.gone(VM, "pooled-d", SOON).await
}

pub(super) async fn a_bad_pool_says_so_and_harms_nobody(world: &mut World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnet(cluster).await?;
    make_pool(cluster, "good", json!({"subnet": NET, "ips": ["10.220.0.64/28"]})).await?;
    says(cluster, POOL, "good", ("Ready", "True"), "").await?;
    for (name, subnet, entry, text) in [
        ("bad-net", "nowhere", "10.220.0.9", "no Subnet of that name is in force"),
        ("bad-text", NET, "10.220.0.300", "write an address"),
        ("bad-place", NET, "10.221.0.9", "not all of it is in 10.220.0.0/24"),
        ("bad-gate", NET, "10.220.0.1..10.220.0.9", "10.220.0.1 is the gateway"),
        // When both fit again the older is in force, and of one second the first by name.
        ("late-both", NET, "10.220.0.79..10.220.0.80", "has some of it"),
    ] {
        make_pool(cluster, name, json!({"subnet": subnet, "ips": [entry]})).await?;
        says(cluster, POOL, name, ("Ready", "False"), text).await?;
    }
    make_vm(cluster, "pooled-good", Some("good")).await?;
    runs_with(world, "pooled-good", "10.220.0.64").await?;
    make_vm(cluster, "pooled-bad", Some("bad-place")).await?;
    let why = "is not in force: spec.ips[0]";
    says(cluster, VM, "pooled-bad", ("Failure", "True"), why).await?;
    // Put right it is in force, and who waited is served.
    cluster.merge(POOL, "bad-place", json!({"spec": {"ips": ["10.220.0.99"]}})).await?;
    runs_with(world, "pooled-bad", "10.220.0.99").await?;

    // A subnet that no longer has room for it.
    delete(cluster, &["pooled-bad"]).await?;
    cluster.merge(SUBNET, NET, json!({"spec": {"cidrBlock": "10.220.0.0/26,fd22::/64"}})).await?;
    says(cluster, SUBNET, NET, ("Ready", "False"), "10.220.0.64 of VirtualMachine").await?;
    delete(cluster, &["pooled-good"]).await?;
    cluster.merge(SUBNET, NET, json!({"spec": {"cidrBlock": "10.220.0.0/27,fd22::/64"}})).await?;
    says(cluster, SUBNET, NET, ("Ready", "True"), "").await?;
    says(cluster, POOL, "good", ("Ready", "False"), "not all of it is in 10.220.0.0/27").await?;
    cluster.merge(SUBNET, NET, json!({"spec": {"cidrBlock": "10.220.0.0/24,fd22::/64"}})).await?;
    says(cluster, POOL, "good", ("Ready", "True"), "").await?;
    for name in ["good", "bad-net", "bad-text", "bad-place", "bad-gate", "late-both"] {
        cluster.delete(POOL, name).await?;
        cluster.gone(POOL, name, SOON).await?;
    }
    Ok(())
}

pub(super) async fn a_pool_and_its_holders_survive_a_killed_controller(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnet(&world.cluster).await?;
    let spec = json!({"subnet": NET, "ips": ["10.220.0.120..10.220.0.121"],
        "namespaces": ["default"]});
    make_pool(&world.cluster, "bound-pool", spec).await?;
    says(&world.cluster, POOL, "bound-pool", ("Ready", "True"), "").await?;
    make_vm(&world.cluster, "pooled-first", None).await?;
    runs_with(world, "pooled-first", "10.220.0.120").await?;

    let killed = world.kill(Part::Controller)?;
    make_vm(&world.cluster, "pooled-second", None).await?;
    world.back(killed).await?;
    runs_with(world, "pooled-second", "10.220.0.121").await?;
    runs_with(world, "pooled-first", "10.220.0.120").await?;
    tells(&world.cluster, "bound-pool", "10.220.0.120-10.220.0.121", "").await?;
    delete(&world.cluster, &["pooled-first", "pooled-second"]).await?;
    world.cluster.delete(POOL, "bound-pool").await?;
    world.cluster.gone(POOL, "bound-pool", SOON).await
}

pub(super) async fn a_vm_that_wants_one_family_has_nothing_of_the_other(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnet(cluster).await?;
    for (vm, family, start, other) in
        [("only-four", "ipv4", "10.220.0.", "fd22:"), ("only-six", "ipv6", "fd22:", "10.220.0.")]
    {
        let object = Vm::named(vm).on(NET).annotated(FAMILY, family).without_grace().object();
        cluster.create(VM, object).await?;
        let instance = world.running(vm).await?;
        for field in ["ip_address", "cidr", "gateway"] {
            let text = instance["metadata"]["annotations"][format!("ovn.kubernetes.io/{field}")]
                .as_str()
                .context("it is written")?;
            ensure!(text.starts_with(start) && !text.contains(other), "{vm}: {field} is {text}");
        }
        let ip = cluster.get(IP, &port_of(vm)).await?;
        let said = ip["spec"]["ipAddress"].as_str().unwrap_or_default();
        ensure!(said.starts_with(start) && !said.contains(','), "{vm}: its IP says {said}");
    }
    let object = Vm::named("only-five").on(NET).annotated(FAMILY, "ipv5").without_grace();
    cluster.create(VM, object.object()).await?;
    says(cluster, VM, "only-five", ("Failure", "True"), "write ipv4 or ipv6").await?;
    cluster.delete(VM, "only-five").await?;
    delete(cluster, &["only-four", "only-six"]).await?;
    cluster.gone(VMI, "only-six", SOON).await
}
