//! Reservations: IP objects that people made, or Kube-OVN. Their addresses are held in
//! nobody's uid until the one that they name is there and takes them over.

use std::net::IpAddr;
use std::sync::Arc;

use crds::annotations;
use crds::kubeovn::Ip;
use ipam::Seconds;
use kube::ResourceExt as _;
use net::{MacAddr, listed, names};

use super::{claimant, mac};
use crate::flaw::{Flaw, told};
use crate::hold;
use crate::ledger::{AddressError, Claimant, VmKey};
use crate::network::Network;
use crate::port_names;
use crate::world::World;

/// Addresses of a field that are looked at: one that names more than one of a family
/// reserves nothing.
const FEW: usize = 3;

/// Claims what IP objects made by people reserve for this VM: the addresses they name,
/// and free ones in families of which they name none. What cannot be had is noted.
pub(super) fn reserve(world: &mut World, key: &VmKey, now: Seconds) {
    let names: Vec<_> = world.ips_of(key).map(|ip| ip.name_any()).collect();
    names.iter().for_each(|name| drop(world.unreserved.remove(name)));
    for (ip, reservation, named) in open_reservations(world, key) {
        let refused = match wrong(world, key, &ip) {
            Some(wrong) => Some(wrong),
            None => match world.ledger.claim(&ip.spec.subnet, &reservation, &named, now) {
                // It is asked for again; a subnet that is there says itself why it is not ready.
                Ok(_) | Err(AddressError::Resting { .. }) => None,
                Err(AddressError::NoSubnet(subnet)) if world.subnets.meta(&subnet).is_some() => {
                    None
                }
                Err(AddressError::NoSubnet(subnet)) => Some(no_subnet(&subnet).to_string()),
                Err(error) => Some(of_field(&ip, &error)),
            },
        };
        if let Some(why) = refused {
            world.unreserved.insert(ip.name_any(), why);
        }
    }
}

/// That an IP object is for a subnet that is not there.
pub(crate) fn no_subnet(subnet: &str) -> Flaw {
    let advice = "no Subnet of that name is in force: create it, or name another";
    Flaw::new("subnet".to_owned(), subnet, advice)
}

/// Why an address cannot be had, said of the field that names it.
fn of_field(ip: &Ip, error: &AddressError) -> String {
    let said = error.to_string();
    let spec = &ip.spec;
    let fields = [
        ("v4IpAddress", &spec.v4_ip_address),
        ("v6IpAddress", &spec.v6_ip_address),
        ("ipAddress", &spec.ip_address),
    ];
    let is_it = |text: &str| {
        listed::addresses(text).take(FEW).any(|one| said.starts_with(&format!("{one} ")))
    };
    match fields.into_iter().find(|(_, text)| is_it(text)) {
        Some((field, text)) => Flaw::new(field.to_owned(), text, said).to_string(),
        None => said,
    }
}

/// Why this object can reserve nothing for `key`, whoever holds its addresses.
fn wrong(world: &World, key: &VmKey, ip: &Ip) -> Option<String> {
    let networks = world.ledger.networks();
    let network = networks.get(&ip.spec.subnet);
    let name = ip.name_any();
    let taken = || {
        let mac = ip.spec.mac_address.trim().parse().ok()?;
        let holder = mac::holder(world, network?, mac, &name)?;
        // Of two reservations neither has it yet.
        let has = world.ips.get(&holder).is_none_or(|other| has_owner(other));
        let told = || Flaw::new("macAddress".to_owned(), mac, mac::used_by(mac, &holder));
        has.then(|| told().to_string())
    };
    let other = || {
        let owner = port_names::other(world, networks, key, &name)?;
        Some(format!("the name {name:?} is that of {owner}: create the object under another"))
    };
    let misnamed = || misnamed(key, ip);
    told(&flaws(ip, network)).or_else(taken).or_else(other).or_else(misnamed)
}

/// That the VM has no port of this object's name, which alone says of which port it is.
pub(crate) fn misnamed(key: &VmKey, ip: &Ip) -> Option<String> {
    let (name, first) = (ip.name_any(), names::port(&key.name, &key.namespace, ""));
    let further = name.strip_prefix(&first).is_some_and(|rest| rest.starts_with('.'));
    (!key.namespace.is_empty() && name != first && !further).then(|| {
        format!(
            "VirtualMachine {key} has no port {name:?}: create the object as {first:?}, \
             or for a further network as \"{first}.<its provider>\""
        )
    })
}

/// What of the addresses and the MAC that an IP object names cannot be, whoever holds what.
pub(crate) fn flaws(ip: &Ip, network: Option<&Network>) -> Vec<Flaw> {
    let spec = &ip.spec;
    let fields = [
        ("v4IpAddress", &spec.v4_ip_address, Some(true)),
        ("v6IpAddress", &spec.v6_ip_address, Some(false)),
        ("ipAddress", &spec.ip_address, None),
    ];
    let of_field = |(field, text, v4): (&str, &String, Option<bool>)| {
        Some(Flaw::new(field.to_owned(), text, of_text(text, v4, network)?))
    };
    let mac = spec.mac_address.trim();
    let is_one = |mac: MacAddr| !mac.is_multicast() && mac.octets() != [0; 6];
    let is_no_mac = !mac.is_empty() && !mac.parse().is_ok_and(is_one);
    let advice = "write a MAC address of one station, such as 02:00:00:00:00:01";
    let of_mac = is_no_mac.then(|| Flaw::new("macAddress".to_owned(), mac, advice));
    let pod = &spec.pod_name;
    let of_nobody = (!pod.is_empty() && !names::is_object_name(pod)).then(|| {
        Flaw::new(
            "podName".to_owned(),
            pod,
            "write the name of a VM, of at most 253 letters, digits, hyphens and dots",
        )
    });
    fields.into_iter().filter_map(of_field).chain(of_mac).chain(of_nobody).collect()
}

