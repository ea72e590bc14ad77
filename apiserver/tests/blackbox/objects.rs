//! Objects and the rules they live by.

use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Secret};
use k8s_openapi::api::events::v1::Event as NewEvent;
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::core::Status;
use serde_json::{Value, json};

use crate::harness::{Server, widget, widgets};

fn refused<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> Box<Status> {
    match result {
        Err(kube::Error::Api(status)) => status,
        other => panic!("not refused by the server: {other:?}"),
    }
}

fn config_map(name: &str, data: Value) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).unwrap()
}

#[tokio::test]
async fn an_object_gets_its_identity_from_the_server() {
    let server = Server::start().await;
    let client = server.client().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let made =
        api.create(&PostParams::default(), &config_map("a", json!({"x": "1"}))).await.unwrap();
    let metadata = &made.metadata;
    assert_eq!(metadata.namespace.as_deref(), Some(client.default_namespace()));
    assert!(metadata.uid.as_ref().is_some_and(|uid| uid.len() == 36));
    assert!(metadata.creation_timestamp.is_some());
    let again = refused(api.create(&PostParams::default(), &config_map("a", json!({}))).await);
    assert_eq!((again.code, again.reason.as_str()), (409, "AlreadyExists"));
    let list = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(list.metadata.resource_version, metadata.resource_version);
}

#[tokio::test]
async fn generated_names_are_unique() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    let body: ConfigMap =
        serde_json::from_value(json!({"metadata": {"generateName": "web-"}})).unwrap();
    let a = api.create(&PostParams::default(), &body).await.unwrap().metadata.name.unwrap();
    let b = api.create(&PostParams::default(), &body).await.unwrap().metadata.name.unwrap();
    assert!(a.starts_with("web-") && a.len() == 9, "{a}");
    assert_ne!(a, b);
}

#[tokio::test]
async fn a_replace_must_be_based_on_the_latest_version() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    let first =
        api.create(&PostParams::default(), &config_map("a", json!({"x": "1"}))).await.unwrap();
    let mut second = first.clone();
    second.data = Some([("x".to_owned(), "2".to_owned())].into());
    api.replace("a", &PostParams::default(), &second).await.unwrap();
    let stale = refused(api.replace("a", &PostParams::default(), &second).await);
    assert_eq!((stale.code, stale.reason.as_str()), (409, "Conflict"));
    let patch = json!({"metadata": {"resourceVersion": first.metadata.resource_version}});
    let stale = refused(api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await);
    assert_eq!((stale.code, stale.reason.as_str()), (409, "Conflict"));
    second.metadata.resource_version = None;
    second.data = Some([("x".to_owned(), "3".to_owned())].into());
    api.replace("a", &PostParams::default(), &second).await.unwrap();
}

#[tokio::test]
async fn a_write_that_changes_nothing_makes_no_version() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    let made =
        api.create(&PostParams::default(), &config_map("a", json!({"x": "1"}))).await.unwrap();
    let same = api.replace("a", &PostParams::default(), &made).await.unwrap();
    assert_eq!(same.metadata.resource_version, made.metadata.resource_version);
    let patch = Patch::Merge(json!({"data": {"x": "1"}}));
    let same = api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(same.metadata.resource_version, made.metadata.resource_version);
}

#[tokio::test]
async fn status_and_spec_are_written_by_different_doors() {
    let server = Server::start().await.with_widgets().await;
    let api = widgets(&server.client().await);
    let mut body = widget("a", json!({"size": 1}));
    body.data["status"] = json!({"phase": "Done"});
    let made = api.create(&PostParams::default(), &body).await.unwrap();
    assert!(made.data.get("status").is_none());
    assert_eq!(made.metadata.generation, Some(1));

    let patch = json!({"spec": {"size": 2}, "status": {"phase": "Done"}});
    let main = api.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert!(main.data.get("status").is_none());
    assert_eq!(main.metadata.generation, Some(2));

    let patch = json!({"spec": {"size": 3}, "status": {"phase": "Done"}});
    let status =
        api.patch_status("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(status.data["status"]["phase"], "Done");
    assert_eq!(status.data["spec"]["size"], 2);
    assert_eq!(status.metadata.generation, Some(2));
}

#[tokio::test]
async fn an_object_waits_for_its_finalizers() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    let mut body = config_map("a", json!({}));
    body.metadata.finalizers = Some(vec!["example.io/hold".to_owned()]);
    api.create(&PostParams::default(), &body).await.unwrap();
    let deleted = api.delete("a", &DeleteParams::default()).await.unwrap();
    let object = deleted.left().expect("the object is still there");
    let since = object.metadata.deletion_timestamp.clone();
    assert!(since.is_some());

    let again = api.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(again.metadata.deletion_timestamp, since);
    assert_eq!(again.metadata.resource_version, object.metadata.resource_version);

    let patch = json!({"metadata": {"finalizers": ["example.io/hold", "example.io/new"]}});
    let new = refused(api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await);
    assert_eq!((new.code, new.reason.as_str()), (422, "Invalid"));

    let patch = json!({"metadata": {"finalizers": null}});
    api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_deletion_can_be_meant_for_one_incarnation_only() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    api.create(&PostParams::default(), &config_map("a", json!({}))).await.unwrap();
    let preconditions =
        Some(Preconditions { uid: Some("another".to_owned()), resource_version: None });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    let refusal = refused(api.delete("a", &params).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (409, "Conflict"));
    assert!(api.delete("a", &DeleteParams::default()).await.unwrap().is_right());
    let refusal = refused(api.delete("a", &DeleteParams::default()).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (404, "NotFound"));
}

