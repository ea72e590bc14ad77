//! The files behind a VMI's disks: made before its domain starts, removed with it.
//!
//! ```text
//! <state-dir>/images/<digest>/disk.qcow2|disk.img   unpacked once, shared, read-only (`images`)
//! <state-dir>/vms/<domain>/vmi-uid                  whose files these are
//!                         /<volume>.qcow2           overlay, or empty disk
//!                         /<volume>.iso             cloud-init, small files
//!                         /kernel, /initrd          links to those of an image
//!                         /console.log              what the guest says (`consoles`)
//! ```
//!
//! Everything here lives as long as the VMI: [`prepare`] keeps what it finds of
//! the same uid, so that it may be repeated, and replaces what is left of
//! another. Each file appears by a rename, so none is ever half there.
//!
//! What is elsewhere is the user's (`raw`, `remote`): a hostDisk, and what is behind a claim. It
//! is made where it may be, and never removed.
//!
//! Secrets are written to files that only root reads; they appear neither in
//! arguments of the programs that are run nor in errors or logs.

pub(crate) mod claims;
mod cloud_init;
mod command;
mod error;
mod files;
mod images;
mod iscsi;
mod iso;
mod kernel;
mod layout;
mod nfs;
mod objects;
mod qcow2;
pub(crate) mod raw;
pub(crate) mod remote;
mod source;
mod ssh_keys;
mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crds::kubevirt::{ContainerDisk, EmptyDisk, HostDisk, VirtualMachineInstance, Volume, faults};

use self::claims::Backing;
pub use self::error::VolumeError;
pub use self::images::{Disk, Images, Pin, Policy, Settings, Wanted};
pub use self::kernel::{Kernel, kernel};
pub use self::objects::{API_AUTHORITY, Objects, References};
use self::remote::{Export, Target};
pub use self::remote::{Login, Portal, Remote};
use self::source::{Source, sources};

/// The file that holds the uid of the VMI a directory belongs to.
const UID_FILE: &str = "vmi-uid";

/// Where images come from and files go.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// The agent's `--state-dir`.
    pub state: PathBuf,
    /// Where the disks of images are, and come from.
    pub images: Images,
    /// The agent's `--host-disk-dir`: below these may a hostDisk be.
    pub host_disks: Vec<PathBuf>,
}

impl Dirs {
    /// The directory of one domain's files.
    #[must_use]
    pub fn of_domain(&self, domain: &str) -> PathBuf {
        self.state.join("vms").join(domain)
    }

    /// The directory of unpacked images.
    pub(crate) fn unpacked(&self) -> PathBuf {
        images::unpacked(&self.state)
    }
}

/// What is behind one volume.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiskFile {
    /// The volume's name in the spec.
    pub volume: String,
    /// Absolute; of one that lies on a server what that is called ([`Remote::name`]).
    pub path: PathBuf,
    pub format: Format,
    pub medium: Medium,
    /// Whether the guest may only read, whatever its disk says.
    pub read_only: bool,
}

impl DiskFile {
    /// A file that ends with the VMI.
    #[must_use]
    pub fn own(volume: &str, path: PathBuf, format: Format) -> Self {
        let (volume, medium) = (volume.to_owned(), Medium::Own);
        Self { volume, path, format, medium, read_only: false }
    }
}

impl DiskFile {
    /// A raw disk on a server.
    #[must_use]
    pub fn remote(volume: &str, remote: Remote, read_only: bool) -> Self {
        let (volume, path) = (volume.to_owned(), remote.name());
        let medium = Medium::Network(Box::new(remote));
        Self { volume, path, format: raw::FORMAT, medium, read_only }
    }

    /// The login by which it is reached, if there is one.
    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        match &self.medium {
            Medium::Network(remote) => match &**remote {
                Remote::Iscsi { login, .. } => login.as_ref(),
                Remote::Nfs { .. } => None,
            },
            Medium::Own | Medium::File { .. } | Medium::Device => None,
        }
    }
}

