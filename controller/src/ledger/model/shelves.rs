//! The real ledger as a table of states: each distinct ledger, block and write is
//! kept once and known by a number, and each operation is carried out once.
//!
//! A model state is then a handful of numbers, though every decision in it was made
//! by the code that runs.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use crds::kubeovn::{Subnet, SubnetSpec};
use ipam::Owner;

use super::super::*;

/// The number of a kept value.
pub(super) type Id = u16;

/// Three VMs, of which the last is made anew under the name of the first.
pub(super) const OWNERS: usize = 3;
pub(super) const SUBNET: &str = "s";
/// Time stands still: what is released may be given to another at once.
const NOW: Seconds = 0;

/// One bit for each owner.
pub(super) type Owners = u8;

pub(super) const fn has(owners: Owners, owner: usize) -> bool {
    owners & (1 << owner) != 0
}

pub(super) fn each(owners: Owners) -> impl Iterator<Item = usize> {
    (0..OWNERS).filter(move |owner| has(owners, *owner))
}

pub(super) fn claimant(owner: usize) -> Claimant {
    let (name, uid) = [("x", "x1"), ("y", "y1"), ("x", "x2")][owner];
    let vm = VmKey { namespace: "d".to_owned(), name: name.to_owned() };
    Claimant { port: format!("{name}.d"), vm, uid: uid.to_owned() }
}

pub(super) fn owner_of(claimant: &Claimant) -> usize {
    ["x1", "y1", "x2"].iter().position(|uid| *uid == claimant.uid).expect("one of the three")
}

/// All owners of the names that these have.
fn named_as(vms: &HashSet<VmKey>) -> Owners {
    (0..OWNERS).filter(|owner| vms.contains(&claimant(*owner).vm)).map(|owner| 1 << owner).sum()
}

/// What `decide` claims for one that starts.
fn claim(ledger: &mut Ledger, owner: usize, lending: bool) -> Result<Vec<IpAddr>, AddressError> {
    if !lending {
        return ledger.claim(SUBNET, &claimant(owner), &[], NOW);
    }
    ledger.borrow(SUBNET, &claimant(owner), &lender(), NOW)?;
    // The entry of the first is the loan, the others go with it.
    Ok(ledger.place(SUBNET, &claimant(owner)).into_iter().take(1).collect())
}

#[derive(Debug)]
struct Kept<T>(Vec<T>, HashMap<String, Id>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Vec::new(), HashMap::new())
    }
}

impl<T> Kept<T> {
    fn keep(&mut self, name: String, value: T) -> Id {
        let next = Id::try_from(self.0.len()).expect("the world is small");
        *self.1.entry(name).or_insert_with(|| {
            self.0.push(value);
            next
        })
    }

    fn get(&self, id: Id) -> &T {
        &self.0[usize::from(id)]
    }
}

/// The held addresses of a block and their owners, in order.
pub(super) type Holds = Rc<[(IpAddr, usize)]>;

fn holds(block: &AddressBlock) -> Holds {
    let held = block.spec.held.iter();
    let vms = held.filter(|(_, holder)| Claimant::from_holder(holder) != lender());
    vms.map(|(address, holder)| (*address, owner_of(&Claimant::from_holder(holder)))).collect()
}

/// What holds all addresses where they are lent.
fn lender() -> Claimant {
    Claimant::of_vip("l", "l1")
}

/// What a round has decided.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) ledger: Id,
    pub(super) writes: Vec<Id>,
    /// Who has which addresses once all is written.
    pub(super) placed: Vec<(usize, Id)>,
    /// Whose addresses are to be let go of, as far as this controller knows.
    pub(super) gone: Owners,
    /// Who of those that are there holds more than its place.
    pub(super) over: Owners,
}

/// Owners that are to be left with these addresses, or with what the ledger chooses.
type Spare = Vec<(usize, Option<Id>)>;

/// A ledger, and what became of its writes.
type Answered = (Id, Vec<(Id, Answer)>);

#[derive(Debug, Default)]
pub(super) struct Shelves {
    cidrs: (String, Vec<String>),
    /// No VM has an address of its own: all is a Vip's, which lends it.
    pub(super) lending: bool,
    ledgers: Kept<Ledger>,
    blocks: Kept<AddressBlock>,
    writes: Kept<Write>,
    addresses: Kept<Vec<IpAddr>>,
    /// Of each block and of each write, who holds what.
    block_holds: Vec<Holds>,
    write_holds: Vec<Option<Holds>>,
    stored: HashMap<(Id, u16), Id>,
    listed: HashMap<Vec<Option<Id>>, Id>,
    rounds: HashMap<(Id, Owners), Rc<Round>>,
    releases: HashMap<(Id, Owners, Spare), (Id, Vec<Id>)>,
    observed: HashMap<(Id, Id), Id>,
    written: HashMap<Answered, (Id, Owners)>,
}

