//! The part of a VM's life that is its move from node to node; pure.
//!
//! ```text
//!  target                                        source
//!  Receiving ── files, taps, DHCP, OVN ─┐        Running ── the guest is sent ─┐
//!      │ cannot     Ready ◄─────────────┘           │                          │ it left
//!      │              │ the guest runs here         │ called off: runs on      ▼
//!      │              ▼                                                Cleaning, Undefining
//!      ▼          Attaching ─► Running                                         ▼
//!  Cleaning ◄──── called off (Departing)                                   Departed
//!                                                    the object names the target │ it never does
//!                                                                    Ended ◄─────┴──► Reporting
//! ```
//!
//! Which of the two nodes has the guest libvirt decides, and nothing else is asked. The
//! source ends what is its own when its domain says that the guest has left, and says that
//! the target has it, should the target's agent be away. A source that finds neither guest
//! nor a word of where it is waits for the target, and when that says nothing hands the VM
//! over all the same: there the guest is found, or found to be lost. A source whose guest
//! stands still, and whose libvirt does not know whether the target runs it, asks (`Tell`);
//! the target says that it has come, or that it has not, and then the source lets it go on.
//!
//! A guest that runs at its target before all of its memory is there (post-copy) counts as on
//! its way until it is. Should that break off it is lost, and ends at the target: the source
//! only says that it is that one's (`Broken`), so that it is not made anew while it still runs.

use std::time::Duration;

use super::step::{adopt, clean, close, destroy, pause, report_end, stay};
use super::{Action, End, Event, Report, State, Trouble, Wish};
use crate::hypervisor::{DomainState, PauseReason};

/// How often the target tries to be ready before it says that it cannot.
const ATTEMPTS: u32 = 4;

/// How long libvirt may take to take down its side of a move that is over.
const DEPARTURE: Duration = Duration::from_secs(10);

/// How long the target may take to say that the guest has arrived.
const ARRIVAL: Duration = Duration::from_secs(60);

/// The first list of a node that a guest comes to, or has left.
pub(super) fn first_sight(seen: Option<DomainState>, wish: Wish) -> (State, Vec<Action>) {
    match seen {
        None | Some(DomainState::ShutOff(_)) if matches!(wish, Wish::Receive { .. }) => receive(0),
        None | Some(DomainState::ShutOff(_)) if wish == Wish::Tell => absent(),
        None | Some(DomainState::ShutOff(_)) => clean(End::Moved),
        // What is here is of an earlier migration: nothing was sent yet by this one.
        Some(_) if wish == (Wish::Receive { ready: false }) => depart(),
        Some(seen) if wish.comes() && has_arrived(seen) => adopt(),
        // It is on its way.
        Some(_) if wish == (Wish::Receive { ready: true }) => ready(),
        Some(_) if wish == Wish::Tell => stay(State::Ready),
        Some(_) => depart(),
    }
}

pub(super) fn step(state: State, wish: Wish, event: Event) -> (State, Vec<Action>) {
    match state {
        // What is here is of an attempt that failed.
        State::Receiving { .. } | State::Ready if event == Event::Anew => depart(),
        State::Receiving { attempt } => receiving(attempt, wish, event),
        State::Ready => match event {
            Event::Seen(Some(seen)) if has_arrived(seen) && wish.has_guest() => adopt(),
            Event::Seen(Some(seen)) if has_arrived(seen) && is_own(wish) => close(wish),
            Event::Seen(None | Some(DomainState::ShutOff(_))) if wish == Wish::Tell => absent(),
            Event::Seen(Some(DomainState::Paused(PauseReason::PostCopyFailed))) => match wish {
                // First it is to be this node's.
                Wish::Tell => (State::Ready, vec![Action::Report(Report::Broken)]),
                wish if is_own(wish) => destroy(End::Failed(torn())),
                _ => stay(State::Ready),
            },
            Event::Wish if is_own(wish) => expect(),
            // It has not been seen, and will not be: it ended at once.
            Event::Tick if wish.has_guest() => adopt(),
            Event::Tick if is_own(wish) => close(wish),
            Event::Wish if !wish.comes() => depart(),
            _ => stay(State::Ready),
        },
        State::Departing => match event {
            Event::Seen(None | Some(DomainState::ShutOff(_))) => clean(End::Moved),
            // The object has come to say that the guest is this node's.
            Event::Wish | Event::Tick if is_own(wish) => expect(),
            Event::Tick => destroy(End::Moved),
            _ => stay(State::Departing),
        },
        State::Departed { sure } => match event {
            Event::Wish | Event::Anew => gone(wish, sure),
            // The target finds it there, or finds that it is lost. Nobody here can tell.
            Event::Tick if sure || wish == Wish::Leave => gone(wish, true),
            Event::Tick => report_end(End::Failed(lost()), false),
            _ => stay(state),
        },
        State::Broken => match event {
            Event::Seen(None | Some(DomainState::ShutOff(_))) => clean(End::Left),
            Event::Wish if wish == Wish::Moved => depart(),
            Event::Wish if matches!(wish, Wish::Over | Wish::Gone) => destroy(End::Succeeded),
            Event::Tick => broken(),
            _ => stay(State::Broken),
        },
        other => stay(other),
    }
}

