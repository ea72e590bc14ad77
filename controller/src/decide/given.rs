//! What a VM was given stays its own, whatever becomes of the ledger, and whatever
//! somebody writes where it only stands a second time.
//!
//! ```text
//!  a block of the ledger is lost   claimed again: while there is an instance what that says,
//!                                  else what its IP object says; before anybody starts
//!  its instance is edited          the ledger decides, and the instance says so again
//! ```
//!
//! The two look alike: an address that an instance names and the ledger does not have.
//! But who has an address of a family has lost none of it, and what a port had its IP
//! object says, too.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crds::annotations;
use crds::cni::IpamClaim;
use crds::kubeovn::{Ip, Vip};
use crds::kubevirt::VirtualMachineInstance;
use ipam::Seconds;
use kube::ResourceExt as _;
use net::{MacAddr, listed, names};

use super::{Decision, Policy, claimant, is_placed, is_standalone, loans, owned_by, owner_uid};
use crate::claims;
use crate::family::Family;
use crate::hold;
use crate::ledger::{Claimant, VmKey};
use crate::machine::{self, Trouble};
use crate::request::Request;
use crate::rows::Port;
use crate::world::World;

/// What is to be written on an instance.
#[derive(Debug)]
pub enum Inscription {
    /// The place of one that has no VM: the whole instance, as it should be.
    Placed(Box<VirtualMachineInstance>),
    /// Its place, as it was given, and what to tell whoever changed it.
    Mended(Box<VirtualMachineInstance>, Trouble),
    /// What its guest is to have from now on.
    Updated(Box<VirtualMachineInstance>),
    /// What keeps it from its place.
    Waits(Trouble),
}

/// Claims again, for a VM or an instance that runs, what the ledger has lost of its place.
/// Why it cannot is told by its own decision.
pub(super) fn keep(world: &mut World, vm: &VmKey, now: Seconds) {
    let Some(instance) = world.instances.get(vm).cloned() else { return };
    if world.is_unreadable(vm) || !is_placed(&instance) {
        return;
    }
    let machine = world.machines.get(vm);
    let of_machine = machine.filter(|vm| machine::owns(vm, &instance)).and_then(|vm| vm.uid());
    let own = || instance.uid().filter(|_| is_standalone(&instance));
    if let Some(uid) = of_machine.or_else(own) {
        let _ = regain(world, vm, &uid, &instance, now);
    }
}

/// Claims again what the ledger has lost of the place that `instance` was given in the
/// name of `uid`.
///
/// # Errors
/// When somebody else has some of it by now.
pub(super) fn regain(
    world: &mut World,
    vm: &VmKey,
    uid: &str,
    instance: &VirtualMachineInstance,
    now: Seconds,
) -> Result<(), Trouble> {
    let mut outcome = Ok(());
    for provider in providers(instance) {
        let notes = instance.annotations();
        let key = |field| annotations::key(provider, field);
        let Some(subnet) = notes.get(&key(annotations::LOGICAL_SWITCH)) else { continue };
        let claimant = claimant(&names::port(&vm.name, &vm.namespace, provider), vm, uid);
        let mut noted: Vec<_> = noted(instance, provider).collect();
        noted.retain(|address| is_said_by_object(world, &claimant, *address));
        let lost = lost(world, &claimant, subnet, noted);
        if lost.is_empty() {
            continue;
        }
        let request = Request {
            port: claimant.port.clone(),
            provider: provider.to_owned(),
            subnet: subnet.clone(),
            ..Request::default()
        };
        if loans::claim(world, &request, &claimant, now).is_ok_and(|is_lent| is_lent) {
            continue;
        }
        if let Err(error) = world.ledger.claim_named(subnet, &claimant, &lost, now) {
            let message =
                format!("what the guest had is lost, and cannot be claimed again: {error}");
            outcome = Err(Trouble { reason: machine::ADDRESS_NOT_AVAILABLE, message });
        }
    }
    outcome
}

