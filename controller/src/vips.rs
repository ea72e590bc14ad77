//! Addresses that are nobody's own: Vips, and the addresses that a Subnet lists in
//! `spec.vips`. Pure.
//!
//! ```text
//!  a Vip              holds addresses in the ledger in its own name, for as long as it is there
//!  being deleted      they stay held while a VM with an instance may send from them
//!  may be lent to     one port, whose template names it (`vip`): its addresses and MAC are the port's
//!  may be carried by  ports whose template names it (`aaps`), or whose labels it selects
//! ```
//!
//! Each such address is a port of type `virtual`, whose parents are the ports of its
//! subnet that may send from it. OVN gives it to the parent that announces it. OVN has
//! one address in such a port, so a Vip of two families has two.

mod carriers;
mod lent;
mod macs;
mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::kubeovn::{Vip, VipStatus};
use ipam::Seconds;
use jiff::Timestamp;
use kube::ResourceExt as _;
use net::{MacAddr, names};
use ovn::nb::{Desired, PortWant};

pub use carriers::{Carriers, carried, trouble, unfit};
pub use lent::{borrower, lends, lends_nothing, mac as lent_mac};
pub use macs::{
    Macs, asks_for as asks_for_mac, called, given as given_mac, holder as holder_of_mac,
};
pub use spec::{Asked, VipError, flaws, given_otherwise, own_flaws, understand, without_effect};

use crate::decide::{Decision, mac, unix};
use crate::flaw::Flaw;
use crate::hold;
use crate::ledger::{AddressError, Claimant, VmKey};
use crate::lenders;
use crate::machine::{self, Trouble};
use crate::rows::Whose;
use crate::world::World;

/// What a Vip holds, in its own name or under an earlier uid of it.
fn holdings(world: &World, name: &str) -> Vec<(Claimant, String)> {
    world.ledger.held_for(&VmKey::of_vip(name))
}

/// What `vip` holds: subnet and addresses, IPv4 first.
#[must_use]
pub fn held(world: &World, vip: &Vip) -> Option<(String, Vec<IpAddr>)> {
    let own = |claimant: &Claimant| Some(&claimant.uid) == vip.metadata.uid.as_ref();
    let (claimant, subnet) =
        holdings(world, &vip.name_any()).into_iter().find(|(claimant, _)| own(claimant))?;
    let addresses = world.ledger.addresses(&subnet, &claimant);
    Some((subnet, addresses))
}

/// Decides for the Vip of this name, noting its claim in the world's ledger.
pub fn decide(world: &mut World, name: &str, now: Timestamp) -> Decision {
    let mut decision = Decision::nothing_for(VmKey::of_vip(name));
    if world.vips.is_unreadable(&name.to_owned()) {
        return decision;
    }
    let vip = world.vips.get(&name.to_owned()).cloned();
    let uid = vip.as_ref().and_then(|vip| vip.uid());
    let over = vip.as_ref().is_none_or(|vip| is_over(world, vip));
    lenders::let_go(world, &mut decision, uid.filter(|_| !over).as_deref());
    world.refused_vips.remove(name);
    // Of one that could vanish at any time no address is taken.
    let Some(vip) = vip.filter(|vip| hold::is_held(&vip.metadata)) else { return decision };
    if hold::is_leaving(&vip.metadata) || held(world, &vip).is_some() {
        return decision;
    }
    if let Err(refusal) = claim(world, &vip, unix(now)) {
        let message = refusal.message;
        world.refused_vips.insert(name.to_owned(), message.clone());
        decision.trouble = Some(Trouble { reason: machine::ADDRESS_NOT_AVAILABLE, message });
        let wait = refusal.rests.map(|rests| i64::try_from(rests).unwrap_or(60).max(1));
        decision.again_at =
            wait.and_then(|wait| now.checked_add(jiff::SignedDuration::from_secs(wait)).ok());
    } else {
        // Ports may send from it now, and VMs may wait for it.
        world.look_at_all();
    }
    decision
}

/// Whether it is being deleted, and nobody uses it.
fn is_over(world: &World, vip: &Vip) -> bool {
    hold::is_leaving(&vip.metadata)
        && carriers::users(world, vip).is_empty()
        && borrower(world, vip).is_none()
}

/// Claims for the Vip of this name what it had, if the ledger has lost it.
pub fn regain(world: &mut World, name: &str, now: Seconds) {
    let Some(vip) = world.vips.get(&name.to_owned()).cloned() else { return };
    if !hold::is_held(&vip.metadata) {
        return;
    }
    // Why it cannot is told by its own decision.
    let Some((subnet, has)) = held(world, &vip) else {
        if vip.status.as_ref().is_some_and(|status| !status.mac.is_empty()) {
            let _ = claim(world, &vip, now);
        }
        return;
    };
    let status = vip.status.clone().unwrap_or_default();
    let had = [status.v4_ip, status.v6_ip].into_iter().filter_map(|text| text.parse().ok());
    let lost: Vec<IpAddr> = had.filter(|one| !has.contains(one)).collect();
    let _ = world.ledger.claim_named(&subnet, &lent::claimant(&vip), &lost, now);
}

struct Refusal {
    message: String,
    rests: Option<Seconds>,
}

impl From<VipError> for Refusal {
    fn from(error: VipError) -> Self {
        Self { message: error.message, rests: None }
    }
}

