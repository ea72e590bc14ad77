//! What cannot be served says so on its own object, and harms no other.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use tests::cluster::{Cluster, Flavour};
use tests::kinds::{BLOCK, IP, Kind, SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Part, World, port_of};
use tests::{eventually, same};

const SOON: Duration = Duration::from_secs(20);

/// Waits until an object carries a condition of this type and status whose reason or
/// message contains `text`.
pub(super) async fn says(
    cluster: &Cluster,
    kind: Kind,
    name: &str,
    (condition, status): (&str, &str),
    text: &str,
) -> anyhow::Result<()> {
    let what = format!("{} {name} to say {condition}={status} and {text:?}", kind.singular());
    eventually(&what, SOON, async || {
        let object = cluster.get(kind, name).await?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let said = |one: &&Value| one["type"] == condition && one["status"] == status;
        let found =
            conditions.iter().find(said).with_context(|| format!("{}", object["status"]))?;
        ensure!(found.to_string().contains(text), "{found}");
        Ok(())
    })
    .await
}

/// Waits until exactly one warning about this object contains `text`.
pub(super) async fn warned(
    cluster: &Cluster,
    kind: Kind,
    name: &str,
    text: &str,
) -> anyhow::Result<()> {
    let client = tests::cluster::client(cluster.kubeconfig()).await?;
    let api: Api<Event> = Api::namespaced(client, "default");
    let kind = kind.resource().kind;
    let fields = format!("involvedObject.kind={kind},involvedObject.name={name},type=Warning");
    let what = format!("one warning about {kind} {name} that says {text:?}");
    eventually(&what, SOON, async || {
        let events = api.list(&ListParams::default().fields(&fields)).await?.items;
        let messages: Vec<_> = events.iter().filter_map(|one| one.message.as_deref()).collect();
        let found = messages.iter().filter(|message| message.contains(text)).count();
        ensure!(found == 1, "{messages:?}");
        Ok(())
    })
    .await
}

pub(super) async fn a_wrong_subnet_says_so_and_harms_no_other(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("rules")).await?;
    cluster
        .create(SUBNET, Subnet::named("right").in_vpc("rules").of("10.62.0.0/24").object())
        .await?;
    says(cluster, SUBNET, "right", ("Ready", "True"), "").await?;

    let wrong = [
        ("no-network", "10.300.0.0/24", None, "10.300.0.0/24"),
        ("no-prefix", "10.63.0.0/33", None, "10.63.0.0/33"),
        ("two-of-one", "10.64.0.0/24,10.65.0.0/24", None, "cidrBlock"),
        ("far-gateway", "10.66.0.0/24", Some("10.67.0.1"), "10.67.0.1"),
        ("overlapping", "10.62.0.128/25", None, "right"),
    ];
    // What one object shows by itself a server that runs rules refuses (`schema_rules`).
    let runs_rules = cluster.flavour() == Flavour::Real;
    let by_rules = |name: &str| name.starts_with("no-") || name == "far-gateway";
    let passes = |one: &(&str, &str, Option<&str>, &str)| !(runs_rules && by_rules(one.0));
    let wrong: Vec<_> = wrong.into_iter().filter(passes).collect();
    for &(name, cidr, gateway, _) in &wrong {
        let subnet = Subnet::named(name).in_vpc("rules").of(cidr);
        let subnet = match gateway {
            Some(gateway) => subnet.behind(gateway),
            None => subnet,
        };
        cluster.create(SUBNET, subnet.object()).await?;
    }
    for &(name, _, _, text) in &wrong {
        says(cluster, SUBNET, name, ("Ready", "False"), text).await?;
    }
    warned(cluster, SUBNET, "overlapping", "overlaps 10.62.0.0/24").await?;
    // Made after all the wrong ones, and served.
    cluster
        .create(SUBNET, Subnet::named("right-too").in_vpc("rules").of("fd62::/64").object())
        .await?;
    says(cluster, SUBNET, "right-too", ("Ready", "True"), "").await?;
    cluster.create(VM, Vm::named("unharmed").on("right").object()).await?;
    world.running("unharmed").await?;
    let switches = world.northbound().names("Logical_Switch").await?;
    for &(name, ..) in &wrong {
        ensure!(!switches.contains(name), "{name} is a switch");
    }

    // Corrected, it is served like any other.
    let cluster = &world.cluster;
    cluster.merge(SUBNET, "two-of-one", json!({"spec": {"cidrBlock": "10.68.0.0/24"}})).await?;
    says(cluster, SUBNET, "two-of-one", ("Ready", "True"), "").await?;
    for name in wrong.iter().map(|(name, ..)| *name).chain(["right-too"]) {
        cluster.delete(SUBNET, name).await?;
        cluster.gone(SUBNET, name, SOON).await?;
    }
    Ok(())
}

