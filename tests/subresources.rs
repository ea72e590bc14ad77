//! What virtctl asks for that is no object, through the API.

use std::time::Duration;

use anyhow::{Context, ensure};
use kube::Client;
use serde_json::{Value, json};
use tests::cluster::{Cluster, client};
use tests::kinds::{MIGRATION, SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::subresources::{Stream, put, refused};
use tests::world::{Part, START, World};
use tests::{eventually, same};
use tokio::process::Command;

use crate::port_lifecycle::web_and_db;
use crate::vm_lifecycle::another_report;

const SOON: Duration = Duration::from_secs(45);
const NET: &str = "asked-net";

/// A client that is answered: the group is served.
async fn served(cluster: &Cluster) -> anyhow::Result<Client> {
    let client = client(cluster.kubeconfig()).await?;
    eventually("the group to be served", START, async || {
        let path = "/apis/subresources.kubevirt.io/v1";
        let request = http::Request::get(path).body(Vec::new())?;
        let list: Value = client.request(request).await?;
        let has = |name: &str| {
            list["resources"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["name"] == name))
        };
        ensure!(has("virtualmachines/start"), "{list}");
        Ok(())
    })
    .await?;
    Ok(client)
}

async fn make_vm(cluster: &Cluster, name: &str, strategy: &'static str) -> anyhow::Result<()> {
    if cluster.find(VPC, "asked").await?.is_none() {
        cluster.create(VPC, vpc("asked")).await?;
        let subnet = Subnet::named(NET).in_vpc("asked").of("10.230.0.0/24");
        cluster.create(SUBNET, subnet.object()).await?;
    }
    let vm = Vm::named(name).on(NET).without_grace().under(strategy);
    cluster.create(VM, vm.object()).await?;
    Ok(())
}

async fn shows(world: &World, vm: &str, status: &str) -> anyhow::Result<()> {
    eventually(&format!("{vm} to be {status}"), START, async || {
        let object = world.cluster.get(VM, vm).await?;
        same("its status", object["status"]["printableStatus"].as_str(), Some(status))
    })
    .await
}

fn uid(instance: &Value) -> &Value {
    &instance["metadata"]["uid"]
}

async fn another_instance(world: &World, vm: &str, before: &Value) -> anyhow::Result<Value> {
    eventually("another instance", START, async || {
        let now = world.running(vm).await?;
        ensure!(uid(&now) != uid(before), "still the one before");
        Ok(now)
    })
    .await
}

pub(super) async fn what_virtctl_asks_for_starts_and_stops_a_vm(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    let client = &served(cluster).await?;
    for (vm, strategy, stopped) in
        [("asked-manual", "Manual", "Manual"), ("asked-halted", "Halted", "Halted")]
    {
        make_vm(cluster, vm, strategy).await?;
        shows(world, vm, "Stopped").await?;
        let ask = |verb: &str| format!("virtualmachines/{vm}/{verb}");
        let nothing = json!({ "dryRun": ["All"] });
        put(client, &ask("start"), &nothing).await.context("a start that is not meant")?;
        put(client, &ask("start"), &json!({})).await?;
        let first = world.running(vm).await?;
        put(client, &ask("restart"), &json!({})).await?;
        another_instance(world, vm, &first).await?;
        // A restart that is still worked on is not given up for another.
        eventually("the request to have been met", SOON, async || {
            let object = cluster.get(VM, vm).await?;
            ensure!(object["status"]["stateChangeRequests"].is_null(), "{}", object["status"]);
            Ok(())
        })
        .await?;
        let second = world.running(vm).await?;
        put(client, &ask("restart"), &json!({ "gracePeriodSeconds": 0 })).await?;
        another_instance(world, vm, &second).await?;
        put(client, &ask("stop"), &json!({ "gracePeriod": 0 })).await?;
        cluster.gone(VMI, vm, SOON).await?;
        shows(world, vm, "Stopped").await?;
        let object = cluster.get(VM, vm).await?;
        same("its strategy", object["spec"]["runStrategy"].as_str(), Some(stopped))?;
        cluster.delete(VM, vm).await?;
        cluster.gone(VM, vm, SOON).await?;
    }
    Ok(())
}

