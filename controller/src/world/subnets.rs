//! Which subnets are in force: each by itself, beside the others of its VPC, and with
//! what is held in it. One that cannot be says why, and cuts nobody off.
//!
//! ```text
//!  1  what has holders          goes on as it was: as remembered, or as its status says
//!  2  what is written           is tried beside all that is in force, one after the other,
//!                               those that did not change first
//!  3  what could not be         is tried again while any edit came into force
//! ```
//!
//! So an edit never takes the place of another subnet, nor of addresses that are held,
//! and one that cannot be leaves its subnet as it was, also over a restart.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crds::kubeovn::{DEFAULT_VPC, Subnet, SubnetSpec};
use ipam::Seconds;
use kube::ResourceExt as _;

use super::{World, was_ready};
use crate::network::{Network, NetworkError};
use crate::{egress, hold, namespaces, pools, port_names};

/// What is in force so far.
#[derive(Default)]
struct InForce {
    networks: BTreeMap<String, Network>,
    of_vpc: HashMap<String, BTreeSet<String>>,
}

impl InForce {
    /// Takes in a network, in place of an older form of it.
    fn put(&mut self, network: Network) {
        let (name, vpc) = (network.name.clone(), network.vpc.clone());
        if let Some(old) = self.networks.insert(name.clone(), network)
            && old.vpc != vpc
            && let Some(names) = self.of_vpc.get_mut(&old.vpc)
        {
            names.remove(&name);
        }
        self.of_vpc.entry(vpc).or_default().insert(name);
    }

    /// Those of one VPC: only they can overlap.
    fn of(&self, vpc: &str) -> impl Iterator<Item = &Network> {
        self.of_vpc.get(vpc).into_iter().flatten().filter_map(|name| self.networks.get(name))
    }
}

impl World {
    /// Reads every subnet, and puts in force what can be.
    pub(super) fn understand_subnets(&mut self) {
        let held: BTreeSet<String> = self.ledger.held_subnets().map(str::to_owned).collect();
        let mut in_force = InForce::default();
        self.refused.clear();
        self.remember_accepted();
        self.keep_unreadable(&mut in_force);
        let mut waiting = self.by_precedence(&held);
        self.keep_held(&waiting, &held, &mut in_force);
        // Those that nothing says anything of, as far as is known yet.
        let mut missing = held;
        missing.retain(|name| !in_force.networks.contains_key(name));
        let mut edited = true;
        while std::mem::take(&mut edited) {
            waiting.retain(|subnet| {
                let name = subnet.name_any();
                let understood = self
                    .understand(subnet, &in_force, &missing)
                    .and_then(|network| self.unless_named(network, &in_force.networks, subnet));
                match understood {
                    Ok(network) => {
                        self.refused.remove(&name);
                        let before = self.accepted.insert(name, subnet.spec.clone());
                        if let Some(before) = before.filter(|before| *before != subnet.spec) {
                            self.retire(&before, &network);
                            edited = true;
                        }
                        in_force.put(network);
                        false
                    }
                    Err(error) => {
                        self.refused.insert(name, error);
                        true
                    }
                }
            });
        }
        let mut in_force = in_force.networks;
        self.accepted.retain(|name, _| in_force.contains_key(name));
        self.refused_pools = pools::divide(&mut in_force, &self.pools, self.ledger.networks());
        let networks = self.ledger.networks().keys();
        let gone: Vec<_> = networks.filter(|name| !in_force.contains_key(*name)).cloned().collect();
        gone.iter().for_each(|name| self.ledger.drop_network(name));
        in_force.into_values().for_each(|network| self.ledger.set_network(network));
    }

    /// Takes note of gateways that are none any more.
    fn retire(&mut self, before: &SubnetSpec, now: &Network) {
        let before = Network::parse(&Subnet::new(&now.name, before.clone()));
        let old = before.iter().flat_map(Network::gateways);
        let gone =
            old.filter(|old| now.cidrs.contains(*old) && !now.gateways().any(|new| new == *old));
        self.retired.extend(gone.map(|address| (now.name.clone(), address)));
    }

