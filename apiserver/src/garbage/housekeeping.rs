//! The namespaces every cluster has, and the end of old events.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::warn;

use crate::http::Server;
use crate::managed::Operation;
use crate::object;
use crate::registry::{Served, namespaces};
use crate::status::ApiError;
use crate::store::{Change, Collection, Key, Mode, Store};
use crate::write::{self, Writing};

const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

/// How long events are kept, as upstream.
const EVENT_LIFE: Duration = Duration::from_secs(3600);
const EVENT_SWEEP: Duration = Duration::from_secs(300);

/// Makes the namespaces clients take for granted.
pub(crate) async fn ensure_namespaces(store: &Store, served: &Served) -> Result<(), ApiError> {
    let registry = served.now();
    let resource = registry.get("", "v1", "namespaces").expect("namespaces are built in").clone();
    for name in NAMESPACES {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let resource = resource.clone();
        let decide = move |view: &crate::store::View<'_>, current: Option<Value>| match current {
            Some(_) => Ok(Change::Keep),
            None => {
                let writing = Writing { manager: "berth".to_owned(), ..Writing::default() };
                write::create(&resource, view, None, body, &writing, Operation::Update)
            }
        };
        store.mutate(Key::new(&namespaces(), "", name), Mode::Commit, decide).await?;
    }
    Ok(())
}

/// Deletes events an hour after they were last seen, until the server stops.
pub(crate) async fn expire_events(server: Arc<Server>) {
    let mut sweep = tokio::time::interval(EVENT_SWEEP);
    loop {
        tokio::select! {
            _ = sweep.tick() => {}
            () = server.shutdown.cancelled() => return,
        }
        let (events, _) = server.store.list(&Collection::new("", "events"), None, None);
        for stored in events {
            let event = stored.value();
            if !is_old(&event) {
                continue;
            }
            let (namespace, name) = (object::namespace(&event), object::name(&event));
            let key = Key::new(&Collection::new("", "events"), namespace, name);
            let decide = |_: &crate::store::View<'_>, current: Option<Value>| match current {
                Some(current) if is_old(&current) => Ok(Change::Remove(current)),
                _ => Ok(Change::Keep),
            };
            if let Err(error) = server.store.mutate(key, Mode::Commit, decide).await {
                warn!(%error, "An old event could not be deleted");
            }
        }
    }
}

fn is_old(event: &Value) -> bool {
    let times = [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    let seen = times.iter().filter_map(|time| time.as_str()?.parse::<Timestamp>().ok()).max();
    seen.is_some_and(|seen| {
        Timestamp::now().duration_since(seen).unsigned_abs() > EVENT_LIFE && seen < Timestamp::now()
    })
}
