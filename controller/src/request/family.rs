//! Annotation `ip_family`: which family of its subnet a VM wants, and that nothing else
//! on its template says otherwise.

use std::net::IpAddr;

use crds::annotations;

use super::{Named, Reader, RequestError};
use crate::family::{Family, covers, covers_network};
use crate::network::Network;

impl Reader<'_> {
    /// The family that the annotation of this network names.
    pub(super) fn family(
        &self,
        named: &Named<'_>,
        subnet: &Network,
        addresses: &[IpAddr],
    ) -> Result<Option<Family>, RequestError> {
        let key = named.key(annotations::IP_FAMILY);
        let Some(text) = self.annotations.get(&key) else { return Ok(None) };
        let Ok(family) = text.trim().parse::<Family>() else {
            return Err(RequestError::Family { key, text: text.clone() });
        };
        if !subnet.cidrs.iter().any(|cidr| covers_network(Some(family), cidr)) {
            return Err(RequestError::NoSuchFamily {
                key,
                family: family.to_string(),
                subnet: subnet.name.clone(),
                cidr: subnet.cidrs.to_string(),
            });
        }
        let other = |field: &str, what: String| {
            let said = self.said(named, field);
            let other = said.map_or_else(|| named.key(field), |(key, _)| key);
            let (key, family) = (key.clone(), family.to_string());
            Err(RequestError::FamilyContradicted { key, family, other, what })
        };
        let strange = |one: &&IpAddr| !covers(Some(family), **one);
        if let Some(address) = addresses.iter().find(strange) {
            return other(annotations::IP_ADDRESS, address.to_string());
        }
        if !addresses.is_empty() {
            return Ok(Some(family));
        }
        let source = self.source(named, subnet)?;
        if let Some(address) = source.entries.iter().flatten().find(strange) {
            return other(annotations::IP_POOL, address.to_string());
        }
        if let Some(from) = source.from.filter(|from| from.asked)
            && !subnet.pools.get(&from.name).is_some_and(|pool| pool.serves(Some(family)))
        {
            let what = format!("IPPool {:?}, which has no address of it", from.name);
            return other(annotations::IP_POOL, what);
        }
        Ok(Some(family))
    }
}
