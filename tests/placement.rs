//! Which node a VM runs on, and what it says where none takes it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::kinds::{NODE, VM, VMI};
use tests::objects::Vm;
use tests::world::World;
use tests::{eventually, same};

use crate::address_life::make_subnets;
use crate::admission::says;

const SOON: Duration = Duration::from_secs(30);
const NET: &str = "life-net";
const NOT_SCHEDULED: (&str, &str) = ("PodScheduled", "False");

/// A VM of this label `app` whose spec says this, too.
fn vm(name: &str, app: &str, more: &Value) -> Value {
    let mut vm = Vm::named(name).on(NET).without_grace().object();
    let template = &mut vm["spec"]["template"];
    template["metadata"]["labels"] = json!({"app": app});
    for (field, value) in more.as_object().into_iter().flatten() {
        template["spec"][field] = value.clone();
    }
    vm
}

fn apart(app: &str) -> Value {
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}]}}})
}

async fn node_of(world: &World, vm: &str) -> anyhow::Result<Value> {
    Ok(world.running(vm).await?["status"]["nodeName"].clone())
}

pub(super) async fn a_vm_that_no_node_takes_says_why_and_starts_once_one_does(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    // Two at once: the one that is decided second must know of the first.
    for name in ["apart-a", "apart-b"] {
        cluster.create(VM, vm(name, "apart", &apart("apart"))).await?;
    }
    let nodes = [node_of(world, "apart-a").await?, node_of(world, "apart-b").await?];
    ensure!(nodes[0] != nodes[1], "both are on {}", nodes[0]);
    cluster.create(VM, vm("apart-c", "apart", &apart("apart"))).await?;
    let words = "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules.";
    says(cluster, VM, "apart-c", NOT_SCHEDULED, words).await?;
    let third = cluster.get(VM, "apart-c").await?;
    same("its status", &third["status"]["printableStatus"], "ErrorUnschedulable")?;
    let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "nobody"}}}]}}});
    cluster.create(VM, vm("near", "near", &near)).await?;
    says(cluster, VM, "near", NOT_SCHEDULED, "2 node(s) didn't match pod affinity rules").await?;
    cluster.delete(VM, "apart-a").await?;
    same("the node that is free now", &node_of(world, "apart-c").await?, &nodes[0])?;
    cluster.create(VM, vm("somebody", "nobody", &json!({}))).await?;
    let there = node_of(world, "somebody").await?;
    same("the node of whom it waited for", &node_of(world, "near").await?, &there)?;

    let large = json!({"domain": {"memory": {"guest": "1Pi"}, "devices": {}}});
    cluster.create(VM, vm("large", "large", &large)).await?;
    says(cluster, VM, "large", NOT_SCHEDULED, "0/2 nodes are available: 2 Insufficient memory.")
        .await?;

    // An instance that nobody made for a VM says the same of itself.
    cluster.kubectl_ok(&["taint", "nodes", "n1", "n2", "rack=full:NoSchedule"]).await?;
    let solo = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "solo-taint", "namespace": "default",
            "annotations": {"ovn.kubernetes.io/logical_switch": NET}},
        "spec": vm("x", "x", &json!({}))["spec"]["template"]["spec"],
    });
    cluster.create(VMI, solo).await?;
    let words = "0/2 nodes are available: 2 node(s) had untolerated taint {rack: full}.";
    says(cluster, VMI, "solo-taint", NOT_SCHEDULED, words).await?;
    let waits = cluster.get(VMI, "solo-taint").await?;
    same("its phase", &waits["status"]["phase"], "Scheduling")?;
    let bears = json!({"tolerations": [{"key": "rack", "operator": "Exists"}],
        "nodeSelector": {"kubernetes.io/hostname": "n2"}});
    cluster.create(VM, vm("bears", "bears", &bears)).await?;
    same("its node", &node_of(world, "bears").await?, "n2")?;
    cluster.kubectl_ok(&["taint", "nodes", "n1", "n2", "rack-"]).await?;
    eventually("the instance to have a node", SOON, async || {
        let now = cluster.get(VMI, "solo-taint").await?;
        now["status"]["nodeName"].as_str().context("no node yet")?;
        let said = now["status"]["conditions"].to_string();
        ensure!(!said.contains("PodScheduled"), "{said}");
        Ok(())
    })
    .await?;

    // What a node says that it has counts, and what pods take of it.
    let small = json!({"nodeSelector": {"kubernetes.io/hostname": "n1"},
        "domain": {"cpu": {"cores": 2}, "memory": {"guest": "64Mi"}, "devices": {}}});
    ensure!(cluster.get(NODE, "n1").await?["status"]["allocatable"]["cpu"].is_string(), "no cpu");
    let mut greedy = small.clone();
    greedy["domain"]["resources"] = json!({"requests": {"cpu": "99999"}});
    cluster.create(VM, vm("greedy", "greedy", &greedy)).await?;
    node_of(world, "greedy").await?;
    let mut next = small;
    next["domain"]["resources"] = json!({"requests": {"cpu": "90000"}});
    cluster.create(VM, vm("next", "next", &next)).await?;
    says(cluster, VM, "next", NOT_SCHEDULED, "1 Insufficient cpu").await?;
    cluster.delete(VM, "greedy").await?;
    same("its node", &node_of(world, "next").await?, "n1")?;

    cluster.delete(VMI, "solo-taint").await?;
    for name in ["apart-b", "apart-c", "near", "somebody", "large", "bears", "next"] {
        cluster.delete(VM, name).await?;
        cluster.gone(VMI, name, SOON).await?;
    }
    cluster.gone(VMI, "solo-taint", SOON).await
}
