//! The one disk in a container image, unpacked once for all VMs of the node.
//!
//! A lock file beside the target lets one process at a time unpack an image;
//! the others wait and then find it. The directory appears by a rename when it
//! is complete, and what a killed process left is begun anew.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use super::layout::{Digest, Image, Layout};
use super::{Dirs, Format, VolumeError, qcow2};

/// Where container disks have their file.
const DISK_DIRECTORY: &str = "disk";

/// How much is copied at a time; as much of zeroes becomes a hole.
const CHUNK: usize = 64 << 10;

static ZEROES: [u8; CHUNK] = [0; CHUNK];

/// An unpacked disk; never written to again.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) path: PathBuf,
    pub(super) format: Format,
}

/// The disk of an image, unpacked now if it was not before. Blocks.
pub(super) fn unpacked(dirs: &Dirs, image: &str, path: Option<&str>) -> Result<Base, VolumeError> {
    let layout = Layout::new(&dirs.images, image);
    let found = layout.find()?;
    let images = dirs.unpacked();
    let target = images.join(key(&found, path));
    if let Some(base) = existing(&target) {
        return Ok(base);
    }
    make_directory(&images)?;
    let _lock = lock(&target.with_extension("lock"))?;
    if let Some(base) = existing(&target) {
        return Ok(base);
    }
    let partial = target.with_extension("partial");
    discard(&partial)?;
    make_directory(&partial)?;
    let unpacked = unpack(&layout, &found, path, &partial);
    if unpacked.is_err() {
        discard(&partial)?;
    }
    unpacked?;
    fs::rename(&partial, &target).map_err(VolumeError::file("move a directory to", &target))?;
    tracing::info!(image, digest = found.digest.hex(), "Unpacked a container disk");
    existing(&target).ok_or_else(|| layout.bad("its disk vanished after unpacking"))
}

/// The directory of an image's disk: its digest, and its path if not the usual one.
fn key(image: &Image, path: Option<&str>) -> String {
    let digest = image.digest.hex();
    match path {
        None => digest.to_owned(),
        Some(path) => {
            let of_path = Digest::of(Sha256::new_with_prefix(path));
            format!("{digest}-{}", &of_path.hex()[..12])
        }
    }
}

fn file_name(format: Format) -> &'static str {
    match format {
        Format::Qcow2 => "disk.qcow2",
        Format::Raw => "disk.img",
    }
}

fn existing(target: &Path) -> Option<Base> {
    [Format::Qcow2, Format::Raw].into_iter().find_map(|format| {
        let path = target.join(file_name(format));
        path.is_file().then_some(Base { path, format })
    })
}

/// One that QEMU may enter, once it is let in to where it is.
fn make_directory(path: &Path) -> Result<(), VolumeError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(path);
    made.map_err(VolumeError::file("make the directory", path))
}

fn discard(path: &Path) -> Result<(), VolumeError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(VolumeError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Waits for the lock; it ends with the value, or the process.
fn lock(path: &Path) -> Result<Flock<File>, VolumeError> {
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(VolumeError::file("open", path))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| VolumeError::file("lock", path)(errno.into()))
}

/// Files found so far that may be the disk, by their path in the image.
type Candidates = BTreeMap<String, Candidate>;

struct Candidate {
    layer: usize,
    file: PathBuf,
}

