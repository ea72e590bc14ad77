//! What of a VM's hardware outlives its starts, where `persistent` asks for it: the variables
//! of its EFI firmware, and what its TPM knows.
//!
//! ```text
//!  start     the Secret is made if it is not there; what it holds become files
//!  the end   once the guest's process is gone, the files go into the Secret, then away
//! ```
//!
//! The Secret is the VM's, `berth-state-<vm>`, and goes with it; so a VM has its state on
//! whichever node it starts. It is made before the guest starts, so that an agent that may not
//! write it says so then and not when there is something to lose. What a guest on a node that
//! is lost wrote since its start is lost with the node: the Secret says for which start it is,
//! and one of before keeps nothing any more.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crds::kubevirt::VirtualMachineInstance;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::vm::Trouble;

/// The type of the Secret: whose it is.
const TYPE: &str = "berth.io/machine-state";

/// The annotation with the uid of the instance that the state was given to last.
const GIVEN_TO: &str = "berth.io/vmi-uid";

/// More than any firmware or TPM has room for. What a Secret says is not to fill a disk.
const LARGEST: u64 = 64 << 20;

/// One file that outlives a start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Part {
    /// The key of the Secret, which holds it compressed.
    key: &'static str,
    file: PathBuf,
    /// Whether libvirt gives its directory to whoever reads it: then the file is for anybody
    /// who gets that far, and the directory for nobody else.
    is_handed_over: bool,
}

/// The files of this VM that outlive a start: its variables in `nvram`, and what its TPM has
/// below `tpms`, where libvirt keeps it for each domain by uuid.
pub(crate) fn parts(vmi: &VirtualMachineInstance, nvram: &Path, tpms: &Path) -> Vec<Part> {
    let domain = &vmi.spec.domain;
    let efi = domain.firmware.as_ref().and_then(|one| one.bootloader.as_ref()?.efi.as_ref());
    let variables = efi.and_then(|efi| efi.persistent).unwrap_or(false).then(|| Part {
        key: "nvram.fd.gz",
        file: nvram.to_owned(),
        is_handed_over: false,
    });
    let tpm = domain.devices.tpm.as_ref();
    let is_on = |key: &str| tpm.and_then(|tpm| tpm.0.get(key)?.as_bool());
    let tpm = is_on("persistent").unwrap_or(false) && is_on("enabled").unwrap_or(true);
    let uid = vmi.uid().filter(|uid| tpm && uuid::Uuid::parse_str(uid).is_ok());
    let known = uid.map(|uid| Part {
        key: "tpm2-00.permall.gz",
        file: tpms.join(uid).join("tpm2/tpm2-00.permall"),
        is_handed_over: true,
    });
    variables.into_iter().chain(known).collect()
}

/// Makes the files what was kept, but for those that are there: a guest of this start wrote
/// them.
///
/// # Errors
/// The API, the disk, or a Secret of the name that is somebody else's.
pub(crate) async fn restore(
    client: &Client,
    vmi: &VirtualMachineInstance,
    parts: &[Part],
) -> Result<(), Trouble> {
    let Some(owner) = owner(vmi).filter(|_| !parts.is_empty()) else { return Ok(()) };
    let (api, name) = place(client, vmi);
    let found = api.get_opt(&name).await.map_err(|error| refused(&name, &error))?;
    let Some(secret) = found else {
        let made = api.create(&PostParams::default(), &empty(&name, owner, vmi)).await;
        return made.map(drop).map_err(|error| refused(&name, &error));
    };
    if !is_of(&secret, owner) {
        let message = format!(
            "Secret {name} is not this VM's, and what its hardware keeps would be there: \
             delete it, or ask for nothing persistent of firmware and TPM"
        );
        return Err(Trouble::of("StateNotKept", message));
    }
    if secret.annotations().get(GIVEN_TO) != vmi.metadata.uid.as_ref() {
        let notes = json!({ GIVEN_TO: vmi.metadata.uid });
        let patch = json!({ "metadata": {
            "uid": secret.metadata.uid, "resourceVersion": secret.metadata.resource_version,
            "annotations": notes,
        } });
        let given = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
        given.map_err(|error| refused(&name, &error))?;
    }
    let mut kept = secret.data.unwrap_or_default();
    for part in parts {
        let Some(ByteString(packed)) = kept.remove(part.key) else { continue };
        let state = unpacked(&packed).map_err(|error| {
            let message = format!("{} of Secret {name} cannot be unpacked: {error}", part.key);
            Trouble::of("StateNotKept", message)
        })?;
        part.write(&state).await.map_err(|error| part.trouble("write", &error))?;
    }
    Ok(())
}

