//! What `kubectl drain` waits for: a pod on each node that has guests which move, and a budget
//! that lets it go when they have.
//!
//! ```text
//!  a guest that moves when its node is left   a PodDisruptionBudget, then the pod, on its node
//!  kubectl drain                              cordons: the guests are moved off (`evacuation.rs`);
//!                                             evicts: 429, "would violate the pod's disruption
//!                                             budget", and asks again
//!  the last one has left                      the pod is deleted, then its budget: drain goes on
//! ```
//!
//! A budget and not a webhook on `pods/eviction`: it holds though no controller runs, it is in
//! the way of no other pod, and one that somebody wants out of the way he can delete. A pod and
//! not nothing: drain looks at pods alone.
//!
//! Where a kubelet runs, it runs the pod, which does nothing (`--drain-image`). The budget
//! counts what runs, so one whose image cannot be had holds nobody. Where none does
//! (the Node was made by our agent), nobody else would say of the pod that it runs, so that is
//! said here.
//!
//! A task of its own: it has to do with no address. Nothing is remembered; each look compares
//! what is there with what should be.

mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crds::kubevirt::VirtualMachineInstance;
use futures::TryFutureExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource as _, ResourceExt as _};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::ledger::VmKey;
use crate::shelf::Seen;
use crate::world::{Event, vm_key_of};
use crate::{evacuation, migration};
use look::{HOLDS, Write, missing};

/// The least time from one look to the next.
const REST: Duration = Duration::from_secs(1);
/// After what failed.
const AGAIN: Duration = Duration::from_secs(10);
/// Somebody may have deleted what is here.
const PERIOD: Duration = Duration::from_secs(30);
/// What is not answered for so long is given up.
const LIMIT: Duration = Duration::from_secs(20);
/// In a Node's annotations: no kubelet is there (`agent/src/node.rs`).
const WITHOUT_KUBELET: &str = "berth.io/registered-by-agent";

/// Flags of what keeps `kubectl drain` waiting.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DrainArgs {
    /// Have `kubectl drain` wait for the guests that move: each node that has some gets a pod
    /// of this image, which does nothing, such as registry.k8s.io/pause:3.10.
    #[arg(long = "drain-image", value_name = "IMAGE")]
    pub image: Option<String>,

    /// The namespace of these pods.
    #[arg(long = "drain-namespace", value_name = "NAMESPACE", default_value = "kube-system")]
    pub namespace: String,
}

/// Where the watches leave what is news here.
#[derive(Debug, Default)]
pub struct Gate {
    known: Mutex<Known>,
    bell: Notify,
}

impl Gate {
    /// Takes in what a watch saw, as far as it counts here.
    pub fn apply(&self, event: &Event) {
        if self.known.lock().apply(event) {
            self.bell.notify_one();
        }
    }
}

/// Which guests move when their nodes are left, and the nodes.
#[derive(Debug, Default)]
struct Known {
    guests: BTreeMap<VmKey, BTreeSet<String>>,
    nodes: BTreeMap<String, Place>,
    synced: (bool, bool),
}

/// A node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Place {
    uid: String,
    has_kubelet: bool,
}

impl Known {
    /// Whether it may be news.
    fn apply(&mut self, event: &Event) -> bool {
        match event {
            Event::Instance(seen) => self.instances(seen),
            Event::Node(seen) => self.nodes_seen(seen),
            _ => false,
        }
    }

    fn instances(&mut self, seen: &Seen<VirtualMachineInstance>) -> bool {
        let put = |guests: &mut BTreeMap<_, _>, one: &VirtualMachineInstance| {
            let nodes = held_by(one);
            let key = vm_key_of(one.meta());
            if nodes.is_empty() {
                guests.remove(&key).is_some()
            } else {
                guests.insert(key, nodes.clone()) != Some(nodes)
            }
        };
        match seen {
            Seen::All { objects, .. } => {
                self.synced.0 = true;
                self.guests.clear();
                for one in objects {
                    put(&mut self.guests, one);
                }
                true
            }
            Seen::Now(one) => put(&mut self.guests, one),
            // It may run all the same, and holds what it held.
            Seen::Unreadable(_) => false,
            Seen::Gone(meta) => self.guests.remove(&vm_key_of(meta)).is_some(),
        }
    }

