//! Which claim a VM may have the addresses of.

use crds::cni::IpamClaim;
use net::names;

use super::{borrower, claimant, held, said};
use crate::hold;
use crate::ledger::{Claimant, VmKey};
use crate::network::Network;
use crate::request::Request;
use crate::world::World;

/// What is told of a claim that cannot be read.
pub const MISFIT: &str = "does not fit its type: correct it";
/// What is told of one that is not there.
pub const ABSENT: &str = "does not exist: create it, or take the reference off the template";

/// Why a claim does not lend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It has no addresses yet.
    Wanted,
    /// What to change.
    Because(String),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Because(why)
    }
}

/// By what the claim of this key holds, if the port of `request` may have its addresses.
///
/// # Errors
/// Why not.
pub fn lends(
    world: &World,
    vm: &VmKey,
    request: &Request,
    key: &VmKey,
) -> Result<Claimant, Refusal> {
    if !world.claims.objects.is_synced() {
        return Err("cannot be used, since this API serves no IPAMClaims: install their definition (manifests/crds/ipamclaims.k8s.cni.cncf.io.yaml), or take the reference off the template".to_owned().into());
    }
    if world.claims.objects.is_unreadable(key) {
        return Err(MISFIT.to_owned().into());
    }
    let Some(claim) = world.claims.objects.get(key) else {
        return Err(ABSENT.to_owned().into());
    };
    // What the port has it keeps, whatever was written on the claim since.
    let is_its =
        borrower(world, claim).is_some_and(|one| one.port == request.port && one.vm == *vm);
    let network = world.ledger.networks().get(&request.subnet);
    if let Some(why) = unfit(claim, network, request, is_its) {
        return Err(why.into());
    }
    let Some((subnet, addresses)) = said(claim) else { return Err(Refusal::Wanted) };
    // What its status does not say another controller has claimed for it: that goes first.
    let mut held = held(world, claim);
    held.sort_unstable();
    let is_whole =
        held.iter().map(|(of, one)| (of, one)).eq(addresses.iter().map(|one| (&subnet, one)));
    if is_whole { Ok(claimant(claim)) } else { Err(Refusal::Wanted) }
}

/// Why the port of `request` cannot have what this claim lends, whoever has it now;
/// whether it is that port the caller knows.
#[must_use]
pub fn unfit(
    claim: &IpamClaim,
    network: Option<&Network>,
    request: &Request,
    is_its: bool,
) -> Option<String> {
    let networks = network.map(names_of).unwrap_or_default();
    let of = claim.spec.network.trim();
    let first = networks.first().cloned().unwrap_or_default();
    if of.is_empty() && !is_its {
        return Some(format!("names no network: write {first:?} in its spec.network"));
    }
    if !networks.iter().any(|name| name == of) && !is_its {
        return Some(format!("is of network {of:?}, this one is {first:?}: name another claim"));
    }
    if hold::is_leaving(&claim.metadata) && !is_its {
        return Some("is being deleted: name another".to_owned());
    }
    let (subnet, addresses) = said(claim)?;
    if subnet != request.subnet {
        return Some(format!(
            "has addresses of subnet {subnet:?}, this network is on {:?}: name another claim, or that subnet",
            request.subnet
        ));
    }
    let other = request.addresses.iter().find(|one| !addresses.contains(one))?;
    let place = &request.places.addresses;
    Some(format!(
        "has {}, but {place} asks for {other}: leave that out",
        net::listed::text(&addresses)
    ))
}

/// By what a claim may name this network: its attachment first.
#[must_use]
pub fn names_of(network: &Network) -> Vec<String> {
    let end = format!(".{}", names::DEFAULT_PROVIDER);
    let attachment = network.provider.strip_suffix(&end);
    let parts = attachment.and_then(|attachment| attachment.rsplit_once('.'));
    let short = parts.map(|(nad, namespace)| [nad.to_owned(), format!("{namespace}/{nad}")]);
    let long = attachment.map(|attachment| [attachment.to_owned(), network.provider.clone()]);
    let names = short.into_iter().chain(long).flatten();
    names.chain([network.name.clone()]).collect()
}
