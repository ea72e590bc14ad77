//! What the disks of VMs are: small files, files and devices of the host, claims. What is
//! the user's stays, whatever becomes of the VM.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::kinds::{CONFIG_MAP, NODE, SECRET, SUBNET, VM, VMI, VOLUME, VOLUME_CLAIM, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::World;
use tests::{eventually, same};

pub(super) const NET: &str = "store";
const SOON: Duration = Duration::from_secs(45);

pub(super) async fn make_net(world: &World) -> anyhow::Result<()> {
    if world.cluster.find(VPC, "yard").await?.is_none() {
        world.cluster.create(VPC, vpc("yard")).await?;
        let subnet = Subnet::named(NET).in_vpc("yard").of("10.83.0.0/24,fd83::/64");
        world.cluster.create(SUBNET, subnet.object()).await?;
    }
    Ok(())
}

pub(super) fn vm(name: &str) -> Vm {
    Vm::named(name).on(NET).without_grace()
}

/// Waits until a VM is shown as `status` and has a condition with this reason that says this.
pub(super) async fn shown(
    world: &World,
    vm: &str,
    status: &str,
    reason: &str,
    words: &str,
) -> anyhow::Result<()> {
    eventually(&format!("{vm} to say {words:?}"), SOON, async || {
        let vm = world.cluster.get(VM, vm).await?;
        same("its status", &vm["status"]["printableStatus"], status)?;
        let conditions = vm["status"]["conditions"].as_array().context("no conditions")?;
        let says = |one: &Value| {
            one["reason"] == reason
                && one["message"].as_str().is_some_and(|text| text.contains(words))
        };
        ensure!(conditions.iter().any(says), "{conditions:?}");
        Ok(())
    })
    .await
}

pub(super) async fn stop(world: &World, vm: &str) -> anyhow::Result<()> {
    world.cluster.merge(VM, vm, json!({"spec": {"runStrategy": "Halted"}})).await?;
    world.cluster.gone(VMI, vm, SOON).await
}

pub(super) async fn start(world: &World, vm: &str) -> anyhow::Result<Value> {
    world.cluster.merge(VM, vm, json!({"spec": {"runStrategy": "Always"}})).await?;
    world.running(vm).await
}

pub(super) async fn delete(world: &World, vm: &str) -> anyhow::Result<()> {
    world.cluster.delete(VM, vm).await?;
    world.cluster.gone(VM, vm, SOON).await?;
    world.cluster.gone(VMI, vm, SOON).await
}

pub(super) async fn run(world: &World, vm: &str, command: &str) -> anyhow::Result<String> {
    world.guest(vm).await?.run(command).await.with_context(|| format!("in {vm}: {command}"))
}

/// That the guest stays where it is, in upstream's words.
async fn stays(world: &World, vm: &str, words: &str) -> anyhow::Result<()> {
    let instance = world.cluster.get(VMI, vm).await?;
    let conditions = instance["status"]["conditions"].as_array().context("no conditions")?;
    let one = conditions.iter().find(|one| one["type"] == "LiveMigratable");
    let one = one.context("it does not say whether it moves")?;
    same("whether it moves", &one["status"], "False")?;
    same("the reason", &one["reason"], "DisksNotLiveMigratable")?;
    same("the message", &one["message"], words)
}

fn begins(path: &Path, words: &str) -> anyhow::Result<()> {
    let held = std::fs::read(path).with_context(|| path.display().to_string())?;
    ensure!(held.starts_with(words.as_bytes()), "{} holds something else", path.display());
    Ok(())
}

pub(super) fn volume_claim(name: &str, size: &str, mode: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "storageClassName": name,
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": mode,
            "resources": {"requests": {"storage": size}},
        },
    })
}

/// A volume of node n2 for the claim of the same name.
fn local_volume(name: &str, size: &str, mode: &str, path: &Path) -> Value {
    let terms = json!([{"matchExpressions":
        [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]);
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": name,
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": mode,
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
    })
}

