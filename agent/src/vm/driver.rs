//! The task that owns one VM: hands events to [`step`] and carries its actions out.
//!
//! ```text
//!   fleet ── Input (object, subnets, domain; newest only) ──► driver ── verbs ──► hypervisor
//!                                                            │   ▲                ports, files
//!                                                    Report  ▼   │ Reported
//!                                                           publish ── patch ──► API
//! ```
//!
//! Actions run one after the other, and while one runs nothing else happens to
//! the VM here. Writing to the API is no action in that sense: it goes on beside
//! the rest, so that an API that is away holds nothing up. A newer report takes
//! the place of one that is not written yet.
//!
//! A list of domains counts only if it was begun after the last action ended:
//! an older one may not know what we did. Nor does one count that was begun before the
//! object was seen to ask for something else.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::kubevirt::VirtualMachineInstance;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::{Resource as _, ResourceExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::publish::Refusal;
use super::{
    Action, Event, Input, Known, Report, Rest, State, Trouble, Wish, publish, step, wish_of,
};
use crate::guest::{Care, News, Subject, freeze};
use crate::host::{Here, Host};
use crate::hypervisor::HypervisorError;
use crate::leases::{self, Defaults, LeaseError, Port, Subnets};
use crate::live;
use crate::sending::Sending;
use crate::telling;
use crate::volumes::DiskFile;

/// One VM and the state it is in.
#[derive(Debug)]
pub struct Driver {
    host: Host,
    domain: String,
    state: State,
    input: watch::Receiver<Input>,
    /// What the object said when last looked at.
    known: Known,
    /// The object as last seen: what the domain is made from.
    vmi: Option<Arc<VirtualMachineInstance>>,
    /// The subnets that `ports` was made from.
    subnets: Arc<Subnets>,
    /// What its network looks like from here.
    ports: Result<Vec<Port>, LeaseError>,
    /// From `Prepare` to `Define`.
    disks: Vec<DiskFile>,
    /// When the last action ended, or something else was asked for; if either was.
    acted: Option<Instant>,
    /// When the last list that was taken in was begun.
    listed: Option<Instant>,
    rest: Rest,
    /// When to send `Tick`.
    wake: Option<Instant>,
    /// When the VM was first seen here.
    born: Instant,
    report: Reporting,
    sending: Sending,
    care: Care,
    /// Whether no earlier agent has made what is here for a guest that is to come.
    is_ours: bool,
    /// On which images its disks lie here.
    images: BTreeMap<String, String>,
    /// What hardware it has, as far as that was looked at.
    account: Option<live::Account>,
    /// How often that was done.
    turn: usize,
    /// And how often since anything came of it or other hardware was asked for.
    in_vain: u32,
}

/// What is being written to the object, if anything.
#[derive(Default)]
struct Reporting(Option<BoxFuture<'static, ()>>);

impl std::fmt::Debug for Reporting {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(if self.0.is_some() { "Reporting" } else { "Silent" })
    }
}

impl Driver {
    /// A driver that knows nothing yet about the VM.
    #[must_use]
    pub fn new(host: Host, domain: String, mut input: watch::Receiver<Input>, rest: Rest) -> Self {
        let first = input.borrow_and_update().clone();
        // What is known already is news to us: `run` looks before it waits.
        input.mark_changed();
        let ports = ports_of(first.vmi.as_deref(), &first.subnets, &host.defaults);
        let state = State::Unseen { attempt: 0 };
        host.metrics.entered(&state);
        let now = Instant::now();
        Self {
            known: known_of(first.vmi.as_deref(), &host, &domain),
            host,
            domain,
            state,
            input,
            vmi: first.vmi,
            subnets: first.subnets,
            ports,
            disks: Vec::new(),
            // Without a list to begin with, an earlier driver may have acted just now.
            acted: first.seen.is_none().then_some(now),
            listed: None,
            rest,
            wake: None,
            born: now,
            report: Reporting::default(),
            sending: Sending::default(),
            care: Care::default(),
            is_ours: false,
            images: BTreeMap::new(),
            account: None,
            turn: 0,
            in_vain: 0,
        }
    }

