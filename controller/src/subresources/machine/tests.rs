//! Each strategy and state that upstream tells apart.

use super::*;

fn vm(strategy: &str, status: Value) -> VirtualMachine {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": { "name": "till", "namespace": "shop", "uid": "vm", "resourceVersion": "7" },
        "spec": { "runStrategy": strategy, "template": { "spec": { "domain": { "devices": {} } } } },
        "status": status,
    }))
    .unwrap()
}

fn vmi(phase: &str) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": { "name": "till", "namespace": "shop", "uid": "one", "resourceVersion": "9" },
        "spec": { "domain": { "devices": {} }, "terminationGracePeriodSeconds": 30 },
        "status": { "phase": phase },
    }))
    .unwrap()
}

fn options(value: Value) -> Options {
    Options::read(value.to_string().as_bytes()).unwrap()
}

fn none() -> Options {
    Options::default()
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> (u16, String) {
    let refusal = outcome.unwrap_err();
    let said = refusal.message;
    (refusal.code, said.rsplit("\": ").next().unwrap_or_default().to_owned())
}

fn conflict(said: &str) -> (u16, String) {
    (409, said.to_owned())
}

fn strategy_of(plan: &Plan) -> &Value {
    &plan.spec.as_ref().unwrap()["spec"]["runStrategy"]
}

fn requests_of(plan: &Plan) -> &Value {
    &plan.status.as_ref().unwrap()["status"]["stateChangeRequests"]
}

#[test]
fn a_start_changes_the_strategy_or_is_requested() {
    let halted = vm("Halted", Value::Null);
    let plan = start((&halted, None), &none()).unwrap();
    assert_eq!(*strategy_of(&plan), "Always");
    assert_eq!(plan.spec.unwrap()["metadata"]["resourceVersion"], "7", "only as it was seen");
    for strategy in ["Manual", "RerunOnFailure"] {
        let plan = start((&vm(strategy, Value::Null), None), &none()).unwrap();
        assert_eq!(*requests_of(&plan), json!([{ "action": "Start" }]), "{strategy}");
        let ended = vmi("Succeeded");
        let plan = start((&vm(strategy, Value::Null), Some(&ended)), &none()).unwrap();
        let both = json!([{ "action": "Stop", "uid": "one" }, { "action": "Start" }]);
        assert_eq!(*requests_of(&plan), both, "{strategy}");
    }
}

#[test]
fn a_paused_start_is_requested_whatever_the_strategy() {
    let paused = options(json!({ "paused": true }));
    let begin = json!({ "action": "Start", "data": { "paused": "true" } });
    for strategy in ["Halted", "Manual", "RerunOnFailure"] {
        let plan = start((&vm(strategy, Value::Null), None), &paused).unwrap();
        assert_eq!((requests_of(&plan), &plan.spec), (&json!([begin]), &None), "{strategy}");
    }
    let ended = vmi("Succeeded");
    let plan = start((&vm("Manual", Value::Null), Some(&ended)), &paused).unwrap();
    assert_eq!(*requests_of(&plan), json!([{ "action": "Stop", "uid": "one" }, begin]));
    let mut probed = vm("Halted", Value::Null);
    probed.spec.template.spec.liveness_probe = Some(Box::default());
    assert_eq!(refused(start((&probed, None), &paused)).0, 403, "as a pause of it is");
}

#[test]
fn a_start_of_what_runs_or_starts_by_itself_is_refused() {
    for phase in ["Pending", "Scheduling", "Scheduled", "Running"] {
        let runs = vmi(phase);
        let refusal = refused(start((&vm("Manual", Value::Null), Some(&runs)), &none()));
        assert_eq!(refusal, conflict("VM is already running"), "{phase}");
    }
    let start = |strategy: &str, instance| start((&vm(strategy, Value::Null), instance), &none());
    assert_eq!(
        refused(start("Always", None)),
        conflict("Always does not support manual start requests")
    );
    assert_eq!(
        refused(start("Once", None)),
        conflict("Once does not support manual start requests")
    );
    assert_eq!(
        refused(start("RerunOnFailure", Some(&vmi("Failed")))),
        conflict("RerunOnFailure does not support starting VM from failed state")
    );
}

#[test]
fn a_stop_changes_the_strategy_or_is_requested() {
    let runs = vmi("Running");
    for strategy in ["Always", "Once"] {
        let plan = stop((&vm(strategy, Value::Null), Some(&runs)), &none()).unwrap();
        assert_eq!(*strategy_of(&plan), "Halted", "{strategy}");
    }
    for strategy in ["Manual", "RerunOnFailure"] {
        let machine = vm(strategy, Value::Null);
        let plan = stop((&machine, Some(&runs)), &none()).unwrap();
        assert_eq!(*requests_of(&plan), json!([{ "action": "Stop", "uid": "one" }]), "{strategy}");
        assert_eq!(refused(stop((&machine, None), &none())), conflict("VM is not running"));
        let ended = vmi("Failed");
        let outcome = stop((&machine, Some(&ended)), &none());
        assert_eq!(refused(outcome), conflict("VM is not running"));
    }
    let mut old = vm("Always", Value::Null);
    (old.spec.run_strategy, old.spec.running) = (None, Some(true));
    let plan = stop((&old, Some(&runs)), &none()).unwrap();
    assert_eq!(plan.spec.unwrap()["spec"], json!({ "running": false }), "in the same field");
}

#[test]
fn a_stop_may_be_hurried() {
    let runs = vmi("Running");
    let soon = options(json!({ "gracePeriod": 0 }));
    let plan = stop((&vm("Manual", Value::Null), Some(&runs)), &soon).unwrap();
    let hurried = plan.instance.unwrap();
    assert_eq!(hurried["spec"]["terminationGracePeriodSeconds"], 0);
    assert_eq!(hurried["metadata"]["resourceVersion"], "9");
    let halted = vm("Halted", Value::Null);
    stop((&halted, Some(&runs)), &soon).unwrap();
    let no_sooner =
        conflict("Halted only supports manual stop requests with a shorter graceperiod");
    assert_eq!(refused(stop((&halted, Some(&runs)), &none())), no_sooner);
    let later = options(json!({ "gracePeriod": 30 }));
    assert_eq!(refused(stop((&halted, Some(&runs)), &later)), no_sooner);
    assert_eq!(refused(stop((&halted, None), &soon)), conflict("VM is not running"));
}

#[test]
fn a_restart_is_requested_of_what_is_there() {
    let runs = vmi("Running");
    for strategy in ["Always", "Manual", "RerunOnFailure"] {
        let plan = restart((&vm(strategy, Value::Null), Some(&runs)), &none()).unwrap();
        let both = json!([{ "action": "Stop", "uid": "one" }, { "action": "Start" }]);
        assert_eq!((requests_of(&plan), &plan.instance), (&both, &None), "{strategy}");
    }
    let always = vm("Always", Value::Null);
    let at_once = options(json!({ "gracePeriodSeconds": 0 }));
    let plan = restart((&always, Some(&runs)), &at_once).unwrap();
    assert_eq!(plan.instance.unwrap()["spec"]["terminationGracePeriodSeconds"], 0);
    let later = options(json!({ "gracePeriodSeconds": 5 }));
    assert_eq!(
        refused(restart((&always, Some(&runs)), &later)),
        (400, "For force restart, only gracePeriod=0 is supported for now".to_owned())
    );
    assert_eq!(refused(restart((&always, None), &none())), conflict("VM is not running: Halted"));
    for strategy in ["Halted", "Once"] {
        let said = format!("RunStategy {strategy} does not support manual restart requests");
        let outcome = restart((&vm(strategy, Value::Null), Some(&runs)), &none());
        assert_eq!(refused(outcome), conflict(&said));
    }
}

#[test]
fn what_is_being_worked_on_gives_way_to_a_stop_alone() {
    let status = json!({
        "stateChangeRequests": [{ "action": "Stop", "uid": "one" }],
        "startFailure": { "consecutiveFailCount": 2 },
    });
    let busy = vm("Manual", status);
    let runs = vmi("Running");
    let said = "Internal error occurred: unable to complete request: stop/start already underway";
    assert_eq!(refused(restart((&busy, Some(&runs)), &none())), (500, said.to_owned()));
    let plan = stop((&busy, Some(&runs)), &none()).unwrap();
    assert_eq!(plan.status.unwrap()["status"]["startFailure"], Value::Null, "it may begin anew");
}

#[test]
fn what_runs_and_is_not_paused_may_move() {
    let machine = vm("Always", Value::Null);
    let runs = vmi("Running");
    let asked = options(json!({ "addedNodeSelector": { "rack": "b" } }));
    let made = migrate((&machine, Some(&runs)), &asked).unwrap();
    assert_eq!(made["metadata"]["generateName"], "kubevirt-migrate-vm-");
    assert_eq!(made["spec"], json!({ "vmiName": "till", "addedNodeSelector": { "rack": "b" } }));
    let waits = vmi("Scheduled");
    let outcome = migrate((&machine, Some(&waits)), &none());
    assert_eq!(refused(outcome), conflict("VM is not running"));
    assert_eq!(refused(migrate((&machine, None), &none())).0, 404);
    let mut paused = vmi("Running");
    let condition = json!({ "type": "Paused", "status": "True" });
    let status = paused.status.as_mut().unwrap();
    status.conditions.push(serde_json::from_value(condition).unwrap());
    assert_eq!(refused(migrate((&machine, Some(&paused)), &none())), conflict("VM is paused"));
}

#[test]
fn a_body_may_be_empty_and_must_else_be_one() {
    assert!(!Options::read(b"").unwrap().is_dry_run());
    assert!(!Options::read(b"null").unwrap().is_dry_run());
    assert!(Options::read(br#"{"dryRun":["All"],"kind":"StopOptions"}"#).unwrap().is_dry_run());
    for junk in [&b"{"[..], b"[]1", br#"{"gracePeriod":"soon"}"#] {
        assert_eq!(Options::read(junk).unwrap_err().code, 400);
    }
}
