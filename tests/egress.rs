//! VMs of the default VPC get out through a node, when their subnet says so, and not
//! otherwise.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Context, ensure};
use berth::lab::NodeLayout;
use serde_json::{Value, json};
use tests::kinds::{IP, NODE, SUBNET, VM};
use tests::namespace::inside;
use tests::objects::{Subnet, Vm};
use tests::world::{Part, World};
use tests::{eventually, same};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::admission::says;

const SOON: Duration = Duration::from_secs(40);

/// Somebody outside of every VPC: in the namespace between the nodes.
const OUTSIDE: &str = "100.127.0.1";
/// The same in the other family.
const OUTSIDE_V6: &str = "fd00:127::1";
const PORT: u16 = 7010;

/// One that tells who connects to it as whom it sees them.
async fn mirror(world: &World) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let listener = inside(&world.lab().layout().fabric(), || {
        let listener = std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })?;
    let listener = TcpListener::from_std(listener)?;
    Ok(tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            let _ = stream.write_all(format!("{}\n", peer.ip().to_canonical()).as_bytes()).await;
        }
    }))
}

/// As whom the guest of `vm` is seen at this address outside.
async fn seen_as(world: &World, vm: &str, outside: &str) -> anyhow::Result<String> {
    let mut guest = world.guest(vm).await?;
    guest.run(&format!("nc -w 3 {outside} {PORT} </dev/null")).await
}

/// Waits until the guest is seen as this node, in both families.
async fn goes_out_by(world: &World, vm: &str, node: &NodeLayout) -> anyhow::Result<()> {
    let (v4, v6) = (node.underlay().to_string(), node.underlay_v6().to_string());
    for (outside, address) in [(OUTSIDE, &v4), (OUTSIDE_V6, &v6)] {
        eventually(&format!("{vm} to be seen as {}", node.name), SOON, async || {
            same("address", &seen_as(world, vm, outside).await?, address)
        })
        .await?;
        world.ping(vm, outside).await?;
    }
    Ok(())
}

async fn does_not_get_out(world: &World, vm: &str) -> anyhow::Result<()> {
    let mut guest = world.guest(vm).await?;
    for outside in [OUTSIDE, OUTSIDE_V6] {
        let answer = guest.run(&format!("ping -c 2 -W 1 {outside}")).await;
        ensure!(answer.is_err(), "{vm} gets out: {answer:?}");
    }
    Ok(())
}

/// Waits until nothing of the way out is left on a node.
async fn is_clean(world: &World, node: &NodeLayout) -> anyhow::Result<()> {
    eventually(&format!("{} to have no part in it", node.name), SOON, async || {
        let links = world.lab().exec(node.number, &["ip", "-o", "link"]).await?;
        ensure!(!links.contains("ovn0"), "{links}");
        let tables = world.lab().exec(node.number, &["nft", "list", "tables"]).await?;
        ensure!(!tables.contains("berth"), "{tables}");
        Ok(())
    })
    .await
}

