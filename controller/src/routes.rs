//! The routes of a Vpc, by network and by policy, as rows of its router. Pure.
//!
//! What an entry may say is what Kube-OVN's `formatVpc` lets it say. One that says
//! something else is left out and told of; the others stay in force. Entries are a
//! set: their order means nothing, and one that is there twice is there once.
//! Several next hops for one network share its traffic (ECMP).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::kubeovn::{PolicyRoute, StaticRoute, VpcSpec};
use ipnetwork::IpNetwork;
use net::Cidrs;
use ovn::nb::{PolicyWant, StaticRouteWant, pairs};

use crate::expression;
use crate::flaw::Flaw;

/// `ecmpMode` by which replies go back the way the request came, and the option of
/// `Logical_Router_Static_Route` that does it.
const SYMMETRIC: &str = "ecmp_symmetric_reply";

/// The priority of the policies that keep traffic between subnets of a VPC on the
/// VPC's own routes (Kube-OVN's `SubnetRouterPolicyPriority`). A policy route of
/// this priority or more goes before them.
const WITHIN_VPC: i64 = 31_000;

/// What tells routes apart: table, policy, network, next hop.
type Key = (String, &'static str, IpNetwork, IpAddr);

/// The routes of `spec` that can be in force, and what is wrong with the others.
#[must_use]
pub fn static_routes(spec: &VpcSpec) -> (Vec<StaticRouteWant>, Vec<Flaw>) {
    let mut routes = BTreeMap::new();
    let (counted, mut flaws) = counted("staticRoutes", &spec.static_routes);
    for (at, route) in counted.iter().enumerate() {
        match row(at, route) {
            Err(flaw) => flaws.push(flaw),
            Ok((key, row)) => match routes.entry(key) {
                Entry::Vacant(place) => drop(place.insert(row)),
                Entry::Occupied(other) if other.get().options == row.options => {}
                Entry::Occupied(_) => flaws.push(Flaw::new(
                    format!("staticRoutes[{at}].ecmpMode"),
                    &route.ecmp_mode,
                    "an earlier entry has the same network and next hop with another ecmpMode: remove one of them",
                )),
            },
        }
    }
    (routes.into_values().collect(), flaws)
}

/// The policies of `spec` that can be in force, and what is wrong with the others.
#[must_use]
pub fn policies(spec: &VpcSpec) -> (Vec<PolicyWant>, Vec<Flaw>) {
    let mut policies = BTreeMap::new();
    let (counted, mut flaws) = counted("policyRoutes", &spec.policy_routes);
    for (at, route) in counted.iter().enumerate() {
        match policy(at, route) {
            Err(flaw) => flaws.push(flaw),
            Ok(row) => match policies.entry((row.priority, row.matches.clone())) {
                Entry::Vacant(place) => drop(place.insert(row)),
                Entry::Occupied(other) if *other.get() == row => {}
                Entry::Occupied(_) => flaws.push(Flaw::new(
                    format!("policyRoutes[{at}].priority"),
                    row.priority,
                    "an earlier entry has the same priority and match: remove one of them, or give them different priorities",
                )),
            },
        }
    }
    (policies.into_values().collect(), flaws)
}

/// The entries that count, which are the first so many, and that there are others.
pub(crate) fn counted<'a, T>(field: &str, entries: &'a [T]) -> (&'a [T], Vec<Flaw>) {
    let most = crds::kubeovn::most("Vpc", field).min(entries.len());
    let flaw = Flaw::of_too_many("Vpc", field, entries.len());
    (&entries[..most], flaw.into_iter().collect())
}

