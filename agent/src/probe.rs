//! Whether a guest is well: what its probes say, and what follows. Pure but for [`ask`].
//!
//! ```text
//!   plan (spec) ──► each period: ask ──► Outcome ──► Verdict ──► ready, not ready; dead
//! ```
//!
//! As the kubelet does it. A verdict changes when as many outcomes in a row as the threshold
//! says are against it. What says nothing about the guest (it stands still, libvirt is away,
//! there is no tap) is no outcome. A new agent begins with what the object says, so a
//! guest that is well stays ready over its restart, and the delay counts from when the guest
//! began to run and not from when the agent did.

mod ask;
pub(crate) mod run;

use std::time::Duration;

use crds::kubevirt::probe::{Probe, port};
use crds::kubevirt::{
    Condition, ConditionStatus, HttpHeader, InstancePhase, VirtualMachineInstance,
};
use k8s_openapi::jiff::Timestamp;

/// The condition that a guest may be given work.
const READY: &str = "Ready";
/// KubeVirt has it of the pod.
const NOT_READY: &str = "ContainersNotReady";
const NOT_READY_MESSAGE: &str = "containers with unready status: [compute]";

/// What is asked, how often, and what it takes to change one's mind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Plan {
    pub(crate) how: How,
    /// After the start.
    pub(crate) delay: Duration,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    successes: u32,
    failures: u32,
}

/// What is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum How {
    Exec(Vec<String>),
    Ping,
    Http { port: u16, path: String, tls: bool, headers: Vec<(String, String)> },
    Tcp(u16),
}

/// What came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Good,
    /// Why not.
    Bad(String),
    /// Nothing that says anything about the guest.
    Unknown,
}

/// What is thought of the guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) well: bool,
    /// Outcomes in a row that are against it.
    against: u32,
}

/// Whether a guest may be given work, by its readiness probe.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Readiness {
    Ready,
    /// Why not.
    NotReady(String),
}

impl Plan {
    /// With Kubernetes' defaults; `None`: it cannot be, which is told elsewhere.
    pub(crate) fn of(probe: &Probe) -> Option<Self> {
        if probe.flaw("").is_some() {
            return None;
        }
        let how = if let Some(exec) = &probe.exec {
            How::Exec(exec.command.clone())
        } else if let Some(http) = &probe.http_get {
            let headers = http.http_headers.iter();
            let pair = |HttpHeader { name, value }: &HttpHeader| (name.clone(), value.clone());
            How::Http {
                port: port(&http.port)?,
                path: http
                    .path
                    .clone()
                    .filter(|path| !path.is_empty())
                    .unwrap_or_else(|| "/".into()),
                tls: http.scheme.as_deref() == Some("HTTPS"),
                headers: headers.map(pair).collect(),
            }
        } else if let Some(tcp) = &probe.tcp_socket {
            How::Tcp(port(&tcp.port)?)
        } else {
            How::Ping
        };
        let number = |given: Option<i32>, default: u32| {
            given
                .and_then(|given| u32::try_from(given).ok())
                .filter(|given| *given > 0)
                .unwrap_or(default)
        };
        let seconds = |given, default| Duration::from_secs(number(given, default).into());
        Some(Self {
            how,
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: number(probe.success_threshold, 1),
            failures: number(probe.failure_threshold, 3),
        })
    }

    /// How long until a guest is asked for the first time.
    pub(crate) fn first(&self, vmi: &VirtualMachineInstance, now: Timestamp) -> Duration {
        let began = vmi.status.iter().flat_map(|status| &status.phase_transition_timestamps);
        let mut began = began.filter(|one| one.phase == InstancePhase::Running);
        let ran = began.next().and_then(|one| {
            Duration::try_from(now.duration_since(one.phase_transition_timestamp.0)).ok()
        });
        self.delay.saturating_sub(ran.unwrap_or_default())
    }
}

impl Verdict {
    pub(crate) const fn begin(well: bool) -> Self {
        Self { well, against: 0 }
    }

    /// Takes in an outcome, and says whether the verdict is another one now.
    pub(crate) fn learn(&mut self, outcome: &Outcome, plan: &Plan) -> bool {
        let good = match outcome {
            Outcome::Unknown => return false,
            Outcome::Good => true,
            Outcome::Bad(_) => false,
        };
        if good && self.well {
            self.against = 0;
            return false;
        }
        if !good && !self.well {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let threshold = if good { plan.successes } else { plan.failures };
        if self.against < threshold {
            return false;
        }
        *self = Self::begin(good);
        true
    }
}

/// Whether the object says that the guest is ready.
#[must_use]
pub(crate) fn said_ready(vmi: &VirtualMachineInstance) -> bool {
    let conditions = vmi.status.as_ref().map(|status| status.conditions.as_slice());
    vmi.phase() == InstancePhase::Running
        && conditions.is_some_and(|all| Condition::holds(all, READY))
}

/// The condition of an instance whose guest runs. What is not known yet stays as it was.
#[must_use]
pub(crate) fn ready(vmi: &VirtualMachineInstance, readiness: Option<&Readiness>) -> Condition {
    let well = Condition::new(READY, ConditionStatus::True);
    let unwell = Condition::new(READY, ConditionStatus::False);
    if vmi.spec.readiness_probe.is_none() {
        return well;
    }
    match readiness {
        Some(Readiness::Ready) => well,
        Some(Readiness::NotReady(why)) => {
            unwell.because(NOT_READY, format!("{NOT_READY_MESSAGE}; readinessProbe: {why}"))
        }
        None if said_ready(vmi) => well,
        None => {
            let mut old = vmi.status.iter().flat_map(|status| &status.conditions);
            let old =
                old.find(|one| one.r#type == READY && one.reason.as_deref() == Some(NOT_READY));
            old.cloned().unwrap_or_else(|| unwell.because(NOT_READY, NOT_READY_MESSAGE))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(probe: Value) -> Plan {
        Plan::of(&serde_json::from_value(probe).unwrap()).unwrap()
    }

    fn vmi(status: &Value) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "metadata": { "name": "till" },
            "spec": { "domain": { "devices": {} }, "readinessProbe": { "guestAgentPing": {} } },
            "status": status,
        }))
        .unwrap()
    }

