//! Links between the routers of two Vpcs: a router port on each, wired to the
//! other. Pure.
//!
//! Names and addresses are Kube-OVN's: the port `<vpc>-<remote>` with
//! `localConnectIP`, its peer `<remote>-<vpc>`. Each side makes its own port; nothing
//! passes before both are there, and static routes say what is to pass.

use std::collections::BTreeSet;

use crds::kubeovn::{VpcPeering, VpcSpec};
use ipnetwork::IpNetwork;
use net::{MacAddr, names};
use ovn::nb::RouterPortWant;

use crate::flaw::Flaw;
use crate::routes::counted;
use crate::world::World;

/// A link that this side has its part of.
#[derive(Debug)]
pub struct Link {
    /// The other Vpc.
    pub remote: String,
    /// The port's name.
    pub name: String,
    /// The port.
    pub port: RouterPortWant,
}

/// The links of the Vpc `name`, and what is wrong with its entries, those too that
/// are in force and to which the other side lacks its part.
#[must_use]
pub fn links(world: &World, name: &str, spec: &VpcSpec) -> (Vec<Link>, Vec<Flaw>) {
    let mut links = Vec::new();
    let (counted, mut flaws) = counted("vpcPeerings", &spec.vpc_peerings);
    let mut seen = BTreeSet::new();
    for (at, peering) in counted.iter().enumerate() {
        let remote = &peering.remote_vpc;
        let flaw = |field: &str, value: &str, advice: String| {
            Flaw::new(format!("vpcPeerings[{at}].{field}"), value, advice)
        };
        if !seen.insert(remote) {
            let advice = "an earlier entry links the same vpc: remove one of them";
            flaws.push(flaw("remoteVpc", remote, advice.to_owned()));
            continue;
        }
        match local(world, name, peering) {
            Ok((link, address)) => {
                if let Some((field, advice)) = other_side(world, name, peering, address) {
                    let value =
                        if field == "remoteVpc" { remote } else { &peering.local_connect_ip };
                    flaws.push(flaw(field, value, advice));
                }
                links.push(link);
            }
            Err((field, advice)) => {
                let value = if field == "remoteVpc" { remote } else { &peering.local_connect_ip };
                flaws.push(flaw(field, value, advice));
            }
        }
    }
    (links, flaws)
}

/// A field of an entry, and what to write there.
type Advice = (&'static str, String);

/// This side of a link.
fn local(world: &World, name: &str, peering: &VpcPeering) -> Result<(Link, IpNetwork), Advice> {
    let VpcPeering { remote_vpc: remote, local_connect_ip } = peering;
    if remote.is_empty() || remote == name {
        return Err(("remoteVpc", "write the name of another Vpc".to_owned()));
    }
    let written: Option<IpNetwork> =
        local_connect_ip.parse().ok().filter(|_| local_connect_ip.contains('/'));
    let Some(address) = written else {
        let advice = "write an address with its prefix length, such as 169.254.0.1/30";
        return Err(("localConnectIP", advice.to_owned()));
    };
    let port = names::router_side(name, remote);
    for network in world.ledger.networks().values() {
        if names::router_side(&network.vpc, &network.name) == port {
            let advice = format!(
                "subnet {:?} has a router port of the same name, {port:?}: rename one of them",
                network.name
            );
            return Err(("remoteVpc", advice));
        }
        if network.vpc == name && network.cidrs.iter().any(|cidr| overlap(cidr, address)) {
            let advice = format!(
                "it overlaps subnet {:?} of this vpc: choose a network of its own for the link",
                network.name
            );
            return Err(("localConnectIP", advice));
        }
    }
    let mac = MacAddr::derived_from(&["router-port", name, remote]);
    let want = RouterPortWant {
        peer: Some(names::router_side(remote, name)),
        external_ids: [].into(),
        ..RouterPortWant::gateway(name, mac, [address.to_string()])
    };
    Ok((Link { remote: remote.clone(), name: port, port: want }, address))
}

/// What keeps the other side from being there, as far as can be known.
fn other_side(
    world: &World,
    name: &str,
    peering: &VpcPeering,
    address: IpNetwork,
) -> Option<Advice> {
    let VpcPeering { remote_vpc: remote, .. } = peering;
    if world.vpcs.is_unreadable(remote) {
        return None;
    }
    let Some(other) = world.vpcs.get(remote) else {
        return Some((
            "remoteVpc",
            "this Vpc does not exist: create it, or remove the entry".to_owned(),
        ));
    };
    let back = other.spec.vpc_peerings.iter().find(|back| back.remote_vpc == name);
    let Some(back) = back else {
        let advice = format!(
            "nothing passes before Vpc {remote:?} has an entry for {name:?} in its spec.vpcPeerings: add it"
        );
        return Some(("remoteVpc", advice));
    };
    let theirs: IpNetwork = back.local_connect_ip.parse().ok()?;
    let reaches = address.network() == theirs.network() && address.prefix() == theirs.prefix();
    if !reaches || address.ip() == theirs.ip() {
        let advice = format!(
            "Vpc {remote:?} has {:?} on its side: use two addresses of one network",
            back.local_connect_ip
        );
        return Some(("localConnectIP", advice));
    }
    None
}

fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    one.is_ipv4() == other.is_ipv4()
        && (one.contains(other.network()) || other.contains(one.network()))
}

