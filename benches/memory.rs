//! What does an address that is held cost in memory?
//!
//! What the process really has more of afterwards, the allocator's losses included, for
//! owners with names as the controller makes them: a pool keeps sixteen bytes of a name,
//! however long it is. Each case runs in a process of its own, as memory that another
//! one freed would hide what this one takes.

use std::process::Command;

use anyhow::{Context as _, ensure};
use benches::{Figure, resident_bytes, scattered_places};
use ipam::{Owner, Pool};

/// Set for the process that measures one case.
const CASE: &str = "--case";

/// Name of the figure, network, held addresses.
const CASES: &[(&str, &str, u32)] = &[
    ("pool_bytes_per_address", "10.0.0.0/16", 65_533),
    ("pool_bytes_per_address_v6", "fd00::/64", 65_533),
    ("pool_bytes_per_address_wide", "fd00::/48", 65_533),
    ("pool_bytes_per_address_million", "10.0.0.0/8", 1_000_000),
    ("pool_bytes_per_address_scattered", "10.0.0.0/8", 50_000),
    // Just after the tables have grown.
    ("pool_bytes_per_address_at_worst", "10.0.0.0/16", 57_400),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == CASE) {
        let name = arguments.get(at + 1).context("which case?")?;
        let case = CASES.iter().find(|case| case.0 == name).context("no such case")?;
        println!("{}", measure(case)?);
        return Ok(());
    }
    for (name, _, count) in CASES {
        let output = Command::new(std::env::current_exe()?).args([CASE, name]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bytes: u32 = String::from_utf8(output.stdout)?.trim().parse()?;
        let per_address = f64::from(bytes) / f64::from(*count);
        // kube-ovn.md §3.1: 400 to 470 B of heap per address, in a /8.
        Figure::new(name, per_address, "bytes").against("kube-ovn", 400.0).print();
    }
    Ok(())
}

/// Fills a pool and says by how many bytes that made the process grow.
fn measure((figure, network, count): &(&str, &str, u32)) -> anyhow::Result<u64> {
    let owner = |number: u32| {
        let port = format!("vm-{number:05}.default.ovn-net");
        Owner::from(format!("{port}/3f9c2a17-b04d-4c5e-8f00-{number:012x}").as_str())
    };
    let before = resident_bytes()?;
    let mut pool = Pool::new(network.parse()?, &[], &[], 60)?;
    for (number, place) in (0..*count).zip(scattered_places()) {
        if figure.ends_with("scattered") {
            pool.claim(owner(number), place, 0)?;
        } else {
            pool.allocate(owner(number), 0)?;
        }
    }
    let after = resident_bytes()?;
    ensure!(pool.held() == u64::from(*count), "the pool was measured while it was full");
    Ok(after.saturating_sub(before))
}
