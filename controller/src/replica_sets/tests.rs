use serde_json::{Value, json};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn set(replicas: i32, more: Value) -> ReplicaSet {
    let mut spec = json!({
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web", "tier": "a"}, "annotations": {"note": "x"}},
            "spec": {"domain": {"devices": {}}, "terminationGracePeriodSeconds": 0},
        },
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceReplicaSet",
        "metadata": {"name": "web", "namespace": "shop", "uid": "set-1"}, "spec": spec,
    }))
    .unwrap()
}

/// One in this phase, made at that second; with `owner` as its controller, if that is any.
fn instance(name: &str, phase: &str, made: i64, owner: &str) -> Arc<VirtualMachineInstance> {
    let owners = match owner {
        "" => json!([]),
        uid => json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceReplicaSet",
            "name": "web", "uid": uid, "controller": true}]),
    };
    let ready = if phase == "Running" { "True" } else { "False" };
    let one = json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "web"},
            "creationTimestamp": at(made).to_string(), "ownerReferences": owners},
        "spec": {"domain": {"devices": {}}},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    });
    Arc::new(serde_json::from_value(one).unwrap())
}

fn member(name: &str, phase: &str, made: i64) -> Arc<VirtualMachineInstance> {
    instance(name, phase, made, "set-1")
}

fn names(of: &[Arc<VirtualMachineInstance>]) -> Vec<String> {
    of.iter().map(|one| one.name_any()).collect()
}

fn with(one: &Arc<VirtualMachineInstance>, change: Value) -> Arc<VirtualMachineInstance> {
    let mut object = json!(one.as_ref());
    json_merge(&mut object, &change);
    Arc::new(serde_json::from_value(object).unwrap())
}

fn json_merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                json_merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

#[test]
fn what_is_missing_is_made_of_the_template_and_named_after_the_set() {
    let plan = plan(&set(3, json!({})), &[member("a", "Running", 0)], &[], at(60));
    assert_eq!(plan.create, 2);
    let made = plan.made_of.unwrap();
    assert_eq!(
        (made.metadata.generate_name.as_deref(), made.metadata.name.as_ref()),
        (Some("web"), None)
    );
    assert_eq!(made.labels()["tier"], "a");
    assert_eq!(made.annotations()["note"], "x");
    assert_eq!(made.spec.termination_grace_period_seconds, Some(0));
    let owner = controller(&made).unwrap();
    assert_eq!((owner.uid.as_str(), owner.block_owner_deletion), ("set-1", Some(true)));
    let json = json!(made.as_ref());
    assert_eq!(json["metadata"]["ownerReferences"][0]["kind"], "VirtualMachineInstanceReplicaSet");
}

#[test]
fn what_is_too_much_goes_those_first_that_serve_nobody_and_the_youngest() {
    let members = [
        member("old", "Running", 0),
        member("young", "Running", 9),
        member("waits", "Scheduling", 5),
    ];
    let gone = |replicas| names(&plan(&set(replicas, json!({})), &members, &[], at(60)).delete);
    assert_eq!(gone(3), Vec::<String>::new());
    assert_eq!(gone(2), ["waits"]);
    assert_eq!(gone(1), ["waits", "young"]);
    assert_eq!(gone(0).len(), 3);
}

#[test]
fn who_has_ended_is_replaced_and_deleted_and_who_failed_at_once_after_a_pause() {
    let ended = [member("a", "Succeeded", 0), member("b", "Failed", 0)];
    let later = plan(&set(2, json!({})), &ended, &[], at(60));
    assert_eq!((later.create, names(&later.delete)), (2, vec!["a".to_owned(), "b".to_owned()]));
    let soon = plan(&set(2, json!({})), &ended, &[], at(3));
    assert_eq!((soon.create, names(&soon.delete)), (1, vec!["a".to_owned()]));
    assert_eq!(soon.again_at, Some(at(10)));
}

#[test]
fn nobodys_with_its_labels_is_taken_in_and_its_own_without_them_let_go() {
    let orphan = instance("orphan", "Running", 0, "");
    let elses = instance("elses", "Running", 0, "set-2");
    let stranger =
        with(&member("stranger", "Running", 0), json!({"metadata": {"labels": {"app": "db"}}}));
    let leaving = with(
        &orphan,
        json!({"metadata": {"name": "leaving", "deletionTimestamp": at(1).to_string()}}),
    );
    let unlike = with(&orphan, json!({"metadata": {"name": "unlike", "labels": {"app": "db"}}}));
    let members = [stranger, elses];
    let plan = plan(&set(1, json!({})), &members, &[orphan, leaving, unlike], at(60));
    assert_eq!(names(&plan.adopt), ["orphan"]);
    assert_eq!(names(&plan.release), ["stranger"]);
    assert_eq!((plan.create, plan.delete.len()), (0, 0));
}

#[test]
fn a_set_that_is_paused_or_goes_makes_and_ends_none() {
    let paused = set(3, json!({"paused": true}));
    let members = [member("a", "Failed", 0)];
    let rests = plan(&paused, &members, &[], at(60));
    assert_eq!((rests.create, rests.delete.len()), (0, 0));
    let said = status(&paused, &members, None, at(60)).conditions;
    assert_eq!(
        (said[0].r#type.as_str(), said[0].message.as_deref()),
        ("ReplicaPaused", Some("Controller got paused"))
    );
    let mut going = set(3, json!({}));
    going.metadata.deletion_timestamp = Some(Time(at(0)));
    assert_eq!(plan(&going, &members, &[], at(60)), Plan::default());
}

#[test]
fn no_more_than_so_many_are_made_at_once() {
    assert_eq!(plan(&set(10_000, json!({})), &[], &[], at(0)).create, BURST);
}

#[test]
fn a_set_that_cannot_be_says_so_in_upstreams_words() {
    let foreign = set(1, json!({"selector": {"matchLabels": {"app": "db"}}}));
    assert_eq!(wrong(&foreign).as_deref(), Some("selector does not match labels."));
    let without = set(1, json!({"template": null}));
    assert_eq!(wrong(&without).as_deref(), Some("missing virtual machine template."));
    let broken =
        set(1, json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}));
    assert!(wrong(&broken).unwrap().starts_with("spec.selector: "));
    for set in [foreign, without, broken] {
        let plan = plan(&set, &[], &[], at(0));
        assert_eq!(plan.create, 0);
        let said = status(&set, &[], plan.trouble.as_ref(), at(0)).conditions;
        assert_eq!(
            (said[0].r#type.as_str(), said[0].reason.as_deref()),
            ("ReplicaFailure", Some("FailedCreate"))
        );
    }
    assert_eq!(wrong(&set(1, json!({}))), None);
}

#[test]
fn a_set_says_how_many_are_there_and_ready_and_by_what_they_are_found() {
    let members = [
        member("a", "Running", 0),
        member("b", "Scheduled", 0),
        member("c", "Failed", 0),
        instance("d", "Running", 0, "set-2"),
    ];
    let said = status(&set(3, json!({})), &members, None, at(0));
    assert_eq!((said.replicas, said.ready_replicas), (Some(2), Some(1)));
    assert_eq!(said.label_selector.as_deref(), Some("app=web"));
}
