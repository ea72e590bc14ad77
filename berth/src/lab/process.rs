//! A process under supervision: started, restarted with growing pauses when it
//! dies, left alone after it was stopped on purpose.
//!
//! ```text
//!            start               prepared
//! Stopped ----------> Starting ------------> Running
//!    ^                   ^   |                  |
//!    | stop              |   | dies             | dies
//!    +---- any           +---+----- Waiting <---+
//! ```
//!
//! One task owns the child. Others see its state through a `watch` and send it
//! orders; `kill` goes straight to the process, as a fault would.

use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::news::{News, Restarts};
use super::sweep::MARKER;

/// First and longest pause before a restart.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Whoever has run for this long starts again with the first pause.
const STABLE: Duration = Duration::from_secs(10);
/// How long a stop waits between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// Runs after every start; the process counts as running once it is done. When
/// it fails, the process is killed and started again.
pub(crate) type Prepare =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// What to run, and how.
#[derive(Clone)]
pub(crate) struct Spec {
    /// By which the lab knows it: `controller`, `n1/agent`.
    pub(crate) name: String,
    /// Program and arguments, namespace changes included.
    pub(crate) words: Vec<String>,
    /// Additions to the environment.
    pub(crate) env: Vec<(&'static str, PathBuf)>,
    /// Where its output goes.
    pub(crate) log: PathBuf,
    /// The data directory, by which leftovers are found.
    pub(crate) lab: PathBuf,
    /// What makes it ready, if starting is not enough.
    pub(crate) prepare: Option<Prepare>,
}

impl fmt::Debug for Spec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Spec")
            .field("name", &self.name)
            .field("words", &self.words)
            .finish_non_exhaustive()
    }
}

/// What the process is doing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// Not running, and not meant to.
    Stopped,
    /// Running; its preparation is under way.
    Starting {
        /// Its process id.
        pid: i32,
    },
    /// Running and prepared.
    Running {
        /// Its process id.
        pid: i32,
    },
    /// It has ended by itself and is started again after a pause.
    Waiting {
        /// How it ended.
        last: String,
    },
}

enum Order {
    Start,
    Stop(oneshot::Sender<()>),
}

/// A supervised process.
#[derive(Debug)]
pub(crate) struct Process {
    spec: Arc<Spec>,
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

impl Process {
    /// Starts it; `ready` tells when it runs, and `news` when it had to be started
    /// again.
    pub(crate) fn start(spec: Spec, news: &News) -> Self {
        let spec = Arc::new(spec);
        let (orders, inbox) = mpsc::channel(4);
        let (state_tx, state) =
            watch::channel(State::Waiting { last: "not started yet".to_owned() });
        let (news, restarts) = (news.clone(), Restarts::default());
        let supervisor = Supervisor { spec: spec.clone(), inbox, state: state_tx, news, restarts };
        let task = tokio::spawn(supervisor.run());
        Self { spec, orders, state, task }
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        match *self.state.borrow() {
            State::Starting { pid } | State::Running { pid } => Some(pid),
            State::Stopped | State::Waiting { .. } => None,
        }
    }

    /// Waits until it runs and is prepared.
    pub(crate) async fn ready(&self, limit: Duration) -> Result<()> {
        let mut state = self.state.clone();
        let running = state.wait_for(|state| matches!(state, State::Running { .. }));
        match tokio::time::timeout(limit, running).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => bail!("{} has lost its supervisor", self.spec.name),
            Err(_) => bail!(
                "{} is not ready after {} s ({:?}); its log is {}",
                self.spec.name,
                limit.as_secs(),
                self.state(),
                self.spec.log.display()
            ),
        }
    }

    /// SIGKILL, as a fault; it is started again. Returns the process id.
    pub(crate) fn kill(&self) -> Result<i32> {
        let pid = self.pid().with_context(|| format!("{} does not run", self.spec.name))?;
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        Ok(pid)
    }

    /// SIGTERM, after a grace SIGKILL; it stays away until `resume`.
    pub(crate) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.orders.send(Order::Stop(done)).await.is_ok() {
            let _ = stopped.await;
        }
    }

    /// Starts it again after `stop`.
    pub(crate) async fn resume(&self) {
        let _ = self.orders.send(Order::Start).await;
    }
}

impl Process {
    /// Takes the supervisor away, without ending the process.
    pub(crate) fn abandon(&self) {
        self.task.abort();
    }

