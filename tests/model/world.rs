//! All of it together: the API, controllers, agents, libvirts, OVN and the user, and what
//! may happen next.

mod promises;
mod sending;
mod state;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use agent::sending::order::{Place, place};
use agent::vm::{Action, Event, State as VmState, Trouble, Wish, has_parted, publish, wish_of};
use crds::kubevirt::{InstancePhase, MIGRATION_TARGET_LABEL, MigrationPhase, NODE_NAME_LABEL};
use kube::ResourceExt as _;

use self::promises::*;
pub(super) use self::promises::{LOST, UNBOUND, UNDER_IT, UNTRUE};
use self::sending::{calls_off, looks, sends};
use super::explore::{Steps, System};
use super::libvirt::{Dom, Ended, MOVES, Move, Virt};
use super::node::{Agent, Driver, Rules, Task};
use super::shelf::{Chassis, Id, NODES, Refusal, Shelf, Word, Write, number};

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// With two, the one fault is that the second decides.
    pub(super) controllers: usize,
    /// How much may go wrong.
    pub(super) faults: u8,
    /// Only deaths and lost connections: nothing is late or fails otherwise.
    pub(super) deaths: bool,
    /// How often the user does something: calls a move off, deletes the VM, asks for
    /// another move.
    pub(super) wishes: u8,
    /// Whether the user asks for a second move.
    pub(super) again: bool,
}

/// A state as it is kept: by numbers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Packed([u16; 13]);

/// A state as it is worked on.
#[derive(Clone, Debug, Eq, PartialEq)]
struct State {
    instance: Option<Id>,
    migrations: [Option<Id>; 2],
    /// What OVN says.
    port: Chassis,
    controllers: Vec<Rc<Controller>>,
    agents: [Rc<Agent>; 2],
    virt: Virt,
    files: [bool; 2],
    /// A write for which nobody waits any more.
    stray: Option<Write>,
    faults: u8,
    wishes: u8,
    deleted: bool,
    asked_again: bool,
}

/// A controller: what it has seen, and what it is about to write.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Controller {
    instance: Option<Id>,
    migrations: [Option<Id>; 2],
    writes: Vec<Write>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    LibvirtdIsBack(usize),
    AgentIsBack(usize),
    Libvirt(Move),
    PowersOff(usize),
    StrayArrives,
    ControllerSees(usize),
    ControllerSeesMigrations(usize),
    Decides(usize),
    ControllerWrites(usize),
    Acts(usize),
    Reports(usize),
    SaysOfSending(usize),
    Sends(usize),
    CallsOff(usize),
    Looks(usize),
    Sees(usize),
    Lists(usize),
    Sweeps(usize),
    /// Gentle only where nothing else happens.
    Ticks(usize),
    HasWaited(usize),
    // === faults ===
    AgentDies(usize),
    AgentDiesAndItsWriteArrives(usize),
    LibvirtdDies(usize),
    ControllerDies(usize),
    ControllerDiesAndItsWriteArrives(usize),
    ConnectionBreaks,
    ActionFails(usize),
    WritesTwice(usize),
    // === the user ===
    UserCallsOff(usize),
    UserDeletes,
    UserAsksAgain,
}

impl Step {
    const fn is_death(self) -> bool {
        matches!(
            self,
            Self::AgentDies(_)
                | Self::LibvirtdDies(_)
                | Self::ControllerDies(_)
                | Self::ConnectionBreaks
        )
    }
}

