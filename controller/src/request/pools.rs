//! IPPools and families: what a template may ask for, and what is said where it
//! cannot have it.

use std::collections::{BTreeMap, BTreeSet};

use crds::kubeovn::{IpPool, IpPoolSpec};
use serde_json::{Value, json};

use super::tests::{subnets, vm};
use super::*;
use crate::pools::divide;
use crate::shelf::Seen;

const POOL: &str = "ovn.kubernetes.io/ip_pool";
const FAMILY: &str = "ovn.kubernetes.io/ip_family";
const ADDRESS: &str = "ovn.kubernetes.io/ip_address";
const SWITCH: &str = "ovn.kubernetes.io/logical_switch";

fn pool(name: &str, subnet: &str, ips: &[&str], namespaces: &[&str]) -> IpPool {
    let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
    let (ips, namespaces) = (owned(ips), owned(namespaces));
    let spec = IpPoolSpec { subnet: subnet.to_owned(), ips, namespaces, enable_address_set: false };
    IpPool::new(name, spec)
}

fn asked_with(pools: Vec<IpPool>, annotations: &Value) -> Result<Request, RequestError> {
    let mut in_force = subnets();
    let mut shelf = Shelf::default();
    shelf.apply(Seen::all(pools), |meta| meta.name.clone().unwrap());
    let refused_pools = divide(&mut in_force, &shelf, &BTreeMap::new());
    let offer = Offer {
        in_force: &in_force,
        refused: &BTreeMap::new(),
        vpcs: &Shelf::default(),
        pools: &shelf,
        vips: &Shelf::default(),
        refused_pools: &refused_pools,
        used: &BTreeSet::new(),
        known: &Known::default(),
        claims: &Shelf::default(),
        bound: None,
    };
    requests((&vm(annotations, &json!({}))).into(), offer).map(|mut all| all.remove(0))
}

fn pools() -> Vec<IpPool> {
    vec![
        pool("web", "s1", &["10.0.0.9", "fd00::9"], &[]),
        pool("v4-only", "s1", &["10.0.0.10"], &[]),
        pool("two", "s2", &["10.1.0.9"], &[]),
        pool("nic", "s3", &["10.2.0.9"], &[]),
        pool("bad", "s1", &["10.9.0.9"], &[]),
    ]
}

fn from(name: &str, asked: bool) -> Option<FromPool> {
    Some(FromPool { name: name.to_owned(), asked })
}

#[test]
fn a_pool_that_is_named_brings_its_subnet() {
    let request = asked_with(pools(), &json!({ POOL: "two" })).unwrap();
    assert_eq!((request.subnet.as_str(), request.from), ("s2", from("two", true)));
    let request = asked_with(pools(), &json!({ POOL: "web" })).unwrap();
    assert_eq!((request.subnet.as_str(), request.from), ("s1", from("web", true)));
}

#[test]
fn a_pool_serves_its_namespaces_unless_the_template_says_otherwise() {
    let bound = || vec![pool("a", "s1", &["10.0.0.12"], &["default"]), pools().remove(0)];
    let of = |annotations: Value| asked_with(bound(), &annotations).unwrap().from;
    assert_eq!(of(json!({})), from("a", false));
    assert_eq!(of(json!({ POOL: "web" })), from("web", true));
    assert_eq!(of(json!({ POOL: "10.0.0.5" })), None);
    assert_eq!(of(json!({ ADDRESS: "10.0.0.5" })), None);
    assert_eq!(of(json!({ SWITCH: "s2" })), None);
    assert_eq!(of(json!({ FAMILY: "ipv6" })), None);
}

#[test]
fn a_family_is_taken_where_nothing_else_says_otherwise() {
    for (annotations, family) in [
        (json!({ FAMILY: "ipv4" }), Family::V4),
        (json!({ FAMILY: " ipv6 " }), Family::V6),
        (json!({ FAMILY: "ipv4", ADDRESS: "10.0.0.5" }), Family::V4),
        (json!({ FAMILY: "ipv6", POOL: "web" }), Family::V6),
        (json!({ FAMILY: "ipv4", POOL: "10.0.0.5,10.0.0.6" }), Family::V4),
    ] {
        let request = asked_with(pools(), &annotations).unwrap();
        assert_eq!(request.family, Some(family), "{annotations}");
    }
    assert_eq!(asked_with(pools(), &json!({})).unwrap().family, None);
}

#[test]
fn what_cannot_be_had_is_refused_with_what_to_do() {
    for (annotations, advice) in [
        (json!({ POOL: "none" }), "IPPool \"none\" does not exist: create it, or name another"),
        (json!({ POOL: "bad" }), "IPPool \"bad\" is not in force: spec.ips[0] is \"10.9.0.9\""),
        (json!({ POOL: "two", SWITCH: "s1" }), "is of subnet \"s2\", this network is on \"s1\""),
        (json!({ POOL: "nic" }), "has provider \"net2.default.ovn\""),
        (json!({ POOL: "web,two" }), "the name of one IPPool"),
        (json!({ FAMILY: "dual" }), "\"dual\" is not a family: write ipv4 or ipv6"),
        (json!({ FAMILY: "" }), "write ipv4 or ipv6"),
        (json!({ FAMILY: "ipv6", SWITCH: "s2" }), "subnet \"s2\" has 10.1.0.0/24 only"),
        (json!({ FAMILY: "ipv6", ADDRESS: "10.0.0.5" }), "ip_address asks for 10.0.0.5"),
        (json!({ FAMILY: "ipv4", ADDRESS: "10.0.0.5,fd00::5" }), "ip_address asks for fd00::5"),
        (json!({ FAMILY: "ipv6", POOL: "10.0.0.5" }), "ip_pool asks for 10.0.0.5"),
        (json!({ FAMILY: "ipv6", POOL: "v4-only" }), "IPPool \"v4-only\", which has no address"),
    ] {
        let message = asked_with(pools(), &annotations).unwrap_err().to_string();
        assert!(message.contains(advice), "{annotations}: {message}");
    }
}
