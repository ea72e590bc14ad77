//! Whose VMs a Vpc or Subnet is for, where several say so: one of them counts, and the
//! others are told. Pure.

use std::collections::{BTreeMap, HashMap};

use crds::kubeovn::{Vpc, VpcSpec};
use net::names;

use crate::flaw::Flaw;
use crate::hold;
use crate::network::Network;
use crate::shelf::Shelf;

/// By namespace, the Vpc whose its VMs are: of several that list it one that names a
/// subnet for them, and of these the first by name.
#[must_use]
pub fn vpcs_of(vpcs: &Shelf<String, Vpc>) -> HashMap<&str, &str> {
    let rank = |name: &str| {
        let vpc = vpcs.get(&name.to_owned());
        (vpc.is_none_or(|vpc| vpc.spec.default_subnet.is_empty()), name.to_owned())
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

/// Another default subnet for the same networks: the first by name of all counts.
pub fn other_default<'a>(
    networks: impl IntoIterator<Item = &'a Network>,
    subnet: &Network,
) -> Option<&'a Network> {
    let is_other = |one: &&Network| {
        one.default && !one.leaving && one.provider == subnet.provider && one.name != subnet.name
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
            let told = elsewhere(name, &spec, &vpcs_of(&world.vpcs));
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
    fn of_two_default_subnets_there_is_another() {
        let (one, two) = (network("one", "a"), network("two", "b"));
        assert_eq!(other_default([&one], &two).map(|other| other.name.as_str()), Some("one"));
        assert_eq!(other_default([&two], &two), None);
        let elsewhere = Network { provider: "n.d.ovn".to_owned(), ..one.clone() };
        assert_eq!(other_default([&elsewhere], &two), None);
        assert!(second_default(&one).to_string().contains(r#"Subnet "one""#));
    }
}
