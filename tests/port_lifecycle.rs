//! A port from object to guest: addresses by DHCP, and traffic between nodes.
//!
//! `web` (fixed address, node n1) and `db` (dynamic address, node n2) are shared by all
//! scenarios that need guests; whoever comes first makes them.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tests::kinds::{SUBNET, VM, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{World, port_of};
use tests::{eventually, same};

const SOON: Duration = Duration::from_secs(30);

pub(super) const SUBNET_NAME: &str = "harbour";
const MTU: u32 = 1342;
const FIXED_V4: &str = "10.80.0.10";
const FIXED_V6: &str = "fd80::10";
const FIXED_MAC: &str = "02:00:00:80:00:10";

pub(super) async fn a_fixed_and_a_dynamic_address_reach_their_guests_by_dhcp(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    for vm in ["web", "db"] {
        world.running(vm).await?;
        guest_has_its_place(world, vm).await.with_context(|| format!("in {vm}"))?;
        dhcp_served_it(world, vm).await?;
    }
    let fixed = world.place("web").await?;
    same("the fixed IPv4 address", fixed.v4.as_str(), FIXED_V4)?;
    same("the fixed IPv6 address", fixed.v6.as_str(), FIXED_V6)?;
    same("the fixed MAC", fixed.mac.to_lowercase().as_str(), FIXED_MAC)?;
    ensure!(world.node_of("web").await?.name != world.node_of("db").await?.name, "one node");
    Ok(())
}

/// Makes the two VMs that the scenarios of this world share, unless they are there:
/// `web` with a fixed address on node n1, `db` with a dynamic one on n2.
pub(super) async fn web_and_db(world: &World) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    if cluster.find(VPC, "sea").await?.is_none() {
        cluster.create(VPC, vpc("sea")).await?;
        let subnet = Subnet::named(SUBNET_NAME)
            .in_vpc("sea")
            .of("10.80.0.0/24,fd80::/64")
            .with("mtu", json!(MTU));
        cluster.create(SUBNET, subnet.object()).await?;
        let web = Vm::named("web")
            .on(SUBNET_NAME)
            .with_address(&format!("{FIXED_V4},{FIXED_V6}"))
            .with_mac(FIXED_MAC)
            .pinned_to("n1");
        cluster.create(VM, web.object()).await?;
        cluster.create(VM, Vm::named("db").on(SUBNET_NAME).pinned_to("n2").object()).await?;
    }
    for vm in ["web", "db"] {
        world.running(vm).await?;
        world.guest_ready(vm, &world.place(vm).await?).await?;
    }
    Ok(())
}

/// The agent has acknowledged both leases since it started.
async fn dhcp_served_it(world: &World, vm: &str) -> anyhow::Result<()> {
    let node = world.node_of(vm).await?;
    eventually("the agent to have served both families", SOON, async || {
        let ports = world.agent_ports(&node).await?;
        let port = ports.iter().find(|port| port["port"] == port_of(vm)).context("no such port")?;
        ensure!(port["first_ack_v4"].is_string(), "no DHCPv4 yet: {port}");
        ensure!(port["first_ack_v6"].is_string(), "no DHCPv6 yet: {port}");
        Ok(())
    })
    .await
}

