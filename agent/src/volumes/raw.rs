//! Raw disks that outlive the VMI: a file of the host, or the `disk.img` of a claim.
//!
//! They are the user's. What is there is never made smaller, emptied or removed; what is
//! not there is made sparse, of the size asked for, or a little less where the file system
//! has no room for more. A file of no bytes is one whose maker was killed, and is made.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crds::cdi::notes::DISK_MADE;
use nix::libc;
use nix::sys::statvfs::statvfs;

use super::{Format, Medium, VolumeError};

/// Bytes of a file system that a new disk leaves free (KubeVirt's `minimumReservePVCBytes`).
const RESERVE: u64 = 131_072;

/// Whoever else may write to the directory may have put something else there meanwhile: a
/// link is not followed, a pipe not waited for.
const FIXED: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK;

/// By how many hundredths a disk may be smaller than asked for (KubeVirt's
/// `pvcTolerateLessSpaceUpToPercent`).
const TOLERANCE: u64 = 10;

/// Sizes are multiples of it.
const ALIGNMENT: u64 = 1 << 20;

/// The file of a disk in the directory of a claim, as KubeVirt has it.
pub(crate) const DISK_FILE: &str = "disk.img";

/// What such a file is, whatever it begins with: what the guest writes at its beginning
/// must not make QEMU open other files of the host.
pub(super) const FORMAT: Format = Format::Raw;

/// One file that is a disk, or is to be.
pub(super) struct Wanted {
    /// Of which volume, for errors.
    pub(super) volume: String,
    pub(super) path: PathBuf,
    /// The size of one that is not there; none if it must be.
    pub(super) bytes: Option<u64>,
    /// Whether its directory is made, too.
    pub(super) make_directory: bool,
    /// Whether it has been there before: then it is not made anew.
    pub(super) was_there: bool,
}

