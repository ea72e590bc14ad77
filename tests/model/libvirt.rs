//! The libvirtds of both nodes and the one move that they carry out, by the rules of
//! libvirt's peer-to-peer protocol (version 3) and of what a libvirtd does that is
//! started again (`qemuMigrationSrcPerformPeer2Peer3`, `qemuProcessRecoverMigrationIn`
//! and `…Out`).
//!
//! ```text
//!  source            Begun ─► Sends ─► Sent ──────► Finishing ─► Finished ─► Confirming
//!   its domain       runs     runs     held (paused)                         shut off
//!   its libvirtd     ·······  forgets, runs on  │  stays held: it does not know   │ ends it
//!   started again                               │                                 │
//!  target                     Comes (paused)    │  Comes, defined  Runs
//!   its libvirtd              ends it ··········│······ ends it    keeps it
//!   started again, or the                       │
//!   connection lost           ends it           │  keeps on        keeps it
//! ```
//!
//! A source that loses the connection lets its guest run on, also when the target may
//! have begun to run it: libvirt leaves that to lock managers, and it is the one moment
//! at which there may be two ([`Virt::doubt`]).

use agent::hypervisor::{DomainState, PauseReason, ShutOffReason};

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Dom {
    /// No process; what is known of it says `defined`.
    Off(Off),
    Runs,
    /// Paused at the source: all was sent.
    Held,
    /// Paused at the target.
    Comes,
}

/// The reasons that matter here.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Off {
    Unknown,
    Shutdown,
    Destroyed,
    Migrated,
    /// A libvirtd that was started again has ended it.
    Daemon,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Phase {
    Begun,
    Sends,
    Sent,
    Finishing,
    Finished,
    Confirming,
}

/// A move, as the source's libvirtd has it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Job {
    pub(super) from: usize,
    pub(super) phase: Phase,
    /// The connection is lost.
    pub(super) cut: bool,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Virt {
    pub(super) up: [bool; 2],
    pub(super) doms: [Dom; 2],
    pub(super) defined: [bool; 2],
    pub(super) job: Option<Job>,
    /// The target has been told to run it.
    pub(super) finishing: bool,
    /// The power button was pressed.
    pub(super) pressed: [bool; 2],
    /// The source was let run on, and the target may run as well.
    pub(super) doubt: bool,
}

/// What libvirt does by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Move {
    Prepares,
    HasSent,
    Finishes,
    Runs,
    Answers,
    Confirms,
    SourceNotices,
    TargetNotices,
}

pub(super) const MOVES: [Move; 8] = [
    Move::Prepares,
    Move::HasSent,
    Move::Finishes,
    Move::Runs,
    Move::Answers,
    Move::Confirms,
    Move::SourceNotices,
    Move::TargetNotices,
];

/// Whether a call of `migrate` has ended by this, and how.
pub(super) type Ended = Option<bool>;

impl Virt {
    /// The guest runs on the first node.
    pub(super) fn new() -> Self {
        Self {
            up: [true; 2],
            doms: [Dom::Runs, Dom::Off(Off::Unknown)],
            defined: [true, false],
            job: None,
            finishing: false,
            pressed: [false; 2],
            doubt: false,
        }
    }

    pub(super) fn is_active(&self, node: usize) -> bool {
        !matches!(self.doms[node], Dom::Off(_))
    }

    pub(super) fn is_there(&self, node: usize) -> bool {
        self.is_active(node) || self.defined[node]
    }

    /// As a list shows the domain.
    pub(super) fn seen(&self, node: usize) -> Option<DomainState> {
        self.is_there(node).then(|| match self.doms[node] {
            Dom::Runs => DomainState::Running,
            Dom::Held | Dom::Comes => DomainState::Paused(PauseReason::Migration),
            Dom::Off(why) => DomainState::ShutOff(match why {
                Off::Unknown => ShutOffReason::Unknown,
                Off::Shutdown => ShutOffReason::Shutdown,
                Off::Destroyed => ShutOffReason::Destroyed,
                Off::Migrated => ShutOffReason::Migrated,
                Off::Daemon => ShutOffReason::Daemon,
            }),
        })
    }

    pub(super) fn is_sending(&self, node: usize) -> bool {
        self.job.is_some_and(|job| job.from == node)
    }

    /// `migrate`; whether it has begun.
    pub(super) fn call(&mut self, from: usize) -> bool {
        let begins = self.up[from] && self.doms[from] == Dom::Runs && self.job.is_none();
        if begins {
            self.job = Some(Job { from, phase: Phase::Begun, cut: false });
        }
        begins
    }

    /// What it does by itself; nothing if it is not its time. `ready`: where taps and
    /// files are.
    pub(super) fn take(&mut self, what: Move, ready: [bool; 2]) -> Option<Ended> {
        if what == Move::Runs {
            return self.runs();
        }
        if what == Move::TargetNotices {
            return self.target_notices();
        }
        let job = self.job.filter(|job| self.up[job.from])?;
        let to = 1 - job.from;
        let reached = !job.cut && self.up[to];
        match (what, job.phase) {
            (Move::SourceNotices, phase) if !reached && phase < Phase::Confirming => {
                Some(self.stays(job))
            }
            (Move::Prepares, Phase::Begun) if reached => {
                if self.is_active(to) || !ready[to] {
                    return Some(self.stays(job));
                }
                self.doms[to] = Dom::Comes;
                self.at(Phase::Sends)
            }
            (Move::HasSent, Phase::Sends) if reached => {
                if self.doms[to] != Dom::Comes {
                    return Some(self.stays(job));
                }
                self.doms[job.from] = Dom::Held;
                self.at(Phase::Sent)
            }
            (Move::Finishes, Phase::Sent) if reached => {
                if self.doms[to] != Dom::Comes {
                    return Some(self.stays(job));
                }
                self.defined[to] = true;
                self.finishing = true;
                self.at(Phase::Finishing)
            }
            (Move::Answers, Phase::Finishing) if reached && !self.finishing => {
                self.at(Phase::Finished)
            }
            (Move::Confirms, Phase::Finished) => self.at(Phase::Confirming),
            (Move::Confirms, Phase::Confirming) => {
                self.doms[job.from] = Dom::Off(Off::Migrated);
                self.job = None;
                Some(Some(true))
            }
            _ => None,
        }
    }

