//! Guests that come and go.

use super::*;

const RECEIVE: Wish = Wish::Receive { ready: false };
const READY: Wish = Wish::Receive { ready: true };

fn migrated() -> Event {
    off(ShutOffReason::Migrated)
}

fn on_its_way() -> Event {
    Event::Seen(Some(DomainState::Paused(PauseReason::Migration)))
}

#[test]
fn a_guest_is_received_waited_for_attached_and_then_reported() {
    let (state, actions) = begin(RECEIVE, Event::Seen(None));
    assert_eq!(actions, [Action::Receive]);
    let (state, actions) = step(state, RECEIVE, Event::Done);
    assert_eq!((state.clone(), actions), (State::Ready, vec![Action::Report(Report::Ready)]));
    let quiet = [(RECEIVE, Event::Seen(None)), (RECEIVE, on_its_way())];
    let (state, actions) = story(state, &quiet);
    assert_eq!((state.clone(), actions), (State::Ready, vec![]));
    let (state, actions) = step(state, RECEIVE, up());
    assert_eq!((state.clone(), actions), (State::Attaching { attempt: 0 }, vec![Action::Attach]));
    let (state, actions) = step(state, RECEIVE, Event::Done);
    assert_eq!(
        (state, actions),
        (running(), vec![Action::Report(Report::Running { paused: None })])
    );
}

#[test]
fn a_guest_that_was_paused_arrives_too() {
    let paused = Event::Seen(Some(DomainState::Paused(PauseReason::User)));
    assert_eq!(step(State::Ready, RECEIVE, paused).0, State::Attaching { attempt: 0 });
}

#[test]
fn an_agent_that_starts_while_a_guest_comes_waits_for_it() {
    assert_eq!(begin(READY, on_its_way()).0, State::Ready);
    assert_eq!(begin(READY, up()).0, State::Attaching { attempt: 0 });
}

#[test]
fn a_target_that_cannot_be_ready_says_so_after_some_attempts_or_at_once_if_it_never_can() {
    let mut state = begin(RECEIVE, Event::Seen(None)).0;
    let mut actions = Vec::new();
    for _ in 0..4 {
        (state, actions) = step(state, RECEIVE, Event::Failed(trouble()));
        if actions.len() == 1 {
            let tick = step(state.clone(), RECEIVE, Event::Tick);
            assert_eq!(tick.1, [Action::Receive]);
        }
    }
    assert_eq!(actions[0], Action::Report(Report::Refused(trouble())));
    assert_eq!(step(state, Wish::Moved, Event::Wish).0, State::Departing);
    let hopeless = Trouble { hopeless: true, ..trouble() };
    let first = begin(RECEIVE, Event::Seen(None)).0;
    let (_, actions) = step(first, RECEIVE, Event::Failed(hopeless.clone()));
    assert_eq!(actions[0], Action::Report(Report::Refused(hopeless)));
}

#[test]
fn a_guest_that_has_left_is_cleaned_up_after_and_never_reported_as_ended() {
    for wish in [Wish::Leave, Wish::Run { recorded: true }, Wish::Moved] {
        let (state, actions) = step(running(), wish, migrated());
        assert_eq!(
            (state.clone(), actions),
            (State::Cleaning { end: End::Left }, vec![Action::Clean])
        );
        let (state, actions) = step(state, wish, Event::Done);
        assert_eq!(actions, [Action::Undefine]);
        let (state, actions) = step(state, wish, Event::Done);
        if wish == Wish::Moved {
            assert_eq!((state, actions), (State::Ended, vec![]));
        } else {
            assert_eq!(state, State::Departed { sure: true });
            assert_eq!(actions[0], Action::Report(Report::Left), "the target may be silent");
            let (_, again) = step(state.clone(), wish, Event::Tick);
            assert_eq!(again, actions, "and never that it is lost");
            assert_eq!(step(state, Wish::Moved, Event::Wish), (State::Ended, vec![]));
        }
    }
}

