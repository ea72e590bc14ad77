//! A network namespace for a test that makes links.

use std::panic::resume_unwind;

use nix::sched::{CloneFlags, unshare};

/// Tells a story in a network namespace of its own, which ends with it. It takes root, as
/// making links does.
pub(crate) fn apart<F: Future<Output = ()>>(story: impl FnOnce() -> F + Send + 'static) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes links in a network namespace of its own and needs root: run it with sudo"
    );
    // Namespaces belong to threads. Those that the runtime makes are in that of this one.
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(story());
    });
    thread.join().unwrap_or_else(|panic| resume_unwind(panic));
}
