//! All VMs of this node: one driver each, told what concerns it.
//!
//! ```text
//!   watch: VMIs of this node, Subnets ─┐
//!                                      ├─► Fleet ── Input ──► driver of each uid
//!   hypervisor.list(), each second ────┘     │
//!                                            └─► leftovers: files, bindings, OVS ports
//! ```
//!
//! Level-triggered: each round compares all objects with all domains, so a
//! missed event costs at most a second. A domain whose object is not in the
//! watched list is touched only after the API was asked for that very object
//! and answered that it does not exist.
//!
//! Drivers are known by the VMI's uid. A VM that was made anew under its old
//! name waits until its predecessor's driver has ended: they share domain name,
//! files and ports.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crds::kubevirt::VirtualMachineInstance;
use kube::{Api, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::host::Host;
use crate::hypervisor::{DomainState, Observed};
use crate::vm::driver::Driver;
use crate::vm::{Input, Rest, Seen, has_parted, publish, wish_of};
use crate::watch::Watched;

/// How often domains are listed when nothing else asks for it.
const LIST_PERIOD: Duration = Duration::from_secs(1);

/// The least time between two lists: one answers many questions.
const LIST_REST: Duration = Duration::from_millis(50);

/// After a round that took so long the next waits: a round looks at all VMs, and with
/// thousands of them one for each event would leave the machine no time for anything else.
const LONG_ROUND: Duration = Duration::from_millis(1);

/// So many times as long as the round took.
const ROUND_REST: u32 = 4;

/// How often leftovers are looked for.
const SWEEP_PERIOD: Duration = Duration::from_secs(300);

/// How long drivers may take to finish what they are doing when the agent ends.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// All VMs of this node.
#[derive(Debug)]
pub struct Fleet {
    host: Host,
    watched: Watched,
    vms: HashMap<String, Vm>,
    /// The uids that have a driver, by domain.
    driven_as: HashMap<String, BTreeSet<String>>,
    tasks: JoinSet<()>,
    /// Which uid a task drives.
    driven: HashMap<Id, String>,
    /// The last list of domains, and when it was begun.
    list: Option<(Instant, Vec<Observed>)>,
    /// Whether the last attempt at a list failed.
    blind: bool,
    /// Uids that the API said have no object.
    absent: HashSet<String>,
    /// Objects that the API said are another node's, by uid.
    elsewhere: HashMap<String, Arc<VirtualMachineInstance>>,
    inquiries: JoinSet<Answer>,
    /// Uids being asked for, each by the number of its inquiry: an answer to an earlier one,
    /// from before the object was in our list, says nothing any more.
    asked: HashMap<String, u64>,
    /// How many inquiries there were.
    inquired: u64,
    /// Of whom there was one: the next may wait.
    inquired_of: HashSet<String>,
    swept: Option<Instant>,
    /// How often conflicts of addresses had come and gone when drivers were last told.
    conflicts: u64,
}

/// One VM's driver.
#[derive(Debug)]
struct Vm {
    domain: String,
    /// `None` once it has ended; the entry stays while the object does, and until a list
    /// is there that was begun after the end.
    input: Option<watch::Sender<Input>>,
    /// Whether it is told of lists only if they say something new.
    rest: Rest,
    /// When it ended.
    ended: Option<Instant>,
}

impl Vm {
    /// Whether a list begun after the end shows the domain.
    fn reappeared(&self, at: Instant, state: Option<DomainState>) -> bool {
        state.is_some() && self.ended.is_some_and(|ended| at > ended)
    }
}

/// Whether an object of that uid exists.
#[derive(Debug)]
enum Presence {
    Absent,
    /// It does, though not in our list: its label names another node.
    Elsewhere(Box<VirtualMachineInstance>),
}

/// What came of an inquiry: which it was, and of whom.
type Answer = (u64, String, Result<Presence, kube::Error>);

/// A list of domains, to be looked up in.
struct Domains<'a> {
    by_uid: HashMap<&'a str, &'a Observed>,
    by_name: HashMap<&'a str, Vec<&'a Observed>>,
}

