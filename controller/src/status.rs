//! What Subnets, IPPools, Vpcs and Vips show of themselves. Pure: facts in, statuses that
//! differ from what is written out.

mod pools;

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::condition::{self, Condition};
use crds::kubeovn::{
    Count, DEFAULT_VPC, Subnet, SubnetStatus, Vip, VipStatus, Vpc, VpcSpec, VpcStatus,
};
use jiff::Timestamp;
use kube::{Resource, ResourceExt as _};
use net::names;

use crate::flaw::Flaw;
use crate::ledger::VmKey;
use crate::multicast::Querier;
use crate::network::Network;
use crate::rows::Whose;
use crate::warning::Warning;
use crate::world::World;
use crate::{binding, egress, flaw, hold, namespaces, network, peering, ranges, routes, vips};

pub use pools::ip_pools;

/// The Subnet statuses to write; `mac_of` tells the MAC of a router port.
pub fn subnets(
    world: &World,
    mac_of: impl Fn(&str) -> Option<String>,
    now: Timestamp,
) -> Vec<(String, SubnetStatus)> {
    let now = now.to_string();
    let wanted = |(name, subnet): (&String, &Arc<Subnet>)| {
        let old = subnet.status.clone().unwrap_or_default();
        let facts = Facts {
            refusal: match world.refused.get(name) {
                None if hold::is_over(world, &subnet.metadata) => {
                    Some("it is being deleted".to_owned())
                }
                refusal => refusal
                    .map(ToString::to_string)
                    .or_else(|| world.set_aside.get(&Whose::Subnet(name.clone())).cloned()),
            },
            flaws: flaw::told(&subnet_flaws(world, subnet)),
            waits: hold::subnet_waits(world, subnet),
            ignored: network::without_effect(&subnet.spec),
            generation: subnet.metadata.generation,
        };
        let mut status = SubnetStatus {
            conditions: conditions(&old.conditions, facts, &now),
            gateway_mac: old.gateway_mac.clone(),
            in_force: world.accepted(name).cloned().map(Box::new),
            ..SubnetStatus::default()
        };
        let [v4, v6] = world.ledger.counts(name);
        (status.v4_using, status.v4_available) = (Count::from(v4.0), Count(v4.1));
        (status.v6_using, status.v6_available) = (Count::from(v6.0), Count(v6.1));
        if let Some(network) = world.ledger.networks().get(name) {
            let held: Vec<_> = world.ledger.held_in(name).collect();
            for cidr in network.cidrs.iter() {
                let (using, available) = ranges::of(network, cidr, &held);
                if cidr.is_ipv4() {
                    (status.v4_using_range, status.v4_available_range) = (using, available);
                } else {
                    (status.v6_using_range, status.v6_available_range) = (using, available);
                }
            }
            let port = names::router_side(&network.vpc, name);
            status.gateway_mac = mac_of(&port).unwrap_or(status.gateway_mac);
            let mac = status.gateway_mac.parse().ok();
            let querier = mac.and_then(|mac| Querier::of(network, mac));
            let address = querier.and_then(|querier| querier.address());
            status.mcast_querier_ip = address.map(|one| one.to_string()).unwrap_or_default();
            status.mcast_querier_mac = querier.map(|one| one.mac.to_string()).unwrap_or_default();
        } else if world.ledger.held_in(name).next().is_none() {
            // Its router went with it; as long as somebody is there it stays as it is.
            status.gateway_mac = String::new();
        }
        (subnet.status.as_ref() != Some(&status) && !same_counts_as_doubles(&old, &status))
            .then(|| (name.clone(), status))
    };
    world.subnets.iter().filter_map(wanted).collect()
}

