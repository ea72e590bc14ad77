//! The claim of one port: of the addresses named, or of the first free entry of the
//! list or the IPPool that its template names.

use std::net::IpAddr;

use ipam::Seconds;

use crate::family::Family;
use crate::ledger::{AddressError, Ask, Claimant};
use crate::network::Network;
use crate::request::Request;
use crate::world::World;

/// Claims what `request` asks for.
///
/// # Errors
/// When it cannot be had; of a pool the error that is worth asking again for, else
/// that of its last entry.
pub(super) fn claim(
    world: &mut World,
    request: &Request,
    claimant: &Claimant,
    now: Seconds,
) -> Result<(), AddressError> {
    let held = world.ledger.addresses(&request.subnet, claimant);
    // What it has of the pool it keeps, wherever in the list that is.
    let has = |entry: &&Vec<IpAddr>| entry.iter().all(|address| held.contains(address));
    let own = request.pool.iter().filter(has);
    let Request { family, .. } = *request;
    let mut refusal = None;
    for entry in own.chain(&request.pool) {
        let ask = Ask { named: entry, from: None, family };
        match world.ledger.claim_as(&request.subnet, claimant, ask, now) {
            Ok(_) => return Ok(()),
            Err(error @ AddressError::Resting { .. }) => refusal = Some(error),
            Err(error) => {
                let rests = matches!(refusal, Some(AddressError::Resting { .. }));
                refusal = refusal.filter(|_| rests).or(Some(error));
            }
        }
    }
    match refusal {
        Some(error) => Err(error),
        None => {
            let ask = Ask { named: &request.addresses, from: request.from.as_ref(), family };
            world.ledger.claim_as(&request.subnet, claimant, ask, now).map(drop)
        }
    }
}

/// Whether a port that asks for this may go on with an address that it had: one of
/// the pool that its template names, where that has the family.
pub(super) fn may_keep(network: &Network, request: &Request, address: IpAddr) -> bool {
    let asked = request.from.as_ref().filter(|from| from.asked);
    let pool = asked.and_then(|from| network.pools.get(&from.name));
    pool.is_none_or(|pool| pool.contains(address) || !pool.serves(Some(Family::of(address))))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{addresses, committed, decided, gone, put, started, vm, world};
    use crds::kubevirt::VirtualMachine;

    fn of_pool(name: &str, version: u32, pool: &str) -> VirtualMachine {
        let mut vm = vm(name, name, "Always", None);
        vm.metadata.resource_version = Some(version.to_string());
        vm.spec.template.metadata.as_mut().unwrap().annotations =
            Some([("ovn.kubernetes.io/ip_pool".to_owned(), pool.to_owned())].into());
        vm
    }

    #[test]
    fn each_vm_gets_the_first_free_entry_and_the_last_is_told() {
        let mut world = world();
        for (name, wanted) in [("a", "10.0.0.4"), ("b", "10.0.0.3")] {
            put(&mut world, of_pool(name, 1, "10.0.0.4,10.0.0.3"));
            assert_eq!(addresses(&started(&mut world, name))[0], wanted);
        }
        committed(&mut world);
        put(&mut world, of_pool("c", 1, "10.0.0.4,10.0.0.3"));
        let message = decided(&mut world, "c").trouble.unwrap().message;
        assert!(message.contains("ip_pool: none of its 2 entries is free"), "{message}");
        assert!(message.contains("is held by"), "{message}");
    }

    #[test]
    fn a_vm_keeps_what_it_has_of_its_pool_and_leaves_what_is_not_of_it() {
        let mut world = world();
        put(&mut world, of_pool("a", 1, "10.0.0.4"));
        started(&mut world, "a");
        gone(&mut world, "a");
        put(&mut world, of_pool("a", 3, "10.0.0.3,10.0.0.4"));
        assert_eq!(addresses(&started(&mut world, "a"))[0], "10.0.0.4");
        gone(&mut world, "a");
        put(&mut world, of_pool("a", 4, "10.0.0.5,10.0.0.6"));
        assert_eq!(addresses(&started(&mut world, "a"))[0], "10.0.0.5");
    }
}
