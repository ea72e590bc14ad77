//! The processes of ours, and the API between them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crds::kubevirt::{InstancePhase, VirtualMachineInstance};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::Config;
use super::certificates::SEEN_AT;
use super::command::{owned, word};
use super::layout::{Layout, NodeLayout};
use super::node;
use super::process::Spec;

/// The subcommand, and the name of the first process of it.
pub(crate) const CONTROLLER: &str = "controller";

/// The flag by which a controller in a lab serves subresources, at any free port.
pub const SUBRESOURCES: &str = "--subresources-listen=127.0.0.1:0";

/// The flag by which it takes uploads, at any free port, which it tells clients.
pub const UPLOADS: &str = "--uploads-listen=127.0.0.1:0";

/// By this label an agent says that its node takes VMs.
const SCHEDULABLE: &str = "kubevirt.io/schedulable";

/// A client for the API that a kubeconfig describes.
///
/// # Errors
///
/// When the file cannot be read or used.
pub async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let config = configuration(kubeconfig).await?;
    Ok(kube::Client::try_from(config)?)
}

async fn configuration(kubeconfig: &Path) -> Result<kube::Config> {
    let file = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("cannot read the kubeconfig {}", kubeconfig.display()))?;
    Ok(kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
}

/// The port of the API on the host's loopback.
pub(crate) fn port(kubeconfig: &Path) -> Result<u16> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let server = file.clusters.first().and_then(|named| named.cluster.as_ref()?.server.clone());
    let server = server.with_context(|| format!("{} names no server", kubeconfig.display()))?;
    let authority =
        server.split("://").last().unwrap_or_default().split('/').next().unwrap_or_default();
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
    ensure!(
        matches!(host, "127.0.0.1" | "localhost"),
        "nodes reach an API on 127.0.0.1 only, not {server}"
    );
    port.parse().with_context(|| format!("{server} has no port"))
}

fn of_host(layout: &Layout, name: &str, words: Vec<String>) -> Spec {
    Spec {
        name: name.to_owned(),
        words,
        env: Vec::new(),
        log: layout.log(name),
        lab: layout.dir.clone(),
        prepare: None,
    }
}

/// The embedded API.
pub(crate) fn server(layout: &Layout, config: &Config, port: u16, reviews: bool) -> Spec {
    let mut words = owned([
        word(&config.binary),
        "apiserver",
        "--data-dir",
        word(&layout.api()),
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--admission",
        if reviews { "own" } else { "none" },
    ]);
    words.extend(config.ranges.iter().cloned());
    let kubeconfig = layout.api().join("kubeconfig");
    let mut spec = of_host(layout, "apiserver", words);
    spec.prepare = Some(Arc::new(move || {
        let kubeconfig = kubeconfig.clone();
        Box::pin(async move { serves(kubeconfig).await })
    }));
    spec
}

/// Waits until the API answers.
async fn serves(kubeconfig: PathBuf) -> Result<()> {
    let answered = async {
        loop {
            // The file may be of an earlier run until the server has started.
            if let Ok(client) = client(&kubeconfig).await
                && client.apiserver_version().await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, answered).await.context("the API does not answer")
}

/// The controllers, beside the API: `controller`, `controller-2`, ...
pub(crate) fn controllers(
    layout: &Layout,
    config: &Config,
    kubeconfig: &Path,
) -> impl Iterator<Item = Spec> {
    let name = |number| match number {
        1 => CONTROLLER.to_owned(),
        _ => format!("{CONTROLLER}-{number}"),
    };
    (1..=config.controllers)
        .map(move |number| controller(layout, config, kubeconfig, &name(number)))
}

fn controller(layout: &Layout, config: &Config, kubeconfig: &Path, name: &str) -> Spec {
    let nb = layout.northbound();
    let mut words = owned([
        word(&config.binary),
        CONTROLLER,
        "--kubeconfig",
        word(kubeconfig),
        "--ovn-nb",
        &nb,
    ]);
    words.extend(config.controller_args.iter().chain(&config.ranges).cloned());
    of_host(layout, name, words)
}

/// The agent of a node, in the node's namespace.
pub(crate) fn agent(
    layout: &Layout,
    config: &Config,
    node: &NodeLayout,
    kubeconfig: &Path,
) -> Spec {
    let mut words = owned([
        word(&config.binary),
        "agent",
        "--node",
        &node.name,
        "--kubeconfig",
        word(kubeconfig),
        "--libvirt-uri",
        &node.libvirt_uri(),
        "--ovsdb",
        &node.ovsdb(),
        "--state-dir",
        word(&node.state()),
        "--run-dir",
        word(&node.run()),
        "--image-dir",
        word(&config.image_dir),
        "--commands-listen",
        &format!("unix:{}", node.run().join("commands.sock").display()),
        "--host-disk-dir",
        word(&layout.host_disks()),
        "--local-volume-dir",
        word(&node.volumes()),
        "--swtpm-dir",
        word(&node.libvirt().join("lib/swtpm")),
    ]);
    if config.hypervisor {
        let address = node.underlay().to_string();
        words.extend(owned(["--migration-address", &address, "--migration-pki", SEEN_AT]));
    }
    words.extend(config.agent_args.iter().cloned());
    // /dev/kvm may open and yet be unable to run an ordinary kernel.
    if !config.agent_args.iter().any(|arg| arg.starts_with("--emulation")) {
        words.extend(owned(["--emulation", "software"]));
    }
    let mut spec = node::spec(layout, node, "agent", words);
    spec.env.clear();
    spec
}

/// Waits until every agent has registered its node.
pub(crate) async fn wait_for_nodes(
    client: &kube::Client,
    nodes: &[NodeLayout],
    limit: Duration,
) -> Result<()> {
    let api: kube::Api<Node> = kube::Api::all(client.clone());
    let registered = async |name: &str| {
        let labels = api.get_opt(name).await.ok().flatten().and_then(|node| node.metadata.labels);
        labels.is_some_and(|labels| labels.get(SCHEDULABLE).is_some_and(|value| value == "true"))
    };
    for node in nodes {
        let wait = async {
            while !registered(&node.name).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(limit, wait).await.is_err() {
            bail!(
                "the agent of {} has not registered its node within {} s",
                node.name,
                limit.as_secs()
            );
        }
    }
    Ok(())
}

/// Refuses to go on without a node that the data know: its VMs would wait for
/// ever, and new ones would be placed there.
pub(crate) async fn check_known_nodes(client: &kube::Client, nodes: &[NodeLayout]) -> Result<()> {
    let api: kube::Api<Node> = kube::Api::all(client.clone());
    for known in api.list(&ListParams::default()).await? {
        let name = known.metadata.name.unwrap_or_default();
        if !nodes.iter().any(|node| node.name == name) {
            bail!(
                "the data know the node {name}, which a lab of {} lacks: start it with more nodes, \
                 or with another data directory",
                nodes.len()
            );
        }
    }
    Ok(())
}

/// The uids of all instances whose status says `Running`; none where the API does
/// not know instances yet.
pub(crate) async fn running_instances(client: &kube::Client) -> Result<BTreeSet<String>> {
    let api: kube::Api<VirtualMachineInstance> = kube::Api::all(client.clone());
    let instances = match api.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(BTreeSet::new()),
        listed => listed?,
    };
    let running =
        instances.into_iter().filter(|instance| instance.phase() == InstancePhase::Running);
    Ok(running.filter_map(|instance| instance.uid()).collect())
}
