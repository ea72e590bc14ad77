//! A kernel from outside of the guest's disks: out of an image, as a disk is.
//!
//! Which one it is, is found out once for each start and kept as a link beside the VM's
//! disks: a name may mean another image when the domain is made.

use std::io;
use std::path::{Path, PathBuf};

use crds::kubevirt::{KernelBootContainer, VirtualMachineInstance};

use super::{Dirs, VolumeError, Work, policy, rename};

const FIELD: &str = "spec.domain.firmware.kernelBoot";

/// The links' names; disks have others, with an extension.
pub(super) const KERNEL: &str = "kernel";
pub(super) const INITRD: &str = "initrd";

/// The files that a guest boots, if not from its disks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Kernel {
    pub kernel: Option<PathBuf>,
    pub initrd: Option<PathBuf>,
}

/// The kernel of a VMI whose files are made; nothing if it has none of its own.
///
/// # Errors
/// `File`.
pub async fn kernel(vmi: &VirtualMachineInstance, dirs: &Dirs) -> Result<Kernel, VolumeError> {
    let (Some(name), Some(namespace)) = (&vmi.metadata.name, &vmi.metadata.namespace) else {
        return Ok(Kernel::default());
    };
    let home = dirs.of_domain(&net::names::domain(namespace, name));
    let (kernel, initrd) = (linked(&home, KERNEL).await?, linked(&home, INITRD).await?);
    Ok(Kernel { kernel, initrd })
}

impl Work<'_> {
    /// Links to the kernel that the VMI asks for, if it asks for one. May be repeated.
    pub(super) async fn kernel(&self) -> Result<(), VolumeError> {
        let firmware = self.vmi.spec.domain.firmware.as_ref();
        let Some(boot) = firmware.and_then(|firmware| firmware.kernel_boot.as_ref()) else {
            return Ok(());
        };
        let Some(container) = &boot.container else {
            if boot.kernel_args.is_some() {
                let rule = "kernel arguments cannot be provided without an external kernel";
                return Err(VolumeError::invalid(FIELD, rule));
            }
            return Ok(());
        };
        let field = format!("{FIELD}.container");
        if container.image.is_empty() {
            return Err(VolumeError::invalid(field, "must be defined with an image"));
        }
        let paths = [(KERNEL, &container.kernel_path), (INITRD, &container.initrd_path)];
        let given = |path: &Option<String>| path.clone().filter(|path| !path.is_empty());
        let paths = paths.map(|(link, path)| (link, given(path)));
        if paths.iter().all(|(_, path)| path.is_none()) {
            let rule = "must be defined with at least one of the following: kernelPath, initrdPath";
            return Err(VolumeError::invalid(field, rule));
        }
        for (link, path) in &paths {
            if let Some(path) = path {
                self.link(link, container, path, &field).await?;
            }
        }
        Ok(())
    }

    async fn link(
        &self,
        link: &str,
        container: &KernelBootContainer,
        path: &str,
        field: &str,
    ) -> Result<(), VolumeError> {
        let policy = policy(container.image_pull_policy.as_deref(), field)?;
        if linked(self.home, link).await?.is_some() {
            return Ok(());
        }
        let file = self.of_image(&container.image, Some(path), policy).await?;
        let (partial, link) = (self.home.join(format!("{link}.partial")), self.home.join(link));
        let made = async {
            match tokio::fs::remove_file(&partial).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            tokio::fs::symlink(&file.path, &partial).await
        };
        made.await.map_err(VolumeError::file("make the link", &partial))?;
        rename(&partial, &link).await
    }
}

/// Where a link leads; none if there is no link.
async fn linked(home: &Path, link: &str) -> Result<Option<PathBuf>, VolumeError> {
    let link = home.join(link);
    match tokio::fs::read_link(&link).await {
        Ok(to) => Ok(Some(to)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(VolumeError::file("read the link", &link)(error)),
    }
}