const GENTLE: [Step; 38] = {
    use Step as S;
    [
        S::LibvirtdIsBack(0),
        S::LibvirtdIsBack(1),
        S::AgentIsBack(0),
        S::AgentIsBack(1),
        S::Libvirt(MOVES[0]),
        S::Libvirt(MOVES[1]),
        S::Libvirt(MOVES[2]),
        S::Libvirt(MOVES[3]),
        S::Libvirt(MOVES[4]),
        S::Libvirt(MOVES[5]),
        S::Libvirt(MOVES[6]),
        S::Libvirt(MOVES[7]),
        S::PowersOff(0),
        S::PowersOff(1),
        S::StrayArrives,
        S::Decides(0),
        S::ControllerWrites(0),
        S::ControllerSees(1),
        S::ControllerSeesMigrations(1),
        S::ControllerWrites(1),
        S::Acts(0),
        S::Reports(0),
        S::SaysOfSending(0),
        S::Sends(0),
        S::CallsOff(0),
        S::Looks(0),
        S::Sees(0),
        S::Lists(0),
        S::Sweeps(0),
        S::Acts(1),
        S::Reports(1),
        S::SaysOfSending(1),
        S::Sends(1),
        S::CallsOff(1),
        S::Looks(1),
        S::Sees(1),
        S::Lists(1),
        S::Sweeps(1),
    ]
};

const TIMES: [Step; 3] = [Step::Ticks(0), Step::Ticks(1), Step::HasWaited(0)];

const FAULTS: [Step; 16] = {
    use Step as S;
    [
        S::Decides(1),
        S::AgentDies(0),
        S::AgentDies(1),
        S::AgentDiesAndItsWriteArrives(0),
        S::AgentDiesAndItsWriteArrives(1),
        S::LibvirtdDies(0),
        S::LibvirtdDies(1),
        S::ControllerDies(0),
        S::ControllerDies(1),
        S::ControllerDiesAndItsWriteArrives(0),
        S::ControllerDiesAndItsWriteArrives(1),
        S::ConnectionBreaks,
        S::ActionFails(0),
        S::ActionFails(1),
        S::WritesTwice(0),
        S::WritesTwice(1),
    ]
};

const WISHES: [Step; 4] =
    [Step::UserCallsOff(0), Step::UserCallsOff(1), Step::UserDeletes, Step::UserAsksAgain];

type Next = Result<State, String>;

/// Values known by number.
#[derive(Debug)]
struct Table<T> {
    all: Vec<Rc<T>>,
    by_value: HashMap<Rc<T>, u16>,
    /// Most are looked up as they were given out.
    by_place: HashMap<*const T, u16>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { all: Vec::new(), by_value: HashMap::new(), by_place: HashMap::new() }
    }
}

impl<T: Eq + std::hash::Hash> Table<T> {
    fn number(&mut self, value: &Rc<T>) -> u16 {
        let known = self.by_place.get(&Rc::as_ptr(value));
        if let Some(number) = known.or_else(|| self.by_value.get(value)) {
            return *number;
        }
        let number = u16::try_from(self.all.len()).expect("the world is small");
        self.all.push(Rc::clone(value));
        self.by_value.insert(Rc::clone(value), number);
        self.by_place.insert(Rc::as_ptr(value), number);
        number
    }

    fn get(&self, number: u16) -> Rc<T> {
        Rc::clone(&self.all[usize::from(number)])
    }
}

pub(super) struct World {
    pub(super) shelf: Shelf,
    rules: Rules,
    bounds: Bounds,
    /// Which promise is looked at; all of them if none is named.
    only: Option<&'static str>,
    /// States from which the end is reached.
    well: HashSet<Packed>,
    agents: Table<Agent>,
    controllers: Table<Controller>,
    virts: Table<Virt>,
}

impl System for World {
    type State = Packed;
    type Step = Step;

    fn start(&mut self) -> Packed {
        let instance = self.shelf.first_instance();
        let controller = Controller { instance: Some(instance), ..Controller::default() };
        let agent = Rc::new(Agent { up: true, ..Agent::default() });
        let state = State {
            instance: Some(instance),
            migrations: [None; 2],
            port: (Some(0), None),
            controllers: (0..self.bounds.controllers)
                .map(|_| Rc::new(controller.clone()))
                .collect(),
            agents: [agent.clone(), agent],
            virt: Virt::new(),
            files: [true, false],
            stray: None,
            faults: self.bounds.faults,
            wishes: self.bounds.wishes,
            deleted: false,
            asked_again: false,
        };
        let mut state = self.at_rest(state).expect("nothing has happened yet").0;
        state.migrations[0] = Some(self.shelf.new_migration(1));
        state.tidy();
        self.pack(&state)
    }

