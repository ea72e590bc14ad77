//! Volumes of this node that were deleted: their directories go, then they.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crds::cdi::notes::VOLUME_FINALIZER;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::fault::Fault;
use super::{Bench, job};

/// Between attempts.
const AGAIN: Duration = Duration::from_secs(5);

/// Whether a volume waits for its directory to be removed.
pub(super) fn is_wanted(volume: &PersistentVolume) -> bool {
    let is_held = volume.finalizers().iter().any(|one| one == VOLUME_FINALIZER);
    volume.metadata.deletion_timestamp.is_some() && is_held
}

/// Removes it; tried until it is done.
pub(super) async fn run(bench: Bench, volume: PersistentVolume) {
    let name = volume.name_any();
    loop {
        match remove(&bench, &volume).await {
            Ok(()) => return tracing::info!(volume = name, "A volume is removed"),
            Err(Fault::Over) => return,
            Err(error) => {
                tracing::warn!(volume = name, %error, "A volume cannot be removed yet");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn remove(bench: &Bench, volume: &PersistentVolume) -> Result<(), Fault> {
    let api: Api<PersistentVolume> = Api::all(bench.client.clone());
    let now = api.get_opt(&volume.name_any()).await;
    let now = now.map_err(Fault::passing("the volume cannot be read"))?.ok_or(Fault::Over)?;
    if now.uid() != volume.uid() || !is_wanted(&now) {
        return Err(Fault::Over);
    }
    let volume = &now;
    unclaimed(bench, volume).await?;
    if is_given_up(volume) {
        let path = directory(volume, bench.volumes.as_deref()).map_err(Fault::Passing)?;
        let removed = tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        removed.await.map_err(Fault::passing("its directory was not removed"))??;
    }
    let kept = volume.finalizers().iter().filter(|one| *one != VOLUME_FINALIZER);
    let metadata = json!({
        "uid": volume.uid(),
        "resourceVersion": volume.resource_version(),
        "finalizers": kept.collect::<Vec<_>>(),
    });
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    match api.patch(&volume.name_any(), &PatchParams::default(), &patch).await {
        Ok(_) => Ok(()),
        // It is gone, or changed, and then it is looked at again.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Err(Fault::Over),
        Err(error) => Err(Fault::Passing(error.to_string())),
    }
}

/// That nobody has the volume: a volume that somebody deletes under its claim stays in use,
/// and Kubernetes knows of pods only that use a claim, and lets it go under a VM.
async fn unclaimed(bench: &Bench, volume: &PersistentVolume) -> Result<(), Fault> {
    let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()).unwrap_or_default();
    let (namespace, name) = (claim.namespace.unwrap_or_default(), claim.name.unwrap_or_default());
    if name.is_empty() {
        return Ok(());
    }
    let api: Api<PersistentVolumeClaim> = Api::namespaced(bench.client.clone(), &namespace);
    let held = api.get_opt(&name).await.map_err(Fault::passing("its claim cannot be read"))?;
    if held.is_some_and(|held| claim.uid.is_none() || held.uid() == claim.uid) {
        return Err(Fault::Passing(format!("claim {namespace}/{name} has it: delete that first")));
    }
    match job::user(&bench.client, &namespace, &name).await? {
        Some(vm) => Err(Fault::Passing(format!("VM {vm} runs on its claim: stop it"))),
        None => Ok(()),
    }
}

/// Whether what is on the volume goes with it.
fn is_given_up(volume: &PersistentVolume) -> bool {
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy == Some("Delete")
}

/// The directory of a volume, which is where an agent of this node makes it and nowhere else.
fn directory(volume: &PersistentVolume, below: Option<&Path>) -> Result<PathBuf, String> {
    let said = volume.spec.as_ref().and_then(|spec| spec.local.as_ref());
    let said = said.map(|local| PathBuf::from(&local.path)).unwrap_or_default();
    let below = below.ok_or("this agent has no --local-volume-dir")?;
    let name = volume.name_any();
    if said != below.join(&name) || name.contains('/') || name.starts_with('.') {
        let shown = said.display();
        return Err(format!("{shown} is not below --local-volume-dir {}", below.display()));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_a_volume_goes_only_where_that_is_said() {
        let volume = |policy: Option<&str>| -> PersistentVolume {
            serde_json::from_value(json!({"metadata": {"name": "pvc-1"},
                "spec": {"persistentVolumeReclaimPolicy": policy}}))
            .unwrap()
        };
        assert!(is_given_up(&volume(Some("Delete"))));
        assert!(!is_given_up(&volume(Some("Retain"))) && !is_given_up(&volume(None)));
    }

    #[test]
    fn nothing_is_removed_but_what_an_agent_made() {
        let volume = |path: &str| -> PersistentVolume {
            serde_json::from_value(json!({"metadata": {"name": "pvc-1"},
                "spec": {"local": {"path": path}}}))
            .unwrap()
        };
        let below = Path::new("/v");
        assert_eq!(directory(&volume("/v/pvc-1"), Some(below)), Ok("/v/pvc-1".into()));
        for other in ["/v", "/etc", "/v/pvc-2", "/v/pvc-1/..", ""] {
            let told = directory(&volume(other), Some(below)).unwrap_err();
            assert!(told.contains("is not below"), "{told}");
        }
        let told = directory(&volume("/v/pvc-1"), None).unwrap_err();
        assert!(told.contains("no --local-volume-dir"), "{told}");
    }
}
