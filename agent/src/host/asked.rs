//! Since when a guest has been asked to end: a file beside its disks, which goes with them.

use std::time::{Duration, SystemTime};

use tokio::fs;

use super::Host;

/// The file; when it was made says when.
const ASKED: &str = "asked-to-end";

impl Host {
    /// For how long a guest has been asked to end; no time where nobody says that it was. A clock
    /// that was set back since gives it more, up to its whole grace period.
    #[must_use]
    pub fn waited_for(&self, domain: &str) -> Duration {
        let file = self.dirs.of_domain(domain).join(ASKED);
        let asked = std::fs::metadata(file).and_then(|file| file.modified()).ok();
        asked.and_then(|asked| SystemTime::now().duration_since(asked).ok()).unwrap_or_default()
    }

    /// Notes that a guest is asked to end, unless it was before.
    pub async fn note_asked(&self, domain: &str) {
        let file = self.dirs.of_domain(domain).join(ASKED);
        let made = fs::OpenOptions::new().write(true).create_new(true).open(file).await;
        // Without it the guest only has more time after a restart of ours.
        if let Err(error) = made
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            tracing::debug!(domain, %error, "It is not noted since when a guest is asked to end");
        }
    }
}
