//! kill -9 of each part while a VM is created, stopped, started, rebooted, while its
//! QEMU dies, and while it is deleted.
//!
//! The end state must be the right one each time, and `web`, which has nothing to do
//! with it, must not notice.

use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::kinds::{VM, VMI};
use tests::objects::Vm;
use tests::world::{Part, World, port_of};
use tests::{eventually, same};

use crate::port_lifecycle::{SUBNET_NAME, web_and_db};
use crate::vm_lifecycle::{another_qemu, another_report, is_where_it_was, nothing_is_left_of};

const SOON: Duration = Duration::from_secs(60);

pub(super) async fn the_controller_may_die_at_any_time(world: &mut World) -> anyhow::Result<()> {
    a_life_with_kills(world, Part::Controller).await
}

pub(super) async fn an_agent_may_die_at_any_time(world: &mut World) -> anyhow::Result<()> {
    a_life_with_kills(world, Part::Agent(2)).await
}

pub(super) async fn the_northbound_database_may_die_at_any_time(
    world: &mut World,
) -> anyhow::Result<()> {
    a_life_with_kills(world, Part::Northbound).await
}

pub(super) async fn the_southbound_database_may_die_at_any_time(
    world: &mut World,
) -> anyhow::Result<()> {
    a_life_with_kills(world, Part::Southbound).await
}

pub(super) async fn the_database_of_a_node_may_die_at_any_time(
    world: &mut World,
) -> anyhow::Result<()> {
    a_life_with_kills(world, Part::Daemon(2, "ovsdb")).await
}

pub(super) async fn the_api_may_die_at_any_time(world: &mut World) -> anyhow::Result<()> {
    a_life_with_kills(world, Part::Api).await
}

/// What is not ours dies under a running guest; it is still there, and reachable, once
/// the daemon is back.
pub(super) async fn the_daemons_of_a_node_may_die_under_a_guest(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let place = world.place("db").await?;
    let qemu = world.qemu("db").await?;
    for daemon in ["libvirtd", "ovn-controller", "vswitchd"] {
        die(world, Part::Daemon(2, daemon)).await.with_context(|| format!("killing {daemon}"))?;
        is_where_it_was(world, "db", &place).await.with_context(|| format!("after {daemon}"))?;
        same("its QEMU", world.qemu("db").await?, qemu)?;
        world.running("db").await?;
    }
    // And the agent still governs it: a stop is carried out.
    let node = world.node_of("db").await?;
    world.cluster.merge(VM, "db", json!({"spec": {"runStrategy": "Halted"}})).await?;
    world.cluster.gone(VMI, "db", SOON).await?;
    world.nothing_runs_of("db", &node).await?;
    world.cluster.merge(VM, "db", json!({"spec": {"runStrategy": "Always"}})).await?;
    world.running("db").await?;
    is_where_it_was(world, "db", &place).await
}

/// Create, stop, start, reboot, crash, delete; `part` dies as soon as each has begun.
async fn a_life_with_kills(world: &mut World, part: Part) -> anyhow::Result<()> {
    let vm = match part {
        Part::Controller => "mortal-c",
        Part::Agent(_) => "mortal-a",
        Part::Northbound => "mortal-n",
        Part::Southbound => "mortal-s",
        Part::Northd => "mortal-t",
        Part::Api => "mortal-k",
        Part::Daemon(..) => "mortal-d",
    };
    web_and_db(world).await?;
    let bystander = world.qemu("web").await?;
    let strategy = |value: &str| json!({"spec": {"runStrategy": value}});

    let object = Vm::named(vm).on(SUBNET_NAME).pinned_to("n2").object();
    world.cluster.create(VM, object).await?;
    die(world, part).await.context("during create")?;
    world.running(vm).await.context("after create")?;
    let place = world.place(vm).await?;
    is_where_it_was(world, vm, &place).await.context("after create")?;
    let node = world.node_of(vm).await?;

    world.cluster.merge(VM, vm, strategy("Halted")).await?;
    die(world, part).await.context("during stop")?;
    world.cluster.gone(VMI, vm, SOON).await.context("after stop")?;
    world.nothing_runs_of(vm, &node).await.context("after stop")?;
    same("the place of the stopped VM", world.place(vm).await?, place.clone())?;

    world.cluster.merge(VM, vm, strategy("Always")).await?;
    die(world, part).await.context("during start")?;
    world.running(vm).await.context("after start")?;
    is_where_it_was(world, vm, &place).await.context("after start")?;

    // And once more while it merely runs.
    let qemu = world.qemu(vm).await?;
    die(world, part).await.context("while it runs")?;
    is_where_it_was(world, vm, &place).await.context("after a kill while it runs")?;
    same("its QEMU", world.qemu(vm).await?, qemu)?;
    if matches!(part, Part::Agent(_)) {
        renews(world, vm).await.context("after a kill of the agent while it runs")?;
    }

    let boots = world.reports(vm).await?.len();
    world.guest(vm).await?.leave_with("reboot").await?;
    die(world, part).await.context("during a reboot")?;
    another_report(world, vm, boots).await.context("after a reboot")?;
    is_where_it_was(world, vm, &place).await.context("after a reboot")?;
    same("its QEMU after a reboot", world.qemu(vm).await?, qemu)?;

    kill(Pid::from_raw(qemu), Signal::SIGKILL)?;
    die(world, part).await.context("together with QEMU")?;
    another_qemu(world, vm, qemu).await?;
    world.running(vm).await.context("after it died together with QEMU")?;
    is_where_it_was(world, vm, &place).await.context("after it died together with QEMU")?;

    world.cluster.delete(VM, vm).await?;
    die(world, part).await.context("during delete")?;
    nothing_is_left_of(world, vm, &place, &node).await.context("after delete")?;

    ensure!(world.qemu("web").await? == bystander, "web was restarted");
    let web = world.place("web").await?;
    is_where_it_was(world, "web", &web).await.context("web was disturbed")
}

async fn die(world: &mut World, part: Part) -> anyhow::Result<()> {
    let killed = world.kill(part)?;
    world.back(killed).await
}

/// A guest that asks for more of its lease is answered by an agent that did not give it.
async fn renews(world: &World, vm: &str) -> anyhow::Result<()> {
    let node = world.node_of(vm).await?;
    let mut guest = world.guest(vm).await?;
    eventually("a renewal to be answered", SOON, async || {
        guest.run("kill -USR1 $(cat /run/udhcpc.eth0.pid)").await?;
        let ports = world.agent_ports(&node).await?;
        let port = ports.iter().find(|port| port["port"] == port_of(vm)).context("no such port")?;
        ensure!(port["first_ack_v4"].is_string(), "{port}");
        Ok(())
    })
    .await
}
