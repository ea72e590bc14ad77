//! Guests that ask for more time of their leases, in both families: while no API is there,
//! and while they move.

use std::time::Duration;

use anyhow::{Context, ensure};
use berth::lab::NodeLayout;
use tests::guest::{Guest, RENEW_V4, RENEW_V6};
use tests::wire::{End, Exchange, Family, Wire};
use tests::world::{Part, Place, World, port_of};
use tests::{eventually, same};

use crate::port_lifecycle::web_and_db;
use crate::vm_lifecycle::is_where_it_was;

const SOON: Duration = Duration::from_secs(60);

/// What an agent that was killed knows is on its disk: it waits for no API to answer.
pub(super) async fn every_guest_renews_after_its_agent_was_killed_while_no_api_is_there(
    world: &mut World,
) -> anyhow::Result<()> {
    web_and_db(world).await?;
    let mut guests = Vec::new();
    for vm in ["web", "db"] {
        guests.push(Tenant::of(world, vm).await?);
    }
    let api = world.kill_for_long(Part::Api).await?;
    let mut agents = Vec::new();
    for guest in &guests {
        agents.push(world.kill_for_long(Part::Agent(guest.node.number)).await?);
    }
    for guest in &mut guests {
        guest.is_left_alone().await.with_context(|| format!("in {}", guest.vm))?;
    }
    for agent in agents {
        world.back(agent).await?;
    }
    for guest in &mut guests {
        guest.is_served(world).await.with_context(|| format!("in {}", guest.vm))?;
    }
    ensure!(world.find_place("web").await.is_err(), "the API is there");
    world.back(api).await?;
    // Each is reached from the other: both consoles are let go of.
    let guests = guests.into_iter().map(|Tenant { vm, place, qemu, .. }| (vm, place, qemu));
    for (vm, place, qemu) in guests.collect::<Vec<_>>() {
        world.running(vm).await?;
        is_where_it_was(world, vm, &place).await.with_context(|| format!("{vm} afterwards"))?;
        same("its QEMU", world.qemu(vm).await?, qemu)?;
    }
    Ok(())
}

/// A guest, and all that the API is asked for about it.
struct Tenant {
    vm: &'static str,
    node: NodeLayout,
    place: Place,
    qemu: i32,
    shell: Guest,
}

impl Tenant {
    /// How long its addresses last at most before it renews, in seconds.
    const LITTLE: u32 = 300;

    async fn of(world: &World, vm: &'static str) -> anyhow::Result<Self> {
        let (node, place) = (world.node_of(vm).await?, world.place(vm).await?);
        Ok(Self { vm, node, place, qemu: world.qemu(vm).await?, shell: world.guest(vm).await? })
    }

    /// It loses its router and most of the time of its addresses, and nobody helps.
    async fn is_left_alone(&mut self) -> anyhow::Result<()> {
        let lasts = format!("dev eth0 valid_lft {0} preferred_lft {0}", Self::LITTLE);
        let Place { v4, v6, .. } = &self.place;
        self.shell.run(&format!("ip -4 addr change {v4}/24 {lasts}")).await?;
        self.shell.run(&format!("ip -6 addr change {v6}/128 {lasts}")).await?;
        self.shell.run("ip -6 route del default").await?;
        let routers = self.shell.run("ip -6 route show default").await?;
        ensure!(routers.is_empty(), "somebody advertises: {routers}");
        for address in [v4, v6] {
            let left = lasts_for(&mut self.shell, address).await?;
            ensure!(left <= Self::LITTLE, "{address} lasts for {left} s");
        }
        Ok(())
    }

    /// It has a router again, and its own clients more time.
    async fn is_served(&mut self, world: &World) -> anyhow::Result<()> {
        eventually("a router to advertise itself", SOON, async || {
            let routers = self.shell.run("ip -6 route show default").await?;
            ensure!(routers.contains("via fe80::") && routers.contains("expires"), "{routers:?}");
            Ok(())
        })
        .await?;
        for (renew, address) in [(RENEW_V4, &self.place.v4), (RENEW_V6, &self.place.v6)] {
            self.shell.run(renew).await?;
            eventually(&format!("{address} to be renewed"), SOON, async || {
                let left = lasts_for(&mut self.shell, address).await?;
                ensure!(left > Self::LITTLE, "it lasts for {left} s");
                Ok(())
            })
            .await?;
        }
        let ports = world.agent_ports(&self.node).await?;
        let port = ports.iter().find(|port| port["port"] == port_of(self.vm));
        let port = port.context("its agent serves no such port")?;
        ensure!(port["first_ack_v4"].is_string() && port["first_ack_v6"].is_string(), "{port}");
        Ok(())
    }
}

