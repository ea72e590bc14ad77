//! Many VMs come and go, with the fake hypervisor: nothing may be given twice and
//! nothing may be left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::ensure;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;
use tests::kinds::{BLOCK, IP, SUBNET, VIP, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Part, World, port_of};
use tests::{eventually, same};

/// How many VMs.
const MANY: usize = 200;

/// How many requests are under way at a time.
const AT_ONCE: usize = 16;

const LONG: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(30);

pub(super) async fn two_hundred_vms_come_and_go_and_leave_nothing(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(world).await?;
    let names: Vec<String> = (0..MANY).map(|n| format!("churn-{n}")).collect();
    create(world, &names).await?;
    all_run(world, MANY).await?;
    every_address_has_one_owner(world, MANY).await?;
    let again = Vm::named("churn-0").on("churn-a").object();
    ensure!(world.cluster.create(VM, again).await.is_err(), "names are taken once");
    delete(world, &names).await?;
    nothing_is_left(world).await
}

pub(super) async fn the_same_with_kills_in_between_leaves_nothing_either(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(world).await?;
    let names: Vec<String> = (0..MANY / 2).map(|n| format!("storm-{n}")).collect();
    // Each part dies once while VMs are made, and once while they go.
    let parts = [Part::Controller, Part::Agent(1), Part::Northbound, Part::Api, Part::Agent(2)];
    let slices = names.chunks(names.len() / parts.len());
    for (slice, part) in slices.clone().zip(parts) {
        create(world, slice).await?;
        let killed = world.kill(part)?;
        world.back(killed).await?;
    }
    all_run(world, names.len()).await?;
    every_address_has_one_owner(world, names.len()).await?;
    for (slice, part) in slices.zip(parts.into_iter().rev()) {
        delete(world, slice).await?;
        let killed = world.kill(part)?;
        world.back(killed).await?;
    }
    nothing_is_left(world).await
}

pub(super) async fn subnets_and_vpcs_go_from_ovn_with_their_objects(
    world: &mut World,
) -> anyhow::Result<()> {
    delete_everything(world).await?;
    for table in ["Logical_Switch", "Logical_Switch_Port", "Logical_Router", "DHCP_Options", "ACL"]
    {
        eventually(&format!("table {table} to be empty"), SOON, async || {
            same("number of rows", world.northbound().count(table).await?, 0)
        })
        .await?;
    }
    eventually("the ledger to be empty", SOON, async || {
        same("number of address blocks", world.cluster.list(BLOCK).await?.len(), 0)
    })
    .await
}

async fn make_subnets(world: &World) -> anyhow::Result<()> {
    if world.cluster.find(VPC, "churn").await?.is_none() {
        world.cluster.create(VPC, vpc("churn")).await?;
        let a = Subnet::named("churn-a").in_vpc("churn").of("10.70.0.0/24,fd70::/64");
        let b = Subnet::named("churn-b").in_vpc("churn").of("10.71.0.0/16");
        world.cluster.create(SUBNET, a.object()).await?;
        world.cluster.create(SUBNET, b.object()).await?;
    }
    Ok(())
}

