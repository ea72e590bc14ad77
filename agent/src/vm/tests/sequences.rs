//! Any sequence of events, against what must always hold.

use proptest::prelude::*;

use super::*;

/// A node on which actions have effects, and what the outside may do to it.
#[derive(Clone, Debug)]
struct World {
    wish: Wish,
    domain: Option<DomainState>,
    files: bool,
    reporting: Option<Report>,
    written: Option<Report>,
    timer: bool,
}

/// What the outside does, or how an action goes.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Look,
    Tick,
    Delete,
    Vanish,
    GuestEnds(ShutOffReason),
    NextFails,
    NextIsLost { acted: bool },
    ApiAnswers,
    AgentDies,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => Just(Happening::Look),
        3 => Just(Happening::Tick),
        1 => Just(Happening::Delete),
        1 => Just(Happening::Vanish),
        1 => prop_oneof![Just(ShutOffReason::Shutdown), Just(ShutOffReason::Crashed)]
            .prop_map(Happening::GuestEnds),
        2 => Just(Happening::NextFails),
        2 => any::<bool>().prop_map(|acted| Happening::NextIsLost { acted }),
        3 => Just(Happening::ApiAnswers),
        2 => Just(Happening::AgentDies),
    ];
    proptest::collection::vec(one, 0..60)
}

impl World {
    fn new() -> Self {
        Self { wish: RUN, domain: None, files: false, reporting: None, written: None, timer: false }
    }

    fn is_up(&self) -> bool {
        self.domain.is_some_and(|state| !matches!(state, DomainState::ShutOff(_)))
    }

    /// Does what the action says; what must never happen, panics.
    fn act(&mut self, action: &Action) -> bool {
        match action {
            Action::Wake(_) => self.timer = true,
            Action::Report(report) => self.reporting = Some(report.clone()),
            Action::Serve | Action::Attach | Action::Resume | Action::Press => {}
            Action::Adjust => {
                assert!(matches!(self.wish, Wish::Run { .. }), "a guest that moves is changed");
            }
            Action::Prepare | Action::Receive => {
                assert!(!self.is_up(), "files are made under a running guest");
                self.files = true;
            }
            Action::Define => {
                assert!(self.files, "a domain is defined without files");
                self.domain.get_or_insert(DomainState::ShutOff(ShutOffReason::Unknown));
            }
            Action::Start => {
                assert!(matches!(self.wish, Wish::Run { .. }), "a VM nobody wants is started");
                assert!(!self.is_up(), "a running guest is started");
                self.domain = Some(DomainState::Running);
            }
            Action::Destroy => {
                if self.is_up() {
                    self.domain = Some(DomainState::ShutOff(ShutOffReason::Destroyed));
                }
            }
            Action::Clean => {
                assert!(!self.is_up(), "files of a running guest are removed");
                self.files = false;
            }
            Action::Undefine => {
                assert!(!self.is_up(), "a running domain is forgotten");
                self.domain = None;
            }
        }
        !matches!(action, Action::Wake(_) | Action::Report(_))
    }

    fn api_answers(&mut self) -> bool {
        let Some(report) = self.reporting.take() else { return false };
        match (&report, self.wish) {
            (_, Wish::Gone) => {}
            (Report::Ended(_), Wish::Stop { .. }) => self.wish = Wish::Gone,
            (Report::Ended(_), _) => self.wish = Wish::Over,
            (Report::Running { .. }, Wish::Run { .. }) => self.wish = Wish::Run { recorded: true },
            _ => {}
        }
        self.written = Some(report);
        true
    }
}

/// One event and all that follows; `outcomes` decide how actions go.
fn happen(
    world: &mut World,
    mut state: State,
    event: Event,
    outcomes: &mut impl Iterator<Item = Happening>,
) -> State {
    let mut next = Some(event);
    while let Some(event) = next.take() {
        let before = state.clone();
        let (after, actions) = step(state, world.wish, event);
        if std::mem::discriminant(&before) != std::mem::discriminant(&after) {
            world.timer = false;
        }
        state = after;
        let with_outcome = actions
            .iter()
            .position(|action| !matches!(action, Action::Wake(_) | Action::Report(_)));
        assert!(with_outcome.is_none_or(|at| at + 1 == actions.len()), "{actions:?}");
        for action in actions {
            next = match outcomes.next() {
                Some(Happening::NextFails) if world.has_outcome(&action) => {
                    Some(Event::Failed(trouble()))
                }
                Some(Happening::NextIsLost { acted }) if world.has_outcome(&action) => {
                    if acted {
                        world.act(&action);
                    }
                    Some(Event::Lost)
                }
                _ => world.act(&action).then_some(Event::Done),
            };
        }
    }
    state
}

