//! Names of ports in OVN, and whose each is. Pure.
//!
//! A port's name is one owner's: the northbound schema has it once, and northd knows the
//! ports of switches and those of routers by one set of names. They stay as Kube-OVN
//! derives them, so that a cluster can change over, and are made of parts with `-` or `.`
//! between, which the parts may have, too: Vpc `a` with Subnet `b-c` and Vpc `a-b` with
//! Subnet `c` would both have the port `a-b-c`.
//!
//! Whose a name may be is found by taking it apart, and whose it is the objects say, so
//! that there is no table to keep. Who is in force has it, else who was there first; the
//! other is refused, or told so, and has no rows.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crds::kubeovn::{Vip, Vpc};
use net::names;

use crate::ledger::VmKey;
use crate::network::{Network, NetworkError};
use crate::peering;
use crate::request::Request;
use crate::shelf::Shelf;

/// Who has a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Owner {
    /// A subnet: one of the two between its switch and its router.
    Subnet {
        /// Its name.
        name: String,
        /// Its Vpc.
        vpc: String,
    },
    /// A Vpc: its side of a link to another.
    Link {
        /// Its name.
        vpc: String,
        /// The other.
        remote: String,
    },
    /// A subnet: an address that it lists.
    Listed {
        /// Its name.
        subnet: String,
        /// The address.
        address: IpAddr,
    },
    /// A Vip.
    Vip(String),
    /// A VM, an instance without one, or a node; or it is reserved for it.
    Guest(VmKey),
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subnet { name, vpc } => {
                write!(out, "a port between Subnet {name:?} and its Vpc {vpc:?}")
            }
            Self::Link { vpc, remote } => {
                write!(out, "the port of Vpc {vpc:?} towards Vpc {remote:?}")
            }
            Self::Listed { subnet, address } => {
                write!(out, "the port of {address} in spec.vips of Subnet {subnet:?}")
            }
            Self::Vip(name) => write!(out, "the port of Vip {name:?}"),
            Self::Guest(key) => match key.node() {
                Some(node) => write!(out, "the port of Node {node:?}"),
                None => write!(out, "a port of VirtualMachine {key}"),
            },
        }
    }
}

/// What must be known of objects to say whose a name is.
pub trait Objects {
    /// By name.
    fn vpcs(&self) -> &Shelf<String, Vpc>;
    /// By name.
    fn vips(&self) -> &Shelf<String, Vip>;
    /// Whose port this is, or for whom it is reserved, by the IP object of its name.
    fn guest(&self, port: &str) -> Option<VmKey>;
}

/// Everybody who has, or is to have, the port of this name, beside these subnets.
pub fn owners(
    objects: &impl Objects,
    networks: &BTreeMap<String, Network>,
    port: &str,
) -> Vec<Owner> {
    let mut owners = Vec::new();
    for (first, second) in splits(port, "-") {
        for (name, vpc) in [(first, second), (second, first)] {
            if networks.get(name).is_some_and(|network| network.vpc == vpc) {
                owners.push(Owner::Subnet { name: name.to_owned(), vpc: vpc.to_owned() });
            }
        }
        let vpc = objects.vpcs().get(&first.to_owned());
        if vpc.is_some_and(|vpc| peering::wants(vpc, second)) {
            owners.push(Owner::Link { vpc: first.to_owned(), remote: second.to_owned() });
        }
    }
    let listed = splits(port, "-vip-").into_iter().filter_map(|(subnet, address)| {
        let address = address.parse().ok()?;
        let lists = networks.get(subnet)?.vips.contains(&address);
        lists.then(|| Owner::Listed { subnet: subnet.to_owned(), address })
    });
    owners.extend(listed);
    let vip = names::vip_of_port(port).to_owned();
    let has_ports = |vip: &Vip| {
        vip.spec.r#type.is_empty() && vip.status.as_ref().is_some_and(|one| !one.mac.is_empty())
    };
    if objects.vips().get(&vip).is_some_and(|vip| has_ports(vip)) {
        owners.push(Owner::Vip(vip));
    }
    owners.extend(objects.guest(port).map(Owner::Guest));
    owners
}

/// Every way to cut this name in two.
fn splits<'a>(name: &'a str, at: &str) -> Vec<(&'a str, &'a str)> {
    let cut = |(index, found): (usize, &str)| (&name[..index], &name[index + found.len()..]);
    name.match_indices(at).map(cut).collect()
}

