//! `berth dhcp`: the agent's DHCP server by itself, from a file.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
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
    if nix::net::if_::if_nametoindex(interface.as_str()).is_err() {
        tracing::warn!(interface, "There is no such interface here; waiting for it");
    }
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
    let bindings: Vec<Binding> =
        serde_ignored::deserialize(file, |path| unknown.push(path.to_string()))?;
    ensure!(unknown.is_empty(), "there are no fields {}", unknown.join(", "));
    check(&bindings)?;
    Ok(bindings)
}

/// What nobody would be served well with.
fn check(bindings: &[Binding]) -> Result<()> {
    let (mut macs, mut addresses) = (HashSet::new(), HashSet::new());
    for Binding { mac, v4, v6, .. } in bindings {
        let is_one = mac.octets()[0] & 1 == 0 && mac.octets() != [0; 6];
        ensure!(is_one, "mac {mac}: write the MAC address of one interface");
        ensure!(macs.insert(*mac), "mac {mac} is there twice: write each guest once");
        let v4_address = v4.iter().map(|v4| IpAddr::V4(v4.address));
        for address in v4_address.chain(v6.iter().map(|v6| IpAddr::V6(v6.address))) {
            let is_hosts = !address.is_unspecified()
                && !address.is_multicast()
                && address != IpAddr::V4(Ipv4Addr::BROADCAST);
            ensure!(is_hosts, "address {address} of {mac}: write one that a host can have");
            ensure!(
                addresses.insert(address),
                "address {address} of {mac} is another guest's, too"
            );
        }
        if let Some(v4) = v4 {
            ensure!(v4.prefix <= 32, "prefix {} of {mac}: write at most 32", v4.prefix);
        }
        let leases = v4.iter().map(|v4| v4.lease).chain(v6.iter().map(|v6| v6.lease));
        ensure!(leases.min() != Some(0), "lease of {mac}: write a number of seconds from 1");
        if let Some((v6, prefix)) = v6.as_ref().and_then(|v6| Some((v6, v6.delegated?))) {
            let is_prefix = (8..128).contains(&prefix.prefix()) && prefix.ip() == prefix.network();
            ensure!(
                is_prefix,
                "delegated {prefix} of {mac}: write a network such as fd01:0:0:6::/64"
            );
            let own = prefix.contains(v6.address);
            ensure!(!own, "delegated {prefix} of {mac} has the guest's own address: write another");
        }
    }
    Ok(())
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
    fn what_nobody_would_be_served_well_with_is_pointed_out() {
        let of = |mac: &str, v4: &str, v6: &str| {
            format!("- mac: {mac}\n  v4: {{server: 10.0.0.1, {v4}}}\n  v6: {{{v6}}}\n")
        };
        let (mac, v4) = ("02:00:00:00:00:01", "address: 10.0.0.5, prefix: 24, lease: 60");
        let v6 = "address: \"fd00::5\", lease: 60";
        let good = of(mac, v4, v6);
        assert_eq!(read(&good).unwrap().len(), 1);
        let delegated = |prefix: &str| format!("{v6}, delegated: \"{prefix}\"");
        for (file, told) in [
            (good.clone() + &good, "there twice"),
            (
                good.clone() + &of("02:00:00:00:00:02", v4, "address: \"fd00::6\", lease: 60"),
                "another guest's",
            ),
            (of("01:00:5e:00:00:01", v4, v6), "of one interface"),
            (of(mac, "address: 0.0.0.0, prefix: 24, lease: 60", v6), "a host can have"),
            (of(mac, "address: 10.0.0.5, prefix: 33, lease: 60", v6), "at most 32"),
            (of(mac, "address: 10.0.0.5, prefix: 24, lease: 0", v6), "seconds from 1"),
            (of(mac, v4, &delegated("::/0")), "write a network such as"),
            (of(mac, v4, &delegated("fd01::5/64")), "write a network such as"),
            (of(mac, v4, &delegated("fd00::/64")), "the guest's own address"),
        ] {
            let error = format!("{:#}", read(&file).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
        read(&of(mac, v4, &delegated("fd01:0:0:5::/64"))).unwrap();
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
