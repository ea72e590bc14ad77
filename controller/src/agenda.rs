//! Which VMs are to be looked at, and which of them not yet: while a write for a VM is
//! under way its instance is about to be another, so nothing is decided for it until
//! the answer is here. Whatever is seen of it meanwhile has it looked at then.

use std::collections::{BTreeSet, HashMap};

use crate::ledger::VmKey;
use crate::placement::Amount;

/// A place that an instance is about to take.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Booking {
    /// The node.
    pub node: String,
    /// What it takes there.
    pub amount: Amount,
    /// Whether it asks something of others that are near.
    pub asks: bool,
}

/// A write under way.
#[derive(Debug)]
struct Pending {
    /// Where its instance is to be.
    booking: Option<Booking>,
    /// Something was seen of the VM meanwhile.
    looked_for: bool,
}

/// What is to be looked at.
#[derive(Debug, Default)]
pub struct Agenda {
    dirty: BTreeSet<VmKey>,
    pending: HashMap<VmKey, Pending>,
}

impl Agenda {
    /// Has this VM looked at, as soon as no write for it is under way.
    pub fn mark(&mut self, key: VmKey) {
        match self.pending.get_mut(&key) {
            Some(pending) => pending.looked_for = true,
            None => drop(self.dirty.insert(key)),
        }
    }

    /// Takes out what can be looked at now.
    pub fn take(&mut self) -> BTreeSet<VmKey> {
        std::mem::take(&mut self.dirty)
    }

    /// Whether anything can be looked at now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dirty.is_empty()
    }

    /// A write for this VM begins, of an instance with this place if it is to start.
    pub fn begin(&mut self, key: VmKey, booking: Option<Booking>) {
        let looked_for = self.dirty.remove(&key);
        self.pending.insert(key, Pending { booking, looked_for });
    }

    /// The write for this VM was answered.
    pub fn end(&mut self, key: &VmKey) {
        if let Some((key, pending)) = self.pending.remove_entry(key)
            && pending.looked_for
        {
            self.dirty.insert(key);
        }
    }

    /// The places of the instances that are under way.
    pub fn bookings(&self) -> impl Iterator<Item = (&VmKey, &Booking)> {
        self.pending.iter().filter_map(|(key, pending)| Some((key, pending.booking.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> VmKey {
        VmKey { namespace: "default".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn what_is_seen_of_a_vm_while_it_is_written_has_it_looked_at_afterwards() {
        let mut agenda = Agenda::default();
        agenda.mark(key("web"));
        let booking = Booking { node: "n1".to_owned(), ..Booking::default() };
        agenda.begin(key("web"), Some(booking));
        agenda.begin(key("other"), None);
        assert!(agenda.is_empty(), "not while it is written");
        agenda.mark(key("web"));
        assert!(agenda.take().is_empty(), "nor if something is seen");
        let nodes: Vec<_> = agenda.bookings().map(|(_, one)| one.node.as_str()).collect();
        assert_eq!(nodes, ["n1"]);
        agenda.end(&key("web"));
        agenda.end(&key("other"));
        assert_eq!(agenda.take(), [key("web")].into(), "and nothing of what was as decided");
        assert_eq!(agenda.bookings().count(), 0);
    }
}
