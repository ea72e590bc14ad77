//! The embedded API, joined to what the controller says of objects when they are written.

use std::sync::Arc;

use apiserver::{Proposal, Refused};
use controller::admission::{self, Facts, Write};
use controller::reserved::RangeArgs;
use crds::cause::{self, Cause};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Flags of `berth apiserver`.
// clap names a group of flags after its type: this one may not be `Args` too.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    server: apiserver::Args,

    /// Who looks at objects before they are stored. Without, what is wrong with them is
    /// told in their conditions alone.
    #[arg(long, value_enum, default_value = "none")]
    admission: By,

    #[command(flatten)]
    ranges: RangeArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum By {
    /// Nobody.
    None,
    /// The rules of this version of Berth's controller.
    Own,
}

/// Serves until `shutdown` is cancelled.
pub(crate) async fn run(args: ServerArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    match args.admission {
        By::None => apiserver::run(args.server, shutdown).await,
        By::Own => {
            let facts = Facts::beside(args.ranges.reserved());
            apiserver::run_with(args.server, Arc::new(Own { facts }), shutdown).await
        }
    }
}

/// The rules, and what they go by: the server has no controller's world, so the facts
/// are kept from what it stores. Stored objects are of the only version of their kinds.
#[derive(Debug)]
struct Own {
    facts: Facts,
}

impl apiserver::Admission for Own {
    fn looks_at(&self, group: &str, plural: &str) -> bool {
        admission::looks_at(group, plural)
    }

    fn complete(&self, plural: &str, object: &mut Value) {
        admission::complete(plural, object);
    }

    fn review(&self, plural: &str, proposal: Proposal<'_>) -> Result<Vec<String>, Refused> {
        let Proposal { old, new, manager } = proposal;
        admission::review(&self.facts, plural, Write { old, new, by: manager }).map_err(refused)
    }

    fn leaves(&self, plural: &str, object: &Value) -> Result<Vec<String>, String> {
        admission::leaves(&self.facts, plural, object)
    }

    fn follows(&self, group: &str, plural: &str) -> bool {
        Facts::follow(group, plural)
    }

    fn stored(&self, plural: &str, json: &[u8]) {
        self.facts.stored(plural, json);
    }

    fn removed(&self, plural: &str, json: &[u8]) {
        self.facts.removed(plural, json);
    }
}

/// As the server tells it.
fn refused(causes: Vec<Cause>) -> Refused {
    let message = cause::message(&causes);
    let causes = causes.into_iter().take(cause::TOLD).map(|Cause { reason, message, field }| {
        apiserver::Cause { reason: reason.name(), field, message }
    });
    Refused { message, causes: causes.collect() }
}
