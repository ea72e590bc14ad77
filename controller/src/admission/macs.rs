//! Which ports have a MAC, as IP objects say.

use std::collections::{BTreeMap, HashMap};

use crds::kubeovn::Ip;
use kube::ResourceExt as _;
use net::MacAddr;

use crate::shelf::Seen;

/// Ports by MAC, each with its subnet.
#[derive(Debug, Default)]
pub(super) struct Macs {
    ports: HashMap<MacAddr, BTreeMap<Box<str>, Box<str>>>,
    of_port: HashMap<Box<str>, MacAddr>,
    synced: bool,
}

impl Macs {
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
        let port: Box<str> = ip.name_any().into();
        self.remove(&port);
        if let Ok(mac) = ip.spec.mac_address.trim().parse() {
            let subnet = ip.spec.subnet.clone().into();
            self.ports.entry(mac).or_default().insert(port.clone(), subnet);
            self.of_port.insert(port, mac);
        }
    }

    fn remove(&mut self, port: &str) {
        let Some(mac) = self.of_port.remove(port) else { return };
        if let Some(ports) = self.ports.get_mut(&mac) {
            ports.remove(port);
            if ports.is_empty() {
                self.ports.remove(&mac);
            }
        }
    }

    /// Whether all that there is has been told.
    pub(super) const fn is_synced(&self) -> bool {
        self.synced
    }

    /// The ports that have it, each with its subnet.
    pub(super) fn of(&self, mac: MacAddr) -> impl Iterator<Item = (&str, &str)> {
        let ports = self.ports.get(&mac).into_iter().flatten();
        ports.map(|(port, subnet)| (&**port, &**subnet))
    }
}