/// Object, logical port and guest say the same.
pub(super) async fn guest_has_its_place(world: &World, vm: &str) -> anyhow::Result<()> {
    let place = world.place(vm).await?;
    let ready = world.guest_ready(vm, &place).await?;
    same("hostname in the guest", ready.hostname.as_str(), vm)?;

    let port = world.northbound().vm_ports().await?.remove(&port_of(vm)).context("no port")?;
    for said in [&port.addresses, &port.port_security] {
        let said = said.iter().next().context("an empty set")?.to_lowercase();
        let words: Vec<&str> = said.split(' ').collect();
        ensure!(words[0] == place.mac.to_lowercase(), "{said}");
        ensure!(words[1..].contains(&place.v4.as_str()), "{said}");
        ensure!(words[1..].contains(&place.v6.as_str()), "{said}");
    }
    let mut guest = world.guest(vm).await?;
    let link = guest.run("cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu").await?;
    let link: Vec<&str> = link.split_whitespace().collect();
    same("MAC and MTU in the guest", link, vec![place.mac.to_lowercase(), MTU.to_string()])?;
    // Addresses of a lease have an end; written by hand they would not.
    let addresses = guest.run("ip -o addr show dev eth0 scope global").await?;
    for address in [format!("{}/24", place.v4), format!("{}/128", place.v6)] {
        let line = addresses.lines().find(|line| line.contains(&address));
        let line = line.with_context(|| format!("no {address} in\n{addresses}"))?;
        ensure!(!line.contains("valid_lft forever"), "not from a lease: {line}");
    }
    let route = guest.run("ip -4 route show default").await?;
    ensure!(route.contains("via 10.80.0.1 "), "{route}");
    let route = guest.run("ip -6 route show default").await?;
    // Learnt from an advertisement: one that is configured does not expire.
    ensure!(route.contains("via fe80::") && route.contains("expires"), "{route}");
    let on_link = guest.run("ip -6 route show fd80::/64").await?;
    ensure!(on_link.contains("dev eth0"), "the prefix is not on-link: {on_link:?}");
    Ok(())
}

pub(super) async fn the_instance_shows_its_interface(world: &mut World) -> anyhow::Result<()> {
    web_and_db(world).await?;
    for vm in ["web", "db"] {
        let place = world.place(vm).await?;
        let instance = world.running(vm).await?;
        let interfaces = &instance["status"]["interfaces"];
        same("interfaces", interfaces.as_array().map(Vec::len), Some(1))?;
        let shown = &interfaces[0];
        ensure!(shown["ipAddress"] == place.v4.as_str(), "{shown}");
        ensure!(shown["ipAddresses"] == json!([place.v4, place.v6]), "{shown}");
        same("MAC", shown["mac"].as_str().map(str::to_lowercase), Some(place.mac.to_lowercase()))?;
        let tap = net::names::tap(&port_of(vm));
        same("podInterfaceName", shown["podInterfaceName"].as_str(), Some(tap.as_str()))?;
        let links = world.links(&world.node_of(vm).await?).await?;
        ensure!(links.contains(&tap), "no {tap} among {links:?}");
        let text = world.cluster.kubectl_ok(&["get", "vmi", vm]).await?;
        ensure!(text.contains(&place.v4) && text.contains("Running"), "{text}");
    }
    Ok(())
}

pub(super) async fn guests_on_two_nodes_reach_each_other_over_both_families(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let (web, db) = (world.place("web").await?, world.place("db").await?);
    for (from, to) in [("web", &db), ("db", &web)] {
        world.ping(from, &to.v4).await?;
        world.ping(from, &to.v6).await?;
    }
    // The router answers too.
    world.ping("web", "10.80.0.1").await?;

    // Half a megabyte over TCP: full segments of the subnet's MTU, all intact.
    let mut server = world.guest("db").await?;
    server.run("mkdir -p /tmp/www && dd if=/dev/urandom of=/tmp/www/blob bs=1k count=512").await?;
    let wanted = server.run("md5sum </tmp/www/blob").await?;
    server.run("httpd -p 8080 -h /tmp/www").await?;
    let mut client = world.guest("web").await?;
    for host in [db.v4.clone(), format!("[{}]", db.v6)] {
        let fetch = format!("wget -q -O - http://{host}:8080/blob | md5sum");
        same(&format!("the file from {host}"), client.run(&fetch).await?, wanted.clone())?;
    }
    server.run("killall httpd").await?;
    Ok(())
}

pub(super) async fn a_guest_that_takes_another_address_is_not_heard(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let db = world.place("db").await?;
    let mut guest = world.guest("web").await?;
    guest.run("ip addr add 10.80.0.200/24 dev eth0").await?;
    let answered = guest.run(&format!("ping -c 2 -W 1 -I 10.80.0.200 {}", db.v4)).await;
    guest.run("ip addr del 10.80.0.200/24 dev eth0").await?;
    ensure!(answered.is_err(), "port security lets a stolen address through");
    drop(guest);
    world.ping("web", &db.v4).await.context("with its own address it is heard")
}