    fn steps(&mut self, packed: &Packed) -> Steps<Self> {
        let state = &self.unpack(packed);
        let mut steps = Vec::new();
        for step in &GENTLE {
            self.add(state, *step, |_| {}, &mut steps);
        }
        // Time passes where nothing else does.
        if steps.is_empty() {
            for step in TIMES {
                self.add(state, step, |_| {}, &mut steps);
            }
        } else if state.faults > 0 && !self.bounds.deaths && self.bounds.controllers == 1 {
            for step in TIMES {
                self.add(state, step, |next| next.faults -= 1, &mut steps);
            }
        }
        if state.faults > 0 {
            let Bounds { deaths, controllers, .. } = self.bounds;
            let happens = |step: &&Step| match step {
                Step::Decides(_) => true,
                step => controllers == 1 && (step.is_death() || !deaths),
            };
            for step in FAULTS.iter().filter(happens) {
                self.add(state, *step, |next| next.faults -= 1, &mut steps);
            }
        }
        if state.wishes > 0 {
            for step in WISHES {
                self.add(state, step, |next| next.wishes -= 1, &mut steps);
            }
        }
        steps
    }

    fn check(&mut self, packed: &Packed) -> Result<(), String> {
        let state = self.unpack(packed);
        self.is_safe(&state)?;
        self.ends_well(state)
    }
}

impl World {
    pub(super) fn new(rules: Rules, bounds: Bounds) -> Self {
        Self {
            shelf: Shelf::default(),
            rules,
            bounds,
            only: None,
            well: HashSet::new(),
            agents: Table::default(),
            controllers: Table::default(),
            virts: Table::default(),
        }
    }

    /// That looks at this promise alone.
    pub(super) fn for_only(mut self, promise: &'static str) -> Self {
        self.only = Some(promise);
        self
    }

    fn add(
        &mut self,
        state: &State,
        step: Step,
        costs: impl Fn(&mut State),
        steps: &mut Steps<Self>,
    ) {
        let Some(next) = self.take(state, step) else { return };
        let next = next.map(|mut next| {
            costs(&mut next);
            next
        });
        if !next.as_ref().is_ok_and(|next| next == state) {
            steps.push((step, next.map(|next| self.pack(&next))));
        }
    }

    fn pack(&mut self, state: &State) -> Packed {
        let id = |id: Option<Id>| id.map_or(0, |id| id + 1);
        let node = |node: Option<usize>| node.map_or(0, |node| node + 1);
        let port = node(state.port.0) * 3 + node(state.port.1);
        let bits = [state.files[0], state.files[1], state.deleted, state.asked_again];
        let bits = bits.iter().fold(0, |bits, one| bits * 2 + u16::from(*one));
        let stray = state.stray.map_or([0, 0], |write| {
            [write.patch + 1, u16::try_from(node(write.of)).expect("it is small")]
        });
        let mut one =
            |at: usize| state.controllers.get(at).map_or(0, |one| self.controllers.number(one));
        let controllers = [one(0), one(1)];
        Packed([
            id(state.instance),
            id(state.migrations[0]),
            id(state.migrations[1]),
            u16::try_from(port).expect("it is small"),
            controllers[0],
            controllers[1],
            self.agents.number(&state.agents[0]),
            self.agents.number(&state.agents[1]),
            self.virts.number(&Rc::new(state.virt)),
            bits,
            stray[0],
            stray[1],
            u16::from(state.faults) * 256 + u16::from(state.wishes),
        ])
    }

