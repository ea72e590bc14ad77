//! What does a port cost when there are ten thousand?
//!
//! | figure | from | to |
//! |---|---|---|
//! | `burst_10000_embedded`, `burst_10000_kube` | the first of 10,000 VM objects is sent, 32 at a time | the last IP object was seen by a watch and the last logical port is in the northbound database; the peer is what the same API needs to create as many IP objects with nobody watching |
//! | `burst_10000_p50`, `…_p99` | one of them is sent | its IP object was seen |
//! | `burst_10000_after_last` | the last of them is answered | everything is committed |
//! | `rss_controller_10000` | the controller's most, up to that point | |
//! | `restart_10000` | the controller is killed, and one more VM made | its IP object was seen |
//! | `subnets_1000_ready` | the first of 200 VPCs is sent, with 1,000 subnets | the last subnet says Ready |
//!
//! The VMs are to run, under the fake hypervisor of one agent: instances and statuses are
//! written at the same time.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use benches::Figure;
use benches::bed::{LIMIT, count, create, make_subnet, watch};
use kube::core::DynamicObject;
use serde_json::json;
use tests::cluster::{Cluster, Flavour};
use tests::eventually;
use tests::kinds::{IP, SUBNET, VM, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::suite::World as _;
use tests::world::{Choice, Part, Setup, World, port_of};

const PORTS: usize = 10_000;
const VPCS: usize = 200;
const SUBNETS: usize = 1_000;

#[tokio::main]
async fn main() -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for flavour in [Flavour::Embedded, Flavour::Real] {
        if let Some(reason) = World::unavailable(Choice { flavour, guests: false }) {
            println!("skipped: the figures of the {} API: {reason}", flavour.name());
            continue;
        }
        if let Err(error) = burst(flavour).await {
            eprintln!("burst_10000, {} API: {error:#}", flavour.name());
            status = ExitCode::FAILURE;
        }
    }
    if let Err(error) = subnets().await {
        eprintln!("subnets_1000: {error:#}");
        status = ExitCode::FAILURE;
    }
    status
}

async fn burst(flavour: Flavour) -> anyhow::Result<()> {
    let plain = plain_creates(flavour).await?;
    let mut world = one_node(flavour).await?;
    make_subnet(&world.cluster).await?;
    let seen = watch(&world.cluster, IP).await?;
    let started = Instant::now();
    let vm = |n: usize| Vm::named(&format!("port-{n}")).on("bench").object();
    let creating = async {
        let sent = create(&world.cluster, VM, PORTS, vm).await?;
        Ok((sent, Instant::now()))
    };
    let ((sent, answered), seen) = tokio::try_join!(creating, count(seen, PORTS, |_| true))?;
    committed(&world, PORTS).await?;
    let done = Instant::now();
    let mut waits = Vec::with_capacity(PORTS);
    for (n, sent) in sent.into_iter().enumerate() {
        let seen = seen.get(&port_of(&format!("port-{n}"))).context("an IP object of each VM")?;
        waits.push(seen.duration_since(sent));
    }
    waits.sort_unstable();
    let name = |figure: &str| format!("{figure}_{}", flavour.name());
    let seconds = done.duration_since(started);
    Figure::new(&name("burst_10000"), seconds.as_secs_f64(), "s")
        .against("plain-create", plain.as_secs_f64())
        .print();
    for (figure, value) in [
        ("burst_10000_p50", waits[PORTS / 2]),
        ("burst_10000_p99", waits[PORTS / 100 * 99]),
        ("burst_10000_after_last", done.duration_since(answered)),
    ] {
        Figure::new(&name(figure), value.as_secs_f64(), "s").print();
    }
    Figure::new(&name("rss_controller_10000"), most_mib(&world, "controller")?, "MiB").print();
    let seconds = restart(&mut world).await?.as_secs_f64();
    Figure::new(&name("restart_10000"), seconds, "s").print();
    world.finish().await
}

/// As many IP objects, on an API with nobody who minds them.
async fn plain_creates(flavour: Flavour) -> anyhow::Result<Duration> {
    let cluster = Cluster::start(flavour).await?;
    cluster.apply_crds().await?;
    let started = Instant::now();
    let ip = |n: usize| {
        json!({
            "apiVersion": "kubeovn.io/v1",
            "kind": "IP",
            "metadata": {"name": format!("port-{n}.default")},
            "spec": {
                "podName": format!("port-{n}"), "namespace": "default", "subnet": "bench",
                "ipAddress": "10.90.0.2,fd90::2", "v4IpAddress": "10.90.0.2",
                "v6IpAddress": "fd90::2", "macAddress": "02:00:00:00:00:01",
                "podType": "VirtualMachine", "attachSubnets": [], "attachIps": [],
                "attachMacs": [], "nodeName": "n1", "containerID": "",
            },
        })
    };
    create(&cluster, IP, PORTS, ip).await?;
    Ok(started.elapsed())
}

/// From the death of the controller to the first address that its successor gives.
async fn restart(world: &mut World) -> anyhow::Result<Duration> {
    let killed = world.kill(Part::Controller)?;
    let started = Instant::now();
    let seen = watch(&world.cluster, IP).await?;
    world.cluster.create(VM, Vm::named("first").on("bench").object()).await?;
    let name = port_of("first");
    let is_first = |ip: &DynamicObject| ip.metadata.name.as_ref() == Some(&name);
    let seen = count(seen, 1, is_first).await?;
    world.back(killed).await?;
    Ok(seen.values().next().context("one was seen")?.duration_since(started))
}

async fn subnets() -> anyhow::Result<()> {
    let world = one_node(Flavour::Embedded).await?;
    let seen = watch(&world.cluster, SUBNET).await?;
    let started = Instant::now();
    let creating = async {
        create(&world.cluster, VPC, VPCS, |n| vpc(&format!("vpc-{n}"))).await?;
        let subnet = |n: usize| {
            let (in_vpc, cidr) = (format!("vpc-{}", n % VPCS), format!("10.{}.0.0/24", n / VPCS));
            Subnet::named(&format!("subnet-{n}")).in_vpc(&in_vpc).of(&cidr).object()
        };
        create(&world.cluster, SUBNET, SUBNETS, subnet).await
    };
    let is_ready = |subnet: &DynamicObject| {
        let conditions = subnet.data["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    let (_, seen) = tokio::try_join!(creating, count(seen, SUBNETS, is_ready))?;
    let last = seen.values().max().context("a thousand were seen")?;
    Figure::new("subnets_1000_ready", last.duration_since(started).as_secs_f64(), "s")
        .against("kube-ovn", 45.6)
        .print();
    world.finish().await
}

async fn one_node(flavour: Flavour) -> anyhow::Result<World> {
    World::with(Setup { nodes: 1, ..Setup::of(Choice { flavour, guests: false }) }).await
}

async fn committed(world: &World, count: usize) -> anyhow::Result<()> {
    eventually("every port", LIMIT, async || {
        let ports = world.northbound().count_vm_ports().await?;
        ensure!(ports == count, "{ports} ports");
        Ok(())
    })
    .await
}

/// The most that a process of the lab has ever had resident.
fn most_mib(world: &World, process: &str) -> anyhow::Result<f64> {
    let pid = world.lab().pid_of(process).with_context(|| format!("{process} does not run"))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u32 = line.context("no VmHWM")?.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(f64::from(kib) / 1024.0)
}
