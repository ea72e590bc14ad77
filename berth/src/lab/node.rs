//! One node: Open vSwitch with the userspace datapath, ovn-controller, libvirtd
//! and the agent, in a namespace of its own.
//!
//! ```text
//! eth0 (veth to the fabric) -- br-ex: the node's address
//!                              br-int: guests' taps, geneve to the other nodes
//! ```

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::central::{READY, answers, create_database, in_namespace, rundir};
use super::certificates::Authorities;
use super::command::{run, word};
use super::fabric;
use super::files::{passable_dir, private_dir};
use super::layout::{Layout, NodeLayout};
use super::libvirt;
use super::namespace::with_ipv6;
use super::news::News;
use super::process::{Process, Spec};

/// Brings a node up to the point where its agent can start.
pub(crate) async fn start(
    layout: &Layout,
    node: &NodeLayout,
    authorities: Option<&Authorities>,
    in_groups: bool,
    news: &News,
) -> Result<Vec<Process>> {
    fabric::plug(layout, node).await?;
    passable_dir(&node.dir)?;
    for dir in [&node.ovs(), &node.state(), &node.run()] {
        private_dir(dir)?;
    }
    // What Open vSwitch holds is derived: bridges from here, tunnels from OVN,
    // taps from libvirt. A fresh database has no ports of guests long gone.
    let database = node.ovs().join("conf.db");
    let _ = std::fs::remove_file(&database);
    create_database(&database, "/usr/share/openvswitch/vswitch.ovsschema").await?;

    let ovsdb = Process::start(ovsdb(layout, node, &database), news);
    ovsdb.ready(READY).await?;
    describe(layout, node).await?;
    let vswitchd = Process::start(vswitchd(layout, node), news);
    vswitchd.ready(READY).await?;
    let controller = Process::start(ovn_controller(layout, node), news);
    let mut processes = vec![ovsdb, vswitchd, controller];
    if let Some(authorities) = authorities {
        let libvirtd =
            Process::start(libvirt::libvirtd(layout, node, authorities, in_groups)?, news);
        libvirtd.ready(READY).await?;
        processes.push(libvirtd);
    }
    Ok(processes)
}

/// What OVN calls the node. Not as the node is called, since a host's identity seldom is:
/// a port is bound by the host's name.
fn chassis(node: &str) -> String {
    format!("chassis-of-{node}")
}

/// Writes who this node is where ovn-controller reads it.
async fn describe(layout: &Layout, node: &NodeLayout) -> Result<()> {
    let name = &node.name;
    let ids = [
        format!("external-ids:system-id={}", chassis(name)),
        format!("external-ids:hostname={name}"),
        format!("external-ids:ovn-remote={}", layout.southbound()),
        "external-ids:ovn-encap-type=geneve".to_owned(),
        format!("external-ids:ovn-encap-ip={}", node.underlay()),
        "external-ids:ovn-bridge-datapath-type=netdev".to_owned(),
    ];
    let db = format!("--db={}", node.ovsdb());
    let mut words = vec!["ovs-vsctl", &db, "--no-wait", "set", "open_vswitch", "."];
    words.extend(ids.iter().map(String::as_str));
    run(&words).await.map(drop)
}

fn ovsdb(layout: &Layout, node: &NodeLayout, database: &Path) -> Spec {
    let dir = node.ovs();
    let socket = dir.join("db.sock");
    let words = [
        "ovsdb-server".to_owned(),
        format!("--remote=punix:{}", socket.display()),
        format!("--unixctl={}", dir.join("ovsdb.ctl").display()),
        format!("--pidfile={}", dir.join("ovsdb.pid").display()),
        "-vsyslog:off".to_owned(),
        "-vfile:off".to_owned(),
        "-vconsole:info".to_owned(),
        word(database).to_owned(),
    ];
    let mut spec = spec(layout, node, "ovsdb", words);
    spec.prepare = Some(answers(socket));
    spec
}

