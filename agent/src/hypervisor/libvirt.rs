//! libvirt behind channels: its calls block, so they run on threads of their own.
//!
//! ```text
//!   define start shutdown destroy undefine ──► queue ──► worker × 4 ─┐
//!   list ────────────────────────────────────► queue ──► reader ─────┼─► libvirtd
//!   what guests are asked ───────────► 4 queues ──► 2 or 3 of each ──┤
//!   migrate ───────────────────────────────► a thread of its own ────┘
//! ```
//!
//! Each thread holds a connection of its own, opened when first needed and
//! again after libvirtd went away. A call that lost its connection is made once
//! more on a new one; the verbs are written so that the second attempt accepts
//! what the first may have done. The list has a thread to itself, so that a
//! slow start does not make the node look frozen.
//!
//! The threads end when the last handle is dropped.

mod guest_agent;
mod secrets;
mod session;
mod verbs;

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use virt::connect::Connect;

use self::guest_agent::Lanes;
use self::session::{Attempt, Session};
use super::{Alteration, HypervisorError, Job as Progress, Journey, Observed, Runner};
use crate::volumes::Login;

/// How many calls that change something run at once. A start takes QEMU about
/// half a second, most of it waiting.
const WORKERS: usize = 4;

/// How long an answer is awaited: longer than libvirt's own limit of thirty
/// seconds for a domain that is busy.
const REPLY_LIMIT: Duration = Duration::from_secs(120);

type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// A handle on one libvirtd.
#[derive(Clone, Debug)]
pub struct Libvirt {
    uri: String,
    changes: mpsc::Sender<Job>,
    reads: mpsc::Sender<Job>,
    guests: Lanes,
}

