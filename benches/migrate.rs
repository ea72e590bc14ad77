//! What does the network notice of a guest that moves?
//!
//! A port of the guest's subnet asks it for an echo each millisecond while it moves to the
//! other node and back, several times, under no other load (`echo.rs`). What QEMU says
//! that the guest stood still is not the network's, nor is what an emulated guest needs
//! until it answers again; so it is also asked what passed the two taps.
//!
//! | figure | from | to |
//! |---|---|---|
//! | `migration_downtime_p50` | QEMU stops the guest | it runs at the target, as libvirt tells of the job |
//! | `migration_gap_beyond_downtime_p50`, `…_max` | the last answer from the source | the first from the target, less that |
//! | `migration_unanswered_beyond_downtime_max` | the same | requests that nobody answered, beyond one for each millisecond of that |
//! | `migration_frames_lost_max` | the guest is announced at the target | its ports are bound there alone: requests that came to neither tap, and answers that left one and were not heard |
//! | `migration_frames_lost_on_the_way_max` | the first request | the guest is announced: the same, while its memory goes over the same wire through a switch in user space |
//! | `migration_handover_max` | the guest is announced at the target: it runs | the first request comes to its tap there, less what that did before; 0 if it did |
//! | `migration_start_overhead` | the migration object is sent | a watch sees it Running: the source sends |
//! | `migration_finish_overhead` | the first answer from the target | a watch sees it Succeeded |
//! | `migration_whole_p50` | the migration object is sent | the same |
//!
//! `BERTH_MOVES` gives another number than 10 moves.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use benches::bed::{self, LIMIT, Objects};
use benches::echo::{Answers, Ears, Echo, Frame, Heard};
use benches::wire::ip;
use benches::{Figure, median};
use berth::lab::NodeLayout;
use futures::TryStreamExt as _;
use serde_json::json;
use tests::cluster::Flavour;
use tests::eventually;
use tests::kinds::{MIGRATION, VM};
use tests::objects::Vm;
use tests::suite::World as _;
use tests::world::{Choice, Setup, World, port_of};

/// How often it moves.
const MOVES: usize = 10;
/// One that answers nothing for so long does not run.
const ANSWERS: Duration = Duration::from_secs(30);
const ROVER: &str = "rover";
/// The name of a VM that never runs; a node has its port.
const ASKER: &str = "asker";
const ASKS_FROM: (&str, &str) = ("10.90.0.5", "02:00:00:00:0a:05");

