//! What IPPools show of themselves.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crds::kubeovn::{Count, IpPool, IpPoolStatus};
use jiff::Timestamp;

use super::{Facts, conditions, same_as_double};
use crate::network::Network;
use crate::pools::NamedPool;
use crate::world::World;
use crate::{hold, pools, ranges};

/// The IPPool statuses to write.
#[must_use]
pub fn ip_pools(world: &World, now: Timestamp) -> Vec<(String, IpPoolStatus)> {
    let now = now.to_string();
    let in_force = in_force(world);
    let wanted = |(name, pool): (&String, &Arc<IpPool>)| {
        let old = pool.status.clone().unwrap_or_default();
        let facts = Facts {
            refusal: match world.refused_pools.get(name) {
                None if hold::is_leaving(&pool.metadata) => Some("it is being deleted".to_owned()),
                refusal => refusal.map(ToString::to_string),
            },
            flaws: None,
            waits: None,
            ignored: super::owned(pools::without_effect(pool)),
            generation: pool.metadata.generation,
        };
        let mut status = IpPoolStatus {
            conditions: conditions(&old.conditions, facts, &now),
            ..IpPoolStatus::default()
        };
        if let Some(counts) = in_force.get(name.as_str()) {
            let in_force = match world.refused_pools.get(name) {
                None => Some(Box::new(pool.spec.clone())),
                Some(_) => old.in_force.clone(),
            };
            status = IpPoolStatus { conditions: status.conditions, in_force, ..counts.clone() };
        }
        let counts = [
            (&mut status.v4_available, old.v4_available),
            (&mut status.v6_available, old.v6_available),
        ];
        for (new, old) in counts {
            if same_as_double(old, *new) {
                *new = old;
            }
        }
        (pool.status.as_ref() != Some(&status)).then(|| (name.clone(), status))
    };
    world.pools.iter().filter_map(wanted).collect()
}

/// Which addresses of each pool in force are held, and which are free. What a subnet
/// holds is looked through once, however many pools it has.
fn in_force(world: &World) -> HashMap<&str, IpPoolStatus> {
    let mut counts = HashMap::new();
    let networks = world.ledger.networks().values();
    for network in networks.filter(|network| !network.pools.is_empty()) {
        let mut held: Vec<_> = world.ledger.held_in(&network.name).collect();
        held.sort_unstable();
        for (name, pool) in &network.pools {
            counts.insert(name.as_str(), count(world, network, (name, pool), &pool.among(&held)));
        }
    }
    counts
}

fn count(
    world: &World,
    network: &Network,
    (name, pool): (&str, &NamedPool),
    held: &[IpAddr],
) -> IpPoolStatus {
    let mut status = IpPoolStatus::default();
    let [v4, v6] = world.ledger.available_in(&network.name, name);
    (status.v4_available, status.v6_available) = (Count(v4), Count(v6));
    for cidr in network.cidrs.iter() {
        let number = held.iter().filter(|one| one.is_ipv4() == cidr.is_ipv4()).count();
        let number = Count(number as u128);
        let (using, available) = ranges::of_pool(network, cidr, pool, held);
        if cidr.is_ipv4() {
            (status.v4_using, status.v4_using_range) = (number, using);
            status.v4_available_range = available;
        } else {
            (status.v6_using, status.v6_using_range) = (number, using);
            status.v6_available_range = available;
        }
    }
    status
}
