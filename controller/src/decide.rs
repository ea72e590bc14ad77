//! What one VM's place should be: a decision over the world, without I/O.
//!
//! ```text
//!  VM        instance   ledger            decision
//!  absent    absent     holds something   give it back
//!  absent    present    –                 delete the instance; addresses stay until it is gone
//!  present   absent     –                 by run strategy: claim, choose a node, make an instance
//!  present   present    holds its ports   keep rows and IP objects as they are
//!  –         orphaned   –                 keep its place until it ends, as KubeVirt lets it
//!                                         run on; a new VM of its name waits
//!  –         by hand    –                 its own place, see `standalone`
//! ```
//!
//! A node has a place of its own while VMs go out through it (`decide/node.rs`).
//!
//! For a VM that cannot be read, or whose instance cannot, nothing is decided.
//!
//! A template that changed counts at the next start: while an instance is there,
//! its ports stay as they were given.

mod deleted;
mod farewell;
mod given;
mod known;
mod loans;
pub(crate) mod mac;
mod moves;
mod node;
mod pool;
mod reserve;
mod seat;
mod spare;
mod standalone;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crds::annotations;
use crds::kubeovn::Ip;
use crds::kubevirt::{VirtualMachine, VirtualMachineInstance};
use ipam::Seconds;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt as _;
use net::{MacAddr, listed, names};

use crate::agenda::Booking;
use crate::binding;
use crate::claims;
use crate::evacuation;
use crate::family::{Family, covers, covers_network};
use crate::hold;
use crate::instancetypes::{Keep, Unready};
use crate::ledger::{AddressError, Ask, Claimant, VmKey};
use crate::live;
use crate::lost;
use crate::machine::{self, Step, Trouble};
use crate::migration;
use crate::network::Network;
use crate::objects::Start;
use crate::port_names;
use crate::replica_sets;
use crate::request::{Asker, Known, Offer, Request, requests};
use crate::rows::{Behind, Port};
use crate::vips;
use crate::world::{World, labels_of};

pub use farewell::Farewell;
pub(crate) use farewell::complete;
pub use given::Inscription;
pub(crate) use reserve::{flaws as reservation_flaws, has_owner, misnamed, no_subnet, owner_of};
use reserve::{is_reservation, reserve, reserve_named};
pub(crate) use standalone::is_made_by_hand;
use standalone::is_standalone;

/// What is to be done for one VM.
#[derive(Debug)]
pub struct Decision {
    /// Which.
    pub vm: VmKey,
    /// The uid of the VM that holds `ports`; none once it is gone.
    pub uid: Option<String>,
    /// Its ports as they should be.
    pub ports: Vec<Port>,
    /// What to let go of, once its rows and IP objects are gone.
    pub release: Vec<(Claimant, String)>,
    /// Single addresses to let go of: its instance does not have them.
    pub spare: Vec<(Claimant, String, IpAddr)>,
    /// IP objects that should not be, or not as they are: one of a port in `ports`
    /// is made anew by a later decision.
    pub surplus: BTreeSet<String>,
    /// IP objects whose deletion waits, and what for.
    pub blocked: BTreeMap<String, String>,
    /// MACs that are named for ports which the VM has before it first starts.
    pub macs: BTreeMap<String, MacAddr>,
    /// The VM is to start, whether or not it can.
    pub starting: bool,
    /// The instance to make.
    pub create: Option<Start>,
    /// The instance to delete, by uid.
    pub delete: Option<String>,
    /// Its VM is halted, and is to run from now on.
    pub switch_on: bool,
    /// The instance's node is no more, by all that is seen: it has ended.
    pub bereft: bool,
    /// What keeps the VM from its place.
    pub trouble: Option<Trouble>,
    /// What is to be written on the instance.
    pub inscription: Option<Inscription>,
    /// Why its guest does not come to have what its template says, where that is not the
    /// guest's: its node has no room for it, or it is to come with a restart.
    pub withheld: Option<&'static str>,
    /// What is to be written of the moves of its instance.
    pub moves: migration::Outcome,
    /// What is to be done for it to leave a node that is to be left.
    pub evacuation: evacuation::Plan,
    /// What is to be kept of its instancetype and preference before it is anything.
    pub keep: Option<Box<Keep>>,
    /// What is to be done for it as a replica set.
    pub set: Option<replica_sets::Plan>,
    /// What becomes of the finalizer that keeps the VM until its instance is gone.
    pub farewell: Option<Farewell>,
    /// Look again then, whatever happens.
    pub again_at: Option<Timestamp>,
}

