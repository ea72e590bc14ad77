//! The kinds of `kubeovn.io/v1`: VPCs, subnets and addresses.

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
pub use limits::{Limit, limits, most};
pub use subnet::{
    Subnet, SubnetAcl, SubnetNatRule, SubnetNatRuleMatch, SubnetNatRuleStatus, SubnetSpec,
    SubnetStatus, U2oFeatures,
};
pub use vip::{Vip, VipSpec, VipStatus};
pub use vpc::{
    BfdPort, BfdPortStatus, PolicyRoute, StaticRoute, Vpc, VpcPeering, VpcSpec, VpcStatus,
};

/// Holds a deleted Subnet or Vpc until nobody uses it; the controller puts it on
/// and takes it off (upstream `pkg/util/const.go`, `KubeOVNControllerFinalizer`).
pub const FINALIZER: &str = "kubeovn.io/kube-ovn-controller";

/// The VPC of a subnet that names none.
pub const DEFAULT_VPC: &str = "ovn-cluster";
