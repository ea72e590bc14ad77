//! Where a claim's disk goes, and where what is not yet one lies.
//!
//! | behind the claim | what is unfinished | the disk appears |
//! |---|---|---|
//! | a directory | in it, under a name of its own | by a rename |
//! | a device | in the agent's state directory | once the claim says that it is filled |
//!
//! Whoever else has the directory of a claim, such as a pod, may put anything there at any time. So
//! the directory and ours in it are held open, by what they are, and all that is done there goes
//! by these: a link in the place of either leads nobody anywhere. What is opened in them is no link.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::cut::Cut;
use super::fault::Fault;
use super::{image, zeroes};
use crate::volumes::claims::{Backing, backing};
use crate::volumes::raw::DISK_FILE;

/// What the names of directories of unfinished disks begin with.
const UNFINISHED: &str = ".berth-import-";

/// Sizes of disks are multiples of it.
const ALIGNMENT: u64 = 1 << 20;

/// Where a disk goes.
#[derive(Debug)]
pub(super) struct Place {
    target: Target,
    /// How the name of what is not finished begins; nobody else's.
    scratch: String,
    /// Once it has begun.
    held: Option<Held>,
    /// How large the disk may be.
    pub(super) room: u64,
}

#[derive(Debug)]
enum Target {
    Directory {
        path: PathBuf,
        make: bool,
    },
    /// What is not finished lies in the other directory.
    Device(PathBuf, PathBuf),
}

/// The directory in which what is not finished lies, and that one: both open.
#[derive(Debug)]
struct Held {
    directory: File,
    scratch: File,
    /// What the second is called in the first; no other attempt's is.
    name: String,
}

impl Held {
    fn discard(&self) -> io::Result<()> {
        discard(&way(&self.directory).join(&self.name))
    }
}

/// What is not finished ends with who was at it.
impl Drop for Held {
    fn drop(&mut self) {
        let Ok(directory) = self.directory.try_clone() else { return };
        let name = std::mem::take(&mut self.name);
        let discard = move || {
            let path = way(&directory).join(name);
            if let Err(error) = discard(&path) {
                tracing::warn!(%error, "What is left of an unfinished import cannot be removed");
            }
        };
        // A large file takes its time, and this may be a thread that others wait for.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(discard)),
            Err(_) => discard(),
        }
    }
}

/// The way to what is open, whatever has been put where it was.
fn way(open: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()))
}

/// Opens a directory; `at`: the last part of its name is no link.
fn open(directory: &Path, no_link: bool) -> io::Result<File> {
    let link = if no_link { nix::libc::O_NOFOLLOW } else { 0 };
    File::options().read(true).custom_flags(nix::libc::O_DIRECTORY | link).open(directory)
}

/// Opens a file that is there, for reading: no link, no pipe that would be waited for.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let fixed = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(fixed).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    Ok(file)
}

impl Place {
    /// What is behind a claim of this uid.
    pub(super) fn of(
        claim: &PersistentVolumeClaim,
        volume: Option<&PersistentVolume>,
        state: &Path,
        uid: &str,
    ) -> Result<Self, Fault> {
        let found = backing(claim, volume).map_err(Fault::Passing)?;
        let scratch = format!("{UNFINISHED}{uid}");
        let (target, room) = match found {
            Backing::Directory { path, make, bytes } => {
                (Target::Directory { path, make }, bytes / ALIGNMENT * ALIGNMENT)
            }
            Backing::Device(path) => {
                let room = size_of(&path).map_err(Fault::passing(path.display()))?;
                (Target::Device(path, of_devices(state)), room)
            }
            Backing::Export { .. } | Backing::Target(_) => {
                let why = "a volume on a server is not filled without CDI: use one of hostPath or \
                           local, or put the disk there yourself and use the claim as it is";
                return Err(Fault::Final(why.to_owned()));
            }
        };
        Ok(Self { target, scratch, held: None, room })
    }

    /// The disk that is there, to be read. Blocks.
    pub(super) fn read(&self) -> Result<File, Fault> {
        let (path, opened) = match &self.target {
            Target::Directory { path, .. } => {
                let path = path.join(DISK_FILE);
                let opened = open_file(&path);
                (path, opened)
            }
            // An administrator's word, by whatever links.
            Target::Device(path, _) => (path.clone(), File::open(path)),
        };
        opened.map_err(Fault::passing(path.display()))
    }

    /// What came from elsewhere, as it came. Nowhere before it has begun.
    pub(super) fn source(&self) -> PathBuf {
        self.unfinished_part("source")
    }