pub(super) async fn an_address_of_another_network_is_refused_on_that_vm(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    for (name, address, text) in [
        ("outside", "10.99.0.5", "10.99.0.5"),
        ("no-address", "10.62.0.five", "10.62.0.five"),
        ("gateway-thief", "10.62.0.1", "10.62.0.1"),
    ] {
        let vm = Vm::named(name).on("right").with_address(address);
        cluster.create(VM, vm.object()).await?;
        says(cluster, VM, name, ("Failure", "True"), text).await?;
        ensure!(cluster.find(IP, &port_of(name)).await?.is_none(), "{name} has an IP object");
        ensure!(cluster.find(VMI, name).await?.is_none(), "{name} has an instance");
    }
    let bad_mac = Vm::named("bad-mac").on("right").with_mac("01:00:5e:00:00:01");
    cluster.create(VM, bad_mac.object()).await?;
    says(cluster, VM, "bad-mac", ("Failure", "True"), "multicast").await?;
    warned(cluster, VM, "outside", "choose a free address of it").await?;
    cluster.create(VM, Vm::named("fine").on("right").object()).await?;
    world.running("fine").await?;

    // The correction is taken without deleting anything.
    let annotations = json!({"ovn.kubernetes.io/ip_address": "10.62.0.77"});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    world.cluster.merge(VM, "outside", patch).await?;
    world.running("outside").await?;
    same("the address", world.place("outside").await?.v4.as_str(), "10.62.0.77")?;
    let vm = world.cluster.get(VM, "outside").await?;
    ensure!(!vm["status"]["conditions"].to_string().contains("Failure"), "{:#}", vm["status"]);
    Ok(())
}

pub(super) async fn a_taken_address_is_refused_until_it_is_free(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VM, Vm::named("first").on("right").with_address("10.62.0.50").object()).await?;
    world.running("first").await?;
    cluster.create(VM, Vm::named("second").on("right").with_address("10.62.0.50").object()).await?;
    says(cluster, VM, "second", ("Failure", "True"), "10.62.0.50").await?;
    says(cluster, VM, "second", ("Failure", "True"), "first").await?;
    same("the holder's address", world.place("first").await?.v4.as_str(), "10.62.0.50")?;
    ensure!(world.find_place("second").await?.is_none(), "the second has an IP object");

    // The second waits, and gets it once the first is gone and it has rested.
    cluster.delete(VM, "first").await?;
    says(cluster, VM, "second", ("Failure", "True"), "rests").await?;
    world.running("second").await?;
    same("the address", world.place("second").await?.v4.as_str(), "10.62.0.50")
}

pub(super) async fn a_vm_that_came_before_its_subnet_is_served_after_it(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VM, Vm::named("early").on("late-net").object()).await?;
    says(cluster, VM, "early", ("Failure", "True"), "late-net").await?;
    cluster
        .create(SUBNET, Subnet::named("late-net").in_vpc("late-vpc").of("10.69.0.0/24").object())
        .await?;
    says(cluster, SUBNET, "late-net", ("Ready", "False"), "late-vpc").await?;
    cluster.create(VPC, vpc("late-vpc")).await?;
    world.running("early").await?;
    Ok(())
}

pub(super) async fn a_reserved_address_is_given_to_its_vm_and_to_no_other(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    let reservation = json!({
        "apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": {"name": port_of("expected")},
        "spec": {"podName": "expected", "namespace": "default", "subnet": "right",
            "podType": "VirtualMachine", "v4IpAddress": "10.62.0.90",
            "macAddress": "02:00:00:00:62:90"},
    });
    cluster.create(IP, reservation).await?;
    let thief = Vm::named("thief").on("right").with_address("10.62.0.90");
    cluster.create(VM, thief.object()).await?;
    says(cluster, VM, "thief", ("Failure", "True"), "10.62.0.90").await?;
    cluster.create(VM, Vm::named("expected").on("right").object()).await?;
    world.running("expected").await?;
    let place = world.place("expected").await?;
    same("the address", place.v4.as_str(), "10.62.0.90")?;
    same("the MAC", place.mac.as_str(), "02:00:00:00:62:90")
}

pub(super) async fn a_vm_that_says_twice_when_it_runs_is_refused_or_left_as_it_is(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VM, Vm::named("twice").on("right").object()).await?;
    let before = world.running("twice").await?;
    let changed = cluster.merge(VM, "twice", json!({"spec": {"running": false}})).await;
    let exclusive = "Running and RunStrategy are mutually exclusive";
    match (cluster.flavour(), changed) {
        (Flavour::Real, Err(error)) => {
            ensure!(format!("{error:#}").contains(exclusive), "{error:#}");
        }
        (Flavour::Real, Ok(())) => bail!("the change was taken"),
        // No rules are run there: the VM says so itself.
        (Flavour::Embedded, changed) => {
            changed?;
            says(cluster, VM, "twice", ("Failure", "True"), exclusive).await?;
            warned(cluster, VM, "twice", exclusive).await?;
        }
    }
    let now = world.running("twice").await?;
    same("the instance", &now["metadata"]["uid"], &before["metadata"]["uid"])
}

