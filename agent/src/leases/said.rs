//! What a port's guest is to be told besides its place: the subnet's options, the port's
//! own in their place, and the VM's.

use crds::annotations::{self, DHCP_V4_OPTIONS, DHCP_V6_OPTIONS};
use crds::kubevirt::VirtualMachineInstance;
use kube::ResourceExt as _;
use net::options::{Fault, Guest, Ra, V4, V6};

use super::{Allocated, Facts};

/// The domain of what a cluster's own DNS serves.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// All options of one port.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) v4: V4,
    pub(super) v6: V6,
    pub(super) ra: Ra,
    /// What the VM itself says and cannot be. What the subnet says and cannot be is told there.
    pub(super) faults: Vec<String>,
}

impl Said {
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        let Facts { subnet, allocated, interface, .. } = facts;
        let spec = &subnet.spec;
        let mut faults = Vec::new();
        let own = |field: &str| allocated.get(field).map(|text| (key(allocated, field), text));
        let mut told = |key: &str, found: Vec<Fault>| {
            faults.extend(found.iter().map(|fault| format!("{key}: {fault}")));
        };
        let mut v4 = match own(DHCP_V4_OPTIONS) {
            None => V4::parse(&spec.dhcp_v4_options).0,
            Some((key, text)) => {
                let (v4, found) = V4::parse(text);
                told(&key, found);
                v4
            }
        };
        let mut v6 = match own(DHCP_V6_OPTIONS) {
            None => V6::parse(&spec.dhcp_v6_options).0,
            Some((key, text)) => {
                let (v6, found) = V6::parse(text);
                told(&key, found);
                v6
            }
        };
        if let Some(options) = &interface.dhcp_options {
            let guest = Guest {
                boot_file: options.boot_file_name.as_deref(),
                tftp_server: options.tftp_server_name.as_deref(),
                ntp_servers: options.ntp_servers.iter().map(String::as_str).collect(),
                private: options
                    .private_options
                    .iter()
                    .map(|one| (one.option, one.value.as_str()))
                    .collect(),
            };
            let key = format!("dhcpOptions of interface {:?}", interface.name);
            told(&key, guest.put_into(&mut v4));
        }
        v4.domain = v4.domain.or_else(|| domain(allocated.vmi));
        if v6.search.is_empty() {
            v6.search = if v4.search.is_empty() {
                v4.domain.iter().cloned().collect()
            } else {
                v4.search.clone()
            };
        }
        let (mut ra, _) = Ra::parse(&spec.ipv6_ra_configs);
        if ra.rdnss.is_empty() {
            ra.rdnss.clone_from(&v6.dns);
        }
        if ra.dnssl.is_empty() {
            ra.dnssl.clone_from(&v6.search);
        }
        Self { v4, v6, ra, faults }
    }
}

fn key(allocated: &Allocated<'_>, field: &str) -> String {
    format!("annotation {}", annotations::key(allocated.provider, field))
}

/// The domain in which a cluster's DNS knows a VM that has a subdomain, as KubeVirt.
fn domain(vmi: &VirtualMachineInstance) -> Option<String> {
    let subdomain = vmi.spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty())?;
    Some(format!("{subdomain}.{}.svc.{CLUSTER_DOMAIN}", vmi.namespace().unwrap_or_default()))
}
