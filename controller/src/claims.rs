//! IPAMClaims: addresses that are lent to the VM whose network refers to them, and that
//! live as long as the claim. Pure.
//!
//! ```text
//!  a VM refers to it       our finalizer, and the subnet of the VM's network, are written on it
//!  has the finalizer       addresses of that subnet are claimed in its own name
//!  these are held          its status names them: written once, for the version that was read
//!  the status says what    they are lent to the port that refers to it, one at a time
//!  is held
//!  being deleted           it stays until the port lets go
//! ```
//!
//! A claim to which no VM refers is left alone: it may be another network's. What it has
//! its status says, and not the ledger alone: of two controllers that claim addresses for
//! it at once one writes the status, and what the other has claimed is let go of. Two of
//! them could else lend one claim twice.

mod lent;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::annotations;
use crds::cni::{IpamClaim, IpamClaimStatus, OwnerPod};
use crds::condition::DELETION_BLOCKED;
use ipam::Seconds;
use ipnetwork::IpNetwork;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::decide::{Decision, unix};
use crate::flaw::Flaw;
use crate::hold;
use crate::ledger::{AddressError, Claimant, VmKey};
use crate::lenders;
use crate::machine::{self, Trouble};
use crate::shelf::{Change, Seen, Shelf};
use crate::world::World;

pub use lent::{ABSENT, MISFIT, Refusal, lends, names_of, unfit};

/// The reason of a claim's condition when it is of no network.
const NAMES_NO_NETWORK: &str = "NamesNoNetwork";

/// What VMs ask of a claim that has no addresses yet.
#[derive(Clone, Debug, Default)]
pub struct Want {
    /// The subnet of their network.
    pub subnet: String,
    /// The addresses that they name.
    pub named: Vec<IpAddr>,
    /// Which VMs.
    pub vms: BTreeSet<VmKey>,
}

/// The claims that there are, and what is asked of them.
#[derive(Debug, Default)]
pub struct Claims {
    /// By namespace and name.
    pub objects: Shelf<VmKey, IpamClaim>,
    /// The API does not serve the kind.
    absent: bool,
    wanted: BTreeMap<VmKey, Want>,
    /// VMs that refer to a claim which cannot be used as it is.
    hoping: BTreeMap<VmKey, BTreeSet<VmKey>>,
    /// Those that get no addresses, and why.
    refused: BTreeMap<VmKey, String>,
    /// Those on which nothing can be written, and what the API says to it.
    unwritten: BTreeMap<VmKey, String>,
    /// Those of which something became known for which VMs wait.
    news: BTreeSet<VmKey>,
    /// Those that a VM has asked for in this round.
    asked: BTreeSet<VmKey>,
}

impl Claims {
    /// Whether it is known which claims there are, or that there can be none.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.absent || self.objects.is_synced()
    }

    /// Takes in what a watch saw, or that the API does not serve the kind; returns what
    /// is to be looked at again.
    pub fn apply(&mut self, seen: Option<Seen<IpamClaim>>) -> Vec<VmKey> {
        let Some(seen) = seen else {
            self.absent = !self.objects.is_synced();
            return Vec::new();
        };
        // Now that it is known which there are.
        let hoping = (!self.objects.is_synced()).then(|| std::mem::take(&mut self.hoping));
        let hoping: Vec<_> = hoping.into_iter().flatten().flat_map(|(_, vms)| vms).collect();
        self.absent = false;
        let changes = self.objects.apply(seen, |meta| VmKey {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        });
        let changed = changes.into_iter().flat_map(|change| self.changed(change));
        changed.chain(hoping).collect()
    }

    /// Puts in a claim as the API answered a write of ours.
    pub fn put(&mut self, claim: IpamClaim) -> Vec<VmKey> {
        let change = self.objects.put(crate::world::vm_key(&claim), claim);
        change.into_iter().flat_map(|change| self.changed(change)).collect()
    }

    /// Puts in the metadata of a claim as the API answered a write of ours that was
    /// guarded by the version held.
    pub fn put_meta(&mut self, key: &VmKey, meta: ObjectMeta) -> Vec<VmKey> {
        let change = self.objects.put_meta(key.clone(), meta);
        change.into_iter().flat_map(|change| self.changed(change)).collect()
    }

    /// The claim itself, and the VMs that wait for it.
    fn changed(&mut self, (key, ..): Change<VmKey, IpamClaim>) -> Vec<VmKey> {
        let waiting = self.wanted.get(&key).map(|want| want.vms.clone()).unwrap_or_default();
        let hoping = self.hoping.remove(&key).unwrap_or_default();
        waiting.into_iter().chain(hoping).chain([VmKey::of_claim(&key)]).collect()
    }

    /// All that we have to do with.
    pub fn keys(&self) -> impl Iterator<Item = VmKey> {
        let ours = self.objects.metas().filter(|(_, meta)| hold::is_held(meta));
        ours.map(|(key, _)| key).chain(self.wanted.keys()).map(VmKey::of_claim)
    }

    /// The claims that VMs have asked for since this was called last.
    pub fn take_asked(&mut self) -> BTreeSet<VmKey> {
        std::mem::take(&mut self.asked)
    }

    /// Notes what the API said to a write of ours on this claim, or that it took it.
    /// Returns the VMs that are to say so.
    pub fn answered(&mut self, key: &VmKey, error: Option<String>) -> BTreeSet<VmKey> {
        let before = match &error {
            Some(error) => self.unwritten.insert(key.clone(), error.clone()),
            None => self.unwritten.remove(key),
        };
        let want = self.wanted.get(key).filter(|_| before != error);
        want.map(|want| want.vms.clone()).unwrap_or_default()
    }

    /// Has this claim asked for again: what was to be written on it was not.
    pub fn ask(&mut self, key: VmKey) {
        self.asked.insert(key);
    }

    /// The VMs that are to be looked at since something became known of this claim.
    pub fn take_news(&mut self, key: &VmKey) -> BTreeSet<VmKey> {
        let want = self.news.remove(key).then(|| self.wanted.get(key)).flatten();
        want.map(|want| want.vms.clone()).unwrap_or_default()
    }
}

