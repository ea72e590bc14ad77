//! What is taken of each node, and where guests are: kept as sums, so that placing one VM
//! looks at no other, unless somebody asks where the others are.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crds::annotations;
use crds::kubevirt::{VirtualMachineInstance, VirtualMachineInstanceSpec};
use kube::ResourceExt as _;

use super::World;
use crate::agenda::Booking;
use crate::ledger::VmKey;
use crate::migration;
use crate::placement::pods::{Pod, Pods};
use crate::placement::{self, Amount, Guest, Labels, Terms, affinity};
use crate::shelf::{Change, Seen};

/// What VMs take of one node.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    guests: usize,
    amount: Amount,
}

/// Who takes what.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Of instances.
    load: HashMap<String, Load>,
    /// Of instances that this round, or a write under way, is about to make or to move.
    expected: HashMap<String, Load>,
    /// The same, one by one.
    expected_guests: Vec<(VmKey, String)>,
    /// Those of them that ask something of others: few, and looked at for each place.
    expected_asking: Vec<(VmKey, String)>,
    pods: Pods,
    /// Instances that ask something of others.
    asking: HashMap<VmKey, Arc<Terms>>,
    /// Whom no node would take when it was last looked.
    unplaced: BTreeSet<VmKey>,
}

impl World {
    /// How many instances are on `node`, or about to be.
    #[must_use]
    pub fn load(&self, node: &str) -> usize {
        let count = |of: &HashMap<String, Load>| of.get(node).map_or(0, |load| load.guests);
        count(&self.places.load) + count(&self.places.expected)
    }

    /// What guests, those among them that are about to come, and pods take of `node`.
    #[must_use]
    pub fn taken(&self, node: &str) -> Amount {
        let amount =
            |of: &HashMap<String, Load>| of.get(node).map(|load| load.amount).unwrap_or_default();
        let guests = amount(&self.places.load).and(amount(&self.places.expected));
        guests.and(self.places.pods.on(node))
    }

    /// Whether guests of `node` can have so much more of it.
    #[must_use]
    pub fn has_room(&self, node: &str, more: Amount) -> bool {
        let room = self.nodes.get(&node.to_owned());
        let room = room.and_then(|has| placement::room(has, self.taken(node)));
        room.is_none_or(|room| more.lacks(room).next().is_none())
    }

    /// Counts what a guest that is there takes more until the next round, which sees it.
    pub fn expect_more(&mut self, node: &str, more: Amount) {
        let load = self.places.expected.entry(node.to_owned()).or_default();
        load.amount = load.amount.and(more);
    }

    /// Counts an instance there until the next round, which sees it.
    pub fn expect_on(&mut self, key: &VmKey, booking: &Booking) {
        self.places.expect(key, booking);
    }

    /// Has this VM looked at once a place becomes free: no node took it.
    pub fn wait_for_room(&mut self, key: VmKey) {
        self.places.unplaced.insert(key);
    }

