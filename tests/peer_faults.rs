//! Faults of the peers that concern addresses and restarts, each as a story in which it
//! would show. `docs/faults-of-peers.md` lists all of them with their tests.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use serde_json::json;
use tests::kinds::{BLOCK, IP, SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{World, port_of};
use tests::{eventually, repository, same};

use crate::address_life::{both_places, make_subnets, set_strategy, with_two_nics};
use crate::admission::says;

const SOON: Duration = Duration::from_secs(30);
const NET: &str = "life-net";

/// Each test of which the table speaks is one that runs.
pub(super) fn every_fault_of_a_peer_has_the_tests_that_its_line_names() -> anyhow::Result<()> {
    let table = std::fs::read_to_string(repository().join("docs/faults-of-peers.md"))?;
    let words = table.split('`').skip(1).step_by(2);
    let named: BTreeSet<&str> = words.filter(|word| is_sentence(word)).collect();
    ensure!(named.len() > 20, "the table names {} tests only", named.len());
    let mut sources = String::new();
    for folder in
        ["tests", "controller/src", "ipam/src", "ovn", "agent/src", "crds/src", "dhcp", "benches"]
    {
        read_all(&repository().join(folder), &mut sources)?;
    }
    let list = std::fs::read_to_string(repository().join("tests/main.rs"))?;
    let told = told_stories(&list);
    ensure!(told.len() > 80, "tests/main.rs lists {} stories only", told.len());
    let tests = marked_tests(&sources);
    let runs = |name: &str| told.contains(name) || tests.contains(name);
    ensure!(!runs("every_fault_of_a_peer") && !runs("read_all"), "anything counts as a test");
    let missing: Vec<_> = named.into_iter().filter(|name| !runs(name)).collect();
    ensure!(missing.is_empty(), "docs/faults-of-peers.md names tests that do not run: {missing:?}");
    Ok(())
}

/// The functions right below `#[test]` or `#[tokio::test]`, whatever else is said of them.
fn marked_tests(sources: &str) -> BTreeSet<&str> {
    let mut marked = false;
    let mut found = BTreeSet::new();
    for line in sources.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some((before, after)) = line.split_once("fn ")
            && ["", "async ", "pub ", "pub async "].contains(&before)
        {
            let name = after.split('(').next().unwrap_or_default();
            found.extend(std::mem::take(&mut marked).then_some(name));
        } else if !line.starts_with('#') && !line.starts_with("//") {
            marked = false;
        }
    }
    found
}

/// The stories that the lists in `stories![..]` name.
fn told_stories(list: &str) -> BTreeSet<&str> {
    let lists = list.split("stories![").skip(1).filter_map(|rest| rest.split(']').next());
    let lines = lists.flat_map(str::lines).map(|line| line.split("//").next().unwrap_or_default());
    let words = lines.flat_map(|line| line.split([',', ';', ':', ' ']));
    words.filter(|word| word.contains('_')).collect()
}

/// Whether this is a test's name: words with underscores between.
fn is_sentence(word: &str) -> bool {
    word.matches('_').count() > 2
        && word
            .chars()
            .all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
}

/// The text of every Rust source in a folder.
fn read_all(folder: &Path, text: &mut String) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path, text)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(path)?);
        }
    }
    Ok(())
}

