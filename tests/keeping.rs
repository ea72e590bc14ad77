//! Edits and neighbours that take nothing from a VM, and deletions that leave nothing of
//! it: faults of the peers that are not about a restart.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::kinds::{BLOCK, IP, SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Part, World, port_of};
use tests::{eventually, same};
use tokio::process::Command;

use crate::address_life::{both_places, make_subnets, set_strategy, with_two_nics};
use crate::admission::says;

const SOON: Duration = Duration::from_secs(30);
const LIST: &str = "k8s.v1.cni.cncf.io/networks";

/// The addresses of the VM's ports in OVN.
async fn ports(world: &World, vm: &str) -> anyhow::Result<Vec<(String, String)>> {
    let ports = world.northbound().vm_ports().await?;
    let own = ports.into_iter().filter(|(name, _)| name.starts_with(&format!("{vm}.")));
    Ok(own.map(|(name, port)| (name, port.addresses.into_iter().collect())).collect())
}

/// Kube-OVN takes NICs for orphans whose annotation it cannot parse.
pub(super) async fn a_list_of_multus_that_cannot_be_read_takes_no_nic_away(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(&world.cluster).await?;
    world.cluster.create(VM, with_two_nics("garbled")).await?;
    world.running("garbled").await?;
    let (before, rows) = (both_places(world, "garbled").await?, ports(world, "garbled").await?);
    same("ports", rows.len(), 2)?;
    let list =
        |text: Value| json!({"spec": {"template": {"metadata": {"annotations": {LIST: text}}}}});
    world.cluster.merge(VM, "garbled", list(json!("[{"))).await?;
    says(&world.cluster, VM, "garbled", ("RestartRequired", "True"), "").await?;
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    set_strategy(world, "garbled", "Halted").await?;
    world.cluster.gone(VMI, "garbled", SOON).await?;
    set_strategy(world, "garbled", "Always").await?;
    says(&world.cluster, VM, "garbled", ("Failure", "True"), "write a list").await?;
    same("its places", both_places(world, "garbled").await?, before.clone())?;
    same("its ports", ports(world, "garbled").await?, rows.clone())?;
    world.cluster.merge(VM, "garbled", list(Value::Null)).await?;
    world.running("garbled").await?;
    same("its places", both_places(world, "garbled").await?, before)?;
    same("its ports", ports(world, "garbled").await?, rows)?;
    world.cluster.delete(VM, "garbled").await?;
    world.cluster.gone(IP, &port_of("garbled"), SOON).await
}

/// Kube-OVN leaks addresses of a stopped VM that is deleted, and those of which there is no
/// port.
pub(super) async fn a_stopped_vm_that_is_deleted_gives_back_the_addresses_of_every_nic(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(&world.cluster).await?;
    world.cluster.create(VM, with_two_nics("ended")).await?;
    world.running("ended").await?;
    let (first, second) = both_places(world, "ended").await?;
    set_strategy(world, "ended", "Halted").await?;
    world.cluster.gone(VMI, "ended", SOON).await?;
    // One of its ports is lost, too.
    let (name, _) = ports(world, "ended").await?.pop().context("no port")?;
    world.northbound().write(&["lsp-del", &name]).await?;
    world.cluster.delete(VM, "ended").await?;
    eventually("nothing to be left of it", SOON, async || {
        same("ports", ports(world, "ended").await?, vec![])?;
        let ips = world.cluster.list(IP).await?;
        let own = ips.iter().filter(|ip| ip["spec"]["podName"] == "ended");
        same("IP objects", own.count(), 0)?;
        for block in world.cluster.list(BLOCK).await? {
            let held = block["spec"]["held"].to_string();
            ensure!(!held.contains("\"ended."), "the ledger holds {held}");
        }
        Ok(())
    })
    .await?;
    // Both are anybody's, once they have rested.
    let mut heir = with_two_nics("ended-heir");
    let notes = &mut heir["spec"]["template"]["metadata"]["annotations"];
    notes["ovn.kubernetes.io/ip_address"] = json!(first.v4);
    notes["life.default.ovn.kubernetes.io/ip_address"] = second[0].clone();
    world.cluster.create(VM, heir).await?;
    world.running("ended-heir").await?;
    world.cluster.delete(VM, "ended-heir").await?;
    world.cluster.gone(IP, &port_of("ended-heir"), SOON).await
}