fn policy(at: usize, route: &PolicyRoute) -> Result<PolicyWant, Flaw> {
    let flaw = |field: &str, value: &dyn ToString, advice: &str| {
        Flaw::new(format!("policyRoutes[{at}].{field}"), value.to_string(), advice)
    };
    if !(0..=32_767).contains(&route.priority) {
        return Err(flaw("priority", &route.priority, "write 0 to 32767; higher wins"));
    }
    if let Some(advice) = expression::advice(&route.r#match) {
        return Err(flaw("match", &route.r#match, &advice));
    }
    let nexthops = match route.action.as_str() {
        // A next hop means nothing here.
        "allow" | "drop" => BTreeSet::new(),
        "reroute" => next_hops(&route.next_hop_ip).ok_or_else(|| {
            let advice = "write one address, or several of one family with a comma between";
            flaw("nextHopIP", &route.next_hop_ip, advice)
        })?,
        other => return Err(flaw("action", &other, "write allow, drop or reroute")),
    };
    let (matches, action) = (route.r#match.clone(), route.action.clone());
    Ok(PolicyWant { priority: route.priority.into(), matches, action, nexthops })
}

/// Addresses of one family, at least one.
fn next_hops(text: &str) -> Option<BTreeSet<String>> {
    let hops: Vec<IpAddr> =
        text.split(',').map(|hop| hop.trim().parse()).collect::<Result<_, _>>().ok()?;
    let one_family = hops.iter().all(|hop| hop.is_ipv4() == hops[0].is_ipv4());
    one_family.then(|| hops.iter().map(ToString::to_string).collect())
}

/// What keeps traffic to these networks on the VPC's own routes, whatever its
/// policy routes say of packets that leave.
pub fn within_vpc(cidrs: Cidrs) -> impl Iterator<Item = PolicyWant> {
    let policy = |cidr: IpNetwork| PolicyWant {
        priority: WITHIN_VPC,
        matches: format!("{}.dst == {cidr}", if cidr.is_ipv4() { "ip4" } else { "ip6" }),
        action: "allow".to_owned(),
        nexthops: BTreeSet::new(),
    };
    cidrs.iter().map(policy).collect::<Vec<_>>().into_iter()
}

fn row(at: usize, route: &StaticRoute) -> Result<(Key, StaticRouteWant), Flaw> {
    let flaw = |field: &str, value: &str, advice: &str| {
        Flaw::new(format!("staticRoutes[{at}].{field}"), value, advice)
    };
    let policy = match route.policy.as_str() {
        "" | "policyDst" => "dst-ip",
        "policySrc" => "src-ip",
        other => {
            return Err(flaw("policy", other, "write policyDst or policySrc, or leave it out"));
        }
    };
    let network: IpNetwork = route.cidr.parse().map_err(|_| {
        flaw("cidr", &route.cidr, "write a network such as 10.0.0.0/24, or an address")
    })?;
    let next_hop: IpAddr = route
        .next_hop_ip
        .parse()
        .map_err(|_| flaw("nextHopIP", &route.next_hop_ip, "write one address"))?;
    if next_hop.is_ipv4() != network.is_ipv4() {
        let family = if network.is_ipv4() { "IPv4" } else { "IPv6" };
        let advice = format!("cidr {} needs an {family} address", route.cidr);
        return Err(flaw("nextHopIP", &route.next_hop_ip, &advice));
    }
    let options = match route.ecmp_mode.as_str() {
        "" => pairs([]),
        SYMMETRIC => pairs([(SYMMETRIC, "true")]),
        other => {
            let advice = format!("write {SYMMETRIC}, or leave it out");
            return Err(flaw("ecmpMode", other, &advice));
        }
    };
    if let Some(advice) = expression::table_advice(&route.route_table) {
        return Err(flaw("routeTable", &route.route_table, &advice));
    }
    let prefix = if route.cidr.contains('/') {
        format!("{}/{}", network.network(), network.prefix())
    } else {
        network.ip().to_string()
    };
    let table = route.route_table.clone();
    let row = StaticRouteWant {
        policy: Some(policy.to_owned()),
        route_table: table.clone(),
        options,
        ..StaticRouteWant::new(&prefix, &next_hop.to_string())
    };
    let bare = IpNetwork::new(network.network(), network.prefix()).unwrap_or(network);
    Ok(((table, policy, bare, next_hop), row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(cidr: &str, next_hop: &str) -> StaticRoute {
        StaticRoute {
            cidr: cidr.to_owned(),
            next_hop_ip: next_hop.to_owned(),
            ..StaticRoute::default()
        }
    }

    fn of(routes: impl IntoIterator<Item = StaticRoute>) -> (Vec<StaticRouteWant>, Vec<String>) {
        let spec = VpcSpec { static_routes: routes.into_iter().collect(), ..VpcSpec::default() };
        let (rows, flaws) = static_routes(&spec);
        (rows, flaws.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_route_is_written_as_kube_ovn_writes_it() {
        let by_source = StaticRoute {
            policy: "policySrc".to_owned(),
            ecmp_mode: SYMMETRIC.to_owned(),
            route_table: "blue".to_owned(),
            ..route("10.1.0.0/16", "10.0.0.2")
        };
        let (rows, flaws) = of([by_source, route("fd00::9", "fd00::2")]);
        assert!(flaws.is_empty(), "{flaws:?}");
        let dst = |prefix, hop| StaticRouteWant {
            policy: Some("dst-ip".to_owned()),
            ..StaticRouteWant::new(prefix, hop)
        };
        let blue = StaticRouteWant {
            policy: Some("src-ip".to_owned()),
            route_table: "blue".to_owned(),
            options: pairs([(SYMMETRIC, "true")]),
            ..StaticRouteWant::new("10.1.0.0/16", "10.0.0.2")
        };
        assert_eq!(rows, [dst("fd00::9", "fd00::2"), blue]);
    }

    #[test]
    fn the_order_of_entries_and_their_number_mean_nothing() {
        let routes =
            || vec![route("0.0.0.0/0", "10.0.0.2"), route("0.0.0.0/0", "10.0.0.3")].into_iter();
        let once = of(routes());
        assert_eq!(once.0.len(), 2, "two next hops share the traffic");
        assert_eq!(of(routes().rev().chain(routes())), once);
        // However it is spelled.
        assert_eq!(of([route("10.9.9.9/8", "10.0.0.2")]), of([route("10.0.0.0/8", "10.0.0.2")]));
    }

    #[test]
    fn a_bad_entry_is_named_with_what_to_write_and_the_others_count() {
        let message = |change: fn(&mut StaticRoute)| {
            let mut bad = route("10.1.0.0/16", "10.0.0.2");
            change(&mut bad);
            let (rows, flaws) = of([route("0.0.0.0/0", "10.0.0.2"), bad]);
            assert_eq!((rows.len(), flaws.len()), (1, 1), "{flaws:?}");
            assert!(flaws[0].starts_with("spec.staticRoutes[1]."), "{flaws:?}");
            flaws.concat()
        };
        assert!(
            message(|bad| bad.cidr = "10.1.0.0/33".to_owned())
                .contains(r#"cidr is "10.1.0.0/33": write a network"#)
        );
        assert!(message(|bad| bad.cidr = String::new()).contains(r#"cidr is """#));
        assert!(message(|bad| bad.next_hop_ip = "gw".to_owned()).contains("write one address"));
        assert!(
            message(|bad| bad.next_hop_ip = "fd00::1".to_owned()).contains("needs an IPv4 address")
        );
        assert!(message(|bad| bad.policy = "any".to_owned()).contains(r#"policy is "any""#));
        assert!(message(|bad| bad.ecmp_mode = "fair".to_owned()).contains("ecmp_symmetric_reply"));
        assert!(message(|bad| bad.route_table = "a\0".to_owned()).contains("routeTable"));
    }

    #[test]
    fn two_entries_that_contradict_each_other_are_told_and_the_first_counts() {
        let symmetric =
            StaticRoute { ecmp_mode: SYMMETRIC.to_owned(), ..route("0.0.0.0/0", "10.0.0.2") };
        let (rows, flaws) = of([route("0.0.0.0/0", "10.0.0.2"), symmetric]);
        assert_eq!((rows.len(), rows[0].options.len(), flaws.len()), (1, 0, 1));
    }

    fn by_policy(change: impl FnOnce(&mut PolicyRoute)) -> (Vec<PolicyWant>, String) {
        let mut route = PolicyRoute {
            priority: 10,
            r#match: "ip4.src == 10.0.0.0/24".to_owned(),
            action: "reroute".to_owned(),
            next_hop_ip: "10.0.0.3,10.0.0.2".to_owned(),
        };
        let plain = PolicyRoute { action: "drop".to_owned(), priority: 9, ..route.clone() };
        change(&mut route);
        let spec = VpcSpec { policy_routes: vec![plain, route], ..VpcSpec::default() };
        let (rows, flaws) = policies(&spec);
        (rows, flaws.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_policy_route_is_written_with_its_next_hops_and_without_them_where_they_mean_nothing() {
        let (rows, flaws) = by_policy(|_| ());
        assert_eq!((rows.len(), flaws.as_str()), (2, ""));
        assert!(rows[0].nexthops.is_empty(), "what is dropped goes nowhere");
        assert!(rows[1].nexthops.iter().eq(["10.0.0.2", "10.0.0.3"]));
        assert_eq!((rows[1].priority, rows[1].action.as_str()), (10, "reroute"));
    }

    #[test]
    fn a_bad_policy_route_is_named_with_what_to_write_and_the_others_count() {
        let message = |change: fn(&mut PolicyRoute)| {
            let (rows, flaw) = by_policy(change);
            assert_eq!(rows.len(), 1, "{flaw}");
            assert!(flaw.starts_with("spec.policyRoutes[1]."), "{flaw}");
            flaw
        };
        assert!(
            message(|bad| bad.priority = 32_768).contains(r#"priority is "32768": write 0 to"#)
        );
        assert!(message(|bad| bad.priority = -1).contains("priority"));
        assert!(message(|bad| bad.r#match = " ".to_owned()).contains("match"));
        assert!(message(|bad| bad.r#match = "((((".to_owned()).contains("'(' is not closed"));
        assert!(message(|bad| bad.action = "jump".to_owned()).contains(r#"action is "jump""#));
        assert!(message(|bad| bad.next_hop_ip = String::new()).contains("nextHopIP"));
        let mixed = message(|bad| bad.next_hop_ip = "10.0.0.2,fd00::2".to_owned());
        assert!(mixed.contains("of one family"), "{mixed}");
        let twice = |bad: &mut PolicyRoute| bad.priority = 9;
        assert!(message(twice).contains("same priority and match"));
    }

    #[test]
    fn traffic_within_a_vpc_keeps_to_its_own_routes() {
        let policies: Vec<_> =
            within_vpc("10.0.0.0/24,fd00::/64".parse().unwrap()).map(|one| one.matches).collect();
        assert_eq!(policies, ["ip4.dst == 10.0.0.0/24", "ip6.dst == fd00::/64"]);
    }
}
