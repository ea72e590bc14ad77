//! `k8s.cni.cncf.io/v1alpha1`: what the multi-network working group defines.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Addresses that outlive the pod or VM that uses them
/// (`k8snetworkplumbingwg/ipamclaims`, `pkg/crd/ipamclaims/v1alpha1/types.go`).
#[derive(
    Clone, CustomResource, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize,
)]
#[kube(
    group = "k8s.cni.cncf.io",
    version = "v1alpha1",
    kind = "IPAMClaim",
    root = "IpamClaim",
    plural = "ipamclaims",
    singular = "ipamclaim",
    namespaced,
    status = "IpamClaimStatus",
    doc = "Addresses of one network attachment that outlive whatever uses them.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Network","type":"string","jsonPath":".spec.network"}"#,
    printcolumn = r#"{"name":"IPs","type":"string","jsonPath":".status.ips"}"#,
    printcolumn = r#"{"name":"Used by","type":"string","jsonPath":".status.ownerPod.name"}"#
)]
pub struct IpamClaimSpec {
    /// The network that the addresses are of: the attachment, `<nad>` or
    /// `<namespace>/<nad>`, or its Subnet.
    pub network: String,
    /// The interface that they are for. It is not looked at.
    #[serde(default)]
    pub interface: String,
}

/// What a claim has.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpamClaimStatus {
    /// The addresses, in CIDR notation.
    pub ips: Vec<String>,
    /// Who uses them.
    pub owner_pod: Option<OwnerPod>,
    /// `IPsAllocated`, `DeletionBlocked`.
    pub conditions: Vec<Condition>,
}

/// Who uses a claim: upstream a pod, here a VM.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct OwnerPod {
    /// Its name. Upstream leaves it out where it is empty.
    #[serde(default)]
    pub name: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_whose_user_has_no_name_can_be_read() {
        let status = json!({ "ips": ["10.0.0.2/24"], "ownerPod": {} });
        let status: IpamClaimStatus = serde_json::from_value(status).unwrap();
        assert_eq!(status.owner_pod, Some(OwnerPod::default()));
    }
}
