//! The address ledger: which address belongs to whom.
//!
//! ```text
//!  watch ─► observe ─► blocks ─► pools ◄─ claim, release      (memory)
//!                        ▲          │ edits
//!                        └─ commit ◄┘ one write per block, resourceVersion as read
//! ```
//!
//! [`AddressBlock`] objects are the only home of the fact. Pools are rebuilt from
//! them and from nothing else; a claim or release changes a pool and notes an
//! edit, and counts only once [`Ledger::commit`] has written the block that it
//! belongs to with the `resourceVersion` that was read. When that fails, the block
//! is read again, the pools are rebuilt, and the owner asks anew. Two writers
//! therefore never both succeed, however late either of them wakes up.

pub(crate) mod asked;
mod blocks;
mod edits;
mod holder;
mod loans;
mod pools;
mod spare;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use crds::ledger::{
    AddressBlock, AddressBlockSpec, Holder, block_name, first_of_block, subnet_of_block,
};
use futures::StreamExt as _;
use ipam::{Pool, Seconds};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Preconditions};
use tracing::{info, warn};

pub use holder::{Claimant, VmKey};
pub use pools::{AddressError, Ask, FromPool, refusal};
pub use spare::one_of_each_family;

use blocks::Blocks;
use edits::{Change, Edit, Outcome, Write, apply, empty, version};
use pools::{Pools, of_family, take};

use crate::family::{Family, covers, covers_network};
use crate::few::Few;
use crate::network::Network;

/// Writes in flight at once.
const PARALLEL_WRITES: usize = 16;

/// Blocks, pools and the edits between them.
#[derive(Clone, Debug)]
pub struct Ledger {
    rest: Seconds,
    networks: BTreeMap<String, Network>,
    pools: Pools,
    blocks: Blocks,
    /// Blocks that do not fit their type. Those that did before are among `blocks`
    /// as they were.
    unreadable: BTreeSet<String>,
    /// What is held, by VM; follows `blocks` and the edits. What is lent is held by both.
    by_vm: HashMap<VmKey, Few<Holding>>,
    /// By block: what the next commit changes.
    edits: BTreeMap<String, Edit>,
    /// What was noted since the last attempt began, oldest first.
    noted: Vec<Noted>,
    /// Subnets whose pools no longer follow from the blocks.
    stale: BTreeSet<String>,
}

/// An address of a subnet in the name of a claimant.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Holding {
    claimant: Claimant,
    subnet: String,
    address: IpAddr,
}

/// A change, and the one of the same address that it took the place of.
#[derive(Clone, Debug)]
struct Noted {
    subnet: String,
    address: IpAddr,
    change: Change,
    before: Option<Change>,
}

impl Ledger {
    /// An empty ledger; a released address rests for `rest`.
    #[must_use]
    pub fn new(rest: Seconds) -> Self {
        Self {
            rest,
            networks: BTreeMap::new(),
            pools: Pools::default(),
            blocks: Blocks::default(),
            unreadable: BTreeSet::new(),
            by_vm: HashMap::new(),
            edits: BTreeMap::new(),
            noted: Vec::new(),
            stale: BTreeSet::new(),
        }
    }

    /// Seconds that a released address rests.
    #[must_use]
    pub const fn rest(&self) -> Seconds {
        self.rest
    }

    /// Makes the pools follow the blocks again. To be called after a batch of
    /// observations and before the first claim or release.
    pub fn settle(&mut self) {
        for subnet in std::mem::take(&mut self.stale) {
            self.rebuild(&subnet);
        }
    }

    /// The subnets that are in force.
    #[must_use]
    pub const fn networks(&self) -> &BTreeMap<String, Network> {
        &self.networks
    }

    /// Takes a block as the store has it. A version that is not newer than the
    /// one held, the echo of a write of ours, changes nothing. Returns the VMs
    /// that hold less than they did.
    pub fn observe(&mut self, block: AddressBlock) -> Vec<VmKey> {
        let name = block.name_any();
        self.unreadable.remove(&name);
        let newer = |held: &AddressBlock| version(held) < version(&block);
        if !self.blocks.get(&name).is_none_or(newer) {
            return Vec::new();
        }
        self.replace(name, block)
    }

