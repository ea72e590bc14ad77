//! The host around a lab, which must be afterwards as it was before.

use std::collections::BTreeSet;

use tokio::process::Command;

/// What of the host a lab must leave as it was.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Outside {
    links: BTreeSet<String>,
    mounts: BTreeSet<String>,
}

impl Outside {
    pub(super) async fn seen() -> anyhow::Result<Self> {
        let links = Command::new("ip").args(["-o", "link"]).output().await?;
        let mounts = tokio::fs::read_to_string("/proc/self/mounts").await?;
        // Namespaces of other labs come and go; ours are looked for by name.
        let point = |line: &str| {
            let point = line.split(' ').nth(1)?;
            (!point.starts_with("/run/netns")).then(|| point.to_owned())
        };
        Ok(Self {
            links: link_names(&String::from_utf8_lossy(&links.stdout)),
            mounts: mounts.lines().filter_map(point).collect(),
        })
    }
}

/// The names in the output of `ip -o link`: `7: eth0@if6: <…`.
pub(super) fn link_names(listing: &str) -> BTreeSet<String> {
    listing
        .lines()
        .filter_map(|line| line.split(": ").nth(1))
        .map(|name| name.split('@').next().unwrap_or(name).to_owned())
        .collect()
}
