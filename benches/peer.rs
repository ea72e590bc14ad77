//! Kube-OVN's controller under the same load.
//!
//! `BERTH_PEER_KUBE_OVN` names its program, `BERTH_PEER_OVN_SCHEMAS` the directory of
//! `ovn-nb.ovsschema` and `ovn-sb.ovsschema` of the OVN that it was made for (such as
//! `/usr/share/ovn` where that is installed): it refuses older ones. Without the first
//! nothing is measured here.
//!
//! It runs alone, as ours does in these figures: a real Kubernetes API, an OVSDB server
//! with its schemas, one Node, and nothing that would bring a pod up. What it works on is
//! its simplest case: pods in one dual-stack subnet of a VPC of their own, on a node from
//! the start. One is done when the controller says that its port is (`routed`).
//!
//! Its kinds are defined here without a schema: what it asks of an object is its own affair.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ::tests::cluster::{Cluster, Flavour};
use ::tests::eventually;
use ::tests::kinds::{CRD, NODE, POD, SERVICE_ACCOUNT, SUBNET, VPC};
use ::tests::kube::free_port;
use ::tests::process::{Process, peak_kib};
use ::tests::scratch::Scratch;
use anyhow::{Context, ensure};
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::bed::{LIMIT, count, create, watch};

/// Its kinds (plural, kind), all of which it waits for when it starts.
const KINDS: [(&str, &str); 25] = [
    ("bgp-confs", "BgpConf"),
    ("dnsnameresolvers", "DNSNameResolver"),
    ("evpn-confs", "EvpnConf"),
    ("ippools", "IPPool"),
    ("ips", "IP"),
    ("iptables-dnat-rules", "IptablesDnatRule"),
    ("iptables-eips", "IptablesEIP"),
    ("iptables-fip-rules", "IptablesFIPRule"),
    ("iptables-snat-rules", "IptablesSnatRule"),
    ("ovn-dnat-rules", "OvnDnatRule"),
    ("ovn-eips", "OvnEip"),
    ("ovn-fips", "OvnFip"),
    ("ovn-snat-rules", "OvnSnatRule"),
    ("provider-networks", "ProviderNetwork"),
    ("qos-policies", "QoSPolicy"),
    ("router-lb-rules", "RouterLBRule"),
    ("security-groups", "SecurityGroup"),
    ("subnets", "Subnet"),
    ("switch-lb-rules", "SwitchLBRule"),
    ("vips", "Vip"),
    ("vlans", "Vlan"),
    ("vpc-dnses", "VpcDns"),
    ("vpc-egress-gateways", "VpcEgressGateway"),
    ("vpc-nat-gateways", "VpcNatGateway"),
    ("vpcs", "Vpc"),
];

/// Of its kinds those whose status is no resource of its own.
const WHOLE: [&str; 4] = ["bgp-confs", "evpn-confs", "ips", "vips"];

/// The node that all pods are on.
const NODE_NAME: &str = "n1";

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// From the first pod sent to the last port made.
    pub burst: Duration,
    /// From one pod sent to its port made: of a hundred, the slowest but one.
    pub p99: Duration,
    /// The most memory that the controller had resident until then, in KiB.
    pub peak_kib: u64,
    /// From the controller's death to the first port that its successor makes.
    pub restart: Duration,
}

/// What a run needs.
#[derive(Clone, Debug)]
pub struct Peer {
    program: PathBuf,
    schemas: PathBuf,
}

impl Peer {
    /// The peer, if one is given.
    #[must_use]
    pub fn given() -> Option<Self> {
        let program = PathBuf::from(std::env::var_os("BERTH_PEER_KUBE_OVN")?);
        let schemas = std::env::var_os("BERTH_PEER_OVN_SCHEMAS");
        Some(Self {
            program,
            schemas: schemas.map_or_else(|| "/usr/share/ovn".into(), PathBuf::from),
        })
    }
}

