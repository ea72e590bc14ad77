//! What Subnets and Vpcs show of themselves. Pure: facts in, statuses that
//! differ from what is written out.

use std::sync::Arc;

use crds::condition::{self, Condition};
use crds::kubeovn::{Count, DEFAULT_VPC, Subnet, SubnetStatus, Vpc, VpcStatus};
use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};
use net::names;

use crate::warning::Warning;
use crate::world::World;
use crate::{hold, network};

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
                refusal => refusal.map(ToString::to_string),
            },
            waits: hold::subnet_waits(world, subnet),
            ignored: network::without_effect(&subnet.spec),
            generation: subnet.metadata.generation,
        };
        let mut status = old.clone();
        status.conditions = conditions(&old.conditions, facts, &now);
        let [v4, v6] = world.ledger.counts(name);
        (status.v4_using, status.v4_available) = (Count::from(v4.0), Count(v4.1));
        (status.v6_using, status.v6_available) = (Count::from(v6.0), Count(v6.1));
        if let Some(network) = world.ledger.networks().get(name) {
            let port = names::router_side(&network.vpc, name);
            status.gateway_mac = mac_of(&port).unwrap_or(status.gateway_mac);
        }
        (subnet.status.as_ref() != Some(&status) && !same_counts_as_doubles(&old, &status))
            .then(|| (name.clone(), status))
    };
    world.subnets.iter().filter_map(wanted).collect()
}

/// What to tell about `subnet` when its status becomes `new`: why it is not in
/// force, unless its conditions say so already.
#[must_use]
pub fn new_refusal(subnet: &Subnet, new: &SubnetStatus) -> Option<Warning> {
    let refusal = |status: &SubnetStatus| {
        let error = |one: &&Condition| one.r#type == condition::ERROR && one.status == "True";
        status.conditions.iter().find(error).map(|one| (one.reason.clone(), one.message.clone()))
    };
    let (reason, message) = refusal(new)?;
    let told = subnet.status.as_ref().and_then(refusal).is_some_and(|(_, old)| old == message);
    (!told).then(|| Warning { about: subnet.object_ref(&()), reason, message })
}

/// Counts beyond 2^53 come back from an API server rounded; that is no change.
fn same_counts_as_doubles(old: &SubnetStatus, new: &SubnetStatus) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "compares what a double keeps")]
    let same = |old: Count, new: Count| (old.0 as f64).to_bits() == (new.0 as f64).to_bits();
    let mut like = new.clone();
    let counts = [
        (&mut like.v4_available, old.v4_available),
        (&mut like.v4_using, old.v4_using),
        (&mut like.v6_available, old.v6_available),
        (&mut like.v6_using, old.v6_using),
    ];
    for (new, old) in counts {
        if same(old, *new) {
            *new = old;
        }
    }
    like == *old
}

/// The Vpc statuses to write.
#[must_use]
pub fn vpcs(world: &World, now: Timestamp) -> Vec<(String, VpcStatus)> {
    let now = now.to_string();
    let wanted = |(name, vpc): (&String, &Arc<Vpc>)| {
        let old = vpc.status.clone().unwrap_or_default();
        let networks = world.ledger.networks().values();
        let facts = Facts {
            refusal: None,
            waits: hold::vpc_waits(world, vpc),
            ignored: without_effect(vpc),
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
            ..VpcStatus::default()
        };
        (vpc.status.as_ref() != Some(&status)).then(|| (name.clone(), status))
    };
    world.vpcs.iter().filter_map(wanted).collect()
}

fn without_effect(vpc: &Vpc) -> Vec<&'static str> {
    let spec = &vpc.spec;
    [
        ("staticRoutes", !spec.static_routes.is_empty()),
        ("policyRoutes", !spec.policy_routes.is_empty()),
        ("vpcPeerings", !spec.vpc_peerings.is_empty()),
        ("enableExternal", spec.enable_external),
        ("extraExternalSubnets", !spec.extra_external_subnets.is_empty()),
        ("enableBfd", spec.enable_bfd),
        ("bfdPort", spec.bfd_port.is_some()),
    ]
    .into_iter()
    .filter_map(|(field, set)| set.then_some(field))
    .collect()
}

/// What the conditions of a Subnet or Vpc say.
struct Facts {
    /// Why it is not in force as written.
    refusal: Option<String>,
    /// What its deletion waits for.
    waits: Option<String>,
    /// Fields without effect.
    ignored: Vec<&'static str>,
    /// The generation that all this is about.
    generation: Option<i64>,
}

fn conditions(old: &[Condition], facts: Facts, now: &str) -> Vec<Condition> {
    let Facts { refusal, waits, ignored, generation } = facts;
    let one = |kind: &str, holds: bool, reason: &str, message: &str| Condition {
        r#type: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        ..Condition::default()
    };
    let mut wanted = match refusal.as_deref() {
        None => vec![
            one(condition::VALIDATED, true, "Valid", ""),
            one(condition::READY, true, "InForce", ""),
            one(condition::ERROR, false, "NoError", ""),
        ],
        Some(why) => vec![
            one(condition::VALIDATED, false, "ValidateLogicalSwitchFailed", why),
            one(condition::READY, false, "ValidateLogicalSwitchFailed", why),
            one(condition::ERROR, true, "ValidateLogicalSwitchFailed", why),
        ],
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

    #[test]
    fn a_refusal_is_told_once() {
        let status = |refusal: Option<&str>| {
            let (waits, ignored, generation) = (None, Vec::new(), None);
            let facts = Facts { refusal: refusal.map(str::to_owned), waits, ignored, generation };
            let conditions = conditions(&[], facts, "t");
            SubnetStatus { conditions, ..SubnetStatus::default() }
        };
        let mut subnet = Subnet::new("s", SubnetSpec::default());
        assert!(new_refusal(&subnet, &status(None)).is_none());
        let told = new_refusal(&subnet, &status(Some("it overlaps"))).unwrap();
        assert_eq!(
            (told.message.as_str(), told.about.kind.as_deref()),
            ("it overlaps", Some("Subnet"))
        );
        subnet.status = Some(status(Some("it overlaps")));
        assert!(new_refusal(&subnet, &status(Some("it overlaps"))).is_none());
        assert!(new_refusal(&subnet, &status(Some("no vpc"))).is_some());
    }
}
