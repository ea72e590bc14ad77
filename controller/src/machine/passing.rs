//! States on the way, which are mostly over before anybody has read them: they are
//! written once they last, which saves a write for each start and two for each stop.

use crds::kubevirt::{
    InstancePhase, PrintableStatus, RunStrategy, VirtualMachine, VirtualMachineInstance,
    VirtualMachineStatus,
};
use jiff::{SignedDuration, Timestamp};

/// A start that takes no longer than this shows only its end.
const STARTING_UNSEEN: SignedDuration = SignedDuration::from_secs(3);
/// The same of a stop, and of an instance that has ended and goes.
const STOPPING_UNSEEN: SignedDuration = SignedDuration::from_secs(2);

/// For how long yet `vm` need not say `status`, if what it says is on the way to
/// something else. What counts without its instance is never held back: that goes at any time.
#[must_use]
pub fn unseen_for(
    vm: &VirtualMachine,
    status: &VirtualMachineStatus,
    instance: Option<&VirtualMachineInstance>,
    now: Timestamp,
) -> Option<SignedDuration> {
    let instance = instance?;
    let (since, unseen) = if let Some(deleted) = &instance.metadata.deletion_timestamp {
        let is_told = vm.status.as_ref().is_some_and(|old| remembers_the_same(old, status));
        let ended = ended_at(instance).filter(|ended| *ended > deleted.0);
        (is_told.then_some(ended.unwrap_or(deleted.0))?, STOPPING_UNSEEN)
    } else if status.printable_status == PrintableStatus::Starting {
        (instance.metadata.creation_timestamp.as_ref()?.0, STARTING_UNSEEN)
    } else {
        return None;
    };
    let left = unseen - now.duration_since(since);
    left.is_positive().then_some(left)
}

/// Whether the two lead to the same once the instance is gone.
fn remembers_the_same(old: &VirtualMachineStatus, new: &VirtualMachineStatus) -> bool {
    // Which strategy it was counts for one that is newly set (`machine::next`).
    let reruns = |one: &VirtualMachineStatus| one.run_strategy == Some(RunStrategy::RerunOnFailure);
    old.start_failure == new.start_failure
        && old.state_change_requests == new.state_change_requests
        && reruns(old) == reruns(new)
}

/// When the guest ended, if it has.
fn ended_at(instance: &VirtualMachineInstance) -> Option<Timestamp> {
    let phase = instance.phase();
    let ended = matches!(phase, InstancePhase::Succeeded | InstancePhase::Failed);
    let transitions = &instance.status.as_ref().filter(|_| ended)?.phase_transition_timestamps;
    let last = transitions.iter().rev().find(|one| one.phase == phase)?;
    Some(last.phase_transition_timestamp.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn vm(status: &Value) -> VirtualMachine {
        serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}}}}},
            "status": status,
        }))
        .unwrap()
    }

    fn going(phase: &str, ended: Option<i64>) -> VirtualMachineInstance {
        let ended = ended.map(
            |ended| json!({"phase": phase, "phaseTransitionTimestamp": at(ended).to_string()}),
        );
        serde_json::from_value(json!({
            "metadata": {"name": "web", "deletionTimestamp": at(10).to_string()},
            "spec": {"domain": {"devices": {}}},
            "status": {"phase": phase, "phaseTransitionTimestamps": Vec::from_iter(ended)},
        }))
        .unwrap()
    }

    fn left(old: &Value, new: &Value, instance: &VirtualMachineInstance, now: i64) -> Option<i64> {
        let new = vm(new).status.unwrap();
        unseen_for(&vm(old), &new, Some(instance), at(now)).map(|left| left.as_secs())
    }

    #[test]
    fn a_stop_is_told_once_it_lasts_and_its_end_once_the_instance_stays() {
        let (old, new) = (json!({"printableStatus": "Running"}), json!({}));
        let stopping = going("Running", None);
        assert_eq!(left(&old, &new, &stopping, 10), Some(2));
        assert_eq!(left(&old, &new, &stopping, 12), None);
        let ended = going("Succeeded", Some(20));
        assert_eq!(left(&old, &new, &ended, 21), Some(1));
        assert_eq!(left(&old, &new, &ended, 22), None);
    }

    #[test]
    fn what_counts_after_the_instance_is_written_while_that_is_there() {
        let old = json!({});
        let ended = going("Failed", Some(20));
        let failure = json!({"startFailure": {"consecutiveFailCount": 1}});
        assert_eq!(left(&old, &failure, &ended, 20), None);
        let start = json!({"stateChangeRequests": [{"action": "Start"}]});
        assert_eq!(left(&old, &start, &ended, 20), None);
        let halted = json!({"runStrategy": "Halted"});
        assert_eq!(left(&old, &halted, &ended, 20), Some(2));
        assert_eq!(left(&json!({"runStrategy": "RerunOnFailure"}), &halted, &ended, 20), None);
    }
}
