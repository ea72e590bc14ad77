//! The place of a node on the subnet of the nodes: an address of each family, a
//! port, an IP object. It has one while some subnet wants out (`egress.rs`) and an
//! agent serves it, and gives it back when either is over.

use std::net::IpAddr;
use std::sync::Arc;

use crds::annotations::OWNER_UID;
use crds::kubeovn::Ip;
use ipam::Seconds;
use jiff::Timestamp;
use kube::ResourceExt as _;
use net::{listed, names};
use tracing::warn;

use super::{Decision, is_reservation, kept_port, owned_by, reserve, unix};
use crate::egress::{self, JOIN};
use crate::hold;
use crate::ledger::{AddressError, Claimant, VmKey};
use crate::machine::{self, Trouble};
use crate::world::World;

pub(super) fn decide(world: &mut World, name: &str, now: Timestamp) -> Decision {
    let key = &VmKey::of_node(name);
    let mut decision = Decision::nothing_for(key.clone());
    if world.nodes.is_unreadable(&name.to_owned()) {
        return decision;
    }
    let uid = egress::served(world, name).and_then(|node| node.uid());
    let uid = uid.filter(|_| egress::join(world).is_some());
    if let Some(uid) = uid {
        let claimant = Claimant { port: names::node_port(name), vm: key.clone(), uid };
        match claim(world, &claimant, unix(now)) {
            Ok(_) => decision.ports.extend(kept_port(world, &claimant, JOIN, None)),
            Err(error) => {
                warn!(node = name, %error, "The node has no address to lead out by");
                decision.trouble = Some(Trouble {
                    reason: machine::ADDRESS_NOT_AVAILABLE,
                    message: error.to_string(),
                });
            }
        }
        decision.uid = Some(claimant.uid);
    }
    // A reservation is its author's until the node is there to have it.
    let kept = |claimant: &Claimant, subnet: &str| {
        (subnet == JOIN && decision.uid.as_ref() == Some(&claimant.uid))
            || (claimant.uid.is_empty() && is_reservation(world, &claimant.port))
    };
    let held = world.ledger.held_for(key).into_iter();
    decision.release = held.filter(|(claimant, subnet)| !kept(claimant, subnet)).collect();
    // Of a node that was, and what somebody deleted: that is made anew.
    let here = |ip: &&Arc<Ip>| {
        let ours = decision.uid.as_ref().is_some_and(|uid| owned_by(ip, uid));
        (ip.annotations().contains_key(OWNER_UID) && !ours) || hold::is_leaving(&ip.metadata)
    };
    decision.surplus = world.ips_of(key).filter(here).map(|ip| ip.name_any()).collect();
    let keeps = decision.ports.iter().map(|port| &port.name).collect::<Vec<_>>();
    let released = decision.release.iter().map(|(claimant, _)| &claimant.port);
    let released: Vec<_> = released.filter(|port| !keeps.contains(port)).cloned().collect();
    decision.surplus.extend(released);
    decision
}

/// What the node has, had before the ledger lost it, or else something free.
fn claim(
    world: &mut World,
    claimant: &Claimant,
    now: Seconds,
) -> Result<Vec<IpAddr>, AddressError> {
    // What somebody reserved for it before it was there.
    reserve::adopt(world, JOIN, claimant, now);
    let had: Vec<IpAddr> = world
        .ips
        .get(&claimant.port)
        .filter(|ip| owned_by(ip, &claimant.uid))
        .map(|ip| listed::addresses(&ip.spec.ip_address).collect())
        .unwrap_or_default();
    if world.ledger.addresses(JOIN, claimant).is_empty() && !had.is_empty() {
        let again = world.ledger.claim(JOIN, claimant, &had, now);
        if again.is_ok() {
            return again;
        }
    }
    world.ledger.claim(JOIN, claimant, &[], now)
}
