//! What does a port cost when there are ten thousand?
//!
//! | figure | from | to |
//! |---|---|---|
//! | `burst_10000_embedded`, `burst_10000_kube` | the first of 10,000 VM objects is sent, 32 at a time | the last IP object was seen by a watch and the last logical port is in the northbound database; the peer is what the same API needs to create as many IP objects with nobody watching |
//! | `burst_10000_p50`, `…_p99` | one of them is sent | its IP object was seen |
//! | `burst_10000_after_last` | the last of them is answered | everything is committed |
//! | `burst_10000_controller_cpu` | the controller starts | all of that is done: its CPU time |
//! | `burst_10000_transactions` | the same | transactions on the northbound database, by its log |
//! | `burst_10000_store_writes` | the first is sent | revisions of the store a VM, by whomever, up to that point; the VM's own is one |
//! | `rss_controller_10000` | the controller's most, up to that point | |
//! | `running_10000` | the first is sent | every VM says that it runs |
//! | `burst_api_writes_per_vm` | the same, on the real API | writing requests of our parts a VM, refused ones included, lease renewals not, as kube-apiserver counts them |
//! | `restart_10000`, and `…_kube` on the real API | the controller is killed, and one more VM made, when all run | its IP object was seen |
//! | `rss_controller_10000_restarted`, `…_restarted_most` | then | what the new controller has resident, and the most it had |
//! | `restart_100000`, `rss_controller_100000_restarted` | the same with 100,000 addresses that IP objects reserve, and no VM | |
//! | `subnets_1000_ready` | the first of 200 VPCs is sent, with 1,000 subnets | the last subnet says Ready |
//! | `subnets_1000_transactions` | the same | as above |
//! | `peer_burst_10000`, … | ours on the real API beside what Kube-OVN's controller needs for as many pods, where it is given (see `peer.rs`) | |
//!
//! `BERTH_SCALE` gives other numbers than 10,000 and 1,000, to see what grows: `2000,200`.
//! With it each figure is named by its number, and ten times as many addresses are held as
//! there are VMs. `BERTH_SCALE_ONLY` is one of `embedded`, `real`, `held` and `subnets`.
//!
//! The VMs are to run, under the fake hypervisor of one agent: instances and statuses are
//! written at the same time.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use benches::Figure;
use benches::bed::{self, LIMIT, all, count, cpu_seconds, create, make_subnet, watch, watch_one};
use benches::peer::{self, Peer};
use kube::api::ListParams;
use kube::core::DynamicObject;
use serde_json::json;
use tests::cluster::{Cluster, Flavour};
use tests::eventually;
use tests::kinds::{IP, SUBNET, VM, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::process::peak_kib;
use tests::suite::World as _;
use tests::world::{Choice, Part, Setup, World, port_of};

/// Subnets in one VPC.
const IN_ONE: usize = 5;

/// How many of each.
#[derive(Clone, Copy, Debug)]
struct Size {
    ports: usize,
    subnets: usize,
}

impl Size {
    fn wanted() -> anyhow::Result<Self> {
        let Ok(text) = std::env::var("BERTH_SCALE") else {
            return Ok(Self { ports: 10_000, subnets: 1_000 });
        };
        let (ports, subnets) = text.split_once(',').context("BERTH_SCALE: write two numbers")?;
        let size = Self { ports: ports.parse()?, subnets: subnets.parse()? };
        ensure!(size.ports > 0 && size.subnets >= IN_ONE, "BERTH_SCALE: too few");
        Ok(size)
    }
}

fn is_asked(part: &str) -> bool {
    std::env::var("BERTH_SCALE_ONLY").map_or(true, |only| only == part)
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    let size = match Size::wanted() {
        Ok(size) => size,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    for flavour in [Flavour::Embedded, Flavour::Real] {
        if !is_asked(flavour.name()) {
            continue;
        }
        if let Some(reason) = World::unavailable(Choice { flavour, guests: false, reviews: false })
        {
            println!("skipped: the figures of the {} API: {reason}", flavour.name());
            continue;
        }
        if let Err(error) = burst(flavour, size.ports).await {
            eprintln!("burst, {} API: {error:#}", flavour.name());
            status = ExitCode::FAILURE;
        }
    }
    if is_asked("held")
        && let Err(error) = held(size.ports * 10).await
    {
        eprintln!("held: {error:#}");
        status = ExitCode::FAILURE;
    }
    if is_asked("subnets")
        && let Err(error) = subnets(size.subnets).await
    {
        eprintln!("subnets: {error:#}");
        status = ExitCode::FAILURE;
    }
    status
}

async fn burst(flavour: Flavour, ports: usize) -> anyhow::Result<()> {
    let plain = plain_creates(flavour, ports).await?;
    let mut world = one_node(flavour).await?;
    make_subnet(&world.cluster).await?;
    let seen = watch(&world.cluster, IP).await?;
    let before = revision(&world.cluster).await?;
    let written_before = written(&world.cluster).await?;
    let started = Instant::now();
    let vm = |n: usize| Vm::named(&format!("port-{n}")).on("bench").object();
    let creating = async {
        let sent = create(&world.cluster, VM, ports, vm).await?;
        Ok((sent, Instant::now()))
    };
    let ((sent, answered), seen) = tokio::try_join!(creating, count(seen, ports, |_| true))?;
    committed(&world, ports).await?;
    let done = Instant::now();
    let mut waits = Vec::with_capacity(ports);
    for (n, sent) in sent.into_iter().enumerate() {
        let seen = seen.get(&port_of(&format!("port-{n}"))).context("an IP object of each VM")?;
        waits.push(seen.duration_since(sent));
    }
    waits.sort_unstable();
    let name = |figure: &str, what: &str| format!("{figure}_{ports}{what}_{}", label(flavour));
    let took = done.duration_since(started).as_secs_f64();
    Figure::new(&name("burst", ""), took, "s").against("plain-create", plain.as_secs_f64()).print();
    for (figure, value) in [
        ("_p50", waits[ports / 2]),
        ("_p99", waits[ports / 100 * 99]),
        ("_after_last", done.duration_since(answered)),
    ] {
        Figure::new(&name("burst", figure), value.as_secs_f64(), "s").print();
    }
    let writes = (revision(&world.cluster).await? - before) as f64 / ports as f64;
    Figure::new(&name("burst", "_store_writes"), writes, "writes").print();
    let transactions = transactions(&world)?;
    Figure::new(&name("burst", "_transactions"), transactions, "transactions").print();
    let seconds = cpu_seconds(&world, "controller")?;
    Figure::new(&name("burst", "_controller_cpu"), seconds, "s").print();
    Figure::new(&name("rss_controller", ""), most_mib(&world, "controller")?, "MiB").print();
    let memory = most_mib(&world, "controller")?;
    let runs = |vm: &DynamicObject| vm.data["status"]["printableStatus"] == "Running";
    count(all(&world.cluster, VM), ports, runs).await?;
    Figure::new(&name("running", ""), started.elapsed().as_secs_f64(), "s").print();
    tell_writes(&written_before, &written(&world.cluster).await?, ports);
    let restart = restart(&mut world).await?.as_secs_f64();
    // As with 100,000, it is the embedded API's where nothing is said.
    let of_real = if flavour == Flavour::Real { "_kube" } else { "" };
    Figure::new(&format!("restart_{ports}{of_real}"), restart, "s").print();
    tell_memory(&world, &name("rss_controller", "_restarted"))?;
    world.finish().await?;
    let Some(peer) = Peer::given().filter(|_| flavour == Flavour::Real) else { return Ok(()) };
    let theirs = peer::measure(&peer, ports).await?;
    let p99 = waits[ports / 100 * 99].as_secs_f64();
    for (figure, ours, theirs, unit) in [
        ("burst", took, theirs.burst.as_secs_f64(), "s"),
        ("burst_p99", p99, theirs.p99.as_secs_f64(), "s"),
        ("rss_controller", memory, mib(theirs.peak_kib), "MiB"),
        ("restart", restart, theirs.restart.as_secs_f64(), "s"),
    ] {
        let name = format!("peer_{figure}_{ports}");
        Figure::new(&name, ours, unit).against("kube-ovn", theirs).print();
    }
    Ok(())
}

/// What a figure of this API is called by.
const fn label(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Embedded => "embedded",
        Flavour::Real => "kube",
    }
}

/// How often kube-apiserver was asked to write something, by what; our own API does not
/// count that.
async fn written(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    if cluster.flavour() != Flavour::Real {
        return Ok(counts);
    }
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let metrics = cluster.api(VM).into_client().request_text(request).await?;
    for line in metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
        let label = |name: &str| line.split_once(&format!(",{name}=\""))?.1.split('"').next();
        let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
        let writes = ["POST", "PUT", "PATCH", "APPLY", "DELETE"].contains(&verb);
        let (_, count) = line.rsplit_once(' ').context("a metric has a value")?;
        if writes && resource != "leases" {
            let part = label("subresource").unwrap_or_default();
            *counts.entry(format!("{verb} {resource} {part}")).or_default() +=
                count.parse::<u64>()?;
        }
    }
    Ok(counts)
}