impl Decision {
    /// That there is nothing, and nothing to do.
    #[must_use]
    pub fn nothing_for(vm: VmKey) -> Self {
        Self {
            vm,
            uid: None,
            ports: Vec::new(),
            release: Vec::new(),
            spare: Vec::new(),
            surplus: BTreeSet::new(),
            blocked: BTreeMap::new(),
            macs: BTreeMap::new(),
            starting: false,
            create: None,
            delete: None,
            switch_on: false,
            bereft: false,
            trouble: None,
            inscription: None,
            withheld: None,
            moves: migration::Outcome::default(),
            evacuation: evacuation::Plan::default(),
            keep: None,
            set: None,
            farewell: None,
            again_at: None,
        }
    }

    /// Whether something keeps the VM or the instance from its place.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.trouble.is_some() || matches!(self.inscription, Some(Inscription::Waits(_)))
    }
}

/// How a decision is made.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Addresses live as long as their VM, not as long as one start of it.
    pub keep_vm_ip: bool,
}

/// Claims for all of `keys` what they have and the ledger has lost, and what IP objects name
/// for them, before anybody is given an address: Vips among them. Nobody is given what was a
/// gateway a moment ago. Who runs keeps what it uses, whoever names it.
pub fn secure(world: &mut World, keys: &[VmKey], policy: Policy, now: Timestamp) {
    world.rest_gateways(unix(now));
    let (running, others): (Vec<_>, Vec<_>) = keys.iter().partition(|key| world.runs(key));
    for key in running {
        reserve_named(world, key, unix(now));
        given::keep(world, key, unix(now));
    }
    for key in others {
        reserve_named(world, key, unix(now));
        given::recall(world, key, policy, unix(now));
    }
}

/// Decides for `key`, once those of whom something was seen are secure ([`secure`]), noting
/// claims in the world's ledger. They count once the
/// ledger is committed; until then nothing of the decision may be carried out.
pub fn decide(world: &mut World, key: &VmKey, policy: Policy, now: Timestamp) -> Decision {
    if let Some(vip) = key.vip() {
        return vips::decide(world, vip, now);
    }
    if let Some(claim) = key.claim() {
        return claims::decide(world, &claim, now);
    }
    if let Some(node) = key.node() {
        return node::decide(world, node, now);
    }
    if let Some(set) = key.set() {
        return of_set(world, &set, now);
    }
    let vm = world.machines.get(key).cloned();
    let instance = world.instances.get(key).cloned();
    let mut decision = Decision::nothing_for(key.clone());
    decision.uid = vm.as_ref().and_then(|vm| vm.uid());
    farewell::judge(world, &mut decision, now);
    if world.is_unreadable(key) {
        return decision;
    }
    decision.bereft = instance.as_ref().is_some_and(|one| lost::is_bereft(world, one));
    reserve(world, key, unix(now));
    spare::judge(world, &mut decision);
    let going = deleted::judge(world, &mut decision);
    let alone = instance.clone().filter(|one| is_standalone(one) && !going);
    match (vm, instance) {
        // What somebody deleted goes before anything is claimed in its place; its
        // going has the VM looked at again.
        (Some(_), None) if going => {}
        (Some(vm), instance) => present(world, &mut decision, &vm, instance, policy, now),
        (None, Some(instance)) => {
            // Its VM was deleted: the instance follows, and what it uses stays
            // held until the agent has cleaned up.
            if instance.metadata.deletion_timestamp.is_none() && is_of_a_vm(&instance) {
                decision.delete = instance.uid();
            }
            decision.uid = owner_uid(&instance);
        }
        (None, None) => {}
    }
    if let Some(instance) = alone {
        standalone::serve(world, &mut decision, &instance, now);
    }
    settle_holdings(world, &mut decision, policy);
    given::mend(world, &mut decision);
    live::judge(world, &mut decision);
    moves::judge(world, &mut decision, now);
    // All decisions of a round are there at once.
    decision.ports.shrink_to_fit();
    decision
}

