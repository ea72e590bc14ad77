//! What clients of CDI are told of it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kubevirt::Rest;

/// The name of the one object.
pub const CONFIG: &str = "config";

/// What clients are told: one object, [`CONFIG`]
/// (`containerized-data-importer-api/pkg/apis/core/v1beta1/types.go`).
#[derive(Clone, CustomResource, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "cdi.kubevirt.io",
    version = "v1beta1",
    kind = "CDIConfig",
    plural = "cdiconfigs",
    singular = "cdiconfig",
    root = "ImporterConfig",
    status = "ImporterConfigStatus",
    doc = "What clients of the importer are told.",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ImporterConfigSpec {
    /// Where clients are to send what they upload, instead of what the status says.
    #[serde(default, rename = "uploadProxyURLOverride", skip_serializing_if = "Option::is_none")]
    pub upload_proxy_url_override: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// What is found out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImporterConfigStatus {
    /// Where clients send what they upload.
    #[serde(default, rename = "uploadProxyURL", skip_serializing_if = "Option::is_none")]
    pub upload_proxy_url: Option<String>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Its definition, to be installed where CDI is not.
#[must_use]
pub fn definition() -> CustomResourceDefinition {
    let mut definition = ImporterConfig::crd();
    crate::polish(&mut definition);
    definition
}
