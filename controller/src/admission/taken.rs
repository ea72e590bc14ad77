//! Addresses and MACs that somebody else has: for good, or only until that one is gone.
//!
//! Who is being deleted, or is gone and not yet out of the ledger, gives back what it
//! holds without anybody having to change anything. So what names it is let in and told
//! what it waits for: `kubectl delete` and `kubectl create` of a successor need no pause
//! between them.

use std::net::IpAddr;

use net::MacAddr;

use super::facts::Index;
use super::ports::{Port, Whose};
use crate::decide::mac;
use crate::hold;
use crate::ledger::{self, AddressError, Claimant, VmKey};
use crate::network::Network;
use crate::vips;

/// Why something cannot be had.
#[derive(Debug)]
pub(super) enum Taken {
    /// Who has it stays: another is to be chosen.
    ForGood(String),
    /// It is had once its holder is gone.
    ForNow(String),
}

impl Taken {
    /// The same, said of `place`.
    pub(super) fn at(self, place: &str) -> Self {
        let at = |why| format!("{place}: {why}");
        match self {
            Self::ForGood(why) => Self::ForGood(at(why)),
            Self::ForNow(why) => Self::ForNow(at(why)),
        }
    }

    /// What is refused for good: the first, there may be others; and what only waits.
    pub(super) fn sorted(all: impl IntoIterator<Item = Self>) -> (Option<String>, Vec<String>) {
        let (mut refusal, mut waits) = (None, Vec::new());
        for one in all {
            match one {
                Self::ForGood(why) => drop(refusal.get_or_insert(why)),
                Self::ForNow(why) => waits.push(why),
            }
        }
        (refusal, waits)
    }
}

/// Why `asker` cannot have this address. What it holds itself it may name.
pub(super) fn address(
    index: &Index,
    network: &Network,
    address: IpAddr,
    asker: &VmKey,
) -> Option<Taken> {
    let holder = index.holders.of(&network.name, address);
    // What is on loan goes back to its lender.
    let lender = index.holders.lender_of(&network.name, address);
    if holder.iter().chain(&lender).any(|one| one.vm == *asker) {
        return None;
    }
    let refusal = ledger::refusal(network, address, holder.as_ref())?;
    let mut in_the_way = holder.iter().chain(&lender);
    match (&refusal, &holder) {
        (AddressError::Held { subnet, .. }, Some(holder))
            if in_the_way.all(|one| goes(index, one)) =>
        {
            let who = hold::user(holder);
            Some(Taken::ForNow(format!(
                "{address} of subnet {subnet:?} is still held by {who}, which is being deleted: it is waited for until it is free"
            )))
        }
        _ => Some(Taken::ForGood(refusal.to_string())),
    }
}

/// Why a port cannot have this MAC on this network; `is_it` knows the port.
pub(super) fn mac(
    index: &Index,
    network: &Network,
    mac: MacAddr,
    is_it: impl Fn(&str) -> bool,
) -> Option<Taken> {
    let mut in_vpc = index.networks().values().filter(|one| one.vpc == network.vpc);
    let of_router = in_vpc.find(|one| mac::is_routers(index.subnet(&one.name), one, mac));
    if let Some(network) = of_router {
        return Some(Taken::ForGood(mac::used_by(mac, &mac::gateway_of(network))));
    }
    let in_vpc =
        |subnet: &str| index.networks().get(subnet).is_some_and(|one| one.vpc == network.vpc);
    let others = index.ports.with(mac).filter(|(name, one)| !is_it(name) && in_vpc(&one.subnet));
    let (mut leaving, mut staying) = (None, None);
    for (name, other) in others {
        let place = if port_goes(index, other) { &mut leaving } else { &mut staying };
        place.get_or_insert(name);
    }
    match (staying, leaving) {
        (Some(name), _) => Some(Taken::ForGood(mac::used_by(mac, name))),
        (None, Some(name)) => Some(Taken::ForNow(still_used(mac, name))),
        (None, None) => None,
    }
}

/// Why nobody but who borrows it can have the MAC of a Vip other than `own`.
pub(super) fn mac_of_vip(
    index: &Index,
    network: &Network,
    mac: MacAddr,
    own: Option<&str>,
) -> Option<Taken> {
    let others = index.vip_macs.others(&index.vips, index.networks(), network, mac, own);
    let (leaving, staying): (Vec<_>, Vec<_>) = others
        .filter(|vip| vips::given_mac(vip).is_some())
        .partition(|vip| hold::is_leaving(&vip.metadata));
    match (staying.first(), leaving.first()) {
        (Some(vip), _) => Some(Taken::ForGood(mac::used_by(mac, &vips::called(vip)))),
        (None, Some(vip)) => Some(Taken::ForNow(still_used(mac, &vips::called(vip)))),
        (None, None) => None,
    }
}

fn still_used(mac: MacAddr, holder: &str) -> String {
    format!(
        "MAC address {mac} is still used by {holder}, which is being deleted: it is waited for until it is free"
    )
}

/// Whether this holder is gone, or about to go.
pub(super) fn goes(index: &Index, holder: &Claimant) -> bool {
    if holder.vm.node().is_some() {
        return false;
    }
    if let Some(vip) = holder.vm.vip() {
        let meta = index.vips.meta(&vip.to_owned());
        let stays = meta.filter(|meta| meta.uid.as_ref() == Some(&holder.uid));
        return stays.is_none_or(hold::is_leaving);
    }
    if let Some(claim) = holder.vm.claim() {
        let meta = index.claims.meta(&claim);
        let stays = meta.filter(|meta| meta.uid.as_ref() == Some(&holder.uid));
        return stays.is_none_or(hold::is_leaving);
    }
    if holder.uid.is_empty() {
        return index.ports.get(&holder.port).is_none_or(|port| port_goes(index, port));
    }
    !index.owners.stays(&holder.uid)
}

fn port_goes(index: &Index, port: &Port) -> bool {
    match &port.whose {
        Whose::Vm(uid) => !index.owners.stays(uid),
        Whose::Other { leaves } => *leaves,
    }
}
