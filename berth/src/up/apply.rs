//! What is created: read before anything is started, sent once the API is there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::progress::Progress;
use crate::manifests::{self, Document, Outcome};

/// The objects of the files, or those of the quick start.
///
/// # Errors
///
/// At the first file that cannot be read, and the first document that is not an
/// object; the message says which and what to change.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<Document>> {
    if files.is_empty() {
        return manifests::parse(manifests::QUICKSTART, "the quick start");
    }
    let mut documents = Vec::new();
    for file in files {
        documents.extend(manifests::parse(&text(file)?, &file.display().to_string())?);
    }
    Ok(documents)
}

fn text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| {
        let what = if file.is_dir() { ": name the files in it" } else { "" };
        format!("cannot read {} (given by --apply){what}", file.display())
    })
}

/// Creates what is absent, in order.
///
/// # Errors
///
/// At the first object that the API does not take.
pub(super) async fn create(
    client: &kube::Client,
    documents: &[Document],
    progress: &Progress,
) -> Result<()> {
    for document in documents {
        let what = document.what();
        match manifests::create_if_absent(client, document).await? {
            Outcome::Created => progress.say(&format!("created {what}")),
            Outcome::Existed => progress.say(&format!("{what} is there already")),
        }
    }
    Ok(())
}
