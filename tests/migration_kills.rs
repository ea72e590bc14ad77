//! kill -9 of each part at each step of a move. Whatever dies, and whenever: the move ends,
//! the guest has not been started anew, it is in the one place that the migration says, with
//! its port there, and nothing of it is left in the other.
//!
//! ```text
//!              asked  preparing  ready  sending  arrived
//!  controller    ×        ×        ×       ×        ×
//!  API           ×        ×        ×       ×        ×
//!  agents        ×        ×        ×       ×        ×     the source's, the target's
//!  libvirtds     ×        ×       (×)      ×        ×     the source's, the target's
//!  databases     ×        ×        ×       ×        ×     northbound, southbound
//!  OVN there     ×        ×        ×       ×        ×     ovn-controller of the target
//! ```
//!
//! In (×) only the source's: a libvirtd that dies between naming a domain and knowing its
//! process holds it for ever (`docs/live-migration.md`).
//!
//! The cells are dealt out to the two APIs where both can be had.

use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use berth::lab::NodeLayout;
use tests::cluster::Flavour;
use tests::kinds::{MIGRATION, VM, VMI};
use tests::suite::World as _;
use tests::world::{Choice, Part, Place, World};
use tests::{Hopeless, eventually, promptly};

use crate::migration::{
    MOVE, SOON, VM_NAME, ask, both_nodes, guest_says, is_being_sent, over, rover, stays,
};

const BOOT: &str = "cat /proc/sys/kernel/random/boot_id";

/// How far the move has come when somebody dies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// The migration is written, and nobody has seen it.
    Asked,
    /// The target was told to get ready.
    Preparing,
    /// It is, and so are its ports.
    Ready,
    /// Some of the guest's memory has gone over.
    Sending,
    /// It runs at the target, and what is left at the source is to go.
    Arrived,
}

const STEPS: [Step; 5] = [Step::Asked, Step::Preparing, Step::Ready, Step::Sending, Step::Arrived];

/// Who dies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Victim {
    Controller,
    Api,
    SourceAgent,
    TargetAgent,
    SourceLibvirtd,
    TargetLibvirtd,
    Northbound,
    Southbound,
    TargetOvn,
}

impl Victim {
    fn part(self, source: &NodeLayout, target: &NodeLayout) -> Part {
        match self {
            Self::Controller => Part::Controller,
            Self::Api => Part::Api,
            Self::SourceAgent => Part::Agent(source.number),
            Self::TargetAgent => Part::Agent(target.number),
            Self::SourceLibvirtd => Part::Daemon(source.number, "libvirtd"),
            Self::TargetLibvirtd => Part::Daemon(target.number, "libvirtd"),
            Self::Northbound => Part::Northbound,
            Self::Southbound => Part::Southbound,
            Self::TargetOvn => Part::Daemon(target.number, "ovn-controller"),
        }
    }

    /// What libvirt itself does not survive.
    fn is_spared_at(self, step: Step) -> bool {
        self == Self::TargetLibvirtd && step == Step::Ready
    }
}

pub(super) async fn the_controller_or_the_api_may_die_at_each_step_of_a_move(
    world: &mut World,
) -> anyhow::Result<()> {
    each_step(world, &[Victim::Controller, Victim::Api]).await
}

pub(super) async fn either_agent_may_die_at_each_step_of_a_move(
    world: &mut World,
) -> anyhow::Result<()> {
    each_step(world, &[Victim::SourceAgent, Victim::TargetAgent]).await
}

pub(super) async fn either_libvirtd_may_die_at_each_step_of_a_move(
    world: &mut World,
) -> anyhow::Result<()> {
    each_step(world, &[Victim::SourceLibvirtd, Victim::TargetLibvirtd]).await
}

pub(super) async fn what_is_ovns_may_die_at_each_step_of_a_move(
    world: &mut World,
) -> anyhow::Result<()> {
    each_step(world, &[Victim::Northbound, Victim::Southbound, Victim::TargetOvn]).await
}

