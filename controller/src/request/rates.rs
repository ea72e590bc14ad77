//! How much a port may send and hear: Kube-OVN's `ingress_rate`, `egress_rate` and their
//! bursts. They have no effect yet and are told so; what Kube-OVN would refuse is refused
//! all the same, since whoever wrote it meant something else (`ValidatePodNetwork`).

use std::collections::BTreeMap;

use crds::annotations::{self, EGRESS_BURST, EGRESS_RATE, INGRESS_BURST, INGRESS_RATE};

use super::RequestError;

/// That what these annotations say of the network of this provider are whole numbers.
///
/// # Errors
/// The first that is none.
pub(super) fn check(
    annotations: &BTreeMap<String, String>,
    provider: &str,
) -> Result<(), RequestError> {
    for field in [INGRESS_RATE, EGRESS_RATE, INGRESS_BURST, EGRESS_BURST] {
        let key = annotations::key(provider, field);
        let Some(text) = annotations.get(&key) else { continue };
        let text = text.trim();
        if !text.is_empty() && text.parse::<i64>().is_err() {
            return Err(RequestError::Rate { key, text: net::shown(text) });
        }
    }
    Ok(())
}
