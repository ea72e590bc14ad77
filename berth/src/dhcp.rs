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
    let bindings = read(&text).with_context(|| format!("in {}", bindings.display()))?;
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

/// The bindings of a file. What is written wrong there is pointed out.
fn read(text: &str) -> Result<Vec<Binding>> {
    let mut unknown = Vec::new();
    let file = serde_norway::Deserializer::from_str(text);
    let bindings = serde_ignored::deserialize(file, |path| unknown.push(path.to_string()))?;
    ensure!(unknown.is_empty(), "there are no fields {}", unknown.join(", "));
    Ok(bindings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bindings_of_the_guide_can_be_read() {
        let guide = include_str!("../../docs/dhcp.md");
        let (_, rest) = guide.split_once("# cat bindings.yaml\n").unwrap();
        let (file, _) = rest.split_once("# berth dhcp").unwrap();
        let bindings = read(file).unwrap();
        assert!(bindings[1].v6.as_ref().unwrap().delegated.is_some(), "{bindings:?}");
    }

    #[test]
    fn a_field_that_is_none_is_pointed_out() {
        let entry = |field: &str| {
            format!(
                "- mac: 02:00:00:00:00:01\n  v4: {{address: 10.0.0.5, prefix: 24, \
                 server: 10.0.0.1, {field}: 3600}}\n"
            )
        };
        assert_eq!(read(&entry("lease")).unwrap().len(), 1);
        let told =
            format!("{:#}", read(&(entry("lease") + &entry("lease: 60, leese"))).unwrap_err());
        assert!(told.contains("leese"), "{told}");
    }
}