/// What to write instead of the first of these addresses that cannot be. More than one
/// of a family nobody has, so that no more than three are looked at.
fn of_text(text: &str, v4: Option<bool>, network: Option<&Network>) -> Option<String> {
    let mut seen: Vec<Option<bool>> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let family = part.parse::<IpAddr>().ok().map(|one| one.is_ipv4());
        if let Some(advice) = advice(part, v4, network) {
            return Some(advice);
        }
        if seen.contains(&family) {
            return Some(match v4 {
                Some(_) => "write one address".to_owned(),
                None => "write one address of each family at most".to_owned(),
            });
        }
        seen.push(family);
    }
    None
}

/// What to write instead of this address.
fn advice(text: &str, v4: Option<bool>, network: Option<&Network>) -> Option<String> {
    let address = text.parse::<IpAddr>().ok();
    let Some(address) = address.filter(|one| v4.is_none_or(|v4| one.is_ipv4() == v4)) else {
        let advice = match v4 {
            Some(true) => "write one IPv4 address, such as 10.0.0.5",
            Some(false) => "write one IPv6 address, such as fd00::5",
            None => "write addresses with a comma between, such as 10.0.0.5,fd00::5",
        };
        return Some(advice.to_owned());
    };
    let Network { cidrs, name, .. } = network?;
    let is_outside = !cidrs.contains(address);
    is_outside.then(|| format!("it is not in {cidrs} of subnet {name:?}: write an address of it"))
}

/// Claims the addresses that they name. What cannot be had is told by [`reserve`].
pub(super) fn reserve_named(world: &mut World, key: &VmKey, now: Seconds) {
    if world.is_unreadable(key) {
        return;
    }
    for (ip, reservation, named) in open_reservations(world, key) {
        if wrong(world, key, &ip).is_some() {
            continue;
        }
        let _ = world.ledger.claim_named(&ip.spec.subnet, &reservation, &named, now);
    }
}

/// The reservations for this VM of which not all is held yet, with the addresses they
/// name.
fn open_reservations(world: &World, key: &VmKey) -> Vec<(Arc<Ip>, Claimant, Vec<IpAddr>)> {
    let mut open = Vec::new();
    for ip in world.ips_of(key).filter(|ip| reserves(ip)) {
        let reservation = claimant(&ip.name_any(), key, "");
        let mut held = world.ledger.held_for(key).into_iter();
        let network = world.ledger.networks().get(&ip.spec.subnet);
        let has = world.ledger.addresses(&ip.spec.subnet, &reservation).len();
        let is_whole = network.is_some_and(|network| has >= network.cidrs.iter().count());
        // By its VM already, or where the object said before.
        let otherwise = held.any(|(one, subnet)| {
            one.port == reservation.port && (!one.uid.is_empty() || subnet != ip.spec.subnet)
        });
        if otherwise || is_whole || network.is_some_and(|network| network.leaving) {
            continue;
        }
        let written = [&ip.spec.v4_ip_address, &ip.spec.v6_ip_address, &ip.spec.ip_address];
        let written = written.into_iter();
        let named = written.flat_map(|text| listed::addresses(text).take(FEW)).collect();
        open.push((Arc::clone(ip), reservation, named));
    }
    open
}

/// A reservation for this port, made before its owner was there, is the owner's now.
pub(super) fn adopt(world: &mut World, subnet: &str, to: &Claimant, now: Seconds) {
    let reservation = Claimant { uid: String::new(), ..to.clone() };
    if world.ledger.addresses(subnet, to).is_empty()
        && !world.ledger.addresses(subnet, &reservation).is_empty()
    {
        world.ledger.adopt(subnet, &reservation, to, now);
    }
}

/// Whether there is an IP object of this name that a person made, for all that
/// can be known: it reserves its addresses.
pub(super) fn is_reservation(world: &World, port: &str) -> bool {
    let port = port.to_owned();
    world.ips.is_unreadable(&port) || world.ips.get(&port).is_some_and(|ip| reserves(ip))
}

/// Whether a person made this IP object, and wants it.
fn reserves(ip: &Ip) -> bool {
    !has_owner(ip) && !hold::is_leaving(&ip.metadata)
}

/// Whether it was written for somebody, by us.
pub(crate) fn has_owner(ip: &Ip) -> bool {
    owner_of(ip).is_some()
}

/// The uid of whom it was written for.
pub(crate) fn owner_of(ip: &Ip) -> Option<&str> {
    ip.annotations().get(annotations::OWNER_UID).map(String::as_str)
}
