//! IP objects that somebody deleted: the address is freed, but not under a guest.
//!
//! ```text
//!  its VM has an instance    the deletion waits, and the object says what for
//!  its VM is stopped         the address is given back, the object goes
//!  a reservation             the same
//! ```
//!
//! Our finalizer makes a deletion a wish that can be seen. An object whose finalizer
//! was stripped is just gone, and is made anew from the ledger.

use kube::ResourceExt as _;

use super::{Decision, has_owner, is_standalone, owned_by, owner_uid};
use crate::hold;
use crate::world::World;

/// Completes the decision with what becomes of the deleted IP objects of its VM.
/// Returns whether some of them are to go.
pub(super) fn judge(world: &World, decision: &mut Decision) -> bool {
    let instance = world.instances.get(&decision.vm);
    let user = instance.and_then(|instance| owner_uid(instance));
    let leaving = world
        .ips_of(&decision.vm)
        .filter(|ip| hold::is_leaving(&ip.metadata) && hold::is_held(&ip.metadata));
    for ip in leaving {
        let name = ip.name_any();
        if user.as_ref().is_some_and(|uid| owned_by(ip, uid)) {
            let alone = instance.is_some_and(|instance| is_standalone(instance));
            let message = if alone {
                format!(
                    "VirtualMachineInstance {} has it: delete the instance, then the address is freed",
                    decision.vm
                )
            } else {
                format!(
                    "VirtualMachine {} runs with it: stop the VM, then the address is freed",
                    decision.vm
                )
            };
            decision.blocked.insert(name, message);
            continue;
        }
        let freed = world.ledger.held_for(&decision.vm).into_iter().filter(|(claimant, _)| {
            let its = owned_by(ip, &claimant.uid) || (!has_owner(ip) && claimant.uid.is_empty());
            claimant.port == name && its
        });
        decision.release.extend(freed);
        decision.surplus.insert(name);
    }
    !decision.surplus.is_empty()
}

#[cfg(test)]
mod tests {
    use crds::kubeovn::{FINALIZER, Ip, IpSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::super::tests::{
        addresses, decided, gone, key, now, put, remove, started, vm, world,
    };
    use super::*;
    use crate::objects;
    use crate::shelf::Seen;
    use crate::world::Event;

    /// Puts in the IP object of the decision's first port, deleted as the API does it.
    fn deleted_by_hand(world: &mut World, decision: &Decision) {
        let mut ip = objects::ip(&decision.ports[0]);
        mark_deleted(&mut ip);
        world.put_ip(ip);
    }

    fn mark_deleted(ip: &mut Ip) {
        ip.metadata.deletion_timestamp = Some(Time(now()));
        ip.metadata.resource_version = Some("9".to_owned());
    }

    #[test]
    fn the_address_of_a_stopped_vm_is_freed_before_it_starts_with_another() {
        let mut world = world();
        put(&mut world, vm("web", "u1", "Always", None));
        let first = started(&mut world, "web");
        gone(&mut world, "web");
        deleted_by_hand(&mut world, &first);
        let freed = decided(&mut world, "web");
        assert!(freed.create.is_none() && freed.ports.is_empty(), "{freed:?}");
        assert_eq!(freed.release.len(), 1);
        assert!(freed.surplus.contains("web.default"));

        for (claimant, subnet) in &freed.release {
            world.ledger.release(subnet, claimant, 0);
        }
        world.remove_ip("web.default");
        let anew = decided(&mut world, "web");
        assert!(anew.create.is_some());
        assert_ne!(addresses(&anew), addresses(&first));
    }

    #[test]
    fn an_address_that_the_template_names_is_claimed_again() {
        let mut world = world();
        put(&mut world, vm("web", "u1", "Always", Some("10.0.0.5")));
        let first = started(&mut world, "web");
        gone(&mut world, "web");
        deleted_by_hand(&mut world, &first);
        for (claimant, subnet) in &decided(&mut world, "web").release {
            world.ledger.release(subnet, claimant, 0);
        }
        world.remove_ip("web.default");
        assert_eq!(addresses(&decided(&mut world, "web"))[0], "10.0.0.5");
    }

    #[test]
    fn the_address_of_a_running_vm_stays_and_the_object_says_why() {
        let mut world = world();
        put(&mut world, vm("web", "u1", "Always", None));
        let first = started(&mut world, "web");
        deleted_by_hand(&mut world, &first);
        let waiting = decided(&mut world, "web");
        assert!(waiting.release.is_empty() && waiting.surplus.is_empty(), "{waiting:?}");
        assert_eq!(addresses(&waiting), addresses(&first));
        assert!(waiting.blocked["web.default"].contains("stop the VM"), "{waiting:?}");
        gone(&mut world, "web");
        assert_eq!(decided(&mut world, "web").release.len(), 1);
    }

    #[test]
    fn the_object_of_an_earlier_vm_goes_before_one_of_the_same_name_starts() {
        let mut world = world();
        put(&mut world, vm("web", "u1", "Always", None));
        let first = started(&mut world, "web");
        deleted_by_hand(&mut world, &first);
        remove(&mut world, vm("web", "u1", "Always", None));
        put(&mut world, vm("web", "u2", "Always", None));
        gone(&mut world, "web");
        let going = decided(&mut world, "web");
        assert!(going.create.is_none() && going.surplus.contains("web.default"), "{going:?}");
        assert_eq!(going.release[0].0.uid, "u1");
        world.remove_ip("web.default");
        assert!(decided(&mut world, "web").create.is_some());
    }

    #[test]
    fn a_reservation_with_the_finalizer_is_freed_too() {
        let mut world = world();
        let spec = IpSpec {
            pod_name: "web".to_owned(),
            namespace: "default".to_owned(),
            subnet: "s".to_owned(),
            ..IpSpec::default()
        };
        let mut ip = Ip::new("web.default", spec);
        ip.finalizers_mut().push(FINALIZER.to_owned());
        world.put_ip(ip.clone());
        decided(&mut world, "web");
        assert_eq!(world.ledger.held_for(&key("web")).len(), 1);
        mark_deleted(&mut ip);
        world.put_ip(ip);
        let freed = decided(&mut world, "web");
        assert_eq!(freed.release.len(), 1);
        assert!(freed.surplus.contains("web.default"));
    }

    #[test]
    fn a_deleted_object_that_nobody_can_read_or_that_names_no_vm_does_not_hang() {
        let mut world = world();
        for name in ["unreadable", "nobodys"] {
            let mut ip = Ip::new(name, IpSpec::default());
            ip.finalizers_mut().push(FINALIZER.to_owned());
            mark_deleted(&mut ip);
            world.apply(Event::Ip(match name {
                "nobodys" => Seen::Now(Box::new(ip)),
                _ => Seen::Unreadable(Box::new(ip.metadata)),
            }));
        }
        let mut names: Vec<_> = hold::ips_to_let_go(&world).into_iter().map(|one| one.0).collect();
        names.sort();
        assert_eq!(names, ["nobodys", "unreadable"]);
    }

    #[test]
    fn an_object_without_the_finalizer_is_written_once_more_unless_it_is_going() {
        let mut world = world();
        put(&mut world, vm("web", "u1", "Always", None));
        let want = objects::ip(&started(&mut world, "web").ports[0]);
        assert!(objects::ip_is_current(&want, &want));
        let mut old = want.clone();
        old.metadata.finalizers = None;
        assert!(!objects::ip_is_current(&old, &want));
        mark_deleted(&mut old);
        assert!(objects::ip_is_current(&old, &want), "it takes no finalizer any more");
    }
}
