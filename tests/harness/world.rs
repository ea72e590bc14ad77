//! The whole system: an API of either flavour, a lab of two nodes, controller
//! and agents. With guests (libvirt and QEMU), or with the fake hypervisor.

mod counted;
mod guests;
mod node;
mod outside;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use berth::lab::{
    Api, Config, Lab, Layout, NodeLayout, SUBRESOURCES, UPLOADS, control_groups, sweep,
};
use serde_json::Value;

use self::outside::Outside;
use crate::cluster::{Cluster, Flavour};
use crate::kinds::{IP, VM, VMI};
use crate::kube::free_port;
use crate::northbound::{Northbound, Southbound};
use crate::process::tail;
use crate::scratch::Scratch;
use crate::{berth_binary, eventually, guest_image, registry, same, suite};

/// From a VM's creation to Running, on a busy machine with two cores.
pub const START: Duration = Duration::from_secs(60);

/// How long traffic may take to flow, or to end, after everything says so.
const REACH: Duration = Duration::from_secs(30);

/// How long a killed process may take to be back.
const BACK: Duration = Duration::from_secs(30);

/// Which world.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Its API.
    pub flavour: Flavour,
    /// Whether VMs are QEMU processes, or only written down by the agent.
    pub guests: bool,
    /// Whether the API refuses what the controller would not serve.
    pub reviews: bool,
}

/// The networks of the cluster's Services.
const SERVICES: &str = "10.96.0.0/12";

/// A world in detail.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which world.
    pub choice: Choice,
    /// How many nodes.
    pub nodes: u8,
    /// Whether kube-apiserver writes down who asks it what.
    pub audit: bool,
    /// How many controllers.
    pub controllers: u8,
    /// Further arguments of every controller.
    pub controller_args: Vec<String>,
    /// Further arguments of every agent.
    pub agent_args: Vec<String>,
    /// Whether guests are kept to their limits and shares.
    pub control_groups: bool,
}

impl Setup {
    /// What scenarios use: two nodes; addresses rest shortly where no guest holds on to them.
    #[must_use]
    pub fn of(choice: Choice) -> Self {
        let rest: &[&str] = if choice.guests { &[] } else { &["--ip-quarantine", "5"] };
        let mut controller_args: Vec<String> = rest.iter().copied().map(str::to_owned).collect();
        if choice.reviews && choice.flavour == Flavour::Real {
            // Our own API looks itself. Any free port, which it then tells the API.
            controller_args.push("--webhook-listen=127.0.0.1:0".to_owned());
        }
        controller_args.extend([SUBRESOURCES, UPLOADS].map(str::to_owned));
        if choice.guests && choice.flavour == Flavour::Real {
            // No kubelet is there to run it. Our own API knows no budgets.
            controller_args.push("--drain-image=pause:3.10".to_owned());
        }
        let agent_args = Vec::new();
        Self {
            choice,
            nodes: 2,
            audit: false,
            controllers: 1,
            controller_args,
            agent_args,
            control_groups: false,
        }
    }
}

/// A part of the system that can be killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// `berth controller`.
    Controller,
    /// `berth agent` of one node.
    Agent(u8),
    /// The ovsdb-server of the northbound database.
    Northbound,
    /// The ovsdb-server of the southbound database.
    Southbound,
    /// ovn-northd.
    Northd,
    /// The Kubernetes API: ours, or kube-apiserver.
    Api,
    /// A daemon of a node that is not ours: `ovsdb`, `vswitchd`, `ovn-controller`,
    /// `libvirtd`.
    Daemon(u8, &'static str),
}

/// What the IP object of a VM says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// IPv4 address, or empty.
    pub v4: String,
    /// IPv6 address, or empty.
    pub v6: String,
    /// Ethernet address.
    pub mac: String,
}

/// A running system.
#[derive(Debug)]
pub struct World {
    /// Its API.
    pub cluster: Cluster,
    lab: Lab,
    outside: Outside,
    /// Where the controller tells its figures, if there is one and no more.
    figures: Option<u16>,
}

