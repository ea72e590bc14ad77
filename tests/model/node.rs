//! One agent: what its fleet, its driver and its sending do with the real decisions. What
//! an action, a write or a call comes to the world says.

use agent::hypervisor::DomainState;
use agent::sending::order::{asked, is_resumed};
use agent::vm::{Action, Event, Known, Report, State, Wish, publish, step};

use super::shelf::{Id, NODES, Shelf};

/// A domain in a list.
pub(super) type Seen = Option<DomainState>;

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Agent {
    pub(super) up: bool,
    pub(super) driver: Option<Box<Driver>>,
    /// Its driver has ended, and the object is still there to be seen.
    pub(super) ended: bool,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Driver {
    pub(super) state: State,
    pub(super) known: Known,
    pub(super) instance: Option<Id>,
    /// The migration that is under way there.
    moves: Option<String>,
    todo: Vec<Event>,
    /// What is here was made by no agent before this one.
    pub(super) is_ours: bool,
    pub(super) doing: Option<Action>,
    pub(super) timer: bool,
    /// What is being written, and for which version.
    pub(super) report: Option<(Report, Option<Id>)>,
    /// During which migration that was begun.
    pub(super) during: Option<String>,
    pub(super) sending: Sending,
}

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Sending {
    pub(super) begun: Option<String>,
    pub(super) called_off: bool,
    pub(super) task: Task,
}

/// How far the task came that sends the guest.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) enum Task {
    #[default]
    None,
    /// Writes that it begins.
    Begins(Id),
    Calls,
    /// Libvirt has not answered yet.
    Sends,
    /// Waits for what an earlier agent has begun.
    Follows,
    /// Asks where the guest is.
    Looks,
    /// Writes that it failed.
    Fails(Id),
    /// Writes that it does not know.
    Asks(Id),
}

/// What of the design is in force; a test takes a part away to see that it matters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The API compares versions.
    pub(super) precondition: bool,
    /// The source waits for the target to be ready.
    pub(super) ready: bool,
    /// The source knows that it has begun before it sees what it wrote of that.
    pub(super) begun: bool,
    /// What is said for one migration is not said of the next.
    pub(super) meant: bool,
    /// A controller asks before it says that an instance knows nothing of a move.
    pub(super) asks: bool,
}

impl Driver {
    pub(super) fn new(instance: Option<Id>, node: usize, shelf: &Shelf) -> Self {
        let known = Known::of(instance.map(|id| shelf.instance(id)), NODES[node]);
        Self {
            state: State::Unseen { attempt: 0 },
            known,
            instance,
            moves: None,
            todo: Vec::new(),
            is_ours: false,
            doing: None,
            timer: false,
            report: None,
            during: None,
            sending: Sending::default(),
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.doing.is_some()
    }

    /// Takes in what is new, as `Driver::look` does: `None` for an object that is gone.
    pub(super) fn look(
        &mut self,
        instance: Option<Id>,
        list: Option<Seen>,
        node: usize,
        shelf: &Shelf,
        rules: Rules,
    ) {
        let seen = instance.map(|id| shelf.instance(id));
        let begun = self.sending.begun.as_deref().filter(|_| rules.begun);
        let news = self.known.learn(seen, NODES[node], begun, false, list);
        self.instance = instance.or(self.instance);
        if let Some(seen) = seen {
            self.moves = publish::under_way(seen).map(str::to_owned);
        }
        self.ask(node, shelf, rules);
        self.todo = news;
        self.go_on();
    }

    /// What the object asks of the sending.
    fn ask(&mut self, node: usize, shelf: &Shelf, rules: Rules) {
        let Some(id) = self.instance else { return };
        let instance = shelf.as_if_ready(id, !rules.ready);
        let sending = &mut self.sending;
        let runs = matches!(self.state, State::Running { .. });
        let able = sending.task == Task::None && runs;
        let asked = asked(&instance, NODES[node], sending.begun.as_deref(), able);
        if asked.begin.is_some() {
            sending.begun = asked.begin;
            sending.called_off = false;
            sending.task = if is_resumed(&instance) { Task::Follows } else { Task::Begins(id) };
        }
        sending.called_off |= asked.call_off;
    }

    /// Has this happen, and what waited for it.
    pub(super) fn happens(&mut self, event: Event) {
        self.happen(event);
        self.go_on();
    }

    /// The action had this outcome.
    pub(super) fn done(&mut self, outcome: Event) {
        self.doing = None;
        self.happens(outcome);
    }

    fn go_on(&mut self) {
        while self.doing.is_none() && !self.todo.is_empty() {
            let event = self.todo.remove(0);
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        let (state, actions) = step(self.state.clone(), self.known.wish, event);
        if std::mem::discriminant(&state) != std::mem::discriminant(&self.state) {
            self.timer = false;
        }
        self.state = state;
        let mut instant = false;
        for action in actions {
            match action {
                Action::Wake(_) => self.timer = true,
                Action::Report(report) => {
                    let base = self.instance.filter(|_| self.known.wish != Wish::Gone);
                    self.report = Some((report, base));
                    self.during.clone_from(&self.moves);
                }
                // Nobody else sees anything of these.
                Action::Serve | Action::Attach | Action::Adjust => instant = true,
                action => self.doing = Some(action),
            }
        }
        if instant {
            self.happen(Event::Done);
        }
    }
}