/// What one move was like.
#[derive(Clone, Copy, Debug)]
struct Move {
    downtime: f64,
    gap: f64,
    unanswered: f64,
    lost: f64,
    on_the_way: f64,
    handover: f64,
    start: f64,
    finish: f64,
    whole: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let choice = Choice { flavour: Flavour::Embedded, guests: true, reviews: false };
    if let Some(reason) = World::unavailable(choice) {
        println!("skipped: the figures of migration: {reason}");
        return ExitCode::SUCCESS;
    }
    match measure(choice).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("migration: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(choice: Choice) -> anyhow::Result<()> {
    let moves = match std::env::var("BERTH_MOVES") {
        Ok(text) => text.parse().context("BERTH_MOVES: write a number")?,
        Err(_) => MOVES,
    };
    ensure!(moves > 0, "BERTH_MOVES: there is nothing to measure");
    let world = World::with(Setup { nodes: 2, ..Setup::of(choice) }).await?;
    bed::make_subnet(&world.cluster).await?;
    let mut rover = Vm::named(ROVER).on("bench").without_grace().object();
    rover["spec"]["template"]["spec"]["evictionStrategy"] = json!("LiveMigrate");
    world.cluster.create(VM, rover).await?;
    world.running(ROVER).await?;
    let place = world.place(ROVER).await?;
    world.guest_ready(ROVER, &place).await?;
    let asker = asker(&world).await?;
    let to: Ipv4Addr = place.v4.parse()?;
    let mut seen = Vec::with_capacity(moves);
    for number in 0..moves {
        let one = move_once(&world, &asker, to, &format!("move-{number}")).await?;
        println!(
            "  move {number}: stood still {:.0} ms, silent {:.0} ms, handed over in {:.1} ms; unanswered {}, lost {} and {} on the way",
            one.downtime, one.gap, one.handover, one.unanswered, one.lost, one.on_the_way
        );
        seen.push(one);
    }
    let of = |what: fn(&Move) -> f64| seen.iter().map(what).collect::<Vec<f64>>();
    let most = |values: Vec<f64>| values.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let beyond = |one: &Move| one.gap - one.downtime;
    let unanswered = |one: &Move| (one.unanswered - one.downtime).max(0.0);
    for (name, value, unit) in [
        ("migration_downtime_p50", median(of(|one| one.downtime)), "ms"),
        ("migration_gap_beyond_downtime_p50", median(of(beyond)), "ms"),
        ("migration_gap_beyond_downtime_max", most(of(beyond)), "ms"),
        ("migration_unanswered_beyond_downtime_max", most(of(unanswered)), "frames"),
        ("migration_frames_lost_max", most(of(|one| one.lost)), "frames"),
        ("migration_frames_lost_on_the_way_max", most(of(|one| one.on_the_way)), "frames"),
        ("migration_handover_max", most(of(|one| one.handover)), "ms"),
        ("migration_start_overhead", median(of(|one| one.start)), "ms"),
        ("migration_finish_overhead", median(of(|one| one.finish)), "ms"),
        ("migration_whole_p50", median(of(|one| one.whole)), "ms"),
    ] {
        Figure::new(name, value, unit).print();
    }
    world.finish().await
}

/// A namespace on the first node with the port of a VM that never runs; its name. In the
/// node's own one its kernel would answer guests by itself.
async fn asker(world: &World) -> anyhow::Result<String> {
    let (address, mac) = ASKS_FROM;
    let vm = Vm::named(ASKER).on("bench").with_address(address).with_mac(mac).halted();
    world.cluster.create(VM, vm.object()).await?;
    let port = port_of(ASKER);
    eventually("the port of who asks", LIMIT, async || {
        ensure!(world.northbound().vm_ports().await?.contains_key(&port), "it is not there");
        Ok(())
    })
    .await?;
    let node = &world.lab().nodes()[0];
    let own = format!("{}asker", world.lab().layout().namespace_prefix());
    for line in [
        format!("netns add {own}"),
        format!("-n {} link add asker0 type veth peer name eth0 netns {own}", node.namespace),
        format!("-n {} link set asker0 up", node.namespace),
        format!("-n {own} link set eth0 address {mac} up"),
        format!("-n {own} address add {address}/16 dev eth0"),
        // The datapath in user space fills in no checksums.
        format!("netns exec {own} ethtool -K eth0 tx off"),
    ] {
        ip(&line)?;
    }
    let db = format!("--db={}", node.ovsdb());
    let id = format!("external_ids:iface-id={port}");
    let add = ["ovs-vsctl", "--timeout=10", &db, "add-port", "br-int", "asker0", "--"];
    let set = ["set", "Interface", "asker0", &id];
    world.lab().exec(node.number, &[&add[..], &set[..]].concat()).await?;
    Ok(own)
}

async fn move_once(world: &World, asker: &str, to: Ipv4Addr, name: &str) -> anyhow::Result<Move> {
    let source = world.node_of(ROVER).await?;
    let nodes = world.lab().nodes();
    let other = nodes.iter().find(|one| one.name != source.name).context("one node")?.clone();
    let at_source = Ears::begin(&source.namespace)?;
    let at_target = Ears::begin(&other.namespace)?;
    let left = tap(world, &source).await?;
    let echo = Echo::begin(asker, to)?;
    eventually("the guest to answer", ANSWERS, async || {
        ensure!(echo.is_answered(), "it does not");
        Ok(())
    })
    .await?;
    let mut seen = bed::watch(&world.cluster, MIGRATION).await?;
    let migration = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
        "metadata": { "name": name }, "spec": { "vmiName": ROVER },
    });
    let begun = Instant::now();
    world.cluster.create(MIGRATION, migration).await?;
    let running = reaches(&mut seen, name, "Running").await?;
    let succeeded = reaches(&mut seen, name, "Succeeded").await?;
    let target = world.node_of(ROVER).await?;
    ensure!(target.name == other.name, "it is where it was");
    eventually("the port to be its node's alone", LIMIT, async || {
        let ports = world.northbound().vm_ports().await?;
        let options = &ports.get(&port_of(ROVER)).context("no port")?.options;
        let on = options.get("requested-chassis").context("nobody has it")?;
        ensure!(*on == target.name, "it is {on}'s");
        Ok(())
    })
    .await?;
    let (answers, mut heard, at_target) = tokio::task::spawn_blocking(|| {
        anyhow::Ok((echo.end()?, at_source.end()?, at_target.end()?))
    })
    .await??;
    let come = tap(world, &target).await?;
    heard.retain(|one| one.link == left);
    let arrived: Vec<Heard> = at_target.into_iter().filter(|one| one.link == come).collect();
    let (announced, handover) = handover(&arrived).context("the guest was not announced")?;
    heard.extend(arrived);
    let (on_the_way, lost) = lost(&answers, &heard, announced);
    let domain = net::names::domain("default", ROVER);
    let job = world.virsh(&target, &["domjobinfo", &domain, "--completed"]).await?;
    let (gap, over) = answers.longest_gap().context("nothing was answered")?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Move {
        downtime: downtime(&job).with_context(|| job.clone())?,
        gap: ms(gap),
        unanswered: f64::from(u32::try_from(answers.lost())?),
        lost: f64::from(lost),
        on_the_way: f64::from(on_the_way),
        handover: ms(handover),
        start: ms(running.duration_since(begun)),
        finish: ms(succeeded.saturating_duration_since(over)),
        whole: ms(succeeded.duration_since(begun)),
    })
}

