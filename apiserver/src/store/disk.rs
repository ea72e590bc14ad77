//! sled, and nothing of it outside this file.
//!
//! One tree, `objects`. An object's JSON lies under `<collection> NUL <namespace> NUL <name> NUL
//! <part>`, cut into parts of [`PART`] bytes; the version of the latest change, which after a
//! deletion no object carries, under a key no object can have. A commit is one batch, so a crash
//! leaves either all of it or nothing.
//!
//! Two things about sled 0.34 shape this file:
//!
//! - Its `flush` ends in `sync_file_range`, which promises nothing across a power failure: neither
//!   the file's new length nor the disk's own cache is written. [`Disk::commit`] therefore follows
//!   it with `fdatasync` on sled's file.
//! - A tree node of more than a quarter segment (128 KiB) goes to a file of its own that is never
//!   synced. A leaf holds some 17 entries, so parts of 4 KiB keep every node in the log.
//!
//! The background flush is off: every commit has been flushed already.

use std::fs::File;
use std::path::Path;

use sled::{Batch, Db, Tree};

use super::{Collection, Key};

/// Every object is held by the index as well, so sled's own cache only needs what a write touches.
const CACHE_BYTES: u64 = 2 << 20;
/// The largest value that is given to sled.
const PART: usize = 1024;
/// Sorts before every collection, because those start with a letter or `/`.
const VERSION_KEY: &[u8] = b"\0version";

/// The disk does not do what it must. Only [`DiskError::InUse`] is worth a retry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// By another server, or by one of this process that sled has not quite let go of: its threads
    /// hold the lock for a moment after the database was dropped.
    #[error("the store is in use")]
    InUse(#[source] sled::Error),
    #[error("the store cannot be read or written")]
    Sled(#[from] sled::Error),
    #[error("the store's file cannot be synced")]
    Sync(#[source] std::io::Error),
    #[error("the store holds a key that is not one of ours: {0:?}")]
    Key(Vec<u8>),
    #[error("the writer thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// The database.
#[derive(Debug)]
pub(super) struct Disk {
    db: Db,
    objects: Tree,
    /// sled's log, opened once more to sync it.
    log: File,
}

/// Changes that become durable together.
#[derive(Debug, Default)]
pub(super) struct Commit {
    batch: Batch,
}

impl Commit {
    /// Stores an object in place of one of `previous` bytes (0 for none).
    pub(super) fn put(&mut self, key: &Key, json: &[u8], previous: usize) {
        for (part, bytes) in json.chunks(PART).enumerate() {
            self.batch.insert(encode(key, part), bytes);
        }
        self.remove_parts(key, json.len().div_ceil(PART), previous);
    }

    /// Removes an object of `previous` bytes.
    pub(super) fn remove(&mut self, key: &Key, previous: usize) {
        self.remove_parts(key, 0, previous);
    }

    fn remove_parts(&mut self, key: &Key, from: usize, previous: usize) {
        for part in from..previous.div_ceil(PART) {
            self.batch.remove(encode(key, part));
        }
    }
}

impl Disk {
    pub(super) fn open(dir: &Path) -> Result<Self, DiskError> {
        let db = sled::Config::default()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .open()
            .map_err(|error| match &error {
                // sled wraps the lock's error in one of its own, of kind `Other`.
                sled::Error::Io(io) if io.to_string().contains("could not acquire lock") => {
                    DiskError::InUse(error)
                }
                _ => DiskError::Sled(error),
            })?;
        let objects = db.open_tree("objects")?;
        let log = File::open(dir.join("db")).map_err(DiskError::Sync)?;
        let disk = Self { db, objects, log };
        // The names of new files live in their directory.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(DiskError::Sync)?;
        Ok(disk)
    }

    /// The version of the latest commit; 0 for a new store.
    pub(super) fn version(&self) -> Result<u64, DiskError> {
        let bytes = self.objects.get(VERSION_KEY)?;
        let bytes = bytes.and_then(|bytes| <[u8; 8]>::try_from(bytes.as_ref()).ok());
        Ok(bytes.map_or(0, u64::from_be_bytes))
    }

    /// Calls `each` with every object, in key order.
    pub(super) fn for_each(&self, mut each: impl FnMut(Key, Vec<u8>)) -> Result<(), DiskError> {
        let mut whole: Option<(Key, Vec<u8>)> = None;
        for entry in &self.objects {
            let (key, bytes) = entry?;
            if key == VERSION_KEY {
                continue;
            }
            let (key, part) = decode(&key).ok_or_else(|| DiskError::Key(key.to_vec()))?;
            match &mut whole {
                Some((_, json)) if part > 0 => json.extend_from_slice(&bytes),
                _ => {
                    if let Some((key, json)) = whole.replace((key, bytes.to_vec())) {
                        each(key, json);
                    }
                }
            }
        }
        if let Some((key, json)) = whole {
            each(key, json);
        }
        Ok(())
    }

    /// Writes the changes and the version they lead to, all or nothing, and returns once they
    /// would survive a power failure.
    pub(super) fn commit(&self, mut commit: Commit, version: u64) -> Result<(), DiskError> {
        commit.batch.insert(VERSION_KEY, &version.to_be_bytes());
        self.objects.apply_batch(commit.batch)?;
        self.db.flush()?;
        self.log.sync_data().map_err(DiskError::Sync)
    }
}

fn encode(key: &Key, part: usize) -> Vec<u8> {
    let part = u16::try_from(part).expect("bodies are limited to far less than 2^16 parts");
    let place = [key.collection.as_str(), &*key.namespace, &*key.name, ""].join("\0");
    let mut bytes = place.into_bytes();
    bytes.extend_from_slice(&part.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(Key, u16)> {
    let (place, part) = bytes.split_last_chunk::<2>()?;
    let mut words = std::str::from_utf8(place).ok()?.split('\0');
    let (collection, namespace, name) = (words.next()?, words.next()?, words.next()?);
    let key = Key {
        collection: Collection(collection.into()),
        namespace: namespace.into(),
        name: name.into(),
    };
    Some((key, u16::from_be_bytes(*part)))
}
