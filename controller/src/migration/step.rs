//! What each object should say next. One function of what all of them say now.

use std::cmp::Reverse;
use std::sync::Arc;

use crds::condition::FIELDS_WITHOUT_EFFECT;
use crds::kubevirt::{
    Condition, ConditionStatus, InstancePhase, MIGRATION_FINALIZER, MIGRATION_TARGET_LABEL,
    MigrationConfiguration, MigrationPhase, MigrationPhaseTransition, MigrationPolicy,
    MigrationState, MigrationStatus, VirtualMachineInstance,
    VirtualMachineInstanceMigration as Migration,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::{Terms, is_leaving, orphaned, phase, policy, words};
use crate::lost::Absence;
use crate::machine::{Trouble, UNSCHEDULABLE};
use crate::world::node_of;

/// An instance may be seen after the migration that names it.
const UNSEEN: SignedDuration = SignedDuration::from_secs(10);
/// How long a target is looked for.
const SCHEDULING: SignedDuration = SignedDuration::from_secs(300);
/// How long the target may take to be ready, and the source to start.
const PREPARING: SignedDuration = SignedDuration::from_secs(300);

/// How many that are over are kept of one instance, KubeVirt's
/// `defaultFinalizedMigrationGarbageCollectionBuffer`.
const KEPT: usize = 5;

/// The policy of the guest cannot be obeyed.
const INVALID_POLICY: &str = "InvalidMigrationPolicy";

/// Why a migration failed.
const FAILURE: &str = "Failure";
/// What it waits for.
const WAITING: &str = "Waiting";

/// What there is to go by.
pub struct View<'a> {
    /// The migrations of one instance, in any order.
    pub migrations: Vec<Arc<Migration>>,
    /// The instance.
    pub instance: Option<&'a VirtualMachineInstance>,
    /// Why the guest may not leave this node now.
    pub refusal: &'a dyn Fn(&str) -> Option<String>,
    /// A node for the instance, other than its own.
    pub target: &'a dyn Fn(&VirtualMachineInstance, &Migration) -> Result<String, String>,
    /// Whether a node takes no part in anything.
    pub absence: &'a dyn Fn(&str) -> Option<Absence>,
    /// How guests are moved.
    pub terms: &'a Terms,
    /// And how this one, where that is said.
    pub policy: Option<&'a MigrationPolicy>,
    /// The time.
    pub now: Timestamp,
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("View").field("now", &self.now).finish_non_exhaustive()
    }
}

/// What is to be written.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The instance as it should be, if it is not.
    pub instance: Option<Box<VirtualMachineInstance>>,
    /// The migrations that should be otherwise, as they should be.
    pub migrations: Vec<Migration>,
    /// The migrations that are to be deleted: there are newer ones that are over.
    pub outlived: Vec<Arc<Migration>>,
    /// All this is to be written only if the API has the instance as it was seen here:
    /// what says nothing of a migration under way may be older than that.
    pub ask: bool,
    /// One more takes its turn.
    pub admitted: bool,
    /// Look again then.
    pub again_at: Option<Timestamp>,
}

/// What to write for the migrations of one instance. Applied to what it led to, it
/// leads to nothing.
#[must_use]
pub fn step(view: &View<'_>) -> Outcome {
    let mut all: Vec<&Arc<Migration>> = view.migrations.iter().collect();
    all.sort_by_key(|one| (one.creation_timestamp(), one.name_any()));
    let mut outcome = Outcome::default();
    // The first that is not over is the one; the state on the instance knows better.
    let stated = view.instance.and_then(VirtualMachineInstance::migration);
    let stated = stated.and_then(|state| state.migration_uid.clone());
    let first = all.iter().filter(|one| !phase(one).is_final() && !is_leaving(one));
    let first =
        first.min_by_key(|one| (Reverse(phase(one)), one.creation_timestamp(), one.name_any()));
    let turn = stated.clone().or_else(|| first.and_then(|one| one.uid()));

    for migration in &all {
        let is_its_turn = migration.uid() == turn;
        let next = Next { view, migration, is_its_turn, turn: turn.as_deref() };
        next.told(&mut outcome);
    }
    outcome.outlived = outlived(&all);
    let known = all.iter().any(|one| one.uid() == stated && !phase(one).is_final());
    if let (Some(instance), Some(_), false) = (view.instance, &stated, known) {
        // It was deleted past our finalizer; or given up before the state was seen that
        // had been written for it.
        let why = "its migration object is over, or was deleted";
        outcome.instance = call_off(instance, why, view.now);
    }
    outcome
}

