//! What may happen in a state at all, and what follows of itself.

use super::*;

impl State {
    /// Whether a step is worth a try: most are not, in most states.
    pub(super) fn may(&self, step: Step) -> bool {
        let driver = |node: usize| self.agents[node].driver.as_deref();
        let is_free = |node| driver(node).is_some_and(|driver| !driver.is_busy());
        let task = |node| driver(node).map_or(&Task::None, |driver| &driver.sending.task);
        let writes =
            |one: usize| self.controllers.get(one).is_some_and(|one| !one.writes.is_empty());
        let is_idle =
            |one: usize| self.controllers.get(one).is_some_and(|one| one.writes.is_empty());
        match step {
            Step::LibvirtdIsBack(node) => !self.virt.up[node],
            Step::AgentIsBack(node) => !self.agents[node].up,
            Step::Libvirt(_) => self.virt.job.is_some() || self.virt.doms.contains(&Dom::Comes),
            Step::PowersOff(node) => self.virt.pressed[node],
            Step::StrayArrives => self.stray.is_some(),
            Step::ControllerSees(one) => {
                self.controllers.len() > 1
                    && is_idle(one)
                    && self.controllers[one].instance != self.instance
            }
            Step::ControllerSeesMigrations(one) => {
                self.controllers.len() > 1
                    && is_idle(one)
                    && self.controllers[one].migrations != self.migrations
            }
            Step::Decides(one)
            | Step::HasWaited(one)
            | Step::ControllerDiesAndItsWriteArrives(one) => is_idle(one),
            Step::ControllerWrites(one) | Step::ControllerDies(one) => writes(one),
            Step::Acts(node) | Step::ActionFails(node) => {
                driver(node).is_some_and(|driver| driver.is_busy())
            }
            Step::Reports(node)
            | Step::WritesTwice(node)
            | Step::AgentDiesAndItsWriteArrives(node) => {
                is_free(node) && driver(node).is_some_and(|driver| driver.report.is_some())
            }
            Step::SaysOfSending(node) => {
                matches!(task(node), Task::Begins(_) | Task::Fails(_) | Task::Asks(_))
            }
            Step::Sends(node) => *task(node) == Task::Calls,
            Step::CallsOff(node) => matches!(task(node), Task::Sends | Task::Follows),
            Step::Looks(node) => matches!(task(node), Task::Looks | Task::Follows),
            Step::Sees(node) => is_free(node),
            Step::Lists(node) => {
                self.agents[node].up && (self.agents[node].driver.is_none() || is_free(node))
            }
            Step::Sweeps(node) => self.files[node] && self.agents[node].driver.is_none(),
            Step::Ticks(node) => driver(node).is_some_and(|driver| driver.timer) && is_free(node),
            Step::AgentDies(node) => self.agents[node].up,
            Step::LibvirtdDies(node) => self.virt.up[node],
            Step::ConnectionBreaks => self.virt.job.is_some(),
            Step::UserCallsOff(which) => self.migrations[which].is_some(),
            Step::UserDeletes => !self.deleted,
            Step::UserAsksAgain => !self.asked_again,
        }
    }

    pub(super) fn agent(&mut self, node: usize) -> &mut Agent {
        Rc::make_mut(&mut self.agents[node])
    }

    pub(super) fn driver(&mut self, node: usize) -> Option<&mut Driver> {
        self.agents[node].driver.as_ref()?;
        self.agent(node).driver.as_deref_mut()
    }

    /// The driver, if it does nothing else.
    pub(super) fn free(&mut self, node: usize) -> Option<&mut Driver> {
        self.driver(node).filter(|driver| !driver.is_busy())
    }

    /// A controller that writes nothing just now.
    pub(super) fn idle(&mut self, one: usize) -> Option<&mut Controller> {
        let idle = self.controllers.get_mut(one).filter(|one| one.writes.is_empty());
        idle.map(Rc::make_mut)
    }

    /// A call of `migrate` is answered, if somebody still waits.
    pub(super) fn call_ends(&mut self, node: usize, ended: Ended) {
        let Some(well) = ended else { return };
        if let Some(driver) = self.driver(node)
            && driver.sending.task == Task::Sends
        {
            driver.sending.task = if well { Task::None } else { Task::Looks };
        }
    }

    /// A driver with nothing left to do ends.
    pub(super) fn lets_go(&mut self, node: usize) {
        let driver = self.agents[node].driver.as_ref();
        if driver.is_some_and(|driver| driver.state == VmState::Ended) {
            *self.agent(node) = Agent { up: true, driver: None, ended: true };
        }
    }

    pub(super) fn tidy(&mut self) {
        for node in 0..2 {
            self.lets_go(node);
        }
        self.virt.tidy();
        if let Some(one) = self.controllers.first_mut() {
            // What it decides late is a write that arrives late.
            if one.instance != self.instance || one.migrations != self.migrations {
                let one = Rc::make_mut(one);
                (one.instance, one.migrations) = (self.instance, self.migrations);
            }
        }
    }
}