    /// Guests that are somewhere or about to be, without `but`: all, or those that ask
    /// something of others.
    pub fn guests(&self, but: &VmKey, all: bool) -> Vec<Guest<'_>> {
        let Places { asking, expected_guests, expected_asking, .. } = &self.places;
        let here = |key: &VmKey| all || asking.contains_key(key);
        let known: Box<dyn Iterator<Item = (&VmKey, &Arc<VirtualMachineInstance>)>> = if all {
            Box::new(self.instances.iter())
        } else {
            Box::new(asking.keys().filter_map(|key| Some((key, self.instances.get(key)?))))
        };
        let known = known.filter(|(key, _)| *key != but && here(key));
        let known = known.flat_map(|(key, instance)| {
            let terms = asking.get(key).cloned();
            nodes_of(instance).map(move |node| Guest {
                namespace: &key.namespace,
                labels: Cow::Borrowed(instance.labels()),
                node,
                terms: terms.clone(),
            })
        });
        let to_come = if all { expected_guests } else { expected_asking };
        let to_come = to_come.iter().filter(|(key, _)| key != but);
        let to_come = to_come.filter_map(|(key, node)| self.to_come(key, node));
        known.chain(to_come.filter(|guest| all || guest.terms.is_some())).collect()
    }

    /// A guest that is about to be on this node, by what it is made of.
    fn to_come<'a>(&'a self, key: &'a VmKey, node: &'a str) -> Option<Guest<'a>> {
        let (labels, spec) = match (self.instances.get(key), self.machines.get(key)) {
            (Some(instance), _) => (Cow::Borrowed(instance.labels()), &instance.spec),
            (None, Some(vm)) => {
                let template = &vm.spec.template;
                let meta = template.metadata.as_ref();
                let given = meta.and_then(|meta| meta.labels.clone()).unwrap_or_default();
                (Cow::Owned(labels_of(&key.name, given)), &template.spec)
            }
            (None, None) => return None,
        };
        let terms = terms_of(key, &labels, spec);
        Some(Guest { namespace: &key.namespace, labels, node, terms })
    }

    /// Forgets what the last round was about to make, but for what is not written yet.
    pub(super) fn begin_expecting(&mut self) {
        let Self { places, agenda, .. } = self;
        places.expected.clear();
        places.expected_guests.clear();
        places.expected_asking.clear();
        agenda.bookings().for_each(|(key, booking)| places.expect(key, booking));
    }

    /// Takes in what a watch saw of pods.
    pub(super) fn pods_seen(&mut self, seen: &Seen<Pod>) {
        if self.places.pods.apply(seen) {
            self.look_at_unplaced();
        }
    }

    /// Takes in where an instance is now. What it has left may be somebody's place.
    pub(super) fn place_changed(
        &mut self,
        (key, old, new): &Change<VmKey, VirtualMachineInstance>,
    ) {
        let (was, is) = (old.as_deref(), new.as_deref());
        let nodes = |one: Option<&VirtualMachineInstance>| -> Vec<String> {
            one.into_iter().flat_map(nodes_of).map(str::to_owned).collect()
        };
        let (before, now) = (nodes(was), nodes(is));
        let same_spec = was.zip(is).is_some_and(|(was, is)| was.spec == is.spec);
        let same_labels = was.zip(is).is_some_and(|(was, is)| was.labels() == is.labels());
        if before == now && same_spec && same_labels {
            return;
        }
        if let Some(was) = was {
            let amount = Amount::of_guest(&was.spec.domain);
            for node in &before {
                if let Some(load) = self.places.load.get_mut(node) {
                    load.guests = load.guests.saturating_sub(1);
                    load.amount = load.amount.without(amount);
                }
            }
        }
        self.places.asking.remove(key);
        if let Some(is) = is {
            let amount = Amount::of_guest(&is.spec.domain);
            let booking = |node| Booking { node, amount, asks: false };
            now.iter().for_each(|node| count_on(&mut self.places.load, &booking(node.clone())));
            let terms = terms_of(key, is.labels(), &is.spec).filter(|_| !now.is_empty());
            self.places.asking.extend(terms.map(|terms| (key.clone(), terms)));
        }
        // Somebody may have waited for this one to come, as well.
        self.look_at_unplaced();
    }

    pub(super) fn look_at_unplaced(&mut self) {
        let unplaced = std::mem::take(&mut self.places.unplaced);
        unplaced.into_iter().for_each(|key| self.agenda.mark(key));
    }
}

impl Places {
    pub(super) const fn pods_are_known(&self) -> bool {
        self.pods.is_known()
    }

    pub(super) const fn pods_cannot_be_listed(&mut self) {
        self.pods.cannot_be_listed();
    }

    fn expect(&mut self, key: &VmKey, booking: &Booking) {
        count_on(&mut self.expected, booking);
        let guest = (key.clone(), booking.node.clone());
        if booking.asks {
            self.expected_asking.push(guest.clone());
        }
        self.expected_guests.push(guest);
    }
}

/// The labels that an instance of the VM of this name has, of which these are its template's.
#[must_use]
pub fn labels_of(name: &str, mut given: Labels) -> Labels {
    given.insert(annotations::VMI_VM_LABEL.to_owned(), name.to_owned());
    given
}

/// What an instance asks of others. What cannot be read asks nothing.
fn terms_of(key: &VmKey, labels: &Labels, spec: &VirtualMachineInstanceSpec) -> Option<Arc<Terms>> {
    let affinity = affinity(spec).ok()??;
    Terms::read(&affinity, &key.namespace, labels).ok()?.map(Arc::new)
}

/// The nodes that bear an instance: its own, and the one that it moves to. Of one that has ended
/// nothing is there.
fn nodes_of(instance: &VirtualMachineInstance) -> impl Iterator<Item = &str> {
    let (node, target) = migration::chassis(instance);
    node.into_iter().chain(target).filter(|_| !instance.phase().is_final())
}

/// Counts one more on a node, whose name is written once.
fn count_on(counts: &mut HashMap<String, Load>, booking: &Booking) {
    if !counts.contains_key(&booking.node) {
        counts.insert(booking.node.clone(), Load::default());
    }
    if let Some(load) = counts.get_mut(&booking.node) {
        load.guests += 1;
        load.amount = load.amount.and(booking.amount);
    }
}
