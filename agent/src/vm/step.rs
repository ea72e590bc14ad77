//! What each event makes of each state; pure. The picture is in [`super`].

use std::time::Duration;

use super::{Action, End, Event, Report, State, Trouble, Wish, migration};
use crate::hypervisor::{DomainState, PauseReason, ShutOffReason};

/// How often a guest is asked to power off within its grace period.
pub(super) const PRESS_AGAIN: Duration = Duration::from_secs(5);

/// Before an end that libvirt refused is tried again: some of its refusals take it half a
/// minute, and the thread that waits for them has other VMs to serve.
const REFUSED_PAUSE: Duration = Duration::from_secs(8);

/// Before what could not be done to a running guest's devices is tried again, where the trouble
/// does not say.
const ADJUST_AGAIN: Duration = Duration::from_secs(10);

/// How long a guest that stands still since a disk returned an error does so before it is first
/// let go on, and at most.
const RESUME_AFTER: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(3));

/// The longest time between two attempts at the same thing.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What becomes of `state` by `event`, and what to do.
///
/// `wish` is what the object asks for now, whether or not the event is about it.
#[must_use]
pub fn step(state: State, wish: Wish, event: Event) -> (State, Vec<Action>) {
    match state {
        State::Unseen { attempt } => match event {
            Event::Seen(seen) => first_sight(seen, wish, attempt),
            _ => stay(State::Unseen { attempt }),
        },
        State::Serving { attempt }
        | State::Preparing { attempt }
        | State::Defining { attempt }
        | State::Starting { attempt } => start(state, attempt, wish, event),
        State::Waiting { attempt } => wait(attempt, wish, event),
        State::Attaching { attempt } => attach(attempt, wish, event),
        State::Adjusting { paused } => adjusting(paused, wish, event),
        State::Running { paused, resumes } => run(paused, resumes, wish, event),
        State::Stopping { left } => stop(left, wish, event),
        State::Receiving { .. }
        | State::Ready
        | State::Departing
        | State::Departed { .. }
        | State::Broken => migration::step(state, wish, event),
        State::Destroying { end } => match event {
            Event::Done | Event::Seen(None | Some(DomainState::ShutOff(_))) => clean(end),
            Event::Lost => (State::Destroying { end }, vec![Action::Wake(pause(0))]),
            Event::Failed(_) => (State::Destroying { end }, vec![Action::Wake(REFUSED_PAUSE)]),
            Event::Tick => (State::Destroying { end }, vec![Action::Destroy]),
            _ => stay(State::Destroying { end }),
        },
        State::Cleaning { end } => match event {
            Event::Done => cleaned(end, wish),
            Event::Failed(_) | Event::Lost => {
                (State::Cleaning { end }, vec![Action::Wake(pause(2))])
            }
            Event::Tick => clean(end),
            _ => stay(State::Cleaning { end }),
        },
        State::Undefining { end, reported } => match event {
            Event::Done if end.is_elsewhere() => migration::gone(wish, end == End::Left),
            Event::Done if reported || wish == Wish::Gone => stay(State::Ended),
            Event::Done => report_end(end, false),
            Event::Lost => (State::Undefining { end, reported }, vec![Action::Wake(pause(0))]),
            Event::Failed(_) => {
                (State::Undefining { end, reported }, vec![Action::Wake(REFUSED_PAUSE)])
            }
            Event::Tick => undefine(end, reported),
            // Nothing can run of what has no files.
            Event::Seen(Some(seen)) if !matches!(seen, DomainState::ShutOff(_)) => destroy(end),
            _ => stay(State::Undefining { end, reported }),
        },
        State::Reporting { end, defined } => match event {
            Event::Reported => reported(end, defined),
            Event::Wish if wish == Wish::Gone => reported(end, defined),
            _ => stay(State::Reporting { end, defined }),
        },
        State::Ended => stay(State::Ended),
    }
}

/// The first list after the beginning, or after a call whose effect is unknown.
fn first_sight(seen: Option<DomainState>, wish: Wish, attempt: u32) -> (State, Vec<Action>) {
    use ShutOffReason::{Daemon, Failed, Unknown};
    match (seen, wish) {
        (Some(DomainState::ShutOff(Unknown | Failed)) | None, Wish::Run { recorded: false }) => {
            (State::Serving { attempt }, vec![Action::Serve])
        }
        (_, Wish::Receive { .. } | Wish::Tell | Wish::Moved) => migration::first_sight(seen, wish),
        (None | Some(DomainState::ShutOff(Unknown | Daemon)), Wish::Leave) => clean(End::Moved),
        (Some(DomainState::ShutOff(reason)), Wish::Run { .. } | Wish::Leave) => {
            clean(end_of(reason))
        }
        (None, Wish::Run { recorded: true }) => clean(End::Failed(vanished())),
        (Some(_), Wish::Run { .. } | Wish::Leave) => adopt(),
        (Some(DomainState::ShutOff(ShutOffReason::Migrated)), _) => clean(End::Left),
        (Some(DomainState::ShutOff(reason)), Wish::Stop { grace }) => {
            clean(if reason == ShutOffReason::Destroyed && !grace.is_zero() {
                End::Failed(killed())
            } else {
                stopped(reason)
            })
        }
        (None | Some(DomainState::ShutOff(_)), _) => clean(End::Succeeded),
        (Some(_), _) => close(wish),
    }
}

