//! The one disk in a container image, out of its layers.
//!
//! Whoever may push an image has made them, so what is in them is read within limits: of
//! what it unpacks to, of the room that the node has for images, of what may stand between
//! two files. Names in an image are compared and never opened.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use super::layout::{Image, Layout};
use super::{Format, VolumeError, qcow2};
use crate::registry::Digest;
use crate::sparse;

/// Where container disks have their file.
const DISK_DIRECTORY: &str = "disk";

/// What may be read between the files of a layer: a header, a long name, attributes.
const MAX_BETWEEN: u64 = 1 << 20;

/// How many files that may be the disk are looked at; all but one of them must be hidden by
/// a later layer.
const MAX_CANDIDATES: usize = 16;

/// An unpacked disk; never written to again.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) path: PathBuf,
    pub(super) format: Format,
}

/// How far one image may go.
pub(super) struct Limits<'a> {
    /// Bytes that all its layers together may unpack to.
    pub(super) unpacked: u64,
    /// Takes so many bytes of the node's room for images.
    pub(super) take: &'a dyn Fn(u64) -> io::Result<()>,
    /// Whether nobody waits for it any more.
    pub(super) stopped: &'a AtomicBool,
}

/// Why there is no disk.
#[derive(Debug)]
pub(super) enum Unpacking {
    /// A layer is not what its digest says.
    Damaged(Digest),
    /// It is intact and of no use; for people.
    Unusable(String),
    /// The node's disk said no.
    File(VolumeError),
}

impl Unpacking {
    /// For `map_err` on file operations.
    pub(super) fn file(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let told = VolumeError::file(action, path);
        move |error| Self::File(told(error))
    }
}

/// The name of an unpacked disk's directory: the image's digest, and its path if not the
/// usual one.
pub(super) fn key(digest: &Digest, path: Option<&str>) -> String {
    let digest = digest.hex();
    match path {
        None => digest.to_owned(),
        Some(path) => format!("{digest}-{}", &Digest::of_bytes(path.as_bytes()).hex()[..12]),
    }
}

fn file_name(format: Format) -> &'static str {
    match format {
        Format::Qcow2 => "disk.qcow2",
        Format::Raw => "disk.img",
    }
}

/// The disk in a directory, if it is there.
pub(super) fn existing(target: &Path) -> Option<Base> {
    [Format::Qcow2, Format::Raw].into_iter().find_map(|format| {
        let path = target.join(file_name(format));
        path.is_file().then_some(Base { path, format })
    })
}

/// Files found so far that may be the disk, by their path in the image.
type Candidates = BTreeMap<String, Candidate>;

struct Candidate {
    layer: usize,
    file: PathBuf,
}

/// Brings the one disk into `into`, under its final name, and all of it to the disk. Blocks.
pub(super) fn unpack(
    layout: &Layout<'_>,
    image: &Image,
    path: Option<&str>,
    into: &Path,
    limits: &Limits<'_>,
) -> Result<(), Unpacking> {
    let wanted = path.map(|path| normal(Path::new(path)));
    let mut candidates = Candidates::new();
    let mut left = limits.unpacked;
    for (number, digest) in image.layers.iter().enumerate() {
        let blob = layout.path(digest);
        let file = File::open(&blob).map_err(Unpacking::file("read", &blob))?;
        let mut hashed = Hashed { file, hash: Sha256::new(), stopped: limits.stopped };
        let scan = Scan { layer: number, wanted: wanted.as_deref(), into, limits };
        let read = scan.layer(&mut hashed, left, &mut candidates);
        let ours = Unpacking::file("unpack to", into);
        let read = match read {
            Err(error) if is_ours(&error) => return Err(ours(error)),
            read => read,
        };
        // A damaged blob is the better explanation of whatever went wrong in it.
        match io::copy(&mut hashed, &mut io::sink()) {
            Err(error) if is_ours(&error) => return Err(ours(error)),
            Ok(_) if Digest::of(hashed.hash) == *digest => {}
            _ => return Err(Unpacking::Damaged(digest.clone())),
        }
        let unusable = |error| Unpacking::Unusable(format!("layer {}: {error}", digest.hex()));
        left = read.map_err(unusable)?;
    }
    let found: Vec<_> = candidates.keys().cloned().collect();
    let (None, Some((_, disk))) = (found.get(1), candidates.pop_first()) else {
        return Err(Unpacking::Unusable(match (&wanted, found.is_empty()) {
            (Some(wanted), _) => format!("it has no file {}", net::shown(wanted)),
            (None, true) => "it has no file in /disk".to_owned(),
            (None, false) => {
                format!("it has more than one file in /disk: {}", net::shown(&found.join(", ")))
            }
        }));
    };
    finish(&disk.file, into)
}

/// Whether an error is of this node, and says nothing of the image.
fn is_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ConnectionAborted)
}

/// Checks the disk and gives it its name and mode.
fn finish(disk: &Path, into: &Path) -> Result<(), Unpacking> {
    let failed = Unpacking::file;
    let mut head = Vec::new();
    let file = File::open(disk).map_err(failed("read", disk))?;
    (&file)
        .take(u64::try_from(qcow2::HEAD).expect("a small constant"))
        .read_to_end(&mut head)
        .map_err(failed("read", disk))?;
    let format = qcow2::probe(&head).map_err(|why| Unpacking::Unusable(why.to_owned()))?;
    let path = into.join(file_name(format));
    // Its directory gets its name after this, which must not reach the disk before.
    fs::set_permissions(disk, fs::Permissions::from_mode(0o444))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(disk, &path))
        .and_then(|()| File::open(into)?.sync_all())
        .map_err(failed("move a file to", &path))
}

