//! A guest that is a router: the prefix that it is delegated leads to it, and to nobody else.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::eventually;
use tests::kinds::{IP, SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{World, port_of};

use super::admission::says;

const SOON: Duration = Duration::from_secs(30);

/// Asks for a prefix as well as for the address, and writes down which one it got.
const ASK: &str = "printf '#!/bin/sh\\n[ -z \"$new_ip6_prefix\" ] || echo \"$new_ip6_prefix\" >/tmp/prefix\\n' >/tmp/note; \
     chmod +x /tmp/note; kill -9 $(cat /run/dhclient6.eth0.pid); rm -f /run/dhclient6.eth0.pid; \
     dhclient -6 -1 -q -N -P -sf /tmp/note -lf /run/dhclient6.eth0.leases -pf /run/dhclient6.eth0.pid eth0; \
     cat /tmp/prefix";

/// The prefixes that lead to what is behind a port, each with the next hop.
async fn routes(world: &World, vm: &str) -> anyhow::Result<Vec<String>> {
    let columns = "ip_prefix,nexthop,external_ids";
    let rows = world.northbound().rows("Logical_Router_Static_Route", columns).await?;
    let of_vm =
        |row: &&BTreeMap<String, Value>| row["external_ids"].to_string().contains(&port_of(vm));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let routes = rows
        .iter()
        .filter(of_vm)
        .map(|row| format!("{} via {}", text(&row["ip_prefix"]), text(&row["nexthop"])));
    Ok(routes.collect())
}

async fn leads(world: &World, vm: &str, wanted: &[&str]) -> anyhow::Result<()> {
    eventually(&format!("{wanted:?} to lead to {vm}"), SOON, async || {
        let routes = routes(world, vm).await?;
        ensure!(routes == wanted, "{routes:?}");
        Ok(())
    })
    .await
}

pub(super) async fn a_guest_that_is_a_router_is_delegated_a_prefix_that_leads_to_it_as_long_as_it_has_its_address(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("behind")).await?;
    let delegation = json!({"cidrBlock": "fd8a::/48"});
    let inner = Subnet::named("behind-a").in_vpc("behind").of("10.188.0.0/24,fd89::/64");
    let outer = Subnet::named("behind-b").in_vpc("behind").of("10.189.0.0/24,fd8b::/64");
    cluster
        .create(SUBNET, inner.with("dhcpV6PrefixDelegation", delegation.clone()).object())
        .await?;
    cluster.create(SUBNET, outer.object()).await?;
    let gate = Vm::named("behind-gate").on("behind-a").with_address("10.188.0.7,fd89::7");
    cluster.create(VM, gate.without_grace().object()).await?;
    let asker = Vm::named("behind-ask").on("behind-b").with_address("10.189.0.8,fd8b::8");
    cluster.create(VM, asker.without_grace().object()).await?;
    for vm in ["behind-gate", "behind-ask"] {
        world.running(vm).await?;
        world.guest_ready(vm, &world.place(vm).await?).await?;
    }
    leads(world, "behind-gate", &["fd8a:0:0:7::/64 via fd89::7"]).await?;

    let mut guest = world.guest("behind-gate").await?;
    let prefix = guest.run(ASK).await.context("the guest asks for a prefix")?;
    ensure!(prefix.ends_with("fd8a:0:0:7::/64"), "it was delegated {prefix}");
    guest.run("ip -6 addr add fd8a:0:0:7::1/64 dev lo").await?;
    // There and back: what comes by the router reaches the guest, and it may answer from there.
    world.ping("behind-ask", "fd8a:0:0:7::1").await?;
    guest.run("ping -6 -c 1 -W 5 -I fd8a:0:0:7::1 fd8b::8").await?;
    let may_say = world.northbound().vm_ports().await?.remove(&port_of("behind-gate"));
    let may_say = may_say.context("its port")?.port_security;
    let line = may_say.iter().next().context("its port is guarded")?;
    ensure!(line.ends_with(" 10.188.0.7 fd89::7 fd8a:0:0:7::/64"), "it may say {line}");
    drop(guest);

    // Stopped, it keeps its address, and so what is behind it.
    cluster.merge(VM, "behind-gate", json!({"spec": {"runStrategy": "Halted"}})).await?;
    cluster.gone(VMI, "behind-gate", SOON).await?;
    leads(world, "behind-gate", &["fd8a:0:0:7::/64 via fd89::7"]).await?;

    // A pool that reaches only to lower addresses has none for it.
    let less = json!({"cidrBlock": "fd8a::/62", "prefixLength": 64});
    cluster.merge(SUBNET, "behind-a", json!({"spec": {"dhcpV6PrefixDelegation": less}})).await?;
    leads(world, "behind-gate", &[]).await?;
    cluster.merge(VM, "behind-gate", json!({"spec": {"runStrategy": "Always"}})).await?;
    world.running("behind-gate").await?;
    let invalid = ("InvalidDHCPOptions", "True");
    says(cluster, VM, "behind-gate", invalid, "no prefix goes with fd89::7").await?;
    cluster.merge(SUBNET, "behind-a", json!({"spec": {"dhcpV6PrefixDelegation": null}})).await?;
    cluster
        .merge(SUBNET, "behind-a", json!({"spec": {"dhcpV6PrefixDelegation": delegation}}))
        .await?;
    leads(world, "behind-gate", &["fd8a:0:0:7::/64 via fd89::7"]).await?;

    for vm in ["behind-gate", "behind-ask"] {
        cluster.delete(VM, vm).await?;
        cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    leads(world, "behind-gate", &[]).await?;
    for subnet in ["behind-a", "behind-b"] {
        cluster.delete(SUBNET, subnet).await?;
        cluster.gone(SUBNET, subnet, SOON).await?;
    }
    cluster.delete(VPC, "behind").await?;
    cluster.gone(VPC, "behind", SOON).await
}
