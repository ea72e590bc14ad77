//! Server-side apply.

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{Server, widgets};

async fn apply(
    api: &Api<DynamicObject>,
    manager: &str,
    force: bool,
    spec: Value,
) -> Result<DynamicObject, kube::Error> {
    let params = PatchParams { force, ..PatchParams::apply(manager) };
    let body = json!({"apiVersion": "example.io/v1", "kind": "Widget", "metadata": {"name": "a"},
                      "spec": spec});
    api.patch("a", &params, &Patch::Apply(body)).await
}

#[tokio::test]
async fn what_is_applied_belongs_to_the_manager() {
    let server = Server::start().await.with_widgets().await;
    let api = widgets(&server.client().await);
    let made = apply(&api, "one", false, json!({"size": 1, "colour": "blue"})).await.unwrap();
    let managed = made.metadata.managed_fields.clone().unwrap();
    assert_eq!(managed.len(), 1);
    assert_eq!(managed[0].manager.as_deref(), Some("one"));
    let fields = serde_json::to_value(&managed[0].fields_v1).unwrap();
    assert_eq!(fields, json!({"f:spec": {"f:colour": {}, "f:size": {}}}));
    let same = apply(&api, "one", false, json!({"size": 1, "colour": "blue"})).await.unwrap();
    assert_eq!(same.metadata.resource_version, made.metadata.resource_version);
    let less = apply(&api, "one", false, json!({"size": 1})).await.unwrap();
    assert_eq!(less.data["spec"], json!({"size": 1, "colour": "red"}), "back to the default");
}

#[tokio::test]
async fn two_managers_conflict_until_one_insists() {
    let server = Server::start().await.with_widgets().await;
    let api = widgets(&server.client().await);
    apply(&api, "one", false, json!({"size": 1})).await.unwrap();
    apply(&api, "two", false, json!({"size": 1, "colour": "blue"})).await.unwrap();
    let Err(kube::Error::Api(status)) = apply(&api, "two", false, json!({"size": 2})).await else {
        panic!("no conflict")
    };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"one\": .spec.size");
    assert_eq!(status.details.unwrap().causes[0].reason, "FieldManagerConflict");
    let forced = apply(&api, "two", true, json!({"size": 2})).await.unwrap();
    assert_eq!(forced.data["spec"]["size"], 2);
    let managed = forced.metadata.managed_fields.unwrap();
    assert_eq!(managed.len(), 1, "the first manager has nothing left");
}

#[tokio::test]
async fn keyed_lists_are_shared_element_by_element() {
    let server = Server::start().await.with_widgets().await;
    let api = widgets(&server.client().await);
    let parts = |parts: Value| json!({"size": 1, "parts": parts});
    apply(&api, "one", false, parts(json!([{"name": "a", "weight": 1}, {"name": "b"}])))
        .await
        .unwrap();
    let both = apply(&api, "two", false, json!({"size": 1, "parts": [{"name": "c", "weight": 3}]}))
        .await
        .unwrap();
    assert_eq!(both.data["spec"]["parts"].as_array().unwrap().len(), 3);
    let less = apply(&api, "one", false, parts(json!([{"name": "a", "weight": 2}]))).await.unwrap();
    assert_eq!(
        less.data["spec"]["parts"],
        json!([{"name": "a", "weight": 2}, {"name": "c", "weight": 3}])
    );
}

#[tokio::test]
async fn an_update_takes_over_what_it_changes() {
    let server = Server::start().await.with_widgets().await;
    let api = widgets(&server.client().await);
    apply(&api, "one", false, json!({"size": 1, "colour": "blue"})).await.unwrap();
    let params = PatchParams { field_manager: Some("scaler".to_owned()), ..Default::default() };
    api.patch("a", &params, &Patch::Merge(json!({"spec": {"size": 5}}))).await.unwrap();
    let Err(kube::Error::Api(status)) =
        apply(&api, "one", false, json!({"size": 1, "colour": "blue"})).await
    else {
        panic!("no conflict")
    };
    assert!(status.message.contains("conflict with \"scaler\""), "{}", status.message);
    let kept = apply(&api, "one", false, json!({"colour": "blue"})).await.unwrap();
    assert_eq!(kept.data["spec"]["size"], 5);
}

#[tokio::test]
async fn a_status_is_applied_through_its_own_door() {
    let server = Server::start().await.with_widgets().await;
    let api = widgets(&server.client().await);
    apply(&api, "one", false, json!({"size": 1})).await.unwrap();
    let body = json!({"apiVersion": "example.io/v1", "kind": "Widget", "status": {"phase": "Done"},
                      "spec": {"size": 9}});
    let params = PatchParams::apply("controller").force();
    let done = api.patch_status("a", &params, &Patch::Apply(body)).await.unwrap();
    assert_eq!(done.data["status"]["phase"], "Done");
    assert_eq!(done.data["spec"]["size"], 1);
    let managed = done.metadata.managed_fields.unwrap();
    let parts: Vec<(Option<&str>, Option<&str>)> = managed
        .iter()
        .map(|entry| (entry.manager.as_deref(), entry.subresource.as_deref()))
        .collect();
    assert!(parts.contains(&(Some("controller"), Some("status"))), "{parts:?}");
}
