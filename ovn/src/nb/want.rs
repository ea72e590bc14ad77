//! What a set of owners wants of the database, and what is marked as ours.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    AddressSet, AddressSetWant, LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort,
    PortRoute, PortWant, RouterPortWant, RouterWant, StaticRoute, SwitchWant, Table, VENDOR,
    VENDOR_KEY,
};
use crate::ovsdb::{Replica, Row};

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

/// Two owners want a row of one name, and not the same one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{table} {name:?} is another's already")]
pub struct Clash {
    /// The table.
    pub table: &'static str,
    /// The name that both want.
    pub name: String,
}

impl Desired {
    /// Wants all that `other` wants, too. A row that both want in the same way is there
    /// once.
    ///
    /// # Errors
    /// When both name a row that they do not want in the same way, or one wants as a
    /// switch port what the other wants as a router port: northd knows ports of both
    /// kinds by one set of names. Then nothing of `other` is wanted.
    pub fn extend(&mut self, other: Self) -> Result<(), Clash> {
        if let Some(clash) = self.clash(&other) {
            return Err(clash);
        }
        let Self { routers, switches, router_ports, ports, address_sets } = other;
        self.routers.extend(routers);
        self.switches.extend(switches);
        self.router_ports.extend(router_ports);
        self.ports.extend(ports);
        self.address_sets.extend(address_sets);
        Ok(())
    }

    /// A row that both name and do not want in the same way.
    #[must_use]
    pub fn clash(&self, other: &Self) -> Option<Clash> {
        fn differs<W: PartialEq>(
            have: &BTreeMap<String, W>,
            more: &BTreeMap<String, W>,
        ) -> Option<String> {
            let differs =
                |(name, want): &(&String, &W)| have.get(*name).is_some_and(|other| other != *want);
            more.iter().find(differs).map(|(name, _)| name.clone())
        }
        fn both<A, B>(have: &BTreeMap<String, A>, more: &BTreeMap<String, B>) -> Option<String> {
            more.keys().find(|name| have.contains_key(*name)).cloned()
        }
        let of = |table, name: Option<String>| name.map(|name| Clash { table, name });
        of(LogicalRouter::TABLE, differs(&self.routers, &other.routers))
            .or_else(|| of(LogicalSwitch::TABLE, differs(&self.switches, &other.switches)))
            .or_else(|| of(AddressSet::TABLE, differs(&self.address_sets, &other.address_sets)))
            .or_else(|| of(LogicalSwitchPort::TABLE, differs(&self.ports, &other.ports)))
            .or_else(|| of(LogicalSwitchPort::TABLE, both(&self.router_ports, &other.ports)))
            .or_else(|| of(LogicalRouterPort::TABLE, both(&self.ports, &other.router_ports)))
            .or_else(|| {
                of(LogicalRouterPort::TABLE, differs(&self.router_ports, &other.router_ports))
            })
    }

    /// A switch or router that ports here are to be on, and that neither is there nor
    /// wanted here or in `more`: a plan with them could only be a conflict.
    #[must_use]
    pub fn lacks<'a>(&'a self, replica: &Replica, more: &Self) -> Option<&'a str> {
        let has = |table: &str, name: &str| replica.by_name(table, name).is_some();
        let switches = self.ports.values().map(|port| port.switch.as_str()).filter(|name| {
            let wanted = [self, more].iter().any(|all| all.switches.contains_key(*name));
            !wanted && !has(LogicalSwitch::TABLE, name)
        });
        let behind = self.ports.values().flat_map(|port| &port.routes);
        let routers = self.router_ports.values().map(|port| port.router.as_str());
        let routers = routers.chain(behind.map(|route| route.router.as_str())).filter(|name| {
            let wanted = [self, more].iter().any(|all| all.routers.contains_key(*name));
            !wanted && !has(LogicalRouter::TABLE, name)
        });
        switches.chain(routers).next()
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
    /// Switch ports, of any kind; also those of which only a route is left.
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
    let routes = replica.rows(StaticRoute::TABLE);
    let behind = routes.filter_map(|(_, row)| port_of(row)).map(str::to_owned);
    Ours {
        routers: marked::<LogicalRouter>(replica),
        switches: marked::<LogicalSwitch>(replica),
        router_ports: marked::<LogicalRouterPort>(replica),
        ports: marked::<LogicalSwitchPort>(replica).into_iter().chain(behind).collect(),
        address_sets: marked::<AddressSet>(replica),
    }
}

/// The port that a route of ours leads to, if it is one of those that belong to a port.
pub(crate) fn port_of(route: &Row) -> Option<&str> {
    let is_ours = route.key("external_ids", VENDOR_KEY) == Some(VENDOR);
    route.key("external_ids", PortRoute::PORT).filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    use net::MacAddr;

    use super::*;

    fn router_port(name: &str, router: &str) -> Desired {
        let mac = MacAddr::derived_from(&[router]);
        let port = RouterPortWant::gateway(router, mac, ["10.0.0.1/24"]);
        Desired { router_ports: [(name.to_owned(), port)].into(), ..Desired::default() }
    }

    fn port(name: &str, switch: &str) -> Desired {
        let port = PortWant::router(switch, "r");
        Desired { ports: [(name.to_owned(), port)].into(), ..Desired::default() }
    }

    #[test]
    fn of_two_that_want_one_name_the_first_has_it_and_the_other_is_told() {
        let mut all = router_port("a-b-c", "a");
        all.extend(router_port("a-b-c", "a")).unwrap();
        let before = all.clone();
        let mut other = router_port("a-b-c", "a-b");
        other.extend(port("c-a-b", "c")).unwrap();
        let clash = all.extend(other).unwrap_err();
        assert_eq!((clash.table, clash.name.as_str()), ("Logical_Router_Port", "a-b-c"));
        assert_eq!(all, before, "nothing of the other is wanted");
    }

    #[test]
    fn a_switch_port_and_a_router_port_have_no_name_in_common() {
        let mut all = router_port("a-b", "a");
        assert_eq!(all.extend(port("a-b", "a")).unwrap_err().table, "Logical_Switch_Port");
        let mut all = port("a-b", "a");
        assert_eq!(all.extend(router_port("a-b", "a")).unwrap_err().name, "a-b");
    }

    #[test]
    fn a_port_lacks_the_switch_that_nobody_makes() {
        let nothing = Replica::default();
        assert_eq!(port("p", "s").lacks(&nothing, &Desired::default()), Some("s"));
        let switches = [("s".to_owned(), SwitchWant::default())].into();
        let more = Desired { switches, ..Desired::default() };
        assert_eq!(port("p", "s").lacks(&nothing, &more), None);
        assert_eq!(router_port("p", "r").lacks(&nothing, &more), Some("r"));
    }
}
