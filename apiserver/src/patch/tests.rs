use serde_json::{Value, json};

use super::strategic;

fn merged(kind: &str, mut object: Value, patch: &Value) -> Value {
    strategic::merge(kind, &mut object, patch).unwrap();
    object
}

#[test]
fn keyed_lists_are_merged_by_their_key() {
    let pod = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}});
    let patch = json!({"spec": {"containers": [
        {"name": "a", "image": "2"}, {"name": "c"}, {"name": "b", "$patch": "delete"}],
        "$setElementOrder/containers": [{"name": "a"}, {"name": "c"}]}});
    assert_eq!(
        merged("Pod", pod, &patch),
        json!({"spec": {"containers": [{"name": "a", "image": "2"}, {"name": "c"}]}})
    );
}

#[test]
fn other_lists_are_replaced() {
    let pod = json!({"spec": {"args": ["a", "b"]}});
    let patch = json!({"spec": {"args": ["c"]}});
    assert_eq!(merged("Pod", pod, &patch), json!({"spec": {"args": ["c"]}}));
}

#[test]
fn the_key_of_a_list_can_depend_on_the_kind() {
    let object = || json!({"spec": {"ports": [{"port": 80, "name": "http"}]}});
    let patch = json!({"spec": {"ports": [{"port": 81}]}});
    let ports = |kind| merged(kind, object(), &patch)["spec"]["ports"].as_array().unwrap().len();
    assert_eq!(ports("Service"), 2);
    assert_eq!(ports("Endpoints"), 1);
}

#[test]
fn directives_replace_delete_and_retain() {
    let object =
        || json!({"data": {"a": 1, "b": {"c": 1}}, "metadata": {"finalizers": ["x", "y"]}});
    let replace = json!({"data": {"$patch": "replace", "z": 1}});
    assert_eq!(merged("ConfigMap", object(), &replace)["data"], json!({"z": 1}));
    let retain = json!({"data": {"$retainKeys": ["a"], "a": 2}});
    assert_eq!(merged("ConfigMap", object(), &retain)["data"], json!({"a": 2}));
    let delete = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]}});
    assert_eq!(merged("ConfigMap", object(), &delete)["metadata"], json!({"finalizers": ["y"]}));
    let null = json!({"data": {"a": null}});
    assert_eq!(merged("ConfigMap", object(), &null)["data"], json!({"b": {"c": 1}}));
}

#[test]
fn an_element_without_its_key_is_refused() {
    let mut pod = json!({"spec": {"containers": []}});
    let patch = json!({"spec": {"containers": [{"image": "x"}]}});
    assert_eq!(strategic::merge("Pod", &mut pod, &patch).unwrap_err().code, 400);
}
