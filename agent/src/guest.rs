//! A guest that runs here, looked after: what its agent says, and whether it is well.
//!
//! ```text
//!   driver: it runs ──► Care ──► rounds ── words ──► hypervisor ──► agent in the guest
//!                        ▲ │       │ answers, cut to size
//!     publish ◄── Told ──┤ └───► probes ── reach, hypervisor ──► its ports, its agent
//!     end of the guest ◄─┘
//! ```
//!
//! There is an agent in a guest or there is none, and whether there is shows only when it is
//! asked: often after the start, then less and less (`rounds`). Everything that it says
//! was written by the guest, so it is cut to size ([`words`]), is shown beside what we know
//! ourselves and never in its place (`show`), and decides nothing.
//!
//! What is not known yet (a new agent of the node, a guest that has just come) leaves what the
//! object says as it is: the old words are true until there are new ones.

pub mod freeze;
pub mod lists;
mod rounds;
pub(crate) mod show;
pub mod words;

use std::sync::Arc;
use std::time::Duration;

use crds::kubevirt::{GuestOsInfo, Probe, VirtualMachineInstance};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::rounds::{Heard, Rounds};
use self::words::Nic;
use crate::host::Host;
use crate::hypervisor::{GuestError, Lane};
use crate::probe::run::{self, Probed};
use crate::probe::{Plan, Readiness};
use crate::vm::{State, Trouble};

/// What is known of a guest besides what libvirt says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Told {
    /// `None`: it was not asked yet.
    pub agent: Option<Agent>,
    /// `None`: there is no such probe, or it has not said anything yet.
    pub readiness: Option<Readiness>,
}

/// What is new of a guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum News {
    /// Something to tell.
    Told,
    /// It is to be ended: it is not well.
    Unwell(Trouble),
}

/// The agent in a guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Agent {
    Absent,
    Connected(Box<Facts>),
}

/// What it says; `None` where it has not said yet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    pub os: Option<GuestOsInfo>,
    pub nics: Option<Vec<Nic>>,
    /// Whether its file systems are.
    pub frozen: bool,
}

/// Looks after one guest for as long as it runs here. Dropping it ends that.
#[derive(Debug, Default)]
pub struct Care(Option<Running>);

#[derive(Debug)]
struct Running {
    told: watch::Receiver<Told>,
    object: watch::Sender<Arc<VirtualMachineInstance>>,
    /// Whether it stands still.
    still: watch::Sender<bool>,
    unwell: mpsc::Receiver<Trouble>,
    _tasks: JoinSet<()>,
}

/// Who is looked after.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub host: &'a Host,
    pub domain: &'a str,
    pub vmi: &'a Arc<VirtualMachineInstance>,
}

/// What the state of a VM means for who looks after its guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// It begins, if it has not yet; `still`: the guest stands still.
    Runs {
        still: bool,
    },
    /// It goes on, if it has begun: the guest runs, and something of it is being changed.
    GoesOn,
    Over,
}

const fn stage(state: &State) -> Stage {
    match state {
        State::Running { paused, .. } => Stage::Runs { still: paused.is_some() },
        State::Attaching { .. } | State::Adjusting { .. } => Stage::GoesOn,
        _ => Stage::Over,
    }
}

impl Care {
    /// Begins when the guest runs, and ends when it does not any more. While its network
    /// or its devices are looked after it goes on.
    pub fn look(&mut self, subject: Subject<'_>, state: &State) {
        match (stage(state), &mut self.0) {
            (Stage::Runs { .. }, None) => self.0 = Some(Running::begin(subject)),
            (Stage::Runs { still }, Some(running)) => {
                running.see(subject.vmi);
                running.still.send_replace(still);
            }
            (Stage::GoesOn, Some(running)) => running.see(subject.vmi),
            (Stage::GoesOn, None) => {}
            (Stage::Over, care) => *care = None,
        }
    }

    /// Waits for something new.
    pub async fn news(&mut self) -> News {
        let Some(running) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            biased;
            Some(why) = running.unwell.recv() => News::Unwell(why),
            Ok(()) = running.told.changed() => News::Told,
            else => std::future::pending().await,
        }
    }

    /// What is known now.
    #[must_use]
    pub fn told(&self) -> Told {
        self.0.as_ref().map(|running| running.told.borrow().clone()).unwrap_or_default()
    }
}

impl Running {
    fn begin(Subject { host, domain, vmi }: Subject<'_>) -> Self {
        let (tell, told) = watch::channel(Told::default());
        let (object, seen) = watch::channel(Arc::clone(vmi));
        let (still, stands) = watch::channel(false);
        let (die, unwell) = mpsc::channel(1);
        let tell = Arc::new(tell);
        let mut tasks = JoinSet::new();
        tasks.spawn(attend(host.clone(), domain.to_owned(), Arc::clone(&tell)));
        tasks.spawn(freeze::keep_time(host.clone(), domain.to_owned(), seen));
        let probed = |probe: &Option<Box<Probe>>| {
            let (host, domain, vmi) = (host.clone(), domain.to_owned(), Arc::clone(vmi));
            let plan = Plan::of(probe.as_ref()?)?;
            Some(Probed { host, domain, vmi, plan, still: stands.clone() })
        };
        if let Some(probed) = probed(&vmi.spec.readiness_probe) {
            tasks.spawn(run::readiness(probed, move |readiness| {
                tell.send_modify(|told| told.readiness = Some(readiness));
            }));
        }
        if let Some(probed) = probed(&vmi.spec.liveness_probe) {
            tasks.spawn(run::liveness(probed, die));
        }
        Self { told, object, still, unwell, _tasks: tasks }
    }