impl World {
    /// Brings it all up, nodes registered.
    ///
    /// # Errors
    /// When it does not come up; logs are kept.
    pub async fn with(setup: Setup) -> anyhow::Result<Self> {
        let Setup {
            choice,
            nodes,
            audit,
            controllers,
            mut controller_args,
            agent_args,
            control_groups,
        } = setup;
        let figures = if controllers == 1 { Some(free_port()?) } else { None };
        controller_args.extend(figures.map(|port| format!("--metrics-listen=127.0.0.1:{port}")));
        let outside = Outside::seen().await?;
        let kind = if choice.guests { "lab" } else { "fake" };
        let mut scratch = Scratch::new(kind)?;
        let external = match choice.flavour {
            Flavour::Embedded => None,
            Flavour::Real => Some(Cluster::real(audit).await?),
        };
        let api = match &external {
            None => Api::Embedded { port: free_port()?, reviews: choice.reviews },
            Some(cluster) => Api::External { kubeconfig: cluster.kubeconfig().to_owned() },
        };
        let fake: &[&str] = if choice.guests { &[] } else { &["--hypervisor", "fake"] };
        let config = Config {
            // What `berth clean` would look for there.
            id: Layout::at(scratch.path()).id,
            dir: scratch.path().to_owned(),
            nodes,
            api,
            binary: berth_binary()?,
            agent_args: fake
                .iter()
                .copied()
                .map(str::to_owned)
                .chain([format!("--insecure-registry={}", registry::HOST)])
                .chain(agent_args)
                .collect(),
            controllers,
            controller_args,
            ranges: vec![format!("--service-cluster-ip-range={SERVICES}")],
            image_dir: if choice.guests { guest_image()? } else { PathBuf::from("/nonexistent") },
            hypervisor: choice.guests,
            control_groups,
            progress: None,
        };
        let lab = scratch.keep_on_error(Lab::up(config).await)?;
        let cluster = match external {
            Some(mut cluster) => {
                cluster.also_keep(scratch);
                cluster
            }
            None => {
                let kubeconfig = lab.kubeconfig().context("the lab has an API")?;
                Cluster::attached(choice.flavour, &kubeconfig, scratch).await?
            }
        };
        Ok(Self { cluster, lab, outside, figures })
    }

    /// The lab under it.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The northbound database.
    #[must_use]
    pub fn northbound(&self) -> Northbound {
        Northbound::at(self.lab.layout().northbound())
    }

    /// The southbound database.
    #[must_use]
    pub fn southbound(&self) -> Southbound {
        Southbound::at(self.lab.layout().southbound())
    }

    /// kill -9. The part comes back by itself; `back` waits for that.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, part: Part) -> anyhow::Result<Killed> {
        if part == Part::Api && self.cluster.flavour() == Flavour::Real {
            self.cluster.kill_api()?;
            return Ok(Killed::RealApi);
        }
        let name = self.process(part);
        let pid = self.lab.kill(&name)?;
        Ok(Killed::Supervised { name, pid })
    }

    /// kill -9, and the part stays away until `back` starts it.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill_for_long(&mut self, part: Part) -> anyhow::Result<Killed> {
        match self.kill(part)? {
            // Nobody else starts that one.
            Killed::RealApi => Ok(Killed::RealApi),
            Killed::Supervised { name, .. } | Killed::Held { name } => {
                self.lab.stop(&name).await?;
                Ok(Killed::Held { name })
            }
        }
    }

    /// Waits until a killed part runs again.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn back(&mut self, killed: Killed) -> anyhow::Result<()> {
        match killed {
            Killed::RealApi => self.cluster.start_api().await,
            Killed::Supervised { name, pid } => self.lab.restarted(&name, pid, BACK).await,
            Killed::Held { name } => self.lab.start(&name).await,
        }
    }

    /// What the lab calls a part.
    fn process(&self, part: Part) -> String {
        match part {
            Part::Api => "apiserver".to_owned(),
            Part::Controller => "controller".to_owned(),
            Part::Agent(node) => self.lab.layout().node(node).process("agent"),
            Part::Northbound => "ovsdb-nb".to_owned(),
            Part::Southbound => "ovsdb-sb".to_owned(),
            Part::Northd => "northd".to_owned(),
            Part::Daemon(node, name) => self.lab.layout().node(node).process(name),
        }
    }

    /// Waits until a VM runs; returns its VMI.
    ///
    /// # Errors
    /// When it does not in time; the VMI as it is then.
    pub async fn running(&self, vm: &str) -> anyhow::Result<Value> {
        eventually(&format!("{vm} to be Running"), START, async || {
            let instance = self.cluster.get(VMI, vm).await?;
            // Not that of an earlier VM of this name.
            let machine = self.cluster.get(VM, vm).await?;
            same(
                "the instance's owner",
                &instance["metadata"]["ownerReferences"][0]["uid"],
                &machine["metadata"]["uid"],
            )?;
            ensure!(
                instance["status"]["phase"] == "Running"
                    && instance["metadata"]["deletionTimestamp"].is_null(),
                "its instance is {}",
                instance["status"]
            );
            Ok(instance)
        })
        .await
    }

    /// What the IP object of a VM says, if there is one.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn find_place(&self, vm: &str) -> anyhow::Result<Option<Place>> {
        let Some(ip) = self.cluster.find(IP, &port_of(vm)).await? else { return Ok(None) };
        let field = |name: &str| ip["spec"][name].as_str().unwrap_or_default().to_owned();
        let (v4, v6) = (field("v4IpAddress"), field("v6IpAddress"));
        Ok(Some(Place { v4, v6, mac: field("macAddress") }))
    }

    /// Waits until the IP object of a VM is there.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn place(&self, vm: &str) -> anyhow::Result<Place> {
        eventually(&format!("the IP object of {vm}"), START, async || {
            self.find_place(vm).await?.context("there is none")
        })
        .await
    }

    /// The node that a VM runs on.
    ///
    /// # Errors
    /// When it runs nowhere.
    pub async fn node_of(&self, vm: &str) -> anyhow::Result<NodeLayout> {
        let instance = self.cluster.get(VMI, vm).await?;
        let name = instance["status"]["nodeName"].as_str().context("it has no node")?;
        let nodes = self.lab.nodes();
        nodes.into_iter().find(|node| node.name == name).context("no such node")
    }
}