    fn unpack(&self, packed: &Packed) -> State {
        let all = packed.0;
        let id = |at: usize| all[at].checked_sub(1);
        let node = |number: u16| usize::from(number).checked_sub(1);
        let bit = |at: u16| all[9] & (8 >> at) != 0;
        let controllers = all[4..4 + self.bounds.controllers].iter();
        State {
            instance: id(0),
            migrations: [id(1), id(2)],
            port: (node(all[3] / 3), node(all[3] % 3)),
            controllers: controllers.map(|one| self.controllers.get(*one)).collect(),
            agents: [6, 7].map(|at: usize| self.agents.get(all[at])),
            virt: *self.virts.get(all[8]),
            files: [bit(0), bit(1)],
            stray: id(10).map(|patch| Write { of: node(all[11]), patch }),
            faults: u8::try_from(all[12] / 256).expect("as packed"),
            wishes: u8::try_from(all[12] % 256).expect("as packed"),
            deleted: bit(2),
            asked_again: bit(3),
        }
    }

    /// That a promise is broken, if it is one that is looked at.
    fn broken(&self, promise: &'static str, how: &str) -> Result<(), String> {
        let looked_at = self.only.is_none_or(|only| only == promise);
        if looked_at { Err(format!("{promise}: {how}")) } else { Ok(()) }
    }

    // === what may happen ===

    /// What this step leads to; nothing if it cannot be taken.
    fn take(&mut self, state: &State, step: Step) -> Option<Next> {
        if !state.may(step) {
            return None;
        }
        let mut next = state.clone();
        let taken = match step {
            Step::LibvirtdIsBack(node) => {
                let down = !next.virt.up[node];
                down.then(|| next.virt.is_back(node))
            }
            Step::AgentIsBack(node) => {
                let down = !next.agents[node].up;
                down.then(|| next.agents[node] = Rc::new(Agent { up: true, ..Agent::default() }))
            }
            Step::Libvirt(what) => {
                let ended = next.virt.take(what, next.files)?;
                let from = state.virt.job.map(|job| job.from);
                from.into_iter().for_each(|from| next.call_ends(from, ended));
                Some(())
            }
            Step::PowersOff(node) => next.virt.power_off(node).then_some(()),
            Step::StrayArrives => {
                let write = next.stray.take()?;
                let _ = self.write(&mut next, write);
                Some(())
            }
            Step::ControllerSees(one) => {
                let instance = next.instance;
                next.idle(one).map(|controller| controller.instance = instance)
            }
            Step::ControllerSeesMigrations(one) => {
                let migrations = next.migrations;
                next.idle(one).map(|controller| controller.migrations = migrations)
            }
            Step::Decides(one) => self.decides(&mut next, one, false),
            Step::HasWaited(one) => self.decides(&mut next, one, true),
            Step::ControllerWrites(one) => self.controller_writes(&mut next, one),
            Step::Acts(node) => match self.acts(&mut next, node)? {
                Ok(()) => Some(()),
                Err(promise) => return Some(Err(promise)),
            },
            Step::Reports(node) => self.reports(&mut next, node),
            Step::SaysOfSending(node) => self.says_of_sending(&mut next, node),
            Step::Sends(node) => sends(&mut next, node),
            Step::CallsOff(node) => calls_off(&mut next, node),
            Step::Looks(node) => looks(&mut next, node),
            Step::Sees(node) => self.sees(&mut next, node),
            Step::Lists(node) => self.lists(&mut next, node),
            Step::Sweeps(node) => self.sweeps(&mut next, node),
            Step::Ticks(node) => {
                let driver = next.free(node)?;
                std::mem::take(&mut driver.timer).then(|| driver.happens(Event::Tick))
            }
            Step::AgentDies(node) => {
                next.agents[node].up.then(|| next.agents[node] = Rc::default())
            }
            Step::AgentDiesAndItsWriteArrives(node) => {
                next.stray = Some(self.in_flight(&next, node).filter(|_| next.stray.is_none())?);
                next.agents[node] = Rc::default();
                Some(())
            }
            Step::LibvirtdDies(node) => next.virt.up[node].then(|| {
                let ended = next.virt.dies(node);
                next.call_ends(node, ended);
            }),
            Step::ControllerDies(one) => {
                let controller = Rc::make_mut(next.controllers.get_mut(one)?);
                (!controller.writes.is_empty()).then(|| controller.writes.clear())
            }
            Step::ControllerDiesAndItsWriteArrives(one) => {
                let controller = next.idle(one).filter(|_| state.stray.is_none())?;
                let (instance, migrations) = (controller.instance, controller.migrations);
                let round = self.shelf.round(instance, migrations, false);
                if round.ask && self.rules.asks && instance != state.instance {
                    return None;
                }
                next.stray = round.writes.first().copied();
                next.stray.map(drop)
            }
            Step::ConnectionBreaks => next.virt.is_cut().then_some(()),
            Step::ActionFails(node) => next.driver(node).and_then(|driver| {
                let can = matches!(
                    driver.doing,
                    Some(Action::Receive | Action::Attach | Action::Clean | Action::Destroy)
                );
                can.then(|| driver.done(Event::Failed(trouble())))
            }),
            Step::WritesTwice(node) => {
                next.stray = Some(self.in_flight(&next, node).filter(|_| next.stray.is_none())?);
                Some(())
            }
            Step::UserCallsOff(which) => next.migrations[which].and_then(|id| {
                let is_asked = self.shelf.migration(id).metadata.deletion_timestamp.is_none();
                is_asked.then(|| next.migrations[which] = self.shelf.deleted_migration(id))
            }),
            Step::UserDeletes => next.instance.filter(|_| !next.deleted).map(|id| {
                next.instance = self.shelf.deleted_instance(id);
                next.deleted = true;
            }),
            Step::UserAsksAgain => {
                let can = self.bounds.again && !next.asked_again && next.instance.is_some();
                can.then(|| {
                    next.asked_again = true;
                    next.migrations[1] = Some(self.shelf.new_migration(2));
                })
            }
        };
        taken?;
        next.tidy();
        Some(Ok(next))
    }

