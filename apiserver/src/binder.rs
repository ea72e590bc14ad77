//! Claims get volumes that somebody has made for them: what kube-controller-manager's
//! persistent volume binder does in a cluster.
//!
//! ```text
//!  claim, Pending ──► volume's claimRef ──► claim's volumeName ──► both Bound
//!  the claim is deleted                                            volume Released
//! ```
//!
//! Each step is one write, decided from the two objects as they are, so that a server which
//! is killed in between goes on. Nothing is provisioned, and what a volume holds is never
//! touched: one that is Released waits for its owner, whatever its reclaim policy says. A
//! storage class's `WaitForFirstConsumer` has no effect: whoever runs something on a claim
//! goes where its volume is.

mod step;

use std::sync::Arc;

use serde_json::{Value, json};
use tracing::{debug, warn};

use self::step::{Action, Step, steps};
use crate::http::Server;
use crate::managed::Operation;
use crate::object;
use crate::status::ApiError;
use crate::store::{Change, Collection, Key, Mode, View};
use crate::write::{self, Part, Writing};

/// Events taken from the log at once.
const PIECE: usize = 512;

const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";

/// Says that who bound it was not who made it.
const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Says that a claim has its volume for good.
const COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// Runs until the server stops.
pub(crate) async fn bind(server: Arc<Server>) {
    let mut versions = server.store.versions();
    let of_both = |key: &Key| matches!(key.collection.parts(), ("", CLAIMS | VOLUMES));
    let mut version = 0;
    loop {
        versions.borrow_and_update();
        let (is_news, upto) = match server.store.events_after(version, PIECE, of_both) {
            Ok((events, upto)) => (!events.is_empty(), upto),
            // At the beginning, and when it fell behind.
            Err(_) => (true, server.store.version()),
        };
        version = upto;
        if is_news {
            look(&server).await;
            continue;
        }
        tokio::select! {
            changed = versions.changed() => if changed.is_err() { return },
            () = server.shutdown.cancelled() => return,
        }
    }
}

async fn look(server: &Server) {
    let all = |plural| {
        let (stored, _) = server.store.list(&Collection::new("", plural), None, None);
        stored.iter().map(|one| one.value()).collect::<Vec<_>>()
    };
    let (claims, volumes) = (all(CLAIMS), all(VOLUMES));
    for step in steps(&claims, &volumes) {
        debug!(?step, "Binding");
        perform(server, step).await;
    }
}

async fn perform(server: &Server, step: Step) {
    let plural = if step.is_of_claim() { CLAIMS } else { VOLUMES };
    let registry = server.served.now();
    let resource = registry.get("", "v1", plural).expect("both are built in").clone();
    let key = Key::new(&Collection::new("", plural), &step.namespace, &step.name);
    let place = key.clone();
    let decide = move |view: &View<'_>, current: Option<Value>| {
        let unchanged = |current: &Value| {
            object::uid(current) == step.uid && object::resource_version(current) == step.version
        };
        let Some(current) = current.filter(unchanged) else { return Ok(Change::Keep) };
        let mut proposed = current.clone();
        let part = apply(step.action, &mut proposed);
        let writing = Writing { manager: "pv-binder".to_owned(), ..Writing::default() };
        write::update(&resource, view, &current, proposed, part, &writing, Operation::Update)
    };
    match server.store.mutate(place, Mode::Commit, decide).await {
        Ok(_) | Err(ApiError { code: 503, .. }) => {}
        Err(error) => warn!(?key, %error, "A claim or its volume could not be written"),
    }
}

/// Makes `object` what the step wants; returns the part of it that changes.
fn apply(action: Action, object: &mut Value) -> Part {
    match action {
        Action::Reserve(reference) => {
            object["spec"]["claimRef"] = reference;
            note(object, BY_CONTROLLER);
            Part::Main
        }
        Action::Take(volume) => {
            object["spec"]["volumeName"] = volume.into();
            note(object, BY_CONTROLLER);
            note(object, COMPLETED);
            Part::Main
        }
        Action::Phase(phase) => {
            object["status"]["phase"] = phase.into();
            Part::Status
        }
        Action::Bound { modes, capacity } => {
            object["status"] =
                json!({ "phase": "Bound", "accessModes": modes, "capacity": capacity });
            Part::Status
        }
    }
}

fn note(object: &mut Value, key: &str) {
    let metadata = object::metadata_mut(object);
    let notes = metadata.entry("annotations").or_insert_with(|| json!({}));
    if notes.is_null() {
        *notes = json!({});
    }
    notes[key] = "yes".into();
}
