//! IPPools, Vips, and IP objects that people make.

use std::net::IpAddr;

use crds::kubeovn::{Ip, IpPool, IpSpec, Vip};
use kube::ResourceExt as _;
use net::listed;

use super::taken::{self, Taken};
use super::{Findings, Index};
use crate::decide::{has_owner, misnamed, no_subnet, reservation_flaws};
use crate::flaw::Flaw;
use crate::ledger::VmKey;
use crate::network::Network;
use crate::objects::mac_of;
use crate::world::{OF_NOBODY, ip_key};
use crate::{notices, pools, port_names, vips};

/// Addresses of a field that are looked at: nobody has more than one of each family.
const FEW: usize = 3;

pub(super) fn pool(index: &Index, pool: &IpPool) -> Findings {
    match pools::review(pool, index.networks()) {
        Ok(None) => Findings::default(),
        Ok(Some(waits)) => Findings::waiting(waits),
        Err(flaw) => Findings::refused(flaw),
    }
}

pub(super) fn vip(index: &Index, vip: &Vip) -> Findings {
    let mut flaws = vips::own_flaws(&vip.spec);
    let known = index.vips.get(&vip.name_any()).and_then(|known| known.status.as_ref());
    if let Some(given) = known.filter(|status| !status.mac.is_empty()) {
        flaws.extend(vips::given_otherwise(&vip.spec, given));
    }
    let asked = match vips::understand(index, index.networks(), index.refused(), vip) {
        Ok(asked) => asked,
        Err(error) if error.waits => return Findings { flaws, ..Findings::waiting(error.message) },
        Err(error) => return Findings { flaws, ..Findings::refused(error.message) },
    };
    let own = VmKey::of_vip(&vip.name_any());
    let taken = asked.addresses.iter().filter_map(|address| {
        let field = if address.is_ipv4() { "v4ip" } else { "v6ip" };
        let why = taken::address(index, asked.network, *address, &own)?;
        let said = |why| told(field, &address.to_string(), why);
        Some(match why {
            Taken::ForGood(why) => Taken::ForGood(said(why)),
            Taken::ForNow(why) => Taken::ForNow(said(why)),
        })
    });
    let of_mac = vips::asks_for_mac(vip).and_then(|mac| {
        let own = vip.name_any();
        let other = || taken::mac_of_vip(index, asked.network, mac, Some(&own));
        let said = |why| told("macAddress", &mac.to_string(), why);
        Some(match taken::mac(index, asked.network, mac, |_| false).or_else(other)? {
            Taken::ForGood(why) => Taken::ForGood(said(why)),
            Taken::ForNow(why) => Taken::ForNow(said(why)),
        })
    });
    let (refusal, waits) = Taken::sorted(taken.chain(of_mac));
    Findings { refusal, flaws, waits, ..Findings::default() }
}

fn told(field: &str, value: &str, why: String) -> String {
    Flaw::new(field.to_owned(), value, why).to_string()
}

/// One that was written for a VM says what the ledger does, but its MAC says nobody else.
pub(super) fn reservation(index: &Index, ip: &Ip) -> Findings {
    let spec = &ip.spec;
    let network = index.networks().get(&spec.subnet);
    if has_owner(ip) {
        let taken = network.and_then(|network| mac_taken(index, network, ip));
        let flaw = taken.and_then(|(field, value, why)| match why {
            Taken::ForGood(why) => Some(Flaw::new(field.to_owned(), value, why)),
            Taken::ForNow(_) => None,
        });
        return Findings { flaws: flaw.into_iter().collect(), ..Findings::default() };
    }
    let whose = VmKey { namespace: spec.namespace.clone(), name: spec.pod_name.clone() };
    let mut found = Findings { flaws: reservation_flaws(ip, network), ..Findings::default() };
    let mut taken = Vec::new();
    if let Some(network) = network {
        if found.flaws.is_empty() {
            taken.extend(addresses_taken(index, network, ip, &whose));
        }
        taken.extend(mac_taken(index, network, ip));
    }
    for (field, value, why) in taken {
        match why {
            Taken::ForGood(why) => found.flaws.push(Flaw::new(field.to_owned(), value, why)),
            Taken::ForNow(why) => found.waits.push(told(field, value, why)),
        }
    }
    found.waits.extend(notices::of_ip(ip));
    let Some(key) = ip_key(ip) else {
        found.waits.push(OF_NOBODY.to_owned());
        return found;
    };
    let name = ip.name_any();
    found.refusal = misnamed(&key, ip);
    if let Some(owner) = port_names::other(index, index.networks(), &key, &name) {
        let why = format!("the name {name:?} is that of {owner}: create the object under another");
        found.refusal = Some(why);
    }
    if network.is_none() {
        found.waits.push(no_subnet(&spec.subnet).to_string());
    }
    found
}

