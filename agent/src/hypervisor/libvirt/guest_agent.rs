//! The agent in a guest, through libvirt. A guest may take as long as it is given, so these
//! calls have threads of their own, few enough that libvirtd (20 workers) serves others
//! meanwhile.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;
use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};

use super::session::Session;
use super::verbs::{lookup, refused};
use super::{Job, Libvirt, serve};
use crate::hypervisor::{GuestError, HypervisorError, Lane};

/// Threads of each lane.
const WORKERS: usize = 3;
/// How long libvirt waits for an agent that does not say that it listens.
const GREETING: Duration = Duration::from_secs(5);
/// Before a call there may be others of the same lane.
const QUEUE: Duration = Duration::from_secs(20);

/// The queues, one for each lane.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    round: mpsc::Sender<Job>,
    now: mpsc::Sender<Job>,
}

impl Lanes {
    pub(super) fn spawn(uri: &str) -> std::io::Result<Self> {
        let lane = |name: &str| {
            let (jobs, queue) = mpsc::channel();
            let queue = Arc::new(Mutex::new(queue));
            (0..WORKERS).try_for_each(|_| serve(name, uri, Arc::clone(&queue)))?;
            std::io::Result::Ok(jobs)
        };
        Ok(Self { round: lane("guests-round")?, now: lane("guests-now")? })
    }
}

impl Libvirt {
    pub(in crate::hypervisor) async fn ask_guest(
        &self,
        domain: &str,
        words: &str,
        patience: Duration,
        lane: Lane,
    ) -> Result<String, GuestError> {
        let (domain, words) = (domain.to_owned(), words.to_owned());
        let seconds = i32::try_from(patience.as_secs().max(1)).unwrap_or(i32::MAX);
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |session: &mut Session| {
            // Who has given up is not asked for.
            if !reply.is_closed() {
                let asked = session.run(|on, _| ask(on, &domain, &words, seconds));
                let _ = reply.send(asked);
            }
        });
        let ended = || HypervisorError::Disconnected("the libvirt thread has ended".into());
        let queue = match lane {
            Lane::Round => &self.guests.round,
            Lane::Now => &self.guests.now,
        };
        queue.send(job).map_err(|_| ended())?;
        let limit = QUEUE + GREETING + patience;
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|_| ended())??,
            Err(_) => Err(GuestError::Hypervisor(HypervisorError::Disconnected(
                "too many guests are asked, and do not answer".to_owned(),
            ))),
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
