mod known;
mod moves;
mod sequences;

use super::step::{PRESS_AGAIN, killed, vanished};
use super::*;
use crate::hypervisor::ShutOffReason;

const RUN: Wish = Wish::Run { recorded: false };
const STOP: Wish = Wish::Stop { grace: Duration::from_secs(30) };

fn trouble() -> Trouble {
    Trouble { reason: "Busy", message: "try later".to_owned(), hopeless: false, again: None }
}

fn off(reason: ShutOffReason) -> Event {
    Event::Seen(Some(DomainState::ShutOff(reason)))
}

fn up() -> Event {
    Event::Seen(Some(DomainState::Running))
}

/// The state after a story, and the actions of its last event.
fn story(mut state: State, events: &[(Wish, Event)]) -> (State, Vec<Action>) {
    let mut actions = Vec::new();
    for (wish, event) in events {
        (state, actions) = step(state, *wish, event.clone());
    }
    (state, actions)
}

fn begin(wish: Wish, seen: Event) -> (State, Vec<Action>) {
    step(State::Unseen { attempt: 0 }, wish, seen)
}

fn running() -> State {
    State::Running { paused: None, resumes: 0 }
}

#[test]
fn a_new_vm_is_served_prepared_defined_started_attached_and_then_reported() {
    let mut state = State::Unseen { attempt: 0 };
    let mut done = Vec::new();
    let mut event = Event::Seen(None);
    for _ in 0..7 {
        let (next, actions) = step(state, RUN, event);
        state = next;
        done.extend(actions);
        event = Event::Done;
    }
    assert_eq!(
        done,
        [
            Action::Serve,
            Action::Prepare,
            Action::Define,
            Action::Start,
            Action::Attach,
            Action::Adjust,
            Action::Report(Report::Running { paused: None }),
        ]
    );
    assert_eq!(state, running());
}

#[test]
fn a_guest_that_powers_off_may_be_hurried_and_is_given_no_more_time() {
    let stopping = State::Stopping { left: Duration::from_secs(20) };
    let asked = |seconds| {
        let wish = Wish::Stop { grace: Duration::from_secs(seconds) };
        step(stopping.clone(), wish, Event::Wish)
    };
    let at_once = (State::Destroying { end: End::Succeeded }, vec![Action::Destroy]);
    assert_eq!(asked(0), at_once);
    assert_eq!(asked(10).0, State::Stopping { left: Duration::from_secs(10) });
    assert_eq!(asked(30), (stopping.clone(), Vec::new()));
}

#[test]
fn a_running_domain_is_adopted_and_never_started() {
    let (state, actions) = begin(Wish::Run { recorded: true }, up());
    assert_eq!((state, actions), (State::Attaching { attempt: 0 }, vec![Action::Attach]));
}

#[test]
fn a_domain_defined_but_never_started_is_started() {
    let (state, _) = begin(RUN, off(ShutOffReason::Unknown));
    assert_eq!(state, State::Serving { attempt: 0 });
}

#[test]
fn a_running_vm_whose_domain_is_gone_has_failed() {
    let (state, _) = begin(Wish::Run { recorded: true }, Event::Seen(None));
    assert_eq!(state, State::Cleaning { end: End::Failed(vanished()) });
    let (state, actions) = step(running(), Wish::Run { recorded: true }, Event::Seen(None));
    assert_eq!(state, State::Destroying { end: End::Failed(vanished()) });
    assert_eq!(actions, [Action::Destroy], "should the list have missed it");
}

#[test]
fn a_guest_that_powers_itself_off_has_succeeded_and_one_that_crashes_has_failed() {
    let (state, _) = step(running(), RUN, off(ShutOffReason::Shutdown));
    assert_eq!(state, State::Cleaning { end: End::Succeeded });
    let (state, _) = step(running(), RUN, off(ShutOffReason::Crashed));
    assert!(matches!(state, State::Cleaning { end: End::Failed(_) }));
}

#[test]
fn the_domain_of_a_guest_that_ended_by_itself_is_kept_until_its_end_is_written() {
    let (state, actions) = step(State::Cleaning { end: End::Succeeded }, RUN, Event::Done);
    assert_eq!(state, State::Reporting { end: End::Succeeded, defined: true });
    assert_eq!(actions, [Action::Report(Report::Ended(End::Succeeded))]);
    let (state, actions) = step(state, Wish::Over, Event::Reported);
    assert_eq!(actions, [Action::Undefine]);
    let (state, actions) = step(state, Wish::Over, Event::Done);
    assert_eq!((state, actions), (State::Ended, vec![]));
}

