//! IPPools, Vips, and IP objects that people make.

use crds::kubeovn::{Ip, IpPool, Vip};
use kube::ResourceExt as _;
use net::listed;

use super::machine::address_refusal;
use super::{Findings, Index};
use crate::decide::{has_owner, reservation_flaws};
use crate::flaw::Flaw;
use crate::ledger::VmKey;
use crate::network::Network;
use crate::{pools, vips};

pub(super) fn pool(index: &Index, pool: &IpPool) -> Findings {
    match pools::review(pool, index.networks()) {
        Ok(None) => Findings::default(),
        Ok(Some(waits)) => Findings::waiting(waits),
        Err(flaw) => Findings::refused(flaw),
    }
}

pub(super) fn vip(index: &Index, vip: &Vip) -> Findings {
    let flaws = vips::own_flaws(&vip.spec);
    let asked = match vips::understand(index.networks(), index.refused(), vip) {
        Ok(asked) => asked,
        Err(error) if error.waits => return Findings { flaws, ..Findings::waiting(error.message) },
        Err(error) => return Findings { flaws, ..Findings::refused(error.message) },
    };
    let own = VmKey::of_vip(&vip.name_any());
    let held = asked.addresses.iter().find_map(|address| {
        let why = address_refusal(index, asked.network, *address, &own)?;
        let field = if address.is_ipv4() { "v4ip" } else { "v6ip" };
        Some(Flaw::new(field.to_owned(), address, why).to_string())
    });
    Findings { refusal: held, flaws, ..Findings::default() }
}

/// One that was written for a VM says what the ledger does.
pub(super) fn reservation(index: &Index, ip: &Ip) -> Findings {
    if has_owner(ip) {
        return Findings::default();
    }
    let spec = &ip.spec;
    let network = index.networks().get(&spec.subnet);
    let whose = VmKey { namespace: spec.namespace.clone(), name: spec.pod_name.clone() };
    let mut found = Findings { flaws: reservation_flaws(ip, network), ..Findings::default() };
    if found.flaws.is_empty() {
        found.flaws.extend(held_flaws(index, network, ip, &whose));
    }
    found.flaws.extend(mac_flaw(index, network, ip));
    if network.is_none() {
        let advice = "no Subnet of that name is in force: create it, or name another";
        found.waits.push(Flaw::new("subnet".to_owned(), &spec.subnet, advice).to_string());
    }
    found
}

/// Those of the addresses that it names that somebody else holds.
fn held_flaws(index: &Index, network: Option<&Network>, ip: &Ip, whose: &VmKey) -> Vec<Flaw> {
    let spec = &ip.spec;
    let fields = [
        ("v4IpAddress", &spec.v4_ip_address),
        ("v6IpAddress", &spec.v6_ip_address),
        ("ipAddress", &spec.ip_address),
    ];
    let flaw = |(field, text): (&str, &String)| {
        let network = network?;
        let mut addresses = listed::addresses(text);
        let why = addresses.find_map(|one| address_refusal(index, network, one, whose))?;
        Some(Flaw::new(field.to_owned(), text, why))
    };
    fields.into_iter().filter_map(flaw).collect()
}

/// That somebody else has the MAC that it names.
fn mac_flaw(index: &Index, network: Option<&Network>, ip: &Ip) -> Option<Flaw> {
    let text = ip.spec.mac_address.trim();
    let why = index.mac_refusal(network?, text.parse().ok()?, &ip.name_any())?;
    Some(Flaw::new("macAddress".to_owned(), text, why))
}
