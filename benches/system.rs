//! How fast the whole system is, what it weighs, and how much it writes.
//!
//! | figure | from | to |
//! |---|---|---|
//! | `ports_1000_embedded`, `ports_1000_kube` | the first of 1,000 VM objects is sent, 32 at a time | the last IP object has been seen by a watch and the last logical port is in the northbound database |
//! | `vm_create_to_running` | one VM object is sent | a watch sees its VMI Running (median of several, the image unpacked) |
//! | `vm_create_to_ack` | the same | the agent's time of the guest's first DHCPv4 ACK |
//! | `rss_controller`, `rss_apiserver` | at that point, on the embedded API: 1,000 VMs | |
//! | `rss_agent` | with one guest running | |
//! | `rss_agent_500_ports` | with 500 VMs on its node, each port's tap there and answered, by DHCPv4, DHCPv6 and advertisements | |
//!
//! The 1,000 VMs are to run, under the fake hypervisor of one agent, so that what is
//! timed competes with the making of their instances, as it would in life. The 500 of the
//! agent are of an image that there is not: it serves their ports, keeps their objects and
//! tries for their disks, and there is only no domain of theirs. Their taps are made here,
//! as libvirt would. Uses the programs beside it: `cargo build --release -p berth` comes first.
//! `BERTH_SYSTEM_ONLY` is one of the names in `main`, to measure that alone.

use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use anyhow::{Context, ensure};
use benches::bed::{self, LIMIT, count, create, make_subnet, mib, watch};
use benches::{Figure, median};
use futures::FutureExt as _;
use jiff::Timestamp;
use kube::core::DynamicObject;
use tests::cluster::Flavour;
use tests::eventually;
use tests::kinds::{IP, VM, VMI};
use tests::objects::Vm;
use tests::suite::World as _;
use tests::world::{Choice, Setup, World, port_of};

const PORTS: usize = 1000;
/// As many as a large host has guests.
const SERVED: usize = 500;
/// Single VMs, one after another.
const STARTS: usize = 5;

#[tokio::main]
async fn main() -> ExitCode {
    let all = [
        ("ports_1000_embedded", ports(Flavour::Embedded).boxed_local()),
        ("ports_1000_kube", ports(Flavour::Real).boxed_local()),
        ("vm_create_to_running", single_starts().boxed_local()),
        ("rss_agent_500_ports", served_ports().boxed_local()),
    ];
    bed::each("BERTH_SYSTEM_ONLY", all).await
}

async fn ports(flavour: Flavour) -> anyhow::Result<()> {
    let choice = Choice { flavour, guests: false, reviews: false };
    if let Some(reason) = World::unavailable(choice) {
        println!("skipped: the figures of the {} API: {reason}", flavour.name());
        return Ok(());
    }
    let world = World::with(Setup { nodes: 1, ..Setup::of(choice) }).await?;
    make_subnet(&world.cluster).await?;
    let seen = watch(&world.cluster, IP).await?;
    let started = Instant::now();
    let always = |n| Vm::named(&format!("port-{n}")).on("bench").object();
    let creating = create(&world.cluster, VM, PORTS, always);
    let counting = count(seen, PORTS, |_| true);
    tokio::try_join!(creating, counting)?;
    eventually("every port", LIMIT, async || {
        let ports = world.northbound().count_vm_ports().await?;
        ensure!(ports == PORTS, "{ports} ports");
        Ok(())
    })
    .await?;
    let seconds = started.elapsed().as_secs_f64();
    match flavour {
        Flavour::Embedded => {
            Figure::new("ports_1000_embedded", seconds, "s").print();
            Figure::new("rss_controller", mib(&world, "controller")?, "MiB").print();
            Figure::new("rss_apiserver", mib(&world, "apiserver")?, "MiB").print();
        }
        Flavour::Real => Figure::new("ports_1000_kube", seconds, "s").print(),
    }
    world.finish().await
}

