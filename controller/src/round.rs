//! One round: what is dirty, or a part of it (`round/parts.rs`), decided together and
//! carried out in the order that loses nothing.
//!
//! ```text
//!  take hold ─► secure ─► decide ─► commit claims ─► ask ─► OVN, one transaction ─► IP objects ─► commit releases
//!                                                                       └► hand over: instances, statuses
//! ```
//!
//! An address is written to the ledger before anything uses it, and given back
//! only after the API was asked whether its owner is gone, and its port and IP
//! object are. Whatever fails makes its VM dirty
//! again, later each time; nothing else waits for it. A round that finds nothing
//! to do writes nothing. Claims that VMs ask for are taken hold of once that is decided,
//! and told what they have once the ledger is written (`round/claims.rs`); their addresses
//! are claimed in the round after. Instances and statuses are written beside the rounds, one
//! write at a time for each VM (`round/late.rs`).

#[cfg(test)]
mod bed;
mod claims;
mod egress;
mod handed;
mod instancetypes;
mod ips;
mod late;
mod moves;
mod networks;
mod northbound;
mod outdated;
mod parts;
mod patience;
mod replica_sets;
mod standalone;
#[cfg(test)]
mod tests;

pub use standalone::difference;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::{Api, DeleteParams, Preconditions};
use tokio::time::Instant;
use tracing::{debug, warn};

use crds::kubevirt::VirtualMachineInstance;
use crds::ledger::AddressBlock;

use crate::decide::{Decision, Policy, decide, secure, unix};
use crate::hold;
use crate::ledger::VmKey;
use crate::metrics::Metrics;
use crate::telling::Teller;
use crate::warning::{self, Warning};
use crate::world::World;

use late::Late;
use northbound::{Extent, Refused};
use parts::Parts;
use patience::Patience;

/// API writes in flight at once.
const PARALLEL_WRITES: usize = 48;
/// Delay before a failed VM is looked at again; doubles up to the next.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// The longest such delay.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Delay before everything is compared after OVN refused a plan.
const REPAIR_AFTER: Duration = Duration::from_millis(500);
/// Subnet and Vpc statuses follow their facts at most this often.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// What a round may touch.
#[derive(Clone)]
pub struct Edge {
    /// The Kubernetes API.
    pub client: Client,
    /// The northbound database.
    pub ovn: ovn::ovsdb::Client,
    /// Counters.
    pub metrics: Metrics,
    /// How to decide.
    pub policy: Policy,
    /// The networks of the nodes' subnet, if it is made.
    pub join: net::Cidrs,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Edge").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// The world, the edge, and what to do later.
#[derive(Debug)]
pub struct Rounds {
    /// The cluster as data.
    pub world: World,
    edge: Edge,
    parts: Parts,
    /// Everybody was decided for at least once: it is known who may send from what.
    surveyed: bool,
    /// VPCs and subnets are to be looked at.
    topology: bool,
    /// VMs to look at again, and how often they failed.
    later: HashMap<VmKey, (Instant, u32)>,
    /// VMs that something keeps from their place; a released address may be it.
    waiting: BTreeSet<VmKey>,
    /// Everything is looked at again then.
    resync_at: Option<Instant>,
    statuses_due: Option<Instant>,
    late: Late,
    patience: Patience,
    /// What OVN has refused, not to be tried again at once.
    refused: Refused,
    /// What was told of objects without conditions: uid and message.
    noticed: BTreeSet<(Option<String>, String)>,
    teller: Teller,
}

impl Rounds {
    /// Rounds over this world.
    #[must_use]
    pub fn new(world: World, edge: Edge) -> Self {
        let late = Late::new(&edge.client);
        let teller = Teller::new(&edge.client);
        let patience = Patience::default();
        let client = patience.bound(&edge.client, patience::LIMIT);
        Self {
            world,
            edge: Edge { client, ..edge },
            parts: Parts::default(),
            surveyed: false,
            topology: false,
            later: HashMap::new(),
            waiting: BTreeSet::new(),
            resync_at: None,
            statuses_due: None,
            late,
            patience,
            refused: Refused::default(),
            noticed: BTreeSet::new(),
            teller,
        }
    }

    /// Has the next round compare everything, also what OVN holds for nobody.
    pub fn resync(&mut self) {
        self.world.look_at_all();
    }

    /// Whether a round can do anything: every kind is listed and OVN is there.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.world.is_complete() && self.edge.ovn.is_synced()
    }

