//! Where VMs go that are decided for one after the other, and who is looked at when somebody
//! leaves.

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::*;
use crate::placement::pods::Pod;

fn node(name: &str, more: &Value) -> Node {
    let labels = json!({"kubevirt.io/schedulable": "true", "kubernetes.io/hostname": name});
    let mut node = json!({"metadata": {"name": name, "labels": labels, "resourceVersion": "5"}});
    node.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(node).unwrap()
}

fn with_nodes(more: &Value) -> World {
    let mut world = world();
    world.apply(Event::Node(Seen::all(vec![node("n1", more), node("n2", more)])));
    world.take_dirty();
    world
}

fn asking(name: &str, spec: &Value) -> VirtualMachine {
    let mut machine = json!(vm(name, name, "Always", None));
    let template = &mut machine["spec"]["template"];
    template["metadata"]["labels"] = json!({"app": "web"});
    for (field, value) in spec.as_object().unwrap() {
        template["spec"][field] = value.clone();
    }
    serde_json::from_value(machine).unwrap()
}

fn apart() -> Value {
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}}})
}

fn sized(memory: &str) -> Value {
    json!({"domain": {"devices": {}, "memory": {"guest": memory}}})
}

/// Decides for all that is dirty, as one round: where each starts, or what it says.
fn round(world: &mut World) -> Vec<Result<String, String>> {
    let (mut dirty, _) = world.take_dirty();
    dirty.sort();
    let policy = Policy { keep_vm_ip: true };
    let outcome = |decision: Decision| match (decision.create, decision.trouble) {
        (Some(start), _) => Some(Ok(start.booking.node)),
        (None, Some(trouble)) => Some(Err(trouble.message)),
        (None, None) => None,
    };
    dirty.iter().filter_map(|key| outcome(decide(world, key, policy, now()))).collect()
}

#[test]
fn of_two_vms_of_one_round_the_second_knows_where_the_first_goes() {
    let mut world = with_nodes(&json!({}));
    for name in ["a", "b", "c"] {
        put(&mut world, asking(name, &apart()));
    }
    let said = round(&mut world);
    assert_eq!(said[..2], [Ok("n1".to_owned()), Ok("n2".to_owned())]);
    let third = said[2].clone().unwrap_err();
    assert!(
        third.starts_with("0/2 nodes are available: 2 node(s) didn't match pod anti-affinity"),
        "{third}"
    );
}

#[test]
fn who_found_no_room_is_looked_at_when_a_vm_or_a_pod_leaves_a_node() {
    let room = json!({"status": {"allocatable": {"cpu": "4", "memory": "1Gi"}}});
    let mut world = with_nodes(&room);
    put(&mut world, asking("a", &sized("700Mi")));
    started(&mut world, "a");
    let pod = json!({
        "metadata": {"name": "p", "namespace": "x", "uid": "p"},
        "spec": {"nodeName": "n2", "containers": [{"resources": {"requests": {"memory": "900Mi"}}}]},
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    world.apply(Event::Pod(Seen::Now(Box::new(pod.clone()))));
    put(&mut world, asking("b", &sized("700Mi")));
    let said = round(&mut world);
    assert!(said[0].as_ref().unwrap_err().contains("2 Insufficient memory"), "{said:?}");
    assert_eq!(round(&mut world), [], "it waits, and is not looked at again and again");
    world.apply(Event::Pod(Seen::gone(&pod)));
    assert_eq!(round(&mut world), [Ok("n2".to_owned())]);

    started(&mut world, "b");
    put(&mut world, asking("c", &sized("700Mi")));
    assert!(round(&mut world).iter().any(Result::is_err));
    let instance = world.instances.get(&key("a")).unwrap().clone();
    world.apply(Event::Instance(Seen::gone(&instance)));
    let said = round(&mut world);
    // Its own VM is first, and has the room.
    assert!(said.len() == 2 && said[0] == Ok("n1".to_owned()), "{said:?}");
}

#[test]
fn a_guest_grows_only_as_far_as_its_node_has_room() {
    let mut world = with_nodes(&json!({"status": {"allocatable": {"cpu": "4", "memory": "3Gi"}}}));
    put(&mut world, asking("a", &sized("1Gi")));
    started(&mut world, "a");
    let mut runs = world.instances.get(&key("a")).unwrap().as_ref().clone();
    runs.status.get_or_insert_default().phase = Some(crds::kubevirt::InstancePhase::Running);
    runs.metadata.resource_version = Some("99".to_owned());
    world.put_instance(runs);
    let mut wants = |version: u32, memory: &str| {
        let mut vm = asking("a", &sized(memory));
        vm.metadata.resource_version = Some(version.to_string());
        put(&mut world, vm.clone());
        let decision = decided(&mut world, "a");
        let instance = world.instances.get(&key("a")).unwrap();
        let (withheld, instance) = (decision.withheld, Some(&**instance));
        let status = crate::machine::status_of(&vm, Some(&vm), instance, None, withheld, now());
        let asks = status.conditions.iter().any(|one| one.r#type == "RestartRequired");
        let given = match decision.inscription {
            Some(Inscription::Updated(want)) => want.spec.domain.memory.unwrap().guest,
            _ => None,
        };
        (given, asks)
    };
    assert_eq!(wants(101, "2Gi"), (Some("2Gi".into()), false));
    assert_eq!(wants(102, "4Gi"), (None, true));
    assert_eq!(wants(103, "1Gi"), (None, false));
}

#[test]
fn a_guest_that_has_ended_takes_no_room() {
    let mut world = with_nodes(&json!({}));
    put(&mut world, asking("a", &sized("700Mi")));
    started(&mut world, "a");
    world.take_dirty();
    assert!(world.taken("n1").bytes > 700 << 20 && world.load("n1") == 1);
    let mut ended = world.instances.get(&key("a")).unwrap().as_ref().clone();
    ended.status.get_or_insert_default().phase = Some(crds::kubevirt::InstancePhase::Failed);
    ended.metadata.resource_version = Some("99".to_owned());
    world.put_instance(ended);
    assert!(world.taken("n1").bytes == 0 && world.load("n1") == 0);
}

#[test]
fn what_is_asked_of_nodes_and_cannot_be_read_is_told_on_the_vm() {
    let mut world = with_nodes(&json!({}));
    put(&mut world, asking("a", &json!({"tolerations": "all"})));
    let said = round(&mut world);
    assert!(said[0].as_ref().unwrap_err().starts_with("spec.tolerations: "), "{said:?}");
}
