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
mod moves;
mod networks;
mod owners;
mod placing;
mod ports;
mod taken;
mod templates;

use std::collections::HashSet;

use crds::cause::Cause;
use crds::cni::IpamClaim;
use crds::kubeovn::{FixedField, Ip, IpPool, Subnet, Vip, Vpc, fixed_fields};
use crds::kubevirt::{
    VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration as Migration, faults,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::MANAGER;
use crate::decide;
use crate::flaw::Flaw;
use crate::migration::words;

pub use facts::Facts;
use facts::Index;

/// The kinds that are looked at, by group and plural.
pub const KINDS: [(&str, &str); 11] = [
    ("kubeovn.io", "vpcs"),
    ("kubeovn.io", "subnets"),
    ("kubeovn.io", "ippools"),
    ("kubeovn.io", "vips"),
    ("kubeovn.io", "ips"),
    ("k8s.cni.cncf.io", "ipamclaims"),
    ("kubevirt.io", "virtualmachines"),
    ("kubevirt.io", "virtualmachineinstances"),
    ("kubevirt.io", "virtualmachineinstancereplicasets"),
    ("kubevirt.io", "virtualmachineinstancemigrations"),
    ("migrations.kubevirt.io", "migrationpolicies"),
];

/// Whether anything can be wrong with objects of this kind.
#[must_use]
pub fn looks_at(group: &str, plural: &str) -> bool {
    KINDS.contains(&(group, plural))
}

/// Puts into an object that is written what it is to have from its beginning, though its author
/// need not write it. Returns whether anything was missing.
pub fn complete(plural: &str, object: &mut Value) -> bool {
    plural == "virtualmachines" && decide::complete(object)
}

/// What is wrong with an object.
#[derive(Debug, Default)]
struct Findings {
    /// Why it cannot be in force: the first reason, there may be others behind it.
    refusal: Option<String>,
    /// Entries and fields of it that cannot.
    flaws: Vec<Flaw>,
    /// The same of what upstream looks at, in its words and with its reasons.
    faults: Vec<Cause>,
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

/// What somebody writes.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// What is there, if anything is.
    pub old: Option<&'a Value>,
    /// What is to be.
    pub new: &'a Value,
    /// The writer's field manager: by that we know ourselves.
    pub by: &'a str,
}

/// Whether this may be written; then what its author is to be warned of.
///
/// # Errors
/// The fields, their values, and what to write instead.
pub fn review(facts: &Facts, plural: &str, write: Write<'_>) -> Result<Vec<String>, Vec<Cause>> {
    let Write { old, new, by } = write;
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
            refused(&edits).map_or(Ok(warnings), Err)
        }
        "ipamclaims" => {
            let warnings = judge(old, new, |claim: &IpamClaim| claims::judged(index, claim))?;
            refused(&edited(old, new, claims::edits)).map_or(Ok(warnings), Err)
        }
        "virtualmachines" => judge(old, new, |vm: &VirtualMachine| machine::vm(index, vm)),
        "virtualmachineinstances" => match old {
            None => judge(old, new, |one: &VirtualMachineInstance| machine::instance(index, one)),
            Some(_) if by == MANAGER => Ok(Vec::new()),
            // What its guest has follows from it, and from whoever asked us for a change.
            Some(_) => Err(vec![Cause::not_supported("spec", faults::RESTRICTED)]),
        },
        "virtualmachineinstancereplicasets" => judge(old, new, machine::replica_set),
        "virtualmachineinstancemigrations" if old.is_some() => {
            Err(vec![Cause::invalid("spec", words::FIXED)])
        }
        "virtualmachineinstancemigrations" => {
            judge(old, new, |one: &Migration| moves::migration(index, one))
        }
        "migrationpolicies" => judge(old, new, moves::migration_policy),
        _ => Ok(Vec::new()),
    })
}

fn refused(flaws: &[Flaw]) -> Option<Vec<Cause>> {
    let causes: Vec<Cause> = flaws.iter().map(|flaw| cause(flaw.to_string(), false)).collect();
    (!causes.is_empty()).then_some(causes)
}

/// What a reconciler says, and the field that it speaks of. `of_template`: the annotations are
/// those of a template.
fn cause(text: String, of_template: bool) -> Cause {
    let path = |text: &str| {
        text.split([' ', ':', ',']).next().unwrap_or_default().trim_end_matches('.').to_owned()
    };
    let metadata = if of_template { "spec.template.metadata" } else { "metadata" };
    let field = match text.strip_prefix("annotation ") {
        Some(rest) => format!("{metadata}.annotations[{}]", path(rest)),
        None if text.starts_with("spec.") => path(&text),
        None => "spec".to_owned(),
    };
    Cause::invalid(field, text)
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
/// is the schema's to refuse, where there is one.
fn judge<K: DeserializeOwned>(
    old: Option<&Value>,
    new: &Value,
    find: impl Fn(&K) -> Findings,
) -> Result<Vec<String>, Vec<Cause>> {
    let typed = |object: &Value| K::deserialize(object).ok();
    let kind = new["kind"].as_str().unwrap_or_default();
    let of_template = matches!(kind, "VirtualMachine" | "VirtualMachineInstanceReplicaSet");
    let Some(object) = typed(new) else {
        let causes = match old.map(typed) {
            Some(None) => Vec::new(),
            _ => faults::of_misfit(&new["spec"], of_template),
        };
        return if causes.is_empty() { Ok(Vec::new()) } else { Err(causes) };
    };
    let Findings { refusal, mut flaws, faults: mut wrong, waits } = find(&object);
    let known = old.and_then(typed).map(|old| find(&old)).unwrap_or_default();
    let known_flaws: HashSet<_> = known.flaws.iter().collect();
    flaws.retain(|flaw| !known_flaws.contains(flaw));
    flaws.extend(old.into_iter().flat_map(|old| changed(old, new)));
    let known_faults: HashSet<_> = known.faults.iter().collect();
    wrong.retain(|fault| !known_faults.contains(fault));
    // What an object shows by itself is said first: the other is often the same in other words.
    let refusal = refusal.filter(|_| known.refusal.is_none() && wrong.is_empty());
    let texts = refusal.into_iter().chain(flaws.iter().map(ToString::to_string));
    wrong.extend(texts.map(|text| cause(text, of_template)));
    if wrong.is_empty() { Ok(waits) } else { Err(wrong) }
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
