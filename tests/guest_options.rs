//! What guests are to be told, where it cannot be.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::eventually;
use tests::kinds::{Kind, SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::World;

use super::admission::says;

const SOON: Duration = Duration::from_secs(30);
const NET: &str = "told-net";
const INVALID: (&str, &str) = ("InvalidDHCPOptions", "True");

pub(super) async fn a_bad_option_is_named_where_it_is_written_and_stops_nobody(
    world: &mut World,
) -> anyhow::Result<()> {
    let cluster = &world.cluster;
    cluster.create(VPC, vpc("told")).await?;
    let subnet = Subnet::named(NET).in_vpc("told").of("10.88.0.0/24,fd88::/64");
    let options = "lease_time=600,dns=10.88.0.53";
    let subnet = subnet.with("dhcpV4Options", json!(options));
    cluster.create(SUBNET, subnet.with("ipv6RAConfigs", json!("mtu=12")).object()).await?;
    says(cluster, SUBNET, NET, ("Error", "True"), "write dns_server").await?;
    says(cluster, SUBNET, NET, ("Error", "True"), "spec.ipv6RAConfigs").await?;

    let key = "ovn.kubernetes.io/dhcp-v4-options";
    let vm = Vm::named("told").on(NET).annotated(key, "mtu=big,tcp_ttl=9").without_grace();
    let mut vm = vm.object();
    vm["spec"]["runStrategy"] = "Halted".into();
    let spec = &mut vm["spec"]["template"]["spec"];
    spec["networks"] = json!([{"name": "default", "pod": {}}]);
    spec["domain"]["devices"]["interfaces"] = json!([{
        "name": "default", "bridge": {},
        "dhcpOptions": {"bootFileName": "menu", "privateOptions": [{"option": 12, "value": "x"}]},
    }]);
    cluster.create(VM, vm).await?;
    // Before it starts, so that it need not be started to be mended.
    says(cluster, VM, "told", INVALID, "mtu=big").await?;
    says(cluster, VM, "told", INVALID, "write an option from 224 to 254").await?;
    cluster.merge(VM, "told", json!({"spec": {"runStrategy": "Always"}})).await?;
    world.running("told").await?;
    says(cluster, VMI, "told", INVALID, key).await?;
    says(cluster, VM, "told", INVALID, key).await?;
    unsaid(cluster, VM, "told", "FieldsWithoutEffect").await?;

    let good = json!({"spec": {"dhcpV4Options": "dns_server=10.88.0.53", "ipv6RAConfigs": ""}});
    cluster.merge(SUBNET, NET, good).await?;
    unsaid(cluster, SUBNET, NET, "Error").await?;
    cluster.delete(VM, "told").await?;
    cluster.gone(VMI, "told", SOON).await?;
    cluster.delete(SUBNET, NET).await?;
    cluster.gone(SUBNET, NET, SOON).await?;
    cluster.delete(VPC, "told").await?;
    cluster.gone(VPC, "told", SOON).await
}

/// Waits until no condition of this type is true.
async fn unsaid(cluster: &Cluster, kind: Kind, name: &str, what: &str) -> anyhow::Result<()> {
    eventually(&format!("{name} to say nothing of {what}"), SOON, async || {
        let object = cluster.get(kind, name).await?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let said = |one: &Value| one["type"] == what && one["status"] == "True";
        ensure!(!conditions.iter().any(said), "{}", object["status"]);
        Ok(())
    })
    .await
}
