//! The VMs as `berth up` sees them: from the API, and from the agents.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use crds::annotations;
use crds::kubevirt::{InstancePhase, VirtualMachine, VirtualMachineInstance};
use k8s_openapi::api::core::v1::Event;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt};

use super::admin;
use super::progress::Progress;
use super::strategy::{Seen, is_to_run};
use crate::lab::{Lab, NodeLayout};

/// Namespace and name of a VM.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Name {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "default" => out.write_str(&self.name),
            namespace => write!(out, "{namespace}/{}", self.name),
        }
    }
}

/// One VM and what is known about it.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) name: Name,
    pub(super) node: Option<String>,
    pub(super) addresses: Vec<String>,
    pub(super) mac: Option<String>,
    pub(super) phase: String,
    pub(super) subnet: Option<String>,
    /// Seconds from its creation, or from our start if it was there already.
    pub(super) running_after: Option<f64>,
    /// The same for the first DHCP ACK of either family, the later one of two.
    pub(super) ack_after: Option<f64>,
    /// Whether its run strategy wants it to run.
    pub(super) is_to_run: bool,
}

impl Machine {
    /// The name, if the object is a VM.
    pub(super) fn name_of(object: &DynamicObject) -> Option<Name> {
        let is_machine = object.types.as_ref().is_some_and(|types| types.kind == "VirtualMachine");
        is_machine.then(|| Name {
            namespace: object.namespace().unwrap_or_else(|| "default".to_owned()),
            name: object.name_any(),
        })
    }

    fn from_instance(name: Name, instance: Option<&VirtualMachineInstance>) -> Self {
        let annotation = |field: &str| {
            let key = annotations::key("ovn", field);
            instance.and_then(|instance| instance.annotations().get(&key).cloned())
        };
        let status = instance.and_then(|instance| instance.status.as_ref());
        let phase = status.and_then(|status| status.phase);
        let addresses = annotation(annotations::IP_ADDRESS).unwrap_or_default();
        Self {
            name,
            node: status.and_then(|status| status.node_name.clone()),
            addresses: addresses
                .split(',')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
            mac: annotation(annotations::MAC_ADDRESS),
            phase: phase.map_or_else(|| "-".to_owned(), |phase| format!("{phase:?}")),
            subnet: annotation(annotations::LOGICAL_SWITCH),
            running_after: None,
            ack_after: None,
            is_to_run: false,
        }
    }

    fn is_ready(&self) -> bool {
        self.phase == format!("{:?}", InstancePhase::Running) && self.ack_after.is_some()
    }

    /// What this VM waits for, in words.
    fn missing(&self) -> String {
        match (&self.node, self.phase.as_str()) {
            (None, _) => "has no instance yet (look at its conditions)".to_owned(),
            (Some(node), "Running") => {
                format!("runs on {node} but its guest has not got its addresses by DHCP")
            }
            (Some(node), phase) => format!("is {phase} on {node}"),
        }
    }
}

/// The VMs of the lab, followed from a moment on.
pub(super) struct Machines {
    client: kube::Client,
    nodes: Vec<NodeLayout>,
    /// Uids of instances whose `Running` is of an earlier run.
    earlier: BTreeSet<String>,
    /// What was created, or was to be and existed.
    applied: Vec<Name>,
    began: SystemTime,
    /// When each was first seen running, in seconds.
    running: BTreeMap<Name, f64>,
}

impl Machines {
    pub(super) fn watch(
        client: kube::Client,
        lab: &Lab,
        applied: Vec<Name>,
        began: SystemTime,
    ) -> Self {
        let (nodes, earlier) = (lab.nodes(), lab.earlier_instances().clone());
        Self { client, nodes, earlier, applied, began, running: BTreeMap::new() }
    }

    /// Every VM there is, by name.
    pub(super) async fn all(&mut self) -> Result<Vec<Machine>> {
        let everything = ListParams::default();
        let machines = Api::<VirtualMachine>::all(self.client.clone()).list(&everything).await?;
        let instances =
            Api::<VirtualMachineInstance>::all(self.client.clone()).list(&everything).await?;
        let acks = self.acks().await;
        let mut all = Vec::new();
        for machine in machines {
            let name = Name {
                namespace: machine.namespace().unwrap_or_default(),
                name: machine.name_any(),
            };
            let same = |instance: &&VirtualMachineInstance| {
                instance.name_any() == name.name
                    && instance.namespace().as_deref() == Some(&name.namespace)
            };
            let instance = self.seen(instances.iter().find(same));
            let mut seen = Machine::from_instance(name.clone(), instance.now());
            seen.is_to_run = is_to_run(&machine, instance);
            if seen.phase == "Running" {
                let now = self.began.elapsed().unwrap_or_default().as_secs_f64();
                seen.running_after = Some(*self.running.entry(name.clone()).or_insert(now));
            } else {
                // It runs again later: that time counts.
                self.running.remove(&name);
            }
            seen.ack_after = self.ack_after(&seen, &acks);
            all.push(seen);
        }
        all.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(all)
    }

