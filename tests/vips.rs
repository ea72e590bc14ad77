//! Addresses that are nobody's own, and what a port may send beyond its own: so in
//! the rows of the northbound database.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::cluster::Flavour;
use tests::kinds::{BLOCK, SUBNET, VIP, VM, VMI, VPC};
use tests::northbound::Port;
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Part, Place, World, port_of};
use tests::{eventually, same};

use crate::admission::says;
use crate::port_lifecycle::{SUBNET_NAME, web_and_db};

const SOON: Duration = Duration::from_secs(20);

/// Waits until the port of a VM is as `check` wants it.
async fn port_is(
    world: &World,
    vm: &str,
    what: &str,
    check: impl AsyncFn(&Port) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    eventually(&format!("the port of {vm} {what}"), SOON, async || {
        let ports = world.northbound().vm_ports().await?;
        check(&ports.get(&port_of(vm)).cloned().unwrap_or_default()).await
    })
    .await
}

pub(super) async fn a_port_may_do_what_its_template_lets_it(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("leave")).await?;
    let subnet = Subnet::named("leave-net").in_vpc("leave").of("10.210.0.0/24");
    cluster.create(SUBNET, subnet.object()).await?;
    let vm = |name: &str| Vm::named(name).on("leave-net");
    let listed = vm("listed").annotated("ovn.kubernetes.io/port_vips", "10.210.0.99,10.211.0.0/16");
    let free = vm("free")
        .annotated("ovn.kubernetes.io/port_security", "false")
        .annotated("ovn.kubernetes.io/layer2_forward", "true");
    let bad = vm("unsure").annotated("ovn.kubernetes.io/port_security", "maybe");
    for vm in [listed, free, bad] {
        cluster.create(VM, vm.object()).await?;
    }
    says(cluster, VM, "unsure", ("Failure", "True"), "port_security").await?;
    world.running("listed").await?;
    let place = world.place("listed").await?;
    let line = format!("{} {} 10.210.0.99 10.211.0.0/16", place.mac, place.v4);
    port_is(world, "listed", "to be let", async |port| {
        same("what it may send from", port.port_security.clone(), [line.clone()].into())
    })
    .await?;
    port_is(world, "free", "to be free", async |port| {
        same("unknown", port.addresses.contains("unknown"), true)?;
        same(
            "what it may send from",
            port.port_security.iter().filter(|line| !line.is_empty()).count(),
            0,
        )
    })
    .await?;

    // At the next start, and said until then.
    let off = json!({"spec": {"template": {"metadata": {"annotations": {
        "ovn.kubernetes.io/port_vips": null}}}}});
    world.cluster.merge(VM, "listed", off).await?;
    says(&world.cluster, VM, "listed", ("RestartRequired", "True"), "").await?;
    port_is(world, "listed", "to be as it was", async |port| {
        same("what it may send from", port.port_security.clone(), [line.clone()].into())
    })
    .await
}

fn vip(name: &str, mut spec: Value) -> Value {
    if spec["subnet"].is_null() {
        spec["subnet"] = json!("vip-net");
    }
    json!({"apiVersion": "kubeovn.io/v1", "kind": "Vip", "metadata": {"name": name}, "spec": spec})
}

/// Waits until a Vip has addresses: IPv4 and IPv6.
async fn addresses(world: &World, name: &str) -> anyhow::Result<(String, String)> {
    eventually(&format!("Vip {name} to have addresses"), SOON, async || {
        let status = world.cluster.get(VIP, name).await?["status"].clone();
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
        ensure!(!text("v4ip").is_empty() && !text("v6ip").is_empty(), "{status}");
        Ok((text("v4ip"), text("v6ip")))
    })
    .await
}