    /// Drives the VM until nothing of it exists and nothing is owed, or until
    /// the fleet lets go of it. Leaves it as it is then: the next agent adopts it.
    pub async fn run(mut self) {
        while self.state != State::Ended {
            let Some(events) = self.next().await else { return };
            for event in events {
                self.happen(event).await;
            }
            self.rest.set(self.is_at_rest());
        }
        tracing::info!("Nothing of the VM is left on this node");
    }

    /// Whether it goes on as it is until somebody wants something or its domain changes.
    fn is_at_rest(&self) -> bool {
        matches!((&self.state, self.known.wish), (State::Running { .. }, Wish::Run { .. }))
            && self.listed > self.acted
    }

    /// What was listed before says nothing any more.
    fn has_acted(&mut self) {
        self.acted = Some(Instant::now());
        self.rest.set(false);
        self.host.look_again();
    }

    /// Waits for what happens next; `None` when the fleet is gone.
    async fn next(&mut self) -> Option<Vec<Event>> {
        let wake = self.wake;
        let timer = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let reported = async {
            match &mut self.report.0 {
                Some(writing) => writing.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = reported => {
                self.report.0 = None;
                Some(vec![Event::Reported])
            }
            () = self.sending.over() => Some(Vec::new()),
            news = self.care.news() => match news {
                News::Unwell(why) => Some(vec![Event::Unwell(why)]),
                News::Told => {
                    // A start, a stop and the like say it, too, and are under way.
                    if let State::Running { paused, .. } = self.state {
                        self.begin_report(Report::Running { paused });
                    }
                    Some(Vec::new())
                }
            },
            changed = self.input.changed() => {
                changed.ok()?;
                Some(self.look())
            }
            () = timer => {
                self.wake = None;
                Some(vec![Event::Tick])
            }
        }
    }

    /// Takes in the newest input; says what in it is news.
    fn look(&mut self) -> Vec<Event> {
        let Input { vmi, subnets, seen } = self.input.borrow_and_update().clone();
        let same =
            vmi.as_ref().zip(self.vmi.as_ref()).is_some_and(|(new, old)| Arc::ptr_eq(new, old))
                && Arc::ptr_eq(&subnets, &self.subnets);
        let mut ports = match &vmi {
            Some(vmi) if !same => leases::ports(vmi, &subnets, &self.host.defaults),
            // Nothing new; or what is left was made from the object we knew.
            _ => self.ports.clone(),
        };
        if let Ok(ports) = &mut ports {
            self.host.ports.note_conflicts(ports);
        }
        let network = ports != self.ports;
        self.listed = seen.map(|seen| seen.at);
        let counts = seen.filter(|seen| self.acted.is_none_or(|acted| seen.at > acted));
        let counts = counts.map(|seen| seen.state);
        let begun = self.sending.begun();
        let ran = matches!(self.known.wish, Wish::Run { .. });
        let mut events = self.known.learn(vmi.as_deref(), &self.host.node, begun, network, counts);
        if events.iter().any(|event| !matches!(event, Event::Seen(_))) {
            self.has_acted();
        }
        let both = vmi.as_ref().zip(self.vmi.as_ref()).filter(|_| !same);
        let differs = both.is_some_and(|(new, old)| live::differ(new, old));
        // Of a guest that moved away or came nothing was changed meanwhile.
        let stays = !ran && matches!(self.known.wish, Wish::Run { .. });
        if (differs || stays) && !events.contains(&Event::Wish) {
            events.push(Event::Hardware);
            self.in_vain = 0;
        }
        self.ports = ports;
        self.subnets = subnets;
        self.vmi = vmi.or_else(|| self.vmi.take());
        if let Some(vmi) = &self.vmi {
            let runs = matches!(self.state, State::Running { .. });
            let taps: Vec<_> = self.ports.iter().flatten().map(|port| port.tap.clone()).collect();
            self.sending.look(&self.host, &self.domain, vmi, &taps, runs);
        }
        self.look_after();
        if self.state == State::Ready && seen.is_some_and(|seen| seen.state.is_some()) {
            // It may arrive any moment.
            self.host.look_again();
        }
        events
    }

    /// One event and all that directly follows from it.
    async fn happen(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let before = self.state.clone();
            let quiet = matches!(event, Event::Seen(_));
            // What a guest ignores is said once.
            let is_old = matches!(before, State::Adjusting { .. }) && self.in_vain > 1;
            if let Event::Failed(trouble) = &event
                && !is_old
            {
                tracing::warn!(
                    state = before.name(),
                    reason = trouble.reason,
                    why = trouble.message,
                    "An action on a VM failed"
                );
            }
            let (state, actions) = step(before.clone(), self.known.wish, event);
            self.state = state;
            self.look_after();
            self.moved(&before, quiet);
            for action in actions {
                // Apart: what an action takes is several times what a driver that waits does.
                next = Box::pin(self.carry_out(action)).await;
            }
        }
    }

