//! The agent in a guest, through libvirt. A guest may take as long as it is given, so these
//! calls have threads of their own, few enough that libvirtd (20 workers) serves others
//! meanwhile. One guest has one thread of a lane at most, whoever asks it how often.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};

use super::session::Session;
use super::verbs::{lookup, refused};
use super::{Job, Libvirt, serve};
use crate::hypervisor::{GuestError, HypervisorError, Lane};
use crate::places::Places;

/// Threads of the lanes.
const ROUND_WORKERS: usize = 3;
const PROBE_WORKERS: usize = 3;
const NOW_WORKERS: usize = 3;
const THAW_WORKERS: usize = 2;
/// How long libvirt waits for an agent that does not say that it listens.
const GREETING: Duration = Duration::from_secs(5);
/// Before a call there may be others of the same lane.
const QUEUE: Duration = Duration::from_secs(20);

/// The queues, one for each lane.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    round: Queue,
    probe: Queue,
    now: Queue,
    thaw: Queue,
}

#[derive(Clone, Debug)]
struct Queue {
    jobs: mpsc::Sender<Job>,
    /// One call of each guest.
    turns: Places,
}

impl Lanes {
    pub(super) fn spawn(uri: &str) -> std::io::Result<Self> {
        let lane = |name: &str, workers: usize| {
            let (jobs, queue) = mpsc::channel();
            let queue = Arc::new(Mutex::new(queue));
            (0..workers).try_for_each(|_| serve(name, uri, Arc::clone(&queue)))?;
            std::io::Result::Ok(Queue { jobs, turns: Places::of(1) })
        };
        Ok(Self {
            round: lane("guests-round", ROUND_WORKERS)?,
            probe: lane("guests-probe", PROBE_WORKERS)?,
            now: lane("guests-now", NOW_WORKERS)?,
            thaw: lane("guests-thaw", THAW_WORKERS)?,
        })
    }

    const fn of(&self, lane: Lane) -> &Queue {
        match lane {
            Lane::Round => &self.round,
            Lane::Probe => &self.probe,
            Lane::Now => &self.now,
            Lane::Thaw => &self.thaw,
        }
    }
}

impl Libvirt {
    /// The answer, and how long the guest took for it.
    pub(in crate::hypervisor) async fn ask_guest(
        &self,
        domain: &str,
        words: &str,
        patience: Duration,
        lane: Lane,
    ) -> (Result<String, GuestError>, Duration) {
        let seconds = i32::try_from(patience.as_secs().max(1)).unwrap_or(i32::MAX);
        let queue = self.guests.of(lane);
        let ended = || HypervisorError::Disconnected("the libvirt thread has ended".into());
        let asked = async {
            let turn = queue.turns.wait(domain).await;
            let (domain, words) = (domain.to_owned(), words.to_owned());
            let (reply, answer) = oneshot::channel();
            let job: Job = Box::new(move |session: &mut Session| {
                // Who has given up is not asked for.
                if !reply.is_closed() {
                    let begun = Instant::now();
                    let asked = session.run(|on, _| ask(on, &domain, &words, seconds));
                    let _ = reply.send((asked, begun.elapsed()));
                }
                // Not before the call is over, also for those who have given up on it.
                drop(turn);
            });
            queue.jobs.send(job).map_err(|_| ended())?;
            answer.await.map_err(|_| ended())
        };
        let failed = |error: HypervisorError| (Err(GuestError::Hypervisor(error)), Duration::ZERO);
        match tokio::time::timeout(QUEUE + GREETING + patience, asked).await {
            Ok(Ok((Ok(answer), took))) => (answer, took),
            Ok(Ok((Err(error), took))) => (Err(GuestError::Hypervisor(error)), took),
            Ok(Err(error)) => failed(error),
            Err(_) => failed(HypervisorError::Disconnected(
                "too many guests are asked, and do not answer".to_owned(),
            )),
        }
    }
}

/// What is the guest's is within; what is libvirt's is not.
type Asked = Result<Result<String, GuestError>, HypervisorError>;

fn ask(connection: &Connect, name: &str, words: &str, seconds: i32) -> Asked {
    let domain = match lookup(connection, name) {
        Err(HypervisorError::NotFound(_)) => return Ok(Err(GuestError::Still)),
        found => found?,
    };
    match domain.qemu_agent_command(words, seconds, 0) {
        Ok(answer) => Ok(Ok(answer)),
        Err(error) => match why(&error) {
            Some(why) => Ok(Err(why)),
            None => Err(refused(&error)),
        },
    }
}

fn why(error: &Error) -> Option<GuestError> {
    Some(match error.code().known()? {
        ErrorNumber::AgentUnresponsive
        | ErrorNumber::AgentUnsynced
        | ErrorNumber::AgentCommandTimeout => GuestError::Silent,
        ErrorNumber::AgentCommandFailed => GuestError::Refused(error.message().to_owned()),
        ErrorNumber::OperationInvalid => GuestError::Still,
        _ => return None,
    })
}
