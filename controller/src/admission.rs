//! What is refused when it is written: an object that cannot be, by itself or beside
//! those that are there.
//!
//! ```text
//!  the store's own thread ─┐            ┌─ Facts: subnets, holders, ports, owners
//!                          ├─► review ──┤
//!  the webhook ────────────┘            └─ what the rounds ask of it, in their words
//! ```
//!
//! It asks what the conditions ask, so that both use the same words, and whatever
//! gets past it becomes a condition: what it goes by may be a moment old. It is lenient
//! where strictness would be in the way. What is not there yet, or not in force yet, is
//! only warned of, since objects may come in any order. Nothing is refused of an object
//! that is being deleted, of a write that leaves as it is what is looked at, or for what
//! the object said before, so that one with several faults can be mended one by one.

mod addresses;
mod claims;
mod facts;
mod holders;
mod leaving;
mod machine;
mod networks;
mod owners;
mod placing;
mod ports;
mod taken;
mod templates;

use std::collections::HashSet;

use crds::cni::IpamClaim;
use crds::kubeovn::{FixedField, Ip, IpPool, Subnet, Vip, Vpc, fixed_fields};
use crds::kubevirt::{VirtualMachine, VirtualMachineInstance};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::flaw::{Flaw, told};

pub use facts::Facts;
use facts::Index;

/// The kinds that are looked at, by group and plural.
pub const KINDS: [(&str, &str); 9] = [
    ("kubeovn.io", "vpcs"),
    ("kubeovn.io", "subnets"),
    ("kubeovn.io", "ippools"),
    ("kubeovn.io", "vips"),
    ("kubeovn.io", "ips"),
    ("k8s.cni.cncf.io", "ipamclaims"),
    ("kubevirt.io", "virtualmachines"),
    ("kubevirt.io", "virtualmachineinstances"),
    ("kubevirt.io", "virtualmachineinstancereplicasets"),
];

/// Whether anything can be wrong with objects of this kind.
#[must_use]
pub fn looks_at(group: &str, plural: &str) -> bool {
    KINDS.contains(&(group, plural))
}

/// What is wrong with an object.
#[derive(Debug, Default)]
struct Findings {
    /// Why it cannot be in force: the first reason, there may be others behind it.
    refusal: Option<String>,
    /// Entries and fields of it that cannot.
    flaws: Vec<Flaw>,
    /// What is not there yet.
    waits: Vec<String>,
}

impl Findings {
    fn refused(why: impl ToString) -> Self {
        Self { refusal: Some(why.to_string()), ..Self::default() }
    }

    fn waiting(why: impl ToString) -> Self {
        Self { waits: vec![why.to_string()], ..Self::default() }
    }
}

/// Whether `new` may be written, over `old` if there is one; then what its author is to
/// be warned of.
///
/// # Errors
/// The fields, their values, and what to write instead.
pub fn review(
    facts: &Facts,
    plural: &str,
    old: Option<&Value>,
    new: &Value,
) -> Result<Vec<String>, String> {
    let leaves = new["metadata"].get("deletionTimestamp").is_some();
    if leaves || old.is_some_and(|old| old.get("spec") == new.get("spec")) {
        return Ok(Vec::new());
    }
    facts.ask(|index| match plural {
        "vpcs" => judge(old, new, |vpc: &Vpc| networks::vpc(index, vpc)),
        "subnets" => judge(old, new, |subnet: &Subnet| networks::subnet(index, subnet)),
        "ippools" => judge(old, new, |pool: &IpPool| addresses::pool(index, pool)),
        "vips" => judge(old, new, |vip: &Vip| addresses::vip(index, vip)),
        "ips" => {
            let warnings = judge(old, new, |ip: &Ip| addresses::reservation(index, ip))?;
            let edits = edited(old, new, |old, new| addresses::edits(index, old, new));
            told(&edits).map_or(Ok(warnings), Err)
        }
        "ipamclaims" => {
            let warnings = judge(old, new, |claim: &IpamClaim| claims::judged(index, claim))?;
            told(&edited(old, new, claims::edits)).map_or(Ok(warnings), Err)
        }
        "virtualmachines" => judge(old, new, |vm: &VirtualMachine| machine::vm(index, vm)),
        "virtualmachineinstances" if old.is_none() => {
            judge(old, new, |one: &VirtualMachineInstance| machine::instance(index, one))
        }
        "virtualmachineinstancereplicasets" => judge(old, new, machine::replica_set),
        _ => Ok(Vec::new()),
    })
}

