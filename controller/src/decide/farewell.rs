//! A VM stays until its instance is gone, held by KubeVirt's finalizer: who waits for the VM
//! to be gone has waited for its guest.
//!
//! ```text
//!  made or edited, where somebody admits it   it is put on in the same write
//!  without it, its instance there for a while it is put on by a write of its own
//!  being deleted, its instance there          it stays; the instance is deleted first
//!  being deleted otherwise                    it is taken off
//! ```
//!
//! Otherwise: it has no instance, leaves it (`--cascade=orphan`), or one of the two cannot be
//! read. Of those the garbage collector takes the instance once its owner is gone, as it
//! would without the finalizer. One that KubeVirt has put on is taken off in the same way.

use crds::kubevirt::VM_FINALIZER;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Decision;
use crate::hold;
use crate::machine;
use crate::world::World;

/// For so long after its instance was made nothing is written for this alone: a start is
/// not the time, and a VM that is gone by then had next to no guest.
const AFTER_START: SignedDuration = SignedDuration::from_secs(10);

/// What becomes of the finalizer, as the patch that does it.
#[derive(Clone, Debug)]
pub enum Farewell {
    /// It is put on.
    Hold(Value),
    /// It is taken off, for nothing of the VM is left.
    LetGo(Value),
}

/// Completes the decision with what becomes of the finalizer of its VM.
pub(super) fn judge(world: &World, decision: &mut Decision, now: Timestamp) {
    let Some(vm) = world.machines.meta(&decision.vm) else { return };
    let instance = world.instances.meta(&decision.vm);
    let instance = instance.filter(|one| machine::is_owner(vm, one));
    let readable = !world.is_unreadable(&decision.vm);
    let held = hold::has(vm, VM_FINALIZER);
    if hold::is_leaving(vm) {
        let stays = instance.is_some() && readable && !machine::leaves_orphan(vm);
        decision.farewell =
            (held && !stays).then(|| Farewell::LetGo(hold::without_one(vm, VM_FINALIZER)));
    } else if let Some(instance) = instance.filter(|_| readable && !held)
        && let Some(made) = &instance.creation_timestamp
    {
        let due = made.0 + AFTER_START;
        if due <= now {
            decision.farewell = Some(Farewell::Hold(hold::with_one(vm, VM_FINALIZER)));
        } else {
            decision.again_at = Some(due);
        }
    }
}

