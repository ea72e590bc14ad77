//! Addresses that something else in the cluster has: its nodes, its services, and the
//! subnet by which nodes reach VMs. Pure.
//!
//! Only the default Vpc is joined to the nodes, which lead what is for its subnets to
//! their VMs; any other may have what addresses it likes. Kube-OVN knows the same
//! ranges by flags of the same names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crds::kubeovn::DEFAULT_VPC;
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use net::{AddrRange, Cidrs};

use crate::egress::JOIN;
use crate::network::{Network, NetworkError};
use crate::shelf::Seen;

/// Flags that say which addresses are in use elsewhere.
// clap names a group of flags after its type.
#[derive(Clone, Debug, clap::Args)]
pub struct RangeArgs {
    /// The networks of the subnet `join`, of which each node gets an address once a
    /// subnet of `ovn-cluster` says natOutgoing. Must not be in use elsewhere.
    #[arg(long, value_name = "CIDR", default_value = "100.64.0.0/16,fd00:100:64::/112")]
    pub node_switch_cidr: Cidrs,

    /// The networks of the cluster's Services, such as 10.96.0.0/12 or one of each
    /// family: no subnet of `ovn-cluster` may have addresses of them.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<IpNetwork>,

    /// The address of the Kubernetes API within the cluster; Kubernetes tells it to pods.
    #[arg(long, value_name = "ADDRESS", env = "KUBERNETES_SERVICE_HOST")]
    pub kubernetes_service_host: Option<String>,
}

impl RangeArgs {
    /// What they say.
    #[must_use]
    pub fn reserved(&self) -> Reserved {
        let service = |range: &IpNetwork| {
            (*range, "the cluster's Services (--service-cluster-ip-range)".to_owned())
        };
        let api = self.kubernetes_service_host.iter();
        // A name is no address of this cluster.
        let api = api.filter_map(|text| text.parse::<IpAddr>().ok());
        let api = api.map(|one| (one.into(), "the Kubernetes API in this cluster".to_owned()));
        Reserved {
            ranges: self.service_cluster_ip_range.iter().map(service).chain(api).collect(),
            join: Some(self.node_switch_cidr),
            ..Reserved::default()
        }
    }
}

/// The addresses that no subnet of the default Vpc may have.
#[derive(Debug, Default)]
pub struct Reserved {
    /// With what they are, for whoever reads a refusal.
    ranges: Vec<(IpNetwork, String)>,
    /// The subnet of the nodes, as it is made when it is first needed.
    join: Option<Cidrs>,
    /// Which nodes have an address.
    nodes: BTreeMap<IpAddr, BTreeSet<String>>,
    by_node: HashMap<String, Vec<IpAddr>>,
    synced: bool,
}

impl Reserved {
    /// Whether all nodes have been told of.
    #[must_use]
    pub const fn is_synced(&self) -> bool {
        self.synced
    }

    /// Takes in what a watch saw; returns whether that changed any address.
    pub fn apply(&mut self, seen: &Seen<Node>) -> bool {
        match seen {
            Seen::All { objects, unreadable } => {
                self.synced = true;
                let listed: BTreeSet<_> = objects.iter().map(|node| node.name_any()).collect();
                let unclear: BTreeSet<_> = unreadable.iter().flat_map(|one| &one.name).collect();
                let gone = |name: &&String| !listed.contains(*name) && !unclear.contains(name);
                let gone: Vec<_> = self.by_node.keys().filter(gone).cloned().collect();
                let mut changed = false;
                for name in &gone {
                    changed |= self.put(name, Vec::new());
                }
                for node in objects {
                    changed |= self.put(&node.name_any(), of_node(node));
                }
                changed
            }
            Seen::Now(node) => self.put(&node.name_any(), of_node(node)),
            // What it said before counts on.
            Seen::Unreadable(_) => false,
            Seen::Gone(meta) => meta.name.as_ref().is_some_and(|name| self.put(name, Vec::new())),
        }
    }

    fn put(&mut self, node: &str, addresses: Vec<IpAddr>) -> bool {
        let before = self.by_node.get(node).map(Vec::as_slice).unwrap_or_default();
        if before == addresses {
            return false;
        }
        for address in before {
            if let Some(names) = self.nodes.get_mut(address) {
                names.remove(node);
                if names.is_empty() {
                    self.nodes.remove(address);
                }
            }
        }
        for address in &addresses {
            self.nodes.entry(*address).or_default().insert(node.to_owned());
        }
        if addresses.is_empty() {
            self.by_node.remove(node);
        } else {
            self.by_node.insert(node.to_owned(), addresses);
        }
        true
    }

    /// Why a subnet cannot have its networks, if so. Where the subnet of the nodes is
    /// there, it says itself which addresses it has.
    #[must_use]
    pub fn conflict(&self, network: &Network, join_is_there: bool) -> Option<NetworkError> {
        let is_join = join_is_there || network.name == JOIN;
        let taken = |(field, mine): (&'static str, Cidrs)| {
            let (theirs, by) = self.taken(mine, is_join)?;
            Some(NetworkError::Reserved { field, mine, theirs, by })
        };
        network.reach().filter(|_| network.vpc == DEFAULT_VPC).find_map(taken)
    }

