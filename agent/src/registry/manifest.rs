//! Manifests and indexes, OCI's and Docker's alike, as far as disks need them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Digest;

/// Indexes and manifests are a few kilobytes; a registry must take 4 MiB, and more is a mistake.
pub const MAX_JSON: u64 = 4 << 20;

/// As many layers as an image can have where it runs as a container.
const MAX_LAYERS: usize = 127;

/// What a registry may be asked to give.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// One of the two.
#[derive(Debug)]
pub enum Document {
    /// One image for each platform.
    Index(Vec<Descriptor>),
    /// The layers of one image, from the lowest to the topmost.
    Manifest(Vec<Descriptor>),
}

/// Of what somebody else holds.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(rename = "digest")]
    written: String,
    /// In bytes.
    #[serde(default)]
    pub size: Option<u64>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Either {
    #[serde(default)]
    schema_version: Option<u64>,
    manifests: Option<Vec<Descriptor>>,
    layers: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads one. Which of the two it is it says by itself: what it is said to be from
    /// outside is not covered by its digest.
    ///
    /// # Errors
    /// Why it is neither, for people.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let read: Either = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        match (read.manifests, read.layers) {
            (Some(_), Some(_)) => Err("it is both a manifest and an index".to_owned()),
            (Some(manifests), None) => Ok(Self::Index(manifests)),
            (None, Some(layers)) if layers.len() > MAX_LAYERS => {
                Err(format!("it has more than {MAX_LAYERS} layers"))
            }
            (None, Some(layers)) => Ok(Self::Manifest(layers)),
            (None, None) if read.schema_version == Some(1) => {
                Err("it is a manifest of Docker's first schema: push the image again".to_owned())
            }
            (None, None) => Err("it is neither a manifest nor an index".to_owned()),
        }
    }
}

impl Descriptor {
    /// # Errors
    /// It is no SHA-256.
    pub fn digest(&self) -> Result<Digest, String> {
        Digest::parse(&self.written).ok_or_else(|| {
            format!("the digest {:?} is not a sha256", net::shown(&self.written).to_string())
        })
    }

    /// Whether it is for this node; one that does not say is for everyone.
    fn fits(&self) -> bool {
        let fits = |one: &Platform| one.os == "linux" && one.architecture == architecture();
        self.platform.as_ref().is_none_or(fits)
    }
}

/// The first that is for this node.
///
/// # Errors
/// There is none; for people.
pub fn chosen(candidates: &[Descriptor]) -> Result<&Descriptor, String> {
    let found = candidates.iter().find(|one| one.fits());
    found.ok_or_else(|| format!("it has nothing for linux on {}", architecture()))
}

/// The processor of this node, in images' words (Go's `GOARCH`).
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(document: &serde_json::Value) -> String {
        Document::parse(document.to_string().as_bytes()).unwrap_err()
    }

    #[test]
    fn what_could_be_taken_for_either_is_neither() {
        assert!(refusal(&json!({ "layers": [], "manifests": [] })).contains("both"));
        assert!(refusal(&json!({})).contains("neither"));
        assert!(refusal(&json!({ "schemaVersion": 1, "fsLayers": [] })).contains("first schema"));
        let layers = vec![json!({ "digest": "sha256:0", "size": 1 }); MAX_LAYERS + 1];
        assert!(refusal(&json!({ "layers": layers })).contains("more than 127"));
    }

    #[test]
    fn of_an_index_the_part_for_this_node_is_taken() {
        let of = |os: &str, architecture: &str| json!({ "digest": architecture, "platform": { "os": os, "architecture": architecture } });
        let ours = architecture();
        let index = json!({ "manifests": [of("unknown", "unknown"), of("windows", ours), of("linux", "vax"), of("linux", ours)] });
        let Ok(Document::Index(all)) = Document::parse(index.to_string().as_bytes()) else {
            panic!("an index")
        };
        assert_eq!(chosen(&all).unwrap().written, ours);
        assert!(chosen(&all[..3]).unwrap_err().contains("nothing for linux on"));
        assert!(all[0].digest().unwrap_err().contains("not a sha256"));
    }
}
