//! The cluster as plain data, and what of it must be looked at again.
//!
//! Watches feed [`World::apply`]; nothing here awaits. An object goes in as the
//! API has it, and the VMs whose place might depend on it become dirty. What we
//! write ourselves is put in at once from the API's answer, so that the next
//! decision need not wait for the watch to echo it.

mod answers;
mod moves;
mod places;
mod sets;
mod subnets;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crds::cdi::notes::LOCAL_VOLUMES;
use crds::cni::IpamClaim;
use crds::condition::{READY, holds};
use crds::kubeovn::{Ip, IpPool, Subnet, SubnetSpec, Vip, Vpc};
use crds::kubevirt::{
    MIGRATION_ADDRESS, MigrationPolicy, VirtualMachine, VirtualMachineInstance,
    VirtualMachineInstanceMigration as Migration, VirtualMachineInstanceReplicaSet as ReplicaSet,
};
use crds::ledger::AddressBlock;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};

use net::{MacAddr, names};

use crate::agenda::Agenda;
use crate::few::Few;
use crate::flaw::Flaw;
use crate::ledger::{Ledger, VmKey};
use crate::live::Rollout;
use crate::lost::{self, Heartbeats};
use crate::machine;
use crate::migration;
use crate::migration::{Policies, Terms};
use crate::network::NetworkError;
use crate::objects::mac_of;
use crate::placement::pods::Pod;
use crate::port_names::Objects;
use crate::reserved::Reserved;
use crate::rows::Whose;
use crate::shelf::{Change, Seen, Shelf};
use crate::unended::Unended;
use crate::vips::{Carriers, Macs};
use crate::{claims, egress, hold, instancetypes, storage};

use moves::moved_by;
use places::Places;

pub use places::labels_of;

/// In which order it is decided. Nobody comes too late: what somebody has, or is to have, is
/// claimed before ([`crate::decide::secure`]).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Turn {
    /// Those that lend, since VMs that start rely on them.
    Lends,
    /// Those that wait for a place.
    Starts,
    /// Those that run or rest, and what is left of those that are gone.
    Other,
}

/// Something that a watch saw.
#[derive(Debug)]
pub enum Event {
    /// Of a Vpc.
    Vpc(Seen<Vpc>),
    /// Of a Subnet.
    Subnet(Seen<Subnet>),
    /// Of an IP.
    Ip(Seen<Ip>),
    /// Of an IPPool.
    Pool(Seen<IpPool>),
    /// Of a Vip.
    Vip(Seen<Vip>),
    /// Of an IPAMClaim.
    Claim(Seen<IpamClaim>),
    /// The API does not serve IPAMClaims.
    NoClaims,
    /// Of a Namespace.
    Namespace(Seen<Namespace>),
    /// Of a VM.
    Machine(Seen<VirtualMachine>),
    /// Of a VMI.
    Instance(Seen<VirtualMachineInstance>),
    /// Of a migration.
    Migration(Seen<Migration>),
    /// Of a MigrationPolicy.
    Policy(Seen<MigrationPolicy>),
    /// The API serves no MigrationPolicies.
    NoPolicies,
    /// Of a Node.
    Node(Seen<Node>),
    /// Which nodes are heard of.
    Heartbeats(Heartbeats),
    /// Of what disks lie on.
    Storage(storage::News),
    /// Of a replica set.
    Set(Seen<ReplicaSet>),
    /// The API serves no replica sets.
    NoSets,
    /// Of instancetypes, preferences and what of them is kept.
    Kind(instancetypes::News),
    /// Of a Pod.
    Pod(Seen<Pod>),
    /// The API serves no Pods.
    NoPods,
    /// Of an address block.
    Block(Seen<AddressBlock>),
}

