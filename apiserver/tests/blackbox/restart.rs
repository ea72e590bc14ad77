//! What survives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use parking_lot::Mutex;
use serde_json::json;

use crate::harness::{Process, Server, eventually};

fn config_map(name: &str) -> ConfigMap {
    let body = json!({"metadata": {"name": name}, "data": {"x": "y".repeat(500)}});
    serde_json::from_value(body).unwrap()
}

#[tokio::test]
async fn versions_go_on_after_a_restart_even_if_the_latest_was_a_deletion() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    api.create(&PostParams::default(), &config_map("a")).await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let version = |list: kube::api::ObjectList<ConfigMap>| -> u64 {
        list.metadata.resource_version.unwrap().parse().unwrap()
    };
    let before = version(api.list(&ListParams::default()).await.unwrap());
    let server = server.restart().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    assert_eq!(version(api.list(&ListParams::default()).await.unwrap()), before);
}

#[tokio::test]
async fn nothing_that_was_acknowledged_is_lost_by_a_kill() {
    const CALLERS: usize = 16;
    let dir = tempfile::tempdir().unwrap();
    let acknowledged: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    for life in 0..3 {
        let server = Process::start(dir.path()).await;
        let client = server.client().await;
        let enough = acknowledged.lock().len() + 150;
        let stopped = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
                let (acknowledged, stopped) = (acknowledged.clone(), stopped.clone());
                tokio::spawn(async move {
                    let mut index = 0;
                    while !stopped.load(Ordering::Relaxed) {
                        let name = format!("l{life}-c{caller}-{index}");
                        match api.create(&PostParams::default(), &config_map(&name)).await {
                            Ok(made) => {
                                let uid = made.metadata.uid.unwrap();
                                acknowledged.lock().push((name, uid));
                            }
                            Err(_) => return,
                        }
                        index += 1;
                    }
                })
            })
            .collect();
        eventually("enough was written", || async { acknowledged.lock().len() >= enough }).await;
        server.kill().await;
        stopped.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.abort();
            caller.await.ok();
        }
    }
    let server = Process::start(dir.path()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    let found: std::collections::HashMap<String, String> = api
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter_map(|object| Some((object.metadata.name?, object.metadata.uid?)))
        .collect();
    for (name, uid) in acknowledged.lock().iter() {
        assert_eq!(found.get(name), Some(uid), "{name}");
    }
    server.kill().await;
}
