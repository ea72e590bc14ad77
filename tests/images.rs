//! Images of a registry: who may have them, what is said of one that cannot be had, and that
//! what has come is there for the next, also after a kill.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tests::kinds::{DATA_VOLUME, SECRET, VM};
use tests::objects::GUEST_IMAGE;
use tests::registry::{HOST, PASSWORD, Registry, USER};
use tests::world::{Part, World};
use tests::{eventually, guest_image, same};

use crate::data_volumes::{directory, guest_disk, message, phase};
use crate::volumes::{delete, make_net, shown, vm};

const SOON: Duration = Duration::from_secs(45);
const REPOSITORY: &str = "team/guest";

/// What passes of the image before the agent is killed.
const SOME: usize = 4 << 20;

/// What the agent counts while two VMs wait for their images.
const WAIT: &str = "berth_agent_vms{state=\"preparing\"} 2";

/// A VM of this registry's image on the node that has the registry.
fn of_registry(name: &str, tag: &str, secret: Option<&str>) -> Value {
    let mut vm = vm(name).pinned_to("n1").object();
    let disk = &mut vm["spec"]["template"]["spec"]["volumes"][0]["containerDisk"];
    disk["image"] = json!(format!("{HOST}/{REPOSITORY}:{tag}"));
    if let Some(secret) = secret {
        disk["imagePullSecret"] = json!(secret);
    }
    vm
}

fn pull_secret(name: &str, password: &str) -> Value {
    let auth = BASE64_STANDARD.encode(format!("{USER}:{password}"));
    let config = json!({ "auths": { HOST: { "auth": auth } } }).to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name, "namespace": "default" },
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": { ".dockerconfigjson": config },
    })
}

/// A DataVolume that is filled from the same image, and the Secret that it names.
fn of_image(name: &str) -> [Value; 2] {
    let registry = json!({"url": format!("docker://{HOST}/{REPOSITORY}:1"), "secretRef": "user"});
    let data_volume = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": name, "namespace": "default", "annotations":
            {"cdi.kubevirt.io/storage.bind.immediate.requested": "true"}},
        "spec": {
            "source": {"registry": registry},
            "storage": {"resources": {"requests": {"storage": "192Mi"}}},
        },
    });
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "user", "namespace": "default"},
        "stringData": {"accessKeyId": USER, "secretKey": PASSWORD},
    });
    [data_volume, secret]
}

/// That two disks hold the same.
pub(super) fn compare(raw: &Path, image: &Path) -> anyhow::Result<()> {
    let mut compare = Command::new("qemu-img");
    let compared = compare.args(["compare", "-f", "raw", "-F", "qcow2"]).arg(raw).arg(image);
    let compared = compared.output().context("qemu-img")?;
    let said = String::from_utf8_lossy(&compared.stdout);
    ensure!(compared.status.success(), "{said}{}", String::from_utf8_lossy(&compared.stderr));
    Ok(())
}

/// How much of the image has come to the node and is not all of it yet.
fn come(world: &World) -> anyhow::Result<u64> {
    let partial: PathBuf = world.lab().layout().node(1).state().join("pulled/partial");
    let files = std::fs::read_dir(&partial).with_context(|| partial.display().to_string())?;
    let lengths = files.map(|file| Ok(file?.metadata()?.len()));
    lengths.sum::<std::io::Result<u64>>().context("the files")
}

