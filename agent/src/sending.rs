//! The source's part of a move: sends the guest to the node that is ready for it.
//!
//! ```text
//!   driver ── object ──► Sending ── order ──► task: startTimestamp ─► libvirt ─► (left)
//!                           │                            refused ▲       │ did not work
//!                           └── abortRequested ──────────────────┼───────┤ called off
//!                                                                │       ▼
//!                                                                └── failed, failureReason
//! ```
//!
//! It goes on beside the VM's driver, which sees the guest run, end or leave as ever: a
//! guest may power itself off or be deleted while it is being sent.
//!
//! A guest is sent once for each migration. One that an earlier agent began to send is
//! followed to its end, as libvirt goes on by itself, and not sent again: what is at the
//! target is then no copy any more that could be continued.
//!
//! That it worked is the target's to say. That it did not is said here, once libvirt
//! says that the guest is here, and never while it may be there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crds::kubevirt::{MigrationState, VirtualMachineInstance};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::host::Host;
use crate::hypervisor::{DomainState, HypervisorError, Job, Journey, PauseReason};
use crate::vm::place_of;
use crate::vm::publish::{self, Refusal};

/// KubeVirt's `completionTimeoutPerGiB`.
const PER_GIB: Duration = Duration::from_secs(150);
/// KubeVirt's `progressTimeout`.
const PROGRESS: Duration = Duration::from_secs(150);
/// How often progress is looked at, as KubeVirt does.
const GLANCE: Duration = Duration::from_millis(400);
/// How long to wait before libvirt or the API is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// Why a move ends that is not wanted any more.
const CALLED_OFF: &str = "it was called off";

/// The guest that is being sent, if it is.
#[derive(Default)]
pub(crate) struct Sending {
    /// The uid of the migration that was begun last.
    migration: Option<String>,
    abort: CancellationToken,
    task: Option<AbortOnDropHandle<()>>,
}

impl std::fmt::Debug for Sending {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Sending").field("migration", &self.migration).finish_non_exhaustive()
    }
}

impl Sending {
    /// Begins what the object asks for, or calls it off. `runs`: the guest is here.
    pub(crate) fn look(
        &mut self,
        host: &Host,
        domain: &str,
        vmi: &Arc<VirtualMachineInstance>,
        taps: &[String],
        runs: bool,
    ) {
        let Some(state) = order(vmi, &host.node) else { return };
        if self.migration != state.migration_uid && self.task.is_none() && runs {
            self.migration.clone_from(&state.migration_uid);
            self.abort = CancellationToken::new();
            let order = Order {
                host: host.clone(),
                domain: domain.to_owned(),
                taps: taps.to_vec(),
                migration: state.migration_uid.clone(),
                abort: self.abort.clone(),
            };
            // Not polled by the driver, whose actions may take long.
            let task = tokio::spawn(order.carry_out(VirtualMachineInstance::clone(vmi)));
            self.task = Some(AbortOnDropHandle::new(task));
        }
        // Who deletes the VM wants it to end, and it does not power off while it is sent.
        let is_unwanted = state.abort_requested || vmi.metadata.deletion_timestamp.is_some();
        if is_unwanted && self.migration == state.migration_uid {
            self.abort.cancel();
        }
    }

    /// Waits until what was begun is over.
    pub(crate) async fn over(&mut self) {
        match &mut self.task {
            Some(task) => drop(task.await),
            None => std::future::pending().await,
        }
        self.task = None;
    }
}

/// The move that this node is to carry out, if there is one.
fn order<'a>(vmi: &'a VirtualMachineInstance, node: &str) -> Option<&'a MigrationState> {
    let state = vmi.migration()?;
    let is_ready = state.target_node_address.is_some();
    let is_ours = state.source_node.as_deref() == Some(node) && place_of(vmi) == Some(node);
    (is_ready && is_ours && !vmi.phase().is_final()).then_some(state)
}

struct Order {
    host: Host,
    domain: String,
    taps: Vec<String>,
    migration: Option<String>,
    abort: CancellationToken,
}

