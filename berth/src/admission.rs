//! The embedded API, joined to what the controller says of objects when they are written.

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// Flags of `berth apiserver`.
// clap names a group of flags after its type: this one may not be `Args` too.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    server: apiserver::Args,

    /// Who looks at Vpcs and Subnets before they are stored. Without, what is wrong
    /// with them is told in their conditions alone.
    #[arg(long, value_enum, default_value = "none")]
    admission: By,
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
        By::Own => apiserver::run_with(args.server, Arc::new(Own), shutdown).await,
    }
}

/// Stored objects are of version `v1`, the only one of the kinds looked at.
#[derive(Debug)]
struct Own;

impl apiserver::Admission for Own {
    fn looks_at(&self, group: &str, plural: &str) -> bool {
        controller::admission::looks_at(group, plural)
    }

    fn review(&self, plural: &str, old: Option<&Value>, new: &Value) -> Result<(), String> {
        controller::admission::review(plural, old, new)
    }
}
