use std::sync::Arc;

use super::*;
use crate::agenda::Booking;
use crate::objects::Start;
use crds::kubevirt::TemplateMetadata;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn vm(strategy: &str, status: &Value) -> VirtualMachine {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": { "name": "web", "namespace": "default", "uid": "vm-1" },
        "spec": { "runStrategy": strategy, "template": { "spec": { "domain": { "devices": {} } } } },
        "status": status,
    }))
    .unwrap()
}

fn instance(phase: &str) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "vmi-1", "ownerReferences": [
            { "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "web", "uid": "vm-1", "controller": true },
        ] },
        "spec": { "domain": { "devices": {} } },
        "status": { "phase": phase },
    }))
    .unwrap()
}

/// An instance with these conditions.
fn saying(phase: &str, conditions: &Value) -> VirtualMachineInstance {
    let mut instance = instance(phase);
    let status = instance.status.as_mut().unwrap();
    status.conditions = serde_json::from_value(conditions.clone()).unwrap();
    instance
}

fn deleting(mut instance: VirtualMachineInstance) -> VirtualMachineInstance {
    instance.metadata.deletion_timestamp = Some(Time(now()));
    instance
}

#[test]
fn each_strategy_does_what_kubevirts_table_says() {
    use Step::{Create, Delete, Rest};
    let seen = json!({ "runStrategy": "RerunOnFailure" });
    let rows = [
        // strategy, none, Running, Failed, Succeeded
        ("Always", Create, Rest, Delete, Delete),
        ("RerunOnFailure", Rest, Rest, Delete, Delete),
        ("Manual", Rest, Rest, Rest, Rest),
        ("Once", Create, Rest, Rest, Rest),
        ("Halted", Rest, Delete, Delete, Delete),
    ];
    for (strategy, none, running, failed, succeeded) in rows {
        let vm = vm(strategy, &seen);
        assert_eq!(next(&vm, None, now()), none, "{strategy}, no instance");
        for (phase, want) in [("Running", running), ("Failed", failed), ("Succeeded", succeeded)] {
            assert_eq!(next(&vm, Some(&instance(phase)), now()), want, "{strategy}, {phase}");
        }
    }
}

#[test]
fn rerun_on_failure_starts_when_newly_set() {
    assert_eq!(next(&vm("RerunOnFailure", &json!({})), None, now()), Step::Create);
}

#[test]
fn rerun_on_failure_starts_again_after_a_failure_and_not_after_a_power_off() {
    let seen = json!({ "runStrategy": "RerunOnFailure" });
    let mut vm = vm("RerunOnFailure", &seen);
    vm.status = Some(status(&vm, Some(&instance("Succeeded")), None, now()));
    assert_eq!(next(&vm, None, now()), Step::Rest);
    vm.status = Some(status(&vm, Some(&instance("Failed")), None, now()));
    let after = now() + SignedDuration::from_mins(10);
    assert_eq!(next(&vm, None, after), Step::Create);
    vm.status = Some(status(&vm, Some(&instance("Running")), None, now()));
    assert!(vm.status.unwrap().state_change_requests.is_empty());
}

#[test]
fn a_stop_request_deletes_the_instance_it_names_and_no_other() {
    let stop = |uid: &str| json!({ "stateChangeRequests": [{ "action": "Stop", "uid": uid }] });
    let running = instance("Running");
    assert_eq!(next(&vm("Always", &stop("vmi-1")), Some(&running), now()), Step::Delete);
    assert_eq!(next(&vm("Always", &stop("vmi-0")), Some(&running), now()), Step::Rest);
}

#[test]
fn the_start_of_a_restart_waits_for_its_stop_and_goes_with_a_halt() {
    let asked = json!({ "stateChangeRequests":
        [{ "action": "Stop", "uid": "vmi-1" }, { "action": "Start" }] });
    let mut vm = vm("Manual", &asked);
    let left = |vm: &VirtualMachine, instance: Option<&VirtualMachineInstance>| {
        status(vm, instance, None, now()).state_change_requests.len()
    };
    assert_eq!(left(&vm, Some(&instance("Running"))), 2);
    vm.status = Some(status(&vm, None, None, now()));
    assert_eq!(next(&vm, None, now()), Step::Create);
    let mut halted = vm.clone();
    halted.spec.run_strategy = Some(RunStrategy::Halted);
    assert_eq!(left(&halted, None), 0);
    let mut second = instance("Scheduled");
    second.metadata.uid = Some("vmi-2".to_owned());
    assert_eq!(left(&vm, Some(&second)), 0);
}

