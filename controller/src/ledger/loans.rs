//! Addresses that are lent: who holds them keeps them, and another has them meanwhile.
//!
//! ```text
//!  held by the lender ──borrow──► entry of the first: the port, and who has lent it
//!          ▲                                  │
//!          └────────── the port lets go ──────┘
//! ```
//!
//! A loan is in the entry of one address, the lender's first, so that it has one
//! borrower is a constraint of the store as is all else. Its others go with that one:
//! written in a block each, two controllers might lend half each, and nobody could
//! take either half back without taking it from one that runs. What is lent does not
//! rest when it comes back: it was the lender's all the time. A lender that is gone
//! goes on to hold what it has lent until it comes back.

use std::net::IpAddr;

use crds::ledger::block_name;
use ipam::Seconds;

use super::edits::Change;
use super::{AddressError, Claimant, Ledger};

impl Ledger {
    /// Whose entry this address has, and who has lent it, once the edits noted are
    /// written.
    pub(super) fn entry(
        &self,
        subnet: &str,
        address: IpAddr,
    ) -> Option<(Claimant, Option<Claimant>)> {
        let name = block_name(subnet, address);
        match self.edits.get(&name).and_then(|edit| edit.changes.get(&address)) {
            Some(Change::Hold(holder) | Change::Return(_, holder)) => Some((holder.clone(), None)),
            Some(Change::Lend(to, from)) => Some((to.clone(), Some(from.clone()))),
            Some(Change::Release(..)) => None,
            None => {
                let holder = self.blocks.get(&name)?.spec.held.get(&address)?;
                Some((Claimant::from_holder(holder), Claimant::of_lender(holder)))
            }
        }
    }

    /// Who has lent `claimant` what it has on loan in `subnet`.
    #[must_use]
    pub fn lender_to(&self, subnet: &str, claimant: &Claimant) -> Option<Claimant> {
        let entries = self.own_addresses(subnet, claimant).into_iter();
        let mut entries = entries.filter_map(|address| self.entry(subnet, address));
        entries.find_map(|(holder, lender)| lender.filter(|_| holder == *claimant))
    }

    /// Who has lent `address` to `claimant`.
    #[must_use]
    pub fn lender(&self, subnet: &str, claimant: &Claimant, address: IpAddr) -> Option<Claimant> {
        let lender = self.lender_to(subnet, claimant)?;
        self.own_addresses(subnet, &lender).contains(&address).then_some(lender)
    }

    /// Who has what `lender` holds in `subnet`, if it is lent.
    #[must_use]
    pub fn borrower(&self, subnet: &str, lender: &Claimant) -> Option<Claimant> {
        let entries = self.own_addresses(subnet, lender).into_iter();
        let entries = entries.filter_map(|address| self.entry(subnet, address));
        entries.map(|(holder, _)| holder).find(|holder| holder != lender)
    }

    /// Gives `to` all that `from` holds in `subnet`, for as long as it holds it. What
    /// `to` holds beside that it goes on to hold.
    ///
    /// # Errors
    /// When another has it, or `from` does not hold an address of each family; then
    /// nothing has changed.
    pub fn borrow(
        &mut self,
        subnet: &str,
        to: &Claimant,
        from: &Claimant,
        now: Seconds,
    ) -> Result<(), AddressError> {
        let addresses = self.own_addresses(subnet, from);
        let network = self.networks.get(subnet);
        // Of one that is not whole, which is the first may be another tomorrow.
        let has_all = |cidrs: usize| cidrs == addresses.len();
        let Some(first) = addresses
            .first()
            .copied()
            .filter(|_| network.is_some_and(|network| has_all(network.cidrs.iter().count())))
        else {
            return Err(AddressError::NothingToLend(subnet.to_owned()));
        };
        match self.borrower(subnet, from) {
            Some(borrower) if borrower != *to => {
                let (address, subnet) = (first, subnet.to_owned());
                return Err(AddressError::Lent { address, subnet, borrower: borrower.port });
            }
            Some(_) => {}
            None => {
                self.hand_over(subnet, from, to, now);
                self.note(subnet, first, Change::Lend(to.clone(), from.clone()));
            }
        }
        addresses.into_iter().for_each(|address| self.prefer(subnet, to, address));
        Ok(())
    }

    /// Has `claimant` use nothing that it has on loan from others than `lender`: it did
    /// not ask for it. It goes on to hold it until it is known what it uses.
    pub fn use_no_loan_but(
        &mut self,
        subnet: &str,
        claimant: &Claimant,
        lender: Option<&Claimant>,
    ) {
        let Some(from) = self.lender_to(subnet, claimant) else { return };
        if Some(&from) == lender {
            return;
        }
        let owner = claimant.owner();
        for address in self.own_addresses(subnet, &from) {
            if let Some(pool) = self.pool_mut(subnet, address)
                && pool.address_of(owner) == Some(address)
            {
                pool.release(owner, 0);
                let _ = pool.restore_held(claimant.keeper(address), address);
            }
        }
    }

    /// Ends a loan: all of it is its lender's again.
    pub(super) fn give_back(
        &mut self,
        subnet: &str,
        borrower: &Claimant,
        lender: &Claimant,
        now: Seconds,
    ) {
        let addresses = self.own_addresses(subnet, lender).into_iter();
        let lent = |one: &IpAddr| self.entry(subnet, *one).is_some_and(|one| one.1.is_some());
        let lent: Vec<_> = addresses.filter(lent).collect();
        self.hand_over(subnet, borrower, lender, now);
        for address in lent {
            self.note(subnet, address, Change::Return(borrower.clone(), lender.clone()));
        }
    }

    /// Has the pools say that what a lender holds is used by one no more, but by the
    /// other.
    pub(super) fn hand_over(&mut self, subnet: &str, from: &Claimant, to: &Claimant, now: Seconds) {
        let lender = self.lender_to(subnet, from).unwrap_or_else(|| from.clone());
        let (used, wanted) = (from.owner(), to.owner());
        for address in self.own_addresses(subnet, &lender) {
            let Some(pool) = self.pool_mut(subnet, address) else { continue };
            let is_used = pool.address_of(used) == Some(address);
            pool.release(if is_used { used } else { from.keeper(address) }, now);
            if let Some(other) = pool.address_of(wanted) {
                pool.release(wanted, now);
                let _ = pool.restore_held(to.keeper(other), other);
            }
            let _ = pool.restore_held(wanted, address);
        }
    }
}