/// Says what was written since `before`, and how much that is a VM.
fn tell_writes(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, vms: usize) {
    let mut total = 0;
    for (what, count) in after {
        let count = count - before.get(what).unwrap_or(&0);
        // The one kind of write that is this benchmark's own.
        if count > 0 && !what.starts_with("POST virtualmachines ") {
            println!("  {count:>6} {what}");
            total += count;
        }
    }
    if total > 0 {
        Figure::new("burst_api_writes_per_vm", total as f64 / vms as f64, "writes").print();
    }
}

/// Says what the controller has resident, and the most that it had.
fn tell_memory(world: &World, name: &str) -> anyhow::Result<()> {
    Figure::new(name, bed::mib(world, "controller")?, "MiB").print();
    Figure::new(&format!("{name}_most"), most_mib(world, "controller")?, "MiB").print();
    Ok(())
}

/// As many IP objects, on an API with nobody who minds them.
async fn plain_creates(flavour: Flavour, ports: usize) -> anyhow::Result<Duration> {
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
    create(&cluster, IP, ports, ip).await?;
    Ok(started.elapsed())
}

/// From the death of the controller to the first address that its successor gives.
async fn restart(world: &mut World) -> anyhow::Result<Duration> {
    let killed = world.kill(Part::Controller)?;
    let started = Instant::now();
    let seen = watch_one(&world.cluster, IP, &port_of("first")).await?;
    world.cluster.create(VM, Vm::named("first").on("bench").object()).await?;
    let seen = count(seen, 1, |_| true).await?;
    world.back(killed).await?;
    Ok(seen.values().next().context("one was seen")?.duration_since(started))
}

