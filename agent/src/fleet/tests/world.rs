//! A node whose hypervisor and API are in memory, and agents on it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crds::kubevirt::InstancePhase;
use parking_lot::Mutex;
use prometheus::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::Fleet;
use super::api::FakeApi;
use crate::bindings::Bindings;
use crate::control_groups::Lacking;
use crate::cpus::Cpus;
use crate::domain::Emulation;
use crate::host::Host;
use crate::hypervisor::fake::Verb;
use crate::hypervisor::{Fake, Hypervisor, Observed};
use crate::leases::Defaults;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::ports::{Ports, Wires};
use crate::telling::Teller;
use crate::volumes::{Dirs, Images, Settings};
use crate::watch::Watched;

/// The longest any condition may take, in the tests' own time.
const LIMIT: Duration = Duration::from_secs(120);

/// A node with a fake hypervisor and a fake API. Agents on it come and go.
pub(super) struct World {
    pub(super) api: FakeApi,
    pub(super) fake: Fake,
    pub(super) bindings: Bindings,
    pub(super) dir: TempDir,
    node: &'static str,
    wires: Option<Wires>,
    agent: Mutex<Option<JoinHandle<()>>>,
}

impl World {
    /// One on which no agent runs yet.
    pub(super) fn new() -> Self {
        // Shown with a test that fails. Another test may have been first.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let dir = tempfile::tempdir().unwrap();
        let subnet = json!({
            "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": { "name": "s1", "resourceVersion": "1" },
            "spec": { "cidrBlock": "10.0.0.0/16", "gateway": "10.0.0.1", "vpc": "v1" },
        });
        Self::at("n1", FakeApi::new(vec![subnet]), dir)
    }

    fn at(node: &'static str, api: FakeApi, dir: TempDir) -> Self {
        Self {
            api,
            node,
            wires: None,
            fake: Fake::new(),
            bindings: Bindings::open(&dir.path().join("bindings")).unwrap(),
            dir,
            agent: Mutex::default(),
        }
    }

    /// Two nodes of one API, each with an agent, between which guests can move. A VM
    /// runs on the first.
    pub(super) async fn pair(name: &str) -> (Self, Self) {
        Self::pair_with(name, None).await
    }

    /// The same, where guests that come to the second find taps and a switch.
    pub(super) async fn pair_with(name: &str, wires: Option<Wires>) -> (Self, Self) {
        let first = Self::new();
        let second = Self::at("n2", first.api.clone(), tempfile::tempdir().unwrap());
        let second = Self { wires, ..second };
        first.fake.connect(&address_of("n2"), &second.fake);
        second.fake.connect(&address_of("n1"), &first.fake);
        first.start_agent();
        second.start_agent();
        first.create(name);
        first.until_phase(name, InstancePhase::Running).await;
        (first, second)
    }

    /// One with an agent.
    pub(super) fn with_agent() -> Self {
        let world = Self::new();
        world.start_agent();
        world
    }

    pub(super) fn start_agent(&self) {
        let client = self.api.client();
        let ports = Ports::new(self.bindings.clone(), self.wires.clone());
        ports.restore().unwrap();
        let host = Host {
            node: self.node.to_owned(),
            client: client.clone(),
            hypervisor: Hypervisor::Fake(self.fake.clone()),
            ports,
            metrics: Metrics::new(Registry::new()).unwrap(),
            tpms: self.dir.path().to_owned(),
            dirs: Dirs {
                state: self.dir.path().to_owned(),
                images: Images::new(
                    self.dir.path(),
                    self.dir.path().to_owned(),
                    Settings::default(),
                ),
                host_disks: Vec::new(),
            },
            run_dir: self.dir.path().to_owned(),
            emulation: Emulation::Software,
            // Fakes are known to each other by name.
            arrivals: Some(address_of(self.node)),
            pki: None,
            defaults: Defaults::default(),
            look: Arc::default(),
            freezes: Places::of(1),
            teller: Teller::new(&client),
            cpus: Cpus::default(),
            lacking: Lacking::default(),
        };
        let fleet = Fleet::new(host, Watched::start(&client, self.node));
        *self.agent.lock() = Some(tokio::spawn(fleet.run(CancellationToken::new())));
    }

    /// As `kill -9` does: nothing more is done, from one instant to the next.
    pub(super) async fn kill_agent(&self) {
        let agent = self.agent.lock().take().expect("an agent runs");
        agent.abort();
        assert!(agent.await.unwrap_err().is_cancelled());
    }

    pub(super) fn create(&self, name: &str) {
        self.api.create(vmi(name));
    }

    pub(super) fn phase(&self, name: &str) -> Option<InstancePhase> {
        self.api.vmi(name).map(|vmi| vmi.phase())
    }

    pub(super) fn calls(&self, verb: Verb) -> usize {
        self.fake.calls().iter().filter(|(called, _)| *called == verb).count()
    }

    pub(super) async fn domains(&self) -> Vec<Observed> {
        Hypervisor::Fake(self.fake.clone()).list().await.unwrap()
    }

    pub(super) async fn until_phase(&self, name: &str, phase: InstancePhase) {
        until(&format!("{name} is {phase:?}"), async || self.phase(name) == Some(phase)).await;
    }

    /// Until neither object, domain nor binding of any VM is left.
    pub(super) async fn until_nothing_is_left(&self) {
        until("nothing is left", async || {
            self.domains().await.is_empty() && self.bindings.all().unwrap().is_empty()
        })
        .await;
    }

    pub(super) async fn running(name: &str) -> Self {
        let world = Self::with_agent();
        world.create(name);
        world.until_phase(name, InstancePhase::Running).await;
        world
    }
}

/// Waits for a condition; time is the tests' own and passes when nobody is busy.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let waited = tokio::time::timeout(LIMIT, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}

pub(super) fn vmi(name: &str) -> Value {
    let number = name.bytes().fold(0_u32, |sum, byte| sum * 7 + u32::from(byte)) % 60_000 + 10;
    let address = format!("10.0.{}.{}", number / 250, number % 250 + 1);
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": name, "namespace": "default",
            "labels": { "kubevirt.io/nodeName": "n1" },
            "finalizers": ["kubevirt.io/foregroundDeleteVirtualMachine"],
            "annotations": {
                "ovn.kubernetes.io/allocated": "true",
                "ovn.kubernetes.io/ip_address": address,
                "ovn.kubernetes.io/mac_address": "02:00:00:00:00:05",
                "ovn.kubernetes.io/cidr": "10.0.0.0/16",
                "ovn.kubernetes.io/gateway": "10.0.0.1",
                "ovn.kubernetes.io/logical_switch": "s1",
            },
        },
        "spec": {
            "domain": {
                "memory": { "guest": "128Mi" },
                "devices": {
                    "disks": [{ "name": "root", "disk": { "bus": "virtio" } }],
                    "interfaces": [{ "name": "default", "bridge": {} }],
                },
            },
            "networks": [{ "name": "default", "pod": {} }],
            "volumes": [{ "name": "root", "containerDisk": { "image": "berth/guest:latest" } }],
        },
        "status": { "phase": "Scheduled", "nodeName": "n1" },
    })
}

/// Where guests arrive at a node.
fn address_of(node: &str) -> String {
    format!("192.0.2.{}", &node[1..])
}