pub(super) async fn an_image_is_waited_for_pulled_over_a_kill_and_shared_by_those_who_may_have_it(
    world: &mut World,
) -> anyhow::Result<()> {
    make_net(world).await?;
    let dir = world.lab().layout().dir.join("registry");
    let registry = Registry::start(&world.lab().layout().node(1).namespace, &dir).await?;

    // Nobody has pushed it, and who asks may not: what is to be done is said.
    world.cluster.create(VM, of_registry("early", "1", Some("pull"))).await?;
    shown(world, "early", "ErrImagePull", "ErrImagePull", "Secret \"pull\" does not exist").await?;
    world.cluster.create(SECRET, pull_secret("pull", PASSWORD)).await?;
    let words = format!("{HOST}/{REPOSITORY}:1: not found");
    shown(world, "early", "ErrImagePull", "ErrImagePull", &words).await?;
    shown(world, "early", "ImagePullBackOff", "ImagePullBackOff", "Back-off pulling image").await?;
    let events = ["get", "events", "-o", "json", "--field-selector=reason=ErrImagePull"];
    let events: Value = serde_json::from_str(&world.cluster.kubectl_ok(&events).await?)?;
    let told = events["items"].as_array().context("no events")?;
    let is_told = |one: &Value| {
        one["involvedObject"]["name"] == "early"
            && one["message"].as_str().is_some_and(|note| note.contains("push it, or mend"))
    };
    ensure!(told.iter().any(is_told), "{told:?}");

    // The same of a disk that is filled from it.
    let [data_volume, user] = of_image("pulled");
    world.cluster.create(DATA_VOLUME, data_volume).await?;
    eventually("the DataVolume to say what it lacks", SOON, async || {
        let status = world.cluster.get(DATA_VOLUME, "pulled").await?["status"].clone();
        ensure!(message(&status, "Running").contains("secret \"user\" not found"), "{status}");
        Ok(())
    })
    .await?;
    world.cluster.create(SECRET, user).await?;

    // Pushed, and nobody has to lift a hand; what has come before a kill comes no second time.
    registry.let_pass(SOME);
    registry.push(&guest_image()?, GUEST_IMAGE, REPOSITORY, "1")?;
    eventually("some of the image to come", SOON, async || {
        let bytes = come(world)?;
        ensure!(bytes > 1 << 20, "{bytes} bytes");
        Ok(())
    })
    .await?;
    // Who is not wanted any more does not wait for it.
    world.cluster.create(VM, of_registry("stray", "1", Some("pull"))).await?;
    let node = world.lab().layout().node(1);
    eventually("two VMs to wait for the image", SOON, async || {
        let told = world.agent_metrics(&node).await?;
        ensure!(told.lines().any(|line| line == WAIT), "no {WAIT}");
        Ok(())
    })
    .await?;
    delete(world, "stray").await?;
    phase(world, "pulled", "ImportInProgress").await?;
    let killed = world.kill(Part::Agent(1))?;
    registry.let_pass(usize::MAX);
    world.back(killed).await?;
    world.running("early").await?;
    let given = registry.blobs_given(REPOSITORY)?;
    same("how it ended", given.last().copied(), Some(206))?;
    same("what is left of the pull", come(world)?, 0)?;
    phase(world, "pulled", "Succeeded").await?;
    let (_, filled) = directory(world, "pulled").await?;
    let disk = world.lab().layout().dir.join("guest.qcow2");
    std::fs::write(&disk, guest_disk()?)?;
    compare(&filled.join("disk.img"), &disk)?;
    same("how often it came", registry.blobs_given(REPOSITORY)?.len(), given.len())?;
    world.cluster.delete(DATA_VOLUME, "pulled").await?;
    world.cluster.delete(SECRET, "user").await?;

    // The next has it from the node, and who may not have it has it from nobody.
    world.cluster.create(VM, of_registry("late", "1", Some("pull"))).await?;
    world.running("late").await?;
    world.cluster.create(SECRET, pull_secret("wrong", "guessed")).await?;
    world.cluster.create(VM, of_registry("thief", "1", Some("wrong"))).await?;
    let words = "refuses the login";
    shown(world, "thief", "ErrImagePull", "ErrImagePull", words).await?;
    same("the blobs given", registry.blobs_given(REPOSITORY)?, given)?;
    for name in ["early", "late", "thief"] {
        delete(world, name).await?;
    }
    world.cluster.delete(SECRET, "pull").await?;
    world.cluster.delete(SECRET, "wrong").await
}
