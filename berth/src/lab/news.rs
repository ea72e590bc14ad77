//! What a person in the foreground hears of a lab: a line at each step, and one
//! when a process has ended by itself and was started again.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

/// A process that keeps ending is spoken of this often at most.
const SILENCE: Duration = Duration::from_secs(30);

/// Where the lines go; nowhere, by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct News(Option<UnboundedSender<String>>);

impl News {
    /// To whoever holds the other end.
    pub(crate) fn to(listener: Option<UnboundedSender<String>>) -> Self {
        Self(listener)
    }

    /// Says a line.
    pub(crate) fn say(&self, line: String) {
        tracing::debug!(line, "Progress");
        if let Some(listener) = &self.0 {
            let _ = listener.send(line);
        }
    }
}

/// Counts the restarts of one process between two lines about them.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    said: Option<Instant>,
    unsaid: u32,
}

impl Restarts {
    /// One more, at this time; the line to say about it, if it is time for one.
    pub(crate) fn note(
        &mut self,
        now: Instant,
        name: &str,
        last: &str,
        log: &Path,
    ) -> Option<String> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < SILENCE) {
            return None;
        }
        self.said = Some(now);
        let often = match std::mem::take(&mut self.unsaid) {
            1 => String::new(),
            count => format!(" ({count} times since it was last said here)"),
        };
        Some(format!("{name} ended: {last}; started again{often}; its log: {}", log.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_told_at_once_and_many_are_told_together() {
        let start = Instant::now();
        let mut restarts = Restarts::default();
        let mut note = |seconds| {
            let now = start + Duration::from_secs(seconds);
            restarts.note(now, "n1/agent", "killed by SIGKILL", Path::new("/d/log/n1-agent.log"))
        };
        let line = note(0).unwrap();
        assert_eq!(
            line,
            "n1/agent ended: killed by SIGKILL; started again; its log: /d/log/n1-agent.log"
        );
        assert_eq!((note(1), note(29)), (None, None));
        assert!(note(31).unwrap().contains("started again (3 times"));
        assert_eq!(note(32), None);
        assert!(!note(90).unwrap().contains("(1 times"));
    }
}
