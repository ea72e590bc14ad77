//! `berth up`: the whole system on one host, until Ctrl-C.

mod admin;
mod apply;
mod image;
mod machines;
mod progress;
mod strategy;
mod table;
mod verify;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use tokio_util::sync::CancellationToken;

use crate::lab::{self, Api, Claim, Config, Lab, Layout, Swept, need_root};
use crate::manifests::{self, Document};
use machines::{Machine, Machines, Name};
use progress::{Progress, show};

/// Runs the whole system on this host, as root.
///
/// Starts the embedded Kubernetes API, OVN, and nodes with Open vSwitch, libvirt
/// and an agent, each in network namespaces of its own; the host's network is
/// not touched. Then it creates the quick start (a VPC, a subnet, two VMs) where
/// it does not exist yet, shows a table of the VMs, and runs until Ctrl-C.
///
/// Everything is kept in the data directory: the next `berth up` finds the same
/// VMs with the same addresses. Nothing else is left behind.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: u8,

    /// Where everything is kept; for root only.
    #[arg(long, value_name = "DIR", default_value = lab::DEFAULT_DIR)]
    pub data_dir: PathBuf,

    /// Create the objects of these files instead of the quick start's.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub apply: Vec<PathBuf>,

    /// End with status 0 once every VM that is to run does, has its addresses
    /// inside and pings the others of its subnet; else with status 1 and the
    /// reason.
    ///
    /// Those are all VMs of the API, also what earlier runs created; left out is
    /// what its run strategy does not bring up (Halted, or Manual and not started).
    #[arg(long)]
    pub exit_when_ready: bool,

    /// Seconds that those VMs have to get ready.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    pub timeout: u64,

    /// Port of the Kubernetes API on the host's loopback.
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    pub api_port: u16,

    /// The lease of an address where no options name one, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = net::options::LEASE,
          value_parser = clap::value_parser!(u32).range(10..))]
    pub dhcp_lease_time: u32,

    /// Who executes the guests: `software` works anywhere, `kvm` is fast where
    /// the processor really offers it, `auto` takes kvm when /dev/kvm opens.
    #[arg(long, value_name = "WHO", default_value = "software", value_parser = ["auto", "kvm", "software"])]
    pub emulation: String,
}

/// Runs until `shutdown`, or until the VMs are ready if so asked.
///
/// # Errors
///
/// When the lab cannot come up, or the VMs do not get ready and that was asked
/// for. Whatever was started is gone by then.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<()> {
    need_root("berth up")?;
    let documents = apply::read(&args.apply)?;
    let dir = std::path::absolute(&args.data_dir)?;
    lab::check_dir(&dir).map_err(anyhow::Error::msg)?;
    lab::check_entries(&dir, &entries(&dir)?).map_err(anyhow::Error::msg)?;
    let claim = Claim::on(&Layout::at(&dir)).await.map_err(|taken| {
        anyhow!("{taken}: end it first, or start this one with another --data-dir and --api-port")
    })?;
    let progress = Progress::start();
    let nodes = if args.nodes == 1 { "1 node".to_owned() } else { format!("{} nodes", args.nodes) };
    progress.say(&format!("{nodes}, data in {}", dir.display()));
    if claim.swept != Swept::default() {
        let Swept { processes, namespaces } = claim.swept;
        progress.say(&format!(
            "removed leftovers of an earlier run: {processes} processes, {namespaces} namespaces"
        ));
    }

    let Some(started) = shutdown.run_until_cancelled(start(&args, claim, &dir, &progress)).await
    else {
        progress.say(&format!("stopped before it was up; nothing is left but {}", dir.display()));
        return Ok(());
    };
    let lab = started?;
    let outcome = shutdown.run_until_cancelled(serve(&args, &lab, &documents, &progress)).await;
    progress.say("stopping: guests, daemons, namespaces");
    lab.down().await;
    progress.say(&format!("stopped; nothing is left but {}", dir.display()));
    outcome.unwrap_or(Ok(()))
}

/// The names in a directory; none where it does not exist yet.
fn entries(dir: &Path) -> Result<Vec<String>> {
    let names = |entries: std::fs::ReadDir| {
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            Ok(entry?.file_name().to_string_lossy().into_owned())
        };
        entries.map(name).collect::<std::io::Result<Vec<_>>>()
    };
    match std::fs::read_dir(dir).and_then(names) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.with_context(|| format!("cannot use the data directory {}", dir.display())),
    }
}

/// The guest image and the lab, side by side. Dropping this ends both.
async fn start(args: &Args, claim: Claim, dir: &Path, progress: &Progress) -> Result<Lab> {
    let image_dir = dir.join("images");
    let lease = ["--dhcp-lease-time".to_owned(), args.dhcp_lease_time.to_string()];
    let emulation = ["--emulation".to_owned(), args.emulation.clone()];
    let config = Config {
        id: Layout::at(dir).id,
        dir: dir.to_owned(),
        nodes: args.nodes,
        api: Api::Embedded { port: args.api_port, reviews: true },
        binary: std::env::current_exe().context("cannot find the berth program itself")?,
        agent_args: [emulation, lease.clone()].concat(),
        controllers: 1,
        controller_args: [
            lease.to_vec(),
            [lab::SUBRESOURCES, lab::UPLOADS].map(str::to_owned).to_vec(),
        ]
        .concat(),
        ranges: Vec::new(),
        image_dir: image_dir.clone(),
        hypervisor: true,
        control_groups: true,
        progress: Some(progress.sender()),
    };
    // In this order they are dropped, too: the script cleans up behind itself.
    match tokio::join!(image::build(dir, &image_dir, progress), Lab::up_in(claim, config)) {
        (Ok(()), Ok(lab)) => Ok(lab),
        (Err(error), Ok(lab)) => {
            lab.down().await;
            Err(error)
        }
        // Its end has taken the script with it.
        (_, Err(error)) => Err(error),
    }
}