/// Waits until a virtual port has this address and these parents.
async fn is_virtual(
    world: &World,
    port: &str,
    address: &str,
    parents: &[&str],
) -> anyhow::Result<()> {
    eventually(&format!("virtual port {port} of {parents:?}"), SOON, async || {
        let rows = world.northbound().rows("Logical_Switch_Port", "name,type,options").await?;
        let row = rows.iter().find(|row| row["name"] == port).context("there is none")?;
        same("its type", &row["type"], &json!("virtual"))?;
        let mut options = vec![json!(["virtual-ip", address])];
        if !parents.is_empty() {
            let parents: Vec<_> = parents.iter().map(|vm| port_of(vm)).collect();
            options.push(json!(["virtual-parents", parents.join(",")]));
        }
        same("its options", &row["options"], &json!(["map", options]))
    })
    .await
}

/// What a keepalived in two guests relies on.
pub(super) async fn a_vip_is_reached_at_the_guest_that_announces_it(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let float = vip("float", json!({"subnet": SUBNET_NAME, "v4ip": "10.80.0.99"}));
    world.cluster.create(VIP, float).await?;
    says(&world.cluster, VIP, "float", ("Ready", "True"), "").await?;
    let carriers = [("carrier-a", "n1"), ("carrier-b", "n2")];
    for (name, node) in carriers {
        let vm = Vm::named(name).on(SUBNET_NAME).pinned_to(node).without_grace();
        let vm = vm.annotated("ovn.kubernetes.io/aaps", "float");
        world.cluster.create(VM, vm.object()).await?;
    }
    for (name, _) in carriers {
        world.running(name).await?;
        world.guest_ready(name, &world.place(name).await?).await?;
    }
    for (name, other) in [("carrier-a", "carrier-b"), ("carrier-b", "carrier-a")] {
        let mut idle = world.guest(other).await?;
        idle.run("ip addr del 10.80.0.99/32 dev eth0 2>/dev/null; true").await?;
        drop(idle);
        let mut guest = world.guest(name).await?;
        guest.run("ip addr add 10.80.0.99/32 dev eth0").await?;
        guest.run("arping -U -c 2 -I eth0 10.80.0.99; true").await?;
        drop(guest);
        eventually(&format!("the Vip to be at {name}"), SOON, async || {
            let columns = "logical_port,virtual_parent";
            let rows = world.southbound().rows("Port_Binding", columns).await?;
            let row = rows.iter().find(|row| row["logical_port"] == "float").context("no port")?;
            same("its parent", &row["virtual_parent"], &json!(port_of(name)))
        })
        .await?;
        // From either node, whichever it is on.
        for from in ["web", "db"] {
            world.ping(from, "10.80.0.99").await?;
            let known = world.guest(from).await?.run("ip neigh show 10.80.0.99").await?;
            let mac = world.place(name).await?.mac;
            ensure!(known.contains(&mac), "{from} knows {known:?}, not {mac}");
        }
    }
    for (name, _) in carriers {
        world.cluster.delete(VM, name).await?;
        world.cluster.gone(VMI, name, SOON).await?;
    }
    world.cluster.delete(VIP, "float").await?;
    world.cluster.gone(VIP, "float", SOON).await
}

async fn no_port(world: &World, port: &str) -> anyhow::Result<()> {
    eventually(&format!("port {port} to be gone"), SOON, async || {
        ensure!(!world.northbound().names("Logical_Switch_Port").await?.contains(port), "it is");
        Ok(())
    })
    .await
}

