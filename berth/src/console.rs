//! The serial port of a guest: for a person, and for a script.
//!
//! QEMU listens on a Unix socket and serves one client at a time; whoever comes
//! second waits until the first has left. [`Guest`] is the scripted driver: it
//! speaks to the root shell of the demonstration guest, whose prompt is
//! `guest# `.

mod guest;
mod query;
mod terminal;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crds::kubevirt::VirtualMachineInstance;
use kube::Api;

use crate::lab::{self, Facts, need_root};
pub use guest::{Guest, Output};
use terminal::Patience;

/// Opens the serial console of a VM.
///
/// Works from any shell of the host while `berth up` runs, as root. Ctrl-] leaves;
/// the VM does not notice.
///
/// Input that is no terminal is typed into the guest, and what the guest prints goes
/// to standard output: `echo uptime | berth console web`. After the end of the input
/// it leaves once the guest has printed nothing for 2 seconds. A command that is
/// silent for longer needs input that stays open: `(echo cmd; sleep 10) | berth
/// console web`.
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

    /// Seconds after the end of the input after which to leave a guest that still
    /// prints; without effect on a terminal.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
}

/// After the end of the input, a guest that has been silent for this long has said
/// all. Emulated ones are slow.
const SILENCE: Duration = Duration::from_secs(2);

/// Connects the terminal to the VM until Ctrl-] or the end of the VM.
///
/// # Errors
///
/// When not root, no lab runs, the VM does not, or its console cannot be reached.
pub async fn run(args: Args) -> Result<()> {
    need_root("berth console")?;
    let Args { vm, namespace, data_dir, timeout } = args;
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
    let patience = Patience { silence: SILENCE, limit: Duration::from_secs(timeout) };
    terminal::attach(&socket, &format!("{namespace}/{vm} on {node}"), patience).await
}
