//! What the server is told at start.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Flags of `berth apiserver`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directory for the store, the certificate authority, the token and the kubeconfig; created
    /// (mode 0700) when it does not exist.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Address to serve on. Port 0 takes a free port; the kubeconfig names the one that was taken.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6443")]
    pub listen: SocketAddr,
}
