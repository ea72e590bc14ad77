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

use super::{is_placed, owner_uid};
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
    request: &Request,
    claimant: &Claimant,
    now: Seconds,
) -> Result<bool, Trouble> {
    let (lender, is_made) = said(world, request, claimant);
    let Some(lender) = lender else {
        world.ledger.use_no_loan_but(&request.subnet, claimant, None);
        return Ok(false);
    };
    match borrow(world, request, claimant, &lender, now) {
        Ok(()) => Ok(true),
        // A guest that is there keeps what it has, whatever became of the lender.
        Err(_) if is_made => Ok(false),
        Err(Refused(reason, why)) => {
            let message = match &lender {
                Lender::Vip(name) => {
                    let key = annotations::key(&request.provider, annotations::VIP);
                    format!("annotation {key}: Vip {name:?} {why}")
                }
                Lender::Claim(name) => {
                    format!("network {:?}: IPAMClaim {name:?} {why}", request.network)
                }
            };
            Err(Trouble { reason, message })
        }
    }
}

/// Why a lender lends nothing: a reason for programs, and what follows its name.
struct Refused(&'static str, String);

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

/// Has the port borrow what the lender has, and use nothing that another has lent it.
fn borrow(
    world: &mut World,
    request: &Request,
    claimant: &Claimant,
    lender: &Lender,
    now: Seconds,
) -> Result<(), Refused> {
    let from = match lender {
        Lender::Vip(name) => of_vip(world, request, claimant, name, now)?,
        Lender::Claim(name) => of_claim(world, request, &claimant.vm, name, now)?,
    };
    world.ledger.use_no_loan_but(&request.subnet, claimant, Some(&from));
    world.ledger.borrow(&request.subnet, claimant, &from, now).map_err(|error| {
        let why = match error {
            AddressError::Lent { borrower, .. } => format!(
                "serves one port at a time, and {borrower} has it: name another, or delete that VM, or take the name off its template and start it anew"
            ),
            other => other.to_string(),
        };
        Refused(machine::ADDRESS_NOT_AVAILABLE, why)
    })?;
    if let Some(claim) = from.vm.claim() {
        claims::served(world, &claim, &claimant.vm);
    }
    Ok(())
}

fn of_vip(
    world: &mut World,
    request: &Request,
    claimant: &Claimant,
    name: &str,
    now: Seconds,
) -> Result<Claimant, Refused> {
    vips::regain(world, name, now);
    let lender = vips::lends(world, &claimant.vm, &claimant.port, &request.subnet, name)
        .map_err(|why| Refused(machine::INVALID_NETWORK, why))?;
    match (request.mac, vips::lent_mac(world, name)) {
        (Some(asked), Some(mac)) if asked != mac => {
            let why =
                format!("has MAC address {mac}, but the template names {asked}: leave that out");
            Err(Refused(machine::INVALID_NETWORK, why))
        }
        _ => Ok(lender),
    }
}

fn of_claim(
    world: &mut World,
    request: &Request,
    vm: &VmKey,
    name: &str,
    now: Seconds,
) -> Result<Claimant, Refused> {
    let key = VmKey { namespace: vm.namespace.clone(), name: name.to_owned() };
    claims::regain(world, &key, now);
    claims::lends(world, vm, request, &key).map_err(|refusal| match refusal {
        Refusal::Because(why) => {
            claims::hope(world, &key, vm);
            Refused(machine::INVALID_NETWORK, why)
        }
        Refusal::Wanted => {
            match claims::want(world, &key, vm, &request.subnet, &request.addresses) {
                Some(why) => {
                    Refused(machine::ADDRESS_NOT_AVAILABLE, format!("gets no addresses: {why}"))
                }
                None => Refused(machine::WAITS_FOR_CLAIM, "has no addresses yet".to_owned()),
            }
        }
    })
}

#[cfg(test)]
mod tests;
