//! The files behind a VMI's disks: made before its domain starts, removed with it.
//!
//! ```text
//! <state-dir>/images/<digest>/disk.qcow2|disk.img   unpacked once, shared, read-only
//! <state-dir>/vms/<domain>/vmi-uid                  whose files these are
//!                         /<volume>.qcow2           overlay, or empty disk
//!                         /<volume>.iso             cloud-init, secret
//!                         /console.log              QEMU's
//! ```
//!
//! Everything here lives as long as the VMI: [`prepare`] keeps what it finds of
//! the same uid, so that it may be repeated, and replaces what is left of
//! another. Each file appears by a rename, so none is ever half there.
//!
//! Secrets are written to files that only root reads; they appear neither in
//! arguments of the programs that are run nor in errors or logs.

mod cloud_init;
mod command;
mod iso;
mod layout;
mod qcow2;
mod secrets;
mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crds::kubevirt::{CloudInit, ContainerDisk, EmptyDisk, VirtualMachineInstance, Volume};

use tokio::io::AsyncReadExt as _;

pub use self::secrets::{Secrets, secret_names};

/// What can be attached, for the errors about what cannot.
const SUPPORTED: &str =
    "containerDisk, cloudInitNoCloud, cloudInitConfigDrive, emptyDisk and secret";

/// The file that holds the uid of the VMI a directory belongs to.
const UID_FILE: &str = "vmi-uid";

/// Where images come from and files go.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// The agent's `--state-dir`.
    pub state: PathBuf,
    /// The agent's `--image-dir`, an OCI image layout.
    pub images: PathBuf,
}

impl Dirs {
    /// The directory of one domain's files.
    #[must_use]
    pub fn of_domain(&self, domain: &str) -> PathBuf {
        self.state.join("vms").join(domain)
    }
}

/// The file behind one volume.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiskFile {
    /// The volume's name in the spec.
    pub volume: String,
    /// Absolute.
    pub path: PathBuf,
    pub format: Format,
}

/// How a file holds a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    Qcow2,
    Raw,
}

impl Format {
    /// QEMU's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// Why a volume could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The spec must change; the rule says how.
    #[error("{field} {rule}")]
    Invalid { field: String, rule: String },
    /// The kind of volume is not one of ours.
    #[error("{field}: {kind} is not supported; supported are {SUPPORTED}")]
    NotSupported { field: String, kind: String },
    /// The layout holds no image of this name, yet.
    #[error("image {image} is not in the image directory {}", .layout.display())]
    ImageNotFound { image: String, layout: PathBuf },
    /// The image is there and of no use; another must take its place.
    #[error("image {image} cannot be used: {problem}")]
    BadImage { image: String, problem: String },
    /// A Secret is not there, or not what it should be, yet.
    #[error("{field}: secret {name} {problem}")]
    Secret { field: String, name: String, problem: &'static str },
    /// A program of the host failed.
    #[error("{program} failed: {output}")]
    Program { program: &'static str, output: String },
    /// The host's file system said no.
    #[error("cannot {action} {}", .path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    /// Whether the same call may succeed later without a change to the VMI.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Invalid { .. } | Self::NotSupported { .. } | Self::BadImage { .. } => false,
            Self::ImageNotFound { .. }
            | Self::Secret { .. }
            | Self::Program { .. }
            | Self::File { .. } => true,
        }
    }

    /// Whether KubeVirt would call it `ErrImagePull`.
    #[must_use]
    pub fn is_about_the_image(&self) -> bool {
        matches!(self, Self::ImageNotFound { .. } | Self::BadImage { .. })
    }

    fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), rule: rule.into() }
    }

    /// For `map_err` on file operations.
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

/// Makes the files of all volumes, in the order of the spec.
///
/// May be repeated. Disks of the same VMI are kept with what the guest wrote;
/// ISOs are written anew from the current secrets, which a running guest does
/// not notice. Must not run while a domain of an earlier VMI of the name still
/// does. Cancelling leaves nothing that a next call would take for finished.
///
/// # Errors
/// See [`VolumeError`]; what was made before the error stays for the next call.
pub async fn prepare(
    vmi: &VirtualMachineInstance,
    dirs: &Dirs,
    secrets: &Secrets,
) -> Result<Vec<DiskFile>, VolumeError> {
    check_names(&vmi.spec.volumes)?;
    let missing = |what: &str| VolumeError::invalid("metadata", format!("has no {what}"));
    let name = vmi.metadata.name.as_deref().ok_or_else(|| missing("name"))?;
    let namespace = vmi.metadata.namespace.as_deref().ok_or_else(|| missing("namespace"))?;
    let uid = vmi.metadata.uid.as_deref().ok_or_else(|| missing("uid"))?;
    let state = std::path::absolute(&dirs.state)
        .map_err(VolumeError::file("find the directory", &dirs.state))?;
    let dirs = Dirs { state, images: dirs.images.clone() };
    let home = dirs.of_domain(&net::names::domain(namespace, name));
    take_over(&home, uid).await?;
    let work = Work { vmi, dirs: &dirs, home: &home, secrets };
    let mut files = Vec::new();
    for (at, volume) in vmi.spec.volumes.iter().enumerate() {
        files.push(work.volume(volume, &format!("spec.volumes[{at}]")).await?);
    }
    Ok(files)
}

