//! Which rows a plan may delete.

use std::collections::BTreeSet;

use super::{PORT, SWITCH, is_ours};
use crate::nb::Desired;
use crate::ovsdb::Replica;

/// The owners a plan speaks for. A row in scope that is not wanted is deleted, if
/// it carries our marker; a row outside is never deleted.
///
/// What is wanted is in scope of itself: the scope need only say what might be
/// there and should not be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scope {
    pub(super) routers: BTreeSet<String>,
    pub(super) switches: BTreeSet<String>,
    pub(super) router_ports: BTreeSet<String>,
    pub(super) ports: BTreeSet<String>,
    pub(super) address_sets: BTreeSet<String>,
}

impl Scope {
    /// A VPC: its router. Deleted, it takes its routes and ports along.
    pub fn router(name: impl Into<String>) -> Self {
        Self { routers: BTreeSet::from([name.into()]), ..Self::default() }
    }

    /// A subnet: its switch, the ports on it that are not of VMs, the router ports
    /// they lead to, and its DHCP options. Deleted, the switch takes all its ports
    /// along.
    pub fn switch(name: impl Into<String>) -> Self {
        Self { switches: BTreeSet::from([name.into()]), ..Self::default() }
    }

    /// One router port by name, such as one left over.
    pub fn router_port(name: impl Into<String>) -> Self {
        Self { router_ports: BTreeSet::from([name.into()]), ..Self::default() }
    }

    /// One switch port by name: that of a VM.
    pub fn port(name: impl Into<String>) -> Self {
        Self::ports([name])
    }

    /// Switch ports by name: those of several VMs.
    pub fn ports<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self { ports: names.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Both scopes in one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let Self { routers, switches, router_ports, ports, address_sets } = other;
        self.routers.extend(routers);
        self.switches.extend(switches);
        self.router_ports.extend(router_ports);
        self.ports.extend(ports);
        self.address_sets.extend(address_sets);
        self
    }

    /// The same without the rows that are named here: they stay as they are.
    #[must_use]
    pub fn without(mut self, spared: &Desired) -> Self {
        let Desired { routers, switches, router_ports, ports, address_sets } = spared;
        self.routers.retain(|name| !routers.contains_key(name));
        self.switches.retain(|name| !switches.contains_key(name));
        self.router_ports.retain(|name| !router_ports.contains_key(name));
        self.ports.retain(|name| !ports.contains_key(name));
        self.address_sets.retain(|name| !address_sets.contains_key(name));
        self
    }

    /// All that is in scope, also by belonging to a switch that is, and not wanted.
    pub(super) fn unwanted(&self, replica: &Replica, desired: &Desired) -> Self {
        let mut unwanted = self.clone();
        for switch in self.switches.iter().chain(desired.switches.keys()) {
            unwanted.add_links_of(switch, replica);
        }
        unwanted.routers.retain(|name| !desired.routers.contains_key(name));
        unwanted.switches.retain(|name| !desired.switches.contains_key(name));
        unwanted.router_ports.retain(|name| !desired.router_ports.contains_key(name));
        unwanted.ports.retain(|name| !desired.ports.contains_key(name));
        unwanted.address_sets.retain(|name| !desired.address_sets.contains_key(name));
        unwanted
    }

    /// The ports of a switch that are not of VMs, and the router ports they lead
    /// to: also those of a router it has been taken from.
    fn add_links_of(&mut self, switch: &str, replica: &Replica) {
        let Some((_, switch)) = replica.by_name(SWITCH, switch) else { return };
        for row in switch.uuids("ports").filter_map(|uuid| replica.row(PORT, uuid)) {
            if matches!(row.str("type"), "router" | "localnet") && is_ours(row) {
                self.ports.insert(row.str("name").to_owned());
                self.router_ports.extend(row.key("options", "router-port").map(str::to_owned));
            }
        }
    }
}

impl From<crate::nb::Ours> for Scope {
    fn from(ours: crate::nb::Ours) -> Self {
        let crate::nb::Ours { routers, switches, router_ports, ports, address_sets } = ours;
        Self { routers, switches, router_ports, ports, address_sets }
    }
}