/// Keeps what the guest left in the files. Its process must be gone.
///
/// # Errors
/// The API or the disk: nothing is to be removed then. A VM that is gone keeps nothing.
pub(crate) async fn keep(
    client: &Client,
    vmi: &VirtualMachineInstance,
    parts: &[Part],
) -> Result<(), Trouble> {
    let Some(owner) = owner(vmi).filter(|_| !parts.is_empty()) else { return Ok(()) };
    let mut left = BTreeMap::new();
    for part in parts {
        match tokio::fs::read(&part.file).await {
            // The power went before it was written.
            Ok(state) if state.is_empty() => {}
            Ok(state) => drop(left.insert(part.key.to_owned(), ByteString(packed(&state)))),
            // It never started.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(part.trouble("read", &error)),
        }
    }
    let (api, name) = place(client, vmi);
    let found = api.get_opt(&name).await.map_err(|error| refused(&name, &error))?;
    let is_its = |secret: &Secret| {
        is_of(secret, owner) && secret.annotations().get(GIVEN_TO) == vmi.metadata.uid.as_ref()
    };
    let Some(secret) = found.filter(is_its) else {
        tracing::warn!(
            secret = name,
            "It is gone or of another start: what the hardware knows is not kept"
        );
        return Ok(());
    };
    let before = secret.data.clone().unwrap_or_default();
    left.retain(|key, state| before.get(key) != Some(state));
    if left.is_empty() {
        return Ok(());
    }
    let version = secret.resource_version();
    let metadata = json!({ "uid": secret.uid(), "resourceVersion": version });
    let patch = json!({ "metadata": metadata, "data": left });
    let written = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
    written.map(drop).map_err(|error| refused(&name, &error))
}

impl Part {
    async fn write(&self, state: &[u8]) -> io::Result<()> {
        if tokio::fs::try_exists(&self.file).await? {
            return Ok(());
        }
        if let Some(directory) = self.file.parent().filter(|_| self.is_handed_over) {
            if let Some(above) = directory.parent() {
                tokio::fs::create_dir_all(above).await?;
                let passable = std::fs::Permissions::from_mode(0o711);
                tokio::fs::set_permissions(above, passable).await?;
            }
            let mut closed = tokio::fs::DirBuilder::new();
            closed.recursive(true).mode(0o700).create(directory).await?;
        }
        let mode = if self.is_handed_over { 0o666 } else { 0o600 };
        let (file, state) = (self.file.clone(), state.to_owned());
        tokio::task::spawn_blocking(move || put(&file, &state, mode)).await?
    }

    fn trouble(&self, what: &str, error: &io::Error) -> Trouble {
        let message = format!("cannot {what} {}: {error}", self.file.display());
        Trouble::of("StateNotKept", message)
    }
}

