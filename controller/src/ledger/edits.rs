//! Edits of one block, and how they are written: with the version that was read,
//! or not at all.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crds::ledger::{AddressBlock, AddressBlockSpec, Holder};
use ipam::Seconds;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use tracing::{error, info};

use super::Claimant;

/// What the next commit changes in a block.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub(super) subnet: String,
    pub(super) first: IpAddr,
    pub(super) changes: BTreeMap<IpAddr, Change>,
}

/// What becomes of one address.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Hold(Claimant),
    Release(Claimant, Seconds),
    /// To the first, of what the second holds.
    Lend(Claimant, Claimant),
    /// By the first, of what the second has lent.
    Return(Claimant, Claimant),
}

impl Change {
    pub(super) const fn claimant(&self) -> &Claimant {
        match self {
            Self::Hold(claimant)
            | Self::Release(claimant, _)
            | Self::Lend(claimant, _)
            | Self::Return(claimant, _) => claimant,
        }
    }

    /// Whether it gives the claimant the address.
    pub(super) const fn gives(&self) -> bool {
        matches!(self, Self::Hold(_) | Self::Lend(..))
    }
}

/// An edit on its way to the store.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) name: String,
    pub(super) edit: Edit,
    /// The block as it should be, with the version that was read; without one it is
    /// to be made. None if the edit must not be sent.
    pub(super) block: Option<AddressBlock>,
}

/// What became of a write.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Written(Box<AddressBlock>),
    /// Not written, or not known to be; with the block as it stands if it could
    /// be read.
    Lost(Option<Box<AddressBlock>>),
}

impl Write {
    /// What writes `edit` to the block that was read as `current`.
    pub(super) fn of(name: String, edit: Edit, current: Option<&AddressBlock>) -> Self {
        let mut block = current.cloned().unwrap_or_else(|| empty(&name, &edit));
        for (address, change) in &edit.changes {
            if !may_change(block.spec.held.get(address), change) {
                error!(block = name, %address, port = change.claimant().port, "An edit would take an address from its holder; it is dropped");
                return Self { name, edit, block: None };
            }
            apply(&mut block.spec, *address, change);
        }
        Self { name, edit, block: Some(block) }
    }

    pub(super) async fn send(&self, api: &Api<AddressBlock>) -> Outcome {
        let Some(block) = &self.block else { return Outcome::Lost(None) };
        let params = PostParams::default();
        let written = if block.resource_version().is_some() {
            api.replace(&self.name, &params, block).await
        } else {
            api.create(&params, block).await
        };
        match written {
            Ok(block) => Outcome::Written(Box::new(block)),
            Err(error) => {
                info!(block = self.name, %error, "An address block was not written; reading it again");
                Outcome::Lost(api.get_opt(&self.name).await.ok().flatten().map(Box::new))
            }
        }
    }
}

pub(super) fn empty(name: &str, edit: &Edit) -> AddressBlock {
    AddressBlock::new(
        name,
        AddressBlockSpec {
            subnet: edit.subnet.clone(),
            first: edit.first,
            held: BTreeMap::new(),
            resting: BTreeMap::new(),
        },
    )
}

/// Whether the entry of this holder may be changed so: by the holder itself, who made a
/// reservation for this port, or who has lent it or is about to; a free one by anybody.
fn may_change(holder: Option<&Holder>, change: &Change) -> bool {
    let Some(holder) = holder else { return true };
    let (held_by, lender) = (Claimant::from_holder(holder), Claimant::of_lender(holder));
    match change {
        Change::Hold(claimant) | Change::Release(claimant, _) => {
            held_by == *claimant || (held_by.uid.is_empty() && held_by.port == claimant.port)
        }
        Change::Lend(to, from) | Change::Return(to, from) => match lender {
            Some(lender) => lender == *from && held_by == *to,
            None => held_by == *from,
        },
    }
}

pub(super) fn apply(block: &mut AddressBlockSpec, address: IpAddr, change: &Change) {
    match change {
        Change::Hold(claimant) => {
            block.held.insert(address, claimant.holder());
            block.resting.remove(&address);
        }
        Change::Release(_, now) => {
            block.held.remove(&address);
            block.resting.insert(address, *now);
        }
        Change::Lend(to, from) => {
            block.held.insert(address, to.borrower(from));
            block.resting.remove(&address);
        }
        Change::Return(_, from) => {
            block.held.insert(address, from.holder());
        }
    }
}

/// Versions are opaque by contract and numbers in fact; what is not a number is
/// newer than everything.
pub(super) fn version(block: &AddressBlock) -> u64 {
    block.resource_version().and_then(|version| version.parse().ok()).unwrap_or(u64::MAX)
}
