//! Which MAC a port has: the one that its template names, the one that it has had,
//! or one derived from who it is.
//!
//! A MAC is one port's in its VPC, and never the router's, nor that of a Vip which the port
//! does not borrow. Who has it is found in the indices of IP objects and Vips by MAC, and in
//! what this round has decided already. While an instance is there its ports keep the MACs
//! that they were given: the guest knows no other. It and the IP object both say which that
//! is, so that an edit of one of the two is seen, and which of them was edited is seen by who
//! could have had that MAC. Of a VM that is stopped the IP object says it, in the note that
//! was written with it ([`crate::objects::mac_of`]).

use crds::annotations;
use crds::kubeovn::Subnet;
use kube::ResourceExt as _;
use net::{MacAddr, listed};

use super::{has_owner, is_placed, owned_by, owner_uid};
use crate::ledger::Claimant;
use crate::network::Network;
use crate::objects::mac_of;
use crate::request::{Lender, Request};
use crate::vips;
use crate::world::World;

/// Why the port of `request` cannot have the MAC that its template or its
/// reservation names. One that nobody else has is taken for it.
pub(super) fn refusal(world: &mut World, request: &Request) -> Option<String> {
    let reservation = world.ips.get(&request.port).filter(|ip| !has_owner(ip));
    let reserved = || reservation.and_then(|ip| ip.spec.mac_address.trim().parse().ok());
    let mac = named(world, request).or_else(reserved)?;
    let network = world.ledger.networks().get(&request.subnet)?;
    let vpc = network.vpc.clone();
    let routers = || {
        let mut in_vpc = world.ledger.networks().values().filter(|one| one.vpc == vpc);
        in_vpc.find(|one| is_router_of(world, one, mac)).map(gateway_of)
    };
    let of_vip = || {
        let lender = match &request.lender {
            Some(Lender::Vip(name)) => Some(name.as_str()),
            Some(Lender::Claim(_)) | None => None,
        };
        vips::holder_of_mac(world, network, mac, lender)
    };
    let holder = holder(world, network, mac, &request.port).or_else(routers).or_else(of_vip);
    let holder = holder.or_else(|| world.expect_mac(&vpc, mac, &request.port))?;
    Some(used_by(mac, &holder))
}

/// That somebody else has it.
pub(crate) fn used_by(mac: MacAddr, holder: &str) -> String {
    format!("MAC address {mac} is used by {holder} in the same vpc: choose another")
}

/// The router's port on this subnet, as a holder.
pub(crate) fn gateway_of(network: &Network) -> String {
    format!("the gateway of subnet {}", network.name)
}

/// The MAC of a port for a new start: the one named, the one that it has had unless
/// somebody else has it where the port has moved to, else a new one.
pub(super) fn at_start(
    world: &World,
    request: &Request,
    claimant: &Claimant,
    network: &Network,
) -> MacAddr {
    let is_free = |mac: &MacAddr| {
        // Whoever else says that it is his has it from a hand-written IP object.
        is_own(world, claimant, network, *mac)
            || holder(world, network, *mac, &claimant.port).is_none()
    };
    let had = || had(world, claimant, network).filter(is_free);
    let had = || had().filter(|_| !is_lenders(world, claimant));
    named(world, request).or_else(had).unwrap_or_else(|| fresh(world, claimant, network))
}

/// The MAC that the template names, itself or by the Vip that it names.
pub(super) fn named(world: &World, request: &Request) -> Option<MacAddr> {
    let lent = || match &request.lender {
        Some(Lender::Vip(name)) => vips::lent_mac(world, name),
        Some(Lender::Claim(_)) | None => None,
    };
    request.mac.or_else(lent)
}

/// Whether the MAC that the port has had is that of a Vip, with whose addresses it came.
fn is_lenders(world: &World, claimant: &Claimant) -> bool {
    world.ips.get(&claimant.port).is_some_and(|ip| {
        let lender = |one| world.ledger.lender(&ip.spec.subnet, claimant, one);
        listed::addresses(&ip.spec.ip_address)
            .any(|address| lender(address).is_some_and(|lender| lender.vm.vip().is_some()))
    })
}

