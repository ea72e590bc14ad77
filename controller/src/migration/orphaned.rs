//! A move one of whose nodes is gone for good while the guest was being sent, so that its
//! agent will not say what became of it.
//!
//! | gone | the other | what is said |
//! |---|---|---|
//! | source | target | nobody knows at the source: the target says that the guest has come, or that it has not, and then it is lost with its node |
//! | target | source, whose libvirt knows | nothing: the source says it |
//! | target | source, whose libvirt does not know | the guest did not arrive: it goes on at the source |
//! | target | the same, in post-copy | the guest is lost: it ran there |
//! | target | the same, and disks that both nodes write | the guest is lost: it may have written there what its memory here knows nothing of |
//! | both | | nothing: the instance ends with its node ([`crate::lost`]) |

use crds::kubevirt::{MigrationState, VirtualMachineInstance};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::lost;

/// The instance with what a node that is lost cannot say of its move; `None` if there is
/// nothing to say. `state` is that of a guest that is being sent.
pub(super) fn told(
    instance: &VirtualMachineInstance,
    state: &MigrationState,
    is_lost: &dyn Fn(&str) -> bool,
    now: Timestamp,
) -> Option<VirtualMachineInstance> {
    if instance.phase().is_final() {
        return None;
    }
    let source = state.source_node.as_deref()?;
    let target = state.target_node.as_deref()?;
    let mut told = instance.clone();
    match (is_lost(source), is_lost(target)) {
        (true, false) if !state.is_undecided() => {
            let state = told.status.as_mut()?.migration_state.as_mut()?;
            let said = state.source_state.get_or_insert_default();
            (said.node, said.undecided) = (Some(source.to_owned()), true);
        }
        (false, true) if state.is_undecided() => {
            told.fail_migration(
                &format!("{target} was lost while the guest came to it"),
                &Time(now),
            );
            if has_shared_disk(instance) || state.mode.as_deref() == Some("PostCopy") {
                told = lost::ended_with(told, target, now);
            }
        }
        _ => return None,
    }
    Some(told)
}

/// Whether a disk of the guest is written wherever it runs.
fn has_shared_disk(instance: &VirtualMachineInstance) -> bool {
    let volumes = instance.status.iter().flat_map(|status| &status.volume_status);
    let mut claims = volumes.filter_map(|one| one.persistent_volume_claim_info.as_ref());
    claims.any(|claim| claim.is_shared())
        || instance.spec.volumes.iter().any(|volume| {
            volume.host_disk.as_ref().is_some_and(|disk| disk.shared.unwrap_or(false))
        })
}
