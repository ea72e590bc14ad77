//! Network namespaces: made, entered, emptied and removed, by name.
//!
//! Everything that runs in a namespace of the lab is the lab's, whoever started
//! it: that is how QEMU processes, which libvirt detaches, are found again.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::command::run;

const DIR: &str = "/run/netns";

/// Where the namespace of that name is mounted.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Makes the namespace, with its loopback up.
///
/// IPv6 is off in it, also for interfaces that come later: the taps of guests
/// appear here, and the host's own neighbour discovery must not reach a guest.
pub(crate) async fn add(name: &str) -> Result<()> {
    run(&["ip", "netns", "add", name]).await.context("cannot make a network namespace")?;
    let quiet = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; \
                 echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; \
                 ip link set lo up";
    exec(name, &["sh", "-c", quiet]).await.map(drop)
}

/// Lets this one interface of it have IPv6 after all.
pub(crate) async fn with_ipv6(name: &str, interface: &str) -> Result<()> {
    let on = format!("echo 0 >/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    exec(name, &["sh", "-c", &on]).await.map(drop)
}

/// Runs a command inside the namespace.
pub(crate) async fn exec(name: &str, words: &[&str]) -> Result<String> {
    let mut all = vec!["ip", "netns", "exec", name];
    all.extend(words);
    run(&all).await
}

/// Names of the namespaces that begin with `prefix`.
pub(crate) fn list(prefix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(DIR) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

/// Whether `/run/netns` is a mount point, as `ip netns add` makes it.
fn directory_is_mounted() -> bool {
    std::fs::read_to_string("/proc/self/mounts")
        .is_ok_and(|mounts| mounts.lines().any(|line| line.split(' ').nth(1) == Some(DIR)))
}

/// Whether that mount, made by the first `ip netns add` on the host, is a lab's
/// to remove: it is not there yet, or is there for other labs only.
pub(crate) fn directory_is_of_labs() -> bool {
    let names = list("");
    !directory_is_mounted()
        || (!names.is_empty() && names.iter().all(|name| name.starts_with("berth-")))
}

/// Takes that mount away again, unless somebody has namespaces in it.
pub(crate) fn unmount_directory() {
    if list("").is_empty() && directory_is_mounted() {
        let _ = nix::mount::umount2(DIR, nix::mount::MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(DIR);
    }
}

/// The processes in any of these namespaces.
pub(crate) fn pids(names: &[String]) -> Vec<i32> {
    let inodes: Vec<u64> = names
        .iter()
        .filter_map(|name| std::fs::metadata(path(name)).ok())
        .map(|meta| meta.ino())
        .collect();
    if inodes.is_empty() {
        return Vec::new();
    }
    let inside = |pid: &i32| {
        std::fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|meta| inodes.contains(&meta.ino()))
    };
    all_pids().filter(inside).collect()
}

/// Every process of the host.
pub(crate) fn all_pids() -> impl Iterator<Item = i32> {
    let number = |name: &OsStr| name.to_str().and_then(|name| name.parse().ok());
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(move |entry| number(&entry.file_name()))
}