/// The cluster, and what to look at again.
#[derive(Debug)]
pub struct World {
    /// By name.
    pub vpcs: Shelf<String, Vpc>,
    /// By name.
    pub subnets: Shelf<String, Subnet>,
    /// By name, which is the port's.
    pub ips: Shelf<String, Ip>,
    /// By name.
    pub pools: Shelf<String, IpPool>,
    /// By name.
    pub vips: Shelf<String, Vip>,
    /// The MACs that they say.
    pub vip_macs: Macs,
    /// IPAMClaims.
    pub claims: claims::Claims,
    /// By name.
    pub namespaces: Shelf<String, Namespace>,
    /// VMs.
    pub machines: Shelf<VmKey, VirtualMachine>,
    /// Their instances.
    pub instances: Shelf<VmKey, VirtualMachineInstance>,
    /// Moves of instances, by their own names.
    pub migrations: Shelf<VmKey, Migration>,
    /// Replica sets.
    pub replica_sets: Shelf<VmKey, ReplicaSet>,
    /// VMs of whose last guest no end was told.
    pub unended: Unended,
    /// What disks lie on.
    pub storage: storage::Storage,
    /// Instancetypes and preferences, and what of them is kept for VMs.
    pub kinds: instancetypes::Kinds,
    /// By name.
    pub nodes: Shelf<String, Node>,
    /// Which of them are heard of, once that was looked at.
    pub heartbeats: Option<Heartbeats>,
    /// Whether guests of a node that is said to be off have ended.
    pub gives_up: bool,
    /// Addresses that something else in the cluster has.
    pub reserved: Reserved,
    /// How guests are moved.
    pub terms: Terms,
    /// And how some of them.
    pub policies: Policies,
    /// When changes reach guests that run.
    pub rollout: Rollout,
    /// Which address belongs to whom.
    pub ledger: Ledger,
    /// Vips that have no address, and why.
    pub refused_vips: BTreeMap<String, String>,
    /// IP objects that reserve nothing, and why.
    pub unreserved: BTreeMap<String, String>,
    /// IP objects of nobody, which are to be told so: no decision is about them.
    pub nobodys: BTreeSet<String>,
    /// Which ports may send from addresses that are not theirs.
    pub carriers: Carriers,
    /// Vips that select VMs, by the namespace of these.
    selecting: BTreeMap<String, BTreeSet<String>>,
    /// Subnets that cannot be in force as written, and why.
    pub refused: BTreeMap<String, NetworkError>,
    /// What is in force of each subnet.
    accepted: BTreeMap<String, SubnetSpec>,
    /// Vpcs, Subnets and Vips whose rows OVN does not have as they are wanted, and why.
    pub set_aside: BTreeMap<Whose, String>,
    /// Subnets and their addresses that were gateways until now.
    retired: Vec<(String, IpAddr)>,
    /// IPPools that are not in force as written, and why.
    pub refused_pools: BTreeMap<String, Flaw>,
    blocks_synced: bool,
    /// Which VMs to look at.
    pub agenda: Agenda,
    topology: bool,
    /// Ports by the MAC of their IP object.
    macs: HashMap<MacAddr, Few<String>>,
    /// VPC and MAC of ports that are decided in this round.
    expected_macs: HashMap<(String, MacAddr), String>,
    /// IP objects by the VM that they are of.
    ips_of: HashMap<VmKey, Few<String>>,
    /// Migrations by the VM that they are of.
    migrations_of: HashMap<VmKey, Few<String>>,
    /// Instances by the replica set that controls them.
    members_of: HashMap<VmKey, Few<String>>,
    /// Instances without a controller.
    orphans: BTreeSet<VmKey>,
    /// Nodes that guests are about to leave by what this round decides.
    departures: Vec<String>,
    /// What is taken of each node.
    places: Places,
}