    /// Takes note that a block does not fit its type: what it said before counts on,
    /// and its subnet gives no new addresses.
    pub fn observe_unreadable(&mut self, name: String) {
        self.unreadable.insert(name);
    }

    /// The blocks that do not fit their type.
    pub fn unreadable_blocks(&self) -> impl Iterator<Item = &str> {
        self.unreadable.iter().map(String::as_str)
    }

    /// Those of one subnet.
    pub fn unreadable_in(&self, subnet: &str) -> impl Iterator<Item = &str> {
        self.unreadable_blocks().filter(move |block| subnet_of_block(block) == subnet)
    }

    /// Takes note that a block is gone, with all that it said.
    pub fn forget(&mut self, name: &str) -> Vec<VmKey> {
        self.unreadable.remove(name);
        let Some(block) = self.blocks.remove(name) else { return Vec::new() };
        warn!(block = name, "An address block was deleted; its holders claim it again");
        self.unindex(&block.spec);
        self.edits.remove(name);
        let holders = block.spec.held.values().flat_map(in_whose_name);
        let holders = holders.map(|holder| holder.vm).collect();
        self.stale.insert(block.spec.subnet);
        holders
    }

    /// Forgets every block not named, after a full list.
    pub fn retain_blocks(&mut self, names: &BTreeSet<String>) -> Vec<VmKey> {
        self.unreadable.retain(|name| names.contains(name));
        let gone: Vec<_> = self
            .blocks
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        gone.iter().flat_map(|name| self.forget(name)).collect()
    }

    /// Hands what `from` holds in `subnet` to `to`: a reservation to the VM that it
    /// was made for.
    pub fn adopt(&mut self, subnet: &str, from: &Claimant, to: &Claimant, now: Seconds) {
        for address in self.addresses(subnet, from) {
            if let Some(pool) = self.pool_mut(subnet, address) {
                pool.release(from.owner(), now);
                if let Err(error) = pool.restore_held(to.owner(), address) {
                    warn!(subnet, %address, port = to.port, %error, "A reservation was not handed over");
                }
            }
            self.note(subnet, address, Change::Release(from.clone(), now));
            self.note(subnet, address, Change::Hold(to.clone()));
        }
    }

    /// Has an address that nobody holds rest, as if it had been released at `now`.
    pub fn rest_one(&mut self, subnet: &str, address: IpAddr, now: Seconds) {
        if self.entry(subnet, address).is_none() {
            self.note(subnet, address, Change::Release(Claimant::nobody(), now));
            self.stale.insert(subnet.to_owned());
            self.settle();
        }
    }

    /// Puts a subnet in force, or changes it.
    pub fn set_network(&mut self, network: Network) {
        let name = network.name.clone();
        if self.networks.get(&name) != Some(&network) {
            self.networks.insert(name.clone(), network);
            self.stale.insert(name);
        }
    }

    /// Takes a subnet out of force. What is held in it stays held.
    pub fn drop_network(&mut self, name: &str) {
        self.networks.remove(name);
        self.pools.remove(name);
    }

    /// The addresses that `claimant` holds in `subnet`, or has on loan, IPv4 first.
    #[must_use]
    pub fn addresses(&self, subnet: &str, claimant: &Claimant) -> Vec<IpAddr> {
        let mut addresses = self.own_addresses(subnet, claimant);
        // Of a loan the entry of the first tells.
        if let Some(lender) = self.lender_to(subnet, claimant) {
            addresses.extend(self.own_addresses(subnet, &lender));
            addresses.sort_unstable();
            addresses.dedup();
        }
        addresses
    }

