//! Which ports may send from which of these addresses.
//!
//! What a VM's template says counts from its start: its instance carries it. A Vip's
//! own selector counts at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crds::kubeovn::Vip;
use kube::ResourceExt as _;

use super::{borrower, held, spec};
use crate::hold;
use crate::leave::Leave;
use crate::ledger::VmKey;
use crate::request::Request;
use crate::rows::Port;
use crate::world::World;

/// Annotations or labels.
type Notes = BTreeMap<String, String>;
/// An address of a subnet.
type Place = (String, IpAddr);

/// The ports that may send from an address that is not theirs: as decided last.
#[derive(Debug, Default)]
pub struct Carriers {
    by_place: BTreeMap<Place, BTreeSet<String>>,
    by_vm: HashMap<VmKey, BTreeSet<(Place, String)>>,
}

impl Carriers {
    /// Takes in the ports of a VM as decided; returns the addresses that have other
    /// carriers than before.
    pub fn note(&mut self, vm: &VmKey, ports: &[Port]) -> BTreeSet<Place> {
        let of = |port: &Port| {
            let (subnet, name) = (port.subnet.clone(), port.name.clone());
            let addresses = port.leave.further.iter().filter_map(|text| text.parse().ok());
            addresses.map(move |one| ((subnet.clone(), one), name.clone())).collect::<Vec<_>>()
        };
        let new: BTreeSet<_> = ports.iter().flat_map(of).collect();
        let old = self.by_vm.remove(vm).unwrap_or_default();
        for (place, port) in old.difference(&new) {
            if let Some(ports) = self.by_place.get_mut(place) {
                ports.remove(port);
                if ports.is_empty() {
                    self.by_place.remove(place);
                }
            }
        }
        for (place, port) in new.difference(&old) {
            self.by_place.entry(place.clone()).or_default().insert(port.clone());
        }
        let changed = old.symmetric_difference(&new).map(|(place, _)| place.clone()).collect();
        if !new.is_empty() {
            self.by_vm.insert(vm.clone(), new);
        }
        changed
    }

    /// The ports that may send from this address, in order.
    #[must_use]
    pub fn ports(&self, place: &Place) -> Vec<&str> {
        self.by_place.get(place).into_iter().flatten().map(String::as_str).collect()
    }
}

/// What the VM's template says, as its instance has it while there is one:
/// annotations and labels.
fn said<'a>(world: &'a World, vm: &VmKey) -> (Option<&'a Notes>, Option<&'a Notes>) {
    if let Some(instance) = world.instances.get(vm) {
        return (Some(instance.annotations()), Some(instance.labels()));
    }
    let template = world.machines.get(vm).and_then(|vm| vm.spec.template.metadata.as_ref());
    template.map_or((None, None), |meta| (meta.annotations.as_ref(), meta.labels.as_ref()))
}

/// What a VM's port on this subnet is let do: what its template says, and the
/// addresses of the Vips that it carries. What cannot be read lets it do nothing.
#[must_use]
pub fn carried(world: &World, vm: &VmKey, provider: &str, subnet: &str) -> Leave {
    let (annotations, labels) = said(world, vm);
    let read = annotations.and_then(|written| Leave::read(written, provider).ok());
    let mut leave = read.unwrap_or_default();
    let named = leave.carries.iter().filter_map(|name| world.vips.get(name));
    let named = named.filter(|vip| may_name(vip, &vm.namespace) && vip.spec.r#type.is_empty());
    let selecting = world.selecting_vips(&vm.namespace).filter_map(|name| world.vips.get(name));
    let selecting = selecting.filter(|vip| labels.is_some_and(|labels| selects(vip, labels)));
    let shared = named.chain(selecting).filter(|vip| borrower(world, vip).is_none());
    let places = shared.filter_map(|vip| held(world, vip));
    let addresses =
        places.filter(|(place, _)| place == subnet).flat_map(|(_, addresses)| addresses);
    let addresses: Vec<_> = addresses.map(|address| address.to_string()).collect();
    leave.further.extend(addresses);
    leave
}

pub(super) fn may_name(vip: &Vip, namespace: &str) -> bool {
    vip.spec.namespace.is_empty() || vip.spec.namespace == namespace
}

/// Whether all labels are there that it asks for. A selector with a bad entry, or
/// without any, selects nothing.
fn selects(vip: &Vip, labels: &Notes) -> bool {
    let (asked, flaws) = spec::selector(&vip.spec);
    let has = |(key, value): &(&str, &str)| labels.get(*key).is_some_and(|one| one == value);
    vip.spec.r#type.is_empty() && flaws.is_empty() && !asked.is_empty() && asked.iter().all(has)
}

/// Why no VM of this namespace can carry a Vip that it names: what to change.
#[must_use]
pub fn unfit(vip: Option<&Vip>, namespace: &str) -> Option<String> {
    let Some(vip) = vip else {
        return Some("does not exist or cannot be read: create it, or name another".to_owned());
    };
    let kind = &vip.spec.r#type;
    if !may_name(vip, namespace) {
        let theirs = &vip.spec.namespace;
        Some(format!("is for VMs of namespace {theirs:?}: name another"))
    } else if !kind.is_empty() {
        Some(format!("is of type {kind:?}, which no port carries: name another"))
    } else {
        hold::is_leaving(&vip.metadata).then(|| "is being deleted: name another".to_owned())
    }
}

/// Why a VM cannot carry what its template names: what to change.
#[must_use]
pub fn trouble(world: &World, vm: &VmKey, request: &Request) -> Option<String> {
    let key = crds::annotations::key(&request.provider, crds::annotations::AAPS);
    request.leave.carries.iter().find_map(|name| {
        let refused = |why: String| Some(format!("annotation {key}: Vip {name:?} {why}"));
        let vip = world.vips.get(name);
        if let Some(why) = unfit(vip.map(|vip| &**vip), &vm.namespace) {
            return refused(why);
        }
        let vip = vip?;
        if let Some(other) = borrower(world, vip).filter(|other| other.port != request.port) {
            let other = &other.port;
            return refused(format!("is {other}'s own by annotation vip: name another"));
        }
        match held(world, vip) {
            Some((subnet, _)) if subnet == request.subnet => None,
            Some((subnet, _)) => refused(format!(
                "is of subnet {subnet:?}, this network is on {:?}: name one of the same subnet",
                request.subnet
            )),
            None => refused(match world.refused_vips.get(name) {
                Some(why) => format!("is not in force: {why}"),
                None => "has no address yet; it is asked for again".to_owned(),
            }),
        }
    })
}

/// The VMs with an instance that may send from the addresses of `vip`.
pub(super) fn users(world: &World, vip: &Vip) -> BTreeSet<VmKey> {
    let Some((subnet, addresses)) = held(world, vip) else { return BTreeSet::new() };
    let addresses: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
    let carries = |vm: &&VmKey| {
        let on_it = world.ledger.held_for(vm).into_iter().filter(|(_, held)| *held == subnet);
        let mut leaves = on_it.map(|(one, _)| carried(world, vm, one.provider(), &subnet));
        leaves.any(|leave| !leave.further.is_disjoint(&addresses))
    };
    world.instances.iter().map(|(vm, _)| vm).filter(carries).cloned().collect()
}
