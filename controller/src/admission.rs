//! What is refused when it is written: an object that says what cannot be, whatever
//! other objects say. Pure.
//!
//! It asks what the conditions ask, so that both use the same words, and whatever
//! gets past it becomes a condition. It is lenient where strictness would be in the
//! way: nothing is refused of an object that is being deleted, of a write that leaves
//! the spec as it is, or for what the object said before, so that one with several
//! faults can be mended one by one.

use crds::kubeovn::{Subnet, Vpc};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::flaw::{Flaw, told};
use crate::network::{self, Network};
use crate::routes;

/// The API group of all kinds that are looked at.
const GROUP: &str = "kubeovn.io";

/// Whether anything can be wrong with objects of this kind.
#[must_use]
pub fn looks_at(group: &str, plural: &str) -> bool {
    group == GROUP && matches!(plural, "subnets" | "vpcs")
}

/// Whether `new` may be written, over `old` if there is one.
///
/// # Errors
/// The fields, their values, and what to write instead.
pub fn review(plural: &str, old: Option<&Value>, new: &Value) -> Result<(), String> {
    let leaves = new["metadata"].get("deletionTimestamp").is_some();
    if leaves || old.is_some_and(|old| old.get("spec") == new.get("spec")) {
        return Ok(());
    }
    match plural {
        "subnets" => subnet(typed(old), typed(Some(new))),
        "vpcs" => vpc(typed(old), typed(Some(new))),
        _ => Ok(()),
    }
}

/// What does not fit its type is the schema's to refuse.
fn typed<K: DeserializeOwned>(object: Option<&Value>) -> Option<K> {
    K::deserialize(object?).ok()
}

fn subnet(old: Option<Subnet>, new: Option<Subnet>) -> Result<(), String> {
    let Some(new) = new else { return Ok(()) };
    // Only the first fault is known of one that cannot be in force, so which of them
    // are new is not.
    let was_in_order = old.as_ref().is_none_or(|old| Network::parse(old).is_ok());
    if let Err(error) = Network::parse(&new)
        && was_in_order
    {
        return Err(error.to_string());
    }
    let known = old.map(|old| network::flaws(&old.spec)).unwrap_or_default();
    refuse(network::flaws(&new.spec), &known)
}

fn vpc(old: Option<Vpc>, new: Option<Vpc>) -> Result<(), String> {
    let flaws = |vpc: Vpc| {
        let mut flaws = routes::static_routes(&vpc.spec).1;
        flaws.extend(routes::policies(&vpc.spec).1);
        flaws
    };
    refuse(new.map(flaws).unwrap_or_default(), &old.map(flaws).unwrap_or_default())
}

/// Refuses what was not said before.
fn refuse(mut flaws: Vec<Flaw>, known: &[Flaw]) -> Result<(), String> {
    flaws.retain(|flaw| !known.contains(flaw));
    told(&flaws).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
