//! What an agent says about its ports, over its admin socket.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// One port of GET /ports.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Port {
    /// Name of the port, as in OVN.
    pub(super) port: String,
    /// First DHCPv4 ACK since the agent took over the port.
    #[serde(default)]
    pub(super) first_ack_v4: Option<jiff::Timestamp>,
    /// First DHCPv6 reply with an address.
    #[serde(default)]
    pub(super) first_ack_v6: Option<jiff::Timestamp>,
}

/// Asks an agent for its ports.
pub(super) async fn ports(socket: &Path) -> Result<Vec<Port>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /ports HTTP/1.0\r\nHost: agent\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    Ok(serde_json::from_str(body)?)
}
