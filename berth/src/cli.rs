//! The command line of `berth`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::lab::{self, Layout};
use crate::{admission, console, dhcp, logs, up};

/// Addresses and networks for virtual machines: Kube-OVN's API and KubeVirt's,
/// on OVN and libvirt.
///
/// `berth up` runs everything on this host and is the place to start; the other
/// commands are its parts, and what looks inside.
#[derive(Debug, Parser)]
#[command(name = "berth", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(Box<up::Args>),
    Console(console::Args),
    Logs(logs::Args),
    /// Removes what a killed `berth up` left on the host: processes, namespaces,
    /// interfaces. The data stay, and nothing happens while it still runs.
    Clean {
        /// The data directory it was started with.
        #[arg(long, value_name = "DIR", default_value = lab::DEFAULT_DIR)]
        data_dir: PathBuf,
    },
    /// Serves the embedded Kubernetes API.
    Apiserver(admission::ServerArgs),
    /// Turns cluster state into addresses, OVN rows and placed VMs.
    Controller(Box<controller::Args>),
    /// Runs the VMs of one node.
    Agent(Box<agent::Args>),
    Dhcp(dhcp::Args),
}

impl Cli {
    /// Runs the chosen command until it ends, or until SIGINT, SIGTERM or SIGHUP.
    ///
    /// # Errors
    ///
    /// Those of the command.
    pub async fn run(self) -> Result<()> {
        // A console shows what a guest says and `up` what a person wants to know;
        // their logs are for trouble only.
        let quiet = matches!(
            self.command,
            Command::Up(_) | Command::Console(_) | Command::Logs(_) | Command::Clean { .. }
        );
        log(if quiet { "warn,kube_client=off" } else { "info" });
        let shutdown = stop_on_signal()?;
        match self.command {
            Command::Up(args) => up::run(*args, shutdown).await,
            Command::Console(args) => {
                shutdown.run_until_cancelled(console::run(args)).await.unwrap_or(Ok(()))
            }
            Command::Logs(args) => {
                shutdown.run_until_cancelled(logs::run(args)).await.unwrap_or(Ok(()))
            }
            Command::Clean { data_dir } => {
                let swept = lab::clean(&Layout::at(&std::path::absolute(data_dir)?)).await?;
                println!(
                    "removed {} processes and {} namespaces",
                    swept.processes, swept.namespaces
                );
                Ok(())
            }
            Command::Apiserver(args) => admission::run(args, shutdown).await,
            Command::Controller(args) => controller::run(*args, shutdown).await,
            Command::Agent(args) => agent::run(*args, shutdown).await,
            Command::Dhcp(args) => dhcp::run(args, shutdown).await,
        }
    }
}

fn log(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

/// Ctrl-C, an orderly kill, and the end of the terminal: for whoever has processes
/// and namespaces to remove, the last is no reason to leave them.
fn stop_on_signal() -> Result<CancellationToken> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Under nohup the end of the terminal is to change nothing.
    let mut hangup =
        if ignores_hangup(&status) { None } else { Some(signal(SignalKind::hangup())?) };
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hung_up => {}
        }
        stop.cancel();
    });
    Ok(shutdown)
}

/// Whether SIGHUP is among the ignored signals of a `/proc/PID/status`: a mask in
/// hexadecimal, signal 1 in its lowest bit (proc(5)).
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn nohup_is_seen_in_the_mask_of_ignored_signals() {
        assert!(ignores_hangup("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
    }
}