    /// Has what was a gateway rest for as long as a guest may send to it: it knows it by its
    /// lease. Whoever had the address would have what such guests send out.
    pub fn rest_gateways(&mut self, now: Seconds) {
        for (subnet, address) in std::mem::take(&mut self.retired) {
            let Some(spec) = self.accepted.get(&subnet) else { continue };
            let at = self.unended.forgotten_by_all(spec, now, self.ledger.rest());
            self.ledger.rest_one(&subnet, address, at);
        }
    }

    /// Reads from their statuses which specs were in force before we started.
    fn remember_accepted(&mut self) {
        for (name, subnet) in self.subnets.iter() {
            let said = || subnet.status.as_ref()?.in_force.clone();
            if !self.accepted.contains_key(name)
                && let Some(spec) = said()
            {
                self.accepted.insert(name.clone(), *spec);
            }
        }
    }

    /// What cannot be read goes on as it was.
    fn keep_unreadable(&mut self, in_force: &mut InForce) {
        for (name, meta) in self.subnets.unreadable() {
            if let Some(before) = self.ledger.networks().get(name)
                && !hold::is_over(self, meta)
            {
                let leaving = hold::is_leaving(meta);
                in_force.put(Network { leaving, ..before.clone() });
            }
            self.refused.insert(name.clone(), NetworkError::Unreadable);
        }
    }

    /// The subnets that are wanted, those first that others give way to: what did not
    /// change since it came into force, then what did, then what has holders, then the
    /// older. Creation times have whole seconds only.
    fn by_precedence(&self, held: &BTreeSet<String>) -> Vec<Arc<Subnet>> {
        let wanted = self.subnets.iter().map(|(_, subnet)| subnet);
        let wanted = wanted.filter(|subnet| !hold::is_over(self, &subnet.metadata));
        let mut ordered: Vec<_> = wanted.cloned().collect();
        ordered.sort_by_cached_key(|subnet| {
            let name = subnet.name_any();
            let accepted = self.accepted.get(&name);
            let changed = accepted.map(|spec| *spec != subnet.spec);
            let standing = (changed.is_none(), changed, !held.contains(&name), !was_ready(subnet));
            (standing, subnet.creation_timestamp(), name)
        });
        ordered
    }

    /// Puts what has holders in force as it was.
    fn keep_held(
        &mut self,
        wanted: &[Arc<Subnet>],
        held: &BTreeSet<String>,
        in_force: &mut InForce,
    ) {
        for subnet in wanted.iter().filter(|subnet| held.contains(&subnet.name_any())) {
            let name = subnet.name_any();
            let leaving = hold::is_leaving(&subnet.metadata);
            if let Some(before) = self.ledger.networks().get(&name) {
                in_force.put(Network { leaving, ..before.clone() });
            } else if let Some(spec) = self.accepted.get(&name) {
                let as_it_was = Subnet { spec: spec.clone(), ..Subnet::clone(subnet) };
                match self.understand(&as_it_was, in_force, &BTreeSet::new()) {
                    Ok(network) => in_force.put(network),
                    Err(_) => drop(self.accepted.remove(&name)),
                }
            }
        }
    }