pub(super) async fn a_vip_is_kept_over_a_kill_and_given_to_no_vm(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("vips")).await?;
    let subnet = Subnet::named("vip-net").in_vpc("vips").of("10.212.0.0/28,fd12::/64");
    cluster.create(SUBNET, subnet.object()).await?;
    cluster.create(VIP, vip("kept", json!({}))).await?;
    let kept = addresses(world, "kept").await?;
    says(cluster, VIP, "kept", ("Ready", "True"), "").await?;
    let mac = cluster.get(VIP, "kept").await?["status"]["mac"].clone();

    let thief = Vm::named("thief").on("vip-net").with_address(&kept.0);
    for vm in [thief, Vm::named("neighbour").on("vip-net")] {
        cluster.create(VM, vm.object()).await?;
    }
    says(cluster, VM, "thief", ("Failure", "True"), "is held by Vip kept").await?;
    world.running("neighbour").await?;
    ensure!(world.place("neighbour").await?.v4 != kept.0, "a VM got it");

    let lb = json!({"type": "switch_lb_vip", "v4ip": "10.212.0.9", "v6ip": "FD12::9"});
    for (name, spec) in [
        ("outside", json!({"v4ip": "10.213.0.9"})),
        ("nowhere", json!({"subnet": "none-such"})),
        ("second", json!({"v4ip": kept.0})),
        ("balanced", lb),
    ] {
        cluster.create(VIP, vip(name, spec)).await?;
    }
    says(cluster, VIP, "outside", ("Ready", "False"), "spec.v4ip").await?;
    says(cluster, VIP, "nowhere", ("Ready", "False"), "create it or name another").await?;
    says(cluster, VIP, "second", ("Ready", "False"), "is held by Vip kept").await?;
    same("named", addresses(world, "balanced").await?, ("10.212.0.9".into(), "fd12::9".into()))?;
    says(cluster, VIP, "balanced", ("FieldsWithoutEffect", "True"), "spec.type").await?;

    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    let edit = json!({"spec": {"v4ip": "10.212.0.10", "macAddress": "02:00:00:00:00:77"}});
    let edited = world.cluster.merge(VIP, "kept", edit).await;
    if world.cluster.flavour() == Flavour::Real {
        let refused = edited.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains("it stays"), "a server that runs rules said {refused:?}");
    } else {
        edited?;
        says(&world.cluster, VIP, "kept", ("Error", "True"), "it stays").await?;
    }
    same("addresses", addresses(world, "kept").await?, kept)?;
    same("mac", world.cluster.get(VIP, "kept").await?["status"]["mac"].clone(), mac)?;
    is_virtual(world, "kept", &addresses(world, "kept").await?.0, &[]).await?;

    // What it held serves others once it is gone and has rested.
    world.cluster.delete(VIP, "kept").await?;
    world.cluster.gone(VIP, "kept", SOON).await?;
    no_port(world, "kept").await?;
    says(&world.cluster, VIP, "second", ("Ready", "True"), "").await
}

/// Kube-OVN refuses a Vip that names its MAC alone, and restores the IPv4 address of a Vip
/// only: one of IPv6 alone is lost, and the other half of a pair is another one.
pub(super) async fn a_vip_of_a_mac_alone_or_of_ipv6_has_the_same_place_after_a_restart(
    world: &mut World,
) -> anyhow::Result<()> {
    const MAC: &str = "02:00:00:00:12:01";
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("halves")).await?;
    for (name, cidr) in [("half-six", "fd16::/64"), ("half-both", "10.216.0.0/24,fd17::/64")] {
        let subnet = Subnet::named(name).in_vpc("halves").of(cidr);
        cluster.create(SUBNET, subnet.object()).await?;
    }
    let vips = [
        ("of-a-mac", json!({"subnet": "half-both", "macAddress": MAC})),
        ("of-six", json!({"subnet": "half-six"})),
        ("of-named-six", json!({"subnet": "half-both", "v6ip": "fd17::77"})),
    ];
    for (name, spec) in vips.clone() {
        cluster.create(VIP, vip(name, spec)).await?;
        says(cluster, VIP, name, ("Ready", "True"), "").await?;
    }
    let places = async || {
        let mut all = Vec::new();
        for (name, _) in &vips {
            let status = world.cluster.get(VIP, name).await?["status"].clone();
            all.push([&status["v4ip"], &status["v6ip"], &status["mac"]].map(Value::to_string));
        }
        let rows = world.northbound().rows("Logical_Switch_Port", "name,type,options").await?;
        let mut ports: Vec<_> = rows
            .iter()
            .filter(|row| row["type"] == "virtual" && row["name"].to_string().contains("of-"))
            .map(|row| format!("{} {}", row["name"], row["options"]))
            .collect();
        ports.sort();
        anyhow::Ok((all, ports))
    };
    let before = places().await?;
    let [of_mac, of_six, of_named] = [0, 1, 2].map(|at| before.0[at].join(" "));
    ensure!(of_mac.contains(MAC) && of_mac.contains("10.216.0."), "{of_mac}");
    ensure!(of_six.contains("fd16::2") && !of_six.contains("10.216"), "{of_six}");
    ensure!(of_named.contains("10.216.0.") && of_named.contains("fd17::77"), "{of_named}");
    same("virtual ports", before.1.len(), 5)?;

    world.lab().stop("controller").await?;
    world.lab().start("controller").await?;
    // A VM that comes is given none of them, though it is the first to ask.
    for subnet in ["half-six", "half-both"] {
        let vm = Vm::named(&format!("on-{subnet}")).on(subnet).without_grace();
        world.cluster.create(VM, vm.object()).await?;
        world.running(&format!("on-{subnet}")).await?;
        let place = world.place(&format!("on-{subnet}")).await?;
        for address in [&place.v4, &place.v6].into_iter().filter(|one| !one.is_empty()) {
            let said = format!("\"{address}\"");
            ensure!(!before.0.iter().flatten().any(|one| *one == said), "{place:?}");
        }
    }
    same("the places of the Vips", places().await?, before)
}