impl World {
    /// An empty one; released addresses rest for `rest` seconds.
    #[must_use]
    pub fn new(rest: ipam::Seconds) -> Self {
        Self {
            vpcs: Shelf::default(),
            subnets: Shelf::default(),
            ips: Shelf::default(),
            pools: Shelf::default(),
            vips: Shelf::default(),
            vip_macs: Macs::default(),
            claims: claims::Claims::default(),
            namespaces: Shelf::default(),
            machines: Shelf::default(),
            instances: Shelf::default(),
            migrations: Shelf::default(),
            replica_sets: Shelf::default(),
            unended: Unended::default(),
            storage: storage::Storage::default(),
            kinds: instancetypes::Kinds::default(),
            nodes: Shelf::default(),
            heartbeats: None,
            gives_up: true,
            reserved: Reserved::default(),
            terms: Terms::default(),
            policies: Policies::default(),
            rollout: Rollout::default(),
            ledger: Ledger::new(rest),
            refused_vips: BTreeMap::new(),
            unreserved: BTreeMap::new(),
            nobodys: BTreeSet::new(),
            carriers: Carriers::default(),
            selecting: BTreeMap::new(),
            refused: BTreeMap::new(),
            accepted: BTreeMap::new(),
            set_aside: BTreeMap::new(),
            retired: Vec::new(),
            refused_pools: BTreeMap::new(),
            blocks_synced: false,
            agenda: Agenda::default(),
            topology: false,
            macs: HashMap::new(),
            expected_macs: HashMap::new(),
            ips_of: HashMap::new(),
            migrations_of: HashMap::new(),
            members_of: HashMap::new(),
            orphans: BTreeSet::new(),
            departures: Vec::new(),
            places: Places::default(),
        }
    }