/// On which unpacked image each disk of a domain lies, by volume: the name of its
/// directory, which is the digest of the image. Disks that lie on none are left out.
///
/// # Errors
/// `File`.
pub async fn images(domain: &str, dirs: &Dirs) -> Result<BTreeMap<String, String>, VolumeError> {
    let home = dirs.of_domain(domain);
    let mut images = BTreeMap::new();
    let mut files = match tokio::fs::read_dir(&home).await {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(images),
        Err(error) => return Err(VolumeError::file("read the directory", &home)(error)),
    };
    while let Some(file) = files.next_entry().await.map_err(VolumeError::file("read", &home))? {
        let path = file.path();
        if path.extension().is_none_or(|extension| extension != "qcow2") {
            continue;
        }
        let head = read_head(&path).await?;
        let base = qcow2::base(&head).and_then(|base| Path::new(base).parent()?.file_name());
        if let (Some(volume), Some(base)) = (path.file_stem(), base) {
            let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
            images.insert(text(volume), text(base));
        }
    }
    Ok(images)
}

/// The first cluster of a file: where `qemu-img` names what it lies on.
async fn read_head(path: &Path) -> Result<Vec<u8>, VolumeError> {
    const CLUSTER: u64 = 65_536;
    let file = tokio::fs::File::open(path).await.map_err(VolumeError::file("open", path))?;
    let mut head = Vec::new();
    let read = file.take(CLUSTER).read_to_end(&mut head).await;
    read.map_err(VolumeError::file("read", path))?;
    Ok(head)
}

/// Removes all files of a domain, those it did not know of included. Nothing
/// to remove is fine. Unpacked images stay for the next VM.
///
/// # Errors
/// `File`, and then some may be left.
pub async fn remove(domain: &str, dirs: &Dirs) -> Result<(), VolumeError> {
    remove_all(&dirs.of_domain(domain)).await
}

