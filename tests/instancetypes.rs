//! An instancetype and a preference make a VM's hardware, as they were when it first referred to
//! them.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tests::kinds::{VM, VMI};
use tests::objects::Vm;
use tests::world::{Part, World};
use tests::{eventually, same};

use crate::address_life::make_subnets;
use crate::admission::says;

const SOON: Duration = Duration::from_secs(45);
const NET: &str = "life-net";

const KINDS: &str = r"
apiVersion: instancetype.kubevirt.io/v1beta1
kind: VirtualMachineClusterInstancetype
metadata: {name: sized}
spec:
  cpu: {guest: 4}
  memory: {guest: 192Mi}
---
apiVersion: instancetype.kubevirt.io/v1beta1
kind: VirtualMachinePreference
metadata: {name: liked, namespace: default}
spec:
  cpu: {preferredCPUTopology: cores}
  devices: {preferredDiskBus: sata}
";

/// A VM that leaves its size to others.
fn vm(name: &str, more: &Value) -> Value {
    let mut vm = Vm::named(name).on(NET).without_grace().object();
    let domain = &mut vm["spec"]["template"]["spec"]["domain"];
    domain["memory"] = Value::Null;
    domain["devices"]["disks"] = json!([{"name": "root", "disk": {}}]);
    let spec = vm["spec"].as_object_mut().into_iter();
    spec.for_each(|spec| spec.extend(more.as_object().cloned().unwrap_or_default()));
    vm
}

async fn cores(world: &World, name: &str, count: u32) -> anyhow::Result<Value> {
    let instance = world.running(name).await?;
    same("cores", &instance["spec"]["domain"]["cpu"]["cores"], &json!(count))?;
    Ok(instance)
}

pub(super) async fn a_vm_is_as_large_as_its_instancetype_was_when_it_first_named_it(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(&world.cluster).await?;
    let both = json!({"instancetype": {"name": "sized"},
        "preference": {"name": "liked", "kind": "VirtualMachinePreference"}});
    // It waits for what is not there yet.
    world.cluster.create(VM, vm("fits", &both)).await?;
    let missing = "virtualmachineclusterinstancetypes.instancetype.kubevirt.io";
    says(&world.cluster, VM, "fits", ("Failure", "True"), missing).await?;
    world.cluster.kubectl_with(&["apply", "-f", "-"], KINDS).await?;
    let instance = cores(world, "fits", 4).await?;
    let domain = &instance["spec"]["domain"];
    same("memory", &domain["memory"]["guest"], "192Mi")?;
    same("the bus", &domain["devices"]["disks"][0]["disk"]["bus"], "sata")?;
    let notes = &instance["metadata"]["annotations"];
    same("its instancetype", &notes["kubevirt.io/cluster-instancetype-name"], "sized")?;
    let machine = world.cluster.get(VM, "fits").await?;
    let revision = &machine["status"]["instancetypeRef"]["controllerRevisionRef"]["name"];
    let kept = ["get", "controllerrevisions", revision.as_str().unwrap_or_default(), "-o", "name"];
    world.cluster.kubectl_ok(&kept).await?;
    ensure!(!machine["status"]["conditions"].to_string().contains("RestartRequired"), "{machine}");

    // An edit is for who refers to it later; a restart, and another controller, change nothing.
    let larger = r#"{"spec":{"cpu":{"guest":2}}}"#;
    let edit = ["patch", "vmcf", "sized", "--type=merge", "-p", larger];
    world.cluster.kubectl_ok(&edit).await?;
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    let uid = instance["metadata"]["uid"].clone();
    world.cluster.delete(VMI, "fits").await?;
    eventually("another instance", SOON, async || {
        let now = world.cluster.get(VMI, "fits").await?;
        ensure!(now["metadata"]["uid"] != uid, "it is the old one");
        Ok(())
    })
    .await?;
    cores(world, "fits", 4).await?;
    world.cluster.create(VM, vm("later", &both)).await?;
    cores(world, "later", 2).await?;

    let path =
        "/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachines/fits/expand-spec";
    let raw = ["get", "--raw", path];
    let expanded = eventually("the VM to be expanded", SOON, async || {
        Ok(serde_json::from_str::<Value>(&world.cluster.kubectl_ok(&raw).await?)?)
    })
    .await?;
    let domain = &expanded["spec"]["template"]["spec"]["domain"];
    same("cores when expanded", &domain["cpu"]["cores"], &json!(4))?;
    ensure!(expanded["spec"].get("instancetype").is_none(), "{expanded}");

    // One that nobody has made is expanded as well.
    let all = "/apis/subresources.kubevirt.io/v1/namespaces/default/expand-vm-spec";
    let ask = ["replace", "--raw", all, "-f", "-"];
    let sent = vm("never", &both).to_string();
    let expanded = world.cluster.kubectl_with(&ask, &sent).await?;
    let expanded: Value = serde_json::from_str(&expanded)?;
    let domain = &expanded["spec"]["template"]["spec"]["domain"];
    same("cores of one that is not there", &domain["cpu"]["cores"], &json!(2))?;

    let mut torn = vm("torn", &both);
    torn["spec"]["template"]["spec"]["domain"]["cpu"] = json!({"cores": 1});
    world.cluster.create(VM, torn).await?;
    let words =
        "VM field(s) spec.template.spec.domain.cpu.cores conflicts with selected instance type";
    says(&world.cluster, VM, "torn", ("Failure", "True"), words).await?;
    // A guest that runs keeps its hardware and says that it would have another.
    let plain = json!({"spec": {"preference": null}});
    world.cluster.merge(VM, "later", plain).await?;
    says(&world.cluster, VM, "later", ("RestartRequired", "True"), "non-live-updatable").await?;

    for name in ["fits", "later", "torn"] {
        world.cluster.delete(VM, name).await?;
        world.cluster.gone(VMI, name, SOON).await?;
    }
    world.cluster.kubectl_ok(&["delete", "vmcf/sized", "vmpref/liked"]).await.map(drop)
}
