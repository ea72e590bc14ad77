//! What a guest says of itself, what it is asked for, and how its ports are reached.

use std::time::Duration;

use anyhow::{Context, ensure};
use kube::Client;
use serde_json::{Value, json};
use tests::cluster::client;
use tests::kinds::{SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::subresources::{Stream, get, put, refused};
use tests::world::{Part, START, World};
use tests::{eventually, same};

const SOON: Duration = Duration::from_secs(60);
const TALKER: &str = "virtualmachineinstances/talker";

/// A page, a long one, and a file system that can stand still.
const SERVES: &str = "#!/bin/sh
mkdir -p /www /data
echo it-is-me >/www/index.html
dd if=/dev/zero bs=1k count=1024 2>/dev/null | tr '\\0' x >/www/long
echo the-end >>/www/long
httpd -p 80 -h /www
mke2fs /dev/vdc >/dev/null && mount -t ext4 /dev/vdc /data
";

async fn talker(world: &World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    // A network of its own, with addresses that others have, too: no node has a way there.
    cluster.create(VPC, vpc("talk")).await?;
    let subnet = Subnet::named("talk-net").in_vpc("talk").of("10.80.0.0/24,fd80::/64");
    cluster.create(SUBNET, subnet.object()).await?;
    let data = json!({"emptyDisk": {"capacity": "16Mi"}});
    let vm = Vm::named("talker").on("talk-net").running(SERVES).with_disk("data", data);
    let mut vm = vm.without_grace().object();
    let spec = &mut vm["spec"]["template"]["spec"];
    spec["readinessProbe"] = json!({
        "httpGet": {"port": 80, "path": "/ready"},
        "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 1,
    });
    // The guest is slow to start.
    spec["livenessProbe"] = json!({
        "tcpSocket": {"port": 80}, "initialDelaySeconds": 60,
        "periodSeconds": 2, "timeoutSeconds": 10, "failureThreshold": 2,
    });
    cluster.create(VM, vm).await?;
    let place = {
        world.running("talker").await?;
        world.place("talker").await?
    };
    world.guest_ready("talker", &place).await.map(drop)
}

fn says(instance: &Value, condition: &str) -> bool {
    let all = instance["status"]["conditions"].as_array().into_iter().flatten();
    all.into_iter().any(|one| one["type"] == condition && one["status"] == "True")
}

/// Waits until instance and VM are ready, or are not.
async fn is_ready(world: &World, is: bool) -> anyhow::Result<Value> {
    eventually(&format!("Ready: {is}"), SOON, async || {
        let instance = world.cluster.get(VMI, "talker").await?;
        same("Ready", says(&instance, "Ready"), is)?;
        same("the VM's", says(&world.cluster.get(VM, "talker").await?, "Ready"), is)?;
        let all = instance["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["type"] == "Ready").context("no such condition")
    })
    .await
}

async fn agent_is_connected(world: &World, is: bool) -> anyhow::Result<Value> {
    eventually(&format!("AgentConnected: {is}"), SOON, async || {
        let instance = world.cluster.get(VMI, "talker").await?;
        same("AgentConnected", says(&instance, "AgentConnected"), is)?;
        Ok(instance)
    })
    .await
}

/// What comes back from the guest's web server through a forwarded port.
async fn page(client: &Client, of: &str, page: &str, wanted: &str) -> anyhow::Result<()> {
    let mut stream = Stream::open(client, &format!("{of}/portforward/80/tcp")).await?;
    stream.say(&format!("GET {page} HTTP/1.0\r\n\r\n")).await?;
    stream.hear(wanted).await?;
    stream.ended().await.context("the web server closes the connection")
}

/// Makes a file. Where file systems stand still, who does that waits, and nothing ends it.
async fn made(world: &World, name: &str) -> anyhow::Result<()> {
    let make = format!("touch /data/{name} & sleep 1; test -e /data/{name}");
    world.guest("talker").await?.run(&make).await.map(drop)
}

pub(super) async fn a_guest_is_shown_asked_frozen_and_reached_through_its_own_node(
    world: &mut World,
) -> anyhow::Result<()> {
    talker(world).await?;
    let client = &client(world.cluster.kubeconfig()).await?;
    let place = world.place("talker").await?;

    // It runs and is not ready before its page is there.
    let unready = is_ready(world, false).await?;
    same("reason", unready["reason"].as_str(), Some("ContainersNotReady"))?;
    world.guest("talker").await?.run("touch /www/ready").await?;
    let ready = is_ready(world, true).await?;

    // It says what it is.
    let instance = agent_is_connected(world, true).await?;
    let instance = eventually("the guest's interface to be named", SOON, async || {
        let now = world.cluster.get(VMI, "talker").await?;
        same("name", now["status"]["interfaces"][0]["interfaceName"].as_str(), Some("eth0"))?;
        Ok(now)
    })
    .await
    .with_context(|| format!("{}", instance["status"]))?;
    let status = &instance["status"];
    same("what it runs", status["guestOSInfo"]["id"].as_str(), Some("berth-guest"))?;
    let interface = &status["interfaces"][0];
    same("source", interface["infoSource"].as_str(), Some("domain, guest-agent"))?;
    same("address", interface["ipAddress"].as_str(), Some(place.v4.as_str()))?;
    eventually("its VM to say so, too", SOON, async || {
        let machine = world.cluster.get(VM, "talker").await?;
        ensure!(says(&machine, "AgentConnected"), "{}", machine["status"]);
        Ok(())
    })
    .await?;

    // It is asked.
    let told = get(client, &format!("{TALKER}/guestosinfo")).await?;
    same("host name", told["hostname"].as_str(), Some("talker"))?;
    ensure!(told["guestAgentVersion"].as_str().is_some_and(|text| text.contains('.')), "{told}");
    let disks = told["fsInfo"]["disks"].as_array().context("no list of disks")?;
    ensure!(disks.iter().any(|one| one["mountPoint"] == "/data"), "{told}");
    let told = get(client, &format!("{TALKER}/filesystemlist")).await?;
    ensure!(told["items"].as_array().is_some_and(|items| !items.is_empty()), "{told}");
    let told = get(client, &format!("{TALKER}/userlist")).await?;
    ensure!(told["items"].is_array(), "{told}");

    // Its ports are reached, though its network is no node's, by either name.
    page(client, TALKER, "/", "it-is-me").await?;
    page(client, "virtualmachines/talker", "/long", "the-end").await?;
    let nobody = Stream::open(client, &format!("{TALKER}/portforward/81")).await.err();
    let nobody = format!("{:?}", nobody.context("a port at which nobody listens")?);
    ensure!(nobody.contains("connection refused"), "{nobody}");
    let udp = Stream::open(client, &format!("{TALKER}/portforward/53/udp")).await.err();
    ensure!(format!("{udp:?}").contains("only tcp is forwarded"), "{udp:?}");

    // Its file systems stand still until they are to go on, or their time is over.
    put(client, &format!("{TALKER}/freeze"), &json!({})).await?;
    ensure!(made(world, "one").await.is_err(), "a file was made while all stands still");
    put(client, &format!("{TALKER}/unfreeze"), &json!({})).await?;
    made(world, "two").await.context("after it goes on")?;
    put(client, &format!("{TALKER}/freeze"), &json!({"unfreezeTimeout": "15s"})).await?;
    let node = world.node_of("talker").await?.name;
    let killed = world.kill(if node == "n1" { Part::Agent(1) } else { Part::Agent(2) })?;
    world.back(killed).await?;
    eventually("its time to be over", SOON, async || made(world, "three").await).await?;
    eventually("that to be noted", SOON, async || {
        let noted = &world.cluster.get(VMI, "talker").await?;
        ensure!(noted["metadata"]["annotations"]["berth.io/unfreeze-at"].is_null(), "it is not");
        ensure!(says(noted, "AgentConnected"), "the agent's restart is none of the guest's");
        Ok(())
    })
    .await?;

    // The restart was none of the guest's.
    let still = is_ready(world, true).await?;
    ensure!(still["lastTransitionTime"] == ready["lastTransitionTime"], "{ready} became {still}");
    world.guest("talker").await?.run("rm /www/ready").await?;
    is_ready(world, false).await?;

    // It says nothing more.
    world.guest("talker").await?.run("kill $(cat /run/qemu-ga.pid)").await?;
    let instance = agent_is_connected(world, false).await?;
    ensure!(instance["status"]["guestOSInfo"].is_null(), "{}", instance["status"]);
    same("source", instance["status"]["interfaces"][0]["infoSource"].as_str(), Some("domain"))?;
    let said = refused(client, &format!("{TALKER}/freeze"), &json!({})).await?;
    same("a freeze", said.as_str(), "409 VMI does not have guest agent connected")?;
    let said = get(client, &format!("{TALKER}/guestosinfo")).await.err();
    ensure!(format!("{said:?}").contains("VMI does not have guest agent connected"), "{said:?}");

    // It is not well, and starts anew.
    world.guest("talker").await?.run("killall httpd").await?;
    eventually("another instance", START, async || {
        let now = world.running("talker").await?;
        ensure!(now["metadata"]["uid"] != instance["metadata"]["uid"], "still the one before");
        Ok(())
    })
    .await?;
    let events = world.cluster.kubectl_ok(&["get", "events"]).await?;
    ensure!(events.contains("Unhealthy"), "{events}");

    world.cluster.delete(VM, "talker").await?;
    world.cluster.gone(VM, "talker", START).await
}
