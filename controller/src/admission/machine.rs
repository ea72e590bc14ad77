//! VMs, and instances made by hand.

use crds::annotations::{self, AAPS};
use crds::cause::Cause;
use crds::kubevirt::{
    VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceReplicaSet, faults,
};
use kube::ResourceExt as _;
use net::names;

use super::taken::{self, Taken};
use super::{Findings, Index, claims, placing, templates};
use crate::decide::is_made_by_hand;
use crate::dhcp;
use crate::flaw::Flaw;
use crate::ledger::VmKey;
use crate::notices;
use crate::port_names;
use crate::replica_sets;
use crate::request::{self, Asker, Lender, Request, requests};
use crate::storage::Storage;
use crate::vips;

pub(super) fn vm(index: &Index, vm: &VirtualMachine) -> Findings {
    const PATH: &str = "spec.template.spec";
    let mut found = asked(index, Asker::from(vm), vm.metadata.uid.as_deref());
    let (refusal, waits) = index.kinds.judge(vm);
    found.refusal = found.refusal.or(refusal);
    found.waits.extend(waits);
    // With what it refers to, as far as that is known: that may say what the template does not.
    let refers = vm.spec.instancetype.is_some() || vm.spec.preference.is_some();
    let whole = refers.then(|| index.kinds.expanded(vm, &Storage::default()).ok()).flatten();
    let template = &whole.as_ref().unwrap_or(vm).spec.template.spec;
    found.faults = faults::of_spec(template, PATH);
    let strategy = vm.spec.strategy().err().map(|why| Cause::invalid("spec.running", why));
    let disks = templates::check(vm).err();
    let disks = disks.map(|why| Cause::invalid("spec.dataVolumeTemplates", why));
    found.faults.extend(strategy.into_iter().chain(disks));
    placing::judge(&mut found, "spec.template.", &vm.spec.template.spec);
    found
}

/// Whether its instances can have their places is said when they are made.
pub(super) fn replica_set(set: &VirtualMachineInstanceReplicaSet) -> Findings {
    let mut found = Findings::default();
    let wrong = replica_sets::wrong(set);
    let Some(template) = &set.spec.template else {
        found.faults.extend(wrong.map(|why| Cause::required("spec.template", why)));
        return found;
    };
    found.faults = faults::of_spec(&template.spec, "spec.template.spec");
    found.faults.extend(wrong.map(|why| Cause::invalid("spec.selector", why)));
    placing::judge(&mut found, "spec.template.", &template.spec);
    found
}

/// What guests are to be told and cannot be.
fn options(asker: Asker<'_>) -> Vec<Flaw> {
    dhcp::of_ports(Some(asker.annotations), asker.spec, asker.namespace)
}

/// One that was made for a VM has what that was given.
pub(super) fn instance(index: &Index, instance: &VirtualMachineInstance) -> Findings {
    if !is_made_by_hand(instance) {
        return Findings::default();
    }
    let (name, namespace) = (instance.name_any(), instance.namespace().unwrap_or_default());
    let annotations = instance.annotations();
    let asker = Asker { name: &name, namespace: &namespace, annotations, spec: &instance.spec };
    let mut found = asked(index, asker, instance.metadata.uid.as_deref());
    found.faults = faults::of_instance(&instance.spec, "spec");
    found.waits.extend(notices::of_instance(instance));
    placing::judge(&mut found, "", &instance.spec);
    found
}

/// What is wrong with the networks that are asked for, and with what guests hear there.
fn asked(index: &Index, asker: Asker<'_>, uid: Option<&str>) -> Findings {
    Findings { flaws: options(asker), ..networks(index, asker, uid) }
}