#[test]
fn a_start_by_hand_that_failed_at_once_is_over() {
    let asked = json!({ "stateChangeRequests": [{ "action": "Start" }] });
    let failed = instance("Failed");
    for strategy in ["Manual", "Once"] {
        let vm = vm(strategy, &asked);
        let status = status(&vm, Some(&failed), None, now());
        assert!(status.state_change_requests.is_empty(), "{strategy}: nobody could ask again");
    }
}

#[test]
fn who_is_started_by_hand_waits_for_no_failure_before() {
    let failed = json!({ "startFailure": { "consecutiveFailCount": 5,
        "retryAfterTimestamp": "2026-01-01T00:05:00Z" } });
    for strategy in ["Manual", "Halted"] {
        let status = status(&vm(strategy, &failed), None, None, now());
        assert_eq!(status.start_failure, None, "{strategy}");
    }
    assert_eq!(next(&vm("Once", &failed), None, now()), Step::Create);
    assert!(matches!(next(&vm("Always", &failed), None, now()), Step::CreateAt(_)));
}

#[test]
fn one_that_is_halted_and_asked_to_start_paused_is_switched_on_first() {
    let asked = |seen: &Value| {
        json!({ "runStrategy": seen, "stateChangeRequests":
            [{ "action": "Start", "data": { "paused": "true" } }] })
    };
    for seen in [json!("Halted"), Value::Null] {
        let halted = vm("Halted", &asked(&seen));
        assert_eq!(next(&halted, None, now()), Step::SwitchOn, "{seen}");
        let said = status(&halted, None, None, now()).state_change_requests;
        assert_eq!(said.len(), 1, "the request says how the instance is made");
    }
    let on = vm("Always", &asked(&json!("Halted")));
    assert_eq!(next(&on, None, now()), Step::Create);
    assert!(starts_paused(&on));
    // Who halts it after that means it.
    let off = vm("Halted", &asked(&json!("Manual")));
    assert_eq!(next(&off, None, now()), Step::Rest);
    assert!(status(&off, None, None, now()).state_change_requests.is_empty());
    let plain = json!({ "stateChangeRequests": [{ "action": "Start" }] });
    assert_eq!(next(&vm("Halted", &plain), None, now()), Step::Rest);
    assert!(!starts_paused(&vm("Manual", &plain)));
}

#[test]
fn an_instance_that_was_asked_to_wait_does_and_asks_for_no_restart() {
    let vm = Arc::new(vm("Always", &json!({})));
    let start = |paused| {
        let booking = Booking { node: "n1".to_owned(), ..Booking::default() };
        Start::new(&vm, booking, &[], Vec::new(), now()).paused(paused).instance()
    };
    assert_eq!(start(true).spec.start_strategy.as_deref(), Some("Paused"));
    assert_eq!(start(false).spec.start_strategy, None);
    assert!(live::is_met(&start(true), &vm), "it has what the template asks for");
}

#[test]
fn an_instance_that_is_going_is_not_deleted_again() {
    assert_eq!(
        next(&vm("Halted", &json!({})), Some(&deleting(instance("Running"))), now()),
        Step::Rest
    );
}