/// As many ports at once as `ports`, then a restart.
///
/// # Errors
/// When it does not start, or is not done in time.
pub async fn measure(peer: &Peer, ports: usize) -> anyhow::Result<Outcome> {
    let mut bench = Bench::start(peer).await?;
    let outcome = bench.measure(ports).await;
    bench.scratch.keep_on_error(outcome)
}

struct Bench {
    peer: Peer,
    controller: Process,
    _databases: [Process; 2],
    remotes: [String; 2],
    cluster: Cluster,
    scratch: Scratch,
}

impl Bench {
    async fn start(peer: &Peer) -> anyhow::Result<Self> {
        let mut scratch = Scratch::new("peer")?;
        let cluster = Cluster::start(Flavour::Real).await?;
        let made = prepare(&cluster, &peer.schemas, &scratch).await;
        let (databases, remotes) = scratch.keep_on_error(made)?;
        let controller = start(&peer.program, &cluster, &remotes, &scratch)?;
        let peer = peer.clone();
        let mut bench = Self { peer, controller, _databases: databases, remotes, cluster, scratch };
        let made = bench.make_subnet().await;
        bench.scratch.keep_on_error(made)?;
        Ok(bench)
    }

    async fn make_subnet(&mut self) -> anyhow::Result<()> {
        // Its own default subnet shows that it has begun.
        self.subnet_ready("ovn-default").await?;
        self.cluster.create(VPC, ::tests::objects::vpc("bench-vpc")).await?;
        let subnet = ::tests::objects::Subnet::named("bench").in_vpc("bench-vpc");
        self.cluster.create(SUBNET, subnet.of("10.90.0.0/16,fd90::/64").object()).await?;
        self.subnet_ready("bench").await
    }

    async fn subnet_ready(&mut self, name: &str) -> anyhow::Result<()> {
        let Self { controller, cluster, .. } = self;
        eventually(&format!("the peer's subnet {name}"), LIMIT, async || {
            controller.check_running()?;
            let subnet = cluster.get(SUBNET, name).await?;
            let conditions = subnet["status"]["conditions"].as_array();
            let ready = conditions
                .into_iter()
                .flatten()
                .any(|one| one["type"] == "Ready" && one["status"] == "True");
            ensure!(ready, "{}", subnet["status"]);
            Ok(())
        })
        .await
    }

    async fn measure(&mut self, ports: usize) -> anyhow::Result<Outcome> {
        let seen = watch(&self.cluster, POD).await?;
        let started = Instant::now();
        let creating = create(&self.cluster, POD, ports, |n| pod(&format!("port-{n}")));
        let (sent, seen) = tokio::try_join!(creating, count(seen, ports, is_routed))?;
        let last = seen.values().max().context("at least one")?;
        let mut waits = Vec::with_capacity(ports);
        for (n, sent) in sent.into_iter().enumerate() {
            let seen = seen.get(&format!("port-{n}")).context("each pod was seen")?;
            waits.push(seen.duration_since(sent));
        }
        waits.sort_unstable();
        Ok(Outcome {
            burst: last.duration_since(started),
            p99: waits[ports / 100 * 99],
            peak_kib: peak_kib(self.controller.pid())?,
            restart: self.restart().await?,
        })
    }

    async fn restart(&mut self) -> anyhow::Result<Duration> {
        self.controller.kill()?;
        let started = Instant::now();
        self.controller = start(&self.peer.program, &self.cluster, &self.remotes, &self.scratch)?;
        let seen = watch(&self.cluster, POD).await?;
        self.cluster.create(POD, pod("first")).await?;
        let is_first =
            |pod: &DynamicObject| pod.metadata.name.as_deref() == Some("first") && is_routed(pod);
        let seen = count(seen, 1, is_first).await?;
        Ok(seen.values().next().context("one was seen")?.duration_since(started))
    }
}

