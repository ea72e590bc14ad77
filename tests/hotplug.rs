//! What changes of a guest's hardware while it runs: by virtctl, and by its VM's template.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::kinds::{SUBNET, VM, VMI, VOLUME, VOLUME_CLAIM, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Part, World};
use tests::{eventually, same};

use crate::virtctl::{Stock, virtctl};
use crate::volumes::{Loop, run, volume_claim};

const SOON: Duration = Duration::from_secs(60);
const PLUG: &str = "plugged";

/// The guest with the drivers of what comes later.
const DRIVERS: &str = "cd /lib/modules && for one in scsi_common scsi_mod sd_mod virtio_scsi; do insmod $one.ko; done";

/// Which processors the guest has.
const PRESENT: &str = "cat /sys/devices/system/cpu/present";

/// What the instance says of a volume.
async fn said(world: &World, volume: &str) -> anyhow::Result<Option<Value>> {
    let instance = world.cluster.get(VMI, PLUG).await?;
    let list = instance["status"]["volumeStatus"].as_array().cloned().unwrap_or_default();
    Ok(list.into_iter().find(|one| one["name"] == volume))
}

async fn is_ready(world: &World, volume: &str) -> anyhow::Result<()> {
    eventually(&format!("volume {volume} to be Ready"), SOON, async || {
        let one = said(world, volume).await?.context("it is not listed")?;
        same("its phase", &one["phase"], "Ready").with_context(|| one.to_string())?;
        same("its reason", &one["reason"], "VolumeReady")?;
        ensure!(one["hotplugVolume"].is_object() && one["target"] == "sda", "{one}");
        Ok(())
    })
    .await
}

async fn is_gone(world: &World, volume: &str) -> anyhow::Result<()> {
    eventually(&format!("volume {volume} to be gone"), SOON, async || {
        same("what is said of it", said(world, volume).await?, None)
    })
    .await
}

/// Whether the guest has the disk, and how large.
async fn in_guest(world: &World, size: &str) -> anyhow::Result<()> {
    eventually(&format!("the guest to have a disk of {size:?}"), SOON, async || {
        let seen = run(world, PLUG, "cat /sys/block/sda/size 2>/dev/null || true").await?;
        same("its blocks", seen.trim(), size)
    })
    .await
}

/// What the condition of this type says of the VM, if it has it.
async fn condition(world: &World, kind: &str) -> anyhow::Result<Option<Value>> {
    let vm = world.cluster.get(VM, PLUG).await?;
    let all = vm["status"]["conditions"].as_array().cloned().unwrap_or_default();
    Ok(all.into_iter().find(|one| one["type"] == kind))
}

/// The agent of the node that it is on.
async fn its_agent(world: &World) -> anyhow::Result<Part> {
    let node = world.node_of(PLUG).await?.name;
    let number = node.trim_start_matches('n').parse();
    Ok(Part::Agent(number.with_context(|| node.clone())?))
}

/// A volume of blocks that all nodes share, for the claim of the same name.
pub(super) fn shared_blocks(device: &Path) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "extra"},
        "spec": {
            "storageClassName": "extra",
            "capacity": {"storage": "16Mi"},
            "accessModes": ["ReadWriteMany"],
            "volumeMode": "Block",
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": device},
        },
    })
}

pub(super) async fn the_hardware_of_a_guest_that_runs_changes_in_place(
    stock: &mut Stock,
) -> anyhow::Result<()> {
    let world = &mut stock.0;
    world.cluster.create(VPC, vpc("plug")).await?;
    let subnet = Subnet::named("plug-net").in_vpc("plug").of("10.232.0.0/24");
    world.cluster.create(SUBNET, subnet.object()).await?;
    let file = world.lab().layout().dir.join("plug-blocks.img");
    std::fs::File::create(&file)?.set_len(16 << 20)?;
    let blocks = Loop::over(&file)?;
    let vm = Vm::named(PLUG).on("plug-net").without_grace();
    world.cluster.create(VM, vm.object()).await?;
    world.running(PLUG).await?;
    run(world, PLUG, DRIVERS).await?;

    processors_come_and_a_cable_is_pulled(world).await?;
    a_volume_of_the_instance_alone_comes_moves_and_goes(world, &blocks.device).await?;
    a_volume_of_the_vm_is_there_after_a_restart(world).await?;
    world.cluster.delete(VM, PLUG).await?;
    world.cluster.gone(VMI, PLUG, SOON).await?;
    world.cluster.delete(VOLUME_CLAIM, "extra").await?;
    world.cluster.delete(VOLUME, "extra").await
}

/// Has the guest print this until it is so.
async fn until_guest(world: &World, command: &str, wanted: &str) -> anyhow::Result<()> {
    eventually(&format!("{command:?} to print {wanted:?}"), SOON, async || {
        same("what it prints", run(world, PLUG, command).await?.trim(), wanted)
    })
    .await
}