    fn bad() -> Outcome {
        Outcome::Bad("no".to_owned())
    }

    #[test]
    fn what_is_not_said_is_as_with_kubernetes() {
        let found = plan(json!({ "httpGet": { "port": 80, "scheme": "HTTPS" } }));
        let seconds = Duration::from_secs;
        assert_eq!(
            (found.delay, found.period, found.timeout),
            (seconds(0), seconds(10), seconds(1))
        );
        assert_eq!((found.successes, found.failures), (1, 3));
        let How::Http { path, tls, .. } = found.how else { panic!("{found:?}") };
        assert_eq!((path.as_str(), tls), ("/", true));
        let zero = json!({ "tcpSocket": { "port": 22 }, "periodSeconds": 0, "timeoutSeconds": 7 });
        let found = plan(zero);
        assert_eq!((found.period, found.timeout), (seconds(10), seconds(7)));
    }

    #[test]
    fn a_verdict_changes_after_as_many_in_a_row_as_it_takes() {
        let plan = plan(json!({
            "guestAgentPing": {}, "successThreshold": 2, "failureThreshold": 3,
        }));
        let mut verdict = Verdict::begin(false);
        let mut learn = |outcome| (verdict.learn(&outcome, &plan), verdict.well);
        assert_eq!(learn(Outcome::Good), (false, false));
        assert_eq!(learn(bad()), (false, false), "from the beginning");
        assert_eq!(learn(Outcome::Good), (false, false));
        assert_eq!(learn(Outcome::Unknown), (false, false), "that says nothing");
        assert_eq!(learn(Outcome::Good), (true, true));
        assert_eq!(learn(bad()), (false, true));
        assert_eq!(learn(bad()), (false, true));
        assert_eq!(learn(Outcome::Good), (false, true));
        for expected in [(false, true), (false, true), (true, false), (false, false)] {
            assert_eq!(learn(bad()), expected);
        }
    }

    #[test]
    fn the_delay_counts_from_when_the_guest_began_to_run() {
        let plan = plan(json!({ "guestAgentPing": {}, "initialDelaySeconds": 60 }));
        let now = Timestamp::from_second(130).unwrap();
        let running = json!({ "phase": "Running", "phaseTransitionTimestamps": [
            { "phase": "Scheduled", "phaseTransitionTimestamp": "1970-01-01T00:00:10Z" },
            { "phase": "Running", "phaseTransitionTimestamp": "1970-01-01T00:01:30Z" },
        ] });
        assert_eq!(plan.first(&vmi(&running), now), Duration::from_secs(20));
        let later = Timestamp::from_second(1000).unwrap();
        assert_eq!(plan.first(&vmi(&running), later), Duration::ZERO);
        let fresh = json!({ "phase": "Scheduled" });
        assert_eq!(plan.first(&vmi(&fresh), now), Duration::from_secs(60));
    }

    #[test]
    fn a_guest_is_ready_when_its_probe_says_so_and_stays_so_over_a_restart_of_the_agent() {
        let status = |vmi: &VirtualMachineInstance, readiness| ready(vmi, readiness).status;
        let fresh = vmi(&json!({ "phase": "Scheduled" }));
        assert_eq!(status(&fresh, None), ConditionStatus::False);
        assert_eq!(ready(&fresh, None).reason.as_deref(), Some("ContainersNotReady"));
        assert_eq!(status(&fresh, Some(&Readiness::Ready)), ConditionStatus::True);
        let condition =
            |condition: &Value| vmi(&json!({ "phase": "Running", "conditions": [condition] }));
        let well = condition(&json!({ "type": "Ready", "status": "True" }));
        assert_eq!(status(&well, None), ConditionStatus::True);
        let told = Readiness::NotReady("connection refused".to_owned());
        let unwell = ready(&well, Some(&told));
        assert_eq!(unwell.status, ConditionStatus::False);
        let before = condition(&serde_json::to_value(&unwell).unwrap());
        assert_eq!(ready(&before, None), unwell, "why stays, too");
        let mut without = fresh;
        without.spec.readiness_probe = None;
        assert_eq!(status(&without, None), ConditionStatus::True);
    }
}
