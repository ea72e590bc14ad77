//! Links between the routers of two Vpcs: a router port on each, wired to the
//! other. Pure.
//!
//! Names and addresses are Kube-OVN's: the port `<vpc>-<remote>` with
//! `localConnectIP`, its peer `<remote>-<vpc>`. Each side makes its own port; nothing
//! passes before both are there, and static routes say what is to pass.

use std::collections::{BTreeMap, BTreeSet};

use crds::kubeovn::{Vpc, VpcPeering, VpcSpec};
use ipnetwork::IpNetwork;
use net::{MacAddr, names};
use ovn::nb::RouterPortWant;

use crate::flaw::Flaw;
use crate::hold;
use crate::network::Network;
use crate::port_names::{self, Objects, Owner};
use crate::routes::counted;
use crate::shelf::Shelf;

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

/// What a Vpc says of its links.
#[derive(Debug, Default)]
pub struct Links {
    /// Those of which this side has its part.
    pub there: Vec<Link>,
    /// What is wrong with the others.
    pub flaws: Vec<Flaw>,
    /// What the other sides of those that are there lack.
    pub waits: Vec<Flaw>,
}

/// The links of the Vpc `name`, beside the subnets in force and the other Vpcs.
#[must_use]
pub fn links(
    objects: &impl Objects,
    networks: &BTreeMap<String, Network>,
    name: &str,
    spec: &VpcSpec,
) -> Links {
    let (counted, flaws) = counted("vpcPeerings", &spec.vpc_peerings);
    let mut links = Links { flaws, ..Links::default() };
    let mut seen = BTreeSet::new();
    for (at, peering) in counted.iter().enumerate() {
        let flaw = |(field, advice): Advice| {
            let VpcPeering { remote_vpc, local_connect_ip } = peering;
            let value = if field == "remoteVpc" { remote_vpc } else { local_connect_ip };
            Flaw::new(format!("vpcPeerings[{at}].{field}"), value, advice)
        };
        if !seen.insert(&peering.remote_vpc) {
            let advice = "an earlier entry links the same vpc: remove one of them";
            links.flaws.push(flaw(("remoteVpc", advice.to_owned())));
            continue;
        }
        match local(objects, networks, name, peering) {
            Ok((link, addresses)) => {
                let vpcs = objects.vpcs();
                links.waits.extend(other_side(vpcs, name, peering, &addresses).map(flaw));
                links.there.push(link);
            }
            Err(advice) => links.flaws.push(flaw(advice)),
        }
    }
    links
}

/// A field of an entry, and what to write there.
type Advice = (&'static str, String);

/// The addresses of a side with their prefix lengths, at most one of each family.
fn addresses(text: &str) -> Option<Vec<IpNetwork>> {
    let mut addresses: Vec<IpNetwork> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let one: IpNetwork = part.parse().ok().filter(|_| part.contains('/'))?;
        if addresses.iter().any(|other| other.is_ipv4() == one.is_ipv4()) {
            return None;
        }
        addresses.push(one);
    }
    Some(addresses)
}

/// Whether this Vpc is to have a link to `remote`, by what it says itself.
#[must_use]
pub fn wants(vpc: &Vpc, remote: &str) -> bool {
    let is_it =
        |one: &VpcPeering| one.remote_vpc == remote && addresses(&one.local_connect_ip).is_some();
    !hold::is_leaving(&vpc.metadata) && vpc.spec.vpc_peerings.iter().any(is_it)
}

/// Whether its status says that its side of the link to `remote` is there.
#[must_use]
pub fn is_in_force(vpc: &Vpc, remote: &str) -> bool {
    let status = vpc.status.as_ref();
    wants(vpc, remote)
        && status.is_some_and(|status| status.vpc_peerings.iter().any(|one| one == remote))
}

/// Who else has the port of a link from the Vpc `name` to `remote`, and goes before it.
fn taken(
    objects: &impl Objects,
    networks: &BTreeMap<String, Network>,
    name: &str,
    remote: &str,
) -> Option<Owner> {
    let rank = |vpc: &str, remote: &str| {
        let known = objects.vpcs().get(&vpc.to_owned())?;
        let created = known.metadata.creation_timestamp.clone();
        Some((!is_in_force(known, remote), created, vpc.to_owned()))
    };
    let mine = rank(name, remote);
    let goes_before = |owner: &Owner| match owner {
        Owner::Link { vpc, .. } if vpc == name => false,
        // One that is not there yet comes after all others.
        Owner::Link { vpc, remote } => {
            mine.is_none() || rank(vpc, remote).is_some_and(|theirs| Some(theirs) < mine)
        }
        _ => true,
    };
    let port = names::router_side(name, remote);
    port_names::owners(objects, networks, &port).into_iter().find(goes_before)
}