#[test]
fn of_a_deleted_vm_nothing_is_left_before_its_end_is_written() {
    let (state, actions) = step(State::Cleaning { end: End::Succeeded }, STOP, Event::Done);
    assert_eq!(actions, [Action::Undefine]);
    let (state, actions) = step(state, STOP, Event::Done);
    assert_eq!(actions, [Action::Report(Report::Ended(End::Succeeded))]);
    assert_eq!(step(state, STOP, Event::Reported).0, State::Ended);
}

#[test]
fn a_deleted_vm_has_its_power_button_pressed_again_and_again_and_then_its_plug_pulled() {
    let (mut state, mut actions) = step(running(), STOP, Event::Wish);
    for left in [30, 25, 20, 15, 10, 5] {
        assert_eq!(state, State::Stopping { left: Duration::from_secs(left) });
        assert_eq!(actions, [Action::Wake(PRESS_AGAIN), Action::Press]);
        (state, actions) = step(state, STOP, Event::Done);
        assert!(actions.is_empty());
        (state, actions) = step(state, STOP, Event::Tick);
    }
    assert_eq!(state, State::Destroying { end: End::Failed(killed()) });
    assert_eq!(actions, [Action::Destroy]);
}

#[test]
fn a_grace_period_of_zero_pulls_the_plug_at_once() {
    let now = Wish::Stop { grace: Duration::ZERO };
    let (state, actions) = step(running(), now, Event::Wish);
    assert_eq!(state, State::Destroying { end: End::Succeeded });
    assert_eq!(actions, [Action::Destroy]);
}

#[test]
fn a_guest_that_powers_off_when_asked_has_succeeded() {
    let stopping = State::Stopping { left: Duration::from_secs(10) };
    let (state, actions) = step(stopping, STOP, off(ShutOffReason::Shutdown));
    assert_eq!((state, actions), (State::Cleaning { end: End::Succeeded }, vec![Action::Clean]));
}

#[test]
fn an_orphan_is_destroyed_without_asking_and_nothing_is_reported() {
    let (state, actions) = begin(Wish::Gone, up());
    assert_eq!(actions, [Action::Destroy]);
    let events = [(Wish::Gone, Event::Done), (Wish::Gone, Event::Done), (Wish::Gone, Event::Done)];
    assert_eq!(story(state, &events), (State::Ended, vec![]));
}

#[test]
fn a_start_that_fails_is_reported_and_tried_again_with_longer_and_longer_pauses() {
    let mut attempt = 0;
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        let (state, actions) = step(State::Starting { attempt }, RUN, Event::Failed(trouble()));
        let report = Action::Report(Report::Waiting(trouble()));
        assert_eq!(actions, [report, Action::Wake(Duration::from_secs(seconds))]);
        let (state, actions) = step(state, RUN, Event::Tick);
        assert_eq!(actions, [Action::Serve]);
        let State::Serving { attempt: next } = state else { panic!("{state:?}") };
        attempt = next;
    }
}

#[test]
fn a_start_that_says_when_to_try_again_is_tried_then() {
    let again = Duration::from_secs(160);
    let later = Trouble { again: Some(again), ..trouble() };
    let preparing = State::Preparing { attempt: 1 };
    let (state, actions) = step(preparing, RUN, Event::Failed(later.clone()));
    assert_eq!(state, State::Waiting { attempt: 2 });
    assert_eq!(actions, [Action::Report(Report::Waiting(later)), Action::Wake(again)]);
}

#[test]
fn a_start_that_can_never_succeed_ends_as_failed() {
    let hopeless = Trouble { hopeless: true, ..trouble() };
    let defining = State::Defining { attempt: 0 };
    let (state, _) = step(defining, RUN, Event::Failed(hopeless.clone()));
    assert_eq!(state, State::Cleaning { end: End::Failed(hopeless) });
}

#[test]
fn a_vm_deleted_while_it_starts_gets_no_further() {
    for state in [
        State::Serving { attempt: 0 },
        State::Preparing { attempt: 0 },
        State::Defining { attempt: 0 },
    ] {
        assert_eq!(step(state, STOP, Event::Done).0, State::Cleaning { end: End::Succeeded });
    }
    let (state, _) = step(State::Starting { attempt: 0 }, STOP, Event::Done);
    assert!(matches!(state, State::Stopping { .. }), "{state:?}");
    let (state, _) = step(State::Waiting { attempt: 3 }, STOP, Event::Wish);
    assert_eq!(state, State::Cleaning { end: End::Succeeded });
}

#[test]
fn a_start_whose_effect_is_unknown_is_decided_by_the_next_list() {
    let (state, actions) = step(State::Starting { attempt: 2 }, RUN, Event::Lost);
    assert_eq!((state.clone(), actions), (State::Unseen { attempt: 2 }, vec![]));
    assert_eq!(step(state, RUN, up()).0, State::Attaching { attempt: 0 });
}

