//! Whose VMs a Vpc or Subnet is for, where several say so: one of them counts, and the
//! others are told. Pure.

use std::collections::{BTreeMap, HashMap};

use crds::kubeovn::{DEFAULT_VPC, Vpc, VpcSpec};
use net::names;

use crate::flaw::Flaw;
use crate::hold;
use crate::network::Network;
use crate::shelf::Shelf;

/// The subnet that a Vpc has for the VMs of the namespaces that it lists: the one that it
/// names; else, as upstream, one of its own that says `default`, of several the first by
/// name.
pub fn default_of<'a>(
    networks: &'a BTreeMap<String, Network>,
    name: &str,
    spec: &'a VpcSpec,
) -> Option<&'a str> {
    if !spec.default_subnet.is_empty() {
        return Some(&spec.default_subnet);
    }
    let own = |one: &&Network| one.default && serves(one, name) && name != DEFAULT_VPC;
    networks.values().find(own).map(|one| one.name.as_str())
}

/// Whether this is a subnet of the Vpc `name` for the first network of VMs.
fn serves(network: &Network, name: &str) -> bool {
    network.vpc == name && network.provider == names::DEFAULT_PROVIDER && !network.leaving
}

/// The Vpc that lists this namespace and has a subnet for it; of several the first by name.
pub fn bound<'a>(
    vpcs: &'a Shelf<String, Vpc>,
    networks: &'a BTreeMap<String, Network>,
    namespace: &str,
) -> Option<(&'a str, &'a str)> {
    let lists = |vpc: &Vpc| {
        let listed = vpc.spec.namespaces.iter().any(|one| one == namespace);
        listed && !hold::is_leaving(&vpc.metadata)
    };
    let vpcs = vpcs.iter().filter(|(_, vpc)| lists(vpc));
    let bound = vpcs
        .filter_map(|(name, vpc)| Some((name.as_str(), default_of(networks, name, &vpc.spec)?)));
    bound.min()
}

/// The first namespace that a Vpc lists and has no subnet for, though it has subnets: its
/// VMs are elsewhere unless they name one.
#[must_use]
pub fn unplaced<'a>(
    networks: &BTreeMap<String, Network>,
    name: &str,
    spec: &'a VpcSpec,
) -> Option<(usize, &'a str)> {
    // It has them as the default one, or is not done yet.
    if name == DEFAULT_VPC || default_of(networks, name, spec).is_some() {
        return None;
    }
    let own = || networks.values().filter(|one| serves(one, name));
    own().next()?;
    let is_placed = |namespace: &String| own().any(|one| one.namespaces.contains(namespace));
    let most = crds::kubeovn::most("Vpc", "namespaces");
    let mut listed = spec.namespaces.iter().enumerate().take(most);
    listed.find(|(_, one)| !is_placed(one)).map(|(at, one)| (at, one.as_str()))
}

/// What is said of that when it is written.
#[must_use]
pub fn placed_by_nobody(at: usize, namespace: &str) -> Flaw {
    let advice = "no Subnet of this vpc is for its VMs, which are on another unless they name one: name one in spec.defaultSubnet, or list it in spec.namespaces of one";
    Flaw::new(format!("namespaces[{at}]"), namespace, advice)
}

/// By namespace, the Vpc whose its VMs are: of several that list it one that has a
/// subnet for them, and of these the first by name.
#[must_use]
pub fn vpcs_of<'a>(
    vpcs: &'a Shelf<String, Vpc>,
    networks: &BTreeMap<String, Network>,
) -> HashMap<&'a str, &'a str> {
    let rank = |name: &str| {
        let vpc = vpcs.get(&name.to_owned());
        let has = vpc.and_then(|vpc| default_of(networks, name, &vpc.spec));
        (has.is_none(), name.to_owned())
    };
    let mut first: HashMap<&str, &str> = HashMap::new();
    for (name, vpc) in vpcs.iter().filter(|(_, vpc)| !hold::is_leaving(&vpc.metadata)) {
        for namespace in &vpc.spec.namespaces {
            let counts = first.entry(namespace).or_insert(name);
            if *counts != name && rank(name) < rank(counts) {
                *counts = name;
            }
        }
    }
    first
}

