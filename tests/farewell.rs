//! Who waits for a VM to be gone has waited for its guest, and who leaves the guest has it left.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use tests::kinds::{IP, SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{World, port_of};
use tests::{eventually, same};

const SOON: Duration = Duration::from_secs(20);
/// KubeVirt's, on a VM.
const FINALIZER: &str = "kubevirt.io/virtualMachineControllerFinalize";

pub(super) async fn a_vm_is_there_until_its_guest_is_gone(world: &mut World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("parting")).await?;
    let subnet = Subnet::named("farewell").in_vpc("parting").of("10.88.77.0/24");
    cluster.create(SUBNET, subnet.object()).await?;
    for name in ["waited-for", "left"] {
        cluster.create(VM, Vm::named(name).on("farewell").without_grace().object()).await?;
        world.running(name).await?;
        let vm = cluster.get(VM, name).await?;
        same("its finalizers", &vm["metadata"]["finalizers"], &json!([FINALIZER]))?;
    }

    happened(world, "VirtualMachine", "waited-for", &["SuccessfulCreate"]).await?;
    happened(world, "VirtualMachineInstance", "waited-for", &["Created", "Started"]).await?;
    let cluster = &world.cluster;

    // Somebody holds the instance, as its agent does while the guest goes down.
    let instance = cluster.get(VMI, "waited-for").await?;
    let mut finalizers = instance["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    finalizers.push(json!("example.com/backup"));
    cluster.merge(VMI, "waited-for", json!({"metadata": {"finalizers": finalizers}})).await?;
    cluster.delete(VM, "waited-for").await?;
    eventually("the VM to be Terminating", SOON, async || {
        let vm = cluster.get(VM, "waited-for").await?;
        let status = vm["status"]["printableStatus"].as_str();
        same("its status", status, Some("Terminating"))
    })
    .await?;
    same("its place", world.find_place("waited-for").await?.is_some(), true)?;
    let held = json!({"metadata": {"finalizers": Value::Null}});
    cluster.merge(VMI, "waited-for", held).await?;
    cluster.gone(VM, "waited-for", SOON).await?;
    ensure!(cluster.find(VMI, "waited-for").await?.is_none(), "the VM went before its instance");
    cluster.gone(IP, &port_of("waited-for"), SOON).await?;

    happened(world, "VirtualMachine", "waited-for", &["SuccessfulDelete"]).await?;
    happened(world, "VirtualMachineInstance", "waited-for", &["Deleted", "Stopped"]).await?;

    let cluster = &world.cluster;
    let before = cluster.get(VMI, "left").await?;
    cluster.kubectl_ok(&["delete", "vm", "left", "--cascade=orphan"]).await?;
    cluster.gone(VM, "left", SOON).await?;
    let after = cluster.get(VMI, "left").await?;
    same("the instance", &after["metadata"]["uid"], &before["metadata"]["uid"])?;
    ensure!(after["metadata"]["deletionTimestamp"].is_null(), "the instance goes: {after}");

    for (kind, name) in [(VMI, "left"), (SUBNET, "farewell"), (VPC, "parting")] {
        cluster.delete(kind, name).await?;
        cluster.gone(kind, name, SOON).await?;
    }
    Ok(())
}

/// Waits until normal events with these reasons tell of an object.
async fn happened(world: &World, kind: &str, name: &str, reasons: &[&str]) -> anyhow::Result<()> {
    let client = tests::cluster::client(world.cluster.kubeconfig()).await?;
    let api: Api<Event> = Api::namespaced(client, "default");
    let fields = format!("involvedObject.kind={kind},involvedObject.name={name},type=Normal");
    eventually(&format!("{reasons:?} to be told of {kind} {name}"), SOON, async || {
        let events = api.list(&ListParams::default().fields(&fields)).await?.items;
        let told: Vec<_> = events.iter().filter_map(|one| one.reason.as_deref()).collect();
        ensure!(reasons.iter().all(|reason| told.contains(reason)), "{told:?}");
        Ok(())
    })
    .await
}
