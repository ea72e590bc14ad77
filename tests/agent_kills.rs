//! kill -9 of an agent at each step of a start, of a stop and of a change of hardware. The next
//! one finishes what was begun: the guest is started once, is in its place, and leaves nothing.
//!
//! ```text
//!   start    asked ─ files ─ defined ─ QEMU ─ on the network ─ told
//!   stop     asked ─ QEMU gone ─ files gone ─ forgotten ─ told
//!   a disk   asked ─ in ─ told ─── asked ─ out ─ told
//! ```
//!
//! The agent stands still (SIGSTOP) but for moments of a few milliseconds, between which it is
//! looked at, from outside, how far it came. What it has asked of libvirt goes on meanwhile, as it
//! does when it dies.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use berth::lab::NodeLayout;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::kinds::{SUBNET, VM, VMI, VOLUME, VOLUME_CLAIM, VPC};
use tests::objects::{GUEST_IMAGE, Subnet, Vm, vpc};
use tests::world::{Part, START, World, port_of};
use tests::{eventually, same};

use crate::hotplug::shared_blocks;
use crate::volumes::{Loop, volume_claim};

const NODE: u8 = 2;
const SUBNET_NAME: &str = "steps";
const VM_NAME: &str = "stepped";
const SOON: Duration = Duration::from_secs(60);
/// How long an agent goes on between two looks.
const MOMENT: Duration = Duration::from_millis(3);

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Start {
    Asked,
    Files,
    Defined,
    Runs,
    Joined,
    Told,
}

const STARTS: [Start; 6] =
    [Start::Asked, Start::Files, Start::Defined, Start::Runs, Start::Joined, Start::Told];

#[derive(Clone, Copy, Debug)]
enum Stop {
    Asked,
    Ended,
    Cleaned,
    Forgotten,
    Told,
}

const STOPS: [Stop; 5] = [Stop::Asked, Stop::Ended, Stop::Cleaned, Stop::Forgotten, Stop::Told];

#[derive(Clone, Copy, Debug)]
enum Plug {
    Asked,
    Done,
    Told,
}

const PLUGS: [Plug; 3] = [Plug::Asked, Plug::Done, Plug::Told];

/// An agent that goes on a moment at a time; when this goes, it does as it likes.
struct Stepped(Pid);

impl Stepped {
    fn agent(world: &World, node: &NodeLayout) -> anyhow::Result<Self> {
        let pid = world.lab().pid_of(&node.process("agent")).context("no agent")?;
        let pid = Pid::from_raw(pid);
        kill(pid, Signal::SIGSTOP)?;
        Ok(Self(pid))
    }

