//! Numbers of addresses that no 64 bits hold: written as JSON numbers, as Kube-OVN does,
//! they are read back by whoever reads them, and nobody writes them again and again.

use std::time::Duration;

use anyhow::{Context, ensure};
use crds::kubeovn::{IpPool, Subnet as Typed};
use kube::Api;
use serde_json::json;
use tests::kinds::{POOL, SUBNET, VM, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::World;
use tests::{eventually, same};

use crate::admission::says;

const SOON: Duration = Duration::from_secs(30);

/// Subnet, network, and how many of its addresses are free while a VM has one: without the
/// router's, and the one that means the subnet's routers.
const LARGE: [(&str, &str, u128); 3] = [
    ("large-64", "fd64::/64", (1 << 64) - 3),
    ("large-56", "fd56::/56", (1 << 72) - 3),
    ("large-48", "10.217.0.0/24,fd48::/48", (1 << 80) - 3),
];

#[expect(clippy::cast_precision_loss, reason = "this is about what a double keeps")]
const fn double(count: u128) -> f64 {
    count as f64
}

/// As closely as a double can say it.
fn is_nearly(what: &str, seen: f64, wanted: u128) -> anyhow::Result<()> {
    let wanted = double(wanted);
    ensure!((seen / wanted - 1.0).abs() < 1e-15, "{what} is {seen}, not {wanted}");
    Ok(())
}

pub(super) async fn counts_beyond_64_bits_are_read_back_by_kubectl_and_by_the_typed_client(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("large")).await?;
    for (name, cidr, _) in LARGE {
        cluster.create(SUBNET, Subnet::named(name).in_vpc("large").of(cidr).object()).await?;
        let vm = Vm::named(&format!("on-{name}")).on(name).without_grace();
        cluster.create(VM, vm.object()).await?;
        world.running(&format!("on-{name}")).await?;
    }
    // One of a single family: the families are counted each by itself.
    let of_one = Vm::named("of-one-family").on("large-48").without_grace();
    let of_one = of_one.annotated("ovn.kubernetes.io/ip_family", "ipv4");
    cluster.create(VM, of_one.object()).await?;
    world.running("of-one-family").await?;
    let pool = json!({"apiVersion": "kubeovn.io/v1", "kind": "IPPool",
        "metadata": {"name": "large-pool"},
        "spec": {"subnet": "large-48", "ips": ["fd48:0:0:80::/57"]}});
    cluster.create(POOL, pool).await?;
    says(cluster, POOL, "large-pool", ("Ready", "True"), "").await?;

    let client = tests::cluster::client(cluster.kubeconfig()).await?;
    let subnets: Api<Typed> = Api::all(client.clone());
    for (name, _, free) in LARGE {
        // The pool's addresses are its own.
        let free = if name == "large-48" { free - (1 << 71) } else { free };
        eventually(&format!("the counts of {name}"), SOON, async || {
            let status = subnets.get(name).await?.status.context("no status")?;
            same("addresses in use", status.v6_using.0, 1)?;
            is_nearly("the typed client's", double(status.v6_available.0), free)
        })
        .await?;
        for path in ["{.status.v6availableIPs}", "{.status.v6usingIPs}"] {
            let output = ["get", "subnet", name, "-o", &format!("jsonpath={path}")];
            let said = cluster.kubectl_ok(&output).await?;
            let said: f64 = said.trim().parse().with_context(|| format!("{path} is {said:?}"))?;
            let wanted = if path.contains("using") { 1 } else { free };
            is_nearly(&format!("kubectl's {path}"), said, wanted)?;
        }
        let table = cluster.kubectl_ok(&["get", "subnet", name, "--no-headers"]).await?;
        let shown = table.split_whitespace().filter_map(|cell| cell.parse::<f64>().ok());
        let shown: Vec<f64> = shown.collect();
        ensure!(
            shown.iter().any(|cell| is_nearly("a cell", *cell, free).is_ok()),
            "kubectl shows {table:?}"
        );
    }
    eventually("the IPv4 counts of a subnet of both", SOON, async || {
        let status = subnets.get("large-48").await?.status.context("no status")?;
        same("in use and free", (status.v4_using.0, status.v4_available.0), (2, 251))
    })
    .await?;
    let pools: Api<IpPool> = Api::all(client);
    eventually("the counts of the pool", SOON, async || {
        let status = pools.get("large-pool").await?.status.context("no status")?;
        is_nearly("the typed client's", double(status.v6_available.0), 1 << 71)
    })
    .await?;

    // What people do with such an object works, and it is not written for its counts.
    cluster.kubectl_ok(&["annotate", "subnet", "large-48", "seen=yes"]).await?;
    let yaml = cluster.kubectl_ok(&["get", "subnet", "large-48", "-o", "yaml"]).await?;
    cluster.kubectl_with(&["replace", "-f", "-"], &yaml).await?;
    let version = async |name: &str| {
        anyhow::Ok(cluster.get(SUBNET, name).await?["metadata"]["resourceVersion"].clone())
    };
    let before = [version("large-64").await?, version("large-48").await?];
    let small = Subnet::named("large-not").in_vpc("large").of("10.218.0.0/24");
    cluster.create(SUBNET, small.object()).await?;
    says(cluster, SUBNET, "large-not", ("Ready", "True"), "").await?;
    let after = [version("large-64").await?, version("large-48").await?];
    same("the versions of the Subnets", after, before)?;
    let subnet = subnets.get("large-48").await?;
    same("an annotation", subnet.metadata.annotations.unwrap_or_default()["seen"].as_str(), "yes")?;

    cluster.delete(POOL, "large-pool").await?;
    cluster.delete(VM, "of-one-family").await?;
    for (name, ..) in LARGE {
        cluster.delete(VM, &format!("on-{name}")).await?;
    }
    for name in LARGE.map(|one| one.0).into_iter().chain(["large-not"]) {
        cluster.delete(SUBNET, name).await?;
        cluster.gone(SUBNET, name, SOON).await?;
    }
    cluster.delete(VPC, "large").await
}
