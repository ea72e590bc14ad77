//! The directories of a lab: for root only, and emptied of what means something
//! only while it runs.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::User;

use super::layout::{Layout, NodeLayout};

/// How many nodes a lab can have, and so how many may have left something.
const NODES: std::ops::RangeInclusive<u8> = 1..=9;

/// Makes a directory, and those above it, that nobody but root may enter; one
/// that is there already becomes such a one. What is made in it may then have
/// any mode, whatever the umask.
pub(crate) fn private_dir(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| fs::set_permissions(dir, Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot make {} for root only", dir.display()))
}

/// As whom the lab's QEMU runs, and what of a node's it may then read: as Debian's libvirt
/// has it, or root where there is no such user.
pub(crate) fn qemu() -> Option<User> {
    User::from_name("libvirt-qemu").ok().flatten()
}

/// Makes a directory through which QEMU comes to what is its own, and which only root lists.
pub(crate) fn passable_dir(dir: &Path) -> Result<()> {
    private_dir(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o711))
        .with_context(|| format!("cannot let QEMU pass through {}", dir.display()))
}

/// Removes sockets, pid files and lock files: without the processes they are
/// nothing, and data do not depend on them.
pub(crate) fn clear_runtime(layout: &Layout) {
    clear(&layout.central());
    for node in NODES.map(|number| layout.node(number)) {
        clear_node(&node);
    }
}

/// [`clear_runtime`] for one node.
pub(crate) fn clear_node(node: &NodeLayout) {
    clear(&node.ovs());
    clear_below(&node.run());
    // All of libvirt's: what it remembers there of running guests is void.
    let _ = fs::remove_dir_all(node.libvirt().join("run"));
    clear_below(&node.libvirt().join("lib"));
}

/// What cannot be removed now is in nobody's way, and gone the next time.
fn clear(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if socket || name.ends_with(".pid") || name.ends_with(".~lock~") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// [`clear`], for the directories below as well.
fn clear_below(dir: &Path) {
    clear(dir);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            clear_below(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_only_a_running_lab_needs_goes_and_data_stay() {
        let scratch = tempfile::tempdir().unwrap();
        let layout = Layout { id: "t".to_owned(), dir: scratch.path().to_owned() };
        let node = layout.node(2);
        let vms = node.libvirt().join("lib/qemu/domain-1-default_web");
        let guest = node.run().join("default_web");
        for dir in [layout.central(), node.ovs(), guest, vms.clone()] {
            private_dir(&dir).unwrap();
        }
        let sockets = [
            layout.central().join("nb.sock"),
            node.run().join("default_web/vnc"),
            vms.join("monitor.sock"),
        ];
        for socket in &sockets {
            drop(UnixListener::bind(socket).unwrap());
        }
        let files = [
            layout.central().join("northd.pid"),
            layout.central().join(".nb.db.~lock~"),
            layout.central().join("nb.db"),
            vms.join("master-key.aes"),
        ];
        for file in &files {
            fs::write(file, "").unwrap();
        }
        clear_runtime(&layout);
        let left: Vec<_> = sockets.iter().chain(&files).filter(|path| path.exists()).collect();
        assert_eq!(left, files[2..].iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_directory_becomes_roots_alone_even_if_it_was_open() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("open");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        private_dir(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