/// Claims again, for a VM that is stopped, what its IP objects say and the ledger has
/// lost. Without it the next VM that starts may get it.
pub(super) fn recall(world: &mut World, vm: &VmKey, policy: Policy, now: Seconds) {
    if !policy.keep_vm_ip || world.is_unreadable(vm) || world.instances.get(vm).is_some() {
        return;
    }
    let machine = world.machines.get(vm).filter(|machine| !hold::is_leaving(&machine.metadata));
    let Some(uid) = machine.and_then(|machine| machine.uid()) else { return };
    // One without our finalizer is going, or was never all written.
    let own = world.ips_of(vm).filter(|ip| owned_by(ip, &uid) && hold::is_held(&ip.metadata));
    let own = own.filter(|ip| !hold::is_leaving(&ip.metadata));
    let said = own.map(|ip| {
        let addresses: Vec<_> = listed::addresses(&ip.spec.ip_address).collect();
        (claimant(&ip.name_any(), vm, &uid), ip.spec.subnet.clone(), addresses)
    });
    for (claimant, subnet, addresses) in said.collect::<Vec<_>>() {
        let mut lost = lost(world, &claimant, &subnet, addresses);
        // What was lent comes back with the next start.
        lost.retain(|address| !is_a_lenders(world, &subnet, *address));
        if !lost.is_empty() {
            let _ = world.ledger.claim_named(&subnet, &claimant, &lost, now);
        }
    }
}

/// Those of the addresses said to be a port's of whose family the ledger has none for
/// it, on any subnet.
fn lost(world: &World, claimant: &Claimant, subnet: &str, said: Vec<IpAddr>) -> Vec<IpAddr> {
    let held = world.ledger.held_for(&claimant.vm).into_iter().filter(|(one, _)| one == claimant);
    let held: Vec<_> = held.map(|(_, subnet)| subnet).collect();
    if held.iter().any(|one| one != subnet) {
        return Vec::new();
    }
    let has = world.ledger.addresses(subnet, claimant);
    let is_lost = |one: &IpAddr| !has.iter().any(|has| Family::of(*has) == Family::of(*one));
    said.into_iter().filter(is_lost).collect()
}

/// Whether the IP object of the port says that it has this address, too. Without any IP
/// object of its VM the instance is all there is to go by.
fn is_said_by_object(world: &World, claimant: &Claimant, address: IpAddr) -> bool {
    let mut own = world.ips_of(&claimant.vm).filter(|ip| owned_by(ip, &claimant.uid)).peekable();
    let says = |ip: &Arc<Ip>| {
        ip.name_any() == claimant.port
            && listed::addresses(&ip.spec.ip_address).any(|one| one == address)
    };
    own.peek().is_none() || own.any(says)
}

/// Whether a Vip or an IPAMClaim says that it has this address of this subnet.
fn is_a_lenders(world: &World, subnet: &str, address: IpAddr) -> bool {
    let text = address.to_string();
    let of_vip = |(_, vip): (_, &Arc<Vip>)| {
        let has = vip.status.as_ref().is_some_and(|one| one.v4_ip == text || one.v6_ip == text);
        has && vip.spec.subnet == subnet
    };
    let of_claim = |(_, claim): (_, &Arc<IpamClaim>)| {
        claims::said(claim)
            .is_some_and(|(named, addresses)| named == subnet && addresses.contains(&address))
    };
    world.vips.iter().any(of_vip) || world.claims.objects.iter().any(of_claim)
}

/// Has the instance say again what its ports are, if somebody edited that.
pub(super) fn mend(world: &World, decision: &mut Decision) {
    let Some(instance) = world.instances.get(&decision.vm) else { return };
    if decision.inscription.is_some() || !is_placed(instance) || instance.phase().is_final() {
        return;
    }
    let owner = owner_uid(instance);
    let own = decision.ports.iter().filter(|port| Some(&port.uid) == owner.as_ref());
    let wrong: BTreeMap<String, String> = own.flat_map(|port| misstated(instance, port)).collect();
    if wrong.is_empty() {
        return;
    }
    let keys: Vec<_> = wrong.keys().map(String::as_str).collect();
    let message = format!(
        "{} of a guest that runs cannot be changed and was put back: write it on the template of its VM, for the next start",
        keys.join(", ")
    );
    let mut mended = VirtualMachineInstance::clone(instance);
    mended.annotations_mut().extend(wrong);
    let trouble = Trouble { reason: "PlaceKept", message };
    decision.inscription = Some(Inscription::Mended(Box::new(mended), trouble));
}

