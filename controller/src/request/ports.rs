//! Which port each network of a VM is, and by which annotations it is spoken of.
//!
//! ```text
//!  pod network                          ovn                            web.default
//!  an attachment                        net2.default.ovn               web.default.net2.default.ovn
//!  another network of the attachment    net2.default.ovn.<network>     web.default.net2.default.ovn.<network>
//!  one that Kube-OVN has named          net2.default.ovn.pod<hash>     web.default.net2.default.ovn.pod<hash>
//! ```
//!
//! As upstream, a further interface of an attachment is named by it and by its own name,
//! which here is the network's name in the VM. Upstream names the first anew when a
//! second comes; here a network keeps the port that it has. Which of them has the short
//! name does not follow from their order, but from what is there: a network whose long
//! name the VM holds has that, and the short one is its network's whose name is on the
//! instance or the IP object (annotation `berth.io/network`). Only where nobody has it,
//! or its network is no more, is it the first's that has no port yet. Kube-OVN calls all of
//! several by their interface in the pod; where that is held or reserved, it is the name.

use std::collections::{BTreeMap, BTreeSet};

use crds::annotations;
use crds::kubevirt::{Network as VmNetwork, VirtualMachineInstance};
use net::names;

use super::multus::Element;
use super::{Asker, RequestError};
use crate::ledger::VmKey;

/// What is known of the ports that a VM has.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The ports that it holds, or that are reserved for it.
    pub held: BTreeSet<String>,
    /// By port, the network of the VM that has it.
    pub networks: BTreeMap<String, String>,
    /// By port, who has lent it what it has on loan.
    pub loans: BTreeMap<String, VmKey>,
}

/// A network of a VM with the names that it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    /// The network.
    pub(super) network: &'a VmNetwork,
    /// The provider of its subnets.
    pub(super) of_subnet: &'a str,
    /// The prefix of its annotations and end of its port's name.
    pub(super) provider: &'a str,
    /// What Multus's list asks for it.
    pub(super) element: Option<&'a Element>,
}

/// The provider of the subnets of a network, and what takes its place in its names.
#[derive(Clone, Debug)]
pub(super) struct Providers {
    pub(super) of_subnet: String,
    pub(super) provider: String,
}

impl<'a> Named<'a> {
    pub(super) fn of(
        network: &'a VmNetwork,
        providers: &'a Providers,
        element: Option<&'a Element>,
    ) -> Self {
        let Providers { of_subnet, provider } = providers;
        Self { network, of_subnet, provider, element }
    }

    /// The annotation of this field.
    pub(super) fn key(&self, field: &str) -> String {
        annotations::key(self.provider, field)
    }

    /// The annotations that may name its address or MAC: as any field; as one of several
    /// networks of its attachment; and as upstream by attachment and interface,
    /// `<nad>.<namespace>.kubernetes.io/ip_address.<interface>`. The interface is the
    /// network's name in the VM, or what KubeVirt makes of that in a pod.
    pub(super) fn keys(&self, field: &str) -> Vec<String> {
        let mut keys = vec![self.key(field)];
        let end = format!(".{}", names::DEFAULT_PROVIDER);
        if let Some(attachment) = self.of_subnet.strip_suffix(&end) {
            let in_pod = names::pod_interface(&self.network.name);
            for interface in [&self.network.name, &in_pod] {
                keys.push(annotations::key(&names::further(self.of_subnet, interface), field));
                keys.push(format!("{}.{interface}", annotations::key(attachment, field)));
            }
        }
        keys
    }
}

