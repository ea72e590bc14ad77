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
    /// Kinds that are not typed: `registry`, `s3`, `upload` …
    #[serde(flatten)]
    pub rest: Rest,
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