async fn remove_all(path: &Path) -> Result<(), VolumeError> {
    match tokio::fs::remove_dir_all(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(VolumeError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Names become file names, so they must be what Kubernetes allows.
fn check_names(volumes: &[Volume]) -> Result<(), VolumeError> {
    let mut names = BTreeSet::new();
    for (at, volume) in volumes.iter().enumerate() {
        let field = format!("spec.volumes[{at}].name");
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = &volume.name;
        if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
            let rule = "must be a DNS label: at most 63 of the characters a-z 0-9 -";
            return Err(VolumeError::invalid(field, rule));
        }
        if !names.insert(name) {
            let rule = format!("and another volume must not have the same Name '{name}'.");
            return Err(VolumeError::invalid(field, rule));
        }
    }
    Ok(())
}

/// Makes the directory the VMI's own: kept if it is, emptied if it was another's.
async fn take_over(home: &Path, uid: &str) -> Result<(), VolumeError> {
    let owner_file = home.join(UID_FILE);
    match tokio::fs::read_to_string(&owner_file).await {
        Ok(owner) if owner == uid => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(VolumeError::file("read", &owner_file)(error)),
    }
    remove_all(home).await?;
    let mut builder = tokio::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(home).await.map_err(VolumeError::file("make the directory", home))?;
    let partial = home.join("vmi-uid.partial");
    tokio::fs::write(&partial, uid).await.map_err(VolumeError::file("write", &partial))?;
    rename(&partial, &owner_file).await
}

async fn rename(from: &Path, to: &Path) -> Result<(), VolumeError> {
    tokio::fs::rename(from, to).await.map_err(VolumeError::file("move a file to", to))
}

/// What every kind of volume needs to be made.
struct Work<'a> {
    vmi: &'a VirtualMachineInstance,
    dirs: &'a Dirs,
    home: &'a Path,
    secrets: &'a Secrets,
}

impl Work<'_> {
    async fn volume(&self, volume: &Volume, field: &str) -> Result<DiskFile, VolumeError> {
        let name = &volume.name;
        let [source] = sources(volume)[..] else {
            let rule = "must have exactly one source type set";
            return Err(VolumeError::invalid(field, rule));
        };
        match source {
            Source::ContainerDisk(disk) => self.container_disk(name, disk, field).await,
            Source::EmptyDisk(disk) => self.empty_disk(name, disk, field).await,
            Source::CloudInit(kind, source) => {
                let field = format!("{field}.{}", kind.field());
                let files = cloud_init::files(self.vmi, kind, source, &field, self.secrets)?;
                self.iso(name, kind.label(), &files).await
            }
            Source::Secret(source) => {
                let files = self.secrets.files(source, &format!("{field}.secret"))?;
                let label = source.volume_label.as_deref().unwrap_or("cfgdata");
                self.iso(name, label, &files).await
            }
            Source::Other(kind) => {
                Err(VolumeError::NotSupported { field: field.to_owned(), kind: kind.to_owned() })
            }
        }
    }

    /// An overlay on the image's disk.
    async fn container_disk(
        &self,
        name: &str,
        disk: &ContainerDisk,
        field: &str,
    ) -> Result<DiskFile, VolumeError> {
        let (image, path) = (disk.image.clone(), disk.path.clone().filter(|path| !path.is_empty()));
        if image.is_empty() {
            let rule = "must not be empty";
            return Err(VolumeError::invalid(format!("{field}.containerDisk.image"), rule));
        }
        let dirs = self.dirs.clone();
        let unpacked =
            tokio::task::spawn_blocking(move || unpack::unpacked(&dirs, &image, path.as_deref()));
        let base = unpacked.await.expect("unpacking does not panic, and is never aborted")?;
        self.qcow2(name, Some(&base), None).await
    }

    async fn empty_disk(
        &self,
        name: &str,
        disk: &EmptyDisk,
        field: &str,
    ) -> Result<DiskFile, VolumeError> {
        let field = format!("{field}.emptyDisk.capacity");
        let wrong = |error| VolumeError::invalid(&field, format!("is wrong: {error}"));
        let bytes = disk.capacity.units().map_err(wrong)?;
        if bytes == 0 {
            return Err(VolumeError::invalid(&field, "must be greater than zero"));
        }
        self.qcow2(name, None, Some(bytes)).await
    }

    /// Makes a qcow2 file that is not there yet.
    async fn qcow2(
        &self,
        name: &str,
        base: Option<&unpack::Base>,
        bytes: Option<u64>,
    ) -> Result<DiskFile, VolumeError> {
        let path = self.home.join(format!("{name}.qcow2"));
        if !tokio::fs::try_exists(&path).await.map_err(VolumeError::file("look at", &path))? {
            let partial = self.home.join(format!("{name}.qcow2.partial"));
            let mut command = tokio::process::Command::new("qemu-img");
            command.args(["create", "-q", "-f", "qcow2"]);
            if let Some(base) = base {
                command.arg("-F").arg(base.format.name()).arg("-b").arg(&base.path);
            }
            command.arg(&partial).args(bytes.map(|bytes| bytes.to_string()));
            command::run("qemu-img", command).await?;
            rename(&partial, &path).await?;
        }
        Ok(DiskFile { volume: name.to_owned(), path, format: Format::Qcow2 })
    }

    async fn iso(
        &self,
        name: &str,
        label: &str,
        files: &[iso::File],
    ) -> Result<DiskFile, VolumeError> {
        let path = self.home.join(format!("{name}.iso"));
        iso::write(&path, label, files).await?;
        Ok(DiskFile { volume: name.to_owned(), path, format: Format::Raw })
    }
}

/// One source of a volume.
#[derive(Clone, Copy)]
enum Source<'a> {
    ContainerDisk(&'a ContainerDisk),
    EmptyDisk(&'a EmptyDisk),
    CloudInit(cloud_init::Kind, &'a CloudInit),
    Secret(&'a crds::kubevirt::FilesSource),
    /// Known to KubeVirt or to nobody.
    Other(&'a str),
}

fn sources(volume: &Volume) -> Vec<Source<'_>> {
    let others = [
        ("hostDisk", volume.host_disk.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("dataVolume", volume.data_volume.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("configMap", volume.config_map.is_some()),
    ];
    let others = others.into_iter().filter(|(_, set)| *set).map(|(kind, _)| kind);
    let unknown = volume.rest.keys().map(String::as_str);
    [
        volume.container_disk.as_ref().map(Source::ContainerDisk),
        volume.empty_disk.as_ref().map(Source::EmptyDisk),
        volume
            .cloud_init_no_cloud
            .as_ref()
            .map(|source| Source::CloudInit(cloud_init::Kind::NoCloud, source)),
        volume
            .cloud_init_config_drive
            .as_ref()
            .map(|source| Source::CloudInit(cloud_init::Kind::ConfigDrive, source)),
        volume.secret.as_ref().map(Source::Secret),
    ]
    .into_iter()
    .flatten()
    .chain(others.chain(unknown).map(Source::Other))
    .collect()
}

#[cfg(test)]
mod tests;