pub(super) async fn a_changed_template_asks_for_a_restart(world: &mut World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VM, Vm::named("changed").on("right").object()).await?;
    let first = world.running("changed").await?;
    // In the status as it is written last, with the instance's own conditions.
    says(cluster, VM, "changed", ("Ready", "True"), "").await?;
    let asks = async || -> anyhow::Result<bool> {
        let vm = cluster.get(VM, "changed").await?;
        Ok(vm["status"]["conditions"].to_string().contains("RestartRequired"))
    };
    ensure!(!asks().await?, "a VM as it was made asks for a restart");

    let memory = json!({"spec": {"domain": {"memory": {"guest": "160Mi"}}}});
    cluster.merge(VM, "changed", json!({"spec": {"template": memory}})).await?;
    says(cluster, VM, "changed", ("RestartRequired", "True"), "non-live-updatable").await?;
    let uid = first["metadata"]["uid"].clone();
    cluster.delete(VMI, "changed").await?;
    eventually("a new instance without a wish for a restart", SOON, async || {
        let vmi = cluster.get(VMI, "changed").await?;
        ensure!(vmi["metadata"]["uid"] != uid, "it is the old one");
        ensure!(!asks().await?, "it asks for a restart");
        Ok(())
    })
    .await
}

pub(super) async fn an_address_block_that_cannot_be_read_frees_no_address(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("ledger")).await?;
    cluster
        .create(SUBNET, Subnet::named("ledger-net").in_vpc("ledger").of("10.76.0.0/24").object())
        .await?;
    cluster.create(VM, Vm::named("held").on("ledger-net").object()).await?;
    let before = world.running("held").await?;
    let place = world.place("held").await?;

    // Past the schema: an entry of no address. Who starts anew cannot read it either.
    let block = "ledger-net.v4.0a4c00";
    let entry = |holder: Value| json!({"spec": {"held": {"nonsense": holder}}});
    let nobody = json!({"port": "nobody", "vm": "default/nobody"});
    world.cluster.merge(BLOCK, block, entry(nobody)).await?;
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    let cluster = &world.cluster;
    cluster.create(VM, Vm::named("waits").on("ledger-net").object()).await?;
    says(cluster, VM, "waits", ("Failure", "True"), block).await?;
    let now = world.running("held").await?;
    same("the instance", &now["metadata"]["uid"], &before["metadata"]["uid"])?;
    ensure!(world.northbound().vm_ports().await?.contains_key(&port_of("held")), "no port");

    world.cluster.merge(BLOCK, block, entry(Value::Null)).await?;
    world.running("waits").await?;
    same("the place", world.place("held").await?, place.clone())?;
    ensure!(world.place("waits").await?.v4 != place.v4, "{} was given twice", place.v4);
    Ok(())
}

pub(super) async fn a_subnet_in_use_waits_for_its_vms_when_deleted(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("leaving")).await?;
    let subnet = Subnet::named("leaving-net").in_vpc("leaving").of("10.75.0.0/24");
    cluster.create(SUBNET, subnet.object()).await?;
    cluster.create(VM, Vm::named("stays").on("leaving-net").object()).await?;
    world.running("stays").await?;
    let before = world.place("stays").await?;

    let cluster = &world.cluster;
    cluster.delete(SUBNET, "leaving-net").await?;
    cluster.delete(VPC, "leaving").await?;
    says(cluster, SUBNET, "leaving-net", ("DeletionBlocked", "True"), "default/stays").await?;
    says(cluster, VPC, "leaving", ("DeletionBlocked", "True"), "leaving-net").await?;
    cluster.create(VM, Vm::named("too-late").on("leaving-net").object()).await?;
    says(cluster, VM, "too-late", ("Failure", "True"), "is being deleted").await?;

    // What has its place keeps it, also over a restart of the controller.
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    let cluster = &world.cluster;
    cluster.create(VM, Vm::named("too-late-too").on("leaving-net").object()).await?;
    says(cluster, VM, "too-late-too", ("Failure", "True"), "is being deleted").await?;
    ensure!(world.northbound().names("Logical_Switch").await?.contains("leaving-net"), "no switch");
    same("the place", world.place("stays").await?, before)?;

    for vm in ["too-late", "too-late-too", "stays"] {
        world.cluster.delete(VM, vm).await?;
    }
    world.cluster.gone(SUBNET, "leaving-net", SOON).await?;
    world.cluster.gone(VPC, "leaving", SOON).await?;
    let northbound = world.northbound();
    ensure!(!northbound.names("Logical_Switch").await?.contains("leaving-net"), "a switch is left");
    ensure!(!northbound.names("Logical_Router").await?.contains("leaving"), "a router is left");
    Ok(())
}

pub(super) async fn all_of_it_can_be_deleted(world: &mut World) -> anyhow::Result<()> {
    super::churn::delete_everything(world).await
}