/// The annotations of the instance that do not say what this port is, as they should be.
fn misstated(instance: &VirtualMachineInstance, port: &Port) -> Vec<(String, String)> {
    let provider = providers(instance)
        .find(|one| names::port(&port.vm.name, &port.vm.namespace, one) == port.name);
    let Some(provider) = provider else { return Vec::new() };
    let key = |field| annotations::key(provider, field);
    let said = |field| instance.annotations().get(&key(field)).map(|text| text.trim());
    let addresses: Vec<IpAddr> = said(annotations::IP_ADDRESS)
        .map(|text| listed::addresses(text).collect())
        .unwrap_or_default();
    let mac = said(annotations::MAC_ADDRESS).and_then(|text| text.parse::<MacAddr>().ok());
    [
        (
            annotations::LOGICAL_SWITCH,
            said(annotations::LOGICAL_SWITCH) == Some(&port.subnet),
            port.subnet.clone(),
        ),
        (annotations::IP_ADDRESS, addresses == port.addresses, listed::text(&port.addresses)),
        (annotations::MAC_ADDRESS, mac == Some(port.mac), port.mac.to_string()),
    ]
    .into_iter()
    .filter(|(_, is_so, _)| !is_so)
    .map(|(field, _, text)| (key(field), text))
    .collect()
}

/// By what the instance's annotations name the ports that it was given.
fn providers(instance: &VirtualMachineInstance) -> impl Iterator<Item = &str> {
    let notes = instance.annotations();
    notes.keys().filter_map(move |key| {
        let (provider, field) = key.rsplit_once('/')?;
        let provider = provider.strip_suffix(".kubernetes.io")?;
        (field == annotations::ALLOCATED && annotations::is_allocated(notes, provider))
            .then_some(provider)
    })
}

