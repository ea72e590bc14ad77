//! What a reviewer must know of other objects: an index, kept as they change.
//!
//! It is neither the world nor behind its task: a request that is reviewed waits for
//! no round. It is kept by whoever sees the objects, the watches of the controller or
//! the store's own thread, and says of each kind only what is asked: an address, a MAC
//! and an overlap are found in logarithmic time, and a change costs no more than that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crds::cni::IpamClaim;
use crds::instancetype;
use crds::kubeovn::{IpPool, Subnet, Vip, Vpc};
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use net::AddrRange;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use super::holders::Holders;
use super::moves::{Moves, Stored};
use super::owners::{Known, Owners};
use super::ports::Ports;
use crate::binding;
use crate::flaw::Flaw;
use crate::hold;
use crate::instancetypes::{Kinds, News};
use crate::ledger::VmKey;
use crate::namespaces;
use crate::network::{Network, NetworkError};
use crate::pools;
use crate::port_names::{self, Objects};
use crate::request::{Known as KnownPorts, Offer};
use crate::reserved::Reserved;
use crate::shelf::{Change, Seen, Shelf};
use crate::vips::Macs;
use crate::world::{Event, vm_key_of, was_ready};

/// The kinds that the facts are made of, by group and plural.
const KINDS: [(&str, &str); 17] = [
    ("", "namespaces"),
    ("", "nodes"),
    ("kubeovn.io", "vpcs"),
    ("kubeovn.io", "subnets"),
    ("kubeovn.io", "ippools"),
    ("kubeovn.io", "vips"),
    ("kubeovn.io", "ips"),
    ("k8s.cni.cncf.io", "ipamclaims"),
    ("berth.io", "addressblocks"),
    ("kubevirt.io", "virtualmachines"),
    ("kubevirt.io", "virtualmachineinstances"),
    ("kubevirt.io", "virtualmachineinstancemigrations"),
    (instancetype::GROUP, "virtualmachineinstancetypes"),
    (instancetype::GROUP, "virtualmachineclusterinstancetypes"),
    (instancetype::GROUP, "virtualmachinepreferences"),
    (instancetype::GROUP, "virtualmachineclusterpreferences"),
    ("apps", "controllerrevisions"),
];

/// The facts, shared by those who see objects and those who ask.
#[derive(Debug, Default)]
pub struct Facts(Mutex<Index>);

impl Facts {
    /// None yet, where these addresses are in use elsewhere.
    #[must_use]
    pub fn beside(reserved: Reserved) -> Self {
        Self(Mutex::new(Index { reserved, ..Index::default() }))
    }

    /// Takes in what a watch saw.
    pub fn apply(&self, event: &Event) {
        self.0.lock().apply(event);
    }

    /// Whether every kind has been listed by a watch: what is not yet known looks as if
    /// it were not there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let index = self.0.lock();
        index.vpcs.is_synced()
            && index.subnets.is_synced()
            && index.pools.is_synced()
            && index.vips.is_synced()
            && index.namespaces.is_synced()
            && index.reserved.is_synced()
            && (index.no_claims || index.claims.is_synced())
            && index.holders.is_synced()
            && index.ports.is_synced()
            && index.owners.are_synced()
            && index.moves.is_synced()
    }

    /// Whether objects of this kind are to be told of.
    #[must_use]
    pub fn follow(group: &str, plural: &str) -> bool {
        KINDS.contains(&(group, plural))
    }

    /// Takes in an object as it was stored.
    pub fn stored(&self, plural: &str, json: &[u8]) {
        self.told(plural, json, false);
    }

    /// Takes in that an object is gone, which was this.
    pub fn removed(&self, plural: &str, json: &[u8]) {
        self.told(plural, json, true);
    }

    fn told(&self, plural: &str, json: &[u8], gone: bool) {
        // These are many and change often, and little of them is asked.
        match plural {
            "virtualmachines" | "virtualmachineinstances" => {
                let Some(known) = metadata::<Known>(json) else { return };
                let index = &mut *self.0.lock();
                if plural == "virtualmachines" {
                    index.owners.machine(&known, gone);
                    return;
                }
                index.owners.instance(&known, gone);
                if let Ok(stored) = serde_json::from_slice::<Stored>(json) {
                    index.moves.stored(stored, gone);
                }
            }
            _ => {
                if let Some(event) = event(plural, json, gone) {
                    self.apply(&event);
                }
            }
        }
    }

    /// Asks something.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Index) -> T) -> T {
        let mut index = self.0.lock();
        index.settle();
        question(&index)
    }
}

