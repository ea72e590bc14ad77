//! A world's own directory: gone with it, kept when something failed.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use berth::lab::{Layout, sweep};

/// Where scratch directories are made. Unix socket paths live below it and may
/// not exceed 107 bytes, so it is short.
const ROOT: &str = "/tmp/berth-tests";

/// A directory that is removed on drop unless `keep` was called.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
    kept: bool,
}

impl Scratch {
    /// Makes `/tmp/berth-tests/<name>.<pid>.<n>`, and removes what runs that
    /// were killed have left there.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        remove_orphans();
        fs::create_dir_all(ROOT).with_context(|| format!("making {ROOT}"))?;
        let pid = std::process::id();
        for n in 0.. {
            let dir = Path::new(ROOT).join(format!("{name}.{pid}.{n}"));
            // There will be kubeconfigs and keys of administrators in it.
            match DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error).context(format!("making {}", dir.display())),
            }
            fs::create_dir(dir.join("logs"))?;
            return Ok(Self { dir, kept: false });
        }
        unreachable!("some number is free")
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The folder in it for logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// Keeps the directory if `outcome` is an error, and says in it where it is.
    ///
    /// # Errors
    /// Those of `outcome`.
    pub fn keep_on_error<T>(&mut self, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
        if outcome.is_err() {
            self.keep();
        }
        outcome.with_context(|| format!("data and logs are kept in {}", self.dir.display()))
    }

    /// Lets the directory outlive this value, for a person to look at.
    pub fn keep(&mut self) {
        self.kept = true;
        // Marked on disk too, so that later runs leave it alone.
        let _ = fs::write(self.dir.join("kept"), "");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// What runs that were killed have left: labs go, and with them their directories
/// unless they were kept.
fn remove_orphans() {
    let Ok(entries) = fs::read_dir(ROOT) else { return };
    for dir in entries.flatten().map(|entry| entry.path()) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(pid) = name.split('.').nth(1) else { continue };
        if Path::new("/proc").join(pid).exists() {
            continue;
        }
        sweep(&Layout::at(&dir));
        if !dir.join("kept").exists() {
            let _ = fs::remove_dir_all(&dir);
        }
    }
}

/// Has the labs of this process removed once it has ended. They cannot be before: their
/// supervisors start again what is killed, and live in here.
pub(crate) fn end_own_labs_after_this_process() -> anyhow::Result<()> {
    let (berth, pid) = (crate::berth_binary()?, std::process::id());
    let script =
        r#"while kill -0 "$1" 2>/dev/null; do sleep 0.1; done; "$0" clean --data-dir "$2""#;
    for dir in fs::read_dir(ROOT)?.flatten().map(|entry| entry.path()) {
        if dir.to_string_lossy().contains(&format!(".{pid}.")) {
            Command::new("setsid")
                .args(["sh", "-c", script])
                .arg(&berth)
                .arg(pid.to_string())
                .arg(&dir)
                .spawn()?;
        }
    }
    Ok(())
}
