//! The finalizer on whatever holds addresses or serves who does (Subnets, Vpcs, IPPools,
//! Vips, IPAMClaims, IP objects): what is in use does not vanish under its users. Pure.
//!
//! ```text
//!  valid, without it        put it on, before anything relies on the object
//!  being deleted, in use    it stays, and in force with it; a condition says who uses it
//!  being deleted, unused    not in force any more; taken off once its rows are gone
//! ```
//!
//! A subnet is in use while an address of it is held (one that rests is not), a
//! VPC while a subnet of it is in force or held, an IP object while an instance has
//! its address (`decide/deleted.rs`), a Vip while an instance carries it (`vips.rs`), an
//! IPAMClaim while a port has its addresses (`claims.rs`).
//! An IP object is made with the finalizer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crds::kubeovn::{FINALIZER, Ip, Subnet, Vpc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::ledger::{Claimant, VmKey};
use crate::world::World;

/// How many users a message names; the others it counts.
const NAMED: usize = 3;

/// Whether our finalizer is on the object.
#[must_use]
pub fn is_held(object: &ObjectMeta) -> bool {
    has(object, FINALIZER)
}

/// Whether this finalizer is on the object.
#[must_use]
pub fn has(object: &ObjectMeta, finalizer: &str) -> bool {
    object.finalizers.iter().flatten().any(|one| one == finalizer)
}

/// Whether the object is being deleted.
#[must_use]
pub const fn is_leaving(object: &ObjectMeta) -> bool {
    object.deletion_timestamp.is_some()
}

/// Whether the object may go before we have let it.
fn could_vanish(object: &ObjectMeta) -> bool {
    !is_leaving(object) && !is_held(object)
}

/// The Vpcs to put the finalizer on, with the patch that does it.
#[must_use]
pub fn vpcs_to_take(world: &World) -> Vec<(String, Value)> {
    let lacking = world.vpcs.metas().filter(|(_, vpc)| could_vanish(vpc));
    lacking.map(|(name, vpc)| (name.clone(), with(vpc))).collect()
}

/// The Subnets to put the finalizer on, with the patch that does it: those in
/// force.
#[must_use]
pub fn subnets_to_take(world: &World) -> Vec<(String, Value)> {
    let in_force = world.ledger.networks().keys();
    let lacking = in_force.filter_map(|name| Some((name, world.subnets.meta(name)?)));
    let lacking = lacking.filter(|(_, subnet)| could_vanish(subnet));
    lacking.map(|(name, subnet)| (name.clone(), with(subnet))).collect()
}

/// The Subnets that could vanish at any time, by themselves or with their Vpc,
/// though they are in force: no address of them may be given out.
#[must_use]
pub fn unheld(world: &World) -> Vec<String> {
    let networks = world.ledger.networks().values().filter(|network| {
        world.subnets.meta(&network.name).is_some_and(could_vanish)
            || world.vpcs.meta(&network.vpc).is_some_and(could_vanish)
    });
    networks.map(|network| network.name.clone()).collect()
}

/// Whether a Subnet is being deleted and unused.
#[must_use]
pub fn is_over(world: &World, subnet: &ObjectMeta) -> bool {
    is_leaving(subnet) && !subnet.name.as_ref().is_some_and(|name| world.ledger.is_in_use(name))
}

/// The Subnets to take the finalizer off, with the patch that does it. Their
/// rows are gone if a comparison of everything has been carried out since they
/// went out of force.
#[must_use]
pub fn subnets_to_let_go(world: &World) -> Vec<(String, Value)> {
    let over = world.subnets.metas().filter(|(name, subnet)| {
        is_over(world, subnet) && is_held(subnet) && !world.ledger.networks().contains_key(*name)
    });
    over.map(|(name, subnet)| (name.clone(), without(subnet))).collect()
}

/// The same for Vpcs.
#[must_use]
pub fn vpcs_to_let_go(world: &World) -> Vec<(String, Value)> {
    let over = world.vpcs.metas().filter(|(name, vpc)| {
        is_leaving(vpc) && is_held(vpc) && subnets_of(world, name).is_empty()
    });
    over.map(|(name, vpc)| (name.clone(), without(vpc))).collect()
}

