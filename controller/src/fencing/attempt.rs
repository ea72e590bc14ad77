//! Runs the command.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

/// Bytes of what a command says that are kept.
const SAID: u64 = 400;
/// How long what it said may take to come in once it has ended: a child of its own may hold on.
const REST: Duration = Duration::from_secs(1);

/// Runs the command for a node; why it has not worked otherwise.
pub(super) async fn run(command: &Path, node: &str, limit: Duration) -> Result<(), String> {
    let mut run = Command::new(command);
    run.arg(node).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child =
        run.kill_on_drop(true).spawn().map_err(|error| format!("it cannot be run: {error}"))?;
    let said = tokio::spawn(beginning(child.stderr.take()));
    let status = match timeout(limit, child.wait()).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(format!("it was lost sight of: {error}")),
        Err(_) => {
            // Nothing more can be done about one that does not die of that.
            let _ = child.start_kill();
            return Err(format!("it took longer than {} s, and was ended", limit.as_secs()));
        }
    };
    if status.success() {
        return Ok(());
    }
    let said = timeout(REST, said).await.ok().and_then(Result::ok).unwrap_or_default();
    let said = said.trim();
    Err(if said.is_empty() { status.to_string() } else { format!("{status}: {said}") })
}

/// The beginning of what comes; the rest is let go by, so that nobody waits to say it.
async fn beginning(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(from) = from else { return String::new() };
    let mut said = Vec::new();
    let mut first = from.take(SAID);
    let _ = first.read_to_end(&mut said).await;
    let mut rest = first.into_inner();
    let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn script(name: &str, text: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("berth-fence-{name}-{}", std::process::id()));
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    #[tokio::test]
    async fn only_an_exit_with_0_in_time_says_that_a_node_is_off() {
        let limit = Duration::from_secs(20);
        let good = script("good", "[ \"$*\" = 'n1' ]");
        assert_eq!(run(&good, "n1", limit).await, Ok(()));
        let bad = script("bad", "echo no power at $1 >&2; exit 3");
        let why = run(&bad, "n1", limit).await.unwrap_err();
        assert!(why.contains('3') && why.contains("no power at n1"), "{why}");
        let slow = script("slow", "exec sleep 60");
        let why = run(&slow, "n1", Duration::from_millis(200)).await.unwrap_err();
        assert!(why.contains("longer than"), "{why}");
        let why = run(Path::new("/nowhere/at-all"), "n1", limit).await.unwrap_err();
        assert!(why.contains("cannot be run"), "{why}");
        let loud = script("loud", "yes no >&2 | head -c 1000000 >&2; exit 1");
        assert!(run(&loud, "n1", limit).await.unwrap_err().len() < 600);
        for path in [good, bad, slow, loud] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
