//! What is asked of a node by its labels: `nodeSelector`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

/// What of a selector the node does not carry.
#[must_use]
pub fn unmet<'a>(
    node: &Node,
    selector: &'a BTreeMap<String, String>,
) -> Option<(&'a String, &'a String)> {
    selector.iter().find(|(key, value)| node.labels().get(*key) != Some(*value))
}
