//! Which subnet a VM gets that names none, when namespaces are chosen by their labels.

use k8s_openapi::api::core::v1::Namespace;

use super::*;

/// The namespace `default` in a later version, with this label or none.
fn label(world: &mut World, version: u32, team: Option<&str>) {
    let labels = team.map(|team| json!({ "team": team }));
    let meta = json!({ "name": "default", "resourceVersion": version.to_string(),
        "labels": labels });
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": meta })).unwrap();
    world.apply(Event::Namespace(Seen::Now(Box::new(namespace))));
}

/// A subnet for namespaces with this label.
fn subnet(name: &str, cidr: &str, team: &str) -> Event {
    let spec = json!({ "cidrBlock": cidr, "vpc": "v",
        "namespaceSelectors": [{ "matchLabels": { "team": team } }] });
    Event::Subnet(Seen::Now(Box::new(Subnet::new(name, serde_json::from_value(spec).unwrap()))))
}

#[test]
fn a_label_that_changes_moves_a_vm_at_its_next_start_and_no_sooner() {
    let mut world = world();
    world.apply(subnet("red", "10.5.0.0/24", "red"));
    world.apply(subnet("blue", "10.6.0.0/24", "blue"));
    label(&mut world, 1, Some("red"));
    put(&mut world, vm("web", "u1", "Always", None));
    let first = started(&mut world, "web");
    assert_eq!(first.ports[0].subnet, "red");

    label(&mut world, 2, Some("blue"));
    let running = decided(&mut world, "web");
    assert_eq!((addresses(&running), running.release.len()), (addresses(&first), 0));
    assert_eq!(running.ports[0].subnet, "red");

    gone(&mut world, "web");
    let second = decided(&mut world, "web");
    assert_eq!(second.ports[0].subnet, "blue");
    assert_eq!(second.release[0].1, "red", "what it had is given back");
}

#[test]
fn of_two_subnets_for_one_namespace_the_first_by_name_serves() {
    let mut world = world();
    world.apply(subnet("t", "10.5.0.0/24", "red"));
    world.apply(subnet("a", "10.6.0.0/24", "red"));
    put(&mut world, vm("web", "u1", "Always", None));
    assert_eq!(decided(&mut world, "web").ports[0].subnet, "s", "the one that lists it");
    label(&mut world, 1, Some("red"));
    put(&mut world, vm("db", "u2", "Always", None));
    assert_eq!(decided(&mut world, "db").ports[0].subnet, "a");
}

#[test]
fn the_default_subnet_of_a_vpc_that_lists_namespaces_is_theirs_and_no_others() {
    let of = |name: &str, vpc: &str, cidr: &str| {
        let spec = json!({ "cidrBlock": cidr, "vpc": vpc, "default": true });
        Subnet::new(name, serde_json::from_value(spec).unwrap())
    };
    let lists = |version: &str, namespaces: &[&str]| {
        let namespaces = namespaces.iter().map(|one| (*one).to_owned()).collect();
        let mut vpc = Vpc::new("v", VpcSpec { namespaces, ..VpcSpec::default() });
        vpc.metadata.resource_version = Some(version.to_owned());
        Event::Vpc(Seen::Now(Box::new(vpc)))
    };
    let mut world =
        listed(vec![of("a", "v", "10.5.0.0/24"), of("z", "ovn-cluster", "10.6.0.0/24")]);
    let subnet = |world: &mut World, name: &str| {
        put(world, vm(name, name, "Always", None));
        decided(world, name).ports[0].subnet.clone()
    };
    assert_eq!(subnet(&mut world, "first"), "a", "the first by name, for everybody");
    world.apply(lists("2", &["other"]));
    assert_eq!(subnet(&mut world, "second"), "z");
    world.apply(lists("3", &["other", "default"]));
    assert_eq!(subnet(&mut world, "third"), "a");
}
