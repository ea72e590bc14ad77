//! The processes of a lab, one by one: looked at, killed as a fault would, stopped
//! and started.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::process::{Process, State};
use super::{Lab, READY};

impl Lab {
    /// The names of all processes: `controller`, `n1/agent`, ...
    pub fn process_names(&self) -> impl Iterator<Item = &str> {
        self.processes.iter().map(Process::name)
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid_of(&self, process: &str) -> Option<i32> {
        self.find(process).ok().and_then(Process::pid)
    }

    /// What a process is doing.
    #[must_use]
    pub fn state_of(&self, process: &str) -> Option<State> {
        self.find(process).ok().map(Process::state)
    }

    /// Kills a process as a fault would (SIGKILL); it is started again. Returns
    /// the id it had.
    ///
    /// # Errors
    ///
    /// When there is no such process or it does not run.
    pub fn kill(&self, process: &str) -> Result<i32> {
        self.find(process)?.kill()
    }

    /// [`Lab::kill`] for the agent of a node.
    ///
    /// # Errors
    ///
    /// As for [`Lab::kill`].
    pub fn kill_agent(&self, node: u8) -> Result<i32> {
        self.kill(&self.layout.node(node).process("agent"))
    }

    /// Stops a process on purpose (SIGTERM, then SIGKILL); it stays away until
    /// [`Lab::start`].
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub async fn stop(&self, process: &str) -> Result<()> {
        self.find(process)?.stop().await;
        Ok(())
    }

    /// Starts a stopped process again and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When there is no such process or it does not become ready.
    pub async fn start(&self, process: &str) -> Result<()> {
        let process = self.find(process)?;
        process.resume().await;
        process.ready(READY).await
    }

    /// Waits until a process runs with another id than `before`.
    ///
    /// # Errors
    ///
    /// When there is no such process, or it does not come back in time.
    pub async fn restarted(&self, process: &str, before: i32, limit: Duration) -> Result<()> {
        let process = self.find(process)?;
        let back = async {
            while !matches!(process.state(), State::Running { pid } if pid != before) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(limit, back).await {
            Ok(()) => Ok(()),
            Err(_) => bail!("{} has not come back within {} s", process.name(), limit.as_secs()),
        }
    }

    pub(super) fn find(&self, name: &str) -> Result<&Process> {
        self.processes
            .iter()
            .find(|process| process.name() == name)
            .with_context(|| format!("this lab has no process {name:?}"))
    }
}
