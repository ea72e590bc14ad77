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

/// The machine that is sent along, of this namespace.
///
/// # Errors
/// In upstream's words, when it is none, or of another namespace.
pub(super) fn read(body: &[u8], namespace: &str) -> Result<VirtualMachine, Refusal> {
    let unread = |why: &dyn std::fmt::Display| {
        Refusal::bad_request(format!("Can not unmarshal Request body to struct, error: {why}"))
    };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Refusal::bad_request("empty request body"));
    }
    let object: Value = serde_json::from_slice(body).map_err(|error| unread(&error))?;
    let kind = (object["apiVersion"].as_str(), object["kind"].as_str());
    let known = [Some("kubevirt.io/v1"), Some("kubevirt.io/v1alpha3"), None];
    if !known.contains(&kind.0) || !matches!(kind.1, Some("VirtualMachine") | None) {
        return Err(Refusal::bad_request("Object is not a valid VirtualMachine"));
    }
    let vm: Result<VirtualMachine, _> = serde_path_to_error::deserialize(object);
    let mut vm = vm.map_err(|error| {
        Refusal::bad_request(format!("Object is not a valid VirtualMachine: {error}"))
    })?;
    if vm.metadata.namespace.as_deref().is_some_and(|said| !said.is_empty() && said != namespace) {
        let why = format!("VM namespace must be empty or {namespace}");
        return Err(Refusal::bad_request(why));
    }
    vm.metadata.namespace = Some(namespace.to_owned());
    Ok(vm)
}

/// # Errors
/// Why it cannot be, in the words of its conditions.
pub(super) async fn expanded(client: &Client, vm: &VirtualMachine) -> Result<Value, Refusal> {
    if !refers(vm) {
        return serde_json::to_value(vm).map_err(Refusal::internal);
    }
    let (mut kinds, mut storage) = (Kinds::default(), Storage::default());
    for of in [Of::Instancetype, Of::Preference] {
        let news = referred(client, vm, of, &mut storage).await.map_err(Refusal::internal)?;
        news.into_iter().for_each(|news| drop(kinds.apply(news)));
    }
    let expanded = kinds.expanded(vm, &storage);
    let expanded = expanded.map_err(|trouble| Refusal::bad_request(trouble.message))?;
    serde_json::to_value(expanded).map_err(Refusal::internal)
}

/// What the VM's instancetype or preference is, as far as it is there.
async fn referred(
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_sent_along_is_a_machine_of_that_namespace() {
        let vm = |namespace: Value| {
            json!({
                "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
                "metadata": { "name": "till", "namespace": namespace },
                "spec": { "template": { "spec": { "domain": { "devices": {} } } } },
            })
        };
        let read = |object: &Value| read(object.to_string().as_bytes(), "shop");
        for namespace in [Value::Null, json!(""), json!("shop")] {
            let read = read(&vm(namespace.clone())).unwrap();
            assert_eq!(read.metadata.namespace.as_deref(), Some("shop"), "{namespace}");
        }
        let refused = |object: &Value| read(object).unwrap_err().message;
        assert_eq!(refused(&vm(json!("other"))), "VM namespace must be empty or shop");
        for junk in [json!([]), json!({ "kind": "Pod" }), json!({ "metadata": {} })] {
            assert!(refused(&junk).contains("not a valid VirtualMachine"), "{junk}");
        }
        let mut wrong = vm(Value::Null);
        wrong["spec"]["template"]["spec"]["domain"]["cpu"] = json!({ "cores": "many" });
        assert!(refused(&wrong).contains("cores"), "{}", refused(&wrong));
        assert_eq!(super::read(b" ", "shop").unwrap_err().message, "empty request body");
        assert!(super::read(b"{", "shop").unwrap_err().message.starts_with("Can not unmarshal"));
    }
}
