//! A node is gone, with its agent and all that ran there: no VM loses its place by it, and
//! none is started a second time while it may run there still.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::kinds::{IP, NODE, VM, VMI};
use tests::objects::Vm;
use tests::world::{Part, Place, World, port_of};
use tests::{eventually, same};

use crate::address_life::{
    alone, another_runs, both_places, make_subnets, runs_alone, with_two_nics,
};
use crate::admission::says;
use crate::port_lifecycle::{SUBNET_NAME, web_and_db};

const SOON: Duration = Duration::from_secs(30);
/// A lease is valid for 40 s, and looked at each 5 s.
const SILENCE: Duration = Duration::from_secs(75);
const NET: &str = "life-net";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A VM of two NICs that runs on n2, with the uid of its instance.
async fn runs_on_n2(world: &World, name: &str) -> anyhow::Result<Value> {
    make_subnets(&world.cluster).await?;
    let mut vm = with_two_nics(name);
    vm["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "n2"});
    world.cluster.create(VM, vm).await?;
    let instance = world.running(name).await?;
    same("its node", &instance["status"]["nodeName"], "n2")?;
    // It may start anywhere from now on.
    let anywhere = json!({"spec": {"template": {"spec": {"nodeSelector": null}}}});
    world.cluster.merge(VM, name, anywhere).await?;
    Ok(instance["metadata"]["uid"].clone())
}

fn agent_of_n2(world: &World) -> String {
    world.lab().layout().node(2).process("agent")
}

/// The addresses of the VM's ports in OVN, and the node of its first.
async fn ports(world: &World, vm: &str) -> anyhow::Result<(Vec<String>, Option<String>)> {
    let ports = world.northbound().vm_ports().await?;
    let node = ports.get(&port_of(vm)).context("no port")?.options.get("requested-chassis");
    let own = ports.iter().filter(|(name, _)| name.starts_with(&format!("{vm}.")));
    Ok((own.flat_map(|(_, port)| port.addresses.clone()).collect(), node.cloned()))
}

/// Rounds are over that saw all that was written so far: a VM that comes now runs.
async fn a_vm_comes_and_goes(world: &World, name: &str) -> anyhow::Result<()> {
    let vm = Vm::named(name).on(NET).pinned_to("n1").without_grace();
    world.cluster.create(VM, vm.object()).await?;
    world.running(name).await?;
    world.cluster.delete(VM, name).await?;
    world.cluster.gone(IP, &port_of(name), SOON).await
}

/// Waits until a new instance runs on n1 in the place that was.
async fn moved(
    world: &World,
    vm: &str,
    uid: &Value,
    before: &(Place, Value),
    rows: &[String],
) -> anyhow::Result<()> {
    let instance = another_runs(world, vm, uid).await?;
    same("its node", &instance["status"]["nodeName"], "n1")?;
    same("its place", &both_places(world, vm).await?, before)?;
    eventually("its ports on the other node", SOON, async || {
        let (addresses, node) = ports(world, vm).await?;
        same("the addresses of its ports", addresses.as_slice(), rows)?;
        same("their node", node.as_deref(), Some("n1"))
    })
    .await
}

pub(super) async fn a_vm_on_a_lost_node_keeps_its_place_and_starts_elsewhere_once_it_is_out_of_service(
    world: &mut World,
) -> anyhow::Result<()> {
    let mut uid = runs_on_n2(world, "stranded").await?;
    let mut lone = alone("stranded-lone", None);
    lone["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "n2"});
    world.cluster.create(VMI, lone).await?;
    runs_alone(world, "stranded-lone").await?;
    let lone_place = world.place("stranded-lone").await?;
    let before = both_places(world, "stranded").await?;
    let (rows, _) = ports(world, "stranded").await?;
    let agent = agent_of_n2(world);
    world.lab().kill(&agent)?;
    world.lab().stop(&agent).await?;

    // Nobody can know whether the guest runs, whoever wants its instance gone.
    for way in [["--force", "--grace-period=0"], ["--cascade=orphan", "--grace-period=5"]] {
        let words = [&["delete", "vmi", "stranded", "--wait=false"][..], &way].concat();
        world.cluster.kubectl_ok(&words).await?;
        let killed = world.kill(Part::Controller)?;
        world.back(killed).await?;
        a_vm_comes_and_goes(world, "stranded-other").await?;
        let instance = world.cluster.get(VMI, "stranded").await?;
        same("the instance", &instance["metadata"]["uid"], &uid)?;
        same("its node", &instance["status"]["nodeName"], "n2")?;
        same("its place", both_places(world, "stranded").await?, before.clone())?;
        same("its ports", ports(world, "stranded").await?, (rows.clone(), Some("n2".to_owned())))?;
    }

    let taint = format!("{OUT_OF_SERVICE}=nodeshutdown:NoExecute");
    world.cluster.kubectl_ok(&["taint", "nodes", "n2", &taint]).await?;
    moved(world, "stranded", &uid, &before, &rows).await?;
    uid = world.cluster.get(VMI, "stranded").await?["metadata"]["uid"].clone();
    // What no VM starts again says what became of it, and has its place until it is deleted.
    says(&world.cluster, VMI, "stranded-lone", ("Ready", "False"), "NodeLost").await?;
    let lone = world.cluster.get(VMI, "stranded-lone").await?;
    same("its phase", &lone["status"]["phase"], "Failed")?;
    same("its place", world.place("stranded-lone").await?, lone_place)?;
    world.cluster.delete(VMI, "stranded-lone").await?;
    world.cluster.gone(IP, &port_of("stranded-lone"), SOON).await?;
    let pinned = Vm::named("stranded-pinned").on(NET).pinned_to("n2").without_grace();
    world.cluster.create(VM, pinned.object()).await?;
    let refused = ("PodScheduled", "False");
    says(&world.cluster, VM, "stranded-pinned", refused, OUT_OF_SERVICE).await?;

    // It is repaired: it serves again, and what was started elsewhere stays there.
    world.lab().start(&agent).await?;
    world.cluster.kubectl_ok(&["taint", "nodes", "n2", &format!("{OUT_OF_SERVICE}-")]).await?;
    world.running("stranded-pinned").await?;
    let instance = world.running("stranded").await?;
    same("the instance", &instance["metadata"]["uid"], &uid)?;
    delete(world, &["stranded", "stranded-pinned"]).await
}

/// A guest that is left over on a node which comes back may not speak with the address of a
/// VM that is stopped, or is about to start elsewhere.
pub(super) async fn a_port_without_a_node_is_bound_by_nobody_who_has_its_name(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(&world.cluster).await?;
    world.cluster.create(VM, Vm::named("left").on(NET).without_grace().object()).await?;
    world.running("left").await?;
    world.cluster.merge(VM, "left", json!({"spec": {"runStrategy": "Halted"}})).await?;
    eventually("it to be stopped", SOON, async || {
        let vm = world.cluster.get(VM, "left").await?;
        same("its status", &vm["status"]["printableStatus"], "Stopped")
    })
    .await?;
    // A port that asks for no chassis shows that the node has looked at both.
    let other = ["ls-add", "stray", "--", "lsp-add", "stray", "stray-port"];
    world.northbound().write(&other).await?;
    let node = world.lab().layout().node(2);
    let port = port_of("left");
    let ours = format!("external_ids:iface-id={port}");
    let switch = async |words: &[&str]| {
        let db = format!("--db={}", node.ovsdb());
        let all = [&["ovs-vsctl", "--timeout=10", &db][..], words].concat();
        world.lab().exec(2, &all).await
    };
    let internal = "type=internal";
    switch(&[
        "add-port",
        "br-int",
        "left0",
        "--",
        "set",
        "Interface",
        "left0",
        internal,
        &ours,
        "--",
        "add-port",
        "br-int",
        "stray0",
        "--",
        "set",
        "Interface",
        "stray0",
        internal,
        "external_ids:iface-id=stray-port",
    ])
    .await?;
    let bound = async |name: &str| -> anyhow::Result<bool> {
        let rows = world.southbound().rows("Port_Binding", "logical_port,chassis").await?;
        let row = rows.iter().find(|row| row["logical_port"] == name).context("no such port")?;
        Ok(row["chassis"][0] == "uuid")
    };
    eventually("the other port to be bound", SOON, async || {
        ensure!(bound("stray-port").await?, "it is not");
        Ok(())
    })
    .await?;
    ensure!(!bound(&port).await?, "the port of a VM without a node is bound");
    switch(&["del-port", "left0", "--", "del-port", "stray0"]).await?;
    world.northbound().write(&["ls-del", "stray"]).await?;
    delete(world, &["left"]).await
}

/// With real guests: the one that is left over runs on, unheard, until its node is back.
pub(super) async fn a_guest_left_over_on_a_lost_node_is_not_heard_and_ends_when_the_node_is_back(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let web = world.place("web").await?;
    let vm = Vm::named("returning").on(SUBNET_NAME).pinned_to("n2").without_grace();
    world.cluster.create(VM, vm.object()).await?;
    let uid = world.running("returning").await?["metadata"]["uid"].clone();
    let place = world.place("returning").await?;
    let mut left_over = world.guest("returning").await?;
    let greet = format!("ping -c 3 -W 1 {} >/dev/null && echo heard || echo unheard", web.v4);
    eventually("the guest to be heard", SOON, async || {
        same("what it says", left_over.run(&greet).await?.trim(), "heard")
    })
    .await?;
    let anywhere = json!({"spec": {"template": {"spec": {"nodeSelector": null}}}});
    world.cluster.merge(VM, "returning", anywhere).await?;

    let agent = agent_of_n2(world);
    world.lab().stop(&agent).await?;
    let taint = format!("{OUT_OF_SERVICE}=nodeshutdown:NoExecute");
    world.cluster.kubectl_ok(&["taint", "nodes", "n2", &taint]).await?;
    let instance = another_runs(world, "returning", &uid).await?;
    same("its node", &instance["status"]["nodeName"], "n1")?;
    same("its place", world.place("returning").await?, place.clone())?;
    let node = world.lab().layout().node(2);
    let domain = net::names::domain("default", "returning");
    ensure!(world.domains(&node).await?.contains(&domain), "nobody has ended the old one");
    world.ping("returning", &web.v4).await?;
    same("what the old one hears", left_over.run(&greet).await?.trim(), "unheard")?;
    world.ping("web", &place.v4).await?;

    world.lab().start(&agent).await?;
    eventually("the old one to be ended", SOON, async || {
        ensure!(!world.domains(&node).await?.contains(&domain), "it is there");
        let tap = net::names::tap(&port_of("returning"));
        ensure!(!world.links(&node).await?.contains(&tap), "its tap is there");
        Ok(())
    })
    .await?;
    let now = world.running("returning").await?;
    same("the instance", &now["metadata"]["uid"], &instance["metadata"]["uid"])?;
    world.ping("web", &place.v4).await?;
    world.cluster.kubectl_ok(&["taint", "nodes", "n2", &format!("{OUT_OF_SERVICE}-")]).await?;
    delete(world, &["returning"]).await
}

pub(super) async fn a_silent_node_is_given_no_vm_and_gives_up_its_own_once_it_is_deleted(
    world: &mut World,
) -> anyhow::Result<()> {
    let uid = runs_on_n2(world, "silent").await?;
    let before = both_places(world, "silent").await?;
    let (rows, _) = ports(world, "silent").await?;
    let agent = agent_of_n2(world);
    world.lab().stop(&agent).await?;
    // One that nobody takes is told what keeps it from each node.
    let nowhere = Vm::named("silent-nowhere").on(NET).pinned_to("n0").without_grace();
    world.cluster.create(VM, nowhere.object()).await?;
    eventually("the node to be silent", SILENCE, async || {
        let machine = world.cluster.get(VM, "silent-nowhere").await?;
        let conditions = machine["status"]["conditions"].to_string();
        ensure!(conditions.contains("n2: its lease has run out"), "{conditions}");
        Ok(())
    })
    .await?;
    let pinned = Vm::named("silent-pinned").on(NET).pinned_to("n2").without_grace();
    world.cluster.create(VM, pinned.object()).await?;
    let refused = ("PodScheduled", "False");
    says(&world.cluster, VM, "silent-pinned", refused, "n2: its lease has run out").await?;
    // It may run on behind a broken cable.
    let instance = world.cluster.get(VMI, "silent").await?;
    same("the instance", &instance["metadata"]["uid"], &uid)?;
    same("its phase", &instance["status"]["phase"], "Running")?;

    world.cluster.delete(NODE, "n2").await?;
    moved(world, "silent", &uid, &before, &rows).await?;
    world.lab().start(&agent).await?;
    let instance = world.running("silent-pinned").await?;
    same("its node", &instance["status"]["nodeName"], "n2")?;
    delete(world, &["silent", "silent-pinned", "silent-nowhere"]).await
}

pub(super) async fn a_node_deleted_under_a_living_agent_comes_back_and_its_guests_run_on(
    world: &mut World,
) -> anyhow::Result<()> {
    let uid = runs_on_n2(world, "unmoved").await?;
    let node = world.cluster.get(NODE, "n2").await?;
    world.cluster.delete(NODE, "n2").await?;
    let seen = eventually("its agent to make it again", SOON, async || {
        let now = world.cluster.get(NODE, "n2").await?;
        ensure!(now["metadata"]["uid"] != node["metadata"]["uid"], "it is not deleted yet");
        Ok(now)
    })
    .await?;
    same("a label", &seen["metadata"]["labels"]["kubevirt.io/schedulable"], "true")?;
    a_vm_comes_and_goes(world, "unmoved-other").await?;
    let instance = world.running("unmoved").await?;
    same("the instance", &instance["metadata"]["uid"], &uid)?;
    delete(world, &["unmoved"]).await
}

async fn delete(world: &World, vms: &[&str]) -> anyhow::Result<()> {
    for vm in vms {
        world.cluster.delete(VM, vm).await?;
    }
    for vm in vms {
        world.cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    Ok(())
}