    fn nodes_seen(&mut self, seen: &Seen<Node>) -> bool {
        let put = |nodes: &mut BTreeMap<_, _>, one: &Node| {
            let place = Place {
                uid: one.uid().unwrap_or_default(),
                has_kubelet: !one.annotations().contains_key(WITHOUT_KUBELET),
            };
            nodes.insert(one.name_any(), place.clone()) != Some(place)
        };
        match seen {
            Seen::All { objects, .. } => {
                self.synced.1 = true;
                self.nodes.clear();
                for one in objects {
                    put(&mut self.nodes, one);
                }
                true
            }
            Seen::Now(one) => put(&mut self.nodes, one),
            Seen::Unreadable(_) => false,
            Seen::Gone(meta) => self.nodes.remove(meta.name.as_deref().unwrap_or("")).is_some(),
        }
    }

    /// The nodes that are to be held, once it is known which.
    fn held(&self) -> Option<BTreeMap<String, Place>> {
        let names: BTreeSet<_> = self.guests.values().flatten().collect();
        let held = self.nodes.iter().filter(|(name, _)| names.contains(name));
        (self.synced == (true, true))
            .then(|| held.map(|(name, place)| (name.clone(), place.clone())).collect())
    }
}

/// The nodes that a guest holds: where it is, and where it is about to be.
fn held_by(instance: &VirtualMachineInstance) -> BTreeSet<String> {
    if !evacuation::moves_off(instance) {
        return BTreeSet::new();
    }
    let (node, target) = migration::chassis(instance);
    node.into_iter().chain(target).map(str::to_owned).collect()
}

/// Runs until it is dropped.
pub(crate) async fn run(client: Client, args: DrainArgs, gate: Arc<Gate>) {
    let Some(image) = args.image else { return std::future::pending().await };
    let mut failing = false;
    loop {
        let held = gate.known.lock().held();
        let look = async {
            match held {
                Some(held) => look(&client, &args.namespace, &image, &held).await,
                None => Ok(()),
            }
        };
        let late = || "the API does not answer".to_owned();
        let outcome = timeout(LIMIT, look.map_err(|error| error.to_string())).await;
        match outcome.unwrap_or_else(|_| Err(late())) {
            Ok(()) => failing = false,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(error, "What keeps kubectl drain waiting is not as it should be");
                }
                sleep(AGAIN).await;
                continue;
            }
        }
        sleep(REST).await;
        // Whoever rang while it looked has left the bell rung.
        let _ = timeout(PERIOD, gate.bell.notified()).await;
    }
}

/// Compares what is there with what should be, and carries out what is missing.
async fn look(
    client: &Client,
    namespace: &str,
    image: &str,
    held: &BTreeMap<String, Place>,
) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels(HOLDS);
    let (there, guarded) = (pods.list(&ours).await?.items, budgets.list(&ours).await?.items);
    let post = PostParams::default();
    for write in missing(held, image, &there, &guarded) {
        let done = match write {
            Write::Budget(budget) => budgets.create(&post, &budget).await.map(drop),
            Write::Pod(pod) => {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
                info!(node, "kubectl drain is to wait for the guests of a node");
                pods.create(&post, &pod).await.map(drop)
            }
            Write::Runs { name, status } => pods
                .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                .await
                .map(drop),
            Write::NoPod { name, uid } => pods.delete(&name, &this(uid)).await.map(drop),
            Write::NoBudget { name, uid } => budgets.delete(&name, &this(uid)).await.map(drop),
        };
        match done {
            // Another controller was first, or somebody has deleted it.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            done => done?,
        }
    }
    Ok(())
}

/// At once: there is nothing that a kubelet would have to end in peace.
fn this(uid: String) -> DeleteParams {
    let this = Preconditions { uid: Some(uid), ..Preconditions::default() };
    DeleteParams::default().grace_period(0).preconditions(this)
}
