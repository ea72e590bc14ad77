//! Volumes that show small files: entries of a ConfigMap or Secret, fields of the instance,
//! what a service account logs in by; pure.
//!
//! | | label | files |
//! |---|---|---|
//! | configMap, secret | `volumeLabel`, else `cfgdata` | one for each key |
//! | downwardAPI | the same | one for each path, as the kubelet writes them |
//! | serviceAccount | – | `namespace`, `token`, `ca.crt` |
//! | sysprep | `unattendCD` | one for each key, an answer file among them |

use std::collections::BTreeMap;
use std::path::{Component, Path};

use crds::kubevirt::{
    DownwardApiSource, FilesSource, ServiceAccountSource, SysprepSource, VirtualMachineInstance,
};
use kube::ResourceExt as _;

use super::VolumeError;
use super::iso::File;
use super::objects::{API_AUTHORITY, Entries, Objects};

/// The longest label that an ISO has room for (ECMA-119, 8.4.7).
const LONGEST_LABEL: usize = 32;

/// What Windows' setup looks for; in any case.
const ANSWERS: [&str; 2] = ["autounattend.xml", "unattend.xml"];

/// The label of an ISO, and its files.
pub(super) type Disc = (String, Vec<File>);

/// Of which volume the files are, and where in the spec it is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) volume: &'a str,
    pub(super) field: &'a str,
}

impl Place<'_> {
    fn invalid(self, field: &str, rule: &str) -> VolumeError {
        VolumeError::invalid(format!("{}.{field}", self.field), rule)
    }

    /// What is not there, in the kubelet's words.
    fn not_found(self, kind: &str, name: &str) -> VolumeError {
        VolumeError::mount(self.volume, format!("{kind} {name:?} not found"))
    }

    fn label(self, written: Option<&str>) -> Result<String, VolumeError> {
        let label = written.filter(|label| !label.is_empty()).unwrap_or("cfgdata");
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.- ".contains(c);
        if label.len() > LONGEST_LABEL || label.starts_with('-') || !label.chars().all(plain) {
            let rule = "must be at most 32 of the characters A-Z a-z 0-9 _ . - and space, \
                        and begin with no dash";
            return Err(self.invalid("volumeLabel", rule));
        }
        Ok(label.to_owned())
    }

    fn files(self, entries: &Entries) -> Result<Vec<File>, VolumeError> {
        let is_file_name = |key: &str| !key.contains('/') && !matches!(key, "" | "." | "..");
        if let Some(key) = entries.keys().find(|key| !is_file_name(key)) {
            let problem = format!("its key {key:?} cannot be a file name");
            return Err(VolumeError::mount(self.volume, problem));
        }
        Ok(entries.iter().map(|(key, value)| File::new(key, value.clone())).collect())
    }
}

/// A ConfigMap.
pub(super) fn config_map(
    source: &FilesSource,
    objects: &Objects,
    place: Place<'_>,
) -> Result<Disc, VolumeError> {
    let name = source.name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err(place.invalid("name", "is a required field"));
    }
    shown(source, objects.config_map(name), ("configmap", name), place)
}

/// A Secret.
pub(super) fn secret(
    source: &FilesSource,
    objects: &Objects,
    place: Place<'_>,
) -> Result<Disc, VolumeError> {
    let name = source.secret_name.as_deref().unwrap_or_default();
    if name.is_empty() {
        return Err(place.invalid("secretName", "is a required field"));
    }
    shown(source, objects.secret(name), ("secret", name), place)
}

fn shown(
    source: &FilesSource,
    found: Option<&Entries>,
    (kind, name): (&str, &str),
    place: Place<'_>,
) -> Result<Disc, VolumeError> {
    let label = place.label(source.volume_label.as_deref())?;
    match found {
        Some(entries) => Ok((label, place.files(entries)?)),
        None if source.optional.unwrap_or(false) => Ok((label, Vec::new())),
        None => Err(place.not_found(kind, name)),
    }
}

