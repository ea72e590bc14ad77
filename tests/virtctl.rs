//! KubeVirt's own command, as its users have it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tests::cluster::Flavour;
use tests::kinds::{SUBNET, VM, VMI, VPC};
use tests::objects::{Subnet, Vm, vpc};
use tests::world::{Choice, START, World};
use tests::{eventually, kube, same, suite};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(45);

/// A world with guests, and virtctl.
pub(super) struct Stock(pub(super) World);

impl suite::World for Stock {
    type Choice = Flavour;

    fn unavailable(flavour: Flavour) -> Option<String> {
        let choice = Choice { flavour, guests: true, reviews: false };
        let world = <World as suite::World>::unavailable(choice);
        world.or_else(|| kube::virtctl().err().map(|missing| missing.0))
    }

    async fn start(flavour: Flavour) -> anyhow::Result<Self> {
        let choice = Choice { flavour, guests: true, reviews: false };
        Ok(Self(<World as suite::World>::start(choice).await?))
    }

    async fn explain(&mut self) -> String {
        self.0.explain().await
    }

    async fn finish(self) -> anyhow::Result<()> {
        self.0.finish().await
    }
}

fn command(world: &World, words: &[&str]) -> anyhow::Result<Command> {
    let program = kube::virtctl().map_err(|missing| anyhow::anyhow!(missing.0))?;
    let mut command = Command::new(program);
    command.args(words).env("KUBECONFIG", world.cluster.kubeconfig()).kill_on_drop(true);
    Ok(command)
}

/// What virtctl prints.
pub(super) async fn virtctl(world: &World, words: &[&str]) -> anyhow::Result<String> {
    let output = command(world, words)?.stdin(Stdio::null()).output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "virtctl {words:?}: {said}{told}");
    Ok(said)
}

async fn shows(world: &World, vm: &str, status: &str) -> anyhow::Result<()> {
    eventually(&format!("{vm} to be {status}"), START, async || {
        let object = world.cluster.get(VM, vm).await?;
        same("its status", object["status"]["printableStatus"].as_str(), Some(status))
    })
    .await
}

/// What a port of the guest says to `words`, through virtctl's own stdin and stdout.
async fn on_port(world: &World, vm: &str, port: &str, words: &str) -> anyhow::Result<String> {
    let mut forward = command(world, &["port-forward", "--stdio=true", vm, port])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut keys = forward.stdin.take().context("no stdin")?;
    let mut screen = forward.stdout.take().context("no stdout")?;
    keys.write_all(words.as_bytes()).await?;
    keys.flush().await?;
    let mut said = Vec::new();
    let heard = tokio::time::timeout(SOON, screen.read_to_end(&mut said)).await;
    forward.kill().await?;
    let said = String::from_utf8_lossy(&said).into_owned();
    heard.with_context(|| format!("it goes on after {said:?}"))??;
    Ok(said)
}

/// Has a command run on the console until it has printed `wanted`, and leaves by Ctrl-].
async fn on_console(world: &World, vm: &str, line: &str, wanted: &str) -> anyhow::Result<()> {
    let mut console = command(world, &["console", vm])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut keys = console.stdin.take().context("no stdin")?;
    let mut screen = console.stdout.take().context("no stdout")?;
    keys.write_all(format!("\n{line}\n").as_bytes()).await?;
    keys.flush().await?;
    let mut shown = Vec::new();
    let reading = async {
        let mut piece = [0; 1024];
        loop {
            let length = screen.read(&mut piece).await?;
            shown.extend_from_slice(&piece[..length]);
            if String::from_utf8_lossy(&shown).contains(wanted) {
                return anyhow::Ok(());
            }
            if length == 0 {
                bail!("it ended");
            }
        }
    };
    let outcome = tokio::time::timeout(SOON, reading).await;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    outcome.with_context(|| format!("it shows {shown:?}"))?.with_context(|| shown.clone())?;
    keys.write_all(b"\x1d").await?;
    keys.flush().await?;
    let left = tokio::time::timeout(SOON, console.wait()).await.context("it does not leave")??;
    ensure!(left.success(), "{left}");
    Ok(())
}

