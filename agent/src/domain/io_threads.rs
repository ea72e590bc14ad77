//! Which thread of QEMU serves which disk, as KubeVirt deals them out
//! (`virtwrap/converter`, `getIOThreadsCountType`): disks on virtio only.
//!
//! | policy | threads |
//! |---|---|
//! | none, and no disk asks for its own | none: QEMU's main loop serves all |
//! | `shared` | one, and one more for each disk that asks for its own |
//! | `auto` | one for each disk, as long as they are no more than two for each vCPU |

use crds::kubevirt::{Disk, DiskBus, DomainSpec};

use super::sizing::Topology;
use super::writer::Element;
use super::{DomainError, disk_bus};

/// How many threads there are, and whose.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct IoThreads {
    /// Dealt out in turn.
    shared: u32,
    /// After these.
    own: u32,
}

/// Deals the threads out, disk after disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deal {
    threads: IoThreads,
    shared: u32,
    own: u32,
}

fn is_own(disk: &Disk) -> bool {
    disk.dedicated_io_thread.unwrap_or(false)
}

impl IoThreads {
    /// # Errors
    /// A policy that is none of those possible.
    pub(super) fn of(spec: &DomainSpec, topology: Topology) -> Result<Self, DomainError> {
        let disks = &spec.devices.disks;
        let own = disks.iter().filter(|disk| is_own(disk)).count();
        let policy = spec.io_threads_policy.as_deref().filter(|policy| !policy.is_empty());
        let limit = match policy {
            None if own == 0 => return Ok(Self::default()),
            // That of the pool is `ignored`: this libvirt gives a disk one thread.
            None | Some("shared" | "supplementalPool") => 1,
            Some("auto") => topology.vcpus() * 2,
            Some(other) => {
                return Err(DomainError::NotSupported {
                    field: "spec.domain.ioThreadsPolicy".into(),
                    value: other.to_owned(),
                    allowed: "shared, auto",
                });
            }
        };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (own, others) = (count(own), count(disks.len() - own));
        let shared = others.min(limit.saturating_sub(own)).max(1);
        Ok(Self { shared, own })
    }

    /// `<iothreads>`, if there are any.
    pub(super) fn element(self) -> Option<Element> {
        let all = self.shared + self.own;
        (all > 0).then(|| Element::text("iothreads", all.to_string()))
    }

    /// The thread of the controller of all scsi disks.
    pub(super) fn of_controller(self) -> Option<u32> {
        (self.shared > 0).then_some(1)
    }

    pub(super) const fn deal(self) -> Deal {
        Deal { threads: self, shared: 0, own: 0 }
    }
}

impl Deal {
    /// The thread of the next disk, if it has one of its own to name.
    pub(super) fn next(&mut self, disk: &Disk) -> Option<u32> {
        if self.threads.shared == 0 || disk_bus(disk) != DiskBus::Virtio {
            return None;
        }
        if is_own(disk) {
            self.own += 1;
            return Some(self.threads.shared + self.own);
        }
        let thread = self.shared % self.threads.shared + 1;
        self.shared += 1;
        Some(thread)
    }
}
