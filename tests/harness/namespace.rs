//! Work in a network namespace.

use std::fs::File;
use std::thread;

use anyhow::{Context, anyhow};
use nix::sched::{CloneFlags, setns};

/// Does something in the network namespace of this name, on a thread of its own which ends
/// there: namespaces belong to threads. A socket stays where it was made.
///
/// # Errors
/// When the namespace is not there, or what is done fails.
pub fn inside<T: Send>(
    namespace: &str,
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let file = File::open(format!("/run/netns/{namespace}")).context(namespace.to_owned())?;
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        thread.join().map_err(|_| anyhow!("the thread in namespace {namespace} ended early"))?
    })
}
