//! Who may do this at all; asked before anything that only root could see.

use anyhow::{Result, ensure};

/// Refuses everybody but root, in the same words everywhere.
///
/// # Errors
///
/// When the process is not root's; the sentence begins with `what`.
pub fn need_root(what: &str) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "{what} needs root: run this with sudo");
    Ok(())
}
