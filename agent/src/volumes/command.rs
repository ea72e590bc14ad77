//! Running the host's programs.

use std::process::Stdio;

use tokio::process::Command;

use super::VolumeError;

/// How much of what a failed program printed is shown.
const SHOWN: usize = 500;

/// Runs a program to its end; killed when the caller is cancelled.
///
/// # Errors
/// `Program` with what it printed to its error output.
pub(super) async fn run(program: &'static str, mut command: Command) -> Result<(), VolumeError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let failed = |output: String| VolumeError::Program { program, output };
    let done = command.output().await.map_err(|error| failed(error.to_string()))?;
    if done.status.success() {
        return Ok(());
    }
    let printed = String::from_utf8_lossy(&done.stderr);
    let shown: String = printed.trim().chars().take(SHOWN).collect();
    Err(failed(format!("{}: {shown}", done.status)))
}