    /// What an instance means in this run.
    fn seen<'a>(&self, instance: Option<&'a VirtualMachineInstance>) -> Seen<'a> {
        let Some(instance) = instance else { return Seen::Nothing };
        let of_before = instance.uid().is_some_and(|uid| self.earlier.contains(&uid));
        if of_before && instance.phase() == InstancePhase::Running {
            Seen::Earlier
        } else {
            Seen::Now(instance)
        }
    }

    /// Waits until every VM that is to run does and has been given its addresses.
    pub(super) async fn wait_until_running(
        &mut self,
        limit: Duration,
        progress: &Progress,
    ) -> Result<()> {
        let start = Instant::now();
        let mut said = BTreeMap::new();
        loop {
            let seen = self.all().await?;
            let wanted: Vec<_> = seen.iter().filter(|machine| machine.is_to_run).collect();
            for machine in &wanted {
                let news = (machine.phase.clone(), machine.ack_after.is_some());
                if said.insert(machine.name.clone(), news.clone()).as_ref() != Some(&news) {
                    progress.say(&describe(machine));
                }
            }
            let mut missing: Vec<_> = wanted
                .iter()
                .filter(|machine| !machine.is_ready())
                .map(|machine| format!("{} {}", machine.name, machine.missing()))
                .collect();
            let is_gone = |name: &&Name| !seen.iter().any(|machine| machine.name == **name);
            missing
                .extend(self.applied.iter().filter(is_gone).map(|name| format!("{name} is gone")));
            if missing.is_empty() {
                return Ok(());
            }
            if start.elapsed() > limit {
                bail!("after {} s {}", limit.as_secs(), missing.join("; "));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// First ACKs of every port of every node; an agent that does not answer now
    /// is asked again the next time.
    async fn acks(&self) -> BTreeMap<String, admin::Port> {
        let mut acks = BTreeMap::new();
        for node in &self.nodes {
            match admin::ports(&node.admin()).await {
                Ok(ports) => acks.extend(ports.into_iter().map(|port| (port.port.clone(), port))),
                Err(error) => tracing::debug!(node = node.name, %error, "Agent does not answer"),
            }
        }
        acks
    }

    /// Seconds until every family that the VM has an address of was acknowledged.
    fn ack_after(&self, machine: &Machine, acks: &BTreeMap<String, admin::Port>) -> Option<f64> {
        let port = acks.get(&net::names::port(
            &machine.name.name,
            &machine.name.namespace,
            net::names::DEFAULT_PROVIDER,
        ))?;
        let mut latest = None;
        for address in &machine.addresses {
            let ack = if address.contains(':') { port.first_ack_v6? } else { port.first_ack_v4? };
            latest = latest.max(Some(ack));
        }
        let after = SystemTime::from(latest?).duration_since(self.began);
        Some(after.unwrap_or_default().as_secs_f64())
    }
}

fn describe(machine: &Machine) -> String {
    let Machine { name, node, phase, ack_after, .. } = machine;
    match (node, ack_after) {
        (None, _) => format!("{name}: waits for its instance"),
        (Some(node), None) => format!("{name}: {phase} on {node}, {}", machine.addresses.join(" ")),
        (Some(_), Some(_)) => {
            format!("{name}: the guest has got {} by DHCP", machine.addresses.join(" and "))
        }
    }
}

/// The newest events, in words; empty when the API does not answer.
pub(super) async fn last_events(client: &kube::Client, count: usize) -> Vec<String> {
    let Ok(list) = Api::<Event>::all(client.clone()).list(&ListParams::default()).await else {
        return Vec::new();
    };
    let mut events = list.items;
    events.sort_by_key(|event| event.metadata.creation_timestamp.clone());
    let skip = events.len().saturating_sub(count);
    let words = |event: &Event| {
        let object = &event.involved_object;
        format!(
            "{} {}: {}: {}",
            object.kind.as_deref().unwrap_or_default(),
            object.name.as_deref().unwrap_or_default(),
            event.reason.as_deref().unwrap_or_default(),
            event.message.as_deref().unwrap_or_default()
        )
    };
    events.iter().skip(skip).map(words).collect()
}
