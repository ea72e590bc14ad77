//! What this node holds of images, up to a limit: unpacked disks that VMs lie on, blobs that
//! came from registries, and what they came as.
//!
//! ```text
//! <state-dir>/images/<digest>[-<path>]/disk.*     unpacked; a VM's disk is a layer over it
//!                                    .partial/    being unpacked
//!             pulled/blobs/sha256/<digest>        manifests and layers, verified
//!             pulled/partial/<digest>             coming
//!             pulled/names/<hash>                 which image had this name (see `names`)
//! ```
//!
//! All of it is named by what it holds and appears by a rename once it is whole and on the
//! disk, so a process may be killed at any time: what is there is right, what is partial is
//! gone on with or begun anew. Nothing of it is anybody's only copy.
//!
//! Room is taken before anything is written. Where there is none left, what no VM of this node
//! uses is removed: first what is needed only to unpack it again, then the longest unused.
//! What VMs use, their own files say; what is being made or about to be used is *pinned* in
//! memory, which nobody but this process has to know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::super::layout::BLOBS;
use super::super::{VolumeError, in_use};
use crate::registry::Digest;

/// Of a directory in which others find what they know the name of.
pub(super) const PASSABLE: u32 = 0o711;

/// What a block of `st_blocks` is.
const BLOCK: u64 = 512;

/// The node's images.
#[derive(Debug)]
pub(in super::super) struct Store {
    /// The agent's state directory, absolute.
    root: PathBuf,
    limit: u64,
    /// Bytes that may be taken without looking, as of the last look; held by who looks.
    free: Mutex<u64>,
    pins: Arc<Mutex<Pins>>,
}

/// Names that must stay, and for how many users.
type Pins = BTreeMap<String, usize>;

/// Keeps what it names, for as long as it lives.
#[derive(Debug)]
pub struct Pin {
    pins: Arc<Mutex<Pins>>,
    names: Vec<String>,
}

/// Something that can be removed.
struct Entry {
    path: PathBuf,
    name: String,
    bytes: u64,
    /// Whether a VM's disk may lie on it.
    is_disk: bool,
    used: SystemTime,
}

impl Store {
    pub(super) fn new(root: PathBuf, limit: u64) -> Self {
        Self { root, limit, free: Mutex::new(0), pins: Arc::default() }
    }

    /// The directory of unpacked disks.
    pub(super) fn disks(&self) -> PathBuf {
        unpacked(&self.root)
    }

    /// What came from registries: as much of an image layout as unpacking needs.
    pub(super) fn pulled(&self) -> PathBuf {
        self.root.join("pulled")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.pulled().join(BLOBS).join(digest.hex())
    }

    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.pulled().join("partial").join(digest.hex())
    }

    pub(super) fn names(&self) -> PathBuf {
        self.pulled().join("names")
    }

    /// Makes all directories. Blocks. QEMU may enter that of disks, once it is let in to
    /// where it is.
    pub(super) fn make(&self) -> Result<(), VolumeError> {
        let pulled = self.pulled();
        let own = [pulled.join(BLOBS), pulled.join("partial"), self.names()];
        let directories = own.into_iter().map(|path| (path, 0o700));
        for (path, mode) in directories.chain([(self.disks(), PASSABLE)]) {
            let made = fs::DirBuilder::new().recursive(true).mode(mode).create(&path);
            made.map_err(VolumeError::file("make the directory", &path))?;
        }
        Ok(())
    }

    /// Keeps what has these names, whether or not it is there yet. Blocks: of what is being
    /// removed it is known afterwards that it is gone.
    pub(super) fn pin(&self, names: Vec<String>) -> Pin {
        let _nobody_removes = self.free.lock();
        let mut pins = self.pins.lock();
        for name in &names {
            *pins.entry(name.clone()).or_default() += 1;
        }
        drop(pins);
        Pin { pins: Arc::clone(&self.pins), names }
    }

    /// Takes room for so many bytes that are about to be written. Blocks.
    pub(super) fn take(&self, bytes: u64) -> io::Result<()> {
        let mut free = self.free.lock();
        if *free < bytes {
            *free = self.make_room(bytes, self.limit)?;
        }
        *free -= bytes;
        Ok(())
    }

    /// Removes all that nobody uses: the disk has no room for what may be taken. Blocks.
    pub(super) fn shrink(&self) {
        let mut free = self.free.lock();
        *free = 0;
        if let Err(error) = self.make_room(1, 0)
            && error.kind() != io::ErrorKind::QuotaExceeded
        {
            tracing::warn!(%error, "Unused images cannot be removed");
        }
    }

    /// Says that something was used now.
    pub(super) fn touch(path: &Path) {
        // It may be removed a little early.
        let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Removes what nobody uses until so many bytes are free; how many then are.
    fn make_room(&self, bytes: u64, limit: u64) -> io::Result<u64> {
        let mut entries = self.entries()?;
        let mut held: u64 = entries.iter().map(|entry| entry.bytes).sum();
        if held.saturating_add(bytes) > limit {
            // These first: who lets go of a disk meanwhile has a layer on it by now.
            let pinned: BTreeSet<String> = self.pins.lock().keys().cloned().collect();
            let mut in_use = in_use(&self.root)?;
            in_use.extend(pinned);
            entries.sort_by_key(|entry| (entry.is_disk, entry.used));
            for entry in entries {
                if held.saturating_add(bytes) <= limit {
                    break;
                }
                if self.is_needed(&entry, &in_use) {
                    continue;
                }
                tracing::info!(path = %entry.path.display(), "Removing an image that no VM uses");
                remove(&entry.path)?;
                held = held.saturating_sub(entry.bytes);
            }
        }
        limit.checked_sub(held).filter(|free| *free >= bytes).ok_or_else(|| {
            let why = format!(
                "what VMs use and what is being pulled needs more than the {limit} bytes that the \
                 node has for images (--image-cache-bytes)"
            );
            io::Error::new(io::ErrorKind::QuotaExceeded, why)
        })
    }

    fn is_needed(&self, entry: &Entry, in_use: &BTreeSet<String>) -> bool {
        self.pins.lock().contains_key(&entry.name)
            || (entry.is_disk && in_use.contains(&entry.name))
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let pulled = self.pulled();
        let mut entries = Vec::new();
        let directories = [
            (self.disks(), true),
            (pulled.join(BLOBS), false),
            (pulled.join("partial"), false),
            (self.names(), false),
        ];
        for (directory, is_disk) in directories {
            let listed = match fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                listed => listed?,
            };
            for one in listed {
                let path = one?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let name = name.strip_suffix(".partial").unwrap_or(&name).to_owned();
                // What others remove meanwhile is not there to be removed.
                let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let bytes = occupied(&path, &metadata);
                entries.push(Entry { path, name, bytes, is_disk, used });
            }
        }
        Ok(entries)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.lock();
        for name in &self.names {
            if let Some(users) = pins.get_mut(name) {
                *users -= 1;
                if *users == 0 {
                    pins.remove(name);
                }
            }
        }
    }
}