/// A replica set has no place; its instances have.
fn of_set(world: &World, key: &VmKey, now: Timestamp) -> Decision {
    let mut decision = Decision::nothing_for(VmKey::of_set(key));
    if let Some(set) = world.replica_sets.get(key) {
        let orphans = world.orphans_in(&key.namespace);
        let plan = replica_sets::plan(set, world.members_of(key), orphans, now);
        decision.again_at = plan.again_at;
        decision.set = Some(plan);
    }
    decision
}

fn present(
    world: &mut World,
    decision: &mut Decision,
    vm: &Arc<VirtualMachine>,
    instance: Option<Arc<VirtualMachineInstance>>,
    policy: Policy,
    now: Timestamp,
) {
    let foreign = instance.as_ref().filter(|instance| !machine::owns(vm, instance));
    if let Some(foreign) = foreign {
        // Of an earlier VM of this name, or made by hand. The former goes.
        if is_of_a_vm(foreign) {
            decision.delete =
                foreign.uid().filter(|_| foreign.metadata.deletion_timestamp.is_none());
        } else if !hold::is_leaving(&vm.metadata) {
            decision.trouble = Some(Trouble {
                reason: "InstanceInTheWay",
                message: format!(
                    "VirtualMachineInstance {} is not this VM's: delete it",
                    decision.vm
                ),
            });
        }
        return;
    }
    if let Err(message) = vm.spec.strategy() {
        let message = message.to_owned();
        decision.trouble = Some(Trouble { reason: machine::INVALID_RUN_STRATEGY, message });
    }
    let effective = match world.effective(vm) {
        Ok(effective) => Some(effective),
        Err(Unready::Keep(keep)) => {
            decision.keep = Some(keep);
            None
        }
        Err(Unready::Unlisted) => None,
        Err(Unready::Trouble(trouble)) => {
            decision.trouble.get_or_insert(trouble);
            None
        }
    };
    let step = machine::next(vm, instance.as_deref(), now);
    match step {
        Step::Rest => {}
        Step::Delete => decision.delete = instance.as_ref().and_then(|instance| instance.uid()),
        Step::CreateAt(then) => decision.again_at = Some(then),
        Step::SwitchOn => decision.switch_on = true,
        Step::Create => {}
    }
    let uid = vm.uid().unwrap_or_default();
    if let Some(instance) = &instance {
        // Whatever the template says now.
        let lost = given::regain(world, &decision.vm, &uid, instance, unix(now)).err();
        decision.trouble = decision.trouble.take().or(lost);
        return;
    }
    let starting = step == Step::Create;
    decision.starting = starting;
    if !starting {
        let (volumes, comes) = (&vm.spec.template.spec.volumes, &vm.spec.data_volume_templates);
        let filling = world.storage.filling(&decision.vm, volumes, comes);
        decision.trouble = decision.trouble.take().or(filling);
    }
    let Some(vm) = &effective else { return };
    let used = used_subnets(world, &decision.vm, &uid);
    let known = known::ports(world, &decision.vm, &uid);
    let asked = match requests(Asker::from(&**vm), offer(world, &decision.vm, &used, &known)) {
        Ok(asked) => asked,
        Err(error) => {
            decision.trouble =
                Some(Trouble { reason: machine::INVALID_NETWORK, message: error.to_string() });
            return;
        }
    };
    let stays = !hold::is_leaving(&vm.metadata);
    let is_named = |one: &Request| !one.addresses.is_empty() || one.mac.is_some();
    let reserve = stays && policy.keep_vm_ip && asked.iter().any(is_named);
    if !starting && !reserve {
        return;
    }
    world.ledger.attempt();
    if let Err((trouble, again_at)) = claim_all(world, decision, &uid, &asked, now) {
        world.ledger.undo(unix(now));
        // What only waits for a claim's first addresses has it a moment later.
        decision.trouble = Some(trouble).filter(|one| one.reason != machine::WAITS_FOR_CLAIM);
        decision.again_at = again_at;
        return;
    }
    if starting {
        start(world, decision, vm, asked, now);
    } else {
        let macs = asked.iter().filter_map(|one| Some((one.port.clone(), mac::named(world, one)?)));
        decision.macs = macs.collect();
    }
}

/// The subnets that the VM has addresses of.
fn used_subnets(world: &World, vm: &VmKey, uid: &str) -> BTreeSet<String> {
    let held = world.ledger.held_for(vm).into_iter();
    let held = held.filter(|(claimant, _)| claimant.uid == uid || claimant.uid.is_empty());
    held.map(|(_, subnet)| subnet).collect()
}

