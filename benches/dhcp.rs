//! How fast is DHCP answered, and beside whom?
//!
//! | figure | what |
//! |---|---|
//! | `dhcp_responder` | from a frame to its answer's frame, a DISCOVER and a REQUEST each half of the time; nothing but the computation |
//! | `dhcp4_dora_kea`, `dhcp4_dora_dnsmasq` | the most exchanges (DISCOVER to ACK) a second of which none is lost, ours; the peer's in the same run on the same wire |
//! | `dhcp6_sarr_kea` | the same of DHCPv6: Solicit, Advertise, Request, Reply |
//! | `dhcp4_p50`, `dhcp4_p99`, `dhcp6_p50`, `dhcp6_p99` | from a question to its answer at half of what the better peer can: ours; the peer is that peer |
//! | `dhcp_idle_p99`, `dhcp_flood_p99` | from a question to its answer for guests of one port: alone, and while the guest of another one sends 100,000 DISCOVER a second |
//! | `dhcp_flood_p99_ratio` | the second by the first, the median of three runs of both |
//! | `rss_dhcp_10000`, `rss_dhcp6_10000` | memory of the server when it has 10,000 guests; the peer is Kea with as many leases |
//!
//! Everything is in two network namespaces with a cable between them, which the run makes
//! and removes: `berth dhcp` (or a peer) at one end, 10,000 clients at the other. A rate is
//! tried for a second and a half, doubled until something is lost, then narrowed down.
//! In DHCPv6 the server's kernel knows all clients' link-local addresses beforehand: a peer
//! has it send its answers, and would wait for neighbour discovery. Peers that are not
//! installed are left out.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use benches::exchange::{CLIENTS, Family, Outcome};
use benches::server::Server;
use benches::wire::Wire;
use benches::{Effort, Figure, flood, median, responder};
use tests::process::resident_kib;

/// How long a rate is tried.
const TRIAL: Duration = Duration::from_millis(1500);
/// The highest rate that is tried, exchanges a second.
const CEILING: u32 = 64_000;

fn main() -> ExitCode {
    responder::measure(Effort::Whole, &mut |figure: Figure<'_>| figure.print());
    match servers() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What was found of a server.
struct Found {
    rate: u32,
    kib: u64,
}

fn servers() -> anyhow::Result<()> {
    let wire = Wire::lay()?;
    beside(&wire, Family::V4, &[Server::Kea, Server::Dnsmasq])?;
    beside(&wire, Family::V6, &[Server::Kea])?;
    flooded(&wire)
}

/// What a guest that floods its port costs the guests of another one.
fn flooded(wire: &Wire) -> anyhow::Result<()> {
    let found: Vec<_> = (0..3).map(|_| flood::measure(wire)).collect::<Result<_, _>>()?;
    let ms = |outcome: &Outcome| outcome.percentile(99).as_secs_f64() * 1e3;
    let middle = |of: fn(&flood::Found) -> &Outcome| {
        median(found.iter().map(|found| ms(of(found))).collect())
    };
    Figure::new("dhcp_idle_p99", middle(|found| &found.idle), "ms").print();
    Figure::new("dhcp_flood_p99", middle(|found| &found.flooded), "ms").print();
    let ratios = found.iter().map(|found| ms(&found.flooded) / ms(&found.idle));
    Figure::new("dhcp_flood_p99_ratio", median(ratios.collect()), "times").print();
    for found in found.iter().filter(|found| found.frames < 0.95 * f64::from(flood::FRAMES)) {
        println!("note: there was time for {:.0} frames a second only", found.frames);
    }
    Ok(())
}

/// Ours in one family, beside those of the peers that are there.
fn beside(wire: &Wire, family: Family, peers: &[Server]) -> anyhow::Result<()> {
    let (number, exchange, memory) = match family {
        Family::V4 => (4, "dora", "rss_dhcp"),
        Family::V6 => (6, "sarr", "rss_dhcp6"),
    };
    let mut found = Vec::new();
    for peer in peers {
        match peer.is_there(family) {
            true => found.push((*peer, limit_of(wire, *peer, family)?)),
            false => println!("skipped: {} is not installed for IPv{number}", peer.name()),
        }
    }
    let ours = limit_of(wire, Server::Berth, family)?;
    if ours.rate == CEILING {
        println!("note: no more than {CEILING} exchanges a second were tried");
    }
    for (peer, theirs) in &found {
        let name = format!("dhcp{number}_{exchange}_{}", peer.name());
        Figure::new(&name, f64::from(ours.rate), "per-s")
            .more_is_better()
            .against(peer.name(), f64::from(theirs.rate))
            .print();
    }
    let mib = |found: &Found| found.kib as f64 / 1024.0;
    let name = format!("{memory}_{CLIENTS}");
    let memory = Figure::new(&name, mib(&ours), "MiB");
    match found.iter().find(|(peer, _)| *peer == Server::Kea) {
        Some((_, kea)) => memory.against("kea", mib(kea)).print(),
        None => memory.print(),
    }
    let Some((best, their)) = found.iter().max_by_key(|(_, found)| found.rate) else {
        return Ok(());
    };
    let half = their.rate / 2;
    let [ours, theirs] = [Server::Berth, *best].map(|server| waits_of(wire, server, family, half));
    let (ours, theirs) = (ours?, theirs?);
    for percent in [50, 99] {
        let ms = |outcome: &Outcome| outcome.percentile(percent).as_secs_f64() * 1e3;
        let name = format!("dhcp{number}_p{percent}");
        Figure::new(&name, ms(&ours), "ms").against(best.name(), ms(&theirs)).print();
    }
    Ok(())
}

/// The most that a server can do without loss.
fn limit_of(wire: &Wire, server: Server, family: Family) -> anyhow::Result<Found> {
    let process = wire.start(server, family)?;
    let rate = wire.among_clients(family, |clients| {
        let mut can = |rate| {
            let outcome = clients.load(rate, TRIAL)?;
            anyhow::Ok(outcome.is_whole() && outcome.kept_pace)
        };
        let mut low = 250;
        ensure!(can(low)?, "{} loses some of {low} exchanges a second", server.name());
        while low < CEILING && can(low * 2)? {
            low *= 2;
        }
        if low >= CEILING {
            return Ok(CEILING);
        }
        let mut step = low / 2;
        while step > low / 16 {
            if can(low + step)? {
                low += step;
            }
            step /= 2;
        }
        Ok(low)
    })?;
    Ok(Found { rate, kib: resident_kib(process.pid())? })
}

fn waits_of(wire: &Wire, server: Server, family: Family, rate: u32) -> anyhow::Result<Outcome> {
    let _process = wire.start(server, family)?;
    wire.among_clients(family, |clients| {
        clients.load(rate, TRIAL)?;
        clients.load(rate, TRIAL * 2)
    })
    .with_context(|| format!("the waits of {}", server.name()))
}