/// What a disk lies on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Medium {
    /// A file of ours, which ends with the VMI.
    Own,
    /// A file that stays; `direct`: it can be used past the host's page cache.
    File { direct: bool },
    /// A block device of the host.
    Device,
    /// A server.
    Network(Box<Remote>),
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
    objects: &Objects,
) -> Result<Vec<DiskFile>, VolumeError> {
    check(&vmi.spec.volumes)?;
    let missing = |what: &str| VolumeError::invalid("metadata", format!("has no {what}"));
    let name = vmi.metadata.name.as_deref().ok_or_else(|| missing("name"))?;
    let namespace = vmi.metadata.namespace.as_deref().ok_or_else(|| missing("namespace"))?;
    let uid = vmi.metadata.uid.as_deref().ok_or_else(|| missing("uid"))?;
    let state = std::path::absolute(&dirs.state)
        .map_err(VolumeError::file("find the directory", &dirs.state))?;
    let dirs = Dirs { state, ..dirs.clone() };
    let home = dirs.of_domain(&net::names::domain(namespace, name));
    take_over(&home, uid).await?;
    let work = Work { vmi, dirs: &dirs, home: &home, objects };
    let mut files = Vec::new();
    for (at, volume) in vmi.spec.volumes.iter().enumerate() {
        files.push(work.volume(volume, &format!("spec.volumes[{at}]")).await?);
    }
    work.kernel().await?;
    Ok(files)
}

/// The disk of one volume that lies on a claim, for a guest that runs already.
///
/// # Errors
/// See [`VolumeError`].
pub async fn of_claim(
    vmi: &VirtualMachineInstance,
    volume: &Volume,
    dirs: &Dirs,
    objects: &Objects,
) -> Result<DiskFile, VolumeError> {
    check(&vmi.spec.volumes)?;
    // Nothing is made there.
    let home = dirs.state.join("vms");
    let work = Work { vmi, dirs, home: &home, objects };
    work.volume(volume, &format!("volume {}", volume.name)).await
}

/// On which unpacked image each disk of a domain lies, by volume: the name of its
/// directory, which is the digest of the image. Disks that lie on none are left out.
///
/// # Errors
/// `File`.
pub async fn images(domain: &str, dirs: &Dirs) -> Result<BTreeMap<String, String>, VolumeError> {
    let (home, state) = (dirs.of_domain(domain), dirs.state.clone());
    blocking(move || {
        lies_on(&home, &images::unpacked(&state)).map_err(VolumeError::file("read", &home))
    })
    .await
}

/// The unpacked images that VMs of this node use, by the names of their directories.
fn in_use(state: &Path) -> io::Result<BTreeSet<String>> {
    let mut used = BTreeSet::new();
    let homes = match std::fs::read_dir(state.join("vms")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(used),
        homes => homes?,
    };
    let unpacked = images::unpacked(state);
    for home in homes {
        let home = home?.path();
        used.extend(lies_on(&home, &unpacked)?.into_values());
        for link in [kernel::KERNEL, kernel::INITRD] {
            let to = std::fs::read_link(home.join(link)).ok();
            used.extend(to.as_deref().and_then(|to| image_of(to, &unpacked)));
        }
    }
    Ok(used)
}

/// On which unpacked image each disk in a directory lies. Blocks.
fn lies_on(home: &Path, unpacked: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut images = BTreeMap::new();
    let files = match std::fs::read_dir(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(images),
        files => files?,
    };
    for file in files {
        let path = file?.path();
        if path.extension().is_none_or(|extension| extension != "qcow2") {
            continue;
        }
        let head = match read_head(&path) {
            // Its VM has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            head => head?,
        };
        let image = qcow2::base(&head).and_then(|base| image_of(Path::new(base), unpacked));
        if let (Some(volume), Some(image)) = (path.file_stem(), image) {
            images.insert(volume.to_string_lossy().into_owned(), image);
        }
    }
    Ok(images)
}

/// The directory of an unpacked image by a file in it.
fn image_of(file: &Path, unpacked: &Path) -> Option<String> {
    let directory = file.parent().filter(|directory| directory.starts_with(unpacked))?;
    Some(directory.file_name()?.to_string_lossy().into_owned())
}