    /// The addresses whose entries name `claimant`, as who has or who has lent them.
    fn own_addresses(&self, subnet: &str, claimant: &Claimant) -> Vec<IpAddr> {
        asked::note(subnet);
        let held = self.by_vm.get(&claimant.vm).into_iter().flatten();
        let here = |one: &&Holding| one.claimant == *claimant && one.subnet == subnet;
        held.filter(here).map(|one| one.address).collect()
    }

    /// All that is held in the name of `vm`, by whatever uid.
    #[must_use]
    pub fn held_for(&self, vm: &VmKey) -> Vec<(Claimant, String)> {
        let mut held: Vec<(Claimant, String)> = Vec::new();
        for one in self.by_vm.get(vm).into_iter().flatten() {
            let is_last = |(claimant, subnet): &(Claimant, String)| {
                *claimant == one.claimant && *subnet == one.subnet
            };
            // In order of claimant and subnet.
            if !held.last().is_some_and(is_last) {
                held.push((one.claimant.clone(), one.subnet.clone()));
            }
        }
        held
    }

    /// Every VM in whose name something is held.
    pub fn vms(&self) -> impl Iterator<Item = &VmKey> {
        self.by_vm.keys()
    }

    /// Every port that holds something.
    pub fn held_ports(&self) -> impl Iterator<Item = &str> {
        let same = |one: &Holding, next: &Holding| one.claimant.port == next.claimant.port;
        let ports = self.by_vm.values().flat_map(move |held| held.iter().as_slice().chunk_by(same));
        ports.filter_map(|held| Some(held.first()?.claimant.port.as_str()))
    }

    /// The held addresses of one subnet.
    pub fn held_in(&self, subnet: &str) -> impl Iterator<Item = IpAddr> {
        self.blocks.of(subnet).flat_map(|(_, block)| block.spec.held.keys().copied())
    }

    /// Who holds addresses of one subnet, by port.
    #[must_use]
    pub fn holders_in(&self, subnet: &str) -> BTreeSet<Claimant> {
        let blocks = self.blocks.of(subnet);
        blocks.flat_map(|(_, block)| block.spec.held.values().map(Claimant::from_holder)).collect()
    }

    /// Every subnet of which something is held, for all that can be known.
    pub fn held_subnets(&self) -> impl Iterator<Item = &str> {
        let held = self.blocks.subnets().filter(|subnet| self.holds_some(subnet));
        held.chain(self.unreadable_blocks().map(subnet_of_block))
    }

    /// Whether something of this subnet is held, for all that can be known.
    #[must_use]
    pub fn is_in_use(&self, subnet: &str) -> bool {
        self.holds_some(subnet) || self.unreadable_in(subnet).next().is_some()
    }

    fn holds_some(&self, subnet: &str) -> bool {
        self.blocks.of(subnet).any(|(_, block)| !block.spec.held.is_empty())
    }

    /// Deletes the blocks of subnets that are gone and of which nothing is held,
    /// each as it was read or not at all.
    pub async fn prune(&mut self, api: &Api<AddressBlock>, exists: impl Fn(&str) -> bool) {
        let over = |block: &AddressBlock| block.spec.held.is_empty() && !exists(&block.spec.subnet);
        let over = self.blocks.iter().filter(|(_, block)| over(block));
        let over: Vec<_> = over.filter(|(name, _)| !self.unreadable.contains(*name)).collect();
        let mut deleted = Vec::new();
        for (name, block) in over {
            let as_read =
                Preconditions { uid: block.uid(), resource_version: block.resource_version() };
            let params = DeleteParams::default().preconditions(as_read);
            match api.delete(name, &params).await {
                Ok(_) => deleted.push(name.clone()),
                Err(error) => info!(block = name, %error, "An address block was not deleted"),
            }
        }
        deleted.iter().for_each(|name| drop(self.blocks.remove(name)));
    }

    /// Held and free addresses of a subnet's IPv4 and IPv6 pools.
    #[must_use]
    pub fn counts(&self, subnet: &str) -> [(u64, u128); 2] {
        let mut counts = [(0, 0); 2];
        let Some(network) = self.networks.get(subnet) else { return counts };
        let pools = self.pools.of(subnet);
        for (cidr, pool) in network.cidrs.iter().zip(pools) {
            counts[usize::from(cidr.is_ipv6())] = (pool.held(), pool.available());
        }
        counts
    }

