//! What does a start cost, and what a VM beside its QEMU?
//!
//! | figure | from | to |
//! |---|---|---|
//! | `vm_start_control_p50`, `…_p95` | one of 100 VMs is sent, ten a second | a watch sees its instance Running, under the fake hypervisor |
//! | `vm_start_real_p50`, `…_p95` | one of 16, ten a second | the same, with libvirt and a QEMU process each, whose guest waits to be resumed |
//! | `vm_start_qemu_p50` | libvirt is asked to start such a domain, one after the other | it has |
//! | `vm_start_beyond_qemu_p50` | `vm_start_real_p50`, less that | |
//! | `api_writes_per_start` | 50 VMs are made at once | all are Running: writing requests of controller and agents, as kube-apiserver's audit log has them, refused and repeated ones included, lease renewals and events not, which nobody counts upstream either. VMs are admitted over the webhook, which puts their finalizer on: without it that is one more write for each VM, 10 s after its start |
//! | `api_writes_per_stop` | the same VMs are halted | all are Stopped |
//! | `rss_per_vm` | an agent of no VM | the same with 1,000, under the fake hypervisor |
//! | `rss_agent_1000_vms`, `agent_idle_cpu` | then | and for 30 seconds after it has come to rest |
//!
//! The peers' times are those that KubeVirt publishes of its weekly runs (v1.8: create to
//! Running 17 to 19 seconds, at the 95th percentile 27 to 29), on machines of a cloud; its
//! 190 MiB a VM are what it reckons with beside QEMU (`hypervisorbackend.go`).
//! All on the real API where there is one. `BERTH_LIFECYCLE_ONLY` is one of the names in
//! `main`, to measure that alone.

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use benches::bed::{
    self, LIMIT, Objects, all, count, cpu_seconds, create, make_subnet, mib, watch,
};
use benches::{Figure, median};
use futures::FutureExt as _;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tests::cluster::Flavour;
use tests::eventually;
use tests::kinds::{VM, VMI};
use tests::objects::Vm;
use tests::suite::World as _;
use tests::world::{Choice, Part, Setup, World};

/// Starts that are timed, and the pause between two of them.
const STARTS: usize = 100;
/// As many real guests as a node of two cores is given, and one that was there before.
const REAL_STARTS: usize = 16;
const PAUSE: Duration = Duration::from_millis(100);
/// VMs whose writes are counted.
const BURST: usize = 50;
/// VMs of one agent.
const MANY: usize = 1000;
/// For how long an agent is watched that has nothing to do.
const REST: Duration = Duration::from_secs(30);
/// Below this share of a core for one second it has come to rest.
const AT_REST: f64 = 0.05;
/// Domains that are started by themselves.
const ALONE: usize = 10;

#[tokio::main]
async fn main() -> ExitCode {
    let all = [
        ("control", control().boxed_local()),
        ("real", real().boxed_local()),
        ("writes", writes().boxed_local()),
        ("memory", memory().boxed_local()),
    ];
    bed::each("BERTH_LIFECYCLE_ONLY", all).await
}

/// The real API where it can be had.
fn choice(guests: bool) -> Choice {
    let real = Choice { flavour: Flavour::Real, guests, reviews: false };
    match World::unavailable(real) {
        None => real,
        Some(reason) => {
            println!("on the embedded API: {reason}");
            Choice { flavour: Flavour::Embedded, ..real }
        }
    }
}

async fn one_node(choice: Choice, audit: bool) -> anyhow::Result<World> {
    let world = World::with(Setup { nodes: 1, audit, ..Setup::of(choice) }).await?;
    make_subnet(&world.cluster).await?;
    Ok(world)
}

async fn control() -> anyhow::Result<()> {
    let world = one_node(choice(false), false).await?;
    let times =
        starts(&world, STARTS, |n| Vm::named(&format!("start-{n}")).on("bench").object()).await?;
    tell("vm_start_control", &times);
    world.finish().await
}

