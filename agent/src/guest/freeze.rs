//! File systems that stand still, and when they go on by themselves.
//!
//! Until when they may stand still is written on the instance before they do
//! (`berth.io/unfreeze-at`), so a guest that was frozen goes on in time whoever has died
//! since, and wherever it runs by then.

use std::sync::Arc;
use std::time::Duration;

use crds::annotations::UNFREEZE_AT;
use crds::kubevirt::VirtualMachineInstance;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;

use super::words;
use crate::host::Host;
use crate::hypervisor::{GuestError, Hypervisor, Lane};
use crate::vm::publish;

/// How long a guest may take to write out what it has in memory.
const PATIENCE: Duration = Duration::from_secs(15);
/// Delay before it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Has all file systems of a guest stand still, after it has written out what they lack.
///
/// # Errors
/// See [`GuestError`]: of one that is silent nobody knows whether they do.
pub async fn freeze(hypervisor: &Hypervisor, domain: &str) -> Result<(), GuestError> {
    hypervisor.ask_guest(domain, words::FREEZE, PATIENCE, Lane::Now).await.map(drop)
}

/// Lets them go on.
///
/// # Errors
/// See [`GuestError`]. May be repeated.
pub async fn thaw(hypervisor: &Hypervisor, domain: &str) -> Result<(), GuestError> {
    hypervisor.ask_guest(domain, words::THAW, PATIENCE, Lane::Thaw).await.map(drop)
}

/// When the file systems of a guest are to go on, if that is said.
#[must_use]
pub fn deadline(vmi: &VirtualMachineInstance) -> Option<Timestamp> {
    vmi.annotations().get(UNFREEZE_AT)?.parse().ok()
}

/// Lets a guest's file systems go on when their time is over, as often as one is said.
pub(super) async fn keep_time(
    host: Host,
    domain: String,
    mut object: watch::Receiver<Arc<VirtualMachineInstance>>,
) {
    loop {
        let vmi = Arc::clone(&object.borrow_and_update());
        let due = async {
            match deadline(&vmi) {
                Some(at) => tokio::time::sleep(left(at, Timestamp::now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = object.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = due => {}
        }
        match thaw(&host.hypervisor, &domain).await {
            // One that refuses has nothing that stands still.
            Ok(()) | Err(GuestError::Refused(_)) => {
                tracing::info!(domain, "A guest's file systems go on: their time is over");
                forget(&host, &vmi).await;
            }
            Err(error) => tracing::warn!(domain, %error, "A guest's file systems do not go on yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// How long it is until then.
fn left(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

/// Takes the time off the object, unless that says another one by now.
async fn forget(host: &Host, vmi: &VirtualMachineInstance) {
    let api: Api<VirtualMachineInstance> =
        Api::namespaced(host.client.clone(), &vmi.namespace().unwrap_or_default());
    let name = vmi.name_any();
    let now = publish::read(&api, &name).await;
    let Ok(Some(now)) = now else { return };
    if now.uid() != vmi.uid() || deadline(&now) != deadline(vmi) {
        return;
    }
    let patch = json!({ "metadata": {
        "uid": now.uid(), "resourceVersion": now.resource_version(),
        "annotations": { UNFREEZE_AT: null },
    } });
    if publish::write(&api, &name, &patch).await.is_err() {
        tracing::debug!(name, "The time of a guest's file systems is taken off later");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_over_is_now_and_one_that_cannot_be_read_is_none() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        assert_eq!(left(at(100), at(90)), Duration::from_secs(10));
        assert_eq!(left(at(90), at(100)), Duration::ZERO);
        let with = |text: &str| {
            let vmi = json!({
                "metadata": { "name": "till", "annotations": { UNFREEZE_AT: text } },
                "spec": { "domain": { "devices": {} } },
            });
            deadline(&serde_json::from_value(vmi).unwrap())
        };
        assert_eq!(with("1970-01-01T00:01:40Z"), Some(at(100)));
        assert_eq!(with("soon"), None);
    }
}
