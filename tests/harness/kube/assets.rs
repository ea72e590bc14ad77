//! Where the programs of a real control plane come from.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The oldest kubectl (1.x) that is taken from PATH.
const OLDEST_KUBECTL: u32 = 28;

/// The programs, all present.
#[derive(Clone, Debug)]
pub struct Assets {
    pub(super) etcd: PathBuf,
    pub(super) apiserver: PathBuf,
    pub(super) manager: PathBuf,
    kubectl: PathBuf,
}

/// Why there can be no real control plane here; ends in a skipped test's reason.
#[derive(Clone, Debug)]
pub struct Unavailable(pub String);

impl Assets {
    /// Finds the programs in `$KUBEBUILDER_ASSETS`, or builds them once into
    /// the cache (minutes; its progress goes to stderr). Answers the same for
    /// the whole run.
    ///
    /// # Errors
    /// The reason why this machine cannot have them.
    pub fn find() -> Result<Self, Unavailable> {
        static FOUND: OnceLock<Result<Assets, Unavailable>> = OnceLock::new();
        FOUND.get_or_init(look).clone()
    }
}

fn look() -> Result<Assets, Unavailable> {
    let given = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let etcd = given
        .as_deref()
        .and_then(|dir| executable(dir, "etcd"))
        .or_else(|| in_path("etcd"))
        .ok_or_else(|| Unavailable("no etcd in KUBEBUILDER_ASSETS or PATH".into()))?;
    let dir = match given {
        Some(dir) => dir,
        None => build("kube.sh", "kube")?,
    };
    let tool = |name| {
        executable(&dir, name).ok_or_else(|| Unavailable(format!("no {name} in {}", dir.display())))
    };
    Ok(Assets {
        etcd,
        apiserver: tool("kube-apiserver")?,
        manager: tool("kube-controller-manager")?,
        kubectl: tool("kubectl")?,
    })
}

/// Runs a script of `tests/assets` for this part of the cache, which returns at once when
/// nothing is missing; what it prints.
fn build(script: &str, part: &str) -> Result<PathBuf, Unavailable> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(script);
    let cache =
        crate::cache().ok_or_else(|| Unavailable("neither BERTH_CACHE nor HOME is set".into()))?;
    let output = Command::new(&script)
        .arg(cache.join(part))
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Unavailable(format!("{}: {error}", script.display())))?;
    if !output.status.success() {
        return Err(Unavailable(format!("{} failed: {}", script.display(), output.status)));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// A kubectl of at least 1.28: the one in PATH, else the one of the assets.
///
/// # Errors
/// When neither is there.
pub fn kubectl() -> Result<PathBuf, Unavailable> {
    static FOUND: OnceLock<Result<PathBuf, Unavailable>> = OnceLock::new();
    let find = || match in_path("kubectl").filter(|path| recent_enough(path)) {
        Some(path) => Ok(path),
        None => Assets::find().map(|assets| assets.kubectl),
    };
    FOUND.get_or_init(find).clone()
}

fn recent_enough(kubectl: &Path) -> bool {
    let version = Command::new(kubectl).args(["version", "--client", "-o", "json"]).output();
    let Ok(output) = version else { return false };
    let Ok(answer) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else {
        return false;
    };
    // Some distributors write the minor version as "32+".
    let minor = answer["clientVersion"]["minor"].as_str().unwrap_or_default();
    minor.trim_end_matches('+').parse::<u32>().is_ok_and(|minor| minor >= OLDEST_KUBECTL)
}

/// Stock virtctl: `$BERTH_VIRTCTL`, else the one in PATH, else one that is built once into the
/// cache (minutes; its progress goes to stderr).
///
/// # Errors
/// The reason why this machine cannot have it.
pub fn virtctl() -> Result<PathBuf, Unavailable> {
    static FOUND: OnceLock<Result<PathBuf, Unavailable>> = OnceLock::new();
    let find = || match env::var_os("BERTH_VIRTCTL").map(PathBuf::from) {
        Some(given) => Ok(given),
        None => in_path("virtctl").map_or_else(|| build("virtctl.sh", "virtctl"), Ok),
    };
    FOUND.get_or_init(find).clone()
}

fn executable(dir: &Path, name: &str) -> Option<PathBuf> {
    Some(dir.join(name)).filter(|path| path.is_file())
}

fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).find_map(|dir| executable(&dir, name))
}