async fn real() -> anyhow::Result<()> {
    let mut world = one_node(choice(true), false).await?;
    // Also unpacks the image.
    world.cluster.create(VM, waiting("warm", 0)).await?;
    world.running("warm").await?;
    let times = starts(&world, REAL_STARTS, |n| waiting("start", n)).await?;
    tell("vm_start_real", &times);
    let alone = alone(&mut world).await?;
    Figure::new("vm_start_qemu_p50", alone, "s").print();
    Figure::new("vm_start_beyond_qemu_p50", percentile(&times, 50) - alone, "s").print();
    world.finish().await
}

/// A VM whose guest does nothing until somebody resumes it: a hundred that boot would be
/// what is measured.
fn waiting(name: &str, n: usize) -> Value {
    let name = if n == 0 { name.to_owned() } else { format!("{name}-{n}") };
    let mut vm = Vm::named(&name).on("bench").without_grace().object();
    vm["spec"]["template"]["spec"]["startStrategy"] = json!("Paused");
    vm
}

/// Seconds from the sending of each VM until its instance was seen Running, in order.
async fn starts(
    world: &World,
    starts: usize,
    vm: impl Fn(usize) -> Value,
) -> anyhow::Result<Vec<f64>> {
    let seen = watch(&world.cluster, VMI).await?;
    let sending = async {
        let mut sent = BTreeMap::new();
        let mut next = tokio::time::interval(PAUSE);
        for n in 1..=starts {
            next.tick().await;
            let object = vm(n);
            let name = object["metadata"]["name"].as_str().context("a name")?.to_owned();
            sent.insert(name, Instant::now());
            world.cluster.create(VM, object).await?;
        }
        Ok(sent)
    };
    let (sent, seen) = tokio::try_join!(sending, running(seen, starts))?;
    let mut times = Vec::with_capacity(starts);
    for (name, sent) in sent {
        let seen = seen.get(&name).context("each was seen")?;
        times.push(seen.duration_since(sent).as_secs_f64());
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(times)
}

async fn running(seen: Objects, wanted: usize) -> anyhow::Result<HashMap<String, Instant>> {
    count(seen, wanted, |one: &DynamicObject| one.data["status"]["phase"] == "Running").await
}

/// The value that so many of a hundred do not exceed; of sorted ones.
fn percentile(sorted: &[f64], of: usize) -> f64 {
    sorted[(sorted.len() * of / 100).min(sorted.len() - 1)]
}

fn tell(name: &str, times: &[f64]) {
    for (of, theirs) in [(50, 18.0), (95, 28.0)] {
        let name = format!("{name}_p{of}");
        Figure::new(&name, percentile(times, of), "s")
            .against("kubevirt-published", theirs)
            .print();
    }
}

/// Seconds that libvirt needs to start such a domain with nobody else asking it for
/// anything, the median of several. Without an agent, which would mind what is done to its own.
async fn alone(world: &mut World) -> anyhow::Result<f64> {
    let agent = world.kill_for_long(Part::Agent(1)).await?;
    let node = world.lab().nodes()[0].clone();
    let mut times = Vec::with_capacity(ALONE);
    for n in 1..=ALONE {
        let domain = net::names::domain("default", &format!("start-{n}"));
        world.virsh(&node, &["destroy", &domain]).await?;
        let started = Instant::now();
        world.virsh(&node, &["start", &domain, "--paused"]).await?;
        times.push(started.elapsed().as_secs_f64());
    }
    world.back(agent).await?;
    Ok(median(times))
}

async fn writes() -> anyhow::Result<()> {
    let choice = Choice { reviews: true, ..choice(false) };
    if choice.flavour != Flavour::Real {
        println!("skipped: api_writes_per_start, api_writes_per_stop");
        return Ok(());
    }
    let world = one_node(choice, true).await?;
    let before = audited(&world).await?;
    let always = |n| Vm::named(&format!("burst-{n}")).on("bench").object();
    create(&world.cluster, VM, BURST, always).await?;
    all_are(&world, "Running").await?;
    let started = audited(&world).await?;
    tell_writes("api_writes_per_start", &before, &started);
    for n in 0..BURST {
        // kubectl's writes are not counted.
        let name = format!("burst-{n}");
        let halt = r#"{"spec":{"runStrategy":"Halted"}}"#;
        world.cluster.kubectl_ok(&["patch", "vm", &name, "--type=merge", "-p", halt]).await?;
    }
    all_are(&world, "Stopped").await?;
    tell_writes("api_writes_per_stop", &started, &audited(&world).await?);
    world.finish().await
}

async fn all_are(world: &World, status: &str) -> anyhow::Result<()> {
    eventually(&format!("all to be {status}"), LIMIT, async || {
        for vm in world.cluster.list(VM).await? {
            ensure!(vm["status"]["printableStatus"] == status, "{}", vm["status"]);
        }
        let instances = world.cluster.list(VMI).await?;
        let running = instances.iter().filter(|one| one["status"]["phase"] == "Running").count();
        let wanted = if status == "Running" { BURST } else { 0 };
        ensure!(running == wanted, "{running} run");
        Ok(())
    })
    .await
}

/// Writing requests of our parts so far, by what they wrote.
async fn audited(world: &World) -> anyhow::Result<BTreeMap<String, u32>> {
    let mut counts = BTreeMap::new();
    for request in world.cluster.audited().await? {
        // The one kind of write that is this benchmark's own.
        if request.verb == "create" && request.resource == "virtualmachines" {
            continue;
        }
        if request.resource != "leases" && request.resource != "events" {
            *counts.entry(format!("{} {}", request.verb, request.resource)).or_default() += 1;
        }
    }
    Ok(counts)
}

/// Says what was written between the two, and how much that is a VM.
fn tell_writes(name: &str, before: &BTreeMap<String, u32>, after: &BTreeMap<String, u32>) {
    let mut total = 0;
    for (what, count) in after {
        let count = count - before.get(what).unwrap_or(&0);
        if count > 0 {
            println!("  {count:>5} {what}");
            total += count;
        }
    }
    Figure::new(name, f64::from(total) / BURST as f64, "writes").print();
}

async fn memory() -> anyhow::Result<()> {
    let world = one_node(choice(false), false).await?;
    let agent = "n1/agent";
    at_rest(&world, agent).await?;
    let empty = mib(&world, agent)?;
    create(&world.cluster, VM, MANY, |n| Vm::named(&format!("many-{n}")).on("bench").object())
        .await?;
    let runs = |vm: &DynamicObject| vm.data["status"]["printableStatus"] == "Running";
    count(all(&world.cluster, VM), MANY, runs).await?;
    at_rest(&world, agent).await?;
    let full = mib(&world, agent)?;
    let each = (full - empty) * 1024.0 / MANY as f64;
    Figure::new("rss_per_vm", each, "KiB").against("kubevirt-reckoned", 190.0 * 1024.0).print();
    Figure::new("rss_agent_1000_vms", full, "MiB").print();
    let used = cpu_seconds(&world, agent)?;
    tokio::time::sleep(REST).await;
    let used = cpu_seconds(&world, agent)? - used;
    Figure::new("agent_idle_cpu", used / REST.as_secs_f64() * 100.0, "%").print();
    world.finish().await
}

/// Waits until a process has next to nothing to do.
async fn at_rest(world: &World, process: &str) -> anyhow::Result<()> {
    let second = Duration::from_secs(1);
    eventually("the agent to come to rest", LIMIT, async || {
        let used = cpu_seconds(world, process)?;
        tokio::time::sleep(second).await;
        let used = cpu_seconds(world, process)? - used;
        ensure!(used < AT_REST, "it used {used} s of the last");
        Ok(())
    })
    .await
}