/// The namespaces of the Vpc `name` whose VMs are another's by this.
#[must_use]
pub fn elsewhere(name: &str, spec: &VpcSpec, vpcs_of: &HashMap<&str, &str>) -> Vec<Flaw> {
    let flaw = |(at, namespace): (usize, &String)| {
        let other = vpcs_of.get(namespace.as_str()).filter(|other| **other != name)?;
        let advice =
            format!("Vpc {other:?} lists it, too, and has its VMs: take it out of one of the two");
        Some(Flaw::new(format!("namespaces[{at}]"), namespace, advice))
    };
    spec.namespaces.iter().enumerate().filter_map(flaw).collect()
}

/// That the subnet which the Vpc `name` has for its namespaces can be none of its own.
#[must_use]
pub fn wrong_default(
    networks: &BTreeMap<String, Network>,
    name: &str,
    spec: &VpcSpec,
) -> Option<Flaw> {
    let network = networks.get(&spec.default_subnet)?;
    let advice = if network.vpc != name {
        format!("it is a subnet of Vpc {:?}: name one of this vpc, or leave it out", network.vpc)
    } else if network.provider != names::DEFAULT_PROVIDER {
        let theirs = &network.provider;
        format!("it is for networks of {theirs:?}: name one of provider ovn, or leave it out")
    } else {
        return None;
    };
    Some(Flaw::new("defaultSubnet".to_owned(), &spec.default_subnet, advice))
}

/// The Vpc to whose namespaces alone a default subnet is open: one that lists them.
#[must_use]
pub fn scope<'a>(vpcs: &Shelf<String, Vpc>, network: &'a Network) -> Option<&'a str> {
    let vpc = vpcs.get(&network.vpc).filter(|_| network.vpc != DEFAULT_VPC)?;
    (!vpc.spec.namespaces.is_empty()).then_some(network.vpc.as_str())
}

/// Another default subnet for the same networks and namespaces: the first by name of all
/// counts.
pub fn other_default<'a>(
    networks: impl IntoIterator<Item = &'a Network>,
    subnet: &Network,
    vpcs: &Shelf<String, Vpc>,
) -> Option<&'a Network> {
    let of = scope(vpcs, subnet);
    let is_other = |one: &&Network| {
        let is_like = one.provider == subnet.provider && scope(vpcs, one) == of;
        one.default && !one.leaving && is_like && one.name != subnet.name
    };
    networks.into_iter().filter(|_| subnet.default).find(is_other)
}

/// What a default subnet is told beside which there is this `other`.
#[must_use]
pub fn second_default(other: &Network) -> Flaw {
    let advice = format!(
        "Subnet {:?} is the default one, too; of several the first by name counts: set it on one only",
        other.name
    );
    Flaw::new("default".to_owned(), true, advice)
}

#[cfg(test)]
mod tests {
    use crds::kubeovn::{Subnet, SubnetSpec};

    use super::*;
    use crate::shelf::Seen;
    use crate::world::{Event, World};

    fn vpc(name: &str, default_subnet: &str) -> Vpc {
        let spec = VpcSpec {
            namespaces: vec!["red".to_owned(), format!("only-{name}")],
            default_subnet: default_subnet.to_owned(),
            ..VpcSpec::default()
        };
        Vpc::new(name, spec)
    }

    fn network(name: &str, vpc: &str) -> Network {
        let spec = SubnetSpec {
            cidr_block: "10.0.0.0/24".to_owned(),
            vpc: vpc.to_owned(),
            default: true,
            ..SubnetSpec::default()
        };
        Network::parse(&Subnet::new(name, spec)).unwrap()
    }

