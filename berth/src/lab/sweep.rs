//! Removes what a lab left: the last step of an orderly end, the first step of
//! a start, and the whole of an end by panic. Synchronous, so that `Drop` can.
//!
//! A process is the lab's when it runs in one of the lab's namespaces, or when
//! its environment names the lab's directory under [`MARKER`]. Nothing is ever
//! found by the name of its program.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout::Layout;
use super::namespace;
use super::{cgroups, files};

/// Environment variable of every process a lab starts; its value is the data
/// directory.
pub const MARKER: &str = "BERTH_LAB";

/// What a sweep found and removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Swept {
    /// How many processes were ended.
    pub processes: usize,
    /// How many namespaces were removed.
    pub namespaces: usize,
}

/// Ends every process, removes every namespace (and the interfaces in it), control groups and
/// the marks of a running lab. Data stay.
pub fn sweep(layout: &Layout) -> Swept {
    let namespaces = namespace::list(&layout.namespace_prefix());
    let ours = || {
        let mut pids = namespace::pids(&namespaces);
        pids.extend(marked(&layout.dir));
        pids.sort_unstable();
        pids.dedup();
        pids.retain(|pid| *pid != own_pid());
        pids
    };
    let mut swept = Swept { processes: ours().len(), namespaces: namespaces.len() };
    for (signal, patience) in [(Signal::SIGTERM, 3), (Signal::SIGKILL, 5)] {
        let pids = ours();
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            let _ = kill(Pid::from_raw(pid), signal);
        }
        wait_until(Duration::from_secs(patience), || ours().is_empty());
    }
    cgroups::remove(layout);
    for name in &namespaces {
        let removed = std::process::Command::new("ip").args(["netns", "del", name]).status();
        if !removed.is_ok_and(|status| status.success()) {
            swept.namespaces -= 1;
            tracing::warn!(name, "Network namespace was not removed");
        }
    }
    let marker = layout.netns_mount_marker();
    if marker.exists() {
        namespace::unmount_directory();
        let _ = std::fs::remove_file(marker);
    }
    let _ = std::fs::remove_file(layout.facts());
    files::clear_runtime(layout);
    swept
}

/// [`sweep`], on a thread that may wait.
pub(super) async fn sweep_aside(layout: &Layout) -> Swept {
    let layout = layout.clone();
    // It is not aborted and does not panic; if it did, the next one finds the rest.
    tokio::task::spawn_blocking(move || sweep(&layout)).await.unwrap_or_default()
}

/// The processes that carry the mark of the lab in `dir`.
fn marked(dir: &Path) -> Vec<i32> {
    let mark = format!("{MARKER}={}", dir.display());
    let carries = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
            environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
        })
    };
    // A zombie has no environment left; its parent reaps it.
    namespace::all_pids().filter(carries).collect()
}

fn own_pid() -> i32 {
    Pid::this().as_raw()
}

/// Asks again every few milliseconds, for this long at most.
pub(super) fn wait_until(limit: Duration, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() && start.elapsed() < limit {
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