/// One of the four stages of a start.
fn start(state: State, attempt: u32, wish: Wish, event: Event) -> (State, Vec<Action>) {
    match (state, event) {
        (State::Starting { .. }, Event::Done) => {
            if matches!(wish, Wish::Run { .. }) {
                (State::Attaching { attempt: 0 }, vec![Action::Attach])
            } else {
                close(wish)
            }
        }
        (_, Event::Done) if !matches!(wish, Wish::Run { .. }) => clean(End::Succeeded),
        (State::Serving { .. }, Event::Done) => {
            (State::Preparing { attempt }, vec![Action::Prepare])
        }
        (State::Preparing { .. }, Event::Done) => {
            (State::Defining { attempt }, vec![Action::Define])
        }
        (_, Event::Done) => (State::Starting { attempt }, vec![Action::Start]),
        (_, Event::Failed(trouble)) if trouble.hopeless => clean(End::Failed(trouble)),
        (_, Event::Failed(trouble)) => {
            let again = trouble.again.unwrap_or_else(|| pause(attempt));
            let report = Action::Report(Report::Waiting(trouble));
            let attempt = attempt.saturating_add(1);
            (State::Waiting { attempt }, vec![report, Action::Wake(again)])
        }
        (_, Event::Lost) => stay(State::Unseen { attempt }),
        (state, _) => stay(state),
    }
}

/// Between two attempts at a start.
fn wait(attempt: u32, wish: Wish, event: Event) -> (State, Vec<Action>) {
    let runs = matches!(wish, Wish::Run { .. });
    match event {
        Event::Seen(Some(seen)) if !matches!(seen, DomainState::ShutOff(_)) => {
            if runs {
                (State::Attaching { attempt: 0 }, vec![Action::Attach])
            } else {
                close(wish)
            }
        }
        Event::Wish | Event::Tick if runs => (State::Serving { attempt }, vec![Action::Serve]),
        Event::Wish | Event::Tick => clean(End::Succeeded),
        _ => stay(State::Waiting { attempt }),
    }
}

/// The guest runs, its network does not yet.
fn attach(attempt: u32, wish: Wish, event: Event) -> (State, Vec<Action>) {
    if event == Event::Anew {
        return stay(State::Unseen { attempt: 0 });
    }
    if let Some(ended) = guest_ended(&event, wish) {
        return ended;
    }
    if !wish.has_guest() && !matches!(event, Event::Seen(_)) {
        return close(wish);
    }
    match event {
        Event::Done => adjust(None, wish),
        Event::Failed(trouble) => (
            State::Attaching { attempt: attempt.saturating_add(1) },
            vec![Action::Report(Report::Waiting(trouble)), Action::Wake(pause(attempt))],
        ),
        Event::Lost => (State::Attaching { attempt }, vec![Action::Wake(pause(attempt))]),
        Event::Tick | Event::Wish => (State::Attaching { attempt }, vec![Action::Attach]),
        Event::Seen(_) | Event::Reported | Event::Anew | Event::Hardware | Event::Unwell(_) => {
            stay(State::Attaching { attempt })
        }
    }
}

/// The guest runs and is on the network. Of one that moves nothing can be changed: where it
/// is in the end it is looked at.
fn adjust(paused: Option<PauseReason>, wish: Wish) -> (State, Vec<Action>) {
    if matches!(wish, Wish::Run { .. }) {
        return (State::Adjusting { paused }, vec![Action::Adjust]);
    }
    (at_rest(paused), vec![Action::Report(Report::Running { paused })])
}

const fn at_rest(paused: Option<PauseReason>) -> State {
    State::Running { paused, resumes: 0 }
}

