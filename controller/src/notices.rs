//! What has no effect on objects that have no condition to say so in: annotations of
//! namespaces and of instances without a VM, fields of IP objects. It is told by an event,
//! once. Pure.

use std::collections::BTreeMap;

use crds::annotations::{self, IP_POOL, LOGICAL_SWITCH};
use crds::kubeovn::Ip;
use crds::kubevirt::VirtualMachineInstance;
use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use kube::{Resource as _, ResourceExt as _};
use net::names;

use crate::decide::has_owner;
use crate::flaw::Flaw;
use crate::network::Network;
use crate::request::{self, Asker};
use crate::warning::Warning;
use crate::world::World;

/// One word for programs.
const REASON: &str = "WithoutEffect";

/// All that is to be told.
#[must_use]
pub fn all(world: &World) -> Vec<Warning> {
    let notice = |about: ObjectReference, message: String| {
        let reason = REASON.to_owned();
        Warning { about, reason, message }
    };
    let networks = world.ledger.networks();
    let of_namespaces = world.namespaces.iter().flat_map(|(_, namespace)| {
        let about = namespace.object_ref(&());
        of_namespace(namespace, networks).into_iter().map(move |text| notice(about.clone(), text))
    });
    let of_ips = world
        .ips
        .iter()
        .filter(|(_, ip)| !has_owner(ip))
        .filter_map(|(_, ip)| of_ip(ip).map(|text| notice(ip.object_ref(&()), text)));
    let of_instances = world.instances.iter().filter_map(|(_, instance)| {
        of_instance(instance).map(|text| notice(instance.object_ref(&()), text))
    });
    of_namespaces.chain(of_ips).chain(of_instances).collect()
}

/// Annotations of Kube-OVN's that say of a namespace what the subnets and pools in force
/// do not: here these list their namespaces, and nothing else does.
#[must_use]
pub fn of_namespace(namespace: &Namespace, networks: &BTreeMap<String, Network>) -> Vec<String> {
    let name = namespace.name_any();
    let lists_it = |field: &str, named: &str| match field {
        LOGICAL_SWITCH => networks.get(named).is_some_and(|one| one.namespaces.contains(&name)),
        _ => {
            let mut pools = networks.values().filter_map(|one| one.pools.get(named));
            pools.any(|pool| pool.namespaces.contains(&name))
        }
    };
    let mut told = Vec::new();
    for (field, kind) in [(LOGICAL_SWITCH, "Subnet"), (IP_POOL, "IPPool")] {
        let key = annotations::key(names::DEFAULT_PROVIDER, field);
        let Some(text) = namespace.annotations().get(&key) else { continue };
        let mut named = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        if let Some(other) = named.find(|one| !lists_it(field, one)) {
            told.push(format!(
                "annotation {key} is {:?} and has no effect: list {name:?} in spec.namespaces of {kind} {:?}",
                net::shown(text),
                net::shown(other)
            ));
        }
    }
    told
}

/// Fields of an IP object that a person made which reserve nothing.
#[must_use]
pub fn of_ip(ip: &Ip) -> Option<String> {
    let fields = [
        ("attachSubnets", &ip.spec.attach_subnets),
        ("attachIps", &ip.spec.attach_ips),
        ("attachMacs", &ip.spec.attach_macs),
    ];
    let (field, values) = fields.into_iter().find(|(_, values)| !values.is_empty())?;
    let advice = "it has no effect: make an IP object for each network of the VM, of the name <vm>.<namespace>.<attachment>.<namespace>.ovn";
    Some(Flaw::new(field.to_owned(), values.join(","), advice).to_string())
}

/// Annotations of an instance without a VM that are not served.
#[must_use]
pub fn of_instance(instance: &VirtualMachineInstance) -> Option<String> {
    if instance.owner_references().iter().any(|owner| owner.kind == "VirtualMachine") {
        return None;
    }
    let (name, namespace) = (instance.name_any(), instance.namespace().unwrap_or_default());
    let annotations = instance.annotations();
    let asker = Asker { name: &name, namespace: &namespace, annotations, spec: &instance.spec };
    let mut unserved = request::without_effect(asker, Some(instance));
    // What we write ourselves of a place.
    let ours =
        [annotations::CIDR, annotations::GATEWAY, annotations::ALLOCATED, annotations::IPAM_CLAIM];
    unserved.retain(|key| !ours.iter().any(|field| annotations::is_field(key, field)));
    (!unserved.is_empty())
        .then(|| format!("these annotations have no effect: {}", unserved.join(", ")))
}

#[cfg(test)]
mod tests {
    use crds::kubeovn::{IpSpec, Subnet, SubnetSpec};
    use serde_json::json;

    use super::*;

    #[test]
    fn an_annotation_of_a_namespace_that_no_subnet_or_pool_says_too_is_told() {
        let spec = SubnetSpec {
            cidr_block: "10.0.0.0/24".to_owned(),
            namespaces: vec!["red".to_owned()],
            ..SubnetSpec::default()
        };
        let network = Network::parse(&Subnet::new("lan", spec)).unwrap();
        let networks = [("lan".to_owned(), network)].into();
        let told = |name: &str, field: &str, text: &str| {
            let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name,
                "annotations": {format!("ovn.kubernetes.io/{field}"): text}}}))
            .unwrap();
            of_namespace(&namespace, &networks)
        };
        // As Kube-OVN writes it where the Subnet lists the namespace.
        assert!(told("red", "logical_switch", "lan").is_empty());
        let said = told("blue", "logical_switch", "lan").concat();
        assert!(said.contains(r#"list "blue" in spec.namespaces of Subnet "lan""#), "{said}");
        assert!(told("red", "logical_switch", "lan,dmz").concat().contains(r#"Subnet "dmz""#));
        assert!(told("red", "ip_pool", "few").concat().contains(r#"IPPool "few""#));
    }

    #[test]
    fn a_field_of_an_ip_object_that_reserves_nothing_is_told() {
        let mut ip = Ip::new("web.default", IpSpec::default());
        assert_eq!(of_ip(&ip), None);
        ip.spec.attach_ips = vec!["10.0.0.9".to_owned()];
        let said = of_ip(&ip).unwrap();
        assert!(said.starts_with(r#"spec.attachIps is "10.0.0.9": it has no effect"#), "{said}");
    }

    #[test]
    fn an_annotation_of_an_instance_alone_that_is_not_served_is_told() {
        let instance = |owner: &str| -> VirtualMachineInstance {
            serde_json::from_value(json!({
                "metadata": {"name": "solo", "namespace": "default", "annotations": {
                    "ovn.kubernetes.io/security_groups": "web",
                    "ovn.kubernetes.io/ip_address": "10.0.0.5",
                    "ovn.kubernetes.io/cidr": "10.0.0.0/24",
                    "ovn.kubernetes.io/allocated": "true",
                }, "ownerReferences": [{"apiVersion": "v1", "kind": owner, "name": "a", "uid": "u"}]},
                "spec": {"domain": {"devices": {}}},
            }))
            .unwrap()
        };
        let said = of_instance(&instance("VirtualMachineInstanceReplicaSet")).unwrap();
        assert_eq!(said, "these annotations have no effect: ovn.kubernetes.io/security_groups");
        assert_eq!(of_instance(&instance("VirtualMachine")), None, "its VM says it");
    }
}