    /// Looks after the guest, while it runs.
    fn look_after(&mut self) {
        if let Some(vmi) = &self.vmi {
            let subject = Subject { host: &self.host, domain: &self.domain, vmi };
            self.care.look(subject, &self.state);
        }
    }

    /// Says and counts that the state changed; timers of an old state end.
    fn moved(&mut self, before: &State, quiet: bool) {
        let after = &self.state;
        if let Some(deed) = telling::deed(before, after)
            && let Some(vmi) = self.vmi.as_ref().filter(|_| self.known.wish != Wish::Gone)
        {
            self.host.teller.tell(vmi.object_ref(&()), deed);
        }
        if std::mem::discriminant(before) == std::mem::discriminant(after) {
            return;
        }
        self.wake = None;
        self.host.metrics.left(before);
        if *after != State::Ended {
            self.host.metrics.entered(after);
        }
        match (before, after) {
            (State::Starting { .. }, State::Attaching { .. }) => {
                self.host.metrics.started(self.born.elapsed());
            }
            (_, State::Waiting { .. }) => self.host.metrics.not_started(),
            _ => {}
        }
        if quiet {
            tracing::info!(
                from = before.name(),
                to = after.name(),
                "The VM was seen in another state"
            );
        } else {
            tracing::debug!(from = before.name(), to = after.name(), "The VM moves on");
        }
    }

    /// Does what was decided; the outcome, for actions that have one.
    async fn carry_out(&mut self, action: Action) -> Option<Event> {
        let outcome = match action {
            Action::Wake(after) => {
                self.wake = Some(Instant::now() + after);
                return None;
            }
            Action::Report(report) => {
                self.begin_report(report);
                return None;
            }
            Action::Serve => self.serve().await,
            Action::Prepare => self.prepare().await,
            Action::Define => self.define().await,
            Action::Start => self.start().await,
            Action::Attach => self.attach().await,
            Action::Adjust => self.adjust().await,
            Action::Receive => self.receive().await,
            Action::Resume => {
                fine_if_gone(self.host.hypervisor.resume(&self.domain).await).map_err(Failure::from)
            }
            Action::Press => self.press().await,
            Action::Destroy => fine_if_gone(self.host.hypervisor.destroy(&self.domain).await)
                .map_err(Failure::from),
            Action::Clean => self.clean().await,
            Action::Undefine => fine_if_gone(self.host.hypervisor.undefine(&self.domain).await)
                .map_err(Failure::from),
        };
        self.has_acted();
        Some(match outcome {
            Ok(()) => Event::Done,
            Err(Failure::Lost) => Event::Lost,
            Err(Failure::Trouble(trouble)) => Event::Failed(trouble),
        })
    }

    fn begin_report(&mut self, report: Report) {
        let Some(vmi) = self.vmi.clone().filter(|_| self.known.wish != Wish::Gone) else {
            self.report.0 = Some(std::future::ready(()).boxed());
            return;
        };
        let publishing = publish::publish(
            self.host.client.clone(),
            self.host.metrics.clone(),
            Here {
                images: self.images.clone(),
                told: self.care.told(),
                account: self.account.clone(),
                ..self.host.here()
            },
            vmi,
            self.ports.clone().unwrap_or_default(),
            report,
        );
        self.report.0 = Some(publishing.boxed());
    }

    // === the actions ===

    async fn serve(&mut self) -> Result<(), Failure> {
        let ports = self.ports.as_ref().map_err(Failure::from)?;
        self.host
            .ports
            .serve(&self.domain, ports)
            .await
            .map_err(|error| Trouble::of("BindingNotKept", error))?;
        Ok(())
    }