/// The providers of these networks of `asker`, in their order.
///
/// # Errors
/// When two would be one port, or one cannot be named.
pub(super) fn providers(
    asker: Asker<'_>,
    networks: &[VmNetwork],
    known: &Known,
) -> Result<Vec<Providers>, RequestError> {
    if let Some(refusal) = networks.iter().find_map(no_attachment) {
        return Err(refusal);
    }
    let port = |provider: &str| names::port(asker.name, asker.namespace, provider);
    let bases: Vec<_> = networks.iter().map(|one| of_subnet(one, asker.namespace)).collect();
    let named = networks.iter().zip(&bases);
    let held = named.map(|(one, base)| {
        let longer = [long(base, one), names::further_in_pod(base, &one.name)];
        longer.into_iter().find(|long| known.held.contains(&port(long)))
    });
    let held: Vec<Option<String>> = held.collect();
    // Whose the short name is.
    let short = |base: &str| {
        let mut open = (0..networks.len()).filter(|at| bases[*at] == base && held[*at].is_none());
        let has = known.networks.get(&port(base));
        let had = open.clone().find(|at| has == Some(&networks[*at].name));
        had.or_else(|| open.next())
    };
    let mut all: Vec<Providers> = Vec::with_capacity(networks.len());
    for (at, network) in networks.iter().enumerate() {
        let base = &bases[at];
        let provider = match network.multus {
            Some(_) if short(base) != Some(at) => {
                held[at].clone().unwrap_or_else(|| long(base, network))
            }
            _ => base.clone(),
        };
        if let Some(other) = all.iter().position(|other| other.provider == provider) {
            return Err(RequestError::SamePort {
                first: networks[other].name.clone(),
                second: network.name.clone(),
                port: port(&provider),
            });
        }
        if provider == long(base, network) && !is_label(&network.name) {
            let (network, provider) = (network.name.clone(), base.clone());
            return Err(RequestError::NoLabel { network, provider });
        }
        let port = port(&provider);
        if port.len() > names::LONGEST_NAME {
            return Err(RequestError::LongPort { network: network.name.clone(), port });
        }
        all.push(Providers { of_subnet: base.clone(), provider });
    }
    Ok(all)
}

/// That this network's attachment has a name that none can have: it would be a part of a
/// port's.
fn no_attachment(network: &VmNetwork) -> Option<RequestError> {
    let attachment = &network.multus.as_ref()?.network_name;
    let mut parts = attachment.splitn(2, '/');
    let refused = !parts.all(names::is_object_name);
    let (network, attachment) = (network.name.clone(), attachment.clone());
    refused.then_some(RequestError::NoAttachment { network, attachment })
}

/// The provider of the subnets of a network.
fn of_subnet(network: &VmNetwork, namespace: &str) -> String {
    let attachment = network.multus.as_ref().map(|multus| multus.network_name.as_str());
    names::provider(attachment, namespace)
}

/// What may be the providers of a network of a VM with this instance.
pub(super) fn possible(
    network: &VmNetwork,
    namespace: &str,
    instance: Option<&VirtualMachineInstance>,
) -> Vec<Providers> {
    let base = of_subnet(network, namespace);
    let longer = [long(&base, network), names::further_in_pod(&base, &network.name)];
    let has = |instance: &&VirtualMachineInstance| {
        instance.spec.networks.iter().any(|one| one.name == network.name)
    };
    let notes = instance.filter(has).and_then(|one| one.metadata.annotations.as_ref());
    let providers = match (notes, &network.multus) {
        (None, Some(_)) => std::iter::once(base.clone()).chain(longer).collect(),
        (Some(notes), Some(_)) => {
            let is_given = |one: &String| annotations::is_allocated(notes, one);
            vec![longer.into_iter().find(is_given).unwrap_or_else(|| base.clone())]
        }
        _ => vec![base.clone()],
    };
    let of = |provider| Providers { of_subnet: base.clone(), provider };
    providers.into_iter().map(of).collect()
}

fn long(base: &str, network: &VmNetwork) -> String {
    names::further(base, &network.name)
}

/// Whether it may be a part of an object's name and of an annotation's prefix.
fn is_label(text: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.bytes().all(|byte| is_alphanumeric(byte) || byte == b'-')
        && [text.bytes().next(), text.bytes().last()]
            .iter()
            .all(|byte| byte.is_some_and(is_alphanumeric))
}