/// What of a Subnet that is in force is not.
fn subnet_flaws(world: &World, subnet: &Subnet) -> Vec<Flaw> {
    let mut flaws = network::flaws(&subnet.spec);
    let network = world.ledger.networks().get(&subnet.name_any());
    let vpc = network.and_then(|network| world.vpcs.get(&network.vpc));
    flaws.extend(namespaces::unlisted(&subnet.spec, vpc.map(|vpc| &**vpc)));
    let reserved = network.and_then(|network| world.reserved_by(network));
    flaws.extend(reserved.map(|why| Flaw::said(why.to_string())));
    flaws.extend(egress::flaws(world, subnet));
    let in_force = world.ledger.networks();
    // Of several the first by name counts.
    let others = |network| {
        let other = binding::other_default(in_force.values(), network, &world.vpcs);
        other.filter(|other| other.name < network.name)
    };
    flaws.extend(network.and_then(others).map(binding::second_default));
    flaws
}

/// What to tell about an object when its conditions become `new`: why it, or a part
/// of it, is not in force, unless the `old` ones say so already.
pub fn new_refusal<K: Resource<DynamicType = ()>>(
    object: &K,
    old: &[Condition],
    new: &[Condition],
) -> Option<Warning> {
    let refusal = |conditions: &[Condition]| {
        let error = |one: &&Condition| one.r#type == condition::ERROR && one.status == "True";
        conditions.iter().find(error).map(|one| (one.reason.clone(), one.message.clone()))
    };
    let (reason, message) = refusal(new)?;
    let told = refusal(old).is_some_and(|(_, old)| old == message);
    (!told).then(|| Warning { about: object.object_ref(&()), reason, message })
}

/// Counts beyond 2^53 come back from an API server rounded; that is no change.
fn same_counts_as_doubles(old: &SubnetStatus, new: &SubnetStatus) -> bool {
    let mut like = new.clone();
    let counts = [
        (&mut like.v4_available, old.v4_available),
        (&mut like.v4_using, old.v4_using),
        (&mut like.v6_available, old.v6_available),
        (&mut like.v6_using, old.v6_using),
    ];
    for (new, old) in counts {
        if same_as_double(old, *new) {
            *new = old;
        }
    }
    like == *old
}

#[expect(clippy::cast_precision_loss, reason = "compares what a double keeps")]
fn same_as_double(old: Count, new: Count) -> bool {
    (old.0 as f64).to_bits() == (new.0 as f64).to_bits()
}

/// The Vpc statuses to write.
#[must_use]
pub fn vpcs(world: &World, now: Timestamp) -> Vec<(String, VpcStatus)> {
    let now = now.to_string();
    let networks_of_vpcs = world.ledger.networks();
    let vpcs_of = binding::vpcs_of(&world.vpcs, networks_of_vpcs);
    let wanted = |(name, vpc): (&String, &Arc<Vpc>)| {
        let old = vpc.status.clone().unwrap_or_default();
        let networks = world.ledger.networks().values();
        let links = peering::links(world, world.ledger.networks(), name, &vpc.spec);
        let of_peerings = links.flaws.into_iter().chain(links.waits);
        let wrong = binding::wrong_default(world.ledger.networks(), name, &vpc.spec);
        let elsewhere = binding::elsewhere(name, &vpc.spec, &vpcs_of);
        let of_others = of_peerings.chain(wrong).chain(elsewhere);
        let facts = Facts {
            refusal: world.set_aside.get(&Whose::Vpc(name.clone())).cloned(),
            flaws: flaw::told(&vpc_flaws(&vpc.spec, of_others)),
            waits: hold::vpc_waits(world, vpc),
            ignored: without_effect(vpc, networks_of_vpcs),
            generation: vpc.metadata.generation,
        };
        let status = VpcStatus {
            conditions: conditions(&old.conditions, facts, &now),
            standby: true,
            default: *name == DEFAULT_VPC,
            default_logical_switch: vpc.spec.default_subnet.clone(),
            router: vpc.name_any(),
            subnets: networks
                .filter(|network| network.vpc == *name)
                .map(|network| network.name.clone())
                .collect(),
            vpc_peerings: links.there.into_iter().map(|link| link.remote).collect(),
            ..VpcStatus::default()
        };
        (vpc.status.as_ref() != Some(&status)).then(|| (name.clone(), status))
    };
    world.vpcs.iter().filter_map(wanted).collect()
}