    /// The disk that is being made. Nowhere before it has begun.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.unfinished_part("disk")
    }

    fn unfinished_part(&self, name: &str) -> PathBuf {
        let way = self.held.as_ref().map(|held| way(&held.scratch));
        way.unwrap_or_else(|| PathBuf::from("/nonexistent")).join(name)
    }

    /// The device, if it is one.
    pub(super) fn device(&self) -> Option<&Path> {
        match &self.target {
            Target::Device(path, _) => Some(path),
            Target::Directory { .. } => None,
        }
    }

    /// Throws away what an earlier attempt left, and makes room for this one. Blocks.
    pub(super) fn begin(&mut self) -> Result<(), Fault> {
        let (path, mode) = match &self.target {
            Target::Directory { path, make } => (path, make.then_some(0o755)),
            Target::Device(_, state) => (state, Some(0o700)),
        };
        if let Some(mode) = mode {
            let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
            made.map_err(Fault::passing(path.display()))?;
        }
        let directory = open(path, false).map_err(|error| self.not_there(&error))?;
        let here = way(&directory);
        if self.device().is_none() {
            let there = std::fs::read_dir(&here).map_err(Fault::passing(path.display()))?;
            for one in there.flatten() {
                if one.file_name().to_string_lossy().starts_with(UNFINISHED) {
                    discard(&here.join(one.file_name()))?;
                }
            }
        }
        static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{}", self.scratch, ATTEMPTS.fetch_add(1, Ordering::Relaxed));
        let (scratch, shown) = (here.join(&name), path.join(&name));
        // Of an agent that was killed.
        discard(&scratch)?;
        let make = || {
            std::fs::DirBuilder::new().mode(0o700).create(&scratch)?;
            let scratch = open(&scratch, true)?;
            let found = scratch.metadata()?;
            let is_ours = found.uid() == nix::unistd::geteuid().as_raw();
            if !is_ours || found.mode() & 0o077 != 0 {
                return Err(io::Error::other("somebody else has made it"));
            }
            Ok(scratch)
        };
        let scratch = make().map_err(Fault::passing(shown.display()))?;
        self.held = Some(Held { directory, scratch, name });
        Ok(())
    }

    /// The directory of a volume that somebody prepares is not made in his place: what is not
    /// mounted would be filled on another disk.
    fn not_there(&self, error: &io::Error) -> Fault {
        match &self.target {
            Target::Directory { path, make: false } if error.kind() == io::ErrorKind::NotFound => {
                Fault::Passing(format!(
                    "{} is not there: make the directory of the volume, or mount it",
                    path.display()
                ))
            }
            Target::Directory { path, .. } | Target::Device(_, path) => {
                Fault::Passing(format!("{}: {error}", path.display()))
            }
        }
    }

    fn held(&self) -> Result<&Held, Fault> {
        self.held.as_ref().ok_or_else(|| Fault::Passing("it has not begun".to_owned()))
    }

    /// Makes the unfinished disk the claim's. Blocks.
    pub(super) fn finish(&self, cut: &Cut) -> Result<(), Fault> {
        let held = self.held()?;
        match &self.target {
            Target::Directory { .. } => {
                image::settle(&self.unfinished(), self.room)?;
                cut.check()?;
                let directory = way(&held.directory);
                std::fs::rename(self.unfinished(), directory.join(DISK_FILE))?;
                held.directory.sync_all()?;
            }
            Target::Device(device, _) => image::onto_device(&self.unfinished(), device, cut)?,
        }
        self.end()
    }

    /// Makes an empty disk the claim's. Blocks.
    pub(super) fn finish_blank(&self, cut: &Cut) -> Result<(), Fault> {
        match &self.target {
            Target::Directory { .. } => {
                File::create_new(self.unfinished())?;
                self.finish(cut)
            }
            // What was on it is none of its new owner's.
            Target::Device(device, _) => {
                let device = File::options().write(true).open(device)?;
                zeroes::zero(&device, 0, self.room, cut)?;
                device.sync_all()?;
                self.end()
            }
        }
    }

    fn end(&self) -> Result<(), Fault> {
        Ok(self.held()?.discard()?)
    }
}

/// Where what is unfinished of devices lies.
fn of_devices(state: &Path) -> PathBuf {
    state.join("imports")
}

/// Removes what killed jobs left of devices.
pub(super) async fn discard_all(state: &Path) {
    let path = of_devices(state);
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || discard(&path)).await {
        tracing::warn!(%error, "What is left of unfinished imports cannot be removed");
    }
}

