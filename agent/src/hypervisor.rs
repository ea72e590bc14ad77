//! What a VM's driver asks of the hypervisor: some verbs and one list.
//!
//! ```text
//!            define          start            shutdown, destroy,
//!   (none) ─────────► ShutOff ─────► Running ── guest, crash ────► ShutOff(reason)
//!      ▲                 │                                            │
//!      └──── undefine ───┴────────────────── undefine ────────────────┘
//! ```
//!
//! Domains are persistent, so that the reason of a shut-off can still be read
//! by an agent that was away when it happened. Every verb may be repeated: one
//! that finds its effect already there succeeds, except `start`, whose caller
//! wants to know.
//!
//! There are no events: the `virt` crate offers no safe subscription, and a
//! list that is read on a period is needed anyway.

pub mod fake;
mod guest_agent;
pub mod libvirt;
mod metadata;
mod seat;

pub use fake::Fake;
pub use guest_agent::{GuestError, Lane};
pub use libvirt::Libvirt;
pub use metadata::Identity;

pub use crate::confinement::Runner;
use crate::volumes::Login;

/// The namespace of the element in `<metadata>` by which a domain is ours.
pub const METADATA_NAMESPACE: &str = "https://berth.io/domain/1";

/// The hypervisor of this node; a cheap handle.
#[derive(Clone, Debug)]
pub enum Hypervisor {
    Libvirt(Libvirt),
    Fake(Fake),
}

/// Why a verb did not have its effect.
///
/// `Disconnected` is worth repeating as it is. `Refused` needs another
/// definition, or another state of the host, before it can succeed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HypervisorError {
    /// No domain has this name.
    #[error("there is no domain {0}")]
    NotFound(String),
    /// The domain asked to start runs already.
    #[error("the domain {0} is already running")]
    AlreadyRunning(String),
    /// The hypervisor cannot be reached, or went away before it answered. The
    /// effect is unknown.
    #[error("the hypervisor cannot be reached: {0}")]
    Disconnected(String),
    /// The hypervisor said no; the text is its own.
    #[error("the hypervisor refused: {0}")]
    Refused(String),
    /// The hypervisor has no control group of the kind by which it would limit a guest.
    #[error("the hypervisor cannot limit guests: {0}")]
    NoControlGroup(String),
}

/// The way of a guest to another node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Journey {
    /// The target's address.
    pub address: String,
    /// The directory of certificates, as libvirtd sees it, if not in its usual places.
    pub pki: Option<String>,
    /// How paths of this node's begin, and how at the target the same do.
    pub paths: Vec<(String, String)>,
    /// The taps, which are at the target already: libvirt refuses to make what is there.
    pub taps: Vec<String>,
    /// MiB a second that it may take, if not all that there is.
    pub bandwidth: Option<u64>,
    /// Slow the guest down while it writes memory faster than that goes over.
    pub auto_converge: bool,
    /// Whether it may be gone over to post-copy, see [`Hypervisor::post_copy`].
    pub post_copy: bool,
    /// Milliseconds for which the guest may stand still in the end, if not QEMU's own.
    pub downtime: Option<u64>,
    /// The target's processors that its guests share, if those are not all.
    pub cpus: Option<String>,
}

impl Journey {
    /// The text of a domain as libvirt writes it, with the target's paths, taps and processors.
    /// What keeps the guest to its limits stays: the target has control groups of its own, or
    /// none.
    pub(crate) fn rewritten(&self, xml: &str) -> String {
        let xml = seat::elsewhere(xml, self.cpus.as_deref());
        let xml = self.paths.iter().fold(xml, |xml, (from, to)| xml.replace(from, to));
        self.taps.iter().fold(xml, |xml, tap| {
            let made = format!("<target dev='{tap}'/>");
            xml.replace(&made, &format!("<target dev='{tap}' managed='no'/>"))
        })
    }

