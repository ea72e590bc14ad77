//! Many VMs come and go, with the fake hypervisor: nothing may be given twice and
//! nothing may be left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Api;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, watcher};
use serde_json::{Value, json};
use tests::kinds::{BLOCK, IP, POOL, SUBNET, VIP, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Part, World, port_of};
use tests::{eventually, same};

use crate::admission::says;

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

/// Kube-OVN writes it for each address that is given or comes back.
pub(super) async fn the_status_of_a_subnet_is_written_once_a_second_however_many_vms_come_and_go(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(world).await?;
    for subnet in OURS {
        says(&world.cluster, SUBNET, subnet, ("Ready", "True"), "").await?;
    }
    let begun = Instant::now();
    let counting = tokio::spawn(versions_until_marked(world.cluster.api(SUBNET)));
    let names: Vec<String> = (0..MANY).map(|n| format!("passing-{n}")).collect();
    create(world, &names).await?;
    all_run(world, MANY).await?;
    delete(world, &names).await?;
    nothing_is_left(world).await?;
    for subnet in OURS {
        let mark = json!({"metadata": {"annotations": {MARK: "yes"}}});
        world.cluster.merge(SUBNET, subnet, mark).await?;
    }
    let seen = tokio::time::timeout(LONG, counting).await.context("no mark was seen")???;
    // What it was at first, the mark, and what each of two comparisons of everything may
    // find: that of every minute, and that by which its router came to have a MAC.
    let most = begun.elapsed().as_secs() + 4;
    for subnet in OURS {
        let versions = seen[subnet].len();
        ensure!(versions > 2, "of {subnet} {versions} versions were seen");
        ensure!(
            u64::try_from(versions)? <= most,
            "{subnet} had {versions} versions, and not {most}, while {MANY} VMs came and went"
        );
        let no_mark = json!({"metadata": {"annotations": {MARK: null}}});
        world.cluster.merge(SUBNET, subnet, no_mark).await?;
    }
    Ok(())
}

/// The subnets that VMs come and go in.
const OURS: [&str; 2] = ["churn-a", "churn-b"];

/// The annotation by which a Subnet says that it is looked at no more.
const MARK: &str = "tests.berth.io/seen-enough";

/// By name, the versions of each Subnet that there are until all of ours are marked.
async fn versions_until_marked(
    subnets: Api<DynamicObject>,
) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut marked = BTreeSet::new();
    let mut changes =
        watcher(subnets, Config::default()).default_backoff().applied_objects().boxed();
    while !OURS.iter().all(|name| marked.contains(*name)) {
        // A watch that ends begins anew by itself.
        let Ok(subnet) = changes.next().await.context("a watch goes on")? else { continue };
        let (name, version) = (subnet.metadata.name, subnet.metadata.resource_version);
        let (name, version) = name.zip(version).context("no name or version")?;
        versions.entry(name.clone()).or_default().insert(version);
        if subnet.metadata.annotations.is_some_and(|all| all.contains_key(MARK)) {
            marked.insert(name);
        }
    }
    Ok(versions)
}

/// Kube-OVN asks and writes for each address, one after the other.
pub(super) async fn a_start_among_two_hundred_vms_writes_nothing(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(world).await?;
    let names: Vec<String> = (0..MANY).map(|n| format!("staying-{n}")).collect();
    create(world, &names).await?;
    all_run(world, MANY).await?;
    eventually("everything to say so", SOON, async || {
        let machines = world.cluster.list(VM).await?;
        let running = machines.iter().filter(|vm| vm["status"]["printableStatus"] == "Running");
        same("number of running VMs", running.count(), MANY)?;
        for subnet in OURS {
            let using = &world.cluster.get(SUBNET, subnet).await?["status"]["v4usingIPs"];
            let half = f64::from(u32::try_from(MANY / 2)?);
            same(&format!("addresses in use of {subnet}"), using.as_f64(), Some(half))?;
        }
        Ok(())
    })
    .await?;
    let before = versions(world).await?;
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    // Who says this has looked at everything, and the second time once more.
    for cidr in ["10.71.1.0/24", "10.71.2.0/24"] {
        let late = Subnet::named("churn-late").in_vpc("churn").of(cidr).object();
        match world.cluster.find(SUBNET, "churn-late").await? {
            None => drop(world.cluster.create(SUBNET, late).await?),
            Some(_) => world.cluster.merge(SUBNET, "churn-late", late).await?,
        }
        let why = format!("{cidr} overlaps");
        says(&world.cluster, SUBNET, "churn-late", ("Ready", "False"), &why).await?;
    }
    eventually("all to be looked at twice", SOON, async || {
        let decisions = world.counted("decisions").await?;
        ensure!(decisions >= 2 * u64::try_from(MANY)?, "{decisions} decisions");
        Ok(())
    })
    .await?;
    same("transactions", world.counted("ovn_transactions").await?, 0)?;
    // Of the late one two statuses and an event with each.
    let writes = world.counted("api_writes").await?;
    ensure!(writes <= 4, "{writes} writes to the API, and not 4");
    let mut after = versions(world).await?;
    after.retain(|(_, name), _| name != "churn-late");
    let changed: Vec<_> = after.iter().filter(|(one, now)| before.get(one) != Some(now)).collect();
    ensure!(changed.is_empty(), "{} were written, the first is {:?}", changed.len(), changed[0]);
    same("number of objects", after.len(), before.len())?;

    world.cluster.delete(SUBNET, "churn-late").await?;
    delete(world, &names).await?;
    nothing_is_left(world).await
}

/// The version of each object that a controller writes, by kind and name.
async fn versions(world: &World) -> anyhow::Result<BTreeMap<(String, String), Value>> {
    let mut all = BTreeMap::new();
    for kind in [VPC, SUBNET, IP, POOL, VIP, VM, VMI, BLOCK] {
        for object in world.cluster.list(kind).await? {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            all.insert((kind.singular(), name), object["metadata"]["resourceVersion"].clone());
        }
    }
    Ok(all)
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
