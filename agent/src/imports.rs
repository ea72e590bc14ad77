//! Claims that this node fills, and the volumes of this node that go.
//!
//! ```text
//!  claim, labelled with this node ─► job ─► fetch ─► scratch ─► converted ─► disk.img
//!                ▲                    │      bytes     raw, whole, synced     by a rename
//!                └── phase, progress ─┘
//! ```
//!
//! The controller names the node on the claim (`crds::cdi::notes`), and the job says on the
//! claim how far it is; nothing else is known of it. What is not finished lies beside the disk
//! under another name, or in the state directory where the disk is a device, and is thrown away
//! when an agent begins anew. Nobody starts a VM on a claim that does not say `Succeeded`.
//!
//! Jobs are tasks of their own, few at a time, and hold up no VM.

mod cut;
mod decoded;
mod fault;
mod fetch;
mod given;
mod image;
mod job;
mod order;
mod pipe;
mod place;
mod pulled;
mod removal;
mod sign;
mod told;
mod uploaded;
mod uploads;
mod zeroes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crds::cdi::notes::{IMPORTER, VOLUME_NODE};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use self::image::confined;
pub(crate) use self::pipe::{Sender, pipe};
pub(crate) use self::uploads::Arrival;
pub use self::uploads::Uploads;
use crate::volumes::Images;
use crate::watch::follow;

/// Claims that are filled at once.
const AT_ONCE: usize = 2;

/// How often it is looked even if nothing was heard of: what waits for a guest to end.
const PERIOD: Duration = Duration::from_secs(15);

/// The least time from one look to the next.
const REST: Duration = Duration::from_millis(100);

/// More bytes than the disk has may an image be: its own tables.
const OVERHEAD: u64 = 64 << 20;

type Guarded<K> = DeserializeGuard<K>;

/// What all jobs of a node share; a cheap handle.
#[derive(Clone)]
pub struct Bench {
    pub client: Client,
    /// This node.
    pub node: String,
    /// The agent's `--state-dir`.
    pub state: PathBuf,
    /// The agent's `--local-volume-dir`, absolute.
    pub volumes: Option<PathBuf>,
    /// What the node has of images.
    pub images: Images,
    /// Claims that wait for what somebody sends.
    pub uploads: Uploads,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Bench").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Fills claims and removes volumes until told to stop.
pub async fn run(bench: Bench, stop: CancellationToken) {
    place::discard_all(&bench.state).await;
    let mut work = Work::start(bench);
    loop {
        work.look();
        tokio::select! {
            () = stop.cancelled() => return,
            changed = work.changes.changed() => if changed.is_err() { return },
            Some(_) = work.tasks.join_next() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
        // What has ended may still look open for a moment.
        tokio::time::sleep(REST).await;
    }
}

/// What is watched, and what is at work. Dropping it ends all.
struct Work {
    bench: Bench,
    claims: Store<Guarded<PersistentVolumeClaim>>,
    volumes: Store<Guarded<PersistentVolume>>,
    changes: watch::Receiver<u64>,
    /// By the uid of what each is about.
    running: HashMap<String, AbortHandle>,
    tasks: JoinSet<()>,
    places: Arc<Semaphore>,
    _watches: JoinSet<()>,
}

impl Work {
    fn start(bench: Bench) -> Self {
        let (changed, changes) = watch::channel(0);
        let mut watches = JoinSet::new();
        let of_node =
            |label: &str| watcher::Config::default().labels(&format!("{label}={}", bench.node));

        let (claims, writer) = reflector::store();
        let api: Api<Guarded<PersistentVolumeClaim>> = Api::all(bench.client.clone());
        let stream = watcher(api, of_node(IMPORTER)).default_backoff().reflect(writer);
        watches.spawn(follow(stream, changed.clone(), "persistentvolumeclaims"));

        let (volumes, writer) = reflector::store();
        let api: Api<Guarded<PersistentVolume>> = Api::all(bench.client.clone());
        let stream = watcher(api, of_node(VOLUME_NODE)).default_backoff().reflect(writer);
        watches.spawn(follow(stream, changed, "persistentvolumes"));

        Self {
            bench,
            claims,
            volumes,
            changes,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            _watches: watches,
        }
    }

    /// Begins what is to be done, and ends what is nobody's wish any more.
    fn look(&mut self) {
        self.changes.mark_unchanged();
        self.running.retain(|_, task| !task.is_finished());
        let claims = self.claims.state();
        let claims = claims.iter().filter_map(|one| one.0.as_ref().ok());
        let open: BTreeMap<_, _> = claims
            .filter(|claim| order::is_open(claim))
            .filter_map(|claim| Some((claim.uid()?, claim)))
            .collect();
        let volumes = self.volumes.state();
        let volumes = volumes.iter().filter_map(|one| one.0.as_ref().ok());
        let leaving: BTreeMap<_, _> = volumes
            .filter(|volume| removal::is_wanted(volume))
            .filter_map(|volume| Some((volume.uid()?, volume)))
            .collect();
        let wanted: BTreeSet<&String> = open.keys().chain(leaving.keys()).collect();
        for (uid, task) in &self.running {
            if !wanted.contains(uid) {
                task.abort();
            }
        }
        for (uid, claim) in open {
            if !self.running.contains_key(&uid) {
                let (bench, places) = (self.bench.clone(), Arc::clone(&self.places));
                let claim = claim.clone();
                let task = self.tasks.spawn(job::run(bench, claim, places));
                self.running.insert(uid, task);
            }
        }
        for (uid, volume) in leaving {
            if !self.running.contains_key(&uid) {
                let task = self.tasks.spawn(removal::run(self.bench.clone(), volume.clone()));
                self.running.insert(uid, task);
            }
        }
    }
}
