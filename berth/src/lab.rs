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
mod certificates;
mod cgroups;
mod claim;
mod command;
mod config;
mod fabric;
mod facts;
mod faults;
mod files;
mod layout;
mod libvirt;
mod namespace;
mod news;
mod node;
mod portal;
mod process;
mod root;
mod sweep;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::{join_all, try_join_all};

pub use api::{SUBRESOURCES, UPLOADS, client};
use certificates::Authorities;
pub use cgroups::directories as control_groups;
pub use claim::{Claim, Taken};
pub use config::{Api, Config};
pub use facts::Facts;
use files::{passable_dir, private_dir};
pub use layout::{DEFAULT_DIR, LONGEST_DIR, Layout, NodeLayout, check_dir, check_entries};
use news::News;
use portal::Portal;
use process::Process;
pub use process::State;
pub use root::need_root;
pub use sweep::{MARKER, Swept, sweep};

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
    news: News,
    /// See [`Lab::earlier_instances`].
    earlier: BTreeSet<String>,
    /// As long as the lab exists, nobody else has its directory.
    _claim: Claim,
    down: bool,
}

impl Lab {
    /// Brings a lab up, up to agents that have registered their nodes.
    ///
    /// # Errors
    ///
    /// When it cannot; everything that was started is gone by then.
    pub async fn up(config: Config) -> Result<Self> {
        need_root("a lab of network namespaces")?;
        let layout = Layout { id: config.id.clone(), dir: config.dir.clone() };
        Self::up_in(Claim::on(&layout).await?, config).await
    }

    /// [`Lab::up`], for whoever has claimed the directory already. From the first
    /// time this is polled, dropping it removes all that it has started.
    ///
    /// # Errors
    ///
    /// As for [`Lab::up`].
    pub async fn up_in(claim: Claim, config: Config) -> Result<Self> {
        check_dir(&config.dir).map_err(anyhow::Error::msg)?;
        ensure!((1..=9).contains(&config.nodes), "a lab has 1 to 9 nodes, not {}", config.nodes);
        ensure!(config.dir.to_str().is_some(), "the data directory must be UTF-8");
        let layout = claim.layout.clone();
        passable_dir(&layout.dir)?;
        private_dir(&layout.dir.join("log"))?;
        let mut lab = Self {
            news: News::to(config.progress.clone()),
            config,
            layout,
            processes: Vec::new(),
            portals: Vec::new(),
            earlier: BTreeSet::new(),
            _claim: claim,
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
        if namespace::directory_is_of_labs() {
            std::fs::write(layout.netns_mount_marker(), "")?;
        }
        self.write_facts()?;

        self.start_api().await?;
        fabric::lay(&layout).await?;
        let nodes = self.nodes();
        // Nodes do not wait for central: ovn-controller asks until it answers.
        let central = central::start(&layout, &self.news);
        let authorities = self.config.hypervisor.then(Authorities::new).transpose()?;
        let in_groups = self.config.control_groups;
        let nodes_up =
            try_join_all(nodes.iter().map(|node| {
                node::start(&layout, node, authorities.as_ref(), in_groups, &self.news)
            }));
        let (central, on_nodes) = tokio::try_join!(central, nodes_up)?;
        self.processes.extend(central);
        self.processes.extend(on_nodes.into_iter().flatten());
        let hypervisor = if self.config.hypervisor { ", libvirtd" } else { "" };
        self.news
            .say(format!("OVN central; on each node Open vSwitch, ovn-controller{hypervisor}"));
        self.start_ours().await
    }

    async fn start_api(&mut self) -> Result<()> {
        if let Api::Embedded { port, reviews } = self.config.api {
            // Said here, or else the server would try again and again.
            std::net::TcpListener::bind(("127.0.0.1", port)).with_context(|| {
                format!(
                    "the API cannot have port {port} of 127.0.0.1: choose another with --api-port"
                )
            })?;
            let server = api::server(&self.layout, &self.config, port, reviews);
            let server = Process::start(server, &self.news);
            let ready = server.ready(READY).await;
            self.processes.push(server);
            ready?;
            self.news.say(format!("Kubernetes API on 127.0.0.1:{port}"));
        }
        Ok(())
    }

    /// Controller and agents, if there is an API for them.
    async fn start_ours(&mut self) -> Result<()> {
        let Some(kubeconfig) = self.kubeconfig() else { return Ok(()) };
        let client = api::client(&kubeconfig).await?;
        if let Api::Embedded { .. } = self.config.api {
            api::check_known_nodes(&client, &self.nodes()).await?;
            self.earlier = api::running_instances(&client).await?;
        }
        let applied = crate::manifests::apply_crds(&client).await?;
        crate::manifests::apply_storage_class(&client).await?;
        self.news.say(format!("{applied} CustomResourceDefinitions"));
        let port = api::port(&kubeconfig)?;
        for node in self.nodes() {
            self.portals.push(Portal::open(&node.namespace, port).await?);
        }
        for controller in api::controllers(&self.layout, &self.config, &kubeconfig) {
            self.processes.push(Process::start(controller, &self.news));
        }
        for node in self.nodes() {
            let agent = api::agent(&self.layout, &self.config, &node, &kubeconfig);
            self.processes.push(Process::start(agent, &self.news));
        }
        api::wait_for_nodes(&client, &self.nodes(), READY)
            .await
            .with_context(|| format!("logs are in {}", self.layout.dir.join("log").display()))?;
        self.news.say("berth-controller and the agents: every node is registered".to_owned());
        Ok(())
    }

    /// Ends everything in order: ours, the guests, the daemons, the namespaces.
    pub async fn down(mut self) -> Swept {
        let is_ours = |process: &&Process| {
            process.name().starts_with(api::CONTROLLER) || process.name().ends_with("/agent")
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
        let swept = sweep::sweep_aside(&self.layout).await;
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

    /// The uids of the instances that were `Running` by their status before this
    /// lab had an agent. Their guests ended with an earlier lab, and an instance
    /// that ran once never runs again: while the status says so, it is out of date.
    #[must_use]
    pub const fn earlier_instances(&self) -> &BTreeSet<String> {
        &self.earlier
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
            // Supervisors first, or they would start again what is ended here. Each
            // may be starting something on another thread this very moment.
            self.processes.iter().for_each(Process::abandon);
            sweep::wait_until(Duration::from_secs(2), || {
                self.processes.iter().all(Process::is_abandoned)
            });
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
    need_root("removing processes and namespaces")?;
    Ok(Claim::on(layout).await.context("nothing was removed")?.swept)
}
