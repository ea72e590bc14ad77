//! What is promised: in every state, and of where it ends if nothing more fails.

use super::*;

/// The promises, in the words that a broken one is told with.
pub(in super::super) const TWO_COPIES: &str = "two copies of the guest run";
pub(in super::super) const LOST: &str = "the guest was lost";
pub(in super::super) const UNBOUND: &str = "the guest runs where its port is not bound";
pub(in super::super) const UNTRUE: &str = "what the objects say is not true";
pub(in super::super) const LEFT_OVER: &str = "something is left of the guest where it is not";
pub(in super::super) const UNDER_IT: &str = "files are changed under a guest";
pub(in super::super) const STARTED: &str = "a guest was started anew";
pub(in super::super) const ENDLESS: &str = "it never ends";

impl World {
    pub(super) fn is_safe(&self, state: &State) -> Result<(), String> {
        let runs: Vec<usize> = (0..2).filter(|node| state.virt.doms[*node] == Dom::Runs).collect();
        let held = state.virt.doms.contains(&Dom::Held);
        if runs.len() > 1 && !state.virt.doubt {
            self.broken(TWO_COPIES, "on both nodes")?;
        }
        if runs.is_empty() && !held && !state.deleted {
            self.broken(LOST, &format!("{:?}", state.virt.doms))?;
        }
        let bound = |node: usize| state.port.0 == Some(node) || state.port.1 == Some(node);
        if state.instance.is_some()
            && !state.virt.doubt
            && !state.deleted
            && self.bounds.controllers == 1
            && let Some(node) = runs.iter().find(|node| !bound(**node))
        {
            self.broken(UNBOUND, &format!("on {}, bound to {:?}", NODES[*node], state.port))?;
        }
        let ended = state.instance.is_some_and(|id| self.shelf.instance(id).phase().is_final());
        if ended && !state.deleted {
            self.broken(UNTRUE, "the instance has ended")?;
        }
        Ok(())
    }

    /// What the world comes to if nothing more fails, and the states on the way.
    pub(super) fn at_rest(
        &mut self,
        state: State,
    ) -> Result<(State, Vec<Packed>, Vec<Step>), String> {
        let mut state = state;
        let mut passed = vec![self.pack(&state)];
        let mut way = Vec::new();
        let mut met: HashSet<Packed> = passed.iter().copied().collect();
        'next: for _ in 0..2000 {
            if passed.last().is_some_and(|last| self.well.contains(last)) {
                return Ok((state, passed, way));
            }
            for step in GENTLE.iter().chain(&TIMES) {
                let Some(next) = self.take(&state, *step) else { continue };
                let next = next.map_err(|why| format!("{why}, by {way:?} and {step:?}"))?;
                let print = self.pack(&next);
                if met.insert(print) {
                    passed.push(print);
                    way.push(*step);
                    state = next;
                    continue 'next;
                }
            }
            return Ok((state, passed, way));
        }
        self.broken(ENDLESS, &format!("{state:?}"))?;
        Ok((state, passed, way))
    }

    /// If nothing more fails, the guest is in one place and everything says so.
    pub(super) fn ends_well(&mut self, state: State) -> Result<(), String> {
        let (end, passed, way) = self.at_rest(state)?;
        if !passed.last().is_some_and(|last| self.well.contains(last)) {
            let well = self.is_safe(&end).and_then(|()| self.is_well(&end));
            well.map_err(|why| format!("in the end, {why}, by {way:?}\n{}", self.told(&end)))?;
        }
        self.well.extend(passed);
        Ok(())
    }

    pub(super) fn is_well(&self, end: &State) -> Result<(), String> {
        let open = end.migrations.iter().flatten().find(|id| {
            !matches!(self.shelf.phase(**id), MigrationPhase::Succeeded | MigrationPhase::Failed)
                || self.shelf.is_held(**id)
        });
        if let Some(id) = open {
            self.broken(ENDLESS, &format!("a migration is {:?}", self.shelf.phase(*id)))?;
        }
        let node = end.instance.and_then(|id| self.shelf.place(id));
        for other in (0..2).filter(|other| Some(*other) != node) {
            if end.virt.is_there(other) || end.files[other] {
                self.broken(LEFT_OVER, NODES[other])?;
            }
        }
        let Some(id) = end.instance else { return Ok(()) };
        let instance = self.shelf.instance(id);
        if end.deleted {
            return self.broken(ENDLESS, "it was deleted and is there");
        }
        let said = instance.status.as_ref().and_then(|status| status.node_name.as_deref());
        let runs = node.is_some_and(|node| end.virt.doms[node] == Dom::Runs);
        if !runs || instance.phase() != InstancePhase::Running || number(said) != node {
            self.broken(UNTRUE, &format!("{:?} on {said:?}", instance.phase()))?;
        }
        if instance.migration().is_some() || instance.labels().contains_key(MIGRATION_TARGET_LABEL)
        {
            self.broken(UNTRUE, "it moves")?;
        }
        if end.port != (node, None) {
            self.broken(UNBOUND, &format!("{:?}", end.port))?;
        }
        self.is_where_they_say(end, node)
    }

    /// The guest is where the migrations that are over have brought it.
    pub(super) fn is_where_they_say(&self, end: &State, node: Option<usize>) -> Result<(), String> {
        let mut place = Some(0);
        for id in end.migrations {
            let Some(id) = id else {
                place = None;
                continue;
            };
            let status = self.shelf.migration(id).status.as_ref();
            let state = status.and_then(|status| status.migration_state.as_ref());
            if self.shelf.phase(id) == MigrationPhase::Succeeded {
                place = number(state.and_then(|state| state.target_node.as_deref()));
            }
        }
        if end.asked_again && place.is_some() && place != node
            || !end.asked_again && end.migrations[0].is_some() && self.said_place(end) != node
        {
            self.broken(UNTRUE, "the guest is not where its migrations say")?;
        }
        Ok(())
    }

    /// Where the first migration has left the guest.
    pub(super) fn said_place(&self, end: &State) -> Option<usize> {
        let id = end.migrations[0]?;
        Some(usize::from(self.shelf.phase(id) == MigrationPhase::Succeeded))
    }

    pub(super) fn told(&self, state: &State) -> String {
        let instance = state.instance.map(|id| self.shelf.instance(id));
        let status = instance.and_then(|one| one.status.as_ref());
        let moves = status.and_then(|status| status.migration_state.as_ref());
        let moves = moves.map(|one| {
            let (from, to) = (one.source_node.as_deref(), one.target_node.as_deref());
            format!(
                "{:?} {from:?} to {to:?}, ready {}, begun {}, completed {}, failed {:?}, abort {}",
                one.migration_uid,
                one.target_node_address.is_some(),
                one.has_started(),
                one.completed,
                one.failure_reason,
                one.abort_requested
            )
        });
        format!(
            "{:?}\nlabels {:?}\nphase {:?} on {:?}\n{moves:?}",
            state,
            instance.map(|one| one.labels()),
            instance.map(|one| one.phase()),
            status.and_then(|status| status.node_name.as_ref()),
        )
    }
}
