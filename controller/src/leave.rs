//! What a port is let do beyond its own addresses: Kube-OVN's `port_security`,
//! `port_vips`, `layer2_forward` and `aaps`. Pure.
//!
//! Read from the VM template when the VM starts, and from the annotations of its
//! instance while that is there: like the rest of a port, a change counts at the
//! next start.

use std::collections::{BTreeMap, BTreeSet};

use crds::annotations::{self, AAPS, LAYER2_FORWARD, PORT_SECURITY, PORT_VIPS};
use ipnetwork::IpNetwork;

/// The annotations that are read here.
pub const FIELDS: [&str; 4] = [PORT_SECURITY, PORT_VIPS, LAYER2_FORWARD, AAPS];

/// The most entries of a list: each is told to OVN for each port.
const MOST: usize = 256;

/// What a port is let do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Leave {
    /// It may send from any address.
    pub unguarded: bool,
    /// Addresses and networks that it may send from.
    pub further: BTreeSet<String>,
    /// Vips, from whose addresses it may send.
    pub carries: BTreeSet<String>,
    /// It hears what is meant for addresses that nobody is known to have.
    pub hears_unknown: bool,
}

/// An annotation that cannot be: which, what it says, what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("annotation {key}: {:?} {advice}", net::shown(text))]
pub struct LeaveError {
    /// The annotation.
    pub key: String,
    /// What it says.
    pub text: String,
    /// What is wrong with it and what to write instead.
    pub advice: &'static str,
}

impl Leave {
    /// What these annotations say of the network of this provider.
    ///
    /// # Errors
    /// The first that cannot be.
    pub fn read(
        annotations: &BTreeMap<String, String>,
        provider: &str,
    ) -> Result<Self, LeaveError> {
        let switch = |field: &str, default| {
            let key = annotations::key(provider, field);
            match annotations.get(&key).map(|text| (text.trim(), text)) {
                None => Ok(default),
                Some(("true", _)) => Ok(true),
                Some(("false", _)) => Ok(false),
                Some((_, text)) => {
                    let advice = "is neither true nor false: write \"true\" or \"false\"";
                    Err(LeaveError { key, text: text.clone(), advice })
                }
            }
        };
        Ok(Self {
            unguarded: !switch(PORT_SECURITY, true)?,
            hears_unknown: switch(LAYER2_FORWARD, false)?,
            carries: carries(annotations, annotations::key(provider, AAPS))?,
            further: further(annotations, annotations::key(provider, PORT_VIPS))?,
        })
    }
}

/// The Vips in a list.
fn carries(
    annotations: &BTreeMap<String, String>,
    key: String,
) -> Result<BTreeSet<String>, LeaveError> {
    let Some(text) = annotations.get(&key) else { return Ok(BTreeSet::new()) };
    if text.split(',').nth(MOST).is_some() {
        let advice = "names more than 256 Vips: list fewer";
        return Err(LeaveError { key, text: text.clone(), advice });
    }
    let names: BTreeSet<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.contains("") {
        let advice = "is not a list of Vips: write their names with commas between";
        return Err(LeaveError { key, text: text.clone(), advice });
    }
    Ok(names)
}

/// The addresses and networks in a list, each as OVN writes it.
fn further(
    annotations: &BTreeMap<String, String>,
    key: String,
) -> Result<BTreeSet<String>, LeaveError> {
    let Some(text) = annotations.get(&key) else { return Ok(BTreeSet::new()) };
    let refused = |advice| LeaveError { key: key.clone(), text: text.clone(), advice };
    if text.split(',').nth(MOST).is_some() {
        return Err(refused("names more than 256: list networks instead of addresses"));
    }
    let one = |part: &str| {
        let network: IpNetwork = part.trim().parse().map_err(|_| {
            refused("is not a list of addresses: write 10.0.0.9,10.1.0.0/24 with commas between")
        })?;
        if network.prefix() == 0 {
            return Err(refused("holds every address: set port_security to \"false\" instead"));
        }
        let whole = if network.is_ipv4() { 32 } else { 128 };
        Ok(match network.prefix() == whole {
            true => network.ip().to_string(),
            // With host bits OVN takes it for a single address.
            false => format!("{}/{}", network.network(), network.prefix()),
        })
    };
    text.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(provider: &str, written: &[(&str, &str)]) -> Result<Leave, String> {
        let pairs = written.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
        Leave::read(&pairs.collect(), provider).map_err(|error| error.to_string())
    }

    #[test]
    fn a_port_is_guarded_unless_its_own_annotation_says_no() {
        assert_eq!(read("ovn", &[]), Ok(Leave::default()));
        let off = [("ovn.kubernetes.io/port_security", "false")];
        assert!(read("ovn", &off).unwrap().unguarded);
        assert!(!read("net2.default.ovn", &off).unwrap().unguarded);
        let other = [("net2.default.ovn.kubernetes.io/layer2_forward", "true")];
        assert!(read("net2.default.ovn", &other).unwrap().hears_unknown);
    }

    #[test]
    fn further_addresses_lose_what_is_left_of_a_host_in_a_network() {
        let written =
            [("ovn.kubernetes.io/port_vips", "10.0.0.9, fd00::9,10.1.0.7/24,10.0.0.8/32")];
        let further = read("ovn", &written).unwrap().further;
        let wanted = ["10.0.0.8", "10.0.0.9", "10.1.0.0/24", "fd00::9"].map(str::to_owned);
        assert_eq!(further, wanted.into());
    }
}