    /// Free addresses of one IPPool of a subnet, of IPv4 and of IPv6.
    #[must_use]
    pub fn available_in(&self, subnet: &str, pool: &str) -> [u128; 2] {
        let mut available = [0; 2];
        let Some(network) = self.networks.get(subnet) else { return available };
        let pools = self.pools.of(subnet);
        for (cidr, addresses) in network.cidrs.iter().zip(pools) {
            available[usize::from(cidr.is_ipv6())] = addresses.available_in(pool);
        }
        available
    }

    /// Begins several claims of which either all or none are to count.
    pub fn attempt(&mut self) {
        self.noted.clear();
    }

    /// Takes back all that was claimed since the attempt began, as if nobody had
    /// ever asked: nothing of it is written.
    pub fn undo(&mut self, now: Seconds) {
        for Noted { subnet, address, change, before } in
            std::mem::take(&mut self.noted).into_iter().rev()
        {
            let owner = change.claimant().owner();
            if let Some(pool) = self.pool_mut(&subnet, address) {
                match &change {
                    Change::Hold(_) => drop(pool.release(owner, now)),
                    Change::Release(..) => drop(pool.restore_held(owner, address)),
                    // The pools are made anew.
                    Change::Lend(..) | Change::Return(..) => {}
                }
            }
            let block = block_name(&subnet, address);
            if let Some(edit) = self.edits.get_mut(&block) {
                match before {
                    Some(before) => drop(edit.changes.insert(address, before)),
                    None => drop(edit.changes.remove(&address)),
                }
                if edit.changes.is_empty() {
                    self.edits.remove(&block);
                }
            }
            let holder = self.entry(&subnet, address).map(|(holder, _)| holder);
            let has = holder.as_ref() == Some(change.claimant());
            self.set_held(&subnet, address, change.claimant(), has);
            // In the pool it rests now as if it had been used.
            self.stale.insert(subnet);
        }
    }

    /// Gives `claimant` one address of each family of `subnet`: those `named`,
    /// those it holds, or else free ones. All or none. What it holds beside them it
    /// goes on to hold: see `ledger/spare.rs`.
    ///
    /// # Errors
    /// When one of them cannot be had; then nothing has changed.
    pub fn claim(
        &mut self,
        subnet: &str,
        claimant: &Claimant,
        named: &[IpAddr],
        now: Seconds,
    ) -> Result<Vec<IpAddr>, AddressError> {
        self.claim_as(subnet, claimant, Ask { named, ..Ask::default() }, now)
    }

    /// Gives `claimant` the addresses `named` and nothing else, all or none: a family
    /// of which none is named stays as it is.
    ///
    /// # Errors
    /// When one of them cannot be had; then nothing has changed.
    pub fn claim_named(
        &mut self,
        subnet: &str,
        claimant: &Claimant,
        named: &[IpAddr],
        now: Seconds,
    ) -> Result<Vec<IpAddr>, AddressError> {
        if named.is_empty() {
            return Ok(Vec::new());
        }
        let ask = Ask { named, from: None, family: Family::of_all(named) };
        self.claim_as(subnet, claimant, ask, now)
    }

