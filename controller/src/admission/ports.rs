//! Ports, as IP objects say: which MAC each has, on which subnet, and by whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use crds::annotations::{NETWORK, OWNER_UID};
use crds::kubeovn::Ip;
use kube::ResourceExt as _;
use net::{MacAddr, names};

use crate::hold;
use crate::ledger::VmKey;
use crate::objects::mac_of;
use crate::request::Known;
use crate::shelf::Seen;
use crate::world::ip_key;

/// What an IP object says of its port.
#[derive(Debug)]
pub(super) struct Port {
    mac: Option<MacAddr>,
    pub(super) subnet: Box<str>,
    /// The VM or node that it is of, or reserved for.
    pub(super) vm: Option<VmKey>,
    pub(super) whose: Whose,
    /// Which network of its VM has it, where that does not follow from its name.
    network: Option<Box<str>>,
}

/// Whose a port is.
#[derive(Debug)]
pub(super) enum Whose {
    /// Of the VM or instance of this uid.
    Vm(Box<str>),
    /// Of a node, or of whoever a person made the object for.
    Other {
        /// The object is being deleted.
        leaves: bool,
    },
}

/// Ports by name, and their names by MAC.
#[derive(Debug, Default)]
pub(super) struct Ports {
    by_name: BTreeMap<Box<str>, Port>,
    by_mac: HashMap<MacAddr, BTreeSet<Box<str>>>,
    synced: bool,
}

impl Ports {
    pub(super) fn apply(&mut self, seen: &Seen<Ip>) {
        match seen {
            Seen::All { objects, .. } => {
                *self = Self { synced: true, ..Self::default() };
                objects.iter().for_each(|ip| self.put(ip));
            }
            Seen::Now(ip) => self.put(ip),
            Seen::Unreadable(meta) | Seen::Gone(meta) => {
                meta.name.iter().for_each(|port| self.remove(port));
            }
        }
    }

    fn put(&mut self, ip: &Ip) {
        let name: Box<str> = ip.name_any().into();
        self.remove(&name);
        let mac = mac_of(ip);
        if let Some(mac) = mac {
            self.by_mac.entry(mac).or_default().insert(name.clone());
        }
        let whose = match ip.annotations().get(OWNER_UID) {
            Some(uid) if !ip.spec.namespace.is_empty() => Whose::Vm(uid.as_str().into()),
            _ => Whose::Other { leaves: hold::is_leaving(&ip.metadata) },
        };
        let subnet = ip.spec.subnet.as_str().into();
        let network = ip.annotations().get(NETWORK).map(|network| network.as_str().into());
        let vm = ip_key(ip);
        self.by_name.insert(name, Port { mac, subnet, vm, whose, network });
    }

    fn remove(&mut self, name: &str) {
        let Some(mac) = self.by_name.remove(name).and_then(|port| port.mac) else { return };
        if let Some(names) = self.by_mac.get_mut(&mac) {
            names.remove(name);
            if names.is_empty() {
                self.by_mac.remove(&mac);
            }
        }
    }

    /// Whether all that there is has been told.
    pub(super) const fn is_synced(&self) -> bool {
        self.synced
    }

    /// The port of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Port> {
        self.by_name.get(name)
    }

    /// The ports of the VM or instance of this uid, and those reserved for it.
    pub(super) fn of(&self, name: &str, namespace: &str, uid: Option<&str>) -> Known {
        let first = names::port(name, namespace, names::DEFAULT_PROVIDER);
        let from =
            self.by_name.range::<str, _>((Bound::Included(first.as_str()), Bound::Unbounded));
        let near = from.take_while(|(port, _)| port.starts_with(&first));
        let mut known = Known::default();
        for (name, port) in near {
            let its = match &port.whose {
                Whose::Vm(owner) => uid == Some(&**owner),
                Whose::Other { .. } => true,
            };
            if its {
                known.held.insert(name.to_string());
                let network = port.network.iter();
                known.networks.extend(network.map(|one| (name.to_string(), one.to_string())));
            }
        }
        known
    }

    /// The ports that have this MAC.
    pub(super) fn with(&self, mac: MacAddr) -> impl Iterator<Item = (&str, &Port)> {
        let names = self.by_mac.get(&mac).into_iter().flatten();
        names.filter_map(|name| Some((&**name, self.by_name.get(name)?)))
    }
}
