//! How many guests move at once: moving one costs both nodes and the network between.

use std::collections::HashMap;

use crds::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceMigration};

use super::{Terms, phase};
use crate::world::node_of;

/// The node that a guest leaves, also once it has left it.
fn source<'a>(
    migration: &VirtualMachineInstanceMigration,
    instance: &'a VirtualMachineInstance,
) -> Option<&'a str> {
    let state = instance.status.as_ref().and_then(|status| status.migration_state.as_deref());
    let state = state.filter(|state| state.migration_uid == migration.metadata.uid);
    state.and_then(|state| state.source_node.as_deref()).or_else(|| node_of(instance))
}

/// What is under way.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Slots {
    all: u32,
    from: HashMap<String, u32>,
}

impl Slots {
    /// Those that are taken by these migrations, each with its instance.
    pub fn of<'a>(
        all: impl IntoIterator<
            Item = (&'a VirtualMachineInstanceMigration, Option<&'a VirtualMachineInstance>),
        >,
    ) -> Self {
        let mut slots = Self::default();
        for (migration, instance) in all {
            // Its own phase is written after the instance says that it begins.
            let has_begun = || {
                let state = instance.and_then(VirtualMachineInstance::migration);
                state.is_some_and(|state| state.migration_uid == migration.metadata.uid)
            };
            if phase(migration).is_under_way() || (!phase(migration).is_final() && has_begun()) {
                slots.take(instance.and_then(|one| source(migration, one)).unwrap_or_default());
            }
        }
        slots
    }

    /// Takes one for a guest that leaves `node`.
    pub fn take(&mut self, node: &str) {
        self.all += 1;
        *self.from.entry(node.to_owned()).or_default() += 1;
    }

    /// Why a guest may not leave `node` now, if so.
    #[must_use]
    pub fn refusal(&self, node: &str, terms: &Terms) -> Option<String> {
        if self.all >= terms.in_cluster {
            return Some(format!("{} migrations are under way, as many as may be", self.all));
        }
        let leaving = self.from.get(node).copied().unwrap_or(0);
        (leaving >= terms.from_node)
            .then(|| format!("{leaving} guests are leaving {node}, as many as may at once"))
    }
}
