//! A network that has no address of its own, but that of a Vip (annotation `vip`) or of an
//! IPAMClaim (`ipam-claim-reference` in Multus's list, or by its name).
//!
//! Upstream takes what the Vip has and does not look at what else the template says.
//! Here an annotation that would ask for another address is refused: one of the two
//! was not meant.

use crds::annotations;
use net::names;

use super::multus::Element;
use super::{Named, Reader, RequestError};
use crate::claims;
use crate::hold;
use crate::ledger::VmKey;
use crate::network::Network;

/// What a port has its addresses from, as long as it is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lender {
    /// The Vip of this name, whose MAC it has, too.
    Vip(String),
    /// The IPAMClaim of this name in the VM's namespace.
    Claim(String),
}

impl<'a> Reader<'a> {
    /// What lends this network its addresses, by its annotations.
    pub(super) fn lender(&self, named: &Named<'_>) -> Result<Option<Lender>, RequestError> {
        let key = named.key(annotations::VIP);
        let Some(name) = self.annotations.get(&key) else { return self.claim(named) };
        if let Some((other, _)) = named.element.and_then(Element::claim) {
            return Err(RequestError::BesideVip { key, other });
        }
        for field in [annotations::IP_ADDRESS, annotations::IP_POOL, annotations::IP_FAMILY] {
            if let Some((other, _)) = self.said(named, field) {
                return Err(RequestError::BesideVip { key, other });
            }
        }
        Ok(Some(Lender::Vip(name.trim().to_owned())))
    }

    /// The IPAMClaim to which Multus's list refers.
    fn claim(&self, named: &Named<'_>) -> Result<Option<Lender>, RequestError> {
        let Some((place, name)) = named.element.and_then(Element::claim) else { return Ok(None) };
        match self.otherwise(named) {
            Some(other) => Err(RequestError::BesideClaim { place, other }),
            None => Ok(Some(Lender::Claim(name))),
        }
    }

    /// Where else the addresses are to come from than from a claim, by the template.
    fn otherwise(&self, named: &Named<'_>) -> Option<String> {
        let fields = [annotations::IP_POOL, annotations::IP_FAMILY].into_iter();
        fields.into_iter().find_map(|field| self.said(named, field)).map(|(place, _)| place)
    }

    /// The IPAMClaim of the name that KubeVirt's extension gives it, `<vm>.<network>`,
    /// unless the template says from where the addresses are to come, or the VM has got its
    /// own before the claim had any.
    ///
    /// Nobody refers to it, so nobody could take the reference off: one of another network
    /// is none of the VM's, but if it has its addresses, and one that is being deleted is
    /// not begun with again.
    pub(super) fn claim_named_after(&self, named: &Named<'_>, subnet: &Network) -> Option<Lender> {
        named.network.multus.as_ref()?;
        let name = format!("{}.{}", self.vm, named.network.name).to_lowercase();
        let key = VmKey { namespace: self.namespace.clone(), name };
        let claim = self.offer.claims.get(&key)?;
        let port = names::port(&self.vm, &self.namespace, named.provider);
        let known = self.offer.known;
        let its = claims::names_of(subnet).iter().any(|name| name == claim.spec.network.trim())
            || known.loans.get(&port).is_some_and(|lender| lender.claim().as_ref() == Some(&key));
        let is_first = claims::said(claim).is_some() || !known.held.contains(&port);
        let counts = its && is_first && !hold::is_leaving(&claim.metadata);
        (counts && self.otherwise(named).is_none()).then_some(Lender::Claim(key.name))
    }

    /// The subnet of the Vip that the annotation names, if it names one.
    pub(super) fn subnet_of_vip(
        &self,
        named: &Named<'_>,
    ) -> Result<Option<&'a Network>, RequestError> {
        let key = named.key(annotations::VIP);
        let Some(name) = self.annotations.get(&key).map(|text| text.trim().to_owned()) else {
            return Ok(None);
        };
        let Some(vip) = self.offer.vips.get(&name) else {
            return Err(RequestError::UnknownVip { key, vip: name });
        };
        let place = format!("annotation {key}: Vip {name:?}");
        self.offer.named_for(named.of_subnet, place, vip.spec.subnet.trim()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{of, subnets, vm};
    use super::*;

    #[test]
    fn a_vip_and_another_wish_for_an_address_exclude_each_other() {
        for (other, text) in
            [("ip_address", "10.0.0.9"), ("ip_pool", "10.0.0.9"), ("ip_family", "ipv4")]
        {
            let notes = json!({
                "ovn.kubernetes.io/logical_switch": "s1",
                "ovn.kubernetes.io/vip": "v",
                format!("ovn.kubernetes.io/{other}"): text,
            });
            let error = of(&vm(&notes, &json!({})), &subnets()).unwrap_err().to_string();
            assert!(error.contains("vip") && error.contains(other), "{error}");
            assert!(error.contains("leave one of the two out"), "{error}");
        }
    }

    #[test]
    fn each_network_names_its_own() {
        let notes = json!({
            "ovn.kubernetes.io/logical_switch": "s1",
            "net2.default.ovn.kubernetes.io/logical_switch": "s3",
            "net2.default.ovn.kubernetes.io/vip": " v ",
        });
        let spec = json!({ "networks": [
            { "name": "default", "pod": {} },
            { "name": "second", "multus": { "networkName": "net2" } },
        ] });
        let vm = vm(&notes, &spec);
        let requests = of(&vm, &subnets()).unwrap();
        assert_eq!(requests[0].lender, None);
        assert_eq!(requests[1].lender, Some(Lender::Vip("v".to_owned())));
        assert!(super::super::without_effect(super::super::Asker::from(&vm), None).is_empty());
    }

    #[test]
    fn a_vip_that_is_not_there_is_told_before_a_subnet_that_is_missing() {
        let vm = vm(&json!({ "ovn.kubernetes.io/vip": "v" }), &json!({}));
        let error = of(&vm, &std::collections::BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("Vip \"v\" does not exist"), "{error}");
    }
}