/// Has addresses of this subnet claimed for the claim to which `vm` refers. Says why that
/// cannot be, if it was tried.
pub fn want(
    world: &mut World,
    key: &VmKey,
    vm: &VmKey,
    subnet: &str,
    named: &[IpAddr],
) -> Option<String> {
    let want = world.claims.wanted.entry(key.clone()).or_default();
    let is_first = want.vms.iter().all(|other| other == vm);
    if is_first && (want.subnet != subnet || want.named != named) {
        (want.subnet, want.named) = (subnet.to_owned(), named.to_vec());
        world.claims.refused.remove(key);
    }
    want.vms.insert(vm.clone());
    let refused = world.claims.refused.get(key).cloned();
    if refused.is_none() && world.claims.unwritten.contains_key(key) {
        // It is tried again, with longer and longer pauses.
        return world.claims.unwritten.get(key).cloned();
    }
    if refused.is_none() {
        world.claims.asked.insert(key.clone());
        world.look_at(VmKey::of_claim(key));
    }
    refused
}

/// Has `vm` looked at again when the claim is another than it is.
pub fn hope(world: &mut World, key: &VmKey, vm: &VmKey) {
    world.claims.hoping.entry(key.clone()).or_default().insert(vm.clone());
}

/// That `vm` has what it wanted of the claim, or wants nothing of it any more.
pub fn served(world: &mut World, key: &VmKey, vm: &VmKey) {
    if let Some(want) = world.claims.wanted.get_mut(key) {
        want.vms.remove(vm);
        if want.vms.is_empty() {
            world.claims.wanted.remove(key);
        }
    }
    let owner = |claim: &IpamClaim| claim.status.as_ref()?.owner_pod.clone();
    let claim = world.claims.objects.get(key);
    if claim.is_some_and(|claim| owner(claim).is_none_or(|owner| owner.name != vm.name)) {
        world.look_at(VmKey::of_claim(key));
    }
}

/// By what this claim holds.
fn claimant(claim: &IpamClaim) -> Claimant {
    Claimant::of_claim(&crate::world::vm_key(claim), &claim.uid().unwrap_or_default())
}

/// The subnet and the addresses that a claim says it has.
#[must_use]
pub fn said(claim: &IpamClaim) -> Option<(String, Vec<IpAddr>)> {
    let subnet = claim.annotations().get(annotations::CLAIM_SUBNET)?.clone();
    let ips = claim.status.iter().flat_map(|status| &status.ips);
    let mut addresses: Vec<IpAddr> =
        ips.filter_map(|text| Some(text.parse::<IpNetwork>().ok()?.ip())).collect();
    addresses.sort_unstable();
    (!addresses.is_empty()).then_some((subnet, addresses))
}

/// What the ledger has for it.
fn held(world: &World, claim: &IpamClaim) -> Vec<(String, IpAddr)> {
    let claimant = claimant(claim);
    let held = world.ledger.held_for(&claimant.vm).into_iter();
    let own = held.filter(|(one, _)| *one == claimant);
    own.flat_map(|(one, subnet)| {
        let addresses = world.ledger.addresses(&subnet, &one).into_iter();
        addresses.map(move |address| (subnet.clone(), address)).collect::<Vec<_>>()
    })
    .collect()
}

/// The port that has the addresses of this claim.
#[must_use]
pub fn borrower(world: &World, claim: &IpamClaim) -> Option<Claimant> {
    let claimant = claimant(claim);
    let mut subnets = held(world, claim).into_iter().map(|(subnet, _)| subnet);
    subnets.find_map(|subnet| world.ledger.borrower(&subnet, &claimant))
}

