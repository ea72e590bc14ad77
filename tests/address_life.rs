//! How long a VM's addresses are its own, and what ends that.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::kinds::{BLOCK, IP, SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Part, Place, World, port_of};
use tests::{eventually, same};

use super::admission::{says, warned};

const SOON: Duration = Duration::from_secs(30);
const FIRST: &str = "life-net";
const SECOND: &str = "life-net-two";
/// The attachment that the second subnet serves.
const PROVIDER: &str = "life.default.ovn";

pub(super) async fn make_subnets(cluster: &Cluster) -> anyhow::Result<()> {
    if cluster.find(VPC, "life").await?.is_some() {
        return Ok(());
    }
    cluster.create(VPC, vpc("life")).await?;
    let first = Subnet::named(FIRST).in_vpc("life").of("10.78.0.0/24,fd78::/64");
    cluster.create(SUBNET, first.object()).await?;
    let second = Subnet::named(SECOND).in_vpc("life").of("10.79.0.0/24");
    cluster.create(SUBNET, second.with("provider", json!(PROVIDER)).object()).await?;
    Ok(())
}

/// A VM with a NIC on each of the subnets.
pub(super) fn with_two_nics(name: &str) -> Value {
    let mut vm = Vm::named(name).on(FIRST).without_grace().object();
    let spec = &mut vm["spec"]["template"]["spec"];
    spec["networks"] = json!([
        {"name": "default", "pod": {}}, {"name": "more", "multus": {"networkName": "life"}},
    ]);
    spec["domain"]["devices"]["interfaces"] =
        json!([{"name": "default", "bridge": {}}, {"name": "more", "bridge": {}}]);
    vm
}

/// What the IP objects of both NICs say.
pub(super) async fn both_places(world: &World, vm: &str) -> anyhow::Result<(Place, Value)> {
    let first = world.place(vm).await?;
    let ip = world.cluster.get(IP, &net::names::port(vm, "default", PROVIDER)).await?;
    let said = json!([ip["spec"]["v4IpAddress"], ip["spec"]["macAddress"], ip["spec"]["subnet"]]);
    Ok((first, said))
}

pub(super) async fn set_strategy(world: &World, vm: &str, strategy: &str) -> anyhow::Result<()> {
    world.cluster.merge(VM, vm, json!({"spec": {"runStrategy": strategy}})).await
}

/// Waits for an instance other than the one of this uid.
pub(super) async fn another_runs(world: &World, vm: &str, uid: &Value) -> anyhow::Result<Value> {
    eventually("another instance", SOON, async || {
        let instance = world.cluster.get(VMI, vm).await?;
        ensure!(instance["metadata"]["uid"] != *uid, "it is the old one");
        Ok(())
    })
    .await?;
    world.running(vm).await
}

