//! A VM with what it refers to in place of the references: what `expand-spec` answers. What it
//! refers to is read when it is asked for.

use crds::instancetype::{
    VirtualMachineClusterInstancetype, VirtualMachineClusterPreference, VirtualMachineInstancetype,
    VirtualMachinePreference,
};
use crds::kubevirt::VirtualMachine;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::Api;
use kube::{Client, ResourceExt as _};
use serde_json::Value;

use super::refusal::Refusal;
use crate::instancetypes::{Kinds, News, Of, refers};
use crate::shelf::Seen;
use crate::storage::{self, Storage};

/// # Errors
/// Why it cannot be, in the words of its conditions.
pub(super) async fn expanded(client: &Client, vm: &VirtualMachine) -> Result<Value, Refusal> {
    if !refers(vm) {
        return serde_json::to_value(vm).map_err(Refusal::internal);
    }
    let (mut kinds, mut storage) = (Kinds::default(), Storage::default());
    for of in [Of::Instancetype, Of::Preference] {
        let news = read(client, vm, of, &mut storage).await.map_err(Refusal::internal)?;
        news.into_iter().for_each(|news| drop(kinds.apply(news)));
    }
    let expanded = kinds.expanded(vm, &storage);
    let expanded = expanded.map_err(|trouble| Refusal::bad_request(trouble.message))?;
    serde_json::to_value(expanded).map_err(Refusal::internal)
}

/// What the VM's instancetype or preference is, as far as it is there.
async fn read(
    client: &Client,
    vm: &VirtualMachine,
    of: Of,
    storage: &mut Storage,
) -> Result<Option<News>, kube::Error> {
    let Some(matcher) = of.matcher(vm) else { return Ok(None) };
    let namespace = vm.namespace().unwrap_or_default();
    if let Some(name) = of.pinned(vm) {
        let api: Api<ControllerRevision> = Api::namespaced(client.clone(), &namespace);
        let found = api.get_opt(&name).await?;
        return Ok(found.map(|one| News::Revision(Seen::Now(Box::new(one)))));
    }
    let mut matcher = matcher.clone();
    if matcher.infer_from_volume.as_deref().is_some_and(|volume| !volume.is_empty()) {
        // What a DataVolume says is known once it is kept.
        let volumes = &vm.spec.template.spec.volumes;
        let named =
            |one: &&crds::kubevirt::Volume| Some(&one.name) == matcher.infer_from_volume.as_ref();
        let claim = volumes.iter().find(named).and_then(|volume| volume.claim());
        if let Some((claim, _)) = claim {
            let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
            let found = api.get_opt(claim).await?;
            let news = found.map(|one| storage::News::Claim(Seen::Now(Box::new(one))));
            news.into_iter().for_each(|news| drop(storage.apply(news)));
        }
        let Some(inferred) = of.inferred(vm, storage) else { return Ok(None) };
        matcher = inferred;
    }
    let name = matcher.name.clone().unwrap_or_default();
    let is_cluster = of.is_cluster(&matcher).unwrap_or(true);
    // An empty name would ask for all of them.
    if name.is_empty() {
        return Ok(None);
    }
    Ok(match (of, is_cluster) {
        (Of::Instancetype, true) => {
            let api: Api<VirtualMachineClusterInstancetype> = Api::all(client.clone());
            api.get_opt(&name).await?.map(|one| News::ClusterInstancetype(now(one)))
        }
        (Of::Instancetype, false) => {
            let api: Api<VirtualMachineInstancetype> = Api::namespaced(client.clone(), &namespace);
            api.get_opt(&name).await?.map(|one| News::Instancetype(now(one)))
        }
        (Of::Preference, true) => {
            let api: Api<VirtualMachineClusterPreference> = Api::all(client.clone());
            api.get_opt(&name).await?.map(|one| News::ClusterPreference(now(one)))
        }
        (Of::Preference, false) => {
            let api: Api<VirtualMachinePreference> = Api::namespaced(client.clone(), &namespace);
            api.get_opt(&name).await?.map(|one| News::Preference(now(one)))
        }
    })
}

fn now<K>(object: K) -> Seen<K> {
    Seen::Now(Box::new(object))
}