pub(super) async fn stock_virtctl_starts_joins_pauses_moves_and_stops_a_vm(
    stock: &mut Stock,
) -> anyhow::Result<()> {
    let world = &mut stock.0;
    world.cluster.create(VPC, vpc("stock")).await?;
    let subnet = Subnet::named("stock-net").in_vpc("stock").of("10.231.0.0/24,fd31::/64");
    world.cluster.create(SUBNET, subnet.object()).await?;
    let serves = "#!/bin/sh\nmkdir /www; echo it-is-me >/www/index.html; httpd -p 80 -h /www\n";
    let vm = Vm::named("asked").on("stock-net").under("Manual").without_grace().running(serves);
    world.cluster.create(VM, vm.object()).await?;
    shows(world, "asked", "Stopped").await?;
    let said = virtctl(world, &["start", "asked"]).await?;
    ensure!(said.contains("VM asked was scheduled to start"), "{said}");
    let first = world.running("asked").await?;
    let place = world.place("asked").await?;
    world.guest_ready("asked", &place).await?;
    let again = virtctl(world, &["start", "asked"]).await.err();
    let again = again.context("a second start was not refused")?.to_string();
    ensure!(again.contains("VM is already running"), "{again}");

    on_console(world, "asked", "echo $((6*7))-is-it", "42-is-it").await?;

    eventually("the guest's agent to be found", SOON, async || {
        let told = virtctl(world, &["guestosinfo", "asked"]).await?;
        ensure!(told.contains(r#""id": "berth-guest""#), "{told}");
        Ok(())
    })
    .await?;
    virtctl(world, &["userlist", "asked"]).await?;
    virtctl(world, &["fslist", "asked"]).await?;
    let said = on_port(world, "vm/asked", "80", "GET / HTTP/1.0\r\n\r\n").await?;
    ensure!(said.contains("it-is-me"), "{said}");

    let picture = world.lab().layout().dir.join("asked.png");
    let file = picture.to_str().context("the lab's directory")?;
    for more in [&[][..], &["--move-cursor"]] {
        let words = [&["vnc", "screenshot", "asked", "--file", file], more].concat();
        virtctl(world, &words).await?;
        let png = std::fs::read(&picture)?;
        ensure!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "{:?}", &png[..png.len().min(64)]);
        ensure!(png.ends_with(b"IEND\xae\x42\x60\x82"), "it is cut off: {} bytes", png.len());
        std::fs::remove_file(&picture)?;
    }

    virtctl(world, &["pause", "vm", "asked"]).await?;
    shows(world, "asked", "Paused").await?;
    virtctl(world, &["unpause", "vm", "asked"]).await?;
    shows(world, "asked", "Running").await?;

    let before = world.node_of("asked").await?.name;
    eventually("the migration to be asked for", START, async || {
        virtctl(world, &["migrate", "asked"]).await
    })
    .await?;
    eventually("the guest to be on the other node", Duration::from_secs(120), async || {
        ensure!(world.node_of("asked").await?.name != before, "it is still there");
        Ok(())
    })
    .await?;
    on_console(world, "asked", "echo $((6*7))-is-it", "42-is-it").await.context("after it")?;

    virtctl(world, &["restart", "asked"]).await?;
    eventually("another instance", START, async || {
        let now = world.running("asked").await?;
        ensure!(now["metadata"]["uid"] != first["metadata"]["uid"], "still the one before");
        Ok(())
    })
    .await?;
    virtctl(world, &["stop", "asked"]).await?;
    world.cluster.gone(VMI, "asked", SOON).await?;

    virtctl(world, &["start", "asked", "--paused"]).await?;
    shows(world, "asked", "Paused").await?;
    let node = world.node_of("asked").await?;
    let state = async || world.virsh(&node, &["domstate", "--reason", "default_asked"]).await;
    same("libvirt's word", state().await?.trim(), "paused (user)")?;
    virtctl(world, &["unpause", "vm", "asked"]).await?;
    shows(world, "asked", "Running").await?;
    same("libvirt's word", state().await?.trim(), "running (unpaused)")?;
    virtctl(world, &["stop", "asked"]).await?;
    world.cluster.gone(VMI, "asked", SOON).await?;
    let version = virtctl(world, &["version"]).await?;
    ensure!(version.contains("-berth"), "{version}");
    Ok(())
}
