//! Multus's list of attachments on a VM template, `k8s.v1.cni.cncf.io/networks`.
//!
//! In a pod it says which attachments there are; a VM says so in `spec.networks`. What
//! counts of it here is what it asks for them, as Kube-OVN reads it: `ips` and `mac`; and
//! `ipam-claim-reference`. So an element is for a network of the VM: the one of its
//! attachment, of several the one that its `interface` names.
//!
//! The short form, `<namespace>/<nad>@<interface>` with commas between, asks for nothing.

use std::collections::BTreeMap;

use crds::annotations::{IP_ADDRESS, MAC_ADDRESS, MULTUS_NETWORKS};
use crds::kubevirt::Network as VmNetwork;
use net::names;
use serde::{Deserialize, Deserializer};

use super::RequestError;

/// What one element asks for.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Element {
    name: String,
    #[serde(default, deserialize_with = "or_nothing")]
    namespace: String,
    #[serde(default, deserialize_with = "or_nothing")]
    interface: String,
    /// Addresses, with or without their network's length.
    #[serde(default, deserialize_with = "or_nothing")]
    ips: Vec<String>,
    #[serde(default, deserialize_with = "or_nothing")]
    mac: String,
    /// An IPAMClaim of the VM's namespace.
    #[serde(default, rename = "ipam-claim-reference", deserialize_with = "or_nothing")]
    claim: String,
    /// What has no effect.
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
    #[serde(skip)]
    at: usize,
}

/// A field that is null is one that is left out.
fn or_nothing<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    field: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(field)?.unwrap_or_default())
}

impl Element {
    /// Whether it asks for anything that is served. One that does not is nobody's business
    /// here, whatever it names.
    fn asks(&self) -> bool {
        !(self.ips.is_empty() && self.mac.is_empty() && self.claim.is_empty())
    }

    /// What it says of a field of Kube-OVN's, and where.
    pub(super) fn said(&self, field: &str) -> Option<(String, String)> {
        match field {
            IP_ADDRESS if !self.ips.is_empty() => Some((self.place("ips"), self.ips.join(","))),
            MAC_ADDRESS if !self.mac.is_empty() => Some((self.place("mac"), self.mac.clone())),
            _ => None,
        }
    }

    /// The IPAMClaim that it refers to, and where.
    pub(super) fn claim(&self) -> Option<(String, String)> {
        let name = self.claim.trim();
        (!name.is_empty()).then(|| (self.place("ipam-claim-reference"), name.to_owned()))
    }

    fn place(&self, field: &str) -> String {
        format!("{MULTUS_NETWORKS} [{}].{field}", self.at)
    }

    /// The provider of the network that it is for, in a VM of `namespace`.
    fn provider(&self, namespace: &str) -> String {
        let namespace = if self.namespace.is_empty() { namespace } else { &self.namespace };
        names::provider(Some(&self.name), namespace)
    }

    /// Whether its interface is the one of this network: its name, or what KubeVirt makes
    /// of that in a pod.
    fn names(&self, network: &VmNetwork) -> bool {
        self.interface == network.name || self.interface == names::pod_interface(&network.name)
    }
}

/// The elements of the annotation; none of the short form.
fn elements(text: &str) -> Result<Vec<Element>, RequestError> {
    if !text.trim_start().starts_with(['[', '{']) {
        return Ok(Vec::new());
    }
    let mut elements: Vec<Element> = serde_json::from_str(text)
        .map_err(|error| RequestError::Multus { why: error.to_string() })?;
    elements.iter_mut().enumerate().for_each(|(at, one)| one.at = at);
    Ok(elements)
}

/// What the annotation asks for each of these networks, in their order.
///
/// # Errors
/// When it cannot be read, or an element that asks for something is not for exactly one
/// network.
pub(super) fn read(
    notes: &BTreeMap<String, String>,
    namespace: &str,
    networks: &[VmNetwork],
) -> Result<Vec<Option<Element>>, RequestError> {
    let mut all: Vec<Option<Element>> = vec![None; networks.len()];
    let Some(text) = notes.get(MULTUS_NETWORKS) else { return Ok(all) };
    let provider = |network: &VmNetwork| {
        let attachment = network.multus.as_ref()?;
        Some(names::provider(Some(&attachment.network_name), namespace))
    };
    let providers: Vec<_> = networks.iter().map(provider).collect();
    for element in elements(text)?.into_iter().filter(Element::asks) {
        let its = Some(element.provider(namespace));
        let of = |at: &usize| providers[*at] == its;
        let mut its: Vec<usize> = (0..networks.len()).filter(of).collect();
        if its.len() > 1 {
            let named: Vec<_> =
                its.iter().copied().filter(|at| element.names(&networks[*at])).collect();
            if named.is_empty() {
                let names = its.iter().map(|at| format!("{:?}", networks[*at].name));
                let networks = names.collect::<Vec<_>>().join(" or ");
                return Err(RequestError::WhichNetwork {
                    place: element.place("interface"),
                    networks,
                });
            }
            its = named;
        }
        let [at] = its[..] else {
            let (place, attachment) = (element.place("name"), element.name.clone());
            return Err(RequestError::NoSuchNetwork { place, attachment });
        };
        if let Some(other) = &all[at] {
            return Err(RequestError::ElementTwice {
                place: element.place("name"),
                other: format!("[{}]", other.at),
                network: networks[at].name.clone(),
            });
        }
        all[at] = Some(element);
    }
    Ok(all)
}

/// What of the annotation has no effect: all of it where it asks for nothing, else the
/// elements that do not, and the fields that are not served.
pub(super) fn without_effect(text: &str) -> Vec<String> {
    let elements = elements(text).unwrap_or_default();
    if !elements.iter().any(Element::asks) {
        return vec![MULTUS_NETWORKS.to_owned()];
    }
    let of = |one: &Element| {
        if !one.asks() {
            return vec![format!("{MULTUS_NETWORKS} [{}]", one.at)];
        }
        one.rest.keys().map(|field| one.place(field)).collect()
    };
    elements.iter().flat_map(of).collect()
}