    /// The disks that are sent, by their names in the guest: those whose files are ours.
    /// What lies elsewhere is there for the target, too. None if all disks are sent, as
    /// libvirt does by itself.
    pub(crate) fn copied(&self, xml: &str) -> Option<Vec<String>> {
        let is_ours = |path: &str| self.paths.iter().any(|(from, _)| path.starts_with(from));
        let value = |of: &str, before: &str| {
            let (_, rest) = of.split_once(before)?;
            Some(rest.split_once('\'')?.0.to_owned())
        };
        let disks = xml.split("<disk ").skip(1);
        let disks = disks.map(|disk| disk.split("</disk>").next().unwrap_or_default());
        let mut copied = Vec::new();
        let mut stays = false;
        for disk in disks {
            let source = value(disk, "<source file='").filter(|path| is_ours(path));
            match (source, value(disk, "<target dev='")) {
                (Some(_), Some(_)) if disk.contains("<readonly/>") => {}
                (Some(_), Some(target)) => copied.push(target),
                _ => stays = true,
            }
        }
        stays.then_some(copied)
    }

    /// The target's address within a URI.
    pub(crate) fn host(&self) -> String {
        if self.address.contains(':') {
            format!("[{}]", self.address)
        } else {
            self.address.clone()
        }
    }
}

/// What is being sent of a guest, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Job {
    pub total: u64,
    pub remaining: u64,
}

/// A change of the hardware of a domain that runs; devices are XML.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Alteration {
    /// Puts this device in.
    Attach(String),
    /// Asks the guest to let go of this device. Whether it has, only a new description tells.
    Detach(String),
    /// Makes the device of this name and place into this one.
    Update(String),
    /// Gives the guest so many vCPUs.
    Vcpus(u32),
    /// Gives it so many shares of the processors, and so many µs in each
    /// [period](crate::live::limits::PERIOD) at most.
    Bandwidth { shares: u64, quota: Option<i64> },
    /// Lets it have so many bytes of the node's memory at most.
    MemoryLimit(u64),
}

/// One of our domains as the hypervisor sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observed {
    /// The domain's name, [`net::names::domain`].
    pub domain: String,
    /// The uid of the VMI it was made for, from the metadata.
    pub uid: String,
    /// The VMI's namespace, from the metadata.
    pub namespace: String,
    /// The VMI's name, from the metadata.
    pub name: String,
    pub state: DomainState,
}

/// What a domain is doing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DomainState {
    /// Running, blocked on a resource, or suspended by its own power
    /// management: KubeVirt calls all three running.
    Running,
    /// Its vCPUs stand still.
    Paused(PauseReason),
    /// The guest is on its way down; `ShutOff` follows.
    ShuttingDown,
    /// No process of it exists.
    ShutOff(ShutOffReason),
}

/// Why a domain is paused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PauseReason {
    User,
    /// A disk returned an error and its policy is to stop.
    IoError,
    /// One side of a live migration: also of one that runs here while the rest of its memory
    /// is still on its way.
    Migration,
    /// The migration broke after the switch-over: the guest is lost. Also of one that runs on
    /// with what it has.
    PostCopyFailed,
    /// Start-up, snapshot, dump and what else passes by itself.
    Other,
}

/// Why a domain is shut off.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ShutOffReason {
    /// The guest powered itself off, asked to or not.
    Shutdown,
    /// `destroy` was called.
    Destroyed,
    /// The guest panicked, or its process died.
    Crashed,
    /// It never came up.
    Failed,
    /// It went on elsewhere.
    Migrated,
    /// Its state was saved to disk.
    Saved,
    /// It was reverted to a snapshot of a shut-off domain.
    FromSnapshot,
    /// The daemon gave it up.
    Daemon,
    /// Defined and not started since, or shut off before the daemon itself
    /// was restarted, which forgets the reason.
    Unknown,
}

impl ShutOffReason {
    /// Whether the VMI ends as `Failed` rather than `Succeeded`, as KubeVirt
    /// decides it.
    ///
    /// `Destroyed` counts as success here; who destroyed a domain because its
    /// grace period ran out knows better. A forgotten reason counts as failure.
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Self::Crashed | Self::Failed | Self::Daemon | Self::Unknown => true,
            Self::Shutdown
            | Self::Destroyed
            | Self::Migrated
            | Self::Saved
            | Self::FromSnapshot => false,
        }
    }
}

/// The longest picture of a screen that is taken, in bytes: how much is on it the guest chooses.
pub const LONGEST_PICTURE: usize = 32 << 20;

