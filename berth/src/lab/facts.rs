//! What a second shell needs to know about a running lab.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::layout::Layout;

/// What `lab.json` holds while a lab runs.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Facts {
    /// The id of the lab.
    pub id: String,
    /// The process that supervises it.
    pub pid: u32,
    /// How many nodes it has.
    pub nodes: u8,
    /// How to reach its API.
    pub kubeconfig: Option<PathBuf>,
}

impl Facts {
    /// Of the lab that runs in this directory.
    ///
    /// # Errors
    ///
    /// When none does.
    pub fn of(dir: &Path) -> Result<(Layout, Self)> {
        let layout = Layout { id: String::new(), dir: dir.to_owned() };
        let text = match std::fs::read(layout.facts()) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("no lab runs in {}: start one with `berth up`", dir.display())
            }
            Err(error) => return Err(error).context("cannot read what the lab says of itself"),
        };
        let facts: Self = serde_json::from_slice(&text)?;
        Ok((Layout { id: facts.id.clone(), ..layout }, facts))
    }
}
