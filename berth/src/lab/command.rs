//! Short commands of other people's tools, with their complaints in our errors.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

/// Runs a command to its end and returns what it printed.
///
/// # Errors
///
/// When it cannot be started or fails; the error holds the command and the
/// last of what it wrote to stderr.
pub(crate) async fn run(words: &[&str]) -> Result<String> {
    run_with(words, &[]).await
}

/// [`run`], with additions to the environment.
pub(crate) async fn run_with(words: &[&str], env: &[(&str, &Path)]) -> Result<String> {
    let (program, args) = words.split_first().context("an empty command")?;
    let output = tokio::process::Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot start {program}: run berth/host/install.sh"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", words.join(" "), output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A path as a word of a command. Paths of a lab are checked to be UTF-8 where
/// its directory is accepted.
pub(crate) fn word(path: &Path) -> &str {
    path.to_str().expect("the data directory is UTF-8, checked at the start")
}

/// The words of a command that is kept for later.
pub(crate) fn owned<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}
