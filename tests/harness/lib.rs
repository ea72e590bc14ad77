//! The harness: values that own namespaces, servers and processes, and end
//! them on drop.
//!
//! - `cluster`: one Kubernetes API, embedded or real (`kube`), and kubectl.
//! - `objects`: what users write, as short sentences.
//! - `eventually`: waiting for conditions, with a limit.
//! - `registry`: where images come from.
//! - `world`: the whole system, in a lab of two nodes.
//! - `wire`: what guests and DHCP servers say to each other.
//! - `subresources`: what virtctl asks for, and the streams that it opens.
//! - `suite`: the runner, which says what was skipped and why.

pub mod cluster;
pub mod guest;
pub mod kinds;
pub mod kube;
pub mod monitor;
pub mod namespace;
pub mod northbound;
pub mod objects;
pub mod process;
pub mod registry;
pub mod scratch;
pub mod subresources;
pub mod suite;
pub mod wire;
pub mod world;

mod waiting;

use std::path::{Path, PathBuf};

use anyhow::Context;

pub use waiting::{Hopeless, eventually, promptly, same};

/// A file or folder below `manifests/`.
#[must_use]
pub fn manifests(name: &str) -> PathBuf {
    repository().join("manifests").join(name)
}

/// The root of the work tree.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// The program under test: `$BERTH_BIN`, else the one built beside this executable.
///
/// # Errors
/// When neither exists.
pub fn berth_binary() -> anyhow::Result<PathBuf> {
    let path = match std::env::var_os("BERTH_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            // target/<profile>/deps/integration-… and target/<profile>/berth
            let this = std::env::current_exe()?;
            this.parent().and_then(Path::parent).context("no target directory")?.join("berth")
        }
    };
    anyhow::ensure!(
        path.is_file(),
        "{} does not exist: run `cargo build -p berth` or set BERTH_BIN",
        path.display()
    );
    Ok(path)
}

/// The image layout with the test guest, built on first use (seconds) in the cache.
///
/// # Errors
/// When the script that makes it fails; what it said last.
pub fn guest_image() -> anyhow::Result<PathBuf> {
    let dir = cache().context("neither BERTH_CACHE nor HOME is set")?.join("guest");
    let script = repository().join("berth/host/guest-image.sh");
    let output = std::process::Command::new("sh")
        .arg(&script)
        .arg(&dir)
        .output()
        .with_context(|| format!("running {}", script.display()))?;
    anyhow::ensure!(
        output.status.success(),
        "{} failed: {}",
        script.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(dir)
}

/// Where things are kept that are built once per machine: `$BERTH_CACHE`, else
/// `~/.cache/berth`.
#[must_use]
pub fn cache() -> Option<PathBuf> {
    let given = std::env::var_os("BERTH_CACHE").map(PathBuf::from);
    given.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache/berth")))
}
