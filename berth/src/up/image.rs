//! The demonstration guest, built by the script that is part of this program.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::progress::Progress;

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
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run sh")?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    while let Some(line) = lines.next_line().await? {
        progress.say(&line);
    }
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!(
            "the guest image could not be built: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