/// Databases, kinds, a node and what pods need.
async fn prepare(
    cluster: &Cluster,
    schemas: &Path,
    scratch: &Scratch,
) -> anyhow::Result<([Process; 2], [String; 2])> {
    let (north, north_remote) = database(schemas, "nb", scratch)?;
    let (south, south_remote) = database(schemas, "sb", scratch)?;
    let northbound = ::tests::northbound::Northbound::at(north_remote.clone());
    eventually("the peer's northbound database", LIMIT, async || northbound.write(&["init"]).await)
        .await?;
    create(cluster, CRD, KINDS.len(), |n| definition(KINDS[n].0, KINDS[n].1)).await?;
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
    cluster.kubectl_ok(&wait).await?;
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"},
    });
    cluster.create(SERVICE_ACCOUNT, account).await?;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE_NAME}});
    cluster.create(NODE, node).await?;
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }});
    let nodes = cluster.api(NODE);
    nodes.patch_status(NODE_NAME, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(([north, south], [north_remote, south_remote]))
}

/// An OVSDB server with one of the schemas.
fn database(schemas: &Path, file: &str, scratch: &Scratch) -> anyhow::Result<(Process, String)> {
    let schema = schemas.join(format!("ovn-{file}.ovsschema"));
    let data = scratch.path().join(format!("{file}.db"));
    let output = Command::new("ovsdb-tool").arg("create").args([&data, &schema]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let port = free_port()?;
    let control = scratch.path().join(format!("{file}.ctl"));
    let server = Process::start(
        &format!("ovsdb-{file}"),
        Path::new("ovsdb-server"),
        &[
            format!("--remote=ptcp:{port}:127.0.0.1"),
            format!("--unixctl={}", control.display()),
            "--no-chdir".to_owned(),
            data.display().to_string(),
        ],
        &scratch.logs(),
    )?;
    Ok((server, format!("tcp:127.0.0.1:{port}")))
}

fn start(
    program: &Path,
    cluster: &Cluster,
    [north, south]: &[String; 2],
    scratch: &Scratch,
) -> anyhow::Result<Process> {
    // It opens files below /var/log whatever it is told, so it has one of its own.
    let script = r#"mount -t tmpfs tmpfs /var/log && mkdir /var/log/kube-ovn && exec "$@""#;
    let remote = |remote: &String| remote.replace("127.0.0.1", "[127.0.0.1]");
    let kubeconfig = cluster.kubeconfig().display();
    let args = [
        "--mount".to_owned(),
        "sh".to_owned(),
        "-c".to_owned(),
        script.to_owned(),
        "sh".to_owned(),
        "env".to_owned(),
        format!("KUBECONFIG={kubeconfig}"),
        "ENABLE_SSL=false".to_owned(),
        "POD_NAME=peer".to_owned(),
        "POD_NAMESPACE=kube-system".to_owned(),
        program.display().to_string(),
        format!("--kubeconfig={kubeconfig}"),
        format!("--ovn-nb-addr={}", remote(north)),
        format!("--ovn-sb-addr={}", remote(south)),
        "--default-cidr=10.16.0.0/16".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/12".to_owned(),
        format!("--log_file={}", scratch.logs().join("kube-ovn.log").display()),
        "--log_file_max_size=0".to_owned(),
        "--enable-lb=false".to_owned(),
        "--enable-np=false".to_owned(),
        "--enable-eip-snat=false".to_owned(),
    ];
    Process::start("kube-ovn-controller", Path::new("unshare"), &args, &scratch.logs())
}

fn definition(plural: &str, kind: &str) -> Value {
    let scope = if kind == "VpcEgressGateway" { "Namespaced" } else { "Cluster" };
    let subresources = if WHOLE.contains(&plural) { json!({}) } else { json!({"status": {}}) };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.kubeovn.io")},
        "spec": {
            "group": "kubeovn.io",
            "scope": scope,
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": subresources,
                "schema": {"openAPIV3Schema":
                    {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "annotations": {"ovn.kubernetes.io/logical_switch": "bench"},
        },
        "spec": {
            "nodeName": NODE_NAME,
            "containers": [{"name": "none", "image": "none"}],
        },
    })
}

fn is_routed(pod: &DynamicObject) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get("ovn.kubernetes.io/routed"))
        .is_some_and(|said| said == "true")
}