/// What there is for this VM, which has addresses of the subnets in `used` and these
/// ports.
fn offer<'a>(
    world: &'a World,
    vm: &VmKey,
    used: &'a BTreeSet<String>,
    known: &'a Known,
) -> Offer<'a> {
    Offer {
        known,
        in_force: world.ledger.networks(),
        refused: &world.refused,
        vpcs: &world.vpcs,
        pools: &world.pools,
        vips: &world.vips,
        claims: &world.claims.objects,
        refused_pools: &world.refused_pools,
        used,
        bound: binding::bound(&world.vpcs, world.ledger.networks(), &vm.namespace),
    }
}

/// Claims an address of each family for each network, and lets go of ports and
/// subnets that the template no longer asks for.
fn claim_all(
    world: &mut World,
    decision: &mut Decision,
    uid: &str,
    asked: &[Request],
    now: Timestamp,
) -> Result<(), (Trouble, Option<Timestamp>)> {
    let seconds = unix(now);
    for request in asked {
        let claimant = claimant(&request.port, &decision.vm, uid);
        reserve::adopt(world, &request.subnet, &claimant, seconds);
        let is_lent = loans::claim(world, request, &claimant, seconds);
        let is_lent = is_lent.map_err(|trouble| (trouble, None))?;
        if let Some(message) = mac::refusal(world, request) {
            return Err((Trouble { reason: machine::ADDRESS_NOT_AVAILABLE, message }, None));
        }
        let named = port_names::of_request(world, world.ledger.networks(), &decision.vm, request);
        if let Some(message) = named.or_else(|| vips::trouble(world, &decision.vm, request)) {
            return Err((Trouble { reason: machine::INVALID_NETWORK, message }, None));
        }
        if is_lent {
            continue;
        }
        let remembered = remembered(world, request, &claimant);
        let again = remembered.is_some_and(|(named, family)| {
            let ask = Ask { named: &named, from: None, family };
            world.ledger.claim_as(&request.subnet, &claimant, ask, seconds).is_ok()
        });
        let outcome = if again { Ok(()) } else { pool::claim(world, request, &claimant, seconds) };
        if let Err(error) = outcome {
            let again_at = match &error {
                AddressError::Resting { seconds, .. } => {
                    let wait = i64::try_from(*seconds).unwrap_or(60).max(1);
                    now.checked_add(jiff::SignedDuration::from_secs(wait)).ok()
                }
                _ => None,
            };
            let key = annotations::key(&request.provider, annotations::IP_POOL);
            let message = match request.pool.len() {
                0 => error.to_string(),
                count => format!("annotation {key}: none of its {count} entries is free: {error}"),
            };
            return Err((Trouble { reason: machine::ADDRESS_NOT_AVAILABLE, message }, again_at));
        }
    }
    let wanted = |claimant: &Claimant, subnet: &String| {
        asked.iter().any(|request| request.port == claimant.port && request.subnet == *subnet)
    };
    let held = world.ledger.held_for(&decision.vm);
    let dropped = held
        .into_iter()
        .filter(|(claimant, subnet)| claimant.uid == uid && !wanted(claimant, subnet));
    decision.release.extend(dropped);
    Ok(())
}

/// The addresses that a port had before the ledger lost them, as far as its IP object
/// still says, and the family that it asks for.
fn remembered(
    world: &World,
    request: &Request,
    claimant: &Claimant,
) -> Option<(Vec<IpAddr>, Option<Family>)> {
    let network = world.ledger.networks().get(&request.subnet)?;
    let asked = |address: &IpAddr| covers(request.family, *address);
    let held = world.ledger.place(&request.subnet, claimant);
    let wanted = network.cidrs.iter().filter(|one| covers_network(request.family, *one));
    if held.into_iter().filter(asked).count() == wanted.count() {
        return None;
    }
    let ip = world.ips.get(&claimant.port).filter(|ip| {
        owned_by(ip, &claimant.uid)
            && ip.spec.subnet == request.subnet
            && request.addresses.is_empty()
    })?;
    let asked = |address: &IpAddr| asked(address) && pool::may_keep(network, request, *address);
    let addresses: Vec<IpAddr> = listed::addresses(&ip.spec.ip_address).filter(asked).collect();
    let fit = !addresses.is_empty() && addresses.iter().all(|one| network.cidrs.contains(*one));
    fit.then_some((addresses, request.family))
}