/// Those that are over, but for the newest. `all`: oldest first.
fn outlived(all: &[&Arc<Migration>]) -> Vec<Arc<Migration>> {
    let is_done = |one: &&&Arc<Migration>| {
        phase(one).is_final() && !is_leaving(one) && one.finalizers().is_empty()
    };
    let over: Vec<_> = all.iter().filter(is_done).map(|one| Arc::clone(one)).collect();
    over.iter().take(over.len().saturating_sub(KEPT)).map(Arc::clone).collect()
}

/// One of the migrations, and what to make of it.
struct Next<'a> {
    view: &'a View<'a>,
    migration: &'a Migration,
    is_its_turn: bool,
    /// The uid of the one whose turn it is.
    turn: Option<&'a str>,
}

/// What is to become of one.
enum Fate {
    /// It is at this step.
    At(MigrationPhase),
    /// It waits at this step.
    Waits(MigrationPhase, Trouble),
    Fails(Trouble),
}

impl Next<'_> {
    fn told(&self, outcome: &mut Outcome) {
        let mut wanted = self.migration.clone();
        let over = phase(self.migration).is_final();
        let is_held = self.migration.finalizers().iter().any(|one| one == MIGRATION_FINALIZER);
        if over {
            if is_held {
                wanted.finalizers_mut().retain(|one| one != MIGRATION_FINALIZER);
            }
        } else {
            if !is_leaving(self.migration) && !is_held {
                wanted.finalizers_mut().push(MIGRATION_FINALIZER.to_owned());
            }
            let fate = self.fate(outcome);
            wanted.status = Some(self.status(fate));
        }
        if wanted != *self.migration {
            outcome.migrations.push(wanted);
        }
    }

    /// What the instance says of this very migration.
    fn stated(&self) -> Option<&MigrationState> {
        let state = self.view.instance?.status.as_ref()?.migration_state.as_deref()?;
        (state.migration_uid.is_some() && state.migration_uid == self.migration.uid())
            .then_some(state)
    }

    fn fate(&self, outcome: &mut Outcome) -> Fate {
        use MigrationPhase as Phase;
        let now = phase(self.migration);
        if let Some(state) = self.stated() {
            return self.under_way(state, outcome);
        }
        if is_leaving(self.migration) {
            return fails("Cancelled", "it was deleted before it began");
        }
        if now > Phase::Scheduling {
            outcome.ask = true;
            return fails(
                "InstanceReplaced",
                "the instance says nothing of this migration any more: make another one",
            );
        }
        match self.obstacle(outcome) {
            Some(fate) => fate,
            None if now == Phase::Scheduling => self.find_target(outcome),
            None => self.take_turn(),
        }
    }

    /// What keeps it from beginning.
    fn obstacle(&self, outcome: &mut Outcome) -> Option<Fate> {
        let spec = &self.migration.spec;
        let name = &spec.vmi_name;
        let place = format!("{}/{name}", self.migration.namespace().unwrap_or_default());
        if spec.send_to.is_some() || spec.receive.is_some() {
            return Some(fails("NotSupported", words::BETWEEN_CLUSTERS));
        }
        let Some(instance) = self.view.instance else {
            let created = self.migration.creation_timestamp().map_or(self.view.now, |one| one.0);
            let told = words::absent(&self.migration.namespace().unwrap_or_default(), name);
            return Some(if self.view.now.duration_since(created) < UNSEEN {
                self.again_after(outcome, created + UNSEEN);
                self.waits("NoInstance", told)
            } else {
                fails("NoInstance", told)
            });
        };
        if instance.phase().is_final() {
            return Some(fails("InstanceEnded", words::FINALIZED));
        }
        if instance.metadata.deletion_timestamp.is_some() {
            return Some(fails("InstanceLeaving", format!("the VMI \"{place}\" is being deleted")));
        }
        if !self.is_its_turn {
            let other = self.turn.unwrap_or_default();
            return Some(fails("MigrationInFlight", words::in_flight(other, name)));
        }
        if instance.phase() != InstancePhase::Running {
            return Some(
                self.waits("InstanceNotRunning", format!("the VMI \"{place}\" does not run yet")),
            );
        }
        match words::ability(instance) {
            Some(one) if words::is_able(one) => None,
            Some(one) => Some(fails("NotLiveMigratable", words::unable(one))),
            None => Some(self.waits(
                "InstanceNotRunning",
                "its agent has not said yet whether it can move".to_owned(),
            )),
        }
    }

    /// Where it is by the state on the instance, which is for this migration.
    fn under_way(&self, state: &MigrationState, outcome: &mut Outcome) -> Fate {
        use MigrationPhase as Phase;
        if state.failed {
            let why = state.failure_reason.as_deref().unwrap_or("it is not said why");
            return fails("MigrationFailed", why);
        }
        if state.completed {
            return Fate::At(Phase::Succeeded);
        }
        if let Some(why) = self.reason_to_end(state) {
            let instance = self.view.instance.map(|one| call_off(one, &why, self.view.now));
            outcome.instance = instance.flatten();
        }
        if let (Some(instance), None) = (self.view.instance, &outcome.instance)
            && state.has_started()
        {
            let lost = |node: &str| (self.view.absence)(node) == Some(Absence::Lost);
            outcome.instance = orphaned::told(instance, state, &lost, self.view.now).map(Box::new);
        }
        if !state.has_started() {
            self.again_after(outcome, self.since() + PREPARING);
        }
        Fate::At(if state.has_started() {
            Phase::Running
        } else if state.target_node_address.is_some() {
            Phase::TargetReady
        } else {
            Phase::PreparingTarget
        })
    }

    fn reason_to_end(&self, state: &MigrationState) -> Option<String> {
        let instance = self.view.instance?;
        if is_leaving(self.migration) {
            return Some("it was called off: its object was deleted".to_owned());
        }
        if instance.phase().is_final() {
            return Some("the guest has ended".to_owned());
        }
        if instance.metadata.deletion_timestamp.is_some() {
            return Some("the instance is being deleted".to_owned());
        }
        let late = !state.has_started()
            && self.view.now.duration_since(self.since()) >= PREPARING
            && phase(self.migration) > MigrationPhase::Scheduling;
        let target = state.target_node.as_deref().unwrap_or_default();
        // Nothing was sent: rather elsewhere, and soon.
        if let Some(absence) = (self.view.absence)(target).filter(|_| !state.has_started()) {
            return Some(match absence {
                Absence::Silent => format!("nothing is heard of the agent of {target}"),
                Absence::Lost => format!("{target} is gone, or out of service"),
            });
        }
        let source = state.source_node.as_deref().unwrap_or_default();
        late.then(|| match state.target_node_address {
            None => format!(
                "{target} was not ready within {} s: see whether its agent runs",
                PREPARING.as_secs()
            ),
            Some(_) => format!("{source} did not begin: see whether its agent runs"),
        })
    }

    fn take_turn(&self) -> Fate {
        let node = self.view.instance.and_then(node_of).unwrap_or_default();
        match (self.view.refusal)(node) {
            Some(message) => self.waits("TooMany", message),
            // First it is said to be ours to hold.
            None if phase(self.migration) == MigrationPhase::Unset => {
                Fate::At(MigrationPhase::Pending)
            }
            None => Fate::At(MigrationPhase::Scheduling),
        }
    }

    fn find_target(&self, outcome: &mut Outcome) -> Fate {
        let Some(instance) = self.view.instance else {
            return Fate::At(MigrationPhase::Scheduling);
        };
        let found = (self.view.target)(instance, self.migration);
        let found = found.map_err(|message| Trouble { reason: UNSCHEDULABLE, message });
        match found.and_then(|target| Ok((target, self.conduct()?))) {
            Ok(_)
                if let Some(message) =
                    (self.view.refusal)(node_of(instance).unwrap_or_default()) =>
            {
                self.waits("TooMany", message)
            }
            Ok((target, conduct)) => {
                outcome.admitted = true;
                outcome.instance = Some(Box::new(self.begun(instance, target, conduct)));
                Fate::At(MigrationPhase::Scheduling)
            }
            Err(Trouble { reason, message }) => {
                let late = self.since() + SCHEDULING;
                if late <= self.view.now {
                    return fails(reason, message);
                }
                self.again_after(outcome, late);
                self.waits(reason, message)
            }
        }
    }

    /// How the guest is moved.
    fn conduct(&self) -> Result<MigrationConfiguration, Trouble> {
        let terms = self.view.terms.configuration();
        let Some(policy) = self.view.policy else { return Ok(terms) };
        let said = policy::applied(policy, terms);
        said.map_err(|message| Trouble { reason: INVALID_POLICY, message })
    }

    /// The instance with this migration on it.
    fn begun(
        &self,
        instance: &VirtualMachineInstance,
        target: String,
        conduct: MigrationConfiguration,
    ) -> VirtualMachineInstance {
        let mut begun = instance.clone();
        begun.labels_mut().insert(MIGRATION_TARGET_LABEL.to_owned(), target.clone());
        let state = MigrationState {
            migration_uid: self.migration.uid(),
            source_node: node_of(instance).map(str::to_owned),
            target_node: Some(target),
            mode: Some("PreCopy".to_owned()),
            migration_policy_name: self.view.policy.map(|policy| policy.name_any()),
            migration_configuration: Some(conduct),
            ..MigrationState::default()
        };
        begun.status.get_or_insert_default().migration_state = Some(Box::new(state));
        begun
    }

    fn waits(&self, reason: &'static str, message: String) -> Fate {
        let at = phase(self.migration).max(MigrationPhase::Pending);
        Fate::Waits(at, Trouble { reason, message })
    }

    fn again_after(&self, outcome: &mut Outcome, at: Timestamp) {
        outcome.again_at = Some(outcome.again_at.map_or(at, |other| other.min(at)));
    }

    /// Since when it is at its step.
    fn since(&self) -> Timestamp {
        let status = self.migration.status.as_ref();
        let entered = status.and_then(|one| {
            one.phase_transition_timestamps
                .iter()
                .rev()
                .find(|one| one.phase <= MigrationPhase::PreparingTarget)
        });
        entered.map_or(self.view.now, |one| one.phase_transition_timestamp.0)
    }

    fn status(&self, fate: Fate) -> MigrationStatus {
        let mut status = self.migration.status.clone().unwrap_or_default();
        let now = Time(self.view.now);
        let (at, condition) = match fate {
            Fate::At(at) => (at, None),
            Fate::Waits(at, why) => (at, Some((WAITING, why))),
            Fate::Fails(why) => (MigrationPhase::Failed, Some((FAILURE, why))),
        };
        if let Some(state) = self.stated() {
            status.migration_state = Some(state.clone());
            if state.abort_requested {
                Condition::new("migrationAbortRequested", ConditionStatus::True)
                    .merge_into(&mut status.conditions, now.clone());
            }
        }
        let told = condition.as_ref().map(|(kind, _)| *kind);
        status.conditions.retain(|one| {
            ![WAITING, FAILURE].contains(&one.r#type.as_str()) || Some(one.r#type.as_str()) == told
        });
        if let Some((kind, why)) = condition {
            Condition::new(kind, ConditionStatus::True)
                .because(why.reason, why.message)
                .merge_into(&mut status.conditions, now.clone());
        }
        if let Some(told) = without_effect(self.migration, self.view.policy) {
            Condition::new(FIELDS_WITHOUT_EFFECT, ConditionStatus::True)
                .because("NotImplemented", told)
                .merge_into(&mut status.conditions, now.clone());
        }
        if status.phase != Some(at) {
            enter(&mut status, at, &now);
        }
        status
    }
}