/// The Vip statuses to write.
#[must_use]
pub fn vips(world: &World, now: Timestamp) -> Vec<(Arc<Vip>, VipStatus)> {
    let now = now.to_string();
    let wanted = |(name, vip): (&String, &Arc<Vip>)| {
        let refusal = match vips::held(world, vip) {
            Some(_) => world.set_aside.get(&Whose::Holder(VmKey::of_vip(name))).cloned(),
            None if hold::is_leaving(&vip.metadata) => Some("it is being deleted".to_owned()),
            None => Some(world.refused_vips.get(name)?.clone()),
        };
        let facts = Facts {
            refusal,
            flaws: flaw::told(&vips::flaws(world, vip)),
            waits: vips::waits(world, vip),
            ignored: owned(vips::without_effect(&vip.spec)),
            // Of a kind without a status subresource, which each write of ours raises.
            generation: None,
        };
        let mut status = vips::shown(world, vip);
        status.conditions = conditions(&status.conditions, facts, &now);
        (vip.status.as_ref() != Some(&status)).then(|| (Arc::clone(vip), status))
    };
    world.vips.iter().filter_map(wanted).collect()
}

/// The entries of a Vpc's lists that are not in force.
fn vpc_flaws(spec: &VpcSpec, of_others: impl Iterator<Item = Flaw>) -> Vec<Flaw> {
    let (_, mut flaws) = routes::static_routes(spec);
    flaws.extend(routes::policies(spec).1);
    flaws.extend(of_others);
    flaws
}

fn owned(fields: Vec<&'static str>) -> Vec<String> {
    fields.into_iter().map(str::to_owned).collect()
}

fn without_effect(vpc: &Vpc, networks: &BTreeMap<String, Network>) -> Vec<String> {
    let spec = &vpc.spec;
    let fields = [
        ("staticRoutes[].bfdId", spec.static_routes.iter().any(|route| !route.bfd_id.is_empty())),
        ("enableExternal", spec.enable_external),
        ("extraExternalSubnets", !spec.extra_external_subnets.is_empty()),
        ("enableBfd", spec.enable_bfd),
        ("bfdPort", spec.bfd_port.is_some()),
    ];
    let fields = fields.into_iter().filter_map(|(field, set)| set.then_some(field.to_owned()));
    let unplaced = binding::unplaced(networks, &vpc.name_any(), spec).map(|(at, name)| {
        let name = net::shown(name);
        format!(
            "namespaces[{at}] (no Subnet of this vpc is for {name:?}: name one in spec.defaultSubnet, or list it in spec.namespaces of one)"
        )
    });
    fields.chain(unplaced).collect()
}

/// The conditions of an object that does not fit its type.
pub fn misfit(
    old: &[Condition],
    why: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let refusal = Some(why.to_owned());
    let facts = Facts { refusal, flaws: None, waits: None, ignored: Vec::new(), generation };
    conditions(old, facts, &now.to_string())
}

/// What the conditions of a Subnet or Vpc say.
struct Facts {
    /// Why it is not in force as written.
    refusal: Option<String>,
    /// Which entries of it are not in force, though it is.
    flaws: Option<String>,
    /// What its deletion waits for.
    waits: Option<String>,
    /// Fields without effect.
    ignored: Vec<String>,
    /// The generation that all this is about.
    generation: Option<i64>,
}

fn conditions(old: &[Condition], facts: Facts, now: &str) -> Vec<Condition> {
    let Facts { refusal, flaws, waits, ignored, generation } = facts;
    let one = |kind: &str, holds: bool, reason: &str, message: &str| Condition {
        r#type: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        ..Condition::default()
    };
    let mut wanted = match (refusal.as_deref(), flaws.as_deref()) {
        (None, Some(flaws)) => vec![
            one(condition::VALIDATED, false, "InvalidEntries", flaws),
            one(condition::READY, true, "InForce", ""),
            one(condition::ERROR, true, "InvalidEntries", flaws),
        ],
        (None, None) => vec![
            one(condition::VALIDATED, true, "Valid", ""),
            one(condition::READY, true, "InForce", ""),
            one(condition::ERROR, false, "NoError", ""),
        ],
        (Some(why), flaws) => {
            // What else there is to mend.
            let all = [why].into_iter().chain(flaws).collect::<Vec<_>>().join("; ");
            vec![
                one(condition::VALIDATED, false, "ValidateLogicalSwitchFailed", &all),
                one(condition::READY, false, "ValidateLogicalSwitchFailed", &all),
                one(condition::ERROR, true, "ValidateLogicalSwitchFailed", &all),
            ]
        }
    };
    if let Some(waits) = waits {
        wanted.push(one(condition::DELETION_BLOCKED, true, "InUse", &waits));
    }
    if !ignored.is_empty() {
        let fields: Vec<_> = ignored.iter().map(|field| format!("spec.{field}")).collect();
        let message =
            format!("these fields are kept but have no effect yet: {}", fields.join(", "));
        wanted.push(one(condition::FIELDS_WITHOUT_EFFECT, true, "NotImplemented", &message));
    }
    condition::merged(old, wanted, now)
}