async fn processors_come_and_a_cable_is_pulled(world: &mut World) -> anyhow::Result<()> {
    let change = |domain: Value| json!({"spec": {"template": {"spec": {"domain": domain}}}});
    until_guest(world, PRESENT, "0").await?;
    let killed = world.kill_for_long(its_agent(world).await?).await?;
    world.cluster.merge(VM, PLUG, change(json!({"cpu": {"sockets": 2}}))).await?;
    world.back(killed).await?;
    until_guest(world, PRESENT, "0-1").await?;
    eventually("it to say so", SOON, async || {
        let instance = world.cluster.get(VMI, PLUG).await?;
        same("its sockets", &instance["status"]["currentCPUTopology"]["sockets"], &json!(2))
    })
    .await?;
    ensure!(condition(world, "RestartRequired").await?.is_none(), "it asks for a restart");

    let carrier = "cat /sys/class/net/eth0/carrier";
    for (state, shown) in [("down", "0"), ("up", "1")] {
        let interfaces = json!([{"name": "default", "bridge": {}, "state": state}]);
        let devices = json!({"devices": {"interfaces": interfaces}});
        world.cluster.merge(VM, PLUG, change(devices)).await?;
        until_guest(world, carrier, shown).await?;
        eventually("it to say so", SOON, async || {
            let instance = world.cluster.get(VMI, PLUG).await?;
            same("its link", &instance["status"]["interfaces"][0]["linkState"], state)
        })
        .await?;
    }
    Ok(())
}

/// The agent dies after each order.
async fn a_volume_of_the_instance_alone_comes_moves_and_goes(
    world: &mut World,
    device: &Path,
) -> anyhow::Result<()> {
    let mut claim = volume_claim("extra", "16Mi", "Block");
    claim["spec"]["accessModes"] = json!(["ReadWriteMany"]);
    world.cluster.create(VOLUME_CLAIM, claim).await?;
    virtctl(world, &["addvolume", PLUG, "--volume-name=extra"]).await?;
    eventually("the claim to be waited for", SOON, async || {
        let one = said(world, "extra").await?.context("it is not listed")?;
        same("its phase", &one["phase"], "Pending")?;
        same("the message", &one["message"], "PVC is in phase ClaimPending")
    })
    .await?;
    world.cluster.create(VOLUME, shared_blocks(device)).await?;
    let killed = world.kill(its_agent(world).await?)?;
    world.back(killed).await?;
    is_ready(world, "extra").await?;
    in_guest(world, "32768").await?;
    run(world, PLUG, "echo kept | dd of=/dev/sda conv=fsync 2>/dev/null").await?;
    ensure!(condition(world, "RestartRequired").await?.is_none(), "it asks for a restart");
    let twice = virtctl(world, &["addvolume", PLUG, "--volume-name=extra"]).await;
    let twice = twice.err().context("it was added twice")?.to_string();
    ensure!(twice.contains("volume with that name already exists"), "{twice}");

    // What came to it goes with it.
    let before = world.node_of(PLUG).await?.name;
    virtctl(world, &["migrate", PLUG]).await?;
    eventually("the guest to be on the other node", Duration::from_secs(120), async || {
        ensure!(world.node_of(PLUG).await?.name != before, "it is still there");
        Ok(())
    })
    .await?;
    same("what it reads", run(world, PLUG, "head -c 4 /dev/sda").await?.as_str(), "kept")?;
    until_guest(world, PRESENT, "0-1").await?;

    virtctl(world, &["removevolume", PLUG, "--volume-name=extra"]).await?;
    let killed = world.kill(its_agent(world).await?)?;
    world.back(killed).await?;
    is_gone(world, "extra").await?;
    in_guest(world, "").await?;
    let vm = world.cluster.get(VM, PLUG).await?;
    let volumes = vm["spec"]["template"]["spec"]["volumes"].as_array().map(Vec::len);
    same("the VM's volumes", volumes, Some(1))
}

async fn a_volume_of_the_vm_is_there_after_a_restart(world: &World) -> anyhow::Result<()> {
    virtctl(world, &["addvolume", PLUG, "--volume-name=extra", "--persist"]).await?;
    is_ready(world, "extra").await?;
    in_guest(world, "32768").await?;
    ensure!(condition(world, "RestartRequired").await?.is_none(), "it asks for a restart");
    let first = world.running(PLUG).await?;
    virtctl(world, &["restart", PLUG]).await?;
    eventually("another instance", SOON, async || {
        let now = world.running(PLUG).await?;
        ensure!(now["metadata"]["uid"] != first["metadata"]["uid"], "still the one before");
        Ok(())
    })
    .await?;
    run(world, PLUG, DRIVERS).await?;
    in_guest(world, "32768").await?;
    same("what it reads", run(world, PLUG, "head -c 4 /dev/sda").await?.as_str(), "kept")
}