/// Those of a port's addresses that are of a family which it asks for.
fn asked_of(request: &Request, mut place: Vec<IpAddr>) -> Vec<IpAddr> {
    place.retain(|address| covers(request.family, *address));
    place
}

fn start(
    world: &mut World,
    decision: &mut Decision,
    vm: &Arc<VirtualMachine>,
    asked: Vec<Request>,
    now: Timestamp,
) {
    let template = &vm.spec.template.spec;
    let comes = &vm.spec.data_volume_templates;
    let ground = world.storage.ground(&decision.vm, &template.volumes, comes);
    let found = ground.and_then(|ground| {
        let given = vm.spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone());
        let labels = labels_of(&decision.vm.name, given.unwrap_or_default());
        let found = seat::find(world, &decision.vm, labels, template, &ground, &asked)?;
        world.storage.select(&decision.vm, &ground, &found.node)?;
        Ok((found, ground))
    });
    let (booking, ground) = match found {
        Ok(found) => found,
        Err(trouble) => {
            decision.trouble = Some(trouble);
            return;
        }
    };
    let uid = vm.uid().unwrap_or_default();
    let places = places(world, &decision.vm, &uid, &booking.node, asked);
    // What was asked for stands in its status, which an expanded VM need not have.
    let paused = world.machines.get(&decision.vm).is_some_and(|vm| machine::starts_paused(vm));
    let start = Start::new(vm, booking.clone(), &places, ground.status, now);
    decision.create = Some(start.paused(paused));
    let taken = places.into_iter().map(|(_, port, network)| (network.vpc.clone(), port));
    let taken: Vec<_> = taken.collect();
    expect(world, decision, &booking, taken);
}

/// One network of a VM or instance, as asked for and as given.
type Place<'a> = (Request, Port, &'a Network);

/// What was claimed, with the MACs that go with it.
fn places<'a>(
    world: &'a World,
    vm: &VmKey,
    uid: &str,
    node: &str,
    asked: Vec<Request>,
) -> Vec<Place<'a>> {
    let place = |request: Request| {
        let network = world.ledger.networks().get(&request.subnet)?;
        let claimant = claimant(&request.port, vm, uid);
        let addresses = asked_of(&request, world.ledger.place(&request.subnet, &claimant));
        let port = Port {
            mac: mac::at_start(world, &request, &claimant, network),
            behind: Behind::of(network, &addresses),
            addresses,
            name: claimant.port,
            uid: uid.to_owned(),
            vm: vm.clone(),
            network: (request.provider != names::DEFAULT_PROVIDER)
                .then_some(request.network.clone()),
            subnet: request.subnet.clone(),
            node: Some(node.to_owned()),
            target: None,
            left: None,
            leave: vips::carried(world, vm, &request.provider, &request.subnet),
        };
        Some((request, port, network))
    };
    // Each was claimed in a network that is there.
    asked.into_iter().filter_map(place).collect()
}

/// Has the rest of the round reckon with ports at this place, each with the VPC it is in.
fn expect(
    world: &mut World,
    decision: &mut Decision,
    booking: &Booking,
    taken: Vec<(String, Port)>,
) {
    for (vpc, port) in &taken {
        world.expect_mac(vpc, port.mac, &port.name);
    }
    decision.ports = taken.into_iter().map(|(_, port)| port).collect();
    world.expect_on(&decision.vm, booking);
}