/// The IP objects to take the finalizer off that are being deleted and that no VM's
/// decision would look at: those that do not fit their type, whose addresses the
/// ledger knows, and those that name no VM.
#[must_use]
pub fn ips_to_let_go(world: &World) -> Vec<(String, Value)> {
    let of_nobody = |ip: &Ip| ip.spec.pod_name.is_empty();
    let nobodys = world.ips.iter().filter(|(_, ip)| of_nobody(ip));
    let nobodys = nobodys.map(|(name, ip)| (name, &ip.metadata));
    let over =
        world.ips.unreadable().chain(nobodys).filter(|(_, ip)| is_leaving(ip) && is_held(ip));
    over.map(|(name, ip)| (name.clone(), without(ip))).collect()
}

/// The Vips to put the finalizer on, with the patch that does it.
#[must_use]
pub fn vips_to_take(world: &World) -> Vec<(String, Value)> {
    let lacking = world.vips.iter().filter(|(_, vip)| could_vanish(&vip.metadata));
    lacking.map(|(name, vip)| (name.clone(), with(&vip.metadata))).collect()
}

/// The Vips to take the finalizer off, with the patch that does it: those that are
/// being deleted and hold nothing any more. What one holds that cannot be read is
/// found when it is gone.
#[must_use]
pub fn vips_to_let_go(world: &World) -> Vec<(String, Value)> {
    let over = world.vips.metas().filter(|(name, vip)| {
        let holds = !world.ledger.held_for(&VmKey::of_vip(name)).is_empty();
        let unreadable = world.vips.is_unreadable(name);
        is_leaving(vip) && is_held(vip) && (unreadable || !holds)
    });
    over.map(|(name, vip)| (name.clone(), without(vip))).collect()
}

/// The IPPools to take the finalizer off, which they have from Kube-OVN: nothing
/// keeps a pool (`pools.rs`).
#[must_use]
pub fn pools_to_let_go(world: &World) -> Vec<(String, Value)> {
    let over = world.pools.metas().filter(|(_, pool)| is_leaving(pool) && is_held(pool));
    over.map(|(name, pool)| (name.clone(), without(pool))).collect()
}

/// The subnets that keep this Vpc: those in force, and those that hold addresses
/// though nobody can say any more how they were.
#[must_use]
pub fn subnets_of(world: &World, vpc: &str) -> BTreeSet<String> {
    let networks = world.ledger.networks();
    let in_force = networks.values().filter(|network| network.vpc == vpc);
    let lost = world.ledger.held_subnets().filter(|name| {
        let subnet = world.subnets.get(&(*name).to_owned());
        !networks.contains_key(*name) && subnet.is_some_and(|subnet| subnet.spec.vpc == vpc)
    });
    in_force.map(|network| network.name.clone()).chain(lost.map(str::to_owned)).collect()
}

/// What a Subnet that is being deleted waits for, and what to do.
#[must_use]
pub fn subnet_waits(world: &World, subnet: &Subnet) -> Option<String> {
    if !is_leaving(&subnet.metadata) {
        return None;
    }
    let name = subnet.name_any();
    let blocks = world.ledger.unreadable_in(&name).map(|block| format!("AddressBlock {block}"));
    let users = world.ledger.holders_in(&name).iter().map(user).chain(blocks).collect();
    subnet_stays(&users)
}

/// What the deletion of a subnet with these users waits for, if there are any.
pub(crate) fn subnet_stays(users: &BTreeSet<String>) -> Option<String> {
    let users = counted(users)?;
    Some(format!(
        "the subnet stays in force until no address of it is held: delete {users}, or move them to another subnet"
    ))
}

/// The held addresses of `subnet` of which `which` is true, with who holds them;
/// none if there are none.
#[must_use]
pub fn held(world: &World, subnet: &str, which: impl Fn(IpAddr) -> bool) -> Option<String> {
    if !world.ledger.held_in(subnet).any(&which) {
        return None;
    }
    let of = |holder: &Claimant| {
        let addresses = world.ledger.addresses(subnet, holder).into_iter();
        let addresses = addresses.filter(|address| which(*address));
        addresses.map(|address| holding(address, holder)).collect::<Vec<_>>()
    };
    counted(&world.ledger.holders_in(subnet).iter().flat_map(of).collect())
        .or_else(|| Some("an address".to_owned()))
}

