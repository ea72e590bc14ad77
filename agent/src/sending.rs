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
//! A guest that takes longer than its terms say goes on at the target at once and has the rest
//! of its memory sent after it (post-copy), or stands still until all was sent, or stays; which
//! of these its terms say. Once it runs at the target nothing can be called off any more.
//!
//! That it worked is the target's to say. That it did not is said here, once libvirt
//! says that the guest is here, and never while it may be there. Where libvirt does not
//! know, the target is asked; what is decided here is in [`order`].

pub mod order;
mod patience;

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

use self::order::{
    CALLED_OFF, Place, asked, changed, is_resumed, place, say_begun, say_mode, say_undecided,
};
use self::patience::{Mode, Patience, Verdict};
use crate::cpus::CpuSet;
use crate::host::Host;
use crate::hypervisor::{HypervisorError, Job, Journey};
use crate::vm::publish::{self, Refusal};

/// How often progress is looked at, as KubeVirt does.
const GLANCE: Duration = Duration::from_millis(400);
/// The longest that QEMU lets a guest stand still, in milliseconds.
const LONGEST_DOWNTIME: u64 = crds::kubevirt::migration_policy::LONGEST_DOWNTIME.unsigned_abs();
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
                () = self.abort.cancelled(), if ends.is_none() && watch.mode != Mode::PostCopy => {
                    ends = Some(CALLED_OFF.to_owned());
                }
                _ = timer.tick() => {
                    if ends.is_none()
                        && let Ok(Some(job)) = self.host.hypervisor.job(&self.domain).await
                    {
                        ends = self.judged(vmi, &mut watch, job).await;
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

    /// Why what is being sent is to be called off, if so; or goes over to another way of sending.
    async fn judged(
        &self,
        vmi: &VirtualMachineInstance,
        patience: &mut Patience,
        job: Job,
    ) -> Option<String> {
        match patience.verdict(job, Instant::now()) {
            Verdict::GoesOn => None,
            Verdict::Ends(why) => Some(why),
            Verdict::Becomes(mode) => {
                // First it is said: who finds the two halves of a guest is to know of it.
                if !patience.is_told {
                    patience.is_told = self.tell(vmi, mode).await;
                }
                if patience.is_told && self.go_over(mode).await {
                    patience.is_now(mode);
                }
                None
            }
        }
    }

    /// Goes over to another way of sending; whether libvirt does. It does not while disks are
    /// being sent, and is asked again.
    async fn go_over(&self, mode: Mode) -> bool {
        let hypervisor = &self.host.hypervisor;
        let done = match mode {
            Mode::PreCopy => return true,
            Mode::PostCopy => hypervisor.post_copy(&self.domain).await,
            Mode::Paused => hypervisor.allow_downtime(&self.domain, LONGEST_DOWNTIME).await,
        };
        match done {
            Ok(()) => tracing::info!(domain = self.domain, ?mode, "A guest takes long to be sent"),
            Err(ref error) => {
                tracing::debug!(domain = self.domain, ?mode, %error, "A guest is sent as before");
            }
        }
        done.is_ok()
    }

    /// Writes how the guest is about to be sent; whether it is still to be.
    async fn tell(&self, vmi: &VirtualMachineInstance, mode: Mode) -> bool {
        let (api, name) = self.object(vmi);
        let Ok(Some(now)) = publish::read(&api, &name).await else { return false };
        let is_ours = |state: &&MigrationState| state.migration_uid == self.migration;
        let state = now.migration().filter(is_ours);
        if state.is_some_and(|state| state.mode.as_deref() == Some(mode.name())) {
            return true;
        }
        let say = |vmi: &mut VirtualMachineInstance| say_mode(vmi, mode.name());
        now.uid() == vmi.uid() && self.write(&api, &name, now, say).await.is_some()
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
        let terms = state.migration_configuration.as_ref();
        Ok(Journey {
            address,
            pki: self.host.pki.clone(),
            paths: vec![
                moved(here.state_dir, there.state_dir)?,
                moved(here.run_dir, there.run_dir)?,
            ],
            taps: self.taps.clone(),
            cpus: cpus(there.cpus)?,
            bandwidth: terms.and_then(bandwidth),
            auto_converge: terms.and_then(|terms| terms.allow_auto_converge).unwrap_or(false),
            post_copy: terms.and_then(|terms| terms.allow_post_copy).unwrap_or(false),
            downtime: terms.and_then(downtime),
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
                    if ends.is_none() {
                        ends = self.judged(vmi, &mut patience, job).await;
                    }
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

/// The processors that the target says its guests share, which are no more than a list of them.
fn cpus(said: Option<String>) -> Result<Option<String>, String> {
    let set = said.map(|said| said.parse::<CpuSet>()).transpose();
    let set = set.map_err(|why| format!("the target says on what its guests run: {why}"))?;
    Ok(set.map(|set| set.to_string()))
}

/// MiB a second, as libvirt counts: at least one; none where no bound is written, or what
/// is written is none.
fn bandwidth(terms: &MigrationConfiguration) -> Option<u64> {
    let bytes = terms.bandwidth_per_migration.as_ref()?.units().ok()?;
    (bytes > 0).then_some((bytes >> 20).max(1))
}

/// Milliseconds that the guest may stand still in the end; none where none that can be are
/// written.
fn downtime(terms: &MigrationConfiguration) -> Option<u64> {
    let written = u64::try_from(terms.max_downtime_ms?).ok()?;
    (1..=LONGEST_DOWNTIME).contains(&written).then_some(written)
}

fn now() -> Time {
    Time(k8s_openapi::jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bandwidth_and_downtime_are_what_the_move_says_if_that_can_be() {
        let terms = |text: &str| -> MigrationConfiguration { serde_json::from_str(text).unwrap() };
        let said = terms(r#"{"bandwidthPerMigration": "64Mi", "maxDowntimeMs": 50}"#);
        assert_eq!((bandwidth(&said), downtime(&said)), (Some(64), Some(50)));
        for (of, most) in [("0Mi", 0), ("nonsense", -1), ("0", 9_000_000)] {
            let text = json!({"bandwidthPerMigration": of, "maxDowntimeMs": most}).to_string();
            assert_eq!((bandwidth(&terms(&text)), downtime(&terms(&text))), (None, None));
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
}