/// The MAC of a port as it is. Of one that is only reserved yet it is what was `named` for
/// it; a new one only if nobody knows of any.
pub(super) fn kept(
    world: &World,
    claimant: &Claimant,
    network: &Network,
    named: Option<MacAddr>,
) -> MacAddr {
    let had = had(world, claimant, network);
    had.or(named).unwrap_or_else(|| fresh(world, claimant, network))
}

/// What its instance was given and its IP object says. Of two that differ one was
/// edited: not the one that the port could have by itself; or, where it could have
/// neither (it came with a reservation, a Vip, or from Kube-OVN), that of the object,
/// unless the guest's node says otherwise.
fn had(world: &World, claimant: &Claimant, network: &Network) -> Option<MacAddr> {
    let key = annotations::key(claimant.provider(), annotations::MAC_ADDRESS);
    let running = world.instances.get(&claimant.vm);
    let running = running.filter(|one| owner_uid(one).as_deref() == Some(&claimant.uid));
    let given = running.filter(|one| is_placed(one)).and_then(|one| one.annotations().get(&key));
    let ip = world.ips.get(&claimant.port);
    let ip = ip.filter(|ip| owned_by(ip, &claimant.uid) || !has_owner(ip));
    let said = ip.and_then(|ip| mac_of(ip));
    let given = given.and_then(|text| text.trim().parse().ok());
    let is_own = |mac: &MacAddr| is_own(world, claimant, network, *mac);
    let interfaces = running.iter().flat_map(|one| one.status.iter());
    let interfaces = interfaces.flat_map(|status| &status.interfaces);
    let seen: Vec<MacAddr> = interfaces.filter_map(|one| one.mac.as_ref()?.parse().ok()).collect();
    let is_seen =
        |mac: &MacAddr| seen.contains(mac) && given.is_none_or(|given| !seen.contains(&given));
    let by_right = given.filter(is_own).or_else(|| said.filter(is_own));
    by_right.or_else(|| said.filter(is_seen)).or(given).or(said)
}

/// Whether the port could have this MAC by itself: derived for it, or named in the
/// template of its VM.
fn is_own(world: &World, claimant: &Claimant, network: &Network, mac: MacAddr) -> bool {
    let is_it = |text: &String| text.trim().parse() == Ok(mac);
    let template = world.machines.get(&claimant.vm).map(|vm| &vm.spec.template);
    let interfaces = template.iter().flat_map(|one| &one.spec.domain.devices.interfaces);
    let mut in_fields = interfaces.filter_map(|interface| interface.mac_address.as_ref());
    let notes = template.and_then(|one| one.metadata.as_ref()?.annotations.as_ref());
    let key = annotations::key(claimant.provider(), annotations::MAC_ADDRESS);
    (0..FIRST_ATTEMPTS).any(|attempt| derived(claimant, network, attempt) == mac)
        || in_fields.any(is_it)
        || notes.and_then(|notes| notes.get(&key)).is_some_and(is_it)
}

/// More of one port's derived MACs than are ever in use elsewhere.
const FIRST_ATTEMPTS: u32 = 4;

/// Derived from VPC, port and uid, so that it is the same however often it is
/// asked for; the attempt number steps over one that is in use.
fn fresh(world: &World, claimant: &Claimant, network: &Network) -> MacAddr {
    (0_u32..)
        .map(|attempt| derived(claimant, network, attempt))
        .find(|mac| holder(world, network, *mac, &claimant.port).is_none())
        .expect("there are more addresses than ports")
}

fn derived(claimant: &Claimant, network: &Network, attempt: u32) -> MacAddr {
    let attempt = attempt.to_string();
    MacAddr::derived_from(&[&network.vpc, &claimant.port, &claimant.uid, &attempt])
}

