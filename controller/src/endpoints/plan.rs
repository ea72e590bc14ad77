//! Which EndpointSlices a Service should have of us, and what is missing for that. Pure.
//!
//! One slice for each family, for each set of port numbers (a port's name may mean another
//! number in each guest), and for each hundred guests. A guest stays in the slice that it
//! is in, so that one that comes or goes changes one slice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource as _, ResourceExt as _};
use ring::digest::{SHA256, digest};

use super::guest::Guest;

/// Kubernetes' label of who keeps a slice.
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// What it says of ours.
pub(super) const MANAGER: &str = "berth-controller";
/// Kubernetes' label of the Service that a slice is of.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Kubernetes' label of slices of a Service without an address of its own.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// kube-controller-manager's `--max-endpoints-per-slice`.
const PER_SLICE: usize = 100;

/// One thing that is missing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Make(Box<EndpointSlice>),
    Change(Box<EndpointSlice>),
    Remove { name: String, uid: String },
}

/// What makes two guests fit into one slice: family, and ports in the order of the Service's.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Group {
    v6: bool,
    /// Name, protocol, number, application protocol.
    ports: Vec<(String, String, u16, Option<String>)>,
}

/// Whether the Service asks for who has these labels.
pub(super) fn selects(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    let spec = service.spec.as_ref();
    let selector = spec.and_then(|spec| spec.selector.as_ref()).filter(|all| !all.is_empty());
    let is_name = spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"));
    !is_name
        && selector.is_some_and(|all| all.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// That a slice is to go.
pub(super) fn removal(slice: &EndpointSlice) -> Write {
    Write::Remove { name: slice.name_any(), uid: slice.uid().unwrap_or_default() }
}

/// What is to be written, so that the Service has of these guests (all of its namespace, by
/// name) what it asks for. `have`: its slices that are ours.
pub(super) fn plan<'a>(
    service: &Service,
    guests: impl Iterator<Item = (&'a str, &'a Guest)>,
    zones: &BTreeMap<String, String>,
    have: &[&EndpointSlice],
) -> Vec<Write> {
    let mut groups: BTreeMap<Group, BTreeMap<&str, Endpoint>> = BTreeMap::new();
    for (name, guest) in guests.filter(|(_, guest)| selects(service, &guest.labels)) {
        for (v6, address) in served(service, guest) {
            let endpoint = endpoint(service, name, guest, address, zones);
            let group = Group { v6, ports: ports(service, guest) };
            groups.entry(group).or_default().insert(name, endpoint);
        }
    }
    let mut have: Vec<_> = have.to_vec();
    have.sort_by_key(|slice| slice.name_any());
    let mut writes = Vec::new();
    let mut kept = BTreeSet::new();
    for (group, endpoints) in groups {
        let stem = stem(service, &group);
        let of_it = have.iter().filter(|slice| slice.name_any().starts_with(&stem));
        let filled = fill(&stem, endpoints, of_it.copied());
        for (name, endpoints) in filled {
            kept.insert(name.clone());
            let slice = slice(service, &group, &name, endpoints);
            match have.iter().find(|one| one.name_any() == name) {
                None => writes.push(Write::Make(Box::new(slice))),
                Some(old) => writes.extend(change(old, slice)),
            }
        }
    }
    let outlived = have.into_iter().filter(|slice| !kept.contains(&slice.name_any()));
    writes.extend(outlived.map(removal));
    writes
}

/// Distributes endpoints over slices: each into the one that it is in, the others to where
/// there is room, by the names of the slices.
fn fill<'a>(
    stem: &str,
    mut endpoints: BTreeMap<&str, Endpoint>,
    have: impl Iterator<Item = &'a EndpointSlice>,
) -> BTreeMap<String, Vec<Endpoint>> {
    let mut slices: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
    for slice in have {
        let named = |one: &Endpoint| one.target_ref.as_ref().and_then(|at| at.name.clone());
        let names = slice.endpoints.iter().filter_map(named);
        let stay = names.filter_map(|name| endpoints.remove(name.as_str()));
        slices.insert(slice.name_any(), stay.collect());
    }
    let mut number = 0;
    for (_, endpoint) in endpoints {
        while slices.get(&format!("{stem}{number}")).is_some_and(|all| all.len() >= PER_SLICE) {
            number += 1;
        }
        slices.entry(format!("{stem}{number}")).or_default().push(endpoint);
    }
    slices.retain(|_, all| !all.is_empty());
    slices
}