#[test]
fn a_start_that_failed_is_repeated_later_each_time() {
    let mut vm = vm("Always", &json!({}));
    let mut waits = Vec::new();
    for attempt in 0..7 {
        let mut failed = instance("Failed");
        failed.metadata.uid = Some(format!("vmi-{attempt}"));
        vm.status = Some(status(&vm, Some(&failed), None, now()));
        // Seen again, the same failure counts once.
        vm.status = Some(status(&vm, Some(&failed), None, now()));
        match next(&vm, None, now()) {
            Step::CreateAt(at) => waits.push(at.duration_since(now())),
            other => panic!("{other:?}"),
        }
    }
    let seconds = |seconds| SignedDuration::from_secs(seconds);
    for (wait, least) in waits.iter().zip([10, 40, 90, 160, 250, 300, 300]) {
        let most = seconds(least + least / 2).min(seconds(300));
        assert!((seconds(least)..=most).contains(wait), "{waits:?}");
    }
    assert_eq!(waits[5..], [seconds(300), seconds(300)]);
    vm.status = Some(status(&vm, Some(&instance("Running")), None, now()));
    assert_eq!(next(&vm, None, now()), Step::Create);
}

#[test]
fn who_fails_together_starts_apart_and_always_in_the_same_time() {
    let waits: BTreeSet<SignedDuration> =
        (0..20).map(|number| back_off(1, Some(&format!("vmi-{number}")))).collect();
    assert!(waits.len() > 15, "{waits:?}");
    let (first, last) = (waits.first().unwrap(), waits.last().unwrap());
    assert!(*last - *first > SignedDuration::from_secs(3), "{waits:?}");
    assert_eq!(back_off(1, Some("vmi-1")), back_off(1, Some("vmi-1")));
}

#[test]
fn a_vm_that_was_stopped_after_a_failure_starts_at_once_when_it_is_to() {
    let mut vm = vm("Always", &json!({}));
    vm.status = Some(status(&vm, Some(&instance("Failed")), None, now()));
    assert!(matches!(next(&vm, None, now()), Step::CreateAt(_)));
    for strategy in [RunStrategy::Halted, RunStrategy::Manual] {
        let mut stopped = vm.clone();
        stopped.spec.run_strategy = Some(strategy);
        stopped.status = Some(status(&stopped, None, None, now()));
        assert_eq!(stopped.status.as_ref().unwrap().start_failure, None);
        stopped.spec.run_strategy = Some(RunStrategy::Always);
        assert_eq!(next(&stopped, None, now()), Step::Create);
    }
    // One that says nothing of when it runs keeps what was counted.
    vm.spec.run_strategy = None;
    assert!(status(&vm, None, None, now()).start_failure.is_some());
}

#[test]
fn the_printable_status_follows_instance_and_trouble() {
    let show =
        |strategy: &str, instance: Option<VirtualMachineInstance>, trouble: Option<Trouble>| {
            let vm = vm(strategy, &json!({}));
            status(&vm, instance.as_ref(), trouble.as_ref(), now()).printable_status
        };
    let trouble = |reason| Some(Trouble { reason, message: "because".to_owned() });
    assert_eq!(show("Always", Some(instance("Running")), None), PrintableStatus::Running);
    assert_eq!(show("Always", Some(instance("Scheduled")), None), PrintableStatus::Starting);
    assert_eq!(
        show("Always", Some(deleting(instance("Running"))), None),
        PrintableStatus::Stopping
    );
    assert_eq!(show("Always", Some(instance("Failed")), None), PrintableStatus::CrashLoopBackOff);
    assert_eq!(show("Halted", None, None), PrintableStatus::Stopped);
    assert_eq!(show("Always", None, trouble(UNSCHEDULABLE)), PrintableStatus::ErrorUnschedulable);
    assert_eq!(show("Always", None, trouble(INVALID_NETWORK)), PrintableStatus::Provisioning);
}

#[test]
fn a_status_written_again_is_no_change() {
    let mut vm = vm("Always", &json!({}));
    vm.status = Some(status(&vm, Some(&instance("Running")), None, now()));
    let later = now() + SignedDuration::from_mins(1);
    assert_eq!(Some(status(&vm, Some(&instance("Running")), None, later)), vm.status);
}

#[test]
fn an_instance_of_an_earlier_vm_is_not_owned() {
    let mut vm = vm("Always", &json!({}));
    assert!(owns(&vm, &instance("Running")));
    vm.metadata.uid = Some("vm-2".to_owned());
    assert!(!owns(&vm, &instance("Running")));
}

