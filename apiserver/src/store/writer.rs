//! The one thread that changes anything.
//!
//! It takes everything that waits in the queue, decides the changes in their order, writes them
//! as one batch with one `fsync`, publishes and answers. While the disk works, the next batch
//! gathers; so the number of changes per second grows with the number of callers, and one caller
//! alone waits for one `fsync`.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;

use super::disk::{Commit, Disk};
use super::{Event, EventKind, Key, Mode, Observer, State, Stored};
use crate::status::{ApiError, Subject};
use crate::{Admission, Proposal, object};

/// Changes written with one `fsync`.
const BATCH: usize = 512;

/// What a decision wants done.
#[derive(Debug)]
pub(crate) enum Change {
    /// Store this. The writer gives it its version.
    Put(Value),
    /// Remove the object, whose last state this is.
    Remove(Value),
    /// Leave everything as it is: no version, no event.
    Keep,
}

/// What was done.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Created(Arc<Stored>),
    Updated(Arc<Stored>),
    Removed(Arc<Stored>),
    /// Nothing changed; `None` when there is no object either.
    Kept(Option<Arc<Stored>>),
}

/// Who asks for a change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Author {
    /// Whose fields these become; nobody's where the server itself asks.
    pub(crate) manager: String,
    /// What the author is warned of.
    pub(crate) warnings: Arc<Mutex<Vec<String>>>,
}

type Decide = Box<dyn FnOnce(&View<'_>, Option<Value>) -> Result<Change, ApiError> + Send>;

/// A change that waits for the writer.
pub(super) struct Mutation {
    pub(super) key: Key,
    pub(super) mode: Mode,
    pub(super) decide: Decide,
    pub(super) author: Author,
    pub(super) reply: oneshot::Sender<Result<Outcome, ApiError>>,
}

/// The state a decision is made on: what readers see, and over it what earlier decisions of the
/// same batch changed.
pub(crate) struct View<'a> {
    committed: &'a State,
    pending: &'a HashMap<Key, Option<Arc<Stored>>>,
}

impl View<'_> {
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        match self.pending.get(key) {
            Some(changed) => changed.clone(),
            None => self.committed.get(key).cloned(),
        }
    }

    /// All objects of a collection.
    pub(crate) fn list(&self, collection: &super::Collection) -> Vec<Arc<Stored>> {
        let unchanged = self.committed.collections.get(collection).into_iter().flatten();
        let unchanged = unchanged.filter(|((namespace, name), _)| {
            let key = Key {
                collection: collection.clone(),
                namespace: namespace.clone(),
                name: name.clone(),
            };
            !self.pending.contains_key(&key)
        });
        let changed = self.pending.iter().filter(|(key, _)| key.collection == *collection);
        unchanged
            .map(|(_, stored)| stored.clone())
            .chain(changed.filter_map(|(_, stored)| stored.clone()))
            .collect()
    }
}

pub(super) struct Writer {
    pub(super) disk: Disk,
    pub(super) state: Arc<RwLock<State>>,
    pub(super) announce: watch::Sender<u64>,
    pub(super) observer: Observer,
    pub(super) admission: Arc<dyn Admission>,
    pub(super) requests: mpsc::Receiver<Mutation>,
}

/// Decisions of one batch, not yet on disk.
#[derive(Default)]
struct Draft {
    version: u64,
    pending: HashMap<Key, Option<Arc<Stored>>>,
    events: Vec<Arc<Event>>,
    commit: Commit,
}

type Answer = (oneshot::Sender<Result<Outcome, ApiError>>, Result<Outcome, ApiError>);