/// Kube-OVN restores such an object only if its `podType` says VM, and deletes it
/// otherwise since there is no such pod.
pub(super) async fn a_reservation_without_a_vm_survives_a_restart(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    let port = port_of("future");
    let reservation = json!({"apiVersion": "kubeovn.io/v1", "kind": "IP",
        "metadata": {"name": port},
        "spec": {"podName": "future", "namespace": "default", "subnet": NET,
            "v4IpAddress": "10.78.0.99", "macAddress": "02:00:00:00:00:99"}});
    cluster.create(IP, reservation).await?;
    world.lab().stop("controller").await?;
    world.lab().start("controller").await?;
    let thief = Vm::named("thief").on(NET).with_address("10.78.0.99").without_grace();
    cluster.create(VM, thief.object()).await?;
    says(cluster, VM, "thief", ("Failure", "True"), &port).await?;
    cluster.create(VM, Vm::named("future").on(NET).without_grace().object()).await?;
    world.running("future").await?;
    let place = world.place("future").await?;
    same(
        "its place",
        (place.v4.as_str(), place.mac.as_str()),
        ("10.78.0.99", "02:00:00:00:00:99"),
    )?;
    for vm in ["thief", "future"] {
        cluster.delete(VM, vm).await?;
        cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    Ok(())
}

/// Kube-OVN's collector forgets the further NICs of a VM that is stopped.
pub(super) async fn a_stopped_vm_keeps_every_nic_over_a_restart(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    cluster.create(VM, with_two_nics("stopped")).await?;
    world.running("stopped").await?;
    let places = both_places(world, "stopped").await?;
    let ports = world.northbound().vm_ports().await?;
    set_strategy(world, "stopped", "Halted").await?;
    cluster.gone(VMI, "stopped", SOON).await?;
    world.lab().stop("controller").await?;
    world.lab().start("controller").await?;
    // A VM that comes meanwhile says that the rounds after the restart are over.
    cluster.create(VM, Vm::named("other").on(NET).without_grace().object()).await?;
    world.running("other").await?;
    same("both places of the stopped VM", both_places(world, "stopped").await?, places.clone())?;
    let kept = world.northbound().vm_ports().await?;
    for name in ports.keys().filter(|name| name.starts_with("stopped.")) {
        let port = kept.get(name).with_context(|| format!("port {name} is gone"))?;
        same(name, &port.addresses, &ports[name].addresses)?;
    }
    set_strategy(world, "stopped", "Always").await?;
    world.running("stopped").await?;
    same("both places", both_places(world, "stopped").await?, places)?;
    for vm in ["stopped", "other"] {
        cluster.delete(VM, vm).await?;
        cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    Ok(())
}

/// Kube-OVN finds a deletion that it missed in its collector only, the address of a
/// stopped VM not always, and a policy route of the default VPC never.
pub(super) async fn what_was_deleted_while_the_controller_was_down_is_given_back(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    let route = json!({"priority": 77, "match": "ip4.src == 10.78.0.77", "action": "drop"});
    cluster.merge(VPC, "life", json!({"spec": {"policyRoutes": [route]}})).await?;
    for vm in ["missed-up", "missed-down"] {
        cluster.create(VM, Vm::named(vm).on(NET).without_grace().object()).await?;
        world.running(vm).await?;
    }
    set_strategy(world, "missed-down", "Halted").await?;
    cluster.gone(VMI, "missed-down", SOON).await?;
    let policies = async || {
        let rows = world.northbound().rows("Logical_Router_Policy", "match").await?;
        anyhow::Ok(rows.iter().filter(|row| row["match"] == "ip4.src == 10.78.0.77").count())
    };
    // The default Vpc has one, too: that one is looked at by other code elsewhere.
    let default = vpc(crds::kubeovn::DEFAULT_VPC);
    let default = json!({"spec": {"policyRoutes": [route]}, "metadata": default["metadata"],
        "kind": default["kind"], "apiVersion": default["apiVersion"]});
    let made = cluster.find(VPC, crds::kubeovn::DEFAULT_VPC).await?.is_none();
    if made {
        cluster.create(VPC, default).await?;
    } else {
        let spec = json!({"spec": {"policyRoutes": [route]}});
        cluster.merge(VPC, crds::kubeovn::DEFAULT_VPC, spec).await?;
    }
    let places = [world.place("missed-up").await?, world.place("missed-down").await?];
    eventually("both policies", SOON, async || same("policies", policies().await?, 2)).await?;

    world.lab().stop("controller").await?;
    for vm in ["missed-up", "missed-down"] {
        cluster.delete(VM, vm).await?;
        cluster.gone(VM, vm, SOON).await?;
    }
    for vpc in ["life", crds::kubeovn::DEFAULT_VPC] {
        cluster.merge(VPC, vpc, json!({"spec": {"policyRoutes": null}})).await?;
    }
    world.lab().start("controller").await?;
    for vm in ["missed-up", "missed-down"] {
        cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    eventually("ports and policy to be gone", SOON, async || {
        let ports = world.northbound().vm_ports().await?;
        ensure!(!ports.keys().any(|port| port.starts_with("missed-")), "ports: {ports:?}");
        for block in cluster.list(BLOCK).await? {
            let held = block["spec"]["held"].to_string();
            ensure!(!held.contains("\"missed-"), "the ledger holds {held}");
        }
        same("policies", policies().await?, 0)
    })
    .await?;
    // And are anybody's, once they have rested.
    for (number, place) in places.iter().enumerate() {
        let heir = format!("missed-heir-{number}");
        let vm = Vm::named(&heir).on(NET).with_address(&place.v4).without_grace();
        cluster.create(VM, vm.object()).await?;
        world.running(&heir).await?;
        cluster.delete(VM, &heir).await?;
        cluster.gone(IP, &port_of(&heir), SOON).await?;
    }
    if made {
        cluster.delete(VPC, crds::kubeovn::DEFAULT_VPC).await?;
        cluster.gone(VPC, crds::kubeovn::DEFAULT_VPC, SOON).await?;
    }
    Ok(())
}

/// Kube-OVN's workers race for a row that all subnets of a VPC share.
pub(super) async fn many_subnets_of_one_vpc_made_at_once_are_all_in_force(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("crowd")).await?;
    let name = |number: u8| format!("crowd-{number}");
    try_join_all((0..40).map(|number| {
        let subnet = Subnet::named(&name(number)).in_vpc("crowd");
        let cidr = format!("10.213.{number}.0/24,fd13:{number}::/64");
        cluster.create(SUBNET, subnet.of(&cidr).object())
    }))
    .await?;
    for number in 0..40 {
        says(cluster, SUBNET, &name(number), ("Ready", "True"), "").await?;
        says(cluster, SUBNET, &name(number), ("Error", "False"), "").await?;
    }
    // Not even for a moment was one of them in error.
    let events = cluster.kubectl_ok(&["get", "events", "-A"]).await?;
    let told: Vec<_> = events.lines().filter(|line| line.contains("subnet/crowd-")).collect();
    ensure!(told.is_empty(), "it was told of them: {told:#?}");
    let switches = world.northbound().names("Logical_Switch").await?;
    ensure!((0..40).all(|number| switches.contains(&name(number))), "switches: {switches:?}");
    for number in 0..40 {
        cluster.delete(SUBNET, &name(number)).await?;
    }
    for number in 0..40 {
        cluster.gone(SUBNET, &name(number), SOON).await?;
    }
    cluster.delete(VPC, "crowd").await
}
