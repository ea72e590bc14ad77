//! The Node object and its lease: how the cluster knows this node.
//!
//! Where a kubelet runs, the Node is its; only our labels are added. Where none
//! does, the Node is made here, with a status that says it is ready, and is kept
//! so by its lease, as a kubelet's would be. One that somebody deletes is made again for
//! as long as the agent lives: guests run here.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::control_groups::Lacking;
use crate::processors;
use crds::kubevirt::{
    CPU_MANAGER_LABEL, DEDICATED_CPUS, LACKS_CONTROL_GROUPS, REALTIME_LABEL, SCHEDULABLE_LABEL,
};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// How often the lease is renewed.
const RENEW_PERIOD: Duration = Duration::from_secs(10);

/// After how many seconds without renewal the node counts as lost.
const LEASE_SECONDS: i32 = 40;

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(8);

const LEASE_NAMESPACE: &str = "kube-node-lease";
const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";

/// Says in a Node's annotations that no kubelet keeps its status.
const MADE_HERE: &str = "berth.io/registered-by-agent";

/// An annotation and its value; none, if it is not to be there.
pub type Note = (&'static str, Option<String>);

/// What a node has for guests, where no kubelet says it.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    cpus: usize,
    memory_kib: u64,
    /// Processors that guests may have to themselves; the others do not count them.
    dedicated: usize,
    /// Huge pages by [`PAGES`].
    pages: [u64; 2],
}

/// Huge pages as Kubernetes calls them, and as the kernel does: the size in KiB.
const PAGES: [(&str, u64); 2] = [("hugepages-2Mi", 2048), ("hugepages-1Gi", 1 << 20)];

impl Capacity {
    /// What this host has.
    #[must_use]
    pub fn of_host() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let pages = PAGES.map(|(_, kib)| {
            let path = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages");
            std::fs::read_to_string(path)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0)
        });
        // What is set aside for them is no memory for anything else.
        let in_pages: u64 = PAGES.iter().zip(pages).map(|((_, kib), count)| kib * count).sum();
        let memory_kib = memory_kib().saturating_sub(in_pages);
        Self { cpus, memory_kib, dedicated: 0, pages }
    }

    /// The same with so many processors set aside for guests to have to themselves.
    #[must_use]
    pub const fn setting_aside(self, dedicated: usize) -> Self {
        Self { cpus: self.cpus.saturating_sub(dedicated), dedicated, ..self }
    }

    /// Room for all guests that are only written down.
    #[must_use]
    pub const fn boundless() -> Self {
        Self { cpus: 100_000, memory_kib: 1 << 38, dedicated: 0, pages: [0; 2] }
    }
}

/// What a Node says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// What it says of this agent in annotations, and what it is not to say.
    pub notes: [Note; 3],
    /// What it has.
    pub capacity: Capacity,
    /// Where libvirt says what its processors are, if that is to be told.
    pub processors: Option<String>,
    /// By what libvirt cannot limit guests.
    pub lacking: Lacking,
}

/// Registers the node, then renews its lease until told to stop.
///
/// An API that is away is asked again at the next renewal; nothing else waits.
pub async fn keep_alive(client: Client, node: String, about: About, shutdown: CancellationToken) {
    let (mut registered, mut labelled) = (false, false);
    let mut lacks = None;
    let mut timer = tokio::time::interval(RENEW_PERIOD);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut soon = Duration::from_millis(250);
    loop {
        let round = async {
            if registered && !exists(&client, &node).await? {
                tracing::warn!(node, "The Node was deleted, though its agent runs");
                registered = false;
            }
            if !registered {
                register(&client, &node, &about).await?;
                (registered, labelled, lacks) = (true, false, None);
                tracing::info!(node, "The node is registered");
            }
            if let Some(uri) = about.processors.as_ref().filter(|_| !labelled) {
                match processors::labels(uri).await {
                    Ok(labels) => {
                        label(&client, &node, labels).await?;
                        labelled = true;
                    }
                    Err(error) => {
                        tracing::warn!(node, %error, "It is not known what its processors are; asking again")
                    }
                }
            }
            let now = about.lacking.note();
            if lacks.as_ref() != Some(&now) {
                annotate(&client, &node, &[(LACKS_CONTROL_GROUPS, now.clone())]).await?;
                lacks = Some(now);
            }
            renew(&client, &node).await
        };
        let outcome = tokio::time::timeout(CALL_LIMIT, round).await;
        let failed = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the API does not answer".to_owned()),
        };
        let again = async {
            match &failed {
                None => {
                    timer.tick().await;
                }
                Some(_) => tokio::time::sleep(soon).await,
            }
        };
        if let Some(error) = &failed {
            tracing::warn!(node, error, "The node cannot be kept registered");
        }
        tokio::select! {
            () = again => {}
            () = shutdown.cancelled() => return,
        }
        soon = if failed.is_some() {
            (soon * 2).min(RENEW_PERIOD)
        } else {
            Duration::from_millis(250)
        };
    }
}

async fn exists(client: &Client, name: &str) -> Result<bool, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    Ok(nodes.get_metadata_opt(name).await?.is_some())
}

