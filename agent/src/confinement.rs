//! As whom QEMU runs, and what of ours it may enter.
//!
//! ```text
//! <state-dir>            root:<group of QEMU>  0710   entered, not listed
//!   /vms/<domain>                              0710   libvirt gives the files in it away, one by one
//!   /images/<digest>                           0711   what is in it may be read
//! <run-dir>                                    0710
//!   /<domain>                                  0710   libvirt makes the socket of the console here
//!   /<domain>/q          <user of QEMU>        0700   QEMU makes that of its display here
//! ```
//!
//! libvirt runs QEMU as a user without rights, drops its capabilities and filters its
//! system calls; that user is libvirt's to choose (`user` in `qemu.conf`), and it tells it
//! in its capabilities. Files are root's until a domain starts that has them, and root's
//! again when it has ended.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

/// The user and the group that QEMU runs as, by number.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Runner {
    pub uid: u32,
    pub gid: u32,
}

impl Runner {
    /// Of libvirt's capabilities, where its DAC driver tells the label of a guest:
    /// `+64055:+107`. Root where it tells none, as a daemon that is not root's own.
    #[must_use]
    pub fn of_capabilities(xml: &str) -> Self {
        Self::label(xml).unwrap_or_default()
    }

    fn label(xml: &str) -> Option<Self> {
        let (_, of_dac) = xml.split_once("<model>dac</model>")?;
        let (of_dac, _) = of_dac.split_once("</secmodel>")?;
        let (_, label) = of_dac.split_once("<baselabel type='qemu'>")?;
        let (label, _) = label.split_once("</baselabel>")?;
        let (uid, gid) = label.split_once(':')?;
        let number = |text: &str| text.trim().trim_start_matches('+').parse().ok();
        Some(Self { uid: number(uid)?, gid: number(gid)? })
    }

    /// Lets QEMU through a directory of root's, which it cannot list. Blocks.
    ///
    /// # Errors
    /// The directory is not there, or not ours.
    pub(crate) fn admit(self, directory: &Path) -> io::Result<()> {
        give(directory, (0, self.gid), 0o710)
    }

    /// Makes a directory that is QEMU's. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn make(self, directory: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        give(directory, (self.uid, self.gid), 0o700)
    }
}

/// By difference: a directory is looked at far more often than it changes.
fn give(directory: &Path, (uid, gid): (u32, u32), mode: u32) -> io::Result<()> {
    let is = fs::symlink_metadata(directory)?;
    if !is.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if (is.uid(), is.gid()) != (uid, gid) {
        chown(directory, Some(uid), Some(gid))?;
    }
    if is.mode() & 0o7777 != mode {
        fs::set_permissions(directory, Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_qemu_is_what_libvirts_dac_driver_says() {
        let secmodel = |model: &str, label: &str| {
            format!(
                "<secmodel><model>{model}</model><doi>0</doi>\
                 <baselabel type='kvm'>{label}</baselabel>\
                 <baselabel type='qemu'>{label}</baselabel></secmodel>"
            )
        };
        let selinux = secmodel("selinux", "system_u:system_r:svirt_tcg_t:s0");
        let dac = secmodel("dac", "+64055:+107");
        let runner = Runner { uid: 64055, gid: 107 };
        assert_eq!(Runner::of_capabilities(&format!("<host>{selinux}{dac}</host>")), runner);
        assert_eq!(Runner::of_capabilities(&format!("<host>{dac}{selinux}</host>")), runner);
        assert_eq!(Runner::of_capabilities(&selinux), Runner::default());
        assert_eq!(Runner::of_capabilities(&secmodel("dac", "qemu")), Runner::default());
    }

    #[test]
    fn a_directory_gets_its_mode_whatever_it_was_and_nothing_else_is_given_away() {
        let scratch = tempfile::tempdir().unwrap();
        let own = fs::metadata(scratch.path()).unwrap();
        let runner = Runner { uid: own.uid(), gid: own.gid() };
        let dir = scratch.path().join("web");
        for _ in 0..2 {
            runner.make(&dir).unwrap();
            assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
            fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        }
        let (file, link) = (scratch.path().join("file"), scratch.path().join("link"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        for other in [file, link] {
            assert_eq!(runner.make(&other).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        }
        assert!(runner.admit(&scratch.path().join("none")).is_err());
    }
}