#[test]
fn a_vm_that_does_not_say_once_when_it_runs_is_neither_started_nor_stopped() {
    let mut both = vm("Halted", &json!({}));
    both.spec.running = Some(true);
    let mut neither = vm("Halted", &json!({}));
    neither.spec.run_strategy = None;
    for vm in [both, neither] {
        assert_eq!(next(&vm, None, now()), Step::Rest);
        for phase in ["Running", "Failed", "Succeeded"] {
            assert_eq!(next(&vm, Some(&instance(phase)), now()), Step::Rest, "{phase}");
        }
        let message = vm.spec.strategy().unwrap_err().to_owned();
        let trouble = Trouble { reason: INVALID_RUN_STRATEGY, message };
        let status = status(&vm, None, Some(&trouble), now());
        assert_eq!(status.printable_status, PrintableStatus::Stopped);
        assert!(Condition::holds(&status.conditions, "Failure"));
    }
}

#[test]
fn a_strategy_without_effect_says_so_until_an_instance_is_there() {
    let vm = vm("WaitAsReceiver", &json!({}));
    let without = |instance: Option<&VirtualMachineInstance>| {
        let conditions = status(&vm, instance, None, now()).conditions;
        Condition::holds(&conditions, FIELDS_WITHOUT_EFFECT)
    };
    assert!(without(None));
    assert!(!without(Some(&instance("Running"))));
    assert_eq!(next(&vm, None, now()), Step::Rest);
}

#[test]
fn a_trouble_is_new_until_the_status_says_it() {
    let mut vm = vm("Always", &json!({}));
    let trouble = |message: &str| Trouble { reason: UNSCHEDULABLE, message: message.to_owned() };
    let told = |vm: &VirtualMachine, message: &str| {
        let status = status(vm, None, Some(&trouble(message)), now());
        (news(vm, &status).into_iter().map(|(_, message)| message).collect::<Vec<_>>(), status)
    };
    let (said, status) = told(&vm, "no node");
    assert_eq!(said, ["no node"]);
    vm.status = Some(status);
    assert!(told(&vm, "no node").0.is_empty());
    assert_eq!(told(&vm, "no room").0, ["no room"]);
}

