//! Several nodes on one machine: namespaces joined by a bridge, each with Open
//! vSwitch, OVN and libvirt of its own; OVN central and the API beside them.
//!
//! ```text
//! host        berth-<id>-fab          berth-<id>-n1            berth-<id>-n2
//! apiserver   bridge, ovsdb-nb/sb     ovsdb, vswitchd          the same
//! controller  northd                  ovn-controller
//!                                     libvirtd, agent
//! ```
//!
//! A [`Lab`] owns its world. Leftovers of a killed run go first; every process
//! is supervised and restarted when it dies, as systemd would; [`Lab::down`]
//! leaves nothing but the data directory, and so does dropping it, less gently.
//! The host's own network namespace is never changed.

mod api;
mod central;
mod command;
mod config;
mod fabric;
mod facts;
mod layout;
mod libvirt;
mod locks;
mod namespace;
mod node;
mod portal;
mod process;
mod sweep;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::{join_all, try_join_all};

pub use api::client;
pub use config::{Api, Config};
pub use facts::Facts;
pub use layout::{DEFAULT_DIR, LONGEST_DIR, Layout, NodeLayout, check_dir};
use locks::locks;
use portal::Portal;
use process::Process;
pub use process::State;
pub use sweep::{Swept, sweep};

/// How long a process of ours may take to become ready. Debug builds and two
/// cores full of guests are slow.
const READY: Duration = Duration::from_secs(60);

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    config: Config,
    layout: Layout,
    processes: Vec<Process>,
    portals: Vec<Portal>,
    /// Held as long as the lab exists: one lab per id, one per directory.
    _locks: [UnixListener; 2],
    down: bool,
}