/// Kube-OVN computes its ranges anew when `excludeIps` changes, and may give what is in
/// use to another.
pub(super) async fn an_address_that_is_excluded_later_stays_its_vms_and_goes_to_no_other(
    world: &mut World,
) -> anyhow::Result<()> {
    world.cluster.create(VPC, vpc("excluded")).await?;
    let subnet = Subnet::named("excluded-net").in_vpc("excluded").of("10.219.0.0/29");
    world.cluster.create(SUBNET, subnet.object()).await?;
    let vm = |name: &str| Vm::named(name).on("excluded-net").without_grace();
    world.cluster.create(VM, vm("excluded-first").object()).await?;
    world.running("excluded-first").await?;
    let before = world.place("excluded-first").await?;
    same("the first address", before.v4.as_str(), "10.219.0.2")?;
    let exclude = json!({"spec": {"excludeIps": ["10.219.0.1..10.219.0.3"]}});
    world.cluster.merge(SUBNET, "excluded-net", exclude).await?;
    says(&world.cluster, SUBNET, "excluded-net", ("Ready", "True"), "").await?;
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    let names = ["excluded-a", "excluded-b", "excluded-c"];
    for (name, address) in names.iter().zip(["10.219.0.4", "10.219.0.5", "10.219.0.6"]) {
        world.cluster.create(VM, vm(name).object()).await?;
        world.running(name).await?;
        same(name, world.place(name).await?.v4.as_str(), address)?;
    }
    world.cluster.create(VM, vm("excluded-late").object()).await?;
    says(&world.cluster, VM, "excluded-late", ("Failure", "True"), "excluded-net").await?;
    set_strategy(world, "excluded-first", "Halted").await?;
    world.cluster.gone(VMI, "excluded-first", SOON).await?;
    set_strategy(world, "excluded-first", "Always").await?;
    world.running("excluded-first").await?;
    same("its place", world.place("excluded-first").await?, before)?;
    for name in names.into_iter().chain(["excluded-first", "excluded-late"]) {
        world.cluster.delete(VM, name).await?;
    }
    for (kind, name) in [(SUBNET, "excluded-net"), (VPC, "excluded")] {
        world.cluster.delete(kind, name).await?;
        world.cluster.gone(kind, name, SOON).await?;
    }
    Ok(())
}

/// A second DHCP server on the wire goes unnoticed elsewhere.
pub(super) async fn a_guest_is_heard_as_no_dhcp_server(world: &mut World) -> anyhow::Result<()> {
    make_subnets(&world.cluster).await?;
    for vm in ["rogue", "victim"] {
        let object = Vm::named(vm).on("life-net").without_grace().object();
        world.cluster.create(VM, object).await?;
        world.running(vm).await?;
    }
    let (rogue, victim) = (world.place("rogue").await?, world.place("victim").await?);
    let arrives = async |what: &str| {
        let packet = format!(
            r#"inport == "{}" && eth.src == {} && eth.dst == {} && {what}"#,
            port_of("rogue"),
            rogue.mac,
            victim.mac
        );
        let output = Command::new("ovn-trace")
            .arg(format!("--db={}", world.lab().layout().southbound()))
            .args(["life-net", &packet])
            .kill_on_drop(true)
            .output()
            .await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.contains(&format!("output to \"{}\"", port_of("victim"))))
    };
    let v4 = format!("ip4.src == {} && ip4.dst == {} && ip.ttl == 64", rogue.v4, victim.v4);
    let v6 = format!("ip6.src == {} && ip6.dst == {} && ip.ttl == 255", rogue.v6, victim.v6);
    let table = [
        (&v4, "udp.src == 5000 && udp.dst == 5001", true),
        (&v4, "udp.src == 67 && udp.dst == 68", false),
        (&v4, "udp.src == 68 && udp.dst == 67", false),
        (&v6, "udp.src == 5000 && udp.dst == 5001", true),
        (&v6, "udp.src == 547 && udp.dst == 546", false),
        (&v6, "udp.src == 546 && udp.dst == 547", false),
    ];
    for (addresses, what, wanted) in table {
        let what = format!("{addresses} && {what}");
        eventually(&format!("{what} to arrive: {wanted}"), SOON, async || {
            same("arrival", arrives(&what).await?, wanted)
        })
        .await?;
    }
    for vm in ["rogue", "victim"] {
        world.cluster.delete(VM, vm).await?;
        world.cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    Ok(())
}