    /// What else is among these addresses, and whose that is.
    fn taken(&self, mine: Cidrs, is_join: bool) -> Option<(String, String)> {
        let overlaps = |range: &IpNetwork| {
            let contains =
                |cidr: IpNetwork| cidr.contains(range.network()) || range.contains(cidr.network());
            mine.iter().any(contains)
        };
        if let Some((range, by)) = self.ranges.iter().find(|(range, _)| overlaps(range)) {
            let one = range.size() == ipnetwork::NetworkSize::V4(1) || range.prefix() == 128;
            let text = if one { range.ip().to_string() } else { range.to_string() };
            return Some((text, by.clone()));
        }
        if let Some(join) = self.join.filter(|join| !is_join && join.overlaps(&mine)) {
            let by = format!("the nodes' subnet {JOIN:?} (--node-switch-cidr)");
            return Some((join.to_string(), by));
        }
        mine.iter().find_map(|cidr| {
            let range = AddrRange::from(cidr);
            let (address, names) = self.nodes.range(range.first()..=range.last()).next()?;
            let node = names.first()?;
            Some((address.to_string(), format!("an address of Node {node:?}")))
        })
    }
}

/// The addresses by which a node is reached in the cluster.
fn of_node(node: &Node) -> Vec<IpAddr> {
    let said = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = said.filter(|one| one.type_ == "InternalIP");
    let addresses: BTreeSet<_> = internal.filter_map(|one| one.address.parse().ok()).collect();
    addresses.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use crds::kubeovn::{Subnet, SubnetSpec};
    use serde_json::json;

    use super::*;

    fn network(name: &str, vpc: &str, cidr: &str) -> Network {
        let (vpc, cidr_block) = (vpc.to_owned(), cidr.to_owned());
        let spec = SubnetSpec { vpc, cidr_block, ..SubnetSpec::default() };
        Network::parse(&Subnet::new(name, spec)).unwrap()
    }

    fn node(name: &str, addresses: &[&str]) -> Node {
        let internal = addresses.iter().map(|one| json!({"type": "InternalIP", "address": one}));
        let mut addresses: Vec<_> = internal.collect();
        addresses.push(json!({"type": "ExternalIP", "address": "192.0.2.1"}));
        let node = json!({"metadata": {"name": name}, "status": {"addresses": addresses}});
        serde_json::from_value(node).unwrap()
    }

    fn reserved() -> Reserved {
        let args = RangeArgs {
            node_switch_cidr: "100.64.0.0/16,fd00:100:64::/112".parse().unwrap(),
            service_cluster_ip_range: vec!["10.96.0.0/12".parse().unwrap()],
            kubernetes_service_host: Some("172.30.0.1".to_owned()),
        };
        let mut reserved = args.reserved();
        reserved.apply(&Seen::all(vec![node("n1", &["10.0.0.5", "fd00::5"])]));
        reserved
    }

    #[test]
    fn a_range_that_is_in_use_elsewhere_is_named_with_who_uses_it() {
        let reserved = reserved();
        let said = |cidr: &str| {
            let why = reserved.conflict(&network("s", DEFAULT_VPC, cidr), false);
            why.map(|why| why.to_string()).unwrap_or_default()
        };
        for (cidr, words) in [
            ("10.100.0.0/16", ["10.96.0.0/12", "--service-cluster-ip-range"]),
            ("10.64.0.0/10", ["10.96.0.0/12", "--service-cluster-ip-range"]),
            ("172.30.0.0/24", ["overlaps 172.30.0.1,", "the Kubernetes API"]),
            ("100.64.9.0/24", ["100.64.0.0/16", "--node-switch-cidr"]),
            ("10.9.0.0/24,fd00:100:64::/64", ["fd00:100:64::/112", "--node-switch-cidr"]),
            ("10.0.0.0/24", ["10.0.0.5", "Node \"n1\""]),
            ("10.9.0.0/24,fd00::/64", ["fd00::5", "Node \"n1\""]),
        ] {
            let said = said(cidr);
            for word in words.into_iter().chain(["spec.cidrBlock", cidr, "choose"]) {
                assert!(said.contains(word), "{said:?} without {word:?}");
            }
        }
        for free in ["10.0.1.0/24", "192.0.2.0/24", "100.65.0.0/16"] {
            assert_eq!(said(free), "");
        }
    }

    #[test]
    fn what_is_not_joined_to_the_nodes_may_have_what_they_have() {
        let conflict = |name: &str, vpc: &str, cidr: &str, there: bool| {
            reserved().conflict(&network(name, vpc, cidr), there).is_some()
        };
        assert!(!conflict("s", "other", "10.96.0.0/24", false));
        assert!(!conflict(JOIN, DEFAULT_VPC, "100.64.0.0/16", false), "it is that subnet");
        assert!(!conflict("s", DEFAULT_VPC, "100.64.0.0/16", true), "that subnet is elsewhere");
    }

    #[test]
    fn a_node_that_goes_or_moves_gives_its_addresses_back() {
        let mut reserved = reserved();
        let has = |reserved: &Reserved, cidr: &str| {
            reserved.conflict(&network("s", DEFAULT_VPC, cidr), false).is_some()
        };
        assert!(!reserved.apply(&Seen::Now(Box::new(node("n1", &["fd00::5", "10.0.0.5"])))));
        assert!(reserved.apply(&Seen::Now(Box::new(node("n1", &["10.7.0.5"])))));
        assert!(!has(&reserved, "10.0.0.0/24") && has(&reserved, "10.7.0.0/24"));
        assert!(reserved.apply(&Seen::all(vec![node("n2", &["10.8.0.5"])])));
        assert!(!has(&reserved, "10.7.0.0/24") && has(&reserved, "10.8.0.0/24"));
        assert!(reserved.apply(&Seen::gone(&node("n2", &[]))));
        assert!(!has(&reserved, "10.8.0.0/24"));
    }
}
