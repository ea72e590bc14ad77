//! The address ledger: the one home of "which address belongs to whom".

use std::collections::BTreeMap;
use std::net::IpAddr;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// 256 addresses of one subnet and family, and who holds each.
///
/// An address is held if and only if its block says so. Blocks are made on
/// demand and written only with the `resourceVersion` that was read, so of two
/// writers one always fails: uniqueness is a property of the store.
#[derive(Clone, CustomResource, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[kube(
    group = "berth.io",
    version = "v1alpha1",
    kind = "AddressBlock",
    plural = "addressblocks",
    singular = "addressblock",
    shortname = "ab",
    doc = "256 addresses of one subnet and family, and who holds each; not to be edited by hand.",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Subnet","type":"string","jsonPath":".spec.subnet"}"#,
    printcolumn = r#"{"name":"First","type":"string","jsonPath":".spec.first"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AddressBlockSpec {
    /// The subnet.
    pub subnet: String,
    /// The lowest address of the block, a multiple of 256.
    #[schemars(with = "String")]
    pub first: IpAddr,
    /// Held addresses.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Holder>")]
    pub held: BTreeMap<IpAddr, Holder>,
    /// Released addresses, with the time of release in seconds of Unix time; a later
    /// one where a guest may still live on its lease, since nobody saw it end.
    /// Each rests for a while before another owner gets it, and those released
    /// longest ago are given out again first, so an entry stays until its address
    /// is held again, or until it is one of too many to remember.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, u64>")]
    pub resting: BTreeMap<IpAddr, u64>,
}

/// Who holds an address.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The port, named as the IP object.
    pub port: String,
    /// The VM, as `namespace/name`.
    pub vm: String,
    /// The uid of the VM; empty for a reservation that waits for its VM.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Whose address it is, if the port has it on loan: it goes back there and not to
    /// whoever comes next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lender: Option<Lender>,
}

/// What holds an address for whoever uses it, and has lent it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lender {
    /// Its kind and name: `vip:<name>`.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Addresses per block.
pub const BLOCK_SIZE: u128 = 256;

/// The lowest address of the block that `addr` belongs to.
#[must_use]
pub fn first_of_block(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & !0xff).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !(BLOCK_SIZE - 1)).into()),
    }
}

/// The name of the block of `subnet` that `addr` belongs to: the subnet, the
/// family, and the block's first address in hexadecimal without its last two
/// digits.
#[must_use]
pub fn block_name(subnet: &str, addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(v4) => format!("{subnet}.v4.{:06x}", u32::from(v4) >> 8),
        IpAddr::V6(v6) => format!("{subnet}.v6.{:030x}", u128::from(v6) >> 8),
    }
}

/// The subnet of the block of this name.
#[must_use]
pub fn subnet_of_block(name: &str) -> &str {
    // A subnet's name may have dots of its own.
    let subnet = name.rsplit_once('.').and_then(|(rest, _)| rest.rsplit_once('.'));
    subnet.map_or(name, |(subnet, _family)| subnet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocks_name_tells_its_subnet() {
        for addr in ["10.0.0.1", "fd00::1"] {
            assert_eq!(subnet_of_block(&block_name("a.v4.b", addr.parse().unwrap())), "a.v4.b");
        }
    }

    #[test]
    fn addresses_of_one_block_share_its_name_and_neighbours_do_not() {
        let name = |addr: &str| block_name("s", addr.parse().unwrap());
        assert_eq!(name("10.0.0.1"), name("10.0.0.255"));
        assert_eq!(name("10.0.0.1"), "s.v4.0a0000");
        assert_ne!(name("10.0.0.255"), name("10.0.1.0"));
        assert_eq!(name("fd00::ff"), name("fd00::"));
        assert_ne!(name("fd00::100"), name("fd00::ff"));
        assert_eq!(first_of_block("fd00::1ff".parse().unwrap()).to_string(), "fd00::100");
    }
}