fn event(plural: &str, json: &[u8], gone: bool) -> Option<Event> {
    Some(match plural {
        "namespaces" => Event::Namespace(seen(json, gone)?),
        "nodes" => Event::Node(seen(json, gone)?),
        "vpcs" => Event::Vpc(seen(json, gone)?),
        "subnets" => Event::Subnet(seen(json, gone)?),
        "ippools" => Event::Pool(seen(json, gone)?),
        "vips" => Event::Vip(seen(json, gone)?),
        "ips" => Event::Ip(seen(json, gone)?),
        "ipamclaims" => Event::Claim(seen(json, gone)?),
        "virtualmachineinstancemigrations" => Event::Migration(seen(json, gone)?),
        "addressblocks" => Event::Block(seen(json, gone)?),
        "virtualmachineinstancetypes" => Event::Kind(News::Instancetype(seen(json, gone)?)),
        "virtualmachineclusterinstancetypes" => {
            Event::Kind(News::ClusterInstancetype(seen(json, gone)?))
        }
        "virtualmachinepreferences" => Event::Kind(News::Preference(seen(json, gone)?)),
        "virtualmachineclusterpreferences" => {
            Event::Kind(News::ClusterPreference(seen(json, gone)?))
        }
        "controllerrevisions" => Event::Kind(News::Revision(seen(json, gone)?)),
        _ => return None,
    })
}

fn seen<K: DeserializeOwned>(json: &[u8], gone: bool) -> Option<Seen<K>> {
    let meta = || metadata(json).map(Box::new);
    if gone {
        return meta().map(Seen::Gone);
    }
    match serde_json::from_slice(json) {
        Ok(object) => Some(Seen::Now(Box::new(object))),
        Err(_) => meta().map(Seen::Unreadable),
    }
}

fn metadata<M: DeserializeOwned>(json: &[u8]) -> Option<M> {
    #[derive(serde::Deserialize)]
    struct Named<M> {
        metadata: M,
    }
    serde_json::from_slice::<Named<M>>(json).ok().map(|one| one.metadata)
}

/// Networks of one VPC, none of which overlap: by last address, with the first one and
/// the subnet.
type Spans = BTreeMap<IpAddr, (IpAddr, String)>;

/// The facts themselves.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) vpcs: Shelf<String, Vpc>,
    pub(super) vips: Shelf<String, Vip>,
    pub(super) vip_macs: Macs,
    pub(super) claims: Shelf<VmKey, IpamClaim>,
    /// The API does not serve them.
    no_claims: bool,
    pub(super) holders: Holders,
    pub(super) ports: Ports,
    pub(super) owners: Owners,
    pub(super) moves: Moves,
    pub(super) reserved: Reserved,
    pub(super) kinds: Kinds,
    subnets: Shelf<String, Subnet>,
    pools: Shelf<String, IpPool>,
    namespaces: Shelf<String, Namespace>,
    /// Subnets that can be in force, none of which overlap.
    networks: BTreeMap<String, Network>,
    spans: HashMap<String, Spans>,
    /// Those that cannot.
    refused: BTreeMap<String, NetworkError>,
    refused_pools: BTreeMap<String, Flaw>,
    /// The pools of the networks no longer follow from the IPPools.
    stale: bool,
}