pub(super) async fn a_vip_moves_between_the_ports_that_carry_it(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VIP, vip("shared", json!({}))).await?;
    let shared = addresses(world, "shared").await?;
    let vm = |name: &str| Vm::named(name).on("vip-net").without_grace();
    for name in ["one", "two"] {
        let vm = vm(name).annotated("ovn.kubernetes.io/aaps", "shared");
        cluster.create(VM, vm.object()).await?;
    }
    let mut labelled = vm("three").object();
    labelled["spec"]["template"]["metadata"]["labels"] = json!({"role": "front"});
    cluster.create(VM, labelled).await?;
    let lost = vm("lost").annotated("ovn.kubernetes.io/aaps", "no-such-vip");
    cluster.create(VM, lost.object()).await?;
    says(cluster, VM, "lost", ("Failure", "True"), "does not exist").await?;
    for name in ["one", "two", "three"] {
        world.running(name).await?;
    }
    is_virtual(world, "shared", &shared.0, &["one", "two"]).await?;
    is_virtual(world, "shared:v6", &shared.1, &["one", "two"]).await?;
    let may_send = async |vm: &str, wanted: bool| {
        port_is(world, vm, "to carry the Vip or not", async |port| {
            let lines: Vec<_> = port.port_security.iter().cloned().collect();
            let ends = format!(" {} {}", shared.0, shared.1);
            same(&format!("{lines:?}"), lines.iter().all(|line| line.ends_with(&ends)), wanted)
        })
        .await
    };
    may_send("one", true).await?;
    may_send("three", false).await?;

    // A selector counts at once.
    let select = json!({"spec": {"namespace": "default", "selector": ["role:front"]}});
    cluster.merge(VIP, "shared", select).await?;
    is_virtual(world, "shared", &shared.0, &["one", "three", "two"]).await?;
    may_send("three", true).await?;
    cluster.merge(VIP, "shared", json!({"spec": {"selector": []}})).await?;
    is_virtual(world, "shared", &shared.0, &["one", "two"]).await?;
    may_send("three", false).await?;

    // A parent that goes is none; the Vip waits for the other.
    cluster.delete(VM, "two").await?;
    is_virtual(world, "shared", &shared.0, &["one"]).await?;
    cluster.delete(VIP, "shared").await?;
    says(cluster, VIP, "shared", ("DeletionBlocked", "True"), "VirtualMachine default/one").await?;
    is_virtual(world, "shared", &shared.0, &["one"]).await?;
    cluster.merge(VM, "one", json!({"spec": {"runStrategy": "Halted"}})).await?;
    cluster.gone(VMI, "one", SOON).await?;
    cluster.gone(VIP, "shared", SOON).await?;
    no_port(world, "shared").await?;
    no_port(world, "shared:v6").await
}

