//! What guests say, and what they can reach.

use anyhow::Context;

use super::{Place, REACH, START, World};
use crate::guest::{Guest, Report};
use crate::{eventually, same};

impl World {
    /// What a VM's guest has reported on its console since its files were made.
    ///
    /// # Errors
    /// When it runs nowhere.
    pub async fn reports(&self, vm: &str) -> anyhow::Result<Vec<Report>> {
        Ok(Report::all_in(&self.console_log(vm).await?))
    }

    /// All that came on a VM's serial console since its files were made.
    ///
    /// # Errors
    /// When it runs nowhere.
    pub async fn console_log(&self, vm: &str) -> anyhow::Result<String> {
        let domain = net::names::domain("default", vm);
        let log = self.node_of(vm).await?.state().join("vms").join(domain).join("console.log");
        let text = tokio::fs::read(&log).await.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Waits until the guest has reported the addresses of its place.
    ///
    /// # Errors
    /// When it does not in time; what it reported last.
    pub async fn guest_ready(&self, vm: &str, place: &Place) -> anyhow::Result<Report> {
        eventually(&format!("the guest of {vm} to have its addresses"), START, async || {
            let report = self.reports(vm).await?.pop().context("it has reported nothing")?;
            let address = |text: &str| text.split('/').next().unwrap_or_default().to_owned();
            same("its IPv4 address", address(&report.v4), place.v4.as_str())?;
            same("its IPv6 address", address(&report.v6), place.v6.as_str())?;
            Ok(report)
        })
        .await
    }

    /// A shell in a VM's guest.
    ///
    /// # Errors
    /// When its console does not answer.
    pub async fn guest(&self, vm: &str) -> anyhow::Result<Guest> {
        let node = self.node_of(vm).await?;
        let shell = Guest::open(&node.serial("default", vm)).await;
        shell.with_context(|| format!("console of {vm}"))
    }

    /// Waits until a guest gets an answer from an address.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn ping(&self, vm: &str, address: &str) -> anyhow::Result<()> {
        let mut guest = self.guest(vm).await?;
        let ping = format!("ping -c 1 -W 2 {address}");
        eventually(&format!("{vm} to reach {address}"), REACH, async || {
            guest.run(&ping).await.map(drop)
        })
        .await
    }
}