    /// Takes in the object as it is now.
    fn see(&self, vmi: &Arc<VirtualMachineInstance>) {
        self.object.send_if_modified(|known| {
            let changed = !Arc::ptr_eq(known, vmi);
            known.clone_from(vmi);
            changed
        });
    }
}

/// Asks the agent in a guest, round after round.
async fn attend(host: Host, domain: String, tell: Arc<watch::Sender<Told>>) {
    let born = Instant::now();
    let mut rounds = Rounds::default();
    loop {
        let mut round = Round { host: &host, domain: &domain, took: Duration::ZERO };
        let (heard, said) = Box::pin(round.go(rounds.is_long())).await;
        let pause = rounds.learn(heard, born.elapsed(), round.took);
        let agent = match rounds.connected() {
            None => None,
            Some(false) => Some(Agent::Absent),
            Some(true) => Some(Agent::Connected(Box::new(said))),
        };
        tell.send_if_modified(|told| took_in(&mut told.agent, agent));
        tokio::time::sleep(pause).await;
    }
}

/// Takes in what was said, and says whether that is news. What was not said this time is as
/// it was.
fn took_in(known: &mut Option<Agent>, said: Option<Agent>) -> bool {
    let Some(mut said) = said else { return false };
    if let (Agent::Connected(new), Some(Agent::Connected(old))) = (&mut said, &*known) {
        new.os = new.os.take().or_else(|| old.os.clone());
        new.nics = new.nics.take().or_else(|| old.nics.clone());
    }
    let news = known.as_ref() != Some(&said);
    *known = Some(said);
    news
}

/// One round of questions.
struct Round<'a> {
    host: &'a Host,
    domain: &'a str,
    /// How long the guest has taken for them.
    took: Duration,
}

impl Round<'_> {
    /// Asks; `long`: also what seldom changes.
    async fn go(&mut self, long: bool) -> (Heard, Facts) {
        let mut facts = Facts::default();
        let heard = match self.ask(words::INTERFACES).await {
            Ok(answer) => {
                facts.nics = words::nics(&answer).ok();
                Heard::Answer
            }
            // While its file systems stand still an agent refuses nearly everything.
            Err(GuestError::Refused(_)) => {
                let status = self.ask(words::FREEZE_STATUS).await;
                facts.frozen = status.is_ok_and(|answer| words::is_frozen(&answer));
                Heard::Answer
            }
            Err(GuestError::Silent) => Heard::Nothing,
            Err(GuestError::Unfit(_) | GuestError::Still | GuestError::Hypervisor(_)) => {
                Heard::Unknown
            }
        };
        if heard == Heard::Answer && long && !facts.frozen {
            let answer = self.ask(words::OS).await;
            facts.os = answer.ok().and_then(|answer| words::os(&answer).ok());
        }
        (heard, facts)
    }

    async fn ask(&mut self, words: &str) -> Result<String, GuestError> {
        let hypervisor = &self.host.hypervisor;
        let asked = hypervisor.ask_guest_timed(self.domain, words, words::PATIENCE, Lane::Round);
        let (answer, took) = asked.await;
        self.took += took;
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::PauseReason;

    #[test]
    fn a_guest_is_looked_after_also_while_its_devices_change() {
        let paused = Some(PauseReason::User);
        for (state, expected) in [
            (State::Attaching { attempt: 0 }, Stage::GoesOn),
            (State::Adjusting { paused: None }, Stage::GoesOn),
            (State::Adjusting { paused }, Stage::GoesOn),
            (State::Running { paused: None, resumes: 0 }, Stage::Runs { still: false }),
            (State::Running { paused, resumes: 0 }, Stage::Runs { still: true }),
            (State::Stopping { left: Duration::ZERO }, Stage::Over),
            (State::Ended, Stage::Over),
        ] {
            assert_eq!(stage(&state), expected, "{}", state.name());
        }
    }

    #[test]
    fn what_was_not_said_this_time_is_as_it_was() {
        let os = GuestOsInfo { name: "Debian".to_owned(), ..GuestOsInfo::default() };
        let first = Facts { os: Some(os.clone()), nics: Some(Vec::new()), frozen: false };
        let mut known = None;
        assert!(took_in(&mut known, Some(Agent::Connected(Box::new(first.clone())))));
        let short = Facts { os: None, ..first.clone() };
        assert!(!took_in(&mut known, Some(Agent::Connected(Box::new(short)))), "nothing new");
        assert_eq!(known, Some(Agent::Connected(Box::new(first))));
        let frozen = Facts { frozen: true, ..Facts::default() };
        assert!(took_in(&mut known, Some(Agent::Connected(Box::new(frozen)))));
        let Some(Agent::Connected(facts)) = &known else { panic!("it is there") };
        assert_eq!((&facts.os, facts.frozen), (&Some(os), true));
        assert!(!took_in(&mut known, None), "nobody was asked");
        assert!(took_in(&mut known, Some(Agent::Absent)));
    }
}