impl Writer {
    /// Works until every `Store` handle is gone or the disk fails.
    pub(super) fn run(mut self) {
        while let Some(first) = self.requests.blocking_recv() {
            let mut draft = Draft { version: self.state.read().version, ..Draft::default() };
            let mut answers: Vec<Answer> = vec![];
            let mut next = Some(first);
            while let Some(mutation) = next {
                let Mutation { key, mode, decide, author, reply } = mutation;
                let outcome = self.decide(&mut draft, key, mode, decide, &author);
                answers.push((reply, outcome));
                next = (answers.len() < BATCH).then(|| self.requests.try_recv().ok()).flatten();
            }
            if let Err(error) = self.publish(draft) {
                error!(error = &error as &dyn std::error::Error, "The disk refused a write");
                for (reply, _) in answers {
                    reply.send(Err(ApiError::internal("the disk refused a write"))).ok();
                }
                return;
            }
            for (reply, outcome) in answers {
                // A caller that went away does not want its answer.
                reply.send(outcome).ok();
            }
        }
    }

    fn decide(
        &self,
        draft: &mut Draft,
        key: Key,
        mode: Mode,
        decide: Decide,
        author: &Author,
    ) -> Result<Outcome, ApiError> {
        let state = self.state.read();
        let view = View { committed: &state, pending: &draft.pending };
        let current = view.get(&key);
        let value = current.as_deref().map(Stored::value);
        // A panic in the rules is that request's misfortune and nobody else's.
        let change = std::panic::catch_unwind(AssertUnwindSafe(|| decide(&view, value)))
            .unwrap_or_else(|_| Err(ApiError::internal("the object could not be handled")))?;
        let (value, removed) = match change {
            Change::Keep => return Ok(Outcome::Kept(current)),
            Change::Put(value) => (value, false),
            Change::Remove(value) => (value, true),
        };
        drop(state);
        let value = if removed { value } else { self.completed(&key, value)? };
        let warned = match (removed, current.as_deref()) {
            (true, Some(current)) => self.leaves(&key, current)?,
            (true, None) => vec![],
            (false, current) => self.review(&key, current, &value, &author.manager)?,
        };
        author.warnings.lock().extend(warned);
        if mode == Mode::DryRun {
            let version = current.as_ref().map_or(0, |stored| stored.version);
            let object = Arc::new(Stored { version, json: bytes_of(&value) });
            return Ok(outcome(object, current.is_some(), removed));
        }
        Ok(draft.add(key, current, value, removed))
    }

    /// The object with what whoever runs the server puts into it.
    fn completed(&self, key: &Key, mut object: Value) -> Result<Value, ApiError> {
        let (group, plural) = key.collection.parts();
        if !self.admission.looks_at(group, plural) {
            return Ok(object);
        }
        let complete = AssertUnwindSafe(|| self.admission.complete(plural, &mut object));
        std::panic::catch_unwind(complete)
            .map_err(|_| ApiError::internal("the object could not be completed"))?;
        Ok(object)
    }

    /// Asks whoever runs the server; returns what the author is warned of.
    fn review(
        &self,
        key: &Key,
        current: Option<&Stored>,
        new: &Value,
        manager: &str,
    ) -> Result<Vec<String>, ApiError> {
        let (group, plural) = key.collection.parts();
        if !self.admission.looks_at(group, plural) {
            return Ok(vec![]);
        }
        let old = current.map(Stored::value);
        match old {
            // A finalizer holds it.
            Some(old) if object::is_deleting(new) && !object::is_deleting(&old) => {
                self.answer_leaving(key, &old)
            }
            old => {
                let proposal = Proposal { old: old.as_ref(), new, manager };
                let kind = new["kind"].as_str().unwrap_or(plural);
                let refusal = |refused| ApiError::refused((group, kind, &key.name), &refused);
                answer(|| self.admission.review(plural, proposal), refusal)
            }
        }
    }

    /// The same when the object is to go at once.
    fn leaves(&self, key: &Key, current: &Stored) -> Result<Vec<String>, ApiError> {
        let (group, plural) = key.collection.parts();
        if !self.admission.looks_at(group, plural) {
            return Ok(vec![]);
        }
        let object = current.value();
        if object::is_deleting(&object) {
            return Ok(vec![]);
        }
        self.answer_leaving(key, &object)
    }

