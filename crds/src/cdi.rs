//! `cdi.kubevirt.io/v1beta1`: DataVolumes, as Containerized Data Importer's users write them.
//!
//! Where CDI is installed its definitions are its own, and so is the work. Where it is not,
//! the definition is ours (`manifests/cdi`), and the controller and the agents fill claims.
//! Both sides speak by annotations of the claim: CDI's where it has one ([`notes`]).

pub mod config;
mod data_source;
pub mod leave;
pub mod notes;
mod source;

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kubevirt::{Condition, Quantity, Rest};

pub use config::{ImporterConfig, ImporterConfigSpec, ImporterConfigStatus};
pub use data_source::{DataSource, DataSourceSource, DataSourceSpec, DataSourceStatus, SourceRef};
pub use source::{DataVolumeSource, HttpSource, Platform, PvcSource, RegistrySource, S3Source};

/// A claim that is being filled, or has been
/// (`containerized-data-importer-api/pkg/apis/core/v1beta1/types.go`).
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cdi.kubevirt.io",
    version = "v1beta1",
    kind = "DataVolume",
    plural = "datavolumes",
    singular = "datavolume",
    shortname = "dv",
    shortname = "dvs",
    category = "all",
    namespaced,
    status = "DataVolumeStatus",
    doc = "A claim that is being filled, or has been.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase","description":"The phase the data volume is in"}"#,
    printcolumn = r#"{"name":"Progress","type":"string","jsonPath":".status.progress","description":"Transfer progress in percentage if known, N/A otherwise"}"#,
    printcolumn = r#"{"name":"Restarts","type":"integer","jsonPath":".status.restartCount","description":"The number of times the transfer has been restarted."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DataVolumeSpec {
    /// Where what is in the claim comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<DataVolumeSource>,
    /// A DataSource that says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ref: Option<SourceRef>,
    /// The claim, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<ClaimSpec>,
    /// The claim, with what is left out filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<ClaimSpec>,
    /// `kubevirt` for a disk, which is the default, or `archive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What is asked of a claim.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSpec {
    /// `ReadWriteOnce` …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
    /// `Filesystem` or `Block`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// The class; without it the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// How large it is to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ClaimResources>,
    /// What this type does not name: `volumeName`, `selector` …
    #[serde(flatten)]
    pub rest: Rest,
}

/// How large a claim is to be.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimResources {
    /// `storage`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// How far it is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVolumeStatus {
    /// The claim.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub claim_name: String,
    /// `ImportInProgress`, `Succeeded` …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// `12.34%`, or `N/A`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    /// How often it was begun anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_count: Option<i32>,
    /// `Ready`, `Bound`, `Running`.
    pub conditions: Vec<Condition>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Containerized Data Importer itself. That this kind is served says that it is installed.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cdi.kubevirt.io",
    version = "v1beta1",
    kind = "CDI",
    plural = "cdis",
    singular = "cdi",
    root = "Importer",
    doc = "Containerized Data Importer."
)]
pub struct ImporterSpec {
    /// Nobody here looks at it.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The definition of [`DataSource`], to be installed where CDI is not.
#[must_use]
pub fn source_definition() -> CustomResourceDefinition {
    data_source::definition()
}

/// The definition of [`DataVolume`], to be installed where CDI is not.
#[must_use]
pub fn definition() -> CustomResourceDefinition {
    let mut definition = DataVolume::crd();
    crate::polish(&mut definition);
    definition
}
