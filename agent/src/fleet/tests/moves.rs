//! Guests that move between two nodes; the test is the controller.

use prometheus::Registry;

use super::*;
use crate::hypervisor::DomainState;
use crate::netns;
use crate::ports::Wires;
use crate::tap::tests::Switch;

/// Has a VM move, as the controller does once it is its turn.
fn send(world: &World, name: &str, uid: &str, from: &str, to: &str) {
    world.api.change(name, |vmi| {
        vmi["metadata"]["labels"]["kubevirt.io/migrationTargetNodeName"] = json!(to);
        vmi["status"]["migrationState"] =
            json!({ "migrationUid": uid, "sourceNode": from, "targetNode": to });
    });
}

fn state(world: &World, name: &str) -> crds::kubevirt::MigrationState {
    *world.api.vmi(name).unwrap().status.unwrap().migration_state.unwrap()
}

fn node(world: &World, name: &str) -> String {
    let vmi = world.api.vmi(name).unwrap();
    let label = vmi.metadata.labels.unwrap()["kubevirt.io/nodeName"].clone();
    assert_eq!(vmi.status.unwrap().node_name.as_ref(), Some(&label));
    label
}

async fn until_over(world: &World, name: &str, uid: &str) {
    let is_over = || {
        let state = state(world, name);
        state.migration_uid.as_deref() == Some(uid) && state.is_over()
    };
    until("the move is over", async || is_over()).await;
    let vmi = world.api.vmi(name).unwrap();
    assert!(!vmi.metadata.labels.unwrap().contains_key("kubevirt.io/migrationTargetNodeName"));
    assert_eq!(vmi.status.unwrap().phase, Some(InstancePhase::Running));
}

/// Two nodes between which a guest is being sent, and held up.
async fn on_its_way() -> (World, World) {
    let (n1, n2) = World::pair("web").await;
    n1.fake.hold_up(true);
    send(&n1, "web", "m1", "n1", "n2");
    until("it is being sent", async || n1.calls(Verb::Migrate) == 1).await;
    (n1, n2)
}