/// The answers that Windows' setup asks for.
pub(super) fn sysprep(
    source: &SysprepSource,
    objects: &Objects,
    place: Place<'_>,
) -> Result<Disc, VolumeError> {
    let (kind, name, found) = match (&source.config_map, &source.secret) {
        (Some(map), None) => ("configmap", &map.name, objects.config_map(&map.name)),
        (None, Some(secret)) => ("secret", &secret.name, objects.secret(&secret.name)),
        _ => {
            let rule = "must have exactly one of configMap and secret set";
            return Err(VolumeError::invalid(place.field, rule));
        }
    };
    let entries = found.ok_or_else(|| place.not_found(kind, name))?;
    let answers = |key: &String| ANSWERS.contains(&key.to_ascii_lowercase().as_str());
    if !entries.keys().any(answers) {
        let problem = format!(
            "Sysprep drive should contain {} or {} but neither were found.",
            ANSWERS[0], ANSWERS[1]
        );
        return Err(VolumeError::mount(place.volume, problem));
    }
    Ok(("unattendCD".to_owned(), place.files(entries)?))
}

/// What a service account logs in by, as a pod has it in `/var/run/secrets`.
pub(super) fn service_account(
    source: &ServiceAccountSource,
    namespace: &str,
    objects: &Objects,
    place: Place<'_>,
) -> Result<Disc, VolumeError> {
    let name = &source.service_account_name;
    if name.is_empty() {
        return Err(place.invalid("serviceAccountName", "is a required field"));
    }
    let token = objects.token(name).ok_or_else(|| place.not_found("serviceaccount", name))?;
    let authority = objects.config_map(API_AUTHORITY).and_then(|map| map.get("ca.crt"));
    let authority = authority.ok_or_else(|| place.not_found("configmap", API_AUTHORITY))?;
    let files = [
        File::new("namespace", namespace),
        File::new("token", token),
        File::new("ca.crt", authority.clone()),
    ];
    Ok(("cfgdata".to_owned(), files.into()))
}

/// Fields of the instance.
pub(super) fn downward_api(
    vmi: &VirtualMachineInstance,
    source: &DownwardApiSource,
    place: Place<'_>,
) -> Result<Disc, VolumeError> {
    let label = place.label(source.volume_label.as_deref())?;
    let mut files = BTreeMap::new();
    for (at, file) in source.fields.iter().enumerate() {
        let path = Path::new(&file.path);
        let is_normal = |part: Component<'_>| matches!(part, Component::Normal(_));
        if file.path.is_empty() || !path.components().all(is_normal) {
            let rule = "must be a relative path without '..'";
            return Err(place.invalid(&format!("fields[{at}].path"), rule));
        }
        let Some(reference) = &file.field_ref else {
            let rule = "is required: a resourceFieldRef is about a container, and there is none";
            return Err(place.invalid(&format!("fields[{at}].fieldRef"), rule));
        };
        let text = field(vmi, &reference.field_path).ok_or_else(|| {
            let rule = format!(
                "{:?} is not supported (allowed values: metadata.name, metadata.namespace, \
                 metadata.uid, metadata.labels, metadata.annotations, metadata.labels['<KEY>'], \
                 metadata.annotations['<KEY>'])",
                net::shown(&reference.field_path)
            );
            place.invalid(&format!("fields[{at}].fieldRef.fieldPath"), &rule)
        })?;
        files.insert(file.path.clone(), text);
    }
    Ok((label, files.into_iter().map(|(path, text)| File::new(path, text)).collect()))
}

/// The text of a field; none if it cannot be shown.
fn field(vmi: &VirtualMachineInstance, path: &str) -> Option<String> {
    let of_map = |map: &BTreeMap<String, String>, rest: &str| {
        if rest.is_empty() {
            return Some(lines(map));
        }
        let key = rest.strip_prefix("['")?.strip_suffix("']")?;
        Some(map.get(key).cloned().unwrap_or_default())
    };
    match path.strip_prefix("metadata.")? {
        "name" => Some(vmi.name_any()),
        "namespace" => vmi.namespace(),
        "uid" => vmi.uid(),
        path => {
            let labels = path.strip_prefix("labels").map(|rest| (vmi.labels(), rest));
            let (map, rest) = labels.or_else(|| {
                path.strip_prefix("annotations").map(|rest| (vmi.annotations(), rest))
            })?;
            of_map(map, rest)
        }
    }
}

/// `key="value"`, a line each, as `fieldpath.FormatMap` of Kubernetes writes them.
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines = map.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// A text as Go's `%q` has it between its quotes.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}
