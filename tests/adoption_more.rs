//! What else of Kube-OVN's is taken over as it is: Vips, pools, links between Vpcs, and
//! further NICs, those of an attachment used twice among them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::kinds::{IP, Kind, POOL, SUBNET, VIP, VM, VPC};
use tests::objects::Vm;
use tests::world::{World, port_of};
use tests::{eventually, same};

use crate::admission::says;
use crate::adoption::{FINALIZER, Row, row, write};

const SOON: Duration = Duration::from_secs(30);
const FIRST: &str = "shift-net";
const MORE: &str = "shift-more";
const NAD: &str = "shift-nad";
const PROVIDER: &str = "shift-nad.default.ovn";

/// Port, subnet, MAC and address of each NIC: of one VM that has a further one, and of
/// one that has two of the same attachment, which Kube-OVN names by the pod's interface.
fn nics() -> [(String, &'static str, &'static str, &'static str); 5] {
    let further = |vm: &str, provider: &str| net::names::port(vm, "default", provider);
    let in_pod = |network: &str| net::names::further_in_pod(PROVIDER, network);
    [
        (port_of("shift-nics"), FIRST, "a6:e4:96:00:00:01", "10.223.0.20"),
        (further("shift-nics", PROVIDER), MORE, "a6:e4:96:00:00:02", "10.224.0.20"),
        (port_of("shift-pair"), FIRST, "a6:e4:96:00:00:03", "10.223.0.21"),
        (further("shift-pair", &in_pod("one")), MORE, "a6:e4:96:00:00:04", "10.224.0.2"),
        (further("shift-pair", &in_pod("two")), MORE, "a6:e4:96:00:00:05", "10.224.0.3"),
    ]
}

fn rows() -> Vec<String> {
    let vendor = "external_ids:vendor=kube-ovn";
    let mut commands = Vec::new();
    for vpc in ["shift", "shift-far"] {
        commands.push(format!("lr-add|{vpc}"));
        commands.push(format!("set|Logical_Router|{vpc}|options:dynamic_neigh_routers=true|options:mac_binding_age_threshold=300|{vendor}"));
    }
    // Kube-OVN marks these with nothing.
    commands.extend([
        "lrp-add|shift|shift-shift-far|0e:f6:52:00:00:01|169.254.10.1/30|peer=shift-far-shift"
            .to_owned(),
        "lrp-add|shift-far|shift-far-shift|0e:f6:52:00:00:02|169.254.10.2/30|peer=shift-shift-far"
            .to_owned(),
    ]);
    for (subnet, mac, gateway) in [
        (FIRST, "0e:f6:52:00:00:03", "10.223.0.1/24"),
        (MORE, "0e:f6:52:00:00:04", "10.224.0.1/24"),
    ] {
        let (inner, outer) = (format!("{subnet}-shift"), format!("shift-{subnet}"));
        commands.extend([
            format!("ls-add|{subnet}"),
            format!("set|Logical_Switch|{subnet}|{vendor}"),
            format!("lrp-add|shift|{outer}|{mac}|{gateway}"),
            format!("set|Logical_Router_Port|{outer}|external_ids:lr=shift|{vendor}"),
            format!("lsp-add|{subnet}|{inner}"),
            format!("lsp-set-type|{inner}|router"),
            format!("lsp-set-addresses|{inner}|router"),
            format!("lsp-set-options|{inner}|router-port={outer}"),
            format!("set|Logical_Switch_Port|{inner}|external_ids:ls={subnet}|{vendor}"),
        ]);
    }
    for (port, subnet, mac, address) in nics() {
        let vm = port.split('.').next().unwrap_or_default().to_owned();
        commands.extend([
            format!("lsp-add|{subnet}|{port}"),
            format!("lsp-set-addresses|{port}|{mac} {address}"),
            format!("set|Logical_Switch_Port|{port}|external_ids:ls={subnet}|external_ids:pod=default/{vm}|{vendor}"),
        ]);
    }
    commands.extend([
        format!("lsp-add|{FIRST}|shift-vip"),
        "lsp-set-type|shift-vip|virtual".to_owned(),
        "lsp-set-options|shift-vip|virtual-ip=10.223.0.2".to_owned(),
        format!("set|Logical_Switch_Port|shift-vip|external_ids:ls={FIRST}|{vendor}"),
    ]);
    commands
}

/// The objects as Kube-OVN's controller leaves them.
async fn make_objects(world: &World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    let make = async |kind: Kind, name: &str, spec: Value| {
        let resource = kind.resource();
        let object = json!({"apiVersion": "kubeovn.io/v1", "kind": resource.kind,
            "metadata": {"name": name, "finalizers": [FINALIZER]}, "spec": spec});
        cluster.create(kind, object).await.map(drop)
    };
    for (vpc, remote, address) in
        [("shift", "shift-far", "169.254.10.1/30"), ("shift-far", "shift", "169.254.10.2/30")]
    {
        let peering = json!([{"remoteVpc": remote, "localConnectIP": address}]);
        make(VPC, vpc, json!({"vpcPeerings": peering, "namespaces": []})).await?;
    }
    for (subnet, cidr, gateway, provider) in [
        (FIRST, "10.223.0.0/24", "10.223.0.1", "ovn"),
        (MORE, "10.224.0.0/24", "10.224.0.1", PROVIDER),
    ] {
        let spec = json!({"vpc": "shift", "cidrBlock": cidr, "gateway": gateway,
            "protocol": "IPv4", "provider": provider, "excludeIps": [gateway],
            "gatewayType": "distributed", "enableLb": true});
        make(SUBNET, subnet, spec).await?;
    }
    make(VIP, "shift-vip", json!({"namespace": "default", "subnet": FIRST, "type": ""})).await?;
    let status = json!({"status": {"v4ip": "10.223.0.2", "v6ip": "", "mac": "a6:e4:96:00:00:09", "type": ""}});
    cluster.merge(VIP, "shift-vip", status).await?;
    let pool =
        json!({"subnet": FIRST, "ips": ["10.223.0.3..10.223.0.5"], "enableAddressSet": false});
    make(POOL, "shift-pool", pool).await?;
    for (port, subnet, mac, address) in nics() {
        let vm = port.split('.').next().unwrap_or_default();
        let spec = json!({"podName": vm, "namespace": "default", "subnet": subnet,
            "nodeName": "n9", "ipAddress": address, "v4IpAddress": address, "v6IpAddress": "",
            "macAddress": mac, "podType": "VirtualMachine", "attachIps": [], "attachMacs": [],
            "attachSubnets": [], "containerID": ""});
        make(IP, &port, spec).await?;
    }
    Ok(())
}

/// A VM with these networks of the attachment beside the pod's.
fn with_networks(name: &str, networks: &[&str]) -> Value {
    let mut vm = Vm::named(name).on(FIRST).without_grace().object();
    let spec = &mut vm["spec"]["template"]["spec"];
    for network in networks {
        let (network, interface) = (
            json!({"name": network, "multus": {"networkName": NAD}}),
            json!({"name": network, "bridge": {}}),
        );
        spec["networks"].as_array_mut().expect("a list").push(network);
        let interfaces = &mut spec["domain"]["devices"]["interfaces"];
        interfaces.as_array_mut().expect("a list").push(interface);
    }
    vm
}

/// Every NIC is where it was, in the same row, and there is no other.
async fn nics_are_kept(world: &World, before: &BTreeMap<String, Row>) -> anyhow::Result<()> {
    let wanted: BTreeSet<String> = nics().into_iter().map(|nic| nic.0).collect();
    eventually("each NIC to have its row and no other", SOON, async || {
        let ports = world.northbound().vm_ports().await?;
        let own = |port: &&String| port.starts_with("shift-nics") || port.starts_with("shift-pair");
        let there = ports.keys().filter(own);
        same("ports", there.cloned().collect::<BTreeSet<_>>(), wanted.clone())
    })
    .await?;
    for (port, subnet, mac, address) in nics() {
        let spec = world.cluster.get(IP, &port).await?["spec"].clone();
        let said = [&spec["subnet"], &spec["v4IpAddress"], &spec["macAddress"]];
        same(&port, said, [&json!(subnet), &json!(address), &json!(mac)])?;
        let now = row(world, "Logical_Switch_Port", &port).await?;
        for column in ["_uuid", "addresses"] {
            same(column, &now[column], &before[&port][column])?;
        }
        let ids = now["external_ids"].to_string();
        ensure!(ids.contains("berth") && !ids.contains("kube-ovn"), "{port}: {ids}");
        let vm = port.split('.').next().unwrap_or_default();
        let node = world.node_of(vm).await?;
        let served = world.agent_ports(&node).await?;
        let served = served.iter().find(|one| one["port"] == port.as_str());
        same(
            "its tap",
            &served.context("DHCP is not served")?["tap"],
            &json!(net::names::tap(&port)),
        )?;
    }
    Ok(())
}

pub(super) async fn vips_pools_links_and_further_nics_of_kube_ovn_are_taken_over(
    world: &mut World,
) -> anyhow::Result<()> {
    world.lab().stop("controller").await?;
    write(world, &rows()).await?;
    make_objects(world).await?;
    // It comes first and would get the first free address of each subnet.
    let new = with_networks("shift-new", &["more"]);
    world.cluster.create(VM, new).await?;
    world.cluster.create(VM, with_networks("shift-nics", &["more"])).await?;
    world.cluster.create(VM, with_networks("shift-pair", &["one", "two"])).await?;
    let pooled = Vm::named("shift-pooled").on(FIRST).without_grace();
    let pooled = pooled.annotated("ovn.kubernetes.io/ip_pool", "shift-pool");
    world.cluster.create(VM, pooled.object()).await?;
    let mut before = BTreeMap::new();
    for (port, ..) in nics() {
        before.insert(port.clone(), row(world, "Logical_Switch_Port", &port).await?);
    }
    let links = ["shift-shift-far", "shift-far-shift"];
    for link in links {
        before.insert(link.to_owned(), row(world, "Logical_Router_Port", link).await?);
    }
    before.insert("vip".to_owned(), row(world, "Logical_Switch_Port", "shift-vip").await?);

    world.lab().start("controller").await?;
    for vm in ["shift-new", "shift-nics", "shift-pair", "shift-pooled"] {
        world.running(vm).await?;
    }
    nics_are_kept(world, &before).await?;
    same("the new VM", world.place("shift-new").await?.v4.as_str(), "10.223.0.6")?;
    same("the pool's VM", world.place("shift-pooled").await?.v4.as_str(), "10.223.0.3")?;
    says(&world.cluster, POOL, "shift-pool", ("Ready", "True"), "").await?;
    let more = world.cluster.get(IP, &net::names::port("shift-new", "default", PROVIDER)).await?;
    same("its further NIC", &more["spec"]["v4IpAddress"], "10.224.0.4")?;

    says(&world.cluster, VIP, "shift-vip", ("Ready", "True"), "").await?;
    let status = world.cluster.get(VIP, "shift-vip").await?["status"].clone();
    let said = (&status["v4ip"], &status["mac"]);
    same("the Vip", said, (&json!("10.223.0.2"), &json!("a6:e4:96:00:00:09")))?;
    let now = row(world, "Logical_Switch_Port", "shift-vip").await?;
    for column in ["_uuid", "type", "options"] {
        same(column, &now[column], &before["vip"][column])?;
    }
    for link in links {
        let now = row(world, "Logical_Router_Port", link).await?;
        for column in ["_uuid", "mac", "networks"] {
            same(column, &now[column], &before[link][column])?;
        }
        ensure!(now["external_ids"].to_string().contains("berth"), "{link} is not ours");
    }
    for vpc in ["shift", "shift-far"] {
        says(&world.cluster, VPC, vpc, ("Error", "False"), "").await?;
    }

    // Over a stop, a start and a controller that begins anew it stays so.
    for vm in ["shift-nics", "shift-pair"] {
        crate::address_life::set_strategy(world, vm, "Halted").await?;
        world.cluster.gone(tests::kinds::VMI, vm, SOON).await?;
    }
    world.lab().stop("controller").await?;
    world.lab().start("controller").await?;
    for vm in ["shift-nics", "shift-pair"] {
        crate::address_life::set_strategy(world, vm, "Always").await?;
        world.running(vm).await?;
    }
    nics_are_kept(world, &before).await?;
    leave(world).await
}

async fn leave(world: &World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    for vm in ["shift-new", "shift-nics", "shift-pair", "shift-pooled"] {
        cluster.delete(VM, vm).await?;
    }
    for (port, ..) in nics() {
        cluster.gone(IP, &port, SOON).await?;
    }
    for (kind, name) in [(VIP, "shift-vip"), (POOL, "shift-pool")] {
        cluster.delete(kind, name).await?;
        cluster.gone(kind, name, SOON).await?;
    }
    for (kind, name) in [(SUBNET, FIRST), (SUBNET, MORE), (VPC, "shift"), (VPC, "shift-far")] {
        cluster.delete(kind, name).await?;
        cluster.gone(kind, name, SOON).await?;
    }
    let ports = world.northbound().names("Logical_Switch_Port").await?;
    ensure!(!ports.iter().any(|port| port.starts_with("shift-")), "ports are left: {ports:?}");
    Ok(())
}