    /// Gives `claimant` what it asks for: addresses of the families that it wants,
    /// and nothing of others. All or none. What it holds beside them it goes on to
    /// hold: see `ledger/spare.rs`.
    ///
    /// # Errors
    /// When one of them cannot be had; then nothing has changed.
    pub fn claim_as(
        &mut self,
        subnet: &str,
        claimant: &Claimant,
        ask: Ask<'_>,
        now: Seconds,
    ) -> Result<Vec<IpAddr>, AddressError> {
        let Ask { named, from, family } = ask;
        named.iter().for_each(|address| self.prefer(subnet, claimant, *address));
        if let Some(from) = from.filter(|from| from.asked) {
            self.prefer_of(subnet, claimant, &from.name);
        }
        let network =
            self.networks.get(subnet).ok_or_else(|| AddressError::NoSubnet(subnet.to_owned()))?;
        if let Some(block) = self.unreadable_in(subnet).next() {
            let mut held = self.place(subnet, claimant);
            held.retain(|address| covers(family, *address));
            let wanted = network.cidrs.iter().filter(|cidr| covers_network(family, *cidr));
            let enough =
                held.len() == wanted.count() && named.iter().all(|address| held.contains(address));
            let (subnet, block) = (subnet.to_owned(), block.to_owned());
            return if enough { Ok(held) } else { Err(AddressError::Unreadable { subnet, block }) };
        }
        let owner = claimant.owner();
        let pools = self.pools.of_mut(subnet);
        let mut given = Vec::new();
        let mut fresh: Vec<IpAddr> = Vec::new();
        let mut changed = false;
        let mut failure = None;
        let asked = network.cidrs.iter().zip(pools);
        for (cidr, pool) in asked.filter(|(cidr, _)| covers_network(family, *cidr)) {
            let before = pool.address_of(owner);
            let wanted = named.iter().copied().find(|address| address.is_ipv4() == cidr.is_ipv4());
            match take(pool, claimant, owner, wanted, from, now) {
                Ok(address) => {
                    given.push(address);
                    if before != Some(address) {
                        fresh.push(address);
                    }
                }
                Err(error) => {
                    changed |= pool.address_of(owner) != before;
                    failure = Some((error, cidr));
                    break;
                }
            }
        }
        if let Some((error, cidr)) = failure {
            let port_at = |address| self.port_at(subnet, address).unwrap_or_default();
            let error = error.explain(subnet, cidr, now, port_at);
            if changed || !fresh.is_empty() {
                self.rebuild(subnet);
            }
            return Err(error);
        }
        let held = self.addresses(subnet, claimant).into_iter();
        let others = held.filter(|address| !covers(family, *address));
        let in_use: Vec<_> = given.iter().copied().chain(others).collect();
        self.set_aside(subnet, claimant, &in_use);
        for address in fresh {
            self.note(subnet, address, Change::Hold(claimant.clone()));
        }
        Ok(given)
    }

    /// Lets go of all that `claimant` holds in `subnet`. Returns to whom it goes back,
    /// where it was lent.
    pub fn release(&mut self, subnet: &str, claimant: &Claimant, now: Seconds) -> Vec<VmKey> {
        let held = self.addresses(subnet, claimant).into_iter();
        held.filter_map(|address| self.release_one(subnet, claimant, address, now)).collect()
    }

    /// Writes every block with edits, each guarded by the version that was read.
    ///
    /// Returns the VMs whose edits did not get through: the ledger has forgotten
    /// those edits, and they must decide again.
    pub async fn commit(&mut self, api: &Api<AddressBlock>) -> HashSet<VmKey> {
        let writes = self.take_writes().into_iter().map(|write| async move {
            let outcome = write.send(api).await;
            (write, outcome)
        });
        let outcomes: Vec<_> =
            futures::stream::iter(writes).buffer_unordered(PARALLEL_WRITES).collect().await;
        self.written(outcomes)
    }

    /// What is to be written. From here on the edits are nobody's but the writes'.
    fn take_writes(&mut self) -> Vec<Write> {
        self.noted.clear();
        let edits = std::mem::take(&mut self.edits).into_iter();
        edits
            .map(|(name, edit)| {
                let current = self.blocks.get(&name);
                let mut write = Write::of(name, edit, current);
                if let Some(block) = &mut write.block {
                    self.forget_rested(&mut block.spec);
                }
                write
            })
            .collect()
    }

