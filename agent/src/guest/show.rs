//! What a guest says of itself, on its object, in KubeVirt's places. Pure.
//!
//! An interface is the guest's by its MAC. The addresses that it was given by us come first
//! and stay, whatever it says: others go by `ipAddress`. What only the guest knows of comes
//! after ours and has no `name`.

use std::net::IpAddr;

use crds::kubevirt::{Condition, ConditionStatus, InstanceInterface, VirtualMachineInstanceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::words::Nic;
use super::{Agent, Facts, Told};

/// The condition that there is an agent.
pub(crate) const CONNECTED: &str = "AgentConnected";
const AGENT: &str = "guest-agent";

/// Shows what is known; what is not known stays as it was. `own` are the interfaces as
/// we know them.
pub(crate) fn show(
    status: &mut VirtualMachineInstanceStatus,
    told: &Told,
    own: Vec<InstanceInterface>,
    now: &Time,
) {
    let before = std::mem::take(&mut status.interfaces);
    match &told.agent {
        None => status.interfaces = with(own, &shown_before(&before)),
        Some(Agent::Absent) => {
            forget(status);
            status.interfaces = own;
        }
        Some(Agent::Connected(facts)) => {
            let Facts { os, nics, frozen } = &**facts;
            Condition::new(CONNECTED, ConditionStatus::True)
                .merge_into(&mut status.conditions, now.clone());
            if let Some(os) = os {
                status.guest_os_info = Some(Box::new(os.clone()));
            }
            status.fs_freeze_status = frozen.then(|| "frozen".to_owned());
            let nics = nics.clone().unwrap_or_else(|| shown_before(&before));
            status.interfaces = with(own, &nics);
        }
    }
}

/// Says nothing more of it: it has no agent, or is gone.
pub(crate) fn forget(status: &mut VirtualMachineInstanceStatus) {
    status.conditions.retain(|one| one.r#type != CONNECTED);
    status.guest_os_info = None;
    status.fs_freeze_status = None;
}

/// What a guest has said of its interfaces, read from where it was shown.
fn shown_before(interfaces: &[InstanceInterface]) -> Vec<Nic> {
    let by_agent = |one: &&InstanceInterface| {
        one.info_source.as_deref().is_some_and(|sources| sources.contains(AGENT))
    };
    let nic = |one: &InstanceInterface| Nic {
        name: one.interface_name.clone().unwrap_or_default(),
        mac: one.mac.as_deref().and_then(|mac| mac.parse().ok()),
        addresses: one.ip_addresses.iter().filter_map(|one| one.parse().ok()).collect(),
    };
    interfaces.iter().filter(by_agent).map(nic).collect()
}

/// Our interfaces, with what the guest says of them, and then its others.
fn with(mut own: Vec<InstanceInterface>, nics: &[Nic]) -> Vec<InstanceInterface> {
    let mut others: Vec<&Nic> = nics.iter().collect();
    for interface in &mut own {
        let mac = interface.mac.as_deref().and_then(|mac| mac.parse().ok());
        let is_it = |nic: &&Nic| nic.mac.is_some() && nic.mac == mac;
        // Bridges and the like bear the MAC of what they are made of.
        let with_address = others.iter().position(|nic| is_it(nic) && !nic.addresses.is_empty());
        let found = with_address.or_else(|| others.iter().position(is_it));
        let Some(nic) = found.map(|at| others.remove(at)) else { continue };
        interface.interface_name = Some(nic.name.clone());
        interface.info_source = Some(format!("domain, {AGENT}"));
        for address in nic.addresses.iter().map(IpAddr::to_string) {
            if !interface.ip_addresses.contains(&address) {
                interface.ip_addresses.push(address);
            }
        }
        interface.ip_address = interface.ip_addresses.first().cloned();
    }
    own.extend(others.into_iter().map(of_guest));
    own
}

/// One that only the guest knows of.
fn of_guest(nic: &Nic) -> InstanceInterface {
    let addresses: Vec<_> = nic.addresses.iter().map(ToString::to_string).collect();
    InstanceInterface {
        mac: nic.mac.map(|mac| mac.to_string()),
        ip_address: addresses.first().cloned(),
        ip_addresses: addresses,
        interface_name: Some(nic.name.clone()),
        info_source: Some(AGENT.to_owned()),
        ..InstanceInterface::default()
    }
}

#[cfg(test)]
mod tests {
    use crds::kubevirt::GuestOsInfo;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn own() -> Vec<InstanceInterface> {
        vec![InstanceInterface {
            name: Some("default".to_owned()),
            mac: Some("0a:58:0a:00:00:05".to_owned()),
            ip_address: Some("10.0.0.5".to_owned()),
            ip_addresses: vec!["10.0.0.5".to_owned()],
            info_source: Some("domain".to_owned()),
            ..InstanceInterface::default()
        }]
    }

    fn nic(name: &str, mac: &str, addresses: &[&str]) -> Nic {
        let addresses = addresses.iter().map(|one| one.parse().unwrap()).collect();
        Nic { name: name.to_owned(), mac: mac.parse().ok(), addresses }
    }

    fn connected(nics: Vec<Nic>) -> Told {
        let os = GuestOsInfo { id: "debian".to_owned(), ..GuestOsInfo::default() };
        let facts = Facts { os: Some(os), nics: Some(nics), frozen: false };
        Told { agent: Some(Agent::Connected(Box::new(facts))), ..Told::default() }
    }

    fn shown(status: &mut VirtualMachineInstanceStatus, told: &Told) {
        show(status, told, own(), &Time(Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn a_guests_interface_is_known_by_its_mac_and_the_rest_is_its_own() {
        let mut status = VirtualMachineInstanceStatus::default();
        let nics = vec![
            nic("br0", "0A:58:0A:00:00:05", &["192.168.7.1", "10.0.0.5"]),
            nic("docker0", "02:42:00:00:00:01", &["172.17.0.1"]),
        ];
        shown(&mut status, &connected(nics));
        assert!(Condition::holds(&status.conditions, CONNECTED));
        assert_eq!(status.guest_os_info.as_ref().unwrap().id, "debian");
        let [first, second] = status.interfaces.as_slice() else {
            panic!("{:?}", status.interfaces)
        };
        assert_eq!(first.name.as_deref(), Some("default"));
        assert_eq!(first.interface_name.as_deref(), Some("br0"));
        assert_eq!(first.info_source.as_deref(), Some("domain, guest-agent"));
        assert_eq!(first.ip_address.as_deref(), Some("10.0.0.5"), "what it was given comes first");
        assert_eq!(first.ip_addresses, ["10.0.0.5", "192.168.7.1"]);
        assert_eq!((second.name.as_deref(), second.info_source.as_deref()), (None, Some(AGENT)));
    }

    #[test]
    fn what_is_not_known_yet_leaves_everything_as_it_was() {
        let mut status = VirtualMachineInstanceStatus::default();
        let nics = vec![
            nic("eth0", "0a:58:0a:00:00:05", &["10.0.0.5", "10.0.0.6"]),
            nic("tun0", "", &["172.17.0.1"]),
        ];
        shown(&mut status, &connected(nics));
        let before = status.clone();
        shown(&mut status, &Told::default());
        assert_eq!(status, before);
        let silent = Facts::default();
        shown(
            &mut status,
            &Told { agent: Some(Agent::Connected(Box::new(silent))), ..Told::default() },
        );
        assert_eq!(status, before);
    }

    #[test]
    fn of_a_guest_without_an_agent_only_what_we_know_is_shown() {
        let mut status = VirtualMachineInstanceStatus::default();
        shown(&mut status, &connected(vec![nic("tun0", "", &["172.17.0.1"])]));
        shown(&mut status, &Told { agent: Some(Agent::Absent), ..Told::default() });
        assert_eq!(
            status,
            VirtualMachineInstanceStatus {
                interfaces: own(),
                ..VirtualMachineInstanceStatus::default()
            }
        );
    }
}
