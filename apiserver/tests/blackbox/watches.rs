//! Watches, as kube-rs uses them and on the wire.

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};

use crate::harness::{Server, is_other, next};

fn config_map(name: &str, tier: &str) -> ConfigMap {
    let body = json!({"metadata": {"name": name, "labels": {"tier": tier}}});
    serde_json::from_value(body).unwrap()
}

/// The lines of a raw watch.
async fn lines(client: &Client, query: &str) -> impl futures::Stream<Item = Value> + Unpin + use<> {
    let namespace = client.default_namespace();
    let path = format!("/api/v1/namespaces/{namespace}/configmaps?watch=true{query}");
    let request = http::Request::get(path).body(vec![]).unwrap();
    let lines = client.request_stream(request).await.unwrap().lines();
    Box::pin(lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()))
}

/// The query for what happens from now on.
async fn from_now(api: &Api<ConfigMap>) -> String {
    let list = api.list(&ListParams::default()).await.unwrap();
    format!("&resourceVersion={}", list.metadata.resource_version.unwrap())
}

fn brief(event: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
}

fn is(event: &Value, kind: &str, name: &str) -> bool {
    brief(event) == (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn a_watcher_sees_what_is_there_and_what_comes() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    api.create(&PostParams::default(), &config_map("a", "web")).await.unwrap();
    let mut configs = vec![watcher::Config::default()];
    if !is_other() {
        // Needs a newer etcd than Debian has.
        configs.push(watcher::Config::default().streaming_lists());
    }
    for config in configs {
        let mut events = Box::pin(watcher(api.clone(), config));
        assert!(matches!(next(&mut events).await.unwrap(), Event::Init));
        let Event::InitApply(first) = next(&mut events).await.unwrap() else { panic!("no object") };
        assert_eq!(first.metadata.name.as_deref(), Some("a"));
        assert!(matches!(next(&mut events).await.unwrap(), Event::InitDone));
        api.create(&PostParams::default(), &config_map("b", "web")).await.unwrap();
        let Event::Apply(new) = next(&mut events).await.unwrap() else { panic!("no object") };
        assert_eq!(new.metadata.name.as_deref(), Some("b"));
        let version = new.metadata.resource_version.unwrap();
        api.delete("b", &DeleteParams::default()).await.unwrap();
        let Event::Delete(gone) = next(&mut events).await.unwrap() else { panic!("no deletion") };
        let at = gone.metadata.resource_version.unwrap();
        assert!(at.parse::<u64>().unwrap() > version.parse::<u64>().unwrap());
    }
}

#[tokio::test]
async fn an_object_that_leaves_the_selection_is_deleted_from_it() {
    let server = Server::start().await;
    let client = server.client().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let mut events = lines(&client, "&labelSelector=tier%3Dweb").await;
    api.create(&PostParams::default(), &config_map("a", "db")).await.unwrap();
    api.create(&PostParams::default(), &config_map("b", "web")).await.unwrap();
    let first = next(&mut events).await;
    assert!(is(&first, "ADDED", "b"), "{first}");
    let tier = |tier: &str| Patch::Merge(json!({"metadata": {"labels": {"tier": tier}}}));
    api.patch("a", &PatchParams::default(), &tier("web")).await.unwrap();
    assert!(is(&next(&mut events).await, "ADDED", "a"));
    let out = api.patch("b", &PatchParams::default(), &tier("db")).await.unwrap();
    let left = next(&mut events).await;
    assert!(is(&left, "DELETED", "b"));
    assert_eq!(left["object"]["metadata"]["labels"]["tier"], "web");
    let version = left["object"]["metadata"]["resourceVersion"].as_str();
    assert_eq!(version, out.metadata.resource_version.as_deref());
}

#[tokio::test]
async fn a_version_from_another_life_is_answered_in_the_stream() {
    if is_other() {
        return;
    }
    let server = Server::start().await;
    let client = server.client().await;
    let mut events = lines(&client, "&resourceVersion=999999").await;
    let event = next(&mut events).await;
    assert_eq!(event["type"], "ERROR");
    assert_eq!(event["object"]["code"], 410);
    assert_eq!(event["object"]["reason"], "Expired");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_up_and_says_how_far_it_came() {
    if is_other() {
        return;
    }
    let server = Server::start().await;
    let client = server.client().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let query = format!("{}&allowWatchBookmarks=true&timeoutSeconds=1", from_now(&api).await);
    let events: Vec<Value> = lines(&client, &query).await.collect().await;
    let [bookmark] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert!(bookmark["object"]["metadata"]["resourceVersion"].is_string());
}

#[tokio::test]
async fn the_initial_list_can_be_marked() {
    if is_other() {
        return;
    }
    let server = Server::start().await;
    let client = server.client().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    api.create(&PostParams::default(), &config_map("a", "web")).await.unwrap();
    let query =
        "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = lines(&client, query).await;
    assert!(is(&next(&mut events).await, "ADDED", "a"));
    let end = next(&mut events).await;
    let annotations = &end["object"]["metadata"]["annotations"];
    assert_eq!(annotations["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn many_watches_share_a_client() {
    const WATCHES: usize = 150;
    let server = Server::start().await;
    let client = server.client().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let from = from_now(&api).await;
    let mut watches = vec![];
    for _ in 0..WATCHES {
        watches.push(lines(&client, &from).await);
    }
    api.create(&PostParams::default(), &config_map("a", "web")).await.unwrap();
    for events in &mut watches {
        assert!(is(&next(events).await, "ADDED", "a"));
    }
}

#[tokio::test]
async fn no_event_is_lost_or_doubled_under_load() {
    const COUNT: usize = 200;
    let server = Server::start().await;
    let client = server.client().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let mut events = lines(&client, &from_now(&api).await).await;
    let names: Vec<String> = (0..COUNT).map(|index| format!("c{index}")).collect();
    futures::stream::iter(&names)
        .map(|name| {
            let api = &api;
            async move { api.create(&PostParams::default(), &config_map(name, "web")).await }
        })
        .buffer_unordered(32)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    let (mut seen, mut last) = (std::collections::BTreeSet::new(), 0);
    while seen.len() < COUNT {
        let event = next(&mut events).await;
        assert_eq!(event["type"], "ADDED");
        let metadata = &event["object"]["metadata"];
        let version: u64 = metadata["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(version > last);
        last = version;
        assert!(seen.insert(metadata["name"].as_str().unwrap().to_owned()));
    }
}