fn vswitchd(layout: &Layout, node: &NodeLayout) -> Spec {
    let dir = node.ovs();
    let words = [
        "ovs-vswitchd".to_owned(),
        format!("--unixctl={}", dir.join("vswitchd.ctl").display()),
        format!("--pidfile={}", dir.join("vswitchd.pid").display()),
        "-vsyslog:off".to_owned(),
        "-vfile:off".to_owned(),
        "-vconsole:info".to_owned(),
        node.ovsdb(),
    ];
    let mut spec = spec(layout, node, "vswitchd", words);
    let node = node.clone();
    spec.prepare = Some(Arc::new(move || {
        let node = node.clone();
        Box::pin(async move { wire(&node).await })
    }));
    spec
}

/// Makes the bridges, and gives br-ex the node's address. With the userspace
/// datapath the bridge interfaces live and die with ovs-vswitchd, so this runs
/// after every start of it.
async fn wire(node: &NodeLayout) -> Result<()> {
    let db = format!("--db={}", node.ovsdb());
    run(&[
        "ovs-vsctl",
        &db,
        "--timeout=15",
        "--",
        "--may-exist",
        "add-br",
        "br-ex",
        "--",
        "set",
        "bridge",
        "br-ex",
        "datapath_type=netdev",
        "fail-mode=standalone",
        "--",
        "--may-exist",
        "add-port",
        "br-ex",
        "eth0",
        "--",
        "--may-exist",
        "add-br",
        "br-int",
        "--",
        "set",
        "bridge",
        "br-int",
        "datapath_type=netdev",
        "fail-mode=secure",
        "other-config:disable-in-band=true",
    ])
    .await?;
    with_ipv6(&node.namespace, "br-ex").await?;
    let v4 = format!("{}/{}", node.underlay(), fabric::PREFIX);
    let v6 = format!("{}/{}", node.underlay_v6(), fabric::PREFIX_V6);
    for address in [v4, v6] {
        let replace = ["ip", "-n", &node.namespace, "addr", "replace", &address, "dev", "br-ex"];
        run(&[&replace[..], &["nodad"]].concat()).await?;
    }
    for bridge in ["br-ex", "br-int"] {
        run(&["ip", "-n", &node.namespace, "link", "set", bridge, "up"]).await?;
    }
    Ok(())
}

fn ovn_controller(layout: &Layout, node: &NodeLayout) -> Spec {
    let dir = node.ovs();
    let words = [
        "ovn-controller".to_owned(),
        format!("--pidfile={}", dir.join("ovn-controller.pid").display()),
        "-vsyslog:off".to_owned(),
        "-vfile:off".to_owned(),
        "-vconsole:info".to_owned(),
        node.ovsdb(),
    ];
    let mut spec = spec(layout, node, "ovn-controller", words);
    let (southbound, name) = (layout.southbound(), node.name.clone());
    spec.prepare = Some(Arc::new(move || {
        let (southbound, name) = (southbound.clone(), name.clone());
        Box::pin(async move { is_a_chassis(&southbound, &name).await })
    }));
    spec
}

/// Waits until OVN knows the node, and with it the way into its tunnels.
async fn is_a_chassis(southbound: &str, name: &str) -> Result<()> {
    let limit = format!("--timeout={}", READY.as_secs());
    run(&[
        "ovn-sbctl",
        &format!("--db={southbound}"),
        &limit,
        "wait-until",
        "chassis",
        &chassis(name),
    ])
    .await
    .map(drop)
}

/// A process of the node: in its namespace, with its directory and its log.
pub(crate) fn spec(
    layout: &Layout,
    node: &NodeLayout,
    what: &str,
    words: impl IntoIterator<Item = String>,
) -> Spec {
    let name = node.process(what);
    Spec {
        words: in_namespace(&node.namespace, words),
        env: rundir(&node.ovs()),
        log: layout.log(&name),
        lab: layout.dir.clone(),
        prepare: None,
        name,
    }
}
