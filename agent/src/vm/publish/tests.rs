use k8s_openapi::jiff::Timestamp;

use super::*;

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn vmi(change: impl FnOnce(&mut Value)) -> VirtualMachineInstance {
    let mut vmi = json!({
        "metadata": {
            "name": "web", "namespace": "default", "uid": "u1", "resourceVersion": "7",
            "finalizers": [INSTANCE_FINALIZER],
        },
        "spec": { "domain": { "devices": {} } },
        "status": { "phase": "Scheduled", "nodeName": "n1" },
    });
    change(&mut vmi);
    serde_json::from_value(vmi).unwrap()
}

fn written(vmi: &VirtualMachineInstance, report: &Report) -> Option<Value> {
    patch(vmi, report, "n1", &[], &at(100))
}

/// The object after the patch, as far as its status goes.
fn after(vmi: &VirtualMachineInstance, patch: &Value) -> VirtualMachineInstance {
    let mut value = serde_json::to_value(vmi).unwrap();
    for (key, field) in patch["status"].as_object().unwrap() {
        value["status"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

const RUNNING: Report = Report::Running { paused: None };
const SUCCEEDED: Report = Report::Ended(End::Succeeded);

#[test]
fn a_patch_is_good_for_one_version_of_one_object_only() {
    let patch = written(&vmi(|_| {}), &RUNNING).unwrap();
    assert_eq!(patch["metadata"], json!({ "uid": "u1", "resourceVersion": "7" }));
}

#[test]
fn what_the_object_says_already_is_not_written() {
    let scheduled = vmi(|_| {});
    let patch = written(&scheduled, &RUNNING).unwrap();
    let running = after(&scheduled, &patch);
    assert_eq!(running.phase(), InstancePhase::Running);
    assert_eq!(super::patch(&running, &RUNNING, "n1", &[], &at(200)), None);
}

#[test]
fn a_condition_that_stays_keeps_its_time_and_one_that_turns_gets_a_new_one() {
    let trouble = |message: &str| {
        Report::Waiting(Trouble { reason: "Busy", message: message.to_owned(), hopeless: false })
    };
    let first = vmi(|_| {});
    let second = after(&first, &written(&first, &trouble("a")).unwrap());
    let patch = super::patch(&second, &trouble("b"), "n1", &[], &at(200)).unwrap();
    let condition = &patch["status"]["conditions"][0];
    assert_eq!(condition["message"], "b");
    assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:01:40Z");
    let third = after(&second, &patch);
    let patch = super::patch(&third, &RUNNING, "n1", &[], &at(300)).unwrap();
    let conditions = patch["status"]["conditions"].as_array().unwrap();
    let synchronized = conditions.iter().find(|one| one["type"] == "Synchronized").unwrap();
    assert_eq!(synchronized["status"], "True");
    assert_eq!(synchronized["lastTransitionTime"], "1970-01-01T00:05:00Z");
}

#[test]
fn the_first_of_two_ends_counts() {
    let failed = vmi(|vmi| vmi["status"]["phase"] = json!("Failed"));
    let patch = written(&failed, &SUCCEEDED).unwrap();
    assert_eq!(patch.get("status"), None);
    assert_eq!(patch["metadata"]["finalizers"], Value::Null);
}

#[test]
fn only_our_own_finalizer_is_removed() {
    let held = vmi(|vmi| {
        vmi["metadata"]["finalizers"] = json!(["a/b", INSTANCE_FINALIZER]);
    });
    let patch = written(&held, &SUCCEEDED).unwrap();
    assert_eq!(patch["metadata"]["finalizers"], json!(["a/b"]));
    let patch = written(&held, &RUNNING).unwrap();
    assert_eq!(patch["metadata"].get("finalizers"), None);
}

#[test]
fn conditions_and_fields_of_others_are_kept() {
    let known = vmi(|vmi| {
        vmi["status"]["conditions"] =
            json!([{ "type": "AgentConnected", "status": "True", "lastProbeTime": null }]);
        vmi["status"]["qosClass"] = json!("Burstable");
    });
    let patch = written(&known, &RUNNING).unwrap();
    assert_eq!(patch["status"]["conditions"][0]["type"], "AgentConnected");
    assert_eq!(patch["status"].get("qosClass"), None, "not touched");
}

#[test]
fn fields_that_do_nothing_are_named() {
    let asking = vmi(|vmi| vmi["spec"]["startStrategy"] = json!("Paused"));
    let patch = written(&asking, &RUNNING).unwrap();
    let conditions = patch["status"]["conditions"].as_array().unwrap();
    let named = conditions.iter().find(|one| one["type"] == FIELDS_WITHOUT_EFFECT).unwrap();
    assert!(named["message"].as_str().unwrap().contains("spec.startStrategy"), "{named}");
}
