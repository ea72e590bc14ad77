//! Which subnets are in force: each by itself, beside the others of its VPC, and with
//! what is held in it. One that cannot be says why, and cuts nobody off.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crds::kubeovn::{DEFAULT_VPC, Subnet};
use kube::ResourceExt as _;

use super::{World, was_ready};
use crate::network::{Network, NetworkError};
use crate::{egress, hold, namespaces, pools};

impl World {
    /// Reads every subnet; the older of two that disagree is in force.
    pub(super) fn understand_subnets(&mut self) {
        let mut subnets: Vec<_> =
            self.subnets.iter().map(|(_, subnet)| Arc::clone(subnet)).collect();
        // Of two that disagree the one that is in force stays so, also over a
        // restart; else the older one. Creation times have whole seconds only.
        subnets.sort_by_cached_key(|subnet| {
            let name = subnet.name_any();
            let in_force = self.ledger.networks().contains_key(&name);
            (!in_force, !was_ready(subnet), subnet.creation_timestamp(), name)
        });
        let held: BTreeSet<String> = self.ledger.held_subnets().map(str::to_owned).collect();
        let ghosts: Vec<&String> = held.iter().filter(|name| self.is_lost(name)).collect();
        let mut in_force: BTreeMap<String, Network> = BTreeMap::new();
        self.refused.clear();
        // What cannot be read goes on as it was.
        for (name, meta) in self.subnets.unreadable() {
            if let Some(before) = self.ledger.networks().get(name)
                && !hold::is_over(self, meta)
            {
                let leaving = hold::is_leaving(meta);
                in_force.insert(name.clone(), Network { leaving, ..before.clone() });
            }
            self.refused.insert(name.clone(), NetworkError::Unreadable);
        }
        // Only subnets of one VPC can overlap.
        let mut of_vpc: HashMap<String, Vec<String>> = HashMap::new();
        for network in in_force.values() {
            of_vpc.entry(network.vpc.clone()).or_default().push(network.name.clone());
        }
        for subnet in subnets {
            if hold::is_over(self, &subnet.metadata) {
                continue;
            }
            let name = subnet.name_any();
            let others = |vpc: &str| {
                let names = of_vpc.get(vpc).into_iter().flatten();
                names.filter_map(|name| in_force.get(name)).collect::<Vec<_>>()
            };
            match self.understand(&subnet, others, &ghosts) {
                Ok(network) => {
                    of_vpc.entry(network.vpc.clone()).or_default().push(name.clone());
                    in_force.insert(name, network);
                }
                Err(error) => {
                    // An edit that cannot be must not cut off the VMs that are
                    // there, nor give their addresses to another subnet.
                    let before = self.ledger.networks().get(&name);
                    if let Some(before) = before.filter(|_| held.contains(&name)) {
                        let leaving = hold::is_leaving(&subnet.metadata);
                        of_vpc.entry(before.vpc.clone()).or_default().push(name.clone());
                        in_force.insert(name.clone(), Network { leaving, ..before.clone() });
                    }
                    self.refused.insert(name, error);
                }
            }
        }
        self.refused_pools = pools::divide(&mut in_force, &self.pools, self.ledger.networks());
        let networks = self.ledger.networks().keys();
        let gone: Vec<_> = networks.filter(|name| !in_force.contains_key(*name)).cloned().collect();
        gone.iter().for_each(|name| self.ledger.drop_network(name));
        in_force.into_values().for_each(|network| self.ledger.set_network(network));
    }

    /// Whether nobody can say any more what the subnet of this name was, on which
    /// addresses are held: it was edited into something that cannot be before we
    /// started, or somebody took our finalizer off.
    fn is_lost(&self, name: &str) -> bool {
        self.subnets.get(&name.to_owned()).is_none_or(|subnet| {
            !self.ledger.networks().contains_key(name) && Network::parse(subnet).is_err()
        })
    }

    /// What `subnet` says, if it can stand beside the `others` of its VPC and still has
    /// room for what is held in it.
    fn understand<'a>(
        &self,
        subnet: &Subnet,
        others: impl FnOnce(&str) -> Vec<&'a Network>,
        ghosts: &[&String],
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
        let before = self.ledger.networks().get(&network.name);
        let was = before.map_or_else(|| was_ready(subnet), |was| was.cidrs == network.cidrs);
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
        // Of subnets that nobody can say any more where they were.
        for ghost in ghosts.iter().filter(|ghost| ***ghost != network.name) {
            let address = self.ledger.held_in(ghost).find(|held| network.cidrs.contains(*held));
            if let Some(address) = address {
                let subnet = (*ghost).clone();
                return Err(NetworkError::HeldByLost { address, subnet });
            }
        }
        network.conflict(others(&network.vpc)).map_or(Ok(network), Err)
    }

    /// Who else in the cluster has addresses of this network, if anybody does.
    #[must_use]
    pub fn reserved_by(&self, network: &Network) -> Option<NetworkError> {
        let join = self.subnets.meta(&egress::JOIN.to_owned());
        self.reserved.conflict(network, join.is_some())
    }
}