#[test]
fn what_is_not_there_while_it_is_being_sent_is_the_targets_to_say_after_a_minute() {
    // A libvirtd that is started again ends what has left, and forgets why.
    let unsaid = [ShutOffReason::Unknown, ShutOffReason::Daemon].map(off);
    for seen in unsaid.into_iter().chain([Event::Seen(None)]) {
        let (state, _) = begin(Wish::Leave, seen.clone());
        assert_eq!(state, State::Cleaning { end: End::Moved }, "{seen:?}");
        let (state, _) = step(running(), Wish::Leave, seen.clone());
        assert!(
            matches!(
                state,
                State::Cleaning { end: End::Moved } | State::Destroying { end: End::Moved }
            ),
            "{seen:?}: {state:?}"
        );
    }
    let unknown = State::Departed { sure: false };
    let (state, actions) = step(unknown.clone(), Wish::Leave, Event::Tick);
    assert_eq!(state, State::Departed { sure: true });
    assert_eq!(actions[0], Action::Report(Report::Left));
    let (state, actions) = step(unknown, Wish::Run { recorded: true }, Event::Tick);
    assert!(matches!(state, State::Reporting { end: End::Failed(_), .. }), "{state:?}");
    assert!(matches!(actions[..], [Action::Report(Report::Ended(End::Failed(_)))]));
}

#[test]
fn a_guest_that_stands_still_after_a_move_that_failed_goes_on() {
    let (state, actions) = step(running(), Wish::Run { recorded: true }, on_its_way());
    assert_eq!((state, actions), (running(), vec![Action::Resume]));
    assert_eq!(step(running(), Wish::Leave, on_its_way()).1, [], "it may run at the target");
}

#[test]
fn a_target_that_is_asked_says_whether_the_guest_has_come() {
    let (state, actions) = step(State::Ready, Wish::Tell, Event::Wish);
    assert_eq!((state, actions), (State::Ready, vec![]), "first it looks");
    let absent = (State::Ready, vec![Action::Report(Report::Absent)]);
    for seen in [Event::Seen(None), off(ShutOffReason::Daemon)] {
        assert_eq!(step(State::Ready, Wish::Tell, seen.clone()), absent);
        assert_eq!(begin(Wish::Tell, seen), absent);
    }
    for begun in [step(State::Ready, Wish::Tell, up()), begin(Wish::Tell, up())] {
        assert_eq!(begun.0, State::Attaching { attempt: 0 });
    }
    for begun in [step(State::Ready, Wish::Tell, on_its_way()), begin(Wish::Tell, on_its_way())] {
        assert_eq!(begun, (State::Ready, vec![]), "it may yet run");
    }
}

#[test]
fn what_is_here_of_an_earlier_migration_is_ended_before_the_next_is_prepared() {
    for left in [up(), on_its_way()] {
        assert_eq!(begin(RECEIVE, left).0, State::Departing);
    }
    // That it has left was not seen yet, and it is to come back.
    for state in [running(), State::Attaching { attempt: 0 }] {
        let (state, actions) = step(state, RECEIVE, Event::Anew);
        assert_eq!((state.clone(), actions), (State::Unseen { attempt: 0 }, vec![]));
        assert_eq!(step(state, RECEIVE, migrated()).1, [Action::Receive]);
    }
}

#[test]
fn nothing_runs_on_that_has_no_files_any_more() {
    let undefining = State::Undefining { end: End::Moved, reported: true };
    assert_eq!(step(undefining.clone(), Wish::Moved, on_its_way()).1, [Action::Destroy]);
    assert_eq!(step(undefining.clone(), Wish::Moved, migrated()), (undefining, vec![]));
}

#[test]
fn a_guest_that_the_object_gives_to_this_node_is_not_ended_here() {
    for event in [Event::Wish, Event::Tick] {
        let (state, actions) = step(State::Departing, Wish::Run { recorded: true }, event);
        assert_eq!(state, State::Ready);
        assert!(!actions.contains(&Action::Destroy), "{actions:?}");
        let (state, _) = step(state, Wish::Run { recorded: true }, up());
        assert_eq!(state, State::Attaching { attempt: 0 });
    }
}

#[test]
fn a_guest_that_powers_itself_off_while_it_is_sent_has_ended() {
    let (state, _) = step(running(), Wish::Leave, off(ShutOffReason::Shutdown));
    assert_eq!(state, State::Cleaning { end: End::Succeeded });
}

#[test]
fn a_target_that_is_not_needed_any_more_waits_for_libvirt_and_then_pulls_the_plug() {
    let (state, actions) = step(State::Ready, Wish::Moved, Event::Wish);
    assert_eq!(state, State::Departing);
    assert!(matches!(actions[..], [Action::Wake(_)]));
    assert_eq!(step(state.clone(), Wish::Moved, on_its_way()).1, []);
    assert_eq!(step(state.clone(), Wish::Moved, Event::Seen(None)).1, [Action::Clean]);
    assert_eq!(step(state, Wish::Moved, Event::Tick).1, [Action::Destroy]);
}

