//! Where what is in a claim comes from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kubevirt::{Opaque, Rest};

/// Exactly one of its fields is to be set.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataVolumeSource {
    /// An empty disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blank: Option<Opaque>,
    /// A file of a web server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// Another claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PvcSource>,
    /// A container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistrySource>,
    /// An object of S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Source>,
    /// What somebody sends (`virtctl image-upload`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Opaque>,
    /// Kinds that are not typed: `vddk`, `imageio` …
    #[serde(flatten)]
    pub rest: Rest,
}

impl DataVolumeSource {
    /// How many of its fields are set.
    #[must_use]
    pub fn count(&self) -> usize {
        let Self { blank, http, pvc, registry, s3, upload, rest } = self;
        usize::from(blank.is_some())
            + usize::from(http.is_some())
            + usize::from(pvc.is_some())
            + usize::from(registry.is_some())
            + usize::from(s3.is_some())
            + usize::from(upload.is_some())
            + rest.len()
    }
}

/// A file of a web server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// `http://` or `https://`.
    #[serde(default)]
    pub url: String,
    /// A Secret with `accessKeyId` and `secretKey`: user and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<String>,
    /// A ConfigMap of certificates by which the server is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_config_map: Option<String>,
    /// `Name: value`, each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_headers: Vec<String>,
    /// Secrets of which each value is such a header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_extra_headers: Vec<String>,
    /// `sha256:` and the like, with hexadecimal digits, of the file as it is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Another claim.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PvcSource {
    /// Its namespace; without it that of the DataVolume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// An object of S3, or of a store that speaks as it does.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Source {
    /// `https://`, the host, the bucket, the object.
    #[serde(default)]
    pub url: String,
    /// A Secret with `accessKeyId` and `secretKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<String>,
    /// A ConfigMap of certificates by which the store is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_config_map: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A container image that has a disk in `/disk`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySource {
    /// `docker://` and the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// An OpenShift ImageStream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_stream: Option<String>,
    /// `pod`, which is the default: the registry is asked; or `node`: what the node has will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_method: Option<String>,
    /// A Secret with `accessKeyId` and `secretKey`, user and password, or with a Docker
    /// configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<String>,
    /// A ConfigMap of certificates by which the registry is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_config_map: Option<String>,
    /// For which machines the image is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// For which machines an image is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Platform {
    /// `amd64`, `arm64` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}