/// The guest is at the target and cannot be whole there any more.
pub(super) fn broken() -> (State, Vec<Action>) {
    (State::Broken, vec![Action::Wake(ARRIVAL), Action::Report(Report::Broken)])
}

fn receiving(attempt: u32, wish: Wish, event: Event) -> (State, Vec<Action>) {
    if !matches!(wish, Wish::Receive { .. }) && !matches!(event, Event::Seen(_) | Event::Reported) {
        return match wish {
            Wish::Tell => stay(State::Ready),
            wish if is_own(wish) => expect(),
            _ => depart(),
        };
    }
    match event {
        Event::Done => ready(),
        Event::Failed(trouble) if trouble.hopeless || attempt + 1 >= ATTEMPTS => {
            // Until the object says that it is over.
            let refused = Action::Report(Report::Refused(trouble));
            (State::Receiving { attempt: ATTEMPTS }, vec![refused, Action::Wake(ARRIVAL)])
        }
        Event::Failed(_) | Event::Lost => {
            let next = attempt.saturating_add(1);
            (State::Receiving { attempt: next }, vec![Action::Wake(pause(attempt))])
        }
        Event::Tick => receive(attempt.min(ATTEMPTS - 1)),
        _ => stay(State::Receiving { attempt }),
    }
}

fn receive(attempt: u32) -> (State, Vec<Action>) {
    (State::Receiving { attempt }, vec![Action::Receive])
}

/// Nothing has come, and nothing will: all was sent that is.
fn absent() -> (State, Vec<Action>) {
    (State::Ready, vec![Action::Report(Report::Absent)])
}

fn ready() -> (State, Vec<Action>) {
    (State::Ready, vec![Action::Report(Report::Ready)])
}

/// The object says that the guest is here, which the lists do not show yet: the source
/// may have said so, and what was listed before is no sign of its end.
fn expect() -> (State, Vec<Action>) {
    (State::Ready, vec![Action::Wake(ARRIVAL)])
}

/// Whether the object names this node as the one that has the guest.
const fn is_own(wish: Wish) -> bool {
    matches!(wish, Wish::Run { .. } | Wish::Leave | Wish::Stop { .. })
}

/// Ends what is here of a guest that is another node's.
pub(super) fn depart() -> (State, Vec<Action>) {
    (State::Departing, vec![Action::Wake(DEPARTURE)])
}

/// Nothing is left here of a guest that went elsewhere; `sure`: libvirt says so.
pub(super) fn gone(wish: Wish, sure: bool) -> (State, Vec<Action>) {
    match wish {
        Wish::Receive { .. } => receive(0),
        Wish::Tell => absent(),
        // Its object names this node still. The target's agent may be away: whoever knows
        // where the guest is says it, so that it is not made anew elsewhere.
        Wish::Run { .. } | Wish::Leave | Wish::Stop { .. } => {
            let said = sure.then_some(Action::Report(Report::Left));
            let actions = said.into_iter().chain([Action::Wake(ARRIVAL)]);
            (State::Departed { sure }, actions.collect())
        }
        Wish::Moved | Wish::Over | Wish::Gone => stay(State::Ended),
    }
}

/// Whether the guest runs here, or would if nobody had paused it.
fn has_arrived(seen: DomainState) -> bool {
    matches!(
        seen,
        DomainState::Running | DomainState::Paused(PauseReason::User | PauseReason::IoError)
    )
}

/// Of a guest that ran on at its target and did not get the rest of its memory.
pub(super) fn torn() -> Trouble {
    Trouble {
        reason: "MigrationFailed",
        message: "the guest was lost in a post-copy migration: it ran at its target when the \
                  connection to its source broke"
            .to_owned(),
        hopeless: true,
        again: None,
    }
}

fn lost() -> Trouble {
    Trouble {
        reason: "MigrationFailed",
        message: "the guest left for another node, which does not say that it has it: \
                  see its agent and libvirt there"
            .to_owned(),
        hopeless: true,
        again: None,
    }
}