    /// Takes out the releases that the pools have forgotten, or else the blocks of a
    /// network that never runs out would name every address that it ever gave. Only
    /// what is written anyway is shortened.
    fn forget_rested(&self, block: &mut AddressBlockSpec) {
        let Some(network) = self.networks.get(&block.subnet) else { return };
        let pools = self.pools.of(&block.subnet);
        block.resting.retain(|address, _| {
            let mut pools = network.cidrs.iter().zip(pools);
            // What lies outside, since the subnet was changed, no pool can know of.
            let pool = pools.find(|(cidr, _)| cidr.contains(*address));
            pool.is_none_or(|(_, pool)| pool.remembers(*address))
        });
    }

    /// Takes in what became of all that was to be written; returns the VMs whose
    /// edits did not get through.
    fn written(&mut self, outcomes: Vec<(Write, Outcome)>) -> HashSet<VmKey> {
        let mut failed = HashSet::new();
        let mut suspect = BTreeSet::new();
        for (Write { name, edit, .. }, outcome) in outcomes {
            match outcome {
                Outcome::Written(block) => {
                    // The indexes were changed when the edits were noted.
                    self.blocks.insert(name, *block);
                }
                Outcome::Lost(block) => {
                    failed.extend(edit.changes.values().map(|change| change.claimant().vm.clone()));
                    suspect.insert(edit.subnet);
                    if let Some(block) = block {
                        self.blocks.insert(name, *block);
                    }
                }
            }
        }
        if !suspect.is_empty() {
            self.reindex();
            for subnet in suspect {
                self.rebuild(&subnet);
            }
        }
        failed
    }

    /// The blocks as they were read, for tests without a store.
    #[cfg(test)]
    pub(crate) fn blocks_for_tests(self) -> Vec<AddressBlock> {
        self.blocks.iter().map(|(_, block)| block.clone()).collect()
    }

    /// The blocks as they were seen.
    #[cfg(test)]
    pub(crate) fn seen_blocks(&self) -> Vec<AddressBlock> {
        self.blocks.iter().map(|(_, block)| block.clone()).collect()
    }

    /// The blocks as a commit would write them, for tests without a store.
    #[cfg(test)]
    pub(crate) fn as_if_committed(&mut self) -> Vec<AddressBlock> {
        let edits = std::mem::take(&mut self.edits).into_iter();
        edits
            .map(|(name, edit)| {
                let mut block =
                    self.blocks.get(&name).cloned().unwrap_or_else(|| empty(&name, &edit));
                edit.changes.iter().for_each(|(address, change)| {
                    apply(&mut block.spec, *address, change);
                });
                let next = self.blocks.get(&name).map_or(0, version) + 1;
                block.metadata.resource_version = Some(next.to_string());
                block
            })
            .collect()
    }

    /// The port that holds `address`, the edits noted included.
    fn port_at(&self, subnet: &str, address: IpAddr) -> Option<String> {
        self.entry(subnet, address).map(|(holder, _)| holder.port)
    }

    fn pool_mut(&mut self, subnet: &str, address: IpAddr) -> Option<&mut Pool> {
        of_family(self.networks.get(subnet)?, self.pools.of_mut(subnet), address)
    }

    fn note(&mut self, subnet: &str, address: IpAddr, change: Change) {
        self.set_held(subnet, address, change.claimant(), change.gives());
        let edit = self.edits.entry(block_name(subnet, address)).or_insert_with(|| Edit {
            subnet: subnet.to_owned(),
            first: first_of_block(address),
            changes: BTreeMap::new(),
        });
        let before = edit.changes.insert(address, change.clone());
        self.noted.push(Noted { subnet: subnet.to_owned(), address, change, before });
    }

    /// Has the index say whether `claimant` holds `address`.
    fn set_held(&mut self, subnet: &str, address: IpAddr, claimant: &Claimant, held: bool) {
        let holding = Holding { claimant: claimant.clone(), subnet: subnet.to_owned(), address };
        if held {
            self.by_vm.entry(claimant.vm.clone()).or_default().insert(holding);
        } else if let Some(holdings) = self.by_vm.get_mut(&claimant.vm) {
            holdings.remove(&holding);
            if holdings.is_empty() {
                self.by_vm.remove(&claimant.vm);
            }
        }
    }