#[cfg(test)]
mod tests {
    use crds::kubeovn::SubnetSpec;

    use super::*;

    fn conditions_of(refusal: Option<&str>, flaws: Option<&str>) -> Vec<Condition> {
        let [refusal, flaws] = [refusal, flaws].map(|text| text.map(str::to_owned));
        let (waits, ignored, generation) = (None, Vec::new(), None);
        conditions(&[], Facts { refusal, flaws, waits, ignored, generation }, "t")
    }

    #[test]
    fn a_subnet_that_is_not_in_force_and_has_nobody_has_no_router_any_more() {
        let told = |cidr: &str| {
            let spec = SubnetSpec { cidr_block: cidr.to_owned(), ..SubnetSpec::default() };
            let mut subnet = Subnet::new("s", spec);
            subnet.status = Some(SubnetStatus {
                gateway_mac: "02:00:00:00:00:fe".to_owned(),
                ..SubnetStatus::default()
            });
            let mut world = World::new(60);
            world.put_subnet(subnet);
            world.take_dirty();
            let statuses = subnets(&world, |_| None, Timestamp::UNIX_EPOCH);
            statuses.into_iter().next().unwrap().1.gateway_mac
        };
        assert_eq!(told(""), "");
        // Its port was not seen yet.
        assert_eq!(told("10.0.0.0/24"), "02:00:00:00:00:fe");
    }

    #[test]
    fn a_refusal_is_told_once() {
        let status = |refusal| conditions_of(refusal, None);
        let subnet = Subnet::new("s", SubnetSpec::default());
        let news = |old: &[Condition], new: &[Condition]| new_refusal(&subnet, old, new);
        assert!(news(&[], &status(None)).is_none());
        let told = news(&[], &status(Some("it overlaps"))).unwrap();
        assert_eq!(
            (told.message.as_str(), told.about.kind.as_deref()),
            ("it overlaps", Some("Subnet"))
        );
        let old = status(Some("it overlaps"));
        assert!(news(&old, &status(Some("it overlaps"))).is_none());
        assert!(news(&old, &status(Some("no vpc"))).is_some());
    }

    #[test]
    fn what_else_is_wrong_with_an_object_is_told_beside_why_it_is_not_in_force() {
        let conditions = conditions_of(Some("it overlaps"), Some("spec.vips[0] is \"x\""));
        let message = "it overlaps; spec.vips[0] is \"x\"";
        let not_in_force = |one: &&Condition| one.r#type != condition::FIELDS_WITHOUT_EFFECT;
        assert!(conditions.iter().filter(not_in_force).all(|one| one.message == message));
    }

    #[test]
    fn an_object_with_a_bad_entry_is_in_force_and_not_valid() {
        let conditions = conditions_of(None, Some("spec.staticRoutes[0].cidr"));
        let says = |kind: &str| {
            let one = conditions.iter().find(|one| one.r#type == kind).unwrap();
            (one.status.as_str(), one.message.as_str())
        };
        assert_eq!(says(condition::READY), ("True", ""));
        assert_eq!(says(condition::VALIDATED), ("False", "spec.staticRoutes[0].cidr"));
        assert_eq!(says(condition::ERROR), ("True", "spec.staticRoutes[0].cidr"));
    }
}
