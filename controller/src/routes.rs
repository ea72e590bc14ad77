//! The static routes of a Vpc as rows of its router. Pure.
//!
//! What an entry may say is what Kube-OVN's `formatVpc` lets it say. One that says
//! something else is left out and told of; the others stay in force. Entries are a
//! set: their order means nothing, and one that is there twice is there once.
//! Several next hops for one network share its traffic (ECMP).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

use crds::kubeovn::{StaticRoute, VpcSpec};
use ipnetwork::IpNetwork;
use ovn::nb::{StaticRouteWant, pairs};

use crate::flaw::Flaw;

/// `ecmpMode` by which replies go back the way the request came, and the option of
/// `Logical_Router_Static_Route` that does it.
const SYMMETRIC: &str = "ecmp_symmetric_reply";

/// What tells routes apart: table, policy, network, next hop.
type Key = (String, &'static str, IpNetwork, IpAddr);

/// The routes of `spec` that can be in force, and what is wrong with the others.
#[must_use]
pub fn static_routes(spec: &VpcSpec) -> (Vec<StaticRouteWant>, Vec<Flaw>) {
    let mut routes = BTreeMap::new();
    let mut flaws = Vec::new();
    for (at, route) in spec.static_routes.iter().enumerate() {
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
    }

    #[test]
    fn two_entries_that_contradict_each_other_are_told_and_the_first_counts() {
        let symmetric =
            StaticRoute { ecmp_mode: SYMMETRIC.to_owned(), ..route("0.0.0.0/0", "10.0.0.2") };
        let (rows, flaws) = of([route("0.0.0.0/0", "10.0.0.2"), symmetric]);
        assert_eq!((rows.len(), rows[0].options.len(), flaws.len()), (1, 0, 1));
    }
}
