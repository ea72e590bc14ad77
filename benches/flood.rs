//! How long guests wait for DHCP while another port of the same host is flooded.
//!
//! The server is the agent's, in this process: `berth dhcp` has one interface. Guests behind
//! `eth0` do whole exchanges, far below what they may; the one behind `eth1` sends DISCOVER
//! after DISCOVER, as fast as is asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dhcp::Server;
use tokio::sync::oneshot;

use crate::exchange::{CLIENTS, Clients, Family, Outcome, questions};
use crate::responder::{SERVER, address_of, binding};
use crate::wire::Wire;

/// What the flooded port's guest sends a second.
pub const FRAMES: u32 = 100_000;
/// What the other guests do, exchanges a second.
const RATE: u32 = 500;
/// How long they do it for one figure.
const TIME: Duration = Duration::from_secs(4);

/// The waits of the other guests.
#[derive(Debug)]
pub struct Found {
    /// With nobody else there.
    pub idle: Outcome,
    /// With the flood.
    pub flooded: Outcome,
    /// Frames a second that the flood really had.
    pub frames: f64,
}

/// Measures both, one after the other.
///
/// # Errors
/// When a guest is not answered, or the server does not come up.
pub fn measure(wire: &Wire) -> anyhow::Result<Found> {
    let (started, server) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| wire.at_server(|| serve(&started, stopped)));
        let _server = server.recv_timeout(Duration::from_secs(30)).context("no server")?;
        let found = wire.at_clients(load_both);
        drop(stop);
        serving.join().map_err(|_| anyhow::anyhow!("the server ended early"))??;
        found
    })
}

/// The server with all clients' bindings on `eth0`, and the first one's on `eth1`, too.
fn serve(
    started: &std::sync::mpsc::Sender<Server>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    // Its threads are where this one is, and as many as the agent's.
    tokio::runtime::Runtime::new()?.block_on(async {
        let server = Server::start(&prometheus::Registry::new())?;
        for client in 0..CLIENTS {
            let binding = serde_json::from_value(binding(Family::V4, client))?;
            server.set_port(&format!("quiet-{client}"), "eth0", binding);
        }
        server.set_port("loud", "eth1", serde_json::from_value(binding(Family::V4, 0))?);
        server.opened("quiet-0").await;
        server.opened("loud").await;
        started.send(server)?;
        let _ = stopped.await;
        Ok(())
    })
}

fn load_both() -> anyhow::Result<Found> {
    let mut clients = Clients::on("eth0", Family::V4)?;
    let mut load = || {
        let outcome = clients.load(RATE, TIME)?;
        ensure!(outcome.done > outcome.begun / 2, "{} of {}", outcome.done, outcome.begun);
        anyhow::Ok(outcome)
    };
    load()?;
    let idle = load()?;
    let is_over = AtomicBool::new(false);
    let (flooded, frames) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&is_over));
        let flooded = load();
        is_over.store(true, Ordering::Relaxed);
        let frames = flood.join().map_err(|_| anyhow::anyhow!("the flood ended early"))?;
        anyhow::Ok((flooded?, frames?))
    })?;
    Ok(Found { idle, flooded, frames })
}

/// Sends until it is over; says how many frames a second that were.
fn flood(is_over: &AtomicBool) -> anyhow::Result<f64> {
    let [discover, _] = questions(address_of(0), SERVER);
    let loud = Clients::on("eth1", Family::V4)?;
    let (started, mut sent) = (Instant::now(), 0);
    while !is_over.load(Ordering::Relaxed) {
        let due = started.elapsed().as_secs_f64() * f64::from(FRAMES);
        while f64::from(sent) < due {
            loud.send(&discover)?;
            sent += 1;
        }
        std::thread::park_timeout(Duration::from_micros(500));
    }
    Ok(f64::from(sent) / started.elapsed().as_secs_f64())
}