/// How long the guest believes in an address, in seconds.
async fn lasts_for(guest: &mut Guest, address: &str) -> anyhow::Result<u32> {
    let all = guest.run("ip -o addr show dev eth0").await?;
    let line = all.lines().find(|line| line.contains(&format!(" {address}/")));
    let line = line.with_context(|| format!("no {address} in {all}"))?;
    let (_, after) = line.split_once("valid_lft ").with_context(|| line.to_owned())?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().with_context(|| line.to_owned())
}

/// A guest that renews each second, and what is answered on its taps while it moves.
pub(super) struct Renewals {
    wire: Wire,
    vm: &'static str,
    /// The number of its tap at the source.
    left: usize,
    target: NodeLayout,
}

impl Renewals {
    /// Has the guest begin, which goes on until it boots again.
    pub(super) async fn start(world: &World, vm: &str) -> anyhow::Result<()> {
        // Told once more before it has an answer, udhcpc gives up its address and begins
        // anew: it is told after its script has run, and tries again by itself until then.
        let patient = format!("[ -e /run/resolv.v4 ] && rm /run/resolv.v4 && {RENEW_V4}");
        let mut guest = world.guest(vm).await?;
        for renew in [&patient, RENEW_V6] {
            let each = format!("while sleep 1; do {renew}; done");
            guest.run(&format!("({{ {each}; }} >/dev/null 2>&1 </dev/null &)")).await?;
        }
        Ok(())
    }

    /// Listens at the source, where it is answered, and at the target.
    pub(super) async fn listen(
        world: &World,
        vm: &'static str,
        source: &NodeLayout,
        target: NodeLayout,
    ) -> anyhow::Result<Self> {
        let wire = Wire::between(&source.namespace, &target.namespace)?;
        let left = tap_number(world, vm, source).await?;
        let renewals = Self { wire, vm, left, target };
        renewals.go_on_at(End::Source, left).await?;
        Ok(renewals)
    }

    /// The guest has moved. Whatever it asked was answered where it was and nowhere else,
    /// once; at the target from the first on. The longest time without an answer of
    /// DHCPv4, and that of DHCPv6.
    pub(super) async fn went_on(self, world: &World) -> anyhow::Result<[Duration; 2]> {
        let come = tap_number(world, self.vm, &self.target).await?;
        let there = self.go_on_at(End::Target, come).await?;
        let before = self.wire.exchanges(End::Source, self.left);
        for one in before.iter().chain(&there) {
            let good = if one.family == Family::V4 { "Ack" } else { "Reply" };
            let is_good = one.answers.iter().all(|(_, name)| name == good);
            ensure!(!one.asked.is_empty() && is_good && one.answers.len() < 2, "{one:?}");
        }
        for family in [Family::V4, Family::V6] {
            let last = before.iter().rposition(|one| one.family == family);
            let lost = before.iter().enumerate().filter(|(_, one)| one.family == family);
            let mut lost = lost.filter(|(at, one)| one.answers.is_empty() && Some(*at) != last);
            ensure!(lost.next().is_none(), "not answered before it left: {before:?}");
        }
        let end = before.iter().flat_map(places).max();
        let begin = there.iter().flat_map(places).min();
        ensure!(end < begin, "heard at both nodes: {before:?}, {there:?}");
        let taps = [(End::Source, self.left), (End::Target, come)];
        Ok([Family::V4, Family::V6].map(|family| self.wire.silence(family, taps)))
    }

    /// Waits until nothing that the guest asked through this tap is without an answer, and
    /// it has renewed in each family.
    async fn go_on_at(&self, end: End, tap: usize) -> anyhow::Result<Vec<Exchange>> {
        eventually(&format!("renewals at the {end:?}"), SOON, async || {
            let all = self.wire.exchanges(end, tap);
            for (family, asked, least) in [(Family::V4, "Request", 2), (Family::V6, "Renew", 1)] {
                let own = all.iter().filter(|one| one.family == family && one.asked == asked);
                ensure!(own.count() >= least, "too few of {family:?}: {all:?}");
            }
            let open = all.iter().find(|one| one.answers.is_empty());
            ensure!(open.is_none(), "no answer to {open:?} of {all:?}");
            Ok(all)
        })
        .await
    }
}

/// When the request and its answers were heard.
fn places(one: &Exchange) -> impl Iterator<Item = usize> {
    std::iter::once(one.place).chain(one.answers.iter().map(|(place, _)| *place))
}

/// The kernel's number of the tap of a VM.
async fn tap_number(world: &World, vm: &str, node: &NodeLayout) -> anyhow::Result<usize> {
    let file = format!("/sys/class/net/{}/ifindex", net::names::tap(&port_of(vm)));
    let number = world.lab().exec(node.number, &["cat", &file]).await?;
    number.trim().parse().with_context(|| format!("{number:?} is no number"))
}
