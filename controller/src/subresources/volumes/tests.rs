use serde_json::json;

use super::*;

fn options(object: &Value) -> VolumeOptions {
    VolumeOptions::read(object.to_string().as_bytes()).unwrap()
}

/// As virtctl asks for it.
fn wanted() -> Value {
    json!({
        "name": "data",
        "disk": {"disk": {"bus": "scsi"}, "serial": "data"},
        "volumeSource": {"persistentVolumeClaim": {"claimName": "c1"}},
    })
}

fn spec() -> Value {
    json!({
        "domain": {"devices": {"disks": [{"name": "root", "disk": {"bus": "virtio"}}]}},
        "volumes": [{"name": "root", "containerDisk": {"image": "os"}}],
    })
}

fn vm() -> VirtualMachine {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "resourceVersion": "7"},
        "spec": {"runStrategy": "Always", "template": {"spec": spec()}},
    }))
    .unwrap()
}

fn instance(owner: &Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "resourceVersion": "8", "ownerReferences": owner},
        "spec": spec(), "status": {"phase": "Running"},
    }))
    .unwrap()
}

fn owned() -> VirtualMachineInstance {
    instance(
        &json!([{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "web", "uid": "u"}]),
    )
}

/// The instance with what is to be written of it.
fn with(instance: &VirtualMachineInstance, plan: Plan) -> VirtualMachineInstance {
    let patch = plan.instance.unwrap();
    let mut object = serde_json::to_value(instance).unwrap();
    object["spec"]["volumes"] = patch["spec"]["volumes"].clone();
    object["spec"]["domain"]["devices"]["disks"] =
        patch["spec"]["domain"]["devices"]["disks"].clone();
    object["metadata"]["annotations"] = patch["metadata"]["annotations"].clone();
    serde_json::from_value(object).unwrap()
}

fn said<T: std::fmt::Debug>(refused: Result<T, Refusal>) -> String {
    let refusal = refused.unwrap_err();
    let said = refusal.message.rsplit("\": ").next().unwrap_or_default();
    format!("{} {said}", refusal.code)
}

#[test]
fn a_volume_is_added_to_the_template_with_its_disk_for_the_version_that_was_read() {
    let plan = of_machine(&vm(), &options(&wanted()), add).unwrap();
    let patch = plan.spec.unwrap();
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    let spec = &patch["spec"]["template"]["spec"];
    assert_eq!(
        spec["volumes"][1]["persistentVolumeClaim"],
        json!({"claimName": "c1", "hotpluggable": true})
    );
    let disk = json!({"name": "data", "disk": {"bus": "scsi"}, "serial": "data"});
    assert_eq!(spec["domain"]["devices"]["disks"][1], disk);
}

#[test]
fn what_an_instance_was_given_for_itself_goes_by_name_or_claim_and_nothing_else_does() {
    let plan = of_instance(&owned(), &options(&wanted()), add).unwrap();
    let mut has = with(&owned(), plan);
    assert_eq!(has.annotations()[EPHEMERAL_VOLUMES], "data");
    for name in ["data", "c1"] {
        let plan = of_instance(&has, &options(&json!({"name": name})), remove).unwrap();
        let patch = plan.instance.clone().unwrap();
        assert_eq!(patch["metadata"]["annotations"][EPHEMERAL_VOLUMES], Value::Null);
        assert_eq!(patch["spec"]["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(patch["spec"]["domain"]["devices"]["disks"].as_array().unwrap().len(), 1);
    }
    has.metadata.annotations = None;
    let refused = said(of_instance(&has, &options(&json!({"name": "data"})), remove));
    assert!(refused.contains("because it is of the VM"), "{refused}");
    // One without a machine is its own.
    let plan = of_instance(&instance(&json!([])), &options(&wanted()), add).unwrap();
    assert_eq!(plan.instance.unwrap()["metadata"]["annotations"][EPHEMERAL_VOLUMES], Value::Null);
}

#[test]
fn what_cannot_be_is_refused_in_upstreams_words() {
    let asked = |change: Value| {
        let mut body = wanted();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        said(of_machine(&vm(), &options(&body), add))
    };
    let bus = |bus: &str| asked(json!({"disk": {"disk": {"bus": bus}}}));
    let there = "409 Unable to add volume [root] because volume with that name already exists";
    for (refused, words) in [
        (asked(json!({"name": ""})), "400 AddVolumeOptions requires name to be set"),
        (asked(json!({"disk": null})), "400 AddVolumeOptions requires disk to not be nil"),
        (
            asked(json!({"volumeSource": null})),
            "400 AddVolumeOptions requires VolumeSource to not be nil",
        ),
        (asked(json!({"name": "root"})), there),
        (
            bus("sata"),
            "400 AddVolume request for [data] requires bus to be 'scsi' or 'virtio'. [sata] is not permitted",
        ),
        (
            asked(json!({"volumeSource": {}})),
            "400 volume data must have exactly one source type set",
        ),
    ] {
        assert_eq!(refused, words);
    }
    let name = asked(json!({"name": "../x"}));
    assert!(name.contains("DNS_LABEL"), "{name}");
    let gone = |name: &str| said(of_machine(&vm(), &options(&json!({"name": name})), remove));
    assert_eq!(gone("none"), "409 Unable to remove volume [none] because it does not exist");
    assert_eq!(gone("root"), "409 Unable to remove volume [root] because it is not hotpluggable");
    assert_eq!(gone(""), "400 RemoveVolumeOptions requires name to be set");
    let mut waits = owned();
    waits.status.as_mut().unwrap().phase = Some(InstancePhase::Scheduled);
    assert_eq!(said(of_instance(&waits, &options(&wanted()), add)), "409 VMI is not running");
    assert!(said(VolumeOptions::read(b" ")).contains("Request with no body"));
}

#[test]
fn one_claim_is_not_added_twice() {
    let once = with(&owned(), of_instance(&owned(), &options(&wanted()), add).unwrap());
    let mut again = wanted();
    again["name"] = json!("more");
    let refused = said(of_instance(&once, &options(&again), add));
    assert_eq!(refused, "409 Unable to add volume source [c1] because it already exists");
}