/// The directory of unpacked disks below an agent's state directory.
pub(in super::super) fn unpacked(state: &Path) -> PathBuf {
    state.join("images")
}

/// Bytes on the disk, of a file or of a directory of files.
fn occupied(path: &Path, metadata: &fs::Metadata) -> u64 {
    let of = |metadata: &fs::Metadata| metadata.blocks().saturating_mul(BLOCK);
    let files = if metadata.is_dir() { fs::read_dir(path).ok() } else { None };
    let files = files.into_iter().flatten().flatten().filter_map(|file| file.metadata().ok());
    of(metadata).saturating_add(files.map(|file| of(&file)).sum())
}

/// Removes a file or a directory of files. A directory without its file is taken for none.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives what was written to `partial` its name, for good.
pub(super) fn publish(partial: &Path, path: &Path) -> io::Result<()> {
    fs::rename(partial, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    struct Node {
        dir: tempfile::TempDir,
        store: Store,
    }

    impl Node {
        fn with_mib(limit: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::new(dir.path().to_owned(), limit << 20);
            store.make().unwrap();
            Self { dir, store }
        }

        /// A disk of a MiB, used so many seconds after the first.
        fn disk(&self, name: &str, used: u64) -> PathBuf {
            let directory = self.store.disks().join(name);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("disk.img"), vec![7; MIB]).unwrap();
            self.used(&directory, used);
            directory
        }

        fn blob(&self, name: &str, used: u64) -> PathBuf {
            let path = self.store.pulled().join(BLOBS).join(name);
            fs::write(&path, vec![7; MIB]).unwrap();
            self.used(&path, used);
            path
        }

        fn used(&self, path: &Path, seconds: u64) {
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 + seconds);
            File::open(path).unwrap().set_modified(at).unwrap();
        }

        /// A VM whose disk is a layer over this one.
        fn vm_on(&self, name: &str) {
            let home = self.dir.path().join("vms/default_web");
            fs::create_dir_all(&home).unwrap();
            let mut qemu_img = std::process::Command::new("qemu-img");
            qemu_img.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
            qemu_img.arg(self.store.disks().join(name).join("disk.img"));
            assert!(qemu_img.arg(home.join("root.qcow2")).status().unwrap().success());
        }
    }

    #[test]
    fn what_no_vm_uses_makes_room_the_longest_unused_first() {
        let node = Node::with_mib(6);
        let (old, used, new) = (node.disk("a", 1), node.disk("b", 0), node.disk("c", 3));
        let (blob, pinned) = (node.blob("d", 9), node.blob("e", 0));
        node.vm_on("b");
        let pin = node.store.pin(vec!["e".to_owned()]);
        node.store.take(MIB as u64 / 2).unwrap();
        assert!(blob.exists() && old.exists(), "there is room");
        node.store.take(MIB as u64).unwrap();
        assert!(!blob.exists() && old.exists(), "what can be had again goes first");
        node.store.take(5 * MIB as u64 / 2).unwrap();
        assert!(!old.exists() && new.exists());
        node.store.take(7 * MIB as u64 / 2).unwrap();
        assert!(!new.exists());
        let full = node.store.take(9 * MIB as u64 / 2).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::QuotaExceeded);
        assert!(full.to_string().contains("--image-cache-bytes"), "{full}");
        assert!(used.exists() && pinned.exists());
        drop(pin);
        node.store.shrink();
        assert!(used.exists() && !pinned.exists());
    }

    #[test]
    fn where_vms_cannot_be_asked_nothing_is_removed() {
        let node = Node::with_mib(1);
        let disk = node.disk("a", 1);
        node.vm_on("a");
        // No image, and no file that says what it lies on.
        fs::create_dir(node.dir.path().join("vms/default_web/odd.qcow2")).unwrap();
        node.store.take(MIB as u64).unwrap_err();
        assert!(disk.exists());
    }
}
