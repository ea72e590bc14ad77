//! The life of one VM on this node: what exists in each state, and what each
//! event makes of it.
//!
//! ```text
//!                 Unseen ◄──── the hypervisor went away: the effect is unknown
//!  nothing there │  │  │ it runs
//!                ▼  │  ▼
//!   ┌─► Serving ───►│ Attaching ◄──────────────────────────┐
//!   │   Preparing   │  │   ▲ wish or network changed       │
//!   │   Defining    │  ▼   │                               │
//!   │   Starting ───┼─► Running ── deleted ──► Stopping    │
//!   │      │ failed │      │ guest ended           │ off   │
//!   └── Waiting     │      │             time is up│       │
//!        │ hopeless │      │   Destroying ◄────────┤       │
//!        ▼          ▼      ▼        │              │   (runs after all)
//!        └──────► Cleaning ◄────────┴──────────────┘
//!                    │
//!     guest ended    │    deleted
//!    ┌───────────────┴───────────────┐
//!    ▼                               ▼
//!  Reporting (domain still known)   Undefining
//!    ▼                               ▼
//!  Undefining                       Reporting
//!    └──────────► Ended ◄────────────┘
//! ```
//!
//! Between Attaching and Running, and from Running whenever the object asks for other hardware,
//! is Adjusting: what of its devices can change while it runs does ([`crate::live`]). That something of
//! it cannot be now keeps no guest from running: it is said, and tried again.
//!
//! [`step`] is pure. A driver carries out the actions one after the other and
//! hands each outcome back as the next event, so while an action runs no other
//! event is seen.
//!
//! **A crash at any point loses nothing.** A new agent begins in `Unseen` and
//! decides from two facts: what the object says and what the hypervisor lists.
//! That is why a guest that ended by itself stays defined until its end is
//! written: the domain holds the reason, and there is no other copy. Of a
//! deleted VM nobody asks for the reason, so it is undefined first, and when its
//! object is gone so is everything else.
//!
//! How a guest goes to another node, and comes from one, is told in `vm/migration.rs`.
//!
//! A guest has its grace period once: since when it has been asked to end says a file beside its
//! disks (`host/asked.rs`), which a new agent reads by the clock that wrote it. The time of the
//! deletion is another clock's, and a guest that nobody has asked yet has had none of its time.

pub mod driver;
mod input;
mod migration;
pub mod publish;
mod rest;
mod step;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::input::{Input, Known, Seen, has_parted, place_of, wish_of};
pub use self::rest::Rest;
pub use self::step::step;
use crate::hypervisor::{DomainState, PauseReason};

/// What the VM's object asks for at this moment.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Wish {
    /// Run. `recorded`: the object says already that it does.
    Run { recorded: bool },
    /// It is being deleted; the guest has so long to power off.
    Stop { grace: Duration },
    /// It says that it ended.
    Over,
    /// There is no such object.
    Gone,
    /// Run on while the guest is being sent to another node.
    Leave,
    /// Its guest comes here from another node; `ready`: the source may send it.
    Receive { ready: bool },
    /// The same, and its source does not know whether it has come.
    Tell,
    /// It is another node's, and was this one's or was to be.
    Moved,
}

/// What exists of the VM on this node.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// Nobody knows yet: the next list will tell.
    Unseen { attempt: u32 },
    /// Nothing. Its DHCP answers are being put in place.
    Serving { attempt: u32 },
    /// DHCP answers. Its disk files are being made.
    Preparing { attempt: u32 },
    /// DHCP answers, files. The domain is being defined.
    Defining { attempt: u32 },
    /// DHCP answers, files, the domain. Its process is being started.
    Starting { attempt: u32 },
    /// Any of these, from a start that failed and is tried again.
    Waiting { attempt: u32 },
    /// The guest runs. Its taps are being joined to OVS.
    Attaching { attempt: u32 },
    /// The guest runs and is on the network. Its devices are being made those that the object asks for.
    Adjusting { paused: Option<PauseReason> },
    /// The guest runs and is on the network. `resumes`: how often it was let go on of late after a
    /// disk returned an error.
    Running { paused: Option<PauseReason>, resumes: u32 },
    /// The guest runs, was asked to power off, and has this time left.
    Stopping { left: Duration },
    /// The process is being ended.
    Destroying { end: End },
    /// The process is gone. Files, DHCP answers and OVS ports are being removed.
    Cleaning { end: End },
    /// The domain's definition is left, and is being removed.
    Undefining { end: End, reported: bool },
    /// The end is being written to the object; `defined`: the definition is left.
    Reporting { end: End, defined: bool },
    /// The guest is to come here: files, taps, DHCP answers are being made.
    Receiving { attempt: u32 },
    /// All of these. The guest is on its way.
    Ready,
    /// The guest is elsewhere; libvirt is taking down what it had here.
    Departing,
    /// Nothing is left here, and the object has yet to name the node that has the guest;
    /// `sure`: libvirt says that this is the target.
    Departed { sure: bool },
    /// The guest ran on at its target, without all of its memory, and what was left of that
    /// cannot be sent any more. The object is to name the target, which ends it.
    Broken,
    /// Nothing exists and nothing is owed.
    Ended,
}

