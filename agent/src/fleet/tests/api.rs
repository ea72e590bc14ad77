//! A Kubernetes API in memory: VMIs with versions, watches, finalizers and merge
//! patches, a fixed set of subnets, and a switch that takes it all away.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use crds::kubevirt::VirtualMachineInstance;
use futures::StreamExt as _;
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

/// A handle on the API.
#[derive(Clone, Debug)]
pub(super) struct FakeApi {
    store: Arc<Mutex<Store>>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Store {
    vmis: BTreeMap<String, Value>,
    subnets: Vec<Value>,
    /// What happened to VMIs: the version, and the event as a watch tells it.
    log: Vec<(u64, Value)>,
    /// Writes by others than the test.
    writes: Vec<(String, Value)>,
    away: bool,
}

impl FakeApi {
    pub(super) fn new(subnets: Vec<Value>) -> Self {
        let store = Store { subnets, ..Store::default() };
        Self { store: Arc::new(Mutex::new(store)), version: watch::channel(1).0 }
    }

    pub(super) fn client(&self) -> Client {
        let group = "/apis/kubevirt.io/v1";
        let router = Router::new()
            .route(&format!("{group}/virtualmachineinstances"), get(list))
            .route(
                &format!("{group}/namespaces/{{namespace}}/virtualmachineinstances/{{name}}"),
                get(read).patch(write),
            )
            .route("/apis/kubeovn.io/v1/subnets", get(list_subnets))
            .with_state(self.clone());
        Client::new(router, "default")
    }

    /// Answers nothing any more, or again.
    pub(super) fn away(&self, away: bool) {
        self.store.lock().away = away;
    }

    pub(super) fn create(&self, mut vmi: Value) {
        let name = vmi["metadata"]["name"].as_str().unwrap().to_owned();
        let uid = uuid::Uuid::from_u128(u128::from(*self.version.borrow())).to_string();
        vmi["metadata"]["uid"] = json!(uid);
        self.put("ADDED", &name, vmi);
    }