/// What the writer of a block learns: kept blocks in the place of blocks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Answer {
    Written(Id),
    Lost(Option<Id>),
}

impl Shelves {
    /// Over a subnet of these networks that gives all but `excluded`.
    pub(super) fn new(cidrs: &str, excluded: &[&str]) -> Self {
        let excluded = excluded.iter().map(|range| (*range).to_owned()).collect();
        Self { cidrs: (cidrs.to_owned(), excluded), ..Self::default() }
    }

    /// The block of this name before anything has happened: where addresses are lent,
    /// with all that the lender has.
    pub(super) fn first_block(&mut self, name: &str) -> Option<Id> {
        if !self.lending {
            return None;
        }
        let mut ledger = self.ledger();
        ledger.claim(SUBNET, &lender(), &[], NOW).unwrap();
        let mut block = ledger.as_if_committed().into_iter().find(|one| one.name_any() == name)?;
        block.metadata.resource_version = Some("0".to_owned());
        Some(self.keep_block(block))
    }

    fn ledger(&self) -> Ledger {
        let (cidr_block, exclude_ips) = self.cidrs.clone();
        let spec = SubnetSpec { cidr_block, exclude_ips, ..SubnetSpec::default() };
        let mut ledger = Ledger::new(0);
        ledger.set_network(Network::parse(&Subnet::new(SUBNET, spec)).unwrap());
        ledger.settle();
        ledger
    }

    /// The ledger of a controller that has just listed these blocks.
    pub(super) fn listed(&mut self, blocks: &[Option<Id>]) -> Id {
        if let Some(ledger) = self.listed.get(blocks) {
            return *ledger;
        }
        let mut ledger = self.ledger();
        for block in blocks.iter().flatten() {
            ledger.observe(self.block(*block).clone());
        }
        ledger.settle();
        let ledger = self.keep(ledger);
        self.listed.insert(blocks.to_vec(), ledger);
        ledger
    }

    /// The ledger after a watch brought a block.
    pub(super) fn observe(&mut self, ledger: Id, block: Id) -> Id {
        if let Some(after) = self.observed.get(&(ledger, block)) {
            return *after;
        }
        let mut changed = self.ledgers.get(ledger).clone();
        changed.observe(self.block(block).clone());
        changed.settle();
        let after = self.keep(changed);
        self.observed.insert((ledger, block), after);
        after
    }

    /// What `decide` does, for all VMs: those that are there claim, all or none,
    /// and what is held in the name of others is to go.
    pub(super) fn round(&mut self, ledger: Id, seen: Owners) -> Rc<Round> {
        if let Some(round) = self.rounds.get(&(ledger, seen)) {
            return Rc::clone(round);
        }
        let mut changed = self.ledgers.get(ledger).clone();
        let mut placed = Vec::new();
        for owner in each(seen) {
            changed.attempt();
            match claim(&mut changed, owner, self.lending) {
                Ok(given) => {
                    let name = format!("{given:?}");
                    placed.push((owner, self.addresses.keep(name, given)));
                }
                Err(_) => changed.undo(NOW),
            }
        }
        let held = (0..OWNERS).filter(|one| {
            let held = changed.held_for(&claimant(*one).vm);
            held.iter().any(|(holder, _)| owner_of(holder) == *one)
        });
        let gone = held.filter(|owner| !has(seen, *owner)).map(|owner| 1 << owner).sum();
        let more =
            |owner: &usize| !one_of_each_family(&changed.addresses(SUBNET, &claimant(*owner)));
        let over = each(seen).filter(more).map(|owner| 1 << owner).sum();
        let writes = self.writes_of(&mut changed);
        let round = Rc::new(Round { ledger: self.keep(changed), writes, placed, gone, over });
        self.rounds.insert((ledger, seen), Rc::clone(&round));
        round
    }

