//! The wire between the nodes: a bridge in a namespace of its own, one veth to
//! each node. Made inside the namespaces, so nothing ever shows on the host.

use anyhow::Result;

use super::command::run;
use super::layout::{Layout, NodeLayout};
use super::namespace::{add, exec};

const BRIDGE: &str = "br0";
/// Of the bridge itself, in the same range as the nodes'.
const ADDRESS: &str = "100.127.0.1/24";
/// Prefix length of every address on the fabric.
pub(crate) const PREFIX: u8 = 24;

/// Makes the fabric's namespace and its bridge.
pub(crate) async fn lay(layout: &Layout) -> Result<()> {
    let fabric = layout.fabric();
    add(&fabric).await?;
    run(&["ip", "-n", &fabric, "link", "add", BRIDGE, "type", "bridge"]).await?;
    run(&["ip", "-n", &fabric, "addr", "add", ADDRESS, "dev", BRIDGE]).await?;
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