/// The first cluster of a file: where `qemu-img` names what it lies on.
fn read_head(path: &Path) -> io::Result<Vec<u8>> {
    const CLUSTER: u64 = 65_536;
    let mut head = Vec::new();
    std::fs::File::open(path)?.take(CLUSTER).read_to_end(&mut head)?;
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

/// What admission refuses of volumes, where it is asked: among it their names, which become file
/// names.
fn check(volumes: &[Volume]) -> Result<(), VolumeError> {
    let causes = faults::of_volumes(volumes, "spec.volumes");
    let first = causes.into_iter().next();
    first.map_or(Ok(()), |cause| Err(VolumeError::Spec(cause.told())))
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

/// Whose files are in this directory: the uid of an instance. Blocks.
///
/// # Errors
/// Nobody's, or the disk.
pub(crate) fn uid_of(home: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(home.join(UID_FILE))
}

async fn rename(from: &Path, to: &Path) -> Result<(), VolumeError> {
    tokio::fs::rename(from, to).await.map_err(VolumeError::file("move a file to", to))
}

/// What every kind of volume needs to be made.
struct Work<'a> {
    vmi: &'a VirtualMachineInstance,
    dirs: &'a Dirs,
    home: &'a Path,
    objects: &'a Objects,
}

impl Work<'_> {
    /// Whether its guest comes from another node: what is not copied must be here, and an
    /// empty disk in its place would be what the running guest goes on with.
    fn comes(&self) -> bool {
        self.vmi.migration().is_some()
    }

    async fn volume(&self, volume: &Volume, field: &str) -> Result<DiskFile, VolumeError> {
        let name = &volume.name;
        let [source] = sources(volume)[..] else {
            let rule = "must have exactly one source type set";
            return Err(VolumeError::invalid(field, rule));
        };
        let place = |kind| Kind { volume: name, field: format!("{field}.{kind}") };
        match source {
            Source::ContainerDisk(disk) => self.container_disk(name, disk, field).await,
            Source::EmptyDisk(disk) => self.empty_disk(name, disk, field).await,
            Source::CloudInit(kind, source) => {
                let field = format!("{field}.{}", kind.field());
                let files = cloud_init::files(self.vmi, kind, source, &field, self.objects)?;
                self.iso(name, kind.label(), &files).await
            }
            Source::HostDisk(disk) => self.host_disk(name, disk, field).await,
            Source::Claim { claim, field: kind, read_only } => {
                let field = format!("{field}.{kind}");
                let disk = self.claim(name, claim, true, &field).await?;
                Ok(DiskFile { read_only: read_only || disk.read_only, ..disk })
            }
            Source::Ephemeral(claim) => {
                let field = format!("{field}.ephemeral.persistentVolumeClaim.claimName");
                let below = self.claim(name, claim, false, &field).await?;
                if matches!(below.medium, Medium::Network(_)) {
                    let rule = "is of a claim on a server, over which no layer is made: use the \
                                claim itself, or a copy of it";
                    return Err(VolumeError::invalid(field, rule));
                }
                self.qcow2(name, Some((&below.path, below.format)), None).await
            }
            Source::ConfigMap(source) => {
                let disc = files::config_map(source, self.objects, place("configMap").at())?;
                self.disc(name, disc).await
            }
            Source::Secret(source) => {
                let disc = files::secret(source, self.objects, place("secret").at())?;
                self.disc(name, disc).await
            }
            Source::DownwardApi(source) => {
                let disc = files::downward_api(self.vmi, source, place("downwardAPI").at())?;
                self.disc(name, disc).await
            }
            Source::ServiceAccount(source) => {
                let namespace = self.vmi.metadata.namespace.as_deref().unwrap_or_default();
                let place = place("serviceAccount");
                let disc = files::service_account(source, namespace, self.objects, place.at())?;
                self.disc(name, disc).await
            }
            Source::Sysprep(source) => {
                let disc = files::sysprep(source, self.objects, place("sysprep").at())?;
                self.disc(name, disc).await
            }
            Source::Other(kind) => {
                Err(VolumeError::NotSupported { field: field.to_owned(), kind: kind.to_owned() })
            }
        }
    }

    async fn disc(&self, name: &str, (label, files): files::Disc) -> Result<DiskFile, VolumeError> {
        self.iso(name, &label, &files).await
    }

    /// A file of the host.
    async fn host_disk(
        &self,
        name: &str,
        disk: &HostDisk,
        field: &str,
    ) -> Result<DiskFile, VolumeError> {
        let field = |of: &str| format!("{field}.hostDisk.{of}");
        let path = PathBuf::from(&disk.path);
        if !path.is_absolute() || path.components().any(|part| part.as_os_str() == "..") {
            let rule = "must be an absolute path without '..'";
            return Err(VolumeError::invalid(field("path"), rule));
        }
        let bytes = capacity(disk, &field)?.filter(|_| !self.comes());
        let (volume, allowed) = (name.to_owned(), self.dirs.host_disks.clone());
        let shown = field("path");
        let found = blocking(move || {
            let real = raw::confined(&path, &allowed)
                .map_err(VolumeError::file("find", &path))?
                .ok_or_else(|| VolumeError::invalid(shown, not_allowed(&allowed)))?;
            let (path, make_directory) = (real.clone(), bytes.is_some());
            let wanted = raw::Wanted { volume, path, bytes, make_directory, was_there: false };
            Ok((wanted.made()?, real))
        });
        let (medium, path) = found.await?;
        let volume = name.to_owned();
        Ok(DiskFile { volume, path, format: raw::FORMAT, medium, read_only: false })
    }

    /// What is behind a claim; `make`: a disk that is not there yet is made.
    async fn claim(
        &self,
        name: &str,
        claim: &str,
        make: bool,
        field: &str,
    ) -> Result<DiskFile, VolumeError> {
        if claim.is_empty() {
            return Err(VolumeError::invalid(field, "is a required field"));
        }
        let not_found = || VolumeError::ClaimNotFound(claim.to_owned());
        let (claim, volume) = self.objects.claim(claim).ok_or_else(not_found)?;
        if let Some(problem) = claims::unfilled(claim) {
            return Err(VolumeError::mount(name, problem));
        }
        let backing = claims::backing(claim, volume);
        let backing = backing.map_err(|problem| VolumeError::mount(name, problem))?;
        let was_there = claims::had_disk(claim);
        let make = make && !self.comes();
        let volume = name.to_owned();
        let (path, medium) = match backing {
            Backing::Device(path) => {
                blocking(move || Ok((raw::device(&volume, &path)?, Medium::Device))).await?
            }
            Backing::Directory { path, make: make_directory, bytes } => {
                let path = path.join(raw::DISK_FILE);
                let (bytes, make_directory) = (make.then_some(bytes), make_directory && make);
                let wanted = raw::Wanted { volume, path, bytes, make_directory, was_there };
                blocking(move || Ok((wanted.path.clone(), wanted.made()?))).await?
            }
            Backing::Export { export, bytes } => {
                let bytes = make.then_some(bytes);
                return self.of_export(name, &export, bytes, was_there).await;
            }
            Backing::Target(target) => return self.of_target(name, &target).await,
        };
        let volume = name.to_owned();
        Ok(DiskFile { volume, path, format: raw::FORMAT, medium, read_only: false })
    }

    /// The disk in a directory of an NFS server.
    async fn of_export(
        &self,
        name: &str,
        export: &Export,
        bytes: Option<u64>,
        was_there: bool,
    ) -> Result<DiskFile, VolumeError> {
        let remote = export.disk();
        let found = nfs::disk(export, bytes.filter(|_| !was_there)).await;
        found.map_err(|problem| {
            let is_gone = was_there && problem.ends_with(nfs::NO_DISK);
            let gone = || raw::gone(&remote.name().display().to_string());
            VolumeError::mount(name, if is_gone { gone() } else { problem })
        })?;
        Ok(DiskFile::remote(name, remote, export.read_only))
    }

    /// A disk of an iSCSI server.
    async fn of_target(&self, name: &str, target: &Target) -> Result<DiskFile, VolumeError> {
        let wrong = |problem: String| VolumeError::mount(name, problem);
        let login = target.secret.as_ref().map(|(namespace, secret)| {
            let shown = format!("secret {secret:?} of namespace {namespace:?}");
            let values = self.objects.login(namespace, secret);
            let values = values.ok_or_else(|| wrong(format!("{shown} not found")))?;
            // The same on every node, so that a guest that moves finds it there.
            let uid = self.vmi.metadata.uid.as_deref().unwrap_or_default();
            let known = format!("{uid}/{name}");
            let known = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, known.as_bytes());
            remote::login(values, known).map_err(|why| wrong(format!("{shown} {why}")))
        });
        let remote = iscsi::find(target, login.transpose()?).await.map_err(wrong)?;
        Ok(DiskFile::remote(name, remote, target.read_only))
    }

    /// An overlay on the image's disk.
    async fn container_disk(
        &self,
        name: &str,
        disk: &ContainerDisk,
        field: &str,
    ) -> Result<DiskFile, VolumeError> {
        let field = format!("{field}.containerDisk");
        if disk.image.is_empty() {
            return Err(VolumeError::invalid(format!("{field}.image"), "must not be empty"));
        }
        let policy = policy(disk.image_pull_policy.as_deref(), &field)?;
        // What its name means now may be another image than the one that the disk lies on.
        let path = self.home.join(format!("{name}.qcow2"));
        if tokio::fs::try_exists(&path).await.map_err(VolumeError::file("look at", &path))? {
            return Ok(DiskFile::own(name, path, Format::Qcow2));
        }
        let below = disk.path.as_deref().filter(|path| !path.is_empty());
        let disk = self.of_image(&disk.image, below, policy).await?;
        self.qcow2(name, Some((&disk.path, disk.format)), None).await
    }

    /// The file in an image, which stays for as long as what is returned is held.
    async fn of_image(
        &self,
        image: &str,
        path: Option<&str>,
        policy: Policy,
    ) -> Result<Disk, VolumeError> {
        let holder = self.vmi.metadata.uid.as_deref().unwrap_or_default();
        let keyring = self.objects.keyring();
        let wanted = Wanted { image, path, policy, keyring, holder, way: None };
        self.dirs.images.disk(&wanted).await
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
        base: Option<(&Path, Format)>,
        bytes: Option<u64>,
    ) -> Result<DiskFile, VolumeError> {
        let path = self.home.join(format!("{name}.qcow2"));
        if !tokio::fs::try_exists(&path).await.map_err(VolumeError::file("look at", &path))? {
            let partial = self.home.join(format!("{name}.qcow2.partial"));
            let mut command = tokio::process::Command::new("qemu-img");
            command.args(["create", "-q", "-f", "qcow2"]);
            if let Some((path, format)) = base {
                command.arg("-F").arg(format.name()).arg("-b").arg(path);
            }
            command.arg(&partial).args(bytes.map(|bytes| bytes.to_string()));
            command::run("qemu-img", command).await?;
            rename(&partial, &path).await?;
        }
        Ok(DiskFile::own(name, path, Format::Qcow2))
    }

    async fn iso(
        &self,
        name: &str,
        label: &str,
        files: &[iso::File],
    ) -> Result<DiskFile, VolumeError> {
        let path = self.home.join(format!("{name}.iso"));
        iso::write(&path, label, files).await?;
        Ok(DiskFile::own(name, path, Format::Raw))
    }
}

