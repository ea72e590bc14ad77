//! From a claim to what is behind it on this node; pure.
//!
//! | persistent volume | `Filesystem` | `Block` |
//! |---|---|---|
//! | hostPath | the directory's `disk.img` | the device |
//! | local | the directory's `disk.img` | the device |
//! | local, of our provisioner | the same; the directory is made | – |
//! | nfs | `disk.img` in the directory, by QEMU's own client | – |
//! | iscsi | – | the LUN, by QEMU's own initiator |
//!
//! Others, as those of CSI drivers, have to be attached by programs that are made for pods.

use std::path::PathBuf;

use crds::cdi::notes::{DISK_MADE, IMPORTER, PHASE, PROVISIONED_BY, PROVISIONER};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::remote::{self, Export, GROUP, Target};

/// What is behind a claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Backing {
    /// A directory in which the disk is a file; `make`: the directory may have to be made.
    Directory { path: PathBuf, make: bool, bytes: u64 },
    /// A block device.
    Device(PathBuf),
    /// A directory of an NFS server in which the disk is a file.
    Export { export: Export, bytes: u64 },
    /// A disk of an iSCSI server.
    Target(Target),
}

/// What is behind `claim`, which is bound to `volume`.
///
/// # Errors
/// Why there is nothing to use, yet: for people.
pub(crate) fn backing(
    claim: &PersistentVolumeClaim,
    volume: Option<&PersistentVolume>,
) -> Result<Backing, String> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let bound = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    let Some(bound) = bound.filter(|bound| !bound.is_empty() && phase == Some("Bound")) else {
        return Err(format!("persistentvolumeclaim {name:?} is not bound to a persistent volume"));
    };
    let spec = volume.and_then(|volume| volume.spec.as_ref());
    let spec = spec.ok_or_else(|| format!("persistentvolume {bound:?} not found"))?;
    // One that was made anew under its name, or is kept for another, says no such uid.
    let said = spec.claim_ref.as_ref().and_then(|reference| reference.uid.as_deref());
    let is_ours = said.is_some() && said == claim.metadata.uid.as_deref();
    if !is_ours {
        return Err(format!("persistentvolume {bound:?} is not bound to this claim"));
    }
    let of_volume = |why: String| format!("persistentvolume {bound:?}: {why}");
    let notes = volume.and_then(|volume| volume.metadata.annotations.as_ref());
    let bytes = || {
        capacity(claim, spec).ok_or_else(|| {
            format!("persistentvolume {bound:?} does not say its capacity.storage in bytes")
        })
    };
    if let Some(source) = &spec.nfs {
        let group = notes.and_then(|notes| notes.get(GROUP)).map(String::as_str);
        let export = remote::export(source, spec, group).map_err(of_volume)?;
        return Ok(Backing::Export { export, bytes: bytes()? });
    }
    if let Some(source) = &spec.iscsi {
        return Ok(Backing::Target(remote::target(source, spec).map_err(of_volume)?));
    }
    let (path, make) = source(spec).ok_or_else(|| of_volume(other_kind(spec)))?;
    let path = PathBuf::from(path);
    let is_plain = path.is_absolute() && !path.components().any(|part| part.as_os_str() == "..");
    if !is_plain {
        return Err(format!("persistentvolume {bound:?} has a path that is not absolute"));
    }
    // It is made by whoever first uses it.
    let by = notes.and_then(|notes| notes.get(PROVISIONED_BY));
    let make = make || by.is_some_and(|by| by == PROVISIONER);
    if spec.volume_mode.as_deref() == Some("Block") {
        return Ok(Backing::Device(path));
    }
    Ok(Backing::Directory { path, make, bytes: bytes()? })
}

/// Why a volume of another kind cannot be used.
fn other_kind(spec: &PersistentVolumeSpec) -> String {
    const USE: &str = "use one of hostPath, local, nfs and iscsi";
    match &spec.csi {
        Some(csi) => format!(
            "volumes of CSI drivers, such as {:?}, are attached for pods only, and a VM has \
             none: {USE}",
            net::shown(&csi.driver)
        ),
        None => format!("it is of a kind that cannot be attached here: {USE}"),
    }
}

/// Whether a claim has had its disk: what is not there any more is then not made again, since
/// that would be an empty disk in the place of one that is somewhere else.
pub(crate) fn had_disk(claim: &PersistentVolumeClaim) -> bool {
    let notes = claim.metadata.annotations.as_ref();
    let note = |key: &str| notes.and_then(|notes| notes.get(key)).map(String::as_str);
    note(DISK_MADE).is_some() || note(PHASE) == Some("Succeeded")
}

/// Why a VM cannot use a claim that somebody is filling.
pub(super) fn unfilled(claim: &PersistentVolumeClaim) -> Option<String> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let node = claim.metadata.labels.as_ref()?.get(IMPORTER)?;
    Some(format!("persistentvolumeclaim {name:?} is being filled on node {node}"))
}

/// The path of a volume that is on the node already, and whether the directory is made if
/// it is not there.
fn source(spec: &PersistentVolumeSpec) -> Option<(&str, bool)> {
    let host_path = spec.host_path.as_ref().map(|source| {
        let kind = source.type_.as_deref().unwrap_or_default();
        (source.path.as_str(), matches!(kind, "" | "DirectoryOrCreate"))
    });
    host_path.or_else(|| spec.local.as_ref().map(|source| (source.path.as_str(), false)))
}