    /// When something is to be done though nothing changes. Nothing is due
    /// before a round could do it.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        if !self.is_ready() {
            return None;
        }
        let part = (!self.parts.is_empty()).then(Instant::now);
        let later = self.later.values().map(|(at, _)| *at);
        later.chain(self.statuses_due).chain(self.resync_at).chain(part).min()
    }

    /// Carries out one round.
    pub async fn round(&mut self) {
        self.take_in_answers();
        if !self.is_ready() {
            return;
        }
        self.patience.regain();
        let now = Timestamp::now();
        if self.resync_at.is_some_and(|at| at <= Instant::now()) {
            self.resync_at = None;
            self.resync();
        }
        self.wake_due();
        let (dirty, topology) = self.world.take_dirty();
        if topology {
            self.make_join().await;
            self.take_hold().await;
        }
        let timer = self.edge.metrics.round_started();
        let mut decisions = self.decide_part(dirty, now);
        let extent = self.extent(topology);
        let topology = extent == Extent::All;
        self.take_claims().await;

        let _first = (!decisions.is_empty()).then(|| self.late.round_first());
        let moved = self.note_carriers(&decisions);

        let blocks: Api<AddressBlock> = Api::all(self.edge.client.clone());
        let lost = self.world.ledger.commit(&blocks).await;
        self.drop_lost(&mut decisions, &lost);

        let unsure = outdated::outdated(&self.edge.client, &self.world, &decisions).await;
        self.drop_lost(&mut decisions, &unsure);

        let mut barred = match self.write_rows(&decisions, extent, &moved).await {
            Ok(barred) => barred,
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "OVN did not take the plan; trying again"
                );
                decisions.into_iter().for_each(|decision| self.fail(decision.vm));
                // More than what was asked for may differ from what is there.
                self.resync_at = Some(Instant::now() + REPAIR_AFTER);
                return;
            }
        };
        decisions.retain(|decision| barred.iter().all(|(vm, _)| *vm != decision.vm));
        let (failed, refused) = self.write_ips(&decisions).await;
        self.drop_lost(&mut decisions, &failed);
        decisions.retain(|decision| refused.iter().all(|(vm, _)| *vm != decision.vm));
        barred.extend(refused);
        let failed = self.tell_nodes(&decisions).await;
        self.drop_lost(&mut decisions, &failed);

        let lost = self.release(&decisions, &blocks, now).await;
        // No instance before the place it had before is given back.
        self.drop_lost(&mut decisions, &lost);
        self.write_claims(&decisions, now).await;

        if topology {
            let subnets = &self.world.subnets;
            let exists = |name: &str| subnets.meta(&name.to_owned()).is_some();
            self.world.ledger.prune(&blocks, exists).await;
            self.let_go().await;
            self.tell_agents().await;
        }
        self.hand_over(&mut decisions, now);
        decisions.extend(self.tell_barred(barred, now));
        self.keep_kinds(&mut decisions).await;
        self.write_sets(&mut decisions, now).await;
        self.write_standalone(&mut decisions, now).await;
        self.write_moves(decisions.as_mut_slice()).await;
        if topology || !decisions.is_empty() {
            self.statuses_due.get_or_insert_with(|| Instant::now() + STATUS_EVERY);
        }
        if self.statuses_due.is_some_and(|due| topology || due <= Instant::now()) {
            self.write_network_statuses(now).await;
        }
        timer.finished(decisions.len());
    }

    /// Decides for a part of what is to be looked at, `dirty` among it. Nobody of those has
    /// anything to lose by coming in a later one.
    fn decide_part(&mut self, dirty: Vec<VmKey>, now: Timestamp) -> Vec<Decision> {
        let Self { world, parts, edge: Edge { policy, .. }, .. } = self;
        secure(world, &dirty, *policy, now);
        for key in dirty {
            let turn = world.turn(&key);
            parts.add(key, turn);
        }
        let decisions = parts.take().iter().map(|key| decide(world, key, *policy, now)).collect();
        self.surveyed |= self.parts.is_empty();
        decisions
    }

    /// Whose rows this round looks at, once there is `news` of VPCs or subnets. What is
    /// nobody's is only known once everybody was decided for.
    fn extent(&mut self, news: bool) -> Extent {
        self.topology |= news;
        if self.surveyed && std::mem::take(&mut self.topology) {
            Extent::All
        } else if news {
            Extent::Networks
        } else {
            Extent::Guests
        }
    }

    /// Takes note of which ports may send from addresses that are not theirs; returns
    /// the addresses of which that has changed. What cannot be read is as it was. Before
    /// everybody was looked at it is not known of any.
    fn note_carriers(&mut self, decisions: &[Decision]) -> BTreeSet<(String, IpAddr)> {
        let mut moved = BTreeSet::new();
        for decision in decisions {
            if !self.world.is_unreadable(&decision.vm) {
                moved.extend(self.world.carriers.note(&decision.vm, &decision.ports));
            }
        }
        moved.retain(|_| self.surveyed);
        moved
    }

    /// Gives back addresses whose ports and IP objects are gone, and has those
    /// who may be waiting for one ask again.
    async fn release(
        &mut self,
        decisions: &[Decision],
        blocks: &Api<AddressBlock>,
        now: Timestamp,
    ) -> HashSet<VmKey> {
        let mut released = HashSet::new();
        let mut returned = HashSet::new();
        for decision in decisions {
            let World { ledger, subnets, unended, .. } = &mut self.world;
            let rest = ledger.rest();
            let at = |subnet: &String| {
                let spec = subnets.get(subnet).map(|subnet| &subnet.spec);
                unended.released_at(&decision.vm, spec, unix(now), rest)
            };
            for (claimant, subnet) in &decision.release {
                returned.extend(ledger.release(subnet, claimant, at(subnet)));
                released.insert(&decision.vm);
            }
            for (claimant, subnet, address) in &decision.spare {
                returned.extend(ledger.release_one(subnet, claimant, *address, at(subnet)));
                released.insert(&decision.vm);
            }
            // It lets go of one after the other.
            if decision.vm.is_lender() && released.contains(&decision.vm) {
                returned.insert(decision.vm.clone());
            }
            if decision.is_waiting() {
                self.waiting.insert(decision.vm.clone());
            } else {
                self.waiting.remove(&decision.vm);
            }
        }
        if released.is_empty() {
            return HashSet::new();
        }
        let lost = self.world.ledger.commit(blocks).await;
        for key in released.iter().filter(|key| !lost.contains(**key)) {
            if self.world.machines.meta(key).is_none() {
                self.world.unended.settle(key);
            }
        }
        let others = self.waiting.iter().filter(|key| !released.contains(key));
        others.for_each(|key| self.world.look_at(key.clone()));
        self.look_at_lenders(returned);
        if self.world.has_subnet_that_waits() {
            self.world.look_at_all();
        }
        lost
    }

    /// Has the lenders looked at to whom something came back, or who let go of something:
    /// one that is being deleted may have waited for that.
    fn look_at_lenders(&mut self, returned: HashSet<VmKey>) {
        for key in returned {
            let vip = key.vip().and_then(|name| self.world.vips.meta(&name.to_owned()));
            if vip.is_some_and(hold::is_leaving) {
                self.world.look_at_all();
            }
            if key.claim().is_some() {
                self.look_again(&key, SignedDuration::ZERO);
            }
            self.world.look_at(key);
        }
    }

    fn wake_due(&mut self) {
        let now = Instant::now();
        let due = self.later.iter().filter(|(_, (at, _))| *at <= now);
        for key in due.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            if let Some((at, _)) = self.later.get_mut(&key) {
                // Stays, so that a failure in a row counts on; removed on success.
                *at = now + LONGEST_RETRY;
            }
            self.world.look_at(key);
        }
    }

    fn fail(&mut self, key: VmKey) {
        let tries = self.later.get(&key).map_or(0, |(_, tries)| *tries);
        let delay = FIRST_RETRY.saturating_mul(1 << tries.min(10)).min(LONGEST_RETRY);
        debug!(vm = %key, ?delay, "Trying again later");
        self.later.insert(key, (Instant::now() + delay, tries + 1));
    }

    /// Takes the decisions of `lost` out of the round, to be made anew.
    fn drop_lost(&mut self, decisions: &mut Vec<Decision>, lost: &HashSet<VmKey>) {
        decisions.retain(|decision| !lost.contains(&decision.vm));
        lost.iter().for_each(|key| self.fail(key.clone()));
    }

    async fn warn(&self, warnings: Vec<Warning>) {
        self.edge.metrics.api_writes.inc_by(warnings.len().try_into().unwrap_or(u64::MAX));
        warning::publish(&self.edge.client, warnings).await;
    }
}

/// Deletes this very instance, not a successor of the same name; of this version, if
/// one is given.
async fn delete_instance(
    api: &Api<VirtualMachineInstance>,
    name: &str,
    uid: String,
    version: Option<String>,
) -> Result<(), kube::Error> {
    let this = Preconditions { uid: Some(uid), resource_version: version };
    let params = DeleteParams::default().preconditions(this);
    gone_is_fine(api.delete(name, &params).await)
}

fn gone_is_fine<T>(outcome: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match outcome {
        Err(error) if !is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