/// Whether `old` may be deleted; then what whoever does it is to be warned of.
///
/// # Errors
/// Why not, and what to do first.
pub fn leaves(facts: &Facts, plural: &str, old: &Value) -> Result<Vec<String>, String> {
    if old["metadata"].get("deletionTimestamp").is_some() {
        return Ok(Vec::new());
    }
    let told = facts.ask(|index| match plural {
        "vpcs" => deleted(old, |vpc| leaving::vpc(index, vpc)),
        "subnets" => deleted(old, |subnet| leaving::subnet(index, subnet)),
        "vips" => deleted(old, |vip| leaving::vip(index, vip)),
        "ips" => deleted(old, |ip| leaving::ip(index, ip)),
        "ipamclaims" => deleted(old, |claim| leaving::claim(index, claim)),
        _ => Ok(None),
    })?;
    Ok(told.into_iter().collect())
}

fn deleted<K: DeserializeOwned>(
    old: &Value,
    ask: impl FnOnce(&K) -> leaving::Answer,
) -> leaving::Answer {
    K::deserialize(old).map_or(Ok(None), |object| ask(&object))
}

/// Refuses what is wrong with `new` and was not with `old`. What does not fit its type
/// is the schema's to refuse.
fn judge<K: DeserializeOwned>(
    old: Option<&Value>,
    new: &Value,
    find: impl Fn(&K) -> Findings,
) -> Result<Vec<String>, String> {
    let typed = |object: &Value| K::deserialize(object).ok();
    let Some(object) = typed(new) else { return Ok(Vec::new()) };
    let Findings { refusal, mut flaws, waits } = find(&object);
    let known = old.and_then(typed).map(|old| find(&old)).unwrap_or_default();
    let known_flaws: HashSet<_> = known.flaws.iter().collect();
    flaws.retain(|flaw| !known_flaws.contains(flaw));
    flaws.extend(old.into_iter().flat_map(|old| changed(old, new)));
    let refusal = refusal.filter(|_| known.refusal.is_none());
    let wrong: Vec<String> = refusal.into_iter().chain(told(&flaws)).collect();
    if wrong.is_empty() { Ok(waits) } else { Err(wrong.join("; ")) }
}

/// What is wrong with the step from `old` to `new`.
fn edited<K: DeserializeOwned>(
    old: Option<&Value>,
    new: &Value,
    find: impl FnOnce(&K, &K) -> Vec<Flaw>,
) -> Vec<Flaw> {
    let old = old.and_then(|old| K::deserialize(old).ok());
    let both = old.and_then(|old| Some((old, K::deserialize(new).ok()?)));
    both.map(|(old, new)| find(&old, &new)).unwrap_or_default()
}

/// The fields that say something else than before and must not.
fn changed(old: &Value, new: &Value) -> Vec<Flaw> {
    let kind = new["kind"].as_str().unwrap_or_default();
    let flaw = |field: &FixedField| {
        let said = |object: &Value| {
            let text = object["spec"][field.name].as_str().unwrap_or_default().to_owned();
            if text.is_empty() { field.default.to_owned() } else { text }
        };
        let (old, new) = (said(old), said(new));
        let differs = !old.is_empty() && old != new;
        differs.then(|| Flaw::new(field.name.to_owned(), new, field.message()))
    };
    fixed_fields(kind).filter_map(flaw).collect()
}

#[cfg(test)]
mod tests;