    /// A write arrives.
    fn write(&mut self, state: &mut State, write: Write) -> Result<Option<Id>, Refusal> {
        let place = match write.of {
            Some(of) => &mut state.migrations[of],
            None => &mut state.instance,
        };
        let after = self.shelf.apply(write, *place, self.rules.precondition)?;
        *place = after;
        Ok(after)
    }

    fn decides(&mut self, state: &mut State, one: usize, late: bool) -> Option<()> {
        let controller = state.idle(one)?;
        let (instance, migrations) = (controller.instance, controller.migrations);
        let round = self.shelf.round(instance, migrations, late);
        if late && *round.writes == *self.shelf.round(instance, migrations, false).writes {
            return None;
        }
        if instance.is_some() {
            state.port = round.chassis;
        }
        let current = state.instance;
        let controller = state.idle(one)?;
        if round.ask && self.rules.asks && current != instance {
            controller.instance = current;
            return Some(());
        }
        controller.writes.clone_from(&round.writes);
        // One that dies before has as well not decided.
        self.controller_writes(state, one);
        Some(())
    }

    fn controller_writes(&mut self, state: &mut State, one: usize) -> Option<()> {
        let controller = Rc::make_mut(state.controllers.get_mut(one)?);
        let write = (!controller.writes.is_empty()).then(|| controller.writes.remove(0))?;
        let written = self.write(state, write);
        let controller = Rc::make_mut(&mut state.controllers[one]);
        match (written, write.of) {
            (Ok(after), Some(of)) => controller.migrations[of] = after,
            (Ok(after), None) => controller.instance = after,
            (Err(_), _) => {}
        }
        Some(())
    }

    /// The write that an agent is about to make.
    fn in_flight(&mut self, state: &State, node: usize) -> Option<Write> {
        let driver = state.agents[node].driver.as_ref()?;
        let (report, base) = driver.report.clone().filter(|_| !driver.is_busy())?;
        let patch = self.shelf.report(base?, node, &report)?;
        Some(Write { of: None, patch })
    }