/// Decides for the claim of this key, noting what it claims in the world's ledger.
pub fn decide(world: &mut World, key: &VmKey, now: Timestamp) -> Decision {
    let mut decision = Decision::nothing_for(VmKey::of_claim(key));
    let claims = &world.claims.objects;
    // What is not known may be there.
    if !claims.is_synced() || claims.is_unreadable(key) {
        return decision;
    }
    let claim = claims.get(key).cloned();
    let stays = claim.as_deref().filter(|claim| !is_over(world, claim));
    lenders::let_go(world, &mut decision, stays.and_then(|one| one.uid()).as_deref());
    let refused = world.claims.refused.remove(key);
    forget_the_gone(world, key);
    if claim.is_none() {
        world.claims.unwritten.remove(key);
    }
    let lasts = |one: &IpamClaim| hold::is_held(&one.metadata) && !hold::is_leaving(&one.metadata);
    let Some(claim) = claim.filter(|claim| lasts(claim)) else { return decision };
    let beside = beside(world, &claim);
    if let Err(error) = allocate(world, key, &claim, unix(now)) {
        if let AddressError::Resting { seconds, .. } = &error {
            let wait = i64::try_from(*seconds).unwrap_or(60).max(1);
            decision.again_at = now.checked_add(jiff::SignedDuration::from_secs(wait)).ok();
        }
        let message = error.to_string();
        if refused.as_ref() != Some(&message) {
            world.claims.news.insert(key.clone());
        }
        world.claims.refused.insert(key.clone(), message.clone());
        decision.trouble = Some(Trouble { reason: machine::ADDRESS_NOT_AVAILABLE, message });
        return decision;
    }
    // Only once it has what it says: else an edit that cannot be would cost it all.
    if said(&claim).is_some() && beside.is_empty() {
        world.claims.news.insert(key.clone());
    }
    decision.spare.extend(beside);
    decision
}

/// What it holds beside what it says that it has, as far as that is not lent.
fn beside(world: &World, claim: &IpamClaim) -> Vec<(Claimant, String, IpAddr)> {
    let Some((subnet, addresses)) = said(claim).filter(|_| borrower(world, claim).is_none()) else {
        return Vec::new();
    };
    let mut beside = held(world, claim);
    beside.retain(|(of, one)| *of != subnet || !addresses.contains(one));
    beside.into_iter().map(|(of, one)| (claimant(claim), of, one)).collect()
}

/// Whether it is being deleted, and nobody uses it.
fn is_over(world: &World, claim: &IpamClaim) -> bool {
    hold::is_leaving(&claim.metadata) && borrower(world, claim).is_none()
}

/// VMs that are gone wait for nothing.
fn forget_the_gone(world: &mut World, key: &VmKey) {
    let (machines, instances) = (&world.machines, &world.instances);
    if let Some(want) = world.claims.wanted.get_mut(key) {
        want.vms.retain(|vm| machines.meta(vm).is_some() || instances.meta(vm).is_some());
        if want.vms.is_empty() {
            world.claims.wanted.remove(key);
        }
    }
}

/// Claims what it says that it has, or else what VMs ask of it.
fn allocate(
    world: &mut World,
    key: &VmKey,
    claim: &IpamClaim,
    now: Seconds,
) -> Result<(), AddressError> {
    let claimant = claimant(claim);
    let has = held(world, claim);
    if let Some((subnet, addresses)) = said(claim) {
        let lost = addresses.iter().copied();
        let lost: Vec<_> = lost.filter(|one| !has.contains(&(subnet.clone(), *one))).collect();
        return world.ledger.claim_named(&subnet, &claimant, &lost, now).map(drop);
    }
    let Some(want) = world.claims.wanted.get(key).filter(|_| has.is_empty()).cloned() else {
        return Ok(());
    };
    world.ledger.claim(&want.subnet, &claimant, &want.named, now).map(drop)
}

/// Claims for the claim of this key what it had, if the ledger has lost it.
pub fn regain(world: &mut World, key: &VmKey, now: Seconds) {
    let claim = world.claims.objects.get(key).cloned();
    if let Some(claim) = claim.filter(|one| hold::is_held(&one.metadata) && said(one).is_some()) {
        // Why it cannot is told by its own decision.
        let _ = allocate(world, key, &claim, now);
    }
}

