//! Lines for a person, each with the seconds since the start.

use std::io::Write;
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Where the lines go.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
}

impl Progress {
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(super) fn say(&self, line: &str) {
        print(self.start, line);
    }

    /// A sender whose lines are said, for code that does not know us.
    pub(super) fn sender(&self) -> UnboundedSender<String> {
        let (tx, mut rx) = unbounded_channel::<String>();
        let start = self.start;
        tokio::spawn(async move {
            while let Some(line) = rx.recv().await {
                print(start, &line);
            }
        });
        tx
    }
}

fn print(start: Instant, line: &str) {
    show(format_args!("[{:6.1} s] {line}", start.elapsed().as_secs_f64()));
}

/// Prints a line. When nobody can read it any more (the terminal was closed, the pipe
/// is gone) that is no reason to end in the middle of something.
pub(super) fn show(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