#[test]
fn a_node_to_which_a_guest_comes_back_receives_it_anew() {
    let departed = State::Departed { sure: true };
    assert_eq!(step(departed, RECEIVE, Event::Wish).1, [Action::Receive]);
    let undefining = State::Undefining { end: End::Moved, reported: true };
    assert_eq!(step(undefining, RECEIVE, Event::Done).1, [Action::Receive]);
}

#[test]
fn a_guest_that_its_source_has_handed_over_is_waited_for_until_a_list_shows_it() {
    let (ready, _) = begin(READY, on_its_way());
    let (receiving, _) = begin(RECEIVE, Event::Seen(None));
    for state in [ready, receiving] {
        let (state, actions) = step(state, Wish::Run { recorded: true }, Event::Wish);
        assert!(matches!(actions[..], [Action::Wake(_)]), "{actions:?}");
        let run = Wish::Run { recorded: true };
        // What was listed before is looked at once more.
        let (state, actions) = step(state, run, Event::Seen(None));
        assert_eq!((state.clone(), actions), (State::Ready, vec![]));
        assert_eq!(step(state.clone(), run, up()).1, [Action::Attach]);
        let (state, _) = step(state, run, Event::Tick);
        let (state, _) = step(state, run, Event::Seen(None));
        assert!(matches!(state, State::Destroying { end: End::Failed(_) }), "{state:?}");
    }
}

#[test]
fn a_guest_that_is_deleted_as_it_arrives_is_asked_to_power_off() {
    let stop = Wish::Stop { grace: Duration::from_secs(30) };
    let (state, _) = step(State::Ready, stop, Event::Wish);
    let (state, actions) = step(state, stop, up());
    assert!(matches!(state, State::Stopping { .. }), "{state:?}");
    assert!(actions.contains(&Action::Press), "{actions:?}");
}

#[test]
fn what_was_made_for_a_migration_that_failed_does_not_serve_the_next() {
    for state in [State::Ready, State::Receiving { attempt: 0 }] {
        let (state, _) = step(state, RECEIVE, Event::Anew);
        assert_eq!(state, State::Departing);
        let (state, actions) = story(state, &[(RECEIVE, Event::Seen(None))]);
        assert_eq!(actions, [Action::Clean]);
        let rest = [(RECEIVE, Event::Done), (RECEIVE, Event::Done)];
        let (state, actions) = story(state, &rest);
        assert_eq!((state, actions), (State::Receiving { attempt: 0 }, vec![Action::Receive]));
    }
}

fn torn() -> Event {
    Event::Seen(Some(DomainState::Paused(PauseReason::PostCopyFailed)))
}

#[test]
fn a_guest_that_broke_off_after_it_went_on_at_its_target_is_that_ones_to_end() {
    let adjusting = State::Adjusting { paused: None };
    for state in [running(), State::Attaching { attempt: 0 }, adjusting] {
        let (state, actions) = step(state, Wish::Leave, torn());
        assert_eq!(state, State::Broken, "and it is not said to have ended");
        assert!(actions.contains(&Action::Report(Report::Broken)), "{actions:?}");
    }
    assert_eq!(step(State::Broken, Wish::Leave, torn()), (State::Broken, vec![]));
    let (_, again) = step(State::Broken, Wish::Leave, Event::Tick);
    assert!(again.contains(&Action::Report(Report::Broken)), "its word may have got lost");
    assert_eq!(step(State::Broken, Wish::Moved, Event::Wish).0, State::Departing);
    let gone = step(State::Broken, Wish::Leave, Event::Seen(None)).0;
    assert_eq!(gone, State::Cleaning { end: End::Left });
    let over = step(State::Broken, Wish::Over, Event::Wish).0;
    assert!(matches!(over, State::Destroying { .. }), "{over:?}");
}

#[test]
fn a_target_ends_what_broke_off_there_once_it_is_its_own() {
    assert_eq!(step(State::Ready, READY, torn()), (State::Ready, vec![]), "its source says so");
    let (state, actions) = step(State::Ready, Wish::Tell, torn());
    assert_eq!((state, actions), (State::Ready, vec![Action::Report(Report::Broken)]));
    let run = Wish::Run { recorded: true };
    let (state, actions) = step(State::Ready, run, torn());
    assert!(matches!(state, State::Destroying { end: End::Failed(_) }), "{state:?}");
    assert_eq!(actions, [Action::Destroy]);
    let (state, _) = step(running(), run, torn());
    assert!(matches!(state, State::Destroying { end: End::Failed(_) }), "{state:?}");
}
