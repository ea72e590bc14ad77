//! What a set of owners wants of the database, and what is marked as ours.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    AddressSet, AddressSetWant, LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort,
    PortWant, RouterPortWant, RouterWant, SwitchWant, Table, VENDOR, VENDOR_KEY,
};
use crate::ovsdb::Replica;

/// The rows that some owners want, by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Desired {
    /// Routers: VPCs.
    pub routers: BTreeMap<String, RouterWant>,
    /// Switches: subnets.
    pub switches: BTreeMap<String, SwitchWant>,
    /// Router ports: the gateway of a subnet.
    pub router_ports: BTreeMap<String, RouterPortWant>,
    /// Switch ports: of VMs, and the other side of router ports.
    pub ports: BTreeMap<String, PortWant>,
    /// Networks that expressions name.
    pub address_sets: BTreeMap<String, AddressSetWant>,
}

impl Desired {
    /// Wants all that `other` wants, too; where both name a row, `other` counts.
    pub fn extend(&mut self, other: Self) {
        let Self { routers, switches, router_ports, ports, address_sets } = other;
        self.routers.extend(routers);
        self.switches.extend(switches);
        self.router_ports.extend(router_ports);
        self.ports.extend(ports);
        self.address_sets.extend(address_sets);
    }
}

/// The names of all rows that carry our marker.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ours {
    /// Routers: VPCs.
    pub routers: BTreeSet<String>,
    /// Switches: subnets.
    pub switches: BTreeSet<String>,
    /// Router ports.
    pub router_ports: BTreeSet<String>,
    /// Switch ports, of any kind.
    pub ports: BTreeSet<String>,
    /// Address sets.
    pub address_sets: BTreeSet<String>,
}

/// Every row marked as ours, for the search for those whose owner is gone.
#[must_use]
pub fn ours(replica: &Replica) -> Ours {
    fn marked<T: Table>(replica: &Replica) -> BTreeSet<String> {
        let rows = replica.rows(T::TABLE).map(|(_, row)| row);
        let ours = rows.filter(|row| row.key("external_ids", VENDOR_KEY) == Some(VENDOR));
        ours.map(|row| row.str("name").to_owned()).collect()
    }
    Ours {
        routers: marked::<LogicalRouter>(replica),
        switches: marked::<LogicalSwitch>(replica),
        router_ports: marked::<LogicalRouterPort>(replica),
        ports: marked::<LogicalSwitchPort>(replica),
        address_sets: marked::<AddressSet>(replica),
    }
}