async fn create(world: &World, names: &[String]) -> anyhow::Result<()> {
    stream::iter(names.iter().enumerate())
        .map(|(n, name)| async move {
            let vm = Vm::named(name).on(if n % 2 == 0 { "churn-a" } else { "churn-b" });
            world.cluster.create(VM, vm.object()).await.map(drop)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn delete(world: &World, names: &[String]) -> anyhow::Result<()> {
    stream::iter(names)
        .map(|name| world.cluster.delete(VM, name))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn all_run(world: &World, count: usize) -> anyhow::Result<()> {
    eventually(&format!("{count} instances to be Running"), LONG, async || {
        let instances = world.cluster.list(VMI).await?;
        let running = instances.iter().filter(|one| one["status"]["phase"] == "Running").count();
        same("number of running instances", running, count)
    })
    .await
}

/// IP objects, ledger and logical ports say the same, and no address twice.
async fn every_address_has_one_owner(world: &World, count: usize) -> anyhow::Result<()> {
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    let ips = world.cluster.list(IP).await?;
    same("number of IP objects", ips.len(), count)?;
    let ports = world.northbound().vm_ports().await?;
    same("number of logical ports", ports.len(), count)?;
    for ip in &ips {
        let name = ip["metadata"]["name"].as_str().unwrap_or_default();
        let port = ports.get(name).cloned().unwrap_or_default();
        let said = port.addresses.iter().next().cloned().unwrap_or_default();
        let said: BTreeSet<&str> = said.split(' ').collect();
        for field in ["v4IpAddress", "v6IpAddress", "macAddress"] {
            let value = ip["spec"][field].as_str().unwrap_or_default();
            if value.is_empty() {
                continue;
            }
            ensure!(said.contains(value), "{name} has {value}, its port says {said:?}");
            if let Some(other) = owners.insert(value.to_owned(), name.to_owned()) {
                anyhow::bail!("{value} belongs to {other} and to {name}");
            }
        }
    }
    for (address, port) in held(world).await? {
        same(&format!("owner of {address}"), owners.get(&address), Some(&port))?;
    }
    Ok(())
}

/// What the ledger holds: address to port.
async fn held(world: &World) -> anyhow::Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for block in world.cluster.list(BLOCK).await? {
        for (address, holder) in block["spec"]["held"].as_object().into_iter().flatten() {
            let port = holder["port"].as_str().unwrap_or_default().to_owned();
            let before = all.insert(address.clone(), port);
            ensure!(before.is_none(), "{address} is in two blocks");
        }
    }
    Ok(all)
}

pub(super) async fn nothing_is_left(world: &World) -> anyhow::Result<()> {
    eventually("nothing to be left", LONG, async || {
        for kind in [VM, VMI, IP] {
            let left = world.cluster.list(kind).await?;
            let names: Vec<&Value> = left.iter().map(|one| &one["metadata"]["name"]).collect();
            ensure!(names.is_empty(), "{} of {}: {names:?}", left.len(), kind.singular());
        }
        let ports = world.northbound().vm_ports().await?;
        ensure!(ports.is_empty(), "logical ports: {:?}", ports.keys());
        let held = held(world).await?;
        ensure!(held.is_empty(), "the ledger holds {held:?}");
        for node in world.lab().nodes() {
            let ports = world.agent_ports(&node).await?;
            ensure!(ports.is_empty(), "{} serves DHCP for {ports:?}", node.name);
            let files = world.vm_files(&node)?;
            ensure!(files.is_empty(), "{} keeps {files:?}", node.name);
        }
        Ok(())
    })
    .await
}

/// Every VM, subnet and Vpc; waits until they are gone.
pub(super) async fn delete_everything(world: &World) -> anyhow::Result<()> {
    for kind in [VM, VIP, SUBNET, VPC] {
        for object in world.cluster.list(kind).await? {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            world.cluster.delete(kind, name).await?;
        }
        eventually(&format!("every {} to be gone", kind.singular()), LONG, async || {
            same("number left", world.cluster.list(kind).await?.len(), 0)
        })
        .await?;
    }
    // Reservations belong to people, who must take them back themselves.
    for ip in world.cluster.list(IP).await? {
        world.cluster.delete(IP, ip["metadata"]["name"].as_str().unwrap_or_default()).await?;
    }
    Ok(())
}

pub(super) async fn a_new_vm_of_an_old_name_has_a_place_of_its_own(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(world).await?;
    let vm = || Vm::named("again").on("churn-b").object();
    world.cluster.create(VM, vm()).await?;
    world.running("again").await?;
    let first = world.place("again").await?;
    world.cluster.delete(VM, "again").await?;
    world.cluster.gone(VM, "again", SOON).await?;
    world.cluster.create(VM, vm()).await?;
    world.running("again").await?;
    let second = world.place("again").await?;
    ensure!(first.v4 != second.v4, "{} was given again at once", first.v4);
    ensure!(world.northbound().vm_ports().await?.contains_key(&port_of("again")), "no port");
    world.cluster.delete(VM, "again").await?;
    nothing_is_left(world).await
}
