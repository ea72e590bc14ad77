//! What the way out is to be on this node, as the controller has written it. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crds::annotations::{self, ROUTED, TRANSLATED};
use crds::kubeovn::Subnet;
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use net::{Cidrs, names};

use crate::leases::OVERLAY_MTU;
use crate::tap::Gateway;

/// All of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wanted {
    pub port: Gateway,
    /// The port's, with the prefix lengths of its networks.
    pub addresses: Vec<IpNetwork>,
    /// The VPC's router, one address of each family.
    pub gateways: Vec<IpAddr>,
    /// What the router leads to.
    pub routed: BTreeSet<IpNetwork>,
    /// The networks of the port itself.
    pub own: Vec<IpNetwork>,
    /// What goes out with the node's address.
    pub translated: BTreeSet<IpNetwork>,
}

/// A value that the controller would not have written.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("annotation {key} is {value:?}, which is not what it should be: remove it")]
pub(super) struct BadNote {
    key: String,
    value: String,
}

impl Wanted {
    /// Nothing while this node has no place or nobody goes out.
    ///
    /// # Errors
    /// A note that cannot be read.
    pub(super) fn of(node: &Node, join: &Subnet) -> Result<Option<Self>, BadNote> {
        let Some(routed) = join.annotations().get(ROUTED) else { return Ok(None) };
        let note = |field: &str| {
            let key = annotations::key(names::DEFAULT_PROVIDER, field);
            let value = node.annotations().get(&key).cloned().unwrap_or_default();
            (key, value)
        };
        let name = note(annotations::PORT_NAME);
        if note(annotations::ALLOCATED).1 != "true" || name.1.is_empty() {
            return Ok(None);
        }
        let cidr = note(annotations::CIDR);
        let cidrs: Cidrs = cidr.1.parse().map_err(|_| bad(&cidr.0, &cidr.1))?;
        let mac = note(annotations::MAC_ADDRESS);
        let address = note(annotations::IP_ADDRESS);
        let addresses: Vec<IpAddr> = list(&address.0, &address.1)?;
        let within = |one: &IpAddr| {
            let network = cidrs.iter().find(|network| network.contains(*one))?;
            IpNetwork::new(*one, network.prefix()).ok()
        };
        let addresses: Option<Vec<_>> = addresses.iter().map(within).collect();
        let addresses = addresses.ok_or_else(|| bad(&address.0, &address.1))?;
        let gateway = note(annotations::GATEWAY);
        let empty = String::new();
        let translated = join.annotations().get(TRANSLATED).unwrap_or(&empty);
        let mtu = join.spec.mtu.and_then(|mtu| u16::try_from(mtu).ok()).filter(|mtu| *mtu > 0);
        Ok(Some(Self {
            port: Gateway {
                name: name.1,
                mac: mac.1.parse().map_err(|_| bad(&mac.0, &mac.1))?,
                mtu: mtu.unwrap_or(OVERLAY_MTU),
            },
            addresses,
            gateways: list(&gateway.0, &gateway.1)?,
            routed: list(ROUTED, routed)?.into_iter().collect(),
            own: cidrs.iter().collect(),
            translated: list(TRANSLATED, translated)?.into_iter().collect(),
        }))
    }
}

/// What stands between commas.
fn list<T: std::str::FromStr>(key: &str, value: &str) -> Result<Vec<T>, BadNote> {
    let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_err(|_| bad(key, value))).collect()
}

fn bad(key: &str, value: &str) -> BadNote {
    BadNote { key: key.to_owned(), value: value.to_owned() }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::egress) fn node() -> Node {
        serde_json::from_value(json!({ "metadata": { "name": "n1", "annotations": {
            "ovn.kubernetes.io/allocated": "true",
            "ovn.kubernetes.io/ip_address": "100.64.0.2,fd00:100:64::2",
            "ovn.kubernetes.io/mac_address": "0a:00:00:00:00:02",
            "ovn.kubernetes.io/cidr": "100.64.0.0/16,fd00:100:64::/112",
            "ovn.kubernetes.io/gateway": "100.64.0.1,fd00:100:64::1",
            "ovn.kubernetes.io/port_name": "node-n1",
        } } }))
        .unwrap()
    }

    pub(in crate::egress) fn join(routed: &str, translated: &str) -> Subnet {
        serde_json::from_value(json!({
            "apiVersion": "kubeovn.io/v1", "kind": "Subnet",
            "metadata": { "name": "join", "annotations": {
                "berth.io/routed-networks": routed, "berth.io/translated-networks": translated,
            } },
            "spec": { "cidrBlock": "100.64.0.0/16,fd00:100:64::/112" },
        }))
        .unwrap()
    }

    #[test]
    fn what_the_controller_has_written_is_what_is_wanted() {
        let join = join("10.1.0.0/24,10.2.0.0/24,fd0a::/64", "10.1.0.0/24");
        let wanted = Wanted::of(&node(), &join).unwrap().unwrap();
        assert_eq!((wanted.port.name.as_str(), wanted.port.mtu), ("node-n1", 1400));
        let addresses: Vec<_> = wanted.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["100.64.0.2/16", "fd00:100:64::2/112"]);
        assert_eq!((wanted.routed.len(), wanted.translated.len()), (3, 1));
    }

    #[test]
    fn without_a_place_or_anybody_who_goes_out_nothing_is_wanted() {
        let mut quiet = join("10.1.0.0/24", "10.1.0.0/24");
        quiet.annotations_mut().clear();
        assert_eq!(Wanted::of(&node(), &quiet), Ok(None));
        let join = join("10.1.0.0/24", "10.1.0.0/24");
        assert_eq!(Wanted::of(&Node::default(), &join), Ok(None));
    }

    #[test]
    fn a_note_that_cannot_be_read_is_named() {
        let mut node = node();
        let key = "ovn.kubernetes.io/ip_address".to_owned();
        node.annotations_mut().insert(key, "10.9.9.9".to_owned());
        let error = Wanted::of(&node, &join("10.1.0.0/24", "")).unwrap_err();
        assert!(error.to_string().contains("ip_address is \"10.9.9.9\""), "{error}");
        let error = Wanted::of(&self::node(), &join("10.1.0.0/33", "")).unwrap_err();
        assert!(error.to_string().contains("berth.io/routed-networks"), "{error}");
    }
}
