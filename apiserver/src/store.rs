//! Every object, once on disk and once in memory, and the history between two versions.
//!
//! ```text
//!  mutate ──▶ queue ──▶ writer thread ──▶ sled: one batch, one flush
//!                            │ (only then)
//!                            ├──▶ index: BTreeMap, what get and list read
//!                            ├──▶ log: the last events, what watches read
//!                            └──▶ answers
//! ```
//!
//! One number counts every change: the resource version. It belongs to the store, not to a
//! kind, so versions of any two objects can be compared, and a list is exact at the version it
//! names. Promises:
//!
//! - A change is on disk before anyone, the caller or a watcher, learns of it.
//! - Changes are decided one after the other, each on the state its predecessor left; a decision
//!   sees whatever it looks up at one version.
//! - A watcher that starts after version *v* gets every later event of its kind, in order, once,
//!   or is told that *v* is too old.
//! - If the disk refuses a write, the outcome is unknown, so the store stops taking changes
//!   (`Store::stopped`) rather than letting memory and disk disagree.

mod disk;
mod log;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use self::disk::Disk;
pub(crate) use self::disk::DiskError;
pub(crate) use self::log::{Event, EventKind};
use self::log::{Log, TooOld};
pub(crate) use self::writer::Author;
pub(crate) use self::writer::{Change, Outcome, View};
use self::writer::{Mutation, Writer, tell};
use crate::status::ApiError;
use crate::{Admission, object};

/// Changes that may wait for the writer; more make their callers wait.
const QUEUE: usize = 1024;

/// All objects of one kind: `<group>/<plural>`, whatever version they are spoken in.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Collection(Arc<str>);

impl Collection {
    pub(crate) fn new(group: &str, plural: &str) -> Self {
        Self(format!("{group}/{plural}").into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Group and plural.
    pub(crate) fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or_default()
    }
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The place of one object.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Key {
    pub(crate) collection: Collection,
    /// Empty for cluster-scoped objects.
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Key {
    pub(crate) fn new(collection: &Collection, namespace: &str, name: &str) -> Self {
        Self { collection: collection.clone(), namespace: namespace.into(), name: name.into() }
    }
}

/// One object at one version. Objects are kept as the bytes they are served as: parsed they would
/// take several times the memory, and most reads only copy them out.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) version: u64,
    pub(crate) json: Bytes,
}

impl Stored {
    /// The object, parsed.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.json).expect("stored objects are JSON")
    }
}

type Objects = BTreeMap<(Arc<str>, Arc<str>), Arc<Stored>>;

/// What readers see; replaced in place by the writer, one committed batch at a time.
#[derive(Debug, Default)]
pub(crate) struct State {
    version: u64,
    collections: HashMap<Collection, Objects>,
    log: Log,
}

impl State {
    fn get(&self, key: &Key) -> Option<&Arc<Stored>> {
        let at = (key.namespace.clone(), key.name.clone());
        self.collections.get(&key.collection)?.get(&at)
    }

    pub(crate) fn list(
        &self,
        collection: &Collection,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Vec<Arc<Stored>> {
        let Some(objects) = self.collections.get(collection) else { return vec![] };
        let named = |of: &str| name.is_none_or(|name| name == of);
        match namespace {
            None => {
                let named = objects.iter().filter(|((_, of), _)| named(of));
                named.map(|(_, stored)| stored.clone()).collect()
            }
            Some(namespace) => {
                let start = (Arc::from(namespace), Arc::from(""));
                objects
                    .range((Bound::Included(start), Bound::Unbounded))
                    .take_while(|((ns, _), _)| &**ns == namespace)
                    .filter(|((_, of), _)| named(of))
                    .map(|(_, stored)| stored.clone())
                    .collect()
            }
        }
    }

    fn put(&mut self, key: &Key, stored: Arc<Stored>) {
        let objects = self.collections.entry(key.collection.clone()).or_default();
        objects.insert((key.namespace.clone(), key.name.clone()), stored);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(objects) = self.collections.get_mut(&key.collection) {
            objects.remove(&(key.namespace.clone(), key.name.clone()));
        }
    }
}

/// Called with each committed batch and the state it led to, after readers see it and before it
/// is answered.
pub(crate) type Observer = Box<dyn Fn(&[Arc<Event>], &State) + Send>;

/// A handle on the store; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    state: Arc<RwLock<State>>,
    version: watch::Receiver<u64>,
    queue: mpsc::Sender<Mutation>,
}

impl Store {
    /// Opens the store in `dir`, reads every object into memory and starts the writer thread.
    ///
    /// The thread ends when the last handle is dropped; the returned handle joins it.
    pub(crate) fn open(
        dir: &Path,
        observer: Observer,
        admission: Arc<dyn Admission>,
    ) -> Result<(Self, std::thread::JoinHandle<()>), DiskError> {
        let disk = Disk::open(dir)?;
        let mut state = State { version: disk.version()?, ..State::default() };
        disk.for_each(|key, json| {
            let version = stored_version(&json);
            state.version = state.version.max(version);
            let json = Bytes::from(json.into_boxed_slice());
            let stored = Arc::new(Stored { version, json });
            tell(&*admission, &key, &stored, false);
            state.put(&key, stored);
        })?;
        state.log.start_at(state.version);
        let (announce, version) = watch::channel(state.version);
        let (queue, requests) = mpsc::channel(QUEUE);
        let state = Arc::new(RwLock::new(state));
        let writer = Writer { disk, state: state.clone(), announce, observer, admission, requests };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(DiskError::Thread)?;
        Ok((Self { state, version, queue }, thread))
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.state.read().get(key).cloned()
    }

