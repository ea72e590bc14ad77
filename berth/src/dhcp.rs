//! `berth dhcp`: the agent's DHCP server by itself, from a file.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use dhcp::{Binding, Server};
use tokio_util::sync::CancellationToken;

/// Answers DHCP on an interface, for the bindings of a file, until Ctrl-C.
///
/// For measuring, and for use without Kubernetes. The file is a YAML list, one
/// entry per guest; each guest is known by its MAC address:
///
///   - mac: 02:00:00:00:00:01
///     hostname: web
///     v4: {address: 10.0.0.5, prefix: 24, gateway: 10.0.0.1, server: 10.0.0.1, lease: 3600}
///     v6: {address: "fd00::5", lease: 3600}
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The interface that guests are reached through, as seen here.
    #[arg(long, value_name = "NAME")]
    pub interface: String,

    /// The bindings.
    #[arg(long, value_name = "FILE")]
    pub bindings: PathBuf,
}

/// Serves until `shutdown`.
///
/// # Errors
///
/// When the file cannot be used, or the server ends by itself.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<()> {
    let Args { interface, bindings } = args;
    let text = std::fs::read_to_string(&bindings)
        .with_context(|| format!("cannot read {}", bindings.display()))?;
    let bindings: Vec<Binding> =
        serde_norway::from_str(&text).with_context(|| format!("in {}", bindings.display()))?;
    ensure!(!bindings.is_empty(), "no bindings: nobody would be answered");
    let server = Server::start(&prometheus::Registry::new())?;
    for binding in bindings {
        server.set_port(&binding.mac.to_string(), &interface, binding);
    }
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = server.ended() => bail!("the DHCP server has ended by itself"),
    }
    for port in server.ports() {
        if let Some(at) = port.first_ack_v4.or(port.first_ack_v6) {
            tracing::info!(guest = port.name, ?at, "Has got its address");
        }
    }
    Ok(())
}