    /// The ledger once it has let go of what these hold, and of what those hold beside
    /// their place, and what to write.
    pub(super) fn release(&mut self, ledger: Id, owners: Owners, spare: Spare) -> (Id, Vec<Id>) {
        let key = (ledger, owners, spare);
        if let Some(done) = self.releases.get(&key) {
            return done.clone();
        }
        let mut changed = self.ledgers.get(ledger).clone();
        each(owners).for_each(|owner| drop(changed.release(SUBNET, &claimant(owner), NOW)));
        for (owner, place) in &key.2 {
            let owner = claimant(*owner);
            let held = changed.addresses(SUBNET, &owner);
            let place = match place {
                Some(place) => self.addresses(*place).to_vec(),
                None => changed.place(SUBNET, &owner),
            };
            place.iter().for_each(|address| changed.prefer(SUBNET, &owner, *address));
            let spare = held.into_iter().filter(|one| !place.contains(one));
            spare.for_each(|address| drop(changed.release_one(SUBNET, &owner, address, NOW)));
        }
        let writes = self.writes_of(&mut changed);
        let done = (self.keep(changed), writes);
        self.releases.insert(key, done.clone());
        done
    }

    /// The ledger once it knows what became of its writes, and whose were lost.
    pub(super) fn written(&mut self, ledger: Id, answers: Vec<(Id, Answer)>) -> (Id, Owners) {
        let key = (ledger, answers);
        if let Some(done) = self.written.get(&key) {
            return *done;
        }
        let mut changed = self.ledgers.get(ledger).clone();
        let block = |id: Id| Box::new(self.block(id).clone());
        let outcome = |answer: Answer| match answer {
            Answer::Written(id) => Outcome::Written(block(id)),
            Answer::Lost(id) => Outcome::Lost(id.map(block)),
        };
        let outcomes =
            key.1.iter().map(|(write, answer)| (self.write(*write).clone(), outcome(*answer)));
        let lost = changed.written(outcomes.collect());
        changed.settle();
        let done = (self.keep(changed), named_as(&lost));
        self.written.insert(key, done);
        done
    }

    pub(super) fn block(&self, id: Id) -> &AddressBlock {
        self.blocks.get(id)
    }

    pub(super) fn write(&self, id: Id) -> &Write {
        self.writes.get(id)
    }

    pub(super) fn addresses(&self, id: Id) -> &[IpAddr] {
        self.addresses.get(id)
    }

    pub(super) fn block_holds(&self, id: Id) -> Holds {
        Rc::clone(&self.block_holds[usize::from(id)])
    }

    /// Those of the block that this writes, unless it is not to be sent.
    pub(super) fn write_holds(&self, id: Id) -> Option<Holds> {
        self.write_holds[usize::from(id)].clone()
    }

    /// The block that the store has once it has taken this write as its next version.
    pub(super) fn store(&mut self, write: Id, version: u16) -> Id {
        if let Some(stored) = self.stored.get(&(write, version)) {
            return *stored;
        }
        let mut block = self.write(write).block.clone().expect("only what is sent is stored");
        block.metadata.resource_version = Some(version.to_string());
        let stored = self.keep_block(block);
        self.stored.insert((write, version), stored);
        stored
    }

    pub(super) fn keep_block(&mut self, block: AddressBlock) -> Id {
        let holds = holds(&block);
        let id = self.blocks.keep(format!("{block:?}"), block);
        if usize::from(id) == self.block_holds.len() {
            self.block_holds.push(holds);
        }
        id
    }

    /// How many ledgers there were in all.
    pub(super) fn ledgers(&self) -> usize {
        self.ledgers.0.len()
    }

    fn writes_of(&mut self, ledger: &mut Ledger) -> Vec<Id> {
        let keep = |write: Write| {
            let holds = write.block.as_ref().map(holds);
            let id = self.writes.keep(format!("{write:?}"), write);
            if usize::from(id) == self.write_holds.len() {
                self.write_holds.push(holds);
            }
            id
        };
        ledger.take_writes().into_iter().map(keep).collect()
    }

    /// Two ledgers are one if they have the same blocks and index, and their pools
    /// give the same addresses in the same order.
    fn keep(&mut self, mut ledger: Ledger) -> Id {
        assert!(ledger.edits.is_empty(), "every edit is written at once");
        ledger.settle();
        let held: BTreeMap<_, _> = ledger.by_vm.iter().collect();
        let mut name = format!("{:?} {held:?}", ledger.blocks);
        for pool in ledger.pools.of(SUBNET) {
            let mut held: Vec<_> = pool.iter().collect();
            held.sort();
            let mut pool = pool.clone();
            let probes = (0..).map(|n| Owner::from(format!("probe-{n}").as_str()));
            let free: Vec<_> = probes.map_while(|probe| pool.allocate(probe, NOW).ok()).collect();
            name += &format!("{held:?} {free:?}");
        }
        self.ledgers.keep(name, ledger)
    }
}
