//! A port that has its addresses from something which lends them, instead of some of its own.
//!
//! ```text
//!  the template names it, at a start    lent, unless another port has it
//!  while there is an instance           what that was made with
//!  the template names it no more        the next start is without it, and then it goes back
//!  the VM is gone                       it goes back
//! ```

use crds::annotations;
use ipam::Seconds;
use kube::ResourceExt as _;

use super::{Decision, is_placed, owner_uid};
use crate::claims::{self, Refusal};
use crate::ledger::{AddressError, Claimant, VmKey};
use crate::machine::{self, Trouble};
use crate::request::{Lender, Request};
use crate::vips;
use crate::world::World;

/// Has the port have what it takes of a lender; without one it uses nothing that was
/// lent. Returns whether its addresses are settled by that.
pub(super) fn claim(
    world: &mut World,
    decision: &mut Decision,
    request: &Request,
    claimant: &Claimant,
    now: Seconds,
) -> Result<bool, Trouble> {
    let (lender, is_made) = said(world, request, claimant);
    let outcome = match &lender {
        Some(Lender::Vip(name)) => of_vip(world, decision, request, claimant, name, now),
        Some(Lender::Claim(name)) => of_claim(world, decision, request, claimant, name, now),
        None => {
            world.ledger.use_no_loan_but(&request.subnet, claimant, None);
            return Ok(false);
        }
    };
    match outcome {
        Ok(()) => Ok(true),
        // A guest that is there keeps what it has, whatever became of the lender.
        Err(_) if is_made => Ok(false),
        Err(trouble) => Err(trouble),
    }
}

/// What the port has its addresses from, and whether it is so already: its instance
/// was made with it.
fn said(world: &World, request: &Request, claimant: &Claimant) -> (Option<Lender>, bool) {
    let instance = world.instances.get(&claimant.vm);
    let instance = instance.filter(|one| owner_uid(one).as_deref() == Some(&claimant.uid));
    let Some(instance) = instance.filter(|one| is_placed(one)) else {
        return (request.lender.clone(), false);
    };
    let noted = |field| instance.annotations().get(&annotations::key(&request.provider, field));
    let vip = noted(annotations::VIP).map(|name| Lender::Vip(name.trim().to_owned()));
    let claim = || noted(annotations::IPAM_CLAIM).map(|name| Lender::Claim(name.clone()));
    (vip.or_else(claim), true)
}

fn of_vip(
    world: &mut World,
    decision: &mut Decision,
    request: &Request,
    claimant: &Claimant,
    name: &str,
    now: Seconds,
) -> Result<(), Trouble> {
    let key = annotations::key(&request.provider, annotations::VIP);
    let refused = |why: &str| format!("annotation {key}: Vip {name:?} {why}");
    vips::regain(world, name, now);
    let lender = vips::lends(world, &decision.vm, &claimant.port, &request.subnet, name);
    let lender = lender
        .map_err(|why| Trouble { reason: machine::INVALID_NETWORK, message: refused(&why) })?;
    let mac = vips::mac(world, name);
    if let (Some(asked), Some(mac)) = (request.mac, mac)
        && asked != mac
    {
        let why = format!("has MAC address {mac}, but the template names {asked}: leave that out");
        return Err(Trouble { reason: machine::INVALID_NETWORK, message: refused(&why) });
    }
    take(world, request, claimant, &lender, now)
        .map_err(|why| Trouble { reason: machine::ADDRESS_NOT_AVAILABLE, message: refused(&why) })
}

fn of_claim(
    world: &mut World,
    decision: &mut Decision,
    request: &Request,
    claimant: &Claimant,
    name: &str,
    now: Seconds,
) -> Result<(), Trouble> {
    let key = VmKey { namespace: decision.vm.namespace.clone(), name: name.to_owned() };
    let network = &request.network;
    let refused = |reason, why: &str| {
        let message = format!("network {network:?}: IPAMClaim {name:?} {why}");
        Trouble { reason, message }
    };
    claims::regain(world, &key, now);
    let lender = match claims::lends(world, &decision.vm, request, &key) {
        Ok(lender) => lender,
        Err(Refusal::Because(why)) => {
            claims::hope(world, &key, &decision.vm);
            return Err(refused(machine::INVALID_NETWORK, &why));
        }
        Err(Refusal::Wanted) => {
            let Request { subnet, addresses, .. } = request;
            let why = claims::want(world, &key, &decision.vm, subnet, addresses);
            return Err(match why {
                Some(why) => {
                    let why = format!("gets no addresses: {why}");
                    refused(machine::ADDRESS_NOT_AVAILABLE, &why)
                }
                None => refused(machine::WAITS_FOR_CLAIM, "has no addresses yet"),
            });
        }
    };
    take(world, request, claimant, &lender, now)
        .map_err(|why| refused(machine::ADDRESS_NOT_AVAILABLE, &why))?;
    claims::served(world, &key, &decision.vm);
    Ok(())
}

/// Has the port borrow what the lender has, and use nothing that another has lent it.
fn take(
    world: &mut World,
    request: &Request,
    claimant: &Claimant,
    lender: &Claimant,
    now: Seconds,
) -> Result<(), String> {
    world.ledger.use_no_loan_but(&request.subnet, claimant, Some(lender));
    world.ledger.borrow(&request.subnet, claimant, lender, now).map_err(|error| match error {
        AddressError::Lent { borrower, .. } => format!(
            "serves one port at a time, and {borrower} has it: name another, or delete that VM, or take the annotation off its template and start it anew"
        ),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests;