/// The attachments among these networks of an instance, by the provider that it was
/// given.
#[must_use]
pub fn given<'a>(
    networks: &'a [VmNetwork],
    namespace: &str,
    notes: &BTreeMap<String, String>,
) -> BTreeMap<String, &'a str> {
    let attachments = networks.iter().filter(|network| network.multus.is_some());
    let given = attachments.map(|network| {
        let is_given = |provider: &str| annotations::is_allocated(notes, provider);
        let name = network.name.as_str();
        (names::given(of_subnet(network, namespace), name, is_given), name)
    });
    given.filter(|(provider, _)| annotations::is_allocated(notes, provider)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::vm;
    use super::*;

    /// The ports of a VM with these networks, all of one attachment, in which `held` are
    /// held and the short name is `first`'s.
    fn ports(networks: &[&str], held: &[&str], first: Option<&str>) -> Vec<String> {
        try_ports(networks, held, first).unwrap()
    }

    fn try_ports(
        networks: &[&str],
        held: &[&str],
        first: Option<&str>,
    ) -> Result<Vec<String>, RequestError> {
        let networks: Vec<_> = networks
            .iter()
            .map(|name| json!({ "name": name, "multus": { "networkName": "net" } }))
            .collect();
        let vm = vm(&json!({}), &json!({ "networks": networks }));
        let short = "web.default.net.default.ovn";
        let known = Known {
            held: held.iter().map(|one| format!("{short}{one}")).collect(),
            networks: first.map(|one| (short.to_owned(), one.to_owned())).into_iter().collect(),
            ..Known::default()
        };
        let providers = providers((&vm).into(), &vm.spec.template.spec.networks, &known)?;
        let end = |one: &Providers| one.provider["net.default.ovn".len()..].to_owned();
        Ok(providers.iter().map(end).collect())
    }

    #[test]
    fn the_first_has_the_short_name_and_a_further_one_its_own() {
        assert_eq!(ports(&["a"], &[], None), [""]);
        assert_eq!(ports(&["a", "b", "c"], &[], None), ["", ".b", ".c"]);
    }

    #[test]
    fn one_that_comes_renames_none_wherever_it_is_written() {
        assert_eq!(ports(&["a", "b"], &[""], Some("a")), ["", ".b"]);
        assert_eq!(ports(&["b", "a"], &[""], Some("a")), [".b", ""]);
        assert_eq!(ports(&["c", "b", "a"], &["", ".b"], Some("a")), [".c", ".b", ""]);
    }

    #[test]
    fn one_that_goes_moves_none() {
        assert_eq!(ports(&["b"], &["", ".b"], Some("a")), [".b"]);
        assert_eq!(ports(&["b"], &[".b"], None), [".b"]);
        assert_eq!(ports(&["c", "b"], &[".b"], None), ["", ".b"]);
        assert_eq!(ports(&["b", "a"], &[".b"], None), [".b", ""]);
    }

    #[test]
    fn one_that_is_renamed_keeps_its_place() {
        assert_eq!(ports(&["z"], &[""], Some("a")), [""]);
        assert_eq!(ports(&["b", "z"], &["", ".b"], Some("a")), [".b", ""]);
    }

    #[test]
    fn what_kube_ovn_has_named_by_the_pods_interface_keeps_that_name() {
        let in_pod = |name: &str| format!(".{}", names::pod_interface(name));
        let (a, b) = (in_pod("a"), in_pod("b"));
        assert_eq!(ports(&["a", "b"], &[&a, &b], None), [a.as_str(), &b]);
        assert_eq!(ports(&["c", "b", "a"], &[&a, &b], None), ["", &b, &a]);
        assert_eq!(ports(&["a", "b"], &[&b], None), ["", &b]);
        // Neither name need be part of one.
        let upper = in_pod("Upper_a");
        assert_eq!(ports(&["a", "Upper_a"], &[&upper], None), ["", &upper]);
    }

    #[test]
    fn a_name_that_can_be_no_part_of_a_ports_is_refused_where_it_would_be() {
        assert_eq!(ports(&["Upper_a"], &[], None), [""]);
        for bad in ["Upper", "b_2", "-b", "b-", "b.c"] {
            let message = try_ports(&["a", bad], &[], None).unwrap_err().to_string();
            assert!(message.contains(bad) && message.contains("lower-case"), "{message}");
        }
        let twice = try_ports(&["a", "b", "b"], &[], None).unwrap_err();
        assert!(matches!(twice, RequestError::SamePort { .. }), "{twice}");
    }
}