/// What to wait for after a kill.
#[derive(Debug)]
#[must_use = "wait for it with `back`"]
pub enum Killed {
    /// The lab starts it again.
    Supervised {
        /// The process.
        name: String,
        /// The id it had.
        pid: i32,
    },
    /// It is started again by `back`.
    Held {
        /// The process.
        name: String,
    },
    /// The harness starts it again.
    RealApi,
}

/// The port of a VM's first network: IP object, LSP, iface-id.
#[must_use]
pub fn port_of(vm: &str) -> String {
    net::names::port(vm, "default", net::names::DEFAULT_PROVIDER)
}

impl suite::World for World {
    type Choice = Choice;

    fn unavailable(choice: Choice) -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some("network namespaces need root".to_owned());
        }
        choice.flavour.unavailable()
    }

    async fn start(choice: Choice) -> anyhow::Result<Self> {
        Self::with(Setup::of(choice)).await
    }

    async fn explain(&mut self) -> String {
        let kinds = "vpc,subnet,ip,vm,vmi,node,addressblock";
        let seen = match self.cluster.kubectl(&["get", kinds, "-A", "-o", "wide"]).await {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) => format!("{error:#}"),
        };
        let names: Vec<String> = self.lab.process_names().map(str::to_owned).collect();
        let mut text = seen;
        for name in
            names.iter().filter(|name| name.contains("agent") || name.starts_with("controller"))
        {
            let last = tail(&self.lab.layout().log(name), 12);
            text += &format!("\n--- {name}: {:?}\n{last}\n", self.lab.state_of(name));
        }
        let kept = self.cluster.keep();
        text + &format!("\ndata and logs are kept in {}", kept.join(", "))
    }

    async fn finish(self) -> anyhow::Result<()> {
        let Self { cluster, lab, outside, figures: _ } = self;
        let layout = lab.layout().clone();
        let _ = lab.down().await;
        let left = sweep(&layout);
        ensure!(
            left.processes == 0 && left.namespaces == 0,
            "the lab left {} processes and {} namespaces",
            left.processes,
            left.namespaces
        );
        let groups = control_groups(&layout);
        ensure!(groups.is_empty(), "the lab left the control groups {groups:?}");
        drop(cluster);
        let now = Outside::seen().await?;
        ensure!(now == outside, "the host is not as it was: {now:#?}, before {outside:#?}");
        Ok(())
    }
}