pub(super) async fn small_files_of_the_api_are_discs_in_the_guest(
    world: &mut World,
) -> anyhow::Result<()> {
    make_net(world).await?;
    let web = vm("files")
        .with_disk(
            "settings",
            json!({"configMap": {"name": "settings", "volumeLabel": "settings"}}),
        )
        .with_disk("keys", json!({"secret": {"secretName": "keys"}}))
        .with_disk(
            "self",
            json!({"downwardAPI": {"fields": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "who/am/i", "fieldRef": {"fieldPath": "metadata.name"}},
            ]}}),
        )
        .with_disk("answers", json!({"sysprep": {"configMap": {"name": "answers"}}}))
        .with_disk("perhaps", json!({"configMap": {"name": "absent", "optional": true}}));
    let mut web = web.object();
    web["spec"]["template"]["metadata"]["labels"] = json!({"tier": "gold", "app": "files"});
    world.cluster.create(VM, web).await?;
    let words =
        "MountVolume.SetUp failed for volume \"settings\" : configmap \"settings\" not found";
    shown(world, "files", "Starting", "FailedMount", words).await?;

    let map = |name: &str, data: Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": name, "namespace": "default"}})
    };
    let mut settings = map("settings", json!({"app.conf": "colour=blue\n"}));
    settings["binaryData"] = json!({"raw": "AAEC"});
    world.cluster.create(CONFIG_MAP, settings).await?;
    let words = "MountVolume.SetUp failed for volume \"keys\" : secret \"keys\" not found";
    shown(world, "files", "Starting", "FailedMount", words).await?;
    let keys = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"token": "s3cret"},
        "metadata": {"name": "keys", "namespace": "default"}});
    world.cluster.create(SECRET, keys).await?;
    world.cluster.create(CONFIG_MAP, map("answers", json!({"note": "x"}))).await?;
    let words = "Sysprep drive should contain autounattend.xml or unattend.xml";
    shown(world, "files", "Starting", "FailedMount", words).await?;
    let answers = json!({"data": {"Unattend.xml": "<unattend/>"}});
    world.cluster.merge(CONFIG_MAP, "answers", answers).await?;
    world.running("files").await?;

    // The label is where ISO 9660 has it, and padded.
    let read = |label: &str, device: &str, file: &str| {
        format!(
            "mkdir -p /mnt/{device} && mount -t iso9660 -o ro /dev/{device} /mnt/{device} && \
             [ \"$(dd if=/dev/{device} bs=1 skip=32808 count=32 2>/dev/null)\" = \
             \"$(printf %-32s {label})\" ] && cat /mnt/{device}/{file}"
        )
    };
    let expected = [
        ("settings", "vdb", "app.conf", "colour=blue"),
        ("cfgdata", "vdc", "token", "s3cret"),
        ("cfgdata", "vdd", "who/am/i", "files"),
        ("unattendCD", "vde", "Unattend.xml", "<unattend/>"),
    ];
    for (label, device, file, words) in expected {
        same(file, run(world, "files", &read(label, device, file)).await?.as_str(), words)?;
    }
    same("bytes", run(world, "files", "od -An -tx1 /mnt/vdb/raw").await?.trim(), "00 01 02")?;
    let labels = run(world, "files", "cat /mnt/vdd/labels").await?;
    ensure!(labels.contains("app=\"files\"") && labels.contains("tier=\"gold\""), "{labels}");
    let nothing = "mkdir /mnt/vdf && mount -t iso9660 -o ro /dev/vdf /mnt/vdf && ls -A /mnt/vdf";
    same("what an absent map shows", run(world, "files", nothing).await?.as_str(), "")?;
    delete(world, "files").await
}

