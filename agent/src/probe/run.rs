//! The probes of one guest, period after period.

use std::sync::Arc;
use std::time::Duration;

use crds::kubevirt::VirtualMachineInstance;
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use super::{Outcome, Plan, Readiness, Verdict, ask, said_ready};
use crate::host::Host;
use crate::vm::Trouble;

/// How long the API may take to hear of it: the guest waits for nobody.
const TELL_LIMIT: Duration = Duration::from_secs(5);

/// A guest and a probe of it.
pub(crate) struct Probed {
    pub(crate) host: Host,
    pub(crate) domain: String,
    pub(crate) vmi: Arc<VirtualMachineInstance>,
    pub(crate) plan: Plan,
    /// Whether the guest stands still.
    pub(crate) still: watch::Receiver<bool>,
}

impl Probed {
    async fn ask(&self) -> Outcome {
        if *self.still.borrow() {
            return Outcome::Unknown;
        }
        ask::ask(&self.host, &self.domain, &self.plan).await
    }

    /// Warns people, as the kubelet does.
    async fn warn(&self, kind: &str, why: &str) {
        let event = Event {
            type_: EventType::Warning,
            reason: "Unhealthy".to_owned(),
            note: Some(format!("{kind} probe failed: {why}")),
            action: "Probe".to_owned(),
            secondary: None,
        };
        tracing::info!(domain = self.domain, kind, why, "A probe of a guest failed");
        let recorder = Recorder::new(self.host.client.clone(), Reporter::from("berth-agent"));
        let about = self.vmi.object_ref(&());
        match timeout(TELL_LIMIT, recorder.publish(&event, &about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "A warning was not written"),
            Err(_) => tracing::warn!("A warning was not written: the API does not answer"),
        }
    }
}

/// What a probe says in the course of time.
struct Course {
    of: Probed,
    verdict: Verdict,
    /// Whether it was told why the verdict is bad.
    explained: bool,
    period: Interval,
}

impl Course {
    /// Begins when the guest has had its time to start.
    async fn begin(of: Probed, well: bool) -> Self {
        sleep(of.plan.first(&of.vmi, Timestamp::now())).await;
        let mut period = interval(of.plan.period);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { of, verdict: Verdict::begin(well), explained: well, period }
    }

    /// The next outcome that changes the verdict, or is the first to say why it is bad.
    async fn next(&mut self) -> Outcome {
        loop {
            self.period.tick().await;
            let outcome = self.of.ask().await;
            let changed = self.verdict.learn(&outcome, &self.of.plan);
            let explains = !self.explained && matches!(outcome, Outcome::Bad(_));
            if changed || explains {
                self.explained = true;
                return outcome;
            }
        }
    }
}

/// Tells whether the guest is ready.
pub(crate) async fn readiness(of: Probed, tell: impl Fn(Readiness)) {
    let well = said_ready(&of.vmi);
    let mut course = Course::begin(of, well).await;
    loop {
        match course.next().await {
            Outcome::Bad(why) => {
                tell(Readiness::NotReady(why.clone()));
                course.of.warn("Readiness", &why).await;
            }
            Outcome::Good | Outcome::Unknown => tell(Readiness::Ready),
        }
    }
}

/// Says that the guest is to be ended, each time that it has failed as often as it may.
pub(crate) async fn liveness(of: Probed, unwell: mpsc::Sender<Trouble>) {
    let mut course = Course::begin(of, true).await;
    loop {
        let Outcome::Bad(why) = course.next().await else { continue };
        course.verdict = Verdict::begin(true);
        course.of.warn("Liveness", &why).await;
        let message = format!("the guest's livenessProbe failed: {why}");
        let trouble =
            Trouble { reason: "LivenessProbeFailed", message, hopeless: true, again: None };
        // One that was not heard yet says the same.
        let _ = unwell.try_send(trouble);
    }
}
