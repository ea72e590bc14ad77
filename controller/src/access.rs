//! What may pass on a subnet's switch, as its Subnet says: `private`,
//! `allowSubnets`, `acls`, `allowEWTraffic`. Pure.
//!
//! Directions, priorities, tier and wording are Kube-OVN's (`ovn-nb-acl.go`), so that
//! its rows would be adopted. Kube-OVN deletes and makes anew; here a rule that stays
//! is not touched, and those that go and come do so in one transaction, so that no
//! packet sees a moment without rules.
//!
//! A bad entry keeps the whole Subnet from changing, unlike a bad route: a rule that
//! is left out may be the one that was to keep somebody away.

use std::collections::BTreeSet;

use crds::kubeovn::{SubnetAcl, SubnetSpec};
use ipnetwork::IpNetwork;
use net::Cidrs;
use ovn::nb::AclWant;

use crate::expression;
use crate::flaw::Flaw;

/// The tier of Kube-OVN's network policies, after that of our own guards. Before
/// OVN 23.06 there are no tiers and priorities alone decide.
const TIER: i64 = 2;
/// Of a private subnet: nothing may enter (`DefaultDropPriority`) …
const DROP: i64 = 1000;
/// … but from the subnet itself and from those allowed (`SubnetCIDRPriority`).
const ALLOW: i64 = 1001;
/// Of traffic within the subnet, below any ACL that is to stop it
/// (`AllowEWTrafficPriority`).
const EAST_WEST: i64 = 1900;

/// Longest `ACL.name` that OVN stores, in bytes.
const LONGEST_NAME: usize = 63;

/// The rules of the switch `name` with the networks `cidrs`.
///
/// # Errors
/// The first entry that cannot be a rule.
pub fn rules(name: &str, cidrs: Cidrs, spec: &SubnetSpec) -> Result<BTreeSet<AclWant>, Flaw> {
    let mut rules = BTreeSet::new();
    for (at, acl) in spec.acls.iter().enumerate() {
        rules.insert(written(at, acl)?);
    }
    let allowed = allowed(spec)?;
    if spec.private {
        rules.extend(private(name, cidrs, &allowed));
    }
    if spec.allow_ew_traffic && !spec.acls.is_empty() {
        let within = cidrs.iter().flat_map(|cidr| {
            let matches = between(cidr, cidr);
            ["from-lport", "to-lport"].map(|way| rule(way, EAST_WEST, &matches, "allow"))
        });
        rules.extend(within);
    }
    Ok(rules)
}