impl World {
    fn has_outcome(&self, action: &Action) -> bool {
        !matches!(action, Action::Wake(_) | Action::Report(_))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_guest_is_harmed_and_nothing_stays_behind(happenings in happenings()) {
        let mut world = World::new();
        let mut state = State::Unseen { attempt: 0 };
        let mut rest = happenings.into_iter();
        while let Some(happening) = rest.next() {
            let event = match happening {
                Happening::Look => Some(Event::Seen(world.domain)),
                Happening::Tick if world.timer => { world.timer = false; Some(Event::Tick) }
                Happening::Delete if matches!(world.wish, Wish::Run { .. }) => {
                    world.wish = STOP;
                    Some(Event::Wish)
                }
                Happening::Vanish => { world.wish = Wish::Gone; Some(Event::Wish) }
                Happening::GuestEnds(reason) => {
                    if world.is_up() { world.domain = Some(DomainState::ShutOff(reason)); }
                    None
                }
                Happening::ApiAnswers => {
                    let before = world.wish;
                    world.api_answers().then(|| {
                        if before.changed_to(world.wish) {
                            state = happen(&mut world, state.clone(), Event::Wish, &mut std::iter::empty());
                        }
                        Event::Reported
                    })
                }
                Happening::AgentDies => {
                    world.reporting = None;
                    world.timer = false;
                    // The fleet drives what has an object or a domain, and sweeps up the rest.
                    if world.wish != Wish::Gone || world.domain.is_some() {
                        state = State::Unseen { attempt: 0 };
                    } else {
                        world.files = false;
                        state = State::Ended;
                    }
                    None
                }
                _ => None,
            };
            if let Some(event) = event {
                state = happen(&mut world, state, event, &mut rest);
            }
        }

        // Then the VM is deleted, and everything works.
        if matches!(world.wish, Wish::Run { .. }) {
            world.wish = STOP;
        }
        let mut all_well = std::iter::empty();
        state = happen(&mut world, state, Event::Wish, &mut all_well);
        for _ in 0..20 {
            let seen = Event::Seen(world.domain);
            state = happen(&mut world, state, seen, &mut all_well);
            if std::mem::take(&mut world.timer) {
                state = happen(&mut world, state, Event::Tick, &mut all_well);
            }
            if world.api_answers() {
                state = happen(&mut world, state, Event::Reported, &mut all_well);
            }
        }
        prop_assert_eq!(&state, &State::Ended, "{:?}", world);
        prop_assert_eq!(world.domain, None);
        prop_assert!(!world.files);
        prop_assert!(matches!(world.wish, Wish::Gone | Wish::Over));
    }

    #[test]
    fn a_guest_that_powered_itself_off_is_never_reported_as_failed(deaths in 0..6_usize) {
        // The agent dies after any number of further steps, again and again.
        let mut world = World::new();
        world.domain = Some(DomainState::ShutOff(ShutOffReason::Shutdown));
        world.files = true;
        world.wish = Wish::Run { recorded: true };
        for steps in (0..=deaths).rev() {
            let mut state = State::Unseen { attempt: 0 };
            let mut event = Some(Event::Seen(world.domain));
            for _ in 0..=steps {
                let Some(this) = event.take() else { break };
                let (after, actions) = step(state, world.wish, this);
                state = after;
                for action in actions {
                    event = world.act(&action).then_some(Event::Done);
                }
                if event.is_none() && world.api_answers() {
                    event = Some(Event::Reported);
                }
            }
            world.reporting = None;
        }
        prop_assert!(!matches!(world.written, Some(Report::Ended(End::Failed(_)))), "{:?}", world);
    }
}
