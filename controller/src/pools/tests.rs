//! Which pools are in force, and what is said of those that are not.

use crds::kubeovn::{IpPoolSpec, Subnet, SubnetSpec};

use super::*;
use crate::shelf::Seen;

fn networks(cidrs: &str) -> BTreeMap<String, Network> {
    let spec = SubnetSpec {
        cidr_block: cidrs.to_owned(),
        exclude_ips: vec!["10.0.0.200..10.0.0.210".to_owned()],
        ..SubnetSpec::default()
    };
    [("s".to_owned(), Network::parse(&Subnet::new("s", spec)).unwrap())].into()
}

fn pool(name: &str, subnet: &str, ips: &[&str]) -> IpPool {
    let ips = ips.iter().map(|one| (*one).to_owned()).collect();
    IpPool::new(name, IpPoolSpec { subnet: subnet.to_owned(), ips, ..IpPoolSpec::default() })
}

fn shelf(pools: Vec<IpPool>) -> Shelf<String, IpPool> {
    let mut shelf = Shelf::default();
    shelf.apply(Seen::all(pools), |meta| meta.name.clone().unwrap());
    shelf
}

/// The names in force, and the message of the one refused.
fn divided(pools: Vec<IpPool>) -> (Vec<String>, BTreeMap<String, Flaw>) {
    let mut networks = networks("10.0.0.0/24,fd00::/64");
    let refused = divide(&mut networks, &shelf(pools), &BTreeMap::new());
    (networks["s"].pools.keys().cloned().collect(), refused)
}

#[test]
fn a_bad_pool_is_told_with_its_field_and_what_to_do_and_harms_no_other() {
    for (subnet, ips, field, advice) in [
        ("gone", &["10.0.0.5"][..], "spec.subnet is \"gone\"", "create it"),
        ("s", &[], "spec.ips is", "write an address, a range"),
        ("s", &["10.0.0.5", "ten"], "spec.ips[1] is \"ten\"", "write an address"),
        ("s", &["10.0.0.9..10.0.0.5"], "spec.ips[0]", "the lower address first"),
        ("s", &["10.0.1.5"], "spec.ips[0]", "in 10.0.0.0/24,fd00::/64 of subnet \"s\""),
        ("s", &["10.0.0.250..10.0.1.5"], "spec.ips[0]", "not all of it"),
        ("s", &["10.0.0.0/30"], "spec.ips[0]", "10.0.0.1 is the gateway"),
        ("s", &["10.0.0.201..10.0.0.203"], "spec.ips[0]", "spec.excludeIps"),
        ("s", &["10.0.0.49..10.0.0.60"], "spec.ips[0]", "IPPool \"a\""),
        ("s", &["10.0.0.40/30"], "spec.ips[0]", "IPPool \"a\""),
    ] {
        let good = pool("a", "s", &["10.0.0.40..10.0.0.50", "10.0.0.45..10.0.0.47", "fd00::5"]);
        let (in_force, refused) = divided(vec![pool("b", subnet, ips), good]);
        assert_eq!(in_force, ["a"], "{ips:?}");
        let message = refused["b"].to_string();
        assert!(message.contains(field) && message.contains(advice), "{ips:?}: {message}");
    }
}

#[test]
fn of_two_that_overlap_the_one_in_force_stays_whatever_the_names_say() {
    let [a, b] = ["a", "b"].map(|name| pool(name, "s", &["10.0.0.5..10.0.0.9"]));
    let mut before = networks("10.0.0.0/24");
    divide(&mut before, &shelf(vec![b.clone()]), &BTreeMap::new());
    let mut after = networks("10.0.0.0/24");
    let refused = divide(&mut after, &shelf(vec![a, b]), &before);
    assert!(after["s"].pools.contains_key("b"));
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn an_edit_that_cannot_be_leaves_the_pool_as_it_was_while_the_subnet_has_room_for_it() {
    let mut before = networks("10.0.0.0/24");
    divide(&mut before, &shelf(vec![pool("a", "s", &["10.0.0.99"])]), &BTreeMap::new());
    let edited = || shelf(vec![pool("a", "s", &["ten"])]);
    let mut after = networks("10.0.0.0/24");
    assert!(divide(&mut after, &edited(), &before).contains_key("a"));
    assert_eq!(after["s"].pools, before["s"].pools);
    let mut smaller = networks("10.0.0.0/26");
    assert!(divide(&mut smaller, &edited(), &before).contains_key("a"));
    assert!(smaller["s"].pools.is_empty());
}

#[test]
fn a_pool_that_is_being_deleted_is_not_in_force() {
    let mut leaving = pool("a", "s", &["10.0.0.5"]);
    leaving.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    assert!(divided(vec![leaving]).0.is_empty());
}
