//! VMs with several networks of one attachment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::kinds::{IP, SUBNET, VM, VMI, VPC};
use tests::monitor::Monitor;
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Part, World, port_of};
use tests::{eventually, same};

use crate::address_life::{another_runs, set_strategy};
use crate::admission::says;

const SOON: Duration = Duration::from_secs(30);
/// The attachment, and the subnet that serves it.
pub(super) const NAD: &str = "quay";
const PROVIDER: &str = "quay.default.ovn";

pub(super) async fn make_subnets(world: &World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    if cluster.find(VPC, "quay").await?.is_some() {
        return Ok(());
    }
    cluster.create(VPC, vpc("quay")).await?;
    let first = Subnet::named("quay-first").in_vpc("quay").of("10.220.0.0/24");
    cluster.create(SUBNET, first.object()).await?;
    let more = Subnet::named("quay-more").in_vpc("quay").of("10.221.0.0/24");
    cluster.create(SUBNET, more.with("provider", json!(PROVIDER)).object()).await.map(drop)
}

/// Networks and interfaces: the pod's, and these of the attachment.
fn networks(names: &[&str]) -> Value {
    let mut networks = vec![json!({"name": "default", "pod": {}})];
    networks.extend(names.iter().map(|name| json!({"name": name, "multus": {"networkName": NAD}})));
    let interfaces =
        ["default"].iter().chain(names).map(|name| json!({"name": name, "bridge": {}}));
    let interfaces: Vec<_> = interfaces.collect();
    json!({"networks": networks, "domain": {"devices": {"interfaces": interfaces}}})
}

/// A VM with these networks of the attachment.
pub(super) fn attached(vm: &Vm, names: &[&str]) -> Value {
    let mut vm = vm.object();
    let spec = &mut vm["spec"]["template"]["spec"];
    let networks = networks(names);
    spec["networks"] = networks["networks"].clone();
    spec["domain"]["devices"]["interfaces"] = networks["domain"]["devices"]["interfaces"].clone();
    vm
}

/// The port of a VM's network: the short one, or that with the network's name.
pub(super) fn port(vm: &str, network: &str) -> String {
    let provider = match network {
        "" => PROVIDER.to_owned(),
        name => net::names::further(PROVIDER, name),
    };
    net::names::port(vm, "default", &provider)
}

/// Address and MAC by port, as IP objects, the northbound database and the agent say of
/// these ports of a VM, and of no others of the attachment.
pub(super) async fn places(
    world: &World,
    vm: &str,
    which: &[&str],
) -> anyhow::Result<BTreeMap<String, (String, String)>> {
    let wanted: BTreeSet<String> = which.iter().map(|one| port(vm, one)).collect();
    eventually(&format!("ports {wanted:?}"), SOON, async || {
        let node = world.node_of(vm).await?;
        let rows = world.northbound().vm_ports().await?;
        let taps = world.agent_ports(&node).await?;
        let short = port(vm, "");
        let there: BTreeSet<_> =
            rows.keys().filter(|one| one.starts_with(&short)).cloned().collect();
        same("the ports of the attachment", &there, &wanted)?;
        let mut places = BTreeMap::new();
        for name in &wanted {
            let spec = world.cluster.get(IP, name).await?["spec"].clone();
            let said = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
            let (address, mac) = (said("v4IpAddress"), said("macAddress"));
            let row = rows.get(name).context("no row")?;
            same("the row", row.addresses.clone(), [format!("{mac} {address}")].into())?;
            let tap = taps.iter().find(|tap| tap["port"] == name.as_str()).context("no tap")?;
            same("the tap", &tap["tap"], &json!(net::names::tap(name)))?;
            places.insert(name.clone(), (address, mac));
        }
        let distinct: BTreeSet<_> = places.values().collect();
        same("different places", distinct.len(), wanted.len())?;
        Ok(places)
    })
    .await
}

/// Has the VM start anew with what its template now says.
async fn restart(world: &World, vm: &str) -> anyhow::Result<()> {
    let uid = world.running(vm).await?["metadata"]["uid"].clone();
    world.cluster.delete(VMI, vm).await?;
    another_runs(world, vm, &uid).await.map(drop)
}

pub(super) async fn an_attachment_used_twice_is_two_nics_of_which_each_keeps_its_place(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(world).await?;
    let vm = Vm::named("twin")
        .on("quay-first")
        .without_grace()
        .annotated("quay.default.ovn.extra.kubernetes.io/ip_address", "10.221.0.77");
    world.cluster.create(VM, attached(&vm, &["more"])).await?;
    world.running("twin").await?;
    let alone = places(world, "twin", &[""]).await?;
    let bad = Vm::named("misnamed").on("quay-first").without_grace();
    world.cluster.create(VM, attached(&bad, &["more", "Extra_2"])).await?;
    says(&world.cluster, VM, "misnamed", ("Failure", "True"), "lower-case letters").await?;

    // Another one, written before it, moves nothing.
    let edit = |names: &[&str]| json!({"spec": {"template": {"spec": networks(names)}}});
    world.cluster.merge(VM, "twin", edit(&["extra", "more"])).await?;
    says(&world.cluster, VM, "twin", ("RestartRequired", "True"), "").await?;
    same("while it runs", &places(world, "twin", &[""]).await?, &alone)?;
    restart(world, "twin").await?;
    let both = places(world, "twin", &["", "extra"]).await?;
    same("the first", &both[&port("twin", "")], &alone[&port("twin", "")])?;
    same("the named address", both[&port("twin", "extra")].0.as_str(), "10.221.0.77")?;

    // Over a stop, a killed controller and a start in the other order.
    set_strategy(world, "twin", "Halted").await?;
    world.cluster.gone(VMI, "twin", SOON).await?;
    world.cluster.merge(VM, "twin", edit(&["more", "extra"])).await?;
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    set_strategy(world, "twin", "Always").await?;
    world.running("twin").await?;
    same("after a stop", &places(world, "twin", &["", "extra"]).await?, &both)?;

    // The first goes, with its own place and no other.
    world.cluster.merge(VM, "twin", edit(&["extra"])).await?;
    restart(world, "twin").await?;
    let left = places(world, "twin", &["extra"]).await?;
    same("the other", &left[&port("twin", "extra")], &both[&port("twin", "extra")])?;
    world.cluster.gone(IP, &port("twin", ""), SOON).await?;
    let heir = Vm::named("twin-heir")
        .on("quay-first")
        .without_grace()
        .annotated("quay.default.ovn.kubernetes.io/ip_address", &both[&port("twin", "")].0);
    world.cluster.create(VM, attached(&heir, &["more"])).await?;
    world.running("twin-heir").await?;

    for vm in ["twin", "twin-heir", "misnamed"] {
        world.cluster.delete(VM, vm).await?;
    }
    for gone in [port("twin", "extra"), port("twin-heir", "")] {
        world.cluster.gone(IP, &gone, SOON).await?;
    }
    let ports = world.northbound().vm_ports().await?;
    ensure!(!ports.keys().any(|one| one.starts_with("twin")), "ports are left: {ports:?}");
    Ok(())
}