impl Lab {
    /// Brings a lab up, up to agents that have registered their nodes.
    ///
    /// # Errors
    ///
    /// When it cannot; everything that was started is gone by then.
    pub async fn up(config: Config) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "network namespaces need root: run this with sudo"
        );
        check_dir(&config.dir).map_err(anyhow::Error::msg)?;
        ensure!((1..=9).contains(&config.nodes), "a lab has 1 to 9 nodes, not {}", config.nodes);
        ensure!(config.dir.to_str().is_some(), "the data directory must be UTF-8");
        let layout = Layout { id: config.id.clone(), dir: config.dir.clone() };
        let locks = locks(&layout).await?;
        for dir in [layout.dir.clone(), layout.dir.join("log")] {
            std::fs::create_dir_all(&dir)
                .and_then(|()| std::fs::set_permissions(&dir, Permissions::from_mode(0o700)))
                .with_context(|| format!("cannot make {} for root only", dir.display()))?;
        }
        let mut lab = Self {
            config,
            layout,
            processes: Vec::new(),
            portals: Vec::new(),
            _locks: locks,
            down: false,
        };
        match lab.bring_up().await {
            Ok(()) => Ok(lab),
            Err(error) => {
                lab.down().await;
                Err(error)
            }
        }
    }

    async fn bring_up(&mut self) -> Result<()> {
        let layout = self.layout.clone();
        let swept = blocking_sweep(&layout).await?;
        if swept.processes + swept.namespaces > 0 {
            self.report(format!(
                "removed leftovers of an earlier run: {} processes, {} namespaces",
                swept.processes, swept.namespaces
            ));
        }
        if namespace::directory_is_of_labs() {
            std::fs::write(layout.netns_mount_marker(), "")?;
        }
        central::clear_runtime_files(&layout.central())?;
        self.write_facts()?;

        self.start_api().await?;
        fabric::lay(&layout).await?;
        let nodes = self.nodes();
        // Nodes do not wait for central: ovn-controller asks until it answers.
        let central = central::start(&layout);
        let nodes_up = try_join_all(
            nodes.iter().map(|node| node::start(&layout, node, self.config.hypervisor)),
        );
        let (central, on_nodes) = tokio::try_join!(central, nodes_up)?;
        self.processes.extend(central);
        self.processes.extend(on_nodes.into_iter().flatten());
        let hypervisor = if self.config.hypervisor { ", libvirtd" } else { "" };
        self.report(format!("OVN central; on each node Open vSwitch, ovn-controller{hypervisor}"));
        self.start_ours().await
    }

    async fn start_api(&mut self) -> Result<()> {
        if let Api::Embedded { port } = self.config.api {
            // Said here, or else the server would try again and again.
            std::net::TcpListener::bind(("127.0.0.1", port)).with_context(|| {
                format!("port {port} is taken on the host: choose another for the API")
            })?;
            let server = Process::start(api::server(&self.layout, &self.config.binary, port));
            let ready = server.ready(READY).await;
            self.processes.push(server);
            ready?;
            self.report(format!("Kubernetes API on 127.0.0.1:{port}"));
        }
        Ok(())
    }

    /// Controller and agents, if there is an API for them.
    async fn start_ours(&mut self) -> Result<()> {
        let Some(kubeconfig) = self.kubeconfig() else { return Ok(()) };
        let client = api::client(&kubeconfig).await?;
        if let Api::Embedded { .. } = self.config.api {
            api::check_known_nodes(&client, &self.nodes()).await?;
        }
        let applied = crate::manifests::apply_crds(&client).await?;
        self.report(format!("{applied} CustomResourceDefinitions"));
        let port = api::port(&kubeconfig)?;
        for node in self.nodes() {
            self.portals.push(Portal::open(&node.namespace, port).await?);
        }
        self.processes.push(Process::start(api::controller(
            &self.layout,
            &self.config,
            &kubeconfig,
        )));
        for node in self.nodes() {
            self.processes.push(Process::start(api::agent(
                &self.layout,
                &self.config,
                &node,
                &kubeconfig,
            )));
        }
        api::wait_for_nodes(&client, &self.nodes(), READY)
            .await
            .with_context(|| format!("logs are in {}", self.layout.dir.join("log").display()))?;
        self.report("berth-controller and the agents: every node is registered".to_owned());
        Ok(())
    }

    /// Ends everything in order: ours, the guests, the daemons, the namespaces.
    pub async fn down(mut self) -> Swept {
        let is_ours = |process: &&Process| {
            process.name() == "controller" || process.name().ends_with("/agent")
        };
        join_all(self.processes.iter().filter(is_ours).map(Process::stop)).await;
        for outcome in join_all(self.nodes_with_libvirt().iter().map(libvirt::end_guests)).await {
            if let Err(error) = outcome {
                tracing::warn!(error = format!("{error:#}"), "Guests could not be ended in order");
            }
        }
        // OVN and libvirt first, while what they talk to still answers.
        let is_client = |process: &&Process| {
            ["/libvirtd", "/ovn-controller", "northd"]
                .iter()
                .any(|end| process.name().ends_with(end))
        };
        join_all(self.processes.iter().filter(is_client).map(Process::stop)).await;
        join_all(self.processes.iter().map(Process::stop)).await;
        self.portals.clear();
        let swept = blocking_sweep(&self.layout).await.unwrap_or_default();
        self.down = true;
        swept
    }

    /// Lets go of everything without ending anything, as being killed does.
    pub fn abandon(mut self) {
        self.down = true;
    }

    fn nodes_with_libvirt(&self) -> Vec<NodeLayout> {
        let runs = |node: &NodeLayout| {
            self.find(&node.process("libvirtd")).is_ok_and(|process| process.pid().is_some())
        };
        self.nodes().into_iter().filter(runs).collect()
    }

    /// Names and paths.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The nodes, in order.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeLayout> {
        (1..=self.config.nodes).map(|number| self.layout.node(number)).collect()
    }

    /// How to reach the API, if there is one. The same file serves inside the
    /// nodes.
    #[must_use]
    pub fn kubeconfig(&self) -> Option<PathBuf> {
        match &self.config.api {
            Api::None => None,
            Api::Embedded { .. } => Some(self.layout.api().join("kubeconfig")),
            Api::External { kubeconfig } => Some(kubeconfig.clone()),
        }
    }

    /// A client of the API.
    ///
    /// # Errors
    ///
    /// When there is none, or its kubeconfig cannot be used.
    pub async fn client(&self) -> Result<kube::Client> {
        api::client(&self.kubeconfig().context("this lab has no API")?).await
    }

    /// Runs a command inside a node's namespace and returns what it printed.
    ///
    /// # Errors
    ///
    /// When it cannot be started or fails.
    pub async fn exec(&self, node: u8, words: &[&str]) -> Result<String> {
        namespace::exec(&self.layout.node(node).namespace, words).await
    }

    /// The names of all processes: `controller`, `n1/agent`, ...
    pub fn process_names(&self) -> impl Iterator<Item = &str> {
        self.processes.iter().map(Process::name)
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid_of(&self, process: &str) -> Option<i32> {
        self.find(process).ok().and_then(Process::pid)
    }

    /// What a process is doing.
    #[must_use]
    pub fn state_of(&self, process: &str) -> Option<State> {
        self.find(process).ok().map(Process::state)
    }

    /// Kills a process as a fault would (SIGKILL); it is started again. Returns
    /// the id it had.
    ///
    /// # Errors
    ///
    /// When there is no such process or it does not run.
    pub fn kill(&self, process: &str) -> Result<i32> {
        self.find(process)?.kill()
    }

    /// [`Lab::kill`] for the agent of a node.
    ///
    /// # Errors
    ///
    /// As for [`Lab::kill`].
    pub fn kill_agent(&self, node: u8) -> Result<i32> {
        self.kill(&self.layout.node(node).process("agent"))
    }

    /// Stops a process on purpose (SIGTERM, then SIGKILL); it stays away until
    /// [`Lab::start`].
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub async fn stop(&self, process: &str) -> Result<()> {
        self.find(process)?.stop().await;
        Ok(())
    }

    /// Starts a stopped process again and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When there is no such process or it does not become ready.
    pub async fn start(&self, process: &str) -> Result<()> {
        let process = self.find(process)?;
        process.resume().await;
        process.ready(READY).await
    }

    /// Waits until a process runs with another id than `before`.
    ///
    /// # Errors
    ///
    /// When there is no such process, or it does not come back in time.
    pub async fn restarted(&self, process: &str, before: i32, limit: Duration) -> Result<()> {
        let process = self.find(process)?;
        let back = async {
            while !matches!(process.state(), State::Running { pid } if pid != before) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(limit, back).await {
            Ok(()) => Ok(()),
            Err(_) => bail!("{} has not come back within {} s", process.name(), limit.as_secs()),
        }
    }

    fn find(&self, name: &str) -> Result<&Process> {
        self.processes
            .iter()
            .find(|process| process.name() == name)
            .with_context(|| format!("this lab has no process {name:?}"))
    }

    fn report(&self, line: String) {
        tracing::debug!(line, "Progress");
        if let Some(progress) = &self.config.progress {
            let _ = progress.send(line);
        }
    }

    /// Tells a second shell what runs here.
    fn write_facts(&self) -> Result<()> {
        let facts = Facts {
            id: self.layout.id.clone(),
            pid: std::process::id(),
            nodes: self.config.nodes,
            kubeconfig: self.kubeconfig(),
        };
        Ok(std::fs::write(self.layout.facts(), serde_json::to_vec_pretty(&facts)?)?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.down {
            // Supervisors first, or they would start again what is ended here.
            self.processes.clear();
            self.portals.clear();
            sweep(&self.layout);
        }
    }
}

/// Removes what a killed lab left on the host; its data stay.
///
/// # Errors
///
/// When the lab still runs.
pub async fn clean(layout: &Layout) -> Result<Swept> {
    ensure!(nix::unistd::geteuid().is_root(), "removing namespaces needs root: run this with sudo");
    let _locks = locks(layout).await?;
    blocking_sweep(layout).await
}

async fn blocking_sweep(layout: &Layout) -> Result<Swept> {
    let layout = layout.clone();
    tokio::task::spawn_blocking(move || sweep(&layout)).await.context("the clean-up has panicked")
}
