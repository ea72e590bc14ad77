//! How much a template may ask for: more than any VM needs, and little enough that
//! whoever reads one template keeps no other waiting.

use crds::annotations::{
    AAPS, IP_ADDRESS, IP_FAMILY, IP_POOL, LAYER2_FORWARD, LOGICAL_SWITCH, MAC_ADDRESS,
    MULTUS_NETWORKS, PORT_SECURITY, PORT_VIPS, VIP,
};

use super::{Asker, RequestError, is_kube_ovns};

/// The most networks, and the most interfaces (as KubeVirt, `arrayLenMax`).
pub(super) const MOST_NETWORKS: usize = 256;
/// The longest annotation that lists addresses or Vips, in bytes.
const LONGEST_LIST: usize = 64 << 10;
/// The longest of any other, in bytes: a name, a pair of addresses, a word.
const LONGEST: usize = 1024;

/// Longest name of a VM, in bytes: it is the value of a label on its instance and the
/// guest's host name (Kubernetes, `validation.LabelValueMaxLength`; RFC 1123).
const LONGEST_NAME: usize = 63;

/// Whether the template is within bounds.
///
/// # Errors
/// The first that is not.
pub(super) fn check(asker: Asker<'_>) -> Result<(), RequestError> {
    if asker.name.len() > LONGEST_NAME {
        let (name, length) = (asker.name.to_owned(), asker.name.len());
        return Err(RequestError::LongName { name, length, most: LONGEST_NAME });
    }
    let interfaces = asker.spec.domain.devices.interfaces.len();
    for (what, count) in [("networks", asker.spec.networks.len()), ("interfaces", interfaces)] {
        if count > MOST_NETWORKS {
            return Err(RequestError::ManyNetworks { what, count });
        }
    }
    let read = |key: &str| is_kube_ovns(key) || key == MULTUS_NETWORKS;
    for (key, text) in asker.annotations.iter().filter(|(key, _)| read(key)) {
        if let Some(most) = longest(key).filter(|most| text.len() > *most) {
            let (key, length) = (key.clone(), text.len());
            return Err(RequestError::Long { key, length, most });
        }
    }
    Ok(())
}

/// The longest that this annotation may be, if it is one that is read.
fn longest(key: &str) -> Option<usize> {
    if key == MULTUS_NETWORKS {
        return Some(LONGEST_LIST);
    }
    let (_, field) = key.rsplit_once('/')?;
    // That of one interface has its name behind.
    let field = field.split_once('.').map_or(field, |(field, _)| field);
    match field {
        IP_POOL | PORT_VIPS | AAPS => Some(LONGEST_LIST),
        IP_ADDRESS | MAC_ADDRESS | LOGICAL_SWITCH | VIP | IP_FAMILY | PORT_SECURITY
        | LAYER2_FORWARD => Some(LONGEST),
        _ => None,
    }
}
