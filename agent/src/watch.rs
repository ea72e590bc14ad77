//! What this node follows in the API: its VMIs, and all Subnets.
//!
//! An object that cannot be read as its type is kept by its metadata: its VM
//! runs on as it is, and hides no other.

mod guests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::kubeovn::Subnet;
use crds::kubevirt::{MIGRATION_TARGET_LABEL, NODE_NAME_LABEL, VirtualMachineInstance};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Node;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::guests::{Guest, Guests, Known};
use crate::leases::Subnets;

/// The subnet that nodes have an address of.
const JOIN: &str = "join";

type Guarded<K> = DeserializeGuard<K>;

/// The objects as last seen. Dropping it ends the watches.
#[derive(Debug)]
pub struct Watched {
    vmis: Arc<Guests>,
    /// Those whose guests come here.
    coming: Arc<Guests>,
    subnets: Store<Guarded<Subnet>>,
    changes: watch::Receiver<u64>,
    current: Current,
    _watches: JoinSet<()>,
}

/// The objects as drivers get them, made anew only where one changed.
#[derive(Debug, Default)]
struct Current {
    /// What the two lists had when `vmis` was made of them.
    seen: (u64, u64),
    vmis: Arc<Vmis>,
    /// Name and version of each subnet, in order.
    versions: Vec<(String, String)>,
    subnets: Arc<Subnets>,
}

/// This node's VMIs.
#[derive(Debug, Default)]
pub struct Vmis {
    /// By uid.
    pub valid: BTreeMap<String, Arc<VirtualMachineInstance>>,
    /// Uid and domain of those that cannot be read.
    invalid: BTreeMap<String, String>,
}

impl Watched {
    /// Begins to follow.
    #[must_use]
    pub fn start(client: &Client, node: &str) -> Self {
        let (changed, changes) = watch::channel(0);
        let mut watches = JoinSet::new();

        let mut labelled = |label: &str| {
            let vmis = Arc::<Guests>::default();
            let api: Api<Guarded<VirtualMachineInstance>> = Api::all(client.clone());
            let mine = watcher::Config::default().labels(&format!("{label}={node}"));
            let into = Arc::clone(&vmis);
            let stream =
                watcher(api, mine).default_backoff().map_ok(move |event| into.take_in(event));
            watches.spawn(follow(stream, changed.clone(), "virtualmachineinstances"));
            vmis
        };
        let vmis = labelled(NODE_NAME_LABEL);
        let coming = labelled(MIGRATION_TARGET_LABEL);

        let (subnets, writer) = reflector::store();
        let api: Api<Guarded<Subnet>> = Api::all(client.clone());
        let stream = watcher(api, watcher::Config::default()).default_backoff().reflect(writer);
        watches.spawn(follow(stream, changed, "subnets"));

        Self { vmis, coming, subnets, changes, current: Current::default(), _watches: watches }
    }

    /// Waits until all objects have been seen once.
    pub async fn synced(&self) {
        self.vmis.listed().await;
        self.coming.listed().await;
        // An error says that the watch has ended, which only dropping us does.
        let _ = self.subnets.wait_until_ready().await;
    }

    /// Waits until an object changed since the last call.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// This node's VMIs as they are now; the same `Arc` for each that did not change.
    #[must_use]
    pub fn vmis(&mut self) -> Arc<Vmis> {
        let (here, coming) = (self.vmis.known.lock(), self.coming.known.lock());
        let seen = (here.changes, coming.changes);
        if seen != self.current.seen {
            self.current.seen = seen;
            self.current.vmis = Arc::new(Vmis::of(&here, &coming));
        }
        Arc::clone(&self.current.vmis)
    }

    /// All subnets as they are now; the same `Arc` while none changes.
    #[must_use]
    pub fn subnets(&mut self) -> Arc<Subnets> {
        let all = self.subnets.state();
        let mut versions: Vec<_> = all
            .iter()
            .map(|one| (one.name_any(), one.resource_version().unwrap_or_default()))
            .collect();
        versions.sort_unstable();
        if versions != self.current.versions {
            let valid = all.iter().filter_map(|one| one.0.as_ref().ok());
            let subnets = valid.map(|one| (one.name_any(), one.clone().as_in_force())).collect();
            self.current.versions = versions;
            self.current.subnets = Arc::new(subnets);
        }
        Arc::clone(&self.current.subnets)
    }
}