fn claim(world: &mut World, vip: &Vip, now: Seconds) -> Result<(), Refusal> {
    let asked = understand(world, world.ledger.networks(), &world.refused, vip)?;
    if let Some(mac) = asks_for_mac(vip) {
        let network = asked.network;
        let other = || holder_of_mac(world, network, mac, Some(&vip.name_any()));
        if let Some(holder) = mac::holder(world, network, mac, "").or_else(other) {
            let said = Flaw::new("macAddress".to_owned(), mac, mac::used_by(mac, &holder));
            return Err(VipError::from(said.to_string()).into());
        }
    }
    let claimant = lent::claimant(vip);
    // What it had before the ledger lost it.
    let status = vip.status.clone().unwrap_or_default();
    let had: Vec<IpAddr> =
        [status.v4_ip, status.v6_ip].iter().filter_map(|text| text.parse().ok()).collect();
    let fits = had.iter().all(|one| asked.network.cidrs.contains(*one));
    let subnet = asked.network.name.clone();
    let named = asked.addresses;
    if named.is_empty()
        && !had.is_empty()
        && fits
        && world.ledger.claim(&subnet, &claimant, &had, now).is_ok()
    {
        return Ok(());
    }
    world.ledger.claim(&subnet, &claimant, &named, now).map(drop).map_err(|error| Refusal {
        rests: match &error {
            AddressError::Resting { seconds, .. } => Some(*seconds),
            _ => None,
        },
        message: error.to_string(),
    })
}

/// What a Vip shows of itself beside its conditions.
#[must_use]
pub fn shown(world: &World, vip: &Vip) -> VipStatus {
    let old = vip.status.clone().unwrap_or_default();
    let Some((subnet, addresses)) = held(world, vip) else {
        return VipStatus { conditions: old.conditions, ..VipStatus::default() };
    };
    let of_family = |v4: bool| {
        let address = addresses.iter().find(|address| address.is_ipv4() == v4);
        address.map(IpAddr::to_string).unwrap_or_default()
    };
    let (v4_ip, v6_ip) = (of_family(true), of_family(false));
    // In force is what it was given first.
    let given = old.mac.parse::<MacAddr>().ok();
    let named = || vip.spec.mac_address.trim().parse::<MacAddr>().ok();
    let vpc = world.ledger.networks().get(&subnet).map_or("", |network| &network.vpc);
    let (name, uid) = (vip.name_any(), vip.uid().unwrap_or_default());
    let derived = || MacAddr::derived_from(&["vip", vpc, &name, &uid]);
    VipStatus {
        mac: given.or_else(named).unwrap_or_else(derived).to_string(),
        r#type: vip.spec.r#type.clone(),
        v4_ip,
        v6_ip,
        selector: vip.spec.selector.clone(),
        conditions: old.conditions,
    }
}

/// What the deletion of a Vip waits for, and what to do.
#[must_use]
pub fn waits(world: &World, vip: &Vip) -> Option<String> {
    if !hold::is_leaving(&vip.metadata) {
        return None;
    }
    if let Some(port) = borrower(world, vip) {
        return Some(lent_to(&port));
    }
    let users = carriers::users(world, vip);
    let users = users.iter().map(|vm| format!("VirtualMachine {vm}")).collect();
    let users = hold::counted(&users)?;
    Some(format!(
        "its addresses stay held while a VM that runs may send from them: stop {users}, or take the Vip off its template or the VM out of spec.selector and start it anew"
    ))
}

/// What the deletion of a Vip waits for whose addresses this port has.
pub(crate) fn lent_to(port: &Claimant) -> String {
    let Claimant { port, vm, .. } = port;
    format!(
        "port {port} has its addresses: delete VirtualMachine {vm}, or take the annotation off its template and start it anew"
    )
}

/// Every virtual port there should be: by subnet and address, whose it is and its name.
fn virtual_ports(world: &World) -> BTreeMap<(String, IpAddr), (Whose, String)> {
    let mut ports = BTreeMap::new();
    for network in world.ledger.networks().values() {
        let subnet = &network.name;
        ports.extend(network.vips.iter().map(|address| {
            let name = names::subnet_vip(subnet, &address.to_string());
            ((subnet.clone(), *address), (Whose::Subnet(subnet.clone()), name))
        }));
    }
    for (name, vip) in world.vips.iter().filter(|(_, vip)| vip.spec.r#type.is_empty()) {
        let Some((subnet, addresses)) = held(world, vip) else { continue };
        if is_over(world, vip) || !world.ledger.networks().contains_key(&subnet) {
            continue;
        }
        for (at, address) in addresses.into_iter().enumerate() {
            let whose = Whose::Holder(VmKey::of_vip(name));
            ports.insert((subnet.clone(), address), (whose, names::vip_port(name, at)));
        }
    }
    ports
}

/// The rows of the virtual ports, or of those alone that `which` names.
#[must_use]
pub fn rows(world: &World, which: Option<&BTreeSet<(String, IpAddr)>>) -> Vec<(Whose, Desired)> {
    let mut rows = Vec::new();
    for ((subnet, address), (whose, name)) in virtual_ports(world) {
        let place = (subnet, address);
        if which.is_some_and(|which| !which.contains(&place)) {
            continue;
        }
        let parents = world.carriers.ports(&place);
        let port = PortWant::virtual_ip(&place.0, address, &parents);
        let ports = [(name, port)].into();
        rows.push((whose, Desired { ports, ..Desired::default() }));
    }
    rows
}

/// Whether a sweep must leave this port alone: it may be of a Vip of which nobody can
/// say what it wants.
#[must_use]
pub fn is_unclear(world: &World, port: &str) -> bool {
    let vip = names::vip_of_port(port).to_owned();
    let lost = |subnet: &String| !world.ledger.networks().contains_key(subnet);
    world.vips.is_unreadable(&vip)
        || (world.vips.meta(&vip).is_some()
            && holdings(world, &vip).iter().any(|(_, subnet)| lost(subnet)))
}

#[cfg(test)]
mod tests;
