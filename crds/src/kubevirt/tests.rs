use serde_json::{Value, json};

use super::*;

fn machine() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "runStrategy": "Always",
            "dataVolumeTemplates": [{ "metadata": { "name": "d" }, "spec": {} }],
            "template": {
                "metadata": { "labels": { "app": "web" }, "creationTimestamp": null },
                "spec": {
                    "affinity": { "nodeAffinity": {} },
                    "domain": {
                        "cpu": { "cores": 2, "numa": { "guestMappingPassthrough": {} } },
                        "memory": { "guest": 268_435_456 },
                        "resources": { "requests": { "memory": "256Mi", "cpu": 1 } },
                        "devices": {
                            "disks": [{ "name": "root", "disk": { "bus": "virtio", "pciAddress": "0:1" } }],
                            "interfaces": [{ "name": "default", "bridge": {}, "acpiIndex": 3 }],
                            "sound": { "name": "s" },
                        },
                    },
                    "networks": [{ "name": "default", "pod": {} }],
                    "volumes": [
                        { "name": "root", "containerDisk": { "image": "x", "imagePullPolicy": "Always" } },
                        { "name": "extra", "sysprep": { "configMap": { "name": "c" } } },
                    ],
                },
            },
        },
    })
}

#[test]
fn a_machine_keeps_every_field_through_the_types() {
    let typed: VirtualMachine = serde_json::from_value(machine()).unwrap();
    let mut back = serde_json::to_value(&typed).unwrap();
    // Only a `null` that a type has an opinion on may change.
    back["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
    assert_eq!(back, machine());
}

#[test]
fn a_template_becomes_an_instance_without_loss() {
    let typed: VirtualMachine = serde_json::from_value(machine()).unwrap();
    let instance = VirtualMachineInstance::new("web", typed.spec.template.spec);
    let written = serde_json::to_value(&instance).unwrap();
    assert_eq!(written["spec"], machine()["spec"]["template"]["spec"]);
    assert_eq!(written["kind"], "VirtualMachineInstance");
    let read: VirtualMachineInstance = serde_json::from_value(written).unwrap();
    assert_eq!(read, instance);
}

#[test]
fn unknown_fields_are_preserved_wherever_a_type_is_open() {
    let crd = serde_json::to_value(machine_definition()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let open = "x-kubernetes-preserve-unknown-fields";
    let template = &schema["spec"]["properties"]["template"]["properties"];
    for place in [
        &schema["spec"],
        &schema["status"],
        &schema["spec"]["properties"]["template"],
        &template["metadata"],
        &template["spec"],
        &template["spec"]["properties"]["domain"],
        &template["spec"]["properties"]["domain"]["properties"]["devices"],
        &template["spec"]["properties"]["domain"]["properties"]["clock"],
        &template["spec"]["properties"]["volumes"]["items"],
    ] {
        assert_eq!(place[open], true, "{place}");
        assert_eq!(place.get("additionalProperties"), None, "{place}");
    }
}

#[test]
fn the_schema_knows_what_is_required_and_which_words_there_are() {
    let crd = serde_json::to_value(machine_definition()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    assert_eq!(schema["spec"]["required"], json!(["template"]));
    let strategies = schema["spec"]["properties"]["runStrategy"]["enum"].as_array().unwrap();
    assert!(strategies.contains(&json!("RerunOnFailure")));
    assert_eq!(schema["status"]["properties"]["printableStatus"]["default"], "Stopped");
    let memory = &schema["spec"]["properties"]["template"]["properties"]["spec"]["properties"]["domain"]
        ["properties"]["memory"]["properties"]["guest"];
    assert_eq!(memory["x-kubernetes-int-or-string"], true, "{memory}");
}

#[test]
fn a_machine_has_a_status_subresource_and_an_instance_has_none() {
    assert!(machine_definition().spec.versions[0].subresources.is_some());
    assert!(instance_definition().spec.versions[0].subresources.is_none());
    let names = instance_definition().spec.names;
    assert_eq!(names.short_names.unwrap(), ["vmi", "vmis"]);
}

#[test]
fn no_schema_has_a_list_of_alternatives() {
    // A structural schema may not define properties or types inside anyOf and
    // oneOf, so the simplest valid one has none.
    for crd in [machine_definition(), instance_definition()] {
        let text = serde_json::to_string(&crd).unwrap();
        for word in ["anyOf", "oneOf", "$ref", "definitions\""] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}

#[test]
fn a_machine_says_once_when_it_runs() {
    let strategy = |spec: Value| {
        let mut machine = machine();
        machine["spec"] = spec;
        machine["spec"]["template"] = json!({ "spec": { "domain": { "devices": {} } } });
        serde_json::from_value::<VirtualMachine>(machine).unwrap().spec.strategy()
    };
    assert_eq!(strategy(json!({ "running": false })), Ok(RunStrategy::Halted));
    assert_eq!(strategy(json!({ "runStrategy": "Once" })), Ok(RunStrategy::Once));
    assert_eq!(strategy(json!({ "running": true, "runStrategy": "Once" })), Err(BOTH_STRATEGIES));
    assert_eq!(strategy(json!({})), Err(NO_STRATEGY));
    let crd = serde_json::to_value(machine_definition()).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let rules = spec["x-kubernetes-validations"].as_array().unwrap();
    let messages: Vec<_> = rules.iter().map(|rule| &rule["message"]).collect();
    assert_eq!(messages, [BOTH_STRATEGIES, NO_STRATEGY]);
}
