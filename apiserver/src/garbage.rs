//! What goes because something else went.
//!
//! One task follows the store's log and keeps the graph of owners and dependents. Whenever an
//! object changes, its neighbours are looked at again, and what follows is done:
//!
//! - all owners of an object are gone → delete it (some are gone → forget those);
//! - an object waits with `foregroundDeletion` → delete its dependents, and let it go when none that
//!   blocks it is left;
//! - an object waits with `orphan` → make its dependents forget it, then let it go;
//! - a namespace or a definition is being deleted → delete what is in it, and let it go when it is
//!   empty.
//!
//! Deciding is `Graph`, plain data; doing is a handful of ordinary writes. The graph is built from
//! the whole store at start and whenever the task fell behind the log, so nothing is missed
//! across a restart.
//!
//! An owner in another namespace, or of a kind that is not served, cannot be judged: such a
//! reference counts as an owner that is there.

mod graph;
mod housekeeping;

use std::sync::Arc;

use futures::StreamExt;
use serde_json::Value;
use tracing::{debug, warn};

use self::graph::{Action, Graph, Node};
pub(crate) use self::housekeeping::{ensure_namespaces, expire_events};
use crate::http::Server;
use crate::managed::Operation;
use crate::object;
use crate::registry::{Registry, Resource};
use crate::status::ApiError;
use crate::store::{Change, EventKind, Key, Mode};
use crate::write::{self, Deleting, Part, Writing};

/// Events taken from the log at once.
const PIECE: usize = 512;
/// Writes under way at once; the writer makes one batch of them.
const TOGETHER: usize = 64;

/// Runs until the server stops.
pub(crate) async fn collect(server: Arc<Server>) {
    let mut versions = server.store.versions();
    let (mut graph, mut version) = everything(&server);
    loop {
        versions.borrow_and_update();
        match server.store.events_after(version, PIECE, |_| true) {
            Ok((events, upto)) => {
                let registry = server.served.now();
                for event in &events {
                    let node = Node::read(&event.key, &event.object);
                    match event.kind {
                        EventKind::Deleted => graph.remove(&node.uid),
                        EventKind::Added | EventKind::Modified => graph.put(node),
                    }
                }
                version = upto;
                let actions = graph.decide(&registry);
                let idle = actions.is_empty() && events.is_empty();
                perform(&server, &registry, actions).await;
                if !idle {
                    continue;
                }
            }
            Err(_) => {
                warn!("The garbage collector fell behind and starts over");
                (graph, version) = everything(&server);
                continue;
            }
        }
        tokio::select! {
            changed = versions.changed() => if changed.is_err() { return },
            () = server.shutdown.cancelled() => return,
        }
    }
}

fn everything(server: &Server) -> (Graph, u64) {
    let (objects, version) = server.store.everything();
    let mut graph = Graph::default();
    for (key, stored) in &objects {
        graph.put(Node::read(key, stored));
    }
    (graph, version)
}

async fn perform(server: &Server, registry: &Registry, actions: Vec<Action>) {
    let writes = actions.into_iter().filter_map(|action| {
        let (key, uid) = action.target();
        // A definition's objects cannot be written any more once the definition is gone, but then
        // they are gone as well.
        let resource = registry.of_collection(&key.collection)?.clone();
        Some(perform_one(server, resource, key.clone(), uid.to_owned(), action))
    });
    futures::stream::iter(writes).buffer_unordered(TOGETHER).collect::<()>().await;
}

async fn perform_one(
    server: &Server,
    resource: Arc<Resource>,
    key: Key,
    uid: String,
    action: Action,
) {
    debug!(?action, "Collecting");
    let decide = move |view: &crate::store::View<'_>, current: Option<Value>| {
        // Another object may have taken the name.
        let Some(current) = current.filter(|current| object::uid(current) == uid) else {
            return Ok(Change::Keep);
        };
        let change = |proposed: Value, part: Part| {
            let writing = Writing { manager: "garbage-collector".to_owned(), ..Writing::default() };
            let (proposed, current) = (resource.view(proposed), resource.view(current.clone()));
            write::update(&resource, view, &current, proposed, part, &writing, Operation::Update)
        };
        match action {
            Action::Delete { propagation, .. } => {
                let deleting = Deleting { propagation, ..Deleting::default() };
                write::delete(&resource, current, &deleting)
            }
            Action::DropFinalizer { finalizer, .. } => {
                let mut proposed = current.clone();
                object::remove_finalizer(&mut proposed, finalizer);
                change(proposed, Part::Main)
            }
            Action::DropOwners { owners, .. } => {
                let mut proposed = current.clone();
                drop_owners(&mut proposed, &owners);
                change(proposed, Part::Main)
            }
            Action::FinishNamespace { .. } => {
                let mut proposed = current.clone();
                proposed["spec"]["finalizers"] = Value::Array(vec![]);
                change(proposed, Part::Finalize)
            }
        }
    };
    match server.store.mutate(key.clone(), Mode::Commit, decide).await {
        Ok(_) => {}
        Err(ApiError { code: 503, .. }) => {}
        Err(error) => warn!(?key, %error, "A dependent could not be collected"),
    }
}

fn drop_owners(object: &mut Value, owners: &[String]) {
    let metadata = object::metadata_mut(object);
    let list = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut);
    let Some(list) = list else { return };
    list.retain(|owner| !owners.iter().any(|uid| owner["uid"] == uid.as_str()));
    if list.is_empty() {
        metadata.shift_remove("ownerReferences");
    }
}
