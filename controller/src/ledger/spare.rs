//! What a port holds beside its place: more than one address of a family.
//!
//! Two controllers that see different addresses free may each give a new VM one, in
//! blocks of their own; and a template that names another address leaves the old one.
//! Which of them the VM uses is not in the ledger: it is what its instance was made
//! with. So a claim lets go of nothing. All of it stays held, in the pools by a keeper
//! that is nobody, until an instance is there that says which it has: then the others
//! are spare (`decide/spare.rs`).

use std::net::IpAddr;

use ipam::Seconds;

use super::edits::Change;
use super::{Claimant, Ledger, VmKey};

impl Ledger {
    /// The addresses that `claimant` is to use of those that it holds in `subnet`: one
    /// of each family, IPv4 first.
    #[must_use]
    pub fn place(&self, subnet: &str, claimant: &Claimant) -> Vec<IpAddr> {
        let held = self.addresses(subnet, claimant);
        if one_of_each_family(&held) {
            return held;
        }
        let owner = claimant.owner();
        let pools = self.pools.of(subnet);
        let used: Vec<_> = pools.iter().filter_map(|pool| pool.address_of(owner)).collect();
        let of_family = |v4: bool| move |one: &&IpAddr| -> bool { one.is_ipv4() == v4 };
        let first = |v4: bool| {
            let used = used.iter().filter(|one| held.contains(one)).find(of_family(v4));
            used.or_else(|| held.iter().find(of_family(v4))).copied()
        };
        [first(true), first(false)].into_iter().flatten().collect()
    }

    /// Has `claimant` use `address` if it holds it, in the place of another that it
    /// holds.
    pub fn prefer(&mut self, subnet: &str, claimant: &Claimant, address: IpAddr) {
        if !self.addresses(subnet, claimant).contains(&address) {
            return;
        }
        let owner = claimant.owner();
        let Some(pool) = self.pool_mut(subnet, address) else { return };
        let used = pool.address_of(owner);
        if used == Some(address) {
            return;
        }
        pool.release(claimant.keeper(address), 0);
        if let Some(used) = used {
            pool.release(owner, 0);
            let _ = pool.restore_held(claimant.keeper(used), used);
        }
        let _ = pool.restore_held(owner, address);
    }

    /// Has `claimant` use what it holds of this IPPool, if it uses none of it.
    pub(super) fn prefer_of(&mut self, subnet: &str, claimant: &Claimant, name: &str) {
        let owner = claimant.owner();
        for address in self.addresses(subnet, claimant) {
            let better = self.pool_mut(subnet, address).is_some_and(|pool| {
                let used = pool.address_of(owner);
                pool.is_member(name, address)
                    && !used.is_some_and(|used| pool.is_member(name, used))
            });
            if better {
                self.prefer(subnet, claimant, address);
            }
        }
    }

    /// Has nobody else get what `claimant` holds beside what it was `given`.
    pub(super) fn set_aside(&mut self, subnet: &str, claimant: &Claimant, given: &[IpAddr]) {
        for address in self.addresses(subnet, claimant) {
            if !given.contains(&address)
                && let Some(pool) = self.pool_mut(subnet, address)
            {
                // What is held already is so by its keeper.
                let _ = pool.restore_held(claimant.keeper(address), address);
            }
        }
    }

    /// Lets go of one address that `claimant` holds in `subnet`; of a loan only as a
    /// whole. Returns to whom it goes back. What is lent its lender does not let go of.
    pub fn release_one(
        &mut self,
        subnet: &str,
        claimant: &Claimant,
        address: IpAddr,
        now: Seconds,
    ) -> Option<VmKey> {
        if !self.addresses(subnet, claimant).contains(&address) {
            return None;
        }
        if let Some(lender) = self.lender(subnet, claimant, address) {
            self.give_back(subnet, claimant, &lender, now);
            return Some(lender.vm);
        }
        if self.borrower(subnet, claimant).is_some() {
            return None;
        }
        let owner = claimant.owner();
        if let Some(pool) = self.pool_mut(subnet, address) {
            let used = pool.address_of(owner) == Some(address);
            let holder = if used { owner } else { claimant.keeper(address) };
            pool.release(holder, now);
        }
        self.note(subnet, address, Change::Release(claimant.clone(), now));
        None
    }
}

/// Whether there is nothing to choose between.
#[must_use]
pub fn one_of_each_family(addresses: &[IpAddr]) -> bool {
    let v4 = addresses.iter().filter(|one| one.is_ipv4()).count();
    v4 <= 1 && addresses.len() - v4 <= 1
}