async fn is_only_at(here: &World, other: &World) {
    other.until_nothing_is_left().await;
    let domains = here.domains().await;
    assert_eq!(domains.len(), 1);
    assert_eq!(domains[0].state, DomainState::Running);
    assert_eq!(here.bindings.all().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_guest_moves_there_and_back_and_leaves_nothing_behind() {
    let (n1, n2) = World::pair("web").await;
    send(&n1, "web", "m1", "n1", "n2");
    until_over(&n1, "web", "m1").await;
    assert!(state(&n1, "web").completed);
    assert_eq!(node(&n1, "web"), "n2");
    is_only_at(&n2, &n1).await;

    send(&n1, "web", "m2", "n2", "n1");
    until_over(&n1, "web", "m2").await;
    assert_eq!(node(&n1, "web"), "n1");
    is_only_at(&n1, &n2).await;
    assert_eq!(n1.calls(Verb::Start), 1, "it was started once");
    assert_eq!(n2.calls(Verb::Start), 0);

    n1.api.delete("web");
    until("the object is gone", async || n1.phase("web").is_none()).await;
    n1.until_nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_move_that_libvirt_refuses_leaves_the_guest_where_it_is_and_may_be_tried_again() {
    let (n1, n2) = World::pair("web").await;
    n1.fake.fail_next(Verb::Migrate, HypervisorError::Refused("no route to host".into()));
    send(&n1, "web", "m1", "n1", "n2");
    until_over(&n1, "web", "m1").await;
    let failed = state(&n1, "web");
    assert!(failed.failed && !failed.completed);
    assert!(failed.failure_reason.unwrap().contains("no route to host"));
    assert_eq!(node(&n1, "web"), "n1");
    is_only_at(&n1, &n2).await;

    send(&n1, "web", "m2", "n1", "n2");
    until_over(&n1, "web", "m2").await;
    assert_eq!(node(&n1, "web"), "n2");
    is_only_at(&n2, &n1).await;
}

#[tokio::test(start_paused = true)]
async fn a_move_that_is_called_off_while_the_guest_is_sent_ends_there() {
    let (n1, n2) = on_its_way().await;
    n1.api.change("web", |vmi| vmi["status"]["migrationState"]["abortRequested"] = json!(true));
    until_over(&n1, "web", "m1").await;
    let failed = state(&n1, "web");
    assert_eq!(failed.failure_reason.as_deref(), Some("it was called off"));
    assert_eq!(failed.abort_status.as_deref(), Some("Succeeded"));
    assert_eq!(node(&n1, "web"), "n1");
    is_only_at(&n1, &n2).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_is_not_sent_again_by_the_next_agent() {
    let (n1, n2) = on_its_way().await;
    n1.kill_agent().await;
    n1.start_agent();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!state(&n1, "web").is_over(), "libvirt goes on by itself");
    n1.fake.hold_up(false);
    until_over(&n1, "web", "m1").await;
    assert!(state(&n1, "web").failed);
    assert_eq!(n1.calls(Verb::Migrate), 1);
    is_only_at(&n1, &n2).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_arrives_while_no_agent_looks_is_found_by_the_next() {
    let (n1, n2) = on_its_way().await;
    n2.kill_agent().await;
    n1.fake.hold_up(false);
    until("it has left", async || n1.domains().await.is_empty()).await;
    n1.kill_agent().await;
    n1.start_agent();
    // Longer than it takes to call a guest crashed, shorter than to call it lost.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(n1.phase("web"), Some(InstancePhase::Running), "the target has not been heard");
    n2.start_agent();
    until_over(&n1, "web", "m1").await;
    assert!(state(&n1, "web").completed);
    is_only_at(&n2, &n1).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_whose_target_says_nothing_is_handed_over_by_its_source() {
    let (n1, n2) = on_its_way().await;
    n2.kill_agent().await;
    n1.fake.hold_up(false);
    until_over(&n1, "web", "m1").await;
    assert!(state(&n1, "web").completed);
    assert_eq!(node(&n1, "web"), "n2");
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(n1.phase("web"), Some(InstancePhase::Running), "it is not made anew elsewhere");
    n2.start_agent();
    is_only_at(&n2, &n1).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_not_needed_any_more_keeps_nothing() {
    let (n1, n2) = on_its_way().await;
    n1.fake.power_off("default_web");
    n1.until_phase("web", InstancePhase::Succeeded).await;
    n2.until_nothing_is_left().await;
    assert!(n1.domains().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_target_that_was_away_when_its_part_was_over_keeps_nothing_either() {
    let (n1, n2) = on_its_way().await;
    n2.kill_agent().await;
    n1.api.change("web", |vmi| vmi["status"]["migrationState"]["abortRequested"] = json!(true));
    until_over(&n1, "web", "m1").await;
    n2.start_agent();
    is_only_at(&n1, &n2).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_runs_here_runs_on_if_somebody_writes_another_node_on_it() {
    let (n1, n2) = World::pair("web").await;
    for (uid, from, to) in [("m1", "n1", "n2"), ("m2", "n2", "n1")] {
        send(&n1, "web", uid, from, to);
        until_over(&n1, "web", uid).await;
    }
    is_only_at(&n1, &n2).await;
    for other in ["n3", "n2"] {
        n1.api
            .change("web", |vmi| vmi["metadata"]["labels"]["kubevirt.io/nodeName"] = json!(other));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(n1.domains().await[0].state, DomainState::Running, "{other}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_from_before_a_move_failed_does_not_say_that_nothing_has_come() {
    let (n1, n2) = on_its_way().await;
    until("the target is ready", async || state(&n1, "web").target_node_address.is_some()).await;
    // The last list that the target has is empty, and no newer one to be had.
    for _ in 0..3 {
        n2.fake.fail_next(Verb::List, HypervisorError::Disconnected("restarting".into()));
    }
    let libvirt = crate::hypervisor::Hypervisor::Fake(n2.fake.clone());
    libvirt.define(&n1.fake.xml("default_web").unwrap()).await.unwrap();
    libvirt.start("default_web").await.unwrap();
    n1.api.change("web", |vmi| {
        let labels = vmi["metadata"]["labels"].as_object_mut().unwrap();
        labels.remove("kubevirt.io/migrationTargetNodeName");
        vmi["status"]["migrationState"]["failed"] = json!(true);
        vmi["status"]["migrationState"]["endTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    until("it is ended, not only forgotten", async || n2.calls(Verb::Destroy) == 1).await;
    n2.until_nothing_is_left().await;
}

/// The row of the tap has no `ovn-installed` as long as ovn-controller has not put the
/// port in place, and what the guest sends would be dropped.
#[test]
fn a_target_is_not_ready_before_ovn_has_its_port_in_force() {
    netns::apart(|| async {
        let switch = Switch::start().await;
        let dhcp = dhcp::Server::start(&Registry::new()).unwrap();
        let wires = Wires { dhcp, taps: switch.taps.clone() };
        let (n1, n2) = World::pair_with("web", Some(wires)).await;
        send(&n1, "web", "m1", "n1", "n2");
        let tap = net::names::tap("web.default");
        let plugged_in =
            |replica: &ovn::ovsdb::Replica| replica.by_name("Interface", &tap).is_some();
        switch.until("its tap is plugged in", plugged_in).await;
        let says = |installed: &str| {
            let column = format!("external_ids:ovn-installed={installed}");
            switch.vsctl(&["set", "Interface", &tap, &column]);
        };
        let is_ready = async || state(&n1, "web").target_node_address.is_some();
        for early in [None, Some("false")] {
            early.into_iter().for_each(says);
            let ready = until("it is ready", is_ready);
            let ready = tokio::time::timeout(Duration::from_millis(300), ready).await;
            assert!(ready.is_err(), "it is ready while ovn-installed is {early:?}");
        }
        assert_eq!(n1.calls(Verb::Migrate), 0, "nothing is sent before");
        says("true");
        until_over(&n1, "web", "m1").await;
        assert!(state(&n1, "web").completed);
        is_only_at(&n2, &n1).await;
    });
}

/// Its guests run on behind a broken cable, or do again since somebody started it: whose they
/// are by now the API says, and before it has said so nothing of them is joined to anything.
#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_ends_what_was_started_elsewhere_and_does_nothing_else_for_it() {
    let (n1, n2) = World::pair("web").await;
    n1.kill_agent().await;
    // It was said to be off: the instance has failed, and the VM has another one.
    n1.api.vanish("web");
    let mut anew = vmi("web");
    anew["metadata"]["labels"]["kubevirt.io/nodeName"] = json!("n2");
    anew["status"]["nodeName"] = json!("n2");
    n1.api.create(anew);
    n2.until_phase("web", InstancePhase::Running).await;
    assert_eq!(n1.domains().await[0].state, DomainState::Running, "it is there twice");
    let before = n1.fake.calls().len();
    n1.start_agent();
    is_only_at(&n2, &n1).await;
    let since: Vec<Verb> = n1.fake.calls()[before..].iter().map(|(verb, _)| *verb).collect();
    assert_eq!(since, [Verb::Destroy, Verb::Undefine]);
    assert_eq!(node(&n2, "web"), "n2");
}