    async fn prepare(&mut self) -> Result<(), Failure> {
        let vmi = self.vmi()?;
        self.disks = self.files(&vmi).await?;
        Ok(())
    }

    /// Makes the files of its disks, for as long as the object asks for what it asks now: an
    /// image may take long to come. What was begun is gone on with, or removed, later.
    async fn files(&mut self, vmi: &VirtualMachineInstance) -> Result<Vec<DiskFile>, Failure> {
        let mut input = self.input.clone();
        let otherwise = async {
            loop {
                let vmi = input.borrow_and_update().vmi.clone();
                if self.known.wish.changed_to(wish_of(vmi.as_deref(), &self.host.node)) {
                    return;
                }
                if input.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        tokio::select! {
            files = self.host.prepare(vmi) => Ok(files?),
            () = otherwise => Err(Failure::Lost),
        }
    }

    async fn define(&mut self) -> Result<(), Failure> {
        let vmi = self.vmi()?;
        let ports = self.ports.as_ref().map_err(Failure::from)?;
        let disks = std::mem::take(&mut self.disks);
        let xml = self.host.xml(&vmi, ports, disks).await?;
        self.host.hypervisor.define(&xml).await?;
        Ok(())
    }

    async fn start(&mut self) -> Result<(), Failure> {
        let hypervisor = &self.host.hypervisor;
        let started = if self.vmi.as_ref().is_some_and(|vmi| vmi.spec.starts_paused()) {
            hypervisor.start_paused(&self.domain).await
        } else {
            hypervisor.start(&self.domain).await
        };
        match started {
            Ok(()) | Err(HypervisorError::AlreadyRunning(_)) => Ok(()),
            Err(error) => {
                // A guest that was to come here may have left its taps, which libvirt
                // makes by itself.
                self.host.ports.clear_taps(self.ports.as_deref().unwrap_or_default()).await;
                Err(error.into())
            }
        }
    }

    /// Presses the power button of a guest that can write out what it has in memory.
    async fn press(&mut self) -> Result<(), Failure> {
        self.host.note_asked(&self.domain).await;
        if let Some(vmi) = &self.vmi {
            freeze::thaw_for_the_end(&self.host, &self.domain, vmi).await;
        }
        Ok(fine_if_gone(self.host.hypervisor.shutdown(&self.domain).await)?)
    }

    async fn attach(&mut self) -> Result<(), Failure> {
        let ports = self.ports.as_ref().map_err(Failure::from)?;
        // The taps first: until they are plugged in the guest waits for nothing else.
        let attached = self.host.ports.attach(&self.domain, ports).await;
        self.serve().await?;
        attached.map_err(|error| Trouble::of("NetworkNotReady", error))?;
        // Once for each move: what the object says of it is over with the next report.
        let here = Some(&self.host.node);
        let moves = self.vmi.as_ref().and_then(|vmi| vmi.migration());
        if moves.is_some_and(|state| state.target_node.as_ref() == here) {
            self.host.ports.announce(self.ports.as_deref().unwrap_or_default());
        }
        Ok(())
    }

    async fn adjust(&mut self) -> Result<(), Failure> {
        let vmi = self.vmi()?;
        self.turn = self.turn.wrapping_add(1);
        let in_vain = std::mem::take(&mut self.in_vain);
        let account = self.host.adjust(&self.domain, &vmi, self.turn).await?;
        let unsettled = account.unsettled();
        let is_same = self.account.as_ref() == Some(&account);
        let in_vain = if is_same { in_vain } else { 0 };
        let again = account.again(in_vain);
        self.account = Some(account);
        let Some(trouble) = unsettled else { return Ok(()) };
        self.in_vain = in_vain.saturating_add(1);
        Err(Trouble { again: trouble.again.or(Some(again)), ..trouble }.into())
    }

    /// Everything that a guest needs here which comes from another node. The domain is
    /// libvirt's to bring.
    async fn receive(&mut self) -> Result<(), Failure> {
        let vmi = self.vmi()?;
        self.serve().await?;
        self.ports.as_ref().map_err(Failure::from)?;
        // What an earlier attempt has left of its disks is none of the guest's; but once
        // the source knows that we are ready it may be sending.
        if vmi.migration().is_none_or(|state| state.target_node_address.is_none()) {
            if !self.is_ours && self.host.has_files(&self.domain).await {
                silence_predecessor(&self.host.client, &vmi).await?;
            }
            self.is_ours = true;
            self.host.remove_files(&self.domain).await?;
        }
        self.files(&vmi).await?;
        self.images = self.host.images(&self.domain).await?;
        let queues = self.host.has_queues(&vmi);
        let ports = self.ports.as_ref().map_err(Failure::from)?;
        let received = self.host.ports.receive(&self.domain, ports, queues).await;
        received.map_err(|error| Trouble::of("NetworkNotReady", error))?;
        Ok(())
    }

    async fn clean(&mut self) -> Result<(), Failure> {
        let domain = &self.domain;
        let is_elsewhere = matches!(&self.state, State::Cleaning { end } if end.is_elsewhere());
        if let Some(vmi) = self.vmi.as_ref().filter(|_| !is_elsewhere) {
            self.host.keep(vmi).await?;
        }
        let detached = self.host.ports.detach(|dead| dead == domain).await;
        if let Some(vmi) = &self.vmi {
            self.host.keep_console(vmi).await;
        }
        self.host.remove_files(domain).await?;
        detached.map_err(|error| Trouble::of("NetworkNotRemoved", error))?;
        Ok(())
    }

    fn vmi(&self) -> Result<Arc<VirtualMachineInstance>, Failure> {
        self.vmi.clone().ok_or_else(|| {
            Failure::Trouble(Trouble::of("ObjectGone", "the VM's object was deleted"))
        })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.state != State::Ended {
            self.host.metrics.left(&self.state);
        }
    }
}

/// What is known of a VM that is looked at for the first time, with what an earlier agent left of it.
fn known_of(vmi: Option<&VirtualMachineInstance>, host: &Host, domain: &str) -> Known {
    let known = Known::of(vmi, &host.node);
    match known.wish {
        Wish::Stop { .. } => known.having_waited(host.waited_for(domain)),
        _ => known,
    }
}

/// Who has made what is here may have said that it is ready, in words that have yet to
/// arrive: then the guest would be sent while this is made anew.
async fn silence_predecessor(
    client: &kube::Client,
    vmi: &VirtualMachineInstance,
) -> Result<(), Failure> {
    let Some(patch) = publish::anew(vmi) else { return Ok(()) };
    let api = kube::Api::namespaced(client.clone(), &vmi.namespace().unwrap_or_default());
    publish::write(&api, &vmi.name_any(), &patch).await.map_err(|refusal| {
        let why = match refusal {
            Refusal::NoObject | Refusal::Conflict => "the VM's object has changed".to_owned(),
            Refusal::Other(error) => error,
        };
        Failure::Trouble(Trouble::of("ObjectNotWritten", why))
    })
}

/// Why an action had no effect.
pub(crate) enum Failure {
    /// Nobody knows whether it had.
    Lost,
    Trouble(Trouble),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<&LeaseError> for Failure {
    fn from(error: &LeaseError) -> Self {
        let hopeless = error.is_hopeless();
        Self::Trouble(Trouble { hopeless, ..Trouble::of("NetworkNotReady", error) })
    }
}

impl From<HypervisorError> for Failure {
    fn from(error: HypervisorError) -> Self {
        match error {
            HypervisorError::Disconnected(_) => Self::Lost,
            error => Self::Trouble(Trouble::of("HypervisorRefused", error)),
        }
    }
}

/// What is to be ended or forgotten and is not there is as it should be.
fn fine_if_gone(outcome: Result<(), HypervisorError>) -> Result<(), HypervisorError> {
    match outcome {
        Err(HypervisorError::NotFound(_)) => Ok(()),
        outcome => outcome,
    }
}

fn ports_of(
    vmi: Option<&VirtualMachineInstance>,
    subnets: &Subnets,
    defaults: &Defaults,
) -> Result<Vec<Port>, LeaseError> {
    vmi.map_or_else(|| Ok(Vec::new()), |vmi| leases::ports(vmi, subnets, defaults))
}