    /// Whether `abandon` has come into force: nothing is started any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Supervisor {
    spec: Arc<Spec>,
    inbox: mpsc::Receiver<Order>,
    state: watch::Sender<State>,
    news: News,
    restarts: Restarts,
}

/// Why a child is no longer there.
enum End {
    Died(String),
    Stopped(oneshot::Sender<()>),
    /// The handle is gone: nobody wants it any more.
    Abandoned,
}

impl Supervisor {
    async fn run(mut self) {
        let mut pause = PAUSE;
        loop {
            let started = Instant::now();
            let end = match self.spawn() {
                Ok(child) => self.attend(child).await,
                Err(error) => End::Died(format!("{error:#}")),
            };
            match end {
                End::Abandoned => return,
                End::Stopped(done) => {
                    self.state.send_replace(State::Stopped);
                    let _ = done.send(());
                    if !self.wait_for_start().await {
                        return;
                    }
                    pause = PAUSE;
                }
                End::Died(last) => {
                    if started.elapsed() > STABLE {
                        pause = PAUSE;
                    }
                    tracing::info!(
                        name = self.spec.name,
                        last,
                        ?pause,
                        "Process ended, starting it again"
                    );
                    self.state.send_replace(State::Waiting { last: last.clone() });
                    if !self.rest(pause).await {
                        return;
                    }
                    let Spec { name, log, .. } = &*self.spec;
                    if let Some(line) = self.restarts.note(Instant::now(), name, &last, log) {
                        self.news.say(line);
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn spawn(&self) -> Result<Child> {
        let (program, args) = self.spec.words.split_first().context("an empty command")?;
        let log = OpenOptions::new().create(true).append(true).open(&self.spec.log)?;
        Command::new(program)
            .args(args)
            .envs(self.spec.env.iter().map(|(name, value)| (name, value)))
            .env(MARKER, &self.spec.lab)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in the terminal is for us; they are ended in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {program}"))
    }

    /// From the start of the child to its end.
    async fn attend(&mut self, mut child: Child) -> End {
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .expect("a child not waited for has a pid");
        self.state.send_replace(State::Starting { pid });
        let prepare = self.spec.prepare.clone();
        let mut preparation: Pin<Box<dyn Future<Output = Result<()>> + Send>> = match prepare {
            Some(prepare) => prepare(),
            None => Box::pin(std::future::ready(Ok(()))),
        };
        let mut prepared = false;
        loop {
            tokio::select! {
                exit = child.wait() => {
                    return End::Died(exit.map_or_else(|error| error.to_string(), words));
                }
                order = self.inbox.recv() => match order {
                    Some(Order::Start) => {}
                    Some(Order::Stop(done)) => {
                        terminate(&mut child, pid).await;
                        return End::Stopped(done);
                    }
                    None => {
                        terminate(&mut child, pid).await;
                        return End::Abandoned;
                    }
                },
                outcome = &mut preparation, if !prepared => match outcome {
                    Ok(()) => {
                        prepared = true;
                        self.state.send_replace(State::Running { pid });
                    }
                    Err(error) => {
                        let _ = child.start_kill();
                        let _ = child.wait().await;
                        return End::Died(format!("preparation failed: {error:#}"));
                    }
                },
            }
        }
    }

    /// Waits for the order to start; false when nobody can give it any more.
    async fn wait_for_start(&mut self) -> bool {
        loop {
            match self.inbox.recv().await {
                Some(Order::Start) => return true,
                Some(Order::Stop(done)) => drop(done.send(())),
                None => return false,
            }
        }
    }

    /// Pauses before a restart, unless told otherwise meanwhile.
    async fn rest(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            order = self.inbox.recv() => match order {
                Some(Order::Start) => true,
                Some(Order::Stop(done)) => {
                    self.state.send_replace(State::Stopped);
                    let _ = done.send(());
                    self.wait_for_start().await
                }
                None => false,
            },
        }
    }
}

/// How a process ended.
fn words(status: ExitStatus) -> String {
    match status.signal().map(Signal::try_from) {
        Some(Ok(signal)) => format!("killed by {signal}"),
        _ => status.to_string(),
    }
}

async fn terminate(child: &mut Child, pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.start_kill();
        let _ = child.wait().await;
    }
}

#[cfg(test)]
mod tests;
