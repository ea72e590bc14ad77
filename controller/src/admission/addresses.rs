//! IPPools, Vips, and IP objects that people make.

use crds::kubeovn::{Ip, IpPool, Vip};
use kube::ResourceExt as _;
use net::listed;

use super::taken::{self, Taken};
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
    let taken = asked.addresses.iter().filter_map(|address| {
        let field = if address.is_ipv4() { "v4ip" } else { "v6ip" };
        let why = taken::address(index, asked.network, *address, &own)?;
        let said = |why| told(field, &address.to_string(), why);
        Some(match why {
            Taken::ForGood(why) => Taken::ForGood(said(why)),
            Taken::ForNow(why) => Taken::ForNow(said(why)),
        })
    });
    let (refusal, waits) = Taken::sorted(taken);
    Findings { refusal, flaws, waits }
}

fn told(field: &str, value: &str, why: String) -> String {
    Flaw::new(field.to_owned(), value, why).to_string()
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
    if network.is_none() {
        let advice = "no Subnet of that name is in force: create it, or name another";
        found.waits.push(Flaw::new("subnet".to_owned(), &spec.subnet, advice).to_string());
    }
    found
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
