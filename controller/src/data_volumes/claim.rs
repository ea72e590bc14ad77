//! The claim of a DataVolume. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crds::cdi::leave;
use crds::cdi::notes::{CLONE, CONTENT_TYPE, IMMEDIATE};
use crds::cdi::{ClaimSpec, DataVolume, DataVolumeSource};
use crds::kubevirt::Quantity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::data_sources;
use super::grants::{Grant, Way};
use super::known::Known;
use super::source::notes;
use super::status::Hitch;
use crate::ledger::VmKey;

/// The smallest claim.
const LEAST: u64 = 1 << 20;

/// What of a DataVolume's labels and annotations its claim is not given: what says how it is
/// filled is not for users to write.
const NOT_COPIED: [&str; 3] = ["cdi.kubevirt.io/", "berth.io/", "kubectl.kubernetes.io/"];

/// The claim that a DataVolume asks for.
pub(super) fn of(
    data_volume: &DataVolume,
    known: &Known,
    now: Timestamp,
) -> Result<PersistentVolumeClaim, Hitch> {
    let spec = &data_volume.spec;
    let (asked, kind) = match (&spec.pvc, &spec.storage) {
        (Some(pvc), None) => (pvc, "PVC"),
        (None, Some(storage)) => (storage, "Storage"),
        (None, None) => return Err(wrong("Missing Data volume PVC or Storage")),
        (Some(_), Some(_)) => {
            let why = "Duplicate storage definition, both target storage and target pvc defined";
            return Err(wrong(why));
        }
    };
    if spec.content_type.as_deref().is_some_and(|kind| !matches!(kind, "" | "kubevirt")) {
        return Err(wrong("contentType archive is not served without CDI: leave it out"));
    }
    let namespace = data_volume.namespace().unwrap_or_default();
    let source = source(data_volume, known)?;
    let mut notes = notes(&source, &namespace)?;
    if let Some(way) = foreign(&source, &namespace) {
        allowed(known, &way, now)?;
    }
    notes.insert(CONTENT_TYPE.to_owned(), "kubevirt".to_owned());
    if let Some(text) = data_volume.annotations().get(IMMEDIATE) {
        notes.insert(IMMEDIATE.to_owned(), text.clone());
    }
    let size = match requested(asked) {
        Some(size) => size.clone(),
        None => copied(&source, &namespace, known, kind)?,
    };
    let bytes = size.units().map_err(|error| wrong(format!("{kind} size {error}")))?;
    if bytes == 0 {
        return Err(wrong(format!("{kind} size can't be equal or less than zero")));
    }
    if bytes < LEAST {
        return Err(wrong(format!("{kind} size should be at least 1MiB")));
    }
    let spec = claim_spec(asked, kind, &size, known)?;
    let copied = |all: &BTreeMap<String, String>| {
        let all = all.iter().filter(|(key, _)| {
            !NOT_COPIED.iter().any(|prefix| key.starts_with(prefix))
                && !key.starts_with("volume.")
                && !key.starts_with("pv.kubernetes.io/")
                && *key != CLONE
        });
        all.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>()
    };
    let mut annotations = copied(data_volume.annotations());
    annotations.extend(notes);
    let mut labels = copied(data_volume.labels());
    labels.insert("app".to_owned(), "containerized-data-importer".to_owned());
    let object = json!({
        "metadata": {
            "name": data_volume.name_any(),
            "namespace": namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": data_volume.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
        },
        "spec": spec,
    });
    serde_json::from_value(object).map_err(|error| wrong(format!("{kind}: {error}")))
}

pub(super) fn wrong(why: impl Into<String>) -> Hitch {
    Hitch::Wrong(why.into())
}

fn requested(asked: &ClaimSpec) -> Option<&Quantity> {
    asked.resources.as_ref()?.requests.get("storage")
}

/// Where it is filled from: what is written, or what the DataSource stands for.
fn source<'a>(
    data_volume: &'a DataVolume,
    known: &Known,
) -> Result<Cow<'a, DataVolumeSource>, Hitch> {
    let spec = &data_volume.spec;
    match (&spec.source, &spec.source_ref) {
        (Some(source), None) => Ok(Cow::Borrowed(source)),
        (None, Some(of)) => {
            let namespace = data_volume.namespace().unwrap_or_default();
            let pvc = Some(data_sources::resolved(known, &namespace, of)?);
            Ok(Cow::Owned(DataVolumeSource { pvc, ..DataVolumeSource::default() }))
        }
        _ => Err(wrong(
            "Data volume should have either Source or SourceRef, or be externally populated",
        )),
    }
}

/// From where to where a DataVolume is a copy, if that is from one namespace to another.
pub(super) fn way(data_volume: &DataVolume, known: &Known) -> Option<Way> {
    foreign(&*source(data_volume, known).ok()?, &data_volume.namespace()?)
}

