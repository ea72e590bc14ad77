//! Who holds which address, as the blocks of the ledger say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crds::ledger::{AddressBlock, Holder, block_name};
use kube::ResourceExt;

use crate::ledger::Claimant;
use crate::shelf::Seen;

/// Held addresses by the name of their block, which is found from the address.
#[derive(Debug, Default)]
pub(super) struct Holders {
    blocks: BTreeMap<String, BTreeMap<IpAddr, Holder>>,
    synced: bool,
}

impl Holders {
    pub(super) fn apply(&mut self, seen: &Seen<AddressBlock>) {
        match seen {
            Seen::All { objects, unreadable } => {
                self.synced = true;
                let listed = unreadable.iter().filter_map(|meta| meta.name.clone());
                let listed: BTreeSet<_> =
                    listed.chain(objects.iter().map(ResourceExt::name_any)).collect();
                self.blocks.retain(|name, _| listed.contains(name));
                objects.iter().for_each(|block| self.put(block));
            }
            Seen::Now(block) => self.put(block),
            // What it said before counts on.
            Seen::Unreadable(_) => {}
            Seen::Gone(meta) => drop(meta.name.as_ref().map(|name| self.blocks.remove(name))),
        }
    }

    fn put(&mut self, block: &AddressBlock) {
        self.blocks.insert(block.name_any(), block.spec.held.clone());
    }

    /// Whether all that there is has been told.
    pub(super) const fn is_synced(&self) -> bool {
        self.synced
    }

    /// Who holds this address of a subnet.
    pub(super) fn of(&self, subnet: &str, address: IpAddr) -> Option<Claimant> {
        let holder = self.blocks.get(&block_name(subnet, address))?.get(&address)?;
        Some(Claimant::from_holder(holder))
    }

    /// Who has lent this address of a subnet to who holds it.
    pub(super) fn lender_of(&self, subnet: &str, address: IpAddr) -> Option<Claimant> {
        Claimant::of_lender(self.blocks.get(&block_name(subnet, address))?.get(&address)?)
    }

    /// All that is held of a subnet.
    pub(super) fn of_subnet(&self, subnet: &str) -> impl Iterator<Item = (IpAddr, Claimant)> {
        let of_family = |family: &str| {
            let prefix = format!("{subnet}.{family}.");
            let blocks = self.blocks.range(prefix.clone()..);
            blocks.take_while(move |(name, _)| name.starts_with(&prefix)).map(|(_, held)| held)
        };
        let blocks = of_family("v4").chain(of_family("v6"));
        blocks.flatten().map(|(address, holder)| (*address, Claimant::from_holder(holder)))
    }
}