fn discard(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn size_of(device: &Path) -> io::Result<u64> {
    use std::io::{Seek as _, SeekFrom};
    let is_device = std::fs::metadata(device)?.file_type().is_block_device();
    if !is_device {
        return Err(io::Error::other("it is not a block device"));
    }
    std::fs::File::open(device)?.seek(SeekFrom::End(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place(dir: &Path) -> Place {
        let claim = serde_json::from_value(json!({
            "metadata": {"name": "root", "uid": "c1"}, "spec": {"volumeName": "pv"},
            "status": {"phase": "Bound", "capacity": {"storage": "3000Ki"}},
        }))
        .unwrap();
        let volume = serde_json::from_value(json!({
            "metadata": {"name": "pv"},
            "spec": {"hostPath": {"path": dir, "type": ""}, "claimRef": {"uid": "c1"}},
        }))
        .unwrap();
        Place::of(&claim, Some(&volume), Path::new("/nonexistent"), "c1").unwrap()
    }

    #[test]
    fn a_disk_appears_whole_and_what_was_unfinished_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("new");
        let earlier = dir.join(".berth-import-c0");
        std::fs::create_dir_all(&earlier).unwrap();
        let mut place = place(&dir);
        assert_eq!(place.room, 2 << 20);
        place.begin().unwrap();
        std::fs::write(place.source(), b"half").unwrap();
        place.begin().unwrap();
        assert!(!place.source().exists() && !earlier.exists(), "each attempt begins with nothing");
        std::fs::write(place.unfinished(), b"boot").unwrap();
        place.read().unwrap_err();
        place.finish(&Cut::default()).unwrap();
        let disk = std::fs::read(dir.join(DISK_FILE)).unwrap();
        assert!(disk.starts_with(b"boot") && disk.len() == 2 << 20);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn links_that_others_put_into_the_directory_lead_nowhere() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let (dir, outside) = (root.path().join("claim"), root.path().join("host"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), b"kept").unwrap();
        // Before it begins: what is there goes, and not what it leads to.
        symlink(&outside, dir.join(".berth-import-c1")).unwrap();
        symlink(outside.join("disk"), dir.join(DISK_FILE)).unwrap();
        let mut place = place(&dir);
        place.begin().unwrap();
        // Meanwhile: in the place of our own directory.
        let scratch = dir.join(&place.held.as_ref().unwrap().name);
        std::fs::rename(&scratch, dir.join("moved")).unwrap();
        symlink(&outside, &scratch).unwrap();
        std::fs::write(place.source(), b"boot").unwrap();
        // Meanwhile: in the place of a file of ours.
        let secret = root.path().join("secret");
        std::fs::write(&secret, b"secret").unwrap();
        std::fs::remove_file(place.source()).unwrap();
        symlink(&secret, place.source()).unwrap();
        assert!(open_file(&place.source()).is_err(), "a link was followed");
        symlink(outside.join("made"), place.unfinished()).unwrap();
        assert!(File::create_new(place.unfinished()).is_err(), "a link was followed");
        assert!(place.finish(&Cut::default()).is_err(), "a link was made a disk");
        std::fs::remove_file(place.unfinished()).unwrap();
        std::fs::write(place.unfinished(), b"boot").unwrap();
        place.finish(&Cut::default()).unwrap();
        let left: Vec<_> = std::fs::read_dir(&outside).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let disk = std::fs::symlink_metadata(dir.join(DISK_FILE)).unwrap();
        assert!(disk.is_file() && disk.len() == 2 << 20);
        assert_eq!(std::fs::read(secret).unwrap(), b"secret");
    }

    #[test]
    fn a_disk_of_which_nobody_waits_does_not_appear() {
        let root = tempfile::tempdir().unwrap();
        let mut place = place(root.path());
        place.begin().unwrap();
        std::fs::write(place.unfinished(), b"boot").unwrap();
        let cut = Cut::dropped();
        assert!(matches!(place.finish(&cut), Err(Fault::Over)));
        drop(place);
        let left = std::fs::read_dir(root.path()).unwrap().count();
        assert_eq!(left, 0, "neither a disk, nor what was to be one");
    }

    #[test]
    fn the_directory_of_a_volume_that_somebody_prepares_is_not_made() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("not-mounted");
        let mut place = place(&dir);
        place.target = Target::Directory { path: dir.clone(), make: false };
        let told = place.begin().unwrap_err().to_string();
        assert!(told.contains("or mount it") && !dir.exists(), "{told}");
    }
}
