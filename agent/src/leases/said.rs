//! What a port's guest is to be told besides its place: the subnet's options, the port's
//! own in their place, and the VM's.

use crds::annotations::{self, DHCP_V4_OPTIONS, DHCP_V6_OPTIONS};
use crds::kubevirt::VirtualMachineInstance;
use kube::ResourceExt as _;
use net::options::{Fault, Guest, Ra, V4, V6};

use super::{Allocated, Facts};

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
        let Facts { subnet, allocated, interface, defaults, .. } = facts;
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
        if v4.domain.is_none() && v4.search.is_empty() {
            v4.search = cluster_domains(allocated.vmi, &defaults.domain);
            v4.domain = v4.search.first().cloned();
        }
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
        if ra.encrypted_dns.is_empty() {
            ra.encrypted_dns.extend(v6.encrypted_dns.clone());
        }
        Self { v4, v6, ra, faults }
    }
}

fn key(allocated: &Allocated<'_>, field: &str) -> String {
    format!("annotation {}", annotations::key(allocated.provider, field))
}

/// Where a guest looks for the names of its cluster, as KubeVirt has it: among those of its
/// subdomain, of its namespace, of all services, of the cluster.
fn cluster_domains(vmi: &VirtualMachineInstance, cluster: &str) -> Vec<String> {
    if cluster.is_empty() {
        return Vec::new();
    }
    let namespace = format!("{}.svc.{cluster}", vmi.namespace().unwrap_or_default());
    let subdomain = vmi.spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty());
    let own = subdomain.map(|subdomain| format!("{subdomain}.{namespace}"));
    let all = [namespace, format!("svc.{cluster}"), cluster.to_owned()];
    own.into_iter().chain(all).collect()
}