/// Puts the finalizer on a VM that is about to be stored; whether it lacked it.
pub(crate) fn complete(vm: &mut Value) -> bool {
    let metadata = vm.get_mut("metadata").and_then(Value::as_object_mut);
    let Some(metadata) = metadata else { return false };
    if metadata.contains_key("deletionTimestamp") {
        return false;
    }
    let finalizers = metadata.entry("finalizers").or_insert(Value::Null);
    if finalizers.is_null() {
        *finalizers = json!([]);
    }
    // What is no list is for the schema to refuse.
    let Some(finalizers) = finalizers.as_array_mut() else { return false };
    let lacks = finalizers.iter().all(|one| one != VM_FINALIZER);
    if lacks {
        finalizers.push(json!(VM_FINALIZER));
    }
    lacks
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::super::tests::{decided, gone, key, now, put, started, vm, world};
    use super::*;
    use crate::shelf::Seen;
    use crate::world::Event;

    fn held(version: &str) -> crds::kubevirt::VirtualMachine {
        let mut vm = vm("web", "u1", "Always", None);
        vm.metadata.finalizers = Some(vec!["a/b".to_owned(), VM_FINALIZER.to_owned()]);
        vm.metadata.resource_version = Some(version.to_owned());
        vm
    }

    fn leaving(version: &str, finalizers: &[&str]) -> crds::kubevirt::VirtualMachine {
        let mut vm = held(version);
        vm.metadata.finalizers = Some(finalizers.iter().map(|one| (*one).to_owned()).collect());
        vm.metadata.deletion_timestamp = Some(Time(now()));
        vm
    }

    fn finalizers_left(decision: &Decision) -> Option<Value> {
        match &decision.farewell {
            Some(Farewell::LetGo(patch)) => Some(patch["metadata"]["finalizers"].clone()),
            _ => None,
        }
    }

    #[test]
    fn a_vm_that_is_deleted_stays_until_its_instance_is_gone() {
        let mut world = world();
        put(&mut world, held("5"));
        started(&mut world, "web");
        put(&mut world, leaving("6", &["a/b", VM_FINALIZER]));
        let stopping = decided(&mut world, "web");
        assert_eq!(stopping.delete.as_deref(), Some("vmi-of-web"));
        assert!(stopping.farewell.is_none(), "{stopping:?}");
        gone(&mut world, "web");
        let over = decided(&mut world, "web");
        assert_eq!(finalizers_left(&over), Some(json!(["a/b"])));
        assert!(over.create.is_none() && over.release.is_empty(), "{over:?}");
    }

    #[test]
    fn one_that_leaves_its_instance_goes_at_once_and_the_instance_runs_on() {
        let mut world = world();
        put(&mut world, held("5"));
        started(&mut world, "web");
        put(&mut world, leaving("6", &[VM_FINALIZER, "orphan"]));
        let parting = decided(&mut world, "web");
        assert_eq!(finalizers_left(&parting), Some(json!(["orphan"])));
        assert!(parting.delete.is_none(), "{parting:?}");

        // The collector has done its part before ours was taken off.
        let mut orphan = world.instances.get(&key("web")).unwrap().as_ref().clone();
        orphan.metadata.owner_references = None;
        orphan.metadata.resource_version = Some("3".to_owned());
        world.put_instance(orphan);
        put(&mut world, leaving("7", &[VM_FINALIZER]));
        let parted = decided(&mut world, "web");
        assert_eq!(finalizers_left(&parted), Some(json!([])));
        assert!(parted.delete.is_none() && parted.trouble.is_none(), "{parted:?}");
    }

    #[test]
    fn what_cannot_be_read_is_left_to_the_collector() {
        let mut world = world();
        let metadata = leaving("6", &[VM_FINALIZER]).metadata;
        world.apply(Event::Machine(Seen::Unreadable(Box::new(metadata))));
        assert_eq!(finalizers_left(&decided(&mut world, "web")), Some(json!([])));
    }

    #[test]
    fn a_vm_that_nobody_admitted_gets_it_once_its_start_is_over() {
        let mut world = world();
        put(&mut world, vm("web", "u1", "Always", None));
        assert!(started(&mut world, "web").farewell.is_none(), "no guest, nothing to wait for");
        let mut instance = world.instances.get(&key("web")).unwrap().as_ref().clone();
        let mut at = |made: Timestamp| {
            instance.metadata.creation_timestamp = Some(Time(made));
            let version: u32 =
                instance.metadata.resource_version.as_ref().unwrap().parse().unwrap();
            instance.metadata.resource_version = Some((version + 1).to_string());
            world.put_instance(instance.clone());
            decided(&mut world, "web")
        };
        let fresh = at(now());
        assert_eq!((fresh.farewell.is_none(), fresh.again_at), (true, Some(now() + AFTER_START)));
        let rested = at(now() - AFTER_START);
        let Some(Farewell::Hold(patch)) = rested.farewell else { panic!("{rested:?}") };
        assert_eq!(patch["metadata"]["finalizers"], json!([VM_FINALIZER]));
    }

    #[test]
    fn a_vm_is_admitted_with_it_unless_it_is_going() {
        let mut vm = json!({"metadata": {"name": "web", "finalizers": ["a/b"]}});
        assert!(complete(&mut vm));
        assert_eq!(vm["metadata"]["finalizers"], json!(["a/b", VM_FINALIZER]));
        assert!(!complete(&mut vm), "once");
        let mut bare = json!({"metadata": {"name": "web"}});
        assert!(complete(&mut bare));
        assert_eq!(bare["metadata"]["finalizers"], json!([VM_FINALIZER]));
        let mut going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert!(!complete(&mut going));
        assert!(!complete(&mut json!({"metadata": {"finalizers": 1}})));
        assert!(!complete(&mut json!([])));
    }
}