async fn each_step(world: &mut World, victims: &[Victim]) -> anyhow::Result<()> {
    let place = rover(world).await?;
    let boot = guest_says(world, BOOT).await?;
    let cells = victims.iter().flat_map(|victim| STEPS.map(|step| (*victim, step)));
    let cells = cells.filter(|(victim, step)| !victim.is_spared_at(*step)).enumerate();
    let here: Vec<_> = cells.filter(|(at, _)| is_here(world, *at)).collect();
    for (_, (victim, step)) in here {
        let begun = Instant::now();
        let said = cell(world, &place, victim, step)
            .await
            .with_context(|| format!("{victim:?} killed when {step:?}"))?;
        let now = guest_says(world, BOOT).await?;
        ensure!(now == boot, "{victim:?} killed when {step:?}: the guest was started anew");
        println!("{victim:?} killed when {step:?}: {said} after {:.1?}", begun.elapsed());
    }
    world.cluster.delete(VM, VM_NAME).await?;
    world.cluster.gone(VMI, VM_NAME, SOON).await
}

/// Whether this API is to see the cell: one of two, or all where there is no other API.
fn is_here(world: &World, at: usize) -> bool {
    let other = Choice { flavour: Flavour::Real, guests: true, reviews: false };
    match world.cluster.flavour() {
        Flavour::Real => !at.is_multiple_of(2),
        Flavour::Embedded => at.is_multiple_of(2) || World::unavailable(other).is_some(),
    }
}

/// One move with one death; how it ended.
async fn cell(
    world: &mut World,
    place: &Place,
    victim: Victim,
    step: Step,
) -> anyhow::Result<String> {
    let (source, target) = both_nodes(world).await?;
    let domain = net::names::domain("default", VM_NAME);
    if step == Step::Sending {
        // Slowly, so that there is time for it.
        world.virsh(&source, &["migrate-setspeed", &domain, "1"]).await?;
    }
    let name = format!("{victim:?}-{step:?}").to_lowercase();
    ask(world, &name, VM_NAME).await?;
    reach(world, &name, step, &source, &domain).await?;
    let killed = world.kill(victim.part(&source, &target))?;
    world.back(killed).await?;
    if step == Step::Sending {
        // Whether it is still being sent, or not any more.
        eventually("libvirt to take a speed", SOON, async || {
            world.virsh(&source, &["migrate-setspeed", &domain, "1000"]).await.map(drop).or_else(
                |error| match error.to_string().contains("failed to get domain") {
                    true => Ok(()),
                    false => Err(error),
                },
            )
        })
        .await?;
    }
    let end = over(world, &name).await?;
    let phase = end["status"]["phase"].as_str().unwrap_or_default().to_owned();
    match phase.as_str() {
        "Succeeded" => stays(world, place, &target, &source).await?,
        "Failed" => {
            stays(world, place, &source, &target).await?;
            let told = end["status"]["conditions"].to_string();
            ensure!(told.contains("Failure"), "it does not say why: {told}");
        }
        other => bail!("it is {other:?}"),
    }
    world.cluster.delete(MIGRATION, &name).await?;
    world.cluster.gone(MIGRATION, &name, SOON).await?;
    Ok(phase)
}

/// Waits, without a pause, until the move has come so far.
async fn reach(
    world: &World,
    name: &str,
    step: Step,
    source: &NodeLayout,
    domain: &str,
) -> anyhow::Result<()> {
    const PHASES: [&str; 7] = [
        "Pending",
        "Scheduling",
        "Scheduled",
        "PreparingTarget",
        "TargetReady",
        "Running",
        "Succeeded",
    ];
    let wanted = match step {
        Step::Asked => return Ok(()),
        Step::Sending => return is_being_sent(world, source, domain).await,
        Step::Preparing => "PreparingTarget",
        Step::Ready => "TargetReady",
        Step::Arrived => "Succeeded",
    };
    let rank = |phase: &str| PHASES.iter().position(|one| *one == phase);
    promptly(&format!("the move to be {step:?}"), MOVE, async || {
        let migration = world.cluster.get(MIGRATION, name).await?;
        let phase = migration["status"]["phase"].as_str().unwrap_or("Pending");
        if phase == "Failed" {
            bail!(Hopeless(format!("it failed before: {}", migration["status"])));
        }
        ensure!(rank(phase) >= rank(wanted), "it is {phase}");
        Ok(())
    })
    .await
}