impl Libvirt {
    /// Starts the threads for the libvirtd at `uri`. Nothing is opened yet:
    /// an unreachable libvirtd shows at the first call.
    ///
    /// # Errors
    /// When a thread cannot be created.
    pub fn spawn(uri: &str) -> std::io::Result<Self> {
        // Errors are returned; libvirt would print each of them as well.
        virt::error::clear_error_callback();
        let (changes, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..WORKERS {
            serve("libvirt-change", uri, Arc::clone(&queue))?;
        }
        let (reads, queue) = mpsc::channel();
        serve("libvirt-list", uri, Arc::new(Mutex::new(queue)))?;
        Ok(Self { uri: uri.to_owned(), changes, reads, guests: Lanes::spawn(uri)? })
    }

    pub(super) async fn define(&self, xml: &str) -> Result<(), HypervisorError> {
        let xml = xml.to_owned();
        call(&self.changes, move |session| session.run(|on, _| verbs::define(on, &xml))).await
    }

    pub(super) async fn start(&self, domain: &str) -> Result<(), HypervisorError> {
        self.change(domain, verbs::start).await
    }

    pub(super) async fn start_paused(&self, domain: &str) -> Result<(), HypervisorError> {
        self.change(domain, verbs::start_paused).await
    }

    pub(super) async fn resume(&self, domain: &str) -> Result<(), HypervisorError> {
        self.change(domain, verbs::resume).await
    }

    pub(super) async fn suspend(&self, domain: &str) -> Result<(), HypervisorError> {
        self.change(domain, verbs::suspend).await
    }

    pub(super) async fn reboot(&self, domain: &str) -> Result<(), HypervisorError> {
        self.change(domain, verbs::reboot).await
    }

    pub(super) async fn reset(&self, domain: &str) -> Result<(), HypervisorError> {
        self.change(domain, verbs::reset).await
    }

    pub(super) async fn shutdown(&self, domain: &str) -> Result<(), HypervisorError> {
        self.change(domain, verbs::shutdown).await
    }

    pub(super) async fn destroy(&self, domain: &str) -> Result<(), HypervisorError> {
        self.change(domain, verbs::destroy).await
    }

    pub(super) async fn undefine(&self, domain: &str) -> Result<(), HypervisorError> {
        self.change(domain, verbs::undefine).await
    }

    /// On a thread and a connection of its own: it takes as long as it takes.
    pub(super) async fn migrate(
        &self,
        domain: &str,
        journey: Journey,
    ) -> Result<(), HypervisorError> {
        let (uri, domain) = (self.uri.clone(), domain.to_owned());
        let (reply, answer) = oneshot::channel();
        let thread = thread::Builder::new().name("libvirt-migrate".to_owned());
        let send = move || {
            let mut session = Session::new(&uri);
            let _ = reply.send(session.once(|on| verbs::migrate(on, &domain, &journey)));
        };
        let started = thread.spawn(send);
        started.map_err(|error| HypervisorError::Refused(format!("no thread: {error}")))?;
        let ended = |_| HypervisorError::Disconnected("the libvirt thread has ended".into());
        answer.await.map_err(ended)?
    }

    pub(super) async fn job(&self, domain: &str) -> Result<Option<Progress>, HypervisorError> {
        let domain = domain.to_owned();
        call(&self.changes, move |session| session.run(|on, _| verbs::job(on, &domain))).await
    }

    pub(super) async fn abort(&self, domain: &str) -> Result<(), HypervisorError> {
        self.virsh("domjobabort", domain).await
    }

    pub(super) async fn post_copy(&self, domain: &str) -> Result<(), HypervisorError> {
        self.virsh("migrate-postcopy", domain).await
    }

    pub(super) async fn allow_downtime(
        &self,
        domain: &str,
        most: u64,
    ) -> Result<(), HypervisorError> {
        let domain = domain.to_owned();
        let allow = move |session: &mut Session| {
            session.run(|on, _| verbs::allow_downtime(on, &domain, most))
        };
        call(&self.changes, allow).await
    }

    /// The bindings lack a few calls.
    async fn virsh(&self, verb: &str, domain: &str) -> Result<(), HypervisorError> {
        let mut virsh = tokio::process::Command::new("virsh");
        virsh.args(["-q", "-c", &self.uri, verb, domain]).kill_on_drop(true);
        let refused = HypervisorError::Refused;
        let done = virsh.output().await.map_err(|error| refused(format!("virsh: {error}")))?;
        if done.status.success() {
            return Ok(());
        }
        Err(refused(String::from_utf8_lossy(&done.stderr).trim().to_owned()))
    }

    pub(super) async fn runner(&self) -> Result<Runner, HypervisorError> {
        let capabilities = |session: &mut Session| session.run(|on, _| verbs::capabilities(on));
        call(&self.reads, capabilities).await.map(|xml| Runner::of_capabilities(&xml))
    }

    pub(super) async fn describe(&self, domain: &str) -> Result<String, HypervisorError> {
        let domain = domain.to_owned();
        call(&self.changes, move |session| session.run(|on, _| verbs::describe(on, &domain))).await
    }

    pub(super) async fn screenshot(&self, domain: &str) -> Result<Vec<u8>, HypervisorError> {
        let domain = domain.to_owned();
        call(&self.changes, move |session| session.run(|on, _| verbs::screenshot(on, &domain)))
            .await
    }

    pub(super) async fn move_pointer(&self, domain: &str) -> Result<(), HypervisorError> {
        let domain = domain.to_owned();
        call(&self.changes, move |session| session.once(|on| verbs::move_pointer(on, &domain)))
            .await
    }

    /// Once: what is found afterwards says whether it has to be done again.
    pub(super) async fn alter(
        &self,
        domain: &str,
        change: Alteration,
    ) -> Result<(), HypervisorError> {
        let domain = domain.to_owned();
        call(&self.changes, move |session| session.once(|on| verbs::alter(on, &domain, &change)))
            .await
    }

    pub(super) async fn keep_secret(
        &self,
        domain: &str,
        volume: &str,
        login: &Login,
    ) -> Result<(), HypervisorError> {
        let (usage, login) = (secrets::usage(domain, volume), login.clone());
        let keep =
            move |session: &mut Session| session.run(|on, _| secrets::keep(on, &usage, &login));
        call(&self.changes, keep).await
    }

    pub(super) async fn forget_secrets(
        &self,
        of: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<(), HypervisorError> {
        call(&self.changes, move |session| session.run(|on, _| secrets::forget(on, &of))).await
    }

    pub(super) async fn list(&self) -> Result<Vec<Observed>, HypervisorError> {
        call(&self.reads, Session::list).await
    }

    async fn change(&self, domain: &str, verb: Verb) -> Result<(), HypervisorError> {
        let domain = domain.to_owned();
        call(&self.changes, move |session| session.run(|on, attempt| verb(on, &domain, attempt)))
            .await
    }
}

type Verb = fn(&Connect, &str, Attempt) -> Result<(), HypervisorError>;

/// Puts a job on a queue and awaits its answer.
async fn call<T: Send + 'static>(
    queue: &mpsc::Sender<Job>,
    job: impl FnOnce(&mut Session) -> Result<T, HypervisorError> + Send + 'static,
) -> Result<T, HypervisorError> {
    let (reply, answer) = oneshot::channel();
    let job: Job = Box::new(move |session| {
        // Who no longer listens has given up; the effect stands all the same.
        let _ = reply.send(job(session));
    });
    let ended = || HypervisorError::Disconnected("the libvirt thread has ended".into());
    queue.send(job).map_err(|_| ended())?;
    match tokio::time::timeout(REPLY_LIMIT, answer).await {
        Ok(answer) => answer.map_err(|_| ended())?,
        Err(_) => Err(HypervisorError::Disconnected(format!(
            "libvirt did not answer within {} s",
            REPLY_LIMIT.as_secs()
        ))),
    }
}

/// Starts a thread that works through the queue until all senders are gone.
fn serve(name: &str, uri: &str, queue: Arc<Mutex<mpsc::Receiver<Job>>>) -> std::io::Result<()> {
    let mut session = Session::new(uri);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            match job {
                Ok(job) => job(&mut session),
                Err(mpsc::RecvError) => return,
            }
        }
    })?;
    Ok(())
}
