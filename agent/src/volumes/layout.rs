//! An OCI image layout on disk: from an image's name to its layers.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::VolumeError;
use crate::registry::{Descriptor, Digest, Document, MAX_JSON, chosen};

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// How deep indexes may lie in each other.
const MAX_DEPTH: usize = 4;

/// Where blobs are in a layout.
pub(super) const BLOBS: &str = "blobs/sha256";

/// A layout, while one image is looked up in it.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    root: &'a Path,
    image: &'a str,
}

/// An image's manifest, as far as it matters here.
#[derive(Debug)]
pub(super) struct Image {
    /// Of the manifest, so of everything the image holds.
    pub(super) digest: Digest,
    /// From the lowest to the topmost.
    pub(super) layers: Vec<Digest>,
}

impl<'a> Layout<'a> {
    pub(super) fn new(root: &'a Path, image: &'a str) -> Self {
        Self { root, image }
    }

    /// Finds the image by its exact name, if it is there.
    pub(super) fn find(&self) -> Result<Option<Image>, VolumeError> {
        let path = self.root.join("index.json");
        let json = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            json => json.map_err(VolumeError::file("read", &path))?,
        };
        let Document::Index(all) = self.parse(&json, "index.json")? else {
            return Err(self.bad("index.json is not what it should be: it is a manifest"));
        };
        let is_named =
            |one: &Descriptor| one.annotations.get(REF_NAME).is_some_and(|name| name == self.image);
        let named: Vec<_> = all.into_iter().filter(is_named).collect();
        if named.is_empty() {
            return Ok(None);
        }
        self.resolve(named, MAX_DEPTH).map(Some)
    }

    /// Follows indexes down to the one manifest for this platform.
    fn resolve(&self, candidates: Vec<Descriptor>, depth: usize) -> Result<Image, VolumeError> {
        let chosen = chosen(&candidates).and_then(Descriptor::digest);
        let digest = chosen.map_err(|why| self.bad(why))?;
        let json = self.blob(&digest)?;
        let layers = match self.parse(&json, digest.hex())? {
            Document::Index(_) if depth == 0 => {
                return Err(self.bad("its indexes lie too deep in each other"));
            }
            Document::Index(all) => return self.resolve(all, depth - 1),
            Document::Manifest(layers) => layers,
        };
        let layers = layers.iter().map(Descriptor::digest).collect::<Result<_, _>>();
        Ok(Image { digest, layers: layers.map_err(|why| self.bad(why))? })
    }

    /// Where a blob lies.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(BLOBS).join(digest.hex())
    }

    /// An error about this image.
    pub(super) fn bad(&self, problem: impl Into<String>) -> VolumeError {
        VolumeError::BadImage { image: self.image.to_owned(), problem: problem.into() }
    }

    /// A small blob, verified.
    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, VolumeError> {
        let path = self.path(digest);
        let content = read(&path).map_err(VolumeError::file("read", &path))?;
        if Digest::of_bytes(&content) != *digest {
            return Err(self.bad(format!("the blob {} is damaged", digest.hex())));
        }
        Ok(content)
    }

    fn parse(&self, json: &[u8], what: &str) -> Result<Document, VolumeError> {
        Document::parse(json)
            .map_err(|error| self.bad(format!("{what} is not what it should be: {error}")))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)?.take(MAX_JSON).read_to_end(&mut content)?;
    Ok(content)
}