async fn single_starts() -> anyhow::Result<()> {
    let choice = Choice { flavour: Flavour::Embedded, guests: true, reviews: false };
    let world = World::with(Setup { nodes: 1, ..Setup::of(choice) }).await?;
    make_subnet(&world.cluster).await?;
    // The first one also unpacks the image; it is not counted.
    start_one(&world, "warm").await?;
    let (mut to_running, mut to_ack) = (vec![], vec![]);
    for n in 0..STARTS {
        let (running, ack) = start_one(&world, &format!("single-{n}")).await?;
        to_running.push(running);
        to_ack.push(ack);
    }
    Figure::new("vm_create_to_running", median(to_running), "s").print();
    Figure::new("vm_create_to_ack", median(to_ack), "s").print();
    world.cluster.create(VM, Vm::named("weighed").on("bench").object()).await?;
    world.running("weighed").await?;
    world.guest_ready("weighed", &world.place("weighed").await?).await?;
    Figure::new("rss_agent", mib(&world, "n1/agent")?, "MiB").print();
    world.finish().await
}

/// Seconds from the creation of a VM to Running, and to its first DHCPv4 ACK. The VM
/// is gone again when this returns.
async fn start_one(world: &World, name: &str) -> anyhow::Result<(f64, f64)> {
    let seen = watch(&world.cluster, VMI).await?;
    let (started, at) = (Instant::now(), SystemTime::now());
    let runs = |object: &DynamicObject| {
        object.metadata.name.as_deref() == Some(name) && object.data["status"]["phase"] == "Running"
    };
    let vm = Vm::named(name).on("bench").without_grace().object();
    world.cluster.create(VM, vm).await?;
    count(seen, 1, runs).await?;
    let running = started.elapsed().as_secs_f64();
    let node = &world.lab().nodes()[0];
    let ack = eventually("the first ACK", LIMIT, async || {
        let ports = world.agent_ports(node).await?;
        let port = ports.iter().find(|port| port["port"] == port_of(name)).context("no port")?;
        let ack: Timestamp = port["first_ack_v4"].as_str().context("no ACK yet")?.parse()?;
        Ok(SystemTime::from(ack).duration_since(at)?.as_secs_f64())
    })
    .await?;
    world.cluster.delete(VM, name).await?;
    world.cluster.gone(VM, name, LIMIT).await?;
    Ok((running, ack))
}

async fn served_ports() -> anyhow::Result<()> {
    let choice = Choice { flavour: Flavour::Embedded, guests: true, reviews: false };
    let world = World::with(Setup { nodes: 1, ..Setup::of(choice) }).await?;
    make_subnet(&world.cluster).await?;
    let node = &world.lab().nodes()[0];
    let names: Vec<String> = (0..SERVED).map(|n| format!("served-{n}")).collect();
    let taps = names.iter().map(|name| net::names::tap(&port_of(name)));
    let lines: String =
        taps.map(|tap| format!("tuntap add dev {tap} mode tap\nlink set {tap} up\n")).collect();
    let file = node.run().join("taps");
    std::fs::write(&file, lines)?;
    let file = file.to_str().context("no UTF-8")?;
    world.lab().exec(node.number, &["ip", "-batch", file]).await?;
    let without_image = |n: usize| {
        let mut vm = Vm::named(&names[n]).on("bench").object();
        let volumes = &mut vm["spec"]["template"]["spec"]["volumes"];
        volumes[0]["containerDisk"]["image"] = "there/is:none".into();
        volumes[0]["containerDisk"]["imagePullPolicy"] = "Never".into();
        vm
    };
    create(&world.cluster, VM, SERVED, without_image).await?;
    let open = format!("berth_dhcp_ports{{state=\"open\"}} {SERVED}");
    eventually("every port to be served", LIMIT, async || {
        let told = world.agent_metrics(node).await?;
        ensure!(told.lines().any(|line| line == open), "no {open}");
        Ok(())
    })
    .await?;
    let name = format!("rss_agent_{SERVED}_ports");
    Figure::new(&name, mib(&world, "n1/agent")?, "MiB").print();
    world.finish().await
}
