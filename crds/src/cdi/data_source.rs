//! DataSources: a name for a claim that others are copied from, which may come to stand for
//! another one.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PvcSource;
use crate::kubevirt::{Condition, Opaque, Rest};

/// A name for what DataVolumes are copied from
/// (`containerized-data-importer-api/pkg/apis/core/v1beta1/types.go`).
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cdi.kubevirt.io",
    version = "v1beta1",
    kind = "DataSource",
    plural = "datasources",
    singular = "datasource",
    shortname = "das",
    category = "all",
    namespaced,
    status = "DataSourceStatus",
    doc = "A name for what DataVolumes are copied from.",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct DataSourceSpec {
    /// What it stands for.
    #[serde(default)]
    pub source: DataSourceSource,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What a DataSource stands for: one of them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataSourceSource {
    /// A claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PvcSource>,
    /// A VolumeSnapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Opaque>,
    /// Another DataSource of the namespace, which stands for a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_source: Option<PvcSource>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Whether it can be copied from.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataSourceStatus {
    /// What it stands for in the end, once that can be copied.
    #[serde(default)]
    pub source: DataSourceSource,
    /// `Ready`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// From where a DataVolume is copied: a DataSource.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceRef {
    /// `DataSource`.
    #[serde(default)]
    pub kind: String,
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

/// Its definition, to be installed where CDI is not.
#[must_use]
pub(super) fn definition() -> CustomResourceDefinition {
    let mut definition = DataSource::crd();
    crate::polish(&mut definition);
    definition
}