pub(super) async fn an_ip_object_deleted_by_hand_frees_its_address_but_not_under_a_guest(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    cluster.create(VM, Vm::named("freed").on(FIRST).without_grace().object()).await?;
    let instance = world.running("freed").await?;
    let before = world.place("freed").await?;

    let port = port_of("freed");
    cluster.delete(IP, &port).await?;
    warned(cluster, IP, &port, "stop the VM").await?;
    // Who starts anew says it no second time, and lets nothing go either.
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    let cluster = &world.cluster;
    cluster.create(VM, Vm::named("beside").on(FIRST).without_grace().object()).await?;
    world.running("beside").await?;
    warned(cluster, IP, &port, "stop the VM").await?;
    let ip = cluster.get(IP, &port).await?;
    ensure!(ip["metadata"]["annotations"]["berth.io/deletion-blocked"].is_string(), "{ip}");
    let now = world.running("freed").await?;
    same("the instance", &now["metadata"]["uid"], &instance["metadata"]["uid"])?;
    ensure!(world.northbound().vm_ports().await?.contains_key(&port), "no port");

    set_strategy(world, "freed", "Halted").await?;
    cluster.gone(IP, &port, SOON).await?;
    ensure!(!world.northbound().vm_ports().await?.contains_key(&port), "a port is left");
    // It is anybody's now.
    let heir = Vm::named("heir").on(FIRST).with_address(&before.v4).without_grace();
    cluster.create(VM, heir.object()).await?;
    world.running("heir").await?;
    set_strategy(world, "freed", "Always").await?;
    world.running("freed").await?;
    let after = world.place("freed").await?;
    ensure!(after.v4 != before.v4, "{after:?} was {before:?}");

    // What the template names is claimed again.
    let fixed = Vm::named("fixed").on(FIRST).with_address("10.78.0.77").halted();
    cluster.create(VM, fixed.object()).await?;
    world.place("fixed").await?;
    let port = port_of("fixed");
    let uid = cluster.get(IP, &port).await?["metadata"]["uid"].clone();
    cluster.delete(IP, &port).await?;
    eventually("an IP object made anew", SOON, async || {
        let ip = cluster.get(IP, &port).await?;
        ensure!(ip["metadata"]["uid"] != uid, "{ip}");
        same("the address", ip["spec"]["v4IpAddress"].as_str(), Some("10.78.0.77"))
    })
    .await?;

    for vm in ["freed", "beside", "heir", "fixed"] {
        cluster.delete(VM, vm).await?;
        cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    Ok(())
}

pub(super) async fn a_place_survives_whatever_ends_the_instance(
    world: &mut World,
) -> anyhow::Result<()> {
    make_subnets(&world.cluster).await?;
    world.cluster.create(VM, with_two_nics("kept")).await?;
    let mut uid = world.running("kept").await?["metadata"]["uid"].clone();
    let before = both_places(world, "kept").await?;
    for way in ["asked", "forced", "stripped"] {
        let cluster = &world.cluster;
        match way {
            "asked" => cluster.delete(VMI, "kept").await?,
            "forced" => {
                let force =
                    ["delete", "vmi", "kept", "--grace-period=0", "--force", "--wait=false"];
                drop(cluster.kubectl_ok(&force).await?);
            }
            _ => {
                cluster.merge(VMI, "kept", json!({"metadata": {"finalizers": null}})).await?;
                cluster.delete(VMI, "kept").await?;
            }
        }
        let killed = world.kill(Part::Controller)?;
        world.back(killed).await?;
        uid = another_runs(world, "kept", &uid).await.context(way)?["metadata"]["uid"].clone();
        same(way, &both_places(world, "kept").await?, &before)?;
    }
    world.cluster.delete(VM, "kept").await?;
    world.cluster.gone(IP, &port_of("kept"), SOON).await
}

/// The time from which an address rests, by the ledger; `None` if it does not.
async fn released_at(cluster: &Cluster, address: &str) -> anyhow::Result<Option<u64>> {
    let blocks = cluster.list(BLOCK).await?;
    Ok(blocks.iter().find_map(|block| block["spec"]["resting"][address].as_u64()))
}

pub(super) async fn an_address_whose_guest_may_live_on_rests_as_long_as_its_lease(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    let mut lonely = Vm::named("lonely").on(FIRST).without_grace().object();
    lonely["spec"]["template"]["metadata"]["annotations"]["ovn.kubernetes.io/dhcp-v4-options"] =
        json!("lease_time=7200");
    cluster.create(VM, lonely).await?;
    cluster.create(VM, Vm::named("ended").on(FIRST).without_grace().object()).await?;
    let mut places = Vec::new();
    for name in ["lonely", "ended"] {
        world.running(name).await?;
        places.push(world.place(name).await?);
    }
    let began = i64::try_from(unix_now()?)?;

    // Nobody says that its guest has ended: the finalizer is taken off.
    cluster.delete(VM, "ended").await?;
    cluster.merge(VMI, "lonely", json!({"metadata": {"finalizers": null}})).await?;
    cluster.delete(VM, "lonely").await?;
    for name in ["lonely", "ended"] {
        cluster.gone(IP, &port_of(name), SOON).await?;
    }
    for (place, least, most) in [(&places[0], 7000, 7200), (&places[1], -1, 300)] {
        eventually("the release in the ledger", SOON, async || {
            let at = released_at(cluster, &place.v4).await?.context("not released")?;
            let later = i64::try_from(at)? - began;
            ensure!((least..=most).contains(&later), "{} counts {later} s from now", place.v4);
            Ok(())
        })
        .await?;
    }
    let thief = Vm::named("lonely-thief").on(FIRST).with_address(&places[0].v4);
    cluster.create(VM, thief.object()).await?;
    says(cluster, VM, "lonely-thief", ("Failure", "True"), "still have a lease").await?;
    cluster.delete(VM, "lonely-thief").await?;
    cluster.gone(VM, "lonely-thief", SOON).await
}

/// Seconds of Unix time.
fn unix_now() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

pub(super) async fn an_orphaned_instance_keeps_its_place_until_it_ends(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    cluster.create(VM, Vm::named("orphan").on(FIRST).without_grace().object()).await?;
    let instance = world.running("orphan").await?;
    let before = world.place("orphan").await?;
    cluster.kubectl_ok(&["delete", "vm", "orphan", "--cascade=orphan"]).await?;
    eventually("the instance to have forgotten its VM", SOON, async || {
        let instance = cluster.get(VMI, "orphan").await?;
        let owners = &instance["metadata"]["ownerReferences"];
        ensure!(owners.as_array().is_none_or(Vec::is_empty), "{owners}");
        Ok(())
    })
    .await?;
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;

    // A VM of its name is another one; it waits.
    let cluster = &world.cluster;
    cluster.create(VM, Vm::named("orphan").on(FIRST).without_grace().object()).await?;
    says(cluster, VM, "orphan", ("Failure", "True"), "delete it").await?;
    let thief = Vm::named("orphan-thief").on(FIRST).with_address(&before.v4);
    cluster.create(VM, thief.object()).await?;
    says(cluster, VM, "orphan-thief", ("Failure", "True"), "is held by orphan").await?;
    same("the place", world.place("orphan").await?, before.clone())?;
    let now = cluster.get(VMI, "orphan").await?;
    same("the instance", &now["metadata"]["uid"], &instance["metadata"]["uid"])?;
    ensure!(now["metadata"]["deletionTimestamp"].is_null(), "{now}");

    cluster.delete(VM, "orphan-thief").await?;
    cluster.delete(VMI, "orphan").await?;
    world.running("orphan").await?;
    ensure!(world.place("orphan").await?.v4 != before.v4, "a new VM inherited a place");
    world.cluster.delete(VM, "orphan").await?;
    world.cluster.gone(IP, &port_of("orphan"), SOON).await
}

/// An instance that nobody made for a VM.
pub(super) fn alone(name: &str, address: Option<&str>) -> Value {
    alone_on(Some(FIRST), name, address)
}

/// The same on this subnet, or on none that it names.
pub(super) fn alone_on(subnet: Option<&str>, name: &str, address: Option<&str>) -> Value {
    let vm = Vm::named(name).without_grace();
    let vm = subnet.into_iter().fold(vm, |vm, subnet| vm.on(subnet));
    let vm = address.into_iter().fold(vm, |vm, address| vm.with_address(address)).object();
    let template = &vm["spec"]["template"];
    let annotations = &template["metadata"]["annotations"];
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": template["spec"],
    })
}

