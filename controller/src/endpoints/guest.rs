//! A VM as an endpoint: as much of its instance as Services ask for. There are many.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crds::annotations;
use crds::kubevirt::{Condition, VirtualMachineInstance};
use kube::ResourceExt as _;

use crate::world::node_of;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Guest {
    pub(super) uid: String,
    pub(super) labels: BTreeMap<String, String>,
    /// Of its first network, one of each family at most.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) node: String,
    pub(super) ready: bool,
    /// It is being stopped.
    pub(super) leaves: bool,
    /// The names of ports that it serves: name, protocol, number.
    pub(super) ports: Vec<(String, String, u16)>,
    /// The name that it has within a headless Service, and that Service's.
    pub(super) hostname: Option<(String, String)>,
}

impl Guest {
    /// What can be reached of this instance; nothing of one without a place, or that has ended.
    pub(super) fn of(vmi: &VirtualMachineInstance) -> Option<Self> {
        if vmi.phase().is_final() {
            return None;
        }
        let node = node_of(vmi)?.to_owned();
        let noted = annotations::key(net::names::DEFAULT_PROVIDER, annotations::IP_ADDRESS);
        let addresses: Vec<IpAddr> = vmi
            .annotations()
            .get(&noted)?
            .split(',')
            .filter_map(|one| one.trim().parse().ok())
            .collect();
        let status = vmi.status.as_ref();
        let interfaces = vmi.spec.domain.devices.interfaces.iter();
        let ports = interfaces.flat_map(|one| &one.ports).filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((port.name.clone()?, protocol, port.port))
        });
        let subdomain = vmi.spec.subdomain.clone().filter(|name| !name.is_empty());
        let hostname = || vmi.spec.hostname.clone().unwrap_or_else(|| vmi.name_any());
        (!addresses.is_empty()).then(|| Self {
            uid: vmi.uid().unwrap_or_default(),
            labels: vmi.labels().clone(),
            addresses,
            node,
            ready: status.is_some_and(|status| Condition::holds(&status.conditions, "Ready")),
            leaves: vmi.metadata.deletion_timestamp.is_some(),
            ports: ports.collect(),
            hostname: subdomain.map(|subdomain| (hostname(), subdomain)),
        })
    }

    /// The number of the port of that name.
    pub(super) fn port(&self, name: &str, protocol: &str) -> Option<u16> {
        let named = self.ports.iter().find(|(has, by, _)| has == name && by == protocol);
        named.map(|(_, _, number)| *number)
    }
}