impl Index {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Vpc(seen) => {
                let changes = self.vpcs.apply(seen.clone(), name_of);
                let listed =
                    |vpc: &Option<Arc<Vpc>>| vpc.clone().map(|vpc| vpc.spec.namespaces.clone());
                if changes.iter().any(|(_, old, new)| listed(old) != listed(new)) {
                    self.choose_namespaces();
                }
            }
            Event::Vip(seen) => {
                let changes = self.vips.apply(seen.clone(), name_of);
                changes.iter().for_each(|change| self.vip_macs.note(change));
            }
            Event::Pool(seen) => {
                let changes = self.pools.apply(seen.clone(), name_of);
                let news = |(_, old, new): &Change<String, IpPool>| match (old, new) {
                    (Some(old), Some(new)) => old.spec != new.spec,
                    _ => true,
                };
                self.stale |= changes.iter().any(news);
            }
            Event::Namespace(seen) => {
                self.namespaces.apply(seen.clone(), name_of);
                self.choose_namespaces();
            }
            Event::Subnet(seen) => {
                let mut changes = self.subnets.apply(seen.clone(), name_of);
                changes.retain(|(_, old, new)| is_news(old.as_deref(), new.as_deref()));
                // Of two that disagree the one that was in force stays so, else the older.
                changes.sort_by_cached_key(|(name, _, new)| {
                    let new = new.as_ref();
                    let ready = new.is_some_and(|subnet| was_ready(subnet));
                    let created = new.and_then(|subnet| subnet.creation_timestamp());
                    (!ready, created, name.clone())
                });
                for (name, _, new) in changes {
                    self.subnet_changed(&name, new);
                }
            }
            Event::Ip(seen) => self.ports.apply(seen),
            Event::Block(seen) => self.holders.apply(seen),
            Event::Machine(seen) => self.owners.machine_seen(seen),
            Event::Instance(seen) => {
                self.owners.instance_seen(seen);
                self.moves.instance_seen(seen);
            }
            Event::Migration(seen) => self.moves.migration_seen(seen),
            Event::Node(seen) => drop(self.reserved.apply(seen)),
            Event::Claim(seen) => drop(self.claims.apply(seen.clone(), vm_key_of)),
            Event::NoClaims => self.no_claims = !self.claims.is_synced(),
            Event::Heartbeats(_)
            | Event::Policy(_)
            | Event::NoPolicies
            | Event::Storage(_)
            | Event::Pod(_)
            | Event::NoPods
            | Event::Set(_)
            | Event::NoSets => {}
            Event::Kind(news) => drop(self.kinds.apply(news.clone())),
        }
    }

    fn subnet_changed(&mut self, name: &str, new: Option<Arc<Subnet>>) {
        let old = self.networks.remove(name);
        if let Some(old) = &old
            && let Some(spans) = self.spans.get_mut(&old.vpc)
        {
            reach(old).for_each(|cidr| drop(spans.remove(&AddrRange::from(cidr).last())));
        }
        self.refused.remove(name);
        self.stale |= self.pools.iter().next().is_some();
        if let Some(new) = new {
            self.understand(&new);
        } else if self.subnets.is_unreadable(&name.to_owned()) {
            self.refused.insert(name.to_owned(), NetworkError::Unreadable);
        }
        if old.is_some() {
            let waits = |(_, why): &(&String, &NetworkError)| {
                matches!(why, NetworkError::Overlap { .. } | NetworkError::NameTaken { .. })
            };
            let waiting = self.refused.iter().filter(waits);
            let waiting: Vec<_> =
                waiting.filter_map(|(name, _)| self.subnets.get(name).cloned()).collect();
            waiting.iter().for_each(|subnet| self.understand(subnet));
        }
    }

    fn understand(&mut self, subnet: &Subnet) {
        let name = subnet.name_any();
        let parsed = Network::parse(subnet).and_then(|network| {
            network.conflict(self.overlapping(&network)).map_or(Ok(network), Err)
        });
        let parsed = parsed.and_then(|network| {
            let was = was_ready(subnet);
            port_names::conflict(self, &self.networks, &network, was).map_or(Ok(network), Err)
        });
        match parsed {
            Ok(mut network) => {
                network.namespaces = self.namespaces_of(subnet, &network.vpc);
                let spans = self.spans.entry(network.vpc.clone()).or_default();
                for cidr in reach(&network) {
                    let range = AddrRange::from(cidr);
                    spans.insert(range.last(), (range.first(), name.clone()));
                }
                self.refused.remove(&name);
                self.networks.insert(name, network);
            }
            Err(error) => drop(self.refused.insert(name, error)),
        }
    }

    fn namespaces_of(&self, subnet: &Subnet, vpc: &String) -> BTreeSet<String> {
        let vpc = self.vpcs.get(vpc).map(|vpc| &**vpc);
        namespaces::of(&subnet.spec, vpc, self.namespaces.metas())
    }

    /// Selectors look at labels of namespaces, and Vpcs say which are theirs.
    fn choose_namespaces(&mut self) {
        let chosen = |(name, network): (&String, &Network)| {
            let subnet = self.subnets.get(name)?;
            let spec = &subnet.spec;
            let asks = !spec.namespace_selectors.is_empty() || !spec.namespaces.is_empty();
            asks.then(|| (name.clone(), self.namespaces_of(subnet, &network.vpc)))
        };
        let chosen: Vec<_> = self.networks.iter().filter_map(chosen).collect();
        for (name, namespaces) in chosen {
            if let Some(network) = self.networks.get_mut(&name) {
                network.namespaces = namespaces;
            }
        }
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.stale) {
            let before = BTreeMap::new();
            self.refused_pools = pools::divide(&mut self.networks, &self.pools, &before);
        }
    }

    /// The subnets of its VPC that have addresses of this network, or of what is behind it.
    pub(super) fn overlapping<'a>(
        &'a self,
        network: &'a Network,
    ) -> impl Iterator<Item = &'a Network> {
        let spans = self.spans.get(&network.vpc).into_iter();
        let of = move |cidr: IpNetwork| {
            let range = AddrRange::from(cidr);
            let near = spans.clone().flat_map(move |spans| spans.range(range.first()..));
            near.take_while(move |(_, (first, _))| *first <= range.last())
        };
        let near = reach(network).flat_map(of);
        near.filter_map(|(_, (_, name))| self.networks.get(name))
    }

    /// The subnets that can be in force, with their pools.
    pub(super) const fn networks(&self) -> &BTreeMap<String, Network> {
        &self.networks
    }

    /// Those that cannot, and why.
    pub(super) const fn refused(&self) -> &BTreeMap<String, NetworkError> {
        &self.refused
    }

    /// What there is for a VM of this namespace, of which this is known.
    pub(super) fn offer<'a>(&'a self, namespace: &str, known: &'a KnownPorts) -> Offer<'a> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        Offer {
            in_force: &self.networks,
            refused: &self.refused,
            vpcs: &self.vpcs,
            pools: &self.pools,
            vips: &self.vips,
            refused_pools: &self.refused_pools,
            used: &NONE,
            known,
            claims: &self.claims,
            bound: binding::bound(&self.vpcs, &self.networks, namespace),
        }
    }

    /// The Subnet of this name.
    pub(super) fn subnet(&self, name: &str) -> Option<&Subnet> {
        self.subnets.get(&name.to_owned()).map(|subnet| &**subnet)
    }
}

impl Objects for Index {
    fn vpcs(&self) -> &Shelf<String, Vpc> {
        &self.vpcs
    }

    fn vips(&self) -> &Shelf<String, Vip> {
        &self.vips
    }

    fn guest(&self, port: &str) -> Option<VmKey> {
        self.ports.get(port)?.vm.clone()
    }
}

/// All that leads to a subnet: its own networks, and what is behind its guests.
fn reach(network: &Network) -> impl Iterator<Item = IpNetwork> {
    network.reach().flat_map(|(_, cidrs)| cidrs.iter().collect::<Vec<_>>())
}

fn is_news(old: Option<&Subnet>, new: Option<&Subnet>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return true };
    let leaving = |one: &Subnet| hold::is_leaving(&one.metadata);
    old.spec != new.spec || leaving(old) != leaving(new)
}

fn name_of(meta: &ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests;