pub(super) async fn what_cannot_be_is_refused_in_kubevirts_words(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    let client = &served(cluster).await?;
    let none = &json!({});
    let said = refused(client, "virtualmachines/asked-nobody/start", none).await?;
    same("of no VM", said.as_str(), "404 virtualmachine.kubevirt.io \"asked-nobody\" not found")?;
    make_vm(cluster, "asked-often", "Manual").await?;
    let refused = async |rest: &str, options: &Value| refused(client, rest, options).await;
    let stop = "virtualmachines/asked-often/stop";
    same("a stop", refused(stop, none).await?.as_str(), "409 VM is not running")?;
    let pause = "virtualmachineinstances/asked-often/pause";
    ensure!(refused(pause, none).await?.starts_with("404 "), "there is no instance");
    let start = "virtualmachines/asked-often/start";
    put(client, start, none).await?;
    world.running("asked-often").await?;
    same("a start", refused(start, none).await?.as_str(), "409 VM is already running")?;
    let unpause = "virtualmachineinstances/asked-often/unpause";
    same("an unpause", refused(unpause, none).await?.as_str(), "409 VMI is not paused")?;
    let later = json!({ "gracePeriodSeconds": 5 });
    let restart = refused("virtualmachines/asked-often/restart", &later).await?;
    ensure!(restart.ends_with("only gracePeriod=0 is supported for now"), "{restart}");
    let console = Stream::open(client, "virtualmachineinstances/asked-often/console").await;
    ensure!(console.is_err(), "nothing runs that has a console");
    cluster.delete(VM, "asked-often").await?;
    cluster.gone(VM, "asked-often", SOON).await
}

pub(super) async fn a_paused_vm_says_so_until_it_goes_on(world: &mut World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    let client = &served(cluster).await?;
    make_vm(cluster, "asked-still", "Always").await?;
    world.running("asked-still").await?;
    let ask = |verb: &str| format!("virtualmachineinstances/asked-still/{verb}");
    put(client, &ask("pause"), &json!({ "dryRun": ["All"] })).await?;
    put(client, &ask("pause"), &json!({})).await?;
    shows(world, "asked-still", "Paused").await?;
    let again = refused(client, &ask("pause"), &json!({})).await?;
    same("another pause", again.as_str(), "409 VMI is already paused")?;
    let reboot = refused(client, &ask("softreboot"), &json!({})).await?;
    same("a reboot", reboot.as_str(), "409 VMI is paused")?;
    put(client, &ask("unpause"), &json!({})).await?;
    shows(world, "asked-still", "Running").await?;
    put(client, &ask("softreboot"), &json!({})).await?;
    put(client, &ask("reset"), &json!({})).await?;
    cluster.delete(VM, "asked-still").await?;
    cluster.gone(VM, "asked-still", SOON).await
}

pub(super) async fn a_vm_that_is_started_paused_waits_whoever_dies_meanwhile(
    world: &mut World,
) -> anyhow::Result<()> {
    const NAME: &str = "asked-later";
    let client = &served(&world.cluster).await?;
    make_vm(&world.cluster, NAME, "Halted").await?;
    shows(world, NAME, "Stopped").await?;
    put(client, &format!("virtualmachines/{NAME}/start"), &json!({ "paused": true })).await?;
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    shows(world, NAME, "Paused").await?;
    let instance = world.cluster.get(VMI, NAME).await?;
    same("how it began", instance["spec"]["startStrategy"].as_str(), Some("Paused"))?;
    same("its phase", instance["status"]["phase"].as_str(), Some("Running"))?;
    let node = world.node_of(NAME).await?.name;
    let killed = world.kill(if node == "n1" { Part::Agent(1) } else { Part::Agent(2) })?;
    world.back(killed).await?;
    shows(world, NAME, "Paused").await?;
    let object = world.cluster.get(VM, NAME).await?;
    same("its strategy", object["spec"]["runStrategy"].as_str(), Some("Always"))?;
    ensure!(object["status"]["stateChangeRequests"].is_null(), "{}", object["status"]);
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    ensure!(conditions.iter().all(|one| one["type"] != "RestartRequired"), "{conditions:?}");
    let unpause = format!("virtualmachineinstances/{NAME}/unpause");
    eventually("the next controller to answer", START, async || {
        match put(client, &unpause, &json!({})).await {
            // What it was asked before, and could not answer any more.
            Err(error) if format!("{error:#}").contains("is not paused") => Ok(()),
            answer => answer,
        }
    })
    .await?;
    shows(world, NAME, "Running").await?;
    world.cluster.delete(VM, NAME).await?;
    world.cluster.gone(VM, NAME, SOON).await
}

/// Where the controller is to be found.
async fn port(cluster: &Cluster) -> anyhow::Result<u64> {
    let client = client(cluster.kubeconfig()).await?;
    let path = "/apis/apiregistration.k8s.io/v1/apiservices/v1.subresources.kubevirt.io";
    let object: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
    object["spec"]["service"]["port"].as_u64().context("it names no port")
}

