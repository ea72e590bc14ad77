//! What changes of a guest's hardware while it runs: by virtctl, and by its VM's template.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::kinds::{SUBNET, VM, VMI, VOLUME, VOLUME_CLAIM, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Part, World};
use tests::{eventually, same};

use crate::virtctl::{Stock, virtctl};
use crate::volumes::{local_volume, run, volume_claim};

const SOON: Duration = Duration::from_secs(60);
const PLUG: &str = "plugged";

/// The guest with the drivers of what comes later.
const DRIVERS: &str = "cd /lib/modules && for one in scsi_common scsi_mod sd_mod virtio_scsi; do insmod $one.ko; done";

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

pub(super) async fn the_hardware_of_a_guest_that_runs_changes_in_place(
    stock: &mut Stock,
) -> anyhow::Result<()> {
    let world = &mut stock.0;
    world.cluster.create(VPC, vpc("plug")).await?;
    let subnet = Subnet::named("plug-net").in_vpc("plug").of("10.232.0.0/24");
    world.cluster.create(SUBNET, subnet.object()).await?;
    let directory = world.lab().layout().dir.join("plug-claim");
    std::fs::create_dir(&directory)?;
    // As the node that the volume is of.
    let vm = Vm::named(PLUG).on("plug-net").without_grace().pinned_to("n2");
    world.cluster.create(VM, vm.object()).await?;
    let first = world.running(PLUG).await?;
    run(world, PLUG, DRIVERS).await?;

    a_volume_of_the_instance_alone_comes_and_goes(world, &directory).await?;
    a_volume_of_the_vm_is_there_after_a_restart(world).await?;
    let last = world.running(PLUG).await?;
    ensure!(last["metadata"]["uid"] != first["metadata"]["uid"], "it was not started again");
    world.cluster.delete(VM, PLUG).await?;
    world.cluster.gone(VMI, PLUG, SOON).await?;
    world.cluster.delete(VOLUME_CLAIM, "extra").await?;
    world.cluster.delete(VOLUME, "extra").await
}

/// The agent dies after each order.
async fn a_volume_of_the_instance_alone_comes_and_goes(
    world: &mut World,
    directory: &std::path::Path,
) -> anyhow::Result<()> {
    world.cluster.create(VOLUME_CLAIM, volume_claim("extra", "16Mi", "Filesystem")).await?;
    virtctl(world, &["addvolume", PLUG, "--volume-name=extra"]).await?;
    eventually("the claim to be waited for", SOON, async || {
        let one = said(world, "extra").await?.context("it is not listed")?;
        same("its phase", &one["phase"], "Pending")?;
        same("the message", &one["message"], "PVC is in phase ClaimPending")
    })
    .await?;
    let volume = local_volume("extra", "16Mi", "Filesystem", directory);
    world.cluster.create(VOLUME, volume).await?;
    let killed = world.kill(Part::Agent(2))?;
    world.back(killed).await?;
    is_ready(world, "extra").await?;
    in_guest(world, "32768").await?;
    run(world, PLUG, "echo kept | dd of=/dev/sda conv=fsync 2>/dev/null").await?;
    ensure!(condition(world, "RestartRequired").await?.is_none(), "it asks for a restart");
    eventually("it to say that it stays", SOON, async || {
        let moves = condition(world, "LiveMigratable").await?.context("it does not say")?;
        same("why it stays", &moves["reason"], "DisksNotLiveMigratable")
    })
    .await?;
    let twice = virtctl(world, &["addvolume", PLUG, "--volume-name=extra"]).await;
    let twice = twice.err().context("it was added twice")?.to_string();
    ensure!(twice.contains("volume with that name already exists"), "{twice}");

    virtctl(world, &["removevolume", PLUG, "--volume-name=extra"]).await?;
    let killed = world.kill(Part::Agent(2))?;
    world.back(killed).await?;
    is_gone(world, "extra").await?;
    in_guest(world, "").await?;
    let held = std::fs::read(directory.join("disk.img"))?;
    ensure!(held.starts_with(b"kept"), "what was written is not there");
    let vm = world.cluster.get(VM, PLUG).await?;
    same(
        "the VM's volumes",
        vm["spec"]["template"]["spec"]["volumes"].as_array().map(Vec::len),
        Some(1),
    )
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