    /// Whether every kind has been listed: nothing may be decided before, since
    /// what is not yet known looks as if it were gone.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.vpcs.is_synced()
            && self.subnets.is_synced()
            && self.ips.is_synced()
            && self.pools.is_synced()
            && self.vips.is_synced()
            && self.claims.is_known()
            && self.namespaces.is_synced()
            && self.machines.is_synced()
            && self.instances.is_synced()
            && self.migrations.is_synced()
            && self.policies.are_known()
            && self.nodes.is_synced()
            && self.storage.is_known()
            && self.places.pods_are_known()
            && self.blocks_synced
    }

    /// Takes in what a watch saw.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Vpc(seen) => {
                let changes = self.vpcs.apply(seen, name_of);
                changes.into_iter().for_each(|change| self.vpc_changed(change));
            }
            Event::Subnet(seen) => {
                let changes = self.subnets.apply(seen, name_of);
                changes.into_iter().for_each(|change| self.subnet_changed(change));
            }
            Event::Ip(seen) => {
                for change in self.ips.apply(seen, name_of) {
                    self.ip_changed(change);
                }
            }
            Event::Pool(seen) => {
                for (_, old, new) in self.pools.apply(seen, name_of) {
                    self.topology |= is_news(old.as_deref(), new.as_deref(), |pool| &pool.spec);
                }
            }
            Event::Vip(seen) => {
                let changes = self.vips.apply(seen, name_of);
                changes.into_iter().for_each(|change| self.vip_changed(change));
            }
            Event::Claim(seen) => {
                let marked = self.claims.apply(Some(seen));
                marked.into_iter().for_each(|key| self.agenda.mark(key));
            }
            Event::NoClaims => drop(self.claims.apply(None)),
            Event::Namespace(seen) => {
                // Only what selectors look at.
                for (_, old, new) in self.namespaces.apply(seen, name_of) {
                    let labels = |one: &Option<Arc<Namespace>>| {
                        one.as_ref().map(|one| one.metadata.labels.clone())
                    };
                    self.topology |= labels(&old) != labels(&new);
                }
            }
            Event::Machine(seen) => {
                for (key, _, new) in self.machines.apply(seen, vm_key_of) {
                    if new.is_none() {
                        self.kinds.forget(&key);
                    }
                    self.agenda.mark(key);
                }
            }
            Event::Instance(seen) => {
                for change in self.instances.apply(seen, vm_key_of) {
                    self.instance_changed(change);
                }
            }
            Event::Migration(seen) => {
                for change in self.migrations.apply(seen, vm_key_of) {
                    self.migration_changed(change);
                }
            }
            Event::Policy(seen) => {
                if self.policies.apply(Some(seen)) {
                    self.look_at_pending();
                }
            }
            Event::NoPolicies => {
                self.policies.apply(None);
            }
            Event::Node(seen) => {
                self.topology |= self.reserved.apply(&seen);
                // Only what placement looks at; a heartbeat is no news.
                for (name, old, new) in self.nodes.apply(seen, name_of) {
                    let facts = |node: &Option<Arc<Node>>| {
                        node.as_ref().map(|node| {
                            let says = [MIGRATION_ADDRESS, LOCAL_VOLUMES]
                                .map(|key| node.annotations().get(key).cloned());
                            let status = node.status.as_ref();
                            let has = status.and_then(|status| status.allocatable.clone());
                            (node.metadata.labels.clone(), node.spec.clone(), says, has)
                        })
                    };
                    if facts(&old) != facts(&new) {
                        self.look_at_waiting();
                        self.look_at_bereft(|node| node == name);
                        self.look_at_evictable(&name);
                    }
                    // And what the way out leads by.
                    let gateway = |node: &Option<Arc<Node>>| node.as_deref().map(egress::facts);
                    self.topology |= gateway(&old) != gateway(&new) && egress::is_wanted(self);
                }
            }
            Event::Heartbeats(now) => {
                self.heartbeats = Some(now);
                self.look_at_waiting();
                self.look_at_bereft(|_| true);
            }
            Event::Storage(news) => {
                self.storage.apply(news).into_iter().for_each(|key| self.agenda.mark(key));
                // A volume may say which instancetype its VM has.
                self.kinds.take_waiting().into_iter().for_each(|key| self.agenda.mark(key));
            }
            Event::Block(seen) => self.block_seen(seen),
            Event::Pod(seen) => self.pods_seen(&seen),
            Event::NoPods => self.places.pods_cannot_be_listed(),
            Event::Set(seen) => self.sets_seen(seen),
            Event::Kind(news) => {
                self.kinds.apply(news).into_iter().for_each(|key| self.agenda.mark(key));
            }
            Event::NoSets => {}
        }
    }

    /// The Vips whose selector looks at VMs of this namespace.
    pub fn selecting_vips(&self, namespace: &str) -> impl Iterator<Item = &String> {
        let named = (!namespace.is_empty()).then(|| self.selecting.get(namespace));
        named.flatten().into_iter().flatten()
    }

    /// Whether a subnet is not as written because of addresses that are held.
    #[must_use]
    pub fn has_subnet_that_waits(&self) -> bool {
        use NetworkError::{GatewayHeld, HeldByLost, HeldOutside, VipHeld};
        let waits = |why: &NetworkError| {
            matches!(why, HeldOutside(_) | GatewayHeld(_) | VipHeld(_) | HeldByLost { .. })
        };
        self.refused.values().any(waits)
    }

    /// Takes a subnet out of force until it is looked at again.
    pub fn refuse(&mut self, name: &str, why: NetworkError) {
        self.ledger.drop_network(name);
        self.refused.insert(name.to_owned(), why);
    }

    /// Whether the VM or its instance cannot be read: then nothing is done for it,
    /// and nothing of it is touched.
    #[must_use]
    pub fn is_unreadable(&self, key: &VmKey) -> bool {
        self.machines.is_unreadable(key) || self.instances.is_unreadable(key)
    }

    /// The VM with what it refers to put into its template.
    ///
    /// # Errors
    /// What is to be kept first, or why it cannot be.
    pub fn effective(
        &mut self,
        vm: &Arc<VirtualMachine>,
    ) -> Result<Arc<VirtualMachine>, instancetypes::Unready> {
        self.kinds.effective(vm, &self.storage)
    }

    /// Has this VM looked at again.
    pub fn look_at(&mut self, key: VmKey) {
        self.agenda.mark(key);
    }

    /// Has everything looked at again.
    pub fn look_at_all(&mut self) {
        self.topology = true;
    }

    fn look_at_waiting(&mut self) {
        let waiting = self.machines.iter().filter(|(key, _)| self.instances.get(key).is_none());
        let unplaced = self.instances.iter().filter(|(_, instance)| node_of(instance).is_none());
        let unplaced = unplaced.map(|(key, _)| key.clone());
        let moving = self.migrations.iter().filter(|(_, one)| !migration::phase(one).is_final());
        let moving = moving.map(|(_, one)| moved_by(one));
        let waiting = waiting.map(|(key, _)| key.clone()).chain(unplaced).chain(moving);
        let waiting: Vec<_> = waiting.collect();
        waiting.into_iter().for_each(|key| self.agenda.mark(key));
    }

    /// Has those looked at whose node is one of these and by all that is seen no more, or
    /// the other node of whose move is.
    fn look_at_bereft(&mut self, nodes: impl Fn(&str) -> bool) {
        let moves = |one: &VirtualMachineInstance| {
            let target = one.migration().and_then(|state| state.target_node.as_deref());
            target.is_some_and(|target| nodes(target) && lost::absence(self, target).is_some())
                || node_of(one).is_some_and(|node| {
                    target.is_some() && nodes(node) && lost::absence(self, node).is_some()
                })
        };
        let on_them = |one: &VirtualMachineInstance| {
            node_of(one).is_some_and(&nodes) && lost::is_bereft(self, one) || moves(one)
        };
        let guests = self.instances.iter().filter(|(_, instance)| on_them(instance));
        let guests: Vec<_> = guests.map(|(key, _)| key.clone()).collect();
        guests.into_iter().for_each(|key| self.agenda.mark(key));
    }

    /// Has those looked at who may have to leave the node of this name.
    fn look_at_evictable(&mut self, node: &str) {
        let guests = self
            .instances
            .iter()
            .filter(|(_, one)| one.spec.eviction_strategy.is_some() && node_of(one) == Some(node));
        let guests: Vec<_> = guests.map(|(key, _)| key.clone()).collect();
        guests.into_iter().for_each(|key| self.agenda.mark(key));
    }

    /// Whether there is anything to look at.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.topology || !self.agenda.is_empty()
    }

    /// Brings subnets and pools up to date and hands out what is dirty: the VMs,
    /// and whether VPCs and subnets must be looked at too.
    pub fn take_dirty(&mut self) -> (Vec<VmKey>, bool) {
        self.begin_expecting();
        self.expected_macs.clear();
        self.departures.clear();
        // A subnet that waited goes when its last address was given back.
        let over = |subnet: &ObjectMeta| hold::is_over(self, subnet) && hold::is_held(subnet);
        let topology = self.topology || self.subnets.metas().any(|(_, subnet)| over(subnet));
        self.topology = false;
        if topology {
            self.understand_subnets();
            self.keys().into_iter().for_each(|key| self.agenda.mark(key));
        }
        self.ledger.settle();
        let mut dirty: Vec<_> = self.agenda.take().into_iter().collect();
        // Of two that start who was there first is served first.
        dirty.sort_by_cached_key(|key| {
            let created = self.machines.get(key).and_then(|vm| vm.creation_timestamp());
            let created = created.or_else(|| self.instances.get(key)?.creation_timestamp());
            (self.turn(key), created)
        });
        (dirty, topology)
    }

    /// When it is decided for this one, seen beside others.
    #[must_use]
    pub fn turn(&self, key: &VmKey) -> Turn {
        let starts = match (self.machines.get(key), self.instances.get(key)) {
            // Whenever it may be tried again.
            (Some(vm), None) => machine::next(vm, None, Timestamp::MAX) == machine::Step::Create,
            (_, Some(instance)) => node_of(instance).is_none(),
            (None, None) => false,
        };
        match starts {
            _ if key.is_lender() => Turn::Lends,
            true => Turn::Starts,
            false => Turn::Other,
        }
    }

    /// All that there is to look at.
    fn keys(&self) -> BTreeSet<VmKey> {
        let machines = self.machines.iter().map(|(key, _)| key.clone());
        let instances = self.instances.iter().map(|(key, _)| key.clone());
        let vips = self.vips.iter().map(|(name, _)| VmKey::of_vip(name));
        let vips = vips.chain(self.claims.keys());
        let ips = self.ips.iter().filter_map(|(_, ip)| ip_key(ip));
        let moving = self.migrations_of.keys().cloned();
        let keys =
            machines.chain(instances).chain(moving).chain(self.ledger.vms().cloned()).chain(vips);
        let sets = self.replica_sets.iter().map(|(key, _)| VmKey::of_set(key));
        keys.chain(egress::keys(self)).chain(ips).chain(sets).collect()
    }

    /// The ports that use this MAC, other than `port`.
    pub fn others_with_mac<'a>(
        &'a self,
        mac: MacAddr,
        port: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        let ports = self.macs.get(&mac).into_iter().flatten();
        ports.map(String::as_str).filter(move |other| *other != port)
    }

    /// The IP objects of a VM.
    pub fn ips_of(&self, key: &VmKey) -> impl Iterator<Item = &Arc<Ip>> {
        self.ips_of.get(key).into_iter().flatten().filter_map(|name| self.ips.get(name))
    }

    /// Whether a guest of this name may be there: its instance was given a node.
    #[must_use]
    pub fn runs(&self, key: &VmKey) -> bool {
        self.instances.get(key).is_some_and(|instance| node_of(instance).is_some())
    }

    /// Takes a MAC for `port` until the next round, which sees its IP object. Says
    /// who has it if somebody else does.
    pub fn expect_mac(&mut self, vpc: &str, mac: MacAddr, port: &str) -> Option<String> {
        let place = (vpc.to_owned(), mac);
        let holder = self.expected_macs.entry(place).or_insert_with(|| port.to_owned());
        (holder != port).then(|| holder.clone())
    }

    /// Who has taken this MAC in this round.
    #[must_use]
    pub fn expected_mac(&self, vpc: &str, mac: MacAddr) -> Option<&str> {
        self.expected_macs.get(&(vpc.to_owned(), mac)).map(String::as_str)
    }

    fn block_seen(&mut self, seen: Seen<AddressBlock>) {
        let unclear = self.ledger.unreadable_blocks().count();
        let robbed = match seen {
            Seen::All { objects, unreadable } => {
                self.blocks_synced = true;
                let listed = objects.iter().map(Resource::meta).chain(&unreadable);
                let names = listed.map(name_of).collect();
                let mut robbed = self.ledger.retain_blocks(&names);
                for block in objects {
                    robbed.extend(self.ledger.observe(block));
                }
                unreadable.iter().for_each(|meta| self.ledger.observe_unreadable(name_of(meta)));
                robbed
            }
            Seen::Now(block) => self.ledger.observe(*block),
            Seen::Unreadable(meta) => {
                self.ledger.observe_unreadable(name_of(&meta));
                Vec::new()
            }
            Seen::Gone(meta) => self.ledger.forget(&name_of(&meta)),
        };
        robbed.into_iter().for_each(|key| self.agenda.mark(key));
        // Who could not be served for a block that nobody could read.
        self.topology |= unclear != self.ledger.unreadable_blocks().count();
    }

    fn vpc_changed(&mut self, (_, old, new): Change<String, Vpc>) {
        self.topology |= is_news(old.as_deref(), new.as_deref(), |vpc| &vpc.spec);
    }

    fn vip_changed(&mut self, change: Change<String, Vip>) {
        self.vip_macs.note(&change);
        let (_, old, new) = change;
        if !is_news(old.as_deref(), new.as_deref(), |vip| &vip.spec) {
            return;
        }
        self.topology = true;
        self.selecting.clear();
        for (name, vip) in self.vips.iter().filter(|(_, vip)| !vip.spec.selector.is_empty()) {
            self.selecting.entry(vip.spec.namespace.clone()).or_default().insert(name.clone());
        }
    }

    fn subnet_changed(&mut self, (_, old, new): Change<String, Subnet>) {
        self.topology |= is_news(old.as_deref(), new.as_deref(), |subnet| &subnet.spec);
    }

    fn ip_changed(&mut self, (name, old, new): Change<String, Ip>) {
        // Whose it was, nobody could read.
        self.topology |= old.is_none() && new.is_none();
        // One of no VM has nobody else to let it go.
        let nobodys = |ip: &Arc<Ip>| ip_key(ip).is_none() && hold::is_leaving(&ip.metadata);
        self.topology |= new.as_ref().is_some_and(nobodys);
        if old.as_ref().is_some_and(|old| ip_key(old).is_none()) {
            self.unreserved.remove(&name);
            self.nobodys.remove(&name);
        }
        if let Some(old) = &old {
            mac_of(old).iter().for_each(|mac| forget(&mut self.macs, mac, &name));
            ip_key(old).iter().for_each(|key| forget(&mut self.ips_of, key, &name));
        }
        if let Some(new) = &new {
            if let Some(mac) = mac_of(new) {
                self.macs.entry(mac).or_default().insert(name.clone());
            }
            if let Some(key) = ip_key(new) {
                self.ips_of.entry(key).or_default().insert(name);
            } else {
                self.unreserved.insert(name.clone(), OF_NOBODY.to_owned());
                self.nobodys.insert(name);
            }
        }
        let of = [old, new].into_iter().flatten().filter_map(|ip| ip_key(&ip));
        of.for_each(|key| self.agenda.mark(key));
    }

    fn instance_changed(&mut self, change: Change<VmKey, VirtualMachineInstance>) {
        self.place_changed(&change);
        self.member_changed(&change);
        let (key, old, new) = change;
        if let Some(last) = old.as_deref().filter(|_| new.is_none()) {
            self.unended.went(&key, last);
        }
        // A Vip that is being deleted may have waited for it.
        self.topology |= new.is_none() && self.vips.metas().any(|(_, vip)| hold::is_leaving(vip));
        self.agenda.mark(key);
    }
}