fn foreign(source: &DataVolumeSource, namespace: &str) -> Option<Way> {
    let from = source.pvc.as_ref()?.namespace.clone();
    let from = from.filter(|from| !from.is_empty() && from != namespace)?;
    Some(Way { from, to: namespace.to_owned() })
}

/// That claims of the one namespace may be copied to the other, as far as it is known.
fn allowed(known: &Known, way: &Way, now: Timestamp) -> Result<(), Hitch> {
    let Way { from, to } = way;
    match known.grants.get(way, now) {
        Grant::Given => Ok(()),
        Grant::Refused { .. } => Err(Hitch::Wrong(leave::refusal(from, to))),
        Grant::Unknown => {
            Err(Hitch::Waits(format!("it is asked whether claims of {from} may be copied to {to}")))
        }
    }
}

/// The size of what is copied, where none is named.
fn copied(
    source: &DataVolumeSource,
    namespace: &str,
    known: &Known,
    kind: &str,
) -> Result<Quantity, Hitch> {
    let missing = || wrong(format!("{kind} size is missing"));
    let source = source.pvc.as_ref().filter(|_| kind == "Storage").ok_or_else(missing)?;
    let namespace = source.namespace.as_deref().filter(|own| !own.is_empty()).unwrap_or(namespace);
    let key = VmKey { namespace: namespace.to_owned(), name: source.name.clone() };
    let claim = known
        .claims
        .get(&key)
        .ok_or_else(|| Hitch::Waits(format!("Source PVC {namespace}/{} not found", source.name)))?;
    let capacity = claim.status.as_ref().and_then(|status| status.capacity.as_ref());
    let size = capacity.and_then(|all| all.get("storage"));
    let waits = || Hitch::Waits(format!("Source PVC {namespace}/{} is not bound", source.name));
    size.map(|size| Quantity::Text(size.0.clone())).ok_or_else(waits)
}

