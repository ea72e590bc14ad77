//! What the tests of this folder share: shell commands, and the traces that a lab
//! may not leave on the host.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// False without root, with a word about it.
pub(crate) fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: network namespaces need root");
    }
    root
}

/// Runs a shell script that must succeed; returns what it printed.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a lab may not leave on the host.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Traces {
    namespaces: BTreeSet<String>,
    links: BTreeSet<String>,
    mounts: BTreeSet<String>,
    processes: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Traces {
    /// Of this lab only: other labs may come and go on the same host meanwhile.
    pub(crate) fn of(id: &str, dir: &Path) -> Self {
        let lines = |text: String, ours: &[&str]| -> BTreeSet<String> {
            text.lines()
                .filter(|line| ours.iter().any(|our| line.contains(our)))
                .map(str::to_owned)
                .collect()
        };
        let dir = dir.to_str().unwrap();
        let prefix = format!("berth-{id}-");
        Self {
            namespaces: lines(sh("ip netns list"), &[&prefix]),
            links: sh("ip -o -br link | cut -d' ' -f1").lines().map(str::to_owned).collect(),
            mounts: lines(std::fs::read_to_string("/proc/self/mounts").unwrap(), &[&prefix, dir]),
            processes: lines(sh("ps -eo args"), &[&prefix, dir]),
            files: files(),
        }
    }
}

/// The files of the programs that a lab runs, wherever they keep them by default,
/// and whatever in the places for everybody bears their names.
fn files() -> BTreeSet<String> {
    let own = "/etc/libvirt /etc/openvswitch /etc/ovn /etc/netns \
        /run/libvirt /run/openvswitch /run/ovn /run/qemu \
        /var/lib/libvirt /var/lib/openvswitch /var/lib/ovn /var/lib/dhcp \
        /var/log/libvirt /var/log/openvswitch /var/log/ovn /var/cache/libvirt \
        /root/.cache/libvirt /root/.config/libvirt /root/.local/share/libvirt";
    let common = "/tmp /var/tmp /run /run/lock /dev/shm /etc /var/lib /var/cache /var/log /root";
    let names = ["berth", "ovn", "ovs", "openvswitch", "libvirt", "virt", "qemu", "vl."];
    let found =
        sh(&format!("(find {own}; find {common} -mindepth 1 -maxdepth 1) 2>/dev/null || true"));
    let ours = |line: &&str| {
        let name = line.rsplit('/').next().unwrap();
        // Directories of tests, which come and go.
        !name.starts_with("berth-up-")
            && !name.starts_with("berth-lab-")
            && !name.starts_with("berth-tests")
            && (own.split(' ').any(|dir| !dir.is_empty() && line.starts_with(dir))
                || names.iter().any(|part| name.contains(part)))
    };
    found.lines().filter(ours).map(str::to_owned).collect()
}
