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
//! says that the guest is here, and never while it may be there. Where libvirt does not
//! know, the target is asked; what is decided here is in [`order`].

pub mod order;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crds::kubevirt::{MigrationConfiguration, MigrationState, VirtualMachineInstance};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::order::{CALLED_OFF, Place, asked, changed, is_resumed, place, say_begun, say_undecided};
use crate::host::Host;
use crate::hypervisor::{HypervisorError, Job, Journey};
use crate::vm::publish::{self, Refusal};

/// KubeVirt's `completionTimeoutPerGiB` and `progressTimeout`, in seconds.
const TIMEOUT: u64 = 150;
/// How often progress is looked at, as KubeVirt does.
const GLANCE: Duration = Duration::from_millis(400);
/// How long libvirt may take to decide where a guest is that was sent.
const DECISION: Duration = Duration::from_secs(5);
/// How long to wait before libvirt or the API is asked again.
const AGAIN: Duration = Duration::from_millis(500);

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
        let able = self.task.is_none() && runs;
        let asked = asked(vmi, &host.node, self.migration.as_deref(), able);
        if asked.begin.is_some() {
            self.migration = asked.begin;
            self.abort = CancellationToken::new();
            let order = Order {
                host: host.clone(),
                domain: domain.to_owned(),
                taps: taps.to_vec(),
                migration: self.migration.clone(),
                abort: self.abort.clone(),
            };
            // Not polled by the driver, whose actions may take long.
            let task = tokio::spawn(order.carry_out(VirtualMachineInstance::clone(vmi)));
            self.task = Some(AbortOnDropHandle::new(task));
        }
        if asked.call_off {
            self.abort.cancel();
        }
    }

    /// The uid of the migration that was begun last.
    pub(crate) fn begun(&self) -> Option<&str> {
        self.migration.as_deref()
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
        let failed = if is_resumed(&vmi) {
            self.follow(&vmi).await
        } else {
            let start = |vmi: &mut VirtualMachineInstance| say_begun(vmi, &now());
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
        let place = self.place().await;
        let failed = match place {
            Place::NotHere => return,
            Place::Here => Some(failed),
            Place::Undecided => None,
        };
        tracing::warn!(domain = self.domain, why = failed, "The guest stays, or nobody knows");
        // Nobody else will say it: the controller ends nothing that has begun.
        let vmi = loop {
            match publish::read(&api, &name).await {
                Ok(Some(vmi)) => break vmi,
                Ok(None) => return,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        };
        let say = |vmi: &mut VirtualMachineInstance| match &failed {
            Some(why) => vmi.fail_migration(why, &now()),
            // The driver lets it go on once the target has said that it is not there.
            None => say_undecided(vmi, &self.host.node),
        };
        self.write(&api, &name, vmi, say).await;
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
        // The object is what the target has made ready for; the guest may hold on to more.
        self.host.has_no_stranger(&self.domain, vmi).await?;
        tracing::info!(domain = self.domain, to = journey.address, "Sending the guest");
        let mut sent = std::pin::pin!(self.host.hypervisor.migrate(&self.domain, journey));
        let mut watch = Patience::of(state.migration_configuration.as_ref());
        let mut ends: Option<String> = None;
        let mut timer = tokio::time::interval(GLANCE);
        loop {
            tokio::select! {
                outcome = &mut sent => {
                    let why = |error: HypervisorError| ends.unwrap_or_else(|| error.to_string());
                    return outcome.map_err(why);
                }
                () = self.abort.cancelled(), if ends.is_none() => {
                    ends = Some(CALLED_OFF.to_owned());
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
            bandwidth: state.migration_configuration.as_ref().and_then(bandwidth),
            auto_converge: state
                .migration_configuration
                .as_ref()
                .and_then(|terms| terms.allow_auto_converge)
                .unwrap_or(false),
        })
    }

    /// Waits until nothing is being sent any more that an earlier agent began to send; why
    /// the guest is here still, if it is.
    async fn follow(&self, vmi: &VirtualMachineInstance) -> String {
        let state = vmi.migration();
        let mut patience = Patience::of(state.and_then(|one| one.migration_configuration.as_ref()));
        // It has as much time as if nobody had been restarted.
        if let Some(started) = state.and_then(|state| state.start_timestamp.as_ref()) {
            let gone = now().0.duration_since(started.0);
            patience.began_before(Duration::try_from(gone).unwrap_or_default());
        }
        let mut ends: Option<String> = None;
        loop {
            match self.host.hypervisor.job(&self.domain).await {
                Ok(Some(job)) => {
                    if ends.is_none() && self.abort.is_cancelled() {
                        ends = Some(CALLED_OFF.to_owned());
                    }
                    ends = ends.or_else(|| patience.verdict(job, Instant::now()));
                    if ends.is_some() {
                        let _ = self.host.hypervisor.abort(&self.domain).await;
                    }
                }
                Ok(None) | Err(HypervisorError::NotFound(_)) => break,
                // A busy libvirt does not answer in time; what it does goes on.
                Err(_) => {}
            }
            tokio::time::sleep(GLANCE).await;
        }
        ends.unwrap_or_else(|| {
            "the agent of the source node was restarted, and the guest was not sent again"
                .to_owned()
        })
    }

    /// Where the guest is, once libvirt can say so or does not for long.
    async fn place(&self) -> Place {
        let mut since = None;
        loop {
            if let Ok(domains) = self.host.hypervisor.list().await {
                let state = domains.iter().find(|one| one.domain == self.domain);
                let place = place(state.map(|one| one.state));
                let since = since.get_or_insert_with(Instant::now);
                if place != Place::Undecided || since.elapsed() > DECISION {
                    return place;
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
            let migration = self.migration.as_deref();
            let changed = changed(&vmi, &self.host.node, migration, &change)?;
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

/// MiB a second, as libvirt counts: at least one; none where no bound is written, or what
/// is written is none.
fn bandwidth(terms: &MigrationConfiguration) -> Option<u64> {
    let bytes = terms.bandwidth_per_migration.as_ref()?.units().ok()?;
    (bytes > 0).then_some((bytes >> 20).max(1))
}

fn now() -> Time {
    Time(k8s_openapi::jiff::Timestamp::now())
}

/// How long a guest may take to be sent, and go on without progress.
#[derive(Debug)]
struct Patience {
    per_gib: Duration,
    progress: Duration,
    begun: Instant,
    total: u64,
    least: u64,
    since: Instant,
}

impl Patience {
    /// With KubeVirt's limits where none that can be are written.
    fn of(terms: Option<&MigrationConfiguration>) -> Self {
        let now = Instant::now();
        let seconds = |written: Option<i64>| {
            let written = written.and_then(|seconds| u64::try_from(seconds).ok());
            Duration::from_secs(written.filter(|seconds| *seconds > 0).unwrap_or(TIMEOUT))
        };
        let per_gib = seconds(terms.and_then(|terms| terms.completion_timeout_per_gib));
        let progress = seconds(terms.and_then(|terms| terms.progress_timeout));
        Self { per_gib, progress, begun: now, total: 0, least: u64::MAX, since: now }
    }

    /// The sending has gone on for so long already; no longer than any clock can tell.
    fn began_before(&mut self, elapsed: Duration) {
        self.begun = self.begun.checked_sub(elapsed).unwrap_or(self.begun);
    }

    /// Why it is to be called off, if so.
    fn verdict(&mut self, job: Job, now: Instant) -> Option<String> {
        // First the disks are sent, and then the memory, which is counted anew.
        if job.remaining < self.least || job.total != self.total {
            (self.total, self.least, self.since) = (job.total, job.remaining, now);
        }
        let gib = u32::try_from(job.total.div_ceil(1 << 30)).unwrap_or(u32::MAX).max(1);
        if now.duration_since(self.begun) > self.per_gib.saturating_mul(gib) {
            let seconds = self.per_gib.as_secs();
            return Some(format!(
                "it took longer than {seconds} s for each GiB of memory and disks"
            ));
        }
        let is_stuck = now.duration_since(self.since) > self.progress;
        is_stuck.then(|| format!("it made no progress for {} s", self.progress.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_takes_too_long_or_makes_no_progress_stays() {
        let mut patience = Patience::of(None);
        let at = |seconds| patience_start(&patience) + Duration::from_secs(seconds);
        let (early, later, late) = (at(100), at(200), at(310));
        let job = |remaining| Job { total: 2 << 30, remaining };
        assert_eq!(patience.verdict(job(1 << 30), early), None);
        assert_eq!(patience.verdict(job(1 << 29), later), None, "two GiB have 300 s");
        assert!(patience.verdict(job(1 << 28), late).unwrap().contains("for each GiB"));
        let mut stuck = Patience::of(None);
        let start = stuck.begun;
        assert_eq!(stuck.verdict(job(5), start), None);
        assert_eq!(stuck.verdict(job(5), start + Duration::from_secs(150)), None);
        let over = stuck.verdict(job(6), start + Duration::from_secs(151));
        assert!(over.unwrap().contains("no progress"));
    }

    #[test]
    fn the_limits_and_the_bandwidth_are_what_the_move_says_if_that_can_be() {
        let terms = |text: &str| -> MigrationConfiguration { serde_json::from_str(text).unwrap() };
        let said = terms(
            r#"{"completionTimeoutPerGiB": 7, "progressTimeout": 3, "bandwidthPerMigration": "64Mi"}"#,
        );
        let mut patience = Patience::of(Some(&said));
        let start = patience.begun;
        let job = |remaining| Job { total: 1 << 30, remaining };
        assert_eq!(patience.verdict(job(9), start), None);
        let stuck = patience.verdict(job(9), start + Duration::from_secs(4)).unwrap();
        assert!(stuck.contains("no progress for 3 s"), "{stuck}");
        let late = patience.verdict(job(8), start + Duration::from_secs(8)).unwrap();
        assert!(late.contains("longer than 7 s"), "{late}");
        assert_eq!(bandwidth(&said), Some(64));
        let none = terms(
            r#"{"completionTimeoutPerGiB": -1, "progressTimeout": 0, "bandwidthPerMigration": "0Mi"}"#,
        );
        let patience = Patience::of(Some(&none));
        let usual = Duration::from_secs(TIMEOUT);
        assert_eq!((patience.per_gib, patience.progress), (usual, usual));
        assert_eq!(bandwidth(&none), None);
        assert_eq!(bandwidth(&terms(r#"{"bandwidthPerMigration": "nonsense"}"#)), None);
    }

    #[test]
    fn a_restart_of_the_agent_gives_a_guest_no_more_time() {
        let mut patience = Patience::of(None);
        let now = patience.begun;
        let job = |remaining| Job { total: 1 << 30, remaining };
        patience.began_before(Duration::from_secs(100));
        assert_eq!(patience.verdict(job(9), now + Duration::from_secs(50)), None);
        let late = patience.verdict(job(8), now + Duration::from_secs(51)).unwrap();
        assert!(late.contains("for each GiB"), "{late}");
    }

    #[test]
    fn memory_that_is_sent_after_the_disks_is_progress() {
        let mut patience = Patience::of(None);
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
