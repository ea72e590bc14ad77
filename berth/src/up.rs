//! `berth up`: the whole system on one host, until Ctrl-C.

mod admin;
mod image;
mod machines;
mod progress;
mod table;
mod verify;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use kube::api::DynamicObject;
use tokio_util::sync::CancellationToken;

use crate::lab::{self, Api, Config, Lab, Layout};
use crate::manifests::{self, Outcome};
use machines::{Machine, Machines};
use progress::Progress;

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

    /// Where everything is kept.
    #[arg(long, value_name = "DIR", default_value = lab::DEFAULT_DIR)]
    pub data_dir: PathBuf,

    /// Create the objects of these files instead of the quick start's.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub apply: Vec<PathBuf>,

    /// End with status 0 once every VM that was asked for runs, has its addresses
    /// inside and pings the others of its subnet; else with status 1 and the
    /// reason.
    #[arg(long)]
    pub exit_when_ready: bool,

    /// Seconds that the VMs have to get ready.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    pub timeout: u64,

    /// Port of the Kubernetes API on the host's loopback.
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    pub api_port: u16,

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
    if !nix::unistd::geteuid().is_root() {
        bail!("network namespaces need root: run this with sudo");
    }
    let mut objects = Vec::new();
    for text in texts(&args.apply)? {
        objects.extend(manifests::parse(&text)?);
    }
    let progress = Progress::start();
    let dir = std::path::absolute(&args.data_dir)?;
    lab::check_dir(&dir).map_err(anyhow::Error::msg)?;
    let nodes = if args.nodes == 1 { "1 node".to_owned() } else { format!("{} nodes", args.nodes) };
    progress.say(&format!("{nodes}, data in {}", dir.display()));

    let Some(started) = shutdown.run_until_cancelled(start(&args, &dir, &progress)).await else {
        progress.say("stopped before it was up");
        return Ok(());
    };
    let lab = started?;
    let outcome = shutdown.run_until_cancelled(serve(&args, &lab, objects, &progress)).await;
    progress.say("stopping: guests, daemons, namespaces");
    lab.down().await;
    progress.say(&format!("stopped; nothing is left but {}", dir.display()));
    outcome.unwrap_or(Ok(()))
}

/// What to create: the named files, or the quick start.
fn texts(files: &[PathBuf]) -> Result<Vec<String>> {
    if files.is_empty() {
        return Ok(vec![manifests::QUICKSTART.to_owned()]);
    }
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
    };
    files.iter().map(read).collect()
}

/// The guest image and the lab, side by side.
async fn start(args: &Args, dir: &Path, progress: &Progress) -> Result<Lab> {
    let image_dir = dir.join("images");
    let config = Config {
        id: Layout::at(dir).id,
        dir: dir.to_owned(),
        nodes: args.nodes,
        api: Api::Embedded { port: args.api_port },
        binary: std::env::current_exe().context("cannot find the berth program itself")?,
        agent_args: vec!["--emulation".to_owned(), args.emulation.clone()],
        controller_args: Vec::new(),
        image_dir: image_dir.clone(),
        hypervisor: true,
        progress: Some(progress.sender()),
    };
    let (lab, image) = tokio::join!(Lab::up(config), image::build(dir, &image_dir, progress));
    match (lab, image) {
        (Ok(lab), Ok(())) => Ok(lab),
        (Ok(lab), Err(error)) => {
            lab.down().await;
            Err(error)
        }
        (Err(error), _) => Err(error),
    }
}

/// Creates what is absent, waits for the VMs, shows them, and stays.
async fn serve(
    args: &Args,
    lab: &Lab,
    objects: Vec<DynamicObject>,
    progress: &Progress,
) -> Result<()> {
    let client = lab.client().await?;
    let began = SystemTime::now();
    create(&client, &objects, progress).await?;
    let wanted: Vec<_> = objects.iter().filter_map(Machine::name_of).collect();
    let mut machines = Machines::watch(client.clone(), lab.nodes(), began);
    let limit = Duration::from_secs(args.timeout);
    let mut outcome = machines.wait_until_running(&wanted, limit, progress).await;
    println!("\n{}", table::render(&machines.all().await?));
    if outcome.is_ok() && args.exit_when_ready {
        let chosen = machines.named(&wanted).await?;
        outcome = verify::verify(lab, &chosen, limit, progress).await;
    }
    if let Err(error) = outcome {
        let error = error.context(diagnosis(&client, lab, &objects).await);
        if args.exit_when_ready {
            return Err(error);
        }
        progress.say(&format!("not everything is ready: {error:#}"));
    } else if args.exit_when_ready {
        progress.say("every VM runs, has its addresses inside, and reaches the others");
        return Ok(());
    }
    hints(lab);
    std::future::pending().await
}

async fn create(
    client: &kube::Client,
    objects: &[DynamicObject],
    progress: &Progress,
) -> Result<()> {
    for object in objects {
        let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
        let name = object.metadata.name.as_deref().unwrap_or_default();
        match manifests::create_if_absent(client, object).await? {
            Outcome::Created => progress.say(&format!("created {kind} {name}")),
            Outcome::Existed => progress.say(&format!("{kind} {name} is there already")),
        }
    }
    Ok(())
}

/// What the objects complain about, the last events, and where to read on.
async fn diagnosis(client: &kube::Client, lab: &Lab, objects: &[DynamicObject]) -> String {
    let mut lines = vec!["the VMs did not get ready".to_owned()];
    for object in objects {
        lines.extend(manifests::complaints(client, object).await.unwrap_or_default());
    }
    let events = machines::last_events(client, 8).await;
    lines.extend(events.into_iter().map(|event| format!("event: {event}")));
    lines.push(format!("logs: {}", lab.layout().dir.join("log").display()));
    lines.join("\n  ")
}

/// What a person may do next.
fn hints(lab: &Lab) {
    let kubeconfig = lab.kubeconfig().unwrap_or_default();
    let kubectl = std::process::Command::new("kubectl")
        .args(["version", "--client"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    println!("Look around from another shell, as root:");
    println!("  export KUBECONFIG={}", kubeconfig.display());
    println!(
        "  kubectl get vpc,subnet,ip,vm,vmi{}",
        if kubectl { "" } else { "      (needs kubectl 1.28 or newer)" }
    );
    println!(
        "  ip netns exec {} ovs-vsctl --db={} show",
        lab.layout().node(1).namespace,
        lab.layout().node(1).ovsdb()
    );
    println!("  ovn-nbctl --db={} show", lab.layout().northbound());
    let exe = std::env::current_exe().unwrap_or_else(|_| "berth".into());
    let dir = &lab.layout().dir;
    let data = if dir == Path::new(lab::DEFAULT_DIR) {
        String::new()
    } else {
        format!(" --data-dir {}", dir.display())
    };
    println!("A console in a guest:   {} console web{data}   (Ctrl-] leaves)", exe.display());
    println!("Ctrl-C stops everything; the data stay in {}.\n", dir.display());
}
