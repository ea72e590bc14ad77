//! The flags.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::drain::DrainArgs;
use crate::fencing::FencingArgs;
use crate::live::Rollout;
use crate::migration::Terms;
use crate::reserved::RangeArgs;
use crate::subresources::SubresourceArgs;
use crate::webhook::WebhookArgs;

/// Turns VPCs, subnets and VMs into addresses, OVN rows and placed instances.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Kubeconfig of the API; without it, the environment's or the pod's own.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// OVN northbound database, or several of one cluster: `unix:/path`,
    /// `tcp:host:port`, with commas between.
    #[arg(long, value_name = "REMOTES", default_value = "unix:/run/ovn/ovnnb_db.sock")]
    pub ovn_nb: String,

    /// Addresses live as long as their VM; otherwise as long as one start of it.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub keep_vm_ip: bool,

    /// Make the default VPC `ovn-cluster` and its subnet `ovn-default` of these
    /// networks, such as 10.16.0.0/16 or one of each family, unless they are there.
    #[arg(long, value_name = "CIDR")]
    pub default_cidr: Option<net::Cidrs>,

    /// What is in use elsewhere.
    #[command(flatten)]
    pub ranges: RangeArgs,

    /// Seconds that a released address rests before another VM gets it.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub ip_quarantine: u64,

    /// The lease that the agents give where no options name one, in seconds: what a guest of a
    /// lost node may go on with, so long its address rests.
    #[arg(long, value_name = "SECONDS", default_value_t = net::options::LEASE,
          value_parser = clap::value_parser!(u32).range(10..))]
    pub dhcp_lease_time: u32,

    /// Seconds between comparisons of everything with everything.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub resync: u64,

    /// How guests are moved.
    #[command(flatten)]
    pub migrations: Terms,

    /// What keeps `kubectl drain` waiting.
    #[command(flatten)]
    pub drain: DrainArgs,

    /// Who says that a lost node is off.
    #[command(flatten)]
    pub fencing: FencingArgs,
    /// When a changed template reaches a guest that runs (KubeVirt's `vmRolloutStrategy`): as far
    /// as it can at once, or with the next start.
    #[arg(long, value_enum, value_name = "STRATEGY", default_value_t = Rollout::LiveUpdate)]
    pub vm_rollout_strategy: Rollout,

    /// Serve Prometheus metrics at this address, such as 127.0.0.1:10660.
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,

    /// The webhook.
    #[command(flatten)]
    pub webhook: WebhookArgs,

    /// The subresources.
    #[command(flatten)]
    pub subresources: SubresourceArgs,
}
