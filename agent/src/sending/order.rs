//! What the source's part of a move decides; pure.

use crds::kubevirt::{MigrationState, VirtualMachineInstance};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::hypervisor::{DomainState, PauseReason};
use crate::vm::place_of;

/// Why a move ends that is not wanted any more.
pub(crate) const CALLED_OFF: &str = "it was called off";

/// What an object asks of the node that has its guest.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Asked {
    /// The migration to be begun now.
    pub begin: Option<String>,
    /// What was begun is not wanted any more.
    pub call_off: bool,
}

/// What the object asks for. `begun`: the uid of the migration that was begun last;
/// `able`: the guest runs here and nothing is being done about one.
#[must_use]
pub fn asked(vmi: &VirtualMachineInstance, node: &str, begun: Option<&str>, able: bool) -> Asked {
    let Some(state) = order(vmi, node) else { return Asked::default() };
    let uid = state.migration_uid.as_deref();
    let begin = uid.filter(|_| able && uid != begun);
    // Who deletes the VM wants it to end, and it does not power off while it is sent.
    let is_unwanted = state.abort_requested || vmi.metadata.deletion_timestamp.is_some();
    Asked { begin: begin.map(str::to_owned), call_off: is_unwanted && uid == begin.or(begun) }
}

/// The move that this node is to carry out, if there is one.
#[must_use]
pub fn order<'a>(vmi: &'a VirtualMachineInstance, node: &str) -> Option<&'a MigrationState> {
    let state = vmi.migration()?;
    let is_ready = state.target_node_address.is_some();
    let is_ours = state.source_node.as_deref() == Some(node) && place_of(vmi) == Some(node);
    (is_ready && is_ours && !vmi.phase().is_final()).then_some(state)
}

/// Whether the guest was, or may have been, sent by an earlier agent: it is not sent again.
#[must_use]
pub fn is_resumed(vmi: &VirtualMachineInstance) -> bool {
    vmi.migration().is_some_and(MigrationState::has_started)
}

/// The object with `change` made to it, while this node is to carry out this migration.
#[must_use]
pub fn changed(
    vmi: &VirtualMachineInstance,
    node: &str,
    migration: Option<&str>,
    change: impl FnOnce(&mut VirtualMachineInstance),
) -> Option<VirtualMachineInstance> {
    let state = order(vmi, node)?;
    (state.migration_uid.as_deref() == migration).then(|| {
        let mut changed = vmi.clone();
        change(&mut changed);
        changed
    })
}

/// Says that the guest is being sent, or that it was called off before.
pub fn say_begun(vmi: &mut VirtualMachineInstance, now: &Time) {
    match vmi.status.as_mut().and_then(|status| status.migration_state.as_deref_mut()) {
        Some(state) if !state.abort_requested => state.start_timestamp = Some(now.clone()),
        _ => vmi.fail_migration(CALLED_OFF, now),
    }
}

/// Says how the guest is sent from now on.
pub fn say_mode(vmi: &mut VirtualMachineInstance, mode: &str) {
    let state = vmi.status.as_mut().and_then(|status| status.migration_state.as_deref_mut());
    if let Some(state) = state {
        state.mode = Some(mode.to_owned());
    }
}

/// Asks the target whether the guest has arrived.
pub fn say_undecided(vmi: &mut VirtualMachineInstance, node: &str) {
    let state = vmi.status.as_mut().and_then(|status| status.migration_state.as_deref_mut());
    if let Some(state) = state {
        let source = state.source_state.get_or_insert_default();
        (source.node, source.undecided) = (Some(node.to_owned()), true);
    }
}

/// Where a guest is whose sending has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    Here,
    NotHere,
    /// It stands still here: all was sent, and libvirt has yet to decide. One that was
    /// started again at that moment never does, and leaves it to others.
    Undecided,
}

/// Where it is, by the state of its domain.
#[must_use]
pub const fn place(state: Option<DomainState>) -> Place {
    match state {
        Some(DomainState::Paused(PauseReason::Migration)) => Place::Undecided,
        // Its last part was run at the target: what becomes of it the driver says.
        Some(DomainState::ShutOff(_) | DomainState::Paused(PauseReason::PostCopyFailed)) | None => {
            Place::NotHere
        }
        Some(_) => Place::Here,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::hypervisor::ShutOffReason;

    fn ready() -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "labels": { "kubevirt.io/nodeName": "n1" } },
            "spec": { "domain": { "devices": {} } },
            "status": { "phase": "Running", "nodeName": "n1", "migrationState": {
                "migrationUid": "m1", "sourceNode": "n1", "targetNode": "n2",
                "targetNodeAddress": "192.0.2.2" } },
        }))
        .unwrap()
    }

    fn state(vmi: &mut VirtualMachineInstance) -> &mut MigrationState {
        vmi.status.as_mut().unwrap().migration_state.as_mut().unwrap()
    }

    #[test]
    fn a_guest_is_sent_once_for_each_migration_and_only_to_a_target_that_is_ready() {
        let begin = |vmi: &VirtualMachineInstance, begun, able| asked(vmi, "n1", begun, able).begin;
        assert_eq!(begin(&ready(), None, true).as_deref(), Some("m1"));
        assert_eq!(begin(&ready(), Some("m0"), true).as_deref(), Some("m1"));
        assert_eq!(begin(&ready(), Some("m1"), true), None);
        assert_eq!(begin(&ready(), None, false), None);
        assert_eq!(asked(&ready(), "n2", None, true), Asked::default());
        let mut unready = ready();
        state(&mut unready).target_node_address = None;
        assert_eq!(asked(&unready, "n1", None, true), Asked::default());
    }

    #[test]
    fn what_is_called_off_is_the_migration_that_was_begun() {
        let mut vmi = ready();
        state(&mut vmi).abort_requested = true;
        assert!(asked(&vmi, "n1", Some("m1"), false).call_off);
        assert!(!asked(&vmi, "n1", Some("m0"), false).call_off);
        let now = Time(Timestamp::UNIX_EPOCH);
        let vmi = changed(&vmi, "n1", Some("m1"), |vmi| say_begun(vmi, &now)).unwrap();
        assert!(vmi.migration().is_none(), "it is over before it has begun");
    }

    #[test]
    fn a_guest_that_libvirt_has_not_decided_about_is_the_targets_to_tell_of() {
        let still = Some(DomainState::Paused(PauseReason::Migration));
        assert_eq!(place(still), Place::Undecided);
        assert_eq!(place(Some(DomainState::Running)), Place::Here);
        let broken = DomainState::Paused(PauseReason::PostCopyFailed);
        for left in [None, Some(DomainState::ShutOff(ShutOffReason::Migrated)), Some(broken)] {
            assert_eq!(place(left), Place::NotHere);
        }
        let mut vmi = ready();
        say_undecided(&mut vmi, "n1");
        assert!(state(&mut vmi).is_undecided());
    }
}