/// What of an IP object says something else than `old`, whose port holds what that names:
/// it would be written back as it was.
pub(super) fn edits(index: &Index, old: &Ip, new: &Ip) -> Vec<Flaw> {
    edited_addresses(index, old, new).into_iter().chain(edited_mac(old, new)).collect()
}

/// That the MAC of a VM's port is named otherwise, by another than who notes it, too.
fn edited_mac(old: &Ip, new: &Ip) -> Option<Flaw> {
    let mac = mac_of(old).filter(|_| has_owner(old))?;
    let text = new.spec.mac_address.trim();
    let is_noted = has_owner(new) && text.parse().is_ok_and(|named| mac_of(new) == Some(named));
    let IpSpec { namespace, pod_name, .. } = &old.spec;
    (!is_noted).then(|| {
        let advice = format!(
            "VirtualMachine {namespace}/{pod_name} has {mac}: name another on its template, or stop it and delete this object"
        );
        Flaw::new("macAddress".to_owned(), text, advice)
    })
}

fn edited_addresses(index: &Index, old: &Ip, new: &Ip) -> Vec<Flaw> {
    let port = old.name_any();
    let holds = |ip: &Ip, address: IpAddr| {
        let holder = index.holders.of(&ip.spec.subnet, address);
        holder.is_some_and(|holder| holder.port == port)
    };
    let held = named(old).find(|one| holds(old, *one));
    // What the ledger says is written by the controller.
    let is_so = named(new).next().is_some() && named(new).all(|one| holds(new, one));
    let Some(held) = held.filter(|_| !is_so) else { return Vec::new() };
    let advice = if has_owner(old) {
        let IpSpec { namespace, pod_name, .. } = &old.spec;
        format!(
            "VirtualMachine {namespace}/{pod_name} has {held}: name another on its template, or stop it and delete this object"
        )
    } else {
        format!("{held} is reserved: delete this object, and make another")
    };
    let fields = |ip: &Ip| {
        let spec = ip.spec.clone();
        [
            ("subnet", spec.subnet),
            ("v4IpAddress", spec.v4_ip_address),
            ("v6IpAddress", spec.v6_ip_address),
            ("ipAddress", spec.ip_address),
        ]
    };
    let changed = fields(old).into_iter().zip(fields(new));
    let changed = changed.filter(|((_, old), (_, new))| !old.is_empty() && old != new);
    changed.map(|(_, (field, new))| Flaw::new(field.to_owned(), new, &advice)).collect()
}

/// The addresses that an IP object names.
fn named(ip: &Ip) -> impl Iterator<Item = IpAddr> {
    let spec = &ip.spec;
    let texts = [&spec.v4_ip_address, &spec.v6_ip_address, &spec.ip_address].into_iter();
    texts.flat_map(|text| listed::addresses(text).take(FEW))
}

/// Of a field of an IP object and what it says: who has it.
type OfField<'a> = (&'static str, &'a str, Taken);

/// Those of the addresses that it names that somebody else holds.
fn addresses_taken<'a>(
    index: &Index,
    network: &Network,
    ip: &'a Ip,
    whose: &VmKey,
) -> Vec<OfField<'a>> {
    let spec = &ip.spec;
    let fields = [
        ("v4IpAddress", &spec.v4_ip_address),
        ("v6IpAddress", &spec.v6_ip_address),
        ("ipAddress", &spec.ip_address),
    ];
    let taken = fields.into_iter().flat_map(|(field, text)| {
        let taken =
            listed::addresses(text).filter_map(|one| taken::address(index, network, one, whose));
        taken.map(move |why| (field, text.as_str(), why))
    });
    taken.collect()
}

/// That somebody else has the MAC that it names.
fn mac_taken<'a>(index: &Index, network: &Network, ip: &'a Ip) -> Option<OfField<'a>> {
    let text = ip.spec.mac_address.trim();
    let name = ip.name_any();
    let why = taken::mac(index, network, text.parse().ok()?, |port| port == name)?;
    Some(("macAddress", text, why))
}
