//! The node's part of the way out: VMs reach what is outside through it, with its
//! address as their source.
//!
//! ```text
//!  br-int ── ovn0 ── routing of the node ── its own interfaces ── outside
//!            (the node's logical port)   masquerade
//! ```
//!
//! What is to be is written on the Node and on the Subnet `join` by the controller
//! (`Wanted`). What is there is compared with it whenever one of them changes and
//! every few seconds: the port's row in Open vSwitch, its link, addresses and routes,
//! and a table of nftables. Translation comes first and goes last, so that no packet
//! leaves with a guest's address.
//!
//! Forwarding is turned on in the node's network namespace and is left on: others may
//! have come to rely on it.

mod link;
mod nft;
mod wanted;

use std::time::Duration;

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::tap::{TapError, Taps};
use crate::watch::Signposts;
use wanted::Wanted;

/// How often what is there is looked at though nothing has changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Delay after something that did not work.
const RETRY: Duration = Duration::from_millis(500);

/// Why the way out is not as it should be. Each is worth another try.
#[derive(Debug, thiserror::Error)]
enum EgressError {
    #[error(transparent)]
    Port(#[from] TapError),
    #[error(transparent)]
    Link(#[from] link::LinkError),
    #[error(transparent)]
    Translation(#[from] nft::NftError),
}

/// Keeps this node's part as it is wanted, until `shutdown`. All of it stays then.
pub async fn run(client: Client, node: String, taps: Taps, shutdown: CancellationToken) {
    let mut posts = Signposts::start(&client, &node);
    let keep = async {
        posts.synced().await;
        let mut part = Part { taps, table: nft::Table::default() };
        let mut told = None;
        loop {
            let delay = match round(&mut part, &posts).await {
                Ok(()) => {
                    told = None;
                    LOOK_EVERY
                }
                Err(problem) => {
                    if told.as_ref() != Some(&problem) {
                        tracing::warn!(problem, "The way out is not as it should be; trying again");
                    }
                    told = Some(problem);
                    RETRY
                }
            };
            tokio::select! {
                () = posts.changed() => {}
                () = tokio::time::sleep(delay) => {}
            }
        }
    };
    tokio::select! {
        () = keep => {}
        () = shutdown.cancelled() => {}
    }
}

async fn round(part: &mut Part, posts: &Signposts) -> Result<(), String> {
    // What cannot be read changes nothing.
    let wanted = match (posts.node()?, posts.join()?) {
        (Some(node), Some(join)) => Wanted::of(&node, &join).map_err(|error| error.to_string())?,
        _ => None,
    };
    let outcome = match &wanted {
        Some(wanted) => part.bring_about(wanted).await,
        None => part.remove().await,
    };
    outcome.map_err(|error| error.to_string())
}

/// What is there.
struct Part {
    taps: Taps,
    table: nft::Table,
}

impl Part {
    async fn bring_about(&mut self, wanted: &Wanted) -> Result<(), EgressError> {
        self.table.hold(&nft::ruleset(wanted)).await?;
        self.taps.plug_gateway(&wanted.port).await?;
        link::bring_about(self.taps.links(), wanted).await?;
        Ok(())
    }

    async fn remove(&mut self) -> Result<(), EgressError> {
        // The link takes its addresses and routes along.
        self.taps.unplug_gateway().await?;
        self.table.remove().await?;
        Ok(())
    }
}