pub(super) async fn a_disk_of_the_host_is_made_and_kept(world: &mut World) -> anyhow::Result<()> {
    make_net(world).await?;
    let path = world.lab().layout().host_disks().join("own/disk.img");
    let made = json!({"hostDisk": {"path": path, "type": "DiskOrCreate", "capacity": "16Mi"}});
    world.cluster.create(VM, vm("keeper").with_disk("data", made).object()).await?;
    world.running("keeper").await?;
    stays(world, "keeper", "cannot migrate VMI with non-shared HostDisk").await?;
    let size = run(world, "keeper", "blockdev --getsize64 /dev/vdb").await?;
    same("its size", size.as_str(), "16777216")?;
    let write = "echo kept | dd of=/dev/vdb conv=fsync 2>/dev/null";
    run(world, "keeper", write).await?;
    delete(world, "keeper").await?;
    begins(&path, "kept")?;

    let found = json!({"hostDisk": {"path": path, "type": "Disk"}});
    world.cluster.create(VM, vm("keeper").with_disk("data", found).object()).await?;
    world.running("keeper").await?;
    same("what it reads", run(world, "keeper", "head -c 4 /dev/vdb").await?.as_str(), "kept")?;
    delete(world, "keeper").await?;
    begins(&path, "kept")
}

pub(super) async fn a_claim_keeps_what_the_guest_wrote_and_a_layer_over_it_does_not(
    world: &mut World,
) -> anyhow::Result<()> {
    make_net(world).await?;
    let directory = world.lab().layout().dir.join("store-data");
    std::fs::create_dir_all(&directory)?;
    let volume = local_volume("data", "24Mi", "Filesystem", &directory);
    world.cluster.create(VOLUME_CLAIM, volume_claim("data", "24Mi", "Filesystem")).await?;
    world.cluster.create(VOLUME, volume).await?;
    let source = json!({"persistentVolumeClaim": {"claimName": "data"}});
    world.cluster.create(VM, vm("clerk").with_disk("data", source).object()).await?;
    let instance = world.running("clerk").await?;
    same("its node", &instance["status"]["nodeName"], "n2")?;
    let words = "cannot migrate VMI: PVC data is not shared, live migration requires that all \
                 PVCs must be shared (using ReadWriteMany access mode)";
    stays(world, "clerk", words).await?;
    let size = run(world, "clerk", "blockdev --getsize64 /dev/vdb").await?;
    same("its size", size.as_str(), "25165824")?;
    run(world, "clerk", "echo written | dd of=/dev/vdb conv=fsync 2>/dev/null").await?;
    delete(world, "clerk").await?;
    let disk = directory.join("disk.img");
    begins(&disk, "written")?;
    same("the claim", &world.cluster.get(VOLUME_CLAIM, "data").await?["status"]["phase"], "Bound")?;

    let layer = json!({"ephemeral": {"persistentVolumeClaim": {"claimName": "data"}}});
    world.cluster.create(VM, vm("guest").with_disk("data", layer).object()).await?;
    world.running("guest").await?;
    let read = "head -c 7 /dev/vdb";
    same("what the layer shows", run(world, "guest", read).await?.as_str(), "written")?;
    run(world, "guest", "echo changed | dd of=/dev/vdb conv=fsync 2>/dev/null").await?;
    same("what was written", run(world, "guest", read).await?.as_str(), "changed")?;
    stop(world, "guest").await?;
    start(world, "guest").await?;
    same("what is left of it", run(world, "guest", read).await?.as_str(), "written")?;
    delete(world, "guest").await?;
    begins(&disk, "written")?;

    // Without CDI a DataVolume is the claim of its name.
    let source = json!({"dataVolume": {"name": "data"}});
    world.cluster.create(VM, vm("clerk").with_disk("data", source).object()).await?;
    world.running("clerk").await?;
    same("what it reads", run(world, "clerk", read).await?.as_str(), "written")?;
    delete(world, "clerk").await?;
    world.cluster.delete(VOLUME_CLAIM, "data").await?;
    world.cluster.delete(VOLUME, "data").await?;
    begins(&disk, "written")
}