/// Completes the decision with what the ledger holds in the VM's name: ports to
/// keep, and what nobody owns any more. A VM that is being deleted starts no more: once
/// its instance is gone it holds no loan. Whoever has lent it may have to go first.
fn settle_holdings(world: &World, decision: &mut Decision, policy: Policy) {
    let instance = world.instances.get(&decision.vm);
    let alive_uid = instance.and_then(|instance| owner_uid(instance));
    let is_leaving = world.machines.meta(&decision.vm).is_some_and(hold::is_leaving);
    for (claimant, subnet) in world.ledger.held_for(&decision.vm) {
        let decided = decision.ports.iter().any(|port| {
            port.uid == claimant.uid && port.name == claimant.port && port.subnet == subnet
        });
        if decided || decision.release.contains(&(claimant.clone(), subnet.clone())) {
            continue;
        }
        let in_use = alive_uid.as_deref() == Some(&claimant.uid);
        let of_vm = world.machines.get(&decision.vm).and_then(|vm| vm.uid()).as_deref()
            == Some(&claimant.uid)
            && (policy.keep_vm_ip || decision.starting)
            && !(is_leaving && world.ledger.lender_to(&subnet, &claimant).is_some());
        let reserved = claimant.uid.is_empty() && is_reservation(world, &claimant.port);
        if in_use || of_vm {
            let named = decision.macs.get(&claimant.port).copied();
            decision.ports.extend(kept_port(world, &claimant, &subnet, named));
        } else if !reserved {
            decision.release.push((claimant, subnet));
        }
    }
    let keep: BTreeSet<&String> = decision.ports.iter().map(|port| &port.name).collect();
    let released = decision.release.iter().map(|(claimant, _)| claimant.port.clone());
    let surplus: BTreeSet<String> = released.filter(|port| !keep.contains(port)).collect();
    // Written for a VM that is gone and of which the ledger knows nothing.
    let present = decision.uid.as_deref();
    let orphans = world.ips_of(&decision.vm).filter(|ip| {
        let owner = ip.annotations().get(annotations::OWNER_UID);
        owner.is_some_and(|owner| Some(owner.as_str()) != present) && !keep.contains(&ip.name_any())
    });
    decision.surplus.extend(orphans.map(|ip| ip.name_any()).chain(surplus));
}

fn kept_port(
    world: &World,
    claimant: &Claimant,
    subnet: &str,
    named: Option<MacAddr>,
) -> Option<Port> {
    let network = world.ledger.networks().get(subnet)?;
    if world.ips.is_unreadable(&claimant.port) {
        // It may say which MAC the port has.
        return None;
    }
    let instance = world.instances.get(&claimant.vm);
    let (placed, target) = instance.map(|one| migration::chassis(one)).unwrap_or_default();
    let addresses = spare::used(world, claimant, subnet);
    Some(Port {
        name: claimant.port.clone(),
        uid: claimant.uid.clone(),
        vm: claimant.vm.clone(),
        network: known::network(world, claimant),
        subnet: subnet.to_owned(),
        mac: mac::kept(world, claimant, network, named),
        behind: Behind::of(network, &addresses),
        addresses,
        node: claimant.vm.node().or(placed).map(str::to_owned),
        target: target.map(str::to_owned),
        left: None,
        leave: vips::carried(world, &claimant.vm, claimant.provider(), subnet),
    })
}

fn claimant(port: &str, vm: &VmKey, uid: &str) -> Claimant {
    Claimant { port: port.to_owned(), vm: vm.clone(), uid: uid.to_owned() }
}

/// Whether `ip` was written for the VM with this uid.
#[must_use]
pub fn owned_by(ip: &Ip, uid: &str) -> bool {
    ip.annotations().get(annotations::OWNER_UID).is_some_and(|owner| owner == uid)
}

/// The uid in whose name this instance has its place: its VM's, or its own. One that
/// was orphaned has forgotten its VM and runs on with the place that it was given.
fn owner_uid(instance: &VirtualMachineInstance) -> Option<String> {
    let noted = || instance.annotations().get(annotations::OWNER_UID).cloned();
    let own = || instance.uid().filter(|_| is_standalone(instance));
    owner(instance).map(|owner| owner.uid.clone()).or_else(noted).or_else(own)
}

/// Whether the addresses on the instance are those that it was given. Of one without a
/// VM they are what somebody asks for, until it is placed.
fn is_placed(instance: &VirtualMachineInstance) -> bool {
    owner(instance).is_some() || instance.annotations().contains_key(annotations::OWNER_UID)
}

fn owner(instance: &VirtualMachineInstance) -> Option<&OwnerReference> {
    let owners = instance.metadata.owner_references.iter().flatten();
    owners.into_iter().find(|owner| owner.kind == "VirtualMachine")
}

fn is_of_a_vm(instance: &VirtualMachineInstance) -> bool {
    owner(instance).is_some()
}

/// Whole seconds of Unix time.
#[must_use]
pub fn unix(now: Timestamp) -> Seconds {
    Seconds::try_from(now.as_second()).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests;