    fn replace(&mut self, name: String, block: AddressBlock) -> Vec<VmKey> {
        self.stale.insert(block.spec.subnet.clone());
        let mut robbed = Vec::new();
        if let Some(mut old) = self.blocks.remove(&name) {
            old.spec.held.retain(|address, holder| block.spec.held.get(address) != Some(holder));
            self.unindex(&old.spec);
            let holders = old.spec.held.values().flat_map(in_whose_name);
            robbed.extend(holders.map(|holder| holder.vm));
        }
        // After that: who lends goes on to hold what came back.
        self.index(&block.spec);
        self.blocks.insert(name, block);
        robbed
    }

    fn index(&mut self, block: &AddressBlockSpec) {
        for (address, holder) in &block.held {
            for holder in in_whose_name(holder) {
                self.set_held(&block.subnet, *address, &holder, true);
            }
        }
    }

    fn unindex(&mut self, block: &AddressBlockSpec) {
        for (address, holder) in &block.held {
            for holder in in_whose_name(holder) {
                self.set_held(&block.subnet, *address, &holder, false);
            }
        }
    }

    /// Makes `by_vm` anew from the blocks, after edits were lost.
    fn reindex(&mut self) {
        self.by_vm.clear();
        let blocks = std::mem::take(&mut self.blocks);
        for (_, block) in blocks.iter() {
            self.index(&block.spec);
        }
        self.blocks = blocks;
    }

    /// The blocks of `subnet` as they will be once the edits noted are written.
    fn specs_of(&self, subnet: &str) -> BTreeMap<String, AddressBlockSpec> {
        let mut specs: BTreeMap<_, _> = self
            .blocks
            .of(subnet)
            .map(|(name, block)| (name.clone(), block.spec.clone()))
            .collect();
        for (name, edit) in self.edits.iter().filter(|(_, edit)| edit.subnet == subnet) {
            let spec = specs.entry(name.clone()).or_insert_with(|| empty(name, edit).spec);
            edit.changes.iter().for_each(|(address, change)| apply(spec, *address, change));
        }
        specs
    }

    /// Makes the pools of `subnet` anew from its blocks and the edits noted.
    fn rebuild(&mut self, subnet: &str) {
        let Some(network) = self.networks.get(subnet) else { return };
        let pools = network.cidrs.iter().map(|cidr| network.pool(cidr, self.rest));
        let mut pools: Vec<Pool> =
            pools.collect::<Result<_, _>>().expect("parsing the subnet has made each pool once");
        let specs = self.specs_of(subnet);
        // What a lender has beside the entry that says whom it lends to.
        let held = specs.values().flat_map(|block| block.held.values());
        let loans =
            held.filter_map(|one| Some((Claimant::of_lender(one)?, Claimant::from_holder(one))));
        let loans: HashMap<Claimant, Claimant> = loans.collect();
        for block in specs.values() {
            for (address, holder) in &block.held {
                let claimant = Claimant::from_holder(holder);
                let claimant = loans.get(&claimant).cloned().unwrap_or(claimant);
                let Some(pool) = of_family(network, &mut pools, *address) else { continue };
                if let Err(error) = pool.restore_held(claimant.owner(), *address) {
                    warn!(subnet, %address, port = claimant.port, %error, "A held address does not fit its subnet");
                    // Held it is all the same: never free in memory.
                    let _ = pool.restore_held(claimant.keeper(*address), *address);
                }
            }
            for (address, released_at) in &block.resting {
                if let Some(pool) = of_family(network, &mut pools, *address) {
                    pool.restore_resting(*address, *released_at);
                }
            }
        }
        self.pools.put(subnet, pools);
    }
}

/// Who holds by this entry: who has the address, and who has lent it.
fn in_whose_name(holder: &Holder) -> impl Iterator<Item = Claimant> {
    std::iter::once(Claimant::from_holder(holder)).chain(Claimant::of_lender(holder))
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
