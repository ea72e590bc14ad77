//! Taps of guests that come from another node: there before the guest is.
//!
//! The moment a guest arrives its port must work, so tap and row are made before it is
//! sent, and ovn-controller is waited for. It says `ovn-installed` in the row once
//! Open vSwitch has acknowledged the flows of the port, which it makes only after it has
//! entered this node in the southbound database as one of the port's: all that must hold
//! on this node is said in its own database, and nobody has to be asked elsewhere.
//!
//! Such a tap stays when the process that uses it ends, so it is removed with its row.

use futures::TryStreamExt as _;
use tokio::process::Command;

use super::{DOMAIN_KEY, OVSDB_LIMIT, TapError, Taps};
use crate::leases::Port;

/// Set by ovn-controller once the flows of an interface are in force.
const INSTALLED: &str = "ovn-installed";

impl Taps {
    /// Makes the ports' taps, joins them to the bridge, and waits until OVN has put them
    /// in place. May be repeated.
    ///
    /// # Errors
    /// The first thing that is not as it should be.
    pub async fn receive(
        &self,
        domain: &str,
        ports: &[Port],
        queues: bool,
    ) -> Result<(), TapError> {
        for port in ports {
            if self.index(&port.tap).await?.is_none() {
                make(&port.tap, queues).await?;
            }
        }
        self.attach(domain, ports).await?;
        for port in ports {
            let installed = self.ovsdb.wait_for(|replica| {
                let (_, row) = replica.by_name("Interface", &port.tap)?;
                (row.key("external_ids", INSTALLED) == Some("true")).then_some(())
            });
            tokio::time::timeout(OVSDB_LIMIT, installed)
                .await
                .map_err(|_| TapError::NotInstalled(port.name.clone()))?;
        }
        Ok(())
    }

    /// Removes the taps of dead domains, as far as they are there.
    pub(super) async fn remove_taps(&self, is_dead: impl Fn(&str) -> bool) -> Result<(), TapError> {
        let taps: Vec<String> = self.ovsdb.read(|replica| {
            let rows = replica.rows("Interface");
            let dead =
                rows.filter(|(_, row)| row.key("external_ids", DOMAIN_KEY).is_some_and(&is_dead));
            dead.map(|(_, row)| row.str("name").to_owned()).collect()
        });
        for tap in taps {
            self.clear(&tap).await?;
        }
        Ok(())
    }

    /// Removes a tap, if it is there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn clear(&self, tap: &str) -> Result<(), TapError> {
        let Some(index) = self.index(tap).await? else { return Ok(()) };
        match self.links.link().del(index).execute().await {
            Ok(()) => Ok(()),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(TapError::Link(tap.to_owned(), error)),
        }
    }

    /// The kernel's number of a link, if there is one of this name.
    async fn index(&self, tap: &str) -> Result<Option<u32>, TapError> {
        let found = self.links.link().get().match_name(tap.to_owned()).execute().try_next().await;
        match found {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(TapError::Link(tap.to_owned(), error)),
        }
    }
}

fn is_absent(error: &rtnetlink::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message)
        if message.raw_code() == -nix::libc::ENODEV)
}

/// Makes a tap that waits for its user. Netlink makes none: that takes an `ioctl`, which
/// `ip` does for us.
async fn make(tap: &str, queues: bool) -> Result<(), TapError> {
    let mut command = Command::new("ip");
    command.args(["tuntap", "add", "dev", tap, "mode", "tap", "vnet_hdr"]);
    command.args(queues.then_some("multi_queue"));
    let failed = |why: String| TapError::NotMade(tap.to_owned(), why);
    let made = command.kill_on_drop(true).output().await;
    let made = made.map_err(|error| failed(format!("ip does not run: {error}")))?;
    if made.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&made.stderr).trim().to_owned()))
}