impl<'a> Domains<'a> {
    fn of(list: &'a [Observed]) -> Self {
        let mut by_name: HashMap<&str, Vec<&Observed>> = HashMap::with_capacity(list.len());
        for one in list {
            by_name.entry(&one.domain).or_default().push(one);
        }
        Self { by_uid: list.iter().map(|one| (one.uid.as_str(), one)).collect(), by_name }
    }

    fn get(&self, uid: &str) -> Option<&'a Observed> {
        self.by_uid.get(uid).copied()
    }

    fn named(&self, domain: &str) -> impl Iterator<Item = &'a Observed> {
        self.by_name.get(domain).into_iter().flatten().copied()
    }
}

impl Fleet {
    #[must_use]
    pub fn new(host: Host, watched: Watched) -> Self {
        Self {
            host,
            watched,
            vms: HashMap::new(),
            driven_as: HashMap::new(),
            tasks: JoinSet::new(),
            driven: HashMap::new(),
            list: None,
            blind: false,
            absent: HashSet::new(),
            elsewhere: HashMap::new(),
            inquiries: JoinSet::new(),
            asked: HashMap::new(),
            inquired: 0,
            inquired_of: HashSet::new(),
            swept: None,
            conflicts: 0,
        }
    }

    /// Runs until told to stop. VMs run on.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut listed = Instant::now();
        tokio::select! {
            () = self.watched.synced() => {}
            () = shutdown.cancelled() => return,
        }
        tracing::info!("VMs and subnets of this node are known");
        self.list().await;
        loop {
            let begun = Instant::now();
            self.round();
            let took = begun.elapsed();
            self.sweep().await;
            if took >= LONG_ROUND {
                tokio::select! {
                    () = tokio::time::sleep(took * ROUND_REST) => {}
                    () = shutdown.cancelled() => break,
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.watched.changed() => {}
                () = self.host.look_asked() => {
                    tokio::time::sleep_until(listed + LIST_REST).await;
                    listed = Instant::now();
                    self.list().await;
                }
                () = tokio::time::sleep_until(listed + LIST_PERIOD) => {
                    listed = Instant::now();
                    self.list().await;
                }
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                Some(answer) = self.inquiries.join_next() => self.answered(answer),
            }
        }
        self.stop().await;
    }