impl Objects for World {
    fn vpcs(&self) -> &Shelf<String, Vpc> {
        &self.vpcs
    }

    fn vips(&self) -> &Shelf<String, Vip> {
        &self.vips
    }

    fn guest(&self, port: &str) -> Option<VmKey> {
        ip_key(self.ips.get(&port.to_owned())?)
    }
}

/// Whether a Vpc or Subnet must be understood anew: it says something else, is
/// being deleted, or somebody took our finalizer off.
fn is_news<K: Resource, S: PartialEq>(
    old: Option<&K>,
    new: Option<&K>,
    spec: impl Fn(&K) -> &S,
) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return true };
    let changed = spec(old) != spec(new);
    let (old, new) = (old.meta(), new.meta());
    changed
        || hold::is_leaving(old) != hold::is_leaving(new)
        || (hold::is_held(old) && !hold::is_held(new) && !hold::is_leaving(new))
}

/// Whether the status says that the subnet was in force.
pub(crate) fn was_ready(subnet: &Subnet) -> bool {
    subnet.status.as_ref().is_some_and(|status| holds(&status.conditions, READY))
}

/// Takes `name` out of the set at `key`, and the set out when it is empty.
fn forget<Key: Eq + std::hash::Hash>(
    index: &mut HashMap<Key, Few<String>>,
    key: &Key,
    name: &String,
) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}

