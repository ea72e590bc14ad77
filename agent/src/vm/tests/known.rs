//! What a driver learns from its VM's object.

use crds::kubevirt::VirtualMachineInstance;
use serde_json::{Value, json};

use super::*;

const SEEN: Option<Option<DomainState>> = Some(Some(DomainState::Running));

/// That moves from n1 to n2, as far as this says.
fn moving(state: Value) -> VirtualMachineInstance {
    let mut vmi = json!({
        "metadata": { "name": "web", "namespace": "default", "uid": "u1",
            "labels": { "kubevirt.io/nodeName": "n1" } },
        "spec": { "domain": { "devices": {} } },
        "status": { "phase": "Running", "nodeName": "n1", "migrationState":
            { "migrationUid": "m1", "sourceNode": "n1", "targetNode": "n2" } },
    });
    let moves = vmi["status"]["migrationState"].as_object_mut().unwrap();
    moves.extend(state.as_object().unwrap().clone());
    serde_json::from_value(vmi).unwrap()
}

#[test]
fn what_was_listed_before_says_nothing_of_what_is_asked_for_only_now() {
    let mut known = Known::of(Some(&moving(json!({}))), "n2");
    let failed = moving(json!({ "failed": true }));
    assert_eq!(known.learn(Some(&failed), "n2", None, false, Some(None)), [Event::Wish]);
    assert_eq!(known.learn(Some(&failed), "n2", None, false, Some(None)), [Event::Seen(None)]);
}

#[test]
fn a_source_that_has_begun_knows_it_before_the_object_says_so() {
    let ready = moving(json!({ "targetNodeAddress": "192.0.2.2" }));
    let mut known = Known::of(Some(&ready), "n1");
    for (begun, wish) in [
        (None, Wish::Run { recorded: true }),
        (Some("m0"), Wish::Run { recorded: true }),
        (Some("m1"), Wish::Leave),
    ] {
        let news = known.learn(Some(&ready), "n1", begun, false, SEEN);
        assert_eq!((known.wish, &news[..]), (wish, &[Event::Seen(SEEN.unwrap())][..]), "{begun:?}");
    }
    let over = moving(json!({ "failed": true }));
    known.learn(Some(&over), "n1", Some("m1"), false, SEEN);
    assert_eq!(known.wish, Wish::Run { recorded: true });
}

#[test]
fn a_migration_that_brings_a_guest_back_is_another_one() {
    let there = moving(json!({ "startTimestamp": "2026-01-01T00:00:00Z" }));
    let mut known = Known::of(Some(&there), "n1");
    let mut back = moving(json!({ "migrationUid": "m2", "sourceNode": "n2", "targetNode": "n1" }));
    back.metadata.labels.get_or_insert_default().insert("kubevirt.io/nodeName".into(), "n2".into());
    assert_eq!(known.learn(Some(&back), "n1", Some("m1"), false, SEEN), [Event::Anew]);
    assert_eq!(known.wish, Wish::Receive { ready: false });
    assert_eq!(known.learn(Some(&back), "n1", None, false, None), []);
    // An agent that starts has had no part in an earlier one.
    let mut fresh = Known::of(Some(&back), "n1");
    assert_eq!(fresh.learn(Some(&back), "n1", None, false, Some(None)), [Event::Seen(None)]);
}

#[test]
fn a_target_is_asked_once_its_source_does_not_know() {
    let undecided = moving(json!({
        "targetNodeAddress": "192.0.2.2", "startTimestamp": "2026-01-01T00:00:00Z",
        "sourceState": { "node": "n1", "undecided": true },
    }));
    assert_eq!(wish_of(Some(&undecided), "n2"), Wish::Tell);
    assert_eq!(wish_of(Some(&undecided), "n1"), Wish::Leave);
}

#[test]
fn what_earlier_moves_left_behind_has_parted_and_what_was_only_written_otherwise_has_not() {
    let at = |state: Value, node: &str| {
        let mut vmi = moving(state);
        vmi.metadata
            .labels
            .get_or_insert_default()
            .insert("kubevirt.io/nodeName".into(), node.into());
        vmi
    };
    let moved = at(json!({ "completed": true }), "n2");
    assert!(has_parted(&moved, "n1"));
    assert!(!has_parted(&moved, "n2"));
    // By a move before the last one, which a node that was cut off has not seen.
    assert!(has_parted(&moved, "n0"));
    let failed = at(json!({ "failed": true }), "n1");
    assert!(has_parted(&failed, "n2"), "it was to come here");
    assert!(!has_parted(&failed, "n0"));
    for node in ["n1", "n0"] {
        assert!(!has_parted(&at(json!({ "completed": true }), "n3"), node), "somebody wrote n3");
    }
}
