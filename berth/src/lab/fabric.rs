//! The wire between the nodes: a bridge in a namespace of its own, one veth to
//! each node. Made inside the namespaces, so nothing ever shows on the host.

use anyhow::Result;

use super::command::run;
use super::layout::{Layout, NodeLayout};
use super::namespace::{add, exec, with_ipv6};

const BRIDGE: &str = "br0";
/// Of the bridge itself, in the same ranges as the nodes'.
const ADDRESSES: [&str; 2] = ["100.127.0.1/24", "fd00:127::1/64"];
/// Prefix length of every IPv4 address on the fabric.
pub(crate) const PREFIX: u8 = 24;
/// Prefix length of every IPv6 address on the fabric.
pub(crate) const PREFIX_V6: u8 = 64;

/// Makes the fabric's namespace and its bridge.
pub(crate) async fn lay(layout: &Layout) -> Result<()> {
    let fabric = layout.fabric();
    add(&fabric).await?;
    run(&["ip", "-n", &fabric, "link", "add", BRIDGE, "type", "bridge"]).await?;
    with_ipv6(&fabric, BRIDGE).await?;
    for address in ADDRESSES {
        // Nobody else is there to ask whether an address is taken.
        run(&["ip", "-n", &fabric, "addr", "add", address, "dev", BRIDGE, "nodad"]).await?;
    }
    run(&["ip", "-n", &fabric, "link", "set", BRIDGE, "up"]).await?;
    without_offload(&fabric, BRIDGE).await
}

/// Makes a node's namespace and plugs it in as `eth0`.
pub(crate) async fn plug(layout: &Layout, node: &NodeLayout) -> Result<()> {
    let fabric = layout.fabric();
    add(&node.namespace).await?;
    run(&[
        "ip",
        "-n",
        &fabric,
        "link",
        "add",
        &node.name,
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        &node.namespace,
    ])
    .await?;
    run(&["ip", "-n", &fabric, "link", "set", &node.name, "master", BRIDGE, "up"]).await?;
    run(&["ip", "-n", &node.namespace, "link", "set", "eth0", "up"]).await?;
    without_offload(&fabric, &node.name).await?;
    without_offload(&node.namespace, "eth0").await
}

/// Frames with partial checksums do not survive the userspace datapath: ping
/// would work and TCP time out.
async fn without_offload(namespace: &str, interface: &str) -> Result<()> {
    exec(namespace, &["ethtool", "-K", interface, "tx", "off"]).await.map(drop)
}