/// A restart with so many addresses held, each reserved by an IP object.
async fn held(addresses: usize) -> anyhow::Result<()> {
    let mut world = one_node(Flavour::Embedded).await?;
    make_subnet(&world.cluster).await?;
    // Of a /12 no block of 256 is full, as with addresses that come and go.
    let wide = Subnet::named("wide").in_vpc("bench-vpc").of("10.16.0.0/12");
    world.cluster.create(SUBNET, wide.object()).await?;
    let reservation = |n: usize| {
        let address = format!("10.{}.{}.{}", 16 + n / 50_000, n / 200 % 250, n % 200 + 10);
        json!({
            "apiVersion": "kubeovn.io/v1",
            "kind": "IP",
            "metadata": {"name": port_of(&format!("held-{n}"))},
            "spec": {
                "podName": format!("held-{n}"), "namespace": "default", "subnet": "wide",
                "ipAddress": address, "v4IpAddress": address, "podType": "VirtualMachine",
            },
        })
    };
    create(&world.cluster, IP, addresses, reservation).await?;
    let all_held = |subnet: &DynamicObject| {
        subnet.data["status"]["v4usingIPs"].as_f64() == Some(addresses as f64)
    };
    count(all(&world.cluster, SUBNET), 1, all_held).await?;
    let seconds = restart(&mut world).await?.as_secs_f64();
    Figure::new(&format!("restart_{addresses}"), seconds, "s").print();
    tell_memory(&world, &format!("rss_controller_{addresses}_restarted"))?;
    world.finish().await
}

async fn subnets(count_of: usize) -> anyhow::Result<()> {
    let world = one_node(Flavour::Embedded).await?;
    let seen = watch(&world.cluster, SUBNET).await?;
    let vpcs = count_of.div_ceil(IN_ONE);
    let started = Instant::now();
    let creating = async {
        create(&world.cluster, VPC, vpcs, |n| vpc(&format!("vpc-{n}"))).await?;
        let subnet = |n: usize| {
            let (in_vpc, cidr) = (format!("vpc-{}", n % vpcs), format!("10.{}.0.0/24", n / vpcs));
            Subnet::named(&format!("subnet-{n}")).in_vpc(&in_vpc).of(&cidr).object()
        };
        create(&world.cluster, SUBNET, count_of, subnet).await
    };
    let is_ready = |subnet: &DynamicObject| {
        let conditions = subnet.data["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    let (_, seen) = tokio::try_join!(creating, count(seen, count_of, is_ready))?;
    let last = seen.values().max().context("a thousand were seen")?;
    let name = format!("subnets_{count_of}_ready");
    let ready = Figure::new(&name, last.duration_since(started).as_secs_f64(), "s");
    // Of a thousand.
    if count_of == 1_000 {
        ready.against("kube-ovn", 45.6).print()
    } else {
        ready.print()
    }
    let name = |what: &str| format!("subnets_{count_of}_{what}");
    Figure::new(&name("transactions"), transactions(&world)?, "transactions").print();
    Figure::new(&name("controller_cpu"), cpu_seconds(&world, "controller")?, "s").print();
    world.finish().await
}

async fn one_node(flavour: Flavour) -> anyhow::Result<World> {
    World::with(Setup { nodes: 1, ..Setup::of(Choice { flavour, guests: false, reviews: false }) })
        .await
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
    Ok(mib(peak_kib(pid.cast_unsigned())?))
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// The store's revision: one more for each write.
async fn revision(cluster: &Cluster) -> anyhow::Result<u64> {
    let list = cluster.api(SUBNET).list(&ListParams::default()).await?;
    Ok(list.metadata.resource_version.context("a list has a version")?.parse()?)
}

/// How often the controller has written to the northbound database.
fn transactions(world: &World) -> anyhow::Result<f64> {
    let log = std::fs::read_to_string(world.lab().layout().log("controller"))?;
    Ok(f64::from(u32::try_from(log.matches("Wrote to OVN").count())?))
}