/// The ports that a subnet has by itself.
fn of_subnet(network: &Network) -> impl Iterator<Item = String> {
    let Network { name, vpc, vips, .. } = network;
    let listed = vips.iter().map(|address| names::subnet_vip(name, &address.to_string()));
    [names::switch_side(name, vpc), names::router_side(vpc, name)].into_iter().chain(listed)
}

/// Why `network` cannot be in force beside these, for a name. One that `was` in force goes
/// before all but the subnets that are there; one that was not goes after whoever has
/// the name.
pub fn conflict(
    objects: &impl Objects,
    networks: &BTreeMap<String, Network>,
    network: &Network,
    was: bool,
) -> Option<NetworkError> {
    let is_own = |owner: &Owner| match owner {
        Owner::Subnet { name, .. } | Owner::Listed { subnet: name, .. } => *name == network.name,
        _ => false,
    };
    let goes_before = |owner: &Owner| match owner {
        Owner::Subnet { .. } | Owner::Listed { .. } => true,
        Owner::Link { vpc, remote } => {
            let vpc = objects.vpcs().get(vpc);
            !was && vpc.is_some_and(|vpc| peering::is_in_force(vpc, remote))
        }
        Owner::Vip(_) | Owner::Guest(_) => !was,
    };
    of_subnet(network).find_map(|port| {
        let owners = owners(objects, networks, &port).into_iter();
        let by = owners.filter(|owner| !is_own(owner)).find(goes_before)?.to_string();
        Some(NetworkError::NameTaken { port, by })
    })
}

/// Who else than `key` has this port, which is to be one of its own.
pub fn other(
    objects: &impl Objects,
    networks: &BTreeMap<String, Network>,
    key: &VmKey,
    port: &str,
) -> Option<Owner> {
    let is_own = |owner: &Owner| match owner {
        Owner::Guest(other) => other == key,
        _ => false,
    };
    owners(objects, networks, port).into_iter().find(|owner| !is_own(owner))
}

/// Why `key` cannot have the port that it asks for, where that is another's.
pub fn of_request(
    objects: &impl Objects,
    networks: &BTreeMap<String, Network>,
    key: &VmKey,
    request: &Request,
) -> Option<String> {
    let Request { port, network, .. } = request;
    let owner = other(objects, networks, key, port)?;
    Some(format!(
        "network {network:?}: its port {port:?} would have the name of {owner}: rename one of the two"
    ))
}

#[cfg(test)]
mod tests {
    use crds::kubeovn::{Ip, IpSpec, Subnet, SubnetSpec, VipSpec, VpcPeering, VpcSpec};

    use super::*;
    use crate::shelf::Seen;
    use crate::world::{Event, World};

    fn subnet(name: &str, vpc: &str, number: u8) -> Subnet {
        let spec = SubnetSpec {
            cidr_block: format!("10.{number}.0.0/24"),
            vpc: vpc.to_owned(),
            ..SubnetSpec::default()
        };
        Subnet::new(name, spec)
    }

    fn vpc(name: &str, remote: &[&str]) -> Vpc {
        let link = |(at, remote): (usize, &&str)| VpcPeering {
            remote_vpc: (*remote).to_owned(),
            local_connect_ip: format!("169.254.{at}.1/30"),
        };
        let vpc_peerings = remote.iter().enumerate().map(link).collect();
        Vpc::new(name, VpcSpec { vpc_peerings, ..VpcSpec::default() })
    }

    fn world(vpcs: Vec<Vpc>, subnets: Vec<Subnet>) -> World {
        let mut world = World::new(60);
        world.apply(Event::Vpc(Seen::all(vpcs)));
        world.apply(Event::Subnet(Seen::all(subnets)));
        world.take_dirty();
        world
    }

    fn ip(name: &str, namespace: &str, vm: &str) -> Ip {
        let spec = IpSpec {
            namespace: namespace.to_owned(),
            pod_name: vm.to_owned(),
            ..IpSpec::default()
        };
        Ip::new(name, spec)
    }

