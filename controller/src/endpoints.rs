//! EndpointSlices of Services that select VMs, so that whoever serves Services finds guests
//! as he finds pods.
//!
//! ```text
//!  instances (the watches) ─┐
//!  Services ────────────────┼─► Directory ─ dirty Services ─► plan ─► EndpointSlices
//!  our EndpointSlices ──────┘
//! ```
//!
//! A Service is answered for by several: Kubernetes' controller makes slices of its pods, we
//! make ours of its VMs, told apart by the label `endpointslice.kubernetes.io/managed-by`. A
//! Service that selects no VM gets none of us. What is wanted is made anew from the objects
//! each time (`plan`) and compared with what is there; two controllers name
//! the same slice the same.

mod guest;
mod plan;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource, ResourceExt as _};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use self::guest::Guest;
use self::plan::{MANAGED_BY, MANAGER, SERVICE_NAME, Write, plan};
use crate::ledger::VmKey;
use crate::shelf::Seen;
use crate::world::{Event, vm_key_of};

/// The least time from one look to the next.
const REST: Duration = Duration::from_millis(100);
/// After a write that failed: the first pause, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A write that is not answered for so long is given up.
const LIMIT: Duration = Duration::from_secs(30);
/// Writes in flight at once.
const PARALLEL_WRITES: usize = 8;
/// By which a node tells where it is.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Where the watches leave what is news here.
#[derive(Debug, Default)]
pub struct Directory {
    known: Mutex<Known>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// None before the instances were listed.
    guests: Option<HashMap<VmKey, Guest>>,
    services: Listed<Service>,
    slices: Listed<EndpointSlice>,
    zones: BTreeMap<String, String>,
    /// Services that may have other slices than they should.
    dirty: BTreeSet<VmKey>,
}

/// Objects of one kind, and whether all were told.
#[derive(Debug)]
struct Listed<K> {
    objects: HashMap<VmKey, K>,
    /// Those of a list that goes on.
    listing: HashMap<VmKey, K>,
    is_complete: bool,
}

impl<K> Default for Listed<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), listing: HashMap::new(), is_complete: false }
    }
}

impl<K: Resource> Listed<K> {
    /// Takes in what a watch saw; the objects whose Services are to be looked at.
    fn apply(&mut self, event: watcher::Event<K>, of: impl Fn(&K) -> Option<VmKey>) -> Vec<VmKey> {
        let key = |object: &K| vm_key_of(object.meta());
        match event {
            watcher::Event::Init => {
                self.listing.clear();
                vec![]
            }
            watcher::Event::InitApply(object) => {
                self.listing.insert(key(&object), object);
                vec![]
            }
            watcher::Event::InitDone => {
                let before =
                    std::mem::replace(&mut self.objects, std::mem::take(&mut self.listing));
                self.is_complete = true;
                before.values().chain(self.objects.values()).filter_map(of).collect()
            }
            watcher::Event::Apply(object) => {
                let of = of(&object);
                self.objects.insert(key(&object), object);
                of.into_iter().collect()
            }
            watcher::Event::Delete(object) => {
                self.objects.remove(&key(&object));
                of(&object).into_iter().collect()
            }
        }
    }
}

impl Directory {
    /// Takes in what a watch saw, as far as it concerns a Service.
    pub fn apply(&self, event: &Event) {
        let mut known = self.known.lock();
        match event {
            Event::Instance(seen) => known.instances_seen(seen),
            Event::Node(Seen::All { objects, .. }) => {
                known.zones = objects.iter().filter_map(zone_of).collect();
                known.look_at_all();
            }
            Event::Node(Seen::Now(node)) => {
                let zone = zone_of(node).map(|(_, zone)| zone);
                if known.zones.get(&node.name_any()) != zone.as_ref() {
                    known.zones.extend(zone.map(|zone| (node.name_any(), zone)));
                    known.look_at_all();
                }
            }
            _ => return,
        }
        if !known.dirty.is_empty() {
            self.bell.notify_one();
        }
    }

    /// The writes that are missing, by Service, once everything is known.
    fn missing(&self) -> Vec<(VmKey, Write)> {
        let mut known = self.known.lock();
        let is_complete = known.services.is_complete && known.slices.is_complete;
        if !is_complete || known.guests.is_none() {
            return vec![];
        }
        let dirty = std::mem::take(&mut known.dirty);
        dirty.into_iter().flat_map(|key| known.plan(key)).collect()
    }

    fn again(&self, services: impl IntoIterator<Item = VmKey>) {
        self.known.lock().dirty.extend(services);
    }
}

fn zone_of(node: &k8s_openapi::api::core::v1::Node) -> Option<(String, String)> {
    Some((node.name_any(), node.labels().get(ZONE)?.clone()))
}

impl Known {
    fn look_at_all(&mut self) {
        self.dirty.extend(self.services.objects.keys().cloned());
    }

