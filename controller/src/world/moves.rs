//! Migrations in the world: which are of which instance, how many guests move, and who
//! waits for one to have moved.

use std::sync::Arc;

use crds::kubevirt::VirtualMachineInstanceMigration as Migration;

use super::{World, forget, vm_key};
use crate::ledger::VmKey;
use crate::migration::{self, Slots};
use crate::shelf::Change;

impl World {
    /// Puts in a migration as the API answered it.
    pub fn put_migration(&mut self, migration: Migration) {
        if let Some(change) = self.migrations.put(vm_key(&migration), migration) {
            self.migration_changed(change);
        }
    }

    /// The migrations of a VM's instance.
    pub fn migrations_of(&self, key: &VmKey) -> impl Iterator<Item = &Arc<Migration>> {
        let names = self.migrations_of.get(key).into_iter().flatten();
        let migration =
            |name: &String| VmKey { namespace: key.namespace.clone(), name: name.clone() };
        names.filter_map(move |name| self.migrations.get(&migration(name)))
    }

    /// How many guests move, those among them that this round has leave.
    #[must_use]
    pub fn slots(&self) -> Slots {
        let moves = self.migrations.iter().map(|(_, one)| {
            let instance = self.instances.get(&moved_by(one)).map(|one| &**one);
            (&**one, instance)
        });
        let mut slots = Slots::of(moves);
        self.departures.iter().for_each(|node| slots.take(node));
        slots
    }

    /// Counts a guest that leaves `node` until the next round, which sees it.
    pub fn expect_departure(&mut self, node: String) {
        self.departures.push(node);
    }

    pub(super) fn migration_changed(&mut self, (key, old, new): Change<VmKey, Migration>) {
        if let Some(old) = &old {
            forget(&mut self.migrations_of, &moved_by(old), &key.name);
        }
        if let Some(new) = &new {
            self.migrations_of.entry(moved_by(new)).or_default().insert(key.name);
        }
        for key in [&old, &new].into_iter().flatten().map(|one| moved_by(one)) {
            self.agenda.mark(key);
        }
        // Its place among those that may move at once is free.
        let is_over = new.is_none_or(|one| migration::phase(&one).is_final());
        if is_over && old.is_some_and(|one| migration::phase(&one).is_under_way()) {
            self.look_at_pending();
        }
    }

    /// Has those looked at who wait for their turn.
    pub(super) fn look_at_pending(&mut self) {
        let waits = |one: &Migration| {
            let phase = migration::phase(one);
            !phase.is_final() && !phase.is_under_way()
        };
        let waiting = self.migrations.iter().filter(|(_, one)| waits(one));
        let waiting: Vec<_> = waiting.map(|(_, one)| moved_by(one)).collect();
        waiting.into_iter().for_each(|key| self.agenda.mark(key));
    }
}

/// The VM whose instance a migration is of.
pub(super) fn moved_by(migration: &Migration) -> VmKey {
    let namespace = migration.metadata.namespace.clone().unwrap_or_default();
    VmKey { namespace, name: migration.spec.vmi_name.clone() }
}
