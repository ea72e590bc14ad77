//! Guests that ask for more time of their leases, in both families, while no API is there.

use std::time::Duration;

use anyhow::{Context, ensure};
use berth::lab::NodeLayout;
use tests::guest::{Guest, RENEW_V4, RENEW_V6};
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