/// The same as a replica set makes it.
fn of_a_set(name: &str) -> Value {
    let mut instance = alone(name, None);
    // Of a kind that nobody serves: whose owner is known to be gone, collectors take away.
    instance["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "pool.kubevirt.io/v1alpha1", "kind": "VirtualMachinePool",
        "name": "life-set", "uid": "5e7f0c1a-0000-4000-8000-000000000001", "controller": true,
    }]);
    instance
}

pub(super) async fn runs_alone(world: &World, name: &str) -> anyhow::Result<Value> {
    eventually(&format!("{name} to be Running"), SOON, async || {
        let instance = world.cluster.get(VMI, name).await?;
        ensure!(instance["status"]["phase"] == "Running", "{}", instance["status"]);
        Ok(instance)
    })
    .await
}

pub(super) async fn an_instance_without_a_vm_keeps_its_place_until_it_is_deleted(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    cluster.create(VMI, alone("alone", None)).await?;
    cluster.create(VMI, of_a_set("of-a-set")).await?;
    let names = ["alone", "of-a-set"];
    let mut before = Vec::new();
    for name in names {
        let instance = runs_alone(world, name).await?;
        let place = world.place(name).await?;
        let told = &instance["status"]["interfaces"][0]["ipAddress"];
        same("what the instance says", told.as_str(), Some(place.v4.as_str()))?;
        before.push((instance["metadata"]["uid"].clone(), place));
    }
    let killed = world.kill(Part::Controller)?;
    world.back(killed).await?;
    let killed = world.kill(Part::Api)?;
    world.back(killed).await?;

    // A VM of its name waits, and nobody else gets the address.
    let cluster = &world.cluster;
    cluster.create(VM, Vm::named("alone").on(FIRST).without_grace().object()).await?;
    says(cluster, VM, "alone", ("Failure", "True"), "delete it").await?;
    cluster.create(VMI, alone("alone-thief", Some(&before[0].1.v4))).await?;
    says(cluster, VMI, "alone-thief", ("Synchronized", "False"), "is held by alone").await?;
    warned(cluster, VMI, "alone-thief", "is held by alone").await?;
    for (name, (uid, place)) in names.iter().zip(&before) {
        let instance = runs_alone(world, name).await?;
        same("the instance", &instance["metadata"]["uid"], uid)?;
        same("the place", &world.place(name).await?, place)?;
        ensure!(world.northbound().vm_ports().await?.contains_key(&port_of(name)), "no port");
    }

    cluster.delete(VMI, "of-a-set").await?;
    cluster.gone(IP, &port_of("of-a-set"), SOON).await?;
    ensure!(!world.northbound().vm_ports().await?.contains_key(&port_of("of-a-set")), "a port");
    // What it leaves is who waits for it: a VM of its name with an address of its own.
    cluster.delete(VMI, "alone").await?;
    world.running("alone").await?;
    ensure!(world.place("alone").await?.v4 != before[0].1.v4, "a VM inherited a place");
    runs_alone(world, "alone-thief").await?;
    same("the address", world.place("alone-thief").await?.v4, before[0].1.v4.clone())?;

    let cluster = &world.cluster;
    cluster.delete(VM, "alone").await?;
    cluster.delete(VMI, "alone-thief").await?;
    cluster.gone(IP, &port_of("alone"), SOON).await?;
    cluster.gone(IP, &port_of("alone-thief"), SOON).await
}