/// Writes a file, whole or not at all. Others may have been given its directory before: what
/// is there under the name that it is written by goes, and no link is followed.
fn put(file: &Path, state: &[u8], mode: u32) -> io::Result<()> {
    let partial = file.with_extension("partial");
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut made = File::options().write(true).create_new(true).mode(0o600).open(&partial)?;
    made.write_all(state)?;
    made.set_permissions(fs::Permissions::from_mode(mode))?;
    made.sync_all()?;
    fs::rename(&partial, file)?;
    file.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// The VM.
fn owner(vmi: &VirtualMachineInstance) -> Option<&OwnerReference> {
    let owners = vmi.metadata.owner_references.iter().flatten();
    owners.into_iter().find(|owner| owner.kind == "VirtualMachine")
}

fn place(client: &Client, vmi: &VirtualMachineInstance) -> (Api<Secret>, String) {
    let api = Api::namespaced(client.clone(), &vmi.namespace().unwrap_or_default());
    (api, format!("berth-state-{}", vmi.name_any()))
}

fn empty(name: &str, owner: &OwnerReference, vmi: &VirtualMachineInstance) -> Secret {
    let owner = OwnerReference { block_owner_deletion: None, controller: None, ..owner.clone() };
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            owner_references: Some(vec![owner]),
            annotations: vmi.uid().map(|uid| [(GIVEN_TO.to_owned(), uid)].into()),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(BTreeMap::new()),
        ..Secret::default()
    }
}

fn is_of(secret: &Secret, owner: &OwnerReference) -> bool {
    let owners = secret.metadata.owner_references.iter().flatten();
    secret.type_.as_deref() == Some(TYPE) && owners.into_iter().any(|one| one.uid == owner.uid)
}

fn refused(name: &str, error: &kube::Error) -> Trouble {
    let message = format!("what the hardware keeps is in Secret {name}: {error}");
    Trouble::of("StateNotKept", message)
}

fn packed(variables: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(variables).expect("memory takes it all");
    encoder.finish().expect("memory takes it all")
}

fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut variables = Vec::new();
    GzDecoder::new(packed).take(LARGEST + 1).read_to_end(&mut variables)?;
    if variables.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than any firmware has room for"));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_says_persistent() {
        let of = |domain: serde_json::Value| {
            let vmi = json!({
                "metadata": { "uid": "5e0f4b2e-0000-4000-8000-000000000001" },
                "spec": { "domain": domain },
            });
            let vmi = serde_json::from_value(vmi).unwrap();
            let parts = parts(&vmi, Path::new("/nv"), Path::new("/tpms"));
            parts.into_iter().map(|part| part.file.display().to_string()).collect::<Vec<_>>()
        };
        let tpm = "/tpms/5e0f4b2e-0000-4000-8000-000000000001/tpm2/tpm2-00.permall";
        let efi =
            |persistent: bool| json!({ "bootloader": { "efi": { "persistent": persistent } } });
        let devices = |persistent: bool| json!({ "tpm": { "persistent": persistent } });
        let both = json!({ "firmware": efi(true), "devices": devices(true) });
        assert_eq!(of(both), ["/nv", tpm]);
        assert!(of(json!({ "firmware": efi(false), "devices": devices(false) })).is_empty());
        let off = json!({ "tpm": { "persistent": true, "enabled": false } });
        assert!(of(json!({ "devices": off })).is_empty());
    }

    #[test]
    fn a_file_is_written_whole_and_through_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("nvram.fd"), dir.path().join("shadow"));
        fs::write(&other, "theirs").unwrap();
        std::os::unix::fs::symlink(&other, file.with_extension("partial")).unwrap();
        put(&file, b"state", 0o600).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"state");
        assert_eq!(fs::read(&other).unwrap(), b"theirs");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::symlink_metadata(file.with_extension("partial")).unwrap_err();
    }

    #[test]
    fn variables_come_back_as_they_were_and_small() {
        let mut variables = vec![0xff; 540_672];
        variables[70] = 7;
        let small = packed(&variables);
        assert!(small.len() < 10_000, "{}", small.len());
        assert_eq!(unpacked(&small).unwrap(), variables);
        unpacked(&small[..small.len() / 2]).unwrap_err();
        let bomb = packed(&vec![0; usize::try_from(LARGEST).unwrap() + 1]);
        assert!(unpacked(&bomb).unwrap_err().to_string().contains("larger"));
    }
}