fn policy(text: Option<&str>, field: &str) -> Result<Policy, VolumeError> {
    Policy::parse(text)
        .map_err(|rule| VolumeError::invalid(format!("{field}.imagePullPolicy"), rule))
}

/// A volume and the field of its kind.
struct Kind<'a> {
    volume: &'a str,
    field: String,
}

impl Kind<'_> {
    fn at(&self) -> files::Place<'_> {
        files::Place { volume: self.volume, field: &self.field }
    }
}

/// The size of a hostDisk that may have to be made, in bytes; none if it must be there.
fn capacity(disk: &HostDisk, field: &impl Fn(&str) -> String) -> Result<Option<u64>, VolumeError> {
    let bytes = disk.capacity.as_ref().map(crds::kubevirt::Quantity::units).transpose();
    let bytes = bytes
        .map_err(|error| VolumeError::invalid(field("capacity"), format!("is wrong: {error}")))?;
    match (disk.r#type.as_str(), bytes.filter(|bytes| *bytes > 0)) {
        ("DiskOrCreate", None) => {
            let rule = "is required where type is 'DiskOrCreate'";
            Err(VolumeError::invalid(field("capacity"), rule))
        }
        (_, bytes) => Ok(bytes),
    }
}

/// Why a hostDisk may not be where it is to be.
fn not_allowed(allowed: &[PathBuf]) -> String {
    let below = allowed.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    if below.is_empty() {
        return "cannot be used: HostDisk feature gate is not enabled: start the node's agent \
                with --host-disk-dir and a directory"
            .to_owned();
    }
    format!("lies in none of the directories that are for hostDisks: {}", below.join(", "))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.expect("it does not panic, and is never aborted")
}

#[cfg(test)]
mod tests;
