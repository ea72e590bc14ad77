//! What a VM was given stays its own, whatever somebody writes on the objects that say so
//! a second time, and whatever becomes of the ledger or of its subnet's spec.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::kinds::{BLOCK, IP, SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Part, World, port_of};
use tests::{eventually, same};

use crate::address_life::set_strategy;
use crate::admission::says;

const SOON: Duration = Duration::from_secs(30);

async fn row(world: &World, vm: &str) -> anyhow::Result<Vec<String>> {
    let ports = world.northbound().vm_ports().await?;
    let port = ports.get(&port_of(vm)).with_context(|| format!("{vm} has no port"))?;
    Ok(port.addresses.iter().cloned().collect())
}

async fn start(world: &World, subnet: &str, cidr: &str, vms: &[&str]) -> anyhow::Result<()> {
    world.cluster.create(VPC, vpc("given")).await?;
    let subnet_object = Subnet::named(subnet).in_vpc("given").of(cidr).object();
    world.cluster.create(SUBNET, subnet_object).await?;
    for vm in vms {
        world.cluster.create(VM, Vm::named(vm).on(subnet).without_grace().object()).await?;
        world.running(vm).await?;
    }
    Ok(())
}

/// Waits until the subnet says that this is in force of a field.
async fn is_in_force(world: &World, field: &str, value: &Value) -> anyhow::Result<()> {
    eventually(&format!("{field} {value} to be in force"), SOON, async || {
        let status = world.cluster.get(SUBNET, "given-net").await?["status"].clone();
        same(field, &status["inForce"][field], value)
    })
    .await
}