/// An entry of `acls`.
fn written(at: usize, acl: &SubnetAcl) -> Result<AclWant, Flaw> {
    let flaw = |field: &str, value: &dyn ToString, advice: &str| {
        Err(Flaw::new(format!("acls[{at}].{field}"), value.to_string(), advice))
    };
    let SubnetAcl { direction, priority, r#match, action } = acl;
    if !["from-lport", "to-lport"].contains(&direction.as_str()) {
        return flaw("direction", direction, "write from-lport or to-lport");
    }
    if !(0..=32_767).contains(priority) {
        return flaw("priority", priority, "write 0 to 32767; higher wins");
    }
    if let Some(advice) = expression::advice(r#match) {
        return flaw("match", r#match, &advice);
    }
    if !["allow-related", "allow-stateless", "allow", "drop", "reject"].contains(&action.as_str()) {
        let advice = "write allow-related, allow-stateless, allow, drop or reject";
        return flaw("action", action, advice);
    }
    Ok(rule(direction, i64::from(*priority), r#match, action))
}

/// The networks of `allowSubnets`; a family that the subnet lacks has no effect.
fn allowed(spec: &SubnetSpec) -> Result<Vec<IpNetwork>, Flaw> {
    let entry = |(at, text): (usize, &String)| {
        let network: Result<IpNetwork, _> = text.parse();
        let network = network.ok().and_then(|one| IpNetwork::new(one.network(), one.prefix()).ok());
        network.ok_or_else(|| {
            Flaw::new(format!("allowSubnets[{at}]"), text, "write a network such as 10.0.0.0/24")
        })
    };
    spec.allow_subnets.iter().enumerate().map(entry).collect()
}

/// Nothing enters but from the subnet and those allowed.
fn private(name: &str, cidrs: Cidrs, allowed: &[IpNetwork]) -> Vec<AclWant> {
    let drop = AclWant {
        name: Some(name.chars().take(LONGEST_NAME).collect()),
        log: true,
        severity: Some("warning".to_owned()),
        ..rule("to-lport", DROP, "ip", "drop")
    };
    let allow = |matches: String| rule("to-lport", ALLOW, &matches, "allow-related");
    let of_family = |cidr: IpNetwork| {
        let others = allowed.iter().copied().filter(move |one| one.is_ipv4() == cidr.is_ipv4());
        let both = move |other| format!("({}) || ({})", between(cidr, other), between(other, cidr));
        others.map(both).chain([between(cidr, cidr)])
    };
    cidrs.iter().flat_map(of_family).map(allow).chain([drop]).collect()
}

/// Packets from one network to another of the same family.
fn between(from: IpNetwork, to: IpNetwork) -> String {
    let family = if from.is_ipv4() { "ip4" } else { "ip6" };
    format!("{family}.src == {from} && {family}.dst == {to}")
}

fn rule(direction: &str, priority: i64, matches: &str, action: &str) -> AclWant {
    AclWant { tier: TIER, ..AclWant::new(direction, priority, matches, action) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: impl FnOnce(&mut SubnetSpec)) -> Result<Vec<AclWant>, String> {
        let mut spec = SubnetSpec::default();
        change(&mut spec);
        let cidrs = "10.0.0.0/24,fd00::/64".parse().unwrap();
        let rules = rules("s1", cidrs, &spec).map_err(|flaw| flaw.to_string())?;
        Ok(rules.into_iter().collect())
    }

    fn acl() -> SubnetAcl {
        SubnetAcl {
            direction: "to-lport".to_owned(),
            priority: 1111,
            r#match: "ip4.src == 10.9.0.0/16".to_owned(),
            action: "drop".to_owned(),
        }
    }

    #[test]
    fn a_subnet_that_says_nothing_has_no_rules() {
        assert_eq!(of(|_| ()), Ok(vec![]));
        // What it would be open for, if it were private.
        assert_eq!(of(|spec| spec.allow_subnets = vec!["10.9.0.0/16".to_owned()]), Ok(vec![]));
    }

    #[test]
    fn a_private_subnet_lets_in_itself_and_those_allowed_as_kube_ovn_does() {
        let rules = of(|spec| {
            spec.private = true;
            spec.allow_subnets = vec!["10.9.0.0/16".to_owned(), "fd09::/64".to_owned()];
        });
        let rules = rules.unwrap();
        let said: Vec<_> = rules
            .iter()
            .map(|rule| (rule.priority, rule.action.as_str(), rule.matches.as_str()))
            .collect();
        let allow = |matches| (1001, "allow-related", matches);
        assert_eq!(
            said,
            [
                (1000, "drop", "ip"),
                allow(
                    "(ip4.src == 10.0.0.0/24 && ip4.dst == 10.9.0.0/16) || (ip4.src == 10.9.0.0/16 && ip4.dst == 10.0.0.0/24)"
                ),
                allow(
                    "(ip6.src == fd00::/64 && ip6.dst == fd09::/64) || (ip6.src == fd09::/64 && ip6.dst == fd00::/64)"
                ),
                allow("ip4.src == 10.0.0.0/24 && ip4.dst == 10.0.0.0/24"),
                allow("ip6.src == fd00::/64 && ip6.dst == fd00::/64"),
            ]
        );
        assert!(rules.iter().all(|rule| rule.tier == 2 && rule.direction == "to-lport"));
        let drop = &rules[0];
        assert_eq!(
            (drop.name.as_deref(), drop.log, drop.severity.as_deref()),
            (Some("s1"), true, Some("warning"))
        );
    }

    #[test]
    fn traffic_within_the_subnet_is_let_pass_only_beside_acls() {
        assert_eq!(of(|spec| spec.allow_ew_traffic = true), Ok(vec![]));
        let rules = of(|spec| {
            spec.allow_ew_traffic = true;
            spec.acls = vec![acl(), acl()];
        });
        let rules = rules.unwrap();
        assert_eq!(rules.iter().filter(|rule| rule.priority == 1900).count(), 4);
        assert_eq!(rules.len(), 5, "an ACL that is there twice is there once");
    }

    #[test]
    fn an_entry_that_cannot_be_a_rule_is_named_with_what_to_write() {
        let message = |change: fn(&mut SubnetAcl)| {
            let mut bad = acl();
            change(&mut bad);
            of(|spec| spec.acls = vec![acl(), bad]).unwrap_err()
        };
        assert!(message(|bad| bad.direction = "in".to_owned()).contains("spec.acls[1].direction"));
        assert!(message(|bad| bad.priority = 40_000).contains(r#"is "40000": write 0 to 32767"#));
        assert!(message(|bad| bad.r#match = String::new()).contains("spec.acls[1].match"));
        assert!(message(|bad| bad.r#match = "ip4 \0".to_owned()).contains(r"'\0' is nothing"));
        assert!(message(|bad| bad.action = "pass".to_owned()).contains("allow-stateless"));
        let bad = of(|spec| spec.allow_subnets = vec!["blue".to_owned()]).unwrap_err();
        assert!(bad.starts_with(r#"spec.allowSubnets[0] is "blue""#), "{bad}");
    }
}