    fn at(&mut self, phase: Phase) -> Option<Ended> {
        self.job.as_mut()?.phase = phase;
        Some(None)
    }

    /// The target lets it run.
    fn runs(&mut self) -> Option<Ended> {
        let to = (0..2).find(|node| self.doms[*node] == Dom::Comes)?;
        if !self.finishing || !self.up[to] {
            return None;
        }
        self.doms[to] = Dom::Runs;
        self.finishing = false;
        Some(None)
    }

    /// Without its source what has come is ended.
    fn target_notices(&mut self) -> Option<Ended> {
        let to = (0..2).find(|node| self.doms[*node] == Dom::Comes)?;
        let is_alone = self.job.is_none_or(|job| job.cut);
        if !is_alone || self.finishing || !self.up[to] {
            return None;
        }
        self.doms[to] = Dom::Off(Off::Destroyed);
        Some(None)
    }

    /// The guest goes on at its source.
    fn stays(&mut self, job: Job) -> Ended {
        let to = 1 - job.from;
        self.job = None;
        if matches!(self.doms[job.from], Dom::Held) {
            self.doms[job.from] = Dom::Runs;
        }
        self.doubt |= self.finishing || self.doms[to] == Dom::Runs;
        if !job.cut && self.up[to] && self.doms[to] == Dom::Comes && !self.finishing {
            self.doms[to] = Dom::Off(Off::Destroyed);
        }
        Some(false)
    }

    /// The sending is called off, if it can be.
    pub(super) fn abort(&mut self, from: usize) -> Option<Ended> {
        let job = self.job.filter(|job| job.from == from && job.phase <= Phase::Sends)?;
        self.up[from].then(|| self.stays(job))
    }

    pub(super) fn destroy(&mut self, node: usize) -> Ended {
        self.pressed[node] = false;
        if !self.is_active(node) {
            return None;
        }
        self.doms[node] = Dom::Off(Off::Destroyed);
        if self.finishing && !(0..2).any(|node| self.doms[node] == Dom::Comes) {
            self.finishing = false;
        }
        if self.is_sending(node) {
            self.job.as_mut().expect("it is sending").cut = true;
            let job = self.job.take().expect("it is sending");
            let to = 1 - job.from;
            // Its process is gone, so the target's is told that it was cancelled.
            if self.up[to] && self.doms[to] == Dom::Comes && !self.finishing {
                self.doms[to] = Dom::Off(Off::Destroyed);
            }
            return Some(false);
        }
        None
    }

    /// A guest that stands still goes on.
    pub(super) fn resume(&mut self, node: usize) {
        if self.doms[node] == Dom::Held && !self.is_sending(node) {
            self.doms[node] = Dom::Runs;
        }
    }

    /// The guest powers itself off.
    pub(super) fn power_off(&mut self, node: usize) -> bool {
        let can = self.pressed[node] && self.doms[node] == Dom::Runs && !self.is_sending(node);
        if can {
            self.pressed[node] = false;
            self.doms[node] = Dom::Off(Off::Shutdown);
        }
        can
    }

    /// A libvirtd dies; whether a call to it ends by that.
    pub(super) fn dies(&mut self, node: usize) -> Ended {
        self.up[node] = false;
        let job = self.job.as_mut()?;
        job.cut = true;
        (job.from == node).then_some(false)
    }

    /// The connection between the two is lost.
    pub(super) fn is_cut(&mut self) -> bool {
        let job = self.job.as_mut().filter(|job| !job.cut && job.phase < Phase::Confirming);
        job.is_some_and(|job| {
            job.cut = true;
            true
        })
    }

    /// A libvirtd comes back and finds what was left.
    pub(super) fn is_back(&mut self, node: usize) {
        self.up[node] = true;
        if let Dom::Off(why) = &mut self.doms[node] {
            *why = Off::Unknown;
        }
        if self.doms[node] == Dom::Comes {
            self.doms[node] = Dom::Off(Off::Daemon);
            self.finishing = false;
        }
        let Some(job) = self.job.filter(|job| job.from == node) else { return };
        self.job = None;
        match job.phase {
            Phase::Begun | Phase::Sends => self.doms[node] = Dom::Runs,
            // "A third party needs to check what to do next."
            Phase::Sent | Phase::Finishing | Phase::Finished => {}
            Phase::Confirming => self.doms[node] = Dom::Off(Off::Daemon),
        }
    }

    /// Forgets what no longer tells one state from another.
    pub(super) fn tidy(&mut self) {
        for node in 0..2 {
            if !self.is_active(node) {
                self.pressed[node] = false;
                if !self.defined[node] {
                    self.doms[node] = Dom::Off(Off::Unknown);
                }
            }
        }
        self.doubt &= self.finishing || self.doms == [Dom::Runs, Dom::Runs];
    }
}