/// What the claim has been given, else what the volume has.
fn capacity(claim: &PersistentVolumeClaim, volume: &PersistentVolumeSpec) -> Option<u64> {
    let given = claim.status.as_ref().and_then(|status| status.capacity.as_ref());
    let given = given.and_then(|all| all.get("storage"));
    let all = volume.capacity.as_ref().and_then(|all| all.get("storage"));
    let bytes = |amount: &Quantity| crds::kubevirt::Quantity::from(amount.0.as_str()).units().ok();
    given.or(all).and_then(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(claim: &Value, volume: &Value) -> Result<Backing, String> {
        let claim = serde_json::from_value(claim.clone()).unwrap();
        let volume: Option<PersistentVolume> = serde_json::from_value(volume.clone()).unwrap();
        backing(&claim, volume.as_ref())
    }

    fn bound() -> Value {
        json!({ "metadata": { "name": "data", "uid": "c1" }, "spec": { "volumeName": "pv" },
                "status": { "phase": "Bound" } })
    }

    fn volume(source: &Value) -> Value {
        let mut volume = json!({ "metadata": { "name": "pv" },
            "spec": { "capacity": { "storage": "2Gi" }, "claimRef": { "uid": "c1" } } });
        volume["spec"].as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        volume
    }

    #[test]
    fn a_directory_holds_a_disk_of_the_volumes_capacity() {
        let directory = |make| Backing::Directory { path: "/d".into(), make, bytes: 2 << 30 };
        for (kind, make) in [("", true), ("DirectoryOrCreate", true), ("Directory", false)] {
            let volume = volume(&json!({ "hostPath": { "path": "/d", "type": kind } }));
            assert_eq!(of(&bound(), &volume), Ok(directory(make)), "{kind}");
        }
        let volume = volume(&json!({ "local": { "path": "/d" } }));
        assert_eq!(of(&bound(), &volume), Ok(directory(false)));
        let mut ours = volume.clone();
        ours["metadata"]["annotations"] = json!({ PROVISIONED_BY: PROVISIONER });
        assert_eq!(of(&bound(), &ours), Ok(directory(true)), "made for whoever first uses it");
        let mut given = bound();
        given["status"]["capacity"] = json!({ "storage": "1Gi" });
        let smaller = Backing::Directory { path: "/d".into(), make: false, bytes: 1 << 30 };
        assert_eq!(of(&given, &volume), Ok(smaller));
    }

    #[test]
    fn a_volume_of_a_server_is_what_is_there() {
        let nfs = volume(&json!({ "nfs": { "server": "s", "path": "/a" } }));
        let Ok(Backing::Export { export, bytes }) = of(&bound(), &nfs) else { panic!("no export") };
        assert_eq!((export.path.as_str(), bytes), ("/a", 2 << 30));
        let iscsi = volume(&json!({ "volumeMode": "Block", "iscsi":
            { "targetPortal": "h", "iqn": "iqn.2026-01.example:a", "lun": 1 } }));
        assert!(matches!(of(&bound(), &iscsi), Ok(Backing::Target(target)) if target.lun == 1));
    }

    #[test]
    fn a_claim_has_one_disk_in_its_life() {
        let had = |notes: Value| {
            let mut claim = bound();
            claim["metadata"]["annotations"] = notes;
            had_disk(&serde_json::from_value(claim).unwrap())
        };
        assert!(!had(json!({})) && !had(json!({ PHASE: "Running" })));
        assert!(had(json!({ DISK_MADE: "true" })) && had(json!({ PHASE: "Succeeded" })));
    }

    #[test]
    fn a_volume_of_blocks_is_its_device() {
        let volume = volume(&json!({ "volumeMode": "Block", "local": { "path": "/dev/sdx" } }));
        assert_eq!(of(&bound(), &volume), Ok(Backing::Device("/dev/sdx".into())));
    }

    #[test]
    fn what_somebody_fills_is_nobody_elses_yet() {
        let mut claim = bound();
        let told = |claim: &Value| unfilled(&serde_json::from_value(claim.clone()).unwrap());
        assert_eq!(told(&claim), None);
        claim["metadata"]["labels"] = json!({ IMPORTER: "n1" });
        assert!(told(&claim).unwrap().contains("is being filled on node n1"));
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let local = json!({ "local": { "path": "/d" } });
        let mut waits = bound();
        waits["status"]["phase"] = json!("Pending");
        let told = |claim: &Value, volume: &Value| of(claim, volume).unwrap_err();
        assert!(told(&waits, &volume(&local)).contains("\"data\" is not bound"));
        assert!(told(&bound(), &Value::Null).contains("\"pv\" not found"));
        let mut others = volume(&local);
        for other in [json!({ "uid": "c2" }), json!({ "name": "data" }), Value::Null] {
            others["spec"]["claimRef"] = other;
            assert!(told(&bound(), &others).contains("not bound to this claim"));
        }
        let csi = volume(&json!({ "csi": { "driver": "disks.example", "volumeHandle": "a" } }));
        let why = told(&bound(), &csi);
        assert!(why.contains("\"disks.example\", are attached for pods only"), "{why}");
        let other = volume(&json!({ "fc": { "lun": 1 } }));
        assert!(told(&bound(), &other).contains("use one of hostPath, local, nfs and iscsi"));
        let nfs = volume(&json!({ "nfs": { "server": "s", "path": "x" } }));
        assert!(told(&bound(), &nfs).contains("persistentvolume \"pv\": nfs.path"));
        let odd = volume(&json!({ "local": { "path": "/d/../../etc" } }));
        assert!(told(&bound(), &odd).contains("not absolute"));
    }
}