pub(super) async fn a_vip_is_the_own_address_of_one_vm_at_a_time(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VIP, vip("lent", json!({"macAddress": "02:00:00:00:02:12"}))).await?;
    let lent = addresses(world, "lent").await?;
    // Without logical_switch: the Vip has a subnet.
    let vm = |name: &str, vip: &str| {
        Vm::named(name).without_grace().annotated("ovn.kubernetes.io/vip", vip)
    };
    cluster.create(VM, vm("has", "lent").object()).await?;
    cluster.create(VM, vm("none", "no-such-vip").object()).await?;
    says(cluster, VM, "none", ("Failure", "True"), "does not exist").await?;
    world.running("has").await?;
    let first = world.place("has").await?;
    let mac = "02:00:00:00:02:12".to_owned();
    same("its place", &first, &Place { v4: lent.0.clone(), v6: lent.1.clone(), mac })?;
    let row = format!("{} {} {}", first.mac, lent.0, lent.1);
    port_is(world, "has", "to have the Vip's addresses", async |port| {
        same("it may send from", port.port_security.clone(), [row.clone()].into())
    })
    .await?;

    // It serves one at a time, also over a stop and a kill.
    cluster.create(VM, vm("waits", "lent").object()).await?;
    says(cluster, VM, "waits", ("Failure", "True"), "has.default has it").await?;
    cluster.merge(VM, "has", json!({"spec": {"runStrategy": "Halted"}})).await?;
    cluster.gone(VMI, "has", SOON).await?;
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    let cluster = &world.cluster;
    cluster.merge(VM, "has", json!({"spec": {"runStrategy": "Always"}})).await?;
    world.running("has").await?;
    same("its place", &world.place("has").await?, &first)?;
    says(cluster, VM, "waits", ("Failure", "True"), "has.default has it").await?;

    // It outlives the VM, and goes to the one that waits at once.
    cluster.delete(VM, "has").await?;
    world.running("waits").await?;
    same("its place", &world.place("waits").await?, &first)?;
    same("addresses", addresses(world, "lent").await?, lent)?;

    cluster.delete(VIP, "lent").await?;
    let why = "delete VirtualMachine default/waits";
    says(cluster, VIP, "lent", ("DeletionBlocked", "True"), why).await?;
    cluster.delete(VM, "waits").await?;
    cluster.gone(VIP, "lent", SOON).await?;
    cluster.delete(VM, "none").await
}

pub(super) async fn an_address_that_a_subnet_lists_is_nobodys_own(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    let subnet = Subnet::named("listing").in_vpc("vips").of("10.214.0.0/29");
    let listed = json!(["10.214.0.2", "10.215.0.2"]);
    cluster.create(SUBNET, subnet.with("vips", listed).object()).await?;
    says(cluster, SUBNET, "listing", ("Ready", "True"), "").await?;
    says(cluster, SUBNET, "listing", ("Error", "True"), "spec.vips[1]").await?;
    is_virtual(world, "listing-vip-10.214.0.2", "10.214.0.2", &[]).await?;
    let vm =
        Vm::named("sharer").on("listing").annotated("ovn.kubernetes.io/port_vips", "10.214.0.2");
    cluster.create(VM, vm.object()).await?;
    world.running("sharer").await?;
    same("its own", world.place("sharer").await?.v4, "10.214.0.3".to_owned())?;
    is_virtual(world, "listing-vip-10.214.0.2", "10.214.0.2", &["sharer"]).await?;
    cluster.merge(SUBNET, "listing", json!({"spec": {"vips": []}})).await?;
    no_port(world, "listing-vip-10.214.0.2").await
}

pub(super) async fn what_was_made_for_vips_goes_without_a_trace(
    world: &mut World,
) -> anyhow::Result<()> {
    crate::churn::delete_everything(world).await?;
    eventually("no address to be held", SOON, async || {
        let blocks = world.cluster.list(BLOCK).await?;
        let held =
            |block: &Value| block["spec"]["held"].as_object().is_some_and(|one| !one.is_empty());
        same("blocks with holders", blocks.iter().filter(|block| held(block)).count(), 0)
    })
    .await?;
    same("ports", world.northbound().count("Logical_Switch_Port").await?, 0)
}