fn networks(index: &Index, asker: Asker<'_>, uid: Option<&str>) -> Findings {
    let known = index.ports.of(asker.name, asker.namespace, uid);
    let offer = || index.offer(asker.namespace, &known);
    let asked = match requests(asker, offer()) {
        Ok(asked) => asked,
        // What it says of itself counts all the same.
        Err(error) if error.waits_for_another() => {
            let own = request::alone(asker, offer());
            return own.map_or_else(Findings::refused, |()| Findings::waiting(error));
        }
        Err(error) => return Findings::refused(error),
    };
    let key = VmKey { namespace: asker.namespace.to_owned(), name: asker.name.to_owned() };
    let named = asked
        .iter()
        .find_map(|request| port_names::of_request(index, index.networks(), &key, request));
    if let Some(why) = named {
        return Findings::refused(why);
    }
    let taken = asked.iter().flat_map(|request| taken_of(index, asker, request));
    let (mut refusal, mut waits) = Taken::sorted(taken);
    let lent = |request| claims::of_request(index, asker.namespace, request);
    for claim in asked.iter().filter_map(lent) {
        match claim {
            Ok(waits_for) => waits.push(waits_for),
            Err(why) => drop(refusal.get_or_insert(why)),
        }
    }
    let carried = |request: &Request| {
        let key = annotations::key(&request.provider, AAPS);
        let unfit = request.leave.carries.iter().filter_map(|name| {
            let why = vips::unfit(index.vips.get(name).map(|vip| &**vip), asker.namespace)?;
            Some(format!("annotation {key}: Vip {name:?} {why}"))
        });
        unfit.collect::<Vec<_>>()
    };
    waits.extend(asked.iter().flat_map(carried));
    waits.extend(asked.iter().filter_map(|request| of_vip(index, asker.namespace, request)));
    Findings { refusal, waits, ..Findings::default() }
}

/// Why the Vip that the port is to have its addresses from would lend it nothing now.
fn of_vip(index: &Index, namespace: &str, request: &Request) -> Option<String> {
    let Some(Lender::Vip(name)) = &request.lender else { return None };
    let vip = index.vips.get(name).map(|vip| &**vip);
    let why = vips::lends_nothing(vip, namespace, &request.subnet)?;
    Some(format!(
        "annotation {}: Vip {name:?} {why}",
        annotations::key(&request.provider, annotations::VIP)
    ))
}

/// Which of the addresses and MACs that a template names somebody else has.
fn taken_of(index: &Index, asker: Asker<'_>, request: &Request) -> Vec<Taken> {
    let Some(network) = index.networks().get(&request.subnet) else { return Vec::new() };
    let vm = VmKey { namespace: asker.namespace.to_owned(), name: asker.name.to_owned() };
    let mut taken = Vec::new();
    // What a claim or Vip has the port is to have of it.
    let (lender, vip) = match &request.lender {
        Some(Lender::Claim(name)) => {
            let key = VmKey { namespace: vm.namespace.clone(), name: name.clone() };
            (Some(VmKey::of_claim(&key)), None)
        }
        Some(Lender::Vip(name)) => (None, Some(name.as_str())),
        None => (None, None),
    };
    for address in &request.addresses {
        let why = |asker| taken::address(index, network, *address, asker);
        let why = why(&vm).filter(|_| lender.as_ref().is_none_or(|lender| why(lender).is_some()));
        taken.extend(why.map(|why| why.at(&request.places.addresses)));
    }
    let mac = request.mac.and_then(|mac| {
        let of_port = taken::mac(index, network, mac, |port| is_its(request, port));
        of_port.or_else(|| taken::mac_of_vip(index, network, mac, vip))
    });
    taken.extend(mac.map(|why| why.at(&request.places.mac)));
    taken
}

/// Whether this may be the port of what is asked for. Of several networks of one
/// attachment nobody knows here which has the short name.
fn is_its(request: &Request, port: &str) -> bool {
    let of_attachment = request.provider != names::DEFAULT_PROVIDER;
    let may_be = || {
        let longer = [names::further, names::further_in_pod];
        let is =
            |one: &str, short: &str| longer.iter().any(|of| of(short, &request.network) == one);
        is(port, &request.port) || is(&request.port, port)
    };
    request.port == port || (of_attachment && may_be())
}