/// Delegates one verb to whichever hypervisor this is.
macro_rules! either {
    ($self:ident, $verb:ident ( $($arg:expr),* )) => {
        match $self {
            Self::Libvirt(libvirt) => libvirt.$verb($($arg),*).await,
            Self::Fake(fake) => fake.$verb($($arg),*).await,
        }
    };
}

impl Hypervisor {
    /// Makes the domain known, or replaces the definition of one of the same
    /// name and uuid; a running domain keeps running as it is.
    ///
    /// # Errors
    /// `Refused` when the XML is not accepted, or when the name is taken by a
    /// domain of another uuid.
    pub async fn define(&self, xml: &str) -> Result<(), HypervisorError> {
        either!(self, define(xml))
    }

    /// Starts a defined domain.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyRunning`, or `Refused` with what QEMU printed.
    pub async fn start(&self, domain: &str) -> Result<(), HypervisorError> {
        either!(self, start(domain))
    }

    /// Starts a defined domain, whose guest does nothing before it is resumed.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_paused(&self, domain: &str) -> Result<(), HypervisorError> {
        either!(self, start_paused(domain))
    }

    /// Lets a guest go on that stands still. One that runs is left so.
    ///
    /// # Errors
    /// `NotFound`, or `Refused`.
    pub async fn resume(&self, domain: &str) -> Result<(), HypervisorError> {
        either!(self, resume(domain))
    }

    /// Lets a guest stand still until it is resumed. One that does is left so.
    ///
    /// # Errors
    /// `NotFound`, or `Refused`.
    pub async fn suspend(&self, domain: &str) -> Result<(), HypervisorError> {
        either!(self, suspend(domain))
    }

    /// Asks the guest to restart itself, and returns without waiting for it.
    ///
    /// # Errors
    /// `NotFound`, or `Refused`.
    pub async fn reboot(&self, domain: &str) -> Result<(), HypervisorError> {
        either!(self, reboot(domain))
    }

    /// Presses the guest's reset button.
    ///
    /// # Errors
    /// `NotFound`, or `Refused`.
    pub async fn reset(&self, domain: &str) -> Result<(), HypervisorError> {
        either!(self, reset(domain))
    }

    /// Presses the guest's power button, and returns without waiting for it.
    /// A domain that is shut off is left so.
    ///
    /// # Errors
    /// `NotFound`, or `Refused`.
    pub async fn shutdown(&self, domain: &str) -> Result<(), HypervisorError> {
        either!(self, shutdown(domain))
    }

    /// Ends the domain's process, giving QEMU the time to flush its disks. A
    /// domain that is shut off is left so, with its reason.
    ///
    /// # Errors
    /// `NotFound`, or `Refused` when the process does not go away.
    pub async fn destroy(&self, domain: &str) -> Result<(), HypervisorError> {
        either!(self, destroy(domain))
    }

    /// Forgets a shut-off domain, with its NVRAM and TPM state.
    ///
    /// # Errors
    /// `NotFound` when there is nothing left to forget.
    pub async fn undefine(&self, domain: &str) -> Result<(), HypervisorError> {
        either!(self, undefine(domain))
    }

    /// Sends a running domain to another node, and waits until it runs there, is defined
    /// there, and is shut off here. The definition stays here.
    ///
    /// # Errors
    /// `Refused` when it stays here, `NotFound`, or `Disconnected` when nobody knows.
    pub async fn migrate(&self, domain: &str, journey: Journey) -> Result<(), HypervisorError> {
        either!(self, migrate(domain, journey))
    }

    /// What is being sent of a domain, if it is.
    ///
    /// # Errors
    /// `NotFound`, `Disconnected`, or `Refused` when it does not run.
    pub async fn job(&self, domain: &str) -> Result<Option<Job>, HypervisorError> {
        either!(self, job(domain))
    }

    /// Calls the sending of a domain off; `migrate` fails then.
    ///
    /// # Errors
    /// `Refused` when nothing is being sent.
    pub async fn abort(&self, domain: &str) -> Result<(), HypervisorError> {
        either!(self, abort(domain))
    }

    /// Has a domain that is being sent with [`Journey::post_copy`] go on at the target at once.
    /// From then on the sending cannot be called off, and what breaks it off costs the guest.
    ///
    /// # Errors
    /// `Refused` when its memory is not being sent, or not yet.
    pub async fn post_copy(&self, domain: &str) -> Result<(), HypervisorError> {
        either!(self, post_copy(domain))
    }

    /// For how many milliseconds a domain that is being sent may stand still in the end.
    ///
    /// # Errors
    /// `Refused` when it does not run.
    pub async fn allow_downtime(&self, domain: &str, most: u64) -> Result<(), HypervisorError> {
        either!(self, allow_downtime(domain, most))
    }

    /// As whom its QEMU processes run. It does not change while libvirtd runs.
    ///
    /// # Errors
    /// `Disconnected`.
    pub async fn runner(&self) -> Result<Runner, HypervisorError> {
        either!(self, runner())
    }

    /// A running domain as it is now, as XML.
    ///
    /// # Errors
    /// `NotFound`, `Disconnected`, or `Refused`.
    pub async fn describe(&self, domain: &str) -> Result<String, HypervisorError> {
        either!(self, describe(domain))
    }

    /// What the guest's first screen shows, as QEMU writes it: PNG, or PPM by an older one. At
    /// most [`LONGEST_PICTURE`] bytes.
    ///
    /// # Errors
    /// `NotFound`, `Disconnected`, or `Refused`: also when it has no screen.
    pub async fn screenshot(&self, domain: &str) -> Result<Vec<u8>, HypervisorError> {
        either!(self, screenshot(domain))
    }

    /// Moves the guest's pointer a step and back, so that a screen that sleeps wakes up.
    ///
    /// # Errors
    /// `NotFound`, `Disconnected`, or `Refused`.
    pub async fn move_pointer(&self, domain: &str) -> Result<(), HypervisorError> {
        either!(self, move_pointer(domain))
    }

    /// Changes the hardware of a running domain. Its definition stays as it is: nothing is
    /// ever started from it again.
    ///
    /// # Errors
    /// `NotFound`, `Disconnected`, or `Refused`: also when it is so already.
    pub async fn alter(&self, domain: &str, change: Alteration) -> Result<(), HypervisorError> {
        either!(self, alter(domain, change))
    }

    /// Has it know a password by which a disk of this domain is reached. It forgets it when it
    /// ends itself; a guest that runs has it then.
    ///
    /// # Errors
    /// `Disconnected`, or `Refused`.
    pub async fn keep_secret(
        &self,
        domain: &str,
        volume: &str,
        login: &Login,
    ) -> Result<(), HypervisorError> {
        either!(self, keep_secret(domain, volume, login))
    }

    /// Has it forget the passwords of domains of which this is true.
    ///
    /// # Errors
    /// `Disconnected`, or `Refused`.
    pub async fn forget_secrets(
        &self,
        of: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<(), HypervisorError> {
        either!(self, forget_secrets(of))
    }

    /// All our domains, running or not, by name. Domains without our metadata
    /// are somebody else's and do not appear.
    ///
    /// # Errors
    /// `Disconnected`; never half a list.
    pub async fn list(&self) -> Result<Vec<Observed>, HypervisorError> {
        either!(self, list())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_guest_with_a_disk_elsewhere_only_its_own_disks_are_sent() {
        let journey =
            Journey { paths: vec![("/state/".into(), "/there/".into())], ..Journey::default() };
        let disk = |source: &str, target: &str, more: &str| {
            format!(
                "<disk type='file'><source {source}><privateData/></source>\
                 <target dev='{target}' bus='virtio'/>{more}</disk>"
            )
        };
        let own = disk("file='/state/vms/a/root.qcow2' index='2'", "vda", "");
        let iso = disk("file='/state/vms/a/init.iso'", "sda", "<readonly/>");
        assert_eq!(journey.copied(&format!("{own}{iso}")), None);
        let file = disk("file='/srv/data/disk.img'", "vdb", "");
        let block = disk("dev='/dev/sdx'", "vdc", "");
        for kept in [file, block] {
            let copied = journey.copied(&format!("{iso}{kept}{own}"));
            assert_eq!(copied, Some(vec!["vda".to_owned()]));
            assert_eq!(journey.copied(&kept), Some(vec![]));
        }
    }
}