/// This side of a link.
fn local(
    objects: &impl Objects,
    networks: &BTreeMap<String, Network>,
    name: &str,
    peering: &VpcPeering,
) -> Result<(Link, Vec<IpNetwork>), Advice> {
    let VpcPeering { remote_vpc: remote, local_connect_ip } = peering;
    if remote.is_empty() || remote == name {
        return Err(("remoteVpc", "write the name of another Vpc".to_owned()));
    }
    let Some(addresses) = addresses(local_connect_ip) else {
        let advice = "write an address with its prefix length, such as 169.254.0.1/30, or one of each family with a comma between";
        return Err(("localConnectIP", advice.to_owned()));
    };
    if !names::is_object_name(remote) {
        return Err(("remoteVpc", "no Vpc has such a name: write that of another Vpc".to_owned()));
    }
    let port = names::router_side(name, remote);
    if let Some(owner) = taken(objects, networks, name, remote) {
        let advice =
            format!("its port {port:?} would have the name of {owner}: rename one of the two");
        return Err(("remoteVpc", advice));
    }
    for network in networks.values() {
        let overlaps = |one: &IpNetwork| {
            network.reach().any(|(_, all)| all.iter().any(|cidr| overlap(cidr, *one)))
        };
        if network.vpc == name && addresses.iter().any(overlaps) {
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
        ..RouterPortWant::gateway(name, mac, addresses.iter().map(ToString::to_string))
    };
    Ok((Link { remote: remote.clone(), name: port, port: want }, addresses))
}

/// What keeps the other side from being there, as far as can be known. Two Vpcs are
/// written one after the other, so none of it is refused when one of them is.
fn other_side(
    vpcs: &Shelf<String, Vpc>,
    name: &str,
    peering: &VpcPeering,
    own: &[IpNetwork],
) -> Option<Advice> {
    let VpcPeering { remote_vpc: remote, .. } = peering;
    if vpcs.is_unreadable(remote) {
        return None;
    }
    let Some(other) = vpcs.get(remote) else {
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
    let theirs = addresses(&back.local_connect_ip)?;
    let reaches = |one: &IpNetwork| {
        let same =
            |other: &&IpNetwork| one.network() == other.network() && one.prefix() == other.prefix();
        theirs.iter().find(same).is_some_and(|other| one.ip() != other.ip())
    };
    (theirs.len() != own.len() || !own.iter().all(reaches)).then(|| {
        let advice = format!(
            "Vpc {remote:?} has {:?} on its side: use two addresses of one network",
            back.local_connect_ip
        );
        ("localConnectIP", advice)
    })
}

fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    one.is_ipv4() == other.is_ipv4()
        && (one.contains(other.network()) || other.contains(one.network()))
}

#[cfg(test)]
mod tests {
    use crds::kubeovn::{Subnet, SubnetSpec};

    use super::*;
    use crate::shelf::Seen;
    use crate::world::{Event, World};

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
        let Links { there, flaws, waits } = links(&world, world.ledger.networks(), &name, &spec);
        let said = flaws.iter().chain(&waits).map(ToString::to_string).collect();
        (there, said)
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
    fn a_link_may_have_an_address_of_each_family() {
        let a = "169.254.0.1/30, fd00:1::1/126";
        let (links, flaws) =
            of(vec![vpc("a", &[("b", a)]), vpc("b", &[("a", "fd00:1::2/126,169.254.0.2/30")])]);
        assert!(flaws.is_empty(), "{flaws:?}");
        let networks = ["169.254.0.1/30", "fd00:1::1/126"].map(str::to_owned);
        assert_eq!(links[0].port.networks, networks.into());
        for theirs in ["169.254.0.2/30", "169.254.0.2/30,fd00:1::1/126"] {
            let flaws = of(vec![vpc("a", &[("b", a)]), vpc("b", &[("a", theirs)])]).1;
            assert!(flaws[0].contains("two addresses of one network"), "{flaws:?}");
        }
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
    fn of_two_links_whose_ports_have_one_name_one_is_there_and_the_other_says_so() {
        let older = || vpc("a", &[("b-c", "169.254.0.1/30")]);
        let newer = || vpc("a-b", &[("c", "169.254.1.1/30")]);
        assert_eq!(of(vec![older(), newer()]).0.len(), 1);
        let (links, told) = of(vec![newer(), older()]);
        assert!(links.is_empty(), "{links:?}");
        assert!(told[0].contains(r#""a-b-c""#) && told[0].contains(r#"Vpc "a""#), "{told:?}");
        // The one that is there stays, whatever comes.
        let mut there = newer();
        let vpc_peerings = vec!["c".to_owned()];
        there.status = Some(crds::kubeovn::VpcStatus { vpc_peerings, ..Default::default() });
        assert_eq!(of(vec![there.clone(), older()]).0.len(), 1);
        assert!(of(vec![older(), there]).0.is_empty());
    }

    #[test]
    fn an_entry_that_cannot_be_a_link_is_named_and_makes_none() {
        let cases = [
            ("a", "169.254.0.1/30", "another Vpc"),
            ("", "169.254.0.1/30", "another Vpc"),
            ("b", "169.254.0.1", "prefix length"),
            ("b", "169.254.0.1/30,169.254.1.1/30", "one of each family"),
            ("b", "169.254.0.1/30,", "prefix length"),
            ("b", "10.0.0.9/30", r#"overlaps subnet "lan""#),
            ("lan", "169.254.0.1/30", "rename one of the two"),
            ("b\0", "169.254.0.1/30", "no Vpc has such a name"),
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