/// Enters a step; that a target was chosen is seen together with what came of it.
fn enter(status: &mut MigrationStatus, at: MigrationPhase, now: &Time) {
    let before = status.phase.unwrap_or_default();
    let scheduled = before < MigrationPhase::Scheduled
        && at >= MigrationPhase::PreparingTarget
        && !at.is_final();
    let passed = scheduled.then_some(MigrationPhase::Scheduled);
    for phase in passed.into_iter().chain([at]) {
        let phase_transition_timestamp = now.clone();
        let transition = MigrationPhaseTransition { phase, phase_transition_timestamp };
        status.phase_transition_timestamps.push(transition);
    }
    status.phase = Some(at);
}

/// The instance with its migration ended, or told to end once the guest is being sent;
/// none if it says so already.
fn call_off(
    instance: &VirtualMachineInstance,
    why: &str,
    now: Timestamp,
) -> Option<Box<VirtualMachineInstance>> {
    let mut ended = instance.clone();
    let state = ended.status.as_mut()?.migration_state.as_mut()?;
    let ours_to_end = !state.has_started() || instance.phase().is_final();
    state.abort_requested = true;
    if ours_to_end {
        ended.fail_migration(why, &Time(now));
    }
    (ended != *instance).then(|| Box::new(ended))
}

/// What is written in it and does nothing.
fn without_effect(migration: &Migration, by: Option<&MigrationPolicy>) -> Option<String> {
    let spec = &migration.spec;
    let priority = spec.priority.is_some().then(|| "spec.priority".to_owned());
    let own = spec.rest.keys().map(|name| format!("spec.{name}"));
    let by = by.filter(|_| phase(migration) <= MigrationPhase::Scheduling);
    let of_policy = by.into_iter().flat_map(|policy| {
        let said = policy::without_effect(policy).into_iter();
        said.map(|field| format!("{field} of MigrationPolicy {}", policy.name_any()))
    });
    let fields: Vec<String> = priority.into_iter().chain(own).chain(of_policy).collect();
    (!fields.is_empty())
        .then(|| format!("these fields are kept but have no effect: {}", fields.join(", ")))
}

fn fails(reason: &'static str, message: impl Into<String>) -> Fate {
    Fate::Fails(Trouble { reason, message: message.into() })
}