/// A loop device over a file, gone with the value.
pub(super) struct Loop {
    pub(super) device: PathBuf,
}

impl Loop {
    pub(super) fn over(file: &Path) -> anyhow::Result<Self> {
        let mut losetup = std::process::Command::new("losetup");
        let made = losetup.args(["--find", "--show"]).arg(file).output().context("losetup")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(Self { device: String::from_utf8(made.stdout)?.trim().into() })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

pub(super) async fn a_claim_of_a_block_device_is_that_device(
    world: &mut World,
) -> anyhow::Result<()> {
    make_net(world).await?;
    let file = world.lab().layout().dir.join("store-blocks.img");
    std::fs::File::create(&file)?.set_len(8 << 20)?;
    let device = Loop::over(&file)?;
    let link = world.lab().layout().dir.join("store-blocks");
    std::os::unix::fs::symlink(&device.device, &link)?;
    let volume = local_volume("blocks", "8Mi", "Block", &link);
    world.cluster.create(VOLUME_CLAIM, volume_claim("blocks", "8Mi", "Block")).await?;
    world.cluster.create(VOLUME, volume).await?;
    let source = json!({"persistentVolumeClaim": {"claimName": "blocks"}});
    world.cluster.create(VM, vm("raw").with_disk("data", source).object()).await?;
    world.running("raw").await?;
    let size = run(world, "raw", "blockdev --getsize64 /dev/vdb").await?;
    same("its size", size.as_str(), "8388608")?;
    run(world, "raw", "echo blocks | dd of=/dev/vdb conv=fsync 2>/dev/null").await?;
    delete(world, "raw").await?;
    begins(&device.device, "blocks")?;
    world.cluster.delete(VOLUME_CLAIM, "blocks").await?;
    world.cluster.delete(VOLUME, "blocks").await
}

pub(super) async fn a_volume_that_cannot_be_says_so_on_its_vm(
    world: &mut World,
) -> anyhow::Result<()> {
    make_net(world).await?;
    let inside = world.lab().layout().host_disks().join("bad.img");
    let fields = |path: &str| json!([{"path": "x", "fieldRef": {"fieldPath": path}}]);
    let table = [
        (
            json!({"hostDisk": {"path": "/etc/shadow", "type": "Disk"}}),
            "spec.volumes[1].hostDisk.path lies in none of the directories",
        ),
        (
            json!({"hostDisk": {"path": "relative.img", "type": "Disk"}}),
            "spec.volumes[1].hostDisk.path must be an absolute path",
        ),
        (
            json!({"hostDisk": {"path": inside, "type": "File"}}),
            "spec.volumes[1].hostDisk.type has invalid value 'File', allowed are 'Disk' or 'DiskOrCreate'",
        ),
        (
            json!({"hostDisk": {"path": inside, "type": "DiskOrCreate"}}),
            "spec.volumes[1].hostDisk.capacity is required",
        ),
        (
            json!({"hostDisk": {"path": inside, "type": "Disk", "capacity": "1Mi"}}),
            "spec.volumes[1].hostDisk.capacity is allowed to pass only with spec.volumes[1].hostDisk.type equal to 'DiskOrCreate'",
        ),
        (json!({"configMap": {}}), "spec.volumes[1].configMap.name is a required field"),
        (json!({"secret": {}}), "spec.volumes[1].secret.secretName is a required field"),
        (
            json!({"downwardAPI": {"fields": fields("spec.domain")}}),
            "spec.volumes[1].downwardAPI.fields[0].fieldRef.fieldPath \"spec.domain\" is not supported",
        ),
        (
            json!({"downwardAPI": {"fields": [{"path": "../x"}]}}),
            "spec.volumes[1].downwardAPI.fields[0].path must be a relative path without '..'",
        ),
        (
            json!({"configMap": {"name": "m", "volumeLabel": "x".repeat(33)}}),
            "spec.volumes[1].configMap.volumeLabel must be at most 32",
        ),
        (
            json!({"sysprep": {}}),
            "spec.volumes[1].sysprep must have exactly one of configMap and secret set",
        ),
        (
            json!({"serviceAccount": {}}),
            "spec.volumes[1].serviceAccount.serviceAccountName is a required field",
        ),
        (
            json!({"persistentVolumeClaim": {"claimName": ""}}),
            "spec.volumes[1].persistentVolumeClaim.claimName is a required field",
        ),
        (
            json!({"configMap": {"name": "m"}, "secret": {"secretName": "s"}}),
            "spec.volumes[1] must have exactly one source type set",
        ),
    ];
    for (at, (source, _)) in table.iter().enumerate() {
        let vm = vm(&format!("odd-{at}")).with_disk("odd", source.clone());
        world.cluster.create(VM, vm.object()).await?;
    }
    for (at, (_, words)) in table.iter().enumerate() {
        shown(world, &format!("odd-{at}"), "CrashLoopBackOff", "VolumeNotReady", words).await?;
    }
    for at in 0..table.len() {
        delete(world, &format!("odd-{at}")).await?;
    }
    ensure!(!inside.exists(), "a disk was made that nobody could have");
    Ok(())
}

/// With the fake hypervisor, too: nothing of it is the agent's.
pub(super) async fn a_vm_waits_for_its_claim_and_starts_where_the_volume_is(
    world: &mut World,
) -> anyhow::Result<()> {
    make_net(world).await?;
    for node in ["n1", "n2"] {
        world.cluster.get(NODE, node).await?;
    }
    let source = json!({"persistentVolumeClaim": {"claimName": "later"}});
    world.cluster.create(VM, vm("patient").with_disk("data", source).object()).await?;
    let words = "failed to render launch manifest: didn't find PVC later";
    shown(world, "patient", "ErrorPvcNotFound", "FailedPvcNotFound", words).await?;
    ensure!(world.cluster.find(VMI, "patient").await?.is_none(), "it has an instance");

    world.cluster.create(VOLUME_CLAIM, volume_claim("later", "1Gi", "Filesystem")).await?;
    let words = "persistentvolumeclaim \"later\" is not bound to a persistent volume";
    shown(world, "patient", "WaitingForVolumeBinding", "WaitingForVolumeBinding", words).await?;

    let volume = local_volume("later", "2Gi", "Filesystem", Path::new("/nowhere"));
    world.cluster.create(VOLUME, volume).await?;
    let instance = world.running("patient").await?;
    same("its node", &instance["status"]["nodeName"], "n2")?;
    let status = &instance["status"]["volumeStatus"][0];
    same("the volume", &status["name"], "data")?;
    let info = &status["persistentVolumeClaimInfo"];
    same("its claim", &info["claimName"], "later")?;
    same("its modes", &info["accessModes"], &json!(["ReadWriteOnce"]))?;
    same("its size", &info["capacity"]["storage"], "2Gi")?;

    // Where the volume is nobody may be: it is told, and nothing is started elsewhere.
    let cordon = |on: bool| json!({"spec": {"unschedulable": on}});
    stop(world, "patient").await?;
    world.cluster.merge(NODE, "n2", cordon(true)).await?;
    world.cluster.merge(VM, "patient", json!({"spec": {"runStrategy": "Always"}})).await?;
    let words = "n1: volume node affinity conflict: persistentvolume \"later\" is not of this node";
    shown(world, "patient", "ErrorUnschedulable", "Unschedulable", words).await?;
    world.cluster.merge(NODE, "n2", cordon(false)).await?;
    world.running("patient").await?;
    delete(world, "patient").await?;
    world.cluster.delete(VOLUME_CLAIM, "later").await?;
    world.cluster.delete(VOLUME, "later").await
}