/// The kernel's number of the guest's tap on this node.
async fn tap(world: &World, node: &NodeLayout) -> anyhow::Result<usize> {
    let file = format!("/sys/class/net/{}/ifindex", net::names::tap(&port_of(ROVER)));
    let number = world.lab().exec(node.number, &["cat", &file]).await?;
    number.trim().parse().with_context(|| format!("{number:?} is no number"))
}

/// When the guest was announced on its new tap, and how long after that the first request
/// came there.
fn handover(arrived: &[Heard]) -> Option<(Instant, Duration)> {
    let first = |is: fn(&Frame) -> bool| arrived.iter().find(|one| is(&one.frame));
    let runs = first(|frame| matches!(frame, Frame::Announcement))?;
    let asked = first(|frame| matches!(frame, Frame::Request(_)))?;
    Some((runs.at, asked.at.saturating_duration_since(runs.at)))
}

/// How many requests came to neither tap, and how many answers left one of them that
/// nobody heard: of those sent before `then` and of those after.
fn lost(answers: &Answers, heard: &[Heard], then: Instant) -> (u32, u32) {
    let come = heard.iter().filter_map(|one| match one.frame {
        Frame::Request(number) => Some(number),
        Frame::Reply(_) | Frame::Announcement => None,
    });
    let given = heard.iter().filter_map(|one| match one.frame {
        Frame::Reply(number) => Some((number, one.at)),
        Frame::Request(_) | Frame::Announcement => None,
    });
    let come: BTreeSet<u64> = come.collect();
    let answered: BTreeSet<u64> = answers.answered.iter().map(|(number, _)| *number).collect();
    let sent = (0..).zip(answers.sent.iter().copied());
    let undelivered = sent.filter(|(number, _)| !come.contains(number));
    let unheard = given.filter(|(number, _)| !answered.contains(number));
    let (mut before, mut after) = (0, 0);
    for (_, at) in undelivered.chain(unheard) {
        *(if at < then { &mut before } else { &mut after }) += 1;
    }
    (before, after)
}

/// Milliseconds that the guest stood still, as `virsh domjobinfo` tells.
fn downtime(job: &str) -> Option<f64> {
    let line = job.lines().find_map(|line| line.strip_prefix("Total downtime:"))?;
    line.trim().strip_suffix("ms")?.trim().parse().ok()
}

/// When the migration was seen in this phase.
async fn reaches(seen: &mut Objects, name: &str, phase: &str) -> anyhow::Result<Instant> {
    loop {
        let next = tokio::time::timeout(LIMIT, seen.try_next()).await;
        let object = next.context("it takes too long")??.context("a watch goes on")?;
        if object.metadata.name.as_deref() != Some(name) {
            continue;
        }
        let is = object.data["status"]["phase"].as_str().unwrap_or_default().to_owned();
        if is == phase || (is == "Succeeded" && phase == "Running") {
            return Ok(Instant::now());
        }
        ensure!(is != "Failed", "{}", object.data["status"]);
    }
}
