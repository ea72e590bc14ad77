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

fn here(node: &str) -> Here {
    Here {
        cpus: None,
        node: node.to_owned(),
        arrivals: Some(format!("192.0.2.{}", &node[1..])),
        state_dir: format!("/{node}/state"),
        run_dir: format!("/{node}/run"),
        emulation: Emulation::Software,
        images: [("root".to_owned(), "aa".to_owned())].into(),
        told: crate::guest::Told::default(),
        account: None,
    }
}

fn n1() -> Here {
    here("n1")
}

fn written(vmi: &VirtualMachineInstance, report: &Report) -> Option<Value> {
    patch(vmi, report, &n1(), &[], &at(100))
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
    assert_eq!(super::patch(&running, &RUNNING, &n1(), &[], &at(200)), None);
}

#[test]
fn an_address_that_the_guest_declined_is_told_until_it_is_settled() {
    let mac = "02:00:00:00:00:05".parse().unwrap();
    let port = |conflict| Port {
        network: "default".to_owned(),
        name: "web.default".to_owned(),
        tap: "tap0".to_owned(),
        mac,
        mtu: 1400,
        addresses: vec!["10.0.0.5".parse().unwrap()],
        faults: Vec::new(),
        conflict,
        binding: dhcp::Binding { mac, hostname: None, v4: None, v6: None, ra: None },
    };
    let before = vmi(|_| {});
    let patch = super::patch(&before, &RUNNING, &n1(), &[port(true)], &at(100)).unwrap();
    let told = after(&before, &patch);
    let conditions = told.status.clone().unwrap().conditions;
    let one = conditions.iter().find(|one| one.r#type == ADDRESS_IN_USE).unwrap();
    let message = one.message.as_deref().unwrap_or_default();
    assert!(message.contains("of network \"default\" 10.0.0.5"), "{message}");
    let patch = super::patch(&told, &RUNNING, &n1(), &[port(false)], &at(200)).unwrap();
    let settled = after(&told, &patch).status.unwrap().conditions;
    assert!(settled.iter().all(|one| one.r#type != ADDRESS_IN_USE));
}

#[test]
fn a_condition_that_stays_keeps_its_time_and_one_that_turns_gets_a_new_one() {
    let trouble = |message: &str| {
        Report::Waiting(Trouble {
            reason: "Busy",
            message: message.to_owned(),
            hopeless: false,
            again: None,
        })
    };
    let first = vmi(|_| {});
    let second = after(&first, &written(&first, &trouble("a")).unwrap());
    let patch = super::patch(&second, &trouble("b"), &n1(), &[], &at(200)).unwrap();
    let condition = &patch["status"]["conditions"][0];
    assert_eq!(condition["message"], "b");
    assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:01:40Z");
    let third = after(&second, &patch);
    let patch = super::patch(&third, &RUNNING, &n1(), &[], &at(300)).unwrap();
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
fn the_end_of_what_is_deleted_is_written_before_the_finalizer_goes() {
    let deleted = vmi(|vmi| {
        vmi["status"]["phase"] = json!("Running");
        vmi["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    let patch = written(&deleted, &SUCCEEDED).unwrap();
    assert_eq!(patch["status"]["phase"], "Succeeded");
    assert_eq!(patch["metadata"].get("finalizers"), None);
    let patch = written(&after(&deleted, &patch), &SUCCEEDED).unwrap();
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
    let asking = vmi(|vmi| vmi["spec"]["domain"]["devices"]["gpus"] = json!([{ "name": "g" }]));
    let patch = written(&asking, &RUNNING).unwrap();
    let conditions = patch["status"]["conditions"].as_array().unwrap();
    let named = conditions.iter().find(|one| one["type"] == FIELDS_WITHOUT_EFFECT).unwrap();
    assert!(named["message"].as_str().unwrap().contains("spec.domain.devices.gpus"), "{named}");
}

/// One that moves from n1 to n2.
fn moving(change: impl FnOnce(&mut Value)) -> VirtualMachineInstance {
    vmi(|vmi| {
        vmi["metadata"]["labels"] =
            json!({ NODE_NAME_LABEL: "n1", MIGRATION_TARGET_LABEL: "n2", "app": "web" });
        vmi["status"]["phase"] = json!("Running");
        vmi["status"]["migrationState"] =
            json!({ "migrationUid": "m1", "sourceNode": "n1", "targetNode": "n2" });
        change(vmi);
    })
}

fn said_by(node: &str, vmi: &VirtualMachineInstance, report: &Report) -> Option<Value> {
    super::patch(vmi, report, &here(node), &[], &at(100))
}

#[test]
fn a_guest_that_runs_at_the_target_has_arrived_and_is_the_targets() {
    let patch = said_by("n2", &moving(|_| {}), &RUNNING).unwrap();
    assert_eq!(patch["metadata"]["resourceVersion"], "7", "of two words one counts");
    let labels = json!({ NODE_NAME_LABEL: "n2", MIGRATION_TARGET_LABEL: null });
    assert_eq!(patch["metadata"]["labels"], labels, "and no label of others");
    assert_eq!(patch["status"]["nodeName"], "n2");
    let state = &patch["status"]["migrationState"];
    assert_eq!((&state["completed"], &state["migrationUid"]), (&json!(true), &json!("m1")));
    assert_eq!(state["endTimestamp"], "1970-01-01T00:01:40Z");
}

#[test]
fn a_source_hands_over_what_it_has_sent_and_nothing_else() {
    let sent = moving(|vmi| {
        vmi["status"]["migrationState"]["startTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    let patch = said_by("n1", &sent, &Report::Left).unwrap();
    assert_eq!(patch["status"]["nodeName"], "n2");
    assert_eq!(patch["status"]["migrationState"]["completed"], true);
    assert_eq!(patch["metadata"]["labels"][NODE_NAME_LABEL], "n2");
    for (node, vmi) in [("n2", &sent), ("n3", &sent), ("n1", &moving(|_| {})), ("n1", &vmi(|_| {}))]
    {
        assert_eq!(said_by(node, vmi, &Report::Left), None, "{node}");
    }
}

#[test]
fn a_guest_that_broke_off_at_its_target_is_that_ones_and_its_move_has_failed() {
    let sent = moving(|vmi| {
        vmi["status"]["migrationState"]["startTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    for node in ["n1", "n2"] {
        let patch = said_by(node, &sent, &Report::Broken).unwrap();
        assert_eq!(patch["status"]["nodeName"], "n2");
        assert_eq!(patch["metadata"]["labels"][NODE_NAME_LABEL], "n2");
        let state = &patch["status"]["migrationState"];
        assert_eq!((&state["failed"], &state["completed"]), (&json!(true), &json!(true)));
        assert!(state["failureReason"].as_str().unwrap().contains("post-copy"), "{state}");
        assert_eq!(patch["status"].get("phase"), None, "it runs there still");
    }
    for (node, vmi) in [("n3", &sent), ("n1", &moving(|_| {}))] {
        assert_eq!(said_by(node, vmi, &Report::Broken), None, "{node}");
    }
}

#[test]
fn a_node_that_the_object_does_not_name_says_nothing_of_its_guest() {
    let failed = Report::Ended(End::Failed(Trouble::of("GuestLost", "gone")));
    let waiting = Report::Waiting(Trouble::of("NetworkNotReady", "no tap"));
    for report in [&failed, &SUCCEEDED, &waiting] {
        assert_eq!(said_by("n2", &moving(|_| {}), report), None, "{report:?}");
        assert_eq!(said_by("n3", &moving(|_| {}), report), None, "{report:?}");
    }
    assert_eq!(said_by("n3", &moving(|_| {}), &RUNNING), None);
    let moved = moving(|vmi| {
        vmi["metadata"]["labels"][NODE_NAME_LABEL] = json!("n2");
        vmi["status"]["migrationState"]["completed"] = json!(true);
    });
    assert_eq!(said_by("n1", &moved, &failed), None, "it was the source's once");
}

#[test]
fn a_target_says_that_it_is_ready_or_cannot_be_only_before_the_guest_is_sent() {
    let patch = said_by("n2", &moving(|_| {}), &Report::Ready).unwrap();
    let state = &patch["status"]["migrationState"];
    assert_eq!(state["targetNodeAddress"], "192.0.2.2");
    assert_eq!(state["targetState"]["stateDir"], "/n2/state");
    let refused = Report::Refused(Trouble::of("VolumeNotReady", "no image"));
    let patch = said_by("n2", &moving(|_| {}), &refused).unwrap();
    let state = &patch["status"]["migrationState"];
    assert_eq!(state["failureReason"], "n2 cannot take the guest: no image");
    assert_eq!(patch["metadata"]["labels"][MIGRATION_TARGET_LABEL], Value::Null);
    let sent = moving(|vmi| {
        vmi["status"]["migrationState"]["startTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    let over = moving(|vmi| vmi["status"]["migrationState"]["failed"] = json!(true));
    for vmi in [&sent, &over] {
        for report in [&refused, &Report::Ready] {
            let patch = said_by("n2", vmi, report);
            assert!(patch.is_none_or(|patch| patch.get("status").is_none()), "{report:?}");
        }
    }
}

#[test]
fn a_target_says_that_nothing_has_come_only_when_it_is_asked() {
    let begun = |vmi: &mut Value| {
        vmi["status"]["migrationState"]["startTimestamp"] = json!("2026-01-01T00:00:00Z");
    };
    assert_eq!(said_by("n2", &moving(begun), &Report::Absent), None);
    let asked = moving(|vmi| {
        begun(vmi);
        vmi["status"]["migrationState"]["sourceState"] = json!({ "undecided": true });
    });
    assert_eq!(said_by("n1", &asked, &Report::Absent), None);
    let patch = said_by("n2", &asked, &Report::Absent).unwrap();
    assert_eq!(patch["status"]["migrationState"]["failed"], true, "{patch}");
}

#[test]
fn a_target_that_was_ready_for_one_migration_does_not_say_so_of_the_next() {
    let (first, none) = (moving(|_| {}), vmi(|_| {}));
    let next = moving(|vmi| vmi["status"]["migrationState"]["migrationUid"] = json!("m2"));
    for (now, meant) in [(&first, true), (&next, false), (&none, true)] {
        let node = if under_way(now).is_some() { "n2" } else { "n1" };
        assert_eq!(is_still_meant(now, node, under_way(&first)), meant);
    }
    assert!(is_still_meant(&next, "n1", None), "its own node says how the guest is");
}

#[test]
fn each_attempt_to_make_anew_what_is_there_is_another_version() {
    let mut vmi = moving(|_| {});
    for attempt in 1..=2 {
        let patch = anew(&vmi).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["status"]["migrationState"]["targetState"]["attempt"], attempt);
        vmi = after(&vmi, &patch);
    }
    let ready = after(&vmi, &said_by("n2", &vmi, &Report::Ready).unwrap());
    assert!(anew(&ready).is_some(), "also after it was ready");
}

#[test]
fn whether_a_guest_can_move_is_said_with_the_reason_why_not() {
    let said = |vmi: &VirtualMachineInstance, here: &Here| {
        let patch = super::patch(vmi, &RUNNING, here, &[], &at(100)).unwrap();
        let conditions = patch["status"]["conditions"].as_array().unwrap().clone();
        let one = conditions.into_iter().find(|one| one["type"] == "LiveMigratable").unwrap();
        (one["status"].clone(), one["reason"].clone())
    };
    assert_eq!(said(&vmi(|_| {}), &n1()), (json!("True"), Value::Null));
    let apart = Here { arrivals: None, ..n1() };
    assert_eq!(said(&vmi(|_| {}), &apart), (json!("False"), json!("MigrationNotConfigured")));
    let tied = vmi(|vmi| vmi["spec"]["domain"]["cpu"] = json!({ "model": "host-passthrough" }));
    assert_eq!(said(&tied, &n1()), (json!("False"), json!("CPUModeLiveMigratable")));
    let has = |left: &[&str]| {
        let xml = "<domain><devices><disk device='disk'><source file='/c/disk.img'/>\
                   <target dev='sda'/><alias name='ua-data_may_go'/></disk></devices></domain>";
        let left = left.iter().map(|one| (*one).to_owned()).collect();
        let present = live::Present::read(xml).unwrap();
        Here { account: Some(live::Account { present, left, ..Default::default() }), ..n1() }
    };
    let holds = (json!("False"), json!("DisksNotLiveMigratable"));
    assert_eq!(said(&vmi(|_| {}), &has(&["data"])), holds, "the spec has lost it");
    let named = vmi(|vmi| {
        let claim = json!({ "claimName": "c", "hotpluggable": true });
        vmi["spec"]["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": claim }]);
        vmi["status"]["volumeStatus"] = json!([{ "name": "data", "target": "",
            "persistentVolumeClaimInfo": { "accessModes": ["ReadWriteMany"] } }]);
    });
    assert_eq!(said(&named, &has(&[])), (json!("True"), Value::Null));
    assert_eq!(said(&named, &has(&["data"])), holds, "another is to come in its place");
}

#[test]
fn a_guest_without_kvm_says_so_until_it_is_on_a_node_that_has_it() {
    let before = vmi(|_| {});
    let slow = after(&before, &written(&before, &RUNNING).unwrap());
    let says = |vmi: &VirtualMachineInstance| {
        Condition::holds(&vmi.status.as_ref().unwrap().conditions, "SoftwareEmulation")
    };
    assert!(says(&slow));
    let fast = Here { emulation: Emulation::Kvm, ..n1() };
    let patch = super::patch(&slow, &RUNNING, &fast, &[], &at(200)).unwrap();
    assert!(!says(&after(&slow, &patch)));
}
