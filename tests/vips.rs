//! Addresses that are nobody's own, and what a port may send beyond its own: so in
//! the rows of the northbound database.

use std::time::Duration;

use serde_json::json;
use tests::kinds::{SUBNET, VM, VPC};
use tests::northbound::Port;
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{World, port_of};
use tests::{eventually, same};

use crate::admission::says;

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