async fn end(world: &World, subnets: &[&str], vms: &[&str]) -> anyhow::Result<()> {
    for vm in vms {
        world.cluster.delete(VM, vm).await?;
        world.cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    for subnet in subnets {
        world.cluster.delete(SUBNET, subnet).await?;
        world.cluster.gone(SUBNET, subnet, SOON).await?;
    }
    world.cluster.delete(VPC, "given").await?;
    world.cluster.gone(VPC, "given", SOON).await
}

pub(super) async fn what_is_written_on_a_running_vms_objects_moves_it_nowhere(
    world: &mut World,
) -> anyhow::Result<()> {
    start(world, "given-net", "10.221.0.0/24", &["given-web", "given-db"]).await?;
    let (place, before) = (world.place("given-web").await?, row(world, "given-web").await?);
    let other = world.place("given-db").await?;
    let key = |field: &str| format!("ovn.kubernetes.io/{field}");
    let notes = json!({ key("ip_address"): other.v4, key("mac_address"): other.mac });
    let of_instance = json!({ "metadata": { "annotations": notes } });
    let of_ip = json!({ "spec": { "macAddress": other.mac } });
    for (kind, name, edit) in
        [(VMI, "given-web".to_owned(), of_instance), (IP, port_of("given-web"), of_ip)]
    {
        world.cluster.merge(kind, &name, edit).await?;
        eventually("both to say again what it was given", SOON, async || {
            let instance = world.cluster.get(VMI, "given-web").await?;
            let notes = &instance["metadata"]["annotations"];
            same("its address", notes[key("ip_address")].as_str(), Some(place.v4.as_str()))?;
            same("its MAC", notes[key("mac_address")].as_str(), Some(place.mac.as_str()))?;
            let ip = world.cluster.get(IP, &port_of("given-web")).await?;
            same("its object's MAC", ip["spec"]["macAddress"].as_str(), Some(place.mac.as_str()))
        })
        .await?;
        same("its row", row(world, "given-web").await?, before.clone())?;
    }
    let events = world.cluster.kubectl_ok(&["get", "events", "-A"]).await?;
    ensure!(events.contains("PlaceKept") && events.contains("was put back"), "{events}");
    end(world, &["given-net"], &["given-web", "given-db"]).await
}

pub(super) async fn a_lost_block_of_the_ledger_takes_no_address_from_a_vm_that_is_stopped(
    world: &mut World,
) -> anyhow::Result<()> {
    start(world, "given-net", "10.221.0.0/24", &["given-web", "given-db"]).await?;
    let (web, db) = (world.place("given-web").await?, world.place("given-db").await?);
    set_strategy(world, "given-web", "Halted").await?;
    world.cluster.gone(VMI, "given-web", SOON).await?;
    let killed = world.kill(Part::Controller)?;
    for block in world.cluster.list(BLOCK).await? {
        if block["spec"]["subnet"] == "given-net" {
            let name = block["metadata"]["name"].as_str().context("a block has a name")?;
            world.cluster.delete(BLOCK, name).await?;
        }
    }
    let thief = Vm::named("given-thief").on("given-net").without_grace().object();
    world.cluster.create(VM, thief).await?;
    world.back(killed).await?;
    world.running("given-thief").await?;
    let thief = world.place("given-thief").await?;
    ensure!(thief.v4 != web.v4 && thief.v4 != db.v4, "it has {}", thief.v4);
    same("the place of the one that runs", world.place("given-db").await?, db)?;
    set_strategy(world, "given-web", "Always").await?;
    world.running("given-web").await?;
    same("its place", world.place("given-web").await?, web)?;
    end(world, &["given-net"], &["given-web", "given-db", "given-thief"]).await
}

pub(super) async fn an_edit_of_a_subnet_that_cannot_be_takes_nothing_also_over_a_restart(
    world: &mut World,
) -> anyhow::Result<()> {
    start(world, "given-net", "10.221.0.0/24", &[]).await?;
    // What was taken out of it again is in force no more, after a restart as before.
    let private =
        |private: Value| json!({ "spec": { "private": private, "excludeIps": ["10.221.0.9"] } });
    world.cluster.merge(SUBNET, "given-net", private(json!(true))).await?;
    is_in_force(world, "private", &json!(true)).await?;
    let open = json!({ "spec": { "private": false, "excludeIps": null } });
    world.cluster.merge(SUBNET, "given-net", open).await?;
    is_in_force(world, "excludeIps", &Value::Null).await?;
    let vm = Vm::named("given-web").on("given-net").with_address("10.221.0.200").without_grace();
    world.cluster.create(VM, vm.object()).await?;
    world.running("given-web").await?;
    let (place, before) = (world.place("given-web").await?, row(world, "given-web").await?);
    let cidr = |cidr: &str| json!({ "spec": { "cidrBlock": cidr, "gateway": "10.221.0.1" } });
    world.cluster.merge(SUBNET, "given-net", cidr("10.221.0.0/25")).await?;
    says(&world.cluster, SUBNET, "given-net", ("Error", "True"), "would fall out").await?;
    let killed = world.kill(Part::Controller)?;
    let squatter = Subnet::named("given-squatter").in_vpc("given").of("10.221.0.128/25");
    world.cluster.create(SUBNET, squatter.object()).await?;
    world.back(killed).await?;
    says(&world.cluster, SUBNET, "given-squatter", ("Error", "True"), "overlaps").await?;
    says(&world.cluster, SUBNET, "given-net", ("Error", "True"), "would fall out").await?;
    same("its row", row(world, "given-web").await?, before.clone())?;
    // It is served as ever.
    set_strategy(world, "given-web", "Halted").await?;
    world.cluster.gone(VMI, "given-web", SOON).await?;
    set_strategy(world, "given-web", "Always").await?;
    world.running("given-web").await?;
    same("its place", world.place("given-web").await?, place)?;
    same("its row", row(world, "given-web").await?, before)?;
    let in_force = world.cluster.get(SUBNET, "given-net").await?["status"]["inForce"].clone();
    same("what is in force", in_force["cidrBlock"].as_str(), Some("10.221.0.0/24"))?;
    // With its last holder gone the edit can be, and then the other.
    world.cluster.delete(VM, "given-web").await?;
    world.cluster.gone(IP, &port_of("given-web"), SOON).await?;
    says(&world.cluster, SUBNET, "given-net", ("Ready", "True"), "").await?;
    says(&world.cluster, SUBNET, "given-squatter", ("Ready", "True"), "").await?;
    let status: Value = world.cluster.get(SUBNET, "given-net").await?["status"].clone();
    same("what is in force", status["inForce"]["cidrBlock"].as_str(), Some("10.221.0.0/25"))?;
    end(world, &["given-squatter", "given-net"], &[]).await
}