#[test]
fn why_an_instance_failed_is_told_until_one_has_run() {
    let mut vm = vm("Always", &json!({}));
    let why = json!([{"type": "Synchronized", "status": "False", "reason": "Unsupported",
        "message": "persistentVolumeClaim is not supported"}]);
    let failed = saying("Failed", &why);
    let told = |vm: &VirtualMachine| {
        let conditions = &vm.status.as_ref().unwrap().conditions;
        conditions.iter().find(|one| one.r#type == "Failure").and_then(|one| one.message.clone())
    };
    let next = status(&vm, Some(&failed), None, now());
    assert_eq!(news(&vm, &next).len(), 1, "{next:?}");
    vm.status = Some(next);
    assert_eq!(told(&vm).as_deref(), Some("persistentVolumeClaim is not supported"));
    // Between two attempts, and while the next one is on its way.
    let next = status(&vm, None, None, now());
    assert!(news(&vm, &next).is_empty());
    vm.status = Some(next);
    vm.status = Some(status(&vm, Some(&instance("Scheduled")), None, now()));
    assert_eq!(told(&vm).as_deref(), Some("persistentVolumeClaim is not supported"));
    vm.status = Some(status(&vm, Some(&instance("Running")), None, now()));
    assert_eq!(told(&vm), None);
}

#[test]
fn a_field_that_nothing_acts_on_is_named() {
    let mut vm = vm("Halted", &json!({}));
    vm.spec.rest.insert("bogus".to_owned(), json!(7));
    let conditions = status(&vm, None, None, now()).conditions;
    let said = conditions.iter().find(|one| one.r#type == FIELDS_WITHOUT_EFFECT).unwrap();
    assert!(said.message.as_ref().unwrap().contains("spec.bogus"), "{said:?}");
}

#[test]
fn an_image_that_cannot_be_had_is_the_printed_status() {
    let vm = vm("Always", &json!({}));
    for (reason, printed) in [
        ("ErrImagePull", PrintableStatus::ErrImagePull),
        ("ImagePullBackOff", PrintableStatus::ImagePullBackOff),
    ] {
        let why = json!([{"type": "Synchronized", "status": "False", "reason": reason}]);
        let waits = saying("Scheduled", &why);
        let status = status(&vm, Some(&waits), None, now());
        assert_eq!(status.printable_status, printed);
    }
}

#[test]
fn a_changed_template_asks_for_a_restart_until_the_instance_is_a_new_one() {
    let mut vm = vm("Always", &json!({}));
    let made_of = |vm: &VirtualMachine| {
        let booking = Booking { node: "n1".to_owned(), ..Booking::default() };
        let mut made =
            Start::new(&Arc::new(vm.clone()), booking, &[], Vec::new(), now()).instance();
        made.metadata.annotations = Some(
            [("ovn.kubernetes.io/ip_address".to_owned(), "10.0.0.5,fd00::5".to_owned())].into(),
        );
        made
    };
    let asks = |vm: &VirtualMachine, instance: &VirtualMachineInstance| {
        let conditions = status(vm, Some(instance), None, now()).conditions;
        Condition::holds(&conditions, "RestartRequired")
    };
    let first = made_of(&vm);
    assert!(!asks(&vm, &first));
    vm.spec.template.spec.hostname = Some("other".to_owned());
    assert!(asks(&vm, &first));
    // It is seen of which spec it is, and that it is not the newest.
    vm.metadata.generation = Some(3);
    let generations = |instance: &VirtualMachineInstance| {
        let status = status(&vm, Some(instance), None, now());
        (status.observed_generation, status.desired_generation)
    };
    let mut earlier = first.clone();
    earlier.annotations_mut().insert(VM_GENERATION.to_owned(), "2".to_owned());
    assert_eq!(generations(&earlier), (Some(2), Some(3)));
    assert_eq!(generations(&made_of(&vm)), (Some(3), Some(3)));
    let message = status(&vm, Some(&first), None, now()).conditions;
    assert!(message.iter().any(|one| one.message.as_deref()
        == Some("a non-live-updatable field was changed in the template spec")));
    assert!(!asks(&vm, &made_of(&vm)));

    let address = |address: &str| {
        let notes = [("ovn.kubernetes.io/ip_address".to_owned(), address.to_owned())];
        let metadata = TemplateMetadata { annotations: Some(notes.into()), ..Default::default() };
        let mut vm = vm.clone();
        vm.spec.template.metadata = Some(metadata);
        vm
    };
    assert!(!asks(&address(" 10.0.0.5"), &made_of(&vm)), "it has that address");
    assert!(asks(&address("10.0.0.6"), &made_of(&vm)));
}

#[test]
fn a_vm_that_is_deleted_takes_its_instance_along_unless_it_is_to_be_orphaned() {
    let mut vm = vm("Always", &json!({}));
    vm.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(next(&vm, Some(&instance("Running")), now()), Step::Delete);
    vm.finalizers_mut().push("orphan".to_owned());
    assert_eq!(next(&vm, Some(&instance("Running")), now()), Step::Rest);
    assert_eq!(next(&vm, None, now()), Step::Rest);
}

#[test]
fn annotations_without_effect_are_said_besides_what_the_instance_says() {
    let mut vm = vm("Always", &json!({}));
    let notes = [("ovn.kubernetes.io/security_groups".to_owned(), "web".to_owned())];
    vm.spec.template.metadata =
        Some(TemplateMetadata { annotations: Some(notes.into()), ..TemplateMetadata::default() });
    let said = |instance: Option<&VirtualMachineInstance>| {
        let status = status(&vm, instance, None, now());
        let one = status.conditions.into_iter().find(|one| one.r#type == FIELDS_WITHOUT_EFFECT);
        one.unwrap().message.unwrap()
    };
    assert!(said(None).contains("security_groups"));
    let mut running = instance("Running");
    running.status.as_mut().unwrap().conditions.push(
        Condition::new(FIELDS_WITHOUT_EFFECT, ConditionStatus::True)
            .because("NotImplemented", "spec.hostname"),
    );
    let both = said(Some(&running));
    assert!(both.contains("spec.hostname") && both.contains("security_groups"), "{both}");
}