/// Its devices are being changed, or nobody knows whether they were.
fn adjusting(paused: Option<PauseReason>, wish: Wish, event: Event) -> (State, Vec<Action>) {
    if event == Event::Anew {
        return stay(State::Unseen { attempt: 0 });
    }
    if let Some(ended) = guest_ended(&event, wish) {
        return ended;
    }
    if !wish.has_guest() && !matches!(event, Event::Seen(_)) {
        return close(wish);
    }
    let report = Action::Report(Report::Running { paused });
    match event {
        Event::Done if is_broken(paused) => {
            (at_rest(paused), vec![report, Action::Wake(resume_after(0))])
        }
        Event::Done => (at_rest(paused), vec![report]),
        Event::Failed(trouble) => {
            let again = trouble.again.unwrap_or(ADJUST_AGAIN);
            (at_rest(paused), vec![report, Action::Wake(again)])
        }
        Event::Lost => (State::Adjusting { paused }, vec![Action::Wake(pause(0))]),
        Event::Wish => adopt(),
        Event::Tick | Event::Hardware => adjust(paused, wish),
        Event::Unwell(trouble) if matches!(wish, Wish::Run { .. }) => destroy(End::Failed(trouble)),
        Event::Seen(_) | Event::Reported | Event::Anew | Event::Unwell(_) => {
            stay(State::Adjusting { paused })
        }
    }
}

/// The guest runs.
///
/// One that stands still since a disk returned an error is let go on again and again, ever more
/// seldom: what it lacked (room, a path to its storage) may have come back. So it is until
/// it has run for as long as it would have been waited for.
fn run(
    paused: Option<PauseReason>,
    resumes: u32,
    wish: Wish,
    event: Event,
) -> (State, Vec<Action>) {
    if let Some(ended) = guest_ended(&event, wish) {
        return ended;
    }
    let state = State::Running { paused, resumes };
    let runs = matches!(wish, Wish::Run { .. });
    match event {
        Event::Tick if runs && is_broken(paused) => {
            let resumes = resumes.saturating_add(1);
            (State::Running { paused, resumes }, vec![Action::Resume])
        }
        Event::Done | Event::Failed(_) | Event::Lost if runs && is_broken(paused) => {
            (state, vec![Action::Wake(resume_after(resumes))])
        }
        // It has left, or will have: only a new list tells.
        Event::Anew => stay(State::Unseen { attempt: 0 }),
        Event::Wish if wish.has_guest() => adopt(),
        Event::Wish => close(wish),
        Event::Hardware | Event::Tick if runs => adjust(paused, wish),
        // One that is on its way elsewhere is judged there.
        Event::Unwell(trouble) if runs => destroy(End::Failed(trouble)),
        // It was sent and has not arrived: nothing is being sent any more, and what the
        // object says of it is final.
        Event::Seen(Some(DomainState::Paused(PauseReason::Migration))) if runs => {
            (state, vec![Action::Resume])
        }
        Event::Seen(Some(seen)) => {
            let now = match seen {
                DomainState::Paused(reason @ (PauseReason::User | PauseReason::IoError)) => {
                    Some(reason)
                }
                _ => None,
            };
            if now == paused {
                return stay(state);
            }
            let report = Action::Report(Report::Running { paused: now });
            // Also to find out that it goes on running, and what was not done meanwhile.
            let wake = (runs && (is_broken(now) || is_broken(paused)))
                .then(|| Action::Wake(resume_after(resumes)));
            let actions = [report].into_iter().chain(wake).collect();
            (State::Running { paused: now, resumes }, actions)
        }
        _ => stay(state),
    }
}

/// Whether a disk returned an error.
fn is_broken(paused: Option<PauseReason>) -> bool {
    paused == Some(PauseReason::IoError)
}

/// 10 s, 20 s, 40 s … up to three minutes.
fn resume_after(resumes: u32) -> Duration {
    let (first, longest) = RESUME_AFTER;
    first.saturating_mul(1 << resumes.min(8)).min(longest)
}

/// The guest was asked to power off.
fn stop(left: Duration, wish: Wish, event: Event) -> (State, Vec<Action>) {
    match event {
        Event::Seen(None) => destroy(End::Succeeded),
        Event::Seen(Some(DomainState::ShutOff(reason))) => clean(stopped(reason)),
        Event::Wish if matches!(wish, Wish::Over | Wish::Gone) => destroy(End::Succeeded),
        Event::Wish if wish == Wish::Moved => migration::depart(),
        Event::Wish => match wish {
            // It has less time than it was given before.
            Wish::Stop { grace } if grace.is_zero() => destroy(End::Succeeded),
            Wish::Stop { grace } if grace < left => press(grace),
            _ => stay(State::Stopping { left }),
        },
        Event::Tick => match left.saturating_sub(PRESS_AGAIN) {
            Duration::ZERO => destroy(End::Failed(killed())),
            left => press(left),
        },
        _ => stay(State::Stopping { left }),
    }
}

