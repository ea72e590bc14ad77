//! The kinds of `kubeovn.io/v1`: VPCs, subnets and addresses.

use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Deserializer};

mod count;
mod fixed;
mod ip;
mod ip_pool;
mod limits;
pub(crate) mod rules;
mod subnet;
#[cfg(test)]
mod upstream;
pub(crate) mod vip;
mod vpc;

pub use count::Count;
pub use fixed::{FixedField, fixed_fields};
pub use ip::{Ip, IpSpec};
pub use ip_pool::{IpPool, IpPoolSpec, IpPoolStatus};
pub use limits::{LONGEST_MATCH, LONGEST_TABLE, Limit, limits, most};
pub use subnet::{
    PrefixDelegation, Subnet, SubnetAcl, SubnetNatRule, SubnetNatRuleMatch, SubnetNatRuleStatus,
    SubnetSpec, SubnetStatus, U2oFeatures,
};
pub use vip::{Vip, VipSpec, VipStatus};
pub use vpc::{
    BfdPort, BfdPortStatus, PolicyRoute, StaticRoute, Vpc, VpcPeering, VpcSpec, VpcStatus,
};

/// What of a status a newer or an older release of ours may have written in another
/// form: nothing, where it is not what we know.
fn if_it_fits<'de, D, T>(deserializer: D) -> Result<Option<Box<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let said = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(said.and_then(|said| serde_json::from_value(said).ok()))
}

/// Holds a deleted Subnet or Vpc until nobody uses it; the controller puts it on
/// and takes it off (upstream `pkg/util/const.go`, `KubeOVNControllerFinalizer`).
pub const FINALIZER: &str = "kubeovn.io/kube-ovn-controller";

/// The VPC of a subnet that names none.
pub const DEFAULT_VPC: &str = "ovn-cluster";