/// The claims on which our finalizer and their subnet are to be written, with the patch
/// that does it.
#[must_use]
pub fn to_take(world: &World) -> Vec<(VmKey, Value)> {
    let wanted = world.claims.wanted.iter();
    let patch = |(key, want): (&VmKey, &Want)| {
        let claim = world.claims.objects.get(key)?;
        let noted = claim.annotations().get(annotations::CLAIM_SUBNET);
        let is_taken = hold::is_held(&claim.metadata) && noted == Some(&want.subnet);
        if is_taken || hold::is_leaving(&claim.metadata) || said(claim).is_some() {
            return None;
        }
        let mut patch = hold::with(&claim.metadata);
        if hold::is_held(&claim.metadata) {
            patch["metadata"]["finalizers"] = json!(claim.finalizers());
        }
        patch["metadata"]["annotations"] = json!({ annotations::CLAIM_SUBNET: want.subnet });
        Some((key.clone(), patch))
    };
    wanted.filter_map(patch).collect()
}

/// The patch that takes our finalizer off the claim of this key, if it may go.
#[must_use]
pub fn to_let_go(world: &World, key: &VmKey) -> Option<Value> {
    let meta = world.claims.objects.meta(key)?;
    let holds = !world.ledger.held_for(&VmKey::of_claim(key)).is_empty();
    (hold::is_leaving(meta) && hold::is_held(meta) && !holds).then(|| hold::without(meta))
}

/// That a claim is of no network, and so of nobody else's either.
#[must_use]
pub fn nameless(claim: &IpamClaim) -> Option<Flaw> {
    let advice = "no VM can use it: write the name of an attachment";
    let network = &claim.spec.network;
    network.trim().is_empty().then(|| Flaw::new("network".to_owned(), network, advice))
}

/// The status to write on the claim of this key, for the version that is known.
#[must_use]
pub fn new_status(world: &World, key: &VmKey, now: Timestamp) -> Option<IpamClaimStatus> {
    let claim = world.claims.objects.get(key)?;
    let held = held(world, claim);
    let nameless = nameless(claim).filter(|_| held.is_empty()).map(|flaw| flaw.to_string());
    let refused = world.claims.refused.get(key).or(nameless.as_ref());
    let old = claim.status.clone().unwrap_or_default();
    if held.is_empty() && refused.is_none() {
        let told = |one: &Condition| one.reason == NAMES_NO_NETWORK;
        let mended = old.conditions.iter().any(told);
        return mended.then(|| IpamClaimStatus { conditions: Vec::new(), ..old });
    }
    let borrower = borrower(world, claim);
    let noted = claim.annotations().get(annotations::CLAIM_SUBNET);
    let ips = match said(claim) {
        // What it says cannot be had: what it has is said instead.
        Some(_) if refused.is_some() && !held.is_empty() => ips(world, held.iter()),
        Some(_) if borrower.is_none() => old.ips.clone(),
        _ => ips(world, held.iter().filter(|(subnet, _)| Some(subnet) == noted)),
    };
    let condition = |kind: &str, holds: bool, reason: &str, message: String| {
        let status = if holds { "True" } else { "False" };
        let same = |one: &&Condition| one.type_ == kind && one.status == status;
        let since = old.conditions.iter().find(same).map(|one| one.last_transition_time.clone());
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            last_transition_time: since.unwrap_or(Time(now)),
            observed_generation: claim.metadata.generation,
        }
    };
    let mut conditions = vec![match refused {
        None => condition("IPsAllocated", true, "SuccessfulAllocation", String::new()),
        Some(why) => {
            let known = if nameless.is_some() { NAMES_NO_NETWORK } else { "IPAllocationFailure" };
            condition("IPsAllocated", false, known, why.clone())
        }
    }];
    if let Some(port) = borrower.as_ref().filter(|_| hold::is_leaving(&claim.metadata)) {
        conditions.push(condition(DELETION_BLOCKED, true, "InUse", lent_to(port)));
    }
    let owner_pod = borrower.map(|port| OwnerPod { name: port.vm.name });
    let status = IpamClaimStatus { ips, owner_pod, conditions };
    (claim.status.as_ref() != Some(&status)).then_some(status)
}

/// What the deletion of a claim waits for whose addresses this port has.
pub(crate) fn lent_to(port: &Claimant) -> String {
    let Claimant { port, vm, .. } = port;
    format!(
        "port {port} has its addresses: delete VirtualMachine {vm}, or take the reference off its template, if there is one, and start it anew"
    )
}

/// One address of each family as upstream writes it, with the length of its network.
fn ips<'a>(world: &World, held: impl Iterator<Item = &'a (String, IpAddr)>) -> Vec<String> {
    let mut ips: Vec<IpNetwork> = Vec::new();
    for (subnet, address) in held {
        let network = world.ledger.networks().get(subnet);
        let cidr =
            network.and_then(|network| network.cidrs.iter().find(|one| one.contains(*address)));
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length = cidr.map_or(whole, |cidr| cidr.prefix());
        if let Ok(one) = IpNetwork::new(*address, length)
            && !ips.iter().any(|other| other.is_ipv4() == one.is_ipv4())
        {
            ips.push(one);
        }
    }
    ips.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
