//! Small read-only file systems that carry files into a guest.

use std::fmt;
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{VolumeError, command, remove_all, rename};

/// One file to be: a relative path of our own making, and what it holds.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) content: Vec<u8>,
}

/// The content may be a secret.
impl fmt::Debug for File {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({} bytes)", self.path.display(), self.content.len())
    }
}

impl File {
    pub(super) fn new(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: content.into() }
    }
}

/// Writes an ISO with these files and replaces the one at `path`, if any. Who
/// has the old one open keeps reading that.
pub(super) async fn write(path: &Path, label: &str, files: &[File]) -> Result<(), VolumeError> {
    let tree = path.with_extension("iso.files");
    let partial = path.with_extension("iso.partial");
    remove_all(&tree).await?;
    make_directory(&tree).await?;
    for file in files {
        let to = tree.join(&file.path);
        make_directory(to.parent().expect("it lies below the tree")).await?;
        write_private(&to, &file.content).await?;
    }
    // It keeps the mode of the file it finds.
    write_private(&partial, b"").await?;
    let mut command = Command::new("genisoimage");
    command.args(["-quiet", "-joliet", "-rock", "-volid", label, "-output"]);
    command.arg(&partial).arg(&tree);
    let written = command::run("genisoimage", command).await;
    remove_all(&tree).await?;
    written?;
    rename(&partial, path).await
}

async fn make_directory(path: &Path) -> Result<(), VolumeError> {
    let mut directories = tokio::fs::DirBuilder::new();
    let made = directories.recursive(true).mode(0o700).create(path).await;
    made.map_err(VolumeError::file("make the directory", path))
}

async fn write_private(path: &Path, content: &[u8]) -> Result<(), VolumeError> {
    let write = async {
        let mut options = tokio::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(path).await?;
        file.write_all(content).await?;
        file.flush().await
    };
    write.await.map_err(VolumeError::file("write", path))
}
