//! `berth up` as a person runs it: real guests, twice over the same data.
//!
//! Needs root and the Debian packages; says so and passes without root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::{Command, Output};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn up(dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_berth"))
        .args(["up", "--exit-when-ready", "--data-dir"])
        .arg(dir)
        .args(["--api-port", &free_port().to_string()])
        .args(more)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Node, addresses and MAC of each VM, from the table.
fn places(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines().filter(|line| line.starts_with("web ") || line.starts_with("db "));
    rows.map(|row| row.split_whitespace().take(5).map(str::to_owned).collect()).collect()
}

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: network namespaces need root");
    }
    root
}

#[test]
fn the_quick_start_gets_ready_and_a_second_run_finds_the_same_machines() {
    if !root() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("berth-up-").tempdir_in("/tmp").unwrap();
    let first = up(dir.path(), &[]);
    let said = stdout(&first);
    assert!(first.status.success(), "{said}{}", String::from_utf8_lossy(&first.stderr));
    assert!(said.contains("created VirtualMachine web"), "{said}");
    let placed = places(&said);
    assert_eq!(placed.len(), 2, "{said}");
    let web = placed.iter().find(|row| row[0] == "web").unwrap();
    assert_eq!(web[2..4], ["10.66.0.10", "fd66::10"], "the addresses that the manifest asks for");
    assert_ne!(placed[0][1], placed[1][1], "the two are on different nodes");

    let second = up(dir.path(), &[]);
    let said = stdout(&second);
    assert!(second.status.success(), "{said}{}", String::from_utf8_lossy(&second.stderr));
    assert!(said.contains("VirtualMachine web is there already"), "{said}");
    assert_eq!(places(&said), placed);

    let marks = format!("ps -eo args | grep -F {} | grep -v grep", dir.path().display());
    let left = Command::new("sh").args(["-c", &marks]).output().unwrap();
    assert_eq!(stdout(&left), "", "processes are left");
}

#[test]
fn a_machine_that_cannot_get_ready_ends_it_with_the_reason() {
    if !root() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("berth-up-").tempdir_in("/tmp").unwrap();
    let file = dir.path().join("lost.yaml");
    let lost = berth::manifests::QUICKSTART.split("---").nth(3).unwrap();
    std::fs::write(&file, lost.replace("logical_switch: quickstart", "logical_switch: nowhere"))
        .unwrap();
    let output =
        up(dir.path(), &["--nodes", "1", "--timeout", "3", "--apply", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    let reason = String::from_utf8_lossy(&output.stderr);
    assert!(reason.contains("db has no instance yet") && reason.contains("nowhere"), "{reason}");
}