/// The annotations of a Node that tell of its place.
async fn place_of(world: &World, node: &str) -> anyhow::Result<BTreeSet<String>> {
    let node = world.cluster.get(NODE, node).await?;
    let notes = node["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    Ok(notes.into_iter().map(|(key, _)| key).filter(|key| key.starts_with("ovn.")).collect())
}

async fn policies(world: &World) -> anyhow::Result<Vec<(Value, Value)>> {
    let rows = world.northbound().rows("Logical_Router_Policy", "priority,match,nexthops").await?;
    let out = rows.into_iter().filter(|row| row["priority"] == 29_000);
    Ok(out.map(|row| (row["match"].clone(), row["nexthops"].clone())).collect())
}

async fn wants_out(world: &World, subnet: &str, spec: Value) -> anyhow::Result<()> {
    world.cluster.merge(SUBNET, subnet, json!({ "spec": spec })).await.map(drop)
}

pub(super) async fn each_node_has_a_place_while_a_subnet_wants_out(
    world: &mut World,
) -> anyhow::Result<()> {
    let nowhere = Subnet::named("nowhere").in_vpc("inland").of("10.233.0.0/24");
    world.cluster.create(tests::kinds::VPC, tests::objects::vpc("inland")).await?;
    let nowhere = nowhere.with("natOutgoing", json!(true));
    world.cluster.create(SUBNET, nowhere.object()).await?;
    let without = ("FieldsWithoutEffect", "True");
    says(&world.cluster, SUBNET, "nowhere", without, "there is a way out of the Vpc").await?;
    ensure!(world.cluster.find(SUBNET, "join").await?.is_none(), "nobody can go out");

    for (name, cidr) in [("out-a", "10.230.0.0/24"), ("out-b", "10.231.0.0/24,fd31::/64")] {
        let subnet = Subnet::named(name).of(cidr).with("natOutgoing", json!(true));
        world.cluster.create(SUBNET, subnet.object()).await?;
    }
    says(&world.cluster, SUBNET, "join", ("Ready", "True"), "").await?;
    for node in ["n1", "n2"] {
        eventually(&format!("{node} to be told of its place"), SOON, async || {
            same("notes", place_of(world, node).await?.len(), 7)
        })
        .await?;
        let ip = world.cluster.get(IP, &format!("node-{node}")).await?;
        same("its subnet", ip["spec"]["subnet"].as_str(), Some("join"))?;
    }
    eventually("one policy a node and family", SOON, async || {
        same("policies", policies(world).await?.len(), 4)
    })
    .await?;
    same("sets", world.northbound().count("Address_Set").await?, 2)?;

    let central = json!({ "gatewayType": "centralized", "gatewayNode": "n9" });
    wants_out(world, "out-a", central).await?;
    says(&world.cluster, SUBNET, "out-a", ("Error", "True"), "spec.gatewayNode is").await?;
    wants_out(world, "out-a", json!({ "gatewayNode": "n2" })).await?;
    says(&world.cluster, SUBNET, "out-a", ("Error", "False"), "").await?;
    eventually("a policy of its own", SOON, async || {
        let own = |(matches, _): &(Value, Value)| matches == "ip4.src == 10.230.0.0/24";
        ensure!(policies(world).await?.iter().any(own), "{:?}", policies(world).await?);
        Ok(())
    })
    .await?;

    // What somebody deletes by hand is made anew, at the same address.
    let before = world.cluster.get(IP, "node-n1").await?;
    world.cluster.delete(IP, "node-n1").await?;
    eventually("the IP object of n1 to be made anew", SOON, async || {
        let now = world.cluster.find(IP, "node-n1").await?.context("it is gone")?;
        ensure!(now["metadata"]["uid"] != before["metadata"]["uid"], "still the old one");
        same("address", &now["spec"]["ipAddress"], &before["spec"]["ipAddress"])
    })
    .await?;

    let killed = world.kill(Part::Controller)?;
    for name in ["out-a", "out-b"] {
        wants_out(world, name, json!({ "natOutgoing": false })).await?;
    }
    world.back(killed).await?;
    eventually("nothing of it to be left", SOON, async || {
        for node in ["n1", "n2"] {
            ensure!(place_of(world, node).await?.is_empty(), "{node} has a place");
            let ip = world.cluster.find(IP, &format!("node-{node}")).await?;
            ensure!(ip.is_none(), "{ip:?}");
        }
        same("policies", policies(world).await?, vec![])?;
        same("sets", world.northbound().count("Address_Set").await?, 0)?;
        let ports = world.northbound().vm_ports().await?;
        ensure!(!ports.keys().any(|port| port.starts_with("node-")), "{:?}", ports.keys());
        let join = world.cluster.get(SUBNET, "join").await?;
        ensure!(join["metadata"]["annotations"]["berth.io/routed-networks"].is_null(), "{join}");
        Ok(())
    })
    .await?;
    for subnet in ["out-a", "out-b", "nowhere", "join"] {
        world.cluster.delete(SUBNET, subnet).await?;
        world.cluster.gone(SUBNET, subnet, SOON).await?;
    }
    world.cluster.delete(tests::kinds::VPC, "inland").await
}

pub(super) async fn a_guest_is_seen_outside_as_its_node_while_its_subnet_wants_out(
    world: &mut World,
) -> anyhow::Result<()> {
    let [n1, n2] = [1, 2].map(|number| world.lab().layout().node(number));
    let out = Subnet::named("open-sea").of("10.221.0.0/24,fd21::/64");
    let out = out.with("natOutgoing", json!(true));
    world.cluster.create(SUBNET, out.object()).await?;
    let lake = Subnet::named("lake").of("10.222.0.0/24,fd22::/64");
    world.cluster.create(SUBNET, lake.object()).await?;
    let sailor = Vm::named("sailor").on("open-sea").pinned_to("n1");
    let angler = Vm::named("angler").on("lake").pinned_to("n2");
    for vm in [sailor, angler] {
        world.cluster.create(VM, vm.object()).await?;
    }
    for vm in ["sailor", "angler"] {
        world.running(vm).await?;
        world.guest_ready(vm, &world.place(vm).await?).await?;
    }
    let mirror = mirror(world).await?;
    goes_out_by(world, "sailor", &n1).await?;
    does_not_get_out(world, "angler").await?;
    // Within the VPC nothing is translated or led elsewhere.
    world.ping("angler", &world.place("sailor").await?.v4).await?;
    world.ping("angler", &world.place("sailor").await?.v6).await?;

    // With the agent away as well as after it.
    let killed = world.kill(Part::Agent(1))?;
    goes_out_by(world, "sailor", &n1).await?;
    world.back(killed).await?;
    goes_out_by(world, "sailor", &n1).await?;
    // The link goes with the daemon that has made it.
    let killed = world.kill(Part::Daemon(1, "vswitchd"))?;
    world.back(killed).await?;
    goes_out_by(world, "sailor", &n1).await?;
    // What somebody else removes comes back.
    world.lab().exec(1, &["nft", "delete", "table", "inet", "berth"]).await?;
    goes_out_by(world, "sailor", &n1).await?;

    let central = json!({ "gatewayType": "centralized", "gatewayNode": "n2" });
    wants_out(world, "open-sea", central).await?;
    goes_out_by(world, "sailor", &n2).await?;
    wants_out(world, "lake", json!({ "natOutgoing": true })).await?;
    goes_out_by(world, "angler", &n2).await?;

    // Nobody wants out, and an agent learns of it when it is back.
    let killed = world.kill(Part::Agent(1))?;
    for subnet in ["open-sea", "lake"] {
        wants_out(world, subnet, json!({ "natOutgoing": false })).await?;
    }
    world.back(killed).await?;
    is_clean(world, &n1).await?;
    is_clean(world, &n2).await?;
    does_not_get_out(world, "sailor").await?;
    world.ping("angler", &world.place("sailor").await?.v4).await?;

    let distributed = json!({ "natOutgoing": true, "gatewayType": "", "gatewayNode": "" });
    wants_out(world, "open-sea", distributed).await?;
    goes_out_by(world, "sailor", &n1).await?;
    does_not_get_out(world, "angler").await?;
    mirror.abort();
    Ok(())
}
