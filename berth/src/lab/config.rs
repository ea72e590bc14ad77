//! What a lab is made of.

use std::path::PathBuf;

use tokio::sync::mpsc::UnboundedSender;

/// What to bring up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Part of the names of the namespaces: short, unique on the host.
    pub id: String,
    /// The data directory, see [`super::check_dir`].
    pub dir: PathBuf,
    /// How many nodes, 1 to 9.
    pub nodes: u8,
    /// Which Kubernetes API.
    pub api: Api,
    /// The `berth` program, for its subcommands.
    pub binary: PathBuf,
    /// Additional arguments of every agent.
    pub agent_args: Vec<String>,
    /// How many controllers; one but for tests.
    pub controllers: u8,
    /// Additional arguments of every controller.
    pub controller_args: Vec<String>,
    /// Which addresses are in use elsewhere: arguments of every controller and of our API.
    pub ranges: Vec<String>,
    /// The OCI image layout that containerDisks come from.
    pub image_dir: PathBuf,
    /// Whether nodes get a libvirtd; not needed for `--hypervisor fake`.
    pub hypervisor: bool,
    /// Whether guests are kept in control groups, where the host has them: to what they request
    /// and their limits. In a test of anything else that is less than what a busy host gives them.
    pub control_groups: bool,
    /// Hears a line at each step.
    pub progress: Option<UnboundedSender<String>>,
}

/// The Kubernetes API of a lab.
#[derive(Clone, Debug)]
pub enum Api {
    /// None: OVN and nodes only, without any process of ours.
    None,
    /// Our own, on this port of the host's loopback.
    Embedded {
        /// TCP port.
        port: u16,
        /// Whether it refuses what the controller would not serve.
        reviews: bool,
    },
    /// One that runs already, on the host's loopback.
    External {
        /// How to reach it.
        kubeconfig: PathBuf,
    },
}