    /// What `publish` does, a write at a time.
    fn reports(&mut self, state: &mut State, node: usize) -> Option<()> {
        let driver = state.free(node)?;
        let (report, base) = driver.report.clone()?;
        let patch = base.and_then(|base| Some((base, self.shelf.report(base, node, &report)?)));
        let mut goes_on = None;
        if let Some((base, patch)) = patch {
            let told_first = matches!(report, agent::vm::Report::Ended(_))
                && publish::is_told_first(self.shelf.instance(base));
            goes_on = match self.write(state, Write { of: None, patch }) {
                Ok(now) if told_first => now,
                Ok(_) | Err(Refusal::NoObject) => None,
                Err(Refusal::Conflict) => state.instance,
            };
        }
        let driver = state.free(node)?;
        let during = driver.during.as_deref();
        let is_meant =
            |id: &Id| publish::is_still_meant(self.shelf.instance(*id), NODES[node], during);
        if goes_on.is_some_and(|id| is_meant(&id) || !self.rules.meant) {
            driver.report = Some((report, goes_on));
        } else {
            driver.report = None;
            driver.during = None;
            driver.happens(Event::Reported);
        }
        Some(())
    }

    /// The writes of the task that sends the guest.
    fn says_of_sending(&mut self, state: &mut State, node: usize) -> Option<()> {
        let sending = &state.driver(node)?.sending;
        let (base, word) = match sending.task {
            Task::Begins(base) => (base, Word::Begun),
            Task::Fails(base) => (base, Word::Failed),
            Task::Asks(base) => (base, Word::Undecided),
            _ => return None,
        };
        let begun = sending.begun.clone();
        let again = |base| match word {
            Word::Begun => Task::Begins(base),
            Word::Failed => Task::Fails(base),
            Word::Undecided => Task::Asks(base),
        };
        let task = match self.shelf.sent(base, node, begun.as_deref(), word, self.rules.ready) {
            None => Task::None,
            Some(patch) => match self.write(state, Write { of: None, patch }) {
                // It may have written that it was called off.
                Ok(now) if word == Word::Begun => {
                    let moves = now.is_some_and(|id| self.shelf.instance(id).migration().is_some());
                    if moves { Task::Calls } else { Task::Looks }
                }
                Ok(_) | Err(Refusal::NoObject) => Task::None,
                Err(Refusal::Conflict) => state.instance.map_or(Task::None, again),
            },
        };
        state.driver(node)?.sending.task = task;
        Some(())
    }

    /// What an action comes to.
    fn acts(&mut self, state: &mut State, node: usize) -> Option<Result<(), String>> {
        let action = state.driver(node)?.doing.clone()?;
        let outcome = self.outcome(state, node, &action);
        Some(outcome.map(|outcome| {
            if let Some(driver) = state.driver(node) {
                driver.done(outcome);
            }
            state.lets_go(node);
        }))
    }

    fn outcome(
        &mut self,
        state: &mut State,
        node: usize,
        action: &Action,
    ) -> Result<Event, String> {
        let verbs =
            matches!(action, Action::Resume | Action::Press | Action::Destroy | Action::Undefine);
        if verbs && !state.virt.up[node] {
            return Ok(Event::Lost);
        }
        Ok(match action {
            Action::Serve | Action::Attach | Action::Adjust => Event::Done,
            Action::Resume => {
                state.virt.resume(node);
                Event::Done
            }
            Action::Press => {
                state.virt.pressed[node] = state.virt.is_active(node);
                Event::Done
            }
            Action::Destroy => {
                let ended = state.virt.destroy(node);
                state.call_ends(node, ended);
                Event::Done
            }
            Action::Undefine if state.virt.is_active(node) => Event::Failed(trouble()),
            Action::Undefine => {
                state.virt.defined[node] = false;
                Event::Done
            }
            Action::Clean => {
                if state.virt.is_active(node) {
                    self.broken(UNDER_IT, &format!("cleaned at {}", NODES[node]))?;
                }
                state.files[node] = false;
                Event::Done
            }
            Action::Receive => {
                let known = state.agents[node].driver.as_ref().and_then(|one| one.instance);
                let ready = known.is_some_and(|id| {
                    let state = self.shelf.instance(id).migration();
                    state.is_some_and(|state| state.target_node_address.is_some())
                });
                let driver = state.agents[node].driver.as_ref();
                let foreign = state.files[node] && !driver.is_some_and(|driver| driver.is_ours);
                if !ready
                    && foreign
                    && let Some(patch) = known.and_then(|id| self.shelf.anew(id))
                    && self.write(state, Write { of: None, patch }).is_err()
                {
                    return Ok(Event::Failed(trouble()));
                }
                if let Some(driver) = state.driver(node) {
                    driver.is_ours |= !ready;
                }
                if !ready && state.virt.is_active(node) {
                    self.broken(UNDER_IT, &format!("made anew at {}", NODES[node]))?;
                }
                state.files[node] = true;
                // Until OVN has installed the port here.
                let is_bound = state.port.0 == Some(node) || state.port.1 == Some(node);
                if is_bound { Event::Done } else { Event::Failed(trouble()) }
            }
            Action::Prepare | Action::Define | Action::Start => {
                self.broken(STARTED, &format!("at {}: {action:?}", NODES[node]))?;
                Event::Done
            }
            Action::Report(_) | Action::Wake(_) => Event::Done,
        })
    }

