//! The demonstration guest, built by the script that is part of this program.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::progress::Progress;
use crate::lab::MARKER;

/// How long the script may take to clean up behind itself.
const PATIENCE: Duration = Duration::from_secs(3);

const SCRIPT: &str = include_str!("../../host/guest-image.sh");
const INIT: &str = include_str!("../../host/guest-init.sh");

/// Builds the image layout unless it is there and current.
pub(super) async fn build(dir: &Path, images: &Path, progress: &Progress) -> Result<()> {
    let host = dir.join("host");
    std::fs::create_dir_all(&host)?;
    let (script, init) = (host.join("guest-image.sh"), host.join("guest-init.sh"));
    std::fs::write(&script, SCRIPT)?;
    std::fs::write(&init, INIT)?;
    let mut child = Command::new("sh")
        .arg(&script)
        .arg(images)
        .arg(&init)
        .env(MARKER, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in the terminal is for us, and we end it.
        .process_group(0)
        .spawn()
        .context("cannot run sh")?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    let mut stderr = child.stderr.take().context("stderr is piped")?;
    // After the pipes, so that it is dropped before them: a script that cannot write
    // any more dies of that, instead of cleaning up.
    let mut builder = Builder(child);
    let mut complaints = String::new();
    let say = async {
        while let Some(line) = lines.next_line().await? {
            progress.say(&line);
        }
        anyhow::Ok(())
    };
    tokio::try_join!(say, async { Ok(stderr.read_to_string(&mut complaints).await?) })?;
    let status = builder.0.wait().await?;
    if !status.success() {
        bail!("the guest image could not be built ({status}): {}", complaints.trim());
    }
    Ok(())
}

/// The running script; dropping it ends the script and all that it runs, and waits
/// until it has cleaned up behind itself.
struct Builder(Child);

impl Drop for Builder {
    fn drop(&mut self) {
        // Without an id it has been waited for.
        let Some(pid) = self.0.id().and_then(|pid| i32::try_from(pid).ok()) else { return };
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let _ = killpg(Pid::from_raw(pid), signal);
            let start = Instant::now();
            while start.elapsed() < PATIENCE {
                if !matches!(self.0.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
    }
}
