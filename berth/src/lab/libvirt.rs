//! The node's libvirtd: its own directories and host name through a mount and a
//! UTS namespace, its guests, and their orderly end. Of the network it hears only those
//! whom the lab's authority knows. Its QEMU runs as who has no rights.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::central::wait_for_socket;
use super::certificates::{Authorities, SEEN_AT, SEEN_BY_QEMU};
use super::cgroups;
use super::command::{run, word};
use super::files::{private_dir, qemu};
use super::layout::{Layout, NodeLayout};
use super::node;
use super::process::Spec;

/// How long guests have to end by themselves when the lab ends.
const GUESTS_GRACE: Duration = Duration::from_secs(8);

/// Prepares the directories and says how to run the daemon.
pub(crate) fn libvirtd(
    layout: &Layout,
    node: &NodeLayout,
    authorities: &Authorities,
    in_groups: bool,
) -> Result<Spec> {
    let dir = node.libvirt();
    private_dir(&dir)?;
    for part in ["run", "etc/qemu", "lib", "log/qemu", "cache"] {
        fs::create_dir_all(dir.join(part))
            .with_context(|| format!("cannot make {}", dir.display()))?;
    }
    fs::write(dir.join("etc/libvirtd.conf"), daemon_conf(node))?;
    let given = in_groups && cgroups::are_there();
    let group = if given { cgroups::make(layout, node) } else { Ok(String::new()) };
    let group = group.unwrap_or_else(|error| {
        tracing::warn!(%error, "libvirt does without control groups");
        String::new()
    });
    let controllers = if group.is_empty() { &[][..] } else { &cgroups::CONTROLLERS[..] };
    fs::write(dir.join("etc/qemu.conf"), qemu_conf(node, controllers))?;
    authorities.give(node)?;

    let words = [
        "unshare",
        "--mount",
        "--uts",
        "sh",
        "-c",
        include_str!("libvirtd.sh"),
        "libvirtd",
        word(&node.dir),
        &node.name,
        &group,
    ];
    let words = words.iter().chain(controllers).map(|word| (*word).to_owned());
    let mut spec = node::spec(layout, node, "libvirtd", words);
    // It runs ovs-vsctl, which is to look in the private /run.
    spec.env.clear();
    let node = node.clone();
    spec.prepare = Some(Arc::new(move || {
        let node = node.clone();
        Box::pin(async move { answers(&node).await })
    }));
    Ok(spec)
}

/// The socket accepts before the drivers are up; a list of domains needs both.
async fn answers(node: &NodeLayout) -> Result<()> {
    wait_for_socket(&node.libvirt_socket()).await?;
    virsh(node, &["list", "--name"]).await?;
    // Asking QEMU what it can takes seconds. The answer is kept in the cache, so
    // ask before the first VM has to wait for it; whether it works does not matter.
    let node = node.clone();
    tokio::spawn(async move {
        virsh(&node, &["domcapabilities", "--virttype", "qemu", "--machine", "q35"]).await
    });
    Ok(())
}

fn daemon_conf(node: &NodeLayout) -> String {
    // A migration between daemons of one uuid is refused.
    let uuid = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, word(&node.dir).as_bytes());
    format!(
        "host_uuid = \"{uuid}\"\nauth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\n\
         unix_sock_group = \"root\"\nunix_sock_rw_perms = \"0700\"\nlog_outputs = \"2:stderr\"\n\
         listen_tls = 1\nlisten_tcp = 0\nlisten_addr = \"{address}\"\n\
         ca_file = \"{SEEN_AT}/cacert.pem\"\ncert_file = \"{SEEN_AT}/servercert.pem\"\n\
         key_file = \"{SEEN_AT}/serverkey.pem\"\n",
        address = node.underlay(),
    )
}

fn qemu_conf(node: &NodeLayout, controllers: &[&str]) -> String {
    let root = ("root".to_owned(), "root".to_owned());
    let (user, group) = qemu().map_or(root, |user| (user.name, format!("+{}", user.gid)));
    let controllers: Vec<String> =
        controllers.iter().map(|controller| format!("\"{controller}\"")).collect();
    let controllers = controllers.join(", ");
    // No other daemon keeps logs.
    format!(
        "stdio_handler = \"file\"\nsecurity_driver = \"none\"\n\
         cgroup_controllers = [ {controllers} ]\n\
         namespaces = [ ]\nremember_owner = 0\nuser = \"{user}\"\ngroup = \"{group}\"\n\
         seccomp_sandbox = 1\nswtpm_user = \"root\"\nswtpm_group = \"root\"\n\
         migration_address = \"{}\"\nmigrate_tls_x509_cert_dir = \"{SEEN_BY_QEMU}\"\n\
         migrate_tls_x509_verify = 1\n",
        node.underlay(),
    )
}

/// Asks every guest of the node to end, waits, and ends those that have not.
///
/// Their definitions and disks stay for the agent of the next run to judge.
pub(crate) async fn end_guests(node: &NodeLayout) -> Result<()> {
    let running = || async {
        let names = virsh(node, &["list", "--name"]).await?;
        anyhow::Ok(
            names.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>(),
        )
    };
    let guests = running().await?;
    for guest in &guests {
        // The guest may be ending by itself right now.
        let _ = virsh(node, &["shutdown", guest]).await;
    }
    let all_ended = async {
        while !running().await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    if guests.is_empty() || tokio::time::timeout(GUESTS_GRACE, all_ended).await.is_ok() {
        return Ok(());
    }
    for guest in running().await? {
        let _ = virsh(node, &["destroy", &guest]).await;
    }
    Ok(())
}

async fn virsh(node: &NodeLayout, words: &[&str]) -> Result<String> {
    let uri = node.libvirt_uri();
    let mut all = vec!["virsh", "-q", "-c", &uri];
    all.extend(words);
    run(&all).await
}