/// Creates what is absent, waits for the VMs, shows them, and stays.
async fn serve(args: &Args, lab: &Lab, documents: &[Document], progress: &Progress) -> Result<()> {
    let client = lab.client().await?;
    let began = SystemTime::now();
    apply::create(&client, documents, progress).await?;
    let applied = documents.iter().filter_map(|document| Machine::name_of(&document.object));
    let mut machines = Machines::watch(client.clone(), lab, applied.collect(), began);
    let limit = Duration::from_secs(args.timeout);
    let mut outcome = machines.wait_until_running(limit, progress).await;
    let all = machines.all().await?;
    show(format_args!("\n{}", table::render(&all)));
    let (wanted, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.is_to_run);
    if outcome.is_ok() && args.exit_when_ready {
        outcome = verify::verify(lab, &wanted, limit, progress).await;
    }
    if !others.is_empty() {
        progress.say(&format!("not to run, by their run strategy: {}", names(&others)));
    }
    if let Err(error) = outcome {
        let error = error.context(diagnosis(&client, lab, documents).await);
        if args.exit_when_ready {
            return Err(error);
        }
        progress.say(&format!("not everything is ready: {error:#}"));
    } else if args.exit_when_ready {
        progress.say(&match wanted.len() {
            0 => "no VM is to run; the rest is up".to_owned(),
            _ => format!(
                "every VM that is to run does, has its addresses inside, and reaches the others: {}",
                names(&wanted)
            ),
        });
        return Ok(());
    }
    hints(lab, wanted.first());
    std::future::pending().await
}

fn names(machines: &[Machine]) -> String {
    machines.iter().map(|one| one.name.to_string()).collect::<Vec<_>>().join(", ")
}

/// What the objects complain about, the last events, and where to read on.
async fn diagnosis(client: &kube::Client, lab: &Lab, documents: &[Document]) -> String {
    let mut lines = vec!["the VMs did not get ready".to_owned()];
    for document in documents {
        lines.extend(manifests::complaints(client, &document.object).await.unwrap_or_default());
    }
    let events = machines::last_events(client, 8).await;
    lines.extend(events.into_iter().map(|event| format!("event: {event}")));
    lines.push(format!("logs: {}", lab.layout().dir.join("log").display()));
    lines.join("\n  ")
}

/// What a person may do next; `guest` is a VM to look into.
fn hints(lab: &Lab, guest: Option<&Machine>) {
    let dir = lab.layout().dir.display().to_string();
    let node = lab.layout().node(1);
    let mut lines = vec![
        "Look around from another shell, as root:".to_owned(),
        format!("  export KUBECONFIG={}", lab.kubeconfig().unwrap_or_default().display()),
        format!("  kubectl get vpc,subnet,ip,vm,vmi{}", kubectl_advice()),
        format!("  ip netns exec {} ovs-vsctl --db={} show", node.namespace, node.ovsdb()),
        format!("  ovn-nbctl --db={} show", lab.layout().northbound()),
    ];
    if let Some(Name { namespace, name }) = guest.map(|guest| &guest.name) {
        let exe = std::env::current_exe().unwrap_or_else(|_| "berth".into());
        let option = |usual: &str, option: &str, value: &str| {
            if value == usual { String::new() } else { format!(" {option} {value}") }
        };
        let namespace = option("default", "-n", namespace);
        let data = option(lab::DEFAULT_DIR, "--data-dir", &dir);
        let exe = exe.display();
        lines.push(format!(
            "A shell in a guest:   {exe} console {name}{namespace}{data}   (Ctrl-] leaves)"
        ));
    }
    lines.push(format!("Ctrl-C stops everything; the data stay in {dir}.\n"));
    show(format_args!("{}", lines.join("\n")));
}

/// What is to be said about the kubectl of this machine.
fn kubectl_advice() -> &'static str {
    let asked = std::process::Command::new("kubectl")
        .args(["version", "--client", "--output=json"])
        .stderr(Stdio::null())
        .output();
    match asked {
        Err(_) => "      (kubectl is not installed: get 1.28 or newer)",
        Ok(output) if is_too_old(&output.stdout) => {
            "      (the kubectl here is too old: get 1.28 or newer)"
        }
        Ok(_) => "",
    }
}

/// Whether `kubectl version --client --output=json` names one before 1.28; one that
/// says something else is given the benefit of the doubt.
fn is_too_old(version: &[u8]) -> bool {
    let Ok(version) = serde_json::from_slice::<serde_json::Value>(version) else { return false };
    let number = |field: &str| {
        let text = version["clientVersion"][field].as_str()?;
        text.trim_end_matches('+').parse::<u32>().ok()
    };
    number("major").zip(number("minor")).is_some_and(|version| version < (1, 28))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubectl_before_1_28_is_too_old() {
        let json =
            |minor: &str| format!(r#"{{"clientVersion": {{"major": "1", "minor": "{minor}"}}}}"#);
        assert!(is_too_old(json("27").as_bytes()) && is_too_old(json("9+").as_bytes()));
        assert!(!is_too_old(json("28").as_bytes()) && !is_too_old(json("36").as_bytes()));
        assert!(!is_too_old(b"unknown flag"));
    }
}