    /// What a DELETE does: at once, or when the last finalizer goes.
    pub(super) fn delete(&self, name: &str) {
        let mut vmi = self.store.lock().vmis[name].clone();
        vmi["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        self.settle(name, vmi);
    }

    /// Removes it, finalizers or not.
    pub(super) fn vanish(&self, name: &str) {
        let vmi = self.store.lock().vmis[name].clone();
        self.put("DELETED", name, vmi);
    }

    pub(super) fn vmi(&self, name: &str) -> Option<VirtualMachineInstance> {
        let vmi = self.store.lock().vmis.get(name).cloned()?;
        Some(serde_json::from_value(vmi).unwrap())
    }

    /// Changes a VMI, as others do.
    pub(super) fn change(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut vmi = self.store.lock().vmis[name].clone();
        change(&mut vmi);
        self.settle(name, vmi);
    }

    /// The patches that the agent wrote to a VMI.
    pub(super) fn writes(&self, name: &str) -> Vec<Value> {
        let store = self.store.lock();
        store.writes.iter().filter(|(to, _)| to == name).map(|(_, patch)| patch.clone()).collect()
    }

    fn settle(&self, name: &str, vmi: Value) {
        let held = vmi["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        let ends = !vmi["metadata"]["deletionTimestamp"].is_null() && !held;
        self.put(if ends { "DELETED" } else { "MODIFIED" }, name, vmi);
    }

    fn put(&self, event: &str, name: &str, mut vmi: Value) {
        let version = *self.version.borrow() + 1;
        vmi["metadata"]["resourceVersion"] = json!(version.to_string());
        let mut store = self.store.lock();
        store.log.push((version, json!({ "type": event, "object": vmi })));
        if event == "DELETED" {
            store.vmis.remove(name);
        } else {
            store.vmis.insert(name.to_owned(), vmi);
        }
        drop(store);
        self.version.send_replace(version);
    }

    fn refuses(&self) -> bool {
        self.store.lock().away
    }
}

fn status(code: StatusCode, reason: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code.as_u16(), "reason": reason, "message": reason,
    });
    (code, Json(body)).into_response()
}

fn away() -> Response {
    status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
}

type Parameters = Query<BTreeMap<String, String>>;

async fn list(State(api): State<FakeApi>, Query(parameters): Parameters) -> Response {
    if api.refuses() {
        return away();
    }
    if parameters.get("watch").is_none_or(|watch| watch != "true") {
        let version = api.version.borrow().to_string();
        let selector = parameters.get("labelSelector");
        let store = api.store.lock();
        let items: Vec<_> =
            store.vmis.values().filter(|vmi| is_selected(vmi, selector)).cloned().collect();
        return Json(json!({
            "kind": "VirtualMachineInstanceList", "apiVersion": "kubevirt.io/v1",
            "metadata": { "resourceVersion": version }, "items": items,
        }))
        .into_response();
    }
    let since: u64 = parameters["resourceVersion"].parse().unwrap();
    let selector = parameters.get("labelSelector").cloned();
    Body::from_stream(events(api, since, selector).map(Ok::<_, Infallible>)).into_response()
}

/// Whether an object has the label that `key=value` asks for.
fn is_selected(vmi: &Value, selector: Option<&String>) -> bool {
    let Some((key, value)) = selector.and_then(|text| text.split_once('=')) else { return true };
    vmi["metadata"]["labels"][key] == value
}

/// Everything after `since`, a line each, for as long as anyone listens.
fn events(
    api: FakeApi,
    since: u64,
    selector: Option<String>,
) -> impl futures::Stream<Item = String> {
    futures::stream::unfold(since, move |since| {
        let (api, selector) = (api.clone(), selector.clone());
        async move {
            let mut version = api.version.subscribe();
            version.wait_for(|version| *version > since).await.ok()?;
            let store = api.store.lock();
            let news = store.log.iter().filter(|(version, _)| *version > since);
            let lines = news.clone().map(|(_, event)| {
                let mut event = event.clone();
                // As for whoever has selected it before.
                if !is_selected(&event["object"], selector.as_ref()) {
                    event["type"] = json!("DELETED");
                }
                format!("{event}\n")
            });
            let lines: String = lines.collect();
            let last =
                news.max_by_key(|(version, _)| *version).map_or(since, |(version, _)| *version);
            Some((lines, last))
        }
    })
}

async fn list_subnets(State(api): State<FakeApi>, Query(parameters): Parameters) -> Response {
    if api.refuses() {
        return away();
    }
    if parameters.get("watch").is_some_and(|watch| watch == "true") {
        let silence = futures::stream::pending::<Result<String, Infallible>>();
        return Body::from_stream(silence).into_response();
    }
    Json(json!({
        "kind": "SubnetList", "apiVersion": "kubeovn.io/v1",
        "metadata": { "resourceVersion": "1" }, "items": api.store.lock().subnets,
    }))
    .into_response()
}

async fn read(State(api): State<FakeApi>, Path((_, name)): Path<(String, String)>) -> Response {
    if api.refuses() {
        return away();
    }
    match api.store.lock().vmis.get(&name) {
        Some(vmi) => Json(vmi.clone()).into_response(),
        None => status(StatusCode::NOT_FOUND, "NotFound"),
    }
}

async fn write(
    State(api): State<FakeApi>,
    Path((_, name)): Path<(String, String)>,
    Json(patch): Json<Value>,
) -> Response {
    if api.refuses() {
        return away();
    }
    let Some(mut vmi) = api.store.lock().vmis.get(&name).cloned() else {
        return status(StatusCode::NOT_FOUND, "NotFound");
    };
    for guard in ["uid", "resourceVersion"] {
        let wanted = &patch["metadata"][guard];
        if !wanted.is_null() && *wanted != vmi["metadata"][guard] {
            return status(StatusCode::CONFLICT, "Conflict");
        }
    }
    merge(&mut vmi, &patch);
    api.store.lock().writes.push((name.clone(), patch));
    api.settle(&name, vmi.clone());
    Json(vmi).into_response()
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let object = into.as_object_mut().unwrap();
    for (key, value) in fields {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
