//! Control groups for the libvirtds of a lab, so that guests can be limited there, too: one
//! directory of the lab's in each controller, below it one of each node, which its libvirtd
//! takes for the root (a control group namespace). All of it goes with the lab.
//!
//! Only control groups of version 1 are used, and where all of these controllers are mounted.
//! Those of version 2 would have to be handed down from the host's root, which is not the lab's
//! to change; then libvirt has none, and nodes say so.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layout::{Layout, NodeLayout};
use super::sweep::wait_until;

/// Where the host has them.
const MOUNTED: &str = "/sys/fs/cgroup";

const PATIENCE: Duration = Duration::from_secs(2);

/// What libvirt is given.
pub(super) const CONTROLLERS: [&str; 4] = ["cpu", "cpuacct", "cpuset", "memory"];

/// What the guests of a lab weigh together, a process of the host being 1024: as much as some of
/// them would by themselves. Without it all of them were as one, and a busy host starved them.
const SHARES: &str = "16384";

/// Whether there are any to give.
pub(super) fn are_there() -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    CONTROLLERS.iter().all(|controller| {
        mounts.lines().any(|line| {
            let mut words = line.split(' ').skip(1);
            let (place, kind) = (words.next(), words.next());
            let options = words.next().unwrap_or_default();
            place == Some(&format!("{MOUNTED}/{controller}"))
                && kind == Some("cgroup")
                && options.split(',').any(|one| one == *controller)
                && options.split(',').any(|one| one == "rw")
        })
    })
}

/// The name of a lab's directories.
fn name(layout: &Layout) -> String {
    format!("berth-{}", layout.id)
}

/// The node's directory below each controller's root, made.
///
/// # Errors
/// The kernel.
pub(super) fn make(layout: &Layout, node: &NodeLayout) -> io::Result<String> {
    let part = format!("{}/{}", name(layout), node.name);
    for controller in CONTROLLERS {
        let mut above = Path::new(MOUNTED).join(controller);
        for step in part.split('/') {
            let dir = above.join(step);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            if controller == "cpu" {
                fs::write(dir.join("cpu.shares"), SHARES)?;
            }
            if controller == "cpuset" {
                // A new one has none, and takes no process.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    fs::write(dir.join(file), fs::read(above.join(file))?)?;
                }
            }
            above = dir;
        }
    }
    Ok(part)
}

/// Removes those of a lab whose processes have ended.
pub(super) fn remove(layout: &Layout) {
    // What has just ended may be in them for a moment.
    wait_until(PATIENCE, || directories(layout).iter().all(|dir| remove_all(dir).is_ok()));
    for dir in directories(layout) {
        tracing::warn!(dir = %dir.display(), "A control group was not removed");
    }
}

/// Those of a lab that are there.
#[must_use]
pub fn directories(layout: &Layout) -> Vec<PathBuf> {
    let of = |controller: &&str| Path::new(MOUNTED).join(controller).join(name(layout));
    CONTROLLERS.iter().map(of).filter(|dir| dir.exists()).collect()
}

/// The files in it are the kernel's and go with the directory.
fn remove_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_all(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}