    fn instances_seen(&mut self, seen: &Seen<crds::kubevirt::VirtualMachineInstance>) {
        match seen {
            Seen::All { objects, .. } => {
                let guest = |vmi| {
                    Some((
                        vm_key_of(&(vmi as &crds::kubevirt::VirtualMachineInstance).metadata),
                        Guest::of(vmi)?,
                    ))
                };
                self.guests = Some(objects.iter().filter_map(guest).collect());
                self.look_at_all();
            }
            Seen::Now(vmi) => self.put(vm_key_of(&vmi.metadata), Guest::of(vmi)),
            Seen::Gone(meta) => self.put(vm_key_of(meta), None),
            // It is as it was, until somebody repairs it.
            Seen::Unreadable(_) => {}
        }
    }

    fn put(&mut self, key: VmKey, guest: Option<Guest>) {
        let guests = self.guests.get_or_insert_default();
        let old = match guest.clone() {
            Some(guest) => guests.insert(key.clone(), guest),
            None => guests.remove(&key),
        };
        if old == guest {
            return;
        }
        let both = [&old, &guest];
        let selects = |service: &Service| {
            both.into_iter().flatten().any(|guest| plan::selects(service, &guest.labels))
        };
        let services = self.services.objects.iter();
        let touched = services.filter(|(at, one)| at.namespace == key.namespace && selects(one));
        self.dirty.extend(touched.map(|(at, _)| at.clone()));
    }

    fn plan(&self, key: VmKey) -> Vec<(VmKey, Write)> {
        let is_its = |slice: &&EndpointSlice| service_of(slice).as_ref() == Some(&key);
        let have: Vec<_> = self.slices.objects.values().filter(is_its).collect();
        let writes = match self.services.objects.get(&key) {
            None => have.into_iter().map(plan::removal).collect(),
            Some(service) => {
                let guests = self.guests.iter().flatten();
                let guests = guests.filter(|(at, _)| at.namespace == key.namespace);
                let guests = guests.map(|(at, guest)| (at.name.as_str(), guest));
                plan(service, guests, &self.zones, &have)
            }
        };
        writes.into_iter().map(|write| (key.clone(), write)).collect()
    }
}

/// The Service that a slice is of.
fn service_of(slice: &EndpointSlice) -> Option<VmKey> {
    let name = slice.labels().get(SERVICE_NAME)?.clone();
    Some(VmKey { namespace: slice.namespace().unwrap_or_default(), name })
}

/// Runs until it is dropped.
pub(crate) async fn run(client: Client, directory: Arc<Directory>) {
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let services =
        follow(Api::<Service>::all(client.clone()), watcher::Config::default(), |event| {
            let of = |service: &Service| Some(vm_key_of(&service.metadata));
            let mut known = directory.known.lock();
            let touched = known.services.apply(event, of);
            known.dirty.extend(touched);
            directory.bell.notify_one();
        });
    let slices = follow(Api::<EndpointSlice>::all(client.clone()), ours, |event| {
        let mut known = directory.known.lock();
        let touched = known.slices.apply(event, service_of);
        known.dirty.extend(touched);
        directory.bell.notify_one();
    });
    tokio::join!(services, slices, keep(&client, &directory));
}

/// Tells of all objects of a kind, for ever.
async fn follow<K>(api: Api<K>, config: watcher::Config, tell: impl Fn(watcher::Event<K>))
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    loop {
        match events.try_next().await {
            Ok(Some(event)) => tell(event),
            Ok(None) => return,
            Err(error) => {
                warn!(%error, "Services that select VMs may have old endpoints: allow get, list and watch of services, and everything of endpointslices");
            }
        }
    }
}

async fn keep(client: &Client, directory: &Directory) {
    let mut pause = AGAIN.0;
    loop {
        let failed = carry_out(client, directory.missing()).await;
        if failed.is_empty() {
            pause = AGAIN.0;
            sleep(REST).await;
            // Whoever rang meanwhile has left the bell rung.
            directory.bell.notified().await;
        } else {
            directory.again(failed);
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    }
}

/// Carries out all writes; the Services of which one failed.
async fn carry_out(client: &Client, writes: Vec<(VmKey, Write)>) -> Vec<VmKey> {
    let each = writes.into_iter().map(|(service, write)| async move {
        match timeout(LIMIT, perform(client, &service.namespace, write)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                match &error {
                    // It is there, or is gone or another: the watch says how.
                    kube::Error::Api(status) if matches!(status.code, 404 | 409) => {
                        debug!(%service, %error, "An EndpointSlice is not as it was seen");
                    }
                    _ => warn!(%service, %error, "An EndpointSlice was not written"),
                }
                Some(service)
            }
            Err(_) => Some(service),
        }
    });
    let outcomes = futures::stream::iter(each).buffer_unordered(PARALLEL_WRITES);
    outcomes.filter_map(std::future::ready).collect().await
}

async fn perform(client: &Client, namespace: &str, write: Write) -> Result<(), kube::Error> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let params = PostParams::default();
    match write {
        Write::Make(slice) => {
            let made = api.create(&params, &slice).await?;
            info!(slice = made.name_any(), namespace, "VMs are a Service's endpoints");
        }
        Write::Change(slice) => drop(api.replace(&slice.name_any(), &params, &slice).await?),
        Write::Remove { name, uid } => {
            let this = Preconditions { uid: Some(uid), resource_version: None };
            drop(api.delete(&name, &DeleteParams::default().preconditions(this)).await?);
        }
    }
    Ok(())
}
