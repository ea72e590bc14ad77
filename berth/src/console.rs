//! The serial port of a guest: for a person, and for a script.
//!
//! QEMU listens on a Unix socket and serves one client at a time; whoever comes
//! second waits until the first has left. [`Guest`] is the scripted driver: it
//! speaks to the root shell of the demonstration guest, whose prompt is
//! `guest# `.

mod guest;
mod terminal;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use crds::kubevirt::VirtualMachineInstance;
use kube::Api;

use crate::lab::{self, Facts};
pub use guest::{Guest, Output};

/// Opens the serial console of a VM.
///
/// Works from any shell of the host while `berth up` runs. Ctrl-] leaves; the
/// VM does not notice.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The VM's name.
    #[arg(value_name = "VM")]
    pub vm: String,

    /// The VM's namespace.
    #[arg(short = 'n', long, value_name = "NAMESPACE", default_value = "default")]
    pub namespace: String,

    /// The data directory of the lab that runs it.
    #[arg(long, value_name = "DIR", default_value = lab::DEFAULT_DIR)]
    pub data_dir: PathBuf,
}

/// Connects the terminal to the VM until Ctrl-] or the end of the VM.
///
/// # Errors
///
/// When no lab runs, the VM does not, or its console cannot be reached.
pub async fn run(args: Args) -> Result<()> {
    let Args { vm, namespace, data_dir } = args;
    let (layout, facts) = Facts::of(&data_dir)?;
    let kubeconfig = facts.kubeconfig.context("this lab has no API")?;
    let client = lab::client(&kubeconfig).await?;
    let api: Api<VirtualMachineInstance> = Api::namespaced(client, &namespace);
    let Some(instance) = api.get_opt(&vm).await? else {
        bail!(
            "VM {namespace}/{vm} does not run; `kubectl get vm,vmi -n {namespace}` shows what there is"
        );
    };
    let node = instance.status.and_then(|status| status.node_name);
    let node = node.with_context(|| format!("VM {namespace}/{vm} has no node yet"))?;
    let number = node.strip_prefix('n').and_then(|number| number.parse().ok());
    let number = number.with_context(|| format!("{node} is not a node of this lab"))?;
    let socket = layout.node(number).serial(&namespace, &vm);
    terminal::attach(&socket, &format!("{namespace}/{vm} on {node}")).await
}