/// Brings the one disk into `into`, under its final name.
fn unpack(
    layout: &Layout<'_>,
    image: &Image,
    path: Option<&str>,
    into: &Path,
) -> Result<(), VolumeError> {
    let wanted = path.map(|path| normal(Path::new(path)));
    let mut candidates = Candidates::new();
    for (number, digest) in image.layers.iter().enumerate() {
        let blob = layout.path(digest);
        let file = File::open(&blob).map_err(VolumeError::file("read", &blob))?;
        let mut hashed = Hashed { file, hash: Sha256::new() };
        let read = scan(&mut hashed, number, wanted.as_deref(), into, &mut candidates)
            .and_then(|()| io::copy(&mut hashed, &mut io::sink()));
        // A damaged blob is the better explanation of whatever went wrong in it.
        let intact = read.is_ok() && Digest::of(hashed.hash) == *digest;
        match read {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Err(VolumeError::file("unpack to", into)(error));
            }
            Err(error) => {
                return Err(layout.bad(format!("layer {}: {error}", digest.hex())));
            }
            Ok(_) if !intact => {
                return Err(layout.bad(format!("the layer {} is damaged", digest.hex())));
            }
            Ok(_) => {}
        }
    }
    let found: Vec<_> = candidates.keys().cloned().collect();
    let (None, Some((_, disk))) = (found.get(1), candidates.pop_first()) else {
        return Err(layout.bad(match (&wanted, found.is_empty()) {
            (Some(wanted), _) => format!("it has no file {wanted}"),
            (None, true) => "it has no file in /disk".to_owned(),
            (None, false) => {
                format!("it has more than one file in /disk: {}", found.join(", "))
            }
        }));
    };
    finish(layout, &disk.file, into)
}

/// Checks the disk and gives it its name and mode.
fn finish(layout: &Layout<'_>, disk: &Path, into: &Path) -> Result<(), VolumeError> {
    let mut head = Vec::new();
    let file = File::open(disk).map_err(VolumeError::file("read", disk))?;
    (&file)
        .take(u64::try_from(qcow2::HEAD).expect("a small constant"))
        .read_to_end(&mut head)
        .map_err(VolumeError::file("read", disk))?;
    let format = qcow2::probe(&head).map_err(|problem| layout.bad(problem))?;
    // The rename must not reach the disk before what it names.
    file.sync_data().map_err(VolumeError::file("write", disk))?;
    let path = into.join(file_name(format));
    fs::set_permissions(disk, fs::Permissions::from_mode(0o444))
        .and_then(|()| fs::rename(disk, &path))
        .map_err(VolumeError::file("move a file to", &path))
}

/// Goes through one layer, taking out what may be the disk.
fn scan(
    blob: &mut Hashed,
    layer: usize,
    wanted: Option<&str>,
    into: &Path,
    candidates: &mut Candidates,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(decompressed(blob)?);
    for (number, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        let path = normal(&entry.path()?);
        remove_whiteouts(candidates, &path, layer);
        let is_disk = wanted.map_or_else(|| is_in_disk_directory(&path), |wanted| wanted == path);
        if is_disk && entry.header().entry_type().is_file() {
            let file = into.join(format!("{layer}.{number}"));
            copy_sparse(&mut entry, &file)?;
            candidates.insert(path, Candidate { layer, file });
        }
    }
    Ok(())
}

/// Takes out of `candidates` what this entry says was deleted from the layers
/// below.
fn remove_whiteouts(candidates: &mut Candidates, path: &str, layer: usize) {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let Some(hidden) = name.strip_prefix(".wh.") else { return };
    let below = |prefix: &str, path: &str| {
        prefix.is_empty() || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
    };
    let hidden =
        if directory.is_empty() { hidden.to_owned() } else { format!("{directory}/{hidden}") };
    candidates.retain(|path, candidate| {
        let gone = if name == ".wh..wh..opq" {
            below(directory, path)
        } else {
            *path == hidden || below(&hidden, path)
        };
        candidate.layer == layer || !gone
    });
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
fn decompressed<'a>(blob: &'a mut Hashed) -> io::Result<Box<dyn Read + 'a>> {
    let mut buffered = BufReader::with_capacity(CHUNK, blob);
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
fn copy_sparse(from: &mut impl Read, to: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    let mut chunk = vec![0; CHUNK];
    let mut length = 0;
    loop {
        let filled = fill(from, &mut chunk)?;
        if filled == 0 {
            return file.set_len(length);
        }
        let bytes = u64::try_from(filled).expect("a chunk is small");
        if chunk[..filled] == ZEROES[..filled] {
            file.seek(SeekFrom::Start(length + bytes))?;
        } else {
            file.write_all(&chunk[..filled])?;
        }
        length += bytes;
    }
}

/// Reads until the buffer is full or nothing is left.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A file whose bytes are hashed as they are read.
struct Hashed {
    file: File,
    hash: Sha256,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}