    fn answer_leaving(&self, key: &Key, object: &Value) -> Result<Vec<String>, ApiError> {
        let (group, plural) = key.collection.parts();
        let subject = Subject { group, plural, name: &key.name };
        let refusal = |why: String| ApiError::forbidden(subject, &why);
        answer(|| self.admission.leaves(plural, object), refusal)
    }

    /// Makes the draft durable, then visible.
    fn publish(&self, draft: Draft) -> Result<(), super::DiskError> {
        if draft.events.is_empty() {
            return Ok(());
        }
        self.disk.commit(draft.commit, draft.version)?;
        {
            let mut state = self.state.write();
            for (key, stored) in draft.pending {
                match stored {
                    Some(stored) => state.put(&key, stored),
                    None => state.remove(&key),
                }
            }
            for event in &draft.events {
                state.log.push(event.clone());
            }
            state.version = draft.version;
        }
        (self.observer)(&draft.events, &self.state.read());
        draft.events.iter().for_each(|event| {
            tell(&*self.admission, &event.key, &event.object, event.kind == EventKind::Deleted);
        });
        self.announce.send_replace(draft.version);
        Ok(())
    }
}

/// What whoever runs the server says.
fn answer<E>(
    ask: impl FnOnce() -> Result<Vec<String>, E>,
    refusal: impl FnOnce(E) -> ApiError,
) -> Result<Vec<String>, ApiError> {
    std::panic::catch_unwind(AssertUnwindSafe(ask))
        .map_err(|_| ApiError::internal("the object could not be reviewed"))?
        .map_err(refusal)
}

/// Tells whoever runs the server of an object, if it wants to know.
pub(super) fn tell(admission: &dyn Admission, key: &Key, object: &Stored, gone: bool) {
    let (group, plural) = key.collection.parts();
    if !admission.follows(group, plural) {
        return;
    }
    let told = || match gone {
        true => admission.removed(plural, &object.json),
        false => admission.stored(plural, &object.json),
    };
    if std::panic::catch_unwind(AssertUnwindSafe(told)).is_err() {
        error!(?key, "An object could not be told of");
    }
}

impl Draft {
    fn add(
        &mut self,
        key: Key,
        current: Option<Arc<Stored>>,
        mut value: Value,
        removed: bool,
    ) -> Outcome {
        self.version += 1;
        object::metadata_mut(&mut value)
            .insert("resourceVersion".to_owned(), self.version.to_string().into());
        let object = Arc::new(Stored { version: self.version, json: bytes_of(&value) });
        let existed = current.is_some();
        let kind = match (existed, removed) {
            (_, true) => EventKind::Deleted,
            (true, false) => EventKind::Modified,
            (false, false) => EventKind::Added,
        };
        let previous = current.as_ref().map_or(0, |stored| stored.json.len());
        if removed {
            self.commit.remove(&key, previous);
            self.pending.insert(key.clone(), None);
        } else {
            self.commit.put(&key, &object.json, previous);
            self.pending.insert(key.clone(), Some(object.clone()));
        }
        self.events.push(Arc::new(Event {
            version: self.version,
            key,
            kind,
            object: object.clone(),
            previous: current,
        }));
        outcome(object, existed, removed)
    }
}

fn outcome(object: Arc<Stored>, existed: bool, removed: bool) -> Outcome {
    match (existed, removed) {
        (_, true) => Outcome::Removed(object),
        (true, false) => Outcome::Updated(object),
        (false, false) => Outcome::Created(object),
    }
}

fn bytes_of(value: &Value) -> Bytes {
    let json = serde_json::to_vec(value).expect("a JSON value can be written");
    // Growing left up to half of the buffer unused, and objects stay for long.
    Bytes::from(json.into_boxed_slice())
}
