//! Kinds that are defined by users.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, ValidationDirective};
use serde_json::json;

use crate::harness::{Server, eventually, is_other, widget, widget_definition, widgets};

#[tokio::test]
async fn a_definition_is_established_and_served_at_once() {
    if is_other() {
        return;
    }
    let server = Server::start().await;
    let client = server.client().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let body = serde_json::from_value(widget_definition()).unwrap();
    let made = definitions.create(&PostParams::default(), &body).await.unwrap();
    let conditions = made.status.unwrap().conditions.unwrap();
    let types: Vec<&str> = conditions.iter().map(|c| c.type_.as_str()).collect();
    assert_eq!(types, ["NamesAccepted", "Established"]);
    assert!(conditions.iter().all(|condition| condition.status == "True"));
    let api = widgets(&client);
    api.create(&PostParams::default(), &widget("a", json!({"size": 1}))).await.unwrap();
    let resources = client.list_api_group_resources("example.io/v1").await.unwrap();
    let names: Vec<String> = resources.resources.into_iter().map(|r| r.name).collect();
    assert_eq!(names, ["widgets", "widgets/status"]);
}

#[tokio::test]
async fn an_object_is_completed_and_cut_to_its_schema() {
    let server = Server::start().await.with_widgets().await;
    let api = widgets(&server.client().await);
    let spec = json!({"size": 1, "typo": true, "extra": {"anything": [1]}, "port": "http"});
    let made = api.create(&PostParams::default(), &widget("a", spec)).await.unwrap();
    assert_eq!(
        made.data["spec"],
        json!({"size": 1, "colour": "red", "extra": {"anything": [1]}, "port": "http"})
    );
}

#[tokio::test]
async fn a_strict_client_hears_of_unknown_fields() {
    let server = Server::start().await.with_widgets().await;
    let api = widgets(&server.client().await);
    let params = PostParams::default();
    api.create(&params, &widget("a", json!({"size": 1}))).await.unwrap();
    let params = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({"spec": {"typo": 1}}));
    let Err(kube::Error::Api(status)) = api.patch("a", &params, &patch).await else {
        panic!("not refused")
    };
    assert_eq!(status.code, 422);
    assert!(status.message.contains("unknown field \"spec.typo\""), "{}", status.message);
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let server = Server::start().await.with_widgets().await;
    let api = widgets(&server.client().await);
    let spec = json!({"size": 11, "colour": "green", "address": "nowhere", "port": true,
                      "parts": [{"name": "a"}, {"name": "a"}, {}]});
    let result = api.create(&PostParams::default(), &widget("a", spec)).await;
    let Err(kube::Error::Api(status)) = result else { panic!("not refused") };
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    let causes = status.details.unwrap().causes;
    let mut found: Vec<(String, String)> =
        causes.into_iter().map(|cause| (cause.field, cause.reason)).collect();
    found.sort();
    let expected = [
        ("spec.address", "FieldValueTypeInvalid"),
        ("spec.colour", "FieldValueNotSupported"),
        ("spec.parts[1]", "FieldValueDuplicate"),
        ("spec.parts[2].name", "FieldValueRequired"),
        ("spec.port", "FieldValueTypeInvalid"),
        ("spec.size", "FieldValueInvalid"),
    ];
    let expected: Vec<(String, String)> =
        expected.iter().map(|(field, reason)| ((*field).into(), (*reason).into())).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_definition_takes_its_objects_with_it() {
    let server = Server::start().await.with_widgets().await;
    let client = server.client().await;
    let api = widgets(&client);
    api.create(&PostParams::default(), &widget("a", json!({"size": 1}))).await.unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    definitions.delete("widgets.example.io", &DeleteParams::default()).await.unwrap();
    eventually("the definition is gone", || async {
        definitions.get_opt("widgets.example.io").await.unwrap().is_none()
    })
    .await;
    let server = server.with_widgets().await;
    assert!(widgets(&server.client().await).get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_definition_that_makes_no_sense_is_refused() {
    let server = Server::start().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(server.client().await);
    let mut body = widget_definition();
    body["metadata"]["name"] = json!("wrong.example.io");
    body["spec"]["versions"][0]["storage"] = json!(false);
    body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["size"]["pattern"] = json!("(");
    let body = serde_json::from_value(body).unwrap();
    let result = definitions.create(&PostParams::default(), &body).await;
    let Err(kube::Error::Api(status)) = result else { panic!("not refused") };
    assert_eq!(status.code, 422);
    let causes = status.details.unwrap().causes;
    let fields: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
    assert_eq!(fields[..2], ["metadata.name", "spec.versions"]);
    let pattern = "openAPIV3Schema.properties[spec].properties[size].pattern";
    assert!(fields[2].ends_with(pattern), "{fields:?}");
}