impl Wanted {
    /// Makes what is missing, and tells what it is. Blocks.
    pub(super) fn made(&self) -> Result<Medium, VolumeError> {
        let length = match fs::symlink_metadata(&self.path) {
            Ok(found) if found.is_file() => Some(found.len()),
            // A link may lead anywhere on the host.
            Ok(_) => return Err(self.problem("is not a file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(VolumeError::file("look at", &self.path)(error)),
        };
        match (length, self.bytes.filter(|_| !self.was_there)) {
            (None, None) if self.was_there => {
                let problem = gone(&self.path.display().to_string());
                return Err(VolumeError::mount(&self.volume, problem));
            }
            (None, None) => return Err(self.problem("is not a file")),
            (None | Some(0), Some(bytes)) => self.make(bytes)?,
            (Some(_), _) => {}
        }
        Ok(Medium::File { direct: is_direct(&self.path)? })
    }

    fn make(&self, bytes: u64) -> Result<(), VolumeError> {
        let directory = self.path.parent().unwrap_or_else(|| Path::new("/"));
        if self.make_directory {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(directory);
            made.map_err(VolumeError::file("make the directory", directory))?;
        } else if !directory.is_dir() {
            let problem =
                format!("hostPath type check failed: {} is not a directory", directory.display());
            return Err(VolumeError::mount(&self.volume, problem));
        }
        let room = statvfs(directory)
            .map(|room| room.blocks_available().saturating_mul(room.fragment_size()))
            .map_err(|errno| VolumeError::file("measure", directory)(errno.into()))?;
        let size = size(bytes, room.saturating_sub(RESERVE)).map_err(|room| {
            let problem = no_room(&self.path.display().to_string(), bytes, room);
            VolumeError::mount(&self.volume, problem)
        })?;
        let make = || {
            let mut options = File::options();
            options.write(true).create(true).truncate(false).mode(0o660);
            let file = options.custom_flags(FIXED).open(&self.path)?;
            file.set_len(size)?;
            file.sync_all()?;
            File::open(directory)?.sync_all()
        };
        make().map_err(VolumeError::file("make the disk", &self.path))?;
        tracing::info!(path = %self.path.display(), bytes = size, "Made a disk that stays");
        Ok(())
    }

    fn problem(&self, what: &str) -> VolumeError {
        let path = self.path.display();
        VolumeError::mount(&self.volume, format!("hostPath type check failed: {path} {what}"))
    }
}

/// Said of a disk that was made and is not there.
pub(super) fn gone(path: &str) -> String {
    format!(
        "{path} is not there, and this claim had one: mount its volume, or put it back. To begin \
         with an empty disk take the annotation {DISK_MADE} off the claim"
    )
}

/// Said of a disk for which there is no room, in KubeVirt's words.
pub(super) fn no_room(path: &str, bytes: u64, room: u64) -> String {
    format!(
        "unable to create {path}, not enough space, demanded size {bytes} B is bigger than \
         available space {room} B, also after taking {TOLERANCE} % toleration into account"
    )
}

/// The size of a new disk where `wanted` bytes are asked for and so many are free; the
/// latter if it is too few.
pub(super) fn size(wanted: u64, room: u64) -> Result<u64, u64> {
    let least = wanted / 100 * (100 - TOLERANCE);
    let size = wanted.min(room);
    if size < least || size < ALIGNMENT {
        return Err(room);
    }
    Ok(size / ALIGNMENT * ALIGNMENT)
}

/// Whether QEMU can read and write it past the host's page cache.
fn is_direct(path: &Path) -> Result<bool, VolumeError> {
    match File::options().read(true).custom_flags(libc::O_DIRECT | FIXED).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(VolumeError::file("open", path)(error)),
    }
}

/// The block device at `path`, by its own name. Blocks.
pub(super) fn device(volume: &str, path: &Path) -> Result<PathBuf, VolumeError> {
    let real = fs::canonicalize(path).map_err(VolumeError::file("find the device", path))?;
    let kind = fs::metadata(&real).map_err(VolumeError::file("look at", &real))?.file_type();
    if !kind.is_block_device() {
        let problem = format!(
            "{} is not a block device: name one in its persistent volume, or leave out \
             volumeMode: Block",
            path.display()
        );
        return Err(VolumeError::mount(volume, problem));
    }
    Ok(real)
}

/// The real path of `path`, which need not be there yet, if it lies below one of these
/// directories whatever links lead to it. Blocks.
pub(super) fn confined(path: &Path, allowed: &[PathBuf]) -> io::Result<Option<PathBuf>> {
    let mut missing = Vec::new();
    let mut there = path;
    let real = loop {
        match fs::canonicalize(there) {
            Ok(real) => break real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (Some(name), Some(parent)) = (there.file_name(), there.parent()) else {
                    return Err(error);
                };
                if fs::symlink_metadata(there).is_ok() {
                    // A link to what is not there.
                    return Ok(None);
                }
                missing.push(name);
                there = parent;
            }
            Err(error) => return Err(error),
        }
    };
    let real = missing.into_iter().rev().fold(real, |real, name| real.join(name));
    let below = |directory: &PathBuf| {
        fs::canonicalize(directory).is_ok_and(|directory| real.starts_with(directory))
    };
    Ok(allowed.iter().any(below).then_some(real))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_as_large_as_asked_for_or_a_little_smaller_where_there_is_no_room() {
        const MIB: u64 = 1 << 20;
        assert_eq!(size(100 * MIB, 1000 * MIB), Ok(100 * MIB));
        assert_eq!(size(100 * MIB + 5, 1000 * MIB), Ok(100 * MIB));
        assert_eq!(size(100 * MIB, 95 * MIB + 7), Ok(95 * MIB));
        assert_eq!(size(100 * MIB, 80 * MIB), Err(80 * MIB));
        assert_eq!(size(5, 1000 * MIB), Err(1000 * MIB));
        assert_eq!(size(u64::MAX, MIB), Err(MIB));
    }

    #[test]
    fn a_disk_that_was_there_is_not_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = |was_there| Wanted {
            volume: "data".to_owned(),
            path: dir.path().join(DISK_FILE),
            bytes: Some(1 << 20),
            make_directory: true,
            was_there,
        };
        let told = wanted(true).made().unwrap_err().to_string();
        assert!(told.contains("this claim had one: mount its volume"), "{told}");
        assert!(!dir.path().join(DISK_FILE).exists());
        wanted(false).made().unwrap();
        wanted(true).made().unwrap();
    }

    #[test]
    fn a_path_is_where_its_links_lead() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let disks = root.join("disks");
        fs::create_dir(&disks).unwrap();
        std::os::unix::fs::symlink("/etc", disks.join("out")).unwrap();
        std::os::unix::fs::symlink(root.join("nowhere"), disks.join("dangling")).unwrap();
        let allowed = [disks.clone()];
        let found = |path: &str| confined(&disks.join(path), &allowed).unwrap();
        assert_eq!(found("new/disk.img"), Some(disks.join("new/disk.img")));
        assert_eq!(found("out/shadow"), None);
        assert_eq!(found("out/no/such"), None);
        assert_eq!(found("dangling"), None);
        assert_eq!(confined(&root.join("disks2/x"), &allowed).unwrap(), None);
        assert_eq!(confined(&root.join("x"), &[]).unwrap(), None);
    }
}
