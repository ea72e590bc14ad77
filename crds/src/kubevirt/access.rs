//! Who may log in to a guest: `spec.accessCredentials`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Rest;

/// Keys or a password, and how the guest comes to know of them (upstream `AccessCredential`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessCredential {
    /// Public keys of SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_public_key: Option<SshPublicKey>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Public keys of SSH (upstream `SSHPublicKeyAccessCredential`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SshPublicKey {
    /// Where they are.
    pub source: KeySource,
    /// How they come into the guest.
    pub propagation_method: Propagation,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Where keys are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeySource {
    /// A Secret each of whose values is one key, or several, a line each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeySecret>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A Secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeySecret {
    /// Its name.
    pub secret_name: String,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// How keys come into a guest; one of these, or what `rest` has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Propagation {
    /// By the metadata of the volume `cloudInitNoCloud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_cloud: Option<Rest>,
    /// By the metadata of the volume `cloudInitConfigDrive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_drive: Option<Rest>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}
