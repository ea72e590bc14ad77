//! `cdi.kubevirt.io/v1beta1`: what of Containerized Data Importer's objects is read here.
//! Its definitions are its own to install.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kubevirt::{Condition, Rest};

/// A claim that is being filled, or has been
/// (`containerized-data-importer-api/pkg/apis/core/v1beta1/types.go`).
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cdi.kubevirt.io",
    version = "v1beta1",
    kind = "DataVolume",
    plural = "datavolumes",
    singular = "datavolume",
    namespaced,
    status = "DataVolumeStatus",
    doc = "A claim that is being filled, or has been.",
    derive = "PartialEq"
)]
pub struct DataVolumeSpec {
    /// Nobody here looks at it.
    #[serde(flatten)]
    pub rest: Rest,
}

/// How far it is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVolumeStatus {
    /// `ImportInProgress`, `Succeeded` …
    pub phase: String,
    /// `Ready`, `Bound`, `Running`.
    pub conditions: Vec<Condition>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}