/// Kube-OVN writes each by itself, and whoever reads in between sees half of a VM.
pub(super) async fn the_ports_of_a_vm_with_two_nics_come_and_go_in_one_transaction(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(world).await?;
    let both = [port_of("pair"), port("pair", "")];
    let (remote, wanted) = (world.lab().layout().northbound(), both.clone());
    let tables: [(&str, &[&str]); 1] = [("Logical_Switch_Port", &["name"])];
    let monitor = Monitor::of(&remote, "OVN_Northbound", &tables, move |rows| {
        let rows = rows.get("Logical_Switch_Port").into_iter().flatten();
        let names = rows.filter_map(|(_, row)| row["name"].as_str());
        let there: Vec<&str> = names.filter(|name| wanted.iter().any(|one| one == name)).collect();
        ensure!(there.is_empty() || there.len() == 2, "of {wanted:?} there is {there:?} alone");
        Ok(())
    })
    .await?;
    let vm = Vm::named("pair").on("quay-first").without_grace();
    world.cluster.create(VM, attached(&vm, &["more"])).await?;
    world.running("pair").await?;
    let there = world.northbound().vm_ports().await?;
    ensure!(both.iter().all(|one| there.contains_key(one)), "no {both:?} in {:?}", there.keys());
    world.cluster.delete(VM, "pair").await?;
    for ip in &both {
        world.cluster.gone(IP, ip, SOON).await?;
    }
    let left = world.northbound().vm_ports().await?;
    ensure!(!both.iter().any(|one| left.contains_key(one)), "ports are left: {:?}", left.keys());
    let states = monitor.ended().await?;
    ensure!(states > 2, "{states} states were looked at, and there were two changes");
    Ok(())
}

pub(super) async fn what_multus_list_asks_for_a_nic_it_has(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(world).await?;
    let list = "k8s.v1.cni.cncf.io/networks";
    let asking = |vm: &str, elements: Value| {
        let vm = Vm::named(vm).on("quay-first").without_grace();
        attached(&vm.annotated(list, &elements.to_string()), &["more", "extra"])
    };
    let elements = json!([
        {"name": NAD, "interface": "more", "ips": ["10.221.0.50/24"], "bandwidth": {}},
        {"name": NAD, "interface": "extra", "ips": ["10.221.0.51"], "mac": "02:00:00:00:02:21"},
    ]);
    let cluster = &world.cluster;
    cluster.create(VM, asking("listed", elements.clone())).await?;
    world.running("listed").await?;
    let has = places(world, "listed", &["", "extra"]).await?;
    same("the first", has[&port("listed", "")].0.as_str(), "10.221.0.50")?;
    let second = ("10.221.0.51".to_owned(), "02:00:00:00:02:21".to_owned());
    same("the second", &has[&port("listed", "extra")], &second)?;
    says(cluster, VM, "listed", ("FieldsWithoutEffect", "True"), "networks [0].bandwidth").await?;

    // What it cannot have is told on it, and names the place.
    let taken = json!([{"name": NAD, "interface": "more", "ips": ["10.221.0.51"]}]);
    cluster.create(VM, asking("listed-late", taken)).await?;
    let held = "is held by listed.default.quay.default.ovn.extra";
    says(cluster, VM, "listed-late", ("Failure", "True"), held).await?;
    let outside = json!([{"name": NAD, "interface": "more", "ips": ["10.99.0.9"]}]);
    cluster.create(VM, asking("listed-outside", outside)).await?;
    says(cluster, VM, "listed-outside", ("Failure", "True"), "networks [0].ips: 10.99.0.9").await?;

    // A change counts at the next start.
    let mut moved = elements;
    moved[0]["ips"] = json!(["10.221.0.52"]);
    let notes = json!({"metadata": {"annotations": {list: moved.to_string()}}});
    cluster.merge(VM, "listed", json!({"spec": {"template": notes}})).await?;
    says(cluster, VM, "listed", ("RestartRequired", "True"), "").await?;
    restart(world, "listed").await?;
    let now = places(world, "listed", &["", "extra"]).await?;
    same("the first", now[&port("listed", "")].0.as_str(), "10.221.0.52")?;
    same("the second", &now[&port("listed", "extra")], &second)?;
    for vm in ["listed", "listed-late", "listed-outside"] {
        world.cluster.delete(VM, vm).await?;
    }
    world.cluster.gone(IP, &port("listed", "extra"), SOON).await
}
