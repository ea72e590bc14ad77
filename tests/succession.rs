//! A VM that takes the place of one that is being deleted: made while that one is still
//! there, under its address and MAC, it waits and then starts.

use std::time::Duration;

use anyhow::ensure;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};
use tests::kinds::{SUBNET, VIP, VM, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::World;
use tests::{eventually, same};

use super::schema_rules;

const SOON: Duration = Duration::from_secs(20);

pub(super) async fn a_successor_is_let_in_while_its_predecessor_goes(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("house")).await?;
    let line = Subnet::named("line").in_vpc("house").of("10.95.0.0/24");
    cluster.create(SUBNET, line.object()).await?;
    let vm = |name: &str| {
        Vm::named(name).on("line").with_address("10.95.0.5").with_mac("02:00:00:00:95:05")
    };
    cluster.create(VM, vm("elder").object()).await?;
    world.running("elder").await?;

    let heir: DynamicObject = serde_json::from_value(vm("heir").object())?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the server to know who has the address", SOON, async || {
        let answer = cluster.api(VM).create(&dry, &heir).await;
        let said = answer.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(said.contains("elder.default"), "{said:?}");
        Ok(())
    })
    .await?;

    // It goes, and stays for as long as somebody holds it.
    let held = json!({"metadata": {"finalizers": ["example.com/backup"]}});
    cluster.merge(VM, "elder", held).await?;
    cluster.delete(VM, "elder").await?;
    eventually("the server to know that it goes", SOON, async || {
        cluster.api(VM).create(&dry, &heir).await?;
        Ok(())
    })
    .await?;
    cluster.create(VM, vm("heir").object()).await?;
    let vip = json!({"subnet": "line", "v4ip": "10.95.0.5"});
    let vip = serde_json::from_value(schema_rules::object(VIP, "also", &vip))?;
    cluster.api(VIP).create(&dry, &vip).await?;
    ensure!(world.find_place("heir").await?.is_none(), "two have one address");

    cluster.merge(VM, "elder", json!({"metadata": {"finalizers": Value::Null}})).await?;
    world.running("heir").await?;
    let place = world.place("heir").await?;
    same("the address", place.v4.as_str(), "10.95.0.5")?;
    same("the MAC", place.mac.as_str(), "02:00:00:00:95:05")?;

    let cluster = &world.cluster;
    for (kind, name) in [(VM, "heir"), (SUBNET, "line"), (VPC, "house")] {
        cluster.delete(kind, name).await?;
        cluster.gone(kind, name, SOON).await?;
    }
    Ok(())
}
