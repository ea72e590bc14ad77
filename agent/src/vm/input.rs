//! What the fleet tells a driver, and what of that the VM's object asks for.

use std::sync::Arc;
use std::time::Duration;

use crds::kubevirt::{
    DEFAULT_GRACE_PERIOD_SECONDS, INSTANCE_FINALIZER, InstancePhase, MigrationState,
    NODE_NAME_LABEL, VirtualMachineInstance,
};
use kube::ResourceExt as _;
use tokio::time::Instant;

use super::{Event, Wish};
use crate::hypervisor::DomainState;
use crate::leases::Subnets;

/// What the fleet tells a driver; only the newest counts.
#[derive(Clone, Debug)]
pub struct Input {
    /// The VM's object; `None` when there is none of its uid.
    pub vmi: Option<Arc<VirtualMachineInstance>>,
    /// All subnets.
    pub subnets: Arc<Subnets>,
    /// What the last list of domains said.
    pub seen: Option<Seen>,
}

/// The VM in one list of domains.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When the list was begun.
    pub at: Instant,
    /// `None`: it was not in the list.
    pub state: Option<DomainState>,
}

impl Input {
    /// Whether both are the same objects, and say the same of the domain; `list`: in the same list.
    #[must_use]
    pub fn is_same(&self, other: &Self, list: bool) -> bool {
        let vmi = match (&self.vmi, &other.vmi) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (one, two) => one.is_none() && two.is_none(),
        };
        let at = |input: &Self| input.seen.map(|seen| seen.at).filter(|_| list);
        let state = |input: &Self| input.seen.map(|seen| seen.state);
        vmi && Arc::ptr_eq(&self.subnets, &other.subnets)
            && at(self) == at(other)
            && state(self) == state(other)
    }
}

/// What a driver has learned from its VM's object.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Known {
    /// What it asked for when last looked at.
    pub wish: Wish,
    /// By which migration the guest is to come here.
    coming: Option<String>,
    /// For how long an earlier agent has waited for its guest to power off.
    waited: Duration,
}

impl Known {
    /// Of one that is looked at for the first time.
    #[must_use]
    pub fn of(vmi: Option<&VirtualMachineInstance>, node: &str) -> Self {
        Self { wish: wish_of(vmi, node), coming: None, waited: Duration::ZERO }
    }

    /// The same, where its guest was asked to power off so long ago.
    #[must_use]
    pub fn having_waited(mut self, waited: Duration) -> Self {
        self.waited = waited;
        self.wish = self.wish.after(waited);
        self
    }

    /// Takes in the object as it is now, and says what is news. `begun`: by which migration
    /// this node has begun to send the guest, which the object may not say yet. `network`: what the VM's
    /// network is made from has changed. `seen`: its domain in a list that counts; not
    /// for what the object asks for only now, as the list may have been begun before the
    /// cause of that.
    pub fn learn(
        &mut self,
        vmi: Option<&VirtualMachineInstance>,
        node: &str,
        begun: Option<&str>,
        network: bool,
        seen: Option<Option<DomainState>>,
    ) -> Vec<Event> {
        let mut news = Vec::new();
        let moves = vmi.and_then(|vmi| vmi.migration()?.migration_uid.as_deref());
        let wish = match wish_of(vmi, node).after(self.waited) {
            Wish::Run { .. } if begun.is_some() && begun == moves => Wish::Leave,
            wish => wish,
        };
        let anew = wish.comes()
            && self.coming.as_deref() != moves
            && (self.coming.is_some() || !self.wish.comes());
        if anew {
            news.push(Event::Anew);
        } else if self.wish.changed_to(wish) || network {
            news.push(Event::Wish);
        }
        if wish.comes() {
            self.coming = moves.map(str::to_owned);
        }
        self.wish = wish;
        if news.is_empty() {
            news.extend(seen.map(Event::Seen));
        }
        news
    }
}

/// What an object asks of this node.
#[must_use]
pub fn wish_of(vmi: Option<&VirtualMachineInstance>, node: &str) -> Wish {
    let Some(vmi) = vmi else { return Wish::Gone };
    if place_of(vmi).is_some_and(|other| other != node) {
        let comes = vmi.migration().filter(|one| one.target_node.as_deref() == Some(node));
        // One that has ended goes nowhere.
        return match comes.filter(|_| !vmi.phase().is_final()) {
            Some(state) if state.is_undecided() => Wish::Tell,
            Some(state) => Wish::Receive { ready: state.target_node_address.is_some() },
            None => Wish::Moved,
        };
    }
    if vmi.phase().is_final() {
        return Wish::Over;
    }
    if vmi.metadata.deletion_timestamp.is_some() {
        // Who removed our finalizer has decided that the VM is no more.
        if !vmi.finalizers().iter().any(|one| one == INSTANCE_FINALIZER) {
            return Wish::Over;
        }
        let seconds =
            vmi.spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_PERIOD_SECONDS);
        let grace = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        return Wish::Stop { grace };
    }
    let leaves = vmi.migration().is_some_and(MigrationState::has_started);
    match vmi.phase() {
        InstancePhase::Running if leaves => Wish::Leave,
        phase => Wish::Run { recorded: phase == InstancePhase::Running },
    }
}

/// The node that an object names.
#[must_use]
pub fn place_of(vmi: &VirtualMachineInstance) -> Option<&str> {
    let label = vmi.metadata.labels.as_ref().and_then(|labels| labels.get(NODE_NAME_LABEL));
    let status = || vmi.status.as_ref().and_then(|status| status.node_name.as_ref());
    label.or_else(status).map(String::as_str)
}

/// Whether the object is another node's by its last move: its guest went there, from
/// wherever, and what is here was left behind by that move or by one before it; or it was
/// to come here and did not. A node that somebody wrote on the object is no sign of that.
#[must_use]
pub fn has_parted(vmi: &VirtualMachineInstance, node: &str) -> bool {
    let state = vmi.status.as_ref().and_then(|status| status.migration_state.as_ref());
    let Some(state) = state else { return false };
    let (source, target) = (state.source_node.as_deref(), state.target_node.as_deref());
    let now = place_of(vmi).filter(|now| *now != node);
    if state.completed {
        now.is_some() && target == now
    } else {
        now.is_some() && target == Some(node) && source == now
    }
}
