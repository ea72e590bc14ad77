//! A kernel from outside of the guest's disks: out of an image of the layout, as a disk is.

use std::path::PathBuf;

use crds::kubevirt::VirtualMachineInstance;

use super::{Dirs, VolumeError, blocking, unpack};

/// The files that a guest boots, if not from its disks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Kernel {
    pub kernel: Option<PathBuf>,
    pub initrd: Option<PathBuf>,
}

/// The kernel of a VMI; nothing if it has none of its own. May be repeated.
///
/// # Errors
/// As [`super::prepare`].
pub async fn kernel(vmi: &VirtualMachineInstance, dirs: &Dirs) -> Result<Kernel, VolumeError> {
    const FIELD: &str = "spec.domain.firmware.kernelBoot";
    let firmware = vmi.spec.domain.firmware.as_ref();
    let Some(boot) = firmware.and_then(|firmware| firmware.kernel_boot.as_ref()) else {
        return Ok(Kernel::default());
    };
    let Some(container) = &boot.container else {
        if boot.kernel_args.is_some() {
            let rule = "kernel arguments cannot be provided without an external kernel";
            return Err(VolumeError::invalid(FIELD, rule));
        }
        return Ok(Kernel::default());
    };
    let field = format!("{FIELD}.container");
    if container.image.is_empty() {
        return Err(VolumeError::invalid(field, "must be defined with an image"));
    }
    let given = |path: &Option<String>| path.clone().filter(|path| !path.is_empty());
    let paths = [given(&container.kernel_path), given(&container.initrd_path)];
    if paths.iter().all(Option::is_none) {
        let rule = "must be defined with at least one of the following: kernelPath, initrdPath";
        return Err(VolumeError::invalid(field, rule));
    }
    let mut files = Vec::new();
    for path in paths {
        let Some(path) = path else {
            files.push(None);
            continue;
        };
        let (dirs, image) = (dirs.clone(), container.image.clone());
        let found = blocking(move || unpack::unpacked(&dirs, &image, Some(&path))).await?;
        files.push(Some(found.path));
    }
    let initrd = files.pop().flatten();
    Ok(Kernel { kernel: files.pop().flatten(), initrd })
}