#[cfg(test)]
mod tests {
    use crds::kubeovn::{Subnet, SubnetSpec, Vpc};

    use super::*;
    use crate::shelf::Seen;
    use crate::world::Event;

    fn vpc(name: &str, peers: &[(&str, &str)]) -> Vpc {
        let peering = |(remote, address): &(&str, &str)| VpcPeering {
            remote_vpc: (*remote).to_owned(),
            local_connect_ip: (*address).to_owned(),
        };
        let vpc_peerings = peers.iter().map(peering).collect();
        Vpc::new(name, VpcSpec { vpc_peerings, ..VpcSpec::default() })
    }

    /// The links and flaws of the first of these Vpcs, which has a subnet `lan` of
    /// `10.0.0.0/24`.
    fn of(vpcs: Vec<Vpc>) -> (Vec<Link>, Vec<String>) {
        let (name, spec) = (vpcs[0].metadata.name.clone().unwrap(), vpcs[0].spec.clone());
        let subnet = SubnetSpec {
            cidr_block: "10.0.0.0/24".to_owned(),
            vpc: name.clone(),
            ..SubnetSpec::default()
        };
        let mut world = World::new(60);
        world.apply(Event::Vpc(Seen::all(vpcs)));
        world.apply(Event::Subnet(Seen::all(vec![Subnet::new("lan", subnet)])));
        world.take_dirty();
        let (links, flaws) = links(&world, &name, &spec);
        (links, flaws.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_side_has_its_port_as_kube_ovn_names_it() {
        let b = vpc("b", &[("a", "169.254.0.2/30")]);
        let (links, flaws) = of(vec![vpc("a", &[("b", "169.254.0.1/30")]), b]);
        assert!(flaws.is_empty(), "{flaws:?}");
        let [link] = &links[..] else { panic!("{links:?}") };
        assert_eq!((link.name.as_str(), link.port.router.as_str()), ("a-b", "a"));
        assert_eq!(link.port.peer.as_deref(), Some("b-a"));
        assert_eq!(link.port.networks, ["169.254.0.1/30".to_owned()].into());
        assert!(link.port.external_ids.is_empty());
    }

    #[test]
    fn a_link_of_which_one_side_is_missing_says_what_to_add_where() {
        let a = || vpc("a", &[("b", "169.254.0.1/30")]);
        let (links, flaws) = of(vec![a(), vpc("b", &[])]);
        assert_eq!(links.len(), 1, "this side has its part");
        assert!(flaws[0].contains(r#"Vpc "b" has an entry for "a""#), "{flaws:?}");
        assert!(of(vec![a()]).1[0].contains("does not exist"));
        for theirs in ["169.254.0.1/30", "169.254.9.2/30", "169.254.0.2/29"] {
            let flaws = of(vec![a(), vpc("b", &[("a", theirs)])]).1;
            assert!(flaws[0].contains("two addresses of one network"), "{flaws:?}");
        }
    }

    #[test]
    fn an_entry_that_cannot_be_a_link_is_named_and_makes_none() {
        let cases = [
            ("a", "169.254.0.1/30", "another Vpc"),
            ("", "169.254.0.1/30", "another Vpc"),
            ("b", "169.254.0.1", "prefix length"),
            ("b", "10.0.0.9/30", r#"overlaps subnet "lan""#),
            ("lan", "169.254.0.1/30", "rename one of them"),
        ];
        for (remote, address, text) in cases {
            let (links, flaws) = of(vec![vpc("a", &[(remote, address)])]);
            assert!(links.is_empty(), "{links:?}");
            assert!(flaws[0].contains(text), "{flaws:?}");
        }
        let twice = [("b", "169.254.0.1/30"), ("b", "169.254.1.1/30")];
        assert_eq!(of(vec![vpc("a", &twice)]).0.len(), 1);
    }
}