pub(super) async fn nobody_but_the_api_is_answered(world: &mut World) -> anyhow::Result<()> {
    served(&world.cluster).await?;
    let url = format!("https://127.0.0.1:{}/apis", port(&world.cluster).await?);
    let asked = Command::new("curl")
        .args(["--silent", "--insecure", "--max-time", "10", "--header", "X-Remote-User: admin"])
        .args(["--write-out", "%{http_code}", &url])
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(!asked.status.success(), "an answer: {}", String::from_utf8_lossy(&asked.stdout));
    Ok(())
}

pub(super) async fn a_killed_controller_is_found_again(world: &mut World) -> anyhow::Result<()> {
    let client = served(&world.cluster).await?;
    make_vm(&world.cluster, "asked-after", "Always").await?;
    world.running("asked-after").await?;
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    eventually("the guest to be paused through the next one", START, async || {
        put(&client, "virtualmachineinstances/asked-after/pause", &json!({})).await
    })
    .await?;
    shows(world, "asked-after", "Paused").await?;
    let killed = world.kill(Part::Agent(1))?;
    world.back(killed).await?;
    let killed = world.kill(Part::Agent(2))?;
    world.back(killed).await?;
    world.cluster.delete(VM, "asked-after").await?;
    world.cluster.gone(VM, "asked-after", SOON).await
}

pub(super) async fn a_console_is_the_guests_and_one_clients_at_a_time(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let client = &served(&world.cluster).await?;
    let console = "virtualmachineinstances/web/console";
    let mut first = Stream::open(client, console).await?;
    first.say("\n").await?;
    first.hear("guest# ").await?;
    first.say("echo $((6*7))-is-it\n").await?;
    first.hear("42-is-it").await?;
    let mut second = Stream::open(client, console).await?;
    first.ended().await.context("the first client")?;
    second.say("\n").await?;
    second.hear("guest# ").await?;
    second.close().await?;
    // The line is free for others.
    let mut third = Stream::open(client, console).await?;
    third.say("\n").await?;
    third.hear("guest# ").await?;
    third.close().await?;
    let shown = world.guest("web").await?.run("hostname").await?;
    same("what the guest says to who comes another way", shown.as_str(), "web")
}

pub(super) async fn a_display_is_the_guests(world: &mut World) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let client = &served(&world.cluster).await?;
    let mut display = Stream::open(client, "virtualmachineinstances/web/vnc").await?;
    // RFC 6143, section 7.1.1.
    display.hear("RFB 003.008\n").await?;
    display.close().await
}

pub(super) async fn a_guest_that_is_reset_boots_again_and_one_that_is_paused_stands_still(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let client = &served(&world.cluster).await?;
    let boots = world.reports("db").await?.len();
    put(client, "virtualmachineinstances/db/reset", &json!({})).await?;
    another_report(world, "db", boots).await?;
    put(client, "virtualmachineinstances/db/pause", &json!({})).await?;
    shows(world, "db", "Paused").await?;
    let node = world.node_of("db").await?;
    let state = async || world.virsh(&node, &["domstate", "default_db"]).await;
    same("libvirt's word", state().await?.trim(), "paused")?;
    let console = Stream::open(client, "virtualmachineinstances/db/console").await;
    ensure!(format!("{:?}", console.err()).contains("VMI is paused"), "no console of it");
    put(client, "virtualmachineinstances/db/unpause", &json!({})).await?;
    shows(world, "db", "Running").await?;
    same("libvirt's word", state().await?.trim(), "running")?;
    let place = world.place("db").await?;
    world.ping("web", &place.v4).await
}

pub(super) async fn a_vm_that_is_asked_to_migrate_moves(world: &mut World) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let client = &served(&world.cluster).await?;
    let vm = Vm::named("asked-away").on(crate::port_lifecycle::SUBNET_NAME);
    world.cluster.create(VM, vm.object()).await?;
    world.running("asked-away").await?;
    let place = world.place("asked-away").await?;
    world.guest_ready("asked-away", &place).await?;
    let before = world.node_of("asked-away").await?;
    eventually("the migration to be asked for", START, async || {
        put(client, "virtualmachines/asked-away/migrate", &json!({})).await
    })
    .await?;
    eventually("the guest to be on the other node", Duration::from_secs(120), async || {
        ensure!(world.node_of("asked-away").await?.name != before.name, "it is still there");
        Ok(())
    })
    .await?;
    world.ping("web", &place.v4).await?;
    let list = world.cluster.api(MIGRATION).list(&kube::api::ListParams::default()).await?;
    let made = list.items.iter().filter_map(|one| one.metadata.name.as_deref());
    ensure!(made.into_iter().any(|name| name.starts_with("kubevirt-migrate-vm-")), "its name");
    world.cluster.delete(VM, "asked-away").await?;
    world.cluster.gone(VM, "asked-away", SOON).await
}
