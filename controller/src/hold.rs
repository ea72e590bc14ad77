//! The finalizer on Subnets and Vpcs: what is in use does not vanish under its
//! users. Pure.
//!
//! ```text
//!  valid, without it        put it on, before anything relies on the object
//!  being deleted, in use    it stays, and in force with it; a condition says who uses it
//!  being deleted, unused    not in force any more; taken off once its rows are gone
//! ```
//!
//! A subnet is in use while an address of it is held (one that rests is not), a
//! VPC while a subnet of it is in force or held.

use std::collections::BTreeSet;

use crds::kubeovn::{FINALIZER, Subnet};
use kube::{Resource, ResourceExt as _};
use serde_json::{Value, json};

use crate::ledger::Claimant;
use crate::world::World;

/// How many users a message names; the others it counts.
const NAMED: usize = 3;

/// Whether our finalizer is on `object`.
pub fn is_held<K: Resource>(object: &K) -> bool {
    object.finalizers().iter().any(|one| one == FINALIZER)
}

/// Whether `object` is being deleted.
pub fn is_leaving<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// The Vpcs to put the finalizer on, with the patch that does it.
#[must_use]
pub fn vpcs_to_take(world: &World) -> Vec<(String, Value)> {
    let lacking = world.vpcs.iter().filter(|(_, vpc)| !is_leaving(&***vpc) && !is_held(&***vpc));
    lacking.map(|(name, vpc)| (name.clone(), with(&**vpc))).collect()
}

/// The Subnets to put the finalizer on, with the patch that does it: those in
/// force.
#[must_use]
pub fn subnets_to_take(world: &World) -> Vec<(String, Value)> {
    let in_force = world.ledger.networks().keys().filter_map(|name| world.subnets.get(name));
    let lacking = in_force.filter(|subnet| !is_leaving(&***subnet) && !is_held(&***subnet));
    lacking.map(|subnet| (subnet.name_any(), with(&**subnet))).collect()
}

/// The Subnets that could vanish at any time, by themselves or with their Vpc,
/// though they are in force: no address of them may be given out.
#[must_use]
pub fn unheld(world: &World) -> Vec<String> {
    let could_vanish = |held: Option<bool>| held == Some(false);
    let networks = world.ledger.networks().values().filter(|network| {
        let subnet =
            world.subnets.get(&network.name).map(|one| is_leaving(&**one) || is_held(&**one));
        let vpc = world.vpcs.get(&network.vpc).map(|one| is_leaving(&**one) || is_held(&**one));
        could_vanish(subnet) || could_vanish(vpc)
    });
    networks.map(|network| network.name.clone()).collect()
}

/// Whether `subnet` is being deleted and unused.
#[must_use]
pub fn is_over(world: &World, subnet: &Subnet) -> bool {
    is_leaving(subnet) && world.ledger.held_in(&subnet.name_any()).next().is_none()
}

/// The Subnets to take the finalizer off, with the patch that does it. Their
/// rows are gone if a comparison of everything has been carried out since they
/// went out of force.
#[must_use]
pub fn subnets_to_let_go(world: &World) -> Vec<(String, Value)> {
    let over = world.subnets.iter().filter(|(name, subnet)| {
        is_held(&***subnet)
            && is_over(world, subnet)
            && !world.ledger.networks().contains_key(*name)
    });
    over.map(|(name, subnet)| (name.clone(), without(&**subnet))).collect()
}

/// The same for Vpcs.
#[must_use]
pub fn vpcs_to_let_go(world: &World) -> Vec<(String, Value)> {
    let over = world.vpcs.iter().filter(|(name, vpc)| {
        is_leaving(&***vpc) && is_held(&***vpc) && subnets_of(world, name).is_empty()
    });
    over.map(|(name, vpc)| (name.clone(), without(&**vpc))).collect()
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
pub fn subnet_waits(world: &World, name: &str) -> Option<String> {
    let leaving = world.subnets.get(&name.to_owned()).is_some_and(|subnet| is_leaving(&**subnet));
    let users: BTreeSet<String> =
        world.ledger.holders_in(name).iter().filter(|_| leaving).map(user).collect();
    (!users.is_empty()).then(|| {
        format!(
            "the subnet stays in force until no address of it is held: delete {}, or move them to another subnet",
            counted(&users)
        )
    })
}

/// What a Vpc that is being deleted waits for, and what to do.
#[must_use]
pub fn vpc_waits(world: &World, name: &str) -> Option<String> {
    let leaving = world.vpcs.get(&name.to_owned()).is_some_and(|vpc| is_leaving(&**vpc));
    let subnets: BTreeSet<String> = subnets_of(world, name)
        .into_iter()
        .filter(|_| leaving)
        .map(|subnet| format!("Subnet {subnet}"))
        .collect();
    (!subnets.is_empty())
        .then(|| format!("the vpc stays in force for its subnets: delete {}", counted(&subnets)))
}

/// A holder as its author knows it.
fn user(holder: &Claimant) -> String {
    if holder.uid.is_empty() {
        format!("IP {}", holder.port)
    } else {
        format!("VirtualMachine {}", holder.vm)
    }
}

/// The first few, and how many more.
fn counted(users: &BTreeSet<String>) -> String {
    let named: Vec<&str> = users.iter().take(NAMED).map(String::as_str).collect();
    match users.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// The patch that puts the finalizer on this version of `object`.
fn with<K: Resource>(object: &K) -> Value {
    patch(object, object.finalizers().iter().map(String::as_str).chain([FINALIZER]))
}

/// The patch that takes the finalizer off this version of `object`.
fn without<K: Resource>(object: &K) -> Value {
    patch(object, object.finalizers().iter().map(String::as_str).filter(|one| *one != FINALIZER))
}

fn patch<'a, K: Resource>(object: &K, finalizers: impl Iterator<Item = &'a str>) -> Value {
    // Guarded by the version that was read: a merge replaces the whole list.
    json!({ "metadata": {
        "uid": object.uid(),
        "resourceVersion": object.resource_version(),
        "finalizers": finalizers.collect::<Vec<_>>(),
    } })
}

#[cfg(test)]
mod tests;