/// Whether the event says that a running guest runs no more, and what then.
fn guest_ended(event: &Event, wish: Wish) -> Option<(State, Vec<Action>)> {
    match event {
        // It is being sent away, or was: whether it arrived the target knows.
        Event::Seen(None) if matches!(wish, Wish::Leave | Wish::Moved) => Some(destroy(End::Moved)),
        // A libvirtd that was started again ends what has left, and says no more of it.
        Event::Seen(Some(DomainState::ShutOff(ShutOffReason::Unknown | ShutOffReason::Daemon)))
            if matches!(wish, Wish::Leave | Wish::Moved) =>
        {
            Some(clean(End::Moved))
        }
        // The plug is pulled of what is not there: a list that missed a domain
        // must not cost a running guest its files.
        Event::Seen(None) => Some(destroy(End::Failed(vanished()))),
        Event::Seen(Some(DomainState::ShutOff(reason))) => Some(clean(end_of(*reason))),
        Event::Seen(Some(DomainState::Paused(PauseReason::PostCopyFailed))) => Some(match wish {
            // It went on at the target, and is not to start anywhere before it has ended there.
            Wish::Leave => migration::broken(),
            Wish::Moved => migration::depart(),
            _ => destroy(End::Failed(migration::torn())),
        }),
        _ => None,
    }
}

// === the ways out ===

/// Ends a guest that runs, as the wish has it.
pub(super) fn close(wish: Wish) -> (State, Vec<Action>) {
    match wish {
        Wish::Stop { grace } if !grace.is_zero() => press(grace),
        Wish::Moved => migration::depart(),
        _ => destroy(End::Succeeded),
    }
}

fn press(left: Duration) -> (State, Vec<Action>) {
    let wake = Action::Wake(left.min(PRESS_AGAIN));
    (State::Stopping { left }, vec![wake, Action::Press])
}

/// Takes on a guest that runs.
pub(super) fn adopt() -> (State, Vec<Action>) {
    (State::Attaching { attempt: 0 }, vec![Action::Attach])
}

pub(super) fn destroy(end: End) -> (State, Vec<Action>) {
    (State::Destroying { end }, vec![Action::Destroy])
}

pub(super) fn clean(end: End) -> (State, Vec<Action>) {
    (State::Cleaning { end }, vec![Action::Clean])
}

fn cleaned(end: End, wish: Wish) -> (State, Vec<Action>) {
    match wish {
        _ if end.is_elsewhere() => undefine(end, true),
        Wish::Run { .. } | Wish::Leave => report_end(end, true),
        Wish::Stop { .. }
        | Wish::Over
        | Wish::Gone
        | Wish::Receive { .. }
        | Wish::Tell
        | Wish::Moved => undefine(end, false),
    }
}

fn undefine(end: End, reported: bool) -> (State, Vec<Action>) {
    (State::Undefining { end, reported }, vec![Action::Undefine])
}

pub(super) fn report_end(end: End, defined: bool) -> (State, Vec<Action>) {
    let report = Action::Report(Report::Ended(end.clone()));
    (State::Reporting { end, defined }, vec![report])
}

fn reported(end: End, defined: bool) -> (State, Vec<Action>) {
    if defined { undefine(end, true) } else { stay(State::Ended) }
}

pub(super) const fn stay(state: State) -> (State, Vec<Action>) {
    (state, Vec::new())
}

/// 1 s, 2 s, 4 s … up to a minute.
pub(super) fn pause(attempt: u32) -> Duration {
    Duration::from_secs(1 << attempt.min(6)).min(LONGEST_PAUSE)
}

// === how it ended ===

/// The end of a guest that nobody asked to end.
fn end_of(reason: ShutOffReason) -> End {
    if reason == ShutOffReason::Migrated {
        return End::Left;
    }
    if !reason.is_failure() {
        return End::Succeeded;
    }
    End::Failed(match reason {
        ShutOffReason::Unknown => vanished(),
        _ => Trouble {
            reason: "GuestCrashed",
            message: "the guest's process ended unexpectedly: see libvirt's log of the domain"
                .to_owned(),
            hopeless: true,
            again: None,
        },
    })
}

/// The end of a guest that was asked to end.
fn stopped(reason: ShutOffReason) -> End {
    match reason {
        ShutOffReason::Unknown => End::Succeeded,
        reason => end_of(reason),
    }
}

pub(super) fn vanished() -> Trouble {
    Trouble {
        reason: "GuestLost",
        message: "the guest no longer runs and nothing says why: the node may have restarted"
            .to_owned(),
        hopeless: true,
        again: None,
    }
}

pub(super) fn killed() -> Trouble {
    Trouble {
        reason: "GracePeriodExceeded",
        message: "the guest did not power off within terminationGracePeriodSeconds".to_owned(),
        hopeless: true,
        again: None,
    }
}