pub(super) async fn an_instance_takes_nothing_from_the_vm_of_its_name(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    let vm = Vm::named("twin").on(FIRST).with_address("10.78.0.88").halted();
    cluster.create(VM, vm.object()).await?;
    let before = world.place("twin").await?;
    cluster.create(VMI, alone("twin", None)).await?;
    says(cluster, VMI, "twin", ("Synchronized", "False"), "VirtualMachine default/twin").await?;
    same("the VM's place", world.place("twin").await?, before.clone())?;
    cluster.delete(VMI, "twin").await?;
    cluster.gone(VMI, "twin", SOON).await?;
    set_strategy(world, "twin", "Always").await?;
    world.running("twin").await?;
    same("the VM's place", world.place("twin").await?, before)?;
    cluster.delete(VM, "twin").await?;
    cluster.gone(IP, &port_of("twin"), SOON).await
}

pub(super) async fn a_changed_template_counts_at_the_next_start_for_each_nic(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    let third = Subnet::named("life-net-three").in_vpc("life").of("10.77.0.0/24");
    cluster.create(SUBNET, third.object()).await?;
    cluster.create(VM, with_two_nics("edited")).await?;
    let uid = world.running("edited").await?["metadata"]["uid"].clone();
    let (_, second) = both_places(world, "edited").await?;
    let second_port = net::names::port("edited", "default", PROVIDER);
    let row = world.northbound().vm_ports().await?.remove(&second_port).context("no port")?;

    let annotations = json!({"ovn.kubernetes.io/logical_switch": "life-net-three"});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    cluster.merge(VM, "edited", patch).await?;
    says(cluster, VM, "edited", ("RestartRequired", "True"), "non-live-updatable").await?;
    let (first, _) = both_places(world, "edited").await?;
    ensure!(first.v4.starts_with("10.78.0."), "it moved while it ran: {first:?}");

    cluster.delete(VMI, "edited").await?;
    another_runs(world, "edited", &uid).await?;
    eventually("the first NIC on its new subnet, the second as it was", SOON, async || {
        let (moved, same_as_ever) = both_places(world, "edited").await?;
        ensure!(moved.v4.starts_with("10.77.0.") && moved.v6.is_empty(), "{moved:?}");
        same("the second NIC", &same_as_ever, &second)
    })
    .await?;
    let ports = world.northbound().vm_ports().await?;
    let said = ports.get(&port_of("edited")).context("no port")?;
    ensure!(said.addresses.iter().any(|one| one.contains(" 10.77.0.")), "{said:?}");
    let kept = ports.get(&second_port).context("the second NIC has lost its port")?;
    same("the second NIC's row", &kept.addresses, &row.addresses)?;

    // The old address is anybody's, and a NIC that goes gives back its own.
    let heir = Vm::named("edited-heir").on(FIRST).with_address(&first.v4).without_grace();
    cluster.create(VM, heir.object()).await?;
    world.running("edited-heir").await?;
    let uid = world.running("edited").await?["metadata"]["uid"].clone();
    let one_nic = json!({"networks": [{"name": "default", "pod": {}}],
        "domain": {"devices": {"interfaces": [{"name": "default", "bridge": {}}]}}});
    cluster.merge(VM, "edited", json!({"spec": {"template": {"spec": one_nic}}})).await?;
    cluster.delete(VMI, "edited").await?;
    another_runs(world, "edited", &uid).await?;
    cluster.gone(IP, &second_port, SOON).await?;
    let ports = world.northbound().vm_ports().await?;
    ensure!(!ports.contains_key(&second_port), "a port is left");

    for vm in ["edited", "edited-heir"] {
        cluster.delete(VM, vm).await?;
        cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    Ok(())
}

pub(super) async fn a_mac_is_one_ports_in_its_vpc(world: &mut World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    let with_mac = |name: &str, mac: &str| Vm::named(name).on(FIRST).with_mac(mac).without_grace();
    cluster.create(VM, with_mac("mac-first", "02:00:00:00:78:01").object()).await?;
    world.running("mac-first").await?;
    cluster.create(VM, with_mac("mac-second", "02:00:00:00:78:01").object()).await?;
    says(cluster, VM, "mac-second", ("Failure", "True"), "is used by mac-first.default").await?;

    let gateway = eventually("the gateway's MAC", SOON, async || {
        let subnet = cluster.get(SUBNET, FIRST).await?;
        let said = subnet["status"]["gatewayMAC"].as_str();
        said.filter(|mac| !mac.is_empty()).map(str::to_owned).context("not said")
    })
    .await?;
    cluster.create(VM, with_mac("mac-gateway", &gateway).object()).await?;
    says(cluster, VM, "mac-gateway", ("Failure", "True"), "the gateway of subnet").await?;

    cluster.delete(VM, "mac-first").await?;
    world.running("mac-second").await?;
    for vm in ["mac-second", "mac-gateway"] {
        cluster.delete(VM, vm).await?;
    }
    cluster.gone(IP, &port_of("mac-second"), SOON).await
}

pub(super) async fn a_mac_is_one_ports_in_all_subnets_of_its_vpc_and_may_be_had_in_another(
    world: &mut World,
) -> anyhow::Result<()> {
    const NAMED: &str = "02:00:00:00:76:01";
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    cluster.create(VPC, vpc("mac-else")).await?;
    let subnets = [
        ("mac-a", "life", "10.76.0.0/25"),
        ("mac-b", "life", "10.76.0.128/25"),
        ("mac-c", "mac-else", "10.76.0.0/24"),
    ];
    for (name, vpc, cidr) in subnets {
        cluster.create(SUBNET, Subnet::named(name).in_vpc(vpc).of(cidr).object()).await?;
    }
    let vm = |name: &str, subnet: &str| Vm::named(name).on(subnet).without_grace();
    cluster.create(VM, vm("mac-named", "mac-a").with_mac(NAMED).object()).await?;
    cluster.create(VM, vm("mac-made", "mac-a").object()).await?;
    world.running("mac-named").await?;
    world.running("mac-made").await?;
    let made = world.place("mac-made").await?.mac;
    for (mac, holder) in [(NAMED, "mac-named"), (made.as_str(), "mac-made")] {
        // In the other subnet of the VPC it is refused, in the other VPC it is not.
        let (same_vpc, other_vpc) = (format!("{holder}-too"), format!("{holder}-else"));
        cluster.create(VM, vm(&same_vpc, "mac-b").with_mac(mac).object()).await?;
        let told = format!("is used by {holder}.default");
        says(cluster, VM, &same_vpc, ("Failure", "True"), &told).await?;
        cluster.create(VM, vm(&other_vpc, "mac-c").with_mac(mac).object()).await?;
        world.running(&other_vpc).await?;
        same("its MAC", world.place(&other_vpc).await?.mac.as_str(), mac)?;
        let ports = world.northbound().vm_ports().await?;
        let with_mac = |name: &str| {
            ports
                .get(name)
                .is_some_and(|port| port.addresses.iter().all(|one| one.starts_with(mac)))
        };
        ensure!(with_mac(&port_of(holder)) && with_mac(&port_of(&other_vpc)), "{ports:?}");
        ensure!(!ports.contains_key(&port_of(&same_vpc)), "a port with a MAC that is taken");
    }
    let mut names = Vec::new();
    for (at, subnet) in ["mac-a", "mac-b"].repeat(4).into_iter().enumerate() {
        names.push(format!("mac-many-{at}"));
        cluster.create(VM, vm(&names[at], subnet).object()).await?;
    }
    let mut macs = std::collections::BTreeSet::from([NAMED.to_owned(), made]);
    for name in &names {
        world.running(name).await?;
        let mac = world.place(name).await?.mac;
        ensure!(macs.insert(mac.clone()), "{mac} was made twice in one VPC");
    }
    let fixed = ["named", "made", "named-too", "made-too", "named-else", "made-else"];
    names.extend(fixed.map(|name| format!("mac-{name}")));
    for name in &names {
        cluster.delete(VM, name).await?;
    }
    for name in &names {
        cluster.gone(IP, &port_of(name), SOON).await?;
    }
    for (subnet, ..) in subnets {
        cluster.delete(SUBNET, subnet).await?;
        cluster.gone(SUBNET, subnet, SOON).await?;
    }
    cluster.delete(VPC, "mac-else").await
}

pub(super) async fn a_pool_gives_its_first_free_address_and_says_when_there_is_none(
    world: &mut World,
) -> anyhow::Result<()> {
    const POOL: &str = "ovn.kubernetes.io/ip_pool";
    make_subnets(&world.cluster).await?;
    for (name, address) in [("pool-a", "10.78.0.202"), ("pool-b", "10.78.0.201")] {
        let vm = Vm::named(name).on(FIRST).annotated(POOL, "10.78.0.202,10.78.0.201");
        world.cluster.create(VM, vm.without_grace().object()).await?;
        world.running(name).await?;
        same(name, world.place(name).await?.v4.as_str(), address)?;
    }
    let cluster = &world.cluster;
    let late = Vm::named("pool-c").on(FIRST).annotated(POOL, "10.78.0.201..10.78.0.202");
    cluster.create(VM, late.without_grace().object()).await?;
    says(cluster, VM, "pool-c", ("Failure", "True"), "none of its 2 entries is free").await?;
    cluster.delete(VM, "pool-b").await?;
    world.running("pool-c").await?;
    same("pool-c", world.place("pool-c").await?.v4.as_str(), "10.78.0.201")?;
    for vm in ["pool-a", "pool-c"] {
        world.cluster.delete(VM, vm).await?;
        world.cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    Ok(())
}

pub(super) async fn an_annotation_without_effect_is_named(world: &mut World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    let key = "ovn.kubernetes.io/security_groups";
    let vm = Vm::named("guarded").on(FIRST).annotated(key, "web").without_grace();
    cluster.create(VM, vm.object()).await?;
    world.running("guarded").await?;
    says(cluster, VM, "guarded", ("FieldsWithoutEffect", "True"), key).await?;
    cluster.delete(VM, "guarded").await?;
    cluster.gone(IP, &port_of("guarded"), SOON).await
}

pub(super) async fn a_vpc_places_the_vms_of_its_namespaces(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    make_subnets(cluster).await?;
    cluster.create(VM, Vm::named("placed").without_grace().object()).await?;
    says(cluster, VM, "placed", ("Failure", "True"), "has no subnet").await?;
    let bind = json!({"spec": {"namespaces": ["default"], "defaultSubnet": "life-not-there"}});
    cluster.merge(VPC, "life", bind).await?;
    says(cluster, VM, "placed", ("Failure", "True"), "spec.defaultSubnet of Vpc").await?;
    cluster.merge(VPC, "life", json!({"spec": {"defaultSubnet": FIRST}})).await?;
    world.running("placed").await?;
    let v4 = world.place("placed").await?.v4;
    ensure!(v4.starts_with("10.78.0."), "it is on another subnet: {v4}");

    // What runs stays where it is.
    let unbind = json!({"spec": {"namespaces": null, "defaultSubnet": null}});
    cluster.merge(VPC, "life", unbind).await?;
    world.running("placed").await?;
    same("the address", world.place("placed").await?.v4, v4)?;
    cluster.delete(VM, "placed").await?;
    cluster.gone(IP, &port_of("placed"), SOON).await
}
