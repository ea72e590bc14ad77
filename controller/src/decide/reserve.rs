//! Reservations: IP objects that people made, or Kube-OVN. Their addresses are held in
//! nobody's uid until the one that they name is there and takes them over.

use std::net::IpAddr;
use std::sync::Arc;

use crds::annotations;
use crds::kubeovn::Ip;
use ipam::Seconds;
use kube::ResourceExt as _;
use net::listed;
use tracing::warn;

use super::claimant;
use crate::hold;
use crate::ledger::{Claimant, VmKey};
use crate::world::World;

/// Claims what IP objects made by people reserve for this VM: the addresses they name,
/// and free ones in families of which they name none.
pub(super) fn reserve(world: &mut World, key: &VmKey, now: Seconds) {
    for (ip, reservation, named) in open_reservations(world, key) {
        if let Err(error) = world.ledger.claim(&ip.spec.subnet, &reservation, &named, now) {
            warn!(ip = ip.name_any(), %error, "A reservation cannot be had");
        }
    }
}

/// Claims the addresses that they name. What cannot be had is told by [`reserve`].
pub(super) fn reserve_named(world: &mut World, key: &VmKey, now: Seconds) {
    if world.is_unreadable(key) {
        return;
    }
    for (ip, reservation, named) in open_reservations(world, key) {
        let _ = world.ledger.claim_named(&ip.spec.subnet, &reservation, &named, now);
    }
}

/// The reservations for this VM of which not all is held yet, with the addresses they
/// name.
fn open_reservations(world: &World, key: &VmKey) -> Vec<(Arc<Ip>, Claimant, Vec<IpAddr>)> {
    let mut open = Vec::new();
    for ip in world.ips_of(key).filter(|ip| reserves(ip)) {
        let reservation = claimant(&ip.name_any(), key, "");
        let mut held = world.ledger.held_for(key).into_iter();
        let network = world.ledger.networks().get(&ip.spec.subnet);
        let has = world.ledger.addresses(&ip.spec.subnet, &reservation).len();
        let is_whole = network.is_some_and(|network| has >= network.cidrs.iter().count());
        // By its VM already, or where the object said before.
        let otherwise = held.any(|(one, subnet)| {
            one.port == reservation.port && (!one.uid.is_empty() || subnet != ip.spec.subnet)
        });
        if otherwise || is_whole || network.is_some_and(|network| network.leaving) {
            continue;
        }
        let written = [&ip.spec.v4_ip_address, &ip.spec.v6_ip_address, &ip.spec.ip_address];
        let named = written.into_iter().flat_map(|text| listed::addresses(text)).collect();
        open.push((Arc::clone(ip), reservation, named));
    }
    open
}

/// A reservation for this port, made before its owner was there, is the owner's now.
pub(super) fn adopt(world: &mut World, subnet: &str, to: &Claimant, now: Seconds) {
    let reservation = Claimant { uid: String::new(), ..to.clone() };
    if world.ledger.addresses(subnet, to).is_empty()
        && !world.ledger.addresses(subnet, &reservation).is_empty()
    {
        world.ledger.adopt(subnet, &reservation, to, now);
    }
}

/// Whether there is an IP object of this name that a person made, for all that
/// can be known: it reserves its addresses.
pub(super) fn is_reservation(world: &World, port: &str) -> bool {
    let port = port.to_owned();
    world.ips.is_unreadable(&port) || world.ips.get(&port).is_some_and(|ip| reserves(ip))
}

/// Whether a person made this IP object, and wants it.
fn reserves(ip: &Ip) -> bool {
    !has_owner(ip) && !hold::is_leaving(&ip.metadata)
}

/// Whether it was written for somebody, by us.
pub(crate) fn has_owner(ip: &Ip) -> bool {
    ip.annotations().contains_key(annotations::OWNER_UID)
}