#[tokio::test]
async fn patches_of_every_kind_are_applied() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    api.create(&PostParams::default(), &config_map("a", json!({"x": "1", "y": "2"})))
        .await
        .unwrap();
    let params = PatchParams::default();
    let merged =
        api.patch("a", &params, &Patch::Merge(json!({"data": {"x": null}}))).await.unwrap();
    assert_eq!(merged.data.unwrap().into_iter().collect::<Vec<_>>(), [("y".into(), "2".into())]);
    let patch = json!([{"op": "test", "path": "/data/y", "value": "2"},
                       {"op": "add", "path": "/data/z", "value": "3"}]);
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
    let patched = api.patch("a", &params, &Patch::Json::<ConfigMap>(patch)).await.unwrap();
    assert_eq!(patched.data.unwrap()["z"], "3");
    let patch = json!([{"op": "test", "path": "/data/y", "value": "wrong"}]);
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
    let refusal = refused(api.patch("a", &params, &Patch::Json::<ConfigMap>(patch)).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (422, "Invalid"));
    let patch = Patch::Strategic(json!({"data": {"s": "4"}}));
    assert_eq!(api.patch("a", &params, &patch).await.unwrap().data.unwrap()["s"], "4");
}

#[tokio::test]
async fn a_dry_run_answers_and_keeps_nothing() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let made = api.create(&params, &config_map("a", json!({}))).await.unwrap();
    assert!(made.metadata.uid.is_some());
    assert!(api.get_opt("a").await.unwrap().is_none());
    api.create(&PostParams::default(), &config_map("a", json!({}))).await.unwrap();
    api.delete("a", &DeleteParams { dry_run: true, ..DeleteParams::default() }).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_some());
}

#[tokio::test]
async fn selectors_choose_what_is_listed_and_deleted() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client().await);
    for (name, tier) in [("a", "web"), ("b", "web"), ("c", "db")] {
        let mut body = config_map(name, json!({}));
        body.metadata.labels = Some([("tier".to_owned(), tier.to_owned())].into());
        api.create(&PostParams::default(), &body).await.unwrap();
    }
    let names = |list: kube::api::ObjectList<ConfigMap>| -> Vec<String> {
        list.into_iter().filter_map(|object| object.metadata.name).collect()
    };
    let by = ListParams::default().labels("tier in (web),tier!=db");
    assert_eq!(names(api.list(&by).await.unwrap()), ["a", "b"]);
    let by = ListParams::default().fields("metadata.name=c");
    assert_eq!(names(api.list(&by).await.unwrap()), ["c"]);
    let by = ListParams::default().labels("tier=web");
    api.delete_collection(&DeleteParams::default(), &by).await.unwrap();
    assert_eq!(names(api.list(&ListParams::default()).await.unwrap()), ["c"]);
}

#[tokio::test]
async fn nothing_is_made_in_a_namespace_that_does_not_exist() {
    let server = Server::start().await;
    let api: Api<ConfigMap> = Api::namespaced(server.client().await, "nowhere");
    let refusal = refused(api.create(&PostParams::default(), &config_map("a", json!({}))).await);
    assert_eq!((refusal.code, refusal.reason.as_str()), (404, "NotFound"));
    assert_eq!(refusal.message, "namespaces \"nowhere\" not found");
    let namespaces: Api<Namespace> = Api::all(server.client().await);
    let names: Vec<String> = namespaces
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter_map(|namespace| namespace.metadata.name)
        .filter(|name| !name.starts_with("blackbox-"))
        .collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let refusal = refused(
        namespaces
            .delete(
                "default",
                &DeleteParams {
                    propagation_policy: Some(PropagationPolicy::Background),
                    ..DeleteParams::default()
                },
            )
            .await,
    );
    assert_eq!((refusal.code, refusal.reason.as_str()), (403, "Forbidden"));
}

#[tokio::test]
async fn the_plain_data_of_a_secret_is_stored_encoded() {
    let server = Server::start().await;
    let api: Api<Secret> = Api::default_namespaced(server.client().await);
    let body = json!({"metadata": {"name": "a"}, "stringData": {"user": "me"}});
    let made =
        api.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
    assert_eq!(made.data.unwrap()["user"].0, b"me");
    assert!(made.string_data.is_none());
    assert_eq!(made.type_.as_deref(), Some("Opaque"));
}

#[tokio::test]
async fn an_event_written_the_new_way_is_read_the_old_way() {
    let server = Server::start().await;
    let client = server.client().await;
    let new: Api<NewEvent> = Api::default_namespaced(client.clone());
    let body = json!({
        "metadata": {"name": "web.1"},
        "regarding": {"kind": "Pod", "name": "web", "namespace": "default"},
        "reason": "Started", "note": "It runs", "type": "Normal", "action": "Start",
        "reportingController": "test", "reportingInstance": "t-1",
        "eventTime": "2026-01-01T00:00:00.000000Z",
    });
    new.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
    let old: Api<Event> = Api::default_namespaced(client);
    let by = ListParams::default().fields("involvedObject.name=web,involvedObject.kind=Pod");
    let found = old.list(&by).await.unwrap();
    assert_eq!(found.items[0].message.as_deref(), Some("It runs"));
    assert_eq!(new.get("web.1").await.unwrap().note.as_deref(), Some("It runs"));
}