    #[test]
    fn of_two_vpcs_that_list_a_namespace_the_one_that_does_not_count_says_so() {
        let told = |vpcs: Vec<Vpc>, name: &str| {
            let mut world = World::new(60);
            world.apply(Event::Vpc(Seen::all(vpcs)));
            let spec = world.vpcs.get(&name.to_owned()).unwrap().spec.clone();
            let told = elsewhere(name, &spec, &vpcs_of(&world.vpcs, &BTreeMap::new()));
            told.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let both = || vec![vpc("a", ""), vpc("b", "")];
        assert!(told(both(), "a").is_empty());
        let [said] = &told(both(), "b")[..] else { panic!("one is to be told") };
        assert!(said.starts_with(r#"spec.namespaces[0] is "red": Vpc "a" lists it"#), "{said}");
        // The one that says where they go has them.
        assert!(told(vec![vpc("a", ""), vpc("b", "lan")], "b").is_empty());
        assert_eq!(told(vec![vpc("a", ""), vpc("b", "lan")], "a").len(), 1);
    }

    #[test]
    fn a_vpcs_default_subnet_is_one_of_its_own() {
        let networks: BTreeMap<_, _> = [("lan".to_owned(), network("lan", "a"))].into();
        let told = |vpc_name: &str, subnet: &str| {
            let flaw = wrong_default(&networks, vpc_name, &vpc(vpc_name, subnet).spec);
            flaw.map(|flaw| flaw.to_string())
        };
        assert_eq!(told("a", "lan"), None);
        assert_eq!(told("b", "later"), None);
        let said = told("b", "lan").unwrap();
        assert!(said.starts_with(r#"spec.defaultSubnet is "lan": it is a subnet of Vpc "a""#));
    }

    #[test]
    fn a_vpcs_namespaces_are_on_the_subnet_that_it_names_or_that_is_its_default_one() {
        let mut world = World::new(60);
        world.apply(Event::Vpc(Seen::all(vec![vpc("a", ""), vpc("b", "named")])));
        let mut networks: BTreeMap<_, _> = [("lan".to_owned(), network("lan", "a"))].into();
        let of = |networks: &BTreeMap<_, _>, namespace: &str| {
            let bound = bound(&world.vpcs, networks, namespace);
            bound.map(|(vpc, subnet)| format!("{vpc}/{subnet}"))
        };
        assert_eq!(of(&networks, "only-a").as_deref(), Some("a/lan"));
        assert_eq!(of(&networks, "only-b").as_deref(), Some("b/named"));
        assert_eq!(of(&networks, "blue"), None);
        assert_eq!(unplaced(&networks, "a", &vpc("a", "").spec), None);

        // Without one it is told, once there are subnets, which the namespace is in none of.
        networks.get_mut("lan").unwrap().default = false;
        assert_eq!(of(&networks, "only-a"), None);
        let spec = vpc("a", "").spec;
        assert_eq!(unplaced(&networks, "a", &spec), Some((0, "red")));
        assert_eq!(unplaced(&networks, "a", &vpc("a", "named").spec), None);
        assert_eq!(unplaced(&BTreeMap::new(), "a", &spec), None);
        networks.get_mut("lan").unwrap().namespaces = ["red".to_owned()].into();
        assert_eq!(unplaced(&networks, "a", &spec), Some((1, "only-a")));
        let said = placed_by_nobody(1, "only-a").to_string();
        assert!(said.starts_with(r#"spec.namespaces[1] is "only-a": no Subnet"#), "{said}");
    }

    #[test]
    fn of_two_default_subnets_there_is_another() {
        let (one, two) = (network("one", "a"), network("two", "b"));
        let other = |one: &Network, vpcs: &World| {
            other_default([one], &two, &vpcs.vpcs).map(|other| other.name.clone())
        };
        let mut world = World::new(60);
        assert_eq!(other(&one, &world).as_deref(), Some("one"));
        assert_eq!(other(&two, &world), None);
        let elsewhere = Network { provider: "n.d.ovn".to_owned(), ..one.clone() };
        assert_eq!(other(&elsewhere, &world), None);
        // That of a Vpc that lists its namespaces is theirs.
        world.apply(Event::Vpc(Seen::all(vec![vpc("b", "")])));
        assert_eq!(other(&one, &world), None);
        let beside = Network { vpc: "b".to_owned(), ..one.clone() };
        assert_eq!(other(&beside, &world).as_deref(), Some("one"));
        assert!(second_default(&one).to_string().contains(r#"Subnet "one""#));
    }
}
