//! A replica set comes to as many instances as it asks for, whoever takes one away.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::kinds::{REPLICA_SET, VMI};
use tests::objects::Vm;
use tests::world::{Part, World};
use tests::{eventually, same};

use crate::address_life::make_subnets;
use crate::admission::says;

const SOON: Duration = Duration::from_secs(45);
const NET: &str = "life-net";

fn set(name: &str, replicas: i64) -> Value {
    let vm = Vm::named(name).on(NET).without_grace().object();
    let mut template = vm["spec"]["template"].clone();
    template["metadata"]["labels"] = json!({"herd": name});
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceReplicaSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"herd": name}},
            "template": template},
    })
}

/// The names of its instances that are not being deleted.
async fn members(world: &World, name: &str) -> anyhow::Result<BTreeSet<String>> {
    let all = world.cluster.list(VMI).await?;
    let is_its = |one: &&Value| {
        let meta = &one["metadata"];
        let owners = meta["ownerReferences"].as_array().into_iter().flatten();
        meta["deletionTimestamp"].is_null() && owners.into_iter().any(|one| one["name"] == name)
    };
    let names = all.iter().filter(is_its).map(|one| one["metadata"]["name"].as_str());
    Ok(names.flatten().map(str::to_owned).collect())
}

/// Waits until it has and says so many, all ready.
async fn has(world: &World, name: &str, count: usize) -> anyhow::Result<BTreeSet<String>> {
    eventually(&format!("{name} to have {count}"), SOON, async || {
        let set = world.cluster.get(REPLICA_SET, name).await?;
        let status = &set["status"];
        same("how many it says", &status["replicas"], &json!(count))?;
        same("how many are ready", &status["readyReplicas"], &json!(count))?;
        let there = members(world, name).await?;
        ensure!(there.len() == count, "{there:?}");
        Ok(there)
    })
    .await
}

/// A Service that selects the members of a set.
fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"herd": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

/// Waits until these instances, and no others, are the endpoints of the Service.
async fn are_endpoints(
    world: &World,
    service: &str,
    members: &BTreeSet<String>,
) -> anyhow::Result<()> {
    let label = format!("kubernetes.io/service-name={service}");
    eventually(&format!("the endpoints of {service} to be {members:?}"), SOON, async || {
        let listed = ["get", "endpointslices", "-l", &label, "-o", "json"];
        let listed: Value = serde_json::from_str(&world.cluster.kubectl_ok(&listed).await?)?;
        let slices = listed["items"].as_array().context("no list")?;
        let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array());
        let mut told = BTreeSet::new();
        for endpoint in endpoints.flatten() {
            let name = endpoint["targetRef"]["name"].as_str().context("no name")?;
            let instance = world.cluster.get(VMI, name).await?;
            let address = &instance["status"]["interfaces"][0]["ipAddress"];
            same("its address", &endpoint["addresses"][0], address)?;
            same("whether it is ready", &endpoint["conditions"]["ready"], &json!(true))?;
            told.insert(name.to_owned());
        }
        let ports = slices.iter().map(|slice| &slice["ports"][0]["port"]);
        ensure!(ports.into_iter().all(|port| *port == json!(8080)), "{listed}");
        same("the endpoints", &told, members)
    })
    .await
}

pub(super) async fn a_replica_set_has_as_many_instances_as_it_is_scaled_to(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(&world.cluster).await?;
    let yaml = set("herd", 2).to_string();
    world.cluster.kubectl_with(&["apply", "-f", "-"], &yaml).await?;
    let first = has(world, "herd", 2).await?;
    world.cluster.kubectl_with(&["apply", "-f", "-"], &service("herd").to_string()).await?;
    are_endpoints(world, "herd", &first).await?;
    ensure!(first.iter().all(|name| name.starts_with("herd") && name.len() == 9), "{first:?}");
    let mut addresses = BTreeSet::new();
    for name in &first {
        let instance = world.cluster.get(VMI, name).await?;
        let address = instance["status"]["interfaces"][0]["ipAddress"].as_str();
        addresses.insert(address.context("no address")?.to_owned());
    }
    ensure!(addresses.len() == 2, "{addresses:?}");

    // By the subresource, as kubectl and autoscalers do it.
    let scale = ["scale", "vmirs", "herd", "--current-replicas=2", "--replicas=4"];
    world.cluster.kubectl_ok(&scale).await?;
    let four = has(world, "herd", 4).await?;
    ensure!(four.is_superset(&first), "{four:?} without some of {first:?}");
    let path =
        "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstancereplicasets/herd/scale";
    let scale: Value =
        serde_json::from_str(&world.cluster.kubectl_ok(&["get", "--raw", path]).await?)?;
    same("the selector", &scale["status"]["selector"], "herd=herd")?;
    same("how many", &scale["status"]["replicas"], &json!(4))?;
    let table = world.cluster.kubectl_ok(&["get", "vmirs", "herd"]).await?;
    let words: Vec<_> = table.split_whitespace().take(9).collect();
    let wanted = ["NAME", "DESIRED", "CURRENT", "READY", "AGE", "herd", "4", "4", "4"];
    ensure!(words == wanted, "{table}");

    // Whoever goes is replaced; who no longer has its labels runs on by itself.
    let mut names = four.iter();
    let (gone, freed) = (names.next().context("none")?, names.next().context("none")?);
    world.cluster.delete(VMI, gone).await?;
    let away = json!({"metadata": {"labels": {"herd": "elsewhere"}}});
    world.cluster.merge(VMI, freed, away).await?;
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    eventually("both to be replaced", SOON, async || {
        let now = members(world, "herd").await?;
        ensure!(now.len() == 4 && !now.contains(gone) && !now.contains(freed), "{now:?}");
        Ok(())
    })
    .await?;
    let now = has(world, "herd", 4).await?;
    are_endpoints(world, "herd", &now).await?;
    let free = world.cluster.get(VMI, freed).await?;
    ensure!(free["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty), "{free}");

    // And taken in again with them: there is one too many, which goes.
    let back = json!({"metadata": {"labels": {"herd": "herd"}}});
    world.cluster.merge(VMI, freed, back).await?;
    eventually("it to be taken in", SOON, async || {
        ensure!(members(world, "herd").await?.contains(freed), "it is still nobody's");
        Ok(())
    })
    .await?;
    has(world, "herd", 4).await?;

    let cluster = &world.cluster;
    cluster.merge(REPLICA_SET, "herd", json!({"spec": {"paused": true}})).await?;
    says(cluster, REPLICA_SET, "herd", ("ReplicaPaused", "True"), "Controller got paused").await?;
    cluster.kubectl_ok(&["scale", "vmirs/herd", "--replicas=1"]).await?;
    ensure!(members(world, "herd").await?.len() == 4, "it is paused");
    cluster.merge(REPLICA_SET, "herd", json!({"spec": {"paused": false}})).await?;
    let last = has(world, "herd", 1).await?;
    cluster.delete(REPLICA_SET, "herd").await?;
    for name in now.iter().chain(&last).chain([freed]) {
        cluster.gone(VMI, name, SOON).await?;
    }
    are_endpoints(world, "herd", &BTreeSet::new()).await?;
    cluster.kubectl_ok(&["delete", "service", "herd"]).await?;
    Ok(())
}