/// The same, of what is not a Vip's.
#[must_use]
pub fn held_by_guests(
    world: &World,
    subnet: &str,
    which: impl Fn(IpAddr) -> bool,
) -> Option<String> {
    if !world.ledger.held_in(subnet).any(&which) {
        return None;
    }
    let holders = world.ledger.holders_in(subnet).into_iter();
    let guests = holders.filter(|holder| holder.vm.vip().is_none());
    told(guests.flat_map(|holder| {
        let addresses = world.ledger.addresses(subnet, &holder).into_iter();
        let addresses = addresses.filter(|address| which(*address)).collect::<Vec<_>>();
        addresses.into_iter().map(move |address| (address, holder.clone()))
    }))
}

/// These addresses with who holds each; none if there are none.
pub fn told(held: impl IntoIterator<Item = (IpAddr, Claimant)>) -> Option<String> {
    let told = held.into_iter().map(|(address, holder)| holding(address, &holder));
    counted(&told.collect())
}

fn holding(address: IpAddr, holder: &Claimant) -> String {
    format!("{address} of {}", user(holder))
}

/// What a Vpc that is being deleted waits for, and what to do.
#[must_use]
pub fn vpc_waits(world: &World, vpc: &Vpc) -> Option<String> {
    if !is_leaving(&vpc.metadata) {
        return None;
    }
    vpc_stays(&subnets_of(world, &vpc.name_any()))
}

/// What the deletion of a Vpc with these subnets waits for, if there are any.
pub(crate) fn vpc_stays(subnets: &BTreeSet<String>) -> Option<String> {
    let subnets = counted(&subnets.iter().map(|subnet| format!("Subnet {subnet}")).collect())?;
    Some(format!("the vpc stays in force for its subnets: delete {subnets}"))
}

/// A holder as its author knows it.
pub(crate) fn user(holder: &Claimant) -> String {
    if let Some(vip) = holder.vm.vip() {
        format!("Vip {vip}")
    } else if let Some(claim) = holder.vm.claim() {
        format!("IPAMClaim {claim}")
    } else if let Some(node) = holder.vm.node() {
        format!("Node {node}")
    } else if holder.uid.is_empty() {
        format!("IP {}", holder.port)
    } else {
        format!("VirtualMachine {}", holder.vm)
    }
}

/// The first few, and how many more; none if there are none.
pub(crate) fn counted(users: &BTreeSet<String>) -> Option<String> {
    let named: Vec<&str> = users.iter().take(NAMED).map(String::as_str).collect();
    match users.len().saturating_sub(NAMED) {
        _ if users.is_empty() => None,
        0 => Some(named.join(", ")),
        more => Some(format!("{} and {more} more", named.join(", "))),
    }
}

/// The patch that puts the finalizer on this version of the object.
#[must_use]
pub fn with(object: &ObjectMeta) -> Value {
    with_one(object, FINALIZER)
}

/// The same of any finalizer.
#[must_use]
pub fn with_one(object: &ObjectMeta, finalizer: &str) -> Value {
    patch(object, finalizers(object).chain([finalizer]))
}

/// The patch that takes the finalizer off this version of the object.
#[must_use]
pub fn without(object: &ObjectMeta) -> Value {
    without_one(object, FINALIZER)
}

/// The same of any finalizer.
#[must_use]
pub fn without_one(object: &ObjectMeta, finalizer: &str) -> Value {
    patch(object, finalizers(object).filter(|one| *one != finalizer))
}

fn finalizers(object: &ObjectMeta) -> impl Iterator<Item = &str> {
    object.finalizers.iter().flatten().map(String::as_str)
}

fn patch<'a>(object: &ObjectMeta, finalizers: impl Iterator<Item = &'a str>) -> Value {
    // Guarded by the version that was read: a merge replaces the whole list.
    json!({ "metadata": {
        "uid": object.uid,
        "resourceVersion": object.resource_version,
        "finalizers": finalizers.collect::<Vec<_>>(),
    } })
}

#[cfg(test)]
mod tests;
