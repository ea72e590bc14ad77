//! What a controller counts of itself.

use anyhow::{Context, ensure};
use tokio::process::Command;

use super::World;

impl World {
    /// A counter of the only controller, since that was started: `api_writes`,
    /// `ovn_transactions`, `decisions`.
    ///
    /// # Errors
    /// When it does not answer, does not count that, or is not the only one.
    pub async fn counted(&self, what: &str) -> anyhow::Result<u64> {
        let port = self.figures.context("several controllers tell no figures")?;
        let output = Command::new("curl")
            .args(["--silent", "--fail", "--max-time", "10"])
            .arg(format!("http://127.0.0.1:{port}/metrics"))
            .kill_on_drop(true)
            .output()
            .await?;
        ensure!(output.status.success(), "the controller tells no figures");
        let figures = String::from_utf8(output.stdout)?;
        let name = format!("berth_controller_{what}_total ");
        let line = figures.lines().find_map(|line| line.strip_prefix(&name));
        line.with_context(|| format!("nobody counts {what}"))?.parse().context("no number")
    }
}
