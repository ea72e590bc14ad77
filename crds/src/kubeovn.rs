//! The kinds of `kubeovn.io/v1`: VPCs, subnets and addresses.

mod count;
mod ip;
mod subnet;
mod vpc;

pub use count::Count;
pub use ip::{Ip, IpSpec};
pub use subnet::{
    Subnet, SubnetAcl, SubnetNatRule, SubnetNatRuleMatch, SubnetSpec, SubnetStatus, U2oFeatures,
};
pub use vpc::{BfdPort, PolicyRoute, StaticRoute, Vpc, VpcPeering, VpcSpec, VpcStatus};

/// The VPC of a subnet that names none.
pub const DEFAULT_VPC: &str = "ovn-cluster";
