//! What there is on a node: domains, taps, files, and what its agent serves.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use berth::lab::NodeLayout;
use serde_json::Value;
use tokio::process::Command;

use super::outside::link_names;
use super::{REACH, World, port_of};
use crate::eventually;

impl World {
    /// Runs virsh against a node's libvirtd.
    ///
    /// # Errors
    /// When it fails; its stderr.
    pub async fn virsh(&self, node: &NodeLayout, args: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("virsh")
            .args(["-q", "-c", &node.libvirt_uri()])
            .args(args)
            .kill_on_drop(true)
            .output()
            .await?;
        if !output.status.success() {
            bail!("virsh {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What becomes of a frame of this flow (`ovs-ofctl`'s words) that comes from a tap,
    /// step by step; nothing is sent.
    ///
    /// # Errors
    /// When the tap is no port of the integration bridge.
    pub async fn traced(&self, node: &NodeLayout, tap: &str, flow: &str) -> anyhow::Result<String> {
        let db = format!("--db={}", node.ovsdb());
        let number = ["ovs-vsctl", "--timeout=10", &db, "get", "Interface", tap, "ofport"];
        let number = self.lab.exec(node.number, &number).await?;
        let daemon = node.ovs().join("vswitchd.ctl");
        let daemon = daemon.to_str().context("no UTF-8")?;
        let flow = format!("in_port={},{flow}", number.trim());
        let trace = ["ovs-appctl", "-t", daemon, "ofproto/trace", "br-int", &flow];
        self.lab.exec(node.number, &trace).await
    }

    /// The names of a node's domains, running or not.
    ///
    /// # Errors
    /// When libvirtd does not answer.
    pub async fn domains(&self, node: &NodeLayout) -> anyhow::Result<BTreeSet<String>> {
        let names = self.virsh(node, &["list", "--all", "--name"]).await?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }

    /// The names of the interfaces in a node's namespace.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub async fn links(&self, node: &NodeLayout) -> anyhow::Result<BTreeSet<String>> {
        Ok(link_names(&self.lab.exec(node.number, &["ip", "-o", "link"]).await?))
    }

    /// What an agent serves: its `GET /ports`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn agent_ports(&self, node: &NodeLayout) -> anyhow::Result<Vec<Value>> {
        Ok(serde_json::from_slice(&ask_agent(node, "ports").await?)?)
    }

    /// What an agent counts: its `GET /metrics`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn agent_metrics(&self, node: &NodeLayout) -> anyhow::Result<String> {
        Ok(String::from_utf8(ask_agent(node, "metrics").await?)?)
    }

    /// The files and sockets of VMs that a node keeps.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn vm_files(&self, node: &NodeLayout) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = vec![];
        for dir in [node.state().join("vms"), node.run()] {
            let entries = match std::fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            // A directory each; beside them are the agent's own sockets.
            found.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
        Ok(found)
    }

    /// Waits until a node keeps no file and no socket of a VM any more.
    ///
    /// # Errors
    /// When one of them is still there in the end.
    pub async fn no_files_of(&self, vm: &str, node: &NodeLayout) -> anyhow::Result<()> {
        let domain = net::names::domain("default", vm);
        eventually(&format!("no files of {vm}"), REACH, async || {
            let mut files = self.vm_files(node)?;
            files.retain(|path| path.to_string_lossy().contains(&domain));
            ensure!(files.is_empty(), "{files:?}");
            Ok(())
        })
        .await
    }

    /// Waits until a node has no domain, tap, DHCP binding of a VM any more.
    ///
    /// # Errors
    /// When one of them is still there in the end.
    pub async fn nothing_runs_of(&self, vm: &str, node: &NodeLayout) -> anyhow::Result<()> {
        let (port, domain) = (port_of(vm), net::names::domain("default", vm));
        let tap = net::names::tap(&port);
        eventually(&format!("nothing to run of {vm}"), REACH, async || {
            let domains = self.domains(node).await?;
            ensure!(!domains.contains(&domain), "its domain is among {domains:?}");
            let links = self.links(node).await?;
            ensure!(!links.contains(&tap), "its tap {tap} is among {links:?}");
            let ovs =
                ["ovs-vsctl", "--timeout=10", &format!("--db={}", node.ovsdb()), "list-ports"];
            let ports = self.lab.exec(node.number, &[&ovs[..], &["br-int"]].concat()).await?;
            ensure!(!ports.lines().any(|line| line == tap), "its tap is a port of br-int");
            let served = self.agent_ports(node).await?;
            ensure!(served.iter().all(|one| one["port"] != port), "DHCP is served: {served:?}");
            Ok(())
        })
        .await
    }

    /// The process id of a VM's QEMU.
    ///
    /// # Errors
    /// When there is none.
    pub async fn qemu(&self, vm: &str) -> anyhow::Result<i32> {
        let domain = net::names::domain("default", vm);
        let wanted = format!("guest={domain},");
        let node = self.node_of(vm).await?;
        let pids = self.lab.exec(node.number, &["ip", "netns", "pids", &node.namespace]).await?;
        pids.split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .find(|pid: &i32| {
                let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&words).contains(&wanted)
            })
            .with_context(|| format!("no QEMU of {domain} on {}", node.name))
    }
}

/// What an agent answers on its own socket.
async fn ask_agent(node: &NodeLayout, path: &str) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("curl")
        .args(["--silent", "--fail", "--max-time", "10", &format!("http://agent/{path}")])
        .arg("--unix-socket")
        .arg(node.admin())
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(output.status.success(), "the agent of {} does not answer", node.name);
    Ok(output.stdout)
}
