//! Which instancetype or preference a volume says that its VM should have: by labels of its claim
//! or DataVolume, or of the claim that this is a copy of. Pure.

use crds::kubevirt::{InstancetypeMatcher, VirtualMachine};
use kube::ResourceExt as _;
use serde_json::Value;

use super::Of;
use crate::ledger::VmKey;
use crate::storage::Storage;

/// Labels that name it, and its kind.
const fn labels(of: Of) -> (&'static str, &'static str) {
    match of {
        Of::Instancetype => (
            "instancetype.kubevirt.io/default-instancetype",
            "instancetype.kubevirt.io/default-instancetype-kind",
        ),
        Of::Preference => (
            "instancetype.kubevirt.io/default-preference",
            "instancetype.kubevirt.io/default-preference-kind",
        ),
    }
}

/// Why nothing follows from a volume.
enum Failure {
    /// The policy `Ignore` has the VM do without.
    MayBeIgnored(String),
    Stays(String),
}

/// What the VM refers to, by name: as it says, or as its volume does. None where that fails and
/// the VM says to ignore it.
///
/// # Errors
/// Why nothing follows from the volume, in upstream's words.
pub(super) fn matcher(
    vm: &VirtualMachine,
    of: Of,
    storage: &Storage,
) -> Result<Option<InstancetypeMatcher>, String> {
    let Some(written) = of.matcher(vm) else { return Ok(None) };
    let volume = written.infer_from_volume.as_deref().filter(|volume| !volume.is_empty());
    let Some(volume) = volume else { return Ok(Some(written.clone())) };
    let ignores = written.infer_from_volume_failure_policy.as_deref() == Some("Ignore");
    match of_volume(vm, volume, of, storage) {
        Ok(found) => Ok(Some(found)),
        Err(Failure::MayBeIgnored(_)) if ignores => Ok(None),
        Err(Failure::MayBeIgnored(why) | Failure::Stays(why)) => Err(why),
    }
}

fn of_volume(
    vm: &VirtualMachine,
    name: &str,
    of: Of,
    storage: &Storage,
) -> Result<InstancetypeMatcher, Failure> {
    let mut volumes = vm.spec.template.spec.volumes.iter();
    let volume = volumes.find(|volume| volume.name == name);
    let missing = || Failure::Stays(format!("unable to find volume {name} to infer defaults"));
    let volume = volume.ok_or_else(missing)?;
    let namespace = vm.namespace().unwrap_or_default();
    let key = |name: &str| VmKey { namespace: namespace.clone(), name: name.to_owned() };
    match volume.claim() {
        Some((claim, false)) => of_claim(&key(claim), of, storage),
        Some((data_volume, true)) => {
            let Some((given, spec)) = storage.data_volume(&key(data_volume)) else {
                return of_claim(&key(data_volume), of, storage);
            };
            of_labels(given, of).or_else(|_| of_source(&spec, &namespace, of, storage))
        }
        None => Err(Failure::MayBeIgnored(format!(
            "unable to infer defaults from volume {name} as type is not supported"
        ))),
    }
}

/// By the claim that a DataVolume is a copy of.
fn of_source(
    spec: &Value,
    namespace: &str,
    of: Of,
    storage: &Storage,
) -> Result<InstancetypeMatcher, Failure> {
    let source = &spec["source"]["pvc"];
    let Some(name) = source["name"].as_str() else {
        let why =
            "unable to infer defaults from DataVolumeSpec as DataVolumeSource is not supported";
        return Err(Failure::MayBeIgnored(why.to_owned()));
    };
    let namespace = source["namespace"].as_str().unwrap_or(namespace).to_owned();
    of_claim(&VmKey { namespace, name: name.to_owned() }, of, storage)
}

fn of_claim(key: &VmKey, of: Of, storage: &Storage) -> Result<InstancetypeMatcher, Failure> {
    let missing = || Failure::Stays(format!("persistentvolumeclaims {:?} not found", key.name));
    of_labels(storage.claim_labels(key).ok_or_else(missing)?, of)
}

fn of_labels(given: &crate::placement::Labels, of: Of) -> Result<InstancetypeMatcher, Failure> {
    let (name, kind) = labels(of);
    let missing =
        || Failure::MayBeIgnored(format!("unable to find required {name} label on the volume"));
    let found = given.get(name).ok_or_else(missing)?;
    let kind = given.get(kind).cloned();
    Ok(InstancetypeMatcher { name: Some(found.clone()), kind, ..InstancetypeMatcher::default() })
}