/// The claim's spec: what is written, and for `storage` what is left out.
fn claim_spec(
    asked: &ClaimSpec,
    kind: &str,
    size: &Quantity,
    known: &Known,
) -> Result<Value, Hitch> {
    let mut modes = asked.access_modes.clone();
    if modes.is_empty() && kind == "PVC" {
        return Err(wrong("Required value: at least 1 access mode is required"));
    }
    if modes.is_empty() {
        modes.push("ReadWriteOnce".to_owned());
    }
    let mut spec = serde_json::to_value(asked).map_err(|error| wrong(error.to_string()))?;
    spec["accessModes"] = json!(modes);
    // A bare number is a quantity to people, and a text to Kubernetes.
    let size = match size {
        Quantity::Number(number) => number.to_string(),
        Quantity::Text(text) => text.clone(),
    };
    spec["resources"] = json!({ "requests": { "storage": size } });
    if asked.storage_class_name.is_none()
        && let Some(class) = known.default_class()
    {
        spec["storageClassName"] = json!(class.name_any());
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use crds::cdi::notes::{CERTIFICATES, ENDPOINT, HEADER, SECRET, SOURCE};

    use super::*;
    use crate::shelf::Seen;
    use crate::storage::News;
    use crate::world::Event;

    fn known() -> Known {
        let mut known = Known::default();
        let class = json!({"metadata": {"name": "quick", "annotations":
            {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p"});
        let class = serde_json::from_value(class).unwrap();
        known.apply(&Event::Storage(News::Class(Seen::all(vec![class]))));
        known
    }

    fn made(spec: Value) -> Result<PersistentVolumeClaim, String> {
        let data_volume: DataVolume = serde_json::from_value(json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
            "metadata": {"name": "root", "namespace": "red", "uid": "u1",
                "annotations": {"team": "a", "cdi.kubevirt.io/storage.pod.phase": "Succeeded"}},
            "spec": spec,
        }))
        .unwrap();
        of(&data_volume, &known(), Timestamp::UNIX_EPOCH).map_err(|hitch| match hitch {
            Hitch::Wrong(why) => why,
            Hitch::Waits(why) => format!("waits: {why}"),
        })
    }

    fn size(size: Value) -> Value {
        json!({"resources": {"requests": {"storage": size}}})
    }

    #[test]
    fn a_claim_says_where_it_is_filled_from_and_goes_with_its_data_volume() {
        let http = json!({"url": "https://example.org/disk.qcow2", "secretRef": "key",
            "certConfigMap": "ca", "extraHeaders": ["A: b", "C: d"]});
        let claim = made(json!({"source": {"http": http}, "storage": size(json!("2Gi"))})).unwrap();
        let notes = claim.annotations();
        let note = |key: &str| notes.get(key).map(String::as_str);
        assert_eq!(note(SOURCE), Some("http"));
        assert_eq!(note(ENDPOINT), Some("https://example.org/disk.qcow2"));
        assert_eq!((note(SECRET), note(CERTIFICATES)), (Some("key"), Some("ca")));
        assert_eq!(note(&format!("{HEADER}.1")), Some("C: d"));
        assert_eq!(note("team"), Some("a"));
        assert_eq!(note(crds::cdi::notes::PHASE), None, "nobody has filled it");
        assert_eq!(claim.owner_references()[0].uid, "u1");
        let spec = claim.spec.unwrap();
        assert_eq!(spec.access_modes, Some(vec!["ReadWriteOnce".to_owned()]));
        assert_eq!(spec.storage_class_name.as_deref(), Some("quick"));
        assert_eq!(spec.resources.unwrap().requests.unwrap()["storage"].0, "2Gi");
    }

    #[test]
    fn a_number_is_a_size_and_what_is_written_of_a_claim_is_kept() {
        let mut pvc = size(json!(4_194_304));
        pvc["accessModes"] = json!(["ReadWriteMany"]);
        pvc["storageClassName"] = json!("");
        pvc["volumeName"] = json!("mine");
        let spec = made(json!({"source": {"blank": {}}, "pvc": pvc})).unwrap().spec.unwrap();
        assert_eq!(spec.resources.unwrap().requests.unwrap()["storage"].0, "4194304");
        assert_eq!(spec.storage_class_name.as_deref(), Some(""), "no class is a choice");
        assert_eq!(spec.volume_name.as_deref(), Some("mine"));
    }

    #[test]
    fn a_copy_from_another_namespace_is_made_once_that_is_allowed() {
        let mut known = known();
        let data_volume: DataVolume = serde_json::from_value(json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
            "metadata": {"name": "root", "namespace": "red", "uid": "u1"},
            "spec": {"source": {"pvc": {"namespace": "blue", "name": "a"}},
                "storage": size(json!("1Gi"))},
        }))
        .unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let asked = way(&data_volume, &known).unwrap();
        assert_eq!((asked.from.as_str(), asked.to.as_str()), ("blue", "red"));
        known.grants.put(asked.clone(), false, now);
        match of(&data_volume, &known, now) {
            Err(Hitch::Wrong(why)) => {
                assert!(why.contains("system:serviceaccount:red:default"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        known.grants.put(asked, true, now);
        let claim = of(&data_volume, &known, now).unwrap();
        assert_eq!(claim.annotations()[CLONE], "blue/a");
    }

    #[test]
    fn what_cannot_be_is_told_in_the_importers_words() {
        let gi = || size(json!("1Gi"));
        let blank = json!({"blank": {}});
        let with = |http: Value| json!({"source": {"http": http}, "storage": gi()});
        let table = [
            (json!({"source": blank}), "Missing Data volume PVC or Storage"),
            (
                json!({"source": blank, "pvc": gi(), "storage": gi()}),
                "Duplicate storage definition",
            ),
            (json!({"storage": gi()}), "either Source or SourceRef"),
            (
                json!({"source": {"blank": {}, "http": {"url": ""}}, "storage": gi()}),
                "Multiple dataVolume sources",
            ),
            (
                json!({"source": {"vddk": {}}, "storage": gi()}),
                "source vddk is not served without CDI",
            ),
            (json!({"source": blank, "pvc": gi()}), "at least 1 access mode is required"),
            (json!({"source": blank, "storage": {}}), "Storage size is missing"),
            (json!({"source": blank, "storage": size(json!("0"))}), "equal or less than zero"),
            (json!({"source": blank, "storage": size(json!("10Ki"))}), "at least 1MiB"),
            (with(json!({"url": "ftp://h/x"})), "must begin with http:// or https://"),
            (with(json!({"url": "http://h/x", "checksum": "sha256:12"})), "hexadecimal digits"),
            (
                with(json!({"url": "http://h/x", "insecureSkipVerify": true})),
                "insecureSkipVerify is not served",
            ),
            (
                json!({"source": {"pvc": {"namespace": "blue", "name": "a"}}, "storage": gi()}),
                "waits: it is asked whether claims of blue may be copied to red",
            ),
            (
                json!({"source": {"pvc": {"name": "a"}}, "storage": {}}),
                "waits: Source PVC red/a not found",
            ),
            (
                json!({"source": blank, "storage": gi(), "contentType": "archive"}),
                "contentType archive",
            ),
            (
                json!({"sourceRef": {"kind": "DataSource"}, "storage": gi()}),
                "Missing sourceRef name",
            ),
            (
                json!({"source": blank, "sourceRef": {"kind": "DataSource", "name": "a"},
                    "storage": gi()}),
                "either Source or SourceRef",
            ),
        ];
        for (spec, words) in table {
            let told = made(spec.clone()).unwrap_err();
            assert!(told.contains(words), "{spec}: {told}");
        }
    }
}
