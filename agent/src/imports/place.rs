//! Where a claim's disk goes, and where what is not yet one lies.
//!
//! | behind the claim | what is unfinished | the disk appears |
//! |---|---|---|
//! | a directory | in it, under a name of its own | by a rename |
//! | a device | in the agent's state directory | once the claim says that it is filled |

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::fault::Fault;
use super::image;
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
    /// What is not finished; nobody else's.
    scratch: PathBuf,
    /// How large the disk may be.
    pub(super) room: u64,
}

#[derive(Debug)]
enum Target {
    Directory { path: PathBuf, make: bool },
    Device(PathBuf),
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
        let name = format!("{UNFINISHED}{uid}");
        Ok(match found {
            Backing::Directory { path, make, bytes } => {
                let (scratch, room) = (path.join(name), bytes / ALIGNMENT * ALIGNMENT);
                Self { target: Target::Directory { path, make }, scratch, room }
            }
            Backing::Device(path) => {
                let scratch = of_devices(state).join(name);
                let room = size_of(&path).map_err(Fault::passing(path.display()))?;
                Self { target: Target::Device(path), scratch, room }
            }
        })
    }

    /// The disk, if it is a file that is there.
    pub(super) fn disk(&self) -> PathBuf {
        match &self.target {
            Target::Directory { path, .. } => path.join(DISK_FILE),
            Target::Device(path) => path.clone(),
        }
    }

    /// What came from elsewhere, as it came.
    pub(super) fn source(&self) -> PathBuf {
        self.scratch.join("source")
    }

    /// The disk that is being made.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.scratch.join("disk")
    }

    pub(super) const fn is_device(&self) -> bool {
        matches!(self.target, Target::Device(_))
    }

    /// Throws away what an earlier attempt left, and makes room for this one. Blocks.
    pub(super) fn begin(&self) -> Result<(), Fault> {
        if let Target::Directory { path, make } = &self.target {
            if *make {
                let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
                made.map_err(Fault::passing(path.display()))?;
            }
            let there = std::fs::read_dir(path).map_err(Fault::passing(path.display()))?;
            for one in there.flatten() {
                if one.file_name().to_string_lossy().starts_with(UNFINISHED) {
                    discard(&one.path())?;
                }
            }
        }
        discard(&self.scratch)?;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.scratch);
        made.map_err(Fault::passing(self.scratch.display()))
    }

    /// Makes the unfinished disk the claim's. Blocks.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        match &self.target {
            Target::Directory { path, .. } => {
                image::settle(&self.unfinished(), self.room)?;
                std::fs::rename(self.unfinished(), path.join(DISK_FILE))?;
                std::fs::File::open(path)?.sync_all()?;
            }
            Target::Device(device) => image::onto_device(&self.unfinished(), device)?,
        }
        Ok(discard(&self.scratch)?)
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
    use std::os::unix::fs::FileTypeExt as _;
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
        let place = place(&dir);
        assert_eq!(place.room, 2 << 20);
        place.begin().unwrap();
        std::fs::write(place.source(), b"half").unwrap();
        place.begin().unwrap();
        assert!(!place.source().exists() && !earlier.exists(), "each attempt begins with nothing");
        std::fs::write(place.unfinished(), b"boot").unwrap();
        assert!(!place.disk().exists());
        place.finish().unwrap();
        let disk = std::fs::read(place.disk()).unwrap();
        assert!(disk.starts_with(b"boot") && disk.len() == 2 << 20);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "nothing else is left");
    }
}