/// What this node is told of the way out: its Node, and the Subnet `join`. Dropping
/// it ends the watches.
#[derive(Debug)]
pub struct Signposts {
    nodes: Store<Guarded<Node>>,
    join: Store<Guarded<Subnet>>,
    changes: watch::Receiver<u64>,
    _watches: JoinSet<()>,
}

impl Signposts {
    /// Begins to follow.
    #[must_use]
    pub fn start(client: &Client, node: &str) -> Self {
        let (changed, changes) = watch::channel(0);
        let mut watches = JoinSet::new();
        let named =
            |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));

        let (nodes, writer) = reflector::store();
        let api: Api<Guarded<Node>> = Api::all(client.clone());
        let stream = watcher(api, named(node)).default_backoff().reflect(writer);
        watches.spawn(follow(stream, changed.clone(), "nodes"));

        let (join, writer) = reflector::store();
        let api: Api<Guarded<Subnet>> = Api::all(client.clone());
        let stream = watcher(api, named(JOIN)).default_backoff().reflect(writer);
        watches.spawn(follow(stream, changed, "subnets"));

        Self { nodes, join, changes, _watches: watches }
    }

    /// Waits until both have been looked for once.
    pub async fn synced(&self) {
        let _ = self.nodes.wait_until_ready().await;
        let _ = self.join.wait_until_ready().await;
    }

    /// Waits until one changed since the last call.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// This node.
    ///
    /// # Errors
    /// It does not fit its type.
    pub fn node(&self) -> Result<Option<Node>, String> {
        only(&self.nodes)
    }

    /// The subnet of the nodes.
    ///
    /// # Errors
    /// It does not fit its type.
    pub fn join(&self) -> Result<Option<Subnet>, String> {
        only(&self.join)
    }
}

impl Vmis {
    /// Those of both lists. One that has just arrived is in both for a moment: the newer one
    /// counts.
    fn of(here: &Known, coming: &Known) -> Self {
        let mut vmis = Self::default();
        for (uid, one) in &here.guests {
            let other = coming.guests.get(uid).filter(|other| other.version() > one.version());
            vmis.put(uid, other.unwrap_or(one));
        }
        for (uid, one) in &coming.guests {
            if !here.guests.contains_key(uid) {
                vmis.put(uid, one);
            }
        }
        vmis
    }

    fn put(&mut self, uid: &str, one: &Guest) {
        match one {
            Guest::Read(vmi) => drop(self.valid.insert(uid.to_owned(), Arc::clone(vmi))),
            Guest::Unreadable { domain, .. } => {
                self.invalid.insert(uid.to_owned(), domain.clone());
            }
        }
    }

    /// Whether there is an object of this uid, readable or not.
    #[must_use]
    pub fn contains(&self, uid: &str) -> bool {
        self.valid.contains_key(uid) || self.invalid.contains_key(uid)
    }

    /// The domains of all of them.
    #[must_use]
    pub fn domains(&self) -> BTreeSet<String> {
        let valid = self
            .valid
            .values()
            .map(|vmi| net::names::domain(&vmi.namespace().unwrap_or_default(), &vmi.name_any()));
        valid.chain(self.invalid.values().cloned()).collect()
    }
}

/// Versions are opaque by contract and numbers in fact.
fn version(object: &impl ResourceExt) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

/// The one object of a store that has one at most.
fn only<K>(store: &Store<Guarded<K>>) -> Result<Option<K>, String>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let state = store.state();
    let Some(guarded) = state.first() else { return Ok(None) };
    let unfit = |error| format!("{} {} does not fit: {error}", K::kind(&()), guarded.name_any());
    guarded.0.as_ref().map(|one| Some(one.clone())).map_err(unfit)
}

/// Keeps a store current, and says that it changed.
pub(crate) async fn follow<T>(
    stream: impl futures::Stream<Item = watcher::Result<T>>,
    changed: watch::Sender<u64>,
    kind: &'static str,
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(_) => changed.send_modify(|count| *count += 1),
            Err(error) => tracing::warn!(kind, %error, "The API cannot be watched; trying again"),
        }
    }
}