/// One layer, gone through for what may be the disk.
struct Scan<'a> {
    layer: usize,
    wanted: Option<&'a str>,
    into: &'a Path,
    limits: &'a Limits<'a>,
}

impl Scan<'_> {
    /// Goes through all of it; what is left of the bytes that the image may unpack to.
    fn layer(
        &self,
        blob: &mut Hashed<'_>,
        left: u64,
        candidates: &mut Candidates,
    ) -> io::Result<u64> {
        let (left, between) = (Rc::new(Cell::new(left)), Rc::new(Cell::new(MAX_BETWEEN)));
        let bounded =
            Bounded { inner: decompressed(blob)?, left: left.clone(), between: between.clone() };
        let mut archive = tar::Archive::new(bounded);
        let mut entries = archive.entries()?;
        let mut number = 0_u64;
        loop {
            between.set(MAX_BETWEEN);
            let Some(entry) = entries.next() else { break };
            between.set(u64::MAX);
            self.entry(&mut entry?, number, &left, candidates)?;
            number += 1;
        }
        Ok(left.get())
    }

    fn entry(
        &self,
        entry: &mut tar::Entry<'_, impl Read>,
        number: u64,
        left: &Cell<u64>,
        candidates: &mut Candidates,
    ) -> io::Result<()> {
        let path = normal(&entry.path()?);
        remove_whiteouts(candidates, &path, self.layer)?;
        let is_wanted = |wanted: &str| wanted == path;
        let is_disk = self.wanted.map_or_else(|| is_in_disk_directory(&path), is_wanted);
        let kind = entry.header().entry_type();
        if is_disk && (kind.is_file() || kind.is_gnu_sparse()) {
            if kind.is_gnu_sparse() {
                // Its holes are not in the layer, and are read all the same.
                let after = left.get().checked_sub(entry.size());
                left.set(after.ok_or_else(too_large)?);
            }
            if candidates.len() >= MAX_CANDIDATES {
                let why = format!("it has more than {MAX_CANDIDATES} files in /disk");
                return Err(io::Error::other(why));
            }
            let file = self.into.join(format!("{}.{number}", self.layer));
            copy_sparse(entry, &file, self.limits)?;
            let replaced = candidates.insert(path, Candidate { layer: self.layer, file });
            if let Some(replaced) = replaced {
                fs::remove_file(replaced.file)?;
            }
        }
        // All of it here, so that what is read between two entries is little.
        io::copy(entry, &mut io::sink()).map(drop)
    }
}

fn too_large() -> io::Error {
    io::Error::other("it unpacks to more than the node takes (--image-max-bytes)")
}

/// Takes out of `candidates` what this entry says was deleted from the layers below.
fn remove_whiteouts(candidates: &mut Candidates, path: &str, layer: usize) -> io::Result<()> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let Some(hidden) = name.strip_prefix(".wh.") else { return Ok(()) };
    let below = |prefix: &str, path: &str| {
        prefix.is_empty() || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
    };
    let hidden =
        if directory.is_empty() { hidden.to_owned() } else { format!("{directory}/{hidden}") };
    let gone = candidates.extract_if(.., |path, candidate| {
        let gone = if name == ".wh..wh..opq" {
            below(directory, path)
        } else {
            *path == hidden || below(&hidden, path)
        };
        candidate.layer != layer && gone
    });
    gone.into_iter().try_for_each(|(_, candidate)| fs::remove_file(candidate.file))
}

fn is_in_disk_directory(path: &str) -> bool {
    match path.split_once('/') {
        Some((DISK_DIRECTORY, name)) => !name.contains('/') && !name.starts_with(".wh."),
        _ => false,
    }
}

/// A path of a tar file without its leading `./` or `/`. It is only compared,
/// never opened, so `..` does no harm.
fn normal(path: &Path) -> String {
    use std::path::Component;
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_string_lossy()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Decompresses what is compressed, told by its first bytes: media types are
/// not always right.
fn decompressed<'a>(blob: &'a mut Hashed<'_>) -> io::Result<Box<dyn Read + 'a>> {
    let mut buffered = BufReader::with_capacity(sparse::CHUNK, blob);
    let head = buffered.fill_buf()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(buffered)))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder =
            ruzstd::decoding::StreamingDecoder::new(buffered).map_err(io::Error::other)?;
        Ok(Box::new(decoder))
    } else {
        Ok(Box::new(buffered))
    }
}

/// Writes a new file, leaving holes for zeroes.
fn copy_sparse(from: &mut impl Read, to: &Path, limits: &Limits<'_>) -> io::Result<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    sparse::copy(
        from,
        file,
        |error| error,
        |piece| {
            if piece.is_hole { Ok(()) } else { (limits.take)(piece.bytes) }
        },
    )
}

/// A file whose bytes are hashed as they are read, for as long as somebody waits for them.
struct Hashed<'a> {
    file: File,
    hash: Sha256,
    stopped: &'a AtomicBool,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            let why = "nobody waits for it any more";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
        }
        let read = self.file.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

/// What a layer unpacks to, up to a limit.
struct Bounded<R> {
    inner: R,
    /// Of all layers of the image.
    left: Rc<Cell<u64>>,
    /// Before the next file of the layer begins; set anew for each.
    between: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let bytes = u64::try_from(read).expect("a buffer is small");
        let left = self.left.get().checked_sub(bytes).ok_or_else(too_large)?;
        let why = "what stands between two of its files is longer than 1 MiB";
        let between = self.between.get().checked_sub(bytes);
        self.left.set(left);
        self.between.set(between.ok_or_else(|| io::Error::other(why))?);
        Ok(read)
    }
}
