use crds::kubeovn::VpcSpec;
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::decide::tests::decide_all;
use crate::decide::{Decision, Policy};
use crate::objects;
use crate::rows;
use crate::shelf::Seen;
use crate::world::Event;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn node(name: &str, uid: &str, ready: bool) -> Node {
    serde_json::from_value(json!({
        "metadata": { "name": name, "uid": uid, "labels": { "kubevirt.io/schedulable": "true" } },
        "status": { "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] },
    }))
    .unwrap()
}

fn subnet(name: &str, cidr: &str, change: impl FnOnce(&mut SubnetSpec)) -> Subnet {
    let mut spec = SubnetSpec { cidr_block: cidr.to_owned(), ..SubnetSpec::default() };
    change(&mut spec);
    Subnet::new(name, spec)
}

fn goes_out(spec: &mut SubnetSpec) {
    spec.nat_outgoing = true;
}

/// Two nodes, the subnet of the nodes and these, all in force.
fn world(subnets: impl IntoIterator<Item = Subnet>) -> World {
    let mut world = World::new(60);
    let join = join_subnet("100.64.0.0/16,fd00:100:64::/112".parse().unwrap());
    let subnets = subnets.into_iter().chain([join]).collect();
    world.apply(Event::Subnet(Seen::all(subnets)));
    world.apply(Event::Node(Seen::all(vec![node("n1", "u1", true), node("n2", "u2", true)])));
    world.apply(Event::Vpc(Seen::all(vec![])));
    world.apply(Event::Ip(Seen::all(vec![])));
    world.apply(Event::Machine(Seen::all(vec![])));
    world.apply(Event::Instance(Seen::all(vec![])));
    world.apply(Event::Block(Seen::all(vec![])));
    world
}

/// What a round would decide for the nodes, which then holds.
fn decided(world: &mut World) -> Vec<Decision> {
    let (dirty, _) = world.take_dirty();
    let decisions = decide_all(world, &dirty, Policy { keep_vm_ip: true }, now());
    for decision in &decisions {
        for port in &decision.ports {
            let mut ip = objects::ip(port);
            ip.metadata.resource_version = Some("1".to_owned());
            world.put_ip(ip);
        }
        for (claimant, subnet) in &decision.release {
            world.ledger.release(subnet, claimant, 0);
        }
    }
    for mut block in world.ledger.as_if_committed() {
        let version =
            block.metadata.resource_version.as_ref().map_or(0, |one| one.parse().unwrap());
        block.metadata.resource_version = Some((version + 1_u32).to_string());
        world.apply(Event::Block(Seen::Now(Box::new(block))));
    }
    decisions
}

fn policies(world: &World) -> Vec<(String, Vec<String>)> {
    let said = |one: PolicyWant| {
        assert_eq!((one.priority, one.action.as_str()), (29_000, "reroute"));
        (one.matches, one.nexthops.into_iter().collect())
    };
    way(world, &[]).policies.into_iter().map(said).collect()
}

#[test]
fn while_nobody_wants_out_there_is_nothing_of_it() {
    let other = subnet("v", "10.2.0.0/24", |spec| {
        spec.nat_outgoing = true;
        spec.vpc = "custom".to_owned();
    });
    let mut world = world([subnet("a", "10.1.0.0/24", |_| ()), other]);
    assert!(decided(&mut world).is_empty());
    assert!(!is_wanted(&world) && notes(&world).is_empty());
    let way = way(&world, &[]);
    assert!(way.policies.is_empty() && way.routes.is_empty() && way.sets.is_empty());
}

#[test]
fn each_node_has_a_place_and_one_policy_a_family_however_many_subnets_there_are() {
    let subnets = (0..9).map(|at| subnet(&format!("a{at}"), &format!("10.{at}.0.0/24"), goes_out));
    let mut world = world(subnets.chain([subnet("b", "fd0b::/64", goes_out)]));
    let decisions = decided(&mut world);
    let addresses: Vec<_> = decisions.iter().map(|one| one.ports[0].addresses[0]).collect();
    assert_eq!(addresses.len(), 2);
    let out = |family: &str, version: &str, node: &str, hop: &str| {
        let matches = format!(
            "{family}.src == $berth_egress_{version} && is_chassis_resident(\"node-{node}\")"
        );
        (matches, vec![hop.to_owned()])
    };
    assert_eq!(
        policies(&world),
        [
            out("ip4", "v4", "n1", "100.64.0.2"),
            out("ip4", "v4", "n2", "100.64.0.3"),
            out("ip6", "v6", "n1", "fd00:100:64::2"),
            out("ip6", "v6", "n2", "fd00:100:64::3"),
        ]
    );
    let way = way(&world, &[]);
    assert_eq!(way.sets["berth_egress_v4"].addresses.len(), 9);
    assert_eq!(way.sets["berth_egress_v6"].addresses, ["fd0b::/64".to_owned()].into());
    let routes: Vec<_> = way.routes.iter().map(|one| (&*one.ip_prefix, &*one.nexthop)).collect();
    assert_eq!(routes, [("::/0", "fd00:100:64::1"), ("0.0.0.0/0", "100.64.0.1")]);
}

#[test]
fn the_port_of_a_node_may_send_what_comes_from_outside() {
    let mut world = world([subnet("a", "10.1.0.0/24", goes_out)]);
    let decisions = decided(&mut world);
    let rows = rows::port(&decisions[0].ports[0]);
    let port = &rows.ports["node-n1"];
    assert!(port.port_security.is_empty());
    assert_eq!(port.options["requested-chassis"], "n1");
}

#[test]
fn a_node_keeps_its_address_until_it_or_the_wish_to_go_out_is_gone() {
    let mut world = world([subnet("a", "10.1.0.0/24", goes_out)]);
    let first = decided(&mut world);
    world.look_at_all();
    let again = decided(&mut world);
    assert_eq!(again[0].ports, first[0].ports);

    world.apply(Event::Node(Seen::gone(&node("n1", "u1", true))));
    let gone = decided(&mut world);
    let of_n1 = gone.iter().find(|one| one.vm.node() == Some("n1")).unwrap();
    assert_eq!(of_n1.release.len(), 1);
    assert!(of_n1.surplus.contains("node-n1") && of_n1.ports.is_empty());
    assert_eq!(policies(&world).len(), 1);

    let mut quiet = subnet("a", "10.1.0.0/24", |_| ());
    quiet.metadata.resource_version = Some("2".to_owned());
    world.apply(Event::Subnet(Seen::Now(Box::new(quiet))));
    let gone = decided(&mut world);
    let of_n2 = gone.iter().find(|one| one.vm.node() == Some("n2")).unwrap();
    assert_eq!(of_n2.release.len(), 1);
    assert!(policies(&world).is_empty() && notes(&world).is_empty());
}

#[test]
fn what_was_reserved_for_a_node_stays_and_is_the_nodes_once_somebody_wants_out() {
    let ip = json!({
        "apiVersion": "kubeovn.io/v1", "kind": "IP",
        "metadata": { "name": "node-n1" },
        "spec": { "podName": "n1", "namespace": "", "subnet": "join", "nodeName": "n1",
            "ipAddress": "100.64.0.9,fd00:100:64::9", "v4IpAddress": "100.64.0.9",
            "v6IpAddress": "fd00:100:64::9", "macAddress": "02:00:00:00:00:09" },
    });
    let mut world = world([subnet("a", "10.1.0.0/24", |_| ())]);
    world.apply(Event::Ip(Seen::all(vec![serde_json::from_value(ip).unwrap()])));
    let before = decided(&mut world);
    assert!(before.iter().all(|one| one.release.is_empty() && one.surplus.is_empty()));
    assert!(world.ledger.held_in(JOIN).any(|one| one.to_string() == "100.64.0.9"));

    let mut loud = subnet("a", "10.1.0.0/24", goes_out);
    loud.metadata.resource_version = Some("2".to_owned());
    world.apply(Event::Subnet(Seen::Now(Box::new(loud))));
    let decisions = decided(&mut world);
    let of_n1 = decisions.iter().find(|one| one.vm.node() == Some("n1")).unwrap();
    let port = &of_n1.ports[0];
    assert_eq!(port.addresses[0].to_string(), "100.64.0.9");
    assert_eq!(port.mac.to_string(), "02:00:00:00:00:09");
    assert!(of_n1.release.is_empty() && of_n1.surplus.is_empty(), "{of_n1:?}");
}

#[test]
fn a_node_made_anew_under_its_name_leads_nowhere_before_it_has_its_own_place() {
    let mut world = world([subnet("a", "10.1.0.0/24", goes_out)]);
    decided(&mut world);
    let mut anew = node("n1", "u9", true);
    anew.metadata.resource_version = Some("2".to_owned());
    world.apply(Event::Node(Seen::Now(Box::new(anew))));
    assert_eq!(policies(&world).len(), 1);
    let decisions = decided(&mut world);
    let of_n1 = decisions.iter().find(|one| one.vm.node() == Some("n1")).unwrap();
    assert_eq!((of_n1.release.len(), of_n1.ports[0].uid.as_str()), (1, "u9"));
    assert_eq!(policies(&world).len(), 2);
}

#[test]
fn a_centralised_gateway_is_its_first_node_that_is_ready_or_all_of_them() {
    let central = |nodes: &str, ecmp: bool| {
        let nodes = nodes.to_owned();
        subnet("a", "10.1.0.0/24", move |spec| {
            spec.nat_outgoing = true;
            spec.gateway_type = "centralized".to_owned();
            spec.gateway_node = nodes;
            spec.enable_ecmp = ecmp;
        })
    };
    let hops = |nodes: &str, ecmp: bool, n2_ready: bool| {
        let mut world = world([central(nodes, ecmp)]);
        let mut n2 = node("n2", "u2", n2_ready);
        n2.metadata.resource_version = Some("2".to_owned());
        world.apply(Event::Node(Seen::Now(Box::new(n2))));
        decided(&mut world);
        let of_a = policies(&world);
        assert!(of_a.iter().all(|(matches, _)| matches == "ip4.src == 10.1.0.0/24"));
        of_a.into_iter().flat_map(|(_, hops)| hops).collect::<Vec<_>>().join(",")
    };
    assert_eq!(hops("n2, n1", false, true), "100.64.0.3");
    assert_eq!(hops("n2,n1", false, false), "100.64.0.2", "the first is not ready");
    assert_eq!(hops("n2", false, false), "100.64.0.3", "nobody does better");
    assert_eq!(hops("n2,n1", true, true), "100.64.0.2,100.64.0.3");
    assert_eq!(hops("n9", false, true), "", "no such node");

    let mut world = world([central("n9", false)]);
    decided(&mut world);
    let flaws: Vec<_> =
        flaws(&world, &central("n9", false)).iter().map(ToString::to_string).collect();
    assert!(flaws[0].starts_with("spec.gatewayNode is \"n9\": name a node"), "{flaws:?}");
}

#[test]
fn a_default_route_that_somebody_wrote_is_theirs() {
    let mut world = world([subnet("a", "10.1.0.0/24", goes_out)]);
    decided(&mut world);
    let spec: VpcSpec = serde_json::from_value(json!({
        "staticRoutes": [{ "cidr": "0.0.0.0/0", "nextHopIP": "10.1.0.9" }],
    }))
    .unwrap();
    let (own, _) = crate::routes::static_routes(&spec);
    assert!(way(&world, &own).routes.is_empty());
}

#[test]
fn agents_are_told_which_networks_are_the_vpcs_and_which_go_out() {
    let subnets = [subnet("a", "10.1.0.0/24", goes_out), subnet("b", "10.2.0.0/24", |_| ())];
    let mut world = world(subnets);
    let decisions = decided(&mut world);
    let notes = notes(&world);
    assert_eq!(notes[annotations::ROUTED], "10.1.0.0/24,10.2.0.0/24");
    assert_eq!(notes[annotations::TRANSLATED], "10.1.0.0/24");
    let told = node_notes(&decisions[0].ports[0], join(&world).unwrap());
    assert_eq!(told["ovn.kubernetes.io/ip_address"], "100.64.0.2,fd00:100:64::2");
    assert_eq!(told["ovn.kubernetes.io/gateway"], "100.64.0.1,fd00:100:64::1");
    assert_eq!(told["ovn.kubernetes.io/port_name"], "node-n1");
}

#[test]
fn a_subnet_of_the_nodes_that_cannot_be_is_told_of_where_it_is_missed() {
    let mine = subnet("a", "100.64.0.0/24", goes_out);
    let mut world = world([mine.clone()]);
    world.take_dirty();
    let flaws = flaws(&world, &mine);
    assert!(flaws[0].to_string().contains("it needs Subnet join, and"), "{flaws:?}");
}