impl Order {
    async fn carry_out(self, vmi: VirtualMachineInstance) {
        let (api, name) = self.object(&vmi);
        let has_started = vmi.migration().is_some_and(MigrationState::has_started);
        let failed = if has_started {
            self.follow().await;
            "the agent of the source node was restarted, and the guest was not sent again"
                .to_owned()
        } else {
            let start = |vmi: &mut VirtualMachineInstance| {
                let now = Time(k8s_openapi::jiff::Timestamp::now());
                match migration(vmi) {
                    Some(state) if !state.abort_requested => state.start_timestamp = Some(now),
                    _ => vmi.fail_migration(CALLED_OFF, &now),
                }
            };
            // Without that word nothing is done: it may have been called off meanwhile.
            let Some(started) = self.write(&api, &name, vmi, start).await else { return };
            match self.send(&started).await {
                Ok(()) => {
                    tracing::info!(domain = self.domain, "The guest has left");
                    return;
                }
                Err(why) => why,
            }
        };
        if !self.is_here().await {
            return;
        }
        tracing::warn!(domain = self.domain, why = failed, "The guest stays");
        // Nobody else will say it: the controller ends nothing that has begun.
        let vmi = loop {
            match publish::read(&api, &name).await {
                Ok(Some(vmi)) => break vmi,
                Ok(None) => return,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        let fail = |vmi: &mut VirtualMachineInstance| {
            let now = Time(k8s_openapi::jiff::Timestamp::now());
            vmi.fail_migration(&failed, &now);
        };
        self.write(&api, &name, vmi, fail).await;
    }

    /// Sends the guest; why it did not go otherwise.
    async fn send(&self, vmi: &VirtualMachineInstance) -> Result<(), String> {
        let state = vmi.migration().ok_or(CALLED_OFF)?;
        let journey = self.journey(state)?;
        let here = self.host.images(&self.domain).await.map_err(|trouble| trouble.message)?;
        let there = state.target_state.as_ref().map(|there| &there.images);
        if let Some(why) = other_image(&here, there.unwrap_or(&BTreeMap::new())) {
            return Err(why);
        }
        tracing::info!(domain = self.domain, to = journey.address, "Sending the guest");
        let mut sent = std::pin::pin!(self.host.hypervisor.migrate(&self.domain, journey));
        let mut watch = Patience::new();
        let mut ends: Option<&'static str> = None;
        let mut timer = tokio::time::interval(GLANCE);
        loop {
            tokio::select! {
                outcome = &mut sent => {
                    let why = |error: HypervisorError| ends.map_or_else(|| error.to_string(), str::to_owned);
                    return outcome.map_err(why);
                }
                () = self.abort.cancelled(), if ends.is_none() => {
                    ends = Some(CALLED_OFF);
                }
                _ = timer.tick() => {
                    if ends.is_none()
                        && let Ok(Some(job)) = self.host.hypervisor.job(&self.domain).await
                    {
                        ends = watch.verdict(job, Instant::now());
                    }
                }
            }
            if ends.is_some()
                && let Err(error) = self.host.hypervisor.abort(&self.domain).await
            {
                tracing::warn!(domain = self.domain, %error, "The sending of a guest cannot be called off yet");
                tokio::time::sleep(GLANCE).await;
            }
        }
    }

    /// The object is written by people too: what it names goes into the definition of a
    /// domain and into a URI, and is no more than a directory and an address.
    fn journey(&self, state: &MigrationState) -> Result<Journey, String> {
        let here = self.host.here();
        let there = state.target_state.clone().unwrap_or_default();
        let moved = |from: String, to: Option<String>| {
            let to = to.unwrap_or_else(|| from.clone());
            if is_plain(&to) {
                Ok((format!("{from}/"), format!("{to}/")))
            } else {
                Err(format!("the target says that its files are in {to:?}, which is no directory"))
            }
        };
        let address = state.target_node_address.clone().unwrap_or_default();
        if address.parse::<IpAddr>().is_err() {
            return Err(format!("the target says that it is at {address:?}, which is no address"));
        }
        Ok(Journey {
            address,
            pki: self.host.pki.clone(),
            paths: vec![
                moved(here.state_dir, there.state_dir)?,
                moved(here.run_dir, there.run_dir)?,
            ],
            taps: self.taps.clone(),
        })
    }

    /// Waits until nothing is being sent any more that an earlier agent began to send.
    async fn follow(&self) {
        loop {
            match self.host.hypervisor.job(&self.domain).await {
                Ok(Some(_)) if self.abort.is_cancelled() => {
                    let _ = self.host.hypervisor.abort(&self.domain).await;
                }
                Ok(None) | Err(HypervisorError::NotFound(_)) => return,
                // A busy libvirt does not answer in time; what it does goes on.
                Ok(Some(_)) | Err(_) => {}
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Whether the guest is here, once libvirt can say so.
    async fn is_here(&self) -> bool {
        loop {
            if let Ok(domains) = self.host.hypervisor.list().await {
                let state = domains.iter().find(|one| one.domain == self.domain);
                match state.map(|one| one.state) {
                    // It has not decided yet.
                    Some(DomainState::Paused(PauseReason::Migration)) => {}
                    Some(DomainState::ShutOff(_)) | None => return false,
                    Some(_) => return true,
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn object(&self, vmi: &VirtualMachineInstance) -> (Api<VirtualMachineInstance>, String) {
        let namespace = vmi.namespace().unwrap_or_default();
        (Api::namespaced(self.host.client.clone(), &namespace), vmi.name_any())
    }

    /// Writes what `change` makes of the object, for the version that was read, for as
    /// long as this migration is under way there; the object as it is then. Nothing
    /// changed is nothing written.
    async fn write(
        &self,
        api: &Api<VirtualMachineInstance>,
        name: &str,
        mut vmi: VirtualMachineInstance,
        change: impl Fn(&mut VirtualMachineInstance),
    ) -> Option<VirtualMachineInstance> {
        loop {
            let state = order(&vmi, &self.host.node)?;
            if state.migration_uid != self.migration {
                return None;
            }
            let mut changed = vmi.clone();
            change(&mut changed);
            match publish::write(api, name, &publish::changes(&vmi, &changed)?).await {
                Ok(()) => return Some(changed),
                Err(Refusal::NoObject) => return None,
                Err(Refusal::Conflict) => {}
                Err(Refusal::Other(error)) => {
                    tracing::warn!(domain = self.domain, %error, "The state of a move is not written yet");
                    tokio::time::sleep(AGAIN).await;
                }
            }
            vmi = loop {
                match publish::read(api, name).await {
                    Ok(Some(now)) if now.uid() == vmi.uid() => break now,
                    Ok(_) => return None,
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
            };
        }
    }
}

/// Why the disks of the guest would be others at the target, if so: what is sent is what
/// was written over an image, and the name of an image may mean another one there.
fn other_image(
    here: &BTreeMap<String, String>,
    there: &BTreeMap<String, String>,
) -> Option<String> {
    here.iter().find(|(volume, image)| there.get(*volume) != Some(image)).map(|(volume, image)| {
        let theirs = there.get(volume).map_or("none", String::as_str);
        format!(
            "the disk of volume {volume:?} lies on image {image}, and at the target on {theirs}: \
             give that node the same image"
        )
    })
}

/// Whether this is the path of a directory and cannot be anything else.
fn is_plain(path: &str) -> bool {
    let is_plain = |one: char| one.is_ascii_alphanumeric() || "/._-".contains(one);
    path.starts_with('/') && path.chars().all(is_plain) && !path.split('/').any(|part| part == "..")
}

fn migration(vmi: &mut VirtualMachineInstance) -> Option<&mut MigrationState> {
    vmi.status.as_mut()?.migration_state.as_deref_mut()
}

/// How long a guest may take to be sent, and go on without progress.
#[derive(Debug)]
struct Patience {
    begun: Instant,
    total: u64,
    least: u64,
    since: Instant,
}

impl Patience {
    fn new() -> Self {
        let now = Instant::now();
        Self { begun: now, total: 0, least: u64::MAX, since: now }
    }

    /// Why it is to be called off, if so.
    fn verdict(&mut self, job: Job, now: Instant) -> Option<&'static str> {
        // First the disks are sent, and then the memory, which is counted anew.
        if job.remaining < self.least || job.total != self.total {
            (self.total, self.least, self.since) = (job.total, job.remaining, now);
        }
        let gib = u32::try_from(job.total.div_ceil(1 << 30)).unwrap_or(u32::MAX).max(1);
        if now.duration_since(self.begun) > PER_GIB.saturating_mul(gib) {
            return Some("it took longer than 150 s for each GiB of memory and disks");
        }
        (now.duration_since(self.since) > PROGRESS).then_some("it made no progress for 150 s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_takes_too_long_or_makes_no_progress_stays() {
        let mut patience = Patience::new();
        let at = |seconds| patience_start(&patience) + Duration::from_secs(seconds);
        let (early, later, late) = (at(100), at(200), at(310));
        let job = |remaining| Job { total: 2 << 30, remaining };
        assert_eq!(patience.verdict(job(1 << 30), early), None);
        assert_eq!(patience.verdict(job(1 << 29), later), None, "two GiB have 300 s");
        assert!(patience.verdict(job(1 << 28), late).unwrap().contains("for each GiB"));
        let mut stuck = Patience::new();
        let start = stuck.begun;
        assert_eq!(stuck.verdict(job(5), start), None);
        assert_eq!(stuck.verdict(job(5), start + Duration::from_secs(150)), None);
        let over = stuck.verdict(job(6), start + Duration::from_secs(151));
        assert!(over.unwrap().contains("no progress"));
    }

    #[test]
    fn memory_that_is_sent_after_the_disks_is_progress() {
        let mut patience = Patience::new();
        let start = patience.begun;
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(patience.verdict(Job { total: 1 << 30, remaining: 0 }, start), None);
        for second in [1, 140, 280] {
            let job = Job { total: 9 << 30, remaining: (9 << 30) - second };
            assert_eq!(patience.verdict(job, at(second)), None, "{second}");
        }
    }

    #[test]
    fn a_guest_whose_image_is_another_at_the_target_stays() {
        let images = |all: &[(&str, &str)]| {
            all.iter().map(|(volume, image)| ((*volume).to_owned(), (*image).to_owned())).collect()
        };
        let here = images(&[("root", "aa"), ("data", "bb")]);
        assert_eq!(other_image(&here, &here), None);
        assert_eq!(other_image(&images(&[]), &here), None);
        let why = other_image(&here, &images(&[("root", "cc"), ("data", "bb")])).unwrap();
        assert!(why.contains("\"root\"") && why.contains("aa") && why.contains("cc"), "{why}");
        assert!(other_image(&here, &images(&[("root", "aa")])).unwrap().contains("none"));
    }

    #[test]
    fn a_directory_is_nothing_that_ends_an_attribute_or_leads_elsewhere() {
        assert!(is_plain("/var/lib/berth-2/n1_a.b"));
        for path in ["", "relative", "/a/../etc", "/a'/><disk", "/a b", "/a\"", "/a&amp;"] {
            assert!(!is_plain(path), "{path}");
        }
    }

    fn patience_start(patience: &Patience) -> Instant {
        patience.begun
    }
}