#[test]
fn a_guest_reboot_is_no_event() {
    assert_eq!(step(running(), RUN, up()), (running(), vec![]));
}

#[test]
fn a_change_of_the_network_is_carried_to_a_running_guest() {
    let (state, actions) = step(running(), RUN, Event::Wish);
    assert_eq!((state, actions), (State::Attaching { attempt: 0 }, vec![Action::Attach]));
}

#[test]
fn a_paused_guest_is_shown_as_paused_until_it_goes_on() {
    let paused = Event::Seen(Some(DomainState::Paused(PauseReason::IoError)));
    let (state, actions) = step(running(), RUN, paused.clone());
    let reason = Some(PauseReason::IoError);
    let again = Action::Wake(Duration::from_secs(10));
    assert_eq!(actions, [Action::Report(Report::Running { paused: reason }), again]);
    assert_eq!(step(state.clone(), RUN, paused).1, []);
    let (_, actions) = step(state, RUN, up());
    // It is looked at again whether that lasts.
    let again = Action::Wake(Duration::from_secs(10));
    assert_eq!(actions, [Action::Report(Report::Running { paused: None }), again]);
}

#[test]
fn an_object_that_says_it_ended_has_nothing_left_on_the_node() {
    assert_eq!(begin(Wish::Over, up()).1, [Action::Destroy]);
    assert_eq!(begin(Wish::Over, Event::Seen(None)).1, [Action::Clean]);
    assert_eq!(step(running(), Wish::Over, Event::Wish).1, [Action::Destroy]);
}

#[test]
fn the_object_saying_what_we_wrote_is_no_change() {
    assert!(!RUN.changed_to(Wish::Run { recorded: true }));
    assert!(RUN.changed_to(STOP));
    assert!(STOP.changed_to(Wish::Gone));
}

#[test]
fn a_guest_whose_disk_failed_is_let_go_on_ever_more_seldom_until_it_goes_on() {
    let broken = || Event::Seen(Some(DomainState::Paused(PauseReason::IoError)));
    let (mut state, actions) = step(running(), RUN, broken());
    let seconds = |seconds| Action::Wake(Duration::from_secs(seconds));
    let report = |paused| Action::Report(Report::Running { paused });
    assert_eq!(actions, [report(Some(PauseReason::IoError)), seconds(10)]);
    for wait in [20, 40, 80, 160, 180, 180] {
        let (after, actions) = step(state, RUN, Event::Tick);
        assert_eq!(actions, [Action::Resume]);
        // It goes on for a moment and fails again, which no list need have shown.
        let (after, actions) = step(after, RUN, Event::Done);
        assert_eq!(actions, [seconds(wait)]);
        let (after, actions) = step(after, RUN, broken());
        assert_eq!(actions, []);
        state = after;
    }
    // Seen to run it is not yet taken for well, nor is what it lacks forgotten.
    let (state, actions) = step(state, RUN, up());
    assert_eq!(actions, [report(None), seconds(180)]);
    let (again, actions) = step(state.clone(), RUN, broken());
    assert_eq!(actions, [report(Some(PauseReason::IoError)), seconds(180)]);
    assert!(matches!(again, State::Running { resumes: 6, .. }), "{again:?}");
    let (well, _) = story(state, &[(RUN, Event::Tick), (RUN, Event::Done)]);
    assert_eq!(well, running());
}

#[test]
fn only_what_a_disk_has_stopped_is_let_go_on_and_only_here() {
    let paused = Event::Seen(Some(DomainState::Paused(PauseReason::User)));
    let (state, actions) = step(running(), RUN, paused);
    assert_eq!(actions.len(), 1, "{actions:?}");
    assert_ne!(step(state, RUN, Event::Tick).1, [Action::Resume]);
    let broken = State::Running { paused: Some(PauseReason::IoError), resumes: 0 };
    assert_ne!(step(broken, Wish::Leave, Event::Tick).1, [Action::Resume]);
}

#[test]
fn a_grace_period_goes_on_where_an_earlier_agent_has_left_it() {
    let waited = |seconds| STOP.after(Duration::from_secs(seconds));
    let stop = |seconds| Wish::Stop { grace: Duration::from_secs(seconds) };
    assert_eq!([waited(0), waited(20), waited(40)], [stop(30), stop(10), stop(1)]);
    assert_eq!(stop(0).after(Duration::from_secs(5)), stop(0));
    assert_eq!(RUN.after(Duration::from_secs(5)), RUN);
}