    async fn until(
        &self,
        step: impl Debug,
        mut reached: impl AsyncFnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !reached().await? {
            ensure!(begun.elapsed() < SOON, "it never was at {step:?}");
            kill(self.0, Signal::SIGCONT)?;
            tokio::time::sleep(MOMENT).await;
            kill(self.0, Signal::SIGSTOP)?;
        }
        Ok(())
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        // One that was killed goes on in no case.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// What there is of the VM on its node, as files say it.
struct Traces {
    node: NodeLayout,
    domain: String,
    tap: String,
}

impl Traces {
    fn of(world: &World, vm: &str) -> Self {
        Self {
            node: world.lab().layout().node(NODE),
            domain: net::names::domain("default", vm),
            tap: net::names::tap(&port_of(vm)),
        }
    }

    fn files(&self) -> PathBuf {
        self.node.state().join("vms").join(&self.domain)
    }

    /// Libvirt's own file of a domain that it knows.
    fn definition(&self) -> PathBuf {
        self.node.libvirt().join(format!("etc/qemu/{}.xml", self.domain))
    }

    /// Libvirt's own file of a domain that runs.
    fn status(&self) -> PathBuf {
        self.node.libvirt().join(format!("run/qemu/{}.xml", self.domain))
    }

    /// The id of its QEMU, if there is one.
    fn qemu(&self) -> Option<i32> {
        let file = self.node.libvirt().join(format!("run/qemu/{}.pid", self.domain));
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// Whether OVS knows which port its tap is.
    async fn is_joined(&self, world: &World) -> anyhow::Result<bool> {
        let words = ["--if-exists", "get", "Interface", &self.tap, "external_ids"];
        Ok(ovs(world, &words).await?.contains(&port_of(VM_NAME)))
    }
}

async fn ovs(world: &World, words: &[&str]) -> anyhow::Result<String> {
    let db = format!("--db={}", world.lab().layout().node(NODE).ovsdb());
    let all = [&["ovs-vsctl", "--timeout=10", &db][..], words].concat();
    world.lab().exec(NODE, &all).await
}

/// It dies, and is started again at once: who dies often otherwise waits for longer each time.
async fn dies(world: &mut World) -> anyhow::Result<()> {
    let killed = world.kill_for_long(Part::Agent(NODE)).await?;
    world.back(killed).await
}

async fn instance(world: &World) -> anyhow::Result<Option<Value>> {
    world.cluster.find(VMI, VM_NAME).await
}

async fn set(world: &World, strategy: &str) -> anyhow::Result<()> {
    let patch = json!({"spec": {"runStrategy": strategy}});
    world.cluster.merge(VM, VM_NAME, patch).await.map(drop)
}

async fn starts(world: &mut World, step: Start) -> anyhow::Result<()> {
    let traces = Traces::of(world, VM_NAME);
    let agent = Stepped::agent(world, &traces.node)?;
    set(world, "Always").await?;
    let made =
        eventually("an instance", SOON, async || instance(world).await?.context("there is none"))
            .await?;
    agent
        .until(step, async || {
            Ok(match step {
                Start::Asked => true,
                Start::Files => traces.files().is_dir(),
                Start::Defined => traces.definition().exists(),
                Start::Runs => traces.qemu().is_some(),
                Start::Joined => traces.qemu().is_some() && traces.is_joined(world).await?,
                Start::Told => {
                    let now = instance(world).await?.context("it is gone")?;
                    now["status"]["phase"] == "Running"
                }
            })
        })
        .await?;
    let qemu = traces.qemu();
    ensure!(step >= Start::Runs || qemu.is_none(), "its guest runs already");
    dies(world).await?;
    let runs = world.running(VM_NAME).await?;
    same("its instance", &runs["metadata"]["uid"], &made["metadata"]["uid"])?;
    if step >= Start::Runs {
        same("its QEMU", Some(world.qemu(VM_NAME).await?), qemu)?;
    }
    eventually("it to be on the network", SOON, async || {
        ensure!(traces.is_joined(world).await?, "its tap is no port");
        let served = world.agent_ports(&traces.node).await?;
        ensure!(served.iter().any(|one| one["port"] == port_of(VM_NAME)), "{served:?}");
        Ok(())
    })
    .await
}

async fn stops(world: &mut World, step: Stop) -> anyhow::Result<()> {
    let traces = Traces::of(world, VM_NAME);
    let agent = Stepped::agent(world, &traces.node)?;
    set(world, "Halted").await?;
    eventually("the instance to be deleted", SOON, async || {
        let now = instance(world).await?.context("it is gone")?;
        ensure!(!now["metadata"]["deletionTimestamp"].is_null(), "it is not");
        Ok(())
    })
    .await?;
    agent
        .until(step, async || {
            Ok(match step {
                Stop::Asked => true,
                Stop::Ended => !traces.status().exists(),
                Stop::Cleaned => !traces.files().exists(),
                Stop::Forgotten => !traces.definition().exists(),
                Stop::Told => instance(world).await?.is_none(),
            })
        })
        .await?;
    dies(world).await?;
    world.cluster.gone(VMI, VM_NAME, SOON).await?;
    world.nothing_runs_of(VM_NAME, &traces.node).await?;
    world.no_files_of(VM_NAME, &traces.node).await
}

/// The VM's disks with another one that comes and goes, or without.
fn disks(with: bool) -> Value {
    let mut disks = vec![json!({"name": "root", "disk": {"bus": "virtio"}})];
    let mut volumes = vec![json!({"name": "root", "containerDisk": {"image": GUEST_IMAGE}})];
    if with {
        disks.push(json!({"name": "extra", "disk": {"bus": "scsi"}}));
        let claim = json!({"claimName": "extra", "hotpluggable": true});
        volumes.push(json!({"name": "extra", "persistentVolumeClaim": claim}));
    }
    let spec = json!({"domain": {"devices": {"disks": disks}}, "volumes": volumes});
    json!({"spec": {"template": {"spec": spec}}})
}

/// Whether the instance asks for the disk, and what it says of it.
async fn extra(world: &World) -> anyhow::Result<(bool, Option<Value>)> {
    let now = instance(world).await?.context("no instance")?;
    let named = |list: &Value| {
        let mut list = list.as_array().cloned().unwrap_or_default().into_iter();
        list.find(|one| one["name"] == "extra")
    };
    Ok((named(&now["spec"]["volumes"]).is_some(), named(&now["status"]["volumeStatus"])))
}

async fn plugs(world: &mut World, comes: bool, step: Plug) -> anyhow::Result<()> {
    let traces = Traces::of(world, VM_NAME);
    let qemu = world.qemu(VM_NAME).await?;
    let agent = Stepped::agent(world, &traces.node)?;
    world.cluster.merge(VM, VM_NAME, disks(comes)).await?;
    eventually("the instance to ask for it", SOON, async || {
        same("whether it does", extra(world).await?.0, comes)
    })
    .await?;
    let has_it = || -> anyhow::Result<bool> {
        Ok(std::fs::read_to_string(traces.status())?.contains("alias name='ua-extra"))
    };
    let is_told = async || -> anyhow::Result<bool> {
        let said = extra(world).await?.1;
        Ok(if comes { said.is_some_and(|one| one["phase"] == "Ready") } else { said.is_none() })
    };
    agent
        .until(step, async || {
            Ok(match step {
                Plug::Asked => true,
                Plug::Done => has_it()? == comes,
                Plug::Told => is_told().await?,
            })
        })
        .await?;
    dies(world).await?;
    eventually("it to be so, and said", SOON, async || {
        same("whether it has it", has_it()?, comes)?;
        let now = extra(world).await?.1;
        let said = now.as_ref().map(|one| one["phase"].clone());
        same("what is said", said, comes.then(|| json!("Ready")))
    })
    .await?;
    same("its QEMU", world.qemu(VM_NAME).await?, qemu)
}

/// A domain and a port that look like ours and are somebody else's, and a domain that looks
/// like nobody's and is one of ours that has no VM any more.
struct Strangers {
    domain: String,
    tap: String,
}

const LEFT_OVER: &str = "left-over";

impl Strangers {
    async fn come(world: &World) -> anyhow::Result<Self> {
        let domain = net::names::domain("default", "stranger");
        let tap = net::names::tap(&port_of("stranger"));
        let ours = "<metadata><berth:vmi xmlns:berth='https://berth.io/domain/1' \
                    uid='5e0f4b2e-0000-4000-8000-0000000000ff' namespace='default' name='gone'/>\
                    </metadata>";
        for (name, metadata) in [(domain.as_str(), ""), (LEFT_OVER, ours)] {
            let xml = format!(
                "<domain type='qemu'><name>{name}</name>{metadata}<memory>65536</memory>\
                 <os><type>hvm</type></os></domain>"
            );
            let file = world.lab().layout().dir.join(format!("{name}.xml"));
            std::fs::write(&file, xml)?;
            let file = file.to_str().context("no UTF-8")?;
            let node = world.lab().layout().node(NODE);
            world.virsh(&node, &["define", file]).await?;
        }
        let port = format!("external_ids:iface-id={}", port_of("stranger"));
        let set = ["--", "set", "Interface", &tap, "type=internal", &port];
        ovs(world, &[&["add-port", "br-int", &tap][..], &set].concat()).await?;
        Ok(Self { domain, tap })
    }

    /// They are there, a VM of their name comes to nothing and takes nothing along, and of
    /// ours nothing is left.
    async fn stay(&self, world: &World) -> anyhow::Result<()> {
        let node = world.lab().layout().node(NODE);
        eventually("what was ours to be gone", SOON, async || {
            let domains = world.domains(&node).await?;
            ensure!(!domains.contains(LEFT_OVER), "{domains:?}");
            Ok(())
        })
        .await?;
        let vm = Vm::named("stranger").on(SUBNET_NAME).pinned_to("n2").without_grace();
        world.cluster.create(VM, vm.object()).await?;
        eventually("the VM to say why", SOON, async || {
            let vm = world.cluster.get(VM, "stranger").await?;
            let said = vm["status"]["conditions"].to_string();
            ensure!(said.contains(&format!("domain '{}' already exists", self.domain)), "{said}");
            Ok(())
        })
        .await?;
        world.cluster.delete(VM, "stranger").await?;
        world.cluster.gone(VMI, "stranger", SOON).await?;
        world.no_files_of("stranger", &node).await?;
        let domains = world.domains(&node).await?;
        ensure!(domains.contains(&self.domain), "somebody else's domain is gone: {domains:?}");
        let ports = ovs(world, &["list-ports", "br-int"]).await?;
        ensure!(ports.lines().any(|port| port == self.tap), "somebody else's port is gone");
        world.virsh(&node, &["undefine", &self.domain]).await?;
        ovs(world, &["del-port", "br-int", &self.tap]).await.map(drop)
    }
}

async fn make_net(world: &World) -> anyhow::Result<()> {
    if world.cluster.find(VPC, "stairs").await?.is_some() {
        return Ok(());
    }
    world.cluster.create(VPC, vpc("stairs")).await?;
    let subnet = Subnet::named(SUBNET_NAME).in_vpc("stairs").of("10.84.0.0/24,fd84::/64");
    world.cluster.create(SUBNET, subnet.object()).await.map(drop)
}

pub(super) async fn an_agent_may_die_at_each_step_and_the_next_one_ends_what_it_began(
    world: &mut World,
) -> anyhow::Result<()> {
    make_net(world).await?;
    let strangers = Strangers::come(world).await?;
    let vm = Vm::named(VM_NAME).on(SUBNET_NAME).pinned_to("n2").without_grace().halted();
    world.cluster.create(VM, vm.object()).await?;
    let mut place = None;
    let stops_then = STOPS.map(Some).into_iter().chain([None]);
    for (start, stop) in STARTS.into_iter().zip(stops_then) {
        let begun = Instant::now();
        starts(world, start).await.with_context(|| format!("killed at {start:?} of a start"))?;
        let now = world.place(VM_NAME).await?;
        same("its place", &now, place.get_or_insert_with(|| now.clone()))?;
        println!("killed at {start:?} of a start: {:.1?}", begun.elapsed());
        let Some(stop) = stop else { break };
        let begun = Instant::now();
        stops(world, stop).await.with_context(|| format!("killed at {stop:?} of a stop"))?;
        println!("killed at {stop:?} of a stop: {:.1?}", begun.elapsed());
    }
    a_disk_comes_and_goes(world).await?;
    world.cluster.delete(VM, VM_NAME).await?;
    let node = world.lab().layout().node(NODE);
    world.cluster.gone(VMI, VM_NAME, SOON).await?;
    world.nothing_runs_of(VM_NAME, &node).await?;
    world.no_files_of(VM_NAME, &node).await?;
    strangers.stay(world).await
}

async fn a_disk_comes_and_goes(world: &mut World) -> anyhow::Result<()> {
    let file = world.lab().layout().dir.join("stepped-blocks.img");
    std::fs::File::create(&file)?.set_len(16 << 20)?;
    let blocks = Loop::over(&file)?;
    let mut claim = volume_claim("extra", "16Mi", "Block");
    claim["spec"]["accessModes"] = json!(["ReadWriteMany"]);
    world.cluster.create(VOLUME_CLAIM, claim).await?;
    world.cluster.create(VOLUME, shared_blocks(&blocks.device)).await?;
    for step in PLUGS {
        for comes in [true, false] {
            let begun = Instant::now();
            let what = if comes { "a disk that comes" } else { "a disk that goes" };
            plugs(world, comes, step)
                .await
                .with_context(|| format!("killed at {step:?} of {what}"))?;
            println!("killed at {step:?} of {what}: {:.1?}", begun.elapsed());
        }
    }
    world.cluster.delete(VOLUME_CLAIM, "extra").await?;
    world.cluster.delete(VOLUME, "extra").await
}

/// Each strategy, and whether a guest that was lost is started again by it.
const STRATEGIES: [(&str, &str, bool); 4] = [
    ("lost-always", "Always", true),
    ("lost-rerun", "RerunOnFailure", true),
    ("lost-manual", "Manual", false),
    ("lost-once", "Once", false),
];

pub(super) async fn a_node_that_was_restarted_has_its_vms_again_by_their_strategies(
    world: &mut World,
) -> anyhow::Result<()> {
    make_net(world).await?;
    let mut before = Vec::new();
    for (name, strategy, _) in STRATEGIES {
        let first = if strategy == "Manual" { "Always" } else { strategy };
        let vm = Vm::named(name).on(SUBNET_NAME).pinned_to("n2").without_grace().under(first);
        let mut vm = vm.object();
        // What these guests would do is none of this.
        vm["spec"]["template"]["spec"]["startStrategy"] = json!("Paused");
        world.cluster.create(VM, vm).await?;
    }
    for (name, strategy, _) in STRATEGIES {
        let instance = world.running(name).await?;
        let patch = json!({"spec": {"runStrategy": strategy}});
        world.cluster.merge(VM, name, patch).await?;
        let place = world.place(name).await?;
        before.push((instance["metadata"]["uid"].clone(), place, world.qemu(name).await?));
    }

    // All at once, and what has no home on a disk is gone.
    let node = world.lab().layout().node(NODE);
    let agent = world.kill_for_long(Part::Agent(NODE)).await?;
    let libvirtd = world.kill_for_long(Part::Daemon(NODE, "libvirtd")).await?;
    for (_, _, qemu) in &before {
        kill(Pid::from_raw(*qemu), Signal::SIGKILL)?;
    }
    for dir in [node.libvirt().join("run/qemu"), node.run()] {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else {
                std::fs::remove_file(path)?;
            }
        }
    }
    world.back(libvirtd).await?;
    world.back(agent).await?;

    for ((name, _, again), (uid, place, _)) in STRATEGIES.iter().zip(&before) {
        eventually(&format!("{name} to be what its strategy says"), START, async || {
            let now = world.cluster.get(VMI, name).await?;
            let (is, phase) = (&now["metadata"]["uid"], now["status"]["phase"].as_str());
            let wanted = if *again { "Running" } else { "Failed" };
            same("its phase", phase, Some(wanted))?;
            ensure!((is != uid) == *again, "its instance is {is}, it was {uid}");
            Ok(())
        })
        .await?;
        same("its place", &world.place(name).await?, place)?;
    }
    for (name, ..) in STRATEGIES {
        world.cluster.delete(VM, name).await?;
    }
    for (name, ..) in STRATEGIES {
        world.cluster.gone(VMI, name, SOON).await?;
        world.nothing_runs_of(name, &node).await?;
        world.no_files_of(name, &node).await?;
    }
    Ok(())
}
