//! What a round writes for the way out: the Subnet of the nodes, and what agents are
//! told on it and on their Nodes.

use std::collections::{BTreeMap, HashSet};

use crds::kubeovn::Subnet;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use net::names;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{REPAIR_AFTER, Rounds, is_not_found};
use crate::decide::Decision;
use crate::egress::{self, JOIN};
use crate::ledger::VmKey;

impl Rounds {
    /// Makes the Subnet of the nodes where it is wanted and not there. It comes into
    /// force with the next round.
    pub(super) async fn make_join(&mut self) {
        if !egress::is_wanted(&self.world) || self.world.subnets.meta(&JOIN.to_owned()).is_some() {
            return;
        }
        let api: Api<Subnet> = Api::all(self.edge.client.clone());
        let subnet = egress::join_subnet(self.edge.join);
        self.edge.metrics.api_writes.inc();
        match api.create(&PostParams::default(), &subnet).await {
            Ok(subnet) => {
                info!(subnet = JOIN, "The subnet of the nodes is there");
                self.world.put_subnet(subnet);
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                warn!(subnet = JOIN, %error, "The subnet of the nodes was not made");
                self.resync_at = Some(Instant::now() + REPAIR_AFTER);
            }
        }
    }

    /// Tells all agents which networks are the VPC's, and which go out.
    pub(super) async fn tell_agents(&mut self) {
        let Some(subnet) = self.world.subnets.get(&JOIN.to_owned()) else { return };
        let wanted = egress::notes(&self.world);
        let keys = [crds::annotations::ROUTED, crds::annotations::TRANSLATED];
        let differs = |key: &&str| subnet.annotations().get(*key) != wanted.get(*key);
        let keys = keys.into_iter().filter(differs);
        let patch: BTreeMap<_, _> = keys.map(|key| (key, wanted.get(key))).collect();
        if patch.is_empty() {
            return;
        }
        let api: Api<Subnet> = Api::all(self.edge.client.clone());
        let patch = Patch::Merge(json!({ "metadata": { "annotations": patch } }));
        self.edge.metrics.api_writes.inc();
        match api.patch(JOIN, &PatchParams::default(), &patch).await {
            Ok(subnet) => self.world.put_subnet(subnet),
            Err(error) if is_not_found(&error) => {}
            Err(error) => {
                warn!(subnet = JOIN, %error, "The agents were not told of the networks");
                self.resync_at = Some(Instant::now() + REPAIR_AFTER);
            }
        }
    }

    /// Says on each Node which place it has; before a place is given back, that it has
    /// none. Returns the nodes for which that failed.
    pub(super) async fn tell_nodes(&mut self, decisions: &[Decision]) -> HashSet<VmKey> {
        let api: Api<Node> = Api::all(self.edge.client.clone());
        let mut failed = HashSet::new();
        for decision in decisions {
            let Some(name) = decision.vm.node() else { continue };
            let Some(node) = self.world.nodes.get(&name.to_owned()) else { continue };
            let patch = notes(&self.world, decision, node);
            if patch.is_empty() {
                continue;
            }
            let patch = Patch::Merge(json!({ "metadata": { "annotations": patch } }));
            self.edge.metrics.api_writes.inc();
            match api.patch(name, &PatchParams::default(), &patch).await {
                Ok(node) => self.world.put_node(node),
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    warn!(node = name, %error, "The node was not told of its place");
                    failed.insert(decision.vm.clone());
                }
            }
        }
        failed
    }
}

/// What of the Node's annotations is to change. Those of a place that is not ours to
/// give stay.
fn notes(world: &crate::world::World, decision: &Decision, node: &Node) -> BTreeMap<String, Value> {
    let has = |key: &String| node.annotations().get(key);
    let port = decision.ports.first();
    if let Some((port, join)) = port.zip(world.ledger.networks().get(JOIN)) {
        let wanted = egress::node_notes(port, join).into_iter();
        let lacking = wanted.filter(|(key, value)| has(key) != Some(value));
        return lacking.map(|(key, value)| (key, Value::from(value))).collect();
    }
    let given = names::node_port(&node.name_any());
    if !decision.release.iter().any(|(claimant, _)| claimant.port == given) {
        return BTreeMap::new();
    }
    let gone = egress::NODE_NOTES
        .map(|field| (crds::annotations::key(names::DEFAULT_PROVIDER, field), Value::Null));
    gone.into_iter().filter(|(key, _)| has(key).is_some()).collect()
}
