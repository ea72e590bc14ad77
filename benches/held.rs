//! What does an address that is held cost in memory? The cases are in `memory.rs`; each
//! runs in a process of its own.

use std::process::Command;

use anyhow::{Context as _, ensure};
use benches::Figure;
use benches::memory::CASES;

/// Set for the process that measures one case.
const CASE: &str = "--case";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == CASE) {
        let name = arguments.get(at + 1).context("which case?")?;
        let case = CASES.iter().find(|case| case.name == name).context("no such case")?;
        println!("{}", case.measure()?);
        return Ok(());
    }
    for case in CASES {
        let output = Command::new(std::env::current_exe()?).args([CASE, case.name]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let bytes: u32 = String::from_utf8(output.stdout)?.trim().parse()?;
        let per_address = f64::from(bytes) / f64::from(case.held);
        // kube-ovn.md §3.1: 400 to 470 B of heap per address, in a /8.
        Figure::new(case.name, per_address, "bytes").against("kube-ovn", 400.0).print();
    }
    Ok(())
}
