//! An OCI image layout on disk: from an image's name to its layers.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::VolumeError;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Indexes and manifests are a few kilobytes; more is a mistake.
const MAX_JSON: u64 = 4 << 20;

/// How deep indexes may lie in each other.
const MAX_DEPTH: usize = 4;

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

/// A SHA-256 in lower-case hexadecimal digits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Digest(String);

impl Digest {
    /// The digest that a hash came to.
    pub(super) fn of(hash: Sha256) -> Self {
        let mut hex = String::with_capacity(64);
        for byte in hash.finalize() {
            write!(hex, "{byte:02x}").expect("a string takes everything");
        }
        Self(hex)
    }

    pub(super) fn hex(&self) -> &str {
        &self.0
    }
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

impl Descriptor {
    /// Whether it is for us; one that does not say is for everyone.
    fn fits(&self) -> bool {
        self.platform
            .as_ref()
            .is_none_or(|platform| platform.os == "linux" && platform.architecture == "amd64")
    }
}

impl<'a> Layout<'a> {
    pub(super) fn new(root: &'a Path, image: &'a str) -> Self {
        Self { root, image }
    }

    /// Finds the image by its exact name.
    pub(super) fn find(&self) -> Result<Image, VolumeError> {
        let path = self.root.join("index.json");
        let not_found = || VolumeError::ImageNotFound {
            image: self.image.to_owned(),
            layout: self.root.to_owned(),
        };
        let json = match read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(not_found()),
            json => json.map_err(VolumeError::file("read", &path))?,
        };
        let index: Index = self.parse(&json, "index.json")?;
        let named: Vec<_> = index
            .manifests
            .into_iter()
            .filter(|one| one.annotations.get(REF_NAME).is_some_and(|name| name == self.image))
            .collect();
        if named.is_empty() {
            return Err(not_found());
        }
        self.resolve(named, MAX_DEPTH)
    }

    /// Follows indexes down to the one manifest for this platform.
    fn resolve(&self, candidates: Vec<Descriptor>, depth: usize) -> Result<Image, VolumeError> {
        let chosen = candidates.into_iter().find(Descriptor::fits);
        let chosen = chosen.ok_or_else(|| self.bad("it has nothing for linux on amd64"))?;
        let digest = self.digest(&chosen.digest)?;
        let json = self.blob(&digest)?;
        if INDEXES.contains(&chosen.media_type.as_str()) {
            if depth == 0 {
                return Err(self.bad("its indexes lie too deep in each other"));
            }
            let index: Index = self.parse(&json, digest.hex())?;
            return self.resolve(index.manifests, depth - 1);
        }
        let manifest: Manifest = self.parse(&json, digest.hex())?;
        let layers = manifest.layers.iter().map(|layer| self.digest(&layer.digest));
        Ok(Image { digest, layers: layers.collect::<Result<_, _>>()? })
    }

    /// Where a blob lies.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// An error about this image.
    pub(super) fn bad(&self, problem: impl Into<String>) -> VolumeError {
        VolumeError::BadImage { image: self.image.to_owned(), problem: problem.into() }
    }

    /// A small blob, verified.
    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, VolumeError> {
        let path = self.path(digest);
        let content = read(&path).map_err(VolumeError::file("read", &path))?;
        if Digest::of(Sha256::new_with_prefix(&content)) != *digest {
            return Err(self.bad(format!("the blob {} is damaged", digest.hex())));
        }
        Ok(content)
    }

    fn parse<T: DeserializeOwned>(&self, json: &[u8], what: &str) -> Result<T, VolumeError> {
        serde_json::from_slice(json)
            .map_err(|error| self.bad(format!("{what} is not what it should be: {error}")))
    }

    /// Reads a digest, which becomes part of a path.
    fn digest(&self, text: &str) -> Result<Digest, VolumeError> {
        let hex = text.strip_prefix("sha256:").filter(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        hex.map(|hex| Digest(hex.to_owned()))
            .ok_or_else(|| self.bad(format!("the digest {text:?} is not a sha256")))
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)?.take(MAX_JSON).read_to_end(&mut content)?;
    Ok(content)
}