/// The addresses that the instance says its port of this provider has.
pub(super) fn noted(
    instance: &VirtualMachineInstance,
    provider: &str,
) -> impl Iterator<Item = IpAddr> {
    let notes = instance.annotations();
    let is_given = annotations::is_allocated(notes, provider);
    let noted = notes.get(&annotations::key(provider, annotations::IP_ADDRESS));
    noted.filter(|_| is_given).into_iter().flat_map(|text| listed::addresses(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{
        addresses, committed, decide_all, decided, gone, key, now, put, started, vm, world,
    };
    use super::*;
    use crate::objects;
    use crate::shelf::Seen;
    use crate::world::Event;

    /// Writes this on the instance, as `kubectl annotate` does.
    fn annotate(world: &mut World, name: &str, notes: &[(&str, &str)]) {
        let mut instance = Arc::unwrap_or_clone(world.instances.get(&key(name)).unwrap().clone());
        let notes = notes
            .iter()
            .map(|(field, text)| (format!("ovn.kubernetes.io/{field}"), (*text).to_owned()));
        instance.annotations_mut().extend(notes);
        instance.metadata.resource_version = Some("7".to_owned());
        world.put_instance(instance);
    }

    fn block_is_deleted(world: &mut World) {
        committed(world);
        for block in world.ledger.seen_blocks() {
            world.apply(Event::Block(Seen::gone(&block)));
        }
        assert_eq!(world.ledger.held_ports().count(), 0);
    }

    fn running() -> (World, Decision) {
        let mut world = world();
        put(&mut world, vm("web", "u1", "Always", None));
        let first = started(&mut world, "web");
        committed(&mut world);
        world.put_ip(objects::ip(&first.ports[0]));
        (world, first)
    }

    #[test]
    fn what_is_edited_on_a_running_instance_moves_nothing_and_is_put_back() {
        for edit in [
            ("ip_address", "10.0.0.6"),
            ("ip_address", ""),
            ("ip_address", "10.0.0.6,fd00::9"),
            ("mac_address", "nonsense"),
            ("logical_switch", "other"),
            ("ip_address", "10.0.0.2"),
        ] {
            let (mut world, first) = running();
            annotate(&mut world, "web", &[edit, ("ip_family", "ipv4")]);
            let after = decided(&mut world, "web");
            assert_eq!(after.ports, first.ports, "{edit:?}");
            assert!(after.release.is_empty() && after.spare.is_empty(), "{edit:?}: {after:?}");
            let Some(Inscription::Mended(mended, why)) = after.inscription else {
                panic!("{edit:?} stays");
            };
            assert!(why.message.contains(edit.0), "{}", why.message);
            let notes = mended.annotations();
            assert_eq!(notes["ovn.kubernetes.io/ip_address"], "10.0.0.2,fd00::2", "{edit:?}");
            assert_eq!(notes["ovn.kubernetes.io/logical_switch"], "s");
            assert_eq!(notes["ovn.kubernetes.io/mac_address"], first.ports[0].mac.to_string());
            world.put_instance(VirtualMachineInstance {
                metadata: kube::api::ObjectMeta {
                    resource_version: Some("8".to_owned()),
                    ..mended.metadata.clone()
                },
                ..*mended
            });
            let again = decided(&mut world, "web");
            assert!(again.inscription.is_none() && again.ports == first.ports, "{again:?}");
        }
    }

    #[test]
    fn an_edited_instance_gains_no_address_and_no_port() {
        let (mut world, _) = running();
        gone(&mut world, "web");
        let mut of_one = vm("web", "u1", "Always", None);
        of_one.metadata.resource_version = Some("5".to_owned());
        of_one.spec.template.metadata.as_mut().unwrap().annotations =
            Some([("ovn.kubernetes.io/ip_family".to_owned(), "ipv4".to_owned())].into());
        put(&mut world, of_one);
        let first = started(&mut world, "web");
        assert_eq!(addresses(&first), ["10.0.0.2"]);
        let mut ip = objects::ip(&first.ports[0]);
        ip.metadata.resource_version = Some("6".to_owned());
        world.put_ip(ip);
        // What it no longer asks for is given back.
        let spare = decided(&mut world, "web").spare;
        for (claimant, subnet, address) in spare {
            world.ledger.release_one(&subnet, &claimant, address, 0);
        }
        let port = "net2.default.ovn.kubernetes.io";
        let mut instance =
            Arc::unwrap_or_clone(Arc::clone(world.instances.get(&key("web")).unwrap()));
        instance.annotations_mut().extend([
            ("ovn.kubernetes.io/ip_address".to_owned(), "10.0.0.2,fd00::9".to_owned()),
            (format!("{port}/allocated"), "true".to_owned()),
            (format!("{port}/logical_switch"), "s".to_owned()),
            (format!("{port}/ip_address"), "10.0.0.6".to_owned()),
        ]);
        instance.metadata.resource_version = Some("7".to_owned());
        world.put_instance(instance);
        let after = decided(&mut world, "web");
        assert_eq!(after.ports, first.ports);
        assert!(matches!(after.inscription, Some(Inscription::Mended(..))), "{after:?}");
    }

    #[test]
    fn a_running_vm_whose_template_was_edited_claims_what_its_guest_has() {
        let (mut world, first) = running();
        let mut other = vm("web", "u1", "Always", Some("10.0.0.6"));
        other.metadata.resource_version = Some("5".to_owned());
        other
            .spec
            .template
            .metadata
            .as_mut()
            .unwrap()
            .annotations
            .as_mut()
            .unwrap()
            .extend([("ovn.kubernetes.io/logical_switch".to_owned(), "elsewhere".to_owned())]);
        put(&mut world, other);
        block_is_deleted(&mut world);
        let after = decided(&mut world, "web");
        assert_eq!(after.ports, first.ports);
        assert!(after.release.is_empty() && after.trouble.is_none(), "{after:?}");
    }

    #[test]
    fn a_stopped_vm_whose_block_is_lost_has_its_addresses_before_anybody_starts() {
        let (mut world, first) = running();
        gone(&mut world, "web");
        let mut halted = vm("web", "u1", "Halted", None);
        halted.metadata.resource_version = Some("5".to_owned());
        put(&mut world, halted);
        block_is_deleted(&mut world);
        let older = json!("2020-01-01T00:00:00Z");
        let mut thief = vm("a-thief", "u2", "Always", None);
        thief.metadata.creation_timestamp = serde_json::from_value(older).unwrap();
        put(&mut world, thief);
        let (dirty, _) = world.take_dirty();
        let decisions = decide_all(&mut world, &dirty, Policy { keep_vm_ip: true }, now());
        let of = |name: &str| decisions.iter().find(|one| one.vm.name == name).unwrap();
        assert_eq!(addresses(of("web")), addresses(&first));
        let theirs = addresses(of("a-thief"));
        assert!(theirs.iter().all(|one| !addresses(&first).contains(one)), "{theirs:?}");
    }

    #[test]
    fn who_runs_and_whose_block_is_lost_has_its_addresses_before_anybody_starts() {
        let by_hand = || -> VirtualMachineInstance {
            serde_json::from_value(json!({
                "metadata": {
                    "name": "web", "namespace": "default", "uid": "u1", "resourceVersion": "1",
                },
                "spec": { "domain": { "devices": {} } },
            }))
            .unwrap()
        };
        for is_of_a_vm in [true, false] {
            let (mut world, first) = match is_of_a_vm {
                true => {
                    let (world, first) = running();
                    (world, Some(first))
                }
                false => (world(), None),
            };
            let first = first.unwrap_or_else(|| {
                world.put_instance(by_hand());
                let placed = decided(&mut world, "web");
                let Some(Inscription::Placed(instance)) = &placed.inscription else {
                    panic!("{placed:?}");
                };
                let mut instance = VirtualMachineInstance::clone(instance);
                instance.metadata.resource_version = Some("2".to_owned());
                world.put_instance(instance);
                committed(&mut world);
                world.put_ip(objects::ip(&placed.ports[0]));
                placed
            });
            block_is_deleted(&mut world);
            put(&mut world, vm("a-thief", "u2", "Always", None));
            let (dirty, _) = world.take_dirty();
            assert_eq!(dirty.last(), Some(&key("web")), "who starts comes first");
            let decisions = decide_all(&mut world, &dirty, Policy { keep_vm_ip: true }, now());
            let of = |name: &str| decisions.iter().find(|one| one.vm.name == name).unwrap();
            assert_eq!(addresses(of("web")), addresses(&first));
            let theirs = addresses(of("a-thief"));
            assert!(theirs.iter().all(|one| !addresses(&first).contains(one)), "{theirs:?}");
        }
    }

    #[test]
    fn what_a_stopped_vm_let_go_of_it_does_not_claim_again() {
        let (mut world, _) = running();
        gone(&mut world, "web");
        let mut ip =
            Arc::unwrap_or_clone(world.ips.get(&"web.default".to_owned()).unwrap().clone());
        for claimant in world.ledger.held_for(&key("web")) {
            world.ledger.release(&claimant.1, &claimant.0, 0);
        }
        // As the watch shows it once its finalizer is off, and before it is gone.
        ip.metadata.finalizers = None;
        ip.metadata.resource_version = Some("9".to_owned());
        world.put_ip(ip);
        recall(&mut world, &key("web"), Policy { keep_vm_ip: true }, 0);
        assert!(world.ledger.held_for(&key("web")).is_empty());
    }

    #[test]
    fn an_edited_ip_object_or_instance_changes_no_mac_of_a_guest_that_runs() {
        let (mut world, first) = running();
        annotate(&mut world, "web", &[("mac_address", "02:00:00:00:00:66")]);
        assert_eq!(decided(&mut world, "web").ports, first.ports);
        let (mut world, first) = running();
        let mut ip = objects::ip(&first.ports[0]);
        ip.spec.mac_address = "02:00:00:00:00:66".to_owned();
        ip.metadata.resource_version = Some("9".to_owned());
        world.put_ip(ip);
        assert_eq!(decided(&mut world, "web").ports, first.ports);
    }

    #[test]
    fn a_mac_that_came_from_elsewhere_is_the_guests_whoever_edits_its_object() {
        let (mut world, first) = running();
        let adopted = "02:00:00:00:00:77";
        // As it was given, and as its node shows it.
        annotate(&mut world, "web", &[("mac_address", adopted)]);
        let mut ip = objects::ip(&first.ports[0]);
        ip.annotations_mut().insert(annotations::OWNER_MAC.to_owned(), adopted.to_owned());
        ip.spec.mac_address = "02:00:00:00:00:66".to_owned();
        ip.metadata.resource_version = Some("9".to_owned());
        world.put_ip(ip);
        assert_eq!(decided(&mut world, "web").ports[0].mac.to_string(), adopted);
    }

    #[test]
    fn a_mac_written_on_a_stopped_vms_ip_object_is_taken_from_nobody() {
        let (mut world, first) = running();
        put(&mut world, vm("other", "u2", "Always", None));
        let other = started(&mut world, "other");
        let stolen = first.ports[0].mac;
        let mut ip = objects::ip(&other.ports[0]);
        ip.spec.mac_address = stolen.to_string();
        world.put_ip(ip);
        gone(&mut world, "web");
        gone(&mut world, "other");
        assert_eq!(started(&mut world, "web").ports[0].mac, stolen, "it is its own");
        assert_ne!(started(&mut world, "other").ports[0].mac, stolen);
    }
}
