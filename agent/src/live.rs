//! The hardware of a guest that runs, and how it is brought to what its object asks for.
//!
//! ```text
//!  VMI's spec ─┐
//!              ├─ changes ──► attach, detach, insert, eject … ──► libvirt ─┐
//!  libvirt's ──┘     ▲                                                     │
//!  own XML           └─────────────── read again ──────────────────────────┘
//!                                          └──► volumeStatus of the VMI
//! ```
//!
//! Nothing is remembered of what was done: what is there libvirt says each time, and a device
//! is known by the alias that it was given, which is the name in the spec behind `ua-`, and of a
//! disk that may leave the guest a mark: what a guest began with as its own is never taken from
//! it. So an agent that is killed at any step finds what is left to do as if it had never begun.
//! A guest may hold on to a device for as long as it likes; it is asked again and again, ever
//! more seldom.

mod account;
mod changes;
pub mod limits;
mod present;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crds::kubevirt::{ClaimInfo, VirtualMachineInstance};

pub use self::account::say;
pub use self::changes::{About, Change, changes, in_turn};
pub use self::present::{Present, PresentDisk, PresentInterface, PresentMemory};
use crate::control_groups::NO_CONTROL_GROUP;
use crate::vm::Trouble;
use crate::volumes::DiskFile;

/// How the name of a device in the spec becomes its alias.
pub const ALIAS: &str = "ua-";

/// How the alias of a disk ends that may leave the guest, or whose medium may: what it began with
/// as its own it keeps, whatever becomes of its object.
pub const MAY_GO: &str = "_may_go";

/// The name of the device by which memory comes. Nothing in a spec has an underscore in its name.
pub const PLUGGABLE: &str = "pluggable_memory";

/// What is behind each volume that may come and go, or why it cannot be had, by name.
pub type Files = BTreeMap<String, Result<DiskFile, Trouble>>;

/// How far a guest's hardware is what its object asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// What it has.
    pub present: Present,
    /// What keeps volumes from it or with it, by name.
    pub troubles: BTreeMap<String, Trouble>,
    /// What keeps its processors from being so.
    pub of_cpu: Option<Trouble>,
    /// And its memory.
    pub of_memory: Option<Trouble>,
    /// And its interfaces.
    pub of_interfaces: Option<Trouble>,
    /// What keeps it from being kept to its share of the processors.
    pub of_bandwidth: Option<Trouble>,
    /// And to its memory.
    pub of_memory_limit: Option<Trouble>,
    /// What its volumes lie on, where that is a claim.
    pub claims: BTreeMap<String, ClaimInfo>,
    /// The volumes with which something is left to be done.
    pub left: BTreeSet<String>,
    /// Whether the guest was asked to let go of something and has not.
    pub ignored: bool,
}

/// Before what could not be done is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// And at most, where that costs a thread some seconds each time.
const SELDOM: Duration = Duration::from_secs(240);

impl Account {
    /// When to try again, after so many attempts from which nothing has followed. Only a guest
    /// that ignores what it is asked is asked ever more seldom: objects that are waited for
    /// may come any moment.
    #[must_use]
    pub fn again(&self, in_vain: u32) -> Duration {
        let times = if self.ignored { 1 << in_vain.min(8) } else { 1 };
        (AGAIN * times).min(SELDOM)
    }

    /// Why something is to be done again later, if it is.
    #[must_use]
    pub fn unsettled(&self) -> Option<Trouble> {
        let others = [&self.of_cpu, &self.of_memory, &self.of_interfaces];
        // A node does not come by control groups while a guest runs.
        let limits = [&self.of_bandwidth, &self.of_memory_limit].into_iter().flatten();
        let limits = limits.filter(|trouble| trouble.reason != NO_CONTROL_GROUP);
        let others = others.into_iter().flatten().chain(limits);
        let first = others.chain(self.troubles.values()).next().cloned();
        let waits = || Trouble::of("DeviceInUse", "the guest has not let go of a device yet");
        first.or_else(|| (!self.left.is_empty()).then(waits))
    }
}

/// What the guest has that its object does not say, or says otherwise: a disk that it holds on to,
/// or one that is to give way to another. Only the domain tells what that lies on; `left`: the
/// volumes with which something is to be done.
#[must_use]
pub fn stranger<'a>(
    vmi: &VirtualMachineInstance,
    present: &'a Present,
    left: &BTreeSet<String>,
) -> Option<&'a str> {
    let is_strange = |disk: &&PresentDisk| {
        let is_said = vmi.spec.volumes.iter().any(|volume| volume.name == disk.name);
        disk.source.is_some() && (!is_said || left.contains(&disk.name))
    };
    present.disks.iter().find(is_strange).map(|disk| disk.name.as_str())
}

/// Said of one.
#[must_use]
pub fn strange(name: &str) -> String {
    format!(
        "cannot migrate VMI: its guest still has disk {name}, which its spec does not name or \
         names otherwise: unmount it in the guest, or write it into the spec again"
    )
}

/// Whether two versions of an object may ask for different hardware.
#[must_use]
pub fn differ(one: &VirtualMachineInstance, two: &VirtualMachineInstance) -> bool {
    one.spec.volumes != two.spec.volumes || one.spec.domain != two.spec.domain
}
