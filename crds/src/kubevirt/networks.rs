//! The networks an instance is attached to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Opaque, Rest};

/// One network, named so that an interface can refer to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The name an interface refers to.
    pub name: String,
    /// The default network of the namespace: the VM's first Berth subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Opaque>,
    /// A network that a NetworkAttachmentDefinition describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multus: Option<MultusNetwork>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A reference to a NetworkAttachmentDefinition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MultusNetwork {
    /// `<name>` or `<namespace>/<name>`.
    pub network_name: String,
    /// Whether it takes the place of the default network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// What this type does not name.
    #[serde(flatten)]
    pub rest: Rest,
}