    /// What `subnet` says, if it can stand beside what is in force and still has room for
    /// what is held in it. `missing`: of which something is held, and which may not be
    /// in force.
    fn understand(
        &self,
        subnet: &Subnet,
        in_force: &InForce,
        missing: &BTreeSet<String>,
    ) -> Result<Network, NetworkError> {
        let mut network = Network::parse(subnet)?;
        let vpc = self.vpcs.get(&network.vpc).map(|vpc| &**vpc);
        network.namespaces = namespaces::of(&subnet.spec, vpc, self.namespaces.metas());
        match self.vpcs.meta(&network.vpc) {
            _ if network.vpc == DEFAULT_VPC => {}
            None => return Err(NetworkError::NoVpc(network.vpc)),
            Some(vpc) if hold::is_leaving(vpc) && !hold::is_held(&subnet.metadata) => {
                return Err(NetworkError::VpcLeaving(network.vpc));
            }
            Some(_) => {}
        }
        // One that is in force, be it over a restart, stays so when a node comes after it.
        let was = match (self.ledger.networks().get(&network.name), self.accepted(&network.name)) {
            (Some(before), _) => before.reach().eq(network.reach()),
            (None, Some(before)) => {
                let now = (&subnet.spec.cidr_block, &subnet.spec.dhcp_v6_prefix_delegation);
                (&before.cidr_block, &before.dhcp_v6_prefix_delegation) == now
            }
            (None, None) => was_ready(subnet),
        };
        if let Some(why) = self.reserved_by(&network).filter(|_| !was) {
            return Err(why);
        }
        if let Some(held) = hold::held(self, &network.name, |one| !network.cidrs.contains(one)) {
            return Err(NetworkError::HeldOutside(held));
        }
        let is_gateway = |one| network.gateways().any(|gateway| gateway == one);
        if let Some(held) = hold::held(self, &network.name, is_gateway) {
            return Err(NetworkError::GatewayHeld(held));
        }
        // What was listed before is shared already, whoever has it besides.
        let listed = |one| network.vips.contains(&one) && !self.listed_before(subnet, one);
        if let Some(held) = hold::held_by_guests(self, &network.name, listed) {
            return Err(NetworkError::VipHeld(held));
        }
        let others = missing.iter().filter(|name| **name != network.name);
        for lost in others.filter(|name| self.is_lost(name, in_force, &network.vpc)) {
            let address = self.ledger.held_in(lost).find(|held| network.cidrs.contains(*held));
            if let Some(address) = address {
                return Err(NetworkError::HeldByLost { address, subnet: lost.clone() });
            }
        }
        network.conflict(in_force.of(&network.vpc)).map_or(Ok(network), Err)
    }

    /// Whether an address was in `spec.vips` when the subnet was last in force.
    fn listed_before(&self, subnet: &Subnet, address: IpAddr) -> bool {
        let name = subnet.name_any();
        match (self.ledger.networks().get(&name), self.accepted(&name)) {
            (Some(before), _) => before.vips.contains(&address),
            (None, Some(before)) => {
                before.vips.iter().any(|text| text.trim().parse() == Ok(address))
            }
            (None, None) => was_ready(subnet),
        }
    }

    /// Whether nobody can say any more what the subnet of this name was, on which
    /// addresses are held, and it may have been one of `vpc`: it was edited into something
    /// that cannot be and nothing says what it was before, or somebody took our finalizer
    /// off.
    fn is_lost(&self, name: &String, in_force: &InForce, vpc: &str) -> bool {
        if in_force.networks.contains_key(name) {
            return false;
        }
        match self.subnets.get(name).map(|subnet| Network::parse(subnet)) {
            Some(Ok(network)) => self.refused.contains_key(name) && network.vpc == vpc,
            Some(Err(_)) | None => true,
        }
    }

    /// The spec of a subnet that is in force, whatever is written now.
    #[must_use]
    pub fn accepted(&self, name: &str) -> Option<&SubnetSpec> {
        self.accepted.get(name)
    }

    /// This network, unless a port of it would have another's name.
    fn unless_named(
        &self,
        network: Network,
        in_force: &BTreeMap<String, Network>,
        subnet: &Subnet,
    ) -> Result<Network, NetworkError> {
        let before = self.ledger.networks().get(&network.name);
        let has_been = || was_ready(subnet) || self.accepted.contains_key(&network.name);
        let was = before.map_or_else(has_been, |was| was.vpc == network.vpc);
        port_names::conflict(self, in_force, &network, was).map_or(Ok(network), Err)
    }

    /// Who else in the cluster has addresses of this network, if anybody does.
    #[must_use]
    pub fn reserved_by(&self, network: &Network) -> Option<NetworkError> {
        let join = self.subnets.meta(&egress::JOIN.to_owned());
        self.reserved.conflict(network, join.is_some())
    }
}