    /// The objects in order of namespace and name, of one namespace or of one name if that is
    /// said, and the version at which they are all there is.
    pub(crate) fn list(
        &self,
        collection: &Collection,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> (Vec<Arc<Stored>>, u64) {
        let state = self.state.read();
        (state.list(collection, namespace, name), state.version)
    }

    /// Every object of every kind, and the version at which they are all there is.
    pub(crate) fn everything(&self) -> (Vec<(Key, Arc<Stored>)>, u64) {
        let state = self.state.read();
        let all = state.collections.iter().flat_map(|(collection, objects)| {
            objects.iter().map(|((namespace, name), stored)| {
                let (namespace, name) = (namespace.clone(), name.clone());
                (Key { collection: collection.clone(), namespace, name }, stored.clone())
            })
        });
        (all.collect(), state.version)
    }

    /// The version of the latest change.
    pub(crate) fn version(&self) -> u64 {
        self.state.read().version
    }

    /// At most `limit` events after `version`, those `wanted` says yes to, and the version up to
    /// which there is none besides them.
    pub(crate) fn events_after(
        &self,
        version: u64,
        limit: usize,
        wanted: impl Fn(&Key) -> bool,
    ) -> Result<(Vec<Arc<Event>>, u64), TooOld> {
        let state = self.state.read();
        state.log.after(version, state.version, limit, wanted)
    }

    /// Becomes changed whenever there are events.
    pub(crate) fn versions(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }

    /// Lets `decide` change the object at `key`; see [`View`] for what it can look at.
    ///
    /// `decide` runs on the writer thread with the object as it then is. Once queued, the change
    /// is made even if the caller goes away.
    pub(crate) async fn mutate<F>(
        &self,
        key: Key,
        mode: Mode,
        decide: F,
    ) -> Result<Outcome, ApiError>
    where
        F: FnOnce(&View<'_>, Option<Value>) -> Result<Change, ApiError> + Send + 'static,
    {
        self.mutate_for(Author::default(), key, mode, decide).await
    }

    /// The same for somebody, who is told of what is left in the warnings.
    pub(crate) async fn mutate_for<F>(
        &self,
        author: Author,
        key: Key,
        mode: Mode,
        decide: F,
    ) -> Result<Outcome, ApiError>
    where
        F: FnOnce(&View<'_>, Option<Value>) -> Result<Change, ApiError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let mutation = Mutation { key, mode, decide: Box::new(decide), author, reply };
        self.queue.send(mutation).await.map_err(|_| ApiError::unavailable())?;
        answer.await.map_err(|_| ApiError::unavailable())?
    }

    /// Resolves when the writer has ended although handles are left: the disk failed.
    pub(crate) async fn stopped(&self) {
        self.queue.closed().await;
    }
}

/// Whether a change is made or only tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Commit,
    /// `dryRun=All`: decided and answered like any other, but nothing is kept.
    DryRun,
}

fn stored_version(json: &[u8]) -> u64 {
    let value: Value = serde_json::from_slice(json).unwrap_or_default();
    object::resource_version(&value).parse().unwrap_or(0)
}

#[cfg(test)]
mod tests;