    /// Whether the watches of a node bring the object.
    fn is_watched(&self, id: Id, node: usize) -> bool {
        let labels = self.shelf.instance(id).labels();
        [NODE_NAME_LABEL, MIGRATION_TARGET_LABEL]
            .iter()
            .any(|label| labels.get(*label).is_some_and(|one| one == NODES[node]))
    }

    /// The object by a watch, or as the API says when asked.
    fn sees(&mut self, state: &mut State, node: usize) -> Option<()> {
        let current = state.instance;
        if let Some(id) = current
            && !self.is_watched(id, node)
        {
            let is_off = !state.virt.is_active(node);
            if !has_parted(self.shelf.instance(id), NODES[node]) && !is_off {
                return None;
            }
        }
        let driver = state.free(node)?;
        let knows =
            driver.instance == current || (current.is_none() && driver.known.wish == Wish::Gone);
        if knows {
            return None;
        }
        driver.look(current, None, node, &self.shelf, self.rules);
        state.lets_go(node);
        Some(())
    }

    /// A list of domains, and a round of the fleet.
    fn lists(&mut self, state: &mut State, node: usize) -> Option<()> {
        if !state.virt.up[node] || !state.agents[node].up {
            return None;
        }
        let seen = state.virt.seen(node);
        if state.agents[node].driver.is_none() {
            let watched = state.instance.filter(|id| self.is_watched(*id, node));
            state.agent(node).ended &= watched.is_some();
            let spawned = match (state.instance, watched) {
                (Some(id), Some(_)) => {
                    let instance = self.shelf.instance(id);
                    let comes = wish_of(Some(instance), NODES[node]).comes();
                    !state.agents[node].ended || comes || seen.is_some()
                }
                (Some(id), None) => {
                    let parted = has_parted(self.shelf.instance(id), NODES[node]);
                    seen.is_some() && (parted || !state.virt.is_active(node))
                }
                (None, _) => seen.is_some(),
            };
            if !spawned {
                return Some(());
            }
            let driver = Driver::new(state.instance, node, &self.shelf);
            *state.agent(node) = Agent { up: true, driver: Some(Box::new(driver)), ended: false };
        }
        let driver = state.free(node)?;
        let known = driver.instance.filter(|_| driver.known.wish != Wish::Gone);
        driver.look(known, Some(seen), node, &self.shelf, self.rules);
        state.lets_go(node);
        Some(())
    }

    /// What belongs to nobody is removed.
    fn sweeps(&mut self, state: &mut State, node: usize) -> Option<()> {
        let agent = &state.agents[node];
        let is_known = state.instance.is_some_and(|id| self.is_watched(id, node));
        let lives = is_known || agent.driver.is_some() || state.virt.is_there(node);
        (agent.up && state.virt.up[node] && !lives).then(|| state.files[node] = false)
    }
}

fn trouble() -> Trouble {
    Trouble { reason: "Busy", message: "try later".to_owned(), hopeless: false, again: None }
}
