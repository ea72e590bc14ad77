use bytes::Bytes;
use serde_json::{Value, json};

use super::*;

/// An object of a kind that is built in.
fn node(uid: &str, metadata: &Value) -> Node {
    node_in("", "configmaps", "default", uid, metadata, &json!({}))
}

fn node_in(
    group: &str,
    plural: &str,
    namespace: &str,
    uid: &str,
    metadata: &Value,
    spec: &Value,
) -> Node {
    let mut object = json!({"metadata": metadata, "spec": spec});
    object["metadata"]["uid"] = uid.into();
    let key = Key::new(&Collection::new(group, plural), namespace, uid);
    Node::read(&key, &Stored { version: 1, json: Bytes::from(object.to_string()) })
}

fn owned_by(uids: &[&str], blocks: bool) -> Value {
    let owners: Vec<Value> = uids
        .iter()
        .map(|uid| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": uid, "uid": uid,
                   "blockOwnerDeletion": blocks})
        })
        .collect();
    json!({"ownerReferences": owners})
}

fn deleting(finalizers: &[&str]) -> Value {
    json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": finalizers})
}

fn graph(nodes: Vec<Node>) -> Graph {
    let mut graph = Graph::default();
    for node in nodes {
        graph.put(node);
    }
    graph
}

/// What has to be done, in short.
fn decided(graph: &mut Graph) -> Vec<String> {
    let registry = Registry::build([]);
    let brief = |action: Action| match action {
        Action::Delete { uid, propagation, .. } => format!("delete {uid} {propagation:?}"),
        Action::DropFinalizer { uid, finalizer, .. } => format!("free {uid} of {finalizer}"),
        Action::DropOwners { uid, owners, .. } => format!("{uid} forgets {}", owners.join(",")),
        Action::FinishNamespace { uid, .. } => format!("finish {uid}"),
    };
    graph.decide(&registry).into_iter().map(brief).collect()
}

#[test]
fn an_object_lives_as_long_as_one_of_its_owners() {
    let mut graph = graph(vec![
        node("a", &json!({})),
        node("b", &json!({})),
        node("child", &owned_by(&["a", "b"], false)),
    ]);
    assert!(decided(&mut graph).is_empty());
    graph.remove("a");
    assert_eq!(decided(&mut graph), ["child forgets a"]);
    graph.put(node("child", &owned_by(&["b"], false)));
    assert!(decided(&mut graph).is_empty());
    graph.remove("b");
    assert_eq!(decided(&mut graph), ["delete child Some(Background)"]);
}

#[test]
fn an_owner_of_an_unknown_kind_counts_as_there() {
    let mut metadata = owned_by(&["x"], false);
    metadata["ownerReferences"][0]["kind"] = "Mystery".into();
    assert!(decided(&mut graph(vec![node("child", &metadata)])).is_empty());
    let metadata = owned_by(&["x"], false);
    let found = decided(&mut graph(vec![node("child", &metadata)]));
    assert_eq!(found, ["delete child Some(Background)"]);
}

#[test]
fn in_the_foreground_only_dependents_that_block_are_waited_for() {
    let mut graph = graph(vec![
        node("top", &json!({})),
        node("blocks", &owned_by(&["top"], true)),
        node("loose", &owned_by(&["top"], false)),
    ]);
    assert!(decided(&mut graph).is_empty());
    graph.put(node("top", &deleting(&[FOREGROUND])));
    let mut found = decided(&mut graph);
    found.sort();
    assert_eq!(found, ["delete blocks None", "delete loose None"]);
    graph.remove("blocks");
    assert!(decided(&mut graph).contains(&format!("free top of {FOREGROUND}")));
}

#[test]
fn orphans_forget_before_the_owner_may_go() {
    let mut graph =
        graph(vec![node("top", &deleting(&[ORPHAN])), node("child", &owned_by(&["top"], true))]);
    assert_eq!(decided(&mut graph), ["child forgets top"]);
    graph.put(node("child", &json!({})));
    assert_eq!(decided(&mut graph), [format!("free top of {ORPHAN}")]);
}

#[test]
fn a_namespace_is_finished_when_its_content_is_gone() {
    let namespace = |metadata: &Value| node_in("", "namespaces", "", "blue", metadata, &json!({}));
    let inside = || node_in("", "configmaps", "blue", "c", &json!({}), &json!({}));
    let mut graph = graph(vec![namespace(&json!({})), inside(), node("elsewhere", &json!({}))]);
    assert!(decided(&mut graph).is_empty());
    graph.put(namespace(&deleting(&[])));
    assert_eq!(decided(&mut graph), ["delete c Some(Background)"]);
    graph.remove("c");
    assert_eq!(decided(&mut graph), ["finish blue"]);
}

#[test]
fn a_definition_is_freed_when_its_objects_are_gone() {
    let spec = json!({"group": "example.io", "names": {"plural": "widgets"}});
    let metadata = deleting(&[CLEANUP_FINALIZER]);
    let definition = node_in(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "",
        "widgets.example.io",
        &metadata,
        &spec,
    );
    let object = node_in("example.io", "widgets", "default", "w", &json!({}), &json!({}));
    let mut graph = graph(vec![object, definition]);
    assert_eq!(decided(&mut graph), ["delete w Some(Background)"]);
    graph.remove("w");
    let freed = format!("free widgets.example.io of {CLEANUP_FINALIZER}");
    assert_eq!(decided(&mut graph), [freed]);
}
