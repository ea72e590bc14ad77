//! OVN's own processes die while VMs come and go: nothing is lost by it, and in the end the
//! southbound database has every port as the northbound one has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::kinds::{IP, SUBNET, VM, VMI, VPC};
use tests::objects::Vm;
use tests::objects::{Subnet, vpc};
use tests::world::{Part, Place, World, port_of};
use tests::{eventually, same};

const SOON: Duration = Duration::from_secs(60);
const NET: &str = "shaken-net";
const DAEMONS: [Part; 4] = [Part::Southbound, Part::Northd, Part::Northbound, Part::Southbound];

fn name(number: usize) -> String {
    format!("shaken-{number}")
}

async fn create(world: &World, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    for number in numbers {
        let vm = Vm::named(&name(number)).on(NET).without_grace();
        world.cluster.create(VM, vm.object()).await?;
    }
    Ok(())
}

pub(super) async fn every_port_is_right_after_databases_and_northd_died_amid_changes(
    world: &mut World,
) -> anyhow::Result<()> {
    world.cluster.create(VPC, vpc("shaken")).await?;
    let subnet = Subnet::named(NET).in_vpc("shaken").of("10.214.0.0/24,fd14::/64");
    world.cluster.create(SUBNET, subnet.object()).await?;
    create(world, 0..4).await?;
    let mut before = BTreeMap::new();
    for number in 0..4 {
        world.running(&name(number)).await?;
        before.insert(number, world.place(&name(number)).await?);
    }
    // One of them dies while some are made, another while some go.
    for (turn, part) in DAEMONS.into_iter().enumerate() {
        let made = 4 + turn * 4;
        create(world, made..made + 2).await?;
        let killed = world.kill(part)?;
        create(world, made + 2..made + 4).await?;
        world.cluster.delete(VM, &name(made)).await?;
        world.back(killed).await?;
        world.cluster.delete(VM, &name(made + 1)).await?;
    }
    let gone = |number: &usize| *number >= 4 && number % 4 < 2;
    let there: Vec<usize> = (0..4 + 4 * DAEMONS.len()).filter(|number| !gone(number)).collect();
    for number in (0..4 + 4 * DAEMONS.len()).filter(gone) {
        world.cluster.gone(IP, &port_of(&name(number)), SOON).await?;
    }
    let mut places = BTreeMap::new();
    for number in &there {
        world.running(&name(*number)).await?;
        places.insert(name(*number), world.place(&name(*number)).await?);
    }
    for (number, place) in before {
        same("a place that was there before", &places[&name(number)], &place)?;
    }
    every_port_is_right(world, &places).await?;

    for number in there {
        world.cluster.delete(VM, &name(number)).await?;
        world.cluster.gone(VMI, &name(number), SOON).await?;
        world.cluster.gone(IP, &port_of(&name(number)), SOON).await?;
    }
    every_port_is_right(world, &BTreeMap::new()).await?;
    world.cluster.delete(SUBNET, NET).await?;
    world.cluster.gone(SUBNET, NET, SOON).await?;
    world.cluster.delete(VPC, "shaken").await
}

/// Both databases have the ports of these VMs in our subnet, with these addresses.
async fn every_port_is_right(
    world: &World,
    places: &BTreeMap<String, Place>,
) -> anyhow::Result<()> {
    let addresses = |place: &Place| format!("{} {} {}", place.mac, place.v4, place.v6);
    let wanted: BTreeMap<String, String> =
        places.iter().map(|(vm, place)| (port_of(vm), addresses(place))).collect();
    let ours = |port: &str| port.starts_with("shaken-") && port.ends_with(".default");
    eventually("both databases to have every port", SOON, async || {
        let ports = world.northbound().vm_ports().await?;
        let mut seen = BTreeMap::new();
        for (name, port) in ports.into_iter().filter(|(name, _)| ours(name)) {
            ensure!(port.port_security == port.addresses, "{name} may send from {port:?}");
            seen.insert(name, port.addresses.into_iter().collect::<String>());
        }
        same("the northbound ports", &seen, &wanted)?;
        let rows = world.southbound().rows("Port_Binding", "logical_port,mac,datapath").await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let bindings: BTreeMap<String, String> = rows
            .iter()
            .map(|row| (text(&row["logical_port"]), text(&row["mac"])))
            .filter(|(port, _)| ours(port))
            .collect();
        same("the southbound ports", &bindings, &wanted)?;
        let datapaths: BTreeSet<String> = rows
            .iter()
            .filter(|row| ours(&text(&row["logical_port"])))
            .map(|row| row["datapath"].to_string())
            .collect();
        same("their switches", datapaths.len(), usize::from(!wanted.is_empty()))?;
        let paths = world.southbound().rows("Datapath_Binding", "external_ids").await?;
        let of_net = paths.iter().filter(|row| row["external_ids"].to_string().contains(NET));
        same("datapaths of the subnet", of_net.count(), 1)
    })
    .await
    .context("after OVN's processes died")
}
