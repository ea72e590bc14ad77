//! Stock kubectl, against one cluster.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::Context;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::Cluster;
use crate::kube::kubectl;

/// How long a single kubectl may take.
const LIMIT: Duration = Duration::from_secs(60);

impl Cluster {
    /// Runs kubectl and returns whatever it says.
    ///
    /// # Errors
    /// When there is no kubectl or it takes longer than a minute.
    pub async fn kubectl(&self, args: &[&str]) -> anyhow::Result<Output> {
        run_kubectl(&self.kubeconfig, args, None).await
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    ///
    /// # Errors
    /// As `kubectl`, and with its stderr when it fails.
    pub async fn kubectl_ok(&self, args: &[&str]) -> anyhow::Result<String> {
        succeeded(args, self.kubectl(args).await?)
    }

    /// Runs kubectl with `input` on stdin, which must succeed.
    ///
    /// # Errors
    /// As `kubectl_ok`.
    pub async fn kubectl_with(&self, args: &[&str], input: &str) -> anyhow::Result<String> {
        succeeded(args, run_kubectl(&self.kubeconfig, args, Some(input)).await?)
    }
}

async fn run_kubectl(
    kubeconfig: &Path,
    args: &[&str],
    input: Option<&str>,
) -> anyhow::Result<Output> {
    let mut command = kubectl_command(kubeconfig)?;
    command.args(args);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).await?;
    }
    tokio::time::timeout(LIMIT, child.wait_with_output())
        .await
        .with_context(|| format!("kubectl {} did not end", args.join(" ")))?
        .context("running kubectl")
}

/// A kubectl to be run in some special way: another editor, its output read as it comes.
///
/// # Errors
/// When there is no kubectl.
pub fn kubectl_command(kubeconfig: &Path) -> anyhow::Result<Command> {
    let program = kubectl().map_err(|missing| anyhow::anyhow!(missing.0))?;
    let mut command = Command::new(program);
    command.env("KUBECONFIG", kubeconfig).kill_on_drop(true);
    // Its discovery cache is kept next to the kubeconfig, not in the home directory.
    command.env("KUBECACHEDIR", kubeconfig.with_file_name("kubectl-cache"));
    Ok(command)
}

fn succeeded(args: &[&str], output: Output) -> anyhow::Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "kubectl {} failed: {}{}",
        args.join(" "),
        text,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}
