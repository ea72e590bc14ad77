//! What a Subnet says of the namespaces that it is for, and of its switch.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::kinds::{IP, NAMESPACE, SUBNET, VM, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{START, World, port_of};
use tests::{eventually, same};

use crate::admission::says;

const SOON: Duration = Duration::from_secs(30);
const LABEL: &str = "example.com/team";

/// Labels the namespace of all VMs; none takes the label off.
async fn label(world: &World, team: Option<&str>) -> anyhow::Result<()> {
    let labels = json!({"metadata": {"labels": {LABEL: team}}});
    world.cluster.merge(NAMESPACE, "default", labels).await
}

fn choosing(team: &str) -> Value {
    json!([{"matchLabels": {LABEL: team}}])
}

pub(super) async fn a_subnet_chooses_namespaces_by_their_labels(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("bound")).await?;
    for (name, cidr) in [("bound-red", "10.210.0.0/24"), ("bound-blue", "10.211.0.0/24")] {
        let team = name.trim_start_matches("bound-");
        let subnet = Subnet::named(name).in_vpc("bound").of(cidr);
        let subnet = subnet.with("namespaceSelectors", choosing(team));
        cluster.create(SUBNET, subnet.object()).await?;
    }
    cluster.create(VM, Vm::named("chosen").without_grace().object()).await?;
    says(cluster, VM, "chosen", ("Failure", "True"), "has no subnet").await?;
    label(world, Some("red")).await?;
    world.running("chosen").await?;
    let red = world.place("chosen").await?;
    ensure!(red.v4.starts_with("10.210.0."), "it is on another subnet: {}", red.v4);

    // A selector that cannot be is named, and what the other says goes on.
    let bad = json!({"matchExpressions": [{"key": LABEL, "operator": "Is"}]});
    let selectors = json!([bad, choosing("blue")[0]]);
    let patch = json!({"spec": {"namespaceSelectors": selectors}});
    cluster.merge(SUBNET, "bound-blue", patch).await?;
    let field = "spec.namespaceSelectors[0].matchExpressions[0].operator";
    says(cluster, SUBNET, "bound-blue", ("Error", "True"), field).await?;
    says(cluster, SUBNET, "bound-blue", ("Ready", "True"), "").await?;

    // A label moves who starts, not who runs.
    label(world, Some("blue")).await?;
    cluster.create(VM, Vm::named("later").without_grace().object()).await?;
    world.running("later").await?;
    let later = world.place("later").await?;
    ensure!(later.v4.starts_with("10.211.0."), "it is on another subnet: {}", later.v4);
    same("the place of who runs", world.place("chosen").await?, red)?;
    let strategy = |text: &str| json!({"spec": {"runStrategy": text}});
    cluster.merge(VM, "chosen", strategy("Halted")).await?;
    cluster.gone(tests::kinds::VMI, "chosen", SOON).await?;
    cluster.merge(VM, "chosen", strategy("Always")).await?;
    eventually("it to be on the other subnet", START, async || {
        let place = world.find_place("chosen").await?.context("it has a place")?;
        ensure!(place.v4.starts_with("10.211.0."), "it is on {}", place.v4);
        Ok(())
    })
    .await?;

    label(world, None).await?;
    for vm in ["chosen", "later"] {
        cluster.delete(VM, vm).await?;
        cluster.gone(IP, &port_of(vm), SOON).await?;
    }
    Ok(())
}

pub(super) async fn a_switch_that_snoops_asks_as_its_router(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("listening")).await?;
    let subnet = Subnet::named("listening-net").in_vpc("listening").of("10.212.0.0/24,fd12::/64");
    let subnet = subnet.with("enableMulticastSnoop", json!(true));
    cluster.create(SUBNET, subnet.object()).await?;
    let switch = async || {
        let rows = world.northbound().rows("Logical_Switch", "name,other_config").await?;
        let row = rows.into_iter().find(|row| row["name"] == "listening-net");
        anyhow::Ok(row.map(|row| row["other_config"].to_string()).unwrap_or_default())
    };
    let status = eventually("the querier", SOON, async || {
        let status = cluster.get(SUBNET, "listening-net").await?["status"].clone();
        same("its address", &status["mcastQuerierIP"], &json!("10.212.0.1"))?;
        same("its MAC", &status["mcastQuerierMAC"], &status["gatewayMAC"])?;
        Ok(status)
    })
    .await?;
    let mac = status["gatewayMAC"].as_str().context("the router has a MAC")?;
    let config = switch().await?;
    for said in ["[\"mcast_snoop\",\"true\"]", "[\"mcast_querier\",\"true\"]", "10.212.0.1", mac] {
        ensure!(config.contains(said), "the switch does not say {said}: {config}");
    }
    let off = json!({"spec": {"enableMulticastSnoop": false}});
    cluster.merge(SUBNET, "listening-net", off).await?;
    eventually("the querier to be gone", SOON, async || {
        let config = switch().await?;
        ensure!(!config.contains("mcast"), "the switch says {config}");
        let status = cluster.get(SUBNET, "listening-net").await?["status"].clone();
        same("its address", &status["mcastQuerierIP"], &json!(""))
    })
    .await
}
