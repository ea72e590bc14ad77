//! Which Vip has which MAC: nobody else in its Vpc is to have it, whether or not a port
//! has borrowed it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crds::kubeovn::Vip;
use kube::ResourceExt as _;
use net::MacAddr;

use super::held;
use crate::network::Network;
use crate::shelf::{Change, Shelf};
use crate::world::World;

/// The names of Vips by the MAC that each was given, or else asks for.
#[derive(Debug, Default)]
pub struct Macs(HashMap<MacAddr, BTreeSet<String>>);

impl Macs {
    /// Takes in what a Vip says now.
    pub fn note(&mut self, (name, old, new): &Change<String, Vip>) {
        if let Some(mac) = old.as_deref().and_then(said)
            && let Some(names) = self.0.get_mut(&mac)
        {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(&mac);
            }
        }
        if let Some(mac) = new.as_deref().and_then(said) {
            self.0.entry(mac).or_default().insert(name.clone());
        }
    }

    /// The Vips of `vips` that say this MAC and are in the Vpc of `network`, except the one
    /// called `own`.
    pub fn others<'a>(
        &'a self,
        vips: &'a Shelf<String, Vip>,
        networks: &'a BTreeMap<String, Network>,
        network: &'a Network,
        mac: MacAddr,
        own: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Vip>> {
        let names = self.0.get(&mac).into_iter().flatten();
        let near = |vip: &&Arc<Vip>| {
            networks.get(vip.spec.subnet.trim()).is_some_and(|one| one.vpc == network.vpc)
        };
        let others = names.filter(move |name| own != Some(name.as_str()));
        others.filter_map(|name| vips.get(name)).filter(near)
    }
}

fn said(vip: &Vip) -> Option<MacAddr> {
    given(vip).or_else(|| vip.spec.mac_address.trim().parse().ok())
}

/// The MAC that a Vip was given.
#[must_use]
pub fn given(vip: &Vip) -> Option<MacAddr> {
    vip.status.as_ref()?.mac.parse().ok()
}

/// The MAC that a Vip names and has not been given yet.
#[must_use]
pub fn asks_for(vip: &Vip) -> Option<MacAddr> {
    let has = vip.status.as_ref().is_some_and(|status| !status.mac.is_empty());
    vip.spec.mac_address.trim().parse().ok().filter(|_| !has)
}

/// A Vip as the holder of a MAC.
#[must_use]
pub fn called(vip: &Vip) -> String {
    format!("Vip {}", vip.name_any())
}

/// The Vip that has this MAC in the Vpc of `network`, if it is another than `own`. One that
/// only asks for it, and in vain, has nothing.
#[must_use]
pub fn holder(world: &World, network: &Network, mac: MacAddr, own: Option<&str>) -> Option<String> {
    let networks = world.ledger.networks();
    let mut others = world.vip_macs.others(&world.vips, networks, network, mac, own);
    let has = |vip: &&Arc<Vip>| given(vip).is_some() || held(world, vip).is_some();
    others.find(has).map(|vip| called(vip))
}