/// Makes the Node, or adds what is ours to the one that is there.
async fn register(client: &Client, name: &str, about: &About) -> Result<(), kube::Error> {
    let notes = &about.notes;
    let nodes: Api<Node> = Api::all(client.clone());
    let is_true = |is: bool| is.to_string();
    let labels = BTreeMap::from([
        (SCHEDULABLE_LABEL.to_owned(), "true".to_owned()),
        (CPU_MANAGER_LABEL.to_owned(), is_true(about.capacity.dedicated > 0)),
        (REALTIME_LABEL.to_owned(), is_true(is_realtime())),
        (HOSTNAME_LABEL.to_owned(), name.to_owned()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), "amd64".to_owned()),
    ]);
    let found = match nodes.get_opt(name).await? {
        Some(node) => node,
        None => {
            let annotations = BTreeMap::from([(MADE_HERE.to_owned(), "true".to_owned())]);
            let metadata = ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(labels.clone()),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            };
            let node = Node { metadata, ..Node::default() };
            match nodes.create(&PostParams::default(), &node).await {
                Err(error) if is_conflict(&error) => nodes.get(name).await?,
                created => created?,
            }
        }
    };
    if !labels.iter().all(|(key, value)| found.labels().get(key) == Some(value)) {
        let patch = json!({ "metadata": { "labels": labels } });
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    if notes.iter().any(|(key, value)| found.annotations().get(*key) != value.as_ref()) {
        annotate(client, name, notes).await?;
    }
    let status = if found.annotations().contains_key(MADE_HERE) {
        status(name, about.capacity)
    } else if about.capacity.dedicated > 0 || has_dedicated(&found) {
        // A kubelet leaves what it does not know, and has it in `allocatable`, too.
        json!({ "capacity": { DEDICATED_CPUS: about.capacity.dedicated.to_string() } })
    } else {
        return Ok(());
    };
    let status = Patch::Merge(json!({ "status": status }));
    nodes.patch_status(name, &PatchParams::default(), &status).await.map(drop)
}

fn has_dedicated(node: &Node) -> bool {
    let capacity = node.status.as_ref().and_then(|status| status.capacity.as_ref());
    capacity.is_some_and(|all| all.contains_key(DEDICATED_CPUS))
}

async fn annotate(client: &Client, name: &str, notes: &[Note]) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let notes: BTreeMap<_, _> = notes.iter().cloned().collect();
    let patch = json!({ "metadata": { "annotations": notes } });
    nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// Whether nothing takes a processor from a process that wants it for as long as it likes.
fn is_realtime() -> bool {
    let limit = std::fs::read_to_string("/proc/sys/kernel/sched_rt_runtime_us");
    limit.is_ok_and(|limit| limit.trim() == "-1")
}

/// Has the Node say these of its processors, and nothing that it said before.
async fn label(
    client: &Client,
    name: &str,
    labels: BTreeMap<String, String>,
) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let found = nodes.get(name).await?;
    let is_ours = |key: &&String| processors::PREFIXES.iter().any(|one| key.starts_with(one));
    let old = found.labels().keys().filter(is_ours).filter(|key| !labels.contains_key(*key));
    let mut news: BTreeMap<_, _> = old.map(|key| (key.clone(), None)).collect();
    let new = labels.into_iter().filter(|(key, value)| found.labels().get(key) != Some(value));
    news.extend(new.map(|(key, value)| (key, Some(value))));
    if news.is_empty() {
        return Ok(());
    }
    let patch = json!({ "metadata": { "labels": news } });
    nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// A status as a kubelet's, as far as it is about VMs.
fn status(name: &str, capacity: Capacity) -> serde_json::Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let pages = PAGES.iter().zip(capacity.pages);
    let pages = pages.map(|((name, kib), count)| (*name, format!("{}Ki", kib * count)));
    let mut all: BTreeMap<&str, String> = pages.collect();
    all.extend([
        ("cpu", capacity.cpus.to_string()),
        (DEDICATED_CPUS, capacity.dedicated.to_string()),
        ("memory", format!("{}Ki", capacity.memory_kib)),
        ("pods", "0".to_owned()),
        ("devices.kubevirt.io/kvm", "1000".to_owned()),
    ]);
    let capacity = all;
    json!({
        "addresses": [{ "type": "Hostname", "address": name }],
        "capacity": capacity,
        "allocatable": capacity,
        "nodeInfo": {
            "architecture": "amd64",
            "operatingSystem": "linux",
            "machineID": "", "systemUUID": "", "bootID": "",
            "kernelVersion": kernel_version(),
            "osImage": "", "containerRuntimeVersion": "libvirt://", "kubeProxyVersion": "",
            "kubeletVersion": concat!("berth-agent/", env!("CARGO_PKG_VERSION")),
        },
        "conditions": [{
            "type": "Ready",
            "status": "True",
            "reason": "AgentReady",
            "message": "berth-agent runs VMs on this node",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }],
    })
}

fn memory_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn kernel_version() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

/// Says that the node is alive: one write.
async fn renew(client: &Client, name: &str) -> Result<(), kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASE_NAMESPACE);
    let spec = LeaseSpec {
        holder_identity: Some(name.to_owned()),
        lease_duration_seconds: Some(LEASE_SECONDS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    let patch = Patch::Merge(json!({ "spec": spec }));
    match leases.patch(name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        outcome => return outcome.map(drop),
    }
    make_namespace(client).await?;
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let lease = Lease { metadata, spec: Some(spec) };
    match leases.create(&PostParams::default(), &lease).await {
        Err(error) if is_conflict(&error) => Ok(()),
        outcome => outcome.map(drop),
    }
}

async fn make_namespace(client: &Client) -> Result<(), kube::Error> {
    let metadata = ObjectMeta { name: Some(LEASE_NAMESPACE.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    match namespaces.create(&PostParams::default(), &namespace).await {
        Err(error) if is_conflict(&error) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// Whether it is there already, or another made it just now.
fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}