/// The slice as it should be, if it is not.
fn change(old: &EndpointSlice, mut slice: EndpointSlice) -> Option<Write> {
    let mut labels = old.labels().clone();
    labels.extend(slice.labels().clone());
    let is_same = old.endpoints == slice.endpoints
        && old.ports == slice.ports
        && *old.labels() == labels
        && old.metadata.owner_references == slice.metadata.owner_references;
    if is_same {
        return None;
    }
    let owner_references = slice.metadata.owner_references.take();
    slice.metadata = ObjectMeta { labels: Some(labels), owner_references, ..old.metadata.clone() };
    Some(Write::Change(Box::new(slice)))
}

/// The families in which the Service is served, and the guest's address of each. An API
/// that fills in none means what Kubernetes means by that: IPv4, or both where that is asked for.
fn served(service: &Service, guest: &Guest) -> impl Iterator<Item = (bool, IpAddr)> {
    let spec = service.spec.as_ref();
    let families = spec.and_then(|spec| spec.ip_families.clone()).filter(|all| !all.is_empty());
    let policy = spec.and_then(|spec| spec.ip_family_policy.as_deref()).unwrap_or_default();
    let dual = policy.ends_with("DualStack");
    let wanted = move |v6: bool| match &families {
        Some(families) => families.iter().any(|one| one == if v6 { "IPv6" } else { "IPv4" }),
        None => dual || !v6,
    };
    let addresses = guest.addresses.clone().into_iter();
    addresses.map(|one| (one.is_ipv6(), one)).filter(move |(v6, _)| wanted(*v6))
}

fn ports(service: &Service, guest: &Guest) -> Vec<(String, String, u16, Option<String>)> {
    let listed = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let number = |port: &ServicePort, protocol: &str| match &port.target_port {
        Some(IntOrString::String(name)) => guest.port(name, protocol),
        Some(IntOrString::Int(number)) if *number != 0 => u16::try_from(*number).ok(),
        _ => u16::try_from(port.port).ok(),
    };
    let port = |port: &ServicePort| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        let number = number(port, &protocol)?;
        Some((port.name.clone().unwrap_or_default(), protocol, number, port.app_protocol.clone()))
    };
    listed.filter_map(port).collect()
}

fn endpoint(
    service: &Service,
    name: &str,
    guest: &Guest,
    address: IpAddr,
    zones: &BTreeMap<String, String>,
) -> Endpoint {
    let spec = service.spec.as_ref();
    let unready = spec.and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let hostname = guest.hostname.as_ref().filter(|(_, of)| *of == service.name_any());
    Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(unready || (guest.ready && !guest.leaves)),
            serving: Some(guest.ready),
            terminating: Some(guest.leaves),
        }),
        hostname: hostname.map(|(hostname, _)| hostname.clone()),
        node_name: Some(guest.node.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("VirtualMachineInstance".to_owned()),
            namespace: service.namespace(),
            name: Some(name.to_owned()),
            uid: Some(guest.uid.clone()),
            ..ObjectReference::default()
        }),
        zone: zones.get(&guest.node).cloned(),
        ..Endpoint::default()
    }
}

/// How the names of a group's slices begin; a number ends them. That of a Service has 63
/// characters at most.
fn stem(service: &Service, group: &Group) -> String {
    let family = if group.v6 { "v6" } else { "v4" };
    let digest = digest(&SHA256, format!("{:?}", group.ports).as_bytes());
    let digest: String = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-vms-{family}-{digest}-", service.name_any())
}

fn slice(service: &Service, group: &Group, name: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut labels = BTreeMap::from([
        (SERVICE_NAME.to_owned(), service.name_any()),
        (MANAGED_BY.to_owned(), MANAGER.to_owned()),
    ]);
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    if address == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let port =
        |(name, protocol, number, app): &(String, String, u16, Option<String>)| EndpointPort {
            name: Some(name.clone()),
            protocol: Some(protocol.clone()),
            port: Some(i32::from(*number)),
            app_protocol: app.clone(),
        };
    EndpointSlice {
        address_type: if group.v6 { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints,
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: service.controller_owner_ref(&()).map(|one| vec![one]),
            ..ObjectMeta::default()
        },
        ports: Some(group.ports.iter().map(port).collect()),
    }
}

#[cfg(test)]
mod tests;