/// How a VM ended.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum End {
    Succeeded,
    Failed(Trouble),
    /// Not at all: it is another node's.
    Moved,
    /// Not at all: libvirt says that the target has it.
    Left,
}

/// What went wrong.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Trouble {
    /// One CamelCase word for programs.
    pub reason: &'static str,
    /// One sentence for the user: what to change.
    pub message: String,
    /// Whether it will go wrong for as long as the object is what it is.
    pub hopeless: bool,
    /// When to try again, where that does not follow from the number of attempts.
    pub again: Option<Duration>,
}

/// Something that happened.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// The wish changed, or what the network of the VM is made from.
    Wish,
    /// The guest is to come here by a migration that was not known before. What is here
    /// is of an earlier one.
    Anew,
    /// The object may ask for other hardware than before.
    Hardware,
    /// The domain in a list taken after our last action; `None`: not in it.
    Seen(Option<DomainState>),
    /// The last action did its work.
    Done,
    /// The last action failed.
    Failed(Trouble),
    /// The hypervisor went away during the last action.
    Lost,
    /// The time asked for with [`Action::Wake`] is over.
    Tick,
    /// The end is written, or there is no object to write it to.
    Reported,
    /// The guest is not well, and is to end.
    Unwell(Trouble),
}

/// What the driver is to do. All but the last two end in `Done`, `Failed` or
/// `Lost`, and a step asks for at most one of those, last.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Action {
    /// Keep and serve the DHCP bindings of its ports.
    Serve,
    /// Make its disk files anew.
    Prepare,
    /// Make the domain known.
    Define,
    /// Start its process.
    Start,
    /// Serve its ports as they are now and join its taps to OVS.
    Attach,
    /// Make the devices of the running guest those that the object asks for.
    Adjust,
    /// Make everything for a guest that comes from another node.
    Receive,
    /// Let the guest go on that stands still since it was sent, or since a disk returned an error.
    Resume,
    /// Press the power button.
    Press,
    /// End its process.
    Destroy,
    /// Remove files, DHCP bindings and OVS ports.
    Clean,
    /// Forget the domain.
    Undefine,
    /// Write this to the object, in place of what is still to be written.
    Report(Report),
    /// Send `Tick` after this time.
    Wake(Duration),
}

/// What the object should say.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Report {
    /// It does not start yet, because.
    Waiting(Trouble),
    /// It runs.
    Running { paused: Option<PauseReason> },
    /// Everything is here for the guest that is to come.
    Ready,
    /// It cannot come, because.
    Refused(Trouble),
    /// It has not come here.
    Absent,
    /// The target has it.
    Left,
    /// The target has it, and not all of its memory: it is lost there.
    Broken,
    /// It ended: phase, and our finalizer removed.
    Ended(End),
}

impl End {
    /// Whether the guest did not end, but is another node's.
    #[must_use]
    pub const fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Moved | Self::Left)
    }
}

impl State {
    /// One word for logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unseen { .. } => "unseen",
            Self::Serving { .. } => "serving",
            Self::Preparing { .. } => "preparing",
            Self::Defining { .. } => "defining",
            Self::Starting { .. } => "starting",
            Self::Waiting { .. } => "waiting",
            Self::Attaching { .. } => "attaching",
            Self::Adjusting { .. } => "adjusting",
            Self::Running { .. } => "running",
            Self::Stopping { .. } => "stopping",
            Self::Destroying { .. } => "destroying",
            Self::Cleaning { .. } => "cleaning",
            Self::Undefining { .. } => "undefining",
            Self::Reporting { .. } => "reporting",
            Self::Receiving { .. } => "receiving",
            Self::Ready => "ready",
            Self::Departing => "departing",
            Self::Departed { .. } => "departed",
            Self::Broken => "broken",
            Self::Ended => "ended",
        }
    }
}

impl Wish {
    /// Whether a change from `self` to `new` is one to act on: that the object
    /// now says what we wrote is none.
    #[must_use]
    pub fn changed_to(self, new: Self) -> bool {
        let runs = |wish| matches!(wish, Self::Run { .. } | Self::Leave);
        let receives = |wish| matches!(wish, Self::Receive { .. });
        let alike = (runs(self) && runs(new)) || (receives(self) && receives(new));
        !alike && self != new
    }

    /// The same, where the guest was asked to power off so long ago. Something is left of its grace
    /// period, so that one that has had all of it is not taken for one that was given none.
    #[must_use]
    pub fn after(self, waited: Duration) -> Self {
        const LEAST: Duration = Duration::from_secs(1);
        match self {
            Self::Stop { grace } if !grace.is_zero() => {
                Self::Stop { grace: grace.saturating_sub(waited).max(LEAST.min(grace)) }
            }
            wish => wish,
        }
    }

    /// Whether a guest that runs here is to run.
    #[must_use]
    pub const fn has_guest(self) -> bool {
        matches!(self, Self::Run { .. } | Self::Leave) || self.comes()
    }

    /// Whether its guest is to come here.
    #[must_use]
    pub const fn comes(self) -> bool {
        matches!(self, Self::Receive { .. } | Self::Tell)
    }
}

impl Trouble {
    /// Something that may pass.
    pub(crate) fn of(reason: &'static str, message: impl std::fmt::Display) -> Self {
        Self { reason, message: message.to_string(), hopeless: false, again: None }
    }
}
