//! Making sure that a node which is silent is off, so that its guests may start elsewhere.
//!
//! ```text
//!  --fencing
//!    out-of-service-taint   people say so, by the taint or by deleting the Node (`lost.rs`)
//!    command                beside that: the controller runs a command with the node's name,
//!                           such as one that switches its power off, and says so when that
//!                           has exited with 0, by the same taint
//!    none                   nobody says so: instances of a lost node stay as they are
//!
//!  silent, with guests ──► attempt written on the Node ──► command ── 0 ──► tainted
//!                               ▲                             │ else, or too late
//!                               └───────── later ◄────────────┘ an Event says why
//!  tainted, heard again, and nothing to be ended there ──► our taint goes
//! ```
//!
//! A silence is known by the time that the node's lease says, so one that was told off is not
//! told off again before it was heard. Each attempt is written on the Node first, for the
//! version that was read: of two controllers one runs it. One that dies amid it has the next
//! run the command again once its time is over: whether it was carried out nobody knows, and
//! to be off twice is no harm.

mod attempt;
mod plan;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource as _, ResourceExt as _};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::warning::{self, Warning};
use crate::world::Event;
use plan::{Known, Order};

pub use plan::OURS;

/// How often it is looked at what is due.
const EVERY: Duration = Duration::from_secs(2);
/// Where leases of nodes are.
const LEASES: &str = "kube-node-lease";

/// Who says that a silent node is off.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Fencing {
    /// People, by the taint `node.kubernetes.io/out-of-service` or by deleting the Node.
    #[default]
    OutOfServiceTaint,
    /// Beside them a command that is run with the node's name, and has exited with 0.
    Command,
    /// Nobody.
    None,
}

/// Flags of fencing.
#[derive(Clone, Debug, clap::Args)]
pub struct FencingArgs {
    /// Who says that a node that is not heard of is off, so that its VMs start elsewhere.
    #[arg(long, value_enum, default_value_t, value_name = "BY")]
    pub fencing: Fencing,

    /// The program that switches a node off, run with the node's name as its only argument;
    /// it may exit with 0 only once nothing can run there any more.
    #[arg(long, value_name = "FILE", required_if_eq("fencing", "command"))]
    pub fencing_command: Option<PathBuf>,

    /// Seconds for which a node's lease has run out before the command is run.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub fencing_after: u64,

    /// Seconds that the command may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub fencing_timeout: u64,
}

/// Where the watches leave what is news here.
#[derive(Debug, Default)]
pub struct Sentry(Mutex<Known>);

impl Sentry {
    /// Takes in what a watch saw, as far as it counts here.
    pub fn apply(&self, event: &Event) {
        self.0.lock().apply(event, Instant::now());
    }
}

/// Runs until it is dropped.
pub(crate) async fn run(client: Client, args: FencingArgs, sentry: Arc<Sentry>) {
    let (Fencing::Command, Some(command)) = (args.fencing, args.fencing_command) else {
        return std::future::pending().await;
    };
    let timing = plan::Timing {
        after: Duration::from_secs(args.fencing_after),
        limit: Duration::from_secs(args.fencing_timeout),
    };
    let edge = Edge { client, command, limit: timing.limit };
    let (mut busy, mut at_work) = (HashSet::new(), FuturesUnordered::new());
    loop {
        let due = sentry.0.lock().due(timing, Instant::now());
        // Each by itself: a command that hangs keeps no other node's from being run.
        for order in due {
            if busy.insert(order.node().to_owned()) {
                at_work.push(edge.carry_out(order));
            }
        }
        tokio::select! {
            Some(node) = at_work.next() => {
                busy.remove(&node);
            }
            () = sleep(EVERY) => {}
        }
    }
}

struct Edge {
    client: Client,
    command: PathBuf,
    limit: Duration,
}

impl Edge {
    /// Carries one out; the node that it was about.
    async fn carry_out(&self, order: Order) -> String {
        let outcome = match &order {
            Order::Fence { node, .. } => self.fence(node, &order).await,
            Order::Lift { node } => self.lift(node).await,
        };
        let node = order.node().to_owned();
        if let Err(error) = outcome {
            warn!(node, %error, "What is known of a lost node was not written; trying again");
            sleep(EVERY).await;
        }
        node
    }

    /// One attempt, if this controller is the one to carry it out.
    async fn fence(&self, name: &str, order: &Order) -> Result<(), kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let Some(node) = nodes.get_opt(name).await? else { return Ok(()) };
        let Some(attempt) = plan::attempt(&node, order, &self.renewed(name).await?) else {
            return Ok(());
        };
        let claimed = match nodes.patch(name, &params(), &Patch::Merge(attempt.claim)).await {
            // Another controller, or news of the node: looked at again.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(()),
            claimed => claimed?,
        };
        info!(node = name, attempt = attempt.number, "A node that is not heard of is fenced");
        let outcome = attempt::run(&self.command, name, self.limit).await;
        let (reason, message) = match &outcome {
            Ok(()) => (
                "NodeFenced",
                format!(
                    "{} says that node {name} is off: its guests have ended, and start elsewhere as \
                     their run strategies say",
                    self.command.display()
                ),
            ),
            Err(why) => (
                "FencingFailed",
                format!("{} {name}: {why}; its guests stay until it works", self.command.display()),
            ),
        };
        let told = outcome.is_ok();
        if let Err(why) = outcome {
            warn!(node = name, why, "A node could not be fenced; trying again later");
        }
        let about = claimed.object_ref(&());
        let warning = Warning { about, reason: reason.to_owned(), message };
        if told {
            self.say_off(claimed, &attempt.loss).await?;
        }
        warning::publish(&self.client, vec![warning]).await;
        Ok(())
    }

    /// Says that a node is off, until that is written or the node was heard.
    async fn say_off(&self, mut node: Node, loss: &str) -> Result<(), kube::Error> {
        let (nodes, name): (Api<Node>, _) = (Api::all(self.client.clone()), node.name_any());
        loop {
            let patch = Patch::Merge(plan::off(&node, loss));
            match nodes.patch(&name, &params(), &patch).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
                // What was done counts, however long the API is away.
                Err(error) => {
                    warn!(node = name, %error, "It is not written yet that a node is off");
                    sleep(EVERY).await;
                }
            }
            node = match nodes.get_opt(&name).await {
                Ok(Some(node)) => node,
                Ok(None) => return Ok(()),
                Err(_) => continue,
            };
        }
    }

    /// Takes our taint off a node that was heard since it was told off.
    async fn lift(&self, name: &str) -> Result<(), kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let Some(node) = nodes.get_opt(name).await? else { return Ok(()) };
        let Some(patch) = plan::lifted(&node, &self.renewed(name).await?) else { return Ok(()) };
        match nodes.patch(name, &params(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            done => done.map(|_| info!(node = name, "A node that was fenced is back")),
        }
    }

    /// When the lease of a node says that it was renewed last; empty for none.
    async fn renewed(&self, name: &str) -> Result<String, kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASES);
        let lease = leases.get_opt(name).await?;
        let time = lease.and_then(|lease| lease.spec?.renew_time);
        Ok(time.map(|time| time.0.to_string()).unwrap_or_default())
    }
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(crate::MANAGER.to_owned()), ..PatchParams::default() }
}
