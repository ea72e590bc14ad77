//! VMs, and instances made by hand.

use std::net::IpAddr;

use crds::annotations::{self, AAPS, IP_ADDRESS, MAC_ADDRESS};
use crds::kubevirt::{VirtualMachine, VirtualMachineInstance};
use kube::ResourceExt as _;

use super::{Findings, Index};
use crate::decide::is_made_by_hand;
use crate::ledger::{self, VmKey};
use crate::network::Network;
use crate::request::{self, Asker, Request, requests};
use crate::vips;

pub(super) fn vm(index: &Index, vm: &VirtualMachine) -> Findings {
    match vm.spec.strategy() {
        Err(why) => Findings::refused(why),
        Ok(_) => asked(index, Asker::from(vm)),
    }
}

/// One that was made for a VM has what that was given.
pub(super) fn instance(index: &Index, instance: &VirtualMachineInstance) -> Findings {
    if !is_made_by_hand(instance) {
        return Findings::default();
    }
    let (name, namespace) = (instance.name_any(), instance.namespace().unwrap_or_default());
    let annotations = instance.annotations();
    asked(index, Asker { name: &name, namespace: &namespace, annotations, spec: &instance.spec })
}

/// What is wrong with the networks that are asked for.
fn asked(index: &Index, asker: Asker<'_>) -> Findings {
    let asked = match requests(asker, index.offer(asker.namespace)) {
        Ok(asked) => asked,
        // What it says of itself counts all the same.
        Err(error) if error.waits_for_another() => {
            let own = request::alone(asker, index.offer(asker.namespace));
            return own.map_or_else(Findings::refused, |()| Findings::waiting(error));
        }
        Err(error) => return Findings::refused(error),
    };
    let refusal = asked.iter().find_map(|request| taken(index, asker, request));
    let carried = |request: &Request| {
        let key = annotations::key(&request.provider, AAPS);
        let unfit = request.leave.carries.iter().filter_map(|name| {
            let why = vips::unfit(index.vips.get(name).map(|vip| &**vip), asker.namespace)?;
            Some(format!("annotation {key}: Vip {name:?} {why}"))
        });
        unfit.collect::<Vec<_>>()
    };
    let waits = asked.iter().flat_map(carried).collect();
    Findings { refusal, waits, ..Findings::default() }
}

/// Which of the addresses and MACs that a template names somebody else has.
fn taken(index: &Index, asker: Asker<'_>, request: &Request) -> Option<String> {
    let network = index.networks().get(&request.subnet)?;
    let place = |field: &str| place(asker, request, field);
    let vm = VmKey { namespace: asker.namespace.to_owned(), name: asker.name.to_owned() };
    let refusal = request.addresses.iter().find_map(|address| {
        let why = address_refusal(index, network, *address, &vm)?;
        Some(format!("{}: {why}", place(IP_ADDRESS)))
    });
    refusal.or_else(|| {
        let why = index.mac_refusal(network, request.mac?, &request.port)?;
        Some(format!("{}: {why}", place(MAC_ADDRESS)))
    })
}

/// Why `asker` cannot have this address. What it holds itself it may name.
pub(super) fn address_refusal(
    index: &Index,
    network: &Network,
    address: IpAddr,
    asker: &VmKey,
) -> Option<String> {
    let holder = index.holders.of(&network.name, address);
    let lender = index.holders.lender_of(&network.name, address);
    if holder.iter().chain(&lender).any(|one| one.vm == *asker) {
        return None;
    }
    ledger::refusal(network, address, holder.as_ref()).map(|error| error.to_string())
}

/// The annotation of this field, or the field of the interface.
fn place(asker: Asker<'_>, request: &Request, field: &str) -> String {
    let key = annotations::key(&request.provider, field);
    let of_interface = |key: &&String| {
        key.ends_with(&format!("/{field}.{}", request.network)) && key.contains(".kubernetes.io/")
    };
    match asker.annotations.keys().find(|one| **one == key || of_interface(one)) {
        Some(key) => format!("annotation {key}"),
        None => format!("interface {:?}: macAddress", request.network),
    }
}
