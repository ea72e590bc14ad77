//! Owners and dependents, namespaces and their content.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

use crate::harness::{Server, eventually};

fn config_map(name: &str, owner: Option<&ConfigMap>) -> ConfigMap {
    let owners: Vec<_> = owner
        .map(|owner| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "blockOwnerDeletion": true,
                   "name": owner.metadata.name, "uid": owner.metadata.uid})
        })
        .into_iter()
        .collect();
    let body = json!({"metadata": {"name": name, "ownerReferences": owners}});
    serde_json::from_value(body).unwrap()
}

async fn chain(api: &Api<ConfigMap>) {
    let params = PostParams::default();
    let top = api.create(&params, &config_map("top", None)).await.unwrap();
    let middle = api.create(&params, &config_map("middle", Some(&top))).await.unwrap();
    api.create(&params, &config_map("leaf", Some(&middle))).await.unwrap();
}

async fn is_gone(api: &Api<ConfigMap>, name: &str) -> bool {
    api.get_opt(name).await.unwrap().is_none()
}

#[tokio::test]
async fn dependents_follow_their_owner() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    chain(&api).await;
    api.delete("top", &DeleteParams::background()).await.unwrap();
    eventually("the chain is gone", || async {
        is_gone(&api, "middle").await && is_gone(&api, "leaf").await
    })
    .await;
}

#[tokio::test]
async fn in_the_foreground_the_owner_goes_last() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    let params = PostParams::default();
    let top = api.create(&params, &config_map("top", None)).await.unwrap();
    let mut held = config_map("held", Some(&top));
    held.metadata.finalizers = Some(vec!["example.io/hold".to_owned()]);
    api.create(&params, &held).await.unwrap();
    api.delete("top", &DeleteParams::foreground()).await.unwrap();
    eventually("the dependent is being deleted", || async {
        api.get("held").await.unwrap().metadata.deletion_timestamp.is_some()
    })
    .await;
    assert!(!is_gone(&api, "top").await);
    let patch = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("held", &Default::default(), &patch).await.unwrap();
    eventually("both are gone", || async {
        is_gone(&api, "held").await && is_gone(&api, "top").await
    })
    .await;
}

#[tokio::test]
async fn orphans_stay_and_forget() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    chain(&api).await;
    api.delete("top", &DeleteParams::orphan()).await.unwrap();
    eventually("the owner is gone", || async { is_gone(&api, "top").await }).await;
    assert_eq!(api.get("middle").await.unwrap().metadata.owner_references, None);
    assert!(!is_gone(&api, "leaf").await);
}

#[tokio::test]
async fn a_dependent_of_nobody_is_collected_also_after_a_restart() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    let mut ghost = ConfigMap::default();
    ghost.metadata.name = Some("ghost".to_owned());
    ghost.metadata.uid = Some("00000000-0000-0000-0000-000000000000".to_owned());
    api.create(&PostParams::default(), &config_map("lost", Some(&ghost))).await.unwrap();
    let server = server.restart().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    eventually("the lost one is gone", || async { is_gone(&api, "lost").await }).await;
}

#[tokio::test]
async fn a_namespace_takes_its_content_with_it() {
    let server = Server::start().await;
    let client = server.client().await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut blue = Namespace::default();
    blue.metadata.name = Some("blue".to_owned());
    namespaces.create(&PostParams::default(), &blue).await.unwrap();
    let api: Api<ConfigMap> = Api::namespaced(client, "blue");
    let mut held = config_map("held", None);
    held.metadata.finalizers = Some(vec!["example.io/hold".to_owned()]);
    api.create(&PostParams::default(), &held).await.unwrap();
    api.create(&PostParams::default(), &config_map("free", None)).await.unwrap();
    namespaces.delete("blue", &DeleteParams::default()).await.unwrap();
    eventually("the free one is gone", || async { is_gone(&api, "free").await }).await;

    let refusal = api.create(&PostParams::default(), &config_map("late", None)).await;
    let Err(kube::Error::Api(status)) = refusal else { panic!("not refused") };
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    let phase = namespaces.get("blue").await.unwrap().status.unwrap().phase;
    assert_eq!(phase.as_deref(), Some("Terminating"));

    let patch = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("held", &Default::default(), &patch).await.unwrap();
    eventually("the namespace is gone", || async {
        namespaces.get_opt("blue").await.unwrap().is_none()
    })
    .await;
}