    /// Lets drivers finish what they are doing.
    async fn stop(mut self) {
        self.vms.clear();
        let finished = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, finished).await.is_err() {
            tracing::warn!(
                drivers = self.tasks.len(),
                "Some VMs are left in the middle of an action"
            );
        }
    }

    async fn list(&mut self) {
        let at = Instant::now();
        let list = self.host.hypervisor.list().await;
        self.host.metrics.listed(list.is_ok());
        match list {
            Ok(domains) => {
                if std::mem::take(&mut self.blind) {
                    tracing::info!("Domains can be listed again");
                }
                self.list = Some((at, domains));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.blind, true) {
                    tracing::warn!(%error, "Domains cannot be listed; trying again each second");
                }
            }
        }
    }

    /// Compares all objects with all domains, and tells every driver.
    fn round(&mut self) {
        let Some((at, domains)) = self.list.take() else { return };
        let objects = self.watched.vmis();
        let seen = Domains::of(&domains);
        self.vms.retain(|uid, vm| {
            let is_news = vm.ended.is_some_and(|ended| at <= ended);
            vm.input.is_some() || is_news || objects.valid.contains_key(uid)
        });
        self.absent.retain(|uid| self.vms.contains_key(uid) || seen.get(uid).is_some());
        self.elsewhere.retain(|uid, _| {
            let matters = self.vms.contains_key(uid) || seen.get(uid).is_some();
            matters && !objects.contains(uid)
        });

        self.asked.retain(|uid, _| !objects.contains(uid));
        self.inquired_of.retain(|uid| {
            !objects.contains(uid) && (self.vms.contains_key(uid) || seen.get(uid).is_some())
        });

        for (uid, vmi) in &objects.valid {
            if self.vms.get(uid).is_some_and(|vm| vm.input.is_some()) {
                continue;
            }
            let domain = net::names::domain(&vmi.namespace().unwrap_or_default(), &vmi.name_any());
            self.ensure(uid, &domain, Some(vmi), at, &seen);
        }
        for one in &domains {
            let known = objects.contains(&one.uid);
            if known {
                continue;
            }
            if self.is_absent(&one.uid, &one.namespace, &one.name) {
                self.ensure(&one.uid, &one.domain, None, at, &seen);
            } else if let Some(vmi) = self.elsewhere.get(&one.uid).cloned() {
                self.ensure(&one.uid, &one.domain, Some(&vmi), at, &seen);
            }
        }
        self.tell(&objects, at, &seen);
        self.list = Some((at, domains));
    }

    /// Starts a driver for the uid, unless it has one or must wait for another.
    fn ensure(
        &mut self,
        uid: &str,
        domain: &str,
        vmi: Option<&Arc<VirtualMachineInstance>>,
        at: Instant,
        seen: &Domains<'_>,
    ) {
        let state = seen.get(uid).map(|one| one.state);
        // An ended driver stays ended, unless something of its VM is there after all.
        // And unless its guest comes here, again perhaps.
        let comes = wish_of(vmi.map(|vmi| &**vmi), &self.host.node).comes();
        let driven = self
            .vms
            .get(uid)
            .is_some_and(|vm| vm.input.is_some() || !(comes || vm.reappeared(at, state)));
        if driven || self.is_taken(uid, domain, seen) {
            return;
        }
        let input = Input {
            vmi: vmi.cloned(),
            subnets: self.watched.subnets(),
            seen: Some(Seen { at, state }),
        };
        if vmi.is_none() {
            tracing::warn!(domain, uid, "A domain has no VM any more and will be removed");
        }
        self.spawn(uid, domain, input);
    }

    fn spawn(&mut self, uid: &str, domain: &str, input: Input) {
        let (sender, receiver) = watch::channel(input);
        let span = tracing::info_span!("vm", domain, uid);
        let rest = Rest::default();
        let driver = Driver::new(self.host.clone(), domain.to_owned(), receiver, rest.clone());
        let task = self.tasks.spawn(driver.run().instrument(span));
        self.driven.insert(task.id(), uid.to_owned());
        let vm = Vm { domain: domain.to_owned(), input: Some(sender), rest, ended: None };
        self.vms.insert(uid.to_owned(), vm);
        self.driven_as.entry(domain.to_owned()).or_default().insert(uid.to_owned());
    }

    /// Whether another VM of the same name is still being removed.
    fn is_taken(&self, uid: &str, domain: &str, seen: &Domains<'_>) -> bool {
        let mut driven = self.driven_as.get(domain).into_iter().flatten();
        driven.any(|other| other != uid) || seen.named(domain).any(|one| one.uid != uid)
    }

    /// Gives every driver the newest of what concerns it.
    fn tell(&mut self, objects: &crate::watch::Vmis, at: Instant, seen: &Domains<'_>) {
        let subnets = self.watched.subnets();
        let before = std::mem::replace(&mut self.conflicts, self.host.ports.conflicts());
        let conflicts = before != self.conflicts;
        let uids: Vec<_> = self.vms.keys().cloned().collect();
        for uid in uids {
            let vmi = objects.valid.get(&uid).cloned();
            let gone = vmi.is_none() && !objects.contains(&uid) && self.is_gone(&uid);
            let Some(vm) = self.vms.get(&uid) else { continue };
            let Some(input) = &vm.input else { continue };
            let state = seen.get(&uid).map(|one| one.state);
            let news = Input {
                vmi: if vmi.is_some() || gone {
                    vmi
                } else {
                    let elsewhere = self.elsewhere.get(&uid).cloned();
                    elsewhere.or_else(|| input.borrow().vmi.clone())
                },
                subnets: Arc::clone(&subnets),
                seen: Some(Seen { at, state }),
            };
            let any_list = conflicts || !vm.rest.holds();
            input.send_if_modified(|input| {
                let changed = !input.is_same(&news, any_list);
                *input = news;
                changed
            });
        }
    }

    /// Whether the object of a driven VM is known not to exist.
    fn is_gone(&mut self, uid: &str) -> bool {
        let Some(vm) = self.vms.get(uid).and_then(|vm| vm.input.as_ref()) else { return false };
        let object = vm.borrow().vmi.clone();
        match object {
            Some(vmi) => self.is_absent(uid, &vmi.namespace().unwrap_or_default(), &vmi.name_any()),
            None => true,
        }
    }

    /// Whether the API has said that there is no such object; asks it if not.
    fn is_absent(&mut self, uid: &str, namespace: &str, name: &str) -> bool {
        if self.absent.contains(uid) {
            return true;
        }
        if !self.asked.contains_key(uid) {
            self.inquired += 1;
            let number = self.inquired;
            self.asked.insert(uid.to_owned(), number);
            let api: Api<VirtualMachineInstance> =
                Api::namespaced(self.host.client.clone(), namespace);
            let (uid, name) = (uid.to_owned(), name.to_owned());
            let again = !self.inquired_of.insert(uid.clone());
            self.inquiries.spawn(async move {
                if again {
                    // Before and not after: what is answered is to be news.
                    tokio::time::sleep(LIST_PERIOD).await;
                }
                let found = publish::read(&api, &name).await;
                let presence = found.map(|vmi| match vmi {
                    Some(vmi) if vmi.uid().as_ref() == Some(&uid) => {
                        Presence::Elsewhere(Box::new(vmi))
                    }
                    _ => Presence::Absent,
                });
                (number, uid, presence)
            });
        }
        false
    }

    fn answered(&mut self, answer: Result<Answer, JoinError>) {
        let Ok((number, uid, presence)) = answer else { return };
        if self.asked.get(&uid) != Some(&number) {
            return;
        }
        self.asked.remove(&uid);
        match presence {
            Ok(Presence::Absent) => {
                self.absent.insert(uid);
            }
            // One that came or went by a migration is taken leave of, and so is one that
            // does not run here.
            Ok(Presence::Elsewhere(vmi))
                if has_parted(&vmi, &self.host.node) || self.is_off(&uid) =>
            {
                let known = self.elsewhere.get(&uid).and_then(|one| one.resource_version());
                if known.is_none() || known != vmi.resource_version() {
                    self.elsewhere.insert(uid, Arc::from(vmi));
                }
            }
            Ok(Presence::Elsewhere(_)) => {
                tracing::warn!(
                    uid,
                    "A VM runs here whose object names another node; it is left alone"
                );
            }
            Err(error) => tracing::warn!(uid, %error, "Whether a VM still exists cannot be asked"),
        }
    }

    /// Whether the last list has no guest of this uid that runs.
    fn is_off(&self, uid: &str) -> bool {
        self.list.as_ref().is_some_and(|(_, domains)| {
            let mut of_it = domains.iter().filter(|one| one.uid == uid);
            of_it.all(|one| matches!(one.state, DomainState::ShutOff(_)))
        })
    }

    /// A driver has ended. One that ended by a defect is begun anew.
    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let (id, defect) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        let Some(uid) = self.driven.remove(&id) else { return };
        let Some(vm) = self.vms.get_mut(&uid) else { return };
        let input = vm.input.take();
        vm.ended = Some(Instant::now());
        if let Some(uids) = self.driven_as.get_mut(&vm.domain) {
            uids.remove(&uid);
            if uids.is_empty() {
                self.driven_as.remove(&vm.domain);
            }
        }
        if let (Some(error), Some(input)) = (defect, input) {
            tracing::error!(uid, %error, "A VM's driver ended by a defect and begins anew");
            self.host.metrics.panicked();
            let domain = vm.domain.clone();
            // What it did last is not known: only a new list counts.
            let fresh = Input { seen: None, ..input.borrow().clone() };
            self.spawn(&uid, &domain, fresh);
        }
        self.host.look_again();
    }

    /// Removes what belongs to no VM and no domain.
    async fn sweep(&mut self) {
        if self.list.is_none() || self.swept.is_some_and(|at| at.elapsed() < SWEEP_PERIOD) {
            return;
        }
        let Some((_, domains)) = &self.list else { return };
        let objects = self.watched.vmis();
        let mut living: BTreeSet<String> = domains.iter().map(|one| one.domain.clone()).collect();
        living.extend(self.vms.values().map(|vm| vm.domain.clone()));
        living.extend(objects.domains());
        if let Err(error) = self.host.remove_leftovers(&living).await {
            tracing::warn!(%error, "Leftovers of VMs that are gone cannot be removed");
        }
        self.swept = Some(Instant::now());
    }
}