    fn who(world: &World, port: &str) -> Vec<String> {
        let owners = owners(world, world.ledger.networks(), port);
        owners.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_is_known_for_whoever_has_it() {
        let mut lan = subnet("lan", "b", 3);
        lan.spec.vips = vec!["10.3.0.9".to_owned()];
        let mut world = world(vec![vpc("a", &["b"]), vpc("b", &[])], vec![lan]);
        let mut vip = Vip::new("vip", VipSpec::default());
        let mac = "02:00:00:00:00:01".to_owned();
        vip.status = Some(crds::kubeovn::VipStatus { mac, ..Default::default() });
        world.apply(Event::Vip(Seen::all(vec![vip])));
        world.apply(Event::Ip(Seen::all(vec![
            ip("web.default", "default", "web"),
            ip("node-n1", "", "n1"),
        ])));
        for (port, owner) in [
            ("lan-b", r#"a port between Subnet "lan" and its Vpc "b""#),
            ("b-lan", r#"a port between Subnet "lan" and its Vpc "b""#),
            ("a-b", r#"the port of Vpc "a" towards Vpc "b""#),
            ("lan-vip-10.3.0.9", r#"the port of 10.3.0.9 in spec.vips of Subnet "lan""#),
            ("vip", r#"the port of Vip "vip""#),
            ("vip:v6", r#"the port of Vip "vip""#),
            ("web.default", "a port of VirtualMachine default/web"),
            ("node-n1", r#"the port of Node "n1""#),
        ] {
            assert_eq!(who(&world, port), [owner], "{port}");
        }
        for port in ["a-lan", "b-a", "lan-vip-10.3.0.8", "web", ""] {
            assert!(who(&world, port).is_empty(), "{port}");
        }
    }

    #[test]
    fn of_two_subnets_whose_router_ports_have_one_name_the_one_that_was_there_first_has_it() {
        let (first, second) = (subnet("b-c", "a", 1), subnet("c", "a-b", 2));
        let vpcs = || vec![vpc("a", &[]), vpc("a-b", &[])];
        let mut world = world(vpcs(), vec![first]);
        world.apply(Event::Subnet(Seen::Now(Box::new(second))));
        world.take_dirty();
        assert!(world.ledger.networks().contains_key("b-c"));
        let told = world.refused["c"].to_string();
        assert!(told.contains(r#""a-b-c""#) && told.contains(r#"Subnet "b-c""#), "{told}");
        assert!(told.ends_with("rename one of the two"), "{told}");
        // It comes into force once the other is gone.
        let gone = Box::new(subnet("b-c", "a", 1).metadata);
        world.apply(Event::Subnet(Seen::Gone(gone)));
        world.take_dirty();
        assert!(world.ledger.networks().contains_key("c"));
    }

    #[test]
    fn a_switch_port_and_a_router_port_are_no_two_owners() {
        let world = world(
            vec![vpc("a", &[]), vpc("b", &[])],
            vec![subnet("a", "b", 1), subnet("b", "a", 2)],
        );
        assert_eq!(world.refused.len(), 1, "{:?}", world.refused);
    }

    #[test]
    fn a_new_subnet_takes_no_port_of_a_guest_or_a_node() {
        let mut world = World::new(60);
        world.apply(Event::Vpc(Seen::all(vec![vpc("x.default", &[]), vpc("n1", &[])])));
        world.apply(Event::Ip(Seen::all(vec![
            ip("web-x.default", "default", "web-x"),
            ip("node-n1", "", "n1"),
        ])));
        let subnets = vec![subnet("web", "x.default", 1), subnet("node", "n1", 2)];
        world.apply(Event::Subnet(Seen::all(subnets)));
        world.take_dirty();
        let told = world.refused["web"].to_string();
        assert!(told.contains("VirtualMachine default/web-x"), "{told}");
        assert!(world.refused["node"].to_string().contains(r#"Node "n1""#));
    }

    #[test]
    fn a_subnet_in_force_keeps_its_ports_whoever_comes() {
        let mut world = world(vec![vpc("x.default", &[])], vec![subnet("web", "x.default", 1)]);
        world.apply(Event::Ip(Seen::all(vec![ip("web-x.default", "default", "web-x")])));
        world.look_at_all();
        world.take_dirty();
        assert!(world.ledger.networks().contains_key("web"), "{:?}", world.refused);
    }

    #[test]
    fn a_guest_takes_no_port_of_a_subnet_or_of_another_guest() {
        let mut world = world(vec![vpc("x.default", &[])], vec![subnet("web", "x.default", 1)]);
        let theirs = "vmm.default.n1.default.ovn";
        world.apply(Event::Ip(Seen::all(vec![ip(theirs, "default", "vmm")])));
        let key = |namespace: &str, name: &str| VmKey {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let other = |key: VmKey, port: &str| {
            other(&world, world.ledger.networks(), &key, port).map(|owner| owner.to_string())
        };
        let told = other(key("default", "web-x"), "web-x.default").unwrap();
        assert!(told.contains(r#"Subnet "web""#), "{told}");
        let told = other(key("ovn", "vmm.default.n1.default"), theirs).unwrap();
        assert!(told.contains("VirtualMachine default/vmm"), "{told}");
        assert_eq!(other(key("default", "vmm"), theirs), None);
    }
}