/// Who has this MAC in the VPC of `network`, other than `port`.
pub(crate) fn holder(world: &World, network: &Network, mac: MacAddr, port: &str) -> Option<String> {
    if is_router_of(world, network, mac) {
        return Some(gateway_of(network));
    }
    let in_vpc = |subnet: &str| {
        world.ledger.networks().get(subnet).is_some_and(|other| other.vpc == network.vpc)
    };
    let here = |other: &&str| {
        world.ips.get(&(*other).to_owned()).is_some_and(|ip| in_vpc(&ip.spec.subnet))
    };
    let expected = || world.expected_mac(&network.vpc, mac).filter(|other| *other != port);
    world.others_with_mac(mac, port).find(here).or_else(expected).map(str::to_owned)
}

fn is_router_of(world: &World, network: &Network, mac: MacAddr) -> bool {
    is_routers(world.subnets.get(&network.name).map(|subnet| &**subnet), network, mac)
}

/// Whether the router's port on this subnet has it: by its making, or as the subnet
/// says of a port that was made before.
pub(crate) fn is_routers(subnet: Option<&Subnet>, network: &Network, mac: MacAddr) -> bool {
    let said = subnet.and_then(|subnet| subnet.status.as_ref()).map(|one| &one.gateway_mac);
    network.router_mac() == mac || said.is_some_and(|text| text.parse() == Ok(mac))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::tests::{decided, key, put, started, vm, world};
    use super::*;
    use crate::objects;

    fn with_mac(name: &str, mac: &str) -> crds::kubevirt::VirtualMachine {
        let mut vm = vm(name, name, "Always", None);
        vm.spec.template.metadata.as_mut().unwrap().annotations =
            Some([("ovn.kubernetes.io/mac_address".to_owned(), mac.to_owned())].into());
        vm
    }

    fn network(world: &World) -> Network {
        world.ledger.networks()["s"].clone()
    }

    fn of(name: &str) -> Claimant {
        Claimant { port: format!("{name}.default"), vm: key(name), uid: name.to_owned() }
    }

    /// An IP object of somebody else with this MAC.
    fn ip(name: &str, subnet: &str, mac: &str) -> crds::kubeovn::Ip {
        serde_json::from_value(json!({
            "apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": { "name": name },
            "spec": { "podName": name, "namespace": "default", "subnet": subnet, "macAddress": mac },
        }))
        .unwrap()
    }

    #[test]
    fn a_generated_mac_steps_over_one_in_use_and_is_the_same_each_time() {
        let mut world = world();
        let network = network(&world);
        let first = fresh(&world, &of("web"), &network);
        assert_eq!(fresh(&world, &of("web"), &network), first);
        assert!(!first.is_multicast() && first.octets()[0] & 2 == 2, "{first} is not local");
        let taken = first.to_string().to_uppercase();
        world.put_ip(ip("other.default", "s", &taken));
        let second = fresh(&world, &of("web"), &network);
        assert_eq!(second, derived(&of("web"), &network, 1));
        world.expect_mac("v", second, "third.default");
        assert_eq!(fresh(&world, &of("web"), &network), derived(&of("web"), &network, 2));
    }

    #[test]
    fn a_mac_of_another_vpc_is_no_collision() {
        let mut world = world();
        world.put_ip(ip("other.default", "elsewhere", "02:00:00:00:00:01"));
        put(&mut world, with_mac("web", "02:00:00:00:00:01"));
        assert!(decided(&mut world, "web").create.is_some());
    }

    #[test]
    fn the_gateways_mac_is_refused_also_one_from_an_earlier_making() {
        let mut world = world();
        let mut subnet = Arc::unwrap_or_clone(Arc::clone(world.subnets.get(&"s".into()).unwrap()));
        subnet.status = Some(crds::kubeovn::SubnetStatus {
            gateway_mac: "02:00:00:00:00:fe".to_owned(),
            ..Default::default()
        });
        subnet.metadata.resource_version = Some("9".to_owned());
        world.put_subnet(subnet);
        for mac in [network(&world).router_mac().to_string(), "02:00:00:00:00:fe".to_owned()] {
            put(&mut world, with_mac("web", &mac));
            let message = decided(&mut world, "web").trouble.unwrap().message;
            assert!(message.contains("used by the gateway of subnet s"), "{message}");
            remove_all(&mut world);
        }
    }

    fn remove_all(world: &mut World) {
        let vms: Vec<_> = world.machines.iter().map(|(_, vm)| vm.as_ref().clone()).collect();
        vms.into_iter().for_each(|vm| super::super::tests::remove(world, vm));
    }

    #[test]
    fn a_mac_that_the_template_names_is_the_vms_before_it_first_starts() {
        let mut world = world();
        for address in [None, Some("10.0.0.5")] {
            let mut halted = with_mac("web", "02:00:00:00:00:01");
            halted.spec.run_strategy = Some(crds::kubevirt::RunStrategy::Halted);
            let notes = halted.spec.template.metadata.as_mut().unwrap().annotations.as_mut();
            let address =
                address.map(|one: &str| ("ovn.kubernetes.io/ip_address".into(), one.into()));
            notes.unwrap().extend(address);
            put(&mut world, halted);
            let decision = decided(&mut world, "web");
            assert!(decision.create.is_none());
            assert_eq!(decision.ports[0].mac.to_string(), "02:00:00:00:00:01");
            world.put_ip(objects::ip(&decision.ports[0]));
            put(&mut world, with_mac("late", "02:00:00:00:00:01"));
            let message = decided(&mut world, "late").trouble.unwrap().message;
            assert!(message.contains("is used by web.default"), "{message}");
            world = super::super::tests::world();
        }
    }

    #[test]
    fn the_mac_of_no_router_of_the_vpc_is_a_guests_whichever_subnet_it_is_on() {
        let mut world = world();
        let mut other: Subnet = world.subnets.get(&"s".into()).unwrap().as_ref().clone();
        other.metadata.name = Some("t".to_owned());
        other.spec.cidr_block = "10.0.9.0/29".to_owned();
        other.metadata.resource_version = Some("9".to_owned());
        world.put_subnet(other);
        decided(&mut world, "web");
        let router = world.ledger.networks()["t"].router_mac().to_string();
        put(&mut world, with_mac("web", &router));
        let message = decided(&mut world, "web").trouble.unwrap().message;
        assert!(message.contains("used by the gateway of subnet t"), "{message}");
    }

    #[test]
    fn a_reservations_mac_is_not_given_twice_either() {
        let mut world = world();
        put(&mut world, with_mac("web", "02:00:00:00:00:01"));
        let web = started(&mut world, "web");
        world.put_ip(objects::ip(&web.ports[0]));
        world.put_ip(ip("late.default", "s", "02:00:00:00:00:01"));
        let mut reserved = ip("late.default", "s", "02:00:00:00:00:01");
        reserved.spec.pod_name = "late".to_owned();
        reserved.metadata.resource_version = Some("3".to_owned());
        world.put_ip(reserved);
        put(&mut world, vm("late", "late", "Always", None));
        let message = decided(&mut world, "late").trouble.unwrap().message;
        assert!(message.contains("is used by web.default"), "{message}");
    }

    #[test]
    fn a_stopped_vms_mac_stays_its_own_whatever_its_ip_object_says() {
        for named in [None, Some("02:00:00:00:00:01")] {
            let mut world = world();
            let of_template = named.map(|mac| with_mac("web", mac));
            put(&mut world, of_template.unwrap_or_else(|| vm("web", "web", "Always", None)));
            let first = started(&mut world, "web");
            super::super::tests::committed(&mut world);
            let mut edited = objects::ip(&first.ports[0]);
            world.put_ip(edited.clone());
            super::super::tests::gone(&mut world, "web");
            edited.spec.mac_address = "02:00:00:00:00:99".to_owned();
            edited.metadata.resource_version = Some("9".to_owned());
            world.put_ip(edited);
            let own = first.ports[0].mac;
            put(&mut world, with_mac("thief", &own.to_string()));
            let told = decided(&mut world, "thief").trouble.unwrap().message;
            assert!(told.contains("is used by web.default"), "{told}");
            let again = started(&mut world, "web");
            assert_eq!(again.ports[0].mac, own, "{named:?}");
            let ip = world.ips.get(&"web.default".to_owned()).unwrap();
            assert!(!objects::ip_is_current(ip, &objects::ip(&again.ports[0])), "it is put back");
        }
    }
}