/// The node that an instance was given.
#[must_use]
pub fn node_of(instance: &VirtualMachineInstance) -> Option<&str> {
    instance.status.as_ref().and_then(|status| status.node_name.as_deref())
}

/// Namespace and name of a VM or its instance.
pub fn vm_key<K: Resource>(object: &K) -> VmKey {
    vm_key_of(object.meta())
}

pub(crate) fn vm_key_of(meta: &ObjectMeta) -> VmKey {
    VmKey { namespace: meta.namespace.clone().unwrap_or_default(), name: name_of(meta) }
}

fn name_of(meta: &ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}

/// Why an IP object of nobody reserves nothing.
pub(crate) const OF_NOBODY: &str = "spec.podName or spec.namespace is empty: write the name of the VM \
                                    that the address is for, and its namespace";

/// The VM that an IP object is of, or the node. What Kube-OVN has itself (the port between
/// an underlay and its Vpc) has no namespace, and its object is called as it is.
pub(crate) fn ip_key(ip: &Ip) -> Option<VmKey> {
    let crds::kubeovn::IpSpec { namespace, pod_name, .. } = &ip.spec;
    if namespace.is_empty() && ip.name_any() == names::node_port(pod_name) {
        return Some(VmKey::of_node(pod_name));
    }
    let key = || VmKey { namespace: namespace.clone(), name: pod_name.clone() };
    let has_place = !namespace.is_empty() || ip.name_any() == *pod_name;
    (!pod_name.is_empty() && has_place).then(key)
}
